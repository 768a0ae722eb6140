//! `walctl stat --histogram`: how long the records are.

use serde::Serialize;
use wal_manager::Inspection;

use crate::exit::Failure;
use crate::moment;
use crate::out::Out;
use crate::progress;

/// Records by the length of their payload, in powers of two.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// By the number of bits that the length takes; a record has at least one byte.
    buckets: Vec<Bucket>,
}

/// Records of a length between two powers of two, as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    /// Shortest and longest payload that counts here, in bytes.
    from_bytes: u64,
    to_bytes: u64,
    records: u64,
    /// Of all their payloads.
    bytes: u64,
}

impl Histogram {
    /// Reads every record, up to the first damage.
    pub(crate) fn of(inspection: &Inspection) -> Self {
        let bar =
            progress::bar(inspection.report().records, "{wide_bar} {pos}/{len} records {per_sec} {eta}");
        let mut histogram = Self::default();
        // Damage ends it, and is told by the verdict.
        for record in inspection.records().map_while(Result::ok) {
            histogram.add(record.payload.len() as u64);
            bar.inc(1);
        }
        bar.finish_and_clear();
        histogram
    }

    fn add(&mut self, length: u64) {
        let bits = length.checked_ilog2().unwrap_or_default();
        while self.buckets.len() <= bits as usize {
            let from_bytes = 1 << self.buckets.len();
            self.buckets.push(Bucket { from_bytes, to_bytes: from_bytes * 2 - 1, ..Bucket::default() });
        }
        if let Some(bucket) = self.buckets.get_mut(bits as usize) {
            bucket.records = bucket.records.saturating_add(1);
            bucket.bytes = bucket.bytes.saturating_add(length);
        }
    }

    /// From the shortest that there are to the longest.
    pub(crate) fn buckets(&self) -> &[Bucket] {
        let empty = self.buckets.iter().take_while(|bucket| bucket.records == 0).count();
        self.buckets.get(empty..).unwrap_or_default()
    }

    /// A bar a line, the longest [`BAR`] wide.
    pub(crate) fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let most = self.buckets.iter().map(|bucket| bucket.records).max().unwrap_or_default();
        let all: u64 = self.buckets.iter().map(|bucket| bucket.records).sum();
        let width = |number: fn(&Bucket) -> u64| {
            self.buckets().iter().map(|bucket| number(bucket).to_string().len()).max().unwrap_or_default()
        };
        let (bytes, records) = (width(|bucket| bucket.to_bytes), width(|bucket| bucket.records));
        for bucket in self.buckets() {
            let share = |of: u64, most: u64| bucket.records.saturating_mul(of).div_ceil(most.max(1));
            let bar: String =
                std::iter::repeat_n('#', usize::try_from(share(BAR, most)).unwrap_or(0)).collect();
            let percent = bucket.records.saturating_mul(100) / all.max(1);
            out.line(format_args!(
                "record bytes {:>bytes$} to {:>bytes$}  {:>records$} {percent:>3} %  {:>11}  {bar}",
                bucket.from_bytes,
                bucket.to_bytes,
                bucket.records,
                moment::bytes(bucket.bytes),
            ))?;
        }
        Ok(())
    }
}

/// Longest bar, in characters.
const BAR: u64 = 32;

#[cfg(test)]
mod tests {
    use super::{Bucket, Histogram};

    #[test]
    fn lengths_fall_between_powers_of_two() {
        let mut histogram = Histogram::default();
        for length in [4, 7, 8, 16, 31] {
            histogram.add(length);
        }
        let bucket = |from_bytes, to_bytes, records, bytes| Bucket { from_bytes, to_bytes, records, bytes };
        assert_eq!(histogram.buckets(), [bucket(4, 7, 2, 11), bucket(8, 15, 1, 8), bucket(16, 31, 2, 47)]);
    }
}
