//! One open log that many threads use, with the model beside it: every answer of the log is judged at once.
//!
//! - **E**: every error is of the kinds that the call promises; after the first failure, and after a close, nothing is acknowledged
//!   any more; every waiter gets the same cause.
//!
//! No lock of this module is ever held while the log is called, so that it hides no interleaving.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wal_manager::{
    Appended, Deletion, Durability, Error, ErrorKind, FamilyId, Inspection, Options, Position, Record,
    RecordKind, Recovery, SealedLog, SeqNum, Ticket, Wal,
};
use wal_tests::history::{Attempt, Draft, History};
use wal_tests::life;

use crate::disk::Injected;
use crate::run::is_replay;
use crate::tally::Tally;

/// The model, shared by the threads and outliving the log.
#[derive(Debug, Default)]
pub struct Model {
    history: Mutex<History>,
    tally: Mutex<Tally>,
    trace: Mutex<Vec<String>>,
}

/// Locks of std: nobody yields while holding one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Model {
    /// What the log has promised.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// What was met.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    /// Adds a line to the story.
    pub fn say(&self, line: impl FnOnce() -> String) {
        let line = line();
        if is_replay() {
            eprintln!("  {line}");
        }
        lock(&self.trace).push(line);
    }

    /// The last lines of the story.
    pub fn story(&self) -> String {
        let lines = lock(&self.trace);
        let from = lines.len().saturating_sub(300);
        lines[from..].join("\n  ")
    }
}

/// What has ended a log.
#[derive(Debug, Default)]
struct Stopped {
    /// The first failure, in words.
    cause: Option<String>,
    /// The frontier as it was soon after somebody was first told.
    frontier: Option<Position>,
}

/// See [the module](self).
#[derive(Debug)]
pub struct Session {
    /// The log.
    pub wal: Wal,
    model: Arc<Model>,
    stopped: Mutex<Stopped>,
    /// Somebody was told that the log has failed, and it was not resumed since.
    failed: AtomicBool,
    /// Somebody has tried to resume it: from then on, what was told before may not hold any more.
    resumed: AtomicBool,
    /// [`Wal::close`] has returned, and whether without an error.
    closed: AtomicBool,
    closed_cleanly: AtomicBool,
}

/// A record that is accepted, and that somebody may wait for.
#[derive(Debug)]
#[must_use = "wait for it, or drop it on purpose"]
pub struct Waiting(Ticket);

impl Session {
    /// Watches an open log.
    pub fn new(wal: Wal, model: &Arc<Model>) -> Self {
        Self {
            wal,
            model: Arc::clone(model),
            stopped: Mutex::default(),
            failed: AtomicBool::new(false),
            resumed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            closed_cleanly: AtomicBool::new(false),
        }
    }

    /// Whether somebody was told that the log has failed, or was closed.
    pub fn has_stopped(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.closed.load(Ordering::Relaxed)
    }

    /// Whether somebody was told that the log has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Judges an answer. `stopped` is [`Session::has_stopped`] before the call; `allowed` are the kinds that this call may fail with,
    /// beside those of a log that has stopped.
    fn judge<T>(&self, what: &str, stopped: bool, answer: &Result<T, Error>, allowed: &[ErrorKind]) {
        match answer {
            Ok(_) => assert!(
                !stopped || self.resumed.load(Ordering::Relaxed),
                "E: {what} succeeds after the log has stopped"
            ),
            Err(error @ Error::Poisoned { cause }) => {
                if life::is_no_space(error) {
                    // The next call may resume it.
                    self.resumed.store(true, Ordering::Relaxed);
                }
                let cause = cause.to_string();
                self.model.say(|| format!("{what}: {cause}"));
                self.failed.store(true, Ordering::Relaxed);
                let first = lock(&self.stopped).cause.get_or_insert(cause.clone()).clone();
                let resumed = self.resumed.load(Ordering::Relaxed);
                assert!(first == cause || resumed, "E: two waiters are given two causes: {first}, {cause}");
                let frontier = self.wal.durable();
                lock(&self.stopped).frontier.get_or_insert(frontier);
            }
            Err(Error::Closed) => {}
            // Nothing was done.
            Err(error) if error.kind() == ErrorKind::Full && life::is_no_space(error) => {
                self.model.say(|| format!("{what}: {error}"));
                assert!(!["wait", "await", "mark_flushed"].contains(&what), "E: {what} fails with {error:?}");
            }
            Err(error) => {
                self.model.say(|| format!("{what}: {error}"));
                assert!(allowed.contains(&error.kind()), "E: {what} fails with {error:?}");
            }
        }
    }

