//! What an open log and everything that outlives it share, how a recovery hands it over, and what belongs to no step of its own.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use wal_format::checkpoint::Checkpoint;
use wal_format::{Epoch, Index, LogNumber, SeqNum, WalId};
use wal_io::probe::Way;
use wal_io::{Lock, Storage};

use crate::archive::Archive;
use crate::caps::Limits;
use crate::checkpoint::CheckpointFile;
use crate::clock::Clock;
use crate::commit::Commit;
use crate::duplicates::{Duplicates, WindowPin};
use crate::error::Result;
use crate::follow::Followers;
use crate::housekeeping::{Housekeeper, Work};
use crate::keepers::Keepers;
use crate::kept::Stuck;
use crate::metrics::Metrics;
use crate::options::{Files, Options};
use crate::pressure::OnPressure;
use crate::record::{Appended, Durability, Record};
use crate::recovery::stream::Part;
use crate::recovery::{Committed, NewLog};
use crate::retention::{LogInfo, LogState, Retention};
use crate::rotate::Rotation;
use crate::state::{ActiveLog, State};
use crate::sync::{AtomicBool, Mutex};
use crate::watchdog::DiskWork;

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
    pub(crate) durability: Durability,
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
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

impl Inner {
    /// # Errors
    /// There is no thread for what the options ask for.
    pub(crate) fn start(parts: Parts) -> Result<Arc<Self>> {
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
        let inner = Self {
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
        Ok(inner)
    }

    pub(crate) fn append(self: &Arc<Self>, record: &Record<'_>, durability: Durability) -> Result<Appended> {
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

impl Drop for Inner {
    fn drop(&mut self) {
        // INVARIANT: X1. Before the lock goes: the thread touches nothing afterwards. It does no I/O for this.
        self.commit.background().stop(&self.commit);
        self.commit.watchdog().stop();
    }
}
