//! Any bytes at any offsets become whole blocks, and the file holds what was written.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

const BLOCK: usize = 64;

/// A file that takes whole blocks only.
#[derive(Default)]
struct File(Vec<u8>);

impl File {
    fn read(&self, at: u64, to: &mut [u8]) -> Result<usize, Infallible> {
        let rest = self.0.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        let length = rest.len().min(to.len());
        to[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    /// Writes bytes of which most are not copied.
    fn write_uncopied(&mut self, blocks: &mut Blocks, offset: usize, bytes: &[u8]) -> usize {
        let mut reads = 0;
        let read = |at: u64, to: &mut [u8]| {
            reads += 1;
            self.read(at, to)
        };
        let Ok(ends) = blocks.compose_ends(offset as u64, bytes, read);
        let ends = ends.expect("long, and where it is in the file");
        let mut at = usize::try_from(ends.at).unwrap();
        assert_eq!(at % BLOCK, 0);
        for slice in blocks.slices(&ends, bytes) {
            assert!(slice.len() % BLOCK == 0 && (slice.is_empty() || slice.as_ptr().addr() % BLOCK == 0));
            if self.0.len() < at + slice.len() {
                self.0.resize(at + slice.len(), 0);
            }
            self.0[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        blocks.written_ends(&ends);
        reads
    }

    fn write(&mut self, blocks: &mut Blocks, offset: usize, bytes: &[u8]) -> usize {
        let mut reads = 0;
        let read = |at: u64, to: &mut [u8]| {
            reads += 1;
            self.read(at, to)
        };
        let Ok(piece) = blocks.compose(offset as u64, bytes, read);
        let at = usize::try_from(piece.at).unwrap();
        assert!(at % BLOCK == 0 && piece.length % BLOCK == 0 && piece.taken == bytes.len());
        let whole = blocks.bytes(&piece);
        assert_eq!(whole.as_ptr().align_offset(BLOCK), 0);
        if self.0.len() < at + whole.len() {
            self.0.resize(at + whole.len(), 0);
        }
        self.0[at..at + whole.len()].copy_from_slice(whole);
        blocks.written(&piece);
        reads
    }
}

proptest! {
    #[test]
    fn what_was_written_is_there_and_zeros_behind_it(
        old in 0_usize..200,
        writes in prop::collection::vec((0_usize..400, 1_usize..200), 1..20),
        ascending in any::<bool>(),
        long in any::<u32>(),
    ) {
        let mut file = File(vec![0xAA; old]);
        let mut expected = file.0.clone();
        let mut blocks = Blocks::new(BLOCK);
        let (mut next, mut end) = (0, 0);
        for (number, (skip, length)) in (1_u8..).zip(writes) {
            let offset = if ascending { next } else { skip };
            let length = if long >> number & 1 == 1 { UNCOPIED_BYTES + length } else { length };
            next = offset + length;
            let reads = if length >= UNCOPIED_BYTES {
                // Where it stands in memory as in the file.
                let mut memory = vec![0; length + BLOCK];
                let start = (BLOCK + offset - memory.as_ptr().addr() % BLOCK) % BLOCK;
                let bytes = &mut memory[start..start + length];
                bytes.fill(number);
                file.write_uncopied(&mut blocks, offset, bytes)
            } else {
                file.write(&mut blocks, offset, &vec![number; length])
            };
            prop_assert!(!ascending || number == 1 || reads == 0, "ascending writes read nothing");
            if expected.len() < next {
                expected.resize(next, 0);
            }
            expected[offset..next].fill(number);
            if next > end {
                end = next;
                let block_end = end.next_multiple_of(BLOCK);
                expected.resize(expected.len().max(block_end), 0);
                expected[end..block_end].fill(0);
            }
            prop_assert_eq!(&file.0, &expected);
        }
    }
}

#[test]
fn only_what_is_long_and_stands_in_memory_as_in_the_file_is_not_copied() {
    let mut blocks = Blocks::new(BLOCK);
    let memory = vec![1; UNCOPIED_BYTES + 2 * BLOCK];
    let aligned = memory.as_ptr().align_offset(BLOCK);
    let read = |_: u64, _: &mut [u8]| Ok::<_, Infallible>(0);
    let taken = |blocks: &mut Blocks, offset, bytes: &[u8]| {
        let Ok(ends) = blocks.compose_ends(offset, bytes, read);
        ends.is_some()
    };
    let long = &memory[aligned..aligned + UNCOPIED_BYTES];
    assert!(taken(&mut blocks, 0, long) && taken(&mut blocks, 5 * BLOCK as u64, long));
    assert!(!taken(&mut blocks, 1, long) && !taken(&mut blocks, 0, &long[..UNCOPIED_BYTES - 1]));
}

#[test]
fn a_failed_write_leaves_nothing_that_is_believed() {
    let mut file = File::default();
    let mut blocks = Blocks::new(BLOCK);
    file.write(&mut blocks, 0, b"one");
    let Ok(_) = blocks.compose(3, b"two", |_, _| Ok::<_, Infallible>(0));
    blocks.failed();
    assert_eq!(file.write(&mut blocks, 3, b"again"), 1, "it reads");
    assert!(file.0.starts_with(b"oneagain\0"));
}

#[test]
fn a_long_write_is_made_in_pieces_and_not_synced_alone() {
    let mut blocks = Blocks::new(BLOCK);
    let long = vec![7; PIECE_BYTES];
    assert!(blocks.may_sync_alone(0, &long) && !blocks.may_sync_alone(1, &long));
    let Ok(piece) = blocks.compose(1, &long, |_, _| Ok::<_, Infallible>(0));
    assert_eq!((piece.at, piece.length, piece.taken), (0, PIECE_BYTES, PIECE_BYTES - 1));
}

#[test]
fn a_write_is_synced_alone_only_if_all_before_it_is_synced() {
    let mut blocks = Blocks::new(BLOCK);
    assert!(blocks.may_sync_alone(0, b"a") && !blocks.may_sync_alone(0, b""));
    blocks.change();
    let begun = blocks.changes();
    blocks.change();
    blocks.synced(begun);
    assert!(!blocks.may_sync_alone(0, b"a"), "the second change came after the sync began");
    blocks.synced(blocks.changes());
    assert!(blocks.may_sync_alone(0, b"a"));
}
