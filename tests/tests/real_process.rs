//! The process and what is around it: limits, forks, odd files, directories that move, readers beside a deletion.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use wal_manager::{Clock, Durability, Error, ErrorKind, FamilyId, SeqNum, Wal};
use wal_tests::life::{KIND, errno, record, reopen, within};
use wal_tests::real::{Held, Outcome, check, input, lines, look, prepare, recover, run};

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

/// Says what the child of a test is to do, and where.
const ROLE: &str = "REAL_PROCESS_ROLE";
const DIRECTORY: &str = "REAL_PROCESS_DIRECTORY";

fn walctl(verb: &str, dir: &Path, options: &[&str], input: &[u8]) -> Outcome {
    run(Command::new(WALCTL).arg(verb).arg(dir).args(options), input)
}

/// `walctl`, started by a shell that first does something to its own process.
fn walctl_after(first: &str, verb: &str, dir: &Path, options: &[&str], input: &[u8]) -> Outcome {
    let script = format!("{first}; exec \"$@\"");
    run(Command::new("sh").args(["-c", &script, "sh", WALCTL, verb]).arg(dir).args(options), input)
}

/// This test binary again, as another process with one thread, which runs only [`child_process`].
fn child(role: &str, dir: &Path) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_process", "--exact", "--nocapture", "--test-threads=1"]);
    let outcome = run(command.env(ROLE, role).env(DIRECTORY, dir), b"");
    assert_eq!(outcome.code(), Some(0), "{}{}", String::from_utf8_lossy(&outcome.stdout), outcome.stderr);
}

/// What the child does; as a test of its own it does nothing.
#[test]
fn child_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIRECTORY)) else { return };
    match role.as_str() {
        "fork" => fork(Path::new(&dir)),
        "change directory" => change_directory(Path::new(&dir)),
        other => panic!("no role {other}"),
    }
}

/// Every name: its bytes, if it is a file, and when it was changed.
fn snapshot(dir: &Path) -> BTreeMap<OsString, (Vec<u8>, i64, i64)> {
    let entry = |entry: fs::DirEntry| {
        let metadata = entry.path().symlink_metadata().unwrap();
        let bytes = if metadata.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        (entry.file_name(), (bytes, metadata.mtime(), metadata.mtime_nsec()))
    };
    fs::read_dir(dir).unwrap().map(|found| entry(found.unwrap())).collect()
}

/// A directory as [`prepare`] makes it.
fn prepared() -> (tempfile::TempDir, PathBuf, Held) {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("wal");
    let held = prepare(&dir);
    (outer, dir, held)
}

#[test]
fn f22_readers_beside_deletions_of_another_process_see_a_whole_suffix_or_keep_what_they_have_open() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("wal");
    let (wal, ..) = reopen(Wal::options(&dir));
    let mut all = Held::new();
    for number in 0..60_u64 {
        let payload = format!("{number} {:.<500}", "");
        let appended = wal.append_with(record(payload.as_bytes()), Durability::Written).unwrap();
        all.push((appended.seqs.first().get(), payload.into_bytes()));
        if number % 6 == 5 {
            wal.rotate().unwrap();
        }
    }
    wal.close().unwrap();
    drop(wal);
    // Opened before anything goes, and read half.
    let inspection = Wal::options(&dir).inspect().unwrap();
    let mut early = inspection.records();
    let mut seen: Held = Vec::new();
    let take = |found: Option<wal_manager::Result<wal_manager::RecoveredRecord>>| {
        found.map(|found| found.map(|record| (record.seqs.first().get(), record.payload.to_vec())))
    };
    while seen.len() < 7 {
        seen.push(take(early.next()).unwrap().unwrap());
    }
    let done = AtomicU64::new(0);
    let looks = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut looks, mut least) = (0, all.len());
            loop {
                let last = done.load(Ordering::SeqCst) == 1;
                let found = look(&dir);
                assert!(
                    all.ends_with(&found),
                    "a hole: {:?}",
                    found.iter().map(|(seq, _)| seq).collect::<Vec<_>>()
                );
                assert!(found.len() <= least, "what was deleted is back");
                (looks, least) = (looks + 1, found.len());
                if last {
                    assert!(found.len() < 20, "{}", found.len());
                    return looks;
                }
            }
        });
        for flushed in (6..=54).step_by(6) {
            let gc = walctl("gc", &dir, &["--flushed", &flushed.to_string()], b"");
            assert_eq!(gc.code(), Some(0), "{gc:?}");
        }
        done.store(1, Ordering::SeqCst);
        reader.join().unwrap()
    });
    println!("{looks} looks beside 9 deletions");
    // The early reader goes on with the files that it has open, though their names are gone.
    while let Some(found) = take(early.next()) {
        seen.push(found.unwrap());
    }
    assert!(seen == all, "{} of {}", seen.len(), all.len());
}

