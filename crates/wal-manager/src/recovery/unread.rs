//! A replay of logs that nobody read when the directory was opened: what it learns, and what it says when they are not as their seals say.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};

use wal_format::checkpoint::Checkpoint;
use wal_format::{FamilyId, LogNumber, SeqNum};
use wal_io::Storage;

use crate::checkpoint::Loaded;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::recovery::progress::Meter;
use crate::recovery::stream::Stream;
use crate::recovery::{count, decide, list, report};
use crate::report::Verdict;
use crate::sync::{AtomicBool, Mutex};

/// The families of a log, each with its highest sequence number.
type Families = BTreeMap<FamilyId, SeqNum>;

/// What the replays of one recovery have reached.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    drained: AtomicBool,
    families: Mutex<BTreeMap<LogNumber, Families>>,
}

impl Replayed {
    /// Everything was read, and these are the families in it.
    pub(crate) fn drain(&self, families: Vec<(LogNumber, Families)>) {
        self.families.lock().unwrap_or_else(PoisonError::into_inner).extend(families);
        // Release: `finish` on another thread sees that this one is done.
        self.drained.store(true, Ordering::Release);
    }

    /// Whether a replay has read everything.
    pub(crate) fn is_drained(&self) -> bool {
        // Acquire pairs with the release of the iterator that ended, on whatever thread.
        self.drained.load(Ordering::Acquire)
    }

    /// What a replay of a part of the logs has learned.
    pub(crate) fn take(&self) -> Vec<(LogNumber, Families)> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *families).into_iter().collect()
    }

    pub(crate) fn families_of(&self, log: LogNumber) -> Families {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.get(&log).filter(|_| !seeded_bug!(ReplayForgetsFamilies)).cloned().unwrap_or_default()
    }
}

/// What the threads of one replay have in common.
pub(crate) struct Replay {
    meter: Meter,
    metrics: Metrics,
    /// Said and counted once, though several threads may meet damage.
    verdict: OnceLock<Error>,
}

impl Replay {
    pub(crate) fn new(meter: Meter, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { meter, metrics, verdict: OnceLock::new() })
    }
}

/// Who is asked when a log is not as its seal says.
pub(crate) struct Unread {
    storage: Arc<dyn Storage>,
    options: Options,
    checkpoint: Checkpoint,
    replay: Arc<Replay>,
    /// Bytes of the logs before each log.
    before: BTreeMap<LogNumber, u64>,
    /// How much the meter knows of.
    metered: u64,
    total: u64,
}

impl Unread {
    /// Of these logs in a replay.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        options: &Options,
        loaded: &Loaded,
        logs: &Stream,
        replay: Arc<Replay>,
    ) -> Self {
        let (mut before, mut total) = (BTreeMap::new(), 0_u64);
        for part in logs.parts() {
            before.insert(part.log, total);
            total = total.saturating_add(part.end);
        }
        replay.meter.expect(total);
        let (options, checkpoint) = (options.clone(), loaded.content.clone());
        Self { storage, options, checkpoint, replay, before, metered: 0, total }
    }

    /// The reader has come to `offset` of `log`.
    pub(crate) fn reached(&mut self, log: LogNumber, offset: u64) {
        let before = self.before.get(&log).copied().unwrap_or_default();
        self.advance(before.saturating_add(offset));
    }

    /// The reader has come to the end.
    pub(crate) fn reached_end(&mut self) {
        self.advance(self.total);
    }

    fn advance(&mut self, done: u64) {
        self.replay.meter.add(done.saturating_sub(self.metered));
        self.metered = self.metered.max(done);
    }

    /// What the open would have said, had it read every byte; `otherwise` if it finds nothing wrong.
    pub(crate) fn verdict(&self, otherwise: Error) -> Error {
        let verdict = || {
            let verdict =
                self.read_everything().map_or_else(|error| error, |found| found.unwrap_or(otherwise));
            self.replay.metrics.refused_recovery(&verdict);
            verdict
        };
        self.replay.verdict.get_or_init(verdict).clone()
    }

    fn read_everything(&self) -> Result<Option<Error>> {
        let storage = &*self.storage;
        let plan =
            decide(storage, &self.checkpoint, list(storage)?, &Meter::default(), self.options.threads)?;
        if plan.refusal.is_some() {
            return Ok(plan.refusal);
        }
        let report = report(storage, &self.options, &self.checkpoint, &plan, None);
        count(&self.replay.metrics, &report);
        Ok((report.verdict == Verdict::Damaged).then(|| Error::Damaged(Arc::new(report))))
    }
}

impl std::fmt::Debug for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unread").field("storage", &self.storage).finish_non_exhaustive()
    }
}
