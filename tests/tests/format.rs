//! The format rows of the acceptance matrix, at the level of `wal-format`'s public API.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: a panic is how they fail"
)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use wal_format::batch::{BatchError, BatchOps};
use wal_format::chunk::{self, ChunkFault, Digest};
use wal_format::header::{HeaderFault, Predecessor};
use wal_format::record::{self, RecordFault};
use wal_format::{ChunkType, Epoch, FamilyId, FileHeader, Index, LogNumber, LogSeed, Op, RecordKind, SeqNum};
use wal_format::{WalId, WriteBatch};
use wal_tests::allocations::{self, Tracking};
use wal_tests::golden;
use wal_tests::logs::{self, LogBuilder, WAL_ID, pattern};
use wal_tests::naive::{self, End, Item};

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

const LOG: LogNumber = LogNumber::new(1);

fn seed() -> LogSeed {
    LogSeed::new(WAL_ID, LOG)
}

/// A sealed log of four blocks: records whole and in first, middle and last parts, promises, and padding before one.
fn long_log() -> LogBuilder {
    let mut log = LogBuilder::new(1);
    log.record(b"a").fill_to(20).promise().record(&pattern(1, 2 * 32768)).record(b"c").promise().seal();
    log
}

/// The header chunk of `header`, with whatever versions it states.
fn header_chunk(header: &FileHeader) -> Vec<u8> {
    LogBuilder::with_header(header).bytes
}

fn plain_header() -> FileHeader {
    FileHeader::new(WAL_ID, LOG, Epoch::new(1), Index::FIRST, SeqNum::new(1))
}

#[test]
fn f1_f41_unknown_version_is_refused() {
    for (version, lowest_reader) in [(2, 2), (1, 2), (u16::MAX, u16::MAX), (0, 2)] {
        let bytes = header_chunk(&FileHeader { version, lowest_reader, ..plain_header() });
        let refused = HeaderFault::NewerFormat { version, lowest_reader };
        assert_eq!(FileHeader::decode(LOG, &bytes), Err(refused));
        assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &bytes).end, End::Newer(0));
        assert!(refused.to_string().contains("newer") || refused.to_string().contains("needs a reader"));
    }
}

#[test]
fn f1_newer_version_that_admits_this_reader_is_read() {
    let header = FileHeader { version: 9, lowest_reader: 1, ..plain_header() };
    let mut payload = header.encode();
    payload.extend_from_slice(b"fields of version 9");
    let mut log = LogBuilder::new(1);
    log.bytes.clear();
    log.encoder = wal_format::encode::LogEncoder::new(seed());
    log.raw(ChunkType::Header.to_byte(), &payload).record(b"readable");
    assert_eq!(FileHeader::decode(LOG, &log.bytes), Ok(header));
    let decoded = logs::decode(WAL_ID, LOG, &log.bytes);
    assert_eq!((decoded.items.len(), decoded.end), (2, End::Open(log.bytes.len() as u64)));
    assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &log.bytes), decoded);
}

#[test]
fn f1_what_contradicts_itself_is_no_header() {
    let none = Predecessor { log: LogNumber::new(0), end: 0, proven: 0, digest: 0 };
    let predecessors = [
        Predecessor { end: 1, ..none },
        Predecessor { digest: 1, ..none },
        Predecessor { log: LogNumber::new(5), ..none },
        Predecessor { log: LogNumber::new(7), ..none },
        Predecessor { log: LogNumber::new(3), end: 9, proven: 10, digest: 0 },
    ];
    let log = LogNumber::new(5);
    for predecessor in predecessors {
        let bytes = header_chunk(&FileHeader { log, predecessor: Some(predecessor), ..plain_header() });
        assert_eq!(FileHeader::decode(log, &bytes), Err(HeaderFault::NotAHeader), "{predecessor:?}");
        assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 5, &bytes).end, End::Fault(0), "{predecessor:?}");
    }
    let zero_index = header_chunk(&FileHeader { first_index: Index::new(0), ..plain_header() });
    assert_eq!(FileHeader::decode(LOG, &zero_index), Err(HeaderFault::NotAHeader));
    let log_zero = header_chunk(&FileHeader { log: LogNumber::new(0), ..plain_header() });
    assert_eq!(FileHeader::decode(LogNumber::new(0), &log_zero), Err(HeaderFault::NotAHeader));
}

