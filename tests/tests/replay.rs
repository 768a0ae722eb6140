//! Replay: what it reads, what it allocates, what it shares, and what it says when a log that was closed is not as its seal says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use wal_format::FileHeader;
use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot};
use wal_format::chunk::HEADER_BYTES;
use wal_io::mem::MemStorage;
use wal_io::sim::SimStorage;
use wal_manager::{
    Durability, Error, FamilyId, LogVerdict, Progress, RecoveredRecord, Recovery, RecoveryMode, Verdict, Wal,
    Window,
};
use wal_tests::allocations::{self, Allocations, Tracking};
use wal_tests::life::{self, options, payload, record};

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

/// A storage with `logs` logs of `records` records of `length` bytes each, closed cleanly or not.
fn written(logs: u64, records: u64, length: usize, closed: bool) -> MemStorage {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    for number in 0..logs * records {
        if number > 0 && number.is_multiple_of(records) {
            wal.rotate().unwrap();
        }
        wal.append_with(record(&payload(number, length)), Durability::Buffered).unwrap();
    }
    if closed {
        wal.close().unwrap();
    } else {
        wal.sync().unwrap();
    }
    storage
}

#[test]
fn v16_lent_records_are_those_that_are_handed_out() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    let several = [vec![FamilyId::DEFAULT, FamilyId::new(7)], vec![FamilyId::new(3)]];
    for number in 0..3000 {
        // Short ones that come as the one before did, and whatever else there is.
        let payload = payload(number, if number % 100 == 0 { 50_000 } else { 1 + number as usize % 300 });
        let mut record = record(&payload).count(1 + u32::from(number % 40 == 0));
        if number % 17 == 0 {
            record = record.families(&several[number as usize % 2]);
        }
        if number % 23 == 0 {
            record = record.key(u128::from(number));
        }
        let appended = wal.append_with(record, Durability::Buffered).unwrap();
        if number == 500 {
            wal.sync().unwrap();
            wal.mark_flushed(FamilyId::DEFAULT, appended.seqs.last()).unwrap();
        } else if number == 2000 {
            wal.rotate().unwrap();
        }
    }
    wal.sync().unwrap();
    drop(wal);
    let recovery = options(&storage).recover().unwrap();
    let (mut shared, mut lent) = (recovery.records(), recovery.records());
    while let Some(record) = lent.lend() {
        let (lent, shared) = (record.unwrap(), shared.next().unwrap().unwrap());
        let RecoveredRecord { log, offset, index, seqs, kind, proven, time_micros, key, .. } = shared;
        assert_eq!((lent.log, lent.offset, lent.index, lent.seqs), (log, offset, index, seqs));
        assert_eq!((lent.kind, lent.proven, lent.time_micros, lent.key), (kind, proven, time_micros, key));
        assert_eq!((lent.families, lent.payload), (&*shared.families, &*shared.payload));
    }
    assert!(shared.next().is_none());
    assert!(lent.lend().is_none(), "once more");
}

fn replay(storage: &MemStorage) -> u64 {
    let recovery = options(storage).recover().unwrap();
    recovery.records().map(Result::unwrap).fold(0, |count, _| count + 1)
}

#[test]
fn v16_an_open_after_a_clean_end_reads_a_header_and_a_seal_of_each_log_and_no_data() {
    for (logs, length) in [(1, 40_000), (1000, 2000)] {
        let disk = SimStorage::new();
        for (name, bytes) in written(logs, 2, length, true).files() {
            disk.write_file(&name, bytes);
        }
        let recovery = options(&disk).recover().unwrap();
        assert_eq!((recovery.report().verdict, recovery.report().records), (Verdict::Clean, 2 * logs));
        assert_eq!(recovery.report().next_index.get(), 2 * logs + 1);
        let mut reads: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in disk.trace() {
            if let Some((name, place)) = line.strip_prefix("read ").and_then(|read| read.split_once(' ')) {
                let length = place.split_once('+').unwrap().1;
                reads.entry(name.to_owned()).or_default().push(length.parse().unwrap());
            }
        }
        for name in (1..=logs).map(|log| format!("{log:06}.wal")) {
            let lengths = &reads[&name];
            assert!(
                lengths.len() == 2 && lengths.iter().sum::<u64>() < 256,
                "{name} of {logs}: {lengths:?} bytes"
            );
        }
        assert_eq!(reads["CHECKPOINT"].len(), 2);
        assert_eq!(recovery.records().map(Result::unwrap).count() as u64, 2 * logs);
        let (wal, report) = recovery.finish().unwrap();
        assert_eq!((report.verdict, report.records, report.rewritten_records), (Verdict::Clean, 2 * logs, 0));
        wal.append(record(b"goes on")).unwrap();
    }
}

