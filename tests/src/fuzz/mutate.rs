//! Changes to bytes at rest: faults of a disk, and lies with a right checksum.

use arbitrary::Arbitrary;
use wal_format::checkpoint::SLOT_BYTES;
use wal_format::chunk::{self, ChunkFault};
use wal_format::{LogNumber, LogSeed};

use crate::logs::WAL_ID;
use crate::naive;

const SECTOR: usize = 512;

/// One change to a file.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Edit {
    /// Bits of one byte are other bits.
    Flip { at: u32, bits: u8 },
    /// A range reads as zeros.
    Zero { at: u32, length: u16 },
    /// The file ends early.
    Cut { at: u32 },
    /// The file is longer.
    Extend { zeros: u16 },
    /// A sector was written in another's place.
    Misdirect { from: u16, to: u16 },
    /// A byte in the payload of a chunk is another, and the checksum is right for it: of a log, or of a slot of CHECKPOINT.
    Lie { chunk: u8, at: u8, bits: u8 },
}

impl Edit {
    /// Does it. `log` is the number in the file's name; a file without one is taken for CHECKPOINT.
    pub(super) fn apply(&self, log: Option<LogNumber>, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let place = |at: u32| at as usize % length;
        match *self {
            Self::Flip { at, bits } => bytes[place(at)] ^= bits,
            Self::Zero { at, length: zeros } => {
                let end = length.min(place(at) + usize::from(zeros));
                bytes[place(at)..end].fill(0);
            }
            Self::Cut { at } => bytes.truncate(place(at)),
            Self::Extend { zeros } => bytes.resize(length + usize::from(zeros), 0),
            Self::Misdirect { from, to } => {
                let sectors = length.div_ceil(SECTOR);
                let start = |sector: u16| usize::from(sector) % sectors * SECTOR;
                let (from, to) = (start(from), start(to));
                let end = length.min(from + SECTOR).min(from + length - to);
                bytes.copy_within(from..end, to);
            }
            Self::Lie { chunk, at, bits } => match log {
                Some(log) => lie_in_log(log, bytes, chunk.into(), at.into(), bits),
                None => {
                    let slot = if chunk % 2 == 0 { "slot A" } else { "slot B" };
                    let start = if chunk % 2 == 0 { 0 } else { SLOT_BYTES.min(length) };
                    let slot_bytes = &mut bytes[start..];
                    if let Some(byte) = slot_bytes.get_mut(16 + usize::from(at)) {
                        *byte ^= bits;
                        repair_slot(slot_bytes, slot);
                    }
                }
            },
        }
    }
}

/// Changes the payload of the chunk with that number, counted around, and repairs its checksum.
fn lie_in_log(log: LogNumber, bytes: &mut [u8], number: usize, at: usize, bits: u8) {
    let seed = LogSeed::new(WAL_ID, log);
    let mut chunks = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        match chunk::decode(&seed, offset as u64, &bytes[offset..]) {
            Ok(chunk) => {
                chunks.push((offset, chunk.length()));
                offset += chunk.length();
            }
            Err(ChunkFault::Zeros) => offset += chunk::room_in_block(offset as u64),
            Err(_) => break,
        }
    }
    if chunks.is_empty() {
        return;
    }
    let (start, length) = chunks[number % chunks.len()];
    bytes[start + 7 + at % (length - 7)] ^= bits;
    let crc = seed.checksum(start as u64, bytes[start + 6], &bytes[start + 7..start + length]);
    bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Puts `bytes` over the end of `target`.
pub(super) fn overwrite(target: &mut [u8], bytes: &[u8]) {
    let room = target.len().saturating_sub(16).min(bytes.len());
    let start = target.len() - room;
    target[start..].copy_from_slice(&bytes[..room]);
}

/// Makes the checksum right for whatever length the slot states.
pub(super) fn repair_slot(slot: &mut [u8], name: &str) {
    let Some(length) = slot.get(4..8) else { return };
    let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
    if (8..=slot.len()).contains(&length) {
        let crc = naive::crc32(&[name.as_bytes(), &slot[4..length]]);
        slot[..4].copy_from_slice(&crc.to_le_bytes());
    }
}
