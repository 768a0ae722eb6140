//! What a disk can do to a log, by row of the list of faults: the log on the simulated disk, one fault at a time.
//!
//! Everywhere the same is asked: what was acknowledged is there, to the byte and in order; nothing was invented; what a recovery
//! handed out is still there after the next power cut; and a crash alone is never called damage.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use wal_io::sim::{Pending, SimOptions, SimStorage};
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, LogVerdict, RecoveredRecord, SeqNum, Verdict, Wal,
};
use wal_tests::life::{
    Acked, SMALL, assert_holds, errno, note, open, options, payload, record, reopen, within,
};

const EIO: i32 = 5;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;

fn fail(disk: &SimStorage, words: &str) {
    disk.fail(words.parse().unwrap_or_else(|error| panic!("{words}: {error}")));
}

fn append(wal: &Wal, acked: &mut Acked, bytes: &[u8]) {
    note(acked, wal.append(record(bytes)).unwrap(), bytes);
}

/// Handed to the system, and not synced.
fn write(wal: &Wal, bytes: &[u8]) {
    wal.append_with(record(bytes), Durability::Written).unwrap();
}

fn payloads(records: &[RecoveredRecord]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.payload.to_vec()).collect()
}

fn is_name(pending: &Pending) -> bool {
    !matches!(pending, Pending::Sector { .. } | Pending::Size { .. } | Pending::Directory)
}

/// Opens without damage, finds what was acknowledged, goes on, and finds it all again after the next power cut.
fn survives(disk: &SimStorage, acked: &Acked) -> Vec<RecoveredRecord> {
    let (wal, records, report) = reopen(options(disk).log_bytes(SMALL));
    assert!(matches!(report.verdict, Verdict::Clean | Verdict::TornTail), "{:?}", report.verdict);
    assert_holds(&records, acked);
    let mut later = acked.clone();
    for record in &records {
        later.insert(record.index.get(), (record.seqs.first(), record.payload.to_vec()));
    }
    append(&wal, &mut later, b"behind");
    drop(wal);
    let again = reopen(options(&disk.crash_all_lost()).log_bytes(SMALL)).1;
    assert_holds(&again, &later);
    assert_eq!(again.len(), records.len() + 1, "nothing came back to life");
    records
}

/// A disk that refuses to open, and why: not changed, not opened, no record invented.
fn is_damaged(disk: &SimStorage) -> Error {
    // A directory that was closed cleanly is read only when its records are handed out.
    let opened = options(disk).log_bytes(SMALL).recover();
    let read = opened
        .and_then(|recovery| recovery.records().find_map(Result::err).map_or(Ok(recovery), Err))
        .map(|recovery| recovery.report().clone());
    let error = read.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
    error
}

/// Runs the life with power for 0, 1, 2 ... operations, and looks at what each way of losing the rest leaves.
fn every_point(life: impl Fn(&SimStorage, &mut Acked) -> Result<(), Error>, options: SimOptions) -> u64 {
    type Keep = fn(&Pending) -> bool;
    let ways: [Keep; 6] = [
        |_| false,
        |_| true,
        is_name,
        |pending| !is_name(pending),
        |pending| !matches!(pending, Pending::Size { .. }),
        |pending| !matches!(pending, Pending::Sector { .. }),
    ];
    for point in 0.. {
        let disk = SimStorage::with_options(options);
        let mut acked = Acked::new();
        disk.crash_after(point);
        let whole = life(&disk, &mut acked).is_ok() && !disk.is_frozen();
        for keep in ways {
            survives(&disk.crash_with(&mut |pending| keep(pending)), &acked);
        }
        for seed in 0..4 {
            survives(&disk.crash(seed * 1000 + point), &acked);
        }
        if whole {
            return point;
        }
    }
    unreachable!("the loop returns")
}

/// Two rotations, acknowledged and unacknowledged records in each log.
fn rotating(disk: &SimStorage, acked: &mut Acked) -> Result<(), Error> {
    let recovery = options(disk).log_bytes(SMALL).recover()?;
    recovery.records().for_each(drop);
    let (wal, _) = recovery.finish()?;
    for number in 0..3_u64 {
        let bytes = payload(number, 700);
        note(acked, wal.append(record(&bytes))?, &bytes);
        drop(wal.submit(record(b"not waited for"))?);
        if number < 2 {
            wal.rotate()?;
        }
    }
    let bytes = payload(9, 100);
    note(acked, wal.append(record(&bytes))?, &bytes);
    Ok(())
}

