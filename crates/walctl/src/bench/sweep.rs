//! The measurements of a report.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use tempfile::TempDir;
use wal_manager::{Clock, RecoveryReport, SystemClock, Wal};

use super::facts::{Facts, Load as Processors};
use super::files::Files;
use super::groups::Groups;
use super::numbers::{Gathered, Points, Side};
use super::page::{self, Plan};
use super::sides::{Bare, Load, Log, Times};
use super::{Args, REPEATS, REPORT_WRITERS, Row, SIZES, heading, loads, print};
use crate::exit::Failure;
use crate::out::Out;
use crate::progress;

/// Measures, prints the table, and writes the two files.
pub(super) fn report(args: &Args, place: &TempDir, files: Files, json: bool) -> Result<(), Failure> {
    let plan = plan(args)?;
    let clock = SystemClock::default();
    let (date, before) = (clock.wall(), Processors::now());
    let (points, opened) = sweep(&plan, place.path())?;
    let facts = Facts::new(&args.dir, date, clock.monotonic(), &before, &opened);

    let mut out = Out::new();
    heading(&mut out, json)?;
    for point in &points.0 {
        print(&mut out, &[Row::of(point, points.ratio(point))], json)?;
    }
    let (page, csv) = (files.page().to_owned(), files.csv().to_owned());
    files.write(&page::page(&plan, &facts, &points)?, &points.csv())?;
    if !json {
        out.line(format_args!("wrote {} and {}", page.display(), csv.display()))?;
    }
    out.flush()
}

/// Everything that was not asked for is chosen here, so that the page can say how to repeat it.
fn plan(args: &Args) -> Result<Plan, Failure> {
    let seed = match args.seed {
        Some(seed) => seed,
        // Short enough to be typed again.
        None => u64::from(
            getrandom::u32().map_err(|error| Failure::io("choosing a seed", io::Error::other(error)))?,
        ),
    };
    Ok(Plan {
        dir: args.dir.clone(),
        report: args.report.clone().unwrap_or_default(),
        sizes: distinct(if args.size.is_empty() { &SIZES } else { &args.size }),
        writers: distinct(if args.writers.is_empty() { &REPORT_WRITERS } else { &args.writers }),
        millis: args.millis,
        repeats: args.repeats.unwrap_or(REPEATS),
        seed,
    })
}

/// Each once, in order.
fn distinct<T: Ord + Copy>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    values
}

/// Every load in each repetition, in an order of its own; under each load the three sides, who goes first by turns.
fn sweep(plan: &Plan, place: &Path) -> Result<(Points, RecoveryReport), Failure> {
    let counted = Duration::from_millis(plan.millis) / plan.repeats;
    let times = Times { warm: counted / WARM, counted };
    let loads = loads(&plan.sizes, &plan.writers);
    let mut gathered = Vec::new();
    for &load in &loads {
        for side in Side::ALL {
            gathered.push((load, side, Gathered::new(load, side)?));
        }
    }
    let steps = gathered.len() as u64 * u64::from(plan.repeats);
    let bar = progress::bar(steps, "{wide_bar} {pos}/{len} measurements, {eta} left");
    let mut random = Random(plan.seed);
    let mut opened = None;
    for repetition in 0..plan.repeats {
        let turn = Turn::new(place, times, &bar)?;
        for load in random.shuffled(&loads) {
            turn.measure(load, repetition, &mut gathered)?;
        }
        opened = Some(turn.end()?);
    }
    bar.finish_and_clear();
    let points = gathered.into_iter().map(|(_, _, gathered)| gathered.point()).collect();
    let opened = opened.ok_or_else(|| Failure::Refused("no repetition was asked for".to_owned()))?;
    Ok((Points(points), opened))
}

/// One repetition: a log of its own, whose files go round as they do in an engine.
struct Turn<'a> {
    log: Log,
    groups: Groups,
    place: &'a Path,
    times: Times,
    bar: &'a ProgressBar,
}

impl<'a> Turn<'a> {
    fn new(place: &'a Path, times: Times, bar: &'a ProgressBar) -> Result<Self, Failure> {
        let groups = Groups::new()?;
        let log = metrics::with_local_recorder(&groups, || Log::open(Wal::options(place.join("wal"))))?;
        log.settle()?;
        Ok(Self { log, groups, place, times, bar })
    }

    fn measure(
        &self,
        load: Load,
        repetition: u32,
        gathered: &mut [(Load, Side, Gathered)],
    ) -> Result<(), Failure> {
        let first = usize::try_from(repetition).unwrap_or(0) % Side::ALL.len();
        for side in Side::ALL.into_iter().cycle().skip(first).take(Side::ALL.len()) {
            let (calls, groups) = match side {
                Side::Log => {
                    self.groups.take();
                    let calls = self.log.run(load, self.times)?;
                    let groups = self.groups.take();
                    self.log.forget()?;
                    (calls, Some(groups))
                }
                Side::Grows => (Bare::grows(&self.place.join("grows"), load)?.run(self.times)?, None),
                Side::Written => (Bare::written(&self.place.join("written"), load)?.run(self.times)?, None),
            };
            for (_, _, gathered) in gathered.iter_mut().filter(|one| (one.0, one.1) == (load, side)) {
                gathered.add(&calls, groups.as_ref())?;
            }
            self.bar.inc(1);
        }
        Ok(())
    }

    fn end(self) -> Result<RecoveryReport, Failure> {
        let report = self.log.report().clone();
        self.log.close()?;
        let path = self.place.join("wal");
        fs::remove_dir_all(&path).map_err(|error| Failure::file("removing", &path, error))?;
        Ok(report)
    }
}

/// Numbers that a seed repeats: splitmix64.
struct Random(u64);

impl Random {
    /// The same in any order.
    fn shuffled<T: Copy>(&mut self, values: &[T]) -> Vec<T> {
        let mut keyed: Vec<(u64, T)> = values.iter().map(|&value| (self.next(), value)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, value)| value).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The part of a measurement that passes before anything counts, one in so many.
const WARM: u32 = 10;
