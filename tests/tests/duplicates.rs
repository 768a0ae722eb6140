//! Repeated appends (A11): each key is written once within the window, also across failures, crashes and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use wal_io::probe::Way;
use wal_manager::{
    Appended, Bell, Clock, Durability, Error, ErrorKind, FamilyId, MemStorage, Options, Record,
    RecoveredRecord, SeqNum, SimStorage, WINDOW_COUNT_MAX, WINDOW_RECORD_BYTES, Wal, Window, WriteBatch,
};
use wal_tests::allocations::{self, Tracking};
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{SMALL, errno, options, payload, record, reopen, within};
use wal_tests::rng::Rng;

use Durability::{Buffered, Synced, Written};

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

/// What makes a record be the same one: index and first sequence number.
type Numbers = (u64, SeqNum);

fn numbers(appended: Appended) -> Numbers {
    (appended.index.get(), appended.seqs.first())
}

fn keyed(key: u128, bytes: &[u8]) -> Record<'_> {
    record(bytes).key(key)
}

/// The keys of a log, each of which is there once, with the numbers of its record.
fn keys(records: &[RecoveredRecord]) -> BTreeMap<u128, Numbers> {
    let mut keys = BTreeMap::new();
    for record in records {
        if let Some(key) = record.key {
            let twice = keys.insert(key, (record.index.get(), record.seqs.first()));
            assert_eq!(twice, None, "key {key} is there twice");
        }
    }
    keys
}

/// A wall clock that is moved by hand.
#[derive(Debug, Default)]
struct Wall(AtomicU64);