proptest! {
    #[test]
    fn f1_header_fields_round_trip(
        version: u16, log in 2..=u64::MAX, wal_id: [u8; 16], epoch: u64, first_index in 1..=u64::MAX, seq_floor: u64,
        before in proptest::option::of((1..u64::MAX, any::<u64>(), any::<u64>(), any::<u32>())),
        config_fingerprint: u64, created_micros: u64,
    ) {
        let predecessor = before.map(|(before, end, proven, digest)| Predecessor {
            log: LogNumber::new(before % (log - 1) + 1), end: end.max(proven), proven: end.min(proven), digest,
        });
        let header = FileHeader {
            version, lowest_reader: 1, log: LogNumber::new(log), wal_id: WalId::from_bytes(wal_id),
            epoch: Epoch::new(epoch), first_index: Index::new(first_index), seq_floor: SeqNum::new(seq_floor),
            predecessor, config_fingerprint, created_micros,
        };
        let bytes = header_chunk(&header);
        prop_assert_eq!(FileHeader::decode(header.log, &bytes), Ok(header));
        prop_assert_eq!(naive::decode_log(wal_id, log, &bytes).items, vec![logs::header_item(&header)]);
        // Under another name it is told apart, not damaged.
        let expected = LogNumber::new(log - 1);
        prop_assert_eq!(
            FileHeader::decode(expected, &bytes),
            Err(HeaderFault::OtherLog { expected, found: header.log, wal_id: header.wal_id })
        );
    }
}

#[test]
fn f2_any_header_bit_flip_is_detected() {
    let mut header = plain_header();
    header.log = LogNumber::new(77);
    header.predecessor =
        Some(Predecessor { log: LogNumber::new(76), end: 500, proven: 400, digest: 0x1234_5678 });
    let whole = header_chunk(&header);
    assert_eq!(FileHeader::decode(header.log, &whole), Ok(header));
    for bit in 0..whole.len() * 8 {
        let flipped = with_flip(&whole, bit);
        let fault = FileHeader::decode(header.log, &flipped).unwrap_err();
        assert!(matches!(fault, HeaderFault::Chunk(_)), "bit {bit}: {fault}");
        assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 77, &flipped).end, End::Fault(0), "bit {bit}");
    }
    for cut in 0..whole.len() {
        assert!(
            matches!(FileHeader::decode(header.log, &whole[..cut]), Err(HeaderFault::Chunk(_))),
            "cut {cut}"
        );
    }
}

#[test]
fn f3_known_vectors() {
    assert_eq!(naive::crc32(&[b"123456789"]), 0xcbf4_3926);
    // The digest hashes four given bytes at a time, so the published value for "12345678" pins the algorithm in wal-format.
    let digest = Digest::default()
        .with(ChunkType::Full, u32::from_le_bytes(*b"1234"))
        .with(ChunkType::Last, u32::from_le_bytes(*b"5678"));
    assert_eq!(digest.get(), 0x9ae0_daaf);
    assert_eq!(naive::crc32(&[b"12345678"]), 0x9ae0_daaf);
    // A chunk, byte by byte. Its checksum was computed with Python's zlib.crc32 over id, log 1, offset 0, length, type, payload.
    let mut bytes = Vec::new();
    wal_format::encode::LogEncoder::new(seed()).raw_chunk(&mut bytes, 1, b"123456789");
    assert_eq!(bytes[..7], [0x9f, 0x01, 0x59, 0xf9, 9, 0, 1]);
    assert_eq!(bytes[7..], *b"123456789");
}

