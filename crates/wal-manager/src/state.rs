//! What the commit path changes, all under one mutex.
//!
//! **Invariants**:
//! - `durable <= written <= accepted`, in the order of the log; `durable` moves only after a successful sync (PR1).
//! - at most one leader (`in_flight`), and none while a rotation switches logs (`exclusive`).
//! - `forming` holds exactly the bytes of the active log between `forming_start` and the encoder's offset.
//! - after the first failure (`failed`) nothing moves any more.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use wal_format::control::Seal;
use wal_format::encode::{LogEncoder, PromiseSlot};
use wal_format::record::Head;
use wal_format::{FamilyId, Index, LogNumber, SeqNum, SeqRange};
use wal_io::Sink;

use crate::error::{Error, Result};
use crate::gather::Gather;
use crate::record::{Appended, Durability, Position};

/// The log being written.
#[derive(Debug)]
pub(crate) struct ActiveLog {
    pub(crate) log: LogNumber,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) encoder: LogEncoder,
    pub(crate) records: u64,
    pub(crate) seqs: Option<SeqRange>,
    /// Highest sequence number of each family in it.
    pub(crate) families: BTreeMap<FamilyId, SeqNum>,
}

impl ActiveLog {
    /// What the seal says.
    pub(crate) fn seal(&self, next_index: Index) -> Seal {
        let digest = self.encoder.digest().get();
        Seal { records: self.records, next_index, seqs: self.seqs, digest }
    }
}

/// A group at the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    /// Its leader has not taken it yet: what is accepted now is still part of it.
    pub(crate) gathering: bool,
    /// Whether its success will make records durable that no promise speaks of yet.
    pub(crate) will_be_due: bool,
    /// Index of its last record.
    pub(crate) through: Index,
    /// Whether it is synced too.
    pub(crate) sync: bool,
}

impl InFlight {
    /// As long as the leader has not taken it.
    pub(crate) const GATHERING: Self =
        Self { gathering: true, will_be_due: false, through: Index::new(0), sync: false };
}

/// Everything that the commit path changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) active: ActiveLog,
    /// Encoded and not yet written.
    pub(crate) forming: Vec<u8>,
    /// Offset in the active log of the first byte of `forming`.
    pub(crate) forming_start: u64,
    pub(crate) forming_records: u64,
    /// The place of the promise in `forming`.
    pub(crate) promise: Option<PromiseSlot>,
    /// The other buffer.
    pub(crate) spare: Vec<u8>,
    /// Index of the next record.
    pub(crate) next_index: Index,
    /// Lowest sequence number that may come next.
    pub(crate) seq_floor: SeqNum,
    /// Behind everything encoded.
    pub(crate) accepted: Position,
    /// Behind everything handed to the system.
    pub(crate) written: Position,
    /// The frontier.
    pub(crate) durable: Position,
    /// Index of the last record that a promise, or this log's header, says to be durable.
    pub(crate) promised: Index,
    /// Records up to this index are waited for at `Synced`.
    pub(crate) sync_wanted: Index,
    pub(crate) in_flight: Option<InFlight>,
    /// Number of the round that is at the disk, or of the last one.
    pub(crate) round: u64,
    pub(crate) gather: Gather,
    /// How many wait for something that happens seldom.
    pub(crate) blocked: u32,
    /// The next log was asked for.
    pub(crate) next_wanted: bool,
    /// This is not the log that the open began.
    pub(crate) rotated: bool,
    /// The file of the active log grows, and the next one, which is ready, was filled: it is used from the next record on.
    pub(crate) better_is_ready: bool,
    /// A rotation or a close has the log to itself.
    pub(crate) exclusive: bool,
    pub(crate) failed: Option<Error>,
    pub(crate) closed: bool,
}

impl State {
    /// The state behind a recovery: everything in `active` is durable.
    pub(crate) fn new(active: ActiveLog, next_index: Index, seq_floor: SeqNum, promised: Index) -> Self {
        let index = Index::new(next_index.get().saturating_sub(1));
        let end = Position { log: active.log, offset: active.encoder.offset(), index };
        Self {
            forming: Vec::new(),
            forming_start: end.offset,
            forming_records: 0,
            promise: None,
            spare: Vec::new(),
            next_index,
            seq_floor,
            accepted: end,
            written: end,
            durable: end,
            promised,
            sync_wanted: Index::new(0),
            in_flight: None,
            round: 0,
            gather: Gather::default(),
            blocked: 0,
            next_wanted: false,
            rotated: false,
            better_is_ready: false,
            exclusive: false,
            failed: None,
            closed: false,
            active,
        }
    }

    /// Makes `active` the log being written; everything before it is durable.
    pub(crate) fn switch(&mut self, active: ActiveLog, header: Vec<u8>) -> ActiveLog {
        debug_assert!(
            self.forming.is_empty() && self.durable == self.accepted,
            "a rotation switches behind a sync"
        );
        self.forming_start = 0;
        self.accepted =
            Position { log: active.log, offset: active.encoder.offset(), index: self.accepted.index };
        self.written = Position { log: active.log, offset: 0, index: self.accepted.index };
        // The header states that everything before it is durable: that needs no promise.
        self.promised = self.durable.index;
        self.forming = header;
        (self.next_wanted, self.rotated, self.better_is_ready) = (false, true, false);
        mem::replace(&mut self.active, active)
    }

    /// The round that takes the record as far as `level` says: the one at the disk, if it still takes it in or has done so, or the next.
    pub(crate) fn round_for(&self, index: Index, level: Durability) -> u64 {
        let taken = |group: InFlight| {
            group.gathering || (group.through >= index && (group.sync || level != Durability::Synced))
        };
        if self.in_flight.is_some_and(taken) { self.round } else { self.round.wrapping_add(1) }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(cause) = &self.failed {
            return Err(Error::Poisoned { cause: Arc::new(cause.clone()) });
        }
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Encodes a record that has been checked.
    pub(crate) fn encode(&mut self, head: &Head, families: &[FamilyId], payload: &[u8]) -> Appended {
        if self.forming_records == 0 {
            // PR3: a promise is due when a record has become durable since the last one; by the time that this group is written, the group
            // at the disk will have been synced, or everything will have failed.
            let due =
                self.durable.index > self.promised || self.in_flight.is_some_and(|group| group.will_be_due);
            let due = due
                || seeded_bug!(PromiseAlways)
                || (seeded_bug!(PromiseOfWritten) && self.written.index > self.promised);
            let due = due && !seeded_bug!(PromiseNever);
            self.promise = due.then(|| self.active.encoder.reserve_promise(&mut self.forming));
        }
        self.active.encoder.record(&mut self.forming, head, families, payload);
        self.forming_records += 1;
        self.active.records += 1;
        self.active.seqs = Some(self.active.seqs.map_or(head.seqs, |seqs| seqs.union(head.seqs)));
        for family in families {
            self.active.families.insert(*family, head.seqs.last());
        }
        let offset = self.active.encoder.offset();
        self.accepted = Position { log: self.active.log, offset, index: head.index };
        Appended { index: head.index, seqs: head.seqs, position: self.accepted }
    }
}
