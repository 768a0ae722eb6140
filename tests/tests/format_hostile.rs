//! Bytes that no writer wrote: no panic, no allocation from an unchecked number, no wrap (V9, V14, Z2).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: a panic is how they fail"
)]

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use wal_format::batch::{BatchError, BatchOps};
use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot, SlotFault};
use wal_format::chunk::{self, ChunkFault, HEADER_BYTES};
use wal_format::control::{Promise, Seal};
use wal_format::encode::LogEncoder;
use wal_format::header::Predecessor;
use wal_format::record::{self, Head, RecordFault};
use wal_format::{
    BLOCK_BYTES, Epoch, FamilyId, FileHeader, Index, LogNumber, LogSeed, PAYLOAD_BYTES_MAX, RECORD_BYTES_MAX,
    RECORD_FAMILIES_MAX, RecordKind, SeqNum, SeqRange,
};
use wal_tests::allocations::{self, Tracking};
use wal_tests::fuzz::decode_at;
use wal_tests::golden;
use wal_tests::logs::{self, LogBuilder, WAL_ID};
use wal_tests::naive::{self, End};

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

const LOG: LogNumber = LogNumber::new(1);
/// The largest number as a varint, and a number that needs more than 64 bits.
const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
const OVER: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];

fn seed() -> LogSeed {
    LogSeed::new(WAL_ID, LOG)
}

/// Runs `code`, which must not allocate.
fn frugal<T>(what: &str, code: impl FnOnce() -> T) -> T {
    let (value, seen) = allocations::of(code);
    assert_eq!(seen.count, 0, "{what}: allocated {seen:?}");
    value
}

#[test]
fn v9_the_tracker_sees_allocations() {
    let (_, seen) = allocations::of(|| vec![0_u8; 12_345]);
    assert_eq!((seen.count, seen.largest), (1, 12_345));
}

#[test]
fn v9_f39_f74_chunk_lengths_do_not_allocate() {
    for length in [0, 1, 0x7ff9, 0x7ffa, 0x8000, u16::MAX] {
        let mut bytes = vec![1, 2, 3, 4, 0, 0, 1, 9, 9];
        bytes[4..6].copy_from_slice(&length.to_le_bytes());
        let fault = frugal("chunk", || chunk::decode(&seed(), 0, &bytes).unwrap_err());
        let expected = match length {
            1 => matches!(fault, ChunkFault::Checksum { .. }),
            0x7ff9 => fault == ChunkFault::Truncated,
            _ => matches!(fault, ChunkFault::Length { limit: 32761, .. }),
        };
        assert!(expected, "length {length}: {fault}");
    }
}

