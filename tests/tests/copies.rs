//! Copies of a log that is being written: each holds exactly what it names, and nothing touches it afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use wal_io::mem::MemStorage;
use wal_io::probe::Way;
use wal_io::sim::{Fault, SimStorage};
use wal_manager::{CopyReport, Error, ErrorKind, FamilyId, Options, RecoveryMode, SeqNum, Verdict, Wal};
use wal_tests::faulty::{FaultyStorage, Kind, Which};
use wal_tests::life::{SMALL, open, options, payload, read_back, record, reopen, within};
use wal_tests::rng::Rng;

/// The records of a copy by index, after it was verified and, on a disk of its own, recovered.
fn look(copy: &SimStorage, report: &CopyReport) -> BTreeMap<u64, Vec<u8>> {
    let inspection = options(copy).mode(RecoveryMode::Strict).inspect().expect("a copy opens");
    assert_eq!(inspection.report().verdict, Verdict::Clean, "{:?}", inspection.report().findings);
    let records = inspection.records().map(|record| record.expect("a copy is read to its end"));
    let found: BTreeMap<u64, Vec<u8>> =
        records.map(|record| (record.index.get(), record.payload.to_vec())).collect();
    let expected: Vec<u64> = (report.first_index.get()..report.next_index.get()).collect();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected, "exactly the prefix that it names");
    assert_eq!(report.records, expected.len() as u64);
    let recovered = options(&copy.fork()).mode(RecoveryMode::Strict).recover().expect("a copy recovers");
    assert_eq!(recovered.report().next_index, report.next_index);
    found
}

/// Every file of a directory.
fn files(disk: &SimStorage) -> BTreeMap<String, Vec<u8>> {
    disk.file_names().into_iter().map(|name| (name.clone(), disk.read_file(&name).unwrap())).collect()
}

#[test]
fn w5_a_copy_holds_what_was_durable_and_nothing_else() {
    let disk = SimStorage::new();
    let wal = reopen(options(&disk).log_bytes(SMALL)).0;
    for number in 1..=5 {
        wal.append(record(&payload(number, 100))).unwrap();
        if number % 2 == 0 {
            wal.rotate().unwrap();
        }
    }
    // Handed to the system, and accepted: neither is durable.
    wal.append_with(record(b"written"), wal_manager::Durability::Written).unwrap();
    wal.append_with(record(b"buffered"), wal_manager::Durability::Buffered).unwrap();
    let copy = disk.directory("copy");
    let report = wal.copy_on(&copy).unwrap();
    assert_eq!((report.first_index.get(), report.next_index.get()), (1, 6));
    assert_eq!(report.seqs.unwrap().last().get(), 5);
    assert_eq!(report.logs.iter().map(|log| log.linked).collect::<Vec<_>>(), [true, true, false]);
    let found = look(&copy, &report);
    assert!(found.iter().all(|(index, bytes)| *bytes == payload(*index, 100)));
    // The source goes on as if nothing had been.
    wal.append(record(b"after")).unwrap();
    wal.close().unwrap();
    assert_eq!(read_back(&disk).len(), 8);
    // The copy goes on by itself.
    let second = reopen(options(&copy));
    assert_eq!(second.1.len(), 5);
    assert_eq!(second.0.append(record(b"of the copy")).unwrap().index.get(), 6);
}

#[test]
fn w5_logs_without_records_are_copied_too() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    let empty = disk.directory("empty");
    let report = wal.copy_on(&empty).unwrap();
    assert_eq!((report.first_index.get(), report.next_index.get()), (1, 1));
    look(&empty, &report);
    let outside = options(&disk).copy_on(&disk.directory("outside")).unwrap();
    assert_eq!((outside.next_index.get(), outside.logs.len()), (1, 0), "nothing is proven yet");
    look(&disk.directory("outside"), &outside);
    // Everything deleted: the numbers go on.
    let last = wal.append(record(b"one")).unwrap().seqs.last();
    wal.rotate().unwrap();
    wal.append(record(b"two")).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
    let late = disk.directory("late");
    let report = wal.copy_on(&late).unwrap();
    assert_eq!((report.first_index.get(), report.next_index.get()), (2, 3));
    look(&late, &report);
    let (wal, records, _) = reopen(options(&late));
    assert_eq!(records.len(), 1);
    assert_eq!(wal.flushed(FamilyId::DEFAULT), Some(last), "the marks are copied, too");
}