#[test]
fn v16_an_open_after_a_clean_end_does_not_depend_on_the_data() {
    let whole = written(3, 2, 30_000, true);
    let mut files = whole.files();
    for (_, bytes) in files.iter_mut().filter(|(name, _)| name.ends_with(".wal")) {
        let end = bytes.len() - 43;
        bytes[111..end].fill(0x5a);
    }
    let (whole, scribbled) =
        (options(&whole).recover().unwrap(), options(&MemStorage::from_files(files)).recover().unwrap());
    assert_eq!(scribbled.report().logs, whole.report().logs);
    let error = scribbled.records().next().unwrap().unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "and nothing of it is handed out: {error}");
}

#[test]
fn v10_v16_memory_stays_the_same_while_the_logs_grow_tenfold() {
    for closed in [true, false] {
        let peaks = [8, 80].map(|logs| {
            let storage = written(logs, 1000, 1000, closed);
            let (count, seen) = allocations::of(|| replay(&storage));
            assert_eq!(count, 1000 * logs);
            seen.peak
        });
        assert!(peaks[1] < peaks[0] + 512 * 1024 && peaks[1] < 4 << 20, "closed: {closed}: {peaks:?} bytes");
    }
}

/// No two records in a row are alike, as batches are not: nothing that is guessed of the next one is right.
#[test]
fn v16_records_that_differ_allocate_nothing_either() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    for number in 0..20_000 {
        let payload = payload(number, 1 + number as usize % 100);
        wal.append_with(record(&payload).count(1 + number as u32 % 5), Durability::Buffered).unwrap();
    }
    wal.close().unwrap();
    let recovery = options(&storage).recover().unwrap();
    for lends in [false, true] {
        let mut records = recovery.records();
        let skipped = records.by_ref().take(10_000).map(Result::unwrap).count();
        let (count, seen): (usize, Allocations) = allocations::of(|| {
            let mut count = 0;
            while if lends { records.lend().map(Result::unwrap).is_some() } else { records.next().is_some() }
            {
                count += 1;
            }
            count
        });
        assert_eq!(skipped + count, 20_000);
        assert!(seen.count <= count / 50, "lends: {lends}: {seen:?} for {count} records");
    }
}

#[test]
fn v16_payloads_are_slices_of_what_was_read_and_no_record_allocates() {
    let storage = written(1, 50_000, 100, true);
    let recovery = options(&storage).recover().unwrap();
    let mut records = recovery.records();
    // The first windows are shorter.
    let skipped = records.by_ref().take(10_000).map(Result::unwrap).count() as u64;
    let mut neighbours = 0;
    let (count, seen): (u64, Allocations) = allocations::of(|| {
        let mut count = 0;
        let mut end = 0;
        for found in records.by_ref() {
            let found = found.unwrap();
            let start = found.payload.as_ptr() as usize;
            // A chunk's header and the envelope lie between two payloads of the same buffer.
            neighbours += u64::from(start > end && start - end < 32);
            end = start + found.payload.len();
            count += 1;
        }
        count
    });
    assert_eq!(skipped + count, 50_000);
    assert!(neighbours > count * 99 / 100, "{neighbours} of {count} lie right behind the one before");
    // A block's end cuts one record in 290, and that one is put together.
    assert!(seen.count as u64 <= count / 50, "{seen:?} for {count} records");
    assert!(seen.peak < 1 << 20, "{seen:?}");
    let mut records = recovery.records();
    let (count, seen): (u64, Allocations) = allocations::of(|| {
        let mut count = 0;
        while let Some(lent) = records.lend() {
            count += u64::from(!lent.unwrap().payload.is_empty());
        }
        count
    });
    assert_eq!(count, 50_000);
    assert!(seen.count as u64 <= count / 50, "{seen:?} for {count} lent records");
}

#[test]
fn v16_whoever_keeps_payloads_keeps_them_as_they_were() {
    for closed in [true, false] {
        let storage = written(3, 20_000, 150, closed);
        let recovery = options(&storage).recover().unwrap();
        let mut kept: Vec<RecoveredRecord> = Vec::new();
        for found in recovery.records() {
            let found = found.unwrap();
            if found.index.get() % 97 == 0 || found.index.get() < 300 {
                kept.push(found);
            }
            // Some are dropped early, so that windows come back in another order than they went.
            if kept.len() > 500 {
                kept.swap_remove(kept.len() % 7);
            }
        }
        assert_eq!(kept.len(), 500);
        for found in kept {
            assert!(found.payload == payload(found.index.get() - 1, 150)[..], "record {}", found.index);
        }
    }
}

