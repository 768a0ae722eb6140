//! Reading one log: from chunks to records.

use std::sync::Arc;

use bytes::Bytes;
use wal_format::chunk::{self, CHUNK_BYTES_MIN, Chunk, ChunkFault, ChunkType, Digest, HEADER_BYTES};
use wal_format::control::{Promise, Seal};
use wal_format::record::{self, Head};
use wal_format::{BLOCK_BYTES, FamilyId, Index, LogSeed, RECORD_BYTES_MAX, SeqNum, SeqRange};
use wal_io::Source;

use crate::error::Result;
use crate::report::Reason;

/// How much is read at a time: eight blocks, so that a read costs little beside its checksum and memory stays small.
pub(crate) const WINDOW_BYTES: usize = 8 * BLOCK_BYTES;

/// A whole record of a log.
#[derive(Clone, Debug)]
pub(crate) struct FoundRecord {
    /// Offset of its first chunk.
    pub(crate) offset: u64,
    pub(crate) head: Head,
    pub(crate) families: Vec<FamilyId>,
    pub(crate) payload: Bytes,
}

/// What stands next in a log.
#[derive(Debug)]
pub(crate) enum Item {
    Record(FoundRecord),
    Promise {
        at: u64,
        promise: Promise,
    },
    Seal {
        at: u64,
        seal: Seal,
    },
    /// Nothing more can be read from here on.
    Stop(Stop),
}

/// Why reading stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the offset where the caller said.
    AtEnd,
    /// At the end of the file, exactly behind a record or a statement.
    EndOfFile,
    /// At bytes that make no sense here.
    Fault(Reason),
}

/// Reads one log in order. Stops for good at the first fault, unless told to [`LogReader::resync`].
#[derive(Debug)]
pub(crate) struct LogReader {
    source: Arc<dyn Source>,
    seed: LogSeed,
    window: Bytes,
    window_offset: u64,
    /// How much was asked for when the window was read: less came only at the end of the file.
    window_asked: usize,
    /// Next byte to look at.
    offset: u64,
    /// Reading stops here.
    end: u64,
    /// Behind the last record or statement that was whole.
    good_end: u64,
    digest: Digest,
    /// Digest at `good_end`.
    good_digest: Digest,
    /// `None` right after a resync: any index may follow.
    next_index: Option<Index>,
    /// Index of the first record.
    first_index: Index,
    seq_floor: SeqNum,
    seqs: Option<SeqRange>,
    records: u64,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    offset: u64,
    bytes: Vec<u8>,
}

impl LogReader {
    /// Reads `source` from its first byte to `end`, expecting `first_index` (in a salvage, any index) and sequence numbers from
    /// `seq_floor` on. The caller has read the header and checked it.
    pub(crate) fn new(
        source: Arc<dyn Source>,
        seed: LogSeed,
        first_index: Option<Index>,
        seq_floor: SeqNum,
        end: u64,
    ) -> Self {
        Self {
            source,
            seed,
            window: Bytes::new(),
            window_offset: 0,
            window_asked: 0,
            offset: 0,
            end,
            good_end: 0,
            digest: Digest::default(),
            good_digest: Digest::default(),
            next_index: first_index,
            first_index: first_index.unwrap_or(Index::FIRST),
            seq_floor,
            seqs: None,
            records: 0,
            partial: None,
        }
    }

    /// Behind the last record or statement that was whole.
    pub(crate) fn good_end(&self) -> u64 {
        self.good_end
    }

    /// Digest of everything before [`LogReader::good_end`].
    pub(crate) fn good_digest(&self) -> Digest {
        self.good_digest
    }

    /// Index after the last record; before the first one, the index expected.
    pub(crate) fn next_index(&self) -> Index {
        self.next_index.unwrap_or(self.first_index)
    }

    /// Sequence numbers read so far.
    pub(crate) fn seqs(&self) -> Option<SeqRange> {
        self.seqs
    }

    /// Records read so far.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Lowest sequence number that may follow.
    pub(crate) fn seq_floor(&self) -> SeqNum {
        self.seq_floor
    }

