//! Writes a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wal_manager::io::{Sink, Storage};
use wal_manager::{FamilyId, SeqNum};

use super::{BLOCK_BYTES, BlockHandle, CRC_BYTES, MAGIC, VERSION, block, checksum, name};
use crate::codec::{length, put_bytes, put_key, put_u32, put_u64};
use crate::entry::{Entry, Key};
use crate::error::EngineError;

/// Writes the entries of a table in key order; holds one block and the index in memory.
#[derive(Debug)]
pub(crate) struct TableWriter {
    sink: Arc<dyn Sink>,
    number: u64,
    offset: u64,
    block: Vec<u8>,
    block_first: Option<Key>,
    handles: Vec<BlockHandle>,
    last: Option<Key>,
    entries: u64,
}

impl TableWriter {
    /// Creates the file, which must not exist: a number is never used twice.
    pub(crate) fn create(storage: &dyn Storage, number: u64) -> Result<Self, EngineError> {
        Ok(Self {
            sink: storage.create(&name(number))?,
            number,
            offset: 0,
            block: Vec::with_capacity(BLOCK_BYTES),
            block_first: None,
            handles: Vec::new(),
            last: None,
            entries: 0,
        })
    }

    /// Adds an entry; its key is above all before it.
    pub(crate) fn add(&mut self, key: &Key, entry: &Entry) -> Result<(), EngineError> {
        debug_assert!(self.last.as_ref().is_none_or(|last| last < key), "keys ascend");
        if self.block_first.is_none() {
            // Copied: the key of a table that is being merged would keep its whole block in memory.
            self.block_first = Some(Key { family: key.family, user: Bytes::copy_from_slice(&key.user) });
        }
        block::put(&mut self.block, key, entry)?;
        self.last = Some(key.clone());
        self.entries += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Completes the file.
    ///
    /// # Durability
    /// The bytes are durable when this returns; the name is so after the next sync of the directory.
    pub(crate) fn finish(
        mut self,
        range_deletes: &[(Key, Bytes)],
        highest: &BTreeMap<FamilyId, SeqNum>,
    ) -> Result<(), EngineError> {
        self.end_block()?;
        let meta_offset = self.offset;
        let meta = self.meta(range_deletes, highest)?;
        let meta_length = length(meta.len().saturating_add(CRC_BYTES))?;
        self.write(meta)?;
        let mut footer = Vec::new();
        put_u64(&mut footer, self.number);
        put_u64(&mut footer, meta_offset);
        put_u32(&mut footer, meta_length);
        put_u32(&mut footer, VERSION);
        footer.extend_from_slice(MAGIC);
        self.write(footer)?;
        // ORDER: before MANIFEST names the table. Else a power cut leaves a live table without its bytes, whose records the
        // log has given up.
        self.sink.sync_all()?;
        Ok(())
    }

    fn meta(
        &self,
        range_deletes: &[(Key, Bytes)],
        highest: &BTreeMap<FamilyId, SeqNum>,
    ) -> Result<Vec<u8>, EngineError> {
        let mut meta = Vec::new();
        put_u32(&mut meta, length(self.handles.len())?);
        for handle in &self.handles {
            put_u64(&mut meta, handle.offset);
            put_u32(&mut meta, handle.length);
            put_key(&mut meta, &handle.first)?;
        }
        if let Some(last) = &self.last {
            put_key(&mut meta, last)?;
        }
        put_u32(&mut meta, length(range_deletes.len())?);
        for (start, end) in range_deletes {
            put_key(&mut meta, start)?;
            put_bytes(&mut meta, end)?;
        }
        put_u32(&mut meta, length(highest.len())?);
        for (family, seq) in highest {
            put_u32(&mut meta, family.get());
            put_u64(&mut meta, seq.get());
        }
        put_u64(&mut meta, self.entries);
        Ok(meta)
    }

    fn end_block(&mut self) -> Result<(), EngineError> {
        let Some(first) = self.block_first.take() else { return Ok(()) };
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        let length = length(block.len().saturating_add(CRC_BYTES))?;
        self.handles.push(BlockHandle { offset: self.offset, length, first });
        self.write(block)
    }

    /// Writes some bytes and their checksum.
    fn write(&mut self, mut bytes: Vec<u8>) -> Result<(), EngineError> {
        let crc = checksum(self.number, self.offset, &bytes);
        put_u32(&mut bytes, crc);
        self.sink.write_at(self.offset, &bytes)?;
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        Ok(())
    }
}
