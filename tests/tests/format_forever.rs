//! Directories of old versions open for ever (F13): `tests/golden/v1`, and beside each directory, as text, what comes out of it.
//!
//! Nothing here writes them again. `cargo test -p wal-tests --test format_forever -- --ignored add` writes the directories of
//! [`forever::DIRECTORIES`] that are not there yet; their sums then go into [`SUMS`] by hand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests: a panic is how they fail")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use wal_manager::{ErrorKind, FollowFrom, MemStorage, RecoveredRecord, RecoveryMode, RestorePoint, Wal};
use wal_tests::forever::{self, DIRECTORIES, Files};
use wal_tests::life::reopen;
use wal_tests::{naive, real};

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

/// CRC-32 over the names and bytes of each directory, and of the text beside it. Lines are added here, and never changed.
const SUMS: &[(&str, u32, u32)] = &[
    ("archive", 0x7fce26e4, 0xbde031e1),
    ("closed", 0xea7677d0, 0xff10731a),
    ("damaged", 0x2387a8e9, 0x2443a73e),
    ("held", 0x3e262528, 0x3cb400dd),
    ("killed", 0x74f65dcc, 0x456a456b),
    ("later", 0x34b2300c, 0x87b58309),
    ("recycled", 0x042a85fe, 0x2beed02e),
    ("resumed", 0x13bf0d81, 0x0906c554),
];

fn files(name: &str) -> Files {
    let entries = fs::read_dir(forever::home().join(name)).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn sum(files: &Files) -> u32 {
    let lengths: Vec<[u8; 8]> = files.values().map(|bytes| (bytes.len() as u64).to_le_bytes()).collect();
    let parts =
        files.iter().zip(&lengths).flat_map(|((name, bytes), length)| [name.as_bytes(), length, bytes]);
    naive::crc32(&parts.collect::<Vec<_>>())
}

/// A record, as the text beside the directory has it.
struct Line {
    /// Replay passes over it: everything in it is flushed.
    flushed: bool,
    proven: bool,
    text: String,
}

impl Line {
    fn parse(line: &str) -> Self {
        let (flushed, line) = line.strip_prefix("flushed ").map_or((false, line), |line| (true, line));
        let (proven, text) = line.strip_prefix("unproven ").map_or((true, line), |line| (false, line));
        Self { flushed, proven, text: text.to_owned() }
    }
}

/// What the text beside the directory says: of the directory, and of its records.
struct Expected {
    report: String,
    records: Vec<Line>,
}

impl Expected {
    fn of(name: &str) -> Self {
        let text = fs::read_to_string(forever::home().join(format!("{name}.txt"))).unwrap();
        let (report, records) = text.split_once("records\n").unwrap();
        Self { report: report.to_owned(), records: records.lines().map(Line::parse).collect() }
    }

    fn only(&self, which: impl Fn(&Line) -> bool) -> Vec<&str> {
        self.records.iter().filter(|line| which(line)).map(|line| line.text.as_str()).collect()
    }
}

fn lines(records: &[RecoveredRecord]) -> Vec<String> {
    records.iter().map(forever::line).collect()
}

/// What a look without the lock finds, in the form of the text beside the directory.
fn look(dir: &Path) -> String {
    let inspection = Wal::options(dir).mode(RecoveryMode::PointInTime).inspect().unwrap();
    let mut text = forever::report(inspection.report());
    text.push_str(&inspection.checkpoint().map_or_else(String::new, forever::marks));
    text.push_str("records\n");
    for record in inspection.records() {
        let record = record.unwrap();
        let unproven = if record.proven { "" } else { "unproven " };
        text.push_str(&format!("{unproven}{}\n", forever::line(&record)));
    }
    text
}

/// Every directory that has a CHECKPOINT.
fn directories() -> impl Iterator<Item = (&'static str, Expected)> {
    SUMS.iter().filter(|(name, ..)| *name != "archive").map(|(name, ..)| (*name, Expected::of(name)))
}

#[test]
fn f13_old_directories_are_never_written_again() {
    assert!(
        std::env::var_os("REGENERATE").is_none(),
        "tests/golden/v1 is what released versions left on disks: it is never written again"
    );
    for (name, directory, text) in SUMS {
        assert_eq!(sum(&files(name)), *directory, "tests/golden/v1/{name} was changed");
        let beside = fs::read(forever::home().join(format!("{name}.txt"))).unwrap();
        assert_eq!(naive::crc32(&[&beside]), *text, "tests/golden/v1/{name}.txt was changed");
    }
    let made: Vec<&str> = DIRECTORIES.iter().map(|(name, _)| *name).collect();
    let pinned: Vec<&str> = SUMS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(made, pinned, "each directory has its sum here");
}

#[test]
fn f13_old_directories_are_read_without_the_lock() {
    for (name, expected) in directories() {
        let unproven = |line: &Line| if line.proven { "" } else { "unproven " };
        let records: Vec<String> =
            expected.records.iter().map(|line| format!("{}{}\n", unproven(line), line.text)).collect();
        let seen = look(&forever::home().join(name));
        assert_eq!(seen, format!("{}records\n{}", expected.report, records.concat()), "{name}");
    }
}

#[test]
fn f13_old_directories_are_recovered_and_go_on() {
    for (name, expected) in directories() {
        let storage = MemStorage::from_files(files(name));
        let options = || Wal::options_on(Arc::new(storage.clone()));
        let mut mode = RecoveryMode::default();
        if name == "damaged" {
            // It was closed, so its records are read while they are handed out.
            let replayed = options().recover().unwrap().records().find_map(Result::err);
            assert_eq!(replayed.map(|error| error.kind()), Some(ErrorKind::Damage));
            mode = RecoveryMode::PointInTime;
        }
        let (wal, records, _) = reopen(options().mode(mode));
        let replayed = lines(&records);
        assert_eq!(replayed, expected.only(|line| !line.flushed), "{name}");
        forever::go_on(&wal);
        wal.close().unwrap();
        let (_, again, report) = reopen(options());
        let again = lines(&again);
        assert_eq!(
            again.split_last().map(|(_, before)| before),
            Some(&replayed[..]),
            "{name}: {}",
            report.summary()
        );
    }
}

#[test]
fn f13_old_directories_are_followed() {
    for (name, expected) in directories() {
        let mut follower = Wal::options(forever::home().join(name)).follow(FollowFrom::Oldest).unwrap();
        let mut seen = Vec::new();
        let end = loop {
            match follower.try_next() {
                Ok(Some(record)) => seen.push(forever::line(&record)),
                Ok(None) => break None,
                Err(error) => break Some(error.kind()),
            }
        };
        assert_eq!(seen, expected.only(|line| line.proven), "{name}");
        assert_eq!(end, (name == "damaged").then_some(ErrorKind::Damage), "{name}");
    }
}

#[test]
fn f13_old_directories_are_copied() {
    for (name, expected) in directories() {
        let home = tempfile::tempdir().unwrap();
        let old = home.path().join("old");
        // Copies link what they can, and nothing is to have a link to the files of the repository.
        real::copy(&forever::home().join(name), &old);
        let copied = Wal::options(&old).copy_to(home.path().join("copy"));
        if name == "damaged" {
            assert_eq!(copied.unwrap_err().kind(), ErrorKind::Damage);
            continue;
        }
        copied.unwrap();
        let (_, records, _) = reopen(Wal::options(home.path().join("copy")));
        assert_eq!(lines(&records), expected.only(|line| line.proven && !line.flushed), "{name}");
    }
}

#[test]
fn f13_old_directories_and_archives_are_restored() {
    for (name, ..) in SUMS.iter().filter(|(name, ..)| *name != "damaged") {
        let records = restored(&forever::home().join(name));
        assert_eq!(records, Expected::of(name).only(|_| true), "{name}");
    }
}

/// What a restore brings back: everything that can be read, also what is not proven or was flushed.
fn restored(dir: &Path) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let (old, to) = (home.path().join("old"), home.path().join("restored"));
    real::copy(dir, &old);
    Wal::restore(&[&old], &to, &RestorePoint::End).unwrap();
    lines(&reopen(Wal::options(&to)).1)
}

