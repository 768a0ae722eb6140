//! Opening a directory: what is there, what to believe, and the one durable step that commits to it.
//!
//! The order is rule RC3's: read and decide; write the believed CHECKPOINT slot again; create the new log, header first, then the
//! unproven tail with the same indices; sync it and the directory; CHECKPOINT with the new epoch in both slots. Only then is anything
//! handed out, appended, promised or removed. A crash at any step leaves either the old state or the new one, and what is left of an
//! unfinished attempt is recognised by its epoch and removed (RC4).

mod chain;
mod commit;
mod decide;
mod flipped;
mod judge;
pub(crate) mod progress;
pub(crate) mod stream;
mod survey;
mod table;
pub(crate) mod threads;
pub(crate) mod unread;
mod vouch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, info_span, warn};
use wal_format::{FamilyId, SeqNum, WalId};
use wal_io::probe::Way;
use wal_io::{Lock, Storage};

pub(crate) use commit::{Committed, NewLog, OldLog, survey_again};
pub(crate) use decide::{Plan, decide, decide_quickly, decide_unread};
pub(crate) use survey::{Listing, Walked, list, open_log, read_first, read_header};

use crate::caps::full_at_open;
use crate::checkpoint::{self, CheckpointFile, Loaded};
use crate::clock::micros;
use crate::error::{Error, Result};
use crate::inner::Parts;
use crate::metrics::Metrics;
use crate::names;
use crate::options::Options;
use crate::recovery::progress::Meter;
use crate::recovery::stream::{Part, Stream};
use crate::recovery::threads::Threads;
use crate::recovery::unread::{Replay, Replayed, Unread};
use crate::replay::{Records, RecoveredRecord};
use crate::report::{CheckpointFault, LogVerdict, RecoveryReport, Verdict};
use crate::reserve;
use crate::wal::Wal;

/// What recovery does about a torn tail and about damage. In every mode the old bytes stay where they are or are kept aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum RecoveryMode {
    /// Anything but a clean end refuses. For a directory that is known to have been closed.
    Strict,
    /// A torn tail, which nobody was promised, is cut. Damage, a missing or a foreign log refuses. Loses nothing that was
    /// acknowledged as synced.
    #[default]
    Default,
    /// Stops at the first damage and keeps everything before it. What lies behind is reported and kept aside, not replayed.
    PointInTime,
    /// Skips damage, goes on at the next chunk that is whole and in its place, and reports every hole. Replay is no prefix then. What is
    /// found behind the first hole is written again into the new log, under new indices.
    Salvage,
}

/// An opened directory whose records are to be replayed. Nothing can be appended yet: the [`Wal`] comes out of [`Recovery::finish`].
///
/// # Durability
/// Everything that [`Recovery::records`] hands out is durable: bytes of which that was not proven were written again and synced
/// before this value existed.
///
/// # A directory that was closed cleanly
/// is not read when it is opened in the default mode: headers, seals and CHECKPOINT say what is in it, and each record is checked when it is
/// handed out. Logs of which everything was flushed when it was closed are not read at all, unless a window for duplicates wants them
/// ([`Options::duplicates`]). Damage is an error of the records then, the same that the open would have been; and nothing is changed in the directory before
/// [`Recovery::finish`]. Whoever wants to know before takes [`RecoveryMode::Strict`], or looks ([`Options::inspect`]).
#[derive(Debug)]
pub struct Recovery {
    stage: Stage,
    report: RecoveryReport,
    stream: Stream,
    flushed: BTreeMap<FamilyId, SeqNum>,
    replayed: Arc<Replayed>,
    threads: Threads,
}

/// How far a recovery has come.
#[derive(Debug)]
enum Stage {
    /// The new epoch is committed.
    Committed(Box<Parts>),
    /// Nothing was read between headers and seals, and nothing was changed.
    Unread(Box<Opening>),
}

/// An open that has decided and not yet committed.
#[derive(Debug)]
struct Opening {
    storage: Arc<dyn Storage>,
    options: Options,
    metrics: Metrics,
    lock: Box<dyn Lock>,
    loaded: Loaded,
    plan: Plan,
    /// How long it has taken so far; what the engine does with its records does not count.
    spent: Duration,
}

