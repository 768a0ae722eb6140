//! Following the log: every durable record, once and in order, while others append. For replicas, indices, caches and change data capture.
//!
//! One follower is a thread in the process that writes, one reads the directory as another process would, without the lock.
//! `cargo run -p wal-manager --example follow` prints
//!
//! ```text
//! in the process: records 1 to 5
//! in the process, from where it had stopped: records 4 to 5
//! from another process: records 1 to 5
//! from a place that is deleted: [..] was deleted [..]
//! ```

use std::error::Error;
use std::thread;

use wal_manager::{ErrorKind, FamilyId, FollowFrom, Index, RecoveredRecord, Wal, WriteBatch};

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let path = home.path().join("wal");
    let (wal, _report) = Wal::options(&path).recover()?.finish_without_replay()?;

    // In the process that writes: it wakes when a record is durable, and ends when the log is closed. The hold keeps logs from being deleted
    // that it has not read, up to 64 MiB; without one it is told of a gap if it is too slow.
    let follower = wal.follow(FollowFrom::Oldest)?.hold("indexer", 64 << 20);
    let indexer = thread::spawn(move || follower.collect::<Result<Vec<RecoveredRecord>, _>>());

    for number in 1..=5_u32 {
        let mut batch = WriteBatch::new();
        batch.put(FamilyId::DEFAULT, b"counter", &number.to_le_bytes())?;
        wal.append(&batch)?;
        if number == 3 {
            wal.rotate()?;
        }
    }

    // From another process, or from a tool: no lock, no writer asked. It sees what the log itself proves to be durable, which is one
    // group behind the writer while that writes, and everything after `idle_promise` or `close`.
    let mut outside = Wal::options(&path).follow(FollowFrom::Oldest)?;

    // A follower that keeps how far it has come, in one write with what it did (see `replica.rs` of toy-memtable), goes on there after a
    // crash: no record twice, none missing.
    let mut later = wal.follow(FollowFrom::Index(Index::new(4)))?;
    let mut caught_up = Vec::new();
    while let Some(record) = later.try_next()? {
        caught_up.push(record);
    }

    wal.close()?;
    let seen = indexer.join().map_err(|_| "the indexer has panicked")??;
    println!("in the process: {}", range(&seen));
    println!("in the process, from where it had stopped: {}", range(&caught_up));

    let mut read = Vec::new();
    while let Some(record) = outside.try_next()? {
        read.push(record);
    }
    println!("from another process: {}", range(&read));

    // Never a silent jump: what is gone is an error that says so.
    let (wal, _report) = Wal::options(&path).recover()?.finish_without_replay()?;
    if let Some(last) = wal.last_seq() {
        wal.mark_flushed(FamilyId::DEFAULT, last)?;
    }
    match Wal::options(&path).follow(FollowFrom::Index(Index::new(1))) {
        Err(error) if error.kind() == ErrorKind::Gap => println!("from a place that is deleted: {error}"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("record 1 is gone, and nobody has said so".into()),
    }
    wal.close()?;
    Ok(())
}

fn range(records: &[RecoveredRecord]) -> String {
    match (records.first(), records.last()) {
        (Some(first), Some(last)) => format!("records {} to {}", first.index, last.index),
        _ => "nothing".to_owned(),
    }
}