impl Wall {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for Wall {
    fn wall(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep_until(&self, _: Option<Duration>, bell: &Bell) {
        bell.wait(None);
    }
}

#[test]
fn a11_a_repeated_append_is_not_written_again_and_gets_the_originals_numbers() {
    let disk = MemStorage::new();
    let (wal, ..) = reopen(options(&disk).duplicates(Window::new(100)));
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::new(3), b"key", b"value").unwrap();
    batch.delete(FamilyId::new(3), b"other").unwrap();
    let original = wal.append(Record::from(&batch).key(1)).unwrap();
    assert!(!original.duplicate);
    let other = wal.append(keyed(u128::MAX, b"other")).unwrap();
    let plain = [wal.append(record(b"plain")).unwrap(), wal.append(record(b"plain")).unwrap()];
    assert_ne!(plain[0].index, plain[1].index, "without a key nothing is a duplicate");
    wal.rotate().unwrap();
    for _ in 0..3 {
        // Whatever stands in it: the key decides. A sequence number of one's own would go back by now.
        let again = wal.append(keyed(1, b"another payload").seqs(SeqNum::new(1), 2)).unwrap();
        assert_eq!(again, Appended { duplicate: true, ..original });
        let ticket = wal.submit(keyed(u128::MAX, b"other")).unwrap();
        assert!(ticket.is_durable());
        assert_eq!(ticket.wait().unwrap(), Appended { duplicate: true, ..other });
    }
    assert_eq!(wal.last_seq(), Some(plain[1].seqs.last()));
    let next = wal.append(keyed(2, b"next")).unwrap();
    assert_eq!(next.index.get(), plain[1].index.get() + 1, "nothing was given to the duplicates");
    let refused = wal.append(keyed(1, b"")).unwrap_err();
    assert!(matches!(refused, Error::EmptyRecord), "what is refused is refused also with a known key");
    wal.close().unwrap();
    let (_, records, _) = reopen(options(&disk));
    assert_eq!(records.len(), 5);
    assert_eq!(keys(&records).into_keys().collect::<Vec<_>>(), [1, 2, u128::MAX]);
}

#[test]
fn a11_without_a_window_keys_are_stored_and_nothing_is_recognised() {
    let disk = MemStorage::new();
    let (wal, ..) = reopen(options(&disk));
    let first = wal.append(keyed(5, b"a")).unwrap();
    let second = wal.append(keyed(5, b"a")).unwrap();
    assert!(first.index < second.index && !second.duplicate);
    wal.close().unwrap();
    // A later window knows the last one.
    let (wal, records, _) = reopen(options(&disk).duplicates(Window::new(9)));
    assert_eq!(records.iter().map(|record| record.key).collect::<Vec<_>>(), [Some(5), Some(5)]);
    assert_eq!(numbers(wal.append(keyed(5, b"a")).unwrap()), numbers(second));
}

/// Exactly the last `count` records, before and after a restart.
#[test]
fn a11_the_window_ends_where_its_count_says() {
    for reopened in [false, true] {
        let disk = MemStorage::new();
        let open = || reopen(options(&disk).duplicates(Window::new(10))).0;
        let mut wal = open();
        let mut originals = BTreeMap::new();
        for key in 0..25_u128 {
            originals.insert(key, wal.append(keyed(key, b"keyed")).unwrap().index.get());
            if key % 7 == 0 {
                // They count too.
                wal.append(record(b"plain")).unwrap();
            }
            if key == 20 {
                wal.rotate().unwrap();
            }
        }
        if reopened {
            wal.close().unwrap();
            drop(wal);
            wal = open();
        }
        let next = wal.durable().index.get() + 1;
        // From the oldest on: whatever is written pushes the window on, so only those that are in it are tried first.
        for key in (0..25).rev().take(8) {
            let again = wal.append(keyed(key, b"again")).unwrap();
            assert_eq!((again.duplicate, again.index.get()), (true, originals[&key]), "key {key}");
        }
        let oldest_in =
            originals.iter().find(|(_, index)| next - **index <= 10).map(|(key, _)| *key).unwrap();
        assert!(wal.append(keyed(oldest_in, b"again")).unwrap().duplicate);
        let oldest_out = wal.append(keyed(oldest_in - 1, b"again")).unwrap();
        assert_eq!((oldest_out.duplicate, oldest_out.index.get()), (false, next));
        assert!(wal.append(keyed(oldest_in - 1, b"again")).unwrap().duplicate, "the later one is known");
    }
}

#[test]
fn a11_the_window_ends_where_its_age_says() {
    let second = Duration::from_secs(1);
    for reopened in [false, true] {
        let (disk, clock) = (MemStorage::new(), Arc::new(Wall::default()));
        clock.advance(1000 * second);
        let window = Window::new(1000).age(10 * second);
        let open = || reopen(options(&disk).clock(Arc::clone(&clock) as _).duplicates(window)).0;
        let mut wal = open();
        wal.append(keyed(1, b"old")).unwrap();
        clock.advance(4 * second);
        wal.append(keyed(2, b"young")).unwrap();
        clock.advance(6 * second);
        if reopened {
            drop(wal);
            wal = open();
        }
        assert!(wal.append(keyed(1, b"old")).unwrap().duplicate, "exactly as old as the window");
        clock.advance(Duration::from_micros(1));
        let again = wal.append(keyed(1, b"old")).unwrap();
        assert_eq!((again.duplicate, again.index.get()), (false, 3));
        assert!(wal.append(keyed(2, b"young")).unwrap().duplicate);
        assert!(wal.append(keyed(1, b"old")).unwrap().duplicate, "the later one");
    }
}

#[test]
fn a11_the_same_content_is_one_record_where_contents_are_hashed() {
    let disk = MemStorage::new();
    let open = || reopen(options(&disk).duplicates(Window::new(50).content_hashes())).0;
    let wal = open();
    let first = wal.append(record(b"content")).unwrap();
    assert_eq!(numbers(wal.append(record(b"content")).unwrap()), numbers(first));
    let families = [FamilyId::new(1)];
    let different = [record(b"content").families(&families), record(b"content").count(2), record(b"Content")];
    for record in different {
        assert!(!wal.append(record).unwrap().duplicate);
        assert!(wal.append(record).unwrap().duplicate);
    }
    assert!(!wal.append(keyed(9, b"content")).unwrap().duplicate, "a key of its own comes first");
    drop(wal);
    let wal = open();
    assert_eq!(numbers(wal.append(record(b"content")).unwrap()), numbers(first));
}

/// Acknowledged at a level, a duplicate survives what that level survives.
#[test]
fn a11_a_duplicate_waits_until_its_original_is_as_durable_as_asked() {
    let disk = SimStorage::new();
    let open = |disk: &SimStorage| reopen(options(disk).duplicates(Window::new(50)));
    let (wal, ..) = open(&disk);
    let original = wal.append_with(keyed(1, b"one"), Buffered).unwrap();
    assert!(wal.append_with(keyed(1, b"one"), Buffered).unwrap().duplicate);
    assert!(wal.durable().index < original.index, "nobody has asked for more");
    wal.append_with(keyed(1, b"one"), Written).unwrap();
    let (_, records, _) = open(&disk.fork().process_crash());
    assert_eq!(keys(&records)[&1], numbers(original));
    assert_eq!(wal.append_with(keyed(1, b"one"), Synced).unwrap(), Appended { duplicate: true, ..original });
    assert!(wal.durable() >= original.position);
    let (_, records, _) = open(&disk.fork().crash_all_lost());
    assert_eq!(keys(&records)[&1], numbers(original));
    // And a ticket too.
    let original = wal.append_with(keyed(2, b"two"), Buffered).unwrap();
    wal.submit(keyed(2, b"two")).unwrap().wait().unwrap();
    let (_, records, _) = open(&disk.fork().crash_all_lost());
    assert_eq!(keys(&records)[&2], numbers(original));
}

/// A key whose record was lost is free; one whose record is there is not.
#[test]
fn a11_after_a_power_cut_a_key_is_known_if_its_record_is_there() {
    let disk = SimStorage::new();
    let (wal, ..) = reopen(options(&disk).duplicates(Window::new(50)));
    let there = wal.append(keyed(1, b"there")).unwrap();
    wal.append_with(keyed(2, b"lost"), Written).unwrap();
    let (wal, records, _) = reopen(options(&disk.crash_all_lost()).duplicates(Window::new(50)));
    assert_eq!(records.len(), 1);
    assert_eq!(numbers(wal.append(keyed(1, b"there")).unwrap()), numbers(there));
    let written = wal.append(keyed(2, b"lost")).unwrap();
    assert_eq!((written.duplicate, written.index.get()), (false, 2));
}

/// RS1. A failure says nothing about a record: whoever repeats it after a resume gets the one that the resume has written again.
#[test]
fn a11_s14_a_failure_frees_no_key_whose_record_a_resume_writes_again() {
    for kind in [Kind::Write, Kind::SyncData] {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let (wal, ..) = reopen(options(&storage).duplicates(Window::new(50)));
        wal.append(keyed(1, b"one")).unwrap();
        storage.fail(Which::On(kind, ".wal"), 1, EIO);
        let buffered = wal.append_with(keyed(2, b"two"), Buffered).unwrap();
        assert_eq!(errno(&wal.append(keyed(3, b"three")).unwrap_err()), Some(EIO));
        // The duplicate of a record that failed fails, too.
        let again = wal.append(keyed(3, b"three")).unwrap_err();
        assert_eq!((again.kind(), errno(&again)), (ErrorKind::Poisoned, Some(EIO)));
        wal.resume().unwrap();
        let three = wal.append(keyed(3, b"three")).unwrap();
        assert_eq!((three.duplicate, three.index.get()), (true, 3));
        assert_eq!(numbers(wal.append(keyed(2, b"two")).unwrap()), numbers(buffered));
        assert!(wal.durable() >= three.position, "where it stood before the resume is behind the frontier");
        // Opened again, the window is the same.
        let (wal, records, _) = reopen(options(&disk.crash_all_lost()).duplicates(Window::new(50)));
        assert_eq!(keys(&records).len(), 3);
        assert_eq!(numbers(wal.append(keyed(3, b"three")).unwrap()), numbers(three));
    }
}

/// A key whose append was refused, or whose rotation failed, is free: nothing was ordered.
#[test]
fn a11_what_is_refused_takes_no_key() {
    let storage = FaultyStorage::new(MemStorage::new());
    let (wal, ..) = reopen(options(&storage).log_bytes(SMALL).duplicates(Window::new(50)));
    let large = payload(1, 40_000);
    wal.append(keyed(1, &large)).unwrap();
    assert!(wal.append(keyed(2, b"back").seqs(SeqNum::new(1), 1)).is_err());
    storage.fail(Which::Mutating, 1, EIO);
    assert!(wal.append(keyed(2, &large)).is_err(), "the rotation fails");
    let appended = wal.append(keyed(2, &large)).unwrap();
    assert_eq!((appended.duplicate, appended.index.get()), (false, 2));
}

#[test]
fn a11_writers_that_append_the_same_keys_at_once_leave_each_once() {
    within("writers", || {
        for round in 0..8_u64 {
            let disk = SimStorage::new();
            let storage = FaultyStorage::new(disk.clone());
            let (wal, ..) = reopen(options(&storage).log_bytes(SMALL).duplicates(Window::new(2000)));
            let wal = Arc::new(wal);
            if round % 2 == 1 {
                storage.fail(Which::On(Kind::SyncData, ".wal"), 3 * round, EIO);
            }
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    let wal = Arc::clone(&wal);
                    thread::spawn(move || {
                        let mut told = Vec::new();
                        for key in 0..150_u128 {
                            let bytes = payload(key as u64, 300);
                            let appended = loop {
                                match wal.append(keyed(key, &bytes)) {
                                    Ok(appended) => break appended,
                                    Err(_) => drop(wal.resume()),
                                }
                            };
                            assert!(wal.durable() >= appended.position);
                            told.push(appended);
                        }
                        told
                    })
                })
                .collect();
            let told: Vec<Vec<Appended>> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            let (_, records, _) = reopen(options(&disk.crash_all_lost()));
            let keys = keys(&records);
            assert_eq!((keys.len(), records.len()), (150, 150));
            for key in 0..150 {
                let of_key: Vec<Appended> = told.iter().map(|told| told[key]).collect();
                assert!(of_key.iter().all(|appended| numbers(*appended) == keys[&(key as u128)]));
                let firsts = of_key.iter().filter(|appended| !appended.duplicate).count();
                // The one who wrote it may have been told of the failure instead.
                assert!(firsts == 1 || (firsts == 0 && round % 2 == 1), "{of_key:?}");
            }
        }
    });
}

