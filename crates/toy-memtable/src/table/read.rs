//! Reads a table.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use wal_manager::io::{IoError, Operation, Source, Storage};
use wal_manager::{FamilyId, SeqNum};

use super::block::Entries;
use super::{BlockHandle, CRC_BYTES, FOOTER_BYTES, MAGIC, VERSION, checksum, damaged, name};
use crate::codec::Fields;
use crate::entry::{Entry, Key};
use crate::error::EngineError;
use crate::memtable::within;

/// An open table: its index and its range deletes are in memory, its blocks are read when they are needed.
///
/// The file stays readable for whoever holds the table, also after its name was removed.
#[derive(Debug)]
pub(crate) struct Table {
    number: u64,
    storage: Arc<dyn Storage>,
    source: Arc<dyn Source>,
    bytes: u64,
    blocks: Vec<BlockHandle>,
    /// Highest key; `None` in a table of range deletes only.
    last: Option<Key>,
    /// Ascending, not overlapping.
    range_deletes: Vec<(Key, Bytes)>,
    highest: BTreeMap<FamilyId, SeqNum>,
}

impl Table {
    /// Opens a table and checks everything but its blocks, which are checked when they are read.
    pub(crate) fn open(storage: &Arc<dyn Storage>, number: u64) -> Result<Self, EngineError> {
        let fault = |offset, reason| damaged(&**storage, number, offset, reason);
        let source = storage.open_source(&name(number)).map_err(|error| missing(error, fault))?;
        let mut table = Self {
            number,
            storage: Arc::clone(storage),
            bytes: source.length()?,
            source,
            blocks: Vec::new(),
            last: None,
            range_deletes: Vec::new(),
            highest: BTreeMap::new(),
        };
        let footer_offset =
            table.bytes.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| fault(0, "shorter than a footer"))?;
        let mut footer = Fields(table.read(footer_offset, FOOTER_BYTES)?);
        let fields = (footer.u64(), footer.u64(), footer.u32(), footer.u32());
        if footer.0.as_ref() != MAGIC {
            return Err(fault(footer_offset, "not a table"));
        }
        let (Some(stored_number), Some(meta_offset), Some(meta_length), Some(VERSION)) = fields else {
            return Err(fault(footer_offset, "of another version"));
        };
        if stored_number != number {
            return Err(fault(footer_offset, "the table of another number"));
        }
        if meta_offset.checked_add(u64::from(meta_length)) != Some(footer_offset) {
            return Err(fault(footer_offset, "the index is not where it must be"));
        }
        let meta_bytes = usize::try_from(meta_length).unwrap_or(usize::MAX);
        let mut meta = Fields(table.read(meta_offset, meta_bytes)?);
        table.parse_meta(&mut meta).ok_or_else(|| fault(meta_offset, "the index is cut off"))?;
        if !meta.0.is_empty() {
            return Err(fault(meta_offset, "bytes after the index"));
        }
        table.check_blocks(meta_offset).map_err(|reason| fault(meta_offset, reason))?;
        Ok(table)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The highest sequence number of each family that is in the table.
    pub(crate) fn highest(&self) -> &BTreeMap<FamilyId, SeqNum> {
        &self.highest
    }

    /// What the table does to a key; `None` if nothing.
    pub(crate) fn lookup(&self, key: &Key) -> Result<Option<Entry>, EngineError> {
        if self.last.as_ref().is_some_and(|last| key <= last)
            && let Some(index) = self.blocks.partition_point(|block| block.first <= *key).checked_sub(1)
            && let Some(handle) = self.blocks.get(index)
        {
            for found in self.entries(handle)? {
                let (at, entry) = found.map_err(|reason| self.fault(handle.offset, reason))?;
                if at == *key {
                    return Ok(Some(entry));
                }
                if at > *key {
                    break;
                }
            }
        }
        Ok(self.covers(key).then_some(Entry::Delete))
    }

    /// Whether a range delete of the table covers the key, so that older tables do not count.
    pub(crate) fn covers(&self, key: &Key) -> bool {
        let after = self.range_deletes.partition_point(|(start, _)| start <= key);
        let before = after.checked_sub(1).and_then(|index| self.range_deletes.get(index));
        before.is_some_and(|(start, end)| start.family == key.family && key.user < *end)
    }

    fn entries(&self, handle: &BlockHandle) -> Result<Entries, EngineError> {
        let bytes = usize::try_from(handle.length).unwrap_or(usize::MAX);
        let entries = Entries::new(self.read(handle.offset, bytes)?);
        Ok(entries)
    }

