//! The directories of `tests/golden/v1`, which every later version must open: how they were made, and what came out of them.
//!
//! They were written once, by the first version that promised to read them, and what stands here only tells how, and makes more of them beside
//! them. The bytes in the repository count: a later writer may write others, and must read these.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot};
use wal_format::{Epoch, FileHeader, Index, LogNumber};
use wal_io::probe::Way;
use wal_io::sim::{Fault, SimStorage};
use wal_manager::{
    ArchiveLimits, Durability, FamilyId, MemStorage, Options, Record, RecoveredRecord, RecoveryReport,
    SeqNum, SeqRange, Wal, Window, WriteBatch,
};

use crate::clock::StepClock;
use crate::life::{self, SMALL, record, reopen};
use crate::logs::{LogBuilder, WAL_ID, pattern};

/// The files of a directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Where the directories are.
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

/// The name of a directory, and how it is made.
pub type Made = (&'static str, fn() -> Files);

/// Every directory, by name.
pub const DIRECTORIES: &[Made] = &[
    ("archive", archive),
    ("closed", closed),
    ("damaged", damaged),
    ("held", held),
    ("killed", killed),
    ("later", later),
    ("recycled", recycled),
    ("resumed", resumed),
];

/// Without a thread of its own and at a fixed time, so that the same files come out each time.
fn options(options: Options) -> Options {
    let clock = StepClock::default();
    clock.advance(Duration::from_secs(1_700_000_000));
    options.clock(Arc::new(clock)).background(false).way(Way::Append).config_fingerprint(0x1122_3344)
}

fn files(storage: &SimStorage) -> Files {
    storage.file_names().into_iter().map(|name| (name.clone(), storage.read_file(&name).unwrap())).collect()
}

fn on_mem(storage: &MemStorage) -> Options {
    options(life::options(storage))
}

/// Everything that a record can have, over three logs, closed cleanly, opened again and closed again.
fn closed() -> Files {
    let storage = MemStorage::new();
    let (wal, ..) = reopen(on_mem(&storage).record_times(true));
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"k", b"v").unwrap();
    batch.delete(FamilyId::DEFAULT, b"k").unwrap();
    batch.merge(FamilyId::new(300), b"n", b"+1").unwrap();
    batch.delete_range(FamilyId::new(300), b"a", b"m").unwrap();
    wal.append(&batch).unwrap();
    wal.append(record(b"with a key").key(0x0123_4567_89ab_cdef)).unwrap();
    let families = life::families(&[0, 5, 0x00ff_ffff]);
    wal.append(record(b"of three families, 1000 numbers").families(&families).seqs(SeqNum::new(500), 1000))
        .unwrap();
    wal.rotate().unwrap();
    wal.append(record(&pattern(1, 33_000))).unwrap();
    wal.mark("before lunch").unwrap();
    wal.mark_flushed(FamilyId::new(300), SeqNum::new(3)).unwrap();
    wal.close().unwrap();
    let (wal, ..) = reopen(on_mem(&storage));
    wal.append(record(b"without a time")).unwrap();
    wal.close().unwrap();
    storage.files()
}

/// Three records that are proven, one that is not, and one that is torn in the middle.
fn killed() -> Files {
    let storage = MemStorage::new();
    let (wal, ..) = reopen(on_mem(&storage));
    for payload in ["one", "two", "three"] {
        wal.append(record(payload.as_bytes())).unwrap();
    }
    wal.append_with(record(b"written and not synced"), Durability::Written).unwrap();
    wal.append_with(record(b"written and torn by the power cut"), Durability::Written).unwrap();
    let mut files = storage.files();
    let newest = files.get_mut("000001.wal").unwrap();
    newest.truncate(newest.len() - 9);
    files
}

/// Holds, one of them a range and one lost, a dropped family, a window for duplicates, and the first logs deleted; killed.
fn held() -> Files {
    let storage = MemStorage::new();
    let other = FamilyId::new(7);
    let (wal, ..) = reopen(on_mem(&storage).duplicates(Window::new(2)));
    for log in 1..=5_u64 {
        wal.append(record(format!("log {log}").as_bytes()).seqs(SeqNum::new(10 * log), 1).key(log.into()))
            .unwrap();
        wal.append(record(b"of a family that goes").families(&[other])).unwrap();
        if log < 5 {
            wal.rotate().unwrap();
        }
    }
    wal.hold("lost", SeqNum::new(10), Some(1)).unwrap();
    wal.hold("backup", SeqNum::new(30), Some(1 << 20)).unwrap();
    wal.hold_range("r\u{e9}plica", SeqRange::new(SeqNum::new(40), 2).unwrap(), None).unwrap();
    wal.drop_family(other).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(40)).unwrap();
    wal.append(record(b"behind the marks")).unwrap();
    storage.files()
}

/// Files that are filled with zeros before they are used, one of them a log's that was deleted, the next one made ahead; killed. Those that are
/// written past the cache have the same bytes.
fn recycled() -> Files {
    let storage = SimStorage::new();
    let way = Way::Filled;
    let (wal, ..) = reopen(options(life::options(&storage)).way(way).recycle(1).log_bytes(SMALL));
    for log in 1..=6_u64 {
        let appended = wal.append(record(format!("log {log}").as_bytes())).unwrap();
        wal.append(record(&pattern(log as usize, 1000))).unwrap();
        wal.housekeep().unwrap();
        if log == 3 || log == 5 {
            let before = appended.seqs.first().get() - 1;
            wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(before)).unwrap();
        }
        if log < 6 {
            wal.rotate().unwrap();
            wal.housekeep().unwrap();
        }
    }
    wal.append_with(record(b"written and not synced"), Durability::Written).unwrap();
    assert!(storage.trace().iter().any(|line| line.contains("rename 00000")), "a deleted log became another");
    files(&storage)
}

