//! One life of a log: open it, do a few things, with the power going or an operation failing anywhere.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use wal_io::probe::Way;
use wal_io::sim::{Fault, Pending, SimStorage};
use wal_manager::{
    Clock, Durability, Error, ErrorKind, LOG_BYTES_MIN, Options, Record, RecordKind, SeqNum, Wal, WalId,
};

use super::lock;
use super::model::{FAMILIES, Model, families, not_damage, payload};
use super::outcomes::{self, Old};

/// One call of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Append, `Buffered`.
    Buffer,
    /// Append, `Written`.
    Write,
    /// Append, `Synced`.
    Append,
    /// Sync.
    Sync,
    /// Rotate.
    Rotate,
    /// Mark family 0 flushed, through the newest sequence number.
    FlushOne,
    /// Mark both families flushed.
    FlushAll,
    /// Make the next log ahead.
    Housekeep,
    /// Close; nothing follows.
    Close,
    /// Rotate and append, `Synced`: the log before may go then.
    Next,
    /// Hold from the newest sequence number on, or move the hold there.
    Hold,
    /// Release the hold, if there is one.
    Release,
}

/// The name of the hold.
const HOLD: &str = "hold";

impl Call {
    /// Those of a log whose files grow and are made when they are needed.
    pub const PLAIN: [Self; 8] = [
        Self::Buffer,
        Self::Write,
        Self::Append,
        Self::Sync,
        Self::Rotate,
        Self::FlushOne,
        Self::FlushAll,
        Self::Close,
    ];

    /// Those of a log whose files are filled, made ahead, and used again.
    pub const AHEAD: [Self; 6] =
        [Self::Buffer, Self::Append, Self::Rotate, Self::FlushAll, Self::Housekeep, Self::Close];

    /// The same of one that is written past the cache: what was only written is not made durable by the next write that is.
    pub const DIRECT: [Self; 6] =
        [Self::Write, Self::Append, Self::Rotate, Self::FlushAll, Self::Housekeep, Self::Close];

    /// Those of a log from which somebody holds records that are flushed.
    pub const HELD: [Self; 5] = [Self::Append, Self::Next, Self::FlushAll, Self::Hold, Self::Release];
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buffer => "append buffered",
            Self::Write => "append written",
            Self::Append => "append synced",
            Self::Sync => "sync",
            Self::Rotate => "rotate",
            Self::FlushOne => "flushed one family",
            Self::FlushAll => "flushed both families",
            Self::Housekeep => "make the next log",
            Self::Close => "close",
            Self::Next => "rotate and append synced",
            Self::Hold => "hold",
            Self::Release => "release",
        })
    }
}

/// A moment at which the power may go: the disk and what must hold.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The disk as it is.
    pub disk: SimStorage,
    /// What must hold.
    pub model: Model,
    /// The operation that comes next, `None` at the end of the life.
    pub before: Option<String>,
}

/// What happened in a life.
#[derive(Debug, Default)]
pub struct Life {
    /// The moments before each mutating operation of the recorded part, and the one at its end.
    pub moments: Vec<Moment>,
    /// Operations of the recorded part, mutating or not; each may be made to fail.
    pub operations: u64,
}

/// A life to lead.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// What is called after the open.
    pub calls: &'a [Call],
    /// Whether the last call is recorded (the open, if there is none) or nothing is.
    pub record: bool,
    /// The operation of the recorded part that fails, from 0.
    pub fail: Option<u64>,
    /// Whether the sectors that a failing sync was to make durable hold garbage afterwards.
    pub garbage: bool,
    /// How files are written that are filled before they are used, and used again; `None` if they grow.
    pub ahead: Option<Way>,
    /// What becomes of durable bytes that are written again.
    pub old: Old,
}

