//! Which logs are still needed, and the deletion of those that are not.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, PoisonError};

use tracing::{info, info_span, warn};
use wal_format::checkpoint::{Checkpoint, FAMILIES_MAX};
use wal_format::{FamilyId, LogNumber, SeqNum, SeqRange};
use wal_io::Storage;

use crate::error::{Error, Result};
use crate::names;
use crate::recovery::OldLog;
use crate::state::ActiveLog;
use crate::sync::{Mutex, MutexGuard};
use crate::wal::Inner;

/// What a log is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogState {
    /// Being written.
    Active,
    /// Not written any more; its seal is not known to be durable.
    Closed,
    /// Closed with a durable seal.
    Sealed,
}

/// A live log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogInfo {
    /// Its number.
    pub log: LogNumber,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many records it holds.
    pub records: u64,
    /// Their sequence numbers.
    pub seqs: Option<SeqRange>,
    /// The highest sequence number of each family in it.
    pub families: BTreeMap<FamilyId, SeqNum>,
    /// What it is at the moment.
    pub state: LogState,
}

/// What a call to [`Wal::mark_flushed`](crate::Wal::mark_flushed) deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deletion {
    /// The logs, oldest first.
    pub deleted: Vec<LogNumber>,
    /// Their length in bytes.
    pub bytes: u64,
    /// Files that are not needed and could not be removed; the next call tries again.
    pub retry: usize,
}

/// The logs behind the active one. `deletion` is always taken before `old`.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// Oldest first; numbers ascending. Held for moments only.
    old: Mutex<VecDeque<LogInfo>>,
    /// Held by who marks and deletes, one at a time.
    deletion: Mutex<Unlinks>,
    /// Names of deleted logs that are kept to become the next ones; CHECKPOINT does not know them any more. Held for moments only.
    spares: Mutex<Vec<String>>,
}

/// Names on their way out.
#[derive(Debug, Default)]
struct Unlinks {
    /// No longer needed; CHECKPOINT does not know them any more.
    queue: VecDeque<Unlink>,
    /// Names were removed since the directory was last synced.
    unsynced: bool,
}

#[derive(Debug)]
struct Unlink {
    name: String,
    /// The log, unless the file is the leftover of something else.
    log: Option<(LogNumber, u64)>,
    /// It may become another log: nobody writes to it any more.
    reusable: bool,
}

impl Retention {
    pub(crate) fn new(old_logs: Vec<OldLog>, unlink_later: Vec<String>) -> Self {
        let old = old_logs.into_iter().map(|old| LogInfo {
            log: old.log,
            bytes: old.bytes,
            records: old.records,
            seqs: old.seqs,
            families: old.families,
            state: if old.sealed { LogState::Sealed } else { LogState::Closed },
        });
        let queue =
            unlink_later.into_iter().map(|name| Unlink { name, log: None, reusable: false }).collect();
        let deletion = Mutex::new(Unlinks { queue, unsynced: false });
        Self { old: Mutex::new(old.collect()), deletion, spares: Mutex::default() }
    }

    /// A rotation closed `log`.
    pub(crate) fn closed(&self, log: &ActiveLog, bytes: u64) {
        self.lock().push_back(LogInfo {
            log: log.log,
            bytes,
            records: log.records,
            seqs: log.seqs,
            families: log.families.clone(),
            state: LogState::Closed,
        });
    }

    /// The seal of `log` is durable.
    pub(crate) fn sealed(&self, log: LogNumber, bytes: u64) {
        if let Some(info) = self.lock().iter_mut().find(|info| info.log == log) {
            info.state = LogState::Sealed;
            info.bytes = bytes;
        }
    }

    /// The log up to which every live log has a durable seal.
    pub(crate) fn sealed_through(&self) -> Option<LogNumber> {
        let old = self.lock();
        old.iter().take_while(|info| info.state == LogState::Sealed).last().map(|info| info.log)
    }

    /// Whether every log behind the active one has a durable seal.
    pub(crate) fn all_sealed(&self) -> bool {
        self.lock().iter().all(|info| info.state == LogState::Sealed)
    }

