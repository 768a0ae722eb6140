//! The header of a log: its first chunk.

use crate::chunk::{self, ChunkFault, ChunkType};
use crate::fields::Fields;
use crate::{Epoch, FORMAT_VERSION, Index, LOWEST_READER_VERSION, LogNumber, LogSeed, SeqNum, WalId};

/// First bytes of every header: a byte that text never starts with, a name, and line ends that a text-mode copy would damage.
pub const MAGIC: [u8; 8] = *b"\x89WAL\r\n\x1a\n";

/// Where a log comes from and how its predecessor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Version of the format that the writer wrote.
    pub version: u16,
    /// Lowest version of a reader that understands this log.
    pub lowest_reader: u16,
    /// Number of this log.
    pub log: LogNumber,
    /// Identity of the write-ahead log.
    pub wal_id: WalId,
    /// Writer generation that created this log.
    pub epoch: Epoch,
    /// Index of the first record, here and behind the predecessor's end.
    pub first_index: Index,
    /// Every sequence number in this log is at least this.
    pub seq_floor: SeqNum,
    /// The log before this one.
    pub predecessor: Option<Predecessor>,
    /// The engine's own fingerprint of its configuration; 0 if it has none.
    pub config_fingerprint: u64,
    /// When the log was created, in microseconds since 1970; information only.
    pub created_micros: u64,
}

/// How the log before ended (rule PR4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its number. Numbers between it and this log's are abandoned.
    pub log: LogNumber,
    /// Offset in bytes where reading it stops; a seal lies behind.
    pub end: u64,
    /// Offset in bytes before which it was durable when this header was encoded: the only evidence here.
    pub proven: u64,
    /// Its digest up to `end`.
    pub digest: u32,
}

/// Why a file does not begin with a header of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The first chunk is damaged or not there.
    #[error("no header: {0}")]
    Chunk(#[from] ChunkFault),
    /// The first chunk is another chunk, or its payload has another layout.
    #[error("the first chunk is not a header")]
    NotAHeader,
    /// The checksum is right, but the log needs a newer reader.
    #[error("format version {version} needs a reader of version {lowest_reader}, this is {FORMAT_VERSION}")]
    NewerFormat {
        /// Version of the log.
        version: u16,
        /// Lowest version that may read it.
        lowest_reader: u16,
    },
    /// The header is whole but states another log number than the file's name does.
    #[error("the header is that of log {found}, the file's name says {expected}")]
    OtherLog {
        /// From the file's name.
        expected: LogNumber,
        /// From the header.
        found: LogNumber,
        /// The identity in the header.
        wal_id: WalId,
    },
}

impl FileHeader {
    /// Length of the payload in bytes. A newer version may append fields; a reader ignores them.
    pub const BYTES: usize = 104;

