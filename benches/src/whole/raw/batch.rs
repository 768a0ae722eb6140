//! A buffer of records, as long and as aligned as a direct write needs.

/// What stands before each payload: its length and its CRC-32, four bytes each.
pub(super) const HEADER_BYTES: usize = 8;

/// What a direct write begins and ends at.
pub(super) const BLOCK_BYTES: usize = 4096;

/// The most that a batch holds: [`IN_FLIGHT`](crate::whole::case::IN_FLIGHT) records of 1 KiB, and a block for the tail.
const CAPACITY: usize = 2 << 20;

/// Records that go to the disk together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Longer than the capacity by a block, so that an aligned part of that length is inside.
    memory: Vec<u8>,
    /// Where that part begins.
    first: usize,
    length: usize,
    /// Whether it begins and ends at blocks of the file.
    in_blocks: bool,
    /// Where in the file the first byte belongs.
    offset: u64,
    /// Length of the file: a batch that would cross it begins at the file's start again.
    file_bytes: u64,
}

impl Batch {
    pub(super) fn new(in_blocks: bool, file_bytes: u64) -> Self {
        let memory = vec![0; CAPACITY + BLOCK_BYTES];
        let first = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, first, length: 0, in_blocks, offset: 0, file_bytes }
    }

    /// Empties it, to go on where `before` ends. In blocks, the last block of `before` is written again with what follows.
    pub(super) fn follow(&mut self, before: &Self) {
        let end = before.offset + before.length as u64;
        if end + CAPACITY as u64 > self.file_bytes {
            (self.offset, self.length) = (0, 0);
            return;
        }
        let tail = if self.in_blocks { before.length % BLOCK_BYTES } else { 0 };
        self.memory[self.first..][..tail].copy_from_slice(&before.bytes()[before.length - tail..]);
        (self.offset, self.length) = (end - tail as u64, tail);
    }

    /// Empties it, to go on at the next block behind `before`.
    pub(super) fn follow_in_own_blocks(&mut self, before: &Self) {
        let end = (before.offset + before.length as u64).next_multiple_of(BLOCK_BYTES as u64);
        let fits = end + CAPACITY as u64 <= self.file_bytes;
        (self.offset, self.length) = (if fits { end } else { 0 }, 0);
    }

    /// Adds a record.
    pub(super) fn push(&mut self, payload: &[u8]) {
        let start = self.first + self.length;
        let record = &mut self.memory[start..start + HEADER_BYTES + payload.len()];
        let (header, copy) = record.split_at_mut(HEADER_BYTES);
        copy.copy_from_slice(payload);
        header[4..].copy_from_slice(&crc32fast::hash(copy).to_le_bytes());
        // Payloads are a few KiB.
        #[allow(clippy::cast_possible_truncation, reason = "payloads are a few KiB")]
        header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        self.length += HEADER_BYTES + payload.len();
    }

    /// What is to be written, and where: in blocks, the rest of the last one as zeros.
    pub(super) fn finish(&mut self) -> (u64, &[u8]) {
        let end = if self.in_blocks { self.length.next_multiple_of(BLOCK_BYTES) } else { self.length };
        self.memory[self.first + self.length..self.first + end].fill(0);
        (self.offset, &self.memory[self.first..self.first + end])
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.first..self.first + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_in_blocks_write_the_tail_again_and_nothing_else_twice() {
        let payload = [7; 3000];
        let (mut one, mut other) = (Batch::new(true, 1 << 30), Batch::new(true, 1 << 30));
        let mut file = vec![0; 64 << 10];
        for _ in 0..10 {
            other.follow(&one);
            other.push(&payload);
            let (offset, bytes) = other.finish();
            assert_eq!((offset % 4096, bytes.len() % 4096, bytes.as_ptr().addr() % 4096), (0, 0, 0));
            let offset = usize::try_from(offset).unwrap();
            file[offset..offset + bytes.len()].copy_from_slice(bytes);
            std::mem::swap(&mut one, &mut other);
        }
        for record in file[..10 * 3008].chunks(3008) {
            assert_eq!((&record[..4], &record[8..]), (&3000_u32.to_le_bytes()[..], &payload[..]));
            assert_eq!(record[4..8], crc32fast::hash(&payload).to_le_bytes());
        }
        assert!(file[10 * 3008..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_batch_that_would_cross_the_files_end_begins_at_its_start() {
        let file_bytes = CAPACITY as u64 + 100;
        let (mut one, mut other) = (Batch::new(false, file_bytes), Batch::new(false, file_bytes));
        one.push(&[1; 90]);
        other.follow(&one);
        assert_eq!(other.finish().0, 98);
        other.push(&[1; 90]);
        one.follow(&other);
        assert_eq!(one.finish().0, 0);
    }
}
