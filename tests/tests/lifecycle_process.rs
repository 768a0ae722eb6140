//! Who may have a directory open, in one process and in two, and what an open that fails leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use wal_manager::{Error, ErrorKind, MemStorage, Options, RecoveryMode, Wal, WalId};
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{
    Acked, SMALL, assert_holds, errno, note, open, options, payload, read_back, record, reopen, within,
};

/// Says what the child is to do; the directory stands in `DIRECTORY`.
const ROLE: &str = "WAL_LIFECYCLE_ROLE";
const DIRECTORY: &str = "WAL_LIFECYCLE_DIRECTORY";

/// Every file: its bytes, and when it was changed.
type Snapshot = BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)>;

fn snapshot(dir: &Path) -> Snapshot {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            (path.clone(), (fs::read(&path).unwrap(), changed))
        })
        .collect()
}

/// This test binary again, as another process, which runs only [`child_process`].
fn spawn(role: &str, dir: &Path) -> (Child, BufReader<impl Read + use<>>, ChildStdin) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_process", "--exact", "--nocapture"])
        .env(ROLE, role)
        .env(DIRECTORY, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let input = child.stdin.take().unwrap();
    (child, output, input)
}

/// The next line that the child wrote for us.
fn answer(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child ended without an answer");
        // The test harness writes to the same output, and its line may not have ended.
        if let Some((_, answer)) = line.split_once("ANSWER ") {
            return answer.trim_end().to_owned();
        }
    }
}

fn say(answer: &str) {
    println!("ANSWER {answer}");
    std::io::stdout().flush().unwrap();
}

/// What the child does; as a test of its own it does nothing.
#[test]
fn child_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    match role.as_str() {
        "open" => match Wal::options(&dir).recover() {
            Ok(_) => say("opened"),
            Err(Error::Locked { path }) => say(&format!("locked {}", path.display())),
            Err(error) => say(&format!("{error:?}")),
        },
        "hold" => {
            let (wal, ..) = reopen(Wal::options(&dir));
            for number in 0..10 {
                wal.append(record(&payload(number, 100))).unwrap();
                say("acknowledged");
            }
            // Until it is killed, or the parent is gone.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
        }
        other => panic!("no role {other}"),
    }
}

#[test]
fn x1_a_second_process_gets_locked_and_changes_nothing() {
    within("two processes", || {
        let dir = tempfile::tempdir().unwrap();
        let wal = open_dir(dir.path());
        let mut acked = Acked::new();
        note(&mut acked, wal.append(record(b"first")).unwrap(), b"first");
        let before = snapshot(dir.path());
        let (mut child, mut output, _input) = spawn("open", dir.path());
        let locked = answer(&mut output);
        assert!(locked.starts_with("locked ") && locked.ends_with("LOCK"), "{locked}");
        assert!(child.wait().unwrap().success());
        assert!(snapshot(dir.path()) == before, "not a byte, not a time, not a name");
        note(&mut acked, wal.append(record(b"second")).unwrap(), b"second");
        wal.close().unwrap();
        let (mut child, mut output, _input) = spawn("open", dir.path());
        assert_eq!(answer(&mut output), "opened");
        child.wait().unwrap();
        drop(wal);
        assert_holds(&reopen(Wal::options(dir.path())).1, &acked);
    });
}

fn open_dir(dir: &Path) -> Wal {
    reopen(Wal::options(dir)).0
}

#[test]
fn x1_a_lock_ends_with_its_process_and_what_was_acknowledged_is_there() {
    within("a process that is killed", || {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..=3 {
            let (mut child, mut output, _input) = spawn("hold", dir.path());
            for _ in 0..10 {
                assert_eq!(answer(&mut output), "acknowledged");
            }
            let before = snapshot(dir.path());
            let error = Wal::options(dir.path()).recover().unwrap_err();
            assert!(matches!(&error, Error::Locked { path } if path.ends_with("LOCK")), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Locked);
            assert!(snapshot(dir.path()) == before);
            // SIGKILL: nobody tidies up.
            child.kill().unwrap();
            child.wait().unwrap();
            let (_, records, _) = reopen(Wal::options(dir.path()));
            assert_eq!(records.len(), round * 10);
        }
    });
}

