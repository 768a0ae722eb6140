//! Random lives of a log on the crashable disk: power cuts, deaths of the process and failed syncs at any operation, inside recovery
//! too, against a model. One number replays a life; `CRASH_SEEDS=first..last` explores others.
//!
//! The model knows what was acknowledged and what a recovery has handed out, and is asked after each recovery (A, X, C). And L: a crash
//! alone is never called damage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wal_io::sim::{Fault, SimOptions, SimStorage};
use wal_manager::{Durability, Error, ErrorKind, FamilyId, Record, RecordKind, SeqNum, Wal, WalId};
use wal_tests::history::{Draft, End, FAMILIES, History};
use wal_tests::rng::Rng;

#[derive(Default)]
struct Total {
    recoveries: u64,
    unfinished: u64,
    rewritten: u64,
    torn: u64,
    resumed: u64,
    held: u64,
    lost: u64,
}

/// The holds of a life. The first has no budget.
const HOLDS: [&str; 2] = ["a", "b"];

struct Life {
    rng: Rng,
    disk: SimStorage,
    history: History,
    /// The worst since the last recovery.
    end: End,
    total: Total,
    trace: Vec<String>,
    /// By name, where the hold may be; `None`: there may be none.
    holds: BTreeMap<&'static str, BTreeSet<Option<u64>>>,
    /// Up to where somebody tried to drop each family: its mark may be gone.
    dropped: [u64; FAMILIES],
}

impl Life {
    fn say(&mut self, what: impl Into<String>) {
        self.trace.push(what.into());
    }

    fn crash(&mut self) {
        let before = self.disk.mutations();
        self.disk = match self.rng.below(8) {
            0 => {
                self.say(format!("the process dies after {before} operations"));
                self.disk.process_crash()
            }
            1 => {
                self.end = End::PowerCut;
                self.say(format!("power cut after {before} operations, nothing pending survives"));
                self.disk.crash_all_lost()
            }
            _ => {
                self.end = End::PowerCut;
                let seed = self.rng.next();
                self.say(format!("power cut after {before} operations, seed {seed}"));
                self.disk.crash(seed)
            }
        };
    }

    /// Opens until it succeeds, with crashes on the way, and checks what comes back.
    fn open(&mut self) -> Wal {
        for attempt in 0.. {
            // Recovery crashes too, at most a few times in a row.
            if attempt < 3 && self.rng.one_in(3) {
                let operations = self.rng.below(14);
                self.disk.crash_after(operations);
                self.say(format!("recovery that may use {operations} operations"));
            }
            let options = Wal::options_on(Arc::new(self.disk.clone()))
                .wal_id(WalId::from_bytes([7; 16]))
                .idle_promise(None);
            match options.log_bytes(64 << 10).recover() {
                Ok(recovery) => {
                    let records: Result<Vec<_>, _> = recovery.records().collect();
                    let Ok(records) = records else {
                        assert!(self.disk.is_frozen(), "{records:?}");
                        self.crash();
                        continue;
                    };
                    self.total.recoveries += 1;
                    self.total.rewritten += recovery.report().rewritten_records;
                    self.total.torn += u64::from(recovery.report().cut_bytes > 0);
                    let next_index = recovery.report().next_index.get();
                    self.say(format!("recovered up to record {next_index}, {} handed out", records.len()));
                    assert!(records.iter().all(|record| record.proven));
                    let without =
                        |family: FamilyId| if self.dropped[family.get() as usize] > 0 { u64::MAX } else { 0 };
                    let flushed = |family| recovery.flushed(family).map_or(without(family), SeqNum::get);
                    self.history.recovered(self.end, &records, next_index, flushed);
                    self.end = End::ProcessDeath;
                    match recovery.finish() {
                        Ok((wal, _)) => {
                            self.check_holds(&wal);
                            return wal;
                        }
                        // What was closed cleanly is committed only now.
                        Err(error) => assert!(self.disk.is_frozen(), "{error}"),
                    }
                    self.crash();
                }
                Err(error) => {
                    assert!(
                        self.disk.is_frozen() && error.kind() != ErrorKind::Damage,
                        "L: a crash is not damage: {error}"
                    );
                    self.total.unfinished += 1;
                    self.say(format!("recovery failed: {error}"));
                    self.crash();
                }
            }
        }
        unreachable!("the loop returns")
    }

    /// G11: each hold is where it may be, and what it holds is there.
    fn check_holds(&mut self, wal: &Wal) {
        let holds = wal.holds();
        for name in HOLDS {
            let hold = holds.iter().find(|hold| hold.name == name);
            let may = self.holds.entry(name).or_insert_with(|| [None].into());
            let found = hold.map(|hold| hold.from.get());
            assert!(may.contains(&found), "G11: hold {name} is at {found:?}, not at one of {may:?}");
            *may = [found].into();
            let Some(hold) = hold.filter(|hold| !hold.lost) else { continue };
            let inspection = Wal::options_on(Arc::new(self.disk.clone())).inspect().unwrap();
            let there: BTreeSet<u64> =
                inspection.records().map(|record| record.unwrap().index.get()).collect();
            if let Some(first) = self.history.first_from(hold.from.get()) {
                let lost = (first..=self.history.last()).find(|index| !there.contains(index));
                assert_eq!(lost, None, "G11: hold {name} from {} lost a record", hold.from);
            }
        }
        assert!(holds.iter().all(|hold| !hold.lost || hold.budget_bytes.is_some()));
        self.total.held += holds.iter().filter(|hold| !hold.lost).count() as u64;
        self.total.lost += holds.iter().filter(|hold| hold.lost).count() as u64;
    }

