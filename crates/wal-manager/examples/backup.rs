//! Backups: a hold that keeps what a backup still needs, a copy of the live log while writers go on, and a restore to a point.
//!
//! `cargo run -p wal-manager --example backup` prints
//!
//! ```text
//! flushed; logs deleted: 0, because the hold keeps them
//! copied [..] records while a writer appended
//! the backup is done; logs deleted: 1
//! restored to the mark: bread, butter
//! ```

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use wal_manager::{CopyReport, FamilyId, Op, RecordKind, RestorePoint, SeqNum, Wal, WriteBatch};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let home = tempfile::tempdir()?;
    let (path, copy, restored) =
        (home.path().join("wal"), home.path().join("copy"), home.path().join("restored"));
    let (wal, _report) = Wal::options(&path).recover()?.finish_without_replay()?;

    // A hold has a name and outlives restarts. From sequence number 0 on, so from the beginning, nothing is deleted, unless what it keeps grows over its budget: then
    // it is dropped, and whoever uses the name next is told that it lost its place. A disk that fills up is worse than a backup less.
    wal.hold("nightly", SeqNum::new(0), Some(1 << 30))?;

    put(&wal, "bread")?;
    put(&wal, "butter")?;
    // A mark is a record of family 0, with a sequence number: here the last one that the flush below covers.
    let marked = wal.mark("before the migration")?;
    wal.rotate()?;
    put(&wal, "the mistake")?;

    let deletion = wal.mark_flushed(FamilyId::DEFAULT, marked.seqs.last())?;
    println!("flushed; logs deleted: {}, because the hold keeps them", deletion.deleted.len());

    // The copy holds exactly the records that were durable when it began. Sealed logs are hard links where that can be; to survive the disk, copy
    // the copy to another machine. `walctl copy` does the same from outside.
    let done = AtomicBool::new(false);
    let report = thread::scope(|scope| -> Result<CopyReport> {
        let writer = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                put(&wal, "meanwhile")?;
            }
            Ok(())
        });
        let report = wal.copy_to(&copy);
        done.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer has panicked")??;
        Ok(report?)
    })?;
    println!("copied {} records while a writer appended", report.records);

    // The copy is on its way: the next backup needs nothing before it. `release_hold` instead would end the hold.
    let next = report.seqs.and_then(|seqs| seqs.last().next()).ok_or("the copy is empty")?;
    let deletion = wal.advance_hold("nightly", next)?;
    println!("the backup is done; logs deleted: {}", deletion.deleted.len());
    wal.close()?;

    // From copies, archives (`Options::archive`) and what is left of a live log: a new directory that ends at a sequence number, a time or a
    // mark. Nothing in it counts as flushed, so the engine replays all of it, over the tables of the same backup.
    Wal::restore(&[&copy], &restored, &RestorePoint::Mark("before the migration".to_owned()))?;
    let recovery = Wal::options(&restored).recover()?;
    let mut keys = Vec::new();
    for record in recovery.records() {
        let record = record?;
        if record.kind != RecordKind::BATCH {
            continue; // The mark is a record, too.
        }
        for op in record.ops()? {
            if let Op::Put { key, .. } = op? {
                keys.push(String::from_utf8(key.to_vec())?);
            }
        }
    }
    let (wal, _report) = recovery.finish()?;
    println!("restored to the mark: {}", keys.join(", "));
    wal.close()?;
    Ok(())
}

/// Appends one put and returns its sequence number.
fn put(wal: &Wal, key: &str) -> Result<SeqNum> {
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, key.as_bytes(), b"1")?;
    Ok(wal.append(&batch)?.seqs.last())
}
