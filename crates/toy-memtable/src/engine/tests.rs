use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use wal_manager::io::{Access, Entry, IoError, Lock, Sink, Source};
use wal_manager::{MemStorage, Wal};

use super::*;

/// A storage whose next sync of a file says that it has come, and waits to be let through.
#[derive(Clone, Debug)]
struct Stopping {
    inner: MemStorage,
    stop: Arc<Mutex<Option<Stop>>>,
}

type Stop = (Sender<()>, Receiver<()>);

#[derive(Debug)]
struct StoppingSink(Arc<dyn Sink>, Stopping);

impl Stopping {
    fn new() -> Self {
        Self { inner: MemStorage::new(), stop: Arc::default() }
    }

    /// What says that a sync has come, and what lets it through.
    fn stop_next_sync(&self) -> (Receiver<()>, Sender<()>) {
        let (come, has_come) = channel();
        let (go, may_go) = channel();
        *lock(&self.stop) = Some((come, may_go));
        (has_come, go)
    }
}

impl Storage for Stopping {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.inner.list()
    }
    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(Arc::new(StoppingSink(self.inner.create_with(name, access)?, self.clone())))
    }
    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(Arc::new(StoppingSink(self.inner.open_sink_with(name, access)?, self.clone())))
    }
    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        self.inner.open_source(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.inner.rename(from, to)
    }
    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.inner.unlink(name)
    }
    fn sync_dir(&self) -> Result<(), IoError> {
        self.inner.sync_dir()
    }
    fn sync_parents(&self) -> Result<(), IoError> {
        self.inner.sync_parents()
    }
    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        self.inner.lock(name)
    }
}

impl Sink for StoppingSink {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.0.write_at(offset, bytes)
    }
    fn sync_data(&self) -> Result<(), IoError> {
        let stop = lock(&self.1.stop).take();
        if let Some((come, may_go)) = stop {
            come.send(()).unwrap();
            may_go.recv().unwrap();
        }
        self.0.sync_data()
    }
    fn sync_all(&self) -> Result<(), IoError> {
        self.0.sync_all()
    }
    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.0.preallocate(length)
    }
    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.0.fill(length)
    }
}

#[test]
fn a_writer_between_log_and_memtable_keeps_the_memtable_from_being_sealed() {
    let (wal, tables) = (Stopping::new(), Arc::new(MemStorage::new()));
    let (engine, _) = Engine::options_on(Wal::options_on(Arc::new(wal.clone())), tables).open().unwrap();
    let (has_come, go) = wal.stop_next_sync();
    std::thread::scope(|scope| {
        scope.spawn(|| engine.put(FamilyId::DEFAULT, b"k", b"v").unwrap());
        has_come.recv().unwrap();
        // The record is in the log and not in the memtable: nobody may seal, and nobody may see it.
        assert!(engine.shared.gate.try_write().is_err());
        assert_eq!(engine.get(FamilyId::DEFAULT, b"k").unwrap(), None);
        go.send(()).unwrap();
    });
    assert!(engine.shared.gate.try_write().is_ok());
    assert!(engine.get(FamilyId::DEFAULT, b"k").unwrap().is_some());
}

#[test]
fn a_younger_write_of_a_lower_level_does_not_overtake() {
    let (wal, tables) = (Stopping::new(), Arc::new(MemStorage::new()));
    let (engine, _) = Engine::options_on(Wal::options_on(Arc::new(wal.clone())), tables).open().unwrap();
    let (has_come, go) = wal.stop_next_sync();
    let mut younger = WriteBatch::new();
    younger.put(FamilyId::DEFAULT, b"k", b"younger").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| engine.put(FamilyId::DEFAULT, b"k", b"older").unwrap());
        has_come.recv().unwrap();
        let write = scope.spawn(|| engine.write_with(&younger, Durability::Buffered).unwrap());
        // It is in the memtable, but a snapshot with it and without the older one would change when that comes.
        while engine.stats().memtable_bytes == 0 {
            std::thread::yield_now();
        }
        assert_eq!(engine.get(FamilyId::DEFAULT, b"k").unwrap(), None);
        assert!(!write.is_finished());
        go.send(()).unwrap();
    });
    assert_eq!(engine.get(FamilyId::DEFAULT, b"k").unwrap().as_deref(), Some(&b"younger"[..]));
}

#[test]
fn g8_the_engine_flushes_when_the_log_asks_for_it() {
    let storage: Arc<dyn Storage> = Arc::new(MemStorage::new());
    let wal = Wal::options_on(storage).background(true).durability(Durability::Written);
    let options = Engine::options_on(wal, Arc::new(MemStorage::new())).memtable_bytes(1 << 40);
    let (engine, _) = options.log_bytes(64 << 10).soft_log_bytes(256 << 10).open().unwrap();
    // The memtable never fills up. The log tells it from a thread of its own, so how many writes that takes is left open.
    let mut writes = 0_u64;
    while engine.stats().logs_deleted == 0 {
        assert!(writes < 100_000, "{} logs, and nobody flushes", engine.logs().len());
        engine.put(FamilyId::new((writes % 3) as u32), &writes.to_le_bytes(), &[7; 1000]).unwrap();
        writes += 1;
    }
    assert!(engine.stats().flushes > 0);
    engine.close().unwrap();
}
