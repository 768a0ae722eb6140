//! How much there may be: caps on live bytes and on live logs, and the disk.
//!
//! **What counts.** Against [`Options::cap_bytes`](crate::Options::cap_bytes) the bytes of the live logs, the active one up to what was accepted, with the
//! room for a promise, a seal and the next log's header: so the live logs never become longer than the cap, whatever comes next. Against
//! [`Options::cap_logs`](crate::Options::cap_logs) the live logs, the active one among them. What was made ahead and deleted logs that wait to be used
//! again hold no record, nobody can free them by flushing, and options bound them: they do not count. What a recovery or a resume has to
//! write again is never refused, and may lie above a cap; so may what is there when a log is opened with a lower one.
//!
//! **Precedence.** A record that is refused for other reasons is refused for these. Then bytes, then logs, then the disk, in the order of [`Cap`].
//!
//! **No trace.** A record is refused before it has an index or a sequence number, before a byte of it is encoded, and before a rotation that
//! would not help.
//!
//! **The way out** is deletion. Whoever is refused first deletes what is flushed and could not go before: the log that held the frontier when
//! it was marked, and the active log if all of it is flushed.
//!
//! **A full disk** is met where space is made sure of: when the next log's file is made, and when a file whose space is counted ([`ActiveLog`]'s `reserved`)
//! needs more. Then appends are refused, and nothing has failed. A file that grows meets it in a write or a sync: that stops the log like any
//! failure, and its waiters are told so; but the next append resumes it ([`Inner::resume`]), in a file whose space is reserved before. One try at a
//! time, and after one that failed none for [`DISK_RETRY`], unless something was deleted.
//!
//! [`ActiveLog`]: crate::state::ActiveLog

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::{info, warn};
use wal_format::checkpoint::Checkpoint;
use wal_format::chunk::HEADER_BYTES;
use wal_format::control::{Promise, Seal};
use wal_format::encode::LogEncoder;
use wal_format::{FileHeader, LogNumber};
use wal_io::{IoError, Sink};

use crate::commit::{Commit, NotNow};
use crate::error::{Error, ErrorKind, Result};
use crate::inner::Inner;
use crate::record::{Appended, Record};
use crate::retention::{Retention, are_flushed, may_go};
use crate::rotate::{FILL_STEP_BYTES, SealedLog};
use crate::state::State;
use crate::ticket::Ticket;

/// Smallest [`Options::cap_bytes`](crate::Options::cap_bytes): as the smallest log, 64 KiB.
pub const CAP_BYTES_MIN: u64 = crate::options::LOG_BYTES_MIN;

/// Smallest [`Options::cap_logs`](crate::Options::cap_logs): two, since a log can go only when another one has taken over.
pub const CAP_LOGS_MIN: usize = 2;

/// How long after a try that found the disk full no other is made, unless something was deleted: 100 ms. A try costs some 100 µs, and who makes
/// space by hand does not notice so little.
pub const DISK_RETRY: Duration = Duration::from_millis(100);

/// Room that a log keeps beside its records: a promise before the next one and the seal, each with the padding before it, and the chunk
/// header of a record that they push over the end of a block.
pub(crate) const ROOM_BYTES: u64 =
    (2 * (HEADER_BYTES + Promise::BYTES) + 2 * (HEADER_BYTES + Seal::BYTES) + 2 * HEADER_BYTES) as u64;

/// The same where groups are padded to `unit` (0: they are not): what fills up behind the record, and a promise alone with what fills up behind that.
pub(crate) const fn room_bytes(unit: u64) -> u64 {
    if unit == 0 { ROOM_BYTES } else { ROOM_BYTES + 2 * LogEncoder::filler_length_max(unit) }
}

/// Room under the cap on bytes beside the records: what this log and the next one keep, and that one's header. So a rotation always fits.
const fn rotation_bytes(unit: u64) -> u64 {
    2 * room_bytes(unit) + (HEADER_BYTES + FileHeader::BYTES) as u64
}

/// What may be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cap {
    /// [`Options::cap_bytes`](crate::Options::cap_bytes).
    Bytes,
    /// [`Options::cap_logs`](crate::Options::cap_logs).
    Logs,
    /// The disk, or somebody's quota on it.
    Disk,
}

/// From the options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Length of a log.
    pub(crate) log_bytes: u64,
    /// Live bytes; `u64::MAX` for no cap.
    pub(crate) bytes: u64,
    /// Live logs; `u64::MAX` for no cap.
    pub(crate) logs: u64,
    /// How long who is refused waits first.
    pub(crate) wait: Duration,
    /// Groups are padded.
    pub(crate) pads: bool,
}

