//! One file: what is durable, what is pending, what readers see.

use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::image::Image;
use super::pending::{Fate, Pending, Reach};
use super::rng::Rng;

/// What the disk writes at once.
pub(super) const SECTOR: usize = 512;

/// The block of files that are written past the cache. Real ones are larger; of two sectors, a block can be torn, and there are many of them in
/// a short file.
pub(super) const BLOCK: usize = 2 * SECTOR;

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

/// What a write goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Through {
    /// The cache, which knows the bytes that were written.
    Cache,
    /// Nothing. Whole sectors are written; in those that may be spoiled, it matters also that nothing changes.
    Device { spoils: bool },
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
    /// Bytes inside one sector; `whole` if those that do not change are among them.
    Bytes { offset: usize, bytes: Piece, whole: bool },
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
        (to, through): (Route, Through),
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
            start += length;
            if through == (Through::Device { spoils: false }) && self.holds(at, bytes.bytes()) {
                continue;
            }
            let change = Change::Bytes { offset: at, bytes, whole: through != Through::Cache };
            self.pending.push(Effect { sequence: sequence(), change });
        }
    }

    /// The medium holds these bytes of a sector for certain, whatever becomes of what is pending.
    fn holds(&self, offset: usize, bytes: &[u8]) -> bool {
        let mut there = vec![0; bytes.len()];
        let sector = offset / SECTOR;
        self.durable.read(offset, &mut there) == bytes.len()
            && there == bytes
            && !self.pending.iter().any(|effect| effect.sector() == Some(sector))
    }

    /// Makes what was written last durable, from the effect of that number on, and nothing else.
    pub(super) fn settle_from(&mut self, first: u64) {
        let pending = std::mem::take(&mut self.pending);
        let (earlier, now): (Vec<_>, Vec<_>) =
            pending.into_iter().partition(|effect| effect.sequence < first);
        self.pending = now;
        let mut durable = self.settled(&Medium::default(), &mut |_| Fate::Kept);
        // The length that these bytes need is durable with them, whichever write made the file so long.
        let end = self.pending.iter().filter_map(Effect::end).max().unwrap_or(0);
        durable.resize(durable.len().max(end));
        for effect in &self.pending {
            if let Change::Bytes { offset, bytes, .. } = &effect.change {
                durable.put(*offset, bytes.bytes());
            }
        }
        // What is written over does not come back.
        let over: BTreeSet<usize> = self.pending.iter().filter_map(Effect::sector).collect();
        self.pending = earlier;
        self.pending.retain(|effect| effect.sector().is_none_or(|sector| !over.contains(&sector)));
        self.durable = durable;
        self.durable.share(&self.cache);
        self.promised = self.promised.max(self.durable.len());
    }

    /// Readers see what is on the medium.
    pub(super) fn forget_cache(&mut self) {
        self.cache.clone_from(&self.durable);
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
            if let Change::Bytes { offset, bytes, .. } = &effect.change
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
                (Fate::Kept, Change::Bytes { offset, bytes, .. }) => image.put(*offset, bytes.bytes()),
                (Fate::Kept, Change::Size(size)) => length = length.max(*size),
                (Fate::Part { chance, .. }, Change::Bytes { offset, bytes, .. }) => {
                    let (first, _) = bytes.bytes().split_at(below(chance, bytes.length));
                    image.put(*offset, first);
                }
                (Fate::Part { chance, unit }, Change::Size(size)) => {
                    let part = length.saturating_add(below(chance, size.saturating_sub(length)));
                    length = length.max(part - part % unit.max(1));
                }
                (Fate::Garbage { seed, reach, stale }, Change::Bytes { offset, bytes, whole }) => {
                    let (start, length) = match reach {
                        Reach::Sector => (offset - offset % SECTOR, SECTOR),
                        Reach::Bytes | Reach::Empty if *whole => changed(&image, *offset, bytes.bytes()),
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
                Change::Bytes { offset, bytes, whole } => (2 * u8::from(*whole), *offset, bytes.bytes()),
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
                Change::Bytes { offset, bytes, .. } => {
                    Pending::Sector { file, offset: *offset as u64, length: bytes.length as u64 }
                }
            };
            (effect.sequence, pending)
        })
    }
}

impl Effect {
    /// Where its bytes end.
    fn end(&self) -> Option<usize> {
        match &self.change {
            Change::Bytes { offset, bytes, .. } => Some(offset + bytes.length),
            Change::Size(_) => None,
        }
    }

    /// The sector in which bytes are written.
    fn sector(&self) -> Option<usize> {
        match &self.change {
            Change::Bytes { offset, .. } => Some(offset / SECTOR),
            Change::Size(_) => None,
        }
    }
}

/// Where new bytes differ from those that are there, and how many bytes that is: a torn sector keeps what is the same in both.
fn changed(image: &Image, offset: usize, new: &[u8]) -> (usize, usize) {
    let mut old = vec![0; new.len()];
    image.read(offset, &mut old);
    let differs = || old.iter().zip(new).map(|(old, new)| old != new);
    let first = differs().position(|differs| differs).unwrap_or(new.len());
    let end = differs().rposition(|differs| differs).map_or(first, |last| last + 1);
    (offset + first, end - first)
}

/// A number from 0 to `most`.
fn below(chance: u64, most: usize) -> usize {
    usize::try_from(chance % (most as u64).saturating_add(1)).unwrap_or(most)
}
