//! The drill's parent: starts the child, kills it, keeps the ledger, has everything checked.

use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use wal_manager::{Clock, SystemClock};

use super::Args;
use super::check;
use super::child;
use super::input::{Input, Survey};
use super::ledger::Ledger;
use super::message::{Message, Opened};
use super::metrics;
use super::place::{self, Place};
use super::plan::Random;
use super::process;
use super::report::Report;
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::out::{self, Out};
use crate::progress;

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    interrupt::on(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            interrupt::end("without a check, and the drill's directory stays");
        }
    })?;
    let clock = SystemClock::default();
    let seed = match args.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|error| Failure::io("choosing a seed", io::Error::other(error)))?,
    };
    // Said at once, so that even a drill that does not come to its end can be repeated.
    out::say(format_args!("drill with --seed {seed}"));
    if let Some(address) = args.metrics {
        metrics::serve(address)?;
        out::say(format_args!("metrics at http://{address}/metrics"));
    }
    let place = Place::new(args.dir.as_deref())?;
    let (input, survey) = Input::survey(&args.input, &place.list(), place.path())?;
    let mut drill = Drill::new(args, seed, place.engine(), input, survey);
    let outcome = drill.run();
    drill.bar.finish_and_clear();
    let mut report = drill.finish();
    let exit = match &outcome {
        Ok(()) => {
            report.passed = report.lost == 0 && report.extra == 0;
            if report.passed { Exit::Fine } else { Exit::Damage }
        }
        Err(failure) => {
            if !matches!(failure, Failure::Silent(_)) {
                report.problems.push(failure.to_string());
            }
            failure.exit()
        }
    };
    report.kept = place.leave(report.passed).map(|kept| kept.display().to_string());
    report.seconds = clock.monotonic().as_secs_f64();
    for problem in &report.problems {
        out::say(format_args!("{problem}"));
    }
    let mut out = Out::new();
    report.print(&mut out, json)?;
    out.flush()?;
    Ok(exit)
}

/// A drill under way.
struct Drill<'a> {
    args: &'a Args,
    seed: u64,
    random: Random,
    engine: PathBuf,
    input: Input,
    ledger: Ledger,
    clock: SystemClock,
    /// Kills after which the drill ends, or begins again.
    kills: u64,
    tables_max: usize,
    /// Whether the engine was killed and not opened since.
    killed: bool,
    /// When the child of this moment was started.
    started: Duration,
    /// How long the last child that came so far took to open the engine.
    opening: Duration,
    /// The log that the child of this moment began with, if it has opened the engine.
    open: Option<u64>,
    report: Report,
    bar: ProgressBar,
}

/// When a child is killed.
#[derive(Clone, Copy, Debug)]
struct Moment {
    /// So many items must have been acknowledged by it.
    acknowledged: u64,
    /// And then so much time must have passed.
    delay: Duration,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Finished,
}

impl<'a> Drill<'a> {
    fn new(args: &'a Args, seed: u64, engine: PathBuf, input: Input, survey: Survey) -> Self {
        let bar = progress::bar(survey.items, "{wide_bar} {pos}/{len} {per_sec} {eta} left {msg}");
        Self {
            args,
            seed,
            random: Random::new(seed),
            engine,
            input,
            ledger: Ledger::new(survey.items),
            clock: SystemClock::default(),
            kills: args.kills,
            tables_max: child::tables_max(survey.bytes, args.memtable_bytes),
            killed: false,
            started: Duration::ZERO,
            opening: Duration::ZERO,
            open: None,
            report: Report {
                seed,
                input: args.input.display().to_string(),
                items: survey.items,
                input_bytes: survey.bytes,
                skipped: survey.skipped,
                ..Report::default()
            },
            bar,
        }
    }

    fn run(&mut self) -> Result<(), Failure> {
        loop {
            let kills_left = self.kills.saturating_sub(self.report.kills);
            let moment = (kills_left > 0).then(|| self.moment(kills_left));
            let end = self.child(moment)?;
            let stopped = STOP.load(Ordering::Relaxed);
            let round_complete = self.ledger.left() == 0;
            let last_kill = end == End::Killed && self.report.kills == self.kills;
            if end == End::Finished && !round_complete {
                let left = self.ledger.left();
                return Err(Failure::Refused(format!("a child ended well, but left {left} items unwritten")));
            }
            if last_kill || round_complete || stopped {
                let passed = self.check()?;
                if !passed || stopped {
                    return Ok(());
                }
            }
            if end == End::Finished && kills_left == 0 {
                if !self.args.forever {
                    return Ok(());
                }
                self.kills = self.kills.saturating_add(self.args.kills);
            }
            // After the last kill, one more child opens, finishes the round, and closes in peace.
            if round_complete && (end == End::Finished || self.report.kills < self.kills) {
                self.ledger.next_round();
            }
        }
    }

