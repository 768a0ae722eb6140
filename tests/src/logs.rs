//! Logs made to order through `wal-format`, and read with it into the items of [`naive`].

use wal_format::checkpoint::{Checkpoint, Hold};
use wal_format::chunk::{self, Chunk, ChunkFault, Digest};
use wal_format::control::{Promise, Seal};
use wal_format::encode::LogEncoder;
use wal_format::header::HeaderFault;
use wal_format::record::{self, Head, RecordFault};
use wal_format::{
    ChunkType, Epoch, FamilyId, FileHeader, Index, LogNumber, LogSeed, RecordKind, SeqNum, SeqRange, WalId,
    WriteBatch,
};

use crate::naive::{self, Decoded, End, Item};

/// The identity that tests use unless they say otherwise: 00 01 02 ... 0f.
pub const WAL_ID: WalId = WalId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

/// Writes one log and remembers what a reader must find in it.
#[derive(Clone, Debug)]
pub struct LogBuilder {
    /// The file so far.
    pub bytes: Vec<u8>,
    /// What a reader must find.
    pub items: Vec<Item>,
    /// The encoder, for whatever this builder has no method for.
    pub encoder: LogEncoder,
    /// Index of the next record.
    pub next_index: u64,
    /// Next sequence number.
    pub next_seq: u64,
    records: u64,
    seqs: Option<SeqRange>,
}

impl LogBuilder {
    /// Log `number` of [`WAL_ID`], first of its directory, with a header.
    pub fn new(number: u64) -> Self {
        Self::with_header(&FileHeader::new(
            WAL_ID,
            LogNumber::new(number),
            Epoch::new(1),
            Index::FIRST,
            SeqNum::new(1),
        ))
    }

    /// A log that begins with `header`.
    pub fn with_header(header: &FileHeader) -> Self {
        Self::with_longer_header(header, &[])
    }

    /// A log that begins with `header` and, behind its fields, those of a later version.
    pub fn with_longer_header(header: &FileHeader, more: &[u8]) -> Self {
        let mut log = Self {
            bytes: Vec::new(),
            items: vec![header_item(header)],
            encoder: LogEncoder::new(LogSeed::new(header.wal_id, header.log)),
            next_index: header.first_index.get(),
            next_seq: header.seq_floor.get(),
            records: 0,
            seqs: None,
        };
        log.encoder.raw_chunk(&mut log.bytes, 5, &[&header.encode()[..], more].concat());
        log
    }

    /// A record of kind 1 in family 0 with one sequence number, that would be the next.
    pub fn next(&self, payload: &[u8]) -> naive::Record {
        naive::Record {
            kind: 1,
            index: self.next_index,
            first_seq: self.next_seq,
            count: 1,
            families: vec![0],
            payload: payload.to_vec(),
            ..naive::Record::default()
        }
    }

    /// Appends the next record of kind 1.
    pub fn record(&mut self, payload: &[u8]) -> &mut Self {
        self.append(self.next(payload))
    }

    /// Appends a batch.
    pub fn batch(&mut self, batch: &WriteBatch) -> &mut Self {
        let families = batch.families().iter().map(|family| family.get()).collect();
        let next = self.next(batch.as_bytes());
        self.append(naive::Record { kind: 0xf000, count: batch.count(), families, ..next })
    }

    /// Appends exactly this record.
    pub fn append(&mut self, record: naive::Record) -> &mut Self {
        let (head, families) = head_of(&record);
        let before = self.encoder.offset();
        let foreseen = self.encoder.record_length(&head, &families, record.payload.len());
        self.encoder.record(&mut self.bytes, &head, &families, &record.payload);
        assert_eq!(self.encoder.offset() - before, foreseen, "record_length tells the truth");
        assert_eq!(self.encoder.offset(), self.bytes.len() as u64, "the encoder knows where it is");
        self.next_index = record.index.saturating_add(1);
        self.next_seq = head.seqs.last().get().saturating_add(1);
        self.records += 1;
        self.seqs = Some(self.seqs.map_or(head.seqs, |seqs| seqs.union(head.seqs)));
        let start = if before % 32768 > 32768 - 8 { before.next_multiple_of(32768) } else { before };
        self.items.push(Item::Record(start, record));
        self
    }

    /// A promise of everything so far.
    pub fn promise(&mut self) -> &mut Self {
        self.group(|_| ())
    }

