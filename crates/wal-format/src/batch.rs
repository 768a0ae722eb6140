//! Write batches: the payload of most records of an LSM engine.
//!
//! ```text
//! count u32 | operations
//! operation: tag u8 | family varint | key length varint | key [| value length varint | value]
//! ```
//!
//! Tags: 1 put (value), 2 delete, 3 merge (operand as value), 4 range delete (end key as value, exclusive).

use crate::fields::Fields;
use crate::{FamilyId, PAYLOAD_BYTES_MAX, RECORD_FAMILIES_MAX, varint};

const COUNT_BYTES: usize = 4;

/// Operations that become visible together, each with a sequence number of its own, counted up from the batch's first.
///
/// The bytes of the batch are the payload of its record. [`WriteBatch::clear`] keeps the memory, so that a writer that reuses its batch
/// allocates nothing in the long run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    count: u32,
    families: Vec<FamilyId>,
}

/// One operation of a batch; nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets a key.
    Put {
        /// Where.
        family: FamilyId,
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes a key.
    Delete {
        /// Where.
        family: FamilyId,
        /// The key.
        key: &'a [u8],
    },
    /// Combines an operand with what the key holds, as the engine defines.
    Merge {
        /// Where.
        family: FamilyId,
        /// The key.
        key: &'a [u8],
        /// What to combine.
        operand: &'a [u8],
    },
    /// Removes every key from `start` up to, not including, `end`.
    DeleteRange {
        /// Where.
        family: FamilyId,
        /// First key removed.
        start: &'a [u8],
        /// First key kept.
        end: &'a [u8],
    },
}

/// Why a batch does not take an operation, or bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The batch would become longer than a record may be.
    #[error("the batch would be longer than {PAYLOAD_BYTES_MAX} bytes: split it")]
    TooLarge,
    /// The family is above [`FamilyId::MAX`].
    #[error("family {0} is above the highest, {max}", max = FamilyId::MAX)]
    Family(FamilyId),
    /// The batch touches too many families.
    #[error("the batch touches more than {RECORD_FAMILIES_MAX} families: split it")]
    TooManyFamilies,
    /// The bytes end inside an operation, or hold more or fewer operations than they say.
    #[error("the batch is malformed at byte {at}")]
    Malformed {
        /// Offset in the payload, in bytes.
        at: usize,
    },
    /// An operation of a newer version.
    #[error("operation {tag} is of a newer format: use a newer version")]
    UnknownOperation {
        /// The stored tag.
        tag: u8,
    },
}

impl Default for WriteBatch {
    fn default() -> Self {
        Self { bytes: vec![0; COUNT_BYTES], count: 0, families: Vec::new() }
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// The family is out of range or the batch is full; it is as it was.
    pub fn put(&mut self, family: FamilyId, key: &[u8], value: &[u8]) -> Result<(), BatchError> {
        self.push(1, family, key, Some(value))
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// As for [`WriteBatch::put`].
    pub fn delete(&mut self, family: FamilyId, key: &[u8]) -> Result<(), BatchError> {
        self.push(2, family, key, None)
    }

    /// Combines `operand` with what `key` holds.
    ///
    /// # Errors
    /// As for [`WriteBatch::put`].
    pub fn merge(&mut self, family: FamilyId, key: &[u8], operand: &[u8]) -> Result<(), BatchError> {
        self.push(3, family, key, Some(operand))
    }

    /// Removes every key from `start` up to, not including, `end`.
    ///
    /// # Errors
    /// As for [`WriteBatch::put`].
    pub fn delete_range(&mut self, family: FamilyId, start: &[u8], end: &[u8]) -> Result<(), BatchError> {
        self.push(4, family, start, Some(end))
    }

    /// How many operations, and so how many sequence numbers, the batch holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether there is no operation in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The families it touches, ascending.
    pub fn families(&self) -> &[FamilyId] {
        &self.families
    }

    /// The bytes: the payload of the batch's record.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The operations, in order.
    pub fn ops(&self) -> BatchOps<'_> {
        BatchOps {
            payload: &self.bytes,
            rest: self.bytes.get(COUNT_BYTES..).unwrap_or(&[]),
            left: self.count,
        }
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(COUNT_BYTES, 0);
        self.count = 0;
        self.families.clear();
    }

    fn push(
        &mut self,
        tag: u8,
        family: FamilyId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), BatchError> {
        if family > FamilyId::MAX {
            return Err(BatchError::Family(family));
        }
        let added =
            key.len().saturating_add(value.map_or(0, <[u8]>::len)).saturating_add(1 + 3 * varint::BYTES_MAX);
        if self.bytes.len().saturating_add(added) > PAYLOAD_BYTES_MAX {
            return Err(BatchError::TooLarge);
        }
        if let Err(place) = self.families.binary_search(&family) {
            if self.families.len() == RECORD_FAMILIES_MAX {
                return Err(BatchError::TooManyFamilies);
            }
            self.families.insert(place, family);
        }
        self.bytes.push(tag);
        varint::put(&mut self.bytes, u64::from(family.get()));
        for part in [Some(key), value].into_iter().flatten() {
            varint::put(&mut self.bytes, part.len() as u64);
            self.bytes.extend_from_slice(part);
        }
        // Each operation takes at least three bytes of at most PAYLOAD_BYTES_MAX, so the count fits.
        self.count += 1;
        for (place, byte) in self.bytes.iter_mut().zip(self.count.to_le_bytes()) {
            *place = byte;
        }
        Ok(())
    }
}

/// The operations of a batch, in order; the first error ends it.
#[derive(Clone, Debug)]
pub struct BatchOps<'a> {
    payload: &'a [u8],
    rest: &'a [u8],
    left: u32,
}