#[test]
fn w5_a_copy_goes_where_nothing_is() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    wal.append(record(b"one")).unwrap();
    let copy = disk.directory("copy");
    wal.copy_on(&copy).unwrap();
    let before = files(&copy);
    let again = wal.copy_on(&copy).unwrap_err();
    assert!(matches!(again, Error::TargetNotEmpty { .. }), "{again}");
    assert_eq!(again.kind(), ErrorKind::Invalid);
    let itself = options(&disk).copy_on(&disk).unwrap_err();
    assert!(matches!(itself, Error::Locked { .. }), "{itself}");
    assert_eq!(files(&copy), before);
    // A backend without links gets copies.
    let elsewhere = MemStorage::new();
    wal.rotate().unwrap();
    let report = wal.copy_on(&elsewhere).unwrap();
    assert!(report.logs.iter().all(|log| !log.linked));
}

/// Sixty copies between random appends, rotations, flushes, and logs that are used again: each verifies and replays to exactly the prefix that it
/// named, and none is touched later.
#[test]
fn w5_sixty_copies_under_load() {
    for (seed, way) in [(1, Way::Append), (2, Way::Filled), (3, Way::Direct)] {
        let disk = SimStorage::new();
        let start = options(&disk).log_bytes(SMALL).way(way).recycle(2);
        let wal = reopen(start).0;
        let mut rng = Rng::new(seed);
        let (mut copies, mut linked, mut durable) = (Vec::new(), 0, 0_u64);
        let mut appended = 0_u64;
        while copies.len() < 20 {
            match rng.below(20) {
                0..12 => {
                    appended += 1;
                    let length = 1 + rng.below(6000) as usize;
                    let ticket = wal.submit(record(&payload(appended, length))).unwrap();
                    if rng.below(3) == 0 {
                        durable = ticket.wait().unwrap().index.get();
                    }
                }
                12..14 => {
                    wal.rotate().unwrap();
                    wal.housekeep().unwrap();
                    durable = wal.durable().index.get();
                }
                14..16 if durable > 10 => {
                    let through = durable - rng.below(10);
                    if wal.flushed(FamilyId::DEFAULT).is_none_or(|flushed| flushed.get() < through) {
                        wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(through)).unwrap();
                    }
                }
                16 => {
                    let copy = disk.directory(&format!("copy-{}", copies.len()));
                    let outside = copies.len() % 4 == 3;
                    let frontier = wal.durable().index.get();
                    let report = if outside { options(&disk).copy_on(&copy) } else { wal.copy_on(&copy) };
                    let report = report.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    assert!(report.next_index.get() <= frontier + 1, "nothing beyond the frontier");
                    assert!(outside || report.next_index.get() == frontier + 1, "everything up to it");
                    linked += report.logs.iter().filter(|log| log.linked).count();
                    for (index, bytes) in look(&copy, &report) {
                        assert_eq!(bytes, payload(index, bytes.len()), "record {index} of {copy:?}");
                    }
                    let held = files(&copy);
                    copies.push((copy, report, held));
                }
                _ => {}
            }
        }
        for _ in 0..200 {
            appended += 1;
            let last = wal.append(record(&payload(appended, 2000))).unwrap().seqs.last();
            if appended.is_multiple_of(20) {
                wal.rotate().unwrap();
                wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
            }
        }
        assert!(linked > 20, "{linked} linked logs");
        for (copy, report, held) in &copies {
            assert_eq!(files(copy), *held, "nobody has touched it");
            look(copy, report);
        }
    }
}

