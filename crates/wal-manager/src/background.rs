//! The log's one thread of its own: timers, syncs that nobody waits for, and the leader for those who may not block.
//!
//! It is started when something first needs it, so that a writer who syncs each record himself never pays for it: at open for
//! [`Options::sync_interval`](crate::Options::sync_interval), later for the others. What it does, it does in *turns*: it looks at the state
//! under the mutex, does what is due, and sleeps until the next deadline or until its bell is rung. It decides nothing from
//! the time but when to look again, so a clock that stands still or jumps makes it late or early and never wrong.
//!
//! - *Somebody awaits a ticket*, and nobody leads: it does.
//! - *Interval*: at each tick, what is not durable is synced.
//! - *Bytes*: what is written and not durable is synced when there is enough of it, beside the writers: this bounds what a power cut can
//!   take, what no promise covers, and what a resume has to keep.
//! - *Idle*: when nothing was appended for a while, the promise for the last group is written, once (PR3).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::warn;
use wal_format::Index;

use crate::clock::Bell;
use crate::commit::{Commit, Guard, Why};
use crate::error::{Error, Result};
use crate::sync::{JoinHandle, Mutex, current_thread, spawn};

/// What the thread is for; from the options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policies {
    /// Everything is durable so long after it was accepted.
    pub(crate) interval: Option<Duration>,
    /// So many bytes may be written and not durable before they are synced.
    pub(crate) bytes: u64,
    /// The last group is proven so long after it was written.
    pub(crate) idle: Option<Duration>,
    /// Each record says when it was appended.
    pub(crate) times: bool,
}

/// The thread, and how to wake it.
#[derive(Debug, Default)]
pub(crate) struct Background {
    pub(crate) bell: Bell,
    thread: Mutex<Thread>,
}

#[derive(Debug, Default)]
enum Thread {
    #[default]
    None,
    Running {
        handle: JoinHandle<()>,
        /// A forked child has a copy of this value and no such thread.
        process: u32,
    },
    Stopped,
}

/// A deadline that comes again and again while something happens.
#[derive(Debug)]
struct Tick {
    period: Duration,
    at: Option<Duration>,
    /// Index of the last record accepted when it last came.
    seen: Option<Index>,
    /// None was accepted between the last two times.
    quiet: bool,
}

/// What a tick found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticked {
    NotYet,
    /// Records were accepted since the last time.
    Busy,
    /// None were.
    Quiet,
}

impl Tick {
    fn new(period: Duration) -> Self {
        Self { period, at: None, seen: None, quiet: false }
    }

    fn look(&mut self, now: Duration, accepted: Index) -> Ticked {
        match self.at {
            Some(at) if now >= at => {
                self.at = now.checked_add(self.period);
                self.quiet = self.seen.replace(accepted) == Some(accepted);
                if self.quiet { Ticked::Quiet } else { Ticked::Busy }
            }
            Some(_) => Ticked::NotYet,
            None => {
                self.at = now.checked_add(self.period);
                (self.seen, self.quiet) = (Some(accepted), false);
                Ticked::NotYet
            }
        }
    }

    /// Whether nothing happens any more.
    fn rests(&self, accepted: Index) -> bool {
        self.quiet && self.seen == Some(accepted)
    }
}

/// What the thread remembers from turn to turn.
struct Timers {
    interval: Option<Tick>,
    idle: Option<Tick>,
}

/// How the thread goes on.
enum Turn {
    /// Sleep until then, or until the bell.
    Sleep(Option<Duration>),
    /// Something was done: look again.
    Again,
    Stop,
}

impl Background {
    /// Starts the thread unless it runs.
    ///
    /// # Errors
    /// The system has no thread for it, or this is a forked child.
    pub(crate) fn start(&self, commit: &Arc<Commit>) -> Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match &*thread {
            Thread::Stopped => Err(Error::Closed),
            Thread::Running { process, .. } if *process == process::id() => Ok(()),
            Thread::Running { .. } => Err(Error::Thread {
                source: Arc::new(std::io::Error::other("there is none in a forked child")),
            }),
            Thread::None => {
                let own = Arc::clone(commit);
                let handle = spawn("wal", move || {
                    // A panic of the storage was told by who led; one of the clock or of a waker is told here.
                    if catch_unwind(AssertUnwindSafe(|| run(&own))).is_err()
                        && !seeded_bug!(ThreadDiesSilently)
                    {
                        own.fail(&mut own.lock(), Error::Panicked);
                        own.wake_awaiting();
                    }
                });
                let handle = handle.map_err(|source| Error::Thread { source: Arc::new(source) })?;
                *thread = Thread::Running { handle, process: process::id() };
                Ok(())
            }
        }
    }

    /// Ends the thread and waits for what it is doing. It does no I/O after this.
    pub(crate) fn stop(&self, commit: &Commit) {
        let thread = std::mem::replace(
            &mut *self.thread.lock().unwrap_or_else(PoisonError::into_inner),
            Thread::Stopped,
        );
        commit.lock().stop = true;
        self.bell.ring();
        // The thread itself may drop the last ticket, in a waker; it ends soon.
        if let Thread::Running { handle, process } = thread
            && process == process::id()
            && handle.thread().id() != current_thread().id()
        {
            // A panic in it was told when it happened.
            let _ = handle.join();
        }
    }
}