    /// Orders a record.
    ///
    /// # Errors
    /// The log's.
    pub fn submit(&self, draft: Draft, first: Option<(SeqNum, u32)>) -> Result<Waiting, Error> {
        let (attempt, families, payload) = self.begin(draft);
        let stopped = self.has_stopped();
        let answer = self.wal.submit(record(&families, &payload, first));
        self.judge("submit", stopped, &answer, &[ErrorKind::Io, ErrorKind::Invalid]);
        let mut history = self.model.history();
        match answer {
            Ok(ticket) => {
                history.accepted(attempt, ticket.appended());
                Ok(Waiting(ticket))
            }
            Err(error) => {
                history.refused(attempt);
                Err(error)
            }
        }
    }

    /// Waits for a record.
    ///
    /// # Errors
    /// The log's.
    pub fn wait(&self, Waiting(ticket): Waiting) -> Result<Appended, Error> {
        let index = ticket.appended().index.get();
        // The frontier is asked for after that: of a log that has failed it does not move any more.
        let failed = self.has_failed();
        let stopped = failed && self.wal.durable().index.get() < index;
        let answer = ticket.wait();
        self.judge("wait", stopped, &answer, &[]);
        // Whoever closes makes everything durable that was accepted before.
        assert!(!matches!(answer, Err(Error::Closed)), "E: an accepted record is given up by a close");
        if answer.is_ok() {
            self.model.history().durable(index);
        }
        answer
    }

