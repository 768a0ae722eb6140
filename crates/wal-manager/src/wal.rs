//! The open log.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tracing::warn;
use wal_format::checkpoint::Checkpoint;
use wal_format::{Epoch, FamilyId, Index, LogNumber, SeqNum, WalId};
use wal_io::probe::Way;
use wal_io::{Lock, Storage};

use crate::archive::Archive;
use crate::caps::Limits;
use crate::checkpoint::CheckpointFile;
use crate::clock::Clock;
use crate::commit::Commit;
use crate::duplicates::{Duplicates, WindowPin};
use crate::error::Result;
use crate::follow::{FollowFrom, Follower, Followers};
use crate::housekeeping::{Housekeeper, Work};
use crate::keepers::Keepers;
use crate::kept::Stuck;
use crate::metrics::Metrics;
use crate::options::{Files, Options};
use crate::pressure::OnPressure;
use crate::record::{Appended, Durability, Position, Record};
use crate::recovery::stream::Part;
use crate::recovery::{Committed, NewLog};
use crate::retention::{Deletion, LogInfo, LogState, Retention};
use crate::rotate::{Rotation, SealedLog};
use crate::state::{ActiveLog, State};
use crate::sync::{AtomicBool, Mutex};
use crate::ticket::Ticket;
use crate::watch::Watch;
use crate::watchdog::DiskWork;

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

/// What [`Wal`] and its tickets share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) wal_id: WalId,
    pub(crate) epoch: Epoch,
    pub(crate) config_fingerprint: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) commit: Arc<Commit>,
    pub(crate) checkpoint: CheckpointFile,
    pub(crate) retention: Retention,
    pub(crate) keepers: Arc<Keepers>,
    pub(crate) followers: Followers,
    pub(crate) stuck: Stuck,
    pub(crate) keeper_warning: Option<Duration>,
    pub(crate) on_pressure: Option<OnPressure>,
    pub(crate) archive: Option<Archive>,
    pub(crate) window_pin: WindowPin,
    pub(crate) rotation: Rotation,
    pub(crate) housekeeper: Housekeeper,
    pub(crate) files: Files,
    /// There were rings at the open, and there are none any more.
    pub(crate) rings_refused: AtomicBool,
    pub(crate) log_bytes: u64,
    pub(crate) limits: Limits,
    /// Held by who tries whether there is space again.
    pub(crate) trying: Mutex<()>,
    /// Held from the making of a name to the sync of the directory, and by whoever else syncs it: a failed sync tells one caller only, and what
    /// it loses must be that caller's.
    pub(crate) names: Mutex<()>,
    durability: Durability,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

/// What a recovery hands over.
#[derive(Debug)]
pub(crate) struct Parts {
    storage: Arc<dyn Storage>,
    options: Options,
    files: Files,
    metrics: Metrics,
    lock: Box<dyn Lock>,
    pub(crate) checkpoint: CheckpointFile,
    new_log: NewLog,
    next_index: Index,
    seq_floor: SeqNum,
    retention: Retention,
    /// The live logs, oldest first.
    read: Vec<Part>,
}

impl Parts {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        options: &Options,
        way: Way,
        metrics: Metrics,
        lock: Box<dyn Lock>,
        checkpoint: CheckpointFile,
        committed: Committed,
    ) -> Self {
        let Committed { new_log, old_logs, read, next_index, seq_floor, oldest_seq, unlink_later, .. } =
            committed;
        let marked = checkpoint.content().flushed.into_keys().collect();
        let retention = Retention::new(old_logs, marked, oldest_seq, unlink_later);
        let (files, options) = (options.files(way), options.clone());
        Self {
            storage,
            options,
            files,
            metrics,
            lock,
            checkpoint,
            new_log,
            next_index,
            seq_floor,
            retention,
            read,
        }
    }
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
        let Parts {
            storage,
            options,
            files,
            metrics,
            lock,
            checkpoint,
            new_log,
            next_index,
            seq_floor,
            retention,
            read,
        } = parts;
        let header = new_log.header;
        // The header says that everything before its first record is durable; the records in the new log wait for a promise (RC5).
        let promised = Index::new(header.first_index.get().saturating_sub(1));
        let active = ActiveLog {
            log: header.log,
            sink: new_log.sink,
            encoder: new_log.encoder,
            records: new_log.records,
            seqs: new_log.seqs,
            families: new_log.families,
            created_micros: header.created_micros,
            // The log that an open begins grows.
            reserved: u64::MAX,
        };
        // Before the log has a thread: what fails from here on must leave nobody behind.
        let archive = Archive::open(&options, header.wal_id)?;
        let limits = options.limits();
        metrics.caps(&limits);
        let mut state = State::new(active, next_index, seq_floor, promised, limits);
        let window = options.window;
        state.duplicates =
            window.map(|window| Duplicates::recovered(window, &read, next_index)).transpose()?;
        let clock = Arc::clone(&options.clock);
        let commit =
            Commit::new(state, limits, window, options.policies, clock, metrics.clone(), options.on_stall)?;
        let inner = Inner {
            archive,
            storage,
            wal_id: header.wal_id,
            epoch: header.epoch,
            config_fingerprint: header.config_fingerprint,
            clock: options.clock,
            metrics,
            commit,
            keepers: Arc::new(Keepers::new(checkpoint.content().lowest)),
            followers: Followers::default(),
            stuck: Stuck::default(),
            keeper_warning: options.keeper_warning,
            on_pressure: options.on_pressure,
            window_pin: WindowPin::default(),
            checkpoint,
            retention,
            rotation: Rotation::default(),
            housekeeper: Housekeeper::new(options.background),
            files,
            rings_refused: AtomicBool::new(false),
            log_bytes: options.log_bytes,
            limits,
            trying: Mutex::default(),
            names: Mutex::default(),
            durability: options.durability,
            lock: Mutex::new(Some(lock)),
        };
        // Until the first group, what recovery has found is what is durable.
        let durable = inner.commit.lock().durable.index;
        inner.metrics.durable_index.set(durable.get() as f64);
        inner.update_gauges();
        let inner = Arc::new(inner);
        // The window's logs are kept before anything is let go.
        inner.release_window();
        inner.begin_to_archive();
        Ok(Self { inner })
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