#[test]
fn v20_progress_only_grows_and_ends_at_the_total() {
    for closed in [true, false] {
        let storage = written(6, 1000, 1000, closed);
        let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
        let note = Arc::clone(&seen);
        let recovery =
            options(&storage).on_progress(move |now| note.lock().unwrap().push(now)).recover().unwrap();
        assert_eq!(recovery.records().map(Result::unwrap).count(), 6000);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.len() > 4, "{seen:?}");
        assert!(seen.is_sorted_by_key(|now| now.bytes_done), "{seen:?}");
        assert!(seen.iter().all(|now| now.bytes_total == seen[0].bytes_total), "{seen:?}");
        assert!(seen[0].bytes_total > 6_000_000);
        assert_eq!(seen.last().map(|now| now.bytes_done), Some(seen[0].bytes_total));
    }
}

/// A log that was made ahead, or that no link leads to, is looked at and not read.
#[test]
fn v20_progress_ends_at_the_total_though_not_every_file_is_read() {
    for closed in [true, false] {
        let mut files = written(3, 1000, 1000, closed).files();
        files.insert("000009.wal".to_owned(), vec![0; 5 << 20]);
        let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
        let note = Arc::clone(&seen);
        let storage = MemStorage::from_files(files);
        let inspection =
            options(&storage).on_progress(move |now| note.lock().unwrap().push(now)).inspect().unwrap();
        assert_eq!(inspection.report().findings, []);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.is_sorted_by_key(|now| now.bytes_done), "{seen:?}");
        let last = seen.last().unwrap();
        assert!(last.bytes_total > 8_000_000);
        assert_eq!(last.bytes_done, last.bytes_total, "{seen:?}");
    }
}

#[test]
fn f30_v3_x2_damage_after_a_clean_end_is_an_error_of_the_records_and_changes_nothing() {
    let whole = written(3, 20, 3000, true).files();
    for (log, at) in [(1, 5000), (2, 40_000), (3, 59_000)] {
        let mut files = whole.clone();
        files.get_mut(&format!("{log:06}.wal")).unwrap()[at] ^= 0x10;
        let storage = MemStorage::from_files(files);
        let files = storage.files();
        let unchanged = |what: &str| assert!(storage.files() == files, "log {log}: {what} changed something");

        let recovery = options(&storage).recover().unwrap();
        let mut read = 0;
        let error = recovery.records().find_map(|found| found.map(|_| read += 1).err()).expect("damage");
        let Error::Damaged(report) = &error else { panic!("not a verdict: {error}") };
        assert_eq!((report.findings.len(), report.findings[0].log.get()), (1, log));
        assert!(report.findings[0].proof.is_some() && report.findings[0].offset <= at as u64);
        assert_eq!(report.findings[0].offset, report.logs[log as usize - 1].offset);
        assert!(read >= (log - 1) * 20 && read < log * 20, "{read} records before the damage in log {log}");
        assert!(matches!(recovery.finish(), Err(Error::ReplayIncomplete)));
        unchanged("a replay that met damage");

        let unread = options(&storage).recover().unwrap().finish_without_replay();
        assert!(matches!(unread, Err(Error::Damaged(_))));
        unchanged("a finish without replay");
        assert!(matches!(options(&storage).mode(RecoveryMode::Strict).recover(), Err(Error::Damaged(_))));
        unchanged("a strict open");
        let point = options(&storage).mode(RecoveryMode::PointInTime).recover().unwrap();
        assert_eq!(point.records().map(Result::unwrap).count() as u64, read);
    }
}

#[test]
fn v3_p5_bytes_behind_the_seal_of_a_log_that_was_not_read_are_damage() {
    let whole = written(2, 5, 3000, true).files();
    for log in [1, 2] {
        let mut files = whole.clone();
        files.get_mut(&format!("{log:06}.wal")).unwrap().extend([0; 70_000]);
        // Zeros are space made ahead.
        assert_eq!(replay(&MemStorage::from_files(files.clone())), 10);
        *files.get_mut(&format!("{log:06}.wal")).unwrap().last_mut().unwrap() = 1;
        let recovery = options(&MemStorage::from_files(files)).recover().unwrap();
        let error = recovery.records().find_map(Result::err).expect("damage");
        assert!(matches!(error, Error::Damaged(_)), "{error}");
    }
}

