//! The three traits on the simulated disk.

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::directory::Id;
use super::fault::Harm;
use super::inode::{BLOCK, Route, SECTOR};
use super::trace::{Failure, Kind, Line, Place};
use super::{Disk, Gone, SimStorage};
use crate::blocks::Blocks;
use crate::names;
use crate::{Access, Entry, EntryKind, IoError, Lock, Operation, Sink, Source, Storage};

/// What an operation is about.
#[derive(Clone, Copy, Debug)]
enum Subject<'a> {
    Directory,
    Name(&'a str, Access),
    Two(&'a str, &'a str),
    File(Id, Access),
    Range(Id, Access, u64, usize),
    Length(Id, Access, u64),
}

impl Disk {
    /// What the trace will say of an operation.
    fn line(&self, kind: Kind, subject: Subject<'_>) -> Line {
        let (name, to, place, access) = match subject {
            Subject::Directory => ("".into(), None, Place::Nowhere, Access::Cached),
            Subject::Name(name, access) => (name.into(), None, Place::Nowhere, access),
            Subject::Two(from, to) => (from.into(), Some(to.into()), Place::Nowhere, Access::Cached),
            Subject::File(id, access) => (self.label(id), None, Place::Nowhere, access),
            Subject::Range(id, access, at, length) => {
                (self.label(id), None, Place::Range(at, length), access)
            }
            Subject::Length(id, access, length) => (self.label(id), None, Place::Length(length), access),
        };
        Line { kind, name, to, place, direct: access.is_direct(), slow: false, short: None, failure: None }
    }
}

impl SimStorage {
    /// Does one operation that has no effect if it fails.
    fn call<T>(
        &self,
        kind: Kind,
        subject: Subject<'_>,
        act: impl FnOnce(&mut Disk) -> Result<T, Failure>,
    ) -> Result<T, IoError> {
        self.call_or_harm(kind, subject, |disk, harm, _| match harm {
            Some(Harm::Fail(failure, _)) => Err(failure),
            _ => act(disk),
        })
    }

    /// Does one operation: calls the hook, counts it, lets faults strike, writes the trace. What goes wrong in another way than
    /// by being slow or interrupted, `act` makes of it what it should.
    fn call_or_harm<T>(
        &self,
        kind: Kind,
        subject: Subject<'_>,
        act: impl FnOnce(&mut Disk, Option<Harm>, &mut Line) -> Result<T, Failure>,
    ) -> Result<T, IoError> {
        let failed = |line: &Line, error| {
            let error = IoError::new(kind.operation(), Path::new("sim").join(&*line.name), error);
            if let Subject::Range(_, _, offset, _) = subject { error.at(offset) } else { error }
        };
        let mut again = false;
        loop {
            let mut disk = self.locked();
            let mut line = disk.line(kind, subject);
            if let Some(hook) = disk.before_each.clone() {
                drop(disk);
                hook(&line.to_string());
                disk = self.locked();
            }
            if let Some(gone) = disk.gone() {
                return Err(failed(&line, gone.into()));
            }
            disk.recorder.count(kind);
            let names = [&*line.name, line.to.as_deref().unwrap_or(&line.name)];
            let due = disk.faults.strike(kind, &names);
            line.slow = due.slow;
            if let Some(hook) = disk.when_slow.clone().filter(|_| due.slow) {
                drop(disk);
                hook(&line.to_string());
                disk = self.locked();
                if disk.dead {
                    return Err(failed(&line, Gone::Replaced.into()));
                }
            }
            if due.interrupted && due.harm.is_none() && !again {
                again = true;
                line.failure = Some("EINTR");
                disk.recorder.lines.push(line);
                continue;
            }
            let result = act(&mut disk, due.harm, &mut line);
            line.failure = result.as_ref().err().map(|failure| failure.word);
            let result = result.map_err(|failure| failed(&line, failure.error));
            disk.recorder.lines.push(line);
            return result;
        }
    }

    fn open(&self, name: &str, access: Access) -> Result<File, IoError> {
        let full = self.full(name);
        self.call(Kind::Open, Subject::Name(&full, access), |disk| {
            names::check(name)?;
            let id = disk.open(&full)?;
            Ok(self.file(disk, id, access))
        })
    }

    fn file(&self, disk: &Disk, id: Id, access: Access) -> File {
        let blocks = Mutex::new(Blocks::new(BLOCK));
        File { storage: self.clone(), id, access, blocks, _hold: disk.hold(id) }
    }
}

