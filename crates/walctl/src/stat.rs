//! `walctl stat`: a directory in a few lines.

use std::collections::BTreeMap;

use serde::Serialize;
use wal_manager::{Checkpoint, FamilyId, Inspection, SeqNum};

use crate::exit::{Exit, Failure};
use crate::histogram::{Bucket, Histogram};
use crate::look::Look;
use crate::moment;
use crate::out::Out;

/// Show what a directory holds: logs, bytes, ranges, families and their marks, holds, the last clean end
///
/// Marks are what the engine said to be flushed, family by family; holds keep logs for whoever asked for them by name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    look: Look,

    /// Show how long the records are; reads every record once more
    #[arg(long)]
    histogram: bool,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let inspection = args.look.inspect()?;
    let histogram = args.histogram.then(|| Histogram::of(&inspection));
    let stat = Stat { histogram: histogram.as_ref().map(Histogram::buckets), ..Stat::new(&inspection) };
    let mut out = Out::new();
    if json {
        out.json(&stat)?;
    } else {
        stat.print(&mut out)?;
        histogram.map_or(Ok(()), |histogram| histogram.print(&mut out))?;
    }
    out.flush()?;
    Ok(args.look.end(inspection.report()))
}

/// Everything, as one JSON object.
#[derive(Serialize)]
struct Stat<'a> {
    wal_id: Option<String>,
    epoch: u64,
    logs: usize,
    first_log: Option<u64>,
    last_log: Option<u64>,
    bytes: u64,
    records: u64,
    first_index: u64,
    next_index: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    /// `null`: the last writer did not close it, or has it open.
    clean_end: Option<End>,
    families: Vec<Family>,
    holds: Vec<HoldRow>,
    /// With `--histogram`.
    #[serde(skip_serializing_if = "Option::is_none")]
    histogram: Option<&'a [Bucket]>,
}

#[derive(Serialize)]
struct End {
    log: u64,
    end: u64,
    next_index: u64,
}

#[derive(Serialize)]
struct Family {
    family: u32,
    /// Everything up to here is flushed.
    flushed_seq: Option<u64>,
    /// Its highest in the logs.
    last_seq: Option<u64>,
    /// Logs that hold something of it that is not flushed.
    unflushed_logs: usize,
    dropped: bool,
}

#[derive(Serialize)]
struct HoldRow {
    name: String,
    from_seq: u64,
    to_seq: Option<u64>,
    budget_bytes: Option<u64>,
    since_micros: u64,
    lost: bool,
}

impl Stat<'_> {
    fn new(inspection: &Inspection) -> Self {
        let (report, logs) = (inspection.report(), inspection.logs());
        let checkpoint = inspection.checkpoint();
        let clean = checkpoint.and_then(|content| content.clean_end.as_ref());
        let holds = checkpoint.into_iter().flat_map(|content| &content.holds);
        let number = |seq: SeqNum| seq.get();
        Self {
            wal_id: checkpoint.map(|content| content.wal_id.to_string()),
            epoch: report.epoch.get(),
            logs: logs.len(),
            first_log: logs.first().map(|info| info.log.get()),
            last_log: logs.last().map(|info| info.log.get()),
            bytes: logs.iter().map(|info| info.bytes).sum(),
            records: report.records,
            first_index: report.first_index.get(),
            next_index: report.next_index.get(),
            first_seq: report.seqs.map(|seqs| seqs.first().get()),
            last_seq: report.seqs.map(|seqs| seqs.last().get()),
            clean_end: clean.map(|clean| End {
                log: clean.log.get(),
                end: clean.end,
                next_index: clean.next_index.get(),
            }),
            families: families(inspection, checkpoint),
            holds: holds
                .map(|(name, hold)| HoldRow {
                    name: name.clone(),
                    from_seq: hold.from.get(),
                    to_seq: hold.to.map(number),
                    budget_bytes: hold.budget,
                    since_micros: hold.since_micros,
                    lost: hold.lost,
                })
                .collect(),
            histogram: None,
        }
    }

    fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let or_none =
            |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        out.line(format_args!("wal id       {}", self.wal_id.as_deref().unwrap_or("-")))?;
        out.line(format_args!("epoch        {}", self.epoch))?;
        let (first, last) = (or_none(self.first_log), or_none(self.last_log));
        out.line(format_args!(
            "logs         {}, from {first} to {last}, {}",
            self.logs,
            moment::bytes(self.bytes)
        ))?;
        let next = self.next_index;
        out.line(format_args!(
            "records      {}, from index {} to below {next}",
            self.records, self.first_index
        ))?;
        out.line(format_args!("sequence     {} to {}", or_none(self.first_seq), or_none(self.last_seq)))?;
        match &self.clean_end {
            Some(end) => out.line(format_args!("clean end    log {}, byte {}", end.log, end.end))?,
            None => out.line(format_args!("clean end    none: open, or not closed"))?,
        }
        for family in &self.families {
            let dropped = if family.dropped { ", dropped" } else { "" };
            out.line(format_args!(
                "family       {}: flushed through {}, newest {}, unflushed in {}{dropped}",
                family.family,
                or_none(family.flushed_seq),
                or_none(family.last_seq),
                moment::logs(family.unflushed_logs as u64)
            ))?;
        }
        for hold in &self.holds {
            let lost = if hold.lost { ", lost" } else { "" };
            out.line(format_args!(
                "hold         {}: from {} to {}, budget {}, since {}{lost}",
                hold.name,
                hold.from_seq,
                hold.to_seq.map_or_else(|| "the end".to_owned(), |seq| seq.to_string()),
                hold.budget_bytes.map_or_else(|| "none".to_owned(), moment::bytes),
                moment::of(hold.since_micros)
            ))?;
        }
        Ok(())
    }
}

/// The families that have a mark, or records.
fn families(inspection: &Inspection, checkpoint: Option<&Checkpoint>) -> Vec<Family> {
    let mark = |family: FamilyId| checkpoint.and_then(|content| content.flushed.get(&family).copied());
    let mut newest: BTreeMap<FamilyId, Option<SeqNum>> = checkpoint
        .into_iter()
        .flat_map(|content| content.flushed.keys())
        .map(|family| (*family, None))
        .collect();
    for (family, last) in inspection.logs().iter().flat_map(|info| &info.families) {
        newest.insert(*family, Some(*last));
    }
    let row = |(family, last): (FamilyId, Option<SeqNum>)| {
        let flushed = mark(family);
        let needed = inspection.logs().iter().filter_map(|info| info.families.get(&family));
        Family {
            family: family.get(),
            flushed_seq: flushed.map(SeqNum::get),
            last_seq: last.map(SeqNum::get),
            unflushed_logs: needed.filter(|last| flushed.is_none_or(|flushed| flushed < **last)).count(),
            dropped: checkpoint.is_some_and(|content| content.dropped.contains(&family)),
        }
    };
    newest.into_iter().map(row).collect()
}
