//! Details of `wal-format` that a run of cargo-mutants found nobody looking at (T10).

use proptest::prelude::*;
use wal_format::batch::{BatchError, BatchOps};
use wal_format::chunk::{self, ChunkFault};
use wal_format::encode::LogEncoder;
use wal_format::guess::Guess;
use wal_format::header::HeaderFault;
use wal_format::record::{self, Head};
use wal_format::{
    Epoch, FamilyId, FileHeader, Index, LogNumber, LogSeed, RecordKind, SeqNum, SeqRange, WalId, WriteBatch,
};

const F: FamilyId = FamilyId::DEFAULT;
const LOG: LogNumber = LogNumber::new(1);

fn wal_id() -> WalId {
    WalId::from_bytes([0xab; 16])
}

#[test]
fn t10_a_batch_is_empty_until_something_is_in_it_and_after_it_was_cleared() {
    let mut batch = WriteBatch::new();
    assert!(batch.is_empty());
    batch.delete(F, b"key").unwrap();
    assert!(!batch.is_empty());
    batch.clear();
    assert!(batch.is_empty());
}

#[test]
fn t10_every_operation_names_its_key() {
    let mut batch = WriteBatch::new();
    batch.put(F, b"put", b"1").unwrap();
    batch.delete(F, b"delete").unwrap();
    batch.merge(F, b"merge", b"2").unwrap();
    batch.delete_range(F, b"from", b"to").unwrap();
    let keys: Vec<&[u8]> = batch.ops().map(|op| op.unwrap().key()).collect();
    assert_eq!(keys, [&b"put"[..], b"delete", b"merge", b"from"]);
}

#[test]
fn t10_bytes_behind_the_last_operation_are_malformed_where_they_begin() {
    let mut batch = WriteBatch::new();
    batch.put(F, b"key", b"value").unwrap();
    let whole = batch.as_bytes().len();
    let mut bytes = batch.as_bytes().to_vec();
    bytes.extend(b"more");
    let last = BatchOps::new(&bytes).unwrap().last().unwrap();
    assert_eq!(last.unwrap_err(), BatchError::Malformed { at: whole });
}

#[test]
fn t10_ids_and_ranges_are_printed_as_people_read_them() {
    assert_eq!(wal_id().to_string(), "ab".repeat(16));
    assert_eq!(format!("{:?}", wal_id()), format!("WalId({})", "ab".repeat(16)));
    let range = |first, last| SeqRange::between(SeqNum::new(first), SeqNum::new(last)).unwrap().to_string();
    assert_eq!((range(7, 7), range(7, 9)), ("7".to_owned(), "7..=9".to_owned()));
}

#[test]
fn t10_the_families_of_a_record_say_how_many_they_are() {
    let head =
        Head::new(RecordKind::new(1).unwrap(), Index::new(1), SeqRange::new(SeqNum::new(1), 1).unwrap());
    let mut bytes = Vec::new();
    record::encode_envelope(&mut bytes, &head, &[FamilyId::new(2), FamilyId::new(5), FamilyId::new(9)]);
    bytes.push(b'x');
    let mut families = record::decode(&bytes).unwrap().families;
    for left in (0..3).rev() {
        assert_eq!(families.size_hint(), (left + 1, Some(left + 1)));
        families.next().unwrap();
    }
    assert_eq!(families.size_hint(), (0, Some(0)));
}

#[test]
fn t10_a_chunk_of_no_length_is_no_unwritten_space_unless_all_of_its_header_is_zero() {
    let seed = LogSeed::new(wal_id(), LOG);
    let fault = |header: [u8; 7]| chunk::decode(&seed, 0, &[&header[..], &[0; 20]].concat()).unwrap_err();
    assert_eq!(fault([0; 7]), ChunkFault::Zeros);
    for at in [0, 6] {
        let mut header = [0; 7];
        header[at] = 1;
        assert!(matches!(fault(header), ChunkFault::Length { length: 0, .. }), "byte {at}");
    }
}

#[test]
fn t10_a_file_too_short_for_a_header_is_empty_space_only_if_it_is_zero() {
    let short = |bytes: &[u8]| FileHeader::decode(LOG, bytes).unwrap_err();
    assert_eq!(short(&[0; 20]), HeaderFault::Chunk(ChunkFault::Zeros));
    assert_eq!(short(&[1; 20]), HeaderFault::Chunk(ChunkFault::Truncated));
}

#[test]
fn t10_only_a_header_under_another_name_is_called_renamed() {
    // What stands where a header states its number is that of another log, and the chunk is no header.
    let other = LogNumber::new(2);
    let header = FileHeader::new(wal_id(), other, Epoch::new(1), Index::new(1), SeqNum::new(1));
    let mut bytes = Vec::new();
    LogEncoder::new(LogSeed::new(wal_id(), other)).raw_chunk(&mut bytes, 1, &header.encode());
    assert!(matches!(FileHeader::decode(LOG, &bytes).unwrap_err(), HeaderFault::Chunk(_)));
    let mut bytes = Vec::new();
    LogEncoder::new(LogSeed::new(wal_id(), other)).header(&mut bytes, &header);
    let renamed = HeaderFault::OtherLog { expected: LOG, found: other, wal_id: wal_id() };
    assert_eq!(FileHeader::decode(LOG, &bytes).unwrap_err(), renamed);
}

