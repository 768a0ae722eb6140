//! A day in the life of a log, in simulated time, against a model that knows who needs what.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers of a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wal_format::{FamilyId, LogNumber, RecordKind, SeqNum};

use super::{KeeperKind, Pin};
use crate::{Clock, LOG_BYTES_MIN, MemStorage, Record, Wal};

const FAMILIES: u64 = 6;
const MINUTES: u64 = 24 * 60;
/// So often everybody lets go.
const LULL_MINUTES: u64 = 4 * 60;
/// What is left then: the active log, the one made ahead, one whose successor is empty, CHECKPOINT and LOCK.
const FLOOR_BYTES: usize = 2 * (LOG_BYTES_MIN as usize + 16 * 1024) + 2 * 64 * 1024;

#[derive(Debug, Default)]
struct DayClock(AtomicU64);

impl Clock for DayClock {
    fn wall(&self) -> Duration {
        self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(60 * self.0.load(Ordering::SeqCst))
    }
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

struct Known {
    log: u64,
    last: u64,
    families: Vec<u64>,
}

struct Day {
    rng: Rng,
    clock: Arc<DayClock>,
    storage: MemStorage,
    wal: Wal,
    records: Vec<Known>,
    marks: [u64; FAMILIES as usize],
    /// Families that are flushed seldom: not before this minute.
    idle_until: [u64; FAMILIES as usize],
    holds: BTreeMap<String, u64>,
    pins: Vec<(Pin, u64, bool)>,
    lost: u64,
}

fn open(storage: &MemStorage, clock: &Arc<DayClock>) -> Wal {
    let clock: Arc<dyn Clock> = Arc::<DayClock>::clone(clock);
    let options = Wal::options_on(Arc::new(storage.clone())).idle_promise(None).clock(clock);
    let recovery = options.log_bytes(LOG_BYTES_MIN).recover().unwrap();
    assert!(recovery.records().all(|record| record.is_ok()));
    recovery.finish().unwrap().0
}

impl Day {
    fn append(&mut self) {
        let families: BTreeSet<u64> = (0..1 + self.rng.below(2)).map(|_| self.rng.below(FAMILIES)).collect();
        let ids: Vec<FamilyId> = families.iter().map(|family| FamilyId::new(*family as u32)).collect();
        let payload = vec![7; 1 + self.rng.below(12_000) as usize];
        let record = Record::new(RecordKind::new(1).unwrap(), &payload).families(&ids);
        let appended = self.wal.append(record).unwrap();
        let (log, last) = (appended.position.log.get(), appended.seqs.last().get());
        self.records.push(Known { log, last, families: families.into_iter().collect() });
    }

    fn flush(&mut self, family: u64) {
        let newest = self.wal.last_seq().map_or(0, SeqNum::get);
        let mark = &mut self.marks[family as usize];
        if newest > *mark {
            let part = 1 + self.rng.below(4);
            *mark += (newest - *mark).div_ceil(part);
            self.wal.mark_flushed(FamilyId::new(family as u32), SeqNum::new(*mark)).unwrap();
        }
    }

    fn hold(&mut self) {
        let next = self.wal.last_seq().map_or(0, |seq| seq.get() + 1);
        let name = format!("backup {}", self.rng.below(3));
        let from = self.holds.get(&name).copied();
        match (from, self.rng.below(3)) {
            (Some(from), 0 | 1) => {
                let to = from + self.rng.below(next.saturating_sub(from) + 1);
                self.wal.advance_hold(&name, SeqNum::new(to)).unwrap();
                self.holds.insert(name, to);
            }
            (Some(_), _) => {
                self.wal.release_hold(&name).unwrap();
                self.holds.remove(&name);
            }
            (None, _) => {
                let first = self
                    .wal
                    .logs()
                    .first()
                    .and_then(|info| info.seqs)
                    .map_or(next, |seqs| seqs.first().get());
                let from = first + self.rng.below(next - first + 1);
                let budget = (self.rng.below(2) == 0).then(|| self.rng.below(1 << 20));
                self.wal.hold(&name, SeqNum::new(from), budget).unwrap();
                self.holds.insert(name, from);
            }
        }
    }

    fn follow(&mut self) {
        // Numbers may be jumped by a recovery: only logs that are there.
        let logs: Vec<u64> = self.wal.logs().iter().map(|info| info.log.get()).collect();
        match self.rng.below(4) {
            0 if self.pins.len() < 4 => {
                let from = logs[self.rng.below(logs.len() as u64) as usize];
                let budget = (self.rng.below(2) == 0).then(|| self.rng.below(1 << 20));
                let pin = self.wal.inner().pin(KeeperKind::Follower, "f", LogNumber::new(from), budget);
                assert!(!pin.lost(), "log {from} is there");
                self.pins.push((pin, from, budget.is_some()));
            }
            0 | 1 if !self.pins.is_empty() => {
                let place = self.rng.below(self.pins.len() as u64) as usize;
                self.pins.swap_remove(place);
            }
            _ if !self.pins.is_empty() => {
                let place = self.rng.below(self.pins.len() as u64) as usize;
                let (ahead, step) = (self.pins[place].1, self.rng.below(3) as usize);
                let to =
                    logs.iter().copied().filter(|log| *log >= ahead).take(1 + step).last().unwrap_or(ahead);
                self.pins[place].0.advance(LogNumber::new(to));
                self.pins[place].1 = to;
            }
            _ => {}
        }
    }

