//! Metrics for Prometheus: the recorder before the log, buckets for the histograms, and what to look at.
//!
//! `cargo run -p wal-manager --example prometheus -- 127.0.0.1:9184` appends until it is stopped, and serves `/metrics` there. Without an address
//! it appends a little and prints what a scrape would see of the most important metrics:
//!
//! ```text
//! wal_appends_total{wal="orders"} 100
//! wal_disk_full{wal="orders"} 0
//! wal_durable_index{wal="orders"} 100
//! wal_last_appended_seq{wal="orders"} 100
//! wal_poisoned{wal="orders"} 0
//! wal_sync_duration_seconds_count{wal="orders"} [..]
//! ```
//!
//! In `prometheus.yml`:
//!
//! ```yaml
//! scrape_configs:
//!   - job_name: wal
//!     static_configs:
//!       - targets: ["127.0.0.1:9184"]
//! ```

use std::error::Error;
use std::net::SocketAddr;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use wal_manager::metrics::{APPENDS, BUCKETS, DISK_FULL, DURABLE_INDEX, LAST_SEQ, POISONED, SYNC_SECONDS};
use wal_manager::{FamilyId, Wal, WriteBatch};

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    match std::env::args().nth(1) {
        Some(address) => {
            // A thread of the exporter's own answers the scrapes.
            exporter()?.with_http_listener(address.parse::<SocketAddr>()?).install()?;
            let wal = open(home.path())?;
            println!("http://{address}/metrics, until you stop it");
            loop {
                append(&wal)?;
            }
        }
        None => {
            let handle = exporter()?.install_recorder()?;
            let wal = open(home.path())?;
            for _ in 0..100 {
                append(&wal)?;
            }
            // Names are constants, so that a dashboard made by code cannot misspell them. docs/metrics.md says what to watch for.
            let sync_count = format!("{SYNC_SECONDS}_count");
            let shown = [APPENDS, DISK_FULL, DURABLE_INDEX, LAST_SEQ, POISONED, &sync_count];
            let rendered = handle.render();
            let mut lines: Vec<&str> = rendered
                .lines()
                .filter(|line| line.split('{').next().is_some_and(|name| shown.contains(&name)))
                .collect();
            lines.sort_unstable();
            lines.iter().for_each(|line| println!("{line}"));
            wal.close()?;
            Ok(())
        }
    }
}

/// Without buckets the exporter makes summaries, which cannot be added up over processes.
fn exporter() -> Result<PrometheusBuilder, BuildError> {
    BUCKETS.iter().try_fold(PrometheusBuilder::new(), |exporter, (name, buckets)| {
        exporter.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
    })
}

/// After the recorder is installed: the log takes its handles when it is opened, and never looks again.
fn open(dir: &std::path::Path) -> Result<Wal, wal_manager::Error> {
    // The name is the label `wal`: two logs of a process differ by it.
    let recovery = Wal::options(dir.join("wal")).name("orders").recover()?;
    recovery.records().try_for_each(|record| record.map(drop))?;
    Ok(recovery.finish()?.0)
}

/// An engine that has flushed everything at the end of each log, so that the example does not fill the disk.
fn append(wal: &Wal) -> Result<(), Box<dyn Error>> {
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"key", &[b'v'; 100])?;
    let appended = wal.append(&batch)?;
    if appended.index.get().is_multiple_of(10_000) {
        wal.rotate()?;
        wal.mark_flushed(FamilyId::DEFAULT, appended.seqs.last())?;
    }
    Ok(())
}
