//! The counters of a log's life move when they should. That `docs/metrics.md` lists all of them is checked in `docs.rs`.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use wal_io::probe::Way;
use wal_manager::metrics::MetricKind;
use wal_manager::{
    Durability, Error, FamilyId, FollowFrom, Follower, Index, MemStorage, SeqNum, SimStorage, Wal,
    metrics as names,
};
use wal_tests::exporter::Exporter;
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{SMALL, options, payload, record, reopen};

/// Opens with a recorder of its own.
fn watched(storage: &FaultyStorage, name: &str) -> (Wal, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let wal = metrics::with_local_recorder(&recorder, || reopen(options(storage).name(name)).0);
    (wal, snapshotter)
}

/// Adds up what has happened since the last call. Histograms count their samples, with `.sum` beside them.
#[derive(Default)]
struct Totals(BTreeMap<String, f64>);

impl Totals {
    fn update(&mut self, snapshotter: &Snapshotter) {
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let label: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
            assert_eq!(label[0], (names::LABEL, "mine"), "the name from the options");
            let mut name = key.key().name().to_owned();
            match label[1..] {
                [] | [("version", _), ("format", _)] => {}
                [(names::KIND_LABEL, kind)] => name = format!("{name} {kind}"),
                _ => panic!("{name} has another label: {label:?}"),
            }
            assert!(name.starts_with("wal_"), "{name}");
            match value {
                // A snapshot takes a counter's value away.
                DebugValue::Counter(value) => *self.0.entry(name).or_default() += value as f64,
                DebugValue::Gauge(value) => drop(self.0.insert(name, value.into_inner())),
                DebugValue::Histogram(samples) => {
                    let sum: f64 = samples.iter().map(|sample| sample.into_inner()).sum();
                    *self.0.entry(format!("{name}.sum")).or_default() += sum;
                    *self.0.entry(name).or_default() += samples.len() as f64;
                }
            }
        }
    }

    fn assert(&self, name: &str, value: f64) {
        assert_eq!(self.0.get(name), Some(&value), "{name} of {:#?}", self.0);
    }
}

#[test]
fn o1_counters_and_gauges_follow_a_life() {
    let storage = FaultyStorage::new(MemStorage::new());
    let (wal, snapshotter) = watched(&storage, "mine");
    let mut totals = Totals::default();
    totals.update(&snapshotter);
    for name in
        [names::APPENDS, names::SYNCS, names::GROUPS, names::ROTATIONS, names::DELETED_LOGS, names::POISONED]
    {
        totals.assert(name, 0.0);
    }
    totals.assert(names::LOGS, 1.0);
    totals.assert(names::RECOVERY_SECONDS, 1.0);
    storage.forget();

    for number in 0..10 {
        wal.append_with(record(&payload(number, 100)).count(2), Durability::Buffered).unwrap();
    }
    wal.sync().unwrap();
    wal.append(record(&payload(10, 50))).unwrap();
    totals.update(&snapshotter);
    totals.assert(names::APPENDS, 11.0);
    totals.assert(names::APPEND_BYTES, 1050.0);
    totals.assert(names::GROUPS, 2.0);
    totals.assert(names::GROUP_RECORDS, 2.0);
    totals.assert("wal_commit_group_records.sum", 11.0);
    totals.assert(names::SYNCS, 2.0);
    totals.assert(names::SYNC_SECONDS, 2.0);
    totals.assert(names::DURABLE_INDEX, 11.0);
    let written: usize = storage.ops().iter().filter(|op| op.name.ends_with(".wal")).map(|op| op.bytes).sum();
    totals.assert(names::WRITTEN_BYTES, written as f64);

    storage.fail(Which::On(Kind::Create, ".wal"), 1, EIO);
    wal.rotate().unwrap_err();
    storage.fail(Which::On(Kind::SyncData, "CHECKPOINT"), 1, EIO);
    wal.rotate().unwrap_err();
    wal.rotate().unwrap().unwrap();
    wal.append(record(b"second log")).unwrap();
    storage.fail(Which::On(Kind::Write, "000002.wal"), 1, EIO);
    wal.rotate().unwrap().unwrap();
    wal.append(record(b"third log")).unwrap();
    totals.update(&snapshotter);
    totals.assert(names::ROTATION_FAILURES, 2.0);
    totals.assert(names::CHECKPOINT_FAILURES, 1.0);
    totals.assert(names::ROTATIONS, 2.0);
    totals.assert(names::SEAL_FAILURES, 1.0);
    totals.assert(names::LOGS, 3.0);
    totals.assert(names::LAST_SEQ, wal.last_seq().unwrap().get() as f64);
    totals.assert(names::POISONED, 0.0);

    storage.fail(Which::Kind(Kind::Unlink), 2, EIO);
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(22)).unwrap();
    totals.update(&snapshotter);
    totals.assert(names::DELETED_LOGS, 1.0);
    totals.assert(names::DELETE_FAILURES, 1.0);
    totals.assert(names::LOGS, 1.0);
    wal.mark_flushed_all(&[]).unwrap();
    let live: u64 = wal.logs().iter().map(|log| log.bytes).sum();
    totals.update(&snapshotter);
    totals.assert(names::DELETED_LOGS, 2.0);
    totals.assert(names::LIVE_BYTES, live as f64);

    storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
    wal.append(record(b"fails")).unwrap_err();
    totals.update(&snapshotter);
    totals.assert(names::POISONED, 1.0);
    totals.assert("wal_damage_total bytes", 0.0);
}

