//! From one log to the next.
//!
//! The next file is created, made durable and recorded in CHECKPOINT while it is still empty; whatever fails up to there leaves the
//! old log as it was, writable (R4). Then the old log is synced, the writer switches in memory, and the old log gets its seal. The new log's
//! header goes out with its first group.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tracing::{info, info_span, warn};
use wal_format::checkpoint::CleanEnd;
use wal_format::encode::LogEncoder;
use wal_format::header::Predecessor;
use wal_format::{FamilyId, FileHeader, Index, LogNumber, LogSeed, SeqNum, SeqRange};
use wal_io::probe::Way;
use wal_io::{Access, IoError, Sink};

use crate::clock::micros;
use crate::error::{Error, Result};
use crate::housekeeping::Work;
use crate::names;
use crate::record::Position;
use crate::retention::flushed_logs;
use crate::state::ActiveLog;
use crate::sync::{Mutex, MutexGuard};
use crate::wal::Inner;
use crate::watchdog::DiskWork;

/// A deleted log is overwritten with zeros in pieces of this size: 1 MiB, as large as writes get faster.
const WIPE_BYTES: usize = 1 << 20;

/// Files are filled in multiples of this: 1 MiB.
pub(crate) const FILL_STEP_BYTES: u64 = 1 << 20;

/// A log that was closed by a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedLog {
    /// Its number.
    pub log: LogNumber,
    /// How many records it holds.
    pub records: u64,
    /// Their sequence numbers.
    pub seqs: Option<SeqRange>,
    /// The families in it, ascending, each with its highest sequence number: once all of them are flushed, the log can go.
    pub families: Vec<(FamilyId, SeqNum)>,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The next log, made ahead: a durable, empty file.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) log: LogNumber,
    sink: Arc<dyn Sink>,
    /// Up to here the file has space on the disk; `u64::MAX` if it grows.
    reserved: u64,
}

/// The log after the active one, as far as it is made.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Made, and CHECKPOINT knows it: a rotation takes it at once.
    pub(crate) ready: Option<Prepared>,
    /// How long the next log is likely to become: as long as the one before if the engine rotates, and otherwise as long as logs may be.
    likely: Option<u64>,
    /// Made, but CHECKPOINT does not surely know it.
    pub(crate) prepared: Option<Prepared>,
    /// A file that was created and could not be made durable: it is empty, and is removed before its number is used.
    pub(crate) half_made: Option<String>,
    /// Files that failed resumes left, and that nobody will use.
    pub(crate) abandoned: Vec<String>,
    /// There is space kept for the next open.
    pub(crate) reserve_is_kept: bool,
}

/// Who rotates, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    next: Mutex<Next>,
}

impl Inner {
    /// Rotates if the active log is `only` (or whatever it is, for `None`) and holds a record.
    pub(crate) fn rotate(self: &Arc<Self>, only: Option<LogNumber>) -> Result<Option<SealedLog>> {
        let begin = self.clock.monotonic();
        let mut next = self.rotation.lock();
        let state = self.commit.lock();
        state.check()?;
        let (active, empty, bytes) = (state.active.log, state.active.records == 0, state.accepted.offset);
        let allowed = state.may_rotate();
        drop(state);
        if empty || only.is_some_and(|only| only != active) {
            // There is nothing to rotate away from, or somebody else has rotated in the meantime.
            return Ok(None);
        }
        let span = info_span!("wal.rotate", path = %self.storage.path().display(), log = active.get());
        let _entered = span.enter();
        allowed?;
        next.likely = only.is_none().then(|| bytes.next_multiple_of(FILL_STEP_BYTES));
        let done = self.rotate_from(active, &mut next).map_err(|error| self.disk_error(error));
        if let Err(error) = &done {
            self.metrics.rotation_failures.increment(1);
            warn!(log = active.get(), %error, "wal.rotation_failed");
        } else {
            let took = self.clock.monotonic().saturating_sub(begin);
            self.metrics.rotation_seconds.record(took.as_secs_f64());
        }
        done.map(Some)
    }

