//! From one log to the next: when, what it returns, and what a failure or a crash at any step of it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier};
use std::thread::{self, ThreadId};

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use proptest::collection::vec;
use proptest::prelude::*;
use wal_io::Storage as _;
use wal_io::probe::Way;
use wal_io::sim::SimStorage;
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, LogNumber, LogState, MemStorage, SeqNum, SeqRange, Verdict, Wal,
    metrics as names,
};
use wal_tests::faulty::{EIO, ENOSPC, FaultyStorage, Kind, Op, Which};
use wal_tests::life::{
    Acked, SMALL, assert_holds, errno, families, note, open, options, payload, read_back, record, reopen,
    within,
};

/// Bytes that a log needs beside its records: header, a promise for each group, the seal, and padding.
const OVERHEAD: u64 = 256;

fn seqs(first: u64, last: u64) -> Option<SeqRange> {
    SeqRange::between(SeqNum::new(first), SeqNum::new(last))
}

#[test]
fn r1_rotate_returns_number_range_and_families_and_none_for_an_empty_log() {
    let storage = MemStorage::new();
    let wal = open(&storage);
    assert_eq!(wal.rotate().unwrap(), None, "nothing to rotate away from");
    let list = families(&[0, 3]);
    wal.append(record(b"a").families(&list).seqs(SeqNum::new(10), 5)).unwrap();
    let list = families(&[3, 9]);
    wal.append(record(b"b").families(&list)).unwrap();
    let list = families(&[0]);
    wal.append_with(record(b"c").families(&list).count(2), Durability::Buffered).unwrap();
    let end = wal.logs()[0].bytes;
    let sealed = wal.rotate().unwrap().unwrap();
    assert_eq!(sealed.log, LogNumber::new(1));
    assert_eq!(sealed.records, 3);
    assert_eq!(sealed.seqs, seqs(10, 17));
    let by_family: Vec<_> = sealed.families.iter().map(|(family, seq)| (family.get(), seq.get())).collect();
    assert_eq!(by_family, [(0, 17), (3, 15), (9, 15)]);
    assert_eq!(sealed.bytes, end);
    assert_eq!(wal.durable().index.get(), 3, "what was buffered is durable when it returns");
    assert_eq!(wal.rotate().unwrap(), None, "the new log is empty");
    let logs = wal.logs();
    let states: Vec<_> = logs.iter().map(|log| (log.log.get(), log.state)).collect();
    assert_eq!(states, [(1, LogState::Sealed), (2, LogState::Active)]);
    assert_eq!((logs[1].records, logs[1].seqs, logs[1].families.len()), (0, None, 0), "no range, not 0");
    wal.append(record(b"d")).unwrap();
    assert_eq!(wal.rotate().unwrap().unwrap().seqs, seqs(18, 18));
    wal.close().unwrap();
    assert_eq!(read_back(&storage).len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r1_no_log_exceeds_its_size_except_for_one_record_larger_than_it(
        sizes in vec((prop_oneof![
            6 => 1_usize..2_000,
            3 => 2_000_usize..50_000,
            1 => 64_000_usize..66_000,
            1 => 66_000_usize..150_000,
        ], 0_u8..3), 1..120),
        ahead in 0_usize..33_000,
    ) {
        let storage = MemStorage::new();
        let wal = reopen(options(&storage).log_bytes(SMALL)).0;
        let mut largest = BTreeMap::new();
        let mut expected = 0;
        for (number, (size, level)) in [(ahead + 1, 2)].into_iter().chain(sizes).enumerate() {
            let level = [Durability::Buffered, Durability::Written, Durability::Synced][usize::from(level)];
            let before = wal.logs().last().unwrap().clone();
            let bytes = payload(number as u64, size);
            let appended = wal.append_with(record(&bytes), level).unwrap();
            expected += 1;
            let log = appended.position.log;
            let most = largest.entry(log.get()).or_insert(0);
            *most = size.max(*most);
            if log != before.log {
                // A chunk header for every block that it would have touched.
                let needed = size as u64 + 7 * (2 + size as u64 / 32_000) + OVERHEAD;
                prop_assert!(before.bytes + needed > SMALL, "rotated early: {} + {size}", before.bytes);
            }
        }
        wal.close().unwrap();
        for (name, bytes) in storage.files().into_iter().filter(|(name, _)| name.ends_with(".wal")) {
            let log: u64 = name.strip_suffix(".wal").unwrap().parse().unwrap();
            let info = wal.logs().into_iter().find(|info| info.log.get() == log).unwrap();
            let alone = info.records == 1 && largest[&log] as u64 + OVERHEAD > SMALL;
            prop_assert!(bytes.len() as u64 <= SMALL || alone, "{name} has {} bytes: {info:?}", bytes.len());
        }
        prop_assert_eq!(read_back(&storage).len(), expected);
    }
}

#[test]
fn r1_many_writers_rotate_once_where_once_is_enough() {
    within("writers that fill a log together", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = Arc::new(reopen(options(&storage).log_bytes(SMALL)).0);
        let threads: Vec<_> = (0..8)
            .map(|writer| {
                let wal = Arc::clone(&wal);
                thread::spawn(move || {
                    for number in 0..100 {
                        wal.append(record(&payload(writer * 100 + number, 4_000))).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for log in &wal.logs()[..] {
            assert!(log.bytes <= SMALL);
            // Each but the last was full: the next 4 kB record did not fit.
            assert!(log.state == LogState::Active || log.bytes + 4_000 + 2 * OVERHEAD > SMALL, "{log:?}");
        }
        assert_eq!(storage.count(Kind::Create, ".wal"), wal.logs().len());
    });
}

#[test]
fn r3_an_existing_next_file_is_an_error_and_is_not_written_over() {
    let memory = MemStorage::new();
    let wal = reopen(options(&memory).log_bytes(SMALL)).0;
    let mut acked = Acked::new();
    let bytes = payload(0, 40_000);
    note(&mut acked, wal.append(record(&bytes)).unwrap(), &bytes);
    memory.create("000002.wal").unwrap().write_at(0, b"somebody else's").unwrap();
    let logs = wal.logs();
    for _ in 0..3 {
        let Error::Io(error) = wal.rotate().unwrap_err() else { panic!("typed") };
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        assert!(error.path().ends_with("000002.wal"), "it says which: {error}");
        // A record that does not fit: the same error, nothing written.
        let files = memory.files();
        let error = wal.append(record(&bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "not poisoned: {error}");
        assert!(memory.files() == files);
        assert_eq!(wal.logs(), logs);
    }
    assert_eq!(memory.files()["000002.wal"], b"somebody else's");
    // One that fits goes on in the old log.
    let small = wal.append(record(b"small")).unwrap();
    assert_eq!(small.position.log, LogNumber::new(1));
    note(&mut acked, small, b"small");
    memory.unlink("000002.wal").unwrap();
    assert_eq!(wal.rotate().unwrap().unwrap().records, 2);
    let next = wal.append(record(b"next")).unwrap();
    assert_eq!(next.position.log, LogNumber::new(2));
    note(&mut acked, next, b"next");
    wal.close().unwrap();
    assert_holds(&read_back(&memory), &acked);
}

/// A life with rotations by size and on request; what was acknowledged, until the disk stops it.
fn live(disk: &SimStorage, acked: &mut Acked) -> Result<(), Error> {
    let recovery = options(disk).log_bytes(SMALL).recover()?;
    recovery.records().for_each(drop);
    let (wal, _) = recovery.finish()?;
    for number in 0..4_u64 {
        let bytes = payload(number, 30_000);
        note(acked, wal.append(record(&bytes))?, &bytes);
        drop(wal.submit(record(b"not waited for"))?);
        if number % 2 == 0 {
            wal.rotate()?;
        }
    }
    let bytes = payload(9, 100);
    note(acked, wal.append(record(&bytes))?, &bytes);
    Ok(())
}

#[test]
fn r3_a_crash_at_every_step_of_a_rotation_loses_nothing_and_is_no_damage() {
    for step in 0.. {
        let disk = SimStorage::new();
        let mut acked = Acked::new();
        disk.crash_after(step);
        let whole = live(&disk, &mut acked).is_ok() && !disk.is_frozen();
        let outcomes = [disk.crash_all_lost(), disk.crash_all_kept(), disk.process_crash()];
        for outcome in outcomes.into_iter().chain((0..6).map(|seed| disk.crash(seed * 1000 + step))) {
            let (wal, records, _) = reopen(options(&outcome).log_bytes(SMALL));
            assert_holds(&records, &acked);
            // And it goes on: another rotation, another open.
            let mut acked = acked.clone();
            note(&mut acked, wal.append(record(b"behind")).unwrap(), b"behind");
            wal.rotate().unwrap();
            drop(wal);
            assert_holds(&reopen(options(&outcome.crash(step))).1, &acked);
        }
        if whole {
            assert!(step > 40, "{step}");
            break;
        }
    }
}

/// Mutating operations of a rotation, on a log that is durable: those before the switch, and all.
fn steps() -> (u64, u64) {
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = open(&storage);
    wal.append(record(b"first")).unwrap();
    storage.forget();
    wal.rotate().unwrap();
    let trace: Vec<String> = storage
        .ops()
        .into_iter()
        .map(|op| if op.kind == Kind::Write { format!("write {}", op.name) } else { op.line })
        .collect();
    assert_eq!(
        trace,
        [
            "create 000002.wal",
            "sync_all 000002.wal",
            "sync_dir",
            "write CHECKPOINT",
            "sync_data CHECKPOINT",
            "write CHECKPOINT",
            "sync_data CHECKPOINT",
            // The switch, in memory. What follows is the seal.
            "write 000001.wal",
            "sync_data 000001.wal",
        ],
        "T6: the order of a rotation"
    );
    (7, 9)
}

/// What a rotation that meets this error is told.
fn kind(errno: i32) -> ErrorKind {
    if errno == ENOSPC { ErrorKind::Full } else { ErrorKind::Io }
}

#[test]
fn r4_a_failure_at_any_step_before_the_switch_leaves_the_old_log_writable_and_the_next_rotation_works() {
    let (before_the_switch, all) = steps();
    for step in 1..=all {
        for (again, number) in (0..=before_the_switch).flat_map(|again| [(again, EIO), (again, ENOSPC)]) {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let wal = open(&storage);
            let mut acked = Acked::new();
            note(&mut acked, wal.append(record(b"first")).unwrap(), b"first");
            let before = wal.logs();
            storage.fail(Which::Mutating, step, number);
            let rotated = wal.rotate();
            assert!(storage.trace().iter().any(|line| line.ends_with(&format!(" = {number}"))));
            if step <= before_the_switch {
                let error = rotated.unwrap_err();
                assert_eq!((errno(&error), error.kind()), (Some(number), kind(number)), "step {step}");
                assert_eq!(wal.logs(), before, "nothing changed in memory");
                let appended = wal.append(record(b"goes on")).unwrap();
                assert_eq!(appended.position.log, LogNumber::new(1), "in the old log");
                note(&mut acked, appended, b"goes on");
                if again > 0 {
                    // It fails once more, at whatever comes then, if it comes that far.
                    storage.fail(Which::Mutating, again, number);
                    let failed = wal.rotate().is_err();
                    storage.heal();
                    if failed {
                        note(&mut acked, wal.append(record(b"still")).unwrap(), b"still");
                    }
                }
                wal.rotate().unwrap();
            } else {
                assert_eq!(rotated.unwrap().unwrap().records, 1, "the seal is not the rotation's to fail on");
                assert_eq!(wal.logs()[0].state, LogState::Closed, "its seal is not known to be durable");
            }
            let appended = wal.append(record(b"behind")).unwrap();
            assert_eq!(appended.position.log, LogNumber::new(2));
            note(&mut acked, appended, b"behind");
            wal.rotate().unwrap().unwrap();
            note(&mut acked, wal.append(record(b"last")).unwrap(), b"last");
            if again % 2 == 0 {
                wal.close().unwrap();
            }
            drop(wal);
            for outcome in [disk.crash_all_lost(), disk.crash_all_kept(), disk.crash(step * 100 + again)] {
                assert_holds(&reopen(options(&outcome)).1, &acked);
            }
        }
    }
}

#[test]
fn r4_an_append_whose_rotation_fails_is_refused_without_a_trace_and_may_be_tried_again() {
    let (before_the_switch, _) = steps();
    for step in 1..=before_the_switch {
        for number in [EIO, ENOSPC] {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let wal = reopen(options(&storage).log_bytes(SMALL)).0;
            let mut acked = Acked::new();
            let bytes = payload(1, 40_000);
            note(&mut acked, wal.append(record(&bytes)).unwrap(), &bytes);
            let log = disk.read_file("000001.wal");
            storage.fail(Which::Mutating, step, number);
            let error = wal.append(record(&bytes)).unwrap_err();
            assert_eq!((errno(&error), error.kind()), (Some(number), kind(number)), "step {step}");
            assert!(disk.read_file("000001.wal") == log, "nothing was written");
            assert_eq!(wal.durable().index.get(), 1);
            let tried_again = wal.append(record(&bytes)).unwrap();
            assert_eq!((tried_again.index.get(), tried_again.position.log.get()), (2, 2));
            note(&mut acked, tried_again, &bytes);
            drop(wal);
            let (_, records, _) = reopen(options(&disk.crash(step)));
            assert_eq!(records.len(), 2);
            assert_holds(&records, &acked);
        }
    }
}

#[test]
fn r4_a_rotation_that_failed_at_any_step_and_was_never_tried_again_costs_nothing_at_the_next_open() {
    let (_, all) = steps();
    for step in 1..=all {
        for ending in 0..4 {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let wal = open(&storage);
            let mut acked = Acked::new();
            note(&mut acked, wal.append(record(b"first")).unwrap(), b"first");
            storage.fail_from(Which::Mutating, step, ENOSPC);
            let _ = wal.rotate();
            let _ = wal.rotate();
            storage.heal();
            if ending > 0 {
                note(&mut acked, wal.append(record(b"second")).unwrap(), b"second");
            }
            if ending > 1 {
                wal.close().unwrap();
            }
            drop(wal);
            let disk = if ending == 3 { disk.process_crash() } else { disk.crash(step) };
            let (wal, records, report) = reopen(options(&disk));
            assert_holds(&records, &acked);
            if ending > 1 && step < all - 1 {
                assert_eq!(report.verdict, Verdict::Clean);
            }
            note(&mut acked, wal.append(record(b"third")).unwrap(), b"third");
            wal.rotate().unwrap().unwrap();
            note(&mut acked, wal.append(record(b"fourth")).unwrap(), b"fourth");
            drop(wal);
            assert_holds(&reopen(options(&disk.crash_all_lost())).1, &acked);
        }
    }
}

#[test]
fn r4_a_checkpoint_write_torn_at_any_byte_during_a_rotation_costs_nothing() {
    let length = {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = open(&storage);
        wal.append(record(b"first")).unwrap();
        storage.forget();
        wal.rotate().unwrap();
        storage.ops().into_iter().find(|op| op.name == "CHECKPOINT").unwrap().bytes
    };
    for (cut, slot) in (0..=length).flat_map(|cut| [(cut, 1), (cut, 2)]) {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let wal = open(&storage);
        let mut acked = Acked::new();
        note(&mut acked, wal.append(record(b"first")).unwrap(), b"first");
        storage.tear(Which::On(Kind::Write, "CHECKPOINT"), slot, cut, EIO);
        wal.rotate().unwrap_err();
        note(&mut acked, wal.append(record(b"second")).unwrap(), b"second");
        // Torn, and it stays so.
        for outcome in [disk.crash_all_kept(), disk.crash(cut as u64)] {
            assert_holds(&reopen(options(&outcome)).1, &acked);
        }
    }
}

#[test]
fn r5_a_log_number_is_never_used_twice_not_even_after_everything_was_deleted() {
    let mut sim = SimStorage::new();
    let mut used = BTreeSet::new();
    let mut last_seq = 0;
    let mut last_index = 0;
    for round in 0..30_u64 {
        let storage = FaultyStorage::new(sim.clone());
        let (wal, records, _) = reopen(options(&storage));
        assert_eq!(records.len(), 0, "everything was flushed");
        let mut newest = SeqNum::new(0);
        for _ in 0..=round % 3 {
            let appended = wal.append(record(b"x")).unwrap();
            assert!(appended.seqs.first().get() > last_seq && appended.index.get() == last_index + 1);
            (last_seq, last_index, newest) =
                (appended.seqs.last().get(), appended.index.get(), appended.seqs.last());
            wal.rotate().unwrap().unwrap();
        }
        wal.mark_flushed(FamilyId::DEFAULT, newest).unwrap();
        let created: Vec<String> = storage
            .ops()
            .iter()
            .filter(|op| op.kind == Kind::Create && op.name.ends_with(".wal"))
            .map(|op| op.name.clone())
            .collect();
        for name in created {
            assert!(used.last().is_none_or(|last| *last < name), "{name} after {:?}", used.last());
            used.insert(name);
        }
        sim = match round % 4 {
            0 => {
                wal.close().unwrap();
                sim.process_crash()
            }
            1 => {
                wal.close().unwrap();
                sim.crash_all_lost()
            }
            2 => sim.process_crash(),
            _ => sim.crash(round),
        };
    }
    assert!(used.len() > 60);
}

#[test]
fn r5_a_file_with_a_higher_number_pushes_the_next_log_above_it() {
    let memory = MemStorage::new();
    let wal = open(&memory);
    wal.append(record(b"first")).unwrap();
    wal.close().unwrap();
    drop(wal);
    // Blank, as a rotation that died leaves it.
    memory.create("000041.wal").unwrap();
    let (wal, records, report) = reopen(options(&memory));
    assert_eq!(records.len(), 1);
    assert_eq!(report.new_log, Some(LogNumber::new(42)));
    let appended = wal.append(record(b"second")).unwrap();
    assert_eq!(appended.position.log, LogNumber::new(42));
}

#[test]
fn g4_after_an_open_every_file_but_the_new_one_is_a_closed_log_as_it_was_before() {
    for close in [true, false] {
        let storage = MemStorage::new();
        let mut before = Vec::new();
        for round in 1..5_usize {
            let wal = open(&storage);
            let logs = wal.logs();
            let files = storage.files().keys().filter(|name| name.ends_with(".wal")).count();
            assert_eq!(logs.len() - 1, files - 1, "closed logs are files - 1");
            let closed: Vec<_> = logs[..logs.len() - 1]
                .iter()
                .map(|log| (log.log, log.records, log.seqs, log.families.clone()))
                .collect();
            if close {
                assert_eq!(closed, before);
                assert!(logs[..logs.len() - 1].iter().all(|log| log.state == LogState::Sealed), "{logs:?}");
            }
            assert_eq!(logs.last().unwrap().state, LogState::Active);
            for number in 0..round as u64 {
                let list = families(&[number as u32, 7]);
                wal.append(record(&payload(number, 100)).families(&list).count(2)).unwrap();
                wal.append(record(b"more")).unwrap();
                wal.rotate().unwrap();
            }
            wal.append(record(b"tail")).unwrap();
            // The last group is not proven: an open that is no close writes it again, and it counts in the new log only.
            wal.append(record(b"unproven")).unwrap();
            if close {
                wal.close().unwrap();
            }
            before =
                wal.logs().iter().map(|log| (log.log, log.records, log.seqs, log.families.clone())).collect();
        }
        if !close {
            let wal = open(&storage);
            let records: u64 = wal.logs().iter().map(|log| log.records).sum();
            assert_eq!(records, (1..5).map(|round| 2 * round + 2).sum::<u64>(), "each is in exactly one log");
        }
    }
}

#[test]
fn r4_an_append_during_the_switch_waits_and_goes_into_the_new_log() {
    within("an append during a switch", || {
        let memory = MemStorage::new();
        let storage = FaultyStorage::new(memory.clone());
        let wal = Arc::new(open(&storage));
        let mut acked = Acked::new();
        note(&mut acked, wal.append(record(b"first")).unwrap(), b"first");
        // What comes while the next file is made still goes into the old log; the rotation itself writes and syncs it.
        let create = storage.gate(Which::On(Kind::Create, ".wal"), 1);
        let sync = storage.gate(Which::On(Kind::SyncData, "000001.wal"), 1);
        let rotation = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.rotate().unwrap().unwrap())
        };
        create.reached();
        let late = wal.submit(record(b"late")).unwrap();
        note(&mut acked, late.appended(), b"late");
        create.open();
        sync.reached();
        let during = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.append(record(b"during")).unwrap())
        };
        for _ in 0..10_000 {
            thread::yield_now();
        }
        sync.open();
        let sealed = rotation.join().unwrap();
        let during = during.join().unwrap();
        note(&mut acked, during, b"during");
        assert_eq!((sealed.records, late.wait().unwrap().position.log.get()), (2, 1));
        assert_eq!(during.position.log, LogNumber::new(2));
        wal.close().unwrap();
        assert_holds(&read_back(&memory), &acked);
    });
}

#[test]
fn a10_a_rotation_that_fails_does_not_fail_an_append_that_is_durable() {
    within("appends beside rotations that fail", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = Arc::new(open(&storage));
        wal.append(record(b"first")).unwrap();
        storage.fail_from(Which::On(Kind::Create, ".wal"), 1, ENOSPC);
        let rotate = {
            let wal: Arc<Wal> = Arc::clone(&wal);
            thread::spawn(move || (0..200).filter(|_| wal.rotate().is_err()).count())
        };
        for number in 0..200 {
            wal.append(record(&payload(number, 100))).unwrap();
        }
        assert_eq!(rotate.join().unwrap(), 200);
        assert_eq!(wal.durable().index.get(), 201);
    });
}

/// A log with a thread of its own that makes the next file ahead, and what it counts.
fn with_a_housekeeper(storage: &FaultyStorage) -> (Arc<Wal>, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let options = options(storage).log_bytes(SMALL).way(Way::Filled).recycle(2).background(true);
    let wal = metrics::with_local_recorder(&recorder, || reopen(options).0);
    let snapshotter = recorder.snapshotter();
    snapshotter.snapshot();
    (Arc::new(wal), snapshotter)
}

/// The counters since the last look.
fn counters(snapshotter: &Snapshotter) -> BTreeMap<String, u64> {
    let counters =
        snapshotter.snapshot().into_vec().into_iter().filter_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) => Some((key.key().name().to_owned(), count)),
            _ => None,
        });
    counters.collect()
}

