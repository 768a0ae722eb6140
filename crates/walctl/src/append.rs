//! `walctl append`: a record a line of standard input.

use std::io::{self, BufReader, Stdin};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use wal_manager::io::probe::Way;
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, PAYLOAD_BYTES_MAX, Record, RecordKind, Recovery, Wal,
};

use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::lines::{Line, Lines};
use crate::out;
use crate::progress;

/// Append a record a line of standard input
///
/// A record is any bytes but a newline. For each record that has reached its level, `SEQ LINE` is printed (LINE counts the
/// input's lines from 1) and standard output is flushed before anything is waited for. Lines that cannot be a record are
/// refused on standard error, the rest goes on, and the exit code is 2 at the end. DIR is created if it is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,

    /// Threads that share the lines
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    writers: u16,

    /// What a record has reached when it is printed: always, written, buffered or interval:MS
    ///
    /// `always`: synced, it survives a power cut. `written`: handed to the system, it survives the death of this process.
    /// `buffered`: accepted. `interval:MS`: synced, by a sync every MS milliseconds.
    #[arg(long, default_value = "always", value_parser = parse_sync)]
    sync: Sync,

    /// Size in bytes at which a log is closed and the next begun
    #[arg(long, value_name = "N")]
    log_bytes: Option<u64>,

    /// Kind of the records, 1 to 61439
    #[arg(long, value_name = "K", default_value = "1", value_parser = parse_kind)]
    kind: RecordKind,

    /// Family of the records, 0 to 16777215
    #[arg(long, value_name = "F", default_value = "0", value_parser = parse_family)]
    family: FamilyId,
}

/// When a record counts.
#[derive(Clone, Copy, Debug)]
enum Sync {
    /// Each record waits for its level.
    Each(Durability),
    /// A sync each time this much time has passed.
    Interval(Duration),
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    // A few lines are over before a probe of the directory, or a next log that is made ahead, would pay.
    let mut options = Wal::options(&args.dir).way(Way::Append).background(false);
    if let Some(bytes) = args.log_bytes {
        options = options.log_bytes(bytes);
    }
    let (options, bar) = progress::reading(options, false);
    let stop = Stop::default();
    stop.on_interrupt()?;
    let opened = options.recover().and_then(Recovery::finish_without_replay);
    bar.finish_and_clear();
    let (wal, _) = opened?;
    let run = Arc::new(Run {
        wal,
        input: Mutex::new(Lines::new(
            BufReader::with_capacity(INPUT_BUFFER_BYTES, io::stdin()),
            PAYLOAD_BYTES_MAX,
        )),
        kind: args.kind,
        families: [args.family],
        sync: args.sync,
        json,
        refused: AtomicBool::new(false),
        pending: Mutex::default(),
    });
    // Not scoped threads: when one fails, the others may be waiting for standard input, and nobody should wait for them.
    let (ended, ends) = mpsc::channel();
    stop.tell(&ended);
    let (stop, stopped) = mpsc::channel();
    let ticker = match args.sync {
        Sync::Each(_) => None,
        Sync::Interval(every) => {
            let (run, ended) = (Arc::clone(&run), ended.clone());
            Some(spawn("ticker", move || drop(ended.send(run.tick(every, &stopped))))?)
        }
    };
    for _ in 0..args.writers {
        let (run, ended) = (Arc::clone(&run), ended.clone());
        spawn("writer", move || drop(ended.send(run.write())))?;
    }
    let outcome = wait(&ends, args.writers, ticker.is_some(), stop);
    match outcome {
        // What was accepted is still written and sealed, whatever ended the input.
        Ok(()) | Err(Failure::BrokenPipe | Failure::Interrupted | Failure::Io { .. }) => run.wal.close()?,
        // What it was told is said already; if the close fails too, the next open is one after a crash.
        Err(Failure::Wal(Error::Full { .. })) => drop(run.wal.close()),
        Err(_) => {}
    }
    outcome?;
    Ok(if run.refused.load(Ordering::Relaxed) { Exit::Refused } else { Exit::Fine })
}

/// Ctrl-C: while the log is opened it ends the process at once, as a crash would; from then on it ends the input.
#[derive(Default)]
struct Stop(Arc<Mutex<Option<Ended>>>);

/// Where a thread tells how it ended.
type Ended = Sender<Result<(), Failure>>;

impl Stop {
    fn on_interrupt(&self) -> Result<(), Failure> {
        let told = Arc::clone(&self.0);
        interrupt::on(move || {
            // Whoever presses it a second time does not want to wait for the log to be closed.
            let Some(ended) = lock(&told).take() else { interrupt::end("the next open mends the log") };
            let _ = ended.send(Err(Failure::Interrupted));
        })
    }

    fn tell(&self, ended: &Ended) {
        *lock(&self.0) = Some(ended.clone());
    }
}

/// Everything that the threads share.
struct Run {
    wal: Wal,
    input: Mutex<Lines<BufReader<Stdin>>>,
    kind: RecordKind,
    families: [FamilyId; 1],
    sync: Sync,
    json: bool,
    /// Whether a line was refused.
    refused: AtomicBool,
    /// Records that were accepted but not yet synced and printed: sequence number and line.
    pending: Mutex<Vec<(u64, u64)>>,
}

/// What is printed for a record, as JSON.
#[derive(Serialize)]
struct Acknowledged {
    seq: u64,
    line: u64,
}

