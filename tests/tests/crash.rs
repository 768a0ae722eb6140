//! Random lives of a log on the crashable disk: power cuts, deaths of the process and failed syncs at any operation, inside recovery
//! too, against a model. One number replays a life; `CRASH_SEEDS=first..last` explores others.
//!
//! Followers, inside and outside, begin at any time and see every durable record once and in order; copies are made at any time, hold exactly what they
//! name, and survive what comes.
//!
//! The model knows what was acknowledged and what a recovery has handed out, and is asked after each recovery (A, X, C). And L: a crash
//! alone is never called damage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wal_io::probe::Way;
use wal_io::sim::{Fault, SimOptions, SimStorage};
use wal_manager::{
    DirectoryFollower, Durability, Error, ErrorKind, FamilyId, FollowFrom, Follower, Index, Options, Record,
    RecordKind, RecoveryMode, SeqNum, Verdict, Wal, WalId,
};
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
    followed: u64,
    gaps: u64,
    refused: u64,
    copied: u64,
    copies_kept: u64,
    recycled: u64,
}

/// Somebody who follows the log.
struct Tail {
    follower: Tailing,
    /// The index that comes next, if that is known.
    next: Option<u64>,
}

#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Tailing {
    Live(Box<Follower>),
    Outside(Box<DirectoryFollower>),
}

/// A copy that was made: its directory, the first record in it and the one that would come next.
struct Copied {
    name: String,
    first: u64,
    next: u64,
}

/// The holds of a life. The first has no budget.
const HOLDS: [&str; 2] = ["a", "b"];

struct Life {
    rng: Rng,
    disk: SimStorage,
    /// Groups are padded, and the disk spoils sectors that are torn.
    pads: bool,
    history: History,
    /// The worst since the last recovery.
    end: End,
    total: Total,
    trace: Vec<String>,
    /// By name, where the hold may be; `None`: there may be none.
    holds: BTreeMap<&'static str, BTreeSet<Option<u64>>>,
    /// Up to where somebody tried to drop each family: its mark may be gone.
    dropped: [u64; FAMILIES],
    /// The power may go, or an operation fail.
    faulty: bool,
    /// Index of the first record that this process appends.
    opened_at: u64,
    tails: Vec<Tail>,
    copies: Vec<Copied>,
    /// How the files of logs are written, and how many deleted ones are kept to be used again.
    files: (Way, usize),
    /// When the next log is made ahead; apart from what else is drawn. Where files grow nothing is.
    ahead: Rng,
}

