//! A report that was never measured, the same each time.

use super::facts::Facts;
use super::numbers::{GroupNumbers, Numbers, Point, Points, Side};
use super::page::Plan;
use super::sides::Load;

pub(super) const SIZES: [u32; 3] = [128, 1024, 16 * 1024];
pub(super) const WRITERS: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];
pub(super) const REPEATS: u32 = 3;

pub(super) fn plan() -> Plan {
    Plan {
        dir: "/data/disk one".into(),
        report: "out.html".into(),
        sizes: SIZES.to_vec(),
        writers: WRITERS.to_vec(),
        millis: 1000,
        repeats: REPEATS,
        seed: 42,
    }
}

pub(super) fn facts() -> Facts {
    let list = vec![
        ("Date", "2026-11-21 20:15 UTC".to_owned()),
        ("Version", "walctl 0.1.0".to_owned()),
        ("Directory", "/data/disk one".to_owned()),
        ("File system", "ext4 (rw,relatime,discard)".to_owned()),
        ("Device", "/dev/vda; model Virtual & Co; scheduler [none] mq-deadline".to_owned()),
    ];
    Facts { list, warnings: vec!["Somebody else was here.".to_owned()] }
}

pub(super) fn points() -> Points {
    let mut points = Vec::new();
    for bytes in SIZES.map(|size| usize::try_from(size).unwrap()) {
        for writers in WRITERS {
            for side in Side::ALL {
                points.push(point(Load { bytes, writers }, side));
            }
        }
    }
    Points(points)
}

/// Like a disk whose sync takes a tenth of a millisecond.
pub(super) fn point(load: Load, side: Side) -> Point {
    let writers = f64::from(load.writers);
    let slow = match side {
        Side::Log => 1.1,
        Side::Grows => 1.6,
        Side::Written => 1.0,
    };
    let one = |factor: f64| {
        let p50 = factor * slow * (100.0 + 0.002 * load.bytes as f64 * writers);
        let rate = writers / p50 * 1e6;
        let calls = if side == Side::Log { rate } else { rate / writers };
        Numbers {
            records: whole(rate),
            seconds: 1.0,
            rate,
            calls: whole(calls),
            p50,
            p99: 2.5 * p50,
            p999: 2.5 * p50 * factor * factor + 300.0,
            slowest: 30.0 * p50,
            groups: (side == Side::Log).then(|| GroupNumbers {
                count: whole(rate / writers),
                p10: u64::from(load.writers).div_ceil(3),
                p50: u64::from(load.writers) - u64::from(load.writers) / 8,
                p90: u64::from(load.writers),
                largest: u64::from(load.writers),
            }),
        }
    };
    Point { load, side, all: one(1.0), each: vec![one(0.9), one(1.0), one(1.25)] }
}

fn whole(number: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    let whole = number as u64;
    whole
}
