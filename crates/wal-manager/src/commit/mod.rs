//! The commit path: from an append to durable bytes.
//!
//! Appends are encoded, checksummed and ordered under one mutex, into the buffer of the group that is forming. Whoever waits and
//! finds nobody at the disk becomes the *leader*: it takes the buffer, writes it in one call, syncs if anybody waits for that, and wakes
//! the others. What arrives meanwhile forms the next group. A lone writer is its own leader: one write and one sync, in its own thread,
//! no delay.
//!
//! Each time that somebody leads is a *round*. Who waits sleeps on the word of the round that will do it: there are two, which rounds use
//! in turn. A leader that comes back wakes all of its own round with one call, and they go without the mutex, since what is reached
//! stands in two atomics; and it wakes one of the next round, who leads. A leader that meets several writers again and again waits a little
//! for those that are just returning ([`crate::gather`]).

mod accept;
mod exclusive;
mod lead;
mod wait;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tracing::error;
use wal_format::Index;

use crate::background::{Background, Policies};
use crate::caps::Limits;
use crate::clock::Clock;
use crate::duplicates::Window;
use crate::error::{Error, Result};
use crate::follow::Recent;
use crate::housekeeping::PREPARE_PART;
use crate::metrics::Metrics;
use crate::record::Durability;
use crate::state::State;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Condvar, Mutex, MutexGuard, Word};
use crate::watchdog::{AtDisk, DiskWork, OnStall, Watchdog};

pub(crate) use accept::NotNow;
pub(crate) use lead::Why;

/// Size of the forming group, in bytes, at which appends wait for the disk: 4 MiB, so that memory stays bounded and a write stays
/// large. A single record may be longer.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// Size of the forming group, in bytes, from which on the next append writes it if nobody is at the disk, whether or not anybody waits for
/// it: 256 KiB. Larger writes are not faster, and what is written sooner is still in the processor's cache (decision 0025).
pub const GROUP_BYTES: usize = 256 << 10;

/// The same where writes go past the page cache: 2 MiB. Such a write takes as long as the device does, so a few large ones are faster, and there is
/// no cache to be filled early.
pub(crate) const DIRECT_GROUP_BYTES: usize = GROUP_BYTES_MAX / 2;

/// The commit path of one open log.
#[derive(Debug)]
pub(crate) struct Commit {
    state: Mutex<State>,
    /// For what happens seldom: a full group, a rotation, a close.
    changed: Condvar,
    /// Index of the last record of [`State::durable`], for those who wait.
    durable: AtomicU64,
    /// Index of the last record of [`State::written`].
    written: AtomicU64,
    rounds: [Round; 2],
    log_bytes: u64,
    /// In which repeated appends are recognised.
    window: Option<Window>,
    /// The active log is far enough for the next one to be made.
    next_wanted: AtomicBool,
    policies: Policies,
    background: Background,
    /// For the thread, which has it too.
    me: Weak<Self>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// [`State::looks`] of the last look that the gauges were set from.
    gauges: Mutex<u64>,
    watchdog: Arc<Watchdog>,
    /// What followers read most.
    recent: Arc<Recent>,
}

/// Those who wait for a round.
#[derive(Debug, Default)]
struct Round {
    /// Changes when the round has ended, or when one of them is to lead.
    word: Word,
    /// How many sleep on it, or are about to. Changed under the mutex; a leader that gathers looks at it without.
    waiting: AtomicU32,
}

/// Somebody's place in a round.
#[derive(Clone, Copy, Debug)]
struct Enrolled {
    round: u64,
    /// [`State::dismissals`] when he took it.
    dismissals: u64,
}

/// The mutex, held.
pub(crate) type Guard<'a> = MutexGuard<'a, State>;