impl Opening {
    /// Reads every byte and decides anew.
    fn read(mut self, report: &mut RecoveryReport) -> Result<Self> {
        let (meter, threads) = (Meter::new(self.options.on_progress.clone()), self.options.threads);
        self.plan = decide(&*self.storage, &self.loaded.content, list(&*self.storage)?, &meter, threads)?;
        let fault = self.loaded.fault.map(CheckpointFault::from);
        *report = self::report(&*self.storage, &self.options, &self.loaded.content, &self.plan, fault);
        count(&self.metrics, report);
        refuse(&self.plan, report.clone()).inspect_err(|error| self.metrics.refused_recovery(error))?;
        Ok(self)
    }

    /// Makes the decision durable.
    fn commit(self, report: &mut RecoveryReport) -> Result<(Parts, Stream)> {
        let Self { storage, options, metrics, lock, loaded, plan, spent } = self;
        let start = options.clock.monotonic();
        // With nothing but headers read before, the open itself has not needed any space.
        let adopt = || CheckpointFile::adopt(&*storage, loaded.clone());
        let file = adopt().or_else(
            |error| {
                if reserve::give_up(&*storage, &error) { adopt() } else { Err(error) }
            },
        )?;
        let committed = commit::commit(&storage, &file, &options, plan, report)?;
        let way = choose_way(&*storage, &options, &metrics, report);
        let took = spent.saturating_add(options.clock.monotonic().saturating_sub(start));
        finished(&metrics, report, took);
        let stream = Stream::new(committed.read.clone(), None);
        Ok((Parts::new(storage, &options, way, metrics, lock, file, committed), stream))
    }
}

impl Recovery {
    pub(crate) fn open(storage: Arc<dyn Storage>, options: &Options) -> Result<Self> {
        let metrics = Metrics::new(&options.name);
        match Self::try_open(Arc::clone(&storage), options, &metrics) {
            // What the first try has begun, the second takes for what it is: a recovery that died.
            Err(error) if reserve::give_up(&*storage, &error) => Self::try_open(storage, options, &metrics),
            opened => opened,
        }
        .map_err(full_at_open)
        .inspect_err(|error| metrics.refused_recovery(error))
    }

    fn try_open(storage: Arc<dyn Storage>, options: &Options, metrics: &Metrics) -> Result<Self> {
        let span = info_span!("wal.recover", path = %storage.path().display(), mode = ?options.mode);
        let _entered = span.enter();
        let start = options.clock.monotonic();
        let metrics = metrics.clone();
        let lock = take_lock(&*storage)?;
        check_way(&*storage, options)?;
        let listing = list(&*storage)?;
        let loaded = checkpoint::load(&*storage)?;
        if loaded.is_none() && !listing.logs.is_empty() {
            return Err(Error::CheckpointMissing { path: storage.path().join(names::CHECKPOINT) });
        }
        let Some(loaded) = loaded else {
            let wal_id = options.wal_id.map_or_else(random_id, Ok)?;
            let file = CheckpointFile::create(&*storage, wal_id, options.config_fingerprint)?;
            let plan = decide(&*storage, &file.content(), listing, &Meter::default(), Threads::ONE)?;
            let mut report = report(&*storage, options, &file.content(), &plan, None);
            let committed = commit::commit(&storage, &file, options, plan, &mut report)?;
            let way = choose_way(&*storage, options, &metrics, &mut report);
            finished(&metrics, &mut report, options.clock.monotonic().saturating_sub(start));
            let stream = Stream::new(committed.read.clone(), None);
            let parts = Parts::new(storage, options, way, metrics, lock, file, committed);
            return Ok(Self::new(
                Stage::Committed(Box::new(parts)),
                report,
                stream,
                BTreeMap::new(),
                options.threads,
            ));
        };
        let flushed = loaded.content.flushed.clone();
        let unread = match options.mode {
            RecoveryMode::Default if loaded.fault.is_none() => {
                decide_unread(&*storage, &loaded.content, listing.clone())?
            }
            _ => None,
        };
        let was_read = unread.is_none();
        let plan = match unread {
            Some(mut plan) => {
                if options.window.is_some() {
                    // It is filled from flushed records too.
                    plan.prefix.iter_mut().for_each(|walked| walked.skipped = false);
                    plan.reports.iter_mut().for_each(|report| report.skipped = false);
                }
                plan
            }
            None => {
                let meter = Meter::new(options.on_progress.clone());
                decide(&*storage, &loaded.content, listing, &meter, options.threads)?
            }
        };
        let (found, expected) = (loaded.content.config_fingerprint, options.config_fingerprint);
        if expected != 0 && found != 0 && expected != found {
            return Err(Error::ConfigMismatch { expected, found });
        }
        let fault = loaded.fault.map(CheckpointFault::from);
        let mut report = report(&*storage, options, &loaded.content, &plan, fault);
        count(&metrics, &report);
        // Nothing was changed so far: an open that is refused leaves the directory as it was.
        refuse(&plan, report.clone())?;
        let spent = options.clock.monotonic().saturating_sub(start);
        let (options, threads) = (options.clone(), options.threads);
        let opening = Opening { storage, options, metrics, lock, loaded, plan, spent };
        if was_read {
            let (parts, stream) = opening.commit(&mut report)?;
            return Ok(Self::new(Stage::Committed(Box::new(parts)), report, stream, flushed, threads));
        }
        let to_replay = opening.plan.prefix.iter().filter(|walked| !walked.skipped);
        let parts = to_replay.map(Part::unread).collect();
        Ok(Self::new(Stage::Unread(Box::new(opening)), report, Stream::new(parts, None), flushed, threads))
    }

