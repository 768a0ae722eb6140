//! Looking into a directory, as most reading verbs do: what they take, how they read, and how they end.

use std::fs;
use std::path::{Path, PathBuf};

use wal_manager::{Error, Inspection, LogVerdict, RecoveryReport, Verdict, Wal};

use crate::exit::{Exit, Failure};
use crate::out;
use crate::progress;

/// The argument of a verb that looks into a directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Look {
    /// The directory of the log, or an archive
    dir: PathBuf,
}

impl Look {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads every log, without the lock; how far it has come is seen on a terminal.
    pub(crate) fn inspect(&self) -> Result<Inspection, Error> {
        let (options, bar) = progress::reading(Wal::options(&self.dir), true);
        let inspection = options.inspect();
        bar.finish_and_clear();
        inspection
    }

    /// How a verb ends that shows something else than the verdict: with the verdict's exit code, and its sentence if it is not fine.
    pub(crate) fn end(&self, report: &RecoveryReport) -> Exit {
        let exit = exit(report);
        if exit != Exit::Fine {
            out::say(format_args!("{}; see `walctl verify {}`", report.summary(), self.dir.display()));
        }
        exit
    }
}

/// The exit code for what was found.
pub(crate) fn exit(report: &RecoveryReport) -> Exit {
    if report.logs.iter().any(|log| log.verdict == LogVerdict::NewerFormat) {
        // What an older version calls damage may be none.
        Exit::NewerFormat
    } else if report.verdict == Verdict::Damaged {
        Exit::Damage
    } else {
        Exit::Fine
    }
}

/// Refuses the directory of a log to a verb that puts files of its own into a directory.
pub(crate) fn refuse_a_log(dir: &Path, instead: &str) -> Result<(), Failure> {
    let failed = |error| Failure::file("reading", dir, error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if matches!(&*name, "CHECKPOINT" | "LOCK") || name.ends_with(".wal") {
            return Err(Failure::Refused(format!("{} holds a log ({name}): {instead}", dir.display())));
        }
    }
    Ok(())
}
