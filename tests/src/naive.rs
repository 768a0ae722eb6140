//! A second decoder, written from `docs/format.md` alone (T2).
//!
//! It shares no code with `wal-format` and takes the slow, obvious way everywhere: a checksum bit by bit, whole files, plain numbers.

/// One thing that a log holds, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The header.
    Header(Header),
    /// A record, with the offset of its first chunk.
    Record(u64, Record),
    /// A promise, with its own offset.
    Promise {
        /// Where the chunk stands.
        offset: u64,
        /// What it says is durable.
        durable_end: u64,
        /// First index that it does not cover.
        next_index: u64,
    },
    /// The seal, with its own offset.
    Seal {
        /// Where the chunk stands.
        offset: u64,
        /// How many records.
        records: u64,
        /// Index after the last.
        next_index: u64,
        /// Lowest sequence number, 0 if there are no records.
        first_seq: u64,
        /// Highest sequence number, 0 if there are no records.
        last_seq: u64,
        /// The digest it states.
        digest: u32,
    },
    /// A chunk of a newer version that may be skipped.
    Ignorable {
        /// Where the chunk stands.
        offset: u64,
        /// Its type.
        kind: u8,
    },
}

/// The header's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in docs/format.md")]
pub struct Header {
    pub version: u16,
    pub lowest_reader: u16,
    pub log: u64,
    pub wal_id: [u8; 16],
    pub epoch: u64,
    pub first_index: u64,
    pub seq_floor: u64,
    pub predecessor: u64,
    pub predecessor_end: u64,
    pub predecessor_proven: u64,
    pub predecessor_digest: u32,
    pub config_fingerprint: u64,
    pub created_micros: u64,
}

/// A record's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in docs/format.md")]
pub struct Record {
    pub kind: u16,
    pub index: u64,
    pub first_seq: u64,
    pub count: u32,
    pub families: Vec<u32>,
    pub time_micros: Option<u64>,
    pub duplicate_key: Option<[u8; 16]>,
    pub codec: Option<u8>,
    pub key_id: Option<u32>,
    pub payload: Vec<u8>,
}

/// What became of a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What was read before the end.
    pub items: Vec<Item>,
    /// How it ended.
    pub end: End,
    /// CRC-32 over the checksums of the header and of the data chunks read.
    pub digest: u32,
    /// Where each valid chunk of a known or ignorable type ended.
    pub chunk_ends: Vec<u64>,
}

/// How a log ended, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a seal and nothing but zeros behind it; the offset is that of the byte after the seal.
    Sealed(u64),
    /// With the file, or with zeros to the end of the file.
    Open(u64),
    /// Bytes that break a rule.
    Fault(u64),
    /// Bytes that a newer version must read.
    Newer(u64),
}

/// The fields of a slot of CHECKPOINT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in docs/format.md")]
pub struct Checkpoint {
    pub version: u64,
    pub wal_id: [u8; 16],
    pub epoch: u64,
    pub highest: u64,
    pub lowest: u64,
    pub active: u64,
    pub next_index: u64,
    pub seq_floor: u64,
    pub sealed_through: u64,
    pub clean_log: u64,
    pub clean_end: u64,
    pub clean_next_index: u64,
    pub flushed_logs: Vec<(u64, u64)>,
    pub config_fingerprint: u64,
    pub flushed: Vec<(u32, u64)>,
    /// The families among them that were dropped.
    pub dropped: Vec<u32>,
    pub holds: Vec<Hold>,
}

/// A hold in CHECKPOINT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in docs/format.md")]
pub struct Hold {
    pub name: String,
    pub from: u64,
    pub to: Option<u64>,
    pub budget: Option<u64>,
    pub since: u64,
    pub lost: bool,
}

const BLOCK: usize = 32768;

/// CRC-32, one bit after the other.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = 0xffff_ffff_u32;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Reads a whole log. The WAL id and the number are those that the directory and the file's name state.
pub fn decode_log(wal_id: [u8; 16], log: u64, file: &[u8]) -> Decoded {
    let mut reader =
        Reader { wal_id, log, file, crcs: Vec::new(), items: Vec::new(), chunk_ends: Vec::new() };
    let end = reader.run();
    Decoded { digest: crc32(&[&reader.crcs]), items: reader.items, end, chunk_ends: reader.chunk_ends }
}

/// Reads both slots of CHECKPOINT; `None` where a slot is not valid.
pub fn decode_checkpoint(file: &[u8]) -> [Option<Checkpoint>; 2] {
    let slot_a = file;
    let slot_b = file.get(65536..).unwrap_or(&[]);
    [decode_slot(b"slot A", slot_a), decode_slot(b"slot B", slot_b)]
}

