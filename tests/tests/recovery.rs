//! Recovery and damage, by acceptance id, through the public API: directories made to order and directories that a writer left.

use std::collections::BTreeMap;
use std::io::ErrorKind as IoKind;
use std::sync::Arc;

use wal_format::checkpoint::{Checkpoint, CleanEnd, Slot};
use wal_format::header::Predecessor;
use wal_format::{Epoch, FileHeader};
use wal_io::Storage;
use wal_io::mem::MemStorage;
use wal_io::sim::SimStorage;
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, Index, LogNumber, LogVerdict, Reason, Record, RecordKind,
    RecoveredRecord, RecoveryMode, RecoveryReport, SYNC_BYTES_MAX, SeqNum, Verdict, Wal, WalId,
};
use wal_tests::logs::{LogBuilder, WAL_ID, pattern};
use wal_tests::naive;

type Files = BTreeMap<String, Vec<u8>>;

/// What came back, and what was said about it.
struct Opened {
    records: Vec<RecoveredRecord>,
    report: RecoveryReport,
    /// The directory after that recovery.
    files: Files,
}

fn try_open(files: &Files, mode: RecoveryMode) -> Result<Opened, Error> {
    let storage = MemStorage::from_files(files.clone());
    let recovery = Wal::options_on(Arc::new(storage.clone())).mode(mode).recover()?;
    let records = recovery.records().collect::<Result<Vec<_>, _>>()?;
    let report = recovery.report().clone();
    Ok(Opened { records, report, files: storage.files() })
}

fn open(files: &Files) -> Result<Opened, Error> {
    try_open(files, RecoveryMode::Default)
}

/// Opens what must be refused, and checks that the refusal changed nothing.
fn refused(files: &Files) -> Error {
    let storage = MemStorage::from_files(files.clone());
    // A directory that was closed cleanly is read only when its records are handed out.
    let opened = Wal::options_on(Arc::new(storage.clone())).recover();
    let read = opened.and_then(|recovery| {
        recovery.records().collect::<Result<Vec<_>, _>>().map(|_| recovery.report().clone())
    });
    let error = read.expect_err("it is refused");
    let mut after = storage.files();
    if !files.contains_key("LOCK") {
        after.remove("LOCK");
    }
    assert!(after == *files, "X2: a refused open changes nothing");
    error
}

fn findings(error: &Error) -> &RecoveryReport {
    match error {
        Error::Damaged(report) | Error::NotClean(report) => report,
        other => panic!("not a verdict: {other}"),
    }
}

fn indices(records: &[RecoveredRecord]) -> Vec<u64> {
    records.iter().map(|record| record.index.get()).collect()
}

fn name(log: u64) -> String {
    format!("{log:06}.wal")
}

/// A directory made to order: these logs, and a CHECKPOINT that knows them.
fn directory(logs: &[&LogBuilder], change: impl FnOnce(&mut Checkpoint)) -> Files {
    let mut checkpoint = Checkpoint::new(WAL_ID);
    let highest = logs.len() as u64;
    checkpoint.epoch = Epoch::new(1);
    checkpoint.highest = LogNumber::new(highest);
    checkpoint.active = LogNumber::new(highest);
    change(&mut checkpoint);
    let mut files: Files =
        logs.iter().zip(1..).map(|(log, number)| (name(number), log.bytes.clone())).collect();
    let mut bytes = vec![0; 128 * 1024];
    for slot in Slot::BOTH {
        let encoded = checkpoint.encode(slot);
        let start = slot.offset() as usize;
        bytes[start..start + encoded.len()].copy_from_slice(&encoded);
    }
    files.insert("CHECKPOINT".to_owned(), bytes);
    files.insert("LOCK".to_owned(), Vec::new());
    files
}

/// A log that follows another.
fn after(log: &LogBuilder, number: u64) -> LogBuilder {
    let mut header = FileHeader::new(
        WAL_ID,
        LogNumber::new(number),
        Epoch::new(1),
        Index::new(log.next_index),
        SeqNum::new(log.next_seq),
    );
    let end = log.encoder.offset();
    let digest = log.encoder.digest().get();
    header.predecessor = Some(Predecessor { log: LogNumber::new(number - 1), end, proven: end, digest });
    LogBuilder::with_header(&header)
}

/// What a writer leaves: three logs (two rotations), two families, closed or killed.
fn written(closed: bool) -> Files {
    let storage = MemStorage::new();
    let wal = Wal::options_on(Arc::new(storage.clone())).wal_id(WAL_ID).recover().unwrap();
    let (wal, _) = wal.finish_without_replay().unwrap();
    for number in 0..9_usize {
        if number % 3 == 0 && number > 0 {
            wal.rotate().unwrap();
        }
        let payload = pattern(number, 50 + number);
        let families = [FamilyId::new(number as u32 % 2)];
        wal.append(Record::new(RecordKind::new(1).unwrap(), &payload).families(&families)).unwrap();
    }
    if closed {
        wal.close().unwrap();
    }
    storage.files()
}

fn flip(files: &Files, log: u64, at: usize) -> Files {
    let mut files = files.clone();
    files.get_mut(&name(log)).unwrap()[at] ^= 1;
    files
}

/// Where the records of a log stand.
fn record_places(files: &Files, log: u64) -> Vec<usize> {
    let decoded = naive::decode_log(*WAL_ID.as_bytes(), log, &files[&name(log)]);
    let place = |item: &naive::Item| match item {
        naive::Item::Record(offset, _) => Some(*offset as usize),
        _ => None,
    };
    decoded.items.iter().filter_map(place).collect()
}

