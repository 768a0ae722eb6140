//! The life cycle: logs go when their memtables are in tables, and only then; crashes between the two.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod common;

use std::path::Path;

use common::{Model, assert_holds};
use toy_memtable::{Durability, Engine, EngineError, EngineOptions, FamilyId, WriteBatch};
use wal_manager::RECYCLED_LOGS_DEFAULT;

const F: FamilyId = FamilyId::DEFAULT;
const G: FamilyId = FamilyId::new(1);

fn options(dir: &Path) -> EngineOptions {
    Engine::options(dir).log_bytes(64 << 10)
}

fn fill(engine: &Engine, from: u32, to: u32) {
    for number in from..to {
        let mut batch = WriteBatch::new();
        batch.put(F, format!("{number:06}").as_bytes(), &[7; 200]).unwrap();
        engine.write_with(&batch, Durability::Buffered).unwrap();
    }
    engine.sync().unwrap();
}

fn filled(to: u32) -> Model {
    (0..to).map(|number| ((F, format!("{number:06}").into_bytes()), vec![7; 200])).collect()
}

/// After a flush, the log needs nothing that is in the tables. A log stays while it is the active one, and the newest closed one may
/// stay until a record in its successor is durable: two more flushes, and every log that was there must be gone.
fn assert_given_up(engine: &Engine) {
    let before: Vec<_> = engine.logs().into_iter().filter(|log| log.records > 0).map(|log| log.log).collect();
    for _ in 0..2 {
        engine.put(F, b"given up", b"?").unwrap();
        engine.flush().unwrap();
    }
    let after = engine.logs();
    assert!(after.len() <= 2 && after.iter().all(|log| !before.contains(&log.log)), "{before:?} {after:?}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn files(dir: &Path, end: &str) -> usize {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(end)).count()
}

#[test]
fn g1_logs_go_once_their_memtables_are_flushed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = options(&dir).memtable_bytes(64 << 20).open().unwrap();
    fill(&engine, 0, 2_000);
    let before: Vec<_> = engine.logs().iter().map(|log| log.log).collect();
    assert!(before.len() > 3, "several logs by size: {before:?}");
    assert_eq!(engine.stats().logs_deleted, 0);
    engine.flush().unwrap();
    assert!(engine.logs().len() <= 2, "{:?}", engine.logs());
    assert_given_up(&engine);
    // Some go with the marks, others in the background a moment later.
    assert!(engine.stats().logs_deleted > 0);
    assert!(engine.logs().iter().all(|log| !before[..before.len() - 1].contains(&log.log)));
    // And the next one, and those that wait to be used again.
    assert!(files(&dir.join("wal"), ".wal") <= 3 + RECYCLED_LOGS_DEFAULT);
    drop(engine);
    let (engine, report) = options(&dir).open().unwrap();
    assert_eq!(engine.stats().memtable_bytes, 0, "nothing to replay: {report:?}");
    engine.delete(F, b"given up").unwrap();
    assert_holds(&engine, &filled(2_000), "from the table");
}

#[test]
fn g1_the_engine_in_the_long_run_keeps_few_logs_and_few_tables() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = options(&dir).memtable_bytes(60_000).tables_max(4).open().unwrap();
    for round in 0..20 {
        fill(&engine, round * 500, round * 500 + 500);
        assert!(engine.stats().tables <= 5, "{:?}", engine.stats());
        // One active, and those of the sealed memtables; each memtable spans at most two logs.
        assert!(engine.logs().len() <= 8, "{}", engine.logs().len());
    }
    let stats = engine.stats();
    assert!(stats.flushes > 20 && stats.merges > 3 && stats.logs_deleted > 20, "{stats:?}");
    engine.close().unwrap();
    assert!(files(&dir.join("tables"), ".tbl") <= 5);
    let (engine, _) = options(&dir).open().unwrap();
    assert_holds(&engine, &filled(10_000), "after a close");
}

