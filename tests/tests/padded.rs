//! Padded groups: no write touches a sector that holds durable bytes, so that devices that spoil a torn sector take nothing.

use std::collections::{BTreeMap, BTreeSet};

use wal_io::probe::Way;
use wal_io::sim::{Fault, SimOptions, SimStorage};
use wal_manager::{Durability, Error, LOG_BYTES_MIN, MemStorage, Options, RecoveryMode, Storage, Verdict};
use wal_tests::life::{Acked, assert_holds, note, options, payload, record, reopen};
use wal_tests::naive::{self, End, Item};

/// What groups are padded to.
const UNIT: u64 = 4096;

/// The type of a filler.
const FILLER: u8 = 0x81;

fn padded(storage: &(impl Storage + Clone + 'static)) -> Options {
    options(storage).pad_groups(true)
}

/// An engine's life: opens, groups of all lengths, levels below `Synced`, rotations, a failed sync and a resume, a close. Notes what is acknowledged as
/// durable, and ends where the power goes.
fn live(disk: &SimStorage, pads: bool, way: Way, acked: &mut Acked) -> Result<(), Error> {
    let mut number = 0;
    for life in 0..3 {
        let recovery = options(disk).pad_groups(pads).way(way).recover()?;
        for record in recovery.records() {
            record?;
        }
        let wal = recovery.finish()?.0;
        for round in 0..4 {
            for length in [1, 100, 3_000 + 500 * round, 5_000] {
                number += 1;
                let bytes = payload(number, length);
                note(acked, wal.append(record(&bytes))?, &bytes);
            }
            let below: Vec<_> = (0..3)
                .map(|more| {
                    let bytes = payload(number + more, 50);
                    Ok((wal.append_with(record(&bytes), Durability::Written)?, bytes))
                })
                .collect::<Result<_, Error>>()?;
            if round == 1 && life == 1 {
                disk.fail(Fault::parse("fail sync #1 with EIO").unwrap());
                assert!(wal.sync().is_err());
                wal.resume()?;
            } else {
                wal.sync()?;
            }
            for (appended, bytes) in below {
                note(acked, appended, &bytes);
            }
            if round % 2 == 0 {
                wal.rotate()?;
            }
        }
        if life > 0 {
            wal.close()?;
        }
    }
    Ok(())
}

/// In how many crashes of that life an open loses something, or refuses.
fn harmed(pads: bool, way: Way, seeds: u64) -> (u64, u64, Vec<String>) {
    let spoiling = SimOptions { tear: true, spoil_sectors: true, ..SimOptions::default() };
    let (mut crashes, mut harmed) = (0, Vec::new());
    for operations in 0.. {
        let disk = SimStorage::with_options(spoiling);
        disk.crash_after(operations);
        let mut acked = Acked::new();
        let whole = live(&disk, pads, way, &mut acked).is_ok();
        for seed in 0..seeds {
            let after = disk.crash(seed);
            crashes += 1;
            let recovered = options(&after).pad_groups(pads).way(way).recover().and_then(|recovery| {
                let records: Vec<_> = recovery.records().collect::<Result<_, _>>()?;
                recovery.finish().map(|_| records)
            });
            match recovered {
                Ok(records) => {
                    let found: BTreeMap<u64, _> =
                        records.iter().map(|record| (record.index.get(), &record.payload)).collect();
                    let there = |(index, (_, bytes)): (&u64, &(_, Vec<u8>))| {
                        found.get(index).is_some_and(|payload| payload[..] == bytes[..])
                    };
                    if !acked.iter().all(there) {
                        harmed.push(format!("{way}, {operations} operations, seed {seed}: lost"));
                    }
                }
                Err(error) => harmed.push(format!("{way}, {operations} operations, seed {seed}: {error}")),
            }
        }
        if whole {
            return (operations, crashes, harmed);
        }
    }
    unreachable!("it ends")
}

#[test]
fn f06_f09_on_a_disk_that_spoils_torn_sectors_padded_groups_lose_nothing_and_others_do() {
    for way in [Way::Append, Way::Direct] {
        let (operations, crashes, harm) = harmed(true, way, 12);
        println!("{way}: {crashes} crashes at {operations} operations");
        assert!(operations > 100 && harm.is_empty(), "{} of {crashes}: {harm:#?}", harm.len());
        let (_, crashes, harm) = harmed(false, way, 12);
        println!("{way}: without padding {} of {crashes} crashes take something", harm.len());
        assert!(harm.len() > 10, "the disk is harmless: {}", harm.len());
    }
}

/// How many writes of logs there were, and those that touched a unit in which something was synced.
fn overwrites(trace: &[String], unit: u64) -> (usize, Vec<&String>) {
    let mut written: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut synced = written.clone();
    let (mut writes, mut over) = (0, Vec::new());
    for line in trace {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, name, ..] = words[..] else { continue };
        match (kind, name.ends_with(".wal")) {
            ("write", true) => {
                let (at, length) = words[2].split_once('+').unwrap();
                let (at, length): (u64, u64) = (at.parse().unwrap(), length.parse().unwrap());
                let units = at / unit..=(at + length - 1) / unit;
                let done = synced.entry(name).or_default();
                if units.clone().any(|unit| done.contains(&unit)) {
                    over.push(line);
                }
                written.entry(name).or_default().extend(units);
                writes += 1;
            }
            ("syncdata" | "syncall", true) if words.len() == 2 || words[2] == "direct" => {
                synced.entry(name).or_default().extend(written.get(name).into_iter().flatten());
            }
            _ => {}
        }
    }
    (writes, over)
}

