//! What the completions of a ring say is what the caller gets: short writes are continued, interrupted calls made again, errors are errors.

use std::io::ErrorKind;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::calls::Calls;
use super::super::direct::DirectFile;
use super::super::fork::Owner;
use super::super::{FsFile, FsStorage};
use super::*;
use crate::{Access, IoError, Operation, Sink, Source};

const EINTR: i32 = -4;
const EIO: i32 = -5;
const EAGAIN: i32 = -11;
const ENOSPC: i32 = -28;
const ECANCELED: i32 = -125;

/// A file that is written through a ring, and whose next results are replaced. None where the kernel has no ring for us.
fn file(outer: &TempDir, results: &[Option<i32>]) -> Option<FsFile> {
    let ring = match Ring::new() {
        Ok(ring) => ring,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            println!("passed over: {error}");
            return None;
        }
    };
    ring.locked().replaced.extend(results);
    let path = outer.path().join("a");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    Some(FsFile { path, file, owner: Arc::new(Owner::here()), calls: Calls::Ring(Box::new(ring)) })
}

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap()
}

/// The access; the result; what is in the file; how many replaced results nobody has asked for.
type Outcome = (Access, Result<(), IoError>, Vec<u8>, usize);

/// Runs on a cached and on a direct file, whose next results are replaced, and tells what came of it.
fn both(results: &[Option<i32>], run: impl Fn(&dyn Sink) -> Result<(), IoError>) -> Vec<Outcome> {
    let outer = directory();
    let mut outcomes = Vec::new();
    for access in [Access::Cached, Access::Direct] {
        let Some(file) = file(&outer, results) else { return Vec::new() };
        let direct = DirectFile::new(Operation::Open, file).unwrap();
        if access == Access::Direct {
            let result = run(&direct);
            outcomes.push((access, result, content(&outer), left(direct.file())));
        } else {
            let Some(cached) = self::file(&outer, results) else { return Vec::new() };
            let result = run(&cached);
            outcomes.push((access, result, content(&outer), left(&cached)));
        }
    }
    outcomes
}

fn content(outer: &TempDir) -> Vec<u8> {
    std::fs::read(outer.path().join("a")).unwrap()
}

/// How many replaced results nobody has asked for.
fn left(file: &FsFile) -> usize {
    let Calls::Ring(ring) = &file.calls else { return 0 };
    ring.locked().replaced.len()
}

const BYTES: [u8; 8192] = [7; 8192];

#[test]
fn f45_short_writes_are_continued_and_interrupted_ones_made_again() {
    for results in [&[Some(4096)] as &[_], &[Some(512), Some(1024), Some(EINTR)], &[Some(EINTR), Some(EINTR)]]
    {
        for (access, result, content, left) in both(results, |sink| sink.write_at(0, &BYTES)) {
            assert!(
                result.is_ok() && content == BYTES && left == 0,
                "{access:?} {results:?}: {result:?}, {left}"
            );
        }
    }
}

#[test]
fn f43_f45_f47_an_error_at_the_completion_is_the_callers() {
    let cases = [(EIO, Operation::Write), (ENOSPC, Operation::Write), (EAGAIN, Operation::Write)];
    for (number, operation) in cases {
        for results in [vec![Some(number)], vec![Some(4096), Some(number)]] {
            for (access, result, _, left) in both(&results, |sink| sink.write_at(0, &BYTES)) {
                let error = result.unwrap_err();
                let found = (error.operation(), error.raw_os_error(), error.offset(), left);
                assert_eq!(found, (operation, Some(-number), Some(0), 0), "{access:?} {results:?}");
            }
        }
    }
    for (access, result, _, left) in both(&[Some(0)], |sink| sink.write_at(0, &BYTES)) {
        assert_eq!((result.unwrap_err().kind(), left), (ErrorKind::WriteZero, 0), "{access:?}");
    }
}

#[test]
fn f44_a_failed_sync_is_an_error_and_is_not_made_again() {
    for number in [EIO, ENOSPC, EAGAIN, ECANCELED] {
        for all in [false, true] {
            let sync = |sink: &dyn Sink| if all { sink.sync_all() } else { sink.sync_data() };
            for (access, result, _, left) in both(&[Some(number), Some(0)], sync) {
                assert_eq!((result.unwrap_err().raw_os_error(), left), (Some(-number), 1), "{access:?}");
            }
        }
    }
    for (access, result, _, left) in both(&[Some(EINTR)], |sink| sink.sync_data()) {
        assert!(result.is_ok() && left == 0, "{access:?}: {result:?}");
    }
}

#[test]
fn f44_f45_written_and_synced_in_one_is_as_good_as_in_two() {
    // What a cached file makes of two linked results, and a direct one of single ones.
    let good: [&[Option<i32>]; 5] = [
        &[],
        // A short write, and the sync behind it was not made.
        &[Some(4096), Some(ECANCELED)],
        &[Some(EINTR), Some(ECANCELED)],
        // Written, and the sync was interrupted.
        &[None, Some(EINTR)],
        &[Some(512), Some(ECANCELED), Some(EINTR), Some(512)],
    ];
    for results in good {
        let outer = directory();
        let Some(cached) = file(&outer, results) else { return };
        let result = cached.write_synced_at(0, &BYTES);
        assert!(result.is_ok() && content(&outer) == BYTES && left(&cached) == 0, "{results:?}: {result:?}");
    }
    for results in [[Some(EIO), Some(ECANCELED)], [None, Some(EIO)], [None, Some(ENOSPC)]] {
        let outer = directory();
        let Some(cached) = file(&outer, &results) else { return };
        let error = cached.write_synced_at(0, &BYTES).unwrap_err();
        assert!([Some(5), Some(28)].contains(&error.raw_os_error()), "{results:?}: {error}");
    }
    // The sync that follows a short write fails.
    let outer = directory();
    let Some(cached) = file(&outer, &[Some(4096), Some(ECANCELED), None, Some(EIO), Some(0)]) else { return };
    assert_eq!(cached.write_synced_at(0, &BYTES).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(left(&cached), 1);
    let outer = directory();
    let Some(direct) = file(&outer, &[Some(4096), Some(EINTR), None, Some(EIO), Some(0)]) else { return };
    let direct = DirectFile::new(Operation::Open, direct).unwrap();
    direct.write_synced_at(0, &BYTES).unwrap();
    assert_eq!(direct.write_synced_at(8192, b"more").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(left(direct.file()), 1);
    // Nothing is believed of the block that failed: it is read again.
    let Calls::Ring(ring) = &direct.file().calls else { return };
    ring.locked().replaced.clear();
    direct.write_synced_at(8192, b"more").unwrap();
    assert!(content(&outer).starts_with(&[BYTES.as_slice(), b"more\0"].concat()));
}

#[test]
fn a_ring_that_is_broken_stays_so() {
    let outer = directory();
    let Some(file) = file(&outer, &[]) else { return };
    let Calls::Ring(ring) = &file.calls else { return };
    ring.locked().ring = None;
    assert_eq!(file.write_at(0, b"x").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.length().unwrap(), 0);
}

#[test]
fn i7_fs_conforms_through_rings() {
    let outer = directory();
    let number = std::cell::Cell::new(0);
    if Ring::new().is_err() {
        return;
    }
    let violations = crate::conformance::check_all(|| {
        number.set(number.get() + 1);
        FsStorage::create(outer.path().join(number.get().to_string())).unwrap().through_rings().unwrap()
    });
    assert_eq!(violations, []);
}
