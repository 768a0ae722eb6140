//! What a recovery, or a look without the lock, found: per log, with the reason and the proof.

use std::fmt;
use std::path::PathBuf;

use wal_format::checkpoint::SlotFault;
use wal_format::chunk::ChunkFault;
use wal_format::header::HeaderFault;
use wal_format::record::RecordFault;
use wal_format::{Epoch, FlippedBit, Index, LogNumber, SeqNum, SeqRange, WalId};
use wal_io::probe::Way;

use crate::recovery::RecoveryMode;

/// What holds for the whole directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Verdict {
    /// Everything that was ever written is there.
    Clean,
    /// Unacknowledged bytes at the end are cut off: normal after a crash.
    TornTail,
    /// Bytes that were provably synced are wrong or gone: never normal.
    Damaged,
}

/// What holds for one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LogVerdict {
    /// Whole.
    Clean,
    /// Ends in unacknowledged bytes, which are cut off, or lies behind a log that does.
    TornTail,
    /// Provably synced bytes are wrong or gone.
    Damaged,
    /// There should be such a log.
    Missing,
    /// Of another write-ahead log.
    Foreign,
    /// Needs a newer version.
    NewerFormat,
    /// An empty file, made ahead of its use.
    Prepared,
    /// Left over from a recovery that did not finish.
    Leftover,
    /// Jumped over by a later log: what it held stands there, or was never acknowledged.
    Abandoned,
    /// Deleted before, and back after a crash.
    Deleted,
}

/// Why reading a log stopped, or why a log is not clean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes are not a chunk.
    #[error(transparent)]
    Chunk(#[from] ChunkFault),
    /// The chunks do not make a record.
    #[error(transparent)]
    Record(#[from] RecordFault),
    /// The header is not one.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// A part of a record without its beginning, or a beginning without its end.
    #[error("parts of records in the wrong order")]
    FragmentOrder,
    /// The parts make a record that is too long.
    #[error("a record longer than {} bytes", wal_format::RECORD_BYTES_MAX)]
    RecordTooLong,
    /// A record is not the next one.
    #[error("record {found} follows where record {expected} should")]
    IndexGap {
        /// The index that should follow.
        expected: Index,
        /// The index that does.
        found: Index,
    },
    /// A sequence number goes back.
    #[error("sequence number {found} is below {floor}")]
    SequenceRegression {
        /// The lowest that may follow.
        floor: SeqNum,
        /// The one that does.
        found: SeqNum,
    },
    /// A promise speaks of bytes or records that are not there.
    #[error("a promise contradicts what stands before it")]
    PromiseContradiction,
    /// A seal is there but states other records or another digest.
    #[error("the seal contradicts what stands before it")]
    SealContradiction,
    /// A log that was sealed has no valid seal.
    #[error("the seal is missing or damaged")]
    SealMissing,
    /// There are bytes behind a seal.
    #[error("bytes behind the seal")]
    BehindSeal,
    /// The log ends before its successor says it does.
    #[error("the log ends at byte {found}, it went on to byte {expected}")]
    Short {
        /// Where the successor, or CHECKPOINT, says it ends.
        expected: u64,
        /// Where it ends.
        found: u64,
    },
    /// The content is not what the successor's header says it was.
    #[error("the content is not what the next log's header says it was (an older version of this file?)")]
    OtherContent,
    /// Records are gone that CHECKPOINT knows to have been durable.
    #[error("the records end before {found}, CHECKPOINT knows of all before {expected}")]
    BehindCheckpoint {
        /// Index after the last record that CHECKPOINT knows to be durable.
        expected: Index,
        /// Index after the last record found.
        found: Index,
    },
    /// The log proves that CHECKPOINT is older than it should be.
    #[error("CHECKPOINT is older than this log: was an old copy put back?")]
    StaleCheckpoint,
    /// The file is not there.
    #[error("the log is missing: put the file back")]
    Missing,
    /// The file is of another write-ahead log.
    #[error("belongs to write-ahead log {found}, this directory is {expected}")]
    Foreign {
        /// The identity of this directory.
        expected: WalId,
        /// The identity in the file.
        found: WalId,
    },
    /// The log lies behind a log that ends early.
    #[error("lies behind the torn end of log {0}")]
    BehindTorn(LogNumber),
    /// The file cannot be read there.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// What proves that bytes had been synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// A promise in the same log.
    Promise {
        /// Where it stands, in bytes.
        at: u64,
        /// What it covers, in bytes.
        durable_end: u64,
    },
    /// A seal in the same log.
    Seal {
        /// Where it stands, in bytes.
        at: u64,
    },
    /// The header of the next log, or a promise or seal in a later one.
    LaterLog(LogNumber),
    /// CHECKPOINT.
    Checkpoint,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promise { at, durable_end } => {
                write!(
                    f,
                    "the promise at byte {at} says that everything before byte {durable_end} was synced"
                )
            }
            Self::Seal { at } => {
                write!(f, "the seal at byte {at} was written after everything before it was synced")
            }
            Self::LaterLog(log) => write!(f, "log {log} was written after this was synced"),
            Self::Checkpoint => f.write_str("CHECKPOINT was written after this was synced"),
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Finding {
    /// The log.
    #[cfg_attr(feature = "serde", serde(serialize_with = "number"))]
    pub log: LogNumber,
    /// Its file.
    #[cfg_attr(feature = "serde", serde(serialize_with = "lossy_path"))]
    pub path: PathBuf,
    /// Where, in bytes.
    pub offset: u64,
    /// What is wrong.
    #[cfg_attr(feature = "serde", serde(serialize_with = "display"))]
    pub reason: Reason,
    /// What proves that it was once right.
    #[cfg_attr(feature = "serde", serde(serialize_with = "display_option"))]
    pub proof: Option<Proof>,
    /// The one bit that explains it, if there is one: it may help to find what broke, and nothing is decided by it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "flipped_option"))]
    pub flipped_bit: Option<FlippedBit>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at byte {}: {}", self.path.display(), self.offset, self.reason)?;
        if let Some(proof) = self.proof {
            write!(f, " ({proof})")?;
        }
        self.flipped_bit.map_or(Ok(()), |flipped| write!(f, "; {flipped}"))
    }
}

/// A slot of CHECKPOINT that cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSlot {
    /// What is wrong with it.
    pub fault: SlotFault,
    /// The one bit of the file that explains it, if there is one.
    pub flipped_bit: Option<FlippedBit>,
}

