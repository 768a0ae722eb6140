//! Damage that no crash does must be told, wherever anything is left that proves it.
//!
//! What is proven is read by the independent decoder ([`naive`]): a promise or a seal covers the records before it, the header of a later log what
//! its predecessor holds, CHECKPOINT what it says. Evidence that the damage itself destroys does not count.

use std::collections::BTreeMap;
use std::ops::Range;

use wal_format::checkpoint::Slot;
use wal_io::sim::SimStorage;
use wal_manager::{Error, ErrorKind, Recovery, RecoveryMode};

use super::model::Model;
use super::script::options;
use crate::naive::{self, Item};

/// A log of the live chain.
struct Log {
    name: String,
    number: u64,
    decoded: naive::Decoded,
    length: usize,
}

/// A place that says that all records up to `through` are durable.
struct Evidence {
    name: String,
    place: Range<usize>,
    through: u64,
}

/// What is done to the directory.
enum Damage {
    Flip(String, usize),
    Wipe(String, Range<usize>),
    Cut(String, usize),
    Remove(String),
    Rollback(Vec<u8>),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flip(name, at) => write!(f, "a bit of byte {at} of {name} flips"),
            Self::Wipe(name, place) => {
                write!(f, "bytes {}..{} of {name} become zeros", place.start, place.end)
            }
            Self::Cut(name, at) => write!(f, "{name} is cut at byte {at}"),
            Self::Remove(name) => write!(f, "{name} is removed"),
            Self::Rollback(_) => write!(f, "CHECKPOINT becomes what it was before the first log"),
        }
    }
}

impl Damage {
    fn apply(&self, disk: &SimStorage) {
        match self {
            Self::Flip(name, at) => disk.corrupt(name, |bytes| bytes[*at] ^= 0x10),
            Self::Wipe(name, place) => disk.corrupt(name, |bytes| bytes[place.clone()].fill(0)),
            Self::Cut(name, at) => disk.corrupt(name, |bytes| bytes.truncate(*at)),
            Self::Remove(name) => disk.remove(name),
            Self::Rollback(old) => disk.corrupt("CHECKPOINT", |bytes| bytes.clone_from(old)),
        };
    }

    /// The file that is gone.
    fn removed(&self) -> Option<String> {
        match self {
            Self::Remove(name) => Some(name.clone()),
            _ => None,
        }
    }

    fn spares(&self, evidence: &Evidence) -> bool {
        match self {
            Self::Flip(name, at) => *name != evidence.name || !evidence.place.contains(at),
            Self::Wipe(name, place) => {
                *name != evidence.name
                    || place.end <= evidence.place.start
                    || evidence.place.end <= place.start
            }
            Self::Cut(name, at) => *name != evidence.name || evidence.place.end <= *at,
            Self::Remove(name) => *name != evidence.name,
            Self::Rollback(_) => evidence.name != "CHECKPOINT",
        }
    }
}

/// Damages a disk at rest in every way, one at a time. Returns in how many.
///
/// # Errors
/// What was done, and the rule that was broken.
pub fn damage(disk: &SimStorage, model: &Model) -> Result<u64, (String, String)> {
    let disk = disk.fork().crash_all_kept();
    let files = disk.durable_files();
    let Some(checkpoint) = files.get("CHECKPOINT").and_then(|file| {
        naive::decode_checkpoint(file).into_iter().flatten().max_by_key(|checkpoint| checkpoint.version)
    }) else {
        return Ok(0);
    };
    let logs = live(&files, &checkpoint);
    let mut evidence = vec![Evidence {
        name: "CHECKPOINT".to_owned(),
        place: 0..files.get("CHECKPOINT").map_or(0, Vec::len),
        through: checkpoint.next_index - 1,
    }];
    evidence.extend(logs.iter().flat_map(stated));
    let mut damages = Vec::new();
    for log in &logs {
        let mut start = 0;
        for end in log.decoded.chunk_ends.iter().map(|end| usize::try_from(*end).expect("small")) {
            // In the header, in the payload, and in the last byte of each chunk.
            damages.extend(
                [start + 4, start + 6, start + 7, end - 1].map(|at| Damage::Flip(log.name.clone(), at)),
            );
            damages.push(Damage::Cut(log.name.clone(), start));
            damages.push(Damage::Wipe(log.name.clone(), start..end));
            start = end;
        }
        damages.push(Damage::Remove(log.name.clone()));
        damages.push(Damage::Wipe(log.name.clone(), 0..log.length));
    }
    let mut old = checkpoint_before_first_log();
    old.resize(files["CHECKPOINT"].len(), 0);
    damages.push(Damage::Rollback(old));
    let count = damages.len() as u64;
    for damage in damages {
        let left = evidence.iter().filter(|evidence| damage.spares(evidence));
        let proven = left.map(|evidence| evidence.through).max().unwrap_or(0);
        let disk = disk.fork();
        damage.apply(&disk);
        let must_tell = must_be_told(&damage, &checkpoint, model, &logs);
        judge(&disk, model, &damage, proven, must_tell).map_err(|broken| (damage.to_string(), broken))?;
    }
    Ok(count)
}

