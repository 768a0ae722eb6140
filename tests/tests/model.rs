//! Short random lives of a log against a model, shrunk when they fail (T3, V19).
//!
//! Every case is a disk of some cruelty and up to 25 steps: appends at every level, syncs, rotations, marks, closes, crashes of the
//! process and of the power, crashes inside recovery, failing operations, resumes, looks without the lock. `tests/src/model.rs` says what must
//! hold after each. `PROPTEST_CASES` asks for more cases, `PROPTEST_RNG_SEED` for others; the same seed gives the same cases.

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestError, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use wal_io::probe::Way;
use wal_io::sim::{Fault, SimOptions, SimStorage};
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, LogState, Options, Record, RecoveryMode, SeqNum, Verdict, Wal,
    WriteBatch,
};
use wal_tests::life::{self, families, payload};
use wal_tests::model::{End, FAMILIES, Known, Model};

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    Append {
        families: Vec<u32>,
        length: usize,
        count: u32,
        skip: Option<u64>,
        level: Durability,
    },
    Batch {
        operations: u32,
        level: Durability,
    },
    /// Several records of these lengths in one group; the last one is waited for.
    Group(Vec<usize>),
    /// What must be refused without a trace.
    Refused(Refused),
    Sync,
    Rotate,
    /// The next log is made ahead.
    Housekeep,
    /// Appends, a rotation to a log that was made ahead, marks for everything, and the next log, of one that was deleted if all goes well.
    Turn,
    /// A mark for a family, so many 255ths of the way from the recorded one to the newest.
    Mark {
        family: u32,
        part: u64,
    },
    /// A look without the lock, and an attempt to open a second time.
    Look,
    Close,
    /// The process ends, or forgets the log, and opens it again.
    Reopen,
    ProcessCrash(Vec<Attempt>),
    PowerCut(Cut, Vec<Attempt>),
    /// The power goes after so many more changes of the disk.
    PowerGoesAfter(u64),
    /// Words of the simulator.
    Fail(String),
    /// Go on after a failure, often of a group a moment ago; mostly the disk is well by then.
    Resume {
        struck: Option<&'static str>,
        well: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Refused {
    Empty,
    NoSequence,
    NoFamilies,
    Descending,
    SequenceBack,
    MarkBeyond,
    MarkBack,
}

/// What of everything pending survives.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Kept,
    Lost,
    Seed(u64),
}

/// A recovery that may change the disk so often before the power goes.
#[derive(Clone, Debug)]
struct Attempt(u64, Cut);

/// What the choice of steps depends on: hardly anything, for a log must stand every step at any time.
#[derive(Clone, Debug)]
struct Plan {
    disk: SimOptions,
    files: Files,
    /// Close was called in this process.
    closed: bool,
    /// Something may have been appended.
    appended: bool,
}

/// How the files of logs are written, and how many deleted ones are kept to be used again.
#[derive(Clone, Copy, Debug)]
struct Files(Way, usize);

struct Machine;

fn level() -> impl Strategy<Value = Durability> {
    prop_oneof![2 => Just(Durability::Synced), 3 => Just(Durability::Written), 1 => Just(Durability::Buffered)]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1..100_usize, 5 => 400..4000_usize, 1 => 33_000..42_000_usize]
}

fn cut() -> impl Strategy<Value = Cut> {
    prop_oneof![1 => Just(Cut::Kept), 1 => Just(Cut::Lost), 5 => (0..1_u64 << 16).prop_map(Cut::Seed)]
}

fn attempts() -> impl Strategy<Value = Vec<Attempt>> {
    let attempt = || (0..16_u64, cut()).prop_map(|(after, cut)| Attempt(after, cut));
    prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(attempt(), 1..4)]
}

fn fault() -> impl Strategy<Value = String> {
    let operation = prop_oneof![
        4 => Just("syncdata"), 2 => Just("sync"), 3 => Just("write"), 2 => Just("syncdir"), 2 => Just("create"),
        1 => Just("syncall"), 1 => Just("unlink"), 1 => Just("read"), 1 => Just("open"), 1 => Just("list"), 1 => Just("stat"),
    ];
    let turn = prop_oneof![8 => (1..6_u32).prop_map(|nth| format!("#{nth}")), 1 => (1..6_u32).prop_map(|nth| format!("#{nth}+"))];
    let error = prop_oneof![2 => Just("EIO"), 1 => Just("ENOSPC")];
    (operation, turn, error, proptest::option::of(0..600_u32)).prop_map(|(operation, turn, error, after)| {
        let after = after.filter(|_| operation == "write").map(|bytes| format!(" after {bytes} bytes"));
        format!("fail {operation} {turn} with {error}{}", after.unwrap_or_default())
    })
}

