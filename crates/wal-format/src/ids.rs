//! The numbers of a log, each a type of its own.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// Wraps the plain number.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The plain number.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The number after this one, or `None` at the end of the range.
            #[inline]
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// Number of a log. Numbers only grow and are never reused; 0 means "none" on disk and is never a log.
    LogNumber(u64)
}
number! {
    /// Sequence number: the engine's number of an operation. Strictly increasing over the log, gaps allowed.
    SeqNum(u64)
}
number! {
    /// The log's own dense number of a record: 1, 2, 3 ... over the life of the log. A hole in it is a lost record.
    Index(u64)
}
number! {
    /// Number of the writer generation that owns the directory.
    Epoch(u64)
}
number! {
    /// A column family, tree or partition of the engine; 0 is the default. At most [`FamilyId::MAX`].
    FamilyId(u32)
}

impl Index {
    /// The index of the first record of a new log.
    pub const FIRST: Self = Self(1);
}

impl FamilyId {
    /// The family of an engine that has only one.
    pub const DEFAULT: Self = Self(0);

    /// Highest family: 24 bits, so that a family never takes more than four bytes in a record.
    pub const MAX: Self = Self(0x00ff_ffff);
}

/// Identity of one write-ahead log: 128 random bits, chosen when its directory is first used and mixed into every checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WalId([u8; 16]);

impl WalId {
    /// An identity from its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the identity.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WalId({self})")
    }
}

/// What a record is, for whoever reads it: 1 to 0xEFFF are the engine's, the rest ours, 0 is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(u16);

impl RecordKind {
    /// The payload is a [`WriteBatch`](crate::WriteBatch).
    pub const BATCH: Self = Self(0xf000);

    /// The payload is the name of a point to which the log can be restored.
    pub const MARK: Self = Self(0xf001);

    /// Highest kind that an engine may use.
    pub const ENGINE_MAX: u16 = 0xefff;

    /// A kind of the engine's own.
    ///
    /// # Errors
    /// 0 and everything above [`RecordKind::ENGINE_MAX`] is refused.
    pub const fn new(kind: u16) -> Result<Self, KindError> {
        if kind == 0 || kind > Self::ENGINE_MAX { Err(KindError { kind }) } else { Ok(Self(kind)) }
    }

    /// The plain number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// A kind as it stands on disk: the engine's, or one of ours that this version knows.
    #[inline]
    pub(crate) const fn from_disk(kind: u16) -> Option<Self> {
        if kind == Self::BATCH.0 {
            return Some(Self::BATCH);
        }
        if kind == Self::MARK.0 {
            return Some(Self::MARK);
        }
        match Self::new(kind) {
            Ok(kind) => Some(kind),
            Err(_) => None,
        }
    }
}

/// A record kind that an engine may not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record kind {kind:#06x} is not the engine's to use: choose 0x0001 to 0xefff")]
pub struct KindError {
    /// The refused kind.
    pub kind: u16,
}

/// The sequence numbers that a record covers, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeqRange {
    first: SeqNum,
    last: SeqNum,
}

impl SeqRange {
    /// `count` numbers from `first` on; `None` if there are none or they do not fit into 64 bits.
    #[inline]
    pub fn new(first: SeqNum, count: u32) -> Option<Self> {
        let last = first.get().checked_add(u64::from(count).checked_sub(1)?)?;
        Some(Self { first, last: SeqNum::new(last) })
    }

    /// From `first` to `last`; `None` if that is backwards.
    pub fn between(first: SeqNum, last: SeqNum) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest number.
    pub const fn first(self) -> SeqNum {
        self.first
    }

    /// The highest number.
    pub const fn last(self) -> SeqNum {
        self.last
    }

    /// The smallest range that holds both.
    #[must_use]
    #[inline]
    pub fn union(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

impl fmt::Display for SeqRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}..={}", self.first, self.last)
        }
    }
}
