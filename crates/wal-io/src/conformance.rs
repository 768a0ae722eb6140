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

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::thread;

use crate::{Access, EntryKind, IoError, Sink, Source, Storage};

#[cfg(test)]
mod tests;

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

/// Each rule of links with its words.
const LINK_RULES: [(&str, LinkRule); 3] = [
    ("a link is made or refused", links_are_made_or_refused),
    ("a linked file is one file", linked_files_are_one),
    ("a link takes no name's place", links_replace_nothing),
];

/// The rule is kept only if this holds.
macro_rules! holds {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(Broken(format!($($what)+)));
        }
    };
}

type LinkRule = fn(&dyn Storage, &dyn Storage) -> Checked;

/// Links `a` to `b`; `false` if there are no links.
fn link(from: &dyn Storage, to: &dyn Storage) -> Result<bool, Broken> {
    put(from, "a", b"bytes")?;
    match to.link_from(from, "a", "b") {
        Ok(()) => Ok(true),
        Err(error) => {
            let wrong = matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound);
            holds!(!wrong, "there is a file, and no other: {error}");
            Ok(false)
        }
    }
}

fn links_are_made_or_refused(from: &dyn Storage, to: &dyn Storage) -> Checked {
    let linked = link(from, to)?;
    is_named(from, &["a"])?;
    is_named(to, if linked { &["b"] } else { &[] })
}

fn linked_files_are_one(from: &dyn Storage, to: &dyn Storage) -> Checked {
    let sink = from.create("alone")?;
    let alone = sink.links()?;
    holds!(alone == 1, "{alone} links of a new file");
    if !link(from, to)? {
        return Ok(());
    }
    let sink = from.open_sink("a")?;
    let links = sink.links()?;
    holds!(links == 2, "{links} links of a file with two names");
    sink.write_at(0, b"other")?;
    reads(to, "b", b"other")?;
    from.unlink("a")?;
    let links = sink.links()?;
    holds!(links == 1, "{links} links after one is gone");
    reads(to, "b", b"other")
}

fn links_replace_nothing(from: &dyn Storage, to: &dyn Storage) -> Checked {
    put(to, "b", b"there before")?;
    put(from, "a", b"bytes")?;
    let error = to.link_from(from, "a", "b").err().map(|error| error.kind());
    holds!(error.is_some(), "the name was taken");
    reads(to, "b", b"there before")?;
    let absent = to.link_from(from, "absent", "c").err();
    holds!(absent.is_some(), "a link to nothing");
    is_named(to, &["b"])
}

/// Writes to an empty file and tells what must survive.
type Write = fn(&dyn Sink) -> Result<Vec<u8>, Broken>;

/// Each rule of durability with its words.
const DURABLE_RULES: [(&str, Write); 5] = [
    ("synced bytes survive", synced_bytes_survive),
    ("what is written and synced in one survives", write_synced_survives),
    ("what is written and synced in one covers what was written before", write_synced_covers),
    ("what is written and synced in one leaves what was synced before", write_synced_leaves),
    ("synced zeros survive", filled_zeros_survive),
];

fn synced_bytes_survive(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    sink.write_at(0, &[1; 700])?;
    sink.write_at(700, &[2; 2_000])?;
    sink.sync_data()?;
    Ok([[1; 700].as_slice(), &[2; 2_000]].concat())
}

fn write_synced_survives(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    sink.write_synced_at(0, &[1; 5_000])?;
    Ok(vec![1; 5_000])
}

fn write_synced_covers(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    // In a block of its own, so that no tail takes it along.
    sink.write_at(0, &[1; 64 * 1024])?;
    sink.write_synced_at(64 * 1024, &[2; 100])?;
    Ok([[1; 64 * 1024].as_slice(), &[2; 100]].concat())
}

fn write_synced_leaves(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    let mut expected = Vec::new();
    for (number, length) in (1_u8..).zip([10, 1_000, 3, 6_000, 1]) {
        let bytes = vec![number; length];
        sink.write_synced_at(expected.len() as u64, &bytes)?;
        expected.extend(bytes);
    }
    // Whatever becomes of this.
    sink.write_at(expected.len() as u64, b"not synced")?;
    Ok(expected)
}

