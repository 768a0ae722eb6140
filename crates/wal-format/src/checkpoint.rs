//! CHECKPOINT: the small durable pointer beside the logs.
//!
//! Two slots in one file, [`SLOT_BYTES`] apart, each whole by itself; the one with the higher version counts (rules CK1, CK2).
//!
//! ```text
//! crc32 u32 | length u32 | magic [8] | format version u16 | lowest reader u16 | version u64 | WAL id [16] | epoch u64
//!   | highest u64 | lowest u64 | active u64 | next index u64 | sequence floor u64 | sealed through u64
//!   | clean end: log u64, end u64, next index u64 | config fingerprint u64 | families u32, each: family u32, flushed u64
//!   | holds u32, each: flags u8, name length u8, name, from u64, to u64, budget u64, since u64
//!   | with a clean end: flushed logs u32, each: first u64, last u64
//! ```
//!
//! A slot may end behind the families: then there are no holds. It may end behind the holds: then no log is known to be flushed.
//!
//! The checksum is seeded with the slot's number and covers the length and all that follows it, to the length.

use std::collections::{BTreeMap, BTreeSet};

use crate::fields::Fields;
use crate::{Epoch, FORMAT_VERSION, FamilyId, Index, LOWEST_READER_VERSION, LogNumber, SeqNum, WalId};

/// Distance between the slots in bytes: enough for [`FAMILIES_MAX`] families, and far enough that no sector holds both.
pub const SLOT_BYTES: usize = 64 * 1024;

/// Most families with a flushed sequence number (4096).
pub const FAMILIES_MAX: usize = 4096;

/// Most holds (64).
pub const HOLDS_MAX: usize = 64;

/// Longest name of a hold in bytes (64).
pub const HOLD_NAME_BYTES_MAX: usize = 64;

/// Most ranges of logs of which a clean end says that they are flushed (512).
pub const FLUSHED_RANGES_MAX: usize = 512;

/// First bytes of a slot, behind checksum and length.
pub const MAGIC: [u8; 8] = *b"\x89WALCK\x1a\n";

pub(crate) const FIXED_BYTES: usize = 4 + 4 + 8 + 2 + 2 + 8 + 16 + 11 * 8 + 4;
const FAMILY_BYTES: usize = 4 + 8;
const HOLD_BYTES: usize = 1 + 1 + 4 * 8;
const RANGE_BYTES: usize = 2 * 8;
const FULL_BYTES: usize = FIXED_BYTES
    + FAMILIES_MAX * FAMILY_BYTES
    + 4
    + HOLDS_MAX * (HOLD_BYTES + HOLD_NAME_BYTES_MAX)
    + 4
    + FLUSHED_RANGES_MAX * RANGE_BYTES;
const _: () = assert!(FULL_BYTES <= SLOT_BYTES, "a full slot fits");

/// Beside the number of a family: it was dropped.
const DROPPED: u32 = 1 << 31;

const HOLD_TO: u8 = 1;
const HOLD_BUDGET: u8 = 2;
const HOLD_LOST: u8 = 4;

/// Which of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The first, at the start of the file.
    A,
    /// The second, [`SLOT_BYTES`] behind.
    B,
}

impl Slot {
    /// Both, in the order in which an update writes them.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// Offset in the file in bytes.
    pub const fn offset(self) -> u64 {
        match self {
            Self::A => 0,
            Self::B => SLOT_BYTES as u64,
        }
    }

    /// The other slot.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(match self {
            Self::A => b"slot A",
            Self::B => b"slot B",
        });
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// What CHECKPOINT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts the updates; the slot with the higher one is newer.
    pub version: u64,
    /// Identity of the write-ahead log.
    pub wal_id: WalId,
    /// Generation of the writer.
    pub epoch: Epoch,
    /// Highest log number that exists; 0 before the first log.
    pub highest: LogNumber,
    /// Lowest log number that is live. What is below is deleted, and is removed if it reappears.
    pub lowest: LogNumber,
    /// The log that was being written.
    pub active: LogNumber,
    /// Index after the last durable record, exactly, at the time of writing (rule CK4).
    pub next_index: Index,
    /// No later sequence number is below this.
    pub seq_floor: SeqNum,
    /// Every live log up to this one has a durable seal; 0 if none is known to.
    pub sealed_through: LogNumber,
    /// How the last writer closed, if it closed cleanly and nothing was opened since.
    pub clean_end: Option<CleanEnd>,
    /// The engine's fingerprint of its configuration; 0 if it has none.
    pub config_fingerprint: u64,
    /// Per family, the sequence number up to which everything is flushed.
    pub flushed: BTreeMap<FamilyId, SeqNum>,
    /// Families that were dropped. Each has a mark, which says up to where nothing of it is needed, and which goes with the last log that holds
    /// a record of it.
    pub dropped: BTreeSet<FamilyId>,
    /// Who needs logs though every family in them is flushed, by name. At most [`HOLDS_MAX`]; see [`hold_name_is_valid`].
    pub holds: BTreeMap<String, Hold>,
}

