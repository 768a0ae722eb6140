//! The system calls of a program, as strace shows them: which it makes, how each can fail, and which failures may go unnoticed.

use std::collections::BTreeMap;
use std::path::Path;

/// Errors by name, with Linux's numbers, which are the same on every machine for these.
pub const ERRORS: [(&str, i32); 17] = [
    ("EINTR", 4),
    ("EIO", 5),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EINVAL", 22),
    ("ENFILE", 23),
    ("EMFILE", 24),
    ("EFBIG", 27),
    ("ENOSPC", 28),
    ("EROFS", 30),
    ("EPIPE", 32),
    ("ENOLCK", 37),
    ("ENOSYS", 38),
    ("ELOOP", 40),
    ("EOPNOTSUPP", 95),
    ("EDQUOT", 122),
];

/// The errors that the kernel could give for a call; none for calls that cannot fail, or whose failure is the C library's own affair.
pub fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" => {
            &["EINTR", "EIO", "ENOMEM", "EACCES", "ENFILE", "EMFILE", "ENOSPC", "EROFS", "EDQUOT", "ELOOP"]
        }
        "stat" | "statx" | "fstat" | "newfstatat" => &["EINTR", "EIO", "ENOMEM", "EACCES"],
        "getdents64" => &["EINTR", "EIO", "ENOMEM"],
        "read" => &["EINTR", "EIO", "EAGAIN"],
        "pread64" => &["EINTR", "EIO", "ENOMEM"],
        "write" => &["EINTR", "EIO", "EAGAIN", "ENOSPC", "EPIPE"],
        "pwrite64" => &["EINTR", "EIO", "ENOMEM", "EFBIG", "ENOSPC", "EROFS", "EDQUOT"],
        "fsync" | "fdatasync" => {
            &["EINTR", "EIO", "EINVAL", "ENOSPC", "EROFS", "ENOSYS", "EOPNOTSUPP", "EDQUOT"]
        }
        "flock" => &["EINTR", "EAGAIN", "ENOLCK", "ENOSYS", "EOPNOTSUPP", "EIO"],
        "fcntl" => &["EINTR", "EIO"],
        "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" => {
            &["EINTR", "EIO", "ENOMEM", "EACCES", "ENOSPC", "EROFS", "EDQUOT"]
        }
        "fallocate" => &["EINTR", "EIO", "EFBIG", "ENOSPC", "EOPNOTSUPP"],
        "close" => &["EINTR", "EIO", "ENOSPC", "EDQUOT"],
        "getrandom" => &["EINTR", "ENOSYS"],
        "mmap" => &["ENOMEM", "EAGAIN"],
        // brk has no errors: it answers with the old end.
        "mprotect" => &["ENOMEM"],
        "madvise" => &["EINVAL", "ENOMEM"],
        "clone" | "clone3" => &["EAGAIN", "ENOMEM"],
        _ => &[],
    }
}

/// Calls whose failure may never go unnoticed.
pub fn must_fail(call: &str, error: &str) -> bool {
    match call {
        "pwrite64" | "pread64" | "fdatasync" | "getdents64" | "clone" | "clone3" | "fstat" | "flock"
        | "mkdir" | "rename" | "renameat" | "read" => true,
        // Directories above ours that cannot be synced are passed over where the file system has no such thing.
        "fsync" => !["EINVAL", "EROFS"].contains(&error),
        // A directory above ours may be closed to us. Everything else that is opened is needed.
        "open" | "openat" => error != "EACCES",
        // Who read our output has gone away: that is no failure.
        "write" => error != "EPIPE",
        _ => false,
    }
}

/// One system call of one thread.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// Whether it belongs to the program: not to its loading, nor to Rust's runtime.
    pub own: bool,
    /// Whether the main thread makes it.
    pub main: bool,
    /// The call's name.
    pub name: String,
    /// From 1, among this thread's calls of this name.
    pub nth: usize,
    /// Whether its failure may go unnoticed, though most of its name may not.
    pub spared: bool,
}

/// Which failures go unnoticed, and why that is right.
#[derive(Default)]
struct Spared {
    locked: bool,
    looks: usize,
    newest: Option<String>,
    synced: bool,
    names_are_new: bool,
}

impl Spared {
    /// Takes note of the next call of any thread, which names files beside their descriptors; says whether its failure may go unnoticed.
    fn next(&mut self, call: &str, dir: &Path) -> bool {
        let dir = dir.to_str().unwrap();
        let (name, rest) = call.split_once('(').unwrap();
        let file =
            |rest: &str| Some(rest.split_once('<')?.1.split_once('>')?.0.rsplit_once('/')?.1.to_owned());
        match name {
            "openat" if rest.contains("O_CREAT") => {
                let opened = rest.split('"').nth(1).unwrap().to_owned();
                if opened == "LOCK" {
                    self.locked = true;
                } else {
                    self.names_are_new = true;
                    self.newest = opened.ends_with(".wal").then_some(opened).or(self.newest.take());
                }
                false
            }
            // RD1: a reader without the lock looks at CHECKPOINT until it has seen it twice alike.
            "openat" if rest.contains("\"CHECKPOINT\"") && !self.locked => {
                self.looks += 1;
                self.looks == 1
            }
            "fstat" | "pread64" => {
                self.looks == 1 && !self.locked && file(rest).is_some_and(|name| name == "CHECKPOINT")
            }
            // PR6: the seal of a log that has a successor.
            "pwrite64" | "fdatasync" => {
                let file = file(rest).filter(|name| name.ends_with(".wal"));
                self.newest.is_some() && file.is_some() && file != self.newest
            }
            // Closing the file unlocks it, too.
            "flock" => rest.contains("LOCK_UN"),
            "mkdir" | "renameat" | "rename" => {
                self.names_are_new = true;
                false
            }
            // G5: that names have gone is synced at the next occasion.
            "fsync" if rest.contains(&format!("<{dir}>")) => {
                let spared = self.synced && !self.names_are_new;
                (self.synced, self.names_are_new) = (true, false);
                spared
            }
            _ => false,
        }
    }
}

/// The calls of every thread in a whole trace (`strace -f -y`) of a run on this directory.
pub fn calls(trace: &str, dir: &Path) -> Vec<Call> {
    let mut spared = Spared::default();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut own: BTreeMap<&str, bool> = BTreeMap::new();
    let mut calls = Vec::new();
    let mut main = None;
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let main = *main.get_or_insert(thread) == thread;
        let call = call.trim_start();
        let Some((name, _)) = call.split_once('(').filter(|_| !call.starts_with(['<', '+', '-'])) else {
            continue;
        };
        let nth = counts.entry((thread, name)).or_default();
        *nth += 1;
        if own.get(thread) == Some(&true) && call.starts_with("sigaltstack({ss_sp=NULL") {
            own.insert(thread, main);
        }
        let is_own = own.get(thread) == Some(&true);
        let spared = is_own && spared.next(call, dir);
        calls.push(Call { own: is_own, main, name: name.to_owned(), nth: *nth, spared });
        let begins = if main { "rt_sigaction(SIGBUS, {" } else { "sigaltstack({" };
        if call.starts_with(begins) && !own.contains_key(thread) {
            own.insert(thread, true);
        }
    }
    assert!(calls.iter().any(|call| call.own), "no call of its own: {trace}");
    calls
}
