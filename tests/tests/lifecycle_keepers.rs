//! Who keeps a log: families, holds, and what is said about them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use proptest::prelude::*;
use wal_io::probe::Way;
use wal_io::sim::SimStorage;
use wal_manager::{
    Durability, Error, ErrorKind, FAMILIES_MAX, FamilyId, HOLDS_MAX, HoldInfo, KeeperKind, Kept, MemStorage,
    Pressure, SeqNum, SeqRange, Wal,
};
use wal_tests::clock::StepClock;
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{families, open, options, payload, record, reopen, within};

const DEFAULT: FamilyId = FamilyId::DEFAULT;

fn seq(number: u64) -> SeqNum {
    SeqNum::new(number)
}

/// `closed` closed logs of one record of 1000 bytes each, and an active one with a record. The record of log `n` has sequence number `10 n`.
fn fill(wal: &Wal, closed: u64) {
    for log in 1..=closed + 1 {
        wal.append(record(&payload(log, 1000)).seqs(seq(10 * log), 1)).unwrap();
        if log <= closed {
            wal.rotate().unwrap().unwrap();
        }
    }
}

/// A log of that kind where everything is flushed and nothing deleted but by holds.
fn filled(storage: &MemStorage, closed: u64) -> Wal {
    let wal = open(storage);
    fill(&wal, closed);
    wal
}

fn flush(wal: &Wal) {
    wal.mark_flushed(DEFAULT, wal.last_seq().unwrap()).unwrap();
}

fn live(wal: &Wal) -> Vec<u64> {
    wal.logs().iter().map(|info| info.log.get()).collect()
}

fn hold(wal: &Wal, name: &str) -> HoldInfo {
    wal.holds().into_iter().find(|hold| hold.name == name).unwrap()
}

/// Each log, with its keepers as `kind name from..through`.
fn shown(kept: &[Kept]) -> Vec<(u64, Vec<String>)> {
    let keeper = |keeper: &wal_manager::Keeper| {
        let number = |seq: Option<SeqNum>| seq.map_or_else(String::new, |seq| seq.to_string());
        format!("{} {} {}..{}", keeper.kind, keeper.name, number(keeper.from), number(keeper.through))
    };
    kept.iter().map(|kept| (kept.log.get(), kept.keepers.iter().map(keeper).collect())).collect()
}

#[test]
fn g11_a_hold_keeps_its_logs_over_restarts_until_it_moves_or_is_released() {
    let storage = MemStorage::new();
    let wal = filled(&storage, 4);
    // From between two records: the one before is not held.
    wal.hold("backup", seq(11), None).unwrap();
    flush(&wal);
    assert_eq!(live(&wal), [2, 3, 4, 5]);
    wal.close().unwrap();
    let wal = open(&storage);
    assert_eq!(live(&wal)[..4], [2, 3, 4, 5]);
    assert_eq!(hold(&wal, "backup").from, seq(11));
    // The record of log 3, and the number behind it.
    assert_eq!(wal.advance_hold("backup", seq(30)).unwrap().deleted.len(), 1);
    assert_eq!(wal.advance_hold("backup", seq(31)).unwrap().deleted.len(), 1);
    assert_eq!(live(&wal)[0], 4);
    flush(&wal);
    assert_eq!(wal.release_hold("backup").unwrap().deleted.len(), 2);
    assert_eq!((live(&wal).len(), wal.holds().len()), (1, 0));
}

#[test]
fn g11_a_hold_survives_a_death_without_close() {
    let storage = MemStorage::new();
    let wal = filled(&storage, 2);
    wal.hold("replica", seq(20), Some(1 << 20)).unwrap();
    flush(&wal);
    drop(wal);
    let wal = open(&storage);
    assert_eq!(live(&wal)[0], 2);
    let found = hold(&wal, "replica");
    assert_eq!((found.from, found.to, found.budget_bytes, found.lost), (seq(20), None, Some(1 << 20), false));
    assert_eq!(found.held_bytes, wal.logs()[..found_logs(&wal)].iter().map(|log| log.bytes).sum::<u64>());
}

/// How many logs lie before the one that holds the frontier.
fn found_logs(wal: &Wal) -> usize {
    wal.logs().iter().filter(|log| log.log < wal.durable().log).count()
}