impl Life {
    fn options(&self) -> Options {
        let options = Wal::options_on(Arc::new(self.disk.clone())).wal_id(WalId::from_bytes([7; 16]));
        let (way, recycle) = self.files;
        options.idle_promise(None).log_bytes(64 << 10).way(way).recycle(recycle).pad_groups(self.pads)
    }

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
            match self.options().recover() {
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
                            self.check_copies();
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
        let inside = to.is_some_and(|to| self.history.is_inside(to));
        let result = call();
        assert!(
            inside || !matches!(result, Err(Error::InsideRecord { .. })),
            "K3: {to:?} is inside no record"
        );
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

    /// Somebody begins to follow, anywhere up to a little behind the end.
    fn follow(&mut self, wal: &Wal) {
        let from = self.rng.below(self.history.last() + 3);
        let next = (from > 0).then_some(from);
        let place = next.map_or(FollowFrom::Oldest, |index| FollowFrom::Index(Index::new(index)));
        let outside = self.rng.one_in(2);
        self.say(format!("follow from {place:?}, outside: {outside}"));
        let opened = match outside {
            true => self.options().follow(place).map(|follower| Tailing::Outside(Box::new(follower))),
            false => wal.follow(place).map(|follower| Tailing::Live(Box::new(follower))),
        };
        match opened {
            Ok(follower) => self.tails.push(Tail { follower, next }),
            Err(error) => drop(self.goes_on(&error, next, outside)),
        }
    }

    /// W1, W4: each follower sees what is durable, every record once and in order, or one gap.
    fn look(&mut self, wal: &Wal) {
        for mut tail in std::mem::take(&mut self.tails) {
            let goes_on = loop {
                let (seen, live) = match &mut tail.follower {
                    Tailing::Live(follower) => (follower.try_next(), true),
                    Tailing::Outside(follower) => (follower.try_next(), false),
                };
                let durable = wal.durable().index.get();
                match seen {
                    Ok(Some(record)) => {
                        let index = record.index.get();
                        assert!(
                            tail.next.is_none_or(|next| next == index),
                            "W1: {index}, not {:?}",
                            tail.next
                        );
                        assert!(index <= durable && record.proven, "W1: record {index} is not durable");
                        self.history.exposed(&record);
                        self.total.followed += 1;
                        tail.next = Some(index + 1);
                    }
                    Ok(None) => {
                        let all = tail.next.is_none_or(|next| next > durable);
                        assert!(all || !live, "W1: it waits for {:?}, {durable} is durable", tail.next);
                        break true;
                    }
                    Err(error) => break self.goes_on(&error, tail.next, !live),
                }
            };
            if goes_on {
                self.tails.push(tail);
            }
        }
    }

    /// What a follower may be told, and whether it may be asked again.
    fn goes_on(&mut self, error: &Error, next: Option<u64>, outside: bool) -> bool {
        self.say(format!("a follower that wants {next:?} -> {error}"));
        if self.disk.is_frozen() {
            return false;
        }
        match error.kind() {
            ErrorKind::Poisoned => true,
            ErrorKind::Gap => {
                let inspection = self.options().inspect().unwrap();
                let oldest = inspection.records().next().map(|record| record.unwrap().index.get());
                let gone = next.zip(oldest).is_none_or(|(next, oldest)| next < oldest);
                // From outside nobody can tell whether the recovery in between gave records up.
                let unsure = outside && next == Some(self.opened_at);
                assert!(gone || unsure, "W4: a gap at {next:?}, and {oldest:?} is there");
                self.total.gaps += 1;
                false
            }
            _ => panic!("W1: a follower that wants {next:?} is told: {error}"),
        }
    }

    /// W5: a copy holds exactly what it says.
    fn copy(&mut self, wal: &Wal) -> Result<(), Error> {
        let name = format!("copy-{}", self.trace.len());
        let (copy, outside) = (self.disk.directory(&name), self.rng.one_in(3));
        self.say(format!("copy to {name}, outside: {outside}"));
        let copied = if outside { self.options().copy_on(&copy) } else { wal.copy_on(&copy) };
        let report = match copied {
            Ok(report) => report,
            Err(error) => {
                assert!(self.faulty, "W5: nothing has failed, and a copy does: {error}");
                // The log itself goes on, unless the disk is gone.
                return if self.disk.is_frozen() { Err(error) } else { Ok(()) };
            }
        };
        let (next, durable) = (report.next_index.get(), wal.durable().index.get());
        assert!(next == durable + 1 || outside && next <= durable, "W5: up to {next}, {durable} is durable");
        self.copies.push(Copied { name, first: report.first_index.get(), next });
        self.total.copied += 1;
        // Otherwise it is looked at after the crash.
        if !self.disk.is_frozen() {
            self.check_last_copy();
        }
        Ok(())
    }

    fn check_last_copy(&mut self) {
        let Some(Copied { name, first, next }) = self.copies.last() else { return };
        let copy = Wal::options_on(Arc::new(self.disk.directory(name))).mode(RecoveryMode::Strict);
        let inspection = copy.inspect().expect("W5: a copy opens");
        assert_eq!(inspection.report().verdict, Verdict::Clean, "W5: {name}");
        let mut expected = *first..*next;
        for record in inspection.records() {
            let record = record.expect("W5: a copy is read to its end");
            assert_eq!(Some(record.index.get()), expected.next(), "W5: {name}");
            self.history.exposed(&record);
        }
        assert!(expected.is_empty(), "W5: {name} lacks {expected:?}");
    }

    /// Copies that were made before a crash are there.
    fn check_copies(&mut self) {
        while !self.copies.is_empty() && !self.disk.is_frozen() {
            self.check_last_copy();
            self.copies.pop();
            self.total.copies_kept += 1;
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
        if self.rng.one_in(3) {
            self.look(wal);
        }
        if self.files.0.fills() && self.ahead.one_in(3) {
            self.say("make the next log");
            wal.housekeep()?;
        }
        match self.rng.below(29) {
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
            26..=27 if self.tails.len() < 3 => self.follow(wal),
            28 if self.rng.one_in(2) => self.copy(wal)?,
            _ => {
                let family = self.rng.below(FAMILIES as u64) as u32;
                let newest = wal.last_seq().map_or(0, SeqNum::get);
                let recorded = wal.flushed(FamilyId::new(family)).map_or(0, SeqNum::get);
                let recorded = recorded.max(self.dropped[family as usize]);
                if newest > recorded {
                    let seq = recorded + 1 + self.rng.below(newest - recorded);
                    self.say(format!("mark family {family} flushed through {seq}"));
                    let inside = self.history.is_inside(seq + 1);
                    if !inside {
                        self.history.marking(family, seq);
                    }
                    match wal.mark_flushed(FamilyId::new(family), SeqNum::new(seq)) {
                        Err(Error::InsideRecord { .. }) if inside => {
                            self.total.refused += 1;
                            return Ok(());
                        }
                        // A record that is gone refuses nothing.
                        marked => _ = marked?,
                    }
                    self.history.marking(family, seq);
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
        self.opened_at = wal.durable().index.get() + 1;
        self.faulty = true;
        if self.rng.one_in(2) {
            let operations = self.rng.below(60);
            self.disk.crash_after(operations);
        } else if self.rng.one_in(3) {
            let nth = 1 + self.rng.below(6);
            let operation = ["sync", "write", "syncdir", "create"][self.rng.below(4) as usize];
            self.say(format!("{operation} {nth} will fail"));
            self.disk.fail(Fault::parse(&format!("fail {operation} #{nth} with EIO")).unwrap());
        } else {
            self.faulty = false;
        }
        for _ in 0..self.rng.below(40) {
            if let Err(error) = self.step(&wal) {
                self.say(format!("-> {error}"));
                // Once poisoned, nothing is acknowledged any more.
                if error.kind() == ErrorKind::Poisoned {
                    if self.files.0 == Way::Direct {
                        self.history.sync_failed_past_the_cache();
                    }
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
        self.look(&wal);
        self.total.recycled +=
            self.disk.trace().iter().filter(|line| line.starts_with("rename 0")).count() as u64;
        // A follower keeps the directory locked.
        self.tails.clear();
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
    let pads = seed % 5 == 2;
    let options = SimOptions {
        tear: seed.is_multiple_of(3),
        lose_names: seed.is_multiple_of(4),
        stale: seed.is_multiple_of(7),
        split_renames: seed.is_multiple_of(5),
        spoil_sectors: pads,
        failed_sync_seed: (!seed.is_multiple_of(2)).then_some(seed),
        ..SimOptions::default()
    };
    let disk = SimStorage::with_options(options);
    let mut life = Life {
        rng: Rng::new(seed),
        disk,
        pads,
        history: History::default(),
        end: End::PowerCut,
        total: Total::default(),
        trace: vec![format!("seed {seed}")],
        holds: BTreeMap::new(),
        dropped: [0; FAMILIES],
        faulty: false,
        opened_at: 1,
        tails: Vec::new(),
        copies: Vec::new(),
        files: [(Way::Append, 0), (Way::Filled, 1), (Way::Direct, 2)][(seed / 2 % 3) as usize],
        ahead: Rng::new(!seed),
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
        total.followed += one.followed;
        total.gaps += one.gaps;
        total.refused += one.refused;
        total.copied += one.copied;
        total.copies_kept += one.copies_kept;
        total.recycled += one.recycled;
    }
    println!(
        "{seeds:?}: {} recoveries, {} that crashed themselves, {} records written again, {} tails cut, {} resumed, \
         {} holds found again and {} lost, {} records followed, {} gaps, {} marks inside a record, {} copies, {} of them there after a crash, {} logs used again",
        total.recoveries,
        total.unfinished,
        total.rewritten,
        total.torn,
        total.resumed,
        total.held,
        total.lost,
        total.followed,
        total.gaps,
        total.refused,
        total.copied,
        total.copies_kept,
        total.recycled
    );
    // The lives must meet what they are there for.
    if seeds.end - seeds.start >= 3000 {
        assert!(total.unfinished > 100 && total.rewritten > 100 && total.torn > 100 && total.resumed > 50);
        assert!(total.held > 100 && total.lost > 100);
        assert!(
            total.followed > 1000
                && total.gaps > 10
                && total.refused > 100
                && total.copied > 100
                && total.copies_kept > 100
                && total.recycled > 100
        );
    }
}
