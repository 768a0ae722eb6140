//! Unsigned LEB128 numbers, at most ten bytes, always the shortest form.
#![allow(clippy::cast_possible_truncation, reason = "the low seven bits are meant")]

/// Most bytes of one number.
pub(crate) const BYTES_MAX: usize = 10;

/// Appends `value`.
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a number off the front. `None` if the bytes end early, do not fit into 64 bits, or are not the shortest form: one value has
/// one encoding, so that equal records are equal bytes.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    // Most numbers are short.
    if let Some((&byte, rest)) = bytes.split_first()
        && byte < 0x80
    {
        *bytes = rest;
        return Some(u64::from(byte));
    }
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
