//! Many threads at once: nothing is lost, batches are atomic, snapshots hold still.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use common::{Random, Slow};
use toy_memtable::{Durability, Engine, EngineError, FamilyId, WriteBatch};
use wal_manager::{MemStorage, Wal};

const F: FamilyId = FamilyId::DEFAULT;
const G: FamilyId = FamilyId::new(9);

#[test]
fn concurrent_writes_are_there_at_once_and_after_a_reopen() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = Engine::options(&dir).memtable_bytes(20_000).tables_max(2).open().unwrap();
    let (threads, writes) = (8_u32, 300_u32);
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (engine, start) = (&engine, &start);
            scope.spawn(move || {
                start.wait();
                let mut random = Random(u64::from(thread));
                for number in 0..writes {
                    let (key, value) = (format!("{thread}-{number}"), number.to_string());
                    let mut batch = WriteBatch::new();
                    batch.put(F, key.as_bytes(), value.as_bytes()).unwrap();
                    // One key that all of them extend: every operand counts once.
                    batch.merge(G, b"all", b"x").unwrap();
                    // Mostly low levels, which finish before older ones that wait for a sync.
                    let level = if random.below(20) == 0 { Durability::Synced } else { Durability::Buffered };
                    engine.write_with(&batch, level).unwrap();
                    let read = engine.get(F, key.as_bytes()).unwrap();
                    assert_eq!(read.as_deref(), Some(value.as_bytes()), "a writer reads its own write");
                }
            });
        }
    });
    let check = |engine: &Engine| {
        for thread in 0..threads {
            for number in 0..writes {
                let value = engine.get(F, format!("{thread}-{number}").as_bytes()).unwrap();
                assert_eq!(value.as_deref(), Some(number.to_string().as_bytes()), "{thread}-{number}");
            }
        }
        let all = engine.get(G, b"all").unwrap().unwrap();
        assert_eq!(all.len(), usize::try_from(threads * writes).unwrap());
    };
    check(&engine);
    assert!(engine.stats().flushes > 5, "{:?}", engine.stats());
    engine.sync().unwrap();
    drop(engine);
    let (engine, _) = Engine::options(&dir).open().unwrap();
    check(&engine);
    engine.close().unwrap();
}

#[test]
fn a_batch_is_seen_whole_and_a_snapshot_holds_still() {
    let home = tempfile::tempdir().unwrap();
    let (engine, _) =
        Engine::options(home.path().join("db")).memtable_bytes(8_000).tables_max(2).open().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2_u64 {
            let (engine, done) = (&engine, &done);
            scope.spawn(move || {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = engine.snapshot();
                    let number = |family, key: &[u8]| {
                        let value = snapshot.get(family, key).unwrap();
                        value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()))
                    };
                    let first = number(F, b"a");
                    assert_eq!(number(G, b"b"), first, "half a batch is visible");
                    assert!(first >= newest, "reader {reader} sees time go back");
                    newest = first;
                    let scanned = snapshot.scan(F, ..).next().map(|item| item.unwrap().1);
                    assert_eq!(
                        scanned.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap())),
                        first
                    );
                    assert_eq!(number(F, b"a"), first, "a snapshot moved");
                }
            });
        }
        let mut batch = WriteBatch::new();
        for number in 1..=2_000_u64 {
            batch.clear();
            batch.put(F, b"a", &number.to_le_bytes()).unwrap();
            batch.put(F, b"filler", &[0; 100]).unwrap();
            batch.put(G, b"b", &number.to_le_bytes()).unwrap();
            engine.write_with(&batch, Durability::Buffered).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(engine.stats().flushes > 10);
    engine.close().unwrap();
}

#[test]
fn closing_among_writers_loses_nothing_that_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = Engine::options(&dir).memtable_bytes(10_000).open().unwrap();
    let started = Barrier::new(5);
    let acknowledged: Vec<u32> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let (engine, started) = (&engine, &started);
                scope.spawn(move || {
                    for number in 0.. {
                        if number == 50 {
                            started.wait();
                        }
                        match engine.put(F, format!("{thread}-{number}").as_bytes(), b"v") {
                            Ok(_) => {}
                            Err(EngineError::Closed) => return number,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    0
                })
            })
            .collect();
        started.wait();
        engine.close().unwrap();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert!(matches!(engine.flush(), Err(EngineError::Closed)));
    assert!(matches!(engine.close(), Err(EngineError::Closed)));
    assert_eq!(engine.get(F, b"0-0").unwrap().as_deref(), Some(&b"v"[..]), "reads still work");
    drop(engine);
    let (engine, _) = Engine::options(&dir).open().unwrap();
    for (thread, count) in acknowledged.into_iter().enumerate() {
        assert!(count >= 50);
        for number in 0..count {
            assert!(
                engine.get(F, format!("{thread}-{number}").as_bytes()).unwrap().is_some(),
                "{thread}-{number}"
            );
        }
    }
    assert_eq!(engine.scan(F, ..).count(), engine.scan(F, ..).filter(Result::is_ok).count());
}

/// Every operand of a merge counts exactly once, for every reader at every moment and after every crash, whatever the threads are
/// doing: appending at different levels, sealing, flushing, merging tables.
#[test]
fn a_counter_counts_under_many_interleavings() {
    for round in 0..10_u64 {
        let storage = || Arc::new(Slow::new(MemStorage::new(), round));
        let (wal, tables) = (storage(), storage());
        let open = || {
            let options = Engine::options_on(Wal::options_on(wal.clone()), tables.clone());
            options.memtable_bytes(2_000).tables_max(1).open().unwrap().0
        };
        let mut total = 0;
        for _ in 0..3 {
            let engine = open();
            let length =
                || u32::try_from(engine.get(F, b"all").unwrap().map_or(0, |value| value.len())).unwrap();
            assert_eq!(length(), total, "round {round}: after a crash");
            let (issued, done) = (AtomicU32::new(total), AtomicBool::new(false));
            std::thread::scope(|scope| {
                let writers: Vec<_> = (0..3_u64)
                    .map(|thread| {
                        let (engine, issued) = (&engine, &issued);
                        scope.spawn(move || {
                            let mut random = Random(round * 10 + thread);
                            let mut batch = WriteBatch::new();
                            batch.merge(F, b"all", b"x").unwrap();
                            for _ in 0..40 {
                                issued.fetch_add(1, Ordering::SeqCst);
                                let synced = random.below(3) == 0;
                                let level = if synced { Durability::Synced } else { Durability::Buffered };
                                engine.write_with(&batch, level).unwrap();
                            }
                        })
                    })
                    .collect();
                let reader = scope.spawn(|| {
                    let mut last = 0;
                    while !done.load(Ordering::SeqCst) {
                        let now = length();
                        let most = issued.load(Ordering::SeqCst);
                        assert!(
                            (last..=most).contains(&now),
                            "round {round}: {now} is not in {last}..={most}"
                        );
                        last = now;
                        std::thread::yield_now();
                    }
                });
                writers.into_iter().for_each(|writer| writer.join().unwrap());
                done.store(true, Ordering::SeqCst);
                reader.join().unwrap();
            });
            total = issued.into_inner();
            assert_eq!(length(), total, "round {round}");
            engine.sync().unwrap();
        }
    }
}
