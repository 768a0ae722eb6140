//! `walctl repair`: makes a directory open again that does not.

use std::path::PathBuf;

use serde::Serialize;
use wal_manager::{RepairReport, Wal};

use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::out::Out;
use crate::progress;

/// Make a damaged log open again: rebuild CHECKPOINT, cut the log at the first damage
///
/// Everything before the damage stays; what lies behind it is lost to the log, and kept in a copy of everything that is made beside DIR before
/// anything is changed. Look with --dry-run first, and restore from a copy instead if there is one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,

    /// Only say what would be done; take nothing, change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let (options, bar) = progress::reading(Wal::options(&args.dir), true);
    let report = if args.dry_run {
        options.plan_repair()
    } else {
        let dir = args.dir.display();
        interrupt::ends_at_once(format!(
            "run it again; what was in {dir} before is there still, or in {dir}.before-repair-1 or the highest such number"
        ))?;
        options.repair()
    };
    bar.finish_and_clear();
    let report = report?;
    let mut out = Out::new();
    if json {
        out.json(&Repaired::new(&report))?;
    } else {
        text(&mut out, &report)?;
    }
    out.flush()?;
    // A plan that finds something says so to a script, as verify does.
    Ok(if report.is_needed() && args.dry_run { Exit::Damage } else { Exit::Fine })
}

fn text(out: &mut Out, report: &RepairReport) -> Result<(), Failure> {
    let dir = report.path.display();
    if !report.is_needed() {
        return out.line(format_args!("{dir}: nothing to repair, {} records", report.found.records));
    }
    let done = report.repaired.is_some();
    match &report.aside {
        Some(aside) => out.line(format_args!("copied everything aside to {}", aside.display()))?,
        None => out.line(format_args!("would copy everything aside first, into a directory beside {dir}"))?,
    }
    if let Some(why) = &report.checkpoint {
        let verb = if done { "rebuilt" } else { "would rebuild" };
        out.line(format_args!(
            "{verb} CHECKPOINT from the logs, because {why}: what was flushed is not known any more, so replay hands out everything; the holds are gone with it; and whether newer logs are missing cannot be told"
        ))?;
    }
    for log in &report.left_out {
        let verb = if done { "left out" } else { "would leave out" };
        out.line(format_args!("{verb} log {log}, which is no part of what is kept"))?;
    }
    for finding in &report.found.findings {
        out.line(format_args!("- {finding}"))?;
    }
    if let Some(first) = report.found.findings.first() {
        let verb = if done { "cut" } else { "would cut" };
        let records = report.found.records;
        let (log, offset) = (first.log, first.offset);
        out.line(format_args!("{verb} the log before byte {offset} of log {log}: {records} records stay"))?;
    }
    match &report.repaired {
        Some(repaired) => {
            for name in &repaired.quarantined {
                out.line(format_args!("kept the damaged log as {name}"))?;
            }
            out.line(format_args!("{dir} opens again, with {} records", repaired.records))
        }
        None => out.line(format_args!("nothing was changed")),
    }
}

/// A repair, as a JSON line.
#[derive(Serialize)]
struct Repaired {
    needed: bool,
    done: bool,
    /// Why CHECKPOINT has to be rebuilt.
    checkpoint: Option<String>,
    left_out: Vec<u64>,
    findings: Vec<String>,
    /// The log is cut here.
    cut_log: Option<u64>,
    cut_offset: Option<u64>,
    /// What stays.
    records: u64,
    next_index: u64,
    aside: Option<String>,
    quarantined: Vec<String>,
}

impl Repaired {
    fn new(report: &RepairReport) -> Self {
        let first = report.found.findings.first();
        let result = report.repaired.as_ref().unwrap_or(&report.found);
        Self {
            needed: report.is_needed(),
            done: report.repaired.is_some(),
            checkpoint: report.checkpoint.clone(),
            left_out: report.left_out.iter().map(|log| log.get()).collect(),
            findings: report.found.findings.iter().map(ToString::to_string).collect(),
            cut_log: first.map(|finding| finding.log.get()),
            cut_offset: first.map(|finding| finding.offset),
            records: result.records,
            next_index: result.next_index.get(),
            aside: report.aside.as_ref().map(|path| path.display().to_string()),
            quarantined: result.quarantined.clone(),
        }
    }
}
