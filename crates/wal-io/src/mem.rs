//! A directory in memory, for examples and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{IoError, Operation};
use crate::names;
use crate::storage::{Entry, EntryKind, Lock, Sink, Source, Storage};

/// A directory in memory. Clones are the same directory; nothing survives the process, and syncs do nothing.
///
/// ```
/// use wal_io::{Storage, mem::MemStorage};
///
/// let storage = MemStorage::new();
/// storage.create("a")?.write_at(0, b"bytes")?;
/// assert_eq!(storage.files()["a"], b"bytes");
/// # Ok::<(), wal_io::IoError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemStorage {
    path: PathBuf,
    directory: Arc<Mutex<Directory>>,
}

#[derive(Debug, Default)]
struct Directory {
    files: BTreeMap<String, Bytes>,
    locked: BTreeSet<String>,
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

    fn create(&self, name: &str) -> Result<Arc<dyn Sink>, IoError> {
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

    fn open_sink(&self, name: &str) -> Result<Arc<dyn Sink>, IoError> {
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
        if !directory.locked.insert(name.to_owned()) {
            return Err(IoError::new(Operation::Lock, path, io::ErrorKind::WouldBlock.into()));
        }
        directory.files.entry(name.to_owned()).or_default();
        Ok(Box::new(MemLock { name: name.to_owned(), directory: Arc::clone(&self.directory) }))
    }
}

#[derive(Debug)]
struct MemLock {
    name: String,
    directory: Arc<Mutex<Directory>>,
}

impl Lock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        locked(&self.directory).locked.remove(&self.name);
    }
}

#[derive(Debug)]
struct MemFile {
    path: PathBuf,
    bytes: Bytes,
}

impl MemFile {
    fn range(&self, operation: Operation, offset: u64, length: usize) -> Result<(usize, usize), IoError> {
        let range = usize::try_from(offset).ok().and_then(|start| Some((start, start.checked_add(length)?)));
        range
            .ok_or_else(|| IoError::new(operation, &self.path, io::ErrorKind::InvalidInput.into()).at(offset))
    }
}

impl Sink for MemFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let (start, end) = self.range(Operation::Write, offset, bytes.len())?;
        let mut content = locked(&self.bytes);
        if content.len() < end {
            content.resize(end, 0);
        }
        if let Some(place) = content.get_mut(start..end) {
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
        let (end, _) = self.range(Operation::Preallocate, length, 0)?;
        let mut content = locked(&self.bytes);
        if content.len() < end {
            content.resize(end, 0);
        }
        Ok(())
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
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }
}
