//! File systems that are small, read-only or odd, mounted for the test: needs root.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::TempDir;
use wal_manager::io::probe::Way;
use wal_manager::{Error, ErrorKind, FamilyId, Wal};
use wal_tests::life::{errno, payload, record, reopen};
use wal_tests::real::{Held, Outcome, check, input, lines, look, prepare, recover, run};

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// A mounted file system, taken down at the end.
struct Mounted {
    path: PathBuf,
    _outer: TempDir,
}

impl Mounted {
    fn new(kind: &str, path: PathBuf, options: &str, outer: TempDir) -> Self {
        let options = CString::new(options).unwrap();
        mount("wal-tests", &path, kind, MountFlags::NOSUID | MountFlags::NODEV, &*options)
            .unwrap_or_else(|error| panic!("this test mounts a {kind}, which needs root: {error}"));
        Self { path, _outer: outer }
    }

    fn tmpfs(options: &str) -> Self {
        let outer = tempfile::tempdir().unwrap();
        Self::new("tmpfs", outer.path().to_owned(), options, outer)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

fn walctl(verb: &str, dir: &Path, options: &[&str], input: &[u8]) -> Outcome {
    run(Command::new(WALCTL).arg(verb).arg(dir).args(options), input)
}

fn files(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let read = |entry: fs::DirEntry| (entry.file_name(), fs::read(entry.path()).unwrap());
    fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect()
}

#[test]
#[ignore = "needs root, to mount: .ci/run runs it"]
fn f48_f53_a_disk_that_fills_up_in_the_middle_of_a_record_loses_none_before_it() {
    let mounted = Mounted::tmpfs("size=1m");
    let dir = mounted.path.join("wal");
    let held = prepare(&dir);
    let lines = lines(200, 9_000);
    let outcome = walctl("append", &dir, &[], &input(&lines));
    assert_eq!(outcome.code(), Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("(os error 28)"), "{outcome:?}");
    let acked = outcome.acknowledged();
    assert!(acked.len() > 50 && acked.len() < lines.len(), "{}", acked.len());
    // Readers need no space; a writer says what is missing, as often as it is asked.
    for _ in 0..2 {
        assert_eq!(walctl("verify", &dir, &[], b"").code(), Some(0));
        check(&held, &lines, &acked, 1, &look(&dir));
        let again = walctl("append", &dir, &[], b"one more\n");
        assert!([Some(0), Some(3)].contains(&again.code()), "{again:?}");
        assert!(again.code() == Some(0) || again.stderr.contains("(os error 28)"), "{again:?}");
        if again.code() == Some(0) {
            break;
        }
    }
    // With space again everything goes on.
    let more = CString::new("size=8m").unwrap();
    mount_remount(&mounted.path, MountFlags::empty(), &*more).unwrap();
    let before = recover(&dir);
    check(&held, &[&lines[..], &[b"one more".to_vec()]].concat(), &acked, 4, &before);
    let on = walctl("append", &dir, &[], &input(&lines));
    assert_eq!((on.code(), on.acknowledged().len()), (Some(0), lines.len()), "{on:?}");
    check(&before, &lines, &on.acknowledged(), 1, &recover(&dir));
}

#[test]
#[ignore = "needs root, to mount: .ci/run runs it"]
fn f50_a_rotation_on_a_full_disk_is_refused_keeps_the_log_and_works_when_there_is_space() {
    // A disk is full for a rotation when it has no room for another file.
    let mounted = Mounted::tmpfs("size=4m,nr_inodes=12");
    let dir = mounted.path.join("wal");
    let (wal, ..) = reopen(Wal::options(&dir));
    let mut held = Held::new();
    let append = |held: &mut Held, text: &str| {
        let appended = wal.append(record(text.as_bytes())).unwrap();
        held.push((appended.seqs.first().get(), text.as_bytes().to_vec()));
    };
    append(&mut held, "with space");
    let filler: Vec<PathBuf> = (0..12).map(|number| mounted.path.join(format!("filler{number}"))).collect();
    let made = filler.iter().take_while(|path| fs::write(path, b"").is_ok()).count();
    assert!(made > 0 && made < filler.len());
    for text in ["one", "two"] {
        let error = wal.rotate().unwrap_err();
        assert_eq!((error.kind(), errno(&error)), (ErrorKind::Full, Some(ENOSPC)), "{error}");
        assert!(!matches!(error, Error::Poisoned { .. }));
        append(&mut held, text);
        assert!(look(&dir) == held, "the open log is intact");
    }
    filler.iter().take(made).for_each(|path| fs::remove_file(path).unwrap());
    assert!(wal.rotate().unwrap().is_some());
    append(&mut held, "in the next log");
    wal.close().unwrap();
    drop(wal);
    assert!(recover(&dir) == held);
}

#[test]
#[ignore = "needs root, to mount: .ci/run runs it"]
fn g9_f48_f50_one_process_goes_on_when_the_full_disk_has_space_again() {
    for way in [Way::Append, Way::Filled] {
        let mounted = Mounted::tmpfs("size=6m");
        let dir = mounted.path.join("wal");
        let open = || Wal::options(&dir).log_bytes(1 << 20).way(way).background(false);
        let (wal, ..) = reopen(open());
        let mut held = Held::new();
        let append = |held: &mut Held, number: u64| {
            let bytes = payload(number, 9_000);
            let appended = wal.append(record(&bytes))?;
            held.push((appended.seqs.first().get(), bytes));
            Ok::<_, Error>(())
        };
        append(&mut held, 0).unwrap();
        wal.housekeep().unwrap();
        let error = (1..2_000).find_map(|number| append(&mut held, number).err()).expect("it gets full");
        assert_eq!(errno(&error), Some(ENOSPC), "{error}");
        let expected = if way == Way::Append { ErrorKind::Poisoned } else { ErrorKind::Full };
        assert_eq!(error.kind(), expected, "{error}");
        let in_doubt = usize::from(way == Way::Append);
        for number in 0..20 {
            assert_eq!(append(&mut held, number).unwrap_err().kind(), ErrorKind::Full);
        }
        // Readers read, marks are taken, and what is flushed goes.
        assert!(look(&dir).len() >= held.len());
        // The first one is short where the next is filled.
        let flushed = wal.logs()[1].seqs.unwrap().last();
        assert_eq!(wal.mark_flushed(FamilyId::DEFAULT, flushed).unwrap().deleted.len(), 2);
        append(&mut held, 1).unwrap();
        // And again; this time somebody else makes space.
        let error =
            (1..2_000).find_map(|number| append(&mut held, number).err()).expect("it gets full again");
        assert_eq!(errno(&error), Some(ENOSPC), "{error}");
        let more = CString::new("size=16m").unwrap();
        mount_remount(&mounted.path, MountFlags::empty(), &*more).unwrap();
        #[allow(clippy::disallowed_methods, reason = "the real clock bounds how often a full disk is tried")]
        std::thread::sleep(wal_manager::DISK_RETRY);
        append(&mut held, 2).unwrap();
        wal.close().unwrap();
        drop(wal);
        let found = recover(&dir);
        held.retain(|(seq, _)| *seq > flushed.get());
        let acknowledged = held.iter().filter(|one| found.contains(one)).count();
        assert_eq!(acknowledged, held.len());
        assert!(found.len() <= held.len() + 2 * in_doubt, "{} of {}", found.len(), held.len());
    }
}

#[test]
#[ignore = "needs root, to mount: .ci/run runs it"]
fn f50_an_open_on_a_disk_without_a_byte_takes_the_reserve() {
    let mounted = Mounted::tmpfs("size=6m");
    let dir = mounted.path.join("wal");
    let open = || Wal::options(&dir).log_bytes(1 << 20).way(Way::Filled).background(false);
    let (wal, ..) = reopen(open());
    wal.append(record(b"one")).unwrap();
    wal.housekeep().unwrap();
    let acked = (0..2_000).take_while(|number| wal.append(record(&payload(*number, 9_000))).is_ok()).count();
    wal.close().unwrap();
    drop(wal);
    // Whatever is left is taken by somebody else.
    let mut filler = fs::File::create(mounted.path.join("filler")).unwrap();
    while std::io::Write::write(&mut filler, &[0; 4096]).is_ok_and(|written| written > 0) {}
    let (wal, records, _) = reopen(open());
    assert_eq!(records.len(), acked + 1);
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap();
    wal.append(record(b"goes on")).unwrap();
    wal.close().unwrap();
}

#[test]
#[ignore = "needs root, to mount: .ci/run runs it"]
fn f59_on_a_file_system_that_turns_read_only_readers_read_and_writers_get_typed_errors() {
    let mounted = Mounted::tmpfs("size=4m");
    let dir = mounted.path.join("wal");
    let held = prepare(&dir);
    let before = files(&dir);
    let none = CString::new("").unwrap();
    mount_remount(&mounted.path, MountFlags::RDONLY, &*none).unwrap();
    assert!(look(&dir) == held);
    for verb in ["verify", "dump", "ls"] {
        assert_eq!(walctl(verb, &dir, &[], b"").code(), Some(0), "{verb}");
    }
    for (verb, options) in [("append", &[][..]), ("gc", &["--flushed", "5"])] {
        let refused = walctl(verb, &dir, options, b"no\n");
        assert_eq!(refused.code(), Some(3), "{refused:?}");
        assert!(refused.stderr.contains("(os error 30)") && refused.stdout.is_empty(), "{refused:?}");
    }
    let error = Wal::options(&dir).recover().unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Io, Some(EROFS)), "{error}");
    let error = Wal::options(mounted.path.join("new")).recover().unwrap_err();
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::Io, Some(EROFS)), "{error}");
    assert!(files(&dir) == before);
    mount_remount(&mounted.path, MountFlags::empty(), &*none).unwrap();
    assert!(recover(&dir) == held);
}

