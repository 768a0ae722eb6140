//! The toy engine: long random lives of it, and two scenarios of few steps. Its log and its tables lie on two disks that lose power together.
//!
//! Every batch appends its number to one key, so that the engine itself says which batches it holds and in which order; the model applies
//! those, and every other key must be what that gives. Beside the rules of `wal_tests::history`:
//! - a batch is visible whole or not at all, when its write returns and not when it fails;
//! - what readers see is always a prefix of the order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shuttle::rand::{RngCore, thread_rng};
use shuttle::thread;
use toy_memtable::{Durability, Engine, EngineError, EngineOptions, FamilyId, Snapshot, WriteBatch};
use wal_io::sim::SimStorage;
use wal_manager::{ErrorKind, LOG_BYTES_MIN, Wal, WalId};
use wal_tests::history::End;
use wal_tests::rng::Rng;

use crate::disk::Power;
use crate::run::{LookClock, live};
use crate::session::Model;
use crate::simulation::{disk_options, random_fault};
use crate::tally::Tally;

/// Steps of the scheduler that a call may cost: a life that takes more does not end.
const STEPS_PER_OPERATION: usize = 10_000;

const FAMILIES: u32 = 2;

/// The key of family 0 to which every batch appends its number.
const ORDER: &[u8] = b"order";

/// What the engine holds, by family and key.
type State = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

/// Runs the life of a seed: about so many calls of the engine, and the crashes between them. Panics where it breaks a promise.
pub fn simulate(seed: u64, operations: u64) -> Tally {
    let steps_max = 1_000_000 + operations as usize * STEPS_PER_OPERATION;
    live(seed, steps_max, move |model| {
        let mut life = Life::new(seed, model);
        while life.model.tally().operations < operations {
            let budget = 20 + life.rng.below(180);
            life.process(budget);
        }
        drop(life.open());
        life.finish();
    })
    .0
}

/// Four writers, a reader and a flush or a close, without a fault.
pub fn writers() {
    let mut life = Life::new(thread_rng().next_u64(), Arc::default());
    let engine = life.open();
    life.power.hold();
    life.run_threads(engine, 4, 2, false);
    drop(life.open());
}

/// The same with something that fails.
pub fn failure() {
    let mut life = Life::new(thread_rng().next_u64(), Arc::default());
    let engine = life.open();
    life.prepare(8);
    life.run_threads(engine, 4, 2, true);
    drop(life.open());
}

#[derive(Clone, Debug)]
enum Op {
    Put(u32, Vec<u8>, Vec<u8>),
    Delete(u32, Vec<u8>),
    Merge(u32, Vec<u8>, Vec<u8>),
    DeleteRange(u32, Vec<u8>, Vec<u8>),
}

impl Op {
    fn random(rng: &mut Rng) -> Self {
        let family = rng.below(u64::from(FAMILIES)) as u32;
        let key = |rng: &mut Rng| format!("key{:02}", rng.below(24)).into_bytes();
        let value = |rng: &mut Rng| {
            let longest = if rng.one_in(20) { 3_000 } else { 40 };
            let length = 1 + rng.below(longest) as usize;
            rng.bytes(length)
        };
        match rng.below(10) {
            0..=5 => Self::Put(family, key(rng), value(rng)),
            6..=7 => Self::Merge(family, key(rng), rng.bytes(3)),
            8 => Self::Delete(family, key(rng)),
            _ => Self::DeleteRange(family, key(rng), key(rng)),
        }
    }

    fn add_to(&self, batch: &mut WriteBatch) {
        let added = match self {
            Self::Put(family, key, value) => batch.put(FamilyId::new(*family), key, value),
            Self::Delete(family, key) => batch.delete(FamilyId::new(*family), key),
            Self::Merge(family, key, operand) => batch.merge(FamilyId::new(*family), key, operand),
            Self::DeleteRange(family, start, end) => batch.delete_range(FamilyId::new(*family), start, end),
        };
        added.expect("small enough");
    }

    fn apply(&self, state: &mut State) {
        match self {
            Self::Put(family, key, value) => _ = state.insert((*family, key.clone()), value.clone()),
            Self::Delete(family, key) => _ = state.remove(&(*family, key.clone())),
            Self::Merge(family, key, operand) => {
                state.entry((*family, key.clone())).or_default().extend_from_slice(operand);
            }
            Self::DeleteRange(family, start, end) => {
                state.retain(|(other, key), _| other != family || key < start || key >= end);
            }
        }
    }
}

