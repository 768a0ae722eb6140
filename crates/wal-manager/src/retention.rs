//! Which logs are still needed, and the deletion of those that are not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, PoisonError};

use tracing::{info, info_span, warn};
use wal_format::checkpoint::{Checkpoint, FAMILIES_MAX, FLUSHED_RANGES_MAX, Hold, LogRange};
use wal_format::{FamilyId, LogNumber, SeqNum, SeqRange};
use wal_io::Storage;

use crate::boundary::Around;
use crate::error::{Error, Result};
use crate::holds;
use crate::inner::Inner;
use crate::names;
use crate::recovery::OldLog;
use crate::state::ActiveLog;
use crate::sync::{Mutex, MutexGuard};
use crate::watchdog::DiskWork;

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
    /// The open has not read it, because the last clean end says that all of it is flushed: `families` is empty though records may be there.
    pub skipped: bool,
    /// What it is at the moment.
    pub state: LogState,
    /// Microseconds since 1970 when it was begun.
    pub created_micros: u64,
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
    /// The families that had a mark when the log was opened: logs that were skipped hold records of no others.
    marked_at_open: BTreeSet<FamilyId>,
    /// No record with a lower sequence number is left, or will be soon. Held for moments only.
    oldest_seq: Mutex<SeqNum>,
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
    pub(crate) fn new(
        old_logs: Vec<OldLog>,
        marked_at_open: BTreeSet<FamilyId>,
        oldest_seq: SeqNum,
        unlink_later: Vec<String>,
    ) -> Self {
        let old = old_logs.into_iter().map(|old| LogInfo {
            log: old.log,
            bytes: old.bytes,
            records: old.records,
            seqs: old.seqs,
            families: old.families,
            skipped: old.skipped,
            state: if old.sealed { LogState::Sealed } else { LogState::Closed },
            created_micros: old.created_micros,
        });
        let queue =
            unlink_later.into_iter().map(|name| Unlink { name, log: None, reusable: false }).collect();
        let deletion = Mutex::new(Unlinks { queue, unsynced: false });
        let oldest_seq = Mutex::new(oldest_seq);
        let old = Mutex::new(old.collect());
        Self { old, deletion, marked_at_open, oldest_seq, spares: Mutex::default() }
    }

    /// A rotation closed `log`.
    pub(crate) fn closed(&self, log: &ActiveLog, bytes: u64) {
        self.lock().push_back(LogInfo {
            log: log.log,
            bytes,
            records: log.records,
            seqs: log.seqs,
            families: log.families.clone(),
            skipped: false,
            state: LogState::Closed,
            created_micros: log.created_micros,
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

    /// How many bytes the logs behind the active one have, and how many they are.
    pub(crate) fn size(&self) -> (u64, u64) {
        let old = self.lock();
        (old.iter().map(|info| info.bytes).sum(), old.len() as u64)
    }

    /// The log behind the active one that holds both `at` and the number before it.
    pub(crate) fn around(&self, at: SeqNum) -> Option<Around> {
        self.lock().iter().find_map(|info| Around::of(info.log, info.bytes, info.records, info.seqs, at))
    }

    /// The logs behind the active one, oldest first.
    pub(crate) fn old(&self) -> Vec<LogInfo> {
        self.lock().iter().cloned().collect()
    }

    /// Records with a lower sequence number may be gone, or are about to go; none with this or a higher one is.
    pub(crate) fn oldest_seq(&self) -> SeqNum {
        *self.oldest_seq.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise_oldest_seq(&self, to: SeqNum) {
        let mut oldest = self.oldest_seq.lock().unwrap_or_else(PoisonError::into_inner);
        *oldest = to.max(*oldest);
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
            // ORDER: CK3. Below CHECKPOINT's lowest since they were deleted, so no sync of the directory is needed: names that come back are removed.
            if let Err(error) = storage.unlink(&name) {
                warn!(%error, "wal.delete_failed");
            }
        }
    }

    /// How many deleted logs wait to be used again.
    pub(crate) fn spare_count(&self) -> usize {
        self.spares().len()
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

/// What CHECKPOINT says about who needs logs. Changed only under the deletion's lock.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) flushed: Flushed,
    dropped: BTreeSet<FamilyId>,
    pub(crate) holds: BTreeMap<String, Hold>,
}

impl Claims {
    fn of(content: Checkpoint) -> Self {
        Self { flushed: content.flushed, dropped: content.dropped, holds: content.holds }
    }
}

/// A change of the claims that is being made; nobody else changes them or deletes meanwhile.
pub(crate) struct Deciding<'a> {
    unlinks: MutexGuard<'a, Unlinks>,
    /// The newest sequence number issued.
    pub(crate) newest: Option<SeqNum>,
    frontier: LogNumber,
    pub(crate) claims: Claims,
}

/// What a look at the keepers gave.
struct Released {
    /// How many logs may go, oldest first.
    gone: usize,
    /// The lowest number that is left.
    lowest: LogNumber,
    /// Keepers that went over their budget.
    dropped: u64,
}

/// Whether each family is flushed as far as it goes.
pub(crate) fn are_flushed(families: &BTreeMap<FamilyId, SeqNum>, flushed: &Flushed) -> bool {
    families.iter().all(|(family, last)| flushed.get(family).is_some_and(|through| through >= last))
        || seeded_bug!(DeletesUnflushed) && families.keys().any(|family| flushed.contains_key(family))
}

/// The logs of which everything is flushed, as many ranges of them as CHECKPOINT has room for. One that was skipped was flushed before, and marks only
/// grow.
pub(crate) fn flushed_logs(logs: &[LogInfo], flushed: &Flushed) -> Vec<LogRange> {
    let is_flushed = |info: &LogInfo| {
        are_flushed(&info.families, flushed)
            || seeded_bug!(ListsUnflushed) && info.families.keys().any(|family| flushed.contains_key(family))
    };
    let alike = logs.chunk_by(|one, next| is_flushed(one) == is_flushed(next));
    let ranges = alike.filter_map(|alike| {
        let (first, last) = (alike.first()?, alike.last()?);
        is_flushed(first).then_some(LogRange { first: first.log, last: last.log })
    });
    ranges.take(FLUSHED_RANGES_MAX).collect()
}

/// Whether the engine does not need a log behind which the frontier stands. What lies below the floor was given up by a deletion whose update failed,
/// and the marks of families that were dropped may have gone with it.
pub(crate) fn may_go(info: &LogInfo, lowest: LogNumber, flushed: &Flushed) -> bool {
    info.log < lowest || are_flushed(&info.families, flushed)
}

/// The oldest logs, as many as the engine does not need any more.
pub(crate) fn unneeded<'a>(
    old: impl IntoIterator<Item = &'a LogInfo>,
    frontier: LogNumber,
    lowest: LogNumber,
    flushed: &Flushed,
) -> Vec<&'a LogInfo> {
    // INVARIANT: G2, CK7. Oldest first and without a gap, never the log that holds the frontier or what comes after it. The floor is not above that.
    let unneeded = |info: &&LogInfo| {
        (info.log < frontier || seeded_bug!(DeletesFrontier)) && may_go(info, lowest, flushed)
    };
    old.into_iter().take_while(unneeded).collect()
}