/// Lets each slot of CHECKPOINT rot in turn, after calls that went well: the other one says the same, so that nothing is missed (CK1, CK3).
///
/// # Errors
/// What was done, and the rule that was broken.
pub fn rotten_slot(disk: &SimStorage, model: &Model) -> Result<(), (String, String)> {
    for slot in Slot::BOTH {
        let disk = disk.fork().crash_all_kept();
        let at = usize::try_from(slot.offset()).expect("small") + 20;
        let damage = Damage::Flip("CHECKPOINT".to_owned(), at);
        damage.apply(&disk);
        let recovered = options(&disk)
            .recover()
            .map_err(|error| format!("CK3: the other slot does not do: {error}"))
            .and_then(|recovery| {
                let records = recovery.records().collect::<Result<Vec<_>, _>>();
                let records = records.map_err(|error| format!("recovered, and cannot be read: {error}"))?;
                model.clone().recovered(&records, recovery.report().next_index.get())
            });
        recovered.map_err(|broken| (damage.to_string(), broken))?;
    }
    Ok(())
}

/// Whether there must be an error, whatever else is left.
fn must_be_told(damage: &Damage, checkpoint: &naive::Checkpoint, model: &Model, logs: &[Log]) -> bool {
    match damage {
        // CK6: every number in lowest..=highest exists.
        Damage::Remove(_) => true,
        // CK7: once the next file is recorded, a log whose first group was acknowledged is missed.
        Damage::Wipe(name, place) => logs.iter().any(|log| {
            let first = log.decoded.items.iter().find_map(|item| match item {
                Item::Record(_, record) => Some(record.index),
                _ => None,
            });
            log.name == *name
                && *place == (0..log.length)
                && log.number < checkpoint.highest
                && first.is_some_and(|first| first <= model.must)
        }),
        _ => false,
    }
}

fn judge(
    disk: &SimStorage,
    model: &Model,
    damage: &Damage,
    proven: u64,
    must_tell: bool,
) -> Result<(), String> {
    // Damage may take what nothing proves.
    let mut lenient = Model { must: 0, ..model.clone() };
    // A directory that was closed cleanly is read only when its records are handed out.
    let opened = options(&disk.fork()).recover().and_then(|recovery| {
        let records = recovery.records().collect::<Result<Vec<_>, _>>()?;
        Ok((recovery, records))
    });
    match opened {
        Err(error) => told(&error)?,
        Ok((recovery, records)) => {
            lenient.recovered(&records, recovery.report().next_index.get())?;
            if must_tell {
                return Err("CK6, CK7: a log that is missing or wiped is not told".to_owned());
            }
            if lenient.must < proven {
                let last = lenient.must;
                let what = format!("recovered through record {last}, though what is left proves {proven}");
                return Err(format!("damage is cut silently: {what}"));
            }
            return Ok(());
        }
    }
    // The prefix before the damage can be had, with a new number (RC2), and stays what it is.
    let disk = disk.fork();
    let numbers = disk.file_names();
    let (report, before) = match options(&disk).mode(RecoveryMode::PointInTime).recover() {
        // CHECKPOINT or the whole directory is beyond belief.
        Err(error) => return told(&error),
        Ok(recovery) => (recovery.report().clone(), prefix(&recovery, model)?),
    };
    let new = report.new_log.map(|log| format!("{log:06}.wal"));
    let highest = numbers.into_iter().filter(|name| name.ends_with(".wal")).max();
    if new <= highest.max(damage.removed()) {
        return Err(format!("RC2: the new log {new:?} takes a number that was used"));
    }
    let disk = disk.crash_all_lost();
    let again = options(&disk).recover();
    let again =
        again.map_err(|error| format!("X: after a point-in-time recovery and a power cut: {error}"))?;
    if prefix(&again, model)? != before {
        return Err("X: a power cut after a point-in-time recovery changed what it had handed out".to_owned());
    }
    Ok(())
}