#[test]
fn f09_no_write_of_a_padded_log_touches_a_sector_that_holds_synced_bytes() {
    for way in [Way::Append, Way::Filled, Way::Direct] {
        let disk = SimStorage::new();
        live(&disk, true, way, &mut Acked::new()).unwrap();
        assert!(disk.trace().iter().any(|line| line.contains("EIO")), "it resumes");
        let trace = disk.trace();
        let (writes, over) = overwrites(&trace, UNIT);
        assert!(writes > 60 && over.is_empty(), "{way}: of {writes} writes {over:?}");
        // What is counted is seen: without padding there are such writes.
        let disk = SimStorage::new();
        live(&disk, false, way, &mut Acked::new()).unwrap();
        assert!(overwrites(&disk.trace(), UNIT).1.len() > 30);
    }
}

/// Every log in a directory, as the independent decoder reads it.
fn read_apart(storage: &MemStorage) -> Vec<naive::Decoded> {
    let names = storage.list().unwrap().into_iter().map(|entry| entry.name.into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".wal")).collect();
    names.sort();
    let read = |name: &String| {
        let number = name.trim_end_matches(".wal").parse().unwrap();
        let source = storage.open_source(name).unwrap();
        let mut file = vec![0; source.length().unwrap() as usize];
        assert_eq!(source.read_at(0, &mut file).unwrap(), file.len());
        naive::decode_log([7; 16], number, &file)
    };
    names.iter().map(read).collect()
}

#[test]
fn f09_every_padded_group_ends_at_a_sector_wherever_its_record_does() {
    let storage = MemStorage::new();
    let (wal, ..) = reopen(padded(&storage).log_bytes(16 << 20));
    let (mut acked, mut number, mut longest, mut seen) = (Acked::new(), 0, 0, BTreeSet::new());
    let mut append = |length: usize| {
        number += 1;
        let bytes = payload(number, length);
        let before = wal.durable();
        let appended = wal.append(record(&bytes)).unwrap();
        let after = wal.durable();
        assert_eq!(after.offset % UNIT, 0, "{length} bytes");
        assert!(after.log == before.log && appended.position <= after);
        let filled = after.offset - appended.position.offset;
        assert!(filled < UNIT + 8, "{filled} bytes behind {length}");
        longest = longest.max(filled);
        seen.insert((appended.position.offset % 32_768 > 28_672, appended.position.offset % UNIT));
        note(&mut acked, appended, &bytes);
        after.offset % 32_768
    };
    // From the last sector of a block, and from any.
    for length in 4_030..4_110 {
        append(length);
        while append(10) != 28_672 {}
        append(length);
    }
    for length in (28_600..28_760).chain(32_700..32_780).chain([100_000, 300_000]) {
        append(length);
    }
    // Every room from none to nine bytes, in front of a block's end and of another boundary.
    for left in 0..10 {
        assert!(
            seen.contains(&(true, (UNIT - left) % UNIT)) || left == 0,
            "{left} bytes before a block's end"
        );
        assert!(seen.contains(&(false, (UNIT - left) % UNIT)), "{left} bytes before a boundary");
    }
    assert_eq!(longest, UNIT + 7);
    wal.close().unwrap();
    drop(wal);
    for read in read_apart(&storage) {
        assert!(matches!(read.end, End::Sealed(_)), "{:?}", read.end);
        assert_eq!(naive::audit(&read), Ok(()));
        let fillers = read.items.iter().filter(|item| matches!(item, Item::Ignorable { kind: FILLER, .. }));
        assert!(fillers.count() > 300);
        let records = read.items.iter().filter(|item| matches!(item, Item::Record(..))).count();
        assert_eq!(records, acked.len());
    }
    let (_, records, report) = reopen(options(&storage).mode(RecoveryMode::Strict));
    assert_eq!((report.verdict, records.len()), (Verdict::Clean, acked.len()));
    assert_holds(&records, &acked);
}