impl fmt::Display for BadSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)?;
        self.flipped_bit.map_or(Ok(()), |flipped| write!(f, ", {flipped}"))
    }
}

/// What is wrong with CHECKPOINT where the report goes on all the same.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointFault {
    pub(crate) what: String,
    pub(crate) flipped_bit: Option<FlippedBit>,
}

impl From<BadSlot> for CheckpointFault {
    fn from(bad: BadSlot) -> Self {
        Self { what: bad.to_string(), flipped_bit: bad.flipped_bit }
    }
}

impl From<String> for CheckpointFault {
    fn from(what: String) -> Self {
        Self { what, flipped_bit: None }
    }
}

/// What was found in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LogReport {
    /// The log.
    #[cfg_attr(feature = "serde", serde(serialize_with = "number"))]
    pub log: LogNumber,
    /// Its file.
    #[cfg_attr(feature = "serde", serde(serialize_with = "lossy_path"))]
    pub path: PathBuf,
    /// What holds for it.
    pub verdict: LogVerdict,
    /// Where reading stopped, in bytes.
    pub offset: u64,
    /// Why, if not because the log ends there.
    #[cfg_attr(feature = "serde", serde(serialize_with = "display_option"))]
    pub reason: Option<Reason>,
    /// What proves that it should go on.
    #[cfg_attr(feature = "serde", serde(serialize_with = "display_option"))]
    pub proof: Option<Proof>,
    /// The one bit that explains `reason`, if there is one.
    #[cfg_attr(feature = "serde", serde(serialize_with = "flipped_option"))]
    pub flipped_bit: Option<FlippedBit>,
    /// Records before `offset`.
    pub records: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Bytes behind `offset` that hold something and are not read.
    pub cut_bytes: u64,
    /// Index of the first record that this log holds or would hold.
    #[cfg_attr(feature = "serde", serde(serialize_with = "index_option"))]
    pub first_index: Option<Index>,
    /// Index after the last record.
    #[cfg_attr(feature = "serde", serde(serialize_with = "index_option"))]
    pub next_index: Option<Index>,
    /// Lowest sequence number; `None` if there are no records.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seq_option"))]
    pub first_seq: Option<SeqNum>,
    /// Highest sequence number; `None` if there are no records.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seq_option"))]
    pub last_seq: Option<SeqNum>,
    /// Whether it ends in a valid seal.
    pub sealed: bool,
    /// Everything in it was flushed when the directory was closed: what stands between its header and its seal was not read for this report, and a replay
    /// will not read it.
    pub skipped: bool,
    /// The writer generation that created it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "epoch_option"))]
    pub epoch: Option<Epoch>,
}

