//! The metrics of a log as an operator sees them: through the exporter that applications use.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use wal_manager::{Options, Wal, metrics as names};

use crate::life::reopen;

/// A recorder of its own, with the log's buckets.
#[derive(Debug)]
pub struct Exporter {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    name: &'static str,
}

impl Default for Exporter {
    fn default() -> Self {
        Self::named("mine")
    }
}

impl Exporter {
    /// For a log of this name.
    pub fn named(name: &'static str) -> Self {
        Self { name, ..Self::new(false) }
    }

    /// With the exporter's recommended naming, or without.
    pub fn new(recommended_naming: bool) -> Self {
        let mut builder = PrometheusBuilder::new().with_recommended_naming(recommended_naming);
        for (name, buckets) in names::BUCKETS {
            let matcher = Matcher::Full((*name).to_owned());
            builder = builder.set_buckets_for_metric(matcher, buckets).expect("there are buckets");
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle, name: "mine" }
    }

    /// What is opened in here records.
    pub fn with<T>(&self, code: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, code)
    }

    /// Opens, replays and records, under its name.
    pub fn open(&self, options: Options) -> Wal {
        self.with(|| reopen(options.name(self.name)).0)
    }

    /// What Prometheus would scrape now.
    pub fn text(&self) -> String {
        self.handle.render()
    }

    /// The value of its log; of a histogram, the number of samples. `name` may go on with a kind, behind a space.
    pub fn value(&self, name: &str) -> f64 {
        let (name, kind) = name.split_once(' ').unwrap_or((name, ""));
        let kind = if kind.is_empty() { String::new() } else { format!(",kind=\"{kind}\"") };
        let is_histogram = names::BUCKETS.iter().any(|(histogram, _)| *histogram == name);
        let count = if is_histogram { "_count" } else { "" };
        let series = format!("{name}{count}{{wal=\"{}\"{kind}}} ", self.name);
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("{series} in {text}")).parse().expect("a number")
    }

    /// Checks several at once.
    pub fn assert(&self, values: &[(&str, f64)]) {
        for (name, value) in values {
            assert_eq!(self.value(name), *value, "{name}");
        }
    }
}
