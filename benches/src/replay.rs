//! Reading a directory back, and a bare read of the same files beside it.

use std::fs::{self, File};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use wal_manager::{
    Durability, Error, Options, Record, RecordKind, Records, RecoveredRecord, Recovery, Verdict, Wal,
};

use crate::data::{self, Payloads};
use crate::stopwatch::time;

/// Length of all logs together that is measured, in bytes.
pub const DIRECTORY_BYTES: u64 = 256 << 20;

/// Lengths of the payloads that are measured, in bytes.
pub const SIZES: [usize; 2] = [128, 1024];

/// What the raw side reads at a time, in bytes: what the log's reader reads at a time.
const READ_BYTES: usize = 256 * 1024;

/// Name of the log's directory in the one that is given.
const LOG_NAME: &str = "log";

/// Name of the file beside it that says how many records there are.
const RECORDS_NAME: &str = "records";

/// A directory that was written and closed cleanly. Its files are in the page cache: what is measured is the work, not the disk.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    logs: Vec<PathBuf>,
    bytes: u64,
    records: u64,
    size: usize,
    /// Where it is, if it goes with this value.
    _temporary: Option<TempDir>,
}

/// What a thread has seen of one log; alone in its lines of the cache.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    records: AtomicU64,
    bytes: AtomicU64,
}

/// The two halves of a replay.
#[derive(Clone, Copy, Debug)]
pub struct Halves {
    /// Opening and, for a recovery, committing: of a directory that was closed cleanly, `recover()` reads headers and seals only, `inspect()`
    /// every byte.
    pub open: Duration,
    /// Handing out the records: every byte is read and checked.
    pub records: Duration,
}

impl Halves {
    /// Both.
    pub fn total(self) -> Duration {
        self.open + self.records
    }
}

impl Directory {
    /// Writes payloads of `size` bytes into a temporary directory until the logs hold `bytes` bytes, and closes.
    pub fn build(size: usize, bytes: u64) -> Self {
        let directory = data::directory();
        Self::build_in(directory.path(), size, bytes);
        let built = Self::at(directory.path(), size);
        Self { _temporary: Some(directory), ..built }
    }

    /// Writes payloads of `size` bytes until the logs hold `bytes` bytes, and closes. Logs have their default size.
    pub fn build_in(path: &Path, size: usize, bytes: u64) {
        let recovery = Wal::options(path.join(LOG_NAME)).recover();
        let (wal, _) = recovery.and_then(|recovery| recovery.finish_without_replay()).expect("a new log");
        let kind = RecordKind::new(1).expect("a kind of the engine's");
        let payloads = Payloads::new(size);
        while wal.logs().iter().map(|log| log.bytes).sum::<u64>() < bytes {
            for payload in payloads.iter() {
                wal.append_with(Record::new(kind, payload), Durability::Buffered).expect("an append");
            }
        }
        let records: u64 = wal.logs().iter().map(|log| log.records).sum();
        wal.close().expect("a clean end");
        fs::write(path.join(RECORDS_NAME), records.to_string()).expect("a file");
    }

    /// What [`Directory::build_in`] wrote there.
    pub fn at(path: &Path, size: usize) -> Self {
        let records = fs::read_to_string(path.join(RECORDS_NAME)).expect("a file");
        let records = records.parse().expect("a number");
        let path = path.join(LOG_NAME);
        let entries = fs::read_dir(&path).expect("a directory");
        let mut logs: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
        logs.sort();
        let bytes = logs.iter().map(|log| fs::metadata(log).expect("a file").len()).sum();
        Self { path, logs, bytes, records, size, _temporary: None }
    }

    /// How many records are in it.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Length of all logs together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `recover()`, `records()` to the end, and `finish()`, which makes a new log and commits it with a handful of syncs. A
    /// recovery changes the directory (a new log, a new epoch), so each gets a fresh one: the same logs by hard links, the rest copied.
    pub fn recover(&self) -> Halves {
        self.replay_with(|path| Wal::options(path), |recovery| self.drain(recovery.records()))
    }

    /// The same with `Recovery::for_each`, several logs at once.
    pub fn for_each(&self, threads: usize) -> Halves {
        let threads = NonZeroUsize::new(threads).expect("at least one thread");
        self.replay_with(
            |path| Wal::options(path).recovery_threads(threads),
            |recovery| {
                // A pair for each log, so that threads do not fight for a place in the cache: each log is one thread's.
                let counts: Vec<Counts> = self.logs.iter().map(|_| Counts::default()).collect();
                let each = |record: RecoveredRecord| {
                    let log = usize::try_from(record.log.get()).expect("a short log number");
                    let counts = &counts[log % counts.len()];
                    counts.bytes.fetch_add(black_box(record).payload.len() as u64, Ordering::Relaxed);
                    counts.records.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, Error>(())
                };
                let (took, result) = time(|| recovery.for_each(each));
                result.expect("it was closed cleanly");
                let sum = |part: fn(&Counts) -> &AtomicU64| {
                    counts.iter().map(|one| part(one).load(Ordering::Relaxed)).sum::<u64>()
                };
                let found = (sum(|counts| &counts.records), sum(|counts| &counts.bytes));
                assert_eq!(found, (self.records, self.payload_bytes()), "all of them");
                took
            },
        )
    }

