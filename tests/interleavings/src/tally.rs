//! How often what happened, so that a test can assert that it met what it is there for.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// Counts.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls of the log or the engine.
    pub operations: u64,
    /// Acknowledged as durable: appends, syncs, rotations.
    pub acknowledged: u64,
    /// Recoveries that came to their end.
    pub recoveries: u64,
    /// Recoveries that a crash ended.
    pub crashed_recoveries: u64,
    /// Recoveries that a fault ended, tried again.
    pub failed_recoveries: u64,
    /// Records that recoveries wrote again.
    pub rewritten: u64,
    /// Recoveries that cut a torn tail.
    pub torn: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Deaths of the process.
    pub deaths: u64,
    /// Logs that failed under their writers.
    pub failures: u64,
    /// Failed logs that went on after a resume.
    pub resumes: u64,
    /// Storages that panicked.
    pub panics: u64,
    /// Rotations on request.
    pub rotations: u64,
    /// Logs deleted.
    pub deletions: u64,
    /// Looks of a reader without the lock.
    pub inspections: u64,
    /// Clean closes.
    pub closes: u64,
    /// Tables written and merges, by the engine.
    pub flushes: u64,
    /// Operations that failed on request, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.recoveries += other.recoveries;
        self.crashed_recoveries += other.crashed_recoveries;
        self.failed_recoveries += other.failed_recoveries;
        self.rewritten += other.rewritten;
        self.torn += other.torn;
        self.power_cuts += other.power_cuts;
        self.deaths += other.deaths;
        self.failures += other.failures;
        self.resumes += other.resumes;
        self.panics += other.panics;
        self.rotations += other.rotations;
        self.deletions += other.deletions;
        self.inspections += other.inspections;
        self.closes += other.closes;
        self.flushes += other.flushes;
        for (kind, times) in &other.faults {
            *self.faults.entry(kind).or_default() += times;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations, {} acknowledged as durable, {} recoveries, {} crashed and {} failed inside, {} records written again, \
             {} tails cut, {} power cuts, {} deaths, {} failed logs, {} resumed, {} panics, {} rotations, {} logs deleted, {} inspections, \
             {} closes, {} flushes; faults: {:?}",
            self.operations,
            self.acknowledged,
            self.recoveries,
            self.crashed_recoveries,
            self.failed_recoveries,
            self.rewritten,
            self.torn,
            self.power_cuts,
            self.deaths,
            self.failures,
            self.resumes,
            self.panics,
            self.rotations,
            self.deletions,
            self.inspections,
            self.closes,
            self.flushes,
            self.faults
        )
    }
}