#[test]
fn p1_the_promise_is_exactly_what_the_last_sync_covered() {
    for (round, group_max) in [1_u64, 2, 5, 17, 64].into_iter().enumerate() {
        let disk = SimStorage::new();
        let options = Wal::options_on(Arc::new(disk.clone())).wal_id(WAL_ID).log_bytes(1 << 30);
        // Only the syncs of this test, so that it knows all of them.
        let options = options.sync_bytes(SYNC_BYTES_MAX).idle_promise(None);
        let (wal, _) = options.recover().unwrap().finish_without_replay().unwrap();
        let mut seed = round as u64 + 1;
        let mut random = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        let mut appended = 0_u64;
        for _ in 0..40 {
            for _ in 0..=random(group_max) {
                let limit = [2, 200, 5_000, 40_000, 1 << 20][random(5) as usize];
                let payload = pattern(appended as usize, 1 + random(limit) as usize);
                drop(wal.submit(Record::new(RecordKind::new(1).unwrap(), &payload)).unwrap());
                appended += 1;
            }
            match random(4) {
                // Written, not synced: the next promise must not cover it.
                0 => {
                    wal.append_with(record(b"w"), Durability::Written).unwrap();
                    appended += 1;
                }
                _ => assert_eq!(wal.sync().unwrap().index.get(), appended),
            }
        }
        let file = disk.read_file("000001.wal").unwrap();
        let decoded = naive::decode_log(*WAL_ID.as_bytes(), 1, &file);
        naive::audit(&decoded).unwrap();
        let promises = promises(&decoded);
        assert_eq!(promises, expected_promises(&disk.trace(), &decoded), "groups of up to {group_max}");
        assert!(promises.len() > 20);
    }
}

fn record(payload: &[u8]) -> Record<'_> {
    Record::new(RecordKind::new(1).unwrap(), payload)
}

/// Offset, frontier and index of each promise in a log.
fn promises(decoded: &naive::Decoded) -> Vec<(u64, u64, u64)> {
    let promise = |item: &naive::Item| match item {
        naive::Item::Promise { offset, durable_end, next_index } => {
            Some((*offset, *durable_end, *next_index))
        }
        _ => None,
    };
    decoded.items.iter().filter_map(promise).collect()
}

/// What must stand at the start of each written group, from the operations that the disk saw: the end of what the last sync covered, if
/// a record has become durable since the last promise, and nothing otherwise (PR3).
fn expected_promises(trace: &[String], decoded: &naive::Decoded) -> Vec<(u64, u64, u64)> {
    let starts: Vec<u64> = decoded
        .items
        .iter()
        .filter_map(|item| match item {
            naive::Item::Record(offset, _) => Some(*offset),
            _ => None,
        })
        .collect();
    let index_at = |end: u64| 1 + starts.iter().filter(|start| **start < end).count() as u64;
    let (mut written, mut synced, mut promised) = (0, 0, 1);
    let mut expected = Vec::new();
    for line in trace {
        if let Some(range) = line.strip_prefix("write 000001.wal ") {
            let (start, length) = range.split_once('+').unwrap();
            let (start, length): (u64, u64) = (start.parse().unwrap(), length.parse().unwrap());
            if index_at(synced) > promised {
                let offset = if start % 32768 > 32768 - 23 { start.next_multiple_of(32768) } else { start };
                expected.push((offset, synced, index_at(synced)));
                promised = index_at(synced);
            }
            written = start + length;
        } else if line.starts_with("syncdata 000001.wal") || line.starts_with("syncall 000001.wal") {
            synced = written;
        }
    }
    expected
}

#[test]
fn p2_a_hole_in_the_index_is_damage_also_where_sequence_numbers_have_gaps() {
    let mut log = LogBuilder::new(1);
    log.record(b"one").record(b"two");
    let mut skipping = log.clone();
    skipping.next_index += 1;
    skipping.next_seq += 10;
    skipping.record(b"four").promise();
    let error = refused(&directory(&[&skipping], |_| {}));
    let expected = Reason::IndexGap { expected: Index::new(3), found: Index::new(4) };
    assert_eq!(findings(&error).findings[0].reason, expected);

    // Across logs: the second begins one too high.
    let mut whole = log.clone();
    whole.seal();
    log.next_index += 1;
    let mut second = after(&log, 2);
    second.record(b"four").promise();
    let error = refused(&directory(&[&whole, &second], |_| {}));
    assert_eq!(findings(&error).findings[0].log.get(), 1);
}

#[test]
fn p3_an_older_version_of_a_log_is_noticed() {
    let mut log = LogBuilder::new(1);
    log.record(b"one").record(b"two");
    let mut other = LogBuilder::new(1);
    other.record(b"one").record(b"TWO");
    assert_eq!(log.bytes.len(), other.bytes.len());
    let mut second = after(&log, 2);
    second.record(b"three");
    assert_eq!(open(&directory(&[&log, &second], |_| {})).unwrap().records.len(), 3);
    let error = refused(&directory(&[&other, &second], |_| {}));
    assert_eq!(findings(&error).findings[0].reason, Reason::OtherContent);
    // Cut at an exact record boundary.
    let mut shorter = LogBuilder::new(1);
    shorter.record(b"one");
    let error = refused(&directory(&[&shorter, &second], |_| {}));
    assert!(matches!(findings(&error).findings[0].reason, Reason::Short { .. }), "{error}");
}

#[test]
fn p4_v7_missing_newest_logs_are_named() {
    let files = written(false);
    for missing in [&[3][..], &[2, 3], &[1, 2, 3]] {
        let mut files = files.clone();
        for log in missing {
            files.remove(&name(*log));
        }
        let error = refused(&files);
        let named: Vec<u64> = findings(&error).findings.iter().map(|finding| finding.log.get()).collect();
        assert_eq!(named, missing, "{error}");
        let text = error.to_string();
        assert!(text.contains(&name(missing[0])) && text.contains("missing"), "{text}");
        assert_eq!(error.kind(), ErrorKind::Damage);
    }
}