/// A power cut at every step of a copy, and after it: the source is whole, and the copy is whole or does not open.
#[test]
fn w5_a_crash_at_every_step_of_a_copy() {
    let life = || {
        let disk = SimStorage::new();
        let wal = reopen(options(&disk).log_bytes(SMALL)).0;
        for number in 1..=6 {
            wal.append(record(&payload(number, 300))).unwrap();
            if number % 2 == 0 {
                wal.rotate().unwrap();
            }
        }
        wal.append(record(&payload(7, 300))).unwrap();
        (disk, wal)
    };
    let (mut steps, mut whole) = (0, 0);
    loop {
        let (disk, wal) = life();
        disk.crash_after(steps);
        let copied = wal.copy_on(&disk.directory("copy"));
        let ended = copied.is_ok() && !disk.is_frozen();
        for seed in 0..12 {
            let after = match seed {
                0 => disk.crash_all_lost(),
                1 => disk.crash_all_kept(),
                seed => disk.crash(seed),
            };
            let copy = after.directory("copy");
            match options(&copy).mode(RecoveryMode::Strict).inspect() {
                Ok(inspection) => {
                    assert_eq!(inspection.report().verdict, Verdict::Clean, "step {steps} seed {seed}");
                    assert_eq!(inspection.records().map(Result::unwrap).count(), 7);
                    whole += 1;
                }
                Err(Error::CheckpointMissing { .. }) => assert!(!ended, "it was done"),
                Err(error) if error.kind() == ErrorKind::NotFound => assert!(!ended, "it was done"),
                Err(error) => panic!("step {steps} seed {seed}: {error}"),
            }
            assert_eq!(read_back(&after).len(), 7, "step {steps} seed {seed}");
        }
        if ended {
            break;
        }
        drop(wal);
        steps += 1;
    }
    assert!(steps > 10 && whole > 12, "{steps} steps, {whole} whole");
}

/// A disk that fails, or fills up, at any step of a copy harms nobody but the copy.
#[test]
fn w5_a_copy_that_fails_is_told_and_harms_nobody() {
    for errno in ["EIO", "ENOSPC"] {
        let mut step = 0;
        loop {
            step += 1;
            let disk = SimStorage::new();
            let wal = reopen(options(&disk).log_bytes(SMALL)).0;
            for number in 1..=4 {
                wal.append(record(&payload(number, 300))).unwrap();
                if number == 2 {
                    wal.rotate().unwrap();
                }
            }
            disk.fail(Fault::parse(&format!("fail any #{step} of copy/* with {errno}")).unwrap());
            let copy = disk.directory("copy");
            let copied = wal.copy_on(&copy);
            disk.clear_faults();
            let struck = disk.trace().iter().any(|line| line.contains(errno));
            if let Ok(report) = &copied {
                look(&copy, report);
            }
            wal.append(record(&payload(5, 300))).expect("the log goes on");
            wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2)).expect("and deletes");
            assert_eq!(wal.logs().len(), 1, "no pin is left");
            if !struck {
                copied.unwrap();
                break;
            }
        }
        assert!(step > 5, "{step} steps");
    }
}

/// Writers append, rotate, flush and delete in the middle of a copy.
#[test]
fn w5_g10_writers_go_on_while_a_copy_is_held_up() {
    within("a copy that is held up", || {
        let disk = SimStorage::new();
        let wal = Arc::new(reopen(options(&disk).log_bytes(SMALL).way(Way::Filled).recycle(2)).0);
        for number in 1..=6 {
            wal.append(record(&payload(number, 300))).unwrap();
            if number % 2 == 0 {
                wal.rotate().unwrap();
            }
        }
        wal.append(record(&payload(7, 300))).unwrap();
        let copy = disk.directory("copy");
        let target = FaultyStorage::new(copy.clone());
        // Everything is linked, and the last log is about to be copied.
        let gate = target.gate(Which::Kind(Kind::Write), 1);
        let copying = {
            let (wal, target) = (Arc::clone(&wal), target.clone());
            thread::spawn(move || wal.copy_on(&target))
        };
        gate.reached();
        for number in 8..=40 {
            let last = wal.append(record(&payload(number, 3000))).unwrap().seqs.last();
            if number % 4 == 0 {
                wal.rotate().unwrap();
                assert_eq!(
                    wal.mark_flushed(FamilyId::DEFAULT, last).unwrap().deleted,
                    [],
                    "a copy keeps them"
                );
            }
        }
        gate.open();
        let report = copying.join().unwrap().unwrap();
        assert_eq!((report.first_index.get(), report.next_index.get()), (1, 8));
        let held = files(&copy);
        wal.housekeep().unwrap();
        assert!(wal.logs().len() <= 2, "they go when the copy is done: {:?}", wal.logs());
        for number in 41..=80 {
            let last = wal.append(record(&payload(number, 3000))).unwrap().seqs.last();
            if number % 4 == 0 {
                wal.rotate().unwrap();
                wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
            }
        }
        assert_eq!(files(&copy), held);
        look(&copy, &report);
    });
}

