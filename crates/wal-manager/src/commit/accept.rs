//! What is accepted: checked, ordered, encoded into the group that is forming.

use std::mem;
use std::time::Duration;

use tracing::trace;
use wal_format::encode::LogEncoder;
use wal_format::record::Head;
use wal_format::{FamilyId, LogNumber, PAYLOAD_BYTES_MAX, RECORD_FAMILIES_MAX, SeqNum, SeqRange};

use crate::caps::Place as Room;
use crate::clock::micros;
use crate::duplicates::Key;
use crate::error::{Error, Result};
use crate::record::{Appended, Position, Record};
use crate::state::State;

use super::{Commit, GROUP_BYTES_MAX, Guard, Why};

/// So many times [`Options::sync_bytes`](crate::Options::sync_bytes) may be written and not durable; then appends wait for the sync. Four: a part is at
/// the disk while others are filled, and a sync that is slow for once stops nobody.
const UNSYNCED_PARTS_MAX: u64 = 4;

/// Why [`Commit::accept`] did not take a record. In a box where it is returned: then what is taken, as nearly every record is, goes back without a detour
/// through memory.
pub(crate) enum NotNow {
    /// It is refused, or everything has failed.
    Never(Error),
    /// The active log has no room for it: rotate, then try again.
    LogFull(LogNumber),
    /// The file of the active log needs space up to there: reserve it, then try again.
    SpaceWanted(LogNumber, u64),
}

impl NotNow {
    #[cold]
    fn never(error: Error) -> Box<Self> {
        Box::new(Self::Never(error))
    }
}

impl Commit {
    /// Orders and encodes a record. Waits only while the group is full or a rotation switches logs; since when is noted in `stalled`, if it is not yet.
    ///
    /// Inlined into its one caller that is in a hurry: an answer that goes from hand to hand through memory costs as much as a checksum.
    #[inline(always)]
    pub(crate) fn accept(
        &self,
        record: &Record<'_>,
        stalled: &mut Option<Duration>,
    ) -> Result<Appended, Box<NotNow>> {
        check_record(record).map_err(NotNow::never)?;
        let key = Key::of(record, self.window, &*self.clock);
        let mut state = self.lock();
        if !self.takes_more(&state) {
            state = self.wait_to_accept(state, stalled).map_err(NotNow::never)?;
        }
        if let (Some(duplicates), Some(key)) = (&state.duplicates, key)
            && let Some(original) = duplicates.find(key, state.next_index)
        {
            drop(state);
            self.metrics.duplicates.increment(1);
            return Ok(original);
        }
        let first = record.first.unwrap_or(state.seq_floor.max(SeqNum::new(1)));
        if first < state.seq_floor && !seeded_bug!(SequenceNotChecked) {
            return Err(NotNow::never(Error::SequenceRegression { given: first, floor: state.seq_floor }));
        }
        let seqs = SeqRange::new(first, record.count);
        let next_floor = seqs.and_then(|seqs| seqs.last().next());
        let (Some(seqs), Some(next_floor)) = (seqs, next_floor) else {
            return Err(NotNow::never(Error::Exhausted("sequence")));
        };
        let Some(next_index) = state.next_index.next() else {
            return Err(NotNow::never(Error::Exhausted("index")));
        };
        let mut head = Head::new(record.kind, state.next_index, seqs);
        head.time_micros = self.policies.times.then(|| micros(self.clock.wall()));
        if let Some(key) = key {
            head.duplicate_key = Some(key.key.to_le_bytes());
            head.time_micros = key.time_micros.or(head.time_micros);
        }
        let longest = LogEncoder::record_length_max(record.payload.len());
        if state.active.encoder.offset().saturating_add(longest) > state.room.end {
            // Near some end, of the log or of the room that there is. To know it exactly costs an envelope, so only here.
            let length = state.active.encoder.record_length(&head, record.families, record.payload.len());
            if seeded_bug!(RefusedUsesNumbers) && state.place(length).is_err() {
                (state.next_index, state.seq_floor) = (next_index, next_floor);
            }
            match state.place(length).map_err(NotNow::never)? {
                Room::Space(_) if seeded_bug!(SpaceNotCounted) => {}
                Room::Here => {}
                Room::Next => return Err(Box::new(NotNow::LogFull(state.active.log))),
                Room::Space(end) => return Err(Box::new(NotNow::SpaceWanted(state.active.log, end))),
            }
        }
        let (log, index) = (state.active.log, state.next_index);
        let offset = state.encode(&head, record.families, record.payload);
        // Put together from numbers wherever it is wanted, so that it need not be anywhere else.
        let appended =
            || Appended { index, seqs, position: Position { log, offset, index }, duplicate: false };
        if let (Some(duplicates), Some(key)) = (&mut state.duplicates, key) {
            duplicates.insert(key, appended());
        }
        state.next_index = next_index;
        state.seq_floor = next_floor;
        let ring = mem::take(&mut state.parked);
        drop(state);
        if ring {
            self.background.bell.ring();
        }
        self.metrics.appends.increment(1);
        self.metrics.append_bytes.increment(record.payload.len() as u64);
        self.metrics.last_seq.set(seqs.last().get() as f64);
        trace!(index = index.get(), bytes = record.payload.len(), "wal.appended");
        Ok(appended())
    }

