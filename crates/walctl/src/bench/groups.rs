//! What the log says of itself while it is measured: how many records each of its groups had.

use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;
use metrics::{Counter, Gauge, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use wal_manager::metrics::GROUP_RECORDS;

use super::numbers;
use crate::exit::Failure;

/// A recorder of one metric, [`GROUP_RECORDS`]: with `metrics::with_local_recorder` around the open, the log that is opened tells it.
#[derive(Clone)]
pub(super) struct Groups(Arc<Sizes>);

struct Sizes(Mutex<Histogram<u64>>);

impl Groups {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self(Arc::new(Sizes(Mutex::new(numbers::histogram()?)))))
    }

    /// The groups since the last call.
    pub(super) fn take(&self) -> Histogram<u64> {
        let mut sizes = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = sizes.clone();
        sizes.reset();
        taken
    }
}

impl HistogramFn for Sizes {
    fn record(&self, records: f64) {
        // A small whole number.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(records as u64);
    }
}

impl Recorder for Groups {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        if key.name() == GROUP_RECORDS {
            metrics::Histogram::from_arc(Arc::clone(&self.0))
        } else {
            metrics::Histogram::noop()
        }
    }
}
