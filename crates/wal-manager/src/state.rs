//! What the commit path changes, all under one mutex.
//!
//! **Invariants**:
//! - `durable <= written <= accepted`, in the order of the log; `durable` moves only after a successful sync (PR1).
//! - at most one leader (`in_flight`), and none while a rotation switches logs (`exclusive`).
//! - `forming` holds exactly the bytes of the active log between `forming_start` and the encoder's offset.
//! - `unsynced` and `forming` hold all bytes of the active log that are behind `durable`, and whole groups (RS1).
//! - after the first failure (`failed`) nothing moves any more, until a resume.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;

use wal_format::chunk::Digest;
use wal_format::control::{Promise, Seal};
use wal_format::encode::{LogEncoder, PromiseSlot};
use wal_format::record::Head;
use wal_format::{BLOCK_BYTES, FamilyId, Index, LogNumber, SeqNum, SeqRange};
use wal_io::Sink;

use crate::buffer::Buffer;
use crate::caps::{Limits, Room};
use crate::commit::{DIRECT_GROUP_BYTES, GROUP_BYTES};
use crate::duplicates::Duplicates;
use crate::error::{Error, Result};
use crate::gather::Gather;
use crate::record::{Durability, Position};
use crate::watch::{Awaiting, Reached};

/// Buffers that are kept to be used again, in bytes: what may wait for a sync by default. The buffer of a huge record is given back to the system.
const SPARE_BYTES_MAX: usize = 32 << 20;

/// A group up to this length is copied to others when it has to be kept: to copy so little costs less than a buffer.
const SMALL_GROUP_BYTES: usize = GROUP_BYTES / 8;

/// What groups are padded to, in bytes, or to the sink's blocks if those are longer: 4096, the largest sector of today's disks, eight of the smallest,
/// and a page of the cache, which is written as a whole.
pub(crate) const UNIT_BYTES: u64 = 4096;

const _: () =
    assert!((BLOCK_BYTES as u64).is_multiple_of(UNIT_BYTES), "a filler ends in the block that it begins in");

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
    /// Microseconds since 1970 when it was begun.
    pub(crate) created_micros: u64,
    /// Up to here its file has space on the disk; `u64::MAX` for a file that grows.
    pub(crate) reserved: u64,
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

/// A group that was written, or should have been, and is not known to be durable. Kept for a resume (RS1).
#[derive(Debug)]
pub(crate) struct Group {
    /// Whole records and statements.
    pub(crate) bytes: Buffer,
    /// Offset in the active log of its first byte.
    pub(crate) start: u64,
}

impl Group {
    /// Offset in the active log behind it.
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }
}

/// What is accepted and not durable, at one look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undurable {
    /// Looks are counted, so that an earlier one does not come after a later one.
    pub(crate) look: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// Everything that the commit path changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) active: ActiveLog,
    /// Encoded and not yet written.
    pub(crate) forming: Buffer,
    /// Offset in the active log of the first byte of `forming`.
    pub(crate) forming_start: u64,
    pub(crate) forming_records: u64,
    /// [`Sink::block_bytes`] of the active log.
    block: usize,
    /// The place of the promise in `forming`.
    pub(crate) promise: Option<PromiseSlot>,
    /// Written and not durable, in order, up to `written`; after a failure, up to `forming`.
    pub(crate) unsynced: VecDeque<Group>,
    pub(crate) unsynced_bytes: u64,
    /// The records of several sequence numbers behind `durable`: nobody can look those up in a file (K3).
    wide: VecDeque<(Index, SeqRange)>,
    /// Buffers to be used again.
    spares: Vec<Vec<u8>>,
    /// Index of the next record.
    pub(crate) next_index: Index,
    /// Lowest sequence number that may come next.
    pub(crate) seq_floor: SeqNum,
    /// Behind everything encoded.
    pub(crate) accepted: Position,
    /// Behind everything handed to the system.
    pub(crate) written: Position,
    /// Digest of the log up to `written`.
    pub(crate) written_digest: Digest,
    /// The frontier.
    pub(crate) durable: Position,
    /// Digest of its log up to there.
    pub(crate) durable_digest: Digest,
    /// Index of the last record that a promise, or this log's header, says to be durable.
    pub(crate) promised: Index,
    /// Records up to this index are waited for at `Synced`.
    pub(crate) sync_wanted: Index,
    /// Records up to this index are to become durable though no thread waits for them: the log's own thread sees to it.
    pub(crate) demanded: Index,
    /// Those who are to be woken when that is done.
    pub(crate) awaiting: Awaiting,
    /// The keys of the last records, if the log has a window for duplicates.
    pub(crate) duplicates: Option<Duplicates>,
    pub(crate) in_flight: Option<InFlight>,
    /// A sync of what is written is under way beside the groups. There is never a second sync at the same time: a failure is told to only one
    /// of two (row 46).
    pub(crate) syncing: bool,
    /// Number of the round that is at the disk, or of the last one.
    pub(crate) round: u64,
    /// How often everybody was sent away from the rounds.
    pub(crate) dismissals: u64,
    pub(crate) gather: Gather,
    /// How many wait for something that happens seldom.
    pub(crate) blocked: u32,
    /// The next log was asked for.
    pub(crate) next_wanted: bool,
    /// This is not the log that the open began.
    pub(crate) rotated: bool,
    /// The file of the active log grows, and the next one, which is ready, was filled: it is used from the next record on.
    pub(crate) better_is_ready: bool,
    /// What there is room for.
    pub(crate) room: Room,
    /// A rotation or a close has the log to itself.
    pub(crate) exclusive: bool,
    pub(crate) failed: Option<Error>,
    /// A thread panicked under the mutex: nothing in here is sure any more, and nothing can be resumed.
    pub(crate) broken: bool,
    pub(crate) closed: bool,
    /// The log was dropped; tickets may be left.
    pub(crate) dropped: bool,
    /// The log's own thread sleeps and knows of nothing to do: whoever accepts a record rings.
    pub(crate) parked: bool,
    /// It has begun to look after the log, for as long as it runs.
    pub(crate) watched: bool,
    /// It cannot be started.
    pub(crate) threadless: bool,
    /// It is to end.
    pub(crate) stop: bool,
    /// Number of the last look at what is not durable.
    looks: u64,
}

