//! okaywal: an entry for each record, of one chunk. Segments of 64 MiB; a checkpoint does nothing, and its file is used again. It has no
//! append that is not durable. For replay, the records are chunks of entries of 1024, so that writing them ends in time.

use std::io::{self, Read};
use std::path::Path;

use okaywal::{Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog};
use wal_benches::whole::case::Case;
use wal_benches::whole::load;
use wal_benches::whole::measured::Measured;
use wal_benches::whole::side::Side;

use crate::common;

pub(crate) const SIDE: Side = Side {
    name: "okaywal",
    work: |workload| common::work(workload, synced, None, ("okaywal", prepare, replay)),
};

const SEGMENT_BYTES: u32 = 64 << 20;

/// Chunks of an entry of a log that is replayed.
const CHUNKS: u64 = 1024;

fn synced(case: &Case) -> Measured {
    let directory = common::directory();
    let config = Configuration::default_for(directory.path()).preallocate_bytes(SEGMENT_BYTES);
    let log =
        config.checkpoint_after_bytes(u64::from(SEGMENT_BYTES) * 3 / 4).open(Flushed).expect("a new log");
    load::together(case, |_, payload| {
        let mut entry = log.begin_entry().expect("an entry");
        entry.write_chunk(payload).expect("a chunk");
        entry.commit().expect("an append");
    })
}

fn unflushed(path: &Path) -> Configuration {
    Configuration::default_for(path).preallocate_bytes(SEGMENT_BYTES).checkpoint_after_bytes(u64::MAX)
}

fn prepare(case: &Case) {
    let log = unflushed(case.prepared()).open(Flushed).expect("a new log");
    let mut entry = Some(log.begin_entry().expect("an entry"));
    common::replayed(case, |number, payload| {
        entry.as_mut().expect("an entry").write_chunk(payload).expect("a chunk");
        if number % CHUNKS == CHUNKS - 1 {
            entry.take().expect("an entry").commit().expect("an append");
            entry = Some(log.begin_entry().expect("an entry"));
        }
    });
    entry.expect("an entry").commit().expect("an append");
    log.shutdown().expect("an end");
}

fn replay(case: &Case) -> Measured {
    common::replay(case, |path| {
        let (send, found) = std::sync::mpsc::channel();
        let reading = Reading { buffer: Vec::new(), found: (0, 0), send };
        let log = unflushed(path).open(reading).expect("it opens");
        let last = found.try_iter().last().unwrap_or_default();
        drop(log);
        last
    })
}

/// Everything is in a table already.
#[derive(Debug)]
struct Flushed;

impl LogManager for Flushed {
    fn recover(&mut self, _: &mut Entry<'_>) -> io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is recovered.
#[derive(Debug)]
struct Reading {
    buffer: Vec<u8>,
    found: (u64, u64),
    send: std::sync::mpsc::Sender<(u64, u64)>,
}

impl LogManager for Reading {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            self.buffer.clear();
            chunk.read_to_end(&mut self.buffer)?;
            assert!(chunk.check_crc()?, "as it was written");
            self.found.0 += 1;
            self.found.1 += self.buffer.len() as u64;
        }
        let _ = self.send.send(self.found);
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}
