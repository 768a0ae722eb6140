//! The log in one screen: write some records, lose the process, get the records back.
//!
//! `cargo run -p wal-manager --example quickstart` prints
//!
//! ```text
//! a new log: 0 records
//! appended with sequence numbers 1..=2
//! after the crash: 1 record
//!   1: put apple = red
//!   2: delete pear
//! flushed and closed
//! nothing to replay: 0 records
//! ```

use std::error::Error;

use wal_manager::{FamilyId, Op, Wal, WriteBatch};

fn main() -> Result<(), Box<dyn Error>> {
    // A directory that is gone when this ends. Yours stays.
    let home = tempfile::tempdir()?;
    let path = home.path().join("wal");

    // Opening has two steps. `recover` takes the lock and decides what to believe; `finish` hands over the log for appends, once you
    // have read every record that is there. In a new directory there is none.
    let recovery = Wal::options(&path).recover()?;
    println!("a new log: {} records", recovery.records().count());
    let (wal, _report) = recovery.finish()?;

    // A batch is atomic: after a crash all of it is there, or nothing. When `append` returns, it survives a power cut.
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"apple", b"red")?;
    batch.delete(FamilyId::DEFAULT, b"pear")?;
    let appended = wal.append(&batch)?;
    println!("appended with sequence numbers {}", appended.seqs);

    // No `close`: for the log this is the death of the process.
    drop(wal);

    // What was acknowledged comes back, in order. Operation `i` of a batch has the sequence number `seqs.first() + i`.
    let recovery = Wal::options(&path).recover()?;
    let records = recovery.records().collect::<Result<Vec<_>, _>>()?;
    println!("after the crash: {} record", records.len());
    for record in &records {
        for (op, seq) in record.ops()?.zip(record.seqs.first().get()..) {
            match op? {
                Op::Put { key, value, .. } => println!("  {seq}: put {} = {}", text(key), text(value)),
                Op::Delete { key, .. } => println!("  {seq}: delete {}", text(key)),
                // Merges and deleted ranges: your engine's to apply, or to refuse.
                other => return Err(format!("unexpected operation {other:?}").into()),
            }
        }
    }
    let (wal, report) = recovery.finish()?;
    // Bytes of appends that were under way and that nobody was told were done. Here there were none.
    assert_eq!(report.cut_bytes, 0);

    // The engine has written its memtable to a table of its own and synced it: the log may forget. `rotate` goes together with sealing
    // the memtable, so that the records of one memtable are in logs of their own; `mark_flushed` deletes the logs that nobody needs.
    wal.rotate()?;
    wal.mark_flushed(FamilyId::DEFAULT, appended.seqs.last())?;
    // Closing is not needed for safety. It makes the next open cheap, and says what went wrong if something did.
    wal.close()?;
    println!("flushed and closed");

    let recovery = Wal::options(&path).recover()?;
    println!("nothing to replay: {} records", recovery.records().count());
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
