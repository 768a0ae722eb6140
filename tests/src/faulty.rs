//! Any storage, watched and made to fail.
//!
//! [`FaultyStorage`] hands every operation on to the storage behind it, after it has written the operation down as a line of
//! text with the thread that asked for it, and after the faults that the test asked for had their turn: an errno, a write that
//! ends half-way, a panic, or a gate that holds the operation until the test opens it.
//!
//! ```text
//! create 000002.wal
//! write 000002.wal 0+131
//! sync_data 000002.wal
//! sync_dir
//! unlock LOCK
//! ```

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use wal_io::{Access, Entry, IoError, Lock, Operation, Sink, Source, Storage};

/// Input/output error.
pub const EIO: i32 = 5;
/// File too large.
pub const EFBIG: i32 = 27;
/// No space left on the device.
pub const ENOSPC: i32 = 28;

/// Longest that a gate waits for somebody to come: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Listing the directory.
    List,
    /// Creating a file.
    Create,
    /// Opening a file, for reading or writing.
    Open,
    /// Renaming a file.
    Rename,
    /// Giving a file a second name.
    Link,
    /// Removing a name.
    Unlink,
    /// fsync of the directory.
    SyncDir,
    /// fsync of its ancestors.
    SyncParents,
    /// Taking the lock.
    Lock,
    /// Writing bytes.
    Write,
    /// fdatasync.
    SyncData,
    /// fsync.
    SyncAll,
    /// Reserving space.
    Preallocate,
    /// Writing zeros behind the end.
    Fill,
    /// Asking for a length.
    Length,
    /// Reading bytes.
    Read,
    /// Giving the lock back; cannot fail.
    Unlock,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Open => "open",
            Self::Rename => "rename",
            Self::Link => "link",
            Self::Unlink => "unlink",
            Self::SyncDir => "sync_dir",
            Self::SyncParents => "sync_parents",
            Self::Lock => "lock",
            Self::Write => "write",
            Self::SyncData => "sync_data",
            Self::SyncAll => "sync_all",
            Self::Preallocate => "preallocate",
            Self::Fill => "fill",
            Self::Length => "length",
            Self::Read => "read",
            Self::Unlock => "unlock",
        }
    }

    /// Whether it changes the disk. Taking the lock may create its file, and is not counted.
    pub fn mutates(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Lock | Self::Length | Self::Read | Self::Unlock)
    }

    fn operation(self) -> Operation {
        match self {
            Self::List => Operation::List,
            Self::Create => Operation::Create,
            Self::Open => Operation::Open,
            Self::Rename => Operation::Rename,
            Self::Link => Operation::Link,
            Self::Unlink => Operation::Unlink,
            Self::SyncDir | Self::SyncParents => Operation::SyncDirectory,
            Self::Lock | Self::Unlock => Operation::Lock,
            Self::Write => Operation::Write,
            Self::SyncData => Operation::SyncData,
            Self::SyncAll => Operation::SyncAll,
            Self::Preallocate => Operation::Preallocate,
            Self::Fill => Operation::Fill,
            Self::Length => Operation::Stat,
            Self::Read => Operation::Read,
        }
    }
}

/// Which operations a fault is about.
#[derive(Clone, Debug)]
pub enum Which {
    /// Of this kind, on any file.
    Kind(Kind),
    /// Of this kind, on a file whose name ends like this.
    On(Kind, &'static str),
    /// Whatever changes the disk.
    Mutating,
}

impl Which {
    fn matches(&self, kind: Kind, name: &str) -> bool {
        match self {
            Self::Kind(wanted) => *wanted == kind,
            Self::On(wanted, end) => *wanted == kind && name.ends_with(end),
            Self::Mutating => kind.mutates(),
        }
    }
}

/// What happens instead.
#[derive(Clone, Debug)]
enum Effect {
    /// Nothing is done, and this is the error number.
    Errno(i32),
    /// A write ends after some bytes, and this is the error number.
    Short { bytes: usize, errno: i32 },
    /// It is done, and the caller is told that it failed.
    DoneButFails(i32),
    /// The thread panics.
    Panic,
    /// It waits at a gate, and is done then; if the gate says so, it fails then.
    Gate(Arc<GateState>),
}

#[derive(Debug)]
struct Rule {
    which: Which,
    effect: Effect,
    /// How many matching operations pass before it strikes.
    skip: u64,
    /// How many it strikes.
    times: u64,
}

/// One operation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What was asked for.
    pub kind: Kind,
    /// On which file; empty for the directory.
    pub name: String,
    /// How many bytes, for a write.
    pub bytes: usize,
    /// Who asked.
    pub thread: ThreadId,
    /// The line of the trace. ` = errno` stands behind an injected failure.
    pub line: String,
}