/// What there is room for; a part of [`State`].
#[derive(Debug)]
pub(crate) struct Room {
    limits: Limits,
    /// A record that ends here at the latest, in the active log, has room for sure: the one number that an append looks at.
    pub(crate) end: u64,
    /// Bytes of the live logs behind the active one.
    old_bytes: u64,
    /// Their number.
    old_logs: u64,
    /// Changes when there may be more room than before.
    changes: u64,
    /// When the log's own thread wakes those who wait for room, to look at the clock.
    pub(crate) wake_at: Option<Duration>,
    disk: Option<FullDisk>,
    /// The oldest log that a refused append has tried to delete in vain.
    kept: Option<LogNumber>,
}

/// The disk was found full, and nothing has found space since.
#[derive(Debug)]
struct FullDisk {
    cause: Arc<IoError>,
    /// No try before that.
    retry_at: Option<Duration>,
}

/// Where a record goes for which there may be no room.
pub(crate) enum Place {
    Here,
    /// Into the next log.
    Next,
    /// Here, once the file has space up to there.
    Space(u64),
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, end: 0, old_bytes: 0, old_logs: 0, changes: 0, wake_at: None, disk: None, kept: None }
    }

    /// Whether groups are padded.
    pub(crate) fn pads(&self) -> bool {
        self.limits.pads
    }

    /// Whether the disk was found full, and no space since.
    pub(crate) fn disk_is_full(&self) -> bool {
        self.disk.is_some()
    }

    /// The disk is full.
    pub(crate) fn no_space(&mut self, cause: &IoError, retry_at: Option<Duration>) {
        let cause = Arc::new(cause.clone());
        self.disk = Some(FullDisk { cause, retry_at });
    }

    fn may_rotate(&self) -> bool {
        self.old_logs.saturating_add(2) <= self.limits.logs
    }
}

impl State {
    /// Computes [`Room::end`] anew.
    pub(crate) fn measure(&mut self) {
        let Limits { log_bytes, bytes, .. } = self.room.limits;
        let in_log = log_bytes.min(self.active.reserved).saturating_sub(room_bytes(self.unit()));
        let rotation = rotation_bytes(self.unit());
        let in_all = bytes.saturating_sub(self.room.old_bytes).saturating_sub(rotation);
        self.room.end = if self.better_is_ready { 0 } else { in_log.min(in_all) };
    }

    /// Where a record of `length` bytes goes.
    ///
    /// # Errors
    /// Nowhere: a cap is reached.
    pub(crate) fn place(&self, length: u64) -> Result<Place> {
        let room = &self.room;
        let offset = self.active.encoder.offset();
        let used = room.old_bytes.saturating_add(offset);
        let needed = length.saturating_add(rotation_bytes(self.unit()));
        // INVARIANT: G7. Bytes before logs before the disk.
        if used.saturating_add(needed) > room.limits.bytes {
            return Err(refusal(Cap::Bytes, room.limits.bytes, used, needed));
        }
        let end = offset.saturating_add(length).saturating_add(room_bytes(self.unit()));
        let begun = self.active.records > 0;
        let too_long = begun && end > room.limits.log_bytes;
        if too_long || begun && self.better_is_ready && room.may_rotate() {
            self.may_rotate()?;
            return Ok(Place::Next);
        }
        Ok(if end > self.active.reserved { Place::Space(end) } else { Place::Here })
    }

    /// # Errors
    /// There are as many logs as there may be.
    pub(crate) fn may_rotate(&self) -> Result<()> {
        if self.room.may_rotate() {
            return Ok(());
        }
        Err(refusal(Cap::Logs, self.room.limits.logs, self.room.old_logs.saturating_add(1), 1))
    }

    /// Whether nothing but a full disk keeps the log from going on.
    fn stopped_by_full_disk(&self) -> bool {
        let full = self.failed.as_ref().is_some_and(|cause| cause.no_space().is_some());
        full && !self.broken && !self.closed
    }

    /// # Errors
    /// The log has failed or was closed. A full disk does not count: to delete is what helps.
    pub(crate) fn check_but_full_disk(&self) -> Result<()> {
        if self.stopped_by_full_disk() && !seeded_bug!(FullDiskTakesNoMarks) { Ok(()) } else { self.check() }
    }

    fn disk_refusal(&self, cause: &Arc<IoError>) -> Error {
        let used = self.room.old_bytes.saturating_add(self.accepted.offset);
        Error::Full { cap: Cap::Disk, limit: used, used, needed: 0, cause: Some(Arc::clone(cause)) }
    }
}

