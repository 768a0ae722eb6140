//! The bytes of a write-ahead log: chunks, records, promises, seals, CHECKPOINT slots.
//!
//! Pure: no I/O, no clock, no threads, no `unsafe`. Bytes go in; what comes out is a value or a typed fault, never a
//! panic, and nothing is allocated from a length that has not been checked. `docs/format.md` in the repository is the
//! specification; this crate is its implementation.
//!
//! # From bytes to records
//!
//! A log is a row of 32 KiB blocks; a block is a row of [chunks](chunk); a record is one chunk or several
//! ([`record`]). [`encode::LogEncoder`] writes a log, [`chunk::decode`] and [`record::decode`] read one, and [`checkpoint`] is the small
//! durable pointer beside the logs.
//!
//! ```
//! use wal_format::{chunk, encode::LogEncoder, record};
//! use wal_format::{Index, LogNumber, LogSeed, RecordKind, SeqNum, SeqRange, WalId};
//!
//! let seed = LogSeed::new(WalId::from_bytes([7; 16]), LogNumber::new(1));
//! let mut encoder = LogEncoder::new(seed);
//! let mut bytes = Vec::new();
//! let seqs = SeqRange::new(SeqNum::new(1), 1).ok_or("not empty")?;
//! let head = record::Head::new(RecordKind::new(1)?, Index::FIRST, seqs);
//! encoder.record(&mut bytes, &head, &[], b"payload");
//!
//! let chunk = chunk::decode(&seed, 0, &bytes)?;
//! let record = record::decode(chunk.payload)?;
//! assert_eq!((record.head, record.payload), (head, &b"payload"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

// First: what follows uses its macro.
#[macro_use]
mod seeded;

pub mod batch;
pub mod checkpoint;
pub mod chunk;
pub mod control;
pub mod encode;
mod fields;
pub mod flip;
pub mod guess;
pub mod header;
mod ids;
mod offsets;
pub mod record;
mod varint;

pub use batch::{BatchError, BatchOps, Op, WriteBatch};
pub use chunk::{ChunkFault, ChunkType, LogSeed};
pub use flip::FlippedBit;
pub use header::FileHeader;
pub use ids::{Epoch, FamilyId, Index, KindError, LogNumber, RecordKind, SeqNum, SeqRange, WalId};

/// Version of the format that this crate writes.
pub const FORMAT_VERSION: u16 = 1;

/// Lowest version of a reader that understands what this crate writes.
pub const LOWEST_READER_VERSION: u16 = 1;

/// Length of a block in bytes. A chunk never crosses a block, so that a reader can find its feet again after damage:
/// every block starts with a chunk. 32 KiB as in the LevelDB family: 0.02 % of headers, and at most 32 KiB lost to one
/// bad sector in a salvage.
pub const BLOCK_BYTES: usize = 32 * 1024;

/// Longest payload of a record in bytes (128 MiB): what the writer refuses above, and what a reader assembles at the most.
pub const PAYLOAD_BYTES_MAX: usize = 128 << 20;

/// Most families in one record (1024).
pub const RECORD_FAMILIES_MAX: usize = 1024;

/// Longest encoded record in bytes: the longest payload and the longest envelope around it.
pub const RECORD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + record::ENVELOPE_BYTES_MAX;
