//! What is at the disk at the moment, and since when: a disk that hangs is seen while it does.
//!
//! Whoever takes something to the disk says so before and after. The gauges have the time of the beginning from then on, so no thread has to
//! count the seconds. With [`Options::on_stall`](crate::Options::on_stall) a thread looks on, which does nothing else and so never
//! hangs with the disk: it tells of what takes too long, once. It sleeps as long as nothing can be due, and without a deadline once a log is idle;
//! then the next to go to the disk wakes it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::{info, warn};
use wal_format::LogNumber;

use crate::clock::{Bell, Clock, micros};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::sync::{AtomicBool, AtomicU64, JoinHandle, Mutex, current_thread, spawn};

/// Work that waits for the disk, or for whatever else is behind a [`Storage`](crate::Storage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskWork {
    /// A group is written, and synced where somebody waits for that.
    Commit,
    /// What was written is synced beside the groups.
    Sync,
    /// The file of the next log is made.
    Prepare,
    /// CHECKPOINT is updated.
    Checkpoint,
    /// A log that was closed gets its seal.
    Seal,
    /// Logs that nobody needs any more are removed.
    Delete,
    /// Logs are archived.
    Archive,
    /// A log that has failed goes on in a new file.
    Resume,
}

impl DiskWork {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Commit,
        Self::Sync,
        Self::Prepare,
        Self::Checkpoint,
        Self::Seal,
        Self::Delete,
        Self::Archive,
        Self::Resume,
    ];

    /// In one word, as it stands in metrics and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Sync => "sync",
            Self::Prepare => "prepare",
            Self::Checkpoint => "checkpoint",
            Self::Seal => "seal",
            Self::Delete => "delete",
            Self::Archive => "archive",
            Self::Resume => "resume",
        }
    }
}

/// Work at the disk that takes long, and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// What is at the disk.
    pub work: DiskWork,
    /// The log that was being written when it was begun.
    pub log: LogNumber,
    /// How long it takes already.
    pub age: Duration,
}

/// From when on it is a stall, and whom to tell.
#[derive(Clone)]
pub(crate) struct OnStall {
    pub(crate) after: Duration,
    pub(crate) callback: Arc<dyn Fn(&Stall) + Send + Sync>,
}

impl fmt::Debug for OnStall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStall").field("after", &self.after).finish_non_exhaustive()
    }
}

/// What is at the disk, one of each kind of work: that there are never two is seen to by the locks under which it is done.
#[derive(Debug)]
pub(crate) struct Watchdog {
    slots: [Slot; DiskWork::ALL.len()],
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    looks_on: Option<LooksOn>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Somebody has it. A second one goes without: that is late news, never wrong news.
    taken: AtomicBool,
    /// When it was begun, in microseconds of the monotonic clock and one more; 0: nothing is at the disk.
    since: AtomicU64,
    log: AtomicU64,
    /// The `since` that was told last.
    told: AtomicU64,
}

/// The thread that looks.
#[derive(Debug)]
struct LooksOn {
    on_stall: OnStall,
    bell: Bell,
    /// Nothing has happened for a while, and it sleeps until it is woken.
    parked: AtomicBool,
    /// Something was begun since it looked last.
    active: AtomicBool,
    stop: AtomicBool,
    thread: Mutex<Option<(JoinHandle<()>, u32)>>,
}

impl Watchdog {
    pub(crate) fn new(on_stall: Option<OnStall>, clock: Arc<dyn Clock>, metrics: Metrics) -> Arc<Self> {
        let looks_on = on_stall.map(|on_stall| LooksOn {
            on_stall,
            bell: Bell::default(),
            parked: AtomicBool::new(false),
            active: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            thread: Mutex::new(None),
        });
        Arc::new(Self { slots: Default::default(), clock, metrics, looks_on })
    }

