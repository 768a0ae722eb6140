//! Random lives with many writers; see `wal_interleavings::simulation`. `SIMULATE_SEEDS=first..last` and
//! `SIMULATE_ENGINE_SEEDS=first..last` explore others, and `n..n+1` replays life n, whose story a failure prints.
#![cfg(wal_shuttle)]

use wal_interleavings::engine;
use wal_interleavings::run::{each_seed, seeds};
use wal_interleavings::simulation::{simulate, simulate_with_story};

/// Calls in a life.
const OPERATIONS: u64 = 2_000;

/// From so many lives on, they must have met what they are there for.
const ENOUGH: u64 = 300;

#[test]
fn t3_one_number_replays_a_life() {
    let (_, first) = simulate_with_story(7, 500);
    let (_, second) = simulate_with_story(7, 500);
    assert_eq!(first, second);
}

#[test]
fn t8_v15_v19_many_writers_lose_nothing() {
    let seeds = seeds("SIMULATE_SEEDS", 0..2_000);
    let total = each_seed(seeds.clone(), |seed| simulate(seed, OPERATIONS));
    println!("log, seeds {seeds:?}, {OPERATIONS} operations each: {total}");
    if seeds.end - seeds.start >= ENOUGH {
        assert!(
            total.crashed_recoveries > 1_000 && total.failed_recoveries > 100,
            "crashes and faults inside recovery"
        );
        assert!(total.rewritten > 1_000 && total.torn > 100, "unproven and torn tails");
        assert!(
            total.power_cuts > 1_000 && total.deaths > 100 && total.closes > 100,
            "all ends of a process"
        );
        assert!(
            total.failures > 1_000 && total.resumes > 300 && total.panics > 100,
            "logs that fail under their writers"
        );
        assert!(total.rotations > 1_000 && total.deletions > 1_000 && total.inspections > 1_000);
        for kind in ["create", "read", "sync", "sync of the directory", "unlink", "write"] {
            assert!(total.faults.get(kind).is_some_and(|times| *times > 50), "{kind} failed too seldom");
        }
    }
}

#[test]
fn t8_many_writers_of_the_engine_lose_nothing() {
    let seeds = seeds("SIMULATE_ENGINE_SEEDS", 0..500);
    let total = each_seed(seeds.clone(), |seed| engine::simulate(seed, OPERATIONS));
    println!("engine, seeds {seeds:?}, {OPERATIONS} operations each: {total}");
    if seeds.end - seeds.start >= ENOUGH {
        assert!(
            total.crashed_recoveries > 1_000 && total.failed_recoveries > 100,
            "crashes and faults inside an open"
        );
        assert!(total.flushes > 10_000 && total.deletions > 10_000 && total.inspections > 10_000);
        assert!(
            total.power_cuts > 1_000 && total.deaths > 100 && total.closes > 100 && total.failures > 1_000
        );
    }
}