#[derive(Debug, Default)]
struct Control {
    ops: Vec<Op>,
    rules: Vec<Rule>,
    /// Names of open files, so that a rename reaches their handles.
    names: Vec<Weak<Mutex<String>>>,
}

#[derive(Debug, Default)]
struct Shared {
    control: Mutex<Control>,
    /// An operation was written down.
    noted: Condvar,
    rings_refused: AtomicBool,
}

/// A storage that can be told to fail. Clones are the same one.
#[derive(Clone, Debug)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    shared: Arc<Shared>,
}

impl FaultyStorage {
    /// Watches `inner`; no faults yet.
    pub fn new(inner: impl Storage + 'static) -> Self {
        Self { inner: Arc::new(inner), shared: Arc::default() }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.shared.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, which: Which, nth: u64, times: u64, effect: Effect) {
        assert!(nth > 0, "the first is 1");
        self.control().rules.push(Rule { which, effect, skip: nth - 1, times });
    }

    /// From now on there are no rings, as in a process that was locked in.
    pub fn refuse_rings(&self) {
        self.shared.rings_refused.store(true, Ordering::SeqCst);
    }

    fn check_ring(&self, operation: Operation, name: &str, access: Access) -> Result<(), IoError> {
        if access == Access::Ring && self.shared.rings_refused.load(Ordering::SeqCst) {
            return Err(IoError::new(operation, self.path().join(name), io::ErrorKind::Unsupported.into()));
        }
        Ok(())
    }

    /// The `nth` matching operation from now on fails, once, and does nothing.
    pub fn fail(&self, which: Which, nth: u64, errno: i32) {
        self.add(which, nth, 1, Effect::Errno(errno));
    }

    /// The `nth` matching operation from now on and all that come after it fail, and do nothing.
    pub fn fail_from(&self, which: Which, nth: u64, errno: i32) {
        self.add(which, nth, u64::MAX, Effect::Errno(errno));
    }

    /// The `nth` matching operation is done, but the caller hears that it failed.
    pub fn fail_after_doing(&self, which: Which, nth: u64, errno: i32) {
        self.add(which, nth, 1, Effect::DoneButFails(errno));
    }

    /// The `nth` matching write puts `bytes` bytes down and fails.
    pub fn tear(&self, which: Which, nth: u64, bytes: usize, errno: i32) {
        self.add(which, nth, 1, Effect::Short { bytes, errno });
    }

    /// The thread that asks for the `nth` matching operation panics.
    pub fn panic_at(&self, which: Which, nth: u64) {
        self.add(which, nth, 1, Effect::Panic);
    }

    /// The `nth` matching operation waits until the gate is opened.
    #[must_use = "a gate that is dropped is open"]
    pub fn gate(&self, which: Which, nth: u64) -> Gate {
        let state = Arc::new(GateState::default());
        self.add(which, nth, 1, Effect::Gate(Arc::clone(&state)));
        Gate(state)
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        self.control().rules.clear();
    }

    /// Everything that changed the disk, or tried to, and the lock, since the beginning or the last [`FaultyStorage::forget`].
    pub fn ops(&self) -> Vec<Op> {
        self.control().ops.clone()
    }

    /// The same as text.
    pub fn trace(&self) -> Vec<String> {
        self.control().ops.iter().map(|op| op.line.clone()).collect()
    }

    /// Empties the trace and gives what was in it.
    pub fn forget(&self) -> Vec<String> {
        std::mem::take(&mut self.control().ops).into_iter().map(|op| op.line).collect()
    }

    /// How many operations of this kind, on files whose name ends like this.
    pub fn count(&self, kind: Kind, end: &str) -> usize {
        self.control().ops.iter().filter(|op| op.kind == kind && op.name.ends_with(end)).count()
    }

