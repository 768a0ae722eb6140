//! The envelope of a record: what stands between the chunks and the engine's payload.
//!
//! ```text
//! flags u8 | kind u16 | index varint | first sequence number varint | count varint
//!   | families: how many varint, each varint, ascending     (flag 1; without it: family 0)
//!   | append time u64, microseconds since 1970              (flag 2)
//!   | duplicate key, 16 bytes                               (flag 4)
//!   | codec of the payload u8                               (flag 8)
//!   | key id of the payload u32                             (flag 16)
//!   | payload, to the end
//! ```

use crate::fields::Fields;
use crate::{FamilyId, Index, PAYLOAD_BYTES_MAX, RECORD_FAMILIES_MAX, RecordKind, SeqNum, SeqRange, varint};

const FAMILIES: u8 = 1;
const TIME: u8 = 2;
const DUPLICATE_KEY: u8 = 4;
const CODEC: u8 = 8;
const KEY_ID: u8 = 16;
const KNOWN: u8 = FAMILIES | TIME | DUPLICATE_KEY | CODEC | KEY_ID;

/// Longest envelope in bytes: every optional field and [`RECORD_FAMILIES_MAX`] families.
pub const ENVELOPE_BYTES_MAX: usize = envelope_bytes_max(RECORD_FAMILIES_MAX);

/// The same with so many families.
pub(crate) const fn envelope_bytes_max(families: usize) -> usize {
    1 + 2 + 3 * varint::BYTES_MAX + 2 + 4 * families + 8 + 16 + 1 + 4
}

/// The numbers of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the payload is.
    pub kind: RecordKind,
    /// The log's own dense number.
    pub index: Index,
    /// The engine's sequence numbers.
    pub seqs: SeqRange,
    /// When the record was appended, in microseconds since 1970.
    pub time_micros: Option<u64>,
    /// Key by which a repeated append can be recognised.
    pub duplicate_key: Option<[u8; 16]>,
    /// How the payload is compressed. This version writes none and hands the number through.
    pub codec: Option<u8>,
    /// Which key the payload is encrypted under. This version writes none and hands the number through.
    pub key_id: Option<u32>,
}

impl Head {
    /// The numbers of a record without optional fields.
    pub const fn new(kind: RecordKind, index: Index, seqs: SeqRange) -> Self {
        Self { kind, index, seqs, time_micros: None, duplicate_key: None, codec: None, key_id: None }
    }
}

/// A decoded record; nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its numbers.
    pub head: Head,
    /// The families it touches.
    pub families: Families<'a>,
    /// The engine's bytes.
    pub payload: &'a [u8],
}

