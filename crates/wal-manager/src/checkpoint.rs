//! CHECKPOINT on the disk: two slots, updated one after the other (rules CK1 to CK3, CK5).

use std::io;
use std::sync::{Arc, PoisonError};

use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot, SlotFault};
use wal_format::{Epoch, LogNumber, SeqNum, WalId, flip};
use wal_io::{Sink, Storage};

use crate::error::{Error, Result};
use crate::names::{CHECKPOINT, CHECKPOINT_NEW};
use crate::record::Position;
use crate::report::BadSlot;
use crate::sync::{Mutex, MutexGuard};

/// Length of the file: two slots.
pub(crate) const CHECKPOINT_BYTES: u64 = 2 * SLOT_BYTES as u64;

/// What reading CHECKPOINT gave.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The content that counts.
    pub(crate) content: Checkpoint,
    /// What is wrong with the other one.
    pub(crate) fault: Option<BadSlot>,
}

/// Reads CHECKPOINT without changing anything; `None` if there is no such file.
///
/// # Errors
/// It cannot be read, or neither slot can be believed, or a newer version wrote it.
pub(crate) fn load(storage: &dyn Storage) -> Result<Option<Loaded>> {
    let source = match storage.open_source(CHECKPOINT) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let path = storage.path().join(CHECKPOINT);
    let read = |slot: Slot| -> Result<Result<Checkpoint, BadSlot>> {
        let mut bytes = vec![0; SLOT_BYTES];
        let length = source.read_at(slot.offset(), &mut bytes)?;
        bytes.truncate(length);
        match Checkpoint::decode(slot, &bytes) {
            // A slot that only a newer version understands may be the newer one: do not fall back behind it.
            Err(SlotFault::NewerFormat { version, .. }) => {
                Err(Error::NewerFormat { path: path.clone(), version })
            }
            Err(fault) => Ok(Err(BadSlot { fault, flipped_bit: flip::in_slot(slot, &bytes) })),
            Ok(content) => Ok(Ok(content)),
        }
    };
    let (content, fault) = match (read(Slot::A)?, read(Slot::B)?) {
        (Ok(a), Ok(b)) if (a.version >= b.version) != seeded_bug!(OlderSlotBelieved) => (a, None),
        (Ok(_), Ok(b)) => (b, None),
        (Ok(a), Err(fault)) => (a, Some(fault)),
        (Err(fault), Ok(b)) => (b, Some(fault)),
        (Err(first), Err(second)) => return Err(Error::CheckpointDamaged { path, first, second }),
    };
    Ok(Some(Loaded { content, fault }))
}

/// RD1: whether `wanted` was deleted, as a reader finds who meets something else in its place.
pub(crate) fn gap(storage: &dyn Storage, wanted: LogNumber) -> Option<Error> {
    let oldest = load(storage).ok()??.content.lowest;
    (wanted < oldest && !seeded_bug!(GapIsDamage)).then_some(Error::Gap { wanted, oldest })
}

/// CHECKPOINT of an open log.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    sink: Arc<dyn Sink>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What the disk is to say. After a failed update it may be ahead of the disk; everything in it is true all the same.
    content: Checkpoint,
    /// The slot that must be written before the other may be touched.
    first: Slot,
}

impl CheckpointFile {
    /// Creates CHECKPOINT in a directory that has neither one nor a log.
    pub(crate) fn create(storage: &dyn Storage, wal_id: WalId, config_fingerprint: u64) -> Result<Self> {
        let mut content = Checkpoint::new(wal_id);
        content.config_fingerprint = config_fingerprint;
        Self::install(storage, content)
    }

    /// Takes over what [`load`] read, in a file of its own.
    pub(crate) fn adopt(storage: &dyn Storage, loaded: Loaded) -> Result<Self> {
        if seeded_bug!(SlotNotWrittenAgain) {
            let (content, first) = (loaded.content, Slot::A);
            let sink = storage.open_sink(CHECKPOINT)?;
            return Ok(Self { sink, inner: Mutex::new(Inner { content, first }) });
        }
        Self::install(storage, loaded.content)
    }