#[test]
fn g8_what_a_replay_learns_of_families_keeps_the_logs_that_hold_them() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    let families: Vec<FamilyId> = [0, 3, 70_000].map(FamilyId::new).to_vec();
    for number in 0..30_u64 {
        if number.is_multiple_of(10) && number > 0 {
            wal.rotate().unwrap();
        }
        let touched = &families[(number / 10) as usize..];
        wal.append(record(&payload(number, 500)).families(touched)).unwrap();
    }
    let before = wal.logs();
    wal.close().unwrap();
    drop(wal);
    for replayed in [true, false] {
        let storage = MemStorage::from_files(storage.files());
        let recovery = options(&storage).recover().unwrap();
        let wal = if replayed {
            assert_eq!(recovery.records().map(Result::unwrap).count(), 30);
            recovery.finish().unwrap().0
        } else {
            recovery.finish_without_replay().unwrap().0
        };
        for (was, is) in before.iter().zip(wal.logs()) {
            assert_eq!(
                (was.log, was.records, was.seqs, &was.families),
                (is.log, is.records, is.seqs, &is.families)
            );
        }
        let last = before[2].seqs.unwrap().last();
        assert!(wal.mark_flushed(families[0], last).unwrap().deleted.is_empty());
        assert!(wal.mark_flushed(families[1], last).unwrap().deleted.is_empty());
        assert_eq!(wal.mark_flushed(families[2], last).unwrap().deleted.len(), 3);
    }
}

#[test]
fn v11_what_is_flushed_is_left_out_of_logs_that_were_not_read() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    let two = FamilyId::new(2);
    let mut last = None;
    for number in 0..40_u64 {
        if number.is_multiple_of(10) && number > 0 {
            wal.rotate().unwrap();
        }
        let family = if number.is_multiple_of(2) { FamilyId::DEFAULT } else { two };
        let appended = wal.append(record(&payload(number, 500)).families(&[family])).unwrap();
        last = Some(appended.seqs.last());
    }
    // Nothing of the other family is flushed, so no log can go.
    assert!(wal.mark_flushed(two, last.unwrap()).unwrap().deleted.is_empty());
    wal.close().unwrap();
    drop(wal);
    let recovery = options(&storage).recover().unwrap();
    let records: Vec<RecoveredRecord> = recovery.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 20);
    assert!(
        records.iter().all(|found| found.families[..] == [FamilyId::DEFAULT] && found.index.get() % 2 == 1)
    );
    let wal: Wal = recovery.finish().unwrap().0;
    assert!(wal.logs()[0].families.contains_key(&two));
}

/// A storage with `logs` logs of `records` records of `length` bytes each, all of them flushed, held from the first on, and closed cleanly.
fn flushed(logs: u64, records: u64, length: usize) -> MemStorage {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    let mut seqs = Vec::new();
    for number in 0..logs * records {
        if number > 0 && number.is_multiple_of(records) {
            wal.rotate().unwrap();
        }
        let payload = payload(number, length);
        seqs.push(wal.append_with(record(&payload), Durability::Buffered).unwrap().seqs.last());
    }
    wal.sync().unwrap();
    wal.hold("replica", seqs[0], None).unwrap();
    let deleted = wal.mark_flushed(FamilyId::DEFAULT, *seqs.last().unwrap()).unwrap().deleted;
    assert!(deleted.is_empty(), "they are held: {deleted:?}");
    // The next log is made ahead, as a log with a thread of its own does.
    wal.housekeep().unwrap();
    wal.close().unwrap();
    storage
}

/// How many times, and how many bytes, of each log were read.
fn log_reads(disk: &SimStorage) -> BTreeMap<String, (u64, u64)> {
    let mut reads: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for line in disk.trace() {
        if let Some((name, place)) = line.strip_prefix("read ").and_then(|read| read.split_once(' ')) {
            let (count, bytes) = reads.entry(name.to_owned()).or_default();
            *count += 1;
            *bytes += place.split_once('+').unwrap().1.parse::<u64>().unwrap();
        }
    }
    reads.retain(|name, _| name.ends_with(".wal"));
    reads
}

fn on_disk(storage: &MemStorage) -> SimStorage {
    let disk = SimStorage::new();
    for (name, bytes) in storage.files() {
        disk.write_file(&name, bytes);
    }
    disk
}

