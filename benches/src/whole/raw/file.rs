//! A file, written and synced in one of the ways that a system has.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use tempfile::TempDir;

use super::batch::Batch;
use super::ring::Ring;
use crate::data;
use crate::whole::measured::Measured;

/// How bytes get to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Through the page cache, then fdatasync.
    Cached,
    /// Past the page cache (`O_DIRECT`), then fdatasync.
    Direct,
    /// Past the page cache, where a write returns when the disk has it (`O_DIRECT` and `O_DSYNC`).
    DirectSynced,
    /// The same as one entry of an io_uring (`O_DIRECT` and `RWF_DSYNC`).
    Ring,
}

/// A file in a directory of its own.
#[derive(Debug)]
pub(super) struct RawFile {
    file: File,
    access: Access,
    ring: Option<Ring>,
    bytes: u64,
    writes: AtomicU64,
    syncs: AtomicU64,
    written: AtomicU64,
    _directory: TempDir,
}

/// Length of a file that is written before: long enough for a second of any of the workloads, or nearly.
const FILE_BYTES: u64 = 256 << 20;

/// What it is filled with at a time.
const FILL_BYTES: usize = 1 << 20;

impl RawFile {
    /// A new file that grows with each write.
    pub(super) fn growing() -> Self {
        Self::open(data::directory(), Access::Cached, u64::MAX)
    }

    /// A file of zeros that are on the disk, so that a sync has no metadata to write.
    pub(super) fn zeroed(access: Access) -> Self {
        let directory = data::directory();
        let file = File::create_new(directory.path().join("raw")).expect("a new file");
        fill(&file, FILE_BYTES);
        Self::open(directory, access, FILE_BYTES)
    }

    fn open(directory: TempDir, access: Access, bytes: u64) -> Self {
        let flags = match access {
            Access::Cached => OFlags::empty(),
            Access::Direct | Access::Ring => OFlags::DIRECT,
            Access::DirectSynced => OFlags::DIRECT | OFlags::DSYNC,
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).custom_flags(flags.bits().cast_signed());
        let file = options.open(directory.path().join("raw")).expect("the file system takes O_DIRECT");
        file.sync_all().expect("a sync");
        let zero = || AtomicU64::new(0);
        Self {
            file,
            access,
            ring: (access == Access::Ring).then(|| Ring::new().expect("there are rings")),
            bytes,
            writes: zero(),
            syncs: zero(),
            written: zero(),
            _directory: directory,
        }
    }

    /// A buffer for this file.
    pub(super) fn batch(&self) -> Batch {
        Batch::new(self.access != Access::Cached, self.bytes)
    }

    /// One write and one sync, or one write that is both.
    pub(super) fn write_synced(&self, batch: &mut Batch) {
        let (offset, bytes) = batch.finish();
        match &self.ring {
            Some(ring) => ring.write_durably(&self.file, offset, bytes),
            None => self.file.write_all_at(bytes, offset).expect("a write"),
        }
        if matches!(self.access, Access::Cached | Access::Direct) {
            self.file.sync_data().expect("a sync");
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    /// With what was counted.
    pub(super) fn counted(&self, measured: Measured) -> Measured {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Measured {
            writes: get(&self.writes),
            syncs: get(&self.syncs),
            written: get(&self.written),
            ..measured
        }
    }
}

/// Writes `bytes` zeros and makes them durable.
pub(super) fn fill(file: &File, bytes: u64) {
    let zeros = vec![0; FILL_BYTES];
    for offset in (0..bytes).step_by(FILL_BYTES) {
        file.write_all_at(&zeros, offset).expect("a write");
    }
    file.sync_all().expect("a sync");
}
