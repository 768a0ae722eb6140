//! Logs that are written through an io_uring. What the kernel says of the rings of this process shows that they are.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wal_io::fs::FsStorage;
use wal_io::probe::{self, Way};
use wal_manager::{ErrorKind, Options, Wal, metrics as names};
use wal_tests::exporter::Exporter;
use wal_tests::life::{Acked, assert_holds, errno, note, payload, record, reopen, within};

/// Set by who knows that there are rings: no test may pass without one.
const REQUIRED: &str = "WAL_RINGS_REQUIRED";

/// Set in the process in which writes fail.
const LIMITED: &str = "WAL_RINGS_LIMITED";

const EFBIG: i32 = 27;

/// The rings of a process are those of all its tests.
static ALONE: Mutex<()> = Mutex::new(());

/// A directory on a file system that can do direct I/O, which the one for temporary files may not.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn are_there() -> bool {
    let dir = directory();
    let Err(error) = probe::can(&FsStorage::open(dir.path()).unwrap(), Way::Ring) else { return true };
    assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and there are none: {error}");
    println!("passed over: {error}");
    false
}

/// How many operations each ring of this process has completed, by its descriptor.
fn rings() -> BTreeMap<String, u32> {
    let mut rings = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        let is_ring = fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("anon_inode:[io_uring]"));
        if is_ring {
            let name = entry.file_name().into_string().unwrap();
            let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(&name)).unwrap();
            let tail = info.lines().find_map(|line| line.strip_prefix("CqTail:"));
            rings.insert(name, tail.expect("the kernel tells").trim().parse().unwrap());
        }
    }
    rings
}

/// A log that makes the next one when it is told to.
fn options(dir: &Path) -> Options {
    Wal::options(dir).log_bytes(256 << 10).way(Way::Ring).background(false).idle_promise(None)
}

#[test]
fn i8_r6_a_log_in_rings_completes_one_operation_of_its_ring_for_each_group() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !are_there() {
        return;
    }
    let (dir, exporter) = (directory(), Exporter::default());
    let wal = exporter.open(options(dir.path()));
    assert_eq!(exporter.value(names::FILE_WAY), 3.0);
    wal.append(record(b"in the log that grows")).unwrap();
    assert_eq!(rings(), BTreeMap::new(), "the first log of an open is none of them");
    wal.housekeep().unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"the header goes along")).unwrap();
    let before = rings();
    assert_eq!(before.len(), 1);
    for number in 0..20 {
        wal.append(record(&payload(number, 100))).unwrap();
    }
    let after = rings();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let completed: u32 = after.values().sum::<u32>() - before.values().sum::<u32>();
    assert_eq!(completed, 20, "a write that is durable when it is done");
    wal.close().unwrap();
    drop(wal);
    assert_eq!(rings(), BTreeMap::new());
    let (_, records, report) = reopen(options(dir.path()));
    assert_eq!((records.len(), report.way), (22, Some(Way::Ring)));
}

#[test]
fn i8_r6_the_probe_measures_rings_too() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !are_there() {
        return;
    }
    let dir = directory();
    let (_wal, _, report) = reopen(Wal::options(dir.path()));
    let probe = report.probe.unwrap();
    println!("{probe}");
    assert!(probe.contains(", ring ") && probe.starts_with(report.way.unwrap().name()), "{probe}");
}

/// The kernel itself refuses to write behind the start of a file, at the completion: by a limit that holds for the process, which is one of its own.
#[test]
fn s14_f44_f51_a_completion_that_fails_fails_every_waiter_and_the_log_goes_on_when_it_is_resumed() {
    const NAME: &str =
        "s14_f44_f51_a_completion_that_fails_fails_every_waiter_and_the_log_goes_on_when_it_is_resumed";
    if std::env::var_os(LIMITED).is_some() {
        return within("a life with a failure", fails_and_goes_on);
    }
    if !are_there() {
        return;
    }
    let mut sh = Command::new("sh");
    sh.args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"]);
    sh.arg(std::env::current_exe().unwrap()).arg(NAME).env(LIMITED, "1").stdin(Stdio::null());
    let output = sh.process_group(0).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("went on"), "{output:?}");
}

fn fails_and_goes_on() {
    const WAITERS: usize = 4;
    let dir = directory();
    let wal = reopen(options(dir.path())).0;
    wal.housekeep().unwrap();
    wal.rotate().unwrap();
    let mut accepted = Acked::new();
    for number in 0..10 {
        let bytes = payload(number, 5_000);
        note(&mut accepted, wal.append(record(&bytes)).unwrap(), &bytes);
    }
    assert_eq!(rings().len(), 1);
    let (durable, limit) = (wal.durable(), getrlimit(Resource::Fsize));
    let completed = || rings().values().sum::<u32>();
    let before = completed();
    // None of them is asked for before all are accepted.
    let tickets: Vec<_> = (10..10 + WAITERS as u64)
        .map(|number| {
            let bytes = payload(number, 300);
            let ticket = wal.submit(record(&bytes)).unwrap();
            note(&mut accepted, ticket.appended(), &bytes);
            ticket
        })
        .collect();
    setrlimit(Resource::Fsize, Rlimit { current: Some(4096), maximum: limit.maximum }).unwrap();
    let barrier = Barrier::new(WAITERS);
    let failures: Vec<_> = thread::scope(|scope| {
        let waiters: Vec<_> = tickets
            .iter()
            .map(|ticket| {
                scope.spawn(|| {
                    barrier.wait();
                    ticket.wait().unwrap_err()
                })
            })
            .collect();
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
    });
    setrlimit(Resource::Fsize, limit).unwrap();
    assert_eq!(completed() - before, 1, "it failed once, and was not tried again");
    for failure in failures {
        assert_eq!((failure.kind(), errno(&failure)), (ErrorKind::Poisoned, Some(EFBIG)), "{failure:?}");
    }
    assert_eq!(wal.append(record(b"refused")).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(wal.durable(), durable);

    let resumed = wal.resume().unwrap();
    assert_eq!((resumed, resumed.index.get()), (wal.durable(), *accepted.last_key_value().unwrap().0));
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let bytes = payload(99, 300);
    note(&mut accepted, wal.append(record(&bytes)).unwrap(), &bytes);
    drop(wal);
    let (_, records, _) = reopen(options(dir.path()));
    assert_eq!(records.len(), accepted.len(), "none is lost and none is there twice");
    assert_holds(&records, &accepted);
    println!("went on");
}
