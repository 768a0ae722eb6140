//! The ratios, as tables in Markdown.

use std::collections::BTreeMap;
use std::fmt;

use super::case::Workload;
use super::measured::Measured;
use super::side::Side;
use crate::stopwatch::median;

/// Measurements, by what was measured and who was.
#[derive(Clone, Debug, Default)]
pub struct Table {
    cases: BTreeMap<(Workload, usize), Sides>,
}

/// Every repetition of every side, in the order in which they were made.
type Sides = BTreeMap<String, Vec<Measured>>;

impl Table {
    /// One more measurement.
    pub fn add(&mut self, workload: Workload, size: usize, side: &str, measured: Measured) {
        let sides = self.cases.entry((workload, size)).or_default();
        sides.entry(side.to_owned()).or_default().push(measured);
    }

    /// What a file of measurements holds.
    ///
    /// # Errors
    /// A line is none.
    pub fn read(&mut self, csv: &str) -> Result<(), String> {
        for line in csv.lines().filter(|line| !line.starts_with('#') && !line.starts_with("workload,")) {
            let wrong = || format!("not a measurement: {line}");
            let fields: Vec<&str> = line.splitn(6, ',').collect();
            let [workload, size, side, _, _, measured] = fields[..] else { return Err(wrong()) };
            let (workload, size) = (workload.parse()?, size.parse().map_err(|_| wrong())?);
            self.add(workload, size, side, Measured::parse(measured).ok_or_else(wrong)?);
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.beside_limits(f)?;
        self.beside_peers(f)?;
        self.everything(f)
    }
}

impl Table {
    fn beside_limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| workload | bytes | best limit | limit /s | wal /s | ratio | lowest to highest | p50 | p99 | p99.9 | reach |"
        )?;
        writeln!(f, "| --- | ---: | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- |")?;
        for ((workload, size), sides) in &self.cases {
            let Some(wal) = sides.get("wal") else { continue };
            let Some((name, limit)) = best(sides, Side::is_limit) else {
                let rate = human(of(wal, Measured::rate));
                writeln!(f, "| {workload} | {size} | | | {rate} | | | | | | {} |", workload.reach())?;
                continue;
            };
            let (rates, limits) = (of(wal, Measured::rate), of(limit, Measured::rate));
            let (lowest, highest) = spread(wal, limit);
            let quotient = |part: fn(&Measured) -> f64| of(wal, part) / of(limit, part);
            let latency = |part| match quotient(part) {
                ratio if ratio.is_finite() => format!("{ratio:.2}"),
                _ => String::new(),
            };
            writeln!(
                f,
                "| {workload} | {size} | {} | {} | {} | **{:.2}** | {lowest:.2} to {highest:.2} | {} | {} | {} | {} |",
                name.trim_start_matches("raw:"),
                human(limits),
                human(rates),
                rates / limits,
                latency(|one| one.p50),
                latency(|one| one.p99),
                latency(|one| one.p999),
                workload.reach(),
            )?;
        }
        writeln!(f)
    }

    fn beside_peers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut heading = true;
        for ((workload, size), sides) in &self.cases {
            let (Some(wal), Some((name, peer))) = (sides.get("wal"), best(sides, is_peer)) else { continue };
            if heading {
                writeln!(
                    f,
                    "| workload | bytes | best crate | crate /s | wal /s | ratio | lowest to highest | rocksdb | reach |"
                )?;
                writeln!(f, "| --- | ---: | --- | ---: | ---: | ---: | --- | ---: | --- |")?;
                heading = false;
            }
            let (rates, peers) = (of(wal, Measured::rate), of(peer, Measured::rate));
            let (lowest, highest) = spread(wal, peer);
            let rocksdb = sides.get("rocksdb").map(|rocksdb| rates / of(rocksdb, Measured::rate));
            writeln!(
                f,
                "| {workload} | {size} | {name} | {} | {} | **{:.2}** | {lowest:.2} to {highest:.2} | {} | {} |",
                human(peers),
                human(rates),
                rates / peers,
                rocksdb.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                workload.reach_of_peers(),
            )?;
        }
        if heading { Ok(()) } else { writeln!(f) }
    }

    fn everything(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| workload | bytes | side | /s | lowest to highest | p50 us | p99 us | p99.9 us | records a sync | written a record | \
             reads | read MiB | peak MiB | flushes a sync | others |"
        )?;
        writeln!(f, "| --- | ---: | --- |{}", " ---: |".repeat(12))?;
        for ((workload, size), sides) in &self.cases {
            let are_counted = sides.values().flatten().any(|one| one.flushes > 0);
            let mut sides: Vec<_> = sides.iter().collect();
            sides.sort_by(|a, b| of(b.1, Measured::rate).total_cmp(&of(a.1, Measured::rate)));
            for (name, all) in sides {
                let rates: Vec<f64> = all.iter().map(Measured::rate).collect();
                let (lowest, highest) = (least(&rates), most(&rates));
                let counts = Side::is_ours(name) || Side::is_limit(name);
                let doubt =
                    if are_counted && !counts && too_few_flushes(*workload, all) { DOUBT } else { "" };
                let number = |part: fn(&Measured) -> f64, decimals: usize| match of(all, part) {
                    number if number.is_finite() && number > 0.0 => format!("{number:.decimals$}"),
                    _ => String::new(),
                };
                writeln!(
                    f,
                    "| {workload} | {size} | {name}{doubt} | {} | {} to {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                    human(of(all, Measured::rate)),
                    human(lowest),
                    human(highest),
                    number(|one| one.p50, 1),
                    number(|one| one.p99, 1),
                    number(|one| one.p999, 1),
                    number(|one| one.appended as f64 / one.syncs as f64, 1),
                    number(|one| one.written as f64 / one.appended as f64, 0),
                    number(|one| one.reads as f64, 0),
                    number(|one| one.read as f64 / MIB, 2),
                    number(|one| one.peak_kib as f64 * 1024.0 / MIB, 1),
                    number(|one| one.flushes as f64 / one.syncs as f64, 2),
                    number(|one| one.others, 2),
                )?;
            }
        }
        Ok(())
    }
}

