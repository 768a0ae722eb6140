use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wal_manager::{FamilyId, FsStorage, SeqNum};

use super::*;
use crate::entry::{Entry, Key};

type Entries = Vec<(Key, Entry)>;

fn key(family: u32, user: &str) -> Key {
    Key { family: FamilyId::new(family), user: Bytes::copy_from_slice(user.as_bytes()) }
}

fn storage(dir: &Path) -> Arc<dyn Storage> {
    Arc::new(FsStorage::create(dir).unwrap())
}

fn write(storage: &dyn Storage, number: u64, entries: &Entries) {
    let mut writer = TableWriter::create(storage, number).unwrap();
    entries.iter().for_each(|(key, entry)| writer.add(key, entry).unwrap());
    let ranges = [(key(0, "d"), Bytes::from_static(b"f")), (key(2, ""), Bytes::from_static(b"zz"))];
    let highest = BTreeMap::from([(FamilyId::new(0), SeqNum::new(40)), (FamilyId::new(2), SeqNum::new(41))]);
    writer.finish(&ranges, &highest).unwrap();
}

fn walk(table: &Arc<Table>, start: Bound<Key>, end: Bound<Key>) -> Result<Entries, EngineError> {
    TableCursor::new(Arc::clone(table), start, end).collect()
}

fn few() -> Entries {
    vec![
        (key(0, ""), Entry::Put(Bytes::new())),
        (key(0, "a"), Entry::Put(Bytes::from_static(b"one"))),
        (key(0, "e"), Entry::Delete),
        (key(1, "m"), Entry::Merge(Bytes::from_static(b"more"))),
    ]
}

fn many() -> Entries {
    (0..500)
        .map(|number| {
            // Some values are longer than a block.
            let length = if number % 50 == 0 { 40_000 } else { 200 };
            (
                key(number / 300, &format!("{number:06}")),
                Entry::Put(vec![number.to_le_bytes()[0]; length].into()),
            )
        })
        .collect()
}

#[test]
fn a_table_gives_back_what_was_written() {
    let home = tempfile::tempdir().unwrap();
    let storage = storage(home.path());
    for (number, entries) in [(1, few()), (2, many()), (3, Vec::new())] {
        write(&*storage, number, &entries);
        let table = Arc::new(Table::open(&storage, number).unwrap());
        assert_eq!(walk(&table, Bound::Unbounded, Bound::Unbounded).unwrap(), entries);
        for (key, entry) in &entries {
            assert_eq!(table.lookup(key).unwrap().as_ref(), Some(entry));
        }
        assert_eq!(table.lookup(&key(0, "dog")).unwrap(), Some(Entry::Delete), "covered by the range delete");
        assert_eq!(table.lookup(&key(0, "f")).unwrap(), None, "the end of a range is not in it");
        assert_eq!(table.lookup(&key(1, "dog")).unwrap(), None, "a range is of one family");
        assert_eq!(table.lookup(&key(7, "z")).unwrap(), None);
        assert_eq!(table.highest()[&FamilyId::new(2)], SeqNum::new(41));
    }
}

#[test]
fn a_walk_keeps_to_its_bounds() {
    let home = tempfile::tempdir().unwrap();
    let storage = storage(home.path());
    let entries = many();
    write(&*storage, 1, &entries);
    let table = Arc::new(Table::open(&storage, 1).unwrap());
    for (from, to) in [(0, 500), (1, 2), (77, 391), (99, 100), (250, 250), (499, 500)] {
        let bound =
            |at: usize| entries.get(at).map_or(Bound::Unbounded, |(key, _)| Bound::Excluded(key.clone()));
        let start = Bound::Included(entries[from].0.clone());
        assert_eq!(walk(&table, start, bound(to)).unwrap(), entries[from..to]);
        if from + 1 < to {
            assert_eq!(walk(&table, bound(from), bound(to)).unwrap(), entries[from + 1..to]);
        }
    }
    let end = Bound::Included(entries[300].0.clone());
    assert_eq!(walk(&table, Bound::Unbounded, end).unwrap(), entries[..=300]);
    assert_eq!(walk(&table, Bound::Included(key(9, "")), Bound::Unbounded).unwrap(), []);
}