    /// What stands next.
    ///
    /// # Errors
    /// The file cannot be read: that is never the end of the log.
    pub(crate) fn next(&mut self) -> Result<Item> {
        loop {
            if let Some(stop) = self.skip_padding()? {
                return Ok(Item::Stop(stop));
            }
            let at = self.offset;
            let bytes = self.fill(at, chunk::room_in_block(at))?;
            let decoded = match chunk::decode(&self.seed, at, &bytes) {
                Ok(Chunk { kind, crc, payload }) => (kind, crc, bytes.slice_ref(payload)),
                Err(ChunkFault::Truncated | ChunkFault::Zeros) if bytes.is_empty() => {
                    return self.end_of_file();
                }
                Err(_) if seeded_bug!(SkipsHoles) && self.resync()? => continue,
                Err(fault) => return Ok(Item::Stop(Stop::Fault(fault.into()))),
            };
            if let Some(item) = self.accept(at, decoded)? {
                return Ok(item);
            }
        }
    }

    /// Goes on behind the fault, in a salvage: at the next place in this block where a chunk stands whose checksum is right for that very
    /// place, else at the next block. `false` at the end of the file.
    pub(crate) fn resync(&mut self) -> Result<bool> {
        let room = chunk::room_in_block(self.offset);
        let bytes = self.fill(self.offset, room)?;
        let here = (1..bytes.len()).find(|&skipped| {
            let (at, rest) = (self.offset.saturating_add(skipped as u64), bytes.get(skipped..));
            rest.is_some_and(|rest| chunk::decode(&self.seed, at, rest).is_ok())
        });
        self.offset = self.offset.saturating_add(here.unwrap_or(room) as u64);
        self.partial = None;
        self.next_index = None;
        Ok(self.offset < self.end && self.offset < self.source.length()?)
    }

    fn end_of_file(&self) -> Result<Item> {
        let stop =
            if self.partial.is_some() { Stop::Fault(ChunkFault::Truncated.into()) } else { Stop::EndOfFile };
        Ok(Item::Stop(stop))
    }

    /// Steps over zeros at the end of a block. They are legal where no chunk fits, and where the next block begins with a statement that
    /// did not fit: statements are never cut into parts.
    fn skip_padding(&mut self) -> Result<Option<Stop>> {
        loop {
            if self.offset >= self.end && self.partial.is_none() {
                return Ok(Some(Stop::AtEnd));
            }
            let room = chunk::room_in_block(self.offset);
            let bytes = self.fill(self.offset, room)?;
            if bytes.iter().any(|&byte| byte != 0) {
                if room < CHUNK_BYTES_MIN {
                    return Ok(Some(Stop::Fault(ChunkFault::Padding.into())));
                }
                return Ok(None);
            }
            if bytes.len() < room {
                // The file ends in zeros: nothing was written here, or nothing is here at all.
                return Ok(Some(if self.partial.is_some() {
                    Stop::Fault(ChunkFault::Truncated.into())
                } else if bytes.is_empty() {
                    Stop::EndOfFile
                } else {
                    Stop::Fault(ChunkFault::Zeros.into())
                }));
            }
            if room >= CHUNK_BYTES_MIN && !self.statement_behind(room)? {
                return Ok(Some(Stop::Fault(ChunkFault::Zeros.into())));
            }
            self.offset = self.offset.saturating_add(room as u64);
        }
    }

