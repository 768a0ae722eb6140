//! The list of metrics: one entry each, from which the constants, the descriptions, the documentation's check and any dashboard are made.

use metrics::Unit;
use wal_format::FORMAT_VERSION;

use crate::metrics::{
    KIND_LABEL, KINDS_OF_DAMAGE, KINDS_OF_KEEPERS, KINDS_OF_WORK, LONG_SECONDS_BUCKETS, RECORDS_BUCKETS,
    SECONDS_BUCKETS,
};

/// What sort of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only grows, from 0 at each start of the process.
    Counter,
    /// Shows how it is.
    Gauge,
    /// Samples, in the buckets of [`BUCKETS`].
    Histogram,
}

impl MetricKind {
    /// In one word, as Prometheus says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its full name, unit and `_total` included.
    pub name: &'static str,
    /// What sort of metric it is.
    pub kind: MetricKind,
    /// The unit of its value.
    pub unit: Unit,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// Its labels beside [`LABEL`](super::LABEL), each with every value that it can have. A series for each is there from the open on.
    pub labels: &'static [(&'static str, &'static [&'static str])],
}

macro_rules! metrics {
    (@labels) => { &[] };
    (@labels $labels:expr) => { $labels };
    ($($kind:ident $id:ident $([$labels:expr])? = $name:literal, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $id: &str = $name;)*

        /// Every metric of an open log.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: Unit::$unit,
            help: $help,
            labels: metrics!(@labels $($labels)?),
        }),*];
    };
}

