//! Measures the log and the raw operation in turns, and prints the ratios as a table; `docs/benchmarks.md` says what each means.
//!
//! ```text
//! cargo run --release -p wal-benches --bin ratios -- [--csv FILE] [--quick]
//! ```
//! `--csv` writes every repetition's numbers; `--quick` is a smoke run whose numbers mean nothing. The files go to `WAL_BENCH_DIR`, or to
//! the system's directory for temporary files.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use wal_benches::append::{Bare, Ours, THREADS, UNSYNCED_BYTES};
use wal_benches::data::{self, SIZES};
use wal_benches::format::{Checksum, Copy, Decode, Encode};
use wal_benches::machine::Machine;
use wal_benches::replay::{self, Directory};
use wal_benches::stopwatch::{Sides, alternate, mean, median, time};

const USAGE: &str = "usage: ratios [--csv FILE] [--quick]";

/// How often each comparison is repeated; a smoke run does it once.
const REPETITIONS: usize = 7;

fn main() -> ExitCode {
    match Arguments::parse(env::args().skip(1)) {
        Ok(arguments) => match run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("ratios: {error}");
                ExitCode::from(3)
            }
        },
        Err(error) => {
            eprintln!("ratios: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, Default)]
struct Arguments {
    csv: Option<PathBuf>,
    quick: bool,
}

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--csv" => arguments.csv = Some(given.next().ok_or("--csv needs a file")?.into()),
                "--quick" => arguments.quick = true,
                other => return Err(format!("unknown argument {other}")),
            }
        }
        Ok(arguments)
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let machine = Machine::here(&data::base());
    let mut table = Table::new(arguments.quick);
    println!("{machine}\n");
    println!("| what | beside | bytes | ours | raw | ratio | lowest to highest |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    format(&mut table);
    synced(&mut table);
    unsynced(&mut table);
    replay(&mut table);
    println!();
    for note in &table.notes {
        println!("{note}");
    }
    let load = Machine::here(&data::base()).load;
    println!("load at the end {load}");
    if let Some(path) = &arguments.csv {
        let header = format!("# {machine}; load at the end {load}\n");
        fs::write(path, header + &table.csv)?;
    }
    Ok(())
}

/// The numbers so far.
struct Table {
    repetitions: usize,
    quick: bool,
    csv: String,
    notes: Vec<String>,
}

/// One comparison.
struct Case<'a> {
    what: &'a str,
    beside: &'a str,
    /// Length of the payloads.
    size: usize,
    /// Rounds of one repetition.
    rounds: usize,
    /// Records in a round of ours.
    ours: usize,
    /// Records in a round of the raw side.
    raw: usize,
}

impl Table {
    fn new(quick: bool) -> Self {
        let columns = "what,beside,payload_bytes,repetition,ours_median_ns,ours_mean_ns,raw_median_ns,raw_mean_ns,ratio_of_medians";
        Self {
            repetitions: if quick { 1 } else { REPETITIONS },
            quick,
            csv: format!("{columns}\n"),
            notes: Vec::new(),
        }
    }

