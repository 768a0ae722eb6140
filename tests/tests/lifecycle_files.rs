//! Files that are made ahead, filled before they are used, written past the cache, and used again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use metrics_util::CompositeKey;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use wal_io::fs::FsStorage;
use wal_io::probe::{self, Way};
use wal_io::sim::{Fault, SimStorage};
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, LOG_BYTES_MIN, LogNumber, MemStorage, Options, SYNC_BYTES_MIN,
    Verdict, Wal, metrics as names,
};
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{self, errno, payload, record, reopen, within};

/// A directory on a file system that can do direct I/O, which the one for temporary files may not.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Options of a small log that uses deleted logs again.
fn options(dir: &Path, way: Way) -> Options {
    Wal::options(dir).log_bytes(256 << 10).way(way).recycle(2)
}

/// Everything up to what was appended last is flushed.
fn flush_all(wal: &Wal) -> usize {
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap().deleted.len()
}

fn inodes(dir: &Path) -> Vec<(String, u64)> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let logs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "wal"));
    logs.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().ino())).collect()
}

#[test]
fn r7_a_log_that_nobody_syncs_but_its_own_thread_asks_for_the_next_one() {
    within("a log that nobody syncs", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let recorder = DebuggingRecorder::new();
        let options = life::options(&storage).background(true).way(Way::Filled).idle_promise(None);
        let options = options.sync_bytes(SYNC_BYTES_MIN).log_bytes(16 * SYNC_BYTES_MIN);
        let wal = metrics::with_local_recorder(&recorder, || reopen(options).0);
        let bytes = payload(1, usize::try_from(SYNC_BYTES_MIN).unwrap());
        for _ in 0..3 {
            let made = storage.gate(Which::On(Kind::Create, ".wal"), 1);
            // So many bytes that the log syncs them by itself; nobody else does.
            let large = wal.append_with(record(&bytes), Durability::Written).unwrap();
            wal.wait_durable(large.index).unwrap();
            wal.append_with(record(b"asks for the next log"), Durability::Buffered).unwrap();
            made.reached();
            made.open();
            // Waits until it is made.
            wal.housekeep().unwrap();
            wal.rotate().unwrap();
        }
        let waits = |(key, _, _, value): (CompositeKey, _, _, _)| {
            (key.key().name() == names::ROTATION_WAITS).then_some(value)
        };
        let waits: Vec<_> =
            recorder.snapshotter().snapshot().into_vec().into_iter().filter_map(waits).collect();
        assert_eq!(waits, [DebugValue::Counter(0)], "no rotation makes a file");
        wal.close().unwrap();
    });
}

#[test]
fn r6_r7_a_long_life_with_the_next_log_made_ahead_loses_nothing() {
    for way in [Way::Append, Way::Filled, Way::Direct] {
        within("a long life", move || {
            let dir = directory();
            let (mut flushed, mut appended) = (0, 0);
            for life in 0..3 {
                let (wal, records, report) = reopen(options(dir.path(), way));
                assert_eq!(report.verdict, if life == 0 { Verdict::Clean } else { report.verdict });
                assert_eq!(report.way, Some(way));
                assert_eq!(report.probe, None, "nothing is measured if the way is given");
                let numbers: Vec<u64> = records.iter().map(|record| record.seqs.first().get()).collect();
                assert_eq!(numbers, (flushed + 1..=appended).collect::<Vec<_>>(), "{way}, life {life}");
                for record in &records {
                    assert_eq!(record.payload, payload(record.seqs.first().get(), 4000)[..]);
                }
                for round in 0..40 {
                    for _ in 0..20 {
                        appended += 1;
                        let level = if appended % 3 == 0 { Durability::Written } else { Durability::Synced };
                        wal.append_with(record(&payload(appended, 4000)), level).unwrap();
                    }
                    if round % 5 == 4 {
                        wal.rotate().unwrap();
                    }
                    if round % 7 == 6 {
                        flushed = wal.last_seq().unwrap().get();
                        flush_all(&wal);
                    }
                }
                if life == 1 {
                    wal.close().unwrap();
                }
            }
        });
    }
}

