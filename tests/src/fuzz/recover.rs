//! Any files in a directory, and every way of opening it.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use wal_format::LogNumber;
use wal_io::mem::MemStorage;
use wal_manager::{Durability, Error, ErrorKind, RecoveredRecord, RecoveryMode, Verdict, Wal};

use super::directories::{self, Files, Stopped};
use super::mutate::Edit;
use super::steps::{self, Step};
use crate::{allocations, life};

/// What memory a recovery may take, whatever the files say about lengths and counts: a few buffers and a few times the files.
const PEAK_BYTES: usize = 24 << 20;

/// A directory that no writer left like that.
#[derive(Arbitrary, Debug)]
struct Directory<'a> {
    /// Which of the directories that a writer left it begins as.
    base: u8,
    changes: Vec<Change<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Change<'a> {
    /// To one of the files, whichever it is.
    Edit(u8, Edit),
    /// The same, again: most inputs shall be about this.
    EditToo(u8, Edit),
    /// A file is gone.
    Remove(u8),
    /// A file stands under another name too.
    Copy(u8, Name),
    /// A file of any bytes.
    Put(Name, &'a [u8]),
    /// A log that a writer could have written, under any name.
    Log { name: Name, number: u8, steps: Vec<Step>, seal: bool },
}

#[derive(Arbitrary, Debug)]
enum Name {
    Log(u8),
    Odd(u8),
}

impl Name {
    fn text(&self) -> String {
        const ODD: [&str; 15] = [
            "1.wal",
            "0000002.wal",
            "000000.wal",
            "18446744073709551615.wal",
            "18446744073709551616.wal",
            "99999999999999999999999.wal",
            "CHECKPOINT",
            "CHECKPOINT.new",
            "LOCK",
            ".wal",
            "x.wal",
            "000002.wal.quarantine-3",
            "notes.txt",
            "4000000000.wal",
            "18446744073709551614.wal",
        ];
        match self {
            Self::Log(number) => format!("{:06}.wal", 1 + number % 8),
            Self::Odd(which) => ODD[usize::from(*which) % ODD.len()].to_owned(),
        }
    }
}

impl Directory<'_> {
    fn files(self) -> Files {
        let all = directories::all();
        let mut files = all[usize::from(self.base) % all.len()].clone();
        for change in self.changes {
            let chosen =
                |files: &Files, which: u8| files.keys().nth(usize::from(which) % files.len().max(1)).cloned();
            match change {
                Change::Edit(which, edit) | Change::EditToo(which, edit) => {
                    if let Some(name) = chosen(&files, which) {
                        let log = name.strip_suffix(".wal").and_then(|digits| digits.parse().ok());
                        edit.apply(log.map(LogNumber::new), files.get_mut(&name).unwrap());
                    }
                }
                Change::Remove(which) => {
                    if let Some(name) = chosen(&files, which) {
                        files.remove(&name);
                    }
                }
                Change::Copy(which, name) => {
                    if let Some(bytes) = chosen(&files, which).and_then(|from| files.get(&from).cloned()) {
                        files.insert(name.text(), bytes);
                    }
                }
                Change::Put(name, bytes) => {
                    files.insert(name.text(), bytes.to_vec());
                }
                Change::Log { name, number, steps, seal } => {
                    let mut header = steps::header();
                    header.log = LogNumber::new(u64::from(1 + number % 8));
                    let log = steps::build(&header, &steps::affordable(steps), seal, 0);
                    files.insert(name.text(), log.bytes);
                }
            }
        }
        files
    }
}

/// Opens a directory of arbitrary files in every mode, with the lock and without: no panic, no end of memory, nothing changed where the
/// open is refused; and what was recovered is there when it is opened again.
pub fn recover_dir(input: &[u8]) -> String {
    let Ok(directory) = Directory::arbitrary(&mut Unstructured::new(input)) else {
        return "nothing".to_owned();
    };
    super::show(&directory);
    let files = directory.files();
    let bytes: usize = files.values().map(Vec::len).sum();
    let (outcome, seen) = allocations::of(|| open_in_every_way(&files));
    assert!(seen.peak < (PEAK_BYTES + 16 * bytes).cast_signed(), "{bytes} bytes of files took {seen:?}");
    outcome
}

