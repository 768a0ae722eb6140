//! Who is at the disk: the leader of a round, or a sync beside the rounds.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::trace;
use wal_io::{IoError, Sink};

use crate::error::{Error, Result};
use crate::gather;
use crate::state::{Group, InFlight, State, Undurable};
use crate::sync::yield_now;
use crate::watchdog::DiskWork;

use super::{Commit, Guard, Round};

/// Why somebody leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody waits for the group, or it is large.
    Asked,
    /// A rotation or a close wants everything durable, or too much is not.
    Drain,
    /// The log is idle, and the last group is not proven yet.
    Promise,
}

impl Commit {
    /// Takes the forming group to the disk, and syncs if somebody waits for that. The caller has seen that nobody else is there. Returns how long a
    /// sync took, and the wait for others before it.
    pub(crate) fn lead<'a>(&'a self, state: Guard<'a>, why: Why) -> Duration {
        // Whatever panics from here on, dropping this tells the others. It takes the mutex, so the guard below goes first.
        let mut leader = Leader { commit: self, done: false, leads: true, group: None };
        let mut state = state;
        state.round = state.round.wrapping_add(1);
        state.in_flight = Some(InFlight::GATHERING);
        let round = self.round(state.round);
        let mut gathered = None;
        let wants_sync = |state: &State| why != Why::Asked || state.sync_wanted > state.durable.index;
        if why == Why::Asked && wants_sync(&state) {
            let arrived = 1 + round.waiting.load(Ordering::Relaxed);
            if let Some((writers, longest)) = state.gather.begin(arrived) {
                drop(state);
                gathered = Some(self.gather(round, writers, longest));
                state = self.lock();
                state.gather.ended(arrived, 1 + round.waiting.load(Ordering::Relaxed));
            }
        }
        let sync = wants_sync(&state) && !seeded_bug!(AckWithoutSync);
        while sync && state.syncing {
            // INVARIANT: row 46. One sync at a time: of two that overlap, only one is told of a failure.
            state = self.wait(state);
        }
        if state.failed.is_some() {
            // Everybody was told while this one waited: nothing is written behind bytes of which nothing is known (row 54).
            leader.done = true;
            state.in_flight = None;
            self.tell_blocked(&state);
            return Duration::ZERO;
        }
        // INVARIANT: S5. Before anybody is told how far it goes: the next write must not touch what this one makes durable. Without a sync too, since
        // another one may cover it.
        state.pad_group();
        let (target, digest) = (state.accepted, state.active.encoder.digest());
        let records = state.forming_records;
        state.fill_promise();
        let group = leader.group.insert(state.take_forming());
        let will_be_due = sync && target.index > state.promised;
        state.in_flight = Some(InFlight { gathering: false, will_be_due, through: target.index, sync });
        let (log, sink) = (state.active.log, Arc::clone(&state.active.sink));
        if seeded_bug!(AckBeforeSync) && sync {
            state.durable = target;
            self.durable.store(target.index.get(), Ordering::Release);
        }
        drop(state);