/// Sees to it that the next log is made, by appends that ask for it. `others` syncs of CHECKPOINT were for something else.
fn have_the_next_log_made(storage: &FaultyStorage, wal: &Wal, others: usize) {
    let active = || wal.logs().last().unwrap().log.get();
    loop {
        let log = active();
        // The second one finds that the log holds a durable group, and asks.
        wal.append(record(b"one")).unwrap();
        wal.append(record(b"two")).unwrap();
        if active() == log {
            return storage.wait_for(Kind::SyncData, "CHECKPOINT", others + 2 * log as usize);
        }
    }
}

/// Leaves the log that the open began, which grows, for one that was filled, and has the next one made.
fn leave_the_first_log(storage: &FaultyStorage, wal: &Wal, others: usize) {
    wal.append(record(&payload(0, 10_000))).unwrap();
    have_the_next_log_made(storage, wal, others);
    while wal.logs().len() == 1 {
        wal.append(record(b"leaves it as soon as the other is ready")).unwrap();
    }
    have_the_next_log_made(storage, wal, others);
}

fn name_of(thread: ThreadId) -> String {
    format!("{thread:?}")
}

/// In bursts, each of less than a log, so that a rotation finds the next log made: the writers rotate because the log is full, and another thread beside
/// them because it wants to. All that a rotation needs but the groups is done by the log's own thread.
#[test]
fn r7_s15_rotations_under_load_ask_nothing_of_the_disk_but_the_writers_groups() {
    const WRITERS: usize = 8;
    const BURSTS: usize = 90;
    within("writers, rotations, and the log's own thread", || {
        let memory = MemStorage::new();
        let storage = FaultyStorage::new(memory.clone());
        let (wal, snapshotter) = with_a_housekeeper(&storage);
        let mut others = storage.count(Kind::SyncData, "CHECKPOINT");
        leave_the_first_log(&storage, &wal, others);
        let (begin, rotated) = (storage.ops().len(), counters(&snapshotter)[names::ROTATIONS]);
        assert_eq!(rotated, 1);
        let this = name_of(thread::current().id());
        let (mut appending, mut marking) = (BTreeSet::from([this]), BTreeSet::new());
        let (mut on_request, mut deleted) = (0, 0);
        for burst in 0..BURSTS {
            let rotates = burst % 3 == 2 && wal.logs().last().unwrap().bytes < SMALL / 2;
            let flushed = wal.last_seq().unwrap();
            let barrier = Arc::new(Barrier::new(WRITERS + usize::from(rotates)));
            let writers = (0..WRITERS).map(|writer| {
                let (wal, barrier) = (Arc::clone(&wal), Arc::clone(&barrier));
                thread::spawn(move || {
                    barrier.wait();
                    for number in 0..2 {
                        let bytes = payload((burst * WRITERS + writer) as u64 * 2 + number, 1_700);
                        let appended = wal.append(record(&bytes)).unwrap();
                        assert!(wal.durable() >= appended.position);
                    }
                    name_of(thread::current().id())
                })
            });
            let mut threads: Vec<_> = writers.collect();
            if rotates {
                let (wal, barrier) = (Arc::clone(&wal), Arc::clone(&barrier));
                threads.push(thread::spawn(move || {
                    barrier.wait();
                    wal.rotate().unwrap().expect("the log holds records");
                    name_of(thread::current().id())
                }));
                on_request += 1;
            }
            appending.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
            have_the_next_log_made(&storage, &wal, others);
            if burst % 10 == 9 {
                // The seals came before the next log, so what was rotated away from can be used again.
                let (before, wal) = (storage.count(Kind::SyncData, "CHECKPOINT"), Arc::clone(&wal));
                let (logs, mark) = thread::spawn(move || {
                    let marked = wal.mark_flushed(FamilyId::DEFAULT, flushed).unwrap();
                    (marked.deleted.len(), name_of(thread::current().id()))
                })
                .join()
                .unwrap();
                marking.insert(mark);
                deleted += logs;
                others += storage.count(Kind::SyncData, "CHECKPOINT") - before;
            }
        }
        let counted = counters(&snapshotter);
        let count = |name: &str| counted.get(name).copied().unwrap_or(0) as usize;
        let rotations = count(names::ROTATIONS);
        assert!(on_request >= 10 && rotations > on_request + 20, "{on_request} of {rotations} on request");
        assert_eq!(count(names::ROTATION_WAITS), 0, "each found the next log made");
        assert!(count(names::RECYCLED_LOGS) >= 10 && deleted > 20, "{deleted} logs deleted: {counted:?}");

        let mut asked = BTreeMap::<String, Vec<Op>>::new();
        for op in storage.ops().split_off(begin) {
            asked.entry(name_of(op.thread)).or_default().push(op);
        }
        asked.retain(|thread, _| !marking.contains(thread));
        let mut groups = 0;
        for ops in appending.iter().filter_map(|thread| asked.remove(thread)) {
            // One write and one sync of the same log, again and again.
            for pair in ops.chunks(2) {
                let [write, sync] = pair else { panic!("half a group: {pair:?}") };
                assert_eq!((write.kind, sync.kind), (Kind::Write, Kind::SyncData), "{pair:?}");
                assert!(write.name == sync.name && write.name.ends_with(".wal"), "{pair:?}");
                groups += 1;
            }
        }
        assert_eq!(groups, count(names::GROUPS), "a write and a sync a group, and nothing for a rotation");

        // All that is left is one thread's: it made a log for each that was used up, and sealed that.
        let [own]: [Vec<Op>; 1] =
            asked.into_values().collect::<Vec<_>>().try_into().expect("one more thread");
        let done = |kind: Kind, of: &dyn Fn(&str) -> bool| {
            own.iter().filter(|op| op.kind == kind && of(&op.name)).count()
        };
        let (log, any) = (|name: &str| name.ends_with(".wal"), |_: &str| true);
        assert_eq!(done(Kind::Create, &log) + done(Kind::Rename, &log), rotations);
        assert_eq!(done(Kind::Rename, &any), count(names::RECYCLED_LOGS));
        assert_eq!(done(Kind::SyncDir, &any), rotations, "each name is durable");
        assert_eq!(done(Kind::SyncData, &|name| name == "CHECKPOINT"), 2 * rotations, "and known");
        assert_eq!(done(Kind::SyncData, &log), rotations, "each seal");
    });
}

