//! Details of `wal-format` that a run of cargo-mutants found nobody looking at (T10).

use proptest::prelude::*;
use wal_format::batch::{BatchError, BatchOps};
use wal_format::chunk::{self, ChunkFault};
use wal_format::encode::LogEncoder;
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
}
