//! One file: what is durable, what is pending, what readers see.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::image::Image;
use super::pending::{Fate, Pending};
use super::rng::Rng;

/// What the disk writes at once.
pub(super) const SECTOR: usize = 512;

/// A file, whatever its name is.
#[derive(Debug)]
pub(super) struct Inode {
    /// The last name it had, for messages.
    pub(super) label: Arc<str>,
    /// What readers see.
    pub(super) cache: Image,
    /// What is on the disk for certain; its length is the durable length.
    pub(super) durable: Image,
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
    Bytes { offset: usize, bytes: Piece },
    /// The file became at least this long.
    Size(usize),
}

/// A part of the bytes of one write.
#[derive(Clone, Debug)]
struct Piece {
    write: Arc<[u8]>,
    start: usize,
    length: usize,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.write.get(self.start..self.start.saturating_add(self.length)).unwrap_or_default()
    }
}

impl Inode {
    /// A new and empty file.
    pub(super) fn new(label: &str) -> Self {
        Self::at_rest(label, Image::default())
    }

    /// A file at rest.
    pub(super) fn at_rest(label: &str, image: Image) -> Self {
        Self {
            label: label.into(),
            cache: image.clone(),
            promised: image.len(),
            durable: image,
            pending: Vec::new(),
            handles: Arc::default(),
        }
    }

    /// The same file for another process: pending stays pending, nobody has it open.
    pub(super) fn inherited(&self) -> Self {
        Self {
            label: Arc::clone(&self.label),
            cache: self.cache.clone(),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            promised: self.promised,
            handles: Arc::default(),
        }
    }

    /// The same file, under this name, after a power cut.
    pub(super) fn after_power_cut(&self, label: &str, fate: &mut dyn FnMut(u64) -> Fate) -> Self {
        Self::at_rest(label, self.settled(fate))
    }

    /// Writes into the cache; the effects are pending. `sequence` numbers them.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8], sequence: &mut dyn FnMut() -> u64) {
        if bytes.is_empty() {
            return;
        }
        self.cache.put(offset, bytes);
        self.grow(offset.saturating_add(bytes.len()), sequence);
        let write: Arc<[u8]> = bytes.into();
        let mut start = 0;
        while start < bytes.len() {
            let at = offset.saturating_add(start);
            let length = (SECTOR - at % SECTOR).min(bytes.len() - start);
            let bytes = Piece { write: Arc::clone(&write), start, length };
            self.pending.push(Effect { sequence: sequence(), change: Change::Bytes { offset: at, bytes } });
            start += length;
        }
    }

    /// Makes the file at least `length` bytes long.
    pub(super) fn grow(&mut self, length: usize, sequence: &mut dyn FnMut() -> u64) {
        if self.cache.len() < length {
            self.cache.resize(length);
        }
        // Not the cached length: a failed sync may have lost a change of size that the cache still shows.
        if length > self.promised {
            self.promised = length;
            self.pending.push(Effect { sequence: sequence(), change: Change::Size(length) });
        }
    }

    /// Decides what becomes of everything pending.
    pub(super) fn settle(&mut self, fate: &mut dyn FnMut(u64) -> Fate) {
        self.durable = self.settled(fate);
        self.durable.share(&self.cache);
        self.pending.clear();
        self.promised = self.durable.len();
    }

    /// What is on the disk when that has become of everything pending.
    fn settled(&self, fate: &mut dyn FnMut(u64) -> Fate) -> Image {
        let mut image = self.durable.clone();
        let mut length = image.len();
        for effect in &self.pending {
            match (fate(effect.sequence), &effect.change) {
                (Fate::Lost, _) => {}
                (Fate::Kept, Change::Bytes { offset, bytes }) => image.put(*offset, bytes.bytes()),
                (Fate::Kept, Change::Size(size)) => length = length.max(*size),
                (Fate::Part { chance, .. }, Change::Bytes { offset, bytes }) => {
                    let (first, _) = bytes.bytes().split_at(below(chance, bytes.length));
                    image.put(*offset, first);
                }
                (Fate::Part { chance, unit }, Change::Size(size)) => {
                    let part = length.saturating_add(below(chance, size.saturating_sub(length)));
                    length = length.max(part - part % unit.max(1));
                }
                (Fate::Garbage { .. }, Change::Size(_)) => {}
                (Fate::Garbage { seed, anywhere }, Change::Bytes { offset, bytes }) => {
                    if anywhere || image.is_zero(*offset, bytes.length) {
                        let mut rng = Rng::new(seed);
                        let garbage: Vec<u8> = (0..bytes.length).map(|_| rng.byte()).collect();
                        image.put(*offset, &garbage);
                    }
                }
            }
        }
        image.resize(length);
        image
    }

    /// Adds all that decides what can become of the bytes.
    pub(super) fn fingerprint(&self, hash: &mut Xxh3) {
        self.durable.fingerprint(&Image::default(), hash);
        self.cache.fingerprint(&self.durable, hash);
        hash.update(&self.promised.to_le_bytes());
        hash.update(&self.pending.len().to_le_bytes());
        for effect in &self.pending {
            let (kind, place, bytes) = match &effect.change {
                Change::Bytes { offset, bytes } => (0, *offset, bytes.bytes()),
                Change::Size(size) => (1, *size, [].as_slice()),
            };
            hash.update(&[kind]);
            hash.update(&place.to_le_bytes());
            hash.update(&bytes.len().to_le_bytes());
            hash.update(bytes);
        }
    }

    /// Changes what readers see and makes exactly that durable.
    pub(super) fn corrupt(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.pending.clear();
        let mut bytes = self.cache.to_vec();
        change(&mut bytes);
        self.cache = Image::from(bytes.as_slice());
        self.durable.clone_from(&self.cache);
        self.promised = self.durable.len();
    }

    /// What is pending, in the order in which it was done.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u64, Pending)> + '_ {
        self.pending.iter().map(|effect| {
            let file = self.label.to_string();
            let pending = match &effect.change {
                Change::Size(size) => Pending::Size { file, length: *size as u64 },
                Change::Bytes { offset, bytes } => {
                    Pending::Sector { file, offset: *offset as u64, length: bytes.length as u64 }
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
