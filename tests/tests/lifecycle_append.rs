//! What an append accepts, what it refuses, what it returns, and what it says after something failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use wal_format::BLOCK_BYTES;
use wal_io::sim::SimStorage;
use wal_manager::{
    Clock, Durability, Error, ErrorKind, FamilyId, FsStorage, MemStorage, PAYLOAD_BYTES_MAX,
    RECORD_FAMILIES_MAX, Record, RecordKind, SeqNum, SeqRange, Wal, WriteBatch,
};
use wal_tests::faulty::{EFBIG, EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{
    Acked, KIND, SMALL, assert_holds, cause, errno, families, note, open, options, payload, read_back,
    record, reopen, within,
};

#[test]
fn a1_positions_and_sequence_numbers_grow_over_logs_and_reopens_and_compare_with_the_frontier() {
    let storage = MemStorage::new();
    let mut last: Option<wal_manager::Appended> = None;
    for round in 0..4 {
        let wal = reopen(options(&storage).log_bytes(SMALL)).0;
        for number in 0..20 {
            let bytes = payload(number, 9_000);
            let appended = if number % 2 == 0 {
                wal.append(record(&bytes).count(1 + number as u32)).unwrap()
            } else {
                let before = wal.durable();
                let ticket = wal.submit(record(&bytes)).unwrap();
                assert_eq!(wal.durable(), before, "accepted is not durable");
                assert!(wal.durable() < ticket.appended().position);
                ticket.wait().unwrap()
            };
            assert!(wal.durable() >= appended.position);
            assert_eq!(wal.durable().index, appended.index);
            assert_eq!(wal.last_seq(), Some(appended.seqs.last()));
            if let Some(last) = last {
                assert!(appended.position > last.position, "{} after {}", appended.position, last.position);
                assert_eq!(appended.index.get(), last.index.get() + 1);
                assert_eq!(appended.seqs.first().get(), last.seqs.last().get() + 1, "assigned without gaps");
            } else {
                assert_eq!((appended.index.get(), appended.seqs.first().get()), (1, 1));
            }
            last = Some(appended);
            if number % 7 == 6 {
                let durable = wal.durable();
                wal.rotate().unwrap();
                assert!(wal.durable() >= durable, "the frontier never goes back");
            }
        }
        if round % 2 == 0 {
            wal.close().unwrap();
        }
    }
}

#[test]
fn a1_eight_threads_leave_exactly_their_records_dense_and_ordered_over_reopens() {
    const THREADS: u64 = 8;
    const EACH: u64 = 250;
    within("eight writers", || {
        let dir = tempfile::tempdir().unwrap();
        let storage = FsStorage::create(dir.path()).map(Arc::new).unwrap();
        let mut acked = Acked::new();
        for round in 0..3 {
            let options = Wal::options_on(storage.clone()).log_bytes(SMALL);
            let (wal, records, _) = reopen(options);
            assert_eq!(records.len(), acked.len(), "exactly what was appended");
            assert_holds(&records, &acked);
            let wal = Arc::new(wal);
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let wal = Arc::clone(&wal);
                    thread::spawn(move || {
                        let mut mine = Acked::new();
                        let mut last = 0;
                        for number in 0..EACH {
                            let id = (round * THREADS + thread) * EACH + number;
                            let bytes = payload(id, 8 + (id as usize * 37) % 1500);
                            let level = [Durability::Buffered, Durability::Written, Durability::Synced]
                                [number as usize % 3];
                            let appended = wal.append_with(record(&bytes), level).unwrap();
                            assert!(appended.index.get() > last, "a thread's records keep their order");
                            last = appended.index.get();
                            note(&mut mine, appended, &bytes);
                        }
                        mine
                    })
                })
                .collect();
            for thread in threads {
                let mine = thread.join().unwrap();
                assert_eq!(mine.len() as u64, EACH);
                acked.extend(mine);
            }
            assert_eq!(acked.len() as u64, (round + 1) * THREADS * EACH, "no index was given twice");
            wal.sync().unwrap();
            assert_eq!(wal.durable().index.get(), acked.len() as u64);
            if round == 1 {
                wal.close().unwrap();
            }
        }
        let records = reopen(Wal::options_on(storage)).1;
        assert_eq!(records.len(), acked.len());
        assert_holds(&records, &acked);
    });
}

