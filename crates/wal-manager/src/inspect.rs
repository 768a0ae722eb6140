//! Looking without the lock: nothing is taken, created or changed, whether or not somebody writes.

use std::io;
use std::sync::Arc;

use wal_format::checkpoint::Checkpoint;
use wal_format::{Epoch, Index, LogNumber, SeqNum, WalId};
use wal_io::{IoError, Operation, Storage};

use crate::archive;
use crate::checkpoint;
use crate::clock::micros;
use crate::error::{Error, Result};
use crate::kept::{Kept, why_kept};
use crate::names;
use crate::options::Options;
use crate::recovery::progress::Meter;
use crate::recovery::stream::{Salvage, Stream};
use crate::recovery::{self, Listing, Plan, RecoveryMode, Walked, decide, decide_quickly, list};
use crate::replay::Records;
use crate::report::{CheckpointFault, Finding, RecoveryReport, Verdict};
use crate::retention::{LogInfo, LogState};

/// How often a directory that changes while it is read is read again.
pub(crate) const ATTEMPTS_MAX: usize = 8;

/// A directory seen without the lock.
///
/// A reader without the lock can make nothing durable, so records that nothing proves are marked as such
/// ([`RecoveredRecord::proven`](crate::RecoveredRecord::proven)).
#[derive(Debug)]
pub struct Inspection {
    storage: Arc<dyn Storage>,
    report: RecoveryReport,
    checkpoint: Checkpoint,
    stream: Stream,
    proven_below: Index,
    refusal: Option<Error>,
    logs: Vec<LogInfo>,
}

impl Inspection {
    pub(crate) fn open(storage: Arc<dyn Storage>, options: &Options) -> Result<Self> {
        let start = options.clock.monotonic();
        let Seen { checkpoint, plan, fault } = settle(&*storage, options)?;
        let mut report = recovery::report(&*storage, options, &checkpoint, &plan, fault);
        report.duration_micros = micros(options.clock.monotonic().saturating_sub(start));
        // RD2. Not what CHECKPOINT says: a recovery that died may have left it in the cache only, and with it the log that holds what it wrote again.
        let proven_below =
            if seeded_bug!(UnprovenCalledProven) { plan.next_index } else { plan.proven.next_index };
        let stream = stream(&*storage, options, &checkpoint, &plan)?;
        let logs = logs(&plan.prefix);
        Ok(Self { storage, report, checkpoint, stream, proven_below, refusal: plan.refusal, logs })
    }

    /// The live logs up to the first damage, oldest first. The last one is said to be active, whether or not somebody writes.
    pub fn logs(&self) -> &[LogInfo] {
        &self.logs
    }

    /// For each of them, who keeps it, as far as that stands in the directory: followers, copies and other readers of a writer that is open keep
    /// logs too, and cannot be seen from here.
    pub fn why_kept(&self) -> Vec<Kept> {
        let frontier = self.logs.iter().rev().find(|info| info.records > 0).map(|info| info.log);
        // Where everything durable ends, as far as can be told without the lock.
        let frontier = frontier.unwrap_or_default().max(self.checkpoint.active);
        why_kept(&self.logs, frontier, &self.checkpoint, &[])
    }

    /// What was found. Nothing is done about it.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// The records, flushed or not, in order. In strict, default and point-in-time mode everything before the first damage, and then, except in
    /// point-in-time mode, the damage as an error; in salvage mode everything that can still be read.
    ///
    /// # Errors
    /// Of the records, each is a `Result`: damage as above, a file that cannot be read, or [`Error::Gap`] if the writer has deleted what was to
    /// come. An error is the last that comes.
    pub fn records(&self) -> Records {
        let damaged = self.report.verdict == Verdict::Damaged;
        let told = matches!(self.report.mode, RecoveryMode::Strict | RecoveryMode::Default);
        let error = (damaged && told).then(|| Error::Damaged(Arc::new(self.report.clone())));
        Records::new(self.stream.clone(), None, self.proven_below, None)
            .shared(&self.storage)
            .then_error(self.refusal.clone().or(error))
    }

    /// What CHECKPOINT says; `None` if it was gone and its content was guessed from the logs, for a salvage.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        (self.checkpoint.version > 0).then_some(&self.checkpoint)
    }
}

pub(crate) fn logs(prefix: &[Walked]) -> Vec<LogInfo> {
    let info = |(after, walked): (usize, &Walked)| LogInfo {
        log: walked.log,
        bytes: walked.length,
        records: walked.records,
        seqs: walked.seqs,
        families: walked.families.clone(),
        skipped: false,
        state: match walked.seal {
            _ if after == 0 => LogState::Active,
            Some(_) => LogState::Sealed,
            None => LogState::Closed,
        },
        created_micros: walked.header.created_micros,
    };
    let mut logs: Vec<LogInfo> = prefix.iter().rev().enumerate().map(info).collect();
    logs.reverse();
    logs
}

/// What one look found.
pub(crate) struct Seen {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) plan: Plan,
    pub(crate) fault: Option<CheckpointFault>,
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every byte.
    Whole,
    /// What is needed to know which logs there are, and the logs that nobody vouches for.
    Quick,
}

