//! Pressure: when live logs are over a soft limit, the engine is told what to flush.
//!
//! The commit path only compares numbers at a rotation; the callback runs in the log's own thread, or in [`Wal::housekeep`](crate::Wal::housekeep).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing::{info, warn};
use wal_format::{FamilyId, LogNumber, SeqNum};

use crate::inner::Inner;
use crate::keepers::KeeperKind;
use crate::kept::{Keeper, Kept};

/// What the engine is told when live logs are over the soft limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Bytes in live logs.
    pub live_bytes: u64,
    /// How many live logs there are.
    pub live_logs: usize,
    /// The oldest log: nothing goes before it does.
    pub oldest: LogNumber,
    /// What to flush so that the oldest log can go: each family that keeps it, and the sequence number up to which. Empty if it is not
    /// families that keep it.
    pub flush: Vec<(FamilyId, SeqNum)>,
    /// Everybody who keeps the oldest log.
    pub keepers: Vec<Keeper>,
}

/// The soft limit, and whom to tell.
#[derive(Clone)]
pub(crate) struct OnPressure {
    pub(crate) bytes: u64,
    pub(crate) logs: usize,
    pub(crate) callback: Arc<dyn Fn(&Pressure) + Send + Sync>,
}

impl fmt::Debug for OnPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnPressure")
            .field("bytes", &self.bytes)
            .field("logs", &self.logs)
            .finish_non_exhaustive()
    }
}

impl OnPressure {
    fn is_over(&self, bytes: u64, logs: usize) -> bool {
        bytes > self.bytes || logs > self.logs
    }
}

impl Inner {
    /// Asks for [`Inner::tell_pressure`] if live logs are over the soft limit.
    pub(crate) fn pressure_later(self: &Arc<Self>) {
        let Some(soft) = &self.on_pressure else { return };
        let logs = self.logs();
        if soft.is_over(logs.iter().map(|log| log.bytes).sum(), logs.len()) {
            self.housekeeper.tell_pressure(self);
        }
    }

    /// Tells the engine, if live logs are still over the soft limit.
    pub(crate) fn tell_pressure(&self) {
        let Some(soft) = &self.on_pressure else { return };
        let mut kept = self.why_kept();
        if seeded_bug!(PressureNamesNewest) {
            kept.reverse();
        }
        let (live_bytes, live_logs) = (kept.iter().map(|kept| kept.bytes).sum(), kept.len());
        let kept_by_somebody = |kept: &Kept| !kept.keepers.is_empty();
        let Some(Kept { log, keepers, .. }) = kept.into_iter().find(kept_by_somebody) else { return };
        if !soft.is_over(live_bytes, live_logs) {
            return;
        }
        let family = |keeper: &Keeper| {
            let family = keeper.name.parse().ok().filter(|_| keeper.kind == KeeperKind::Family)?;
            Some((FamilyId::new(family), keeper.through?))
        };
        let flush: Vec<_> = keepers.iter().filter_map(family).collect();
        info!(live_bytes, live_logs, oldest = log.get(), families = flush.len(), "wal.pressure");
        self.metrics.pressures.increment(1);
        let pressure = Pressure { live_bytes, live_logs, oldest: log, flush, keepers };
        // The thread has other work, and must not end with the engine's code.
        if catch_unwind(AssertUnwindSafe(|| (soft.callback)(&pressure))).is_err() {
            warn!("wal.pressure_callback_panicked");
        }
    }
}