/// A log that still waits for its seal is written to once more, so it is copied, not linked.
#[test]
fn w5_a_log_that_waits_for_its_seal_is_not_linked() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    wal.append(record(b"one")).unwrap();
    disk.fail(Fault::parse("fail write #1 of 000001.wal with EIO").unwrap());
    wal.rotate().unwrap();
    wal.append(record(b"two")).unwrap();
    let copy = disk.directory("copy");
    let report = wal.copy_on(&copy).unwrap();
    assert_eq!(report.logs.iter().map(|log| log.linked).collect::<Vec<_>>(), [false, false]);
    look(&copy, &report);
}

/// Without the lock, from the side: the log that was linked was deleted before, and its file is just becoming another one.
#[test]
fn w5_rd1_r6_a_linked_log_that_is_used_again_at_the_same_moment_is_no_part_of_a_copy() {
    within("a copy beside a deletion", || {
        let disk = SimStorage::new();
        let writing = FaultyStorage::new(disk.clone());
        let wal = Arc::new(reopen(options(&writing).log_bytes(SMALL).way(Way::Filled).recycle(2)).0);
        for number in 1..=4 {
            wal.append(record(&payload(number, 300))).unwrap();
            wal.rotate().unwrap();
        }
        wal.append(record(&payload(5, 300))).unwrap();
        wal.append(record(&payload(6, 300))).unwrap();
        let copy = disk.directory("copy");
        let target = FaultyStorage::new(copy.clone());
        let linking = target.gate(Which::Kind(Kind::Link), 1);
        let copying = {
            let (disk, target) = (disk.clone(), target.clone());
            thread::spawn(move || options(&disk).copy_on(&target))
        };
        linking.reached();
        // The oldest log is one that the open began and never filled; the next is used again first.
        let gone = wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2)).unwrap().deleted;
        assert_eq!(gone.len(), 2);
        let wiping = writing.gate(Which::Kind(Kind::Write), 1);
        let making = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.housekeep())
        };
        wiping.reached();
        // It was asked for its links already, and is not wiped yet.
        linking.open();
        let report = copying.join().unwrap().unwrap();
        wiping.open();
        making.join().unwrap().unwrap();
        assert_eq!(report.first_index.get(), 3, "what was deleted is not in it");
        look(&copy, &report);
    });
}

fn real(dir: &Path) -> Options {
    Wal::options(dir).log_bytes(256 << 10).way(Way::Filled).recycle(2)
}

fn copied(dir: &Path) -> Vec<u64> {
    let inspection = Wal::options(dir).mode(RecoveryMode::Strict).inspect().unwrap();
    assert_eq!(inspection.report().verdict, Verdict::Clean, "{:?}", inspection.report().findings);
    let records = inspection.records().map(Result::unwrap);
    records
        .map(|record| {
            assert_eq!(record.payload, payload(record.index.get(), record.payload.len())[..]);
            record.index.get()
        })
        .collect()
}

/// On real files, with a writer at full speed, from this process and from the side; `COPIES` asks for more of them, and takes the time that it takes.
#[test]
fn w5_copies_of_real_files_under_load() {
    match std::env::var("COPIES") {
        Ok(copies) => copy_real_files_under_load(copies.parse().expect("COPIES is a number")),
        Err(_) => within("copies of real files", || copy_real_files_under_load(12)),
    }
}

