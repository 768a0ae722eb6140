//! Makes a directory that does not open usable again: CHECKPOINT is rebuilt from the logs, and the log is cut at damage.
//!
//! This is a decision to lose something, so a person makes it: everything is copied aside first, and a plan says beforehand what is lost.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info_span, warn};
use wal_format::checkpoint::Checkpoint;
use wal_format::{FileHeader, LogNumber, LogSeed};
use wal_io::fs::FsStorage;
use wal_io::probe::Way;
use wal_io::{EntryKind, IoError, Operation, Storage};

use crate::archive;
use crate::checkpoint::{self, CheckpointFile, Loaded};
use crate::error::{Error, Result};
use crate::evidence::look_behind;
use crate::image::copy_bytes;
use crate::names::{self, Name};
use crate::options::Options;
use crate::read::{Item, LogReader};
use crate::recovery::progress::Meter;
use crate::recovery::{self, Plan, Recovery, RecoveryMode, decide, list, read_header, take_lock};
use crate::report::RecoveryReport;

/// Between the name of a directory and a number: what was in it before a repair.
const ASIDE: &str = ".before-repair-";

/// What a repair does, or would do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RepairReport {
    /// The directory.
    pub path: PathBuf,
    /// Why CHECKPOINT has to be rebuilt from the logs; `None` if it is good. What only it knew is lost: which sequence numbers are flushed, so
    /// that replay hands out everything; the holds, whose owners find them gone ([`Error::UnknownHold`]); and whether newer logs are missing.
    pub checkpoint: Option<String>,
    /// Logs that are there and no part of what is kept: leftovers of a recovery that died, and those behind which a log is missing.
    pub left_out: Vec<LogNumber>,
    /// What was found. If there are findings, the log is cut at the first.
    pub found: RecoveryReport,
    /// Where everything was copied before anything was changed; `None` as long as nothing is.
    pub aside: Option<PathBuf>,
    /// What the directory holds after the repair; `None` as long as nothing is done.
    pub repaired: Option<RecoveryReport>,
}

impl RepairReport {
    /// Whether there is anything to repair.
    pub fn is_needed(&self) -> bool {
        self.checkpoint.is_some() || !self.found.findings.is_empty()
    }
}

impl Options {
    /// Says what [`Options::repair`] would do. Takes nothing, creates nothing and changes nothing; the answer is only right if nobody writes.
    ///
    /// # Errors
    /// As for [`Options::repair`].
    pub fn plan_repair(self) -> Result<RepairReport> {
        let storage = self.storage_to_read()?;
        Ok(Repair::plan(&*storage, &self)?.report)
    }

    /// Makes the directory open again, if it does not: copies everything aside, into a directory beside it whose name ends in `.before-repair-1`
    /// (or the next number that is free), rebuilds CHECKPOINT from the logs if both its slots are bad or it is gone, and cuts the log at the first
    /// damage. Everything before the damage is there afterwards. Does nothing if there is nothing to repair.
    ///
    /// # Errors
    /// Somebody has the directory open; a file in it is another log's or of a newer format; no log has a header to rebuild CHECKPOINT from; or the
    /// disk fails or is full. As long as the copy aside is not whole, nothing was changed.
    ///
    /// # Durability
    /// The copy aside is durable before anything is changed; the repaired directory when this returns. A crash in between leaves a directory that
    /// can be repaired again.
    ///
    /// # Concurrency
    /// Takes the lock of the directory: nobody else may have it open for writing.
    pub fn repair(self) -> Result<RepairReport> {
        let storage = self.storage_to_read()?;
        // Its name, whatever it was called: a sibling is wanted.
        let path = storage.path().canonicalize().unwrap_or_else(|_| storage.path().to_owned());
        run(&storage, &self, || {
            for number in 1_u64.. {
                let mut name = path.clone().into_os_string();
                name.push(format!("{ASIDE}{number}"));
                let place = PathBuf::from(name);
                if place.symlink_metadata().is_err() {
                    return Ok(Box::new(FsStorage::create(place)?));
                }
            }
            Err(Error::Exhausted("repair"))
        })
    }

    /// [`Options::repair`] of any storage; everything is copied into `aside` first, which must hold no file of a log.
    ///
    /// # Errors
    /// As for [`Options::repair`].
    ///
    /// # Durability
    /// As for [`Options::repair`].
    pub fn repair_with(self, aside: impl Storage + 'static) -> Result<RepairReport> {
        run(&self.storage_to_read()?, &self, || Ok(Box::new(aside)))
    }
}