/// Whether each subset of what is pending survives; the bound keeps it exhaustive.
fn every_subset(disk: &SimStorage, mut look: impl FnMut(&SimStorage)) {
    let pending = disk.pending().len();
    assert!((1..=10).contains(&pending), "{pending} pending effects");
    for subset in 0..1_u32 << pending {
        let mut bit = 0;
        look(&disk.crash_with(&mut |_| {
            bit += 1;
            subset >> (bit - 1) & 1 == 1
        }));
    }
}

/// One log with `records` acknowledged records.
fn one_log(records: u64, length: usize) -> (SimStorage, Wal, Acked) {
    let disk = SimStorage::new();
    let (wal, _, _) = reopen(options(&disk).log_bytes(SMALL));
    let mut acked = Acked::new();
    for number in 0..records {
        append(&wal, &mut acked, &payload(number, length));
    }
    (disk, wal, acked)
}

#[test]
fn f01_f14_f16_f24_a_power_cut_at_every_operation_of_open_append_and_rotate() {
    for options in [
        SimOptions::default(),
        SimOptions::ext4(),
        SimOptions { garbage: false, ..SimOptions::ext4_writeback() },
        SimOptions { tear: true, split_renames: true, ..SimOptions::default() },
    ] {
        let points = every_point(rotating, options);
        assert!(points > 30, "{points} points");
    }
}

#[test]
fn f02_the_directory_is_durable_before_the_first_acknowledgement() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    assert!(disk.is_published());
    let mut acked = Acked::new();
    append(&wal, &mut acked, b"first");
    survives(&disk.crash_all_lost(), &acked);
    // If that fails, so does the open; and the next one makes up for it.
    let disk = SimStorage::new();
    fail(&disk, "fail syncparents #1 with EIO");
    assert_eq!(errno(&options(&disk).recover().unwrap_err()), Some(EIO));
    disk.clear_faults();
    append(&open(&disk), &mut Acked::new(), b"first");
    assert!(disk.is_published());
}

#[test]
fn f04_a_length_ahead_of_the_bytes_ends_the_log() {
    let (disk, wal, acked) = one_log(3, 100);
    write(&wal, &payload(7, 3000));
    let after = disk.crash_with(&mut |pending| matches!(pending, Pending::Size { .. }));
    let left = after.read_file("000001.wal").unwrap();
    assert!(left.len() > 3000 && left[left.len() - 3000..].iter().all(|byte| *byte == 0));
    assert_eq!(survives(&after, &acked).len(), 3);
}

#[test]
fn f05_bytes_behind_the_length_are_not_there() {
    let (disk, wal, acked) = one_log(3, 100);
    write(&wal, &payload(7, 3000));
    let after = disk.crash_with(&mut |pending| !matches!(pending, Pending::Size { .. }));
    assert_eq!(survives(&after, &acked).len(), 3);
}

#[test]
fn f06_the_sectors_of_an_unsynced_write_survive_in_any_subset() {
    let (disk, wal, acked) = one_log(2, 50);
    let unsynced = payload(7, 3000);
    write(&wal, &unsynced);
    let mut whole = 0;
    every_subset(&disk, |after| {
        let records = survives(after, &acked);
        assert!(records.len() == 2 || records[2].payload == unsynced[..]);
        whole += records.len() - 2;
    });
    assert_eq!(whole, 1, "only with all its sectors and the length");
}

#[test]
fn f07_a_later_record_is_not_taken_if_an_earlier_one_is_lost() {
    let (disk, wal, acked) = one_log(1, 600);
    // A sector and more each, so that one can survive without the other.
    let unsynced: Vec<Vec<u8>> = (7..9).map(|number| payload(number, 1100)).collect();
    for bytes in &unsynced {
        write(&wal, bytes);
    }
    let mut lengths = BTreeMap::new();
    every_subset(&disk, |after| {
        let records = payloads(&survives(after, &acked));
        assert!(unsynced.starts_with(&records[1..]), "a hole");
        *lengths.entry(records.len()).or_insert(0) += 1;
    });
    assert_eq!(lengths.len(), 3, "none, the first, both: {lengths:?}");
}

