//! A replica: follows the write-ahead log of one engine, in another process, and applies it to an engine of its own.
//!
//! `cargo run -p toy-memtable --example replica -- SOURCE REPLICA`
//!
//! Each record is applied once, whoever is killed when: the replica writes how far it has come into the same batch as what it applies, so one
//! is there if and only if the other is. It sees what the source's log proves to be durable, so it is never ahead of what the source still has
//! after a power cut.
//!
//! The source does not wait for its replica. A replica that was away for too long is told that logs are gone ([`wal_manager::Error::Gap`]); it then
//! begins anew with a copy of the source.

use std::error::Error;
use std::path::Path;

use toy_memtable::{Engine, FamilyId, WriteBatch};
use wal_manager::{DirectoryFollower, FollowFrom, Index, Op, RecordKind, RecoveredRecord, Wal};

/// Where the replica notes how far it has come; no family of the source's.
const POSITION: FamilyId = FamilyId::new(0xff_0000);

/// An engine that does what another one did.
pub(crate) struct Replica {
    engine: Engine,
    follower: DirectoryFollower,
}

impl Replica {
    /// Goes on where the replica in `dir` was; from the beginning, if it is new.
    ///
    /// # Errors
    /// An engine or a log cannot be opened; or the source has deleted what comes next.
    pub(crate) fn open(source: &Path, dir: &Path) -> Result<Self, Box<dyn Error>> {
        let (engine, _) = Engine::options(dir).open()?;
        let position = engine.get(POSITION, b"next")?;
        let next = match position.as_deref().map(<[u8; 8]>::try_from) {
            None => Index::new(1),
            Some(bytes) => Index::new(u64::from_le_bytes(bytes?)),
        };
        // Not from the oldest record that is left: a replica that misses some is told so.
        let follower = Wal::options(source.join("wal")).follow(FollowFrom::Index(next))?;
        Ok(Self { engine, follower })
    }

    /// Waits for the next record and applies it. Returns its index.
    ///
    /// # Errors
    /// The source has deleted it, or is damaged; or the replica's own log fails.
    pub(crate) fn step(&mut self) -> Result<Index, Box<dyn Error>> {
        let record = self.follower.next().ok_or("a follower of a directory has no end")??;
        self.apply(&record)
    }

    /// Applies everything that is proven so far, without waiting.
    ///
    /// # Errors
    /// As for [`Replica::step`].
    pub(crate) fn catch_up(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(record) = self.follower.try_next()? {
            self.apply(&record)?;
        }
        Ok(())
    }

    /// What it holds.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    fn apply(&self, record: &RecoveredRecord) -> Result<Index, Box<dyn Error>> {
        let mut batch = WriteBatch::new();
        if record.kind == RecordKind::BATCH {
            for op in record.ops()? {
                match op? {
                    Op::Put { family, key, value } => batch.put(family, key, value)?,
                    Op::Delete { family, key } => batch.delete(family, key)?,
                    Op::Merge { family, key, operand } => batch.merge(family, key, operand)?,
                    Op::DeleteRange { family, start, end } => batch.delete_range(family, start, end)?,
                }
            }
        }
        let next = record.index.next().ok_or("the indices are used up")?;
        batch.put(POSITION, b"next", &next.get().to_le_bytes())?;
        self.engine.write(&batch)?;
        Ok(record.index)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(source), Some(dir), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: replica SOURCE REPLICA".into());
    };
    let mut replica = Replica::open(source.as_ref(), dir.as_ref())?;
    println!("{} follows {}", Path::new(&dir).display(), Path::new(&source).display());
    replica.catch_up()?;
    println!("it has caught up: {:?}", replica.engine().stats());
    loop {
        println!("applied {}", replica.step()?);
    }
}
