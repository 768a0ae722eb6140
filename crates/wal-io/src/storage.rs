//! The three traits: a directory ([`Storage`]), a file being written ([`Sink`]), a file being read ([`Source`]).
//!
//! They are as narrow as the log's needs, so that the simulated disk and the real one run the same code above them.
//! Names are plain file names inside the one directory: no separators, no `.` or `..`; anything else is refused with
//! [`std::io::ErrorKind::InvalidInput`].

use std::any::Any;
use std::ffi::OsString;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use crate::{IoError, Operation};

/// One directory that holds one write-ahead log.
///
/// # Durability
/// A file that was created, renamed or unlinked is so *durably* only after [`Storage::sync_dir`]. The directory itself
/// exists durably only after [`Storage::sync_parents`].
///
/// # Concurrency
/// All methods may be called from many threads.
pub trait Storage: Debug + Send + Sync {
    /// Where this directory is, for messages to people.
    fn path(&self) -> &Path;

    /// Everything in the directory, in no particular order, names as they are (not necessarily UTF-8).
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&self) -> Result<Vec<Entry>, IoError>;

    /// Creates a file that must not exist yet, for writing.
    ///
    /// # Errors
    /// `AlreadyExists` if there is anything of that name, a dangling symlink included. `Unsupported` if the file cannot be written in this way;
    /// then it was not created.
    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError>;

    /// Opens an existing regular file for overwriting.
    ///
    /// # Errors
    /// `NotFound`; or the name is not a regular file (a symlink, a FIFO, a directory), which is refused without blocking. `Unsupported` if the
    /// file cannot be written in this way.
    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError>;

    /// Creates a file that must not exist yet, for writing through the system's cache.
    ///
    /// # Errors
    /// As for [`Storage::create_with`].
    fn create(&self, name: &str) -> Result<Arc<dyn Sink>, IoError> {
        self.create_with(name, Access::Cached)
    }

    /// Opens an existing regular file for overwriting through the system's cache.
    ///
    /// # Errors
    /// As for [`Storage::open_sink_with`].
    fn open_sink(&self, name: &str) -> Result<Arc<dyn Sink>, IoError> {
        self.open_sink_with(name, Access::Cached)
    }

    /// Opens an existing regular file for reading.
    ///
    /// # Errors
    /// As for [`Storage::open_sink`].
    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError>;

    /// Renames a file; what stood under `to` is replaced.
    ///
    /// # Errors
    /// The rename failed; both names are as they were.
    fn rename(&self, from: &str, to: &str) -> Result<(), IoError>;

    /// Gives the file `name` of the directory `from` a second name, `to`, in this one: from then on both are the same file, which lives until
    /// both are gone, and [`Sink::links`] tells.
    ///
    /// # Errors
    /// `AlreadyExists` if there is anything under the new name, `NotFound` if there is no such file. Anything else, `Unsupported` first of all,
    /// means that there are no links from there to here: nothing was changed, and a copy does as well.
    ///
    /// # Durability
    /// The name is durable after [`Storage::sync_dir`] of this directory; the bytes are as durable as they were.
    fn link_from(&self, from: &dyn Storage, name: &str, to: &str) -> Result<(), IoError> {
        let _ = (from, name);
        Err(IoError::new(Operation::Link, self.path().join(to), std::io::ErrorKind::Unsupported.into()))
    }

    /// The backend itself, so that another directory of the same kind can link to its files. Backends without links have none; one that wraps
    /// another gives that one's.
    fn backend(&self) -> Option<&dyn Any> {
        None
    }

    /// Removes a name.
    ///
    /// # Errors
    /// The name is still there, unless the error is `NotFound`.
    fn unlink(&self, name: &str) -> Result<(), IoError>;

    /// Makes the directory's names durable.
    ///
    /// # Errors
    /// Nothing is known about the durability of any name changed since the last success.
    fn sync_dir(&self) -> Result<(), IoError>;

    /// Makes the directory's own entry durable, and that of each of its ancestors that may be new.
    ///
    /// # Errors
    /// The directory itself may vanish in a crash.
    fn sync_parents(&self) -> Result<(), IoError>;

    /// Creates the file if it is missing and takes an exclusive lock on it that other processes see, without waiting.
    /// The lock ends when the value is dropped or the process dies; closing another handle of the file does not end it.
    ///
    /// # Errors
    /// `WouldBlock` if somebody holds it.
    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError>;
}

