//! What to believe: from the directory to the live chain, its verdicts, and the place up to which everything is proven.

use std::collections::BTreeMap;
use std::sync::Arc;

use wal_format::checkpoint::Checkpoint;
use wal_format::header::{HeaderFault, Predecessor};
use wal_format::{Index, LogNumber, SeqNum};
use wal_io::Storage;

use crate::error::{Error, Result};
use crate::names;
use crate::read::{Item, LogReader};
use crate::recovery::chain::{Survey, chain, read_links};
use crate::recovery::judge::Judge;
use crate::recovery::progress::Meter;
use crate::recovery::survey::{self, Listing, LogFile, Walked};
use crate::recovery::threads::Threads;
use crate::recovery::vouch;
use crate::report::{Finding, LogReport, LogVerdict, Proof, Reason};

/// The decision.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Every log, lowest number first.
    pub(crate) reports: Vec<LogReport>,
    /// What is damaged, in the order of replay.
    pub(crate) findings: Vec<Finding>,
    /// What can be read without a hole, oldest first, each log up to its `good_end`.
    pub(crate) prefix: Vec<Walked>,
    /// Where everything before is proven.
    pub(crate) proven: Proven,
    /// Index after the last record of the prefix.
    pub(crate) next_index: Index,
    /// No later sequence number is below this.
    pub(crate) seq_floor: SeqNum,
    /// Unacknowledged bytes that are cut off.
    pub(crate) cut_bytes: u64,
    /// Highest number on the disk or in CHECKPOINT.
    pub(crate) highest: LogNumber,
    /// Other names in the directory.
    pub(crate) others: Vec<String>,
    /// A file of another write-ahead log, or of a newer version: nothing is done then, in any mode.
    pub(crate) refusal: Option<Error>,
}

/// The last proven place (rule RC2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proven {
    /// The log that holds it, as the next log's header will name it; `None` if nothing is proven.
    pub(crate) link: Option<Predecessor>,
    /// Index after the last proven record.
    pub(crate) next_index: Index,
    /// Lowest sequence number that may follow there.
    pub(crate) seq_floor: SeqNum,
}

/// Decides by reading every byte, several logs at once.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn decide(
    storage: &dyn Storage,
    checkpoint: &Checkpoint,
    listing: Listing,
    meter: &Meter,
    threads: Threads,
) -> Result<Plan> {
    let plan = decide_by(storage, checkpoint, listing, Survey::Read(meter, threads))?;
    meter.finish();
    Ok(plan.unwrap_or_default())
}

/// Decides without reading what lies between headers and seals; `None` if that is not enough to find everything clean.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn decide_unread(
    storage: &dyn Storage,
    checkpoint: &Checkpoint,
    listing: Listing,
) -> Result<Option<Plan>> {
    let plan = decide_by(storage, checkpoint, listing, Survey::Vouch)?;
    Ok(plan.filter(|plan| {
        // A file that was made ahead is blank: a clean end vouches for it, or it was looked at (RC7).
        let clean = |log: &LogReport| {
            matches!(log.verdict, LogVerdict::Clean | LogVerdict::Deleted | LogVerdict::Prepared)
        };
        // Where numbers are used up the open is refused before anything is handed out.
        let has_next = plan.highest.next().is_some();
        has_next && plan.refusal.is_none() && plan.findings.is_empty() && plan.reports.iter().all(clean)
    }))
}

/// Decides without reading logs that were sealed as CHECKPOINT knows, and reads every byte of the others.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn decide_quickly(
    storage: &dyn Storage,
    checkpoint: &Checkpoint,
    listing: Listing,
    meter: &Meter,
) -> Result<Plan> {
    let plan = decide_by(storage, checkpoint, listing, Survey::VouchOrRead(meter))?;
    meter.finish();
    Ok(plan.unwrap_or_default())
}

