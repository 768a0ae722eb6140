//! The one error type. Every error says where and what to do, and is cheap to clone, so that each waiter gets the real cause.

use std::io::ErrorKind::{QuotaExceeded, StorageFull};
use std::path::PathBuf;
use std::sync::Arc;

use wal_format::{
    FORMAT_VERSION, FamilyId, LogNumber, PAYLOAD_BYTES_MAX, RECORD_FAMILIES_MAX, SeqNum, SeqRange, WalId,
};
use wal_io::IoError;

use crate::caps::Cap;
use crate::report::{BadSlot, Reason, RecoveryReport};
use crate::restore::RestorePoint;

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
    #[error("{}; nothing was changed; look with `walctl verify`, restore from a backup, or recover up to the damage: `walctl repair --dry-run`, or RecoveryMode::PointInTime", .0.summary())]
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
    #[error(
        "log {wanted} was deleted by its writer; the oldest that is left is {oldest}: look again, or begin anew with a copy"
    )]
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
    /// There is no room. Nothing was written, and no number was given: the next append that is accepted gets the ones that this would have had.
    /// Flush and [`mark_flushed`](crate::Wal::mark_flushed), or make space on the disk, and try again; [`Options::cap_wait`](crate::Options::cap_wait)
    /// waits for that.
    #[error("{}", full(*cap, *limit, *used, *needed, cause.as_deref()))]
    Full {
        /// Which cap. If several are reached, the first in the order of [`Cap`].
        cap: Cap,
        /// The cap, in bytes or in logs. For the disk, which has none that is known: what is used.
        limit: u64,
        /// What counts against it now, in the same unit; for the disk, the bytes of the live logs.
        used: u64,
        /// What would have been added, in the same unit; 0 if it is not known.
        needed: u64,
        /// What the system said, for the disk.
        cause: Option<Arc<IoError>>,
    },
    /// 64 bits of sequence numbers, indices or log numbers are used up.
    #[error("the {0} numbers are used up")]
    Exhausted(&'static str),
    /// The engine says it flushed what was never appended.
    #[error("family {family} cannot be flushed through {given}: {}", newest_is(*.newest))]
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
    /// A mark or a hold would stand inside a record.
    #[error(
        "{given} stands inside the record of the sequence numbers {} to {}: a record is flushed, or held, as a whole",
        .record.first(), .record.last()
    )]
    InsideRecord {
        /// The number given.
        given: SeqNum,
        /// The numbers of the record.
        record: SeqRange,
    },
    /// More families with a flushed sequence number than CHECKPOINT has room for.
    #[error(
        "more than {} families are flushed: CHECKPOINT has no room for family {family}; drop one that is gone",
        wal_format::checkpoint::FAMILIES_MAX
    )]
    TooManyFamilies {
        /// The family that does not fit.
        family: FamilyId,
    },
    /// The name of a hold is none.
    #[error(
        "{name:?} is no name for a hold: 1 to {} bytes, no control characters",
        wal_format::checkpoint::HOLD_NAME_BYTES_MAX
    )]
    InvalidHoldName {
        /// The name.
        name: String,
    },
    /// There is a hold of this name.
    #[error("there is a hold {name:?} already: advance it, or release it first")]
    HoldExists {
        /// The name.
        name: String,
    },
    /// There is no hold of this name.
    #[error("there is no hold {name:?}: was it released?")]
    UnknownHold {
        /// The name.
        name: String,
    },
    /// More holds than CHECKPOINT has room for.
    #[error(
        "there are {} holds already, lost ones included: release one before {name:?}",
        wal_format::checkpoint::HOLDS_MAX
    )]
    TooManyHolds {
        /// The hold that does not fit.
        name: String,
    },
    /// A hold went back.
    #[error("hold {name:?} is at {recorded} already, {given} goes back")]
    HoldRegression {
        /// The name.
        name: String,
        /// The number given.
        given: SeqNum,
        /// The number on record.
        recorded: SeqNum,
    },
    /// A hold would begin behind everything appended, or behind its own end.
    #[error("hold {name:?} cannot begin at {given}: {highest} is the highest it can")]
    HoldAhead {
        /// The name.
        name: String,
        /// The number given.
        given: SeqNum,
        /// The highest that is allowed.
        highest: SeqNum,
    },
    /// What a hold was to keep may be gone: it was dropped because it went over its budget, or it came too late.
    #[error(
        "hold {name:?} lost its place: it needs sequence number {wanted}, and only from {oldest} on is everything there; begin anew"
    )]
    HoldLost {
        /// The name.
        name: String,
        /// The lowest number that it was to keep.
        wanted: SeqNum,
        /// The lowest from which on nothing is deleted.
        oldest: SeqNum,
    },
    /// A copy, a restore or an archive is to go where there is something already.
    #[error("{} is not empty: choose an empty directory, or one that is not there yet", .path.display())]
    TargetNotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A log is to be archived, or taken from an archive, that is not the one of this number there.
    #[error("{} is another log {log}, of another time of this write-ahead log: a directory that was restored or copied needs an archive of its own", .path.display())]
    ArchiveConflict {
        /// The file.
        path: PathBuf,
        /// The number.
        log: LogNumber,
    },
    /// A log that a restore needs is in none of its sources.
    #[error(
        "log {missing} is missing between those that are there: name the directory that holds it, or leave out what lies before it"
    )]
    ArchiveGap {
        /// The log.
        missing: LogNumber,
    },
    /// A restore cannot go to its point.
    #[error("cannot restore to {to}: {why}")]
    RestorePoint {
        /// The point.
        to: RestorePoint,
        /// Why not.
        why: &'static str,
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
    /// [`Wal::resume`](crate::Wal::resume), or open the directory again. If the cause is a full disk, the log goes on by itself once there is space.
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
    /// There is no room; nothing was written; flush and mark, or make space, and try again.
    Full,
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
            Self::Gap { .. } | Self::HoldLost { .. } => ErrorKind::Gap,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Damaged(_)
            | Self::NotClean(_)
            | Self::Foreign { .. }
            | Self::CheckpointDamaged { .. }
            | Self::CheckpointMissing { .. }
            | Self::ChangedWhileReading { .. }
            | Self::ArchiveConflict { .. }
            | Self::ArchiveGap { .. }
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
            | Self::InsideRecord { .. }
            | Self::TooManyFamilies { .. }
            | Self::InvalidHoldName { .. }
            | Self::HoldExists { .. }
            | Self::UnknownHold { .. }
            | Self::TooManyHolds { .. }
            | Self::HoldRegression { .. }
            | Self::HoldAhead { .. }
            | Self::TargetNotEmpty { .. }
            | Self::RestorePoint { .. }
            | Self::InvalidOption { .. }
            | Self::ReplayIncomplete => ErrorKind::Invalid,
            Self::Poisoned { .. } | Self::Panicked => ErrorKind::Poisoned,
            Self::Full { .. } => ErrorKind::Full,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// What the system said if it is that there is no space: on the disk, or in somebody's quota.
    pub(crate) fn no_space(&self) -> Option<&IoError> {
        match self {
            Self::Io(error) if matches!(error.kind(), StorageFull | QuotaExceeded) => Some(error),
            Self::Full { cause, .. } => cause.as_deref(),
            Self::Poisoned { cause } => cause.no_space(),
            _ => None,
        }
    }
}

/// What [`Error::Full`] says.
fn full(cap: Cap, limit: u64, used: u64, needed: u64, cause: Option<&IoError>) -> String {
    match (cap, cause) {
        (Cap::Bytes, _) => format!(
            "the log is full: {used} bytes are live, {needed} more are needed, and cap_bytes is {limit}: flush and mark_flushed, or raise the cap"
        ),
        (Cap::Logs, _) => format!(
            "the log is full: {used} logs are live, and cap_logs is {limit}: flush and mark_flushed, or raise the cap"
        ),
        (Cap::Disk, Some(cause)) => format!(
            "the disk is full: {cause}; the log goes on by itself once there is space: flush and mark_flushed, or make some"
        ),
        (Cap::Disk, None) => "the disk is full; the log goes on by itself once there is space".to_owned(),
    }
}

/// What [`Error::FlushedBeyondAppended`] says.
fn newest_is(newest: Option<SeqNum>) -> String {
    newest.map_or_else(
        || "nothing was ever appended".to_owned(),
        |newest| format!("{newest} is the newest there is"),
    )
}
