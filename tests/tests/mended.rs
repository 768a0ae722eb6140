//! Faults that a review of the log manager against the protocol found, each with the test that shows it mended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use wal_io::sim::{Fault, SimOptions, SimStorage};
use wal_manager::{Appended, Durability, ErrorKind, FamilyId, Record, RecoveryMode, Wal};
use wal_tests::life::{KIND, open, options};

/// A disk on which a failed sync of the directory loses the names for good.
fn forgetful() -> SimStorage {
    SimStorage::with_options(SimOptions { lose_names: true, garbage: false, ..SimOptions::default() })
}

fn append(wal: &Wal, text: &str) -> Appended {
    wal.append(Record::new(KIND, text.as_bytes())).expect("acknowledged")
}

fn bytes_used(disk: &SimStorage) -> usize {
    disk.file_names().iter().map(|name| disk.read_file(name).unwrap().len()).sum()
}

/// A sync of the directory that failed in an earlier open is not made good by a later one: the names must be made again.
#[test]
fn ck5_f44_f45_f47_a_first_open_whose_directory_sync_failed_is_made_good_by_the_next_one() {
    for nth in 1..=3 {
        let disk = forgetful();
        disk.fail(Fault::parse(&format!("fail syncdir #{nth} with EIO")).unwrap());
        drop(options(&disk).recover());
        let disk = disk.process_crash();
        let wal = open(&disk);
        append(&wal, "acknowledged");
        drop(wal);
        let after = disk.crash_all_lost();
        let recovery = options(&after).recover().unwrap_or_else(|error| panic!("syncdir #{nth}: {error}"));
        assert_eq!(recovery.records().count(), 1, "syncdir #{nth}");
    }
}