/// Everything that an append refuses, and the error.
fn refused(wal: &Wal, floor: u64) {
    let too_large = vec![1; PAYLOAD_BYTES_MAX + 1];
    let too_many: Vec<FamilyId> = (0..=RECORD_FAMILIES_MAX as u32).map(FamilyId::new).collect();
    let max = FamilyId::MAX.get();
    let check = |what: &str, record: Record<'_>, is: &dyn Fn(&Error) -> bool| {
        for level in [Durability::Buffered, Durability::Synced] {
            let error = wal.append_with(record, level).unwrap_err();
            assert!(is(&error), "{what}: {error:?}");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{what}");
        }
        let error = wal.submit(record).unwrap_err();
        assert!(is(&error), "{what}: {error:?}");
    };
    check("empty", record(b""), &|error| matches!(error, Error::EmptyRecord));
    check("empty batch", Record::from(&WriteBatch::new()), &|error| matches!(error, Error::EmptyRecord));
    check(
        "oversize",
        record(&too_large),
        &|error| matches!(error, Error::RecordTooLarge { bytes } if *bytes == PAYLOAD_BYTES_MAX + 1),
    );
    for (what, list) in [
        ("no family", vec![]),
        ("too many families", too_many),
        ("unordered", families(&[2, 1])),
        ("twice the same", families(&[1, 1])),
        ("out of range", families(&[max + 1])),
        ("one of them out of range", families(&[0, max, max + 1])),
        ("out of range, unordered", families(&[u32::MAX, 0])),
    ] {
        check(what, record(b"x").families(&list), &|error| matches!(error, Error::Families));
    }
    check("no sequence number", record(b"x").count(0), &|error| matches!(error, Error::NoSequence));
    check("none of the engine's", record(b"x").seqs(SeqNum::new(floor), 0), &|error| {
        matches!(error, Error::NoSequence)
    });
    for given in [0, 1, floor - 1] {
        check("back", record(b"x").seqs(SeqNum::new(given), 1), &|error| {
            matches!(error, Error::SequenceRegression { given: at, floor: low }
                if at.get() == given && low.get() == floor)
        });
    }
    for (first, count) in [(u64::MAX, 1), (u64::MAX - 4, 6), (u64::MAX, u32::MAX)] {
        check("beyond 64 bits", record(b"x").seqs(SeqNum::new(first), count), &|error| {
            matches!(error, Error::Exhausted("sequence"))
        });
    }
}

#[test]
fn a2_what_is_refused_writes_nothing_and_changes_nothing() {
    let memory = MemStorage::new();
    let storage = FaultyStorage::new(memory.clone());
    let wal = open(&storage);
    let first = wal.append(record(b"first").seqs(SeqNum::new(10), 5)).unwrap();
    let (files, logs, durable) = (memory.files(), wal.logs(), wal.durable());
    storage.forget();
    refused(&wal, 15);
    assert_eq!(wal.sync().unwrap(), durable);
    assert_eq!(storage.trace(), <[String; 0]>::default(), "not an operation");
    assert!(memory.files() == files, "not a byte");
    assert_eq!((wal.logs(), wal.durable()), (logs, durable));
    // And nothing is left of them in the group that comes next.
    let second = wal.append(record(b"second")).unwrap();
    assert_eq!(second.index.get(), first.index.get() + 1);
    assert_eq!(second.seqs.first().get(), 15);
    wal.close().unwrap();
    let payloads: Vec<_> = read_back(&storage).into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads, [&b"first"[..], b"second"]);
}