#[test]
fn k3_a_hold_is_monotone_and_within_what_there_is() {
    let storage = MemStorage::new();
    let wal = filled(&storage, 3);
    let unknown = wal.advance_hold("a", seq(1)).unwrap_err();
    assert!(matches!(unknown, Error::UnknownHold { .. }) && unknown.kind() == ErrorKind::Invalid);
    assert!(matches!(wal.release_hold("a"), Err(Error::UnknownHold { .. })));
    for name in ["", "a\nb", &"x".repeat(65)] {
        assert!(matches!(wal.hold(name, seq(1), None), Err(Error::InvalidHoldName { .. })), "{name:?}");
    }
    assert!(
        matches!(wal.hold("a", seq(42), None), Err(Error::HoldAhead { highest, .. }) if highest == seq(41))
    );
    wal.hold("a", seq(20), None).unwrap();
    assert!(matches!(wal.hold("a", seq(30), None), Err(Error::HoldExists { .. })));
    let back = wal.advance_hold("a", seq(19)).unwrap_err();
    assert!(
        matches!(back, Error::HoldRegression { given, recorded, .. } if (given, recorded) == (seq(19), seq(20)))
    );
    assert!(matches!(wal.advance_hold("a", seq(42)), Err(Error::HoldAhead { .. })));
    assert_eq!(hold(&wal, "a").from, seq(20));
    // Where it stands, and right behind everything.
    wal.advance_hold("a", seq(20)).unwrap();
    wal.advance_hold("a", seq(41)).unwrap();
    let range = SeqRange::new(seq(20), 11).unwrap();
    wal.hold_range("r", range, None).unwrap();
    assert!(
        matches!(wal.advance_hold("r", seq(31)), Err(Error::HoldAhead { highest, .. }) if highest == seq(30))
    );
    flush(&wal);
    assert_eq!(live(&wal), [2, 3, 4]);
    // What is gone cannot be held.
    let gap = wal.hold("late", seq(10), None).unwrap_err();
    assert!(matches!(gap, Error::HoldLost { wanted, oldest, .. } if (wanted, oldest) == (seq(10), seq(11))));
    assert_eq!(gap.kind(), ErrorKind::Gap);
    wal.hold("in time", seq(11), None).unwrap();
    wal.close().unwrap();
    assert!(matches!(wal.hold("b", seq(41), None), Err(Error::Closed)));
    // The same after a restart.
    let wal = open(&storage);
    assert!(matches!(wal.hold("late", seq(10), None), Err(Error::HoldLost { .. })));
    assert!(matches!(wal.advance_hold("a", seq(20)), Err(Error::HoldRegression { .. })));
}

/// Records of five, one and five numbers with holes between them, at whatever place they are: in memory, written, synced, in a closed log, after a
/// restart, after a resume. Marks, holds and ranges go between them, and nowhere else; what is refused changes nothing.
#[test]
fn k3_marks_and_holds_stand_between_records() {
    for place in
        ["buffered", "written", "synced", "both", "closed", "reopened", "resumed", "resumed and closed"]
    {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let mut wal = open(&storage);
        let wide = |wal: &Wal, first: u64, count: u32, bytes: usize| {
            drop(wal.submit(record(&payload(first, bytes)).seqs(seq(first), count)).unwrap());
        };
        wide(&wal, 1, 1, 100_000);
        wide(&wal, 10, 5, 100);
        if place == "both" || place == "resumed and closed" {
            wal.sync().unwrap();
        }
        wide(&wal, 20, 1, 70_000);
        wide(&wal, 25, 5, 40_000);
        // So that a number inside is not the newest.
        wide(&wal, 40, 1, 10);
        match place {
            "written" => drop(wal.append_with(record(b"w").seqs(seq(41), 1), Durability::Written).unwrap()),
            "synced" => drop(wal.sync().unwrap()),
            "closed" => {
                wal.rotate().unwrap();
                wal.append(record(b"next").seqs(seq(50), 1)).unwrap();
            }
            "reopened" => {
                wal.close().unwrap();
                wal = open(&storage);
            }
            "resumed" | "resumed and closed" => {
                storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
                assert!(wal.sync().is_err());
                wal.resume().unwrap();
                if place == "resumed and closed" {
                    wal.rotate().unwrap();
                    wal.append(record(b"next").seqs(seq(50), 1)).unwrap();
                }
            }
            _ => {}
        }
        let before = (wal.logs(), wal.holds(), wal.flushed(DEFAULT));
        for (inside, range) in [(10..14, (10, 5)), (25..29, (25, 5))] {
            let range = SeqRange::new(seq(range.0), range.1).unwrap();
            for through in inside {
                let refused = |error: Error, number: u64| {
                    assert!(
                        matches!(error, Error::InsideRecord { given, record } if (given, record) == (seq(number), range)),
                        "{place}, {number}: {error}"
                    );
                };
                refused(wal.mark_flushed(DEFAULT, seq(through)).expect_err(place), through);
                let marks = [(FamilyId::new(9), seq(9)), (DEFAULT, seq(through))];
                refused(wal.mark_flushed_all(&marks).unwrap_err(), through);
                refused(wal.hold("a", seq(through + 1), None).unwrap_err(), through + 1);
                let to = SeqRange::between(seq(2), seq(through)).unwrap();
                refused(wal.hold_range("a", to, None).unwrap_err(), through);
            }
        }
        assert_eq!((wal.logs(), wal.holds(), wal.flushed(DEFAULT)), before, "{place}");
        wal.hold("a", seq(1), None).unwrap();
        for begin in [2, 9, 10, 15, 16, 20, 21, 24, 25, 30, 35, 40, 41] {
            if begin == 15 || begin == 30 {
                let error = wal.advance_hold("a", seq(begin - 1)).unwrap_err();
                assert!(matches!(error, Error::InsideRecord { .. }), "{place}: {error}");
            }
            wal.mark_flushed(DEFAULT, seq(begin - 1)).unwrap_or_else(|error| panic!("{place}: {error}"));
            wal.advance_hold("a", seq(begin)).unwrap_or_else(|error| panic!("{place}: {error}"));
        }
    }
}