/// What a recovery, or a look without the lock, found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// What holds for the whole directory.
    pub verdict: Verdict,
    /// The mode it was opened in.
    pub mode: RecoveryMode,
    /// Where.
    #[cfg_attr(feature = "serde", serde(serialize_with = "lossy_path"))]
    pub path: PathBuf,
    /// Every log that exists or should, lowest number first.
    pub logs: Vec<LogReport>,
    /// What is damaged, in the order in which replay meets it. Default and strict recovery refuse if there is any.
    pub findings: Vec<Finding>,
    /// Records that can be read.
    pub records: u64,
    /// Index of the first of them.
    #[cfg_attr(feature = "serde", serde(serialize_with = "index"))]
    pub first_index: Index,
    /// Index after the last.
    #[cfg_attr(feature = "serde", serde(serialize_with = "index"))]
    pub next_index: Index,
    /// Lowest and highest sequence number of them.
    #[cfg_attr(feature = "serde", serde(serialize_with = "range_option"))]
    pub seqs: Option<SeqRange>,
    /// Unacknowledged bytes that were cut off.
    pub cut_bytes: u64,
    /// Records after the last proof, which recovery wrote again into the new log and synced there.
    pub rewritten_records: u64,
    /// Indices that salvage could not bring back, first and last of each hole.
    pub holes: Vec<(u64, u64)>,
    /// The log that recovery began.
    #[cfg_attr(feature = "serde", serde(serialize_with = "log_option"))]
    pub new_log: Option<LogNumber>,
    /// Files that recovery removed: leftovers and logs that were deleted or jumped over.
    pub removed: Vec<String>,
    /// Files in which recovery kept damaged bytes aside.
    pub quarantined: Vec<String>,
    /// What is wrong with a slot of CHECKPOINT, if one is bad; the other counts.
    pub checkpoint_fault: Option<String>,
    /// The one bit of CHECKPOINT that explains it, if there is one.
    #[cfg_attr(feature = "serde", serde(serialize_with = "flipped_option"))]
    pub checkpoint_flipped_bit: Option<FlippedBit>,
    /// Other names in the directory; never touched.
    pub other_files: Vec<String>,
    /// The writer generation: the one before, for a look without the lock.
    #[cfg_attr(feature = "serde", serde(serialize_with = "epoch"))]
    pub epoch: Epoch,
    /// How long it took until the records could be read, in microseconds.
    pub duration_micros: u64,
    /// How the files of new logs are written from now on; `None` for a look without the lock.
    #[cfg_attr(feature = "serde", serde(serialize_with = "way_option"))]
    pub way: Option<Way>,
    /// What the probe of the directory measured; `None` if the way was given.
    pub probe: Option<String>,
}

impl RecoveryReport {
    /// The verdict in one line, with the first finding.
    pub fn summary(&self) -> String {
        match (self.findings.split_first(), self.verdict) {
            (Some((first, [])), _) => first.to_string(),
            (Some((first, more)), _) => format!("{first}; and {} more", more.len()),
            (None, Verdict::TornTail) => {
                format!(
                    "{}: {} unacknowledged bytes at the end are torn",
                    self.path.display(),
                    self.cut_bytes
                )
            }
            (None, _) => format!("{}: clean", self.path.display()),
        }
    }
}

#[cfg(feature = "serde")]
mod ser {
    use std::fmt::Display;
    use std::path::Path;

    use serde::{Serialize, Serializer};
    use wal_format::{Epoch, FlippedBit, Index, LogNumber, SeqNum, SeqRange};
    use wal_io::probe::Way;

    pub(super) fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// As text: a path that is not UTF-8 is no reason to fail.
    pub(super) fn lossy_path<S: Serializer>(value: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&value.display())
    }

    pub(super) fn display_option<S: Serializer>(
        value: &Option<impl Display>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(serializer)
    }

    macro_rules! plain {
        ($($name:ident $option:ident $type:ty),*) => {$(
            pub(super) fn $name<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(value.get())
            }

            pub(super) fn $option<S: Serializer>(value: &Option<$type>, serializer: S) -> Result<S::Ok, S::Error> {
                value.map(|value| value.get()).serialize(serializer)
            }
        )*};
    }
    plain!(number log_option LogNumber, index index_option Index, epoch epoch_option Epoch);

    pub(super) fn seq_option<S: Serializer>(
        value: &Option<SeqNum>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(SeqNum::get).serialize(serializer)
    }

    pub(super) fn range_option<S: Serializer>(
        value: &Option<SeqRange>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|range| (range.first().get(), range.last().get())).serialize(serializer)
    }

    #[derive(Serialize)]
    struct Flipped {
        offset: u64,
        bit: u8,
    }

    pub(super) fn flipped_option<S: Serializer>(
        value: &Option<FlippedBit>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|FlippedBit { offset, bit }| Flipped { offset, bit }).serialize(serializer)
    }

    pub(super) fn way_option<S: Serializer>(value: &Option<Way>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Way::name).serialize(serializer)
    }
}

#[cfg(feature = "serde")]
use ser::{
    display, display_option, epoch, epoch_option, flipped_option, index, index_option, log_option,
    lossy_path, number, range_option, seq_option, way_option,
};