/// The window moves on with appends only, which a cap refuses: so it gives way, and does not keep the log full for ever.
#[test]
fn a11_g9_a_window_does_not_keep_a_log_full() {
    for by_bytes in [true, false] {
        let disk = MemStorage::new();
        let options = options(&disk).log_bytes(SMALL).duplicates(Window::new(1000));
        let options = if by_bytes { options.cap_bytes(4 * SMALL) } else { options.cap_logs(2) };
        let wal = reopen(options).0;
        let mut key = 0;
        for _ in 0..3 {
            let full = loop {
                key += 1;
                match wal.append(keyed(key, &[7; 1000])) {
                    Ok(appended) => assert!(!appended.duplicate),
                    Err(error) => break error,
                }
                assert!(key < 10_000, "it never gets full");
            };
            assert_eq!(full.kind(), ErrorKind::Full, "{full}");
            wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap();
            assert!(
                !wal.append(keyed(key, b"what was refused")).unwrap().duplicate,
                "deletion is the way out"
            );
        }
        assert!(wal.append(keyed(key, b"again")).unwrap().duplicate);
    }
}

/// Records that a crash takes push none out of the window: what was durable before them is known after it.
#[test]
fn a11_records_that_are_not_durable_let_no_log_of_the_window_go() {
    let disk = SimStorage::new();
    let open = |disk: &SimStorage| reopen(options(disk).duplicates(Window::new(4))).0;
    let wal = open(&disk);
    let mut last = SeqNum::new(0);
    for key in 1..=4_u128 {
        last = wal.append(keyed(key, b"in the first log")).unwrap().seqs.last();
    }
    wal.rotate().unwrap();
    wal.append(keyed(5, b"durable")).unwrap();
    for key in 6..=8_u128 {
        wal.append_with(keyed(key, b"lost"), Buffered).unwrap();
    }
    wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
    let disk = disk.crash_all_lost();
    drop(wal);
    let wal = open(&disk);
    for key in 2..=5_u128 {
        assert!(wal.append(keyed(key, b"again")).unwrap().duplicate, "key {key}");
    }
    assert!(!wal.append(keyed(6, b"it is gone")).unwrap().duplicate);
}

