//! Encoding and decoding in memory.

use std::hint::black_box;

use wal_format::chunk::{self, CHUNK_BYTES_MIN, ChunkType, Digest};
use wal_format::encode::LogEncoder;
use wal_format::record::{self, Head};
use wal_format::{Index, LogNumber, LogSeed, RecordKind, SeqNum, SeqRange, WalId};

use crate::data::Payloads;

/// Index of the first record: that of a log that has lived a while, so that its varints have a usual length.
const FIRST_INDEX: u64 = 1_000_000;

fn seed() -> LogSeed {
    LogSeed::new(WalId::from_bytes([7; 16]), LogNumber::new(1))
}

fn head(number: u64) -> Head {
    let kind = RecordKind::new(1).expect("a kind of the engine's");
    let seqs = SeqRange::new(SeqNum::new(number), 1).expect("a range");
    Head::new(kind, Index::new(number), seqs)
}

/// Encodes every payload of a pool, with envelope, chunk headers, checksums and digest, into one buffer that is used again.
#[derive(Debug)]
pub struct Encode {
    payloads: Payloads,
    encoder: LogEncoder,
    number: u64,
    bytes: Vec<u8>,
}

impl Encode {
    /// For payloads of `size` bytes.
    pub fn new(size: usize) -> Self {
        let payloads = Payloads::new(size);
        Self { payloads, encoder: LogEncoder::new(seed()), number: FIRST_INDEX, bytes: Vec::new() }
    }

    /// The pool once; returns how many records.
    pub fn run(&mut self) -> usize {
        self.bytes.clear();
        for payload in self.payloads.iter() {
            let head = head(self.number);
            self.encoder.record(&mut self.bytes, black_box(&head), &[], black_box(payload));
            self.number += 1;
        }
        black_box(&self.bytes);
        assert!(self.bytes.len() > Payloads::POOL_BYTES);
        self.payloads.count()
    }

    /// What one pass encodes, from the first byte of a log.
    pub fn encoded(size: usize) -> Vec<u8> {
        let mut encode = Self::new(size);
        encode.run();
        encode.bytes
    }
}

/// The raw side of encoding: each payload copied to the end of a buffer that is used again, and its CRC-32.
#[derive(Debug)]
pub struct Copy {
    payloads: Payloads,
    bytes: Vec<u8>,
}

impl Copy {
    /// For payloads of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { payloads: Payloads::new(size), bytes: Vec::new() }
    }

    /// The pool once; returns how many records.
    pub fn run(&mut self) -> usize {
        self.bytes.clear();
        for payload in self.payloads.iter() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(black_box(payload));
            black_box(crc32fast::hash(&self.bytes[start..]));
        }
        black_box(&self.bytes);
        self.payloads.count()
    }
}

/// The raw side that does no more than decoding must: the CRC-32 of each payload where it stands.
#[derive(Debug)]
pub struct Checksum {
    payloads: Payloads,
}

impl Checksum {
    /// For payloads of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { payloads: Payloads::new(size) }
    }

    /// The pool once; returns how many records.
    pub fn run(&mut self) -> usize {
        for payload in self.payloads.iter() {
            black_box(crc32fast::hash(black_box(payload)));
        }
        self.payloads.count()
    }
}

/// Decodes what [`Encode`] made, as a reader does: every checksum, the digest, every envelope. A record in one chunk is not copied; one
/// that a block's end cut in parts is put together in a buffer that is used again.
#[derive(Debug)]
pub struct Decode {
    bytes: Vec<u8>,
    records: usize,
    parts: Vec<u8>,
}

impl Decode {
    /// For payloads of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self { bytes: Encode::encoded(size), records: Payloads::new(size).count(), parts: Vec::new() }
    }

    /// Everything once; returns how many records.
    pub fn run(&mut self) -> usize {
        let seed = black_box(seed());
        let mut digest = Digest::default();
        let (mut offset, mut records) = (0, 0);
        while offset < self.bytes.len() {
            let room = chunk::room_in_block(offset as u64);
            if room < CHUNK_BYTES_MIN {
                offset += room;
                continue;
            }
            let end = self.bytes.len().min(offset + room);
            let bytes = black_box(&self.bytes[offset..end]);
            let chunk = chunk::decode(&seed, offset as u64, bytes).expect("what was encoded");
            digest = digest.with(chunk.kind, chunk.crc);
            offset += chunk.length();
            let whole = match chunk.kind {
                ChunkType::Full => chunk.payload,
                ChunkType::First => {
                    self.parts.clear();
                    self.parts.extend_from_slice(chunk.payload);
                    continue;
                }
                ChunkType::Middle => {
                    self.parts.extend_from_slice(chunk.payload);
                    continue;
                }
                ChunkType::Last => {
                    self.parts.extend_from_slice(chunk.payload);
                    &self.parts
                }
                other => panic!("no {other:?} was encoded"),
            };
            black_box(record::decode(whole).expect("what was encoded"));
            records += 1;
        }
        black_box(digest);
        assert_eq!(records, self.records);
        records
    }
}