impl Storage for SimStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.call(Kind::List, Subject::Directory, |disk| {
            let names = disk.directory.seen.keys().filter_map(|name| self.own(name));
            Ok(names.map(|name| Entry { name: OsString::from(name), kind: EntryKind::File }).collect())
        })
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        let full = self.full(name);
        let file = self.call(Kind::Create, Subject::Name(&full, access), |disk| {
            names::check(name)?;
            let id = disk.create(&full)?;
            Ok(self.file(disk, id, access))
        })?;
        Ok(Arc::new(file))
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        Ok(Arc::new(self.open(name, access)?))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        Ok(Arc::new(self.open(name, Access::Cached)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        let (full_from, full_to) = (self.full(from), self.full(to));
        self.call(Kind::Rename, Subject::Two(&full_from, &full_to), |disk| {
            names::check(from)?;
            disk.open(&full_from)?;
            names::check(to)?;
            disk.rename(&full_from, &full_to)
        })
    }

    fn link_from(&self, from: &dyn Storage, name: &str, to: &str) -> Result<(), IoError> {
        let other = from.backend().and_then(|backend| backend.downcast_ref::<Self>());
        let linkable =
            other.filter(|other| Arc::ptr_eq(&other.disk, &self.disk) && other.prefix != self.prefix);
        let Some(other) = linkable else {
            let unsupported = std::io::ErrorKind::Unsupported.into();
            return Err(IoError::new(Operation::Link, self.path.join(to), unsupported));
        };
        let (full_from, full_to) = (other.full(name), self.full(to));
        self.call(Kind::Link, Subject::Two(&full_from, &full_to), |disk| {
            names::check(name)?;
            names::check(to)?;
            disk.link(&full_from, &full_to)
        })
    }

    fn backend(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        let full = self.full(name);
        self.call(Kind::Unlink, Subject::Name(&full, Access::Cached), |disk| {
            names::check(name)?;
            disk.unlink(&full)
        })
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.call_or_harm(Kind::SyncDir, Subject::Directory, |disk, harm, _| match harm {
            Some(Harm::Fail(failure, _)) => {
                disk.spoil_sync_dir(&self.prefix);
                Err(failure)
            }
            Some(Harm::Lose) => Ok(()),
            _ => {
                disk.sync_dir(&self.prefix);
                Ok(())
            }
        })
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.call_or_harm(Kind::SyncParents, Subject::Directory, |disk, harm, _| {
            match harm {
                Some(Harm::Fail(failure, _)) => return Err(failure),
                Some(Harm::Lose) => {}
                _ => disk.directory.published = true,
            }
            Ok(())
        })
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        let full = self.full(name);
        let file = self.call(Kind::Lock, Subject::Name(&full, Access::Cached), |disk| {
            names::check(name)?;
            let id = disk.lock(&full)?;
            Ok(self.file(disk, id, Access::Cached))
        })?;
        Ok(Box::new(Locked(file)))
    }
}

/// An open file, for writing or reading.
struct File {
    storage: SimStorage,
    id: Id,
    access: Access,
    /// What is written past the cache.
    blocks: Mutex<Blocks>,
    /// Keeps the file after its name is gone.
    _hold: Arc<()>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("id", &self.id).finish_non_exhaustive()
    }
}

impl File {
    fn locked(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self, kind: Kind) -> Result<(), IoError> {
        let changes = self.locked().changes();
        let result = self.sync_what(kind, |disk| disk.sync(self.id));
        let mut blocks = self.locked();
        if result.is_ok() {
            blocks.synced(changes)
        } else {
            blocks.failed()
        }
        result
    }

    fn sync_what(
        &self,
        kind: Kind,
        sync: impl FnOnce(&mut Disk) -> Result<(), Failure>,
    ) -> Result<(), IoError> {
        let subject = Subject::File(self.id, self.access);
        self.storage.call_or_harm(kind, subject, |disk, harm, _| match harm {
            Some(Harm::Fail(failure, _)) => {
                disk.spoil_sync(self.id, self.access);
                Err(failure)
            }
            Some(Harm::Lose) => Ok(()),
            _ => sync(disk),
        })
    }

