//! Time, injected so that a test can own it.

use std::fmt::Debug;
use std::time::Duration;

/// Where the log gets its time from. Nothing about correctness depends on it: it stamps headers and fills reports and histograms.
pub trait Clock: Debug + Send + Sync {
    /// Time since 1970.
    fn wall(&self) -> Duration;

    /// Time since some fixed moment, never going back.
    fn monotonic(&self) -> Duration;
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

/// Whole microseconds, at most `u64::MAX`.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
