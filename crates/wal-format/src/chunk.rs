//! Chunks: the physical unit of a log.
//!
//! ```text
//! crc32 u32 | length u16 | type u8 | payload (length bytes)
//! ```
//!
//! The checksum covers everything that can be misread: the identity of the log, its number and the chunk's offset in the file
//! (as the seed, so they cost no bytes), the length, the type and the payload. A chunk that was recycled, copied, swapped or
//! misplaced fails just as a flipped bit does, and a length is trusted only after the check.

use crate::{BLOCK_BYTES, LogNumber, WalId, offsets};

/// Length of a chunk's header in bytes.
pub const HEADER_BYTES: usize = 7;

/// Where the length stands in a chunk, behind the checksum: from here on it is covered.
pub(crate) const LENGTH_AT: usize = 4;

/// Fewest bytes of a block that can hold a chunk: a header and one byte. Where fewer are left, they are zero.
pub const CHUNK_BYTES_MIN: usize = HEADER_BYTES + 1;

/// Longest payload of one chunk in bytes.
pub const CHUNK_PAYLOAD_BYTES_MAX: usize = BLOCK_BYTES - HEADER_BYTES;

/// Bit of the type that means: a reader that does not know this type may skip the chunk.
pub const IGNORABLE: u8 = 0x80;

/// Type of a filler: a chunk of zeros that stands for nothing and ends where the next write shall begin. Any reader may skip it, and need not know it.
pub const FILLER: u8 = IGNORABLE | 1;

const _: () = assert!(BLOCK_BYTES <= u16::MAX as usize, "a chunk's length fits into its field");

/// What a chunk holds. Zero is never valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkType {
    /// A whole record.
    Full,
    /// The first part of a record.
    First,
    /// A part that is neither the first nor the last.
    Middle,
    /// The last part of a record.
    Last,
    /// The header of the log: first in the file and nowhere else.
    Header,
    /// A durable statement: everything before this offset was synced.
    Promise,
    /// The end of a log that was closed for good.
    Seal,
    /// A type of a newer version that may be skipped (its bit 7 is set).
    Ignorable(u8),
}

impl ChunkType {
    /// The byte on disk.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Full => 1,
            Self::First => 2,
            Self::Middle => 3,
            Self::Last => 4,
            Self::Header => 5,
            Self::Promise => 6,
            Self::Seal => 7,
            Self::Ignorable(byte) => byte | IGNORABLE,
        }
    }

    /// The type of a byte on disk, `None` if this version does not know it and may not skip it.
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Full),
            2 => Some(Self::First),
            3 => Some(Self::Middle),
            4 => Some(Self::Last),
            5 => Some(Self::Header),
            6 => Some(Self::Promise),
            7 => Some(Self::Seal),
            byte if byte & IGNORABLE != 0 => Some(Self::Ignorable(byte)),
            _ => None,
        }
    }

    /// Whether the file's digest covers chunks of this type: header and data. Promises are left out, because a group is encoded before
    /// its promise is known; so is what a reader may skip.
    pub const fn in_digest(self) -> bool {
        matches!(self, Self::Full | Self::First | Self::Middle | Self::Last | Self::Header)
    }
}

/// What the checksums of one log begin with: the identity of the log and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSeed {
    state: u32,
    /// The same with the offset 0 behind it.
    at_zero: u32,
}

impl LogSeed {
    /// The seed of log `number` of the write-ahead log `wal_id`.
    pub fn new(wal_id: WalId, number: LogNumber) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        if !seeded_bug!(IdentityNotCovered) {
            hasher.update(wal_id.as_bytes());
        }
        if !seeded_bug!(NumberNotCovered) {
            hasher.update(&number.get().to_le_bytes());
        }
        let state = hasher.clone().finalize();
        hasher.update(&0_u64.to_le_bytes());
        Self { state, at_zero: hasher.finalize() }
    }

    /// The state behind `offset`, with which the checksum of the chunk there goes on.
    #[inline]
    fn at(&self, offset: u64) -> u32 {
        match offsets::change(offset) {
            Some(change) => self.at_zero ^ change,
            None => {
                let mut hasher = crc32fast::Hasher::new_with_initial(self.state);
                hasher.update(&offset.to_le_bytes());
                hasher.finalize()
            }
        }
    }

    /// The checksum of a chunk at `offset` in the file.
    pub fn checksum(&self, offset: u64, type_byte: u8, payload: &[u8]) -> u32 {
        let offset = if seeded_bug!(OffsetNotCovered) { 0 } else { offset };
        let [a, b, c, d, e, f, g, h] = offset.to_le_bytes();
        // A payload is shorter than a block, so its length fits.
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let [low, high] = if seeded_bug!(LengthNotCovered) { [0; 2] } else { length.to_le_bytes() };
        let type_byte = if seeded_bug!(TypeNotCovered) { 0 } else { type_byte };
        let mut hasher = crc32fast::Hasher::new_with_initial(self.state);
        hasher.update(&[a, b, c, d, e, f, g, h, low, high, type_byte]);
        hasher.update(payload);
        hasher.finalize()
    }
}

impl LogSeed {
    /// The same of a chunk whose length, type and payload lie one behind the other, as they do in a file.
    #[inline]
    pub(crate) fn checksum_of(&self, offset: u64, framed: &[u8]) -> u32 {
        if let Some((&[_, _, type_byte], payload)) = framed.split_first_chunk()
            && (seeded_bug!(OffsetNotCovered) || seeded_bug!(LengthNotCovered) || seeded_bug!(TypeNotCovered))
        {
            return self.checksum(offset, type_byte, payload);
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(self.at(offset));
        hasher.update(framed);
        hasher.finalize()
    }
}

/// A chunk whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// What it holds.
    pub kind: ChunkType,
    /// Its checksum, for the digest of the file.
    pub crc: u32,
    /// Its bytes after the header.
    pub payload: &'a [u8],
}

