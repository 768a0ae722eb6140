//! What was done: names of operations, the trace, the counts.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::Operation;

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Open,
    Stat,
    Read,
    Write,
    SyncData,
    SyncAll,
    SyncDir,
    SyncParents,
    Unlink,
    Rename,
    Link,
    Preallocate,
    Fill,
    List,
    Lock,
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 16] = [
        Self::Create,
        Self::Open,
        Self::Stat,
        Self::Read,
        Self::Write,
        Self::SyncData,
        Self::SyncAll,
        Self::SyncDir,
        Self::SyncParents,
        Self::Unlink,
        Self::Rename,
        Self::Link,
        Self::Preallocate,
        Self::Fill,
        Self::List,
        Self::Lock,
    ];

    /// As in the trace, the counts and the faults.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Stat => "stat",
            Self::Read => "read",
            Self::Write => "write",
            Self::SyncData => "syncdata",
            Self::SyncAll => "syncall",
            Self::SyncDir => "syncdir",
            Self::SyncParents => "syncparents",
            Self::Unlink => "unlink",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Preallocate => "preallocate",
            Self::Fill => "fill",
            Self::List => "list",
            Self::Lock => "lock",
        }
    }

    /// The reverse of [`Kind::word`].
    pub(super) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// As in an [`IoError`](crate::IoError).
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Create => Operation::Create,
            Self::Open => Operation::Open,
            Self::Stat => Operation::Stat,
            Self::Read => Operation::Read,
            Self::Write => Operation::Write,
            Self::SyncData => Operation::SyncData,
            Self::SyncAll => Operation::SyncAll,
            Self::SyncDir | Self::SyncParents => Operation::SyncDirectory,
            Self::Unlink => Operation::Unlink,
            Self::Rename => Operation::Rename,
            Self::Link => Operation::Link,
            Self::Preallocate => Operation::Preallocate,
            Self::Fill => Operation::Fill,
            Self::List => Operation::List,
            Self::Lock => Operation::Lock,
        }
    }

    /// It changes the disk.
    pub(super) fn mutates(self) -> bool {
        !matches!(self, Self::Open | Self::Stat | Self::Read | Self::List | Self::Lock)
    }

    /// It is about the directory, not about a file.
    pub(super) fn nameless(self) -> bool {
        matches!(self, Self::SyncDir | Self::SyncParents | Self::List)
    }
}

/// One operation, as the trace tells it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) kind: Kind,
    /// Empty if the operation is about the directory.
    pub(super) name: Arc<str>,
    /// The new name, of a rename.
    pub(super) to: Option<Arc<str>>,
    pub(super) place: Place,
    /// It is about a file that is written past the cache.
    pub(super) direct: bool,
    /// A fault made it slow.
    pub(super) slow: bool,
    /// How many bytes of a short write were written.
    pub(super) short: Option<usize>,
    /// The word of the error that it failed with.
    pub(super) failure: Option<&'static str>,
}

/// Where in its file an operation was.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Nowhere,
    Range(u64, usize),
    Length(u64),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        for name in [Some(&self.name), self.to.as_ref()].into_iter().flatten().filter(|name| !name.is_empty())
        {
            write!(f, " {name}")?;
        }
        match self.place {
            Place::Nowhere => {}
            Place::Range(offset, length) => write!(f, " {offset}+{length}")?,
            Place::Length(length) => write!(f, " {length}")?,
        }
        if self.direct {
            f.write_str(" direct")?;
        }
        if self.slow {
            f.write_str(" slowly")?;
        }
        if let Some(written) = self.short {
            write!(f, " = {written}")?;
        }
        self.failure.map_or(Ok(()), |word| write!(f, " = {word}"))
    }
}

/// Why an operation failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// As in the trace.
    pub(super) word: &'static str,
    /// For the caller.
    pub(super) error: io::Error,
}

impl Failure {
    /// An error of the system.
    pub(super) fn new(word: &'static str, number: Errno) -> Self {
        Self { word, error: io::Error::from(number) }
    }

    /// Nothing of that name.
    pub(super) fn absent() -> Self {
        Self::new("ENOENT", Errno::NOENT)
    }

    /// No space left.
    pub(super) fn full() -> Self {
        Self::new("ENOSPC", Errno::NOSPC)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { word: "EINVAL", error }
    }
}

/// The trace and the counts of one disk.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) lines: Vec<Line>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) mutations: u64,
    /// Power goes when there were so many mutations.
    pub(super) limit: Option<u64>,
}

impl Recorder {
    /// One more operation.
    pub(super) fn count(&mut self, kind: Kind) {
        let count = self.counts.entry(kind.word()).or_default();
        *count = count.saturating_add(1);
        if kind.mutates() {
            self.mutations = self.mutations.saturating_add(1);
        }
    }

    /// Power has gone.
    pub(super) fn frozen(&self) -> bool {
        self.limit.is_some_and(|limit| self.mutations >= limit)
    }
}
