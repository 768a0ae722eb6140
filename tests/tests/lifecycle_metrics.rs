//! The counters of a log's life move when they should. That `docs/metrics.md` lists all of them is checked in `docs.rs`.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use wal_manager::{Durability, FamilyId, MemStorage, SeqNum, Wal, metrics as names};
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{options, payload, record, reopen};

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
                [] => {}
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
    totals.assert(names::DAMAGE, 0.0);
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
    totals.assert(names::TORN_TAILS, 1.0);
    totals.assert(names::DAMAGE, 0.0);
    assert!((1.0..=60.0).contains(&totals.0[names::RECOVERY_CUT_BYTES]), "{:?}", totals.0);
    totals.assert(names::POISONED, 0.0);
}