fn decide_by(
    storage: &dyn Storage,
    checkpoint: &Checkpoint,
    listing: Listing,
    survey: Survey<'_>,
) -> Result<Option<Plan>> {
    let mut files = BTreeMap::new();
    for &log in &listing.logs {
        let believed = matches!(survey, Survey::Vouch) || seeded_bug!(BlankBelievedAfterACrash);
        let file =
            survey::open_log_if(storage, checkpoint, log, believed && vouch::never_used(checkpoint, log))?;
        if let Survey::Read(meter, _) | Survey::VouchOrRead(meter) = survey {
            meter.expect(if log < checkpoint.lowest { 0 } else { file.length });
        }
        files.insert(log, file);
    }
    let refusal = refusal(storage, &files);
    let chain = chain(checkpoint, &files)?;
    let mut judge = Judge { storage, checkpoint, reports: Vec::new(), findings: Vec::new(), cut_bytes: 0 };

    let Some(links) = read_links(&chain, &mut files, survey, checkpoint)? else { return Ok(None) };
    let (prefix, proven_ends) = judge.chain(links);
    judge.cut(&chain, &files);
    judge.elsewhere(&chain, &files);

    let proven = proven(checkpoint, &prefix, &proven_ends)?;
    let next_index = prefix.last().map_or(proven.next_index, |log| log.next_index);
    if judge.findings.is_empty()
        && next_index < checkpoint.next_index
        && !seeded_bug!(BehindCheckpointIgnored)
    {
        // Whole logs are gone, and no file is left to tell.
        let reason = Reason::BehindCheckpoint { expected: checkpoint.next_index, found: next_index };
        judge.finding(checkpoint.active, 0, reason, Some(Proof::Checkpoint));
    }
    let flushed = checkpoint.flushed.values().filter_map(|seq| seq.next()).max();
    let read = prefix.last().map(|log| log.seq_floor);
    let recorded = [Some(checkpoint.seq_floor), flushed]
        .map(|floor| floor.filter(|_| !seeded_bug!(SequenceFloorForgotten)));
    let seq_floor = recorded.into_iter().chain([read]).flatten().max().unwrap_or_default();
    judge.name_flipped_bits();
    judge.reports.sort_by_key(|report| report.log);
    Ok(Some(Plan {
        findings: judge.findings,
        reports: judge.reports,
        prefix,
        proven,
        next_index,
        seq_floor,
        cut_bytes: judge.cut_bytes,
        highest: if seeded_bug!(NumberFromDiskOnly) {
            listing.logs.last().copied().unwrap_or_default()
        } else {
            listing.logs.last().copied().unwrap_or_default().max(checkpoint.highest)
        },
        others: listing.others,
        refusal,
    }))
}

/// The error for a file that must not be touched in any mode.
fn refusal(storage: &dyn Storage, files: &BTreeMap<LogNumber, LogFile>) -> Option<Error> {
    files.values().find_map(|file| {
        let path = storage.path().join(names::log_name(file.log));
        match file.fault {
            Some(Reason::Foreign { expected, found }) => Some(Error::Foreign { path, expected, found }),
            Some(Reason::Header(HeaderFault::NewerFormat { version, .. })) => {
                Some(Error::NewerFormat { path, version })
            }
            _ => None,
        }
    })
}

/// The last proven place in the prefix (rule RC2: never merely the newest log).
fn proven(checkpoint: &Checkpoint, prefix: &[Walked], proven_ends: &[u64]) -> Result<Proven> {
    for (walked, &end) in prefix.iter().zip(proven_ends).rev() {
        let at = if end == walked.good_end {
            (end, walked.digest, walked.next_index, walked.seq_floor)
        } else {
            let header = &walked.header;
            let source = Arc::clone(&walked.source);
            let mut reader =
                LogReader::new(source, walked.seed, Some(header.first_index), header.seq_floor, end);
            while !matches!(reader.next()?, Item::Stop(_)) {}
            (reader.good_end(), reader.good_digest(), reader.next_index(), reader.seq_floor())
        };
        let (end, digest, next_index, seq_floor) = at;
        if next_index > walked.header.first_index || seeded_bug!(PredecessorIsNewest) {
            let link = Some(Predecessor { log: walked.log, end, proven: end, digest: digest.get() });
            return Ok(Proven { link, next_index, seq_floor });
        }
    }
    let Some(oldest) = prefix.first() else {
        let (next_index, seq_floor) = (checkpoint.next_index, checkpoint.seq_floor);
        return Ok(Proven { link: None, next_index, seq_floor });
    };
    // Nothing in the live logs is proven, but what was deleted before them is: the chain goes on from there.
    Ok(Proven {
        link: oldest.header.predecessor,
        next_index: oldest.header.first_index,
        seq_floor: oldest.header.seq_floor,
    })
}
