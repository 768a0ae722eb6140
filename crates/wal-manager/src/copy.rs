//! A consistent copy of a log that is being written: exactly the records up to the frontier, at the moment when the copy began.
//!
//! Sealed logs are linked where that can be, since nobody writes to them any more and a file with two names is never used again for another log;
//! the rest is copied. Writers go on meanwhile. In the process of the writer a pin keeps the logs; a copy from another process makes sure
//! afterwards that none of them was deleted meanwhile (RD1).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, info_span};
use wal_format::checkpoint::Checkpoint;
use wal_format::{Index, LogNumber, SeqRange, WalId};
use wal_io::Storage;
use wal_io::fs::FsStorage;

use crate::checkpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{self, Made, Piece, Target};
use crate::inner::Inner;
use crate::inspect::{self, Seen};
use crate::keepers::KeeperKind;
use crate::options::Options;
use crate::record::Position;
use crate::recovery::open_log;
use crate::report::Reason;
use crate::retention::LogState;
use crate::wal::Wal;

/// Behind the name of a directory that is being made.
const MAKING: &str = ".making";

/// How often a copy begins anew because another one to the same target has finished or failed.
const ATTEMPTS_MAX: usize = 16;

/// What a copy holds: exactly these records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Where it is.
    pub path: PathBuf,
    /// The identity, which is that of the log that was copied.
    pub wal_id: WalId,
    /// Index of the first record in it, or that would be.
    pub first_index: Index,
    /// Index after the last record in it.
    pub next_index: Index,
    /// How many records.
    pub records: u64,
    /// Their sequence numbers.
    pub seqs: Option<SeqRange>,
    /// The logs, oldest first.
    pub logs: Vec<CopiedLog>,
}

/// A log in a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopiedLog {
    /// Its number.
    pub log: LogNumber,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// It is a second name of the file that was copied, and takes no space as long as that is there.
    pub linked: bool,
}

impl CopyReport {
    pub(crate) fn new(path: PathBuf, content: &Checkpoint, pieces: &[Piece], made: &[Made]) -> Self {
        let (records, seqs) = image::totals(made);
        let first_index = pieces.first().map_or(content.next_index, |piece| piece.header.first_index);
        let logs =
            made.iter().map(|made| CopiedLog { log: made.log, bytes: made.bytes, linked: made.linked });
        Self {
            path,
            wal_id: content.wal_id,
            first_index,
            next_index: content.next_index,
            records,
            seqs,
            logs: logs.collect(),
        }
    }
}

impl Wal {
    /// Copies the log into the directory `target`, which is not there yet or is empty, while writers go on. The copy holds exactly the records
    /// that were durable when this began and whose logs were not deleted, and the marks of what was flushed. It opens, verifies and
    /// replays on its own, is closed cleanly, and shares files with this log at most until one of the two deletes them.
    ///
    /// It *is* the same write-ahead log, with the same identity: do not mix files of the two once both were written to.
    ///
    /// # Errors
    /// There is something in the directory, or another copy to it is at work ([`Error::Locked`]); or a log cannot be read, or is damaged; or the disk is
    /// full. There is no directory then, but for one whose name ends in `.making`, which a crash leaves and the next copy to the same place empties.
    ///
    /// # Durability
    /// Everything in the copy is durable when this returns; the directory gets its name last.
    ///
    /// # Concurrency
    /// Appends, rotations and marks go on. Logs that are flushed meanwhile are deleted when the copy is done.
    pub fn copy_to(&self, target: impl Into<PathBuf>) -> Result<CopyReport> {
        self.counted(|| in_directory(target.into(), |target| self.inner().copy(target)))
    }

    /// [`Wal::copy_to`] to any storage, which must hold no file of a log. CHECKPOINT comes last: without it the directory does not open.
    ///
    /// # Errors
    /// As for [`Wal::copy_to`]; files may be left, but no CHECKPOINT.
    ///
    /// # Durability
    /// As for [`Wal::copy_to`].
    pub fn copy_on(&self, target: &dyn Storage) -> Result<CopyReport> {
        self.counted(|| self.inner().copy(&Target::empty(target)?))
    }

    /// For the metrics.
    fn counted(&self, copy: impl FnOnce() -> Result<CopyReport>) -> Result<CopyReport> {
        let Inner { clock, metrics, .. } = &**self.inner();
        let begin = clock.monotonic();
        let copied = copy();
        if copied.is_ok() {
            metrics.copy_seconds.record(clock.monotonic().saturating_sub(begin).as_secs_f64());
        } else {
            metrics.copy_failures.increment(1);
        }
        copied
    }
}

