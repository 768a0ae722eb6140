//! The write-ahead log of an LSM storage engine.
//!
//! Numbered log files, rotation when the memtable is sealed, deletion by flushed sequence number, recovery of a directory after a
//! crash, and proof that no acknowledged record is missing.
//!
//! ```
//! use wal_manager::{FamilyId, Wal, WriteBatch};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("wal");
//! // Open: takes the lock, decides what to believe, makes it durable.
//! let recovery = Wal::options(&path).recover()?;
//! for record in recovery.records() {
//!     for op in record?.ops()? {
//!         let _apply_to_the_memtable = op?;
//!     }
//! }
//! // Only now can anything be appended.
//! let (wal, report) = recovery.finish()?;
//! assert_eq!(report.records, 0);
//!
//! let mut batch = WriteBatch::new();
//! batch.put(FamilyId::DEFAULT, b"key", b"value")?;
//! let appended = wal.append(&batch)?; // survives a power cut from here on
//!
//! wal.rotate()?; // with the memtable
//! wal.mark_flushed(FamilyId::DEFAULT, appended.seqs.last())?; // once its table is durable: logs that nobody needs go
//! wal.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to find what
//!
//! | you want to | look at |
//! | --- | --- |
//! | open, and replay | [`Wal::options`], [`Options::recover`], [`Recovery::records`], [`Recovery::finish`]; what is done about damage: [`RecoveryMode`] |
//! | append | [`Wal::append`] of a [`WriteBatch`] or a [`Record`]; [`Durability`]; many at once: [`Wal::submit`] and [`Ticket`] |
//! | let the log forget | [`Wal::rotate`], [`Wal::mark_flushed`]; why it does not: [`Wal::why_kept`], [`Options::on_pressure`] |
//! | know what to do about an error | [`ErrorKind`]; after a failed write or sync: [`Wal::resume`]; what is full: [`Cap`] |
//! | read while it is written | [`Wal::follow`]; from another process [`Options::follow`]; a look without the lock [`Options::inspect`] |
//! | back up, restore, repair | [`Wal::hold`], [`Wal::copy_to`], [`Options::archive`], [`Wal::restore`], [`Options::repair`] |
//! | await | [`Ticket`], [`Watch::changed`], [`Follower::next_async`]: with any executor |
//! | test an engine on a disk that crashes | [`SimStorage`] and [`io::sim`] |
//! | store elsewhere | [`Storage`], and the rules in `conformance` of [`io`] |
//! | measure | [`metrics`] |
//!
//! `docs/guide.md` in the repository leads from an empty directory to an engine that recovers; `examples` beside this crate has a program for each row.
//!
//! # Which call returns after what, and what it survives
//!
//! | call | returns after | death of the process | power cut |
//! | --- | --- | --- | --- |
//! | [`Wal::append_with`] `Buffered`, [`Wal::submit`] | the record is ordered and encoded in memory | lost | lost |
//! | [`Wal::append_with`] `Written` | `write` of its group | survives | lost |
//! | [`Wal::append`] (`Synced`), [`Ticket::wait`], [`Ticket`]`.await` | `write` and `fdatasync` of its group | survives | survives |
//! | [`Wal::sync`] | `fdatasync` of everything accepted before | survives | survives |
//! | [`Wal::resume`] | `fdatasync` of the new log with everything accepted before | survives | survives |
//! | [`Wal::rotate`] | `fdatasync` of the old log | survives | survives |
//! | [`Options::recover`] | every record that it will hand out is synced, and so is the directory's own name | survives | survives |
//! | [`Wal::mark_flushed`], [`Wal::drop_family`] | both slots of CHECKPOINT are synced | the mark survives | the mark survives |
//! | [`Wal::hold`], [`Wal::advance_hold`], [`Wal::release_hold`] | both slots of CHECKPOINT are synced | the hold survives | the hold survives |
//! | [`Wal::copy_to`], [`Wal::restore`] | everything in the new directory, and then its name, is synced | the copy survives | the copy survives |
//! | [`Follower`], [`DirectoryFollower`] | the record that is handed out is durable | survives | survives |
//! | [`Wal::close`] | the seal and CHECKPOINT are synced | survives | survives |
//!
//! What nobody syncs is synced by the log itself: at once when there is much of it ([`Options::sync_bytes`]), and in time with
//! [`Options::sync_interval`].
//!
//! "Lost" means: may be lost, but only together with everything after it. What recovery finds is always a prefix of what was
//! appended, and holds every record that was acknowledged at a level that the crash spares.
//!
//! # What cannot be proven
//! The bytes after the last promise of a log that was not closed cleanly: if *they* rot at rest, after the disk confirmed them and before
//! the next group, [`Options::idle_promise`] or [`Wal::close`], recovery sees a torn tail. The first group of a log that is wiped together with its header, before
//! CHECKPOINT's next update. And a whole directory put back in an older state.
//!
//! # Watching it
//! [`metrics`] has every metric; `tracing` gets spans `wal.recover`, `wal.rotate`, `wal.gc`, `wal.resume`, `wal.copy` and events for torn tails,
//! damage, failures and stalls, and at level trace for each append and sync. Install recorder and subscriber before you open the log.
//! [`Options::on_stall`] tells of a disk that hangs, while it does.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

