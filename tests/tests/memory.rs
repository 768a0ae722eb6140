//! What appending and replaying cost in memory, counted by the allocator.

use wal_manager::{Durability, Record, RecordKind, Wal};
use wal_tests::allocations::{self, Tracking};

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

fn fill(path: &std::path::Path, megabytes: usize) {
    let (wal, _) = Wal::options(path).log_bytes(16 << 20).recover().unwrap().finish_without_replay().unwrap();
    let payload = vec![7; 1000];
    for _ in 0..megabytes * 1000 {
        wal.append_with(Record::new(RecordKind::new(1).unwrap(), &payload), Durability::Buffered).unwrap();
    }
    wal.close().unwrap();
}

/// Most memory that a recovery with its replay held at once.
fn replay_peak(path: &std::path::Path, records: usize) -> isize {
    let (count, seen) = allocations::of(|| {
        let recovery = Wal::options(path).recover().unwrap();
        recovery.records().map(Result::unwrap).count()
    });
    assert_eq!(count, records);
    seen.peak
}

#[test]
fn v10_replay_memory_does_not_grow_with_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut peaks = Vec::new();
    // Several logs each: a buffer is no longer than a log that is short.
    for megabytes in [32, 256] {
        let path = dir.path().join(megabytes.to_string());
        fill(&path, megabytes);
        peaks.push(replay_peak(&path, megabytes * 1000));
    }
    assert!(peaks[1] < peaks[0] + 256 * 1024 && peaks[1] < 8 << 20, "{peaks:?} bytes at the most");
}

#[test]
fn steady_appends_allocate_nothing_per_record() {
    let dir = tempfile::tempdir().unwrap();
    let options = Wal::options(dir.path()).log_bytes(1 << 30);
    let (wal, _) = options.recover().unwrap().finish_without_replay().unwrap();
    let payload = vec![7; 200];
    let record = || Record::new(RecordKind::new(1).unwrap(), &payload);
    let append = |records: usize| {
        for number in 0..records {
            let level = if number % 50 == 0 { Durability::Synced } else { Durability::Buffered };
            wal.append_with(record(), level).unwrap();
        }
    };
    append(40_000);
    let ((), seen) = allocations::of(|| append(40_000));
    assert_eq!(seen.count, 0, "{seen:?}");
    // And in groups of one.
    let sync = || (0..200).for_each(|_| assert!(wal.append(record()).is_ok()));
    sync();
    assert_eq!(allocations::of(sync).1.count, 0);
}
