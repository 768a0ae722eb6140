//! Names of the files in a directory.

use std::ffi::OsStr;

use wal_format::LogNumber;

/// The durable pointer.
pub(crate) const CHECKPOINT: &str = "CHECKPOINT";
/// The durable pointer while it is first written.
pub(crate) const CHECKPOINT_NEW: &str = "CHECKPOINT.new";
/// Space that is kept for an open on a full disk.
pub(crate) const RESERVE: &str = "RESERVE";
/// The lock.
pub(crate) const LOCK: &str = "LOCK";

const SUFFIX: &str = ".wal";
/// Fewest digits of a log's name.
const DIGITS_MIN: usize = 6;

/// What a name in the directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A log under its one right name.
    Log(LogNumber),
    /// A number and `.wal`, but not written as we write it: `1.wal` beside `000001.wal` is an error, not a choice.
    NotCanonical(LogNumber),
    /// One of our other files.
    Ours,
    /// Nothing of ours: listed, never opened, never removed.
    Other,
}

/// The file name of a log.
pub(crate) fn log_name(log: LogNumber) -> String {
    format!("{:0DIGITS_MIN$}{SUFFIX}", log.get())
}

/// The name under which a log with damage is kept aside by the recovery of `epoch`.
pub(crate) fn quarantine_name(log: LogNumber, epoch: u64) -> String {
    format!("{}.quarantine-{epoch}", log_name(log))
}

/// Reads a name.
pub(crate) fn parse(name: &OsStr) -> Name {
    let Some(name) = name.to_str() else { return Name::Other };
    if [CHECKPOINT, CHECKPOINT_NEW, RESERVE, LOCK].contains(&name) || wal_io::probe::FILES.contains(&name) {
        return Name::Ours;
    }
    let Some(digits) = name.strip_suffix(SUFFIX) else { return Name::Other };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Name::Other;
    }
    match digits.parse::<u64>().map(LogNumber::new) {
        Ok(log) if log.get() > 0 && log_name(log) == name => Name::Log(log),
        Ok(log) => Name::NotCanonical(log),
        // A number beyond 64 bits.
        Err(_) => Name::NotCanonical(LogNumber::new(u64::MAX)),
    }
}
