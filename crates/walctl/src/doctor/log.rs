//! What the log itself says: CHECKPOINT, verdicts, who keeps what.

use std::path::Path;

use wal_manager::{
    Checkpoint, Clock, Error, ErrorKind, FORMAT_VERSION, KEEPER_WARNING_DEFAULT, Kept, LogInfo, LogState,
    LogVerdict, RecoveryReport, SystemClock, Verdict, Wal,
};

use super::finding::Finding;
use super::lock::Owner;
use crate::exit::{Exit, Failure};
use crate::look;
use crate::moment;
use crate::progress;

/// What is known about the log.
pub(super) struct Log {
    pub(super) exit: Exit,
    pub(super) full: bool,
    pub(super) format_version: u16,
    pub(super) wal_id: Option<String>,
    pub(super) epoch: Option<u64>,
    pub(super) logs: Option<u64>,
    pub(super) records: Option<u64>,
    pub(super) oldest_seconds: Option<u64>,
}

/// What a look found.
struct Seen<'a> {
    dir: &'a Path,
    report: &'a RecoveryReport,
    checkpoint: Option<&'a Checkpoint>,
    logs: &'a [LogInfo],
    /// Not known after a quick look, which learns no families.
    kept: Option<Vec<Kept>>,
    owner: &'a Owner,
    now_micros: u64,
}

pub(super) fn look(
    dir: &Path,
    full: bool,
    owner: &Owner,
    findings: &mut Vec<Finding>,
) -> Result<Log, Failure> {
    let clock = SystemClock::default();
    let now_micros = u64::try_from(clock.wall().as_micros()).unwrap_or(u64::MAX);
    let (options, bar) = progress::reading(Wal::options(dir), true);
    let looked = if full {
        options.inspect().map(|found| {
            let (report, checkpoint, logs) = (found.report(), found.checkpoint(), found.logs());
            let kept = Some(found.why_kept());
            Seen { dir, report, checkpoint, logs, kept, owner, now_micros }.tell(full, findings)
        })
    } else {
        options.glance().map(|found| {
            let (report, checkpoint, logs) = (found.report(), Some(found.checkpoint()), found.logs());
            Seen { dir, report, checkpoint, logs, kept: None, owner, now_micros }.tell(full, findings)
        })
    };
    bar.finish_and_clear();
    looked.or_else(|error| refused(dir, &error, findings).ok_or(Failure::from(error)))
}

/// A directory of which nothing can be said but why not.
fn refused(dir: &Path, error: &Error, findings: &mut Vec<Finding>) -> Option<Log> {
    let dir = dir.display();
    let (finding, exit) = match (error, error.kind()) {
        (Error::CheckpointMissing { .. } | Error::CheckpointDamaged { .. }, _) => (
            Finding::damage("checkpoint", error.to_string()).next(format!(
                "put CHECKPOINT back from a copy; if there is none, walctl repair --dry-run {dir} says what can be kept"
            )),
            Exit::Damage,
        ),
        (_, ErrorKind::NewerFormat) => (
            Finding::damage("newer_format", error.to_string()).next("use the version of walctl that wrote it, or a newer one"),
            Exit::NewerFormat,
        ),
        (_, ErrorKind::Damage) => {
            (Finding::damage("damaged", error.to_string()).next(format!("walctl verify {dir}")), Exit::Damage)
        }
        _ => return None,
    };
    findings.push(finding);
    let format_version = FORMAT_VERSION;
    let (wal_id, epoch, logs, records, oldest_seconds) = (None, None, None, None, None);
    Some(Log { exit, full: false, format_version, wal_id, epoch, logs, records, oldest_seconds })
}