impl<'a> BatchOps<'a> {
    /// Reads the payload of a batch's record.
    ///
    /// # Errors
    /// The payload is shorter than its count.
    pub fn new(payload: &'a [u8]) -> Result<Self, BatchError> {
        let mut fields = Fields(payload);
        let left = fields.u32().ok_or(BatchError::Malformed { at: 0 })?;
        Ok(Self { payload, rest: fields.0, left })
    }

    /// How many operations are left.
    pub fn left(&self) -> u32 {
        self.left
    }

    fn parse(&mut self) -> Result<Op<'a>, BatchError> {
        let malformed = BatchError::Malformed { at: self.payload.len() - self.rest.len() };
        let mut fields = Fields(self.rest);
        let tag = fields.u8().ok_or(malformed)?;
        if tag == 0 {
            return Err(malformed);
        }
        if tag > 4 {
            return Err(BatchError::UnknownOperation { tag });
        }
        let mut parts = || {
            let family =
                u32::try_from(fields.varint()?).ok().map(FamilyId::new).filter(|f| *f <= FamilyId::MAX)?;
            let key_length = usize::try_from(fields.varint()?).ok()?;
            let key = fields.slice(key_length)?;
            let value = if tag == 2 {
                &[][..]
            } else {
                let value_length = usize::try_from(fields.varint()?).ok()?;
                fields.slice(value_length)?
            };
            Some((family, key, value))
        };
        let (family, key, value) = parts().ok_or(malformed)?;
        self.rest = fields.0;
        Ok(match tag {
            1 => Op::Put { family, key, value },
            2 => Op::Delete { family, key },
            3 => Op::Merge { family, key, operand: value },
            _ => Op::DeleteRange { family, start: key, end: value },
        })
    }
}

impl<'a> Iterator for BatchOps<'a> {
    type Item = Result<Op<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            let at = self.payload.len() - self.rest.len();
            self.rest = &[];
            return Some(Err(BatchError::Malformed { at }));
        }
        let op = self.parse();
        self.left = if op.is_ok() { self.left - 1 } else { 0 };
        if op.is_err() {
            self.rest = &[];
        }
        Some(op)
    }
}

impl<'a> Op<'a> {
    /// The family it touches.
    pub fn family(&self) -> FamilyId {
        match *self {
            Self::Put { family, .. }
            | Self::Delete { family, .. }
            | Self::Merge { family, .. }
            | Self::DeleteRange { family, .. } => family,
        }
    }

    /// Its key, or the first key of its range.
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Merge { key, .. } => key,
            Self::DeleteRange { start, .. } => start,
        }
    }
}