    /// [`Commit::accept`] for who is not in a hurry.
    #[inline(never)]
    pub(crate) fn accept_again(
        &self,
        record: &Record<'_>,
        stalled: &mut Option<Duration>,
    ) -> Result<Appended, Box<NotNow>> {
        self.accept(record, stalled)
    }

    /// Nobody is at the disk, and the forming group is so long that it should be written.
    #[inline]
    fn is_full(state: &State) -> bool {
        state.forming.len() >= state.group_bytes() && state.in_flight.is_none()
    }

    /// So much is written and not durable that appends wait.
    #[inline]
    fn is_too_much(&self, state: &State) -> bool {
        state.unsynced_bytes >= self.policies.bytes.saturating_mul(UNSYNCED_PARTS_MAX)
    }

    /// Whether a record can be accepted at once.
    #[inline]
    fn takes_more(&self, state: &State) -> bool {
        let waits = state.exclusive
            || Self::is_full(state)
            || self.is_too_much(state)
            || state.forming.len() >= GROUP_BYTES_MAX;
        !waits && state.check().is_ok()
    }

    /// Waits until a record can be accepted.
    #[cold]
    #[inline(never)]
    fn wait_to_accept<'a>(
        &'a self,
        mut state: Guard<'a>,
        stalled: &mut Option<Duration>,
    ) -> Result<Guard<'a>> {
        while !self.takes_more(&state) {
            state.check()?;
            stalled.get_or_insert_with(|| self.clock.monotonic());
            if state.exclusive {
                state = self.wait(state);
            } else if Self::is_full(&state) {
                // INVARIANT: memory is bounded by two groups. The one who comes to a full one writes it, or waits for who does.
                self.lead(state, Why::Asked);
                state = self.lock();
            } else if state.forming.len() >= GROUP_BYTES_MAX {
                state = self.wait(state);
            } else {
                // INVARIANT: RS1. What a resume has to keep is bounded.
                state = self.wait_for_room(state);
            }
        }
        Ok(state)
    }

    /// Waits until some of what is written has become durable; makes it so if there is no thread that does.
    fn wait_for_room<'a>(&'a self, state: Guard<'a>) -> Guard<'a> {
        if state.threadless && state.in_flight.is_none() && !state.syncing {
            self.lead(state, Why::Drain);
            return self.lock();
        }
        self.background.bell.ring();
        self.wait(state)
    }
}

/// What the reader would refuse, the writer refuses before a byte is written (A2).
fn check_record(record: &Record<'_>) -> Result<()> {
    let families = record.families;
    let ascending = families.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    let in_range = families.last().is_some_and(|family| *family <= FamilyId::MAX);
    match record.payload.len() {
        0 => Err(Error::EmptyRecord),
        bytes if bytes > PAYLOAD_BYTES_MAX => Err(Error::RecordTooLarge { bytes }),
        _ if families.len() > RECORD_FAMILIES_MAX || !ascending || !in_range => Err(Error::Families),
        _ if record.count == 0 => Err(Error::NoSequence),
        _ => Ok(()),
    }
}
