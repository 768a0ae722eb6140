//! Archives and restores: what is deleted is somewhere else first, and a log comes back up to any point.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wal_io::sim::{Fault, SimStorage};
use wal_manager::{
    ArchiveLimits, Bell, Clock, Durability, Error, ErrorKind, FamilyId, Options, RecordKind, RecoveryMode,
    RestorePoint, SeqNum, Storage, Verdict, Wal,
};
use wal_tests::faulty::{FaultyStorage, Kind, Which};
use wal_tests::life::{SMALL, options, payload, record, reopen, within};

/// Stands still until it is moved.
#[derive(Debug, Default)]
struct ManualClock(AtomicU64);

impl ManualClock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.wall()
    }

    fn sleep_until(&self, _: Option<Duration>, bell: &Bell) {
        // For ever, but for the bell.
        bell.wait(None);
    }
}

fn archiving(disk: &SimStorage, limits: ArchiveLimits) -> Options {
    options(disk).log_bytes(SMALL).archive_on(Arc::new(disk.directory("archive")), limits)
}

/// Appends `records` records from `from` on, `every` in a log.
fn fill(wal: &Wal, from: u64, records: u64, every: u64) {
    for number in from..from + records {
        wal.append(record(&payload(number, 300))).unwrap();
        if (number - from + 1).is_multiple_of(every) {
            wal.rotate().unwrap();
        }
    }
}

fn flush(wal: &Wal, through: u64) {
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(through)).unwrap();
}

/// The indices of what a directory holds, which must be clean.
fn indices(storage: &(impl Storage + Clone + 'static)) -> Vec<u64> {
    let inspection = options(storage).mode(RecoveryMode::Strict).inspect().expect("it opens");
    assert_eq!(inspection.report().verdict, Verdict::Clean, "{:?}", inspection.report().findings);
    let records = inspection.records().map(|record| record.expect("it is read to its end"));
    records
        .map(|record| {
            assert_eq!(record.payload, payload(record.index.get(), record.payload.len())[..]);
            record.index.get()
        })
        .collect()
}

fn sources(disk: &SimStorage) -> [Arc<dyn Storage>; 2] {
    [Arc::new(disk.directory("archive")), Arc::new(disk.clone())]
}

#[test]
fn g12_archived_logs_verify_and_replay_on_their_own() {
    let disk = SimStorage::new();
    let wal = reopen(archiving(&disk, ArchiveLimits::NONE)).0;
    fill(&wal, 1, 9, 3);
    wal.append(record(&payload(10, 300))).unwrap();
    let deletion = wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(7)).unwrap();
    assert_eq!(deletion.deleted.iter().map(|log| log.get()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(wal.logs().len(), 2);
    let archive = disk.directory("archive");
    assert_eq!(archive.file_names(), ["000001.wal", "000002.wal", "ARCHIVE", "LOCK"]);
    assert_eq!(indices(&archive), (1..=6).collect::<Vec<_>>());
    // It is no log to be written to.
    assert!(matches!(options(&archive.fork()).recover().unwrap_err(), Error::CheckpointMissing { .. }));
    flush(&wal, 10);
    assert_eq!(indices(&archive), (1..=9).collect::<Vec<_>>());
    wal.close().unwrap();
    // Damage in it is told, and a log that is gone, too.
    let rotten = archive.fork();
    rotten.corrupt("000002.wal", |bytes| bytes[300] ^= 1);
    let report = options(&rotten).inspect().unwrap().report().clone();
    assert_eq!(report.findings[0].log.get(), 2);
    let short = archive.fork();
    short.remove("000002.wal");
    assert_eq!(options(&short).inspect().unwrap().report().verdict, Verdict::Damaged);
}

/// What the disk had no link for is copied; what is in the archive already is read again, and mended from the original.
#[test]
fn g12_an_archived_log_that_has_rotted_is_archived_again_while_the_original_is_there() {
    let (disk, elsewhere) = (SimStorage::new(), SimStorage::new());
    let open = || {
        let archive = Arc::new(elsewhere.clone());
        reopen(options(&disk).log_bytes(SMALL).archive_on(archive, ArchiveLimits::NONE)).0
    };
    let wal = open();
    fill(&wal, 1, 4, 2);
    wal.append(record(&payload(5, 300))).unwrap();
    // The archive is done, and the original does not go.
    disk.fail(Fault::parse("fail write of CHECKPOINT with EIO").unwrap());
    let _ = wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2));
    disk.clear_faults();
    let mut copied = elsewhere.read_file("000001.wal");
    if copied.is_none() {
        // The mark itself failed; an archive by hand, then.
        elsewhere.write_file("000001.wal", disk.read_file("000001.wal").unwrap());
        copied = elsewhere.read_file("000001.wal");
    }
    elsewhere.corrupt("000001.wal", |bytes| bytes[200] ^= 4);
    flush(&wal, 2);
    assert_eq!(elsewhere.read_file("000001.wal"), copied, "mended");
    assert_eq!(indices(&elsewhere), [1, 2]);
    assert_eq!(disk.read_file("000001.wal"), None);
}

