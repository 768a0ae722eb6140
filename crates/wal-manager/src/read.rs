//! Reading one log: from chunks to records.

use std::sync::Arc;

use bytes::Bytes;
use wal_format::chunk::{
    self, CHUNK_BYTES_MIN, Checksums, Chunk, ChunkFault, ChunkType, Digest, HEADER_BYTES,
};
use wal_format::control::{Promise, Seal};
use wal_format::guess::Guess;
use wal_format::record::{self, Families, Head, Plain};
use wal_format::{BLOCK_BYTES, Index, LogSeed, RECORD_BYTES_MAX, SeqNum, SeqRange};
use wal_io::Source;

use crate::error::Result;
use crate::report::Reason;
use crate::window::Window;

/// A whole record of a log. Its bytes are with the reader, until that reads on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundRecord {
    /// Offset of its first chunk.
    pub(crate) offset: u64,
    pub(crate) head: Head,
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

/// Where a reader begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Where a record or a statement begins, or would; or where a block does.
    pub(crate) offset: u64,
    /// Index of the record that comes next; `None` where a block begins: whatever comes first.
    pub(crate) next_index: Option<Index>,
    /// Lowest sequence number that may come next.
    pub(crate) seq_floor: SeqNum,
}

/// Reads one log in order. Stops for good at the first fault, unless told to [`LogReader::resync`].
#[derive(Debug)]
pub(crate) struct LogReader {
    source: Arc<dyn Source>,
    seed: LogSeed,
    window: Window,
    /// Next byte to look at.
    offset: u64,
    /// Reading stops here.
    end: u64,
    /// Behind the last record or statement that was whole.
    good_end: u64,
    digest: Digest,
    /// Digest at `good_end`.
    good_digest: Digest,
    /// Checksums of whole records that neither digest has taken in yet.
    checksums: Checksums,
    /// `None` right after a resync: any index may follow.
    next_index: Option<Index>,
    /// Index of the first record.
    first_index: Index,
    seq_floor: SeqNum,
    seqs: Option<SeqRange>,
    records: u64,
    partial: Option<Partial>,
    last: LastRecord,
    /// What the next record is like.
    guess: Guess,
    /// Reading began at the first byte, so that a seal can be compared with what was read.
    whole: bool,
}

#[derive(Debug)]
struct Partial {
    offset: u64,
    bytes: Vec<u8>,
}

