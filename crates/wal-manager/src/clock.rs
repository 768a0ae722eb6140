//! Time, injected so that a test can own it.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

/// Where the log gets its time from. Nothing about correctness depends on it: it stamps headers, fills reports and histograms, and says
/// when the log's own thread looks again.
pub trait Clock: Debug + Send + Sync {
    /// Time since 1970.
    fn wall(&self) -> Duration;

    /// Time since some fixed moment, never going back.
    fn monotonic(&self) -> Duration;

    /// Sleeps until [`Clock::monotonic`] has reached `deadline` (for ever, for `None`), or until `bell` is rung. It may return early.
    ///
    /// A clock that a test moves by hand waits for its bell only, and rings it when it is moved.
    fn sleep_until(&self, deadline: Option<Duration>, bell: &Bell) {
        bell.wait(deadline.map(|deadline| deadline.saturating_sub(self.monotonic())));
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is where the injected clock comes from")]
        let start = std::time::Instant::now();
        Self { start }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is where the injected clock comes from")]
    fn wall(&self) -> Duration {
        // A clock before 1970 reads as 1970.
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// What wakes the log's own thread before its time. Clones are the same bell. A ring that nobody waits for is kept for the next who does.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Wakes who waits.
    pub fn ring(&self) {
        *self.0.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }

    /// Waits for a ring, at most so long (for ever, for `None`).
    pub fn wait(&self, longest: Option<Duration>) {
        let mut rung = self.0.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            match longest {
                None => rung = self.0.changed.wait(rung).unwrap_or_else(PoisonError::into_inner),
                Some(longest) => {
                    let waited = self.0.changed.wait_timeout(rung, longest);
                    // Early for no reason is allowed: who waits looks at the clock again.
                    *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
                    return;
                }
            }
        }
        *rung = false;
    }
}

/// Whole microseconds, at most `u64::MAX`.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
