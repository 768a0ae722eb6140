//! Which logs go, when, in which order, and what a failed unlink or a crash in between costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use wal_format::checkpoint::FAMILIES_MAX;
use wal_io::sim::SimStorage;
use wal_manager::{
    Deletion, Durability, Error, ErrorKind, FamilyId, LogNumber, LogState, MemStorage, RecoveryMode, SeqNum,
    Verdict, Wal,
};
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{
    Acked, assert_holds, errno, families, note, open, options, payload, read_back, record, reopen, within,
};

const DEFAULT: FamilyId = FamilyId::DEFAULT;

fn numbers(deletion: &Deletion) -> Vec<u64> {
    deletion.deleted.iter().map(|log| log.get()).collect()
}

fn files(storage: &MemStorage) -> Vec<String> {
    storage.files().into_keys().filter(|name| name.ends_with(".wal")).collect()
}

/// `logs` closed logs of one record each, and an active one with a record that is durable.
fn fill(wal: &Wal, logs: u64) -> Vec<SeqNum> {
    let mut seqs = Vec::new();
    for number in 0..=logs {
        seqs.push(wal.append(record(&payload(number, 50))).unwrap().seqs.last());
        if number < logs {
            wal.rotate().unwrap().unwrap();
        }
    }
    seqs
}

#[test]
fn g1_a_log_goes_when_its_last_sequence_number_is_flushed_and_not_before() {
    let storage = MemStorage::new();
    let wal = open(&storage);
    let list = families(&[0, 1]);
    let first = wal.append(record(b"first").families(&list).count(5)).unwrap().seqs.last();
    let before = wal.append(record(b"before").families(&list)).unwrap().seqs.last();
    let last = wal.append(record(b"a").families(&list).count(10)).unwrap().seqs.last();
    wal.rotate().unwrap();
    wal.append(record(b"b")).unwrap();
    assert_eq!(numbers(&wal.mark_flushed(DEFAULT, first).unwrap()), [0; 0]);
    assert_eq!(numbers(&wal.mark_flushed(DEFAULT, last).unwrap()), [0; 0], "family 1 is not flushed");
    assert_eq!(
        numbers(&wal.mark_flushed(FamilyId::new(1), before).unwrap()),
        [0; 0],
        "one record is not flushed"
    );
    assert_eq!(files(&storage).len(), 2);
    let deletion = wal.mark_flushed(FamilyId::new(1), last).unwrap();
    assert_eq!(numbers(&deletion), [1]);
    assert!(deletion.bytes > 0 && deletion.retry == 0);
    assert_eq!(files(&storage), ["000002.wal"]);
    assert_eq!(wal.flushed(DEFAULT), Some(last));
    assert_eq!(wal.flushed(FamilyId::new(1)), Some(last));
    assert_eq!(wal.flushed(FamilyId::new(2)), None);
}

#[test]
fn g2_the_active_log_never_goes_however_much_is_flushed() {
    let storage = MemStorage::new();
    let wal = open(&storage);
    for round in 0..10_u64 {
        let seq = wal.append(record(&payload(round, 20))).unwrap().seqs.last();
        let active = wal.logs().last().unwrap().log;
        for _ in 0..2 {
            wal.mark_flushed(DEFAULT, seq).unwrap();
            assert_eq!(wal.logs().last().unwrap().log, active);
            assert!(files(&storage).contains(&format!("{:06}.wal", active.get())));
        }
        if round % 3 == 0 {
            wal.rotate().unwrap();
            let active = wal.logs().last().unwrap().clone();
            assert_eq!((active.records, active.state), (0, LogState::Active));
            wal.mark_flushed(DEFAULT, seq).unwrap();
            assert!(files(&storage).contains(&format!("{:06}.wal", active.log.get())), "empty, and active");
        }
    }
    drop(wal);
    assert_eq!(reopen(options(&storage)).1, []);
}