/// What the hook of the disk sees and changes.
#[derive(Debug)]
struct Watch {
    model: Mutex<Model>,
    moments: Mutex<Vec<Moment>>,
    recording: AtomicBool,
    record: bool,
    operations: AtomicU64,
    fail: Option<u64>,
    garbage: bool,
    old: Old,
    /// What the sync that has just failed leaves behind.
    spoilt: Mutex<Vec<Pending>>,
}

impl Watch {
    fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.model)
    }

    /// Called before each operation.
    fn before(&self, disk: &SimStorage, words: &str) {
        if !self.recording.load(Ordering::Relaxed) {
            return;
        }
        let kind = words.split(' ').next().unwrap_or_default();
        let now = self.operations.fetch_add(1, Ordering::Relaxed);
        for sector in lock(&self.spoilt).drain(..) {
            outcomes::spoil(disk, &sector, &self.old.of(disk, &sector));
            // The cache holds garbage too, so what was only written may be gone even if only the process dies.
            let mut model = self.model();
            model.written = model.must;
        }
        if self.fail == Some(now) {
            disk.fail(Fault::parse(&format!("fail {kind} #1 with EIO")).expect("a word of the trace"));
            if self.garbage && kind.starts_with("sync") {
                let name = words.split(' ').nth(1);
                let here = |one: &Pending| matches!(one, Pending::Sector { file, .. } if Some(file.as_str()) == name);
                lock(&self.spoilt).extend(disk.pending().into_iter().filter(here));
            }
        }
        let mutates = !matches!(kind, "open" | "stat" | "read" | "list" | "lock");
        // With a fault, what comes before it was recorded without it.
        if self.record && mutates && self.fail.is_none_or(|fail| now > fail) {
            self.keep(disk, Some(words.to_owned()));
        }
    }

    fn keep(&self, disk: &SimStorage, before: Option<String>) {
        let moment = Moment { disk: disk.fork(), model: self.model().clone(), before };
        lock(&self.moments).push(moment);
    }
}

/// A clock that stands still: equal histories leave equal bytes.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn wall(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// Options on a disk, always the same.
pub fn options(disk: &SimStorage) -> Options {
    let options = Wal::options_on(Arc::new(disk.clone())).wal_id(WalId::from_bytes([7; 16]));
    options.clock(Arc::new(Still)).idle_promise(None)
}

/// Opens the disk, which is used up, and replays; the model learns what was handed out.
///
/// # Errors
/// A rule was broken. The inner error is the log's own, of a recovery that failed for a reason that it may fail for.
pub fn open(options: Options, model: &mut Model) -> Result<Result<Wal, Error>, String> {
    let recovery = match options.recover() {
        Ok(recovery) => recovery,
        Err(error) => return not_damage(&error).map(|()| Err(error)),
    };
    let records = match recovery.records().collect::<Result<Vec<_>, _>>() {
        Ok(records) => records,
        Err(error) => return not_damage(&error).map(|()| Err(error)),
    };
    model.recovered(&records, recovery.report().next_index.get())?;
    match recovery.finish() {
        Ok((wal, _)) => {
            model.found_hold(wal.holds().first().map(|hold| hold.from.get()))?;
            Ok(Ok(wal))
        }
        // What was closed cleanly is committed only now.
        Err(error) => not_damage(&error).map(|()| Err(error)),
    }
}

/// Leads a life on a copy of the disk.
///
/// # Errors
/// A rule was broken: which and how.
pub fn lead(disk: &SimStorage, model: &Model, plan: Plan<'_>) -> Result<Life, String> {
    let disk = disk.fork();
    let watch = Arc::new(Watch {
        model: Mutex::new(model.clone()),
        moments: Mutex::new(Vec::new()),
        recording: AtomicBool::new(plan.calls.is_empty()),
        record: plan.record,
        operations: AtomicU64::new(0),
        fail: plan.fail,
        garbage: plan.garbage,
        old: plan.old,
        spoilt: Mutex::default(),
    });
    if plan.record || plan.fail.is_some() {
        let (seen, hooked) = (Arc::clone(&watch), disk.clone());
        disk.before_each(Arc::new(move |words| seen.before(&hooked, words)));
    }
    let result = live(&disk, &watch, plan);
    if result.is_ok() && plan.record {
        watch.keep(&disk, None);
    }
    // The hook holds the disk that holds the hook.
    disk.before_each(Arc::new(|_| ()));
    result?;
    let moments = std::mem::take(&mut *lock(&watch.moments));
    Ok(Life { moments, operations: watch.operations.load(Ordering::Relaxed) })
}

