//! A log that goes on after a failure (S14, RS1).

use std::sync::Arc;
use std::thread;

use wal_io::probe::Way;
use wal_io::sim::Fault;
use wal_manager::{Durability, Error, ErrorKind, FamilyId, MemStorage, SimStorage, Wal};
use wal_tests::faulty::{EIO, ENOSPC, FaultyStorage, Kind, Which};
use wal_tests::life::{
    Acked, SMALL, assert_holds, cause, errno, note, open, options, payload, record, reopen, within,
};

/// What a log was given, and what it said.
#[derive(Default)]
struct Told {
    /// Everything that was accepted.
    accepted: Acked,
    /// Acknowledged at `Written` or more.
    written: Acked,
    number: u64,
}

impl Told {
    fn append(&mut self, wal: &Wal, level: Durability) -> Result<(), Error> {
        let bytes = payload(self.number, 100 + 4_000 * (self.number % 3) as usize);
        self.number += 1;
        let ticket = wal.submit(record(&bytes))?;
        note(&mut self.accepted, ticket.appended(), &bytes);
        match level {
            Durability::Buffered => return Ok(()),
            Durability::Synced => drop(ticket.wait()?),
            Durability::Written => {
                // A ticket cannot be waited for at this level; the next record's write takes this one along.
                let bytes = payload(self.number, 30);
                self.number += 1;
                let appended = wal.append_with(record(&bytes), level);
                if let Ok(appended) = appended {
                    note(&mut self.accepted, appended, &bytes);
                    self.written.extend(self.accepted.clone());
                }
                appended?;
            }
        }
        self.written.extend(self.accepted.clone());
        Ok(())
    }

    /// A few records of every level, and then one that fails.
    fn fill(&mut self, wal: &Wal) {
        use Durability::{Buffered, Synced, Written};
        for level in [Synced, Buffered, Written, Buffered, Synced, Written, Buffered, Written, Buffered] {
            self.append(wal, level).unwrap();
        }
    }
}

#[test]
fn s14_after_a_failed_write_or_sync_a_resume_writes_every_record_again_once() {
    for (kind, tear) in [(Kind::SyncData, None), (Kind::Write, None), (Kind::Write, Some(5_000))] {
        within("a resume", move || {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let wal = open(&storage);
            let mut told = Told::default();
            for round in 0..4 {
                told.fill(&wal);
                let before = wal.durable();
                let which = Which::On(kind, ".wal");
                match tear {
                    Some(bytes) => storage.tear(which, 1, bytes, EIO),
                    None => storage.fail(which, 1, EIO),
                }
                // A record is accepted, and its waiter is given the cause.
                let waiting = wal.submit(record(b"in vain")).unwrap();
                note(&mut told.accepted, waiting.appended(), b"in vain");
                assert_eq!(errno(&waiting.wait().unwrap_err()), Some(EIO));
                assert_eq!(wal.append(record(b"refused")).unwrap_err().kind(), ErrorKind::Poisoned);
                assert_eq!(wal.durable(), before);
                let resumed = wal.resume().unwrap();
                assert_eq!(resumed.index.get(), *told.accepted.last_key_value().unwrap().0, "round {round}");
                assert_eq!(resumed, wal.durable());
                waiting.wait().unwrap();
                let (_, records, _) = reopen(options(&disk.fork().crash_all_lost()));
                assert_eq!(records.len(), told.accepted.len(), "none is lost and none is there twice");
                assert_holds(&records, &told.accepted);
            }
            told.fill(&wal);
            wal.rotate().unwrap();
            told.fill(&wal);
            let logs = wal.logs().len();
            let last = wal.last_seq().unwrap();
            wal.rotate().unwrap();
            wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
            assert!(
                logs > 4 && wal.logs().len() <= 2,
                "old logs go, the ones that failed too: all but the one that holds the frontier"
            );
            wal.close().unwrap();
            let (_, records, report) = reopen(options(&disk));
            assert_eq!((records.len(), report.findings.len()), (0, 0));
        });
    }
}

#[test]
fn s14_a_log_that_has_not_failed_has_nothing_to_resume() {
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = open(&storage);
    wal.append(record(b"one")).unwrap();
    storage.forget();
    assert_eq!(wal.resume().unwrap(), wal.durable());
    assert!(storage.ops().is_empty());
    wal.close().unwrap();
    assert!(matches!(wal.resume(), Err(Error::Closed)));
}

