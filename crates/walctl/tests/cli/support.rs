//! Running `walctl`, and looking at directories.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::SystemTime;

/// What a run of `walctl` gave.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// The objects that were printed, one a line.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Itself, if it ended with this code.
    pub(crate) fn exits(self, code: i32) -> Self {
        let out = String::from_utf8_lossy(&self.out[..self.out.len().min(4000)]);
        assert_eq!(self.code, code, "stderr: {}stdout: {out}", self.err);
        self
    }
}

pub(crate) fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walctl"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end with this standard input.
pub(crate) fn walctl_with<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &[u8]) -> Run {
    let mut child = command(args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A verb that refuses its arguments reads nothing.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    });
    let code = output.status.code().unwrap_or_else(|| panic!("killed: {:?}", output.status));
    Run { code, out: output.stdout, err: String::from_utf8(output.stderr).unwrap() }
}

pub(crate) fn walctl<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    walctl_with(args, b"")
}

/// Appends these lines to `dir`, with these further arguments.
pub(crate) fn append(dir: &str, args: &[&str], input: &[u8]) -> Run {
    walctl_with([&["append", dir], args].concat(), input)
}

/// An `append` that is talked to line by line.
pub(crate) struct Session {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: Lines<BufReader<ChildStdout>>,
}

impl Session {
    pub(crate) fn start(dir: &str, args: &[&str]) -> Self {
        let mut command = command([&["append", dir], args].concat());
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, stdout }
    }

    /// Sends a line and waits for its acknowledgement.
    pub(crate) fn say(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").unwrap();
        self.stdout.next().unwrap().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Everything in a directory: bytes and time of the last change.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let changed = fs::symlink_metadata(&path).unwrap().modified().unwrap();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, (Vec::new(), changed));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, (bytes, changed));
        }
    }
    found
}

/// The logs of a directory, oldest first.
pub(crate) fn logs(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = names.filter(|path| path.extension() == Some(OsStr::new("wal"))).collect();
    logs.sort();
    logs
}

/// A directory that does not exist yet, in one that is removed.
pub(crate) struct Home {
    _home: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) dir: String,
}

pub(crate) fn home() -> Home {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("wal");
    let dir = path.to_str().unwrap().to_owned();
    Home { _home: home, path, dir }
}

/// A directory with several sealed logs: `count` records of `bytes` bytes, each beginning with its line number.
pub(crate) fn filled(count: usize, bytes: usize) -> Home {
    let home = home();
    let input: Vec<u8> = (1..=count).flat_map(|line| format!("{line:0bytes$}\n").into_bytes()).collect();
    append(&home.dir, &["--sync", "buffered", "--log-bytes", "65536"], &input).exits(0);
    home
}
