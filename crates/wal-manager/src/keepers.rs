//! Who still needs a log: the one mechanism that keeps logs from being deleted.
//!
//! A log is kept by what the directory itself says (families that are not flushed, holds, both in CHECKPOINT), by where the log stands (it is
//! being written, or everything durable ends in it), and by *pins*: guards in memory of whoever reads or copies at the moment. A pin keeps
//! every log from a number on. Logs are deleted oldest first and without a gap, so a keeper of a log keeps all that come after it, too.
//!
//! A keeper with a budget is charged for the logs that the engine does not need any more and that it holds back, whoever else holds them. When
//! they are more than its budget, it is dropped, loudly: it keeps nothing any more, and its owner is told at its next step.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};

use tracing::warn;
use wal_format::LogNumber;

use crate::clock::micros;
use crate::inner::Inner;
use crate::retention::LogInfo;
use crate::sync::{Mutex, MutexGuard};

/// What sort of keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeeperKind {
    /// The log is being written, or is the last one of a directory that nobody has open.
    Active,
    /// The log is not sealed off yet: everything durable ends in it or before it, because no record behind it is durable.
    Unsealed,
    /// A family has records in it that are not flushed.
    Family,
    /// A hold, by its name.
    Hold,
    /// A follower that has not read it yet.
    Follower,
    /// A live copy that has not copied it yet.
    Copy,
    /// It waits to be archived.
    Archive,
    /// The window for duplicates reaches back into it.
    Duplicates,
    /// An older log is kept, and logs go oldest first.
    Older,
}

impl KeeperKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Active,
        Self::Unsealed,
        Self::Family,
        Self::Hold,
        Self::Follower,
        Self::Copy,
        Self::Archive,
        Self::Duplicates,
        Self::Older,
    ];

    /// In one word, as it stands in metrics and in what `walctl` prints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Unsealed => "unsealed",
            Self::Family => "family",
            Self::Hold => "hold",
            Self::Follower => "follower",
            Self::Copy => "copy",
            Self::Archive => "archive",
            Self::Duplicates => "duplicates",
            Self::Older => "older",
        }
    }
}

impl fmt::Display for KeeperKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The pins of an open log.
#[derive(Debug, Default)]
pub(crate) struct Keepers {
    /// Held for moments only, and taken last.
    pins: Mutex<Pins>,
}

#[derive(Debug, Default)]
pub(crate) struct Pins {
    last_id: u64,
    /// Logs below it are deleted, or about to be: no pin can keep them any more.
    floor: LogNumber,
    pins: BTreeMap<u64, Pinned>,
}

/// What is known of a pin.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pub(crate) kind: KeeperKind,
    pub(crate) name: String,
    /// It keeps this log and all that come after it.
    pub(crate) from: LogNumber,
    pub(crate) budget: Option<u64>,
    /// Microseconds since 1970 when it was made.
    pub(crate) since_micros: u64,
    /// It keeps nothing any more.
    lost: bool,
}

/// Keeps logs from being deleted for as long as it lives.
#[derive(Debug)]
pub(crate) struct Pin {
    inner: Weak<Inner>,
    keepers: Arc<Keepers>,
    id: u64,
}

impl Inner {
    /// Keeps every log from `from` on until the pin is dropped, moves on, or holds back more than `budget` bytes that nobody else needs.
    ///
    /// If `from` is deleted already, the pin is [lost](Pin::lost) from the start.
    pub(crate) fn pin(
        self: &Arc<Self>,
        kind: KeeperKind,
        name: &str,
        from: LogNumber,
        budget: Option<u64>,
    ) -> Pin {
        let since_micros = micros(self.clock.wall());
        let mut pins = self.keepers.lock();
        pins.last_id += 1;
        let id = pins.last_id;
        let lost = from < pins.floor;
        let name = name.to_owned();
        pins.pins.insert(id, Pinned { kind, name, from, budget, since_micros, lost });
        drop(pins);
        Pin { inner: Arc::downgrade(self), keepers: Arc::clone(&self.keepers), id }
    }
}

impl Pin {
    /// Nothing below `from` is needed any more. Never goes back, and brings nothing back that is lost.
    pub(crate) fn advance(&self, from: LogNumber) {
        let Some(inner) = self.inner.upgrade() else { return };
        let mut pins = self.keepers.lock();
        let Some(pinned) = pins.pins.get_mut(&self.id).filter(|pinned| pinned.from < from) else { return };
        pinned.from = from;
        drop(pins);
        inner.delete_later();
    }

    /// [`Pin::advance`] by one who deletes by itself.
    pub(crate) fn advance_quietly(&self, from: LogNumber) {
        let mut pins = self.keepers.lock();
        if let Some(pinned) = pins.pins.get_mut(&self.id).filter(|pinned| pinned.from < from) {
            pinned.from = from;
        }
    }

    /// The oldest log that it keeps.
    pub(crate) fn from(&self) -> LogNumber {
        self.keepers.lock().pins.get(&self.id).map_or(LogNumber::default(), |pinned| pinned.from)
    }

    /// Whether logs that it was to keep may be gone: it held back more bytes than its budget, or it came too late. Then it keeps nothing any more.
    pub(crate) fn lost(&self) -> bool {
        self.keepers.lock().pins.get(&self.id).is_none_or(|pinned| pinned.lost)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let released = self.keepers.lock().pins.remove(&self.id);
        if released.is_some_and(|pinned| !pinned.lost)
            && let Some(inner) = self.inner.upgrade()
        {
            inner.delete_later();
        }
    }
}

impl Keepers {
    pub(crate) fn new(lowest: LogNumber) -> Self {
        let pins = Mutex::new(Pins { floor: lowest, ..Pins::default() });
        Self { pins }
    }

    /// The pins that keep something.
    pub(crate) fn pinned(&self) -> Vec<Pinned> {
        self.lock().pins.values().filter(|pinned| !pinned.lost).cloned().collect()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Pins> {
        // Nothing in here panics between two changes.
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pins {
    /// How many of `unneeded`, which the engine does not need any more, oldest first, may go. Pins over their budget are dropped; returns how many
    /// were, too.
    pub(crate) fn release(&mut self, unneeded: &[&LogInfo]) -> (usize, u64) {
        let (mut gone, mut dropped) = (unneeded.len(), 0);
        for pinned in self.pins.values_mut().filter(|pinned| !pinned.lost) {
            let first = unneeded.iter().position(|info| info.log >= pinned.from);
            let Some(first) = first.filter(|_| !seeded_bug!(PinIgnored)) else { continue };
            let bytes = held_bytes(unneeded, first);
            match pinned.budget {
                Some(budget) if bytes > budget => {
                    let (kind, name) = (pinned.kind.as_str(), &pinned.name);
                    warn!(kind, %name, from = pinned.from.get(), bytes, budget, "wal.keeper_dropped");
                    pinned.lost = true;
                    dropped += 1;
                }
                _ => gone = gone.min(first),
            }
        }
        (gone, dropped)
    }

    /// Logs below `floor` are about to go. Under the same lock as the decision: no pin comes between.
    pub(crate) fn raise_floor(&mut self, floor: LogNumber) {
        self.floor = self.floor.max(floor);
    }
}

/// The bytes of the logs from the one at `first` on.
pub(crate) fn held_bytes(unneeded: &[&LogInfo], first: usize) -> u64 {
    unneeded.iter().skip(first).map(|info| info.bytes).sum()
}

#[cfg(test)]
mod day;
#[cfg(test)]
mod tests;
