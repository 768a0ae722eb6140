//! Other logs under the same workloads, beside the write-ahead log and the limits of the same machine.
//!
//! ```text
//! cd benches/peers
//! cargo run --release -- --repeats 5 --csv FILE
//! cargo run --release --features rocksdb -- --only group-8      # with librocksdb installed
//! ```
//! Each crate is used as its documentation says, with the options that make it fastest at the same durability; each module says which.
//! What a crate writes is checked once it is read back, by the number of records and of their bytes.
#![allow(clippy::expect_used, reason = "a measurement that goes wrong must stop, not be reported")]

mod common;
mod fjall;
mod okaywal;
mod raft_engine;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod writeahead;

use std::process::ExitCode;

use wal_benches::whole::case::Workload;
use wal_benches::whole::driver::{self, Comparison};
use wal_benches::whole::{ours, raw};

fn main() -> ExitCode {
    let mut sides = [ours::SIDES.as_slice(), raw::SIDES.as_slice()].concat();
    sides.extend([fjall::SIDE, okaywal::SIDE, raft_engine::SIDE, writeahead::SIDE]);
    #[cfg(feature = "rocksdb")]
    sides.push(rocksdb::SIDE);
    let workloads =
        vec![Workload::Lone, Workload::Group(8), Workload::Group(64), Workload::Nosync, Workload::Replay];
    driver::main(&Comparison { sides, workloads })
}
