//! What a log must hold after whatever happened to it: the oracle of the property tests.
//!
//! It knows what was accepted, what was acknowledged, and what was handed out or shown as proven. After each recovery:
//! - A: every acknowledged record is there, to the byte, in order;
//! - X: so is every record that an earlier recovery handed out, or that a reader was shown as proven;
//! - C: no hole, no duplicate, nothing that was never appended;
//! - L: a crash alone is never called damage (the caller's part: it knows what happened).

use wal_manager::{FamilyId, RecoveredRecord};

/// How many families there are.
pub const FAMILIES: u32 = 3;

/// A record that was accepted, or may have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// First sequence number.
    pub seq: u64,
    /// Last sequence number.
    pub last: u64,
    /// The families, ascending.
    pub families: Vec<u32>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended, the system goes on: what was handed to the system is there.
    Process,
    /// The power went: what was synced is there.
    Power,
}

/// The oracle.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Record `i` has index `i + 1`. What a crash took is cut off.
    pub records: Vec<Known>,
    /// Index of the last record that survives a power cut.
    pub acknowledged: u64,
    /// Index of the last record that survives the end of the process.
    pub written: u64,
    /// The highest sequence number that was ever issued.
    pub issued: u64,
    /// Per family, the mark that is surely recorded.
    pub marked: [u64; FAMILIES as usize],
    /// Per family, the mark that may be recorded.
    pub tried: [u64; FAMILIES as usize],
}

impl Model {
    /// Index of the last record that was accepted.
    pub fn last(&self) -> u64 {
        self.records.len() as u64
    }

    /// Takes a record over.
    pub fn accept(&mut self, record: Known) {
        assert!(record.seq > self.records.last().map_or(0, |before| before.last), "sequence numbers grow");
        self.issued = self.issued.max(record.last);
        self.records.push(record);
    }

    /// Everything up to this index survives a power cut.
    pub fn acknowledge(&mut self, index: u64) {
        assert!(index <= self.last(), "C: record {index} of {} is called durable", self.last());
        self.acknowledged = self.acknowledged.max(index);
        self.written = self.written.max(index);
    }

    /// Everything up to this index survives the end of the process.
    pub fn write(&mut self, index: u64) {
        self.written = self.written.max(index);
    }

    /// A recovery handed out `records` and says what comes next; `flushed` is what it says of each family.
    pub fn recovered(
        &mut self,
        end: End,
        records: &[RecoveredRecord],
        next_index: u64,
        flushed: impl Fn(FamilyId) -> u64,
    ) {
        let last = next_index - 1;
        assert!(last <= self.last(), "C: {last} records of {} that were accepted", self.last());
        let needed = if end == End::Power { self.acknowledged } else { self.written };
        assert!(last >= needed, "A: the log ends behind record {last}, record {needed} was acknowledged");
        self.records.truncate(last as usize);
        for family in 0..FAMILIES {
            let (place, found) = (family as usize, flushed(FamilyId::new(family)));
            let (low, high) = (self.marked[place], self.tried[place]);
            assert!(
                (low..=high).contains(&found),
                "family {family} is flushed through {found}, not {low}..={high}"
            );
            (self.marked[place], self.tried[place]) = (found, found);
        }
        let mut handed = records.iter();
        for (index, known) in (1..).zip(&self.records) {
            if self.is_flushed(known, &self.marked) {
                continue;
            }
            let record = handed.next().unwrap_or_else(|| panic!("A: record {index} was not handed out"));
            assert_eq!(
                record.index.get(),
                index,
                "A: record {index} was not handed out, or C: in another order"
            );
            assert!(record.proven, "X: what a recovery hands out is durable");
            same(record, known);
        }
        assert!(handed.next().is_none(), "C: a record that is flushed, or that was never appended");
        // X: it was handed out, so it must be there from now on.
        self.acknowledged = last;
        self.written = last;
    }

    /// A reader without the lock saw `records`. `end` is what happened since the last append: [`End::Process`] if nothing did.
    pub fn seen(&mut self, end: End, records: &[RecoveredRecord]) {
        for pair in records.windows(2) {
            assert_eq!(pair[0].index.get() + 1, pair[1].index.get(), "C: a reader sees a hole");
            assert!(pair[0].proven || !pair[1].proven, "behind an unproven record nothing is proven");
        }
        for record in records {
            let index = record.index.get();
            let known = self.records.get(index as usize - 1);
            same(record, known.unwrap_or_else(|| panic!("C: a reader sees record {index}, which never was")));
        }
        let first = records.first().map_or(u64::MAX, |record| record.index.get());
        let last = records.last().map_or(0, |record| record.index.get());
        let needed = if end == End::Power { self.acknowledged } else { self.written };
        for (index, known) in (1..=needed).zip(&self.records) {
            let there = (first..=last).contains(&index);
            assert!(there || self.is_flushed(known, &self.tried), "A: a reader does not see record {index}");
        }
        // X: what is shown as proven must be there from now on.
        let proven = records.iter().filter(|record| record.proven).map(|record| record.index.get());
        self.acknowledge(proven.max().unwrap_or(0));
    }

    /// How many records must still be somewhere.
    pub fn unflushed(&self) -> usize {
        self.records.iter().filter(|known| !self.is_flushed(known, &self.tried)).count()
    }

    fn is_flushed(&self, known: &Known, marks: &[u64; FAMILIES as usize]) -> bool {
        known.families.iter().all(|family| known.last <= marks[*family as usize])
    }
}

fn same(record: &RecoveredRecord, known: &Known) {
    let index = record.index;
    assert!(record.payload == known.payload[..], "A: record {index} has other bytes");
    let seqs = (record.seqs.first().get(), record.seqs.last().get());
    assert_eq!(seqs, (known.seq, known.last), "A: the sequence numbers of record {index}");
    let families = record.families.iter().map(|family| family.get());
    assert!(families.eq(known.families.iter().copied()), "A: the families of record {index}");
}