fn filled_zeros_survive(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    sink.fill(10_000)?;
    sink.sync_all()?;
    sink.write_synced_at(0, b"overwrites")?;
    Ok([b"overwrites".as_slice(), &[0; 9_990]].concat())
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
    ("a new directory is empty", new_is_empty),
    ("only plain file names are taken", names_are_checked),
    ("any plain file name is taken", odd_names_are_taken),
    ("create takes no name that exists", create_is_exclusive),
    ("what is absent is not found", absent_is_not_found),
    ("errors name the file", errors_name_the_file),
    ("a listing shows every name once, as it is now", listing_is_complete),
    ("reads are short only at the end", reads_end_at_the_end),
    ("large reads and writes are whole", large_is_whole),
    ("holes read as zeros", holes_read_as_zeros),
    ("empty writes do nothing", empty_writes_do_nothing),
    ("overwriting keeps the rest", overwriting_keeps_the_rest),
    ("opening for writing keeps the bytes", open_sink_keeps_the_bytes),
    ("handles of one file share its bytes", handles_share_bytes),
    ("readers see a file grow", readers_see_growth),
    ("offsets beyond every file are refused", far_offsets_are_refused),
    ("preallocate makes a file longer, with zeros", preallocate_grows),
    ("preallocate never cuts or changes bytes", preallocate_keeps),
    ("to write and sync in one writes the same", write_synced_writes),
    ("fill makes a file longer, with zeros", fill_grows),
    ("fill never cuts or changes bytes", fill_keeps),
    ("direct access is given, or refused without a trace", direct_is_given_or_refused),
    ("a direct file holds what was written, then zeros", direct_holds_what_was_written),
    ("a direct file keeps the bytes in front", direct_keeps_what_is_in_front),
    ("a direct file that was filled is written over", direct_overwrites_zeros),
    ("syncs succeed also with nothing to sync", syncs_of_nothing_succeed),
    ("rename replaces", rename_replaces),
    ("a replaced file lives as long as its handles", replaced_files_live_on),
    ("an unlinked file lives as long as its handles", unlinked_files_live_on),
    ("locks exclude", locks_exclude),
    ("a lock is the file's, and leaves its bytes alone", locks_are_the_files),
    ("threads may share everything", threads_share),
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

fn new_is_empty(storage: &dyn Storage) -> Checked {
    is_named(storage, &[])
}

fn names_are_checked(storage: &dyn Storage) -> Checked {
    put(storage, "good", b"1")?;
    for bad in ["", ".", "..", "a/b", "/a", "../good", "./good", "good/", "nul\0"] {
        let refused = |result: Option<ErrorKind>| result == Some(ErrorKind::InvalidInput);
        holds!(refused(kind(storage.create(bad))), "create of {bad:?}");
        holds!(refused(kind(storage.open_sink(bad))), "open_sink of {bad:?}");
        holds!(refused(kind(storage.open_source(bad))), "open_source of {bad:?}");
        holds!(refused(kind(storage.rename("good", bad))), "rename to {bad:?}");
        holds!(refused(kind(storage.rename(bad, "good"))), "rename from {bad:?}");
        holds!(refused(kind(storage.unlink(bad))), "unlink of {bad:?}");
        holds!(refused(kind(storage.lock(bad))), "lock of {bad:?}");
    }
    is_named(storage, &["good"])?;
    reads(storage, "good", b"1")
}

fn odd_names_are_taken(storage: &dyn Storage) -> Checked {
    // In the order of their bytes.
    let odd = ["-", "...", ".a", "a\nb", "a b", "a\\b", "\u{e4}\u{1f4a3}"];
    for name in odd {
        put(storage, name, name.as_bytes())?;
    }
    for name in odd {
        reads(storage, name, name.as_bytes())?;
    }
    let (found, odd) = (names(storage)?.into_iter().collect::<BTreeSet<_>>(), odd.map(str::to_owned));
    holds!(found == BTreeSet::from(odd), "{found:?} are listed");
    Ok(())
}

fn create_is_exclusive(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"first")?;
    let refused = kind(storage.create("a"));
    holds!(refused == Some(ErrorKind::AlreadyExists), "{refused:?}");
    reads(storage, "a", b"first")
}

