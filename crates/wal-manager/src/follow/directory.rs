//! A follower of a directory that somebody else writes, in another process or in this one: without the lock, and by looking again and again.

use std::sync::Arc;
use std::time::Duration;

use wal_format::checkpoint::Checkpoint;
use wal_format::{LogNumber, WalId};
use wal_io::Storage;

use crate::clock::Bell;
use crate::error::{Error, Result};
use crate::follow::chain::{After, Chain};
use crate::follow::cursor::{Cursor, Open};
use crate::follow::{FollowFrom, is_gone};
use crate::inspect::{self, Inspection};
use crate::names;
use crate::options::Options;
use crate::read::{Item, LogReader, Place, Stop};
use crate::replay::RecoveredRecord;
use crate::report::{Reason, Verdict};
use crate::window::WINDOW_BYTES;

/// How often a follower of a directory looks for more, if there was nothing more: 100 ms, soon for a person and seldom for a disk.
pub const POLL_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);

/// How far it reads ahead of what it hands out, to find out what is proven, before it hands some of that out: a window.
const SCOUT_BYTES: u64 = WINDOW_BYTES as u64;

/// How often it looks again at once when the directory changes while it looks.
const ATTEMPTS_MAX: usize = 8;

/// Follows a directory without the lock: hands out each record once, in order of the indices, as soon as the log itself proves that it is
/// durable. See [`Options::follow`].
///
/// As an iterator it blocks, looks again after each interval ([`DirectoryFollower::poll_interval`]), and never ends: also a log that was
/// closed may be opened again and go on. It changes nothing in the directory, keeps nothing from being deleted, and is told with [`Error::Gap`]
/// if that goes past it.
///
/// # What is seen when
/// A group of records is proven by the group after it, by a rotation, by [`Wal::close`](crate::Wal::close), or by the log itself when it has been
/// idle ([`Options::idle_promise`]). So the last group of a writer that pauses is seen after at most twice that time and an interval. One that
/// died without closing leaves a last group that nothing proves: it is seen when the next writer has opened the directory and made it durable.
#[derive(Debug)]
pub struct DirectoryFollower {
    cursor: Cursor,
    options: Options,
    interval: Duration,
    /// Where the search for statements goes on, in the log that is being read.
    scouted: Option<Place>,
    suspicion: Option<Suspicion>,
}

/// At every so many looks at the same place, everything is read.
const LOOKS: u32 = 32;

/// Something that only damage explains, unless it is the work of a writer that goes on meanwhile (RD1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspicion {
    log: LogNumber,
    offset: u64,
    /// How often it was met since the first time.
    looks: u32,
}

impl DirectoryFollower {
    pub(crate) fn open(storage: Arc<dyn Storage>, options: &Options, from: FollowFrom) -> Result<Self> {
        let cursor = Cursor::new(storage, WalId::from_bytes([0; 16]), from);
        let (options, interval) = (options.clone(), POLL_INTERVAL_DEFAULT);
        let mut follower = Self { cursor, options, interval, scouted: None, suspicion: None };
        follower.persist(Self::begin)?;
        Ok(follower)
    }

