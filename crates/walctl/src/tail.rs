//! `walctl tail`: the records that are proven, and those that come.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wal_manager::{Bell, Clock, FollowFrom, SeqNum, SystemClock, Wal};

use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::records::Printer;

/// Print the records that are proven to be synced, and with --follow those that come
///
/// The form is that of `dump`. Works on a log that is being written, in whatever process: each record is printed once and in
/// order, across rotations and restarts of the writer, when the log itself proves that it was synced, which for the last group of a
/// writer that pauses takes a second or two. It keeps nothing from being deleted: if the writer deletes what
/// was not read yet, what came before is printed, then the gap is told on standard error, and the exit code is 3. With --follow it
/// ends with Ctrl-C, at the end of a line and with exit code 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the log
    dir: PathBuf,

    /// Go on with the log, until Ctrl-C
    #[arg(long, short)]
    follow: bool,

    /// Only records that reach this sequence number or a higher one [default: from the oldest record on]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,

    /// How long to wait before looking again, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = INTERVAL_MS,
        value_parser = clap::value_parser!(u64).range(1..),
    )]
    interval: u64,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<Exit, Failure> {
    let from = args.from.map_or(FollowFrom::Oldest, |seq| FollowFrom::Seq(SeqNum::new(seq)));
    let mut follower = Wal::options(&args.dir).follow(from)?;
    let (stop, bell) = (Arc::new(AtomicBool::new(false)), Bell::default());
    if args.follow {
        let (stop, bell) = (Arc::clone(&stop), bell.clone());
        interrupt::on(move || {
            stop.store(true, Ordering::Relaxed);
            bell.ring();
        })?;
    }
    let clock = SystemClock::default();
    let mut printer = Printer::new(json);
    while !stop.load(Ordering::Relaxed) {
        match follower.try_next() {
            Ok(Some(record)) => printer.record(&record)?,
            Ok(None) => {
                printer.flush()?;
                if !args.follow {
                    break;
                }
                let next = clock.monotonic().saturating_add(Duration::from_millis(args.interval));
                clock.sleep_until(Some(next), &bell);
            }
            // ORDER: what came before goes out first.
            Err(error) => return printer.flush().and(Err(error.into())),
        }
    }
    printer.flush()?;
    Ok(Exit::Fine)
}

/// That of a follower ([`wal_manager::POLL_INTERVAL_DEFAULT`]).
const INTERVAL_MS: u64 = 100;

const _: () = assert!(wal_manager::POLL_INTERVAL_DEFAULT.as_millis() == INTERVAL_MS as u128);