/// A repair that is decided.
struct Repair {
    /// What CHECKPOINT says, or is to say.
    content: Checkpoint,
    report: RepairReport,
}

fn run(
    storage: &Arc<dyn Storage>,
    options: &Options,
    aside: impl FnOnce() -> Result<Box<dyn Storage>>,
) -> Result<RepairReport> {
    let span = info_span!("wal.repair", path = %storage.path().display());
    let _entered = span.enter();
    check_there(&**storage)?;
    let lock = take_lock(&**storage)?;
    let Repair { content, mut report } = Repair::plan(&**storage, options)?;
    if !report.is_needed() {
        return Ok(report);
    }
    let aside = aside()?;
    // ORDER: V4. Everything is aside, durably, before the first byte is changed: whatever this decides can be taken back.
    copy_aside(&**storage, &*aside, &Meter::new(options.on_progress.clone()))?;
    report.aside = Some(aside.path().to_owned());
    if let Some(why) = &report.checkpoint {
        warn!(why, "wal.checkpoint_rebuilt");
        CheckpointFile::install(&**storage, content)?;
    }
    // The recovery takes it itself. Nobody who comes between finds anything but what a crash here would leave.
    drop(lock);
    let options = options.clone().mode(RecoveryMode::PointInTime).background(false).way(Way::Append);
    let (wal, repaired) = Recovery::open(Arc::clone(storage), &options)?.finish_without_replay()?;
    wal.close()?;
    report.repaired = Some(repaired);
    Ok(report)
}

/// # Errors
/// The directory is no log's. Nothing is created in it then, not even a lock.
fn check_there(storage: &dyn Storage) -> Result<()> {
    let (listing, loaded) = (list(storage)?, checkpoint::load(storage));
    if listing.others.iter().any(|name| name == archive::MARKER) && matches!(loaded, Ok(None)) {
        let what = "an archive, which needs no CHECKPOINT: restore from it";
        let source = io::Error::new(io::ErrorKind::InvalidInput, what);
        return Err(IoError::new(Operation::Open, storage.path().join(archive::MARKER), source).into());
    }
    if listing.logs.is_empty() && matches!(loaded, Ok(None)) {
        let what = "no CHECKPOINT and no logs: not a log's directory";
        let source = io::Error::new(io::ErrorKind::NotFound, what);
        return Err(IoError::new(Operation::Open, storage.path().join(names::CHECKPOINT), source).into());
    }
    Ok(())
}

impl Repair {
    fn plan(storage: &dyn Storage, options: &Options) -> Result<Self> {
        check_there(storage)?;
        let listing = list(storage)?;
        let (content, bad) = match checkpoint::load(storage) {
            Ok(Some(Loaded { content, .. })) => (content, None),
            Ok(None) => {
                let bad = Error::CheckpointMissing { path: storage.path().join(names::CHECKPOINT) };
                (rebuild(storage, &listing.logs, &bad)?, Some("it is missing".to_owned()))
            }
            Err(bad @ Error::CheckpointDamaged { first, second, .. }) => {
                let why = format!("both slots are bad ({first}; {second})");
                (rebuild(storage, &listing.logs, &bad)?, Some(why))
            }
            Err(error) => return Err(error),
        };
        let logs = listing.logs.clone();
        let plan =
            decide(storage, &content, listing, &Meter::new(options.on_progress.clone()), options.threads)?;
        if let Some(refusal) = plan.refusal {
            return Err(refusal);
        }
        let found = recovery::report(storage, options, &content, &plan, bad.clone().map(Into::into));
        let left_out = if bad.is_some() { left_out(&logs, &plan) } else { Vec::new() };
        let path = storage.path().to_owned();
        let report = RepairReport { path, checkpoint: bad, left_out, found, aside: None, repaired: None };
        Ok(Self { content, report })
    }
}

/// Logs that hold something and are no part of the chain.
fn left_out(logs: &[LogNumber], plan: &Plan) -> Vec<LogNumber> {
    let kept = |log: &LogNumber| plan.prefix.iter().any(|walked| walked.log == *log);
    let empty = |log: &LogNumber| {
        let report = plan.reports.iter().find(|report| report.log == *log);
        report.is_some_and(|report| report.verdict == crate::LogVerdict::Prepared)
    };
    logs.iter().filter(|log| !kept(log) && !empty(log)).copied().collect()
}

