//! What the child tells the parent on its standard output: one JSON object a line.
//!
//! The other way, on the child's standard input, goes one line at the start: the ranges of items that need not be written
//! any more. The input then stays open as long as the parent lives; when it ends, so does the child.

use serde::{Deserialize, Serialize};

use super::metrics::Sample;

/// One thing that the child says.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// The engine is open.
    Opened(Opened),
    /// The engine has acknowledged, as synced, everything about the items from `first` to `last`.
    Acknowledged {
        /// The first item.
        first: u64,
        /// The last item.
        last: u64,
        /// Bytes of keys and values in these writes.
        bytes: u64,
    },
    /// The item cannot be read any more.
    GivenUp(u64),
    /// Every item of the round is written; now the engine is flushed and closed.
    Written,
    /// What the metrics have gained.
    Metrics(Vec<Sample>),
}

/// What opening the engine found.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Opened {
    /// Whether the newest log had a torn tail.
    pub(crate) torn_tail: bool,
    /// Records that were in the log.
    pub(crate) records: u64,
    /// The log that is written now.
    pub(crate) log: u64,
}