fn append() -> impl Strategy<Value = Step> {
    let families = proptest::sample::subsequence((0..FAMILIES).collect::<Vec<_>>(), 1..=FAMILIES as usize);
    let skip = proptest::option::weighted(0.3, 0..5_u64);
    (families, length(), 1..4_u32, skip, level()).prop_map(|(families, length, count, skip, level)| {
        Step::Append { families, length, count, skip, level }
    })
}

fn resume() -> impl Strategy<Value = Step> {
    let struck = prop_oneof![2 => Just(Some("sync")), 1 => Just(Some("write")), 1 => Just(None)];
    (struck, proptest::bool::weighted(0.8)).prop_map(|(struck, well)| Step::Resume { struck, well })
}

impl ReferenceStateMachine for Machine {
    type State = Plan;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Plan> {
        let yes = || proptest::bool::weighted(0.25);
        let files = prop_oneof![
            2 => Just(Files(Way::Append, 0)), 1 => Just(Files(Way::Filled, 1)), 1 => Just(Files(Way::Direct, 2)),
        ];
        (yes(), yes(), yes(), proptest::option::of(0..1000_u64), files)
            .prop_map(|(tear, lose_names, split_renames, failed_sync_seed, files)| {
                let disk =
                    SimOptions { tear, lose_names, split_renames, failed_sync_seed, ..SimOptions::default() };
                Plan { disk, files, closed: false, appended: false }
            })
            .boxed()
    }

    fn transitions(plan: &Plan) -> BoxedStrategy<Step> {
        let refused = prop_oneof![
            Just(Refused::Empty),
            Just(Refused::NoSequence),
            Just(Refused::NoFamilies),
            Just(Refused::Descending),
            Just(Refused::SequenceBack),
            Just(Refused::MarkBeyond),
            Just(Refused::MarkBack),
        ];
        // In a closed log there is little to see.
        let work = if plan.closed { 1 } else { 6 };
        prop_oneof![
            4 * work => append(),
            work => (1..4_u32, level()).prop_map(|(operations, level)| Step::Batch { operations, level }),
            work => proptest::collection::vec(1..300_usize, 2..5).prop_map(Step::Group),
            1 => refused.prop_map(Step::Refused),
            work => Just(Step::Sync),
            work => Just(Step::Rotate),
            if plan.files.0.fills() { 2 * work } else { 1 } => Just(Step::Housekeep),
            if plan.files.0.fills() { work } else { 1 } => Just(Step::Turn),
            work => (0..FAMILIES, prop_oneof![Just(255), 0..=255_u64]).prop_map(|(family, part)| Step::Mark { family, part }),
            4 => Just(Step::Look),
            2 => Just(Step::Close),
            2 => Just(Step::Reopen),
            2 => attempts().prop_map(Step::ProcessCrash),
            6 => (cut(), attempts()).prop_map(|(cut, attempts)| Step::PowerCut(cut, attempts)),
            2 => (0..25_u64).prop_map(Step::PowerGoesAfter),
            3 => fault().prop_map(Step::Fail),
            4 => resume(),
        ]
        .boxed()
    }

    fn apply(mut plan: Plan, step: &Step) -> Plan {
        match step {
            Step::Close => plan.closed = true,
            Step::Reopen | Step::ProcessCrash(_) | Step::PowerCut(..) => plan.closed = false,
            Step::Append { .. } | Step::Batch { .. } | Step::Group(_) | Step::Turn => {
                plan.appended |= !plan.closed
            }
            _ => {}
        }
        plan
    }

    fn preconditions(plan: &Plan, step: &Step) -> bool {
        plan.appended || !matches!(step, Step::Mark { .. })
    }
}

/// How often what happened, over all cases.
static MET: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn met(what: impl Into<String>) {
    *MET.lock().unwrap().entry(what.into()).or_default() += 1;
}