impl Seen<'_> {
    fn tell(&self, full: bool, findings: &mut Vec<Finding>) -> Log {
        self.verdict(findings);
        self.end(findings);
        self.checkpoint_slots(findings);
        self.leftovers(findings);
        if self.report.verdict != Verdict::Damaged {
            self.keepers(findings);
        }
        Log {
            exit: look::exit(self.report),
            full,
            format_version: FORMAT_VERSION,
            wal_id: self.checkpoint.map(|content| content.wal_id.to_string()),
            epoch: Some(self.report.epoch.get()),
            logs: Some(self.logs.len() as u64),
            records: Some(self.report.records),
            oldest_seconds: self.logs.first().map(|info| self.age(info)),
        }
    }

    /// Damage, log by log.
    fn verdict(&self, findings: &mut Vec<Finding>) {
        let dir = self.dir.display();
        for log in self.report.logs.iter().filter(|log| log.verdict == LogVerdict::NewerFormat) {
            let what = format!("{} needs a newer version", log.path.display());
            findings.push(
                Finding::damage("newer_format", what)
                    .next("use the version of walctl that wrote it, or a newer one"),
            );
        }
        for found in self.report.findings.iter().take(FINDINGS) {
            let log = self.report.logs.iter().find(|log| log.log == found.log);
            let (id, next) = match log.map(|log| log.verdict) {
                Some(LogVerdict::NewerFormat) => continue,
                Some(LogVerdict::Missing) => {
                    ("missing", "put the file back: a crash never takes one".to_owned())
                }
                Some(LogVerdict::Foreign) => {
                    ("foreign", "take it out, or look whether this is the right directory".to_owned())
                }
                _ => (
                    "damaged",
                    format!(
                        "put the file back from a copy; if there is none, walctl repair --dry-run {dir} says what can be kept"
                    ),
                ),
            };
            findings.push(Finding::damage(id, found.to_string()).next(next));
        }
        if self.report.findings.len() > FINDINGS {
            let what = format!("{} more places are damaged", self.report.findings.len() - FINDINGS);
            findings.push(Finding::damage("damaged", what).next(format!("walctl verify {dir}")));
        }
    }

    /// How the last writer left it.
    fn end(&self, findings: &mut Vec<Finding>) {
        let open = self.owner.process().is_some();
        let clean = self.checkpoint.is_some_and(|content| content.clean_end.is_some());
        if self.report.verdict == Verdict::TornTail {
            let what = format!(
                "{} bytes at the end are torn, as a crash leaves them: nobody was told that they were written, and the next open cuts them",
                self.report.cut_bytes
            );
            findings.push(Finding::info("torn_tail", what));
        } else if !open && !clean && self.report.verdict == Verdict::Clean {
            findings.push(Finding::info(
                "not_closed",
                "the last writer did not close it; the next open reads every byte and goes on",
            ));
        } else if clean {
            findings.push(Finding::info("closed", "the last writer closed it"));
        }
    }

    fn checkpoint_slots(&self, findings: &mut Vec<Finding>) {
        if let Some(fault) = &self.report.checkpoint_fault {
            let what = format!("one of the two slots of CHECKPOINT is bad ({fault}); the other counts");
            findings.push(
                Finding::warning("checkpoint_slot", what)
                    .next("the next open for writing mends it; ask why it went bad"),
            );
        }
        let lost =
            self.checkpoint.into_iter().flat_map(|content| &content.holds).filter(|(_, hold)| hold.lost);
        for (name, _) in lost {
            let what = format!("hold {name} went over its budget and holds nothing any more");
            findings.push(Finding::warning("hold_lost", what).next("its owner begins anew, or releases it"));
        }
    }

    fn leftovers(&self, findings: &mut Vec<Finding>) {
        let gone = [LogVerdict::Leftover, LogVerdict::Abandoned, LogVerdict::Deleted];
        let logs = self.report.logs.iter().filter(|log| gone.contains(&log.verdict));
        let logs: Vec<String> = logs.map(|log| log.log.to_string()).collect();
        if !logs.is_empty() {
            let what =
                format!("logs {} are no part of what is live; the next open removes them", logs.join(", "));
            findings.push(Finding::info("leftover", what));
        }
    }

    /// Which logs are kept, and who keeps the oldest.
    fn keepers(&self, findings: &mut Vec<Finding>) {
        let Some(oldest) = self.logs.first().filter(|oldest| oldest.state != LogState::Active) else {
            return;
        };
        let bytes = self.logs.iter().map(|info| info.bytes).sum();
        let age = self.age(oldest);
        let mut what = format!(
            "{} kept, {}, the oldest begun {} ago",
            moment::logs(self.logs.len() as u64),
            moment::bytes(bytes),
            moment::span(age)
        );
        let kept = self.kept.as_ref().and_then(|kept| kept.iter().find(|kept| !kept.keepers.is_empty()));
        if let Some(keeper) = kept.and_then(|kept| kept.keepers.first()) {
            let name = if keeper.name.is_empty() { String::new() } else { format!(" {}", keeper.name) };
            what.push_str(&format!("; it is kept by {}{name}", keeper.kind.as_str()));
        }
        let finding = if age > KEEPER_WARNING_DEFAULT.as_secs() && self.owner.process().is_some() {
            Finding::warning("kept", what)
        } else {
            Finding::info("kept", what)
        };
        findings.push(finding.next(format!("walctl why-kept {}", self.dir.display())));
        if oldest.created_micros > self.now_micros.saturating_add(CLOCK_MICROS) {
            let what = format!(
                "the oldest log was begun in the future ({}): the clock went back",
                moment::of(oldest.created_micros)
            );
            findings.push(Finding::warning("clock", what));
        }
    }

    fn age(&self, info: &LogInfo) -> u64 {
        self.now_micros.saturating_sub(info.created_micros) / 1_000_000
    }
}

/// So many damaged places are named; `verify` names them all.
const FINDINGS: usize = 3;

/// Clocks of machines differ by so much: a minute.
const CLOCK_MICROS: u64 = 60_000_000;
