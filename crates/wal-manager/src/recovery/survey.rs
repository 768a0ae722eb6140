//! What is in the directory: names, headers, and how far each log can be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use wal_format::checkpoint::Checkpoint;
use wal_format::chunk::{ChunkFault, Digest};
use wal_format::control::{Promise, Seal};
use wal_format::header::HeaderFault;
use wal_format::record::Families;
use wal_format::{BLOCK_BYTES, FamilyId, FileHeader, Index, LogNumber, LogSeed, SeqNum, SeqRange};
use wal_io::{EntryKind, Source, Storage};

use crate::error::{Error, Result};
use crate::evidence::{Behind, look_behind};
use crate::names::{self, Name};
use crate::read::{Item, LogReader, Stop};
use crate::recovery::progress::Meter;
use crate::recovery::table::Header;
use crate::report::Reason;

/// Length in the file of the header of this version, in bytes.
const HEADER_CHUNK_BYTES: usize = wal_format::chunk::HEADER_BYTES + FileHeader::BYTES;

/// Bytes of records after which a walk says how far it has come.
const METERED_BYTES: u64 = 64 * 1024;

/// Logs and other names in a directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) logs: Vec<LogNumber>,
    pub(crate) others: Vec<String>,
}

/// Lists the directory.
///
/// # Errors
/// It cannot be read, or a file is named almost like a log.
pub(crate) fn list(storage: &dyn Storage) -> Result<Listing> {
    let mut listing = Listing::default();
    for entry in storage.list()? {
        match names::parse(&entry.name) {
            Name::Log(log) if entry.kind == EntryKind::File => listing.logs.push(log),
            Name::Ours => {}
            Name::NotCanonical(log) => {
                let expected = names::log_name(log);
                return Err(Error::BadLogName { path: storage.path().join(&entry.name), log, expected });
            }
            // A symlink, FIFO or directory under a log's name is refused when it is opened.
            Name::Log(log) => listing.logs.push(log),
            Name::Other => listing.others.push(entry.name.to_string_lossy().into_owned()),
        }
    }
    listing.logs.sort_unstable();
    listing.others.sort_unstable();
    Ok(listing)
}

/// A log's file, opened, and what its first bytes are.
#[derive(Debug)]
pub(crate) struct LogFile {
    pub(crate) log: LogNumber,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) seed: LogSeed,
    pub(crate) length: u64,
    pub(crate) kind: Header,
    /// The header, if it is valid and of this write-ahead log.
    pub(crate) header: Option<FileHeader>,
    /// Why there is none.
    pub(crate) fault: Option<Reason>,
    /// What is in the file, where the header says nothing.
    pub(crate) behind: Behind,
}

impl LogFile {
    /// The same once more, for who may have to begin again; only where the header says everything.
    pub(crate) fn again(&self) -> Self {
        let (source, fault, behind) = (Arc::clone(&self.source), self.fault.clone(), Behind::default());
        Self { source, fault, behind, ..*self }
    }
}

/// Opens a log and reads its header, and all of a file that has none.
///
/// # Errors
/// The file cannot be opened or read.
pub(crate) fn open_log(storage: &dyn Storage, checkpoint: &Checkpoint, log: LogNumber) -> Result<LogFile> {
    open_log_if(storage, checkpoint, log, false)
}

/// [`open_log`]; `never_used`: nothing was ever written to this file but zeros, so where its header would be they say that it is blank.
///
/// # Errors
/// The file cannot be opened or read.
pub(crate) fn open_log_if(
    storage: &dyn Storage,
    checkpoint: &Checkpoint,
    log: LogNumber,
    never_used: bool,
) -> Result<LogFile> {
    let source = storage.open_source(&names::log_name(log))?;
    let length = source.length()?;
    let seed = LogSeed::new(checkpoint.wal_id, log);
    let first = read_first(&*source)?;
    let (mut kind, header, mut fault) = match FileHeader::decode(log, &first) {
        Ok(header) if header.wal_id != checkpoint.wal_id => {
            let reason = Reason::Foreign { expected: checkpoint.wal_id, found: header.wal_id };
            (Header::Foreign, None, Some(reason))
        }
        Ok(header)
            if (header.epoch > checkpoint.epoch || log > checkpoint.highest)
                && !seeded_bug!(UnknownEpochBelieved) =>
        {
            (Header::Unknown, Some(header), None)
        }
        Ok(header) => (Header::Known, Some(header), None),
        // Whole, but under another log's name; of another write-ahead log it is none of our business.
        Err(HeaderFault::OtherLog { wal_id, .. }) if wal_id != checkpoint.wal_id => {
            let reason = Reason::Foreign { expected: checkpoint.wal_id, found: wal_id };
            (Header::Foreign, None, Some(reason))
        }
        Err(fault @ HeaderFault::NewerFormat { .. }) => (Header::Newer, None, Some(fault.into())),
        Err(fault) => (Header::Damaged, None, Some(fault.into())),
    };
    let mut behind = Behind::default();
    let zeros = first.iter().all(|&byte| byte == 0);
    if matches!(kind, Header::Damaged | Header::Unknown) && !(never_used && zeros) {
        behind = look_behind(&*source, &seed, 0, length)?;
        if seeded_bug!(HeaderlessPromiseIgnored) && kind == Header::Damaged {
            (behind.promise, behind.seal) = (None, None);
        }
    }
    if kind == Header::Damaged && behind.nonzero_end == 0 {
        (kind, fault) = (Header::Blank, Some(HeaderFault::Chunk(ChunkFault::Zeros).into()));
    }
    Ok(LogFile { log, source, seed, length, kind, header, fault, behind })
}

