//! The records that come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use wal_format::{BatchError, BatchOps, FamilyId, Index, LogNumber, RecordKind, SeqNum, SeqRange};

use crate::error::{Error, Result};
use crate::read::FoundRecord;
use crate::recovery::stream::{Next, Reading, Stream};
use crate::sync::AtomicBool;

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
    pub families: Vec<FamilyId>,
    /// The payload: a slice of a read buffer that stays in memory while the slice does.
    pub payload: Bytes,
    /// Whether a promise, a seal or CHECKPOINT proves that it is durable. Always so in a [`Recovery`](crate::Recovery).
    pub proven: bool,
    /// When it was appended, in microseconds since 1970, if that was recorded.
    pub time_micros: Option<u64>,
}

impl RecoveredRecord {
    fn new(log: LogNumber, found: FoundRecord, proven: bool) -> Self {
        Self {
            log,
            offset: found.offset,
            index: found.head.index,
            seqs: found.head.seqs,
            kind: found.head.kind,
            families: found.families,
            payload: found.payload,
            proven,
            time_micros: found.head.time_micros,
        }
    }

    /// The operations of a batch; operation `i` has the sequence number `seqs.first() + i`.
    ///
    /// # Errors
    /// The payload is not a batch.
    pub fn ops(&self) -> Result<BatchOps<'_>, BatchError> {
        BatchOps::new(&self.payload)
    }
}

/// Records in order; the first error ends it.
#[derive(Debug)]
pub struct Records {
    reading: Reading,
    /// Families that need no replay up to a sequence number; `None` to hand out everything.
    flushed: Option<BTreeMap<FamilyId, SeqNum>>,
    /// Records below are proven.
    proven_below: Index,
    /// Set when everything was read.
    drained: Option<Arc<AtomicBool>>,
    /// What stands behind the last record.
    last_error: Option<Error>,
    ended: bool,
}

impl Records {
    pub(crate) fn new(
        stream: Stream,
        flushed: Option<BTreeMap<FamilyId, SeqNum>>,
        proven_below: Index,
        drained: Option<Arc<AtomicBool>>,
    ) -> Self {
        Self { reading: stream.read(), flushed, proven_below, drained, last_error: None, ended: false }
    }

    /// Ends with this error instead of nothing.
    pub(crate) fn then_error(mut self, error: Option<Error>) -> Self {
        self.last_error = error;
        self
    }

    fn is_flushed(&self, record: &FoundRecord) -> bool {
        let Some(flushed) = &self.flushed else { return false };
        let last = record.head.seqs.last();
        if seeded_bug!(ReplaySkipsTooMuch) {
            return record
                .families
                .iter()
                .any(|family| flushed.get(family).is_some_and(|through| *through >= last));
        }
        record.families.iter().all(|family| flushed.get(family).is_some_and(|through| *through >= last))
    }
}

impl Iterator for Records {
    type Item = Result<RecoveredRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        loop {
            let result = match self.reading.next() {
                Ok(Next::Record(_, record)) if self.is_flushed(&record) => continue,
                Ok(Next::Record(log, record)) => {
                    let proven = record.head.index < self.proven_below;
                    return Some(Ok(RecoveredRecord::new(log, record, proven)));
                }
                Ok(Next::Changed(log, offset, reason)) => {
                    Some(Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) }))
                }
                Ok(Next::End) => {
                    if let Some(drained) = &self.drained {
                        // Release: `finish` on another thread sees that this one is done.
                        drained.store(true, Ordering::Release);
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
