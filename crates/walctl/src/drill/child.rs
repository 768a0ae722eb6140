//! The drill's child: writes the input through the toy engine, says what was acknowledged, and is killed.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use toy_memtable::{Engine, FamilyId, RecoveryReport, WriteBatch};
use wal_manager::Verdict;

use super::input::{Input, Item, Items};
use super::message::{Message, Opened};
use super::metrics::Collector;
use super::plan::{self, Step};
use crate::exit::{Exit, Failure};
use crate::out;

/// The drill's own: writes, until it is killed
#[derive(Debug, clap::Args)]
pub(crate) struct ChildArgs {
    #[arg(long)]
    pub(super) engine: PathBuf,
    #[arg(long)]
    pub(super) input: PathBuf,
    #[arg(long)]
    pub(super) list: Option<PathBuf>,
    #[arg(long)]
    pub(super) seed: u64,
    #[arg(long)]
    pub(super) round: u64,
    #[arg(long)]
    pub(super) writers: u16,
    #[arg(long)]
    pub(super) memtable_bytes: u64,
    #[arg(long)]
    pub(super) tables_max: usize,
}

pub(crate) fn run(args: &ChildArgs) -> Result<Exit, Failure> {
    let done = lifeline()?;
    let collector = Collector::install()?;
    let (engine, report) = open(&args.engine, args.memtable_bytes, args.tables_max)?;
    send(&Message::Opened(opened(&engine, &report)))?;
    let input = Input { path: args.input.clone(), list: args.list.clone() };
    let work = Work {
        engine: &engine,
        seed: args.seed,
        round: args.round,
        queue: Mutex::new(Queue { items: input.items()?, done: done.into_iter().peekable() }),
    };
    let (stop, stopped) = mpsc::channel();
    let outcome = thread::scope(|scope| {
        let reporter = scope.spawn(|| report_metrics(&collector, stopped));
        let writers: Vec<_> = (0..args.writers).map(|_| scope.spawn(|| work.write())).collect();
        let mut outcome =
            writers.into_iter().try_for_each(|writer| writer.join().unwrap_or_else(|_| panicked()));
        outcome = outcome.and_then(|()| send(&Message::Written));
        outcome = outcome.and_then(|()| Ok(engine.flush()?));
        outcome = outcome.and_then(|()| Ok(engine.close()?));
        drop(stop);
        outcome.and(reporter.join().unwrap_or_else(|_| panicked()))
    });
    outcome?;
    Ok(Exit::Fine)
}

/// Opens the engine as the drill wants it: as durable as it can be, and small, so that memtables are sealed, tables written
/// and logs deleted all the time.
pub(super) fn open(
    path: &Path,
    memtable_bytes: u64,
    tables_max: usize,
) -> Result<(Engine, RecoveryReport), Failure> {
    Ok(Engine::options(path).memtable_bytes(memtable_bytes).tables_max(tables_max).open()?)
}

/// How many tables the engine may hold before it merges them all: so many that a large input is not merged more than
/// about ten times.
pub(super) fn tables_max(input_bytes: u64, memtable_bytes: u64) -> usize {
    let flushes = input_bytes.checked_div(memtable_bytes).unwrap_or(0);
    usize::try_from(flushes / 8).unwrap_or(usize::MAX).clamp(8, 512)
}

/// What the parent counts of a recovery.
pub(super) fn opened(engine: &Engine, report: &RecoveryReport) -> Opened {
    let log = engine.logs().last().map_or(0, |log| log.log.get());
    Opened { torn_tail: report.verdict == Verdict::TornTail, records: report.records, log }
}

/// The family that holds an item's key: two, so that logs hold records of both.
pub(super) fn family(number: u64) -> FamilyId {
    FamilyId::new(u32::from(number % 2 == 1))
}

/// Reads what the parent says at the start, and from then on ends this process when the parent has gone.
fn lifeline() -> Result<Vec<(u64, u64)>, Failure> {
    let failed = |error| Failure::io("listening to the drill's parent", error);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    let done = serde_json::from_str(&line).map_err(|error| failed(error.into()))?;
    let wait = || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(i32::from(Exit::Io.code()));
    };
    thread::Builder::new().name("lifeline".to_owned()).spawn(wait).map_err(failed)?;
    Ok(done)
}

/// Everything that the writers share.
struct Work<'a> {
    engine: &'a Engine,
    seed: u64,
    round: u64,
    queue: Mutex<Queue>,
}

/// The items that are still to be written.
struct Queue {
    items: Items,
    /// Ranges of items that need not be written.
    done: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
}

