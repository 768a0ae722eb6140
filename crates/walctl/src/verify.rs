//! `walctl verify`: reads every byte and says what holds.

use wal_manager::{ErrorKind, LogReport, LogVerdict, RecoveryReport, Verdict};

use crate::exit::{Exit, Failure};
use crate::look::{self, Look};
use crate::out::Out;
use crate::paint::{self, Painted};
use crate::table::{Cell, Table};

mod json;

use json::Object;

/// Read every byte and say whether anything that was acknowledged is damaged or missing
///
/// `clean`: everything ever written is there. `torn_tail`: unacknowledged bytes at the end are torn, as a crash leaves them;
/// the next open cuts them. `damaged`: bytes are wrong or gone that the log proves were synced.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    look: Look,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let inspection = args.look.inspect();
    let mut out = Out::new();
    let inspection = match inspection {
        Ok(inspection) => inspection,
        Err(error) if json && error.kind() == ErrorKind::Damage => {
            out.json(&Object::of_error(args.look.dir(), &error))?;
            return out.flush().and(Err(error.into()));
        }
        Err(error) => return Err(error.into()),
    };
    let report = inspection.report();
    if json {
        out.json(&Object::of(report))?;
    } else {
        text(&mut out, report)?;
    }
    out.flush()?;
    Ok(look::exit(report))
}

fn text(out: &mut Out, report: &RecoveryReport) -> Result<(), Failure> {
    let mut table = Table::new(&[">LOG", "VERDICT", ">BYTES", ">OFFSET", ">RECORDS", "REASON"]);
    for log in &report.logs {
        table.row([
            log.log.get().into(),
            Cell::painted(word(log.verdict), paint::of_log(log.verdict)),
            log.bytes.into(),
            log.offset.into(),
            log.records.into(),
            reason(log).into(),
        ]);
    }
    table.print(out)?;
    if let Some(fault) = &report.checkpoint_fault {
        out.line(format_args!(
            "CHECKPOINT: {fault}; the other slot counts, and the next open for writing mends it"
        ))?;
    }
    let shown =
        Painted::new(verdict(report.verdict), paint::of(report.verdict), out.is_painted()).to_string();
    out.line(format_args!("verdict: {shown}, {} records", report.records))?;
    match look::exit(report) {
        Exit::NewerFormat => out.line(format_args!(
            "A newer version of walctl wrote this: use that one. Nothing was changed, and nothing should be repaired with this version."
        )),
        Exit::Damage => {
            for finding in &report.findings {
                out.line(format_args!("- {finding}"))?;
            }
            out.line(format_args!(
                "What to do: copy {dir} aside first. Put a damaged, missing or foreign file back from a backup or replica, and verify again. \
                 What can still be read: walctl dump {dir} (up to the first damage), or with --salvage (behind it too). \
                 Without a backup: walctl repair --dry-run {dir} says what a repair would keep.",
                dir = report.path.display()
            ))
        }
        _ if report.verdict == Verdict::TornTail => out.line(format_args!(
            "{} unacknowledged bytes at the end are torn, as a crash leaves them: nothing acknowledged is missing, the next open cuts them.",
            report.cut_bytes
        )),
        _ => Ok(()),
    }
}

fn reason(log: &LogReport) -> String {
    let mut text = match (&log.reason, &log.proof) {
        (Some(reason), Some(proof)) => format!("{reason} ({proof})"),
        (Some(reason), None) => reason.to_string(),
        (None, _) if log.sealed => "sealed".to_owned(),
        (None, _) => String::new(),
    };
    if let Some(flipped) = log.flipped_bit {
        text.push_str(&format!("; {flipped}"));
    }
    text
}

/// The word for a verdict over everything, the same as in JSON.
pub(crate) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::TornTail => "torn_tail",
        Verdict::Damaged => "damaged",
    }
}

/// The word for a log's verdict, the same as in JSON.
pub(crate) const fn word(verdict: LogVerdict) -> &'static str {
    match verdict {
        LogVerdict::Clean => "clean",
        LogVerdict::TornTail => "torn_tail",
        LogVerdict::Damaged => "damaged",
        LogVerdict::Missing => "missing",
        LogVerdict::Foreign => "foreign",
        LogVerdict::NewerFormat => "newer_format",
        LogVerdict::Prepared => "prepared",
        LogVerdict::Leftover => "leftover",
        LogVerdict::Abandoned => "abandoned",
        LogVerdict::Deleted => "deleted",
        _ => "unknown",
    }
}
