//! `walctl gc`: says that an engine has flushed, so that logs may go.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;
use wal_manager::io::probe::Way;
use wal_manager::{FamilyId, Recovery, SeqNum, Wal};

use crate::append::parse_family;
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::moment;
use crate::out::Out;
use crate::progress;

/// Mark sequence numbers as flushed, and delete the logs that nobody needs any more
///
/// What was not really flushed by the engine is lost with its log: this is for logs without an engine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,

    /// Everything up to this sequence number is flushed
    #[arg(long, value_name = "SEQ")]
    flushed: u64,

    /// Only in this family [default: every family in the logs]
    #[arg(long, value_name = "F", value_parser = parse_family)]
    family: Option<FamilyId>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    // Opening for writing would make a log where there is none. Looking first takes nothing and creates nothing.
    Wal::options(&args.dir).glance()?;
    interrupt::ends_at_once("the mark counts or does not, and the next writer deletes what is left")?;
    let (options, bar) = progress::reading(Wal::options(&args.dir).way(Way::Append), true);
    let opened = options.recover().and_then(Recovery::finish_without_replay);
    bar.finish_and_clear();
    let (wal, _) = opened?;
    let flushed = SeqNum::new(args.flushed);
    let marks = marks(&wal, args.family, flushed);
    let marked = wal.mark_flushed_all(&marks);
    let deleted = match marked {
        Ok(deletion) => Deleted {
            deleted: deletion.deleted.iter().map(|log| log.get()).collect(),
            bytes: deletion.bytes,
            retry: deletion.retry,
        },
        // Nothing was marked; leave the log closed all the same.
        Err(error) => return wal.close().and(Err(error)).map_err(Failure::from),
    };
    wal.close()?;
    let mut out = Out::new();
    if json {
        out.json(&deleted)?;
    } else {
        for log in &deleted.deleted {
            out.line(format_args!("deleted log {log}"))?;
        }
        out.line(format_args!(
            "{} deleted, {} bytes",
            moment::logs(deleted.deleted.len() as u64),
            deleted.bytes
        ))?;
        if deleted.retry > 0 {
            out.line(format_args!(
                "{} could not be removed, the next writer tries again",
                moment::logs(deleted.retry as u64)
            ))?;
        }
    }
    out.flush()?;
    Ok(Exit::Fine)
}

/// What is to be marked: the family that was asked for, or every family in the logs that is not flushed so far already.
fn marks(wal: &Wal, family: Option<FamilyId>, flushed: SeqNum) -> Vec<(FamilyId, SeqNum)> {
    if let Some(family) = family {
        return vec![(family, flushed)];
    }
    let families: BTreeSet<FamilyId> =
        wal.logs().iter().flat_map(|log| log.families.keys().copied()).collect();
    if families.is_empty() {
        // No record is left; a number that was never issued is refused all the same.
        return if Some(flushed) > wal.last_seq() { vec![(FamilyId::DEFAULT, flushed)] } else { Vec::new() };
    }
    families
        .into_iter()
        .filter(|&family| wal.flushed(family).is_none_or(|already| already < flushed))
        .map(|family| (family, flushed))
        .collect()
}

#[derive(Serialize)]
struct Deleted {
    deleted: Vec<u64>,
    bytes: u64,
    retry: usize,
}
