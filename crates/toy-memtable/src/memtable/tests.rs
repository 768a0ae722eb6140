use bytes::Bytes;

use super::*;
use wal_manager::WriteBatch;

const F: FamilyId = FamilyId::DEFAULT;

fn key(user: &[u8]) -> Key {
    Key { family: F, user: Bytes::copy_from_slice(user) }
}

fn put(value: &[u8]) -> Entry {
    Entry::Put(Bytes::copy_from_slice(value))
}

fn memtable(fill: impl FnOnce(&mut WriteBatch)) -> Arc<Memtable> {
    let mut batch = WriteBatch::new();
    fill(&mut batch);
    let memtable = Memtable::new(1);
    memtable
        .insert(batch.ops(), SeqRange::new(SeqNum::new(1), batch.count()).unwrap(), |_, _| false)
        .unwrap();
    Arc::new(memtable)
}

fn all(memtable: &Arc<Memtable>, visible: u64) -> Vec<(Key, Entry)> {
    MemtableCursor::new(Arc::clone(memtable), SeqNum::new(visible), Bound::Unbounded, Bound::Unbounded)
        .collect()
}

#[test]
fn versions_collapse_at_every_sequence_number() {
    let table = memtable(|batch| {
        batch.put(F, b"a", b"1").unwrap(); // 1
        batch.merge(F, b"a", b"2").unwrap(); // 2
        batch.merge(F, b"b", b"3").unwrap(); // 3
        batch.delete_range(F, b"a", b"b").unwrap(); // 4
        batch.merge(F, b"a", b"5").unwrap(); // 5
        batch.delete(F, b"b").unwrap(); // 6
        batch.merge(F, b"b", b"7").unwrap(); // 7
        batch.delete(F, b"a").unwrap(); // 8
    });
    let merge = |value: &[u8]| Entry::Merge(Bytes::copy_from_slice(value));
    let steps: [(Option<Entry>, Option<Entry>); 9] = [
        (None, None),
        (Some(put(b"1")), None),
        (Some(put(b"12")), None),
        (Some(put(b"12")), Some(merge(b"3"))),
        (Some(Entry::Delete), Some(merge(b"3"))),
        (Some(put(b"5")), Some(merge(b"3"))),
        (Some(put(b"5")), Some(Entry::Delete)),
        (Some(put(b"5")), Some(put(b"7"))),
        (Some(Entry::Delete), Some(put(b"7"))),
    ];
    for (visible, (a, b)) in (0_u64..).zip(steps) {
        assert_eq!(table.lookup(&key(b"a"), SeqNum::new(visible)), a, "a at {visible}");
        assert_eq!(table.lookup(&key(b"b"), SeqNum::new(visible)), b, "b at {visible}");
        let scanned = all(&table, visible);
        let of = |user: &[u8]| scanned.iter().find(|(k, _)| *k == key(user)).map(|(_, entry)| entry.clone());
        // A key that only a range delete covers has no entry in a scan: the range says it.
        assert_eq!(of(b"a"), if visible == 4 { None } else { a }, "a at {visible}");
        assert_eq!(of(b"b"), b, "b at {visible}");
    }
}

#[test]
fn a_cursor_crosses_its_refills_and_keeps_its_bounds() {
    let table = memtable(|batch| {
        for number in 0..300_u32 {
            for round in 0..3_u32 {
                batch.put(F, format!("{number:05}").as_bytes(), &round.to_le_bytes()).unwrap();
            }
        }
    });
    assert_eq!(all(&table, u64::MAX).len(), 300);
    assert_eq!(all(&table, 300).len(), 100, "versions above the visible one do not count");
    let bounds = [
        (Bound::Included(key(b"00010")), Bound::Excluded(key(b"00200")), 190),
        (Bound::Excluded(key(b"00010")), Bound::Included(key(b"00200")), 190),
        (Bound::Unbounded, Bound::Excluded(key(b"00064")), 64),
        (Bound::Included(key(b"00299")), Bound::Unbounded, 1),
    ];
    for (start, end, count) in bounds {
        let cursor = MemtableCursor::new(Arc::clone(&table), SeqNum::new(u64::MAX), start, end);
        let found: Vec<_> = cursor.collect();
        assert_eq!(found.len(), count);
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(found.iter().all(|(_, entry)| *entry == put(&2_u32.to_le_bytes())));
    }
}

#[test]
fn operations_without_effect_still_count_as_seen() {
    let table = memtable(|batch| {
        batch.put(F, b"a", b"1").unwrap();
        batch.delete_range(FamilyId::new(3), b"z", b"a").unwrap();
    });
    let expected = BTreeMap::from([F, FamilyId::new(3)].map(|family| (family, SeqNum::new(2))));
    assert_eq!(table.highest(), expected);
    assert_eq!(
        table.lookup(&Key { family: FamilyId::new(3), user: Bytes::from_static(b"m") }, SeqNum::new(9)),
        None
    );
    assert!(table.bytes() >= 2 * ENTRY_OVERHEAD_BYTES);
}
