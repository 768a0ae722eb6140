//! Which way to the medium is the fastest in this directory: measured, in a few milliseconds.
//!
//! Every candidate gets a file of its own and one small write and sync a round, all candidates in turn, so that a disk that slows down does so
//! for all of them. The first round is not counted: new files have more to make durable.
//!
//! **Bounds.** There are [`ROUNDS`] rounds, and none after the third begins later than [`BUDGET`] after the start. So on a disk with a sync of 100 µs
//! it takes some 5 ms, and on one with 10 ms four rounds, 100 ms or so. Nothing is ever written but [`FILES`], and these are removed again, also
//! what an earlier probe left that did not come to its end. The caller holds the directory's lock.
//!
//! **The rule.** The simplest way is the choice, unless another one wins by a margin: in the order of [`Way`], each candidate takes over if its
//! lower quartile is more than 3 % below that of the choice so far. (Not the median: whatever else runs on the machine only makes slower, and
//! few rounds have to do.) What fails is out. If the clock shows no difference, as in a simulation, the simplest one stays.

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use crate::{Access, IoError, Sink, Storage};

#[cfg(test)]
mod tests;

/// The names of the files that a probe writes. Whoever finds one in a directory has found what is left of a probe that did not come to its end.
pub const FILES: [&str; 4] = ["PROBE.append", "PROBE.filled", "PROBE.direct", "PROBE.ring"];

/// So many rounds, and one more that is not counted: enough to be off by a few percent at most where nothing else happens on the disk.
pub const ROUNDS: usize = 15;

/// Fewer rounds than these say nothing.
const ROUNDS_MIN: usize = 3;

/// No further round begins when so much time has passed.
pub const BUDGET: Duration = Duration::from_millis(10);

/// How much is written in a round: a block of the file system, as much as a group of a few small records touches.
pub const WRITE_BYTES: usize = 4096;

/// To take over, a candidate must be faster by one part in so many. More than chance makes of it on a quiet disk,
/// and less than direct I/O wins over the cache where it wins anything for a lone writer (5 %; for many it is more).
const MARGIN: u32 = 32;

/// How a log's file is written, the simplest way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// Through the cache, into a file that grows.
    Append,
    /// Through the cache, into a file that was filled with zeros before.
    Filled,
    /// Past the cache, into a file that was filled with zeros before.
    Direct,
    /// The same through an io_uring, where there are any.
    Ring,
}

impl Way {
    /// Every way, the simplest first.
    pub const ALL: [Self; 4] = [Self::Append, Self::Filled, Self::Direct, Self::Ring];

    /// With what its files are opened.
    pub fn access(self) -> Access {
        match self {
            Self::Append | Self::Filled => Access::Cached,
            Self::Direct => Access::Direct,
            Self::Ring => Access::Ring,
        }
    }

    /// Its files are filled with zeros before they are used.
    pub fn fills(self) -> bool {
        self != Self::Append
    }

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Filled => "filled",
            Self::Direct => "direct",
            Self::Ring => "ring",
        }
    }

    fn file(self) -> &'static str {
        let [append, filled, direct, ring] = FILES;
        match self {
            Self::Append => append,
            Self::Filled => filled,
            Self::Direct => direct,
            Self::Ring => ring,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a write of [`WRITE_BYTES`] and its sync took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A quarter of the rounds took less. By this the ways are compared.
    pub lower_quartile: Duration,
    /// Half of the rounds took less.
    pub median: Duration,
}

/// What a probe found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each way, in the order of [`Way::ALL`]: what it takes, or why it cannot be gone here.
    pub candidates: Vec<(Way, Result<Times, IoError>)>,
    /// The way to go.
    pub choice: Way,
    /// How many rounds were counted.
    pub rounds: usize,
}

