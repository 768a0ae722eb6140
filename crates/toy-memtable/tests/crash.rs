//! Power cuts at every operation on the disk, of the log or of the tables, and inside the recovery after it.
//!
//! The log and the tables stand on two simulated disks, of which one loses power first: that is more than a machine can do
//! to them, and so every order of the two is tried.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod common;

use std::sync::Arc;

use common::{Model, Random, contents};
use toy_memtable::{Durability, Engine, EngineError, FamilyId, WriteBatch};
use wal_manager::io::sim::Fault;
use wal_manager::{SimStorage, Wal};

const F: FamilyId = FamilyId::DEFAULT;
const G: FamilyId = FamilyId::new(1);
const LEVELS: [Durability; 4] =
    [Durability::Buffered, Durability::Written, Durability::Buffered, Durability::Synced];

#[derive(Clone)]
struct Disks {
    wal: SimStorage,
    tables: SimStorage,
}

impl Disks {
    fn new() -> Self {
        Self { wal: SimStorage::new(), tables: SimStorage::new() }
    }

    fn open(&self, memtable_bytes: u64) -> Result<Engine, EngineError> {
        let wal = Wal::options_on(Arc::new(self.wal.clone()));
        let options = Engine::options_on(wal, Arc::new(self.tables.clone()));
        Ok(options.memtable_bytes(memtable_bytes).tables_max(2).open()?.0)
    }

    /// Power cuts: nothing pending survives, everything, or what a seed says.
    fn cut(&self, fate: u64) -> Self {
        let cut = |disk: &SimStorage, seed| match fate {
            0 => disk.crash_all_lost(),
            1 => disk.crash_all_kept(),
            _ => disk.crash(seed),
        };
        Self { wal: cut(&self.wal, fate), tables: cut(&self.tables, fate ^ 0x5555) }
    }
}

/// What the engine should hold after each write, and how many writes must not be lost.
struct History {
    states: Vec<Model>,
    durable: usize,
}

impl History {
    fn new() -> Self {
        Self { states: vec![Model::new()], durable: 0 }
    }

    fn apply(&mut self, change: impl FnOnce(&mut Model)) {
        let mut next = self.states.last().unwrap().clone();
        change(&mut next);
        self.states.push(next);
    }

    fn all_durable(&mut self) {
        self.durable = self.states.len() - 1;
    }

    /// Which state the engine is in: one that holds every durable write.
    fn find(&self, engine: &Engine, what: &str) -> Model {
        let found = contents(&engine.snapshot());
        let allowed = &self.states[self.durable..];
        assert!(allowed.contains(&found), "{what}: {found:?} is none of {allowed:?}");
        found
    }
}

/// Writes and flushes until something fails. Merges are among them, so that nothing can be applied twice unnoticed.
fn work(engine: &Engine, history: &mut History) -> Result<(), EngineError> {
    let mut random = Random(3);
    for step in 0..26_u32 {
        let name = [b'a' + u8::try_from(random.below(5)).unwrap()];
        let value = step.to_string().into_bytes();
        let mut batch = WriteBatch::new();
        batch.merge(F, b"all", &value).unwrap();
        batch.put(G, &name, &value).unwrap();
        if step % 7 == 6 {
            batch.delete_range(G, b"a", b"c").unwrap();
        }
        history.apply(|model| {
            model.entry((F, b"all".to_vec())).or_default().extend(&value);
            model.insert((G, name.to_vec()), value);
            if step % 7 == 6 {
                model.retain(|(family, key), _| *family != G || !(&b"a"[..]..&b"c"[..]).contains(&&key[..]));
            }
        });
        let level = LEVELS[usize::try_from(random.below(4)).unwrap()];
        engine.write_with(&batch, level)?;
        if level == Durability::Synced {
            history.all_durable();
        }
        if step % 5 == 4 {
            engine.flush()?;
            history.all_durable();
        }
    }
    Ok(())
}

/// The engine opens, holds every durable write and no half of one, and goes on.
fn check(disks: &Disks, history: &History, memtable_bytes: u64, what: &str) {
    let engine = disks.open(memtable_bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut model = history.find(&engine, what);
    // New sequence numbers must not be taken for old ones.
    engine.merge(F, b"all", b"!").unwrap();
    model.entry((F, b"all".to_vec())).or_default().extend(b"!");
    drop(engine);
    let disks = disks.cut(0);
    let engine = disks.open(memtable_bytes).unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert_eq!(contents(&engine.snapshot()), model, "{what}, again");
    engine.flush().unwrap();
    engine.close().unwrap();
    let engine = disks.open(memtable_bytes).unwrap_or_else(|error| panic!("{what}, closed: {error}"));
    assert_eq!(contents(&engine.snapshot()), model, "{what}, closed");
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_durable_and_applies_nothing_twice() {
    for first in ["log", "tables"] {
        for operations in 0.. {
            let disks = Disks::new();
            let disk = if first == "log" { &disks.wal } else { &disks.tables };
            disk.crash_after(operations);
            let mut history = History::new();
            let engine = disks.open(64 << 10);
            let done = match &engine {
                Ok(engine) => work(engine, &mut history).is_ok(),
                Err(_) => false,
            };
            drop(engine);
            let ended = done && !disk.is_frozen();
            for fate in (0..2).chain(4 * operations + 2..4 * operations + 8) {
                let what = format!("{first} dies after {operations} operations, fate {fate}");
                let cut = disks.cut(fate);
                // Replay writes tables when the memtable is small.
                let memtable_bytes = if fate % 2 == 0 { 64 << 10 } else { 1_500 };
                // The power goes again during recovery, a little later each time.
                let again = if fate % 3 == 0 { &cut.wal } else { &cut.tables };
                again.crash_after(operations % 23);
                drop(cut.open(memtable_bytes));
                check(&cut.cut(fate + 1), &history, memtable_bytes, &what);
            }
            if ended {
                assert!(operations > 40, "{first}: {operations} operations");
                break;
            }
        }
    }
}

/// A write, a sync, a rename of the tables fails once: the flush fails for good, and the log still has everything.
#[test]
fn a_failing_operation_of_the_tables_loses_nothing() {
    let mut struck = 0;
    for what in ["create", "write", "sync", "rename", "syncdir"] {
        for number in 1..30 {
            let disks = Disks::new();
            disks.open(64 << 10).unwrap().close().unwrap();
            let fault = format!("fail {what} #{number} with EIO");
            disks.tables.fail(Fault::parse(&fault).unwrap_or_else(|error| panic!("{fault}: {error}")));
            let mut history = History::new();
            let Ok(engine) = disks.open(64 << 10) else { continue };
            let worked = work(&engine, &mut history);
            if let Err(error) = &worked {
                assert!(matches!(error, EngineError::FlushFailed { .. }), "{fault}: {error}");
                assert!(matches!(engine.put(F, b"k", b"v"), Err(EngineError::FlushFailed { .. })), "{fault}");
                struck += 1;
            }
            engine.sync().unwrap();
            // The write that learnt of the failure was refused; every other one counts.
            let refused = history.states.len() - 2;
            history.durable = if worked.is_ok() { refused + 1 } else { refused };
            history.find(&engine, &fault);
            drop(engine);
            for fate in [0, 1, 2, 3] {
                check(&disks.cut(fate), &history, 64 << 10, &format!("{fault}, fate {fate}"));
            }
        }
    }
    assert!(struck > 20, "{struck} faults struck");
}
