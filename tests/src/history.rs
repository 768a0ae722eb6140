//! What a log was told and has promised: the model that recoveries are checked against.
//!
//! After each recovery:
//! - **A**: every acknowledged record is there, to the byte, in order;
//! - **X**: so is every record that an earlier recovery or a reader handed out;
//! - **C**: no hole, no duplicate, nothing that was never appended.
//!
//! A record that was tried and neither accepted nor refused, because its call failed half-way, may be there or not.

use std::collections::BTreeMap;

use wal_manager::{Appended, FamilyId, RecoveredRecord};

/// Families that the model knows: 0, 1, ...
pub const FAMILIES: usize = 3;

/// A record that somebody wants to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its one family.
    pub family: u32,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A record that the log has accepted.
#[derive(Clone, Debug)]
struct Known {
    first: u64,
    last: u64,
    /// `None` if it came back unseen: an append that failed half-way, of a family that was flushed before it was read.
    draft: Option<Draft>,
}

/// What kind of end the process had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Only the process died: what was written is there.
    ProcessDeath,
    /// The power went: what was synced is there.
    PowerCut,
}

/// An attempt to append; give it back with what became of it.
#[derive(Debug)]
#[must_use = "what became of it must be told"]
pub struct Attempt(usize);

/// The model. See [the module](self).
#[derive(Debug, Default)]
pub struct History {
    /// By index, since the log was born; what a crash took is taken out.
    known: BTreeMap<u64, Known>,
    /// Tried, neither accepted nor refused.
    tried: BTreeMap<usize, Draft>,
    attempts: usize,
    /// Handed out by a reader, by index.
    exposed: BTreeMap<u64, Vec<u8>>,
    /// Index of the last record that survives a power cut.
    durable: u64,
    /// Index of the last record that survives the death of the process.
    written: u64,
    /// By family: marked as flushed, or tried to.
    flushed: [u64; FAMILIES],
    /// By family: marked as flushed, and the call returned.
    marked: [u64; FAMILIES],
    /// Appends and syncs that were acknowledged as durable.
    acknowledged: u64,
}

impl History {
    /// Somebody begins to append.
    pub fn begin(&mut self, draft: Draft) -> Attempt {
        self.attempts += 1;
        self.tried.insert(self.attempts, draft);
        Attempt(self.attempts)
    }

    /// The log has ordered it.
    pub fn accepted(&mut self, attempt: Attempt, appended: Appended) {
        let draft = self.tried.remove(&attempt.0).expect("an attempt ends once");
        let (first, last) = (appended.seqs.first().get(), appended.seqs.last().get());
        let index = appended.index.get();
        let known = Known { first, last, draft: Some(draft) };
        assert!(self.known.insert(index, known).is_none(), "C: two records were given index {index}");
        let below = self.known.range(..index).next_back();
        assert!(below.is_none_or(|(_, below)| below.last < first), "C: record {index} has too low a number");
        let above = self.known.range(index + 1..).next();
        assert!(above.is_none_or(|(_, above)| last < above.first), "C: record {index} has too high a number");
    }

    /// The log has said that it is not in it.
    pub fn refused(&mut self, attempt: Attempt) {
        self.tried.remove(&attempt.0).expect("an attempt ends once");
    }

    /// The log has acknowledged everything up to `index` as durable.
    pub fn durable(&mut self, index: u64) {
        self.durable = self.durable.max(index);
        self.written(index);
        self.acknowledged += 1;
    }

    /// A sync past the cache has failed: even the living see nothing of what was only written.
    pub fn sync_failed_past_the_cache(&mut self) {
        self.written = self.durable;
    }

    /// The log has acknowledged everything up to `index` as written.
    pub fn written(&mut self, index: u64) {
        self.written = self.written.max(index);
    }

    /// The log was closed without an error: everything accepted is durable.
    pub fn closed(&mut self) {
        self.durable(self.last());
    }

    /// Somebody is about to mark a family as flushed; its table is durable whether or not the mark becomes so.
    pub fn marking(&mut self, family: u32, seq: u64) {
        let flushed = &mut self.flushed[family as usize];
        *flushed = seq.max(*flushed);
    }

