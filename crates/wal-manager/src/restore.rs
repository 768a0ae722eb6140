//! A new directory that holds what an archive and a live log hold together, up to a point.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, info_span};
use wal_format::checkpoint::Checkpoint;
use wal_format::{LogNumber, LogSeed, RecordKind, SeqNum};
use wal_io::Storage;
use wal_io::fs::FsStorage;

use crate::archive;
use crate::checkpoint;
use crate::copy::{CopyReport, in_directory, still_there};
use crate::error::{Error, Result};
use crate::image::{self, Piece, Target};
use crate::inspect::{self, Seen};
use crate::names;
use crate::options::{OnProgress, Options, Place};
use crate::read::{Item, LogReader, Stop};
use crate::report::Reason;
use crate::wal::Wal;

/// How far a restore goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestorePoint {
    /// To the last record.
    #[default]
    End,
    /// Every record whose sequence numbers are all at most this.
    Seq(SeqNum),
    /// To the first record that was appended later than this, in microseconds since 1970; that one is not in it. Records need
    /// [`Options::record_times`](crate::Options::record_times); one without a time counts as appended with the one before it.
    TimeMicros(u64),
    /// To the mark of this name ([`Wal::mark`](crate::Wal::mark)), which is in it; the last one, if there are several.
    Mark(String),
}

impl fmt::Display for RestorePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the end"),
            Self::Seq(seq) => write!(f, "sequence number {seq}"),
            Self::TimeMicros(micros) => write!(f, "{micros} microseconds since 1970"),
            Self::Mark(name) => write!(f, "the mark {name:?}"),
        }
    }
}

impl Wal {
    /// Makes the directory `target`, which is not there yet or is empty, of what the directories `sources` hold together: archives, and live logs
    /// whether or not somebody writes to them, in any order. It begins with the oldest log from which on nothing is missing, ends at `to` or with the last
    /// record that can be read, as a recovery would, and nothing in it
    /// is marked as flushed: replay hands out everything. It opens as a log that was closed cleanly.
    ///
    /// It is the same write-ahead log, at an earlier time: what is appended to it gets numbers that the original gave to other records. Give it an
    /// archive of its own.
    ///
    /// # Errors
    /// [`Error::RestorePoint`] if the point is not in what is there; [`Error::ArchiveGap`] if a log is missing in between; damage; or two
    /// sources hold different logs under one number. There is no directory then.
    ///
    /// # Durability
    /// Everything in it is durable when this returns; the directory gets its name last.
    ///
    /// # Concurrency
    /// The sources are read without their locks; whoever writes to one goes on.
    pub fn restore<P: AsRef<Path>>(
        sources: &[P],
        target: impl Into<PathBuf>,
        to: &RestorePoint,
    ) -> Result<CopyReport> {
        Self::options(target).restore(sources, to)
    }

    /// [`Wal::restore`] of and to any storage; the target must hold no file of a log.
    ///
    /// # Errors
    /// As for [`Wal::restore`].
    ///
    /// # Durability
    /// As for [`Wal::restore`].
    pub fn restore_on(
        sources: &[Arc<dyn Storage>],
        target: &dyn Storage,
        to: &RestorePoint,
    ) -> Result<CopyReport> {
        restore(sources, &Target::empty(target)?, to, None)
    }
}

impl Options {
    /// [`Wal::restore`] to the place of these options, which tells how far it has come ([`Options::on_progress`]).
    ///
    /// # Errors
    /// As for [`Wal::restore`].
    ///
    /// # Durability
    /// As for [`Wal::restore`].
    pub fn restore<P: AsRef<Path>>(self, sources: &[P], to: &RestorePoint) -> Result<CopyReport> {
        let open = |path: &P| Ok(Arc::new(FsStorage::open(path.as_ref())?) as Arc<dyn Storage>);
        let sources = sources.iter().map(open).collect::<Result<Vec<_>>>()?;
        let progress = self.on_progress.clone();
        match self.place {
            Place::Directory(path) => {
                in_directory(path, |target| restore(&sources, target, to, progress.as_ref()))
            }
            Place::Storage(target) => restore(&sources, &Target::empty(&*target)?, to, progress.as_ref()),
        }
    }
}

fn restore(
    sources: &[Arc<dyn Storage>],
    target: &Target<'_>,
    to: &RestorePoint,
    progress: Option<&OnProgress>,
) -> Result<CopyReport> {
    let span = info_span!("wal.restore", path = %target.storage.path().display());
    let _entered = span.enter();
    let (mut pieces, base) = gather(sources, progress)?;
    let cut = find(&pieces, to)?;
    if let Some((log, end)) = cut {
        pieces.retain(|piece| piece.header.log <= log);
        // Where nothing of a log is wanted, the one before it is the last; but one there must be.
        if let Some(last) = pieces.last_mut() {
            last.sealed &= last.end == end;
            last.end = end;
        }
    }
    let (content, made) = image::build(target, &pieces, base, progress, || {
        // RD1, R6. What a writer has not deleted by now has two names before it looks whether it can use it again.
        let mut sealed = pieces.iter().filter(|piece| piece.sealed);
        sealed.try_for_each(|piece| still_there(&*piece.from, piece.header.log))
    })?;
    let report = CopyReport::new(target.storage.path().to_owned(), &content, &pieces, &made);
    info!(records = report.records, next_index = report.next_index.get(), %to, "wal.restored");
    Ok(report)
}

