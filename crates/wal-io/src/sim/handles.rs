//! The three traits on the simulated disk.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::directory::Id;
use super::fault::Harm;
use super::inode::Route;
use super::trace::{Failure, Kind, Line, Place};
use super::{Disk, Gone, SimStorage};
use crate::{Entry, EntryKind, IoError, Lock, Sink, Source, Storage};

/// What an operation is about.
#[derive(Clone, Copy, Debug)]
enum Subject<'a> {
    Directory,
    Name(&'a str),
    Two(&'a str, &'a str),
    File(Id),
    Range(Id, u64, usize),
    Length(Id, u64),
}

impl Disk {
    /// What the trace will say of an operation.
    fn line(&self, kind: Kind, subject: Subject<'_>) -> Line {
        let (name, to, place) = match subject {
            Subject::Directory => ("".into(), None, Place::Nowhere),
            Subject::Name(name) => (name.into(), None, Place::Nowhere),
            Subject::Two(from, to) => (from.into(), Some(to.into()), Place::Nowhere),
            Subject::File(id) => (self.label(id), None, Place::Nowhere),
            Subject::Range(id, offset, length) => (self.label(id), None, Place::Range(offset, length)),
            Subject::Length(id, length) => (self.label(id), None, Place::Length(length)),
        };
        Line { kind, name, to, place, slow: false, short: None, failure: None }
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
            let error = IoError::new(kind.operation(), self.path().join(&*line.name), error);
            if let Subject::Range(_, offset, _) = subject { error.at(offset) } else { error }
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

    fn open(&self, name: &str) -> Result<File, IoError> {
        self.call(Kind::Open, Subject::Name(name), |disk| {
            let id = disk.open(name)?;
            Ok(self.file(disk, id))
        })
    }

    fn file(&self, disk: &Disk, id: Id) -> File {
        File { storage: self.clone(), id, _hold: disk.hold(id) }
    }
}

impl Storage for SimStorage {
    fn path(&self) -> &Path {
        Path::new("sim")
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.call(Kind::List, Subject::Directory, |disk| {
            let names = disk.directory.seen.keys();
            Ok(names.map(|name| Entry { name: OsString::from(name), kind: EntryKind::File }).collect())
        })
    }

    fn create(&self, name: &str) -> Result<Arc<dyn Sink>, IoError> {
        let file = self.call(Kind::Create, Subject::Name(name), |disk| {
            let id = disk.create(name)?;
            Ok(self.file(disk, id))
        })?;
        Ok(Arc::new(file))
    }

    fn open_sink(&self, name: &str) -> Result<Arc<dyn Sink>, IoError> {
        Ok(Arc::new(self.open(name)?))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        Ok(Arc::new(self.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.call(Kind::Rename, Subject::Two(from, to), |disk| disk.rename(from, to))
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.call(Kind::Unlink, Subject::Name(name), |disk| disk.unlink(name))
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.call_or_harm(Kind::SyncDir, Subject::Directory, |disk, harm, _| match harm {
            Some(Harm::Fail(failure, _)) => {
                disk.spoil_sync_dir();
                Err(failure)
            }
            Some(Harm::Lose) => Ok(()),
            _ => {
                disk.sync_dir();
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
        let file = self.call(Kind::Lock, Subject::Name(name), |disk| {
            let id = disk.lock(name)?;
            Ok(self.file(disk, id))
        })?;
        Ok(Box::new(Locked(file)))
    }
}

/// An open file, for writing or reading.
struct File {
    storage: SimStorage,
    id: Id,
    /// Keeps the file after its name is gone.
    _hold: Arc<()>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("id", &self.id).finish_non_exhaustive()
    }
}

impl File {
    fn sync(&self, kind: Kind) -> Result<(), IoError> {
        self.storage.call_or_harm(kind, Subject::File(self.id), |disk, harm, _| match harm {
            Some(Harm::Fail(failure, _)) => {
                disk.spoil_sync(self.id);
                Err(failure)
            }
            Some(Harm::Lose) => Ok(()),
            _ => disk.sync(self.id),
        })
    }

    /// Writes at least the first byte, and says how many.
    fn write_some(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        let subject = Subject::Range(self.id, offset, bytes.len());
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
                    let after = usize::try_from(after).unwrap_or(usize::MAX).min(bytes.len());
                    let (part, _) = bytes.split_at(after);
                    // It fails in any case.
                    let _ = disk.write(self.id, offset, part, Route::Straight);
                    return Err(failure);
                }
                Some(Harm::Short(after)) => {
                    let some =
                        after.map_or(bytes.len() / 2, |after| usize::try_from(after).unwrap_or(usize::MAX));
                    let (part, rest) = bytes.split_at(some.max(1).min(bytes.len()));
                    disk.write(self.id, offset, part, Route::Straight)?;
                    line.short = (!rest.is_empty()).then_some(part.len());
                    return Ok(part.len());
                }
            };
            disk.write(self.id, offset, bytes, to)?;
            Ok(bytes.len())
        })
    }
}

impl Sink for File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let mut written = self.write_some(offset, bytes)?;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            written += self.write_some(offset.saturating_add(written as u64), rest)?;
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.sync(Kind::SyncData)
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync(Kind::SyncAll)
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.storage.call(Kind::Preallocate, Subject::Length(self.id, length), |disk| {
            disk.preallocate(self.id, length)
        })
    }
}

impl Source for File {
    fn length(&self) -> Result<u64, IoError> {
        self.storage.call(Kind::Stat, Subject::File(self.id), |disk| {
            disk.files.get(&self.id).map(|file| file.cache.len() as u64).ok_or_else(Failure::absent)
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let subject = Subject::Range(self.id, offset, buffer.len());
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
