//! What the metrics cost: the same appends with no recorder, with one that does nothing, and with one that counts as an exporter does, in turns.
//!
//! ```text
//! cargo run --release -p wal-benches --bin series
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that goes wrong must stop, not be reported"
)]

use std::hint::black_box;
use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, NoopRecorder,
    Recorder, SharedString, Unit,
};
use metrics_util::registry::{AtomicStorage, Registry};
use tempfile::TempDir;
use wal_benches::append::THREADS;
use wal_benches::counting::CountingStorage;
use wal_benches::data;
use wal_benches::stopwatch::{median, time};
use wal_manager::{Durability, LOG_BYTES_MAX, Record, RecordKind, SYNC_BYTES_MAX, Wal};

/// Rounds of each workload; in each, every side is measured once, and another one is the first.
const ROUNDS: usize = 61;

/// Payload, in bytes: the smallest of docs/benchmarks.md, where the metrics weigh most.
const SIZE: usize = 128;

/// Synced appends of each thread in a round.
const EACH: usize = 20;

/// Buffered appends in a round.
const BUFFERED: usize = 50_000;

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

/// A log, and what is appended to it.
struct Side {
    name: &'static str,
    wal: Wal,
    times: Vec<f64>,
    _directory: TempDir,
}

impl Side {
    /// With `discards`, what is written goes nowhere: the log's own work is left.
    fn open(name: &'static str, discards: bool) -> Self {
        let directory = data::directory();
        let storage = CountingStorage::new(directory.path());
        let counts = storage.counts();
        let options = Wal::options_on(Arc::new(storage)).log_bytes(LOG_BYTES_MAX).sync_bytes(SYNC_BYTES_MAX);
        let recovery = options.idle_promise(None).recover();
        let (wal, _) = recovery.and_then(|recovery| recovery.finish_without_replay()).expect("a new log");
        if discards {
            counts.discard_writes();
        }
        Self { name, wal, times: Vec::new(), _directory: directory }
    }

    fn append(&self, times: usize, durability: Durability) {
        let payload = [7; SIZE];
        for _ in 0..times {
            let record = Record::new(RecordKind::new(1).expect("a kind"), black_box(&payload));
            self.wal.append_with(record, durability).expect("an append");
        }
    }
}

/// A workload: its name, whether writes are discarded, how many records a measurement appends, and the measurement.
type Workload = (&'static str, bool, usize, fn(&Side));

const WORKLOADS: [Workload; 3] = [
    ("buffered, writes discarded", true, BUFFERED, |side| side.append(BUFFERED, Durability::Buffered)),
    ("synced, one thread", false, EACH, |side| side.append(EACH, Durability::Synced)),
    ("synced, 8 threads", false, THREADS * EACH, |side| {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| side.append(EACH, Durability::Synced));
            }
        });
    }),
];

fn main() {
    let counts = Counts::new();
    let recorders: [(&str, &dyn Recorder); 3] =
        [("none", &NoopRecorder), ("no-op", &DoesNothing), ("counting", &counts)];
    println!("{:<28} {:<10} {:>12} {:>8}", "workload", "recorder", "ns/record", "ratio");
    for (workload, discards, records, measure) in WORKLOADS {
        let mut sides = recorders
            .map(|(name, recorder)| metrics::with_local_recorder(recorder, || Side::open(name, discards)));
        for round in 0..ROUNDS {
            for turn in 0..sides.len() {
                let at = (round + turn) % sides.len();
                let (took, ()) = time(|| measure(&sides[at]));
                sides[at].times.push(took.as_secs_f64() * 1e9 / records as f64);
            }
            counts.fetch();
        }
        // Of the ratios of a round, not the ratio of two medians: what the machine does to a round it does to all sides.
        let without = sides[0].times.clone();
        for Side { name, times, .. } in &sides {
            let ratios = times.iter().zip(&without).map(|(with, without)| with / without);
            let (time, ratio) = (median(times.clone()), median(ratios.collect()));
            println!("{workload:<28} {name:<10} {time:>12.0} {ratio:>8.3}");
        }
    }
}