/// A hold: logs with these sequence numbers are not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The lowest sequence number that is needed.
    pub from: SeqNum,
    /// The highest; `None`: everything from `from` on.
    pub to: Option<SeqNum>,
    /// How many bytes of logs it may hold back that nobody else needs; `None`: any number.
    pub budget: Option<u64>,
    /// Microseconds since 1970 when it was made.
    pub since_micros: u64,
    /// It went over its budget and holds nothing any more.
    pub lost: bool,
}

/// Whether a hold may have this name: 1 to [`HOLD_NAME_BYTES_MAX`] bytes, no control characters.
pub fn hold_name_is_valid(name: &str) -> bool {
    (1..=HOLD_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Where a cleanly closed log ended (rule PR5), and what of it nobody has to replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanEnd {
    /// The last log.
    pub log: LogNumber,
    /// Offset in bytes of its seal.
    pub end: u64,
    /// Index after the last record.
    pub next_index: Index,
    /// The live logs in them are flushed: every record in every family that it touches. Ascending, with numbers between them, none above `log`; at
    /// most [`FLUSHED_RANGES_MAX`]. Of a log that is in none of them nothing is said.
    pub flushed_logs: Vec<LogRange>,
}

impl CleanEnd {
    /// Whether it says that everything in this log is flushed.
    pub fn is_flushed(&self, log: LogNumber) -> bool {
        let at = self.flushed_logs.partition_point(|range| range.last < log);
        self.flushed_logs.get(at).is_some_and(|range| range.first <= log)
    }
}

/// Logs with neighbouring numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// The first.
    pub first: LogNumber,
    /// The last.
    pub last: LogNumber,
}

/// Why a slot cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SlotFault {
    /// The file ends before the slot does.
    #[error("the slot is cut short")]
    Truncated,
    /// The slot's length is impossible.
    #[error("slot length {length} is impossible")]
    Length {
        /// The stored length.
        length: u32,
    },
    /// The checksum is wrong.
    #[error("the slot's checksum is {stored:#010x} but the bytes give {computed:#010x}")]
    Checksum {
        /// As it stands in the file.
        stored: u32,
        /// As the bytes say.
        computed: u32,
    },
    /// The checksum is right, but the content contradicts itself.
    #[error("the slot's content is malformed")]
    Content,
    /// The checksum is right, but a newer version wrote it.
    #[error(
        "CHECKPOINT version {version} needs a reader of version {lowest_reader}, this is {FORMAT_VERSION}"
    )]
    NewerFormat {
        /// Version of the slot.
        version: u16,
        /// Lowest version that may read it.
        lowest_reader: u16,
    },
}

impl Checkpoint {
    /// The content of a directory's first CHECKPOINT: no log yet.
    pub fn new(wal_id: WalId) -> Self {
        Self {
            version: 1,
            wal_id,
            epoch: Epoch::new(0),
            highest: LogNumber::new(0),
            lowest: LogNumber::new(1),
            active: LogNumber::new(0),
            next_index: Index::FIRST,
            seq_floor: SeqNum::new(0),
            sealed_through: LogNumber::new(0),
            clean_end: None,
            config_fingerprint: 0,
            flushed: BTreeMap::new(),
            dropped: BTreeSet::new(),
            holds: BTreeMap::new(),
        }
    }