#[test]
fn v9_f39_f74_lengths_and_counts_do_not_allocate() {
    let envelope = |flags: u8, parts: &[&[u8]]| [&[flags, 1, 0], &parts.concat()[..], b"payload"].concat();
    let one = &[1_u8][..];
    let cases: [(Vec<u8>, RecordFault); 7] = [
        (envelope(0, &[&OVER, one, one]), RecordFault::Envelope),
        (envelope(0, &[one, &OVER, one]), RecordFault::Envelope),
        (envelope(0, &[one, one, &HUGE]), RecordFault::Sequence),
        (envelope(0, &[one, one, &[0x80, 0x80, 0x80, 0x80, 0x10]]), RecordFault::Sequence),
        (envelope(1, &[one, one, one, &HUGE]), RecordFault::Families),
        (envelope(1, &[one, one, one, &[0xff, 0xff, 0xff, 0xff, 0x0f]]), RecordFault::Families),
        // As many as are allowed, but not there.
        (envelope(1, &[one, one, one, &[0x80, 0x08]]), RecordFault::Families),
    ];
    for (bytes, fault) in cases {
        assert_eq!(frugal("record", || record::decode(&bytes).unwrap_err()), fault, "{bytes:?}");
    }
    let over_by_one = [0x81, 0x08];
    let families: Vec<u8> = (0..1025_u32)
        .flat_map(|id| [0x80 | u8::try_from(id % 128).unwrap(), u8::try_from(id / 128).unwrap() + 1])
        .collect();
    let bytes = envelope(1, &[one, one, one, &over_by_one, &families]);
    assert_eq!(frugal("families", || record::decode(&bytes).unwrap_err()), RecordFault::Families);

    // Batches: a count, a family, lengths.
    let counted = frugal("batch count", || BatchOps::new(&[0xff; 4]).unwrap());
    assert_eq!(counted.left(), u32::MAX);
    assert_eq!(
        frugal("batch", || counted.clone().next().unwrap().unwrap_err()),
        BatchError::Malformed { at: 4 }
    );
    assert_eq!(frugal("batch", || counted.count()), 1, "an error ends it");
    for parts in [[&HUGE[..], one, b"k"], [one, &HUGE, b"k"], [one, &OVER, b"k"]] {
        let bytes = [&[1, 0, 0, 0, 1][..], &parts.concat()].concat();
        let fault = frugal("operation", || BatchOps::new(&bytes).unwrap().next().unwrap().unwrap_err());
        assert_eq!(fault, BatchError::Malformed { at: 4 });
    }
    let value = [&[1, 0, 0, 0, 1, 0, 1, b'k'][..], &HUGE, b"v"].concat();
    assert!(frugal("value", || BatchOps::new(&value).unwrap().next().unwrap().is_err()));

    // CHECKPOINT: the length before the checksum, the number of families behind a right one.
    let whole = golden::checkpoints()[0].encode(Slot::A);
    for length in [0, 7, 135, 65537, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let fault = frugal("slot", || Checkpoint::decode(Slot::A, &bytes).unwrap_err());
        assert_eq!(fault, SlotFault::Length { length });
    }
    for families in [5, 4096, 4097, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[132..136].copy_from_slice(&families.to_le_bytes());
        let crc = naive::crc32(&[b"slot A", &bytes[4..]]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let (fault, seen) = allocations::of(|| Checkpoint::decode(Slot::A, &bytes).unwrap_err());
        assert_eq!(fault, SlotFault::Content);
        assert!(seen.largest < 1024, "{families} families: {seen:?}");
    }
}

#[test]
fn v9_the_writer_keeps_the_readers_limits() {
    // The longest envelope there can be is within the stated limit, and is read again.
    let families: Vec<u32> = (0..1024_u32).map(|id| FamilyId::MAX.get() - 1023 + id).collect();
    let mut log = LogBuilder::new(1);
    let longest = naive::Record {
        kind: 0xefff,
        index: u64::MAX - 1,
        first_seq: u64::MAX - u64::from(u32::MAX),
        count: u32::MAX,
        families,
        time_micros: Some(u64::MAX),
        duplicate_key: Some([0xff; 16]),
        codec: Some(0xff),
        key_id: Some(u32::MAX),
        payload: vec![0xff],
    };
    let (head, families) = logs::head_of(&longest);
    let mut envelope = Vec::new();
    record::encode_envelope(&mut envelope, &head, &families);
    assert_eq!(families.len(), RECORD_FAMILIES_MAX);
    assert!(envelope.len() <= RECORD_BYTES_MAX - PAYLOAD_BYTES_MAX);
    log.append(longest);
    assert_eq!(logs::decode(WAL_ID, LOG, &log.bytes).items, log.items);
    // The longest payload is read, one byte more is not, and neither is copied.
    envelope.resize(envelope.len() + PAYLOAD_BYTES_MAX, 1);
    assert_eq!(frugal("payload", || record::decode(&envelope).unwrap().payload.len()), PAYLOAD_BYTES_MAX);
    envelope.push(1);
    let refused = RecordFault::Payload { bytes: PAYLOAD_BYTES_MAX + 1 };
    assert_eq!(frugal("payload", || record::decode(&envelope).unwrap_err()), refused);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn v14_arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), offset: u64) {
        decode_at(&bytes, offset);
    }

    #[test]
    fn v14_small_numbers_never_panic(bytes in proptest::collection::vec(prop_oneof![0..6_u8, Just(0xff), Just(0x80)], 0..60)) {
        decode_at(&bytes, 0);
        // Behind right checksums too: as a payload of every chunk type, and of a slot.
        let mut log = LogBuilder::new(1);
        for kind in (0..9).chain([128]) {
            if !bytes.is_empty() {
                log.raw(kind, &bytes);
                decode_at(&log.bytes, 0);
            }
        }
        let mut slot = golden::checkpoints()[0].encode(Slot::A);
        let at = slot.len() - bytes.len().min(slot.len() - 20);
        let length = slot.len() - at;
        slot[at..].copy_from_slice(&bytes[..length]);
        let crc = naive::crc32(&[b"slot A", &slot[4..]]);
        slot[..4].copy_from_slice(&crc.to_le_bytes());
        let ours = Checkpoint::decode(Slot::A, &slot).ok().as_ref().map(logs::checkpoint_item);
        prop_assert_eq!(ours, naive::decode_checkpoint(&slot)[0].clone());
    }

    #[test]
    fn v14_mutated_envelopes_never_panic(
        changes in proptest::collection::vec((any::<Pick>(), any::<u8>()), 1..4), cut: Pick,
    ) {
        let mut log = golden::small();
        let start = 0xe4;
        let mut bytes = log.bytes[start..start + 53].to_vec();
        prop_assert!(record::decode(&bytes).is_ok(), "the record with all fields");
        for (place, byte) in changes {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        decode_at(&bytes, 0);
        // Where it is still a record, encoding it again gives the same bytes: one meaning, one encoding.
        if let Ok(record) = record::decode(&bytes) {
            let item = logs::record_item(&record);
            let (head, families) = logs::head_of(&item);
            let mut again = Vec::new();
            record::encode_envelope(&mut again, &head, &families);
            again.extend_from_slice(record.payload);
            prop_assert_eq!(&again, &bytes);
        }
        log = LogBuilder::new(1);
        log.raw(1, &bytes);
        decode_at(&log.bytes, 0);
    }

    #[test]
    fn v14_mutated_batches_never_panic(changes in proptest::collection::vec((any::<Pick>(), any::<u8>()), 0..4), cut: Pick) {
        let log = golden::small();
        let mut bytes = log.bytes[0xa9..0xc6].to_vec();
        prop_assert_eq!(BatchOps::new(&bytes).unwrap().filter_map(Result::ok).count(), 4);
        for (place, byte) in changes {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        decode_at(&bytes, 0);
    }
}

#[test]
fn v14_short_and_uniform_bytes_never_panic() {
    for byte in 0..=u8::MAX {
        for length in (0..64).chain([104, 111, 135, 136, 137]) {
            decode_at(&vec![byte; length], 32768 - length as u64);
        }
        let block = vec![byte; 2 * BLOCK_BYTES + 5];
        let end = logs::decode(WAL_ID, LOG, &block).end;
        assert_eq!(end, if byte == 0 { End::Open(0) } else { End::Fault(0) });
        let _ = Checkpoint::decode(Slot::B, &block[..SLOT_BYTES]);
    }
}

#[test]
fn z2_numbers_near_the_end() {
    assert_eq!(SeqNum::new(u64::MAX).next(), None);
    assert_eq!(Index::new(u64::MAX - 1).next(), Some(Index::new(u64::MAX)));
    assert_eq!(SeqRange::new(SeqNum::new(u64::MAX), 2), None);
    assert_eq!(SeqRange::new(SeqNum::new(1), 0), None);
    let last = SeqRange::new(SeqNum::new(u64::MAX), 1).unwrap();
    assert_eq!((last.first(), last.last()), (SeqNum::new(u64::MAX), SeqNum::new(u64::MAX)));

    let mut header = FileHeader::new(
        WAL_ID,
        LogNumber::new(u64::MAX),
        Epoch::new(u64::MAX),
        Index::new(u64::MAX),
        SeqNum::new(u64::MAX),
    );
    header.predecessor = Some(Predecessor {
        log: LogNumber::new(u64::MAX - 1),
        end: u64::MAX,
        proven: u64::MAX,
        digest: u32::MAX,
    });
    let mut log = LogBuilder::with_header(&header);
    log.record(b"the very last");
    let read = logs::decode(WAL_ID, header.log, &log.bytes);
    assert_eq!(read.items, log.items);
    assert_eq!(naive::decode_log(*WAL_ID.as_bytes(), u64::MAX, &log.bytes), read);

    // A range that ends beyond 64 bits is refused, one that ends there is not.
    let with_first = |first: u64, count: u8| {
        let mut bytes = vec![0, 1, 0, 1];
        let mut rest = first;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.extend([u8::try_from(rest).unwrap(), count, b'x']);
        bytes
    };
    assert!(record::decode(&with_first(u64::MAX - 1, 2)).is_ok());
    assert_eq!(record::decode(&with_first(u64::MAX, 2)), Err(RecordFault::Sequence));
}

#[test]
fn z2_offsets_near_the_end() {
    let chunk = LogBuilder::new(1).bytes;
    for offset in
        [u64::MAX, u64::MAX - 6, u64::MAX - 7, u64::MAX - 8, u64::MAX - 32767, 1 << 63, u64::MAX - 32768]
    {
        let room = chunk::room_in_block(offset);
        assert!((1..=BLOCK_BYTES).contains(&room), "offset {offset}");
        assert!(chunk::decode(&seed(), offset, &chunk).is_err(), "offset {offset}");
        let zeros = vec![0; HEADER_BYTES + 1];
        assert_eq!(chunk::decode(&seed(), offset, &zeros), Err(ChunkFault::Zeros), "offset {offset}");
    }
    assert_eq!(chunk::room_in_block(u64::MAX), 1);
}

#[test]
fn z2_statements_with_the_highest_numbers() {
    let promise = Promise { durable_end: u64::MAX, next_index: Index::new(u64::MAX) };
    assert_eq!(Promise::decode(&promise.encode()), Some(promise));
    let seqs = SeqRange::between(SeqNum::new(0), SeqNum::new(u64::MAX));
    let seal = Seal { records: u64::MAX - 1, next_index: Index::new(u64::MAX), seqs, digest: u32::MAX };
    assert_eq!(Seal::decode(&seal.encode()), Some(seal));
    let contradictions = [
        Seal { next_index: Index::new(u64::MAX - 1), ..seal },
        Seal { seqs: SeqRange::between(SeqNum::new(1), SeqNum::new(u64::MAX - 2)), ..seal },
        Seal { seqs: None, ..seal },
        Seal { records: 0, ..seal },
        Seal { next_index: Index::new(0), records: 0, seqs: None, digest: 0 },
    ];
    for seal in contradictions {
        assert_eq!(Seal::decode(&seal.encode()), None, "{seal:?}");
    }
    assert_eq!(Promise::decode(&Promise { durable_end: 0, next_index: Index::new(0) }.encode()), None);
    for length in (0..16).chain(17..60).filter(|length| *length != 36) {
        assert_eq!(Promise::decode(&vec![1; length]), None);
        assert_eq!(Seal::decode(&vec![1; length]), None);
    }
}

#[test]
fn z2_a_range_too_wide_for_a_record_is_written_without_a_wrap_and_refused() {
    for seqs in [
        SeqRange::between(SeqNum::new(0), SeqNum::new(u64::MAX)).unwrap(),
        SeqRange::between(SeqNum::new(1), SeqNum::new(u64::from(u32::MAX) + 1)).unwrap(),
    ] {
        let head = Head::new(RecordKind::new(1).unwrap(), Index::FIRST, seqs);
        let mut bytes = Vec::new();
        LogEncoder::new(seed()).record(&mut bytes, &head, &[], b"x");
        assert_eq!(record::decode(&bytes[HEADER_BYTES..]), Err(RecordFault::Sequence));
    }
}