#[test]
fn f25_opens_that_come_to_nothing_leave_no_more_and_more_files() {
    let (_outer, dir, held) = prepared();
    let size =
        || (snapshot(&dir).len(), snapshot(&dir).values().map(|(bytes, ..)| bytes.len()).sum::<usize>());
    let mut sizes = Vec::new();
    for round in 0..60 {
        // Ended before replay, in the middle of it, and behind it, without a close each time.
        let recovery = Wal::options(&dir).recover().unwrap();
        match round % 3 {
            0 => drop(recovery),
            1 => assert!(recovery.records().next().unwrap().is_ok()),
            _ => drop(recovery.finish_without_replay().unwrap()),
        }
        sizes.push(size());
    }
    assert_eq!(sizes[5], sizes[59], "{sizes:?}");
    let (wal, records, report) = reopen(Wal::options(&dir));
    assert_eq!(records.len(), held.len());
    assert!(report.epoch.get() < 100, "an epoch an open: {}", report.epoch);
    drop(wal);
    assert!(look(&dir) == held);
}

#[test]
fn f32_f33_f34_walctl_names_a_log_that_is_missing_or_there_twice_and_changes_nothing() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 5] = [
        ("000002.wal", |dir| fs::remove_file(dir.join("000002.wal")).unwrap()),
        ("000003.wal", |dir| fs::remove_file(dir.join("000003.wal")).unwrap()),
        ("2.wal", |dir| assert!(fs::copy(dir.join("000002.wal"), dir.join("2.wal")).is_ok())),
        ("0000002.wal", |dir| fs::hard_link(dir.join("000002.wal"), dir.join("0000002.wal")).unwrap()),
        ("1.wal", |dir| fs::write(dir.join("1.wal"), b"").unwrap()),
    ];
    for (name, change) in cases {
        let (_outer, dir, _) = prepared();
        change(&dir);
        let before = snapshot(&dir);
        for (verb, options) in
            [("verify", &[][..]), ("dump", &[]), ("append", &[]), ("gc", &["--flushed", "1"])]
        {
            let outcome = walctl(verb, &dir, options, b"more\n");
            assert_eq!(outcome.code(), Some(1), "{name}, {verb}: {outcome:?}");
            let said = format!("{}{}", String::from_utf8_lossy(&outcome.stdout), outcome.stderr);
            let number = name.trim_end_matches(".wal").trim_start_matches('0');
            assert!(said.contains(name) || said.contains(&format!("log {number}")), "{name}, {verb}: {said}");
            if verb == "append" {
                assert!(outcome.stdout.is_empty());
            }
        }
        assert!(snapshot(&dir) == before, "{name}: something was changed");
    }
}

#[test]
fn f43_files_that_are_not_ours_are_never_touched() {
    let (_outer, dir, held) = prepared();
    let foreign = [
        OsStr::new("notes.txt"),
        OsStr::new("000001.wal~"),
        OsStr::new("000002.wal.tmp"),
        OsStr::new("x.wal"),
        OsStr::new("LOCK.old"),
        OsStr::from_bytes(b"\xff\xfe"),
        OsStr::from_bytes(b"00000\xff.wal"),
    ];
    for name in foreign {
        fs::write(dir.join(name), name.as_bytes()).unwrap();
    }
    fs::create_dir(dir.join("folder")).unwrap();
    fs::write(dir.join("folder/000001.wal"), b"inside").unwrap();
    symlink("notes.txt", dir.join("symlink")).unwrap();
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let before = snapshot(&dir);
    assert!(look(&dir) == held);
    let lines = lines(3, 10);
    let appended = walctl("append", &dir, &[], &input(&lines));
    assert_eq!(appended.code(), Some(0), "{appended:?}");
    check(&held, &lines, &appended.acknowledged(), 1, &look(&dir));
    let gc = walctl("gc", &dir, &["--flushed", "9"], b"");
    assert_eq!(gc.code(), Some(0), "{gc:?}");
    let after = snapshot(&dir);
    assert!(!after.contains_key(OsStr::new("000001.wal")), "ours may go");
    for (name, was) in before.iter().filter(|(name, _)| {
        let name = name.as_bytes();
        foreign.iter().any(|foreign| foreign.as_bytes() == name)
            || [&b"folder"[..], b"symlink", b"fifo"].contains(&name)
    }) {
        assert!(after.get(name) == Some(was), "{name:?}");
    }
    assert_eq!(fs::read(dir.join("folder/000001.wal")).unwrap(), b"inside");
}