    fn new(
        stage: Stage,
        report: RecoveryReport,
        stream: Stream,
        flushed: BTreeMap<FamilyId, SeqNum>,
        threads: Threads,
    ) -> Self {
        Self { stage, report, stream, flushed, replayed: Arc::default(), threads }
    }

    /// What was found and done.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// The records to replay, in order, from the start: each that is not flushed in every family it touches. Streaming: memory does not grow
    /// with the logs. May be called again; each call begins anew. [`Records::lend`] is the faster way for an engine that keeps no payload.
    ///
    /// # Errors
    /// Of the records, each is a `Result`: a file cannot be read; or, in a directory that was closed cleanly, damage. An error is the last that
    /// comes, and [`Recovery::finish`] then refuses.
    pub fn records(&self) -> Records {
        self.replay(self.stream.clone(), &self.replayed, self.judge(&self.stream, self.replay_of_unread()))
    }

    /// Replays with several threads ([`Options::recovery_threads`](crate::Options::recovery_threads)): calls `each` for every record that
    /// [`Recovery::records`] would give. For an engine whose memtable many threads may write to, and orders by sequence number: most of the time
    /// of a replay is the engine's.
    ///
    /// # Order
    /// The records of one log come in order, from one thread. Those of several logs come at the same time.
    ///
    /// # Errors
    /// The error of the lowest log that has one: damage, as [`Recovery::records`] gives it, or what `each` returned. Records of other logs may have
    /// been handed out by then, also such that come behind it: throw away what was built of them.
    ///
    /// # Concurrency
    /// Blocks until all is read, and reads in the caller's thread too. A panic in `each`, in whatever thread, is one of this call.
    pub fn for_each<E: From<Error> + Send>(
        &self,
        each: impl Fn(RecoveredRecord) -> std::result::Result<(), E> + Sync,
    ) -> std::result::Result<(), E> {
        let Some(parts) = self.stream.split() else {
            return self.records().try_for_each(|record| each(record?));
        };
        let replay = self.replay_of_unread();
        let jobs: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let judge = self.judge(&part, replay.clone());
                (part, judge)
            })
            .collect();
        let learned = self.threads.each(jobs, |(part, judge), is_wanted| {
            let replayed = Arc::default();
            for record in self.replay(part, &replayed, judge) {
                each(record?)?;
                if !is_wanted() {
                    break;
                }
            }
            Ok::<_, E>(replayed.take())
        })?;
        self.replayed.drain(learned.into_iter().flatten().collect());
        Ok(())
    }

    fn replay(&self, stream: Stream, replayed: &Arc<Replayed>, judge: Option<Unread>) -> Records {
        let (flushed, replayed) = (Some(self.flushed.clone()), Some(Arc::clone(replayed)));
        Records::new(stream, flushed, self.report.next_index, replayed).judged_by(judge)
    }

    /// A replay of logs that nobody has read. Only the first one is part of the recovery, of which somebody wants to know how much is done.
    fn replay_of_unread(&self) -> Option<Arc<Replay>> {
        let Stage::Unread(opening) = &self.stage else { return None };
        let callback = opening.options.on_progress.clone().filter(|_| !self.replayed.is_drained());
        Some(Replay::new(Meter::new(callback), opening.metrics.clone()))
    }

    /// Who is asked when one of these logs is not as it was said to be.
    fn judge(&self, logs: &Stream, replay: Option<Arc<Replay>>) -> Option<Unread> {
        let Stage::Unread(opening) = &self.stage else { return None };
        let Opening { storage, options, loaded, .. } = &**opening;
        Some(Unread::new(Arc::clone(storage), options, loaded, logs, replay?))
    }

    /// The sequence number up to which everything of `family` is flushed.
    pub fn flushed(&self, family: FamilyId) -> Option<SeqNum> {
        self.flushed.get(&family).copied()
    }

    /// The log, ready for appends.
    ///
    /// # Errors
    /// [`Error::ReplayIncomplete`] if [`Recovery::records`] was not read to its end. Where the new epoch is still to be committed, the system
    /// may fail; the directory is as it was then, but for a leftover that the next recovery recognises.
    ///
    /// # Durability
    /// The new epoch is committed when this returns.
    pub fn finish(mut self) -> Result<(Wal, RecoveryReport)> {
        if !self.replayed.is_drained() {
            return Err(Error::ReplayIncomplete);
        }
        if let Stage::Unread(opening) = &mut self.stage {
            for walked in &mut opening.plan.prefix {
                walked.families = self.replayed.families_of(walked.log);
            }
        }
        self.commit(|opening, _| Ok(opening))
    }

    /// The log, ready for appends, for a caller that has no state to rebuild (a tool that only appends or deletes). What nobody has read yet
    /// is read and checked now.
    ///
    /// # Errors
    /// Damage in what was not read before; nothing was changed then. Or the system failed, as for [`Recovery::finish`], or has no thread for
    /// [`Options::sync_interval`](crate::Options::sync_interval).
    ///
    /// # Durability
    /// As for [`Recovery::finish`].
    pub fn finish_without_replay(self) -> Result<(Wal, RecoveryReport)> {
        if self.replayed.is_drained() {
            return self.finish();
        }
        self.commit(|opening, report| opening.read(report))
    }

    fn commit(
        mut self,
        read: impl FnOnce(Opening, &mut RecoveryReport) -> Result<Opening>,
    ) -> Result<(Wal, RecoveryReport)> {
        let parts = match self.stage {
            Stage::Committed(parts) => *parts,
            Stage::Unread(opening) => {
                let read = read(*opening, &mut self.report)?;
                read.commit(&mut self.report).map_err(full_at_open)?.0
            }
        };
        Ok((Wal::start(parts)?, self.report))
    }
}

