//! Writes and syncs through an io_uring. Each file has a ring of its own, and one call at a time waits for its completion; so nothing is in flight
//! when a call returns.
//!
//! Each call is one system call still. What a ring could save, many calls in flight at once, a log has no use for: its group is one write.
#![allow(unsafe_code, reason = "the kernel is handed a pointer; see the SAFETY comments")]

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};
use rustix::io::Errno;

use super::calls::Until;

#[cfg(test)]
mod tests;

/// One call at a time.
const ENTRIES: u32 = 1;

/// More than the kernel writes at once; the rest of a write follows as that of a short one.
const LARGEST_WRITE: usize = 1 << 30;

/// `RWF_DSYNC`.
const DSYNC: i32 = 2;

/// A ring that serves one call at a time.
pub(super) struct Ring(Mutex<State>);

struct State {
    /// None after an error of the ring itself: what was handed to it must not be submitted later.
    ring: Option<IoUring>,
    /// What stands in place of the next results.
    #[cfg(test)]
    replaced: std::collections::VecDeque<Option<i32>>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// Asks the kernel for a ring.
    ///
    /// # Errors
    /// `Unsupported`: the kernel has none, or not for us.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::new(ENTRIES).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                // NOMEM: the limit on locked memory.
                Some(
                    Errno::NOSYS
                    | Errno::PERM
                    | Errno::ACCESS
                    | Errno::INVAL
                    | Errno::OPNOTSUPP
                    | Errno::NOMEM,
                ) => io::Error::new(io::ErrorKind::Unsupported, format!("no io_uring: {error}")),
                _ => error,
            }
        })?;
        Ok(Self(Mutex::new(State {
            ring: Some(ring),
            #[cfg(test)]
            replaced: std::collections::VecDeque::new(),
        })))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes some of the bytes and says how many.
    pub(super) fn write(
        &self,
        file: &File,
        at: u64,
        bytes: &[u8],
        until: Until,
    ) -> rustix::io::Result<usize> {
        check(at)?;
        let (bytes, _) = bytes.split_at(bytes.len().min(LARGEST_WRITE));
        let flags = if until == Until::Durable { DSYNC } else { 0 };
        // SAFETY: `bytes` and `file` are borrowed until `run` has returned.
        unsafe { self.locked().run(&write_entry(file, at, bytes, flags)) }
    }

    /// fdatasync or fsync.
    pub(super) fn sync(&self, file: &File, data: bool) -> rustix::io::Result<()> {
        // SAFETY: no memory is handed over, and `file` is borrowed until `run` has returned.
        unsafe { self.locked().run(&sync_entry(file, data)) }.map(drop)
    }
}

/// Refuses a place beyond every file: the last one of all would mean the file's own position.
fn check(at: u64) -> rustix::io::Result<()> {
    i64::try_from(at).map(drop).map_err(|_| Errno::INVAL)
}

fn write_entry(file: &File, at: u64, bytes: &[u8], flags: i32) -> Entry {
    // At most `LARGEST_WRITE`.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), length).offset(at).rw_flags(flags).build()
}

fn sync_entry(file: &File, data: bool) -> Entry {
    let flags = if data { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
    opcode::Fsync::new(Fd(file.as_raw_fd())).flags(flags).build()
}

impl State {
    /// Hands the entry to the kernel and waits for its result.
    ///
    /// # Errors
    /// What the kernel says; or the ring itself is broken, and the entry is not in flight any more, and never will be.
    ///
    /// # Safety
    /// What the entry refers to must be valid until this has returned.
    unsafe fn run(&mut self, entry: &Entry) -> rustix::io::Result<usize> {
        let Some(ring) = &mut self.ring else { return Err(Errno::IO) };
        // SAFETY: the caller keeps what it refers to until we return, and we return when it has completed, or was dropped with the ring.
        if unsafe { ring.submission().push(entry) }.is_err() {
            // There is room for the only one.
            self.ring = None;
            return Err(Errno::IO);
        }
        let mut broken = None;
        loop {
            let waiting = match broken {
                None => ring.submit_and_wait(1).map(drop),
                // What is in flight completes all the same.
                Some(_) if ring.submission().is_empty() => {
                    thread::yield_now();
                    Ok(())
                }
                Some(_) => break,
            };
            if let Err(error) = waiting {
                let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
                if ![Errno::INTR, Errno::AGAIN, Errno::BUSY].contains(&errno) {
                    broken = Some(errno);
                }
            }
            if let Some(completion) = ring.completion().next() {
                let result = completion.result();
                #[cfg(test)]
                let result = self.replaced.pop_front().flatten().unwrap_or(result);
                if broken.is_none() {
                    return usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
                }
                break;
            }
        }
        self.ring = None;
        Err(broken.unwrap_or(Errno::IO))
    }
}