    /// The header of a log in the format that this crate writes.
    pub fn new(wal_id: WalId, log: LogNumber, epoch: Epoch, first_index: Index, seq_floor: SeqNum) -> Self {
        Self {
            version: FORMAT_VERSION,
            lowest_reader: LOWEST_READER_VERSION,
            log,
            wal_id,
            epoch,
            first_index,
            seq_floor,
            predecessor: None,
            config_fingerprint: 0,
            created_micros: 0,
        }
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let none = Predecessor { log: LogNumber::new(0), end: 0, proven: 0, digest: 0 };
        let before = self.predecessor.unwrap_or(none);
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.lowest_reader.to_le_bytes());
        bytes.extend_from_slice(&self.log.get().to_le_bytes());
        bytes.extend_from_slice(self.wal_id.as_bytes());
        for field in [self.epoch.get(), self.first_index.get(), self.seq_floor.get()] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [before.log.get(), before.end, before.proven] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&before.digest.to_le_bytes());
        bytes.extend_from_slice(&self.config_fingerprint.to_le_bytes());
        bytes.extend_from_slice(&self.created_micros.to_le_bytes());
        bytes
    }

    /// Reads the header at the front of a log, of whatever write-ahead log it is: the identity in it seeds its own check,
    /// so that a foreign log is told apart from a damaged one.
    ///
    /// # Errors
    /// There is no valid header, or it asks for a newer reader.
    pub fn decode(log: LogNumber, bytes: &[u8]) -> Result<Self, HeaderFault> {
        // Magic, versions, number and identity stand at these places in every version of the format.
        let identity = bytes.get(chunk::HEADER_BYTES + 20..chunk::HEADER_BYTES + 36);
        let wal_id = identity.and_then(|id| <[u8; 16]>::try_from(id).ok()).map(WalId::from_bytes);
        let Some(wal_id) = wal_id else {
            let zeros = bytes.iter().all(|&byte| byte == 0);
            return Err(if zeros { ChunkFault::Zeros } else { ChunkFault::Truncated }.into());
        };
        let chunk = match chunk::decode(&LogSeed::new(wal_id, log), 0, bytes) {
            Ok(chunk) => chunk,
            Err(fault) => return Err(Self::renamed(log, bytes, wal_id).unwrap_or(fault.into())),
        };
        if chunk.kind != ChunkType::Header {
            return Err(HeaderFault::NotAHeader);
        }
        Self::parse(log, chunk.payload)
    }

    /// The header of another log of the same or another write-ahead log, whole, under this log's name.
    fn renamed(expected: LogNumber, bytes: &[u8], wal_id: WalId) -> Option<HeaderFault> {
        let stated = bytes.get(chunk::HEADER_BYTES + 12..chunk::HEADER_BYTES + 20)?;
        let found = LogNumber::new(u64::from_le_bytes(stated.try_into().ok()?));
        let chunk = chunk::decode(&LogSeed::new(wal_id, found), 0, bytes).ok()?;
        (chunk.kind == ChunkType::Header && found != expected).then_some(HeaderFault::OtherLog {
            expected,
            found,
            wal_id,
        })
    }

    fn parse(expected: LogNumber, payload: &[u8]) -> Result<Self, HeaderFault> {
        let mut fields = Fields(payload);
        let mut versions = || {
            (fields.bytes::<8>()? == MAGIC).then_some(())?;
            Some((fields.u16()?, fields.u16()?))
        };
        let (version, lowest_reader) = versions().ok_or(HeaderFault::NotAHeader)?;
        if lowest_reader > FORMAT_VERSION {
            return Err(HeaderFault::NewerFormat { version, lowest_reader });
        }
        let mut rest = || {
            let log = LogNumber::new(fields.u64()?);
            let wal_id = WalId::from_bytes(fields.bytes()?);
            let epoch = Epoch::new(fields.u64()?);
            let first_index = Index::new(fields.u64()?);
            let seq_floor = SeqNum::new(fields.u64()?);
            let before = LogNumber::new(fields.u64()?);
            let (end, proven, digest) = (fields.u64()?, fields.u64()?, fields.u32()?);
            let predecessor = (before.get() != 0).then_some(Predecessor { log: before, end, proven, digest });
            // Without a predecessor there is nothing to say about it: one meaning, one encoding.
            (predecessor.is_some() || (end, proven, digest) == (0, 0, 0)).then_some(())?;
            let (config_fingerprint, created_micros) = (fields.u64()?, fields.u64()?);
            Some(Self {
                version,
                lowest_reader,
                log,
                wal_id,
                epoch,
                first_index,
                seq_floor,
                predecessor,
                config_fingerprint,
                created_micros,
            })
        };
        let header = rest().ok_or(HeaderFault::NotAHeader)?;
        if header.log != expected {
            return Err(HeaderFault::OtherLog { expected, found: header.log, wal_id: header.wal_id });
        }
        let chain_grows =
            header.predecessor.is_none_or(|before| before.log < header.log && before.proven <= before.end);
        if header.log.get() == 0 || header.first_index.get() == 0 || !chain_grows {
            return Err(HeaderFault::NotAHeader);
        }
        Ok(header)
    }
}