fn absent_is_not_found(storage: &dyn Storage) -> Checked {
    put(storage, "there", b"bytes")?;
    let results = [
        ("open_sink", kind(storage.open_sink("a"))),
        ("open_source", kind(storage.open_source("a"))),
        ("unlink", kind(storage.unlink("a"))),
        ("rename", kind(storage.rename("a", "there"))),
    ];
    for (what, result) in results {
        holds!(result == Some(ErrorKind::NotFound), "{what}: {result:?}");
    }
    is_named(storage, &["there"])?;
    reads(storage, "there", b"bytes")
}

fn errors_name_the_file(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"")?;
    let path = storage.path().join("a");
    let errors = [
        storage.create("a").err(),
        storage.rename("absent", "a").err().filter(|error| !error.path().ends_with("absent")),
        storage.open_sink("a").map_or_else(Some, |sink| sink.write_at(u64::MAX, b"x").err()),
    ];
    for error in errors.into_iter().flatten() {
        holds!(error.path() == path, "{error} is about {}", path.display());
    }
    Ok(())
}

fn listing_is_complete(storage: &dyn Storage) -> Checked {
    for name in ["a", "b", "c", "d"] {
        put(storage, name, name.as_bytes())?;
    }
    let _held = storage.open_source("c")?;
    storage.rename("a", "e")?;
    storage.rename("b", "d")?;
    storage.unlink("c")?;
    drop(storage.lock("LOCK")?);
    is_named(storage, &["LOCK", "d", "e"])
}

fn reads_end_at_the_end(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"0123456789")?;
    let source = storage.open_source("a")?;
    let length = source.length()?;
    holds!(length == 10, "a length of {length}");
    let mut buffer = [b'-'; 4];
    for (offset, read, expected) in [(3, 4, b"3456"), (8, 2, b"8956"), (4, 4, b"4567"), (9, 1, b"9567")] {
        let found = source.read_at(offset, &mut buffer)?;
        holds!(found == read && &buffer == expected, "{found} bytes at {offset}, buffer {buffer:?}");
    }
    for end in [10, 11, 1 << 40] {
        let found = source.read_at(end, &mut buffer)?;
        holds!(found == 0 && &buffer == b"9567", "{found} bytes at {end}, buffer {buffer:?}");
    }
    let found = source.read_at(0, &mut [])?;
    holds!(found == 0, "{found} bytes into no buffer");
    Ok(())
}

fn large_is_whole(storage: &dyn Storage) -> Checked {
    let bytes: Vec<u8> = (0_u32..3 << 20).map(|at| ((at / 3) ^ (at / 4096)).to_le_bytes()[0]).collect();
    put(storage, "a", &bytes)?;
    reads(storage, "a", &bytes)
}

fn holes_read_as_zeros(storage: &dyn Storage) -> Checked {
    storage.create("a")?.write_at(10_000, b"end")?;
    let mut expected = vec![0; 10_000];
    expected.extend(b"end");
    reads(storage, "a", &expected)
}

fn empty_writes_do_nothing(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_at(0, b"")?;
    sink.write_at(1_000, b"")?;
    reads(storage, "a", b"")
}

fn overwriting_keeps_the_rest(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_at(0, &[b'o'; 2_000])?;
    sink.write_at(500, &[b'n'; 1_000])?;
    sink.write_at(1_400, &[b'x'; 200])?;
    let expected = [(b'o', 500), (b'n', 900), (b'x', 200), (b'o', 400)];
    let expected = expected.into_iter().flat_map(|(byte, times)| vec![byte; times]).collect::<Vec<_>>();
    reads(storage, "a", &expected)
}

fn open_sink_keeps_the_bytes(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"0123456789")?;
    drop(storage.open_sink("a")?);
    reads(storage, "a", b"0123456789")?;
    storage.open_sink("a")?.write_at(3, b"xyz")?;
    reads(storage, "a", b"012xyz6789")?;
    storage.open_sink("a")?.write_at(10, b"!")?;
    reads(storage, "a", b"012xyz6789!")
}