/// Blocks of 512 bytes in the limit on a file's size: CHECKPOINT must fit.
const BLOCKS: u64 = 300;

#[test]
fn f48_f51_f53_a_limit_on_a_files_size_tears_the_last_record_and_loses_no_other() {
    let lines = lines(400, 1_000);
    // Ignored, the signal leaves the error to the caller; otherwise it kills, as any signal may. No library changes that.
    for ignored in [true, false] {
        let (_outer, dir, held) = prepared();
        let first = format!("ulimit -c 0; ulimit -f {BLOCKS}{}", if ignored { "; trap '' XFSZ" } else { "" });
        let outcome = walctl_after(&first, "append", &dir, &[], &input(&lines));
        if ignored {
            assert_eq!(outcome.code(), Some(3), "{outcome:?}");
            assert!(
                outcome.stderr.contains("write failed on ") && outcome.stderr.contains("(os error 27)"),
                "{outcome:?}"
            );
        } else {
            assert_eq!(outcome.signal(), Some(rustix::process::Signal::XFSZ.as_raw()), "{outcome:?}");
        }
        let acked = outcome.acknowledged();
        assert!(acked.len() > 20 && acked.len() < lines.len(), "{}", acked.len());
        // The kernel wrote what fitted: the write was short, was gone on with, and only then failed.
        let longest = snapshot(&dir).values().map(|(bytes, ..)| bytes.len() as u64).max().unwrap();
        assert!([512, 1024].iter().any(|block| longest == BLOCKS * block), "{longest}");
        let verified = walctl("verify", &dir, &[], b"");
        assert_eq!(verified.code(), Some(0), "{verified:?}");
        check(&held, &lines, &acked, 1, &look(&dir));
        // With the limit still there, nothing that was acknowledged is touched; without it, everything goes on.
        let again = walctl_after(&first, "append", &dir, &["--log-bytes", "65536"], &input(&lines[..5]));
        assert_eq!((again.code(), again.acknowledged().len()), (Some(0), 5), "{again:?}");
        let before = recover(&dir);
        check(&held, &lines, &acked, 4, &before[..before.len() - 5].to_vec());
        let more = walctl("append", &dir, &[], &input(&lines));
        assert_eq!((more.code(), more.acknowledged().len()), (Some(0), lines.len()), "{more:?}");
        check(&before, &lines, &more.acknowledged(), 1, &recover(&dir));
    }
}

#[test]
fn f60_a_file_that_is_cut_under_a_reader_is_a_typed_error() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("wal");
    let (wal, ..) = reopen(Wal::options(&dir));
    for number in 0..400_u64 {
        let payload = format!("{number} {:.<9000}", "");
        wal.append_with(record(payload.as_bytes()), Durability::Written).unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    let inspection = Wal::options(&dir).inspect().unwrap();
    let mut records = inspection.records();
    assert!(records.by_ref().take(3).all(|found| found.is_ok()));
    // Files that are mapped would answer with SIGBUS from here on.
    fs::File::options().write(true).open(dir.join("000001.wal")).unwrap().set_len(40_000).unwrap();
    let rest: Vec<_> = records.collect();
    assert!(rest.len() < 397, "what is not there any more is not handed out");
    let error = rest.last().unwrap().as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damage, "{error:?}");
    assert_eq!(walctl("dump", &dir, &[], b"").code(), Some(1));
}