#[test]
fn p5_a_known_seal_that_is_damaged_is_no_clean_end() {
    for (log, closed) in [(3, true), (1, true), (2, true)] {
        let files = written(closed);
        let length = files[&name(log)].len();
        for at in length - 43..length {
            let error = refused(&flip(&files, log, at));
            assert_eq!(findings(&error).findings[0].log.get(), log, "byte {at}");
            let reason = &findings(&error).findings[0].reason;
            let found =
                if log == 3 { matches!(reason, Reason::Chunk(_)) } else { *reason == Reason::SealMissing };
            assert!(found, "{reason}");
        }
        let mut longer = files.clone();
        longer.get_mut(&name(log)).unwrap().push(1);
        assert_eq!(findings(&refused(&longer)).findings[0].reason, Reason::BehindSeal);
    }
}

#[test]
fn p6_f10_unknown_chunks_are_skipped_or_refused_as_they_say() {
    let mut log = LogBuilder::new(1);
    log.record(b"one").raw(0x91, b"may be skipped").record(b"two");
    let opened = open(&directory(&[&log], |_| {})).unwrap();
    assert_eq!(indices(&opened.records), [1, 2]);
    log.raw(0x11, b"must be understood").record(b"three").promise();
    let error = refused(&directory(&[&log], |_| {}));
    assert!(error.to_string().contains("newer"), "{error}");

    let mut header = FileHeader::new(WAL_ID, LogNumber::new(1), Epoch::new(1), Index::FIRST, SeqNum::new(1));
    (header.version, header.lowest_reader) = (9, 9);
    let newer = LogBuilder::with_header(&header);
    let error = refused(&directory(&[&newer], |_| {}));
    assert!(matches!(error, Error::NewerFormat { version: 9, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::NewerFormat);
    // A newer version that an older reader may read.
    (header.version, header.lowest_reader) = (9, 1);
    let mut newer = LogBuilder::with_header(&header);
    newer.record(b"one");
    assert_eq!(open(&directory(&[&newer], |_| {})).unwrap().records.len(), 1);
}

#[test]
fn v1_v2_unsynced_tails_open_however_they_are_torn() {
    let files = written(false);
    let newest = &files[&name(3)];
    let last = *record_places(&files, 3).last().unwrap();
    for zeros in [1, 511, 4096, 70_000] {
        let mut extended = files.clone();
        extended.get_mut(&name(3)).unwrap().resize(newest.len() + zeros, 0);
        let opened = open(&extended).unwrap();
        assert_eq!((opened.records.len(), opened.report.verdict), (9, Verdict::Clean), "{zeros} zeros");
        // The size is there, the bytes are not.
        let torn = extended.get_mut(&name(3)).unwrap();
        torn[last..newest.len()].fill(0);
        let opened = open(&extended).unwrap();
        assert_eq!((opened.records.len(), opened.report.cut_bytes > 0), (8, false));
    }
    for at in last..newest.len() {
        let mut garbage = files.clone();
        garbage.get_mut(&name(3)).unwrap()[at..].fill(0xaa);
        let opened = open(&garbage).unwrap();
        assert_eq!((opened.records.len(), opened.report.verdict), (8, Verdict::TornTail));
        assert!(matches!(try_open(&garbage, RecoveryMode::Strict), Err(Error::NotClean(_))));
    }
    // A record of several blocks that lost one of them.
    let mut log = LogBuilder::new(1);
    log.record(b"one").record(&pattern(1, 150_000));
    for block in 1..4 {
        let mut files = directory(&[&log], |_| {});
        files.get_mut(&name(1)).unwrap()[block * 32768..(block + 1) * 32768].fill(0);
        assert_eq!(indices(&open(&files).unwrap().records), [1], "block {block}");
    }
}

#[test]
fn v3_flip_in_synced_bytes_is_an_error() {
    let files = written(false);
    for (log, at) in [(1, 300), (2, 130), (3, 140)] {
        let damaged = flip(&files, log, at);
        let error = refused(&damaged);
        let finding = &findings(&error).findings[0];
        assert_eq!(finding.log.get(), log);
        assert!(finding.proof.is_some() && finding.offset <= at as u64 && finding.offset > 0);
        let inspected = Wal::options_on(Arc::new(MemStorage::from_files(damaged))).inspect().unwrap();
        assert_eq!(inspected.report().verdict, Verdict::Damaged);
        let seen: Vec<_> = inspected.records().collect();
        assert!(matches!(seen.last(), Some(Err(Error::Damaged(_)))), "what came before, then the reason");
        assert!(seen[..seen.len() - 1].iter().all(Result::is_ok));
    }
}

#[test]
fn v4_f9_four_modes_and_what_each_does_with_damage() {
    // Records of 5 KiB, so that the blocks behind the damage hold some.
    let mut log = LogBuilder::new(1);
    for number in 0..20 {
        log.group(|log| {
            log.record(&pattern(number, 5_000 + number));
        });
    }
    log.promise();
    let files = directory(&[&log], |_| {});
    let hit = record_places(&files, 1)[2] + 2_500;
    let files = flip(&files, 1, hit);
    for mode in [RecoveryMode::Strict, RecoveryMode::Default] {
        assert!(matches!(try_open(&files, mode), Err(Error::Damaged(_))), "{mode:?}");
    }
    let point = try_open(&files, RecoveryMode::PointInTime).unwrap();
    assert_eq!(indices(&point.records), [1, 2]);
    assert_eq!((point.report.verdict, point.report.findings.len()), (Verdict::Damaged, 1));

    let salvaged = try_open(&files, RecoveryMode::Salvage).unwrap();
    let payloads: Vec<&[u8]> = salvaged.records.iter().map(|record| &record.payload[..]).collect();
    let all: Vec<Vec<u8>> = (0..20).map(|number| pattern(number, 5_000 + number)).collect();
    // Only the record whose bytes were hit.
    let lost: Vec<u64> = (1..=20).filter(|n| !payloads.contains(&&all[*n as usize - 1][..])).collect();
    assert_eq!(lost, [3]);
    assert_eq!(salvaged.report.holes, [(3, 3)], "F9: the hole is exact");
    assert_eq!(indices(&salvaged.records), (1..=19).collect::<Vec<_>>(), "dense again");
    let seqs: Vec<u64> = salvaged.records.iter().map(|record| record.seqs.first().get()).collect();
    assert!(
        seqs.windows(2).all(|pair| pair[0] < pair[1]) && seqs[2] == 4,
        "the sequence numbers stay: {seqs:?}"
    );

    for opened in [point, salvaged] {
        assert_eq!(opened.report.quarantined, ["000001.wal.quarantine-2"]);
        assert_eq!(opened.files["000001.wal.quarantine-2"], files[&name(1)], "nothing is destroyed");
        // From here on it is an ordinary directory again, and no sequence number comes twice.
        let again = open(&opened.files).unwrap();
        assert_eq!(indices(&again.records), indices(&opened.records));
        let storage = MemStorage::from_files(opened.files);
        let recovery = Wal::options_on(Arc::new(storage)).recover().unwrap();
        let (wal, _) = recovery.finish_without_replay().unwrap();
        let appended = wal.append(record(b"new")).unwrap();
        assert!(appended.seqs.first() > again.records.last().unwrap().seqs.last());
    }
    // Reading alone salvages too, and changes nothing.
    let storage = MemStorage::from_files(files.clone());
    let options = Wal::options_on(Arc::new(storage.clone())).mode(RecoveryMode::Salvage);
    let seen: Vec<_> =
        options.inspect().unwrap().records().map(|record| record.unwrap().index.get()).collect();
    assert_eq!(seen, [1, 2].into_iter().chain(4..=20).collect::<Vec<_>>());
    assert!(storage.files() == files);
}

#[test]
fn v4_a_log_whose_header_is_gone_is_kept_aside() {
    let files = flip(&written(false), 2, 20);
    let error = refused(&files);
    assert_eq!(findings(&error).findings[0].log.get(), 2);
    let point = try_open(&files, RecoveryMode::PointInTime).unwrap();
    assert_eq!(indices(&point.records), [1, 2, 3]);
    let mut aside = point.report.quarantined.clone();
    aside.sort();
    assert_eq!(aside, ["000002.wal.quarantine-2", "000003.wal.quarantine-2"]);
    assert_eq!(point.files["000003.wal.quarantine-2"], files[&name(3)]);
    assert_eq!(indices(&open(&point.files).unwrap().records), [1, 2, 3]);
    let salvaged = try_open(&files, RecoveryMode::Salvage).unwrap();
    assert_eq!(salvaged.records.len(), 9, "only the header is gone, and a salvage needs none");
}

#[test]
fn v6_a_missing_middle_log_is_named() {
    let mut files = written(true);
    files.remove(&name(2));
    let error = refused(&files);
    let report = findings(&error);
    assert_eq!((report.findings.len(), report.findings[0].log.get()), (1, 2), "{error}");
    assert_eq!(report.findings[0].reason, Reason::Missing);
    let verdicts: Vec<_> = report.logs.iter().map(|log| (log.log.get(), log.verdict)).collect();
    assert_eq!(verdicts, [(1, LogVerdict::Clean), (2, LogVerdict::Missing), (3, LogVerdict::Clean)]);
}

#[test]
fn v8_duplicate_and_regressing_sequence_numbers_are_damage() {
    for back in [1, 2] {
        let mut log = LogBuilder::new(1);
        log.record(b"one").record(b"two");
        log.next_seq -= back;
        log.record(b"again").promise();
        let error = refused(&directory(&[&log], |_| {}));
        let (floor, found) = (SeqNum::new(3), SeqNum::new(3 - back));
        assert_eq!(findings(&error).findings[0].reason, Reason::SequenceRegression { floor, found });
    }
}

#[test]
fn v11_what_is_flushed_is_not_replayed() {
    let storage = MemStorage::from_files(written(false));
    let recover = || Wal::options_on(Arc::new(storage.clone())).recover().unwrap();
    let (wal, _) = recover().finish_without_replay().unwrap();
    // Records 1, 3, 5 ... are in family 0, with the same sequence numbers.
    wal.mark_flushed(FamilyId::new(0), SeqNum::new(5)).unwrap();
    drop(wal);
    let recovery = recover();
    let left: Vec<u64> = recovery.records().map(|record| record.unwrap().index.get()).collect();
    assert_eq!(left, [2, 4, 6, 7, 8, 9]);
    assert_eq!(recovery.flushed(FamilyId::new(0)), Some(SeqNum::new(5)));
}

#[test]
fn v12_numbers_go_on_after_everything_was_deleted() {
    let storage = MemStorage::from_files(written(false));
    let mut highest = 3;
    for round in 0..3 {
        let recovery = Wal::options_on(Arc::new(storage.clone())).recover().unwrap();
        let (wal, _) = recovery.finish_without_replay().unwrap();
        let appended = wal.append(record(b"one more")).unwrap();
        assert_eq!((appended.index.get(), appended.seqs.first().get()), (10 + 2 * round, 10 + 2 * round));
        assert!(appended.position.log.get() > highest, "R5: numbers are never used again");
        highest = appended.position.log.get();
        wal.rotate().unwrap();
        let appended = wal.append(record(b"and one")).unwrap();
        wal.rotate().unwrap();
        wal.mark_flushed(FamilyId::new(1), appended.seqs.last()).unwrap();
        wal.mark_flushed(FamilyId::new(0), appended.seqs.last()).unwrap();
        let left: Vec<u64> = wal.logs().iter().map(|log| log.records).collect();
        assert_eq!(left, [1, 0], "the log that holds the frontier stays until the next one does (CK7)");
        if round == 1 {
            wal.close().unwrap();
        }
        highest += 2;
    }
}

#[test]
fn v13_the_report_says_what_was_read_cut_and_why() {
    let mut files = written(false);
    let length = files[&name(3)].len();
    files.get_mut(&name(3)).unwrap().truncate(length - 5);
    files.insert("notes.txt".to_owned(), b"mine".to_vec());
    let Opened { report, .. } = open(&files).unwrap();
    assert_eq!((report.records, report.first_index.get(), report.next_index.get()), (8, 1, 9));
    assert_eq!((report.verdict, report.new_log), (Verdict::TornTail, Some(LogNumber::new(4))));
    assert_eq!(report.other_files, ["notes.txt"]);
    let newest = report.logs.iter().find(|log| log.log.get() == 3).unwrap();
    assert_eq!((newest.verdict, newest.records), (LogVerdict::TornTail, 2));
    assert!(newest.cut_bytes > 0 && newest.cut_bytes == report.cut_bytes && newest.reason.is_some());
    assert_eq!(newest.offset + newest.cut_bytes, length as u64 - 5);
    assert_eq!(report.seqs.map(|seqs| (seqs.first().get(), seqs.last().get())), Some((1, 8)));
    // And so does its JSON.
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["verdict"], &json["mode"]), (&"torn_tail".into(), &"default".into()));
    assert_eq!((&json["new_log"], &json["seqs"]), (&4.into(), &serde_json::json!([1, 8])));
    assert_eq!(json["logs"][2]["verdict"], "torn_tail");
    assert_eq!(json["logs"][2]["path"], "mem:/000003.wal");
    assert!(json["logs"][2]["reason"].is_string() && json["logs"][0]["reason"].is_null());
}