#[test]
fn r6_the_way_is_measured_when_a_directory_is_opened_and_stands_in_the_report() {
    let dir = directory();
    let (wal, _, report) = reopen(Wal::options(dir.path()));
    let (way, probe) = (report.way.unwrap(), report.probe.unwrap());
    assert!(probe.starts_with(way.name()), "{way}: {probe}");
    wal.append(record(b"one")).unwrap();
    drop(wal);
    let names = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
    assert!(
        names.into_iter().all(|name| !name.to_str().unwrap().starts_with("PROBE")),
        "nothing is left of it"
    );
    let (_, _, report) = reopen(Wal::options(dir.path()).way(Way::Append));
    assert_eq!((report.way, report.probe), (Some(Way::Append), None));
}

#[test]
fn i8_rings_that_are_not_there_are_refused_before_anything_is_changed() {
    let failing = |errno: &str| {
        let disk = SimStorage::new();
        disk.fail(Fault::parse(&format!("fail create of PROBE.ring with {errno}")).unwrap());
        disk
    };
    let disk = failing("EOPNOTSUPP");
    let error = life::options(&disk).way(Way::Ring).recover().unwrap_err();
    assert!(matches!(error, Error::InvalidOption { option: "way", .. }), "{error}");
    assert_eq!(disk.file_names(), ["LOCK"]);
    // Another error is what it is.
    let error = life::options(&failing("EIO")).way(Way::Ring).recover().unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Io, Some(5)));
    let disk = SimStorage::new();
    reopen(life::options(&disk).way(Way::Ring));
    assert!(disk.file_names().iter().all(|name| !name.starts_with("PROBE")), "{:?}", disk.file_names());
    // On a real directory it is as the kernel says, and as the build has it.
    let dir = directory();
    let can = probe::can(&FsStorage::open(dir.path()).unwrap(), Way::Ring);
    match Wal::options(dir.path()).way(Way::Ring).recover() {
        Ok(recovery) => assert!(can.is_ok() && recovery.report().way == Some(Way::Ring)),
        Err(error) => {
            assert!(can.is_err() && matches!(error, Error::InvalidOption { option: "way", .. }), "{error}");
        }
    }
}

/// A process may be locked in after the open. The file is the same without a ring.
#[test]
fn i8_rings_that_are_refused_later_stop_no_rotation_and_nobody_names_them_any_more() {
    let storage = FaultyStorage::new(MemStorage::new());
    let recorder = DebuggingRecorder::new();
    let way = || {
        let all = recorder.snapshotter().snapshot().into_vec();
        let gauge = all.into_iter().find(|(key, ..)| key.key().name() == names::FILE_WAY);
        gauge.map(|(.., value)| value)
    };
    let options = life::options(&storage).way(Way::Ring).recycle(1);
    let wal = metrics::with_local_recorder(&recorder, || reopen(options).0);
    assert_eq!(way(), Some(DebugValue::Gauge(3.0.into())));
    // Any other error is what it is.
    wal.append(record(b"in the first")).unwrap();
    storage.fail(Which::On(Kind::Create, "000002.wal"), 1, EIO);
    assert_eq!(errno(&wal.rotate().unwrap_err()), Some(EIO));
    assert_eq!(way(), Some(DebugValue::Gauge(0.0.into())), "not set again since the last look");
    storage.refuse_rings();
    for _ in 0..2 {
        wal.append(record(b"in a log that is left")).unwrap();
        wal.rotate().unwrap().unwrap();
    }
    assert_eq!(way(), Some(DebugValue::Gauge(2.0.into())));
    // Nor does a deleted log stay what it was.
    flush_all(&wal);
    wal.append(record(b"in the third")).unwrap();
    storage.forget();
    wal.rotate().unwrap().unwrap();
    assert_eq!(storage.count(Kind::Rename, ".wal"), 1, "{:?}", storage.trace());
    wal.append(record(b"in the fourth")).unwrap();
    wal.close().unwrap();
}

