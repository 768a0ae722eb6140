//! Appending to a real directory, beside bare system calls on a file that grows.
//!
//! Each sample runs both sides in turns and gives the time of one of them, so that neither has the disk at a better moment.
#![allow(missing_docs, reason = "Criterion's macros make a function without a comment")]

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use wal_benches::append::{Bare, Ours, THREADS, UNSYNCED_BYTES};
use wal_benches::data::SIZES;
use wal_benches::stopwatch::{Sides, alternate};

/// Synced appends of each thread in an iteration of the shared measurement.
const EACH: usize = 10;

/// The name of a side, and which of the times it is.
type Side = (&'static str, fn(&Sides) -> &[Duration]);

const SIDES: [Side; 2] = [("wal", |sides| &sides.ours), ("raw", |sides| &sides.raw)];

fn synced(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("append_synced/{size}"));
        group.throughput(Throughput::Elements(1));
        for (name, side) in SIDES {
            let (mut ours, mut bare) = (Ours::new(size), Bare::new(size));
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| {
                    let sides = alternate(0, rounds_of(rounds), || ours.synced(), || bare.synced());
                    side(&sides).iter().sum()
                });
            });
        }
        group.finish();
    }
}

/// The raw side is what an ideal group of so many threads would do: one write and one fdatasync for a record of each.
fn shared(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("append_synced_8_threads/{size}"));
        group.throughput(Throughput::Elements((THREADS * EACH) as u64));
        for (name, side) in SIDES {
            let (ours, mut bare) = (Ours::new(size), Bare::new(size));
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| {
                    let groups = || (0..EACH).map(|_| bare.group()).sum();
                    let sides = alternate(0, rounds_of(rounds), || ours.shared(EACH).0, groups);
                    side(&sides).iter().sum()
                });
            });
        }
        group.finish();
    }
}

fn unsynced(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("append_buffered/{size}"));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(UNSYNCED_BYTES as u64));
        for (name, side) in SIDES {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| {
                    // New files all the time: the page cache then uses the same memory again instead of growing.
                    let ours = || Ours::warm(size).unsynced(UNSYNCED_BYTES);
                    let bare = || Bare::warm(size).unsynced(UNSYNCED_BYTES);
                    let sides = alternate(0, rounds_of(rounds), ours, bare);
                    side(&sides).iter().sum()
                });
            });
        }
        group.finish();
    }
}

/// Without the system: what both sides write goes nowhere.
fn discarded(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group(format!("append_discarded/{size}"));
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Bytes(UNSYNCED_BYTES as u64));
        for (name, side) in SIDES {
            let (mut ours, mut bare) = (Ours::discarding(size), Bare::new(size));
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| {
                    let ours = || ours.unsynced(UNSYNCED_BYTES);
                    let sides = alternate(0, rounds_of(rounds), ours, || bare.discarding(UNSYNCED_BYTES));
                    side(&sides).iter().sum()
                });
            });
        }
        group.finish();
    }
}

fn rounds_of(iterations: u64) -> usize {
    usize::try_from(iterations).unwrap_or(usize::MAX)
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = synced, shared, discarded, unsynced
}
criterion_main!(benches);
