//! What is not durable yet, and what a power cut makes of it.

use std::fmt;

use super::SimOptions;
use super::inode::SECTOR;
use super::rng::Rng;

/// One effect that a power cut may keep or lose, apart from every other.
///
/// `Display` says it in a few words: `sector 000001.wal 512+512`, `rename a b`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pending {
    /// Bytes of one write, inside one sector of 512 bytes.
    Sector {
        /// The file's last name.
        file: String,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// The file became longer.
    Size {
        /// The file's last name.
        file: String,
        /// The length it has if this survives.
        length: u64,
    },
    /// The name of a new file.
    Create {
        /// The name.
        name: String,
    },
    /// A file's new name (only with [`SimOptions::split_renames`]).
    Link {
        /// The name.
        name: String,
    },
    /// The old name, or the new one.
    Rename {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// The name is gone.
    Unlink {
        /// The name.
        name: String,
    },
    /// The directory itself; without it everything in it is gone.
    Directory,
}

impl Pending {
    /// It is a change of a name.
    pub(super) fn is_name(&self) -> bool {
        matches!(self, Self::Create { .. } | Self::Link { .. } | Self::Rename { .. } | Self::Unlink { .. })
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sector { file, offset, length } => write!(f, "sector {file} {offset}+{length}"),
            Self::Size { file, length } => write!(f, "size {file} {length}"),
            Self::Create { name } => write!(f, "create {name}"),
            Self::Link { name } => write!(f, "link {name}"),
            Self::Rename { from, to } => write!(f, "rename {from} {to}"),
            Self::Unlink { name } => write!(f, "unlink {name}"),
            Self::Directory => f.write_str("directory"),
        }
    }
}

/// What becomes of one pending effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is durable.
    Kept,
    /// It never was.
    Lost,
    /// The first so many bytes of a sector; a size that grew only so far, to a multiple of `unit`.
    Part { chance: u64, unit: usize },
    /// Other bytes in their place: those of an earlier file if `stale` and there was one.
    Garbage { seed: u64, reach: Reach, stale: bool },
}

/// What garbage may destroy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing: it is only where no bytes are.
    Empty,
    /// What was being overwritten.
    Bytes,
    /// The whole sector.
    Sector,
}

impl Fate {
    /// Kept or lost.
    pub(super) fn kept(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Lost }
    }
}

/// Throws the dice for one power cut.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Rng,
    options: SimOptions,
    keep: u64,
    garbage: bool,
}

impl Dice {
    /// Some seeds keep nearly all, some nearly nothing, and half of them leave no garbage.
    pub(super) fn new(seed: u64, options: SimOptions) -> Self {
        let mut rng = Rng::new(seed);
        let keep = rng.next() % 9;
        let garbage = options.garbage && rng.chance(1, 2);
        Self { rng, options, keep, garbage }
    }

    /// What becomes of this one.
    pub(super) fn throw(&mut self, pending: &Pending) -> Fate {
        let kept = self.rng.chance(self.keep, 8);
        let (odd, chance) = (self.rng.chance(1, 6), self.rng.next());
        let tear = self.options.tear;
        match pending {
            Pending::Sector { .. } if odd && tear && kept => Fate::Part { chance, unit: 1 },
            Pending::Sector { .. } if odd && self.garbage && !kept => {
                let reach = match (tear, self.options.spoil_sectors) {
                    (_, true) => Reach::Sector,
                    (true, false) => Reach::Bytes,
                    (false, false) => Reach::Empty,
                };
                Fate::Garbage { seed: chance, reach, stale: self.options.stale && chance & 1 == 0 }
            }
            Pending::Size { .. } if odd && kept => Fate::Part { chance, unit: if tear { 1 } else { SECTOR } },
            _ => Fate::kept(kept),
        }
    }
}
