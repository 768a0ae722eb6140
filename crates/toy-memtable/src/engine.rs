//! The engine: writes, reads, sealing, closing.

use std::ops::RangeBounds;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use wal_manager::io::Storage;
use wal_manager::{Durability, ErrorKind, FamilyId, Index, LogInfo, Options, SeqRange, Wal, WriteBatch};

use crate::error::EngineError;
use crate::flush::{self, Backlog, Mode};
use crate::memtable::Memtable;
use crate::options::EngineOptions;
use crate::publish::Publisher;
use crate::recover::Recovered;
use crate::scan::Scan;
use crate::snapshot::{Snapshot, Sources};
use crate::store::Store;
use crate::sync::thread::{Builder, JoinHandle};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, RwLock, lock, read, wait, write};

/// A small LSM engine on a write-ahead log.
///
/// # Visibility
/// A write is visible when it returns, and not before it has reached its durability level. A batch becomes visible at
/// once, and records become
/// visible in the order of the log: a snapshot is always a prefix of it. The price: a write that asks for little durability
/// returns only after the older writes that ask for more.
///
/// # Concurrency
/// All methods may be called from many threads. Share it in an [`Arc`].
///
/// # Dropping
/// Dropping the engine without [`Engine::close`] is a crash, as far as a library can have one: nothing is flushed, what was
/// only buffered may be lost, the next open replays the log.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    /// Taken by whoever closes.
    flusher: Mutex<Option<JoinHandle<()>>>,
}

/// What the engine and its flush thread share. Locks are taken in this order: `gate`, `backlog`, `sources`; `store` is the
/// flush thread's and taken with none of them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) wal: Wal,
    /// INVARIANT: held shared from before an append until its record is visible, exclusively while logs and memtable change.
    /// So a memtable that is sealed holds every record of the logs that are sealed with it, and no other.
    gate: RwLock<()>,
    pub(crate) sources: RwLock<Arc<Sources>>,
    publisher: Publisher,
    pub(crate) backlog: Mutex<Backlog>,
    pub(crate) changed: Condvar,
    pub(crate) store: Mutex<Store>,
    closed: AtomicBool,
    /// The log asks for a flush: its thread sets this, the next writer seals.
    pressed: Arc<AtomicBool>,
    /// A write failed, and nobody knows whether its record is in the log: what the log has and what the memtable has may differ from then on. The log
    /// may go on; this engine is opened again.
    in_doubt: OnceLock<wal_manager::Error>,
    pub(crate) logs_deleted: AtomicU64,
    pub(crate) merges: AtomicU64,
    memtable_bytes: u64,
    sealed_max: usize,
    pub(crate) tables_max: usize,
}

/// What the engine holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Bytes in the memtable that takes the writes.
    pub memtable_bytes: u64,
    /// Memtables that wait to be flushed.
    pub sealed_memtables: usize,
    /// Tables.
    pub tables: usize,
    /// Bytes in the tables.
    pub tables_bytes: u64,
    /// Memtables flushed since the engine was opened.
    pub flushes: u64,
    /// Merges of all tables into one since the engine was opened.
    pub merges: u64,
    /// Logs deleted by flushes since the engine was opened.
    pub logs_deleted: u64,
}

impl Engine {
    /// Options of an engine whose log is in `dir/wal` and whose tables are in `dir/tables`.
    pub fn options(dir: impl Into<PathBuf>) -> EngineOptions {
        EngineOptions::in_directory(dir.into())
    }

    /// Options of an engine on a log and a storage of the caller's: a simulated disk, for example. The storages of the log
    /// and of the tables must not be the same.
    pub fn options_on(wal: Options, tables: Arc<dyn Storage>) -> EngineOptions {
        EngineOptions::on_storage(wal, tables)
    }

    /// The value of a key, now.
    ///
    /// # Errors
    /// A table is damaged or cannot be read.
    pub fn get(&self, family: FamilyId, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.snapshot().get(family, key)
    }

