//! The disk itself: files, names, locks, and what is pending on each.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use rustix::io::Errno;
use xxhash_rust::xxh3::Xxh3;

use super::SimOptions;
use super::directory::{Directory, Id, NameChange};
use super::fault::{Bit, Fault, Faults};
use super::image::Image;
use super::inode::{BLOCK, Inode, Medium, Route, Through};
use super::pending::{Fate, Pending};
use super::rng::Rng;
use super::trace::{Failure, Recorder};
use crate::storage::Access;

/// Longer files are refused with EFBIG: they are in memory.
const LONGEST: usize = 1 << 30;

/// So many files that are gone are remembered for stale bytes: several generations of a log.
const REMAINS: usize = 8;

/// Called before each operation with its words.
pub(super) type Hook = Arc<dyn Fn(&str) + Send + Sync>;

/// Everything behind the one lock of a disk.
pub(super) struct Disk {
    pub(super) options: SimOptions,
    pub(super) directory: Directory,
    pub(super) files: BTreeMap<Id, Inode>,
    pub(super) locks: BTreeSet<Id>,
    pub(super) faults: Faults,
    pub(super) recorder: Recorder,
    pub(super) capacity: Option<u64>,
    /// Another disk has taken its place.
    pub(super) dead: bool,
    pub(super) before_each: Option<Hook>,
    pub(super) when_slow: Option<Hook>,
    /// Numbers files and effects; 0 is the directory's own entry.
    sequence: u64,
    /// What failed syncs leave behind.
    spoiler: Option<Rng>,
    /// What files that are gone left on the medium, the oldest first.
    remains: Vec<Image>,
}

impl Disk {
    pub(super) fn new(options: SimOptions) -> Self {
        Self {
            options,
            directory: Directory::default(),
            files: BTreeMap::new(),
            locks: BTreeSet::new(),
            faults: Faults::default(),
            recorder: Recorder::default(),
            capacity: None,
            dead: false,
            before_each: None,
            when_slow: None,
            sequence: 0,
            spoiler: options.failed_sync_seed.map(Rng::new),
            remains: Vec::new(),
        }
    }

    /// The same disk, seen by the next process or after the next power cut: no locks, no faults, nothing counted.
    fn successor(&self) -> Self {
        let (spoiler, remains) = (self.spoiler.clone(), self.remains.clone());
        Self { capacity: self.capacity, sequence: self.sequence, spoiler, remains, ..Self::new(self.options) }
    }

    /// The disk after the end of the process.
    pub(super) fn after_process_crash(&self) -> Self {
        let files = self.files.iter().map(|(id, file)| (*id, file.inherited())).collect();
        let mut after = Self { directory: self.directory.clone(), files, ..self.successor() };
        after.forget_unreachable();
        after
    }

    /// The disk after a power cut; what `fate` says of each pending effect, by its number, becomes of it.
    pub(super) fn after_power_cut(&self, fate: &mut dyn FnMut(u64) -> Fate) -> Self {
        let exists = self.directory.published || fate(0) == Fate::Kept;
        let directory = self.directory.after_power_cut(exists, fate);
        let mut after = Self { directory, ..self.successor() };
        for (name, id) in &after.directory.seen {
            if let Some(file) = self.files.get(id) {
                after.files.insert(*id, file.after_power_cut(name, &self.medium(), fate));
            }
        }
        for (_, file) in self.files.iter().filter(|(id, _)| !after.files.contains_key(id)) {
            bury(&mut after.remains, file);
        }
        after
    }

