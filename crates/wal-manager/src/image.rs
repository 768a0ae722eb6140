//! A directory that is made of logs of others: what a copy and a restore have in common.
//!
//! Each log is a file of its own that nobody else writes to: a second name of one that is sealed, or a copy of its first bytes that gets a seal
//! here. A CHECKPOINT that says that the last log was closed cleanly comes last: before it the directory does not open, and afterwards every
//! byte in it is vouched for.

use std::io;
use std::sync::Arc;

use wal_format::checkpoint::{Checkpoint, CleanEnd};
use wal_format::control::Seal;
use wal_format::encode::LogEncoder;
use wal_format::{FileHeader, LogNumber, LogSeed};
use wal_io::fs::FsStorage;
use wal_io::{Lock, Sink, Source, Storage};

use crate::checkpoint::CheckpointFile;
use crate::error::{Error, Result};
use crate::names::{self, Name};
use crate::options::OnProgress;
use crate::read::{Item, LogReader, Stop};
use crate::recovery::progress::Meter;
use crate::recovery::threads::Threads;
use crate::recovery::{decide, list};
use crate::report::{LogVerdict, Reason};

/// Bytes that are copied at a time: 1 MiB, as large as reads and writes get faster.
const COPY_BYTES: usize = 1 << 20;

/// A log that goes into a directory.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) from: Arc<dyn Storage>,
    pub(crate) header: FileHeader,
    /// What is taken of it, in bytes from its start: up to the end of a record or statement.
    pub(crate) end: u64,
    /// It ends there with a durable seal, and nobody writes to it any more.
    pub(crate) sealed: bool,
    /// Its digest up to there, as far as that is known.
    pub(crate) digest: Option<u32>,
}

/// A log in a directory that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) log: LogNumber,
    /// Length of the file, in bytes.
    pub(crate) bytes: u64,
    /// It is a second name of the file that it came from.
    pub(crate) linked: bool,
    /// What its seal says.
    pub(crate) seal: Seal,
}

/// A directory to be filled, which nobody else opens meanwhile.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) storage: &'a dyn Storage,
    lock: Box<dyn Lock>,
}

impl<'a> Target<'a> {
    /// # Errors
    /// Somebody has it, or there are files of a log in it.
    pub(crate) fn empty(storage: &'a dyn Storage) -> Result<Self> {
        let target = Self::locked(storage)?;
        if target.names()?.is_empty() {
            return Ok(target);
        }
        Err(Error::TargetNotEmpty { path: storage.path().to_owned() })
    }

    /// One that only ever holds what is being made, and may hold what is left of an attempt that died; `None` if it is not under its path any more,
    /// because somebody else has finished it, or given it up.
    pub(crate) fn emptied(storage: &'a FsStorage) -> Result<Option<Self>> {
        let target = match Self::locked(storage) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            locked => locked?,
        };
        if !storage.is_at_its_path()? {
            return Ok(None);
        }
        target.clear()?;
        Ok(Some(target))
    }

    fn locked(storage: &'a dyn Storage) -> Result<Self> {
        let lock = storage.lock(names::LOCK).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { path: storage.path().join(names::LOCK) },
            _ => error.into(),
        })?;
        Ok(Self { storage, lock })
    }

    /// The lock, which outlives the name of the directory.
    pub(crate) fn into_lock(self) -> Box<dyn Lock> {
        self.lock
    }

    /// Removes every file of a log.
    pub(crate) fn clear(&self) -> Result<()> {
        for name in self.names()? {
            // ORDER: W5. Without a CHECKPOINT that was published these files are nobody's log: a crash leaves some of them, for the next call.
            self.storage.unlink(&name)?;
        }
        Ok(())
    }

    /// The files of a log, but the lock.
    fn names(&self) -> Result<Vec<String>> {
        let entries = self.storage.list()?;
        let ours = entries.into_iter().filter(|entry| names::parse(&entry.name) != Name::Other);
        let names = ours.filter_map(|entry| entry.name.into_string().ok());
        Ok(names.filter(|name| name != names::LOCK).collect())
    }
}

