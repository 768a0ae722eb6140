//! Encoding and decoding in memory, beside a copy and a CRC-32 of the same bytes.
#![allow(missing_docs, reason = "Criterion's macros make a function without a comment")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wal_benches::data::{Payloads, SIZES};
use wal_benches::format::{Checksum, Copy, Decode, Encode};

fn format(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("format/{size}"));
        group.throughput(Throughput::Bytes(Payloads::POOL_BYTES as u64));
        let (mut encode, mut decode) = (Encode::new(size), Decode::new(size));
        let (mut copy, mut checksum) = (Copy::new(size), Checksum::new(size));
        group.bench_function("encode", |bencher| bencher.iter(|| encode.run()));
        group.bench_function("raw_copy_crc", |bencher| bencher.iter(|| copy.run()));
        group.bench_function("decode", |bencher| bencher.iter(|| decode.run()));
        group.bench_function("raw_crc", |bencher| bencher.iter(|| checksum.run()));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = format
}
criterion_main!(benches);