/// The logs that are a chain up to the newest, oldest first, and what they have in common.
fn gather(sources: &[Arc<dyn Storage>], progress: Option<&OnProgress>) -> Result<(Vec<Piece>, Checkpoint)> {
    let mut found: BTreeMap<LogNumber, Piece> = BTreeMap::new();
    let mut base: Option<Checkpoint> = None;
    // Archives last: a log is in its archive before it leaves the directory that is written.
    let is_archive = |source: &&Arc<dyn Storage>| matches!(checkpoint::load(&***source), Ok(None));
    let (archives, live): (Vec<_>, Vec<_>) = sources.iter().partition(is_archive);
    for source in live.into_iter().chain(archives) {
        if archive::is_empty(&**source)? {
            continue;
        }
        let mut options = Options::on_storage(Arc::clone(source));
        options.on_progress = progress.cloned();
        let Seen { checkpoint, plan, .. } = inspect::settle(&**source, &options)?;
        if let Some(refusal) = plan.refusal {
            return Err(refusal);
        }
        if !plan.findings.is_empty() {
            let report = crate::recovery::report(&**source, &options, &checkpoint, &plan, None);
            return Err(Error::Damaged(Arc::new(report)));
        }
        let common = base.get_or_insert_with(|| {
            let mut base = Checkpoint::new(checkpoint.wal_id);
            (base.version, base.seq_floor) = (1, SeqNum::default());
            base.config_fingerprint = checkpoint.config_fingerprint;
            base
        });
        if common.wal_id != checkpoint.wal_id {
            let path = source.path().to_owned();
            return Err(Error::Foreign { path, expected: common.wal_id, found: checkpoint.wal_id });
        }
        for walked in plan.prefix {
            common.epoch = common.epoch.max(walked.header.epoch);
            let sealed =
                checkpoint.sealed_through >= walked.log && walked.seal.is_some() && !walked.behind_seal;
            let (header, end) = (walked.header, walked.good_end);
            let digest = Some(walked.digest.get());
            let piece = Piece { from: Arc::clone(source), header, end, sealed, digest };
            let path = || source.path().join(names::log_name(header.log));
            match found.get(&header.log) {
                Some(other) if other.header != header => {
                    return Err(Error::ArchiveConflict { path: path(), log: header.log });
                }
                // The one that goes on longer; it is the one that is sealed, if one is.
                Some(other) if other.end >= end => {}
                _ => drop(found.insert(header.log, piece)),
            }
        }
    }
    let (Some(base), Some((_, top))) = (base, found.pop_last()) else {
        return Err(Error::RestorePoint { to: RestorePoint::End, why: "there is no log in the sources" });
    };
    let mut pieces = vec![top];
    while let Some(before) = pieces.last().and_then(|piece| piece.header.predecessor) {
        // Numbers between the two were abandoned.
        let Some(mut piece) = found.remove(&before.log) else {
            if found.range(..before.log).next().is_some() {
                return Err(Error::ArchiveGap { missing: before.log });
            }
            break;
        };
        piece.sealed &= piece.end == before.end;
        (piece.end, piece.digest) = (before.end, Some(before.digest));
        pieces.push(piece);
    }
    pieces.reverse();
    Ok((pieces, base))
}

/// Where the restored log ends; `None` if at its end.
fn find(pieces: &[Piece], to: &RestorePoint) -> Result<Option<(LogNumber, u64)>> {
    if *to == RestorePoint::End {
        return Ok(None);
    }
    let too_old = |why| Error::RestorePoint { to: to.clone(), why };
    let (mut any_time, mut any_record, mut marked) = (false, false, None);
    for (at, piece) in pieces.iter().enumerate() {
        let header = &piece.header;
        let source = piece.from.open_source(&names::log_name(header.log))?;
        let seed = LogSeed::new(header.wal_id, header.log);
        let (first, floor) = (Some(header.first_index), header.seq_floor);
        let mut reader = LogReader::new(source, seed, first, floor, piece.end);
        // Behind the header.
        let mut end = 0;
        loop {
            match reader.next()? {
                Item::Record(record) => {
                    let head = record.head;
                    any_time |= head.time_micros.is_some();
                    let stop = match to {
                        RestorePoint::Seq(seq) => head.seqs.last() > *seq,
                        RestorePoint::TimeMicros(micros) => {
                            head.time_micros.is_some_and(|time| time > *micros)
                        }
                        _ => false,
                    };
                    if stop && !seeded_bug!(RestoreOnePast) {
                        if !any_record && header.first_index.get() > 1 {
                            return Err(too_old("it lies before everything that is there"));
                        }
                        // Nothing of this log: the one before it is the last.
                        let whole =
                            at.checked_sub(1).and_then(|before| pieces.get(before)).filter(|_| end == 0);
                        return Ok(Some(match whole {
                            Some(before) => (before.header.log, before.end),
                            None => (header.log, if end == 0 { record.offset } else { end }),
                        }));
                    }
                    any_record = true;
                    end = reader.good_end();
                    if stop {
                        return Ok(Some((header.log, end)));
                    }
                    if let RestorePoint::Mark(name) = to
                        && head.kind == RecordKind::MARK
                        && reader.payload() == name.as_bytes()
                    {
                        marked = Some((header.log, end));
                    }
                }
                Item::Promise { .. } => {}
                Item::Stop(Stop::Fault(reason)) => {
                    let (log, offset) = (header.log, reader.good_end());
                    return Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) });
                }
                Item::Stop(Stop::AtEnd | Stop::EndOfFile) | Item::Seal { .. } => break,
            }
        }
        if reader.good_end() < piece.end {
            let reason = Reason::Short { expected: piece.end, found: reader.good_end() };
            let (log, offset) = (header.log, reader.good_end());
            return Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) });
        }
    }
    match to {
        RestorePoint::Mark(_) if marked.is_none() => Err(too_old("there is no such mark")),
        RestorePoint::TimeMicros(_) if any_record && !any_time => {
            Err(too_old("no record says when it was appended: see Options::record_times"))
        }
        _ => Ok(marked),
    }
}