impl Options {
    /// Copies a log without its lock into the directory `target`, whether or not another process writes to it: the records that are proven to be
    /// durable. See [`Wal::copy_to`].
    ///
    /// # Errors
    /// As for [`Wal::copy_to`], and [`Error::Gap`] if the writer deletes logs faster than they are copied, and [`Error::Damaged`].
    ///
    /// # Durability
    /// As for [`Wal::copy_to`].
    pub fn copy_to(self, target: impl Into<PathBuf>) -> Result<CopyReport> {
        let storage = self.storage_to_read()?;
        in_directory(target.into(), |target| without_lock(&storage, &self, target))
    }

    /// [`Options::copy_to`] to any storage, which must hold no file of a log.
    ///
    /// # Errors
    /// As for [`Options::copy_to`].
    ///
    /// # Durability
    /// As for [`Wal::copy_to`].
    pub fn copy_on(self, target: &dyn Storage) -> Result<CopyReport> {
        let storage = self.storage_to_read()?;
        without_lock(&storage, &self, &Target::empty(target)?)
    }
}

/// Makes a directory under a name of its own first.
pub(crate) fn in_directory<T>(path: PathBuf, make: impl FnOnce(&Target<'_>) -> Result<T>) -> Result<T>
where
    T: Placed,
{
    // Without a slash at its end.
    let path: PathBuf = path.components().collect();
    let mut making = path.clone().into_os_string();
    making.push(MAKING);
    for _ in 0..ATTEMPTS_MAX {
        check_vacant(&path)?;
        let storage = match FsStorage::create(PathBuf::from(&making)) {
            // It got its name, or was removed, between two looks.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::exists) =>
            {
                continue;
            }
            created => created?,
        };
        // INVARIANT: W5. Whoever has the lock of the directory of that name is the only one who makes this target, from the second look at the target
        // until it has its name. What another one made meanwhile is not emptied.
        let Some(target) = Target::emptied(&storage)? else { continue };
        let made = check_vacant(&path).and_then(|()| make(&target));
        if made.is_err() {
            // What cannot be removed, the next attempt removes.
            let _ = target.clear();
            let lock = target.into_lock();
            let _ = storage.unlink(crate::names::LOCK);
            let _ = storage.remove();
            drop(lock);
            return made;
        }
        let lock = target.into_lock();
        // ORDER: W5. The name comes last: whoever finds a directory there finds a whole one.
        storage.publish(&path)?;
        drop(lock);
        return made.map(|made| made.placed(path));
    }
    Err(Error::Locked { path: making.into() })
}

/// # Errors
/// There is something under this name that is no empty directory.
fn check_vacant(path: &Path) -> Result<()> {
    match FsStorage::open(path) {
        Ok(there) if !there.list()?.is_empty() => Err(Error::TargetNotEmpty { path: path.to_owned() }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// What tells where it is.
pub(crate) trait Placed {
    fn placed(self, path: PathBuf) -> Self;
}

impl Placed for CopyReport {
    fn placed(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }
}

impl Inner {
    /// The live logs up to the frontier, oldest first, and the frontier. A log that is deleted meanwhile is an error: the caller has a pin.
    pub(crate) fn pieces(&self, base: &Checkpoint) -> Result<(Vec<Piece>, (Position, u32))> {
        // First: a log that is closed and sealed behind this look is one that is being written, as far as it was.
        let old = self.retention.old();
        let state = self.commit.lock();
        let (end, digest) = if seeded_bug!(CopyBeyondFrontier) {
            (state.written, state.written_digest.get())
        } else {
            (state.durable, state.durable_digest.get())
        };
        drop(state);
        let sealed = old.iter().filter(|info| info.state == LogState::Sealed || seeded_bug!(UnsealedLinked));
        let sealed: Vec<LogNumber> = sealed.map(|info| info.log).collect();
        let mut pieces = Vec::new();
        let mut next = Some((end.log, end.offset, digest));
        while let Some((log, end, digest)) = next {
            let file = open_log(&*self.storage, base, log)?;
            let Some(header) = file.header else {
                let reason = Box::new(file.fault.unwrap_or(Reason::Missing));
                return Err(Error::ChangedWhileReading { log, offset: 0, reason });
            };
            let (from, digest) = (Arc::clone(&self.storage), Some(digest));
            pieces.push(Piece { from, header, end, sealed: sealed.contains(&log), digest });
            let before = header.predecessor.filter(|before| before.log >= base.lowest);
            next = before.map(|before| (before.log, before.end, before.digest));
        }
        pieces.reverse();
        Ok((pieces, (end, digest)))
    }

    fn copy(self: &Arc<Self>, target: &Target<'_>) -> Result<CopyReport> {
        let span = info_span!("wal.copy", path = %target.storage.path().display());
        let _entered = span.enter();
        // INVARIANT: W5. From here on no log goes, so that what CHECKPOINT says to be the oldest stays it.
        let lowest = self.checkpoint.content().lowest;
        let pin = self.pin(KeeperKind::Copy, "copy", lowest, None);
        if pin.lost() {
            // Logs were deleted between the two. The next look finds what is left.
            drop(pin);
            return self.copy(target);
        }
        let mut base = self.checkpoint.content();
        let (pieces, (end, digest)) = self.pieces(&base)?;
        base.next_index = end.index.next().ok_or(Error::Exhausted("index"))?;
        let (content, made) = image::build(target, &pieces, base, None, || {
            // The pin ends with the log, if that is closed meanwhile.
            still_there(&*self.storage, lowest)
        })?;
        let report = CopyReport::new(target.storage.path().to_owned(), &content, &pieces, &made);
        let last = made.last().map(|made| (made.log, made.seal.digest));
        expect(&report, last, (end.log, end.index.next()), digest)?;
        info!(records = report.records, next_index = report.next_index.get(), "wal.copied");
        Ok(report)
    }
}

/// Compares what was copied with what there was.
fn expect(
    report: &CopyReport,
    last: Option<(LogNumber, u32)>,
    (log, next_index): (LogNumber, Option<Index>),
    digest: u32,
) -> Result<()> {
    if last.is_none_or(|last| last == (log, digest)) && next_index == Some(report.next_index) {
        return Ok(());
    }
    Err(Error::ChangedWhileReading { log, offset: 0, reason: Box::new(Reason::OtherContent) })
}

/// Copies what is proven, and tries again as long as logs are deleted under it.
fn without_lock(storage: &Arc<dyn Storage>, options: &Options, target: &Target<'_>) -> Result<CopyReport> {
    let mut attempts = inspect::ATTEMPTS_MAX;
    loop {
        attempts -= 1;
        let mut first = None;
        let copied = copy_proven(storage, options, target, &mut first);
        let Err(error) = copied else { return copied };
        // RD1. What looks like damage is none if the log is not there any more.
        let error = first.and_then(|first| still_there(&**storage, first).err()).unwrap_or(error);
        if error.kind() != ErrorKind::Gap || attempts == 0 {
            return Err(error);
        }
        target.clear()?;
    }
}

fn copy_proven(
    storage: &Arc<dyn Storage>,
    options: &Options,
    target: &Target<'_>,
    first: &mut Option<LogNumber>,
) -> Result<CopyReport> {
    let Seen { checkpoint, plan, .. } = inspect::settle(&**storage, options)?;
    if let Some(refusal) = plan.refusal {
        return Err(refusal);
    }
    if !plan.findings.is_empty() {
        let report = crate::recovery::report(&**storage, options, &checkpoint, &plan, None);
        return Err(Error::Damaged(Arc::new(report)));
    }
    // RD2. Up to the last proven byte and no further.
    let progress = options.on_progress.as_ref();
    let Some(link) = plan.proven.link.filter(|link| link.log >= checkpoint.lowest) else {
        let base = Checkpoint { next_index: plan.proven.next_index, ..checkpoint };
        let (content, made) = image::build(target, &[], base, progress, || Ok(()))?;
        return Ok(CopyReport::new(target.storage.path().to_owned(), &content, &[], &made));
    };
    let logs = plan.prefix.iter().filter(|walked| walked.log <= link.log);
    let pieces: Vec<Piece> = logs
        .map(|walked| Piece {
            from: Arc::clone(storage),
            header: walked.header,
            end: if walked.log == link.log { link.end } else { walked.good_end },
            digest: None,
            sealed: checkpoint.sealed_through >= walked.log
                && walked.seal.is_some()
                && !walked.behind_seal
                && (walked.log < link.log || link.end == walked.good_end),
        })
        .collect();
    *first = pieces.first().map(|piece| piece.header.log);
    let base = Checkpoint { next_index: plan.proven.next_index, ..checkpoint };
    let (content, made) = image::build(target, &pieces, base, progress, || {
        // RD1, R6. A log that is not deleted by now has two names before anybody looks whether it can be used again.
        match *first {
            Some(first) if !seeded_bug!(NoLookBehindLinks) => still_there(&**storage, first),
            _ => Ok(()),
        }
    })?;
    let report = CopyReport::new(target.storage.path().to_owned(), &content, &pieces, &made);
    let last = made.last().map(|made| (made.log, made.seal.digest));
    expect(&report, last, (link.log, Some(plan.proven.next_index)), link.digest)?;
    Ok(report)
}

/// That the log was not deleted; an archive has no CHECKPOINT, and whoever cannot read it does not know.
pub(crate) fn still_there(storage: &dyn Storage, wanted: LogNumber) -> Result<()> {
    // Its writer may be between the two slots at one look, but not at the next.
    let Some(loaded) = checkpoint::load(storage).or_else(|_| checkpoint::load(storage))? else {
        return Ok(());
    };
    let oldest = loaded.content.lowest;
    if wanted < oldest { Err(Error::Gap { wanted, oldest }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