    /// How long the iterator waits before it looks again, if there was nothing more. Default [`POLL_INTERVAL_DEFAULT`].
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The next record if one is proven; `None` if there is none yet.
    ///
    /// # Errors
    /// [`Error::Gap`] if what comes next was deleted, and never a record behind it; also if nothing may be missing, but the log was opened anew since the
    /// one that is being read was written, and those in between were deleted: nobody can tell then. [`Error::ChangedWhileReading`] if a recovery gave up records that
    /// were handed out (point in time, or salvage), and never one of those that got their indices. Damage, which was looked at twice. Or the directory
    /// cannot be read.
    ///
    /// # Durability
    /// What is handed out survives a power cut, and so does everything before it (RD2).
    pub fn try_next(&mut self) -> Result<Option<RecoveredRecord>> {
        loop {
            match self.cursor.read() {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                // What was proven is not there, and was not deleted.
                Err(changed @ Error::ChangedWhileReading { .. }) => {
                    return Err(self.damage()?.unwrap_or(changed));
                }
                // A log that was unlinked is read to its end, and one that became another is not: what comes next may stand behind it.
                Err(gap @ Error::Gap { .. }) => {
                    let (log, _) = self.cursor.place();
                    let passed = self.persist(|this| this.pass_over(log));
                    if !passed.map_err(|error| error.or_earlier_gap(gap))? {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !self.persist(Self::look)? {
                return Ok(None);
            }
        }
    }

    /// Again, as long as logs are deleted between the looks.
    fn persist(&mut self, look: impl Fn(&mut Self) -> Result<bool>) -> Result<bool> {
        for _ in 0..ATTEMPTS_MAX {
            match look(self) {
                Err(error) if is_gone(&error) => {}
                done => return done,
            }
        }
        Ok(false)
    }

    /// Looks for more that is proven; `false` if there is none.
    fn look(&mut self) -> Result<bool> {
        let Some(log) = self.cursor.open.as_ref().map(|open| open.file.log) else { return self.begin() };
        // Of a log that is not written any more, its successor says where it ends: that need not be found out.
        if self.scouted.is_none() && self.go_on(log)? {
            return Ok(true);
        }
        let proven = self.scout()?;
        if let Some(open) = &mut self.cursor.open
            && proven > open.reader.end()
        {
            open.reader.extend(proven);
            return Ok(true);
        }
        self.go_on(log)
    }

    /// How far this log proves itself to be durable: by a promise, or by its seal. Reads no further than to find some that is worth it.
    fn scout(&mut self) -> Result<u64> {
        let Some(open) = &self.cursor.open else { return Ok(0) };
        let place = self.scouted.unwrap_or_else(|| open.reader.place());
        let mut reader =
            LogReader::from_place(Arc::clone(&open.file.source), open.file.seed, place, u64::MAX);
        let read_to = open.reader.end();
        let mut proven = 0;
        let fault = loop {
            if proven > read_to && reader.good_end().saturating_sub(place.offset) >= SCOUT_BYTES {
                break None;
            }
            match reader.next()? {
                Item::Record(_) => {}
                // INVARIANT: RD2. Whoever wrote this had synced what it speaks of, wherever the statement itself stands by now.
                Item::Promise { promise, .. } => proven = proven.max(promise.durable_end),
                Item::Seal { .. } => {
                    proven = reader.good_end();
                    break None;
                }
                Item::Stop(Stop::AtEnd | Stop::EndOfFile) => break None,
                Item::Stop(Stop::Fault(reason)) => break Some(reason),
            }
        };
        if seeded_bug!(FollowerBelievesUnproven) {
            proven = reader.good_end();
        }
        let unwritten = matches!(fault, None | Some(Reason::Chunk(wal_format::chunk::ChunkFault::Zeros)));
        let (log, place) = (open.file.log, reader.place());
        // Behind anything but the end this may have met half a write: the next look begins at what is surely there.
        self.scouted = unwritten.then_some(place);
        if !unwritten {
            self.suspect(log, place.offset)?;
        }
        Ok(proven)
    }

    /// Finds the place of what is wanted; `false` if there is no log yet, or if that is where it is already.
    fn begin(&mut self) -> Result<bool> {
        let (before, handed_out) = (self.cursor.place(), self.cursor.handed_out);
        let (found, _) = self.with_chain(|chain, from| {
            let found = chain.find(from, None)?;
            // INVARIANT: W4. A record is handed out only behind those that were: the index alone does not tell, since a recovery that gives records up
            // uses theirs again.
            if let (Some((file, _)), Some(place)) = (&found, handed_out) {
                chain.check_behind(&file.header, place)?;
            }
            Ok(found)
        })?;
        self.scouted = None;
        self.cursor.open = found.map(|(file, place)| Open::new(file, place));
        Ok(self.cursor.open.is_some() && self.cursor.place() != before)
    }

    /// What a look at the directory gives, and what CHECKPOINT said then.
    fn with_chain<T>(
        &mut self,
        look: impl FnOnce(&Chain<'_>, FollowFrom) -> Result<T>,
    ) -> Result<(T, Checkpoint)> {
        let storage = &*self.cursor.storage;
        let (checkpoint, listing, _) = inspect::snapshot(storage, false)?;
        if self.cursor.open.is_none() && self.cursor.handed_out.is_none() {
            self.cursor.wal_id = checkpoint.wal_id;
        }
        let wal_id = self.cursor.wal_id;
        if checkpoint.wal_id != wal_id {
            let path = storage.path().join(names::CHECKPOINT);
            return Err(Error::Foreign { path, expected: wal_id, found: checkpoint.wal_id });
        }
        let known = checkpoint.lowest..=checkpoint.highest;
        let logs: Vec<_> = listing.logs.into_iter().filter(|log| known.contains(log)).collect();
        let chain = Chain { storage, wal_id, logs: &logs, epoch: checkpoint.epoch };
        Ok((look(&chain, self.cursor.from)?, checkpoint))
    }

    /// This log proves nothing more: the next one may speak of it, or come after it.
    fn go_on(&mut self, log: LogNumber) -> Result<bool> {
        let (after, checkpoint) = self.with_chain(|chain, _| chain.after(log))?;
        let Some(open) = &mut self.cursor.open else { return Ok(false) };
        let read_to = open.reader.end();
        let any = open.reader.records() > 0;
        match after {
            After::Next(next) => {
                let before = next.header.predecessor;
                let (end, proven) = before.map_or((0, 0), |before| (before.end, before.proven));
                if proven.min(end) > read_to {
                    open.reader.extend(proven.min(end));
                } else if end == read_to {
                    self.cursor.cross(next)?;
                    self.scouted = None;
                } else if end < read_to {
                    return self.cut(any);
                } else {
                    return Ok(false);
                }
                Ok(true)
            }
            After::Abandoned => self.cut(any),
            After::Later | After::Nothing if checkpoint.lowest > log => self.pass_over(log),
            After::Later => self.suspect(log, read_to).map(|()| false),
            After::Nothing => {
                // INVARIANT: CK4. CHECKPOINT speaks of no record that is not durable.
                let scouted = self.scouted.and_then(|place| place.next_index);
                if scouted.is_some_and(|next| checkpoint.next_index > next) {
                    self.suspect(log, read_to)?;
                }
                Ok(false)
            }
        }
    }

    /// The log ends before the place where it is being read, or never counted. If no record of it was handed out, the follower looks for its place
    /// again: it began in a tail that nothing proved, or in a log without records.
    ///
    /// # Errors
    /// Some were, or that place does not follow what was handed out before: a recovery gave it up (point in time, or salvage), and what comes next has
    /// indices that were used before.
    fn cut(&mut self, any: bool) -> Result<bool> {
        if any { Err(self.cursor.changed(Reason::OtherContent)) } else { self.begin() }
    }

    /// What comes after `log` was deleted: goes on where the next record is, if that is surely the next.
    fn pass_over(&mut self, log: LogNumber) -> Result<bool> {
        if seeded_bug!(FollowerJumpsGap) {
            (self.cursor.from, self.cursor.open) = (FollowFrom::Oldest, None);
            return self.begin();
        }
        // Nothing that was given up since was handed out, or counted on.
        let free = self.cursor.handed_out.is_none() && self.cursor.from != FollowFrom::Oldest;
        let epoch = self.cursor.open.as_ref().map(|open| open.file.header.epoch);
        let wanted = self.cursor.wanted();
        let (found, checkpoint) =
            self.with_chain(|chain, _| chain.find(wanted, None).map_err(|error| error.of_gap_behind(log)))?;
        match found {
            // INVARIANT: W4. Only a recovery gives up what was proven, and each has an epoch of its own: within one, an index is always the same record.
            Some((file, place)) if file.log > log && (free || Some(file.header.epoch) == epoch) => {
                self.scouted = None;
                self.cursor.open = Some(Open::new(file, place));
                Ok(true)
            }
            _ => Err(Error::Gap { wanted: log.next().unwrap_or(log), oldest: checkpoint.lowest }),
        }
    }

    /// Something looks like damage. Twice in a row at the same place, everything is read.
    fn suspect(&mut self, log: LogNumber, offset: u64) -> Result<()> {
        match self.suspicion.filter(|before| (before.log, before.offset) == (log, offset)) {
            None => self.suspicion = Some(Suspicion { log, offset, looks: 0 }),
            Some(Suspicion { looks, .. }) => {
                // What nothing proves today may be proven later.
                if looks % LOOKS == 0
                    && let Some(damage) = self.damage()?
                {
                    return Err(damage);
                }
                self.suspicion = Some(Suspicion { log, offset, looks: looks.wrapping_add(1) });
            }
        }
        Ok(())
    }

    /// What a whole look says.
    fn damage(&self) -> Result<Option<Error>> {
        let inspection = match Inspection::open(Arc::clone(&self.cursor.storage), &self.options) {
            Err(Error::Restless { .. }) => return Ok(None),
            opened => opened?,
        };
        let report = inspection.report();
        Ok((report.verdict == Verdict::Damaged).then(|| Error::Damaged(Arc::new(report.clone()))))
    }
}

impl Iterator for DirectoryFollower {
    type Item = Result<RecoveredRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        // Nobody rings: it only tells the clock how long.
        let bell = Bell::default();
        loop {
            match self.try_next().transpose() {
                None => {}
                next => return next,
            }
            let clock = &self.options.clock;
            clock.sleep_until(Some(clock.monotonic().saturating_add(self.interval)), &bell);
        }
    }
}
