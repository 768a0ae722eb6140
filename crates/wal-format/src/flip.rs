//! Which flipped bit explains a bad checksum, if one does.
//!
//! A CRC is linear: the difference between the checksum that is stored and the one that the bytes give (the *syndrome*) depends on which bits
//! are wrong and on nothing else. For one wrong bit it is a power of *x* modulo the polynomial, whose exponent is how far the bit stands from
//! the end of what is covered. So one walk through the powers, a shift and an exclusive or for each bit that is covered, finds it, and no byte
//! is hashed again: the decoding of single errors in a cyclic code (W. W. Peterson and D. T. Brown, "Cyclic codes for error detection",
//! Proceedings of the IRE 49, 1961). The polynomial of CRC-32 is primitive, so all powers below 2^32 - 1 differ: at most one bit, of those that
//! are covered and of the checksum itself, fits.
//!
//! A wrong bit in a length changes *what* is covered. There are few, so each of them is tried.
//!
//! It is an explanation, not a proof: bytes that are wrong in any other way are explained by one bit with a probability of one in 2^32 for each bit
//! that is tried (decision 0074).

use std::fmt;

use crate::checkpoint::{FIXED_BYTES, SLOT_BYTES, Slot};
use crate::chunk::{HEADER_BYTES, LENGTH_AT, room_in_block};
use crate::{BLOCK_BYTES, LogSeed};

/// The polynomial of CRC-32, reflected: lowest bit first, as the checksum takes the bits of each byte.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Length of a checksum.
const CHECKSUM_BYTES: usize = 4;

/// One bit of a file that is not as it was written, as far as a checksum can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlippedBit {
    /// Offset in the file of its byte.
    pub offset: u64,
    /// Which bit of the byte: 0 is the lowest, worth 1; 7 the highest, worth 128.
    pub bit: u8,
}

impl fmt::Display for FlippedBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one flipped bit explains it: bit {} of byte {}", self.bit, self.offset)
    }
}

impl FlippedBit {
    /// Bit `bit` of the bytes that begin at `start`, counted from the lowest bit of the first.
    fn at(start: u64, bit: usize) -> Self {
        let bit = if seeded_bug!(FlipNamedOneOff) { bit ^ 1 } else { bit };
        // The remainder of eight.
        Self { offset: start.saturating_add(bit as u64 / 8), bit: u8::try_from(bit % 8).unwrap_or(0) }
    }
}

/// The one bit that makes the bytes at `offset` of a log a chunk whose checksum is right. `bytes` are the file's from there on: to the end of the
/// block, or to the end of the file. `None` if they are one already, if no single bit explains them, or if more than one does.
pub fn in_chunk(seed: &LogSeed, offset: u64, bytes: &[u8]) -> Option<FlippedBit> {
    let (&[c0, c1, c2, c3, l0, l1, type_byte], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let limit = room_in_block(offset).checked_sub(HEADER_BYTES)?;
    let suspect = Suspect {
        stored: u32::from_le_bytes([c0, c1, c2, c3]),
        length: u32::from(u16::from_le_bytes([l0, l1])),
        length_bits: u16::BITS as usize,
    };
    let bit = suspect.explain(|length| {
        let length = usize::try_from(length).ok().filter(|length| (1..=limit).contains(length))?;
        let computed = seed.checksum(offset, type_byte, rest.get(..length)?);
        Some((computed, HEADER_BYTES - LENGTH_AT + length))
    });
    bit.map(|bit| FlippedBit::at(offset, bit))
}

/// The one bit that makes a slot of CHECKPOINT one whose checksum is right. `bytes` are the file's from the slot's offset on, as far as the slot
/// may reach. `None` as for [`in_chunk`].
pub fn in_slot(slot: Slot, bytes: &[u8]) -> Option<FlippedBit> {
    let (crc, rest) = bytes.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let suspect = Suspect {
        stored: u32::from_le_bytes(*crc),
        length: u32::from_le_bytes(*length),
        length_bits: u32::BITS as usize,
    };
    let bit = suspect.explain(|length| {
        let end = usize::try_from(length).ok().filter(|end| (FIXED_BYTES..=SLOT_BYTES).contains(end))?;
        let mut covered = length.to_le_bytes().to_vec();
        covered.extend_from_slice(rest.get(..end.checked_sub(CHECKSUM_BYTES + covered.len())?)?);
        Some((slot.checksum(&covered), covered.len()))
    });
    bit.map(|bit| FlippedBit::at(slot.offset(), bit))
}

/// The one bit that is set in bytes, at `offset` of a file, that should all be zeros. `None` if there are none or several.
pub fn in_zeros(offset: u64, bytes: &[u8]) -> Option<FlippedBit> {
    let at = bytes.iter().position(|&byte| byte != 0)?;
    let (&byte, rest) = bytes.get(at..)?.split_first()?;
    let alone = byte.is_power_of_two() && rest.iter().all(|&byte| byte == 0);
    alone.then(|| FlippedBit::at(offset, 8 * at + byte.trailing_zeros() as usize))
}

/// What begins with a checksum and a length, of which the checksum covers everything behind itself.
struct Suspect {
    /// The checksum as it stands there.
    stored: u32,
    /// The length as it stands there.
    length: u32,
    length_bits: usize,
}

impl Suspect {
    /// The one wrong bit, counted from the lowest of the first byte. `checksum` gives for a length the checksum of what is there and how many bytes it
    /// covers; `None` for a length that cannot be.
    fn explain(&self, checksum: impl Fn(u32) -> Option<(u32, usize)>) -> Option<usize> {
        let mut found = None;
        if let Some((computed, covered)) = checksum(self.length) {
            let covered = 8 * covered;
            found = match computed ^ self.stored {
                0 => return None,
                syndrome if syndrome.is_power_of_two() => Some(syndrome.trailing_zeros() as usize),
                // A wrong bit of the length would have other bytes covered: below.
                syndrome => distance(syndrome, covered - self.length_bits)
                    .map(|from_end| 8 * CHECKSUM_BYTES + covered - from_end),
            };
        }
        for bit in 0..self.length_bits {
            let other = checksum(self.length ^ (1 << bit));
            if other.is_some_and(|(computed, _)| computed == self.stored)
                && found.replace(8 * CHECKSUM_BYTES + bit).is_some()
            {
                return None;
            }
        }
        found
    }
}

/// How far from the end of what is covered the one bit stands whose syndrome this is, 1 for the last bit; at most `limit`.
fn distance(syndrome: u32, limit: usize) -> Option<usize> {
    let mut power = 1;
    for from_end in 1..=limit {
        power = times_x(power);
        if power == syndrome {
            return Some(from_end);
        }
    }
    None
}

/// The product with *x*, modulo the polynomial: what the checksum does for each bit.
const fn times_x(power: u32) -> u32 {
    let shifted = power >> 1;
    if power & 1 == 0 { shifted } else { shifted ^ POLYNOMIAL }
}

const _: () = assert!(8 * BLOCK_BYTES < u32::MAX as usize, "all bits of a chunk have syndromes of their own");

#[cfg(test)]
mod tests;