impl State {
    /// The state behind a recovery: everything in `active` is durable.
    pub(crate) fn new(
        active: ActiveLog,
        next_index: Index,
        seq_floor: SeqNum,
        promised: Index,
        limits: Limits,
    ) -> Self {
        let index = Index::new(next_index.get().saturating_sub(1));
        let end = Position { log: active.log, offset: active.encoder.offset(), index };
        let digest = active.encoder.digest();
        Self {
            forming: Buffer::default(),
            forming_start: end.offset,
            forming_records: 0,
            block: block_of(&*active.sink),
            promise: None,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            wide: VecDeque::new(),
            spares: Vec::new(),
            next_index,
            seq_floor,
            accepted: end,
            written: end,
            written_digest: digest,
            durable: end,
            durable_digest: digest,
            promised,
            sync_wanted: Index::new(0),
            demanded: Index::new(0),
            awaiting: Awaiting::default(),
            duplicates: None,
            in_flight: None,
            syncing: false,
            round: 0,
            dismissals: 0,
            gather: Gather::default(),
            blocked: 0,
            next_wanted: false,
            rotated: false,
            better_is_ready: false,
            room: Room::new(limits),
            exclusive: false,
            failed: None,
            broken: false,
            closed: false,
            dropped: false,
            parked: false,
            watched: false,
            threadless: false,
            stop: false,
            looks: 0,
            active,
        }
    }

    /// Makes `active` the log being written; everything before it is durable.
    pub(crate) fn switch(&mut self, active: ActiveLog, header: Vec<u8>) -> ActiveLog {
        debug_assert!(
            self.forming.is_empty() && self.durable == self.accepted,
            "a rotation switches behind a sync"
        );
        if seeded_bug!(WindowForgetsAtRotation)
            && let Some(duplicates) = &mut self.duplicates
        {
            duplicates.clear();
        }
        self.forming_start = 0;
        self.written_digest = Digest::default();
        self.accepted =
            Position { log: active.log, offset: active.encoder.offset(), index: self.accepted.index };
        self.written = Position { log: active.log, offset: 0, index: self.accepted.index };
        // The header states that everything before it is durable: that needs no promise.
        self.promised = self.durable.index;
        self.forming = header.into();
        self.block = block_of(&*active.sink);
        (self.next_wanted, self.rotated, self.better_is_ready) = (false, true, false);
        let old = mem::replace(&mut self.active, active);
        self.measure();
        old
    }