#[test]
fn f3_any_record_bit_flip_is_detected() {
    let log = long_log();
    assert_eq!(log.bytes.len() / 32768, 3, "it spans blocks");
    let whole = logs::decode(WAL_ID, LOG, &log.bytes);
    assert_eq!((&whole.items, whole.end), (&log.items, End::Sealed(log.bytes.len() as u64)));
    let mut file = log.bytes.clone();
    for at in 0..file.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            let read = logs::decode(WAL_ID, LOG, &file);
            file[at] ^= 1 << bit;
            let End::Fault(stop) = read.end else { panic!("byte {at}, bit {bit}: {:?}", read.end) };
            assert!(stop <= at as u64, "byte {at}, bit {bit}: noticed only at {stop}");
            assert!(log.items.starts_with(&read.items), "byte {at}, bit {bit}: other content");
            assert!(read.items.len() < log.items.len(), "byte {at}, bit {bit}: all of it");
        }
    }
}

#[test]
fn f4_length_type_and_seq_are_covered() {
    let mut log = LogBuilder::new(1);
    log.next_seq = 1 << 40;
    log.record(b"payload").promise().record(&pattern(1, 300)).seal();
    let starts: Vec<usize> = chunk_starts(&log.bytes);
    assert_eq!(starts.len(), 5);
    for start in starts {
        // Checksum, length and type, and behind them flags, kind, index, first sequence number and count.
        for bit in start * 8..(start + 7 + 12) * 8 {
            let flipped = with_flip(&log.bytes, bit);
            let (fault, seen) =
                allocations::of(|| chunk::decode(&seed(), start as u64, &flipped[start..]).unwrap_err());
            let typed = matches!(
                fault,
                ChunkFault::Checksum { .. } | ChunkFault::Length { .. } | ChunkFault::Truncated
            );
            assert!(typed, "chunk at {start}, bit {bit}: {fault}");
            assert_eq!(seen.count, 0, "chunk at {start}, bit {bit}: allocated before the check");
        }
    }
}

#[test]
fn f5_a_chunk_is_bound_to_its_place() {
    let mut log = LogBuilder::new(1);
    log.record(b"bound").promise();
    let (start, length) = (chunk_starts(&log.bytes)[1], 18);
    let bytes = &log.bytes[start..start + length];
    assert!(chunk::decode(&seed(), start as u64, bytes).is_ok());
    let rejected = |seed: LogSeed, offset: u64, what: &str| {
        let fault = chunk::decode(&seed, offset, bytes).unwrap_err();
        assert!(matches!(fault, ChunkFault::Checksum { .. }), "{what}: {fault}");
    };
    for distance in (1..2000).chain([32768, 65536, 1 << 31, 1 << 32, 1 << 62]) {
        let offset = start as u64 + distance;
        if chunk::room_in_block(offset) >= length {
            rejected(seed(), offset, "copied to another offset");
        }
    }
    for other in (0..200).chain([1 << 8, 1 << 32, u64::MAX]).filter(|other| *other != 1) {
        rejected(LogSeed::new(WAL_ID, LogNumber::new(other)), start as u64, "copied to another log");
    }
    for bit in 0..128 {
        let mut id = *WAL_ID.as_bytes();
        id[bit / 8] ^= 1 << (bit % 8);
        rejected(LogSeed::new(WalId::from_bytes(id), LOG), start as u64, "copied from another WAL");
    }
}

#[test]
fn f5_recycled_bytes_behind_the_end_are_never_read() {
    // The file of log 1 is used again as log 2: its new chunks end exactly where an old one begins.
    let (mut old, mut new) = (LogBuilder::new(1), LogBuilder::new(2));
    old.record(b"same length").record(b"old content").seal();
    new.record(b"new content");
    let end = new.bytes.len();
    let mut file = old.bytes.clone();
    file[..end].copy_from_slice(&new.bytes);
    let read = logs::decode(WAL_ID, LogNumber::new(2), &file);
    assert_eq!((read.items, read.end), (new.items.clone(), End::Fault(end as u64)));
    assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 2, &file).end, End::Fault(end as u64));
}