#[test]
fn a2_what_is_refused_in_the_middle_of_a_group_leaves_the_group_as_it_was() {
    let run = |with_refusals: bool| {
        let memory = MemStorage::new();
        let wal = open(&memory);
        for number in 0..20 {
            wal.append_with(
                record(&payload(number, 500)).seqs(SeqNum::new(100 * (number + 1)), 3),
                Durability::Buffered,
            )
            .unwrap();
            if with_refusals && number % 10 == 5 {
                refused(&wal, 100 * (number + 1) + 3);
            }
        }
        wal.sync().unwrap();
        memory.files().remove("000001.wal").unwrap()
    };
    // The header holds the time; everything behind it does not.
    let header = {
        let memory = MemStorage::new();
        usize::try_from(open(&memory).durable().offset).unwrap()
    };
    assert!(run(true)[header..] == run(false)[header..]);
}

#[test]
fn a2_engine_assigned_sequences_may_leave_gaps_and_never_go_back() {
    let storage = MemStorage::new();
    let wal = open(&storage);
    assert_eq!(wal.last_seq(), None);
    let mut expected = Vec::new();
    let mut put = |wal: &Wal, record: Record<'_>, first: u64, last: u64| {
        let appended = wal.append(record).unwrap();
        let seqs = SeqRange::between(SeqNum::new(first), SeqNum::new(last)).unwrap();
        assert_eq!(appended.seqs, seqs);
        expected.push(seqs);
    };
    put(&wal, record(b"zero is a number too").seqs(SeqNum::new(0), 1), 0, 0);
    put(&wal, record(b"a gap").seqs(SeqNum::new(5), 3), 5, 7);
    put(&wal, record(b"assigned behind it"), 8, 8);
    put(&wal, record(b"none").seqs(SeqNum::new(9), 1), 9, 9);
    put(
        &wal,
        record(b"a large gap").seqs(SeqNum::new(1 << 40), u32::MAX),
        1 << 40,
        (1 << 40) + (u64::from(u32::MAX) - 1),
    );
    let floor = (1_u64 << 40) + u64::from(u32::MAX);
    let back = |wal: &Wal| {
        for given in [0, 9, floor - 1] {
            let error = wal.append(record(b"back").seqs(SeqNum::new(given), 1)).unwrap_err();
            assert!(
                matches!(error, Error::SequenceRegression { floor: low, .. } if low.get() == floor),
                "{error:?}"
            );
        }
    };
    back(&wal);
    wal.rotate().unwrap();
    back(&wal);
    drop(wal);
    let (wal, records, _) = reopen(options(&storage));
    assert_eq!(records.iter().map(|record| record.seqs).collect::<Vec<_>>(), expected);
    back(&wal);
    assert_eq!(wal.append(record(b"on")).unwrap().seqs.first().get(), floor);
}

#[test]
fn a2_the_largest_record_is_read_back_and_one_byte_more_is_refused() {
    let storage = MemStorage::new();
    let wal = reopen(options(&storage).log_bytes(SMALL)).0;
    wal.append(record(b"before")).unwrap();
    let mut largest = vec![0x5a; PAYLOAD_BYTES_MAX + 1];
    largest[PAYLOAD_BYTES_MAX - 1] = 1;
    let widest: Vec<FamilyId> = (0..RECORD_FAMILIES_MAX as u32)
        .map(|low| FamilyId::new(FamilyId::MAX.get() - RECORD_FAMILIES_MAX as u32 + 1 + low))
        .collect();
    let kind = RecordKind::new(RecordKind::ENGINE_MAX).unwrap();
    assert!(matches!(wal.append(record(&largest)), Err(Error::RecordTooLarge { .. })));
    largest.pop();
    let given = Record::new(kind, &largest).families(&widest).count(u32::MAX);
    let appended = wal.append(given).unwrap();
    wal.append(record(b"behind")).unwrap();
    wal.close().unwrap();
    let records = read_back(&storage);
    assert_eq!(records.len(), 3);
    assert_eq!(records[1].kind, kind);
    assert_eq!(records[1].families, widest);
    assert_eq!(records[1].seqs, appended.seqs);
    assert!(records[1].payload == largest);
    assert_ne!(records[0].log, records[1].log, "it has a log of its own");
    assert_ne!(records[1].log, records[2].log, "it has a log of its own");
}

