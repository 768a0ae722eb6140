//! Which metric is drawn in which panel. A new metric is put here, or the test of the dashboard says that it is nowhere.

use wal_manager::metrics as m;

/// A row of the dashboard: the question that its panels answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// The question.
    pub(crate) title: &'static str,
    /// What answers it.
    pub(crate) panels: &'static [Panel],
}

/// A panel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panel {
    /// What it shows.
    pub(crate) title: &'static str,
    /// How.
    pub(crate) view: View,
    /// Names of metrics of one unit, or of recorded series with a unit of Grafana's.
    pub(crate) shows: Shows,
}

/// What a panel shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shows {
    /// Metrics: kind and unit say how.
    Metrics(&'static [&'static str]),
    /// A query of its own: its unit in Grafana, its legend, its explanation, and PromQL.
    Query(&'static str, &'static str, &'static str, &'static str),
}

/// How a panel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Lines over time: counters as rates, gauges as they are, histograms as quantiles.
    Lines,
    /// Bars over time: how often something has happened since the last point. For what is rare.
    Events,
    /// One number, red from 1 on. A counter is what the process has counted in all.
    Alarm,
    /// One number for each series.
    Number,
    /// The series' names, whatever their numbers.
    Name,
    /// How a histogram's samples are spread, over time.
    Heat,
}

use Shows::{Metrics, Query};
use View::{Alarm, Events, Heat, Lines, Name, Number};

const fn panel(title: &'static str, view: View, shows: Shows) -> Panel {
    Panel { title, view, shows }
}

