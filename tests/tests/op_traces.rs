//! What the log asks of the disk, in which order, as text in `tests/traces` (T6).
//!
//! One file a life, one line an operation, and behind each sync why it is there: a sync that nobody can explain fails the test, and so
//! does a reason without its sync. After a change of the order that is meant, `REGENERATE=1 cargo test -p wal-tests --test op_traces`
//! writes the files anew; what is to be reviewed is their diff. Operations that only look (open, stat, read, list) are left out.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use wal_io::probe::Way;
use wal_io::sim::{Fault, SimStorage};
use wal_manager::{Durability, ErrorKind, FamilyId, Wal};
use wal_tests::life::{self, record};

/// The two syncs of an update of CHECKPOINT.
const UPDATE: [&str; 2] = [
    "CK1: one slot is durable before the other is touched",
    "CK3: both slots are durable before anything relies on them",
];

/// The syncs of a recovery of a directory that was there before.
const RECOVERY: [&str; 6] = [
    "CK2: what is believed is durable in both slots of a new file, before that gets the name",
    "CK2: so is the name, before anything is acted on",
    "RC3: the new log, with its header and the unproven tail, is durable before CHECKPOINT knows its epoch",
    "RC3, I4: so is its name",
    UPDATE[0],
    "RC3, CK3: both slots are durable before a record is handed out, appended or promised, or a file removed",
];

/// What a recovery adds after it has removed what nobody needs any more.
const REMOVED: &str = "G5: names that were removed do not come back; a failure here would harm nobody";

/// The sync before a recovery removes what an earlier one left that died.
const LEFTOVER: &str = "RC6: the new log's name is durable before a lower number goes that held bytes";

/// The syncs of a rotation.
const ROTATION: [&str; 6] = [
    "PR5, CK7: everything in the old log is durable before the next file is made",
    "I3: the empty file is durable with all its metadata, so that fdatasync is enough from now on",
    "I4: so is its name, before a byte is written under it",
    UPDATE[0],
    "CK7: both slots know the number before the log is used, so that a missing newest log is missed",
    "PR5: the seal, after all that it seals; nobody waits for it with an append",
];

/// A log on the crashable disk, and what it asked for.
struct Life {
    name: &'static str,
    disk: SimStorage,
    text: String,
}

impl Life {
    fn new(name: &'static str, about: &str) -> Self {
        Self { name, disk: SimStorage::new(), text: format!("# {about}\n") }
    }

    /// Does something and writes down what it asked for, with the reason behind each sync.
    fn phase<T>(&mut self, title: &str, reasons: &[&str], act: impl FnOnce(&SimStorage) -> T) -> T {
        self.disk.clear_trace();
        let value = act(&self.disk);
        writeln!(self.text, "\n# {title}").unwrap();
        let mut reasons = reasons.iter();
        let mut lines = 0;
        for line in self.disk.trace() {
            let word = line.split(' ').next().unwrap();
            match word {
                "open" | "stat" | "read" | "list" => continue,
                "syncdata" | "syncall" | "syncdir" | "syncparents" => {
                    let reason = reasons.next().unwrap_or_else(|| {
                        panic!("{}, {title}: {line} has no reason, after\n{}", self.name, self.text)
                    });
                    writeln!(self.text, "{line:<24} # {reason}").unwrap();
                }
                _ => writeln!(self.text, "{line}").unwrap(),
            }
            lines += 1;
        }
        if lines == 0 {
            writeln!(self.text, "(nothing)").unwrap();
        }
        let left = reasons.as_slice();
        assert!(left.is_empty(), "{}, {title}: no sync for {left:?}\n{}", self.name, self.text);
        value
    }

    fn open(&mut self, title: &str, reasons: &[&str]) -> Wal {
        self.phase(title, reasons, life::open)
    }

    fn crash(&mut self, title: &str, crash: impl FnOnce(&SimStorage) -> SimStorage) {
        self.disk = crash(&self.disk);
        writeln!(self.text, "\n# {title}").unwrap();
    }

    /// Compares with the file, or writes it.
    fn compare(self) {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("traces").join(format!("{}.txt", self.name));
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&path, &self.text).unwrap();
        }
        let pinned = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (number, (now, then)) in self.text.lines().zip(pinned.lines()).enumerate() {
            assert_eq!(now, then, "{}, line {}", path.display(), number + 1);
        }
        assert_eq!(self.text.lines().count(), pinned.lines().count(), "{}", path.display());
    }
}

