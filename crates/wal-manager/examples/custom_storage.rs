//! A storage of one's own: here one that wraps another and counts what the log asks of it. A storage that throttles, encrypts or sends bytes
//! elsewhere has the same shape.
//!
//! `cargo run -p wal-manager --example custom_storage` prints
//!
//! ```text
//! the conformance suite has nothing to complain about
//! 100 appends, one after the other: 100 writes, 100 syncs
//! 100 appends, then one wait: 1 write, 1 sync
//! ```

use std::any::Any;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal_io::conformance::{check_all, check_links};
use wal_io::{Access, Entry, IoError, Lock, Sink, Source, Storage};
use wal_manager::{MemStorage, Record, RecordKind, Wal};

#[derive(Debug, Default)]
struct Counts {
    writes: AtomicU64,
    syncs: AtomicU64,
}

/// What opens files counts; everything else is the inner storage's business.
#[derive(Debug)]
struct Counting<S> {
    inner: S,
    counts: Arc<Counts>,
}

impl<S: Storage> Counting<S> {
    fn new(inner: S) -> Self {
        Self { inner, counts: Arc::default() }
    }

    fn counted(&self, inner: Arc<dyn Sink>) -> Arc<dyn Sink> {
        Arc::new(CountingSink { inner, counts: Arc::clone(&self.counts) })
    }
}

impl<S: Storage> Storage for Counting<S> {
    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(self.counted(self.inner.create_with(name, access)?))
    }
    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(self.counted(self.inner.open_sink_with(name, access)?))
    }
    // The rest goes through. Do not leave out the methods that have a default: without these two a copy cannot link files.
    fn link_from(&self, from: &dyn Storage, name: &str, to: &str) -> Result<(), IoError> {
        self.inner.link_from(from, name, to)
    }
    fn backend(&self) -> Option<&dyn Any> {
        self.inner.backend()
    }
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.inner.list()
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
        self.inner.write_at(offset, bytes)
    }
    fn sync_data(&self) -> Result<(), IoError> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_data()
    }
    // `write_synced_at` keeps its default, which is the two above, so that both are counted.
    fn sync_all(&self) -> Result<(), IoError> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_all()
    }
    fn links(&self) -> Result<u64, IoError> {
        self.inner.links()
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

fn main() -> Result<(), Box<dyn Error>> {
    // Before anything else, in the tests of your crate: the rules that the log relies on, each in a directory of its own.
    let mut broken = check_all(|| Counting::new(MemStorage::new()));
    broken.extend(check_links(|| (Counting::new(MemStorage::new()), Counting::new(MemStorage::new()))));
    if !broken.is_empty() {
        return Err(format!("{broken:#?}").into());
    }
    println!("the conformance suite has nothing to complain about");

    let storage = Counting::new(MemStorage::new());
    let counts = Arc::clone(&storage.counts);
    let (wal, _report) = Wal::options_on(Arc::new(storage)).recover()?.finish_without_replay()?;
    let take = || (counts.writes.swap(0, Ordering::Relaxed), counts.syncs.swap(0, Ordering::Relaxed));
    let record = Record::new(RecordKind::new(1)?, b"payload");

    take();
    for _ in 0..100 {
        wal.append(record)?;
    }
    let (writes, syncs) = take();
    println!("100 appends, one after the other: {writes} writes, {syncs} syncs");

    let tickets = (0..100).map(|_| wal.submit(record)).collect::<Result<Vec<_>, _>>()?;
    for ticket in &tickets {
        ticket.wait()?;
    }
    let (writes, syncs) = take();
    println!("100 appends, then one wait: {writes} write, {syncs} sync");
    wal.close()?;
    Ok(())
}
