//! What the completions of a ring say is what the caller gets: short writes are continued, interrupted calls made again, errors are errors.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::calls::Calls;
use super::super::direct::DirectFile;
use super::super::fork::Owner;
use super::super::{FsFile, FsStorage};
use super::*;
use crate::{Access, Entry, IoError, Lock, Operation, Sink, Source, Storage};

const EINTR: i32 = -4;
const EIO: i32 = -5;
const EAGAIN: i32 = -11;
const ENOSPC: i32 = -28;
const ECANCELED: i32 = -125;

/// Set by who knows that there are rings: no test may pass without one.
const REQUIRED: &str = "WAL_RINGS_REQUIRED";

/// A ring. None where the kernel has none for us.
fn ring() -> Option<Ring> {
    match Ring::new() {
        Ok(ring) => Some(ring),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, and there are none: {error}");
            println!("passed over: {error}");
            None
        }
    }
}

/// A file that is written through a ring, and whose next results are replaced. None where the kernel has no ring for us.
fn file(outer: &TempDir, results: &[Option<i32>]) -> Option<FsFile> {
    let ring = ring()?;
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
fn f52_f53_short_writes_are_continued_and_interrupted_ones_made_again() {
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
fn f48_f53_an_error_at_the_completion_is_the_callers() {
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
fn f44_f52_f53_written_and_synced_in_one_is_as_good_as_in_two() {
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

/// A directory whose files are written through rings wherever they would be past the cache.
#[derive(Debug)]
struct Rings(FsStorage);

impl Rings {
    fn access(access: Access) -> Access {
        if access == Access::Direct { Access::Ring } else { access }
    }
}

impl Storage for Rings {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.0.list()
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.0.create_with(name, Self::access(access))
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.0.open_sink_with(name, Self::access(access))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        self.0.open_source(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.0.rename(from, to)
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.0.unlink(name)
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.0.sync_dir()
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.0.sync_parents()
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        self.0.lock(name)
    }
}

#[test]
fn i7_i8_fs_conforms_through_rings() {
    let outer = directory();
    let number = std::cell::Cell::new(0);
    if ring().is_none() {
        return;
    }
    let violations = crate::conformance::check_all(|| {
        number.set(number.get() + 1);
        Rings(FsStorage::create(outer.path().join(number.get().to_string())).unwrap())
    });
    assert_eq!(violations, []);
}