#[test]
fn an_idle_family_pins_no_log() {
    let home = tempfile::tempdir().unwrap();
    let (engine, _) = options(&home.path().join("db")).open().unwrap();
    engine.put(G, b"once", b"and never again").unwrap();
    fill(&engine, 0, 50);
    for _ in 1..4 {
        engine.flush().unwrap();
        assert_given_up(&engine);
        fill(&engine, 0, 50);
    }
    // An operation without effect pins nothing either.
    engine.delete_range(G, b"z", b"a").unwrap();
    engine.flush().unwrap();
    assert_given_up(&engine);
    // Nor a batch whose last operation is another family's.
    let mut batch = WriteBatch::new();
    batch.put(G, b"once", b"more").unwrap();
    batch.put(F, b"given up", b"?").unwrap();
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    assert_given_up(&engine);
}

#[test]
fn a_crash_before_any_flush_is_replayed() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    for round in 1..5_u32 {
        let (engine, report) = options(&dir).open().unwrap();
        assert_eq!(report.next_index.get(), u64::from((round - 1) * 100 + 1));
        assert_holds(&engine, &filled((round - 1) * 100), "replayed");
        fill(&engine, (round - 1) * 100, round * 100);
        drop(engine);
    }
    assert_eq!(files(&dir.join("tables"), ".tbl"), 0);
}

#[test]
fn a_long_log_is_replayed_through_tables_not_through_memory() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = options(&dir).memtable_bytes(64 << 20).open().unwrap();
    fill(&engine, 0, 3_000);
    drop(engine);
    let (engine, report) = options(&dir).memtable_bytes(50_000).tables_max(3).open().unwrap();
    assert_eq!(report.records, 3_000);
    let stats = engine.stats();
    assert!(stats.memtable_bytes < 50_000 && (1..=4).contains(&stats.tables), "{stats:?}");
    assert_holds(&engine, &filled(3_000), "replayed");
    let kept: u64 = engine.logs().iter().map(|log| log.records).sum();
    assert!(kept < 1_500, "the log was told what is in the tables: {kept} records are left");
    drop(engine);
    let (engine, _) = options(&dir).open().unwrap();
    assert_holds(&engine, &filled(3_000), "replayed again");
}

/// The log is told after MANIFEST. Between the two, both hold the records: a merge must not count twice.
#[test]
fn a_crash_between_manifest_and_the_log_applies_nothing_twice() {
    let home = tempfile::tempdir().unwrap();
    let (dir, crashed) = (home.path().join("db"), home.path().join("crashed"));
    let (engine, _) = options(&dir).open().unwrap();
    engine.merge(F, b"f", b"1").unwrap();
    engine.merge(G, b"g", b"2").unwrap();
    copy(&dir.join("wal"), &crashed.join("wal"));
    engine.flush().unwrap();
    copy(&dir.join("tables"), &crashed.join("tables"));
    drop(engine);
    for round in 0..2 {
        let (engine, report) = options(&crashed).open().unwrap();
        assert_eq!(engine.get(F, b"f").unwrap().as_deref(), Some(&b"1"[..]), "round {round}");
        assert_eq!(engine.get(G, b"g").unwrap().as_deref(), Some(&b"2"[..]), "round {round}");
        assert_eq!(report.next_index.get(), 3 + 2 * round);
        assert_given_up(&engine);
    }
    let (engine, _) = options(&crashed).open().unwrap();
    engine.merge(F, b"f", b"3").unwrap();
    drop(engine);
    let (engine, _) = options(&crashed).open().unwrap();
    assert_eq!(engine.get(F, b"f").unwrap().as_deref(), Some(&b"13"[..]));
}

