use std::time::Duration;

use super::*;
use crate::bench::fixture;

fn calls(micros: impl Iterator<Item = u64>) -> Calls {
    let took: Vec<Duration> = micros.map(Duration::from_micros).collect();
    Calls { records: took.len() as u64, seconds: 2.0, took }
}

#[test]
fn t5_percentiles_are_of_all_calls_and_the_rate_is_the_median() {
    let load = Load { bytes: 128, writers: 2 };
    let mut gathered = Gathered::new(load, Side::Log).unwrap();
    let mut groups = histogram().unwrap();
    groups.record_n(1, 10).unwrap();
    groups.record_n(2, 85).unwrap();
    groups.record_n(7, 5).unwrap();
    gathered.add(&calls(1..=1000), Some(&groups)).unwrap();
    gathered.add(&calls(1001..=2000), Some(&groups)).unwrap();
    gathered.add(&calls((0..100).map(|_| 1)), Some(&groups)).unwrap();
    let point = gathered.point();
    let near = |a: f64, b: f64| (a - b).abs() <= 0.002 * b;
    let all = point.all;
    assert_eq!((all.records, all.calls, all.seconds, all.rate), (2100, 2100, 6.0, 500.0));
    assert!(near(all.p50, 950.0) && near(all.p99, 1979.0) && near(all.slowest, 2000.0), "{all:?}");
    assert_eq!(all.groups, Some(GroupNumbers { count: 300, p10: 1, p50: 2, p90: 2, largest: 7 }));
    assert_eq!(point.each.len(), 3);
    assert!(near(point.each[1].p50, 1500.0));
    assert_eq!(point.spread(|one| one.rate), (50.0, 500.0));
    // What all calls say lies between what the repetitions say.
    let parts: [fn(&Numbers) -> f64; 3] = [|one| one.p50, |one| one.p99, |one| one.p999];
    for part in parts {
        let (low, high) = point.spread(part);
        assert!(low <= part(&all) && part(&all) <= high);
    }
    assert!(all.is_certain(99.0) && !all.is_certain(99.9), "two calls are beyond p99.9");
}

#[test]
fn t5_the_ratio_is_beside_the_faster_bare_file() {
    let points = fixture::points();
    let log = points.of(1024, Side::Log)[3];
    let limit = points.limit(log.load).unwrap();
    assert_eq!(limit.side, Side::Written);
    assert!((points.ratio(log).unwrap() - 1.0 / 1.1).abs() < 1e-9);
    assert_eq!((points.ratio(limit), points.ratio_spread(limit)), (None, None));
    let (low, high) = points.ratio_spread(log).unwrap();
    assert!(
        (low - 1.0 / 1.1).abs() < 1e-9 && (high - 1.0 / 1.1).abs() < 1e-9,
        "each repetition beside its own"
    );
    assert_eq!(points.sizes(), [128, 1024, 16384]);
}

#[test]
fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    assert_eq!(median(Vec::new()), 0.0);
}
