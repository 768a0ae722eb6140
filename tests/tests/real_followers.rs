//! A follower in another process (`walctl tail --follow`) beside a writer at full speed on real files: logs of 1 MiB, deletion behind it, deleted
//! files that become the next logs. `FOLLOW_MEGABYTES` says how much is written.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use wal_io::Access;
use wal_io::probe::Way;
use wal_manager::{Durability, FamilyId, FsStorage, Options, SeqNum, Storage, Wal};
use wal_tests::life::{payload, record, within};
use wal_tests::real::scratch;

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

/// Records of about this many bytes.
const RECORD_BYTES: usize = 1_000;

fn records() -> u64 {
    let megabytes = std::env::var("FOLLOW_MEGABYTES").map_or(24, |value| value.parse().expect("a number"));
    megabytes * 1_000_000 / RECORD_BYTES as u64
}

fn options(dir: &Path, way: Way) -> Options {
    // Filled ahead and used again: the file under a slow reader becomes another log.
    Wal::options(dir).log_bytes(1 << 20).way(way).recycle(2)
}

/// An empty log in `home`.
fn begin(home: &Path, way: Way) -> PathBuf {
    let dir = home.join("wal");
    options(&dir, way).recover().unwrap().finish_without_replay().unwrap().0.close().unwrap();
    dir
}

fn tail(dir: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut command = Command::new(WALCTL);
    command.args(["tail", "--json", "--follow", "--interval", "1"]).arg(dir);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    (child, stdout)
}

/// The sequence number of a line, after the payload was compared.
fn checked(line: &str) -> u64 {
    let object: serde_json::Value = serde_json::from_str(line).expect("an object a line");
    assert_eq!(object["proven"], true);
    let (index, seq) =
        (object["index"].as_u64().expect("a number"), object["seq"].as_u64().expect("a number"));
    assert_eq!(index, seq);
    let length = object["payload"].as_str().expect("base64").len();
    assert_eq!(length, RECORD_BYTES.div_ceil(3) * 4, "record {index}");
    seq
}

/// Appends everything as fast as it can, syncs now and then, and lets `delete` say up to where logs may go. Closes.
fn write(dir: &Path, way: Way, records: u64, delete: impl Fn(u64) -> u64) {
    let wal = options(dir, way).recover().unwrap().finish_without_replay().unwrap().0;
    for number in 1..=records {
        let level = if number.is_multiple_of(256) { Durability::Synced } else { Durability::Buffered };
        wal.append_with(record(&payload(number, RECORD_BYTES)), level).unwrap();
        if number.is_multiple_of(500) {
            let through = delete(number);
            if through > wal.flushed(FamilyId::DEFAULT).map_or(0, SeqNum::get) {
                wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(through)).unwrap();
            }
        }
    }
    wal.close().unwrap();
}

/// A writer that deletes only what the follower has printed, as one that holds its logs would: every record once and in order.
fn follows_all(home: &Path, way: Way, records: u64) {
    let dir = begin(home, way);
    let (mut child, stdout) = tail(&dir);
    let seen = Arc::new((Mutex::new(0_u64), Condvar::new()));
    let reader = thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            let mut expected = 1;
            for line in stdout.lines() {
                assert_eq!(checked(&line.unwrap()), expected, "once and in order");
                *seen.0.lock().unwrap() = expected;
                seen.1.notify_all();
                expected += 1;
            }
            // Whoever waits for more than that waits in vain.
            *seen.0.lock().unwrap() = u64::MAX;
            seen.1.notify_all();
            expected - 1
        }
    });
    let wait_for = |index: u64| {
        let mut printed = seen.0.lock().unwrap();
        while *printed < index {
            printed = seen.1.wait(printed).unwrap();
        }
        *printed
    };
    // At most 8 MiB ahead, so that the disk does not fill.
    let window = 8 * (1 << 20) / RECORD_BYTES as u64;
    let deleted = AtomicU64::new(0);
    write(&dir, way, records, |number| {
        let printed = wait_for(number.saturating_sub(window)).min(number);
        deleted.store(printed, Ordering::Relaxed);
        printed
    });
    assert!(deleted.into_inner() > 0, "it was deleted behind the follower");
    wait_for(records);
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    let (printed, code) = (reader.join().unwrap(), child.wait().unwrap().code());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((printed, code, &said[..]), (records, Some(0), ""), "Ctrl-C ends it at the end of a line");
}

#[test]
fn w1_w3_another_process_follows_a_writer_at_full_speed_and_sees_every_record_once() {
    within("a follower in another process", || follows_all(scratch().path(), Way::Filled, records()));
}

/// What is written past the cache is read through it.
#[test]
fn w1_another_process_follows_a_writer_of_direct_files() {
    within("a follower in another process", || {
        let home = tempfile::tempdir().unwrap();
        let probe = FsStorage::create(home.path()).unwrap().create_with("probe", Access::Direct);
        if probe.is_err() {
            println!("skipped: no direct files in {}", home.path().display());
            return;
        }
        // On a disk, whose syncs take their time.
        follows_all(home.path(), Way::Direct, records() / 2);
    });
}

/// A writer that deletes whatever it has synced: every record once and in order, or one explicit gap. Behind a gap the follower begins anew with what
/// is left.
#[test]
fn w4_another_process_beside_deletion_sees_every_record_once_or_one_gap() {
    within("a follower in another process", || {
        let (home, records) = (scratch(), records());
        let dir = begin(home.path(), Way::Filled);
        let writer = thread::spawn({
            let dir = dir.clone();
            move || write(&dir, Way::Filled, records, |number| number - 300)
        });
        let (mut gaps, mut seen, mut last) = (0_u64, 0_u64, 0);
        loop {
            let (mut child, stdout) = tail(&dir);
            let mut before = None;
            for line in stdout.lines() {
                let seq = checked(&line.unwrap());
                assert!(before.is_none_or(|before| before + 1 == seq), "{before:?} is followed by {seq}");
                (seen, before) = (seen + u64::from(seq > last), Some(seq));
                last = last.max(seq);
                if seq == records {
                    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
                }
            }
            let code = child.wait().unwrap().code();
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            if code == Some(0) {
                assert_eq!(before, Some(records));
                break;
            }
            assert!(code == Some(3) && said.contains("was deleted"), "{code:?}: {said}");
            gaps += 1;
        }
        writer.join().unwrap();
        println!("{seen} of {records} records, {gaps} gaps");
    });
}
