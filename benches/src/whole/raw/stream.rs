//! Writing without syncs: a copy and a CRC-32 for each record, and a write whenever a buffer is full; and the same with a thread beside it that
//! syncs now and then, as the log does it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use wal_manager::SYNC_BYTES_DEFAULT;

use super::batch::HEADER_BYTES;
use super::file::fill;
use crate::data::{self, Payloads};
use crate::whole::case::Case;
use crate::whole::load;
use crate::whole::measured::Measured;
use crate::whole::ours::{NOSYNC_BYTES, RECYCLED_BYTES, WARM_BYTES};

/// A buffer of 64 KiB, into a new file.
pub(super) fn fresh(case: &Case) -> Measured {
    let directory = data::directory();
    let file = File::create_new(directory.path().join("raw")).expect("a new file");
    let mut stream = Stream::new(file, 64 << 10);
    stream.write(case.size, case.volume(WARM_BYTES));
    stream.counted(case, case.volume(NOSYNC_BYTES))
}

/// What the log does at least, by default: every 8 MiB are synced by another thread, and at most four such parts wait for it.
pub(super) fn synced(case: &Case) -> Measured {
    let directory = data::directory();
    let file = File::create_new(directory.path().join("raw")).expect("a new file");
    let clone = file.try_clone().expect("a second handle");
    // One is at the disk, two wait, and one is being filled.
    let (parts, waiting) = mpsc::sync_channel(2);
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&syncs);
    let syncer = thread::spawn(move || {
        for () in waiting {
            clone.sync_data().expect("a sync");
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut stream = Stream::new(file, 64 << 10);
    stream.parts = Some(parts);
    stream.write(case.size, case.volume(WARM_BYTES));
    let before = syncs.load(Ordering::Relaxed);
    let measured = stream.counted(case, case.volume(NOSYNC_BYTES));
    let measured = Measured { syncs: syncs.load(Ordering::Relaxed) - before, ..measured };
    syncer.join().expect("the thread that syncs");
    measured
}

/// A buffer of 256 KiB, so that writes are aligned, into a file that was written before and is in the page cache.
pub(super) fn recycled(case: &Case) -> Measured {
    let directory = data::directory();
    let file = File::create_new(directory.path().join("raw")).expect("a new file");
    fill(&file, case.volume(RECYCLED_BYTES) * 2);
    Stream::new(file, 256 << 10).counted(case, case.volume(RECYCLED_BYTES))
}

struct Stream {
    file: File,
    buffer: Vec<u8>,
    full: usize,
    offset: u64,
    writes: u64,
    /// Told of every [`SYNC_BYTES_DEFAULT`] that were written.
    parts: Option<SyncSender<()>>,
}

impl Stream {
    fn new(file: File, full: usize) -> Self {
        Self { file, buffer: Vec::with_capacity(full), full, offset: 0, writes: 0, parts: None }
    }

    fn counted(mut self, case: &Case, bytes: u64) -> Measured {
        let (writes, offset) = (self.writes, self.offset);
        let measured = load::once(|| self.write(case.size, bytes));
        Measured { writes: self.writes - writes, written: self.offset - offset, ..measured }
    }

    /// So many bytes of payload; returns how many records.
    fn write(&mut self, size: usize, bytes: u64) -> u64 {
        let payloads = Payloads::new(size);
        let records = bytes / size as u64;
        for number in 0..usize::try_from(records).expect("a few million") {
            let payload = payloads.get(number);
            #[allow(clippy::cast_possible_truncation, reason = "payloads are a few KiB")]
            let length = payload.len() as u32;
            let mut header = [0; HEADER_BYTES];
            header[..4].copy_from_slice(&length.to_le_bytes());
            header[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
            self.push(&header);
            self.push(payload);
        }
        self.empty();
        records
    }

    /// Bytes into the buffer, as many as fit; the rest after a write.
    fn push(&mut self, bytes: &[u8]) {
        let (now, later) = bytes.split_at(bytes.len().min(self.full - self.buffer.len()));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() == self.full {
            self.empty();
            self.buffer.extend_from_slice(later);
        }
    }

    fn empty(&mut self) {
        self.file.write_all_at(&self.buffer, self.offset).expect("a write");
        let part = self.offset / SYNC_BYTES_DEFAULT;
        self.offset += self.buffer.len() as u64;
        if let Some(parts) = &self.parts
            && self.offset / SYNC_BYTES_DEFAULT != part
        {
            parts.send(()).expect("the thread that syncs");
        }
        self.writes += 1;
        self.buffer.clear();
    }
}
