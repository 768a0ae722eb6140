//! The built binary, as a script sees it: fixed forms, exit codes, and what it leaves on the disk.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, in its helpers too"
)]

mod append;
mod bench;
mod bench_report;
mod copies;
mod docs;
mod doctor;
mod drill;
mod gc;
mod interrupt;
mod reading;
mod support;
mod tail;
mod usage;
