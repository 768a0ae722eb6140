//! A follower in the process that writes.

use std::pin::Pin as Pinned;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use wal_format::{Epoch, Index, LogNumber};

use crate::error::{Error, Result};
use crate::follow::chain::{After, Chain, Opened};
use crate::follow::cursor::{Cursor, Open};
use crate::follow::recent::RecentSource;
use crate::follow::registry::Registered;
use crate::follow::{FollowFrom, is_gone};
use crate::inner::Inner;
use crate::keepers::{KeeperKind, Pin};
use crate::record::{Durability, Position};
use crate::replay::RecoveredRecord;
use crate::report::Reason;
use crate::watch::Watch;

/// How often it looks again when logs are deleted while it looks.
const ATTEMPTS_MAX: usize = 8;

/// Follows an open log: hands out each durable record once, in order of the indices, whatever rotates, fails, is resumed or deleted meanwhile. See
/// [`Wal::follow`](crate::Wal::follow).
///
/// As an iterator it blocks until the next record is durable, and ends when the log was closed or dropped, behind the last durable record. It
/// wakes when the frontier moves, without polling, and asks nobody to sync. After an error it may be asked again: a log that failed and was
/// resumed goes on where it was, and so does its follower; behind a [`Error::Gap`] it does not.
///
/// Like a [`Watch`] it keeps the directory of a log that was dropped and not closed locked.
#[derive(Debug)]
pub struct Follower {
    watch: Watch,
    cursor: Cursor,
    hold: Option<Pin>,
    place: Registered,
}

impl Follower {
    pub(crate) fn new(inner: Arc<Inner>, from: FollowFrom) -> Result<Self> {
        let cursor = Cursor::new(Arc::clone(&inner.storage), inner.wal_id, from);
        let place = Registered::new(Arc::clone(&inner));
        let mut follower = Self { watch: Watch::new(inner, Index::default()), cursor, hold: None, place };
        if let Err(error) = follower.persist(Self::begin) {
            if matches!(error, Error::Gap { .. }) {
                follower.place.gap();
            }
            return Err(error);
        }
        follower.stands();
        Ok(follower)
    }

    /// Keeps the logs that are still to be read from being deleted, from the one that is being read on, as long as they hold no more than
    /// `budget_bytes` that nobody else needs; `None` for as many as there are. Over its budget the hold is dropped, and [`Follower::is_held`] says so:
    /// what is left can still be read, and then comes [`Error::Gap`]. `name` is what people see who ask who keeps a log.
    #[must_use]
    pub fn hold(mut self, name: &str, budget_bytes: impl Into<Option<u64>>) -> Self {
        let (log, _) = self.cursor.place();
        self.hold = Some(self.watch.inner().pin(KeeperKind::Follower, name, log, budget_bytes.into()));
        self
    }