/// Whether what a log says about itself is true: rules 4 to 6 of "A log".
///
/// # Errors
/// Names the first item that lies.
pub fn audit(decoded: &Decoded) -> Result<(), String> {
    let (mut first_index, mut next_index, mut next_seq) = (0, 0, 0);
    let (mut first_seq, mut last_seq) = (0, 0);
    let mut promised = (0, 0);
    // Where each record begins.
    let mut records = Vec::new();
    for item in &decoded.items {
        let holds = match item {
            Item::Header(header) => {
                (first_index, next_index, next_seq) =
                    (header.first_index, header.first_index, header.seq_floor);
                true
            }
            Item::Record(offset, record) => {
                let holds = record.index == next_index && record.first_seq >= next_seq;
                if records.is_empty() {
                    first_seq = record.first_seq;
                }
                last_seq = record.first_seq + u64::from(record.count) - 1;
                (next_index, next_seq) = (record.index.saturating_add(1), last_seq.saturating_add(1));
                records.push(*offset);
                holds
            }
            &Item::Promise { offset, durable_end, next_index } => {
                let covered = records.iter().filter(|start| **start < durable_end).count();
                let is_end = durable_end == 0 || decoded.chunk_ends.contains(&durable_end);
                let forward = durable_end >= promised.0 && next_index >= promised.1;
                promised = (durable_end, next_index);
                durable_end <= offset && is_end && forward && next_index == first_index + number_of(covered)
            }
            &Item::Seal {
                records: stated,
                next_index: index,
                first_seq: first,
                last_seq: last,
                digest,
                ..
            } => {
                (stated, index, first, last) == (number_of(records.len()), next_index, first_seq, last_seq)
                    && digest == decoded.digest
            }
            Item::Ignorable { .. } => true,
        };
        if !holds {
            return Err(format!("{item:?} is not true"));
        }
    }
    Ok(())
}

struct Reader<'a> {
    wal_id: [u8; 16],
    log: u64,
    file: &'a [u8],
    /// The checksums that the digest covers, as on disk.
    crcs: Vec<u8>,
    items: Vec<Item>,
    chunk_ends: Vec<u64>,
}

/// A valid chunk.
struct Chunk<'a> {
    kind: u8,
    crc: [u8; 4],
    payload: &'a [u8],
}

impl<'a> Reader<'a> {
    fn run(&mut self) -> End {
        let mut at = 0;
        // First chunk and bytes so far of a record that is not complete, and how many checksums stood before it.
        let mut partial: Option<(usize, Vec<u8>, usize)> = None;
        loop {
            let end_here = |partial: &Option<(usize, Vec<u8>, usize)>, at: usize| match partial {
                Some((start, ..)) => End::Fault(number_of(*start)),
                None => End::Open(number_of(at)),
            };
            let rest = &self.file[at.min(self.file.len())..];
            if zeros(rest) {
                let end = end_here(&partial, at.min(self.file.len()));
                self.forget(&partial);
                return end;
            }
            let room = BLOCK - at % BLOCK;
            let in_block = &rest[..room.min(rest.len())];
            if zeros(in_block) && (room < 8 || self.unbroken_chunk_follows(at + room, room)) {
                at += room;
                continue;
            }
            let start = partial.as_ref().map_or(at, |partial| partial.0);
            let Some(chunk) = self.chunk(at) else {
                self.forget(&partial);
                return End::Fault(number_of(start));
            };
            let length = 7 + chunk.payload.len();
            if matches!(chunk.kind, 1..=7 | 128..) {
                self.chunk_ends.push(number_of(at + length));
            }
            if (at == 0) != (chunk.kind == 5) && !matches!(chunk.kind, 0 | 8..=127) {
                self.forget(&partial);
                return End::Fault(number_of(start));
            }
            if matches!(chunk.kind, 1..=5) {
                self.crcs.extend_from_slice(&chunk.crc);
            }
            match (chunk.kind, &mut partial) {
                (1, None) => match record(chunk.payload) {
                    Ok(record) => self.items.push(Item::Record(number_of(at), record)),
                    Err(newer) => return self.bad_record(at, newer, 4),
                },
                (2, None) => partial = Some((at, chunk.payload.to_vec(), self.crcs.len() - 4)),
                (3, Some((_, bytes, _))) => bytes.extend_from_slice(chunk.payload),
                (4, Some((start, bytes, _))) => {
                    bytes.extend_from_slice(chunk.payload);
                    match record(bytes) {
                        Ok(record) => self.items.push(Item::Record(number_of(*start), record)),
                        Err(bad) => {
                            let start = *start;
                            self.forget(&partial);
                            return self.bad_record(start, bad, 0);
                        }
                    }
                    partial = None;
                }
                (5, None) => match header(self.wal_id, self.log, chunk.payload) {
                    Ok(header) => self.items.push(Item::Header(header)),
                    Err(newer) => return self.bad_record(at, newer, 4),
                },
                (6, None) if chunk.payload.len() == 16 && number(chunk.payload, 8, 8) > 0 => {
                    self.items.push(Item::Promise {
                        offset: number_of(at),
                        durable_end: number(chunk.payload, 0, 8),
                        next_index: number(chunk.payload, 8, 8),
                    });
                }
                (7, None) => {
                    let Some(seal) = seal(at, chunk.payload) else { return End::Fault(number_of(at)) };
                    self.items.push(seal);
                    let behind = at + length;
                    let end = if zeros(&self.file[behind..]) { End::Sealed } else { End::Fault };
                    return end(number_of(behind));
                }
                (128..=255, _) => {
                    self.items.push(Item::Ignorable { offset: number_of(at), kind: chunk.kind })
                }
                (0 | 8..=127, _) => {
                    self.forget(&partial);
                    return End::Newer(number_of(at));
                }
                _ => {
                    if matches!(chunk.kind, 1..=5) {
                        self.crcs.truncate(self.crcs.len() - 4);
                    }
                    self.forget(&partial);
                    return End::Fault(number_of(start));
                }
            }
            at += length;
        }
    }

