//! `walctl doctor`: what an expert looks at first, in plain words, with the next command to run.
//!
//! - [`log`] asks the log: CHECKPOINT, verdicts, who keeps what.
//! - [`files`] looks at names, owners and leftovers, in the directory and beside it.
//! - [`place`] asks the file system, [`lock`] who has the log open.

mod files;
mod finding;
mod lock;
mod log;
mod place;

use std::path::PathBuf;

use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::moment;
use crate::out::Out;
use crate::paint::Painted;
use finding::{Finding, Severity};

/// Say in plain words how a directory is, what to know about it, and which command to run next
///
/// Looks at everything that an expert looks at first: who has it open, damage, a torn tail, CHECKPOINT, which logs are kept and by whom, space, leftovers,
/// foreign files, owners and permissions, the file system. What is `damage` needs a person now; a `warning` can become trouble; the rest is good to know.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,

    /// Read every byte, however much there is
    #[arg(long)]
    full: bool,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let dir = &args.dir;
    let names = files::list(dir)?;
    let bytes: u64 = names.iter().filter(|file| file.is_log()).map(|file| file.bytes).sum();
    let mut findings = Vec::new();
    let owner = lock::owner(dir);
    findings.push(lock::finding(&owner));
    let log = log::look(dir, args.full || bytes <= READ_BYTES_MAX, &owner, &mut findings)?;
    files::look(dir, &names, &mut findings);
    let space = place::look(dir, &names, bytes, &mut findings)?;
    // The worst first; what is equally bad stays in the order of the looks.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Info);
    let exit = log.exit;
    let report = Report {
        path: dir.display().to_string(),
        worst,
        full: log.full,
        format_version: log.format_version,
        wal_id: log.wal_id,
        epoch: log.epoch,
        logs: log.logs,
        bytes,
        records: log.records,
        oldest_log_seconds: log.oldest_seconds,
        open_by: owner.process(),
        file_system: space.kind,
        free_bytes: space.free_bytes,
        total_bytes: space.total_bytes,
        findings,
    };
    let mut out = Out::new();
    if json {
        out.json(&report)?
    } else {
        report.print(&mut out)?
    }
    out.flush()?;
    Ok(exit)
}

/// Everything, as one JSON object.
#[derive(Serialize)]
struct Report {
    path: String,
    worst: Severity,
    /// Every byte of the live logs was read.
    full: bool,
    format_version: u16,
    wal_id: Option<String>,
    epoch: Option<u64>,
    logs: Option<u64>,
    /// Of all files that are named like logs.
    bytes: u64,
    records: Option<u64>,
    oldest_log_seconds: Option<u64>,
    /// The process that has it open for writing, if one can be seen.
    open_by: Option<u32>,
    file_system: Option<&'static str>,
    free_bytes: u64,
    total_bytes: u64,
    findings: Vec<Finding>,
}

impl Report {
    fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let records = self.records.map_or_else(String::new, |records| format!("{records} records in "));
        let logs = self.logs.map_or_else(|| "logs not read".to_owned(), moment::logs);
        let (path, version) = (&self.path, self.format_version);
        out.line(format_args!("{path}: {records}{logs}, {}, format {version}", moment::bytes(self.bytes)))?;
        for finding in &self.findings {
            let word = finding.severity.word();
            let painted = Painted::new(word, finding.severity.hue(), out.is_painted()).to_string();
            let room = WORD.saturating_sub(word.len());
            out.line(format_args!("{painted}{:room$}{}", "", finding.what))?;
            if let Some(next) = &finding.next {
                out.line(format_args!("{:WORD$}next: {next}", ""))?;
            }
        }
        let depth = match (self.full, self.logs) {
            (true, _) => "every byte was read",
            (false, Some(_)) => "sealed logs were looked at and not read: --full reads every byte",
            (false, None) => "no log was read",
        };
        let verdict = match self.worst {
            Severity::Info => "nothing is wrong",
            Severity::Warning => "nothing is damaged, but see the warnings",
            Severity::Damage => "damaged",
        };
        let painted = Painted::new(verdict, self.worst.hue(), out.is_painted()).to_string();
        out.line(format_args!("verdict: {painted}; {depth}"))
    }
}

/// So much is read without being asked for: about a second of a disk.
const READ_BYTES_MAX: u64 = 256 << 20;

/// Width of the column of severities.
const WORD: usize = 9;