/// In a line: the choice, and the lower quartile and the median of every way in microseconds. `direct (append 110-117, filled 84-85, direct 79-80 µs; 3 %
/// less takes over)`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.choice)?;
        for (number, (way, result)) in self.candidates.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            match result {
                Ok(Times { lower_quartile, median }) => {
                    write!(f, "{comma}{way} {}-{}", lower_quartile.as_micros(), median.as_micros())?;
                }
                Err(error) => write!(f, "{comma}{way} not here: {}", error.kind())?,
            }
        }
        f.write_str(" \u{b5}s; 3 % less takes over)")
    }
}

/// Measures every way in this directory, by a clock that tells the time since some moment, and chooses. Never fails: a way that does is out, and if
/// all are, the simplest is the choice, which will fail by itself. Where there are no rings, nobody misses them: that way is left out.
pub fn run(storage: &dyn Storage, clock: &dyn Fn() -> Duration) -> Report {
    let start = clock();
    let mut candidates: Vec<_> = Way::ALL.map(|way| Candidate::new(storage, way)).into();
    candidates.retain(|candidate| {
        let refused = candidate.sink.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported);
        !(candidate.way == Way::Ring && refused)
    });
    let mut rounds = 0;
    for round in 0..=ROUNDS {
        let passed = clock().saturating_sub(start);
        if round > ROUNDS_MIN && passed >= BUDGET {
            break;
        }
        for candidate in &mut candidates {
            candidate.round(round, clock);
        }
        rounds = round;
    }
    let candidates: Vec<_> =
        candidates.into_iter().map(|candidate| (candidate.way, candidate.end(storage))).collect();
    let choice = choose(&candidates);
    Report { candidates, choice, rounds }
}

/// Whether files can be written in this way here: makes one, and removes it.
///
/// # Errors
/// `Unsupported` if not. Or the file cannot be made.
pub fn can(storage: &dyn Storage, way: Way) -> Result<(), IoError> {
    remove(storage, way)?;
    storage.create_with(way.file(), way.access())?;
    remove(storage, way)
}

fn choose(candidates: &[(Way, Result<Times, IoError>)]) -> Way {
    let mut choice: Option<(Way, Duration)> = None;
    for (way, result) in candidates {
        let Ok(Times { lower_quartile: time, .. }) = *result else { continue };
        if choice.is_none_or(|(_, best)| time < best.saturating_sub(best / MARGIN)) {
            choice = Some((*way, time));
        }
    }
    choice.map_or(Way::Append, |(way, _)| way)
}

/// One way, being measured.
struct Candidate {
    way: Way,
    sink: Result<Arc<dyn Sink>, IoError>,
    times: Vec<Duration>,
}

impl Candidate {
    fn new(storage: &dyn Storage, way: Way) -> Self {
        let sink = remove(storage, way).and_then(|()| {
            let sink = storage.create_with(way.file(), way.access())?;
            if way.fills() {
                sink.fill((WRITE_BYTES * (ROUNDS + 1)) as u64)?;
                sink.sync_all()?;
            }
            Ok(sink)
        });
        Self { way, sink, times: Vec::with_capacity(ROUNDS) }
    }

    fn round(&mut self, round: usize, clock: &dyn Fn() -> Duration) {
        let Ok(sink) = &self.sink else { return };
        let start = clock();
        let result = sink.write_synced_at((round * WRITE_BYTES) as u64, &[0xA5; WRITE_BYTES]);
        let time = clock().saturating_sub(start);
        match result {
            Ok(()) if round > 0 => self.times.push(time),
            Ok(()) => {}
            Err(error) => self.sink = Err(error),
        }
    }

    /// Removes the file and tells the times.
    fn end(mut self, storage: &dyn Storage) -> Result<Times, IoError> {
        let outcome = self.sink.map(drop);
        // What cannot be removed, the next probe removes.
        let _ = remove(storage, self.way);
        outcome?;
        self.times.sort_unstable();
        let at = |place: usize| self.times.get(place).copied().unwrap_or_default();
        Ok(Times { lower_quartile: at(self.times.len() / 4), median: at(self.times.len() / 2) })
    }
}

/// Removes the file, if it is there.
fn remove(storage: &dyn Storage, way: Way) -> Result<(), IoError> {
    match storage.unlink(way.file()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