fn handles_share_bytes(storage: &dyn Storage) -> Checked {
    let (one, two) = (storage.create("a")?, storage.open_sink("a")?);
    let source = storage.open_source("a")?;
    one.write_at(0, b"11111")?;
    two.write_at(3, b"22222")?;
    one.write_at(4, b"3")?;
    drop(one);
    two.sync_data()?;
    same(&content(&*source)?, b"11123222")
}

fn readers_see_growth(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    let source = storage.open_source("a")?;
    let mut buffer = [b'-'; 4];
    for written in 0..4_u64 {
        let length = source.length()?;
        holds!(length == written, "a length of {length} after {written} bytes");
        let read = source.read_at(0, &mut buffer)? as u64;
        holds!(read == written, "{read} bytes were read after {written}");
        sink.write_at(written, b"x")?;
    }
    Ok(())
}

fn far_offsets_are_refused(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_at(0, b"bytes")?;
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let result = sink.write_at(offset, b"xyz");
        let place = result.as_ref().err().and_then(IoError::offset);
        holds!(place == Some(offset), "a write at {offset}: {result:?}");
    }
    holds!(sink.preallocate(u64::MAX).is_err(), "the largest length was reserved");
    holds!(sink.fill(u64::MAX).is_err(), "the largest length was filled");
    reads(storage, "a", b"bytes")
}

fn preallocate_grows(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.preallocate(100_000)?;
    reads(storage, "a", &[0; 100_000])?;
    sink.preallocate(100_001)?;
    reads(storage, "a", &[0; 100_001])
}

fn preallocate_keeps(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.preallocate(0)?;
    reads(storage, "a", b"")?;
    sink.write_at(0, b"kept")?;
    sink.preallocate(0)?;
    sink.preallocate(2)?;
    sink.preallocate(4)?;
    reads(storage, "a", b"kept")?;
    sink.preallocate(8)?;
    reads(storage, "a", b"kept\0\0\0\0")
}

fn write_synced_writes(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_synced_at(0, b"0123456789")?;
    sink.write_synced_at(4, b"xyz")?;
    sink.write_synced_at(20, b"")?;
    sink.write_synced_at(10, b"!")?;
    reads(storage, "a", b"0123xyz789!")
}

fn fill_grows(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.fill(100_000)?;
    reads(storage, "a", &[0; 100_000])?;
    sink.write_at(99_999, b"x")?;
    sink.fill(100_002)?;
    let mut expected = vec![0; 100_002];
    expected.splice(99_999..100_000, *b"x");
    reads(storage, "a", &expected)
}

fn fill_keeps(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.fill(0)?;
    reads(storage, "a", b"")?;
    sink.write_at(0, b"kept")?;
    for length in [0, 2, 4] {
        sink.fill(length)?;
    }
    reads(storage, "a", b"kept")?;
    sink.fill(8)?;
    reads(storage, "a", b"kept\0\0\0\0")
}

/// A sink past the cache; `None` where there is no such thing.
fn direct(storage: &dyn Storage, name: &str, new: bool) -> Result<Option<Arc<dyn Sink>>, Broken> {
    let opened = if new {
        storage.create_with(name, Access::Direct)
    } else {
        storage.open_sink_with(name, Access::Direct)
    };
    match opened {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        sink => Ok(Some(sink?)),
    }
}

/// Starts with these bytes, and then there are only zeros, up to a multiple of the block at most.
fn reads_rounded(storage: &dyn Storage, sink: &dyn Sink, expected: &[u8]) -> Checked {
    let found = read(storage, "a")?;
    let block = usize::try_from(sink.block_bytes()).unwrap_or(usize::MAX);
    let most = expected.len().checked_next_multiple_of(block).unwrap_or(usize::MAX);
    holds!(found.len() <= most, "{} bytes instead of {most} at most", found.len());
    starts_with(&found, expected)?;
    let (_, behind) = found.split_at(expected.len());
    holds!(behind.iter().all(|byte| *byte == 0), "behind the bytes there are others than zeros");
    Ok(())
}

fn starts_with(found: &[u8], expected: &[u8]) -> Checked {
    holds!(found.len() >= expected.len(), "{} bytes instead of {}", found.len(), expected.len());
    let (start, _) = found.split_at(expected.len());
    same(start, expected)
}

