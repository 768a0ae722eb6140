//! Recoveries that read several logs at once.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use wal_io::mem::MemStorage;
use wal_manager::{Durability, Error, FamilyId, LogNumber, Options, Progress, RecoveredRecord, RecoveryMode};
use wal_tests::life::{self, options, payload, record};

const THREADS: usize = 4;
const LOGS: u64 = 7;
const RECORDS: u64 = 400;

/// A storage with some logs, each longer than the one before, closed cleanly or not.
fn written(closed: bool) -> MemStorage {
    let storage = MemStorage::new();
    let wal = life::open(&storage);
    for number in 0..LOGS * RECORDS {
        if number > 0 && number.is_multiple_of(RECORDS) {
            wal.rotate().unwrap();
        }
        wal.append_with(record(&payload(number, length(number))), Durability::Buffered).unwrap();
    }
    if closed {
        wal.close().unwrap();
    } else {
        wal.sync().unwrap();
    }
    storage
}

fn length(number: u64) -> usize {
    800 + 100 * usize::try_from(number / RECORDS).unwrap()
}

fn with_threads(storage: &MemStorage) -> Options {
    options(storage).recovery_threads(NonZeroUsize::new(THREADS).unwrap())
}

fn in_order(storage: &MemStorage) -> Vec<RecoveredRecord> {
    options(storage).recover().unwrap().records().map(Result::unwrap).collect()
}

#[test]
fn v16_several_threads_hand_out_what_one_does_and_the_records_of_a_log_in_order() {
    for closed in [true, false] {
        let expected = in_order(&written(closed));
        assert_eq!(expected.len() as u64, LOGS * RECORDS);
        let storage = written(closed);
        let recovery = with_threads(&storage).recover().unwrap();
        let seen: Mutex<BTreeMap<LogNumber, Vec<RecoveredRecord>>> = Mutex::default();
        recovery
            .for_each(|found| {
                seen.lock().unwrap().entry(found.log).or_default().push(found);
                Ok::<_, Error>(())
            })
            .unwrap();
        let seen: Vec<RecoveredRecord> = seen.into_inner().unwrap().into_values().flatten().collect();
        assert!(seen == expected, "closed: {closed}");
        // The log knows which families stand where, as after any replay: the first record is flushed, so no log may go.
        let (wal, report) = recovery.finish().unwrap();
        assert_eq!(report.records, LOGS * RECORDS);
        wal.append(record(b"goes on")).unwrap();
        wal.mark_flushed(FamilyId::DEFAULT, expected[0].seqs.last()).unwrap();
        wal.close().unwrap();
        assert_eq!(in_order(&storage).len() as u64, LOGS * RECORDS);
    }
}

/// Nobody goes on before as many logs as there are threads are being read.
#[test]
fn v16_as_many_logs_are_read_at_once_as_there_are_threads() {
    let storage = written(true);
    let together = Barrier::new(THREADS);
    let readers: Mutex<BTreeSet<String>> = Mutex::default();
    let recovery = with_threads(&storage).recover().unwrap();
    recovery
        .for_each(|found| {
            let first_of_log = (found.index.get() - 1).is_multiple_of(RECORDS);
            if first_of_log && found.log.get() <= THREADS as u64 {
                readers.lock().unwrap().insert(format!("{:?}", thread::current().id()));
                together.wait();
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(readers.into_inner().unwrap().len(), THREADS);
}

#[test]
fn v16_a_replay_that_the_engine_stops_is_no_replay() {
    let storage = written(true);
    let recovery = with_threads(&storage).recover().unwrap();
    #[derive(Debug)]
    struct Stopped(u64);
    impl From<Error> for Stopped {
        fn from(error: Error) -> Self {
            panic!("nothing is damaged: {error}")
        }
    }
    // Each log stops; that of the lowest is told.
    let stopped = recovery.for_each(|found| Err(Stopped(found.log.get()))).unwrap_err();
    assert_eq!(stopped.0, 1);
    assert!(matches!(recovery.finish(), Err(Error::ReplayIncomplete)));
}

#[test]
fn v3_v16_damage_that_a_thread_meets_is_the_error_that_the_open_would_have_been() {
    let whole = written(true).files();
    for damaged in [&[2][..], &[5, 3], &[7]] {
        let mut files = whole.clone();
        for log in damaged {
            files.get_mut(&format!("{log:06}.wal")).unwrap()[200_000] ^= 0x10;
        }
        let storage = MemStorage::from_files(files);
        let files = storage.files();
        let sequential = options(&storage).recover().unwrap().records().find_map(Result::err).unwrap();
        let recovery = with_threads(&storage).recover().unwrap();
        let error = recovery.for_each(|_| Ok::<_, Error>(())).unwrap_err();
        assert_eq!(error.to_string(), sequential.to_string());
        let Error::Damaged(report) = error else { panic!("not a verdict: {error}") };
        let first = damaged.iter().min().copied();
        assert_eq!(report.findings.first().map(|finding| finding.log.get()), first);
        assert!(matches!(recovery.finish(), Err(Error::ReplayIncomplete)));
        assert!(storage.files() == files, "{damaged:?}: something was changed");
    }
}

#[test]
fn v16_v19_what_is_read_after_a_crash_by_several_threads_is_judged_as_by_one() {
    let mut files = written(false).files();
    files.get_mut("000004.wal").unwrap()[100_000] ^= 1;
    for mode in
        [RecoveryMode::Default, RecoveryMode::Strict, RecoveryMode::PointInTime, RecoveryMode::Salvage]
    {
        let [one, several] = [1, THREADS].map(|threads| {
            let storage = MemStorage::from_files(files.clone());
            let options = options(&storage).mode(mode).recovery_threads(NonZeroUsize::new(threads).unwrap());
            let recovered = options.recover().map(|recovery| {
                let records: Mutex<Vec<RecoveredRecord>> = Mutex::default();
                recovery
                    .for_each(|found| {
                        records.lock().unwrap().push(found);
                        Ok::<_, Error>(())
                    })
                    .unwrap();
                let mut records = records.into_inner().unwrap();
                records.sort_by_key(|found| found.index);
                let mut report = recovery.finish().unwrap().1;
                report.duration_micros = 0;
                (records, format!("{report:?}"))
            });
            (recovered.map_err(|error| error.to_string()), storage.files().len())
        });
        assert!(
            one == several,
            "{mode:?}: {:?} and {:?}",
            one.0.map(|one| one.1),
            several.0.map(|several| several.1)
        );
    }
}

#[test]
fn v20_progress_only_grows_and_ends_at_the_total_with_several_threads_too() {
    for closed in [true, false] {
        let [one, several] = [1, THREADS].map(|threads| {
            let storage = written(closed);
            let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
            let note = Arc::clone(&seen);
            let options = options(&storage).recovery_threads(NonZeroUsize::new(threads).unwrap());
            let recovery = options.on_progress(move |now| note.lock().unwrap().push(now)).recover().unwrap();
            if threads == 1 {
                assert!(recovery.records().all(|found| found.is_ok()));
            } else {
                recovery.for_each(|_| Ok::<_, Error>(())).unwrap();
            }
            std::mem::take(&mut *seen.lock().unwrap())
        });
        assert!(several.is_sorted_by_key(|now| now.bytes_done), "{several:?}");
        assert!(several.len() > 2, "{several:?}");
        assert_eq!(several.last().map(|last| last.bytes_done), several.last().map(|last| last.bytes_total));
        assert_eq!(several.last(), one.last());
    }
}