#[test]
fn f08_f09_f12_a_tail_torn_at_every_byte_or_filled_with_garbage_is_dropped() {
    let (disk, wal, acked) = one_log(2, 200);
    let synced = disk.read_file("000001.wal").unwrap().len();
    // Straddles sectors and a page.
    let unsynced = payload(7, 5000);
    write(&wal, &unsynced);
    let whole = disk.read_file("000001.wal").unwrap();
    let boundaries = (synced..whole.len()).filter(|at| at % 512 < 2 || at % 512 == 511);
    let head = synced..synced + 60;
    let tail = whole.len() - 20..whole.len();
    for cut in head.chain(boundaries).chain(tail) {
        for rest in [None, Some(0_u8), Some(0xA5)] {
            let disk = disk.fork();
            disk.corrupt("000001.wal", |bytes| match rest {
                None => bytes.truncate(cut),
                Some(byte) => bytes[cut..].iter_mut().enumerate().for_each(|(at, left)| {
                    *left = byte.wrapping_mul(at as u8 | 1);
                }),
            });
            assert_eq!(survives(&disk, &acked).len(), 2, "cut at {cut}, then {rest:?}");
        }
    }
}

#[test]
fn f10_old_bytes_of_a_deleted_log_behind_the_tail_are_not_accepted() {
    let (disk, wal, mut acked) = one_log(4, 100);
    let old = disk.read_file("000001.wal").unwrap();
    wal.rotate().unwrap();
    let last = wal.append(record(b"in the second log")).unwrap();
    note(&mut acked, last, b"in the second log");
    // The first log goes, and its space, with whole records in it, comes back behind the second one's end.
    wal.mark_flushed(FamilyId::new(0), SeqNum::new(last.seqs.first().get() - 1)).unwrap();
    drop(wal);
    assert_eq!(disk.read_file("000001.wal"), None);
    acked.retain(|index, _| *index == last.index.get());
    let length = disk.read_file("000002.wal").unwrap().len();
    for at in [length, 100 + length, 512, 4096] {
        let disk = disk.fork();
        disk.corrupt("000002.wal", |bytes| {
            bytes.resize(at.max(old.len() + 512), 0);
            let end = bytes.len().min(old.len());
            if at >= length && at < end {
                bytes[at..end].copy_from_slice(&old[at..end]);
            }
            bytes.extend(&old);
        });
        assert_eq!(survives(&disk, &acked).len(), 1, "old bytes from {at} on");
    }
}

#[test]
fn f11_a_record_that_was_cut_never_comes_back_to_life() {
    let (disk, wal, acked) = one_log(1, 900);
    // Records of equal size, so that a new one would end exactly where an old one begins.
    for number in 7..9 {
        write(&wal, &payload(number, 900));
    }
    let sectors = disk.pending();
    let last = sectors.iter().filter(|one| matches!(one, Pending::Sector { .. })).count();
    // The first is lost, the second is whole.
    let mut seen = 0;
    let mut after = disk.crash_with(&mut |pending| match pending {
        Pending::Sector { .. } => {
            seen += 1;
            seen > last / 2
        }
        _ => true,
    });
    let mut acked = acked;
    for round in 20..25 {
        let (wal, records, _) = reopen(options(&after).log_bytes(SMALL));
        assert_holds(&records, &acked);
        assert_eq!(records.len(), acked.len(), "round {round}: a zombie");
        append(&wal, &mut acked, &payload(round, 900));
        drop(wal);
        after = if round % 2 == 0 { after.crash_all_kept() } else { after.crash_all_lost() };
    }
}

#[test]
fn f15_a_new_log_never_survives_without_the_end_of_the_old_one() {
    // Whatever is pending on the newest log survives, and nothing else.
    for point in 0.. {
        let disk = SimStorage::new();
        let mut acked = Acked::new();
        disk.crash_after(point);
        let whole = rotating(&disk, &mut acked).is_ok() && !disk.is_frozen();
        let newest = disk.file_names().into_iter().rfind(|name| name.ends_with(".wal")).unwrap_or_default();
        let after = disk.crash_with(&mut |pending| match pending {
            Pending::Sector { file, .. } | Pending::Size { file, .. } => *file == newest,
            Pending::Create { name } => *name == newest,
            _ => false,
        });
        survives(&after, &acked);
        if whole {
            return;
        }
    }
}