/// A power cut at every step of archiving and deleting: nothing is ever in neither place, and the next process goes on.
#[test]
fn g12_a_crash_at_every_step_of_archiving() {
    let life = || {
        let disk = SimStorage::new();
        let wal = reopen(archiving(&disk, ArchiveLimits::NONE)).0;
        fill(&wal, 1, 6, 2);
        wal.append(record(&payload(7, 300))).unwrap();
        (disk, wal)
    };
    let mut steps = 0;
    loop {
        let (disk, wal) = life();
        disk.crash_after(steps);
        let _ = wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(6));
        let ended = !disk.is_frozen();
        for seed in 0..10 {
            let after = match seed {
                0 => disk.crash_all_lost(),
                1 => disk.crash_all_kept(),
                seed => disk.crash(seed),
            };
            let what = format!(
                "step {steps} seed {seed}: {:?} {:?}",
                after.file_names(),
                after.directory("archive").file_names()
            );
            let (wal, _, _) = reopen(archiving(&after, ArchiveLimits::NONE));
            let target = after.directory("restored");
            let report = Wal::restore_on(&sources(&after), &target, &RestorePoint::End);
            let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(report.next_index.get(), 8, "{what}");
            assert_eq!(indices(&target), (1..=7).collect::<Vec<_>>(), "{what}");
            // And on.
            wal.append(record(&payload(8, 300))).unwrap();
            wal.rotate().unwrap();
            wal.append(record(&payload(9, 300))).unwrap();
            flush(&wal, 8);
            let archived = indices(&after.directory("archive"));
            assert!(archived.starts_with(&(1..=8).collect::<Vec<_>>()), "{what}: {archived:?}");
            assert_eq!(wal.logs().len(), 1, "{what}");
            let parts = after.directory("archive").file_names();
            assert!(parts.iter().all(|name| !name.ends_with(".part")), "{what}: {parts:?}");
        }
        if ended {
            break;
        }
        drop(wal);
        steps += 1;
    }
    assert!(steps > 15, "{steps} steps");
}

/// An archive that fails at any step keeps the logs, stops nobody, and is tried again.
#[test]
fn g12_an_archive_that_fails_keeps_the_logs_and_stops_nobody() {
    let mut step = 0;
    loop {
        step += 1;
        let disk = SimStorage::new();
        let wal = reopen(archiving(&disk, ArchiveLimits::NONE)).0;
        fill(&wal, 1, 4, 2);
        wal.append(record(&payload(5, 300))).unwrap();
        disk.fail(Fault::parse(&format!("fail any #{step} of archive/* with ENOSPC")).unwrap());
        let before = disk.trace().len();
        flush(&wal, 4);
        let struck = disk.trace()[before..].iter().any(|line| line.contains("ENOSPC"));
        disk.clear_faults();
        wal.append(record(&payload(6, 300))).expect("the log goes on");
        let held: Vec<u64> = wal.logs().iter().map(|log| log.log.get()).collect();
        flush(&wal, 4);
        assert_eq!(wal.logs().len(), 1, "step {step}: tried again, {held:?} before");
        assert_eq!(indices(&disk.directory("archive")), (1..=4).collect::<Vec<_>>(), "step {step}");
        if !struck {
            assert_eq!(held.len(), 1);
            break;
        }
    }
    assert!(step > 5, "{step} steps");
}

