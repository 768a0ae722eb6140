//! What a reader sees.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use wal_manager::{FamilyId, SeqNum};

use crate::entry::{Entry, Key, resolve};
use crate::error::EngineError;
use crate::memtable::{Memtable, MemtableCursor};
use crate::scan::{Cursor, Merged, Scan};
use crate::table::{Table, TableCursor};

/// The state of the engine at one sequence number: what is written later is not seen.
///
/// # Concurrency
/// May be shared and used from many threads. The memtables and tables that it reads stay in memory and on disk until it is dropped.
#[derive(Clone, Debug)]
pub struct Snapshot {
    sources: Arc<Sources>,
    visible: SeqNum,
}

/// Everything a read consults.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Takes the writes.
    pub(crate) active: Arc<Memtable>,
    /// Wait to be flushed, oldest first.
    pub(crate) sealed: Vec<Arc<Memtable>>,
    /// Oldest first.
    pub(crate) tables: Vec<Arc<Table>>,
}

impl Snapshot {
    /// `visible` was read after `sources`: then everything in the sealed memtables and the tables is visible, since a memtable
    /// is sealed only when its records are.
    pub(crate) fn new(sources: Arc<Sources>, visible: SeqNum) -> Self {
        Self { sources, visible }
    }

    /// Everything up to this sequence number is seen.
    pub fn seq(&self) -> SeqNum {
        self.visible
    }

    /// The value of a key.
    ///
    /// # Errors
    /// A table is damaged or cannot be read.
    pub fn get(&self, family: FamilyId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let key = Key { family, user: Bytes::copy_from_slice(key) };
        let mut operands = Vec::new();
        let Sources { active, sealed, tables } = &*self.sources;
        let memtables = std::iter::once(active).chain(sealed.iter().rev());
        let memtables = memtables.map(|memtable| Ok::<_, EngineError>(memtable.lookup(&key, self.visible)));
        // A value from a table is copied out of its block: whoever keeps it should not keep the block.
        let tables = tables.iter().rev().map(|table| Ok(table.lookup(&key)?.map(owned)));
        for found in memtables.chain(tables) {
            match found? {
                Some(Entry::Put(value)) => return Ok(resolve(Some(value), operands)),
                Some(Entry::Delete) => break,
                Some(Entry::Merge(operand)) => operands.push(operand),
                None => {}
            }
        }
        Ok(resolve(None, operands))
    }

    /// The keys of a range in order: `snapshot.scan(family, &b"a"[..]..&b"b"[..])`, or `..` for all of them.
    pub fn scan<'k>(&self, family: FamilyId, range: impl RangeBounds<&'k [u8]>) -> Scan {
        let key = |user: &&[u8]| Key { family, user: Bytes::copy_from_slice(user) };
        let start = match range.start_bound() {
            Bound::Unbounded => Bound::Included(Key { family, user: Bytes::new() }),
            bound => bound.map(key),
        };
        let end = match range.end_bound() {
            // The first possible key of the next family ends this one; the highest family there is has a next one.
            Bound::Unbounded => Bound::Excluded(Key {
                family: FamilyId::new(family.get().saturating_add(1)),
                user: Bytes::new(),
            }),
            bound => bound.map(key),
        };
        let Sources { active, sealed, tables } = &*self.sources;
        let memtables = std::iter::once(active).chain(sealed.iter().rev()).map(|memtable| {
            Cursor::Memtable(MemtableCursor::new(
                Arc::clone(memtable),
                self.visible,
                start.clone(),
                end.clone(),
            ))
        });
        let tables = tables
            .iter()
            .rev()
            .map(|table| Cursor::Table(TableCursor::new(Arc::clone(table), start.clone(), end.clone())));
        Scan::new(Merged::new(memtables.chain(tables).collect()))
    }
}

fn owned(entry: Entry) -> Entry {
    match entry {
        Entry::Put(value) => Entry::Put(Bytes::copy_from_slice(&value)),
        Entry::Merge(operand) => Entry::Merge(Bytes::copy_from_slice(&operand)),
        Entry::Delete => Entry::Delete,
    }
}