#[test]
fn a2_every_size_around_the_end_of_a_block_is_read_back() {
    // The first record ends `left` bytes before the end of its block, the second begins there and ends around the end of the next.
    for left in 0..40_usize {
        let storage = MemStorage::new();
        let wal = open(&storage);
        let start = usize::try_from(wal.durable().offset).unwrap();
        let one = usize::try_from(wal.append(record(&[1])).unwrap().position.offset).unwrap() - start;
        let first = BLOCK_BYTES - start - 2 * one - left + 1;
        let mut acked = Acked::new();
        let bytes = payload(1, first);
        let appended = wal.append_with(record(&bytes), Durability::Buffered).unwrap();
        note(&mut acked, appended, &bytes);
        for size in (1..40).chain(BLOCK_BYTES - 60..BLOCK_BYTES + 10) {
            let bytes = payload(size as u64, size);
            let level = if size % 3 == 0 { Durability::Written } else { Durability::Buffered };
            note(&mut acked, wal.append_with(record(&bytes), level).unwrap(), &bytes);
            if size % 17 == 0 {
                wal.sync().unwrap();
            }
        }
        wal.sync().unwrap();
        drop(wal);
        let records = reopen(options(&storage)).1;
        assert_eq!(records.len(), acked.len() + 1, "left {left}");
        assert_holds(&records, &acked);
    }
}

#[derive(Clone, Debug)]
struct Given {
    kind: u16,
    families: Vec<u32>,
    gap: Option<u64>,
    count: u32,
    size: usize,
    level: Durability,
    rotate: bool,
}