/// Refuses rings where there are none, before anything is changed: the report and the metrics would say what is not so.
fn check_way(storage: &dyn Storage, options: &Options) -> Result<()> {
    let Some(way @ Way::Ring) = options.way else { return Ok(()) };
    wal_io::probe::can(storage, way).map_err(|error| match error.kind() {
        std::io::ErrorKind::Unsupported => {
            let allowed = format!("it needs a kernel with io_uring and the feature `io-uring`: {error}");
            Error::InvalidOption { option: "way", given: way.to_string(), allowed }
        }
        _ => error.into(),
    })
}

/// How the files of new logs will be written: as the options say, or as the probe of the directory finds.
fn choose_way(
    storage: &dyn Storage,
    options: &Options,
    metrics: &Metrics,
    report: &mut RecoveryReport,
) -> Way {
    let way = options.way.unwrap_or_else(|| {
        let probe = wal_io::probe::run(storage, &|| options.clock.monotonic());
        report.probe = Some(probe.to_string());
        probe.choice
    });
    report.way = Some(way);
    metrics.file_way.set(f64::from(way as u8));
    way
}

/// Takes the lock, before anything else is touched.
pub(crate) fn take_lock(storage: &dyn Storage) -> Result<Box<dyn Lock>> {
    storage.lock(names::LOCK).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { path: storage.path().join(names::LOCK) },
        _ => error.into(),
    })
}

