//! What the tests of the engine share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use toy_memtable::{Engine, FamilyId, Snapshot};
use wal_manager::io::{Access, Entry, IoError, Lock, Sink, Source};
use wal_manager::{MemStorage, Storage};

/// Keys and values by family, as the engine should hold them.
pub(crate) type Model = BTreeMap<(FamilyId, Vec<u8>), Vec<u8>>;

/// A generator of numbers that replays from its seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// The families that the tests use.
pub(crate) fn families() -> [FamilyId; 3] {
    [FamilyId::new(0), FamilyId::new(1), FamilyId::MAX]
}

/// Everything in the engine, by scan.
pub(crate) fn contents(snapshot: &Snapshot) -> Model {
    let mut all = Model::new();
    for family in families() {
        let mut last: Option<Vec<u8>> = None;
        for item in snapshot.scan(family, ..) {
            let (key, value) = item.unwrap();
            assert!(last.is_none_or(|last| last[..] < key[..]), "keys ascend");
            last = Some(key.to_vec());
            all.insert((family, key.to_vec()), value.to_vec());
        }
    }
    all
}

/// The engine holds exactly the model, by scan and by get.
pub(crate) fn assert_holds(engine: &Engine, model: &Model, what: &str) {
    let snapshot = engine.snapshot();
    assert_eq!(contents(&snapshot), *model, "{what}: scan");
    for ((family, key), value) in model {
        assert_eq!(
            snapshot.get(*family, key).unwrap().as_deref(),
            Some(&value[..]),
            "{what}: get of {key:?}"
        );
    }
}

/// A storage that dawdles before each operation that changes something, so that threads meet in many ways.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    inner: MemStorage,
    dawdle: Dawdle,
}

#[derive(Clone, Debug)]
struct Dawdle(Arc<Mutex<Random>>);

#[derive(Debug)]
struct SlowSink {
    inner: Arc<dyn Sink>,
    dawdle: Dawdle,
}

impl Slow {
    pub(crate) fn new(inner: MemStorage, seed: u64) -> Self {
        Self { inner, dawdle: Dawdle(Arc::new(Mutex::new(Random(seed)))) }
    }
}

impl Dawdle {
    fn dawdle(&self) {
        let turns = {
            let mut random = self.0.lock().unwrap();
            if random.below(3) == 0 { random.below(40) } else { 0 }
        };
        (0..turns).for_each(|_| std::thread::yield_now());
    }
}

impl Storage for Slow {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.inner.list()
    }
    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.dawdle.dawdle();
        Ok(Arc::new(SlowSink { inner: self.inner.create_with(name, access)?, dawdle: self.dawdle.clone() }))
    }
    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(Arc::new(SlowSink {
            inner: self.inner.open_sink_with(name, access)?,
            dawdle: self.dawdle.clone(),
        }))
    }
    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        self.inner.open_source(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.dawdle.dawdle();
        self.inner.rename(from, to)
    }
    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.inner.unlink(name)
    }
    fn sync_dir(&self) -> Result<(), IoError> {
        self.dawdle.dawdle();
        self.inner.sync_dir()
    }
    fn sync_parents(&self) -> Result<(), IoError> {
        self.inner.sync_parents()
    }
    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        self.inner.lock(name)
    }
}

impl Sink for SlowSink {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.inner.write_at(offset, bytes)
    }
    fn sync_data(&self) -> Result<(), IoError> {
        self.dawdle.dawdle();
        self.inner.sync_data()
    }
    fn sync_all(&self) -> Result<(), IoError> {
        self.dawdle.dawdle();
        self.inner.sync_all()
    }
    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.inner.preallocate(length)
    }
    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.inner.fill(length)
    }
}
