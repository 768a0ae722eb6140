//! A directory in memory, for examples and tests.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{IoError, Operation};
use crate::names;
use crate::storage::{Access, Entry, EntryKind, Lock, Sink, Source, Storage};

#[cfg(test)]
mod tests;

/// A directory in memory. Clones are the same directory; nothing survives the process, syncs do nothing, and every [`Access`] is the same.
///
/// ```
/// use wal_io::{Storage, mem::MemStorage};
///
/// let storage = MemStorage::new();
/// storage.create("a")?.write_at(0, b"bytes")?;
/// assert_eq!(storage.files()["a"], b"bytes");
/// # Ok::<(), wal_io::IoError>(())
/// ```
#[derive(Clone)]
pub struct MemStorage {
    path: PathBuf,
    directory: Arc<Mutex<Directory>>,
}

#[derive(Default)]
struct Directory {
    files: BTreeMap<String, Bytes>,
    /// As with flock, it is the file that is locked, whatever its name is.
    locked: Vec<Bytes>,
}

type Bytes = Arc<Mutex<Vec<u8>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code of ours panics between two changes of what is inside.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for MemStorage {
    fn default() -> Self {
        Self { path: PathBuf::from("mem:"), directory: Arc::default() }
    }
}

impl fmt::Debug for MemStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes.
        f.debug_struct("MemStorage").finish_non_exhaustive()
    }
}

impl MemStorage {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory with these files.
    pub fn from_files(files: BTreeMap<String, Vec<u8>>) -> Self {
        let storage = Self::default();
        let files = files.into_iter().map(|(name, bytes)| (name, Arc::new(Mutex::new(bytes))));
        locked(&storage.directory).files = files.collect();
        storage
    }

    /// A copy of every file.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let directory = locked(&self.directory);
        directory.files.iter().map(|(name, bytes)| (name.clone(), locked(bytes).clone())).collect()
    }

    fn open(&self, operation: Operation, name: &str) -> Result<MemFile, IoError> {
        let path = self.path.join(name);
        names::check(name).map_err(|source| IoError::new(operation, &path, source))?;
        match locked(&self.directory).files.get(name) {
            Some(bytes) => Ok(MemFile { path, bytes: Arc::clone(bytes) }),
            None => Err(IoError::new(operation, path, io::ErrorKind::NotFound.into())),
        }
    }
}

impl Storage for MemStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        let entry = |name: &String| Entry { name: name.into(), kind: EntryKind::File };
        Ok(locked(&self.directory).files.keys().map(entry).collect())
    }

    fn create_with(&self, name: &str, _: Access) -> Result<Arc<dyn Sink>, IoError> {
        let path = self.path.join(name);
        names::check(name).map_err(|source| IoError::new(Operation::Create, &path, source))?;
        let mut directory = locked(&self.directory);
        if directory.files.contains_key(name) {
            return Err(IoError::new(Operation::Create, path, io::ErrorKind::AlreadyExists.into()));
        }
        let bytes = Bytes::default();
        directory.files.insert(name.to_owned(), Arc::clone(&bytes));
        Ok(Arc::new(MemFile { path, bytes }))
    }

    fn open_sink_with(&self, name: &str, _: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(Arc::new(self.open(Operation::Open, name)?))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        Ok(Arc::new(self.open(Operation::Open, name)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        let path = self.path.join(from);
        let fail = |source| IoError::new(Operation::Rename, &path, source);
        names::check(from).and_then(|()| names::check(to)).map_err(fail)?;
        let mut directory = locked(&self.directory);
        let bytes = directory.files.remove(from).ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        directory.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.open(Operation::Unlink, name)?;
        locked(&self.directory).files.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        let path = self.path.join(name);
        names::check(name).map_err(|source| IoError::new(Operation::Lock, &path, source))?;
        let mut directory = locked(&self.directory);
        let bytes = Arc::clone(directory.files.entry(name.to_owned()).or_default());
        if directory.locked.iter().any(|held| Arc::ptr_eq(held, &bytes)) {
            return Err(IoError::new(Operation::Lock, path, io::ErrorKind::WouldBlock.into()));
        }
        directory.locked.push(Arc::clone(&bytes));
        Ok(Box::new(MemLock { path, bytes, directory: Arc::clone(&self.directory) }))
    }
}

struct MemLock {
    path: PathBuf,
    bytes: Bytes,
    directory: Arc<Mutex<Directory>>,
}

impl fmt::Debug for MemLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemLock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Lock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        locked(&self.directory).locked.retain(|held| !Arc::ptr_eq(held, &self.bytes));
    }
}

struct MemFile {
    path: PathBuf,
    bytes: Bytes,
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl MemFile {
    /// Makes the content at least `end` bytes long, or fails where there is no memory for so much.
    fn grow(content: &mut Vec<u8>, end: u64) -> io::Result<()> {
        let end = usize::try_from(end).map_err(|_| io::ErrorKind::StorageFull)?;
        if let Some(more) = end.checked_sub(content.len()).filter(|more| *more > 0) {
            content.try_reserve(more).map_err(|_| io::ErrorKind::StorageFull)?;
            content.resize(end, 0);
        }
        Ok(())
    }
}

impl Sink for MemFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let fail = |source| IoError::new(Operation::Write, &self.path, source).at(offset);
        let end = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge);
        let end = end.map_err(|kind| fail(kind.into()))?;
        let mut content = locked(&self.bytes);
        Self::grow(&mut content, end).map_err(fail)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(place) = content.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        let grown = Self::grow(&mut locked(&self.bytes), length);
        grown.map_err(|source| IoError::new(Operation::Preallocate, &self.path, source))
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        let grown = Self::grow(&mut locked(&self.bytes), length);
        grown.map_err(|source| IoError::new(Operation::Fill, &self.path, source))
    }
}

impl Source for MemFile {
    fn length(&self) -> Result<u64, IoError> {
        Ok(locked(&self.bytes).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let content = locked(&self.bytes);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.get(start..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }
}