#[test]
fn f16_an_empty_newest_log_or_one_with_a_torn_header_is_no_damage() {
    let disk = SimStorage::new();
    let mut acked = Acked::new();
    rotating(&disk, &mut acked).unwrap();
    let disk = disk.crash_all_kept();
    let newest = disk.file_names().into_iter().rfind(|name| name.ends_with(".wal")).unwrap();
    let header = disk.read_file(&newest).unwrap()[..111].to_vec();
    let next = format!("{:06}.wal", newest[..6].parse::<u64>().unwrap() + 1);
    // Its last bytes are zeros.
    for cut in 0..header.len() - 8 {
        for zeros in [0, 5000] {
            let disk = disk.fork();
            let mut bytes = header[..cut].to_vec();
            bytes.resize(cut + zeros, 0);
            disk.write_file(&next, bytes);
            survives(&disk, &acked);
        }
    }
}

#[test]
fn f17_a_rename_that_left_both_names_or_none() {
    let split = SimOptions { split_renames: true, ..SimOptions::default() };
    for point in 0..20 {
        let disk = SimStorage::with_options(split);
        let mut acked = Acked::new();
        disk.crash_after(point);
        let _ = rotating(&disk, &mut acked);
        let names: Vec<Pending> = disk.pending().into_iter().filter(is_name).collect();
        for subset in 0..1_u32 << names.len() {
            let mut bit = 0;
            let after = disk.crash_with(&mut |pending| {
                bit += u32::from(is_name(pending));
                !is_name(pending) || subset >> (bit - 1) & 1 == 1
            });
            survives(&after, &acked);
        }
    }
}

#[test]
fn f19_f20_f21_any_subset_of_unlinks_survives_and_nothing_deleted_is_replayed() {
    let (disk, wal, _) = one_log(0, 0);
    let mut seqs = Vec::new();
    for number in 0..5 {
        seqs.push(wal.append(record(&payload(number, 100))).unwrap().seqs.last());
        wal.rotate().unwrap();
    }
    let mut acked = Acked::new();
    append(&wal, &mut acked, b"live");
    // Power goes before the directory is synced, after each of the unlinks.
    let marked = |power: Option<u64>| {
        let disk = disk.process_crash();
        let (wal, ..) = reopen(options(&disk).log_bytes(SMALL));
        if let Some(power) = power {
            disk.crash_after(power);
        }
        let result = wal.mark_flushed(FamilyId::new(0), seqs[4]);
        (disk, result)
    };
    let (whole, _) = marked(None);
    let trace = whole.trace();
    let first_unlink = trace.iter().position(|line| line.starts_with("unlink 00000")).unwrap();
    let checkpoints = trace[..first_unlink].iter().filter(|line| line.starts_with("syncdata CHECKPOINT"));
    assert!(checkpoints.count() >= 2, "the floor is durable first: {trace:#?}");
    let mut gaps = 0;
    for power in 0..40 {
        let (disk, result) = marked(Some(power));
        let unlinks = disk.pending().iter().filter(|one| matches!(one, Pending::Unlink { .. })).count();
        for subset in 0..1_u32 << unlinks {
            let mut bit = 0;
            let after = disk.crash_with(&mut |pending| {
                bit += u32::from(matches!(pending, Pending::Unlink { .. }));
                !matches!(pending, Pending::Unlink { .. }) || subset >> (bit - 1) & 1 == 1
            });
            let logs =
                |disk: &SimStorage| disk.file_names().iter().filter(|name| name.ends_with(".wal")).count();
            let before = logs(&after);
            let records = survives(&after, &acked);
            if unlinks > 0 || result.is_ok() {
                assert_eq!(records.len(), 1, "a deleted record was replayed");
                gaps += u32::from(subset != 0 && before > 2);
            }
        }
        if !disk.is_frozen() || result.is_ok() && power > 30 {
            break;
        }
    }
    assert!(gaps > 10, "gaps below the floor: {gaps}");
}