/// Makes a directory of `pieces`, oldest first, which are a chain, and of what `base` says besides the logs. `linked` is called once no
/// file is linked any more.
///
/// # Errors
/// A piece cannot be read, or is not what its header and its successor say; or the system failed. The directory has no CHECKPOINT then.
///
/// # Durability
/// Everything in the directory is durable when this returns, and its own name.
pub(crate) fn build(
    target: &Target<'_>,
    pieces: &[Piece],
    base: Checkpoint,
    on_progress: Option<&OnProgress>,
    linked: impl FnOnce() -> Result<()>,
) -> Result<(Checkpoint, Vec<Made>)> {
    let meter = Meter::new(on_progress.cloned());
    meter.expect(pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.end)));
    let mut is_linked = Vec::with_capacity(pieces.len());
    for piece in pieces {
        is_linked.push(piece.sealed && link(target.storage, piece)?);
    }
    linked()?;
    let mut made = Vec::with_capacity(pieces.len());
    for (piece, is_linked) in pieces.iter().zip(is_linked) {
        made.push(if is_linked {
            let name = names::log_name(piece.header.log);
            let source = target.storage.open_source(&name)?;
            let seal = read_to_end(Arc::clone(&source), &piece.header, piece.end)?.0;
            Made { log: piece.header.log, bytes: source.length()?, linked: true, seal }
        } else {
            copy(target.storage, piece, &names::log_name(piece.header.log))?
        });
        meter.add(piece.end);
    }
    let content = checkpoint_of(base, pieces, &made);
    // ORDER: every log has its name, durably, before CHECKPOINT has its own: a crash leaves a directory that does not open, or a whole one.
    target.storage.sync_dir()?;
    check(target.storage, &content, &Meter::new(on_progress.cloned()))?;
    CheckpointFile::install(target.storage, content.clone())?;
    target.storage.sync_parents()?;
    Ok((content, made))
}

/// Gives the file a second name; `false` if there are no links from there to here.
fn link(storage: &dyn Storage, piece: &Piece) -> Result<bool> {
    let name = names::log_name(piece.header.log);
    match storage.link_from(&*piece.from, &name, &name) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Err(error.into())
        }
        Err(_) => Ok(false),
    }
}

/// Copies a log up to its end into a new file, and seals it there.
pub(crate) fn copy(storage: &dyn Storage, piece: &Piece, name: &str) -> Result<Made> {
    let log = piece.header.log;
    let source = piece.from.open_source(&names::log_name(log))?;
    let sink = storage.create(name)?;
    let copied = copy_bytes(&*source, &*sink, piece.end)?;
    if copied < piece.end {
        let reason = Reason::Short { expected: piece.end, found: copied };
        return Err(Error::ChangedWhileReading { log, offset: copied, reason: Box::new(reason) });
    }
    // ORDER: PR5. What a seal seals is durable before it.
    sink.sync_data()?;
    // Read back from where it is now.
    let (seal, mut encoder) = read_to_end(storage.open_source(name)?, &piece.header, piece.end)?;
    let mut bytes = Vec::new();
    encoder.seal(&mut bytes, &seal);
    sink.write_at(piece.end, &bytes)?;
    // ORDER: before its name counts, and before anybody believes the seal.
    sink.sync_all()?;
    Ok(Made { log, bytes: piece.end.saturating_add(bytes.len() as u64), linked: false, seal })
}

/// Copies up to `end` bytes and says how many there were.
pub(crate) fn copy_bytes(source: &dyn Source, sink: &dyn Sink, end: u64) -> Result<u64> {
    let at_most = |left: u64| usize::try_from(left).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
    let mut bytes = vec![0; at_most(end)];
    let mut offset = 0;
    while offset < end {
        let piece = at_most(end - offset);
        let read = source.read_at(offset, bytes.get_mut(..piece).unwrap_or_default())?;
        sink.write_at(offset, bytes.get(..read).unwrap_or_default())?;
        offset = offset.saturating_add(read as u64);
        if read < piece {
            break;
        }
    }
    Ok(offset)
}