    /// The mark is durable.
    pub fn marked(&mut self, family: u32, seq: u64) {
        let marked = &mut self.marked[family as usize];
        *marked = seq.max(*marked);
    }

    /// A reader that has no lock has handed out a record as proven. One that is not known here yet is remembered: the thread that appends
    /// it may not have come back.
    pub fn exposed(&mut self, record: &RecoveredRecord) {
        let index = record.index.get();
        self.durable = self.durable.max(index);
        self.written(index);
        match self.known.get(&index) {
            Some(known) => known.compare(index, record),
            None => _ = self.exposed.insert(index, record.payload.to_vec()),
        }
    }

    /// Index of the last record that was accepted.
    pub fn last(&self) -> u64 {
        self.known.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// Index of the first record that reaches `seq`.
    pub fn first_from(&self, seq: u64) -> Option<u64> {
        self.known.iter().find(|(_, known)| known.last >= seq.max(1)).map(|(index, _)| *index)
    }

    /// Whether a record covers `seq` and the number before it.
    pub fn is_inside(&self, seq: u64) -> bool {
        self.known.values().any(|known| known.first < seq && seq <= known.last)
    }

    /// How many appends, syncs and rotations were acknowledged as durable.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// A recovery has handed out `records`; the next index is `next_index`, and `flushed` is what it says is flushed.
    pub fn recovered(
        &mut self,
        end: End,
        records: &[RecoveredRecord],
        next_index: u64,
        flushed: impl Fn(FamilyId) -> u64,
    ) {
        let last = next_index - 1;
        let promised = if end == End::ProcessDeath { self.written } else { self.durable };
        assert!(last >= promised, "A: recovered through record {last}, {promised} was acknowledged");
        for (family, marked) in self.marked.iter().enumerate() {
            let found = flushed(FamilyId::new(family as u32));
            assert!(
                found >= *marked,
                "A: family {family} was marked as flushed through {marked}, not {found}"
            );
        }
        self.known.retain(|index, _| *index <= last);
        let mut handed = records.iter().peekable();
        for index in 1..=last {
            let record = handed.next_if(|record| record.index.get() == index);
            if let (Some(exposed), Some(record)) = (self.exposed.get(&index), record) {
                assert!(exposed == &record.payload[..], "X: a reader saw other bytes in record {index}");
            }
            match (self.known.get(&index), record) {
                (Some(known), Some(record)) => known.compare(index, record),
                (Some(known), None) => {
                    let gone = known.draft.as_ref().is_none_or(|draft| {
                        let through = self.flushed[draft.family as usize];
                        known.last <= through
                    });
                    assert!(gone, "A: record {index} was not handed out");
                }
                (None, record) => self.found(index, record),
            }
        }
        assert!(handed.next().is_none(), "C: records behind the last one");
        self.tried.clear();
        self.exposed.clear();
        // X: it was handed out, so it must be there from now on.
        (self.durable, self.written) = (last, last);
    }

    /// A record that nobody was told of must be one that somebody tried to append.
    fn found(&mut self, index: u64, record: Option<&RecoveredRecord>) {
        let is_it = |draft: &Draft| {
            record.is_none_or(|record| {
                draft.payload == record.payload[..] && [FamilyId::new(draft.family)] == record.families[..]
            })
        };
        let attempt = self.tried.iter().find(|(_, draft)| is_it(draft)).map(|(attempt, _)| *attempt);
        let Some(attempt) = attempt else { panic!("C: record {index} was never appended: {record:?}") };
        let known = match record {
            Some(record) => {
                let (first, last) = (record.seqs.first().get(), record.seqs.last().get());
                Known { first, last, draft: self.tried.remove(&attempt) }
            }
            None => Known { first: 0, last: 0, draft: None },
        };
        self.known.insert(index, known);
    }
}

impl Known {
    fn compare(&self, index: u64, record: &RecoveredRecord) {
        let Some(draft) = &self.draft else { return };
        assert!(draft.payload == record.payload[..], "A: record {index} has other bytes");
        assert_eq!(
            (record.seqs.first().get(), record.seqs.last().get()),
            (self.first, self.last),
            "A: record {index}"
        );
        assert_eq!(record.families[..], [FamilyId::new(draft.family)], "A: record {index}");
    }
}
