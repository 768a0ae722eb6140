//! A real directory.

use std::any::Any;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self as sys, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{IoError, Operation};
use crate::names;
use crate::storage::{Access, Entry, EntryKind, Lock, Sink, Source, Storage};

mod calls;
#[cfg(target_os = "linux")]
mod direct;
mod file;
mod fork;
#[cfg(all(target_os = "linux", feature = "io-uring"))]
mod ring;
#[cfg(test)]
mod tests;

use calls::Calls;
use file::FsFile;
use fork::Owner;

/// Mode of new files: the owner writes, the group reads.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

/// Mode of new directories.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);

/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 1024 * 1024;

/// A real directory, opened once: everything goes through its handle, so that it stays the same directory when it is renamed or the
/// process changes its own. No symlink is followed, and only regular files are opened. Unix only.
///
/// It belongs to the process that opened it. In a forked child it still reads, and everything that would change a file or a name is an error:
/// open the directory again there.
///
/// # Durability
/// As good as the file system's fdatasync, fsync and rename. Network and FUSE file systems may promise less than they say.
#[derive(Debug)]
pub struct FsStorage {
    path: PathBuf,
    directory: File,
    owner: Arc<Owner>,
}

impl FsStorage {
    /// Opens `path` and creates it, and its missing parents, if need be (mode 0750).
    ///
    /// # Errors
    /// It cannot be created or opened.
    ///
    /// # Durability
    /// A new directory is durable only after [`Storage::sync_parents`].
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, IoError> {
        let path = path.into();
        let fail = |source| IoError::new(Operation::OpenDirectory, &path, source);
        let missing: Vec<&Path> = path.ancestors().take_while(|level| !exists(level)).collect();
        for level in missing.into_iter().rev() {
            match retry(|| sys::mkdir(level, DIRECTORY_MODE)) {
                // Another process was faster.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno.into())),
            }
        }
        Self::open(path)
    }

