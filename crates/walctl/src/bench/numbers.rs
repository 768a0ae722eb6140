//! What came of the measurements of a report, and its CSV.

use std::fmt;

use hdrhistogram::Histogram;

use super::sides::{Calls, Load};
use crate::exit::Failure;

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The log.
    Log,
    /// A file that grows.
    Grows,
    /// A file that was written before.
    Written,
}

impl Side {
    pub(super) const ALL: [Self; 3] = [Self::Log, Self::Grows, Self::Written];

    /// One word, as in the table and in the CSV.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Grows => "grows",
            Self::Written => "written",
        }
    }
}

/// One repetition, or all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Numbers {
    pub(super) records: u64,
    pub(super) seconds: f64,
    /// Records in a second; of all repetitions together, the median of theirs.
    pub(super) rate: f64,
    /// How many calls the latencies are of.
    pub(super) calls: u64,
    /// Microseconds of a call: an append, or a bare write and its sync.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) slowest: f64,
    /// The log's groups; bare files have none.
    pub(super) groups: Option<GroupNumbers>,
}

/// Sizes of commit groups, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupNumbers {
    pub(super) count: u64,
    pub(super) p10: u64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) largest: u64,
}

impl Numbers {
    fn new(records: u64, seconds: f64, took: &Histogram<u64>, groups: Option<&Histogram<u64>>) -> Self {
        let micros = |quantile| took.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            records,
            seconds,
            rate: records as f64 / seconds,
            calls: took.len(),
            p50: micros(0.5),
            p99: micros(0.99),
            p999: micros(0.999),
            slowest: micros(1.0),
            groups: groups.map(|groups| GroupNumbers {
                count: groups.len(),
                p10: groups.value_at_quantile(0.1),
                p50: groups.value_at_quantile(0.5),
                p90: groups.value_at_quantile(0.9),
                largest: groups.max(),
            }),
        }
    }

    /// Whether so many calls were slower than this part of them, that the percentile is more than chance.
    pub(super) fn is_certain(&self, percent: f64) -> bool {
        self.calls as f64 * (100.0 - percent) / 100.0 >= CALLS_BEYOND
    }
}

/// A side under a load.
#[derive(Clone, Debug)]
pub(super) struct Point {
    pub(super) load: Load,
    pub(super) side: Side,
    /// Everything together.
    pub(super) all: Numbers,
    /// Each repetition.
    pub(super) each: Vec<Numbers>,
}

impl Point {
    /// Lowest and highest of the repetitions.
    pub(super) fn spread(&self, part: impl Fn(&Numbers) -> f64) -> (f64, f64) {
        let each = || self.each.iter().map(&part);
        (each().fold(f64::INFINITY, f64::min), each().fold(0.0, f64::max))
    }
}

/// A point that repetitions are added to.
pub(super) struct Gathered {
    took: Histogram<u64>,
    groups: Histogram<u64>,
    point: Point,
}

impl Gathered {
    pub(super) fn new(load: Load, side: Side) -> Result<Self, Failure> {
        let point = Point { load, side, all: Numbers::default(), each: Vec::new() };
        Ok(Self { took: histogram()?, groups: histogram()?, point })
    }

    /// One more repetition.
    pub(super) fn add(&mut self, calls: &Calls, groups: Option<&Histogram<u64>>) -> Result<(), Failure> {
        let failed = |error: &dyn fmt::Display| Failure::Refused(error.to_string());
        let mut took = histogram()?;
        for call in &calls.took {
            took.saturating_record(u64::try_from(call.as_nanos()).unwrap_or(u64::MAX));
        }
        self.took.add(&took).map_err(|error| failed(&error))?;
        if let Some(groups) = groups {
            self.groups.add(groups).map_err(|error| failed(&error))?;
        }
        self.point.each.push(Numbers::new(calls.records, calls.seconds, &took, groups));
        Ok(())
    }

