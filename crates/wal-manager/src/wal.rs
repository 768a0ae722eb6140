//! The open log.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tracing::warn;
use wal_format::{FamilyId, Index, SeqNum};
use wal_io::Storage;

use crate::error::Result;
use crate::follow::{FollowFrom, Follower};
use crate::housekeeping::Work;
use crate::inner::{Inner, Parts};
use crate::options::Options;
use crate::record::{Appended, Durability, Position, Record};
use crate::retention::{Deletion, LogInfo};
use crate::rotate::SealedLog;
use crate::ticket::Ticket;
use crate::watch::Watch;

/// An open write-ahead log: appends, syncs, rotates, deletes. It comes out of a [`Recovery`](crate::Recovery).
///
/// # Durability
/// See the table in the [crate documentation](crate). Dropping a log that was not closed loses nothing that was acknowledged at
/// `Written` or `Synced`; what was only `Buffered` is lost, as it would be if the process died, and a warning says so.
///
/// # Concurrency
/// Every method may be called from many threads; share the log in an [`Arc`].
#[derive(Debug)]
pub struct Wal {
    inner: Arc<Inner>,
}

impl Wal {
    /// Options for a log in the directory `path`.
    pub fn options(path: impl Into<PathBuf>) -> Options {
        Options::in_directory(path.into())
    }

    /// Options for a log on any storage: [`MemStorage`](wal_io::mem::MemStorage), the crashable
    /// [`SimStorage`](wal_io::sim::SimStorage), or your own.
    pub fn options_on(storage: Arc<dyn Storage>) -> Options {
        Options::on_storage(storage)
    }

    /// What the log shares with its readers and tickets.
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// # Errors
    /// There is no thread for what the options ask for.
    pub(crate) fn start(parts: Parts) -> Result<Self> {
        Ok(Self { inner: Inner::start(parts)? })
    }

