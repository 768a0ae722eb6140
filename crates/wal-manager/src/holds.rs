//! Holds: named and durable, for whoever needs logs that the engine has flushed and who may be away for a while (a backup, a replica).

use std::sync::Arc;

use tracing::info;
use wal_format::checkpoint::{HOLDS_MAX, Hold, hold_name_is_valid};
use wal_format::{SeqNum, SeqRange};

use crate::clock::micros;
use crate::error::{Error, Result};
use crate::inner::Inner;
use crate::keepers::held_bytes;
use crate::retention::{Deletion, LogInfo};
use crate::wal::Wal;

/// A hold, as it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldInfo {
    /// Its name.
    pub name: String,
    /// The lowest sequence number that is held.
    pub from: SeqNum,
    /// The highest; `None`: everything from `from` on.
    pub to: Option<SeqNum>,
    /// How many bytes of logs it may hold back that the engine does not need any more; `None`: any number.
    pub budget_bytes: Option<u64>,
    /// How many it holds back now.
    pub held_bytes: u64,
    /// Microseconds since 1970 when it was made.
    pub since_micros: u64,
    /// It went over its budget and holds nothing any more.
    pub lost: bool,
}

impl Wal {
    /// Keeps every log that holds a sequence number from `from` on, and so every later one (0: everything there ever was), until [`Wal::release_hold`], also over restarts and
    /// recoveries. `name` has 1 to [`HOLD_NAME_BYTES_MAX`](crate::HOLD_NAME_BYTES_MAX) bytes and no control characters; there are at most
    /// [`HOLDS_MAX`](crate::HOLDS_MAX).
    ///
    /// With a `budget_bytes`, the hold is dropped, with a warning and for good, as soon as it holds back more bytes of logs that the engine itself
    /// does not need any more. Its owner is told at the next use of the name ([`Error::HoldLost`]).
    ///
    /// # Errors
    /// There is a hold of this name that is not lost; or there are too many, or the name is none. [`Error::HoldAhead`] if `from` is more than one
    /// above the newest sequence number, [`Error::InsideRecord`] if a record covers `from` and the number before it, [`Error::HoldLost`] if records from `from` on may be gone already. Or the log is poisoned or closed, or
    /// CHECKPOINT could not be written: then the hold may be recorded with a later update.
    ///
    /// # Durability
    /// The hold is durable when this returns.
    ///
    /// # Concurrency
    /// As for [`Wal::mark_flushed`].
    pub fn hold(&self, name: &str, from: SeqNum, budget_bytes: Option<u64>) -> Result<()> {
        self.inner().hold(name, from, None, budget_bytes)
    }

    /// [`Wal::hold`] for no more than these sequence numbers. Logs behind the range are kept for as long as those in it are, because logs go
    /// oldest first; they are not charged to this hold.
    ///
    /// # Errors
    /// As for [`Wal::hold`].
    ///
    /// # Durability
    /// As for [`Wal::hold`].
    ///
    /// # Concurrency
    /// As for [`Wal::mark_flushed`].
    pub fn hold_range(&self, name: &str, seqs: SeqRange, budget_bytes: Option<u64>) -> Result<()> {
        self.inner().hold(name, seqs.first(), Some(seqs.last()), budget_bytes)
    }

    /// Says that the owner of a hold needs nothing below `from` any more, and deletes the logs that nobody needs then.
    ///
    /// # Errors
    /// [`Error::UnknownHold`]; [`Error::HoldRegression`] if `from` goes back, [`Error::HoldAhead`] if it is more than one above the newest
    /// sequence number, or above the end of the range; [`Error::InsideRecord`] if a record covers `from` and the number before it; [`Error::HoldLost`] if the hold was dropped. Nothing was changed then. Or the log is
    /// poisoned or closed, or CHECKPOINT could not be written, as for [`Wal::mark_flushed`].
    ///
    /// # Durability
    /// The hold's new place is durable when this returns.
    ///
    /// # Concurrency
    /// As for [`Wal::mark_flushed`].
    pub fn advance_hold(&self, name: &str, from: SeqNum) -> Result<Deletion> {
        self.inner().advance_hold(name, from)
    }

    /// Removes a hold, and deletes the logs that nobody needs any more.
    ///
    /// # Errors
    /// [`Error::UnknownHold`]. [`Error::HoldLost`] if the hold was dropped: its owner must know that it did not get everything; the hold is removed
    /// all the same. Or the log is poisoned or closed, or CHECKPOINT could not be written, as for [`Wal::mark_flushed`].
    ///
    /// # Durability
    /// The hold is gone for good when this returns.
    ///
    /// # Concurrency
    /// As for [`Wal::mark_flushed`].
    pub fn release_hold(&self, name: &str) -> Result<Deletion> {
        self.inner().release_hold(name)
    }

