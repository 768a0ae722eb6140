//! `drill --metrics`: the children's numbers, added up in the parent, which outlives them all.
//!
//! The child records into atomics and tells the parent now and then what they have gained. What it gained in the last
//! moment before a kill is never told: a counter may fall short by that much, never go back. A metric that stands at zero is told
//! too, once, so that it is there to be looked at before anything happens to it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use metrics_util::registry::{AtomicStorage, Registry};
use serde::{Deserialize, Serialize};
use wal_manager::metrics as names;

use crate::exit::Failure;

/// A piece of news about one metric.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sample {
    /// What a metric means; told once.
    Help(Kind, String, String),
    /// What a counter has gained.
    Counter(Series, u64),
    /// What a gauge stands at.
    Gauge(Series, f64),
    /// What a histogram has seen.
    Histogram(Series, Vec<f64>),
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric's name and labels.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Series(String, Vec<(String, String)>);

impl Series {
    fn of(key: &Key) -> Self {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        Self(key.name().to_owned(), labels.collect())
    }

    fn key(&self) -> Key {
        let labels: Vec<Label> =
            self.1.iter().map(|(key, value)| Label::new(key.clone(), value.clone())).collect();
        Key::from_parts(self.0.clone(), labels)
    }
}

/// The recorder of a child.
#[derive(Clone)]
pub(crate) struct Collector(Arc<Inner>);

struct Inner {
    registry: Registry<Key, AtomicStorage>,
    /// Descriptions that were not told yet.
    help: Mutex<Vec<Sample>>,
    /// The counters and histograms that were told already.
    told: Mutex<HashSet<Key>>,
    /// What the gauges stood at when they were last told, as bits.
    gauges: Mutex<HashMap<Key, u64>>,
}

impl Collector {
    /// Makes a recorder and installs it for the whole process.
    pub(crate) fn install() -> Result<Self, Failure> {
        let collector = Self::new();
        let installed = metrics::set_global_recorder(collector.clone());
        installed.map_err(|error| Failure::Refused(format!("metrics: {error}")))?;
        Ok(collector)
    }

    fn new() -> Self {
        Self(Arc::new(Inner {
            registry: Registry::atomic(),
            help: Mutex::default(),
            told: Mutex::default(),
            gauges: Mutex::default(),
        }))
    }

    /// What is new since the last call.
    pub(crate) fn news(&self) -> Vec<Sample> {
        let mut news = std::mem::take(&mut *self.0.help.lock().unwrap_or_else(PoisonError::into_inner));
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.registry.visit_counters(|key, counter| {
            let gained = counter.swap(0, Ordering::Relaxed);
            if told.insert(key.clone()) || gained > 0 {
                news.push(Sample::Counter(Series::of(key), gained));
            }
        });
        let mut gauges = self.0.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.registry.visit_gauges(|key, gauge| {
            let bits = gauge.load(Ordering::Relaxed);
            let value = f64::from_bits(bits);
            if value.is_finite() && gauges.insert(key.clone(), bits) != Some(bits) {
                news.push(Sample::Gauge(Series::of(key), value));
            }
        });
        drop(gauges);
        self.0.registry.visit_histograms(|key, histogram| {
            let mut values = Vec::new();
            histogram.clear_with(|some| values.extend(some.iter().filter(|value| value.is_finite())));
            if told.insert(key.clone()) || !values.is_empty() {
                news.push(Sample::Histogram(Series::of(key), values));
            }
        });
        news
    }

    fn describe(&self, kind: Kind, name: &KeyName, help: &SharedString) {
        let sample = Sample::Help(kind, name.as_str().to_owned(), help.to_string());
        self.0.help.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
    }
}

