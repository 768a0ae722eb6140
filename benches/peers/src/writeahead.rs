//! writeahead: a write for each record, each thread with its own handle. It has no append that is not durable. Files of 64 MiB. For replay,
//! the records are written in batches of 1024, so that writing them ends in time.

use std::path::Path;

use futures::StreamExt;
use futures::executor::block_on;
use wal_benches::whole::case::Case;
use wal_benches::whole::load;
use wal_benches::whole::measured::Measured;
use wal_benches::whole::side::Side;
use writeahead::{WriteAhead, WriteAheadOptions};

use crate::common;

pub(crate) const SIDE: Side = Side {
    name: "writeahead",
    work: |workload| common::work(workload, synced, None, ("writeahead", prepare, replay)),
};

/// Records of a batch of a log that is replayed.
const BATCH: usize = 1024;

fn open(path: &Path) -> WriteAhead {
    let options = WriteAheadOptions {
        log_dir: path.to_owned(),
        max_file_size: 64 << 20,
        ..WriteAheadOptions::default()
    };
    let mut log = WriteAhead::with_options(options);
    log.start().expect("it opens");
    log
}

fn synced(case: &Case) -> Measured {
    let directory = common::directory();
    let log = open(directory.path());
    let handles: Vec<_> = (0..case.threads()).map(|_| log.writer().expect("a handle")).collect();
    load::together(case, |thread, payload| {
        block_on(handles[thread].write(payload.to_vec())).expect("an append");
    })
}

fn prepare(case: &Case) {
    let log = open(case.prepared());
    let mut batch = Vec::new();
    common::replayed(case, |_, payload| {
        batch.push(payload.to_vec());
        if batch.len() == BATCH {
            block_on(log.write_batch(std::mem::take(&mut batch))).expect("an append");
        }
    });
    if !batch.is_empty() {
        block_on(log.write_batch(batch)).expect("an append");
    }
}

fn replay(case: &Case) -> Measured {
    common::replay(case, |path| {
        let log = open(path);
        let mut stream = log.create_stream().expect("a stream");
        let mut found = (0, 0);
        while let Some(record) = block_on(stream.next()) {
            found.0 += 1;
            found.1 += record.expect("a record").1.len() as u64;
        }
        found
    })
}