    /// Waits until there are at least `wanted` such operations.
    pub fn wait_for(&self, kind: Kind, end: &str, wanted: usize) {
        let seen = |control: &Control| {
            control.ops.iter().filter(|op| op.kind == kind && op.name.ends_with(end)).count()
        };
        let (control, late) = self
            .shared
            .noted
            .wait_timeout_while(self.control(), PATIENCE, |control| seen(control) < wanted)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "only {} of {wanted} {kind:?} *{end}: {:?}", seen(&control), control.ops);
    }

    /// What the storage behind this one is called.
    fn error(&self, kind: Kind, path: &Path, offset: Option<u64>, errno: i32) -> IoError {
        let error = IoError::new(kind.operation(), path, io::Error::from_raw_os_error(errno));
        offset.map_or(error.clone(), |offset| error.at(offset))
    }

    /// Writes the operation down, lets a fault strike, and does it.
    fn run<T>(
        &self,
        kind: Kind,
        name: &str,
        range: Option<(u64, usize)>,
        act: impl FnOnce() -> Result<T, IoError>,
        act_partly: impl FnOnce(usize),
    ) -> Result<T, IoError> {
        let effect = {
            let mut control = self.control();
            let effect = control.strike(kind, name);
            let suffix = match &effect {
                None | Some(Effect::Gate(_)) => String::new(),
                Some(Effect::Errno(errno) | Effect::DoneButFails(errno)) => format!(" = {errno}"),
                Some(Effect::Short { bytes, errno }) => format!(" = {errno} after {bytes}"),
                Some(Effect::Panic) => " = panic".to_owned(),
            };
            if kind.mutates() || matches!(kind, Kind::Lock | Kind::Unlock) {
                control.note(kind, name, range, &suffix);
                self.shared.noted.notify_all();
            }
            effect
        };
        let fail = |errno| {
            let path: PathBuf =
                if name.is_empty() { self.inner.path().to_owned() } else { self.inner.path().join(name) };
            Err(self.error(kind, &path, range.map(|(offset, _)| offset), errno))
        };
        match effect {
            None => act(),
            Some(Effect::Errno(errno)) => fail(errno),
            Some(Effect::DoneButFails(errno)) => {
                act()?;
                fail(errno)
            }
            Some(Effect::Short { bytes, errno }) => {
                act_partly(bytes);
                fail(errno)
            }
            Some(Effect::Panic) => panic!("the storage panics, as the test asked: {} {name}", kind.word()),
            Some(Effect::Gate(gate)) => match gate.pass() {
                None => act(),
                Some(errno) => fail(errno),
            },
        }
    }

    fn sink(&self, name: &str, inner: Arc<dyn Sink>) -> Arc<dyn Sink> {
        let name = Arc::new(Mutex::new(name.to_owned()));
        self.control().names.push(Arc::downgrade(&name));
        Arc::new(FaultySink { storage: self.clone(), name, inner })
    }

    fn simple<T>(
        &self,
        kind: Kind,
        name: &str,
        act: impl FnOnce() -> Result<T, IoError>,
    ) -> Result<T, IoError> {
        self.run(kind, name, None, act, |_| ())
    }
}

impl Control {
    fn strike(&mut self, kind: Kind, name: &str) -> Option<Effect> {
        let mut hit = None;
        for rule in self.rules.iter_mut().filter(|rule| rule.which.matches(kind, name)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && hit.is_none() {
                rule.times -= 1;
                hit = Some(rule.effect.clone());
            }
        }
        hit
    }

    fn note(&mut self, kind: Kind, name: &str, range: Option<(u64, usize)>, suffix: &str) {
        let mut line = kind.word().to_owned();
        if !name.is_empty() {
            line.push(' ');
            line.push_str(name);
        }
        if let Some((offset, bytes)) = range {
            line.push_str(&format!(" {offset}+{bytes}"));
        }
        line.push_str(suffix);
        let bytes = range.map_or(0, |(_, bytes)| bytes);
        let thread = std::thread::current().id();
        self.ops.push(Op { kind, name: name.to_owned(), bytes, thread, line });
    }
}