    /// The keys of a range in order, as they are now: `engine.scan(family, &b"a"[..]..&b"b"[..])`, or `..` for all of them.
    pub fn scan<'k>(&self, family: FamilyId, range: impl RangeBounds<&'k [u8]>) -> Scan {
        self.snapshot().scan(family, range)
    }

    /// What is visible now, to be read as often as needed.
    pub fn snapshot(&self) -> Snapshot {
        // Sources first: see `Snapshot::new`.
        let sources = Arc::clone(&read(&self.shared.sources));
        Snapshot::new(sources, self.shared.publisher.visible())
    }

    /// Sets a key.
    ///
    /// # Errors
    /// As for [`Engine::write`].
    pub fn put(&self, family: FamilyId, key: &[u8], value: &[u8]) -> Result<SeqRange, EngineError> {
        self.write_one(|batch| batch.put(family, key, value))
    }

    /// Removes a key.
    ///
    /// # Errors
    /// As for [`Engine::write`].
    pub fn delete(&self, family: FamilyId, key: &[u8]) -> Result<SeqRange, EngineError> {
        self.write_one(|batch| batch.delete(family, key))
    }

    /// Appends to the value of a key.
    ///
    /// # Errors
    /// As for [`Engine::write`].
    pub fn merge(&self, family: FamilyId, key: &[u8], operand: &[u8]) -> Result<SeqRange, EngineError> {
        self.write_one(|batch| batch.merge(family, key, operand))
    }

    /// Removes every key from `start` up to, not including, `end`.
    ///
    /// # Errors
    /// As for [`Engine::write`].
    pub fn delete_range(&self, family: FamilyId, start: &[u8], end: &[u8]) -> Result<SeqRange, EngineError> {
        self.write_one(|batch| batch.delete_range(family, start, end))
    }

    /// Applies a batch: all of it or nothing, also after a crash. Returns the sequence numbers of its operations.
    ///
    /// Waits while more memtables wait to be flushed than the options allow.
    ///
    /// # Errors
    /// [`EngineError::Wal`]: the log refused the batch (it is empty, say) or has failed; [`EngineError::FlushFailed`];
    /// [`EngineError::Closed`]. The
    /// batch is not visible then. If the log has failed it may still be there after the next open.
    ///
    /// # Durability
    /// That of the options.
    pub fn write(&self, batch: &WriteBatch) -> Result<SeqRange, EngineError> {
        self.apply(batch, None)
    }

    /// Applies a batch at a durability level.
    ///
    /// # Errors
    /// As for [`Engine::write`].
    ///
    /// # Durability
    /// As asked for.
    pub fn write_with(&self, batch: &WriteBatch, durability: Durability) -> Result<SeqRange, EngineError> {
        self.apply(batch, Some(durability))
    }

    /// Makes every write so far durable, whatever level it asked for.
    ///
    /// # Errors
    /// The log has failed or was closed.
    pub fn sync(&self) -> Result<(), EngineError> {
        self.shared.check()?;
        self.shared.wal.sync().inspect_err(|error| self.shared.doubt(error))?;
        Ok(())
    }

    /// Writes everything so far into tables, and returns when they are durable and the log has been told.
    ///
    /// # Errors
    /// The log or a flush has failed, or the engine was closed: the log keeps what is not in tables.
    pub fn flush(&self) -> Result<(), EngineError> {
        let newest = loop {
            self.shared.wait_for(|backlog| backlog.len() < self.shared.sealed_max)?;
            let active = read(&self.shared.sources).active.id();
            if let Sealed::Done = self.shared.seal(1)? {
                break active;
            }
        };
        // If the active memtable was empty, everything is in the one before it.
        self.shared.wait_for(|backlog| backlog.len() == 0 || backlog.has_flushed(newest))
    }

    /// The logs that exist, oldest first.
    pub fn logs(&self) -> Vec<LogInfo> {
        self.shared.wal.logs()
    }

    /// What the engine holds.
    pub fn stats(&self) -> EngineStats {
        let shared = &self.shared;
        let sources = Arc::clone(&read(&shared.sources));
        EngineStats {
            memtable_bytes: sources.active.bytes(),
            sealed_memtables: sources.sealed.len(),
            tables: sources.tables.len(),
            tables_bytes: sources.tables.iter().map(|table| table.bytes()).sum(),
            flushes: lock(&shared.backlog).flushes(),
            merges: shared.merges.load(Ordering::Relaxed),
            logs_deleted: shared.logs_deleted.load(Ordering::Relaxed),
        }
    }

    /// Ends the engine: waits for writes in flight and for sealed memtables to be flushed, and closes the log. What is
    /// in the active
    /// memtable stays in the log and is replayed by the next open; call [`Engine::flush`] before if that should be short.
    /// Reads still work afterwards.
    ///
    /// # Errors
    /// The first failure of a flush or of the log. The engine is closed all the same.
    ///
    /// # Durability
    /// Every write is durable when this returns without an error, whatever level it asked for.
    pub fn close(&self) -> Result<(), EngineError> {
        let Some(flusher) = lock(&self.flusher).take() else { return Err(EngineError::Closed) };
        {
            // Writers in flight have published when this is granted; later ones see the flag.
            let _gate = write(&self.shared.gate);
            self.shared.closed.store(true, Ordering::Release);
        }
        let flushed = self.stop(flusher, Mode::Drain);
        let closed = self.shared.wal.close();
        flushed?;
        // The log may have gone on by itself and closed well: what a writer was told before still holds.
        self.shared.check()?;
        Ok(closed?)
    }

    pub(crate) fn start(
        options: &EngineOptions,
        recovered: Recovered,
        next: Index,
    ) -> Result<Self, EngineError> {
        let Recovered { wal, store, memtable, visible, pressed } = recovered;
        let sources =
            Sources { active: Arc::new(memtable), sealed: Vec::new(), tables: store.live().to_vec() };
        let shared = Arc::new(Shared {
            wal,
            gate: RwLock::new(()),
            sources: RwLock::new(Arc::new(sources)),
            publisher: Publisher::new(visible, next),
            backlog: Mutex::new(Backlog::default()),
            changed: Condvar::new(),
            store: Mutex::new(store),
            closed: AtomicBool::new(false),
            pressed,
            in_doubt: OnceLock::new(),
            logs_deleted: AtomicU64::new(0),
            merges: AtomicU64::new(0),
            memtable_bytes: options.memtable_bytes,
            sealed_max: options.sealed_memtables_max,
            tables_max: options.tables_max,
        });
        let flusher = {
            let shared = Arc::clone(&shared);
            let thread = Builder::new().name("toy-flush".to_owned());
            thread.spawn(move || flush::run(&shared)).map_err(|error| EngineError::Thread(Arc::new(error)))?
        };
        Ok(Self { shared, flusher: Mutex::new(Some(flusher)) })
    }

    fn write_one<E>(
        &self,
        fill: impl FnOnce(&mut WriteBatch) -> Result<(), E>,
    ) -> Result<SeqRange, EngineError>
    where
        EngineError: From<E>,
    {
        let mut batch = WriteBatch::new();
        fill(&mut batch)?;
        self.write(&batch)
    }

    fn apply(&self, batch: &WriteBatch, durability: Option<Durability>) -> Result<SeqRange, EngineError> {
        let shared = &*self.shared;
        shared.make_room()?;
        let _gate = read(&shared.gate);
        if shared.closed.load(Ordering::Acquire) {
            return Err(EngineError::Closed);
        }
        let slot = shared.publisher.begin();
        shared.check()?;
        let appended = match durability {
            Some(durability) => shared.wal.append_with(batch, durability),
            None => shared.wal.append(batch),
        };
        let appended = appended.inspect_err(|error| shared.doubt(error))?;
        // The gate is held: this is the memtable of the log that took the record.
        let active = Arc::clone(&read(&shared.sources).active);
        active.insert(batch.ops(), appended.seqs, |_, _| false)?;
        slot.publish(appended.index, appended.seqs.last());
        Ok(appended.seqs)
    }

    fn stop(&self, flusher: JoinHandle<()>, mode: Mode) -> Result<(), EngineError> {
        lock(&self.shared.backlog).stop(mode);
        self.shared.changed.notify_all();
        // A panic of the thread would be a bug of ours; the backlog says how far it came.
        let _panicked = flusher.join();
        lock(&self.shared.backlog).failure()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(flusher) = lock(&self.flusher).take() {
            // Joined, so that the log and its LOCK go with this value.
            let _failed_before = self.stop(flusher, Mode::Abandon);
        }
    }
}

