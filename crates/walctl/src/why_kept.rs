//! `walctl why-kept`: who keeps each log from being deleted.

use serde::Serialize;
use wal_manager::{Keeper, KeeperKind};

use crate::exit::{Exit, Failure};
use crate::look::Look;
use crate::moment;
use crate::out::Out;
use crate::table::Table;

/// Say for each log who keeps it, from which sequence number, since when
///
/// The oldest log that somebody keeps keeps all behind it. Keepers: a family with records that are not flushed, a hold, the writer itself (active,
/// unsealed). Followers, copies and archives of a writer that has the directory open keep logs too; they are known in its process only
/// (Wal::why_kept, and the gauges wal_kept_bytes and wal_kept_since_seconds).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    look: Look,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let inspection = args.look.inspect()?;
    let mut out = Out::new();
    let mut table = Table::new(&[">LOG", ">BYTES", "KEEPER", "NAME", ">FROM_SEQ", ">THROUGH_SEQ", "SINCE"]);
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
            table.row([
                row.log.into(),
                row.bytes.into(),
                "nobody".into(),
                "it goes with the next deletion".into(),
            ]);
        }
        for keeper in &row.keepers {
            let name = if keeper.name.is_empty() { "-" } else { &keeper.name };
            table.row([
                row.log.into(),
                row.bytes.into(),
                keeper.keeper.into(),
                name.into(),
                keeper.from_seq.into(),
                keeper.through_seq.into(),
                moment::of(keeper.since_micros).into(),
            ]);
        }
    }
    if !json {
        table.print(&mut out)?;
    }
    out.flush()?;
    Ok(args.look.end(inspection.report()))
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