    fn reopen(&mut self, clean: bool) {
        self.pins.clear();
        if clean {
            self.wal.close().unwrap();
        }
        // The old one is dropped behind the opening of the new one, otherwise.
        let empty = MemStorage::new();
        self.wal = open(&empty, &self.clock);
        self.wal = open(&self.storage, &self.clock);
        // What nothing proved stands in the new log.
        let active = self.wal.logs().last().unwrap().clone();
        for known in &mut self.records {
            if active.seqs.is_some_and(|seqs| known.last >= seqs.first().get()) {
                known.log = active.log.get();
            }
        }
    }

    /// The oldest log that the model knows somebody to need.
    fn needed(&self) -> Option<u64> {
        let unflushed = self
            .records
            .iter()
            .filter(|known| known.families.iter().any(|family| self.marks[*family as usize] < known.last))
            .map(|known| known.log);
        let held = self
            .holds
            .values()
            .filter_map(|from| self.records.iter().find(|known| known.last >= *from).map(|known| known.log));
        unflushed.chain(held).chain(self.pins.iter().map(|(_, from, _)| *from)).min()
    }

    fn check(&mut self) {
        self.wal.housekeep().unwrap();
        for hold in self.wal.holds().into_iter().filter(|hold| hold.lost) {
            assert!(hold.budget_bytes.is_some(), "{hold:?}");
            assert!(self.wal.release_hold(&hold.name).is_err(), "its owner is told");
            self.holds.remove(&hold.name);
            self.lost += 1;
        }
        let before = self.pins.len();
        self.pins.retain(|(pin, _, budget)| {
            assert!(*budget || !pin.lost(), "a pin without a budget is never lost");
            !pin.lost()
        });
        self.lost += (before - self.pins.len()) as u64;
        let kept = self.wal.why_kept();
        let oldest = kept.first().unwrap().log.get();
        let frontier = self.wal.durable().log.get();
        let needed = self.needed().unwrap_or(u64::MAX);
        let pinned = self.pins.iter().map(|(_, from, _)| *from).min();
        let first =
            self.records.iter().find(|known| known.log == needed).map(|known| (known.last, &known.families));
        assert!(
            oldest <= needed,
            "log {needed} is needed, and the oldest is {oldest}; pins from {pinned:?}, holds {:?}, {first:?}, marks {:?}, {:?}",
            self.holds,
            self.marks,
            self.wal.holds()
        );
        assert!(
            oldest >= needed.min(frontier),
            "nobody needs log {oldest}, only {needed}; {:#?}",
            kept.first()
        );
        assert!(kept.iter().all(|kept| !kept.keepers.is_empty()), "a log without a keeper: {kept:#?}");
        // The files are the logs, and the one made ahead.
        let files = self.storage.files();
        let logs = files.keys().filter(|name| name.ends_with(".wal")).count();
        assert!((kept.len()..=kept.len() + 1).contains(&logs), "{logs} files for {} logs", kept.len());
        self.records.retain(|known| known.log >= oldest);
    }

    /// Everybody is done with everything.
    fn lull(&mut self) {
        self.pins.clear();
        for name in std::mem::take(&mut self.holds).into_keys() {
            self.wal.release_hold(&name).unwrap();
        }
        let newest = self.wal.last_seq().unwrap();
        let marks: Vec<_> = (0..FAMILIES).map(|family| (FamilyId::new(family as u32), newest)).collect();
        self.wal.mark_flushed_all(&marks).unwrap();
        self.marks = [newest.get(); FAMILIES as usize];
        self.check();
        let bytes: usize = self.storage.files().values().map(Vec::len).sum();
        assert!(bytes <= FLOOR_BYTES, "{bytes} bytes are left, the floor is {FLOOR_BYTES}");
    }

    fn minute(&mut self, minute: u64) {
        for _ in 0..self.rng.below(5) {
            self.append();
        }
        for family in 0..FAMILIES {
            if minute >= self.idle_until[family as usize] && self.rng.below(10) == 0 {
                self.flush(family);
                if self.rng.below(20) == 0 {
                    self.idle_until[family as usize] = minute + self.rng.below(180);
                }
            }
        }
        match self.rng.below(24) {
            0 | 1 => drop(self.wal.rotate().unwrap()),
            2 | 3 => self.hold(),
            4..=7 => self.follow(),
            8 => {
                let family = self.rng.below(FAMILIES);
                self.wal.drop_family(FamilyId::new(family as u32)).unwrap();
                self.marks[family as usize] = self.wal.last_seq().map_or(0, SeqNum::get);
            }
            9 if self.rng.below(8) == 0 => {
                let clean = self.rng.below(2) == 0;
                self.reopen(clean);
            }
            _ => {}
        }
        self.check();
    }
}

#[test]
fn g8_g10_g11_a_day_of_a_log_in_simulated_time_returns_to_its_floor() {
    let (mut lost, mut most) = (0, 0);
    for seed in 1..=3_u64 {
        let (storage, clock) = (MemStorage::new(), Arc::<DayClock>::default());
        let wal = open(&storage, &clock);
        let mut day = Day {
            rng: Rng(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)),
            clock,
            storage,
            wal,
            records: Vec::new(),
            marks: [0; FAMILIES as usize],
            idle_until: [0; FAMILIES as usize],
            holds: BTreeMap::new(),
            pins: Vec::new(),
            lost: 0,
        };
        day.append();
        for minute in 1..=MINUTES {
            day.clock.0.store(minute, Ordering::SeqCst);
            day.minute(minute);
            most = most.max(day.wal.logs().len());
            if minute % LULL_MINUTES == 0 {
                day.lull();
            }
        }
        lost += day.lost;
    }
    // The days must meet what they are there for.
    assert!(lost > 10 && most > 10, "{lost} lost, at most {most} logs");
}