#[test]
fn v16_an_open_with_nothing_to_replay_reads_a_header_and_a_seal_of_each_log_whatever_its_size() {
    for (logs, records, length) in [(1, 2, 100), (1, 160, 100_000), (1000, 2, 2000)] {
        let disk = on_disk(&flushed(logs, records, length));
        // The log that was made ahead, filled.
        let ahead = format!("{:06}.wal", logs + 1);
        disk.write_file(&ahead, vec![0; 1 << 20]);
        let recovery = options(&disk).recover().unwrap();
        assert_eq!((recovery.report().verdict, recovery.report().records), (Verdict::Clean, logs * records));
        assert_eq!(recovery.records().map(Result::unwrap).count(), 0);
        let (wal, report) = recovery.finish().unwrap();
        assert_eq!(report.next_index.get(), logs * records + 1);
        let mut reads = log_reads(&disk);
        let (count, bytes) = reads.remove(&ahead).unwrap();
        assert!(count == 1 && bytes < 256, "{ahead}: {count} reads of {bytes} bytes");
        assert_eq!(reads.len() as u64, logs, "{:?}", reads.keys());
        for (name, (count, bytes)) in reads {
            assert!(count == 2 && bytes < 256, "{name} of {logs}: {count} reads of {bytes} bytes");
        }
        assert_eq!(wal.append(record(b"goes on")).unwrap().index.get(), logs * records + 1);
    }
}

/// A directory that was closed with one log and a file of 1 MiB that was made ahead, and what `change` makes of that file's bytes.
fn with_a_file_made_ahead(change: impl FnOnce(&mut Vec<u8>)) -> SimStorage {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    wal.append(record(b"one")).unwrap();
    wal.housekeep().unwrap();
    wal.close().unwrap();
    let disk = on_disk(&storage);
    assert!(disk.file_names().contains(&"000002.wal".to_owned()));
    let mut bytes = vec![0; 1 << 20];
    change(&mut bytes);
    disk.write_file("000002.wal", bytes);
    disk
}

/// Reads of the file that was made ahead, and their bytes, by an open in a mode.
fn reads_of_it(disk: &SimStorage, mode: RecoveryMode) -> (Result<Verdict, Error>, u64) {
    let opened = options(disk).mode(mode).recover().map(|recovery| recovery.report().verdict);
    (opened, log_reads(disk)["000002.wal"].1)
}

#[test]
fn v16_v4_behind_a_clean_end_only_the_place_of_the_header_of_a_file_made_ahead_is_looked_at() {
    let (mut clean, mut torn) = (0, 0);
    for (at, mode, reads_all) in [
        (None, RecoveryMode::Default, false),
        (Some(5000), RecoveryMode::Default, false),
        (Some(50), RecoveryMode::Default, true),
        (None, RecoveryMode::Strict, true),
        (Some(5000), RecoveryMode::Strict, true),
    ] {
        let disk = with_a_file_made_ahead(|bytes| at.into_iter().for_each(|at: usize| bytes[at] = 1));
        let (opened, bytes) = reads_of_it(&disk, mode);
        assert_eq!(bytes > 1 << 20, reads_all, "{at:?} {mode:?}: {bytes} bytes");
        match (opened, at, mode) {
            (Ok(Verdict::Clean), None, _) | (Ok(Verdict::Clean), Some(5000), RecoveryMode::Default) => {
                clean += 1
            }
            (Ok(Verdict::TornTail), Some(50), RecoveryMode::Default) => torn += 1,
            (Err(Error::NotClean(report)), Some(5000), RecoveryMode::Strict) => {
                assert_eq!(report.logs[1].verdict, LogVerdict::TornTail);
                torn += 1;
            }
            (opened, ..) => panic!("{at:?} {mode:?}: {opened:?}"),
        }
    }
    assert_eq!((clean, torn), (3, 2));
    let disk = with_a_file_made_ahead(|bytes| bytes[5000] = 1);
    let inspection = options(&disk).inspect().unwrap();
    assert_eq!(inspection.report().logs[1].verdict, LogVerdict::TornTail);
    // One bad slot: nobody vouches.
    let disk = with_a_file_made_ahead(|_| {});
    let mut checkpoint = disk.read_file("CHECKPOINT").unwrap();
    checkpoint[20] ^= 1;
    disk.write_file("CHECKPOINT", checkpoint);
    assert!(reads_of_it(&disk, RecoveryMode::Default).1 > 1 << 20);
}

/// The header of log 2 is lost, a promise in it is not: an open says so.
fn assert_header_of_two_is_missed(disk: &SimStorage) {
    let mut bytes = disk.read_file("000002.wal").unwrap();
    bytes[..HEADER_BYTES + FileHeader::BYTES].fill(0);
    disk.write_file("000002.wal", bytes);
    let error = options(disk).recover().unwrap_err();
    assert!(matches!(&error, Error::Damaged(report) if report.findings[0].log.get() == 2), "{error:?}");
}

