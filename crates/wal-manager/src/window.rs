//! The piece of a file that is in memory: read in one go, shared with whoever keeps a slice of it, used again once nobody does.

use bytes::{Bytes, BytesMut};
use wal_format::BLOCK_BYTES;
use wal_io::Source;

use crate::error::Result;

/// How much is read at a time: eight blocks, so that a read costs little beside its checksum and memory stays small.
pub(crate) const WINDOW_BYTES: usize = 8 * BLOCK_BYTES;

/// Windows that are kept for the day on which their last slice is dropped. A caller who holds some records behind the newest then still
/// allocates nothing; whoever holds more pays for new windows.
const RETIRED_MAX: usize = 4;

/// Whole blocks of a file, the last of them perhaps cut short by its end.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: Bytes,
    start: u64,
    /// How much was asked for: less came only at the end of the file, or at the limit.
    asked: usize,
    /// Nothing from here on is read.
    limit: Option<u64>,
    /// Windows of which slices were still held when the next one was read.
    retired: Vec<Bytes>,
}

impl Window {
    /// A window on a file of which only what stands before `limit` may be read.
    pub(crate) fn up_to(limit: u64) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// More of the file may be read: up to `limit`. What is here stays: it stands before the old one.
    pub(crate) fn extend(&mut self, limit: u64) {
        self.limit = Some(limit);
        // That less came than was asked for says nothing any more.
        if !seeded_bug!(FollowerKeepsOldWindow) {
            self.asked = self.asked.min(self.bytes.len());
        }
    }

    /// What is here from `offset` on.
    #[inline]
    pub(crate) fn from(&self, offset: u64) -> &[u8] {
        self.position(offset).and_then(|from| self.bytes.get(from..)).unwrap_or_default()
    }

    /// The `length` bytes from `offset` on, shared; they are here.
    #[inline]
    pub(crate) fn share(&self, offset: u64, length: usize) -> Bytes {
        let from = self.position(offset).unwrap_or_default();
        self.bytes.slice(from..from.saturating_add(length))
    }

    /// Up to `length` bytes from `offset` on, fewer only at the end of the file, or at the limit.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&mut self, source: &dyn Source, offset: u64, length: usize) -> Result<&[u8]> {
        let here = self.position(offset).is_some_and(|from| {
            // All of it, or all that there was when the end of the file was read.
            self.bytes.len() >= from.saturating_add(length) || self.bytes.len() < self.asked
        });
        if !here {
            self.load(source, offset - offset % BLOCK_BYTES as u64)?;
        }
        let bytes = self.from(offset);
        Ok(bytes.get(..length).unwrap_or(bytes))
    }

    #[inline]
    fn position(&self, offset: u64) -> Option<usize> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (!self.bytes.is_empty() && from <= self.bytes.len()).then_some(from)
    }

    fn load(&mut self, source: &dyn Source, start: u64) -> Result<()> {
        let mut buffer = self.unused();
        // From one block on, so that a short log costs little; two at the least, for a statement behind the end of a block.
        self.asked = (2 * self.asked).clamp(2 * BLOCK_BYTES, WINDOW_BYTES);
        let most = self.limit.map(|limit| usize::try_from(limit.saturating_sub(start)).unwrap_or(usize::MAX));
        buffer.resize(self.asked.min(most.unwrap_or(usize::MAX)), 0);
        let read = source.read_at(start, &mut buffer);
        let read = if seeded_bug!(ReadErrorIsEnd) { read.unwrap_or(0) } else { read? };
        buffer.truncate(read);
        self.bytes = buffer.freeze();
        self.start = start;
        Ok(())
    }

    /// A buffer of which nobody holds a slice; an empty one if there is none.
    fn unused(&mut self) -> BytesMut {
        self.retired.push(std::mem::take(&mut self.bytes));
        for place in (0..self.retired.len()).rev() {
            match self.retired.swap_remove(place).try_into_mut() {
                Ok(buffer) => return buffer,
                Err(held) => self.retired.push(held),
            }
        }
        if self.retired.len() > RETIRED_MAX {
            // The oldest is its holders' alone from now on.
            self.retired.swap_remove(0);
        }
        BytesMut::new()
    }
}
