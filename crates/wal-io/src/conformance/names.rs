//! Names, and files that outlive them.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::{Checked, content, is_named, kind, names, put, reads, same};
use crate::Storage;

pub(super) fn new_is_empty(storage: &dyn Storage) -> Checked {
    is_named(storage, &[])
}

pub(super) fn names_are_checked(storage: &dyn Storage) -> Checked {
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

pub(super) fn odd_names_are_taken(storage: &dyn Storage) -> Checked {
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

pub(super) fn create_is_exclusive(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"first")?;
    let refused = kind(storage.create("a"));
    holds!(refused == Some(ErrorKind::AlreadyExists), "{refused:?}");
    reads(storage, "a", b"first")
}

pub(super) fn absent_is_not_found(storage: &dyn Storage) -> Checked {
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

pub(super) fn errors_name_the_file(storage: &dyn Storage) -> Checked {
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

pub(super) fn listing_is_complete(storage: &dyn Storage) -> Checked {
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

pub(super) fn rename_replaces(storage: &dyn Storage) -> Checked {
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

pub(super) fn replaced_files_live_on(storage: &dyn Storage) -> Checked {
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

pub(super) fn unlinked_files_live_on(storage: &dyn Storage) -> Checked {
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

pub(super) fn locks_exclude(storage: &dyn Storage) -> Checked {
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

pub(super) fn locks_are_the_files(storage: &dyn Storage) -> Checked {
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
