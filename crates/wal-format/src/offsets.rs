//! What an offset changes in a checksum.
//!
//! A CRC is linear: eight bytes change the state behind them by the same bits, whatever the state before them was. These are looked up, because a
//! call of the hasher for eight bytes costs a third of the one for a short record.

/// Generator polynomial of the CRC-32, lowest bit first.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// For each of the four low bytes of an offset, and each of its values, the change.
static CHANGES: [[u32; 256]; 4] = changes();

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "when it is compiled, and below 256"
)]
const fn changes() -> [[u32; 256]; 4] {
    let mut changes = [[0; 256]; 4];
    let mut place = 0;
    while place < changes.len() {
        let mut byte = 0;
        while byte < 256 {
            // The byte, and the zeros behind it.
            let mut bits = 8 * (8 - place);
            let mut state = byte as u32;
            while bits > 0 {
                state = (state >> 1) ^ (POLYNOMIAL * (state & 1));
                bits -= 1;
            }
            changes[place][byte] = state;
            byte += 1;
        }
        place += 1;
    }
    changes
}

/// What the eight bytes of `offset` change beside those of the offset 0; `None` from 4 GiB on.
#[inline]
pub(crate) fn change(offset: u64) -> Option<u32> {
    let [first, second, third, fourth] = &CHANGES;
    let [a, b, c, d] = u32::try_from(offset).ok()?.to_le_bytes().map(usize::from);
    let d = if seeded_bug!(FarOffsetForgotten) { 0 } else { d };
    Some(first.get(a)? ^ second.get(b)? ^ third.get(c)? ^ fourth.get(d)?)
}
