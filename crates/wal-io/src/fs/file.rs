//! A file of a real directory, through the system's cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{self as sys, FallocateFlags, OFlags};
use rustix::io::Errno;

use super::calls::{Calls, Until};
use super::fork::Owner;
use super::{ZEROS_BYTES, retry};
use crate::error::{IoError, Operation};
use crate::storage::{Sink, Source};

#[derive(Debug)]
pub(super) struct FsFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) owner: Arc<Owner>,
    pub(super) calls: Calls,
}

impl FsFile {
    pub(super) fn fail(&self, operation: Operation) -> impl Fn(io::Error) -> IoError {
        move |source| IoError::new(operation, &self.path, source)
    }

    /// Refuses in a forked child.
    pub(super) fn check(&self, operation: Operation) -> Result<(), IoError> {
        self.owner.check().map_err(self.fail(operation))
    }
}

impl Sink for FsFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.check(Operation::Write)?;
        let written = self.calls.write_all(&self.file, offset, bytes, 1, Until::Written);
        written.map_err(|source| self.fail(Operation::Write)(source).at(offset))
    }

    fn links(&self) -> Result<u64, IoError> {
        self.links()
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.check(Operation::SyncData)?;
        self.calls.sync_data(&self.file).map_err(|errno| self.fail(Operation::SyncData)(errno.into()))
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.check(Operation::SyncAll)?;
        self.calls.sync_all(&self.file).map_err(|errno| self.fail(Operation::SyncAll)(errno.into()))
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.check(Operation::Preallocate)?;
        match self.allocate(length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            result => return result.map_err(|errno| self.fail(Operation::Preallocate)(errno.into())),
        }
        self.write_zeros(Operation::Preallocate, self.length()?, length)
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.check(Operation::Fill)?;
        let end = self.reserve_behind_end(length)?;
        self.write_zeros(Operation::Fill, end, length)
    }
}

impl FsFile {
    /// Sets what an open does not set. Without NONBLOCK, which was for FIFOs: it would be an answer to a ring, too.
    #[cfg(target_os = "linux")]
    pub(super) fn set_flags(&self, more: OFlags) -> rustix::io::Result<()> {
        let flags = retry(|| sys::fcntl_getfl(&self.file))?;
        retry(|| sys::fcntl_setfl(&self.file, (flags - OFlags::NONBLOCK) | more))
    }

    /// Reserves space from the start of the file.
    pub(super) fn allocate(&self, length: u64) -> rustix::io::Result<()> {
        if length == 0 {
            // fallocate would call that an invalid argument.
            return Ok(());
        }
        retry(|| sys::fallocate(&self.file, FallocateFlags::empty(), 0, length))
    }

    /// Reserves space up to `length`, without making the file longer: if there is too little, it shows before anything is written. Returns where
    /// the file ends.
    pub(super) fn reserve_behind_end(&self, length: u64) -> Result<u64, IoError> {
        let end = self.length()?;
        if let Some(more) = length.checked_sub(end).filter(|more| *more > 0) {
            match retry(|| sys::fallocate(&self.file, FallocateFlags::KEEP_SIZE, end, more)) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(self.fail(Operation::Fill)(errno.into())),
            }
        }
        Ok(end)
    }

    /// Writes zeros from `offset` to `end`.
    pub(super) fn write_zeros(&self, operation: Operation, mut offset: u64, end: u64) -> Result<(), IoError> {
        let most = end.saturating_sub(offset).min(ZEROS_BYTES as u64);
        let zeros = vec![0; usize::try_from(most).unwrap_or(ZEROS_BYTES)];
        while offset < end {
            let piece = usize::try_from(end - offset).map_or(zeros.len(), |left| left.min(zeros.len()));
            let bytes = zeros.get(..piece).unwrap_or(&zeros);
            let write = self.calls.write_all(&self.file, offset, bytes, 1, Until::Written);
            write.map_err(|source| self.fail(operation)(source).at(offset))?;
            offset = offset.saturating_add(piece as u64);
        }
        Ok(())
    }
}

impl FsFile {
    pub(super) fn links(&self) -> Result<u64, IoError> {
        let stat =
            retry(|| sys::fstat(&self.file)).map_err(|errno| self.fail(Operation::Stat)(errno.into()))?;
        Ok(stat.st_nlink)
    }
}

impl Source for FsFile {
    fn length(&self) -> Result<u64, IoError> {
        let stat =
            retry(|| sys::fstat(&self.file)).map_err(|errno| self.fail(Operation::Stat)(errno.into()))?;
        // A file's length is never negative.
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(filled as u64);
            match self.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.fail(Operation::Read)(source).at(at)),
            }
        }
        Ok(filled)
    }
}