impl Commit {
    /// Starts the thread of its own if the policies need one from the beginning.
    ///
    /// # Errors
    /// There is none; or there is none for the watchdog.
    pub(crate) fn new(
        state: State,
        limits: Limits,
        window: Option<Window>,
        policies: Policies,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        on_stall: Option<OnStall>,
    ) -> Result<Arc<Self>> {
        let (durable, written) = (state.durable.index.get(), state.written.index.get());
        let log_bytes = limits.log_bytes;
        let watchdog = Watchdog::new(on_stall, Arc::clone(&clock), metrics.clone());
        let commit = Arc::new_cyclic(|me| Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            durable: AtomicU64::new(durable),
            written: AtomicU64::new(written),
            rounds: Default::default(),
            log_bytes,
            window,
            next_wanted: AtomicBool::new(false),
            policies,
            background: Background::default(),
            me: Weak::clone(me),
            clock,
            metrics,
            gauges: Mutex::new(0),
            watchdog,
            recent: Arc::default(),
        });
        commit.watchdog.start()?;
        if policies.interval.is_some() {
            // Nobody is left behind.
            commit.background.start(&commit).inspect_err(|_| commit.watchdog.stop())?;
        }
        Ok(commit)
    }

    pub(crate) fn policies(&self) -> Policies {
        self.policies
    }

    pub(crate) fn window(&self) -> Option<Window> {
        self.window
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    pub(crate) fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    pub(crate) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Work goes to the disk; the mutex is not held.
    pub(crate) fn at_disk(&self, work: DiskWork) -> AtDisk<'_> {
        let log = self.lock().active.log;
        self.watchdog.begin(work, log)
    }

    pub(crate) fn me(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Locks the state. A thread that panicked inside has left it in doubt: that is a failure like a failed write.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(|poisoned| self.broken(poisoned.into_inner()))
    }

    #[cold]
    fn broken<'a>(&self, mut state: Guard<'a>) -> Guard<'a> {
        if !state.broken {
            state.broken = true;
            state.failed.get_or_insert(Error::Panicked);
            self.wake_everybody();
        }
        state
    }

    pub(crate) fn wait<'a>(&self, mut state: Guard<'a>) -> Guard<'a> {
        state.blocked += 1;
        let woken = self.changed.wait(state);
        // INVARIANT: S8. Whoever sees it first tells all others, those too who sleep on a word and not here.
        let mut state = woken.unwrap_or_else(|poisoned| self.broken(poisoned.into_inner()));
        state.blocked = state.blocked.saturating_sub(1);
        state
    }

    /// Wakes who waits for something that happens seldom.
    pub(crate) fn tell_blocked(&self, state: &State) {
        if state.blocked > 0 {
            self.changed.notify_all();
        }
    }

    pub(crate) fn wake_everybody(&self) {
        self.changed.notify_all();
        for round in &self.rounds {
            round.word.wake_all();
        }
        // It wakes those who await.
        self.background.bell.ring();
    }

    /// Wakes all who await, to look for themselves; the mutex is not held.
    pub(crate) fn wake_awaiting(&self) {
        let all = self.lock().awaiting.all();
        for (_, waker) in all {
            waker.wake();
        }
    }

    /// Tells those without the mutex how far everything is.
    pub(crate) fn publish(&self, state: &State) {
        self.written.store(state.written.index.get(), Ordering::Release);
        self.durable.store(state.durable.index.get(), Ordering::Release);
    }

    /// Whether a record has got as far as `level` says, as far as is known without the mutex.
    pub(crate) fn has_reached(&self, index: Index, level: Durability) -> bool {
        let reached = if level == Durability::Synced { &self.durable } else { &self.written };
        reached.load(Ordering::Acquire) >= index.get()
    }

    /// Whether it is time to make the next log; says so once for each log.
    pub(crate) fn next_is_wanted(&self) -> bool {
        self.next_wanted.load(Ordering::Relaxed) && self.next_wanted.swap(false, Ordering::Relaxed)
    }

    fn round(&self, number: u64) -> &Round {
        let [even, odd] = &self.rounds;
        if number.is_multiple_of(2) { even } else { odd }
    }

    /// Takes a place in the round that does what the caller waits for.
    fn enrol(&self, state: &State, index: Index, level: Durability) -> Enrolled {
        let round = state.round_for(index, level);
        self.round(round).waiting.fetch_add(1, Ordering::Relaxed);
        Enrolled { round, dismissals: state.dismissals }
    }

    /// Gives the place up of somebody who woke up, if it still counts: not if his round has ended, or everybody was sent away.
    fn leave(&self, state: &State, place: Enrolled) {
        let lasts = place.round > state.round || (place.round == state.round && state.in_flight.is_some());
        if lasts && place.dismissals == state.dismissals {
            self.round(place.round).waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Nobody has a place in a round any more: all are woken by the caller, and whoever has not got what he waits for comes again. Says in which
    /// rounds somebody was.
    ///
    /// INVARIANT: S8. A round that counts who is not there keeps the leader before it from ringing for those who await.
    fn dismiss(&self, state: &mut State) -> [bool; 2] {
        if seeded_bug!(LeftStillCount) {
            return [true; 2];
        }
        state.dismissals = state.dismissals.wrapping_add(1);
        self.rounds.each_ref().map(|round| round.waiting.swap(0, Ordering::Relaxed) > 0)
    }

    /// The next log is to be made, if this one has come far enough. The caller has moved the frontier.
    fn want_next(&self, state: &mut State) {
        let far = state.rotated || state.durable.offset >= self.log_bytes / PREPARE_PART;
        if far && !state.next_wanted && state.durable.log == state.active.log {
            state.next_wanted = true;
            self.next_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Nothing is acknowledged any more: after a failed write or sync nothing is known about the file (A5, A6).
    pub(crate) fn fail(&self, state: &mut State, cause: Error) {
        if !seeded_bug!(FailureNotSticky) {
            state.failed.get_or_insert_with(|| cause.clone());
        }
        if seeded_bug!(FailureFreesKeys)
            && let Some(duplicates) = &mut state.duplicates
        {
            duplicates.clear();
        }
        self.dismiss(state);
        let no_space = cause.no_space();
        if let Some(cause) = no_space {
            state.room.no_space(cause, None);
        }
        self.wake_everybody();
        // Last: a recorder or a subscriber that panics must not keep it from the others (S8).
        error!(error = %cause, "wal.poisoned");
        self.metrics.poisoned.set(1.0);
        self.metrics.failed(&cause);
        if no_space.is_some() {
            self.metrics.disk_full.set(1.0);
        }
    }
}
