//! Promise and seal: the log's statements about itself.

use crate::fields::Fields;
use crate::{Index, SeqNum, SeqRange};

/// A durable statement inside the log: everything before `durable_end`, in this log and in all before it, was synced when this
/// chunk was written (rule PR1, PR2).
///
/// Both fields have a fixed width, so that a group can be encoded and checksummed behind the place of its promise while the sync that
/// the promise will speak of is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// Offset in this log, in bytes, before which everything is durable.
    pub durable_end: u64,
    /// Index of the first record that is not covered.
    pub next_index: Index,
}

impl Promise {
    /// Length of the payload in bytes.
    pub const BYTES: usize = 16;

    /// The payload.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (end, index) = bytes.split_at_mut(8);
        end.copy_from_slice(&self.durable_end.to_le_bytes());
        index.copy_from_slice(&self.next_index.get().to_le_bytes());
        bytes
    }

    /// Reads a payload; `None` if it has another length or the index is 0.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let promise = Self { durable_end: fields.u64()?, next_index: Index::new(fields.u64()?) };
        (fields.0.is_empty() && promise.next_index >= Index::FIRST).then_some(promise)
    }
}

/// The end of a log that was closed for good, written only after everything before it is durable (rule PR5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seal {
    /// How many records the log holds.
    pub records: u64,
    /// Index of the record after the last.
    pub next_index: Index,
    /// Sequence numbers in the log; `None` for a log without records.
    pub seqs: Option<SeqRange>,
    /// Digest of the log ([`Digest`](crate::chunk::Digest)).
    pub digest: u32,
}

impl Seal {
    /// Length of the payload in bytes.
    pub const BYTES: usize = 36;

    /// The payload.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let (first, last) = self.seqs.map_or((0, 0), |seqs| (seqs.first().get(), seqs.last().get()));
        let mut bytes = [0; Self::BYTES];
        let fields = [self.records, self.next_index.get(), first, last];
        let (numbers, digest) = bytes.split_at_mut(32);
        for (place, field) in numbers.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        digest.copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    /// Reads a payload; `None` if it has another length or contradicts itself.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let records = fields.u64()?;
        let next_index = Index::new(fields.u64()?);
        let (first, last) = (SeqNum::new(fields.u64()?), SeqNum::new(fields.u64()?));
        let digest = fields.u32()?;
        let seqs = match records {
            0 if first.get() == 0 && last.get() == 0 => None,
            0 => return None,
            // A record covers at least one sequence number.
            _ if last.get().checked_sub(first.get())? < records - 1 => return None,
            _ => Some(SeqRange::between(first, last)?),
        };
        (fields.0.is_empty() && next_index.get() > records).then_some(Self {
            records,
            next_index,
            seqs,
            digest,
        })
    }
}