#[test]
fn v14_directories_of_altered_files_never_panic_or_hang() {
    let base = [written(true), written(false)];
    let mut seed = 1_u64;
    let mut random = |limit: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % limit
    };
    let (mut opened, mut refused) = (0, 0);
    for round in 0..1500 {
        let mut files = base[round % 2].clone();
        for _ in 0..=random(6) {
            let names: Vec<String> = files.keys().filter(|name| *name != "LOCK").cloned().collect();
            let name = &names[random(names.len())];
            let other = files[&names[random(names.len())]].clone();
            let bytes = files.get_mut(name).unwrap();
            let at = random(bytes.len().clamp(1, 1200));
            match random(6) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_slice(&pattern(at, 40)),
                2 => bytes.splice(0..0, pattern(at, 1 + at % 9)).for_each(drop),
                3 => *bytes = other,
                _ => bytes.iter_mut().skip(at).take(1 + at % 5).for_each(|byte| *byte ^= random(256) as u8),
            }
        }
        for mode in [RecoveryMode::Default, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
            match try_open(&files, mode) {
                Ok(found) => {
                    opened += 1;
                    assert!(found.records.len() <= 9, "{mode:?} invents nothing");
                    // Whatever was made of it opens by default from then on, with the same records.
                    let again =
                        open(&found.files).unwrap_or_else(|error| panic!("round {round} {mode:?}: {error}"));
                    assert_eq!(indices(&again.records), indices(&found.records), "round {round} {mode:?}");
                }
                Err(_) => refused += 1,
            }
            let storage = Arc::new(MemStorage::from_files(files.clone()));
            if let Ok(inspection) = Wal::options_on(storage).mode(mode).inspect() {
                assert!(inspection.records().count() <= 10);
            }
        }
    }
    assert!(opened > 300 && refused > 300, "{opened} opened, {refused} refused");
}