#[test]
fn o1_a_recovery_counts_what_it_read_and_cut() {
    let memory = MemStorage::new();
    let storage = FaultyStorage::new(memory.clone());
    let (wal, _) = watched(&storage, "mine");
    for number in 0..5 {
        wal.append(record(&payload(number, 100))).unwrap();
    }
    storage.tear(Which::Kind(Kind::Write), 1, 60, EIO);
    wal.append(record(&payload(5, 100))).unwrap_err();
    drop(wal);
    let (_wal, snapshotter) = watched(&FaultyStorage::new(memory), "mine");
    let mut totals = Totals::default();
    totals.update(&snapshotter);
    totals.assert(names::RECOVERED_RECORDS, 5.0);
    totals.assert(names::DURABLE_INDEX, 5.0);
    totals.assert(names::TORN_TAILS, 1.0);
    totals.assert("wal_damage_total bytes", 0.0);
    assert!((1.0..=60.0).contains(&totals.0[names::RECOVERY_CUT_BYTES]), "{:?}", totals.0);
    totals.assert(names::POISONED, 0.0);
}

#[test]
fn o1_o5_every_series_is_in_the_output_of_a_real_exporter_from_the_open_on() {
    for recommended_naming in [false, true] {
        let exporter = Exporter::new(recommended_naming);
        let _wal = exporter.open(options(&MemStorage::new()));
        let text = exporter.text();
        let types = text.lines().filter(|line| line.starts_with("# TYPE "));
        assert_eq!(types.count(), names::ALL.len(), "these and no others:\n{text}");
        for metric in names::ALL {
            let (name, kind) = (metric.name, metric.kind.as_str());
            assert!(text.contains(&format!("# HELP {name} {}\n", metric.help)), "{name} in:\n{text}");
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} in:\n{text}");
            let count = if metric.kind == MetricKind::Histogram { "_count" } else { "" };
            let series = format!("{name}{count}{{wal=\"mine\"");
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&series)).collect();
            let wanted: usize = metric.labels.iter().map(|(_, values)| values.len()).product();
            assert_eq!(lines.len(), wanted, "{name} in:\n{text}");
            for (label, values) in metric.labels {
                for value in *values {
                    let wanted = format!("{label}=\"{value}\"");
                    assert!(lines.iter().any(|line| line.contains(&wanted)), "{wanted} in {lines:?}");
                }
            }
        }
        let histograms = names::ALL.iter().filter(|metric| metric.kind == MetricKind::Histogram);
        let histograms: Vec<&str> = histograms.map(|metric| metric.name).collect();
        let with_buckets: Vec<&str> = names::BUCKETS.iter().map(|(name, _)| *name).collect();
        assert!(with_buckets.iter().all(|name| histograms.contains(name)));
        assert_eq!(histograms.len(), with_buckets.len(), "each has buckets");
        let format = format!("format=\"{}\"", wal_manager::FORMAT_VERSION);
        assert!(text.contains(&format), "{format} in:\n{text}");
    }
}

