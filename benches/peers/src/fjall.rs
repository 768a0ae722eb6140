//! fjall: an insert for each record, under a key that counts. The journal is persisted by hand: after each insert where it is durable
//! (`SyncData`), at the end where it is not. Memtables are so large that nothing is flushed. Replay is the opening, which reads the journal
//! into a memtable, and a pass over that.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use wal_benches::whole::case::Case;
use wal_benches::whole::load;
use wal_benches::whole::measured::Measured;
use wal_benches::whole::side::Side;

use crate::common;

pub(crate) const SIDE: Side = Side {
    name: "fjall",
    work: |workload| common::work(workload, synced, Some(nosync), ("fjall", prepare, replay)),
};

/// Above everything that is written.
const ENOUGH_BYTES: u64 = 16 << 30;

fn open(path: &Path) -> (Database, Keyspace) {
    let builder = Database::builder(path).manual_journal_persist(true).max_journaling_size(ENOUGH_BYTES);
    let database = builder.open().expect("it opens");
    let options =
        || KeyspaceCreateOptions::default().manual_journal_persist(true).max_memtable_size(ENOUGH_BYTES);
    let keyspace = database.keyspace("records", options).expect("a keyspace");
    (database, keyspace)
}

fn synced(case: &Case) -> Measured {
    let directory = common::directory();
    let (database, keyspace) = open(directory.path());
    let next = AtomicU64::new(0);
    load::together(case, |_, payload| {
        let key = next.fetch_add(1, Ordering::Relaxed);
        keyspace.insert(key.to_be_bytes(), payload).expect("an insert");
        database.persist(PersistMode::SyncData).expect("a sync");
    })
}

fn nosync(case: &Case) -> Measured {
    let directory = common::directory();
    let (database, keyspace) = open(directory.path());
    common::stream(
        case,
        |number, payload| keyspace.insert(number.to_be_bytes(), payload).expect("an insert"),
        || database.persist(PersistMode::Buffer).expect("a write"),
    )
}

fn prepare(case: &Case) {
    let (database, keyspace) = open(case.prepared());
    common::replayed(case, |number, payload| {
        keyspace.insert(number.to_be_bytes(), payload).expect("an insert");
    });
    database.persist(PersistMode::SyncAll).expect("a sync");
}

fn replay(case: &Case) -> Measured {
    common::replay(case, |path| {
        let (_database, keyspace) = open(path);
        let mut found = (0, 0);
        for record in keyspace.iter() {
            found.0 += 1;
            found.1 += record.value().expect("a value").len() as u64;
        }
        found
    })
}