fn direct_is_given_or_refused(storage: &dyn Storage) -> Checked {
    let refused = kind(storage.open_sink_with("a", Access::Direct));
    holds!(refused == Some(ErrorKind::NotFound), "open_sink of what is absent: {refused:?}");
    let Some(sink) = direct(storage, "a", true)? else {
        is_named(storage, &[])?;
        put(storage, "a", b"bytes")?;
        holds!(direct(storage, "a", false)?.is_none(), "opened where it cannot be created");
        return reads(storage, "a", b"bytes");
    };
    let block = sink.block_bytes();
    holds!(block.is_power_of_two(), "blocks of {block} bytes");
    let refused = kind(storage.create_with("a", Access::Direct));
    holds!(refused == Some(ErrorKind::AlreadyExists), "{refused:?}");
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        for result in [sink.write_at(offset, b"xyz"), sink.write_synced_at(offset, b"xyz")] {
            let place = result.as_ref().err().and_then(IoError::offset);
            holds!(place == Some(offset), "a write at {offset}: {result:?}");
        }
    }
    holds!(sink.fill(u64::MAX).is_err(), "the largest length was filled");
    reads(storage, "a", b"")
}

fn direct_holds_what_was_written(storage: &dyn Storage) -> Checked {
    let Some(sink) = direct(storage, "a", true)? else { return Ok(()) };
    let mut expected = Vec::new();
    let lengths = [1, 6, 4_089, 4_096, 1, 512, 10_000, 3, 0, 70_000, 1_024, 2_500_000, 9];
    for (number, length) in (1_u8..).zip(lengths) {
        let (offset, bytes) = (expected.len() as u64, vec![number; length]);
        if number % 3 == 0 { sink.write_at(offset, &bytes) } else { sink.write_synced_at(offset, &bytes) }?;
        expected.extend(bytes);
        reads_rounded(storage, &*sink, &expected)?;
    }
    // Not in ascending order, and with a gap.
    let end = expected.len() as u64;
    for (offset, bytes) in [(5_000, [101; 300]), (4_000, [102; 300]), (end + 9_999, [103; 300])] {
        sink.write_at(offset, &bytes)?;
        let place = usize::try_from(offset).unwrap_or(usize::MAX);
        expected.resize(expected.len().max(place + bytes.len()), 0);
        expected.splice(place..place + bytes.len(), bytes);
        reads_rounded(storage, &*sink, &expected)?;
    }
    Ok(())
}

fn direct_keeps_what_is_in_front(storage: &dyn Storage) -> Checked {
    for length in [10, 511, 5_000] {
        let mut expected = vec![b'k'; length];
        put(storage, "a", &expected)?;
        let Some(sink) = direct(storage, "a", false)? else { return Ok(()) };
        sink.write_at(length as u64, b"more")?;
        expected.extend(b"more");
        reads_rounded(storage, &*sink, &expected)?;
        sink.write_synced_at(expected.len() as u64, b"!")?;
        expected.extend(b"!");
        reads_rounded(storage, &*sink, &expected)?;
        storage.unlink("a")?;
    }
    Ok(())
}

fn direct_overwrites_zeros(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"old")?;
    let Some(sink) = direct(storage, "a", false)? else { return Ok(()) };
    sink.fill(50_000)?;
    let mut expected = b"old".to_vec();
    expected.resize(50_000, 0);
    reads_rounded(storage, &*sink, &expected)?;
    let mut end = 3;
    for (number, length) in (1_u8..).zip([7, 5_000, 1, 600]) {
        let bytes = vec![number; length];
        sink.write_synced_at(end as u64, &bytes)?;
        expected.splice(end..end + length, bytes);
        end += length;
        sink.fill(1_000)?;
        reads_rounded(storage, &*sink, &expected)?;
    }
    Ok(())
}

fn syncs_of_nothing_succeed(storage: &dyn Storage) -> Checked {
    storage.sync_dir()?;
    storage.sync_parents()?;
    let sink = storage.create("a")?;
    for _ in 0..2 {
        sink.sync_data()?;
        sink.sync_all()?;
        storage.sync_dir()?;
        storage.sync_parents()?;
    }
    reads(storage, "a", b"")
}