/// Where the bytes of the last record are.
#[derive(Debug, Default)]
struct LastRecord {
    /// The record, if it was put together from several chunks; else it is in the window.
    assembled: Option<Bytes>,
    /// Offset in the file of its only chunk's payload.
    at: u64,
    /// Length of envelope and payload together.
    length: usize,
    /// Length of the envelope.
    envelope: usize,
    /// Whether it touches the default family and no other.
    only_default: bool,
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
            window: Window::default(),
            offset: 0,
            end,
            good_end: 0,
            digest: Digest::default(),
            good_digest: Digest::default(),
            checksums: Checksums::new(),
            next_index: first_index,
            first_index: first_index.unwrap_or(Index::FIRST),
            seq_floor,
            seqs: None,
            records: 0,
            partial: None,
            last: LastRecord::default(),
            guess: Guess::NONE,
            whole: true,
        }
    }

    /// Reads `source` from `place` to `end`, and not a byte behind that. The digest is that of what is read, not of the log.
    pub(crate) fn from_place(source: Arc<dyn Source>, seed: LogSeed, place: Place, end: u64) -> Self {
        let Place { offset, next_index, seq_floor } = place;
        let reader = Self::new(source, seed, next_index, seq_floor, end);
        Self { window: Window::up_to(end), offset, good_end: offset, whole: offset == 0, ..reader }
    }

    /// Reads on up to `end`.
    pub(crate) fn extend(&mut self, end: u64) {
        self.end = end;
        self.window.extend(end);
    }

    /// Where reading stops.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Where another reader could go on.
    pub(crate) fn place(&self) -> Place {
        Place { offset: self.good_end, next_index: self.next_index, seq_floor: self.seq_floor }
    }

    /// Behind the last record or statement that was whole.
    pub(crate) fn good_end(&self) -> u64 {
        self.good_end
    }

    /// Digest of everything before [`LogReader::good_end`].
    pub(crate) fn good_digest(&self) -> Digest {
        self.good_digest.with_checksums(self.checksums.get())
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

    /// The families of the record that [`LogReader::next`] has just given.
    #[inline]
    pub(crate) fn families(&self) -> Families<'_> {
        let decoded = if self.last.only_default { None } else { record::decode(self.last_record()).ok() };
        decoded.map_or(Families::DEFAULT, |record| record.families)
    }

    /// The payload of the record that [`LogReader::next`] has just given: a slice of what was read, unless a block's end cut the record.
    #[inline]
    pub(crate) fn payload(&self) -> Bytes {
        let LastRecord { at, envelope, length, .. } = self.last;
        match &self.last.assembled {
            Some(bytes) => bytes.slice(envelope..),
            None => self.window.share(at.saturating_add(envelope as u64), length.saturating_sub(envelope)),
        }
    }

    /// The payload of the record that [`LogReader::plain_record`] has just given, where it was read.
    #[inline]
    pub(crate) fn plain_payload(&self) -> &[u8] {
        let LastRecord { at, envelope, length, .. } = self.last;
        self.window.from(at).get(envelope..length).unwrap_or_default()
    }

    fn last_record(&self) -> &[u8] {
        match &self.last.assembled {
            Some(bytes) => bytes,
            None => self.window.from(self.last.at).get(..self.last.length).unwrap_or_default(),
        }
    }

    /// What stands next.
    ///
    /// # Errors
    /// The file cannot be read: that is never the end of the log.
    pub(crate) fn next(&mut self) -> Result<Item> {
        match self.whole_record() {
            Some(found) => Ok(Item::Record(found)),
            None => self.next_of_any_kind(),
        }
    }

    /// The next record, if everything is as in most logs most of the time: one chunk, here in memory, and nothing wrong with it. In any
    /// other case nothing has happened, and [`LogReader::next_of_any_kind`] finds out.
    #[inline]
    pub(crate) fn whole_record(&mut self) -> Option<FoundRecord> {
        let at = self.offset;
        if self.partial.is_some() || at >= self.end || self.checksums.is_full() {
            return None;
        }
        let expected = self.next_index?;
        let bytes = self.window.from(at);
        let chunk = chunk::decode(&self.seed, at, bytes).ok()?;
        if chunk.kind != ChunkType::Full {
            return None;
        }
        let record = record::decode(chunk.payload).ok()?;
        let head = record.head;
        let next = head.index.next()?;
        if head.index != expected || head.seqs.first() < self.seq_floor {
            return None;
        }
        self.last = LastRecord {
            assembled: None,
            at: at.saturating_add(HEADER_BYTES as u64),
            length: chunk.payload.len(),
            envelope: chunk.payload.len() - record.payload.len(),
            only_default: record.families.is_default(),
        };
        let (length, crc) = (chunk.length(), chunk.crc);
        self.checksums.push(crc);
        self.count(head.seqs, next);
        self.offset = at.saturating_add(length as u64);
        self.good_end = self.offset;
        Some(FoundRecord { offset: at, head })
    }

    /// The same for a record that is plain, too: what a replay of many short records does most of the time.
    #[inline(always)]
    pub(crate) fn plain_record(&mut self) -> Option<(u64, Plain)> {
        let at = self.offset;
        if self.partial.is_some() || at >= self.end {
            return None;
        }
        if self.checksums.is_full() {
            self.digest_checksums();
        }
        let chunk = chunk::decode(&self.seed, at, self.window.from(at)).ok()?;
        if chunk.kind != ChunkType::Full {
            return None;
        }
        let plain = match self.guess.check(chunk.payload) {
            Some(plain) => plain,
            None => {
                let plain = record::decode_plain(chunk.payload)?;
                self.guess = Guess::after(&plain);
                plain
            }
        };
        if Some(plain.index) != self.next_index || plain.seqs.first() < self.seq_floor {
            return None;
        }
        let next = plain.index.next()?;
        let length = chunk.payload.len();
        self.last = LastRecord {
            assembled: None,
            at: at.saturating_add(HEADER_BYTES as u64),
            length,
            envelope: plain.envelope,
            only_default: true,
        };
        self.checksums.push(chunk.crc);
        self.count(plain.seqs, next);
        self.offset = at.saturating_add((HEADER_BYTES + length) as u64);
        self.good_end = self.offset;
        Some((at, plain))
    }

    /// Both digests take in the checksums that were gathered.
    #[cold]
    fn digest_checksums(&mut self) {
        let same = self.digest == self.good_digest;
        self.digest = self.digest.with_checksums(self.checksums.get());
        self.good_digest = if same { self.digest } else { self.good_digest() };
        self.checksums.clear();
    }

    fn next_of_any_kind(&mut self) -> Result<Item> {
        self.digest_checksums();
        loop {
            if let Some(stop) = self.skip_padding()? {
                return Ok(Item::Stop(stop));
            }
            let at = self.offset;
            let bytes = self.window.read(&*self.source, at, chunk::room_in_block(at))?;
            let (empty, decoded) = (bytes.is_empty(), chunk::decode(&self.seed, at, bytes));
            let decoded = match decoded.map(|Chunk { kind, crc, payload }| (kind, crc, payload.len())) {
                Ok(decoded) => decoded,
                Err(ChunkFault::Truncated | ChunkFault::Zeros) if empty => return self.end_of_file(),
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
        let bytes = self.window.read(&*self.source, self.offset, room)?;
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
            let bytes = self.window.read(&*self.source, self.offset, room)?;
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
        let bytes = self.window.read(&*self.source, at, BLOCK_BYTES)?;
        let fits = |chunk: Chunk<'_>| {
            matches!(chunk.kind, ChunkType::Promise | ChunkType::Seal | ChunkType::Ignorable(_))
                && chunk.length() > room
        };
        Ok(chunk::decode(&self.seed, at, bytes).is_ok_and(fits))
    }

    /// Takes in a chunk whose checksum is right and whose payload is in the window; gives an item if it completes one.
    fn accept(&mut self, at: u64, (kind, crc, length): (ChunkType, u32, usize)) -> Result<Option<Item>> {
        let fault = |reason: Reason| Ok(Some(Item::Stop(Stop::Fault(reason))));
        let after = at.saturating_add((HEADER_BYTES + length) as u64);
        let digest = self.digest.with(kind, crc);
        let in_record = self.partial.is_some();
        let payload_at = at.saturating_add(HEADER_BYTES as u64);
        let payload = self.window.from(payload_at).get(..length).unwrap_or_default();
        let item = match kind {
            ChunkType::Ignorable(_) => None,
            ChunkType::Header if at == 0 => None,
            ChunkType::Promise if !in_record => match self.check_promise(at, payload) {
                Some(promise) => Some(Item::Promise { at, promise }),
                None => return fault(Reason::PromiseContradiction),
            },
            ChunkType::Seal if !in_record => match self.check_seal(payload) {
                Some(seal) => Some(Item::Seal { at, seal }),
                None => return fault(Reason::SealContradiction),
            },
            ChunkType::Full if !in_record => {
                let place = LastRecord { at: payload_at, length, ..LastRecord::default() };
                match self.check_record(at, place) {
                    Ok(record) => Some(Item::Record(record)),
                    Err(reason) => return fault(reason),
                }
            }
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
                partial.bytes.extend_from_slice(payload);
                match self.partial.take_if(|_| kind == ChunkType::Last) {
                    None => None,
                    Some(Partial { offset, bytes }) => {
                        let assembled = Some(Bytes::from(bytes));
                        match self.check_record(offset, LastRecord { assembled, ..LastRecord::default() }) {
                            Ok(record) => Some(Item::Record(record)),
                            Err(reason) => return fault(reason),
                        }
                    }
                }
            }
            _ => return fault(Reason::FragmentOrder),
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
        let agree = if self.whole { seal == found } else { seal.next_index == next_index };
        agree.then_some(seal)
    }

    /// Checks the record whose bytes are there, and makes it the last one.
    fn check_record(&mut self, offset: u64, place: LastRecord) -> std::result::Result<FoundRecord, Reason> {
        self.last = place;
        let bytes = self.last_record();
        let record = record::decode(bytes)?;
        let head = record.head;
        let (envelope, only_default) = (bytes.len() - record.payload.len(), record.families.is_default());
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
        (self.last.envelope, self.last.only_default) = (envelope, only_default);
        self.count(head.seqs, next);
        Ok(FoundRecord { offset, head })
    }

    /// Counts a record in, behind which `next` follows.
    #[inline]
    fn count(&mut self, these: SeqRange, next: Index) {
        self.next_index = Some(next);
        // The last number of all leaves no floor above it; nothing can follow then, and `append` refuses.
        self.seq_floor = these.last().next().unwrap_or(these.last());
        self.seqs = Some(self.seqs.map_or(these, |seqs| seqs.union(these)));
        self.records = self.records.saturating_add(1);
    }
}
