//! What goes in and what comes back: records, positions, durability levels.

use std::fmt;

use wal_format::{FamilyId, Index, LogNumber, RecordKind, SeqNum, SeqRange, WriteBatch};

/// A record to append. It is atomic: after a crash all of it is there or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) families: &'a [FamilyId],
    pub(crate) first: Option<SeqNum>,
    pub(crate) count: u32,
    pub(crate) payload: &'a [u8],
    pub(crate) key: Option<u128>,
}

impl<'a> Record<'a> {
    /// A record of the engine's own kind, with one sequence number that the log assigns, in family 0.
    pub const fn new(kind: RecordKind, payload: &'a [u8]) -> Self {
        Self { kind, families: &[FamilyId::DEFAULT], first: None, count: 1, payload, key: None }
    }

    /// A mark by name, to which a restore can go, with one sequence number, in family 0.
    pub const fn mark(name: &'a str) -> Self {
        Self::new(RecordKind::MARK, name.as_bytes())
    }

    /// How many sequence numbers the record covers; the log assigns them.
    #[must_use]
    pub const fn count(mut self, count: u32) -> Self {
        self.count = count;
        self
    }

    /// The engine assigns the sequence numbers itself: `count` from `first` on. They must be above every one before; gaps are fine.
    #[must_use]
    pub const fn seqs(mut self, first: SeqNum, count: u32) -> Self {
        self.first = Some(first);
        self.count = count;
        self
    }

    /// The families that the record touches, ascending and not empty.
    #[must_use]
    pub const fn families(mut self, families: &'a [FamilyId]) -> Self {
        self.families = families;
        self
    }

    /// A key that tells this record from every other: it is stored with it, and where the log has a window
    /// ([`Options::duplicates`](crate::Options::duplicates)), another append with the same key within it is not written again.
    #[must_use]
    pub const fn key(mut self, key: u128) -> Self {
        self.key = Some(key);
        self
    }
}

impl<'a> From<&'a WriteBatch> for Record<'a> {
    /// A batch covers one sequence number for each of its operations.
    fn from(batch: &'a WriteBatch) -> Self {
        // An empty batch is refused at append, as a record without payload is.
        let payload = if batch.is_empty() { &[] } else { batch.as_bytes() };
        Self {
            kind: RecordKind::BATCH,
            families: batch.families(),
            first: None,
            count: batch.count(),
            payload,
            key: None,
        }
    }
}

/// How durable an append is before the call returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Accepted and ordered, in this process's memory. Lost if the process dies.
    Buffered,
    /// Handed to the operating system. Survives the death of the process, not a power cut; nor a sync that fails later, which stops the log: the
    /// system may have forgotten what was to be synced, until [`Wal::resume`](crate::Wal::resume) writes it again.
    Written,
    /// On the disk. Survives a power cut.
    #[default]
    Synced,
}

/// A place in the log, behind a record. Later is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The log.
    pub log: LogNumber,
    /// Offset in the log, in bytes.
    pub offset: u64,
    /// Index of the last record before this place; 0 if there is none.
    pub index: Index,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {} byte {} (behind record {})", self.log, self.offset, self.index)
    }
}

/// What an append was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The log's own dense number of the record.
    pub index: Index,
    /// The record's sequence numbers.
    pub seqs: SeqRange,
    /// The place behind the record: it is durable once [`Wal::durable`](crate::Wal::durable) has reached this.
    ///
    /// Of a duplicate, where its original stood when it was appended or read: a resume after a failure may have written it again further on.
    pub position: Position,
    /// Nothing was written: these are the numbers of the record that was appended before with the same key, and it is as durable as was asked for.
    pub duplicate: bool,
}
