//! Repairs: a directory that does not open does so afterwards, with everything before the damage, and nothing is lost that was there.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use wal_io::sim::{Fault, SimStorage};
use wal_manager::{ArchiveLimits, Error, ErrorKind, FamilyId, RepairReport, SeqNum, Verdict, Wal};
use wal_tests::life::{SMALL, open, options, payload, read_back, record, reopen};

fn files(disk: &SimStorage) -> BTreeMap<String, Vec<u8>> {
    let names = disk.file_names().into_iter().filter(|name| name != "LOCK");
    names.map(|name| (name.clone(), disk.read_file(&name).unwrap())).collect()
}

/// Three logs of two records and one of one, not closed.
fn life() -> SimStorage {
    let disk = SimStorage::new();
    let wal = reopen(options(&disk).log_bytes(SMALL)).0;
    for number in 1..=7 {
        wal.append(record(&payload(number, 300))).unwrap();
        if number % 2 == 0 {
            wal.rotate().unwrap();
        }
    }
    drop(wal);
    disk.process_crash()
}

/// Both slots.
fn spoil_checkpoint(disk: &SimStorage) {
    disk.corrupt("CHECKPOINT", |bytes| {
        bytes[40] ^= 1;
        bytes[65536 + 40] ^= 1;
    });
}

/// Repairs, and checks what always holds.
fn repair(disk: &SimStorage) -> RepairReport {
    let before = files(disk);
    let plan = options(disk).plan_repair().unwrap();
    assert_eq!(files(disk), before, "a plan changes nothing");
    assert!(plan.is_needed() && plan.aside.is_none() && plan.repaired.is_none());
    let aside = disk.directory("aside");
    let report = options(disk).repair_with(aside.clone()).unwrap();
    assert_eq!(files(&aside), before, "everything is aside, to the byte");
    assert_eq!((report.checkpoint.is_some(), &report.left_out), (plan.checkpoint.is_some(), &plan.left_out));
    assert_eq!(report.found.findings, plan.found.findings);
    let again = options(disk).plan_repair().unwrap();
    assert!(!again.is_needed(), "{again:?}");
    assert_eq!(options(disk).inspect().unwrap().report().verdict, Verdict::Clean);
    report
}

fn indices(disk: &SimStorage) -> Vec<u64> {
    let records = read_back(disk);
    let intact = |index: u64, bytes: &[u8]| bytes == &payload(index, bytes.len())[..];
    assert!(records.iter().all(|record| intact(record.index.get(), &record.payload)));
    records.iter().map(|record| record.index.get()).collect()
}

#[test]
fn v4_ck1_repair_rebuilds_checkpoint_from_the_logs() {
    for gone in [false, true] {
        let disk = life();
        if gone {
            assert!(disk.remove("CHECKPOINT"));
        } else {
            spoil_checkpoint(&disk);
        }
        let refused = options(&disk).recover().unwrap_err();
        assert!(refused.to_string().contains("walctl repair"), "{refused}");
        let report = repair(&disk);
        assert!(report.checkpoint.is_some() && report.found.findings.is_empty());
        assert_eq!(indices(&disk), (1..=7).collect::<Vec<_>>(), "the tail that nothing proves, too");
        let wal = open(&disk);
        assert_eq!(wal.append(record(b"on")).unwrap().index.get(), 8);
    }
}

#[test]
fn v4_repair_keeps_what_is_left_after_deletion() {
    let disk = life();
    let wal = reopen(options(&disk).log_bytes(SMALL)).0;
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(4)).unwrap();
    drop(wal);
    let disk = disk.process_crash();
    spoil_checkpoint(&disk);
    repair(&disk);
    assert_eq!(indices(&disk), (5..=7).collect::<Vec<_>>());
}

#[test]
fn v4_repair_cuts_at_damage_and_keeps_the_bytes() {
    for with_checkpoint in [true, false] {
        let disk = life();
        // In the second record of the second log.
        disk.corrupt("000002.wal", |bytes| bytes[600] ^= 0x10);
        if !with_checkpoint {
            spoil_checkpoint(&disk);
        }
        let refused = options(&disk).recover().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damage);
        let report = repair(&disk);
        assert_eq!(report.found.findings[0].log.get(), 2);
        assert_eq!(indices(&disk), [1, 2, 3], "everything before the damage");
        assert!(!report.repaired.unwrap().quarantined.is_empty());
    }
}

