//! When a leader waits for writers that are just returning.
//!
//! Writers that were woken together come back together, a little after the next leader. If it goes to the disk at once it takes few of them,
//! and two half-full groups take turns for ever. So it waits, at most a part of what a sync takes, until as many have arrived as are about;
//! never alone, and not where it did not help the last time (decision 0025).

use std::time::Duration;

/// A leader waits at most this part of a sync: half, since a wait that fails costs that much and one that succeeds saves half of the syncs.
const PART_OF_SYNC: u32 = 2;

/// How often a waiting leader looks, at most, whatever its clock says.
pub(crate) const LOOKS_MAX: u32 = 1 << 12;

/// Groups that go without a wait after one that did not help: 1, 2, 4 ... up to this.
const PASSED_OVER_MAX: u32 = 64;

/// One sync in so many counts in the average.
const AVERAGE_OF: u32 = 8;

/// What is known about the writers.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    /// Writers that were about when the last group ended: in it, or waiting for the next one.
    writers: u32,
    /// What a group's write and sync take.
    group_time: Duration,
    /// Groups to go without a wait.
    pass_over: u32,
    /// How many it was the last time.
    passed_over: u32,
}

impl Gather {
    /// How many writers to wait for, and how long; `None` if the leader goes at once. `arrived`: it, and who waits already.
    pub(crate) fn begin(&mut self, arrived: u32) -> Option<(u32, Duration)> {
        let longest = self.group_time / PART_OF_SYNC;
        if arrived >= self.writers || longest.is_zero() {
            return None;
        }
        if self.pass_over > 0 {
            self.pass_over -= 1;
            return None;
        }
        Some((self.writers, longest))
    }

    /// A wait has ended; `before` and `after` it so many had arrived.
    pub(crate) fn ended(&mut self, before: u32, after: u32) {
        let (hoped, came) = (self.writers.saturating_sub(before), after.saturating_sub(before));
        if came.saturating_mul(2) >= hoped {
            self.passed_over = 0;
        } else {
            self.passed_over = (self.passed_over * 2).clamp(1, PASSED_OVER_MAX);
            self.pass_over = self.passed_over;
        }
    }

    /// A group of so many writers is durable, which took `took`, and `waiting` others wait for the next.
    pub(crate) fn synced(&mut self, writers: u32, waiting: u32, took: Duration) {
        self.writers = writers.saturating_add(waiting);
        self.group_time = match self.group_time {
            Duration::ZERO => took,
            average => average.saturating_mul(AVERAGE_OF - 1).saturating_add(took) / AVERAGE_OF,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_micros(80);

    #[test]
    fn a_lone_writer_never_waits() {
        let mut gather = Gather::default();
        for _ in 0..100 {
            assert_eq!(gather.begin(1), None);
            gather.synced(1, 0, SYNC);
        }
    }

    #[test]
    fn half_full_groups_become_full_ones_and_nobody_waits_for_who_is_there() {
        let mut gather = Gather::default();
        gather.synced(4, 4, SYNC);
        assert_eq!(gather.begin(5), Some((8, SYNC / 2)));
        gather.ended(5, 8);
        gather.synced(8, 0, SYNC);
        assert_eq!(gather.begin(8), None);
        assert_eq!(gather.begin(1), Some((8, SYNC / 2)));
    }

    #[test]
    fn a_wait_that_did_not_help_is_not_repeated_soon() {
        let mut gather = Gather::default();
        gather.synced(8, 0, SYNC);
        let mut waits = 0;
        for _ in 0..1000 {
            if gather.begin(1).is_some() {
                waits += 1;
                gather.ended(1, 1);
            }
        }
        assert!((6..=25).contains(&waits), "{waits}");
    }

    #[test]
    fn a_clock_that_stands_still_makes_nobody_wait() {
        let mut gather = Gather::default();
        gather.synced(8, 8, Duration::ZERO);
        assert_eq!(gather.begin(1), None);
    }
}