    /// The holds, by name.
    pub fn holds(&self) -> Vec<HoldInfo> {
        self.inner().holds()
    }
}

impl Inner {
    fn hold(
        self: &Arc<Self>,
        name: &str,
        from: SeqNum,
        to: Option<SeqNum>,
        budget: Option<u64>,
    ) -> Result<()> {
        if !hold_name_is_valid(name) {
            return Err(Error::InvalidHoldName { name: name.to_owned() });
        }
        self.check_begins_record(from)?;
        to.map_or(Ok(()), |to| self.check_ends_record(to))?;
        let mut deciding = self.decide_deletion()?;
        let highest = after(deciding.newest);
        if from > highest {
            return Err(Error::HoldAhead { name: name.to_owned(), given: from, highest });
        }
        let oldest = self.retention.oldest_seq();
        if from < oldest {
            return Err(Error::HoldLost { name: name.to_owned(), wanted: from, oldest });
        }
        let holds = &mut deciding.claims.holds;
        if holds.get(name).is_some_and(|hold| !hold.lost) {
            return Err(Error::HoldExists { name: name.to_owned() });
        }
        let since_micros = micros(self.clock.wall());
        holds.insert(name.to_owned(), Hold { from, to, budget, since_micros, lost: false });
        if holds.len() > HOLDS_MAX {
            return Err(Error::TooManyHolds { name: name.to_owned() });
        }
        info!(name, from = from.get(), budget, "wal.hold");
        self.carry_out(deciding).map(drop)
    }

    fn advance_hold(self: &Arc<Self>, name: &str, from: SeqNum) -> Result<Deletion> {
        self.check_begins_record(from)?;
        let mut deciding = self.decide_deletion()?;
        let highest = after(deciding.newest);
        let Some(hold) = deciding.claims.holds.get_mut(name) else {
            return Err(Error::UnknownHold { name: name.to_owned() });
        };
        if hold.lost {
            return Err(self.lost(name, hold));
        }
        if from < hold.from && !seeded_bug!(HoldGoesBack) {
            return Err(Error::HoldRegression { name: name.to_owned(), given: from, recorded: hold.from });
        }
        let highest = hold.to.map_or(highest, |to| to.min(highest));
        if from > highest {
            return Err(Error::HoldAhead { name: name.to_owned(), given: from, highest });
        }
        hold.from = from;
        self.carry_out(deciding)
    }

    fn release_hold(self: &Arc<Self>, name: &str) -> Result<Deletion> {
        let mut deciding = self.decide_deletion()?;
        let Some(hold) = deciding.claims.holds.remove(name) else {
            return Err(Error::UnknownHold { name: name.to_owned() });
        };
        info!(name, "wal.hold_released");
        let deletion = self.carry_out(deciding)?;
        if hold.lost { Err(self.lost(name, &hold)) } else { Ok(deletion) }
    }

    fn lost(&self, name: &str, hold: &Hold) -> Error {
        Error::HoldLost { name: name.to_owned(), wanted: hold.from, oldest: self.retention.oldest_seq() }
    }

    fn holds(&self) -> Vec<HoldInfo> {
        let content = self.checkpoint.content();
        let old = self.retention.old();
        let frontier = self.commit.lock().durable.log;
        let unneeded = crate::retention::unneeded(&old, frontier, content.lowest, &content.flushed);
        let info = |(name, hold): (&String, &Hold)| HoldInfo {
            name: name.clone(),
            from: hold.from,
            to: hold.to,
            budget_bytes: hold.budget,
            held_bytes: if hold.lost { 0 } else { charged(hold, &unneeded).map_or(0, |(_, bytes)| bytes) },
            since_micros: hold.since_micros,
            lost: hold.lost,
        };
        content.holds.iter().map(info).collect()
    }
}

fn after(newest: Option<SeqNum>) -> SeqNum {
    newest.map_or(SeqNum::new(0), |newest| newest.next().unwrap_or(newest))
}

/// Whether a hold needs a log.
pub(crate) fn holds_back(hold: &Hold, log: &LogInfo) -> bool {
    !hold.lost
        && log
            .seqs
            .is_some_and(|seqs| seqs.last() >= hold.from && hold.to.is_none_or(|to| seqs.first() <= to))
}

/// The first of `unneeded`, logs that the engine does not need any more, that a hold needs, and the bytes of those that it keeps.
pub(crate) fn charged(hold: &Hold, unneeded: &[&LogInfo]) -> Option<(usize, u64)> {
    let first = unneeded.iter().position(|info| holds_back(hold, info))?;
    let in_range = unneeded
        .iter()
        .take_while(|info| hold.to.is_none_or(|to| info.seqs.is_none_or(|seqs| seqs.first() <= to)));
    let in_range: Vec<&LogInfo> = in_range.copied().collect();
    Some((first, held_bytes(&in_range, first)))
}
