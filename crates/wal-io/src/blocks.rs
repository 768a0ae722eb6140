//! Whole blocks for a writer of any bytes, as direct I/O wants them. The real directory and the simulated disk share it.
//!
//! A write is rounded out to whole blocks. The last block is kept, since the next write most likely goes on in it; then the bytes in front are
//! written again, the same as before. That is safe if the medium keeps them: *a sector that is torn when the power goes holds old or new bytes,
//! so bytes that are the same in both survive*. A caller who does not trust in that begins each group at a multiple of
//! [`Sink::block_bytes`](crate::Sink::block_bytes).

#[cfg(test)]
mod tests;

/// Longer writes are made in several pieces, of which only the last can be its own sync. As long as a group of records may become, 4 MiB.
pub(crate) const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// Where a write has whole blocks of at least so many bytes in the caller's memory, they are not copied.
const UNCOPIED_BYTES: usize = 16 * 1024;

/// Memory grows in steps, so that groups of about one size soon find what they need.
const GROWTH_BYTES: usize = 64 * 1024;

/// The last block that was written, and the memory in which blocks are put together.
#[derive(Debug)]
pub(crate) struct Blocks {
    block: usize,
    buffer: Aligned,
    /// Where the block in `tail` is in the file.
    kept: Option<u64>,
    tail: Vec<u8>,
    /// The furthest byte that was written. What the file holds behind it, up to the end of its block, becomes zeros.
    end: u64,
    /// How many changes of the file there were that are not durable by themselves.
    changes: u64,
    /// How many of these a sync has covered.
    synced: u64,
}

/// Whole blocks that are ready to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Where they go.
    pub(crate) at: u64,
    /// How many bytes they are.
    pub(crate) length: usize,
    /// How many of the caller's bytes are in them.
    pub(crate) taken: usize,
    /// Where the caller's bytes end in the file.
    end: u64,
}

/// A write whose whole blocks go to the file from where they are; only the blocks at its ends are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// Where the blocks go.
    pub(crate) at: u64,
    /// How many of the caller's bytes are in a first block that begins before them.
    head: usize,
    /// How many of the caller's bytes are in a last block that ends behind them.
    tail: usize,
    /// Where the caller's bytes end in the file.
    end: u64,
}

impl Blocks {
    /// For blocks of so many bytes, a power of two. The memory of a piece starts at a multiple of it, too.
    pub(crate) fn new(block: usize) -> Self {
        Self {
            block,
            buffer: Aligned::new(block),
            kept: None,
            tail: Vec::new(),
            end: 0,
            changes: 0,
            synced: 0,
        }
    }

    /// How many bytes a block has.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// A write may be made durable by itself, and everything before it is durable too: a synchronous write speaks of no other, which may still
    /// be in the device's cache. (And it is one piece.)
    pub(crate) fn may_sync_alone(&self, offset: u64, bytes: &[u8]) -> bool {
        let covered = self.synced == self.changes || seeded_bug!(DirectSyncsOneWrite);
        covered && !bytes.is_empty() && within(offset, self.block).saturating_add(bytes.len()) <= PIECE_BYTES
    }

    /// The file is about to be changed in a way that is not durable by itself.
    pub(crate) fn change(&mut self) {
        self.changes = self.changes.saturating_add(1);
    }

    /// How many changes there were.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// A sync that began after so many changes has succeeded.
    pub(crate) fn synced(&mut self, changes: u64) {
        self.synced = self.synced.max(changes);
    }

    /// Puts together the first piece of a write. Where the file's own bytes are needed, `read` fills a buffer from there on, as far as the file
    /// goes, and says how far.
    pub(crate) fn compose<E>(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
    ) -> Result<Piece, E> {
        let block = self.block;
        let head = within(offset, block);
        let at = offset - head as u64;
        let (bytes, _) = bytes.split_at(bytes.len().min(PIECE_BYTES - head));
        let length = (head + bytes.len()).next_multiple_of(block);
        let last = length - block;
        let end = offset.saturating_add(bytes.len() as u64);
        let (kept, tail) = (self.kept, &self.tail);
        let mut keep = |place: u64, to: &mut [u8]| keep((kept, tail), place, to, &mut read);
        let buffer = self.buffer.bytes(length);
        if head > 0 {
            keep(at, buffer.get_mut(..block).unwrap_or_default())?;
        }
        if end < self.end && (head == 0 || last > 0) {
            keep(at.saturating_add(last as u64), buffer.get_mut(last..).unwrap_or_default())?;
        }
        let (_, from) = buffer.split_at_mut(head);
        let (place, behind) = from.split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        if end >= self.end && !seeded_bug!(DirectPaddingLeft) {
            behind.fill(0);
        }
        Ok(Piece { at, length, taken: bytes.len(), end })
    }