/// Opens a table and reads everything in it.
fn read_all(storage: &Arc<dyn Storage>) -> Result<(Entries, Vec<bool>), EngineError> {
    let table = Arc::new(Table::open(storage, 1)?);
    let entries = walk(&table, Bound::Unbounded, Bound::Unbounded)?;
    let covered = ["a", "d", "e", "f"].map(|user| table.covers(&key(0, user))).to_vec();
    Ok((entries, covered))
}

#[test]
fn every_flipped_bit_and_every_truncation_is_a_typed_error() {
    let home = tempfile::tempdir().unwrap();
    let storage = storage(home.path());
    write(&*storage, 1, &few());
    let path = home.path().join(name(1));
    let bytes = std::fs::read(&path).unwrap();
    read_all(&storage).unwrap();
    let expect_error = |damage: &[u8], what: String| {
        std::fs::write(&path, damage).unwrap();
        match read_all(&storage) {
            Err(EngineError::Table { path: named, offset, .. }) => {
                assert_eq!(named, path);
                assert!(offset <= bytes.len() as u64);
            }
            other => panic!("{what}: {other:?}"),
        }
    };
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        expect_error(&flipped, format!("bit {bit}"));
    }
    for length in 0..bytes.len() {
        expect_error(&bytes[..length], format!("length {length}"));
    }
    let mut longer = bytes.clone();
    longer.push(0);
    expect_error(&longer, "a byte too many".to_owned());
}

#[test]
fn a_table_under_the_wrong_number_and_a_block_in_the_wrong_place_are_found() {
    let home = tempfile::tempdir().unwrap();
    let storage = storage(home.path());
    let same = |number: u32| (key(0, &format!("{number:06}")), Entry::Put(vec![7; 16_400].into()));
    write(&*storage, 1, &(0..4).map(same).collect());
    write(&*storage, 2, &(4..8).map(same).collect());
    let (one, two) = (home.path().join(name(1)), home.path().join(name(2)));
    let (bytes, other) = (std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    std::fs::write(&one, &other).unwrap();
    assert!(matches!(read_all(&storage), Err(EngineError::Table { .. })));
    // Blocks of equal length change places inside the file, and come from the other file.
    let length = 16_400 + 1 + 4 + 4 + 6 + 4 + CRC_BYTES;
    let mut swapped = bytes.clone();
    swapped[..length].copy_from_slice(&bytes[length..2 * length]);
    swapped[length..2 * length].copy_from_slice(&bytes[..length]);
    std::fs::write(&one, &swapped).unwrap();
    assert!(matches!(
        read_all(&storage),
        Err(EngineError::Table { offset: 0, reason: "checksum mismatch", .. })
    ));
    let mut foreign = bytes.clone();
    foreign[..length].copy_from_slice(&other[..length]);
    std::fs::write(&one, &foreign).unwrap();
    assert!(matches!(
        read_all(&storage),
        Err(EngineError::Table { offset: 0, reason: "checksum mismatch", .. })
    ));
    std::fs::remove_file(&one).unwrap();
    assert!(matches!(read_all(&storage), Err(EngineError::Table { .. })));
}

#[test]
fn only_one_name_is_the_name_of_a_table() {
    assert_eq!(number("000012.tbl"), Some(12));
    assert_eq!(number("1000000.tbl"), Some(1_000_000));
    for wrong in ["12.tbl", "0000012.tbl", "000012.tbl.new", "+00012.tbl", "MANIFEST", ""] {
        assert_eq!(number(wrong), None, "{wrong}");
    }
}

#[test]
fn a_writer_keeps_no_block_of_the_tables_that_it_merges() {
    let home = tempfile::tempdir().unwrap();
    let storage = storage(home.path());
    let mut writer = TableWriter::create(&*storage, 1).unwrap();
    let block = Bytes::from(vec![b'k'; 20_000]);
    writer
        .add(&Key { family: FamilyId::new(0), user: block.slice(..5) }, &Entry::Put(block.slice(5..)))
        .unwrap();
    writer.add(&key(1, "next"), &Entry::Delete).unwrap();
    assert!(block.is_unique(), "the index holds on to a whole block");
}
