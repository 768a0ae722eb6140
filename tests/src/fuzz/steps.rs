//! What a log is made of, in any order: records, groups, alignments, chunks of a newer version.

use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Result, Unstructured};
use wal_format::{Epoch, FamilyId, FileHeader, Index, LogNumber, RecordKind, SeqNum};
use wal_io::mem::MemStorage;
use wal_manager::{Durability, Record};

use crate::life;
use crate::logs::{LogBuilder, WAL_ID, pattern};
use crate::naive::{self, Item};

/// Most bytes of one made-up log, so that the slow decoder stays fast enough.
const LOG_BYTES: usize = 160_000;

/// One thing to append.
#[derive(Clone, Debug)]
pub enum Step {
    /// A record; its index and its place in the order of sequence numbers are yet to be found.
    Record {
        /// All else.
        draft: naive::Record,
        /// How many sequence numbers are left out before it.
        gap: u64,
    },
    /// A promise and a group behind it: the lengths of its records.
    Group(Vec<usize>),
    /// A record that leaves so many bytes of its block.
    FillTo(usize),
    /// A chunk that an older reader may skip.
    Ignorable {
        /// Its type.
        kind: u8,
        /// Its length.
        length: usize,
    },
}

impl Arbitrary<'_> for Step {
    fn arbitrary(bytes: &mut Unstructured<'_>) -> Result<Self> {
        Ok(match bytes.int_in_range(0..=11)? {
            0..=5 => Self::Record { draft: record(bytes)?, gap: gap(bytes)? },
            6..=8 => {
                let lengths = (0..bytes.int_in_range(0..=4)?).map(|_| bytes.int_in_range(1..=3000));
                Self::Group(lengths.collect::<Result<_>>()?)
            }
            9..=10 => Self::FillTo(bytes.int_in_range(0..=63)?),
            _ => {
                Self::Ignorable { kind: bytes.int_in_range(128..=255)?, length: bytes.int_in_range(1..=100)? }
            }
        })
    }
}

fn gap(bytes: &mut Unstructured<'_>) -> Result<u64> {
    if bytes.arbitrary()? { Ok(0) } else { bytes.int_in_range(0..=1 << 40) }
}

fn record(bytes: &mut Unstructured<'_>) -> Result<naive::Record> {
    let length = match bytes.int_in_range(0..=15)? {
        0..=11 => bytes.int_in_range(1..=300)?,
        12..=14 => bytes.int_in_range(1..=40_000)?,
        _ => bytes.int_in_range(40_000..=100_000)?,
    };
    let families = if bytes.arbitrary()? {
        vec![0]
    } else {
        let one = |bytes: &mut Unstructured<'_>| bytes.int_in_range(0..=(1_u32 << 24) - 1);
        let set: Result<BTreeSet<u32>> = (0..bytes.int_in_range(1..=20)?).map(|_| one(bytes)).collect();
        set?.into_iter().collect()
    };
    let batch = bytes.ratio(1, 6)?;
    Ok(naive::Record {
        kind: if batch { 0xf000 } else { bytes.int_in_range(1..=0xefff)? },
        count: if bytes.arbitrary()? { 1 } else { bytes.int_in_range(1..=u32::MAX)? },
        families,
        time_micros: bytes.arbitrary()?,
        duplicate_key: bytes.arbitrary()?,
        codec: bytes.arbitrary()?,
        key_id: bytes.arbitrary()?,
        payload: pattern(length, length),
        ..naive::Record::default()
    })
}

/// The header of log 1 of [`WAL_ID`].
pub(super) fn header() -> FileHeader {
    FileHeader::new(WAL_ID, LogNumber::new(1), Epoch::new(1), Index::FIRST, SeqNum::new(1))
}

/// As many of the steps as make a log of a bearable length.
pub(super) fn affordable(steps: Vec<Step>) -> Vec<Step> {
    let mut bytes = 0;
    let cost = |step: &Step| match step {
        Step::Record { draft, .. } => draft.payload.len(),
        Step::Group(lengths) => lengths.iter().sum(),
        Step::FillTo(_) => 33_000,
        Step::Ignorable { length, .. } => *length,
    };
    let fits = |step: &Step| {
        bytes += cost(step);
        bytes <= LOG_BYTES
    };
    steps.into_iter().take_while(fits).collect()
}

/// Writes a log of these steps, and perhaps a seal, and zeros behind it.
pub fn build(header: &FileHeader, steps: &[Step], seal: bool, zeros: usize) -> LogBuilder {
    let mut log = LogBuilder::with_header(header);
    for step in steps {
        match step {
            Step::Record { draft, gap } => {
                let next = log.next(&draft.payload);
                let (index, first_seq) = (next.index, next.first_seq + gap);
                log.append(naive::Record { index, first_seq, ..draft.clone() });
            }
            Step::Group(lengths) => {
                log.group(|log| {
                    for &length in lengths {
                        log.record(&pattern(length, length));
                    }
                });
            }
            Step::FillTo(room) => {
                log.fill_to(*room);
            }
            Step::Ignorable { kind, length } => {
                log.raw(*kind, &pattern(*length, *length));
            }
        }
    }
    if seal {
        log.seal();
    }
    log.zeros(zeros);
    log
}

/// The records of a log that was made.
pub(super) fn records(log: &LogBuilder) -> Vec<naive::Record> {
    let record = |item: &Item| match item {
        Item::Record(_, record) => Some(record.clone()),
        _ => None,
    };
    log.items.iter().filter_map(record).collect()
}

/// Appends records through `wal-manager`, in groups, with small logs, and closes. Tells which were accepted.
pub(super) fn append(records: &[naive::Record]) -> (Vec<naive::Record>, MemStorage) {
    let storage = MemStorage::new();
    let (wal, ..) = life::reopen(life::options(&storage).log_bytes(life::SMALL));
    let mut accepted = Vec::new();
    for record in records {
        let families: Vec<FamilyId> = record.families.iter().copied().map(FamilyId::new).collect();
        // A batch is the manager's own kind of record: its payload is not one here, but nobody looks.
        let kind =
            if record.kind == 0xf000 { RecordKind::BATCH } else { RecordKind::new(record.kind).unwrap() };
        let given = Record::new(kind, &record.payload)
            .families(&families)
            .seqs(SeqNum::new(record.first_seq), record.count);
        let level = if record.payload.len() % 3 == 0 { Durability::Synced } else { Durability::Buffered };
        let appended = wal.append_with(given, level).expect("everything made here is within the limits");
        assert_eq!(appended.index.get(), accepted.len() as u64 + 1, "the index is dense");
        accepted.push(record.clone());
    }
    wal.close().unwrap();
    (accepted, storage)
}