metrics! {
    Gauge BUILD_INFO [&[("version", &[env!("CARGO_PKG_VERSION")]), ("format", &[FORMAT])]] = "wal_build_info", Count,
        "Always 1; the version of this library, and the newest format that it writes.";

    Counter APPENDS = "wal_appends_total", Count, "Records accepted.";
    Counter DUPLICATES = "wal_duplicates_total", Count, "Repeated appends that were not written.";
    Counter APPEND_BYTES = "wal_append_bytes_total", Bytes, "Payload bytes accepted.";
    Counter WRITTEN_BYTES = "wal_written_bytes_total", Bytes,
        "Bytes written to logs: payload, envelopes, framing, promises, headers.";
    Histogram COMMIT_WAIT_SECONDS = "wal_commit_wait_seconds", Seconds,
        "Time that a caller waited until its record was durable, in append, sync or a ticket's wait.";
    Histogram APPEND_STALL_SECONDS = "wal_append_stall_seconds", Seconds,
        "Time that an append waited before its record was taken, where it had to: for a full group, a sync, a rotation or a cap.";
    Gauge UNDURABLE_RECORDS = "wal_undurable_records", Count,
        "Records accepted and not durable yet, as of the last group.";
    Gauge UNDURABLE_BYTES = "wal_undurable_bytes", Bytes,
        "Bytes in memory that are not durable yet, as of the last group.";
    Counter GROUPS = "wal_commit_groups_total", Count, "Commit groups written.";
    Histogram GROUP_RECORDS = "wal_commit_group_records", Count, "Records in a commit group.";
    Counter SYNCS = "wal_syncs_total", Count, "Successful syncs of logs.";
    Histogram SYNC_SECONDS = "wal_sync_duration_seconds", Seconds,
        "Time of one successful sync, with the write of its group.";
    Counter WRITE_FAILURES = "wal_write_failures_total", Count, "Writes of groups that failed; each stops the log.";
    Counter SYNC_FAILURES = "wal_sync_failures_total", Count, "Syncs of logs that failed; each stops the log.";
    Gauge IN_FLIGHT_SINCE_SECONDS [&[(KIND_LABEL, KINDS_OF_WORK)]] = "wal_in_flight_since_seconds", Seconds,
        "When the work of this kind that is at the disk now was begun, in seconds since 1970; 0: none is.";
    Counter STALLS [&[(KIND_LABEL, KINDS_OF_WORK)]] = "wal_stalls_total", Count,
        "Times that work at the disk took longer than Options::on_stall allows; 0 without that option.";
    Gauge LAST_SEQ = "wal_last_appended_seq", Count, "Highest sequence number accepted (exact below 2^53).";
    Gauge DURABLE_INDEX = "wal_durable_index", Count, "Index of the last durable record (exact below 2^53).";
    Counter IDLE_PROMISES = "wal_idle_promises_total", Count, "Promises written because the log was idle.";

    Counter ROTATIONS = "wal_rotations_total", Count, "Logs begun after another one.";
    Histogram ROTATION_SECONDS = "wal_rotation_duration_seconds", Seconds,
        "Time of one successful rotation, as who asked for it waited.";
    Counter ROTATION_FAILURES = "wal_rotation_failures_total", Count,
        "Rotations, and next logs made ahead, that failed and left the old log writable.";
    Counter ROTATION_WAITS = "wal_rotation_waits_total", Count, "Rotations that had to make the next file themselves.";
    Histogram PREPARE_SECONDS = "wal_prepare_duration_seconds", Seconds,
        "Time of making the file of one next log, recording it included.";
    Gauge NEXT_LOG_READY = "wal_next_log_ready", Count, "1 while the next log is made and waits for the rotation.";
    Gauge SPARE_LOGS = "wal_spare_logs", Count, "Deleted logs whose files wait to be used again.";
    Counter RECYCLED_LOGS = "wal_recycled_logs_total", Count, "Deleted logs whose file became another log.";
    Gauge FILE_WAY = "wal_file_way", Count, "How the files of new logs are written: 0 append, 1 filled, 2 direct, 3 ring.";
    Counter SEAL_FAILURES = "wal_seal_failures_total", Count, "Seals that could not be made durable.";

    Gauge LOGS = "wal_logs", Count, "Live logs, as of the last rotation or deletion.";
    Gauge LIVE_BYTES = "wal_live_bytes", Bytes, "Bytes in live logs, as of the last rotation or deletion.";
    Gauge CAP_BYTES = "wal_cap_bytes", Bytes, "The cap on bytes in live logs; 0 for none.";
    Gauge CAP_LOGS = "wal_cap_logs", Count, "The cap on live logs; 0 for none.";
    Counter REFUSED_BY_BYTES = "wal_refused_by_bytes_total", Count, "Appends and rotations refused by the cap on bytes.";
    Counter REFUSED_BY_LOGS = "wal_refused_by_logs_total", Count, "Appends and rotations refused by the cap on logs.";
    Counter REFUSED_BY_DISK = "wal_refused_by_disk_total", Count, "Appends refused because the disk is full.";
    Gauge DISK_FULL = "wal_disk_full", Count, "1 since the disk was found full, until there is space.";
    Counter PRESSURES = "wal_pressures_total", Count, "Times that the engine was told of pressure.";
    Counter DELETED_LOGS = "wal_deleted_logs_total", Count, "Logs deleted.";
    Counter DELETED_BYTES = "wal_deleted_bytes_total", Bytes, "Bytes in them.";
    Counter DELETE_FAILURES = "wal_delete_failures_total", Count, "Unlinks that failed and are tried again.";
    Counter CHECKPOINT_FAILURES = "wal_checkpoint_failures_total", Count,
        "Updates of CHECKPOINT that failed and are tried again.";

    Gauge KEPT_BYTES [&[(KIND_LABEL, KINDS_OF_KEEPERS)]] = "wal_kept_bytes", Bytes,
        "Bytes in live logs from the oldest that this kind of keeper keeps.";
    Gauge KEPT_SINCE_SECONDS [&[(KIND_LABEL, KINDS_OF_KEEPERS)]] = "wal_kept_since_seconds", Seconds,
        "Since when the oldest keeper of this kind is there, in seconds since 1970; 0: none.";
    Gauge HOLDS = "wal_holds", Count, "Holds that keep logs, or would.";
    Gauge LOST_HOLDS = "wal_lost_holds", Count, "Holds that were dropped and whose owner was not told yet.";
    Gauge BUDGET_USED_RATIO = "wal_budget_used_ratio", Count,
        "The largest part of its budget that any hold or follower uses, 0 to 1, as of the last rotation or deletion.";
    Counter DROPPED_KEEPERS = "wal_dropped_keepers_total", Count,
        "Keepers of logs that went over their budget and were dropped.";
    Gauge FOLLOWERS = "wal_followers", Count, "Followers of the open log in this process.";
    Gauge SLOWEST_FOLLOWER_INDEX = "wal_slowest_follower_index", Count,
        "Index of the last record that the slowest of them has read (exact below 2^53); 0 without followers.";
    Counter FOLLOWER_GAPS = "wal_follower_gaps_total", Count,
        "Times that a follower was told that what it wanted next was deleted.";
    Histogram COPY_SECONDS = "wal_copy_duration_seconds", Seconds, "Time of one live copy that succeeded.";
    Counter COPY_FAILURES = "wal_copy_failures_total", Count, "Live copies that failed.";
    Counter ARCHIVED_LOGS = "wal_archived_logs_total", Count, "Logs archived.";
    Counter ARCHIVE_FAILURES = "wal_archive_failures_total", Count,
        "Attempts to archive that failed and will be made again; the logs stay until then.";
    Counter ARCHIVE_TRIMMED_LOGS = "wal_archive_trimmed_logs_total", Count,
        "Archived logs removed because the archive was over its limits.";

    Gauge POISONED = "wal_poisoned", Count, "1 after a failure that stopped the log.";
    Counter RESUMES = "wal_resumes_total", Count, "Times that the log went on after a failure.";
    Counter RESUME_FAILURES = "wal_resume_failures_total", Count, "Resumes that failed.";
    Histogram RESUME_SECONDS = "wal_resume_duration_seconds", Seconds, "Time of one resume that succeeded.";
    Histogram RECOVERY_SECONDS = "wal_recovery_duration_seconds", Seconds,
        "Time of one recovery, until its records can be read.";
    Counter RECOVERED_RECORDS = "wal_recovered_records_total", Count, "Records found by recoveries.";
    Counter RECOVERY_CUT_BYTES = "wal_recovery_cut_bytes_total", Bytes,
        "Unacknowledged bytes cut off by recoveries.";
    Counter TORN_TAILS = "wal_torn_tails_total", Count, "Torn tails found by recoveries: normal after a crash.";
    Counter DAMAGE [&[(KIND_LABEL, KINDS_OF_DAMAGE)]] = "wal_damage_total", Count,
        "Damage found by recoveries: never normal.";
    Counter CHECKPOINT_FAULTS = "wal_checkpoint_faults_total", Count,
        "Opens that found one slot of CHECKPOINT bad and believed the other: normal after a crash.";
    Counter REFUSED_RECOVERIES = "wal_refused_recoveries_total", Count,
        "Opens that were refused because of what is in the directory.";
}

/// The buckets of every histogram: give them to your exporter, whose default summaries cannot be added up.
pub const BUCKETS: &[(&str, &[f64])] = &[
    (COMMIT_WAIT_SECONDS, &SECONDS_BUCKETS),
    (APPEND_STALL_SECONDS, &SECONDS_BUCKETS),
    (GROUP_RECORDS, &RECORDS_BUCKETS),
    (SYNC_SECONDS, &SECONDS_BUCKETS),
    (ROTATION_SECONDS, &SECONDS_BUCKETS),
    (PREPARE_SECONDS, &LONG_SECONDS_BUCKETS),
    (COPY_SECONDS, &LONG_SECONDS_BUCKETS),
    (RESUME_SECONDS, &LONG_SECONDS_BUCKETS),
    (RECOVERY_SECONDS, &LONG_SECONDS_BUCKETS),
];

/// [`FORMAT_VERSION`] as a label's value.
pub(super) const FORMAT: &str = "1";

const _: () = assert!(FORMAT_VERSION == 1, "FORMAT follows");
