//! A clock that a test moves by hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wal_manager::{Bell, Clock};

/// Stands still until [`HandClock::advance`].
#[derive(Debug, Default)]
pub struct HandClock {
    hand: Mutex<Hand>,
    slept: Condvar,
    panics: AtomicBool,
}

#[derive(Debug, Default)]
struct Hand {
    now: Duration,
    /// The thread of the log that sleeps: its deadline and its bell.
    sleeper: Option<(Option<Duration>, Bell)>,
}

impl HandClock {
    fn lock(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the clock, lets the log's thread look at it, and waits until that has done what is due and sleeps again.
    pub fn advance(&self, by: Duration) {
        let mut hand = self.lock();
        while hand.sleeper.is_none() {
            hand = self.slept.wait(hand).unwrap_or_else(PoisonError::into_inner);
        }
        hand.now += by;
        if let Some((_, bell)) = hand.sleeper.take() {
            bell.ring();
        }
        while hand.sleeper.is_none() {
            hand = self.slept.wait(hand).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Moves the clock of a log without a thread of its own, or whose thread need not look.
    pub fn pass(&self, by: Duration) {
        self.lock().now += by;
    }

    /// When the log's thread will look again, `None` if it waits for its bell only.
    pub fn deadline(&self) -> Option<Duration> {
        let hand = self.lock();
        hand.sleeper.as_ref().and_then(|(deadline, _)| *deadline).map(|at| at.saturating_sub(hand.now))
    }

    /// From now on, to ask for the time is to panic.
    pub fn panic_from_now_on(&self) {
        self.panics.store(true, Ordering::SeqCst);
        if let Some((_, bell)) = self.lock().sleeper.take() {
            bell.ring();
        }
    }
}

impl Clock for HandClock {
    fn wall(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn monotonic(&self) -> Duration {
        assert!(!self.panics.load(Ordering::SeqCst), "the clock panics, as the test asked");
        self.lock().now
    }

    fn sleep_until(&self, deadline: Option<Duration>, bell: &Bell) {
        let mut hand = self.lock();
        if deadline.is_none_or(|deadline| deadline > hand.now) {
            hand.sleeper = Some((deadline, bell.clone()));
            self.slept.notify_all();
            drop(hand);
            bell.wait(None);
            self.lock().sleeper = None;
        }
    }
}

/// Shows the time that it was set to, for what looks at the clock only when it is called.
#[derive(Debug, Default)]
pub struct StepClock(std::sync::atomic::AtomicU64);

impl StepClock {
    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for StepClock {
    fn wall(&self) -> Duration {
        self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
}
