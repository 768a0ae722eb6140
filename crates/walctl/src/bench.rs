//! `walctl bench`: what durable appends cost in a directory, beside the bare system calls in the same one.
//!
//! A small version of the project's benchmark (`benches/`), for the person who runs the log on some other disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;
use wal_manager::{Clock, Durability, Record, RecordKind, SystemClock, Wal};

use crate::exit::{Exit, Failure};
use crate::out::Out;

/// Measure durable appends in a directory, beside bare writes and syncs
///
/// For each length of records and each number of writers: the log, a file that grows, and a file that was written before, in turns. The
/// bare files get as many records in one write and one sync as there are writers, from one thread: no group can be better. A ratio of 0.9
/// means 90 % of the better one's rate. DIR must be there and hold no log; everything happens in a new directory inside, which is removed at
/// the end, also after Ctrl-C. On a file system in memory the numbers mean nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory, on the disk that is to be measured
    dir: PathBuf,

    /// Length of a record in bytes; may be given several times [default: 128, 1024 and 16384]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SIZE_MAX))]
    size: Vec<u32>,

    /// Threads that append at once; may be given several times [default: 1 and 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    writers: Vec<u16>,

    /// How long each is measured, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    refuse_a_log(&args.dir)?;
    ctrlc::set_handler(|| STOP.store(true, Ordering::Relaxed))
        .map_err(|error| Failure::io("waiting for Ctrl-C", io::Error::other(error)))?;
    let made = tempfile::Builder::new().prefix("walctl-bench-").tempdir_in(&args.dir);
    let place = made.map_err(|error| Failure::file("making a directory in", &args.dir, error))?;
    let measured = measure(args, &place, json);
    let removed =
        place.close().map_err(|error| Failure::file("removing what was measured in", &args.dir, error));
    measured.and(removed)?;
    Ok(Exit::Fine)
}

/// Nobody measures beside a log by mistake, and nothing of a log is ever removed.
fn refuse_a_log(dir: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::file("reading", dir, error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if matches!(&*name, "CHECKPOINT" | "LOCK") || name.ends_with(".wal") {
            return Err(Failure::Refused(format!(
                "{} holds a log ({name}): measure in another directory of the same disk",
                dir.display()
            )));
        }
    }
    Ok(())
}

fn measure(args: &Args, place: &TempDir, json: bool) -> Result<(), Failure> {
    let sizes = if args.size.is_empty() { &SIZES } else { args.size.as_slice() };
    let writers = if args.writers.is_empty() { &WRITERS } else { args.writers.as_slice() };
    let mut out = Out::new();
    if !json {
        out.line(format_args!(
            "{:>8} {:>8}  {:<12} {:>12} {:>10} {:>10} {:>7}",
            "BYTES", "WRITERS", "WHAT", "RECORDS/S", "P50_US", "P99_US", "RATIO"
        ))?;
    }
    for &size in sizes {
        for &writers in writers {
            let rows = case(place.path(), usize::try_from(size).unwrap_or(usize::MAX), writers, args.millis)?;
            for row in &rows {
                if json {
                    out.json(row)?;
                } else {
                    out.line(format_args!("{row}"))?;
                }
            }
            out.flush()?;
        }
    }
    Ok(())
}

/// Measures the three in turns, each as often.
fn case(place: &Path, size: usize, writers: u16, millis: u64) -> Result<[Row; 3], Failure> {
    let time = Duration::from_millis(millis) / ROUNDS;
    let log = Log::open(&place.join("wal"))?;
    let mut grows = Bare::new(&place.join("grows"), size, writers, None)?;
    let mut written = Bare::new(&place.join("written"), size, writers, Some(WRITTEN_BYTES))?;
    let mut of = [Calls::default(), Calls::default(), Calls::default()];
    for _ in 0..ROUNDS {
        let [log_calls, grows_calls, written_calls] = &mut of;
        log_calls.add(log.run(size, writers, time)?);
        grows_calls.add(grows.run(time)?);
        written_calls.add(written.run(time)?);
    }
    log.wal.close()?;
    fs::remove_dir_all(place.join("wal")).map_err(|error| Failure::file("removing", place, error))?;
    let [log, grows, written] = of;
    let best = grows.rate().max(written.rate());
    let row = |what, calls: Calls, ratio| Row::new(size, writers, what, calls, ratio);
    let ratio = log.rate() / best;
    Ok([row("log", log, Some(ratio)), row("grows", grows, None), row("written", written, None)])
}

/// The log in a directory of its own.
struct Log {
    wal: Wal,
    kind: RecordKind,
}

impl Log {
    fn open(path: &Path) -> Result<Self, Failure> {
        let (wal, _) = Wal::options(path).recover()?.finish_without_replay()?;
        let kind = RecordKind::new(1).map_err(|error| Failure::Refused(error.to_string()))?;
        Ok(Self { wal, kind })
    }