impl Chunk<'_> {
    /// Length in the file, header included, in bytes.
    pub const fn length(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// Why bytes are not a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkFault {
    /// The header is all zeros: nothing was written here.
    #[error("nothing but zeros where a chunk should begin")]
    Zeros,
    /// Fewer bytes than a chunk needs are left in the block, and they are not zeros.
    #[error("the end of the block has no room for a chunk and is not filled with zeros")]
    Padding,
    /// The file ends inside the chunk.
    #[error("the file ends inside a chunk")]
    Truncated,
    /// The length is zero or reaches beyond the block.
    #[error("chunk length {length} is impossible here: 1 to {limit}")]
    Length {
        /// The stored length.
        length: u16,
        /// What the block has room for.
        limit: usize,
    },
    /// The checksum is wrong.
    #[error("checksum is {stored:#010x} but the bytes give {computed:#010x}")]
    Checksum {
        /// As it stands in the file.
        stored: u32,
        /// As the bytes say.
        computed: u32,
    },
    /// The checksum is right, but this version does not know the type and may not skip it.
    #[error("chunk type {type_byte:#04x} is of a newer format: use a newer version")]
    UnknownType {
        /// The stored type.
        type_byte: u8,
    },
}

/// Bytes left in the block at `offset`.
#[inline]
pub const fn room_in_block(offset: u64) -> usize {
    let block = BLOCK_BYTES as u64;
    // The remainder is below BLOCK_BYTES, so the cast loses nothing.
    #[allow(clippy::cast_possible_truncation, reason = "a remainder of BLOCK_BYTES")]
    let used = (offset % block) as usize;
    BLOCK_BYTES - used
}

/// Decodes the chunk at `offset` of a log; `bytes` are the file's from there on, as far as they are at hand: to the end of the block,
/// or to the end of the file.
///
/// # Errors
/// The bytes are not a chunk of this log at this place.
#[inline]
pub fn decode<'a>(seed: &LogSeed, offset: u64, bytes: &'a [u8]) -> Result<Chunk<'a>, ChunkFault> {
    let room = room_in_block(offset);
    if room < CHUNK_BYTES_MIN {
        let zeros = bytes.iter().take(room).all(|&byte| byte == 0);
        return Err(if zeros { ChunkFault::Zeros } else { ChunkFault::Padding });
    }
    let Some((&[c0, c1, c2, c3, l0, l1, type_byte], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        let zeros = bytes.iter().all(|&byte| byte == 0);
        return Err(if zeros { ChunkFault::Zeros } else { ChunkFault::Truncated });
    };
    let stored = u32::from_le_bytes([c0, c1, c2, c3]);
    let length = u16::from_le_bytes([l0, l1]);
    if stored == 0 && length == 0 && type_byte == 0 {
        return Err(ChunkFault::Zeros);
    }
    let limit = room.saturating_sub(HEADER_BYTES);
    if length == 0 || usize::from(length) > limit {
        return Err(ChunkFault::Length { length, limit });
    }
    let payload = rest.get(..usize::from(length)).ok_or(ChunkFault::Truncated)?;
    let framed = bytes.get(LENGTH_AT..HEADER_BYTES + usize::from(length)).ok_or(ChunkFault::Truncated)?;
    let computed = seed.checksum_of(offset, framed);
    if computed != stored {
        return Err(ChunkFault::Checksum { stored, computed });
    }
    let kind = ChunkType::from_byte(type_byte).ok_or(ChunkFault::UnknownType { type_byte })?;
    Ok(Chunk { kind, crc: stored, payload })
}

/// Running digest of a log: the CRC-32 of the checksums of its header and data chunks, in file order, four bytes each. Each
/// of those checksums covers its chunk and its place, so the digest pins the whole content at four hashed bytes a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u32);

impl Digest {
    /// The digest with one more chunk.
    #[must_use]
    pub fn with(self, kind: ChunkType, crc: u32) -> Self {
        if !kind.in_digest() {
            return self;
        }
        self.with_checksums(&crc.to_le_bytes())
    }

    /// The digest with more chunks, all of them of a type that it covers, by their checksums, four bytes each: once for many chunks is
    /// faster than once for each.
    #[must_use]
    pub fn with_checksums(self, checksums: &[u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(checksums);
        Self(hasher.finalize())
    }

    /// The digest that stands in a seal or a header.
    pub const fn new(digest: u32) -> Self {
        Self(digest)
    }

    /// The digest as it stands in seals and headers.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Checksums of chunks that a digest covers, gathered so that it takes in many of them with one call of the hasher.
#[derive(Clone, Debug)]
pub struct Checksums {
    bytes: [u8; Self::BYTES],
    length: usize,
}

impl Checksums {
    /// Room for 64 of them, four bytes each.
    const BYTES: usize = 64 * 4;

    /// None yet.
    pub const fn new() -> Self {
        Self { bytes: [0; Self::BYTES], length: 0 }
    }

    /// Adds one; it is lost if they are full.
    #[inline]
    pub fn push(&mut self, crc: u32) {
        if let Some(place) = self.bytes.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut) {
            *place = crc.to_le_bytes();
            self.length += 4;
        }
    }

    /// Whether there is no room for another.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.length == Self::BYTES
    }

    /// Forgets them.
    pub const fn clear(&mut self) {
        self.length = 0;
    }

    /// In the order in which they came, as [`Digest::with_checksums`] takes them.
    pub fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Default for Checksums {
    fn default() -> Self {
        Self::new()
    }
}
