//! Writing a log: records cut into chunks, with promises and a seal between them.

use crate::chunk::{self, CHUNK_BYTES_MIN, Checksums, ChunkType, Digest, HEADER_BYTES, LENGTH_AT, LogSeed};
use crate::control::{Promise, Seal};
use crate::record::{self, Head};
use crate::{BLOCK_BYTES, FamilyId, FileHeader};

/// Encodes one log from its first byte to its seal. Bytes are appended to the caller's buffer; the encoder knows at which offset of the
/// file they will stand, because the checksums cover it.
#[derive(Clone, Debug)]
pub struct LogEncoder {
    seed: LogSeed,
    /// Offset in the file of the next byte.
    offset: u64,
    /// Of everything but the chunks of `checksums`.
    digest: Digest,
    checksums: Checksums,
    scratch: Vec<u8>,
}

/// The place of a promise in a buffer, to be filled in when it is known what was synced.
#[derive(Debug)]
#[must_use = "an unfilled promise is damage"]
pub struct PromiseSlot {
    /// Position of the chunk in the buffer.
    position: usize,
    /// Offset of the chunk in the file.
    offset: u64,
}

impl LogEncoder {
    /// Starts at the first byte of a log.
    pub fn new(seed: LogSeed) -> Self {
        Self::at(seed, 0, Digest::default())
    }

    /// Goes on behind the byte at `offset` of a log whose content so far has this digest.
    pub fn at(seed: LogSeed, offset: u64, digest: Digest) -> Self {
        Self { seed, offset, digest, checksums: Checksums::new(), scratch: Vec::new() }
    }

    /// Offset in the file where the next byte will stand.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Digest of everything encoded so far.
    pub fn digest(&self) -> Digest {
        self.digest.with_checksums(self.checksums.get())
    }

    /// Appends the header. It must come first.
    pub fn header(&mut self, bytes: &mut Vec<u8>, header: &FileHeader) {
        let payload = header.encode();
        self.whole(bytes, ChunkType::Header, &payload);
    }

    /// Appends a record, cut into as many chunks as it needs. The payload is copied once.
    pub fn record(&mut self, bytes: &mut Vec<u8>, head: &Head, families: &[FamilyId], payload: &[u8]) {
        self.pad(bytes, CHUNK_BYTES_MIN);
        let room = chunk::room_in_block(self.offset) - HEADER_BYTES;
        // A family's number may take one byte more than one that a manager lets through.
        if room < record::envelope_bytes_max(families.len()) + families.len() {
            let mut envelope = std::mem::take(&mut self.scratch);
            envelope.clear();
            record::encode_envelope(&mut envelope, head, families);
            self.fragments(bytes, true, &envelope, payload);
            self.scratch = envelope;
            return;
        }
        let start = bytes.len();
        bytes.extend_from_slice(&[0; HEADER_BYTES + record::PLAIN_BYTES_MAX]);
        let plain = bytes.last_chunk_mut().and_then(|place| record::encode_plain(place, head, families));
        bytes.truncate(start + HEADER_BYTES + plain.unwrap_or(0));
        if plain.is_none() {
            record::encode_envelope(bytes, head, families);
        }
        let room = room + HEADER_BYTES + start - bytes.len();
        if let Some((part, rest)) = payload.split_at_checked(room)
            && !rest.is_empty()
        {
            bytes.extend_from_slice(part);
            self.finish(bytes, start, ChunkType::First.to_byte());
            return self.fragments(bytes, false, &[], rest);
        }
        bytes.extend_from_slice(payload);
        self.finish(bytes, start, ChunkType::Full.to_byte());
    }

    /// Length in bytes that a record would take from here on, padding included; nothing is written.
    pub fn record_length(&mut self, head: &Head, families: &[FamilyId], payload_length: usize) -> u64 {
        self.scratch.clear();
        record::encode_envelope(&mut self.scratch, head, families);
        let mut left = self.scratch.len() + payload_length;
        let mut offset = self.offset;
        while left > 0 {
            offset += padding(offset, CHUNK_BYTES_MIN);
            let part = left.min(chunk::room_in_block(offset) - HEADER_BYTES);
            offset += (HEADER_BYTES + part) as u64;
            left -= part;
        }
        offset - self.offset
    }

