//! The backends of this crate keep the rules, and each rule notices its defect.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{DURABLE_RULES, LINK_RULES, RULES, check_all, check_durable, check_links};
use crate::fs::FsStorage;
use crate::mem::MemStorage;
use crate::sim::{Fault, SimOptions, SimStorage};
use crate::{Access, Entry, EntryKind, IoError, Lock, Operation, Sink, Source, Storage};

#[test]
fn i7_fs_conforms() {
    let outer = tempfile::tempdir().unwrap();
    let number = Cell::new(0);
    let violations = check_all(|| {
        number.set(number.get() + 1);
        FsStorage::create(outer.path().join(number.get().to_string())).unwrap()
    });
    assert_eq!(violations, []);
}

/// The directory of temporary files may have no direct I/O, and then it is refused; that in which we are built has it.
#[test]
fn i7_i8_fs_conforms_past_the_cache() {
    let outer = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let number = Cell::new(0);
    let violations = check_all(|| {
        number.set(number.get() + 1);
        FsStorage::create(outer.path().join(number.get().to_string())).unwrap()
    });
    assert_eq!(violations, []);
}

#[test]
fn i7_mem_conforms() {
    assert_eq!(check_all(MemStorage::new), []);
}

#[test]
fn i7_sim_conforms() {
    let cruel = SimOptions { tear: true, spoil_sectors: true, split_renames: true, ..SimOptions::ext4() };
    for options in [SimOptions::default(), cruel] {
        assert_eq!(check_all(|| SimStorage::with_options(options)), []);
    }
    // What a backend has to hide from its callers.
    let stumbling = || {
        let disk = SimStorage::new();
        for fault in ["interrupt any 1 in 2 seed 3", "short write 1 in 3 seed 4", "slow any 1 in 2 seed 5"] {
            disk.fail(Fault::parse(fault).unwrap());
        }
        disk
    };
    assert_eq!(check_all(stumbling), []);
}

#[test]
fn i7_links_conform() {
    let outer = tempfile::tempdir().unwrap();
    let number = Cell::new(0);
    let directory = || {
        number.set(number.get() + 1);
        FsStorage::create(outer.path().join(number.get().to_string())).unwrap()
    };
    assert_eq!(check_links(|| (directory(), directory())), []);
    let (from, to) = (directory(), directory());
    from.create("a").unwrap();
    to.link_from(&from, "a", "a").expect("real directories have links");
    // A backend without links, and one directory to itself.
    assert_eq!(check_links(|| (MemStorage::new(), MemStorage::new())), []);
    let two = |options| {
        let disk = SimStorage::with_options(options);
        let other = disk.directory("other");
        (disk, other)
    };
    for options in [SimOptions::default(), SimOptions::ext4()] {
        assert_eq!(check_links(|| two(options)), []);
        assert_eq!(
            check_links(|| {
                let (disk, other) = two(options);
                (other, disk)
            }),
            []
        );
    }
    assert_eq!(check_links(|| (SimStorage::new(), SimStorage::new())), []);
    // Directories keep every other rule, too.
    assert_eq!(check_all(|| SimStorage::new().directory("other")), []);
}

/// What is wrong with links.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BadLink {
    IsACopy,
    NamesBothOnFailure,
    Replaces,
}

/// Links that break a rule.
#[derive(Debug)]
struct Linking(SimStorage, BadLink);

impl Storage for Linking {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.0.list()
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.0.create_with(name, access)
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.0.open_sink_with(name, access)
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        self.0.open_source(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.0.rename(from, to)
    }

    fn link_from(&self, from: &dyn Storage, name: &str, to: &str) -> Result<(), IoError> {
        match self.1 {
            BadLink::IsACopy => {
                let mut bytes = [0; 5];
                from.open_source(name)?.read_at(0, &mut bytes)?;
                self.0.create(to)?.write_at(0, &bytes)
            }
            BadLink::NamesBothOnFailure => {
                self.0.create(to)?;
                let error = io::ErrorKind::Unsupported.into();
                Err(IoError::new(Operation::Link, to, error))
            }
            BadLink::Replaces => {
                let _ = self.0.unlink(to);
                self.0.link_from(from, name, to)
            }
        }
    }

