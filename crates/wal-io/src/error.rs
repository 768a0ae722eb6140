//! The one error of this crate: which operation failed, on which file, where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A failed operation of a [`Storage`](crate::Storage). Cheap to clone, so that every waiter can be given the real cause.
#[derive(Clone, Debug)]
pub struct IoError {
    operation: Operation,
    path: PathBuf,
    offset: Option<u64>,
    source: Arc<io::Error>,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Creating a directory, or opening it.
    OpenDirectory,
    /// Listing a directory.
    List,
    /// Creating a file.
    Create,
    /// Opening a file.
    Open,
    /// Reading the length or the kind of a file.
    Stat,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// fdatasync.
    SyncData,
    /// fsync of a file.
    SyncAll,
    /// fsync of a directory.
    SyncDirectory,
    /// Reserving space.
    Preallocate,
    /// Writing zeros behind the end.
    Fill,
    /// Renaming a file.
    Rename,
    /// Giving a file a second name.
    Link,
    /// Removing a name.
    Unlink,
    /// Taking a lock.
    Lock,
}

impl IoError {
    /// Says that `operation` failed on `path` because of `source`.
    pub fn new(operation: Operation, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { operation, path: path.into(), offset: None, source: Arc::new(source) }
    }

    /// Adds the position in the file, in bytes.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// What was tried.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The file or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The position in the file in bytes, where there is one.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The system's error number, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenDirectory => "open directory",
            Self::List => "list directory",
            Self::Create => "create",
            Self::Open => "open",
            Self::Stat => "examine",
            Self::Read => "read",
            Self::Write => "write",
            Self::SyncData => "fdatasync",
            Self::SyncAll => "fsync",
            Self::SyncDirectory => "fsync of directory",
            Self::Preallocate => "preallocate",
            Self::Fill => "fill",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::Lock => "lock",
        })
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed on {}", self.operation, self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.source)
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
