//! How much of a recovery is done.

use std::sync::PoisonError;

use crate::options::{OnProgress, Progress};
use crate::sync::Mutex;

/// Counts bytes and tells the callback, whatever thread has read them.
#[derive(Default)]
pub(crate) struct Meter {
    callback: Option<OnProgress>,
    /// The callback is called under it: what it is told only grows.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    done: u64,
    total: u64,
}

/// Bytes between two calls of the callback.
const STEP_BYTES: u64 = 1 << 20;

impl Meter {
    pub(crate) fn new(callback: Option<OnProgress>) -> Self {
        Self { callback, ..Self::default() }
    }

    /// There are so many more bytes to read.
    pub(crate) fn expect(&self, bytes: u64) {
        self.change(|counts| counts.total = counts.total.saturating_add(bytes));
    }

    /// There is nothing more to read: some files were looked at only in part.
    pub(crate) fn finish(&self) {
        self.read(|Counts { done, total }| total.saturating_sub(*done));
    }

    /// So many more have been read.
    pub(crate) fn add(&self, bytes: u64) {
        self.read(|_| bytes);
    }

    fn read(&self, bytes: impl FnOnce(&Counts) -> u64) {
        let Some(callback) = &self.callback else { return };
        self.change(|counts| {
            let bytes = bytes(counts);
            let before = counts.done;
            counts.done = before.saturating_add(bytes);
            let Counts { done, total } = *counts;
            if before / STEP_BYTES != done / STEP_BYTES || bytes > 0 && done >= total {
                callback(Progress { bytes_done: done.min(total), bytes_total: total });
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