impl Inner {
    /// Records that families are flushed, durably, and deletes the logs that nobody needs any more.
    pub(crate) fn mark_flushed(self: &Arc<Self>, marks: &[(FamilyId, SeqNum)]) -> Result<Deletion> {
        for given in marks.iter().map(|(_, given)| *given).collect::<BTreeSet<_>>() {
            self.check_ends_record(given)?;
        }
        let mut deciding = self.decide_deletion()?;
        let newest = deciding.newest;
        let Claims { flushed, dropped, .. } = &mut deciding.claims;
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
            // It is there again.
            dropped.remove(&family);
        }
        self.carry_out(deciding)
    }

    /// Records that nothing of a family is needed any more, durably, and deletes the logs that nobody needs any more.
    pub(crate) fn drop_family(self: &Arc<Self>, family: FamilyId) -> Result<Deletion> {
        let mut deciding = self.decide_deletion()?;
        let Some(newest) = deciding.newest else { return Ok(Deletion::default()) };
        let Claims { flushed, dropped, .. } = &mut deciding.claims;
        if !flushed.contains_key(&family) && flushed.len() >= FAMILIES_MAX {
            return Err(Error::TooManyFamilies { family });
        }
        flushed.insert(family, newest);
        dropped.insert(family);
        self.carry_out(deciding)
    }

    /// The logs that the engine does not need any more, oldest first.
    pub(crate) fn unneeded(&self) -> Vec<LogNumber> {
        let Ok((_, frontier)) = self.check_open() else { return Vec::new() };
        let Checkpoint { lowest, flushed, .. } = self.checkpoint.content();
        unneeded(self.retention.lock().iter(), frontier, lowest, &flushed)
            .iter()
            .map(|info| info.log)
            .collect()
    }

    /// Deletes the logs that nobody needs any more, if there are any.
    pub(crate) fn delete_unneeded(&self) -> Result<Deletion> {
        let deciding = self.decide_deletion()?;
        if deciding.unlinks.queue.is_empty() && !self.any_unneeded(deciding.frontier) {
            return Ok(Deletion::default());
        }
        let mut claims = deciding.claims.clone();
        let released = self.release(deciding.frontier, &mut claims);
        if deciding.unlinks.queue.is_empty() && released.gone == 0 && released.dropped == 0 {
            return Ok(Deletion::default());
        }
        self.carry_out_release(Deciding { claims, ..deciding }, &released)
    }

    /// Asks for [`Inner::delete_unneeded`] if there is something to delete: the caller is not one to wait for a disk.
    pub(crate) fn delete_later(self: &Arc<Self>) {
        let Ok((_, frontier)) = self.check_open() else { return };
        if self.any_unneeded(frontier) {
            self.housekeeper.delete(self);
        }
    }

    fn any_unneeded(&self, frontier: LogNumber) -> bool {
        let Checkpoint { lowest, flushed, .. } = self.checkpoint.content();
        !unneeded(self.retention.lock().iter().take(1), frontier, lowest, &flushed).is_empty()
    }

    /// Begins a change of the claims.
    pub(crate) fn decide_deletion(&self) -> Result<Deciding<'_>> {
        let unlinks = self.retention.deletion();
        let (newest, frontier) = self.check_open()?;
        Ok(Deciding { unlinks, newest, frontier, claims: Claims::of(self.checkpoint.content()) })
    }

    /// Decides what goes under the new claims, makes them durable, and deletes.
    pub(crate) fn carry_out(self: &Arc<Self>, mut deciding: Deciding<'_>) -> Result<Deletion> {
        let released = self.release(deciding.frontier, &mut deciding.claims);
        let deletion = self.carry_out_release(deciding, &released)?;
        // What was flushed was not enough: on with the next.
        if released.gone > 0 {
            self.pressure_later();
        }
        Ok(deletion)
    }

    fn carry_out_release(&self, deciding: Deciding<'_>, released: &Released) -> Result<Deletion> {
        let span = info_span!("wal.gc", path = %self.storage.path().display(), logs = released.gone);
        let _entered = span.enter();
        let Deciding { mut unlinks, claims, .. } = deciding;
        let gone = released.gone;
        if seeded_bug!(UnlinkBeforeFloor) {
            for info in self.retention.lock().iter().take(gone) {
                self.storage.unlink(&names::log_name(info.log))?;
            }
        }
        // ORDER: CK3. Both slots know the new floor before a file goes: a file that comes back after a crash is below it, and a log
        // that is gone is not missing. The holds that were dropped go with it: no owner finds his hold whole and his logs gone.
        self.update_checkpoint(|content| {
            let Claims { flushed, dropped, holds } = claims;
            (content.flushed, content.dropped, content.holds) = (flushed, dropped, holds);
            content.lowest = if gone == 0 { content.lowest } else { content.lowest.max(released.lowest) };
        })?;
        // Rotations only append, so what was counted is still in front.
        let gone = self.retention.lock().drain(..gone).collect::<Vec<_>>();
        unlinks.queue.extend(gone.into_iter().map(|info| Unlink {
            name: names::log_name(info.log),
            log: Some((info.log, info.bytes)),
            // INVARIANT: R6. A log that still waits for its seal is written to.
            reusable: info.state == LogState::Sealed || seeded_bug!(UnsealedReused),
        }));
        let deletion = self.unlink(&mut unlinks);
        drop(unlinks);
        self.update_gauges();
        Ok(deletion)
    }

    /// Which logs may go, as far as the engine, the holds in `claims` and the pins are concerned. Holds and pins over their budget are dropped,
    /// and so are marks of dropped families that no log needs any more. From then on no pin and no new hold can keep what goes.
    fn release(&self, frontier: LogNumber, claims: &mut Claims) -> Released {
        let lowest_before = self.checkpoint.content().lowest;
        let active = self.commit.lock().active.families.clone();
        let old = self.retention.lock();
        let unneeded = unneeded(old.iter(), frontier, lowest_before, &claims.flushed);
        let (mut gone, mut dropped) = (unneeded.len(), 0);
        for (name, hold) in claims.holds.iter_mut().filter(|(_, hold)| !hold.lost) {
            let Some((first, bytes)) = holds::charged(hold, &unneeded) else { continue };
            if seeded_bug!(HoldIgnored) {
                continue;
            }
            match hold.budget.filter(|_| !seeded_bug!(HoldBudgetIgnored)) {
                Some(budget) if bytes > budget => {
                    warn!(kind = "hold", %name, from = hold.from.get(), bytes, budget, "wal.keeper_dropped");
                    hold.lost = true;
                    dropped += 1;
                }
                _ => gone = gone.min(first),
            }
        }
        let mut pins = self.keepers.lock();
        let (unpinned, dropped_pins) = pins.release(&unneeded);
        gone = gone.min(unpinned);
        dropped += dropped_pins;
        // An earlier deletion that failed may have told the disk already.
        gone = gone.max(old.iter().take_while(|info| info.log < lowest_before).count());
        // All behind the active log may go, and then the frontier lies in that one.
        let lowest = old.get(gone).map_or(frontier, |info| info.log);
        if gone > 0 {
            pins.raise_floor(lowest);
            let last = old.iter().take(gone).rev().find_map(|info| info.seqs);
            if let Some(next) = last.and_then(|seqs| seqs.last().next()) {
                self.retention.raise_oldest_seq(next);
            }
        }
        let left = || old.iter().skip(gone);
        // Whatever is in a log that was skipped is left out of the next replay only because of its mark.
        let any_skipped = left().any(|info| info.skipped && info.records > 0);
        let any_skipped = any_skipped && !seeded_bug!(SkippedLogsHoldNothing);
        let Claims { flushed, dropped: families, .. } = claims;
        families.retain(|family| {
            let here = left().map(|info| &info.families).chain([&active]);
            let unknown = any_skipped && self.retention.marked_at_open.contains(family);
            let needed = unknown || here.into_iter().any(|families| families.contains_key(family));
            if !needed {
                flushed.remove(family);
            }
            needed
        });
        self.metrics.dropped_keepers.increment(dropped);
        Released { gone, lowest, dropped }
    }

    /// Removes what is not needed, oldest first. A failure stops it there, so that what is left stays without a gap (G5), and is no failure of
    /// the call: the marks are durable.
    fn unlink(&self, unlinks: &mut Unlinks) -> Deletion {
        let _at_disk = self.commit.at_disk(DiskWork::Delete);
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
                self.metrics.deleted_bytes.increment(bytes);
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