/// Looks until what is seen is not the work of a writer who went on meanwhile (RD1): only what is found twice in a row is damage.
pub(crate) fn settle(storage: &dyn Storage, options: &Options) -> Result<Seen> {
    settle_at(storage, options, Depth::Whole)
}

/// [`settle`], reading so much.
pub(crate) fn settle_at(storage: &dyn Storage, options: &Options, depth: Depth) -> Result<Seen> {
    let mut before: Option<Finding> = None;
    for _ in 0..ATTEMPTS_MAX {
        let seen = match look(storage, options, depth) {
            // Deleted between the listing and the reading.
            Err(Error::Io(error))
                if error.kind() == io::ErrorKind::NotFound
                    && is_log(&error)
                    && !seeded_bug!(NoSecondLook) =>
            {
                continue;
            }
            seen => seen?,
        };
        let first = seen.plan.findings.first().cloned();
        if first.is_none() || first == before || seeded_bug!(NoSecondLook) {
            return Ok(seen);
        }
        before = first;
    }
    Err(Error::Restless { path: storage.path().to_owned() })
}

/// Whether the error is about a log's file.
pub(crate) fn is_log(error: &IoError) -> bool {
    error.path().extension().is_some_and(|extension| extension == "wal")
}

fn look(storage: &dyn Storage, options: &Options, depth: Depth) -> Result<Seen> {
    let (checkpoint, listing, fault) = snapshot(storage, options.mode == RecoveryMode::Salvage)?;
    let meter = Meter::new(options.on_progress.clone());
    let plan = match depth {
        Depth::Whole => decide(storage, &checkpoint, listing, &meter, options.threads)?,
        Depth::Quick => decide_quickly(storage, &checkpoint, listing, &meter)?,
    };
    Ok(Seen { checkpoint, plan, fault })
}

/// CHECKPOINT and the names of one moment: read until no update comes between.
pub(crate) fn snapshot(
    storage: &dyn Storage,
    salvage: bool,
) -> Result<(Checkpoint, Listing, Option<CheckpointFault>)> {
    let mut last = None;
    for _ in 0..ATTEMPTS_MAX {
        let loaded = checkpoint::load(storage);
        let listing = list(storage)?;
        match (loaded, checkpoint::load(storage)) {
            (Ok(Some(before)), Ok(Some(after))) if before.content.version == after.content.version => {
                return Ok((after.content, listing, after.fault.map(CheckpointFault::from)));
            }
            (Ok(None), Ok(None)) if listing.logs.is_empty() => {
                let what = "no CHECKPOINT and no logs: not a log's directory";
                let source = io::Error::new(io::ErrorKind::NotFound, what);
                return Err(
                    IoError::new(Operation::Open, storage.path().join(names::CHECKPOINT), source).into()
                );
            }
            (Ok(None), Ok(None)) if listing.others.iter().any(|name| name == archive::MARKER) => {
                match archive::checkpoint_of(storage, &listing.logs)? {
                    Some(content) => return Ok((content, listing, None)),
                    None => {
                        return Err(Error::CheckpointMissing {
                            path: storage.path().join(names::CHECKPOINT),
                        });
                    }
                }
            }
            (Ok(None), Ok(None)) if salvage => {
                return Ok((guess(storage, &listing.logs)?, listing, Some("missing".to_owned().into())));
            }
            (Ok(None), Ok(None)) => {
                return Err(Error::CheckpointMissing { path: storage.path().join(names::CHECKPOINT) });
            }
            // Both slots can look torn to a reader whom an update overtakes; a bad one that stays bad is reported below.
            (Err(error @ Error::CheckpointDamaged { .. }), Err(_)) => last = Some((error, listing)),
            (_, Err(Error::CheckpointDamaged { .. })) | (_, Ok(_)) => {}
            (_, Err(error)) => return Err(error),
        }
    }
    match last {
        Some((error, listing)) if salvage => {
            Ok((guess(storage, &listing.logs)?, listing, Some(error.to_string().into())))
        }
        Some((error, _)) => Err(error),
        None => Err(Error::Restless { path: storage.path().to_owned() }),
    }
}

/// A CHECKPOINT that lets a salvage read the logs, from the first header that is whole. Its version is 0, which no real one has.
fn guess(storage: &dyn Storage, logs: &[LogNumber]) -> Result<Checkpoint> {
    let mut content = Checkpoint::new(WalId::from_bytes([0; 16]));
    content.version = 0;
    content.lowest = logs.first().copied().unwrap_or(content.lowest);
    content.highest = logs.last().copied().unwrap_or_default();
    content.epoch = Epoch::new(u64::MAX);
    for &log in logs {
        if let Some(header) = recovery::read_header(storage, log)? {
            content.wal_id = header.wal_id;
            break;
        }
    }
    Ok(content)
}

fn stream(storage: &dyn Storage, options: &Options, checkpoint: &Checkpoint, plan: &Plan) -> Result<Stream> {
    let parts = recovery::parts(&plan.prefix);
    if options.mode != RecoveryMode::Salvage || plan.findings.is_empty() {
        return Ok(Stream::new(parts, None));
    }
    let all = recovery::survey_again(storage, checkpoint, plan)?;
    let from = Salvage { next_index: Index::new(0), seq_floor: SeqNum::default() };
    Ok(Stream::new(all, Some(from)))
}