/// The way from a [`Sink`] to the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// Through the system's cache.
    #[default]
    Cached,
    /// Past it, in whole blocks ([`Sink::block_bytes`]). The sink rounds to them, so its callers write what they like where they like, best in
    /// ascending order: the last block is kept and written again with what follows, and elsewhere the file has to be read first.
    ///
    /// - A write rounds the length of the file up to a block; what comes behind the bytes reads as zeros.
    /// - What a file held already is lost behind the furthest byte that was written through this sink, up to the end of that block: it
    ///   becomes zeros.
    /// - Only one sink at a time may write to a file.
    Direct,
    /// As [`Access::Direct`], through an io_uring of the sink's own, where the storage has such.
    Ring,
}

impl Access {
    /// Whether whole blocks are written past the system's cache.
    pub(crate) fn is_direct(self) -> bool {
        self != Self::Cached
    }
}

/// A file being written, by position.
///
/// # Durability
/// Written bytes survive a crash of the process at once, and a power cut after the next successful sync. After a failed
/// write or sync nothing is known about any byte written since the last successful sync, and no later sync proves
/// anything: the caller must give the file up.
///
/// # Concurrency
/// Calls may overlap; writes to overlapping ranges must not.
pub trait Sink: Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`; short writes are continued and interrupted ones tried again.
    ///
    /// # Errors
    /// Some prefix of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError>;

    /// How many names the file has: more than one if somebody linked it. Backends without links say one.
    ///
    /// # Errors
    /// The file cannot be examined.
    fn links(&self) -> Result<u64, IoError> {
        Ok(1)
    }

    /// Makes the bytes and the length durable (fdatasync).
    ///
    /// # Errors
    /// See *Durability* above.
    fn sync_data(&self) -> Result<(), IoError>;

    /// Writes all of `bytes` at `offset` and makes them durable with everything that was written before through this sink: [`Sink::write_at`] and
    /// then [`Sink::sync_data`], in one system call where the backend can do that.
    ///
    /// # Errors
    /// As for these two.
    fn write_synced_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.write_at(offset, bytes)?;
        self.sync_data()
    }

    /// Makes the bytes and all metadata durable (fsync).
    ///
    /// # Errors
    /// See *Durability* above.
    fn sync_all(&self) -> Result<(), IoError>;

    /// Makes sure that `length` bytes from the start of the file have space on the disk and read as zeros where nothing
    /// was written; the file is at least `length` bytes long afterwards. Where the file system has no such call, zeros are
    /// written.
    ///
    /// # Errors
    /// `StorageFull` if there is no space: the bytes that were there are untouched.
    fn preallocate(&self, length: u64) -> Result<(), IoError>;

    /// Writes zeros from the end of the file up to `length`, so that later writes in there overwrite: their sync then changes nothing in the file
    /// system's own records. The file is at least `length` bytes long afterwards; what was there is untouched. Space that was only reserved is there
    /// already: such a file is not filled.
    ///
    /// # Errors
    /// `StorageFull` if there is no space: the bytes that were there are untouched.
    fn fill(&self, length: u64) -> Result<(), IoError>;

    /// The unit in which writes reach the file, a power of two: from the start of the one where a write begins to the end of the one where it
    /// ends, bytes that are already there are written again, the same as before. Whoever wants no synced byte written again, since the device may
    /// lose what it writes when the power goes, begins each write at a multiple of it.
    fn block_bytes(&self) -> u64 {
        1
    }
}

/// A file being read, by position.
///
/// # Concurrency
/// Calls may overlap, and may overlap with a writer: bytes not yet written read as absent or as zeros.
pub trait Source: Debug + Send + Sync {
    /// The length of the file in bytes, now.
    ///
    /// # Errors
    /// The file cannot be examined.
    fn length(&self) -> Result<u64, IoError>;

    /// Fills `buffer` from `offset` on and returns how many bytes there were: fewer than asked for only at the end of the
    /// file. Interrupted reads are tried again.
    ///
    /// # Errors
    /// The bytes cannot be read; this is never the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError>;
}

/// An exclusive lock, held until dropped.
pub trait Lock: Debug + Send + Sync {}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as it is, not necessarily UTF-8.
    pub name: OsString,
    /// What it names.
    pub kind: EntryKind,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symlink, FIFO, socket or device: never opened.
    Other,
}
