//! A small but honest LSM engine: the reference consumer of `wal-manager`.
//!
//! Writes go to the write-ahead log, then into a concurrent skip list; a full memtable is sealed together with its logs, a
//! background thread writes it as a sorted table, and only when that table is durable are its logs given up. Reads merge
//! the memtables and the tables. After a crash the log is replayed into memtables again.
//!
//! ```
//! use toy_memtable::{Engine, EngineError, FamilyId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # let dir = home.path().join("db");
//! let (engine, _report) = Engine::options(&dir).open()?;
//! engine.put(FamilyId::DEFAULT, b"key", b"value")?; // durable when it returns
//! drop(engine); // as a crash would: nothing is flushed
//!
//! let (engine, report) = Engine::options(&dir).open()?;
//! assert_eq!(report.records, 1); // replayed
//! assert_eq!(engine.get(FamilyId::DEFAULT, b"key")?.as_deref(), Some(&b"value"[..]));
//! engine.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }
//! ```
//!
//! # What is where
//!
//! ```text
//! DIR/wal/             the write-ahead log, known only through wal-manager's public API
//! DIR/tables/NNNNNN.tbl sorted tables, written once
//! DIR/tables/MANIFEST  which tables are live, in order, and through which sequence number each family is in them
//! ```
//!
//! # Invariants
//!
//! - **Sources are ordered.** Every sequence number in the active memtable is above every one in the sealed memtables, and
//!   those above every one in the tables, oldest to newest. Sealing holds the write gate exclusively around
//!   `Wal::rotate` and the change of memtables, and writers hold it shared from before the append until the record is
//!   visible. So a read goes from the newest source to the oldest and stops at the first one that decides, and a table needs no
//!   sequence numbers beside its entries.
//! - **Flushed means in tables.** `Wal::mark_flushed` is told `(family, seq)` only after MANIFEST lists a durable table that
//!   holds every operation of that family up to `seq`.
//! - **Tables never run ahead of the log.** Before MANIFEST names a table, the log is durable through everything in it;
//!   otherwise a power cut could make the log issue those sequence numbers a second time, and replay would skip them.
//! - **Replay applies an operation once.** MANIFEST, not the log, says what replay skips: a crash between the two leaves the
//!   log behind, and a merge applied twice would be wrong.
//! - **A batch becomes visible at once, in log order.** See [`Engine`].
//!
//! # Merge
//!
//! A merge appends its operand to the bytes that the key holds; an absent key holds none. Byte concatenation is
//! associative, so operands may be combined before the value below them is known.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod codec;
mod engine;
mod entry;
mod error;
mod flush;
mod manifest;
mod memtable;
mod options;
mod publish;
mod ranges;
mod recover;
mod scan;
mod snapshot;
mod store;
mod sync;
mod table;

pub use engine::{Engine, EngineStats};
pub use error::EngineError;
pub use options::{EngineOptions, MEMTABLE_BYTES_DEFAULT, SEALED_MEMTABLES_MAX_DEFAULT, TABLES_MAX_DEFAULT};
pub use scan::Scan;
pub use snapshot::Snapshot;
// What this crate's own API mentions, so that one dependency is enough.
pub use wal_manager::{
    Durability, FamilyId, LogInfo, RecoveryMode, RecoveryReport, SeqNum, SeqRange, WriteBatch,
};
