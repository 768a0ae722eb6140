//! The command line: which measurements, how often, in which order, each in a process of its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Args, Parser};
use tempfile::TempDir;

use super::case::{Case, Workload};
use super::measured::Measured;
use super::side::{Side, Work};
use super::system;
use super::table::Table;
use crate::data;
use crate::machine::Machine;

/// What a program compares.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Who takes part.
    pub sides: Vec<Side>,
    /// In what, unless the command line says otherwise.
    pub workloads: Vec<Workload>,
}

/// Measures the log and the limits of this machine, and prints the ratios
///
/// Each measurement is a process of its own; their order is random, and repeats with the seed. The files go to WAL_BENCH_DIR, or to the
/// system's directory for temporary files: it must be on a disk, and have about 8 GiB.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this workload; may be given several times
    #[arg(long, value_name = "WORKLOAD")]
    only: Vec<Workload>,

    /// Only this length of payloads in bytes (for `open`: this number of logs); may be given several times
    #[arg(long, value_name = "N")]
    size: Vec<usize>,

    /// Only sides whose name begins like this; may be given several times
    #[arg(long, value_name = "NAME")]
    side: Vec<String>,

    /// How often each measurement is repeated
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,

    /// How long a workload goes on that has no end of its own
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,

    /// Seed of the order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Write every measurement to this file, with what is known about the machine
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Print the tables of measurements that were made before, instead of measuring; may be given several times
    #[arg(long, value_name = "FILE")]
    read: Vec<PathBuf>,

    /// A smoke run: once, with little; its numbers mean nothing
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    child: Child,
}

/// What this program tells itself when it starts a measurement.
#[derive(Args, Debug)]
struct Child {
    #[arg(long, hide = true)]
    prepare: bool,

    #[arg(long, hide = true)]
    measure: bool,

    #[arg(long, hide = true)]
    prepared: Option<PathBuf>,
}