#[test]
fn g2_a_flushed_log_behind_an_unflushed_one_stays_so_that_what_is_left_has_no_gap() {
    let storage = MemStorage::new();
    let wal = open(&storage);
    let (one, two) = (families(&[1]), families(&[2]));
    let pinned = wal.append(record(b"pinned").families(&one)).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"flushed").families(&two)).unwrap();
    wal.rotate().unwrap();
    let last = wal.append(record(b"active").families(&two)).unwrap();
    assert_eq!(numbers(&wal.mark_flushed(two[0], last.seqs.last()).unwrap()), [0; 0]);
    assert_eq!(files(&storage), ["000001.wal", "000002.wal", "000003.wal"]);
    let replayed = reopen(options(&MemStorage::from_files(storage.files()))).1;
    assert_eq!(replayed.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [&b"pinned"[..]]);
    assert_eq!(numbers(&wal.mark_flushed(one[0], pinned.seqs.last()).unwrap()), [1, 2]);
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        families: Vec<u32>,
        count: u32,
        level: Durability,
    },
    Rotate,
    /// Marks some families up to a place between what is flushed and what was appended.
    Mark(Vec<(u32, u8)>),
    Reopen {
        close: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let level = prop_oneof![Just(Durability::Buffered), Just(Durability::Written), Just(Durability::Synced)];
    prop_oneof![
        6 => (btree_set(0_u32..4, 1..4), 1_u32..6, level).prop_map(|(families, count, level)| {
            Step::Append { families: families.into_iter().collect(), count, level }
        }),
        3 => Just(Step::Rotate),
        4 => vec((0_u32..4, any::<u8>()), 1..4).prop_map(Step::Mark),
        1 => any::<bool>().prop_map(|close| Step::Reopen { close }),
    ]
}

/// What was appended: index, families, last sequence number.
#[derive(Default)]
struct Model {
    records: Vec<(u64, Vec<u32>, u64)>,
    flushed: BTreeMap<u32, u64>,
}

impl Model {
    fn is_flushed(&self, families: &[u32], last: u64) -> bool {
        families.iter().all(|family| self.flushed.get(family).is_some_and(|through| *through >= last))
    }

    fn unflushed(&self) -> BTreeSet<u64> {
        let unflushed = self.records.iter().filter(|(_, families, last)| !self.is_flushed(families, *last));
        unflushed.map(|(index, ..)| *index).collect()
    }

