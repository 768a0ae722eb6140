//! The crashable disk: keeps what is durable apart from what is pending, and fails on request.
//!
//! A [`SimStorage`] is a directory in memory. Whatever is written, created, renamed or unlinked is seen at once and stays
//! *pending* until the right sync; a power cut keeps some of what is pending and loses the rest, as its seed decides.
//! Run your engine on it, cut the power, run your recovery on the disk that is left, and check your promises:
//!
//! ```
//! use wal_io::{Storage, sim::{Fault, SimStorage}};
//!
//! let disk = SimStorage::new();
//! let file = disk.create("a.wal")?;
//! disk.sync_dir()?;
//! disk.sync_parents()?;
//! file.write_at(0, b"promised")?;
//! file.sync_data()?;
//! file.write_at(8, b", hoped")?;
//!
//! let after = disk.crash(42); // another seed, another outcome; the same seed, the same outcome
//! assert!(after.read_file("a.wal").unwrap().starts_with(b"promised"));
//! assert!(file.write_at(0, b"zombie").is_err()); // whoever wrote before the power cut is dead
//!
//! after.fail(Fault::parse("fail sync #1 of *.wal with EIO").unwrap());
//! assert!(after.open_sink("a.wal")?.sync_data().is_err());
//! # Ok::<(), wal_io::IoError>(())
//! ```
//!
//! To try every crash point, loop: run the workload with [`SimStorage::crash_after`] 0, 1, 2 ... until it comes to its
//! end, and cut the power after each. To try every outcome of one power cut, decide each of [`SimStorage::pending`]
//! yourself in [`SimStorage::crash_with`]; a disk that was cut can be cut again, from the same state.
//!
//! # What is modelled
//! POSIX promises nothing about a crash but that what fsync was called for is there ([fsync]), and file systems make use of
//! that ([ALICE] lists how). So by default **any subset** of what was not synced may survive:
//! - **Bytes.** A write is split at sectors of 512 bytes. Each part survives apart from the others, later ones without
//!   earlier ones; also of two writes to one sector, which is more than a page cache does. A sector is old or new, never
//!   mixed, unless [`SimOptions::tear`], and the synced bytes in a sector that was being written are safe, unless
//!   [`SimOptions::spoil_sectors`]. In some crashes a part that was not synced leaves garbage where there was nothing:
//!   random bytes, or those of a file that was deleted ([`SimOptions::stale`]).
//! - **Past the cache** ([`Access::Direct`](crate::Access)) whole blocks of two sectors are written: the last one again and again, as it fills.
//!   A sector of it is old or new, and with [`SimOptions::tear`] a part of each; what is the same in both survives, unless
//!   [`SimOptions::spoil_sectors`], which may spoil every sector of the block. So a log that shall survive that begins each group at a multiple of
//!   [`Sink::block_bytes`](crate::Sink::block_bytes). What is written and synced in one is two operations, so that the power can go in between;
//!   it makes nothing else durable, and the sink syncs all if it has written something else before. After a failed sync readers see what is on the
//!   disk. Zeros of [`Sink::fill`](crate::Sink::fill) are pending like any bytes.
//! - **Lengths** survive apart from bytes: a length ahead of the bytes reads as zeros, bytes beyond the length are cut
//!   off. A length may have grown only in part. Nothing makes a file shorter: the traits have no truncation.
//! - **Names.** Each change of a name survives apart from the others and from the file's bytes: to sync a file does not
//!   sync its name ([fsync]). A rename leaves the old name or the new one, never both or none unless
//!   [`SimOptions::split_renames`].
//! - **The directory** itself vanishes with all that is in it unless its parents were synced.
//! - **A failed sync** of a file drops what was pending: the pages count as clean, reads still show them, no later sync
//!   makes them durable, and a power cut takes them, as on ext4 and XFS ([Rebello]). The same bytes written again are
//!   pending again. What was pending in the directory stays so after a failed `sync_dir`, unless
//!   [`SimOptions::lose_names`].
//! - **The death of a process** ([`SimStorage::process_crash`]): nothing is lost, what was pending stays pending.
//! - **Zombies.** After a crash of either kind the old storage and every handle of it fail with [`Gone`].
//! - **Faults** ([`Fault`]), disks that lie, miss and rot among them, and a disk that is full
//!   ([`SimStorage::set_capacity`]; files with a name count).
//!
//! A real file system keeps more than it must. [`SimOptions::ext4`] leaves out what ext4 does not do:
//! - **Names survive in the order of the journal**: transactions are replayed up to the last one that was committed
//!   ([journal]). In truth any fsync commits all names before it, too; the model does not count on that, so it stays a little
//!   worse than ext4.
//! - **No size ahead of the data** with `data=ordered`: the data goes to the disk before the metadata that make it reachable
//!   are committed ([ext4]), so there are neither zeros nor stale bytes. With `data=writeback`
//!   ([`SimOptions::ext4_writeback`]) that order is not kept ([ext4]), and a file shows what its blocks held before. Space that
//!   was only reserved reads as zeros in both.
//! - Sizes are not ordered among the names: blocks are allocated long after the write ([ext4], `delalloc`), which is why a file
//!   that was written, renamed and not synced may be empty.
//!
//! [fsync]: https://man7.org/linux/man-pages/man2/fsync.2.html
//! [ALICE]: https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai
//! [Rebello]: https://www.usenix.org/conference/atc20/presentation/rebello
//! [ext4]: https://docs.kernel.org/admin-guide/ext4.html
//! [journal]: https://docs.kernel.org/filesystems/ext4/journal.html
//!
//! # What is not modelled
//! Directories inside the directory, links inside of one directory, names that are not UTF-8, permissions, reads that change what is durable, and
//! the kernel writing pages back before a sync (a crash may keep anything pending, so nothing is missed).