impl Storage for FaultyStorage {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.simple(Kind::List, "", || self.inner.list())
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.check_ring(Operation::Create, name, access)?;
        let inner = self.simple(Kind::Create, name, || self.inner.create_with(name, access))?;
        Ok(self.sink(name, inner))
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.check_ring(Operation::Open, name, access)?;
        let inner = self.simple(Kind::Open, name, || self.inner.open_sink_with(name, access))?;
        Ok(self.sink(name, inner))
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        let inner = self.simple(Kind::Open, name, || self.inner.open_source(name))?;
        Ok(Arc::new(FaultySource { storage: self.clone(), name: name.to_owned(), inner }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.simple(Kind::Rename, from, || self.inner.rename(from, to))?;
        for name in self.control().names.iter().filter_map(Weak::upgrade) {
            let mut name = name.lock().unwrap_or_else(PoisonError::into_inner);
            if *name == from {
                to.clone_into(&mut name);
            }
        }
        Ok(())
    }

    fn link_from(&self, from: &dyn Storage, name: &str, to: &str) -> Result<(), IoError> {
        self.simple(Kind::Link, to, || self.inner.link_from(from, name, to))
    }

    fn backend(&self) -> Option<&dyn Any> {
        self.inner.backend()
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.simple(Kind::Unlink, name, || self.inner.unlink(name))
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        self.simple(Kind::SyncDir, "", || self.inner.sync_dir())
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        self.simple(Kind::SyncParents, "", || self.inner.sync_parents())
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        let inner = self.simple(Kind::Lock, name, || self.inner.lock(name))?;
        Ok(Box::new(FaultyLock { storage: self.clone(), name: name.to_owned(), _inner: inner }))
    }
}

#[derive(Debug)]
struct FaultySink {
    storage: FaultyStorage,
    name: Arc<Mutex<String>>,
    inner: Arc<dyn Sink>,
}

impl FaultySink {
    fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for FaultySink {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
        let range = Some((offset, bytes.len()));
        self.storage.run(
            Kind::Write,
            &self.name(),
            range,
            || self.inner.write_at(offset, bytes),
            |part| self.inner.write_at(offset, &bytes[..part.min(bytes.len())]).expect("the part is written"),
        )
    }

    fn links(&self) -> Result<u64, IoError> {
        self.inner.links()
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.storage.simple(Kind::SyncData, &self.name(), || self.inner.sync_data())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.storage.simple(Kind::SyncAll, &self.name(), || self.inner.sync_all())
    }

    fn preallocate(&self, length: u64) -> Result<(), IoError> {
        self.storage.simple(Kind::Preallocate, &self.name(), || self.inner.preallocate(length))
    }

    fn fill(&self, length: u64) -> Result<(), IoError> {
        self.storage.simple(Kind::Fill, &self.name(), || self.inner.fill(length))
    }

    fn block_bytes(&self) -> u64 {
        self.inner.block_bytes()
    }
}

#[derive(Debug)]
struct FaultySource {
    storage: FaultyStorage,
    name: String,
    inner: Arc<dyn Source>,
}

impl Source for FaultySource {
    fn length(&self) -> Result<u64, IoError> {
        self.storage.simple(Kind::Length, &self.name, || self.inner.length())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.storage.simple(Kind::Read, &self.name, || self.inner.read_at(offset, buffer))
    }
}

#[derive(Debug)]
struct FaultyLock {
    storage: FaultyStorage,
    name: String,
    _inner: Box<dyn Lock>,
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let _ = self.storage.simple(Kind::Unlock, &self.name, || Ok(()));
    }
}

/// Holds one operation. Dropping it opens it, so that a test that fails does not hang.
#[derive(Debug)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    inner: Mutex<GateInner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateInner {
    reached: bool,
    open: bool,
    errno: Option<i32>,
}

impl Gate {
    /// Waits until the operation stands at the gate.
    pub fn reached(&self) {
        let inner = self.0.lock();
        let waited = self.0.changed.wait_timeout_while(inner, PATIENCE, |inner| !inner.reached);
        let late = waited.unwrap_or_else(PoisonError::into_inner).1.timed_out();
        assert!(!late, "nobody came to the gate");
    }

    /// Lets the operation through.
    pub fn open(self) {}

    /// Lets the operation fail.
    pub fn open_to_fail(self, errno: i32) {
        self.0.lock().errno = Some(errno);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.lock().open = true;
        self.0.changed.notify_all();
    }
}

impl GateState {
    fn lock(&self) -> MutexGuard<'_, GateInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is open; the error number with which the operation is to fail.
    fn pass(&self) -> Option<i32> {
        let mut inner = self.lock();
        inner.reached = true;
        self.changed.notify_all();
        let (inner, late) = self
            .changed
            .wait_timeout_while(inner, PATIENCE, |inner| !inner.open)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!late.timed_out(), "nobody opened the gate");
        inner.errno
    }
}
