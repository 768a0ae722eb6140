//! Every bit, every cut, every file: what happens to a directory at rest ends in exactly the original records or in a typed error.

use std::collections::BTreeMap;
use std::sync::Arc;

use wal_io::mem::MemStorage;
use wal_manager::{
    Clock, Durability, Error, FamilyId, Record, RecordKind, RecoveryMode, Verdict, Wal, WalId,
};

type Files = BTreeMap<String, Vec<u8>>;
type Seen = (u64, u64, Vec<u8>);

#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> std::time::Duration {
        std::time::Duration::from_secs(1)
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

fn open(files: &Files, mode: RecoveryMode) -> Result<(Vec<Seen>, Verdict), Error> {
    let storage = MemStorage::from_files(files.clone());
    let recovery = Wal::options_on(Arc::new(storage)).clock(Arc::new(Stopped)).mode(mode).recover()?;
    let records: Result<Vec<_>, _> = recovery.records().collect();
    let seen = |record: wal_manager::RecoveredRecord| {
        (record.index.get(), record.seqs.first().get(), record.payload.to_vec())
    };
    Ok((records?.into_iter().map(seen).collect(), recovery.report().verdict))
}

/// Three logs, the first ended by a crash and a recovery, the second by a rotation; two families; a record of several chunks.
fn directory(closed: bool) -> (Files, Vec<Seen>) {
    let storage = MemStorage::new();
    let mut records = Vec::new();
    let options = || {
        let storage = Arc::new(storage.clone());
        Wal::options_on(storage).wal_id(WalId::from_bytes([9; 16])).clock(Arc::new(Stopped))
    };
    let append = |wal: &Wal, records: &mut Vec<Seen>, length: usize, level| {
        let payload: Vec<u8> = (0..length).map(|at| (at * 7 + records.len()) as u8 | 1).collect();
        let families = [FamilyId::new(records.len() as u32 % 2)];
        let record = Record::new(RecordKind::new(3).unwrap(), &payload).families(&families);
        let appended = wal.append_with(record, level).unwrap();
        records.push((appended.index.get(), appended.seqs.first().get(), payload));
    };
    let (wal, _) = options().recover().unwrap().finish_without_replay().unwrap();
    for length in [1, 60, 300] {
        append(&wal, &mut records, length, Durability::Synced);
    }
    drop(wal);
    let (wal, _) = options().recover().unwrap().finish_without_replay().unwrap();
    append(&wal, &mut records, 33_500, Durability::Synced);
    append(&wal, &mut records, 20, Durability::Synced);
    wal.rotate().unwrap();
    append(&wal, &mut records, 100, Durability::Synced);
    append(&wal, &mut records, 100, Durability::Written);
    append(&wal, &mut records, 200, Durability::Synced);
    append(&wal, &mut records, 50, Durability::Synced);
    if closed {
        wal.close().unwrap();
    }
    drop(wal);
    (storage.files(), records)
}

/// Exactly the original, or an error. Says which.
fn check(files: &Files, original: &[Seen], what: &dyn Fn() -> String) -> bool {
    match open(files, RecoveryMode::Default) {
        Ok((records, _)) => {
            let (found, all) = (records.len(), original.len());
            assert!(records == original, "{}: {found} of {all} records, and no error", what());
            true
        }
        Err(_) => false,
    }
}

fn altered(files: &Files, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(name).unwrap());
    files
}

/// Which bytes of a file to flip: all of them, or for the one with the large record and for CHECKPOINT's unused space a sample.
fn places(name: &str, length: usize) -> Vec<usize> {
    let dense = |at: usize| match name {
        "CHECKPOINT" => at % 65536 < 200 || at.is_multiple_of(997),
        _ => {
            length < 4096
                || at < 600
                || at + 1200 > length
                || at.is_multiple_of(41)
                || at % 32768 > 32700
                || at % 32768 < 60
        }
    };
    (0..length).filter(|at| dense(*at)).collect()
}

#[test]
fn p1_every_bit_of_a_closed_directory_is_the_original_or_an_error() {
    let (files, original) = directory(true);
    assert_eq!(open(&files, RecoveryMode::Strict).unwrap(), (original.clone(), Verdict::Clean));
    let mut flips = 0;
    let mut harmless_in_logs = 0;
    for (name, bytes) in &files {
        for at in places(name, bytes.len()) {
            for bit in 0..8 {
                let flipped = altered(&files, name, |bytes| bytes[at] ^= 1 << bit);
                let harmless = check(&flipped, &original, &|| format!("bit {bit} of byte {at} of {name}"));
                harmless_in_logs += usize::from(name.ends_with(".wal") && harmless);
                flips += 1;
            }
        }
    }
    println!("{flips} flips, {harmless_in_logs} in logs that changed nothing");
    assert!(flips > 20_000);
}

