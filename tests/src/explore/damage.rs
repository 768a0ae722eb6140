//! Damage that no crash does must be told, wherever anything is left that proves it.
//!
//! What is proven is read by the independent decoder ([`naive`]): a promise or a seal covers the records before it, the header of a later log what
//! its predecessor holds, CHECKPOINT what it says. Evidence that the damage itself destroys does not count.

use std::collections::BTreeMap;
use std::ops::Range;

use wal_io::sim::SimStorage;
use wal_manager::{Error, ErrorKind};

use super::model::Model;
use super::script::open;
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
            damages.extend([start + 4, start + 7, end - 1].map(|at| Damage::Flip(log.name.clone(), at)));
            damages.push(Damage::Cut(log.name.clone(), start));
            damages.push(Damage::Wipe(log.name.clone(), start..end));
            start = end;
        }
        damages.push(Damage::Remove(log.name.clone()));
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
        judge(&disk, model, &damage, proven).map_err(|broken| (damage.to_string(), broken))?;
    }
    Ok(count)
}

fn judge(disk: &SimStorage, model: &Model, damage: &Damage, proven: u64) -> Result<(), String> {
    let must_tell = match damage {
        // CK6: every number in lowest..=highest exists.
        Damage::Remove(_) => true,
        _ => false,
    };
    // Damage may take what nothing proves.
    let mut lenient = Model { must: 0, ..model.clone() };
    match open(disk, &mut lenient) {
        Ok(Ok(_)) if must_tell => Err("CK6: a missing log is not told".to_owned()),
        Ok(Ok(_)) if lenient.must < proven => Err(format!(
            "damage is cut silently: recovered through record {}, though what is left proves {proven}",
            lenient.must
        )),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => told(&error),
        // `open` calls an error of damage a broken rule, which it is where nothing was damaged.
        Err(broken) if broken.starts_with("L:") => Ok(()),
        Err(broken) => Err(broken),
    }
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
    use wal_format::checkpoint::Slot;
    use wal_manager::{Checkpoint, WalId};
    let content = Checkpoint::new(WalId::from_bytes([7; 16]));
    let mut bytes = Vec::new();
    for slot in Slot::BOTH {
        bytes.resize(usize::try_from(slot.offset()).expect("small"), 0);
        bytes.extend(content.encode(slot));
    }
    bytes
}
