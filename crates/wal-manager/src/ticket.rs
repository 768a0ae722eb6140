//! Tickets: ordered now, durable later.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::inner::Inner;
use crate::record::{Appended, Durability};
use crate::watch::Place;

/// A record that is accepted and ordered. [`Ticket::wait`] blocks until it is durable, `.await` does so without blocking, with any executor
/// and with none. Dropping the ticket loses nothing: the record becomes durable with whatever is synced next.
///
/// Whoever waits leads: it writes and syncs in its own thread if nobody else is at the disk. Whoever awaits may not block, so there the log's own
/// thread leads, which is started by the first who does.
///
/// A ticket outlives its log: of a log that was dropped and not closed, it can still make its record durable, and until it is dropped
/// the directory stays locked.
#[derive(Debug)]
#[must_use = "a record that nobody waits for becomes durable only with a later sync"]
pub struct Ticket {
    inner: Arc<Inner>,
    appended: Appended,
    place: Option<Place>,
}

impl Ticket {
    pub(crate) fn new(inner: Arc<Inner>, appended: Appended) -> Self {
        Self { inner, appended, place: None }
    }

    /// What the record was given.
    pub fn appended(&self) -> Appended {
        self.appended
    }

    /// Whether the record is durable by now.
    #[inline]
    pub fn is_durable(&self) -> bool {
        self.inner.commit.has_reached(self.appended.index, Durability::Synced)
    }

    /// Waits until the record is durable. With many tickets, wait for the oldest: the others are mostly done then, and cost no more.
    ///
    /// # Errors
    /// The log failed before that; the record may or may not be there after the next recovery, or after
    /// [`Wal::resume`](crate::Wal::resume), when [`Wal::durable`](crate::Wal::durable) tells.
    ///
    /// # Durability
    /// The record, and every one before it, survives a power cut once this succeeds.
    ///
    /// # Concurrency
    /// Blocks. Who waits writes and syncs in his own thread if nobody else is at the disk.
    #[inline]
    pub fn wait(&self) -> Result<Appended> {
        if !self.is_durable() {
            self.inner.commit.wait_for(self.appended.index, Durability::Synced)?;
        }
        Ok(self.appended)
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Self {
        // It has not been polled yet.
        Self::new(Arc::clone(&self.inner), self.appended)
    }
}

/// # Errors
/// As for [`Ticket::wait`]; or the system has no thread for the log.
impl Future for Ticket {
    type Output = Result<Appended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let appended = self.appended;
        let this = &mut *self;
        this.inner.commit.poll_durable(appended.index, true, &mut this.place, context).map_ok(|_| appended)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.inner.commit.leave_awaiting(place);
        }
    }
}