/// Without the records of the window it could not be filled again: they keep their logs, and let them go when the window has moved on.
#[test]
fn a11_logs_of_the_window_outlive_their_flush() {
    let disk = MemStorage::new();
    let open = || reopen(options(&disk).duplicates(Window::new(20))).0;
    let wal = open();
    let mut last = SeqNum::new(0);
    for key in 0..30_u128 {
        last = wal.append(keyed(key, b"keyed")).unwrap().seqs.last();
        if key % 5 == 4 {
            wal.rotate().unwrap();
        }
    }
    wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
    // Six logs of five; the last twenty records stand in four of them.
    let oldest = wal.logs()[0].seqs.unwrap().first();
    assert_eq!(oldest, SeqNum::new(11), "{:?}", wal.logs());
    drop(wal);
    let wal = open();
    for key in (10..30).rev() {
        assert!(wal.append(keyed(key, b"again")).unwrap().duplicate, "key {key}");
    }
    // As long as it is in the window; then it goes with the next mark or rotation.
    for _ in 0..20 {
        last = wal.append(record(b"plain")).unwrap().seqs.last();
    }
    wal.rotate().unwrap();
    wal.append(record(b"plain")).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
    assert_eq!(wal.logs().len(), 1, "{:?}", wal.logs());
    // Without a window nothing is kept.
    let disk = MemStorage::new();
    let (wal, ..) = reopen(options(&disk));
    last = wal.append(keyed(1, b"keyed")).unwrap().seqs.last();
    wal.rotate().unwrap();
    wal.append(keyed(2, b"keyed")).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
    assert_eq!(wal.logs().len(), 1);
}