fn refusal(cap: Cap, limit: u64, used: u64, needed: u64) -> Error {
    Error::Full { cap, limit, used, needed, cause: None }
}

/// An open that found no space.
pub(crate) fn full_at_open(error: Error) -> Error {
    match error.no_space() {
        Some(cause) => {
            Error::Full { cap: Cap::Disk, limit: 0, used: 0, needed: 0, cause: Some(Arc::new(cause.clone())) }
        }
        None => error,
    }
}

impl Commit {
    /// Notes how much there is behind the active log, and tells those who wait if it has become less.
    fn recount(&self, old: &Retention) {
        let mut state = self.lock();
        // INVARIANT: G7. Counted under the mutex: of two who count, the later one has the newer numbers.
        let (bytes, logs) = old.size();
        let less = bytes < state.room.old_bytes || logs < state.room.old_logs;
        (state.room.old_bytes, state.room.old_logs) = (bytes, logs);
        state.measure();
        if less {
            self.more_room(&mut state);
        }
    }

    /// There may be more room than before: whoever waits for it looks again, and a full disk is tried again at once.
    fn more_room(&self, state: &mut State) {
        if let Some(disk) = &mut state.room.disk {
            disk.retry_at = None;
        }
        state.room.changes = state.room.changes.wrapping_add(1);
        if !seeded_bug!(DeletionWakesNobody) {
            self.tell_blocked(state);
        }
    }

    /// Waits until there may be more room than there was when it was `seen`, or until then. False if nobody keeps the time.
    fn wait_for_change(&self, seen: u64, until: Duration) -> bool {
        if !self.start_background() {
            return false;
        }
        loop {
            // Outside of the mutex: a clock may take its time.
            let now = self.clock().monotonic();
            let mut state = self.lock();
            if state.room.changes != seen || now >= until || state.check_but_full_disk().is_err() {
                return true;
            }
            state.room.wake_at = Some(state.room.wake_at.map_or(until, |at| at.min(until)));
            self.background().bell.ring();
            drop(self.wait(state));
        }
    }
}

/// How long somebody has waited for room.
#[derive(Debug, Default)]
struct Patience {
    until: Option<Duration>,
    /// [`Room::changes`] before the last try.
    seen: Option<u64>,
}

impl Inner {
    /// Orders a record, and makes the room for it or waits for it.
    pub(crate) fn accept(self: &Arc<Self>, record: &Record<'_>) -> Result<Appended> {
        self.accept_then(record, |appended| appended)
    }

    /// The same for who waits later.
    pub(crate) fn submit(self: &Arc<Self>, record: &Record<'_>) -> Result<Ticket> {
        self.accept_then(record, |appended| Ticket::new(Arc::clone(self), appended))
    }

    /// Orders a record. What is made of the answer is made in here, of what is in registers: memory that was stored a moment ago is slow to copy.
    #[inline(always)]
    fn accept_then<T>(self: &Arc<Self>, record: &Record<'_>, then: impl FnOnce(Appended) -> T) -> Result<T> {
        self.prepare_if_wanted();
        let mut stalled = None;
        match self.commit.accept(record, &mut stalled) {
            Ok(appended) if stalled.is_none() => Ok(then(appended)),
            answer => self.accept_slowly(record, answer, stalled).map(then),
        }
    }

    /// The rest of [`Inner::accept`] where the first answer was none, or took time.
    #[cold]
    #[inline(never)]
    fn accept_slowly(
        self: &Arc<Self>,
        record: &Record<'_>,
        answer: Result<Appended, Box<NotNow>>,
        mut stalled: Option<Duration>,
    ) -> Result<Appended> {
        let done = match self.follow_up(record, answer, &mut stalled) {
            Err(error) if error.kind() == ErrorKind::Full => {
                stalled.get_or_insert_with(|| self.clock.monotonic());
                self.when_there_is_room(error, || {
                    self.prepare_if_wanted();
                    let answer = self.commit.accept_again(record, &mut stalled);
                    self.follow_up(record, answer, &mut stalled)
                })
            }
            done => done,
        };
        if let (Some(begin), Ok(_)) = (stalled, &done) {
            let waited = self.clock.monotonic().saturating_sub(begin);
            self.metrics.append_stall_seconds.record(waited.as_secs_f64());
        }
        done
    }

    /// [`Wal::rotate`](crate::Wal::rotate).
    pub(crate) fn rotate_on_request(self: &Arc<Self>) -> Result<Option<SealedLog>> {
        self.go_on_if_stopped()?;
        match self.rotate(None) {
            Err(error @ Error::Full { cap: Cap::Logs, .. }) => {
                self.when_there_is_room(error, || self.rotate(None))
            }
            done => done,
        }
    }