#[test]
fn g12_limits_take_the_oldest_first() {
    let clock = Arc::new(ManualClock::default());
    let disk = SimStorage::new();
    let limits = ArchiveLimits::NONE.age(Duration::from_secs(3600));
    let wal = reopen(archiving(&disk, limits).clock(clock.clone())).0;
    let archive = disk.directory("archive");
    for hour in 0..5_u64 {
        wal.append(record(&payload(hour + 1, 300))).unwrap();
        clock.advance(Duration::from_secs(1800));
        wal.rotate().unwrap();
        wal.append(record(&payload(100 + hour, 300))).unwrap();
        flush(&wal, wal.last_seq().unwrap().get() - 1);
    }
    let names = archive.file_names();
    assert!(
        !names.contains(&"000001.wal".to_owned()) && names.contains(&"000005.wal".to_owned()),
        "{names:?}"
    );
    assert_eq!(options(&archive).inspect().unwrap().report().verdict, Verdict::Clean);
    wal.close().unwrap();
    // By size, in another life.
    let limits = ArchiveLimits::NONE.bytes(2000);
    let wal = reopen(archiving(&disk, limits).clock(clock)).0;
    fill(&wal, 6, 8, 2);
    wal.append(record(&payload(14, 300))).unwrap();
    flush(&wal, wal.last_seq().unwrap().get() - 1);
    let logs: Vec<String> = archive.file_names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    let bytes: usize = logs.iter().map(|name| archive.read_file(name).unwrap().len()).sum();
    assert!(bytes <= 2000 && !logs.is_empty(), "{bytes} bytes in {logs:?}");
    assert_eq!(options(&archive).inspect().unwrap().report().verdict, Verdict::Clean);
}

#[test]
fn g12_an_archive_belongs_to_one_log() {
    let disk = SimStorage::new();
    let wal = reopen(archiving(&disk, ArchiveLimits::NONE)).0;
    fill(&wal, 1, 2, 2);
    wal.append(record(&payload(3, 300))).unwrap();
    flush(&wal, 2);
    let archive = Arc::new(disk.directory("archive"));
    let other = SimStorage::new();
    let there =
        |disk: &SimStorage| options(disk).log_bytes(SMALL).archive_on(archive.clone(), ArchiveLimits::NONE);
    let locked = there(&other).recover().unwrap().finish_without_replay().unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked}");
    drop(wal);
    let foreign = SimStorage::new();
    let error = there(&foreign).wal_id(wal_manager::WalId::from_bytes([9; 16])).recover().unwrap();
    let error = error.finish_without_replay().unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    // The same identity, another history: its log 1 is not the one that is there.
    let twin = SimStorage::new();
    let clock = Arc::new(ManualClock::default());
    let wal = reopen(there(&twin).clock(clock)).0;
    fill(&wal, 1, 2, 2);
    wal.append(record(&payload(3, 300))).unwrap();
    let deletion = wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2)).unwrap();
    assert!(deletion.deleted.is_empty() && wal.logs().len() == 2, "nothing goes that is not archived");
    let live = twin.fork();
    let both: [Arc<dyn Storage>; 2] = [archive.clone(), Arc::new(live)];
    let error = Wal::restore_on(&both, &SimStorage::new(), &RestorePoint::End).unwrap_err();
    assert!(matches!(error, Error::ArchiveConflict { .. }), "{error}");
}

/// A log that was cut by a restore begins like the one in the archive, which goes on longer and stays as it is.
#[test]
fn g12_v17_the_log_of_a_restored_directory_does_not_take_the_place_of_an_archived_one() {
    let disk = SimStorage::new();
    let wal = reopen(archiving(&disk, ArchiveLimits::NONE)).0;
    fill(&wal, 1, 8, 4);
    wal.append(record(&payload(9, 300))).unwrap();
    flush(&wal, 8);
    wal.close().unwrap();
    let archived = disk.directory("archive").read_file("000002.wal").unwrap();
    let target = SimStorage::new();
    Wal::restore_on(&sources(&disk), &target, &RestorePoint::Seq(SeqNum::new(6))).unwrap();
    let archive = Arc::new(disk.directory("archive"));
    let wal = reopen(options(&target).log_bytes(SMALL).archive_on(archive.clone(), ArchiveLimits::NONE)).0;
    wal.append(record(&payload(7, 300))).unwrap();
    wal.rotate().unwrap();
    wal.append(record(&payload(8, 300))).unwrap();
    flush(&wal, 7);
    drop(wal);
    assert_eq!(archive.read_file("000002.wal").unwrap(), archived, "records 7 and 8 are nowhere else");
}

/// The archive stands still, appends do not.
#[test]
fn g12_appends_and_marks_do_not_wait_for_the_archive() {
    within("an archive that stands still", || {
        let disk = SimStorage::new();
        let archive = FaultyStorage::new(disk.directory("archive"));
        let start = options(&disk).log_bytes(SMALL).background(true);
        let wal = reopen(start.archive_on(Arc::new(archive.clone()), ArchiveLimits::NONE)).0;
        fill(&wal, 1, 4, 2);
        wal.append(record(&payload(5, 300))).unwrap();
        let gate = archive.gate(Which::Kind(Kind::Rename), 1);
        flush(&wal, 4);
        gate.reached();
        fill(&wal, 6, 20, 5);
        flush(&wal, 10);
        assert!(wal.logs().len() > 4, "nothing goes meanwhile");
        gate.open();
        archive.wait_for(Kind::Rename, ".part", 3);
        wal.close().unwrap();
        let archived = indices(&disk.directory("archive"));
        assert!(archived.starts_with(&[1, 2, 3, 4]), "{archived:?}");
    });
}