    /// Opens `path`, which must exist; creates nothing.
    ///
    /// # Errors
    /// It is not there, is no directory, or cannot be opened.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, IoError> {
        let path = path.into();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match retry(|| sys::open(&path, flags, Mode::empty())) {
            Ok(directory) => {
                Ok(Self { path, directory: File::from(directory), owner: Arc::new(Owner::here()) })
            }
            Err(errno) => Err(IoError::new(Operation::OpenDirectory, path, errno.into())),
        }
    }

    /// Gives the directory another name, in the place of nothing or of an empty directory, and makes that durable.
    ///
    /// # Errors
    /// There is something under that name (`DirectoryNotEmpty`, `NotADirectory`), or it is on another file system: then the directory has its old name.
    /// Or the name is there, but may not be durable.
    ///
    /// # Durability
    /// The new name is durable when this succeeds.
    pub fn publish(self, to: impl Into<PathBuf>) -> Result<Self, IoError> {
        let to = to.into();
        let fail = |source| IoError::new(Operation::Rename, &self.path, source);
        self.owner.check().map_err(fail)?;
        retry(|| sys::rename(&self.path, &to)).map_err(|errno| fail(errno.into()))?;
        let renamed = Self { path: to, ..self };
        renamed.sync_parents()?;
        Ok(renamed)
    }

    /// Whether the path still leads to this directory: it does not if the directory was renamed or removed since it was opened.
    ///
    /// # Errors
    /// The path cannot be looked at.
    pub fn is_at_its_path(&self) -> Result<bool, IoError> {
        let fail = |errno: Errno| IoError::new(Operation::OpenDirectory, &self.path, errno.into());
        match retry(|| sys::stat(&self.path)) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == identity(self.directory.as_fd()).map_err(fail)?),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// Removes the directory, which must be empty.
    ///
    /// # Errors
    /// It is still there.
    ///
    /// # Durability
    /// None: after a power cut it may be there again, empty.
    pub fn remove(self) -> Result<(), IoError> {
        let fail = |source| IoError::new(Operation::Unlink, &self.path, source);
        self.owner.check().map_err(fail)?;
        retry(|| sys::rmdir(&self.path)).map_err(|errno| fail(errno.into()))
    }

    /// The path of a file, and an error about it.
    fn fail(&self, operation: Operation, name: &str) -> impl Fn(io::Error) -> IoError + use<> {
        let path = self.path.join(name);
        move |source| IoError::new(operation, &path, source)
    }

    fn open_file(&self, operation: Operation, name: &str, flags: OFlags) -> Result<File, IoError> {
        let fail = self.fail(operation, name);
        names::check(name).map_err(&fail)?;
        // NONBLOCK, so that a FIFO under a log's name is refused instead of waited for; it means nothing to a regular file.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            retry(|| sys::openat(&self.directory, name, flags, FILE_MODE)).map_err(|errno| match errno {
                // A symlink; a socket, or a FIFO without a reader; a directory.
                Errno::LOOP | Errno::NXIO | Errno::ISDIR => fail(self.why_refused(name, errno)),
                errno => fail(errno.into()),
            })?;
        let stat = retry(|| sys::fstat(&file)).map_err(|errno| fail(errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(File::from(file)),
            other => Err(fail(not_regular(other))),
        }
    }

    /// Says what the name stands for instead of a regular file.
    fn why_refused(&self, name: &str, errno: Errno) -> io::Error {
        match retry(|| sys::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                not_regular(FileType::from_raw_mode(stat.st_mode))
            }
            // Gone, or replaced meanwhile.
            _ => errno.into(),
        }
    }

    fn entries(&self) -> rustix::io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if [b".".as_slice(), b".."].contains(&name.to_bytes()) {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                kind = match retry(|| sys::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    // Removed since it was listed.
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                };
            }
            let kind = match kind {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            entries.push(Entry { name: OsString::from_vec(name.to_bytes().to_vec()), kind });
        }
        Ok(entries)
    }

    fn file(&self, name: &str, file: File) -> FsFile {
        FsFile { path: self.path.join(name), file, owner: Arc::clone(&self.owner), calls: Calls::System }
    }

    fn sink(
        &self,
        operation: Operation,
        name: &str,
        flags: OFlags,
        access: Access,
    ) -> Result<Arc<dyn Sink>, IoError> {
        let fail = self.fail(operation, name);
        // Before there is a file: without rings there will be none.
        let calls = Calls::for_access(access).map_err(fail)?;
        let file = self.open_file(operation, name, flags | mode(access))?;
        let file = FsFile { calls, ..self.file(name, file) };
        let sink: Result<Arc<dyn Sink>, IoError> = match access {
            Access::Cached => return Ok(Arc::new(file)),
            #[cfg(target_os = "linux")]
            Access::Direct | Access::Ring => {
                direct::DirectFile::new(operation, file).map(|file| Arc::new(file) as _)
            }
            #[cfg(not(target_os = "linux"))]
            Access::Direct | Access::Ring => Err(file.fail(operation)(io::ErrorKind::Unsupported.into())),
        };
        sink.inspect_err(|_| {
            if flags.contains(OFlags::CREATE) {
                // The caller may try another access under this name. If it cannot be removed, that one will say so.
                let _ = self.unlink(name);
            }
        })
    }

    /// Whether the name leads to another file by now, or to none. The number of links alone does not say it everywhere.
    fn is_removed(&self, name: &str, file: &File) -> rustix::io::Result<bool> {
        let open = retry(|| sys::fstat(file))?;
        if open.st_nlink > 0 {
            return Ok(false);
        }
        match retry(|| sys::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(named) => Ok((named.st_dev, named.st_ino) != (open.st_dev, open.st_ino)),
            Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(errno),
        }
    }
}

/// A direct file is read, too.
fn mode(access: Access) -> OFlags {
    match access {
        Access::Cached => OFlags::WRONLY,
        Access::Direct | Access::Ring => OFlags::RDWR,
    }
}

/// Calls again what a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn not_regular(kind: FileType) -> io::Error {
    let kind = match kind {
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::BlockDevice | FileType::CharacterDevice => "device",
        _ => "file of an unknown kind",
    };
    io::Error::new(io::ErrorKind::InvalidInput, format!("is a {kind}, not a regular file"))
}

/// What tells one directory from another: device and inode.
fn identity(directory: BorrowedFd<'_>) -> rustix::io::Result<(u64, u64)> {
    let stat = retry(|| sys::fstat(directory))?;
    Ok((stat.st_dev, stat.st_ino))
}

fn exists(path: &Path) -> bool {
    // The empty path is the current directory's.
    path.as_os_str().is_empty() || path.symlink_metadata().is_ok()
}

