//! raft-engine: an entry for each record, in a group for each thread, as its users have it. Compression is off: the payloads would not
//! shrink. Replay opens the engine, which reads the headers and keeps an index in memory, and then fetches every entry.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use raft_proto::eraftpb::Entry;
use wal_benches::whole::case::Case;
use wal_benches::whole::load;
use wal_benches::whole::measured::Measured;
use wal_benches::whole::side::Side;

use crate::common;

pub(crate) const SIDE: Side = Side {
    name: "raft-engine",
    work: |workload| common::work(workload, synced, Some(nosync), ("raft-engine", prepare, replay)),
};

/// Entries that are fetched at a time.
const FETCHED: u64 = 1024;

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

fn open(path: &Path) -> Engine {
    let config = Config {
        dir: path.to_str().expect("a plain name").to_owned(),
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    };
    Engine::open(config).expect("it opens")
}

fn append(engine: &Engine, group: u64, index: u64, payload: &[u8], sync: bool) {
    let mut entry = Entry::new();
    entry.set_index(index);
    entry.set_data(payload.to_vec().into());
    let mut batch = LogBatch::with_capacity(1);
    batch.add_entries::<Entries>(group, &[entry]).expect("an entry");
    engine.write(&mut batch, sync).expect("an append");
}

fn synced(case: &Case) -> Measured {
    let directory = common::directory();
    let engine = open(directory.path());
    let last: Vec<AtomicU64> = (0..case.threads()).map(|_| AtomicU64::new(0)).collect();
    load::together(case, |thread, payload| {
        let index = last[thread].fetch_add(1, Ordering::Relaxed) + 1;
        append(&engine, thread as u64 + 1, index, payload, true);
    })
}

fn nosync(case: &Case) -> Measured {
    let directory = common::directory();
    let engine = open(directory.path());
    common::stream(case, |number, payload| append(&engine, 1, number + 1, payload, false), || ())
}

fn prepare(case: &Case) {
    let engine = open(case.prepared());
    common::replayed(case, |number, payload| append(&engine, 1, number + 1, payload, false));
}

fn replay(case: &Case) -> Measured {
    common::replay(case, |path| {
        let engine = open(path);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let end = engine.last_index(1).expect("entries") + 1;
        for begin in (1..end).step_by(usize::try_from(FETCHED).expect("a small number")) {
            entries.clear();
            engine
                .fetch_entries_to::<Entries>(1, begin, end.min(begin + FETCHED), None, &mut entries)
                .expect("entries");
            bytes += entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        }
        (end - 1, bytes)
    })
}