#[test]
fn v17_restore_to_every_sequence_number_time_and_mark() {
    let disk = SimStorage::new();
    let clock = Arc::new(ManualClock::default());
    let wal = reopen(archiving(&disk, ArchiveLimits::NONE).clock(clock.clone()).record_times(true)).0;
    // Index to last sequence number and time.
    let mut known: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut marks = BTreeMap::new();
    for number in 1..=20_u64 {
        clock.advance(Duration::from_millis(10));
        let appended = if number % 5 == 0 {
            let name = format!("mark {}", number / 5 % 3);
            let appended = wal.mark(&name).unwrap();
            marks.insert(name, appended.index.get());
            appended
        } else {
            wal.append(record(&payload(number, 300)).count(3)).unwrap()
        };
        known.insert(appended.index.get(), (appended.seqs.last().get(), 0));
        if number % 3 == 0 {
            wal.rotate().unwrap();
        }
        if number == 11 {
            flush(&wal, appended.seqs.last().get());
        }
    }
    let inspection = options(&disk).inspect().unwrap();
    let everything = disk.directory("everything");
    Wal::restore_on(&sources(&disk), &everything, &RestorePoint::End).unwrap();
    for found in options(&everything).inspect().unwrap().records().map(Result::unwrap) {
        known.get_mut(&found.index.get()).unwrap().1 = found.time_micros.expect("a record says when");
        assert_eq!(found.kind == RecordKind::MARK, found.index.get() % 5 == 0);
    }
    drop(inspection);
    assert_eq!(known.len(), 20);
    let held = |target: &SimStorage| -> Vec<u64> {
        let inspection = options(target).mode(RecoveryMode::Strict).inspect().unwrap();
        assert_eq!(inspection.report().verdict, Verdict::Clean);
        inspection.records().map(|record| record.unwrap().index.get()).collect()
    };
    let mut number = 0;
    let mut restored = |to: RestorePoint| {
        number += 1;
        let target = disk.directory(&format!("restored-{number}"));
        let report =
            Wal::restore_on(&sources(&disk), &target, &to).unwrap_or_else(|error| panic!("{to}: {error}"));
        let found = held(&target);
        assert_eq!((report.first_index.get(), report.next_index.get()), (1, 1 + found.len() as u64), "{to}");
        // It goes on, with everything to be replayed.
        let (wal, records, _) = reopen(options(&target.fork()));
        assert_eq!(records.len(), found.len());
        assert_eq!(wal.append(record(b"on")).unwrap().index.get(), 1 + found.len() as u64);
        found
    };
    let last = known[&20].0;
    for seq in 0..=last + 1 {
        let expected: Vec<u64> =
            known.iter().filter(|(_, (end, _))| *end <= seq).map(|(index, _)| *index).collect();
        assert_eq!(restored(RestorePoint::Seq(SeqNum::new(seq))), expected, "seq {seq}");
    }
    for (index, (_, time)) in &known {
        for (micros, through) in [(*time, *index), (time - 1, index - 1), (time + 1, *index)] {
            let found = restored(RestorePoint::TimeMicros(micros));
            assert_eq!(found, (1..=through).collect::<Vec<_>>(), "at {micros}");
        }
    }
    for (name, index) in marks {
        assert_eq!(restored(RestorePoint::Mark(name)), (1..=index).collect::<Vec<_>>());
    }
}

#[test]
fn v17_a_point_that_is_not_there_is_told() {
    let disk = SimStorage::new();
    let wal = reopen(archiving(&disk, ArchiveLimits::NONE)).0;
    fill(&wal, 1, 8, 2);
    wal.append(record(&payload(9, 300))).unwrap();
    flush(&wal, 4);
    let target = SimStorage::new();
    let restore = |sources: &[Arc<dyn Storage>], to| Wal::restore_on(sources, &target, &to).unwrap_err();
    let both = sources(&disk);
    let mark = restore(&both, RestorePoint::Mark("never".to_owned()));
    assert!(matches!(mark, Error::RestorePoint { .. }), "{mark}");
    assert_eq!(mark.kind(), ErrorKind::Invalid);
    let time = restore(&both, RestorePoint::TimeMicros(5));
    assert!(time.to_string().contains("record_times"), "{time}");
    // Only what is left is given, and that begins later.
    let old = restore(&both[1..], RestorePoint::Seq(SeqNum::new(2)));
    assert!(old.to_string().contains("before everything"), "{old}");
    // A hole between the archive and the log.
    wal.close().unwrap();
    let wal = reopen(options(&disk).log_bytes(SMALL)).0;
    flush(&wal, 8);
    let gap = restore(&both, RestorePoint::End);
    assert!(matches!(gap, Error::ArchiveGap { .. }), "{gap}");
    assert_eq!(gap.kind(), ErrorKind::Damage);
    assert!(target.file_names().iter().all(|name| name == "LOCK"), "{:?}", target.file_names());
}