/// What is known of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its write has not returned, or has failed half-way.
    Open,
    /// It was written: its first sequence number.
    Done(u64),
    /// It is not in the log.
    Refused,
}

#[derive(Debug)]
struct Batch {
    ops: Vec<Op>,
    fate: Fate,
    failed: bool,
    /// What it must survive.
    acknowledged: Option<Durability>,
}

/// The model.
#[derive(Debug, Default)]
struct Books {
    /// Batches that the last recovery has found, in order: they stay.
    confirmed: Vec<u32>,
    /// What the engine held then.
    state: State,
    /// Batches since then, by number.
    open: BTreeMap<u32, Batch>,
    last: u32,
    /// The longest order that a reader has seen since then, behind the confirmed one.
    seen: Vec<u32>,
    acknowledged: u64,
}

impl Books {
    fn begin(&mut self, ops: Vec<Op>) -> u32 {
        self.last += 1;
        self.open.insert(self.last, Batch { ops, fate: Fate::Open, failed: false, acknowledged: None });
        self.last
    }

    /// What stands behind the confirmed order.
    fn behind<'o>(&self, order: &'o [u32]) -> &'o [u32] {
        order
            .strip_prefix(&self.confirmed[..])
            .expect("X: what a recovery has handed out is gone or in another order")
    }

    /// What the engine must hold if these batches are in it.
    fn expected(&self, order: &[u32]) -> State {
        let mut state = self.state.clone();
        for number in self.behind(order) {
            let batch = self
                .open
                .get(number)
                .unwrap_or_else(|| panic!("C: batch {number} is here twice or was never written"));
            assert!(batch.fate != Fate::Refused, "C: batch {number} was refused");
            batch.ops.iter().for_each(|op| op.apply(&mut state));
            state.entry((0, ORDER.to_vec())).or_default().extend_from_slice(&number.to_le_bytes());
        }
        state
    }

    /// A reader of the running engine has seen this.
    fn seen(&mut self, order: &[u32]) {
        let seen = self.behind(order).to_vec();
        let shared = seen.len().min(self.seen.len());
        assert_eq!(seen[..shared], self.seen[..shared], "C: two readers see two orders");
        for number in &seen {
            assert!(!self.open[number].failed, "C: batch {number} is visible and its write has failed");
        }
        if seen.len() > self.seen.len() {
            self.seen = seen;
        }
    }

    /// A recovery has found this.
    fn recovered(&mut self, end: End, order: &[u32], state: State) {
        let expected = self.expected(order);
        assert!(state == expected, "A: the engine does not hold what its batches give");
        let found = self.behind(order).to_vec();
        let mut lost_from = None;
        for (number, batch) in &self.open {
            if found.contains(number) {
                continue;
            }
            let survives = match batch.acknowledged {
                Some(Durability::Synced) => true,
                Some(Durability::Written) => end == End::ProcessDeath,
                _ => false,
            };
            assert!(!survives, "A: batch {number} was acknowledged and is gone");
            if let Fate::Done(first) = batch.fate {
                lost_from = Some(lost_from.map_or(first, |lost: u64| lost.min(first)));
            }
        }
        let mut before = 0;
        for number in &found {
            if let Fate::Done(first) = self.open[number].fate {
                assert!(first > before, "C: batch {number} is not in the order of the log");
                assert!(
                    lost_from.is_none_or(|lost| first < lost),
                    "C: batch {number} is here, an older one is gone"
                );
                before = first;
            }
        }
        self.confirmed = order.to_vec();
        self.state = state;
        self.open.clear();
        self.seen.clear();
    }
}

/// The order that a snapshot tells, and all that it holds.
fn contents(snapshot: &Snapshot) -> Result<(Vec<u32>, State), EngineError> {
    let mut state = State::new();
    for family in 0..FAMILIES {
        for found in snapshot.scan(FamilyId::new(family), ..) {
            let (key, value) = found?;
            state.insert((family, key.to_vec()), value.to_vec());
        }
    }
    let order = state.get(&(0, ORDER.to_vec())).map(Vec::as_slice).unwrap_or_default();
    let numbers =
        order.chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("whole numbers"))).collect();
    Ok((numbers, state))
}