/// A life on whatever file system this is: appends, rotations, deletions, kills, two processes.
fn live(dir: &Path) {
    let mut held = prepare(dir);
    for (round, options) in [(0, &["--writers", "1"][..]), (1, &["--writers", "4"]), (2, &["--writers", "2"])]
    {
        let lines: Vec<_> =
            lines(30, 9_000).into_iter().map(|line| [&line[..], &[b'a' + round]].concat()).collect();
        let mut all = vec!["--log-bytes", "65536"];
        all.extend(options);
        let outcome = walctl("append", dir, &all, &input(&lines));
        assert_eq!((outcome.code(), outcome.acknowledged().len()), (Some(0), 30), "{outcome:?}");
        let found = recover(dir);
        check(&held, &lines, &outcome.acknowledged(), if round == 0 { 1 } else { 4 }, &found);
        assert!(look(dir) == found);
        held = found;
    }
    let (wal, ..) = reopen(Wal::options(dir));
    assert_eq!(walctl("append", dir, &[], b"no\n").code(), Some(4), "locks work between processes");
    wal.append(record(b"last")).unwrap();
    drop(wal);
    let flushed = held[60].0.to_string();
    let gc = walctl("gc", dir, &["--flushed", &flushed], b"");
    assert_eq!(gc.code(), Some(0), "{gc:?}");
    let left = look(dir);
    assert!(left.len() < held.len() && left.last().unwrap().1 == b"last");
    assert_eq!(walctl("verify", dir, &[], b"").code(), Some(0));
}