impl Drop for Inner {
    fn drop(&mut self) {
        // INVARIANT: X1. Before the lock goes: the thread touches nothing afterwards. It does no I/O for this.
        self.commit.background().stop(&self.commit);
        self.commit.watchdog().stop();
    }
}

impl Inner {
    fn append(self: &Arc<Self>, record: &Record<'_>, durability: Durability) -> Result<Appended> {
        if durability == Durability::Buffered {
            // Handed on as it is: to take it apart and put it together again waits for what was just stored.
            return self.accept(record);
        }
        let appended = self.accept(record)?;
        if !(appended.duplicate && seeded_bug!(DuplicateDoesNotWait)) {
            self.commit.wait_for(appended.index, durability)?;
        }
        Ok(appended)
    }

    /// Does a piece of work that is off the commit path.
    pub(crate) fn do_work(self: &Arc<Self>, work: Work) -> Result<()> {
        match work {
            Work::Seal(closed) => {
                let (log, next_index) = *closed;
                self.seal(log, next_index);
                Ok(())
            }
            Work::Delete => {
                self.archive_unneeded();
                self.delete_unneeded().map(drop)
            }
            Work::Pressure => {
                self.tell_pressure();
                Ok(())
            }
            Work::Prepare => {
                // By now the log before the active one may have lost its last keeper, which was that everything durable ended there. First: on a
                // disk that is full this makes the room.
                let deleted = self.delete_unneeded().map(drop);
                self.prepare_ahead().and(deleted)
            }
        }
    }

    /// The highest sequence number issued and the log that holds the frontier, if marks may be taken.
    pub(crate) fn check_open(&self) -> Result<(Option<SeqNum>, LogNumber)> {
        let state = self.commit.lock();
        state.check_but_full_disk()?;
        Ok((state.seq_floor.get().checked_sub(1).map(SeqNum::new), state.durable.log))
    }

    /// Writes CHECKPOINT with whatever else is known by now.
    pub(crate) fn update_checkpoint(&self, change: impl FnOnce(&mut Checkpoint)) -> Result<()> {
        let sealed_through = self.retention.sealed_through();
        let mut at_disk = None;
        let frontier = || {
            // Begun with CHECKPOINT's own lock held: who waits for another update is not at the disk.
            at_disk = Some(self.commit.at_disk(DiskWork::Checkpoint));
            let state = self.commit.lock();
            if seeded_bug!(NextIndexOfAccepted) {
                return (state.accepted, state.seq_floor);
            }
            (state.durable, state.seq_floor)
        };
        let updated = self.checkpoint.update(frontier, |content| {
            content.sealed_through = content.sealed_through.max(sealed_through.unwrap_or_default());
            change(content);
        });
        drop(at_disk);
        updated.inspect_err(|error| {
            self.metrics.checkpoint_failures.increment(1);
            warn!(%error, "wal.checkpoint_failed");
        })
    }

    pub(crate) fn logs(&self) -> Vec<LogInfo> {
        let mut logs = self.retention.old();
        let state = self.commit.lock();
        let active = &state.active;
        logs.push(LogInfo {
            log: active.log,
            bytes: state.accepted.offset,
            records: active.records,
            seqs: active.seqs,
            families: active.families.clone(),
            skipped: false,
            state: if state.closed { LogState::Sealed } else { LogState::Active },
            created_micros: active.created_micros,
        });
        logs
    }

    pub(crate) fn update_gauges(&self) {
        self.recount();
        let logs = self.logs();
        self.metrics.logs.set(logs.len() as f64);
        self.metrics.live_bytes.set(logs.iter().map(|log| log.bytes).sum::<u64>() as f64);
        let seq = self.commit.lock().seq_floor.get().saturating_sub(1);
        self.metrics.last_seq.set(seq as f64);
        self.metrics.spare_logs.set(self.retention.spare_count() as f64);
        self.commit.show_undurable();
        self.watch_keepers();
    }
}
