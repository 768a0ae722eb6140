//! Which bit is flipped (V18): each single bit of chunks, slots and whole directories is named, and two are not taken for one.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot};
use wal_format::encode::LogEncoder;
use wal_format::{Epoch, FamilyId, FlippedBit, LogNumber, LogSeed, SeqNum, chunk, flip};
use wal_io::mem::MemStorage;
use wal_manager::{Durability, Error, LogVerdict, Record, RecordKind, RecoveryReport, Verdict, Wal};
use wal_tests::golden;
use wal_tests::logs::{LogBuilder, WAL_ID, pattern};
use wal_tests::rng::Rng;

type Files = BTreeMap<String, Vec<u8>>;

const LOG: LogNumber = LogNumber::new(7);

fn seed() -> LogSeed {
    LogSeed::new(WAL_ID, LOG)
}

/// A data chunk with this payload, and the offset that it stands at.
fn chunk_at(blocks: u64, before: usize, payload: &[u8]) -> (u64, Vec<u8>) {
    let offset = blocks * 32768 + before as u64;
    let length = u16::try_from(payload.len()).unwrap();
    let mut bytes = seed().checksum(offset, 1, payload).to_le_bytes().to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.push(1);
    bytes.extend(payload);
    (offset, bytes)
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

fn named(start: u64, bit: usize) -> FlippedBit {
    FlippedBit { offset: start + bit as u64 / 8, bit: (bit % 8) as u8 }
}

#[test]
fn v18_every_bit_of_a_chunk_is_named() {
    for (blocks, before, length) in [(0, 0, 1), (0, 111, 40), (3, 32768 - 8, 1), (1, 9, 700), (1, 0, 2048)] {
        let (offset, mut bytes) = chunk_at(blocks, before, &pattern(5, length));
        assert_eq!(flip::in_chunk(&seed(), offset, &bytes), None, "nothing is wrong with it");
        let chunk_bits = 8 * bytes.len();
        // Whatever follows in the block, so that a longer length finds bytes.
        let room = chunk::room_in_block(offset);
        bytes.extend(pattern(9, 5000));
        bytes.truncate(room);
        for bit in 0..chunk_bits {
            let found = flip::in_chunk(&seed(), offset, &flipped(&bytes, bit));
            assert_eq!(found, Some(named(offset, bit)), "bit {bit} of {chunk_bits} at {offset}");
        }
    }
}

#[test]
fn v18_bits_of_the_longest_chunk_are_named_and_of_one_that_the_file_cuts_off() {
    let (offset, bytes) = chunk_at(2, 0, &pattern(1, 32761));
    let step = 8 * 3251 + 5;
    let sample = (0..56).chain((56..8 * bytes.len()).step_by(step)).chain([8 * bytes.len() - 1]);
    for bit in sample {
        assert_eq!(flip::in_chunk(&seed(), offset, &flipped(&bytes, bit)), Some(named(offset, bit)));
    }
    let (offset, bytes) = chunk_at(0, 120, &pattern(2, 90));
    for bit in 32..48 {
        // The wrong length reaches beyond the file, or the block, or is zero.
        let found = flip::in_chunk(&seed(), offset, &flipped(&bytes, bit));
        assert_eq!(found, Some(named(offset, bit)));
    }
    for cut in 0..bytes.len() {
        assert_eq!(flip::in_chunk(&seed(), offset, &bytes[..cut]), None, "a chunk that is cut at {cut}");
    }
}

/// The code has a distance of at least four in a chunk of up to 11 KiB: what two bits do, no third one alone does.
#[test]
fn v18_two_flipped_bits_are_not_explained_by_one() {
    let (offset, bytes) = chunk_at(0, 200, &pattern(3, 40));
    let bits = 8 * bytes.len();
    for first in 0..bits {
        for second in first + 1..bits {
            let wrong = flipped(&flipped(&bytes, first), second);
            assert_eq!(flip::in_chunk(&seed(), offset, &wrong), None, "bits {first} and {second}");
        }
    }
    let mut rng = Rng::new(18);
    let (offset, bytes) = chunk_at(0, 7, &pattern(4, 11_000));
    for _ in 0..300 {
        let mut bit = || 56 + rng.below(8 * 11_000) as usize;
        let (first, second) = (bit(), bit());
        let wrong = flipped(&flipped(&bytes, first), second);
        assert_eq!(flip::in_chunk(&seed(), offset, &wrong), None, "bits {first} and {second}");
    }
}

#[test]
fn v18_what_is_wrong_in_another_way_is_not_explained() {
    let mut explained = 0;
    let mut rng = Rng::new(1);
    for round in 0..2000_u64 {
        let (offset, mut bytes) = chunk_at(round % 3, 50, &pattern(round as usize, 300));
        // The rest of it was never written, or is of something else.
        let from = 8 + rng.below(280) as usize;
        let filler = pattern(round as usize + 9, 400);
        for (place, byte) in bytes.iter_mut().enumerate().skip(from) {
            *byte = if round % 2 == 0 { 0 } else { filler[place] };
        }
        explained += usize::from(flip::in_chunk(&seed(), offset, &bytes).is_some());
    }
    // 2500 bits are tried each time: one in 850 000 would be explained by chance. All zeros but one bit are explained rightly.
    assert_eq!(explained, 0);
    // The chunk of another place.
    let (offset, bytes) = chunk_at(0, 50, b"whole");
    assert_eq!(flip::in_chunk(&seed(), offset + 32768, &bytes), None);
}

#[test]
fn v18_every_bit_of_a_slot_is_named() {
    let mut checkpoint = Checkpoint::new(WAL_ID);
    for family in 0..9 {
        checkpoint.flushed.insert(FamilyId::new(family), SeqNum::new(77));
    }
    for slot in Slot::BOTH {
        let bytes = checkpoint.encode(slot);
        let in_file = |bytes: &[u8]| {
            let mut file = bytes.to_vec();
            file.resize(SLOT_BYTES, 0);
            file
        };
        assert_eq!(flip::in_slot(slot, &in_file(&bytes)), None);
        for bit in 0..8 * bytes.len() {
            let wrong = in_file(&flipped(&bytes, bit));
            assert_eq!(flip::in_slot(slot, &wrong), Some(named(slot.offset(), bit)), "bit {bit}");
        }
        assert_eq!(flip::in_slot(slot.other(), &in_file(&bytes)), None, "the other slot's");
    }
}

#[test]
fn v18_the_only_bit_among_zeros_is_named() {
    let zeros = vec![0; 50];
    assert_eq!(flip::in_zeros(3, &zeros), None);
    for bit in 0..400 {
        assert_eq!(flip::in_zeros(1000, &flipped(&zeros, bit)), Some(named(1000, bit)));
        let other = (bit * 7 + 3) % 400;
        assert!(bit == other || flip::in_zeros(0, &flipped(&flipped(&zeros, bit), other)).is_none());
    }
}

proptest! {
    #[test]
    fn v18_any_bit_of_any_chunk_is_named(
        payload in prop::collection::vec(any::<u8>(), 1..900),
        behind in prop::collection::vec(any::<u8>(), 0..600),
        before in 0_usize..30_000,
        bit in any::<prop::sample::Index>(),
    ) {
        let (offset, bytes) = chunk_at(4, before, &payload);
        let bit = bit.index(8 * bytes.len());
        let wrong = [flipped(&bytes, bit), behind].concat();
        prop_assert_eq!(flip::in_chunk(&seed(), offset, &wrong), Some(named(offset, bit)));
        prop_assert!(chunk::decode(&seed(), offset, &wrong).is_err());
    }
}

/// The first chunks of the golden log, and what is said of a bit in each.
#[test]
fn v18_f13_golden_log() {
    let (_, bytes) = golden::all().into_iter().find(|(name, _)| *name == "000001.wal").unwrap();
    let seed = LogSeed::new(WAL_ID, LogNumber::new(1));
    for (at, text) in [
        (0x00_u64, "one flipped bit explains it: bit 6 of byte 44"),
        (0x6f, "one flipped bit explains it: bit 3 of byte 124"),
        (0x81, "one flipped bit explains it: bit 0 of byte 136"),
    ] {
        let (offset, bit) = match at {
            0 => (44, 6),
            0x6f => (124, 3),
            _ => (136, 0),
        };
        let wrong = flipped(&bytes, 8 * offset + bit);
        let found = flip::in_chunk(&seed, at, &wrong[at as usize..]).unwrap();
        assert_eq!(found.to_string(), text);
    }
}

fn inspect(files: &Files) -> Result<RecoveryReport, Error> {
    let storage = MemStorage::from_files(files.clone());
    Ok(Wal::options_on(Arc::new(storage)).inspect()?.report().clone())
}

/// Three logs: records whole and in parts, promises, seals.
fn written(closed: bool) -> Files {
    let storage = MemStorage::new();
    let options = || Wal::options_on(Arc::new(storage.clone())).wal_id(WAL_ID);
    let append = |wal: &Wal, length: usize| {
        let payload: Vec<u8> = pattern(length, length);
        wal.append(Record::new(RecordKind::new(3).unwrap(), &payload)).unwrap();
    };
    let (wal, _) = options().recover().unwrap().finish_without_replay().unwrap();
    append(&wal, 20);
    append(&wal, 60);
    drop(wal);
    let (wal, _) = options().recover().unwrap().finish_without_replay().unwrap();
    append(&wal, 33_000);
    append(&wal, 20);
    wal.rotate().unwrap();
    append(&wal, 10);
    wal.append_with(Record::new(RecordKind::new(3).unwrap(), b"written"), Durability::Written).unwrap();
    append(&wal, 20);
    if closed {
        wal.close().unwrap();
    }
    drop(wal);
    storage.files()
}

/// Flips bits of one file of a directory, and checks that whatever is said of a log names the bit. Returns how many flips were noticed.
fn check_file(files: &Files, name: &str, bits: impl Iterator<Item = usize>) -> usize {
    let mut noticed = 0;
    for bit in bits {
        let mut wrong = files.clone();
        wrong.insert(name.to_owned(), flipped(&files[name], bit));
        let report = inspect(&wrong).unwrap_or_else(|error| panic!("bit {bit} of {name}: {error}"));
        if report.verdict == Verdict::Clean {
            continue;
        }
        noticed += 1;
        let log = report.logs.iter().find(|log| {
            log.path.ends_with(name) && matches!(log.verdict, LogVerdict::Damaged | LogVerdict::TornTail)
        });
        let log = log.unwrap_or_else(|| panic!("bit {bit} of {name}: {report:?}"));
        assert_eq!(log.flipped_bit, Some(named(0, bit)), "bit {bit} of {name}: {log:?}");
        for finding in report.findings.iter().filter(|finding| finding.log == log.log) {
            assert_eq!(finding.flipped_bit, log.flipped_bit);
            assert!(finding.to_string().ends_with(&log.flipped_bit.unwrap().to_string()), "{finding}");
        }
    }
    noticed
}

/// Every bit where chunks are short, and a sample of the long record's.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let dense =
        move |byte: usize| byte < 160 || byte + 120 > length || byte % 32768 < 8 || byte % 32768 > 32764;
    (0..8 * length).filter(move |bit| dense(bit / 8) || bit % 4001 == 0)
}

