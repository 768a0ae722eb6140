//! From an append to durable bytes: how many writes and syncs that costs, who does them, in which order, and what becomes of the
//! waiters when one fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use wal_io::sim::SimStorage;
use wal_manager::{Clock, Durability, Error, ErrorKind, FsStorage, MemStorage, metrics as names};
use wal_tests::faulty::{EIO, ENOSPC, FaultyStorage, Kind, Which};
use wal_tests::life::{
    Acked, assert_holds, cause, errno, note, open, options, payload, read_back, record, reopen, within,
};

fn memory() -> FaultyStorage {
    FaultyStorage::new(MemStorage::new())
}

#[test]
fn i1_a_fault_of_the_storage_reaches_the_caller_with_operation_file_offset_and_errno() {
    for (kind, errno) in [(Kind::Write, ENOSPC), (Kind::SyncData, EIO)] {
        let storage = memory();
        let wal = open(&storage);
        let before = wal.append(record(b"first")).unwrap();
        storage.fail(Which::On(kind, "000001.wal"), 1, errno);
        let error = wal.append(record(b"second")).unwrap_err();
        let Error::Io(io) = cause(&error) else { panic!("{error:?}") };
        assert_eq!(io.raw_os_error(), Some(errno));
        assert!(io.path().ends_with("000001.wal"), "{io}");
        assert_eq!(io.offset(), (kind == Kind::Write).then_some(before.position.offset));
        assert!(error.to_string().contains("000001.wal"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Poisoned);
    }
}

#[test]
fn i2_a_group_of_any_size_is_one_write() {
    let storage = memory();
    let wal = open(&storage);
    storage.forget();
    let mut behind = wal.durable().offset;
    for group in 1..=64_u64 {
        let tickets: Vec<_> =
            (0..group).map(|number| wal.submit(record(&payload(number, 1900))).unwrap()).collect();
        assert!(storage.ops().is_empty(), "a record that nobody waits for costs nothing yet");
        let end = tickets.last().unwrap().wait().unwrap().position.offset;
        let trace = storage.forget();
        assert_eq!(
            trace,
            [format!("write 000001.wal {behind}+{}", end - behind), "sync_data 000001.wal".to_owned()],
            "{group} records"
        );
        behind = end;
    }
}

#[test]
fn i3_a_prepared_file_is_fsynced_and_from_then_on_fdatasynced() {
    let storage = memory();
    let wal = open(&storage);
    for number in 0..10 {
        wal.append(record(&payload(number, 100))).unwrap();
        if number % 3 == 2 {
            wal.rotate().unwrap().unwrap();
        }
    }
    wal.close().unwrap();
    for log in 1..=4 {
        let name = format!("{log:06}.wal");
        let ops: Vec<Kind> =
            storage.ops().into_iter().filter(|op| op.name == name).map(|op| op.kind).collect();
        let fsync = ops.iter().position(|kind| *kind == Kind::SyncAll).expect("it is fsynced");
        assert_eq!(ops[0], Kind::Create);
        assert_eq!(ops.iter().filter(|kind| **kind == Kind::SyncAll).count(), 1, "{name}: {ops:?}");
        if log > 1 {
            assert_eq!(fsync, 1, "{name} is durable before the first byte: {ops:?}");
        }
        // From then on each write is followed by an fdatasync, before the next write.
        let rest = &ops[fsync + 1..];
        assert!(!rest.is_empty() && rest.len().is_multiple_of(2), "{name}: {ops:?}");
        assert!(rest.chunks(2).all(|pair| pair == [Kind::Write, Kind::SyncData]), "{name}: {ops:?}");
    }
}

#[test]
fn i4_the_directory_and_its_parents_are_synced_before_the_first_acknowledgement() {
    let storage = memory();
    let wal = open(&storage);
    wal.append(record(b"first")).unwrap();
    let trace: Vec<String> = storage
        .trace()
        .into_iter()
        .map(|line| {
            line.rsplit_once(' ')
                .filter(|(_, end)| end.contains('+'))
                .map_or(line.clone(), |(start, _)| start.into())
        })
        .collect();
    // The order of the first open, T6: CHECKPOINT and the directory's own entry before the first log (CK5), the log before CHECKPOINT
    // knows of it (RC3), both slots before the first append (CK3).
    assert_eq!(
        trace,
        [
            "lock LOCK",
            "create CHECKPOINT.new",
            "preallocate CHECKPOINT.new",
            "write CHECKPOINT.new",
            "write CHECKPOINT.new",
            "sync_all CHECKPOINT.new",
            "rename CHECKPOINT.new",
            "sync_dir",
            "sync_parents",
            "create 000001.wal",
            "write 000001.wal",
            "sync_all 000001.wal",
            "sync_dir",
            "write CHECKPOINT",
            "sync_data CHECKPOINT",
            "write CHECKPOINT",
            "sync_data CHECKPOINT",
            "write 000001.wal",
            "sync_data 000001.wal",
        ]
    );
}

#[test]
fn i4_a_failure_at_any_step_of_the_first_open_is_reported_and_the_next_open_makes_up_for_it() {
    let steps = {
        let storage = memory();
        drop(open(&storage));
        storage.ops().iter().filter(|op| op.kind.mutates()).count() as u64
    };
    assert!(steps > 14);
    for step in 1..=steps {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        storage.fail(Which::Mutating, step, EIO);
        let failed = options(&storage).recover();
        let line = storage.trace().into_iter().find(|line| line.ends_with("= 5"));
        let line = line.unwrap_or_else(|| panic!("step {step} was not reached"));
        match failed {
            Err(error) => assert_eq!(errno(&error), Some(EIO), "{line}: {error}"),
            // What is removed, and that it is removed, may wait. Nothing else may.
            Ok(recovery) => {
                assert_eq!((line.as_str(), step), ("sync_dir = 5", steps), "a failed step is forgiven");
                drop(recovery);
            }
        }
        // The process goes on, or starts again: no power cut in between. What is acknowledged now survives one.
        let wal = open(&storage);
        let appended = wal.append(record(b"acknowledged")).unwrap();
        let mut acked = Acked::new();
        note(&mut acked, appended, b"acknowledged");
        drop(wal);
        let after = disk.crash_all_lost();
        assert_holds(&reopen(options(&after)).1, &acked);
    }
}

#[test]
fn i4_a_first_open_that_dies_at_any_step_leaves_a_directory_whose_next_writer_keeps_what_it_acknowledges() {
    for step in 0.. {
        let disk = SimStorage::new();
        disk.crash_after(step);
        let whole = options(&disk).recover().is_ok() && !disk.is_frozen();
        // Killed, and started again on the same machine.
        let disk = disk.process_crash();
        let wal = open(&disk);
        let appended = wal.append(record(b"acknowledged")).unwrap();
        let mut acked = Acked::new();
        note(&mut acked, appended, b"acknowledged");
        drop(wal);
        let after = disk.crash_all_lost();
        assert_holds(&reopen(options(&after)).1, &acked);
        if whole {
            break;
        }
    }
}

#[test]
fn i4_a_rotation_syncs_the_directory_before_the_new_log_is_used() {
    let storage = memory();
    let wal = open(&storage);
    wal.append(record(b"first")).unwrap();
    storage.forget();
    wal.rotate().unwrap().unwrap();
    wal.append(record(b"second")).unwrap();
    let trace = storage.trace();
    let at = |start: &str| {
        trace.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {trace:?}"))
    };
    assert!(at("create 000002.wal") < at("sync_all 000002.wal"));
    assert!(at("sync_all 000002.wal") < at("sync_dir"));
    assert!(at("sync_dir") < at("write CHECKPOINT"));
    assert!(at("write CHECKPOINT") < at("write 000002.wal"));
    assert_eq!(storage.count(Kind::SyncData, "CHECKPOINT"), 2, "both slots");
}

#[test]
fn s1_writers_that_come_during_a_sync_share_the_next_one() {
    const WRITERS: usize = 32;
    const ROUNDS: usize = 10;
    within("shared syncs", || {
        let dir = tempfile::tempdir().unwrap();
        let storage = FaultyStorage::new(FsStorage::create(dir.path()).unwrap());
        let wal = Arc::new(open(&storage));
        for round in 0..ROUNDS {
            storage.forget();
            let gate = storage.gate(Which::Kind(Kind::SyncData), 1);
            let accepted = Arc::new(AtomicUsize::new(0));
            let writer = |number: usize| {
                let (wal, accepted) = (Arc::clone(&wal), Arc::clone(&accepted));
                thread::spawn(move || {
                    let ticket = wal.submit(record(&payload(number as u64, 100))).unwrap();
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let appended = ticket.wait().unwrap();
                    assert!(wal.durable() >= appended.position, "acknowledged before it is durable");
                    appended.index.get()
                })
            };
            let leader = writer(0);
            gate.reached();
            let writers: Vec<_> = (1..=WRITERS).map(writer).collect();
            while accepted.load(Ordering::SeqCst) <= WRITERS {
                thread::yield_now();
            }
            gate.open();
            let first = leader.join().unwrap();
            let mut indices: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            indices.sort_unstable();
            assert_eq!(first, (round * (WRITERS + 1)) as u64 + 1);
            assert_eq!(indices, (first + 1..=first + WRITERS as u64).collect::<Vec<_>>());
            let ops: Vec<Kind> = storage.ops().iter().map(|op| op.kind).collect();
            assert_eq!(
                ops,
                [Kind::Write, Kind::SyncData, Kind::Write, Kind::SyncData],
                "one group for the first, one for the {WRITERS} that came during its sync"
            );
        }
    });
}

/// How many of them share a sync is for the scheduler to say: that they do is shown above, where the disk is held.
#[test]
fn s1_appends_from_many_threads_are_durable_when_they_return_and_cost_at_most_a_write_and_a_sync() {
    const WRITERS: u64 = 16;
    const EACH: u64 = 200;
    within("writers", || {
        let storage = memory();
        let wal = Arc::new(open(&storage));
        storage.forget();
        let begin = Arc::new(Barrier::new(WRITERS as usize));
        let threads: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (wal, begin) = (Arc::clone(&wal), Arc::clone(&begin));
                thread::spawn(move || {
                    begin.wait();
                    for number in 0..EACH {
                        let appended = wal.append(record(&payload(writer * EACH + number, 64))).unwrap();
                        assert!(wal.durable() >= appended.position, "acknowledged before it is durable");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let syncs = storage.count(Kind::SyncData, ".wal");
        let writes = storage.count(Kind::Write, ".wal");
        assert_eq!(syncs, writes, "one write and one sync a group");
        assert!(syncs as u64 <= WRITERS * EACH);
    });
}

#[test]
fn s2_a_lone_writer_pays_one_write_and_one_sync_in_its_own_thread() {
    let storage = memory();
    let wal = open(&storage);
    for number in 0..100 {
        storage.forget();
        let appended = wal.append(record(&payload(number, 1 + 997 * number as usize))).unwrap();
        let ops = storage.ops();
        let kinds: Vec<Kind> = ops.iter().map(|op| op.kind).collect();
        assert_eq!(kinds, [Kind::Write, Kind::SyncData]);
        assert!(ops.iter().all(|op| op.thread == thread::current().id()), "in its own thread");
        assert_eq!(wal.durable(), appended.position);
    }
}

/// Each look at it takes a millisecond.
#[derive(Debug, Default)]
struct LookClock(AtomicUsize);

impl Clock for LookClock {
    fn wall(&self) -> Duration {
        Duration::ZERO
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::SeqCst) as u64)
    }
}

/// How many records each group held, in order.
fn group_sizes(snapshotter: &Snapshotter) -> Vec<u64> {
    let samples = snapshotter.snapshot().into_vec().into_iter().find_map(|(key, _, _, value)| match value {
        DebugValue::Histogram(samples) if key.key().name() == names::GROUP_RECORDS => Some(samples),
        _ => None,
    });
    samples.unwrap_or_default().into_iter().map(|records| records.into_inner() as u64).collect()
}

#[test]
fn s10_a_group_holds_whoever_came_during_the_sync_before_and_a_lone_writer_waits_for_nobody() {
    const ROUNDS: usize = 20;
    for writers in [1, 4, 16] {
        within("groups of writers", move || {
            let storage = memory();
            let (recorder, clock) = (DebuggingRecorder::new(), Arc::new(LookClock::default()));
            let snapshotter = recorder.snapshotter();
            let options = options(&storage).clock(clock.clone());
            let wal = Arc::new(metrics::with_local_recorder(&recorder, || reopen(options).0));
            snapshotter.snapshot();
            let enrolled = Arc::new(AtomicUsize::new(0));
            let append = |number: usize| {
                let (wal, enrolled) = (Arc::clone(&wal), Arc::clone(&enrolled));
                thread::spawn(move || {
                    let ticket = wal.submit(record(&payload(number as u64, 100))).unwrap();
                    enrolled.fetch_add(1, Ordering::SeqCst);
                    ticket.wait().unwrap();
                })
            };
            let mut gate = storage.gate(Which::Kind(Kind::SyncData), 1);
            let mut threads = vec![append(0)];
            for round in 0..ROUNDS {
                gate.reached();
                threads.extend((0..writers).map(|writer| append(1 + round * writers + writer)));
                while enrolled.load(Ordering::SeqCst) < threads.len() {
                    thread::yield_now();
                }
                let next = storage.gate(Which::Kind(Kind::SyncData), 1);
                std::mem::replace(&mut gate, next).open();
            }
            gate.open();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let expected: Vec<u64> = std::iter::once(1).chain([writers as u64; ROUNDS]).collect();
            assert_eq!(group_sizes(&snapshotter), expected, "{writers} writers");
            assert_eq!(storage.count(Kind::SyncData, ".wal"), 1 + ROUNDS);
        });
    }
    let (storage, clock) = (memory(), Arc::new(LookClock::default()));
    let wal = reopen(options(&storage).clock(clock.clone())).0;
    for number in 0..50 {
        let before = clock.0.load(Ordering::SeqCst);
        wal.append(record(&payload(number, 100))).unwrap();
        assert_eq!(clock.0.load(Ordering::SeqCst) - before, 2, "two looks for the sync, none for a wait");
    }
}

#[test]
fn s10_a_writer_that_is_alone_again_does_not_wait_for_those_who_left() {
    within("a writer in company and alone", || {
        let clock = Arc::new(LookClock::default());
        let wal = Arc::new(reopen(options(&MemStorage::new()).clock(clock.clone())).0);
        let append = |wal: &wal_manager::Wal, times: u64| {
            for number in 0..times {
                wal.append(record(&payload(number, 20))).unwrap();
            }
        };
        let threads: Vec<_> = (0..6)
            .map(|_| {
                let wal = Arc::clone(&wal);
                thread::spawn(move || append(&wal, 200))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // One group may still have been waited for.
        append(&wal, 2);
        let before = clock.0.load(Ordering::SeqCst);
        append(&wal, 50);
        let looks = clock.0.load(Ordering::SeqCst) - before;
        assert_eq!(looks, 50 * 2, "two for the sync, none for a wait");
    });
}

#[test]
fn s2_each_level_costs_a_lone_writer_what_it_says() {
    let storage = memory();
    let wal = open(&storage);
    storage.forget();
    wal.append_with(record(b"buffered"), Durability::Buffered).unwrap();
    assert!(storage.ops().is_empty());
    wal.append_with(record(b"written"), Durability::Written).unwrap();
    let kinds: Vec<Kind> = storage.ops().iter().map(|op| op.kind).collect();
    assert_eq!(kinds, [Kind::Write], "both records in one write, no sync");
    storage.forget();
    let position = wal.sync().unwrap();
    let kinds: Vec<Kind> = storage.ops().iter().map(|op| op.kind).collect();
    assert_eq!(kinds, [Kind::SyncData], "nothing is left to write");
    assert_eq!(position, wal.durable());
    storage.forget();
    wal.sync().unwrap();
    assert!(storage.ops().is_empty(), "nothing is left to sync");
}

#[test]
fn s5_a_power_cut_at_any_operation_loses_no_acknowledged_record() {
    let mut cuts = 0;
    for step in 0.. {
        let disk = SimStorage::new();
        let mut acked = Acked::new();
        disk.crash_after(step);
        let finished = (|| -> Result<(), Error> {
            let recovery = options(&disk).recover()?;
            recovery.records().for_each(drop);
            let (wal, _) = recovery.finish()?;
            for number in 0..12_u64 {
                let bytes = payload(number, 1 + 5_000 * (number as usize % 4));
                // Some that nobody waits for in between: they may go, but only with everything behind them.
                wal.submit(record(&bytes)).map(drop)?;
                let bytes = payload(100 + number, 700);
                note(&mut acked, wal.append(record(&bytes))?, &bytes);
                if number % 5 == 4 {
                    wal.rotate()?;
                }
            }
            wal.close()
        })();
        assert!(finished.is_ok() || disk.is_frozen(), "{finished:?}");
        let whole = !disk.is_frozen();
        for outcome in [disk.crash_all_lost(), disk.crash_all_kept(), disk.crash(step), disk.crash(!step)] {
            cuts += 1;
            assert_holds(&reopen(options(&outcome)).1, &acked);
        }
        if whole {
            assert_eq!(acked.len(), 12);
            break;
        }
    }
    assert!(cuts > 200, "{cuts}");
}

#[test]
fn s5_s11_each_level_survives_what_the_docs_say() {
    let write = |level: Durability| {
        let disk = SimStorage::new();
        let wal = open(&disk);
        let mut acked = Acked::new();
        for number in 0..5 {
            let bytes = payload(number, 300);
            note(&mut acked, wal.append_with(record(&bytes), level).unwrap(), &bytes);
        }
        (disk, acked, wal)
    };
    let (disk, acked, wal) = write(Durability::Synced);
    assert_holds(&reopen(options(&disk.crash_all_lost())).1, &acked);
    drop(wal);
    let (disk, acked, wal) = write(Durability::Written);
    assert_holds(&reopen(options(&disk.process_crash())).1, &acked);
    drop(wal);
    let (disk, _, wal) = write(Durability::Written);
    assert_eq!(
        reopen(options(&disk.crash_all_lost())).1,
        [],
        "not synced: a prefix survives, here none of it"
    );
    drop(wal);
    let (disk, _, wal) = write(Durability::Buffered);
    assert_eq!(reopen(options(&disk.process_crash())).1, []);
    drop(wal);
}

#[test]
fn s8_a_failed_sync_wakes_every_waiter_of_its_group_and_of_the_next() {
    for kind in [Kind::Write, Kind::SyncData] {
        within("waiters of a failure", move || {
            let storage = memory();
            let wal = Arc::new(open(&storage));
            let gate = storage.gate(Which::Kind(kind), 1);
            let wait_for = |number: u64| {
                let wal = Arc::clone(&wal);
                let ticket = wal.submit(record(&payload(number, 50))).unwrap();
                thread::spawn(move || ticket.wait())
            };
            let mut waiters = vec![wait_for(0)];
            gate.reached();
            waiters.extend((1..20).map(wait_for));
            {
                let wal = Arc::clone(&wal);
                waiters.push(thread::spawn(move || wal.sync().map(|_| unreachable!("it failed"))));
            }
            gate.open_to_fail(EIO);
            for waiter in waiters {
                assert_eq!(errno(&waiter.join().unwrap().unwrap_err()), Some(EIO), "{kind:?}");
            }
        });
    }
}

#[test]
fn s8_a_failure_wakes_whoever_waits_to_rotate_or_close() {
    for close in [false, true] {
        within("a rotation or close behind a failure", move || {
            let storage = memory();
            let wal = Arc::new(open(&storage));
            wal.append(record(b"first")).unwrap();
            let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
            let leader = {
                let wal = Arc::clone(&wal);
                thread::spawn(move || wal.append(record(b"second")).map(drop))
            };
            gate.reached();
            let other = {
                let wal = Arc::clone(&wal);
                thread::spawn(move || if close { wal.close() } else { wal.rotate().map(drop) })
            };
            // It waits, or is about to; both are to end.
            gate.open_to_fail(EIO);
            assert_eq!(errno(&leader.join().unwrap().unwrap_err()), Some(EIO));
            assert_eq!(errno(&other.join().unwrap().unwrap_err()), Some(EIO));
            assert_eq!(errno(&wal.append(record(b"third")).unwrap_err()), Some(EIO));
        });
    }
}

#[test]
fn s8_a_failed_write_of_what_close_still_had_to_write_ends_the_close() {
    for (kind, number) in [(Kind::Write, ENOSPC), (Kind::SyncData, EIO)] {
        within("a close that fails", move || {
            let storage = memory();
            let wal = open(&storage);
            wal.append_with(record(b"buffered"), Durability::Buffered).unwrap();
            storage.fail(Which::On(kind, ".wal"), 1, number);
            assert_eq!(errno(&wal.close().unwrap_err()), Some(number));
        });
    }
}

#[test]
fn s8_a_failed_write_of_what_a_rotation_still_had_to_write_ends_the_rotation() {
    // A record that is accepted while the rotation prepares the next file is written by the rotation itself.
    within("a rotation that fails", || {
        let storage = memory();
        let wal = Arc::new(open(&storage));
        wal.append(record(b"first")).unwrap();
        let gate = storage.gate(Which::On(Kind::Create, ".wal"), 1);
        let rotation = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.rotate().map(drop))
        };
        gate.reached();
        let late = wal.submit(record(b"late")).unwrap();
        storage.fail(Which::On(Kind::Write, "000001.wal"), 1, EIO);
        gate.open();
        assert_eq!(errno(&rotation.join().unwrap().unwrap_err()), Some(EIO));
        assert_eq!(errno(&late.wait().unwrap_err()), Some(EIO));
    });
}

#[test]
fn s8_a_panic_in_the_storage_wakes_every_waiter() {
    for kind in [Kind::Write, Kind::SyncData] {
        within("waiters of a panic", move || {
            let storage = memory();
            let wal = Arc::new(open(&storage));
            // The first group stands at the gate while the others queue up; the panic comes at the next operation of that kind.
            let gate = storage.gate(Which::Kind(Kind::SyncData), 1);
            storage.panic_at(Which::Kind(kind), 2);
            let spawn = |number: u64| {
                let ticket = wal.submit(record(&payload(number, 50))).unwrap();
                thread::spawn(move || ticket.wait().map(drop))
            };
            let first = spawn(0);
            gate.reached();
            let waiters: Vec<_> = (1..20).map(spawn).collect();
            gate.open();
            first.join().unwrap().unwrap();
            let mut panicked = 0;
            for waiter in waiters {
                match waiter.join() {
                    Err(_) => panicked += 1,
                    Ok(result) => {
                        let error = result.unwrap_err();
                        assert!(matches!(cause(&error), Error::Panicked), "{error:?}");
                    }
                }
            }
            assert_eq!(panicked, 1, "only the thread that was at the disk");
            assert!(matches!(cause(&wal.append(record(b"later")).unwrap_err()), Error::Panicked));
        });
    }
}

#[test]
fn s9_close_makes_everything_durable_and_answers_every_ticket() {
    within("close", || {
        let disk = SimStorage::new();
        let wal = open(&disk);
        let mut acked = Acked::new();
        let tickets: Vec<_> = (0..50)
            .map(|number| {
                let bytes = payload(number, 400);
                let ticket = wal.submit(record(&bytes)).unwrap();
                note(&mut acked, ticket.appended(), &bytes);
                ticket
            })
            .collect();
        wal.close().unwrap();
        for ticket in &tickets {
            assert_eq!(ticket.wait().unwrap(), ticket.appended());
        }
        for error in [
            wal.append(record(b"late")).map(drop),
            wal.submit(record(b"late")).map(drop),
            wal.sync().map(drop),
            wal.rotate().map(drop),
            wal.mark_flushed(wal_manager::FamilyId::DEFAULT, wal_manager::SeqNum::new(1)).map(drop),
            wal.close(),
        ] {
            assert!(matches!(error, Err(Error::Closed)), "{error:?}");
        }
        let (_, records, report) = reopen(options(&disk.crash_all_lost()));
        assert_holds(&records, &acked);
        assert_eq!(report.verdict, wal_manager::Verdict::Clean);
    });
}

#[test]
fn s9_close_reports_the_first_failure_and_frees_the_directory() {
    let storage = memory();
    let wal = open(&storage);
    let mut acked = Acked::new();
    note(&mut acked, wal.append(record(b"acknowledged")).unwrap(), b"acknowledged");
    storage.fail(Which::Kind(Kind::SyncData), 1, EIO);
    storage.fail_from(Which::Kind(Kind::Write), 2, ENOSPC);
    assert_eq!(errno(&wal.append(record(b"lost")).unwrap_err()), Some(EIO));
    storage.heal();
    let error = wal.close().unwrap_err();
    assert_eq!(errno(&error), Some(EIO), "the first failure, not a later one: {error}");
    // The lock is free, and whoever holds the old value can do nothing to the directory any more.
    let second = open(&storage);
    storage.forget();
    assert!(wal.append(record(b"zombie")).is_err());
    assert!(wal.mark_flushed(wal_manager::FamilyId::DEFAULT, wal_manager::SeqNum::new(1)).is_err());
    assert!(wal.rotate().is_err());
    assert!(wal.close().is_err());
    assert_eq!(storage.trace(), <[String; 0]>::default(), "a closed log touches nothing");
    note(&mut acked, second.append(record(b"second")).unwrap(), b"second");
    second.close().unwrap();
    assert_holds(&read_back(&storage), &acked);
}

#[test]
fn s9_the_lock_is_kept_until_a_deletion_that_is_under_way_has_ended() {
    within("close during a deletion", || {
        let storage = memory();
        let wal = Arc::new(open(&storage));
        let last = wal.append(record(b"first")).unwrap().seqs.last();
        wal.rotate().unwrap();
        wal.append(record(b"second")).unwrap();
        storage.forget();
        let gate = storage.gate(Which::Kind(Kind::Unlink), 1);
        let deletion = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.mark_flushed(wal_manager::FamilyId::DEFAULT, last))
        };
        gate.reached();
        let close = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.close())
        };
        // The close waits for the deletion; a close that did not would have the time to free the lock now.
        for _ in 0..10_000 {
            thread::yield_now();
        }
        assert!(matches!(options(&storage).recover(), Err(Error::Locked { .. })), "a deletion is under way");
        gate.open();
        deletion.join().unwrap().unwrap();
        close.join().unwrap().unwrap();
        let trace = storage.trace();
        let unlock = trace.iter().position(|line| line == "unlock LOCK").unwrap();
        let last = trace.iter().rposition(|line| line == "sync_dir").unwrap();
        assert!(last < unlock, "{trace:?}");
    });
}

