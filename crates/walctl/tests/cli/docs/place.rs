//! Where the commands of the documents are run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use wal_manager::io::probe::Way;
use wal_manager::{ArchiveLimits, Clock, Durability, FamilyId, Record, RecordKind, SeqNum, SystemClock, Wal};

/// A directory in which everything is that the documents name.
pub(super) struct Place(TempDir);

/// When everything was written: what the documents show as a time to restore to lies behind it.
#[derive(Debug, Default)]
struct Then(SystemClock);

impl Clock for Then {
    fn wall(&self) -> Duration {
        // 2026-11-21 17:00:00 UTC.
        Duration::from_secs(1_795_280_400)
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

impl Place {
    pub(super) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        write_log(&path("DIR"), &path("ARCHIVE"));
        fs::create_dir(path("DISK")).unwrap();
        fs::write(path("lines.txt"), "one\ntwo\nthree\n".repeat(20)).unwrap();
        Self(place)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What the command prints, standard error last.
    pub(super) fn run(&self, at: &str, command: &str) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_walctl")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-c", &placeholders(command)]).current_dir(self.0.path()).env("PATH", path);
        let output = shell.env_remove("CLICOLOR_FORCE").output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let other = super::OTHER_CODES.iter().find(|(other, _)| *other == command);
        assert_eq!(
            output.status.code(),
            Some(other.map_or(0, |(_, code)| *code)),
            "{at}\nrun as: {command}\n{text}"
        );
        text
    }
}

/// Words that stand for a number or a name, not for a file.
fn placeholders(command: &str) -> String {
    let word = |word: &str| match word {
        "POINT" => "end".to_owned(),
        "SEQ" => "150".to_owned(),
        "VERB" => "verify".to_owned(),
        "SHELL" => "bash".to_owned(),
        word => word.replace("mark:NAME", "mark:before-upgrade").replace("seq:N", "seq:150"),
    };
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A log of 2000 records, some of which are flushed and archived, with a mark in it.
fn write_log(dir: &Path, archive: &Path) {
    let options = Wal::options(dir).log_bytes(65_536).way(Way::Append).background(false).record_times(true);
    let options = options.clock(Arc::new(Then::default())).archive(archive, ArchiveLimits::default());
    let (wal, _) = options.recover().unwrap().finish_without_replay().unwrap();
    for number in 1..=2000_u32 {
        let payload = format!("record {number} {}", "x".repeat(number as usize % 300));
        let record =
            Record::new(RecordKind::new(1).unwrap(), payload.as_bytes()).families(&[FamilyId::DEFAULT]);
        wal.append_with(record, Durability::Buffered).unwrap();
        if number == 1500 {
            wal.mark("before-upgrade").unwrap();
        }
    }
    wal.sync().unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(800)).unwrap();
    wal.hold("backup", SeqNum::new(900), None).unwrap();
    wal.close().unwrap();
}
