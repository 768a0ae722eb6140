//! A little space that is kept for the next open, so that a full disk does not lock the engine out.
//!
//! An open writes CHECKPOINT anew, into a second file (decision 0015), and begins a log. That is little, but it is not nothing, and a process that
//! has filled its disk is restarted sooner or later. So where files are made ahead, an empty file is kept beside them, with space that nobody
//! uses; an open that finds none removes it and tries again. The next log that is made ahead brings it back.

use std::io::ErrorKind;

use tracing::{info, warn};
use wal_io::{IoError, Storage};

use crate::error::Error;
use crate::inner::Inner;
use crate::names::RESERVE;
use crate::rotate::Next;

/// What is kept: 1 MiB, for CHECKPOINT's 128 KiB, a header, and a tail of some hundred records that nothing proves. A longer tail needs more space
/// than this; then the open says so, and nothing is lost.
const RESERVE_BYTES: u64 = 1 << 20;

impl Inner {
    /// Makes the reserve, once; where files grow nothing is made ahead, and neither is this. It is no failure if there is no space for it.
    pub(crate) fn keep_reserve(&self, next: &mut Next) {
        if next.reserve_is_kept || !self.files.way.fills() {
            return;
        }
        next.reserve_is_kept = true;
        if let Err(error) = make(&*self.storage) {
            warn!(%error, "wal.no_reserve");
            // Half of it helps nobody, and takes what others need. ORDER: it holds no byte of a log, here and below: no crash can make it matter.
            let _ = self.storage.unlink(RESERVE);
            next.reserve_is_kept = false;
        }
    }
}

fn make(storage: &dyn Storage) -> Result<(), IoError> {
    let sink = match storage.create(RESERVE) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => storage.open_sink(RESERVE)?,
        created => created?,
    };
    sink.preallocate(RESERVE_BYTES)?;
    // Its name need not be durable: without it, an open finds no reserve.
    sink.sync_all()
}

/// Gives the reserve up if it was space that was missing; whether that is a reason to try again.
pub(crate) fn give_up(storage: &dyn Storage, error: &Error) -> bool {
    let given = error.no_space().is_some() && !seeded_bug!(ReserveKept) && storage.unlink(RESERVE).is_ok();
    if given {
        // Some file systems give the space back only with the next commit of their journal.
        let _ = storage.sync_dir();
        info!("wal.reserve_used");
    }
    given
}
