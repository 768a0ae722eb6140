//! Exhaustive exploration: every short life of a log on the crashable disk, cut off at every operation, with every subset of what was
//! pending, and again inside the recovery that follows, and inside the one after that.
//!
//! A *state* is a disk together with what must hold on it ([`model::Model`]). It is *distinct* if no other has the same bytes, durable, cached and
//! pending, under the same names, and the same model. Each distinct state is recovered and checked; those of a generation that the
//! bounds allow are then lived on from, by every script of calls, and in each script each operation is one after the other the last one
//! before the power goes, or the one that fails.
//!
//! The exploration is deterministic. Where a generation has more states than the bounds allow, those with the smallest fingerprints go on.

pub mod damage;
pub mod model;
pub mod outcomes;
pub mod script;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use wal_io::probe::Way;
use wal_io::sim::SimStorage;
use wal_manager::RecoveryMode;

use model::{Model, not_damage};
use outcomes::{Old, outcomes};
use script::{Call, Life, Moment, Plan};

/// How far to go.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// For each number of crashes so far: how far its states are lived on.
    pub generations: Vec<Generation>,
    /// Threads that explore.
    pub threads: usize,
    /// What scripts are made of.
    pub calls: &'static [Call],
    /// How files are written that are filled before they are used, and used again; `None` if they grow.
    pub ahead: Option<Way>,
}

impl Bounds {
    fn old(&self) -> Old {
        if self.ahead == Some(Way::Direct) { Old::Survives } else { Old::Nothing }
    }
}

/// How far the states after a certain number of crashes are lived on.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// Most states that go on; the others are only recovered and checked.
    pub states: usize,
    /// Longest script. 0: the recovery alone, with the power going inside it.
    pub calls: usize,
    /// Longest script of which each operation is made to fail.
    pub failing_calls: Option<usize>,
    /// Of how many states the files are damaged, to see that damage is told.
    pub damaged: usize,
    /// Longest script after which, all being well, they are damaged too.
    pub damaged_calls: usize,
    /// What each life begins with, before its script: calls that go well, at which nothing is cut off.
    pub begun: &'static [Call],
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Distinct states, each recovered and checked.
    pub states: u64,
    /// Outcomes of power cuts and deaths, distinct or not.
    pub outcomes: u64,
    /// Lives led.
    pub lives: u64,
    /// Lives in which an operation was made to fail.
    pub failures: u64,
    /// Damaged directories.
    pub damaged: u64,
    /// Distinct states after each number of crashes.
    pub by_generation: Vec<u64>,
}

/// A rule that was broken, and how it came to that.
#[derive(Debug)]
pub struct Counterexample {
    /// Which rule, and how.
    pub broken: String,
    /// What happened, in order.
    pub history: Vec<String>,
}

impl std::fmt::Display for Counterexample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, line) in self.history.iter().enumerate() {
            writeln!(f, "{:>3}. {line}", at + 1)?;
        }
        write!(f, "  => {}", self.broken)
    }
}

/// What led to a state, newest first.
#[derive(Debug)]
struct History {
    line: String,
    before: Option<Arc<Self>>,
}

impl History {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.line.clone()];
        let mut cursor = self.before.as_deref();
        while let Some(history) = cursor {
            lines.push(history.line.clone());
            cursor = history.before.as_deref();
        }
        lines.reverse();
        lines
    }
}

/// A state to live on from.
#[derive(Clone, Debug)]
struct Node {
    fingerprint: u128,
    disk: SimStorage,
    model: Model,
    history: Arc<History>,
}

/// The search.
struct Search<'a> {
    bounds: &'a Bounds,
    seen: Vec<Mutex<HashSet<u128>>>,
    found: Mutex<Option<Counterexample>>,
    outcomes: AtomicU64,
    lives: AtomicU64,
    failures: AtomicU64,
    damaged: AtomicU64,
}

/// Explores.
///
/// # Errors
/// A counterexample: one of the first that were met.
pub fn explore(bounds: &Bounds) -> Result<Totals, Box<Counterexample>> {
    let search = Search {
        bounds,
        seen: (0..64).map(|_| Mutex::default()).collect(),
        found: Mutex::default(),
        outcomes: AtomicU64::new(0),
        lives: AtomicU64::new(0),
        failures: AtomicU64::new(0),
        damaged: AtomicU64::new(0),
    };
    let fresh = SimStorage::new();
    let history = Arc::new(History { line: "an empty directory".to_owned(), before: None });
    let mut nodes =
        vec![Node { fingerprint: fresh.fingerprint(), disk: fresh, model: Model::default(), history }];
    let mut totals = Totals::default();
    for (number, generation) in bounds.generations.iter().enumerate() {
        let keep = bounds.generations.get(number + 1).map_or(0, |next| next.states.max(next.damaged));
        nodes = search.generation(&nodes, *generation, keep)?;
        let states = search.seen.iter().map(|shard| lock(shard).len() as u64).sum::<u64>();
        totals.by_generation.push(states - totals.states);
        totals.states = states;
    }
    totals.outcomes = search.outcomes.into_inner();
    totals.lives = search.lives.into_inner();
    totals.failures = search.failures.into_inner();
    totals.damaged = search.damaged.into_inner();
    Ok(totals)
}

