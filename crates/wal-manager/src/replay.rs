//! The records that come back.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use wal_format::record::{Families, Head, Plain};
use wal_format::{BatchError, BatchOps, FamilyId, Index, LogNumber, RecordKind, SeqNum, SeqRange};
use wal_io::Storage;

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::read::FoundRecord;
use crate::recovery::stream::{Next, Reading, Stream};
use crate::recovery::unread::{Replayed, Unread};

/// Families that a record may touch before their list needs an allocation.
const FAMILIES_INLINE: usize = 4;

/// The families of a record read back: a slice, which allocates nothing for the few that most records touch.
#[derive(Clone, PartialEq, Eq)]
pub struct FamilyList(List);

#[derive(Clone, PartialEq, Eq)]
enum List {
    /// Most engines have one family, and most records touch one.
    One(FamilyId),
    Several(SmallVec<[FamilyId; FAMILIES_INLINE]>),
}

impl Deref for FamilyList {
    type Target = [FamilyId];

    fn deref(&self) -> &[FamilyId] {
        match &self.0 {
            List::One(family) => std::slice::from_ref(family),
            List::Several(families) => families,
        }
    }
}

impl<T: AsRef<[FamilyId]> + ?Sized> PartialEq<T> for FamilyList {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl fmt::Debug for FamilyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl FamilyList {
    #[inline]
    fn new(families: Families<'_>) -> Self {
        let one = families.is_default();
        Self(if one { List::One(FamilyId::DEFAULT) } else { List::Several(families.collect()) })
    }
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveredRecord {
    /// The log it stands in.
    pub log: LogNumber,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its dense number.
    pub index: Index,
    /// Its sequence numbers.
    pub seqs: SeqRange,
    /// What the payload is.
    pub kind: RecordKind,
    /// The families it touches, ascending, at least one.
    pub families: FamilyList,
    /// The payload: a slice of a read buffer that stays in memory while the slice does.
    pub payload: Bytes,
    /// Whether a promise, a seal or CHECKPOINT proves that it is durable. Always so in a [`Recovery`](crate::Recovery).
    pub proven: bool,
    /// When it was appended, in microseconds since 1970, if that was recorded.
    pub time_micros: Option<u64>,
    /// The key that it was appended with, or the hash of its content: see [`Record::key`](crate::Record::key).
    pub key: Option<u128>,
}

impl RecoveredRecord {
    #[inline]
    pub(crate) fn new(
        log: LogNumber,
        FoundRecord { offset, head }: FoundRecord,
        families: Families<'_>,
        payload: Bytes,
        proven: bool,
    ) -> Self {
        let families = FamilyList::new(families);
        let Head { index, seqs, kind, time_micros, duplicate_key, .. } = head;
        let key = duplicate_key.map(u128::from_le_bytes);
        Self { log, offset, index, seqs, kind, families, payload, proven, time_micros, key }
    }

    fn lend(&self) -> LentRecord<'_> {
        let Self { log, offset, index, seqs, kind, ref families, ref payload, proven, time_micros, key } =
            *self;
        LentRecord { log, offset, index, seqs, kind, families, payload, proven, time_micros, key }
    }

    /// The operations of a batch; operation `i` has the sequence number `seqs.first() + i`.
    ///
    /// # Errors
    /// The payload is not a batch.
    pub fn ops(&self) -> Result<BatchOps<'_>, BatchError> {
        BatchOps::new(&self.payload)
    }
}

/// A record that is lent by [`Records::lend`]: what a [`RecoveredRecord`] is, with its payload where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LentRecord<'a> {
    /// The log it stands in.
    pub log: LogNumber,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its dense number.
    pub index: Index,
    /// Its sequence numbers.
    pub seqs: SeqRange,
    /// What the payload is.
    pub kind: RecordKind,
    /// The families it touches, ascending, at least one.
    pub families: &'a [FamilyId],
    /// The payload.
    pub payload: &'a [u8],
    /// Whether a promise, a seal or CHECKPOINT proves that it is durable.
    pub proven: bool,
    /// When it was appended, in microseconds since 1970, if that was recorded.
    pub time_micros: Option<u64>,
    /// The key that it was appended with, or the hash of its content: see [`Record::key`](crate::Record::key).
    pub key: Option<u128>,
}

impl<'a> LentRecord<'a> {
    /// The operations of a batch; operation `i` has the sequence number `seqs.first() + i`.
    ///
    /// # Errors
    /// The payload is not a batch.
    pub fn ops(&self) -> Result<BatchOps<'a>, BatchError> {
        BatchOps::new(self.payload)
    }
}

/// Records in order; the first error ends it.
#[derive(Debug)]
pub struct Records {
    reading: Reading,
    /// Families that need no replay up to a sequence number; `None` to hand out everything.
    flushed: Option<BTreeMap<FamilyId, SeqNum>>,
    /// The same of the default family.
    default_flushed: Option<SeqNum>,
    /// Records below are proven.
    proven_below: Index,
    /// Told when everything was read.
    replayed: Option<Arc<Replayed>>,
    /// Asked when something is not as it was said to be.
    judge: Option<Unread>,
    /// Where a reader without the lock looks again before it says that a log has changed.
    shared: Option<Arc<dyn Storage>>,
    /// What stands behind the last record.
    last_error: Option<Error>,
    ended: bool,
    /// The record that was lent last, if it is not plain.
    lent: Option<RecoveredRecord>,
}

