//! Exhaustive exploration at a stated bound; see `wal_tests::explore`. `EXPLORE=10` multiplies the states that are lived on from.

use wal_tests::explore::{Bounds, Generation, explore};

#[test]
fn t4_t8_v15_v19_f13_every_short_life_cut_anywhere_and_again_inside_recovery_keeps_the_protocol() {
    let scale: usize =
        std::env::var("EXPLORE").map_or(1, |scale| scale.parse().expect("EXPLORE is a number"));
    let bounds = Bounds {
        threads: 2,
        generations: vec![
            Generation { states: 1, calls: 3, failing_calls: Some(2), damaged: 0 },
            Generation { states: 100 * scale, calls: 1, failing_calls: Some(1), damaged: 100 * scale },
            Generation { states: 100 * scale, calls: 1, failing_calls: Some(0), damaged: 100 * scale },
            Generation { states: 100 * scale, calls: 0, failing_calls: None, damaged: 0 },
        ],
    };
    match explore(&bounds) {
        Ok(totals) => println!("{totals:?}"),
        Err(counterexample) => panic!("\n{counterexample}"),
    }
}