struct Life {
    rng: Rng,
    log: SimStorage,
    tables: SimStorage,
    power: Power,
    model: Arc<Model>,
    books: Arc<Mutex<Books>>,
    end: End,
}

/// What the threads of a process share.
#[derive(Clone)]
struct Process {
    engine: Arc<Engine>,
    books: Arc<Mutex<Books>>,
    model: Arc<Model>,
    log: SimStorage,
    /// Somebody was told that the engine has failed or is closed.
    stopped: Arc<AtomicBool>,
    /// Somebody was told so and nothing was asked to fail.
    sound: bool,
}

/// A lock of std: nobody yields while holding it.
fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Life {
    fn new(seed: u64, model: Arc<Model>) -> Self {
        let options = disk_options(seed);
        Self {
            rng: Rng::new(seed),
            log: SimStorage::with_options(options),
            tables: SimStorage::with_options(options),
            power: Power::default(),
            model,
            books: Arc::default(),
            end: End::PowerCut,
        }
    }

    fn options(&mut self) -> EngineOptions {
        self.power = Power::default();
        let log = Wal::options_on(Arc::new(self.power.connect(&self.log)))
            .wal_id(WalId::from_bytes([7; 16]))
            .clock(Arc::new(LookClock::default()))
            .log_bytes(LOG_BYTES_MIN);
        Engine::options_on(log, Arc::new(self.power.connect(&self.tables)))
            .memtable_bytes(4_000)
            .tables_max(3)
            .sealed_memtables_max(1)
    }

    fn crash(&mut self) {
        for disk in [&self.log, &self.tables] {
            disk.clear_faults();
            disk.set_capacity(None);
        }
        let kind = self.rng.below(8);
        if kind == 0 {
            self.model.say(|| "the process dies".to_owned());
            self.model.tally().deaths += 1;
            self.log = self.log.process_crash();
            self.tables = self.tables.process_crash();
            return;
        }
        self.end = End::PowerCut;
        self.model.tally().power_cuts += 1;
        let (log, tables) = (self.rng.next(), self.rng.next());
        self.model.say(|| format!("power cut, kind {kind}, seeds {log} and {tables}"));
        self.log = if kind == 1 { self.log.crash_all_lost() } else { self.log.crash(log) };
        self.tables = if kind == 2 { self.tables.crash_all_lost() } else { self.tables.crash(tables) };
    }

    fn open(&mut self) -> Engine {
        for attempt in 0.. {
            let options = self.options();
            if attempt < 4 && self.rng.one_in(3) {
                let operations = self.rng.below(24);
                self.model.say(|| format!("an open that may use {operations} operations"));
                self.power.cut_after(operations);
            } else if attempt < 4 && self.rng.one_in(4) {
                self.fail_something();
            }
            let opened = options.open().and_then(|(engine, _)| {
                let (order, state) = contents(&engine.snapshot())?;
                Ok((engine, order, state))
            });
            self.count_faults();
            match opened {
                Ok((engine, order, state)) => {
                    self.log.clear_faults();
                    self.tables.clear_faults();
                    self.model.tally().recoveries += 1;
                    self.model.say(|| format!("opened with {} batches", order.len()));
                    lock(&self.books).recovered(self.end, &order, state);
                    self.end = End::ProcessDeath;
                    return engine;
                }
                Err(error) => {
                    self.model.say(|| format!("the open failed: {error}"));
                    assert!(is_of_the_system(&error), "L: neither a crash nor a fault is damage: {error:?}");
                    let frozen = self.log.is_frozen() || self.tables.is_frozen();
                    let mut tally = self.model.tally();
                    if frozen {
                        tally.crashed_recoveries += 1;
                    } else {
                        tally.failed_recoveries += 1;
                    }
                    drop(tally);
                    self.log.clear_faults();
                    self.tables.clear_faults();
                    if frozen || self.rng.one_in(2) {
                        self.crash();
                    }
                }
            }
        }
        unreachable!("the loop returns")
    }

    fn fail_something(&mut self) {
        let fault = random_fault(&mut self.rng);
        let disk = if self.rng.one_in(2) { &self.log } else { &self.tables };
        self.model.say(|| format!("will meet: {fault}"));
        disk.fail(fault);
    }

    /// What will go wrong.
    fn prepare(&mut self, budget: u64) {
        match self.rng.below(10) {
            0..=3 => {
                let operations = self.rng.below(3 * budget);
                self.model.say(|| format!("the power will go after {operations} operations"));
                self.power.cut_after(operations);
            }
            4..=7 => self.fail_something(),
            8 => {
                let capacity = 1_000 + self.rng.below(200_000);
                self.model.say(|| format!("the disk of the tables is full at {capacity} bytes"));
                self.tables.set_capacity(Some(capacity));
            }
            _ => {}
        }
    }

    fn process(&mut self, budget: u64) {
        let engine = self.open();
        self.prepare(budget);
        let writers = 4 + self.rng.below(2);
        self.run_threads(engine, writers, budget / (writers + 1), true);
    }

    /// Runs the threads of a process, and crashes.
    fn run_threads(&mut self, engine: Engine, writers: u64, share: u64, may_fail: bool) {
        let process = Process {
            engine: Arc::new(engine),
            books: Arc::clone(&self.books),
            model: Arc::clone(&self.model),
            log: self.log.clone(),
            stopped: Arc::default(),
            sound: !may_fail,
        };
        let mut threads = Vec::new();
        for _ in 0..writers {
            let (process, rng) = (process.clone(), self.rng.fork());
            threads.push(thread::spawn(move || process.write(rng, share)));
        }
        let (reader, rng) = (process.clone(), self.rng.fork());
        threads.push(thread::spawn(move || reader.read(rng, 1 + share / 8)));
        if self.rng.one_in(4) {
            let closer = process.clone();
            threads.push(thread::spawn(move || closer.close()));
        }
        for thread in threads {
            thread.join().expect("a thread panics only where the test has failed");
        }
        self.count_faults();
        let stats = process.engine.stats();
        let mut tally = self.model.tally();
        tally.flushes += stats.flushes + stats.merges;
        tally.deletions += stats.logs_deleted;
        tally.failures += u64::from(process.stopped.load(Ordering::Relaxed));
        drop(tally);
        let engine = Arc::into_inner(process.engine).expect("all threads have come back");
        // The flush thread goes on, or is stopped, when the power goes.
        if self.rng.one_in(2) {
            drop(engine);
            self.crash();
        } else {
            self.crash();
            drop(engine);
        }
    }

    fn count_faults(&self) {
        let mut tally = self.model.tally();
        for (kind, times) in self.power.faults().0 {
            *tally.faults.entry(kind).or_default() += times;
        }
    }

    fn finish(&self) {
        self.model.tally().acknowledged = lock(&self.books).acknowledged;
    }
}