/// To refuse a number costs no read where it is the end of a log, or where each record has one number; otherwise so many as the logarithm of the log's length.
#[test]
fn k3_marks_at_the_end_of_a_log_or_of_a_dense_one_read_nothing() {
    for (count, reads_most) in [(1, 0), (3, 40)] {
        let disk = SimStorage::new();
        let wal = open(&disk);
        for log in 0..3 {
            for record_in_log in 0..1000 {
                let first = 1 + count * (1000 * log + record_in_log);
                drop(wal.submit(record(&payload(first, 2000)).seqs(seq(first), count as u32)).unwrap());
            }
            wal.rotate().unwrap();
        }
        wal.append(record(b"more")).unwrap();
        let reads = |mark: u64| {
            let before = disk.trace().len();
            wal.mark_flushed(DEFAULT, seq(mark)).unwrap();
            disk.trace().iter().skip(before).filter(|call| call.starts_with("read 0")).count()
        };
        let within = reads(500 * count);
        assert!(within <= reads_most && (within > 0) == (count > 1), "{within} reads");
        assert_eq!(reads(1000 * count), 0, "the end of the first log");
        assert!(reads(1700 * count) <= reads_most);
        assert_eq!(reads(3000 * count), 0);
    }
}

/// A log that cannot be read leaves the mark as it was, and it may be tried again.
#[test]
fn k3_a_log_that_cannot_be_read_refuses_the_mark_and_changes_nothing() {
    let disk = SimStorage::new();
    let storage = FaultyStorage::new(disk.clone());
    let wal = open(&storage);
    for first in [1, 11, 21] {
        wal.append(record(b"wide").seqs(seq(first), 5)).unwrap();
    }
    storage.fail(Which::On(Kind::Read, ".wal"), 1, EIO);
    let error = wal.mark_flushed(DEFAULT, seq(15)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(wal.flushed(DEFAULT), None);
    wal.mark_flushed(DEFAULT, seq(15)).unwrap();
    assert_eq!(wal.flushed(DEFAULT), Some(seq(15)));
}

#[test]
fn g11_over_its_budget_a_hold_is_dropped_for_good_and_its_owner_is_told() {
    let storage = MemStorage::new();
    let wal = filled(&storage, 4);
    let bytes = wal.logs()[0].bytes;
    wal.hold("within", seq(30), Some(5 * bytes / 2)).unwrap();
    wal.hold("over", seq(20), Some(5 * bytes / 2)).unwrap();
    // Nothing of this is charged: the engine needs it itself.
    wal.mark_flushed(DEFAULT, seq(9)).unwrap();
    assert!(wal.holds().iter().all(|hold| !hold.lost && hold.held_bytes == 0));
    flush(&wal);
    assert_eq!(live(&wal), [3, 4, 5]);
    assert!(hold(&wal, "over").lost && !hold(&wal, "within").lost);
    assert!((3 * bytes / 2..5 * bytes / 2).contains(&hold(&wal, "within").held_bytes));
    drop(wal);
    let wal = open(&storage);
    let gap = wal.advance_hold("over", seq(40)).unwrap_err();
    assert!(
        matches!(&gap, Error::HoldLost { wanted, oldest, .. } if (*wanted, *oldest) == (seq(20), seq(21))),
        "{gap}"
    );
    assert_eq!(gap.kind(), ErrorKind::Gap);
    // Told once more, and gone.
    assert_eq!(wal.release_hold("over").unwrap_err().kind(), ErrorKind::Gap);
    assert!(matches!(wal.release_hold("over"), Err(Error::UnknownHold { .. })));
    assert!(!hold(&wal, "within").lost);
    // A lost name may be used again.
    wal.hold("over", seq(31), None).unwrap();
}

#[test]
fn g11_there_is_room_for_so_many_holds_and_lost_ones_count() {
    let storage = MemStorage::new();
    let wal = filled(&storage, 1);
    for number in 0..HOLDS_MAX {
        wal.hold(&format!("{number:064}"), seq(10), Some(0)).unwrap();
    }
    flush(&wal);
    assert!(wal.holds().iter().all(|hold| hold.lost));
    assert!(matches!(wal.hold("one more", seq(20), None), Err(Error::TooManyHolds { .. })));
    assert!(wal.release_hold(&format!("{:064}", 7)).is_err());
    wal.hold("one more", seq(20), None).unwrap();
    wal.close().unwrap();
    assert_eq!(open(&storage).holds().len(), HOLDS_MAX);
}

/// A life with a hold, cut off behind every operation: what a hold that was returned keeps is there, and what was released goes.
#[test]
fn g11_a_crash_at_any_operation_leaves_each_hold_as_it_was_before_or_after() {
    for cut in 0.. {
        let disk = SimStorage::new();
        let wal = open(&disk);
        fill(&wal, 4);
        disk.crash_after(cut);
        // The holds that there may be, as (from, lost).
        let mut may = vec![None];
        let mut step = |result: Result<(), Error>, after: Option<(u64, bool)>| match result {
            Ok(()) => {
                may = vec![after];
                true
            }
            Err(error) => {
                assert!(disk.is_frozen(), "{error}");
                may.push(after);
                false
            }
        };
        let bytes = wal.logs()[0].bytes;
        let finished = step(wal.hold("h", seq(20), Some(5 * bytes / 2)), Some((20, false)))
            && step(wal.mark_flushed(DEFAULT, seq(30)).map(drop), Some((20, false)))
            && step(wal.advance_hold("h", seq(30)).map(drop), Some((30, false)))
            && step(wal.mark_flushed(DEFAULT, seq(50)).map(drop), Some((30, false)))
            && step(wal.advance_hold("h", seq(31)).map(drop), Some((31, false)))
            && step(wal.rotate().map(drop), Some((31, false)))
            && step(wal.append(record(&payload(6, 1000)).seqs(seq(60), 1)).map(drop), Some((31, false)))
            && step(wal.rotate().map(drop), Some((31, false)))
            && step(wal.append(record(b"last").seqs(seq(70), 1)).map(drop), Some((31, false)))
            && step(wal.mark_flushed(DEFAULT, seq(70)).map(drop), Some((31, true)))
            && step(
                wal.release_hold("h")
                    .map(drop)
                    .or_else(|error| if error.kind() == ErrorKind::Gap { Ok(()) } else { Err(error) }),
                None,
            );
        drop(wal);
        for seed in 0..4 {
            let disk = if seed == 0 { disk.crash_all_lost() } else { disk.crash(seed) };
            let wal = open(&disk);
            let found = wal.holds().first().map(|hold| (hold.from.get(), hold.lost));
            // The hold is dropped together with the mark that makes it too much.
            assert!(may.contains(&found), "cut {cut}, seed {seed}: {found:?}, not one of {may:?}");
            if let Some((from, false)) = found {
                let inspection = Wal::options_on(Arc::new(disk.clone())).inspect().unwrap();
                let there: BTreeSet<u64> =
                    inspection.records().map(|record| record.unwrap().seqs.first().get()).collect();
                for number in (1..=5).map(|log| log * 10).filter(|number| *number >= from) {
                    assert!(there.contains(&number), "cut {cut}, seed {seed}: {number} of {there:?}");
                }
            }
            for hold in wal.holds() {
                let _ = wal.release_hold(&hold.name);
            }
            flush(&wal);
            assert_eq!(live(&wal).len(), 1, "cut {cut}: nobody keeps anything");
        }
        if finished {
            assert!(cut > 20, "{cut} operations");
            return;
        }
    }
}

#[test]
fn g11_a_hold_on_real_files_keeps_a_log_from_being_recycled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wal");
    let start = || {
        let options = Wal::options(&path).way(Way::Filled).recycle(2).background(false).log_bytes(64 << 10);
        reopen(options.idle_promise(None)).0
    };
    let wal = start();
    fill(&wal, 2);
    wal.hold("backup", seq(10), None).unwrap();
    flush(&wal);
    let before = std::fs::read(path.join("000001.wal")).unwrap();
    for log in 4..8 {
        wal.housekeep().unwrap();
        wal.append(record(&payload(log, 1000)).seqs(seq(10 * log), 1)).unwrap();
        wal.rotate().unwrap();
    }
    flush(&wal);
    wal.close().unwrap();
    let wal = start();
    assert!(std::fs::read(path.join("000001.wal")).unwrap() == before, "log 1 is as it was");
    let deletion = wal.release_hold("backup").unwrap();
    assert_eq!(deletion.deleted[0].get(), 1);
}

