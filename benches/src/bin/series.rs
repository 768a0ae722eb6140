//! What the metrics cost: the same appends with no recorder, with one that does nothing, and with one that counts as an exporter does, in turns.
//!
//! ```text
//! cargo run --release -p wal-benches --bin series
//! ```
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, NoopRecorder,
    Recorder, SharedString, Unit,
};
use metrics_util::registry::{AtomicStorage, Registry};
use wal_benches::append::{Ours, THREADS, UNSYNCED_BYTES};
use wal_benches::stopwatch::median;

/// Rounds of each workload; in each, every side is measured once, and another one is the first.
const ROUNDS: usize = 31;

/// Payload, in bytes: the smallest of docs/benchmarks.md, where the metrics weigh most.
const SIZE: usize = 128;

/// Synced appends of each thread in a round.
const EACH: usize = 20;

/// Handles that are called and do nothing.
struct DoesNothing;

impl CounterFn for DoesNothing {
    fn increment(&self, _: u64) {}
    fn absolute(&self, _: u64) {}
}

impl GaugeFn for DoesNothing {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, _: f64) {}
}

impl HistogramFn for DoesNothing {
    fn record(&self, _: f64) {}
}

impl Recorder for DoesNothing {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Self))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Self))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Self))
    }
}

/// What the exporter of Prometheus keeps: atomics, and the samples until they are fetched.
struct Counts(Registry<Key, AtomicStorage>);

impl Counts {
    fn new() -> Self {
        Self(Registry::atomic())
    }

    /// As a scrape does.
    fn fetch(&self) {
        self.0.visit_histograms(|_, histogram| histogram.clear());
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.get_or_create_counter(key, |counter| Counter::from_arc(Arc::clone(counter)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.get_or_create_gauge(key, |gauge| Gauge::from_arc(Arc::clone(gauge)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.get_or_create_histogram(key, |histogram| Histogram::from_arc(Arc::clone(histogram)))
    }
}

/// A workload: its name, how its log is opened, how many records a measurement appends, and the measurement.
type Workload = (&'static str, fn(usize) -> Ours, usize, fn(&mut Ours) -> Duration);

const WORKLOADS: [Workload; 3] = [
    ("buffered, writes discarded", Ours::discarding, UNSYNCED_BYTES / SIZE, |ours| {
        ours.unsynced(UNSYNCED_BYTES)
    }),
    ("synced, one thread", Ours::new, EACH, |ours| (0..EACH).map(|_| ours.synced()).sum()),
    ("synced, 8 threads", Ours::new, THREADS * EACH, |ours| ours.shared(EACH).0),
];

fn main() {
    let counts = Counts::new();
    let recorders: [(&str, &dyn Recorder); 3] =
        [("none", &NoopRecorder), ("no-op", &DoesNothing), ("counting", &counts)];
    println!("{:<28} {:<10} {:>12} {:>8}", "workload", "recorder", "ns/record", "ratio");
    for (workload, open, records, measure) in WORKLOADS {
        let mut sides = recorders.map(|(name, recorder)| {
            (name, metrics::with_local_recorder(recorder, || open(SIZE)), Vec::new())
        });
        for round in 0..ROUNDS {
            for turn in 0..sides.len() {
                let at = (round + turn) % sides.len();
                if let Some((_, ours, times)) = sides.get_mut(at) {
                    times.push(measure(ours).as_secs_f64() * 1e9 / records as f64);
                }
            }
            counts.fetch();
        }
        // Of the ratios of a round, not the ratio of two medians: what the machine does to a round it does to all sides.
        let without = sides.first().map(|(_, _, times)| times.clone()).unwrap_or_default();
        for (name, _, times) in &sides {
            let ratios = times.iter().zip(&without).map(|(with, without)| with / without);
            let (time, ratio) = (median(times.clone()), median(ratios.collect()));
            println!("{workload:<28} {name:<10} {time:>12.0} {ratio:>8.3}");
        }
    }
}
