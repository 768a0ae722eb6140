//! Faults that are a matter of whole files, by row of the list of faults.

use std::sync::Arc;

use wal_io::sim::SimStorage;
use wal_manager::{Error, ErrorKind, Record, Storage, Verdict, Wal, WalId};
use wal_tests::life::{KIND, open, options, read_back, record};

const MIB: usize = 1 << 20;

fn append(wal: &Wal, text: &str) {
    wal.append(record(text.as_bytes())).unwrap();
}

/// A directory with three closed-off logs of two records and one that is open, at rest.
fn four_logs() -> SimStorage {
    let disk = SimStorage::new();
    let wal = open(&disk);
    for log in 1..=3 {
        append(&wal, &format!("first of log {log}"));
        append(&wal, &format!("second of log {log}"));
        wal.rotate().unwrap();
    }
    append(&wal, "first of log 4");
    append(&wal, "second of log 4");
    drop(wal);
    disk.crash_all_kept()
}

fn refused(disk: &SimStorage) -> Error {
    options(disk).recover().map(drop).expect_err("damage is refused")
}

/// Row 18: a log that was made ahead ends in zeros; its end is found with reads that are bounded in size and in number, and nothing is cut.
#[test]
fn f18_a_tail_of_zeros_is_found_with_few_bounded_reads() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    append(&wal, "one");
    append(&wal, "two");
    drop(wal);
    let disk = disk.crash_all_kept();
    disk.corrupt("000001.wal", |bytes| bytes.resize(32 * MIB, 0));
    disk.clear_trace();
    let recovery = options(&disk).recover().unwrap();
    assert_eq!(recovery.records().count(), 2);
    assert_eq!((recovery.report().verdict, recovery.report().cut_bytes), (Verdict::Clean, 0));
    let lengths: Vec<usize> = disk
        .trace()
        .iter()
        .filter_map(|line| line.strip_prefix("read 000001.wal ")?.split_once('+')?.1.parse().ok())
        .collect();
    assert!(lengths.iter().all(|length| *length <= MIB), "each read is bounded: {:?}", lengths.iter().max());
    assert!(
        lengths.iter().sum::<usize>() <= 2 * 32 * MIB,
        "twice at the most: {}",
        lengths.iter().sum::<usize>()
    );
}

/// Row 35: two logs of one directory under each other's name.
#[test]
fn f35_swapped_logs_are_refused_whichever_they_are() {
    for (left, right) in [(1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)] {
        let disk = four_logs();
        let (left, right) = (format!("{left:06}.wal"), format!("{right:06}.wal"));
        let (one, other) = (disk.read_file(&left).unwrap(), disk.read_file(&right).unwrap());
        disk.corrupt(&left, |bytes| *bytes = other);
        disk.corrupt(&right, |bytes| *bytes = one);
        let error = refused(&disk);
        assert_eq!(error.kind(), ErrorKind::Damage, "{left} and {right}: {error}");
    }
}

/// Row 35: one log copied over another of the same directory.
#[test]
fn f35_a_log_copied_over_another_is_refused() {
    for (from, to) in
        (1..=4).flat_map(|from| (1..=4).map(move |to| (from, to))).filter(|(from, to)| from != to)
    {
        let disk = four_logs();
        let copy = disk.read_file(&format!("{from:06}.wal")).unwrap();
        disk.corrupt(&format!("{to:06}.wal"), |bytes| *bytes = copy);
        let error = refused(&disk);
        assert_eq!(error.kind(), ErrorKind::Damage, "{from} over {to}: {error}");
    }
}

/// Row 35: a log of another write-ahead log, in the place of ours or beside them, is named with both identities, and not touched.
#[test]
fn f35_a_log_of_another_write_ahead_log_is_refused_and_not_touched() {
    let foreign = SimStorage::new();
    let other = Wal::options_on(Arc::new(foreign.clone())).wal_id(WalId::from_bytes([9; 16]));
    let (wal, _) = other.recover().unwrap().finish_without_replay().unwrap();
    wal.append(Record::new(KIND, b"theirs")).unwrap();
    wal.close().unwrap();
    let theirs = foreign.read_file("000001.wal").unwrap();
    for number in 1..=6 {
        let disk = four_logs();
        let name = format!("{number:06}.wal");
        disk.write_file(&name, theirs.clone());
        let error = refused(&disk);
        assert!(
            matches!(error, Error::Foreign { expected, found, .. }
            if expected == WalId::from_bytes([7; 16]) && found == WalId::from_bytes([9; 16])),
            "{name}: {error}"
        );
        assert_eq!(disk.read_file(&name).as_deref(), Some(theirs.as_slice()));
    }
}

/// Row 38: bytes that are all zero are no chunk and no log, wherever they stand and however many they are.
#[test]
fn f38_a_file_of_zeros_holds_nothing_and_hides_nothing() {
    for length in [0, 1, 6, 7, 8, 511, 512, 32_768, 32_769, 100_000] {
        // In the place of a log that CHECKPOINT knows to hold records: damage.
        for number in 1..=3 {
            let disk = four_logs();
            disk.corrupt(&format!("{number:06}.wal"), |bytes| *bytes = vec![0; length]);
            assert_eq!(refused(&disk).kind(), ErrorKind::Damage, "{number}, {length}");
        }
        // In the place of the newest, which nothing outside of it proves: empty, as docs/recovery.md says.
        let disk = four_logs();
        disk.corrupt("000004.wal", |bytes| *bytes = vec![0; length]);
        assert_eq!(read_back(&disk).len(), 6, "{length}");
        // Beside them, under a number that nobody has used: removed, and the number with it.
        let disk = four_logs();
        disk.write_file("000005.wal", vec![0; length]);
        assert_eq!(read_back(&disk).len(), 8, "{length}");
        assert!(disk.list().unwrap().iter().any(|entry| entry.name == "000006.wal"), "{length}: R5");
    }
}
