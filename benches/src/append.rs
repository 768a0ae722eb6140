//! Appending to a real directory, and the bare system calls beside it.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use wal_manager::{Durability, Record, RecordKind, Wal};

use crate::counting::{Count, CountingStorage, Counts};
use crate::data::{self, Payloads};
use crate::stopwatch::time;

/// Threads of the shared measurement.
pub const THREADS: usize = 8;

/// Size of the logs, so large that no measurement rotates.
const LOG_BYTES: u64 = 64 << 30;

/// Buffer of the raw side of unsynced appends, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Appended before anything is timed where nothing is synced: both group buffers have grown and been written by then.
const WARM_BYTES: usize = 3 * wal_manager::GROUP_BYTES_MAX;

/// Appended without a sync per timed batch, in bytes: the group is full twice.
pub const UNSYNCED_BYTES: usize = 2 * wal_manager::GROUP_BYTES_MAX;

/// An open log in a directory of its own.
#[derive(Debug)]
pub struct Ours {
    wal: Wal,
    counts: Arc<Counts>,
    payloads: Payloads,
    number: usize,
    _directory: TempDir,
}

impl Ours {
    /// A new log, for payloads of `size` bytes.
    pub fn new(size: usize) -> Self {
        let directory = data::directory();
        let storage = CountingStorage::new(directory.path());
        let counts = storage.counts();
        let recovery = Wal::options_on(Arc::new(storage)).log_bytes(LOG_BYTES).recover();
        let (wal, _) = recovery.and_then(|recovery| recovery.finish_without_replay()).expect("a new log");
        Self { wal, counts, payloads: Payloads::new(size), number: 0, _directory: directory }
    }

    /// A new log that has been written to without syncs for a while.
    pub fn warm(size: usize) -> Self {
        let mut ours = Self::new(size);
        ours.unsynced(WARM_BYTES);
        ours
    }

    /// As [`Ours::warm`], and from now on what the log writes goes nowhere: its own work is left.
    pub fn discarding(size: usize) -> Self {
        let ours = Self::warm(size);
        ours.counts.discard_writes();
        ours
    }

    /// One synced append. Checked: one write, one sync, and the frontier is behind the record.
    pub fn synced(&mut self) -> Duration {
        let payload = self.payloads.get(self.number);
        self.number += 1;
        let before = self.counts.get();
        let record = Record::new(kind(), black_box(payload));
        let (took, appended) = time(|| self.wal.append(record).expect("an append"));
        let count = self.counts.get().since(before);
        assert_eq!((count.writes, count.syncs), (1, 1), "one write and one sync");
        assert!(self.wal.durable() >= appended.position, "it is durable");
        took
    }

    /// `each` synced appends in each of [`THREADS`] threads, from the first thread's start to the last one's end. Also returns the writes
    /// and syncs that it took. Checked: after its append returns, each record is behind the frontier.
    pub fn shared(&self, each: usize) -> (Duration, Count) {
        let before = self.counts.get();
        let append = |thread: usize| {
            for number in 0..each {
                let record = Record::new(kind(), black_box(self.payloads.get(thread * each + number)));
                let appended = self.wal.append(record).expect("an append");
                // One lock of a free mutex; it is inside of what is timed.
                assert!(self.wal.durable() >= appended.position, "it is durable");
            }
        };
        let (took, ()) = time(|| {
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    scope.spawn(move || append(thread));
                }
            });
        });
        let count = self.counts.get().since(before);
        let records = (THREADS * each) as u64;
        assert!(
            count.syncs * THREADS as u64 >= records,
            "a sync covers one record of each thread at the most"
        );
        (took, count)
    }

    /// `Buffered` appends of `bytes` bytes of payload, the last one `Written`, so that all of them have been handed to the system at the
    /// end. Checked: nothing was synced but what the background syncs after so many bytes.
    pub fn unsynced(&mut self, bytes: usize) -> Duration {
        let before = self.counts.get();
        let records = bytes / self.payloads.size();
        let (took, ()) = time(|| {
            for number in 0..records {
                let last = number + 1 == records;
                let durability = if last { Durability::Written } else { Durability::Buffered };
                let record = Record::new(kind(), black_box(self.payloads.get(number)));
                black_box(self.wal.append_with(record, durability).expect("an append"));
            }
        });
        let count = self.counts.get().since(before);
        let background = count.written / wal_manager::SYNC_BYTES_DEFAULT + 1;
        assert!(count.syncs <= background && count.writes > 0, "written, not synced: {count:?}");
        took
    }
}

