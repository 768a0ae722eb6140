//! A file that is written past the page cache (`O_DIRECT`), in whole blocks.
//!
//! What is written is on the way to the device at once: there is no page that a failed sync could mark clean, and a write that shall be durable is
//! one call (`pwritev2` with `RWF_DSYNC`).

use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{self as sys, AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;

use super::calls::Until;
use super::{FsFile, ZEROS_BYTES, retry};
use crate::blocks::{Aligned, Blocks, within};
use crate::error::{IoError, Operation};
use crate::storage::{Sink, Source};

/// The block where the kernel does not say what it wants, and at least: file systems have blocks of this size, and a write of less than one waits
/// for all others on the file.
const BLOCK_BYTES: u32 = 4096;

/// What a device writes at least, where the kernel does not say.
const SECTOR_BYTES: u32 = 512;

/// No device wants more than this.
const LARGEST_BLOCK_BYTES: u32 = 64 * 1024;

#[derive(Debug)]
pub(super) struct DirectFile {
    file: FsFile,
    /// Writes start and end at a multiple of this.
    unit: usize,
    blocks: Mutex<Blocks>,
}

impl DirectFile {
    /// Takes a file that was opened for reading and writing.
    ///
    /// # Errors
    /// `Unsupported` where there is no direct I/O.
    pub(super) fn new(operation: Operation, file: FsFile) -> Result<Self, IoError> {
        let (unit, block) = alignment(&file).map_err(file.fail(operation))?;
        // Not at the open itself: that would leave a new file behind where there is no direct I/O.
        match file.set_flags(OFlags::DIRECT) {
            Ok(()) => Ok(Self { file, unit, blocks: Mutex::new(Blocks::new(block)) }),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Err(file.fail(operation)(unsupported())),
            Err(errno) => Err(file.fail(operation)(errno.into())),
        }
    }

    /// One writer at a time: what is written behind a write may begin in its last block.
    fn locked(&self) -> MutexGuard<'_, Blocks> {
        // Nothing panics half-way: what is kept was written.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(
        &self,
        operation: Operation,
        blocks: &mut Blocks,
        (offset, bytes): (u64, &[u8]),
        until: Until,
    ) -> Result<(), IoError> {
        let fail = |source| self.file.fail(operation)(source).at(offset);
        let end = offset.checked_add(bytes.len() as u64);
        let end = end.and_then(|end| end.checked_next_multiple_of(blocks.block() as u64));
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(fail(io::ErrorKind::FileTooLarge.into()));
        }
        if self.file.calls.take_slices()
            && let Some(ends) = blocks.compose_ends(offset, bytes, |at, to| self.read(at, to))?
        {
            let [first, middle, last] = blocks.slices(&ends, bytes).map(IoSlice::new);
            let mut slices = [first, middle, last];
            let slices = slices.as_mut_slice();
            let result = self.file.calls.write_slices(&self.file.file, ends.at, slices, self.unit, until);
            result.map_err(fail).inspect_err(|_| blocks.failed())?;
            blocks.written_ends(&ends);
            return Ok(());
        }
        let (mut at, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let piece = blocks.compose(at, bytes, |at, to| self.read(at, to))?;
            let whole = blocks.bytes(&piece);
            let result = self.file.calls.write_all(&self.file.file, piece.at, whole, self.unit, until);
            result.map_err(fail).inspect_err(|_| blocks.failed())?;
            blocks.written(&piece);
            at = at.saturating_add(piece.taken as u64);
            (_, bytes) = bytes.split_at(piece.taken);
        }
        Ok(())
    }

    /// Reads whole blocks, as far as the file goes.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(filled as u64);
            match self.file.file.read_at(rest, at) {
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(self.file.fail(Operation::Read)(source).at(at)),
            }
            // The end of the file is where there is less.
            if filled % self.unit != 0 || at == offset.saturating_add(filled as u64) {
                break;
            }
        }
        Ok(filled)
    }

    fn sync(&self, sync: impl FnOnce(&FsFile) -> Result<(), IoError>) -> Result<(), IoError> {
        let changes = self.locked().changes();
        let result = sync(&self.file);
        let mut blocks = self.locked();
        if result.is_ok() {
            blocks.synced(changes)
        } else {
            blocks.failed()
        }
        result
    }
}