#[test]
fn x1_a_second_open_in_the_same_process_is_locked_until_the_first_is_closed_or_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let locked = || matches!(Wal::options(dir.path()).recover(), Err(Error::Locked { .. }));
    let recovery = Wal::options(dir.path()).recover().unwrap();
    assert!(locked(), "a recovery holds it, too");
    recovery.records().for_each(drop);
    let (wal, _) = recovery.finish().unwrap();
    assert!(locked());
    // Neither does an attempt that failed end it.
    assert!(locked());
    wal.close().unwrap();
    let again = open_dir(dir.path());
    assert!(locked(), "the closed one does not free the other's");
    drop(wal);
    assert!(locked());
    drop(again);
    drop(Wal::options(dir.path()).recover().unwrap());
    assert!(!locked());
}

#[test]
fn x1_readers_need_no_lock_and_do_not_disturb_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing of its own accord, so that whatever changes is the reader's doing.
    let options = Wal::options(dir.path()).idle_promise(None).background(false);
    let (wal, ..) = reopen(options);
    for number in 0..20 {
        wal.append(record(&payload(number, 3_000))).unwrap();
        let before = snapshot(dir.path());
        let inspection = Wal::options(dir.path()).inspect().unwrap();
        assert_eq!(inspection.records().map(Result::unwrap).count() as u64, number + 1);
        assert!(snapshot(dir.path()) == before);
        if number % 6 == 5 {
            wal.rotate().unwrap();
        }
    }
}

/// A directory with three logs, closed, and what it holds.
fn written() -> (BTreeMap<String, Vec<u8>>, Acked) {
    let memory = MemStorage::new();
    let wal = reopen(options(&memory).config_fingerprint(7)).0;
    let mut acked = Acked::new();
    for number in 0..9 {
        let bytes = payload(number, 500);
        note(&mut acked, wal.append(record(&bytes)).unwrap(), &bytes);
        if number % 3 == 2 && number < 8 {
            wal.rotate().unwrap();
        }
    }
    wal.close().unwrap();
    drop(wal);
    (memory.files(), acked)
}

/// What somebody does to the files before the open.
type Change = fn(&mut BTreeMap<String, Vec<u8>>);
/// With which options it is opened.
type With = fn(Options) -> Options;

#[test]
fn x2_an_open_that_is_refused_changes_nothing_and_fences_nobody() {
    let (original, acked) = written();
    let cases: [(&str, Change, With, ErrorKind); 12] = [
        ("another configuration", |_| (), |options| options.config_fingerprint(8), ErrorKind::Invalid),
        ("an option out of range", |_| (), |options| options.log_bytes(1), ErrorKind::Invalid),
        (
            "damage in a sealed log",
            |files| files.get_mut("000001.wal").unwrap()[700] ^= 4,
            |o| o,
            ErrorKind::Damage,
        ),
        (
            "damage, strict",
            |files| files.get_mut("000003.wal").unwrap()[700] ^= 4,
            |o| o.mode(RecoveryMode::Strict),
            ErrorKind::Damage,
        ),
        (
            "a log cut short",
            |files| files.get_mut("000003.wal").unwrap().truncate(900),
            |o| o,
            ErrorKind::Damage,
        ),
        ("a missing log", |files| drop(files.remove("000002.wal")), |o| o, ErrorKind::Damage),
        ("the missing newest log", |files| drop(files.remove("000003.wal")), |o| o, ErrorKind::Damage),
        ("no CHECKPOINT", |files| drop(files.remove("CHECKPOINT")), |o| o, ErrorKind::Damage),
        ("a bad CHECKPOINT", |files| files.get_mut("CHECKPOINT").unwrap().fill(1), |o| o, ErrorKind::Damage),
        (
            "a swap",
            |files| {
                let one = files["000001.wal"].clone();
                let two = files.insert("000002.wal".to_owned(), one).unwrap();
                files.insert("000001.wal".to_owned(), two);
            },
            |o| o,
            ErrorKind::Damage,
        ),
        (
            "another name",
            |files| drop(files.insert("1.wal".to_owned(), Vec::new())),
            |o| o,
            ErrorKind::Damage,
        ),
        (
            "another log's file",
            |files| {
                let memory = MemStorage::new();
                let id = WalId::from_bytes([9; 16]);
                let wal = reopen(Wal::options_on(std::sync::Arc::new(memory.clone())).wal_id(id)).0;
                wal.append(record(b"foreign")).unwrap();
                files.insert("000002.wal".to_owned(), memory.files()["000001.wal"].clone());
            },
            |o| o,
            ErrorKind::Damage,
        ),
    ];
    for (what, change, with, kind) in cases {
        let mut files = original.clone();
        change(&mut files);
        let memory = MemStorage::from_files(files.clone());
        let storage = FaultyStorage::new(memory.clone());
        for _ in 0..2 {
            // A directory that was closed cleanly is read only when its records are handed out.
            let opened = with(options(&storage).config_fingerprint(7)).recover();
            let error =
                opened.map_or_else(Some, |recovery| recovery.records().find_map(Result::err)).unwrap();
            assert_eq!(error.kind(), kind, "{what}: {error:?}");
            assert!(!error.to_string().is_empty());
        }
        assert!(memory.files() == files, "{what}: not a byte");
        assert!(storage.ops().iter().all(|op| !op.kind.mutates()), "{what}: {:?}", storage.trace());
        // Put right again, it opens as if nobody had tried.
        let memory = MemStorage::from_files(original.clone());
        let (_, records, report) = reopen(options(&memory).config_fingerprint(7));
        assert_holds(&records, &acked);
        assert_eq!((records.len(), report.epoch.get()), (9, 2));
    }
}