    /// The logs behind the active one, oldest first.
    pub(crate) fn old(&self) -> Vec<LogInfo> {
        self.lock().iter().cloned().collect()
    }

    /// The name of a deleted log that may be used again.
    pub(crate) fn take_for_reuse(&self) -> Option<String> {
        self.spares().pop()
    }

    /// Keeps a deleted log, if there is room for one more.
    fn keep(&self, name: &str, at_most: usize) -> bool {
        let mut spares = self.spares();
        let room = spares.len() < at_most;
        if room {
            spares.push(name.to_owned());
        }
        room
    }

    /// Removes what was kept. What cannot be removed, the next open removes: it is below CHECKPOINT's lowest.
    pub(crate) fn unlink_spares(&self, storage: &dyn Storage) {
        for name in self.spares().drain(..) {
            if let Err(error) = storage.unlink(&name) {
                warn!(%error, "wal.delete_failed");
            }
        }
    }

    fn spares(&self) -> MutexGuard<'_, Vec<String>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These files are not needed; the next deletion removes them.
    pub(crate) fn unlink_later(&self, names: Vec<String>) {
        self.deletion().queue.extend(names.into_iter().map(|name| Unlink {
            name,
            log: None,
            reusable: false,
        }));
    }

    /// Returns when nobody deletes any more; of a log that is closed, nobody begins to.
    pub(crate) fn wait_for_deletion(&self) {
        drop(self.deletion());
    }

