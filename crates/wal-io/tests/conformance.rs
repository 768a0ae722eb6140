//! What every backend must do alike: each rule runs on `fs`, `mem` and `sim`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, also in its helpers"
)]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::thread;

use wal_io::fs::FsStorage;
use wal_io::mem::MemStorage;
use wal_io::sim::SimStorage;
use wal_io::{EntryKind, IoError, Source, Storage};

type Rule = fn(&dyn Storage);

const RULES: [(&str, Rule); 12] = [
    ("names are checked", names_are_checked),
    ("create is exclusive", create_is_exclusive),
    ("absent is not found", absent_is_not_found),
    ("reads end at the end", reads_end_at_the_end),
    ("holes read as zeros", holes_read_as_zeros),
    ("empty writes do nothing", empty_writes_do_nothing),
    ("overwriting keeps the rest", overwriting_keeps_the_rest),
    ("preallocate only grows", preallocate_only_grows),
    ("rename replaces", rename_replaces),
    ("handles outlive names", handles_outlive_names),
    ("locks exclude", locks_exclude),
    ("threads share", threads_share),
];

fn follow_the_rules(new: impl Fn() -> Box<dyn Storage>) {
    for (name, rule) in RULES {
        println!("{name}");
        rule(&*new());
    }
}

#[test]
fn i7_fs_conforms() {
    let outer = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    follow_the_rules(|| {
        number.set(number.get() + 1);
        Box::new(FsStorage::create(outer.path().join(number.get().to_string())).unwrap())
    });
}

#[test]
fn i7_mem_conforms() {
    follow_the_rules(|| Box::new(MemStorage::new()));
}

#[test]
fn i7_sim_conforms() {
    follow_the_rules(|| Box::new(SimStorage::new()));
}