#[test]
fn f61_f62_the_lock_is_another_processes_too_and_closing_other_handles_of_its_file_does_not_end_it() {
    let (_outer, dir, held) = prepared();
    let (wal, ..) = reopen(Wal::options(&dir));
    let locked = || walctl("append", &dir, &[], b"").code() == Some(4);
    assert!(locked());
    // POSIX record locks would end with any of these.
    drop(fs::File::open(dir.join("LOCK")).unwrap());
    drop(fs::File::options().read(true).write(true).open(dir.join("LOCK")).unwrap());
    assert!(fs::read(dir.join("LOCK")).unwrap().is_empty());
    assert!(matches!(Wal::options(&dir).recover(), Err(Error::Locked { .. })));
    assert!(look(&dir) == held);
    assert!(locked());
    drop(wal);
    assert!(!locked());
}

/// Forks with an open log. The child tries everything, the parent goes on.
fn fork(dir: &Path) {
    let (wal, ..) = reopen(Wal::options(dir));
    let mut held: Held = look(dir);
    let append = |wal: &Wal, held: &mut Held, text: &str| {
        let appended = wal.append(record(text.as_bytes())).unwrap();
        held.push((appended.seqs.first().get(), text.as_bytes().to_vec()));
    };
    append(&wal, &mut held, "before the fork");
    wal.rotate().unwrap();
    append(&wal, &mut held, "before the fork, in another log");
    let before = snapshot(dir);
    // SAFETY: this process has one thread, so the child is as good as its parent; it ends by `_exit` whatever happens.
    match unsafe { libc::fork() } {
        0 => {
            let tried =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_the_child(wal, dir, &held)));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(tried.is_err())) }
        }
        pid => {
            let mut status = -1;
            // SAFETY: `status` is a place for the answer.
            let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!((waited, status), (pid, 0), "the child's own assertions");
        }
    }
    assert!(snapshot(dir) == before, "the child has changed something");
    assert_eq!(walctl("append", dir, &[], b"").code(), Some(4), "the child's end does not unlock");
    append(&wal, &mut held, "behind the fork");
    wal.rotate().unwrap();
    append(&wal, &mut held, "behind the fork, in another log");
    let family = FamilyId::DEFAULT;
    assert!(!wal.mark_flushed(family, SeqNum::new(held[0].0)).unwrap().deleted.is_empty());
    wal.close().unwrap();
    drop(wal);
    assert!(recover(dir) == held[1..]);
}

fn in_the_child(wal: Wal, dir: &Path, held: &Held) {
    let refused = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("forked"), "{error}");
    };
    // Rotation and deletion first: after a failed append everything else is refused for that reason.
    refused(wal.rotate().unwrap_err());
    refused(wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(held[0].0)).unwrap_err());
    for level in [Durability::Synced, Durability::Written] {
        match wal.append_with(record(b"the child's"), level).unwrap_err() {
            Error::Poisoned { cause } => refused((*cause).clone()),
            other => refused(other),
        }
    }
    assert!(wal.sync().is_err());
    assert!(wal.close().is_err());
    assert!(look(dir) == *held, "it may read");
    assert!(matches!(Wal::options(dir).recover(), Err(Error::Locked { .. })));
    drop(wal);
    assert!(
        matches!(Wal::options(dir).recover(), Err(Error::Locked { .. })),
        "dropping the copy unlocks nothing"
    );
}

#[test]
fn f63_a_forked_child_can_append_rotate_and_delete_nothing_and_its_parent_goes_on() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("wal");
    let (wal, ..) = reopen(Wal::options(&dir));
    wal.append(record(b"first")).unwrap();
    wal.close().unwrap();
    drop(wal);
    child("fork", &dir);
}

/// A clock that somebody sets back and forth, and whose monotonic half stands still or goes back.
#[derive(Debug, Default)]
struct Jumping(AtomicU64);

impl Clock for Jumping {
    fn wall(&self) -> Duration {
        let jumps = [1_700_000_000, 0, 4_000_000_000, 1_600_000_000, u64::MAX];
        Duration::from_secs(jumps[self.0.fetch_add(1, Ordering::Relaxed) as usize % jumps.len()])
    }

    fn monotonic(&self) -> Duration {
        // Of an odd number, so that calls in pairs see every step of it.
        let jumps = [100, 100, 0, u64::MAX, 7];
        Duration::from_secs(jumps[self.0.fetch_add(1, Ordering::Relaxed) as usize % jumps.len()])
    }
}