    /// Reads bytes that end with their checksum, and checks it. The length has been checked against that of the file.
    fn read(&self, offset: u64, length: usize) -> Result<Bytes, EngineError> {
        let mut bytes = vec![0; length];
        let read = self.source.read_at(offset, &mut bytes)?;
        bytes.truncate(read);
        let short = || self.fault(offset, "the file ends too early");
        let (body, crc) =
            bytes.split_last_chunk::<CRC_BYTES>().filter(|_| read == length).ok_or_else(short)?;
        if checksum(self.number, offset, body) != u32::from_le_bytes(*crc) {
            return Err(self.fault(offset, "checksum mismatch"));
        }
        bytes.truncate(length.saturating_sub(CRC_BYTES));
        Ok(bytes.into())
    }

    fn parse_meta(&mut self, meta: &mut Fields) -> Option<()> {
        // Keys are copied out, so that the index does not keep the bytes it was read from as well.
        let own = |key: Key| Key { family: key.family, user: Bytes::copy_from_slice(&key.user) };
        for _ in 0..meta.u32()? {
            let (offset, length) = (meta.u64()?, meta.u32()?);
            self.blocks.push(BlockHandle { offset, length, first: own(meta.key()?) });
        }
        if !self.blocks.is_empty() {
            self.last = Some(own(meta.key()?));
        }
        for _ in 0..meta.u32()? {
            let start = own(meta.key()?);
            let end_length = meta.u32()?;
            self.range_deletes.push((start, Bytes::copy_from_slice(&meta.bytes(end_length)?)));
        }
        for _ in 0..meta.u32()? {
            self.highest.insert(FamilyId::new(meta.u32()?), SeqNum::new(meta.u64()?));
        }
        let _entries = meta.u64()?;
        Some(())
    }

    fn check_blocks(&self, meta_offset: u64) -> Result<(), &'static str> {
        let mut expected = 0_u64;
        for handle in &self.blocks {
            if handle.offset != expected {
                return Err("the blocks are not one after the other");
            }
            expected = handle.offset.saturating_add(u64::from(handle.length));
        }
        if expected != meta_offset {
            return Err("the blocks do not end at the index");
        }
        if !self.blocks.is_sorted_by(|a, b| a.first < b.first)
            || !self.range_deletes.is_sorted_by(|a, b| a.0 < b.0)
        {
            return Err("the index is out of order");
        }
        Ok(())
    }

    fn fault(&self, offset: u64, reason: &'static str) -> EngineError {
        damaged(&*self.storage, self.number, offset, reason)
    }
}

/// Walks over a table in key order; holds one block at a time.
#[derive(Debug)]
pub(crate) struct TableCursor {
    table: Arc<Table>,
    /// The next block to read.
    next: usize,
    entries: Option<Entries>,
    offset: u64,
    start: Bound<Key>,
    end: Bound<Key>,
}

impl TableCursor {
    pub(crate) fn new(table: Arc<Table>, start: Bound<Key>, end: Bound<Key>) -> Self {
        let next = match &start {
            Bound::Included(key) | Bound::Excluded(key) => {
                table.blocks.partition_point(|block| block.first <= *key).saturating_sub(1)
            }
            Bound::Unbounded => 0,
        };
        Self { table, next, entries: None, offset: 0, start, end }
    }

    pub(crate) fn covers(&self, key: &Key) -> bool {
        self.table.covers(key)
    }

    fn advance(&mut self) -> Result<Option<(Key, Entry)>, EngineError> {
        loop {
            let entries = match &mut self.entries {
                Some(entries) => entries,
                None => {
                    let Some(handle) = self.table.blocks.get(self.next) else { return Ok(None) };
                    if !within(&handle.first, &self.end) {
                        return Ok(None);
                    }
                    self.offset = handle.offset;
                    self.next += 1;
                    self.entries.insert(self.table.entries(handle)?)
                }
            };
            let Some(found) = entries.next() else {
                self.entries = None;
                continue;
            };
            let (key, entry) = found.map_err(|reason| self.table.fault(self.offset, reason))?;
            let before = match &self.start {
                Bound::Included(start) => key < *start,
                Bound::Excluded(start) => key <= *start,
                Bound::Unbounded => false,
            };
            if before {
                continue;
            }
            if !within(&key, &self.end) {
                return Ok(None);
            }
            return Ok(Some((key, entry)));
        }
    }
}

impl Iterator for TableCursor {
    type Item = Result<(Key, Entry), EngineError>;

    /// Ends after an error: the caller gives the cursor up.
    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.next = usize::MAX;
            self.entries = None;
        }
        item
    }
}

fn missing(error: IoError, fault: impl Fn(u64, &'static str) -> EngineError) -> EngineError {
    let absent = error.kind() == std::io::ErrorKind::NotFound && error.operation() == Operation::Open;
    if absent { fault(0, "missing, but MANIFEST lists it") } else { error.into() }
}