/// A deletion's sync of the directory fails while a rotation is between its create and its own sync.
#[test]
fn f46_f47_a_deletion_does_not_take_the_failed_directory_sync_of_a_rotation() {
    let disk = forgetful();
    let wal = Arc::new(open(&disk));
    let one = append(&wal, "one");
    wal.rotate().unwrap();
    append(&wal, "two");
    let rotator: Arc<Mutex<Option<thread::ThreadId>>> = Arc::default();
    let armed = AtomicBool::new(true);
    let (reached, at_sync) = mpsc::channel::<()>();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let reached = Mutex::new(reached);
    let its = Arc::clone(&rotator);
    disk.before_each(Arc::new(move |line: &str| {
        let mine = *its.lock().unwrap() == Some(thread::current().id());
        if mine && line == "syncdir" && armed.swap(false, Ordering::SeqCst) {
            reached.lock().unwrap().send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
    }));
    let wal2 = Arc::clone(&wal);
    let thread = thread::spawn(move || {
        *rotator.lock().unwrap() = Some(thread::current().id());
        wal2.rotate().map(|sealed| sealed.is_some())
    });
    at_sync.recv().unwrap();
    disk.fail(Fault::parse("fail syncdir #1 with EIO").unwrap());
    let deleter = Arc::clone(&wal);
    let deletion = thread::spawn(move || deleter.mark_flushed(FamilyId::DEFAULT, one.seqs.last()));
    // It has removed the file and comes to its own sync of the directory, or waits for the rotation's.
    while !disk.trace().iter().any(|line| line == "unlink 000001.wal") {
        thread::yield_now();
    }
    for _ in 0..1000 {
        thread::yield_now();
    }
    go.send(()).unwrap();
    let rotated = thread.join().unwrap();
    let deletion = deletion.join().unwrap();
    disk.clear_faults();
    let three = append(&wal, "three");
    let trace = disk.trace();
    let after = disk.crash_all_lost();
    let opened = options(&after).recover().map(|recovery| recovery.records().count());
    assert!(
        opened.is_ok(),
        "A: deletion {deletion:?}, rotation {rotated:?}, record {} acknowledged in log {}, then a power cut: {}\nfiles {:?}\n{:#?}",
        three.index,
        three.position.log,
        opened.unwrap_err(),
        after.file_names(),
        &trace[trace.len().saturating_sub(24)..]
    );
}

fn three_logs_first_damaged() -> (SimStorage, BTreeMap<String, Vec<u8>>) {
    let disk = SimStorage::new();
    let wal = open(&disk);
    for number in 0..9 {
        if number % 3 == 0 && number > 0 {
            wal.rotate().unwrap();
        }
        append(&wal, &format!("record {number} of nine"));
    }
    drop(wal);
    let disk = disk.process_crash();
    let logs: Vec<String> = disk.file_names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    let first = logs[0].clone();
    disk.corrupt(&first, |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    let disk = disk.crash_all_kept();
    let files = logs.into_iter().map(|name| (name.clone(), disk.read_file(&name).unwrap())).collect();
    (disk, files)
}

fn lost(disk: &SimStorage, originals: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let now: Vec<(String, Vec<u8>)> =
        disk.file_names().into_iter().map(|name| (name.clone(), disk.read_file(&name).unwrap())).collect();
    let kept = |bytes: &Vec<u8>| now.iter().any(|(_, other)| other.starts_with(bytes));
    originals.iter().filter(|(_, bytes)| !kept(bytes)).map(|(name, _)| name.clone()).collect()
}

/// A point-in-time recovery promises to keep aside what lies behind the damage; it is cut at every step.
#[test]
fn v4_what_a_point_in_time_recovery_keeps_aside_survives_a_power_cut_at_any_operation() {
    let mut bad = Vec::new();
    for operations in 0..60 {
        let (disk, originals) = three_logs_first_damaged();
        disk.crash_after(operations);
        let done = options(&disk).mode(RecoveryMode::PointInTime).recover().is_ok();
        let disk = disk.crash_all_lost();
        // An ordinary open, then the engine goes on.
        let opened = options(&disk).recover().map(|recovery| {
            let count = recovery.records().count();
            let (wal, report) = recovery.finish().unwrap();
            drop(wal);
            (count, report.verdict, report.removed, report.quarantined)
        });
        let gone = lost(&disk, &originals);
        if !gone.is_empty() {
            bad.push(format!("cut after {operations} (recovery done: {done}): {gone:?} gone for good; default open said {opened:?}; files {:?}", disk.file_names()));
        }
    }
    assert!(bad.is_empty(), "V4:\n{}", bad.join("\n"));
}

/// Where there is no space to keep the damaged logs aside, the recovery fails and has changed nothing.
#[test]
fn v4_f48_what_cannot_be_kept_aside_is_not_given_up() {
    let (disk, originals) = three_logs_first_damaged();
    disk.fail(Fault::parse("fail write #2 of *quarantine* with ENOSPC").unwrap());
    let refused = options(&disk).mode(RecoveryMode::PointInTime).recover().map(drop);
    assert!(refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::Full), "{refused:?}");
    disk.clear_faults();
    let names = originals.keys().filter(|name| disk.read_file(name).as_ref() == originals.get(*name));
    assert_eq!(names.count(), originals.len(), "every log is where it was");
    let recovery = options(&disk).mode(RecoveryMode::PointInTime).recover().unwrap();
    recovery.records().for_each(drop);
    let (wal, _) = recovery.finish().unwrap();
    let next = append(&wal, "goes on");
    wal.mark_flushed(FamilyId::DEFAULT, next.seqs.last()).unwrap();
    assert_eq!(lost(&disk, &originals), Vec::<String>::new());
}

/// A recovery that fails again and again leaves a file each time.
#[test]
fn f25_recoveries_that_fail_or_die_again_and_again_do_not_fill_the_directory() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    append(&wal, "one");
    wal.append_with(Record::new(KIND, &vec![7; 100_000]), Durability::Written).unwrap();
    drop(wal);
    let mut disk = disk.process_crash();
    let before = (disk.file_names().len(), bytes_used(&disk));
    let mut seen = vec![before];
    for _ in 0..8 {
        disk.fail(Fault::parse("fail syncall with EIO").unwrap());
        assert!(options(&disk).recover().is_err());
        disk = disk.process_crash();
        seen.push((disk.file_names().len(), bytes_used(&disk)));
    }
    // Deaths instead of failures.
    for _ in 0..8 {
        disk.crash_after(4);
        assert!(options(&disk).recover().is_err());
        disk = disk.process_crash();
        seen.push((disk.file_names().len(), bytes_used(&disk)));
    }
    assert!(seen.last().unwrap().0 <= before.0 + 1, "f25: files and bytes after each attempt: {seen:?}");
}

/// With a full disk: space for one copy would do, but every attempt eats some.
#[test]
fn f25_f48_f50_a_recovery_on_a_full_disk_does_not_eat_the_space_that_is_made_for_it() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    append(&wal, "one");
    for _ in 0..5 {
        wal.append_with(Record::new(KIND, &vec![7; 1_000_000]), Durability::Written).unwrap();
    }
    drop(wal);
    let mut disk = disk.process_crash();
    let start = bytes_used(&disk);
    // 3 MB are free, 5 MB are needed.
    disk.set_capacity(Some(start as u64 + 3_000_000));
    for _ in 0..3 {
        assert!(options(&disk).recover().is_err());
        disk = disk.process_crash();
    }
    let eaten = bytes_used(&disk) - start;
    // An operator makes room for what the log needs.
    disk.set_capacity(Some(start as u64 + 6_000_000));
    let opened = options(&disk).recover().map(|_| ());
    assert!(
        opened.is_ok(),
        "6 MB free for a tail of 5 MB, but earlier attempts ate {eaten}: {:?}; files {:?}",
        opened.unwrap_err().to_string(),
        disk.file_names()
    );
}

