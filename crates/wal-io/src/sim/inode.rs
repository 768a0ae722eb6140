//! One file: what is durable, what is pending, what readers see.

use std::mem;
use std::sync::Arc;

use super::pending::{Fate, Pending};
use super::rng::Rng;

/// What the disk writes at once.
pub(super) const SECTOR: usize = 512;

/// A file, whatever its name is.
#[derive(Debug, Default)]
pub(super) struct Inode {
    /// The last name it had, for messages.
    pub(super) label: String,
    /// What readers see.
    pub(super) cache: Vec<u8>,
    /// What is on the disk for certain; its length is the durable length.
    pub(super) durable: Vec<u8>,
    /// What may or may not be on the disk, in the order in which it was done.
    pending: Vec<Effect>,
    /// The length it has if everything pending survives.
    promised: usize,
    /// Shared with every open handle, so that an unlinked file lives as long as they do.
    pub(super) handles: Arc<()>,
}

/// One change that is not durable yet.
#[derive(Clone, Debug)]
struct Effect {
    sequence: u64,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    /// Bytes inside one sector.
    Bytes { offset: usize, bytes: Vec<u8> },
    /// The file became at least this long.
    Size(usize),
}

impl Inode {
    /// A new and empty file.
    pub(super) fn new(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    /// A file at rest.
    pub(super) fn at_rest(label: &str, bytes: Vec<u8>) -> Self {
        let promised = bytes.len();
        Self { label: label.to_owned(), cache: bytes.clone(), durable: bytes, promised, ..Self::default() }
    }

    /// The same file for another process: pending stays pending, nobody has it open.
    pub(super) fn inherited(&self) -> Self {
        Self {
            label: self.label.clone(),
            cache: self.cache.clone(),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            promised: self.promised,
            handles: Arc::default(),
        }
    }

    /// The same file after a power cut.
    pub(super) fn after_power_cut(&self, fate: &mut dyn FnMut(u64) -> Fate) -> Self {
        let mut after = self.inherited();
        after.settle(fate);
        after.cache.clone_from(&after.durable);
        after
    }

    /// Writes into the cache; the effects are pending. `sequence` numbers them.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8], sequence: &mut dyn FnMut() -> u64) {
        if bytes.is_empty() {
            return;
        }
        put(&mut self.cache, offset, bytes);
        self.grow(offset.saturating_add(bytes.len()), sequence);
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
            let change = Change::Bytes { offset: at, bytes: sector.to_vec() };
            self.pending.push(Effect { sequence: sequence(), change });
            at = at.saturating_add(sector.len());
            rest = after;
        }
    }

    /// Makes the file at least `length` bytes long.
    pub(super) fn grow(&mut self, length: usize, sequence: &mut dyn FnMut() -> u64) {
        if self.cache.len() < length {
            self.cache.resize(length, 0);
        }
        // Not the cached length: a failed sync may have lost a change of size that the cache still shows.
        if length > self.promised {
            self.promised = length;
            self.pending.push(Effect { sequence: sequence(), change: Change::Size(length) });
        }
    }

    /// Decides what becomes of everything pending.
    pub(super) fn settle(&mut self, fate: &mut dyn FnMut(u64) -> Fate) {
        let mut length = self.durable.len();
        for effect in mem::take(&mut self.pending) {
            match (fate(effect.sequence), effect.change) {
                (Fate::Lost, _) => {}
                (Fate::Kept, Change::Bytes { offset, bytes }) => put(&mut self.durable, offset, &bytes),
                (Fate::Kept, Change::Size(size)) => length = length.max(size),
                (Fate::Part { chance, .. }, Change::Bytes { offset, mut bytes }) => {
                    bytes.truncate(below(chance, bytes.len()));
                    put(&mut self.durable, offset, &bytes);
                }
                (Fate::Part { chance, unit }, Change::Size(size)) => {
                    let part = length.saturating_add(below(chance, size.saturating_sub(length)));
                    length = length.max(part - part % unit.max(1));
                }
                (Fate::Garbage { .. }, Change::Size(_)) => {}
                (Fate::Garbage { seed, anywhere }, Change::Bytes { offset, mut bytes }) => {
                    let old = self.durable.iter().skip(offset).take(bytes.len());
                    if anywhere || old.into_iter().all(|byte| *byte == 0) {
                        let mut rng = Rng::new(seed);
                        bytes.fill_with(|| rng.byte());
                        put(&mut self.durable, offset, &bytes);
                    }
                }
            }
        }
        self.durable.resize(length, 0);
        self.promised = length;
    }

    /// Changes what readers see and makes exactly that durable.
    pub(super) fn corrupt(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.pending.clear();
        change(&mut self.cache);
        self.durable.clone_from(&self.cache);
        self.promised = self.durable.len();
    }

    /// What is pending, in the order in which it was done.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u64, Pending)> + '_ {
        self.pending.iter().map(|effect| {
            let file = self.label.clone();
            let pending = match &effect.change {
                Change::Size(size) => Pending::Size { file, length: *size as u64 },
                Change::Bytes { offset, bytes } => {
                    Pending::Sector { file, offset: *offset as u64, length: bytes.len() as u64 }
                }
            };
            (effect.sequence, pending)
        })
    }
}

/// A number from 0 to `most`.
fn below(chance: u64, most: usize) -> usize {
    usize::try_from(chance % (most as u64).saturating_add(1)).unwrap_or(most)
}

/// Copies into an image that grows as needed.
fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset.saturating_add(bytes.len());
    if image.len() < end {
        image.resize(end, 0);
    }
    if let Some(place) = image.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}