/// What a client does who wants each of `keys` once: appends, and after any trouble appends all of them again.
fn client(wal: &Wal, keys: impl Iterator<Item = u128>) -> Result<BTreeMap<u128, Numbers>, Error> {
    let mut told = BTreeMap::new();
    for key in keys {
        let bytes = payload(key as u64, 200 + 9_000 * (key as usize % 3));
        let level = [Synced, Buffered, Written][key as usize % 3];
        let appended = wal.append_with(keyed(key, &bytes), level)?;
        told.insert(key, numbers(appended));
        if key % 5 == 3 {
            // It comes again at once.
            assert_eq!(numbers(wal.append_with(keyed(key, &bytes), Buffered)?), told[&key]);
        }
        if key == 8 {
            wal.rotate()?;
            wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2))?;
        }
    }
    wal.sync()?;
    Ok(told)
}

#[test]
fn a11_a_crash_at_every_step_leaves_each_key_once() {
    within("crashes", || {
        let options = |disk: &SimStorage| options(disk).log_bytes(SMALL).duplicates(Window::new(100));
        for operations in 0.. {
            let disk = SimStorage::new();
            disk.crash_after(operations);
            let opened =
                options(&disk).recover().and_then(|recovery| Ok(recovery.finish_without_replay()?.0));
            let done = opened.and_then(|wal| client(&wal, 0..14));
            let after = (0..4).map(|seed| disk.crash(operations * 4 + seed));
            for disk in after.chain([disk.crash_all_lost(), disk.crash_all_kept(), disk.process_crash()]) {
                let (wal, before, _) = reopen(options(&disk));
                let before = keys(&before);
                // Everything once more, and a crash in the middle of that too.
                disk.crash_after(operations % 17);
                drop(client(&wal, 0..14));
                drop(wal);
                let disk = disk.crash_all_lost();
                let (wal, ..) = reopen(options(&disk));
                let told = client(&wal, 0..14).unwrap();
                wal.close().unwrap();
                // Log 1 may be gone by then, with the mark on what it held: these are still known.
                let (_, records, _) = reopen(options(&disk));
                for (key, numbers) in keys(&records) {
                    assert_eq!(told[&key], numbers, "key {key}");
                }
                assert_eq!(told.len(), 14);
                let distinct: std::collections::BTreeSet<u64> =
                    told.values().map(|numbers| numbers.0).collect();
                assert_eq!(
                    distinct.into_iter().collect::<Vec<_>>(),
                    (1..=14).collect::<Vec<_>>(),
                    "each once"
                );
                for (key, numbers) in before {
                    assert_eq!(told[&key], numbers, "key {key} was there already");
                }
            }
            if done.is_ok() {
                assert!(operations > 40);
                break;
            }
        }
    });
}

