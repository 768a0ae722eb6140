//! How much of a recovery is done.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::options::{OnProgress, Progress};

/// Counts bytes and tells the callback.
#[derive(Default)]
pub(crate) struct Meter {
    callback: Option<OnProgress>,
    done: AtomicU64,
    total: AtomicU64,
}

/// Bytes between two calls of the callback.
const STEP_BYTES: u64 = 1 << 20;

impl Meter {
    pub(crate) fn new(callback: Option<OnProgress>) -> Self {
        Self { callback, ..Self::default() }
    }

    /// There are so many more bytes to read.
    pub(crate) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// There is nothing more to read: some files were looked at only in part.
    pub(crate) fn finish(&self) {
        let left = self.total.load(Ordering::Relaxed).saturating_sub(self.done.load(Ordering::Relaxed));
        if left > 0 {
            self.add(left);
        }
    }

    /// So many more have been read.
    pub(crate) fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        let done = before.saturating_add(bytes);
        let total = self.total.load(Ordering::Relaxed);
        if let Some(callback) = &self.callback
            && (before / STEP_BYTES != done / STEP_BYTES || done >= total)
        {
            callback(Progress { bytes_done: done.min(total), bytes_total: total });
        }
    }
}
