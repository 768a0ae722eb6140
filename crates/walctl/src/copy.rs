//! `walctl copy`: a consistent copy of a log, whether or not somebody writes to it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use wal_manager::{CopyReport, Wal};

use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::moment;
use crate::out::Out;
use crate::progress;

/// Copy a log, also while it is written to: exactly the records that are proven to be durable
///
/// The copy opens, verifies and replays on its own. Sealed logs are linked where they can be, since nobody writes to them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,

    /// The new directory: not there yet, or empty
    target: PathBuf,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    interrupt_leaves(&args.target)?;
    let (options, bar) = progress::reading(Wal::options(&args.dir), true);
    let report = options.copy_to(&args.target);
    bar.finish_and_clear();
    print(&report?, json)?;
    Ok(Exit::Fine)
}

/// What is there after Ctrl-C while `target` is made.
pub(crate) fn interrupt_leaves(target: &Path) -> Result<(), Failure> {
    interrupt::ends_at_once(format!(
        "{target} was not made, or is whole; what there is of it lies in {target}.making, which the next attempt empties",
        target = target.display()
    ))
}

/// Says what is in the new directory.
pub(crate) fn print(report: &CopyReport, json: bool) -> Result<(), Failure> {
    let copied = Copied::new(report);
    let mut out = Out::new();
    if json {
        out.json(&copied)?;
    } else {
        let last = copied.last_seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
        out.line(format_args!(
            "{}: records {} to {} in {} ({} linked), last sequence number {last}",
            report.path.display(),
            copied.first_index,
            copied.next_index - 1,
            moment::logs(copied.logs.len() as u64),
            copied.logs.iter().filter(|log| log.linked).count(),
        ))?;
    }
    out.flush()
}

/// A new directory, as a JSON line.
#[derive(Serialize)]
struct Copied {
    path: String,
    records: u64,
    first_index: u64,
    /// Behind the last record.
    next_index: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    logs: Vec<Log>,
}

#[derive(Serialize)]
struct Log {
    log: u64,
    bytes: u64,
    linked: bool,
}

impl Copied {
    fn new(report: &CopyReport) -> Self {
        let log =
            |log: &wal_manager::CopiedLog| Log { log: log.log.get(), bytes: log.bytes, linked: log.linked };
        Self {
            path: report.path.display().to_string(),
            records: report.records,
            first_index: report.first_index.get(),
            next_index: report.next_index.get(),
            first_seq: report.seqs.map(|seqs| seqs.first().get()),
            last_seq: report.seqs.map(|seqs| seqs.last().get()),
            logs: report.logs.iter().map(log).collect(),
        }
    }
}
