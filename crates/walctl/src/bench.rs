//! `walctl bench`: what durable appends cost in a directory, beside the bare system calls in the same one.
//!
//! A small version of the project's benchmark (`benches/`), for the person who runs the log on some other disk.

mod facts;
mod files;
#[cfg(test)]
mod fixture;
mod groups;
mod numbers;
mod page;
mod plot;
mod sides;
mod sweep;
mod text;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;
use wal_manager::Wal;

use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::look::refuse_a_log;
use crate::out::Out;
use crate::progress;
use numbers::Point;
use sides::{Bare, Calls, Load, Log, STOP, Times};

/// Measure durable appends in a directory, beside bare writes and syncs
///
/// For each length of records and each number of writers: the log, a file that grows, and a file that was written before, in turns. The
/// bare files get as many records in one write and one sync as there are writers, from one thread: no group can be larger. A ratio of 0.9
/// means 90 % of the better one's rate. DIR must be there and hold no log; everything happens in a new directory inside, which is removed at
/// the end, also after Ctrl-C. On a file system in memory the numbers mean nothing.
///
/// With --report, more numbers of writers and several repetitions, as a page with plots: latency and group size over the number of writers, and
/// throughput beside the bare files. It takes about two minutes, and up to 2 GiB of the disk where that is fast.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory, on the disk that is to be measured
    dir: PathBuf,

    /// Length of a record in bytes; may be given several times [default: 128, 1024 and 16384]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=SIZE_MAX))]
    size: Vec<u32>,

    /// Threads that append at once; may be given several times [default: 1 and 8; with --report 1, 2, 4, 8, 16, 32 and 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=WRITERS_MAX))]
    writers: Vec<u16>,

    /// How long each is measured, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,

    /// Write a page for a browser, FILE.html, and every measurement beside it, FILE.csv; both are replaced
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,

    /// Repetitions, which share the time [default: 5]
    #[arg(long, value_name = "N", requires = "report", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: Option<u32>,

    /// Seed of the order in which the loads are measured [default: random]
    #[arg(long, value_name = "N", requires = "report")]
    seed: Option<u64>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    // Nobody measures beside a log by mistake, and nothing of a log is ever removed.
    refuse_a_log(&args.dir, "measure in another directory of the same disk")?;
    interrupt::on(|| STOP.store(true, Ordering::Relaxed))?;
    // Before anything is measured: a page that cannot be written is told at once.
    let report = args.report.as_deref().map(files::Files::new).transpose()?;
    let made = tempfile::Builder::new().prefix("walctl-bench-").tempdir_in(&args.dir);
    let place = made.map_err(|error| Failure::file("making a directory in", &args.dir, error))?;
    let measured = match report {
        None => measure(args, &place, json),
        Some(files) => sweep::report(args, &place, files, json),
    };
    let removed =
        place.close().map_err(|error| Failure::file("removing what was measured in", &args.dir, error));
    measured.and(removed)?;
    Ok(Exit::Fine)
}

fn measure(args: &Args, place: &TempDir, json: bool) -> Result<(), Failure> {
    let sizes = if args.size.is_empty() { &SIZES } else { args.size.as_slice() };
    let writers = if args.writers.is_empty() { &WRITERS } else { args.writers.as_slice() };
    let mut out = Out::new();
    heading(&mut out, json)?;
    let loads = loads(sizes, writers);
    let bar = progress::bar(loads.len() as u64, "{wide_bar} {pos}/{len} measurements, {eta} left");
    for load in loads {
        bar.tick();
        let rows = case(place.path(), load, args.millis)?;
        // The bar is away while a line is written to what may be the same terminal.
        bar.suspend(|| print(&mut out, &rows, json))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Every length with every number of writers.
fn loads(sizes: &[u32], writers: &[u16]) -> Vec<Load> {
    let load = |&size, &writers| Load { bytes: usize::try_from(size).unwrap_or(usize::MAX), writers };
    sizes.iter().flat_map(|size| writers.iter().map(move |writers| load(size, writers))).collect()
}

fn heading(out: &mut Out, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(());
    }
    out.line(format_args!(
        "{:>8} {:>8}  {:<12} {:>12} {:>10} {:>10} {:>7}",
        "BYTES", "WRITERS", "WHAT", "RECORDS/S", "P50_US", "P99_US", "RATIO"
    ))
}

fn print(out: &mut Out, rows: &[Row], json: bool) -> Result<(), Failure> {
    for row in rows {
        if json {
            out.json(row)?;
        } else {
            out.line(format_args!("{row}"))?;
        }
    }
    out.flush()
}

/// Measures the three in turns, each as often.
fn case(place: &Path, load: Load, millis: u64) -> Result<[Row; 3], Failure> {
    let times = Times { warm: Duration::ZERO, counted: Duration::from_millis(millis) / ROUNDS };
    let log = Log::open(Wal::options(place.join("wal")))?;
    let mut grows = Bare::grows(&place.join("grows"), load)?;
    let mut written = Bare::written(&place.join("written"), load)?;
    let mut of = [Calls::default(), Calls::default(), Calls::default()];
    for _ in 0..ROUNDS {
        let [log_calls, grows_calls, written_calls] = &mut of;
        log_calls.add(log.run(load, times)?);
        grows_calls.add(grows.run(times)?);
        written_calls.add(written.run(times)?);
    }
    log.close()?;
    fs::remove_dir_all(place.join("wal")).map_err(|error| Failure::file("removing", place, error))?;
    let [log, grows, written] = of;
    let best = grows.rate().max(written.rate());
    let row = |what, calls: Calls, ratio| Row::new(load, what, calls, ratio);
    let ratio = log.rate() / best;
    Ok([row("log", log, Some(ratio)), row("grows", grows, None), row("written", written, None)])
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
    fn new(load: Load, what: &'static str, mut calls: Calls, ratio: Option<f64>) -> Self {
        calls.took.sort_unstable();
        let at = |percent: usize| {
            let number = (calls.took.len() * percent / 100).min(calls.took.len().saturating_sub(1));
            calls.took.get(number).map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        let (records, records_per_second) = (calls.records, calls.rate());
        let Load { bytes, writers } = load;
        Self { bytes, writers, what, records, records_per_second, p50_us: at(50), p99_us: at(99), ratio }
    }

    /// Of all repetitions of a report.
    fn of(point: &Point, ratio: Option<f64>) -> Self {
        let Point { load: Load { bytes, writers }, side, all, .. } = point;
        Self {
            bytes: *bytes,
            writers: *writers,
            what: side.name(),
            records: all.records,
            records_per_second: all.rate,
            p50_us: all.p50,
            p99_us: all.p99,
            ratio,
        }
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

/// How often the three take their turn.
const ROUNDS: u32 = 5;

/// The longest record that is measured: 1 MiB.
const SIZE_MAX: i64 = 1 << 20;

/// The most threads.
const WRITERS_MAX: i64 = 1024;

const SIZES: [u32; 3] = [128, 1024, 16 * 1024];

const WRITERS: [u16; 2] = [1, 8];

/// The same for a report: a curve needs more of them.
const REPORT_WRITERS: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Repetitions of a report.
const REPEATS: u32 = 5;