/// A disk on which a log has failed; in the new one of a rotation, before anything of that was durable, or in one that holds records.
fn failed(storage: &FaultyStorage, fresh: bool, told: &mut Told) -> Wal {
    let wal = open(storage);
    told.fill(&wal);
    if fresh {
        wal.rotate().unwrap();
        told.written.extend(told.accepted.clone());
    }
    storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
    assert_eq!(errno(&told.append(&wal, Durability::Synced).unwrap_err()), Some(EIO));
    wal
}

#[test]
fn s14_a_resume_that_fails_anywhere_may_be_called_again() {
    for fresh in [false, true] {
        for torn in [false, true] {
            within("failing resumes", move || {
                for nth in 1.. {
                    let disk = SimStorage::new();
                    let storage = FaultyStorage::new(disk.clone());
                    let mut told = Told::default();
                    let wal = failed(&storage, fresh, &mut told);
                    // The n-th operation that changes something fails, in each of three attempts.
                    let mut failures = 0;
                    for _ in 0..3 {
                        if torn {
                            storage.tear(Which::Mutating, nth, 60, ENOSPC);
                        } else {
                            storage.fail(Which::Mutating, nth, ENOSPC);
                        }
                        match wal.resume() {
                            Ok(_) => {}
                            Err(error) => {
                                assert_eq!(errno(&error), Some(ENOSPC), "{error:?}");
                                assert!(wal.append(record(b"refused")).is_err());
                                failures += 1;
                            }
                        }
                        storage.heal();
                        // A crash at this moment takes nothing that was acknowledged at its level.
                        let (_, records, report) = reopen(options(&disk.fork().process_crash()));
                        assert_holds(&records, &told.written);
                        assert!(report.findings.is_empty(), "L: {report:?}");
                    }
                    wal.resume().unwrap();
                    told.append(&wal, Durability::Synced).unwrap();
                    wal.rotate().unwrap();
                    told.append(&wal, Durability::Synced).unwrap();
                    let (_, records, report) = reopen(options(&disk.fork().crash_all_lost()));
                    assert_holds(&records, &told.accepted);
                    assert_eq!(records.len(), told.accepted.len());
                    assert!(report.findings.is_empty(), "L: {report:?}");
                    if failures == 0 {
                        assert!(nth > 5, "some were made to fail");
                        break;
                    }
                }
            });
        }
    }
}

#[test]
fn s14_f24_a_crash_at_any_operation_of_a_resume_takes_nothing() {
    for fresh in [false, true] {
        within("crashes inside a resume", move || {
            for operations in 0.. {
                let disk = SimStorage::new();
                let storage = FaultyStorage::new(disk.clone());
                let mut told = Told::default();
                let wal = failed(&storage, fresh, &mut told);
                let durable = wal.durable().index.get();
                disk.crash_after(operations);
                let resumed = wal.resume();
                let done = resumed.is_ok();
                let (_, records, report) = reopen(options(&disk.process_crash()));
                assert_holds(&records, &told.written);
                assert!(report.findings.is_empty(), "L: {report:?}");
                for disk in (0..10).map(|seed| disk.crash(seed)).chain([disk.crash_all_lost()]) {
                    let (_, records, report) = reopen(options(&disk));
                    let must = if done { u64::MAX } else { durable };
                    let must: Acked = told
                        .accepted
                        .iter()
                        .filter(|(index, _)| **index <= must)
                        .map(|(i, r)| (*i, r.clone()))
                        .collect();
                    assert_holds(&records, &must);
                    assert!(report.findings.is_empty(), "L: {report:?}");
                }
                if done {
                    break;
                }
            }
        });
    }
}

#[test]
fn s14_writers_under_load_go_on_after_a_resume() {
    within("writers", || {
        for step in 1..12 {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let wal = Arc::new(open(&storage));
            let kind = if step % 2 == 0 { Kind::Write } else { Kind::SyncData };
            storage.fail(Which::On(kind, ".wal"), step, EIO);
            let threads: Vec<_> = (0..8)
                .map(|writer| {
                    let wal = Arc::clone(&wal);
                    thread::spawn(move || {
                        let (mut acked, mut in_doubt) = (Acked::new(), 0_u64);
                        for number in 0..40 {
                            let bytes = payload(writer * 1000 + number, 90);
                            // What failed may be there all the same: it is not appended again under the same number.
                            match wal.append(record(&bytes)) {
                                Ok(appended) => note(&mut acked, appended, &bytes),
                                Err(error) => {
                                    assert_eq!(errno(&error), Some(EIO));
                                    in_doubt += 1;
                                    wal.resume().unwrap();
                                }
                            }
                        }
                        (acked, in_doubt)
                    })
                })
                .collect();
            let (mut acked, mut doubts) = (Acked::new(), 0);
            for thread in threads {
                let (some, in_doubt) = thread.join().unwrap();
                acked.extend(some);
                doubts += in_doubt;
            }
            assert!(acked.len() as u64 + doubts == 8 * 40, "no index was given twice");
            drop(wal);
            let records = reopen(options(&disk.crash(step))).1;
            assert_holds(&records, &acked);
            assert!((records.len() as u64) <= 8 * 40, "none is there twice");
        }
    });
}