#[test]
fn f6_kinds_round_trip_zero_refused() {
    assert!(RecordKind::new(0).is_err());
    for kind in 0xf000..=u16::MAX {
        assert!(RecordKind::new(kind).is_err(), "{kind:#x} is not the engine's");
    }
    for kind in (1..=RecordKind::ENGINE_MAX).chain([RecordKind::BATCH.get(), RecordKind::MARK.get()]) {
        let mut log = LogBuilder::new(1);
        let next = log.next(b"x");
        log.append(naive::Record { kind, ..next });
        assert_eq!(logs::decode(WAL_ID, LOG, &log.bytes).items, log.items, "{kind:#x}");
    }
    for kind in [0_u16].into_iter().chain(0xf002..=u16::MAX) {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[1, 1, 1, b'x']);
        let fault = record::decode(&bytes).unwrap_err();
        assert_eq!(fault, RecordFault::Kind { kind });
        assert_eq!(fault.is_newer_format(), kind != 0, "{kind:#x}");
        let mut log = LogBuilder::new(1);
        let at = log.bytes.len() as u64;
        log.raw(ChunkType::Full.to_byte(), &bytes);
        let end = naive::decode_log(*WAL_ID.as_bytes(), 1, &log.bytes).end;
        assert_eq!(end, if kind == 0 { End::Fault(at) } else { End::Newer(at) }, "{kind:#x}");
    }
}

proptest! {
    #[test]
    fn f7_every_record_carries_its_sequence_numbers_and_index(
        mut steps in proptest::collection::vec((1..1000_u64, 1..5000_u32, 1..40_usize), 1..40),
        floor in 0..u64::MAX / 2,
    ) {
        let mut header = plain_header();
        header.seq_floor = SeqNum::new(floor);
        let mut log = LogBuilder::with_header(&header);
        let mut expected = Vec::new();
        for (gap, count, length) in steps.drain(..) {
            let next = log.next(&pattern(length, length));
            let first_seq = next.first_seq + gap;
            expected.push((next.index, first_seq, count));
            log.append(naive::Record { first_seq, count, ..next });
        }
        let read = logs::decode(WAL_ID, LOG, &log.bytes);
        let records = read.items.iter().filter_map(|item| match item {
            Item::Record(_, record) => Some((record.index, record.first_seq, record.count)),
            _ => None,
        });
        prop_assert_eq!(records.collect::<Vec<_>>(), expected);
        prop_assert_eq!(naive::audit(&read), Ok(()));
    }
}

#[test]
fn f8_batch_all_or_nothing_at_every_truncation() {
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"one", &pattern(1, 200)).unwrap();
    batch.delete(FamilyId::new(9), b"two").unwrap();
    batch.merge(FamilyId::MAX, b"three", &pattern(3, 150)).unwrap();
    batch.delete_range(FamilyId::DEFAULT, b"", b"z").unwrap();
    let mut log = LogBuilder::new(1);
    // Over the end of a block, so that the cut goes through several chunks.
    log.record(b"before").fill_to(100);
    let start = log.bytes.len();
    log.batch(&batch);
    let before = &log.items[..log.items.len() - 1];
    for cut in start..log.bytes.len() {
        let zeroed = |file: &[u8]| [file, &vec![0; log.bytes.len() - cut]].concat();
        // Cut short, as after the death of a process; and with zeros behind the cut, as in preallocated space.
        for file in [log.bytes[..cut].to_vec(), zeroed(&log.bytes[..cut])] {
            let read = logs::decode(WAL_ID, LOG, &file);
            assert_eq!(read.items, before, "cut at {cut}");
            let clean = if cut == start { End::Open(cut as u64) } else { End::Fault(start as u64) };
            assert_eq!(read.end, clean, "cut at {cut}");
            assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &file), read, "cut at {cut}");
        }
    }
    let whole = logs::decode(WAL_ID, LOG, &log.bytes);
    assert_eq!(whole.items, log.items);
    let Some(Item::Record(_, record)) = whole.items.last() else { panic!("a record") };
    let ops: Vec<_> = BatchOps::new(&record.payload).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(ops, batch.ops().collect::<Result<Vec<_>, _>>().unwrap());
    // Even without checksums, a batch that lacks its end is not taken for a shorter one.
    for cut in 0..batch.as_bytes().len() {
        let read = BatchOps::new(&batch.as_bytes()[..cut]).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        assert!(matches!(read, Err(BatchError::Malformed { .. })), "cut at {cut}: {read:?}");
    }
}

