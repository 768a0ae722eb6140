//! What every storage backend must do alike, as rules that a backend is checked against (feature `conformance`).
//!
//! The log above relies on each of them. A backend of your own passes if nothing is returned:
//!
//! ```
//! use wal_io::mem::MemStorage; // yours
//!
//! let violations = wal_io::conformance::check_all(MemStorage::new);
//! assert!(violations.is_empty(), "{violations:#?}");
//! ```
//!
//! These rules are about what one process sees. That synced bytes survive a power cut [`check_durable`] shows for a backend that can lose
//! things on request; for any other, what the traits of [`storage`](crate::storage) demand of that is for the backend to keep. Nor can they
//! provoke what a healthy system does not do: interrupted calls, short writes, symlinks.

use std::fmt;
use std::io::ErrorKind;

use crate::{Access, EntryKind, IoError, Source, Storage};

/// The rule is kept only if this holds.
macro_rules! holds {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Broken(format!($($what)+)));
        }
    };
}

mod bytes;
mod direct;
mod durable;
mod links;
mod names;
#[cfg(test)]
mod tests;

use durable::DURABLE_RULES;
use links::LINK_RULES;

/// A rule that a backend broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule, in a few words.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Checks every rule, each on a directory of its own that `new` makes: empty, and reserved for the check.
#[must_use]
pub fn check_all<S: Storage>(new: impl Fn() -> S) -> Vec<Violation> {
    let broken = RULES.iter().filter_map(|(rule, check)| {
        let what = check(&new()).err()?.0;
        Some(Violation { rule, what })
    });
    broken.collect()
}

/// Checks that what was synced survives: each rule on an empty directory that `new` makes and whose own name is durable; `crash` returns what
/// is left of it when everything is lost that may be.
#[must_use]
pub fn check_durable<S: Storage>(new: impl Fn() -> S, crash: impl Fn(S) -> S) -> Vec<Violation> {
    let accesses = [Access::Cached, Access::Direct];
    let cases = DURABLE_RULES.iter().flat_map(|rule| accesses.map(|access| (rule, access)));
    let broken = cases.filter_map(|((rule, write), access)| {
        let check = || -> Checked {
            let storage = new();
            let expected = match storage.create_with("a", access) {
                Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
                sink => {
                    storage.sync_dir()?;
                    write(&*sink?)?
                }
            };
            starts_with(&read(&crash(storage), "a")?, &expected)
        };
        let what = check().err()?.0;
        Some(Violation { rule, what: format!("{access:?}: {what}") })
    });
    broken.collect()
}

/// Checks what holds for links from one directory to another: `new` makes two empty ones, as near to each other as can be. A backend that has no links
/// passes if it says so and changes nothing.
#[must_use]
pub fn check_links<S: Storage>(new: impl Fn() -> (S, S)) -> Vec<Violation> {
    let broken = LINK_RULES.iter().filter_map(|(rule, check)| {
        let (from, to) = new();
        let what = check(&from, &to).err()?.0;
        Some(Violation { rule, what })
    });
    broken.collect()
}

/// What happened instead.
struct Broken(String);

impl From<IoError> for Broken {
    fn from(error: IoError) -> Self {
        Self(error.to_string())
    }
}

type Checked = Result<(), Broken>;

/// Checks one rule on an empty directory.
type Check = fn(&dyn Storage) -> Checked;

/// Each rule with its words.
const RULES: [(&str, Check); 32] = [
    ("a new directory is empty", names::new_is_empty),
    ("only plain file names are taken", names::names_are_checked),
    ("any plain file name is taken", names::odd_names_are_taken),
    ("create takes no name that exists", names::create_is_exclusive),
    ("what is absent is not found", names::absent_is_not_found),
    ("errors name the file", names::errors_name_the_file),
    ("a listing shows every name once, as it is now", names::listing_is_complete),
    ("reads are short only at the end", bytes::reads_end_at_the_end),
    ("large reads and writes are whole", bytes::large_is_whole),
    ("holes read as zeros", bytes::holes_read_as_zeros),
    ("empty writes do nothing", bytes::empty_writes_do_nothing),
    ("overwriting keeps the rest", bytes::overwriting_keeps_the_rest),
    ("opening for writing keeps the bytes", bytes::open_sink_keeps_the_bytes),
    ("handles of one file share its bytes", bytes::handles_share_bytes),
    ("readers see a file grow", bytes::readers_see_growth),
    ("offsets beyond every file are refused", bytes::far_offsets_are_refused),
    ("preallocate makes a file longer, with zeros", bytes::preallocate_grows),
    ("preallocate never cuts or changes bytes", bytes::preallocate_keeps),
    ("to write and sync in one writes the same", bytes::write_synced_writes),
    ("fill makes a file longer, with zeros", bytes::fill_grows),
    ("fill never cuts or changes bytes", bytes::fill_keeps),
    ("direct access is given, or refused without a trace", direct::direct_is_given_or_refused),
    ("a direct file holds what was written, then zeros", direct::direct_holds_what_was_written),
    ("a direct file keeps the bytes in front", direct::direct_keeps_what_is_in_front),
    ("a direct file that was filled is written over", direct::direct_overwrites_zeros),
    ("syncs succeed also with nothing to sync", bytes::syncs_of_nothing_succeed),
    ("rename replaces", names::rename_replaces),
    ("a replaced file lives as long as its handles", names::replaced_files_live_on),
    ("an unlinked file lives as long as its handles", names::unlinked_files_live_on),
    ("locks exclude", names::locks_exclude),
    ("a lock is the file's, and leaves its bytes alone", names::locks_are_the_files),
    ("threads may share everything", bytes::threads_share),
];

fn kind<T>(result: Result<T, IoError>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn content(source: &dyn Source) -> Result<Vec<u8>, Broken> {
    let length = source.length()?;
    holds!(length < 1 << 30, "a file of {length} bytes");
    let mut bytes = vec![0xEE; usize::try_from(length).unwrap_or_default()];
    let read = source.read_at(0, &mut bytes)?;
    holds!(read == bytes.len(), "{read} of {length} bytes were read");
    Ok(bytes)
}

fn read(storage: &dyn Storage, name: &str) -> Result<Vec<u8>, Broken> {
    content(&*storage.open_source(name)?)
}

fn put(storage: &dyn Storage, name: &str, bytes: &[u8]) -> Checked {
    Ok(storage.create(name)?.write_at(0, bytes)?)
}

fn names(storage: &dyn Storage) -> Result<Vec<String>, Broken> {
    let mut names = Vec::new();
    for entry in storage.list()? {
        holds!(entry.kind == EntryKind::File, "{entry:?} is a file");
        names.push(entry.name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn is_named(storage: &dyn Storage, expected: &[&str]) -> Checked {
    let found = names(storage)?;
    holds!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

fn reads(storage: &dyn Storage, name: &str, expected: &[u8]) -> Checked {
    same(&read(storage, name)?, expected)
}

fn same(found: &[u8], expected: &[u8]) -> Checked {
    let (found_length, expected_length) = (found.len(), expected.len());
    holds!(found_length == expected_length, "{found_length} bytes instead of {expected_length}");
    let differs = found.iter().zip(expected).position(|(one, two)| one != two);
    holds!(differs.is_none(), "byte {differs:?} is another one");
    Ok(())
}

fn starts_with(found: &[u8], expected: &[u8]) -> Checked {
    holds!(found.len() >= expected.len(), "{} bytes instead of {}", found.len(), expected.len());
    let (start, _) = found.split_at(expected.len());
    same(start, expected)
}