#[test]
fn f13_walctl_reads_old_directories() {
    for (name, expected) in directories() {
        let dir = forever::home().join(name);
        let verify = real::run(Command::new(WALCTL).args(["verify", "--json"]).arg(&dir), b"");
        let object: serde_json::Value = serde_json::from_slice(&verify.stdout).unwrap();
        let verdict = match object["verdict"].as_str().unwrap() {
            "clean" => "Clean",
            "torn_tail" => "TornTail",
            "damaged" => "Damaged",
            other => panic!("{name}: {other}"),
        };
        assert!(expected.report.starts_with(verdict), "{name}: {verdict}");
        assert_eq!(verify.code(), Some(i32::from(name == "damaged")), "{name}: {}", verify.stderr);
        let dump = real::run(Command::new(WALCTL).args(["dump", "--json"]).arg(&dir), b"");
        assert_eq!(dump.code(), Some(i32::from(name == "damaged")), "{name}: {}", dump.stderr);
        let records = dump.stdout.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{")).count();
        assert!(records >= expected.records.len(), "{name}: {records}");
    }
}

#[test]
#[ignore = "writes directories that are not there yet"]
fn add_the_directories_that_are_not_there_yet() {
    for (name, make) in DIRECTORIES {
        let (dir, beside) = (forever::home().join(name), forever::home().join(format!("{name}.txt")));
        if !dir.exists() {
            fs::create_dir_all(&dir).unwrap();
            // What says nothing of the log stays away.
            let mut files = make();
            files.retain(|file, _| file != "LOCK" && file != "RESERVE");
            files.iter().for_each(|(file, bytes)| fs::write(dir.join(file), bytes).unwrap());
            fs::write(&beside, text_of(&dir, &files)).unwrap();
        }
        println!(
            "    (\"{name}\", {:#010x}, {:#010x}),",
            sum(&files(name)),
            naive::crc32(&[&fs::read(beside).unwrap()])
        );
    }
}

/// What stands beside a new directory; to be read by a person before it is committed.
fn text_of(dir: &Path, files: &Files) -> String {
    if !files.contains_key("CHECKPOINT") {
        return format!("Only a restore reads it.\nrecords\n{}\n", restored(dir).join("\n"));
    }
    let storage = MemStorage::from_files(files.clone());
    let (_, records, _) = reopen(Wal::options_on(Arc::new(storage)).mode(RecoveryMode::PointInTime));
    let replayed = lines(&records);
    let seen = look(dir);
    let (report, records) = seen.split_once("records\n").unwrap();
    let flushed = |line: &str| if replayed.contains(&Line::parse(line).text) { "" } else { "flushed " };
    let records: Vec<String> = records.lines().map(|line| format!("{}{line}\n", flushed(line))).collect();
    format!("{report}records\n{}", records.concat())
}
