//! Every metric of the log: names, units, help texts, buckets, and the handles made at open.
//!
//! Install your recorder before you open the log: a handle made before it counts nothing, for ever. `docs/metrics.md` lists what each
//! one is for.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::caps::{Cap, Limits};
use crate::keepers::KeeperKind;

/// Label that tells two logs of one process apart; its value is [`Options::name`](crate::Options::name).
pub const LABEL: &str = "wal";

/// Second label of the gauges of keepers: [`KeeperKind::as_str`], of family, hold, follower, copy and archive.
pub const KIND_LABEL: &str = "kind";

/// Records accepted.
pub const APPENDS: &str = "wal_appends_total";
/// Appends that were recognised as repeated, and not written.
pub const DUPLICATES: &str = "wal_duplicates_total";
/// Payload bytes accepted.
pub const APPEND_BYTES: &str = "wal_append_bytes_total";
/// Bytes written to logs: payload, envelopes, chunk headers, padding, promises, seals, headers.
pub const WRITTEN_BYTES: &str = "wal_written_bytes_total";
/// Successful syncs of logs.
pub const SYNCS: &str = "wal_syncs_total";
/// Time of one sync, with the write of its group.
pub const SYNC_SECONDS: &str = "wal_sync_duration_seconds";
/// Commit groups written.
pub const GROUPS: &str = "wal_commit_groups_total";
/// Records in a commit group.
pub const GROUP_RECORDS: &str = "wal_commit_group_records";
/// Logs begun after another one.
pub const ROTATIONS: &str = "wal_rotations_total";
/// Rotations that failed and left the old log writable.
pub const ROTATION_FAILURES: &str = "wal_rotation_failures_total";
/// How the files of new logs are written: 0 they grow, 1 they are filled first, 2 they are filled first and written past the cache.
pub const FILE_WAY: &str = "wal_file_way";
/// Rotations that had to make the next file themselves.
pub const ROTATION_WAITS: &str = "wal_rotation_waits_total";
/// Deleted logs whose file became another log.
pub const RECYCLED_LOGS: &str = "wal_recycled_logs_total";
/// Seals that could not be written or synced; the log goes on.
pub const SEAL_FAILURES: &str = "wal_seal_failures_total";
/// Live logs.
pub const LOGS: &str = "wal_logs";
/// Bytes in live logs.
pub const LIVE_BYTES: &str = "wal_live_bytes";
/// The cap on bytes; 0 for none.
pub const CAP_BYTES: &str = "wal_cap_bytes";
/// The cap on logs; 0 for none.
pub const CAP_LOGS: &str = "wal_cap_logs";
/// Appends and rotations refused by the cap on bytes.
pub const REFUSED_BY_BYTES: &str = "wal_refused_by_bytes_total";
/// Appends and rotations refused by the cap on logs.
pub const REFUSED_BY_LOGS: &str = "wal_refused_by_logs_total";
/// Appends refused because the disk is full.
pub const REFUSED_BY_DISK: &str = "wal_refused_by_disk_total";
/// 1 since the disk was found full, until there is space.
pub const DISK_FULL: &str = "wal_disk_full";
/// Logs deleted.
pub const DELETED_LOGS: &str = "wal_deleted_logs_total";
/// Unlinks that failed and will be tried again.
pub const DELETE_FAILURES: &str = "wal_delete_failures_total";
/// Holds, followers and other keepers of logs that went over their budget and were dropped.
pub const DROPPED_KEEPERS: &str = "wal_dropped_keepers_total";
/// Bytes in live logs from the oldest one on that a keeper of this kind keeps; label [`KIND_LABEL`].
pub const KEPT_BYTES: &str = "wal_kept_bytes";
/// Since when, in seconds since 1970, the oldest of those keepers is there; label [`KIND_LABEL`].
pub const KEPT_SINCE_SECONDS: &str = "wal_kept_since_seconds";
/// Times that the engine was told of pressure.
pub const PRESSURES: &str = "wal_pressures_total";
/// Logs archived.
pub const ARCHIVED_LOGS: &str = "wal_archived_logs_total";
/// Attempts to archive that failed and will be made again; the logs stay until then.
pub const ARCHIVE_FAILURES: &str = "wal_archive_failures_total";
/// Archived logs removed because the archive was over its limits.
pub const ARCHIVE_TRIMMED_LOGS: &str = "wal_archive_trimmed_logs_total";
/// Highest sequence number accepted.
pub const LAST_SEQ: &str = "wal_last_appended_seq";
/// Index of the last durable record.
pub const DURABLE_INDEX: &str = "wal_durable_index";
/// Updates of CHECKPOINT that failed and will be tried again.
pub const CHECKPOINT_FAILURES: &str = "wal_checkpoint_failures_total";
/// Promises written because the log was idle.
pub const IDLE_PROMISES: &str = "wal_idle_promises_total";
/// Times that the log went on after a failure.
pub const RESUMES: &str = "wal_resumes_total";
/// Times that it could not.
pub const RESUME_FAILURES: &str = "wal_resume_failures_total";
/// 1 after a failure that stopped the log.
pub const POISONED: &str = "wal_poisoned";
/// Time of one recovery, until its records can be read.
pub const RECOVERY_SECONDS: &str = "wal_recovery_duration_seconds";
/// Records found by recoveries.
pub const RECOVERED_RECORDS: &str = "wal_recovered_records_total";
/// Unacknowledged bytes cut off by recoveries.
pub const RECOVERY_CUT_BYTES: &str = "wal_recovery_cut_bytes_total";
/// Torn tails found by recoveries: normal after a crash.
pub const TORN_TAILS: &str = "wal_torn_tails_total";
/// Damage found by recoveries: never normal.
pub const DAMAGE: &str = "wal_damage_total";

