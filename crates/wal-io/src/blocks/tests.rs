//! Any bytes at any offsets become whole blocks, and the file holds what was written.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

const BLOCK: usize = 64;

/// A file that takes whole blocks only.
#[derive(Default)]
struct File(Vec<u8>);

impl File {
    fn write(&mut self, blocks: &mut Blocks, offset: usize, bytes: &[u8]) -> usize {
        let mut reads = 0;
        let read = |at: u64, to: &mut [u8]| {
            reads += 1;
            let rest = self.0.get(usize::try_from(at).unwrap()..).unwrap_or_default();
            let length = rest.len().min(to.len());
            to[..length].copy_from_slice(&rest[..length]);
            Ok::<_, Infallible>(length)
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
    ) {
        let mut file = File(vec![0xAA; old]);
        let mut expected = file.0.clone();
        let mut blocks = Blocks::new(BLOCK);
        let (mut next, mut end) = (0, 0);
        for (number, (skip, length)) in (1_u8..).zip(writes) {
            let offset = if ascending { next } else { skip };
            next = offset + length;
            let reads = file.write(&mut blocks, offset, &vec![number; length]);
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
