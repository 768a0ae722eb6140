//! The memtable: a concurrent skip list of every version of every key, and the range deletes beside it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use crossbeam_skiplist::SkipMap;
use wal_manager::{BatchError, FamilyId, Op, SeqNum, SeqRange};

use crate::entry::{Entry, Key, collapse};
use crate::ranges::{RangeDelete, Ranges};
use crate::sync::{AtomicU64, Mutex, RwLock, lock, read, write};

/// The operations of some stretch of the log.
///
/// # Concurrency
/// Many threads may insert while others read. A reader names the sequence number up to which it sees; everything up to there
/// must have been inserted before.
#[derive(Debug)]
pub(crate) struct Memtable {
    id: u64,
    entries: SkipMap<Version, Entry>,
    /// Few, as a rule: read one by one by `lookup`, cut into pieces by a cursor.
    range_deletes: RwLock<Vec<RangeDelete>>,
    /// Spares readers the lock above.
    range_delete_count: AtomicU64,
    bytes: AtomicU64,
    /// Highest sequence number of each family, operations without an effect included: what a flush marks.
    highest: Mutex<BTreeMap<FamilyId, SeqNum>>,
}

/// A version of a key; the newest comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    key: Key,
    seq: Reverse<SeqNum>,
}

impl Memtable {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            entries: SkipMap::new(),
            range_deletes: RwLock::new(Vec::new()),
            range_delete_count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            highest: Mutex::new(BTreeMap::new()),
        }
    }

    /// Grows from one memtable to the next.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// An estimate of the memory that it holds, from above for small entries.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The highest sequence number of each family.
    pub(crate) fn highest(&self) -> BTreeMap<FamilyId, SeqNum> {
        lock(&self.highest).clone()
    }

    /// Inserts the operations of a batch with these numbers, without those that `skip` names.
    ///
    /// # Errors
    /// The bytes are not a batch; the operations before the fault are in.
    pub(crate) fn insert<'a>(
        &self,
        ops: impl Iterator<Item = Result<Op<'a>, BatchError>>,
        seqs: SeqRange,
        skip: impl Fn(FamilyId, SeqNum) -> bool,
    ) -> Result<(), BatchError> {
        let mut families = BTreeSet::new();
        for (op, seq) in ops.zip(seqs.first().get()..) {
            let (op, seq) = (op?, SeqNum::new(seq));
            if !skip(op.family(), seq) {
                families.insert(op.family());
                self.apply(&op, seq);
            }
        }
        let mut all = lock(&self.highest);
        for family in families {
            // The log holds a record for its families until each of them is flushed through the whole of it.
            let known = all.entry(family).or_insert(seqs.last());
            *known = seqs.last().max(*known);
        }
        Ok(())
    }

    /// What the operations up to `visible` do to a key; `None` if nothing.
    pub(crate) fn lookup(&self, key: &Key, visible: SeqNum) -> Option<Entry> {
        let covered = self.covering(key, visible);
        let newest = Version { key: key.clone(), seq: Reverse(visible) };
        let oldest = Version { key: key.clone(), seq: Reverse(SeqNum::new(0)) };
        let versions = self.entries.range(newest..=oldest);
        collapse(versions.map(|found| (found.key().seq.0, found.value().clone())), covered)
            .or(covered.map(|_| Entry::Delete))
    }

    fn covering(&self, key: &Key, visible: SeqNum) -> Option<SeqNum> {
        // Everything visible was inserted before the reader learnt what is visible, so this count is recent enough.
        if self.range_delete_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let deletes = read(&self.range_deletes);
        deletes
            .iter()
            .filter(|delete| delete.seq <= visible && delete.covers(key))
            .map(|delete| delete.seq)
            .max()
    }

    fn apply(&self, op: &Op<'_>, seq: SeqNum) {
        let (user, value) = match *op {
            Op::Put { key, value, .. } => (key, value),
            Op::Delete { key, .. } => (key, &[][..]),
            Op::Merge { key, operand, .. } => (key, operand),
            Op::DeleteRange { start, end, .. } => (start, end),
        };
        let bytes =
            (user.len() as u64).saturating_add(value.len() as u64).saturating_add(ENTRY_OVERHEAD_BYTES);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One allocation for both; nothing keeps the batch or a buffer of the log alive.
        let mut value_bytes = BytesMut::with_capacity(user.len().saturating_add(value.len()));
        value_bytes.extend_from_slice(user);
        value_bytes.extend_from_slice(value);
        let key = Key { family: op.family(), user: value_bytes.split_to(user.len()).freeze() };
        let value = value_bytes.freeze();
        let entry = match op {
            Op::Put { .. } => Entry::Put(value),
            Op::Delete { .. } => Entry::Delete,
            Op::Merge { .. } => Entry::Merge(value),
            Op::DeleteRange { .. } => {
                // A range that ends where it starts, or before, removes nothing.
                if key.user < value {
                    write(&self.range_deletes).push(RangeDelete { start: key, end: value, seq });
                    self.range_delete_count.fetch_add(1, Ordering::Release);
                }
                return;
            }
        };
        self.entries.insert(Version { key, seq: Reverse(seq) }, entry);
    }
}