#[test]
fn f26_f27_f28_f30_every_flipped_bit_of_proven_bytes_is_an_error() {
    let disk = SimStorage::new();
    let mut acked = Acked::new();
    rotating(&disk, &mut acked).unwrap();
    let disk = disk.crash_all_kept();
    // A sealed log: header, promises, records, their lengths, types, sequence numbers.
    let sealed = disk.read_file("000001.wal").unwrap();
    for bit in 0..sealed.len() * 8 {
        if bit % 8 != bit / 8 % 8 && bit / 8 > 400 {
            continue;
        }
        let disk = disk.fork();
        fail(&disk, &format!("flip bit {bit} of 000001.wal"));
        let Error::Damaged(report) = is_damaged(&disk) else { panic!("not a verdict") };
        let finding = &report.findings[0];
        assert!(finding.log.get() == 1 && finding.offset <= bit as u64 / 8, "bit {bit}: {finding:?}");
        let verdict = report.logs.iter().find(|log| log.log.get() == 1).map(|log| log.verdict);
        assert_eq!(verdict, Some(LogVerdict::Damaged), "bit {bit}");
    }
}

#[test]
fn f29_a_flip_in_the_last_group_is_a_torn_tail_unless_the_log_was_closed() {
    for close in [false, true] {
        let (disk, wal, acked) = one_log(3, 100);
        if close {
            wal.close().unwrap();
        }
        drop(wal);
        let disk = disk.crash_all_kept();
        // Inside the last record's payload.
        let bytes = disk.read_file("000001.wal").unwrap();
        let last = payload(2, 100);
        let at = bytes.windows(100).rposition(|window| window == last).unwrap() + 50;
        fail(&disk, &format!("flip bit {} of 000001.wal", at * 8));
        if close {
            is_damaged(&disk);
        } else {
            let (_, records, report) = reopen(options(&disk));
            assert_eq!((records.len(), report.verdict), (2, Verdict::TornTail));
            assert_holds(&records, &acked.into_iter().take(2).collect());
        }
    }
}

#[test]
fn f31_a_sealed_log_cut_at_any_byte_is_an_error() {
    let disk = SimStorage::new();
    let mut acked = Acked::new();
    rotating(&disk, &mut acked).unwrap();
    let disk = disk.crash_all_kept();
    let report = reopen(options(&disk.fork()).log_bytes(SMALL)).2;
    for (log, recorded) in [("000001.wal", true), ("000002.wal", false)] {
        let bytes = disk.read_file(log).unwrap();
        let end = report.logs.iter().find(|one| one.path.ends_with(log)).unwrap().offset as usize;
        assert!(end < bytes.len(), "a seal stands behind the records");
        for cut in 0..bytes.len() {
            let disk = disk.fork();
            disk.corrupt(log, |bytes| bytes.truncate(cut));
            if cut < end || recorded {
                is_damaged(&disk);
            } else {
                // CHECKPOINT does not say yet that this log is sealed, and nothing but the seal is gone.
                survives(&disk, &acked);
            }
        }
    }
}

#[test]
fn f32_f33_a_missing_log_is_an_error() {
    let disk = SimStorage::new();
    rotating(&disk, &mut Acked::new()).unwrap();
    let disk = disk.crash_all_kept();
    let logs: Vec<String> = disk.file_names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    assert!(logs.len() >= 3);
    for log in logs {
        let disk = disk.fork();
        assert!(disk.remove(&log));
        let error = is_damaged(&disk);
        assert!(error.to_string().contains(&log), "{log}: {error}");
    }
}

/// The acknowledged records, with one write of the log gone wrong and later ones as they should be.
fn with_a_lie(words: &str, after: u64) -> (SimStorage, Acked) {
    let (disk, wal, mut acked) = one_log(4, 700);
    fail(&disk, words);
    for number in 10..10 + after {
        append(&wal, &mut acked, &payload(number, 700));
    }
    drop(wal);
    (disk.crash_all_kept(), acked)
}