    fn backend(&self) -> Option<&dyn std::any::Any> {
        self.0.backend()
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.0.unlink(name)
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.0.sync_dir()
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.0.sync_parents()
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        self.0.lock(name)
    }
}

#[test]
fn i7_each_rule_of_links_notices_its_defect() {
    let defects = [
        (BadLink::NamesBothOnFailure, "a link is made or refused"),
        (BadLink::IsACopy, "a linked file is one file"),
        (BadLink::Replaces, "a link takes no name's place"),
    ];
    for (defect, rule) in defects {
        let violations = check_links(|| {
            let disk = SimStorage::new();
            (Linking(disk.clone(), defect), Linking(disk.directory("other"), defect))
        });
        assert!(violations.iter().any(|one| one.rule == rule), "{defect:?} breaks only {violations:#?}");
    }
    assert_eq!(defects.len(), LINK_RULES.len(), "a rule without a defect");
}

/// A link survives a power cut once its directory was synced, and not before; the file has two names, whose fates are apart.
#[test]
fn i7_links_of_the_simulated_disk_are_durable_when_their_directory_is_synced() {
    let disk = SimStorage::new();
    let other = disk.directory("other");
    let sink = disk.create("a").unwrap();
    sink.write_at(0, b"bytes").unwrap();
    sink.sync_all().unwrap();
    disk.sync_dir().unwrap();
    disk.sync_parents().unwrap();
    other.link_from(&disk, "a", "b").unwrap();
    disk.sync_dir().unwrap();
    let lost = disk.fork().crash_all_lost();
    assert_eq!((lost.file_names(), lost.directory("other").file_names()), (vec!["a".to_owned()], vec![]));
    other.sync_dir().unwrap();
    disk.unlink("a").unwrap();
    let lost = disk.fork().crash_all_lost();
    assert_eq!(lost.read_file("a").unwrap(), b"bytes");
    assert_eq!(lost.directory("other").read_file("b").unwrap(), b"bytes");
    disk.sync_dir().unwrap();
    let after = disk.crash_all_lost();
    assert_eq!(after.file_names(), Vec::<String>::new());
    assert_eq!(after.directory("other").durable_files()["b"], b"bytes");
}

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    LostAndFound,
    TakesDots,
    RefusesSpaces,
    CreatesOver,
    CreatesOnOpen,
    WrongPath,
    ListsTwice,
    ListsDirectories,
    ShortReads,
    FillsTheBuffer,
    CutsLargeWrites,
    HolesOfOnes,
    EmptyWritesGrow,
    WritesTruncate,
    OpensTruncate,
    SinksBuffer,
    SourcesAreSnapshots,
    WrapsOffsets,
    PreallocatesOnes,
    PreallocateIsIgnored,
    PreallocateCuts,
    SyncsFail,
    RenameCopies,
    RenameWritesOver,
    UnlinkEmpties,
    LocksShare,
    LocksEndEarly,
    LocksTruncate,
    LocksAreOfNames,
    PanicsInThreads,
    Reorders,
    WriteSyncedOnlySyncs,
    FillIsIgnored,
    FillsOnes,
    FillsFromTheStart,
    RefusesDirectLate,
    BlocksOfThree,
    DirectForgetsTheTail,
    DirectLeavesPadding,
    DirectOpensForget,
    DirectFillsForget,
}

/// A good backend with one defect.
#[derive(Clone, Debug)]
struct Broken {
    inner: MemStorage,
    defect: Defect,
    locks: Arc<Mutex<BTreeSet<String>>>,
}