    /// Whether everything that is still to be read is kept: there is a hold, and it was not dropped.
    pub fn is_held(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| !hold.lost())
    }

    /// The next record if one is durable; `None` if there is none yet, and also at the end of a log that was closed.
    ///
    /// # Errors
    /// [`Error::Gap`] if what comes next was deleted, and never a record behind it; or a file cannot be read, or is damaged. The failure of the
    /// log itself is told by who waits.
    ///
    /// # Durability
    /// What is handed out survives a power cut, and so does everything before it.
    pub fn try_next(&mut self) -> Result<Option<RecoveredRecord>> {
        let next = self.try_next_uncounted();
        if let Err(Error::Gap { .. }) = next {
            self.place.gap();
        }
        next
    }

    fn try_next_uncounted(&mut self) -> Result<Option<RecoveredRecord>> {
        loop {
            match self.cursor.read() {
                Ok(Some(record)) => {
                    self.place.has_read(record.index);
                    return Ok(Some(record));
                }
                Ok(None) => {
                    if !self.persist(Self::go_on)? {
                        self.stands();
                        return Ok(None);
                    }
                }
                // A log that was unlinked is read to its end, and one that became another is not: what comes next may stand behind it.
                Err(gap @ Error::Gap { .. }) => {
                    self.persist(Self::pass_over).map_err(|error| error.or_earlier_gap(gap))?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Everything before the record that comes next is behind it: where it waits for one that is not there yet, everything is.
    fn stands(&mut self) {
        let behind = match &self.cursor.open {
            Some(open) => Index::new(open.next_index().get().saturating_sub(1)),
            None => self.watch.inner().commit.lock().durable.index,
        };
        self.place.has_read(behind);
        self.place.tell();
    }

    /// The next record for who may not block: with any executor, and with none. Files are read in here, as far as they are not in the system's
    /// cache. `None` at the end of a log that was closed or dropped.
    ///
    /// # Errors
    /// As for [`Follower::try_next`]; or the log failed.
    ///
    /// # Durability
    /// As for [`Follower::try_next`].
    pub async fn next_async(&mut self) -> Option<Result<RecoveredRecord>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The same, one look at a time.
    ///
    /// # Errors
    /// As for [`Follower::next_async`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecoveredRecord>>> {
        loop {
            match self.try_next().transpose() {
                None => {}
                next => return Poll::Ready(next),
            }
            self.watch_next();
            match ready!(self.watch.poll_changed(context)) {
                Ok(_) => {}
                Err(Error::Closed) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// The same as a [`Stream`](futures_core::Stream).
    pub fn into_stream(self) -> FollowerStream {
        FollowerStream(self)
    }

    /// The watch is to wake for the record that comes next.
    fn watch_next(&mut self) {
        if let Some(open) = &self.cursor.open {
            self.watch.look_behind(Index::new(open.next_index().get().saturating_sub(1)));
        }
    }

    /// Again, as long as logs are deleted between the looks.
    fn persist<T>(&mut self, mut look: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        for _ in 1..ATTEMPTS_MAX {
            match look(self) {
                Err(error) if is_gone(&error) => {}
                done => return done,
            }
        }
        look(self)
    }

    /// The frontier, and the logs up to it, oldest first.
    fn frontier(&self) -> (Position, Vec<LogNumber>) {
        let inner = self.watch.inner();
        let state = inner.commit.lock();
        let durable = if seeded_bug!(FollowerSeesWritten) { state.written } else { state.durable };
        drop(state);
        let old = inner.retention.old().into_iter().map(|info| info.log);
        let logs = old.filter(|log| *log < durable.log).chain([durable.log]).collect();
        (durable, logs)
    }

    fn begin(&mut self) -> Result<bool> {
        let (durable, logs) = self.frontier();
        let found = self.among(&logs).find(self.cursor.from, Some(durable))?;
        self.cursor.open = found.map(|(file, place)| Open::new(self.with_recent(file), place));
        Ok(self.cursor.open.is_some())
    }

    /// What was just written to the log is read from memory.
    fn with_recent(&self, opened: Opened) -> Opened {
        let recent = Arc::clone(self.watch.inner().commit.recent());
        Opened { source: Arc::new(RecentSource { recent, log: opened.log, file: opened.source }), ..opened }
    }

    fn among<'a>(&'a self, logs: &'a [LogNumber]) -> Chain<'a> {
        let (storage, wal_id) = (&*self.cursor.storage, self.cursor.wal_id);
        Chain { storage, wal_id, logs, epoch: Epoch::new(u64::MAX) }
    }

    /// Finds out how far this log may be read by now, or goes over to the next one; `false` if there is no more.
    fn go_on(&mut self) -> Result<bool> {
        let Some(open) = &mut self.cursor.open else { return self.begin() };
        let commit = &self.watch.inner().commit;
        if !commit.has_reached(open.next_index(), Durability::Synced) && !seeded_bug!(FollowerSeesWritten) {
            return Ok(false);
        }
        let log = open.file.log;
        let (durable, logs) = self.frontier();
        let after = if durable.log == log { None } else { Some(self.among(&logs).after(log)?) };
        let Some(open) = &mut self.cursor.open else { return Ok(false) };
        let end = match &after {
            // INVARIANT: W1. Up to the frontier and not a byte further; a log that is not written any more, up to where its successor says that it ends.
            None => durable.offset,
            Some(After::Next(next)) => next.header.predecessor.map_or(0, |before| before.end),
            // It has no records, and so the chain leaves it out.
            Some(After::Abandoned) if open.reader.records() == 0 => {
                self.begin()?;
                return Ok(self.cursor.place().0 != log);
            }
            Some(_) => return self.pass_over(),
        };
        let read_to = open.reader.end();
        match after {
            _ if end > read_to => open.reader.extend(end),
            None if seeded_bug!(FollowerSeesWritten) => return Ok(false),
            Some(After::Next(_)) if seeded_bug!(FollowerSleepsAtRotation) => return Ok(false),
            Some(After::Next(next)) if end == read_to => {
                let crossed = next.log;
                let next = self.with_recent(next);
                self.cursor.cross(next)?;
                if let Some(hold) = &self.hold {
                    hold.advance(crossed);
                }
            }
            // There is a durable record that no log holds.
            _ => return Err(self.cursor.changed(Reason::Short { expected: end, found: read_to })),
        }
        Ok(true)
    }

    /// What comes after this log was deleted: goes on where the next record is.
    fn pass_over(&mut self) -> Result<bool> {
        let (log, offset) = self.cursor.place();
        if seeded_bug!(FollowerJumpsGap) {
            self.cursor.from = FollowFrom::Oldest;
            return self.begin();
        }
        // INVARIANT: W4. While a log is open nothing durable is given up: an index is always the same record.
        self.cursor.from = self.cursor.wanted();
        self.begin().map_err(|error| error.of_gap_behind(log))?;
        let (there, _) = self.cursor.place();
        if there <= log {
            let reason = Reason::Short { expected: offset.saturating_add(1), found: offset };
            return Err(self.cursor.changed(reason));
        }
        if let Some(hold) = &self.hold {
            hold.advance(there);
        }
        Ok(true)
    }
}

impl Iterator for Follower {
    type Item = Result<RecoveredRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.try_next().transpose() {
                None => {}
                next => return next,
            }
            self.watch_next();
            match self.watch.wait() {
                Ok(_) => {}
                Err(Error::Closed) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A [`Follower`] as a stream, for whatever executor there is.
#[derive(Debug)]
pub struct FollowerStream(Follower);

impl futures_core::Stream for FollowerStream {
    type Item = Result<RecoveredRecord>;

    fn poll_next(mut self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(context)
    }
}