    /// The record or header at `at` is not valid: its chunks' checksums do not count.
    fn bad_record(&mut self, at: usize, newer: Bad, crc_bytes: usize) -> End {
        self.crcs.truncate(self.crcs.len() - crc_bytes);
        match newer {
            Bad::Newer => End::Newer(number_of(at)),
            Bad::Fault => End::Fault(number_of(at)),
        }
    }

    /// The parts of a record that never ended are not part of the log, nor is what was skipped between them.
    fn forget(&mut self, partial: &Option<(usize, Vec<u8>, usize)>) {
        if let Some((start, _, before)) = partial {
            self.crcs.truncate(*before);
            let start = number_of(*start);
            self.items.retain(|item| !matches!(item, Item::Ignorable { offset, .. } if *offset > start));
        }
    }

    fn chunk(&self, at: usize) -> Option<Chunk<'a>> {
        let room = BLOCK - at % BLOCK;
        let head = self.file.get(at..at + 7)?;
        let length = usize::from(head[4]) + 256 * usize::from(head[5]);
        if room < 8 || length == 0 || length > room - 7 {
            return None;
        }
        let payload = self.file.get(at + 7..at + 7 + length)?;
        let crc = crc32(&[
            &self.wal_id,
            &self.log.to_le_bytes(),
            &number_of(at).to_le_bytes(),
            &head[4..6],
            &head[6..7],
            payload,
        ]);
        (crc.to_le_bytes() == head[..4]).then(|| Chunk {
            kind: head[6],
            crc: [head[0], head[1], head[2], head[3]],
            payload,
        })
    }

    /// Whether the block at `at` begins with a chunk that is never cut and had no room before it.
    fn unbroken_chunk_follows(&self, at: usize, room: usize) -> bool {
        self.chunk(at)
            .is_some_and(|chunk| matches!(chunk.kind, 6 | 7 | 128..) && 7 + chunk.payload.len() > room)
    }
}

/// Why a payload with a right checksum is not what its chunk's type says.
enum Bad {
    Fault,
    Newer,
}

fn header(wal_id: [u8; 16], log: u64, bytes: &[u8]) -> Result<Header, Bad> {
    if bytes.len() < 12 || bytes[..8] != [0x89, 0x57, 0x41, 0x4c, 0x0d, 0x0a, 0x1a, 0x0a] {
        return Err(Bad::Fault);
    }
    let version = |at: usize| u16::from(bytes[at]) + 256 * u16::from(bytes[at + 1]);
    if version(10) > 1 {
        return Err(Bad::Newer);
    }
    if bytes.len() < 104 {
        return Err(Bad::Fault);
    }
    let header = Header {
        version: version(8),
        lowest_reader: version(10),
        log: number(bytes, 12, 8),
        wal_id: bytes[20..36].try_into().unwrap(),
        epoch: number(bytes, 36, 8),
        first_index: number(bytes, 44, 8),
        seq_floor: number(bytes, 52, 8),
        predecessor: number(bytes, 60, 8),
        predecessor_end: number(bytes, 68, 8),
        predecessor_proven: number(bytes, 76, 8),
        predecessor_digest: number32(bytes, 84),
        config_fingerprint: number(bytes, 88, 8),
        created_micros: number(bytes, 96, 8),
    };
    let nothing_before =
        header.predecessor_end == 0 && header.predecessor_proven == 0 && header.predecessor_digest == 0;
    let valid = header.log == log
        && log != 0
        && header.wal_id == wal_id
        && header.first_index != 0
        && header.predecessor < log
        && (header.predecessor != 0 || nothing_before)
        && header.predecessor_proven <= header.predecessor_end;
    if valid { Ok(header) } else { Err(Bad::Fault) }
}