fn given() -> impl Strategy<Value = Given> {
    let size = prop_oneof![
        4 => 1_usize..300,
        2 => BLOCK_BYTES - 80..BLOCK_BYTES + 80,
        1 => 2 * BLOCK_BYTES - 80..2 * BLOCK_BYTES + 80,
        1 => 1_usize..200_000,
    ];
    let family = prop_oneof![3 => 0_u32..4, 1 => 0..=FamilyId::MAX.get()];
    let families = prop_oneof![
        8 => btree_set(family, 1..5),
        1 => btree_set(0..=FamilyId::MAX.get(), RECORD_FAMILIES_MAX),
    ];
    let count = prop_oneof![4 => 1_u32..5, 1 => any::<u32>().prop_map(|count| count.max(1))];
    let level = prop_oneof![Just(Durability::Buffered), Just(Durability::Written), Just(Durability::Synced)];
    let gap = proptest::option::of(prop_oneof![0_u64..3, 0_u64..1 << 40]);
    let flag = proptest::bool::weighted(0.1);
    (1..=RecordKind::ENGINE_MAX, families, gap, count, size, level, flag).prop_map(
        |(kind, families, gap, count, size, level, rotate)| Given {
            kind,
            families: families.into_iter().collect(),
            gap,
            count,
            size,
            level,
            rotate,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a2_whatever_append_accepts_recovery_reads(
        lives in vec((vec(given(), 1..25), any::<bool>(), any::<bool>()), 1..4),
    ) {
        let storage = MemStorage::new();
        let mut expected = Vec::new();
        for (records, small, close) in &lives {
            let log_bytes = if *small { SMALL } else { 1 << 30 };
            let wal = reopen(options(&storage).log_bytes(log_bytes)).0;
            for given in records {
                let bytes = payload(expected.len() as u64, given.size);
                let families = families(&given.families);
                let kind = RecordKind::new(given.kind).unwrap();
                let mut record = Record::new(kind, &bytes).families(&families).count(given.count);
                if let Some(gap) = given.gap {
                    let next = wal.last_seq().map_or(0, |last| last.get() + 1);
                    record = record.seqs(SeqNum::new(next + gap), given.count);
                }
                let appended = wal.append_with(record, given.level).unwrap();
                expected.push((appended.index, appended.seqs, kind, families.clone(), bytes));
                if given.rotate {
                    wal.rotate().unwrap();
                }
            }
            if *close {
                wal.close().unwrap();
            } else {
                wal.sync().unwrap();
            }
        }
        let (_, records, _) = reopen(options(&storage));
        prop_assert_eq!(records.len(), expected.len());
        for (record, (index, seqs, kind, families, payload)) in records.into_iter().zip(expected) {
            prop_assert_eq!(record.index, index);
            prop_assert_eq!(record.seqs, seqs);
            prop_assert_eq!(record.kind, kind);
            prop_assert_eq!(record.families, families);
            prop_assert!(record.payload == payload);
        }
    }
}

#[test]
fn a5_torn_write_at_every_byte_loses_no_later_ack() {
    // `filler` puts the torn group across the end of a block; without it it lies inside one.
    for (filler, step) in [(None, 1), (Some(BLOCK_BYTES - 500), 3)] {
        for (torn_groups, cut) in (0..).step_by(step).enumerate() {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let wal = open(&storage);
            let mut acked = Acked::new();
            if let Some(filler) = filler {
                let bytes = payload(0, filler);
                note(&mut acked, wal.append(record(&bytes)).unwrap(), &bytes);
            }
            for number in 1..4 {
                let bytes = payload(number, 40);
                note(&mut acked, wal.append(record(&bytes)).unwrap(), &bytes);
            }
            let tickets: Vec<_> =
                (10..14).map(|number| wal.submit(record(&payload(number, 90))).unwrap()).collect();
            let group = tickets.last().unwrap().appended().position.offset - wal.durable().offset;
            if cut as u64 > group {
                assert!(torn_groups > 100);
                break;
            }
            storage.tear(Which::On(Kind::Write, ".wal"), 1, cut, EIO);
            for ticket in &tickets {
                assert_eq!(errno(&ticket.wait().unwrap_err()), Some(EIO));
            }
            storage.forget();
            for number in 20..25 {
                let error = wal.append(record(&payload(number, 30))).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Poisoned, "no later acknowledgement");
            }
            assert!(wal.rotate().is_err() && wal.sync().is_err());
            assert_eq!(wal.durable().index.get(), acked.len() as u64);
            assert_eq!(storage.trace(), <[String; 0]>::default(), "a file that failed is not touched again");
            drop((wal, tickets));
            // The process starts again; then the power goes, too.
            let wal = open(&disk);
            let bytes = payload(99, 60);
            note_behind(&mut acked, &wal, &bytes);
            drop(wal);
            let (_, records, _) = reopen(options(&disk.crash_all_lost()));
            assert_holds(&records, &acked);
        }
    }
}

/// Appends behind whatever recovery found.
fn note_behind(acked: &mut Acked, wal: &Wal, bytes: &[u8]) {
    let appended = wal.append(record(bytes)).unwrap();
    assert!(acked.keys().all(|index| *index < appended.index.get()), "an acknowledged index is given again");
    note(acked, appended, bytes);
}

#[test]
fn a6_after_one_failed_sync_nothing_succeeds_until_the_log_is_opened_again() {
    for errno_given in [EIO, EFBIG] {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let wal = open(&storage);
        let mut acked = Acked::new();
        note(&mut acked, wal.append(record(b"acknowledged")).unwrap(), b"acknowledged");
        let waiting = wal.submit(record(b"in the group that fails")).unwrap();
        storage.fail(Which::Kind(Kind::SyncData), 1, errno_given);
        assert_eq!(errno(&wal.append(record(b"fails")).unwrap_err()), Some(errno_given));
        storage.forget();
        // The disk is fine again; the log is not.
        assert_eq!(errno(&waiting.wait().unwrap_err()), Some(errno_given));
        for _ in 0..10 {
            for level in [Durability::Buffered, Durability::Written, Durability::Synced] {
                assert_eq!(errno(&wal.append_with(record(b"later"), level).unwrap_err()), Some(errno_given));
            }
            assert_eq!(errno(&wal.sync().unwrap_err()), Some(errno_given));
            assert_eq!(errno(&wal.rotate().unwrap_err()), Some(errno_given));
        }
        assert_eq!(wal.durable().index.get(), 1);
        assert_eq!(storage.count(Kind::Write, ".wal") + storage.count(Kind::SyncData, ".wal"), 0, "no retry");
        assert_eq!(errno(&wal.close().unwrap_err()), Some(errno_given));
        drop(wal);
        let wal = open(&storage);
        note_behind(&mut acked, &wal, b"after the reopen");
        drop(wal);
        assert_holds(&reopen(options(&disk.crash_all_lost())).1, &acked);
    }
}

#[test]
fn a6_what_the_cache_still_shows_after_a_failed_sync_is_not_believed() {
    // The simulated disk drops what was pending when a sync fails: reads still show it, no later sync makes it durable.
    let disk = SimStorage::new();
    let wal = open(&disk);
    let mut acked = Acked::new();
    note(&mut acked, wal.append(record(b"acknowledged")).unwrap(), b"acknowledged");
    disk.fail("fail syncdata #1 of *.wal with EIO".parse().unwrap());
    wal.append(record(b"only in the cache")).unwrap_err();
    drop(wal);
    disk.clear_faults();
    let disk = disk.process_crash();
    let (wal, shown, _) = reopen(options(&disk));
    // Whatever this recovery handed out, and what is appended behind it, survives a power cut.
    for record in &shown {
        acked.insert(record.index.get(), (record.seqs.first(), record.payload.to_vec()));
    }
    assert_eq!(shown.len(), 2, "the cache does show it");
    note_behind(&mut acked, &wal, b"behind");
    drop(wal);
    assert_holds(&reopen(options(&disk.crash_all_lost())).1, &acked);
}

#[test]
fn a9_every_waiter_gets_the_cause_and_may_keep_it() {
    within("waiters of one failure", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = Arc::new(open(&storage));
        let gate = storage.gate(Which::Kind(Kind::SyncData), 1);
        let waiter = |number: u64| {
            let wal = Arc::clone(&wal);
            let ticket = wal.submit(record(&payload(number, 20))).unwrap();
            thread::spawn(move || ticket.wait().unwrap_err())
        };
        let mut waiters = vec![waiter(0)];
        gate.reached();
        waiters.extend((1..16).map(waiter));
        gate.open_to_fail(EIO);
        let errors: Vec<Error> = waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect();
        for error in &errors {
            let copy = error.clone();
            let Error::Io(io) = cause(&copy) else { panic!("{copy:?}") };
            assert_eq!(io.raw_os_error(), Some(EIO));
            assert_eq!(io.operation(), wal_io::Operation::SyncData);
            assert!(io.path().ends_with("000001.wal"));
            assert_eq!(copy.to_string(), errors[0].to_string());
        }
        assert_eq!(wal.append(record(b"later")).unwrap_err().to_string(), errors[0].to_string());
    });
}