#[test]
fn v18_every_bit_of_a_closed_directory_is_named() {
    let files = written(true);
    let inspection = Wal::options_on(Arc::new(MemStorage::from_files(files.clone()))).inspect().unwrap();
    let (report, checkpoint) = (inspection.report(), inspection.checkpoint().unwrap());
    assert_eq!(report.verdict, Verdict::Clean);
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".wal")) {
        // What stands behind the end that the next log states is nobody's, unless CHECKPOINT knows of the seal there.
        let log = report.logs.iter().find(|log| log.path.ends_with(name)).unwrap();
        let clean_end = checkpoint.clean_end.as_ref().map_or(LogNumber::default(), |clean| clean.log);
        let sealed = checkpoint.sealed_through >= log.log || clean_end == log.log;
        let read = if sealed { bytes.len() } else { log.offset as usize };
        let flips = places(bytes.len()).filter(|bit| bit / 8 < read).count();
        assert_eq!(check_file(&files, name, places(bytes.len())), flips, "every flip in {name} is noticed");
    }
}

#[test]
fn v18_a_bit_in_the_tail_of_a_killed_directory_is_named() {
    let files = written(false);
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".wal")) {
        assert!(check_file(&files, name, places(bytes.len())) > 0);
    }
}

/// Zeros that should be zeros: where no chunk fits, before a statement that did not, behind a seal, and at the end of a log that was not closed.
#[test]
fn v18_a_bit_in_padding_or_behind_the_end_is_named() {
    let directory = |log: &LogBuilder, unwritten: usize| {
        let mut checkpoint = Checkpoint::new(WAL_ID);
        (checkpoint.epoch, checkpoint.highest) = (Epoch::new(1), LogNumber::new(1));
        checkpoint.active = checkpoint.highest;
        let mut file = vec![0; 2 * SLOT_BYTES];
        for slot in Slot::BOTH {
            let bytes = checkpoint.encode(slot);
            file[slot.offset() as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let bytes = [&log.bytes[..], &vec![0; unwritten]].concat();
        Files::from([("CHECKPOINT".to_owned(), file), ("000001.wal".to_owned(), bytes)])
    };
    // Twenty bytes before the end of the block: a promise does not fit. Then five: nothing does.
    let mut log = LogBuilder::new(1);
    log.record(b"a").fill_to(20).promise();
    let padding = (32768 - 20) * 8..32768 * 8;
    log.record(b"b").fill_to(5).record(b"c").promise();
    let no_room = (65536 - 5) * 8..65536 * 8;
    let open = directory(&log, 40_000);
    assert_eq!(inspect(&open).unwrap().verdict, Verdict::Clean);
    // A promise that is not whole, behind its padding.
    let promise = 32768 * 8..(32768 + 23) * 8;
    for bits in [padding, no_room, promise] {
        assert_eq!(check_file(&open, "000001.wal", bits.clone()), bits.len());
    }
    let end = 8 * log.bytes.len();
    assert_eq!(check_file(&open, "000001.wal", (end..end + 320_000).step_by(61)), 320_000_usize.div_ceil(61));
    log.seal();
    let sealed = directory(&log, 900);
    let end = 8 * log.bytes.len();
    let noticed = check_file(&sealed, "000001.wal", end..end + 7200);
    assert_eq!(noticed, 7200, "behind a seal there are only zeros");
}

#[test]
fn v18_a_bit_of_checkpoint_is_named() {
    let files = written(true);
    // What a slot's length says; zeros are behind it.
    let length = files["CHECKPOINT"][4..8].try_into().unwrap();
    let slot = u32::from_le_bytes(length) as usize;
    for start in [0, SLOT_BYTES] {
        for bit in (8 * start..8 * (start + slot)).step_by(5) {
            let mut wrong = files.clone();
            wrong.insert("CHECKPOINT".to_owned(), flipped(&files["CHECKPOINT"], bit));
            let report = inspect(&wrong).unwrap();
            assert_eq!(report.checkpoint_flipped_bit, Some(named(0, bit)));
            let text = report.checkpoint_fault.unwrap();
            assert!(text.ends_with(&named(0, bit).to_string()), "{text}");
        }
    }
    let both = flipped(&flipped(&files["CHECKPOINT"], 100), 8 * SLOT_BYTES + 331);
    let mut wrong = files;
    wrong.insert("CHECKPOINT".to_owned(), both);
    let error = inspect(&wrong).unwrap_err();
    let Error::CheckpointDamaged { first, second, .. } = &error else { panic!("{error}") };
    assert_eq!(first.flipped_bit, Some(named(0, 100)));
    assert_eq!(second.flipped_bit, Some(named(0, 8 * SLOT_BYTES + 331)));
    assert!(error.to_string().contains("bit 4 of byte 12"), "{error}");
}

/// An explanation changes no verdict, and no byte.
#[test]
fn v18_a_flip_that_is_explained_is_refused_all_the_same() {
    let files = written(true);
    let mut wrong = files.clone();
    wrong.insert("000001.wal".to_owned(), flipped(&files["000001.wal"], 8 * 130));
    let storage = MemStorage::from_files(wrong.clone());
    let refused = Wal::options_on(Arc::new(storage.clone()))
        .recover()
        .and_then(|recovery| recovery.records().collect::<Result<Vec<_>, _>>());
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("bit 0 of byte 130"), "{error}");
    assert_eq!(storage.files()["000001.wal"], wrong["000001.wal"]);
}

#[test]
fn v18_the_encoder_and_the_diagnosis_agree_on_ignorable_chunks() {
    let mut bytes = Vec::new();
    let mut encoder = LogEncoder::new(seed());
    encoder.raw_chunk(&mut bytes, 0xC3, b"of a newer version");
    for bit in 0..8 * bytes.len() {
        assert_eq!(flip::in_chunk(&seed(), 0, &flipped(&bytes, bit)), Some(named(0, bit)));
    }
}