    /// Puts together the blocks at the ends of a write, if what is between them can be written from where it is: it is long, and stands at a
    /// multiple of a block in memory where it does in the file.
    pub(crate) fn compose_ends<E>(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<Ends>, E> {
        let block = self.block;
        let before = within(offset, block);
        let aligned = bytes.as_ptr().addr() % block == before;
        if !aligned || bytes.len() < UNCOPIED_BYTES.max(4 * block) || bytes.len() > PIECE_BYTES {
            return Ok(None);
        }
        let head = if before > 0 { block - before } else { 0 };
        let tail = (before + bytes.len()) % block;
        let end = offset.saturating_add(bytes.len() as u64);
        let ends = Ends { at: offset - before as u64, head, tail, end };
        let (kept, last) = (self.kept, &self.tail);
        let mut keep = |place: u64, to: &mut [u8]| keep((kept, last), place, to, &mut read);
        let (first, rest) = self.buffer.bytes(2 * block).split_at_mut(block);
        if head > 0 {
            keep(ends.at, first)?;
            first.split_at_mut(before).1.copy_from_slice(bytes.split_at(head).0);
        }
        if tail > 0 {
            if end < self.end {
                keep(end - tail as u64, rest)?;
            } else {
                rest.fill(0);
            }
            rest.split_at_mut(tail).0.copy_from_slice(bytes.split_at(bytes.len() - tail).1);
        }
        Ok(Some(ends))
    }

    /// What [`Blocks::compose_ends`] put together, with the rest of `bytes`, the same as there, between.
    pub(crate) fn slices<'a>(&'a mut self, ends: &Ends, bytes: &'a [u8]) -> [&'a [u8]; 3] {
        let (first, last) = self.buffer.bytes(2 * self.block).split_at(self.block);
        let (middle, _) = bytes.split_at(bytes.len() - ends.tail);
        let (_, middle) = middle.split_at(ends.head);
        [if ends.head > 0 { first } else { &[] }, middle, if ends.tail > 0 { last } else { &[] }]
    }

    /// They are in the file.
    pub(crate) fn written_ends(&mut self, ends: &Ends) {
        // A write that ends with its block has no last block that the next one could begin in.
        self.kept = (ends.tail > 0).then(|| ends.end - ends.tail as u64);
        let (_, last) = self.buffer.bytes(2 * self.block).split_at(self.block);
        self.tail.clear();
        self.tail.extend_from_slice(last);
        self.end = self.end.max(ends.end);
    }

    /// The bytes of the piece that was just put together.
    pub(crate) fn bytes(&mut self, piece: &Piece) -> &[u8] {
        self.buffer.bytes(piece.length)
    }

    /// The piece is in the file.
    pub(crate) fn written(&mut self, piece: &Piece) {
        let last = piece.length - self.block;
        if let Some(block) = self.buffer.bytes(piece.length).get(last..)
            && (self.tail.is_empty() || !seeded_bug!(DirectTailForgotten))
        {
            self.tail.clear();
            self.tail.extend_from_slice(block);
        }
        self.kept = Some(piece.at.saturating_add(last as u64));
        self.end = self.end.max(piece.end);
    }

    /// Nobody knows what of the piece is in the file: the next write reads.
    pub(crate) fn failed(&mut self) {
        self.kept = None;
    }
}

/// The block at `place` as it is in the file, with zeros behind the end: what was kept, or what `read` finds.
fn keep<E>(
    (kept, tail): (Option<u64>, &[u8]),
    place: u64,
    to: &mut [u8],
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<usize, E>,
) -> Result<(), E> {
    if kept == Some(place) {
        to.copy_from_slice(tail);
        return Ok(());
    }
    let read = read(place, to)?;
    to.get_mut(read..).unwrap_or_default().fill(0);
    Ok(())
}

/// How far into its block a place is.
pub(crate) fn within(offset: u64, block: usize) -> usize {
    // Less than the block.
    usize::try_from(offset % block as u64).unwrap_or_default()
}

/// Memory that starts at a multiple of some power of two, and grows.
#[derive(Debug)]
pub(crate) struct Aligned {
    memory: Vec<u8>,
    alignment: usize,
}

impl Aligned {
    pub(crate) fn new(alignment: usize) -> Self {
        Self { memory: Vec::new(), alignment }
    }

    /// The first so many bytes: what was there, unless it has to grow.
    pub(crate) fn bytes(&mut self, length: usize) -> &mut [u8] {
        // Enough to start later than the allocator does.
        let wanted = length.saturating_add(self.alignment);
        if self.memory.len() < wanted {
            self.memory = vec![0; wanted.next_multiple_of(GROWTH_BYTES)];
        }
        let start = self.memory.as_ptr().align_offset(self.alignment);
        let aligned = self.memory.get_mut(start..).and_then(|rest| rest.get_mut(..length));
        aligned.unwrap_or_default()
    }
}
