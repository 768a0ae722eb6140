//! What must hold, whatever the disk did.

use std::hash::{Hash, Hasher};

use wal_manager::{Error, ErrorKind, FamilyId, RecoveredRecord};

/// Length of every payload: equal, so that an old record can hide behind a new one (row 11).
pub const PAYLOAD_BYTES: usize = 16;

/// The two families of the records.
pub const FAMILIES: [FamilyId; 2] = [FamilyId::new(0), FamilyId::new(1)];

/// A record that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// Its number in the log.
    pub index: u64,
    /// Its sequence number.
    pub seq: u64,
    /// Which life it was written in, so that a record written in place of a lost one has other bytes.
    pub life: u8,
}

impl Known {
    /// Its bytes.
    pub fn payload(self) -> [u8; PAYLOAD_BYTES] {
        payload(self.index, self.life)
    }

    /// Every third record touches both families, the others one.
    pub fn families(self) -> &'static [FamilyId] {
        families(self.index)
    }
}

/// The bytes of record `index` in life `life`.
pub fn payload(index: u64, life: u8) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0xa5; PAYLOAD_BYTES];
    bytes[0] = u8::try_from(index).expect("short histories");
    bytes[1] = life;
    bytes
}

/// The families that record `index` touches.
pub fn families(index: u64) -> &'static [FamilyId] {
    let [first, second] = [&FAMILIES[..1], &FAMILIES[1..]];
    match index % 3 {
        0 => &FAMILIES,
        1 => first,
        _ => second,
    }
}

/// What is known from outside: what was accepted, and what of it must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Accepted, in order, since the log was born; what a crash took is cut off.
    pub records: Vec<Known>,
    /// Index of the last record that was acknowledged as synced, or handed out by a recovery.
    pub must: u64,
    /// Index of the last record that was acknowledged as written: it is there if only the process dies.
    pub written: u64,
    /// Highest sequence number that was ever acknowledged, handed out or flushed: none below may be given again.
    pub used_seq: u64,
    /// Per family: marked as flushed, or tried to.
    pub flushed: [u64; 2],
    /// Where the hold may begin, `None` for no hold; empty if there was never one.
    pub held: Vec<Option<u64>>,
    /// How many crashes there were.
    pub life: u8,
}

impl Hash for Model {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.records, self.must, self.written, self.used_seq, self.flushed, self.life).hash(state);
        // States without holds have the same fingerprints as ever.
        if !self.held.is_empty() {
            self.held.hash(state);
        }
    }
}

impl Model {
    /// The record that is accepted next.
    pub fn next_index(&self) -> u64 {
        self.records.len() as u64 + 1
    }

    /// A record was accepted.
    pub fn accept(&mut self, index: u64, seq: u64) -> Result<(), String> {
        if index != self.next_index() {
            return Err(format!("C: record {index} was accepted where {} is next", self.next_index()));
        }
        if seq <= self.used_seq {
            return Err(format!("C: sequence number {seq} was given again: {} was used", self.used_seq));
        }
        self.records.push(Known { index, seq, life: self.life });
        Ok(())
    }

    /// Everything up to `index` must be there from now on.
    pub fn acknowledge(&mut self, index: u64) {
        self.must = self.must.max(index);
        self.written = self.written.max(index);
        let seq = self.records.iter().rev().find(|known| known.index <= index).map_or(0, |known| known.seq);
        self.used_seq = self.used_seq.max(seq);
    }

    /// A recovery handed out `records` and says that `next_index` is next.
    pub fn recovered(&mut self, records: &[RecoveredRecord], next_index: u64) -> Result<(), String> {
        let last = next_index.saturating_sub(1);
        if last < self.must {
            return Err(format!(
                "A: recovered through record {last}, but record {} must be there",
                self.must
            ));
        }
        if last > self.records.len() as u64 {
            return Err(format!("C: recovered through record {last} of {} accepted", self.records.len()));
        }
        self.records.truncate(usize::try_from(last).expect("short histories"));
        let mut handed = records.iter().peekable();
        for known in &self.records {
            if let Some(record) = handed.next_if(|record| record.index.get() == known.index) {
                let exact = record.payload[..] == known.payload()
                    && record.seqs.first().get() == known.seq
                    && record.seqs.last().get() == known.seq
                    && *record.families == *known.families()
                    && record.proven;
                if !exact {
                    return Err(format!("A: record {} came back as {record:?}", known.index));
                }
            } else if !self.is_flushed(*known) {
                return Err(format!("A: record {} was not handed out", known.index));
            }
        }
        if let Some(record) = handed.next() {
            return Err(format!("C: record {} was handed out and never appended, or twice", record.index));
        }
        self.acknowledge(last);
        Ok(())
    }

    /// A call is about to leave the hold there, or where it is.
    pub fn may_hold(&mut self, from: Option<u64>) {
        if self.held.is_empty() {
            self.held.push(None);
        }
        if !self.held.contains(&from) {
            self.held.push(from);
            self.held.sort_unstable();
        }
    }

    /// It did.
    pub fn holds(&mut self, from: Option<u64>) {
        self.held = if from.is_none() { Vec::new() } else { vec![from] };
    }

    /// G11: a recovery found the hold there.
    pub fn found_hold(&mut self, from: Option<u64>) -> Result<(), String> {
        let never = self.held.is_empty() && from.is_none();
        if !never && !self.held.contains(&from) {
            return Err(format!("G11: the hold is at {from:?}, not at one of {:?}", self.held));
        }
        self.holds(from);
        Ok(())
    }

    /// G11: these records are in the directory, where a recovery found the hold a moment ago.
    pub fn keeps_what_is_held(&self, there: &[u64]) -> Result<(), String> {
        let Some(Some(from)) = self.held.first() else { return Ok(()) };
        let mut held = self.records.iter().filter(|known| known.seq >= *from).map(|known| known.index);
        match held.find(|index| !there.contains(index)) {
            Some(gone) => Err(format!("G11: record {gone} is held from {from} on, and is gone")),
            None => Ok(()),
        }
    }

    /// Whether the log may have forgotten the record.
    fn is_flushed(&self, known: Known) -> bool {
        known.families().iter().all(|family| {
            let flushed = self.flushed[usize::from(*family == FAMILIES[1])];
            known.seq <= flushed
        })
    }
}

/// L: a crash alone is never damage.
pub fn not_damage(error: &Error) -> Result<(), String> {
    if error.kind() == ErrorKind::Damage {
        return Err(format!("L: nothing but crashes happened, and recovery says: {error}"));
    }
    Ok(())
}
