//! Measuring two things in turns.

use std::time::{Duration, Instant};

/// How long `work` takes, and what it gives.
pub fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = now();
    let value = work();
    (start.elapsed(), value)
}

/// The time.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures real time; there is nothing to replay")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What each round took on each side.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// The log.
    pub ours: Vec<Duration>,
    /// The raw operation.
    pub raw: Vec<Duration>,
}

/// Runs both sides in turns, so that whatever else the machine does meets both alike. Who goes first changes every round.
/// Each side says itself how long the part that counts took. `turn` is the number of the first round.
pub fn alternate(
    turn: usize,
    rounds: usize,
    mut ours: impl FnMut() -> Duration,
    mut raw: impl FnMut() -> Duration,
) -> Sides {
    let mut sides = Sides::default();
    for round in turn..turn + rounds {
        if round % 2 == 0 {
            sides.ours.push(ours());
            sides.raw.push(raw());
        } else {
            sides.raw.push(raw());
            sides.ours.push(ours());
        }
    }
    sides
}

/// The middle value; of an even number, the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The mean.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