/// The families of a record, ascending, as they stand in its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl Families<'_> {
    /// The default family and no other: what most records touch.
    pub const DEFAULT: Self = Self { left: 1, bytes: &[] };

    /// Whether this is [`Families::DEFAULT`].
    pub const fn is_default(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Iterator for Families<'_> {
    type Item = FamilyId;

    fn next(&mut self) -> Option<FamilyId> {
        self.left = self.left.checked_sub(1)?;
        if self.bytes.is_empty() {
            return Some(FamilyId::DEFAULT);
        }
        varint::take(&mut self.bytes).and_then(|id| u32::try_from(id).ok()).map(FamilyId::new)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// Why the bytes of a whole record are not one. Its checksums were right, so this is a fault of the writer or a newer format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The envelope ends early, or a number in it is malformed.
    #[error("the record's envelope is malformed")]
    Envelope,
    /// A flag of a newer version is set.
    #[error("record flags {flags:#04x} are of a newer format: use a newer version")]
    UnknownFlags {
        /// The stored flags.
        flags: u8,
    },
    /// The kind is 0 or is reserved for a newer version.
    #[error("record kind {kind:#06x} is none that this version knows")]
    Kind {
        /// The stored kind.
        kind: u16,
    },
    /// The record covers no sequence number, or numbers beyond 64 bits.
    #[error("the record's sequence numbers are none or beyond 64 bits")]
    Sequence,
    /// The families are none, too many, out of range or not ascending.
    #[error("the record's families are none, too many, out of range or not ascending")]
    Families,
    /// There is no payload, or one that is too long.
    #[error("payload of {bytes} bytes: 1 to {PAYLOAD_BYTES_MAX} are allowed")]
    Payload {
        /// Its length.
        bytes: usize,
    },
}

impl RecordFault {
    /// Whether a newer version may be able to read the record.
    pub const fn is_newer_format(&self) -> bool {
        match *self {
            Self::UnknownFlags { .. } => true,
            Self::Kind { kind } => kind != 0,
            _ => false,
        }
    }
}

/// Appends the envelope of a record. `families` must be ascending; none, or only family 0, takes no byte.
pub fn encode_envelope(bytes: &mut Vec<u8>, head: &Head, families: &[FamilyId]) {
    let only_default = matches!(families, [] | [FamilyId::DEFAULT]);
    let mut flags = 0;
    for (present, flag) in [
        (!only_default, FAMILIES),
        (head.time_micros.is_some(), TIME),
        (head.duplicate_key.is_some(), DUPLICATE_KEY),
        (head.codec.is_some(), CODEC),
        (head.key_id.is_some(), KEY_ID),
    ] {
        flags |= if present { flag } else { 0 };
    }
    let [low, high] = head.kind.get().to_le_bytes();
    bytes.extend_from_slice(&[flags, low, high]);
    varint::put(bytes, head.index.get());
    varint::put(bytes, head.seqs.first().get());
    // Whoever appends keeps the count below 2^32; a wider range must not panic here, and every reader refuses it.
    varint::put(bytes, (head.seqs.last().get() - head.seqs.first().get()).saturating_add(1));
    if !only_default {
        varint::put(bytes, families.len() as u64);
        families.iter().for_each(|family| varint::put(bytes, u64::from(family.get())));
    }
    if let Some(time) = head.time_micros {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    if let Some(key) = head.duplicate_key {
        bytes.extend_from_slice(&key);
    }
    if let Some(codec) = head.codec {
        bytes.push(codec);
    }
    if let Some(key_id) = head.key_id {
        bytes.extend_from_slice(&key_id.to_le_bytes());
    }
}

/// Longest envelope of a record that is [`Plain`], in bytes, if its numbers are below 2^56.
pub(crate) const PLAIN_BYTES_MAX: usize = 1 + 2 + 3 * 8;

/// Writes the same as [`encode_envelope`] to the front of `place`, for a record that is [`Plain`]; returns its length, `None` for any other record and
/// for huge numbers. What is behind it is left in any state.
#[inline(always)]
pub(crate) fn encode_plain(
    place: &mut [u8; PLAIN_BYTES_MAX],
    head: &Head,
    families: &[FamilyId],
) -> Option<usize> {
    let &Head { kind, index, seqs, time_micros, duplicate_key, codec, key_id } = head;
    let optional = time_micros.is_some() || duplicate_key.is_some() || codec.is_some() || key_id.is_some();
    let plain = matches!(families, [] | [FamilyId::DEFAULT]) && !optional;
    let count = (seqs.last().get() - seqs.first().get()).wrapping_add(1);
    if !plain || (index.get() | seqs.last().get() | count) >> 56 != 0 {
        return None;
    }
    let [low, high] = kind.get().to_le_bytes();
    *place.first_chunk_mut()? = [0, low, high];
    let mut length = 3;
    for number in [index.get(), seqs.first().get(), count] {
        let (word, bytes) = varint::spread(number);
        *place.get_mut(length..)?.first_chunk_mut()? = word.to_le_bytes();
        length += bytes;
    }
    Some(length)
}

/// Reads a whole record.
///
/// # Errors
/// The bytes are not a record that this version understands.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, RecordFault> {
    let mut fields = Fields(bytes);
    let flags = fields.u8().ok_or(RecordFault::Envelope)?;
    if flags & !KNOWN != 0 {
        return Err(RecordFault::UnknownFlags { flags });
    }
    let kind = fields.u16().ok_or(RecordFault::Envelope)?;
    let kind = RecordKind::from_disk(kind).ok_or(RecordFault::Kind { kind })?;
    let mut number = || fields.varint().ok_or(RecordFault::Envelope);
    let (index, first, count) = (number()?, number()?, number()?);
    if index == 0 {
        return Err(RecordFault::Envelope);
    }
    let count = u32::try_from(count).map_err(|_| RecordFault::Sequence)?;
    let seqs = SeqRange::new(SeqNum::new(first), count).ok_or(RecordFault::Sequence)?;
    let families = if flags & FAMILIES == 0 { Families::DEFAULT } else { take_families(&mut fields)? };
    let mut head = Head::new(kind, Index::new(index), seqs);
    if flags & !FAMILIES != 0 {
        take_optional(&mut fields, flags, &mut head).ok_or(RecordFault::Envelope)?;
    }
    let payload = fields.0;
    if payload.is_empty() || payload.len() > PAYLOAD_BYTES_MAX {
        return Err(RecordFault::Payload { bytes: payload.len() });
    }
    Ok(Record { head, families, payload })
}

/// The numbers of a record as most records are: of the default family alone, without optional fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// What the payload is.
    pub kind: RecordKind,
    /// The log's own dense number.
    pub index: Index,
    /// The engine's sequence numbers.
    pub seqs: SeqRange,
    /// Length of the envelope in bytes; the payload is the rest.
    pub envelope: usize,
}

