//! CHECKPOINT on the disk: two slots, updated one after the other (rules CK1 to CK3, CK5).

use std::io;
use std::sync::{Arc, PoisonError};

use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot, SlotFault};
use wal_format::{Epoch, SeqNum, WalId};
use wal_io::{Sink, Storage};

use crate::error::{Error, Result};
use crate::names::{CHECKPOINT, CHECKPOINT_NEW};
use crate::record::Position;
use crate::sync::{Mutex, MutexGuard};

/// What reading CHECKPOINT gave.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The content that counts.
    pub(crate) content: Checkpoint,
    /// The slot it was read from.
    slot: Slot,
    /// What is wrong with the other one.
    pub(crate) fault: Option<SlotFault>,
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
    let read = |slot: Slot| -> Result<Result<Checkpoint, SlotFault>> {
        let mut bytes = vec![0; SLOT_BYTES];
        let length = source.read_at(slot.offset(), &mut bytes)?;
        bytes.truncate(length);
        match Checkpoint::decode(slot, &bytes) {
            // A slot that only a newer version understands may be the newer one: do not fall back behind it.
            Err(SlotFault::NewerFormat { version, .. }) => {
                Err(Error::NewerFormat { path: path.clone(), version })
            }
            decoded => Ok(decoded),
        }
    };
    let loaded = match (read(Slot::A)?, read(Slot::B)?) {
        (Ok(a), Ok(b)) if a.version >= b.version => Loaded { content: a, slot: Slot::A, fault: None },
        (Ok(_), Ok(b)) => Loaded { content: b, slot: Slot::B, fault: None },
        (Ok(a), Err(fault)) => Loaded { content: a, slot: Slot::A, fault: Some(fault) },
        (Err(fault), Ok(b)) => Loaded { content: b, slot: Slot::B, fault: Some(fault) },
        (Err(first), Err(second)) => return Err(Error::CheckpointDamaged { path, first, second }),
    };
    Ok(Some(loaded))
}

/// Makes CHECKPOINT's name and the directory's own entry durable.
fn publish(storage: &dyn Storage) -> Result<()> {
    // ORDER: CK5. Both are durable before the first log is created: a crash cannot leave logs without the CHECKPOINT that tells
    // whether one is missing, nor take the directory with acknowledged records in it.
    storage.sync_dir()?;
    storage.sync_parents()?;
    Ok(())
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
        match storage.unlink(CHECKPOINT_NEW) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let sink = storage.create(CHECKPOINT_NEW)?;
        for slot in Slot::BOTH {
            sink.write_at(slot.offset(), &content.encode(slot))?;
        }
        // ORDER: CK5. Both slots are durable before the file gets its name: a crash can leave no CHECKPOINT, never one with
        // two bad slots, so that two bad slots are damage even where there is no log to ask.
        sink.sync_all()?;
        storage.rename(CHECKPOINT_NEW, CHECKPOINT)?;
        publish(storage)?;
        Ok(Self { sink, inner: Mutex::new(Inner { content, first: Slot::A }) })
    }

    /// Takes over what [`load`] read, by writing the believed slot again.
    pub(crate) fn adopt(storage: &dyn Storage, loaded: &Loaded) -> Result<Self> {
        let sink = storage.open_sink(CHECKPOINT)?;
        let (believed, other) = (loaded.slot, loaded.slot.other());
        // ORDER: CK2. What a process that died left in the cache becomes durable as it is, before a write can tear one of the slots
        // while the other is not on the disk yet. After a failed sync this proves nothing, and the writes below are what counts.
        sink.sync_data()?;
        // A bad slot is mended first: whoever left it so had made the believed one durable before (CK1), and a write of that one, torn,
        // would leave none.
        let mend = loaded.fault.is_some().then_some(other);
        for slot in mend.into_iter().chain([believed]) {
            sink.write_at(slot.offset(), &loaded.content.encode(slot))?;
            // ORDER: CK2. The believed slot may have been in the cache only; it is durable before its content is acted on and before a good
            // other slot is touched, or a power cut could leave two bad slots.
            sink.sync_data()?;
        }
        if loaded.content.epoch == Epoch::new(0) {
            // Whoever created it did not get as far as a log, and perhaps not as far as this.
            publish(storage)?;
        }
        // The other slot may be the bad one: it is written first, while this one is known to be durable.
        let inner = Inner { content: loaded.content.clone(), first: other };
        Ok(Self { sink, inner: Mutex::new(inner) })
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
        for slot in [inner.first, inner.first.other()] {
            self.sink.write_at(slot.offset(), &inner.content.encode(slot))?;
            // ORDER: CK1. One slot is durable before the other is touched: a torn write cannot take both.
            self.sink.sync_data()?;
            // INVARIANT: CK1. After a failure the same slot comes first again.
            inner.first = slot.other();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics between two changes of `inner`.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
