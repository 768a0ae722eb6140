//! The engine against a sorted map, over random operations, flushes, crashes and reopens.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod common;

use std::sync::Arc;

use common::{Model, Random, assert_holds, contents, families};
use toy_memtable::{Durability, Engine, EngineOptions, FamilyId, Snapshot, WriteBatch};
use wal_manager::{MemStorage, Wal};

const LEVELS: [Durability; 3] = [Durability::Buffered, Durability::Written, Durability::Synced];

#[test]
fn the_engine_is_a_sorted_map() {
    for seed in 0..20 {
        let (wal, tables) = (Arc::new(MemStorage::new()), Arc::new(MemStorage::new()));
        run(&|| Engine::options_on(Wal::options_on(wal.clone()), tables.clone()), seed, 2_000);
    }
}

#[test]
fn the_engine_is_a_sorted_map_on_a_real_disk() {
    let home = tempfile::tempdir().unwrap();
    run(&|| Engine::options(home.path().join("db")), 100, 1_000);
}

fn run(options: &dyn Fn() -> EngineOptions, seed: u64, steps: u32) {
    let open = || options().memtable_bytes(6_000).tables_max(3).log_bytes(64 << 10).open().unwrap().0;
    let mut random = Random(seed);
    let mut model = Model::new();
    let mut engine = open();
    let mut kept: Vec<(Snapshot, Model)> = Vec::new();
    for step in 0..steps {
        let what = format!("seed {seed} step {step}");
        match random.below(100) {
            0 => engine.flush().unwrap(),
            1 => {
                // A crash, as far as a library has one; what was only buffered may go, so it is synced.
                kept.clear();
                engine.sync().unwrap();
                drop(engine);
                engine = open();
                assert_holds(&engine, &model, &what);
            }
            2 => {
                kept.clear();
                engine.close().unwrap();
                engine = open();
                assert_holds(&engine, &model, &what);
            }
            3 => kept.push((engine.snapshot(), model.clone())),
            4 => assert_holds(&engine, &model, &what),
            5..15 => {
                let (family, key) = key(&mut random);
                assert_eq!(
                    engine.get(family, &key).unwrap().as_deref(),
                    model.get(&(family, key)).map(|value| &value[..]),
                    "{what}"
                );
            }
            15..20 => scan_part(&engine, &model, &mut random, &what),
            _ => {
                let mut batch = WriteBatch::new();
                for _ in 0..=random.below(6) {
                    operation(&mut random, &mut batch, &mut model);
                }
                let level = LEVELS[usize::try_from(random.below(3)).unwrap()];
                let seqs = engine.write_with(&batch, level).unwrap();
                assert!(engine.snapshot().seq() >= seqs.last());
            }
        }
        if step % 100 == 0 {
            for (snapshot, model) in kept.drain(..) {
                assert_eq!(contents(&snapshot), model, "{what}: an old snapshot");
            }
        }
    }
    engine.flush().unwrap();
    assert_holds(&engine, &model, "at the end");
    let stats = engine.stats();
    assert!(stats.tables <= 4 && stats.memtable_bytes == 0, "{stats:?}");
    engine.close().unwrap();
}

/// Few keys, so that they meet; some are prefixes of others, one is empty.
fn key(random: &mut Random) -> (FamilyId, Vec<u8>) {
    let family = families()[usize::try_from(random.below(3)).unwrap()];
    let length = usize::try_from(random.below(3)).unwrap();
    (family, (0..length).map(|_| b"abcdefgh"[usize::try_from(random.below(8)).unwrap()]).collect())
}

fn operation(random: &mut Random, batch: &mut WriteBatch, model: &mut Model) {
    let (family, key) = key(random);
    let value = random.below(1 << 20).to_string().into_bytes();
    match random.below(10) {
        0..5 => {
            batch.put(family, &key, &value).unwrap();
            model.insert((family, key), value);
        }
        5..7 => {
            batch.delete(family, &key).unwrap();
            model.remove(&(family, key));
        }
        7..9 => {
            batch.merge(family, &key, &value).unwrap();
            model.entry((family, key)).or_default().extend(value);
        }
        _ => {
            let (_, end) = self::key(random);
            batch.delete_range(family, &key, &end).unwrap();
            model.retain(|(of, at), _| *of != family || *at < key || *at >= end);
        }
    }
}

fn scan_part(engine: &Engine, model: &Model, random: &mut Random, what: &str) {
    let (family, start) = key(random);
    let (_, end) = key(random);
    let found: Vec<_> = engine
        .scan(family, &start[..]..&end[..])
        .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
        .collect();
    let expected: Vec<_> = model
        .iter()
        .filter(|((of, key), _)| *of == family && *key >= start && *key < end)
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect();
    assert_eq!(found, expected, "{what}");
}