fn append(wal: &Wal, payload: &[u8], level: Durability) {
    wal.append_with(record(payload), level).unwrap();
}

#[test]
fn t6_i4_a_new_directory() {
    let mut life = Life::new("new_directory", "A directory that is new, and the first record in it.");
    let wal = life.open(
        "open",
        &[
            "CK5: both slots are durable before the file gets its name",
            "CK5: the name is durable before the first log is created",
            "CK5: so is the directory's own entry",
            "RC3: the new log, with its header, is durable before CHECKPOINT knows its epoch",
            "RC3, I4: so is its name",
            UPDATE[0],
            RECOVERY[5],
        ],
    );
    life.phase("append, synced", &["S5: acknowledged means durable"], |_| {
        append(&wal, b"first", Durability::Synced);
    });
    life.phase("the process is gone without close", &[], |_| drop(wal));
    life.compare();
}

#[test]
fn t6_s15_appends_at_each_level() {
    let mut life = Life::new("append", "Appends at each level, alone and in a group.");
    let wal = life::open(&life.disk);
    let promised = "S5: acknowledged means durable; the write begins with the promise of the group before";
    life.phase("buffered: in memory only", &[], |_| append(&wal, b"buffered", Durability::Buffered));
    life.phase("written: the system has it, and what was buffered before it", &[], |_| {
        append(&wal, b"written", Durability::Written);
    });
    life.phase(
        "synced: no promise, for nothing has become durable since the last",
        &["S5: acknowledged means durable"],
        |_| {
            append(&wal, b"synced", Durability::Synced);
        },
    );
    life.phase("synced again", &[promised], |_| append(&wal, b"synced", Durability::Synced));
    life.phase("several records in one group: one write, one sync", &[promised], |_| {
        let tickets: Vec<_> = [1, 2, 3, 4].map(|n| wal.submit(record(&[n; 20])).unwrap()).into();
        for ticket in tickets {
            ticket.wait().unwrap();
        }
    });
    life.phase("sync of what is durable already", &[], |_| wal.sync().unwrap());
    life.phase("sync after a written append", &["S5: the sync that was asked for"], |_| {
        append(&wal, b"written", Durability::Written);
        wal.sync().unwrap();
    });
    life.compare();
}

#[test]
fn t6_r3_r4_i3_a_rotation() {
    let mut life = Life::new("rotate", "Rotations: asked for, and because the log is full.");
    let (wal, ..) = life::reopen(life::options(&life.disk).log_bytes(life::SMALL));
    life.phase("append, buffered", &[], |_| append(&wal, b"in the first log", Durability::Buffered));
    life.phase(
        "rotate: the group, the next file, CHECKPOINT, and then the old log's seal",
        &ROTATION,
        |_| {
            wal.rotate().unwrap().unwrap();
        },
    );
    life.phase("rotate a log that holds no record", &[], |_| assert_eq!(wal.rotate().unwrap(), None));
    life.phase(
        "append, synced: the header goes out with the first group",
        &["S5: acknowledged means durable; only now does the new log need to be there"],
        |_| append(&wal, b"in the second log", Durability::Synced),
    );
    life.phase("append as much as the log has room for", &["S5: acknowledged means durable"], |_| {
        append(&wal, &[9; 65_000], Durability::Synced);
    });
    let durable: Vec<&str> =
        ROTATION[1..].iter().copied().chain(["S5: acknowledged means durable"]).collect();
    life.phase("append more: a rotation, and then the append", &durable, |_| {
        append(&wal, &[9; 600], Durability::Synced);
    });
    life.compare();
}

