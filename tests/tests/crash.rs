//! Random lives of a log on the crashable disk: power cuts, deaths of the process and failed syncs at any operation, inside recovery
//! too, against a model. One number replays a life; `CRASH_SEEDS=first..last` explores others.
//!
//! The model knows what was acknowledged and what a recovery has handed out. After each recovery:
//! - A: every acknowledged record is there, to the byte, in order;
//! - X: so is every record that an earlier recovery handed out;
//! - C: no hole, no duplicate, nothing that was never appended;
//! - L: a crash alone is never called damage.

use std::sync::Arc;

use wal_io::sim::{Fault, SimOptions, SimStorage};
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, Record, RecordKind, RecoveredRecord, SeqNum, Wal, WalId,
};

/// A small generator, so that a seed replays a life for ever.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// A record that was accepted.
#[derive(Clone, Debug)]
struct Known {
    index: u64,
    seq: u64,
    last: u64,
    family: u32,
    payload: Vec<u8>,
}

#[derive(Default)]
struct Model {
    /// Accepted, in order, since the log was born; what a crash took is cut off.
    records: Vec<Known>,
    /// Index of the last record that must be there.
    acknowledged: u64,
    /// Per family: marked, or tried to.
    flushed: [u64; 3],
    /// How often what happened.
    recoveries: u64,
    unfinished: u64,
    rewritten: u64,
    torn: u64,
}

struct Life {
    rng: Rng,
    disk: SimStorage,
    model: Model,
    trace: Vec<String>,
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
                self.say(format!("power cut after {before} operations, nothing pending survives"));
                self.disk.crash_all_lost()
            }
            _ => {
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
            let options = Wal::options_on(Arc::new(self.disk.clone())).wal_id(WalId::from_bytes([7; 16]));
            match options.log_bytes(64 << 10).recover() {
                Ok(recovery) => {
                    let records: Result<Vec<_>, _> = recovery.records().collect();
                    let Ok(records) = records else {
                        assert!(self.disk.is_frozen(), "{records:?}");
                        self.crash();
                        continue;
                    };
                    self.model.recoveries += 1;
                    self.model.rewritten += recovery.report().rewritten_records;
                    self.model.torn += u64::from(recovery.report().cut_bytes > 0);
                    let next_index = recovery.report().next_index.get();
                    let (wal, _) = recovery.finish().expect("drained");
                    self.check(&records, next_index);
                    return wal;
                }
                Err(error) => {
                    assert!(
                        self.disk.is_frozen() && error.kind() != ErrorKind::Damage,
                        "L: a crash is not damage: {error}"
                    );
                    self.model.unfinished += 1;
                    self.say(format!("recovery failed: {error}"));
                    self.crash();
                }
            }
        }
        unreachable!("the loop returns")
    }

    fn check(&mut self, records: &[RecoveredRecord], next_index: u64) {
        let last = next_index - 1;
        self.say(format!("recovered through record {last}, {} handed out", records.len()));
        assert!(last >= self.model.acknowledged, "A: record {} is gone", self.model.acknowledged);
        let history = self.model.records.len() as u64;
        assert!(last <= history, "C: {last} records of {history} accepted ones");
        self.model.records.truncate(last as usize);
        let mut handed = records.iter();
        for known in &self.model.records {
            let flushed = known.last <= self.model.flushed[known.family as usize];
            let mut ahead = handed.clone();
            match ahead.next() {
                Some(record) if record.index.get() == known.index => {
                    handed = ahead;
                    assert_eq!(
                        record.payload[..],
                        known.payload[..],
                        "A: record {} has other bytes",
                        known.index
                    );
                    assert_eq!(record.seqs.first().get(), known.seq, "A: record {}", known.index);
                    assert_eq!(record.seqs.last().get(), known.last, "A: record {}", known.index);
                    assert_eq!(record.families, [FamilyId::new(known.family)]);
                    assert!(record.proven);
                }
                _ => assert!(flushed, "A: record {} was not handed out", known.index),
            }
        }
        assert!(handed.next().is_none(), "C: a record that was never appended");
        // X: it was handed out, so it must be there from now on.
        self.model.acknowledged = last;
    }

    fn append(&mut self, wal: &Wal) -> Result<(), Error> {
        let family = self.rng.below(3) as u32;
        let length = match self.rng.below(12) {
            0 => 33_000 + self.rng.below(9_000),
            1..=3 => 400 + self.rng.below(3_000),
            _ => 1 + self.rng.below(100),
        };
        let payload: Vec<u8> = (0..length).map(|_| self.rng.next() as u8).collect();
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
        let appended = ticket.appended();
        let (seq, last) = (appended.seqs.first().get(), appended.seqs.last().get());
        self.model.records.push(Known { index: appended.index.get(), seq, last, family, payload });
        assert_eq!(self.model.records.len() as u64, appended.index.get(), "C: the index is dense");
        self.say(format!("append {} {level:?} {length} bytes, seq {seq}..={last}", appended.index));
        match level {
            Durability::Synced => {
                ticket.wait()?;
                self.model.acknowledged = appended.index.get();
            }
            Durability::Written => {
                wal.append_with(Record::new(RecordKind::new(2).unwrap(), b"w"), Durability::Written).map(
                    |appended| {
                        let (seq, last) = (appended.seqs.first().get(), appended.seqs.last().get());
                        let index = appended.index.get();
                        self.model.records.push(Known {
                            index,
                            seq,
                            last,
                            family: 0,
                            payload: b"w".to_vec(),
                        });
                    },
                )?;
            }
            Durability::Buffered => {}
        }
        Ok(())
    }

    fn step(&mut self, wal: &Wal) -> Result<(), Error> {
        match self.rng.below(20) {
            0..=11 => self.append(wal)?,
            12..=13 => {
                self.say("sync");
                let durable = wal.sync()?;
                self.model.acknowledged = durable.index.get();
            }
            14..=16 => {
                self.say("rotate");
                wal.rotate()?;
                self.model.acknowledged = wal.durable().index.get();
            }
            _ => {
                let family = self.rng.below(3) as u32;
                let newest = wal.last_seq().map_or(0, SeqNum::get);
                let recorded = wal.flushed(FamilyId::new(family)).map_or(0, SeqNum::get);
                if newest > recorded {
                    let seq = recorded + 1 + self.rng.below(newest - recorded);
                    self.say(format!("mark family {family} flushed through {seq}"));
                    // The engine's table is durable, whether or not the mark becomes so.
                    self.model.flushed[family as usize] = seq.max(self.model.flushed[family as usize]);
                    wal.mark_flushed(FamilyId::new(family), SeqNum::new(seq))?;
                }
            }
        }
        Ok(())
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
                    break;
                }
                if self.disk.is_frozen() {
                    break;
                }
            }
        }
        if self.rng.one_in(3) && wal.close().is_ok() {
            self.say("closed");
            self.model.acknowledged = self.model.records.len() as u64;
        }
        drop(wal);
        self.disk.clear_faults();
        self.crash();
    }
}

