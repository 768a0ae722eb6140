//! What the fuzz targets of `tests/fuzz` run, as plain functions of any bytes.
//!
//! The targets only call these, and so does `fuzz_smoke.rs` on a stable toolchain. Each panics if a promise is broken, and returns a few
//! words for what the input led to, so that a run can show that it met what it is there for. Structure comes out of the bytes through
//! `arbitrary`: a fuzzer that mutates the bytes mutates a directory, a log or a list of records.

pub mod corpus;
mod differential;
mod directories;
mod mutate;
mod recover;
mod steps;

use arbitrary::{Arbitrary, Unstructured};
use wal_format::batch::BatchOps;
use wal_format::checkpoint::{Checkpoint, Slot};
use wal_format::control::{Promise, Seal};
use wal_format::{FileHeader, LogNumber, LogSeed, RECORD_FAMILIES_MAX, chunk, record};

pub use differential::differential;
pub use directories::{Files, Stopped};
pub use recover::recover_dir;
pub use steps::{Step, build};

use crate::logs::{self, LogBuilder, WAL_ID};
use crate::naive::{self, Decoded, End};
use crate::{golden, life};

/// A target: its name, as in `tests/fuzz/fuzz_targets`, and what it runs.
pub type Target = (&'static str, fn(&[u8]) -> String);

/// All of them.
pub const TARGETS: [Target; 4] = [
    ("decode", decode),
    ("recover_dir", recover_dir),
    ("round_trip", round_trip),
    ("differential", differential),
];

const LOG: LogNumber = LogNumber::new(1);

/// Prints what an input means, with `FUZZ_SHOW` in the environment: to look into an input that fails.
fn show(meaning: &dyn std::fmt::Debug) {
    if std::env::var_os("FUZZ_SHOW").is_some() {
        eprintln!("{meaning:#?}");
    }
}

/// Every decoder on the same bytes, which stand at `offset` of a log; what they return does not matter. Tells which take them.
pub fn decode_at(bytes: &[u8], offset: u64) -> String {
    let mut taken = Vec::new();
    let mut note = |name, taken_it: bool| {
        if taken_it {
            taken.push(name);
        }
    };
    note("chunk", chunk::decode(&LogSeed::new(WAL_ID, LOG), offset, bytes).is_ok());
    note("header", FileHeader::decode(LOG, bytes).is_ok());
    note("promise", Promise::decode(bytes).is_some());
    note("seal", Seal::decode(bytes).is_some());
    note("slot", Slot::BOTH.into_iter().any(|slot| Checkpoint::decode(slot, bytes).is_ok()));
    if let Ok(record) = record::decode(bytes) {
        assert!(record.families.count() <= RECORD_FAMILIES_MAX);
        assert!(!record.payload.is_empty());
        note("record", true);
    }
    if let Ok(ops) = BatchOps::new(bytes) {
        // Each operation takes three bytes at least, so this ends.
        let all_good = ops.clone().all(|op| op.is_ok());
        assert!(ops.count() <= bytes.len() / 3 + 1);
        note("batch", all_good);
    }
    let walked = both_decoders(bytes);
    let _ = naive::decode_checkpoint(bytes);
    note("log", !walked.items.is_empty());
    taken.join(" ")
}

/// What both decoders read in log 1.
fn both_decoders(file: &[u8]) -> Decoded {
    let naive = naive::decode_log(*WAL_ID.as_bytes(), LOG.get(), file);
    let ours = logs::decode(WAL_ID, LOG, file);
    // Whether a header of another write-ahead log, or of a newer version, is called the one or the other first is left open.
    let foreign = file.get(27..43).is_some_and(|id| id != WAL_ID.as_bytes());
    if foreign && naive.end != ours.end {
        assert!(naive.items.is_empty() && ours.items.is_empty(), "a record of another write-ahead log");
        assert!([naive.end, ours.end].iter().all(|end| matches!(end, End::Fault(0) | End::Newer(0))));
    } else {
        assert_eq!(naive, ours, "the decoders differ");
    }
    ours
}

/// The decoders of `wal-format`, on bytes as they are and behind right checksums.
pub fn decode(input: &[u8]) -> String {
    let Some((mode, bytes)) = input.split_first() else { return "nothing".to_owned() };
    match mode % 12 {
        0 => {
            let (offset, bytes) = bytes
                .split_first_chunk()
                .map_or((0, bytes), |(offset, rest)| (u64::from_le_bytes(*offset), rest));
            format!("as is: {}", decode_at(bytes, offset))
        }
        1 => {
            let mut slot = golden::checkpoints()[0].encode(Slot::A);
            mutate::overwrite(&mut slot, bytes);
            mutate::repair_slot(&mut slot, "slot A");
            format!("slot: {}", decode_at(&slot, 0))
        }
        _ if bytes.is_empty() || bytes.len() > 30_000 => "nothing".to_owned(),
        kind => {
            let kind = if kind == 11 { 128 } else { kind - 2 };
            let mut log = LogBuilder::new(1);
            log.raw(kind, bytes);
            let end = match logs::decode(WAL_ID, LOG, &log.bytes).end {
                End::Sealed(_) => "sealed",
                End::Open(_) => "open",
                End::Fault(_) => "fault",
                End::Newer(_) => "newer",
            };
            decode_at(&log.bytes, 0);
            format!("type {kind}, {end}: {}", decode_at(bytes, 0))
        }
    }
}

/// Records and what may stand between them, encoded and read again; and the same records appended to a log, which is opened again.
pub fn round_trip(input: &[u8]) -> String {
    let mut bytes = Unstructured::new(input);
    let Ok((steps, seal, zeros)) = <(Vec<Step>, bool, u16)>::arbitrary(&mut bytes) else {
        return "nothing".to_owned();
    };
    let header = steps::header();
    let log = build(&header, &steps::affordable(steps), seal, zeros.into());
    let end = (log.bytes.len() - usize::from(zeros)) as u64;
    let read = logs::decode(header.wal_id, header.log, &log.bytes);
    assert!(read.items == log.items, "what was written is what is read");
    assert_eq!(read.end, if seal { End::Sealed(end) } else { End::Open(end) });
    assert_eq!(read.digest, log.encoder.digest().get());
    assert_eq!(naive::audit(&read), Ok(()));
    let records = steps::records(&log);
    let (accepted, logs) = steps::append(&records);
    let back = life::read_back(&logs);
    assert_eq!(back.len(), accepted.len(), "what was accepted is what is there");
    for (record, accepted) in back.iter().zip(&accepted) {
        let given = (record.kind.get(), record.seqs.first().get(), record.seqs.last().get());
        let last = accepted.first_seq + u64::from(accepted.count) - 1;
        assert_eq!(given, (accepted.kind, accepted.first_seq, last));
        let families: Vec<u32> = record.families.iter().map(|family| family.get()).collect();
        assert_eq!(families, accepted.families);
        assert!(record.payload == accepted.payload[..], "the payload of record {}", record.index);
    }
    let blocks = log.bytes.len() / 32768;
    format!("{} records, {blocks} blocks, sealed {seal}", records.len().min(4))
}
