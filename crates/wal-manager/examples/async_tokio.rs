//! From async code: many tasks append, each awaits its own record, and they share writes and syncs. A follower is a stream.
//!
//! Nothing here needs tokio: tickets, watches and followers are woken by the log's own thread, in any executor.
//! `cargo run -p wal-manager --example async_tokio` prints
//!
//! ```text
//! 64 tasks, 64 durable records, no thread waited
//! the follower has seen 64 records
//! ```

use std::error::Error;
use std::sync::Arc;

use tokio::task::{JoinSet, spawn_blocking};
use wal_manager::{Appended, FamilyId, FollowFrom, Index, Wal, WriteBatch};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    // One thread is enough to show that nobody blocks it. `#[tokio::main]` does as well.
    tokio::runtime::Builder::new_current_thread().build()?.block_on(run())
}

async fn run() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = home.path().join("wal");

    // What reads and syncs for a while, opening first of all, belongs on a thread that may block.
    let wal = spawn_blocking(move || -> Result<Wal> {
        let recovery = Wal::options(path).recover()?;
        for record in recovery.records() {
            let _apply_to_the_memtable = record?;
        }
        Ok(recovery.finish()?.0)
    });
    let wal = Arc::new(wal.await??);

    let mut follower = wal.follow(FollowFrom::Oldest)?;
    let follower = tokio::spawn(async move {
        // As a `Stream`, for the combinators of the futures crates: `follower.into_stream()`.
        let mut seen = Index::default();
        while let Some(record) = follower.next_async().await {
            seen = record?.index;
        }
        Ok::<_, wal_manager::Error>(seen)
    });

    let mut tasks = JoinSet::new();
    for number in 0..64_u32 {
        let wal = Arc::clone(&wal);
        tasks.spawn(async move { append(&wal, number).await });
    }
    let mut durable = 0;
    while let Some(appended) = tasks.join_next().await {
        appended??;
        durable += 1;
    }
    println!("64 tasks, {durable} durable records, no thread waited");

    // Rotations, marks and `close` write and sync: on a thread that may block, like the open.
    spawn_blocking(move || wal.close()).await??;
    println!("the follower has seen {} records", follower.await??);
    Ok(())
}

/// `submit` orders the record and copies it into memory; the ticket is done when it is on the disk. It is short, but not always free of I/O: a
/// record that finds the log full rotates, and one that finds a full group writes it or waits for who does. Who cannot have that in a task
/// calls it in `spawn_blocking`.
async fn append(wal: &Wal, number: u32) -> Result<Appended> {
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, &number.to_le_bytes(), b"value")?;
    let ticket = wal.submit(&batch)?;
    Ok(ticket.await?)
}