fn open_in_every_way(files: &Files) -> String {
    let modes =
        [RecoveryMode::Strict, RecoveryMode::Default, RecoveryMode::PointInTime, RecoveryMode::Salvage];
    let mut opened = Vec::new();
    let mut words = Vec::new();
    for mode in modes {
        inspect(files, mode);
        let result = recover(files, mode);
        words.push(match &result {
            Ok((_, verdict)) => format!("{verdict:?}"),
            Err(Error::Damaged(report)) => {
                let reason = format!("{:?}", report.findings[0].reason);
                let word = reason.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                format!("Damaged/{word}")
            }
            Err(error) => {
                let name = format!("{error:?}");
                name.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
            }
        });
        opened.push(result);
    }
    // Each mode takes what the ones before it take, and reads the same.
    for pair in opened.windows(2) {
        if let Ok((records, verdict)) = &pair[0]
            && *verdict != Verdict::Damaged
        {
            let (wider, _) = pair[1].as_ref().expect("a wider mode takes what a narrower one does");
            assert!(records == wider, "the modes read other records");
        }
    }
    words.dedup();
    words.join(", ")
}

/// Without the lock, as `walctl verify` and `dump` do: nothing is changed, and what cannot be read is a verdict or a typed error.
fn inspect(files: &Files, mode: RecoveryMode) {
    let storage = MemStorage::from_files(files.clone());
    let options = Wal::options_on(Arc::new(storage.clone())).clock(Arc::new(Stopped)).mode(mode);
    match options.inspect() {
        Ok(inspection) => {
            let total: usize = files.values().map(Vec::len).sum();
            let records: Vec<_> = inspection.records().take(total + 1).filter_map(Result::ok).collect();
            assert!(records.len() <= total, "more records than bytes");
            let holes = records.windows(2).any(|pair| pair[0].index.next() != Some(pair[1].index));
            assert!(!holes || mode == RecoveryMode::Salvage, "a hole in the index is damage");
            let _ = format!("{:?}", inspection.report());
            let _ = inspection.report().summary();
        }
        Err(error) => assert!(is_typed(&error) || error.kind() == ErrorKind::NotFound, "{error:?}"),
    }
    assert!(storage.files() == *files, "a look changed the directory");
}

/// A directory is what it is: the system does not fail here, nothing is locked, nothing was closed.
fn is_typed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damage | ErrorKind::NewerFormat)
        || matches!(error, Error::Exhausted(_) | Error::SequenceRegression { .. })
}

type Opened = (Vec<RecoveredRecord>, Verdict);

fn recover(files: &Files, mode: RecoveryMode) -> Result<Opened, Error> {
    let storage = MemStorage::from_files(files.clone());
    let options = || {
        Wal::options_on(Arc::new(storage.clone()))
            .clock(Arc::new(Stopped))
            .log_bytes(life::SMALL)
            .idle_promise(None)
    };
    // A directory that was closed cleanly is read only when its records are handed out.
    let opened = options().mode(mode).recover().and_then(|recovery| {
        let records = recovery.records().collect::<Result<Vec<_>, _>>()?;
        Ok((recovery, records))
    });
    let (recovery, records) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            assert!(is_typed(&error), "{error:?}");
            let mut left = storage.files();
            if !files.contains_key("LOCK") {
                left.remove("LOCK");
            }
            assert!(left == *files || matches!(error, Error::Exhausted(_)), "refused, but changed: {error}");
            return Err(error);
        }
    };
    dense(&records);
    let verdict = recovery.report().verdict;
    let (wal, _) = recovery.finish().expect("replay has ended");
    // The process ends here, or after one more record.
    let more = match wal.append_with(life::record(b"one more"), Durability::Synced) {
        Ok(appended) => Some(appended.index),
        Err(error) => {
            assert!(matches!(error, Error::Exhausted(_)), "{error:?}");
            None
        }
    };
    drop(wal);
    let again = match options().recover() {
        Ok(again) => again,
        Err(error) => {
            assert!(matches!(error, Error::Exhausted(_)), "what was recovered does not open again: {error}");
            return Ok((normal(records), verdict));
        }
    };
    let mut there = again.records().collect::<Result<Vec<_>, _>>().expect("it is read again");
    if let Some(index) = more {
        let last = there.pop().expect("the record that was appended");
        assert!(last.index == index && last.payload == b"one more"[..], "{last:?}");
    }
    let (records, there) = (normal(records), normal(there));
    assert!(records == there, "{} records were handed out, {} are there again", records.len(), there.len());
    Ok((records, verdict))
}

/// Where a record stands may change.
fn normal(mut records: Vec<RecoveredRecord>) -> Vec<RecoveredRecord> {
    for record in &mut records {
        (record.log, record.offset) = (LogNumber::default(), 0);
    }
    records
}

/// Nothing twice, nothing back; where nothing is flushed there is no hole either, but flushed records are left out.
fn dense(records: &[RecoveredRecord]) {
    for pair in records.windows(2) {
        assert!(pair[0].index < pair[1].index && pair[0].seqs.last() < pair[1].seqs.first(), "{pair:?}");
    }
}