impl Search<'_> {
    /// Lives on from `nodes`; returns the states that were not met before, at most `keep`, those with the smallest fingerprints.
    fn generation(
        &self,
        nodes: &[Node],
        generation: Generation,
        keep: usize,
    ) -> Result<Vec<Node>, Box<Counterexample>> {
        let next = AtomicU64::new(0);
        let mut found: Vec<Node> = thread::scope(|scope| {
            let work = || {
                let mut nodes_found = Vec::new();
                while lock(&self.found).is_none() {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("few");
                    let Some(node) = nodes.get(at) else { break };
                    let done = self.live_on(node, at, generation, &mut nodes_found);
                    if let Err((broken, history)) = done {
                        let history = history.lines();
                        lock(&self.found).get_or_insert(Counterexample { broken, history });
                    }
                    if nodes_found.len() > 2 * keep {
                        shrink(&mut nodes_found, keep);
                    }
                }
                nodes_found
            };
            let threads: Vec<_> = (0..self.bounds.threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic in the search")).collect()
        });
        if let Some(counterexample) = lock(&self.found).take() {
            return Err(Box::new(counterexample));
        }
        shrink(&mut found, keep);
        Ok(found)
    }

    /// All that can happen next to one state.
    fn live_on(
        &self,
        node: &Node,
        at: usize,
        generation: Generation,
        found: &mut Vec<Node>,
    ) -> Result<(), Broken> {
        if at < generation.damaged {
            self.damage(&node.disk, &node.model, &node.history)?;
        }
        if at >= generation.states {
            return Ok(());
        }
        for script in scripts(self.bounds.calls, generation.calls) {
            let calls = [generation.begun, &script].concat();
            let plan = Plan {
                calls: &calls,
                record: true,
                fail: None,
                garbage: false,
                ahead: self.bounds.ahead,
                old: self.bounds.old(),
            };
            let life = self.lead(node, plan)?;
            self.cut(node, plan, &life.moments, found)?;
            if let (true, Some(end)) = (script.len() <= generation.damaged_calls, life.moments.last()) {
                let history = line(&node.history, words(plan, None));
                self.damage(&end.disk, &end.model, &history)?;
                let rotten = damage::rotten_slot(&end.disk, &end.model);
                rotten.map_err(|(what, broken)| (broken, line(&history, what)))?;
            }
            if generation.failing_calls.is_none_or(|longest| script.len() > longest) {
                continue;
            }
            for (operation, garbage) in (0..life.operations).flat_map(|at| [(at, false), (at, true)]) {
                let plan = Plan { fail: Some(operation), garbage, ..plan };
                let life = self.lead(node, plan)?;
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.cut(node, plan, &life.moments, found)?;
            }
        }
        Ok(())
    }

    fn damage(&self, disk: &SimStorage, model: &Model, history: &Arc<History>) -> Result<(), Broken> {
        let damaged = damage::damage(disk, model);
        let count = damaged.map_err(|(what, broken)| (broken, line(history, what)))?;
        self.damaged.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn lead(&self, node: &Node, plan: Plan<'_>) -> Result<Life, Broken> {
        self.lives.fetch_add(1, Ordering::Relaxed);
        let led = std::panic::catch_unwind(|| script::lead(&node.disk, &node.model, plan));
        let led = led.unwrap_or_else(|_| Err("T: a panic".to_owned()));
        led.map_err(|broken| (broken, line(&node.history, words(plan, None))))
    }

    /// Ends the life at each of its moments, in every way.
    fn cut(
        &self,
        node: &Node,
        plan: Plan<'_>,
        moments: &[Moment],
        found: &mut Vec<Node>,
    ) -> Result<(), Broken> {
        for moment in moments {
            let pending = moment.disk.pending();
            let mut model = moment.model.clone();
            model.life += 1;
            let written = model.written;
            // A crash in the recovery that comes may take what was only written.
            model.written = model.must;
            // The process dies, and what it wrote is seen and not durable.
            self.meet(moment.disk.fork(), &model, written, found, || {
                line(&line(&node.history, words(plan, Some(moment))), "the process dies".to_owned())
            })?;
            for outcome in outcomes(&pending) {
                let disk = outcome.of(&moment.disk.fork(), &pending, self.bounds.old());
                self.meet(disk, &model, 0, found, || {
                    line(&line(&node.history, words(plan, Some(moment))), outcome.words(&pending))
                })?;
            }
        }
        Ok(())
    }

    /// Checks a state unless it was met before. `written`: a recovery that comes at once must find this record.
    fn meet(
        &self,
        disk: SimStorage,
        model: &Model,
        written: u64,
        found: &mut Vec<Node>,
        history: impl Fn() -> Arc<History>,
    ) -> Result<(), Broken> {
        self.outcomes.fetch_add(1, Ordering::Relaxed);
        let fingerprint = fingerprint(&disk, model);
        let shard = usize::try_from(fingerprint % 64).expect("below 64");
        if !lock(&self.seen[shard]).insert(fingerprint) {
            return Ok(());
        }
        let checked = std::panic::catch_unwind(|| check(&disk, model, written));
        let checked = checked.unwrap_or_else(|_| Err("T: a panic".to_owned()));
        checked.map_err(|broken| (broken, history()))?;
        found.push(Node { fingerprint, disk, model: model.clone(), history: history() });
        Ok(())
    }
}

/// What was broken, and how it came to that.
type Broken = (String, Arc<History>);

/// A state must be recovered, to what the model knows; and what a reader without the lock calls proven must survive (RD2).
fn check(disk: &SimStorage, model: &Model, written: u64) -> Result<(), String> {
    let lost = (!disk.pending().is_empty()).then(|| disk.fork());
    if let Some(disk) = lost {
        let options = script::options(&disk).mode(RecoveryMode::Default);
        match options.inspect() {
            Err(error) => not_damage(&error)?,
            Ok(inspection) => {
                let records = inspection.records().collect::<Result<Vec<_>, _>>();
                let records = records.map_err(|error| format!("L: a reader without the lock: {error}"))?;
                let proven = records.iter().filter(|record| record.proven).map(|record| record.index.get());
                let mut model = model.clone();
                model.must = model.must.max(proven.max().unwrap_or(0));
                let after = disk.crash_all_lost();
                recover(&after, model)
                    .map_err(|broken| format!("RD2: a reader called it proven, but {broken}"))?;
            }
        }
    }
    recover(&disk.fork(), Model { must: model.must.max(written), ..model.clone() })
}

fn recover(disk: &SimStorage, mut model: Model) -> Result<(), String> {
    let opened = script::open(script::options(disk), &mut model)?;
    let _open = opened.map_err(|error| format!("L: the disk is sound, and recovery fails: {error}"))?;
    if model.held.is_empty() {
        return Ok(());
    }
    // What is flushed is not handed out, so a reader looks.
    let looked = script::options(disk).inspect();
    let records = looked.and_then(|looked| looked.records().collect::<Result<Vec<_>, _>>());
    let records = records.map_err(|error| format!("L: a log that is open, and a reader gets: {error}"))?;
    model.keeps_what_is_held(&records.iter().map(|record| record.index.get()).collect::<Vec<_>>())
}

/// Every script of at most `longest` calls that makes sense: nothing follows a close.
fn scripts(of: &[Call], longest: usize) -> Vec<Vec<Call>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..longest {
        let longer = last.iter().filter(|calls: &&Vec<Call>| calls.last() != Some(&Call::Close));
        last = longer
            .flat_map(|calls| of.iter().map(|call| calls.iter().chain([call]).copied().collect()))
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

fn words(plan: Plan<'_>, moment: Option<&Moment>) -> String {
    let mut words = String::from("recovery");
    for call in plan.calls {
        words.push_str(&format!("; {call}"));
    }
    if let Some(operation) = plan.fail {
        let garbage = if plan.garbage { " and leaves garbage" } else { "" };
        words.push_str(&format!(", of which operation {operation} fails with EIO{garbage}, and an append"));
    }
    match moment.map(|moment| &moment.before) {
        Some(Some(before)) => words.push_str(&format!(", up to the operation before `{before}`")),
        Some(None) => words.push_str(", to the end"),
        None => {}
    }
    words
}

fn line(before: &Arc<History>, line: String) -> Arc<History> {
    Arc::new(History { line, before: Some(Arc::clone(before)) })
}

fn fingerprint(disk: &SimStorage, model: &Model) -> u128 {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    // Both halves of the disk's hash get the model's.
    let model = u128::from(hasher.finish());
    disk.fingerprint() ^ (model | model << 64)
}

fn shrink(nodes: &mut Vec<Node>, keep: usize) {
    nodes.sort_unstable_by_key(|node| node.fingerprint);
    nodes.truncate(keep);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