/// The records of a recovery in point-in-time mode: a part of history without a hole, which may end early. Their indices.
fn prefix(recovery: &Recovery, model: &Model) -> Result<Vec<u64>, String> {
    let records = recovery.records().collect::<Result<Vec<_>, _>>();
    let records = records.map_err(|error| format!("recovered, and cannot be read: {error}"))?;
    if let Some(last) = records.last() {
        let mut model = Model { must: 0, ..model.clone() };
        model.recovered(&records, last.index.get() + 1)?;
    }
    Ok(records.iter().map(|record| record.index.get()).collect())
}

fn told(error: &Error) -> Result<(), String> {
    match error.kind() {
        ErrorKind::Damage | ErrorKind::NewerFormat => Ok(()),
        _ => Err(format!("damage is told as something else: {error}")),
    }
}

/// What a log says to be durable.
fn stated(log: &Log) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    let mut say = |offset: u64, through: u64| {
        let start = usize::try_from(offset).expect("small");
        let end = log
            .decoded
            .chunk_ends
            .iter()
            .find(|end| **end > offset)
            .map_or(log.length, |end| usize::try_from(*end).expect("small"));
        evidence.push(Evidence { name: log.name.clone(), place: start..end, through });
    };
    for item in &log.decoded.items {
        match item {
            Item::Header(header) if header.predecessor_proven > 0 => say(0, header.first_index - 1),
            Item::Promise { offset, next_index, .. } | Item::Seal { offset, next_index, .. } => {
                say(*offset, next_index - 1);
            }
            _ => {}
        }
    }
    evidence
}

/// The live chain, newest first: rule RC1, read naively.
fn live(files: &BTreeMap<String, Vec<u8>>, checkpoint: &naive::Checkpoint) -> Vec<Log> {
    let mut known: BTreeMap<u64, (Log, naive::Header)> = BTreeMap::new();
    for (name, file) in files {
        let Some(number) = name.strip_suffix(".wal").and_then(|digits| digits.parse().ok()) else { continue };
        let decoded = naive::decode_log(checkpoint.wal_id, number, file);
        let Some(Item::Header(header)) = decoded.items.first().cloned() else { continue };
        if header.epoch <= checkpoint.epoch && number >= checkpoint.lowest && number <= checkpoint.highest {
            known.insert(number, (Log { name: name.clone(), number, decoded, length: file.len() }, header));
        }
    }
    let mut chain = Vec::new();
    let mut cursor = known.keys().next_back().copied();
    while let Some((log, header)) = cursor.and_then(|number| known.remove(&number)) {
        cursor = Some(header.predecessor).filter(|before| *before < log.number);
        chain.push(log);
    }
    chain
}

/// CHECKPOINT as it is when a directory is new.
fn checkpoint_before_first_log() -> Vec<u8> {
    use wal_manager::{Checkpoint, WalId};
    let content = Checkpoint::new(WalId::from_bytes([7; 16]));
    let mut bytes = Vec::new();
    for slot in Slot::BOTH {
        bytes.resize(usize::try_from(slot.offset()).expect("small"), 0);
        bytes.extend(content.encode(slot));
    }
    bytes
}