impl Work<'_> {
    /// One writer: until nothing is left.
    fn write(&self) -> Result<(), Failure> {
        loop {
            let group = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take(self.seed)?;
            if group.is_empty() {
                return Ok(());
            }
            self.write_group(group)?;
        }
    }

    /// Writes the items, each as planned. Those that are only put and are short share a batch.
    fn write_group(&self, group: Vec<Item>) -> Result<(), Failure> {
        let alone = group.len() == 1;
        let mut batch = WriteBatch::new();
        let mut batched: Vec<(u64, u64)> = Vec::new();
        for item in group {
            let (number, key) = (item.number, item.key.clone());
            let Ok(mut value) = item.contents() else {
                send(&Message::GivenUp(number))?;
                continue;
            };
            value.extend(plan::tag(self.round));
            let family = family(number);
            let steps = plan::steps(self.seed, self.round, number);
            let bytes = key.len().saturating_add(value.len()) as u64;
            if !alone && steps == [Step::Put] && bytes < BATCH_BYTES {
                batch.put(family, &key, &value).map_err(toy_memtable::EngineError::from)?;
                batched.push((number, bytes));
                continue;
            }
            for step in steps {
                match step {
                    Step::Put => self.engine.put(family, &key, &value)?,
                    Step::Scratch => self.engine.put(family, &key, &plan::scratch(self.round, number))?,
                    Step::Delete => self.engine.delete(family, &key)?,
                };
            }
            // ORDER: said only now that the engine has acknowledged every step as synced.
            send(&Message::Acknowledged { first: number, last: number, bytes })?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.engine.write(&batch)?;
        // ORDER: as above.
        runs(&batched)
            .into_iter()
            .try_for_each(|(first, last, bytes)| send(&Message::Acknowledged { first, last, bytes }))
    }
}

impl Queue {
    /// The next few items: half of the time one, else up to 64 short ones.
    fn take(&mut self, seed: u64) -> Result<Vec<Item>, Failure> {
        let (mut group, mut bytes, mut most) = (Vec::new(), 0_u64, 1);
        while group.len() < most && bytes < BATCH_BYTES {
            let Some(item) = self.items.next()? else { break };
            if self.is_done(item.number) {
                continue;
            }
            if group.is_empty() {
                let random = plan::mix(seed ^ item.number);
                most = if random.is_multiple_of(2) {
                    1
                } else {
                    usize::try_from(2 + (random >> 8) % 63).unwrap_or(1)
                };
            }
            bytes = bytes.saturating_add(item.bytes);
            group.push(item);
        }
        Ok(group)
    }

    fn is_done(&mut self, number: u64) -> bool {
        while self.done.next_if(|&(_, last)| last < number).is_some() {}
        self.done.peek().is_some_and(|&(first, _)| first <= number)
    }
}

/// Numbers with their bytes, as runs without gaps.
fn runs(items: &[(u64, u64)]) -> Vec<(u64, u64, u64)> {
    let mut runs: Vec<(u64, u64, u64)> = Vec::new();
    for &(number, bytes) in items {
        match runs.last_mut() {
            Some((_, last, sum)) if last.checked_add(1) == Some(number) => {
                *last = number;
                *sum = sum.saturating_add(bytes);
            }
            _ => runs.push((number, number, bytes)),
        }
    }
    runs
}

/// Tells the parent what the metrics have gained, now and then and at the end.
fn report_metrics(collector: &Collector, stopped: Receiver<()>) -> Result<(), Failure> {
    // The recovery's numbers first: the kill may come soon.
    let mut more = true;
    while more {
        let news = collector.news();
        if !news.is_empty() {
            send(&Message::Metrics(news))?;
        }
        more = matches!(stopped.recv_timeout(METRICS_EVERY), Err(RecvTimeoutError::Timeout));
    }
    send(&Message::Metrics(collector.news()))
}

fn send(message: &Message) -> Result<(), Failure> {
    let line = serde_json::to_vec(message).map(|mut line| {
        line.push(b'\n');
        line
    });
    out::line_now(&line.map_err(|error| Failure::io("telling the drill's parent", error.into()))?)
}

fn panicked() -> Result<(), Failure> {
    Err(Failure::io("writing", io::Error::other("a thread panicked")))
}

/// Most bytes in a batch, and shortest item that is written alone.
const BATCH_BYTES: u64 = 128 * 1024;

/// How often the parent is told: a kill takes at most so much of the numbers with it.
const METRICS_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    #[test]
    fn runs_have_no_gaps() {
        assert_eq!(super::runs(&[]), []);
        assert_eq!(super::runs(&[(3, 1), (4, 2), (6, 5), (7, 1), (9, 0)]), [(3, 4, 3), (6, 7, 6), (9, 9, 0)]);
    }
}
