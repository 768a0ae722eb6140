//! The log's own thread: intervals, bytes, the proof of the last group. Its clock is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use wal_manager::{Durability, Error, MemStorage, Options, SYNC_BYTES_MIN, SimStorage};
use wal_tests::clock::HandClock;
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{Acked, assert_holds, cause, errno, note, options, payload, record, reopen, within};

const TICK: Duration = Duration::from_millis(10);

fn clocked(storage: &FaultyStorage) -> (Arc<HandClock>, Options) {
    let clock = Arc::new(HandClock::default());
    let options = options(storage).clock(clock.clone());
    (clock, options)
}

fn kinds(storage: &FaultyStorage) -> Vec<Kind> {
    storage.ops().iter().map(|op| op.kind).collect()
}

#[test]
fn s3_s4_an_interval_makes_an_idle_tail_durable_with_no_further_call() {
    within("an interval", || {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let (clock, options) = clocked(&storage);
        let wal = reopen(options.sync_interval(TICK)).0;
        // So that the thread has seen that nothing happens and sleeps without a deadline.
        for _ in 0..3 {
            clock.advance(TICK);
        }
        assert_eq!(clock.deadline(), None);
        let mut acked = Acked::new();
        for round in 0..5 {
            storage.forget();
            let bytes = payload(round, 50);
            let appended = wal.append_with(record(&bytes), Durability::Buffered).unwrap();
            note(&mut acked, appended, &bytes);
            assert!(storage.ops().is_empty());
            clock.advance(Duration::ZERO);
            assert!(clock.deadline().is_some_and(|left| left <= TICK), "within the interval");
            clock.advance(TICK);
            assert_eq!(wal.durable(), appended.position, "durable after one interval");
            assert_eq!(kinds(&storage), [Kind::Write, Kind::SyncData]);
            assert_holds(&reopen(wal_tests::life::options(&disk.fork().crash_all_lost())).1, &acked);
            // Nothing to do is nothing done.
            for _ in 0..3 {
                clock.advance(TICK);
            }
            assert_eq!(kinds(&storage), [Kind::Write, Kind::SyncData]);
        }
    });
}

#[test]
fn s3_a_busy_log_is_synced_at_each_tick_and_one_that_syncs_itself_never() {
    within("a busy log", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let (clock, options) = clocked(&storage);
        let wal = reopen(options.sync_interval(TICK)).0;
        clock.advance(Duration::ZERO);
        storage.forget();
        for number in 0..10 {
            for _ in 0..3 {
                wal.append_with(record(&payload(number, 20)), Durability::Buffered).unwrap();
            }
            clock.advance(TICK);
            assert_eq!(wal.durable().index.get(), 3 * (number + 1));
        }
        assert_eq!(storage.count(Kind::SyncData, ".wal"), 10);
        storage.forget();
        for number in 0..10 {
            wal.append(record(&payload(number, 20))).unwrap();
            clock.advance(TICK);
        }
        assert_eq!(storage.count(Kind::SyncData, ".wal"), 10, "no more than the appends' own");
    });
}

#[test]
fn s3_enough_bytes_are_synced_beside_the_appends_and_appends_wait_at_four_times_as_many() {
    within("bytes", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = Arc::new(reopen(options(&storage).sync_bytes(SYNC_BYTES_MIN)).0);
        let bytes = payload(1, 1000);
        for _ in 0..20 {
            // The frontier follows, though nobody asks for a sync.
            for _ in 0..300 {
                wal.append_with(record(&bytes), Durability::Buffered).unwrap();
            }
            let last = wal.append_with(record(&bytes), Durability::Written).unwrap();
            wal.wait_durable(last.index.get().saturating_sub(300).max(1).into_index()).unwrap();
        }
        // As long as the sync hangs, what is not durable is bounded.
        storage.forget();
        let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
        let writer = {
            let wal = Arc::clone(&wal);
            std::thread::spawn(move || {
                for _ in 0..4000 {
                    wal.append_with(record(&payload(1, 1000)), Durability::Buffered).unwrap();
                }
            })
        };
        gate.reached();
        let bound = 4 * SYNC_BYTES_MIN + 2 * wal_manager::GROUP_BYTES_MAX as u64;
        assert!(wal.logs().last().unwrap().bytes - wal.durable().offset <= bound);
        gate.open();
        writer.join().unwrap();
    });
}

