//! One file: what is durable, what is pending, what readers see.

use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::image::Image;
use super::pending::{Fate, Pending, Reach};
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
    /// So far, space is reserved that reads as zeros.
    reserved: usize,
    /// Shared with every open handle, so that an unlinked file lives as long as they do.
    pub(super) handles: Arc<()>,
}

/// Where the bytes of a write go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// To where they belong.
    Straight,
    /// Into the cache, and never to the medium.
    Nowhere,
    /// Into the cache, and on the medium to another offset.
    Elsewhere(u64),
}

/// What else decides what a file's bytes become.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Medium<'a> {
    /// What earlier files left.
    pub(super) remains: &'a [Image],
    /// A length is durable only as far as the bytes are.
    pub(super) data_before_size: bool,
}

impl Medium<'_> {
    /// Bytes that were never meant to be there.
    fn garbage(self, offset: usize, length: usize, seed: u64, stale: bool) -> Vec<u8> {
        let mut rng = Rng::new(seed);
        let mut bytes = vec![0; length];
        let places: Vec<usize> = (0..self.remains.len()).collect();
        match rng.pick(&places).and_then(|place| self.remains.get(place)).filter(|_| stale) {
            // The same place in the file is the most convincing one.
            Some(old) if rng.chance(1, 2) => {
                old.read(offset, &mut bytes);
            }
            Some(old) => {
                let sectors: Vec<usize> = (0..old.len().div_ceil(SECTOR)).collect();
                old.read(rng.pick(&sectors).unwrap_or(0) * SECTOR + offset % SECTOR, &mut bytes);
            }
            None => bytes.fill_with(|| rng.byte()),
        }
        bytes
    }
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
            reserved: 0,
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
            reserved: self.reserved,
            handles: Arc::default(),
        }
    }

    /// The same file, under this name, after a power cut.
    pub(super) fn after_power_cut(
        &self,
        label: &str,
        medium: &Medium<'_>,
        fate: &mut dyn FnMut(u64) -> Fate,
    ) -> Self {
        Self::at_rest(label, self.settled(medium, fate))
    }

    /// Writes into the cache; the effects are pending. `sequence` numbers them.
    pub(super) fn write(
        &mut self,
        offset: usize,
        bytes: &[u8],
        to: Route,
        sequence: &mut dyn FnMut() -> u64,
    ) {
        if bytes.is_empty() {
            return;
        }
        self.cache.put(offset, bytes);
        self.grow(offset.saturating_add(bytes.len()), sequence);
        let offset = match to {
            Route::Straight => offset,
            Route::Nowhere => return,
            Route::Elsewhere(other) => usize::try_from(other).unwrap_or(usize::MAX),
        };
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

    /// Makes the file at least `length` bytes long, with space for all of them.
    pub(super) fn reserve(&mut self, length: usize, sequence: &mut dyn FnMut() -> u64) {
        self.grow(length, sequence);
        self.reserved = self.reserved.max(length);
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
    pub(super) fn settle(&mut self, medium: &Medium<'_>, fate: &mut dyn FnMut(u64) -> Fate) {
        self.durable = self.settled(medium, fate);
        self.durable.share(&self.cache);
        self.pending.clear();
        self.promised = self.durable.len();
        self.reserved = 0;
    }

    /// What is on the disk when that has become of everything pending.
    fn settled(&self, medium: &Medium<'_>, fate: &mut dyn FnMut(u64) -> Fate) -> Image {
        let mut image = self.durable.clone();
        let mut length = image.len();
        // Beyond the durable length and reserved space: sectors with bytes that are there, and where bytes are not.
        let solid = image.len().max(self.reserved);
        let (mut there, mut holes) = (BTreeSet::new(), Vec::new());
        for effect in &self.pending {
            let fate = fate(effect.sequence);
            if let Change::Bytes { offset, bytes } = &effect.change
                && offset + bytes.length > solid
            {
                if fate == Fate::Kept {
                    there.insert(offset / SECTOR);
                } else {
                    holes.push(solid.max(*offset));
                }
            }
            match (fate, &effect.change) {
                (Fate::Lost, _) | (Fate::Garbage { .. }, Change::Size(_)) => {}
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
                (Fate::Garbage { seed, reach, stale }, Change::Bytes { offset, bytes }) => {
                    let (start, length) = match reach {
                        Reach::Sector => (offset - offset % SECTOR, SECTOR),
                        Reach::Bytes | Reach::Empty => (*offset, bytes.length),
                    };
                    if reach != Reach::Empty || image.is_zero(start, length) {
                        image.put(start, &medium.garbage(start, length, seed, stale));
                    }
                }
            }
        }
        if medium.data_before_size {
            let missing = holes.into_iter().filter(|offset| !there.contains(&(offset / SECTOR)));
            length = missing.min().map_or(length, |hole| length.min(hole));
        }
        image.resize(length);
        image
    }

    /// Overwrites what is durable, behind the back of the cache.
    pub(super) fn overwrite(&mut self, offset: usize, bytes: &[u8]) {
        let length = self.durable.len().saturating_sub(offset).min(bytes.len());
        let (part, _) = bytes.split_at(length);
        self.durable.put(offset.min(self.durable.len()), part);
    }

    /// Flips one bit, wherever there is a byte for it.
    pub(super) fn flip(&mut self, bit: u64) {
        let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        for image in [&mut self.cache, &mut self.durable] {
            let mut byte = [0];
            if image.read(at, &mut byte) == 1 {
                image.put(at, &[byte[0] ^ (1 << (bit % 8))]);
            }
        }
    }

    /// Adds all that decides what can become of the bytes.
    pub(super) fn fingerprint(&self, hash: &mut Xxh3) {
        self.durable.fingerprint(&Image::default(), hash);
        self.cache.fingerprint(&self.durable, hash);
        hash.update(&self.promised.to_le_bytes());
        hash.update(&self.reserved.to_le_bytes());
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