fn run(commit: &Commit) {
    let policies = commit.policies();
    let mut timers =
        Timers { interval: policies.interval.map(Tick::new), idle: policies.idle.map(Tick::new) };
    loop {
        match turn(commit, &mut timers) {
            Turn::Again => {}
            Turn::Sleep(deadline) => commit.clock().sleep_until(deadline, &commit.background().bell),
            Turn::Stop => return,
        }
    }
}

/// One look at the state, and the one thing that is most due.
fn turn(commit: &Commit, timers: &mut Timers) -> Turn {
    // Outside of the mutex: a clock may take its time, and may panic.
    let now = commit.clock().monotonic();
    let mut state = commit.lock();
    (state.parked, state.watched) = (false, true);
    if state.stop {
        return Turn::Stop;
    }
    if state.room.wake_at.is_some_and(|at| now >= at) {
        // Those who wait for room look at the clock, and say so again if it is not their time.
        state.room.wake_at = None;
        commit.tell_blocked(&state);
    }
    let wake_at = state.room.wake_at;
    if state.check().is_err() {
        drop(state);
        commit.wake_awaiting();
        // A resume rings.
        return Turn::Sleep(wake_at);
    }
    let accepted = state.accepted.index;
    if let Some(tick) = &mut timers.interval
        && tick.look(now, accepted) != Ticked::NotYet
        && state.durable.index < accepted
        && !seeded_bug!(TimerNeverSyncs)
    {
        state.demanded = accepted;
        state.sync_wanted = state.sync_wanted.max(accepted);
    }
    let idle = timers.idle.as_mut().map_or(Ticked::NotYet, |tick| tick.look(now, accepted));
    let free = state.in_flight.is_none() && !state.exclusive;
    if free && state.demanded > state.durable.index {
        commit.lead(state, Why::Asked);
        return Turn::Again;
    }
    let at_disk_without_sync = state.in_flight.is_none_or(|group| !group.gathering && !group.sync);
    if state.unsynced_bytes >= commit.policies().bytes
        && at_disk_without_sync
        && !state.exclusive
        && !state.syncing
    {
        commit.sync_written(state);
        return Turn::Again;
    }
    if idle == Ticked::Quiet && free && !state.syncing && state.forming.is_empty() && promise_is_due(&state) {
        state.reserve_promise();
        commit.lead(state, Why::Promise);
        return Turn::Again;
    }
    let at = |tick: &Option<Tick>| tick.as_ref().and_then(|tick| tick.at);
    // Nothing has happened for a whole tick, and nothing is left to do: the next append rings.
    let rests = |tick: &Option<Tick>| tick.as_ref().is_none_or(|tick| tick.rests(accepted));
    let left = state.durable.index < accepted && timers.interval.is_some()
        || promise_is_due(&state) && timers.idle.is_some()
        || !free;
    if !left && rests(&timers.idle) && rests(&timers.interval) {
        state.parked = timers.idle.is_some() || timers.interval.is_some();
        for tick in [&mut timers.interval, &mut timers.idle].into_iter().flatten() {
            tick.at = None;
        }
        return Turn::Sleep(wake_at);
    }
    drop(state);
    Turn::Sleep([at(&timers.interval), at(&timers.idle), wake_at].into_iter().flatten().min())
}

/// PR3: a record has become durable since the last promise.
fn promise_is_due(state: &Guard<'_>) -> bool {
    state.durable.index > state.promised || seeded_bug!(IdlePromiseForEver)
}

impl Commit {
    /// Starts the thread for something that works without it too, only worse.
    pub(crate) fn start_background(&self) -> bool {
        let started = self.me().is_some_and(|me| match self.background().start(&me) {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "wal.no_thread");
                false
            }
        });
        if !started {
            let mut state = self.lock();
            state.threadless = true;
            // Whoever waits for it does without.
            self.tell_blocked(&state);
        }
        started
    }
}
