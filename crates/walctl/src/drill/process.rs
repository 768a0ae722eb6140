//! The child as a process: which program, what it says, how much memory it holds.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::mpsc::SyncSender;

use super::message::Message;

/// This program, for the child. On Linux by the name that stays right when the file is replaced meanwhile, by a build say.
pub(super) fn program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// Passes on what the child says, until it says no more.
pub(super) fn read(stdout: ChildStdout, messages: &SyncSender<Message>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        // The last line may have been cut off by the kill: without its newline it was not said.
        match stdout.read_until(b'\n', &mut line) {
            Ok(length) if length > 0 && line.ends_with(b"\n") => {}
            _ => return,
        }
        let Ok(message) = serde_json::from_slice(&line) else { return };
        if messages.send(message).is_err() {
            return;
        }
    }
}

/// The most memory that a process has held so far, where the system tells.
pub(super) fn peak_memory_bytes(process: u32) -> Option<u64> {
    // `VmHWM:      1234 kB`, on Linux; elsewhere nothing is known.
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}