    /// [`Directory::recover`] with records that are lent, not shared.
    pub fn lend(&self) -> Halves {
        self.lend_with(|path| Wal::options(path))
    }

    /// The same with options of the caller's choice.
    pub fn lend_with(&self, options: impl FnOnce(&Path) -> Options) -> Halves {
        self.replay_with(options, |recovery| self.borrow(recovery.records()))
    }

    fn replay_with(
        &self,
        options: impl FnOnce(&Path) -> Options,
        replay: impl FnOnce(&Recovery) -> Duration,
    ) -> Halves {
        let copy = data::directory();
        for entry in fs::read_dir(&self.path).expect("a directory") {
            let from = entry.expect("an entry").path();
            let to = copy.path().join(from.file_name().expect("a name"));
            if self.logs.contains(&from) {
                fs::hard_link(&from, &to).expect("a link");
            } else {
                fs::copy(&from, &to).expect("a copy");
            }
        }
        let (open, recovery) = time(|| options(copy.path()).recover().expect("it was closed cleanly"));
        assert_eq!(recovery.report().verdict, Verdict::Clean);
        let records = replay(&recovery);
        let (commit, _) = time(|| recovery.finish().expect("it was read to its end"));
        Halves { open: open + commit, records }
    }

    /// `inspect()`, which takes no lock and changes nothing, and then `records()` to the end.
    pub fn inspect(&self) -> Halves {
        let options = Wal::options(&self.path);
        let (open, inspection) = time(|| options.inspect().expect("it was closed cleanly"));
        assert_eq!(inspection.report().verdict, Verdict::Clean);
        let records = self.drain(inspection.records());
        Halves { open, records }
    }

    /// Reads every record once, as an engine would that looks at each payload's ends. Checked: all of them came.
    fn drain(&self, found: Records) -> Duration {
        let (took, (records, bytes)) = time(|| {
            let (mut records, mut bytes) = (0_u64, 0);
            for record in found {
                let record = black_box(record.expect("a record"));
                bytes += record.payload.len() as u64;
                records += 1;
            }
            (records, bytes)
        });
        assert_eq!((records, bytes), (self.records, self.payload_bytes()), "all of them");
        took
    }

    /// The same of records that are lent.
    fn borrow(&self, mut found: Records) -> Duration {
        let (took, (records, bytes)) = time(|| {
            let (mut records, mut bytes) = (0_u64, 0);
            while let Some(record) = found.lend() {
                let payload = black_box(record.expect("a record").payload);
                bytes += payload.len() as u64;
                records += 1;
            }
            (records, bytes)
        });
        assert_eq!((records, bytes), (self.records, self.payload_bytes()), "all of them");
        took
    }

    fn payload_bytes(&self) -> u64 {
        self.records * self.size as u64
    }

    /// Reads the same files once, 256 KiB at a time into one buffer, and takes the CRC-32 of every piece as long as a record is in the file.
    pub fn bare(&self) -> Duration {
        let piece = usize::try_from(self.bytes / self.records).expect("a record is short");
        let mut checksums = 0_u64;
        let took = self.read(|bytes| {
            for record in bytes.chunks(piece) {
                black_box(crc32fast::hash(black_box(record)));
                checksums += 1;
            }
        });
        assert!(checksums >= self.records, "as many checksums as records");
        took
    }

    /// Reads the same files once and does nothing with them.
    pub fn bare_read(&self) -> Duration {
        self.read(|bytes| {
            black_box(bytes);
        })
    }

    fn read(&self, mut take: impl FnMut(&[u8])) -> Duration {
        let (took, total) = time(|| {
            let mut buffer = vec![0; READ_BYTES];
            let mut total = 0;
            for log in &self.logs {
                let file = File::open(log).expect("a log");
                let mut offset = 0;
                loop {
                    let read = file.read_at(&mut buffer, offset).expect("a read");
                    if read == 0 {
                        break;
                    }
                    take(&buffer[..read]);
                    offset += read as u64;
                }
                total += offset;
            }
            total
        });
        assert_eq!(total, self.bytes, "all of them");
        took
    }
}