/// One of the measurements that are repeated.
#[derive(Clone, Debug)]
struct Planned {
    side: Side,
    work: Work,
    workload: Workload,
    size: usize,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs a program that compares.
pub fn main(comparison: &Comparison) -> ExitCode {
    let arguments = Arguments::parse();
    match run(comparison, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn run(comparison: &Comparison, arguments: &Arguments) -> Outcome<()> {
    let plan = plan(comparison, arguments);
    if plan.is_empty() {
        return Err("there is no such measurement".into());
    }
    if arguments.child.prepare || arguments.child.measure {
        for planned in &plan {
            child(planned, arguments);
        }
        return Ok(());
    }
    let mut table = Table::default();
    if arguments.read.is_empty() {
        measure(&plan, arguments, &mut table)?;
    } else {
        for path in &arguments.read {
            table.read(&fs::read_to_string(path)?)?;
        }
    }
    print!("{table}");
    Ok(())
}

fn plan(comparison: &Comparison, arguments: &Arguments) -> Vec<Planned> {
    let workloads = if arguments.only.is_empty() { &comparison.workloads } else { &arguments.only };
    let wanted = |side: &Side| {
        let exact = arguments.child.prepare || arguments.child.measure;
        let is = |name: &String| if exact { side.name == name } else { side.name.starts_with(name.as_str()) };
        arguments.side.is_empty() || arguments.side.iter().any(is)
    };
    let mut plan = Vec::new();
    for &workload in workloads {
        for &size in workload.sizes() {
            if !arguments.size.is_empty() && !arguments.size.contains(&size) {
                continue;
            }
            for side in comparison.sides.iter().filter(|side| wanted(side)) {
                if let Some(work) = (side.work)(workload) {
                    plan.push(Planned { side: *side, work, workload, size });
                }
            }
        }
    }
    plan
}

/// Does one thing and says what came of it on standard output.
fn child(planned: &Planned, arguments: &Arguments) {
    let case = Case {
        workload: planned.workload,
        size: planned.size,
        time: Duration::from_secs_f64(arguments.seconds),
        quick: arguments.quick,
        prepared: arguments.child.prepared.clone().unwrap_or_default(),
    };
    if arguments.child.prepare {
        (planned.work.prepare.expect("it was asked for").make)(&case);
        return;
    }
    let measured = system::watch(&data::base(), || (planned.work.measure)(&case));
    if Side::is_ours(planned.side.name) || Side::is_limit(planned.side.name) {
        let least = case.workload.syncs_least(measured.appended);
        assert!(
            measured.syncs >= least,
            "{} syncs cannot cover {} appends",
            measured.syncs,
            measured.appended
        );
    }
    println!("{measured}");
}

/// Prepares what is needed, then repeats everything in an order of its own each time.
fn measure(plan: &[Planned], arguments: &Arguments, table: &mut Table) -> Outcome<()> {
    let machine = Machine::here(&data::base());
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    let command: String = words.map(|word| format!(" {word}")).collect();
    let command = format!("command {program}{command}; seed {}", arguments.seed);
    println!("{machine}\n{command}\n");
    let repeats = if arguments.quick { 1 } else { arguments.repeats };
    let seconds = if arguments.quick { 0.05 } else { arguments.seconds };
    let mut csv = format!("workload,size,side,repetition,position,{}\n", Measured::COLUMNS);
    let start = |planned: &Planned, what: &str, prepared: Option<&Path>| -> Outcome<String> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([what, "--only", &planned.workload.to_string(), "--side", planned.side.name]);
        command.args(["--size", &planned.size.to_string(), "--seconds", &seconds.to_string()]);
        command.args(arguments.quick.then_some("--quick"));
        if let Some(prepared) = prepared {
            command.arg("--prepared").arg(prepared);
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        let Planned { workload, size, side, .. } = planned;
        if !output.status.success() {
            return Err(format!("{workload} {size} {} failed: {}", side.name, output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    };

    let mut prepared: BTreeMap<(Workload, usize, &str), TempDir> = BTreeMap::new();
    for planned in plan {
        let Some(prepare) = planned.work.prepare else { continue };
        let key = (planned.workload, planned.size, prepare.name);
        if let Entry::Vacant(missing) = prepared.entry(key) {
            let directory = data::directory();
            start(planned, "--prepare", Some(directory.path()))?;
            missing.insert(directory);
        }
    }

    let mut random = Random(arguments.seed);
    for repetition in 0..repeats {
        for (position, number) in random.order(plan.len()).into_iter().enumerate() {
            let planned = &plan[number];
            let Planned { workload, size, side, work } = planned;
            let key = work.prepare.map(|prepare| (*workload, *size, prepare.name));
            let directory = key.and_then(|key| prepared.get(&key));
            let line = start(planned, "--measure", directory.map(TempDir::path))?;
            // What a crate prints is not ours to forbid.
            let line = line.lines().last().unwrap_or_default();
            let measured = Measured::parse(line).ok_or_else(|| format!("not a measurement: {line}"))?;
            // Writing to a string cannot fail.
            let _ = writeln!(csv, "{workload},{size},{},{repetition},{position},{measured}", side.name);
            table.add(*workload, *size, side.name, measured);
        }
        eprintln!("{} of {repeats}", repetition + 1);
    }
    let load = Machine::here(&data::base()).load;
    if let Some(path) = &arguments.csv {
        fs::write(path, format!("# {machine}; load at the end {load}\n# {command}\n{csv}"))?;
    }
    Ok(())
}

/// Numbers that a seed repeats.
struct Random(u64);

impl Random {
    /// 0 to `length - 1`, in any order.
    fn order(&mut self, length: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..length).collect();
        for end in (1..length).rev() {
            let other = self.next() % (end as u64 + 1);
            order.swap(end, usize::try_from(other).unwrap_or(end));
        }
        order
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
