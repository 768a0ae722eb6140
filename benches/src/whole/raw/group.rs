//! Group commit that does nothing else: what threads that append at once can get from this disk and these processors.
//!
//! The first record of a batch makes its thread the leader: it waits until the batch before is on the disk, gives the writers that this
//! has just woken a fraction of a sync to come back, and then writes and syncs the batch. The others sleep on one of two words, by
//! the batch's parity, so that the end of a batch wakes its own threads and the leader of the next, and nobody else.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};

use super::batch::Batch;
use super::file::RawFile;
use crate::stopwatch::{now, time};

/// The prototype of an adaptive leader.
#[derive(Debug)]
pub(super) struct Adaptive {
    file: RawFile,
    forming: Mutex<Forming>,
    /// Records in the forming batch, for the leader to look at without the lock.
    arrived: AtomicU32,
    disk: Mutex<Disk>,
    /// The last batch that is durable, by parity.
    durable: [AtomicU32; 2],
}

#[derive(Debug)]
struct Forming {
    batch: Batch,
    records: u32,
    number: u32,
}

/// The leader's own.
#[derive(Debug)]
struct Disk {
    spare: Batch,
    /// Records in the last batch: so many writers may come back.
    last_records: u32,
    /// What a sync takes, smoothed.
    sync: Duration,
}

impl Adaptive {
    pub(super) fn new(file: RawFile) -> Self {
        let forming = Forming { batch: file.batch(), records: 0, number: 2 };
        let disk = Disk { spare: file.batch(), last_records: 0, sync: Duration::ZERO };
        Self {
            file,
            forming: Mutex::new(forming),
            arrived: AtomicU32::new(0),
            disk: Mutex::new(disk),
            durable: [AtomicU32::new(0), AtomicU32::new(1)],
        }
    }

    pub(super) fn file(&self) -> &RawFile {
        &self.file
    }

    /// Returns when the record is durable.
    pub(super) fn append(&self, payload: &[u8]) {
        let mut forming = lock(&self.forming);
        forming.batch.push(payload);
        forming.records += 1;
        self.arrived.store(forming.records, Ordering::Release);
        let (number, leads) = (forming.number, forming.records == 1);
        drop(forming);
        if leads {
            self.lead(number);
        } else {
            self.wait(number);
        }
    }

    fn lead(&self, number: u32) {
        self.wait(number - 1);
        let mut disk = lock(&self.disk);
        let patience = disk.sync / 2;
        let start = now();
        while self.arrived.load(Ordering::Acquire) < disk.last_records && start.elapsed() < patience {
            thread::yield_now();
        }
        let mut forming = lock(&self.forming);
        disk.spare.follow(&forming.batch);
        std::mem::swap(&mut disk.spare, &mut forming.batch);
        disk.last_records = std::mem::take(&mut forming.records);
        self.arrived.store(0, Ordering::Release);
        forming.number += 1;
        drop(forming);
        let (took, ()) = time(|| self.file.write_synced(&mut disk.spare));
        disk.sync = if disk.sync.is_zero() { took } else { (disk.sync * 7 + took) / 8 };
        drop(disk);
        tell(self.word(number), number);
    }

    /// Sleeps until this batch is durable.
    fn wait(&self, number: u32) {
        sleep_until(self.word(number), number);
    }

    fn word(&self, number: u32) -> &AtomicU32 {
        &self.durable[number as usize % 2]
    }
}

/// Sleeps until the word has come to `number`.
pub(super) fn sleep_until(word: &AtomicU32, number: u32) {
    loop {
        let durable = word.load(Ordering::Acquire);
        if durable >= number {
            return;
        }
        match futex::wait(word, Flags::PRIVATE, durable, None) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("futex: {error}"),
        }
    }
}

/// Brings the word to `number`, and wakes all who sleep on it.
pub(super) fn tell(word: &AtomicU32, number: u32) {
    word.store(number, Ordering::Release);
    futex::wake(word, Flags::PRIVATE, u32::MAX >> 1).expect("futex");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}
