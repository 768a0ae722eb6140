//! Group commit with several batches at the disk at once: what the disk gives to a log that does not wait for one batch before it writes the next.
//!
//! Each batch has blocks of its own, since two writes of one block at the same time have no order: whatever is left of its last block is lost
//! space. A batch counts as durable when all before it are.

use std::sync::atomic::AtomicU32;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::batch::Batch;
use super::file::RawFile;
use super::group::{sleep_until, tell};

/// Batches at the disk at once.
const SLOTS: usize = 2;

/// Words that threads sleep on, by the batch's number: more than there are batches about.
const WORDS: u32 = 4;

/// Group commit with a pipeline.
#[derive(Debug)]
pub(super) struct Pipelined {
    file: RawFile,
    forming: Mutex<Forming>,
    free: Condvar,
    /// The last batch of which it is known that it and all before it are durable, by number.
    durable: [AtomicU32; WORDS as usize],
}

#[derive(Debug)]
struct Forming {
    batch: Batch,
    records: u32,
    number: u32,
    spares: Vec<Batch>,
}

impl Pipelined {
    pub(super) fn new(file: RawFile) -> Self {
        let spares = (0..SLOTS).map(|_| file.batch()).collect();
        let forming = Forming { batch: file.batch(), records: 0, number: WORDS, spares };
        let durable = [0, 1, 2, 3].map(AtomicU32::new);
        Self { file, forming: Mutex::new(forming), free: Condvar::new(), durable }
    }

    pub(super) fn file(&self) -> &RawFile {
        &self.file
    }

    /// Returns when the record is durable.
    pub(super) fn append(&self, payload: &[u8]) {
        let mut forming = self.lock();
        forming.batch.push(payload);
        forming.records += 1;
        let number = forming.number;
        if forming.records == 1 {
            self.lead(forming);
        } else {
            drop(forming);
            self.wait(number);
        }
    }

    fn lead(&self, mut forming: MutexGuard<'_, Forming>) {
        let number = forming.number;
        let mut next = loop {
            match forming.spares.pop() {
                Some(spare) => break spare,
                None => forming = self.free.wait(forming).expect("nobody panics with it"),
            }
        };
        next.follow_in_own_blocks(&forming.batch);
        std::mem::swap(&mut next, &mut forming.batch);
        forming.records = 0;
        forming.number += 1;
        drop(forming);
        self.file.write_synced(&mut next);
        self.lock().spares.push(next);
        self.free.notify_one();
        self.wait(number - 1);
        tell(self.word(number), number);
    }

    /// Sleeps until this batch is durable, and all before it.
    fn wait(&self, number: u32) {
        sleep_until(self.word(number), number);
    }

    fn word(&self, number: u32) -> &AtomicU32 {
        &self.durable[(number % WORDS) as usize]
    }

    fn lock(&self) -> MutexGuard<'_, Forming> {
        self.forming.lock().expect("nobody panics with it")
    }
}
