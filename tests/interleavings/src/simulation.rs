//! Long random lives of a log with many writers, on a disk that fails and crashes, inside recovery too. One number decides the
//! schedule, the calls, the faults and what a power cut leaves.

use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;
use wal_io::Operation;
use wal_io::probe::Way;
use wal_io::sim::{Fault, SimOptions, SimStorage};
use wal_manager::{Durability, Error, ErrorKind, FamilyId, LOG_BYTES_MIN, Options, SeqNum, Wal, WalId};
use wal_tests::history::{Draft, End, FAMILIES};
use wal_tests::rng::Rng;

use crate::disk::{Power, YieldingStorage};
use crate::run::{LookClock, live};
use crate::session::{Model, Session, replay, survive};
use crate::tally::Tally;

/// Steps of the scheduler that a call may cost: a life that takes more does not end.
const STEPS_PER_OPERATION: usize = 5_000;

/// The timers of the log's own thread, which the schedule decides.
const TICK: Duration = Duration::from_millis(1);

/// Calls that a thread goes on with after the log has stopped, to see that it stays so.
const CALLS_AFTER_THE_END: u64 = 2;

/// Runs the life of a seed: about so many calls of the log, and the crashes between them. Panics where the log breaks a promise.
pub fn simulate(seed: u64, operations: u64) -> Tally {
    simulate_with_story(seed, operations).0
}

/// The same, with what happened in words.
pub fn simulate_with_story(seed: u64, operations: u64) -> (Tally, String) {
    let steps_max = 1_000_000 + operations as usize * STEPS_PER_OPERATION;
    live(seed, steps_max, move |model| Life::new(seed, model).run(operations))
}

/// A kind of disk for each seed.
pub fn disk_options(seed: u64) -> SimOptions {
    SimOptions {
        tear: seed.is_multiple_of(3),
        stale: seed.is_multiple_of(7),
        lose_names: seed.is_multiple_of(4),
        split_renames: seed.is_multiple_of(5),
        failed_sync_seed: (!seed.is_multiple_of(2)).then_some(seed),
        ..SimOptions::default()
    }
}

/// A fault that an operation soon will meet.
pub fn random_fault(rng: &mut Rng) -> Fault {
    let operation = rng.pick(&[
        "sync",
        "sync",
        "sync of *.wal",
        "sync of CHECKPOINT",
        "write",
        "write of *.wal",
        "write of CHECKPOINT",
        "syncdir",
        "create",
        "unlink",
        "read",
        "open",
        "stat",
        "list",
        "rename",
    ]);
    let (operation, glob) =
        operation.split_once(" of ").map_or((operation, ""), |(operation, glob)| (operation, glob));
    let turn = 1 + rng.below(12);
    let ever = if rng.one_in(4) { "+" } else { "" };
    let of = if glob.is_empty() { String::new() } else { format!(" of {glob}") };
    let error = rng.pick(&["EIO", "EIO", "ENOSPC", "EDQUOT"]);
    let after = if operation == "write" && rng.one_in(2) {
        format!(" after {} bytes", rng.below(700))
    } else {
        String::new()
    };
    let words = format!("fail {operation} #{turn}{ever}{of} with {error}{after}");
    Fault::parse(&words).expect("these are the words of a fault")
}

struct Life {
    rng: Rng,
    disk: SimStorage,
    model: Arc<Model>,
    /// The worst since the last recovery.
    end: End,
    /// Whether the process has a housekeeper.
    housekeeper: bool,
    /// Whether it writes past the cache.
    direct: bool,
}

/// What the threads of a process share.
#[derive(Clone)]
struct Process {
    session: Arc<Session>,
    disk: SimStorage,
    storage: YieldingStorage,
}

impl Life {
    fn new(seed: u64, model: Arc<Model>) -> Self {
        let disk = SimStorage::with_options(disk_options(seed));
        Self { rng: Rng::new(seed), disk, model, end: End::PowerCut, housekeeper: false, direct: false }
    }

    fn run(&mut self, operations: u64) {
        while self.model.tally().operations < operations {
            let budget = 20 + self.rng.below(180);
            self.process(budget);
        }
        // What the last crash left.
        drop(self.open());
    }

    fn options(storage: &YieldingStorage) -> Options {
        Wal::options_on(Arc::new(storage.clone()))
            .wal_id(WalId::from_bytes([7; 16]))
            .clock(Arc::new(LookClock::default()))
            .log_bytes(LOG_BYTES_MIN)
            .sync_interval(TICK)
            .idle_promise(TICK)
    }

