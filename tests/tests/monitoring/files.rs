//! The Grafana dashboard of `docs/monitoring`, made from the list of metrics: a metric's kind and unit say how it is asked for and drawn, and
//! [`layout`] says in which panel. And the other files there.

use std::path::PathBuf;

use wal_manager::metrics::{ALL, Metric, MetricKind};

use crate::{grafana, layout};

/// The dashboard's JSON, as it is committed.
pub(crate) fn dashboard() -> String {
    let mut text = serde_json::to_string_pretty(&grafana::dashboard(layout::ROWS)).expect("JSON");
    text.push('\n');
    text
}

/// Where a file of `docs/monitoring` is.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring").join(name)
}

/// The text of a file of `docs/monitoring`.
pub(crate) fn read(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A metric of the list.
///
/// # Panics
///
/// If it is not there.
pub(crate) fn metric(name: &str) -> &'static Metric {
    ALL.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("there is no metric {name}"))
}

/// Every name in `text` that could be a series of the log, or one that was recorded from them: `wal_...` and `wal:...`.
pub(crate) fn series_in(text: &str) -> Vec<String> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut names: Vec<String> = text
        .split(|c| !inside(c))
        .filter(|word| word.starts_with("wal_") || word.starts_with("wal:"))
        .map(|word| word.trim_end_matches(':').to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The metric that a series belongs to: a histogram's are `NAME_bucket`, `NAME_sum` and `NAME_count`.
pub(crate) fn metric_of(series: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| match metric.kind {
        MetricKind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|part| series.strip_suffix(part).is_some_and(|name| name == metric.name)),
        _ => metric.name == series,
    })
}