    fn rotate_from(self: &Arc<Self>, active: LogNumber, slot: &mut Next) -> Result<SealedLog> {
        let next = match slot.ready.take() {
            Some(next) => next,
            None => {
                // ORDER: CK7. The next file is prepared only after this log's first group is durable, and the update that records it carries
                // the exact index: a log whose first group is lost afterwards is missed.
                if !seeded_bug!(PreparedTooEarly) {
                    self.commit.sync()?;
                }
                self.metrics.rotation_waits.increment(1);
                self.prepare(active, slot)?
            }
        };
        let exclusive = match self.commit.exclusive() {
            Ok(exclusive) => exclusive,
            Err(error) => {
                // A resume gives it back.
                slot.ready = Some(next);
                return Err(error);
            }
        };
        // R4: from here on nothing can fail; before, nothing was changed in memory.
        let mut state = self.commit.lock();
        let end = state.durable;
        let before = Predecessor {
            log: active,
            end: end.offset,
            proven: end.offset,
            digest: state.active.encoder.digest().get(),
        };
        let mut header =
            FileHeader::new(self.wal_id, next.log, self.epoch, state.next_index, state.seq_floor);
        header.predecessor = Some(before);
        header.config_fingerprint = self.config_fingerprint;
        header.created_micros = micros(self.clock.wall());
        let mut encoder = LogEncoder::new(LogSeed::new(self.wal_id, next.log));
        let mut bytes = Vec::new();
        encoder.header(&mut bytes, &header);
        let log = ActiveLog {
            log: next.log,
            sink: next.sink,
            encoder,
            records: 0,
            seqs: None,
            families: BTreeMap::new(),
            created_micros: header.created_micros,
            reserved: next.reserved,
        };
        let mut old = state.switch(log, bytes);
        if seeded_bug!(FamiliesForgotten) {
            old.families.clear();
        }
        let next_index = state.next_index;
        // INVARIANT: G8. Before anybody sees the log behind it: who looks at what families are left must find them in one or the other.
        self.retention.closed(&old, end.offset);
        drop(state);
        let families = old.families.iter().map(|(family, seq)| (*family, *seq)).collect();
        let sealed =
            SealedLog { log: old.log, records: old.records, seqs: old.seqs, families, bytes: end.offset };
        // INVARIANT: G7. What was closed counts before anything is appended behind it.
        self.recount();
        // As long as nobody appends: everything is durable, so the window moves on.
        self.release_window();
        drop(exclusive);
        self.metrics.rotations.increment(1);
        self.metrics.next_log_ready.set(0.0);
        info!(log = old.log.get(), next = next.log.get(), records = old.records, "wal.rotated");
        if let Some((old, next_index)) = self.housekeeper.seal((old, next_index), self) {
            self.seal(old, next_index);
        }
        self.delete_later();
        self.pressure_later();
        self.update_gauges();
        Ok(sealed)
    }

    /// Makes the log after the active one, so that the next rotation finds it ready.
    pub(crate) fn prepare_ahead(&self) -> Result<()> {
        let mut next = self.rotation.lock();
        let state = self.commit.lock();
        state.check()?;
        let active = state.active.log;
        // ORDER: CK7. Only after the active log's first group is durable.
        let begun = state.durable.log == active || seeded_bug!(PreparedAheadTooEarly);
        drop(state);
        if next.ready.is_some() || !begun {
            return Ok(());
        }
        match self.prepare(active, &mut next) {
            Ok(prepared) => {
                next.ready = Some(prepared);
                self.keep_reserve(&mut next);
            }
            Err(error) => {
                let error = self.disk_error(error);
                self.metrics.rotation_failures.increment(1);
                warn!(log = active.get(), %error, "wal.rotation_failed");
                return Err(error);
            }
        }
        let mut state = self.commit.lock();
        state.better_is_ready = self.files.way.fills() && !state.rotated;
        state.measure();
        drop(state);
        self.metrics.next_log_ready.set(1.0);
        Ok(())
    }

    /// Makes an empty file for the log after `active`, durable and recorded. After a failure the next call goes on where this one stopped.
    fn prepare(&self, active: LogNumber, slot: &mut Next) -> Result<Prepared> {
        let begin = self.clock.monotonic();
        let at_disk = self.commit.watchdog().begin(DiskWork::Prepare, active);
        let next = match slot.prepared.take() {
            Some(next) => next,
            None => {
                // INVARIANT: R5. Higher than every number that ever held a byte: recovery and rotation only count up.
                let log = active.next().ok_or(Error::Exhausted("log"))?;
                let length = slot.likely.unwrap_or(self.log_bytes).min(self.log_bytes);
                // What grows meets a full disk in the middle of a record: not where it is known to be full.
                let reserve = match self.files.way.fills() {
                    false if self.commit.lock().room.disk_is_full() => length.min(FILL_STEP_BYTES),
                    _ => 0,
                };
                let sink = self.make_blank(&names::log_name(log), length, reserve, &mut slot.half_made)?;
                let reserved = match self.files.way.fills() {
                    true => length,
                    false if reserve > 0 => reserve,
                    false => u64::MAX,
                };
                self.disk_has_space();
                Prepared { log, sink, reserved }
            }
        };
        // ORDER: CK3, CK7. Both slots know the number before a byte is written under it: a missing newest log is then proven.
        slot.prepared = Some(next.clone());
        if !seeded_bug!(PreparedNotRecorded) {
            self.update_checkpoint(|content| content.highest = content.highest.max(next.log))?;
        }
        // While the next call would still find it: a clock and a recorder may panic.
        drop(at_disk);
        let took = self.clock.monotonic().saturating_sub(begin);
        self.metrics.prepare_seconds.record(took.as_secs_f64());
        self.metrics.spare_logs.set(self.retention.spare_count() as f64);
        slot.prepared = None;
        Ok(next)
    }