#[test]
fn f8_a_batch_takes_nothing_that_it_refuses() {
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"k", b"v").unwrap();
    for id in 1..1024 {
        batch.delete(FamilyId::new(id * 5), b"k").unwrap();
    }
    let before = batch.clone();
    let above = FamilyId::new(FamilyId::MAX.get() + 1);
    assert_eq!(batch.put(above, b"k", b"v"), Err(BatchError::Family(above)));
    assert_eq!(batch.put(FamilyId::new(1), b"k", b"v"), Err(BatchError::TooManyFamilies));
    let huge = vec![1; wal_format::PAYLOAD_BYTES_MAX];
    assert_eq!(batch.merge(FamilyId::new(5), b"k", &huge), Err(BatchError::TooLarge));
    assert_eq!(batch, before);
    assert_eq!((batch.count(), batch.families().len()), (1024, 1024));
    batch.clear();
    assert_eq!(batch, WriteBatch::new());
}

proptest! {
    #[test]
    fn f8_batches_round_trip(
        ops in proptest::collection::vec((1..=4_u8, 0..=0x00ff_ffff_u32, any::<Vec<u8>>(), any::<Vec<u8>>()), 0..30)
    ) {
        let mut batch = WriteBatch::new();
        let mut expected = Vec::new();
        for (tag, family, key, value) in &ops {
            let family = FamilyId::new(*family);
            let (added, op) = match tag {
                1 => (batch.put(family, key, value), Op::Put { family, key, value }),
                2 => (batch.delete(family, key), Op::Delete { family, key }),
                3 => (batch.merge(family, key, value), Op::Merge { family, key, operand: value }),
                _ => (batch.delete_range(family, key, value), Op::DeleteRange { family, start: key, end: value }),
            };
            prop_assert_eq!(added, Ok(()));
            expected.push(op);
        }
        let read: Result<Vec<_>, _> = BatchOps::new(batch.as_bytes()).unwrap().collect();
        prop_assert_eq!(read.as_ref(), Ok(&expected));
        let families: BTreeSet<_> = expected.iter().map(Op::family).collect();
        prop_assert_eq!(batch.families(), families.into_iter().collect::<Vec<_>>());
        // What stands behind the last operation is not ignored.
        let longer = [batch.as_bytes(), &[0]].concat();
        prop_assert!(BatchOps::new(&longer).unwrap().any(|op| op.is_err()));
    }
}

#[test]
fn f10_unknown_flags_and_operations_are_a_newer_format() {
    for flag in [32, 64, 128] {
        for known in 0..32 {
            let bytes = [known | flag, 1, 0, 1, 1, 1, b'x'];
            assert_eq!(record::decode(&bytes), Err(RecordFault::UnknownFlags { flags: known | flag }));
        }
        assert!(RecordFault::UnknownFlags { flags: flag }.is_newer_format());
    }
    let first = |tag: u8| BatchOps::new(&[1, 0, 0, 0, tag, 0, 0, 0]).unwrap().next().unwrap().unwrap_err();
    assert_eq!(first(0), BatchError::Malformed { at: 4 });
    for tag in 5..=u8::MAX {
        assert_eq!(first(tag), BatchError::UnknownOperation { tag });
    }
}