fn seal(at: usize, bytes: &[u8]) -> Option<Item> {
    if bytes.len() != 36 {
        return None;
    }
    let (records, next_index) = (number(bytes, 0, 8), number(bytes, 8, 8));
    let (first_seq, last_seq) = (number(bytes, 16, 8), number(bytes, 24, 8));
    let seqs_valid = match records {
        0 => first_seq == 0 && last_seq == 0,
        _ => first_seq <= last_seq && u128::from(last_seq - first_seq) + 1 >= u128::from(records),
    };
    (next_index > records && seqs_valid).then(|| Item::Seal {
        offset: number_of(at),
        records,
        next_index,
        first_seq,
        last_seq,
        digest: number32(bytes, 32),
    })
}

fn record(bytes: &[u8]) -> Result<Record, Bad> {
    let mut cursor = Cursor { bytes, at: 0 };
    let flags = cursor.take(1).ok_or(Bad::Fault)?[0];
    if flags >= 32 {
        return Err(Bad::Newer);
    }
    let kind = cursor.take(2).map(|kind| u16::from(kind[0]) + 256 * u16::from(kind[1])).ok_or(Bad::Fault)?;
    if kind > 0xf001 {
        return Err(Bad::Newer);
    }
    cursor.record(flags, kind).ok_or(Bad::Fault)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let (mut value, mut weight) = (0_u128, 1_u128);
        for position in 0..10 {
            let byte = self.take(1)?[0];
            value += u128::from(byte % 128) * weight;
            weight *= 128;
            if byte < 128 {
                return if byte == 0 && position > 0 { None } else { u64::try_from(value).ok() };
            }
        }
        None
    }

    fn record(&mut self, flags: u8, kind: u16) -> Option<Record> {
        let mut record = Record {
            kind,
            index: self.varint()?,
            first_seq: self.varint()?,
            count: u32::try_from(self.varint()?).ok()?,
            families: vec![0],
            ..Record::default()
        };
        if kind == 0 || record.index == 0 || record.count == 0 {
            return None;
        }
        record.first_seq.checked_add(u64::from(record.count) - 1)?;
        if flags & 1 != 0 {
            let families = self.varint()?;
            if families == 0 || families > 1024 {
                return None;
            }
            record.families.clear();
            for _ in 0..families {
                record.families.push(u32::try_from(self.varint()?).ok()?);
            }
            let ascending = record.families.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || record.families.iter().any(|family| *family >= 1 << 24) || record.families == [0]
            {
                return None;
            }
        }
        if flags & 2 != 0 {
            record.time_micros = Some(number(self.take(8)?, 0, 8));
        }
        if flags & 4 != 0 {
            record.duplicate_key = Some(self.take(16)?.try_into().ok()?);
        }
        if flags & 8 != 0 {
            record.codec = Some(self.take(1)?[0]);
        }
        if flags & 16 != 0 {
            record.key_id = Some(number32(self.take(4)?, 0));
        }
        record.payload = self.bytes[self.at..].to_vec();
        (!record.payload.is_empty() && record.payload.len() <= 134_217_728).then_some(record)
    }
}