    /// Asks for the next log if it is time to.
    #[inline]
    fn prepare_if_wanted(self: &Arc<Self>) {
        if self.commit.next_is_wanted() {
            self.housekeeper.prepare(self);
        }
    }

    /// Does what an answer asks for, and tries again.
    fn follow_up(
        self: &Arc<Self>,
        record: &Record<'_>,
        mut answer: Result<Appended, Box<NotNow>>,
        stalled: &mut Option<Duration>,
    ) -> Result<Appended> {
        loop {
            let not_now = match answer {
                Ok(appended) => return Ok(appended),
                Err(not_now) => *not_now,
            };
            match not_now {
                NotNow::LogFull(log) => {
                    stalled.get_or_insert_with(|| self.clock.monotonic());
                    self.disk_is_due()?;
                    match self.rotate(Some(log)) {
                        // It could not bring the old log to the disk: that is seen at once.
                        Err(Error::Poisoned { cause }) if cause.no_space().is_some() => {}
                        rotated => drop(rotated?),
                    }
                }
                NotNow::SpaceWanted(log, end) => {
                    self.disk_is_due()?;
                    self.reserve(log, end)?;
                }
                NotNow::Never(Error::Poisoned { cause }) if cause.no_space().is_some() => {
                    if seeded_bug!(FullDiskStopsForEver) {
                        return Err(Error::Poisoned { cause });
                    }
                    self.go_on()?;
                }
                NotNow::Never(error) => return Err(error),
            }
            self.prepare_if_wanted();
            answer = self.commit.accept_again(record, stalled);
        }
    }

    /// Tries again when what can go has gone, and as long as the options let it wait. `refused` is the first answer.
    fn when_there_is_room<T>(
        self: &Arc<Self>,
        mut refused: Error,
        mut again: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let mut patience = Patience::default();
        loop {
            let Error::Full { cap, .. } = refused else { return Err(refused) };
            if !self.collect(cap) && !self.wait_for_room(&mut patience, cap) {
                self.metrics.refused(cap);
                return Err(refused);
            }
            match again() {
                Err(error) => refused = error,
                done => return done,
            }
        }
    }

    /// Waits a little; false if the time is over.
    fn wait_for_room(&self, patience: &mut Patience, cap: Cap) -> bool {
        if self.limits.wait.is_zero() {
            return false;
        }
        let now = self.clock.monotonic();
        let until = *patience.until.get_or_insert(now.saturating_add(self.limits.wait));
        if now >= until {
            return false;
        }
        let Some(seen) = patience.seen.take() else {
            // Once more first: what happens behind this number is not missed.
            patience.seen = Some(self.commit.lock().room.changes);
            return true;
        };
        // A disk tells nobody that it has space.
        let until = if cap == Cap::Disk { until.min(now.saturating_add(DISK_RETRY)) } else { until };
        self.commit.wait_for_change(seen, until)
    }

    /// Deletes what is flushed and could not go before; whether that was anything.
    fn collect(self: &Arc<Self>, cap: Cap) -> bool {
        if self.delete_flushed() {
            return true;
        }
        // The oldest log may hold the frontier. Then the log behind it has to begin, and if there is none, one is begun. On a full disk
        // nothing is begun that needs space.
        let Checkpoint { lowest, flushed, .. } = self.checkpoint.content();
        let oldest_can_go = self.retention.old().first().is_none_or(|info| may_go(info, lowest, &flushed));
        let state = self.commit.lock();
        let (active, begun) = (state.active.log, state.active.records > 0);
        let all_can_go = begun && are_flushed(&state.active.families, &flushed);
        let has_frontier = state.durable.log == active;
        drop(state);
        if cap == Cap::Disk || !oldest_can_go {
            return false;
        }
        let rotated = cap == Cap::Bytes && all_can_go && self.rotate(Some(active)).is_ok();
        let begins = rotated || !begun && !has_frontier;
        begins && self.commit.exclusive().is_ok() && self.delete_flushed()
    }

    /// Deletes logs that are flushed already; whether there were any. Not asked twice for a log that somebody else keeps.
    fn delete_flushed(self: &Arc<Self>) -> bool {
        let Checkpoint { lowest, flushed, .. } = self.checkpoint.content();
        let Some(oldest) = self.retention.old().into_iter().next() else { return false };
        let mut state = self.commit.lock();
        if state.durable.log <= oldest.log
            || state.room.kept == Some(oldest.log)
            || !may_go(&oldest, lowest, &flushed)
        {
            return false;
        }
        state.room.kept = Some(oldest.log);
        drop(state);
        let deleted = || {
            let deletion = self.then_archive(self.delete_unneeded().unwrap_or_default());
            !deletion.deleted.is_empty()
        };
        // The window for duplicates gives way: it moves on with appends only, and those are refused.
        deleted() || self.window_gives_way(oldest.log) && deleted()
    }

