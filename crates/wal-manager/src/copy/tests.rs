use std::fs;
use std::sync::Arc;

use wal_format::{FamilyId, WriteBatch};
use wal_io::mem::MemStorage;

use super::*;

/// A log with one record.
fn log() -> Wal {
    let recovery = Wal::options_on(Arc::new(MemStorage::new())).recover().unwrap();
    let wal = recovery.finish_without_replay().unwrap().0;
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"key", b"value").unwrap();
    wal.append(&batch).unwrap();
    wal
}

fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Two copies to one target: the second has opened the directory that the first is filling, and takes its lock when the first is done.
#[test]
fn w5_a_directory_that_got_its_name_meanwhile_is_not_emptied() {
    let scratch = tempfile::tempdir().unwrap();
    let (target, making) = (scratch.path().join("copy"), scratch.path().join("copy.making"));
    let second = FsStorage::create(&making).unwrap();
    let report = log().copy_to(&target).unwrap();
    let before = names(&target);
    assert!(Target::emptied(&second).unwrap().is_none());
    assert_eq!(names(&target), before);
    let inspection = Wal::options(&target).inspect().unwrap();
    assert_eq!((inspection.records().count() as u64, report.records), (1, 1));
    let again = log().copy_to(&target).unwrap_err();
    assert!(matches!(again, Error::TargetNotEmpty { .. }), "{again}");
    assert_eq!(names(scratch.path()), ["copy"]);
}

/// The same when the first one failed, and has removed what it had.
#[test]
fn w5_a_directory_that_was_given_up_meanwhile_is_made_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let (target, making) = (scratch.path().join("copy"), scratch.path().join("copy.making"));
    let second = FsStorage::create(&making).unwrap();
    let failed = in_directory(target.clone(), |_| Err::<CopyReport, _>(Error::Closed));
    assert!(matches!(failed, Err(Error::Closed)));
    assert!(Target::emptied(&second).unwrap().is_none());
    log().copy_to(&target).unwrap();
    assert_eq!(names(scratch.path()), ["copy"]);
}

/// A second copy to the same target while the first is at work.
#[test]
fn w5_a_target_that_is_being_made_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let target = scratch.path().join("copy");
    let second = log();
    let refused = in_directory(target.clone(), |_| {
        // Whoever comes now finds the directory taken.
        second.copy_to(&target)
    });
    assert!(matches!(refused, Err(Error::Locked { .. })));
    assert_eq!(names(scratch.path()), [""; 0]);
}