    /// Whether the next block begins with a chunk that is never cut into parts and is longer than `room`.
    fn statement_behind(&mut self, room: usize) -> Result<bool> {
        let at = self.offset.saturating_add(room as u64);
        let bytes = self.fill(at, BLOCK_BYTES)?;
        let fits = |chunk: Chunk<'_>| {
            matches!(chunk.kind, ChunkType::Promise | ChunkType::Seal | ChunkType::Ignorable(_))
                && chunk.length() > room
        };
        Ok(chunk::decode(&self.seed, at, &bytes).is_ok_and(fits))
    }

    /// Takes in a chunk; gives an item if it completes one.
    fn accept(&mut self, at: u64, (kind, crc, payload): (ChunkType, u32, Bytes)) -> Result<Option<Item>> {
        let fault = |reason: Reason| Ok(Some(Item::Stop(Stop::Fault(reason))));
        let after = at.saturating_add((HEADER_BYTES + payload.len()) as u64);
        let digest = self.digest.with(kind, crc);
        let in_record = self.partial.is_some();
        let whole = match kind {
            ChunkType::Ignorable(_) => None,
            ChunkType::Header if at == 0 => None,
            ChunkType::Promise | ChunkType::Seal if !in_record => None,
            ChunkType::Full if !in_record => Some((at, payload.clone())),
            ChunkType::First if !in_record => {
                self.partial = Some(Partial { offset: at, bytes: payload.to_vec() });
                None
            }
            ChunkType::Middle | ChunkType::Last => {
                let Some(partial) = &mut self.partial else {
                    // After a resync, the rest of a record whose beginning is lost.
                    if self.next_index.is_none() {
                        (self.offset, self.digest) = (after, digest);
                        return Ok(None);
                    }
                    return fault(Reason::FragmentOrder);
                };
                if partial.bytes.len().saturating_add(payload.len()) > RECORD_BYTES_MAX {
                    return fault(Reason::RecordTooLong);
                }
                partial.bytes.extend_from_slice(&payload);
                if kind == ChunkType::Middle {
                    None
                } else {
                    self.partial.take().map(|partial| (partial.offset, Bytes::from(partial.bytes)))
                }
            }
            _ => return fault(Reason::FragmentOrder),
        };
        let item = match (kind, whole) {
            (ChunkType::Promise, _) => match self.check_promise(at, &payload) {
                Some(promise) => Some(Item::Promise { at, promise }),
                None => return fault(Reason::PromiseContradiction),
            },
            (ChunkType::Seal, _) => match self.check_seal(&payload) {
                Some(seal) => Some(Item::Seal { at, seal }),
                None => return fault(Reason::SealContradiction),
            },
            (_, Some((offset, bytes))) => match self.check_record(offset, &bytes) {
                Ok(record) => Some(Item::Record(record)),
                Err(reason) => return fault(reason),
            },
            _ => None,
        };
        (self.offset, self.digest) = (after, digest);
        if self.partial.is_none() {
            // A seal is not part of what a successor calls the end.
            if kind != ChunkType::Seal {
                (self.good_end, self.good_digest) = (after, digest);
            }
        }
        Ok(item)
    }

    fn check_promise(&self, at: u64, payload: &[u8]) -> Option<Promise> {
        let promise = Promise::decode(payload)?;
        let known = self.next_index.is_none_or(|next| promise.next_index <= next);
        (promise.durable_end <= at && known).then_some(promise)
    }

    fn check_seal(&self, payload: &[u8]) -> Option<Seal> {
        let seal = Seal::decode(payload)?;
        let Some(next_index) = self.next_index else { return Some(seal) };
        let found = Seal { records: self.records, next_index, seqs: self.seqs, digest: self.digest.get() };
        (seal == found).then_some(seal)
    }

    fn check_record(&mut self, offset: u64, bytes: &Bytes) -> std::result::Result<FoundRecord, Reason> {
        let record = record::decode(bytes)?;
        let head = record.head;
        let resynced = self.next_index.is_none();
        let expected = self.next_index.unwrap_or(head.index);
        if head.index != expected {
            return Err(Reason::IndexGap { expected, found: head.index });
        }
        if head.seqs.first() < self.seq_floor {
            return Err(Reason::SequenceRegression { floor: self.seq_floor, found: head.seqs.first() });
        }
        let next = head.index.next().ok_or(Reason::IndexGap { expected, found: head.index })?;
        if resynced && self.records == 0 {
            self.first_index = head.index;
        }
        self.next_index = Some(next);
        // The last number of all leaves no floor above it; nothing can follow then, and `append` refuses.
        self.seq_floor = head.seqs.last().next().unwrap_or(head.seqs.last());
        self.seqs = Some(self.seqs.map_or(head.seqs, |seqs| seqs.union(head.seqs)));
        self.records += 1;
        let families = record.families.collect();
        Ok(FoundRecord { offset, head, families, payload: bytes.slice_ref(record.payload) })
    }

    /// Up to `length` bytes from `offset` on, fewer only at the end of the file.
    fn fill(&mut self, offset: u64, length: usize) -> Result<Bytes> {
        let have = |window: &Bytes, start: u64| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            (!window.is_empty() && from <= window.len())
                .then(|| window.slice(from..window.len().min(from.saturating_add(length))))
        };
        if let Some(bytes) = have(&self.window, self.window_offset)
            && (bytes.len() == length || self.window.len() < self.window_asked)
        {
            // All of it, or all that there was when the end of the file was read.
            return Ok(bytes);
        }
        let start = offset - offset % BLOCK_BYTES as u64;
        // From one block on, so that a short log costs little; two at the least, for a statement behind the end of a block.
        self.window_asked = (2 * self.window_asked).clamp(2 * BLOCK_BYTES, WINDOW_BYTES);
        let mut bytes = vec![0; self.window_asked];
        let read = self.source.read_at(start, &mut bytes);
        let read = if seeded_bug!(ReadErrorIsEnd) { read.unwrap_or(0) } else { read? };
        bytes.truncate(read);
        self.window = Bytes::from(bytes);
        self.window_offset = start;
        Ok(have(&self.window, start).unwrap_or_default())
    }
}