impl Storage for FsStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        // Interrupted half-way, it starts anew.
        retry(|| self.entries()).map_err(|errno| IoError::new(Operation::List, &self.path, errno.into()))
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.owner.check().map_err(self.fail(Operation::Create, name))?;
        self.sink(Operation::Create, name, OFlags::CREATE | OFlags::EXCL, access)
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.sink(Operation::Open, name, OFlags::empty(), access)
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        Ok(Arc::new(self.file(name, self.open_file(Operation::Open, name, OFlags::RDONLY)?)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        let fail = self.fail(Operation::Rename, from);
        self.owner.check().map_err(&fail)?;
        names::check(from).and_then(|()| names::check(to)).map_err(&fail)?;
        retry(|| sys::renameat(&self.directory, from, &self.directory, to))
            .map_err(|errno| fail(errno.into()))
    }

    fn link_from(&self, from: &dyn Storage, name: &str, to: &str) -> Result<(), IoError> {
        let fail = self.fail(Operation::Link, to);
        self.owner.check().map_err(&fail)?;
        names::check(name).and_then(|()| names::check(to)).map_err(&fail)?;
        let other = from.backend().and_then(|backend| backend.downcast_ref::<Self>());
        let other = other.ok_or_else(|| fail(io::ErrorKind::Unsupported.into()))?;
        retry(|| sys::linkat(&other.directory, name, &self.directory, to, AtFlags::empty()))
            .map_err(|errno| fail(errno.into()))
    }

    fn backend(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        let fail = self.fail(Operation::Unlink, name);
        self.owner.check().map_err(&fail)?;
        names::check(name).map_err(&fail)?;
        retry(|| sys::unlinkat(&self.directory, name, AtFlags::empty())).map_err(|errno| fail(errno.into()))
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        let fail = |source| IoError::new(Operation::SyncDirectory, &self.path, source);
        self.owner.check().map_err(fail)?;
        retry(|| sys::fsync(&self.directory)).map_err(|errno| fail(errno.into()))
    }

    /// Syncs the parent and every ancestor of it, up to the root: which of them are new, nobody remembers after a
    /// crash. It goes from the handle upwards, so a symlink in the path or a rename does not lead it astray. It ends
    /// without an error at the first that this user may not read; one on a file system that cannot sync directories (or
    /// cannot be written) has nothing to make durable. Both were there before us.
    fn sync_parents(&self) -> Result<(), IoError> {
        self.owner.check().map_err(|source| IoError::new(Operation::SyncDirectory, &self.path, source))?;
        let mut path = self.path.clone();
        let mut below: Option<OwnedFd> = None;
        loop {
            path.push("..");
            let fail = |errno: Errno| IoError::new(Operation::SyncDirectory, &path, errno.into());
            let child = below.as_ref().map_or(self.directory.as_fd(), AsFd::as_fd);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = match retry(|| sys::openat(child, "..", flags, Mode::empty())) {
                Ok(parent) => parent,
                Err(Errno::ACCESS | Errno::PERM) => return Ok(()),
                Err(errno) => return Err(fail(errno)),
            };
            // The root is its own parent.
            if identity(child).map_err(fail)? == identity(parent.as_fd()).map_err(fail)? {
                return Ok(());
            }
            match retry(|| sys::fsync(&parent)) {
                Ok(()) | Err(Errno::INVAL | Errno::ROFS) => {}
                Err(errno) => return Err(fail(errno)),
            }
            below = Some(parent);
        }
    }

    /// Uses flock, which closing another handle of the file does not end (POSIX record locks would).
    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        let fail = self.fail(Operation::Lock, name);
        self.owner.check().map_err(&fail)?;
        loop {
            let file = self.open_file(Operation::Lock, name, OFlags::RDWR | OFlags::CREATE)?;
            match file.try_lock() {
                // Whoever held it may have removed the file, and a lock on that keeps nobody out.
                Ok(()) if self.is_removed(name, &file).map_err(|errno| fail(errno.into()))? => {}
                Ok(()) => return Ok(Box::new(FsLock { file, owner: Arc::clone(&self.owner) })),
                Err(TryLockError::WouldBlock) => return Err(fail(io::ErrorKind::WouldBlock.into())),
                Err(TryLockError::Error(source)) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(TryLockError::Error(source)) => return Err(fail(source)),
            }
        }
    }
}

#[derive(Debug)]
struct FsLock {
    file: File,
    /// The process that took it.
    owner: Arc<Owner>,
}

impl Lock for FsLock {}

impl Drop for FsLock {
    fn drop(&mut self) {
        // To close the file is not enough: a child that another thread is just starting holds a copy of the handle until it executes
        // its program, and the lock would end only then. If this fails, it does. A forked child that drops its copy of this value must
        // not take the lock from its parent, so only the owner unlocks.
        if self.owner.is_here() {
            let _ = self.file.unlock();
        }
    }
}
