//! The log as a whole, on a real disk, beside the limits of the same machine: the workloads that `docs/benchmarks.md` explains.
//!
//! - [`case`] names the workloads; [`side`] says who can run one: the log ([`ours`]), the raw operations ([`raw`]), and whatever another
//!   program adds (`benches/peers` adds other crates).
//! - [`load`] calls a side, and [`measured`] is what came of it, as a line of CSV.
//! - [`driver`] is the command line: a process for each measurement, in an order that a seed shuffles; [`table`] prints the ratios.

pub mod case;
pub mod driver;
mod keepers;
pub mod load;
pub mod measured;
pub mod ours;
pub mod raw;
pub mod side;
pub mod system;
pub mod table;
