//! Every bit, every cut, every file: what happens to a directory at rest ends in exactly the original records or in a typed error.

use std::ops::AddAssign;
use std::sync::Arc;
use std::thread;

use wal_io::mem::MemStorage;
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, Record, RecordKind, RecoveryMode, Verdict, Wal, WalId,
};
use wal_tests::fuzz::{Files, Stopped};
use wal_tests::naive::{self, Item};

type Seen = (u64, u64, Vec<u8>);

fn open(files: Files, mode: RecoveryMode) -> Result<(Vec<Seen>, Verdict), Error> {
    let storage = MemStorage::from_files(files);
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
fn check(files: Files, original: &[Seen], what: &dyn Fn() -> String) -> bool {
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
    assert_eq!(open(files.clone(), RecoveryMode::Strict).unwrap(), (original.clone(), Verdict::Clean));
    let mut flips = 0;
    let mut harmless_in_logs = 0;
    for (name, bytes) in &files {
        for at in places(name, bytes.len()) {
            for bit in 0..8 {
                let flipped = altered(&files, name, |bytes| bytes[at] ^= 1 << bit);
                let harmless = check(flipped, &original, &|| format!("bit {bit} of byte {at} of {name}"));
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
            check(altered(&files, name, |bytes| bytes.truncate(cut)), &original, &|| {
                format!("{name} cut at {cut}")
            });
        }
        for size in [512, 4096, 32768] {
            for start in (0..bytes.len()).step_by(size) {
                let zeroed = altered(&files, name, |bytes| {
                    let end = bytes.len().min(start + size);
                    bytes[start..end].fill(0);
                });
                let harmless = check(zeroed, &original, &|| format!("{name}: {size} zeros at {start}"));
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
        assert!(open(without, RecoveryMode::Default).is_err(), "V6, P4: {one} is missing");
        for other in logs.iter().filter(|other| *other != one) {
            let mut swapped = files.clone();
            swapped.insert((*one).clone(), files[*other].clone());
            assert!(open(swapped.clone(), RecoveryMode::Default).is_err(), "F5: {other} over {one}");
            swapped.insert((*other).clone(), files[*one].clone());
            assert!(open(swapped, RecoveryMode::Default).is_err(), "F5: {one} and {other} swapped");
        }
    }
    let mut without = files.clone();
    without.retain(|name, _| !name.ends_with(".wal"));
    assert!(open(without, RecoveryMode::Default).is_err(), "P4: every log is missing");
    let mut without = files.clone();
    without.remove("CHECKPOINT");
    assert!(matches!(open(without, RecoveryMode::Default), Err(Error::CheckpointMissing { .. })));
}

/// Where the newest promise of a small log stands: a chunk of type 6 and 16 bytes.
fn newest_promise(log: &[u8]) -> usize {
    let is_promise = |&at: &usize| log[at + 6] == 6 && log[at + 4..at + 6] == [16, 0];
    (0..log.len() - 7).filter(is_promise).max().unwrap()
}

#[test]
fn p1_a_killed_directory_is_torn_only_where_nothing_is_promised() {
    let (files, original) = directory(false);
    let (records, verdict) = open(files.clone(), RecoveryMode::Default).unwrap();
    assert_eq!((&records, verdict), (&original, Verdict::Clean));
    // The newest promise is the chunk of type 6 with the highest place in the newest log.
    let promise = newest_promise(&files["000003.wal"]);
    let mut torn = 0;
    for (name, bytes) in &files {
        for at in places(name, bytes.len()) {
            for bit in 0..8 {
                let flipped = altered(&files, name, |bytes| bytes[at] ^= 1 << bit);
                match open(flipped, RecoveryMode::Default) {
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
            open(altered(&files, "000003.wal", |bytes| bytes.truncate(cut)), RecoveryMode::Default)
                .unwrap_or_else(|error| panic!("cut at {cut} of {length}: {error}"));
        assert!(original.starts_with(&records) && records.len() + 1 == original.len());
    }
}

/// A change to one file at rest.
#[derive(Clone, Copy, Debug)]
enum Change {
    Flip {
        at: usize,
        bit: u32,
    },
    Zero {
        at: usize,
    },
    Cut {
        at: usize,
    },
    /// A sector stands in another one's place.
    Sector {
        from: usize,
        to: usize,
    },
}

const SECTOR: usize = 512;

impl Change {
    /// Every one there is for a file of this length.
    fn all(length: usize) -> impl Iterator<Item = Self> {
        let flips = (0..length * 8).map(|bit| Self::Flip { at: bit / 8, bit: (bit % 8) as u32 });
        let zeros = (0..length).map(|at| Self::Zero { at });
        let cuts = (0..length).map(|at| Self::Cut { at });
        let sectors = length.div_ceil(SECTOR);
        let copies = (0..sectors).flat_map(move |from| (0..sectors).map(move |to| Self::Sector { from, to }));
        flips.chain(zeros).chain(cuts).chain(copies)
    }

    /// Does it. Tells whether any byte is another one.
    fn apply(self, bytes: &mut Vec<u8>) -> bool {
        match self {
            Self::Flip { at, bit } => bytes[at] ^= 1 << bit,
            Self::Zero { at } => return std::mem::take(&mut bytes[at]) != 0,
            Self::Cut { at } => bytes.truncate(at),
            Self::Sector { from, to } => {
                let (from, to) = (from * SECTOR, to * SECTOR);
                let length = SECTOR.min(bytes.len() - from).min(bytes.len() - to);
                let same = bytes[from..from + length] == bytes[to..to + length];
                bytes.copy_within(from..from + length, to);
                return !same;
            }
        }
        true
    }
}

/// What the changes of one kind led to.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    /// The bytes are as they were.
    nothing: usize,
    /// Every record is there.
    exact: usize,
    /// A typed error.
    refused: usize,
    /// The end of the newest log, of which no promise is left, is torn or gone: documented.
    torn: usize,
}

impl AddAssign for Outcomes {
    fn add_assign(&mut self, other: Self) {
        self.nothing += other.nothing;
        self.exact += other.exact;
        self.refused += other.refused;
        self.torn += other.torn;
    }
}

impl Outcomes {
    fn tried(&self) -> usize {
        self.exact + self.refused + self.torn
    }
}

/// Three logs of 64 KiB together, ended by a crash and a recovery, by a rotation, and by a close or not at all.
fn large_directory(closed: bool) -> (Files, Vec<Seen>) {
    let storage = MemStorage::new();
    let mut records = Vec::new();
    let options = || {
        let storage = Arc::new(storage.clone());
        Wal::options_on(storage).wal_id(WalId::from_bytes([9; 16])).clock(Arc::new(Stopped))
    };
    // From one byte to more than a sector, and some of several chunks.
    let fill = |wal: &Wal, records: &mut Vec<Seen>, bytes: usize| {
        let start = wal.logs().last().unwrap().bytes;
        while wal.logs().last().unwrap().bytes - start < bytes as u64 {
            let number = records.len();
            let payload: Vec<u8> =
                (0..1 + number * 97 % 1900).map(|at| (at * 7 + number) as u8 | 1).collect();
            let families = [FamilyId::new(number as u32 % 3)];
            let record = Record::new(RecordKind::new(3).unwrap(), &payload).families(&families);
            let level = if number.is_multiple_of(3) { Durability::Written } else { Durability::Synced };
            let appended = wal.append_with(record, level).unwrap();
            records.push((appended.index.get(), appended.seqs.first().get(), payload));
        }
        wal.sync().unwrap();
    };
    let (wal, _) = options().recover().unwrap().finish_without_replay().unwrap();
    fill(&wal, &mut records, 12_000);
    drop(wal);
    let (wal, _) = options().recover().unwrap().finish_without_replay().unwrap();
    fill(&wal, &mut records, 36_000);
    wal.rotate().unwrap();
    fill(&wal, &mut records, 16_500);
    if closed {
        wal.close().unwrap();
    }
    drop(wal);
    (storage.files(), records)
}

/// One change in so many is tried; all of them with `SWEEP_STRIDE=1`.
fn stride() -> usize {
    std::env::var("SWEEP_STRIDE").map_or(37, |stride| stride.parse().expect("a number"))
}

/// A promise in the newest log: where it stands, its bytes, and the index after the last record that it covers.
type Promised = (usize, Vec<u8>, u64);

fn promises(files: &Files, log: u64) -> Vec<Promised> {
    let file = &files[&format!("{log:06}.wal")];
    let decoded = naive::decode_log([9; 16], log, file);
    let promise = |item: &Item| match item {
        Item::Promise { offset, next_index, .. } => {
            let at = *offset as usize;
            Some((at, file[at..at + PROMISE].to_vec(), *next_index))
        }
        _ => None,
    };
    decoded.items.iter().filter_map(promise).collect()
}

/// Length of a promise in a file.
const PROMISE: usize = 23;

/// Tries changes of every kind in every file. The only loss allowed is that of records at the end of the newest log which nothing proves
/// any more: no promise that is left, not CHECKPOINT.
fn sweep(files: &Files, original: &[Seen]) -> [Outcomes; 4] {
    let newest = "000003.wal";
    let promises = promises(files, 3);
    let recorded = naive::decode_checkpoint(&files["CHECKPOINT"])[0].as_ref().unwrap().next_index;
    let try_one = |name: &str, change: Change| {
        let mut files = files.clone();
        if !change.apply(files.get_mut(name).unwrap()) {
            return Outcomes { nothing: 1, ..Outcomes::default() };
        }
        let left = |(at, bytes, _): &&Promised| files[newest].get(*at..at + PROMISE) == Some(&bytes[..]);
        let proven = promises.iter().filter(left).map(|(.., next)| *next).max().unwrap_or(0).max(recorded);
        match open(files, RecoveryMode::Default) {
            Ok((records, _)) if records == original => Outcomes { exact: 1, ..Outcomes::default() },
            Ok((records, verdict)) => {
                let (found, all) = (records.len(), original.len());
                // A file that ends where a record ended shows nothing torn.
                let seen = verdict == Verdict::TornTail
                    || verdict == Verdict::Clean && matches!(change, Change::Cut { .. });
                let told = seen && original.starts_with(&records);
                let unproven = name == newest && found as u64 + 1 >= proven;
                assert!(told && unproven, "T7: {change:?} of {name}: {found} of {all} records, {verdict:?}");
                Outcomes { torn: 1, ..Outcomes::default() }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damage, "T7: {change:?} of {name}: {error}");
                Outcomes { refused: 1, ..Outcomes::default() }
            }
        }
    };
    let part = |remainder: usize| {
        let mut outcomes = [Outcomes::default(); 4];
        for (name, bytes) in files {
            // What CHECKPOINT's slots do not use is zeros that nobody reads: a sample is enough.
            let rare = |at: usize| name == "CHECKPOINT" && at % 65536 >= 200 && !at.is_multiple_of(997);
            let changes = Change::all(bytes.len()).filter(|change| match change {
                Change::Flip { at, .. } | Change::Zero { at } | Change::Cut { at } => !rare(*at),
                Change::Sector { .. } => true,
            });
            for change in changes.step_by(stride()).skip(remainder).step_by(THREADS) {
                let kind = match change {
                    Change::Flip { .. } => 0,
                    Change::Zero { .. } => 1,
                    Change::Cut { .. } => 2,
                    Change::Sector { .. } => 3,
                };
                outcomes[kind] += try_one(name, change);
            }
        }
        outcomes
    };
    let mut all = [Outcomes::default(); 4];
    thread::scope(|scope| {
        let parts: Vec<_> = (0..THREADS).map(|remainder| scope.spawn(move || part(remainder))).collect();
        for part in parts {
            let part = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (all, part) in all.iter_mut().zip(part) {
                *all += part;
            }
        }
    });
    let bytes: usize =
        files.iter().filter(|(name, _)| name.ends_with(".wal")).map(|(_, bytes)| bytes.len()).sum();
    println!("{bytes} bytes of logs, one change in {}:", stride());
    for (kind, outcomes) in
        ["flipped bits", "zeroed bytes", "cuts", "sectors in another's place"].iter().zip(all)
    {
        println!("  {} {kind}: {outcomes:?}", outcomes.tried());
    }
    assert!(bytes >= 65_536 && all[0].tried() >= bytes * 8 / stride(), "every bit of 64 KiB");
    all
}

const THREADS: usize = 2;

#[test]
fn t7_p1_every_bit_byte_cut_and_sector_of_a_closed_64_kib_directory() {
    let (files, original) = large_directory(true);
    let outcomes = sweep(&files, &original);
    assert!(outcomes.iter().all(|outcomes| outcomes.torn == 0 && outcomes.refused > 0));
}

#[test]
fn t7_f29_every_bit_byte_cut_and_sector_of_a_killed_64_kib_directory() {
    let (files, original) = large_directory(false);
    let outcomes = sweep(&files, &original);
    assert!(outcomes[..3].iter().all(|outcomes| outcomes.torn > 0 && outcomes.refused > 0));
}