/// The dashboard, from top to bottom.
pub(crate) const ROWS: &[Row] = &[
    Row {
        title: "Is it safe?",
        panels: &[
            panel(
                "Alerts that fire",
                Alarm,
                Query(
                    "short",
                    "alerts",
                    "Alerts of docs/monitoring/alerts.yml that fire now.",
                    r#"count(ALERTS{alertname=~"Wal.+", alertstate="firing"}) or vector(0)"#,
                ),
            ),
            panel("Stopped", Alarm, Metrics(&[m::POISONED])),
            panel("Disk full", Alarm, Metrics(&[m::DISK_FULL])),
            panel("Damage", Alarm, Metrics(&[m::DAMAGE])),
            panel("Opens refused", Alarm, Metrics(&[m::REFUSED_RECOVERIES])),
            panel("Version", Name, Metrics(&[m::BUILD_INFO])),
            panel("Records not durable yet", Lines, Metrics(&[m::UNDURABLE_RECORDS])),
            panel("Bytes not durable yet", Lines, Metrics(&[m::UNDURABLE_BYTES])),
            panel("Sequence numbers appended", Lines, Metrics(&[m::LAST_SEQ])),
            panel("Index of the last durable record", Lines, Metrics(&[m::DURABLE_INDEX])),
            panel(
                "The disk failed",
                Events,
                Metrics(&[m::WRITE_FAILURES, m::SYNC_FAILURES, m::SEAL_FAILURES, m::CHECKPOINT_FAILURES]),
            ),
            panel("It went on, or could not", Events, Metrics(&[m::RESUMES, m::RESUME_FAILURES])),
            panel("Time to go on", Lines, Metrics(&[m::RESUME_SECONDS])),
        ],
    },
    Row {
        title: "Is it fast?",
        panels: &[
            panel("Records", Lines, Metrics(&[m::APPENDS, m::DUPLICATES])),
            panel("Bytes", Lines, Metrics(&[m::APPEND_BYTES, m::WRITTEN_BYTES])),
            panel(
                "Write amplification",
                Lines,
                Query(
                    "short",
                    "{{wal}} {{instance}}",
                    "Bytes written to logs for each byte of payload.",
                    r#"wal:write_amplification:ratio_5m{instance=~"$instance", wal=~"$wal"}"#,
                ),
            ),
            panel("Waiting until durable", Lines, Metrics(&[m::COMMIT_WAIT_SECONDS])),
            panel("Waiting before an append is taken", Lines, Metrics(&[m::APPEND_STALL_SECONDS])),
            panel("Sync", Lines, Metrics(&[m::SYNC_SECONDS])),
            panel("Syncs, how they are spread", Heat, Metrics(&[m::SYNC_SECONDS])),
            panel("At the disk now, since", Lines, Metrics(&[m::IN_FLIGHT_SINCE_SECONDS])),
            panel("Stalls", Events, Metrics(&[m::STALLS])),
            panel("Groups, syncs and proofs", Lines, Metrics(&[m::GROUPS, m::SYNCS, m::IDLE_PROMISES])),
            panel("Records in a group", Lines, Metrics(&[m::GROUP_RECORDS])),
            panel("How files are written", Number, Metrics(&[m::FILE_WAY])),
        ],
    },
    Row {
        title: "Who keeps space?",
        panels: &[
            panel("Bytes in live logs, and their cap", Lines, Metrics(&[m::LIVE_BYTES, m::CAP_BYTES])),
            panel("Live logs, and their cap", Lines, Metrics(&[m::LOGS, m::CAP_LOGS])),
            panel(
                "Appends refused",
                Events,
                Metrics(&[m::REFUSED_BY_BYTES, m::REFUSED_BY_LOGS, m::REFUSED_BY_DISK]),
            ),
            panel("Kept, by kind of keeper", Lines, Metrics(&[m::KEPT_BYTES])),
            panel("Oldest keeper, by kind", Lines, Metrics(&[m::KEPT_SINCE_SECONDS])),
            panel("Pressure on the engine", Events, Metrics(&[m::PRESSURES])),
            panel("Keepers", Lines, Metrics(&[m::HOLDS, m::LOST_HOLDS, m::FOLLOWERS])),
            panel("Budget used", Lines, Metrics(&[m::BUDGET_USED_RATIO])),
            panel("Keepers dropped, and gaps", Events, Metrics(&[m::DROPPED_KEEPERS, m::FOLLOWER_GAPS])),
            panel("Slowest follower has read", Lines, Metrics(&[m::SLOWEST_FOLLOWER_INDEX])),
            panel(
                "Slowest follower is behind",
                Lines,
                Query(
                    "short",
                    "{{wal}} {{instance}}",
                    "Durable records that the slowest follower has still to read; nothing without followers.",
                    r#"wal:follower_lag_records{instance=~"$instance", wal=~"$wal"}"#,
                ),
            ),
        ],
    },
    Row {
        title: "Recovery",
        panels: &[
            panel("Time until records can be read", Lines, Metrics(&[m::RECOVERY_SECONDS])),
            panel("Records found", Events, Metrics(&[m::RECOVERED_RECORDS])),
            panel("Bytes cut off", Events, Metrics(&[m::RECOVERY_CUT_BYTES])),
            panel("What a crash leaves", Events, Metrics(&[m::TORN_TAILS, m::CHECKPOINT_FAULTS])),
        ],
    },
    Row {
        title: "The life of logs",
        panels: &[
            panel(
                "Logs",
                Events,
                Metrics(&[m::ROTATIONS, m::DELETED_LOGS, m::RECYCLED_LOGS, m::ARCHIVED_LOGS]),
            ),
            panel("Rotation", Lines, Metrics(&[m::ROTATION_SECONDS])),
            panel("Making the next log", Lines, Metrics(&[m::PREPARE_SECONDS])),
            panel("The next log, and spares", Lines, Metrics(&[m::NEXT_LOG_READY, m::SPARE_LOGS])),
            panel("Rotations that waited for their file", Events, Metrics(&[m::ROTATION_WAITS])),
            panel("Bytes deleted", Lines, Metrics(&[m::DELETED_BYTES])),
            panel(
                "What failed and is tried again",
                Events,
                Metrics(&[m::ROTATION_FAILURES, m::DELETE_FAILURES, m::ARCHIVE_FAILURES, m::COPY_FAILURES]),
            ),
            panel("Trimmed from the archive", Events, Metrics(&[m::ARCHIVE_TRIMMED_LOGS])),
            panel("Live copies", Lines, Metrics(&[m::COPY_SECONDS])),
        ],
    },
];