fn live(disk: &SimStorage, watch: &Watch, plan: Plan<'_>) -> Result<(), String> {
    let mut model = watch.model().clone();
    let ahead = |way| options(disk).log_bytes(LOG_BYTES_MIN).way(way).recycle(1);
    let options = plan.ahead.map_or_else(|| options(disk), ahead);
    let opened = open(options, &mut model)?;
    let wal = match opened {
        Ok(wal) => wal,
        Err(_) if plan.fail.is_some() && plan.calls.is_empty() => return Ok(()),
        Err(error) => return Err(format!("the disk is sound, and recovery fails: {error}")),
    };
    *watch.model() = model;
    let Some((last, before)) = plan.calls.split_last() else { return after(&wal, watch, plan, Ok(())) };
    for call in before {
        if let Err(failure) = make(&wal, watch, *call)? {
            return Err(format!("the disk is sound, and `{call}` fails: {failure}"));
        }
    }
    watch.recording.store(true, Ordering::Relaxed);
    let made = make(&wal, watch, *last)?;
    if let (Err(failure), None) = (&made, plan.fail) {
        return Err(format!("the disk is sound, and `{last}` fails: {failure}"));
    }
    if *last == Call::Close { Ok(()) } else { after(&wal, watch, plan, made) }
}

/// After a fault: whatever succeeded left a log that works, and a log that is poisoned acknowledges nothing.
fn after(wal: &Wal, watch: &Watch, plan: Plan<'_>, made: Result<(), Error>) -> Result<(), String> {
    if plan.fail.is_none() {
        return Ok(());
    }
    let poisoned = made.as_ref().is_err_and(|error| error.kind() == ErrorKind::Poisoned);
    let again =
        |call: &Call| !matches!(call, Call::Buffer | Call::Write | Call::Append | Call::Sync | Call::Close);
    if made.is_err() && !poisoned && plan.calls.last().is_some_and(again) {
        // It may be tried again.
        let call = plan.calls.last().copied().unwrap_or(Call::Sync);
        make(wal, watch, call)?
            .map_err(|error| format!("E: `{call}` fails again, though the disk is well: {error}"))?;
    }
    let next = make(wal, watch, Call::Append)?;
    if poisoned && next.is_err() {
        return resume(wal, watch);
    }
    match (made, next) {
        (_, Ok(())) if poisoned => Err("E: acknowledged after a failure".to_owned()),
        (Ok(()), Err(error)) => Err(format!("PR6: the call went well, and the log is unusable: {error}")),
        (Err(first), Err(error)) if error.kind() != ErrorKind::Poisoned => {
            Err(format!("E: first `{first}`, then `{error}`"))
        }
        _ => Ok(()),
    }
}

/// S14: the disk is well again, so the log goes on with everything that it accepted, and works.
fn resume(wal: &Wal, watch: &Watch) -> Result<(), String> {
    let durable =
        wal.resume().map_err(|error| format!("S14: the disk is well, and a resume fails: {error}"))?;
    {
        let mut model = watch.model();
        let last = model.next_index() - 1;
        if durable.index.get() != last {
            return Err(format!("S14: a resume made record {} durable of {last}", durable.index));
        }
        model.acknowledge(last);
    }
    for call in [Call::Append, Call::Rotate, Call::Append] {
        make(wal, watch, call)?.map_err(|error| format!("S14: after a resume, `{call}` fails: {error}"))?;
    }
    Ok(())
}