mod directory;
mod disk;
mod fault;
mod handles;
mod image;
mod inode;
mod pending;
mod rng;
#[cfg(test)]
mod tests;
mod trace;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use directory::directory_of;
use disk::{Disk, Hook};
pub use fault::Fault;
pub use pending::Pending;
use pending::{Dice, Fate};
pub use words::FaultError;

use crate::IoError;

/// A directory in memory that can crash; see [the module](self). A clone is the same disk.
#[derive(Clone)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
    /// Before the names of this directory: its own and a slash; nothing for the first.
    prefix: Arc<str>,
    path: Arc<Path>,
}

/// How cruel the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SimOptions {
    /// A sector may be torn at any byte, and garbage may replace durable bytes that were being overwritten. Off by
    /// default: a sector is old or new.
    pub tear: bool,
    /// With [`SimOptions::garbage`]: a sector that was being written when the power went may be garbage as a whole, with the
    /// synced bytes in it that nobody was changing. Off by default: real disks are built to finish the sector that they
    /// have begun, and a log that goes on writing in a sector that holds synced bytes cannot survive those that do not.
    pub spoil_sectors: bool,
    /// Parts of a write that were not synced may leave garbage. On by default.
    pub garbage: bool,
    /// With [`SimOptions::garbage`]: it may be what a file that is gone left on the medium. Off by default: few file systems
    /// show it to anybody.
    pub stale: bool,
    /// Changes of names survive in the order in which they were made: if one is lost, so are all later ones, even if
    /// [`SimStorage::crash_with`] is told otherwise. Off by default.
    pub ordered_names: bool,
    /// A file is never longer than the bytes that survived at its end. Space that was reserved counts as bytes. Off by
    /// default.
    pub data_before_size: bool,
    /// A rename is two changes that survive apart: both names, or neither, are possible. Off by default.
    pub split_renames: bool,
    /// A failed sync of the directory loses the names that were pending: seen, but never durable by a later sync. Off by
    /// default; they stay pending.
    pub lose_names: bool,
    /// With a seed, a random half of what was pending is durable after a failed sync of a file; without, nothing.
    pub failed_sync_seed: Option<u64>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            tear: false,
            spoil_sectors: false,
            garbage: true,
            stale: false,
            ordered_names: false,
            data_before_size: false,
            split_renames: false,
            lose_names: false,
            failed_sync_seed: None,
        }
    }
}

impl SimOptions {
    /// Only what ext4 does as it is mounted by default, with `data=ordered`: names in the order of the journal, no size ahead
    /// of the data, no garbage.
    pub fn ext4() -> Self {
        Self { garbage: false, stale: false, data_before_size: true, ..Self::ext4_writeback() }
    }

    /// Only what ext4 does with `data=writeback`: names in the order of the journal; sizes ahead of the data, and then old
    /// bytes of other files may show.
    pub fn ext4_writeback() -> Self {
        Self { ordered_names: true, stale: true, ..Self::default() }
    }
}

/// Why every operation fails: inside the [`IoError`] that it fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gone {
    /// The power went ([`SimStorage::crash_after`]).
    Frozen,
    /// There was a crash, and another [`SimStorage`] is the disk now.
    Replaced,
}

impl Gone {
    /// Is this why the operation failed?
    pub fn of(error: &IoError) -> Option<Self> {
        let cause = std::error::Error::source(error)?.downcast_ref::<io::Error>()?;
        cause.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frozen => "the simulated power is gone",
            Self::Replaced => "the simulated disk has crashed and was replaced",
        })
    }
}

impl std::error::Error for Gone {}

impl From<Gone> for io::Error {
    fn from(gone: Gone) -> Self {
        Self::other(gone)
    }
}

