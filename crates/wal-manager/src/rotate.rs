//! From one log to the next.
//!
//! The next file is created, made durable and recorded in CHECKPOINT while it is still empty; whatever fails up to there leaves the
//! old log as it was, writable (R4). Then the old log is synced, the writer switches in memory, and the old log gets its seal. The new log's
//! header goes out with its first group.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tracing::{info, info_span, warn};
use wal_format::checkpoint::CleanEnd;
use wal_format::encode::LogEncoder;
use wal_format::header::Predecessor;
use wal_format::{FamilyId, FileHeader, Index, LogNumber, LogSeed, SeqNum, SeqRange};
use wal_io::Sink;

use crate::clock::micros;
use crate::error::{Error, Result};
use crate::housekeeping::Work;
use crate::inner::Inner;
use crate::names;
use crate::record::Position;
use crate::retention::flushed_logs;
use crate::state::ActiveLog;
use crate::sync::{Mutex, MutexGuard};
use crate::watchdog::DiskWork;

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
