//! `walctl dump`: the records, in order.

use std::path::PathBuf;

use wal_manager::{LogNumber, RecoveryMode, SeqNum, Verdict, Wal};

use crate::exit::{Exit, Failure};
use crate::out;
use crate::progress;
use crate::records::Printer;

/// Print the records in order, as `SEQ<TAB>payload`
///
/// SEQ is the record's first sequence number. In the payload printable ASCII stands for itself, a backslash is `\\`, a tab
/// `\t`, a newline `\n`, and every other byte `\xNN`. At damage: what came before it, then the reason on standard error,
/// and exit code 1. `proven` in the JSON says whether the log proves that the record
/// was synced.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,

    /// Only records that reach this sequence number or a higher one
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,

    /// Only records that begin at this sequence number or a lower one
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,

    /// Only records of this log
    #[arg(long, value_name = "N")]
    log: Option<u64>,

    /// Go on behind damage, and say what was skipped
    #[arg(long)]
    salvage: bool,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let (from, to) = (args.from.unwrap_or(0), args.to.unwrap_or(u64::MAX));
    if from > to {
        return Err(Failure::Refused(format!("--from {from} is behind --to {to}")));
    }
    let mode = if args.salvage { RecoveryMode::Salvage } else { RecoveryMode::Default };
    let (options, bar) = progress::reading(Wal::options(&args.dir).mode(mode), false);
    let inspection = options.inspect();
    bar.finish_and_clear();
    let inspection = inspection?;
    if let Some(log) = args.log.map(LogNumber::new)
        && !inspection.report().logs.iter().any(|report| report.log == log)
    {
        return Err(Failure::Refused(format!(
            "there is no log {log} in {}: see `walctl ls`",
            args.dir.display()
        )));
    }
    let mut printer = Printer::new(json);
    // Only a salvage goes on behind a hole.
    let (mut next, mut holes) = (inspection.report().first_index.get(), Vec::new());
    for record in inspection.records() {
        let record = match record {
            Ok(record) => record,
            // ORDER: what came before goes out first.
            Err(error) => return printer.flush().and(Err(error.into())),
        };
        if record.index.get() > next {
            holes.push((next, record.index.get().saturating_sub(1)));
        }
        next = record.index.get().saturating_add(1);
        if record.seqs.first() > SeqNum::new(to) {
            break;
        }
        if record.seqs.last() < SeqNum::new(from) || args.log.is_some_and(|log| record.log.get() != log) {
            continue;
        }
        printer.record(&record)?;
    }
    printer.flush()?;
    let report = inspection.report();
    if let (None, Some(fault)) = (inspection.checkpoint(), &report.checkpoint_fault) {
        // Only a salvage comes here: without CHECKPOINT nobody knows which logs there should be.
        out::say(format_args!("CHECKPOINT: {fault}; these are the records of the logs that are there"));
        return Ok(Exit::Damage);
    }
    if report.verdict != Verdict::Damaged {
        return Ok(Exit::Fine);
    }
    for finding in &report.findings {
        out::say(format_args!("{finding}"));
    }
    for (first, last) in holes {
        out::say(format_args!("skipped: the records with index {first} to {last}"));
    }
    Ok(Exit::Damage)
}