#[test]
fn g10_every_log_names_its_keepers_and_a_reader_without_the_lock_sees_the_same() {
    let clock = Arc::new(StepClock::default());
    let storage = MemStorage::new();
    clock.advance(Duration::from_secs(1));
    let wal = reopen(options(&storage).clock(clock.clone())).0;
    let (one, two) = (families(&[1]), families(&[2]));
    wal.append(record(b"a").families(&one).seqs(seq(10), 5)).unwrap();
    wal.rotate().unwrap();
    clock.advance(Duration::from_secs(1));
    wal.append(record(b"b").families(&two).seqs(seq(20), 5)).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"c").families(&two).seqs(seq(30), 5)).unwrap();
    wal.rotate().unwrap();
    assert_eq!(
        shown(&wal.why_kept()),
        [
            (1, vec!["family 1 10..14".to_owned()]),
            (2, vec!["family 2 20..24".to_owned()]),
            (3, vec!["unsealed  30..".to_owned(), "family 2 30..34".to_owned()]),
            (4, vec!["active  ..".to_owned()]),
        ]
    );
    wal.append(record(b"d").families(&one).seqs(seq(40), 1)).unwrap();
    clock.advance(Duration::from_secs(1));
    wal.hold("backup", seq(20), None).unwrap();
    wal.mark_flushed(one[0], seq(9)).unwrap();
    wal.mark_flushed(two[0], seq(34)).unwrap();
    let expected = [
        (1, vec!["family 1 10..14".to_owned()]),
        (2, vec!["hold backup 20..".to_owned()]),
        (3, vec!["hold backup 20..".to_owned()]),
        (4, vec!["active  40..".to_owned(), "family 1 40..40".to_owned(), "hold backup 20..".to_owned()]),
    ];
    assert_eq!(shown(&wal.why_kept()), expected);
    let kept = wal.why_kept();
    let since = |log: usize, keeper: usize| kept[log].keepers[keeper].since_micros;
    assert_eq!((since(0, 0), since(1, 0), since(3, 0)), (1_000_000, 3_000_000, 2_000_000));
    let seen = Wal::options_on(Arc::new(storage.clone())).inspect().unwrap().why_kept();
    assert_eq!(
        seen.iter().map(|kept| &kept.keepers).collect::<Vec<_>>(),
        kept.iter().map(|kept| &kept.keepers).collect::<Vec<_>>()
    );
    wal.release_hold("backup").unwrap();
    let kept = shown(&wal.why_kept());
    assert_eq!(kept[1], (2, vec!["older 1 20..".to_owned()]));
    assert_eq!(kept[2], (3, vec!["older 1 30..".to_owned()]));
    wal.mark_flushed(one[0], seq(14)).unwrap();
    assert_eq!(live(&wal), [4]);
}