    fn run(&self, size: usize, writers: u16, time: Duration) -> Result<Calls, Failure> {
        let payload = payload(size);
        let mut all = Calls::default();
        let clock = SystemClock::default();
        let start = clock.monotonic();
        thread::scope(|scope| {
            let append = || {
                let record = Record::new(self.kind, &payload);
                repeat(time, 1, || {
                    self.wal.append_with(record, Durability::Synced)?;
                    Ok(())
                })
            };
            let threads: Vec<_> = (0..writers).map(|_| scope.spawn(append)).collect();
            for thread in threads {
                let calls = thread.join().map_err(|_| io::Error::other("a thread panicked"));
                all.took.extend(calls.map_err(|error| Failure::io("appending", error))??.took);
            }
            Ok::<_, Failure>(())
        })?;
        all.records = all.took.len() as u64;
        all.seconds = clock.monotonic().saturating_sub(start).as_secs_f64();
        Ok(all)
    }
}

/// A file and system calls.
struct Bare {
    file: File,
    bytes: Vec<u8>,
    records: u64,
    offset: u64,
    /// Where writing begins at the start again, in a file that was written before.
    end: u64,
}

impl Bare {
    fn new(path: &Path, size: usize, writers: u16, written: Option<u64>) -> Result<Self, Failure> {
        let failed = |error| Failure::file("writing", path, error);
        let file = File::create(path).map_err(failed)?;
        let bytes = payload(size).repeat(usize::from(writers));
        let end = written.map_or(u64::MAX, |length| length.max(bytes.len() as u64));
        if written.is_some() {
            let zeros = vec![0; FILL_BYTES];
            let mut offset = 0;
            while offset < end {
                file.write_all_at(&zeros, offset).map_err(failed)?;
                offset += FILL_BYTES as u64;
            }
        }
        file.sync_all().map_err(failed)?;
        Ok(Self { file, bytes, records: u64::from(writers), offset: 0, end })
    }

    fn run(&mut self, time: Duration) -> Result<Calls, Failure> {
        let records = self.records;
        repeat(time, records, || {
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

/// Calls it until the time is over.
fn repeat(
    time: Duration,
    records: u64,
    mut call: impl FnMut() -> Result<(), Failure>,
) -> Result<Calls, Failure> {
    let clock = SystemClock::default();
    let start = clock.monotonic();
    let (mut before, mut took) = (start, Vec::new());
    // At least once, however short the time is.
    while took.is_empty() || before.saturating_sub(start) < time {
        if STOP.load(Ordering::Relaxed) {
            return Err(Failure::io("measuring", io::ErrorKind::Interrupted.into()));
        }
        call()?;
        let after = clock.monotonic();
        took.push(after.saturating_sub(before));
        before = after;
    }
    Ok(Calls {
        records: records * took.len() as u64,
        seconds: (before.saturating_sub(start)).as_secs_f64(),
        took,
    })
}

/// What was done, and what each call took.
#[derive(Debug, Default)]
struct Calls {
    records: u64,
    seconds: f64,
    took: Vec<Duration>,
}

impl Calls {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.seconds += other.seconds;
        self.took.extend(other.took);
    }

    fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

/// A line of the table, or a JSON line.
#[derive(Debug, Serialize)]
struct Row {
    bytes: usize,
    writers: u16,
    /// `log`, `grows` or `written`.
    what: &'static str,
    records: u64,
    records_per_second: f64,
    /// Of an append; of the bare files, of a write and a sync.
    p50_us: f64,
    p99_us: f64,
    /// The log's rate beside the better of the bare ones.
    ratio: Option<f64>,
}

impl Row {
    fn new(bytes: usize, writers: u16, what: &'static str, mut calls: Calls, ratio: Option<f64>) -> Self {
        calls.took.sort_unstable();
        let at = |percent: usize| {
            let number = (calls.took.len() * percent / 100).min(calls.took.len().saturating_sub(1));
            calls.took.get(number).map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        let (records, records_per_second) = (calls.records, calls.rate());
        Self { bytes, writers, what, records, records_per_second, p50_us: at(50), p99_us: at(99), ratio }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, writers, what, records_per_second, p50_us, p99_us, ratio, .. } = self;
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        write!(
            f,
            "{bytes:>8} {writers:>8}  {what:<12} {records_per_second:>12.0} {p50_us:>10.1} {p99_us:>10.1} {ratio:>7}"
        )
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
static STOP: AtomicBool = AtomicBool::new(false);

/// How often the three take their turn.
const ROUNDS: u32 = 5;

/// The longest record that is measured: 1 MiB.
const SIZE_MAX: i64 = 1 << 20;

const SIZES: [u32; 3] = [128, 1024, 16 * 1024];

const WRITERS: [u16; 2] = [1, 8];

/// Length of the file that is written before.
const WRITTEN_BYTES: u64 = 16 << 20;

/// What it is filled with at a time.
const FILL_BYTES: usize = 1 << 20;
