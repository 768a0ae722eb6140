//! Having the log to oneself: rotations, resumes and the end.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};

use super::{Commit, Why};

impl Commit {
    /// Gets the log to itself: no leader, no appends, everything accepted durable. [`Exclusive`] gives it back when dropped.
    pub(crate) fn exclusive(&self) -> Result<Exclusive<'_>> {
        let mut state = self.lock();
        loop {
            state.check()?;
            if state.exclusive {
                state = self.wait(state);
            } else {
                break;
            }
        }
        state.exclusive = true;
        drop(state);
        // From here on, whatever happens, dropping this lets the others in again. It takes the mutex: nobody may hold it then.
        let exclusive = Exclusive { commit: self };
        self.drain()?;
        Ok(exclusive)
    }

    /// Gets a log that has failed to itself, for a resume: nobody is at the disk any more. `None` if it has not failed.
    pub(crate) fn halt(&self) -> Result<Option<Exclusive<'_>>> {
        let mut state = self.lock();
        while state.in_flight.is_some() || state.syncing || state.exclusive {
            state = self.wait(state);
        }
        if state.closed {
            return Err(Error::Closed);
        }
        if state.broken {
            return state.check().map(|()| None);
        }
        if state.failed.is_none() {
            return Ok(None);
        }
        state.exclusive = true;
        drop(state);
        Ok(Some(Exclusive { commit: self }))
    }

    /// Closes the log, whatever became of it, and waits for who is at the disk.
    pub(crate) fn shut(&self) {
        let mut state = self.lock();
        state.closed = true;
        while state.in_flight.is_some() || state.syncing {
            state = self.wait(state);
        }
        drop(state);
        self.wake_everybody();
        self.wake_awaiting();
    }

    /// Waits for the leader and makes what is accepted durable, a header that no record followed yet too: a seal may come next (PR5).
    fn drain(&self) -> Result<()> {
        let mut state = self.lock();
        while state.in_flight.is_some() || state.syncing {
            state = self.wait(state);
        }
        state.check()?;
        if state.durable < state.accepted {
            if seeded_bug!(DrainWithoutSync) {
                self.lead(state, Why::Asked);
                state = self.lock();
                state.durable = state.accepted;
            } else {
                self.lead(state, Why::Drain);
                state = self.lock();
            }
        }
        state.check()
    }
}

/// Nobody appends and nobody leads while this is alive.
#[derive(Debug)]
pub(crate) struct Exclusive<'a> {
    commit: &'a Commit,
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let mut state = self.commit.lock();
        state.exclusive = false;
        if seeded_bug!(ExclusiveWakesNobody) {
            return;
        }
        self.commit.tell_blocked(&state);
        let next = self.commit.round(state.round.wrapping_add(1));
        let ring = state.demanded > state.durable.index || !state.parked;
        drop(state);
        if ring {
            self.commit.background.bell.ring();
        }
        if next.waiting.load(Ordering::Relaxed) > 0 {
            next.word.wake_one();
        }
    }
}