const MIB: f64 = (1 << 20) as f64;

/// Behind the name of another crate that acknowledged more than the device's flushes can have made durable.
const DOUBT: &str = " (too few flushes)";

/// Whether in most repetitions the device was flushed less often than the workload's acknowledgements need.
fn too_few_flushes(workload: Workload, all: &[Measured]) -> bool {
    let few = all.iter().filter(|one| one.flushes < workload.syncs_least(one.appended)).count();
    few * 2 > all.len()
}

/// Whether it is another crate.
fn is_peer(name: &str) -> bool {
    !Side::is_ours(name) && name != "rocksdb" && !Side::is_limit(name)
}

/// The fastest of those that `counts`.
fn best(sides: &Sides, counts: impl Fn(&str) -> bool) -> Option<(&str, &[Measured])> {
    let counting = sides.iter().filter(|(name, _)| counts(name));
    let fastest = counting.max_by(|a, b| of(a.1, Measured::rate).total_cmp(&of(b.1, Measured::rate)));
    fastest.map(|(name, all)| (name.as_str(), all.as_slice()))
}

/// The median over the repetitions.
fn of(all: &[Measured], part: fn(&Measured) -> f64) -> f64 {
    median(all.iter().map(part).collect())
}

/// The lowest and the highest ratio of a repetition.
fn spread(wal: &[Measured], other: &[Measured]) -> (f64, f64) {
    let ratios: Vec<f64> = wal.iter().zip(other).map(|(wal, other)| wal.rate() / other.rate()).collect();
    (least(&ratios), most(&ratios))
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// A rate for people.
fn human(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2}M", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.1}k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_of_medians_beside_the_best_limit_and_the_best_crate() {
        let mut csv = format!("# a machine\nworkload,size,side,repetition,position,{}\n", Measured::COLUMNS);
        let sides = [("wal", 8.0), ("raw:slow", 5.0), ("raw:fast", 10.0), ("peer", 4.0), ("rocksdb", 2.0)];
        for (side, rate) in sides {
            for (repetition, factor) in [(0, 1.0), (1, 0.5), (2, 3.0)] {
                let records = rate * factor * 1e6;
                csv += &format!(
                    "lone,128,{side},{repetition},0,{records},1000,80,90,99,100,{records},1,1,1,1,1,1,1,0\n"
                );
            }
        }
        let mut table = Table::default();
        table.read(&csv).unwrap();
        let text = table.to_string();
        assert!(
            text.contains("| lone | 128 | fast | 10.0k | 8000 | **0.80** | 0.80 to 0.80 | 1.00 |"),
            "{text}"
        );
        assert!(
            text.contains("| lone | 128 | peer | 4000 | 8000 | **2.00** | 2.00 to 2.00 | 4.00 |"),
            "{text}"
        );
        // Millions of records, and one flush.
        assert!(text.contains("| lone | 128 | peer (too few flushes) |"), "{text}");
        assert!(
            text.contains("| lone | 128 | wal |") && text.contains("| lone | 128 | raw:fast |"),
            "{text}"
        );
        assert!(table.read("lone,128,wal,0,0,1").is_err());
        assert!(table.read("alone,128,wal,0,0,1").is_err());
    }

    #[test]
    fn a_crate_whose_flushes_suffice_is_not_doubted_nor_one_whose_device_tells_nothing() {
        for (flushes, doubted) in [(800, false), (799, true), (0, false)] {
            let mut table = Table::default();
            let csv = format!("lone,128,peer,0,0,800,1,80,90,99,100,800,0,0,0,0,0,{flushes},1,0\n");
            table.read(&csv).unwrap();
            assert_eq!(table.to_string().contains(DOUBT), doubted, "{table}");
        }
    }
}