#[test]
fn v4_repair_goes_on_behind_a_header_that_is_gone_only_with_what_is_before_it() {
    let disk = life();
    spoil_checkpoint(&disk);
    disk.corrupt("000003.wal", |bytes| bytes[20] ^= 1);
    repair(&disk);
    assert_eq!(indices(&disk), [1, 2, 3, 4]);
}

#[test]
fn v4_repair_of_what_needs_none_does_nothing() {
    let disk = life();
    let before = files(&disk);
    let aside = disk.directory("aside");
    let report = options(&disk).repair_with(aside.clone()).unwrap();
    assert!(!report.is_needed() && report.aside.is_none());
    assert_eq!((files(&disk), aside.file_names()), (before, Vec::<String>::new()));
    // Nor where somebody writes, or nothing is, or nothing is left to go by.
    let wal = open(&disk);
    let locked = options(&disk).repair_with(aside.clone()).unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    drop(wal);
    let nothing = SimStorage::new();
    assert_eq!(options(&nothing).repair_with(aside.clone()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(nothing.file_names(), Vec::<String>::new());
    let hopeless = SimStorage::new();
    hopeless.write_file("000001.wal", vec![7; 5000]);
    let error = options(&hopeless).repair_with(aside.clone()).unwrap_err();
    assert!(matches!(error, Error::CheckpointMissing { .. }), "{error}");
    assert_eq!(aside.file_names(), Vec::<String>::new());
}

/// A recovery that dies at any step leaves a log that may hold only a part of the tail that it was to replace. If CHECKPOINT is lost then, the old
/// log counts.
#[test]
fn v4_rc4_repair_trusts_no_leftover_that_holds_less_than_was_acknowledged() {
    // The predecessor of the recovery's log, which holds the last proven byte, is the log of the tail, or the one before it, or there is none.
    for before in [Before::Group, Before::Rotation, Before::Nothing] {
        leftovers(before);
    }
}

/// What stands before the only group of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Group,
    Rotation,
    Nothing,
}

fn leftovers(before: Before) {
    let first = if before == Before::Nothing { 1 } else { 2 };
    let life = || {
        let disk = SimStorage::new();
        let wal = reopen(options(&disk).log_bytes(SMALL)).0;
        if before != Before::Nothing {
            wal.append(record(&payload(1, 300))).unwrap();
        }
        if before == Before::Rotation {
            wal.rotate().unwrap();
        }
        // One group that nothing proves yet, of several sectors.
        for number in first..=9 {
            drop(wal.submit(record(&payload(number, 700))).unwrap());
        }
        wal.sync().unwrap();
        drop(wal);
        disk.process_crash()
    };
    let mut steps = 0;
    loop {
        let disk = life();
        disk.crash_after(steps);
        let ended = options(&disk).recover().is_ok() && !disk.is_frozen();
        for seed in 0..30 {
            let after = if seed == 0 { disk.crash_all_kept() } else { disk.crash(seed) };
            spoil_checkpoint(&after);
            repair(&after);
            assert_eq!(indices(&after), (1..=9).collect::<Vec<_>>(), "{before:?} step {steps} seed {seed}");
        }
        if ended {
            break;
        }
        steps += 1;
    }
    assert!(steps > 5, "{steps} steps");
}

/// An archive has logs and no CHECKPOINT, and needs none.
#[test]
fn v4_g12_an_archive_is_not_repaired() {
    let disk = SimStorage::new();
    let archive = disk.directory("archive");
    let options = |disk: &SimStorage| options(disk).log_bytes(SMALL);
    let wal = reopen(options(&disk).archive_on(Arc::new(archive.clone()), ArchiveLimits::NONE)).0;
    wal.append(record(&payload(1, 300))).unwrap();
    wal.rotate().unwrap();
    wal.append(record(&payload(2, 300))).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(1)).unwrap();
    wal.close().unwrap();
    let before = files(&archive);
    assert!(before.contains_key("000001.wal"), "{:?}", before.keys());
    let error = options(&archive).repair_with(disk.directory("aside")).unwrap_err();
    assert!(error.to_string().contains("archive"), "{error}");
    assert_eq!(files(&archive), before);
}