#[test]
#[ignore = "needs root, to mount: .ci/run runs it"]
fn f73_a_life_on_tmpfs_and_on_overlay() {
    let mounted = Mounted::tmpfs("size=32m");
    live(&mounted.path.join("wal"));
    // A log that is in the lower layer is copied up when it is written to; what is deleted is whited out.
    let [lower, upper, work, merged] =
        ["lower", "upper", "work", "merged"].map(|name| mounted.path.join(name));
    for path in [&lower, &upper, &work, &merged] {
        fs::create_dir(path).unwrap();
    }
    let held = prepare(&lower.join("old"));
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let overlay = Mounted::new("overlay", merged, &options, tempfile::tempdir().unwrap());
    live(&overlay.path.join("wal"));
    let below = files(&lower.join("old"));
    let old = overlay.path.join("old");
    assert!(recover(&old) == held);
    let gc = walctl("gc", &old, &["--flushed", "5"], b"");
    assert_eq!(gc.code(), Some(0), "{gc:?}");
    assert!(recover(&old) == held[5..]);
    assert!(files(&lower.join("old")) == below);
}

#[test]
#[ignore = "needs root and bindfs: .ci/run runs it"]
fn f73_a_life_on_fuse() {
    let outer = tempfile::tempdir().unwrap();
    let [below, mounted] = ["below", "mounted"].map(|name| outer.path().join(name));
    for path in [&below, &mounted] {
        fs::create_dir(path).unwrap();
    }
    let bindfs = Command::new("bindfs").args([&below, &mounted]).status();
    assert!(bindfs.is_ok_and(|status| status.success()), "this test mounts a FUSE file system with bindfs");
    let mounted = Mounted { path: mounted, _outer: outer };
    live(&mounted.path.join("wal"));
    assert_eq!(look(&below.join("wal")), look(&mounted.path.join("wal")));
}