    /// A file without a log in it: a deleted log's, or a new one. At least `length` bytes long where files are filled before they are used, so that
    /// a full disk is met here, before a record is accepted; and with space for `reserve` bytes, wherever it is.
    pub(crate) fn make_blank(
        &self,
        name: &str,
        length: u64,
        reserve: u64,
        half_made: &mut Option<String>,
    ) -> Result<Arc<dyn Sink>> {
        let made = self.make_file(name, length, reserve, half_made);
        // ORDER: CK3. Before its number is recorded: a crash on either side of this leaves a name that CHECKPOINT does not ask for.
        if made.as_ref().is_err_and(|error| error.no_space().is_some())
            && half_made.as_ref().is_some_and(|name| self.storage.unlink(name).is_ok())
        {
            // What it took of a full disk is what others need.
            *half_made = None;
        }
        made
    }

    fn make_file(
        &self,
        name: &str,
        length: u64,
        reserve: u64,
        half_made: &mut Option<String>,
    ) -> Result<Arc<dyn Sink>> {
        if let Some(name) = half_made.as_ref() {
            // ORDER: CK3. As above. It holds no byte of a log, so its number is still free.
            match self.storage.unlink(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => *half_made = None,
            }
        }
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = self.retention.take_for_reuse();
        let reused = spare.map_or(Ok(None), |spare| self.reuse(&spare, name)).unwrap_or_else(|error| {
            // A new file does as well. The old one is below CHECKPOINT's lowest: the next open removes it.
            warn!(%error, "wal.not_recycled");
            None
        });
        let sink = match reused {
            Some(sink) => {
                *half_made = Some(name.to_owned());
                sink
            }
            None => {
                // R3: an existing file is an error, never written over. After any other error there may be a file, and then it is ours.
                let created = self.by_access(|access| self.storage.create_with(name, access));
                let ours = created
                    .as_ref()
                    .map_or_else(|error| error.kind() != io::ErrorKind::AlreadyExists, |_| true);
                *half_made = ours.then(|| name.to_owned());
                created?
            }
        };
        if self.files.way.fills() {
            sink.fill(length)?;
        }
        if reserve > 0 {
            sink.preallocate(reserve)?;
        }
        // ORDER: I3, I4. File and name are durable before the number is recorded and the log is used: from here on fdatasync is enough.
        sink.sync_all()?;
        if !seeded_bug!(NextNameNotSynced) {
            self.storage.sync_dir()?;
        }
        *half_made = None;
        Ok(sink)
    }