#[test]
fn f36_a_misdirected_write_is_noticed() {
    let (disk, wal, _) = one_log(4, 700);
    let length = disk.read_file("000001.wal").unwrap().len() as u64;
    drop(wal);
    // Over earlier records, at the same place in a sector or not; behind the end; over CHECKPOINT's unused space.
    for to in [150, 512, length - 800, length + 4096, 20_000] {
        let (disk, _) = with_a_lie(&format!("misdirect write #1 of *.wal to {to}"), 3);
        is_damaged(&disk);
    }
    // Into another log: both are damaged, and the first one says so.
    let (disk, wal, mut acked) = one_log(4, 700);
    wal.rotate().unwrap();
    append(&wal, &mut acked, b"second log");
    fail(&disk, "misdirect write #1 of 000002.wal to 000001.wal 300");
    for number in 0..3 {
        append(&wal, &mut acked, &payload(number, 50));
    }
    drop(wal);
    is_damaged(&disk.crash_all_kept());
    // A checkpoint that went astray over a log.
    let (disk, wal, _) = one_log(4, 700);
    fail(&disk, "misdirect write #1 of CHECKPOINT to 000001.wal 300");
    wal.rotate().unwrap();
    drop(wal);
    is_damaged(&disk.crash_all_kept());
}

#[test]
fn f37_a_lost_write_in_the_middle_is_noticed() {
    for nth in 1..4 {
        let (disk, _) = with_a_lie(&format!("lose write #{nth} of *.wal"), 6);
        let Error::Damaged(report) = is_damaged(&disk) else { panic!("not a verdict") };
        assert!(report.findings[0].offset > 2800, "{:?}", report.findings);
    }
    // The last write: behind it nothing proves that it was there, and the documentation says so.
    let (disk, acked) = with_a_lie("lose write #3 of *.wal", 3);
    let (_, records, report) = reopen(options(&disk));
    assert_ne!(report.verdict, Verdict::Damaged);
    assert_eq!(records.len(), acked.len() - 1);
}

#[test]
fn f42_a_read_error_is_an_error_and_not_the_end_of_the_log() {
    let disk = SimStorage::new();
    let mut acked = Acked::new();
    rotating(&disk, &mut acked).unwrap();
    let disk = disk.crash_all_kept();
    let mut failed = 0;
    for nth in 1..40 {
        for operation in ["read", "stat", "open", "list"] {
            let disk = disk.fork();
            fail(&disk, &format!("fail {operation} #{nth} with EIO"));
            let opened = options(&disk).log_bytes(SMALL).recover().and_then(|recovery| {
                let records = recovery.records().collect::<Result<Vec<_>, _>>()?;
                Ok((records, recovery.finish()?.0))
            });
            match opened {
                Ok((records, wal)) => {
                    assert_holds(&records, &acked);
                    drop(wal);
                }
                Err(error) => {
                    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Io, Some(EIO)), "{error}");
                    failed += 1;
                }
            }
            // Nothing was concluded from it.
            survives(&disk.crash_all_lost(), &acked);
        }
    }
    assert!(failed > 15, "{failed} opens failed");
}

#[test]
fn f44_f45_after_a_failed_sync_nothing_is_acknowledged_and_the_cache_is_not_believed() {
    // What is full and not broken goes on by itself: `full.rs`.
    for (word, number) in [("EIO", EIO), ("EFBIG", EFBIG)] {
        for nth in 1..6 {
            for after in [SimStorage::process_crash, SimStorage::crash_all_kept, SimStorage::crash_all_lost] {
                let (disk, wal, mut acked) = one_log(1, 600);
                fail(&disk, &format!("fail sync #{nth} of *.wal with {word}"));
                let failed = (0..8).any(|number| {
                    let bytes = payload(number, 600);
                    match wal.append(record(&bytes)) {
                        Ok(appended) => {
                            note(&mut acked, appended, &bytes);
                            false
                        }
                        Err(_) => true,
                    }
                });
                assert!(failed);
                // The disk is fine again; nothing is tried again on this file.
                disk.clear_faults();
                disk.clear_trace();
                let error = wal.append(record(b"late")).unwrap_err();
                assert_eq!((error.kind(), errno(&error)), (ErrorKind::Poisoned, Some(number)));
                wal.sync().unwrap_err();
                let trace = disk.trace();
                assert!(!trace.iter().any(|line| line.contains(".wal")), "{trace:?}");
                drop(wal);
                survives(&after(&disk), &acked);
            }
        }
    }
}

