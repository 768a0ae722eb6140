//! How the kernel is asked to write and to sync a file: by system calls, or through a ring. Short writes are continued and interrupted calls made
//! again here, whichever it is; every other error is the caller's.

use std::fs::File;
use std::io::{self, IoSlice};

use rustix::fs as sys;

use super::retry;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
use super::ring::Ring;
use crate::storage::Access;

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
    /// What a sink with this access calls.
    ///
    /// # Errors
    /// `Unsupported` where there are no rings: without the feature, on another system, or where the kernel has none for this process, as in many
    /// containers.
    pub(super) fn for_access(access: Access) -> io::Result<Self> {
        match access {
            Access::Cached | Access::Direct => Ok(Self::System),
            #[cfg(all(target_os = "linux", feature = "io-uring"))]
            Access::Ring => Ok(Self::Ring(Box::new(Ring::new()?))),
            #[cfg(not(all(target_os = "linux", feature = "io-uring")))]
            Access::Ring => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "io_uring is not compiled in: it is the feature `io-uring`, on Linux",
            )),
        }
    }

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
