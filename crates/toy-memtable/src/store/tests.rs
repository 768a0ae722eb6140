use std::path::Path;

use wal_manager::io::sim::Fault;
use wal_manager::{FamilyId, FsStorage, SeqNum, SeqRange, SimStorage, WriteBatch};

use super::*;

const F: FamilyId = FamilyId::DEFAULT;

fn storage(dir: &Path) -> Arc<dyn Storage> {
    Arc::new(FsStorage::create(dir).unwrap())
}

fn memtable(first: u64, fill: impl FnOnce(&mut WriteBatch)) -> Arc<Memtable> {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    let memtable = Memtable::new(1);
    let seqs = SeqRange::new(SeqNum::new(first), batch.count()).unwrap();
    memtable.insert(batch.ops(), seqs, |_, _| false).unwrap();
    Arc::new(memtable)
}

fn key(user: &[u8]) -> Key {
    Key { family: F, user: Bytes::copy_from_slice(user) }
}

#[test]
fn a_merge_keeps_what_counts_and_drops_what_only_hides() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(storage(home.path()), true).unwrap();
    store
        .add(&memtable(1, |batch| {
            for user in [b"a", b"b", b"c", b"d"] {
                batch.put(F, user, b"1").unwrap();
            }
        }))
        .unwrap();
    store
        .add(&memtable(5, |batch| {
            batch.delete(F, b"a").unwrap();
            batch.delete_range(F, b"b", b"c").unwrap();
            batch.merge(F, b"c", b"2").unwrap();
            batch.merge(F, b"x", b"9").unwrap();
        }))
        .unwrap();
    store.merge_all().unwrap();
    let expected = [(b"c", &b"12"[..]), (b"d", b"1"), (b"x", b"9")]
        .map(|(user, value)| (key(user), Entry::Put(Bytes::copy_from_slice(value))));
    let reopened = Store::open(storage(home.path()), false).unwrap();
    for store in [&store, &reopened] {
        assert_eq!(store.live().len(), 1);
        let found: Result<Vec<_>, _> =
            TableCursor::new(Arc::clone(&store.live()[0]), Bound::Unbounded, Bound::Unbounded).collect();
        assert_eq!(found.unwrap(), expected);
        assert_eq!(store.manifest().flushed[&F], SeqNum::new(8));
        assert!(!store.live()[0].covers(&key(b"b")));
    }
    // Everything goes: no table is left, and what is flushed is still known.
    store.add(&memtable(9, |batch| batch.delete_range(F, b"a", b"z").unwrap())).unwrap();
    store.merge_all().unwrap();
    assert_eq!(store.live().len(), 0);
    assert_eq!(Store::open(storage(home.path()), false).unwrap().manifest().flushed[&F], SeqNum::new(9));
}

#[test]
fn orphans_go_and_other_files_stay() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(storage(home.path()), true).unwrap();
    store.add(&memtable(1, |batch| batch.put(F, b"a", b"1").unwrap())).unwrap();
    drop(store);
    for name in ["000002.tbl", "MANIFEST.new", "notes.txt", "7.tbl"] {
        std::fs::write(home.path().join(name), b"?").unwrap();
    }
    let mut store = Store::open(storage(home.path()), false).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["000001.tbl", "7.tbl", "MANIFEST", "notes.txt"]);
    store.add(&memtable(2, |batch| batch.put(F, b"b", b"1").unwrap())).unwrap();
    assert_eq!(store.live().len(), 2);
}

#[test]
fn a_missing_manifest_is_a_new_directory_only_if_nothing_says_otherwise() {
    let home = tempfile::tempdir().unwrap();
    let missing =
        |new| matches!(Store::open(storage(home.path()), new), Err(EngineError::ManifestMissing { .. }));
    assert!(missing(false));
    assert!(!missing(true));
    std::fs::remove_file(home.path().join(MANIFEST)).unwrap();
    std::fs::write(home.path().join("000001.tbl"), b"?").unwrap();
    assert!(missing(true));
    assert!(home.path().join("000001.tbl").exists());
}

#[test]
fn a_missing_or_damaged_table_is_named_and_nothing_is_removed() {
    let home = tempfile::tempdir().unwrap();
    let mut store = Store::open(storage(home.path()), true).unwrap();
    store.add(&memtable(1, |batch| batch.put(F, b"a", b"1").unwrap())).unwrap();
    drop(store);
    std::fs::write(home.path().join("000009.tbl"), b"orphan").unwrap();
    let table = home.path().join("000001.tbl");
    let bytes = std::fs::read(&table).unwrap();
    std::fs::remove_file(&table).unwrap();
    for _ in 0..2 {
        let error = Store::open(storage(home.path()), false).unwrap_err();
        assert!(matches!(&error, EngineError::Table { path, .. } if *path == table), "{error:?}");
        assert!(home.path().join("000009.tbl").exists());
        std::fs::write(&table, &bytes[1..]).unwrap();
    }
}

/// A rename that a failed sync of the directory left in the cache: the next open sees it, and the power cut after that would take it back.
#[test]
fn f17_f23_a_manifest_is_durable_before_an_open_relies_on_it() {
    let disk = SimStorage::new();
    let mut store = Store::open(Arc::new(disk.clone()), true).unwrap();
    store.add(&memtable(1, |batch| batch.put(F, b"a", b"1").unwrap())).unwrap();
    store.add(&memtable(2, |batch| batch.put(F, b"a", b"2").unwrap())).unwrap();
    // The first makes the table's name durable, the second that of MANIFEST.
    disk.fail(Fault::parse("fail syncdir #2 with EIO").unwrap());
    store.merge_all().unwrap_err();
    let disk = disk.process_crash();
    let store = Store::open(Arc::new(disk.clone()), false).unwrap();
    let believed = store.manifest().clone();
    let disk = disk.crash_all_lost();
    let store = Store::open(Arc::new(disk), false).unwrap();
    assert_eq!(*store.manifest(), believed);
}