    /// Makes `active` the log being written after a failure: everything in it is durable. Its header speaks of everything before it; what stands in
    /// it waits for a promise (RS1).
    pub(crate) fn go_on_in(&mut self, active: ActiveLog) -> ActiveLog {
        self.promised = self.durable.index;
        let end = Position { log: active.log, offset: active.encoder.offset(), index: self.accepted.index };
        (self.accepted, self.written, self.durable) = (end, end, end);
        (self.written_digest, self.durable_digest) = (active.encoder.digest(), active.encoder.digest());
        self.block = block_of(&*active.sink);
        let memory = mem::take(&mut self.forming).into_memory();
        self.forming = Buffer::begin(memory, end.offset, self.block);
        self.forming_start = end.offset;
        self.forming_records = 0;
        self.promise = None;
        self.unsynced.clear();
        self.unsynced_bytes = 0;
        self.wide.clear();
        self.failed = None;
        // What was made ahead is given up.
        (self.next_wanted, self.better_is_ready) = (false, false);
        let old = mem::replace(&mut self.active, active);
        self.measure();
        old
    }

    /// Takes the forming group away, and begins the next in a buffer that was used before.
    pub(crate) fn take_forming(&mut self) -> Group {
        let memory = self.spares.pop().unwrap_or_default();
        let next = Buffer::begin(memory, self.accepted.offset, self.block);
        let bytes = mem::replace(&mut self.forming, next);
        let start = mem::replace(&mut self.forming_start, self.accepted.offset);
        self.forming_records = 0;
        Group { bytes, start }
    }

    /// What each group is padded to; 0: nothing.
    pub(crate) fn unit(&self) -> u64 {
        if self.room.pads() { UNIT_BYTES.max(self.block as u64) } else { 0 }
    }

    /// Fills the forming group up, so that the next one begins in a sector of its own.
    pub(crate) fn pad_group(&mut self) {
        let unit = self.unit();
        if unit > 0 && !self.forming.is_empty() {
            self.active.encoder.filler(self.forming.vec(), unit);
            self.accepted.offset = self.active.encoder.offset();
        }
    }

    /// How long the forming group may become before it is written though nobody waits for it.
    pub(crate) fn group_bytes(&self) -> usize {
        if self.block > 1 { DIRECT_GROUP_BYTES } else { GROUP_BYTES }
    }

    /// What is accepted and not durable.
    pub(crate) fn undurable(&mut self) -> Undurable {
        self.looks = self.looks.wrapping_add(1);
        Undurable {
            look: self.looks,
            records: self.accepted.index.get().saturating_sub(self.durable.index.get()),
            bytes: self.unsynced_bytes.saturating_add(self.forming.len() as u64),
        }
    }

    /// A copy of the forming group.
    pub(crate) fn forming_group(&self) -> Option<Group> {
        let copy = || Group { bytes: self.forming.get().to_vec().into(), start: self.forming_start };
        (!self.forming.is_empty()).then(copy)
    }

    /// Keeps a group until it is durable (RS1). Small ones are put together, so that a log of many small groups that nobody syncs needs no buffer
    /// for each.
    pub(crate) fn keep(&mut self, group: Group) {
        let bytes = group.bytes.len();
        self.unsynced_bytes = self.unsynced_bytes.saturating_add(bytes as u64);
        if bytes > SMALL_GROUP_BYTES {
            return self.unsynced.push_back(group);
        }
        let has_room = |last: &Group| last.bytes.room() >= bytes;
        if !self.unsynced.back().is_some_and(has_room) {
            let large = self.spares.iter().rposition(|spare| spare.capacity() >= GROUP_BYTES);
            let holder = large.map(|at| self.spares.swap_remove(at));
            let holder = holder.unwrap_or_else(|| Vec::with_capacity(GROUP_BYTES));
            self.unsynced.push_back(Group { bytes: holder.into(), start: group.start });
        }
        if let Some(last) = self.unsynced.back_mut() {
            last.bytes.vec().extend_from_slice(group.bytes.get());
        }
        self.give_back(group.bytes);
    }

    /// A buffer that nobody needs any more.
    pub(crate) fn give_back(&mut self, bytes: Buffer) {
        let mut bytes = bytes.into_memory();
        let kept: usize = self.spares.iter().map(Vec::capacity).sum();
        if kept.saturating_add(bytes.capacity()) <= SPARE_BYTES_MAX {
            bytes.clear();
            self.spares.push(bytes);
        }
    }

