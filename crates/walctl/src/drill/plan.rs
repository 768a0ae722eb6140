//! What the drill writes: for every item of the input a few operations on its key, the same for the same seed.
//!
//! The child performs them and the parent knows what they must leave behind; neither asks the other.

/// One operation on an item's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write the item's value.
    Put,
    /// Write something else, to be overwritten.
    Scratch,
    /// Delete the key.
    Delete,
}

/// A scrambled number: the same for the same input, and any bit of the input changes about half of it (splitmix64).
pub(crate) fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What happens to item `number` in `round`: mostly it is put, for every eighth or so it is overwritten or deleted as well.
pub(crate) fn steps(seed: u64, round: u64, number: u64) -> &'static [Step] {
    match mix(seed ^ mix(round ^ mix(number))) % 32 {
        0 => &[Step::Put, Step::Delete],
        1 => &[Step::Scratch, Step::Put],
        2 => &[Step::Put, Step::Delete, Step::Put],
        // A key of an earlier round, or one that was never there.
        3 => &[Step::Delete],
        _ => &[Step::Put],
    }
}

/// What follows an item's contents in its value, so that the values of two rounds differ.
pub(crate) fn tag(round: u64) -> Vec<u8> {
    if round == 0 { Vec::new() } else { format!("\nround {round}").into_bytes() }
}

/// What a [`Step::Scratch`] writes.
pub(crate) fn scratch(round: u64, number: u64) -> Vec<u8> {
    format!("to be overwritten: {number} in round {round}").into_bytes()
}

/// Random numbers for the moments of the kills: repeatable, not secret.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// A number below `bound`; 0 if there is none.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = mix(self.0);
        self.0.checked_rem(bound).unwrap_or(0)
    }
}
