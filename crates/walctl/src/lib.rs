//! `walctl`, the tool of the person on call.
//!
//! A thin library, so that the verbs can be tested and the binary is one line. The verbs and what they print are fixed
//! (`README.md` and `walctl help`); scripts rely on them, and on the exit codes in [`exit::Exit`].
//!
//! **Architecture invariant:** a reading verb goes through `Options::inspect` or `Options::follow` and nothing else: it takes no lock, creates
//! nothing and changes nothing. Only `append`, `gc`, `repair`, `bench` and `drill` write, each in the directory it was given; what `bench` made
//! there is gone when it ends. `copy` and `restore` make a new directory and only read the others.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod append;
mod bench;
mod copy;
mod drill;
mod dump;
mod escape;
pub mod exit;
mod gc;
mod lines;
mod ls;
mod out;
mod progress;
mod records;
mod repair;
mod restore;
mod stat;
mod tail;
mod verify;
mod why_kept;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
        Verb::Append(args) => append::run(&args, cli.json),
        Verb::Dump(args) => dump::run(&args, cli.json),
        Verb::Tail(args) => tail::run(&args, cli.json),
        Verb::Verify(args) => verify::run(&args, cli.json),
        Verb::Ls(args) => ls::run(&args, cli.json),
        Verb::Stat(args) => stat::run(&args, cli.json),
        Verb::WhyKept(args) => why_kept::run(&args, cli.json),
        Verb::Gc(args) => gc::run(&args, cli.json),
        Verb::Copy(args) => copy::run(&args, cli.json),
        Verb::Restore(args) => restore::run(&args, cli.json),
        Verb::Repair(args) => repair::run(&args, cli.json),
        Verb::Bench(args) => bench::run(&args, cli.json),
        Verb::Drill(args) => drill::run(&args, cli.json),
        Verb::DrillChild(args) => drill::run_child(&args),
    }
}

/// Look into a write-ahead log, check it, add to it, and drill it.
#[derive(Debug, Parser)]
#[command(name = "walctl", version, after_help = EXIT_CODES)]
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

#[derive(Debug, Subcommand)]
enum Verb {
    Append(append::Args),
    Dump(dump::Args),
    Tail(tail::Args),
    Verify(verify::Args),
    Ls(ls::Args),
    Stat(stat::Args),
    WhyKept(why_kept::Args),
    Gc(gc::Args),
    Copy(copy::Args),
    Restore(restore::Args),
    Repair(repair::Args),
    Bench(bench::Args),
    Drill(drill::Args),
    #[command(hide = true)]
    DrillChild(drill::ChildArgs),
}

const EXIT_CODES: &str = "\
Exit codes: 0 fine (a torn tail is fine), 1 damage found (also missing or foreign files, or a drill that lost \
something), 2 usage or input refused, 3 I/O or a missing directory, 4 locked, 5 newer format.";