#[test]
fn g8_pressure_names_the_families_that_keep_the_oldest_log_and_how_far_to_flush_them() {
    let told: Arc<Mutex<Vec<Pressure>>> = Arc::default();
    let storage = MemStorage::new();
    let tell = Arc::clone(&told);
    let wal = reopen(
        options(&storage)
            .on_pressure(u64::MAX, 3, move |pressure| tell.lock().unwrap().push(pressure.clone())),
    )
    .0;
    let (idle, busy) = (families(&[3]), families(&[7]));
    wal.append(record(b"idle").families(&idle).seqs(seq(10), 3)).unwrap();
    for round in 2..7 {
        wal.append(record(&payload(round, 500)).families(&busy).seqs(seq(10 * round), 1)).unwrap();
        wal.rotate().unwrap();
        // The engine flushes what is busy by itself.
        wal.mark_flushed(busy[0], seq(10 * round)).unwrap();
        wal.housekeep().unwrap();
    }
    let told = || std::mem::take(&mut *told.lock().unwrap());
    let pressures = told();
    assert_eq!(pressures.len(), 3, "at each rotation from the fourth log on");
    for pressure in &pressures {
        assert_eq!((pressure.oldest.get(), &pressure.flush[..]), (1, &[(idle[0], seq(12))][..]));
        assert!(pressure.live_logs > 3 && pressure.live_bytes > 0);
    }
    let (family, through) = pressures[0].flush[0];
    wal.mark_flushed(family, through).unwrap();
    wal.housekeep().unwrap();
    assert_eq!((told(), live(&wal).len()), (vec![], 2));
    // Not a family: a hold.
    wal.hold("backup", seq(61), None).unwrap();
    for round in 7..12 {
        wal.append(record(b"x").families(&busy).seqs(seq(10 * round), 1)).unwrap();
        wal.rotate().unwrap();
        wal.mark_flushed(busy[0], seq(10 * round)).unwrap();
    }
    wal.housekeep().unwrap();
    let pressure = told().pop().unwrap();
    assert_eq!((pressure.flush, pressure.keepers[0].kind), (vec![], KeeperKind::Hold));
}

