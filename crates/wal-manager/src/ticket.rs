//! Tickets: ordered now, durable later.

use std::sync::Arc;

use crate::error::Result;
use crate::record::{Appended, Durability};
use crate::wal::Inner;

/// A record that is accepted and ordered. Dropping the ticket loses nothing: the record becomes durable with whatever is synced next.
///
/// A ticket outlives its log: of a log that was dropped and not closed, it can still make its record durable, and until it is dropped
/// the directory stays locked.
#[derive(Clone, Debug)]
#[must_use = "a record that nobody waits for becomes durable only with a later sync"]
pub struct Ticket {
    inner: Arc<Inner>,
    appended: Appended,
}

impl Ticket {
    pub(crate) fn new(inner: Arc<Inner>, appended: Appended) -> Self {
        Self { inner, appended }
    }

    /// What the record was given.
    pub fn appended(&self) -> Appended {
        self.appended
    }

    /// Waits until the record is durable.
    ///
    /// # Errors
    /// The log failed before that; the record may or may not be there after the next recovery.
    pub fn wait(&self) -> Result<Appended> {
        self.inner.commit.wait_for(self.appended.index, Durability::Synced)?;
        Ok(self.appended)
    }
}
