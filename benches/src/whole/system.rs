//! What the system counts while something is measured.

use std::fs;
use std::path::Path;

use rustix::fs::{major, minor, stat};

use super::measured::Measured;
use crate::stopwatch::now;

/// Clock ticks in a second, as `/proc` counts processor time: fixed for programs whatever the kernel's own ticks are.
const TICKS: f64 = 100.0;

/// Runs a measurement and adds what the system saw meanwhile. `directory` is on the device whose flushes count.
pub fn watch(directory: &Path, measure: impl FnOnce() -> Measured) -> Measured {
    let (start, flushes, busy, own) = (now(), flushes(directory), busy(), own());
    let measured = measure();
    let others = (busy_since(busy) - (self::own() - own)) / start.elapsed().as_secs_f64();
    Measured {
        flushes: self::flushes(directory).saturating_sub(flushes),
        peak_kib: peak_kib(),
        others: others.max(0.0),
        ..measured
    }
}

fn busy_since(before: f64) -> f64 {
    busy() - before
}

/// Flushes that the device of `directory` was ever sent; 0 where nobody counts.
fn flushes(directory: &Path) -> u64 {
    let Ok(device) = stat(directory).map(|stat| stat.st_dev) else { return 0 };
    let path = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    field(&fs::read_to_string(path).unwrap_or_default(), 15)
}

/// Seconds that all processors worked, for whomever.
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // user, nice, system, then idle and waiting, then interrupts.
    [1, 2, 3, 6, 7].iter().map(|&number| field(line, number) as f64).sum::<f64>() / TICKS
}

/// Seconds that processors worked for this process.
fn own() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may hold spaces.
    let fields = text.rsplit(')').next().unwrap_or_default();
    (field(fields, 11) + field(fields, 12)) as f64 / TICKS
}

/// The most memory that this process ever held.
fn peak_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    field(line, 1)
}

fn field(line: &str, number: usize) -> u64 {
    line.split_whitespace().nth(number).and_then(|field| field.parse().ok()).unwrap_or(0)
}