/// The log of a later session, whose header is lost, beside an older CHECKPOINT: its number was not known then.
#[test]
fn v16_v4_rc4_a_clean_end_vouches_for_no_number_above_the_highest() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    wal.append(record(b"one")).unwrap();
    wal.close().unwrap();
    drop(wal);
    let older = storage.files().remove("CHECKPOINT").unwrap();
    let (wal, ..) = life::reopen(options(&storage));
    wal.append(record(b"two")).unwrap();
    wal.append(record(b"three")).unwrap();
    drop(wal);
    let disk = on_disk(&storage);
    disk.write_file("CHECKPOINT", older);
    assert_header_of_two_is_missed(&disk);
}

/// Nobody vouches for a file without a header but a clean end (RC7).
#[test]
fn v16_v4_behind_a_crash_a_log_that_was_made_ahead_is_read_to_its_end() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    wal.append(record(b"one")).unwrap();
    wal.housekeep().unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"two")).unwrap();
    wal.append(record(b"three")).unwrap();
    drop(wal);
    assert_header_of_two_is_missed(&on_disk(&storage));
}

#[test]
fn v16_v11_what_is_not_flushed_is_replayed_beside_logs_that_are_skipped() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    let (two, three) = (FamilyId::new(2), FamilyId::new(3));
    // The families of the records of each log, in turns.
    let touched: [&[&[FamilyId]]; 6] = [
        &[&[three]],
        &[&[FamilyId::DEFAULT]],
        &[&[FamilyId::DEFAULT], &[two]],
        &[&[FamilyId::DEFAULT], &[FamilyId::DEFAULT, three]],
        &[&[two]],
        &[&[two], &[FamilyId::DEFAULT]],
    ];
    let mut lasts = Vec::new();
    for (log, touched) in touched.iter().enumerate() {
        if log > 0 {
            wal.rotate().unwrap();
        }
        for number in 0..100 {
            let families = touched[number as usize % touched.len()];
            let appended =
                wal.append_with(record(&payload(number, 500)).families(families), Durability::Buffered);
            lasts.push(appended.unwrap().seqs.last());
        }
    }
    wal.sync().unwrap();
    // Nothing of family 3 is flushed, so no log can go. Of log 6, the last records of family 2 are not.
    assert!(wal.mark_flushed(FamilyId::DEFAULT, lasts[599]).unwrap().deleted.is_empty());
    assert!(wal.mark_flushed(two, lasts[549]).unwrap().deleted.is_empty());
    let before = wal.logs();
    wal.close().unwrap();
    drop(wal);
    let expected: Vec<u64> = (1..=100).chain((302..=400).step_by(2)).chain((551..=600).step_by(2)).collect();
    let skipped = [false, true, true, false, true, false];

    let disk = on_disk(&storage);
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let note = Arc::clone(&seen);
    let opened = options(&disk).recovery_threads(2.try_into().unwrap());
    let recovery = opened.on_progress(move |now| note.lock().unwrap().push(now)).recover().unwrap();
    let records: Vec<RecoveredRecord> = recovery.records().map(Result::unwrap).collect();
    assert_eq!(records.iter().map(|found| found.index.get()).collect::<Vec<_>>(), expected);
    assert!(records.iter().all(|found| found.payload == payload((found.index.get() - 1) % 100, 500)[..]));
    let by_threads = Mutex::new(Vec::new());
    let each = |found: RecoveredRecord| {
        by_threads.lock().unwrap().push(found.index.get());
        Ok::<_, Error>(())
    };
    recovery.for_each(each).unwrap();
    let mut by_threads = by_threads.into_inner().unwrap();
    by_threads.sort_unstable();
    assert_eq!(by_threads, expected);
    let (wal, report) = recovery.finish().unwrap();
    assert_eq!((report.records, report.next_index.get()), (600, 601));
    assert_eq!(report.logs.iter().map(|log| log.skipped).collect::<Vec<_>>(), skipped);

    let reads = log_reads(&disk);
    for (at, (was, is)) in before.iter().zip(wal.logs()).enumerate() {
        assert_eq!((was.log, was.records, was.seqs), (is.log, is.records, is.seqs));
        assert_eq!(is.skipped, skipped[at], "log {}", is.log);
        assert!(is.families == if is.skipped { BTreeMap::new() } else { was.families.clone() });
        assert_eq!(reads[&format!("{:06}.wal", is.log.get())].1 < 256, is.skipped, "log {}", is.log);
    }
    // What is skipped is no part of what is to be read.
    let seen = seen.lock().unwrap();
    let (read, all) = (seen[0].bytes_total, before.iter().map(|log| log.bytes).sum::<u64>());
    assert!(read > all / 3 && read < all * 2 / 3, "{read} of {all} bytes");
    assert_eq!(seen.last().map(|now| now.bytes_done), Some(read));
}