    fn deletion(&self) -> MutexGuard<'_, Unlinks> {
        // A storage that panicked in an unlink left the name in the queue.
        self.deletion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<LogInfo>> {
        // Nothing in here panics between two changes.
        self.old.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The marks of the families.
type Flushed = BTreeMap<FamilyId, SeqNum>;

/// What a look at the keepers gave.
struct Released {
    /// How many logs may go, oldest first.
    gone: usize,
    /// The lowest number that is left.
    lowest: LogNumber,
}

/// Whether every family in a log is flushed as far as the log goes.
fn is_flushed(info: &LogInfo, flushed: &Flushed) -> bool {
    info.families.iter().all(|(family, last)| flushed.get(family).is_some_and(|through| through >= last))
        || seeded_bug!(DeletesUnflushed) && info.families.keys().any(|family| flushed.contains_key(family))
}

impl Inner {
    /// Records that families are flushed, durably, and deletes the logs that nobody needs any more.
    pub(crate) fn mark_flushed(&self, marks: &[(FamilyId, SeqNum)]) -> Result<Deletion> {
        let span = info_span!("wal.gc");
        let _entered = span.enter();
        let mut unlinks = self.retention.deletion();
        let (newest, frontier) = self.check_open()?;
        let mut flushed = self.checkpoint.content().flushed;
        for &(family, given) in marks {
            if newest.is_none_or(|newest| given > newest) {
                return Err(Error::FlushedBeyondAppended { family, given, newest });
            }
            match flushed.insert(family, given) {
                Some(recorded) if given < recorded => {
                    return Err(Error::FlushedRegression { family, given, recorded });
                }
                _ if flushed.len() > FAMILIES_MAX => return Err(Error::TooManyFamilies { family }),
                _ => {}
            }
        }
        self.delete(&mut unlinks, frontier, &flushed, |content| content.flushed.extend(marks.iter().copied()))
    }

    /// Deletes the logs that nobody needs any more, if there are any.
    pub(crate) fn delete_unneeded(&self) -> Result<Deletion> {
        let mut unlinks = self.retention.deletion();
        let (_, frontier) = self.check_open()?;
        let flushed = self.checkpoint.content().flushed;
        if unlinks.queue.is_empty() && self.releasable(frontier, &flushed).gone == 0 {
            return Ok(Deletion::default());
        }
        self.delete(&mut unlinks, frontier, &flushed, |_| ())
    }

    /// Asks for [`Inner::delete_unneeded`] if there is something to delete: the caller is not one to wait for a disk.
    pub(crate) fn delete_later(self: &Arc<Self>) {
        let Ok((_, frontier)) = self.check_open() else { return };
        let flushed = self.checkpoint.content().flushed;
        let old = self.retention.lock();
        let any = old.front().is_some_and(|info| info.log < frontier && is_flushed(info, &flushed));
        drop(old);
        if any {
            self.housekeeper.delete(self);
        }
    }

    /// Decides what goes, writes CHECKPOINT with `change`, and deletes.
    fn delete(
        &self,
        unlinks: &mut Unlinks,
        frontier: LogNumber,
        flushed: &Flushed,
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<Deletion> {
        let Released { gone, lowest } = self.releasable(frontier, flushed);
        if seeded_bug!(UnlinkBeforeFloor) {
            for info in self.retention.lock().iter().take(gone) {
                self.storage.unlink(&names::log_name(info.log))?;
            }
        }
        // ORDER: CK3. Both slots know the new floor before a file goes: a file that comes back after a crash is below it, and a log
        // that is gone is not missing.
        self.update_checkpoint(|content| {
            change(content);
            content.lowest = if gone == 0 { content.lowest } else { lowest };
        })?;
        // Rotations only append, so what was counted is still in front.
        let gone = self.retention.lock().drain(..gone).collect::<Vec<_>>();
        unlinks.queue.extend(gone.into_iter().map(|info| Unlink {
            name: names::log_name(info.log),
            log: Some((info.log, info.bytes)),
            // INVARIANT: R6. A log that still waits for its seal is written to.
            reusable: info.state == LogState::Sealed || seeded_bug!(UnsealedReused),
        }));
        let deletion = self.unlink(unlinks);
        self.update_gauges();
        Ok(deletion)
    }

    /// Which logs may go. From then on no pin can keep them; pins over their budget are dropped.
    fn releasable(&self, frontier: LogNumber, flushed: &Flushed) -> Released {
        let old = self.retention.lock();
        // INVARIANT: G2, CK7. Oldest first and without a gap, never the log that holds the frontier or what comes after it.
        let unneeded: Vec<&LogInfo> = old
            .iter()
            .take_while(|info| {
                (info.log < frontier || seeded_bug!(DeletesFrontier)) && is_flushed(info, flushed)
            })
            .collect();
        let mut pins = self.keepers.lock();
        let (gone, dropped) = pins.release(&unneeded);
        // All behind the active log may go, and then the frontier lies in that one.
        let lowest = old.get(gone).map_or(frontier, |info| info.log);
        if gone > 0 {
            pins.raise_floor(lowest);
        }
        self.metrics.dropped_keepers.increment(dropped);
        Released { gone, lowest }
    }

    /// Removes what is not needed, oldest first. A failure stops it there, so that what is left stays without a gap (G5), and is no failure of
    /// the call: the marks are durable.
    fn unlink(&self, unlinks: &mut Unlinks) -> Deletion {
        let mut deletion = Deletion::default();
        while let Some(next) = unlinks.queue.front() {
            if !(next.reusable && self.retention.keep(&next.name, self.files.recycle)) {
                match self.storage.unlink(&next.name) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        self.metrics.delete_failures.increment(1);
                        warn!(%error, "wal.delete_failed");
                        break;
                    }
                    _ => {}
                }
                unlinks.unsynced = true;
            }
            if let Some((log, bytes)) = next.log {
                info!(log = log.get(), bytes, "wal.deleted");
                deletion.deleted.push(log);
                deletion.bytes = deletion.bytes.saturating_add(bytes);
                self.metrics.deleted_logs.increment(1);
            }
            unlinks.queue.pop_front();
        }
        if unlinks.unsynced {
            let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            // ORDER: G5. After the unlinks; a crash before it may bring names back, below the floor.
            match self.storage.sync_dir() {
                Ok(()) => unlinks.unsynced = false,
                Err(error) => warn!(%error, "wal.delete_failed"),
            }
        }
        deletion.retry = unlinks.queue.len();
        deletion
    }
}
