//! The crashable disk under the scheduler: threads may switch before each of its operations.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shuttle::sync::atomic::{AtomicU64, Ordering};
use wal_io::sim::{Gone, SimStorage};
use wal_io::{Access, Entry, IoError, Lock, Operation, Sink, Source, Storage};

/// What a storage or a recorder that panics throws. It does not go through the panic hook: shuttle would take it for a failure of the test.
#[derive(Debug)]
pub struct Injected;

/// Several disks on one supply of power. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Power(Arc<Mutex<Supply>>);

#[derive(Debug, Default)]
struct Supply {
    disks: Vec<SimStorage>,
    /// Mutating operations that are left until it goes.
    left: Option<u64>,
    /// Operations of a kind that are left until one panics.
    panic: Option<(Operation, u64)>,
    /// Operations that failed and were not asked after the power went.
    faults: BTreeMap<&'static str, u64>,
    panics: u64,
    /// Whose log must not touch the disk any more once this one has the lock.
    predecessor: Option<Power>,
    /// A successor has the lock.
    retired: bool,
}

impl Power {
    fn lock(&self) -> MutexGuard<'_, Supply> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of a successor: once it has the lock of its disk, nothing that is connected to `predecessor` may change the disk.
    pub fn after(predecessor: &Self) -> Self {
        let power = Self::default();
        power.lock().predecessor = Some(predecessor.clone());
        power
    }

    /// Connects a disk to it, and gives the storage through which the scheduler sees each operation.
    pub fn connect(&self, disk: &SimStorage) -> YieldingStorage {
        self.lock().disks.push(disk.clone());
        YieldingStorage { disk: disk.clone(), power: self.clone(), point: Arc::default() }
    }

    /// The power goes after so many more operations that change something, on all disks at once.
    pub fn cut_after(&self, operations: u64) {
        self.lock().left = Some(operations);
    }

    /// It does not go any more.
    pub fn hold(&self) {
        self.lock().left = None;
    }

    /// The thread that asks for the `nth` such operation from now on panics.
    pub fn panic_at(&self, operation: Operation, nth: u64) {
        self.lock().panic = Some((operation, nth));
    }

    /// How often an operation failed on request, by kind, and how often one panicked.
    pub fn faults(&self) -> (BTreeMap<&'static str, u64>, u64) {
        let supply = self.lock();
        (supply.faults.clone(), supply.panics)
    }

    fn before(&self, operation: Operation) {
        let mut supply = self.lock();
        if let Some((kind, left)) = supply.panic.as_mut()
            && *kind == operation
        {
            *left -= 1;
            if *left == 0 {
                supply.panic = None;
                supply.panics += 1;
                drop(supply);
                std::panic::resume_unwind(Box::new(Injected));
            }
        }
        let mutates = !matches!(
            operation,
            Operation::List | Operation::Open | Operation::Stat | Operation::Read | Operation::Lock
        );
        assert!(!(mutates && supply.retired), "X1: {operation} by a log that has given up the lock");
        match &mut supply.left {
            Some(0) => supply.disks.iter().for_each(|disk| disk.crash_after(0)),
            Some(left) if mutates => *left -= 1,
            _ => {}
        }
    }

    fn failed(&self, error: &IoError) {
        use std::io::ErrorKind::{AlreadyExists, NotFound, WouldBlock};
        if Gone::of(error).is_none() && !matches!(error.kind(), NotFound | AlreadyExists | WouldBlock) {
            let word = match error.operation() {
                Operation::Create => "create",
                Operation::Write => "write",
                Operation::SyncData | Operation::SyncAll => "sync",
                Operation::SyncDirectory => "sync of the directory",
                Operation::Unlink => "unlink",
                Operation::Read | Operation::Open | Operation::Stat | Operation::List => "read",
                _ => "other",
            };
            *self.lock().faults.entry(word).or_default() += 1;
        }
    }
}

/// A [`SimStorage`] before each of whose operations the scheduler may let another thread run.
#[derive(Clone, Debug)]
pub struct YieldingStorage {
    disk: SimStorage,
    power: Power,
    /// Touching one of shuttle's atomics is what asks the scheduler.
    point: Arc<AtomicU64>,
}

impl YieldingStorage {
    fn run<T>(&self, operation: Operation, act: impl FnOnce() -> Result<T, IoError>) -> Result<T, IoError> {
        self.point.load(Ordering::Relaxed);
        self.power.before(operation);
        act().inspect_err(|error| self.power.failed(error))
    }

    fn file<T: ?Sized>(&self, inner: Arc<T>) -> Arc<YieldingFile<T>> {
        Arc::new(YieldingFile { storage: self.clone(), inner })
    }
}

impl Storage for YieldingStorage {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.run(Operation::List, || self.disk.list())
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(self.file(self.run(Operation::Create, || self.disk.create_with(name, access))?))
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(self.file(self.run(Operation::Open, || self.disk.open_sink_with(name, access))?))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        Ok(self.file(self.run(Operation::Open, || self.disk.open_source(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.run(Operation::Rename, || self.disk.rename(from, to))
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.run(Operation::Unlink, || self.disk.unlink(name))
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.run(Operation::SyncDirectory, || self.disk.sync_dir())
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.run(Operation::SyncDirectory, || self.disk.sync_parents())
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        let lock = self.run(Operation::Lock, || self.disk.lock(name))?;
        if let Some(predecessor) = &self.power.lock().predecessor {
            predecessor.lock().retired = true;
        }
        Ok(lock)
    }
}

#[derive(Debug)]
struct YieldingFile<T: ?Sized> {
    storage: YieldingStorage,
    inner: Arc<T>,
}

impl Sink for YieldingFile<dyn Sink> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.storage.run(Operation::Write, || self.inner.write_at(offset, bytes))
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.storage.run(Operation::SyncData, || self.inner.sync_data())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.storage.run(Operation::SyncAll, || self.inner.sync_all())
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.storage.run(Operation::Preallocate, || self.inner.preallocate(length))
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.storage.run(Operation::Fill, || self.inner.fill(length))
    }

    fn block_bytes(&self) -> u64 {
        self.inner.block_bytes()
    }
}

impl Source for YieldingFile<dyn Source> {
    fn length(&self) -> Result<u64, IoError> {
        self.storage.run(Operation::Stat, || self.inner.length())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.storage.run(Operation::Read, || self.inner.read_at(offset, buffer))
    }
}