/// A log of the chain, read as far as it goes.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) log: LogNumber,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) seed: LogSeed,
    pub(crate) header: FileHeader,
    pub(crate) length: u64,
    /// Where reading was to stop: the successor's `end`.
    pub(crate) end: Option<u64>,
    /// Behind the last record or statement that is whole.
    pub(crate) good_end: u64,
    pub(crate) next_index: Index,
    pub(crate) digest: Digest,
    pub(crate) records: u64,
    pub(crate) seqs: Option<SeqRange>,
    pub(crate) seq_floor: SeqNum,
    /// Highest sequence number of each family.
    pub(crate) families: BTreeMap<FamilyId, SeqNum>,
    /// Nothing between header and seal is read by the open or by the replay, because all of it is flushed: the families stay unknown.
    pub(crate) skipped: bool,
    /// Why it stops at `good_end`; `None` at its end.
    pub(crate) fault: Option<Reason>,
    /// The promise that covers most, wherever it stands.
    pub(crate) promise: Option<(u64, Promise)>,
    /// A valid seal right behind `good_end`.
    pub(crate) seal: Option<(u64, Seal)>,
    /// A seal that stands somewhere behind the fault: proof that everything before it was synced.
    pub(crate) late_seal: Option<u64>,
    /// Behind the last byte that is not zero.
    pub(crate) nonzero_end: u64,
    /// Bytes behind a valid seal.
    pub(crate) behind_seal: bool,
}

impl Walked {
    /// Whether there is a promise or a seal in it.
    pub(crate) fn has_statement(&self) -> bool {
        self.promise.is_some() || self.seal.is_some() || self.late_seal.is_some()
    }
}

/// Takes in that a record with the highest sequence number so far, `last`, touches `families`.
pub(crate) fn note_families(seen: &mut BTreeMap<FamilyId, SeqNum>, families: Families<'_>, last: SeqNum) {
    for family in families {
        seen.insert(family, last);
    }
}

/// Reads a log of the chain to its end, or to `end` where the successor says that it ends.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn walk(file: LogFile, header: FileHeader, end: Option<u64>, meter: &Meter) -> Result<Walked> {
    let stop_at = end.unwrap_or(u64::MAX);
    let mut reader = LogReader::new(
        Arc::clone(&file.source),
        file.seed,
        Some(header.first_index),
        header.seq_floor,
        stop_at,
    );
    let mut families = BTreeMap::new();
    let mut promise: Option<(u64, Promise)> = None;
    let mut seal = None;
    let mut fault = None;
    let mut done = 0;
    loop {
        match reader.next()? {
            Item::Record(record) => {
                if reader.good_end() - done >= METERED_BYTES {
                    meter.add(reader.good_end() - done);
                    done = reader.good_end();
                }
                note_families(&mut families, reader.families(), record.head.seqs.last());
            }
            Item::Promise { at, promise: found } => promise = Some((at, found)),
            Item::Seal { at, seal: found } => {
                seal = Some((at, found));
                break;
            }
            Item::Stop(Stop::AtEnd | Stop::EndOfFile) => break,
            Item::Stop(Stop::Fault(reason)) => {
                fault = Some(reason);
                break;
            }
        }
    }
    let mut walked = Walked {
        log: file.log,
        good_end: reader.good_end(),
        next_index: reader.next_index(),
        digest: reader.good_digest(),
        records: reader.records(),
        seqs: reader.seqs(),
        seq_floor: reader.seq_floor(),
        source: file.source,
        seed: file.seed,
        header,
        length: file.length,
        end,
        families,
        skipped: false,
        fault,
        promise,
        seal,
        late_seal: None,
        nonzero_end: 0,
        behind_seal: false,
    };
    look_further(&mut walked)?;
    meter.add(walked.length.saturating_sub(done));
    Ok(walked)
}

