//! Running code under schedulers.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use wal_manager::{Bell, Clock};

use crate::session::Model;
use crate::tally::Tally;

/// Room for one thread's stack: recovery and the simulated disk need more than shuttle's default.
const STACK_BYTES: usize = 256 << 10;

/// A scenario that takes more steps than this does not end.
const SCENARIO_STEPS_MAX: usize = 1_000_000;

/// Priority changes of PCT: finds, with a known probability, what so many ordered steps provoke.
const PCT_DEPTH: usize = 4;

/// Each look at it takes a microsecond and nothing else does, so that the schedule decides what time it is.
#[derive(Debug, Default)]
pub struct LookClock(AtomicU64);

impl Clock for LookClock {
    fn wall(&self) -> Duration {
        Duration::from_secs(1_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed))
    }

    /// The schedule decides how much the others do before the time has come.
    fn sleep_until(&self, deadline: Option<Duration>, bell: &Bell) {
        let Some(deadline) = deadline else { return bell.wait(None) };
        for _ in 0..8 {
            shuttle::thread::yield_now();
        }
        self.0.fetch_max(deadline.as_micros() as u64, Ordering::Relaxed);
    }
}

/// The schedule to replay, from `INTERLEAVINGS_REPLAY`.
fn replayed() -> Option<&'static str> {
    static SCHEDULE: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("INTERLEAVINGS_REPLAY").ok());
    SCHEDULE.as_deref().map(str::trim)
}

/// Whether one schedule is replayed, so that its story should be told.
pub fn is_replay() -> bool {
    replayed().is_some()
}

fn config(steps_max: usize, failure_persistence: FailurePersistence) -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(steps_max);
    config.failure_persistence = failure_persistence;
    // That it treats relaxed atomics like the others.
    config.silence_warnings = true;
    config
}

/// Runs `body` under this many interleavings, half of them random, half of PCT. A failure prints its schedule; with that in
/// `INTERLEAVINGS_REPLAY`, this runs nothing else. Returns how many were run.
pub fn explore(body: fn(), interleavings: usize, seed: u64) -> usize {
    let config = config(SCENARIO_STEPS_MAX, FailurePersistence::Print);
    if let Some(schedule) = replayed() {
        return Runner::new(ReplayScheduler::new_from_encoded(schedule), config).run(body);
    }
    let random = interleavings / 2;
    let explored = Runner::new(RandomScheduler::new_from_seed(seed, random), config.clone()).run(body);
    let pct = PctScheduler::new_from_seed(seed, PCT_DEPTH, interleavings - random);
    explored + Runner::new(pct, config).run(body)
}

/// Runs one life under the random scheduler that `seed` decides, and gives what it met and its story. A failure prints the story.
pub fn live(
    seed: u64,
    steps_max: usize,
    life: impl Fn(Arc<Model>) + Send + Sync + 'static,
) -> (Tally, String) {
    let model = Arc::new(Model::default());
    let runner =
        Runner::new(RandomScheduler::new_from_seed(seed, 1), config(steps_max, FailurePersistence::None));
    let inner = Arc::clone(&model);
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| runner.run(move || life(Arc::clone(&inner)))));
    if let Err(panic) = result {
        eprintln!("life {seed}:\n  {}", model.story());
        std::panic::resume_unwind(panic);
    }
    let mut tally = model.tally().clone();
    tally.acknowledged += model.history().acknowledged();
    (tally, model.story())
}

/// Runs a life for each seed, on as many threads as there are processors, and adds up what they met.
pub fn each_seed(seeds: Range<u64>, life: impl Fn(u64) -> Tally + Sync) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let Ok(tally) = std::panic::catch_unwind(AssertUnwindSafe(|| life(seed))) else {
                        panic!("seed {seed} fails");
                    };
                    *total.lock().unwrap_or_else(PoisonError::into_inner) += &tally;
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// `FIRST..LAST` from this variable.
pub fn seeds(variable: &str, default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var(variable) else { return default };
    let (first, last) = text.split_once("..").expect("FIRST..LAST");
    first.parse().expect("a number")..last.parse().expect("a number")
}