    /// Compares it with the bytes on the disk.
    fn check(&self, wal: &Wal, storage: &MemStorage) {
        wal.sync().unwrap();
        // A mark that came before the active log had a durable byte spared the log before it; this makes up for it.
        wal.mark_flushed_all(&[]).unwrap();
        let inspection = options(storage).mode(RecoveryMode::Strict).inspect().unwrap();
        assert!(inspection.report().findings.is_empty(), "{:?}", inspection.report().findings);
        let on_disk: Vec<_> = inspection.records().collect::<Result<_, _>>().unwrap();
        let indices: BTreeSet<u64> = on_disk.iter().map(|record| record.index.get()).collect();
        let unflushed = self.unflushed();
        assert!(unflushed.is_subset(&indices), "a record that is not flushed was deleted");
        let mut needed: BTreeMap<u64, bool> = wal.logs().iter().map(|info| (info.log.get(), false)).collect();
        for record in &on_disk {
            let needed = needed.get_mut(&record.log.get()).expect("every record is in a log that is known");
            *needed |= unflushed.contains(&record.index.get());
        }
        let active = wal.logs().last().unwrap().log;
        let on_disk: BTreeSet<String> = files(storage).into_iter().collect();
        let known: BTreeSet<String> = needed.keys().map(|log| format!("{log:06}.wal")).collect();
        assert_eq!(on_disk, known, "the files are the logs");
        // What is flushed does go: the oldest log is needed, or active, or holds the frontier.
        let (oldest, is_needed) = needed.first_key_value().unwrap();
        assert!(
            *is_needed || *oldest == active.get() || *oldest == wal.durable().log.get(),
            "log {oldest} is still there: {:?}",
            wal.logs()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn g2_no_log_with_an_unflushed_record_is_ever_deleted_and_flushed_ones_go(steps in vec(step(), 1..80)) {
        let storage = MemStorage::new();
        let mut model = Model::default();
        let mut wal = open(&storage);
        for step in steps {
            match step {
                Step::Append { families: list, count, level } => {
                    let ids = families(&list);
                    let bytes = payload(model.records.len() as u64, 30);
                    let appended = wal.append_with(record(&bytes).families(&ids).count(count), level).unwrap();
                    model.records.push((appended.index.get(), list, appended.seqs.last().get()));
                }
                Step::Rotate => drop(wal.rotate().unwrap()),
                Step::Mark(marks) => {
                    let newest = wal.last_seq().map_or(0, SeqNum::get);
                    let mut given = Vec::new();
                    for (family, part) in marks {
                        let from = model.flushed.get(&family).copied().unwrap_or(0);
                        let to = if part > 128 { newest } else { from + (newest - from) * u64::from(part) / 128 };
                        // K3: the end of a record.
                        let to = model.records.iter().map(|(.., last)| *last).filter(|last| *last <= to).max();
                        let to = to.unwrap_or(0);
                        if newest > 0 {
                            model.flushed.insert(family, to);
                            given.push((FamilyId::new(family), SeqNum::new(to)));
                        }
                    }
                    let deletion = wal.mark_flushed_all(&given).unwrap();
                    prop_assert!(deletion.deleted.is_sorted() && deletion.retry == 0);
                }
                Step::Reopen { close } => {
                    if close {
                        wal.close().unwrap();
                    } else {
                        wal.sync().unwrap();
                    }
                    drop(wal);
                    let (opened, records, _) = reopen(options(&storage));
                    let replayed: BTreeSet<u64> = records.iter().map(|record| record.index.get()).collect();
                    prop_assert_eq!(replayed, model.unflushed(), "replay is what is not flushed");
                    wal = opened;
                    wal.mark_flushed_all(&[]).unwrap();
                }
            }
            model.check(&wal, &storage);
        }
        // In the end everything is flushed, and everything goes but the active log.
        wal.rotate().unwrap();
        wal.append(record(b"last")).unwrap();
        let newest = wal.last_seq().unwrap();
        let all: Vec<_> = (0..4).map(|family| (FamilyId::new(family), newest)).collect();
        wal.mark_flushed_all(&all).unwrap();
        prop_assert_eq!(wal.logs().len(), 1);
        prop_assert_eq!(files(&storage).len(), 1);
    }
}

#[test]
fn g5_a_failed_unlink_keeps_a_contiguous_suffix_is_tried_again_and_fails_no_append() {
    const LOGS: u64 = 6;
    for nth in 1..=LOGS {
        for done_all_the_same in [false, true] {
            let memory = MemStorage::new();
            let storage = FaultyStorage::new(memory.clone());
            let wal = open(&storage);
            let seqs = fill(&wal, LOGS);
            storage.forget();
            if done_all_the_same {
                storage.fail_after_doing(Which::Kind(Kind::Unlink), nth, EIO);
            } else {
                storage.fail(Which::Kind(Kind::Unlink), nth, EIO);
            }
            let deletion = wal.mark_flushed(DEFAULT, seqs[LOGS as usize - 1]).unwrap();
            assert_eq!(numbers(&deletion), (1..nth).collect::<Vec<_>>(), "oldest first, and no further");
            assert_eq!(deletion.retry as u64, LOGS + 1 - nth);
            let first = if done_all_the_same { nth + 1 } else { nth };
            let left: Vec<String> = (first..=LOGS + 1).map(|log| format!("{log:06}.wal")).collect();
            assert_eq!(files(&memory), left, "no gap");
            let unlinks = storage.ops().iter().filter(|op| op.kind == Kind::Unlink).count() as u64;
            assert_eq!(unlinks, nth);
            wal.append(record(b"goes on")).unwrap();
            wal.rotate().unwrap().unwrap();
            wal.append(record(b"goes on")).unwrap();
            // The next call tries again, whatever it marks.
            storage.forget();
            let deletion = wal.mark_flushed_all(&[]).unwrap();
            assert_eq!(numbers(&deletion), (nth..=LOGS).collect::<Vec<_>>());
            assert_eq!(deletion.retry, 0);
            assert_eq!(storage.trace().last().unwrap(), "sync_dir");
            assert_eq!(files(&memory).len(), 2);
        }
    }
}

#[test]
fn g5_what_could_not_be_unlinked_goes_at_the_next_open_and_is_never_replayed() {
    let memory = MemStorage::new();
    let storage = FaultyStorage::new(memory.clone());
    let wal = open(&storage);
    let seqs = fill(&wal, 4);
    storage.fail_from(Which::Kind(Kind::Unlink), 2, EIO);
    assert_eq!(wal.mark_flushed(DEFAULT, seqs[3]).unwrap().retry, 3);
    wal.close().unwrap();
    drop(wal);
    assert_eq!(files(&memory).len(), 4);
    // The next open cannot remove them either; that is no failure of the open.
    let (wal, records, _) = reopen(options(&storage));
    assert_eq!(records.len(), 1);
    assert_eq!(files(&memory).len(), 5);
    storage.heal();
    wal.mark_flushed_all(&[]).unwrap();
    assert_eq!(files(&memory).len(), 2, "the last record's, and the active one");
    drop(wal);
    assert_eq!(reopen(options(&storage)).1.len(), 1);
}

#[test]
fn g5_a_failed_sync_of_the_directory_is_made_up_for() {
    let disk = SimStorage::new();
    let storage = FaultyStorage::new(disk.clone());
    let wal = open(&storage);
    let seqs = fill(&wal, 3);
    storage.fail(Which::Kind(Kind::SyncDir), 1, EIO);
    assert_eq!(numbers(&wal.mark_flushed(DEFAULT, seqs[1]).unwrap()), [1, 2]);
    // Names that come back after a power cut are below CHECKPOINT's lowest: removed, not replayed.
    let back = disk.crash_all_lost();
    assert!(back.file_names().contains(&"000001.wal".to_owned()), "the test is about names that come back");
    let (_, records, report) = reopen(options(&back));
    assert_eq!(records.len(), 2);
    assert!(report.removed.contains(&"000001.wal".to_owned()), "{:?}", report.removed);
    assert!(!back.file_names().contains(&"000001.wal".to_owned()));
}

#[test]
fn g5_the_directory_is_synced_at_the_next_call_when_it_could_not_be() {
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = open(&storage);
    let seqs = fill(&wal, 2);
    storage.fail(Which::Kind(Kind::SyncDir), 1, EIO);
    wal.mark_flushed(DEFAULT, seqs[0]).unwrap();
    storage.forget();
    wal.mark_flushed_all(&[]).unwrap();
    assert_eq!(storage.count(Kind::SyncDir, ""), 1);
    storage.forget();
    wal.mark_flushed_all(&[]).unwrap();
    assert_eq!(storage.count(Kind::SyncDir, ""), 0, "once it has succeeded that is enough");
}

#[test]
fn k2_both_slots_of_checkpoint_are_synced_before_the_first_unlink_and_the_directory_after_the_last() {
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = open(&storage);
    let seqs = fill(&wal, 3);
    storage.forget();
    wal.mark_flushed(DEFAULT, seqs[1]).unwrap();
    let mut slots = BTreeSet::new();
    let trace: Vec<String> = storage
        .ops()
        .into_iter()
        .map(|op| {
            if op.kind != Kind::Write {
                return op.line;
            }
            slots.insert(op.line.split([' ', '+']).nth(2).unwrap().to_owned());
            format!("write {}", op.name)
        })
        .collect();
    assert_eq!(
        trace,
        [
            "write CHECKPOINT",
            "sync_data CHECKPOINT",
            "write CHECKPOINT",
            "sync_data CHECKPOINT",
            "unlink 000001.wal",
            "unlink 000002.wal",
            "sync_dir",
        ]
    );
    assert_eq!(slots.len(), 2, "two different slots");
}

#[test]
fn k2_a_failed_checkpoint_deletes_nothing_and_the_same_slot_is_written_first_again() {
    for (kind, nth) in [(Kind::Write, 1), (Kind::SyncData, 1), (Kind::Write, 2), (Kind::SyncData, 2)] {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let wal = open(&storage);
        let seqs = fill(&wal, 2);
        storage.forget();
        storage.fail(Which::On(kind, "CHECKPOINT"), nth, EIO);
        let error = wal.mark_flushed(DEFAULT, seqs[1]).unwrap_err();
        assert_eq!((errno(&error), error.kind()), (Some(EIO), ErrorKind::Io));
        assert_eq!(storage.count(Kind::Unlink, ""), 0);
        let failed_at = storage.ops().into_iter().rfind(|op| op.kind == Kind::Write).unwrap();
        let offset = |line: &str| line.split([' ', '+']).nth(2).unwrap().to_owned();
        let acknowledged = wal.append(record(b"goes on")).unwrap();
        let mut acked = Acked::new();
        note(&mut acked, acknowledged, b"goes on");
        storage.forget();
        assert_eq!(
            numbers(&wal.mark_flushed_all(&[]).unwrap()),
            [1, 2],
            "the mark stands, and is durable now"
        );
        let first = storage.ops().into_iter().find(|op| op.kind == Kind::Write).unwrap();
        assert_eq!(offset(&first.line), offset(&failed_at.line), "rule CK1");
        drop(wal);
        let (wal, records, _) = reopen(options(&disk.crash_all_lost()));
        assert_holds(&records, &acked);
        assert_eq!(wal.flushed(DEFAULT), Some(seqs[1]));
    }
}

#[test]
fn k2_a_crash_at_any_step_of_a_deletion_loses_nothing_unflushed_and_is_no_damage() {
    for step in 0.. {
        for seed in 0..8 {
            let disk = SimStorage::new();
            let wal = open(&disk);
            let seqs = fill(&wal, 4);
            disk.crash_after(step);
            let mut marked = wal.mark_flushed(DEFAULT, seqs[0]).is_ok();
            marked &= wal.mark_flushed(DEFAULT, seqs[2]).is_ok();
            let whole = !disk.is_frozen();
            drop(wal);
            let outcome = match seed {
                0 => disk.crash_all_lost(),
                1 => disk.crash_all_kept(),
                2 => disk.process_crash(),
                _ => disk.crash(seed * 100 + step),
            };
            let (wal, records, report) = reopen(options(&outcome));
            assert_ne!(report.verdict, Verdict::Damaged);
            let replayed: Vec<SeqNum> = records.iter().map(|record| record.seqs.last()).collect();
            // A suffix that holds what was not marked, and after a mark that returned nothing else.
            assert!(seqs.ends_with(&replayed) && replayed.len() >= 2, "{replayed:?}");
            if marked {
                assert_eq!(replayed, seqs[3..]);
            }
            wal.mark_flushed(DEFAULT, seqs[2]).unwrap();
            let active = wal.append(record(b"on")).unwrap();
            drop(wal);
            let replayed = read_back(&outcome);
            assert_eq!(replayed.len(), 3);
            assert_eq!(replayed[2].index, active.index);
            if whole && seed == 7 {
                assert!(step > 10);
                return;
            }
        }
    }
}

#[test]
fn k3_marks_beyond_what_was_appended_or_backwards_are_typed_and_change_nothing() {
    let memory = MemStorage::new();
    let wal = open(&memory);
    let one = FamilyId::new(1);
    let none = wal.mark_flushed(DEFAULT, SeqNum::new(0)).unwrap_err();
    assert!(matches!(none, Error::FlushedBeyondAppended { newest: None, .. }), "{none:?}");
    for _ in 1..10 {
        wal.append(record(b"x")).unwrap();
    }
    let last = wal.append(record(b"x")).unwrap().seqs.last();
    wal.mark_flushed(DEFAULT, SeqNum::new(5)).unwrap();
    let files = memory.files();
    let beyond = SeqNum::new(last.get() + 1);
    for error in [
        wal.mark_flushed(DEFAULT, beyond).unwrap_err(),
        wal.mark_flushed_all(&[(one, last), (DEFAULT, beyond)]).unwrap_err(),
        wal.mark_flushed(one, SeqNum::new(u64::MAX)).unwrap_err(),
    ] {
        assert!(matches!(error, Error::FlushedBeyondAppended { newest: Some(newest), .. } if newest == last));
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    for error in [
        wal.mark_flushed(DEFAULT, SeqNum::new(4)).unwrap_err(),
        wal.mark_flushed_all(&[(one, last), (DEFAULT, SeqNum::new(0))]).unwrap_err(),
        wal.mark_flushed_all(&[(DEFAULT, last), (DEFAULT, SeqNum::new(9))]).unwrap_err(),
    ] {
        assert!(matches!(error, Error::FlushedRegression { family: DEFAULT, .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(memory.files() == files, "not a byte");
    assert_eq!((wal.flushed(DEFAULT), wal.flushed(one)), (Some(SeqNum::new(5)), None), "no family is marked");
    wal.mark_flushed(DEFAULT, SeqNum::new(5)).unwrap();
    wal.mark_flushed(DEFAULT, last).unwrap();
    drop(wal);
    let wal = open(&memory);
    assert_eq!(wal.flushed(DEFAULT), Some(last));
    assert!(matches!(wal.mark_flushed(DEFAULT, SeqNum::new(5)), Err(Error::FlushedRegression { .. })));
    assert!(matches!(wal.mark_flushed(DEFAULT, beyond), Err(Error::FlushedBeyondAppended { .. })));
}

#[test]
fn k3_more_families_than_checkpoint_has_room_for_are_typed_and_no_mark_is_lost() {
    let memory = MemStorage::new();
    let wal = open(&memory);
    let list = families(&[0, 5]);
    wal.append(record(b"old").families(&list)).unwrap();
    wal.rotate().unwrap();
    let seq = wal.append(record(b"new")).unwrap().seqs.last();
    // As many as fit, from 1 on: a family below and one above all of them is one too many.
    let marks: Vec<_> = (1..=FAMILIES_MAX as u32).map(|family| (FamilyId::new(family), seq)).collect();
    wal.mark_flushed_all(&marks).unwrap();
    let before = memory.files();
    for given in
        [vec![(DEFAULT, seq)], vec![(FamilyId::MAX, seq), (DEFAULT, seq), (FamilyId::new(9_000), seq)]]
    {
        let error = wal.mark_flushed_all(&given).unwrap_err();
        assert!(matches!(error, Error::TooManyFamilies { family } if family == given[0].0), "{error:?}");
    }
    assert!(memory.files() == before, "not a byte");
    for reopened in [false, true] {
        let wal = if reopened { &open(&MemStorage::from_files(memory.files())) } else { &wal };
        assert_eq!(wal.flushed(DEFAULT), None);
        assert_eq!(wal.flushed(FamilyId::new(FAMILIES_MAX as u32)), Some(seq), "nobody's mark makes room");
        assert_eq!(wal.logs()[0].log, LogNumber::new(1));
        wal.mark_flushed(FamilyId::new(FAMILIES_MAX as u32), seq).unwrap();
    }
}

#[test]
fn g1_marks_from_many_threads_beside_appends_and_rotations_lose_nothing() {
    within("marks beside appends", || {
        let storage = MemStorage::new();
        let wal = Arc::new(reopen(options(&storage).log_bytes(wal_manager::LOG_BYTES_MIN)).0);
        let writers: Vec<_> = (0..4_u32)
            .map(|family| {
                let wal = Arc::clone(&wal);
                thread::spawn(move || {
                    let list = families(&[family]);
                    let mut unflushed = Acked::new();
                    for number in 0..300 {
                        let bytes = payload(number, 2_000);
                        let appended = wal.append(record(&bytes).families(&list)).unwrap();
                        note(&mut unflushed, appended, &bytes);
                        if number % 50 == 49 {
                            wal.mark_flushed(list[0], appended.seqs.last()).unwrap();
                            unflushed.clear();
                        }
                        if number == 270 {
                            wal.rotate().unwrap();
                        }
                        if number == 280 {
                            break;
                        }
                    }
                    unflushed
                })
            })
            .collect();
        let mut unflushed = Acked::new();
        for writer in writers {
            unflushed.extend(writer.join().unwrap());
        }
        drop(wal);
        let (wal, records, _) = reopen(options(&storage));
        let found: BTreeSet<u64> = records.iter().map(|record| record.index.get()).collect();
        assert_eq!(found, unflushed.keys().copied().collect());
        let newest = wal.last_seq().unwrap();
        let all: Vec<_> = (0..4).map(|family| (FamilyId::new(family), newest)).collect();
        wal.mark_flushed_all(&all).unwrap();
        assert_eq!(files(&storage).len(), 1);
    });
}