#[test]
fn t6_r7_r6_s15_a_rotation_to_a_log_that_was_made_ahead() {
    let mut life = Life::new("ahead", "The next log is made ahead, filled, and then of a deleted log.");
    let options = life::options(&life.disk).log_bytes(life::SMALL).way(Way::Filled).recycle(1);
    let (wal, ..) = life::reopen(options);
    let ahead = [ROTATION[1], ROTATION[2], UPDATE[0], ROTATION[4]];
    let deletion = [UPDATE[0], UPDATE[1], "G5: the name is gone for good"];
    append(&wal, b"in the first log", Durability::Synced);
    let first: Vec<&str> =
        ahead.into_iter().chain(["row 50: the next open on a full disk has this space"]).collect();
    life.phase("housekeeping: the next log, and the reserve", &first, |_| wal.housekeep().unwrap());
    let switch = [ROTATION[5], "S5: acknowledged means durable"];
    life.phase("append, synced: the first log grows, so the filled one is used from now on", &switch, |_| {
        append(&wal, b"in the second log", Durability::Synced);
    });
    life.phase("housekeeping: the next log", &ahead, |_| wal.housekeep().unwrap());
    life.phase(
        "rotate: nothing but the seal, for which nobody waits with a background",
        &[ROTATION[5]],
        |_| {
            wal.rotate().unwrap().unwrap();
        },
    );
    life.phase("append, synced", &["S5: acknowledged means durable"], |_| {
        append(&wal, b"in the third log", Durability::Synced);
    });
    life.phase("mark: two logs are not needed, of which one is kept", &deletion, |_| {
        let through = wal.last_seq().unwrap();
        assert_eq!(wal.mark_flushed(FamilyId::DEFAULT, through).unwrap().deleted.len(), 2);
    });
    let wiped = "RC6: the old bytes are gone before the file has its new name";
    let again: Vec<&str> = [wiped].into_iter().chain(ahead).collect();
    life.phase("housekeeping: the next log, of the first one", &again, |_| wal.housekeep().unwrap());
    life.compare();
}

#[test]
fn t6_g5_a_deletion() {
    let mut life = Life::new("delete", "Three logs, and marks that let two of them go.");
    let wal = life::open(&life.disk);
    for families in [&[0][..], &[0, 1], &[0]] {
        wal.append(record(b"in some families").families(&life::families(families))).unwrap();
        if families != [0] || wal.logs().len() == 1 {
            wal.rotate().unwrap();
        }
    }
    let (family, other) = (FamilyId::DEFAULT, FamilyId::new(1));
    let newest = wal.last_seq().unwrap();
    life.phase("mark another family: the oldest log is still needed", &UPDATE, |_| {
        assert!(wal.mark_flushed(other, newest).unwrap().deleted.is_empty());
    });
    let deletion = [
        UPDATE[0],
        "CK3: both slots know the new floor before a file goes",
        "G5: the names are gone for good, after the unlinks, oldest first",
    ];
    life.phase("mark the default family: both old logs go", &deletion, |_| {
        assert_eq!(wal.mark_flushed(family, newest).unwrap().deleted.len(), 2);
    });
    life.disk.fail(Fault::parse("fail unlink #1 with EIO").unwrap());
    wal.append(record(b"more")).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"and more")).unwrap();
    life.phase("an unlink that fails: the mark is durable, the file waits", &UPDATE, |_| {
        let through = wal.last_seq().unwrap();
        assert_eq!(wal.mark_flushed(family, through).unwrap().retry, 1);
    });
    life.phase("the next mark tries again", &[UPDATE[0], UPDATE[1], deletion[2]], |_| {
        let through = wal.last_seq().unwrap();
        assert_eq!(wal.mark_flushed(family, through).unwrap().retry, 0);
    });
    life.compare();
}

#[test]
fn t6_s9_close_and_open_again() {
    let mut life = Life::new("close", "A clean end, and the open after it.");
    let wal = life::open(&life.disk);
    append(&wal, b"synced", Durability::Synced);
    append(&wal, b"buffered", Durability::Buffered);
    let close = [
        "S9: everything accepted is durable",
        "PR5: the seal is durable before CHECKPOINT says so",
        UPDATE[0],
        "PR5: from now on anything short of the seal is damage",
    ];
    life.phase("close", &close, |_| wal.close().unwrap());
    life.phase("close again", &[], |_| assert_eq!(wal.close().unwrap_err().kind(), ErrorKind::Closed));
    life.phase("drop", &[], |_| drop(wal));
    let wal = life.open("open: everything is proven, so the new log begins empty", &RECOVERY);
    life.phase("close without a record", &close[1..], |_| wal.close().unwrap());
    life.phase("drop", &[], |_| drop(wal));
    life.compare();
}