enum Sealed {
    /// There is no room for another sealed memtable.
    Full,
    /// It was sealed, or there was no need.
    Done,
}

impl Shared {
    /// Remembers that the log has failed, in whatever call: the log may go on, and what others have written meanwhile is in doubt.
    fn doubt(&self, error: &wal_manager::Error) {
        if error.kind() == ErrorKind::Poisoned {
            let _ = self.in_doubt.set(error.clone());
        }
    }

    /// # Errors
    /// A write has failed in a way that leaves its record in doubt.
    fn check(&self) -> Result<(), EngineError> {
        self.in_doubt.get().map_or(Ok(()), |error| Err(error.clone().into()))
    }

    /// Seals the memtable if it is full, and waits for its place among the sealed ones.
    fn make_room(&self) -> Result<(), EngineError> {
        loop {
            if self.closed.load(Ordering::Acquire) {
                return Err(EngineError::Closed);
            }
            let pressed = self.pressed.load(Ordering::Relaxed);
            let enough = if pressed { 1 } else { self.memtable_bytes };
            let full = read(&self.sources).active.bytes() >= enough;
            if !full {
                return lock(&self.backlog).failure();
            }
            if let Sealed::Done = self.seal(enough)? {
                if pressed {
                    self.pressed.store(false, Ordering::Relaxed);
                }
                return Ok(());
            }
            self.wait_for(|backlog| backlog.len() < self.sealed_max)?;
        }
    }