    /// The next kill: one in five comes soon after the start, to hit a recovery; the others are spread over the input.
    fn moment(&mut self, kills_left: u64) -> Moment {
        if self.random.below(5) == 0 {
            let opening = u64::try_from(self.opening.as_micros()).unwrap_or(u64::MAX).max(OPENING_MICROS);
            let delay = self.random.below(opening.saturating_add(opening / 2));
            return Moment { acknowledged: 0, delay: Duration::from_micros(delay) };
        }
        // On the average, the kills that are left divide what is left of the round evenly.
        let share = self.ledger.left().checked_div(kills_left.saturating_add(1)).unwrap_or(0).max(1);
        let acknowledged = self.random.below(share.saturating_mul(2)).saturating_add(1);
        let delay = if self.random.below(2) == 0 { 0 } else { self.random.below(DELAY_MICROS) };
        Moment { acknowledged, delay: Duration::from_micros(delay) }
    }

    /// The life of one child.
    fn child(&mut self, moment: Option<Moment>) -> Result<End, Failure> {
        let mut child = self.spawn()?;
        self.open = None;
        self.started = self.clock.monotonic();
        let Some(stdout) = child.stdout.take() else {
            return Err(Failure::io("starting the child", io::Error::other("it has no standard output")));
        };
        let (sender, messages) = mpsc::sync_channel(1024);
        let reader =
            thread::Builder::new().name("reader".to_owned()).spawn(move || process::read(stdout, &sender));
        let reader = reader.map_err(|error| Failure::io("starting a thread", error))?;
        let outcome = self.listen(&mut child, moment, &messages);
        // Whatever happened: the child ends here. What it said before it died counts.
        let killed = matches!(outcome, Ok(true));
        let _ = child.kill();
        while let Ok(message) = messages.recv() {
            self.take(message);
        }
        let status = child.wait().map_err(|error| Failure::io("waiting for the child", error))?;
        let _ = reader.join();
        outcome?;
        self.count_logs();
        self.end(status, killed)
    }

    fn spawn(&self) -> Result<Child, Failure> {
        let starting = |error| Failure::io("starting the child", error);
        let mut command = Command::new(process::program().map_err(starting)?);
        command
            .arg0("walctl")
            .arg("drill-child")
            .arg("--engine")
            .arg(&self.engine)
            .arg("--input")
            .arg(&self.input.path);
        if let Some(list) = &self.input.list {
            command.arg("--list").arg(list);
        }
        let numbers = [
            ("--seed", self.seed),
            ("--round", self.ledger.round()),
            ("--writers", u64::from(self.args.writers)),
            ("--memtable-bytes", self.args.memtable_bytes),
            ("--tables-max", self.tables_max as u64),
        ];
        command.args(numbers.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
        // In a group of its own: Ctrl-C reaches this process alone, which kills the child when it has to.
        command.process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(starting)?;
        let mut done = serde_json::to_vec(&self.ledger.done()).map_err(|error| starting(error.into()))?;
        done.push(b'\n');
        let told = child.stdin.as_mut().map(|stdin| stdin.write_all(&done));
        match told {
            Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(starting(error)),
            // A child that died already says why itself, on standard error and with its exit code.
            _ => Ok(child),
        }
    }

    /// Listens until the child closes its output, or its moment or Ctrl-C has come: `true`.
    fn listen(
        &mut self,
        child: &mut Child,
        moment: Option<Moment>,
        messages: &Receiver<Message>,
    ) -> Result<bool, Failure> {
        let start = self.report.acknowledged;
        let mut deadline =
            moment.filter(|moment| moment.acknowledged == 0).map(|moment| self.after(moment.delay));
        let mut measure_at = self.after(MEASURE_EVERY);
        loop {
            let now = self.clock.monotonic();
            let kill = deadline.is_some_and(|deadline| now >= deadline) || STOP.load(Ordering::Relaxed);
            if kill || now >= measure_at {
                self.measure(child.id());
                measure_at = self.after(MEASURE_EVERY);
            }
            if kill {
                return Ok(true);
            }
            let wake_at = deadline.map_or(measure_at, |deadline| deadline.min(measure_at));
            let wait = wake_at.saturating_sub(now);
            let message = match messages.recv_timeout(wait) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            };
            let written = matches!(message, Message::Written);
            self.take(message);
            let Some(moment) = moment.filter(|_| deadline.is_none()) else { continue };
            if self.report.acknowledged.saturating_sub(start) >= moment.acknowledged {
                deadline = Some(self.after(moment.delay));
            } else if written {
                self.measure(child.id());
                // The input ended first. Half of the time the child is killed while it flushes and closes.
                if self.random.below(2) == 0 {
                    let delay = Duration::from_micros(self.random.below(DELAY_MICROS));
                    deadline = Some(self.after(delay));
                }
            }
        }
    }