#[test]
fn o1_two_logs_of_a_process_differ_by_their_names() {
    let exporter = Exporter::default();
    let [one, two] = ["one", "two"].map(|name| {
        let storage = MemStorage::new();
        exporter.with(|| reopen(options(&storage).name(name)).0)
    });
    for number in 0..3 {
        one.append(record(&payload(number, 10))).unwrap();
    }
    two.append(record(b"one")).unwrap();
    let text = exporter.text();
    for line in ["wal_appends_total{wal=\"one\"} 3", "wal_appends_total{wal=\"two\"} 1"] {
        assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
    }
}

#[test]
fn o1_a_recorder_that_is_installed_after_the_open_sees_nothing() {
    let exporter = Exporter::default();
    let wal = wal_tests::life::open(&MemStorage::new());
    exporter.with(|| {
        wal.append(record(b"too late")).unwrap();
        wal.rotate().unwrap();
        wal.close().unwrap();
    });
    assert_eq!(exporter.text().trim(), "");
}

#[test]
fn o5_waits_rotations_and_files_made_ahead_are_measured() {
    let exporter = Exporter::default();
    let storage = MemStorage::new();
    let wal = exporter.open(options(&storage).log_bytes(SMALL).recycle(1));
    wal.append(record(b"waits")).unwrap();
    wal.append_with(record(b"does not wait"), Durability::Buffered).unwrap();
    exporter.assert(&[(names::COMMIT_WAIT_SECONDS, 1.0)]);
    wal.sync().unwrap();
    wal.submit(record(b"a ticket")).unwrap().wait().unwrap();
    exporter.assert(&[
        (names::COMMIT_WAIT_SECONDS, 3.0),
        (names::UNDURABLE_RECORDS, 0.0),
        (names::UNDURABLE_BYTES, 0.0),
        (names::APPEND_STALL_SECONDS, 0.0),
    ]);
    wal.append_with(record(b"written"), Durability::Written).unwrap();
    wal.append_with(record(b"written"), Durability::Written).unwrap();
    exporter.assert(&[(names::COMMIT_WAIT_SECONDS, 3.0), (names::UNDURABLE_RECORDS, 2.0)]);
    assert!(exporter.value(names::UNDURABLE_BYTES) > 20.0);

    wal.rotate().unwrap();
    exporter.assert(&[
        (names::ROTATION_SECONDS, 1.0),
        (names::ROTATION_WAITS, 1.0),
        (names::PREPARE_SECONDS, 1.0),
        (names::UNDURABLE_RECORDS, 0.0),
        (names::NEXT_LOG_READY, 0.0),
    ]);
    wal.append(record(b"the second log")).unwrap();
    wal.housekeep().unwrap();
    exporter.assert(&[(names::NEXT_LOG_READY, 1.0), (names::PREPARE_SECONDS, 2.0)]);
    wal.rotate().unwrap();
    exporter.assert(&[
        (names::NEXT_LOG_READY, 0.0),
        (names::ROTATION_SECONDS, 2.0),
        (names::ROTATION_WAITS, 1.0),
    ]);

    // Two logs can go: one file is kept.
    wal.append(record(b"the third log")).unwrap();
    let bytes: u64 = wal.logs().iter().take(2).map(|log| log.bytes).sum();
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(6)).unwrap();
    exporter.assert(&[
        (names::DELETED_LOGS, 2.0),
        (names::DELETED_BYTES, bytes as f64),
        (names::SPARE_LOGS, 1.0),
        (names::RECYCLED_LOGS, 0.0),
    ]);
    wal.rotate().unwrap();
    exporter.assert(&[(names::SPARE_LOGS, 0.0), (names::RECYCLED_LOGS, 1.0)]);

    // A log that is full: the append that comes to it waits for the rotation.
    exporter.assert(&[(names::APPEND_STALL_SECONDS, 0.0)]);
    for number in 0..2 {
        wal.append(record(&payload(number, 40_000))).unwrap();
    }
    exporter.assert(&[(names::APPEND_STALL_SECONDS, 1.0), (names::ROTATION_SECONDS, 4.0)]);
}

