//! The probe chooses what the clock says, within its bounds, and leaves nothing behind.

use std::cell::Cell;
use std::sync::Mutex;

use super::*;
use crate::fs::FsStorage;
use crate::mem::MemStorage;
use crate::sim::{Fault, SimStorage};

/// A disk on which each way's sync takes so many microseconds, the last also for the ways behind it, and everything else no time; and its clock.
fn disk<const N: usize>(micros: [u64; N]) -> (SimStorage, impl Fn() -> Duration) {
    let disk = SimStorage::new();
    let now = Arc::new(Mutex::new(Duration::ZERO));
    let later = Arc::clone(&now);
    disk.before_each(Arc::new(move |words| {
        let micros = micros.into_iter().chain([micros[N - 1]]);
        for (file, micros) in FILES.into_iter().zip(micros) {
            if words.starts_with("syncdata") && words.contains(file) {
                *later.lock().unwrap() += Duration::from_micros(micros);
            }
        }
    }));
    (disk, move || *now.lock().unwrap())
}

fn choice(micros: [u64; 3]) -> Way {
    let (disk, clock) = disk(micros);
    let report = run(&disk, &clock);
    assert_eq!(disk.file_names(), Vec::<String>::new());
    report.choice
}

#[test]
fn i8_the_fastest_way_is_chosen_if_it_wins_by_the_margin() {
    assert_eq!(choice([117, 85, 80]), Way::Direct);
    assert_eq!(choice([117, 85, 83]), Way::Filled);
    assert_eq!(choice([100, 98, 96]), Way::Direct);
    assert_eq!(choice([100, 98, 97]), Way::Append);
    assert_eq!(choice([80, 85, 117]), Way::Append);
    assert_eq!(choice([100, 200, 90]), Way::Direct);
    assert_eq!(choice([0, 0, 0]), Way::Append);
}

#[test]
fn rounds_that_are_disturbed_do_not_count_against_a_way() {
    let (disk, now) = (SimStorage::new(), Arc::new(Mutex::new((0_u64, Duration::ZERO))));
    let later = Arc::clone(&now);
    disk.before_each(Arc::new(move |words| {
        let (syncs, now) = &mut *later.lock().unwrap();
        let micros = match words {
            "syncdata PROBE.append" => 117,
            "syncdata PROBE.filled" => 85,
            // Three of five times something else was in the way.
            "syncdata PROBE.direct direct" => {
                *syncs += 1;
                if *syncs % 5 < 3 { 580 } else { 80 }
            }
            "syncdata PROBE.ring direct" => 90,
            _ => 0,
        };
        *now += Duration::from_micros(micros);
    }));
    let report = run(&disk, &|| now.lock().unwrap().1);
    assert_eq!(report.choice, Way::Direct);
    let direct = *report.candidates[2].1.as_ref().unwrap();
    assert_eq!(
        (direct.lower_quartile, direct.median),
        (Duration::from_micros(80), Duration::from_micros(580))
    );
}

#[test]
fn i8_rings_are_a_way_of_their_own() {
    let (disk, clock) = disk([117, 85, 80, 60]);
    let report = run(&disk, &clock);
    assert_eq!((report.choice, report.candidates.len()), (Way::Ring, 4));
    can(&disk, Way::Ring).unwrap();
    disk.fail(Fault::parse("fail create of PROBE.ring with EOPNOTSUPP").unwrap());
    assert_eq!(can(&disk, Way::Ring).unwrap_err().kind(), ErrorKind::Unsupported);
    let report = run(&disk, &clock);
    assert_eq!((report.choice, report.candidates.len()), (Way::Direct, 3));
    assert_eq!(disk.file_names(), Vec::<String>::new());
}

#[test]
fn the_report_tells_every_median() {
    let (disk, clock) = disk([117, 85, 80, 79]);
    let report = run(&disk, &clock);
    let micros: Vec<u128> =
        report.candidates.iter().map(|(_, result)| result.as_ref().unwrap().median.as_micros()).collect();
    assert_eq!((micros, report.rounds), (vec![117, 85, 80, 79], ROUNDS));
    assert_eq!(
        report.to_string(),
        "direct (append 117-117, filled 85-85, direct 80-80, ring 79-79 \u{b5}s; 3 % less takes over)"
    );
}

#[test]
fn operations_and_time_are_bounded() {
    let (fast, clock) = disk([10, 10, 10]);
    assert_eq!(run(&fast, &clock).rounds, ROUNDS);
    // 16 rounds of four files, each a write and a sync; create, fill, sync and remove, also what was left.
    let operations: u64 = fast.counts().values().sum();
    assert_eq!(operations, (ROUNDS as u64 + 1) * 4 * 2 + 4 + 3 + 3 + 8);
    let (slow, clock) = disk([10_000, 10_000, 10_000]);
    let report = run(&slow, &clock);
    assert_eq!((report.rounds, clock()), (ROUNDS_MIN, Duration::from_millis(160)));
    assert_eq!(report.choice, Way::Append);
}

#[test]
fn what_an_unfinished_probe_left_is_removed() {
    let disk = SimStorage::new();
    for crash in 0..150 {
        disk.crash_after(crash);
        run(&disk, &|| Duration::ZERO);
        let after = disk.process_crash();
        assert!(after.file_names().iter().all(|name| FILES.contains(&name.as_str())));
        let report = run(&after, &|| Duration::ZERO);
        assert_eq!(after.file_names(), Vec::<String>::new(), "after {crash} operations");
        assert!(report.candidates.iter().all(|(_, result)| result.is_ok()));
    }
}

#[test]
fn a_way_that_fails_is_out() {
    let (first, clock) = disk([117, 85, 80, 90]);
    first.fail(Fault::parse("fail sync #4 of PROBE.direct with EIO").unwrap());
    let report = run(&first, &clock);
    assert_eq!(report.choice, Way::Filled);
    assert!(report.candidates[2].1.is_err() && first.file_names().is_empty());
    assert!(report.to_string().contains("direct not here: "), "{report}");
    let (full, clock) = disk([117, 85, 80]);
    full.set_capacity(Some(50_000));
    assert_eq!(run(&full, &clock).choice, Way::Append);
    let (broken, clock) = disk([117, 85, 80]);
    broken.fail(Fault::parse("fail any with EIO").unwrap());
    let report = run(&broken, &clock);
    assert_eq!(report.choice, Way::Append);
    assert!(report.candidates.iter().all(|(_, result)| result.is_err()));
}

#[test]
fn every_backend_can_be_probed() {
    let looks = Cell::new(0);
    let clock = || {
        looks.set(looks.get() + 1);
        Duration::from_micros(looks.get())
    };
    let outer = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let memory = MemStorage::new();
    for storage in [&FsStorage::open(outer.path()).unwrap() as &dyn Storage, &memory] {
        storage.create(FILES[1]).unwrap().write_at(0, b"left").unwrap();
        let report = run(storage, &clock);
        assert!(report.rounds == ROUNDS && report.candidates[0].1.is_ok(), "{report}");
        assert_eq!(storage.list().unwrap(), []);
    }
}
