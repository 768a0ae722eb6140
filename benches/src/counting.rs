//! A real directory whose writes and syncs are counted, to prove what a number claims.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wal_manager::FsStorage;
use wal_manager::io::{Access, Entry, IoError, Lock, Sink, Source, Storage};

/// What has been done so far to all files of a directory.
#[derive(Debug, Default)]
pub struct Counts {
    writes: AtomicU64,
    syncs: AtomicU64,
    discards: AtomicBool,
}

/// Writes and syncs at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Calls that wrote bytes.
    pub writes: u64,
    /// Syncs of a file, of either kind.
    pub syncs: u64,
}

impl Counts {
    /// From now on writes are counted and not done, so that what is left to measure is the log's own work. Such a log can never be read.
    pub fn discard_writes(&self) {
        self.discards.store(true, Ordering::Relaxed);
    }

    /// Now.
    pub fn get(&self) -> Count {
        // Relaxed: read when the threads that count have been joined.
        Count { writes: self.writes.load(Ordering::Relaxed), syncs: self.syncs.load(Ordering::Relaxed) }
    }
}

impl Count {
    /// What came since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { writes: self.writes - before.writes, syncs: self.syncs - before.syncs }
    }
}

/// [`FsStorage`] with a counter beside each write and sync: one relaxed addition more per call.
#[derive(Debug)]
pub struct CountingStorage {
    inner: FsStorage,
    counts: Arc<Counts>,
}

impl CountingStorage {
    /// Counts what happens in the directory `path`.
    pub fn new(path: &Path) -> Self {
        let inner = FsStorage::create(path).expect("the directory opens");
        Self { inner, counts: Arc::new(Counts::default()) }
    }

    /// The counters.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    fn counted(&self, inner: Arc<dyn Sink>) -> Arc<dyn Sink> {
        Arc::new(CountingSink { inner, counts: self.counts() })
    }
}

impl Storage for CountingStorage {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.inner.list()
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.inner.create_with(name, access).map(|sink| self.counted(sink))
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.inner.open_sink_with(name, access).map(|sink| self.counted(sink))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        self.inner.open_source(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.inner.rename(from, to)
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.inner.unlink(name)
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.inner.sync_dir()
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.inner.sync_parents()
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        self.inner.lock(name)
    }
}

#[derive(Debug)]
struct CountingSink {
    inner: Arc<dyn Sink>,
    counts: Arc<Counts>,
}

impl Sink for CountingSink {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        if self.counts.discards.load(Ordering::Relaxed) { Ok(()) } else { self.inner.write_at(offset, bytes) }
    }

    fn sync_data(&self) -> Result<(), IoError> {
        let synced = self.inner.sync_data();
        self.counts.syncs.fetch_add(u64::from(synced.is_ok()), Ordering::Relaxed);
        synced
    }

    fn sync_all(&self) -> Result<(), IoError> {
        let synced = self.inner.sync_all();
        self.counts.syncs.fetch_add(u64::from(synced.is_ok()), Ordering::Relaxed);
        synced
    }

    fn write_synced_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        if self.counts.discards.load(Ordering::Relaxed) {
            self.write_at(offset, bytes)?;
            return self.sync_data();
        }
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        let synced = self.inner.write_synced_at(offset, bytes);
        self.counts.syncs.fetch_add(u64::from(synced.is_ok()), Ordering::Relaxed);
        synced
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.inner.preallocate(length)
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.inner.fill(length)
    }

    fn block_bytes(&self) -> u64 {
        self.inner.block_bytes()
    }
}
