//! Chance that can be replayed: splitmix64.

/// A splitmix64 generator.
#[derive(Clone, Debug, Hash)]
pub(super) struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers, always.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True `part` times of `whole`.
    pub(super) fn chance(&mut self, part: u64, whole: u64) -> bool {
        self.next() % whole.max(1) < part
    }

    /// One byte.
    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// One of these, if there are any.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let place = self.next() % (from.len() as u64).max(1);
        from.get(usize::try_from(place).unwrap_or(0)).copied()
    }
}