    /// Appends a record and waits for the level of [`Options::durability`] (`Synced` unless you chose another).
    ///
    /// # Errors
    /// The input is refused, and nothing was written; there is no room ([`Error::Full`](crate::Error::Full)), or a rotation by size failed, and nothing was
    /// written; or the log is poisoned or closed, and the record may or may not be there after the next recovery. A log that a full disk has
    /// poisoned goes on by itself once there is space.
    ///
    /// # Durability
    /// At `Synced` the record, and every record before it, survives a power cut once this returns.
    ///
    /// # Concurrency
    /// Threads that append at the same time share writes and syncs; a lone one pays one of each, at once.
    pub fn append<'a>(&self, record: impl Into<Record<'a>>) -> Result<Appended> {
        self.append_with(record, self.inner.durability)
    }

    /// Appends a record and waits for `durability`.
    ///
    /// # Errors
    /// As for [`Wal::append`].
    ///
    /// # Durability
    /// As `durability` says.
    ///
    /// # Concurrency
    /// As for [`Wal::append`]. A call at a lower level waits for no sync, as long as less than four times [`Options::sync_bytes`] is not durable.
    pub fn append_with<'a>(&self, record: impl Into<Record<'a>>, durability: Durability) -> Result<Appended> {
        self.inner.append(&record.into(), durability)
    }

    /// Orders a record and returns at once; the ticket waits for its durability.
    ///
    /// # Errors
    /// As for [`Wal::append`], except that nothing that happens later is reported here.
    ///
    /// # Durability
    /// None yet: see [`Ticket::wait`] and [`Wal::sync`].
    ///
    /// # Concurrency
    /// Does not wait for the disk, but where memory and logs are bounded: who finds a full group writes it, who finds the log full begins the next
    /// one, and where four times [`Options::sync_bytes`] are not durable it waits for a sync; with [`Options::cap_wait`], also for room.
    pub fn submit<'a>(&self, record: impl Into<Record<'a>>) -> Result<Ticket> {
        self.inner.submit(&record.into())
    }

    /// Appends a mark: a record of kind [`RecordKind::MARK`](crate::RecordKind::MARK) to which a restore can go ([`RestorePoint::Mark`](crate::RestorePoint::Mark)). It takes one
    /// sequence number, of family 0; see [`Record::mark`] to give it others. Replay hands it out like any record.
    ///
    /// # Errors
    /// As for [`Wal::append`]; a name has at least one byte.
    ///
    /// # Durability
    /// As for [`Wal::append`].
    ///
    /// # Concurrency
    /// As for [`Wal::append`].
    pub fn mark(&self, name: &str) -> Result<Appended> {
        self.append(Record::mark(name))
    }

    /// Makes everything that was accepted so far durable, whatever its level, and returns the frontier.
    ///
    /// # Errors
    /// The log is poisoned or closed; or a full disk has stopped it and is full still ([`Error::Full`](crate::Error::Full)).
    ///
    /// # Durability
    /// Everything that was accepted before the call, and everything in logs before it, survives a power cut when this returns.
    ///
    /// # Concurrency
    /// Blocks for the group that is at the disk and for its own, or not at all if everything is durable. Threads that sync at the same time share
    /// one; appends go on and form the next group.
    pub fn sync(&self) -> Result<Position> {
        self.inner.go_on_if_stopped()?;
        self.inner.commit.sync()
    }

    /// Closes the active log and begins the next; call it when a memtable is sealed. `None` if the active log holds no record.
    ///
    /// # Errors
    /// The next file could not be made, or there are as many logs as there may be ([`Error::Full`](crate::Error::Full)): the old one goes on, and the next call
    /// tries again. Or the log is poisoned or closed.
    ///
    /// # Durability
    /// Everything in the closed log is durable when this returns.
    ///
    /// # Concurrency
    /// One at a time. If the next file was not made ahead, appends go on while it is made. They wait while what was accepted is synced and the log
    /// is switched.
    pub fn rotate(&self) -> Result<Option<SealedLog>> {
        self.inner.rotate_on_request()
    }

    /// Records that every operation of `family` up to `seq` is durable elsewhere, and deletes the logs that nobody needs any more.
    ///
    /// # Errors
    /// `seq` was never appended or goes back, or stands inside a record ([`Error::InsideRecord`](crate::Error::InsideRecord): a record of several numbers is flushed as a whole, in each of
    /// its families); or a log could not be read to find that out; nothing was changed then. Or the log is closed, or poisoned by anything but a full disk; or CHECKPOINT could not be written: then nothing was deleted, and the
    /// mark, which is true all the same, may be recorded with a later update. A failed unlink is no error: it is tried again.
    ///
    /// # Durability
    /// The mark is durable when this returns: replay skips what it covers.
    ///
    /// # Concurrency
    /// Blocks for the syncs of CHECKPOINT: call it in the thread that flushes. Marks and deletions come one after the other; appends go on.
    pub fn mark_flushed(&self, family: FamilyId, seq: SeqNum) -> Result<Deletion> {
        self.mark_flushed_all(&[(family, seq)])
    }

    /// [`Wal::mark_flushed`] for several families in one step.
    ///
    /// # Errors
    /// As for [`Wal::mark_flushed`]; if one of the marks is refused, no family is marked.
    ///
    /// # Durability
    /// As for [`Wal::mark_flushed`].
    ///
    /// # Concurrency
    /// As for [`Wal::mark_flushed`]; several marks at one number cost as much as one.
    pub fn mark_flushed_all(&self, marks: &[(FamilyId, SeqNum)]) -> Result<Deletion> {
        self.inner.release_window();
        Ok(self.inner.then_archive(self.inner.mark_flushed(marks)?))
    }

    /// Records that nothing of `family` that was appended so far is needed any more, and deletes the logs that nobody needs any more. Replay skips
    /// those records. The family may appear again later. Its mark goes with the last log that holds a record of it, so that marks stay few.
    ///
    /// # Errors
    /// The log is poisoned or closed; or CHECKPOINT has no room, or could not be written, as for [`Wal::mark_flushed`].
    ///
    /// # Durability
    /// The family is dropped for good when this returns.
    ///
    /// # Concurrency
    /// As for [`Wal::mark_flushed`].
    pub fn drop_family(&self, family: FamilyId) -> Result<Deletion> {
        self.inner.release_window();
        Ok(self.inner.then_archive(self.inner.drop_family(family)?))
    }

    /// The sequence number up to which everything of `family` is flushed.
    pub fn flushed(&self, family: FamilyId) -> Option<SeqNum> {
        self.inner.checkpoint.content().flushed.get(&family).copied()
    }

    /// The frontier: everything before it, in every log, is durable. It only grows.
    pub fn durable(&self) -> Position {
        self.inner.commit.lock().durable
    }

    /// Waits until the frontier is behind the record `index`, and returns it. Nobody is asked to sync: see [`Wal::sync`] and
    /// [`Options::sync_interval`](crate::Options::sync_interval).
    ///
    /// # Errors
    /// The log has failed, or was closed, before that.
    ///
    /// # Concurrency
    /// Blocks, for ever if nobody syncs.
    pub fn wait_durable(&self, index: Index) -> Result<Position> {
        self.inner.commit.wait_durable(index)
    }

    /// A watch on the frontier from where it is now: to wait for, or to await.
    pub fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.inner), self.durable().index)
    }

    /// Follows the log from a record on: hands out each record once it is durable, in order, whatever rotates, fails and is resumed meanwhile. The
    /// logs that it reads are kept only if it [holds](Follower::hold) them. From another process: [`Options::follow`](crate::Options::follow).
    ///
    /// # Errors
    /// What `from` asks for was deleted: [`Error::Gap`](crate::Error::Gap). Or a file cannot be read.
    ///
    /// # Concurrency
    /// Any number of followers may read beside the writers; none of them holds an append up.
    pub fn follow(&self, from: FollowFrom) -> Result<Follower> {
        Follower::new(Arc::clone(&self.inner), from)
    }

    /// Goes on after a failure, once its cause is mended, without opening the directory again. Every record that was accepted and is not
    /// known to be durable is written again into a new log, once, with its index, and is durable when this returns: those that were
    /// acknowledged at a lower level, those that nobody waited for, and those whose waiters were given the failure. An error from an append
    /// means that nothing is known about its record; after this, the frontier that is returned tells. If the log has not failed, nothing is done.
    ///
    /// # Errors
    /// It still fails: mend the cause and call again. Or the log was closed; or a thread panicked in the middle of a change, and only opening the
    /// directory again helps.
    ///
    /// # Durability
    /// If the log had failed, everything that was accepted is durable when this succeeds.
    ///
    /// # Concurrency
    /// Appends, syncs and rotations wait until it has succeeded or failed.
    pub fn resume(&self) -> Result<Position> {
        self.inner.resume()
    }

    /// The highest sequence number that was ever issued, as far as is known; `None` if there is none.
    pub fn last_seq(&self) -> Option<SeqNum> {
        let floor = self.inner.commit.lock().seq_floor;
        floor.get().checked_sub(1).map(SeqNum::new)
    }

    /// The live logs, oldest first, the active one last.
    pub fn logs(&self) -> Vec<LogInfo> {
        self.inner.logs()
    }

    /// Does now, in this thread, what the background would do: makes the next log ahead, so that the next rotation finds it ready, and deletes logs
    /// whose last keeper has gone meanwhile. For logs that were opened without a background ([`Options::background`]); call it when there is
    /// time.
    ///
    /// # Errors
    /// The next file could not be made, as for [`Wal::rotate`]; the rotation that needs it tries again. Or CHECKPOINT could not be written, and
    /// nothing was deleted, as for [`Wal::mark_flushed`].
    ///
    /// # Concurrency
    /// May be called beside everything else, from one thread or several. Blocks for the I/O that it does.
    pub fn housekeep(&self) -> Result<()> {
        while let Some(work) = self.inner.housekeeper.take() {
            self.inner.do_work(work)?;
        }
        let prepared = self.inner.do_work(Work::Prepare);
        self.inner.watch_keepers();
        prepared
    }

    /// Makes everything durable, seals the log and records the clean end; the lock is free when this returns, also after a failure.
    /// Later calls fail with [`Error::Closed`](crate::Error::Closed), or with the failure that came before.
    ///
    /// # Errors
    /// The first failure of the log, if it had one; or the end could not be recorded, and the next open is a recovery after a crash that
    /// loses nothing.
    ///
    /// # Durability
    /// Everything that was accepted is durable if this succeeds.
    ///
    /// # Concurrency
    /// Waits for whoever is at the disk, and for the threads of the log. Appends at the same time are accepted, and then durable, or fail.
    pub fn close(&self) -> Result<()> {
        self.inner.housekeeper.stop();
        let closed = self.inner.close();
        // INVARIANT: X1. Without the lock nothing of this log touches the directory: who is at work ends first, nobody begins any more.
        self.inner.commit.shut();
        self.inner.commit.background().stop(&self.inner.commit);
        self.inner.retention.wait_for_deletion();
        if let Some(archive) = &self.inner.archive {
            archive.close();
        }
        self.inner.commit.watchdog().stop();
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        closed
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.inner.housekeeper.stop();
        let mut state = self.inner.commit.lock();
        state.dropped = true;
        let undurable = state.accepted.index.get().saturating_sub(state.durable.index.get());
        if undurable > 0 {
            warn!(records = undurable, "wal.dropped_undurable: close the log, or sync, before it is dropped");
        }
        drop(state);
        // Whoever watches: the frontier may not move any more.
        self.inner.commit.wake_everybody();
        self.inner.commit.wake_awaiting();
    }
}