#[test]
fn o5_the_waits_of_leaders_and_of_sleepers_are_measured() {
    let exporter = Exporter::default();
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = exporter.open(options(&storage));
    let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
    std::thread::scope(|scope| {
        scope.spawn(|| wal.append(record(b"leads")).unwrap());
        gate.reached();
        for _ in 0..3 {
            scope.spawn(|| wal.append(record(b"sleeps, or comes late")).unwrap());
        }
        while wal.last_seq() < Some(SeqNum::new(4)) {
            std::thread::yield_now();
        }
        exporter.assert(&[(names::COMMIT_WAIT_SECONDS, 0.0)]);
        gate.open();
    });
    let groups = exporter.value(names::GROUPS);
    assert!(groups < 4.0, "they share syncs");
    exporter.assert(&[(names::COMMIT_WAIT_SECONDS, 4.0), (names::SYNC_SECONDS, groups)]);
}

#[test]
fn o5_failures_and_what_goes_on_behind_them_are_counted() {
    let exporter = Exporter::default();
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = exporter.open(options(&storage));
    wal.append(record(b"works")).unwrap();
    storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
    wal.append(record(b"is not synced")).unwrap_err();
    exporter.assert(&[(names::SYNC_FAILURES, 1.0), (names::WRITE_FAILURES, 0.0), (names::POISONED, 1.0)]);
    storage.fail(Which::On(Kind::Create, ".wal"), 1, EIO);
    wal.resume().unwrap_err();
    exporter.assert(&[(names::RESUME_FAILURES, 1.0), (names::RESUME_SECONDS, 0.0)]);
    wal.resume().unwrap();
    exporter.assert(&[(names::RESUMES, 1.0), (names::RESUME_SECONDS, 1.0), (names::POISONED, 0.0)]);
    exporter.assert(&[(names::UNDURABLE_RECORDS, 0.0), (names::DURABLE_INDEX, 2.0)]);
    storage.fail(Which::On(Kind::Write, ".wal"), 1, EIO);
    wal.append(record(b"is not written")).unwrap_err();
    exporter.assert(&[(names::SYNC_FAILURES, 1.0), (names::WRITE_FAILURES, 1.0), (names::POISONED, 1.0)]);
}

