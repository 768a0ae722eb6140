//! Calls a log again and again, the same way for every side.

use std::thread;
use std::time::{Duration, Instant};

use super::case::Case;
use super::measured::Measured;
use crate::data::Payloads;
use crate::stopwatch::now;

/// How much of a load's time passes before anything counts: buffers have grown by then, and threads have started.
const WARM: u32 = 10;

/// One thread calls `append` with one payload after the other.
pub fn alone(case: &Case, mut append: impl FnMut(&[u8])) -> Measured {
    let payloads = Payloads::new(case.size);
    let clock = Clock::new(case.time);
    clock.run(|number| append(payloads.get(number))).measured(&clock)
}

/// All threads of the case call `append`, each with its own number and one payload after the other.
pub fn together(case: &Case, append: impl Fn(usize, &[u8]) + Sync) -> Measured {
    let payloads = Payloads::new(case.size);
    let clock = Clock::new(case.time);
    let (append, payloads, clock) = (&append, &payloads, &clock);
    let run = move |thread: usize| {
        // Threads begin at different payloads, so that no cache line is everybody's.
        clock.run(|number| append(thread, payloads.get(thread * 31 + number)))
    };
    let mut all = Calls::default();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..case.threads()).map(|thread| scope.spawn(move || run(thread))).collect();
        for thread in threads {
            all.merge(thread.join().expect("a thread that appends"));
        }
    });
    all.measured(clock)
}

/// Runs `work`, which says how many records it took, once.
pub fn once(work: impl FnOnce() -> u64) -> Measured {
    let start = now();
    let records = work();
    Measured { records, seconds: start.elapsed().as_secs_f64(), appended: records, ..Measured::default() }
}

/// When a load begins to count, and when it ends.
#[derive(Clone, Copy, Debug)]
struct Clock {
    counts: Instant,
    ends: Instant,
}

impl Clock {
    fn new(time: Duration) -> Self {
        let counts = now() + time / WARM;
        Self { counts, ends: counts + time }
    }

    /// Calls `append` with a number that grows, until the time is over.
    fn run(&self, mut append: impl FnMut(usize)) -> Calls {
        let mut calls = Calls::default();
        let mut start = now();
        while start < self.ends {
            append(calls.all);
            let end = now();
            calls.all += 1;
            if start >= self.counts {
                calls.took.push(end - start);
                calls.last = Some(end);
            }
            start = end;
        }
        calls
    }
}

/// What one thread did, or all of them.
#[derive(Debug, Default)]
struct Calls {
    /// How long each call took that counts.
    took: Vec<Duration>,
    /// All calls.
    all: usize,
    /// When the last one ended.
    last: Option<Instant>,
}

impl Calls {
    fn merge(&mut self, other: Self) {
        self.took.extend(other.took);
        self.all += other.all;
        self.last = self.last.max(other.last);
    }

    fn measured(self, clock: &Clock) -> Measured {
        let seconds = self.last.map_or(0.0, |last| (last - clock.counts).as_secs_f64());
        let records = self.took.len() as u64;
        Measured { records, seconds, appended: self.all as u64, ..Measured::default() }.latencies(self.took)
    }
}