/// Buckets of [`SYNC_SECONDS`] and [`RECOVERY_SECONDS`]: a fast NVMe sync to a stalled disk.
pub const SECONDS_BUCKETS: [f64; 16] =
    [50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];
/// Buckets of [`GROUP_RECORDS`].
pub const RECORDS_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The handles of one log.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) appends: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) append_bytes: Counter,
    pub(crate) written_bytes: Counter,
    pub(crate) syncs: Counter,
    pub(crate) sync_seconds: Histogram,
    pub(crate) groups: Counter,
    pub(crate) group_records: Histogram,
    pub(crate) rotations: Counter,
    pub(crate) rotation_failures: Counter,
    pub(crate) file_way: Gauge,
    pub(crate) rotation_waits: Counter,
    pub(crate) recycled_logs: Counter,
    pub(crate) seal_failures: Counter,
    pub(crate) logs: Gauge,
    pub(crate) live_bytes: Gauge,
    cap_bytes: Gauge,
    cap_logs: Gauge,
    refused_by_bytes: Counter,
    refused_by_logs: Counter,
    refused_by_disk: Counter,
    pub(crate) disk_full: Gauge,
    pub(crate) deleted_logs: Counter,
    pub(crate) delete_failures: Counter,
    pub(crate) dropped_keepers: Counter,
    /// For each kind, the bytes and the time.
    pub(crate) kept: [(KeeperKind, Gauge, Gauge); 5],
    pub(crate) pressures: Counter,
    pub(crate) archived_logs: Counter,
    pub(crate) archive_failures: Counter,
    pub(crate) archive_trimmed_logs: Counter,
    pub(crate) last_seq: Gauge,
    pub(crate) durable_index: Gauge,
    pub(crate) checkpoint_failures: Counter,
    pub(crate) idle_promises: Counter,
    pub(crate) resumes: Counter,
    pub(crate) resume_failures: Counter,
    pub(crate) poisoned: Gauge,
    pub(crate) recovery_seconds: Histogram,
    pub(crate) recovered_records: Counter,
    pub(crate) recovery_cut_bytes: Counter,
    pub(crate) torn_tails: Counter,
    pub(crate) damage: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Registers everything under the label `name`, so that rates start from 0.
    pub(crate) fn new(name: &str) -> Self {
        let counter = |metric: &'static str, unit: Unit, help: &'static str| {
            metrics::describe_counter!(metric, unit, help);
            let handle = metrics::counter!(metric, LABEL => name.to_owned());
            handle.increment(0);
            handle
        };
        let gauge = |metric: &'static str, unit: Unit, help: &'static str| {
            metrics::describe_gauge!(metric, unit, help);
            let handle = metrics::gauge!(metric, LABEL => name.to_owned());
            handle.set(0.0);
            handle
        };
        let histogram = |metric: &'static str, unit: Unit, help: &'static str| {
            metrics::describe_histogram!(metric, unit, help);
            metrics::histogram!(metric, LABEL => name.to_owned())
        };
        Self {
            appends: counter(APPENDS, Unit::Count, "Records accepted."),
            duplicates: counter(DUPLICATES, Unit::Count, "Repeated appends that were not written."),
            append_bytes: counter(APPEND_BYTES, Unit::Bytes, "Payload bytes accepted."),
            written_bytes: counter(WRITTEN_BYTES, Unit::Bytes, "Bytes written to logs, framing included."),
            syncs: counter(SYNCS, Unit::Count, "Successful syncs of logs."),
            sync_seconds: histogram(
                SYNC_SECONDS,
                Unit::Seconds,
                "Time of one sync, with the write of its group.",
            ),
            groups: counter(GROUPS, Unit::Count, "Commit groups written."),
            group_records: histogram(GROUP_RECORDS, Unit::Count, "Records in a commit group."),
            rotations: counter(ROTATIONS, Unit::Count, "Logs begun after another one."),
            rotation_failures: counter(
                ROTATION_FAILURES,
                Unit::Count,
                "Rotations that failed and left the old log writable.",
            ),
            file_way: gauge(
                FILE_WAY,
                Unit::Count,
                "How the files of new logs are written: 0 append, 1 filled, 2 direct.",
            ),
            rotation_waits: counter(
                ROTATION_WAITS,
                Unit::Count,
                "Rotations that had to make the next file themselves.",
            ),
            recycled_logs: counter(RECYCLED_LOGS, Unit::Count, "Deleted logs whose file became another log."),
            seal_failures: counter(SEAL_FAILURES, Unit::Count, "Seals that could not be made durable."),
            logs: gauge(LOGS, Unit::Count, "Live logs."),
            live_bytes: gauge(LIVE_BYTES, Unit::Bytes, "Bytes in live logs."),
            cap_bytes: gauge(CAP_BYTES, Unit::Bytes, "The cap on bytes in live logs; 0 for none."),
            cap_logs: gauge(CAP_LOGS, Unit::Count, "The cap on live logs; 0 for none."),
            refused_by_bytes: counter(
                REFUSED_BY_BYTES,
                Unit::Count,
                "Appends and rotations refused by the cap on bytes.",
            ),
            refused_by_logs: counter(
                REFUSED_BY_LOGS,
                Unit::Count,
                "Appends and rotations refused by the cap on logs.",
            ),
            refused_by_disk: counter(
                REFUSED_BY_DISK,
                Unit::Count,
                "Appends refused because the disk is full.",
            ),
            disk_full: gauge(
                DISK_FULL,
                Unit::Count,
                "1 since the disk was found full, until there is space.",
            ),
            deleted_logs: counter(DELETED_LOGS, Unit::Count, "Logs deleted."),
            delete_failures: counter(
                DELETE_FAILURES,
                Unit::Count,
                "Unlinks that failed and are tried again.",
            ),
            dropped_keepers: counter(
                DROPPED_KEEPERS,
                Unit::Count,
                "Keepers of logs that went over their budget and were dropped.",
            ),
            kept: [
                KeeperKind::Family,
                KeeperKind::Hold,
                KeeperKind::Follower,
                KeeperKind::Copy,
                KeeperKind::Archive,
            ]
            .map(|kind| {
                let gauge = |metric: &'static str, unit: Unit, help: &'static str| {
                    metrics::describe_gauge!(metric, unit, help);
                    let handle =
                        metrics::gauge!(metric, LABEL => name.to_owned(), KIND_LABEL => kind.as_str());
                    handle.set(0.0);
                    handle
                };
                let bytes = gauge(
                    KEPT_BYTES,
                    Unit::Bytes,
                    "Bytes in live logs from the oldest that this kind of keeper keeps.",
                );
                let since = gauge(
                    KEPT_SINCE_SECONDS,
                    Unit::Seconds,
                    "Since when the oldest keeper of this kind is there, in seconds since 1970; 0: none.",
                );
                (kind, bytes, since)
            }),
            pressures: counter(PRESSURES, Unit::Count, "Times that the engine was told of pressure."),
            archived_logs: counter(ARCHIVED_LOGS, Unit::Count, "Logs archived."),
            archive_failures: counter(
                ARCHIVE_FAILURES,
                Unit::Count,
                "Attempts to archive that failed and will be made again; the logs stay until then.",
            ),
            archive_trimmed_logs: counter(
                ARCHIVE_TRIMMED_LOGS,
                Unit::Count,
                "Archived logs removed because the archive was over its limits.",
            ),
            last_seq: gauge(LAST_SEQ, Unit::Count, "Highest sequence number accepted (exact below 2^53)."),
            durable_index: gauge(
                DURABLE_INDEX,
                Unit::Count,
                "Index of the last durable record (exact below 2^53).",
            ),
            checkpoint_failures: counter(CHECKPOINT_FAILURES, Unit::Count, "Failed updates of CHECKPOINT."),
            idle_promises: counter(IDLE_PROMISES, Unit::Count, "Promises written because the log was idle."),
            resumes: counter(RESUMES, Unit::Count, "Times that the log went on after a failure."),
            resume_failures: counter(RESUME_FAILURES, Unit::Count, "Resumes that failed."),
            poisoned: gauge(POISONED, Unit::Count, "1 after a failure that stopped the log."),
            recovery_seconds: histogram(RECOVERY_SECONDS, Unit::Seconds, "Time of one recovery."),
            recovered_records: counter(RECOVERED_RECORDS, Unit::Count, "Records found by recoveries."),
            recovery_cut_bytes: counter(
                RECOVERY_CUT_BYTES,
                Unit::Bytes,
                "Unacknowledged bytes cut off by recoveries.",
            ),
            torn_tails: counter(TORN_TAILS, Unit::Count, "Torn tails found by recoveries."),
            damage: counter(DAMAGE, Unit::Count, "Damage found by recoveries."),
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
}