    /// Seals the active memtable and its logs if it holds at least `bytes`.
    fn seal(&self, bytes: u64) -> Result<Sealed, EngineError> {
        // WHY: granted when every writer in flight is visible, so each record of the active log is in the active memtable,
        // and held until the new log has its new memtable.
        let _gate = write(&self.gate);
        let mut backlog = lock(&self.backlog);
        backlog.failure()?;
        self.check()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(EngineError::Closed);
        }
        // The gate is held: it stays the active one until it is replaced below.
        let full = Arc::clone(&read(&self.sources).active);
        if full.bytes() < bytes {
            return Ok(Sealed::Done);
        }
        if backlog.len() >= self.sealed_max {
            return Ok(Sealed::Full);
        }
        // ORDER: the log first; if it refuses, nothing has changed here.
        self.wal.rotate().inspect_err(|error| self.doubt(error))?;
        let active = Arc::new(Memtable::new(full.id().saturating_add(1)));
        // Read and replaced under one lock: the flush thread may have changed the rest during the rotation.
        let mut sources = write(&self.sources);
        let mut sealed = sources.sealed.clone();
        sealed.push(Arc::clone(&full));
        *sources = Arc::new(Sources { active, sealed, tables: sources.tables.clone() });
        drop(sources);
        backlog.push(full);
        self.changed.notify_all();
        Ok(Sealed::Done)
    }

    /// Waits until the backlog is as the caller needs it.
    fn wait_for(&self, ready: impl Fn(&Backlog) -> bool) -> Result<(), EngineError> {
        let mut backlog = lock(&self.backlog);
        loop {
            backlog.failure()?;
            if ready(&backlog) {
                return Ok(());
            }
            if backlog.ended() {
                return Err(EngineError::Closed);
            }
            backlog = wait(&self.changed, backlog);
        }
    }
}

#[cfg(test)]
mod tests;
