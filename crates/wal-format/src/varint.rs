//! Unsigned LEB128 numbers, at most ten bytes, always the shortest form.
#![allow(clippy::cast_possible_truncation, reason = "the low seven bits are meant")]

/// Most bytes of one number.
pub(crate) const BYTES_MAX: usize = 10;

/// Appends `value`.
#[inline]
pub(crate) fn put(bytes: &mut Vec<u8>, value: u64) {
    if value >> 56 == 0 {
        // Eight bytes are appended at once, and those that are too many taken off: to grow a vector byte by byte costs more than the bytes.
        let (word, length) = spread(value);
        let end = bytes.len() + length;
        bytes.extend_from_slice(&word.to_le_bytes());
        bytes.truncate(end);
    } else {
        put_slowly(bytes, value);
    }
}

/// The same, byte by byte.
#[cold]
fn put_slowly(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The bytes of a number below 2^56, the first one lowest, and how many they are: [`take`] the other way round.
#[inline]
pub(crate) const fn spread(number: u64) -> (u64, usize) {
    let bits = 64 - (number | 1).leading_zeros();
    let length = bits.div_ceil(7);
    // Opens gaps between the groups of seven bits.
    let word = (number & 0x0fff_ffff) | (number & 0x00ff_ffff_f000_0000) << 4;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x0fff_c000_0fff_c000) << 2;
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x3f80_3f80_3f80_3f80) << 1;
    // All but the last one say that another one follows.
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    (word | more, length as usize)
}

/// Takes a number off the front. `None` if the bytes end early, do not fit into 64 bits, or are not the shortest form: one value has
/// one encoding, so that equal records are equal bytes.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    // Nearly all numbers end within eight bytes, and nearly always there are eight: then without a loop.
    let Some(&first) = bytes.first_chunk() else { return take_slowly(bytes) };
    let word = u64::from_le_bytes(first);
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return take_slowly(bytes);
    }
    let length = ends.trailing_zeros() / 8 + 1;
    let number = word & (u64::MAX >> (64 - 8 * length)) & 0x7f7f_7f7f_7f7f_7f7f;
    if length > 1 && number >> (8 * (length - 1)) == 0 {
        return None;
    }
    // Closes the gaps between the groups of seven bits, two by two.
    let number = (number & 0x007f_007f_007f_007f) | (number & 0x7f00_7f00_7f00_7f00) >> 1;
    let number = (number & 0x0000_3fff_0000_3fff) | (number & 0x3fff_0000_3fff_0000) >> 2;
    let number = (number & 0x0fff_ffff) | (number & 0x0fff_ffff_0000_0000) >> 4;
    *bytes = bytes.get(length as usize..)?;
    Some(number)
}

/// The same, byte by byte.
fn take_slowly(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (position, &byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        if position == BYTES_MAX - 1 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            if byte == 0 && position > 0 {
                return None;
            }
            *bytes = bytes.get(position + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_take_the_same_numbers() {
        let mut values: Vec<u64> =
            (0..64).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1]).collect();
        values.extend([u64::MAX, u64::MAX - 1, 0x0123_4567_89ab_cdef]);
        for value in values {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            for padded in [0, 3, 12] {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len() + padded, 0xff);
                let (mut one, mut other) = (&bytes[..], &bytes[..]);
                assert_eq!((take(&mut one), one.len()), (Some(value), padded));
                assert_eq!((take_slowly(&mut other), other.len()), (Some(value), padded));
            }
        }
    }

    #[test]
    fn both_ways_refuse_the_same_bytes() {
        let mut state = 1_u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Bytes of which many go on and many are zero but for that.
            let bytes: Vec<u8> =
                (0..12).map(|at| ((state >> (at * 5)) as u8) & [0x80, 0x81, 0xff, 0][at % 4]).collect();
            let (mut one, mut other) = (&bytes[..], &bytes[..]);
            assert_eq!((take(&mut one), one), (take_slowly(&mut other), other), "{bytes:x?}");
        }
    }
}