    /// How the files of a process are made: they grow, or are made ahead and used again, through the cache or past it, by a thread or when somebody
    /// asks.
    fn files(&mut self, options: Options) -> Options {
        let way = self.rng.pick(&[Way::Append, Way::Append, Way::Filled, Way::Direct]);
        let (background, recycle) = (self.rng.one_in(2), self.rng.below(3) as usize);
        self.model.say(|| format!("files: {way:?}, {recycle} used again, background: {background}"));
        (self.housekeeper, self.direct) = (way != Way::Append && background, way == Way::Direct);
        if way == Way::Append { options } else { options.way(way).recycle(recycle).background(background) }
    }

    fn crash(&mut self) {
        self.disk.clear_faults();
        if !self.rng.one_in(8) {
            self.disk.set_capacity(None);
        }
        let kind = self.rng.below(8);
        if kind == 0 {
            self.model.say(|| "the process dies".to_owned());
            self.model.tally().deaths += 1;
            self.disk = self.disk.process_crash();
            return;
        }
        self.end = End::PowerCut;
        self.model.tally().power_cuts += 1;
        self.disk = if kind == 1 {
            self.model.say(|| "power cut, nothing pending survives".to_owned());
            self.disk.crash_all_lost()
        } else {
            let seed = self.rng.next();
            self.model.say(|| format!("power cut, seed {seed}"));
            self.disk.crash(seed)
        };
    }

    /// Opens until it succeeds, with faults and crashes on the way, and checks what comes back.
    fn open(&mut self) -> (Wal, YieldingStorage, Power) {
        for attempt in 0.. {
            let power = Power::default();
            let storage = power.connect(&self.disk);
            if attempt < 4 && self.rng.one_in(3) {
                let operations = self.rng.below(16);
                self.model.say(|| format!("recovery that may use {operations} operations"));
                power.cut_after(operations);
            } else if attempt < 4 && self.rng.one_in(4) {
                let fault = random_fault(&mut self.rng);
                self.model.say(|| format!("recovery that will meet: {fault}"));
                self.disk.fail(fault);
            }
            let recovered = self.files(Self::options(&storage)).recover();
            let opened = recovered.and_then(|recovery| replay(&self.model, self.end, recovery));
            self.count_faults(&power);
            match opened {
                Ok(wal) => {
                    self.disk.clear_faults();
                    self.end = End::ProcessDeath;
                    return (wal, storage, power);
                }
                Err(error) => self.cannot_open(&error),
            }
        }
        unreachable!("the loop returns")
    }

    fn cannot_open(&mut self, error: &Error) {
        self.model.say(|| format!("recovery failed: {error}"));
        assert!(
            matches!(error.kind(), ErrorKind::Io | ErrorKind::NotFound | ErrorKind::Full),
            "L: neither a crash nor a fault is damage: {error:?}"
        );
        if self.disk.is_frozen() {
            self.model.tally().crashed_recoveries += 1;
            self.crash();
        } else {
            self.model.tally().failed_recoveries += 1;
            self.disk.clear_faults();
            self.disk.set_capacity(None);
            if self.rng.one_in(2) {
                self.crash();
            }
        }
    }

    fn count_faults(&self, power: &Power) {
        let (faults, panics) = power.faults();
        let mut tally = self.model.tally();
        for (kind, times) in faults {
            *tally.faults.entry(kind).or_default() += times;
        }
        tally.panics += panics;
    }

    /// What will go wrong.
    fn prepare(&mut self, budget: u64, power: &Power) {
        match self.rng.below(10) {
            0..=3 => {
                let operations = self.rng.below(3 * budget);
                self.model.say(|| format!("the power will go after {operations} operations"));
                power.cut_after(operations);
            }
            4..=6 => {
                let fault = random_fault(&mut self.rng);
                self.model.say(|| format!("will meet: {fault}"));
                self.disk.fail(fault);
            }
            7 => {
                let used: usize = self
                    .disk
                    .file_names()
                    .iter()
                    .filter_map(|name| self.disk.read_file(name))
                    .map(|file| file.len())
                    .sum();
                let capacity = used as u64 + self.rng.below(60_000);
                self.model.say(|| format!("the disk is full at {capacity} bytes, {used} are used"));
                self.disk.set_capacity(Some(capacity));
            }
            // Of a storage that panics the housekeeper dies, which shuttle takes for a failure.
            8 if !self.housekeeper => {
                let kinds = [
                    Operation::Write,
                    Operation::SyncData,
                    Operation::Create,
                    Operation::SyncDirectory,
                    Operation::Unlink,
                    Operation::Read,
                ];
                let (kind, nth) = (self.rng.pick(&kinds), 1 + self.rng.below(20));
                self.model.say(|| format!("{kind} {nth} will panic"));
                power.panic_at(kind, nth);
            }
            _ => {}
        }
    }