#[test]
fn g8_v16_logs_that_were_skipped_go_when_nobody_needs_them_and_not_before() {
    let disk = on_disk(&flushed(3, 20, 1000));
    let (wal, records, _) = life::reopen(options(&disk));
    assert_eq!(records, []);
    assert!(wal.logs()[..3].iter().all(|log| log.skipped && log.records == 20 && log.seqs.is_some()));
    let last = wal.last_seq().unwrap();
    assert_eq!(last, wal.logs()[2].seqs.unwrap().last());
    let appended = wal.append(record(b"more")).unwrap();
    assert_eq!((appended.index.get(), appended.seqs.first()), (61, last.next().unwrap()));
    let keepers = |wal: &Wal| -> Vec<Vec<String>> {
        let names = |kept: &wal_manager::Kept| {
            kept.keepers.iter().map(|keeper| format!("{} {}", keeper.kind.as_str(), keeper.name)).collect()
        };
        wal.why_kept().iter().map(names).collect()
    };
    assert_eq!(
        keepers(&wal),
        [
            vec!["hold replica"],
            vec!["hold replica"],
            vec!["hold replica"],
            vec!["active ", "family 0", "hold replica"]
        ]
    );
    assert!(wal.mark_flushed(FamilyId::DEFAULT, last).unwrap().deleted.is_empty());
    // They are skipped again, and the log that has more is not.
    wal.close().unwrap();
    drop(wal);
    let (wal, records, _) = life::reopen(options(&disk));
    assert_eq!(records.iter().map(|found| found.index.get()).collect::<Vec<_>>(), [61]);
    assert_eq!(
        wal.logs().iter().map(|log| log.skipped).collect::<Vec<_>>(),
        [true, true, true, false, false]
    );
    let second = wal.logs()[1].seqs.unwrap().first();
    wal.advance_hold("replica", second).unwrap();
    wal.housekeep().unwrap();
    assert_eq!(wal.logs()[0].log.get(), 2, "one was not held any more");
    let deleted = wal.release_hold("replica").unwrap().deleted;
    assert_eq!(deleted.iter().map(|log| log.get()).collect::<Vec<_>>(), [2, 3], "4 is not flushed");
}

/// Which families a log holds that was skipped, nobody knows.
#[test]
fn v11_g8_the_mark_of_a_dropped_family_outlives_logs_that_were_skipped() {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    let gone = FamilyId::new(5);
    let first = wal.append(record(b"of a family that is dropped").families(&[gone])).unwrap().seqs.first();
    wal.hold("replica", first, None).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"of another")).unwrap();
    wal.drop_family(gone).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap();
    wal.close().unwrap();
    drop(wal);
    let (wal, records, _) = life::reopen(options(&storage));
    assert_eq!(records, []);
    assert!(wal.logs()[0].skipped);
    wal.append(record(b"more")).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap();
    // A family that came later is in no log that was skipped: where no log holds it, its mark does not stay.
    wal.drop_family(FamilyId::new(6)).unwrap();
    assert_eq!(wal.flushed(FamilyId::new(6)), None);
    // Nothing is closed: the next open reads everything.
    drop(wal);
    let (wal, records, _) = life::reopen(options(&storage));
    assert_eq!(records, [], "what was dropped does not come back");
    assert!(wal.flushed(gone).is_some());
    wal.release_hold("replica").unwrap();
    assert_eq!(wal.flushed(gone), None, "nothing is left of it");
}