#[test]
fn r6_a_deleted_log_becomes_another_and_never_one_with_a_second_name() {
    for linked in [false, true] {
        let dir = directory();
        let (wal, ..) = reopen(options(dir.path(), Way::Filled).background(false));
        wal.append(record(b"in the first log")).unwrap();
        wal.rotate().unwrap();
        wal.append(record(b"in the second log")).unwrap();
        let before = inodes(dir.path());
        let first = before.iter().find(|(name, _)| name == "000001.wal").unwrap().1;
        let copy = dir.path().join("backup");
        let bytes = fs::read(dir.path().join("000001.wal")).unwrap();
        if linked {
            fs::hard_link(dir.path().join("000001.wal"), &copy).unwrap();
        }
        assert_eq!(flush_all(&wal), 1);
        wal.housekeep().unwrap();
        let third = inodes(dir.path()).into_iter().find(|(name, _)| name == "000003.wal").unwrap().1;
        assert_eq!(third == first, !linked);
        if linked {
            assert!(fs::read(&copy).unwrap() == bytes, "who linked it keeps it");
        }
        assert!(!dir.path().join("000001.wal").exists());
        let third = fs::read(dir.path().join("000003.wal")).unwrap();
        assert!(third.iter().all(|byte| *byte == 0), "nothing of the old log is left in it");
        wal.append(record(b"still in the second log")).unwrap();
        wal.rotate().unwrap();
        wal.append(record(b"in the third log")).unwrap();
        drop(wal);
        let (_, records, _) = reopen(options(dir.path(), Way::Filled));
        assert_eq!(records.len(), 2);
    }
}

#[test]
fn rd1_f22_a_reader_whose_log_became_another_is_told_that_there_is_a_gap() {
    let dir = directory();
    let (wal, ..) = reopen(options(dir.path(), Way::Filled).log_bytes(8 << 20).background(false));
    for number in 0..1500 {
        wal.append_with(record(&payload(number, 4000)), Durability::Written).unwrap();
    }
    wal.rotate().unwrap();
    wal.append(record(b"in the second log")).unwrap();
    let inspection = Wal::options(dir.path()).inspect().unwrap();
    let mut records = inspection.records();
    records.next().unwrap().unwrap();
    assert_eq!(flush_all(&wal), 1);
    wal.housekeep().unwrap();
    let rest: Vec<_> = records.collect();
    let error = rest.last().unwrap().as_ref().unwrap_err();
    assert!(
        matches!(error, Error::Gap { wanted, oldest } if (wanted.get(), oldest.get()) == (1, 2)),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Gap);
}

#[test]
fn ck7_the_next_log_is_made_only_when_the_active_one_has_a_durable_group() {
    let disk = SimStorage::new();
    let (wal, ..) = reopen(life::options(&disk).log_bytes(LOG_BYTES_MIN));
    wal.append(record(b"one")).unwrap();
    wal.rotate().unwrap();
    wal.append_with(record(b"two"), Durability::Written).unwrap();
    wal.housekeep().unwrap();
    assert_eq!(disk.file_names().iter().filter(|name| name.ends_with(".wal")).count(), 2, "not yet");
    wal.sync().unwrap();
    wal.housekeep().unwrap();
    assert_eq!(disk.file_names().iter().filter(|name| name.ends_with(".wal")).count(), 3);
    wal.housekeep().unwrap();
    assert_eq!(disk.file_names().iter().filter(|name| name.ends_with(".wal")).count(), 3, "one is enough");
}