    /// A commit group as the writer makes it: room for the promise, the group behind it, and then the promise of everything that
    /// stood before.
    pub fn group(&mut self, records: impl FnOnce(&mut Self)) -> &mut Self {
        let promise = Promise { durable_end: self.encoder.offset(), next_index: Index::new(self.next_index) };
        let slot = self.encoder.reserve_promise(&mut self.bytes);
        let offset = self.encoder.offset() - 23;
        let (durable_end, next_index) = (promise.durable_end, promise.next_index.get());
        self.items.push(Item::Promise { offset, durable_end, next_index });
        records(self);
        self.encoder.fill_promise(&mut self.bytes, slot, &promise);
        self
    }

    /// A chunk of any type; an ignorable one becomes an item.
    pub fn raw(&mut self, kind: u8, payload: &[u8]) -> &mut Self {
        self.encoder.raw_chunk(&mut self.bytes, kind, payload);
        if kind >= 128 {
            let offset = self.encoder.offset() - 7 - payload.len() as u64;
            self.items.push(Item::Ignorable { offset, kind });
        }
        self
    }

    /// Fills up to the next multiple of `unit`, as a writer that pads groups does.
    pub fn filler(&mut self, unit: u64) -> &mut Self {
        let before = self.encoder.offset();
        self.encoder.filler(&mut self.bytes, unit);
        if self.encoder.offset() > before {
            let offset = if before % 32768 > 32768 - 8 { before.next_multiple_of(32768) } else { before };
            self.items.push(Item::Ignorable { offset, kind: chunk::FILLER });
        }
        self
    }

    /// Appends a record such that exactly `room` bytes of a block are left behind it.
    pub fn fill_to(&mut self, room: usize) -> &mut Self {
        let target = 32768 - room;
        for length in 1.. {
            let mut ahead = self.encoder.clone();
            let (head, families) = head_of(&self.next(&[]));
            // From a first guess on, a byte of payload is a byte of file.
            let taken = usize::try_from(ahead.record_length(&head, &families, length)).unwrap();
            if (self.bytes.len() + taken) % 32768 == target % 32768 {
                return self.record(&pattern(length, length));
            }
        }
        unreachable!("every alignment can be reached")
    }

    /// Seals the log truthfully.
    pub fn seal(&mut self) -> &mut Self {
        let seal = Seal {
            records: self.records,
            next_index: Index::new(self.next_index),
            seqs: self.seqs,
            digest: self.encoder.digest().get(),
        };
        self.encoder.seal(&mut self.bytes, &seal);
        self.items.push(seal_item(self.encoder.offset() - 43, &seal));
        self
    }

    /// Zeros behind the end, as preallocation leaves them. Nothing may be appended afterwards.
    pub fn zeros(&mut self, length: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + length, 0);
        self
    }
}

/// `length` bytes that differ from place to place and from `salt` to `salt`, none of them zero.
pub fn pattern(salt: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + salt * 17) % 255 + 1).unwrap()).collect()
}

/// The head and the families of a record for `wal-format`.
pub fn head_of(record: &naive::Record) -> (Head, Vec<FamilyId>) {
    let kind = match record.kind {
        0xf000 => RecordKind::BATCH,
        0xf001 => RecordKind::MARK,
        kind => RecordKind::new(kind).unwrap(),
    };
    let seqs = SeqRange::new(SeqNum::new(record.first_seq), record.count).unwrap();
    let mut head = Head::new(kind, Index::new(record.index), seqs);
    head.time_micros = record.time_micros;
    head.duplicate_key = record.duplicate_key;
    head.codec = record.codec;
    head.key_id = record.key_id;
    (head, record.families.iter().copied().map(FamilyId::new).collect())
}

/// A decoded record as the second decoder would state it.
pub fn record_item(record: &record::Record<'_>) -> naive::Record {
    let (first, last) = (record.head.seqs.first().get(), record.head.seqs.last().get());
    naive::Record {
        kind: record.head.kind.get(),
        index: record.head.index.get(),
        first_seq: first,
        count: u32::try_from(last - first + 1).unwrap(),
        families: record.families.map(FamilyId::get).collect(),
        time_micros: record.head.time_micros,
        duplicate_key: record.head.duplicate_key,
        codec: record.head.codec,
        key_id: record.head.key_id,
        payload: record.payload.to_vec(),
    }
}