/// A life on a simulated disk: keys are appended and repeated, logs rotate and go, and the process or the power ends again and again. A model says
/// of each append whether it is a duplicate, and with which numbers.
fn live(seed: u64) {
    const COUNT: u64 = 40;
    let mut rng = Rng::new(seed);
    let mut disk = SimStorage::new();
    // By key, its records, oldest first: one that has left the window may be written again.
    let mut known: BTreeMap<u128, Vec<Numbers>> = BTreeMap::new();
    let mut last_key = 0_u128;
    let mut duplicates = 0;
    for _ in 0..12 {
        let options = options(&disk).log_bytes(SMALL).duplicates(Window::new(COUNT as usize));
        let (wal, records, report) = reopen(options);
        let mut next = report.next_index.get();
        // What is not there any more was never durable, and is free.
        known.values_mut().for_each(|all| all.retain(|numbers| numbers.0 < next));
        for record in &records {
            let key = record.key.unwrap();
            let numbers = (record.index.get(), record.seqs.first());
            assert!(known.get(&key).is_some_and(|all| all.contains(&numbers)), "{seed}: key {key}");
        }
        let power = rng.one_in(2);
        if power {
            disk.crash_after(rng.below(60));
        }
        let mut acked = 0;
        for _ in 0..rng.below(60) {
            if rng.one_in(12) && wal.rotate().is_err() {
                break;
            }
            if rng.one_in(10)
                && let Some(last) = wal.last_seq()
                && wal.mark_flushed(FamilyId::DEFAULT, last).is_err()
            {
                break;
            }
            let repeat = last_key > 0 && rng.one_in(2);
            let key =
                if repeat { last_key.saturating_sub(u128::from(rng.below(60))).max(1) } else { last_key + 1 };
            last_key = last_key.max(key);
            let bytes = payload(key as u64, 50 + rng.below(4_000) as usize);
            let Ok(ticket) = wal.submit(keyed(key, &bytes)) else { break };
            let appended = ticket.appended();
            let original = known.get(&key).and_then(|all| all.last()).filter(|last| next - last.0 <= COUNT);
            match original {
                Some(original) => {
                    assert_eq!(
                        (appended.duplicate, numbers(appended)),
                        (true, *original),
                        "{seed}: key {key}"
                    );
                    duplicates += 1;
                }
                None => {
                    assert_eq!(
                        (appended.duplicate, appended.index.get()),
                        (false, next),
                        "{seed}: key {key}"
                    );
                    known.entry(key).or_default().push(numbers(appended));
                    next += 1;
                }
            }
            if rng.one_in(3) {
                if ticket.wait().is_err() {
                    break;
                }
                acked = acked.max(appended.index.get());
            }
        }
        if !power && rng.one_in(2) {
            wal.close().unwrap();
            acked = next - 1;
        }
        drop(wal);
        disk = if power { disk.crash(rng.next()) } else { disk.process_crash() };
        let report = reopen(wal_tests::life::options(&disk.fork())).2;
        assert!(report.next_index.get() > acked, "{seed}: what was acknowledged is there");
    }
    assert!(duplicates > 0 || known.len() < 100, "{seed}");
}

#[test]
fn a11_random_lives_write_each_key_once() {
    within("lives", || (0..150).for_each(live));
}

