//! A storage engine of one's own on the log: a memtable, a table file, and nothing that `kill -9` takes away. Read `engine.rs` first.
//!
//! The example starts itself as a child that writes as fast as it can and says each write that was acknowledged, kills it five times, and
//! checks each time that everything that the child has said is there. `cargo run -p wal-manager --example engine` prints
//!
//! ```text
//! kill 1: [..] writes were acknowledged, [..] are there
//! kill 2: [..] writes were acknowledged, [..] are there
//! kill 3: [..] writes were acknowledged, [..] are there
//! kill 4: [..] writes were acknowledged, [..] are there
//! kill 5: [..] writes were acknowledged, [..] are there
//! nothing is lost: [..] of the writes are in the table, [..] in the log
//! ```

mod engine;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use engine::{Engine, Result};
use wal_manager::{FsStorage, Wal};

fn main() -> Result<()> {
    if let Some(dir) = std::env::args_os().nth(1) {
        return write_for_ever(dir.as_ref());
    }
    let home = tempfile::tempdir()?;
    for kill in 1..=5 {
        let acknowledged = write_and_kill(home.path(), kill * 100)?;
        let there = count(&open(home.path())?)?;
        println!("kill {kill}: {acknowledged} writes were acknowledged, {there} are there");
        if there < acknowledged {
            return Err("a write that was acknowledged is lost".into());
        }
    }
    let engine = open(home.path())?;
    let (table, memtable) = engine.sizes();
    println!("nothing is lost: {table} of the writes are in the table, {memtable} in the log");
    engine.close()
}

/// The engine in a directory of its own, which it shares with its log: `wal` and `tables` below it.
fn open(dir: &Path) -> Result<Engine> {
    Engine::open(Wal::options(dir.join("wal")), Arc::new(FsStorage::create(dir.join("tables"))?))
}

/// What the child does: the next number, for ever, each said once it is acknowledged.
fn write_for_ever(dir: &Path) -> Result<()> {
    let mut engine = open(dir)?;
    for number in count(&engine)? + 1.. {
        engine.put(&number.to_le_bytes(), b"value")?;
        println!("{number}");
        if number % 128 == 0 {
            engine.flush()?;
        }
    }
    Ok(())
}

/// Lets a child write so many times, and some more, and kills it. Returns the last number that it has said.
fn write_and_kill(dir: &Path, writes: usize) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("its output is a pipe")?).lines();
    let mut acknowledged = 0;
    for line in said.by_ref().take(writes) {
        acknowledged = line?.parse()?;
    }
    child.kill()?; // SIGKILL, whatever it is doing.
    child.wait()?;
    // What it had said before that. A line that was cut in the middle is a smaller number.
    for line in said {
        acknowledged = acknowledged.max(line?.parse().unwrap_or(0));
    }
    Ok(acknowledged)
}

/// How many of the numbered writes are there, without a hole.
fn count(engine: &Engine) -> Result<u64> {
    let end = (1u64..).find(|number| engine.get(&number.to_le_bytes()).is_none());
    end.map(|end| end - 1).ok_or_else(|| "there is no end".into())
}
