//! `walctl ls`: the logs of a directory.

use serde::Serialize;
use wal_manager::{LogReport, LogVerdict};

use crate::exit::{Exit, Failure};
use crate::look::Look;
use crate::out::Out;
use crate::paint;
use crate::table::{Cell, Table};
use crate::verify;

/// List the logs: state, size, records, sequence numbers
///
/// A log is `sealed` (closed, nobody writes to it any more) or `open` (the one that is written, or was last) if there is nothing wrong with it, else
/// its state is the verdict that `verify` gives.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    look: Look,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let inspection = args.look.inspect()?;
    let report = inspection.report();
    let mut out = Out::new();
    let mut table = Table::new(&[">LOG", "STATE", ">BYTES", ">RECORDS", ">FIRST_SEQ", ">LAST_SEQ"]);
    for log in &report.logs {
        let row = Row::new(log);
        if json {
            out.json(&row)?;
            continue;
        }
        let state = Cell::painted(row.state, paint::of_log(log.verdict));
        table.row([
            row.log.into(),
            state,
            row.bytes.into(),
            row.records.into(),
            row.first_seq.into(),
            row.last_seq.into(),
        ]);
    }
    if !json {
        table.print(&mut out)?;
    }
    out.flush()?;
    Ok(args.look.end(report))
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