    /// The bytes of the slot. At most [`FAMILIES_MAX`] families, [`HOLDS_MAX`] holds and [`FLUSHED_RANGES_MAX`] ranges of flushed logs fit; the
    /// caller refuses more, and bad names, before it gets here.
    pub fn encode(&self, slot: Slot) -> Vec<u8> {
        let holds: usize = self.holds.keys().map(|name| HOLD_BYTES + name.len()).sum();
        let ranges = self.clean_end.as_ref().map_or(0, |clean| 4 + clean.flushed_logs.len() * RANGE_BYTES);
        let length = FIXED_BYTES + self.flushed.len() * FAMILY_BYTES + 4 + holds + ranges;
        let mut bytes = Vec::with_capacity(length);
        // A slot is far below 4 GiB.
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&LOWEST_READER_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(self.wal_id.as_bytes());
        let clean = self.clean_end.as_ref();
        let clean = clean.map_or([0; 3], |clean| [clean.log.get(), clean.end, clean.next_index.get()]);
        let numbers = [
            self.epoch.get(),
            self.highest.get(),
            self.lowest.get(),
            self.active.get(),
            self.next_index.get(),
            self.seq_floor.get(),
            self.sealed_through.get(),
        ];
        for number in numbers.into_iter().chain(clean).chain([self.config_fingerprint]) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&u32::try_from(self.flushed.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (family, flushed) in &self.flushed {
            let dropped = if self.dropped.contains(family) { DROPPED } else { 0 };
            bytes.extend_from_slice(&(family.get() | dropped).to_le_bytes());
            bytes.extend_from_slice(&flushed.get().to_le_bytes());
        }
        bytes.extend_from_slice(&u32::try_from(self.holds.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (name, hold) in &self.holds {
            let flag = |set, flag| if set { flag } else { 0 };
            bytes.push(
                flag(hold.to.is_some(), HOLD_TO)
                    | flag(hold.budget.is_some(), HOLD_BUDGET)
                    | flag(hold.lost, HOLD_LOST),
            );
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(name.as_bytes());
            let to = hold.to.map_or(0, SeqNum::get);
            for number in [hold.from.get(), to, hold.budget.unwrap_or_default(), hold.since_micros] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        if let Some(CleanEnd { flushed_logs, .. }) = &self.clean_end {
            bytes.extend_from_slice(&u32::try_from(flushed_logs.len()).unwrap_or(u32::MAX).to_le_bytes());
            for range in flushed_logs {
                bytes.extend_from_slice(&range.first.get().to_le_bytes());
                bytes.extend_from_slice(&range.last.get().to_le_bytes());
            }
        }
        let mut slot_bytes = slot.checksum(&bytes).to_le_bytes().to_vec();
        slot_bytes.append(&mut bytes);
        slot_bytes
    }

    /// Reads a slot; `bytes` are the file's from the slot's offset on, as far as the slot may reach.
    ///
    /// # Errors
    /// The slot cannot be believed.
    pub fn decode(slot: Slot, bytes: &[u8]) -> Result<Self, SlotFault> {
        let mut fields = Fields(bytes);
        let stored = fields.u32().ok_or(SlotFault::Truncated)?;
        let length = fields.u32().ok_or(SlotFault::Truncated)?;
        let usable =
            usize::try_from(length).ok().filter(|length| (FIXED_BYTES..=SLOT_BYTES).contains(length));
        let end = usable.ok_or(SlotFault::Length { length })?;
        let checked = bytes.get(4..end).ok_or(SlotFault::Truncated)?;
        let computed = slot.checksum(checked);
        if computed != stored {
            return Err(SlotFault::Checksum { stored, computed });
        }
        let mut fields = Fields(checked.get(4..).ok_or(SlotFault::Content)?);
        let mut versions = || {
            (fields.bytes::<8>()? == MAGIC).then_some(())?;
            Some((fields.u16()?, fields.u16()?))
        };
        let (version, lowest_reader) = versions().ok_or(SlotFault::Content)?;
        if lowest_reader > FORMAT_VERSION {
            return Err(SlotFault::NewerFormat { version, lowest_reader });
        }
        Self::parse(fields).ok_or(SlotFault::Content)
    }

    fn parse(mut fields: Fields<'_>) -> Option<Self> {
        let version = fields.u64()?;
        let wal_id = WalId::from_bytes(fields.bytes()?);
        let epoch = Epoch::new(fields.u64()?);
        let mut log = || fields.u64().map(LogNumber::new);
        let (highest, lowest, active) = (log()?, log()?, log()?);
        let next_index = Index::new(fields.u64()?);
        let seq_floor = SeqNum::new(fields.u64()?);
        let sealed_through = LogNumber::new(fields.u64()?);
        let (clean_log, end, clean_index) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let mut clean_end = (clean_log != 0).then_some(CleanEnd {
            log: LogNumber::new(clean_log),
            end,
            next_index: Index::new(clean_index),
            flushed_logs: Vec::new(),
        });
        (clean_end.is_some() || (end, clean_index) == (0, 0)).then_some(())?;
        let config_fingerprint = fields.u64()?;
        let families = usize::try_from(fields.u32()?).ok().filter(|families| *families <= FAMILIES_MAX)?;
        let (mut flushed, mut dropped) = (BTreeMap::new(), BTreeSet::new());
        for _ in 0..families {
            let number = fields.u32()?;
            let family = FamilyId::new(number & !DROPPED);
            let above = flushed.last_key_value().is_none_or(|(last, _)| *last < family);
            (above && family <= FamilyId::MAX).then_some(())?;
            flushed.insert(family, SeqNum::new(fields.u64()?));
            if number & DROPPED != 0 {
                dropped.insert(family);
            }
        }
        // Slots that were written before there were holds end here.
        let holds = if fields.0.is_empty() { BTreeMap::new() } else { Self::parse_holds(&mut fields)? };
        // Slots that were written before a clean end said what is flushed end here.
        if let Some(clean) = clean_end.as_mut().filter(|_| !fields.0.is_empty()) {
            clean.flushed_logs = parse_ranges(&mut fields, clean.log)?;
        }
        let in_order =
            active <= highest && sealed_through <= highest && lowest.get() > 0 && next_index.get() > 0;
        in_order.then_some(Self {
            version,
            wal_id,
            epoch,
            highest,
            lowest,
            active,
            next_index,
            seq_floor,
            sealed_through,
            clean_end,
            config_fingerprint,
            flushed,
            dropped,
            holds,
        })
    }

    fn parse_holds(fields: &mut Fields<'_>) -> Option<BTreeMap<String, Hold>> {
        let count = usize::try_from(fields.u32()?).ok().filter(|count| *count <= HOLDS_MAX)?;
        let mut holds = BTreeMap::<String, Hold>::new();
        for _ in 0..count {
            let flags = fields.u8()?;
            (flags & !(HOLD_TO | HOLD_BUDGET | HOLD_LOST) == 0).then_some(())?;
            let length = usize::from(fields.u8()?);
            let name = std::str::from_utf8(fields.slice(length)?).ok()?;
            let above = holds.last_key_value().is_none_or(|(last, _)| last.as_str() < name);
            (above && hold_name_is_valid(name)).then_some(())?;
            let from = SeqNum::new(fields.u64()?);
            let mut optional = |flag| {
                let value = fields.u64()?;
                // What is absent is 0, so that one content has one encoding.
                (flags & flag != 0 || value == 0).then_some((flags & flag != 0).then_some(value))
            };
            let to = optional(HOLD_TO)?.map(SeqNum::new);
            let budget = optional(HOLD_BUDGET)?;
            to.is_none_or(|to| from <= to).then_some(())?;
            let since_micros = fields.u64()?;
            let lost = flags & HOLD_LOST != 0;
            holds.insert(name.to_owned(), Hold { from, to, budget, since_micros, lost });
        }
        Some(holds)
    }
}

/// Ranges of logs up to `highest`.
fn parse_ranges(fields: &mut Fields<'_>, highest: LogNumber) -> Option<Vec<LogRange>> {
    let count = usize::try_from(fields.u32()?).ok().filter(|count| *count <= FLUSHED_RANGES_MAX)?;
    let mut ranges = Vec::<LogRange>::new();
    for _ in 0..count {
        let (first, last) = (LogNumber::new(fields.u64()?), LogNumber::new(fields.u64()?));
        // Neighbours would be one range, so that one content has one encoding. Log 0 does not exist.
        let before = ranges.last().map_or(Some(LogNumber::default()), |before| before.last.next())?;
        (before < first && first <= last && last <= highest).then_some(())?;
        ranges.push(LogRange { first, last });
    }
    Some(ranges)
}
