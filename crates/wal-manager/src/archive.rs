//! Logs that nobody needs any more are archived before they are deleted.
//!
//! An archive is a directory of sealed logs and a file named [`MARKER`], without a CHECKPOINT: each log ends with its seal, and each header says how the
//! log before it ended, so that it can be read, verified and restored from as it is. A log gets its name there when it is whole, durable and read
//! back; only then may the original go, which a pin keeps until then.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::{info, warn};
use wal_format::LogNumber;
use wal_format::checkpoint::{Checkpoint, CleanEnd};
use wal_io::{Lock, Storage};

use crate::clock::micros;
use crate::error::{Error, Result};
use crate::image::{self, Piece};
use crate::inner::Inner;
use crate::keepers::{KeeperKind, Pin};
use crate::names;
use crate::options::Options;
use crate::recovery::read_header;
use crate::report::Reason;
use crate::retention::Deletion;
use crate::sync::{Mutex, MutexGuard};
use crate::watchdog::DiskWork;

/// The file that says that a directory is an archive.
pub(crate) const MARKER: &str = "ARCHIVE";

/// What a person reads in it.
const MARKER_TEXT: &[u8] = b"An archive of a write-ahead log. Read it with walctl verify, dump or restore.\n";

/// Behind the name of a log that is being archived.
const PART: &str = ".part";

/// How much an archive keeps. The oldest logs go first, and the newest never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveLimits {
    /// At most so many bytes; `None`: no limit.
    pub bytes: Option<u64>,
    /// A log goes when its last record is older than this, by the time at which the next log was begun; `None`: no limit.
    pub age: Option<Duration>,
}

impl ArchiveLimits {
    /// Everything is kept.
    pub const NONE: Self = Self { bytes: None, age: None };

    /// At most so many bytes.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// At most so old.
    #[must_use]
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }
}

