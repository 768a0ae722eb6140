//! The fuzz targets of `tests/fuzz` on a stable toolchain: every committed input, and a fixed number of others made from them (T3, V14).
//!
//! `REGENERATE=1 cargo test -p wal-tests --test fuzz_smoke` makes the committed inputs anew, one for each outcome that a search from a
//! fixed seed finds; `FUZZ_INPUTS` asks for another number of further inputs. An input that a fuzzer found is committed beside them
//! under a name that says what it broke.

use std::collections::BTreeMap;
use std::fs;

use wal_tests::allocations::Tracking;
use wal_tests::fuzz::corpus::{self, Inputs};
use wal_tests::fuzz::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

/// Most committed inputs of one target.
const COMMITTED_MAX: usize = 100;

fn smoke(target: &str, inputs: usize, outcomes_min: usize) {
    let (name, run): Target = *TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    if std::env::var_os("REGENERATE").is_some() {
        fs::create_dir_all(corpus::directory(name)).unwrap();
        for (file, input) in corpus::generate((name, run), 30_000, COMMITTED_MAX) {
            fs::write(corpus::directory(name).join(file), input).unwrap();
        }
    }
    let inputs = std::env::var("FUZZ_INPUTS").map_or(inputs, |number| number.parse().expect("a number"));
    let committed = corpus::committed(name);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut try_one = |input: &[u8], what: &str| {
        *outcomes.entry(corpus::run_or_tell(run, input, what)).or_default() += 1;
    };
    for (file, input) in &committed {
        try_one(input, &format!("corpus/{name}/{file}"));
    }
    let mut made = Inputs::new(2, committed.values().cloned().collect());
    for number in 0..inputs {
        try_one(&made.input(), &format!("input {number}"));
    }
    println!("{name}: {} committed inputs, {inputs} others, {} outcomes", committed.len(), outcomes.len());
    if std::env::var_os("FUZZ_OUTCOMES").is_some() {
        println!("{outcomes:#?}");
    }
    assert!(outcomes.len() >= outcomes_min, "too little was met: {outcomes:#?}");
}

#[test]
fn t3_v14_decoders_take_any_bytes() {
    smoke("decode", 5000, 30);
}

#[test]
fn t3_v14_v9_f74_any_files_are_recovered_or_refused() {
    smoke("recover_dir", 1500, 30);
}

#[test]
fn t3_records_come_back() {
    smoke("round_trip", 400, 5);
}

#[test]
fn t2_t3_both_decoders_and_the_manager_agree() {
    smoke("differential", 20_000, 30);
}