/// A sync failed, and the log went on in another one, with everything that was accepted.
fn resumed() -> Files {
    let storage = SimStorage::new();
    let (wal, ..) = reopen(options(life::options(&storage)));
    wal.append(record(b"durable")).unwrap();
    storage.fail(Fault::parse("fail sync #1 of 000001.wal with EIO").unwrap());
    wal.append(record(b"accepted, and not durable yet")).unwrap_err();
    wal.resume().unwrap();
    wal.append(record(b"behind the resume")).unwrap();
    files(&storage)
}

/// What a later minor version may write and this one must pass over: versions, fields behind the fields, chunks that say that they can be ignored.
fn later() -> Files {
    let mut header = FileHeader::new(WAL_ID, LogNumber::new(1), Epoch::new(1), Index::FIRST, SeqNum::new(1));
    header.version = 2;
    let mut log = LogBuilder::with_longer_header(&header, b"later fields");
    log.record(b"before").raw(0x80, b"?").promise().raw(0xff, b"ignorable").record(b"behind").promise();
    let mut content = Checkpoint::new(WAL_ID);
    content.epoch = Epoch::new(1);
    content.highest = LogNumber::new(1);
    content.active = LogNumber::new(1);
    let mut checkpoint = Vec::new();
    for (slot, name) in [(Slot::A, b"slot A"), (Slot::B, b"slot B")] {
        let mut bytes = content.encode(slot);
        bytes[16] = 2;
        bytes.extend_from_slice(b"later fields");
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let crc = crate::naive::crc32(&[name, &bytes[4..]]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        checkpoint.resize(checkpoint.len().next_multiple_of(SLOT_BYTES), 0);
        checkpoint.append(&mut bytes);
    }
    Files::from([("000001.wal".to_owned(), log.bytes), ("CHECKPOINT".to_owned(), checkpoint)])
}

/// [`closed`], with a bit of the second record's payload flipped.
fn damaged() -> Files {
    let mut files = closed();
    let log = files.get_mut("000001.wal").unwrap();
    let at = log.windows(10).position(|bytes| bytes == b"with a key").unwrap();
    log[at] ^= 0x04;
    files
}

/// Logs without a CHECKPOINT, as an archive keeps them: only a restore reads them.
fn archive() -> Files {
    let (storage, archive) = (MemStorage::new(), MemStorage::new());
    let kept: Arc<dyn wal_manager::Storage> = Arc::new(archive.clone());
    let (wal, ..) = reopen(on_mem(&storage).archive_on(kept, ArchiveLimits::NONE));
    for log in 1..=3 {
        wal.append(record(format!("log {log}").as_bytes())).unwrap();
        wal.rotate().unwrap();
    }
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap();
    wal.close().unwrap();
    archive.files()
}

/// A record as a line.
pub fn line(record: &RecoveredRecord) -> String {
    let RecoveredRecord { index, seqs, kind, families, payload, time_micros, key, .. } = record;
    let families: Vec<String> = families.iter().map(ToString::to_string).collect();
    let mut line = format!(
        "{index}: {}..={} kind {:#06x} families {}",
        seqs.first(),
        seqs.last(),
        kind.get(),
        families.join(",")
    );
    if let Some(time) = time_micros {
        write!(line, " time {time}").unwrap();
    }
    if let Some(key) = key {
        write!(line, " key {key:#x}").unwrap();
    }
    match payload.len() {
        length @ 100.. => {
            write!(line, " {length} bytes, CRC-32 {:08x}", crate::naive::crc32(&[payload])).unwrap()
        }
        _ => write!(line, " \"{}\"", payload.escape_ascii()).unwrap(),
    }
    line
}

/// What a look without the lock says of a directory: only what will always be said, and no reasons in words.
pub fn report(report: &RecoveryReport) -> String {
    let mut text = format!(
        "{:?}, epoch {}, {} records up to {}, {} bytes cut\n",
        report.verdict, report.epoch, report.records, report.next_index, report.cut_bytes
    );
    for log in &report.logs {
        let sealed = if log.sealed { ", sealed" } else { "" };
        writeln!(
            text,
            "log {}: {:?}, {} bytes, {} records up to byte {}{sealed}",
            log.log, log.verdict, log.bytes, log.records, log.offset
        )
        .unwrap();
    }
    for finding in &report.findings {
        writeln!(text, "damage in log {} at byte {}", finding.log, finding.offset).unwrap();
    }
    text
}

/// What CHECKPOINT says of families and holds.
pub fn marks(checkpoint: &Checkpoint) -> String {
    let mut text = String::new();
    for (family, seq) in &checkpoint.flushed {
        let dropped = if checkpoint.dropped.contains(family) { ", dropped" } else { "" };
        writeln!(text, "family {family} flushed through {seq}{dropped}").unwrap();
    }
    for (name, hold) in &checkpoint.holds {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (to, budget) = (number(hold.to.map(SeqNum::get)), number(hold.budget));
        writeln!(text, "hold {name} from {} to {to} budget {budget} lost {}", hold.from, hold.lost).unwrap();
    }
    text
}

/// Appends one record, for whoever goes on in an old directory.
pub fn go_on(wal: &Wal) {
    wal.append(Record::new(life::KIND, b"appended by a later version")).unwrap();
}