impl Disk {
    fn gone(&self) -> Option<Gone> {
        match (self.dead, self.recorder.frozen()) {
            (true, _) => Some(Gone::Replaced),
            (false, true) => Some(Gone::Frozen),
            (false, false) => None,
        }
    }
}

impl Default for SimStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStorage").finish_non_exhaustive()
    }
}

impl SimStorage {
    /// An empty directory whose parents were not synced yet.
    pub fn new() -> Self {
        Self::with_options(SimOptions::default())
    }

    /// The same, more or less cruel.
    pub fn with_options(options: SimOptions) -> Self {
        Self::around(Disk::new(options))
    }

    fn around(disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)), prefix: "".into(), path: Path::new("sim").into() }
    }

    /// This directory of another disk.
    fn of(&self, disk: Disk) -> Self {
        Self { disk: Arc::new(Mutex::new(disk)), ..self.clone() }
    }

    /// Another directory of the same disk, beside the first one: empty, if this name was not asked for before. Files can be linked from one to the
    /// other. Faults, capacity, trace and counts are the disk's, where its names begin with `name/`. It survives a power cut
    /// wherever the first directory does.
    pub fn directory(&self, name: &str) -> Self {
        let disk = Arc::clone(&self.disk);
        Self { disk, prefix: format!("{name}/").into(), path: Path::new("sim").join(name).into() }
    }

    /// A name as the disk knows it.
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name in this directory, if it is in it.
    fn own<'a>(&self, name: &'a str) -> Option<&'a str> {
        (directory_of(name) == &*self.prefix).then(|| name.get(self.prefix.len()..).unwrap_or_default())
    }

    fn locked(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Crashes. Each returns the disk that is left; this one is dead, with all its handles, but can be cut again from the
/// state it died in. Options and capacity carry over; faults, trace, counts and locks do not.
impl SimStorage {
    /// Cuts the power; the seed decides what of everything pending survives.
    pub fn crash(&self, seed: u64) -> Self {
        let mut dice = Dice::new(seed, self.locked().options);
        self.cut_deciding(&mut |pending| dice.throw(pending))
    }

    /// Cuts the power; nothing pending survives.
    pub fn crash_all_lost(&self) -> Self {
        self.cut(&mut |_| Fate::Lost)
    }

    /// Cuts the power; everything pending survives. What a failed sync dropped does not.
    pub fn crash_all_kept(&self) -> Self {
        self.cut(&mut |_| Fate::Kept)
    }

    /// Cuts the power; asks for each of [`SimStorage::pending`], in that order, whether it survives.
    pub fn crash_with(&self, survives: &mut dyn FnMut(&Pending) -> bool) -> Self {
        self.cut_deciding(&mut |pending| Fate::kept(survives(pending)))
    }

    fn cut_deciding(&self, decide: &mut dyn FnMut(&Pending) -> Fate) -> Self {
        // Decided without the disk's lock, so that the caller may look at the disk.
        let pending = self.locked().pending();
        let ordered = self.locked().options.ordered_names;
        let mut names_end = false;
        let fates = pending.iter().map(|(sequence, one)| {
            let mut fate = decide(one);
            if ordered && one.is_name() {
                names_end |= fate != Fate::Kept;
                fate = Fate::kept(!names_end);
            }
            (*sequence, fate)
        });
        let fates: Vec<(u64, Fate)> = fates.collect();
        self.cut(&mut |sequence| {
            let place = fates.binary_search_by_key(&sequence, |(sequence, _)| *sequence);
            place.ok().and_then(|place| fates.get(place)).map_or(Fate::Lost, |(_, fate)| *fate)
        })
    }

    fn cut(&self, fate: &mut dyn FnMut(u64) -> Fate) -> Self {
        let mut disk = self.locked();
        disk.dead = true;
        self.of(disk.after_power_cut(fate))
    }

    /// Ends the process, not the power: reads show what they showed, what was pending is pending, locks are free.
    pub fn process_crash(&self) -> Self {
        let mut disk = self.locked();
        disk.dead = true;
        self.of(disk.after_process_crash())
    }

    /// A copy that lives on its own: what was pending is pending in both, and this disk goes on untouched. The copy has no
    /// handles, locks, faults, hook, trace or counts, as after [`SimStorage::process_crash`].
    pub fn fork(&self) -> Self {
        self.of(self.locked().after_process_crash())
    }

    /// A hash over everything that decides what can become of the disk: what is durable, pending, seen and dropped by
    /// failed syncs, of the names and of every file that a name leads to or may lead to, the options, and the capacity. Two
    /// disks with the same fingerprint have the same outcomes, whatever was done to get there.
    ///
    /// Not in it: handles, locks and files that only a handle keeps; faults, hook, trace and counts; how changes of one file
    /// or name were interleaved with those of another, because they survive apart. So a seed given to
    /// [`SimStorage::crash`] may choose another of the same outcomes. The value may change with the version of this crate.
    pub fn fingerprint(&self) -> u128 {
        self.locked().fingerprint()
    }

    /// Everything that the next power cut may keep or lose, in the order in which it was done.
    pub fn pending(&self) -> Vec<Pending> {
        self.locked().pending().into_iter().map(|(_, pending)| pending).collect()
    }

    /// Power goes after `mutations` more mutating operations: all further operations of any kind fail with
    /// [`Gone::Frozen`] and do nothing. Then crash the disk in one of the ways above.
    pub fn crash_after(&self, mutations: u64) {
        let mut disk = self.locked();
        disk.recorder.limit = Some(disk.recorder.mutations.saturating_add(mutations));
    }

    /// The power is gone, or there was a crash.
    pub fn is_frozen(&self) -> bool {
        self.locked().gone().is_some()
    }
}

/// Faults, and what was done.
impl SimStorage {
    /// Adds a fault.
    pub fn fail(&self, fault: Fault) {
        let mut disk = self.locked();
        disk.flip(&fault);
        disk.faults.add(fault);
    }

    /// Removes all faults; what they did stays.
    pub fn clear_faults(&self) {
        self.locked().faults.clear();
    }

    /// Calls `hook` before each operation, with the words of the trace and without the disk's lock, so that it may look at
    /// the disk, cut the power, wait, or hand over to another thread. It must not operate on this disk: that would call it
    /// again. One hook at a time; neither a crash nor a fork takes it along.
    pub fn before_each(&self, hook: Arc<dyn Fn(&str) + Send + Sync>) {
        let hook: Hook = hook;
        self.locked().before_each = Some(hook);
    }

    /// Calls `hook` before each operation that a fault makes slow, as [`SimStorage::before_each`] does. There, a test can let
    /// the operation wait for whatever it likes.
    pub fn when_slow(&self, hook: Arc<dyn Fn(&str) + Send + Sync>) {
        let hook: Hook = hook;
        self.locked().when_slow = Some(hook);
    }

    /// How many bytes the files that have a name may have together; a write beyond it writes what fits and fails with
    /// ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.locked().capacity = bytes;
    }

    /// Every operation so far, in order: `write 000001.wal 0+512`, `rename a b`, `syncdir = EIO`; `read a 0+9 = EINTR` and then
    /// the same again, `write a 0+512 = 256` and then the rest, `syncdata a slowly`; `write a 0+1024 direct` of a file
    /// that is written past the cache. Operations after the power went are not in it.
    pub fn trace(&self) -> Vec<String> {
        self.locked().recorder.lines.iter().map(ToString::to_string).collect()
    }

    /// Empties the trace; the counts stay.
    pub fn clear_trace(&self) {
        self.locked().recorder.lines.clear();
    }

    /// How many operations of each kind there were, failed, interrupted and short ones included, by the words of the trace.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.locked().recorder.counts.clone()
    }

    /// How many mutating operations there were, failed ones included: create, write, all syncs, rename, link, unlink,
    /// preallocate, fill. A lock is not counted, even where it creates its file.
    pub fn mutations(&self) -> u64 {
        self.locked().recorder.mutations
    }

    /// The directory's parents were synced.
    pub fn is_published(&self) -> bool {
        self.locked().directory.published
    }
}