    /// A hash over all that decides what can become of the disk.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        (self.options, self.capacity, &self.spoiler).hash(&mut hash);
        let mentioned = self.directory.mentioned();
        self.directory.fingerprint(&mentioned, &mut hash);
        for file in mentioned.iter().filter_map(|id| self.files.get(id)) {
            file.fingerprint(&mut hash);
        }
        if self.options.garbage && self.options.stale {
            for image in &self.remains {
                image.fingerprint(&Image::default(), &mut hash);
            }
        }
        hash.digest128()
    }

    /// Everything pending, in the order in which it was done; 0 is the directory.
    pub(super) fn pending(&self) -> Vec<(u64, Pending)> {
        let mut all: Vec<(u64, Pending)> = self.directory.pending().collect();
        let reachable = self.files.iter().filter(|(id, _)| self.directory.mentions(**id));
        all.extend(reachable.flat_map(|(_, file)| file.pending()));
        if !self.directory.published {
            all.push((0, Pending::Directory));
        }
        all.sort_by_key(|(sequence, _)| *sequence);
        all
    }

    fn medium(&self) -> Medium<'_> {
        Medium { remains: &self.remains, data_before_size: self.options.data_before_size }
    }

    fn next(&mut self) -> u64 {
        self.sequence = self.sequence.saturating_add(1);
        self.sequence
    }

    /// The file of that name.
    pub(super) fn find(&self, name: &str) -> Option<Id> {
        self.directory.seen.get(name).copied()
    }

    /// The file's last name.
    pub(super) fn label(&self, id: Id) -> Arc<str> {
        self.files.get(&id).map_or_else(|| "".into(), |file| Arc::clone(&file.label))
    }

    /// A handle of the file keeps this.
    pub(super) fn hold(&self, id: Id) -> Arc<()> {
        self.files.get(&id).map(|file| Arc::clone(&file.handles)).unwrap_or_default()
    }

    fn file(&mut self, id: Id) -> Result<&mut Inode, Failure> {
        self.files.get_mut(&id).ok_or_else(Failure::absent)
    }

    pub(super) fn create(&mut self, name: &str) -> Result<Id, Failure> {
        if self.find(name).is_some() {
            return Err(Failure::new("EEXIST", Errno::EXIST));
        }
        let id = self.next();
        self.files.insert(id, Inode::new(name));
        let sequence = self.next();
        self.directory.change(sequence, NameChange::Create { name: name.to_owned(), id });
        Ok(id)
    }

    pub(super) fn open(&self, name: &str) -> Result<Id, Failure> {
        self.find(name).ok_or_else(Failure::absent)
    }

    pub(super) fn lock(&mut self, name: &str) -> Result<Id, Failure> {
        let id = match self.find(name) {
            Some(id) => id,
            None => self.create(name)?,
        };
        if self.locks.insert(id) { Ok(id) } else { Err(Failure::new("EWOULDBLOCK", Errno::WOULDBLOCK)) }
    }

    pub(super) fn unlink(&mut self, name: &str) -> Result<(), Failure> {
        let id = self.open(name)?;
        let sequence = self.next();
        self.directory.change(sequence, NameChange::Unlink { name: name.to_owned(), id });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let id = self.open(from)?;
        if from == to {
            return Ok(());
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        self.file(id)?.label = to.as_str().into();
        let sequence = self.next();
        if self.options.split_renames {
            self.directory.change(sequence, NameChange::Link { name: to, id });
            let sequence = self.next();
            self.directory.change(sequence, NameChange::Unlink { name: from, id });
        } else {
            self.directory.change(sequence, NameChange::Rename { from, to, id });
        }
        Ok(())
    }

    /// A second name in another directory.
    pub(super) fn link(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        let id = self.open(from)?;
        if self.find(to).is_some() {
            return Err(Failure::new("EEXIST", Errno::EXIST));
        }
        let sequence = self.next();
        self.directory.change(sequence, NameChange::Link { name: to.to_owned(), id });
        Ok(())
    }

    /// How many names lead to a file.
    pub(super) fn links(&self, id: Id) -> u64 {
        self.directory.seen.values().filter(|other| **other == id).count() as u64
    }

    /// Writes what there is space for; an error after a part, as the system does it.
    pub(super) fn write(
        &mut self,
        id: Id,
        offset: u64,
        bytes: &[u8],
        (to, access): (Route, Access),
    ) -> Result<(), Failure> {
        let too_long = || Failure::new("EFBIG", Errno::FBIG);
        let offset = usize::try_from(offset).map_err(|_| too_long())?;
        offset.checked_add(bytes.len()).filter(|end| *end <= LONGEST).ok_or_else(too_long)?;
        let most = self.longest(id)?;
        let (fits, rest) = bytes.split_at(most.saturating_sub(offset).min(bytes.len()));
        let through = match access {
            Access::Cached => Through::Cache,
            Access::Direct | Access::Ring => Through::Device { spoils: self.options.spoil_sectors },
        };
        let mut sequence = self.sequence;
        self.file(id)?.write(offset, fits, (to, through), &mut || {
            sequence = sequence.saturating_add(1);
            sequence
        });
        self.sequence = sequence;
        if rest.is_empty() { Ok(()) } else { Err(Failure::full()) }
    }

    pub(super) fn preallocate(&mut self, id: Id, length: u64) -> Result<(), Failure> {
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| Failure::new("EFBIG", Errno::FBIG))?;
        if length > self.longest(id)? {
            return Err(Failure::full());
        }
        let mut sequence = self.sequence;
        self.file(id)?.reserve(length, &mut || {
            sequence = sequence.saturating_add(1);
            sequence
        });
        self.sequence = sequence;
        Ok(())
    }

    /// Zeros behind the end; they are pending like any bytes.
    pub(super) fn fill(&mut self, id: Id, length: u64, access: Access) -> Result<(), Failure> {
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
        let mut length = length.ok_or_else(|| Failure::new("EFBIG", Errno::FBIG))?;
        if access.is_direct() {
            length = length.next_multiple_of(BLOCK);
        }
        let end = self.files.get(&id).ok_or_else(Failure::absent)?.cache.len();
        if length > end.max(self.longest(id)?) {
            return Err(Failure::full());
        }
        let zeros = vec![0; length.saturating_sub(end)];
        self.write(id, end as u64, &zeros, (Route::Straight, Access::Cached))
    }

    /// How long the file can be with the space that is left.
    fn longest(&self, id: Id) -> Result<usize, Failure> {
        let own = self.files.get(&id).ok_or_else(Failure::absent)?.cache.len();
        let Some(capacity) = self.capacity else { return Ok(LONGEST) };
        // A file with two names takes its space once.
        let named: BTreeSet<Id> = self.directory.seen.values().copied().collect();
        let used = named
            .iter()
            .filter_map(|id| self.files.get(id))
            .fold(0_u64, |sum, file| sum.saturating_add(file.cache.len() as u64));
        let free = usize::try_from(capacity.saturating_sub(used)).unwrap_or(LONGEST);
        Ok(own.saturating_add(free).min(LONGEST.max(own)))
    }

    pub(super) fn read(&self, id: Id, offset: u64, buffer: &mut [u8]) -> Result<usize, Failure> {
        let file = self.files.get(&id).ok_or_else(Failure::absent)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(file.cache.read(offset, buffer))
    }

    pub(super) fn sync(&mut self, id: Id) -> Result<(), Failure> {
        // Nothing is lost, so it does not matter what is on the medium.
        self.file(id)?.settle(&Medium::default(), &mut |_| Fate::Kept);
        Ok(())
    }

    /// The number of the last effect.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Makes durable what a file's effects behind that number are, and nothing else.
    pub(super) fn sync_behind(&mut self, id: Id, sequence: u64) -> Result<(), Failure> {
        self.file(id)?.settle_from(sequence.saturating_add(1));
        Ok(())
    }

    /// Bytes that were meant for another file.
    pub(super) fn overwrite(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        if let Some(file) = self.find(name).and_then(|id| self.files.get_mut(&id)) {
            file.overwrite(usize::try_from(offset).unwrap_or(usize::MAX), bytes);
        }
    }

    /// Flips the bits that the fault asks for.
    pub(super) fn flip(&mut self, fault: &Fault) {
        for (name, id) in &self.directory.seen {
            let (Some(bit), Some(file)) = (fault.flips(name), self.files.get_mut(id)) else { continue };
            let bits = (file.cache.len() as u64).saturating_mul(8).max(1);
            file.flip(match bit {
                Bit::At(bit) => bit,
                Bit::Seed(seed) => Rng::new(seed).next() % bits,
            });
        }
    }

    /// The pages are marked clean, and what was in them never gets to the disk, or some of it just did. Without pages, nothing shows what is
    /// not there.
    pub(super) fn spoil_sync(&mut self, id: Id, access: Access) {
        let mut spoiler = self.spoiler.take();
        if let Some(file) = self.files.get_mut(&id) {
            file.settle(&Medium::default(), &mut |_| {
                Fate::kept(spoiler.as_mut().is_some_and(|rng| rng.chance(1, 2)))
            });
            if access.is_direct() {
                file.forget_cache();
            }
        }
        self.spoiler = spoiler;
    }

    pub(super) fn sync_dir(&mut self, directory: &str) {
        if self.options.ordered_names {
            // One journal.
            return self.sync_names();
        }
        self.directory.settle_in(directory, Fate::Kept);
        self.forget_unreachable();
    }

    pub(super) fn spoil_sync_dir(&mut self, directory: &str) {
        if self.options.lose_names {
            self.directory.settle_in(directory, Fate::Lost);
        }
    }

    fn sync_names(&mut self) {
        self.directory.settle(&mut |_| Fate::Kept);
        self.forget_unreachable();
    }

    /// Files that have no name, may not get one back, and are not open.
    fn forget_unreachable(&mut self) {
        for (id, file) in mem::take(&mut self.files) {
            if Arc::strong_count(&file.handles) > 1 || self.directory.mentions(id) {
                self.files.insert(id, file);
            } else {
                bury(&mut self.remains, &file);
            }
        }
    }

    /// Puts a file there that is durable, name and all, and everything pending about names with it.
    pub(super) fn place(&mut self, name: &str, bytes: &[u8]) {
        self.sync_names();
        self.directory.published = true;
        let id = self.next();
        self.files.insert(id, Inode::at_rest(name, Image::from(bytes)));
        self.directory.seen.insert(name.to_owned(), id);
        self.directory.durable.insert(name.to_owned(), id);
        self.forget_unreachable();
    }

    /// Takes a file away durably.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let there = self.directory.seen.remove(name).is_some();
        self.sync_names();
        self.directory.durable.remove(name);
        self.forget_unreachable();
        there
    }
}

/// Remembers what a file that is gone left on the medium.
fn bury(remains: &mut Vec<Image>, file: &Inode) {
    if file.durable.len() > 0 {
        remains.push(file.durable.clone());
        remains.drain(..remains.len().saturating_sub(REMAINS));
    }
}