/// Walks over a memtable in key order, one entry a key.
///
/// Holds at most [`CURSOR_KEYS`] entries at a time; their bytes are shared with the memtable.
#[derive(Debug)]
pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    visible: SeqNum,
    ranges: Ranges,
    /// Where the next refill starts; `None` at the end.
    from: Option<Bound<Version>>,
    end: Bound<Key>,
    ready: VecDeque<(Key, Entry)>,
}

impl MemtableCursor {
    /// Walks over the keys between `start` and `end` as they are at `visible`.
    pub(crate) fn new(memtable: Arc<Memtable>, visible: SeqNum, start: Bound<Key>, end: Bound<Key>) -> Self {
        let deletes =
            read(&memtable.range_deletes).iter().filter(|delete| delete.seq <= visible).cloned().collect();
        let from = Some(match start {
            // The newest possible version comes first, the oldest last.
            Bound::Included(key) => Bound::Included(Version { key, seq: Reverse(SeqNum::new(u64::MAX)) }),
            Bound::Excluded(key) => Bound::Excluded(Version { key, seq: Reverse(SeqNum::new(0)) }),
            Bound::Unbounded => Bound::Unbounded,
        });
        Self { memtable, visible, ranges: Ranges::new(deletes), from, end, ready: VecDeque::new() }
    }

    /// The range deletes of the memtable as they are at this cursor's sequence number.
    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    fn refill(&mut self) {
        while self.ready.is_empty()
            && let Some(from) = self.from.take()
        {
            let mut found = self.memtable.entries.lower_bound(from.as_ref());
            for _ in 0..CURSOR_KEYS {
                let Some(version) = found.take() else { return };
                let key = version.key().key.clone();
                if !within(&key, &self.end) {
                    return;
                }
                // A cursor of the skip list, so that it can stop at the next key without losing it.
                let mut place = Some(version);
                let visible = self.visible;
                let versions = std::iter::from_fn(|| {
                    let version = place.take()?;
                    if version.key().key != key {
                        place = Some(version);
                        return None;
                    }
                    place = version.next();
                    Some((version.key().seq.0, version.value().clone()))
                });
                let entry = collapse(versions.filter(|(seq, _)| *seq <= visible), self.ranges.covering(&key));
                // The entry may have been decided before the last version of the key.
                let last = Version { key: key.clone(), seq: Reverse(SeqNum::new(0)) };
                while let Some(version) = place.take_if(|version| *version.key() <= last) {
                    place = version.next();
                }
                found = place;
                self.from = Some(Bound::Excluded(last));
                if let Some(entry) = entry {
                    self.ready.push_back((key, entry));
                }
            }
        }
    }
}

impl Iterator for MemtableCursor {
    type Item = (Key, Entry);

    fn next(&mut self) -> Option<(Key, Entry)> {
        self.refill();
        self.ready.pop_front()
    }
}

/// Whether a key lies before the end of a range.
pub(crate) fn within(key: &Key, end: &Bound<Key>) -> bool {
    match end {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    }
}

/// What an entry costs beside its bytes: the node with key, value and tower (about 130 bytes), the shared allocation
/// of the bytes (about
/// 40) and the allocator's share of both. Rounded up.
const ENTRY_OVERHEAD_BYTES: u64 = 200;

/// Keys that a cursor takes at a time: enough to make the search for the place cheap, few enough to be nothing.
const CURSOR_KEYS: usize = 64;

#[cfg(test)]
mod tests;
