//! Every metric of the log: names, units, help texts and buckets in [`ALL`] and [`BUCKETS`], and the handles made at open.
//!
//! Install your recorder before you open the log: a handle made before it counts nothing, for ever. Give it the buckets too; with
//! metrics-exporter-prometheus, for each `(name, buckets)` of [`BUCKETS`], `set_buckets_for_metric(Matcher::Full(name.to_string()), buckets)`.
//! `docs/metrics.md` says what each metric is for and what to watch for.

mod list;

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

pub use list::*;
pub use metrics::Unit;

use wal_io::Operation;

use crate::caps::{Cap, Limits};
use crate::error::{Error, ErrorKind};
use crate::keepers::KeeperKind;
use crate::report::Reason;
use crate::watchdog::DiskWork;

/// Label that tells two logs of one process apart; its value is [`Options::name`](crate::Options::name).
pub const LABEL: &str = "wal";

/// Second label of some metrics; [`Metric::labels`] has its values.
pub const KIND_LABEL: &str = "kind";

/// Buckets of what takes about as long as a sync: a fast NVMe device to a stalled disk.
pub const SECONDS_BUCKETS: [f64; 18] = [
    10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0,
    5.0, 10.0,
];
/// Buckets of what takes as long as there are bytes: recoveries, copies, the making of files.
pub const LONG_SECONDS_BUCKETS: [f64; 15] =
    [1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Buckets of [`GROUP_RECORDS`].
pub const RECORDS_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The kinds of keepers that have gauges.
const KEEPERS: [KeeperKind; 5] =
    [KeeperKind::Family, KeeperKind::Hold, KeeperKind::Follower, KeeperKind::Copy, KeeperKind::Archive];
const KINDS_OF_KEEPERS: &[&str] = &["family", "hold", "follower", "copy", "archive"];
const KINDS_OF_WORK: &[&str] =
    &["commit", "sync", "prepare", "checkpoint", "seal", "delete", "archive", "resume"];

/// What sort of damage a reason is: bytes that are not what was written, whole parts that contradict each other, parts or logs that are gone, what
/// belongs to another or an older log, and what the disk does not give.
const KINDS_OF_DAMAGE: &[&str] = &["bytes", "order", "missing", "foreign", "unreadable"];

/// The handles of one log.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// The value of [`LABEL`].
    pub(crate) name: Arc<str>,
    pub(crate) appends: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) append_bytes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) commit_wait_seconds: Histogram,
    pub(crate) append_stall_seconds: Histogram,
    pub(crate) undurable_records: Gauge,
    pub(crate) undurable_bytes: Gauge,
    pub(crate) groups: Counter,
    pub(crate) group_records: Histogram,
    syncs: Counter,
    sync_seconds: Histogram,
    write_failures: Counter,
    sync_failures: Counter,
    /// For each kind of work, in order.
    pub(crate) in_flight: [(Gauge, Counter); DiskWork::ALL.len()],
    pub(crate) last_seq: Gauge,
    pub(crate) durable_index: Gauge,
    pub(crate) idle_promises: Counter,
    pub(crate) rotations: Counter,
    pub(crate) rotation_seconds: Histogram,
    pub(crate) rotation_failures: Counter,
    pub(crate) rotation_waits: Counter,
    pub(crate) prepare_seconds: Histogram,
    pub(crate) next_log_ready: Gauge,
    pub(crate) spare_logs: Gauge,
    pub(crate) recycled_logs: Counter,
    pub(crate) file_way: Gauge,
    pub(crate) seal_failures: Counter,
    pub(crate) logs: Gauge,
    pub(crate) live_bytes: Gauge,
    cap_bytes: Gauge,
    cap_logs: Gauge,
    refused_by_bytes: Counter,
    refused_by_logs: Counter,
    refused_by_disk: Counter,
    pub(crate) disk_full: Gauge,
    pub(crate) pressures: Counter,
    pub(crate) deleted_logs: Counter,
    pub(crate) deleted_bytes: Counter,
    pub(crate) delete_failures: Counter,
    pub(crate) checkpoint_failures: Counter,
    /// For each kind, the bytes and the time.
    pub(crate) kept: [(KeeperKind, Gauge, Gauge); KEEPERS.len()],
    pub(crate) holds: Gauge,
    pub(crate) lost_holds: Gauge,
    pub(crate) budget_used_ratio: Gauge,
    pub(crate) dropped_keepers: Counter,
    pub(crate) followers: Gauge,
    pub(crate) slowest_follower_index: Gauge,
    pub(crate) follower_gaps: Counter,
    pub(crate) copy_seconds: Histogram,
    pub(crate) copy_failures: Counter,
    pub(crate) archived_logs: Counter,
    pub(crate) archive_failures: Counter,
    pub(crate) archive_trimmed_logs: Counter,
    pub(crate) poisoned: Gauge,
    pub(crate) resumes: Counter,
    pub(crate) resume_failures: Counter,
    pub(crate) resume_seconds: Histogram,
    pub(crate) recovery_seconds: Histogram,
    pub(crate) recovered_records: Counter,
    pub(crate) recovery_cut_bytes: Counter,
    pub(crate) torn_tails: Counter,
    /// For each kind of damage, in order.
    damage: [Counter; KINDS_OF_DAMAGE.len()],
    pub(crate) checkpoint_faults: Counter,
    refused_recoveries: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers everything under the label `name`, so that rates start from 0.
    pub(crate) fn new(name: &str) -> Self {
        describe();
        let made = Maker { name };
        let counter = |metric| made.counter(metric, &[]);
        let gauge = |metric| made.gauge(metric, &[]);
        let histogram = |metric| metrics::histogram!(metric, LABEL => name.to_owned());
        made.gauge(BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION")), ("format", FORMAT)]).set(1.0);
        Self {
            name: name.into(),
            appends: counter(APPENDS),
            duplicates: counter(DUPLICATES),
            append_bytes: counter(APPEND_BYTES),
            written_bytes: counter(WRITTEN_BYTES),
            commit_wait_seconds: histogram(COMMIT_WAIT_SECONDS),
            append_stall_seconds: histogram(APPEND_STALL_SECONDS),
            undurable_records: gauge(UNDURABLE_RECORDS),
            undurable_bytes: gauge(UNDURABLE_BYTES),
            groups: counter(GROUPS),
            group_records: histogram(GROUP_RECORDS),
            syncs: counter(SYNCS),
            sync_seconds: histogram(SYNC_SECONDS),
            write_failures: counter(WRITE_FAILURES),
            sync_failures: counter(SYNC_FAILURES),
            in_flight: DiskWork::ALL.map(|work| {
                let kind = [(KIND_LABEL, work.as_str())];
                (made.gauge(IN_FLIGHT_SINCE_SECONDS, &kind), made.counter(STALLS, &kind))
            }),
            last_seq: gauge(LAST_SEQ),
            durable_index: gauge(DURABLE_INDEX),
            idle_promises: counter(IDLE_PROMISES),
            rotations: counter(ROTATIONS),
            rotation_seconds: histogram(ROTATION_SECONDS),
            rotation_failures: counter(ROTATION_FAILURES),
            rotation_waits: counter(ROTATION_WAITS),
            prepare_seconds: histogram(PREPARE_SECONDS),
            next_log_ready: gauge(NEXT_LOG_READY),
            spare_logs: gauge(SPARE_LOGS),
            recycled_logs: counter(RECYCLED_LOGS),
            file_way: gauge(FILE_WAY),
            seal_failures: counter(SEAL_FAILURES),
            logs: gauge(LOGS),
            live_bytes: gauge(LIVE_BYTES),
            cap_bytes: gauge(CAP_BYTES),
            cap_logs: gauge(CAP_LOGS),
            refused_by_bytes: counter(REFUSED_BY_BYTES),
            refused_by_logs: counter(REFUSED_BY_LOGS),
            refused_by_disk: counter(REFUSED_BY_DISK),
            disk_full: gauge(DISK_FULL),
            pressures: counter(PRESSURES),
            deleted_logs: counter(DELETED_LOGS),
            deleted_bytes: counter(DELETED_BYTES),
            delete_failures: counter(DELETE_FAILURES),
            checkpoint_failures: counter(CHECKPOINT_FAILURES),
            kept: KEEPERS.map(|keeper| {
                let kind = [(KIND_LABEL, keeper.as_str())];
                (keeper, made.gauge(KEPT_BYTES, &kind), made.gauge(KEPT_SINCE_SECONDS, &kind))
            }),
            holds: gauge(HOLDS),
            lost_holds: gauge(LOST_HOLDS),
            budget_used_ratio: gauge(BUDGET_USED_RATIO),
            dropped_keepers: counter(DROPPED_KEEPERS),
            followers: gauge(FOLLOWERS),
            slowest_follower_index: gauge(SLOWEST_FOLLOWER_INDEX),
            follower_gaps: counter(FOLLOWER_GAPS),
            copy_seconds: histogram(COPY_SECONDS),
            copy_failures: counter(COPY_FAILURES),
            archived_logs: counter(ARCHIVED_LOGS),
            archive_failures: counter(ARCHIVE_FAILURES),
            archive_trimmed_logs: counter(ARCHIVE_TRIMMED_LOGS),
            poisoned: gauge(POISONED),
            resumes: counter(RESUMES),
            resume_failures: counter(RESUME_FAILURES),
            resume_seconds: histogram(RESUME_SECONDS),
            recovery_seconds: histogram(RECOVERY_SECONDS),
            recovered_records: counter(RECOVERED_RECORDS),
            recovery_cut_bytes: counter(RECOVERY_CUT_BYTES),
            torn_tails: counter(TORN_TAILS),
            damage: std::array::from_fn(|at| {
                made.counter(DAMAGE, &[(KIND_LABEL, KINDS_OF_DAMAGE.get(at).copied().unwrap_or_default())])
            }),
            checkpoint_faults: counter(CHECKPOINT_FAULTS),
            refused_recoveries: counter(REFUSED_RECOVERIES),
        }
    }

    /// What the caps are.
    pub(crate) fn caps(&self, limits: &Limits) {
        let gauge = |cap: u64| if cap == u64::MAX { 0.0 } else { cap as f64 };
        self.cap_bytes.set(gauge(limits.bytes));
        self.cap_logs.set(gauge(limits.logs));
    }

    /// A cap has refused something.
    pub(crate) fn refused(&self, cap: Cap) {
        match cap {
            Cap::Bytes => self.refused_by_bytes.increment(1),
            Cap::Logs => self.refused_by_logs.increment(1),
            Cap::Disk => self.refused_by_disk.increment(1),
        }
    }

    pub(crate) fn synced(&self, took: Duration) {
        self.syncs.increment(1);
        self.sync_seconds.record(took.as_secs_f64());
    }

    /// The log has stopped because of this.
    pub(crate) fn failed(&self, cause: &Error) {
        // Of a panic somewhere in between, the gauge of poisoned logs and the event tell.
        if let Error::Io(error) = cause {
            match error.operation() {
                Operation::SyncData | Operation::SyncAll => self.sync_failures.increment(1),
                _ => self.write_failures.increment(1),
            }
        }
    }

    /// An open has ended in this.
    pub(crate) fn refused_recovery(&self, error: &Error) {
        let refused = matches!(error.kind(), ErrorKind::Damage | ErrorKind::NewerFormat)
            || matches!(error, Error::ConfigMismatch { .. });
        self.refused_recoveries.increment(u64::from(refused));
    }

    /// A recovery has found this.
    pub(crate) fn damaged(&self, reason: &Reason) {
        let [bytes, order, missing, foreign, unreadable] = &self.damage;
        let counter = match reason {
            Reason::Chunk(_) | Reason::Record(_) | Reason::Header(_) => bytes,
            Reason::FragmentOrder
            | Reason::RecordTooLong
            | Reason::IndexGap { .. }
            | Reason::SequenceRegression { .. }
            | Reason::PromiseContradiction
            | Reason::SealContradiction => order,
            Reason::SealMissing
            | Reason::Short { .. }
            | Reason::BehindCheckpoint { .. }
            | Reason::Missing
            | Reason::BehindTorn(_) => missing,
            Reason::BehindSeal | Reason::OtherContent | Reason::StaleCheckpoint | Reason::Foreign { .. } => {
                foreign
            }
            Reason::Unreadable(_) => unreadable,
        };
        counter.increment(1);
    }
}

/// Tells the recorder what each metric means.
fn describe() {
    for &Metric { name, kind, unit, help, .. } in ALL {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(name, unit, help),
            MetricKind::Gauge => metrics::describe_gauge!(name, unit, help),
            MetricKind::Histogram => metrics::describe_histogram!(name, unit, help),
        }
    }
}

/// Makes handles whose series are there at once.
struct Maker<'a> {
    name: &'a str,
}

impl Maker<'_> {
    fn labels(&self, more: &[(&'static str, &'static str)]) -> Vec<metrics::Label> {
        let own = metrics::Label::new(LABEL, self.name.to_owned());
        let more = more.iter().map(|(name, value)| metrics::Label::from_static_parts(name, value));
        [own].into_iter().chain(more).collect()
    }

    fn counter(&self, metric: &'static str, more: &[(&'static str, &'static str)]) -> Counter {
        let handle = metrics::counter!(metric, self.labels(more));
        handle.increment(0);
        handle
    }

    fn gauge(&self, metric: &'static str, more: &[(&'static str, &'static str)]) -> Gauge {
        let handle = metrics::gauge!(metric, self.labels(more));
        handle.set(0.0);
        handle
    }
}