    /// Starts the thread, if somebody wants to be told.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        let Some(looks_on) = &self.looks_on else { return Ok(()) };
        let own = Arc::clone(self);
        let handle = spawn("wal-watchdog", move || own.run());
        let handle = handle.map_err(|source| Error::Thread { source: Arc::new(source) })?;
        *looks_on.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some((handle, process::id()));
        Ok(())
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&self) {
        let Some(looks_on) = &self.looks_on else { return };
        looks_on.stop.store(true, Ordering::SeqCst);
        looks_on.bell.ring();
        let thread = looks_on.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The engine's code in it may drop the log; and a forked child has no such thread.
        if let Some((handle, process)) = thread
            && process == process::id()
            && handle.thread().id() != current_thread().id()
        {
            // A panic in it was told when it happened.
            let _ = handle.join();
        }
    }

    /// Work goes to the disk, until what this returns is dropped. Never called under the commit path's mutex.
    pub(crate) fn begin(&self, work: DiskWork, log: LogNumber) -> AtDisk<'_> {
        let at = work as usize;
        let slot = self.slots.get(at).filter(|slot| !slot.taken.swap(true, Ordering::Acquire));
        // Whatever panics from here on, dropping it frees the slot.
        let mut at_disk = AtDisk { watchdog: self, at, slot, since: 0 };
        let Some(slot) = slot else { return at_disk };
        if let Some((gauge, _)) = self.metrics.in_flight.get(at) {
            gauge.set(self.clock.wall().as_secs_f64());
        }
        if let Some(looks_on) = &self.looks_on {
            at_disk.since = micros(self.clock.monotonic()).saturating_add(1);
            slot.log.store(log.get(), Ordering::Relaxed);
            slot.since.store(at_disk.since, Ordering::SeqCst);
            looks_on.active.store(true, Ordering::SeqCst);
            // INVARIANT: O6. It parks first and looks then, this is begun first and looks then: one of the two sees the other.
            if looks_on.parked.load(Ordering::SeqCst) && looks_on.parked.swap(false, Ordering::SeqCst) {
                looks_on.bell.ring();
            }
        }
        at_disk
    }

    fn run(&self) {
        let Some(looks_on) = &self.looks_on else { return };
        while !looks_on.stop.load(Ordering::SeqCst) {
            // A clock that panics ends it, and nothing else.
            let now = self.clock.monotonic();
            looks_on.parked.store(false, Ordering::SeqCst);
            let was_active = looks_on.active.swap(false, Ordering::SeqCst);
            let due = self.look(looks_on, now);
            if was_active || due.is_some() {
                // As often as this, and not once for each group: what is begun meanwhile is not due before.
                let next = now.saturating_add(looks_on.on_stall.after);
                self.clock.sleep_until(Some(due.map_or(next, |due| due.min(next))), &looks_on.bell);
                continue;
            }
            looks_on.parked.store(true, Ordering::SeqCst);
            if !looks_on.active.load(Ordering::SeqCst) {
                self.clock.sleep_until(None, &looks_on.bell);
            }
        }
    }

    /// Tells of what has become due, and returns when the next of what is at the disk will.
    fn look(&self, looks_on: &LooksOn, now: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for (work, slot) in DiskWork::ALL.into_iter().zip(&self.slots) {
            let since = slot.since.load(Ordering::SeqCst);
            if since == 0 || slot.told.load(Ordering::SeqCst) == since {
                continue;
            }
            let begun = Duration::from_micros(since.saturating_sub(1));
            let due = begun.saturating_add(looks_on.on_stall.after);
            if now < due {
                next = Some(next.map_or(due, |next| next.min(due)));
                continue;
            }
            slot.told.store(since, Ordering::SeqCst);
            let log = LogNumber::new(slot.log.load(Ordering::Relaxed));
            self.tell(looks_on, &Stall { work, log, age: now.saturating_sub(begun) });
        }
        next
    }

    fn tell(&self, looks_on: &LooksOn, stall: &Stall) {
        let Stall { work, log, age } = stall;
        let wal = &*self.metrics.name;
        warn!(wal, work = work.as_str(), log = log.get(), seconds = age.as_secs_f64(), "wal.stall");
        if let Some((_, stalls)) = self.metrics.in_flight.get(*work as usize) {
            stalls.increment(1);
        }
        // The thread must not end with the engine's code.
        if catch_unwind(AssertUnwindSafe(|| (looks_on.on_stall.callback)(stall))).is_err() {
            warn!("wal.stall_callback_panicked");
        }
    }
}

/// Work at the disk.
#[derive(Debug)]
pub(crate) struct AtDisk<'a> {
    watchdog: &'a Watchdog,
    at: usize,
    slot: Option<&'a Slot>,
    since: u64,
}

impl Drop for AtDisk<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        // Also if the recorder, the clock or a subscriber panics.
        let _taken = Taken(slot);
        slot.since.store(0, Ordering::SeqCst);
        if self.since > 0 && slot.told.load(Ordering::SeqCst) == self.since {
            let now = micros(self.watchdog.clock.monotonic()).saturating_add(1);
            let seconds = Duration::from_micros(now.saturating_sub(self.since)).as_secs_f64();
            let work = DiskWork::ALL.get(self.at).map(|work| work.as_str());
            info!(
                wal = &*self.watchdog.metrics.name,
                work,
                log = slot.log.load(Ordering::Relaxed),
                seconds,
                "wal.stall_ended"
            );
        }
        // A recorder that panics twice would end the process.
        if let Some((gauge, _)) = self.watchdog.metrics.in_flight.get(self.at)
            && !std::thread::panicking()
        {
            gauge.set(0.0);
        }
    }
}

/// A slot that is given back when this is dropped.
struct Taken<'a>(&'a Slot);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}