#[test]
fn f10_one_meaning_has_one_encoding() {
    let faults: [(&[u8], RecordFault); 10] = [
        (&[0, 1, 0, 0, 1, 1, b'x'], RecordFault::Envelope),
        (&[0, 1, 0, 0x81, 0, 1, 1, b'x'], RecordFault::Envelope),
        (&[0, 1, 0, 1, 1, 0, b'x'], RecordFault::Sequence),
        (&[1, 1, 0, 1, 1, 1, 0, b'x'], RecordFault::Families),
        (&[1, 1, 0, 1, 1, 1, 1, 0, b'x'], RecordFault::Families),
        (&[1, 1, 0, 1, 1, 1, 2, 5, 5, b'x'], RecordFault::Families),
        (&[1, 1, 0, 1, 1, 1, 2, 5, 4, b'x'], RecordFault::Families),
        (&[1, 1, 0, 1, 1, 1, 1, 0x80, 0x80, 0x80, 0x08, b'x'], RecordFault::Families),
        (&[2, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], RecordFault::Envelope),
        (&[0, 1, 0, 1, 1, 1], RecordFault::Payload { bytes: 0 }),
    ];
    for (bytes, fault) in faults {
        assert_eq!(record::decode(bytes), Err(fault), "{bytes:?}");
        let mut log = LogBuilder::new(1);
        let at = log.bytes.len() as u64;
        log.raw(ChunkType::Full.to_byte(), bytes);
        assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &log.bytes).end, End::Fault(at), "{bytes:?}");
    }
}

#[test]
fn p5_any_flip_in_a_seal_is_detected() {
    let log = golden::small();
    let seal = log.bytes.len() - 43;
    for bit in seal * 8..log.bytes.len() * 8 {
        let flipped = with_flip(&log.bytes, bit);
        let read = logs::decode(WAL_ID, LOG, &flipped);
        assert_eq!(read.end, End::Fault(seal as u64), "bit {bit}");
        assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &flipped), read, "bit {bit}");
    }
    for behind in 1..100 {
        let mut longer = log.bytes.clone();
        longer.resize(log.bytes.len() + 100, 0);
        assert_eq!(logs::decode(WAL_ID, LOG, &longer).end, End::Sealed(log.bytes.len() as u64));
        longer[log.bytes.len() + behind] = 1;
        assert_eq!(logs::decode(WAL_ID, LOG, &longer).end, End::Fault(log.bytes.len() as u64));
    }
}

#[test]
fn p6_ignorable_chunks_are_skipped_and_others_refused() {
    for kind in 128..=u8::MAX {
        let mut log = LogBuilder::new(1);
        log.record(b"before").raw(kind, b"of a newer version").record(b"behind").promise().seal();
        let read = logs::decode(WAL_ID, LOG, &log.bytes);
        assert_eq!((&read.items, read.end), (&log.items, End::Sealed(log.bytes.len() as u64)), "type {kind}");
        assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &log.bytes), read, "type {kind}");
        assert_eq!(naive::audit(&read), Ok(()), "an ignorable chunk is outside of the digest");
    }
    for kind in [0].into_iter().chain(8..128) {
        let mut log = LogBuilder::new(1);
        log.record(b"before");
        let at = log.bytes.len() as u64;
        log.raw(kind, b"of a newer version").record(b"behind");
        let fault = chunk::decode(&seed(), at, &log.bytes[usize::try_from(at).unwrap()..]);
        assert_eq!(fault, Err(ChunkFault::UnknownType { type_byte: kind }));
        let read = logs::decode(WAL_ID, LOG, &log.bytes);
        assert_eq!((read.items.len(), read.end), (2, End::Newer(at)), "type {kind}");
        assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &log.bytes), read, "type {kind}");
    }
}