    /// What no record with a payload of this length is longer than, wherever it begins.
    pub const fn record_length_max(payload_length: usize) -> u64 {
        let bytes = (record::ENVELOPE_BYTES_MAX + payload_length) as u64;
        // Each chunk but the last ends with its block, and there may be padding before the first one.
        let chunks = bytes / (BLOCK_BYTES - HEADER_BYTES) as u64 + 2;
        bytes + chunks * (HEADER_BYTES + CHUNK_BYTES_MIN) as u64
    }

    /// Leaves room for a promise, which [`LogEncoder::fill_promise`] writes later.
    pub fn reserve_promise(&mut self, bytes: &mut Vec<u8>) -> PromiseSlot {
        let length = HEADER_BYTES + Promise::BYTES;
        self.pad(bytes, length);
        let slot = PromiseSlot { position: bytes.len(), offset: self.offset };
        bytes.resize(bytes.len() + length, 0);
        self.offset += length as u64;
        slot
    }

    /// Writes the promise into the room left for it. `bytes` is the buffer in which it was reserved.
    pub fn fill_promise(&self, bytes: &mut [u8], slot: PromiseSlot, promise: &Promise) {
        let payload = promise.encode();
        let type_byte = ChunkType::Promise.to_byte();
        let crc = self.seed.checksum(slot.offset, type_byte, &payload);
        let place = bytes.get_mut(slot.position..).unwrap_or(&mut []);
        for (to, from) in
            place.iter_mut().zip(chunk_header(crc, payload.len(), type_byte).into_iter().chain(payload))
        {
            *to = from;
        }
    }

    /// Appends the seal, and nothing may come after it.
    pub fn seal(&mut self, bytes: &mut Vec<u8>, seal: &Seal) {
        self.whole(bytes, ChunkType::Seal, &seal.encode());
    }

    /// Fills up to the next multiple of `unit`, a power of two from 8 on; nothing where one is already. Where no chunk fits before that multiple, the
    /// filler reaches the one behind it: what was encoded always ends with a chunk, and never with zeros.
    pub fn filler(&mut self, bytes: &mut Vec<u8>, unit: u64) {
        let unit = unit.max(CHUNK_BYTES_MIN as u64).next_power_of_two();
        if self.offset.is_multiple_of(unit) {
            return;
        }
        let end = (self.offset + CHUNK_BYTES_MIN as u64).next_multiple_of(unit);
        while self.offset < end {
            self.pad(bytes, CHUNK_BYTES_MIN);
            let room = chunk::room_in_block(self.offset);
            let length = usize::try_from(end - self.offset).map_or(room, |length| length.min(room));
            let start = bytes.len();
            bytes.resize(start + length - usize::from(seeded_bug!(FillerTooShort)), 0);
            self.finish(bytes, start, chunk::FILLER);
            if seeded_bug!(FillerTooShort) {
                return;
            }
        }
    }

    /// What [`LogEncoder::filler`] is not longer than.
    pub const fn filler_length_max(unit: u64) -> u64 {
        unit + CHUNK_BYTES_MIN as u64 - 1
    }

    /// Appends one chunk of any type in one piece; for tests of what a newer version may write.
    #[doc(hidden)]
    pub fn raw_chunk(&mut self, bytes: &mut Vec<u8>, type_byte: u8, payload: &[u8]) {
        self.pad(bytes, HEADER_BYTES + payload.len());
        let start = bytes.len();
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        bytes.extend_from_slice(payload);
        self.finish(bytes, start, type_byte);
    }

    /// One chunk in one piece, in the next block if this one has no room for it.
    fn whole(&mut self, bytes: &mut Vec<u8>, kind: ChunkType, payload: &[u8]) {
        self.raw_chunk(bytes, kind.to_byte(), payload);
    }

    /// As many chunks as it takes; none of the record was written before the `first` one.
    fn fragments(&mut self, bytes: &mut Vec<u8>, mut first: bool, mut envelope: &[u8], mut payload: &[u8]) {
        loop {
            self.pad(bytes, CHUNK_BYTES_MIN);
            let room = chunk::room_in_block(self.offset) - HEADER_BYTES;
            let start = bytes.len();
            bytes.extend_from_slice(&[0; HEADER_BYTES]);
            let head = take(&mut envelope, room);
            bytes.extend_from_slice(head);
            bytes.extend_from_slice(take(&mut payload, room - head.len()));
            let last = envelope.is_empty() && payload.is_empty();
            let kind = match (first, last) {
                (true, true) => ChunkType::Full,
                (true, false) => ChunkType::First,
                (false, false) => ChunkType::Middle,
                (false, true) => ChunkType::Last,
            };
            self.finish(bytes, start, kind.to_byte());
            if last {
                return;
            }
            first = false;
        }
    }

