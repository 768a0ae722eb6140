//! What a commit may cost, counted and not timed: writes, syncs and bytes (T5, S15). Allocations are counted in `allocations.rs`, each
//! operation of a life in `op_traces.rs`, the kernel's calls in `real_syscalls.rs`.

use std::collections::VecDeque;
use std::sync::{Arc, Barrier};
use std::thread;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use wal_io::probe::Way;
use wal_manager::{Durability, FsStorage, MemStorage, Options, Wal, metrics as names};
use wal_tests::faulty::{FaultyStorage, Kind};
use wal_tests::life::{options, payload, record, reopen, within};

/// The most that a record adds to its payload: envelope, chunk header, and its part of a block's padding.
const FRAMING_BYTES: usize = 24;

/// The most that a group adds: the promise, with its chunk header and padding.
const GROUP_BYTES: usize = 40;

/// A log whose operations and groups are counted.
struct Watched {
    storage: FaultyStorage,
    wal: Arc<Wal>,
    snapshotter: Snapshotter,
}

/// What was asked of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    writes: usize,
    syncs: usize,
    bytes: usize,
    groups: usize,
}

impl Watched {
    fn new() -> Self {
        Self::with(FaultyStorage::new(MemStorage::new()), |options| options)
    }

    fn with(storage: FaultyStorage, set: impl FnOnce(Options) -> Options) -> Self {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let wal = metrics::with_local_recorder(&recorder, || reopen(set(options(&storage))).0);
        snapshotter.snapshot();
        Self { storage, wal: Arc::new(wal), snapshotter }
    }

    /// What some appends cost.
    fn cost(&self, appends: impl FnOnce()) -> Cost {
        self.storage.forget();
        appends();
        let ops = self.storage.ops();
        let count = |kinds: &[Kind]| ops.iter().filter(|op| kinds.contains(&op.kind)).count();
        let (writes, syncs) = (count(&[Kind::Write]), count(&[Kind::SyncData, Kind::SyncAll]));
        assert_eq!(writes + syncs, ops.len(), "nothing else: {ops:?}");
        let groups =
            self.snapshotter.snapshot().into_vec().into_iter().find_map(|(key, _, _, value)| match value {
                DebugValue::Counter(groups) if key.key().name() == names::GROUPS => Some(groups),
                _ => None,
            });
        let bytes = ops.iter().map(|op| op.bytes).sum();
        Cost { writes, syncs, bytes, groups: groups.unwrap_or(0) as usize }
    }
}

impl Cost {
    /// One write and one sync a group, and no more bytes than so many records of this length may take.
    fn assert(self, records: usize, length: usize) {
        let Self { writes, syncs, bytes, groups } = self;
        assert_eq!((writes, syncs), (groups, groups), "one write and one sync a group");
        let most = records * (length + FRAMING_BYTES) + groups * GROUP_BYTES;
        assert!((records * length..=most).contains(&bytes), "{bytes} bytes, {most} at the most, {self:?}");
    }
}

#[test]
fn t5_s15_a_lone_append_is_a_group_of_its_own() {
    let watched = Watched::new();
    for length in [1, 128, 1024, 16 << 10] {
        let cost = watched.cost(|| {
            for number in 0..100 {
                watched.wal.append(record(&payload(number, length))).unwrap();
            }
        });
        assert_eq!(cost.groups, 100);
        cost.assert(100, length);
    }
}

/// On a real directory, in a log that was made ahead. What is written past the cache is counted as it is asked for, before it becomes whole blocks.
#[test]
fn t5_s15_r7_a_log_that_was_made_ahead_costs_no_more_whichever_way_it_is_written() {
    for way in [Way::Filled, Way::Direct] {
        let outer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let storage = FaultyStorage::new(FsStorage::open(outer.path()).unwrap());
        let watched = Watched::with(storage, |options| options.way(way).log_bytes(8 << 20));
        for log in 2..4 {
            watched.wal.append(record(b"in the log before")).unwrap();
            watched.wal.housekeep().unwrap();
            watched.wal.rotate().unwrap().unwrap();
            watched.wal.append(record(b"with the header")).unwrap();
            watched.snapshotter.snapshot();
            for length in [1, 128, 16 << 10] {
                let cost = watched.cost(|| {
                    for number in 0..50 {
                        watched.wal.append(record(&payload(number, length))).unwrap();
                    }
                });
                assert_eq!(cost.groups, 50, "{way}");
                cost.assert(50, length);
            }
            assert_eq!(watched.wal.logs().last().unwrap().log.get(), log);
        }
    }
}

/// How large the groups are is for the scheduler to say: see `s10_a_group_holds_whoever_came_during_the_sync_before_and_a_lone_writer_waits_for_nobody`.
#[test]
fn t5_s15_writers_share_groups_of_one_write_and_one_sync() {
    const WRITERS: usize = 8;
    const EACH: usize = 250;
    within("writers", || {
        let watched = Watched::new();
        let begin = Arc::new(Barrier::new(WRITERS));
        let cost = watched.cost(|| {
            let threads = (0..WRITERS).map(|writer| {
                let (wal, begin) = (Arc::clone(&watched.wal), Arc::clone(&begin));
                thread::spawn(move || {
                    begin.wait();
                    for number in 0..EACH {
                        wal.append(record(&payload((writer * EACH + number) as u64, 128))).unwrap();
                    }
                })
            });
            threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert!((EACH..=WRITERS * EACH).contains(&cost.groups), "{cost:?}");
        cost.assert(WRITERS * EACH, 128);
    });
}

#[test]
fn t5_s15_a_thousand_tickets_are_one_write_and_one_sync() {
    const IN_FLIGHT: usize = 1024;
    let watched = Watched::new();
    let mut in_flight = VecDeque::new();
    let mut number = 0;
    let mut submit = |in_flight: &mut VecDeque<_>| {
        in_flight.push_back(watched.wal.submit(record(&payload(number, 128))).unwrap());
        number += 1;
    };
    let cost = watched.cost(|| {
        for _ in 0..IN_FLIGHT {
            submit(&mut in_flight);
        }
        // The oldest is waited for, and one more submitted.
        for _ in 0..10 * IN_FLIGHT {
            let oldest: wal_manager::Ticket = in_flight.pop_front().unwrap();
            oldest.wait().unwrap();
            submit(&mut in_flight);
        }
        in_flight.pop_back().unwrap().wait().unwrap();
    });
    // Whoever waits may find a group that formed behind its back, so there may be a few more, but never one for each.
    assert!((11..=22).contains(&cost.groups), "{cost:?}");
    cost.assert(11 * IN_FLIGHT, 128);
}

#[test]
fn t5_s15_records_that_nobody_waits_for_cost_no_sync() {
    let watched = Watched::new();
    let cost = watched.cost(|| {
        for number in 0..1000 {
            watched.wal.append_with(record(&payload(number, 128)), Durability::Buffered).unwrap();
        }
        watched.wal.append_with(record(&payload(1000, 128)), Durability::Written).unwrap();
    });
    assert_eq!((cost.writes, cost.syncs, cost.groups), (1, 0, 1));
    assert!(cost.bytes <= 1001 * (128 + FRAMING_BYTES) + GROUP_BYTES, "{cost:?}");
}