    /// One process, from open to its end.
    fn process(&mut self, budget: u64) {
        let (wal, storage, power) = self.open();
        let process =
            Process { session: Arc::new(Session::new(wal, &self.model)), disk: self.disk.clone(), storage };
        self.prepare(budget, &power);
        let writers = 4 + self.rng.below(3);
        let share = budget / (writers + 1);
        let mut threads = Vec::new();
        for _ in 0..writers {
            let (process, rng) = (process.clone(), self.rng.fork());
            threads.push(thread::spawn(move || process.write(rng, share)));
        }
        let (flusher, rng) = (process.clone(), self.rng.fork());
        threads.push(thread::spawn(move || flusher.flush(rng, share * 3 / 4)));
        let (reader, rng) = (process.clone(), self.rng.fork());
        threads.push(thread::spawn(move || reader.read(rng, share / 4)));
        if self.rng.one_in(4) {
            let (closer, rng) = (process.clone(), self.rng.fork());
            threads.push(thread::spawn(move || closer.close(rng, share)));
        }
        for thread in threads {
            thread.join().expect("a thread panics only where the test has failed");
        }
        self.count_faults(&power);
        let Process { session, .. } = process;
        if self.direct && session.has_failed() {
            // What was only written is gone with a sync that failed: there is no cache that would still show it.
            self.end = End::PowerCut;
        }
        let wal = Arc::into_inner(session).expect("all threads have come back").end();
        if self.rng.one_in(2) {
            drop(wal);
            self.crash();
        } else {
            self.crash();
            drop(wal);
        }
    }
}

impl Process {
    /// Calls `call` so many times, or until the log has stopped and a little longer.
    fn repeat(&self, times: u64, mut call: impl FnMut(&Session)) {
        let mut after = CALLS_AFTER_THE_END;
        for _ in 0..times {
            if self.session.has_stopped() || self.disk.is_frozen() {
                if after == 0 {
                    break;
                }
                after -= 1;
            }
            survive(|| call(&self.session));
        }
    }

    fn draft(rng: &mut Rng) -> Draft {
        let length = match rng.below(60) {
            0 => 33_000 + rng.below(9_000),
            1..=9 => 400 + rng.below(3_000),
            _ => 9 + rng.below(100),
        };
        // The first bytes tell the payload from all others.
        let mut payload = rng.bytes(8);
        payload.resize(length as usize, payload[0]);
        Draft { family: rng.below(FAMILIES as u64) as u32, payload }
    }

    fn write(&self, mut rng: Rng, times: u64) {
        let mut tickets = Vec::new();
        self.repeat(times, |session| {
            if session.has_failed() && rng.one_in(2) {
                _ = session.resume();
                return;
            }
            let draft = Self::draft(&mut rng);
            match rng.below(20) {
                0..=5 => _ = session.append(draft, Durability::Synced),
                6..=8 => _ = session.append(draft, Durability::Written),
                9..=11 => _ = session.append(draft, Durability::Buffered),
                12..=14 => tickets.extend(session.submit(draft, None)),
                15..=16 => {
                    let newest = session.wal.last_seq().map_or(0, SeqNum::get);
                    let first = SeqNum::new(newest + 1 + rng.below(5));
                    tickets.extend(session.submit(draft, Some((first, 1 + rng.below(4) as u32))));
                }
                17 => {
                    if !tickets.is_empty() {
                        let ticket = tickets.swap_remove(rng.below(tickets.len() as u64) as usize);
                        _ = session.wait(ticket);
                    }
                }
                18 => _ = session.sync(),
                _ => _ = session.rotate(),
            }
        });
        if rng.one_in(2) {
            for ticket in tickets {
                survive(|| self.session.wait(ticket));
            }
        }
    }

    fn flush(&self, mut rng: Rng, times: u64) {
        self.repeat(times, |session| {
            let what = rng.below(6);
            if what < 2 {
                _ = session.rotate();
                return;
            }
            if what == 2 {
                _ = session.housekeep();
                return;
            }
            let family = rng.below(FAMILIES as u64) as u32;
            let newest = session.wal.last_seq().map_or(0, SeqNum::get);
            let recorded = session.wal.flushed(FamilyId::new(family)).map_or(0, SeqNum::get);
            if newest > recorded {
                let through =
                    if rng.one_in(2) { newest } else { recorded + 1 + rng.below(newest - recorded) };
                _ = session.mark_flushed(family, through);
            }
        });
    }

    fn read(&self, mut rng: Rng, times: u64) {
        self.repeat(times, |session| {
            for _ in 0..rng.below(40) {
                thread::yield_now();
            }
            _ = session.inspect(Life::options(&self.storage));
        });
    }

    fn close(&self, mut rng: Rng, times: u64) {
        for _ in 0..rng.below(times + 1) {
            _ = survive(|| self.session.sync());
        }
        _ = survive(|| self.session.close());
    }
}