#[test]
fn r7_s15_a_rotation_syncs_what_nobody_has_synced_and_nothing_else() {
    within("a rotation with records that nobody waits for", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let (wal, snapshotter) = with_a_housekeeper(&storage);
        let opened = storage.count(Kind::SyncData, "CHECKPOINT");
        leave_the_first_log(&storage, &wal, opened);
        for round in 0..9 {
            have_the_next_log_made(&storage, &wal, opened);
            let log = wal.logs().last().unwrap().log;
            let level = [Durability::Synced, Durability::Written, Durability::Buffered][round % 3];
            wal.append_with(record(b"the last one"), level).unwrap();
            let before = storage.ops().len();
            wal.rotate().unwrap().unwrap();
            let mine = storage.ops().split_off(before);
            let mine: Vec<(Kind, String)> = mine
                .into_iter()
                .filter(|op| op.thread == thread::current().id())
                .map(|op| (op.kind, op.name))
                .collect();
            let drained: &[Kind] = match level {
                Durability::Synced => &[],
                Durability::Written => &[Kind::SyncData],
                _ => &[Kind::Write, Kind::SyncData],
            };
            let drained: Vec<_> =
                drained.iter().map(|kind| (*kind, format!("{:06}.wal", log.get()))).collect();
            assert_eq!(mine, drained, "{level:?}");
        }
        assert_eq!(counters(&snapshotter).get(names::ROTATION_WAITS).copied().unwrap_or(0), 0);
    });
}