/// A file that grows, and system calls.
#[derive(Debug)]
pub struct Bare {
    file: File,
    offset: u64,
    payloads: Payloads,
    number: usize,
    buffer: Vec<u8>,
    _directory: TempDir,
}

impl Bare {
    /// A new file, for payloads of `size` bytes.
    pub fn new(size: usize) -> Self {
        let directory = data::directory();
        let file = File::create_new(directory.path().join("bare")).expect("a new file");
        file.sync_all().expect("a sync");
        let buffer = Vec::with_capacity(BUFFER_BYTES);
        Self { file, offset: 0, payloads: Payloads::new(size), number: 0, buffer, _directory: directory }
    }

    /// A new file that has been written to for a while.
    pub fn warm(size: usize) -> Self {
        let mut bare = Self::new(size);
        bare.unsynced(WARM_BYTES);
        bare
    }

    /// One payload written behind the last one, and fdatasync.
    pub fn synced(&mut self) -> Duration {
        let payload = self.payloads.get(self.number);
        self.number += 1;
        let offset = self.offset;
        self.offset += payload.len() as u64;
        time(|| {
            self.file.write_all_at(black_box(payload), offset).expect("a write");
            self.file.sync_data().expect("a sync");
        })
        .0
    }

    /// [`THREADS`] payloads in one write, and one fdatasync: the best that a commit group of so many threads can do.
    pub fn group(&mut self) -> Duration {
        let offset = self.offset;
        let (took, ()) = time(|| {
            self.buffer.clear();
            for number in 0..THREADS {
                self.buffer.extend_from_slice(black_box(self.payloads.get(self.number + number)));
            }
            self.file.write_all_at(&self.buffer, offset).expect("a write");
            self.file.sync_data().expect("a sync");
        });
        self.number += THREADS;
        self.offset += self.buffer.len() as u64;
        took
    }

    /// Each payload copied into a buffer of 64 KiB, its CRC-32, and a write whenever the buffer is full; `bytes` bytes of payload.
    pub fn unsynced(&mut self, bytes: usize) -> Duration {
        self.fill(bytes, |file, buffer, offset| file.write_all_at(buffer, offset).expect("a write"))
    }

    /// As [`Bare::unsynced`], but a full buffer is emptied instead of written.
    pub fn discarding(&mut self, bytes: usize) -> Duration {
        self.fill(bytes, |_, buffer, _| {
            black_box(buffer);
        })
    }

    fn fill(&mut self, bytes: usize, write: impl Fn(&File, &[u8], u64)) -> Duration {
        let records = bytes / self.payloads.size();
        time(|| {
            self.buffer.clear();
            for number in 0..records {
                let start = self.buffer.len();
                self.buffer.extend_from_slice(black_box(self.payloads.get(number)));
                black_box(crc32fast::hash(&self.buffer[start..]));
                if self.buffer.len() + self.payloads.size() > BUFFER_BYTES || number + 1 == records {
                    write(&self.file, &self.buffer, self.offset);
                    self.offset += self.buffer.len() as u64;
                    self.buffer.clear();
                }
            }
        })
        .0
    }
}

fn kind() -> RecordKind {
    RecordKind::new(1).expect("a kind of the engine's")
}