    /// Counts what is behind the active log.
    pub(crate) fn recount(&self) {
        self.commit.recount(&self.retention);
    }

    /// Makes sure that the file of the active log has space up to `end`.
    fn reserve(&self, log: LogNumber, end: u64) -> Result<()> {
        let _rotation = self.rotation.lock();
        let state = self.commit.lock();
        state.check()?;
        if state.active.log != log || state.active.reserved >= end {
            return Ok(());
        }
        let sink = Arc::clone(&state.active.sink);
        drop(state);
        let reserved = reserve_step(&*sink, end, self.log_bytes).map_err(|error| self.disk_error(error))?;
        let mut state = self.commit.lock();
        state.active.reserved = reserved;
        state.measure();
        drop(state);
        self.disk_has_space();
        Ok(())
    }

    /// Goes on if a full disk has stopped the log and there is space again.
    ///
    /// # Errors
    /// There is none; or the log cannot go on.
    pub(crate) fn go_on_if_stopped(&self) -> Result<()> {
        let stopped = self.commit.lock().stopped_by_full_disk();
        if stopped { self.go_on() } else { Ok(()) }
    }

    fn go_on(&self) -> Result<()> {
        // One try at a time: those who come together share it.
        let _trying = self.trying.lock().unwrap_or_else(PoisonError::into_inner);
        self.disk_is_due()?;
        // INVARIANT: RS1. After a failed write or sync, of whatever kind, nothing is known about the file behind the frontier. So nothing is tried
        // again on it: the resume writes every record behind the frontier into a new file.
        self.resume().map(drop).map_err(|error| self.disk_error(error))
    }

    /// # Errors
    /// The disk was full a moment ago.
    fn disk_is_due(&self) -> Result<()> {
        let retry_at = self.commit.lock().room.disk.as_ref().and_then(|disk| disk.retry_at);
        if retry_at.is_none_or(|at| self.clock.monotonic() >= at) {
            return Ok(());
        }
        let state = self.commit.lock();
        match &state.room.disk {
            Some(disk) if disk.retry_at == retry_at => Err(state.disk_refusal(&disk.cause)),
            _ => Ok(()),
        }
    }

    /// What a try to make space ended with. A second one in a row that fails bounds how soon there is another.
    pub(crate) fn disk_error(&self, error: Error) -> Error {
        let Error::Io(io) = &error else { return error };
        let retry_at = self.clock.monotonic().checked_add(DISK_RETRY);
        let mut state = self.commit.lock();
        if error.no_space().is_none() {
            if let Some(disk) = &mut state.room.disk {
                disk.retry_at = retry_at;
            }
            return error;
        }
        let again = state.room.disk.is_some();
        state.room.no_space(io, retry_at.filter(|_| again));
        let refusal = state.disk_refusal(&Arc::new(io.clone()));
        drop(state);
        if !again {
            warn!(error = %io, "wal.disk_full");
            self.metrics.disk_full.set(1.0);
        }
        refusal
    }

    /// There was space for something.
    pub(crate) fn disk_has_space(&self) {
        let mut state = self.commit.lock();
        if state.room.disk.take().is_some() {
            self.commit.more_room(&mut state);
            drop(state);
            info!("wal.disk_has_space");
            self.metrics.disk_full.set(0.0);
        }
    }
}

/// Reserves space up to `end` and some more, so that this is not asked for again and again; up to `end` alone if there is no more.
fn reserve_step(sink: &dyn Sink, end: u64, log_bytes: u64) -> Result<u64> {
    let more = end.next_multiple_of(FILL_STEP_BYTES).min(log_bytes).max(end);
    match sink.preallocate(more).map_err(Error::from) {
        Err(error) if more > end && error.no_space().is_some() => {
            sink.preallocate(end)?;
            Ok(end)
        }
        done => done.map(|()| more),
    }
}

/// How much space there must be for a log to go on in that needs `end` bytes at once: that, and a quarter of a step or of a log for what comes next.
pub(crate) fn reserve_to_resume(end: u64, log_bytes: u64) -> u64 {
    end.saturating_add(FILL_STEP_BYTES.min(log_bytes) / 4)
}