#[test]
fn f09_the_option_may_change_with_each_open_and_either_reads_what_the_other_wrote() {
    let storage = MemStorage::new();
    let (mut acked, mut number) = (Acked::new(), 0);
    for life in 0..12 {
        let pads = life % 3 != 1;
        let (wal, records, report) = reopen(options(&storage).pad_groups(pads));
        assert!(report.findings.is_empty() && records.len() == acked.len());
        assert_holds(&records, &acked);
        // The header that the open has written is padded too.
        assert_eq!(wal.durable().offset % UNIT == 0, pads, "life {life}");
        for length in [1, 40_000, 700] {
            number += 1;
            let bytes = payload(number, length);
            note(&mut acked, wal.append(record(&bytes)).unwrap(), &bytes);
            assert_eq!(wal.durable().offset % UNIT == 0, pads, "life {life}");
        }
        let mut follower = wal.follow(wal_manager::FollowFrom::Oldest).unwrap();
        assert_eq!(std::iter::from_fn(|| follower.try_next().unwrap()).count(), acked.len());
        drop(follower);
        if life % 4 == 0 {
            wal.rotate().unwrap();
        }
        if life % 2 == 0 {
            wal.close().unwrap();
        }
    }
}

/// How many bytes of its log a hundred records of 100 bytes take that share a sync, and how many one takes that has its own.
fn cost(pads: bool) -> (u64, u64) {
    let (wal, ..) = reopen(options(&MemStorage::new()).pad_groups(pads));
    let sync = |records: u64| {
        let before = wal.sync().unwrap().offset;
        for number in 0..records {
            wal.append_with(record(&payload(number, 100)), Durability::Buffered).unwrap();
        }
        wal.sync().unwrap().offset - before
    };
    sync(1);
    (sync(100), sync(1))
}

#[test]
fn f09_padding_costs_up_to_a_sector_a_write_and_a_log_stays_within_its_length() {
    let disk = SimStorage::new();
    let (wal, ..) = reopen(padded(&disk).log_bytes(LOG_BYTES_MIN));
    let mut rotated = 0;
    for number in 0..200 {
        let before = wal.durable();
        let appended = wal.append(record(&payload(number, 100))).unwrap();
        if before.log == appended.position.log {
            assert_eq!(wal.durable().offset - before.offset, UNIT, "a short record alone");
        } else {
            rotated += 1;
            assert_eq!(wal.durable().offset, UNIT, "with the log's header");
        }
    }
    // A log of 64 KiB has room for 14 of them, with the seal behind: 16 sectors, less one for a promise alone and one for the seal.
    assert!((200 / 15..=200 / 13).contains(&rotated), "{rotated} logs");
    assert_eq!((cost(true), cost(false)), ((3 * UNIT, UNIT), (11_323, 136)));
    for length in 1..4_500 {
        wal.append(record(&payload(1, length))).unwrap();
    }
    wal.close().unwrap();
    let logs = disk.file_names().into_iter().filter(|name| name.ends_with(".wal"));
    let lengths: Vec<u64> = logs.map(|name| disk.read_file(&name).unwrap().len() as u64).collect();
    assert!(lengths.iter().all(|length| *length <= LOG_BYTES_MIN), "{lengths:?}");
    assert!(lengths.iter().filter(|length| **length > LOG_BYTES_MIN - 3 * UNIT).count() > 10);
}