#[test]
fn a11_a_real_directory_knows_its_keys_after_a_close_and_after_a_death() {
    for closed in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let open = || {
            let recovery = Wal::options(home.path()).duplicates(Window::new(1000)).recover().unwrap();
            recovery.finish_without_replay().unwrap().0
        };
        let wal = Arc::new(open());
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let wal = Arc::clone(&wal);
                thread::spawn(move || {
                    (0..50).map(|key| numbers(wal.append(keyed(key, b"real")).unwrap())).collect::<Vec<_>>()
                })
            })
            .collect();
        let told: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        assert!(told.iter().all(|each| *each == told[0]));
        wal.rotate().unwrap();
        if closed {
            wal.close().unwrap();
        }
        drop(wal);
        let wal = open();
        for key in 0..50 {
            let again = wal.append(keyed(key, b"real")).unwrap();
            assert_eq!((again.duplicate, numbers(again)), (true, told[0][key as usize]));
        }
        assert!(!wal.append(keyed(50, b"real")).unwrap().duplicate);
        wal.close().unwrap();
        let records =
            Wal::options(home.path()).inspect().unwrap().records().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(keys(&records).len(), 51);
    }
}

/// An open reads again only what the window reaches.
#[test]
fn a11_an_open_reads_the_logs_of_the_window_and_no_others() {
    let disk = SimStorage::new();
    let (wal, ..) = reopen(options(&disk).duplicates(Window::new(3)));
    for key in 0..40_u128 {
        wal.append(keyed(key, &payload(1, 3_000))).unwrap();
        if key % 4 == 3 {
            wal.rotate().unwrap();
        }
    }
    wal.append(keyed(99, b"last")).unwrap();
    wal.close().unwrap();
    drop(wal);
    let reads = |options: Options| {
        let recovery = options.recover().unwrap();
        recovery.records().for_each(drop);
        let before = disk.counts()["read"];
        drop(recovery.finish().unwrap());
        disk.counts()["read"] - before
    };
    let without = reads(options(&disk));
    let with = reads(options(&disk).duplicates(Window::new(3)));
    assert!(with > without && with <= without + 12, "{without} reads without a window, {with} with one");
}

#[test]
fn a11_windows_without_a_size_or_too_large_are_refused() {
    for count in [0, WINDOW_COUNT_MAX + 1] {
        let refused = options(&MemStorage::new()).duplicates(Window::new(count)).recover().unwrap_err();
        assert!(matches!(refused, Error::InvalidOption { option: "duplicates", .. }), "{refused}");
        assert!(refused.to_string().contains(&WINDOW_COUNT_MAX.to_string()));
    }
}

/// All memory is taken when the log is opened: no more for each record, however long the log goes on.
#[test]
fn a11_the_memory_of_the_window_is_bounded_and_taken_at_once() {
    for count in [1, 7, 1000, 10_000] {
        // A real directory: the file of one in memory would be counted, too.
        let home = tempfile::tempdir().unwrap();
        let open = |window: Option<Window>| {
            let options = Wal::options(home.path()).background(false).way(Way::Append).duplicates(window);
            options.recover().unwrap().finish_without_replay().unwrap().0
        };
        open(None).close().unwrap();
        let (_, without) = allocations::of(|| open(None));
        let (wal, with) = allocations::of(|| open(Some(Window::new(count))));
        let more = (with.live - without.live).max(0) as usize;
        assert!(more <= count * WINDOW_RECORD_BYTES + 4096, "{count}: {more} bytes");
        let mut key = 0_u128;
        let mut append = || {
            key += 1;
            // Keys that are far from each other, and every third again.
            let spread = key.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834);
            wal.append_with(keyed(spread, b"payload"), Buffered).unwrap();
            if key.is_multiple_of(3) {
                assert!(wal.append_with(keyed(spread, b"payload"), Buffered).unwrap().duplicate);
            }
            if key.is_multiple_of(500) {
                wal.sync().unwrap();
            }
        };
        (0..5_000).for_each(|_| append());
        let (_, seen) = allocations::of(|| (0..30_000).for_each(|_| append()));
        // Now and then the buffer of a group grows.
        assert!(seen.count < 10 && seen.largest <= 256 << 10, "{count}: {seen:?}");
    }
}