/// The least that CHECKPOINT can have said, from the logs: it is no evidence of anything that the logs do not prove themselves.
///
/// # Errors
/// No log has a header: `bad` then. Or logs of several write-ahead logs are there.
fn rebuild(storage: &dyn Storage, logs: &[LogNumber], bad: &Error) -> Result<Checkpoint> {
    let mut headers = BTreeMap::new();
    for &log in logs {
        if let Some(header) = read_header(storage, log)? {
            headers.insert(log, header);
        }
    }
    let Some(wal_id) = headers.values().next().map(|header| header.wal_id) else { return Err(bad.clone()) };
    if let Some(other) = headers.values().find(|header| header.wal_id != wal_id) {
        let path = storage.path().join(names::log_name(other.log));
        return Err(Error::Foreign { path, expected: wal_id, found: other.wal_id });
    }
    let Some(top) = newest(storage, &headers)? else { return Err(bad.clone()) };
    // Back from log to log, as far as there are files. What lies below a number that is gone was deleted; or it is the one below a loss, and the
    // newest records count.
    let mut lowest = top;
    while let Some(before) = lowest.predecessor {
        let known = headers.get(&before.log);
        let below = || headers.range(..before.log).next_back().map(|(_, header)| header);
        let next = if logs.contains(&before.log) { known.or_else(below) } else { None };
        let Some(next) = next else { break };
        lowest = *next;
    }
    let mut content = Checkpoint::new(wal_id);
    content.version = 1;
    content.epoch = top.epoch;
    (content.highest, content.lowest, content.active) = (top.log, lowest.log, lowest.log);
    (content.next_index, content.seq_floor) = (lowest.first_index, top.seq_floor);
    content.config_fingerprint = top.config_fingerprint;
    Ok(content)
}

/// The newest log that was surely committed. The new log of a recovery that died may hold less than the tail that it was to replace, which was
/// acknowledged; one that holds as much may count: nothing is lost by it (RC4).
fn newest(storage: &dyn Storage, headers: &BTreeMap<LogNumber, FileHeader>) -> Result<Option<FileHeader>> {
    for header in headers.values().rev() {
        // All of an earlier epoch: the predecessor holds the last proven byte, and the tail that was to be replaced may be in a later one (RC2).
        let mut furthest = None;
        for before in headers.range(..header.log).map(|(_, before)| before) {
            if before.epoch < header.epoch {
                furthest = furthest.max(Some(reach(storage, before)?));
            }
        }
        let Some(furthest) = furthest else { return Ok(Some(*header)) };
        let source = storage.open_source(&names::log_name(header.log))?;
        let seed = LogSeed::new(header.wal_id, header.log);
        let stated = look_behind(&*source, &seed, 0, source.length()?)?.has_statement();
        if stated || reach(storage, header)? >= furthest || seeded_bug!(LeftoverTrusted) {
            return Ok(Some(*header));
        }
    }
    Ok(None)
}

/// Index after the last record that can be read in a log.
fn reach(storage: &dyn Storage, header: &FileHeader) -> Result<wal_format::Index> {
    let source = storage.open_source(&names::log_name(header.log))?;
    let seed = LogSeed::new(header.wal_id, header.log);
    let mut reader = LogReader::new(source, seed, Some(header.first_index), header.seq_floor, u64::MAX);
    while !matches!(reader.next()?, Item::Stop(_) | Item::Seal { .. }) {}
    Ok(reader.next_index())
}

/// Copies every file that a repair may touch.
fn copy_aside(storage: &dyn Storage, aside: &dyn Storage, meter: &Meter) -> Result<()> {
    if !aside.list()?.is_empty() {
        return Err(Error::TargetNotEmpty { path: aside.path().to_owned() });
    }
    let mut sources = Vec::new();
    for entry in storage.list()? {
        let touched = matches!(names::parse(&entry.name), Name::Log(_) | Name::Ours);
        let Some(name) = entry.name.to_str().filter(|name| touched && *name != names::LOCK) else { continue };
        if entry.kind == EntryKind::File {
            meter.expect(storage.open_source(name)?.length()?);
            sources.push(name.to_owned());
        }
    }
    for name in sources {
        let sink = aside.create(&name)?;
        meter.add(copy_bytes(&*storage.open_source(&name)?, &*sink, u64::MAX)?);
        sink.sync_all()?;
    }
    aside.sync_dir()?;
    aside.sync_parents()?;
    Ok(())
}
