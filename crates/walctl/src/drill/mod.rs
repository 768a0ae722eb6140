//! `walctl drill`: the whole life of a log on real input, with a child that is killed again and again.
//!
//! - [`parent`] starts the child, kills it, keeps the [`ledger`] and has everything checked ([`check`]) at the end of each
//!   round, after the last kill and at the very end.
//! - [`child`] is this same program, in a process of its own: it writes the [`input`] through the toy engine.
//! - [`plan`] says what is written for an item; [`message`] is what the child tells the parent; [`metrics`] adds up the
//!   children's numbers; [`report`] is what is printed; [`place`] and [`process`] are the directory and the child as the
//!   system sees them.
//!
//! **Architecture invariant:** what was acknowledged is known outside the child's process and directory, and the check
//! compares the engine with the input and that knowledge, never with anything that the child or the engine keeps.

mod check;
mod child;
mod input;
mod ledger;
mod message;
mod metrics;
mod parent;
mod place;
mod plan;
mod process;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use child::{ChildArgs, run as run_child};
pub(crate) use parent::run;

/// Write real input through the toy engine, kill it again and again, and check every acknowledged write
///
/// The toy engine writes PATH in a child process that is killed with SIGKILL at random moments: while it writes, recovers,
/// flushes, deletes logs or closes. Each time it recovers and goes on with what was not acknowledged. Most items are put, some
/// overwritten or deleted too, single and in batches, by several threads. If the input ends before all kills have happened, it
/// is written once more, with other values. At the end of each round, after the last kill and at the end, every key is
/// compared with the input. Exit code 1 if an acknowledged write is lost, or something is there that nobody wrote. Ctrl-C kills the
/// child a last time, and everything is checked and reported as at any other end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is written: every regular file of a directory tree (path and contents), or every line of a file
    /// (number, with leading zeros, and contents)
    #[arg(long, value_name = "PATH", default_value = ".")]
    input: PathBuf,

    /// Where the engine writes; it must not hold a drill's engine yet [default: a temporary directory, removed at the end
    /// unless something is wrong]
    #[arg(long)]
    dir: Option<PathBuf>,

    /// How often the child is killed
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: u64,

    /// Begin again after so many kills, and go on until Ctrl-C: to look at --metrics, or to leave it running
    #[arg(long)]
    forever: bool,

    /// Where metrics are served as Prometheus text, the children's numbers added up; for example 127.0.0.1:9184
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,

    /// Seed of the kills and of what is written [default: random, and printed]
    #[arg(long)]
    seed: Option<u64>,

    /// Threads that write at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    writers: u16,

    /// Size of a memtable in bytes: small, so that much is flushed
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    memtable_bytes: u64,
}