#[test]
fn r4_f48_f50_a_disk_that_is_full_is_met_when_the_next_log_is_filled_and_before_a_record_is_accepted() {
    let disk = SimStorage::new();
    let (wal, ..) = reopen(life::options(&disk).log_bytes(LOG_BYTES_MIN).way(Way::Filled));
    wal.append(record(b"one")).unwrap();
    disk.fail(Fault::parse("fail fill #1 with ENOSPC").unwrap());
    let error = wal.housekeep().unwrap_err();
    assert_eq!(errno(&error), Some(28), "{error}");
    // The log goes on, and the file is made when there is space.
    wal.append(record(b"two")).unwrap();
    wal.housekeep().unwrap();
    let sealed = wal.rotate().unwrap().unwrap();
    assert_eq!((sealed.log, sealed.records), (LogNumber::new(1), 2));
    wal.append(record(b"three")).unwrap();
    let (_, records, _) = reopen(life::options(&disk.crash_all_lost()));
    assert_eq!(records.len(), 3);
}

#[test]
fn r6_a_log_whose_seal_failed_is_not_used_again() {
    let disk = SimStorage::new();
    let (wal, ..) = reopen(life::options(&disk).log_bytes(LOG_BYTES_MIN).way(Way::Filled).recycle(2));
    wal.append(record(b"one")).unwrap();
    wal.housekeep().unwrap();
    disk.fail(Fault::parse("fail sync #1 of 000001.wal with EIO").unwrap());
    wal.rotate().unwrap();
    wal.append(record(b"two")).unwrap();
    assert_eq!(flush_all(&wal), 1);
    assert!(!disk.file_names().contains(&"000001.wal".to_owned()), "it is gone, and does not wait");
}

#[test]
fn r6_s15_a_direct_log_that_was_used_before_reads_nothing_while_it_is_written() {
    let disk = SimStorage::new();
    let options = || life::options(&disk).log_bytes(LOG_BYTES_MIN).way(Way::Direct).recycle(2);
    let (wal, ..) = reopen(options());
    wal.append(record(b"in the first log")).unwrap();
    wal.housekeep().unwrap();
    // The first log of an open grows: only from the second on are files ready to be used again.
    for _ in 0..3 {
        wal.rotate().unwrap();
        wal.append(record(&payload(1, 1000))).unwrap();
        flush_all(&wal);
        wal.housekeep().unwrap();
    }
    assert!(disk.trace().iter().any(|line| line.starts_with("rename ")), "{:#?}", disk.trace());
    wal.rotate().unwrap();
    let before = disk.trace().len();
    for number in 0..20 {
        wal.append(record(&payload(number, 2500))).unwrap();
    }
    let appends = disk.trace().split_off(before);
    assert!(appends.iter().filter(|line| line.starts_with("write ")).count() >= 20, "{appends:#?}");
    assert!(!appends.iter().any(|line| line.starts_with("read ")), "{appends:#?}");
}

#[test]
fn r6_f55_a_log_that_cannot_be_opened_to_be_used_again_is_done_without() {
    for open in 1..=4 {
        let disk = SimStorage::new();
        let (wal, ..) = reopen(life::options(&disk).log_bytes(LOG_BYTES_MIN).way(Way::Direct).recycle(2));
        wal.append(record(b"one")).unwrap();
        wal.housekeep().unwrap();
        wal.rotate().unwrap();
        wal.append(record(b"two")).unwrap();
        assert_eq!(flush_all(&wal), 1);
        // Open to look how long it is, to see that the new name is free, to wipe it, and to write it.
        disk.fail(Fault::parse(&format!("fail open #{open} of *.wal with EMFILE")).unwrap());
        wal.housekeep().unwrap();
        wal.rotate().unwrap();
        wal.append(record(b"three")).unwrap();
        let (_, records, _) = reopen(life::options(&disk.crash_all_lost()));
        assert_eq!(records.last().map(|record| &record.payload[..]), Some(&b"three"[..]), "open {open}");
    }
}