impl Records {
    pub(crate) fn new(
        stream: Stream,
        flushed: Option<BTreeMap<FamilyId, SeqNum>>,
        proven_below: Index,
        replayed: Option<Arc<Replayed>>,
    ) -> Self {
        let default_flushed = flushed.as_ref().and_then(|flushed| flushed.get(&FamilyId::DEFAULT).copied());
        Self {
            default_flushed,
            reading: stream.read(),
            flushed,
            proven_below,
            replayed,
            judge: None,
            shared: None,
            last_error: None,
            ended: false,
            lent: None,
        }
    }

    /// Of logs that were not read when the directory was opened.
    pub(crate) fn judged_by(mut self, judge: Option<Unread>) -> Self {
        self.judge = judge;
        self
    }

    /// Of a directory whose writer may go on meanwhile.
    pub(crate) fn shared(mut self, storage: &Arc<dyn Storage>) -> Self {
        self.shared = Some(Arc::clone(storage));
        self
    }

    /// Ends with this error instead of nothing.
    pub(crate) fn then_error(mut self, error: Option<Error>) -> Self {
        self.last_error = error;
        self
    }

    /// Whether the record that came last needs no replay.
    #[inline]
    fn is_flushed(&self, last: SeqNum) -> bool {
        let Some(flushed) = &self.flushed else { return false };
        let through = |family| flushed.get(&family).is_some_and(|through| *through >= last);
        let mut families = self.reading.families();
        if seeded_bug!(ReplaySkipsTooMuch) { families.any(through) } else { families.all(through) }
    }

    /// The same of one that touches the default family and no other.
    #[inline]
    fn is_default_flushed(&self, last: SeqNum) -> bool {
        self.default_flushed.is_some_and(|through| through >= last)
    }

    /// The record that came last.
    #[inline]
    fn record(&self, log: LogNumber, found: FoundRecord) -> RecoveredRecord {
        let proven = found.head.index < self.proven_below;
        RecoveredRecord::new(log, found, self.reading.families(), self.reading.payload(), proven)
    }
}

impl Iterator for Records {
    type Item = Result<RecoveredRecord>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while let Some((log, offset, Plain { kind, index, seqs, .. })) = self.reading.plain_record() {
            if !self.is_default_flushed(seqs.last()) {
                return Some(Ok(RecoveredRecord {
                    log,
                    offset,
                    index,
                    seqs,
                    kind,
                    families: FamilyList::new(Families::DEFAULT),
                    payload: self.reading.payload(),
                    proven: index < self.proven_below,
                    time_micros: None,
                    key: None,
                }));
            }
        }
        self.next_of_any_kind()
    }
}

impl Records {
    /// The next record, lent until the next call: what [`Iterator::next`] gives, but its payload is not shared. A share is counted when it is given
    /// and when it is dropped, which costs more than all the rest of a short record; an engine that copies what it keeps has no use for it.
    ///
    /// # Errors
    /// As the iterator's: the first one is the last thing that comes.
    #[inline]
    pub fn lend(&mut self) -> Option<Result<LentRecord<'_>>> {
        while let Some((log, offset, Plain { kind, index, seqs, .. })) = self.reading.plain_record() {
            if !self.is_default_flushed(seqs.last()) || seeded_bug!(LendsFlushed) {
                return Some(Ok(LentRecord {
                    log,
                    offset,
                    index,
                    seqs,
                    kind,
                    families: &[FamilyId::DEFAULT],
                    payload: self.reading.plain_payload(),
                    proven: index < self.proven_below,
                    time_micros: None,
                    key: None,
                }));
            }
        }
        // It may be all that keeps the window from being used again.
        self.lent = None;
        match self.next_of_any_kind()? {
            Ok(record) => Some(Ok(self.lent.insert(record).lend())),
            Err(error) => Some(Err(error)),
        }
    }

    fn next_of_any_kind(&mut self) -> Option<Result<RecoveredRecord>> {
        if self.ended {
            return None;
        }
        loop {
            let next = self.reading.next();
            if let Some(judge) = &mut self.judge {
                match (&next, self.reading.place()) {
                    (Ok(Next::End), _) => judge.reached_end(),
                    (_, (log, offset)) => judge.reached(log, offset),
                }
            }
            let result = match next {
                Ok(Next::Record(_, found)) if self.is_flushed(found.head.seqs.last()) => continue,
                Ok(Next::Record(log, found)) => return Some(Ok(self.record(log, found))),
                Ok(Next::Changed(log, offset, reason)) => {
                    let changed = || Error::ChangedWhileReading { log, offset, reason: Box::new(reason) };
                    let gap = self.shared.as_ref().and_then(|storage| checkpoint::gap(&**storage, log));
                    let error = gap.unwrap_or_else(changed);
                    Some(Err(self.judge.as_ref().map_or(error.clone(), |judge| judge.verdict(error))))
                }
                Ok(Next::End) => {
                    if let Some(replayed) = &self.replayed {
                        replayed.drain(self.reading.take_learned());
                    }
                    self.last_error.take().map(Err)
                }
                Err(error) => Some(Err(error)),
            };
            self.ended = true;
            return result;
        }
    }
}
