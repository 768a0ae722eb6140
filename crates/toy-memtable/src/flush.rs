//! The background thread that turns sealed memtables into tables.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::Shared;
use crate::error::EngineError;
use crate::memtable::Memtable;
use crate::snapshot::Sources;
use crate::store::Store;
use crate::sync::{lock, wait, write};

/// What waits to be flushed, and how flushing stands.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Oldest first; the front one may be in work.
    sealed: VecDeque<Arc<Memtable>>,
    /// Id of the newest memtable that is in the tables.
    flushed: u64,
    flushes: u64,
    /// INVARIANT: never cleared. After a failure nothing is known about what reached the disk, so nothing is tried again.
    failure: Option<Arc<EngineError>>,
    stop: Option<Mode>,
    ended: bool,
}

/// How the thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// When everything sealed is flushed.
    Drain,
    /// After the step it is at.
    Abandon,
}

impl Backlog {
    pub(crate) fn push(&mut self, memtable: Arc<Memtable>) {
        self.sealed.push_back(memtable);
    }

    /// How many memtables are not in tables yet.
    pub(crate) fn len(&self) -> usize {
        self.sealed.len()
    }

    /// Whether the memtable with this id is in the tables.
    pub(crate) fn has_flushed(&self, id: u64) -> bool {
        self.flushed >= id
    }

    /// How many memtables were flushed.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes
    }

    pub(crate) fn failure(&self) -> Result<(), EngineError> {
        match &self.failure {
            Some(cause) => Err(EngineError::FlushFailed { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    pub(crate) fn stop(&mut self, mode: Mode) {
        self.stop = Some(mode);
    }

    /// Whether nothing more will be flushed.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }
}

/// Flushes until it is told to stop, or a flush fails.
pub(crate) fn run(shared: &Shared) {
    let _end = End(shared);
    while let Some(memtable) = next(shared) {
        let flushed = flush(shared, &memtable);
        let mut backlog = lock(&shared.backlog);
        match flushed {
            Ok(()) => {
                backlog.sealed.pop_front();
                backlog.flushed = memtable.id();
                backlog.flushes += 1;
            }
            Err(error) => backlog.failure = Some(Arc::new(error)),
        }
        drop(backlog);
        drop(memtable);
        shared.changed.notify_all();
        if let Err(error) = merge_if_needed(shared) {
            lock(&shared.backlog).failure.get_or_insert(Arc::new(error));
            shared.changed.notify_all();
        }
    }
}

/// Says that the thread has ended, however it did.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        lock(&self.0.backlog).ended = true;
        self.0.changed.notify_all();
    }
}

fn next(shared: &Shared) -> Option<Arc<Memtable>> {
    let mut backlog = lock(&shared.backlog);
    loop {
        if backlog.failure.is_some() || backlog.stop == Some(Mode::Abandon) {
            return None;
        }
        if let Some(memtable) = backlog.sealed.front() {
            return Some(Arc::clone(memtable));
        }
        if backlog.stop == Some(Mode::Drain) {
            return None;
        }
        backlog = wait(&shared.changed, backlog);
    }
}

fn flush(shared: &Shared, memtable: &Arc<Memtable>) -> Result<(), EngineError> {
    // ORDER: before MANIFEST names the table. Records of a low durability level may not be durable yet; if a power cut took
    // them from the log but not from the tables, the log would issue their sequence numbers again, and replay would skip
    // the new records as flushed. The rotation at the seal has synced the old log, and then this costs little; but that a
    // table needs it is this function's business.
    shared.wal.sync()?;
    let mut store = lock(&shared.store);
    store.add(memtable)?;
    install(shared, &store, memtable.id());
    drop(store);
    let highest: Vec<_> = memtable.highest().into_iter().collect();
    // ORDER: after MANIFEST with the table is durable. Else a power cut leaves neither the log nor the table.
    let deletion = shared.wal.mark_flushed_all(&highest)?;
    shared.logs_deleted.fetch_add(deletion.deleted.len() as u64, Ordering::Relaxed);
    Ok(())
}

fn merge_if_needed(shared: &Shared) -> Result<(), EngineError> {
    lock(&shared.backlog).failure()?;
    let mut store = lock(&shared.store);
    if store.live().len() > shared.tables_max {
        store.merge_all()?;
        install(shared, &store, 0);
        shared.merges.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Shows readers the tables of the store instead of the memtable that they hold now, in one step.
fn install(shared: &Shared, store: &Store, flushed: u64) {
    let mut sources = write(&shared.sources);
    let Sources { active, sealed, .. } = &**sources;
    let sealed = sealed.iter().filter(|memtable| memtable.id() > flushed).cloned().collect();
    *sources = Arc::new(Sources { active: Arc::clone(active), sealed, tables: store.live().to_vec() });
}