fn random_id() -> Result<WalId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let source = std::io::Error::other(error.to_string());
        wal_io::IoError::new(wal_io::Operation::Read, "the system's random numbers", source)
    })?;
    Ok(WalId::from_bytes(bytes))
}

/// What the plan says, before anything is done.
pub(crate) fn report(
    storage: &dyn Storage,
    options: &Options,
    checkpoint: &wal_format::checkpoint::Checkpoint,
    plan: &Plan,
    checkpoint_fault: Option<CheckpointFault>,
) -> RecoveryReport {
    let torn = plan.reports.iter().any(|log| log.verdict == LogVerdict::TornTail);
    let verdict = match (plan.findings.is_empty(), torn) {
        (false, _) => Verdict::Damaged,
        (true, true) => Verdict::TornTail,
        (true, false) => Verdict::Clean,
    };
    let first_index = plan.prefix.first().map_or(plan.next_index, |log| log.header.first_index);
    let seqs = plan.prefix.iter().filter_map(|log| log.seqs).reduce(|all, seqs| all.union(seqs));
    RecoveryReport {
        verdict,
        mode: options.mode,
        path: storage.path().to_owned(),
        logs: plan.reports.clone(),
        findings: plan.findings.clone(),
        records: plan.prefix.iter().fold(0, |sum, log| sum.saturating_add(log.records)),
        first_index,
        next_index: plan.next_index,
        seqs,
        cut_bytes: plan.cut_bytes,
        rewritten_records: 0,
        holes: Vec::new(),
        new_log: None,
        removed: Vec::new(),
        quarantined: Vec::new(),
        checkpoint_flipped_bit: checkpoint_fault.as_ref().and_then(|fault| fault.flipped_bit),
        checkpoint_fault: checkpoint_fault.map(|fault| fault.what),
        other_files: plan.others.clone(),
        epoch: checkpoint.epoch,
        duration_micros: 0,
        way: None,
        probe: None,
    }
}

/// Whether the mode lets recovery go on.
fn refuse(plan: &Plan, report: RecoveryReport) -> Result<()> {
    if let Some(refusal) = &plan.refusal {
        return Err(refusal.clone());
    }
    let mode = report.mode;
    match report.verdict {
        Verdict::Damaged if matches!(mode, RecoveryMode::Strict | RecoveryMode::Default) => {
            Err(Error::Damaged(Arc::new(report)))
        }
        Verdict::TornTail if mode == RecoveryMode::Strict => Err(Error::NotClean(Arc::new(report))),
        _ => Ok(()),
    }
}

/// Counts and logs what was found, also when the open is refused.
pub(crate) fn count(metrics: &Metrics, report: &RecoveryReport) {
    if let Some(fault) = &report.checkpoint_fault {
        metrics.checkpoint_faults.increment(1);
        warn!(fault, "wal.checkpoint_fault");
    }
    for finding in &report.findings {
        metrics.damaged(&finding.reason);
        warn!(log = finding.log.get(), offset = finding.offset, reason = %finding.reason, "wal.damage");
    }
    for log in report.logs.iter().filter(|log| log.verdict == LogVerdict::TornTail) {
        metrics.torn_tails.increment(1);
        let reason = log.reason.as_ref().map(ToString::to_string).unwrap_or_default();
        warn!(log = log.log.get(), offset = log.offset, cut_bytes = log.cut_bytes, reason, "wal.torn_tail");
    }
}

fn finished(metrics: &Metrics, report: &mut RecoveryReport, duration: Duration) {
    report.duration_micros = micros(duration);
    metrics.recovery_seconds.record(duration.as_secs_f64());
    metrics.recovered_records.increment(report.records);
    metrics.recovery_cut_bytes.increment(report.cut_bytes);
    info!(
        records = report.records,
        next_index = report.next_index.get(),
        cut_bytes = report.cut_bytes,
        rewritten = report.rewritten_records,
        epoch = report.epoch.get(),
        "wal.recovered"
    );
}

/// The logs of the prefix as the stream reads them, each up to its good end.
pub(crate) fn parts(prefix: &[Walked]) -> Vec<Part> {
    prefix.iter().map(|walked| Part::of(walked, walked.good_end)).collect()
}