#[test]
fn g8_a_dropped_family_keeps_nothing_and_may_come_back() {
    let storage = MemStorage::new();
    let wal = open(&storage);
    let family = families(&[5]);
    wal.append(record(b"old").families(&family)).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"also old").families(&family)).unwrap();
    assert_eq!(wal.drop_family(family[0]).unwrap().deleted.len(), 1);
    drop(wal);
    let (wal, replayed, _) = reopen(options(&storage));
    assert!(replayed.is_empty(), "nothing of it is needed");
    let new = wal.append(record(b"new").families(&family)).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"other")).unwrap();
    drop(wal);
    let (wal, replayed, _) = reopen(options(&storage));
    assert_eq!(
        replayed.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(),
        [&b"new"[..], b"other"]
    );
    wal.mark_flushed(family[0], new.seqs.last()).unwrap();
    flush(&wal);
    assert_eq!(wal.flushed(family[0]), Some(new.seqs.last()), "it is a family like any other again");
}

/// The update that was to delete the first log fails, and takes the mark of a dropped family with it, in memory. The next one deletes that log, and what may go behind it.
/// Life 108761 of the random ones.
#[test]
fn g8_regression_a_log_whose_deletion_failed_keeps_none_behind_it() {
    let ways = [("mark", vec![3]), ("housekeeping", vec![2, 3]), ("rotation at the cap", vec![2, 3, 4])];
    for (way, left) in ways {
        let storage = FaultyStorage::new(SimStorage::new());
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let options = options(&storage).background(false).cap_logs(3);
        let (wal, ..) = reopen(options.on_pressure(u64::MAX, 2, move |pressure| {
            let flush: Vec<_> =
                pressure.flush.iter().map(|(family, seq)| (family.get(), seq.get())).collect();
            tell.lock().unwrap().push((pressure.oldest.get(), flush));
        }));
        let [one, two] = [1, 2].map(FamilyId::new);
        wal.append(record(b"1").families(&[one])).unwrap();
        wal.rotate().unwrap();
        wal.append(record(b"2").families(&[two])).unwrap();
        wal.rotate().unwrap();
        wal.append(record(b"3").families(&[two])).unwrap();
        wal.housekeep().unwrap();
        wal.hold("a", seq(1), None).unwrap();
        wal.drop_family(one).unwrap();
        storage.fail(Which::On(Kind::SyncData, "CHECKPOINT"), 1, EIO);
        wal.release_hold("a").unwrap_err();
        let kept = shown(&wal.why_kept());
        assert_eq!(kept[0], (1, Vec::new()), "it is given up");
        assert_eq!(kept[1], (2, vec!["family 2 2..2".to_owned()]));
        // Of the log that was there before, its family was told.
        told.lock().unwrap().clear();
        match way {
            "mark" => drop(wal.mark_flushed(two, seq(2)).unwrap()),
            "housekeeping" => wal.housekeep().unwrap(),
            // What makes room gives up no more than it may.
            _ => drop(wal.rotate().unwrap()),
        }
        assert_eq!(live(&wal), left, "{way}");
        wal.housekeep().unwrap();
        let told = told.lock().unwrap();
        assert!(told.iter().all(|told| *told == (2, vec![(2, 2)])), "nobody can flush the first: {told:?}");
    }
}