#[test]
fn f69_a_clock_that_jumps_or_stands_still_changes_nothing_but_times() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("wal");
    let clock = Arc::new(Jumping::default());
    let mut all = Held::new();
    for life in 0..12_u64 {
        let (wal, records, report) = reopen(Wal::options(&dir).clock(clock.clone()));
        assert_eq!(records.len(), all.len(), "life {life}: {report:?}");
        for number in 0..6 {
            let payload = format!("{life}.{number}").into_bytes();
            let appended = wal.append(record(&payload)).unwrap();
            all.push((appended.seqs.first().get(), payload));
            if number % 2 == 0 {
                wal.rotate().unwrap();
            }
        }
        if life % 2 == 0 {
            wal.close().unwrap();
        }
        drop(wal);
        // Readers see the same, whether their own clock jumps or is right.
        let inspection = Wal::options(&dir).clock(clock.clone()).inspect().unwrap();
        assert_eq!(inspection.records().map(Result::unwrap).count(), all.len());
        assert!(look(&dir) == all);
    }
    assert!(recover(&dir) == all);
}

#[test]
fn f70_what_stands_under_a_logs_name_is_opened_only_if_it_is_a_regular_file() {
    type Place = fn(&Path, &str);
    let kinds: [(&str, Place); 4] = [
        ("symlink", |dir, name| symlink("../elsewhere", dir.join(name)).unwrap()),
        ("FIFO", |dir, name| {
            mknodat(CWD, dir.join(name), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }),
        ("directory", |dir, name| fs::create_dir(dir.join(name)).unwrap()),
        ("symlink", |dir, name| symlink("nowhere", dir.join(name)).unwrap()),
    ];
    for (kind, place) in kinds {
        for name in ["000001.wal", "000003.wal", "CHECKPOINT", "LOCK"] {
            let (outer, dir, _) = prepared();
            fs::rename(dir.join(name), outer.path().join("elsewhere")).unwrap();
            let elsewhere = fs::read(outer.path().join("elsewhere")).unwrap();
            place(&dir, name);
            let before = snapshot(&dir);
            for (verb, options) in
                [("append", &[][..]), ("gc", &["--flushed", "5"]), ("verify", &[]), ("dump", &[])]
            {
                // `run` fails if one of them hangs.
                let outcome = walctl(verb, &dir, options, b"no\n");
                if name == "LOCK" && ["verify", "dump"].contains(&verb) {
                    assert_eq!(outcome.code(), Some(0), "a reader needs no lock: {outcome:?}");
                    continue;
                }
                assert!([1, 3].contains(&outcome.code().unwrap()), "{kind} at {name}, {verb}: {outcome:?}");
                let said = format!("{}{}", String::from_utf8_lossy(&outcome.stdout), outcome.stderr);
                assert!(said.contains(name) || said.contains("log"), "{kind} at {name}, {verb}: {said}");
                assert!(!said.contains("panicked"), "{said}");
            }
            assert!(snapshot(&dir) == before, "{kind} at {name}: something was changed");
            assert!(
                fs::read(outer.path().join("elsewhere")).unwrap() == elsewhere,
                "written through the symlink"
            );
        }
        // Where the next log is to be made.
        let (outer, dir, held) = prepared();
        let (wal, ..) = reopen(Wal::options(&dir).background(false));
        wal.append(record(b"in the open log")).unwrap();
        let next = format!("{:06}.wal", wal.logs().last().unwrap().log.get() + 1);
        place(&dir, &next);
        let error = wal.rotate().unwrap_err();
        assert_eq!(errno(&error), Some(17), "{kind} at {next}: {error}");
        assert!(!outer.path().join("elsewhere").exists() && !dir.join("nowhere").exists());
        let kind_of = dir.join(&next).symlink_metadata().unwrap().file_type();
        assert!(!kind_of.is_file(), "it is still there");
        // The open log goes on; the next rotation works once the thing is gone.
        wal.append(record(b"still in the open log")).unwrap();
        if kind == "directory" {
            fs::remove_dir(dir.join(&next)).unwrap();
        } else {
            fs::remove_file(dir.join(&next)).unwrap();
        }
        assert!(wal.rotate().unwrap().is_some());
        wal.close().unwrap();
        drop(wal);
        assert_eq!(recover(&dir).len(), held.len() + 2);
    }
    // A hard link is a regular file: an old log under a new number is noticed by what is in it.
    let (_outer, dir, _) = prepared();
    fs::hard_link(dir.join("000001.wal"), dir.join("000004.wal")).unwrap();
    let before = snapshot(&dir);
    for verb in ["verify", "dump", "append"] {
        assert_eq!(walctl(verb, &dir, &[], b"no\n").code(), Some(1), "{verb}");
    }
    assert!(snapshot(&dir) == before);
    // A symlink to the directory itself is followed: that is the path the user gave.
    let (outer, dir, held) = prepared();
    symlink(&dir, outer.path().join("link")).unwrap();
    assert_eq!(walctl("append", &outer.path().join("link"), &[], b"through the link\n").code(), Some(0));
    assert_eq!(look(&dir).len(), held.len() + 1);
}

#[test]
fn f71_new_files_and_directories_have_the_documented_mode_less_the_umask() {
    for umask in [0o000, 0o022, 0o027, 0o077] {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("new/wal");
        let lines = lines(6, 30_000);
        let made = walctl_after(
            &format!("umask {umask:03o}"),
            "append",
            &dir,
            &["--log-bytes", "65536"],
            &input(&lines),
        );
        assert_eq!(made.code(), Some(0), "{made:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for level in [&dir, dir.parent().unwrap()] {
            assert_eq!(mode(level), 0o750 & !umask, "{level:?}");
        }
        let files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() > 4, "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o640 & !umask, "{file:?}");
        }
    }
}