    /// Opens a file as the log's way says. Rings that are refused by now (somebody locked the process in, say) are no reason to stop: what they would write
    /// is written past the cache without them.
    fn by_access<T>(&self, open: impl Fn(Access) -> Result<T, IoError>) -> Result<T, IoError> {
        let access = self.files.way.access();
        if access != Access::Ring {
            return open(access);
        }
        if !self.rings_refused.load(Ordering::Relaxed) {
            match open(access) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.rings_refused.store(true, Ordering::Relaxed);
                    self.metrics.file_way.set(f64::from(Way::Direct as u8));
                    warn!(%error, "wal.rings_refused");
                }
                opened => return opened,
            }
        }
        open(Access::Direct)
    }

    /// Makes a deleted log the file `name`; `None` if it has another name too, which would see the bytes change.
    fn reuse(&self, old: &str, name: &str) -> Result<Option<Arc<dyn Sink>>> {
        let length = self.storage.open_source(old)?.length()?;
        // R3. Nobody else writes here, so what is looked at first stays so.
        match self.storage.open_source(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Creating it will say what is wrong.
            _ => return Ok(None),
        }
        let sink = self.by_access(|access| self.storage.open_sink_with(old, access))?;
        if sink.links()? > 1 && !seeded_bug!(LinkedFileReused) {
            // ORDER: CK3. Below CHECKPOINT's lowest since it was deleted: a crash that brings the name back harms nobody.
            self.storage.unlink(old)?;
            return Ok(None);
        }
        // ORDER: RC6, RC7. The old bytes are gone, durably, before the file has its new name. All of them: behind a seal there are only zeros.
        if !seeded_bug!(ReusedNotWiped) {
            let zeros = vec![0; WIPE_BYTES];
            let mut at = 0;
            while let Some(left) = length.checked_sub(at).filter(|left| *left > 0) {
                let piece = usize::try_from(left).map_or(WIPE_BYTES, |left| left.min(WIPE_BYTES));
                sink.write_at(at, zeros.get(..piece).unwrap_or(&zeros))?;
                at = at.saturating_add(piece as u64);
            }
            sink.sync_all()?;
        }
        // As of a new file: a sink that has written zeros as far as the end would read each block before the first record in it. Before the file has
        // its new name, under which another could not be made if this fails.
        let sink = self.by_access(|access| self.storage.open_sink_with(old, access))?;
        self.storage.rename(old, name)?;
        self.metrics.recycled_logs.increment(1);
        Ok(Some(sink))
    }

    /// Writes the seal of a log that is not written any more and is wholly durable. A failure harms nobody (PR6): the successor's header
    /// says where the log ends.
    pub(crate) fn seal(&self, mut old: ActiveLog, next_index: Index) {
        let end = old.encoder.offset();
        let seal = old.seal(next_index);
        let mut bytes = Vec::new();
        old.encoder.seal(&mut bytes, &seal);
        let _at_disk = self.commit.watchdog().begin(DiskWork::Seal, old.log);
        // ORDER: PR5. Everything before the seal is durable since the rotation's sync: a seal never survives what it seals.
        match old
            .sink
            .write_at(end, &bytes)
            .and_then(|()| if seeded_bug!(SealNotSynced) { Ok(()) } else { old.sink.sync_data() })
        {
            Ok(()) => {
                self.retention.sealed(old.log, end.saturating_add(bytes.len() as u64));
                self.recount();
            }
            Err(error) => {
                self.metrics.seal_failures.increment(1);
                warn!(log = old.log.get(), %error, "wal.seal_failed");
                if seeded_bug!(SealFailurePoisons) {
                    self.commit.fail(&mut self.commit.lock(), error.into());
                }
            }
        }
    }

    /// Seals the active log for good and records the clean end (PR5).
    pub(crate) fn close(&self) -> Result<()> {
        while let Some(work) = self.housekeeper.take() {
            if let Work::Seal(closed) = work {
                let (log, next_index) = *closed;
                self.seal(log, next_index);
            }
        }
        self.retention.unlink_spares(&*self.storage);
        self.metrics.spare_logs.set(0.0);
        // What a full disk has stopped has one more chance; otherwise the close says so.
        let _ = self.go_on_if_stopped();
        let _rotation = self.rotation.lock();
        if seeded_bug!(SealBeforeData) {
            let state = self.commit.lock();
            let mut bytes = Vec::new();
            state.active.encoder.clone().seal(&mut bytes, &state.active.seal(state.next_index));
            state.active.sink.write_at(state.accepted.offset, &bytes)?;
        }
        let exclusive = self.commit.exclusive()?;
        let mut state = self.commit.lock();
        let end: Position = state.durable;
        let seal = state.active.seal(state.next_index);
        let mut bytes = Vec::new();
        state.active.encoder.seal(&mut bytes, &seal);
        let sink = Arc::clone(&state.active.sink);
        // Nothing may come behind a seal, whether or not it became durable.
        state.closed = true;
        drop(state);
        let at_disk = self.commit.watchdog().begin(DiskWork::Seal, end.log);
        let sealed = sink.write_at(end.offset, &bytes).and_then(|()| {
            // ORDER: PR5. The seal is durable before CHECKPOINT says so; from then on anything short of it is damage.
            if seeded_bug!(CleanEndBeforeSeal) { Ok(()) } else { sink.sync_data() }
        });
        drop(at_disk);
        let recorded = sealed.map_err(Error::from).and_then(|()| {
            let all_sealed = self.retention.all_sealed();
            // No record comes any more, and a mark that comes still only makes more of them flushed.
            let logs = self.logs();
            self.update_checkpoint(|content| {
                let next_index = content.next_index;
                let flushed_logs = flushed_logs(&logs, &content.flushed);
                content.clean_end =
                    Some(CleanEnd { log: end.log, end: end.offset, next_index, flushed_logs });
                if all_sealed {
                    content.sealed_through = end.log;
                }
            })
        });
        drop(exclusive);
        if recorded.is_ok() {
            info!(log = end.log.get(), next_index = end.index.get().saturating_add(1), "wal.closed");
        }
        recorded
    }
}

impl Rotation {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Next> {
        // Whatever a rotation that panicked left here is true.
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