#[test]
fn t6_f13_f45_v19_recoveries_after_crashes() {
    let mut life = Life::new(
        "recover",
        "Recoveries: of an unproven tail, of a recovery that crashed, and of nothing new.",
    );
    let wal = life::open(&life.disk);
    append(&wal, b"proven", Durability::Synced);
    append(&wal, b"durable, with the promise of the one before", Durability::Synced);
    append(&wal, b"written", Durability::Written);
    drop(wal);
    life.crash(
        "power cut, all that is pending survives: one proven record, two that nothing proves",
        SimStorage::crash_all_kept,
    );
    life.disk.crash_after(10);
    life.phase("open, and the power goes before the directory is synced", &RECOVERY[..3], |disk| {
        life::options(disk).recover().unwrap_err();
    });
    life.crash(
        "power cut, all that is pending survives: the new log is the leftover of this recovery",
        SimStorage::crash_all_kept,
    );
    let reasons = [&RECOVERY[..2], &[LEFTOVER], &RECOVERY[2..]].concat();
    let wal =
        life.open("open: the leftover goes, the tail is written again under a number of its own", &reasons);
    life.phase("the process is gone", &[], |_| drop(wal));
    life.crash("power cut, nothing that is pending survives", SimStorage::crash_all_lost);
    let reasons: Vec<&str> = RECOVERY.into_iter().chain([REMOVED]).collect();
    let wal = life.open("open again: no promise covers the tail yet, so it is written again (RC5)", &reasons);
    life.phase(
        "append, synced: from the next group on the tail is proven",
        &["S5: acknowledged means durable; the write begins with the promise of the tail"],
        |_| append(&wal, b"new", Durability::Synced),
    );
    life.phase("the process is gone", &[], |_| drop(wal));
    life.crash("only the process dies", SimStorage::process_crash);
    let wal = life.open("open: the tail is proven now, the last record is written again", &RECOVERY);
    drop(wal);
    life.compare();
}

#[test]
fn t6_f44_f45_a_failed_sync() {
    let mut life = Life::new("failed_sync", "A sync that fails is never tried again on that file.");
    let wal = life::open(&life.disk);
    append(&wal, b"acknowledged", Durability::Synced);
    life.disk.fail(Fault::parse("fail syncdata #1 of *.wal with EIO").unwrap());
    life.phase("append, synced, and the sync fails", &["S5: it fails, and the log stops"], |_| {
        wal.append(record(b"not acknowledged")).unwrap_err();
    });
    life.phase(
        "append, sync, rotate, close: the log has stopped, and nothing is asked of the disk",
        &[],
        |_| {
            let poisoned = [
                wal.append(record(b"late")).map(drop).unwrap_err(),
                wal.sync().map(drop).unwrap_err(),
                wal.rotate().map(drop).unwrap_err(),
                wal.close().unwrap_err(),
            ];
            assert!(poisoned.iter().all(|error| error.kind() == ErrorKind::Poisoned));
        },
    );
    life.phase("drop", &[], |_| drop(wal));
    life.crash(
        "only the process dies: the cache still shows what the disk has lost",
        SimStorage::process_crash,
    );
    let wal =
        life.open("open: what nothing proves is written again into a new file and synced there", &RECOVERY);
    life.phase("drop", &[], |_| drop(wal));
    life.compare();
}

#[test]
fn t6_r4_a_rotation_that_fails() {
    let mut life = Life::new(
        "failed_rotation",
        "A rotation that fails leaves the old log writable, and the next one goes on.",
    );
    let wal = life::open(&life.disk);
    append(&wal, b"in the first log", Durability::Synced);
    life.disk.fail(Fault::parse("fail syncdir #1 with EIO").unwrap());
    life.phase(
        "rotate, and the sync of the directory fails",
        &[ROTATION[1], "I4: it fails, and the number is not used"],
        |_| {
            wal.rotate().unwrap_err();
        },
    );
    life.phase("append, synced: the old log goes on", &["S5: acknowledged means durable"], |_| {
        append(&wal, b"in the first log too", Durability::Synced);
    });
    life.phase("rotate: the half-made file goes, and is made anew", &ROTATION[1..], |_| {
        wal.rotate().unwrap().unwrap();
    });
    life.compare();
}
