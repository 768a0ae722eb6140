//! `walctl why-kept`: who keeps each log from being deleted.

use std::path::PathBuf;

use serde::Serialize;
use wal_manager::{Keeper, KeeperKind, Wal};

use crate::exit::{Exit, Failure};
use crate::out::{self, Out};
use crate::progress;
use crate::verify;

/// Say for each log who keeps it, from which sequence number, since when
///
/// The oldest log that somebody keeps keeps all behind it. Keepers: a family with records that are not flushed, a hold, the writer itself (active,
/// unsealed). Followers, copies and archives of a writer that has the directory open keep logs too; they are known in its process only
/// (Wal::why_kept, and the gauges wal_kept_bytes and wal_kept_since_seconds). Takes no lock and changes nothing.
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
    let mut out = Out::new();
    if !json {
        out.line(format_args!(
            "{:>8} {:>12}  {:<9} {:<20} {:>12} {:>12} {:>12}",
            "LOG", "BYTES", "KEEPER", "NAME", "FROM_SEQ", "THROUGH_SEQ", "SINCE_UNIX"
        ))?;
    }
    for kept in inspection.why_kept() {
        let row = Row {
            log: kept.log.get(),
            bytes: kept.bytes,
            keepers: kept.keepers.iter().map(KeeperRow::new).collect(),
        };
        if json {
            out.json(&row)?;
            continue;
        }
        if row.keepers.is_empty() {
            out.line(format_args!(
                "{:>8} {:>12}  nobody: it goes with the next deletion",
                row.log, row.bytes
            ))?;
        }
        for keeper in &row.keepers {
            let seq = |seq: Option<u64>| seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
            let name = if keeper.name.is_empty() { "-" } else { &keeper.name };
            out.line(format_args!(
                "{:>8} {:>12}  {:<9} {:<20} {:>12} {:>12} {:>12}",
                row.log,
                row.bytes,
                keeper.keeper,
                name,
                seq(keeper.from_seq),
                seq(keeper.through_seq),
                keeper.since_micros / 1_000_000
            ))?;
        }
    }
    out.flush()?;
    let report = inspection.report();
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
    bytes: u64,
    keepers: Vec<KeeperRow>,
}

#[derive(Serialize)]
struct KeeperRow {
    /// `active`, `unsealed`, `family`, `hold` or `older`.
    keeper: &'static str,
    /// The number of a family, the name of a hold, the number of the older log.
    name: String,
    from_seq: Option<u64>,
    through_seq: Option<u64>,
    since_micros: u64,
}

impl KeeperRow {
    fn new(keeper: &Keeper) -> Self {
        let kind: KeeperKind = keeper.kind;
        Self {
            keeper: kind.as_str(),
            name: keeper.name.clone(),
            from_seq: keeper.from.map(|seq| seq.get()),
            through_seq: keeper.through.map(|seq| seq.get()),
            since_micros: keeper.since_micros,
        }
    }
}