/// The same as [`decode`] for a record that is [`Plain`]; `None` for any other, and for what is not a record. It is small, so that a reader of many
/// short records keeps it in the processor's registers.
#[inline(always)]
pub fn decode_plain(bytes: &[u8]) -> Option<Plain> {
    let mut fields = Fields(bytes);
    if fields.u8()? != 0 {
        return None;
    }
    let kind = RecordKind::from_disk(fields.u16()?)?;
    let (index, first, count) = (fields.varint()?, fields.varint()?, fields.varint()?);
    let seqs = SeqRange::new(SeqNum::new(first), u32::try_from(count).ok()?)?;
    let payload = fields.0.len();
    let right = index != 0 && payload > 0 && payload <= PAYLOAD_BYTES_MAX;
    right.then_some(Plain { kind, index: Index::new(index), seqs, envelope: bytes.len() - payload })
}

/// The optional fields behind the families; `None` if the envelope ends early.
#[cold]
fn take_optional(fields: &mut Fields<'_>, flags: u8, head: &mut Head) -> Option<()> {
    let present = |flag: u8| flags & flag != 0;
    if present(TIME) {
        head.time_micros = Some(fields.u64()?);
    }
    if present(DUPLICATE_KEY) {
        head.duplicate_key = Some(fields.bytes()?);
    }
    if present(CODEC) {
        head.codec = Some(fields.u8()?);
    }
    if present(KEY_ID) {
        head.key_id = Some(fields.u32()?);
    }
    Some(())
}

fn take_families<'a>(fields: &mut Fields<'a>) -> Result<Families<'a>, RecordFault> {
    let left = fields.varint().and_then(|count| usize::try_from(count).ok()).ok_or(RecordFault::Families)?;
    if left == 0 || left > RECORD_FAMILIES_MAX {
        return Err(RecordFault::Families);
    }
    let start = fields.0;
    let mut before: Option<u64> = None;
    for _ in 0..left {
        let id = fields.varint().ok_or(RecordFault::Families)?;
        if id > u64::from(FamilyId::MAX.get()) || before.is_some_and(|before| before >= id) {
            return Err(RecordFault::Families);
        }
        before = Some(id);
    }
    // Family 0 alone has no list: one meaning, one encoding.
    if left == 1 && before == Some(0) {
        return Err(RecordFault::Families);
    }
    let bytes = start.get(..start.len() - fields.0.len()).ok_or(RecordFault::Families)?;
    Ok(Families { left, bytes })
}