/// Looking at the disk, and changing it, from outside: no fault strikes, nothing is traced or counted.
impl SimStorage {
    /// What a reader would see.
    pub fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.locked();
        disk.files.get(&disk.find(&self.full(name))?).map(|file| file.cache.to_vec())
    }

    /// The names that a listing would show, sorted.
    pub fn file_names(&self) -> Vec<String> {
        self.locked().directory.seen.keys().filter_map(|name| self.own(name)).map(str::to_owned).collect()
    }

    /// What is certain to survive a power cut now: nothing, if the directory itself is not.
    pub fn durable_files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.locked();
        let names = disk.directory.durable.iter().filter(|_| disk.directory.published);
        names
            .filter_map(|(name, id)| Some((self.own(name)?.to_owned(), disk.files.get(id)?.durable.to_vec())))
            .collect()
    }

    /// Puts a durable file there, name and all, instead of what was there; all names and the directory become durable.
    pub fn write_file(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.locked().place(&self.full(name), &bytes.into());
    }

    /// Takes a file away durably; all other names become durable. False if it was not there.
    pub fn remove(&self, name: &str) -> bool {
        self.locked().take(&self.full(name))
    }

    /// Changes what readers see of a file, and makes exactly that durable. False if there is no such file.
    pub fn corrupt(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut disk = self.locked();
        let Some(id) = disk.find(&self.full(name)) else { return false };
        let Some(file) = disk.files.get_mut(&id) else { return false };
        file.corrupt(change);
        true
    }
}
