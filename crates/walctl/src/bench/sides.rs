//! Who is measured: the log, and bare files that are written and synced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wal_manager::{
    Clock, Durability, FamilyId, Options, Record, RecordKind, RecoveryReport, SystemClock, Wal,
};

use crate::exit::Failure;

/// What is written at once: so many records of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Length of a record.
    pub(super) bytes: usize,
    /// Threads that append; on the bare side, records in a write.
    pub(super) writers: u16,
}

/// How long a side is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Passes before anything counts.
    pub(super) warm: Duration,
    pub(super) counted: Duration,
}

/// The log in a directory of its own.
pub(super) struct Log {
    wal: Wal,
    kind: RecordKind,
    report: RecoveryReport,
}

impl Log {
    pub(super) fn open(options: Options) -> Result<Self, Failure> {
        let (wal, report) = options.recover()?.finish_without_replay()?;
        let kind = RecordKind::new(1).map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(Self { wal, kind, report })
    }

    /// What the open has found, and how files are written.
    pub(super) fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Leaves the log that the open began, whose file grows, for one that was made ahead, as every later one is.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        for _ in 0..2 {
            self.wal.append(Record::new(self.kind, b"before the measurement"))?;
            self.wal.housekeep()?;
        }
        Ok(())
    }

    /// All records so far are as good as flushed: their logs go, so that the disk does not fill up, and no thread is busy with that while
    /// something else is measured.
    pub(super) fn forget(&self) -> Result<(), Failure> {
        if let Some(last) = self.wal.last_seq() {
            self.wal.mark_flushed(FamilyId::DEFAULT, last)?;
        }
        Ok(self.wal.housekeep()?)
    }

    pub(super) fn close(self) -> Result<(), Failure> {
        self.wal.close().map_err(Failure::from)
    }

    pub(super) fn run(&self, load: Load, times: Times) -> Result<Calls, Failure> {
        let payload = payload(load.bytes);
        let window = Window::new(times);
        let mut all = Calls::default();
        thread::scope(|scope| {
            let append = || {
                let record = Record::new(self.kind, &payload);
                window.repeat(1, || {
                    self.wal.append_with(record, Durability::Synced)?;
                    Ok(())
                })
            };
            let threads: Vec<_> = (0..load.writers).map(|_| scope.spawn(append)).collect();
            for thread in threads {
                let calls = thread.join().map_err(|_| io::Error::other("a thread panicked"));
                let calls = calls.map_err(|error| Failure::io("appending", error))??;
                all.records += calls.records;
                all.seconds = all.seconds.max(calls.seconds);
                all.took.extend(calls.took);
            }
            Ok::<_, Failure>(())
        })?;
        Ok(all)
    }
}

/// A file and system calls.
pub(super) struct Bare {
    file: File,
    bytes: Vec<u8>,
    records: u64,
    offset: u64,
    /// Where writing begins at the start again, in a file that was written before.
    end: u64,
}

impl Bare {
    /// A file that grows.
    pub(super) fn grows(path: &Path, load: Load) -> Result<Self, Failure> {
        Self::new(path, load, None)
    }

    /// A file that was written before.
    pub(super) fn written(path: &Path, load: Load) -> Result<Self, Failure> {
        Self::new(path, load, Some(WRITTEN_BYTES))
    }

    fn new(path: &Path, load: Load, written: Option<u64>) -> Result<Self, Failure> {
        let failed = |error| Failure::file("writing", path, error);
        let file = File::create(path).map_err(failed)?;
        let bytes = payload(load.bytes).repeat(usize::from(load.writers));
        let end = written.map_or(u64::MAX, |length| length.max(bytes.len() as u64));
        if written.is_some() {
            let zeros = vec![0; FILL_BYTES];
            let mut offset = 0;
            while offset < end {
                file.write_all_at(&zeros, offset).map_err(failed)?;
                offset += FILL_BYTES as u64;
            }
        }
        // ORDER: before the measurement, or the first sync of it would carry what was written here.
        file.sync_all().map_err(failed)?;
        Ok(Self { file, bytes, records: u64::from(load.writers), offset: 0, end })
    }

    pub(super) fn run(&mut self, times: Times) -> Result<Calls, Failure> {
        let records = self.records;
        Window::new(times).repeat(records, || {
            let length = self.bytes.len() as u64;
            if self.offset > self.end.saturating_sub(length) {
                self.offset = 0;
            }
            let done = self.file.write_all_at(&self.bytes, self.offset).and_then(|()| self.file.sync_data());
            self.offset += length;
            done.map_err(|error| Failure::io("writing", error))
        })
    }
}

/// From when calls count, and until when they begin.
#[derive(Clone, Copy, Debug)]
struct Window {
    clock: SystemClock,
    counts: Duration,
    ends: Duration,
}

impl Window {
    fn new(times: Times) -> Self {
        let clock = SystemClock::default();
        let counts = clock.monotonic() + times.warm;
        Self { clock, counts, ends: counts + times.counted }
    }

    /// Calls it until the time is over.
    fn repeat(&self, records: u64, mut call: impl FnMut() -> Result<(), Failure>) -> Result<Calls, Failure> {
        let (mut before, mut took) = (self.clock.monotonic(), Vec::new());
        // At least once, however short the time is.
        while took.is_empty() || before < self.ends {
            if STOP.load(Ordering::Relaxed) {
                return Err(Failure::io("measuring", io::ErrorKind::Interrupted.into()));
            }
            call()?;
            let after = self.clock.monotonic();
            if before >= self.counts {
                took.push(after.saturating_sub(before));
            }
            before = after;
        }
        Ok(Calls {
            records: records * took.len() as u64,
            seconds: before.saturating_sub(self.counts).as_secs_f64(),
            took,
        })
    }
}

/// What was done, and what each call took.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) records: u64,
    pub(super) seconds: f64,
    pub(super) took: Vec<Duration>,
}

impl Calls {
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.seconds += other.seconds;
        self.took.extend(other.took);
    }

    pub(super) fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

/// Bytes that no disk compresses, the same each time.
fn payload(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_le_bytes())
    };
    std::iter::from_fn(next).flatten().take(size).collect()
}

/// Ctrl-C was pressed: everything ends, and what was made is removed.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// Length of the file that is written before.
const WRITTEN_BYTES: u64 = 16 << 20;

/// What it is filled with at a time.
const FILL_BYTES: usize = 1 << 20;