trait IntoIndex {
    fn into_index(self) -> wal_manager::Index;
}

impl IntoIndex for u64 {
    fn into_index(self) -> wal_manager::Index {
        wal_manager::Index::new(self)
    }
}

#[test]
fn s4_p1_an_idle_log_writes_the_proof_of_its_last_group_once() {
    within("an idle log", || {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let (clock, options) = clocked(&storage);
        let wal = reopen(options.idle_promise(TICK)).0;
        for round in 1..4 {
            storage.forget();
            wal.append(record(&payload(round, 50))).unwrap();
            assert_eq!(kinds(&storage), [Kind::Write, Kind::SyncData]);
            let proven = |disk: &SimStorage| {
                let inspection = wal_tests::life::options(disk).inspect().unwrap();
                inspection.records().filter(|record| record.as_ref().unwrap().proven).count() as u64
            };
            assert_eq!(proven(&disk), round - 1, "the last one is not");
            clock.advance(Duration::ZERO);
            for _ in 0..3 {
                clock.advance(TICK);
            }
            assert_eq!(kinds(&storage), [Kind::Write, Kind::SyncData, Kind::Write, Kind::SyncData]);
            assert_eq!(proven(&disk.fork().crash_all_lost()), round, "now it is");
            for _ in 0..20 {
                clock.advance(TICK);
            }
            assert_eq!(storage.ops().len(), 4, "PR3: once, not for ever");
            assert_eq!(clock.deadline(), None, "and the thread sleeps");
        }
        wal.close().unwrap();
    });
}

#[test]
fn s8_f46_a_sync_of_the_logs_thread_that_fails_fails_the_log() {
    within("a failing timer", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let (clock, options) = clocked(&storage);
        let wal = reopen(options.sync_interval(TICK)).0;
        let ticket = wal.submit(record(b"waits")).unwrap();
        clock.advance(Duration::ZERO);
        storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
        clock.advance(TICK);
        assert_eq!(errno(&ticket.wait().unwrap_err()), Some(EIO));
        assert_eq!(errno(&wal.append(record(b"later")).unwrap_err()), Some(EIO));
    });
}

#[test]
fn f65_a_panic_in_the_logs_thread_fails_the_log_and_wakes_everybody() {
    within("a thread that dies", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let (clock, options) = clocked(&storage);
        let wal = Arc::new(reopen(options.sync_interval(TICK)).0);
        clock.advance(Duration::ZERO);
        let waiter = {
            let wal = Arc::clone(&wal);
            std::thread::spawn(move || wal.watch().wait())
        };
        clock.panic_from_now_on();
        let error = waiter.join().unwrap().unwrap_err();
        assert!(matches!(cause(&error), Error::Panicked), "{error:?}");
        let error = wal.append(record(b"later")).unwrap_err();
        assert!(matches!(cause(&error), Error::Panicked), "{error:?}");
    });
}

#[test]
fn f67_a_log_with_a_thread_is_dropped_and_closed_without_waiting_for_a_deadline() {
    for close in [false, true] {
        within("the end of the thread", move || {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let (clock, options) = clocked(&storage);
            let wal = reopen(options.sync_interval(Duration::from_secs(3600))).0;
            wal.append_with(record(b"buffered"), Durability::Buffered).unwrap();
            clock.advance(Duration::ZERO);
            storage.forget();
            if close {
                wal.close().unwrap();
            }
            drop(wal);
            assert_eq!(storage.count(Kind::SyncData, ".wal") > 0, close, "a drop does no I/O");
            // The lock is free.
            let found = reopen(wal_tests::life::options(&disk)).1.len();
            assert_eq!(found, usize::from(close));
        });
    }
}