    fn after(&self, delay: Duration) -> Duration {
        self.clock.monotonic().saturating_add(delay)
    }

    /// Takes note of what the child says.
    fn take(&mut self, message: Message) {
        match message {
            Message::Opened(opened) => {
                self.opening = self.clock.monotonic().saturating_sub(self.started);
                self.opened(opened);
            }
            Message::Acknowledged { first, last, bytes } => {
                let acknowledged = self.ledger.acknowledge(first, last);
                self.report.acknowledged = self.report.acknowledged.saturating_add(acknowledged);
                self.report.acknowledged_bytes = self.report.acknowledged_bytes.saturating_add(bytes);
                self.bar.set_position(self.report.items.saturating_sub(self.ledger.left()));
            }
            Message::GivenUp(item) => self.ledger.give_up(item),
            Message::Written => {}
            Message::Metrics(news) => metrics::add(news),
        }
    }

    /// Takes note that the engine is open.
    fn opened(&mut self, opened: Opened) {
        self.open = Some(opened.log);
        if std::mem::take(&mut self.killed) {
            self.report.recoveries = self.report.recoveries.saturating_add(1);
            self.report.torn_tails = self.report.torn_tails.saturating_add(u64::from(opened.torn_tail));
            self.report.recovered_records = self.report.recovered_records.saturating_add(opened.records);
        }
    }

    /// Notes how much memory the child has held.
    fn measure(&mut self, child: u32) {
        self.report.peak_memory_bytes = self.report.peak_memory_bytes.max(process::peak_memory_bytes(child));
    }

    /// Counts the logs that the last child began: they are numbered one after another, and the newest is always there.
    fn count_logs(&mut self) {
        let newest = place::logs(&self.engine).into_iter().max().unwrap_or(0);
        let report = &mut self.report;
        report.logs_created = report.logs_created.max(newest);
        let begun = self.open.map_or(0, |first| newest.saturating_sub(first));
        report.rotations = report.rotations.saturating_add(begun);
    }

    fn end(&mut self, status: ExitStatus, killed: bool) -> Result<End, Failure> {
        if killed && status.signal() == Some(SIGKILL) {
            self.report.kills = self.report.kills.saturating_add(1);
            self.report.kills_in_recovery =
                self.report.kills_in_recovery.saturating_add(u64::from(self.open.is_none()));
            self.killed = true;
            self.bar.set_message(format!(
                "kill {}/{}, round {}",
                self.report.kills,
                self.kills,
                self.ledger.round()
            ));
            return Ok(End::Killed);
        }
        if status.success() {
            return Ok(End::Finished);
        }
        let exit = match status.code() {
            Some(1) => Exit::Damage,
            Some(2) => Exit::Refused,
            Some(4) => Exit::Locked,
            Some(5) => Exit::NewerFormat,
            _ => Exit::Io,
        };
        self.report.problems.push(format!("a child did not do its work: {status}"));
        Err(Failure::Silent(exit))
    }

    /// Opens the engine in this process and has every key compared with the input.
    fn check(&mut self) -> Result<bool, Failure> {
        self.bar.set_message("checking every key");
        let (engine, report) = child::open(&self.engine, self.args.memtable_bytes, self.tables_max)?;
        self.opened(child::opened(&engine, &report));
        let findings = check::check(&engine, &self.input, &self.ledger, self.seed)?;
        engine.close()?;
        let passed = findings.passed();
        let report = &mut self.report;
        report.checked = report.checked.saturating_add(findings.checked);
        report.lost = report.lost.saturating_add(findings.lost);
        report.extra = report.extra.saturating_add(findings.extra);
        report.changed = report.changed.saturating_add(findings.changed);
        report.problems.extend(findings.examples);
        Ok(passed)
    }

    /// What is to be reported at the end.
    fn finish(self) -> Report {
        let mut report = self.report;
        let logs = place::logs(&self.engine);
        report.logs_created = report.logs_created.max(logs.iter().copied().max().unwrap_or(0));
        // Numbers only grow and are never reused.
        report.logs_deleted = report.logs_created.saturating_sub(logs.len() as u64);
        report.rounds = self.ledger.round().saturating_add(1);
        report.skipped = report.skipped.saturating_add(self.ledger.unreadable());
        report
    }
}

/// What ends a process without a word.
const SIGKILL: i32 = 9;

/// Shortest time to open an engine that a kill in a recovery reckons with, in microseconds.
const OPENING_MICROS: u64 = 1_000;

/// Longest time from the moment that was counted to the kill, in microseconds: a few commits, so that a kill hits any
/// place in one.
const DELAY_MICROS: u64 = 5_000;

/// How often the child's memory is looked at.
const MEASURE_EVERY: Duration = Duration::from_millis(100);
