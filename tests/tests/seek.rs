//! Seeking (W2): how much a follower reads to find its place, counted, in a directory of 10 GiB that is made up while it is read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal_format::checkpoint::{Checkpoint, Slot};
use wal_format::chunk::{ChunkType, HEADER_BYTES, LogSeed};
use wal_format::control::Promise;
use wal_format::header::{FileHeader, Predecessor};
use wal_format::record::{Head, encode_envelope};
use wal_format::{BLOCK_BYTES, Epoch, FamilyId, Index, LogNumber, SeqNum, SeqRange, WalId};
use wal_io::{Access, Entry, EntryKind, IoError, Lock, Operation, Sink, Source, Storage};
use wal_manager::{Error, FollowFrom, SimStorage, Wal};
use wal_tests::faulty::{FaultyStorage, Kind};
use wal_tests::life::{KIND, open, options, payload, record};
use wal_tests::rng::Rng;

const ID: WalId = WalId::from_bytes([9; 16]);
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Sequence numbers of each record.
const COUNT: u32 = 3;

/// Logs of whole blocks, of which each but the first begins with a promise; behind that, one record fills the block. Nothing of it is stored.
#[derive(Clone, Debug)]
struct MadeUp {
    logs: u64,
    /// Blocks in each log.
    blocks: u64,
    /// Records before the first log were deleted.
    deleted: u64,
    /// Blocks that were read, or begun.
    read: Arc<AtomicU64>,
}

impl MadeUp {
    /// Index of the record in this block.
    fn index(&self, log: u64, block: u64) -> u64 {
        self.deleted + (log - 1) * self.blocks + block + 1
    }

    fn header(&self, log: u64) -> FileHeader {
        let first = self.index(log, 0);
        let floor = SeqNum::new((first - 1) * u64::from(COUNT) + 1);
        let mut header = FileHeader::new(ID, LogNumber::new(log), Epoch::new(1), Index::new(first), floor);
        let end = self.blocks * BLOCK;
        let before = Predecessor { log: LogNumber::new(log - 1), end, proven: end, digest: 0 };
        header.predecessor = (log > 1).then_some(before);
        header
    }

    fn block(&self, log: u64, block: u64) -> Vec<u8> {
        let seed = LogSeed::new(ID, LogNumber::new(log));
        let mut bytes = Vec::new();
        let chunk = |bytes: &mut Vec<u8>, kind: ChunkType, payload: &[u8]| {
            let offset = block * BLOCK + bytes.len() as u64;
            bytes.extend(seed.checksum(offset, kind.to_byte(), payload).to_le_bytes());
            bytes.extend((payload.len() as u16).to_le_bytes());
            bytes.push(kind.to_byte());
            bytes.extend(payload);
        };
        let index = Index::new(self.index(log, block));
        if block == 0 {
            chunk(&mut bytes, ChunkType::Header, &self.header(log).encode());
        } else {
            let promise = Promise { durable_end: block * BLOCK, next_index: index };
            chunk(&mut bytes, ChunkType::Promise, &promise.encode());
        }
        let first = SeqNum::new((index.get() - 1) * u64::from(COUNT) + 1);
        let head = Head::new(KIND, index, SeqRange::new(first, COUNT).unwrap());
        let mut record = Vec::new();
        encode_envelope(&mut record, &head, &[FamilyId::DEFAULT]);
        record.resize(BLOCK_BYTES - bytes.len() - HEADER_BYTES, index.get() as u8);
        chunk(&mut bytes, ChunkType::Full, &record);
        assert_eq!(bytes.len(), BLOCK_BYTES);
        bytes
    }

    fn checkpoint(&self) -> Checkpoint {
        let mut content = Checkpoint::new(ID);
        (content.epoch, content.version) = (Epoch::new(1), 7);
        (content.lowest, content.highest) = (LogNumber::new(1), LogNumber::new(self.logs));
        content.active = LogNumber::new(self.logs);
        content.next_index = Index::new(self.index(self.logs, 0));
        content
    }