#[test]
fn g8_marks_of_dropped_families_go_with_their_last_log() {
    let storage = MemStorage::new();
    let wal = open(&storage);
    for round in 0..3 {
        let marks: Vec<_> = (0..FAMILIES_MAX as u32).map(|family| FamilyId::new(family + 1)).collect();
        for chunk in marks.chunks(1024) {
            wal.append(record(b"all").families(chunk)).unwrap();
        }
        let newest = wal.last_seq().unwrap();
        wal.mark_flushed_all(&marks.iter().map(|family| (*family, newest)).collect::<Vec<_>>()).unwrap();
        assert!(matches!(wal.mark_flushed(DEFAULT, newest), Err(Error::TooManyFamilies { .. })), "{round}");
        wal.drop_family(marks[0]).unwrap();
        assert_eq!(wal.flushed(marks[0]), Some(newest), "its records are still in the log");
        wal.rotate().unwrap();
        wal.append(record(b"x")).unwrap();
        wal.rotate().unwrap();
        for family in &marks[1..4] {
            wal.drop_family(*family).unwrap();
        }
        assert!(marks[..4].iter().all(|family| wal.flushed(*family).is_none()));
        wal.mark_flushed(DEFAULT, newest).unwrap();
        // For the next round.
        wal.drop_family(DEFAULT).unwrap();
        assert_eq!(
            wal.flushed(DEFAULT),
            Some(wal.last_seq().unwrap()),
            "the log before holds a record of it"
        );
        wal.append(record(b"y").families(&marks[4..5])).unwrap();
        wal.housekeep().unwrap();
        wal.drop_family(DEFAULT).unwrap();
        assert_eq!(wal.flushed(DEFAULT), None);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(BTreeSet<u32>),
    Rotate,
    /// A family is flushed up to a place between its mark and the newest number, in 255ths.
    Flush(u32, u8),
    Drop(u32),
    Reopen(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => proptest::collection::btree_set(0..6_u32, 1..4).prop_map(Step::Append),
        3 => Just(Step::Rotate),
        5 => (0..6_u32, prop_oneof![Just(255), any::<u8>()]).prop_map(|(family, part)| Step::Flush(family, part)),
        1 => (0..6_u32).prop_map(Step::Drop),
        1 => any::<bool>().prop_map(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A log goes when, and only when, every family in it and in the logs before it is flushed; and the log says which one is not.
    #[test]
    fn g8_random_families_a_log_goes_when_every_family_in_it_is_flushed(steps in steps()) {
        let storage = MemStorage::new();
        let mut wal = open(&storage);
        // Every record, with the log that it is in; and what is flushed.
        let (mut records, mut marks) = (Vec::<(u64, BTreeSet<u32>, u64)>::new(), [0_u64; 6]);
        for step in steps {
            let newest = wal.last_seq().map_or(0, |seq| seq.get());
            match step {
                Step::Append(list) => {
                    let ids: Vec<FamilyId> = list.iter().map(|family| FamilyId::new(*family)).collect();
                    let appended = wal.append(record(b"x").families(&ids)).unwrap();
                    records.push((appended.position.log.get(), list, appended.seqs.last().get()));
                }
                Step::Rotate => drop(wal.rotate().unwrap()),
                Step::Flush(family, part) => {
                    let mark = &mut marks[family as usize];
                    let to = *mark + (newest - *mark) * u64::from(part) / 255;
                    if newest > 0 {
                        wal.mark_flushed(FamilyId::new(family), seq(to)).unwrap();
                        *mark = to;
                    }
                }
                Step::Drop(family) => {
                    wal.drop_family(FamilyId::new(family)).unwrap();
                    marks[family as usize] = newest;
                }
                Step::Reopen(clean) => {
                    if clean {
                        wal.close().unwrap();
                    }
                    drop(wal);
                    let replayed;
                    (wal, replayed, _) = reopen(options(&storage));
                    let wanted: Vec<u64> = records
                        .iter()
                        .filter(|(_, list, last)| list.iter().any(|family| marks[*family as usize] < *last))
                        .map(|(_, _, last)| *last)
                        .collect();
                    let found: Vec<u64> = replayed.iter().map(|record| record.seqs.last().get()).collect();
                    prop_assert_eq!(found, wanted);
                    // What was not proven stands in the new log now.
                    let first = wal.logs().last().unwrap().seqs.map(|seqs| seqs.first().get());
                    let log = wal.logs().last().unwrap().log.get();
                    for known in records.iter_mut().filter(|known| first.is_some_and(|first| known.2 >= first)) {
                        known.0 = log;
                    }
                }
            }
            wal.housekeep().unwrap();
            let unflushed = |log: u64| {
                records.iter().any(|(at, list, last)| {
                    *at == log && list.iter().any(|family| marks[*family as usize] < *last)
                })
            };
            let kept = wal.why_kept();
            let frontier = wal.durable().log.get();
            let oldest = kept[0].log.get();
            prop_assert!(records.iter().all(|(log, ..)| *log >= oldest || !unflushed(*log)), "log of an unflushed record is gone");
            prop_assert!(oldest >= frontier || unflushed(oldest), "nobody keeps log {}", oldest);
            for kept in &kept {
                prop_assert!(!kept.keepers.is_empty());
                let families = kept.keepers.iter().filter(|keeper| keeper.kind == KeeperKind::Family);
                let named: BTreeSet<u32> = families.map(|keeper| keeper.name.parse().unwrap()).collect();
                let wanted: BTreeSet<u32> = records
                    .iter()
                    .filter(|(log, ..)| *log == kept.log.get())
                    .flat_map(|(_, list, last)| list.iter().map(move |family| (*family, *last)))
                    .filter(|(family, last)| marks[*family as usize] < *last)
                    .map(|(family, _)| family)
                    .collect();
                prop_assert_eq!(named, wanted);
            }
        }
    }
}

#[test]
fn g8_g11_families_and_holds_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let start = || reopen(Wal::options(dir.path().join("wal")).way(Way::Append)).0;
    let wal = start();
    fill(&wal, 3);
    wal.hold("backup", seq(20), Some(1 << 20)).unwrap();
    flush(&wal);
    drop(wal);
    let wal = start();
    assert_eq!(live(&wal)[..2], [2, 3]);
    wal.release_hold("backup").unwrap();
    flush(&wal);
    assert_eq!(live(&wal).len(), 1);
    wal.drop_family(DEFAULT).unwrap();
    wal.close().unwrap();
}

/// The engine's code may let the last handle go in the log's own thread, or close the log there: the thread does not wait for itself.
#[test]
fn g8_f67_a_log_may_be_dropped_or_closed_by_the_engine_that_it_calls() {
    for close in [false, true] {
        within("a log that is let go by its own thread", move || {
            let storage = MemStorage::new();
            let handle: Arc<Mutex<Option<Wal>>> = Arc::default();
            let (done, ended) = mpsc::channel();
            let last = Arc::clone(&handle);
            let let_go = move |_: &Pressure| {
                let Some(wal) = last.lock().unwrap().take() else { return };
                if close {
                    wal.close().unwrap();
                }
                drop(wal);
                done.send(()).unwrap();
            };
            let wal = reopen(options(&storage).background(true).on_pressure(0, 0, let_go)).0;
            let mut held = handle.lock().unwrap();
            held.insert(wal).append(record(b"one")).unwrap();
            held.as_ref().unwrap().rotate().unwrap();
            drop(held);
            ended.recv().expect("the engine's code comes to its end");
            // The thread ends soon, and with it the lock.
            let records = loop {
                match options(&storage).recover() {
                    Err(Error::Locked { .. }) => std::thread::yield_now(),
                    opened => break opened.unwrap().records().count(),
                }
            };
            assert_eq!(records, 1);
        });
    }
}