#[test]
fn v16_v3_damage_in_a_log_that_is_skipped_is_seen_by_whoever_reads_it() {
    let storage = flushed(2, 20, 3000);
    let mut files = storage.files();
    files.get_mut("000001.wal").unwrap()[30_000] ^= 1;
    let damaged = || MemStorage::from_files(files.clone());
    assert!(matches!(options(&damaged()).mode(RecoveryMode::Strict).recover(), Err(Error::Damaged(_))));
    assert!(matches!(options(&damaged()).recover().unwrap().finish_without_replay(), Err(Error::Damaged(_))));
    assert_eq!(options(&damaged()).inspect().unwrap().report().verdict, Verdict::Damaged);
    // The window for duplicates is filled from flushed records too.
    let with_window = options(&damaged()).duplicates(Window::new(100)).recover().unwrap();
    assert!(matches!(with_window.records().next(), Some(Err(Error::Damaged(_)))));
    let (wal, records, report) = life::reopen(options(&damaged()));
    assert_eq!((records.len(), report.records), (0, 40));
    drop(wal);
    // Header and seal are read.
    for at in [50, files["000001.wal"].len() - 20] {
        let mut files = storage.files();
        files.get_mut("000001.wal").unwrap()[at] ^= 1;
        let refused = options(&MemStorage::from_files(files)).recover();
        assert!(matches!(refused, Err(Error::Damaged(_))), "byte {at}");
    }
}

/// The list alone is not believed: no mark comes to the end of these logs.
#[test]
fn v11_a_list_of_flushed_logs_that_the_marks_contradict_is_not_believed() {
    let mut files = flushed(2, 20, 3000).files();
    let bytes = files.get_mut("CHECKPOINT").unwrap();
    for slot in Slot::BOTH {
        let place = &mut bytes[usize::try_from(slot.offset()).unwrap()..][..SLOT_BYTES];
        let mut content = Checkpoint::decode(slot, place).unwrap();
        assert!(content.clean_end.as_ref().is_some_and(|clean| !clean.flushed_logs.is_empty()));
        content.flushed.clear();
        let encoded = content.encode(slot);
        place[..encoded.len()].copy_from_slice(&encoded);
    }
    let (_, records, _) = life::reopen(options(&MemStorage::from_files(files)));
    assert_eq!(records.len(), 40, "nothing of it is flushed");
}

/// A life with marks, cut at any operation of its close: what is flushed is left out or handed out as its marks say, and everything else is there.
/// And again in the open that follows, and in the life after it.
#[test]
fn v11_v15_v19_a_close_or_an_open_that_is_cut_anywhere_loses_nothing_that_is_not_flushed() {
    let other = FamilyId::new(1);
    let lived = || {
        let disk = SimStorage::new();
        let wal = life::open(&disk);
        let mut seqs = Vec::new();
        for number in 0..12 {
            if number % 3 == 0 && number > 0 {
                wal.rotate().unwrap();
            }
            // Of the other family are the first record, which keeps all logs, and the last but one.
            let family = if number == 0 || number == 10 { other } else { FamilyId::DEFAULT };
            let payload = payload(number, 100);
            seqs.push(wal.append(record(&payload).families(&[family])).unwrap().seqs.last());
        }
        wal.mark_flushed(FamilyId::DEFAULT, seqs[11]).unwrap();
        wal.housekeep().unwrap();
        (disk, wal)
    };
    let cuts = |disk: &SimStorage| {
        let seeds = (0..4).map(|seed| disk.crash(seed));
        let extremes = [disk.process_crash(), disk.crash_all_lost(), disk.crash_all_kept()];
        seeds.chain(extremes).collect::<Vec<_>>()
    };
    let indices = |recovery: &Recovery| -> Vec<u64> {
        recovery.records().map(|found| found.unwrap().index.get()).collect()
    };
    let (mut closes, mut skips, mut opens) = (0, 0, 0);
    for cut in 0.. {
        let (disk, wal) = lived();
        disk.crash_after(cut);
        let closed = wal.close().is_ok();
        drop(wal);
        closes += 1;
        for disk in cuts(&disk) {
            for cut in 0.. {
                let disk = disk.fork();
                disk.crash_after(cut);
                let opened = options(&disk).recover();
                let finished = opened.and_then(|recovery| {
                    assert_eq!(indices(&recovery), [1, 11], "close cut at {cut}, closed: {closed}");
                    recovery.finish()
                });
                opens += 1;
                let Ok((wal, _)) = finished else {
                    let recovery = options(&disk.crash(cut)).recover().unwrap();
                    assert_eq!(indices(&recovery), [1, 11], "an open cut at {cut}");
                    continue;
                };
                skips += usize::from(wal.logs().iter().any(|log| log.skipped));
                let Ok(appended) = wal.append(record(b"more")) else { continue };
                assert_eq!(appended.index.get(), 13);
                for disk in cuts(&disk) {
                    assert_eq!(indices(&options(&disk).recover().unwrap()), [1, 11, 13]);
                }
                break;
            }
        }
        if closed {
            break;
        }
    }
    assert!(
        closes > 4 && opens > 200 && skips >= 7,
        "{closes} closes, {opens} opens, {skips} with logs skipped"
    );
}