#[test]
fn v15_records_seen_in_the_cache_are_durable_before_they_are_handed_out() {
    let disk = SimStorage::new();
    let recover = |disk: &SimStorage| Wal::options_on(Arc::new(disk.clone())).recover().unwrap();
    let (wal, _) = recover(&disk).finish_without_replay().unwrap();
    wal.append(record(b"synced")).unwrap();
    wal.append_with(record(b"in the cache"), Durability::Written).unwrap();
    // The process dies, the cache lives: the next one sees both records. Then the power goes, and takes all that nobody synced.
    let disk = disk.process_crash();
    let recovery = recover(&disk);
    assert_eq!(recovery.report().rewritten_records, 1, "the second group's promise proves the first");
    assert_eq!(recovery.records().count(), 2);
    let disk = disk.crash_all_lost();
    let payloads: Vec<_> = recover(&disk).records().map(|record| record.unwrap().payload).collect();
    assert_eq!(payloads, [&b"synced"[..], b"in the cache"]);
}

#[test]
fn f5_x4_a_log_of_another_wal_is_refused_with_both_ids() {
    let files = written(true);
    let other = {
        let storage = MemStorage::new();
        let options = Wal::options_on(Arc::new(storage.clone())).wal_id(WalId::from_bytes([0xee; 16]));
        let (wal, _) = options.recover().unwrap().finish_without_replay().unwrap();
        wal.append(record(b"another's")).unwrap();
        drop(wal);
        storage.files()
    };
    for number in [1, 3, 4] {
        let mut mixed = files.clone();
        mixed.insert(name(number), other[&name(1)].clone());
        let error = refused(&mixed);
        assert!(matches!(error, Error::Foreign { expected, .. } if expected == WAL_ID), "{error}");
        let text = error.to_string();
        assert!(text.contains(&WAL_ID.to_string()) && text.contains("eeeeeeee"), "{text}");
    }
    let mut mixed = files.clone();
    mixed.insert("CHECKPOINT".to_owned(), other["CHECKPOINT"].clone());
    assert!(matches!(refused(&mixed), Error::Foreign { found, .. } if found == WAL_ID));
}