impl Recorder for Collector {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(Kind::Counter, &name, &help);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(Kind::Gauge, &name, &help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(Kind::Histogram, &name, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.registry.get_or_create_counter(key, |counter| Counter::from_arc(Arc::clone(counter)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.registry.get_or_create_gauge(key, |gauge| Gauge::from_arc(Arc::clone(gauge)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.registry.get_or_create_histogram(key, |histogram| Histogram::from_arc(Arc::clone(histogram)))
    }
}

/// Serves what is recorded in this process as Prometheus text at `address`, from now until the process ends.
pub(crate) fn serve(address: SocketAddr) -> Result<(), Failure> {
    let refused = |error| Failure::Refused(format!("metrics: {error}"));
    let serving = builder().map_err(refused)?.with_http_listener(address).install();
    serving.map_err(|error| Failure::io(format!("serving metrics at {address}"), io::Error::other(error)))
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    // Without buckets a histogram would be shown as quantiles, which cannot be added up.
    names::BUCKETS.iter().try_fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
        builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
    })
}

/// Adds the child's news to this process's numbers. Does nothing unless [`serve`] was called.
pub(crate) fn add(news: Vec<Sample>) {
    metrics::with_recorder(|recorder| {
        for sample in news {
            match sample {
                Sample::Help(Kind::Counter, name, help) => {
                    recorder.describe_counter(name.into(), None, help.into())
                }
                Sample::Help(Kind::Gauge, name, help) => {
                    recorder.describe_gauge(name.into(), None, help.into())
                }
                Sample::Help(Kind::Histogram, name, help) => {
                    recorder.describe_histogram(name.into(), None, help.into());
                }
                Sample::Counter(series, gained) => {
                    recorder.register_counter(&series.key(), &METADATA).increment(gained);
                }
                Sample::Gauge(series, value) => recorder.register_gauge(&series.key(), &METADATA).set(value),
                Sample::Histogram(series, values) => {
                    let histogram = recorder.register_histogram(&series.key(), &METADATA);
                    values.into_iter().for_each(|value| histogram.record(value));
                }
            }
        }
    });
}

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

#[cfg(test)]
mod tests {
    use metrics::with_local_recorder;

    use super::*;

    /// What a child tells that counts to `appends`, and then to one more.
    fn child(appends: u64, logs: f64) -> Vec<Sample> {
        let collector = Collector::new();
        with_local_recorder(&collector, || {
            metrics::describe_counter!(names::APPENDS, "Records accepted.");
            let counter = metrics::counter!(names::APPENDS, names::LABEL => "default");
            let histogram = metrics::histogram!(names::SYNC_SECONDS, names::LABEL => "default");
            let _damage = metrics::counter!(names::DAMAGE, names::LABEL => "default");
            let _recoveries = metrics::histogram!(names::RECOVERY_SECONDS, names::LABEL => "default");
            metrics::gauge!(names::LOGS, names::LABEL => "default").set(logs);
            counter.increment(appends);
            histogram.record(0.003);
            let mut news = collector.news();
            assert_eq!(collector.news(), [], "nothing is told twice");
            counter.increment(1);
            histogram.record(f64::NAN);
            news.extend(collector.news());
            // Over the pipe.
            serde_json::from_str(&serde_json::to_string(&news).unwrap()).unwrap()
        })
    }

    #[test]
    fn the_numbers_of_children_are_added_up() {
        let recorder = builder().unwrap().build_recorder();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            add(child(40, 5.0));
            add(child(2, 3.0));
        });
        let text = handle.render();
        for line in [
            "# HELP wal_appends_total Records accepted.",
            "# TYPE wal_appends_total counter",
            "wal_appends_total{wal=\"default\"} 44",
            "wal_logs{wal=\"default\"} 3",
            "wal_sync_duration_seconds_bucket{wal=\"default\",le=\"0.002\"} 0",
            "wal_sync_duration_seconds_bucket{wal=\"default\",le=\"0.005\"} 2",
            "wal_sync_duration_seconds_count{wal=\"default\"} 2",
            "wal_damage_total{wal=\"default\"} 0",
            "wal_recovery_duration_seconds_count{wal=\"default\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
        }
    }
}
