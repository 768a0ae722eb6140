//! A replay of logs that nobody read when the directory was opened: what it learns, and what it says when they are not as their seals say.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use wal_format::checkpoint::Checkpoint;
use wal_format::{FamilyId, LogNumber, SeqNum};
use wal_io::Storage;

use crate::checkpoint::Loaded;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::recovery::progress::Meter;
use crate::recovery::{Plan, count, decide, list, report};
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

    pub(crate) fn families_of(&self, log: LogNumber) -> Families {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.get(&log).filter(|_| !seeded_bug!(ReplayForgetsFamilies)).cloned().unwrap_or_default()
    }
}

/// Who is asked when a log is not as its seal says.
pub(crate) struct Unread {
    storage: Arc<dyn Storage>,
    options: Options,
    checkpoint: Checkpoint,
    meter: Meter,
    metrics: Metrics,
    /// Bytes of the logs before each log.
    before: BTreeMap<LogNumber, u64>,
    /// How much the meter knows of.
    metered: u64,
    total: u64,
}

impl Unread {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        options: &Options,
        loaded: &Loaded,
        plan: &Plan,
        replayed: &Replayed,
        metrics: &Metrics,
    ) -> Self {
        // Only the first time is a recovery, of which somebody wants to know how much is done.
        let callback = options.on_progress.clone().filter(|_| !replayed.is_drained());
        let meter = Meter::new(callback);
        let (mut before, mut total) = (BTreeMap::new(), 0_u64);
        for walked in &plan.prefix {
            before.insert(walked.log, total);
            total = total.saturating_add(walked.good_end);
        }
        meter.expect(total);
        let (options, checkpoint) = (options.clone(), loaded.content.clone());
        let metrics = metrics.clone();
        Self { storage, options, checkpoint, meter, metrics, before, metered: 0, total }
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
        self.meter.add(done.saturating_sub(self.metered));
        self.metered = self.metered.max(done);
    }

    /// What the open would have said, had it read every byte; `otherwise` if it finds nothing wrong.
    pub(crate) fn verdict(&self, otherwise: Error) -> Error {
        let verdict = self.read_everything().map_or_else(|error| error, |found| found.unwrap_or(otherwise));
        self.metrics.refused_recovery(&verdict);
        verdict
    }

    fn read_everything(&self) -> Result<Option<Error>> {
        let storage = &*self.storage;
        let plan = decide(storage, &self.checkpoint, list(storage)?, &Meter::default())?;
        if plan.refusal.is_some() {
            return Ok(plan.refusal);
        }
        let report = report(storage, &self.options, &self.checkpoint, &plan, None);
        count(&self.metrics, &report);
        Ok((report.verdict == Verdict::Damaged).then(|| Error::Damaged(Arc::new(report))))
    }
}

impl std::fmt::Debug for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unread").field("storage", &self.storage).finish_non_exhaustive()
    }
}