    pub(super) fn point(mut self) -> Point {
        let each = &self.point.each;
        let (records, seconds) = (each.iter().map(|one| one.records), each.iter().map(|one| one.seconds));
        let groups = (self.point.side == Side::Log).then_some(&self.groups);
        let all = Numbers::new(records.sum(), seconds.sum(), &self.took, groups);
        self.point.all = Numbers { rate: median(each.iter().map(|one| one.rate).collect()), ..all };
        self.point
    }
}

/// Every point in the order of the loads, the log before the bare files.
#[derive(Clone, Debug, Default)]
pub(super) struct Points(pub(super) Vec<Point>);

impl Points {
    /// The lengths of records, in the order in which they were asked for.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self.0.iter().map(|point| point.load.bytes).collect();
        sizes.dedup();
        sizes
    }

    /// The points of a side with this length of records, by the number of writers.
    pub(super) fn of(&self, bytes: usize, side: Side) -> Vec<&Point> {
        let these = self.0.iter().filter(|point| point.load.bytes == bytes && point.side == side);
        let mut these: Vec<&Point> = these.collect();
        these.sort_by_key(|point| point.load.writers);
        these
    }

    /// The faster of the bare files under a load.
    pub(super) fn limit(&self, load: Load) -> Option<&Point> {
        let bare = self.0.iter().filter(|point| point.load == load && point.side != Side::Log);
        bare.max_by(|a, b| a.all.rate.total_cmp(&b.all.rate))
    }

    /// The log's rate beside the faster of the bare files; of a point of those, nothing.
    pub(super) fn ratio(&self, point: &Point) -> Option<f64> {
        let limit = self.limit(point.load).filter(|_| point.side == Side::Log)?;
        Some(point.all.rate / limit.all.rate)
    }

    /// The lowest and the highest ratio of a single repetition.
    pub(super) fn ratio_spread(&self, point: &Point) -> Option<(f64, f64)> {
        let limit = self.limit(point.load).filter(|_| point.side == Side::Log)?;
        let ratios = || point.each.iter().zip(&limit.each).map(|(log, limit)| log.rate / limit.rate);
        Some((ratios().fold(f64::INFINITY, f64::min), ratios().fold(0.0, f64::max)))
    }

    /// For each point a line of everything together, which is what the page shows, and one of each repetition.
    pub(super) fn csv(&self) -> String {
        let mut csv = String::from(COLUMNS);
        for Point { load: Load { bytes, writers }, side, all, each } in &self.0 {
            let mut line = |repetition: &str, numbers: &Numbers| {
                csv += &format!("{bytes},{writers},{},{repetition},{numbers}\n", side.name());
            };
            line("all", all);
            for (number, numbers) in (1..).zip(each) {
                line(&u64::to_string(&number), numbers);
            }
        }
        csv
    }
}

/// A line of the CSV, from the records on.
impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, seconds, rate, calls, p50, p99, p999, slowest, groups } = self;
        write!(f, "{records},{seconds},{rate},{calls},{p50},{p99},{p999},{slowest},")?;
        match groups {
            Some(GroupNumbers { count, p10, p50, p90, largest }) => {
                write!(f, "{count},{p10},{p50},{p90},{largest}")
            }
            None => f.write_str(",,,,"),
        }
    }
}

/// Of whole numbers: nanoseconds up to an hour, or records, by three digits.
pub(super) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).map_err(|error| Failure::Refused(error.to_string()))
}

/// The middle value; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |number: usize| values.get(number).copied().unwrap_or(0.0);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

/// A percentile counts when so many calls were slower.
const CALLS_BEYOND: f64 = 10.0;

const COLUMNS: &str = "bytes,writers,what,repetition,records,seconds,records_per_second,calls,p50_us,p99_us,p999_us,slowest_us,\
                       groups,group_p10,group_p50,group_p90,group_largest\n";

#[cfg(test)]
mod tests;
