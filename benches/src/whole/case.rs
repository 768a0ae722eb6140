//! What is measured.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// A workload of `docs/benchmarks.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// One thread; each append durable before the next.
    Lone,
    /// As many threads at once; each append durable before the thread's next.
    Group(usize),
    /// One thread with [`IN_FLIGHT`] appends on their way; each becomes durable.
    Tickets,
    /// One thread, nothing synced, into new files.
    Nosync,
    /// One thread, nothing synced, into files that were written before and are in the page cache.
    Recycled,
    /// Opening a log and reading every record, in the page cache.
    Replay,
    /// Threads whose appends are durable, while a log is closed every MiB and deleted behind them.
    Rotate(usize),
    /// As `Lone` and `Group`, while a thread of the same process follows the log.
    Follow(usize),
    /// The same, where files are written through the page cache, which a follower then reads from.
    FollowCached(usize),
    /// As `Rotate`, with holds that move on with every log.
    Held(usize),
    /// Deleting 50 logs of 1 MiB.
    Delete,
    /// Opening a log whose records are all flushed; the size is how many logs there are, which a hold keeps, the newest of 64 MiB.
    Open,
}

/// Appends on their way at once in [`Workload::Tickets`].
pub const IN_FLIGHT: usize = 1024;

/// Holds of [`Workload::Held`].
pub const HOLDS: usize = 4;

/// Logs that [`Workload::Delete`] deletes.
pub const DELETED_LOGS: usize = 50;

/// Length of a log in [`Workload::Rotate`] and [`Workload::Delete`], in bytes.
pub const SMALL_LOG_BYTES: u64 = 1 << 20;

impl Workload {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 16] = [
        Self::Lone,
        Self::Group(8),
        Self::Group(64),
        Self::Tickets,
        Self::Nosync,
        Self::Recycled,
        Self::Replay,
        Self::Rotate(1),
        Self::Rotate(8),
        Self::Follow(1),
        Self::Follow(8),
        Self::FollowCached(1),
        Self::FollowCached(8),
        Self::Held(8),
        Self::Delete,
        Self::Open,
    ];

    /// Lengths of the payloads in bytes; for [`Workload::Open`], numbers of logs.
    pub fn sizes(self) -> &'static [usize] {
        match self {
            Self::Lone => &[128, 1024, 16 * 1024],
            Self::Rotate(_) | Self::Follow(_) | Self::FollowCached(_) | Self::Held(_) | Self::Delete => {
                &[1024]
            }
            Self::Open => &[1, 1000],
            _ => &[128, 1024],
        }
    }

    /// What issue and documents demand of the log's rate beside the best raw one.
    pub fn reach(self) -> &'static str {
        match self {
            Self::Lone => ">= 0.95, p50 and p99 within 10 %",
            Self::Group(_) => ">= 0.95",
            Self::Tickets => ">= 0.80",
            Self::Nosync => ">= 0.85",
            Self::Recycled => ">= 0.80",
            Self::Replay => ">= 0.70, peak below 64 MiB",
            Self::Rotate(_) => ">= 0.97, p99.9 at most 1.5 times",
            Self::Follow(_) | Self::FollowCached(_) | Self::Held(_) => ">= 0.97",
            Self::Delete => ">= 10",
            Self::Open => "constant reads a log, no data",
        }
    }

    /// What it demands beside other crates.
    pub fn reach_of_peers(self) -> &'static str {
        match self {
            Self::Lone => "rocksdb >= 1.5 to 2.4",
            Self::Group(8) => "best >= 1.4, rocksdb >= 3",
            Self::Group(_) => "best >= 1.3, rocksdb >= 4.5",
            Self::Nosync => "best >= 2, rocksdb >= 15",
            Self::Replay => "best > 1, rocksdb >= 5",
            _ => "",
        }
    }

    /// The fewest syncs that can have made `appends` appends durable.
    pub fn syncs_least(self, appends: u64) -> u64 {
        match self {
            Self::Lone => appends,
            Self::Group(threads)
            | Self::Rotate(threads)
            | Self::Follow(threads)
            | Self::FollowCached(threads)
            | Self::Held(threads) => appends / threads as u64,
            Self::Tickets => appends / IN_FLIGHT as u64,
            Self::Nosync | Self::Recycled | Self::Replay | Self::Delete | Self::Open => 0,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lone => f.pad("lone"),
            Self::Group(threads) => f.pad(&format!("group-{threads}")),
            Self::Tickets => f.pad("tickets"),
            Self::Nosync => f.pad("nosync"),
            Self::Recycled => f.pad("recycled"),
            Self::Replay => f.pad("replay"),
            Self::Rotate(1) => f.pad("rotate"),
            Self::Rotate(threads) => f.pad(&format!("rotate-{threads}")),
            Self::Follow(1) => f.pad("follow"),
            Self::Follow(threads) => f.pad(&format!("follow-{threads}")),
            Self::FollowCached(1) => f.pad("follow-cached"),
            Self::FollowCached(threads) => f.pad(&format!("follow-cached-{threads}")),
            Self::Held(threads) => f.pad(&format!("held-{threads}")),
            Self::Delete => f.pad("delete"),
            Self::Open => f.pad("open"),
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|workload| workload.to_string() == text);
        found.ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            format!("the workloads are {}", names.join(", "))
        })
    }
}

/// One measurement, as the process that makes it is told.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is measured.
    pub workload: Workload,
    /// Length of the payloads in bytes, or a number of logs: [`Workload::sizes`].
    pub size: usize,
    /// How long a workload goes on that has no end of its own.
    pub time: Duration,
    /// A smoke run: small volumes, whose numbers mean nothing.
    pub quick: bool,
    /// What was prepared for it, if anything.
    pub prepared: PathBuf,
}

impl Case {
    /// A volume in bytes, less in a smoke run.
    pub fn volume(&self, bytes: u64) -> u64 {
        if self.quick { bytes / 64 } else { bytes }
    }

    /// Threads that append at once.
    pub fn threads(&self) -> usize {
        match self.workload {
            Workload::Group(threads)
            | Workload::Rotate(threads)
            | Workload::Follow(threads)
            | Workload::FollowCached(threads)
            | Workload::Held(threads) => threads,
            _ => 1,
        }
    }

    /// The directory that was prepared.
    pub fn prepared(&self) -> &Path {
        &self.prepared
    }
}