#[test]
fn f11_another_configuration_is_refused() {
    let storage = MemStorage::new();
    let open = |fingerprint| {
        Wal::options_on(Arc::new(storage.clone())).config_fingerprint(fingerprint).recover().map(drop)
    };
    open(7).unwrap();
    assert!(matches!(open(8), Err(Error::ConfigMismatch { expected: 8, found: 7 })));
    open(7).unwrap();
    open(0).unwrap();
    assert!(matches!(open(8), Err(Error::ConfigMismatch { .. })), "an open without one does not forget it");
}

#[test]
fn k1_k2_one_bad_slot_loses_nothing_and_two_are_an_error() {
    let files = written(false);
    for slot in [0, 65536] {
        let mut bad = files.clone();
        bad.get_mut("CHECKPOINT").unwrap()[slot + 30] ^= 4;
        let opened = open(&bad).unwrap();
        assert_eq!(opened.records.len(), 9);
        assert!(opened.report.checkpoint_fault.is_some());
        // The bad one was written anew.
        for slot in [0, 65536] {
            let mut other = opened.files.clone();
            other.get_mut("CHECKPOINT").unwrap()[slot + 30] ^= 4;
            assert_eq!(open(&other).unwrap().records.len(), 9);
        }
    }
    let mut bad = files.clone();
    for slot in [0, 65536] {
        bad.get_mut("CHECKPOINT").unwrap()[slot + 30] ^= 4;
    }
    assert!(matches!(refused(&bad), Error::CheckpointDamaged { .. }));
    bad.retain(|name, _| !name.ends_with(".wal"));
    assert!(matches!(refused(&bad), Error::CheckpointDamaged { .. }), "also where no log is left to ask");
    bad.get_mut("CHECKPOINT").unwrap().clear();
    assert!(matches!(refused(&bad), Error::CheckpointDamaged { .. }));
}

#[test]
fn k1_a_checkpoint_that_was_put_back_is_noticed() {
    let storage = MemStorage::new();
    let recover = || Wal::options_on(Arc::new(storage.clone())).recover().unwrap();
    let (wal, _) = recover().finish_without_replay().unwrap();
    wal.append(record(b"one")).unwrap();
    let old = storage.files()["CHECKPOINT"].clone();
    wal.append(record(b"two")).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"three")).unwrap();
    wal.append(record(b"four")).unwrap();
    drop(wal);
    let mut files = storage.files();
    files.insert("CHECKPOINT".to_owned(), old.clone());
    assert_eq!(findings(&refused(&files)).findings[0].reason, Reason::StaleCheckpoint);
    // Of an earlier epoch.
    let (wal, _) = recover().finish_without_replay().unwrap();
    wal.append(record(b"five")).unwrap();
    wal.append(record(b"six")).unwrap();
    drop(wal);
    let mut files = storage.files();
    files.insert("CHECKPOINT".to_owned(), old);
    let error = refused(&files);
    assert!(
        findings(&error).findings.iter().any(|finding| finding.reason == Reason::StaleCheckpoint),
        "{error}"
    );
}

#[test]
fn p5_the_clean_end_is_checked() {
    let mut log = LogBuilder::new(1);
    log.record(b"one").record(b"two");
    let end = log.encoder.offset();
    log.seal();
    let clean = |end, next_index| {
        let (log, next_index) = (LogNumber::new(1), Index::new(next_index));
        Some(CleanEnd { log, end, next_index, flushed_logs: Vec::new() })
    };
    let at = |clean_end: Option<CleanEnd>| {
        let known = |checkpoint: &mut Checkpoint| {
            checkpoint.clean_end = clean_end.clone();
            checkpoint.next_index = Index::new(3);
        };
        directory(&[&log], known)
    };
    assert_eq!(open(&at(clean(end, 3))).unwrap().report.verdict, Verdict::Clean);
    for wrong in [clean(end - 1, 3), clean(end + 1, 3), clean(end, 2), clean(end, 4)] {
        assert_eq!(findings(&refused(&at(wrong.clone()))).verdict, Verdict::Damaged, "{wrong:?}");
    }
}

#[test]
fn p5_nothing_is_handed_out_behind_an_error() {
    let mut log = LogBuilder::new(1);
    log.record(b"one").record(&[7; 30]).record(b"two");
    let end = log.encoder.offset();
    log.seal();
    // What the same file is when it is read: a seal where the second record was.
    let mut changed = LogBuilder::new(1);
    changed.record(b"one").seal().record(b"two");
    assert_eq!(changed.encoder.offset(), end);
    for lends in [false, true] {
        let storage = MemStorage::from_files(directory(&[&log], |checkpoint| {
            let (log, next_index) = (LogNumber::new(1), Index::new(4));
            checkpoint.clean_end = Some(CleanEnd { log, end, next_index, flushed_logs: Vec::new() });
            checkpoint.next_index = Index::new(4);
        }));
        let recovery = Wal::options_on(Arc::new(storage.clone())).recover().unwrap();
        storage.open_sink(&name(1)).unwrap().write_at(0, &changed.bytes).unwrap();
        let mut records = recovery.records();
        let payload = if lends {
            records.lend().unwrap().unwrap().payload.to_vec()
        } else {
            records.next().unwrap().unwrap().payload.to_vec()
        };
        assert_eq!(payload, b"one");
        assert!(if lends { records.lend().unwrap().is_err() } else { records.next().unwrap().is_err() });
        assert!(records.next().is_none() && records.lend().is_none(), "nothing behind it: {lends}");
    }
}