    /// Fills the rest of the block with zeros if it has no room for `length` bytes.
    fn pad(&mut self, bytes: &mut Vec<u8>, length: usize) {
        let zeros = padding(self.offset, length);
        // Less than a block.
        bytes.resize(bytes.len() + usize::try_from(zeros).unwrap_or(0), 0);
        self.offset += zeros;
    }

    /// Writes the header of the chunk that begins at `start` of the buffer and ends with it.
    #[inline]
    fn finish(&mut self, bytes: &mut [u8], start: usize, type_byte: u8) {
        let Some(chunk) = bytes.get_mut(start..) else { return };
        let Some((header, payload)) = chunk.split_first_chunk_mut() else { return };
        let length = payload.len();
        *header = chunk_header(0, length, type_byte);
        let crc = self.seed.checksum_of(self.offset, chunk.get(LENGTH_AT..).unwrap_or_default());
        if let Some(place) = chunk.first_chunk_mut() {
            *place = crc.to_le_bytes();
        }
        self.offset += (HEADER_BYTES + length) as u64;
        if ChunkType::from_byte(type_byte).is_some_and(ChunkType::in_digest) {
            if self.checksums.is_full() {
                self.digest = self.digest();
                self.checksums.clear();
            }
            self.checksums.push(crc);
        }
    }
}

/// Zeros before a chunk of `length` bytes at `offset`: none where the block has room for it.
fn padding(offset: u64, length: usize) -> u64 {
    let room = chunk::room_in_block(offset);
    if room < length { room as u64 } else { 0 }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at_checked(most).unwrap_or((bytes, &[]));
    *bytes = rest;
    head
}

fn chunk_header(crc: u32, length: usize, type_byte: u8) -> [u8; HEADER_BYTES] {
    let [c0, c1, c2, c3] = crc.to_le_bytes();
    // A chunk is shorter than a block.
    let [l0, l1] = u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    [c0, c1, c2, c3, l0, l1, type_byte]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, LogNumber, RecordKind, SeqNum, SeqRange, WalId};

    /// The plainest way: the envelope elsewhere, then both cut into chunks.
    fn slowly(
        encoder: &mut LogEncoder,
        bytes: &mut Vec<u8>,
        head: &Head,
        families: &[FamilyId],
        payload: &[u8],
    ) {
        let mut envelope = Vec::new();
        record::encode_envelope(&mut envelope, head, families);
        encoder.fragments(bytes, true, &envelope, payload);
    }

    #[test]
    fn all_ways_encode_the_same_bytes_wherever_a_record_begins() {
        let seed = LogSeed::new(WalId::from_bytes([7; 16]), LogNumber::new(3));
        let payload: Vec<u8> = (0..200_u8).collect();
        let numbers = (0..64).flat_map(|bits| [1_u64 << bits, (1 << bits) + 1, (1 << bits) - 1]);
        let numbers = numbers.chain([u64::MAX - 1]).filter(|&number| number > 0);
        for (turn, number) in numbers.enumerate() {
            let count = [1, 127, 128, 1 << 20][turn % 4];
            let seqs = SeqRange::new(SeqNum::new(number), count).filter(|seqs| seqs.last().get() < u64::MAX);
            let Some(seqs) = seqs else { continue };
            let mut head = Head::new(RecordKind::new(1).unwrap(), Index::new(number), seqs);
            let more = [FamilyId::new(1), FamilyId::new(70_000)];
            let families = [&[][..], &[FamilyId::DEFAULT], &more][turn % 3];
            head.time_micros = (turn % 5 == 0).then_some(number);
            for room in 1..300 {
                let offset = (2 * BLOCK_BYTES - room) as u64;
                let mut encoders = [0, 1].map(|_| LogEncoder::at(seed, offset, Digest::default()));
                let [one, other] = &mut encoders;
                let (mut bytes, mut expected) = (b"before".to_vec(), b"before".to_vec());
                for length in [1, 100, 200] {
                    one.record(&mut bytes, &head, families, &payload[..length]);
                    slowly(other, &mut expected, &head, families, &payload[..length]);
                }
                assert_eq!(bytes, expected, "{head:?} {families:?} {room} bytes before the end of a block");
                assert_eq!((one.offset(), one.digest()), (other.offset(), other.digest()));
            }
        }
    }
}
