//! A recorder of metrics that panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::disk::Injected;

/// Forgets all metrics, and panics when a gauge is set for the time that was asked for. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct PanickingRecorder {
    /// Gauges to be set until it panics; 0 if it does not.
    left: Arc<AtomicU64>,
}

impl PanickingRecorder {
    /// The `nth` gauge that is set from now on panics.
    pub fn panic_at(&self, nth: u64) {
        self.left.store(nth, Ordering::Relaxed);
    }
}

impl GaugeFn for PanickingRecorder {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, _: f64) {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            // Not through the panic hook: shuttle would take it for a failure of the test.
            std::panic::resume_unwind(Box::new(Injected));
        }
    }
}

impl Recorder for PanickingRecorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.clone()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
