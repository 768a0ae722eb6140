//! Column families: one log for several memtables. A batch over families is atomic, each family is flushed on its own, and an idle family that
//! keeps old logs from being deleted is named.
//!
//! `cargo run -p wal-manager --example column_families` prints
//!
//! ```text
//! users is flushed; 2 logs are left, the oldest is kept by:
//!   family 2, until it is flushed through 3
//! after a restart:
//!   family 2: total = 1
//!   family 1: bob = 31
//! accounts is flushed; logs deleted: 1
//! accounts is dropped; logs deleted: 1
//! ```

use std::error::Error;

use wal_manager::{FamilyId, KeeperKind, Op, Wal, WriteBatch};

// Numbers that the engine chooses, below 2^24; 0 is the default family.
const USERS: FamilyId = FamilyId::new(1);
const ACCOUNTS: FamilyId = FamilyId::new(2);

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let path = home.path().join("wal");
    let recovery = Wal::options(&path).recover()?;
    recovery.records().try_for_each(|record| record.map(drop))?;
    let (wal, _report) = recovery.finish()?;

    // One record, two families: after a crash both changes are there, or neither.
    let mut batch = WriteBatch::new();
    batch.put(USERS, b"alice", b"27")?;
    batch.put(USERS, b"bob", b"30")?;
    batch.put(ACCOUNTS, b"total", b"1")?;
    let first = wal.append(&batch)?;

    // The memtable of `users` is full: it is sealed, and the log is closed with it. New writes go to the next log.
    wal.rotate()?;
    batch.clear();
    batch.put(USERS, b"bob", b"31")?;
    wal.append(&batch)?;

    // Its table is durable. The log of its records stays, because `accounts` was not flushed.
    wal.mark_flushed(USERS, first.seqs.last())?;
    let kept = wal.why_kept();
    println!("users is flushed; {} logs are left, the oldest is kept by:", kept.len());
    for keeper in kept.first().map(|oldest| oldest.keepers.as_slice()).unwrap_or_default() {
        // Holds, readers and the like have a name here, too. `Options::on_pressure` tells the same as a callback, once live logs are over a
        // soft limit: flush what it names.
        if let (KeeperKind::Family, Some(through)) = (keeper.kind, keeper.through) {
            println!("  family {}, until it is flushed through {through}", keeper.name);
        }
    }

    // A record comes back as long as one of its families needs it. What the others have flushed the engine passes over: the sequence number of
    // the operation tells.
    drop(wal);
    let recovery = Wal::options(&path).recover()?;
    println!("after a restart:");
    for record in recovery.records() {
        let record = record?;
        for (op, seq) in record.ops()?.zip(record.seqs.first().get()..) {
            let Op::Put { family, key, value } = op? else { return Err("only puts were written".into()) };
            if recovery.flushed(family).is_some_and(|flushed| seq <= flushed.get()) {
                continue;
            }
            let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            println!("  family {}: {key} = {value}", family.get());
        }
    }
    let (wal, _report) = recovery.finish()?;

    // Several marks may be set in one step (`mark_flushed_all`), which costs as much as one.
    let deletion = wal.mark_flushed(ACCOUNTS, first.seqs.last())?;
    println!("accounts is flushed; logs deleted: {}", deletion.deleted.len());

    // A family that is gone keeps nothing, whatever was written to it.
    batch.clear();
    batch.put(ACCOUNTS, b"total", b"2")?;
    wal.append(&batch)?;
    wal.rotate()?;
    batch.clear();
    batch.put(USERS, b"carol", b"44")?;
    let last = wal.append(&batch)?;
    wal.mark_flushed(USERS, last.seqs.last())?;
    let deletion = wal.drop_family(ACCOUNTS)?;
    println!("accounts is dropped; logs deleted: {}", deletion.deleted.len());
    wal.close()?;
    Ok(())
}
