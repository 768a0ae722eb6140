//! Followers: readers that go on with the log, one record after the other, across rotations, resumes and deletions.
//!
//! [`Follower`] is a reader in the process that writes, and sees what is durable at once. [`DirectoryFollower`] reads a directory without the
//! lock, whoever writes there, and sees what the log itself proves to be durable. Both read the same way: a [`Cursor`] holds the log
//! that is being read and lets nothing out of order; what is left to each of them is how far it may read, and which logs there are.
//!
//! Memory is bounded by the windows of one log.

mod chain;
mod cursor;
mod directory;
mod live;
mod recent;
mod registry;
mod seek;

use std::io;

use wal_format::record::Head;
use wal_format::{FileHeader, Index, LogNumber, SeqNum};

use crate::error::Error;
use crate::inspect;

pub(crate) use chain::Chain;
pub use directory::{DirectoryFollower, POLL_INTERVAL_DEFAULT};
pub use live::{Follower, FollowerStream};
pub(crate) use recent::Recent;
pub(crate) use registry::Followers;
pub(crate) use seek::seek;

/// Where a follower begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowFrom {
    /// At the oldest record that is left.
    Oldest,
    /// At the record with this index; [`Index`] 0 is taken for the first. If it was not appended yet, it is waited for.
    Index(Index),
    /// At the first record that covers this sequence number or a higher one.
    Seq(SeqNum),
}

impl FollowFrom {
    /// Whether what is asked for does not come before the log with this header.
    fn is_at_or_behind_start(self, header: &FileHeader) -> bool {
        match self {
            Self::Oldest => true,
            Self::Index(index) => header.first_index <= index.max(Index::FIRST),
            Self::Seq(seq) => header.seq_floor <= seq,
        }
    }

    /// Whether what is asked for is this record or comes behind it.
    fn is_at_or_behind(self, head: &Head) -> bool {
        match self {
            Self::Oldest => true,
            Self::Index(index) => head.index <= index,
            Self::Seq(seq) => head.seqs.first() <= seq,
        }
    }

    /// Whether what is asked for comes behind this record.
    fn is_behind(self, head: &Head) -> bool {
        match self {
            Self::Oldest => false,
            Self::Index(index) => head.index < index,
            Self::Seq(seq) => head.seqs.last() < seq,
        }
    }
}

impl Error {
    /// A gap begins behind the log that is being read.
    fn of_gap_behind(self, log: LogNumber) -> Self {
        match (self, log.next()) {
            (Self::Gap { oldest, .. }, Some(wanted)) => Self::Gap { wanted, oldest },
            (error, _) => error,
        }
    }

    /// Where looking behind a gap found another, the first is told: it names the log that was being read.
    fn or_earlier_gap(self, gap: Self) -> Self {
        if matches!(self, Self::Gap { .. }) { gap } else { self }
    }
}

/// Whether a log is not there any more that was there a moment ago.
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == io::ErrorKind::NotFound && inspect::is_log(error))
}