impl Broken {
    fn new(defect: Defect) -> Self {
        let inner = MemStorage::new();
        if defect == Defect::LostAndFound {
            inner.create("lost+found").unwrap();
        }
        Self { inner, defect, locks: Arc::default() }
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn file(&self, name: &str) -> Result<BrokenFile, IoError> {
        self.file_with(name, Access::Cached)
    }

    fn file_with(&self, name: &str, access: Access) -> Result<BrokenFile, IoError> {
        let (sink, source) = (self.inner.open_sink(name)?, self.inner.open_source(name)?);
        let snapshot = bytes_of(&*source);
        Ok(BrokenFile { sink, source, snapshot, buffered: Mutex::default(), defect: self.defect, access })
    }
}

fn bytes_of(source: &dyn Source) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(source.length().unwrap()).unwrap()];
    source.read_at(0, &mut bytes).unwrap();
    bytes
}

impl Storage for Broken {
    fn path(&self) -> &Path {
        if self.is(Defect::WrongPath) { Path::new("elsewhere") } else { self.inner.path() }
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        let mut entries = self.inner.list()?;
        if self.is(Defect::ListsTwice) {
            entries.extend(entries.clone());
        }
        if self.is(Defect::ListsDirectories) {
            entries.iter_mut().for_each(|entry| entry.kind = EntryKind::Directory);
        }
        Ok(entries)
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        if self.is(Defect::RefusesSpaces) && name.contains(' ') {
            return Err(IoError::new(Operation::Create, name, io::ErrorKind::InvalidInput.into()));
        }
        if self.is(Defect::CreatesOver) {
            let _ = self.inner.unlink(name);
        }
        let name = if self.is(Defect::TakesDots) && name == ".." { "dots" } else { name };
        self.inner.create(name)?;
        if self.is(Defect::RefusesDirectLate) && access.is_direct() {
            return Err(IoError::new(Operation::Create, name, io::ErrorKind::Unsupported.into()));
        }
        Ok(Arc::new(self.file_with(name, access)?))
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        if self.is(Defect::CreatesOnOpen) {
            let _ = self.inner.create(name);
        }
        let file = self.file_with(name, access)?;
        if self.is(Defect::OpensTruncate) {
            self.inner.unlink(name)?;
            self.inner.create(name)?;
            return Ok(Arc::new(self.file(name)?));
        }
        Ok(Arc::new(file))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        Ok(Arc::new(self.file(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        if self.is(Defect::RenameWritesOver)
            && let (Ok(one), Ok(two)) = (self.inner.open_source(from), self.inner.open_sink(to))
        {
            two.write_at(0, &bytes_of(&*one))?;
            return if from == to { Ok(()) } else { self.inner.unlink(from) };
        }
        self.inner.rename(from, to)?;
        if self.is(Defect::RenameCopies) && from != to {
            self.inner.create(from)?.write_at(0, &bytes_of(&*self.inner.open_source(to)?))?;
        }
        Ok(())
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        if self.is(Defect::UnlinkEmpties)
            && let (Ok(source), Ok(sink)) = (self.inner.open_source(name), self.inner.open_sink(name))
        {
            sink.write_at(0, &vec![0; bytes_of(&*source).len()])?;
        }
        self.inner.unlink(name)
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        if self.is(Defect::SyncsFail) && self.inner.list()?.is_empty() {
            return Err(IoError::new(Operation::SyncDirectory, "", io::ErrorKind::Other.into()));
        }
        if self.is(Defect::PanicsInThreads) {
            assert!(std::thread::current().name().is_some(), "only threads with a name may sync");
        }
        self.inner.sync_dir()
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.inner.sync_parents()
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        match self.defect {
            Defect::LocksShare => {
                let _ = self.inner.lock(name)?;
                return Ok(Box::new(NameLock { name: String::new(), locks: Arc::default() }));
            }
            Defect::LocksEndEarly => {
                // Whoever asks in vain ends it.
                if !self.locks.lock().unwrap().insert(name.to_owned()) {
                    self.locks.lock().unwrap().remove(name);
                    return Err(IoError::new(Operation::Lock, name, io::ErrorKind::WouldBlock.into()));
                }
            }
            Defect::LocksTruncate => {
                let _ = self.inner.unlink(name);
            }
            Defect::LocksAreOfNames => {
                if !self.locks.lock().unwrap().insert(name.to_owned()) {
                    return Err(IoError::new(Operation::Lock, name, io::ErrorKind::WouldBlock.into()));
                }
            }
            _ => return self.inner.lock(name),
        }
        let _ = self.inner.create(name);
        Ok(Box::new(NameLock { name: name.to_owned(), locks: Arc::clone(&self.locks) }))
    }
}

#[derive(Debug)]
struct NameLock {
    name: String,
    locks: Arc<Mutex<BTreeSet<String>>>,
}

impl Lock for NameLock {}

impl Drop for NameLock {
    fn drop(&mut self) {
        self.locks.lock().unwrap().remove(&self.name);
    }
}

#[derive(Debug)]
struct BrokenFile {
    sink: Arc<dyn Sink>,
    source: Arc<dyn Source>,
    snapshot: Vec<u8>,
    buffered: Mutex<Vec<(u64, Vec<u8>)>>,
    defect: Defect,
    access: Access,
}

impl Drop for BrokenFile {
    fn drop(&mut self) {
        self.flush();
    }
}

impl BrokenFile {
    fn is_direct(&self) -> bool {
        self.access.is_direct()
    }

    fn flush(&self) {
        for (offset, bytes) in self.buffered.lock().unwrap().drain(..) {
            let _ = self.sink.write_at(offset, &bytes);
        }
    }
}

impl Sink for BrokenFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let length = self.source.length()?;
        match self.defect {
            Defect::CutsLargeWrites => return self.sink.write_at(offset, &bytes[..bytes.len().min(1 << 20)]),
            Defect::HolesOfOnes if offset > length && offset < 1 << 30 => {
                self.sink.write_at(length, &vec![1; usize::try_from(offset - length).unwrap()])?;
            }
            Defect::EmptyWritesGrow if bytes.is_empty() => return self.sink.preallocate(offset),
            Defect::WritesTruncate => {
                let end = usize::try_from(offset.saturating_add(bytes.len() as u64)).unwrap_or(usize::MAX);
                if let Some(behind) = usize::try_from(length).unwrap().checked_sub(end) {
                    self.sink.write_at(end as u64, &vec![0; behind])?;
                }
            }
            Defect::SinksBuffer if offset < 1 << 30 => {
                self.buffered.lock().unwrap().push((offset, bytes.to_vec()));
                return Ok(());
            }
            Defect::WrapsOffsets => return self.sink.write_at(offset % (1 << 20), bytes),
            Defect::DirectForgetsTheTail if self.is_direct() && offset > 0 && length < 1 << 20 => {
                // The bytes in front of it, up to the block's start.
                let front = offset % 512;
                self.sink.write_at(offset - front, &vec![0; usize::try_from(front).unwrap()])?;
            }
            Defect::DirectLeavesPadding if self.is_direct() && offset < 1 << 30 => {
                self.sink.write_at(offset + bytes.len() as u64, b"left")?;
            }
            Defect::DirectOpensForget if self.is_direct() && !self.snapshot.is_empty() => {
                self.sink.write_at(0, &vec![0; self.snapshot.len()])?;
            }
            // Every other write goes a byte too far when threads are at work.
            Defect::Reorders if std::thread::current().name().is_none() => {
                return self.sink.write_at(offset + 1, bytes);
            }
            _ => {}
        }
        self.sink.write_at(offset, bytes)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.flush();
        self.sink.sync_data()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.flush();
        self.sink.sync_all()
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        let now = self.source.length()?;
        match self.defect {
            Defect::PreallocatesOnes if length > now && length < 1 << 30 => {
                return self.sink.write_at(now, &vec![1; usize::try_from(length - now).unwrap()]);
            }
            Defect::PreallocateIsIgnored if length < 1 << 30 => return Ok(()),
            Defect::PreallocateCuts if length < now => {
                return self.sink.write_at(length, &vec![0; usize::try_from(now - length).unwrap()]);
            }
            _ => {}
        }
        self.sink.preallocate(length)
    }

    fn write_synced_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        if self.defect != Defect::WriteSyncedOnlySyncs {
            self.write_at(offset, bytes)?;
        }
        self.sync_data()
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        let now = self.source.length()?;
        match self.defect {
            Defect::FillIsIgnored if length < 1 << 30 => return Ok(()),
            Defect::FillsOnes if length > now && length < 1 << 30 => {
                return self.sink.write_at(now, &vec![1; usize::try_from(length - now).unwrap()]);
            }
            Defect::FillsFromTheStart if length < 1 << 30 => {
                self.sink.write_at(0, &vec![0; usize::try_from(length).unwrap()])?;
            }
            Defect::DirectFillsForget if self.is_direct() && length < 1 << 30 => {
                self.sink.write_at(0, &[0; 3])?;
            }
            _ => {}
        }
        self.sink.fill(length)
    }