impl Sink for DirectFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.file.check(Operation::Write)?;
        let mut blocks = self.locked();
        blocks.change();
        self.write(Operation::Write, &mut blocks, (offset, bytes), Until::Written)
    }

    fn links(&self) -> Result<u64, IoError> {
        self.file.links()
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.sync(FsFile::sync_data)
    }

    fn write_synced_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        self.file.check(Operation::Write)?;
        let mut blocks = self.locked();
        if blocks.may_sync_alone(offset, bytes) {
            return self.write(Operation::Write, &mut blocks, (offset, bytes), Until::Durable);
        }
        drop(blocks);
        self.write_at(offset, bytes)?;
        self.sync_data()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync(FsFile::sync_all)
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.file.check(Operation::Preallocate)?;
        self.locked().change();
        match self.file.allocate(length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            result => return result.map_err(|errno| self.file.fail(Operation::Preallocate)(errno.into())),
        }
        self.write_zeros(Operation::Preallocate, length)
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.file.check(Operation::Fill)?;
        self.file.reserve_behind_end(length)?;
        self.write_zeros(Operation::Fill, length)
    }

    fn block_bytes(&self) -> u64 {
        self.locked().block() as u64
    }
}

#[cfg(all(test, feature = "io-uring"))]
impl DirectFile {
    /// The file itself.
    pub(super) fn file(&self) -> &FsFile {
        &self.file
    }
}

impl DirectFile {
    /// Writes zeros from the end of the file up to `length`.
    fn write_zeros(&self, operation: Operation, length: u64) -> Result<(), IoError> {
        // Nobody writes meanwhile, and what is kept stays true: the file's last block is written as it is.
        let mut kept = self.locked();
        kept.change();
        let mut blocks = Blocks::new(kept.block());
        let mut end = self.file.length()?;
        // Aligned, so that they are not copied.
        let mut zeros = Aligned::new(kept.block());
        let zeros = zeros.bytes(kept.block() + ZEROS_BYTES);
        while let Some(more) = length.checked_sub(end).filter(|more| *more > 0) {
            let more = usize::try_from(more).map_or(ZEROS_BYTES, |more| more.min(ZEROS_BYTES));
            let (_, bytes) = zeros.split_at(within(end, kept.block()));
            let (bytes, _) = bytes.split_at(more);
            self.write(operation, &mut blocks, (end, bytes), Until::Written)?;
            end = end.saturating_add(more as u64);
        }
        Ok(())
    }
}

/// What the file wants: the unit of every write, and the block that we write in.
fn alignment(file: &FsFile) -> io::Result<(usize, usize)> {
    let (mut unit, mut memory) = (SECTOR_BYTES, SECTOR_BYTES);
    // Kernels that do not know the question do not answer it; some have no such call.
    match retry(|| sys::statx(&file.file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)) {
        Ok(statx) if StatxFlags::from_bits_retain(statx.stx_mask).contains(StatxFlags::DIOALIGN) => {
            (unit, memory) = (statx.stx_dio_offset_align, statx.stx_dio_mem_align);
        }
        Ok(_) | Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Zero is how the kernel says that there is none.
    let sound = |bytes: u32| bytes.is_power_of_two() && bytes <= LARGEST_BLOCK_BYTES;
    if !sound(unit) || !sound(memory) {
        return Err(unsupported());
    }
    let usable = |bytes: u32| usize::try_from(bytes).map_err(|_| unsupported());
    Ok((usable(unit)?, usable(unit.max(memory).max(BLOCK_BYTES))?))
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the file system has no direct I/O")
}
