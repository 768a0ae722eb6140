//! The log and the toy engine under a scheduler that a seed decides: shuttle's. Built only with `RUSTFLAGS="--cfg wal_shuttle"`.
//!
//! - `scenarios`: a few threads and a few calls each, run under many interleavings, and the schedule of one that fails can be run again;
//! - `simulation`: long random lives of a log with many writers, on a disk that fails and crashes; one number replays a life;
//! - `engine`: the same for the toy engine.
//!
//! shuttle and not loom: loom tries every interleaving, and of a whole log on a whole simulated disk there are too many to come to an end;
//! it has no PCT scheduler, which finds orderings of few steps with a known probability, and knows at most five threads.
#![cfg(wal_shuttle)]

pub mod disk;
pub mod engine;
pub mod recorder;
pub mod run;
pub mod scenarios;
pub mod session;
pub mod simulation;
pub mod tally;
