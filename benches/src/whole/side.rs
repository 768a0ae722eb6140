//! Who runs a workload.

use super::case::{Case, Workload};
use super::measured::Measured;

/// A log, or the raw operations.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// `wal` and `wal:ring` for the log; a name that begins with `raw:` for a limit, with `wal:` for the log without what is measured; anything else
    /// is another crate.
    pub name: &'static str,
    /// How it runs a workload, if it can.
    pub work: fn(Workload) -> Option<Work>,
}

/// How a side runs a workload.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// What must be there before: done once for all repetitions, in a process of its own.
    pub prepare: Option<Prepare>,
    /// The measurement, in a process of its own.
    pub measure: fn(&Case) -> Measured,
}

/// Makes what several measurements find.
#[derive(Clone, Copy, Debug)]
pub struct Prepare {
    /// Sides that give the same name share what is made.
    pub name: &'static str,
    /// Makes it in the case's directory, which is there and empty.
    pub make: fn(&Case),
}

impl Work {
    /// A measurement that begins with nothing.
    pub fn new(measure: fn(&Case) -> Measured) -> Self {
        Self { prepare: None, measure }
    }

    /// A measurement that finds what `make` made.
    pub fn prepared(name: &'static str, make: fn(&Case), measure: fn(&Case) -> Measured) -> Self {
        Self { prepare: Some(Prepare { name, make }), measure }
    }
}

impl Side {
    /// The log through an io_uring.
    pub const RING: &str = "wal:ring";

    /// Whether it is the log as it is: with what is measured.
    pub fn is_ours(name: &str) -> bool {
        name == "wal" || name == Self::RING
    }

    /// Whether the log is measured against it: the raw operations, and the log without what is measured.
    pub fn is_limit(name: &str) -> bool {
        name.starts_with("raw:") || name.starts_with("wal:") && name != Self::RING
    }
}