#[test]
fn p6_an_ignorable_chunk_may_stand_between_the_parts_of_a_record() {
    let mut log = LogBuilder::new(1);
    let bytes = [0, 1, 0, 1, 1, 1, b'a', b'b'];
    log.raw(ChunkType::First.to_byte(), &bytes[..4])
        .raw(200, b"skip me")
        .raw(ChunkType::Last.to_byte(), &bytes[4..]);
    let read = logs::decode(WAL_ID, LOG, &log.bytes);
    assert!(
        matches!(&read.items[..], [_, Item::Ignorable { .. }, Item::Record(_, record)] if record.payload == b"ab")
    );
    assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &log.bytes), read);
    // If the record is none in the end, the log ends at its first part, and what stood between goes with it.
    let mut log = LogBuilder::new(1);
    let start = log.bytes.len() as u64;
    log.raw(ChunkType::First.to_byte(), b"\0").raw(200, b"skip me").raw(ChunkType::Last.to_byte(), b"\0");
    let read = logs::decode(WAL_ID, LOG, &log.bytes);
    assert_eq!((read.items.len(), read.end), (1, End::Fault(start)));
    assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &log.bytes), read);
}

#[test]
fn p7_f38_zeroed_ranges_are_never_a_clean_log() {
    let log = long_log();
    for range in [512, 4096, 32768] {
        for start in (0..log.bytes.len()).step_by(range) {
            let mut file = log.bytes.clone();
            let end = (start + range).min(file.len());
            file[start..end].fill(0);
            let read = logs::decode(WAL_ID, LOG, &file);
            assert!(log.items.starts_with(&read.items), "{range} zeros at {start}: other content");
            let cut = end == file.len() && matches!(read.end, End::Open(_));
            assert!(cut || matches!(read.end, End::Fault(_)), "{range} zeros at {start}: {:?}", read.end);
            assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), 1, &file), read, "{range} zeros at {start}");
        }
    }
}

#[test]
fn f9_every_block_starts_with_a_chunk() {
    for log in [long_log(), golden::blocks()] {
        let number = if log.items == long_log().items { 1 } else { 2 };
        let seed = LogSeed::new(WAL_ID, LogNumber::new(number));
        for block in (0..log.bytes.len()).step_by(wal_format::BLOCK_BYTES) {
            assert!(chunk::decode(&seed, block as u64, &log.bytes[block..]).is_ok(), "block at {block}");
        }
    }
}

#[test]
fn f9_padding_is_zeros_and_only_where_nothing_fits() {
    for room in 1..60 {
        let mut log = LogBuilder::new(1);
        log.fill_to(room).record(b"data").promise();
        let end = 32768 - room;
        let padded = chunk_starts(&log.bytes)[2] == 32768;
        assert_eq!(padded, room < 8, "room {room}");
        let mut log = LogBuilder::new(1);
        log.fill_to(room).promise().record(b"data");
        let promise_padded = chunk_starts(&log.bytes)[2] == 32768;
        assert_eq!(promise_padded, room < 23, "room {room}");
        assert_eq!(logs::decode(WAL_ID, LOG, &log.bytes).items, log.items, "room {room}");
        if promise_padded {
            for bit in end * 8..32768 * 8 {
                let flipped = with_flip(&log.bytes, bit);
                let read = logs::decode(WAL_ID, LOG, &flipped);
                assert_eq!(read.end, End::Fault(end as u64), "room {room}, bit {bit}");
                let fault = chunk::decode(&seed(), end as u64, &flipped[end..32768]).unwrap_err();
                assert!(room >= 8 || fault == ChunkFault::Padding, "room {room}, bit {bit}: {fault}");
            }
        }
    }
    // Eight zeros or more before data are damage: a record was there.
    let mut log = LogBuilder::new(1);
    log.fill_to(20).record(b"lost").record(b"in the next block");
    let mut file = log.bytes.clone();
    file[32768 - 20..32768].fill(0);
    for decoded in [logs::decode(WAL_ID, LOG, &file), naive::decode_log(*WAL_ID.as_bytes(), 1, &file)] {
        assert_eq!(decoded.end, End::Fault(32768 - 20));
    }
}

fn with_flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// Where the chunks of log 1 begin.
fn chunk_starts(file: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (Vec::new(), 0);
    while at < file.len() {
        match chunk::decode(&seed(), at as u64, &file[at..]) {
            Ok(chunk) => {
                starts.push(at);
                at += chunk.length();
            }
            Err(_) => at = (at + 1).next_multiple_of(32768),
        }
    }
    starts
}