/// Reads a whole log with `wal-format`, in the words of the second decoder.
pub fn decode(wal_id: WalId, log: LogNumber, file: &[u8]) -> Decoded {
    let mut walk = Walk {
        seed: LogSeed::new(wal_id, log),
        file,
        decoded: Decoded { items: Vec::new(), end: End::Open(0), digest: 0, chunk_ends: Vec::new() },
        digest: Digest::default(),
    };
    walk.decoded.end = walk.run(log);
    walk.decoded.digest = walk.digest.get();
    walk.decoded
}

struct Walk<'a> {
    seed: LogSeed,
    file: &'a [u8],
    decoded: Decoded,
    digest: Digest,
}

/// The parts of a record up to here: where it began, its bytes, and how many items and which digest there were before it.
struct Partial {
    start: u64,
    bytes: Vec<u8>,
    items: usize,
    digest: Digest,
}

impl<'a> Walk<'a> {
    fn run(&mut self, log: LogNumber) -> End {
        let mut partial: Option<Partial> = None;
        let mut at = 0;
        loop {
            let (next, end) = self.step(log, at, &mut partial);
            match end {
                None => at = next,
                Some(end) => {
                    // An unfinished record takes back everything since its first part.
                    let Some(partial) = partial else { return end };
                    self.decoded.items.truncate(partial.items);
                    self.digest = partial.digest;
                    return if let End::Newer(_) = end { end } else { End::Fault(partial.start) };
                }
            }
        }
    }

    fn step(&mut self, log: LogNumber, at: u64, partial: &mut Option<Partial>) -> (u64, Option<End>) {
        let fault = (at, Some(End::Fault(at)));
        let newer = (at, Some(End::Newer(at)));
        let chunk = match self.chunk(at) {
            Ok(chunk) => chunk,
            Err(ChunkFault::Zeros) if self.rest(at).iter().all(|byte| *byte == 0) => {
                return (at, Some(End::Open(at.min(self.file.len() as u64))));
            }
            Err(ChunkFault::Zeros) if self.is_padding(at) => {
                return (at + chunk::room_in_block(at) as u64, None);
            }
            Err(ChunkFault::UnknownType { .. }) => return newer,
            Err(_) => return fault,
        };
        let next = at + chunk.length() as u64;
        self.decoded.chunk_ends.push(next);
        let before = self.digest;
        if at == 0 {
            match FileHeader::decode(log, self.file) {
                Ok(header) => self.decoded.items.push(header_item(&header)),
                Err(HeaderFault::NewerFormat { .. }) => return newer,
                Err(_) => return fault,
            }
            self.digest = before.with(chunk.kind, chunk.crc);
            return (next, None);
        }
        self.digest = before.with(chunk.kind, chunk.crc);
        let items = self.decoded.items.len();
        let item = match (chunk.kind, partial.take()) {
            (ChunkType::Full, None) => match record::decode(chunk.payload) {
                Ok(record) => Item::Record(at, record_item(&record)),
                Err(error) => return self.bad_record(at, before, error),
            },
            (ChunkType::First, None) => {
                *partial = Some(Partial { start: at, bytes: chunk.payload.to_vec(), items, digest: before });
                return (next, None);
            }
            (ChunkType::Middle, Some(mut open)) => {
                open.bytes.extend_from_slice(chunk.payload);
                *partial = Some(open);
                return (next, None);
            }
            (ChunkType::Last, Some(mut open)) => {
                open.bytes.extend_from_slice(chunk.payload);
                match record::decode(&open.bytes) {
                    Ok(record) => Item::Record(open.start, record_item(&record)),
                    Err(error) => {
                        self.decoded.items.truncate(open.items);
                        return self.bad_record(open.start, open.digest, error);
                    }
                }
            }
            (ChunkType::Promise, None) => match Promise::decode(chunk.payload) {
                Some(Promise { durable_end, next_index }) => {
                    Item::Promise { offset: at, durable_end, next_index: next_index.get() }
                }
                None => return fault,
            },
            (ChunkType::Seal, None) => {
                let Some(seal) = Seal::decode(chunk.payload) else { return fault };
                self.decoded.items.push(seal_item(at, &seal));
                let zeros = self.rest(next).iter().all(|byte| *byte == 0);
                return (next, Some(if zeros { End::Sealed(next) } else { End::Fault(next) }));
            }
            (ChunkType::Ignorable(kind), open) => {
                *partial = open;
                Item::Ignorable { offset: at, kind }
            }
            (_, open) => {
                self.digest = before;
                *partial = open;
                return fault;
            }
        };
        self.decoded.items.push(item);
        (next, None)
    }

