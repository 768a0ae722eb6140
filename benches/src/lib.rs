//! What the benchmarks share: each operation of the log and, beside it, the raw operation on the same bytes.
//!
//! [`mod@format`], [`append`] and [`replay`] hold the parts, which the Criterion benches (`benches/*.rs`) measure; `whole` holds the
//! workloads of `docs/benchmarks.md`, for the program of that name and for `benches/peers`. A workload checks its own claim (records counted, syncs counted, the
//! frontier reached) outside of what is timed, and panics if it does not hold: a wrong number is worse than none.
#![cfg_attr(not(feature = "io-uring"), forbid(unsafe_code))]
#![cfg_attr(feature = "io-uring", deny(unsafe_code))]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a measurement that goes wrong must stop, not be reported"
)]

pub mod append;
pub mod counting;
pub mod data;
pub mod format;
pub mod machine;
pub mod replay;
pub mod stopwatch;
#[cfg(target_os = "linux")]
pub mod whole;