#[test]
fn o1_holds_followers_and_copies_are_seen() {
    let exporter = Exporter::default();
    let wal = exporter.open(options(&MemStorage::new()));
    for number in 0..4 {
        wal.append(record(&payload(number, 1000))).unwrap();
        wal.rotate().unwrap();
    }
    wal.append(record(b"the fifth log")).unwrap();
    exporter.assert(&[(names::HOLDS, 0.0), (names::BUDGET_USED_RATIO, 0.0), (names::FOLLOWERS, 0.0)]);

    // What a hold keeps that the engine needs no more is charged to it.
    wal.hold("backup", SeqNum::new(1), Some(8000)).unwrap();
    exporter.assert(&[(names::HOLDS, 1.0), (names::BUDGET_USED_RATIO, 0.0)]);
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2)).unwrap();
    let held = wal.holds()[0].held_bytes;
    assert!(held > 2000);
    exporter.assert(&[(names::BUDGET_USED_RATIO, held as f64 / 8000.0), (names::DROPPED_KEEPERS, 0.0)]);
    wal.hold("greedy", SeqNum::new(1), Some(held + 1)).unwrap();
    assert!(exporter.value(names::BUDGET_USED_RATIO) > 0.99);
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(3)).unwrap();
    exporter.assert(&[(names::HOLDS, 1.0), (names::LOST_HOLDS, 1.0), (names::DROPPED_KEEPERS, 1.0)]);
    wal.release_hold("greedy").unwrap_err();
    exporter.assert(&[(names::HOLDS, 1.0), (names::LOST_HOLDS, 0.0)]);

    let mut fast = wal.follow(FollowFrom::Oldest).unwrap();
    let mut slow = wal.follow(FollowFrom::Oldest).unwrap();
    exporter.assert(&[(names::FOLLOWERS, 2.0), (names::SLOWEST_FOLLOWER_INDEX, 0.0)]);
    let read = |follower: &mut Follower| std::iter::from_fn(|| follower.try_next().unwrap()).count();
    assert_eq!(read(&mut fast), 5);
    exporter.assert(&[(names::SLOWEST_FOLLOWER_INDEX, 0.0), (names::DURABLE_INDEX, 5.0)]);
    assert_eq!(read(&mut slow), 5);
    exporter.assert(&[(names::SLOWEST_FOLLOWER_INDEX, 5.0)]);
    wal.append(record(b"one more")).unwrap();
    assert_eq!(read(&mut fast), 1);
    exporter.assert(&[(names::SLOWEST_FOLLOWER_INDEX, 5.0)]);
    drop(slow);
    exporter.assert(&[(names::FOLLOWERS, 1.0), (names::SLOWEST_FOLLOWER_INDEX, 6.0)]);
    let mut waits = wal.follow(FollowFrom::Index(Index::new(100))).unwrap();
    assert_eq!(read(&mut waits), 0);
    exporter.assert(&[(names::FOLLOWERS, 2.0), (names::SLOWEST_FOLLOWER_INDEX, 6.0)]);
    drop((fast, waits));
    exporter.assert(&[(names::FOLLOWERS, 0.0), (names::SLOWEST_FOLLOWER_INDEX, 0.0)]);
    wal.release_hold("backup").unwrap();
    exporter.assert(&[(names::FOLLOWER_GAPS, 0.0)]);
    assert!(matches!(wal.follow(FollowFrom::Index(Index::FIRST)), Err(Error::Gap { .. })));
    exporter.assert(&[(names::FOLLOWER_GAPS, 1.0), (names::FOLLOWERS, 0.0)]);

    let target = MemStorage::new();
    wal.copy_on(&target).unwrap();
    exporter.assert(&[(names::COPY_SECONDS, 1.0), (names::COPY_FAILURES, 0.0)]);
    wal.copy_on(&target).unwrap_err();
    exporter.assert(&[(names::COPY_SECONDS, 1.0), (names::COPY_FAILURES, 1.0)]);
}

#[test]
fn o1_i8_the_gauge_says_how_new_logs_are_written() {
    for (way, value) in [(Way::Append, 0.0), (Way::Filled, 1.0), (Way::Direct, 2.0), (Way::Ring, 3.0)] {
        let exporter = Exporter::default();
        let _wal = exporter.open(options(&SimStorage::new()).way(way));
        assert_eq!(exporter.value(names::FILE_WAY), value, "{way}");
        assert!(
            names::ALL.iter().any(|metric| {
                metric.name == names::FILE_WAY && metric.help.contains(&format!("{value} {way}"))
            }),
            "the metric's help explains it"
        );
    }
}
