//! MANIFEST: which tables are live, and through which sequence number each family is in them.
//!
//! ```text
//! magic 8 | version u32 | next table u64 | tables u32, each number u64, oldest first
//! | families u32, each family u32 and flushed u64 | crc32 of all that
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use wal_manager::io::{EntryKind, Storage};
use wal_manager::{FamilyId, SeqNum};

use crate::codec::{Fields, length, put_u32, put_u64};
use crate::error::EngineError;

/// The live tables. Replaced as a whole, so that after a crash the old state counts or the new one, never a mixture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// No table has this number or a higher one. INVARIANT: only grows; a number is never given to two tables.
    pub(crate) next_table: u64,
    /// The live tables, oldest first.
    pub(crate) tables: Vec<u64>,
    /// Every operation of the family up to this sequence number is in the tables.
    pub(crate) flushed: BTreeMap<FamilyId, SeqNum>,
}

impl Manifest {
    /// Reads MANIFEST; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Self>, EngineError> {
        let entries = storage.list()?;
        let Some(entry) = entries.iter().find(|entry| entry.name == MANIFEST) else { return Ok(None) };
        let damaged = |reason| EngineError::Manifest { path: storage.path().join(MANIFEST), reason };
        if entry.kind != EntryKind::File {
            return Err(damaged("not a regular file"));
        }
        let source = storage.open_source(MANIFEST)?;
        let length = usize::try_from(source.length()?).unwrap_or(usize::MAX);
        if length > MANIFEST_BYTES_MAX {
            return Err(damaged("longer than any MANIFEST"));
        }
        let mut bytes = vec![0; length];
        let read = source.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Self::decode(bytes.into()).map(Some).map_err(damaged)
    }

    /// Replaces MANIFEST.
    ///
    /// # Durability
    /// The new state is durable when this returns.
    ///
    /// # Errors
    /// The old state counts, or the new one.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<(), EngineError> {
        let bytes = self.encode()?;
        let sink = storage.create(MANIFEST_NEW)?;
        sink.write_at(0, &bytes)?;
        // ORDER: before the rename. Else a power cut leaves the name MANIFEST on a file without its bytes.
        sink.sync_all()?;
        drop(sink);
        // ORDER: after the bytes are durable, and in one step. Else a crash finds half a MANIFEST, or none.
        storage.rename(MANIFEST_NEW, MANIFEST)?;
        // ORDER: before anyone relies on the new state (marks it flushed in the log, removes old tables). Else a power cut
        // brings the old MANIFEST back, whose tables are gone or whose records the log has given up.
        storage.sync_dir()?;
        Ok(())
    }

    fn encode(&self) -> Result<Vec<u8>, EngineError> {
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, VERSION);
        put_u64(&mut out, self.next_table);
        put_u32(&mut out, length(self.tables.len())?);
        self.tables.iter().for_each(|number| put_u64(&mut out, *number));
        put_u32(&mut out, length(self.flushed.len())?);
        for (family, seq) in &self.flushed {
            put_u32(&mut out, family.get());
            put_u64(&mut out, seq.get());
        }
        let crc = crc32fast::hash(&out);
        put_u32(&mut out, crc);
        Ok(out)
    }

    fn decode(bytes: Bytes) -> Result<Self, &'static str> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or("too short")?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err("checksum mismatch");
        }
        let mut fields = Fields(bytes.slice_ref(body));
        if fields.bytes(length(MAGIC.len()).unwrap_or(0)).as_deref() != Some(&MAGIC[..]) {
            return Err("not a MANIFEST");
        }
        if fields.u32() != Some(VERSION) {
            return Err("of another version");
        }
        let manifest = Self::decode_body(&mut fields).ok_or("too short")?;
        if !fields.0.is_empty() {
            return Err("bytes after its end");
        }
        let ascending = manifest.tables.is_sorted_by(|a, b| a < b);
        if !ascending || manifest.tables.last().is_some_and(|last| *last >= manifest.next_table) {
            return Err("table numbers out of order");
        }
        Ok(manifest)
    }

    fn decode_body(fields: &mut Fields) -> Option<Self> {
        let next_table = fields.u64()?;
        // No capacity from a stored count: each element is read, or the end of the bytes is.
        let tables = (0..fields.u32()?).map(|_| fields.u64()).collect::<Option<Vec<_>>>()?;
        let mut flushed = BTreeMap::new();
        for _ in 0..fields.u32()? {
            flushed.insert(FamilyId::new(fields.u32()?), SeqNum::new(fields.u64()?));
        }
        Some(Self { next_table, tables, flushed })
    }
}

/// The name of MANIFEST.
pub(crate) const MANIFEST: &str = "MANIFEST";

/// The name under which the next MANIFEST is written.
pub(crate) const MANIFEST_NEW: &str = "MANIFEST.new";

const MAGIC: &[u8; 8] = b"toyman\r\n";
const VERSION: u32 = 1;

/// What no MANIFEST reaches: room for a million families. A longer file is refused before memory is taken for it.
const MANIFEST_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests;
