//! Those who wait for the frontier without a thread of their own, and the watch on the frontier.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wal_format::Index;

use crate::error::Result;
use crate::inner::Inner;
use crate::record::Position;

/// Who is to be woken when a record has become durable.
#[derive(Debug, Default)]
pub(crate) struct Awaiting {
    /// By index of the record, then by who it is.
    wakers: BTreeMap<(Index, u64), Waker>,
    next: u64,
}

/// A place in [`Awaiting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    index: Index,
    who: u64,
}

impl Place {
    pub(crate) fn is_of(self, index: Index) -> bool {
        self.index == index
    }
}

/// Those who are to be woken now.
pub(crate) type Reached = BTreeMap<(Index, u64), Waker>;

impl Awaiting {
    /// Waits for `index`; `place` is what this gave the last time. Gives the waker back that stood there, for who does not hold the mutex any more: the
    /// last waker of a task drops the task, and with it tickets that need the mutex.
    #[must_use]
    pub(crate) fn enter(
        &mut self,
        index: Index,
        place: Option<Place>,
        waker: Waker,
    ) -> (Place, Option<Waker>) {
        let who = place.filter(|place| place.index == index).map_or(self.next, |place| place.who);
        self.next = self.next.max(who.wrapping_add(1));
        let replaced = self.wakers.insert((index, who), waker);
        (Place { index, who }, replaced)
    }

    /// Waits no more. Gives the waker back, as above.
    #[must_use]
    pub(crate) fn leave(&mut self, place: Place) -> Option<Waker> {
        self.wakers.remove(&(place.index, place.who))
    }

    /// Those who waited for a record up to `durable`.
    pub(crate) fn reached(&mut self, durable: Index) -> Reached {
        let after = durable.next().unwrap_or(durable);
        if self.wakers.first_key_value().is_none_or(|((index, _), _)| *index >= after) {
            return BTreeMap::new();
        }
        let later = self.wakers.split_off(&(after, 0));
        let reached = mem::replace(&mut self.wakers, later);
        if seeded_bug!(TicketWakeLost) { BTreeMap::new() } else { reached }
    }

    /// All of them.
    pub(crate) fn all(&mut self) -> Reached {
        mem::take(&mut self.wakers)
    }
}

/// A watch on the frontier: each look gives where it is once it has moved since the last one. See [`Wal::watch`](crate::Wal::watch).
///
/// It asks nobody to sync. Like a [`Ticket`](crate::Ticket) it keeps the directory locked until it is dropped.
#[derive(Debug)]
pub struct Watch {
    inner: Arc<Inner>,
    seen: Index,
    place: Option<Place>,
}

impl Watch {
    pub(crate) fn new(inner: Arc<Inner>, seen: Index) -> Self {
        Self { inner, seen, place: None }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// From now on, waits for a frontier behind the record `seen`.
    pub(crate) fn look_behind(&mut self, seen: Index) {
        self.seen = seen;
    }

    /// Blocks until the frontier has moved since the last look, and returns it.
    ///
    /// # Errors
    /// It will not move any more: the log has failed, was closed, or was dropped. After [`Wal::resume`](crate::Wal::resume) it moves again.
    ///
    /// # Concurrency
    /// Blocks, for ever if nobody syncs.
    pub fn wait(&mut self) -> Result<Position> {
        let next = self.seen.next().unwrap_or(self.seen);
        let durable = self.inner.commit.wait_durable(next)?;
        self.seen = durable.index;
        Ok(durable)
    }

    /// The same for who may not block: with any executor, and with none.
    ///
    /// # Errors
    /// As for [`Watch::wait`].
    pub async fn changed(&mut self) -> Result<Position> {
        poll_fn(|context| self.poll_changed(context)).await
    }

    /// The same, one look at a time.
    ///
    /// # Errors
    /// As for [`Watch::wait`].
    pub fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<Result<Position>> {
        let next = self.seen.next().unwrap_or(self.seen);
        let polled = self.inner.commit.poll_durable(next, false, &mut self.place, context);
        polled.map_ok(|durable| {
            self.seen = durable.index;
            durable
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.inner.commit.leave_awaiting(place);
        }
    }
}