    /// Awaits a record.
    ///
    /// # Errors
    /// The log's.
    pub fn wait_for_future(&self, Waiting(ticket): Waiting) -> Result<Appended, Error> {
        let index = ticket.appended().index.get();
        let failed = self.has_failed();
        let stopped = failed && self.wal.durable().index.get() < index;
        let answer = shuttle::future::block_on(ticket);
        self.judge("await", stopped, &answer, &[]);
        assert!(!matches!(answer, Err(Error::Closed)), "E: an accepted record is given up by a close");
        if answer.is_ok() {
            self.model.history().durable(index);
        }
        answer
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The log's.
    pub fn append(&self, draft: Draft, level: Durability) -> Result<Appended, Error> {
        let (attempt, families, payload) = self.begin(draft);
        let stopped = self.has_stopped();
        let answer = self.wal.append_with(record(&families, &payload, None), level);
        self.judge("append", stopped, &answer, &[ErrorKind::Io]);
        let mut history = self.model.history();
        match &answer {
            Ok(appended) => {
                let index = appended.index.get();
                history.accepted(attempt, *appended);
                match level {
                    Durability::Synced => history.durable(index),
                    Durability::Written => history.written(index),
                    Durability::Buffered => {}
                }
            }
            // A rotation by size has failed: nothing was written.
            Err(Error::Io(_) | Error::Full { .. }) => history.refused(attempt),
            // It may be there or not.
            Err(_) => {}
        }
        answer
    }

    fn begin(&self, draft: Draft) -> (Attempt, [FamilyId; 1], Vec<u8>) {
        let (families, payload) = ([FamilyId::new(draft.family)], draft.payload.clone());
        self.model.tally().operations += 1;
        (self.model.history().begin(draft), families, payload)
    }

    /// Goes on after a failure.
    ///
    /// # Errors
    /// The log's.
    pub fn resume(&self) -> Result<(), Error> {
        self.model.tally().operations += 1;
        self.resumed.store(true, Ordering::Relaxed);
        let answer = self.wal.resume();
        self.judge("resume", false, &answer, &[ErrorKind::Io]);
        let durable = answer?.index.get();
        self.model.say(|| format!("resumed through {durable}"));
        if self.failed.swap(false, Ordering::Relaxed) {
            self.model.tally().resumes += 1;
        }
        self.model.history().durable(durable);
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// The log's.
    pub fn sync(&self) -> Result<(), Error> {
        self.model.tally().operations += 1;
        let stopped = self.has_stopped();
        let before = self.model.history().last();
        let answer = self.wal.sync();
        self.judge("sync", stopped, &answer, &[ErrorKind::Io]);
        let durable = answer?.index.get();
        // What this thread, or one that it has heard from, had been told before is covered.
        assert!(durable >= before, "A: a sync covers record {durable}, {before} was accepted before");
        self.model.history().durable(durable);
        Ok(())
    }

    /// Rotates.
    ///
    /// # Errors
    /// The log's.
    pub fn rotate(&self) -> Result<Option<SealedLog>, Error> {
        self.model.tally().operations += 1;
        let stopped = self.has_stopped();
        let before = self.model.history().last();
        let answer = self.wal.rotate();
        self.judge("rotate", stopped, &answer, &[ErrorKind::Io]);
        let sealed = answer?;
        if sealed.is_some() {
            self.model.tally().rotations += 1;
            self.model.history().durable(before);
        }
        Ok(sealed)
    }

    /// Makes the next log ahead, unless the log's own thread is faster.
    ///
    /// # Errors
    /// The log's.
    pub fn housekeep(&self) -> Result<(), Error> {
        self.model.tally().operations += 1;
        let stopped = self.has_stopped();
        let answer = self.wal.housekeep();
        self.judge("housekeep", stopped, &answer, &[ErrorKind::Io]);
        answer
    }

    /// Marks a family as flushed, up to `through` or the newest number there is.
    ///
    /// # Errors
    /// The log's.
    pub fn mark_flushed(&self, family: u32, through: u64) -> Result<Deletion, Error> {
        self.model.tally().operations += 1;
        self.model.history().marking(family, through);
        let stopped = self.closed.load(Ordering::Relaxed);
        let answer = self.wal.mark_flushed(FamilyId::new(family), SeqNum::new(through));
        self.judge("mark_flushed", stopped, &answer, &[ErrorKind::Io, ErrorKind::Invalid]);
        let deletion = answer?;
        self.model.history().marked(family, through);
        self.model.tally().deletions += deletion.deleted.len() as u64;
        Ok(deletion)
    }

    /// Looks at the directory as a reader without the lock does; `options` are those of the same storage. What is proven is noted as
    /// handed out.
    ///
    /// # Errors
    /// The log's.
    pub fn inspect(&self, options: Options) -> Result<(), Error> {
        self.model.tally().operations += 1;
        let inspection: Inspection = self.allowed_to_readers(options.inspect())?;
        self.model.tally().inspections += 1;
        assert!(
            inspection.report().findings.is_empty(),
            "RD1: a reader sees damage: {:?}",
            inspection.report()
        );
        let mut before = None;
        for record in inspection.records() {
            let record = self.allowed_to_readers(record)?;
            let index = record.index.get();
            assert!(
                before.is_none_or(|before| before + 1 == index),
                "C: a reader sees {index} after {before:?}"
            );
            before = Some(index);
            if record.proven {
                self.model.history().exposed(&record);
            }
        }
        Ok(())
    }

    fn allowed_to_readers<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &answer {
            self.model.say(|| format!("inspect: {error}"));
            let allowed = match error {
                Error::ChangedWhileReading { .. } | Error::Restless { .. } | Error::Gap { .. } => true,
                error => matches!(error.kind(), ErrorKind::Io | ErrorKind::NotFound),
            };
            assert!(allowed, "RD1: a reader is told {error:?}");
        }
        answer
    }

    /// Closes the log.
    ///
    /// # Errors
    /// The log's.
    pub fn close(&self) -> Result<(), Error> {
        self.model.tally().operations += 1;
        let stopped = self.has_stopped();
        let answer = self.wal.close();
        self.judge("close", stopped, &answer, &[ErrorKind::Io]);
        self.closed.store(true, Ordering::Relaxed);
        if answer.is_ok() {
            self.closed_cleanly.store(true, Ordering::Relaxed);
            self.model.tally().closes += 1;
        }
        answer
    }

    /// Judges the log when all its threads have come back; what is left is the log, to be dropped.
    pub fn end(self) -> Wal {
        if let Some(frontier) = lock(&self.stopped).frontier.filter(|_| !self.resumed.load(Ordering::Relaxed))
        {
            assert_eq!(self.wal.durable(), frontier, "E: the frontier has moved after a failure");
        }
        let mut history = self.model.history();
        if self.closed_cleanly.load(Ordering::Relaxed) {
            history.closed();
        }
        if self.has_failed() {
            self.model.tally().failures += 1;
        }
        drop(history);
        self.wal
    }
}

fn record<'r>(families: &'r [FamilyId; 1], payload: &'r [u8], first: Option<(SeqNum, u32)>) -> Record<'r> {
    const KIND: RecordKind = match RecordKind::new(1) {
        Ok(kind) => kind,
        Err(_) => panic!("1 is the engine's to use"),
    };
    let record = Record::new(KIND, payload).families(families);
    match first {
        Some((first, count)) => record.seqs(first, count),
        None => record,
    }
}

/// Runs code that may meet a storage that panics; `None` if it did.
pub fn survive<T>(code: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(code))
        .map_err(|panic| {
            if !panic.is::<Injected>() {
                std::panic::resume_unwind(panic);
            }
        })
        .ok()
}

/// Reads everything that a recovery hands out and checks it against the model.
///
/// # Errors
/// The recovery's.
pub fn replay(model: &Model, end: wal_tests::history::End, recovery: Recovery) -> Result<Wal, Error> {
    let records = recovery.records().collect::<Result<Vec<_>, _>>()?;
    let report = recovery.report();
    {
        let mut tally = model.tally();
        tally.recoveries += 1;
        tally.rewritten += report.rewritten_records;
        tally.torn += u64::from(report.cut_bytes > 0);
    }
    let next_index = report.next_index.get();
    model.say(|| format!("recovered through record {}, {} handed out", next_index - 1, records.len()));
    let flushed = |family| recovery.flushed(family).map_or(0, SeqNum::get);
    model.history().recovered(end, &records, next_index, flushed);
    let (wal, _) = recovery.finish()?;
    Ok(wal)
}