/// A power cut at every step of a repair: the next one finishes it, and nothing is lost, here or aside.
#[test]
fn v4_a_crash_at_every_step_of_a_repair() {
    let mut steps = 0;
    loop {
        let disk = life();
        spoil_checkpoint(&disk);
        disk.corrupt("000003.wal", |bytes| bytes[600] ^= 0x10);
        let before = files(&disk);
        disk.crash_after(steps);
        let done = options(&disk).repair_with(disk.directory("aside")).is_ok();
        let ended = done && !disk.is_frozen();
        for seed in 0..8 {
            let after = match seed {
                0 => disk.crash_all_lost(),
                1 => disk.crash_all_kept(),
                seed => disk.crash(seed),
            };
            let what = format!("step {steps} seed {seed}");
            let changed = before.iter().any(|(name, bytes)| after.read_file(name).as_ref() != Some(bytes));
            if changed {
                assert_eq!(files(&after.directory("aside")), before, "{what}: aside first");
            }
            let report = options(&after).repair_with(after.directory("aside-again"));
            let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!(ended && report.is_needed()), "{what}");
            assert_eq!(indices(&after), (1..=5).collect::<Vec<_>>(), "{what}");
        }
        if ended {
            break;
        }
        steps += 1;
    }
    assert!(steps > 15, "{steps} steps");
}

/// As long as the copy aside is not whole, nothing is changed.
#[test]
fn v4_a_repair_without_room_for_the_copy_changes_nothing() {
    let disk = life();
    spoil_checkpoint(&disk);
    let before = files(&disk);
    disk.fail(Fault::parse("fail write #2 of aside/* with ENOSPC").unwrap());
    options(&disk).repair_with(disk.directory("aside")).unwrap_err();
    assert_eq!(files(&disk), before);
}

#[test]
fn v4_repair_of_real_files() {
    let outer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = outer.path().join("wal");
    let wal = reopen(Wal::options(&dir).log_bytes(SMALL)).0;
    for number in 1..=200 {
        wal.append_with(record(&payload(number, 1000)), wal_manager::Durability::Written).unwrap();
    }
    wal.close().unwrap();
    let log = dir.join("000002.wal");
    let mut bytes = fs::read(&log).unwrap();
    bytes[30_000] ^= 1;
    fs::write(&log, &bytes).unwrap();
    fs::write(dir.join("CHECKPOINT"), b"gone").unwrap();
    let report = Wal::options(&dir).repair().unwrap();
    let aside = outer.path().join("wal.before-repair-1");
    assert_eq!(report.aside, Some(aside.clone()));
    assert_eq!(fs::read(aside.join("000002.wal")).unwrap(), bytes);
    assert_eq!(fs::read(aside.join("CHECKPOINT")).unwrap(), b"gone");
    let (wal, records, _) = reopen(Wal::options(&dir));
    assert!(records.len() > 70 && records.len() < 110, "{}", records.len());
    assert_eq!(wal.append(record(b"on")).unwrap().index.get(), 1 + records.len() as u64);
}

/// A hold is kept as long as one slot of CHECKPOINT can be read, also where the log is cut; where none can, its owner is told.
#[test]
fn v4_g11_a_repair_keeps_the_holds_that_can_still_be_read() {
    for both in [false, true] {
        let disk = life();
        let wal = reopen(options(&disk).log_bytes(SMALL)).0;
        wal.hold("backup", SeqNum::new(3), Some(1 << 20)).unwrap();
        wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(5)).unwrap();
        let held = wal.holds();
        drop(wal);
        let disk = disk.process_crash();
        disk.corrupt("CHECKPOINT", |bytes| {
            bytes[40] ^= 1;
            bytes[65536 + 40] ^= u8::from(both);
        });
        disk.corrupt("000003.wal", |bytes| bytes[600] ^= 0x10);
        let report = repair(&disk);
        assert_eq!(report.checkpoint.is_some(), both);
        let wal = open(&disk);
        if both {
            assert!(matches!(wal.advance_hold("backup", SeqNum::new(3)), Err(Error::UnknownHold { .. })));
        } else {
            assert_eq!(
                (wal.holds()[0].from, wal.holds()[0].since_micros),
                (held[0].from, held[0].since_micros)
            );
            assert_eq!(wal.logs()[0].seqs.unwrap().first().get(), 3);
        }
    }
}
