//! Options of the engine, checked once when it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use wal_manager::io::Storage;
use wal_manager::{Durability, FsStorage, Options, RecoveryMode, Wal};

use crate::error::EngineError;

/// How to open an engine. Begin with [`Engine::options`](crate::Engine::options), end with [`EngineOptions::open`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `open`"]
pub struct EngineOptions {
    pub(crate) wal: Options,
    tables: Place,
    pub(crate) memtable_bytes: u64,
    pub(crate) tables_max: usize,
    pub(crate) sealed_memtables_max: usize,
    pub(crate) soft_log_bytes: Option<u64>,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    Storage(Arc<dyn Storage>),
}

impl EngineOptions {
    pub(crate) fn in_directory(dir: PathBuf) -> Self {
        Self::with(Wal::options(dir.join("wal")), Place::Directory(dir.join("tables")))
    }

    pub(crate) fn on_storage(wal: Options, tables: Arc<dyn Storage>) -> Self {
        Self::with(wal, Place::Storage(tables))
    }

    fn with(wal: Options, tables: Place) -> Self {
        Self {
            wal,
            tables,
            memtable_bytes: MEMTABLE_BYTES_DEFAULT,
            tables_max: TABLES_MAX_DEFAULT,
            sealed_memtables_max: SEALED_MEMTABLES_MAX_DEFAULT,
            soft_log_bytes: None,
        }
    }

    /// Size in bytes at which a memtable is sealed, and its logs with it. Default [`MEMTABLE_BYTES_DEFAULT`]. It is
    /// exceeded by what the
    /// writers have in flight at that moment, a batch each.
    pub fn memtable_bytes(mut self, bytes: u64) -> Self {
        self.memtable_bytes = bytes;
        self
    }

    /// How many tables there may be before all are merged into one. Default [`TABLES_MAX_DEFAULT`].
    pub fn tables_max(mut self, tables: usize) -> Self {
        self.tables_max = tables;
        self
    }

    /// How many sealed memtables may wait to be flushed; writers wait while there are more to come. Default
    /// [`SEALED_MEMTABLES_MAX_DEFAULT`].
    pub fn sealed_memtables_max(mut self, memtables: usize) -> Self {
        self.sealed_memtables_max = memtables;
        self
    }

    /// How many bytes there may be in logs before the memtable is sealed early, because families in it keep the oldest log
    /// ([`Options::on_pressure`]). The engine has one memtable for all families, so to flush one is to flush all.
    /// Default none.
    pub fn soft_log_bytes(mut self, bytes: u64) -> Self {
        self.soft_log_bytes = Some(bytes);
        self
    }

    /// Size in bytes at which the log itself begins a new file, if the memtable is not sealed before.
    pub fn log_bytes(self, bytes: u64) -> Self {
        self.wal(|wal| wal.log_bytes(bytes))
    }

    /// What a write waits for if it does not say. Default [`Durability::Synced`].
    pub fn durability(self, durability: Durability) -> Self {
        self.wal(|wal| wal.durability(durability))
    }

    /// Name of the log in its metrics.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.wal(|wal| wal.name(name))
    }

    /// What recovery of the log does about a torn tail and about damage.
    pub fn recovery_mode(self, mode: RecoveryMode) -> Self {
        self.wal(|wal| wal.mode(mode))
    }

    /// Changes any other option of the log: `.wal(|wal| wal.on_progress(...))`.
    pub fn wal(mut self, change: impl FnOnce(Options) -> Options) -> Self {
        self.wal = change(self.wal);
        self
    }

    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let least = |option, value: u64, least: u64, reason| {
            if value < least { Err(EngineError::InvalidOption { option, value, reason }) } else { Ok(()) }
        };
        least("memtable_bytes", self.memtable_bytes, 1, "a memtable must hold something")?;
        least("tables_max", self.tables_max as u64, 1, "one table is the least that a merge can leave")?;
        least(
            "sealed_memtables_max",
            self.sealed_memtables_max as u64,
            1,
            "a sealed memtable must have a place",
        )
    }

    /// Opens the directory of the tables, creating it if it is missing. The caller holds the log's LOCK.
    pub(crate) fn open_tables(&self) -> Result<Arc<dyn Storage>, EngineError> {
        match &self.tables {
            Place::Directory(dir) => Ok(Arc::new(FsStorage::create(dir)?)),
            Place::Storage(storage) => Ok(Arc::clone(storage)),
        }
    }
}

/// Default of [`EngineOptions::memtable_bytes`], 16 MiB: 64 memtables, and so 64 rotations, a gigabyte.
pub const MEMTABLE_BYTES_DEFAULT: u64 = 16 << 20;

/// Default of [`EngineOptions::tables_max`]: a read asks each of them in the worst case.
pub const TABLES_MAX_DEFAULT: usize = 8;

/// Default of [`EngineOptions::sealed_memtables_max`]: one that is being written as a table and one behind it.
pub const SEALED_MEMTABLES_MAX_DEFAULT: usize = 2;