/// The archive of an open log.
#[derive(Debug)]
pub(crate) struct Archive {
    storage: Arc<dyn Storage>,
    limits: ArchiveLimits,
    /// One at a time. Keeps what is not archived.
    pin: Mutex<Option<Pin>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Archive {
    /// # Errors
    /// Somebody else archives there, or it is another log's archive, or it cannot be written.
    pub(crate) fn open(options: &Options, wal_id: wal_format::WalId) -> Result<Option<Self>> {
        let Some((storage, limits)) = options.archive_storage()? else { return Ok(None) };
        let lock = storage.lock(names::LOCK).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked { path: storage.path().join(names::LOCK) },
            _ => error.into(),
        })?;
        let logs = logs(&*storage)?;
        let newest = logs.last().map(|&log| read_header(&*storage, log)).transpose()?.flatten();
        if let Some(header) = newest.filter(|header| header.wal_id != wal_id) {
            let path = storage.path().join(names::log_name(header.log));
            return Err(Error::Foreign { path, expected: wal_id, found: header.wal_id });
        }
        match storage.open_source(names::CHECKPOINT) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A log lives there.
            _ => return Err(Error::TargetNotEmpty { path: storage.path().to_owned() }),
        }
        match storage.create(MARKER) {
            Ok(sink) => {
                sink.write_at(0, MARKER_TEXT)?;
                sink.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        // ORDER: G12. The directory is there for certain before the first original goes.
        storage.sync_dir()?;
        storage.sync_parents()?;
        Ok(Some(Self { storage, limits, pin: Mutex::default(), lock: Mutex::new(Some(lock)) }))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pin>> {
        // Nothing is left half-way: what is not archived is pinned.
        self.pin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody archives any more, and gives the archive free; of a log that is closed, nobody begins to.
    pub(crate) fn close(&self) {
        let pin = self.lock();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(pin);
    }

    /// Archives one log. Whatever an attempt that died left is finished or done again.
    fn store(&self, piece: &Piece) -> Result<()> {
        let log = piece.header.log;
        let name = names::log_name(log);
        let storage = &*self.storage;
        match storage.open_source(&name) {
            Ok(_) => match read_header(storage, log)? {
                Some(header) if header != piece.header => {
                    return Err(Error::ArchiveConflict { path: storage.path().join(name), log });
                }
                _ => match self.verify(piece, &name) {
                    // ORDER: G12. It may have been renamed and not synced by who died.
                    Ok(true) => return Ok(storage.sync_dir()?),
                    _ if seeded_bug!(ArchiveBelieved) => return Ok(storage.sync_dir()?),
                    // Whole, and another: the same log of a directory that was copied or restored begins like this one.
                    Ok(false) => return Err(Error::ArchiveConflict { path: storage.path().join(name), log }),
                    // It has rotted, and the original is still there to take its place.
                    Err(Error::ChangedWhileReading { .. }) => {}
                    Err(error) => return Err(error),
                },
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let part = format!("{name}{PART}");
        match storage.unlink(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let linked = piece.sealed && storage.link_from(&*piece.from, &name, &part).is_ok();
        let made = if linked { None } else { Some(image::copy(storage, piece, &part)?) };
        if !self.verify(piece, &part)? {
            let reason = Box::new(Reason::OtherContent);
            return Err(Error::ChangedWhileReading { log, offset: piece.end, reason });
        }
        storage.rename(&part, &name)?;
        // ORDER: G12. The log is in the archive for certain before its original may go.
        if !seeded_bug!(ArchiveNotSynced) {
            storage.sync_dir()?;
        }
        info!(log = log.get(), linked = made.is_none(), "wal.archived");
        Ok(())
    }

    /// Reads a log in the archive to its seal; whether it is this one.
    fn verify(&self, piece: &Piece, name: &str) -> Result<bool> {
        let source = self.storage.open_source(name)?;
        let (seal, end) = image::read_to_seal(source, &piece.header)?;
        Ok(end == piece.end && piece.digest == Some(seal.digest))
    }

    /// Removes the oldest logs that are over the limits, and says how many.
    fn trim(&self, now_micros: u64) -> Result<u64> {
        let storage = &*self.storage;
        if self.limits == ArchiveLimits::NONE {
            return Ok(0);
        }
        let logs = logs(storage)?;
        let length = |log: &LogNumber| storage.open_source(&names::log_name(*log))?.length();
        let mut bytes = 0_u64;
        for log in &logs {
            bytes = bytes.saturating_add(length(log)?);
        }
        let mut trimmed = 0;
        for pair in logs.windows(2) {
            let &[log, next] = pair else { continue };
            let begun = read_header(storage, next)?.map_or(now_micros, |header| header.created_micros);
            let age = Duration::from_micros(now_micros.saturating_sub(begun));
            let too_old = self.limits.age.is_some_and(|limit| age > limit);
            if !too_old && self.limits.bytes.is_none_or(|limit| bytes <= limit) {
                break;
            }
            let own = length(&log)?;
            // ORDER: oldest first, so that whatever a crash leaves has no hole.
            storage.unlink(&names::log_name(log))?;
            bytes = bytes.saturating_sub(own);
            trimmed += 1;
            warn!(log = log.get(), bytes = own, too_old, "wal.archive_trimmed");
        }
        if trimmed > 0 {
            // ORDER: after the unlinks; who is told that so much was trimmed finds it gone after a crash too.
            storage.sync_dir()?;
        }
        Ok(trimmed)
    }
}

impl Inner {
    /// From now on nothing goes that is not archived.
    pub(crate) fn begin_to_archive(self: &Arc<Self>) {
        let Some(archive) = &self.archive else { return };
        let lowest = self.checkpoint.content().lowest;
        *archive.lock() = Some(self.pin(KeeperKind::Archive, "archive", lowest, None));
        // What the process before could not archive any more.
        self.delete_later();
    }

    /// After a deletion: what waits to be archived, and then goes too. In the background, if there is one, else here.
    pub(crate) fn then_archive(self: &Arc<Self>, mut deletion: Deletion) -> Deletion {
        if self.archive.is_none() || self.housekeeper.delete_in_background(self) {
            return deletion;
        }
        if self.archive_unneeded() {
            // A failure is told by itself, and tried again: the marks are durable.
            if let Ok(more) = self.delete_unneeded() {
                deletion.deleted.extend(more.deleted);
                deletion.bytes = deletion.bytes.saturating_add(more.bytes);
                deletion.retry = more.retry;
            }
        }
        deletion
    }

    /// Archives the logs that nobody else needs, oldest first; whether any was. A failure is no failure of the log: it is tried again, and the
    /// logs stay meanwhile.
    pub(crate) fn archive_unneeded(self: &Arc<Self>) -> bool {
        let Some(archive) = &self.archive else { return false };
        let pin = archive.lock();
        let mut any = false;
        let done = (|| {
            let (Some(pin), Ok(_)) = (pin.as_ref(), self.check_open()) else { return Ok(()) };
            let unneeded = self.unneeded();
            let Some(last) = unneeded.last().copied() else { return Ok(()) };
            let mut base = self.checkpoint.content();
            // What is archived already is not read again, however long others keep it.
            base.lowest = base.lowest.max(pin.from());
            let (pieces, _) = self.pieces(&base)?;
            for piece in pieces.iter().filter(|piece| piece.header.log <= last) {
                // For each log anew: many that wait are no disk that hangs.
                let at_disk = self.commit.at_disk(DiskWork::Archive);
                archive.store(piece)?;
                drop(at_disk);
                self.metrics.archived_logs.increment(1);
                any = true;
                let next = piece.header.log.next().unwrap_or(piece.header.log);
                pin.advance_quietly(next);
            }
            let _at_disk = self.commit.at_disk(DiskWork::Archive);
            self.metrics.archive_trimmed_logs.increment(archive.trim(micros(self.clock.wall()))?);
            Ok(())
        })();
        if let Err(error) = done {
            let error: Error = error;
            self.metrics.archive_failures.increment(1);
            warn!(%error, "wal.archive_failed");
        }
        any
    }
}

/// Whether a directory is an archive that holds nothing yet.
pub(crate) fn is_empty(storage: &dyn Storage) -> Result<bool> {
    let listing = crate::recovery::list(storage)?;
    Ok(listing.logs.is_empty() && listing.others.iter().any(|name| name == MARKER))
}

/// The logs in a directory, oldest first.
fn logs(storage: &dyn Storage) -> Result<Vec<LogNumber>> {
    Ok(crate::recovery::list(storage)?.logs)
}

/// What CHECKPOINT would say of an archive, if it had one; `None` if there is nothing in it.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn checkpoint_of(storage: &dyn Storage, logs: &[LogNumber]) -> Result<Option<Checkpoint>> {
    let mut headers = Vec::with_capacity(logs.len());
    for &log in logs {
        headers.extend(read_header(storage, log)?);
    }
    let (Some(first), Some(last)) = (headers.first(), headers.last()) else { return Ok(None) };
    let mut content = Checkpoint::new(first.wal_id);
    content.version = 1;
    content.epoch = headers.iter().map(|header| header.epoch).max().unwrap_or(first.epoch);
    content.lowest = logs.first().copied().unwrap_or(first.log);
    content.highest = logs.last().copied().unwrap_or(last.log);
    (content.active, content.sealed_through) = (content.highest, content.highest);
    (content.next_index, content.config_fingerprint) = (last.first_index, last.config_fingerprint);
    if let Ok((seal, end)) = image::read_to_seal(storage.open_source(&names::log_name(last.log))?, last) {
        content.next_index = seal.next_index;
        content.clean_end =
            Some(CleanEnd { log: last.log, end, next_index: seal.next_index, flushed_logs: Vec::new() });
    }
    Ok(Some(content))
}