#[test]
fn x2_a_refused_open_of_a_real_directory_leaves_every_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (original, _) = written();
    for (name, bytes) in &original {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let mut bytes = original["000001.wal"].clone();
    bytes[700] ^= 1;
    fs::write(dir.path().join("000001.wal"), bytes).unwrap();
    assert!(original.contains_key("LOCK"), "the lock's file is there from before");
    let before = snapshot(dir.path());
    assert!(matches!(Wal::options(dir.path()).mode(RecoveryMode::Strict).recover(), Err(Error::Damaged(_))));
    // It was closed cleanly, so in the default mode it is read when its records are handed out, or nobody wants them.
    let recovery = Wal::options(dir.path()).recover().unwrap();
    assert!(matches!(recovery.records().find_map(Result::err), Some(Error::Damaged(_))));
    assert!(matches!(recovery.finish_without_replay(), Err(Error::Damaged(_))));
    assert!(matches!(
        Wal::options(dir.path()).config_fingerprint(9).recover(),
        Err(Error::ConfigMismatch { .. })
    ));
    assert!(snapshot(dir.path()) == before);
    // And where there is nothing, options that are refused make nothing.
    let missing = dir.path().join("not/there");
    assert!(matches!(Wal::options(&missing).log_bytes(1).recover(), Err(Error::InvalidOption { .. })));
    assert!(!missing.exists() && !missing.parent().unwrap().exists());
    assert_eq!(Wal::options(&missing).inspect().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!missing.parent().unwrap().exists());
}

#[test]
fn x2_an_open_that_fails_at_any_operation_loses_nothing_and_the_next_one_works() {
    let (original, acked) = written();
    // Killed, too: the last log is not sealed, and its last group is not proven.
    let killed = {
        let memory = MemStorage::from_files(original.clone());
        let (wal, ..) = reopen(options(&memory));
        wal.append(record(b"one")).unwrap();
        wal.append(record(b"two")).unwrap();
        drop(wal);
        memory.files()
    };
    for (files, records) in [(&original, 9), (&killed, 11)] {
        let kinds = [
            Kind::List,
            Kind::Open,
            Kind::Length,
            Kind::Read,
            Kind::Lock,
            Kind::Create,
            Kind::Write,
            Kind::SyncData,
            Kind::SyncAll,
            Kind::SyncDir,
            Kind::Unlink,
        ];
        for kind in kinds {
            for nth in 1.. {
                let memory = MemStorage::from_files(files.clone());
                let storage = FaultyStorage::new(memory.clone());
                storage.fail(Which::Kind(kind), nth, EIO);
                let opened = options(&storage).recover();
                let refused = opened.is_err();
                if let Err(error) = &opened {
                    assert_eq!(errno(error), Some(EIO), "{kind:?} {nth}: {error:?}");
                    let changed =
                        storage.ops().iter().any(|op| op.kind.mutates() && !op.line.ends_with("= 5"));
                    assert!(changed || memory.files() == *files);
                }
                drop(opened);
                storage.heal();
                let wal = reopen(options(&storage).log_bytes(SMALL)).0;
                let mut acked = acked.clone();
                note(&mut acked, wal.append(record(b"behind")).unwrap(), b"behind");
                drop(wal);
                let found = read_back(&memory);
                assert_eq!(found.len(), records + 1, "{kind:?} {nth}");
                assert_holds(&found, &acked);
                if !refused {
                    break;
                }
            }
        }
    }
}

#[test]
fn x2_a_lock_that_cannot_be_taken_is_not_mistaken_for_somebody_elses() {
    let storage = FaultyStorage::new(MemStorage::new());
    storage.fail(Which::Kind(Kind::Lock), 1, EIO);
    let error = options(&storage).recover().unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Io, Some(EIO)));
    drop(open(&storage));
}
