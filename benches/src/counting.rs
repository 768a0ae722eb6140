//! A real directory whose reads, writes and syncs are counted, to prove what a number claims.

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
    written: AtomicU64,
    reads: AtomicU64,
    read: AtomicU64,
    discards: AtomicBool,
}

/// What had been done at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Calls that wrote bytes.
    pub writes: u64,
    /// Syncs of a file, of either kind.
    pub syncs: u64,
    /// Bytes written.
    pub written: u64,
    /// Calls that read bytes.
    pub reads: u64,
    /// Bytes read.
    pub read: u64,
}

impl Counts {
    /// From now on writes are counted and not done, so that what is left to measure is the log's own work. Such a log can never be read.
    pub fn discard_writes(&self) {
        self.discards.store(true, Ordering::Relaxed);
    }

    /// Now.
    pub fn get(&self) -> Count {
        // Relaxed: read when the threads that count have been joined.
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Count {
            writes: get(&self.writes),
            syncs: get(&self.syncs),
            written: get(&self.written),
            reads: get(&self.reads),
            read: get(&self.read),
        }
    }
}

impl Count {
    /// What came since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            syncs: self.syncs - before.syncs,
            written: self.written - before.written,
            reads: self.reads - before.reads,
            read: self.read - before.read,
        }
    }
}

/// [`FsStorage`] with a counter beside each read, write and sync: one or two relaxed additions more per call.
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
        let inner = self.inner.open_source(name)?;
        Ok(Arc::new(CountingSource { inner, counts: self.counts() }))
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
        self.counts.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
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

#[derive(Debug)]
struct CountingSource {
    inner: Arc<dyn Source>,
    counts: Arc<Counts>,
}

impl Source for CountingSource {
    fn length(&self) -> Result<u64, IoError> {
        self.inner.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let read = self.inner.read_at(offset, buffer)?;
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        self.counts.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