#[test]
fn z3_a_log_that_a_panic_left_in_doubt_is_not_resumed_and_one_whose_storage_panicked_is() {
    within("panics", || {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let wal = Arc::new(open(&storage));
        let mut told = Told::default();
        told.fill(&wal);
        storage.panic_at(Which::On(Kind::Write, ".wal"), 1);
        let writer = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || drop(wal.append(record(b"panics"))))
        };
        assert!(writer.join().is_err());
        let error = wal.append(record(b"refused")).unwrap_err();
        assert!(matches!(cause(&error), Error::Panicked), "{error:?}");
        let appended = next_of(&wal, &told);
        note(&mut told.accepted, appended, b"panics");
        wal.resume().unwrap();
        let records = reopen(options(&disk.fork().crash_all_lost())).1;
        assert_holds(&records, &told.accepted);
    });
}

/// The record after the last that is known.
fn next_of(wal: &Wal, told: &Told) -> wal_manager::Appended {
    let (last, (seq, _)) = told.accepted.last_key_value().unwrap();
    let index = wal_manager::Index::new(last + 1);
    let seqs = wal_manager::SeqRange::new(wal_manager::SeqNum::new(seq.get() + 1), 1).unwrap();
    wal_manager::Appended { index, seqs, position: wal.durable(), duplicate: false }
}

/// A deletion that hangs at its disk: a resume makes the log go on all the same.
#[test]
fn s14_g5_appends_go_on_after_a_resume_while_a_deletion_is_at_its_disk() {
    within("appends beside a deletion", || {
        let storage = FaultyStorage::new(SimStorage::new());
        let wal = open(&storage);
        let flushed = wal.append(record(b"one")).unwrap().seqs.last();
        wal.rotate().unwrap();
        wal.append(record(b"two")).unwrap();
        let gate = storage.gate(Which::On(Kind::Unlink, ".wal"), 1);
        thread::scope(|scope| {
            let deletion = scope.spawn(|| wal.mark_flushed(FamilyId::DEFAULT, flushed));
            gate.reached();
            storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
            assert_eq!(errno(&wal.append(record(b"fails")).unwrap_err()), Some(EIO));
            let resumed = scope.spawn(|| wal.resume());
            while wal.append(record(b"on")).is_err() {
                thread::yield_now();
            }
            gate.open();
            assert_eq!(deletion.join().unwrap().unwrap().deleted.len(), 1);
            resumed.join().unwrap().unwrap();
        });
        wal.close().unwrap();
    });
}

/// The log that was made ahead of the one that failed is given back, and the next one is made ahead as ever.
#[test]
fn s14_r7_what_was_made_ahead_is_given_back_by_a_resume() {
    let disk = SimStorage::new();
    let wal = reopen(options(&disk).log_bytes(SMALL).way(Way::Filled).recycle(0)).0;
    let files = || {
        let names = disk.file_names().into_iter().filter_map(|name| name.strip_suffix(".wal")?.parse().ok());
        names.collect::<Vec<u64>>()
    };
    let live = || wal.logs().iter().map(|info| info.log.get()).collect::<Vec<_>>();
    wal.append(record(b"one")).unwrap();
    wal.append_with(record(b"two"), Durability::Buffered).unwrap();
    wal.housekeep().unwrap();
    assert_eq!((files(), live()), (vec![1, 2], vec![1]));
    disk.fail(Fault::parse("fail sync #1 of *.wal with EIO").unwrap());
    wal.sync().unwrap_err();
    wal.resume().unwrap();
    assert_eq!((files(), live()), (vec![1, 3], vec![1, 3]));
    wal.append(record(b"three")).unwrap();
    assert_eq!(live(), [1, 3], "there is nothing better to go to");
    wal.housekeep().unwrap();
    wal.append(record(b"four")).unwrap();
    assert_eq!((files(), live()), (vec![1, 3, 4], vec![1, 3, 4]), "now there is");
}