/// Makes one call. The outer error is a broken rule, the inner one the log's own.
fn make(wal: &Wal, watch: &Watch, call: Call) -> Result<Result<(), Error>, String> {
    let level = match call {
        Call::Buffer => Durability::Buffered,
        Call::Write => Durability::Written,
        Call::Append => Durability::Synced,
        Call::Sync => {
            let through = wal.sync();
            return Ok(through.map(|durable| watch.model().acknowledge(durable.index.get())));
        }
        Call::Rotate => {
            let rotated = wal.rotate();
            return Ok(rotated.map(|_| watch.model().acknowledge(wal.durable().index.get())));
        }
        Call::FlushOne | Call::FlushAll => {
            let Some(newest) = wal.last_seq() else { return Ok(Ok(())) };
            let marks = if call == Call::FlushOne { &FAMILIES[..1] } else { &FAMILIES };
            let mut model = watch.model();
            for (family, flushed) in marks.iter().zip(&mut model.flushed) {
                debug_assert!(FAMILIES.contains(family));
                // The engine's table is durable, whether or not the mark becomes so.
                *flushed = newest.get();
            }
            drop(model);
            let marks: Vec<_> = marks.iter().map(|family| (*family, SeqNum::new(newest.get()))).collect();
            return Ok(wal.mark_flushed_all(&marks).map(|_| {
                // A mark that failed may be forgotten, and with it a number of which nothing else is durable.
                let mut model = watch.model();
                model.used_seq = model.used_seq.max(newest.get());
            }));
        }
        Call::Housekeep => return Ok(wal.housekeep()),
        Call::Next => {
            return match make(wal, watch, Call::Rotate)? {
                Ok(()) => make(wal, watch, Call::Append),
                failed => Ok(failed),
            };
        }
        Call::Hold => {
            let Some(newest) = wal.last_seq() else { return Ok(Ok(())) };
            let before = watch.model().held.clone();
            watch.model().may_hold(Some(newest.get()));
            let held = match wal.holds().is_empty() {
                true => wal.hold(HOLD, newest, None),
                false => wal.advance_hold(HOLD, newest).map(drop),
            };
            return Ok(match held {
                // The newest record is flushed and gone: there is nothing to hold, and nothing was changed.
                Err(error) if error.kind() == ErrorKind::Gap => {
                    watch.model().held = before;
                    Ok(())
                }
                held => held.map(|()| watch.model().holds(Some(newest.get()))),
            });
        }
        Call::Release => {
            if wal.holds().is_empty() {
                return Ok(Ok(()));
            }
            watch.model().may_hold(None);
            return Ok(wal.release_hold(HOLD).map(|_| watch.model().holds(None)));
        }
        Call::Close => {
            let closed = wal.close();
            return Ok(closed.map(|()| {
                let mut model = watch.model();
                let last = model.records.len() as u64;
                model.acknowledge(last);
            }));
        }
    };
    let (index, life) = {
        let model = watch.model();
        (model.next_index(), model.life)
    };
    let payload = payload(index, life);
    let record =
        Record::new(RecordKind::new(1).expect("the engine's to use"), &payload).families(families(index));
    if level == Durability::Written {
        // It may be on the disk before the call returns, so the model knows it before.
        watch.model().accept(index, wal.last_seq().map_or(1, |seq| seq.get() + 1))?;
        return Ok(wal.append_with(record, level).map(|_| {
            let mut model = watch.model();
            model.written = model.written.max(index);
        }));
    }
    // The ticket tells what was accepted even if the wait fails.
    let ticket = match wal.submit(record) {
        Ok(ticket) => ticket,
        Err(error) => return Ok(Err(error)),
    };
    let appended = ticket.appended();
    watch.model().accept(appended.index.get(), appended.seqs.first().get())?;
    if level == Durability::Buffered {
        return Ok(Ok(()));
    }
    Ok(ticket.wait().map(|_| watch.model().acknowledge(index)))
}