    fn block_bytes(&self) -> u64 {
        if self.defect == Defect::BlocksOfThree { 3 } else { self.sink.block_bytes() }
    }
}

impl Source for BrokenFile {
    fn length(&self) -> Result<u64, IoError> {
        if self.defect == Defect::SourcesAreSnapshots {
            return Ok(self.snapshot.len() as u64);
        }
        self.source.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        match self.defect {
            Defect::ShortReads => {
                let some = buffer.len().min(3);
                self.source.read_at(offset, &mut buffer[..some])
            }
            Defect::FillsTheBuffer => {
                let read = self.source.read_at(offset, buffer)?;
                buffer[read..].fill(0);
                Ok(read)
            }
            _ => self.source.read_at(offset, buffer),
        }
    }
}

#[test]
fn i7_each_rule_notices_its_defect() {
    use Defect::*;
    let defects = [
        (LostAndFound, "a new directory is empty"),
        (TakesDots, "only plain file names are taken"),
        (RefusesSpaces, "any plain file name is taken"),
        (CreatesOver, "create takes no name that exists"),
        (CreatesOnOpen, "what is absent is not found"),
        (WrongPath, "errors name the file"),
        (ListsTwice, "a listing shows every name once, as it is now"),
        (ListsDirectories, "a listing shows every name once, as it is now"),
        (ShortReads, "reads are short only at the end"),
        (FillsTheBuffer, "reads are short only at the end"),
        (CutsLargeWrites, "large reads and writes are whole"),
        (HolesOfOnes, "holes read as zeros"),
        (EmptyWritesGrow, "empty writes do nothing"),
        (WritesTruncate, "overwriting keeps the rest"),
        (OpensTruncate, "opening for writing keeps the bytes"),
        (SinksBuffer, "handles of one file share its bytes"),
        (SourcesAreSnapshots, "readers see a file grow"),
        (WrapsOffsets, "offsets beyond every file are refused"),
        (PreallocatesOnes, "preallocate makes a file longer, with zeros"),
        (PreallocateIsIgnored, "preallocate makes a file longer, with zeros"),
        (PreallocateCuts, "preallocate never cuts or changes bytes"),
        (SyncsFail, "syncs succeed also with nothing to sync"),
        (RenameCopies, "rename replaces"),
        (RenameWritesOver, "a replaced file lives as long as its handles"),
        (UnlinkEmpties, "an unlinked file lives as long as its handles"),
        (LocksShare, "locks exclude"),
        (LocksEndEarly, "locks exclude"),
        (LocksTruncate, "a lock is the file's, and leaves its bytes alone"),
        (LocksAreOfNames, "a lock is the file's, and leaves its bytes alone"),
        (PanicsInThreads, "threads may share everything"),
        (Reorders, "threads may share everything"),
        (WriteSyncedOnlySyncs, "to write and sync in one writes the same"),
        (FillIsIgnored, "fill makes a file longer, with zeros"),
        (FillsOnes, "fill makes a file longer, with zeros"),
        (FillsFromTheStart, "fill never cuts or changes bytes"),
        (RefusesDirectLate, "direct access is given, or refused without a trace"),
        (BlocksOfThree, "direct access is given, or refused without a trace"),
        (DirectForgetsTheTail, "a direct file holds what was written, then zeros"),
        (DirectLeavesPadding, "a direct file holds what was written, then zeros"),
        (DirectOpensForget, "a direct file keeps the bytes in front"),
        (DirectFillsForget, "a direct file that was filled is written over"),
    ];
    for (defect, rule) in defects {
        let violations = check_all(|| Broken::new(defect));
        assert!(violations.iter().any(|one| one.rule == rule), "{defect:?} breaks only {violations:#?}");
    }
    let noticed: BTreeSet<&str> = defects.iter().map(|(_, rule)| *rule).collect();
    assert_eq!(noticed.len(), RULES.len(), "a rule without a defect");
}