        let at_disk = self.watchdog.begin(DiskWork::Commit, log);
        let mut result = self.write(&*sink, group, records, sync);
        drop(at_disk);
        if result.is_ok() {
            // Before the frontier moves: who follows finds it here, and does not read from a disk that is being synced.
            self.recent.wrote(log, group.start, group.bytes.get());
        }
        if sync && result.is_ok() {
            // Before the mutex: a recorder that panics under it would leave the others waiting (S8).
            self.metrics.durable_index.set(target.index.get() as f64);
            if why == Why::Promise {
                self.metrics.idle_promises.increment(1);
            }
            trace!(log = log.get(), index = target.index.get(), records, "wal.synced");
        }
        let mut state = self.lock();
        leader.done = true;
        let group = leader.group.take();
        state.in_flight = None;
        let target = if seeded_bug!(AckOfNextGroup) { state.accepted } else { target };
        if seeded_bug!(FailureIgnored) {
            result = Ok(Duration::ZERO);
        }
        if let Some(group) = group {
            if sync && result.is_ok() && state.failed.is_none() {
                state.give_back(group.bytes);
            } else {
                state.keep(group);
            }
        }
        let mut took = Duration::ZERO;
        match result {
            // Others were told of a failure meanwhile: nothing moves any more.
            Ok(_) if state.failed.is_some() => {}
            Ok(time) => {
                took = time;
                (state.written, state.written_digest) = (target, digest);
                if sync || seeded_bug!(AckWithoutSync) {
                    state.advance(target, digest);
                    self.want_next(&mut state);
                }
                self.publish(&state);
            }
            Err(cause) => self.fail(&mut state, cause),
        }
        self.tell_blocked(&state);
        let woken = round.waiting.swap(0, Ordering::Relaxed);
        let next = self.round(state.round.wrapping_add(1));
        let waiting = next.waiting.load(Ordering::Relaxed);
        if sync {
            state.gather.synced(woken.saturating_add(1), waiting, took);
        }
        let hand_over = waiting > 0 && !state.exclusive && !seeded_bug!(LeadershipLost);
        let reached = state.reached();
        let ring = self.has_work(&state, waiting, sync);
        let begin_thread = ring && !state.threadless;
        let undurable = state.undurable();
        drop(state);
        // INVARIANT: S8. Whoever waits for the next round is waiting for a leader: one of them becomes it, unless somebody is faster.
        if hand_over {
            next.word.wake_one();
        }
        if seeded_bug!(WakesOne) {
            round.word.wake_one();
            return took;
        }
        if woken > 0 {
            round.word.wake_all();
        }
        for (_, waker) in reached {
            waker.wake();
        }
        if begin_thread && self.start_background() {
            self.background.bell.ring();
        }
        // Last, as above.
        self.show(undurable);
        gathered.map_or(took, |begin| self.clock.monotonic().saturating_sub(begin))
    }

    /// Sets the gauges of what is not durable, as it is now.
    pub(crate) fn show_undurable(&self) {
        let undurable = self.lock().undurable();
        self.show(undurable);
    }

    /// The same as it was at a look, unless a later look has set them.
    fn show(&self, undurable: Undurable) {
        // Held while they are set: the last one to set them has looked last.
        let mut shown = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown < undurable.look {
            *shown = undurable.look;
            self.metrics.undurable_records.set(undurable.records as f64);
            self.metrics.undurable_bytes.set(undurable.bytes as f64);
        }
    }

    /// Whether a leader that comes back leaves something to the log's own thread.
    fn has_work(&self, state: &State, waiting: u32, sync: bool) -> bool {
        let demanded = state.demanded > state.durable.index && waiting == 0;
        let bytes = state.unsynced_bytes >= self.policies.bytes;
        // The first group whose proof it will have to write starts it; from then on it has a deadline, or is rung by the next append.
        let idle = sync && self.policies.idle.is_some() && !state.watched;
        (demanded || bytes || idle) && state.check().is_ok()
    }

    /// Syncs what is written, beside the groups that go on being written. The caller has seen that no other sync is under way.
    pub(crate) fn sync_written<'a>(&'a self, state: Guard<'a>) {
        let mut leader = Leader { commit: self, done: false, leads: false, group: None };
        let mut state = state;
        state.syncing = true;
        let (target, digest) = (state.written, state.written_digest);
        let (log, sink) = (state.active.log, Arc::clone(&state.active.sink));
        drop(state);
        let at_disk = self.watchdog.begin(DiskWork::Sync, log);
        let result = self.sync_sink(&*sink);
        drop(at_disk);
        let mut state = self.lock();
        leader.done = true;
        state.syncing = false;
        match result {
            Ok(_) if state.failed.is_some() => {}
            Ok(_) => {
                state.advance(target, digest);
                if !seeded_bug!(NextNotWantedBeside) {
                    self.want_next(&mut state);
                }
                self.publish(&state);
            }
            Err(cause) => self.fail(&mut state, cause),
        }
        self.tell_blocked(&state);
        let occupied = self.dismiss(&mut state);
        let reached = state.reached();
        let index = state.durable.index;
        let undurable = state.undurable();
        drop(state);
        for (round, occupied) in self.rounds.iter().zip(occupied) {
            if occupied {
                round.word.wake_all();
            }
        }
        self.metrics.durable_index.set(index.get() as f64);
        trace!(log = log.get(), index = index.get(), "wal.synced");
        for (_, waker) in reached {
            waker.wake();
        }
        self.show(undurable);
    }

    /// Waits for writers that are just returning; ends at once when they are there. Returns when it began.
    fn gather(&self, round: &Round, writers: u32, longest: Duration) -> Duration {
        let begin = self.clock.monotonic();
        for _ in 0..gather::LOOKS_MAX {
            let all = 1 + round.waiting.load(Ordering::Relaxed) >= writers;
            let late = || self.clock.monotonic().saturating_sub(begin) >= longest;
            if (all || late()) && !seeded_bug!(AdaptiveWaitsForever) {
                return begin;
            }
            yield_now();
        }
        while seeded_bug!(AdaptiveWaitsForever) && 1 + round.waiting.load(Ordering::Relaxed) < writers {
            yield_now();
        }
        begin
    }

    /// Writes a group, and syncs it with everything before it if `sync`. Returns what a sync took.
    fn write(&self, sink: &dyn Sink, group: &Group, records: u64, sync: bool) -> Result<Duration> {
        if group.bytes.is_empty() {
            return if sync { self.sync_sink(sink) } else { Ok(Duration::ZERO) };
        }
        let took = if sync {
            // ORDER: S5. Synced before the frontier moves and anybody is told.
            self.timed(|| {
                let synced = sink.write_synced_at(group.start, group.bytes.get());
                if seeded_bug!(SyncRetried) { synced.or_else(|_| sink.sync_data()) } else { synced }
            })?
        } else {
            sink.write_at(group.start, group.bytes.get())?;
            Duration::ZERO
        };
        self.metrics.written_bytes.increment(group.bytes.len() as u64);
        self.metrics.groups.increment(1);
        self.metrics.group_records.record(records as f64);
        Ok(took)
    }

    fn sync_sink(&self, sink: &dyn Sink) -> Result<Duration> {
        // ORDER: S5. As above.
        self.timed(|| {
            let synced = sink.sync_data();
            if seeded_bug!(SyncRetried) { synced.or_else(|_| sink.sync_data()) } else { synced }
        })
    }

    /// Measures a sync.
    fn timed(&self, sync: impl FnOnce() -> Result<(), IoError>) -> Result<Duration> {
        let begin = self.clock.monotonic();
        sync()?;
        let took = self.clock.monotonic().saturating_sub(begin);
        self.metrics.synced(took);
        Ok(took)
    }
}

/// A leader that panics at the disk must not leave the others waiting (S8).
struct Leader<'a> {
    commit: &'a Commit,
    done: bool,
    /// It has the round; otherwise it syncs beside the groups.
    leads: bool,
    /// What it takes to the disk.
    group: Option<Group>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if !self.done && !seeded_bug!(PanicLeavesWaiters) {
            let mut state = self.commit.lock();
            if let Some(group) = self.group.take() {
                state.keep(group);
            }
            if self.leads {
                state.in_flight = None
            } else {
                state.syncing = false
            }
            self.commit.fail(&mut state, Error::Panicked);
        }
    }
}
