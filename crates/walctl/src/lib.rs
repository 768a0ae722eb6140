//! `walctl`, the tool of the person on call.
//!
//! A thin library, so that the verbs can be tested and the binary is one line. The verbs and what they print are fixed
//! (`README.md` and `walctl help`); scripts rely on them, and on the exit codes in [`exit::Exit`].
//!
//! **Architecture invariant:** a reading verb goes through `Options::inspect`, `Options::glance` or `Options::follow` and nothing else: it takes no lock, creates
//! nothing and changes nothing. Only `append`, `gc`, `repair`, `bench` and `drill` write, each in the directory it was given; what `bench` made
//! there is gone when it ends. `copy` and `restore` make a new directory and only read the others.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod append;
mod bench;
mod copy;
mod doctor;
mod drill;
mod dump;
mod escape;
pub mod exit;
mod gc;
mod generate;
mod help;
mod histogram;
mod interrupt;
mod lines;
mod look;
mod ls;
mod moment;
mod out;
mod paint;
mod progress;
mod records;
mod repair;
mod restore;
mod stat;
mod table;
mod tail;
mod verify;
mod why_kept;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use exit::{Exit, Failure};

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors to clap, and end with 0; usage errors end with 2.
            let _ = error.print();
            return if error.use_stderr() { Exit::Refused } else { Exit::Fine }.into();
        }
    };
    if cli.verbose {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .init();
    }
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !matches!(failure, Failure::BrokenPipe | Failure::Silent(_)) {
                out::say(format_args!("{failure}"));
            }
            failure.exit().into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.verb {
        Verb::Doctor(args) => doctor::run(&args, cli.json),
        Verb::Verify(args) => verify::run(&args, cli.json),
        Verb::Ls(args) => ls::run(&args, cli.json),
        Verb::Stat(args) => stat::run(&args, cli.json),
        Verb::WhyKept(args) => why_kept::run(&args, cli.json),
        Verb::Dump(args) => dump::run(&args, cli.json),
        Verb::Tail(args) => tail::run(&args, cli.json),
        Verb::Append(args) => append::run(&args, cli.json),
        Verb::Gc(args) => gc::run(&args, cli.json),
        Verb::Copy(args) => copy::run(&args, cli.json),
        Verb::Restore(args) => restore::run(&args, cli.json),
        Verb::Repair(args) => repair::run(&args, cli.json),
        Verb::Bench(args) => bench::run(&args, cli.json),
        Verb::Drill(args) => drill::run(&args, cli.json),
        Verb::DrillChild(args) => drill::run_child(&args),
        Verb::Man(args) => generate::man(&args, Cli::command()),
        Verb::Completions(args) => generate::completions(&args, Cli::command()),
    }
}

/// Look into a write-ahead log, check it, add to it, and drill it.
#[derive(Debug, Parser)]
#[command(name = "walctl", version = VERSION, after_help = help::WALCTL)]
struct Cli {
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,

    /// Say on standard error what the log does
    #[arg(long, short, global = true)]
    verbose: bool,

    #[command(subcommand)]
    verb: Verb,
}

/// Those that only look first, in the order in which they are needed.
#[derive(Debug, Subcommand)]
enum Verb {
    #[command(after_long_help = help::DOCTOR)]
    Doctor(doctor::Args),
    #[command(after_long_help = help::VERIFY)]
    Verify(verify::Args),
    #[command(after_long_help = help::LS)]
    Ls(ls::Args),
    #[command(after_long_help = help::STAT)]
    Stat(stat::Args),
    #[command(after_long_help = help::WHY_KEPT)]
    WhyKept(why_kept::Args),
    #[command(after_long_help = help::DUMP)]
    Dump(dump::Args),
    #[command(after_long_help = help::TAIL)]
    Tail(tail::Args),
    #[command(after_long_help = help::APPEND)]
    Append(append::Args),
    #[command(after_long_help = help::GC)]
    Gc(gc::Args),
    #[command(after_long_help = help::COPY)]
    Copy(copy::Args),
    #[command(after_long_help = help::RESTORE)]
    Restore(restore::Args),
    #[command(after_long_help = help::REPAIR)]
    Repair(repair::Args),
    #[command(after_long_help = help::BENCH)]
    Bench(bench::Args),
    #[command(after_long_help = help::DRILL)]
    Drill(drill::Args),
    #[command(hide = true)]
    DrillChild(drill::ChildArgs),
    #[command(after_long_help = help::MAN)]
    Man(generate::ManArgs),
    #[command(after_long_help = help::COMPLETIONS)]
    Completions(generate::CompletionsArgs),
}

/// The version of the program, and that of the format that it writes.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (format 1)");

const _: () = assert!(wal_manager::FORMAT_VERSION == 1, "VERSION says so");