    /// Everything written is as durable as `to`, a place up to which it was synced.
    pub(crate) fn advance(&mut self, to: Position, digest: Digest) {
        if to <= self.durable {
            return;
        }
        // INVARIANT: PR1. Only here, behind a successful sync of everything up to there, and where a resume goes on, does the frontier move.
        self.durable = to;
        self.durable_digest = digest;
        while self.wide.front().is_some_and(|(index, _)| *index <= to.index) {
            self.wide.pop_front();
        }
        while self.unsynced.front().is_some_and(|group| group.end() <= to.offset) {
            let Some(group) = self.unsynced.pop_front() else { break };
            self.unsynced_bytes = self.unsynced_bytes.saturating_sub(group.bytes.len() as u64);
            self.give_back(group.bytes);
        }
    }

    /// The record that is not durable and covers both `at` and the number before it.
    pub(crate) fn wide_around(&self, at: SeqNum) -> Option<SeqRange> {
        let place = self.wide.partition_point(|(_, seqs)| seqs.last() < at);
        self.wide.get(place).map(|(_, seqs)| *seqs).filter(|seqs| seqs.first() < at)
    }

    /// Those who await what is durable by now.
    pub(crate) fn reached(&mut self) -> Reached {
        let durable = self.durable.index;
        self.awaiting.reached(durable)
    }

    /// States the frontier in the forming group, if there is a place for that.
    pub(crate) fn fill_promise(&mut self) {
        if let Some(slot) = self.promise.take() {
            // INVARIANT: P1, PR2. Exactly the frontier: what the last successful sync covered, in this log, and so in all before it.
            let next_index = Index::new(self.durable.index.get() + 1);
            let mut promise = Promise { durable_end: self.durable.offset, next_index };
            if seeded_bug!(PromiseOfWritten) {
                let next_index = Index::new(self.written.index.get() + 1);
                promise = Promise { durable_end: self.written.offset, next_index };
            }
            self.active.encoder.fill_promise(self.forming.vec(), slot, &promise);
            self.promised = self.durable.index;
        }
    }

    /// Begins a group that is only a promise.
    pub(crate) fn reserve_promise(&mut self) {
        self.promise = Some(self.active.encoder.reserve_promise(self.forming.vec()));
        self.accepted.offset = self.active.encoder.offset();
    }

    /// The round that takes the record as far as `level` says: the one at the disk, if it still takes it in or has done so, or the next.
    pub(crate) fn round_for(&self, index: Index, level: Durability) -> u64 {
        let taken = |group: InFlight| {
            group.gathering || (group.through >= index && (group.sync || level != Durability::Synced))
        };
        if self.in_flight.is_some_and(taken) { self.round } else { self.round.wrapping_add(1) }
    }

    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.failed.is_none() && !self.closed { Ok(()) } else { self.unusable() }
    }

    /// Why nothing can be accepted any more.
    #[cold]
    fn unusable(&self) -> Result<()> {
        match &self.failed {
            Some(cause) => Err(Error::Poisoned { cause: Arc::new(cause.clone()) }),
            None => Err(Error::Closed),
        }
    }

    /// Encodes a record that has been checked, and returns the offset behind it.
    #[inline(always)]
    pub(crate) fn encode(&mut self, head: &Head, families: &[FamilyId], payload: &[u8]) -> u64 {
        if self.forming_records == 0 {
            // PR3: a promise is due when a record has become durable since the last one; by the time that this group is written, the group
            // at the disk will have been synced, or everything will have failed.
            let due =
                self.durable.index > self.promised || self.in_flight.is_some_and(|group| group.will_be_due);
            let due = due
                || seeded_bug!(PromiseAlways)
                || (seeded_bug!(PromiseOfWritten) && self.written.index > self.promised);
            let due = due && !seeded_bug!(PromiseNever);
            self.promise = due.then(|| self.active.encoder.reserve_promise(self.forming.vec()));
        }
        self.active.encoder.record(self.forming.vec(), head, families, payload);
        self.forming_records += 1;
        self.active.records += 1;
        match &mut self.active.seqs {
            Some(seqs) => *seqs = seqs.union(head.seqs),
            none => *none = Some(head.seqs),
        }
        if head.seqs.first() < head.seqs.last() {
            self.wide.push_back((head.index, head.seqs));
        }
        for family in families {
            self.active.families.insert(*family, head.seqs.last());
        }
        let offset = self.active.encoder.offset();
        self.accepted = Position { log: self.active.log, offset, index: head.index };
        offset
    }
}

/// What groups are padded to in a file, if they are.
pub(crate) fn unit_for(sink: &dyn Sink) -> u64 {
    UNIT_BYTES.max(sink.block_bytes())
}

fn block_of(sink: &dyn Sink) -> usize {
    usize::try_from(sink.block_bytes()).unwrap_or(1)
}