    /// Runs one comparison: a round of each to warm up, then the repetitions, each of many rounds in turns. A repetition's number is its
    /// median round, per record; what is printed is the median of the repetitions.
    fn case(
        &mut self,
        case: &Case<'_>,
        mut ours: impl FnMut() -> Duration,
        mut raw: impl FnMut() -> Duration,
    ) {
        let &Case { what, beside, size, rounds, ours: our_records, raw: raw_records } = case;
        let rounds = if self.quick { 2 } else { rounds };
        alternate(0, 1, &mut ours, &mut raw);
        let (mut all_ours, mut all_raw, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for repetition in 0..self.repetitions {
            let Sides { ours, raw } = alternate(repetition, rounds, &mut ours, &mut raw);
            let (ours, raw) = (nanos(&ours, our_records), nanos(&raw, raw_records));
            let (our_mean, raw_mean) = (mean(&ours), mean(&raw));
            let (ours, raw) = (median(ours), median(raw));
            let ratio = ours / raw;
            // Writing to a string cannot fail.
            let _ = writeln!(
                self.csv,
                "{what},{beside},{size},{repetition},{ours:.1},{our_mean:.1},{raw:.1},{raw_mean:.1},{ratio:.3}"
            );
            all_ours.push(ours);
            all_raw.push(raw);
            ratios.push(ratio);
        }
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(0.0, f64::max);
        let (ours, raw) = (human(median(all_ours)), human(median(all_raw)));
        let ratio = median(ratios);
        println!(
            "| {what} | {beside} | {size} | {ours} | {raw} | {ratio:.2} | {lowest:.2} to {highest:.2} |"
        );
    }
}

fn nanos(rounds: &[Duration], records: usize) -> Vec<f64> {
    rounds.iter().map(|round| round.as_secs_f64() * 1e9 / records as f64).collect()
}

/// A time per record for people.
fn human(nanos: f64) -> String {
    if nanos < 1e4 { format!("{nanos:.1} ns") } else { format!("{:.1} us", nanos / 1e3) }
}

/// Records as a round's length, which fits: rounds are short.
fn count(records: u64) -> usize {
    usize::try_from(records).unwrap_or(usize::MAX)
}

fn format(table: &mut Table) {
    for size in SIZES {
        let (mut encode, mut decode) = (Encode::new(size), Decode::new(size));
        let (mut copy, mut checksum) = (Copy::new(size), Checksum::new(size));
        let records = copy.run();
        let case = |what, beside| Case { what, beside, size, rounds: 200, ours: records, raw: records };
        table.case(&case("encode", "copy and crc32"), || time(|| encode.run()).0, || time(|| copy.run()).0);
        table.case(&case("decode", "copy and crc32"), || time(|| decode.run()).0, || time(|| copy.run()).0);
        table.case(&case("decode", "crc32 alone"), || time(|| decode.run()).0, || time(|| checksum.run()).0);
    }
}

fn synced(table: &mut Table) {
    for size in SIZES {
        let (mut ours, mut bare) = (Ours::new(size), Bare::new(size));
        let case =
            Case { what: "append synced", beside: "write and fdatasync", size, rounds: 300, ours: 1, raw: 1 };
        table.case(&case, || ours.synced(), || bare.synced());
    }
    for size in SIZES {
        let (ours, mut bare) = (Ours::new(size), Bare::new(size));
        let each = 25;
        let (records, syncs) = (Cell::new(0), Cell::new(0));
        let shared = || {
            let (took, count) = ours.shared(each);
            records.set(records.get() + THREADS as u64 * each as u64);
            syncs.set(syncs.get() + count.syncs);
            took
        };
        let mut case = Case {
            what: "append synced by 8 threads",
            beside: "write and fdatasync",
            size,
            rounds: 12,
            ours: THREADS * each,
            raw: each,
        };
        table.case(&case, shared, || (0..each).map(|_| bare.synced()).sum());
        (case.beside, case.raw) = ("8 records in a write and fdatasync", THREADS * each);
        table.case(&case, shared, || (0..each).map(|_| bare.group()).sum());
        let per_sync = records.get() as f64 / syncs.get() as f64;
        table.notes.push(format!("8 threads, {size} bytes: {per_sync:.2} records a sync"));
    }
}

fn unsynced(table: &mut Table) {
    for size in SIZES {
        let records = UNSYNCED_BYTES / size;
        let (mut ours, mut bare) = (Ours::discarding(size), Bare::new(size));
        let (what, beside) = ("append buffered, writes discarded", "copy and crc32");
        let case = Case { what, beside, size, rounds: 8, ours: records, raw: records };
        table.case(&case, || ours.unsynced(UNSYNCED_BYTES), || bare.discarding(UNSYNCED_BYTES));

        // New files all the time: the page cache then uses the same memory again instead of growing, on either side.
        let (what, beside) = ("append buffered", "copy, crc32, write per 64 KiB");
        let case = Case { what, beside, size, rounds: 8, ours: records, raw: records };
        let ours = || Ours::warm(size).unsynced(UNSYNCED_BYTES);
        table.case(&case, ours, || Bare::warm(size).unsynced(UNSYNCED_BYTES));
    }
}

fn replay(table: &mut Table) {
    for size in replay::SIZES {
        let bytes = if table.quick { 1 << 20 } else { replay::DIRECTORY_BYTES };
        let directory = Directory::build(size, bytes);
        let records = count(directory.records());
        let case = |what, beside| Case { what, beside, size, rounds: 1, ours: records, raw: records };
        let read_and_crc = "read and crc32 per record";
        table.case(
            &case("recover and all records", read_and_crc),
            || directory.recover().total(),
            || directory.bare(),
        );
        table.case(&case("recover", read_and_crc), || directory.recover().open, || directory.bare());
        table.case(
            &case("inspect and all records", read_and_crc),
            || directory.inspect().total(),
            || directory.bare(),
        );
        table.case(&case("all records", read_and_crc), || directory.inspect().records, || directory.bare());
        table.case(
            &case("all records", "read alone"),
            || directory.inspect().records,
            || directory.bare_read(),
        );
    }
}
