//! The files of `tests/golden`: how they are made, and where they are.
//!
//! Together they hold every chunk type, every optional field, every way in which a record is cut, and both kinds of padding.

use std::path::PathBuf;

use wal_format::checkpoint::{Checkpoint, CleanEnd, Hold, LogRange, SLOT_BYTES, Slot};
use wal_format::header::Predecessor;
use wal_format::{Epoch, FamilyId, FileHeader, Index, LogNumber, SeqNum, WriteBatch};

use crate::logs::{LogBuilder, WAL_ID, pattern};
use crate::naive;

/// Every golden file: its name and its bytes as today's code writes them.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("000001.wal", small().bytes),
        ("000002.wal", blocks().bytes),
        ("000003.wal", empty().bytes),
        ("000004.wal", padded().bytes),
        ("CHECKPOINT", checkpoint_file()),
    ]
}

/// Where a golden file is.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Log 1: a few short records, promises and a seal; the worked example of `docs/format.md`.
pub fn small() -> LogBuilder {
    let mut header = FileHeader::new(WAL_ID, LogNumber::new(1), Epoch::new(1), Index::FIRST, SeqNum::new(1));
    header.config_fingerprint = 0x1122_3344_5566_7788;
    header.created_micros = 1_700_000_000_000_000;
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"k", b"v").unwrap();
    batch.delete(FamilyId::DEFAULT, b"k").unwrap();
    batch.merge(FamilyId::new(300), b"n", b"+1").unwrap();
    batch.delete_range(FamilyId::new(300), b"a", b"m").unwrap();
    let mut log = LogBuilder::with_header(&header);
    log.record(b"hello");
    log.group(|log| {
        log.batch(&batch);
    });
    log.next_seq = 1000;
    let full = naive::Record {
        kind: 0xefff,
        families: vec![0, 5, 0x00ff_ffff],
        time_micros: Some(1_700_000_000_000_001),
        duplicate_key: Some(*b"duplicate key 16"),
        codec: Some(2),
        key_id: Some(0xdead_beef),
        ..log.next(b"all fields")
    };
    log.group(|log| {
        log.append(full);
    });
    log.promise().seal();
    log
}

/// Log 2: records over three blocks, both kinds of padding, ignorable chunks, no seal, and zeros behind the end.
pub fn blocks() -> LogBuilder {
    let mut header =
        FileHeader::new(WAL_ID, LogNumber::new(2), Epoch::new(1), Index::new(4), SeqNum::new(1001));
    let sealed = small();
    header.predecessor = Some(Predecessor {
        log: LogNumber::new(1),
        end: sealed.bytes.len() as u64 - 43,
        proven: sealed.bytes.len() as u64 - 43,
        digest: sealed.encoder.digest().get(),
    });
    let mut log = LogBuilder::with_header(&header);
    log.fill_to(22).promise().raw(0x80, b"ignorable").fill_to(100).record(&pattern(1, 33_000)).fill_to(7);
    log.record(b"behind seven zeros").promise().record(b"unproven").zeros(100);
    log
}

/// Log 3: nothing but a header and a seal.
pub fn empty() -> LogBuilder {
    let mut log = LogBuilder::new(3);
    log.seal();
    log
}

/// Log 4: each group is padded to 4096 bytes, and one is so where three bytes are left.
pub fn padded() -> LogBuilder {
    let mut log = LogBuilder::new(4);
    log.record(b"hello").filler(4096).fill_to(32768 - 2 * 4096 + 3).filler(4096);
    log.group(|log| {
        log.record(b"behind").filler(4096);
    });
    log.seal();
    log
}

/// The content of CHECKPOINT: one for each slot, as in the middle of an update.
pub fn checkpoints() -> [Checkpoint; 2] {
    let mut checkpoint = Checkpoint::new(WAL_ID);
    checkpoint.version = 7;
    checkpoint.epoch = Epoch::new(3);
    checkpoint.highest = LogNumber::new(5);
    checkpoint.lowest = LogNumber::new(2);
    checkpoint.active = LogNumber::new(4);
    checkpoint.next_index = Index::new(99);
    checkpoint.seq_floor = SeqNum::new(1234);
    checkpoint.sealed_through = LogNumber::new(3);
    checkpoint.config_fingerprint = 0x1122_3344_5566_7788;
    checkpoint.flushed.insert(FamilyId::DEFAULT, SeqNum::new(1000));
    checkpoint.flushed.insert(FamilyId::MAX, SeqNum::new(17));
    let backup = Hold {
        from: SeqNum::new(900),
        to: Some(SeqNum::new(1200)),
        budget: Some(1 << 30),
        since_micros: 1_700_000_000_000_000,
        lost: false,
    };
    checkpoint.holds.insert("backup".to_owned(), backup);
    let replica = Hold { from: SeqNum::new(3), to: None, budget: None, since_micros: 0, lost: true };
    checkpoint.holds.insert("réplica".to_owned(), replica);
    checkpoint.dropped.insert(FamilyId::MAX);
    let mut older = checkpoint.clone();
    older.version = 6;
    let flushed_logs = [(2, 2), (4, 4)]
        .map(|(first, last)| LogRange { first: LogNumber::new(first), last: LogNumber::new(last) });
    older.clean_end = Some(CleanEnd {
        log: LogNumber::new(4),
        end: 4096,
        next_index: Index::new(99),
        flushed_logs: flushed_logs.to_vec(),
    });
    [checkpoint, older]
}

fn checkpoint_file() -> Vec<u8> {
    let [newer, older] = checkpoints();
    let mut bytes = newer.encode(Slot::A);
    bytes.resize(SLOT_BYTES, 0);
    bytes.extend_from_slice(&older.encode(Slot::B));
    bytes
}