    /// Writes at least the first byte, and says how many.
    fn write_some(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        let subject = Subject::Range(self.id, self.access, offset, bytes.len());
        self.storage.call_or_harm(Kind::Write, subject, |disk, harm, line| {
            let to = match harm {
                None => Route::Straight,
                Some(Harm::Lose) => Route::Nowhere,
                Some(Harm::Misdirect { file: None, offset }) => Route::Elsewhere(offset),
                Some(Harm::Misdirect { file: Some(name), offset }) => {
                    disk.overwrite(&name, offset, bytes);
                    Route::Nowhere
                }
                Some(Harm::Fail(failure, after)) => {
                    let mut after = usize::try_from(after).unwrap_or(usize::MAX).min(bytes.len());
                    if self.access.is_direct() {
                        after -= after % SECTOR;
                    }
                    let (part, _) = bytes.split_at(after);
                    // It fails in any case.
                    let _ = disk.write(self.id, offset, part, (Route::Straight, self.access));
                    return Err(failure);
                }
                Some(Harm::Short(after)) => {
                    let some =
                        after.map_or(bytes.len() / 2, |after| usize::try_from(after).unwrap_or(usize::MAX));
                    let least = if self.access.is_direct() { SECTOR } else { 1 };
                    let some = some.max(1).checked_next_multiple_of(least).unwrap_or(some);
                    let (part, rest) = bytes.split_at(some.min(bytes.len()));
                    disk.write(self.id, offset, part, (Route::Straight, self.access))?;
                    line.short = (!rest.is_empty()).then_some(part.len());
                    return Ok(part.len());
                }
            };
            disk.write(self.id, offset, bytes, (to, self.access))?;
            Ok(bytes.len())
        })
    }
}

impl File {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let mut written = self.write_some(offset, bytes)?;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            written += self.write_some(offset.saturating_add(written as u64), rest)?;
        }
        Ok(())
    }

    /// Writes the blocks that the bytes are in.
    fn write_blocks(&self, blocks: &mut Blocks, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            // The disk says what is wrong with it.
            return self.write(offset, bytes);
        }
        let (mut at, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let piece = blocks.compose(at, bytes, |at, to| self.read_at(at, to))?;
            self.write(piece.at, blocks.bytes(&piece)).inspect_err(|_| blocks.failed())?;
            blocks.written(&piece);
            at = at.saturating_add(piece.taken as u64);
            (_, bytes) = bytes.split_at(piece.taken);
        }
        Ok(())
    }
}

impl Sink for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let mut blocks = self.locked();
        blocks.change();
        match self.access {
            Access::Cached => {
                drop(blocks);
                self.write(offset, bytes)
            }
            Access::Direct | Access::Ring => self.write_blocks(&mut blocks, offset, bytes),
        }
    }

    /// Two operations in any case, so that the power can go between them: the one system call can be cut short there, too.
    fn write_synced_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let mut blocks = self.locked();
        if self.access.is_direct() && blocks.may_sync_alone(offset, bytes) {
            let before = self.storage.locked().sequence();
            self.write_blocks(&mut blocks, offset, bytes)?;
            let result = self.sync_what(Kind::SyncData, |disk| disk.sync_behind(self.id, before));
            return result.inspect_err(|_| blocks.failed());
        }
        drop(blocks);
        self.write_at(offset, bytes)?;
        self.sync_data()
    }

    fn links(&self) -> Result<u64, IoError> {
        // Not an operation of the trace: it only asks what the names say already.
        Ok(self.storage.locked().links(self.id).max(1))
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.sync(Kind::SyncData)
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync(Kind::SyncAll)
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.locked().change();
        self.storage.call(Kind::Preallocate, Subject::Length(self.id, self.access, length), |disk| {
            disk.preallocate(self.id, length)
        })
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.locked().change();
        self.storage.call(Kind::Fill, Subject::Length(self.id, self.access, length), |disk| {
            disk.fill(self.id, length, self.access)
        })
    }

    fn block_bytes(&self) -> u64 {
        match self.access {
            Access::Cached => 1,
            Access::Direct | Access::Ring => BLOCK as u64,
        }
    }
}

impl Source for File {
    fn length(&self) -> Result<u64, IoError> {
        self.storage.call(Kind::Stat, Subject::File(self.id, self.access), |disk| {
            disk.files.get(&self.id).map(|file| file.cache.len() as u64).ok_or_else(Failure::absent)
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let subject = Subject::Range(self.id, self.access, offset, buffer.len());
        self.storage.call(Kind::Read, subject, |disk| disk.read(self.id, offset, buffer))
    }
}

/// A lock; it ends when dropped.
#[derive(Debug)]
struct Locked(File);

impl Lock for Locked {}

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.storage.locked().locks.remove(&self.0.id);
    }
}