#[test]
fn p3_p7_cuts_zeros_swaps_copies_and_removals_of_a_closed_directory() {
    let (files, original) = directory(true);
    for (name, bytes) in &files {
        for cut in places(name, bytes.len()) {
            check(&altered(&files, name, |bytes| bytes.truncate(cut)), &original, &|| {
                format!("{name} cut at {cut}")
            });
        }
        for size in [512, 4096, 32768] {
            for start in (0..bytes.len()).step_by(size) {
                let zeroed = altered(&files, name, |bytes| {
                    let end = bytes.len().min(start + size);
                    bytes[start..end].fill(0);
                });
                let harmless = check(&zeroed, &original, &|| format!("{name}: {size} zeros at {start}"));
                // The first log's tail was written again into the second: what is left of it there is nobody's.
                let live = name.ends_with(".wal") && (name != "000001.wal" || start == 0);
                assert!(!(live && harmless), "P7: {name}: {size} zeros at {start} go unnoticed");
            }
        }
    }
    let logs: Vec<&String> = files.keys().filter(|name| name.ends_with(".wal")).collect();
    assert_eq!(logs.len(), 3);
    for one in &logs {
        let mut without = files.clone();
        without.remove(*one);
        assert!(open(&without, RecoveryMode::Default).is_err(), "V6, P4: {one} is missing");
        for other in logs.iter().filter(|other| *other != one) {
            let mut swapped = files.clone();
            swapped.insert((*one).clone(), files[*other].clone());
            assert!(open(&swapped, RecoveryMode::Default).is_err(), "F5: {other} over {one}");
            swapped.insert((*other).clone(), files[*one].clone());
            assert!(open(&swapped, RecoveryMode::Default).is_err(), "F5: {one} and {other} swapped");
        }
    }
    let mut without = files.clone();
    without.retain(|name, _| !name.ends_with(".wal"));
    assert!(open(&without, RecoveryMode::Default).is_err(), "P4: every log is missing");
    let mut without = files.clone();
    without.remove("CHECKPOINT");
    assert!(matches!(open(&without, RecoveryMode::Default), Err(Error::CheckpointMissing { .. })));
}

/// Where the newest promise of a small log stands: a chunk of type 6 and 16 bytes.
fn newest_promise(log: &[u8]) -> usize {
    let is_promise = |&at: &usize| log[at + 6] == 6 && log[at + 4..at + 6] == [16, 0];
    (0..log.len() - 7).filter(is_promise).max().unwrap()
}

#[test]
fn p1_a_killed_directory_is_torn_only_where_nothing_is_promised() {
    let (files, original) = directory(false);
    let (records, verdict) = open(&files, RecoveryMode::Default).unwrap();
    assert_eq!((&records, verdict), (&original, Verdict::Clean));
    // The newest promise is the chunk of type 6 with the highest place in the newest log.
    let promise = newest_promise(&files["000003.wal"]);
    let mut torn = 0;
    for (name, bytes) in &files {
        for at in places(name, bytes.len()) {
            for bit in 0..8 {
                let flipped = altered(&files, name, |bytes| bytes[at] ^= 1 << bit);
                match open(&flipped, RecoveryMode::Default) {
                    Ok((records, _)) if records == original => {}
                    Ok((records, verdict)) => {
                        assert!(
                            name == "000003.wal" && at >= promise,
                            "bit {bit} of byte {at} of {name}: {records:?}"
                        );
                        assert_eq!(verdict, Verdict::TornTail);
                        assert!(original.starts_with(&records));
                        torn += 1;
                    }
                    Err(_) => {}
                }
            }
        }
    }
    assert!(torn > 0, "the bytes behind the newest promise are unproven");
}

#[test]
fn v1_every_cut_of_the_last_group_opens() {
    let (files, original) = directory(false);
    let length = files["000003.wal"].len();
    // The last group is the promise and the last record.
    for cut in newest_promise(&files["000003.wal"])..length {
        let (records, _) =
            open(&altered(&files, "000003.wal", |bytes| bytes.truncate(cut)), RecoveryMode::Default)
                .unwrap_or_else(|error| panic!("cut at {cut} of {length}: {error}"));
        assert!(original.starts_with(&records) && records.len() + 1 == original.len());
    }
}
