//! The one error type of the engine.

use std::path::PathBuf;
use std::sync::Arc;

use wal_manager::io::IoError;
use wal_manager::{BatchError, FamilyId, Index, LogNumber, RecordKind, SeqNum};

/// Why the engine refused or failed. Cheap to clone, so that everyone who waits learns the real cause.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The write-ahead log refused or failed.
    #[error("write-ahead log: {0}")]
    Wal(#[source] Arc<wal_manager::Error>),
    /// The batch does not take the operation, or a record of the log is not a batch.
    #[error("batch: {0}")]
    Batch(#[from] BatchError),
    /// A file of the tables could not be read or written.
    #[error("tables: {0}")]
    Io(#[from] IoError),
    /// A table is damaged or missing.
    #[error("{path}: damaged at byte {offset}: {reason}; restore the file from a backup", path = path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// MANIFEST is damaged.
    #[error("{path}: damaged: {reason}; restore tables and MANIFEST together from a backup", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// There is no MANIFEST although the log or the tables show that the engine has run before.
    #[error("{path}: missing, but this is not a new directory: restore the tables from a backup", path = path.display())]
    ManifestMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The log has given up records that the tables do not hold: the tables are older than the log.
    #[error(
        "family {family}: the log was told that everything through {wal} is flushed, but the tables end at {tables:?}: \
         restore the tables that belong to this log"
    )]
    TablesBehind {
        /// The family.
        family: FamilyId,
        /// What the log was told.
        wal: SeqNum,
        /// What MANIFEST says.
        tables: Option<SeqNum>,
    },
    /// The tables are newer than the log, or of another one.
    #[error(
        "the tables hold family {family} through {tables}, which the log never issued: restore the log that belongs to them"
    )]
    LogBehind {
        /// The family.
        family: FamilyId,
        /// What MANIFEST says.
        tables: SeqNum,
    },
    /// The log holds a record that this engine did not write.
    #[error("log {log}, record {index}: kind {:#06x} is not of this engine", kind.get())]
    UnknownRecord {
        /// The log.
        log: LogNumber,
        /// The record's index.
        index: Index,
        /// Its kind.
        kind: RecordKind,
    },
    /// The background flush failed earlier: nothing more is written, the log keeps everything. Reopen the engine.
    #[error("an earlier flush failed, reopen the engine: {cause}")]
    FlushFailed {
        /// What happened.
        #[source]
        cause: Arc<EngineError>,
    },
    /// An option has a value that cannot work.
    #[error("option {option} = {value}: {reason}")]
    InvalidOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        reason: &'static str,
    },
    /// A key or a value, after its merges, is longer than a table can hold.
    #[error("a key or value of {bytes} bytes does not fit into a table")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The flush thread could not be started.
    #[error("the flush thread could not be started: {0}")]
    Thread(#[source] Arc<std::io::Error>),
    /// The engine was closed.
    #[error("the engine is closed")]
    Closed,
}

impl From<wal_manager::Error> for EngineError {
    fn from(error: wal_manager::Error) -> Self {
        Self::Wal(Arc::new(error))
    }
}
