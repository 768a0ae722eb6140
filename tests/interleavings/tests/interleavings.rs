//! Few threads, few calls, many schedules; see `wal_interleavings::scenarios`. `INTERLEAVINGS=n` runs so many, all scenarios together;
//! `INTERLEAVINGS_SEED=n` runs others. A failure prints its schedule: run that test alone with it in `INTERLEAVINGS_REPLAY`.
#![cfg(wal_shuttle)]

use wal_interleavings::run::explore;
use wal_interleavings::scenarios::ALL;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs the share of one scenario.
fn run(name: &str) {
    let scenario = ALL.iter().find(|scenario| scenario.name == name).expect("it is listed");
    let interleavings = number("INTERLEAVINGS", 100_000) as usize * scenario.share / 1000;
    let explored = explore(scenario.body, interleavings, number("INTERLEAVINGS_SEED", 1));
    println!("{name}: {explored} interleavings");
}

/// The shares are parts of a whole, so that INTERLEAVINGS is what is run.
#[test]
fn t9_the_shares_add_up() {
    assert_eq!(ALL.iter().map(|scenario| scenario.share).sum::<usize>(), 1000);
}

macro_rules! interleavings {
    ($($test:ident: $scenario:literal,)*) => {
        $(
            #[test]
            fn $test() {
                run($scenario);
            }
        )*
    };
}

interleavings! {
    t9_appends_of_all_levels_and_syncs: "mixed_levels",
    t9_f66_four_threads_one_append_each: "one_append_each",
    t9_rotation_by_size: "rotation_by_size",
    t9_rotation_on_request: "rotation_on_request",
    t9_r6_r7_logs_made_ahead: "made_ahead",
    t9_close_among_appends: "close",
    t9_two_who_mark_and_delete: "deletion",
    t9_f22_readers_from_whom_logs_are_deleted: "reader_and_deletion",
    t9_f46_every_waiter_learns_of_the_failed_sync: "failing_sync",
    t9_f44_f47_f48_f54_an_operation_fails: "failing_operation",
    t9_s13_f01_f14_f21_the_power_goes: "power_cut",
    t9_f64_f65_the_storage_panics: "panicking_storage",
    t9_f64_the_recorder_panics: "panicking_recorder",
    t9_f68_dropped_tickets: "dropped_tickets",
    t9_f67_drop_without_close_and_during_a_panic: "drop_without_close",
    t9_f61_handover_of_the_lock: "handover",
    t9_s12_s7_i6_awaited_tickets: "awaited_tickets",
    t9_s8_s12_awaited_beside_bytes: "awaited_beside_bytes",
    t9_s4_f65_timers: "timers",
    t9_s14_resume_among_writers: "resume",
    t9_a11_the_same_keys_at_once: "duplicates",
    t9_g8_a_family_is_dropped_while_the_log_rotates: "dropped_family",
    t9_g7_logs_are_counted_while_some_come_and_some_go: "capped",
    t9_s14_r7_resume_among_logs_made_ahead: "resume_ahead",
    t9_w1_w3_w4_followers_among_writers_rotations_and_deletions: "followers",
    t9_full_group: "full_group",
    t9_engine_writers: "engine_writers",
    t9_engine_failure: "engine_failure",
}