mod panicking_recorder {
    use super::*;
    use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    struct Angry {
        armed: Arc<AtomicBool>,
    }
    impl GaugeFn for Angry {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {}
        fn set(&self, _: f64) {
            if self.armed.swap(false, Ordering::SeqCst) {
                panic!("the recorder panics");
            }
        }
    }
    struct Custom {
        armed: Arc<AtomicBool>,
    }
    impl Recorder for Custom {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            if key.name().contains("durable_index") {
                Gauge::from_arc(Arc::new(Angry { armed: Arc::clone(&self.armed) }))
            } else {
                Gauge::noop()
            }
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    /// User code (the metrics recorder) that panics under the mutex leaves the waiters asleep.
    #[test]
    fn f64_a_recorder_that_panics_leaves_nobody_waiting() {
        let armed = Arc::new(AtomicBool::new(false));
        let disk = SimStorage::new();
        let wal =
            metrics::with_local_recorder(&Custom { armed: Arc::clone(&armed) }, || Arc::new(open(&disk)));
        let (reached, at_sync) = mpsc::channel::<()>();
        let (go, may_go) = mpsc::channel::<()>();
        let (reached, may_go) = (Mutex::new(reached), Mutex::new(may_go));
        let once = AtomicBool::new(true);
        disk.before_each(Arc::new(move |line: &str| {
            if line.starts_with("syncdata") && line.ends_with(".wal") && once.swap(false, Ordering::SeqCst) {
                reached.lock().unwrap().send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
            }
        }));
        armed.store(true, Ordering::SeqCst);
        let leader = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || drop(wal.append(Record::new(KIND, b"leader"))))
        };
        at_sync.recv().unwrap();
        let (done, waited) = mpsc::channel();
        for _ in 0..3 {
            let (wal, done) = (Arc::clone(&wal), done.clone());
            thread::spawn(move || {
                let result = wal.append(Record::new(KIND, b"follower")).map(|_| ());
                done.send(result.map_err(|error| error.to_string())).unwrap();
            });
        }
        // They are accepted, and wait, or will see that the log is poisoned.
        while wal.last_seq().is_none_or(|seq| seq.get() < 4) {
            thread::yield_now();
        }
        go.send(()).unwrap();
        assert!(leader.join().is_err(), "the leader panicked");
        let mut answers = Vec::new();
        for _ in 0..3 {
            match waited.recv_timeout(Duration::from_secs(60)) {
                Ok(answer) => answers.push(answer),
                Err(_) => panic!("f64, T: a follower hangs; answered so far {answers:?}"),
            }
        }
    }
}

/// E. After the log is poisoned, a mark is still taken.
#[test]
fn a6_no_mark_is_taken_after_a_failure() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    let one = append(&wal, "one");
    wal.rotate().unwrap();
    append(&wal, "two");
    disk.fail(Fault::parse("fail sync #1 of 000002.wal with EIO").unwrap());
    let error = wal.append(Record::new(KIND, b"three")).unwrap_err();
    let mark = wal.mark_flushed(FamilyId::DEFAULT, one.seqs.last());
    assert!(mark.is_err(), "E: poisoned ({error}), and then {mark:?}; files {:?}", disk.file_names());
}

/// A storage whose `create` makes the file and then fails, once.
#[derive(Debug)]
struct HalfCreate(SimStorage, AtomicBool);

impl wal_io::Storage for HalfCreate {
    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
    fn list(&self) -> Result<Vec<wal_io::Entry>, wal_io::IoError> {
        self.0.list()
    }
    fn create_with(
        &self,
        name: &str,
        access: wal_io::Access,
    ) -> Result<Arc<dyn wal_io::Sink>, wal_io::IoError> {
        let sink = self.0.create_with(name, access)?;
        if name == "000002.wal" && self.1.swap(false, Ordering::SeqCst) {
            let source = std::io::Error::from_raw_os_error(5);
            return Err(wal_io::IoError::new(wal_io::Operation::Create, name, source));
        }
        Ok(sink)
    }
    fn open_sink_with(
        &self,
        name: &str,
        access: wal_io::Access,
    ) -> Result<Arc<dyn wal_io::Sink>, wal_io::IoError> {
        self.0.open_sink_with(name, access)
    }
    fn open_source(&self, name: &str) -> Result<Arc<dyn wal_io::Source>, wal_io::IoError> {
        self.0.open_source(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), wal_io::IoError> {
        self.0.rename(from, to)
    }
    fn unlink(&self, name: &str) -> Result<(), wal_io::IoError> {
        self.0.unlink(name)
    }
    fn sync_dir(&self) -> Result<(), wal_io::IoError> {
        self.0.sync_dir()
    }
    fn sync_parents(&self) -> Result<(), wal_io::IoError> {
        self.0.sync_parents()
    }
    fn lock(&self, name: &str) -> Result<Box<dyn wal_io::Lock>, wal_io::IoError> {
        self.0.lock(name)
    }
}

#[test]
fn r4_f55_a_create_that_fails_after_it_made_the_file_does_not_end_rotation() {
    let disk = SimStorage::new();
    let recovery =
        Wal::options_on(Arc::new(HalfCreate(disk.clone(), AtomicBool::new(true)))).recover().unwrap();
    let (wal, _) = recovery.finish_without_replay().unwrap();
    append(&wal, "one");
    let first = wal.rotate().map(drop).unwrap_err();
    let next: Vec<_> = (0..3).map(|_| wal.rotate().map(drop)).collect();
    assert!(next.iter().any(Result::is_ok), "first {first}; then {next:?}");
}
