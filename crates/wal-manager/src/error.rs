//! The one error type. Every error says where and what to do, and is cheap to clone, so that each waiter gets the real cause.

use std::path::PathBuf;
use std::sync::Arc;

use wal_format::{
    FORMAT_VERSION, FamilyId, LogNumber, PAYLOAD_BYTES_MAX, RECORD_FAMILIES_MAX, SeqNum, WalId,
};
use wal_io::IoError;

use crate::report::{BadSlot, Reason, RecoveryReport};

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused. Before the log is open: mend the cause and open again. Afterwards, see [`Error::Poisoned`].
    #[error(transparent)]
    Io(#[from] IoError),
    /// Another writer, in this process or another, has the directory open.
    #[error("{} is locked by another writer: close that one first", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Bytes that the log itself proves were synced are wrong or gone.
    #[error("{}; nothing was changed; look with `walctl verify`, restore from a backup, or recover up to the damage with RecoveryMode::PointInTime", .0.summary())]
    Damaged(Arc<RecoveryReport>),
    /// [`RecoveryMode::Strict`](crate::RecoveryMode::Strict) refuses a torn tail too.
    #[error("{}; nothing was changed; RecoveryMode::Default would cut the unacknowledged tail", .0.summary())]
    NotClean(Arc<RecoveryReport>),
    /// A log, or CHECKPOINT, of another write-ahead log is in this directory.
    #[error("{} belongs to write-ahead log {found}, this directory is {expected}: is this the right directory?", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The identity of this directory.
        expected: WalId,
        /// The identity in the file.
        found: WalId,
    },
    /// A newer version wrote this.
    #[error("{} is of a newer format (version {version}, this is {FORMAT_VERSION}): use a newer version; nothing was changed", .path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version, or the version's part that is not understood.
        version: u16,
    },
    /// The engine's configuration is not the one that wrote the log.
    #[error(
        "the log was written under configuration fingerprint {found:#018x}, not {expected:#018x}: open it with the configuration that wrote it"
    )]
    ConfigMismatch {
        /// From the options.
        expected: u64,
        /// From CHECKPOINT.
        found: u64,
    },
    /// Neither slot of CHECKPOINT can be believed.
    #[error("{}: both slots are bad ({first}; {second}): the logs are untouched; rebuild it with `walctl repair`", .path.display())]
    CheckpointDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with the first slot.
        first: BadSlot,
        /// What is wrong with the second slot.
        second: BadSlot,
    },
    /// There are logs but no CHECKPOINT.
    #[error("{} is missing, but there are logs: is this the whole directory? Put it back, or rebuild it with `walctl repair`", .path.display())]
    CheckpointMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file is named like a log, but not as a log is named.
    #[error("{} is not the name of a log: log {log} is named {expected}; move one of them away", .path.display())]
    BadLogName {
        /// The file.
        path: PathBuf,
        /// The number in its name.
        log: LogNumber,
        /// The one right name.
        expected: String,
    },
    /// A log was deleted by its writer while it was read without the lock, and its file may hold something else by now. What was handed out is
    /// right; look again for what is left.
    #[error("log {wanted} was deleted while it was read; the oldest that is left is {oldest}: look again")]
    Gap {
        /// The log that was being read.
        wanted: LogNumber,
        /// The oldest one that is left.
        oldest: LogNumber,
    },
    /// A log is not any more what it was a moment ago: it was damaged, or deleted by its writer, while it was read.
    #[error("log {log} changed at byte {offset} while it was read ({reason}): look again")]
    ChangedWhileReading {
        /// The log.
        log: LogNumber,
        /// Where, in bytes.
        offset: u64,
        /// What is there now.
        reason: Box<Reason>,
    },
    /// A writer changes the directory faster than a reader without the lock can look at it.
    #[error("{} is changed faster than it can be read: try again", .path.display())]
    Restless {
        /// The directory.
        path: PathBuf,
    },
    /// A record without payload.
    #[error("a record needs at least one byte of payload")]
    EmptyRecord,
    /// A record that is too long.
    #[error("a payload of {bytes} bytes is over the limit of {PAYLOAD_BYTES_MAX}: split it")]
    RecordTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The families of a record are none, too many, out of range, or not ascending.
    #[error("a record needs 1 to {RECORD_FAMILIES_MAX} families, ascending, none above {max}", max = FamilyId::MAX)]
    Families,
    /// A record that covers no sequence number.
    #[error("a record needs at least one sequence number")]
    NoSequence,
    /// A sequence number that is not above every one before.
    #[error("sequence number {given} goes back: the lowest that may come next is {floor}")]
    SequenceRegression {
        /// The number given.
        given: SeqNum,
        /// The lowest that is allowed.
        floor: SeqNum,
    },
    /// 64 bits of sequence numbers, indices or log numbers are used up.
    #[error("the {0} numbers are used up")]
    Exhausted(&'static str),
    /// The engine says it flushed what was never appended.
    #[error("family {family} cannot be flushed through {given}: the newest sequence number is {newest:?}")]
    FlushedBeyondAppended {
        /// The family.
        family: FamilyId,
        /// The number given.
        given: SeqNum,
        /// The newest number issued.
        newest: Option<SeqNum>,
    },
    /// The flushed sequence number of a family went back.
    #[error("family {family} is flushed through {recorded} already, {given} goes back")]
    FlushedRegression {
        /// The family.
        family: FamilyId,
        /// The number given.
        given: SeqNum,
        /// The number on record.
        recorded: SeqNum,
    },
    /// More families with a flushed sequence number than CHECKPOINT has room for.
    #[error(
        "more than {} families are flushed: CHECKPOINT has no room for family {family}",
        wal_format::checkpoint::FAMILIES_MAX
    )]
    TooManyFamilies {
        /// The family that does not fit.
        family: FamilyId,
    },
    /// An option is out of its range.
    #[error("option {option} is {given}: {allowed}")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: String,
    },
    /// A write or a sync failed, or a thread panicked inside the log. Nothing is acknowledged any more: mend the cause, then
    /// [`Wal::resume`](crate::Wal::resume), or open the directory again.
    #[error("the log stopped after a failure, resume it or open it again: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// The system has no thread for the log, which needs one for [`Options::sync_interval`](crate::Options::sync_interval) and for whoever
    /// awaits a ticket.
    #[error(
        "no thread could be started for the log: {source}; raise the limit, or do without a sync interval and without awaiting"
    )]
    Thread {
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// A thread panicked while it worked inside the log.
    #[error("a thread panicked inside the log")]
    Panicked,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// [`Recovery::finish`](crate::Recovery::finish) before every record was read.
    #[error("replay has not ended: read Recovery::records to its end, or say finish_without_replay")]
    ReplayIncomplete,
}

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The system failed; mend the cause, open again.
    Io,
    /// There is no such directory.
    NotFound,
    /// What was to be read was deleted meanwhile; look again.
    Gap,
    /// Somebody else has it open; wait or close that one.
    Locked,
    /// Acknowledged bytes are damaged, missing or foreign; a person must decide.
    Damage,
    /// A newer version is needed.
    NewerFormat,
    /// The caller's input is refused; nothing was written; change it.
    Invalid,
    /// The log stopped; resume it or open again.
    Poisoned,
    /// The log was closed.
    Closed,
}

impl Error {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) if error.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Io(_) | Self::Restless { .. } | Self::Thread { .. } => ErrorKind::Io,
            Self::Gap { .. } => ErrorKind::Gap,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Damaged(_)
            | Self::NotClean(_)
            | Self::Foreign { .. }
            | Self::CheckpointDamaged { .. }
            | Self::CheckpointMissing { .. }
            | Self::ChangedWhileReading { .. }
            | Self::BadLogName { .. } => ErrorKind::Damage,
            Self::NewerFormat { .. } => ErrorKind::NewerFormat,
            Self::ConfigMismatch { .. }
            | Self::EmptyRecord
            | Self::RecordTooLarge { .. }
            | Self::Families
            | Self::NoSequence
            | Self::SequenceRegression { .. }
            | Self::Exhausted(_)
            | Self::FlushedBeyondAppended { .. }
            | Self::FlushedRegression { .. }
            | Self::TooManyFamilies { .. }
            | Self::InvalidOption { .. }
            | Self::ReplayIncomplete => ErrorKind::Invalid,
            Self::Poisoned { .. } | Self::Panicked => ErrorKind::Poisoned,
            Self::Closed => ErrorKind::Closed,
        }
    }
}
