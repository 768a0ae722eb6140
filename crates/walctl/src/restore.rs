//! `walctl restore`: a new directory of what archives and a log hold together, up to a point.

use std::path::PathBuf;

use jiff::Timestamp;
use wal_manager::{RestorePoint, SeqNum, Wal};

use crate::copy;
use crate::exit::{Exit, Failure};
use crate::progress;

/// Make a new log of what archives and a log's directory hold together, up to a point
///
/// The sources may be archives and directories of the same log, in any order. Nothing in the new directory
/// is marked as flushed: the engine is handed every record.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How far: `end`, `seq:N` (every record up to sequence number N), `time:RFC3339` (every record appended up to then, if records say when), or
    /// `mark:NAME` (through the mark that the engine wrote; `marker:NAME` is the same)
    #[arg(long, value_name = "POINT", default_value = "end", value_parser = parse)]
    to: RestorePoint,

    /// Archives and directories to read, and the new directory last
    #[arg(required = true, num_args = 2.., value_names = ["SOURCE", "TARGET"])]
    dirs: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let Some((target, sources)) = args.dirs.split_last() else {
        return Err(Failure::Refused("name the directories to read, and the new one last".to_owned()));
    };
    copy::interrupt_leaves(target)?;
    let (options, bar) = progress::reading(Wal::options(target), true);
    let report = options.restore(sources, &args.to);
    bar.finish_and_clear();
    copy::print(&report?, json)?;
    Ok(Exit::Fine)
}

fn parse(text: &str) -> Result<RestorePoint, String> {
    match text.split_once(':') {
        None if text == "end" => Ok(RestorePoint::End),
        Some(("seq", number)) => {
            let seq = number.parse().map_err(|error| format!("{number}: {error}"))?;
            Ok(RestorePoint::Seq(SeqNum::new(seq)))
        }
        Some(("time", time)) => {
            let time: Timestamp = time.parse().map_err(|error| format!("{time}: {error}"))?;
            let micros =
                u64::try_from(time.as_microsecond()).map_err(|_| format!("{time} is before 1970"))?;
            Ok(RestorePoint::TimeMicros(micros))
        }
        Some(("mark" | "marker", name)) if !name.is_empty() => Ok(RestorePoint::Mark(name.to_owned())),
        _ => Err("expected end, seq:N, time:RFC3339 or mark:NAME".to_owned()),
    }
}