/// A crashable disk whose name is durable.
fn published(options: SimOptions) -> SimStorage {
    let disk = SimStorage::with_options(options);
    disk.sync_parents().unwrap();
    disk
}

#[test]
fn i7_sim_keeps_what_was_synced() {
    let cruel = SimOptions { tear: true, failed_sync_seed: Some(1), ..SimOptions::default() };
    for options in [SimOptions::default(), SimOptions::ext4(), cruel] {
        assert_eq!(check_durable(|| published(options), |disk| disk.crash_all_lost()), []);
        for seed in 0..200 {
            assert_eq!(check_durable(|| published(options), |disk| disk.crash(seed)), []);
        }
    }
}

/// A crashable disk whose sinks do not sync what they say.
#[derive(Debug)]
struct Unsynced(SimStorage, Skips);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skips {
    Sync,
    WriteSynced,
    WhatWasBefore,
    TheTail,
    Fills,
}

impl Storage for Unsynced {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.0.list()
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(Arc::new(UnsyncedFile(self.0.create_with(name, access)?, self.0.clone(), self.1)))
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.0.open_sink_with(name, access)
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        self.0.open_source(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.0.rename(from, to)
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.0.unlink(name)
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.0.sync_dir()
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.0.sync_parents()
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        self.0.lock(name)
    }
}

