//! Sorted tables: written once, never changed, checksummed throughout.
//!
//! ```text
//! table:   blocks | meta | footer
//! block:   entries | crc32          at least BLOCK_BYTES of entries, except the last
//! entry:   kind u8 | family u32 | key length u32 | key | value length u32 | value
//! meta:    blocks u32, each: offset u64, length u32, first key | last key | range deletes u32, each: start key, end
//!          | families u32, each: family u32, highest sequence number u64 | entries u64 | crc32
//! footer:  table number u64 | meta offset u64 | meta length u32 | version u32 | magic 8 | crc32
//! ```
//!
//! A key is `family u32 | length u32 | bytes`. Every checksum starts with the table's number and the offset of its bytes,
//! so that a block in the wrong place or a file under the wrong name fails too.
//!
//! An entry is all that the table knows of its key: its operations are combined into one put, delete or merge operand. A
//! key's entry is newer than the table's range deletes, which count for older tables only.

mod block;
mod read;
mod write;

pub(crate) use read::{Table, TableCursor};
pub(crate) use write::TableWriter;

use wal_manager::io::Storage;

use crate::error::EngineError;

/// The name of a table.
pub(crate) fn name(number: u64) -> String {
    format!("{number:06}.tbl")
}

/// The number in the name of a table, if it is one.
pub(crate) fn number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".tbl")?.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

fn damaged(storage: &dyn Storage, number: u64, offset: u64, reason: &'static str) -> EngineError {
    EngineError::Table { path: storage.path().join(name(number)), offset, reason }
}

fn checksum(number: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Where a block is, and what it starts with.
#[derive(Clone, Debug)]
struct BlockHandle {
    offset: u64,
    /// Checksum included.
    length: u32,
    first: crate::entry::Key,
}

/// Bytes of entries after which a block ends: small enough for a read of one key, large enough for the disk.
const BLOCK_BYTES: usize = 16 << 10;

const MAGIC: &[u8; 8] = b"toytbl\r\n";
const VERSION: u32 = 1;
const CRC_BYTES: usize = 4;
const FOOTER_BYTES: usize = 8 + 8 + 4 + 4 + 8 + CRC_BYTES;

#[cfg(test)]
mod tests;