impl Run {
    /// One writer: until the input ends.
    fn write(&self) -> Result<(), Failure> {
        let mut line = Vec::new();
        while let Some(number) = self.next_line(&mut line)? {
            let level = match self.sync {
                Sync::Each(level) => level,
                Sync::Interval(_) => Durability::Buffered,
            };
            let record = Record::new(self.kind, &line).families(&self.families);
            let appended = match self.wal.append_with(record, level) {
                Err(error) if error.kind() == ErrorKind::Invalid => {
                    self.refuse(number, format_args!("{error}"));
                    continue;
                }
                other => other?,
            };
            let seq = appended.seqs.first().get();
            match self.sync {
                Sync::Each(_) => self.print(&[(seq, number)])?,
                Sync::Interval(_) => {
                    let full = {
                        let mut pending = lock(&self.pending);
                        pending.push((seq, number));
                        pending.len() >= PENDING_MAX
                    };
                    if full {
                        self.release()?;
                    }
                }
            }
            // One huge line should not be paid for until the end.
            if line.capacity() > INPUT_BUFFER_BYTES {
                line = Vec::new();
            }
        }
        Ok(())
    }

    /// The next line that can be a record, and its number.
    fn next_line(&self, line: &mut Vec<u8>) -> Result<Option<u64>, Failure> {
        let mut input = lock(&self.input);
        loop {
            let found = input.next(line).map_err(|error| Failure::io("reading standard input", error))?;
            let number = input.number();
            match found {
                Line::End => return Ok(None),
                Line::TooLong => {
                    self.refuse(
                        number,
                        format_args!("longer than the limit of {PAYLOAD_BYTES_MAX} bytes; split it"),
                    );
                }
                Line::Bytes if line.is_empty() => {
                    self.refuse(number, format_args!("empty; a record needs at least one byte"));
                }
                Line::Bytes => return Ok(Some(number)),
            }
        }
    }

    fn refuse(&self, number: u64, why: std::fmt::Arguments<'_>) {
        self.refused.store(true, Ordering::Relaxed);
        out::say(format_args!("line {number} refused: {why}"));
    }

    /// Syncs and prints what was accepted, every time `every` has passed, until told to stop; and then once more.
    fn tick(&self, every: Duration, stopped: &Receiver<()>) -> Result<(), Failure> {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
            self.release()?;
        }
        self.release()
    }

    /// Makes everything accepted so far durable and prints it.
    fn release(&self) -> Result<(), Failure> {
        // ORDER: taken before the sync, so that whatever is printed was accepted before the sync began.
        let accepted = std::mem::take(&mut *lock(&self.pending));
        if accepted.is_empty() {
            return Ok(());
        }
        self.wal.sync()?;
        self.print(&accepted)
    }

    fn print(&self, records: &[(u64, u64)]) -> Result<(), Failure> {
        let mut text = Vec::new();
        for &(seq, line) in records {
            if self.json {
                let object = serde_json::to_vec(&Acknowledged { seq, line });
                text.extend(object.map_err(|error| Failure::io("writing JSON", error.into()))?);
                text.push(b'\n');
            } else {
                text.extend(format!("{seq} {line}\n").as_bytes());
            }
        }
        out::line_now(&text)
    }
}

/// Waits until every writer has ended, then lets the ticker end. The first failure ends the waiting.
fn wait(
    ends: &Receiver<Result<(), Failure>>,
    writers: u16,
    ticker: bool,
    stop: Sender<()>,
) -> Result<(), Failure> {
    for _ in 0..writers {
        end(ends)?;
    }
    drop(stop);
    if ticker { end(ends) } else { Ok(()) }
}

/// The next thread's end.
fn end(ends: &Receiver<Result<(), Failure>>) -> Result<(), Failure> {
    // No sender left means that a thread died without a word, which only a panic does.
    ends.recv().unwrap_or_else(|_| Err(Failure::io("appending", io::Error::other("a thread panicked"))))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| Failure::io("starting a thread", error))
}

/// What is behind the locks stays valid at every step, so a panic elsewhere is no reason not to go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse_sync(text: &str) -> Result<Sync, String> {
    match text {
        "always" => Ok(Sync::Each(Durability::Synced)),
        "written" => Ok(Sync::Each(Durability::Written)),
        "buffered" => Ok(Sync::Each(Durability::Buffered)),
        _ => {
            let every = text.strip_prefix("interval:").and_then(|ms| ms.parse::<NonZeroU16>().ok());
            let every =
                every.ok_or("use always, written, buffered or interval:MS (1 to 65535 milliseconds)")?;
            Ok(Sync::Interval(Duration::from_millis(u64::from(every.get()))))
        }
    }
}

fn parse_kind(text: &str) -> Result<RecordKind, String> {
    let kind = text.parse::<u16>().map_err(|error| error.to_string())?;
    RecordKind::new(kind).map_err(|error| error.to_string())
}

pub(crate) fn parse_family(text: &str) -> Result<FamilyId, String> {
    let family = text.parse::<u32>().map_err(|error| error.to_string()).map(FamilyId::new)?;
    if family > FamilyId::MAX {
        return Err(format!("the highest family is {}", FamilyId::MAX));
    }
    Ok(family)
}

/// Buffer of standard input, and the longest line whose buffer is kept for the next line.
const INPUT_BUFFER_BYTES: usize = 256 * 1024;

/// Most records that wait for the next sync of `interval`: beyond it a writer syncs itself, so that memory stays bounded.
const PENDING_MAX: usize = 65_536;