    /// A call that leaves the hold `name` at `to`, or where it is.
    fn holding<T>(
        &mut self,
        name: &'static str,
        to: Option<u64>,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> Result<(), Error> {
        let result = call();
        let may = self.holds.entry(name).or_insert_with(|| [None].into());
        match result.map_err(|error| (error.kind(), error)) {
            Ok(_) => *may = [to].into(),
            // A hold that is released is gone, lost or not.
            Err((ErrorKind::Gap, _)) if to.is_none() => *may = [None].into(),
            Err((ErrorKind::Gap | ErrorKind::Invalid | ErrorKind::Poisoned | ErrorKind::Closed, _)) => {}
            Err((_, error)) => {
                may.insert(to);
                return Err(error);
            }
        }
        Ok(())
    }

    fn hold_step(&mut self, wal: &Wal) -> Result<(), Error> {
        let name = self.rng.pick(&HOLDS);
        let next = wal.last_seq().map_or(0, |seq| seq.get() + 1);
        let now = wal.holds().into_iter().find(|hold| hold.name == name).map(|hold| hold.from.get());
        match (self.rng.below(4), now) {
            (0, Some(_)) => {
                self.say(format!("release hold {name}"));
                self.holding(name, None, || wal.release_hold(name))
            }
            (1 | 2, Some(now)) => {
                let to = now + self.rng.below(next.saturating_sub(now) + 1);
                self.say(format!("advance hold {name} to {to}"));
                self.holding(name, Some(to), || wal.advance_hold(name, SeqNum::new(to)))
            }
            _ => {
                let from = if self.rng.one_in(3) { next } else { self.rng.below(next + 1) };
                let budget = (name == "b").then(|| self.rng.below(20_000));
                self.say(format!("hold {name} from {from}, budget {budget:?}"));
                self.holding(name, Some(from), || wal.hold(name, SeqNum::new(from), budget))
            }
        }
    }

    fn append(&mut self, wal: &Wal) -> Result<(), Error> {
        let family = self.rng.below(FAMILIES as u64) as u32;
        let length = match self.rng.below(12) {
            0 => 33_000 + self.rng.below(9_000),
            1..=3 => 400 + self.rng.below(3_000),
            _ => 1 + self.rng.below(100),
        };
        let payload = self.rng.bytes(length as usize);
        let families = [FamilyId::new(family)];
        let mut record = Record::new(RecordKind::new(1).unwrap(), &payload).families(&families);
        if self.rng.one_in(3) {
            let first = wal.last_seq().map_or(1, SeqNum::get) + 1 + self.rng.below(5);
            record = record.seqs(SeqNum::new(first), 1 + self.rng.below(4) as u32);
        }
        let level =
            [Durability::Buffered, Durability::Written, Durability::Synced][self.rng.below(3) as usize];
        // The ticket tells what was accepted even if the wait fails.
        let ticket = wal.submit(record)?;
        let attempt = self.history.begin(Draft { family, payload: payload.clone() });
        let appended = ticket.appended();
        self.history.accepted(attempt, appended);
        assert_eq!(self.history.last(), appended.index.get(), "C: the index is dense");
        let (seq, last) = (appended.seqs.first(), appended.seqs.last());
        self.say(format!("append {} {level:?} {length} bytes, seq {seq}..={last}", appended.index));
        match level {
            Durability::Synced => {
                ticket.wait()?;
                self.history.durable(appended.index.get());
            }
            Durability::Written => {
                let attempt = self.history.begin(Draft { family: 0, payload: b"w".to_vec() });
                let record = Record::new(RecordKind::new(2).unwrap(), b"w");
                let appended = wal.append_with(record, Durability::Written)?;
                self.history.accepted(attempt, appended);
                self.history.written(appended.index.get());
            }
            Durability::Buffered => {}
        }
        Ok(())
    }

    fn step(&mut self, wal: &Wal) -> Result<(), Error> {
        match self.rng.below(26) {
            0..=11 => self.append(wal)?,
            12..=13 => {
                self.say("sync");
                let durable = wal.sync()?;
                self.history.durable(durable.index.get());
            }
            14..=16 => {
                self.say("rotate");
                wal.rotate()?;
                self.history.durable(wal.durable().index.get());
            }
            20..=24 => self.hold_step(wal)?,
            25 => {
                let family = self.rng.below(FAMILIES as u64) as u32;
                let newest = wal.last_seq().map_or(0, SeqNum::get);
                self.say(format!("drop family {family}"));
                self.dropped[family as usize] = newest;
                self.history.marking(family, newest);
                wal.drop_family(FamilyId::new(family))?;
                self.history.marked(family, newest);
            }
            _ => {
                let family = self.rng.below(FAMILIES as u64) as u32;
                let newest = wal.last_seq().map_or(0, SeqNum::get);
                let recorded = wal.flushed(FamilyId::new(family)).map_or(0, SeqNum::get);
                let recorded = recorded.max(self.dropped[family as usize]);
                if newest > recorded {
                    let seq = recorded + 1 + self.rng.below(newest - recorded);
                    self.say(format!("mark family {family} flushed through {seq}"));
                    self.history.marking(family, seq);
                    wal.mark_flushed(FamilyId::new(family), SeqNum::new(seq))?;
                    self.history.marked(family, seq);
                    assert!(!wal.why_kept()[0].keepers.is_empty(), "G10: a log is kept by nobody");
                }
            }
        }
        Ok(())
    }

    /// S14: goes on after a failure, if it can. What was accepted is durable then.
    fn resume(&mut self, wal: &Wal) -> bool {
        if self.rng.one_in(3) {
            return false;
        }
        if self.rng.one_in(4) {
            let operations = self.rng.below(8);
            self.disk.crash_after(operations);
        }
        match wal.resume() {
            Ok(durable) => {
                self.say(format!("resumed through {}", durable.index));
                self.total.resumed += 1;
                self.history.durable(durable.index.get());
                true
            }
            Err(error) => {
                self.say(format!("resume -> {error}"));
                false
            }
        }
    }

    /// One process from open to its end.
    fn process(&mut self) {
        let wal = self.open();
        if self.rng.one_in(2) {
            let operations = self.rng.below(60);
            self.disk.crash_after(operations);
        } else if self.rng.one_in(3) {
            let nth = 1 + self.rng.below(6);
            let operation = ["sync", "write", "syncdir", "create"][self.rng.below(4) as usize];
            self.say(format!("{operation} {nth} will fail"));
            self.disk.fail(Fault::parse(&format!("fail {operation} #{nth} with EIO")).unwrap());
        }
        for _ in 0..self.rng.below(40) {
            if let Err(error) = self.step(&wal) {
                self.say(format!("-> {error}"));
                // Once poisoned, nothing is acknowledged any more.
                if error.kind() == ErrorKind::Poisoned {
                    let after = wal.append(Record::new(RecordKind::new(1).unwrap(), b"late"));
                    assert!(after.is_err(), "E: acknowledged after a failure");
                    if !self.resume(&wal) {
                        break;
                    }
                }
                if self.disk.is_frozen() {
                    break;
                }
            }
        }
        if self.rng.one_in(3) && wal.close().is_ok() {
            self.say("closed");
            self.history.closed();
        }
        drop(wal);
        self.disk.clear_faults();
        self.crash();
    }
}

fn live(seed: u64) -> Total {
    // Each life on another kind of disk.
    let options = SimOptions {
        tear: seed.is_multiple_of(3),
        lose_names: seed.is_multiple_of(4),
        stale: seed.is_multiple_of(7),
        split_renames: seed.is_multiple_of(5),
        failed_sync_seed: (!seed.is_multiple_of(2)).then_some(seed),
        ..SimOptions::default()
    };
    let disk = SimStorage::with_options(options);
    let mut life = Life {
        rng: Rng::new(seed),
        disk,
        history: History::default(),
        end: End::PowerCut,
        total: Total::default(),
        trace: vec![format!("seed {seed}")],
        holds: BTreeMap::new(),
        dropped: [0; FAMILIES],
    };
    let processes = 3 + life.rng.below(6);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..processes {
            life.process();
        }
    }));
    if let Err(panic) = result {
        let trace = life.trace.join("\n  ");
        let disk = life.disk.trace().join("\n  ");
        eprintln!("life {seed}:\n  {trace}\ndisk since the last crash:\n  {disk}");
        std::panic::resume_unwind(panic);
    }
    life.total
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("CRASH_SEEDS") else { return default };
    let (first, last) = text.split_once("..").expect("CRASH_SEEDS is FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}

#[test]
fn v15_v19_s5_random_crashes_also_inside_recovery_lose_nothing() {
    let mut total = Total::default();
    let seeds = seeds(0..3000);
    for seed in seeds.clone() {
        let one = live(seed);
        total.recoveries += one.recoveries;
        total.unfinished += one.unfinished;
        total.rewritten += one.rewritten;
        total.torn += one.torn;
        total.resumed += one.resumed;
        total.held += one.held;
        total.lost += one.lost;
    }
    println!(
        "{seeds:?}: {} recoveries, {} that crashed themselves, {} records written again, {} tails cut, {} resumed, \
         {} holds found again and {} lost",
        total.recoveries,
        total.unfinished,
        total.rewritten,
        total.torn,
        total.resumed,
        total.held,
        total.lost
    );
    // The lives must meet what they are there for.
    if seeds.end - seeds.start >= 1000 {
        assert!(total.unfinished > 100 && total.rewritten > 100 && total.torn > 100 && total.resumed > 100);
        assert!(total.held > 100 && total.lost > 100);
    }
}