    fn bad_record(&mut self, start: u64, digest: Digest, fault: RecordFault) -> (u64, Option<End>) {
        self.digest = digest;
        (start, Some(if fault.is_newer_format() { End::Newer(start) } else { End::Fault(start) }))
    }

    fn rest(&self, at: u64) -> &'a [u8] {
        self.file.get(usize::try_from(at).unwrap()..).unwrap_or(&[])
    }

    fn chunk(&self, at: u64) -> Result<Chunk<'a>, ChunkFault> {
        chunk::decode(&self.seed, at, self.rest(at))
    }

    /// Whether the zeros from here to the end of the block are padding.
    fn is_padding(&self, at: u64) -> bool {
        let room = chunk::room_in_block(at);
        let unbroken = |chunk: &Chunk<'_>| {
            matches!(chunk.kind, ChunkType::Promise | ChunkType::Seal | ChunkType::Ignorable(_))
                && chunk.length() > room
        };
        let zeros = self.rest(at).iter().take(room).all(|byte| *byte == 0);
        zeros
            && (room < chunk::CHUNK_BYTES_MIN
                || self.chunk(at + room as u64).is_ok_and(|chunk| unbroken(&chunk)))
    }
}

/// A header as the second decoder would state it.
pub fn header_item(header: &FileHeader) -> Item {
    let before = header.predecessor;
    Item::Header(naive::Header {
        version: header.version,
        lowest_reader: header.lowest_reader,
        log: header.log.get(),
        wal_id: *header.wal_id.as_bytes(),
        epoch: header.epoch.get(),
        first_index: header.first_index.get(),
        seq_floor: header.seq_floor.get(),
        predecessor: before.map_or(0, |before| before.log.get()),
        predecessor_end: before.map_or(0, |before| before.end),
        predecessor_proven: before.map_or(0, |before| before.proven),
        predecessor_digest: before.map_or(0, |before| before.digest),
        config_fingerprint: header.config_fingerprint,
        created_micros: header.created_micros,
    })
}

fn seal_item(offset: u64, seal: &Seal) -> Item {
    Item::Seal {
        offset,
        records: seal.records,
        next_index: seal.next_index.get(),
        first_seq: seal.seqs.map_or(0, |seqs| seqs.first().get()),
        last_seq: seal.seqs.map_or(0, |seqs| seqs.last().get()),
        digest: seal.digest,
    }
}

/// CHECKPOINT as the second decoder would state it.
pub fn checkpoint_item(checkpoint: &Checkpoint) -> naive::Checkpoint {
    let clean = checkpoint.clean_end.as_ref();
    naive::Checkpoint {
        version: checkpoint.version,
        wal_id: *checkpoint.wal_id.as_bytes(),
        epoch: checkpoint.epoch.get(),
        highest: checkpoint.highest.get(),
        lowest: checkpoint.lowest.get(),
        active: checkpoint.active.get(),
        next_index: checkpoint.next_index.get(),
        seq_floor: checkpoint.seq_floor.get(),
        sealed_through: checkpoint.sealed_through.get(),
        clean_log: clean.map_or(0, |clean| clean.log.get()),
        clean_end: clean.map_or(0, |clean| clean.end),
        clean_next_index: clean.map_or(0, |clean| clean.next_index.get()),
        flushed_logs: clean.map_or(Vec::new(), |clean| {
            clean.flushed_logs.iter().map(|range| (range.first.get(), range.last.get())).collect()
        }),
        config_fingerprint: checkpoint.config_fingerprint,
        flushed: checkpoint.flushed.iter().map(|(family, seq)| (family.get(), seq.get())).collect(),
        dropped: checkpoint.dropped.iter().map(|family| family.get()).collect(),
        holds: checkpoint.holds.iter().map(|(name, hold)| hold_item(name, hold)).collect(),
    }
}

fn hold_item(name: &str, hold: &Hold) -> naive::Hold {
    naive::Hold {
        name: name.to_owned(),
        from: hold.from.get(),
        to: hold.to.map(|seq| seq.get()),
        budget: hold.budget,
        since: hold.since_micros,
        lost: hold.lost,
    }
}