#[test]
fn s9_every_accepted_record_is_answered_exactly_once_whatever_fails() {
    const WRITERS: u64 = 8;
    // The disk fails for good at the n-th write or sync of a log; every append ends, and what it said is true after a power cut.
    for step in (1..40).step_by(3) {
        within("writers on a failing disk", move || {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let wal = Arc::new(open(&storage));
            let which = if step % 2 == 0 { Kind::Write } else { Kind::SyncData };
            storage.fail_from(Which::On(which, ".wal"), step, EIO);
            let threads: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let wal = Arc::clone(&wal);
                    thread::spawn(move || {
                        let (mut acked, mut refused) = (Acked::new(), 0);
                        for number in 0..40 {
                            let bytes = payload(writer * 1000 + number, 90);
                            match wal.append(record(&bytes)) {
                                Ok(appended) => {
                                    assert_eq!(refused, 0, "acknowledged after a failure");
                                    note(&mut acked, appended, &bytes);
                                }
                                Err(error) => {
                                    assert_eq!(errno(&error), Some(EIO));
                                    refused += 1;
                                }
                            }
                        }
                        (acked, refused)
                    })
                })
                .collect();
            let mut acked = Acked::new();
            let mut answers = 0;
            for thread in threads {
                let (some, refused) = thread.join().unwrap();
                answers += some.len() + refused;
                acked.extend(some);
            }
            assert_eq!(answers as u64, WRITERS * 40, "no index was given to two records");
            drop(wal);
            assert_holds(&reopen(options(&disk.crash(step))).1, &acked);
        });
    }
}

