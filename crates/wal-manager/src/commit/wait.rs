//! Those who wait for a record to get as far as they want: with a thread, or awaiting.

use std::task::{Context, Poll};

use wal_format::Index;

use crate::error::{Error, Result};
use crate::record::{Durability, Position};
use crate::watch::Place;

use super::{Commit, Why};

impl Commit {
    /// Waits until the frontier is behind the record, whoever makes it so.
    pub(crate) fn wait_durable(&self, index: Index) -> Result<Position> {
        let mut state = self.lock();
        loop {
            if state.durable.index >= index {
                return Ok(state.durable);
            }
            state.check()?;
            if state.dropped {
                return Err(Error::Closed);
            }
            state = self.wait(state);
        }
    }

    /// The same for who may not block. With `demand`, it is made so: by the log's own thread, if nobody else is on the way.
    pub(crate) fn poll_durable(
        &self,
        index: Index,
        demand: bool,
        place: &mut Option<Place>,
        context: &Context<'_>,
    ) -> Poll<Result<Position>> {
        // It leads for those who may not block, and wakes them after a failure.
        let is_there = match self.me().filter(|_| !self.has_reached(index, Durability::Synced)) {
            Some(me) => self.background.start(&me),
            None => Ok(()),
        };
        if seeded_bug!(ThreadBeforeState) {
            is_there.clone()?;
        }
        let waker = context.waker().clone();
        // Dropped behind the mutex.
        let (_left, _replaced);
        let mut state = self.lock();
        _left = place.take_if(|place| !place.is_of(index)).and_then(|place| state.awaiting.leave(place));
        let done = if state.durable.index >= index {
            Some(Ok(state.durable))
        } else if let Err(error) = state.check() {
            Some(Err(error))
        } else if state.dropped && !demand {
            Some(Err(Error::Closed))
        } else {
            // Last: a closed log has no thread, but a better answer.
            is_there.err().map(Err)
        };
        if let Some(done) = done {
            _replaced = place.take().and_then(|place| state.awaiting.leave(place));
            return Poll::Ready(done);
        }
        // INVARIANT: S8. Entered under the mutex: whoever moves the frontier, or fails, finds it afterwards.
        let (entered, replaced) = state.awaiting.enter(index, *place, waker);
        (*place, _replaced) = (Some(entered), replaced);
        if demand {
            state.sync_wanted = state.sync_wanted.max(index);
            state.demanded = state.demanded.max(index);
            // Whoever is at the disk rings when it comes back.
            let ring = state.in_flight.is_none() && !state.exclusive;
            drop(state);
            if ring {
                self.background.bell.ring();
            }
        }
        Poll::Pending
    }

    /// Who awaits does so no more.
    pub(crate) fn leave_awaiting(&self, place: Place) {
        let waker = self.lock().awaiting.leave(place);
        drop(waker);
    }

    /// Waits until the record is as durable as `level` says.
    pub(crate) fn wait_for(&self, index: Index, level: Durability) -> Result<()> {
        if level == Durability::Buffered || self.has_reached(index, level) {
            return Ok(());
        }
        let (mut begin, mut place) = (None, None);
        loop {
            let mut state = self.lock();
            if let Some(place) = place.take() {
                self.leave(&state, place);
            }
            let reached = if level == Durability::Synced { state.durable } else { state.written };
            let mut led = None;
            if reached.index < index {
                // A record that did not get there will not any more.
                state.check()?;
                if level == Durability::Synced {
                    state.sync_wanted = state.sync_wanted.max(index);
                }
                if state.exclusive || state.in_flight.is_some() {
                    // INVARIANT: S8. Enrolled under the mutex: whoever ends that round, or fails, changes the word afterwards.
                    let enrolled = self.enrol(&state, index, level);
                    let word = &self.round(enrolled.round).word;
                    let value = word.value();
                    drop(state);
                    place = Some(enrolled);
                    if level == Durability::Synced {
                        begin.get_or_insert_with(|| self.clock.monotonic());
                    }
                    word.wait(value);
                } else {
                    led = Some(self.lead(state, Why::Asked));
                }
                if !self.has_reached(index, level) {
                    continue;
                }
            } else {
                // A recorder that panics under it would leave the others waiting (S8).
                drop(state);
            }
            // Who leads at once has waited for his group, and that is measured already. A look at the clock is nothing against a sleep.
            let waited = begin.map(|begin| self.clock.monotonic().saturating_sub(begin)).or(led);
            if let Some(waited) = waited.filter(|_| level == Durability::Synced) {
                self.metrics.commit_wait_seconds.record(waited.as_secs_f64());
            }
            return Ok(());
        }
    }

    /// Makes everything accepted so far durable.
    pub(crate) fn sync(&self) -> Result<Position> {
        let state = self.lock();
        state.check()?;
        let index = state.accepted.index;
        drop(state);
        self.wait_for(index, Durability::Synced)?;
        Ok(self.lock().durable)
    }
}