/// Finds the seal behind the end, and proof behind a fault.
fn look_further(walked: &mut Walked) -> Result<()> {
    let source = &*walked.source;
    let reached = walked.end.is_some_and(|end| walked.good_end == end) && walked.fault.is_none();
    if reached {
        // The seal stands behind the end that the successor knows.
        let from = walked.good_end;
        let limit = from.saturating_add(2 * BLOCK_BYTES as u64).min(walked.length);
        let seal = look_behind(source, &walked.seed, from, limit)?.seal;
        walked.seal = seal.filter(|(at, seal)| is_right_behind(walked, *at, seal));
        if let Some((at, _)) = walked.seal {
            let rest = look_behind(source, &walked.seed, seal_end(at), walked.length)?;
            walked.behind_seal = rest.nonzero_end > seal_end(at);
        }
        walked.nonzero_end = walked.good_end;
        return Ok(());
    }
    if let Some((at, _)) = walked.seal {
        let rest = look_behind(source, &walked.seed, seal_end(at), walked.length)?;
        walked.behind_seal = rest.nonzero_end > seal_end(at);
        walked.nonzero_end = rest.nonzero_end;
        return Ok(());
    }
    // Old bytes behind the end that the successor states are no evidence: they belong to nobody.
    let limit = walked.end.unwrap_or(walked.length).min(walked.length);
    let behind = look_behind(source, &walked.seed, walked.good_end, limit)?;
    walked.nonzero_end = behind.nonzero_end;
    walked.late_seal = behind.seal.map(|(at, _)| at);
    if let Some((at, found)) = behind.promise
        && walked.promise.is_none_or(|(_, best)| best.durable_end < found.durable_end)
    {
        walked.promise = Some((at, found));
    }
    if walked.end.is_none() && walked.nonzero_end == walked.good_end {
        // Nothing but zeros behind: space made ahead, or a size that became durable before its bytes. There is nothing to cut.
        walked.fault = None;
    }
    Ok(())
}

/// Length in the file of a seal's chunk, behind `at`.
pub(crate) fn seal_end(at: u64) -> u64 {
    at.saturating_add((wal_format::chunk::HEADER_BYTES + Seal::BYTES) as u64)
}

/// Where the seal is written of a log that ends at `end`: there, or in the next block if this one has no room for it.
pub(crate) fn seal_place(end: u64) -> u64 {
    let room = wal_format::chunk::room_in_block(end);
    let fits = room >= wal_format::chunk::HEADER_BYTES + Seal::BYTES;
    end.saturating_add(if fits { 0 } else { room as u64 })
}

/// Whether the seal at `at` stands where one is written when a log ends at `good_end`, and says what the log holds.
fn is_right_behind(walked: &Walked, at: u64, seal: &Seal) -> bool {
    let place = seal_place(walked.good_end);
    let content = Seal {
        records: walked.records,
        next_index: walked.next_index,
        seqs: walked.seqs,
        digest: walked.digest.get(),
    };
    at == place && *seal == content
}

/// The bytes that the header is in: as many as this version's takes, or the whole block if the first chunk is longer.
pub(crate) fn read_first(source: &dyn Source) -> Result<Vec<u8>> {
    let mut first = vec![0; HEADER_CHUNK_BYTES];
    let read = source.read_at(0, &mut first)?;
    first.truncate(read);
    let longer = first
        .get(4..6)
        .and_then(<[u8]>::first_chunk)
        .is_some_and(|&length| usize::from(u16::from_le_bytes(length)) > FileHeader::BYTES);
    if longer {
        first.resize(BLOCK_BYTES, 0);
        let read = source.read_at(0, &mut first)?;
        first.truncate(read);
    }
    Ok(first)
}

/// The header of a log, of whatever write-ahead log it is; `None` if it is not whole.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_header(storage: &dyn Storage, log: LogNumber) -> Result<Option<FileHeader>> {
    let first = read_first(&*storage.open_source(&names::log_name(log))?)?;
    Ok(FileHeader::decode(log, &first).ok())
}
