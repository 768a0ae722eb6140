//! What came of a measurement.

use std::fmt;
use std::time::Duration;

/// The numbers of one measurement. What a side cannot know is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Records (or logs) in the time that counts.
    pub records: u64,
    /// That time.
    pub seconds: f64,
    /// Half of the calls took no longer, in microseconds.
    pub p50: f64,
    /// 99 of 100 calls took no longer.
    pub p99: f64,
    /// 999 of 1000 calls took no longer.
    pub p999: f64,
    /// The slowest call.
    pub slowest: f64,
    /// Records while writes and syncs were counted: also those before the time that counts.
    pub appended: u64,
    /// Calls that wrote bytes.
    pub writes: u64,
    /// Syncs of files; a write that is its own sync is both.
    pub syncs: u64,
    /// Bytes written.
    pub written: u64,
    /// Calls that read bytes.
    pub reads: u64,
    /// Bytes read.
    pub read: u64,
    /// Flushes that the device was sent meanwhile, by whomever: the witness that a sync was one.
    pub flushes: u64,
    /// The most memory that the process ever held, in KiB; not the page cache.
    pub peak_kib: u64,
    /// Processors that others used meanwhile: 0.1 is a quiet machine.
    pub others: f64,
}

impl Measured {
    /// The names of the fields of a line.
    pub const COLUMNS: &str = "records,seconds,p50_us,p99_us,p999_us,slowest_us,appended,writes,syncs,written_bytes,reads,read_bytes,\
                               device_flushes,peak_kib,other_cores";

    /// Records in a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    /// With what each call took.
    #[must_use]
    pub fn latencies(mut self, mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let Some(last) = took.len().checked_sub(1) else { return self };
        let at = |part: usize| took[(took.len() * part / 1000).min(last)].as_secs_f64() * 1e6;
        (self.p50, self.p99, self.p999, self.slowest) = (at(500), at(990), at(999), at(1000));
        self
    }

    /// `each` records in every call, so that what a call takes says nothing about a record.
    #[must_use]
    pub fn in_batches(self, each: u64) -> Self {
        let Self { records, seconds, appended, .. } = self;
        Self { records: records * each, seconds, appended: appended * each, ..Self::default() }
    }

    /// A line of CSV, back to numbers.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.trim().split(',');
        let mut float = || fields.next()?.parse::<f64>().ok();
        let [records, seconds, p50, p99, p999, slowest] =
            [float()?, float()?, float()?, float()?, float()?, float()?];
        let [appended, writes, syncs, written, reads, read] =
            [float()?, float()?, float()?, float()?, float()?, float()?];
        let [flushes, peak_kib, others] = [float()?, float()?, float()?];
        // Below 2^53 all of them, and none negative.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole numbers, written by us"
        )]
        let whole = |value: f64| value as u64;
        Some(Self {
            records: whole(records),
            seconds,
            p50,
            p99,
            p999,
            slowest,
            appended: whole(appended),
            writes: whole(writes),
            syncs: whole(syncs),
            written: whole(written),
            reads: whole(reads),
            read: whole(read),
            flushes: whole(flushes),
            peak_kib: whole(peak_kib),
            others,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, seconds, p50, p99, p999, slowest, appended, writes, syncs, .. } = self;
        let Self { written, reads, read, flushes, peak_kib, others, .. } = self;
        write!(
            f,
            "{records},{seconds:.6},{p50:.2},{p99:.2},{p999:.2},{slowest:.2},{appended},{writes},{syncs},"
        )?;
        write!(f, "{written},{reads},{read},{flushes},{peak_kib},{others:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_column_and_can_be_read_back() {
        let took = (1..=1000).map(Duration::from_micros).collect();
        let measured = Measured {
            records: 1000,
            seconds: 0.5,
            appended: 1001,
            writes: 7,
            syncs: 6,
            written: 5,
            reads: 4,
            read: 3,
            flushes: 2,
            peak_kib: 1,
            others: 0.125,
            ..Measured::default()
        }
        .latencies(took);
        let line = measured.to_string();
        assert_eq!(line.split(',').count(), Measured::COLUMNS.split(',').count(), "{line}");
        // A line has fewer digits than a number.
        assert_eq!(Measured::parse(&line).map(|read| read.to_string()), Some(line));
        let rounded = [measured.p50, measured.p99, measured.p999].map(f64::round);
        assert_eq!(rounded, [501.0, 991.0, 1000.0]);
        assert_eq!(measured.rate(), 2000.0);
        assert_eq!(Measured::parse("1,2"), None);
    }
}
