//! A guess at the next record: most come as the one before them did.

use crate::record::{Head, PLAIN_BYTES_MAX, Plain, encode_plain};
use crate::varint;
use crate::{Index, PAYLOAD_BYTES_MAX, RecordKind, SeqNum, SeqRange};

/// What the envelope of the next record is if records go on as the last one did: plain, of the same kind, with as many sequence numbers, and
/// none left out before them. Then it is known to the last bit, and to compare it costs less than to decode it. Only a guess: bytes that are
/// others may be right, too, and then [`decode_plain`](crate::record::decode_plain) says so.
#[derive(Clone, Copy, Debug)]
pub struct Guess {
    /// The envelope, its first byte lowest.
    bytes: u128,
    /// Ones where it is.
    mask: u128,
    /// What one more record adds to it.
    step: u128,
    /// The bits that say of all bytes of a number but the last that it goes on: whatever was carried from one to the next, they stay set.
    goes_on: u128,
    /// The same bit of the last byte of both numbers: set if one has become longer.
    longer: u128,
    /// Length of the envelope in bytes.
    envelope: usize,
    kind: RecordKind,
    index: u64,
    first: u64,
    count: u64,
}

impl Guess {
    /// Where the index begins, in bits: behind flags and kind.
    const INDEX_AT: usize = 24;

    /// The highest bit of each byte.
    const HIGHEST: u128 = u128::from_le_bytes([0x80; 16]);

    /// The highest number that is guessed: one that ends far below the last of all.
    const NUMBER_MAX: u64 = (1 << 56) - 1;

    /// That no record is like this.
    pub const NONE: Self = Self {
        bytes: 1,
        mask: 0,
        step: 0,
        goes_on: 0,
        longer: 0,
        envelope: 0,
        kind: RecordKind::BATCH,
        index: 0,
        first: 0,
        count: 1,
    };

    /// What comes after a record with these numbers.
    pub fn after(plain: &Plain) -> Self {
        Self::right_behind(plain).unwrap_or(Self::NONE)
    }

    fn right_behind(&Plain { kind, index, seqs, .. }: &Plain) -> Option<Self> {
        let count = (seqs.last().get() - seqs.first().get()).checked_add(1)?;
        if count >= 0x80 || index.get().max(seqs.last().get()) > Self::NUMBER_MAX {
            return None;
        }
        let seqs = SeqRange::new(seqs.last().next()?, u32::try_from(count).ok()?)?;
        let next = Head::new(kind, index.next()?, seqs);
        // Without a vector: where the numbers of operations differ from record to record, every guess is wrong.
        let mut place = [0; PLAIN_BYTES_MAX];
        let envelope = encode_plain(&mut place, &next, &[])?;
        let mut mask = u128::MAX >> 128_usize.checked_sub(8 * envelope)?;
        if seeded_bug!(GuessForgetsCount) {
            mask >>= 8;
        }
        let bytes = u128::from_le_bytes(*place.first_chunk()?) & mask;
        let first_at = Self::INDEX_AT + 8 * varint::spread(next.index.get()).1;
        let count_at = 8 * envelope - 8;
        let longer = (0x80 << (first_at - 8)) | (0x80 << (count_at - 8));
        let numbers = mask & (u128::MAX << Self::INDEX_AT) & !(0xff << count_at);
        Some(Self {
            bytes,
            mask,
            step: (1 << Self::INDEX_AT) + (u128::from(count) << first_at),
            goes_on: Self::HIGHEST & numbers & !longer,
            longer,
            envelope,
            kind,
            index: next.index.get(),
            first: next.seqs.first().get(),
            count,
        })
    }

    /// The record in `bytes` if it is as guessed; then the next guess is what comes after it.
    #[inline(always)]
    pub fn check(&mut self, bytes: &[u8]) -> Option<Plain> {
        let payload = bytes.len().checked_sub(self.envelope)?;
        if u128::from_le_bytes(*bytes.first_chunk()?) & self.mask != self.bytes
            || payload == 0
            || payload > PAYLOAD_BYTES_MAX
        {
            return None;
        }
        // Nothing overflows, because a guess ends before its numbers need another byte.
        let next = self.first.wrapping_add(self.count);
        let seqs = SeqRange::between(SeqNum::new(self.first), SeqNum::new(next.wrapping_sub(1)))?;
        let plain = Plain { kind: self.kind, index: Index::new(self.index), seqs, envelope: self.envelope };
        self.bytes = self.bytes.wrapping_add(self.step) | self.goes_on;
        self.index = self.index.wrapping_add(1);
        self.first = next;
        if self.bytes & self.longer != 0 {
            *self = Self::NONE;
        }
        Some(plain)
    }
}