/// A key has a time of its own only where there is a window.
#[test]
fn v17_a_record_with_a_key_has_its_time_without_a_window_too() {
    let disk = SimStorage::new();
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_micros(7));
    let wal = reopen(options(&disk).clock(clock).record_times(true)).0;
    wal.append(record(b"with a key").key(1)).unwrap();
    let found = options(&disk).inspect().unwrap().records().next().unwrap().unwrap();
    assert_eq!((found.key, found.time_micros), (Some(1), Some(7)));
}

/// A power cut at every step of a restore: the new directory is whole, or does not open, and the sources are as they were.
#[test]
fn v17_a_crash_at_every_step_of_a_restore() {
    let disk = SimStorage::new();
    let wal = reopen(archiving(&disk, ArchiveLimits::NONE)).0;
    fill(&wal, 1, 6, 2);
    wal.append_with(record(&payload(7, 300)), Durability::Synced).unwrap();
    flush(&wal, 4);
    wal.close().unwrap();
    let point = RestorePoint::Seq(SeqNum::new(5));
    let mut steps = 0;
    loop {
        let disk = disk.fork();
        disk.crash_after(steps);
        let done = Wal::restore_on(&sources(&disk), &disk.directory("restored"), &point);
        let ended = done.is_ok() && !disk.is_frozen();
        for seed in 0..10 {
            let after = if seed == 0 { disk.crash_all_lost() } else { disk.crash(seed) };
            let restored = after.directory("restored");
            match options(&restored).mode(RecoveryMode::Strict).inspect() {
                Ok(_) => assert_eq!(indices(&restored), (1..=5).collect::<Vec<_>>()),
                Err(Error::CheckpointMissing { .. }) => assert!(!ended),
                Err(error) if error.kind() == ErrorKind::NotFound => assert!(!ended),
                Err(error) => panic!("step {steps} seed {seed}: {error}"),
            }
            assert_eq!(indices(&after.directory("archive")), (1..=4).collect::<Vec<_>>());
            assert_eq!(indices(&after), (5..=7).collect::<Vec<_>>());
        }
        if ended {
            break;
        }
        steps += 1;
    }
    assert!(steps > 8, "{steps} steps");
}

/// On real files: an archive by links, a life, and a restore to a sequence number.
#[test]
fn g12_v17_real_files() {
    within("an archive of real files", || {
        let outer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (dir, archive) = (outer.path().join("wal"), outer.path().join("archive"));
        let start = || Wal::options(&dir).log_bytes(SMALL).archive(&archive, ArchiveLimits::NONE);
        let mut appended = 0;
        for _ in 0..2 {
            let wal = reopen(start()).0;
            for _ in 0..300 {
                appended += 1;
                wal.append_with(record(&payload(appended, 1000)), Durability::Written).unwrap();
            }
            wal.sync().unwrap();
            flush(&wal, appended - 20);
            wal.close().unwrap();
        }
        let (wal, records, _) = reopen(start());
        assert_eq!(records.len(), 20);
        wal.housekeep().unwrap();
        flush(&wal, appended - 20);
        let live = fs::read_dir(&dir).unwrap().count();
        assert!(fs::read_dir(&archive).unwrap().count() > 4 && live < 12, "{live} files live");
        let target = outer.path().join("restored");
        let report = Wal::restore(&[&archive, &dir], &target, &RestorePoint::Seq(SeqNum::new(555))).unwrap();
        assert_eq!((report.first_index.get(), report.next_index.get()), (1, 556));
        assert!(report.logs.iter().any(|log| log.linked));
        let restored = Wal::options(&target).mode(RecoveryMode::Strict).recover().unwrap();
        let records: Vec<_> = restored.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 555);
        assert!(records.iter().zip(1..).all(|(found, number)| found.payload == payload(number, 1000)[..]));
        wal.close().unwrap();
    });
}
