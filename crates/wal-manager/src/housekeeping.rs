//! What is done off the commit path: the next log is made ahead, a log that was closed gets its seal, and logs that a reader let go are deleted.
//!
//! One thread for each open log, started with the first piece of work. Where there is none ([`Options::background`](crate::Options::background)),
//! or where it could not be started, seals are written by the rotation, and the next log is made by
//! [`Wal::housekeep`](crate::Wal::housekeep) or by the rotation that needs it. Nothing ever waits for this thread but a rotation that finds it
//! at work on the next log, and a close.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tracing::warn;
use wal_format::Index;

use crate::inner::Inner;
use crate::state::ActiveLog;
use crate::sync::{Condvar, JoinHandle, Mutex, MutexGuard, current_thread, has_ended, spawn};

/// The next log is made when the active one is full to one part in so many, unless the engine rotates by itself: so a log that is opened for a
/// handful of records never pays for it, and a log that fills up has the rest of its length for it.
pub(crate) const PREPARE_PART: u64 = 16;

/// A log that was closed and waits for its seal, with the index after its last record.
pub(crate) type Closed = (ActiveLog, Index);

/// The list of what is to be done, and who does it.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    list: Mutex<List>,
    changed: Condvar,
}

#[derive(Debug)]
struct List {
    worker: Worker,
    /// The next log is wanted.
    prepare: bool,
    /// There may be logs that nobody needs any more.
    delete: bool,
    /// The engine is to be told of pressure.
    pressure: bool,
    seals: VecDeque<Closed>,
}

#[derive(Debug)]
enum Worker {
    /// There is none, and there will be none.
    None,
    /// None yet.
    Wanted,
    /// The process that it was started in: in the child of a fork there is no thread.
    Runs { thread: JoinHandle<()>, process: u32 },
}

impl Housekeeper {
    pub(crate) fn new(background: bool) -> Self {
        let worker = if background { Worker::Wanted } else { Worker::None };
        Self {
            list: Mutex::new(List {
                worker,
                prepare: false,
                delete: false,
                pressure: false,
                seals: VecDeque::new(),
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing in here panics between two changes.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the next log.
    pub(crate) fn prepare(&self, inner: &Arc<Inner>) {
        let mut list = self.lock();
        list.prepare = true;
        self.begin(&mut list, inner);
    }

    /// Asks for the deletion of what nobody needs any more.
    pub(crate) fn delete(&self, inner: &Arc<Inner>) {
        let mut list = self.lock();
        list.delete = true;
        self.begin(&mut list, inner);
    }

    /// Asks that the engine be told of pressure.
    pub(crate) fn tell_pressure(&self, inner: &Arc<Inner>) {
        let mut list = self.lock();
        list.pressure = true;
        self.begin(&mut list, inner);
    }

    /// The same, if there is a thread for it.
    pub(crate) fn delete_in_background(&self, inner: &Arc<Inner>) -> bool {
        let mut list = self.lock();
        list.delete = true;
        self.begin(&mut list, inner);
        let runs = list.runs();
        list.delete &= runs;
        runs
    }

    /// Takes over a log that waits for its seal; gives it back if the caller has to write it.
    pub(crate) fn seal(&self, closed: Closed, inner: &Arc<Inner>) -> Option<Closed> {
        let mut list = self.lock();
        self.begin(&mut list, inner);
        if !list.runs() {
            return Some(closed);
        }
        list.seals.push_back(closed);
        None
    }

    /// Starts the thread, or tells it.
    fn begin(&self, list: &mut List, inner: &Arc<Inner>) {
        if matches!(list.worker, Worker::Wanted) {
            let inner = Arc::clone(inner);
            list.worker = match spawn("wal-housekeeper", move || work(&inner)) {
                Ok(thread) => Worker::Runs { thread, process: std::process::id() },
                Err(error) => {
                    // Rotations do it themselves from now on.
                    warn!(%error, "wal.no_housekeeper");
                    Worker::None
                }
            };
        }
        self.changed.notify_all();
    }

    /// Takes the next piece of work, if there is any.
    pub(crate) fn take(&self) -> Option<Work> {
        self.lock().take()
    }

    /// Ends the thread and waits for it. What it has not begun stays on the list.
    pub(crate) fn stop(&self) {
        let worker = std::mem::replace(&mut self.lock().worker, Worker::None);
        self.changed.notify_all();
        // The thread itself may drop the last handle, in code of the engine that it calls; it ends soon.
        if let Worker::Runs { thread, process } = worker
            && process == std::process::id()
            && thread.thread().id() != current_thread().id()
        {
            // A thread that panicked has told by itself.
            let _ = thread.join();
        }
    }
}

impl List {
    fn runs(&self) -> bool {
        match &self.worker {
            Worker::Runs { thread, process } => *process == std::process::id() && !has_ended(thread),
            Worker::None | Worker::Wanted => false,
        }
    }

    fn take(&mut self) -> Option<Work> {
        // Seals first: what was sealed can be used again for the next log.
        if let Some(closed) = self.seals.pop_front() {
            return Some(Work::Seal(Box::new(closed)));
        }
        // Then what can be used again.
        if std::mem::take(&mut self.delete) {
            return Some(Work::Delete);
        }
        if std::mem::take(&mut self.prepare) {
            return Some(Work::Prepare);
        }
        // Last: the engine's code may take its time.
        std::mem::take(&mut self.pressure).then_some(Work::Pressure)
    }
}

/// A piece of work.
pub(crate) enum Work {
    Seal(Box<Closed>),
    Delete,
    Prepare,
    Pressure,
}

/// The thread. It keeps the log alive: whoever drops or closes the log stops it.
fn work(inner: &Arc<Inner>) {
    let housekeeper = &inner.housekeeper;
    loop {
        let mut list = housekeeper.lock();
        let work = loop {
            if matches!(list.worker, Worker::None) {
                return;
            }
            if let Some(work) = list.take() {
                break work;
            }
            list = housekeeper.changed.wait(list).unwrap_or_else(PoisonError::into_inner);
        };
        drop(list);
        // It has been told, and the rotation that needs the file tries again.
        let _ = inner.do_work(work);
    }
}
