//! Measures the log on a real disk beside the limits of the same machine, and prints the ratios; `docs/benchmarks.md` says what each means.
//!
//! ```text
//! cargo run --release -p wal-benches --bin whole -- --only group-8 --size 128 --repeats 5
//! ```
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use wal_benches::whole::case::Workload;
    use wal_benches::whole::driver::{self, Comparison};
    use wal_benches::whole::{ours, raw};

    let sides = [ours::SIDES.as_slice(), raw::SIDES.as_slice()].concat();
    driver::main(&Comparison { sides, workloads: Workload::ALL.to_vec() })
}

/// Direct I/O, futexes and `/proc` are Linux's.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("whole: measures Linux only");
    ExitCode::from(2)
}