fn live(seed: u64) -> Model {
    // Each life on another kind of disk.
    let options = SimOptions {
        tear: seed.is_multiple_of(3),
        lose_names: seed.is_multiple_of(4),
        split_renames: seed.is_multiple_of(5),
        failed_sync_seed: (!seed.is_multiple_of(2)).then_some(seed),
        ..SimOptions::default()
    };
    let disk = SimStorage::with_options(options);
    let mut life =
        Life { rng: Rng(seed), disk, model: Model::default(), trace: vec![format!("seed {seed}")] };
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
    life.model
}

fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("CRASH_SEEDS") else { return default };
    let (first, last) = text.split_once("..").expect("CRASH_SEEDS is FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}

#[test]
fn v15_v19_s5_random_crashes_also_inside_recovery_lose_nothing() {
    let mut total = Model::default();
    let seeds = seeds(0..3000);
    for seed in seeds.clone() {
        let model = live(seed);
        total.recoveries += model.recoveries;
        total.unfinished += model.unfinished;
        total.rewritten += model.rewritten;
        total.torn += model.torn;
    }
    println!(
        "{seeds:?}: {} recoveries, {} that crashed themselves, {} records written again, {} tails cut",
        total.recoveries, total.unfinished, total.rewritten, total.torn
    );
    // The lives must meet what they are there for.
    if seeds.end - seeds.start >= 1000 {
        assert!(total.unfinished > 100 && total.rewritten > 100 && total.torn > 100);
    }
}