#[test]
fn tables_and_log_of_different_times_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let (dir, old_tables, old_log) = (home.path().join("db"), home.path().join("a"), home.path().join("b"));
    let (engine, _) = options(&dir).open().unwrap();
    engine.close().unwrap();
    copy(&dir.join("tables"), &old_tables.join("tables"));
    copy(&dir.join("wal"), &old_log.join("wal"));
    let (engine, _) = options(&dir).open().unwrap();
    fill(&engine, 0, 10);
    engine.flush().unwrap();
    engine.close().unwrap();
    copy(&dir.join("wal"), &old_tables.join("wal"));
    copy(&dir.join("tables"), &old_log.join("tables"));
    let error = options(&old_tables).open().unwrap_err();
    assert!(matches!(error, EngineError::TablesBehind { family: F, tables: None, .. }), "{error}");
    let error = options(&old_log).open().unwrap_err();
    assert!(matches!(error, EngineError::LogBehind { family: F, .. }), "{error}");
    std::fs::remove_file(dir.join("tables/MANIFEST")).unwrap();
    let error = options(&dir).open().unwrap_err();
    assert!(matches!(error, EngineError::ManifestMissing { .. }), "{error}");
}

#[test]
fn a_damaged_table_is_a_typed_error_and_the_rest_still_reads() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = options(&dir).open().unwrap();
    fill(&engine, 0, 200);
    engine.flush().unwrap();
    engine.close().unwrap();
    let table = dir.join("tables/000001.tbl");
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let (engine, _) = options(&dir).open().unwrap();
    let error = engine.get(F, b"000000").unwrap_err();
    assert!(matches!(&error, EngineError::Table { path, offset: 0, .. } if *path == table), "{error}");
    assert!(engine.get(F, b"000199").unwrap().is_some(), "another block");
    let mut scan = engine.scan(F, ..);
    assert!(matches!(scan.next(), Some(Err(EngineError::Table { .. }))));
    assert!(scan.next().is_none());
}

#[test]
fn a_failed_flush_stops_the_writers_and_the_log_keeps_everything() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = options(&dir).memtable_bytes(20_000).open().unwrap();
    engine.put(F, b"before", b"1").unwrap();
    // The name of the next table is taken: creating it fails.
    std::fs::write(dir.join("tables/000001.tbl"), b"in the way").unwrap();
    assert!(matches!(engine.flush(), Err(EngineError::FlushFailed { .. })));
    let error = engine.put(F, b"after", b"2").unwrap_err();
    assert!(
        matches!(&error, EngineError::FlushFailed { cause } if matches!(**cause, EngineError::Io(_))),
        "{error}"
    );
    assert_eq!(engine.get(F, b"before").unwrap().as_deref(), Some(&b"1"[..]), "reads still work");
    assert_eq!(engine.stats().logs_deleted, 0);
    assert!(matches!(engine.close(), Err(EngineError::FlushFailed { .. })));
    drop(engine);
    // The file in the way is an orphan, and goes.
    let (engine, _) = options(&dir).open().unwrap();
    assert_eq!(engine.get(F, b"before").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(engine.get(F, b"after").unwrap(), None);
    engine.flush().unwrap();
    assert_eq!(engine.stats().tables, 1);
}

#[test]
fn a_second_engine_is_locked_out_and_touches_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("db");
    let (engine, _) = options(&dir).open().unwrap();
    // As if the first were just writing it.
    std::fs::write(dir.join("tables/000001.tbl"), b"half a table").unwrap();
    let error = options(&dir).open().unwrap_err();
    assert!(
        matches!(&error, EngineError::Wal(cause) if matches!(**cause, wal_manager::Error::Locked { .. })),
        "{error}"
    );
    assert!(dir.join("tables/000001.tbl").exists());
    drop(engine);
    options(&dir).open().unwrap();
}

#[test]
fn refused_input_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (engine, _) = options(&home.path().join("db")).open().unwrap();
    assert!(matches!(engine.write(&WriteBatch::new()), Err(EngineError::Wal(_))));
    assert!(matches!(engine.put(FamilyId::new(1 << 24), b"k", b"v"), Err(EngineError::Batch(_))));
    // Later writes are not held up by the refused one.
    engine.put(F, b"k", b"v").unwrap();
    assert_eq!(engine.get(F, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    for wrong in [options(home.path()).memtable_bytes(0), options(home.path()).tables_max(0)] {
        assert!(matches!(wrong.open(), Err(EngineError::InvalidOption { .. })));
    }
}
