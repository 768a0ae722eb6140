//! Reading 256 MiB of logs back, beside a bare read of the same files and a CRC-32 per record. The files are in the page cache.
#![allow(missing_docs, reason = "Criterion's macros make a function without a comment")]

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use wal_benches::data;
use wal_benches::replay::{DIRECTORY_BYTES, Directory, SIZES};

type Work = fn(&Directory) -> Duration;

const WORK: [(&str, Work); 8] = [
    ("recover_and_lend", |directory| directory.lend().total()),
    ("recover_and_records", |directory| directory.recover().total()),
    ("for_each_of_one_thread", |directory| directory.for_each(1).total()),
    ("for_each_of_two_threads", |directory| directory.for_each(2).total()),
    ("inspect_and_records", |directory| directory.inspect().total()),
    ("records", |directory| directory.inspect().records),
    ("raw_read_crc", Directory::bare),
    ("raw_read", Directory::bare_read),
];

fn replay(criterion: &mut Criterion) {
    let bytes = if data::is_smoke() { 1 << 20 } else { DIRECTORY_BYTES };
    for size in SIZES {
        // Not built if a filter leaves all of its benches out.
        let directory = LazyCell::new(|| Directory::build(size, bytes));
        let mut group = criterion.benchmark_group(format!("replay/{size}"));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(bytes));
        for (name, work) in WORK {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| (0..rounds).map(|_| work(&directory)).sum());
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_secs(3));
    targets = replay
}
criterion_main!(benches);