fn copy_real_files_under_load(copies: usize) {
    let outer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = outer.path().join("wal");
    let wal = Arc::new(reopen(real(&dir)).0);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (wal, stop) = (Arc::clone(&wal), Arc::clone(&stop));
        thread::spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let level = wal_manager::Durability::Written;
                let last = wal.append_with(record(&payload(number, 2000)), level).unwrap().seqs.last();
                if number % 100 == 0 {
                    wal.rotate().unwrap();
                }
                if number % 300 == 0 {
                    wal.sync().unwrap();
                    wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
                }
            }
        })
    };
    let (mut reports, mut gaps) = (Vec::new(), 0);
    while reports.len() < copies {
        let target = outer.path().join(format!("copy-{}", reports.len()));
        let outside = reports.len() % 2 == 1;
        let report = if outside { Wal::options(&dir).copy_to(&target) } else { wal.copy_to(&target) };
        match report {
            Ok(report) => {
                assert_eq!(report.path, target);
                reports.push(report);
            }
            // The writer is faster.
            Err(Error::Gap { .. } | Error::Restless { .. }) if outside && gaps < 1000 => {
                assert!(!target.exists());
                gaps += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    for report in &reports {
        let found = copied(&report.path);
        assert_eq!(found, (report.first_index.get()..report.next_index.get()).collect::<Vec<_>>());
        assert!(!outer.path().join("copy-0.making").exists());
    }
    let linked: usize =
        reports.iter().map(|report| report.logs.iter().filter(|log| log.linked).count()).sum();
    assert!(linked > 0, "hard links are there");
    println!("{copies} copies, {linked} linked logs, {gaps} gaps");
    let again = wal.copy_to(&reports[0].path).unwrap_err();
    assert!(matches!(again, Error::TargetNotEmpty { .. }), "{again}");
    wal.close().unwrap();
}

/// The source wipes and uses files again, but never one that a copy has, too.
#[test]
fn w5_r6_a_file_with_a_second_name_is_never_used_again() {
    let outer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = outer.path().join("wal");
    let wal = reopen(real(&dir).background(false)).0;
    for number in 1..=200 {
        wal.append(record(&payload(number, 2000))).unwrap();
        if number % 50 == 0 {
            wal.housekeep().unwrap();
            wal.rotate().unwrap();
        }
    }
    // Left by a copy that died.
    fs::create_dir(outer.path().join("copy.making")).unwrap();
    fs::write(outer.path().join("copy.making/000009.wal"), b"half a log").unwrap();
    let report = wal.copy_to(outer.path().join("copy")).unwrap();
    assert!(!outer.path().join("copy/000009.wal").exists());
    let shared = |name: &str| fs::metadata(outer.path().join("copy").join(name)).unwrap();
    let linked: Vec<String> =
        report.logs.iter().filter(|log| log.linked).map(|log| format!("{:06}.wal", log.log.get())).collect();
    assert!(linked.len() >= 3, "{report:?}");
    assert!(linked.iter().all(|name| shared(name).nlink() == 2));
    for number in 201..=600 {
        let last = wal.append(record(&payload(number, 2000))).unwrap().seqs.last();
        if number % 50 == 0 {
            wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
            wal.housekeep().unwrap();
            wal.rotate().unwrap();
        }
    }
    for file in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        // A deleted log that waits to be used again has its old name.
        let others = linked.iter().filter(|linked| **linked != name);
        let inode = file.metadata().unwrap().ino();
        assert!(
            others.map(|name| shared(name).ino()).all(|other| other != inode),
            "{name} is one of the copy's"
        );
    }
    assert_eq!(copied(&report.path), (1..201).collect::<Vec<_>>());
}

/// Several copies to one target at once, of two writers: one of them makes it, and the others are told and leave it as it is.
#[test]
fn w5_of_copies_to_one_target_at_once_one_makes_it() {
    let outer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let wals: Vec<Wal> =
        (0..2).map(|number| reopen(real(&outer.path().join(format!("wal-{number}")))).0).collect();
    for wal in &wals {
        for number in 1..=3 {
            wal.append(record(&payload(number, 100))).unwrap();
        }
    }
    for round in 0..20 {
        let target = outer.path().join(format!("copy-{round}"));
        let made: Vec<CopyReport> = thread::scope(|scope| {
            let copy = |wal| {
                let target = &target;
                scope.spawn(move || Wal::copy_to(wal, target))
            };
            let copies: Vec<_> = wals.iter().chain(&wals).map(copy).collect();
            let told = copies.into_iter().filter_map(|copy| match copy.join().unwrap() {
                Ok(report) => Some(report),
                Err(Error::Locked { .. } | Error::TargetNotEmpty { .. }) => None,
                Err(error) => panic!("round {round}: {error}"),
            });
            told.collect()
        });
        assert_eq!(made.len(), 1, "round {round}: {made:?}");
        assert_eq!(copied(&target), [1, 2, 3]);
        assert_eq!(Wal::options(&target).inspect().unwrap().report().next_index, made[0].next_index);
        assert!(!outer.path().join(format!("copy-{round}.making")).exists());
    }
}