#[test]
fn f47_a_failed_sync_of_the_directory_fails_the_rotation_and_nothing_else() {
    for lose_names in [false, true] {
        let disk = SimStorage::with_options(SimOptions { lose_names, ..SimOptions::default() });
        let (wal, ..) = reopen(options(&disk).log_bytes(SMALL));
        let mut acked = Acked::new();
        append(&wal, &mut acked, b"before");
        fail(&disk, "fail syncdir #1 with EIO");
        assert_eq!(errno(&wal.rotate().unwrap_err()), Some(EIO));
        append(&wal, &mut acked, b"in the old log");
        survives(&disk.fork().crash_all_lost(), &acked);
        wal.rotate().unwrap();
        append(&wal, &mut acked, b"in the new log");
        drop(wal);
        survives(&disk.crash_all_lost(), &acked);
    }
}

#[test]
fn f54_after_a_write_that_stopped_half_way_nothing_is_appended_behind_it() {
    for bytes in (0..900).step_by(37) {
        for after in [SimStorage::process_crash, SimStorage::crash_all_kept, SimStorage::crash_all_lost] {
            let (disk, wal, acked) = one_log(2, 600);
            fail(&disk, &format!("fail write #1 of *.wal with EIO after {bytes} bytes"));
            let error = wal.append(record(&payload(7, 800))).unwrap_err();
            assert_eq!(errno(&error), Some(EIO), "{error}");
            // The next write would succeed.
            let error = wal.append(record(&payload(8, 10))).unwrap_err();
            assert_eq!((error.kind(), errno(&error)), (ErrorKind::Poisoned, Some(EIO)));
            drop(wal);
            survives(&after(&disk), &acked);
        }
    }
}

#[test]
fn f50_a_disk_full_at_rotation_is_typed_and_over_when_there_is_space() {
    for (words, clear) in [
        ("fail create #1 of *.wal with ENOSPC", true),
        ("fail sync #1 of 000002.wal with ENOSPC", true),
        ("fail create #1+ of *.wal with EDQUOT", false),
    ] {
        let (disk, wal, mut acked) = one_log(2, 600);
        fail(&disk, words);
        let error = wal.rotate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        append(&wal, &mut acked, b"the old log goes on");
        if !clear {
            assert_eq!(wal.rotate().unwrap_err().kind(), ErrorKind::Full);
        }
        disk.clear_faults();
        survives(&disk.fork().crash_all_lost(), &acked);
        wal.rotate().unwrap();
        append(&wal, &mut acked, b"and the new one too");
        drop(wal);
        survives(&disk.crash_all_lost(), &acked);
    }
    // Really full: no acknowledgement, and after there is space again, an open makes it good.
    let (disk, wal, mut acked) = one_log(2, 600);
    let used: usize = disk.file_names().iter().map(|name| disk.read_file(name).unwrap().len()).sum();
    disk.set_capacity(Some(used as u64 + 1000));
    let full = (0..10).find_map(|number| {
        let bytes = payload(number, 600);
        match wal.append(record(&bytes)) {
            Ok(appended) => {
                note(&mut acked, appended, &bytes);
                None
            }
            Err(error) => Some(error),
        }
    });
    assert_eq!(errno(&full.expect("the disk is full")), Some(ENOSPC));
    drop(wal);
    disk.set_capacity(None);
    survives(&disk.crash_all_lost(), &acked);
}

#[test]
fn f52_f53_interrupted_calls_and_short_writes_change_nothing() {
    for seed in 0..50 {
        let disk = SimStorage::new();
        fail(&disk, &format!("interrupt any 1 in 3 seed {seed}"));
        fail(&disk, &format!("short write 1 in 2 seed {seed}"));
        let mut acked = Acked::new();
        rotating(&disk, &mut acked).unwrap();
        let trace = disk.trace();
        assert!(trace.iter().any(|line| line.ends_with("= EINTR")), "counted");
        let parts = trace.iter().filter(|line| line.starts_with("write") && line.contains(" = ")).count();
        assert!(parts > 0 && disk.counts()["write"] > parts as u64, "counted");
        survives(&disk.crash(seed), &acked);
    }
    // And the power goes between the parts of a write.
    let short = |disk: &SimStorage, acked: &mut Acked| {
        fail(disk, "short write");
        rotating(disk, acked)
    };
    assert!(every_point(short, SimOptions::default()) > 100);
}

/// A gate that a slow operation waits at.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn reached(&self) {
        let mut state = self.state.lock().unwrap();
        while !state.0 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

