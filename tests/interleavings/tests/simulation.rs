//! Random lives with many writers; see `wal_interleavings::simulation`. `SIMULATE_SEEDS=first..last` explores others.
#![cfg(wal_shuttle)]

use wal_interleavings::engine;
use wal_interleavings::run::{each_seed, seeds};
use wal_interleavings::simulation::{simulate, simulate_with_story};

/// Calls in a life.
const OPERATIONS: u64 = 2_000;

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
}

#[test]
fn t8_many_writers_of_the_engine_lose_nothing() {
    let seeds = seeds("SIMULATE_ENGINE_SEEDS", 0..500);
    let total = each_seed(seeds.clone(), |seed| engine::simulate(seed, OPERATIONS));
    println!("engine, seeds {seeds:?}, {OPERATIONS} operations each: {total}");
}