/// A log, and what is known about it.
struct Life {
    disk: SimStorage,
    files: Files,
    wal: Wal,
    model: Model,
    /// Differs for each record that was ever appended.
    number: u64,
    /// Something failed that stops the log.
    poisoned: bool,
    /// A full disk has stopped it: it goes on by itself.
    full: bool,
    /// Close was called.
    ended: bool,
    /// Closed cleanly, and not opened since.
    clean: bool,
    /// Operations may fail.
    faulty: bool,
}

fn options(disk: &SimStorage, Files(way, recycle): Files) -> Options {
    life::options(disk).log_bytes(life::SMALL).way(way).recycle(recycle)
}

impl Life {
    fn new(disk: SimOptions, files: Files) -> Self {
        let disk = SimStorage::with_options(disk);
        let (wal, ..) = life::reopen(options(&disk, files));
        let model = Model::default();
        Self {
            disk,
            files,
            wal,
            model,
            number: 0,
            poisoned: false,
            full: false,
            ended: false,
            clean: false,
            faulty: false,
        }
    }

    fn dead(&self) -> bool {
        self.disk.is_frozen()
    }

    /// An error is of the right kind, and final if it says so.
    fn failed(&mut self, what: &str, error: &Error) {
        met(format!("{what} failed: {:?}", error.kind()));
        match error.kind() {
            ErrorKind::Closed => assert!(self.ended, "{what}: {error}"),
            ErrorKind::Poisoned => {
                assert!(
                    self.poisoned || self.ended || self.faulty || self.dead(),
                    "nothing failed, and yet {what}: {error}"
                );
                if self.files.0 == Way::Direct {
                    // Past the cache: after a sync that failed even the living see nothing of what was only written.
                    self.model.written = self.model.acknowledged;
                }
                if life::is_no_space(error) {
                    self.full = true;
                } else {
                    self.poisoned = true;
                }
            }
            ErrorKind::Io | ErrorKind::Full => {
                assert!(self.faulty || self.dead(), "nothing failed, and yet {what}: {error}")
            }
            kind => panic!("{what} fails with {kind:?}: {error}"),
        }
    }

    /// E: after the end nothing succeeds any more.
    fn succeeded(&mut self, what: &str) {
        assert!(!self.poisoned && !self.ended, "E: {what} succeeds after the log stopped");
        // Behind a full disk it goes on by itself.
        self.full = false;
    }

    fn known(&mut self, families: &[u32], length: usize) -> Known {
        self.number += 1;
        let payload = payload(self.number, length);
        Known { seq: 0, last: 0, families: families.to_vec(), payload }
    }

    /// Appends with a level and notes what that means.
    fn append(
        &mut self,
        mut known: Known,
        record: Record<'_>,
        count: u32,
        skip: Option<u64>,
        level: Durability,
    ) {
        let newest = self.wal.last_seq().map_or(0, SeqNum::get);
        assert!(
            newest >= self.model.records.last().map_or(0, |last| last.last) && newest <= self.model.issued
        );
        known.seq = newest + 1 + skip.unwrap_or(0);
        known.last = known.seq + u64::from(count) - 1;
        let record = if skip.is_some() { record.seqs(SeqNum::new(known.seq), count) } else { record };
        match self.wal.append_with(record, level) {
            Ok(appended) => {
                self.succeeded("append");
                assert_eq!(appended.index.get(), self.model.last() + 1, "C: the index is dense");
                assert_eq!(
                    (appended.seqs.first().get(), appended.seqs.last().get()),
                    (known.seq, known.last)
                );
                self.model.accept(known);
                let index = self.model.last();
                match level {
                    Durability::Synced => self.model.acknowledge(index),
                    Durability::Written => self.model.write(index),
                    Durability::Buffered => {}
                }
            }
            Err(error) => {
                self.failed("append", &error);
                if self.wal.last_seq().is_some_and(|seq| seq.get() == known.last) {
                    // It was ordered, and may come back.
                    self.model.accept(known);
                }
            }
        }
    }