#[test]
fn z2_sequence_numbers_that_are_used_up_are_a_typed_error_and_nothing_is_written() {
    let memory = MemStorage::new();
    let wal = open(&memory);
    wal.append(record(b"early")).unwrap();
    let near = u64::MAX - 3;
    wal.append(record(b"near the end").seqs(SeqNum::new(near), 2)).unwrap();
    let files = memory.files();
    for refused in
        [record(b"x").count(2), record(b"x").count(u32::MAX), record(b"x").seqs(SeqNum::new(u64::MAX), 1)]
    {
        assert!(matches!(wal.append(refused), Err(Error::Exhausted("sequence"))));
    }
    assert!(memory.files() == files);
    let last = wal.append(record(b"the last")).unwrap();
    assert_eq!(last.seqs.last().get(), u64::MAX - 1);
    let used_up = |wal: &Wal| {
        let error = wal.append(record(b"one more")).unwrap_err();
        assert!(matches!(error, Error::Exhausted("sequence")), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    };
    used_up(&wal);
    // What can still be done is done: rotate, mark, delete, close, open.
    wal.rotate().unwrap().unwrap();
    used_up(&wal);
    drop(wal);
    let (wal, records, _) = reopen(options(&memory));
    assert_eq!(records.len(), 3);
    used_up(&wal);
    wal.mark_flushed(FamilyId::DEFAULT, last.seqs.last()).unwrap();
    wal.close().unwrap();
    assert_eq!(read_back(&memory), []);
}

#[test]
fn z2_log_numbers_that_are_used_up_are_a_typed_error_and_nothing_is_changed() {
    let memory = MemStorage::new();
    let wal = open(&memory);
    wal.append(record(b"kept")).unwrap();
    wal.close().unwrap();
    drop(wal);
    let mut files = memory.files();
    files.insert(format!("{}.wal", u64::MAX), Vec::new());
    let memory = MemStorage::from_files(files.clone());
    let error = options(&memory).recover().unwrap_err();
    assert!(matches!(error, Error::Exhausted("log")), "{error:?}");
    assert!(memory.files() == files);
}

#[test]
fn z3_a_storage_that_panics_leaves_a_typed_error_behind() {
    for (which, name) in
        [(Which::On(Kind::Write, ".wal"), "a write"), (Which::On(Kind::SyncData, ".wal"), "a sync")]
    {
        within(name, move || {
            let memory = MemStorage::new();
            let storage = FaultyStorage::new(memory.clone());
            let wal = Arc::new(open(&storage));
            let mut acked = Acked::new();
            note(&mut acked, wal.append(record(b"acknowledged")).unwrap(), b"acknowledged");
            storage.panic_at(which, 1);
            let other = Arc::clone(&wal);
            assert!(thread::spawn(move || other.append(record(b"panics")).map(drop)).join().is_err());
            for error in [
                wal.append(record(b"later")).map(drop),
                wal.sync().map(drop),
                wal.rotate().map(drop),
                wal.close(),
            ] {
                let error = error.unwrap_err();
                assert!(matches!(cause(&error), Error::Panicked), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Poisoned);
            }
            drop(wal);
            assert_holds(&reopen(options(&memory)).1, &acked);
        });
    }
}

#[test]
fn z3_a_storage_that_panics_beside_the_commit_path_does_not_stop_it() {
    // In a rotation before the switch, in the seal, in CHECKPOINT, in a deletion: nothing acknowledged depends on it.
    for (which, nth) in [
        (Which::On(Kind::Create, ".wal"), 1),
        (Which::On(Kind::SyncAll, ".wal"), 1),
        (Which::Kind(Kind::SyncDir), 1),
        (Which::On(Kind::Write, "CHECKPOINT"), 1),
        (Which::On(Kind::Write, "CHECKPOINT"), 2),
        (Which::On(Kind::SyncData, "CHECKPOINT"), 1),
        (Which::On(Kind::SyncData, "CHECKPOINT"), 2),
        (Which::On(Kind::SyncData, "CHECKPOINT"), 3),
        (Which::On(Kind::SyncData, "CHECKPOINT"), 4),
        // The rotation's sync finds everything durable, so the first write and sync are the seal's.
        (Which::On(Kind::Write, "000001.wal"), 1),
        (Which::On(Kind::SyncData, "000001.wal"), 1),
        (Which::Kind(Kind::Unlink), 1),
        (Which::Kind(Kind::SyncDir), 2),
    ] {
        let name = format!("{which:?} {nth}");
        within(&name.clone(), move || {
            let memory = MemStorage::new();
            let storage = FaultyStorage::new(memory.clone());
            let wal = Arc::new(open(&storage));
            let mut acked = Acked::new();
            let old = wal.append(record(b"old")).unwrap();
            storage.panic_at(which, nth);
            let run = |code: fn(&Wal, SeqNum)| {
                let (wal, seq) = (Arc::clone(&wal), old.seqs.last());
                thread::spawn(move || code(&wal, seq)).join().is_err()
            };
            let mut panicked = run(|wal, _| drop(wal.rotate().unwrap()));
            let new = wal.append(record(b"new")).unwrap();
            panicked |= run(|wal, seq| drop(wal.mark_flushed(FamilyId::DEFAULT, seq).unwrap()));
            assert!(panicked, "{name} was not reached");
            storage.heal();
            // Everything works, and what was left half-done is done now.
            wal.rotate().unwrap_or_else(|error| panic!("{name}: {error}"));
            note(&mut acked, wal.append(record(b"newer")).unwrap(), b"newer");
            wal.rotate().unwrap_or_else(|error| panic!("{name}: {error}"));
            note(&mut acked, wal.append(record(b"newest")).unwrap(), b"newest");
            wal.mark_flushed(FamilyId::DEFAULT, new.seqs.last()).unwrap();
            assert!(!memory.files().contains_key("000001.wal"), "{name}: {:?}", wal.logs());
            wal.close().unwrap_or_else(|error| panic!("{name}: {error}"));
            drop(wal);
            assert_holds(&read_back(&memory), &acked);
        });
    }
}

/// Panics when it is asked for the time so many times more; at 0, never.
#[derive(Debug, Default)]
struct FragileClock(AtomicU64);

impl Clock for FragileClock {
    fn wall(&self) -> Duration {
        let left = self.0.load(Ordering::SeqCst);
        self.0.store(left.saturating_sub(1), Ordering::SeqCst);
        assert!(left != 1, "the clock panics, as the test asked");
        Duration::from_secs(1)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A rotation asks for the time beside its work and under the log's mutex. Beside, the log goes on; under it, nobody knows what was half-done.
#[test]
fn z3_a_mutex_that_a_panic_poisoned_is_a_typed_error() {
    within("a poisoned mutex", || {
        let mut poisoned = 0;
        for call in 1.. {
            let memory = MemStorage::new();
            let clock = Arc::new(FragileClock::default());
            let wal = Arc::new(reopen(options(&memory).clock(clock.clone())).0);
            let mut acked = Acked::new();
            note(&mut acked, wal.append(record(b"acknowledged")).unwrap(), b"acknowledged");
            clock.0.store(call, Ordering::SeqCst);
            let other = Arc::clone(&wal);
            let panicked = thread::spawn(move || other.rotate().map(drop)).join().is_err();
            clock.0.store(0, Ordering::SeqCst);
            match wal.append(record(b"later")) {
                Ok(appended) => note(&mut acked, appended, b"later"),
                Err(error) => {
                    poisoned += 1;
                    assert!(panicked && matches!(cause(&error), Error::Panicked), "{call}: {error:?}");
                    for error in [wal.sync().map(drop), wal.rotate().map(drop), wal.close()] {
                        let error = error.unwrap_err();
                        assert!(matches!(cause(&error), Error::Panicked), "{call}: {error:?}");
                    }
                }
            }
            let _ = (wal.durable(), wal.logs(), wal.last_seq());
            drop(wal);
            assert_holds(&reopen(options(&memory)).1, &acked);
            if !panicked {
                break;
            }
        }
        assert!(poisoned > 0, "no rotation asked for the time under the mutex");
    });
}

#[test]
fn f6_the_engines_kinds_go_through_and_the_others_are_refused() {
    assert_eq!(RecordKind::new(0).unwrap_err().kind, 0);
    assert!(RecordKind::new(RecordKind::ENGINE_MAX + 1).is_err());
    let storage = MemStorage::new();
    let wal = open(&storage);
    wal.append(Record::new(KIND, b"an engine's")).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"key", b"value").unwrap();
    wal.append(&batch).unwrap();
    drop(wal);
    let kinds: Vec<_> = reopen(options(&storage)).1.into_iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [KIND, RecordKind::BATCH]);
}