#[test]
fn s9_a_ticket_that_is_dropped_loses_nothing_and_one_that_outlives_the_log_still_works() {
    within("tickets", || {
        let disk = SimStorage::new();
        let wal = open(&disk);
        let mut acked = Acked::new();
        let dropped = wal.submit(record(b"dropped")).unwrap();
        note(&mut acked, dropped.appended(), b"dropped");
        drop(dropped);
        let ticket = wal.submit(record(b"outlives")).unwrap();
        note(&mut acked, ticket.appended(), b"outlives");
        drop(wal);
        // The ticket is what is left of the log: it can still make its record durable, and so the directory is still taken.
        assert!(matches!(options(&disk).recover(), Err(Error::Locked { .. })));
        ticket.wait().unwrap();
        drop(ticket);
        let (_, records, _) = reopen(options(&disk.crash_all_lost()));
        assert_holds(&records, &acked);
    });
}

#[test]
fn s9_a_drop_without_close_keeps_everything_that_was_synced() {
    let disk = SimStorage::new();
    let mut acked = Acked::new();
    for round in 0..5 {
        let wal = open(&disk);
        let bytes = payload(round, 200);
        note(&mut acked, wal.append(record(&bytes)).unwrap(), &bytes);
        drop(wal);
    }
    assert_holds(&reopen(options(&disk.crash_all_lost())).1, &acked);
}