    fn refuse(&self) -> IoError {
        IoError::new(Operation::Create, "made up", std::io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A file of it; log 0 is CHECKPOINT.
#[derive(Debug)]
struct File(MadeUp, u64);

impl Source for File {
    fn length(&self) -> Result<u64, IoError> {
        Ok(self.0.blocks * BLOCK)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        if self.1 == 0 {
            let slot = Slot::BOTH.into_iter().find(|slot| slot.offset() == offset).expect("a slot is read");
            let bytes = self.0.checkpoint().encode(slot);
            buffer[..bytes.len()].copy_from_slice(&bytes);
            return Ok(bytes.len());
        }
        let end = (offset + buffer.len() as u64).min(self.0.blocks * BLOCK);
        let mut at = offset;
        while at < end {
            let (block, within) = (at / BLOCK, (at % BLOCK) as usize);
            self.0.read.fetch_add(1, Ordering::Relaxed);
            let bytes = self.0.block(self.1, block);
            let part = (BLOCK_BYTES - within).min((end - at) as usize);
            let place = (at - offset) as usize;
            buffer[place..place + part].copy_from_slice(&bytes[within..within + part]);
            at += part as u64;
        }
        Ok((end.max(offset) - offset) as usize)
    }
}

impl Storage for MadeUp {
    fn path(&self) -> &Path {
        Path::new("made-up")
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        let names = (1..=self.logs).map(|log| format!("{log:06}.wal")).chain(["CHECKPOINT".to_owned()]);
        Ok(names.map(|name| Entry { name: name.into(), kind: EntryKind::File }).collect())
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        let log = name.strip_suffix(".wal").map_or(0, |number| number.parse().expect("a log"));
        Ok(Arc::new(File(self.clone(), log)))
    }

    fn create_with(&self, _: &str, _: Access) -> Result<Arc<dyn Sink>, IoError> {
        Err(self.refuse())
    }
    fn open_sink_with(&self, _: &str, _: Access) -> Result<Arc<dyn Sink>, IoError> {
        Err(self.refuse())
    }
    fn rename(&self, _: &str, _: &str) -> Result<(), IoError> {
        Err(self.refuse())
    }
    fn unlink(&self, _: &str) -> Result<(), IoError> {
        Err(self.refuse())
    }
    fn sync_dir(&self) -> Result<(), IoError> {
        Err(self.refuse())
    }
    fn sync_parents(&self) -> Result<(), IoError> {
        Err(self.refuse())
    }
    fn lock(&self, _: &str) -> Result<Box<dyn Lock>, IoError> {
        Err(self.refuse())
    }
}

/// How often something can be halved until nothing is left.
fn halvings(many: u64) -> u64 {
    u64::from(u64::BITS - many.leading_zeros())
}

/// To look at a log is to read one block: its header. To look into one is to read two: a window begins with so many. Beside the halvings: the
/// headers of the two logs behind the one that is found, asked for twice; and a window for the record itself, after one for the promise
/// that proves it, which may each have to go on for a few blocks.
fn bound(made: &MadeUp) -> u64 {
    halvings(made.logs) + 2 * halvings(made.blocks) + 4 + 2 * 14
}

#[test]
fn w2_a_seek_reads_as_many_blocks_as_the_logarithm_of_the_directory() {
    let mut rng = Rng::new(1);
    // 10 GiB in logs of 64 MiB, and in one log; a thousandth of that; and many small logs.
    for (logs, blocks) in [(160, 2048), (1, 327_680), (10, 32), (1, 327), (20_000, 16)] {
        let made = MadeUp { logs, blocks, deleted: 0, read: Arc::default() };
        let last = made.index(logs, blocks - 1) - 1;
        let mut most = 0;
        for sample in 0..60 {
            let wanted = match sample {
                0 => 1,
                1 => last,
                _ => 1 + rng.below(last),
            };
            let seq = (wanted - 1) * u64::from(COUNT) + 1 + rng.below(3);
            for from in [FollowFrom::Index(Index::new(wanted)), FollowFrom::Seq(SeqNum::new(seq))] {
                made.read.store(0, Ordering::Relaxed);
                let mut follower = Wal::options_on(Arc::new(made.clone())).follow(from).unwrap();
                let found = follower.try_next().unwrap().expect("it is there, and proven");
                assert_eq!(found.index.get(), wanted, "{from:?}");
                most = most.max(made.read.load(Ordering::Relaxed));
            }
        }
        let bytes = logs * blocks * BLOCK;
        println!("{bytes} bytes in {logs} logs: {most} blocks, {} are allowed", bound(&made));
        assert!(most <= bound(&made), "{most} blocks of {} in {logs} logs", logs * blocks);
    }
}

#[test]
fn w2_w4_a_seek_to_what_was_deleted_is_a_gap_at_once() {
    let made = MadeUp { logs: 160, blocks: 2048, deleted: 1_000_000, read: Arc::default() };
    for from in [FollowFrom::Index(Index::new(1_000_000)), FollowFrom::Seq(SeqNum::new(3_000_000))] {
        made.read.store(0, Ordering::Relaxed);
        let refused = Wal::options_on(Arc::new(made.clone())).follow(from).map(drop);
        assert!(matches!(refused, Err(Error::Gap { oldest, .. }) if oldest.get() == 1), "{refused:?}");
        assert!(made.read.load(Ordering::Relaxed) <= halvings(made.logs));
    }
    let first = Wal::options_on(Arc::new(made.clone())).follow(FollowFrom::Seq(SeqNum::new(3_000_001)));
    assert_eq!(first.unwrap().try_next().unwrap().unwrap().index.get(), 1_000_001);
}

/// Records from one byte to many blocks, in the process that writes: every one is found, and only as much is read as the halvings need, and
/// the records that they meet.
#[test]
fn w2_every_record_is_found_among_short_and_long_ones() {
    let disk = SimStorage::new();
    let storage = FaultyStorage::new(disk.clone());
    let wal = open(&storage);
    let mut rng = Rng::new(7);
    let mut seqs = Vec::new();
    const LONGEST: u64 = 300_000;
    for number in 1..=400 {
        let length = match rng.below(10) {
            0 => rng.below(LONGEST),
            1..=4 => rng.below(200),
            _ => rng.below(20_000),
        };
        let bytes = payload(number, 1 + length as usize);
        seqs.push(wal.append(record(&bytes)).unwrap().seqs.first());
        if rng.one_in(40) {
            wal.rotate().unwrap();
        }
    }
    // One more, so that everything before is proven to those outside.
    wal.append(record(b"last")).unwrap();
    let longest_log = wal.logs().iter().map(|info| info.bytes).max().unwrap();
    let reads = |storage: &FaultyStorage| storage.count(Kind::Read, ".wal") as u64;
    // A read is a window at the most, and a record that is met is read to its end.
    let a_record = 2 + LONGEST / (2 * BLOCK);
    let allowed = halvings(wal.logs().len() as u64) + (halvings(longest_log / BLOCK) + 4) * a_record + 4;
    for (place, seq) in seqs.iter().enumerate() {
        let index = Index::new(place as u64 + 1);
        for from in [FollowFrom::Index(index), FollowFrom::Seq(*seq)] {
            storage.forget();
            assert_eq!(wal.follow(from).unwrap().try_next().unwrap().unwrap().index, index);
            assert!(reads(&storage) <= allowed, "{} reads, {allowed} are allowed", reads(&storage));
            let outside = options(&disk).follow(from).unwrap().try_next().unwrap();
            assert_eq!(outside.unwrap().index, index);
        }
    }
}