    /// Writes a new file with both slots in the place of whatever CHECKPOINT there is.
    pub(crate) fn install(storage: &dyn Storage, content: Checkpoint) -> Result<Self> {
        let sink = match storage.create(CHECKPOINT_NEW) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Whoever died while writing it. ORDER: CK5. It never had the name CHECKPOINT, so nothing relies on it.
                storage.unlink(CHECKPOINT_NEW)?;
                storage.create(CHECKPOINT_NEW)?
            }
            created => created?,
        };
        // INVARIANT: both slots have all the space that they may ever need, before anything relies on them: on a full disk an update still succeeds, and
        // with it the deletion that makes space.
        if !seeded_bug!(CheckpointNotAllocated) {
            sink.preallocate(CHECKPOINT_BYTES)?;
        }
        for slot in Slot::BOTH {
            sink.write_at(slot.offset(), &content.encode(slot))?;
        }
        // ORDER: CK2, CK5. Both slots are durable before the file gets its name: a crash leaves the old CHECKPOINT, or none, or this one,
        // never one with two bad slots. What was believed may have been in the cache only; no byte of the old file is overwritten, because
        // nobody can tell which of its slots are on the disk (decision 0015).
        sink.sync_all()?;
        storage.rename(CHECKPOINT_NEW, CHECKPOINT)?;
        // ORDER: CK2, CK5. The name is durable before the content is acted on, before an update goes to this file, and before the first log is
        // created: a crash cannot bring the old file back behind an update, nor leave logs without a CHECKPOINT that tells whether one
        // is missing.
        if !seeded_bug!(CheckpointNameNotSynced) {
            storage.sync_dir()?;
        }
        if content.epoch == Epoch::new(0) && !seeded_bug!(ParentsNotSynced) {
            // ORDER: CK5. The directory's own entry too, while there is no log: a crash cannot take it with acknowledged records in it. Whoever
            // created it may have died before this.
            storage.sync_parents()?;
        }
        Ok(Self { sink, inner: Mutex::new(Inner { content, first: Slot::A }) })
    }

    /// What CHECKPOINT says, or will say once an update succeeds.
    pub(crate) fn content(&self) -> Checkpoint {
        self.lock().content.clone()
    }

    /// Changes the content and makes it durable in both slots. `frontier` is asked while no other update can come between.
    ///
    /// # Errors
    /// A slot could not be written or synced. The change stands in memory and goes with the next update.
    pub(crate) fn update(
        &self,
        frontier: impl FnOnce() -> (Position, SeqNum),
        change: impl FnOnce(&mut Checkpoint),
    ) -> Result<()> {
        let mut inner = self.lock();
        let (durable, seq_floor) = frontier();
        let content = &mut inner.content;
        // INVARIANT: CK4. Exactly the frontier's index + 1 when it is written; and the active log is the one that holds the frontier,
        // whose header is therefore durable.
        content.next_index = durable.index.next().ok_or(Error::Exhausted("index"))?;
        content.active = durable.log;
        content.seq_floor = content.seq_floor.max(seq_floor);
        change(content);
        content.version = content.version.checked_add(1).ok_or(Error::Exhausted("CHECKPOINT version"))?;
        if seeded_bug!(OtherSlotAfterFailure) {
            inner.first = inner.first.other();
        }
        for slot in [inner.first, inner.first.other()] {
            self.sink.write_at(slot.offset(), &inner.content.encode(slot))?;
            // ORDER: CK1. One slot is durable before the other is touched: a torn write cannot take both.
            if !seeded_bug!(SlotsWithoutSyncBetween) {
                self.sink.sync_data()?;
            }
            // INVARIANT: CK1. After a failure the same slot comes first again.
            inner.first = slot.other();
            if seeded_bug!(OneSlotOnly) {
                return Ok(());
            }
        }
        if seeded_bug!(SlotsWithoutSyncBetween) {
            self.sink.sync_data()?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics between two changes of `inner`.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