/// Whether the system is to blame, and no person has to decide.
fn is_of_the_system(error: &EngineError) -> bool {
    match error {
        EngineError::Wal(error) => {
            matches!(
                error.kind(),
                ErrorKind::Io | ErrorKind::NotFound | ErrorKind::Poisoned | ErrorKind::Full
            )
        }
        EngineError::Io(_) => true,
        EngineError::FlushFailed { cause } => is_of_the_system(cause),
        _ => false,
    }
}

impl Process {
    /// Judges an answer of a call that began when the engine had `stopped`.
    fn judge<T>(&self, what: &str, stopped: bool, answer: &Result<T, EngineError>) {
        let error = match answer {
            Ok(_) => {
                assert!(!stopped, "E: {what} succeeds after the engine has stopped");
                return;
            }
            Err(error) => error,
        };
        self.model.say(|| format!("{what}: {error}"));
        let closed = match error {
            EngineError::Closed => true,
            EngineError::Wal(error) => error.kind() == ErrorKind::Closed,
            _ => false,
        };
        assert!(closed || is_of_the_system(error), "E: {what} fails with {error:?}");
        assert!(closed || !self.sound, "E: {what} fails with {error:?}, and nothing was asked to fail");
        let sticks = match error {
            EngineError::FlushFailed { .. } => true,
            EngineError::Wal(error) => error.kind() == ErrorKind::Poisoned,
            _ => closed,
        };
        if sticks {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    fn write(&self, mut rng: Rng, times: u64) {
        let mut after = 2;
        for _ in 0..times {
            if self.stopped.load(Ordering::Relaxed) || self.log.is_frozen() {
                if after == 0 {
                    return;
                }
                after -= 1;
            }
            match rng.below(24) {
                0 => self.sync(),
                1 => self.flush(),
                _ => self.write_one(&mut rng),
            }
        }
    }

    fn write_one(&self, rng: &mut Rng) {
        let ops: Vec<Op> = (0..1 + rng.below(3)).map(|_| Op::random(rng)).collect();
        let level =
            rng.pick(&[Durability::Synced, Durability::Synced, Durability::Written, Durability::Buffered]);
        let mut batch = WriteBatch::new();
        ops.iter().for_each(|op| op.add_to(&mut batch));
        let number = lock(&self.books).begin(ops);
        batch.merge(FamilyId::new(0), ORDER, &number.to_le_bytes()).expect("small enough");
        self.model.tally().operations += 1;
        let stopped = self.stopped.load(Ordering::Relaxed);
        let answer = self.engine.write_with(&batch, level);
        self.judge("write", stopped, &answer);
        {
            let mut books = lock(&self.books);
            let batch = books.open.get_mut(&number).expect("it was begun");
            match &answer {
                Ok(seqs) => {
                    batch.fate = Fate::Done(seqs.first().get());
                    batch.acknowledged = Some(level);
                    books.acknowledged += u64::from(level == Durability::Synced);
                }
                Err(error) => {
                    batch.failed = true;
                    let poisoned =
                        matches!(error, EngineError::Wal(error) if error.kind() == ErrorKind::Poisoned);
                    if !poisoned {
                        batch.fate = Fate::Refused;
                    }
                }
            }
        }
        if answer.is_ok() && rng.one_in(8) {
            // What a write has returned from is visible.
            if let Some(order) = self.look() {
                assert!(order.contains(&number), "C: batch {number} was written and is not visible");
            }
        }
    }

    /// Reads everything, and gives the order; `None` if the disk does not let it.
    fn look(&self) -> Option<Vec<u32>> {
        let snapshot = self.engine.snapshot();
        match contents(&snapshot) {
            Ok((order, state)) => {
                let mut books = lock(&self.books);
                let expected = books.expected(&order);
                assert!(state == expected, "C: a reader sees half a batch");
                books.seen(&order);
                drop(books);
                self.model.tally().inspections += 1;
                Some(order)
            }
            Err(error) => {
                self.model.say(|| format!("read: {error}"));
                assert!(is_of_the_system(&error) && !self.sound, "E: a read fails with {error:?}");
                None
            }
        }
    }

    fn read(&self, mut rng: Rng, times: u64) {
        for _ in 0..times {
            for _ in 0..rng.below(40) {
                thread::yield_now();
            }
            self.look();
        }
    }

    fn sync(&self) {
        self.model.tally().operations += 1;
        // What was written before is durable after it.
        let before: Vec<u32> = {
            let books = lock(&self.books);
            books
                .open
                .iter()
                .filter(|(_, batch)| batch.acknowledged.is_some())
                .map(|(number, _)| *number)
                .collect()
        };
        let answer = self.engine.sync();
        // After a failed flush the log goes on.
        self.judge("sync", false, &answer);
        if answer.is_ok() {
            self.acknowledge(&before);
        }
    }

    fn acknowledge(&self, numbers: &[u32]) {
        let mut books = lock(&self.books);
        books.acknowledged += 1;
        for number in numbers {
            if let Some(batch) = books.open.get_mut(number) {
                batch.acknowledged = Some(Durability::Synced);
            }
        }
    }

    fn flush(&self) {
        self.model.tally().operations += 1;
        let before: Vec<u32> = {
            let books = lock(&self.books);
            books
                .open
                .iter()
                .filter(|(_, batch)| batch.acknowledged.is_some())
                .map(|(number, _)| *number)
                .collect()
        };
        let answer = self.engine.flush();
        // With nothing to flush, it succeeds whatever became of the log.
        self.judge("flush", false, &answer);
        if answer.is_ok() {
            self.acknowledge(&before);
        }
    }

    fn close(&self) {
        self.model.tally().operations += 1;
        let stopped = self.stopped.load(Ordering::Relaxed);
        let answer = self.engine.close();
        self.judge("close", stopped, &answer);
        self.stopped.store(true, Ordering::Relaxed);
        if answer.is_ok() {
            self.model.tally().closes += 1;
            let mut books = lock(&self.books);
            // Every write that has returned, or is on its way back, is durable.
            for batch in books.open.values_mut().filter(|batch| batch.acknowledged.is_some()) {
                batch.acknowledged = Some(Durability::Synced);
            }
        }
    }
}
