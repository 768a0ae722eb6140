//! A crash test of one's own engine on the disk that can crash: the power is cut at every operation, each time with several outcomes of
//! what was not synced, and again inside the recovery.
//!
//! The engine is the one of the example `engine`; put yours in its place. `cargo run -p wal-manager --example crash_test_your_engine` prints
//!
//! ```text
//! a life is [..] operations of the disk
//! [..] power cuts, [..] of them inside a recovery: every acknowledged write is there
//! ```

#[allow(dead_code, reason = "the example `engine` looks at the sizes")]
#[path = "engine/engine.rs"]
mod engine;

use std::sync::Arc;

use engine::{Engine, Result};
use wal_manager::{SimStorage, Wal, WalId};

/// How many writes a life has.
const WRITES: u64 = 12;
/// How many keys they go to: each is overwritten, so that a write that comes back too old is seen.
const KEYS: u64 = 5;
/// How many outcomes of each power cut are tried.
const OUTCOMES: u64 = 4;

fn main() -> Result<()> {
    // A life without a crash says how many operations there are to cut at.
    let disk = SimStorage::new();
    live(&disk, &mut 0)?;
    let operations = disk.mutations();
    println!("a life is {operations} operations of the disk");

    let (mut cuts, mut cuts_inside) = (0, 0);
    for operation in 0..operations {
        let disk = SimStorage::new();
        disk.crash_after(operation);
        let mut acknowledged = 0;
        // It ends with an error: the disk is gone. What the engine has said before that it must keep.
        let _ = live(&disk, &mut acknowledged);
        for seed in 0..OUTCOMES {
            cuts += 1;
            check(&disk.crash(seed), acknowledged).map_err(|error| {
                format!(
                    "power cut before operation {operation}, outcome {seed}: {error}; the disk did {:#?}",
                    disk.trace()
                )
            })?;
        }
        // And again, at each operation of the recovery, until one comes to its end.
        for again in 0.. {
            let left = disk.crash(operation);
            left.crash_after(again);
            if open(&left).is_ok() {
                break;
            }
            cuts_inside += 1;
            check(&left.crash(again), acknowledged).map_err(|error| {
                format!("power cuts before operation {operation} and before {again} of the recovery: {error}")
            })?;
        }
    }
    println!(
        "{} power cuts, {cuts_inside} of them inside a recovery: every acknowledged write is there",
        cuts + cuts_inside
    );
    Ok(())
}

/// Log and tables are two directories of one disk, as they are in truth. On a storage of one's own the log has no thread but for the proof that it
/// writes when it is idle: without that, and with an identity that is always the same, each run does the same operations with the same bytes.
fn open(disk: &SimStorage) -> Result<Engine> {
    let wal = Wal::options_on(Arc::new(disk.clone())).idle_promise(None).wal_id(WalId::from_bytes([7; 16]));
    Engine::open(wal, Arc::new(disk.directory("tables")))
}

/// Write number `n` puts `n` under the key `n % KEYS`. Now and then the memtable is flushed, and once the engine is closed and opened again.
fn live(disk: &SimStorage, acknowledged: &mut u64) -> Result<()> {
    let mut engine = open(disk)?;
    for number in 1..=WRITES {
        engine.put(&(number % KEYS).to_le_bytes(), &number.to_le_bytes())?;
        *acknowledged = number;
        if number % 4 == 3 {
            engine.flush()?;
        }
        if number == WRITES / 2 {
            engine.close()?;
            engine = open(disk)?;
        }
    }
    engine.close()
}

/// What is there must be the state after some number of writes: all that were acknowledged, and perhaps the one that was under way.
fn check(disk: &SimStorage, acknowledged: u64) -> Result<()> {
    let mut engine = open(disk)?;
    let state = |engine: &Engine| -> Vec<Option<Vec<u8>>> {
        (0..KEYS).map(|key| engine.get(&key.to_le_bytes()).map(<[u8]>::to_vec)).collect()
    };
    let expected = |writes: u64| -> Vec<Option<Vec<u8>>> {
        let last = |key| (1..=writes).rev().find(|number| number % KEYS == key);
        (0..KEYS).map(|key| last(key).map(|number| number.to_le_bytes().to_vec())).collect()
    };
    let found = state(&engine);
    if !(acknowledged..=acknowledged + 1).any(|writes| expected(writes) == found) {
        return Err(format!("{acknowledged} writes were acknowledged, but it holds {found:?}").into());
    }
    // It goes on: a write now, and a flush, are there after the next open.
    engine.put(b"after", b"the crash")?;
    engine.flush()?;
    engine.close()?;
    let engine = open(disk)?;
    if engine.get(b"after").is_none() || state(&engine) != found {
        return Err("it does not hold what was there before the flush, and the write after the crash".into());
    }
    Ok(())
}