// First: what follows uses its macro.
#[macro_use]
mod seeded;

mod archive;
mod background;
mod blank;
mod boundary;
mod buffer;
mod caps;
mod checkpoint;
mod clock;
mod commit;
mod copy;
mod duplicates;
mod error;
mod evidence;
mod follow;
mod gather;
mod glance;
mod holds;
mod housekeeping;
mod image;
mod inner;
mod inspect;
mod keepers;
mod kept;
pub mod metrics;
mod names;
mod options;
mod pressure;
mod read;
mod record;
mod recovery;
mod repair;
mod replay;
mod report;
mod reserve;
mod restore;
mod resume;
mod retention;
mod rotate;
mod state;
mod sync;
mod ticket;
mod wal;
mod watch;
mod watchdog;
mod window;

pub use wal_format::checkpoint::{Checkpoint, CleanEnd, FAMILIES_MAX, HOLD_NAME_BYTES_MAX, HOLDS_MAX, Hold};
pub use wal_format::{
    BatchError, BatchOps, Epoch, FORMAT_VERSION, FamilyId, FlippedBit, Index, KindError, LogNumber, Op,
    PAYLOAD_BYTES_MAX, RECORD_FAMILIES_MAX, RecordKind, SeqNum, SeqRange, WalId, WriteBatch,
};
pub use wal_io as io;
pub use wal_io::Storage;
pub use wal_io::fs::FsStorage;
pub use wal_io::mem::MemStorage;
pub use wal_io::sim::SimStorage;

pub use archive::ArchiveLimits;
pub use caps::{CAP_BYTES_MIN, CAP_LOGS_MIN, Cap, DISK_RETRY};
pub use clock::{Bell, Clock, SystemClock};
pub use commit::{GROUP_BYTES, GROUP_BYTES_MAX};
pub use copy::{CopiedLog, CopyReport};
pub use duplicates::{WINDOW_COUNT_MAX, WINDOW_RECORD_BYTES, Window};
pub use error::{Error, ErrorKind, Result};
pub use follow::{DirectoryFollower, FollowFrom, Follower, FollowerStream, POLL_INTERVAL_DEFAULT};
pub use glance::Glance;
pub use holds::HoldInfo;
pub use inspect::Inspection;
pub use keepers::KeeperKind;
pub use kept::{Keeper, Kept};
pub use options::{
    IDLE_PROMISE_DEFAULT, KEEPER_WARNING_DEFAULT, LOG_BYTES_DEFAULT, LOG_BYTES_MAX, LOG_BYTES_MIN, Options,
    Progress, RECYCLED_LOGS_DEFAULT, SYNC_BYTES_DEFAULT, SYNC_BYTES_MAX, SYNC_BYTES_MIN,
};
pub use pressure::Pressure;
pub use record::{Appended, Durability, Position, Record};
pub use recovery::{Recovery, RecoveryMode};
pub use repair::RepairReport;
pub use replay::{FamilyList, LentRecord, Records, RecoveredRecord};
pub use report::{BadSlot, Finding, LogReport, LogVerdict, Proof, Reason, RecoveryReport, Verdict};
pub use restore::RestorePoint;
pub use retention::{Deletion, LogInfo, LogState};
pub use rotate::SealedLog;
pub use ticket::Ticket;
pub use wal::Wal;
pub use watch::Watch;
pub use watchdog::{DiskWork, Stall};

/// The example of this crate's README, compiled and run with the doc-tests; that of the repository's stands in `wal-tests`, because it is not in the
/// package.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