proptest! {
    /// A plain record has two decoders; they must never differ, whatever the bytes are.
    #[test]
    fn f7_f10_the_decoder_of_plain_records_agrees_with_the_other(
        mut bytes in prop::collection::vec(any::<u8>(), 0..40),
        plain: bool,
        numbers in prop::collection::vec(0_u8..4, 3),
    ) {
        // Mostly short numbers and known kinds: random bytes alone are hardly ever a record.
        if plain && bytes.len() >= 6 {
            bytes[0] &= 3;
            bytes[2] = 0;
            for (place, number) in bytes[3..].iter_mut().zip(numbers) {
                *place = number;
            }
        }
        let expected = record::decode(&bytes).ok().filter(|_| bytes[0] == 0);
        let found = record::decode_plain(&bytes);
        prop_assert_eq!(found.is_some(), expected.is_some());
        if let (Some(plain), Some(record)) = (found, expected) {
            let head = Head::new(plain.kind, plain.index, plain.seqs);
            prop_assert!(record.families.is_default());
            prop_assert_eq!((head, &bytes[plain.envelope..]), (record.head, record.payload));
        }
    }

    /// The checksum that a decoder computes is that of the bytes that docs/format.md names, wherever a chunk stands.
    #[test]
    fn f2_a_chunk_is_valid_at_its_offset_and_nowhere_else(
        high in prop_oneof![3 => Just(0), 1 => any::<u32>()],
        low: u32,
        other: u32,
        payload in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let seed = LogSeed::new(wal_id(), LOG);
        let at = |low: u32| (u64::from(high) << 32 | u64::from(low)) / 256 * 256;
        let mut bytes = seed.checksum(at(low), 1, &payload).to_le_bytes().to_vec();
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.push(1);
        bytes.extend_from_slice(&payload);
        let decoded = |offset: u64| chunk::decode(&seed, offset, &bytes).map(|chunk| chunk.payload);
        prop_assert_eq!(decoded(at(low)), Ok(&payload[..]));
        prop_assert_eq!(decoded(at(other)).is_ok(), at(other) == at(low));
        prop_assert!(decoded(at(low) ^ 1 << 32).is_err());
    }

    /// A guess says what the decoder says, or nothing; and it is right as long as records go on as before and their numbers get no longer.
    #[test]
    fn f7_f10_a_guess_says_nothing_that_the_decoder_does_not(
        index in near_a_longer_number(),
        first in near_a_longer_number(),
        count in prop_oneof![Just(1_u32), 1_u32..300],
        kind in 1_u16..0xf000,
        skipped in prop::collection::vec(prop_oneof![9 => Just(0_u64), 1 => 1_u64..300], 1..40),
        flipped in prop::collection::vec(0_usize..200, 40),
        length in 1_usize..20,
    ) {
        let kind = RecordKind::new(kind).unwrap();
        let (mut guess, mut guessed, mut misses) = (Guess::NONE, false, 0);
        let (mut index, mut first) = (index, first);
        for (skipped, flipped) in skipped.into_iter().zip(flipped) {
            first += skipped;
            let head = Head::new(kind, Index::new(index), SeqRange::new(SeqNum::new(first), count).unwrap());
            let mut bytes = Vec::new();
            record::encode_envelope(&mut bytes, &head, &[]);
            bytes.resize(bytes.len() + length, 0xa5);
            let plain = record::decode_plain(&bytes).unwrap();
            // Other bytes: the guess of a copy, for a guess goes on when it was right.
            let mut other = bytes.clone();
            if let Some(byte) = other.get_mut(flipped / 8) {
                *byte ^= 1 << (flipped % 8);
            }
            prop_assert!(guess.clone().check(&other).is_none_or(|found| record::decode_plain(&other) == Some(found)));
            prop_assert_eq!(guess.clone().check(&bytes[..plain.envelope]), None);
            let found = guess.check(&bytes);
            prop_assert!(found.is_none() || found == Some(plain));
            let short = plain.envelope <= 16 && bytes.len() >= 16 && index.max(first) < 1 << 55 && count < 0x80;
            let expected = guessed && skipped == 0 && short;
            misses += u32::from(expected && found.is_none());
            if found.is_none() {
                guess = Guess::after(&plain);
            }
            guessed = true;
            (index, first) = (index + 1, first + u64::from(count));
        }
        prop_assert!(misses <= 4, "{misses} misses: more than numbers that have become longer");
    }
}

/// Numbers of which some become a byte longer soon.
fn near_a_longer_number() -> impl Strategy<Value = u64> {
    let near = (1_u32..9, 0_u64..40).prop_map(|(bytes, before)| (1_u64 << (7 * bytes)) - before);
    prop_oneof![near, 1..1_000_000_000_u64, Just(u64::MAX - 20_000)]
}