/// Reads a log up to `end`, and says what its seal says there, with an encoder that stands at that place.
///
/// # Errors
/// It does not go so far, or a byte of it is wrong.
pub(crate) fn read_to_end(
    source: Arc<dyn Source>,
    header: &FileHeader,
    end: u64,
) -> Result<(Seal, LogEncoder)> {
    let seed = LogSeed::new(header.wal_id, header.log);
    let mut reader = LogReader::new(source, seed, Some(header.first_index), header.seq_floor, end);
    let fault = loop {
        match reader.next()? {
            Item::Record(_) | Item::Promise { .. } => {}
            Item::Stop(Stop::Fault(reason)) => break Some(reason),
            Item::Stop(Stop::AtEnd | Stop::EndOfFile) | Item::Seal { .. } => break None,
        }
    };
    let good_end = reader.good_end();
    if good_end != end || fault.is_some() {
        let reason = fault.unwrap_or(Reason::Short { expected: end, found: good_end });
        let log = header.log;
        return Err(Error::ChangedWhileReading { log, offset: good_end, reason: Box::new(reason) });
    }
    let digest = reader.good_digest();
    let seal = Seal {
        records: reader.records(),
        next_index: reader.next_index(),
        seqs: reader.seqs(),
        digest: digest.get(),
    };
    Ok((seal, LogEncoder::at(seed, end, digest)))
}

/// Reads a log up to its seal, and says where it ends.
///
/// # Errors
/// There is none, or a byte before it is wrong.
pub(crate) fn read_to_seal(source: Arc<dyn Source>, header: &FileHeader) -> Result<(Seal, u64)> {
    let seed = LogSeed::new(header.wal_id, header.log);
    let mut reader = LogReader::new(source, seed, Some(header.first_index), header.seq_floor, u64::MAX);
    loop {
        let reason = match reader.next()? {
            Item::Record(_) | Item::Promise { .. } => continue,
            Item::Seal { seal, .. } => return Ok((seal, reader.good_end())),
            Item::Stop(Stop::Fault(reason)) => reason,
            Item::Stop(Stop::AtEnd | Stop::EndOfFile) => Reason::SealMissing,
        };
        let (log, offset) = (header.log, reader.good_end());
        return Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) });
    }
}

/// What CHECKPOINT says of a directory of these logs.
fn checkpoint_of(base: Checkpoint, pieces: &[Piece], made: &[Made]) -> Checkpoint {
    let mut content = Checkpoint { clean_end: None, ..base };
    let (Some(first), Some(last), Some(piece)) = (made.first(), made.last(), pieces.last()) else {
        // Every log that there was has been deleted.
        content.lowest = content.highest.next().unwrap_or(content.highest);
        (content.active, content.sealed_through) = (content.highest, LogNumber::default());
        return content;
    };
    let next_index = last.seal.next_index;
    (content.lowest, content.highest, content.active) = (first.log, last.log, last.log);
    content.sealed_through = last.log;
    content.next_index = next_index;
    content.clean_end =
        Some(CleanEnd { log: last.log, end: piece.end, next_index, flushed_logs: Vec::new() });
    let read =
        last.seal.seqs.map_or(piece.header.seq_floor, |seqs| seqs.last().next().unwrap_or(seqs.last()));
    content.seq_floor = content.seq_floor.max(read);
    content
}

/// Reads the directory as recovery will, and accepts only what is clean.
fn check(storage: &dyn Storage, content: &Checkpoint, meter: &Meter) -> Result<()> {
    let plan = decide(storage, content, list(storage)?, meter, Threads::ONE)?;
    if let Some(refusal) = plan.refusal {
        return Err(refusal);
    }
    let finding = plan.findings.into_iter().next();
    let wrong = finding.map(|finding| (finding.log, finding.offset, finding.reason)).or_else(|| {
        let report = plan.reports.into_iter().find(|report| report.verdict != LogVerdict::Clean)?;
        Some((report.log, report.offset, report.reason.unwrap_or(Reason::OtherContent)))
    });
    match wrong {
        Some((log, offset, reason)) => {
            Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) })
        }
        None if plan.next_index != content.next_index => {
            let reason = Reason::BehindCheckpoint { expected: content.next_index, found: plan.next_index };
            let log = content.active;
            Err(Error::ChangedWhileReading { log, offset: 0, reason: Box::new(reason) })
        }
        None => Ok(()),
    }
}

/// The sequence numbers and the records of the logs together.
pub(crate) fn totals(made: &[Made]) -> (u64, Option<wal_format::SeqRange>) {
    let records = made.iter().fold(0_u64, |sum, made| sum.saturating_add(made.seal.records));
    (records, made.iter().filter_map(|made| made.seal.seqs).reduce(|all, seqs| all.union(seqs)))
}