fn rename_replaces(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"a")?;
    put(storage, "b", b"bb")?;
    storage.rename("a", "b")?;
    is_named(storage, &["b"])?;
    reads(storage, "b", b"a")?;
    storage.rename("b", "b")?;
    is_named(storage, &["b"])?;
    reads(storage, "b", b"a")?;
    put(storage, "a", b"another")?;
    reads(storage, "b", b"a")
}

fn replaced_files_live_on(storage: &dyn Storage) -> Checked {
    put(storage, "old", b"old")?;
    put(storage, "new", b"new")?;
    let (sink, source) = (storage.open_sink("old")?, storage.open_source("old")?);
    let moved = storage.open_sink("new")?;
    storage.rename("new", "old")?;
    sink.write_at(3, b"!")?;
    moved.write_at(3, b"?")?;
    sink.sync_all()?;
    same(&content(&*source)?, b"old!")?;
    reads(storage, "old", b"new?")
}

fn unlinked_files_live_on(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"old")?;
    let (sink, source) = (storage.open_sink("a")?, storage.open_source("a")?);
    storage.unlink("a")?;
    storage.sync_dir()?;
    put(storage, "a", b"another")?;
    sink.write_at(3, b"!")?;
    sink.sync_data()?;
    same(&content(&*source)?, b"old!")?;
    reads(storage, "a", b"another")
}

fn locks_exclude(storage: &dyn Storage) -> Checked {
    let lock = storage.lock("LOCK")?;
    is_named(storage, &["LOCK"])?;
    // To close another handle of the file does not end it.
    drop(storage.open_sink("LOCK")?);
    drop(storage.open_source("LOCK")?);
    for _ in 0..2 {
        let second = kind(storage.lock("LOCK"));
        holds!(second == Some(ErrorKind::WouldBlock), "a second lock: {second:?}");
    }
    let other = storage.lock("other")?;
    drop(lock);
    drop(storage.lock("LOCK")?);
    let second = kind(storage.lock("other"));
    holds!(second == Some(ErrorKind::WouldBlock), "a second lock after another one ended: {second:?}");
    drop(other);
    drop(storage.lock("other")?);
    Ok(())
}

fn locks_are_the_files(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"bytes")?;
    let lock = storage.lock("a")?;
    reads(storage, "a", b"bytes")?;
    storage.rename("a", "b")?;
    let second = kind(storage.lock("b"));
    holds!(second == Some(ErrorKind::WouldBlock), "a lock of the renamed file: {second:?}");
    let another = storage.lock("a")?;
    drop((lock, another));
    drop(storage.lock("b")?);
    reads(storage, "b", b"bytes")
}

fn threads_share(storage: &dyn Storage) -> Checked {
    const PARTS: u8 = 8;
    let sink = storage.create("a")?;
    let source = storage.open_source("a")?;
    let write = |part: u8| -> Checked {
        for round in 0..50_u64 {
            sink.write_at((round * u64::from(PARTS) + u64::from(part)) * 100, &[part + 1; 100])?;
        }
        sink.sync_data()?;
        let name = format!("{part}");
        put(storage, &name, name.as_bytes())?;
        storage.rename(&name, &format!("{name}x"))?;
        Ok(storage.sync_dir()?)
    };
    let results: Vec<Checked> = thread::scope(|scope| {
        let write = &write;
        let threads: Vec<_> = (0..PARTS).map(|part| scope.spawn(move || write(part))).collect();
        let mut buffer = [0; 100];
        for _ in 0..50 {
            let _ = source.read_at(0, &mut buffer);
        }
        let panicked = |_| Err(Broken("a thread panicked".to_owned()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    results.into_iter().collect::<Checked>()?;
    let expected: Vec<u8> = (0..50).flat_map(|_| (1..=PARTS).flat_map(|byte| [byte; 100])).collect();
    same(&content(&*source)?, &expected)?;
    let found = storage.list()?.len();
    holds!(found == usize::from(PARTS) + 1, "{found} names");
    Ok(())
}