/// Goes somewhere else with a log open under a relative path.
fn change_directory(dir: &Path) {
    std::env::set_current_dir(dir).unwrap();
    let (wal, ..) = reopen(Wal::options("wal"));
    wal.append(record(b"here")).unwrap();
    std::env::set_current_dir("/").unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"there")).unwrap();
    let first = wal.logs()[0].seqs.unwrap().first();
    wal.mark_flushed(FamilyId::DEFAULT, first).unwrap();
    wal.rotate().unwrap();
    wal.close().unwrap();
}

#[test]
fn f72_a_log_stays_in_its_directory_when_the_process_goes_elsewhere_or_the_directory_is_renamed() {
    let outer = tempfile::tempdir().unwrap();
    child("change directory", outer.path());
    let names = |dir: &Path| -> Vec<OsString> { snapshot(dir).into_keys().collect() };
    assert_eq!(names(outer.path()), ["wal"]);
    assert_eq!(recover(&outer.path().join("wal")).last().unwrap().1, b"there");
    // Renamed under an open log, and another directory in its old place.
    let (wal, ..) = reopen(Wal::options(outer.path().join("wal")));
    fs::rename(outer.path().join("wal"), outer.path().join("moved")).unwrap();
    fs::create_dir(outer.path().join("wal")).unwrap();
    wal.append(record(b"renamed")).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"and rotated")).unwrap();
    wal.close().unwrap();
    drop(wal);
    assert!(names(&outer.path().join("wal")).is_empty());
    let found = recover(&outer.path().join("moved"));
    let last: Vec<&[u8]> = found.iter().rev().take(2).map(|(_, payload)| &payload[..]).collect();
    assert_eq!(last, [&b"and rotated"[..], b"renamed"]);
}

#[test]
fn f72_a_directory_that_is_removed_under_an_open_log_is_a_typed_error_at_the_next_file() {
    within("a directory that is removed", || {
        let (_outer, dir, _) = prepared();
        let (wal, ..) = reopen(Wal::options(&dir));
        fs::remove_dir_all(&dir).unwrap();
        // The open file has lost its name, which no write can notice.
        wal.append(wal_manager::Record::new(KIND, b"into the void")).unwrap();
        let error = wal.rotate().unwrap_err();
        assert_eq!((error.kind(), errno(&error)), (ErrorKind::NotFound, Some(2)), "{error}");
        assert!(!dir.exists(), "nothing is made again behind somebody's back");
        let _ = wal.close();
        assert_eq!(Wal::options(&dir).inspect().unwrap_err().kind(), ErrorKind::NotFound);
    });
}
