//! Exhaustive exploration at a stated bound; see `wal_tests::explore`. `EXPLORE=1` lives on from as many states as CI does, ten times that with 10; a plain
//! run from a few.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal_io::probe::Way;
use wal_io::sim::SimStorage;
use wal_manager::{FamilyId, Record, RecordKind, Wal};
use wal_tests::explore::script::Call;
use wal_tests::explore::{Bounds, Generation, explore, script};

/// One without damage after its scripts.
fn generation(states: usize, calls: usize, failing_calls: Option<usize>, damaged: usize) -> Generation {
    Generation { states, calls, failing_calls, damaged, damaged_calls: 0, begun: &[] }
}

#[test]
fn t1_t4_t8_v15_v19_f13_every_short_life_cut_anywhere_and_again_inside_recovery_keeps_the_protocol() {
    let scale = scale();
    let times = |states: f64| (states * scale) as usize;
    // CK7 and RC7 need four calls: two rotations, or a second log with two groups.
    let damaged_calls = if scale < 0.06 { 2 } else { 4 };
    let bounds = Bounds {
        calls: &Call::PLAIN,
        ahead: None,
        threads: 2,
        generations: vec![
            Generation { damaged_calls, ..generation(1, 4, Some(3), 0) },
            generation(times(1800.0), 2, Some(1), times(1250.0)),
            generation(times(3500.0), 1, Some(0), times(250.0)),
            generation(times(8400.0), 0, None, 0),
        ],
    };
    explored(&bounds);
}

fn explored(bounds: &Bounds) {
    match explore(bounds) {
        Ok(totals) => println!("{totals:?}"),
        Err(counterexample) => panic!("\n{counterexample}"),
    }
}

/// The same where the next log is made ahead, of a new file or of a deleted log, and filled. Fewer calls: to fill a file leaves many sectors pending.
#[test]
fn r6_r7_v19_f10_short_lives_of_logs_that_are_made_ahead_and_used_again() {
    made_ahead(Way::Filled, &Call::AHEAD, 1.0);
}

/// Past the cache, in whole blocks: the last one of a group is written again with the next.
#[test]
fn r6_r7_v19_f10_short_lives_of_direct_logs_that_are_made_ahead_and_used_again() {
    made_ahead(Way::Direct, &Call::DIRECT, 0.5);
}

fn made_ahead(way: Way, calls: &'static [Call], share: f64) {
    let scale = scale();
    let times = |states: f64| (states * scale * share) as usize;
    explored(&Bounds {
        calls,
        ahead: Some(way),
        threads: 2,
        generations: vec![
            Generation { damaged_calls: 2, ..generation(1, 3, Some(2), 0) },
            generation(times(200.0), 1, None, times(200.0)),
            generation(times(400.0), 0, None, 0),
        ],
    });
}

/// The same where each first life begins with a deleted log that waits to be used again, and writes a log that was filled: the few calls that follow
/// wipe it, name it, write it and leave it.
#[test]
fn r6_r7_v19_f10_short_lives_in_which_a_deleted_log_is_used_again() {
    const BEGUN: [Call; 4] = [Call::Append, Call::Housekeep, Call::Append, Call::FlushAll];
    let scale = scale();
    let longest = if scale < 0.5 { 2 } else { 3 };
    for (way, calls) in [(Way::Filled, &Call::AHEAD), (Way::Direct, &Call::DIRECT)] {
        explored(&Bounds {
            calls,
            ahead: Some(way),
            threads: 2,
            generations: vec![
                Generation { begun: &BEGUN, ..generation(1, longest, Some(1), 0) },
                generation((100.0 * scale) as usize, 1, None, 0),
                generation((100.0 * scale) as usize, 0, None, 0),
            ],
        });
    }
}

/// The same where somebody holds records that the engine has flushed: after any crash the hold is where it was left, and what it holds is there.
#[test]
fn g11_g2_v19_what_is_held_is_there_after_any_crash() {
    let scale = scale();
    let times = |states: f64| (states * scale) as usize;
    explored(&Bounds {
        calls: &Call::HELD,
        ahead: None,
        threads: 2,
        generations: vec![
            generation(1, 4, Some(2), 0),
            generation(times(100.0), 2, Some(0), 0),
            generation(times(200.0), 1, None, 0),
            generation(times(300.0), 0, None, 0),
        ],
    });
}

fn scale() -> f64 {
    std::env::var("EXPLORE").map_or(0.04, |scale| scale.parse().expect("EXPLORE is a number"))
}

/// RD1: whatever a writer does while a reader without the lock is between any two of its operations, the reader sees no damage and no hole.
#[test]
fn rd1_f22_a_reader_that_a_writer_overtakes_at_any_operation_reports_no_damage() {
    type Work = fn(&Wal);
    let append = |wal: &Wal| {
        wal.append(Record::new(RecordKind::new(1).unwrap(), b"more")).unwrap();
    };
    let works: [(&str, Work); 5] = [
        ("delete", |wal| drop(wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap())),
        ("append", append),
        ("rotate", |wal| drop(wal.rotate().unwrap())),
        ("append, rotate and append", |wal| {
            wal.append(Record::new(RecordKind::new(1).unwrap(), b"more")).unwrap();
            wal.rotate().unwrap();
            wal.append(Record::new(RecordKind::new(1).unwrap(), b"more")).unwrap();
        }),
        ("rotate, append and delete", |wal| {
            wal.rotate().unwrap();
            wal.append(Record::new(RecordKind::new(1).unwrap(), b"more")).unwrap();
            wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap();
        }),
    ];
    for (name, work) in works {
        for half_rotated in [false, true] {
            overtake(name, work, half_rotated);
        }
    }
}

/// Lets the writer do its work before each operation of the reader in turn. `half_rotated`: the next log is recorded and not yet used.
fn overtake(name: &str, work: fn(&Wal), half_rotated: bool) {
    let append = |wal: &Wal| {
        wal.append(Record::new(RecordKind::new(1).unwrap(), b"more")).unwrap();
    };
    for operation in 0.. {
        let disk = SimStorage::new();
        let recovery = script::options(&disk).recover().unwrap();
        let (wal, _) = recovery.finish_without_replay().unwrap();
        for _ in 0..3 {
            append(&wal);
            append(&wal);
            wal.rotate().unwrap();
        }
        append(&wal);
        append(&wal);
        if half_rotated {
            disk.fail("fail syncdata #2 of CHECKPOINT with EIO".parse().unwrap());
            wal.rotate().unwrap_err();
        }
        let (seen, wal) = (AtomicU64::new(0), Arc::new(wal));
        let writer = Arc::clone(&wal);
        disk.before_each(Arc::new(move |_| {
            // The writer's own operations are counted too and come later than its turn.
            if seen.fetch_add(1, Ordering::Relaxed) == operation {
                work(&writer);
            }
        }));
        let inspected = script::options(&disk).inspect();
        let records = inspected.and_then(|inspection| inspection.records().collect::<Result<Vec<_>, _>>());
        let done = disk.counts().values().sum::<u64>();
        disk.before_each(Arc::new(|_| ()));
        let records = match records {
            Ok(records) => records,
            // A log that was deleted after the reader had opened it stays readable; one that it had not opened yet is gone.
            Err(error) => panic!("{name} before operation {operation} of the reader: {error}"),
        };
        let indices: Vec<u64> = records.iter().map(|record| record.index.get()).collect();
        assert!(indices.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{name} {operation}: {indices:?}");
        assert!(indices.last().is_some_and(|last| *last >= 8), "{name} {operation}: {indices:?}");
        if operation > done {
            break;
        }
    }
}