fn kind<T>(result: Result<T, IoError>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn content(source: &dyn Source) -> Vec<u8> {
    let mut bytes = vec![0xEE; usize::try_from(source.length().unwrap()).unwrap()];
    assert_eq!(source.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn read(storage: &dyn Storage, name: &str) -> Vec<u8> {
    content(&*storage.open_source(name).unwrap())
}

fn put(storage: &dyn Storage, name: &str, bytes: &[u8]) {
    storage.create(name).unwrap().write_at(0, bytes).unwrap();
}

fn names(storage: &dyn Storage) -> BTreeSet<String> {
    let entries = storage.list().unwrap();
    let listed = entries.len();
    assert!(entries.iter().all(|entry| entry.kind == EntryKind::File));
    let names: BTreeSet<String> =
        entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    assert_eq!(names.len(), listed, "a name is listed twice");
    names
}

fn names_are_checked(storage: &dyn Storage) {
    put(storage, "good", b"1");
    for bad in ["", ".", "..", "a/b", "/a", "../good", "./good", "nul\0"] {
        let refused = Some(ErrorKind::InvalidInput);
        assert_eq!(kind(storage.create(bad)), refused, "create {bad:?}");
        assert_eq!(kind(storage.open_sink(bad)), refused, "open_sink {bad:?}");
        assert_eq!(kind(storage.open_source(bad)), refused, "open_source {bad:?}");
        assert_eq!(kind(storage.rename("good", bad)), refused, "rename to {bad:?}");
        assert_eq!(kind(storage.rename(bad, "good")), refused, "rename from {bad:?}");
        assert_eq!(kind(storage.unlink(bad)), refused, "unlink {bad:?}");
        assert_eq!(kind(storage.lock(bad)), refused, "lock {bad:?}");
    }
    for good in ["...", "a b", "-", "\u{e4}\u{1f4a3}", "a\nb"] {
        put(storage, good, b"2");
    }
    assert_eq!(names(storage).len(), 6);
    assert_eq!(read(storage, "good"), b"1");
}

fn create_is_exclusive(storage: &dyn Storage) {
    put(storage, "a", b"first");
    assert_eq!(kind(storage.create("a")), Some(ErrorKind::AlreadyExists));
    assert_eq!(read(storage, "a"), b"first");
    let error = storage.create("a").unwrap_err();
    assert!(error.path().ends_with("a") && error.path().starts_with(storage.path()));
}

fn absent_is_not_found(storage: &dyn Storage) {
    let missing = Some(ErrorKind::NotFound);
    assert_eq!(kind(storage.open_sink("a")), missing);
    assert_eq!(kind(storage.open_source("a")), missing);
    assert_eq!(kind(storage.unlink("a")), missing);
    assert_eq!(kind(storage.rename("a", "b")), missing);
    assert!(names(storage).is_empty());
}

fn reads_end_at_the_end(storage: &dyn Storage) {
    put(storage, "a", b"0123456789");
    let source = storage.open_source("a").unwrap();
    assert_eq!(source.length().unwrap(), 10);
    let mut buffer = [b'-'; 4];
    assert_eq!(source.read_at(3, &mut buffer).unwrap(), 4);
    assert_eq!(&buffer, b"3456");
    assert_eq!(source.read_at(8, &mut buffer).unwrap(), 2);
    assert_eq!(&buffer, b"8956", "what was not read is untouched");
    for end in [10, 11, 1 << 40] {
        assert_eq!(source.read_at(end, &mut buffer).unwrap(), 0, "at {end}");
    }
    assert_eq!(source.read_at(0, &mut []).unwrap(), 0);
}

fn holes_read_as_zeros(storage: &dyn Storage) {
    let sink = storage.create("a").unwrap();
    sink.write_at(10_000, b"end").unwrap();
    let bytes = read(storage, "a");
    assert_eq!(bytes.len(), 10_003);
    assert!(bytes[..10_000].iter().all(|byte| *byte == 0));
    assert_eq!(&bytes[10_000..], b"end");
}

fn empty_writes_do_nothing(storage: &dyn Storage) {
    let sink = storage.create("a").unwrap();
    sink.write_at(0, b"").unwrap();
    sink.write_at(1_000, b"").unwrap();
    assert_eq!(read(storage, "a"), b"");
}

fn overwriting_keeps_the_rest(storage: &dyn Storage) {
    put(storage, "a", &[b'o'; 2_000]);
    storage.open_sink("a").unwrap().write_at(500, &[b'n'; 1_000]).unwrap();
    let sink = storage.open_sink("a").unwrap();
    sink.sync_data().unwrap();
    sink.sync_all().unwrap();
    let bytes = read(storage, "a");
    assert_eq!(bytes.len(), 2_000);
    assert!(bytes.iter().enumerate().all(|(at, byte)| (*byte == b'n') == (500..1_500).contains(&at)));
}

fn preallocate_only_grows(storage: &dyn Storage) {
    let sink = storage.create("a").unwrap();
    sink.preallocate(0).unwrap();
    assert_eq!(read(storage, "a"), b"");
    sink.write_at(0, b"kept").unwrap();
    sink.preallocate(100_000).unwrap();
    sink.preallocate(50).unwrap();
    let bytes = read(storage, "a");
    assert_eq!(bytes.len(), 100_000);
    assert!(bytes.starts_with(b"kept") && bytes[4..].iter().all(|byte| *byte == 0));
}

fn rename_replaces(storage: &dyn Storage) {
    put(storage, "a", b"a");
    put(storage, "b", b"b");
    storage.rename("a", "b").unwrap();
    assert_eq!(names(storage), BTreeSet::from(["b".to_owned()]));
    assert_eq!(read(storage, "b"), b"a");
    storage.rename("b", "b").unwrap();
    assert_eq!(read(storage, "b"), b"a");
    storage.unlink("b").unwrap();
    assert!(names(storage).is_empty());
    storage.sync_dir().unwrap();
    storage.sync_parents().unwrap();
}

fn handles_outlive_names(storage: &dyn Storage) {
    put(storage, "a", b"old");
    let (sink, source) = (storage.open_sink("a").unwrap(), storage.open_source("a").unwrap());
    storage.rename("a", "b").unwrap();
    sink.write_at(0, b"OLD").unwrap();
    assert_eq!(read(storage, "b"), b"OLD");
    storage.unlink("b").unwrap();
    storage.sync_dir().unwrap();
    put(storage, "b", b"another");
    sink.write_at(3, b"!").unwrap();
    sink.sync_data().unwrap();
    assert_eq!(content(&*source), b"OLD!");
    assert_eq!(read(storage, "b"), b"another");
}

fn locks_exclude(storage: &dyn Storage) {
    put(storage, "a", b"bytes");
    let lock = storage.lock("LOCK").unwrap();
    assert!(names(storage).contains("LOCK"));
    drop(storage.open_sink("LOCK").unwrap());
    assert_eq!(kind(storage.lock("LOCK")), Some(ErrorKind::WouldBlock));
    let other = storage.lock("a").unwrap();
    assert_eq!(kind(storage.lock("a")), Some(ErrorKind::WouldBlock));
    drop(lock);
    let _again = storage.lock("LOCK").unwrap();
    drop(other);
    assert_eq!(read(storage, "a"), b"bytes", "a lock leaves the file's bytes alone");
    // The lock is the file's, not the name's.
    storage.rename("LOCK", "b").unwrap();
    assert_eq!(kind(storage.lock("b")), Some(ErrorKind::WouldBlock));
    drop(storage.lock("LOCK").unwrap());
}

fn threads_share(storage: &dyn Storage) {
    let sink = storage.create("a").unwrap();
    let parts = 8_usize;
    thread::scope(|scope| {
        for part in 0..parts {
            let sink = &sink;
            scope.spawn(move || {
                let byte = b'a' + u8::try_from(part).unwrap();
                for at in 0..50_usize {
                    let offset = (at * parts + part) as u64 * 100;
                    sink.write_at(offset, &[byte; 100]).unwrap();
                }
                sink.sync_data().unwrap();
            });
        }
        let source = storage.open_source("a").unwrap();
        let mut buffer = [0; 100];
        for _ in 0..50 {
            source.read_at(0, &mut buffer).unwrap();
        }
    });
    let bytes = read(storage, "a");
    assert_eq!(bytes.len(), 50 * parts * 100);
    for (at, piece) in bytes.chunks(100).enumerate() {
        assert_eq!(piece, [b'a' + u8::try_from(at % parts).unwrap(); 100]);
    }
}