#[test]
fn x3_looking_changes_nothing() {
    for files in [written(true), written(false)] {
        let storage = MemStorage::from_files(files.clone());
        let inspection = Wal::options_on(Arc::new(storage.clone())).inspect().unwrap();
        assert_eq!(inspection.records().count(), 9);
        assert!(inspection.checkpoint().is_some());
        assert!(storage.files() == files);
    }
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nothing");
    let error = Wal::options(&missing).inspect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!missing.exists());
    assert_eq!(Wal::options(dir.path()).inspect().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn x3_a_reader_marks_what_is_not_proven() {
    let storage = MemStorage::new();
    let recovery = Wal::options_on(Arc::new(storage.clone())).recover().unwrap();
    let (wal, _) = recovery.finish_without_replay().unwrap();
    for payload in [b"one", b"two", b"six"] {
        wal.append(record(payload)).unwrap();
    }
    // While the writer is there: no lock is needed, and the last group has no promise yet.
    let inspection = Wal::options_on(Arc::new(storage.clone())).inspect().unwrap();
    let proven: Vec<bool> = inspection.records().map(|record| record.unwrap().proven).collect();
    assert_eq!(proven, [true, true, false]);
    wal.close().unwrap();
    let inspection = Wal::options_on(Arc::new(storage)).inspect().unwrap();
    assert!(inspection.records().all(|record| record.unwrap().proven));
}

#[test]
fn z1_errors_say_where() {
    let files = flip(&written(false), 2, 130);
    let error = refused(&files);
    let finding = &findings(&error).findings[0];
    let text = error.to_string();
    assert!(text.contains("mem:/000002.wal") && text.contains(&format!("byte {}", finding.offset)), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    match Wal::options(&file).recover().unwrap_err() {
        Error::Io(error) => assert_eq!((error.path(), error.kind()), (&*file, IoKind::NotADirectory)),
        other => panic!("{other}"),
    }
}

#[test]
fn f34_a_log_under_a_second_name_is_an_error() {
    for bad in ["1.wal", "0000001.wal", "0.wal", "000000.wal", "99999999999999999999999.wal"] {
        let mut files = written(true);
        files.insert(bad.to_owned(), files[&name(1)].clone());
        assert!(matches!(refused(&files), Error::BadLogName { .. }), "{bad}");
    }
    let mut files = written(true);
    files.insert("x.wal.bak".to_owned(), vec![1]);
    assert_eq!(open(&files).unwrap().report.other_files, ["x.wal.bak"]);
}

#[test]
fn k4_positions_and_indices_stay_after_a_partial_deletion_and_a_restart() {
    let storage = MemStorage::from_files(written(false));
    let recover = || Wal::options_on(Arc::new(storage.clone())).recover().unwrap();
    let before: Vec<_> = Wal::options_on(Arc::new(storage.clone())).inspect().unwrap().records().collect();
    let (wal, _) = recover().finish_without_replay().unwrap();
    // The first log goes; the second stays for family 1's sake.
    wal.mark_flushed_all(&[(FamilyId::new(0), SeqNum::new(6)), (FamilyId::new(1), SeqNum::new(3))]).unwrap();
    assert!(!storage.files().contains_key(&name(1)) && storage.files().contains_key(&name(2)));
    let first = wal.append(record(b"ten")).unwrap();
    drop(wal);
    let (wal, report) = recover().finish_without_replay().unwrap();
    assert_eq!((report.first_index.get(), report.next_index.get()), (4, 11));
    let second = wal.append(record(b"eleven")).unwrap();
    assert_eq!((first.index.get(), second.index.get()), (10, 11));
    assert!(first.position < second.position && second.position <= wal.durable());
    wal.mark_flushed(FamilyId::new(1), SeqNum::new(6)).unwrap();
    assert_eq!(wal.flushed(FamilyId::new(0)), Some(SeqNum::new(6)));
    drop(wal);
    // What is left stands where it stood.
    for record in Wal::options_on(Arc::new(storage)).inspect().unwrap().records().map(Result::unwrap) {
        if let Some(Ok(old)) = before.get(record.index.get() as usize - 1).filter(|_| record.log.get() < 3) {
            assert_eq!((record.log, record.offset), (old.log, old.offset));
            assert_eq!(record.payload, old.payload);
        }
    }
}

#[test]
fn x2_an_open_that_fails_changes_nothing_and_fences_nobody() {
    let storage = MemStorage::from_files(flip(&written(false), 2, 130));
    let before = storage.files();
    for _ in 0..3 {
        assert!(Wal::options_on(Arc::new(storage.clone())).recover().is_err());
    }
    assert!(storage.files() == before);
    // Nor does one that comes while another writer is there.
    let storage = MemStorage::new();
    let (wal, _) =
        Wal::options_on(Arc::new(storage.clone())).recover().unwrap().finish_without_replay().unwrap();
    wal.append(record(b"one")).unwrap();
    let before = storage.files();
    assert!(matches!(Wal::options_on(Arc::new(storage.clone())).recover(), Err(Error::Locked { .. })));
    assert!(storage.files() == before);
    assert_eq!(wal.append(record(b"two")).unwrap().index.get(), 2);
}

#[test]
fn v12_numbers_stay_above_what_was_flushed_though_the_log_lost_it() {
    let disk = SimStorage::new();
    let open = |disk: &SimStorage| {
        let recovery = Wal::options_on(Arc::new(disk.clone())).recover().unwrap();
        recovery.finish_without_replay().unwrap().0
    };
    let wal = open(&disk);
    wal.append(record(b"one")).unwrap();
    for _ in 0..4 {
        wal.append_with(record(b"in memory"), Durability::Buffered).unwrap();
    }
    // The engine's table with all five is durable; the log's last four records are not.
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(5)).unwrap();
    let disk = disk.crash_all_lost();
    let wal = open(&disk);
    let appended = wal.append(record(b"six")).unwrap();
    assert_eq!((appended.index.get(), appended.seqs.first().get()), (2, 6), "or replay would skip it");
    let disk = disk.crash_all_lost();
    let recovery = Wal::options_on(Arc::new(disk)).recover().unwrap();
    let payloads: Vec<_> = recovery.records().map(|record| record.unwrap().payload).collect();
    assert_eq!(payloads, [&b"six"[..]]);
}

/// CK1, CK2: an update of CHECKPOINT dies at any operation, the process alone or with the power; the recovery after it dies at any
/// operation with the power; the one after that finds a directory.
#[test]
fn k1_ck2_updates_of_checkpoint_die_at_any_operation_and_so_does_the_recovery() {
    use wal_io::sim::SimOptions;
    let options = SimOptions { tear: true, ..SimOptions::default() };
    let open = |disk: &SimStorage| Wal::options_on(Arc::new(disk.clone())).recover();
    let mut lives = 0;
    for first in 0..5 {
        for second in 0..12 {
            for seed in 0..60 {
                let disk = SimStorage::with_options(options);
                let (wal, _) = open(&disk).unwrap().finish_without_replay().unwrap();
                let seqs = wal.append(record(b"one")).unwrap().seqs;
                wal.append(record(b"two")).unwrap();
                disk.crash_after(first);
                let marked = wal.mark_flushed(FamilyId::DEFAULT, seqs.last()).is_ok();
                drop(wal);
                let disk = if seed % 4 == 0 { disk.crash(seed) } else { disk.process_crash() };
                disk.crash_after(second);
                drop(open(&disk));
                let disk = disk.crash(seed);
                let recovery =
                    open(&disk).unwrap_or_else(|error| panic!("{first}, {second}, seed {seed}: {error}"));
                let indices: Vec<u64> =
                    recovery.records().map(|record| record.unwrap().index.get()).collect();
                assert!(
                    indices == [2] || (!marked && indices == [1, 2]),
                    "{first}, {second}, seed {seed}: {indices:?}"
                );
                lives += 1;
            }
        }
    }
    assert_eq!(lives, 3600);
}

#[cfg(feature = "operator")]
mod counted {
    use wal_manager::metrics;
    use wal_tests::exporter::Exporter;

    use super::*;

    /// What an open, with a replay to its end, counts as damage of each kind, and whether it was refused.
    fn counted(files: Files, kind: &str) -> (Exporter, f64) {
        let exporter = Exporter::default();
        let storage = Arc::new(MemStorage::from_files(files));
        let recovery = exporter.with(|| Wal::options_on(storage).name("mine").recover());
        let refused =
            recovery.and_then(|recovery| recovery.records().collect::<Result<Vec<_>, _>>()).is_err();
        assert_eq!(exporter.value(metrics::REFUSED_RECOVERIES), f64::from(u8::from(refused)), "{kind}");
        let all = ["bytes", "order", "missing", "foreign", "unreadable"];
        let count = |kind: &str| exporter.value(&format!("{} {kind}", metrics::DAMAGE));
        for other in all.into_iter().filter(|other| *other != kind) {
            assert_eq!(count(other), 0.0, "{other} is not {kind}");
        }
        let of_kind = if kind.is_empty() { 0.0 } else { count(kind) };
        (exporter, of_kind)
    }

    #[test]
    fn o4_each_case_of_damage_is_counted_by_its_kind() {
        let (killed, closed) = (written(false), written(true));
        let without = |files: &Files, log| {
            let mut files = files.clone();
            files.remove(&name(log));
            files
        };
        let mut longer = closed.clone();
        longer.get_mut(&name(2)).unwrap().push(1);
        let mut again = LogBuilder::new(1);
        again.record(b"one").record(b"two");
        again.next_seq -= 1;
        again.record(b"again").promise();
        for (case, files, kind) in [
            ("V3: a flip", flip(&killed, 1, 300), "bytes"),
            ("V3: a flip in what is read only when it is handed out", flip(&closed, 1, 300), "bytes"),
            ("V4: a header", flip(&killed, 2, 20), "bytes"),
            ("V6: a log in the middle", without(&closed, 2), "missing"),
            ("V7: the newest log", without(&closed, 3), "missing"),
            ("V8: a sequence number twice", directory(&[&again], |_| {}), "order"),
            ("P5: bytes behind a seal", longer, "foreign"),
        ] {
            let (exporter, count) = counted(files, kind);
            assert_eq!(count, 1.0, "{case}");
            exporter.assert(&[(metrics::REFUSED_RECOVERIES, 1.0), (metrics::TORN_TAILS, 0.0)]);
        }
        // V1: normal after a crash.
        let mut torn = killed.clone();
        let newest = torn.get_mut(&name(3)).unwrap();
        newest.truncate(newest.len() - 5);
        let (exporter, _) = counted(torn, "");
        exporter.assert(&[(metrics::REFUSED_RECOVERIES, 0.0), (metrics::TORN_TAILS, 1.0)]);
        // V2: so is this.
        let mut zeros = killed.clone();
        zeros.get_mut(&name(3)).unwrap().extend([0; 4096]);
        let (exporter, _) = counted(zeros, "");
        exporter.assert(&[(metrics::REFUSED_RECOVERIES, 0.0), (metrics::RECOVERED_RECORDS, 9.0)]);
        // And one bad slot of CHECKPOINT.
        let mut half = killed.clone();
        half.get_mut("CHECKPOINT").unwrap()[10] ^= 1;
        let (exporter, _) = counted(half, "");
        exporter.assert(&[(metrics::REFUSED_RECOVERIES, 0.0), (metrics::CHECKPOINT_FAULTS, 1.0)]);
        // Neither: refused, and no log is damaged.
        let mut none = killed;
        none.remove("CHECKPOINT");
        let (exporter, _) = counted(none, "");
        exporter.assert(&[(metrics::REFUSED_RECOVERIES, 1.0), (metrics::CHECKPOINT_FAULTS, 0.0)]);
    }
}