fn decode_slot(seed: &[u8], bytes: &[u8]) -> Option<Checkpoint> {
    if bytes.len() < 136 {
        return None;
    }
    let length = usize::try_from(number32(bytes, 4)).ok()?;
    if !(136..=65536).contains(&length) || bytes.len() < length {
        return None;
    }
    let right = crc32(&[seed, &bytes[4..length]]) == number32(bytes, 0)
        && bytes[8..16] == [0x89, 0x57, 0x41, 0x4c, 0x43, 0x4b, 0x1a, 0x0a]
        && number(bytes, 18, 2) <= 1;
    if !right {
        return None;
    }
    let families = usize::try_from(number32(bytes, 132)).ok()?;
    if families > 4096 || 136 + 12 * families > length {
        return None;
    }
    let numbers: Vec<u32> = (0..families).map(|i| number32(bytes, 136 + 12 * i)).collect();
    let flushed: Vec<(u32, u64)> =
        (0..families).map(|i| (numbers[i] % (1 << 31), number(bytes, 140 + 12 * i, 8))).collect();
    let dropped: Vec<u32> =
        numbers.iter().filter(|number| **number >> 31 == 1).map(|number| number % (1 << 31)).collect();
    let (holds, behind) = decode_holds(&bytes[136 + 12 * families..length])?;
    let clean_log = number(bytes, 100, 8);
    let flushed_logs = if clean_log == 0 { Vec::new() } else { decode_flushed_logs(behind, clean_log)? };
    let checkpoint = Checkpoint {
        version: number(bytes, 20, 8),
        wal_id: bytes[28..44].try_into().ok()?,
        epoch: number(bytes, 44, 8),
        highest: number(bytes, 52, 8),
        lowest: number(bytes, 60, 8),
        active: number(bytes, 68, 8),
        next_index: number(bytes, 76, 8),
        seq_floor: number(bytes, 84, 8),
        sealed_through: number(bytes, 92, 8),
        clean_log,
        clean_end: number(bytes, 108, 8),
        clean_next_index: number(bytes, 116, 8),
        flushed_logs,
        config_fingerprint: number(bytes, 124, 8),
        flushed,
        dropped,
        holds,
    };
    let valid = checkpoint.lowest != 0
        && checkpoint.next_index != 0
        && checkpoint.active <= checkpoint.highest
        && checkpoint.sealed_through <= checkpoint.highest
        && (checkpoint.clean_log != 0 || (checkpoint.clean_end, checkpoint.clean_next_index) == (0, 0))
        && checkpoint.flushed.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && checkpoint.flushed.iter().all(|(family, _)| *family < 1 << 24);
    valid.then_some(checkpoint)
}

/// The holds, and what stands behind them.
fn decode_holds(bytes: &[u8]) -> Option<(Vec<Hold>, &[u8])> {
    if bytes.is_empty() {
        return Some((Vec::new(), bytes));
    }
    if bytes.len() < 4 || number32(bytes, 0) > 64 {
        return None;
    }
    let (mut holds, mut at) = (Vec::<Hold>::new(), 4);
    for _ in 0..number32(bytes, 0) {
        if bytes.len() < at + 2 {
            return None;
        }
        let (flags, length) = (bytes[at], usize::from(bytes[at + 1]));
        at += 2;
        if flags > 7 || length == 0 || length > 64 || bytes.len() < at + length + 32 {
            return None;
        }
        let name = String::from_utf8(bytes[at..at + length].to_vec()).ok()?;
        at += length;
        let (from, to, budget) = (number(bytes, at, 8), number(bytes, at + 8, 8), number(bytes, at + 16, 8));
        let since = number(bytes, at + 24, 8);
        at += 32;
        let absent = (flags & 1 != 0 || to == 0) && (flags & 2 != 0 || budget == 0);
        let in_order = holds.last().is_none_or(|before| before.name < name) && (flags & 1 == 0 || from <= to);
        if !absent || !in_order || name.chars().any(char::is_control) {
            return None;
        }
        let (to, budget) = ((flags & 1 != 0).then_some(to), (flags & 2 != 0).then_some(budget));
        holds.push(Hold { name, from, to, budget, since, lost: flags & 4 != 0 });
    }
    Some((holds, &bytes[at..]))
}

/// First and last number of each range.
fn decode_flushed_logs(bytes: &[u8], clean_log: u64) -> Option<Vec<(u64, u64)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let count = if bytes.len() < 4 { 513 } else { number32(bytes, 0) as usize };
    if count > 512 || bytes.len() < 4 + 16 * count {
        return None;
    }
    let range = |i| (number(bytes, 4 + 16 * i, 8), number(bytes, 12 + 16 * i, 8));
    let ranges: Vec<(u64, u64)> = (0..count).map(range).collect();
    let right = ranges.iter().all(|&(first, last)| 0 < first && first <= last && last <= clean_log)
        && ranges.windows(2).all(|pair| pair[1].0 > pair[0].1 && pair[1].0 - pair[0].1 > 1);
    right.then_some(ranges)
}

/// `length` little-endian bytes at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |value, byte| value * 256 + u64::from(*byte))
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::try_from(number(bytes, at, 4)).unwrap()
}

fn zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn number_of(at: usize) -> u64 {
    u64::try_from(at).unwrap()
}
