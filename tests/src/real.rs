//! Real processes on the real kernel: running `walctl` within a limit of time, and what a log must hold afterwards.

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use wal_io::probe::Way;
use wal_manager::{Durability, Wal};

use crate::life::{record, reopen};

/// Longest that a process may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(60);

/// Records as they are read back: sequence number and payload.
pub type Held = Vec<(u64, Vec<u8>)>;

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Outcome {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// What `walctl append` acknowledged: sequence number, and line of the input from 1.
    pub fn acknowledged(&self) -> Vec<(u64, u64)> {
        acknowledged(&self.stdout)
    }
}

/// See [`Outcome::acknowledged`]. A last line without its end was not said.
pub fn acknowledged(stdout: &[u8]) -> Vec<(u64, u64)> {
    let whole = stdout.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let text = std::str::from_utf8(&stdout[..whole]).expect("numbers");
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("not SEQ LINE: {text}"));
    text.lines()
        .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("not SEQ LINE: {text}")))
        .map(|(seq, line)| (number(seq), number(line)))
        .collect()
}

/// Runs a command to its end; panics if that does not come.
pub fn run(command: &mut Command, input: &[u8]) -> Outcome {
    // A group of its own, so that whatever it starts ends with it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let group = Pid::from_child(&child);
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // It may end without reading everything.
    let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        let _ = kill_process_group(group, Signal::KILL);
        panic!("{command:?} hangs");
    };
    feeder.join().expect("it does not panic");
    let output = output.expect("it was started");
    Outcome {
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A scratch directory in memory, where there is one: for tests that need many of them and no disk.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Lines as `walctl append` wants them: line `number` from 1, all different, each of about `length` bytes.
pub fn lines(count: u64, length: usize) -> Vec<Vec<u8>> {
    (1..=count).map(|number| format!("line {number} {:-<length$}", "").into_bytes()).collect()
}

/// The standard input for these lines.
pub fn input(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
}

/// Makes a directory as a killed writer leaves it: two logs that are sealed and one that is not, whose last record nothing
/// proves. Returns what it holds.
pub fn prepare(dir: &Path) -> Held {
    // The same files each time.
    let (wal, ..) = reopen(Wal::options(dir).background(false).way(Way::Append));
    let mut held = Held::new();
    let mut append = |wal: &Wal, level| {
        let payload = format!("prepared {} {:.<60}", held.len(), "").into_bytes();
        let appended = wal.append_with(record(&payload), level).expect("it appends");
        held.push((appended.seqs.first().get(), payload));
    };
    for count in [3, 2] {
        (0..count).for_each(|_| append(&wal, Durability::Synced));
        wal.rotate().expect("it rotates");
    }
    (0..2).for_each(|_| append(&wal, Durability::Synced));
    append(&wal, Durability::Written);
    held
}

/// Copies the files of a directory into a new one.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it is new");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it is listed");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("it is copied");
    }
}

/// Every record, as a reader without the lock sees it.
pub fn look(dir: &Path) -> Held {
    let inspection = Wal::options(dir).inspect().unwrap_or_else(|error| panic!("{error}"));
    let record = |record: wal_manager::RecoveredRecord| (record.seqs.first().get(), record.payload.to_vec());
    inspection.records().map(|found| record(found.unwrap_or_else(|error| panic!("{error}")))).collect()
}

/// Every record, as a recovery hands it out. Leaves the directory closed.
pub fn recover(dir: &Path) -> Held {
    let (wal, records, _) = reopen(Wal::options(dir));
    wal.close().expect("it closes");
    records.iter().map(|record| (record.seqs.first().get(), record.payload.to_vec())).collect()
}

/// What was there is still there; behind it stand lines of the input, each at most once, among them every acknowledged one
/// under its number. Numbers grow. A single writer keeps the order of the lines.
pub fn check(before: &[(u64, Vec<u8>)], lines: &[Vec<u8>], acked: &[(u64, u64)], writers: u16, found: &Held) {
    assert!(found.len() >= before.len() && found[..before.len()] == *before, "what was there has changed");
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "numbers grow");
    let mut new: Vec<(u64, u64)> = Vec::new();
    for (seq, payload) in &found[before.len()..] {
        let line = lines.iter().position(|line| line == payload);
        let line =
            line.unwrap_or_else(|| panic!("{seq}: nobody wrote {:?}", String::from_utf8_lossy(payload)));
        assert!(new.iter().all(|(_, other)| *other != line as u64 + 1), "line {} is there twice", line + 1);
        new.push((*seq, line as u64 + 1));
    }
    for ack in acked {
        assert!(new.contains(ack), "acknowledged, and not there: {ack:?} of {new:?}");
    }
    if writers == 1 {
        let dense = (1..).zip(&new).all(|(number, (_, line))| number == *line);
        assert!(dense, "not the first lines of the input in their order: {new:?}");
    }
}