#[derive(Debug)]
struct UnsyncedFile(Arc<dyn Sink>, SimStorage, Skips);

impl Sink for UnsyncedFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.0.write_at(offset, bytes)
    }

    fn sync_data(&self) -> Result<(), IoError> {
        if self.2 == Skips::Sync { Ok(()) } else { self.0.sync_data() }
    }

    fn write_synced_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        match self.2 {
            Skips::WriteSynced => self.0.write_at(offset, bytes),
            Skips::WhatWasBefore if offset > 60_000 => {
                // Another handle knows nothing of what this one has written.
                self.1.open_sink_with("a", Access::Direct)?.write_synced_at(offset, bytes)
            }
            Skips::TheTail if offset > 10 => {
                let front = usize::try_from(offset % 512).unwrap();
                let bytes = [vec![0; front].as_slice(), bytes].concat();
                self.0.write_synced_at(offset - front as u64, &bytes)
            }
            _ => self.0.write_synced_at(offset, bytes),
        }
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.0.sync_all()
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.0.preallocate(length)
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        if self.2 == Skips::Fills { Ok(()) } else { self.0.fill(length) }
    }
}

#[test]
fn i7_each_rule_of_durability_notices_its_defect() {
    let defects = [
        (Skips::Sync, "synced bytes survive"),
        (Skips::WriteSynced, "what is written and synced in one survives"),
        (Skips::WhatWasBefore, "what is written and synced in one covers what was written before"),
        (Skips::TheTail, "what is written and synced in one leaves what was synced before"),
        (Skips::Fills, "synced zeros survive"),
    ];
    for (skips, rule) in defects {
        let new = || Unsynced(published(SimOptions::default()), skips);
        let violations = check_durable(new, |disk| Unsynced(disk.0.crash_all_lost(), skips));
        assert!(violations.iter().any(|one| one.rule == rule), "{skips:?} breaks only {violations:#?}");
    }
    assert_eq!(defects.len(), DURABLE_RULES.len(), "a rule without a defect");
}
