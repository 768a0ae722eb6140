//! Opening: the log is recovered, what the tables do not hold is replayed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wal_manager::{Error, FamilyId, Pressure, RecordKind, Recovery, RecoveryReport, SeqNum, Wal};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::memtable::Memtable;
use crate::options::EngineOptions;
use crate::store::Store;
use crate::sync::AtomicBool;

/// What the engine starts with.
pub(crate) struct Recovered {
    pub(crate) wal: Wal,
    pub(crate) store: Store,
    pub(crate) memtable: Memtable,
    /// Everything up to here is in the memtable or the tables.
    pub(crate) visible: SeqNum,
    /// The log asks for a flush.
    pub(crate) pressed: Arc<AtomicBool>,
}

impl EngineOptions {
    /// Opens the engine, creating it if there is nothing; replays what the tables do not hold.
    ///
    /// Memory is bounded by two memtables, not by the log: a memtable that is full during replay is written as a table.
    ///
    /// # Errors
    /// [`EngineError::Wal`] with `Locked` if somebody has it open, or with the log's verdict if it is damaged; damaged,
    /// missing or misplaced tables. No table was removed then.
    ///
    /// # Durability
    /// What the engine holds when this returns is durable: the log hands out durable records only.
    pub fn open(self) -> Result<(Engine, RecoveryReport), EngineError> {
        self.check()?;
        // ORDER: LOCK before anything else is touched. Else a second process removes, as an orphan, the table that the
        // first is
        // just writing.
        let pressed = Arc::new(AtomicBool::new(false));
        let mut wal = self.wal.clone();
        if let Some(bytes) = self.soft_log_bytes {
            let pressed = Arc::clone(&pressed);
            wal = wal.on_pressure(bytes, usize::MAX, move |pressure: &Pressure| {
                // A hold or a reader that keeps the oldest log is not helped by a flush.
                if !pressure.flush.is_empty() {
                    pressed.store(true, Ordering::Relaxed);
                }
            });
        }
        let recovery = wal.recover()?;
        let new = recovery.report().next_index == wal_manager::Index::FIRST;
        let mut store = Store::open(self.open_tables()?, new)?;
        check_log_is_not_ahead(&recovery, &store)?;
        let memtable = replay(&self, &recovery, &mut store)?;
        let (wal, report) = recovery.finish()?;
        mark_flushed(&wal, &store)?;
        let seqs = memtable.highest();
        let visible =
            seqs.values().chain(store.manifest().flushed.values()).max().copied().unwrap_or_default();
        let recovered = Recovered { wal, store, memtable, visible, pressed };
        Ok((Engine::start(&self, recovered, report.next_index)?, report))
    }
}

fn replay(options: &EngineOptions, recovery: &Recovery, store: &mut Store) -> Result<Memtable, EngineError> {
    let mut memtable = Memtable::new(1);
    let mut records = recovery.records();
    while let Some(record) = records.lend() {
        let record = record?;
        if record.kind != RecordKind::BATCH {
            let (log, index, kind) = (record.log, record.index, record.kind);
            return Err(EngineError::UnknownRecord { log, index, kind });
        }
        // INVARIANT: MANIFEST, not the log, says what is in the tables. After a crash between the two the log is behind, and
        // a merge applied from both would count twice.
        let flushed = &store.manifest().flushed;
        let in_tables = |family: FamilyId, seq: SeqNum| flushed.get(&family) >= Some(&seq);
        memtable.insert(record.ops()?, record.seqs, in_tables)?;
        if memtable.bytes() >= options.memtable_bytes {
            let full = Arc::new(std::mem::replace(&mut memtable, Memtable::new(1)));
            store.add(&full)?;
            drop(full);
            if store.live().len() > options.tables_max {
                store.merge_all()?;
            }
        }
    }
    Ok(memtable)
}

/// The log must not have given up what the tables do not hold.
fn check_log_is_not_ahead(recovery: &Recovery, store: &Store) -> Result<(), EngineError> {
    let flushed = &store.manifest().flushed;
    // The default family is asked for also when MANIFEST does not name it: so a MANIFEST from before the first flush
    // is found.
    for family in flushed.keys().copied().chain([FamilyId::DEFAULT]) {
        let tables = flushed.get(&family).copied();
        if let Some(wal) = recovery.flushed(family).filter(|wal| Some(*wal) > tables) {
            return Err(EngineError::TablesBehind { family, wal, tables });
        }
    }
    Ok(())
}

/// Catches up, where a crash came between MANIFEST and the log, or replay has flushed.
fn mark_flushed(wal: &Wal, store: &Store) -> Result<(), EngineError> {
    let flushed = &store.manifest().flushed;
    let ahead: Vec<_> = flushed
        .iter()
        .map(|(family, seq)| (*family, *seq))
        .filter(|(family, seq)| wal.flushed(*family) < Some(*seq))
        .collect();
    if ahead.is_empty() {
        return Ok(());
    }
    match wal.mark_flushed_all(&ahead) {
        Ok(_) => Ok(()),
        // The log would issue those sequence numbers again, and the next replay would skip them.
        Err(Error::FlushedBeyondAppended { family, given, .. }) => {
            Err(EngineError::LogBehind { family, tables: given })
        }
        Err(error) => Err(error.into()),
    }
}