#[test]
fn f58_behind_a_slow_sync_others_queue_and_none_is_acknowledged_early() {
    within("writers behind a slow sync", || {
        let (disk, wal, mut acked) = one_log(1, 100);
        let wal = Arc::new(wal);
        let gate = Arc::new(Gate::default());
        let slow = Arc::clone(&gate);
        disk.when_slow(Arc::new(move |_: &str| slow.pass()));
        fail(&disk, "slow sync #1 of *.wal");
        let acknowledged = Arc::new(AtomicBool::new(false));
        let writer = |number: u64| {
            let (wal, acknowledged) = (Arc::clone(&wal), Arc::clone(&acknowledged));
            thread::spawn(move || {
                let bytes = payload(number, 100);
                let ticket = wal.submit(record(&bytes)).unwrap();
                let result = ticket.wait().unwrap();
                acknowledged.store(true, Ordering::SeqCst);
                (result, bytes)
            })
        };
        let mut writers = vec![writer(0)];
        gate.reached();
        writers.extend((1..8).map(writer));
        // Nobody is told anything before the disk is: neither success nor a timeout.
        while wal.last_seq().is_none_or(|seq| seq.get() < 9) {
            thread::yield_now();
        }
        assert!(!acknowledged.load(Ordering::SeqCst) && writers.iter().all(|writer| !writer.is_finished()));
        assert_eq!(wal.durable().index.get(), 1);
        disk.clear_trace();
        gate.open();
        for writer in writers {
            let (appended, bytes) = writer.join().unwrap();
            note(&mut acked, appended, &bytes);
        }
        let syncs = disk.trace().iter().filter(|line| line.starts_with("syncdata")).count();
        assert!(syncs <= 3, "those who came meanwhile share a sync: {syncs}");
        drop(wal);
        survives(&disk.crash_all_lost(), &acked);
    });
}

#[test]
fn f23_what_a_recovery_showed_after_a_kill_survives_the_next_power_cut() {
    for unsynced in 1..4 {
        let (disk, wal, acked) = one_log(2, 300);
        for number in 0..unsynced {
            write(&wal, &payload(20 + number, 700));
        }
        drop(wal);
        let disk = disk.process_crash();
        let records = survives(&disk, &acked);
        assert_eq!(records.len() as u64, 2 + unsynced, "the cache shows them");
    }
}

#[test]
fn f36_f37_a_disk_that_loses_syncs_is_found_out_or_loses_only_the_end() {
    // The disk lies about one sync: what it covered may be gone although later syncs were honest, and then it is damage or a
    // torn tail, never a hole.
    for nth in 1..8 {
        let (disk, wal, mut acked) = one_log(1, 600);
        fail(&disk, &format!("lose sync #{nth} of *.wal"));
        for number in 0..6 {
            append(&wal, &mut acked, &payload(number, 600));
        }
        drop(wal);
        for seed in 0..20 {
            let disk = disk.crash(seed);
            match options(&disk).recover() {
                Ok(recovery) => {
                    let records: Vec<_> = recovery.records().map(Result::unwrap).collect();
                    let all: Vec<Vec<u8>> = acked.values().map(|(_, bytes)| bytes.clone()).collect();
                    assert!(all.starts_with(&payloads(&records)));
                    // Only the last sync's bytes can go unnoticed.
                    assert!(records.len() + 1 >= all.len());
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Damage, "{error}"),
            }
        }
    }
}

#[test]
fn f10_f16_a_new_log_whose_first_sector_holds_a_deleted_logs_header_is_no_damage() {
    let (disk, wal, mut acked) = one_log(1, 100);
    let old = disk.read_file("000001.wal").unwrap();
    wal.rotate().unwrap();
    let last = wal.append(record(b"second log")).unwrap();
    wal.mark_flushed(FamilyId::new(0), SeqNum::new(last.seqs.first().get() - 1)).unwrap();
    assert_eq!(disk.read_file("000001.wal"), None);
    acked.retain(|index, _| *index == last.index.get());
    note(&mut acked, last, b"second log");
    drop(wal);
    // The power goes in a recovery, before it has synced the log that it wrote; where that log would be stands what the first one
    // left on the disk. So it is on ext4 with data=writeback.
    let disk = disk.crash_all_kept();
    disk.write_file("000003.wal", old);
    survives(&disk, &acked);
}
