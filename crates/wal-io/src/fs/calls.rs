//! How the kernel is asked to write and to sync a file: by system calls, or through a ring. Short writes are continued and interrupted calls made
//! again here, whichever it is; every other error is the caller's.

use std::fs::File;
use std::io::{self, IoSlice};

use rustix::fs as sys;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
use rustix::io::Errno;

use super::retry;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
use super::ring::Ring;

#[derive(Debug)]
pub(super) enum Calls {
    /// One system call each.
    System,
    /// A ring of the file's own.
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    Ring(Box<Ring>),
}

/// How far a write has to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The kernel has it.
    Written,
    /// It is durable. It alone: what was written before may still be in the device's cache.
    #[cfg(target_os = "linux")]
    Durable,
}

impl Calls {
    /// Writes all of `bytes`, from a multiple of `unit` on.
    pub(super) fn write_all(
        &self,
        file: &File,
        mut at: u64,
        mut bytes: &[u8],
        unit: usize,
        until: Until,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = retry(|| self.write(file, at, bytes, until))?;
            if written >= bytes.len() {
                return Ok(());
            }
            // The rest has to start where the kernel can write.
            let written = written - written % unit;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at = at.saturating_add(written as u64);
            (_, bytes) = bytes.split_at(written);
        }
        Ok(())
    }

    /// Whether [`Calls::write_slices`] works.
    pub(super) fn take_slices(&self) -> bool {
        matches!(self, Self::System)
    }

    /// Writes several pieces of memory one behind the other, from a multiple of `unit` on, with one call.
    pub(super) fn write_slices(
        &self,
        file: &File,
        mut at: u64,
        mut slices: &mut [IoSlice<'_>],
        unit: usize,
        until: Until,
    ) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let left: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = retry(|| match until {
                Until::Written => rustix::io::pwritev(file, slices, at),
                #[cfg(target_os = "linux")]
                Until::Durable => rustix::io::pwritev2(file, slices, at, rustix::io::ReadWriteFlags::DSYNC),
            })?;
            // The rest has to start where the kernel can write.
            let written = if written >= left { left } else { written - written % unit };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at = at.saturating_add(written as u64);
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    fn write(&self, file: &File, at: u64, bytes: &[u8], until: Until) -> rustix::io::Result<usize> {
        match (self, until) {
            (Self::System, Until::Written) => rustix::io::pwrite(file, bytes, at),
            #[cfg(target_os = "linux")]
            (Self::System, Until::Durable) => {
                let flags = rustix::io::ReadWriteFlags::DSYNC;
                rustix::io::pwritev2(file, &[IoSlice::new(bytes)], at, flags)
            }
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            (Self::Ring(ring), _) => ring.write(file, at, bytes, until),
        }
    }

    /// Writes all of `bytes`, and then makes everything in the file durable; what came of that is inside.
    pub(super) fn write_all_and_sync(
        &self,
        file: &File,
        at: u64,
        bytes: &[u8],
    ) -> io::Result<rustix::io::Result<()>> {
        match self {
            Self::System => {}
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Self::Ring(ring) if !bytes.is_empty() => {
                // Interrupted before anything was written: from the start.
                let (written, synced) = retry(|| ring.write_and_sync(file, at, bytes))?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                if written >= bytes.len() && synced != Err(Errno::INTR) {
                    return Ok(synced);
                }
                let rest = bytes.get(written..).unwrap_or_default();
                self.write_all(file, at.saturating_add(written as u64), rest, 1, Until::Written)?;
                return Ok(self.sync_data(file));
            }
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Self::Ring(_) => {}
        }
        self.write_all(file, at, bytes, 1, Until::Written)?;
        Ok(self.sync_data(file))
    }

    /// fdatasync.
    pub(super) fn sync_data(&self, file: &File) -> rustix::io::Result<()> {
        // Interrupted before anything was tried: to call again is not to retry a failed sync.
        retry(|| match self {
            Self::System => sys::fdatasync(file),
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Self::Ring(ring) => ring.sync(file, true),
        })
    }

    /// fsync.
    pub(super) fn sync_all(&self, file: &File) -> rustix::io::Result<()> {
        retry(|| match self {
            Self::System => sys::fsync(file),
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Self::Ring(ring) => ring.sync(file, false),
        })
    }
}