    fn group(&mut self, lengths: &[usize]) {
        let mut last = None;
        for length in lengths {
            let mut known = self.known(&[0], *length);
            let payload = known.payload.clone();
            match self.wal.submit(life::record(&payload)) {
                Ok(ticket) => {
                    self.succeeded("submit");
                    let appended = ticket.appended();
                    assert_eq!(appended.index.get(), self.model.last() + 1, "C: the index is dense");
                    (known.seq, known.last) = (appended.seqs.first().get(), appended.seqs.last().get());
                    self.model.accept(known);
                    last = Some(ticket);
                }
                Err(error) => self.failed("submit", &error),
            }
        }
        match last.map(|ticket| ticket.wait()) {
            Some(Ok(appended)) => self.model.acknowledge(appended.index.get()),
            Some(Err(error)) => self.failed("wait", &error),
            None => {}
        }
    }

    fn refused(&mut self, what: Refused) {
        if self.poisoned || self.full || self.ended || self.dead() {
            return;
        }
        let newest = self.wal.last_seq().map_or(0, SeqNum::get);
        let before = (self.wal.last_seq(), self.wal.durable(), self.disk.mutations());
        let down = families(&[1, 0]);
        let result = match what {
            Refused::Empty => self.wal.append(life::record(b"")).map(drop),
            Refused::NoSequence => self.wal.append(life::record(b"x").count(0)).map(drop),
            Refused::NoFamilies => self.wal.append(life::record(b"x").families(&[])).map(drop),
            Refused::Descending => self.wal.append(life::record(b"x").families(&down)).map(drop),
            Refused::SequenceBack if newest > 0 => {
                self.wal.append(life::record(b"x").seqs(SeqNum::new(newest), 1)).map(drop)
            }
            Refused::MarkBeyond => {
                self.wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(newest + 1)).map(drop)
            }
            Refused::MarkBack if self.model.marked[0] > 1 => {
                self.wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(self.model.marked[0] - 1)).map(drop)
            }
            _ => return,
        };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Invalid, "{what:?}");
        assert_eq!(
            before,
            (self.wal.last_seq(), self.wal.durable(), self.disk.mutations()),
            "{what:?} left a trace"
        );
    }

    fn mark(&mut self, family: u32, part: u64) {
        let place = family as usize;
        let newest = self.wal.last_seq().map_or(0, SeqNum::get);
        let recorded = self.wal.flushed(FamilyId::new(family)).map_or(0, SeqNum::get);
        assert!((self.model.marked[place]..=self.model.tried[place]).contains(&recorded));
        if newest <= recorded {
            return;
        }
        let seq = recorded + 1 + (newest - recorded - 1) * part / 255;
        // The engine's table is durable, whether or not the mark becomes so.
        let tried = std::mem::replace(&mut self.model.tried[place], seq);
        match self.wal.mark_flushed(FamilyId::new(family), SeqNum::new(seq)) {
            Err(Error::InsideRecord { record, .. }) => {
                let (first, last) = (record.first().get(), record.last().get());
                assert!((first..last).contains(&seq), "K3: {seq} is not inside {record:?}");
                let known = self.model.records.iter().any(|known| (known.seq, known.last) == (first, last));
                assert!(known, "K3: there is no record {record:?}");
                met("marks inside a record");
                self.model.tried[place] = tried;
            }
            Ok(deletion) => {
                assert!(!self.ended, "E: a mark in a closed log");
                // An earlier mark that failed goes with this one.
                self.model.marked = self.model.tried;
                if !deletion.deleted.is_empty() {
                    met("logs deleted");
                }
            }
            Err(error) => {
                // It goes with a later one if it was CHECKPOINT that could not be written. A log that has stopped, or cannot be read, takes none.
                if self.wal.flushed(FamilyId::new(family)) != Some(SeqNum::new(seq)) {
                    self.model.tried[place] = tried;
                    met("marks that were not taken");
                }
                self.failed("mark", &error);
            }
        }
    }

    /// What can be asked at any time.
    fn ask(&mut self) {
        let durable = self.wal.durable();
        self.model.acknowledge(durable.index.get());
        let logs = self.wal.logs();
        assert!(logs.windows(2).all(|pair| pair[0].log < pair[1].log), "{logs:?}");
        let (active, old) = logs.split_last().unwrap();
        assert_eq!(
            active.state == LogState::Active,
            !self.ended || active.state == LogState::Active,
            "{logs:?}"
        );
        assert!(old.iter().all(|log| log.state != LogState::Active), "{logs:?}");
        assert!(
            logs.iter().any(|log| log.log == durable.log),
            "the frontier is in no log: {durable}, {logs:?}"
        );
        let records: u64 = logs.iter().map(|log| log.records).sum();
        assert!(
            records >= self.model.unflushed() as u64 || self.poisoned || self.full,
            "G2: {records} records in {logs:?}"
        );
    }

    /// A reader sees what is there and changes nothing; a second writer is kept out.
    fn look(&mut self, end: End) {
        if self.dead() || self.faulty {
            return;
        }
        let before = (self.disk.mutations(), self.disk.file_names());
        match options(&self.disk, self.files).inspect() {
            Ok(inspection) => {
                assert_ne!(
                    inspection.report().verdict,
                    Verdict::Damaged,
                    "L: {}",
                    inspection.report().summary()
                );
                if inspection.report().verdict == Verdict::TornTail {
                    met("torn tails seen by a reader");
                }
                let records = inspection.records().collect::<Result<Vec<_>, _>>();
                let records =
                    records.unwrap_or_else(|error| panic!("L: a crash alone, and a reader gets: {error}"));
                if records.iter().any(|record| !record.proven) {
                    met("unproven records seen by a reader");
                }
                self.model.seen(end, &records);
            }
            Err(error) => {
                let absent = error.kind() == ErrorKind::NotFound && self.model.acknowledged == 0;
                assert!(absent, "L: a crash alone, and a reader gets: {error}");
            }
        }
        assert_eq!(
            before,
            (self.disk.mutations(), self.disk.file_names()),
            "X3: a look changed the directory"
        );
    }

    fn second_writer(&self) {
        if self.dead() || self.faulty || self.ended {
            return;
        }
        let before = self.disk.mutations();
        assert!(matches!(options(&self.disk, self.files).recover(), Err(Error::Locked { .. })), "X1");
        assert_eq!(before, self.disk.mutations(), "X1: who is kept out changes nothing");
    }

    fn close(&mut self) {
        match self.wal.close() {
            Ok(()) => {
                self.succeeded("close");
                self.model.acknowledge(self.model.last());
                self.clean = true;
                met("clean closes");
            }
            Err(error) => {
                if self.ended {
                    assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Poisoned), "{error}");
                } else {
                    self.failed("close", &error);
                }
            }
        }
        self.ended = true;
    }

    /// S14: everything that was accepted is durable afterwards, also what somebody waited for in vain.
    fn resume(&mut self, struck: Option<&str>, well: bool) {
        if let Some(operation) = struck {
            self.disk.fail(Fault::parse(&format!("fail {operation} #1 of *.wal with EIO")).unwrap());
            self.faulty = true;
            self.group(&[100, 4000]);
        }
        if well && !self.dead() {
            self.disk.clear_faults();
            self.faulty = false;
        }
        let stopped = self.poisoned || self.full;
        match self.wal.resume() {
            Ok(durable) => {
                assert!(!self.ended, "E: a closed log goes on");
                if stopped {
                    assert_eq!(durable.index.get(), self.model.last(), "S14: what was accepted is durable");
                    met("resumes");
                }
                self.model.acknowledge(durable.index.get());
                (self.poisoned, self.full) = (false, false);
            }
            Err(error) => {
                assert!(self.ended || self.faulty || self.dead(), "S14: the disk is well, and yet: {error}");
                self.failed("resume", &error);
            }
        }
    }

    fn cut(&mut self, cut: Cut) {
        self.disk = match cut {
            Cut::Kept => self.disk.crash_all_kept(),
            Cut::Lost => self.disk.crash_all_lost(),
            Cut::Seed(seed) => self.disk.crash(seed),
        };
    }

    /// Opens until it succeeds, with crashes on the way, and checks what comes back.
    fn open(mut self, mut end: End, attempts: Vec<Attempt>) -> Self {
        self.look(end);
        let mut attempts = attempts.into_iter();
        for turn in 0.. {
            assert!(turn < 12, "T: it does not open");
            let attempt = attempts.next();
            if let Some(Attempt(after, _)) = attempt {
                self.disk.crash_after(after);
            }
            // Every other time: a strict open reads everything, a default one nothing until its records are handed out.
            let strict = self.clean && self.model.last().is_multiple_of(2);
            let mode = if strict { RecoveryMode::Strict } else { RecoveryMode::Default };
            let failure = match options(&self.disk, self.files).mode(mode).recover() {
                Ok(recovery) => match recovery.records().collect::<Result<Vec<_>, _>>() {
                    Ok(records) => {
                        let next_index = recovery.report().next_index.get();
                        let report = recovery.report().clone();
                        let flushed = |family| recovery.flushed(family).map_or(0, SeqNum::get);
                        let complete = self.model.last();
                        self.model.recovered(end, &records, next_index, flushed);
                        assert!(
                            !self.clean || self.model.last() == complete,
                            "A: closed, and records are gone"
                        );
                        met("recoveries");
                        for (what, many) in [
                            ("recoveries that cut a tail", report.cut_bytes),
                            ("recoveries that wrote records again", report.rewritten_records),
                            ("recoveries that removed files", report.removed.len() as u64),
                            ("recoveries in strict mode", u64::from(strict)),
                            ("recoveries that handed out records", records.len() as u64),
                        ] {
                            if many > 0 {
                                met(what);
                            }
                        }
                        match recovery.finish() {
                            Ok((wal, _)) => {
                                self.wal = wal;
                                break;
                            }
                            // What was closed cleanly is committed only now.
                            Err(error) => error,
                        }
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.clean = false;
            assert!(
                matches!(failure.kind(), ErrorKind::Io | ErrorKind::Full),
                "L: a crash alone is not damage: {failure}"
            );
            if self.dead() {
                met(format!("recoveries that crashed, {} in a row", (turn + 1).min(3)));
                self.cut(attempt.map_or(Cut::Kept, |Attempt(_, cut)| cut));
                (end, self.faulty) = (End::Power, false);
                self.look(end);
            } else {
                assert!(self.faulty, "nothing failed, and yet: {failure}");
                met("recoveries that met a fault");
                self.disk.clear_faults();
                self.faulty = false;
            }
        }
        (self.poisoned, self.full, self.ended, self.clean) = (false, false, false, false);
        if !self.dead() && !self.faulty {
            // No crash makes the directory grow: what is not live is gone.
            let named = |name: &String| name.ends_with(".wal");
            let files: Vec<String> = self.disk.file_names().into_iter().filter(named).collect();
            let logs = self.wal.logs().into_iter().map(|log| format!("{:06}.wal", log.log.get()));
            assert_eq!(files, logs.collect::<Vec<_>>(), "F25: files that nobody needs");
        }
        self
    }

    /// The process ends; the log is dropped first, or the disk would be locked.
    fn forget(mut self) -> Self {
        let nobody = SimStorage::new();
        self.wal = life::open(&nobody);
        self
    }

    fn step(mut self, step: Step) -> Self {
        match step {
            Step::Append { families: numbers, length, count, skip, level } => {
                let known = self.known(&numbers, length);
                let (payload, families) = (known.payload.clone(), families(&numbers));
                let record = life::record(&payload).families(&families).count(count);
                self.append(known, record, count, skip, level);
            }
            Step::Batch { operations, level } => {
                let mut known = self.known(&[], 10);
                let mut batch = WriteBatch::new();
                for operation in 0..operations {
                    batch.put(FamilyId::new(operation % FAMILIES), &known.payload, b"value").unwrap();
                }
                known.families = (0..operations.min(FAMILIES)).collect();
                known.payload = batch.as_bytes().to_vec();
                self.append(known, (&batch).into(), operations, None, level);
            }
            Step::Group(lengths) => self.group(&lengths),
            Step::Refused(what) => self.refused(what),
            Step::Sync => match self.wal.sync() {
                Ok(durable) => {
                    self.succeeded("sync");
                    assert_eq!(
                        durable.index.get(),
                        self.model.last(),
                        "a sync covers everything that was accepted"
                    );
                    self.model.acknowledge(durable.index.get());
                }
                Err(error) => self.failed("sync", &error),
            },
            Step::Rotate => match self.wal.rotate() {
                Ok(sealed) => {
                    self.succeeded("rotate");
                    if sealed.is_some() {
                        self.model.acknowledge(self.model.last());
                        met("rotations");
                    }
                }
                Err(error) => self.failed("rotate", &error),
            },
            Step::Housekeep => {
                let renames = || self.disk.trace().iter().filter(|line| line.starts_with("rename 0")).count();
                let before = renames();
                match self.wal.housekeep() {
                    Ok(()) if renames() > before => met("logs used again"),
                    Ok(()) => met("logs made ahead"),
                    Err(error) => self.failed("housekeep", &error),
                }
            }
            Step::Turn => {
                let append = || Step::Group(vec![20]);
                let marks = (0..FAMILIES).map(|family| Step::Mark { family, part: 255 });
                let steps = [append(), Step::Housekeep, Step::Rotate, append()].into_iter().chain(marks);
                return steps.chain([Step::Housekeep]).fold(self, Self::step);
            }
            Step::Mark { family, part } => self.mark(family, part),
            Step::Look => {
                self.look(End::Process);
                self.second_writer();
            }
            Step::Close => self.close(),
            Step::Reopen if !self.dead() => return self.forget().open(End::Process, Vec::new()),
            Step::Reopen => {
                self.cut(Cut::Kept);
                self.faulty = false;
                return self.open(End::Power, Vec::new());
            }
            Step::ProcessCrash(attempts) => {
                self.disk = self.disk.process_crash();
                self.faulty = false;
                return self.open(End::Process, attempts);
            }
            Step::PowerCut(cut, attempts) => {
                self.cut(cut);
                self.faulty = false;
                return self.open(End::Power, attempts);
            }
            Step::PowerGoesAfter(operations) => self.disk.crash_after(operations),
            Step::Fail(words) => {
                self.disk.fail(Fault::parse(&words).unwrap());
                self.faulty = true;
            }
            Step::Resume { struck, well } => self.resume(struck, well),
        }
        self
    }
}

impl StateMachineTest for Machine {
    type SystemUnderTest = Life;
    type Reference = Self;

    fn init_test(plan: &Plan) -> Life {
        Life::new(plan.disk, plan.files)
    }

    fn apply(life: Life, _: &Plan, step: Step) -> Life {
        let word = format!("{step:?}");
        let word = word.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        met(format!("step {word}"));
        let mut life = life.step(step);
        life.ask();
        life
    }

    fn teardown(life: Life, _: Plan) {
        // Whatever happened, one more power cut takes nothing of it.
        let mut life = life;
        life.cut(Cut::Lost);
        life.faulty = false;
        drop(life.open(End::Power, Vec::new()));
    }
}

/// What every 2000 cases meet, each at least so often.
const EXPECTED: [(&str, u64); 24] = [
    ("recoveries", 5000),
    ("recoveries that crashed, 1 in a row", 300),
    ("recoveries that crashed, 2 in a row", 100),
    ("recoveries that crashed, 3 in a row", 50),
    ("recoveries that met a fault", 20),
    ("recoveries that cut a tail", 40),
    ("recoveries that wrote records again", 2000),
    ("recoveries that removed files", 2000),
    ("recoveries that handed out records", 3000),
    ("recoveries in strict mode", 200),
    ("rotations", 500),
    ("logs made ahead", 500),
    ("logs used again", 100),
    ("logs deleted", 40),
    ("marks inside a record", 20),
    ("marks that were not taken", 20),
    ("clean closes", 300),
    ("resumes", 400),
    ("torn tails seen by a reader", 60),
    ("unproven records seen by a reader", 1000),
    ("append failed: Poisoned", 300),
    ("append failed: Closed", 100),
    ("rotate failed: Io", 50),
    ("mark failed: Io", 50),
];

#[test]
fn t3_v19_s5_s9_s11_s14_x3_a_log_does_what_the_model_says() {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2000;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(1);
    }
    let cases = u64::from(config.cases);
    let run = |(plan, steps, seen)| Machine::test_sequential(ProptestConfig::default(), plan, steps, seen);
    // Failures on the way to the smallest one are not worth a line each.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = TestRunner::new(config).run(&Machine::sequential_strategy(1..26), |case| {
        run(case);
        Ok(())
    });
    std::panic::set_hook(hook);
    if let Err(TestError::Fail(reason, (plan, steps, _))) = &result {
        let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        eprintln!("{reason}\non {:?}, {:?}:\n  {}", plan.disk, plan.files, steps.join("\n  "));
    }
    assert!(result.is_ok(), "see above");
    let met = MET.lock().unwrap();
    println!("{cases} cases: {met:#?}");
    for (what, many) in EXPECTED {
        let found = met.get(what).copied().unwrap_or(0);
        assert!(found * 2000 >= many * cases, "{what}: {found} times in {cases} cases");
    }
}
