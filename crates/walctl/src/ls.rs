//! `walctl ls`: the logs of a directory.

use std::path::PathBuf;

use serde::Serialize;
use wal_manager::{LogReport, LogVerdict, Wal};

use crate::exit::{Exit, Failure};
use crate::out::{self, Out};
use crate::progress;
use crate::verify;

/// List the logs: size, records, sequence numbers, state
///
/// Reads the logs to count their records. Takes no lock and changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let (options, bar) = progress::reading(Wal::options(&args.dir), true);
    let inspection = options.inspect();
    bar.finish_and_clear();
    let inspection = inspection?;
    let report = inspection.report();
    let mut out = Out::new();
    if !json {
        out.line(format_args!(
            "{:>8}  {:<12} {:>12} {:>10} {:>12} {:>12}",
            "LOG", "STATE", "BYTES", "RECORDS", "FIRST_SEQ", "LAST_SEQ"
        ))?;
    }
    for log in &report.logs {
        let row = Row::new(log);
        if json {
            out.json(&row)?;
        } else {
            let seq = |seq: Option<u64>| seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
            out.line(format_args!(
                "{:>8}  {:<12} {:>12} {:>10} {:>12} {:>12}",
                row.log,
                row.state,
                row.bytes,
                row.records,
                seq(row.first_seq),
                seq(row.last_seq)
            ))?;
        }
    }
    out.flush()?;
    let exit = verify::exit(report);
    if exit != Exit::Fine {
        out::say(format_args!("{}; see `walctl verify {}`", report.summary(), args.dir.display()));
    }
    Ok(exit)
}

/// A log, as a JSON line.
#[derive(Serialize)]
struct Row {
    log: u64,
    /// `sealed` or `open` if there is nothing wrong with it, else its verdict.
    state: &'static str,
    bytes: u64,
    records: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    first_index: Option<u64>,
}

impl Row {
    fn new(log: &LogReport) -> Self {
        Self {
            log: log.log.get(),
            state: match log.verdict {
                LogVerdict::Clean if log.sealed => "sealed",
                LogVerdict::Clean => "open",
                other => verify::word(other),
            },
            bytes: log.bytes,
            records: log.records,
            first_seq: log.first_seq.map(|seq| seq.get()),
            last_seq: log.last_seq.map(|seq| seq.get()),
            first_index: log.first_index.map(|index| index.get()),
        }
    }
}
