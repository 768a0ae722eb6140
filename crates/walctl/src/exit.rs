//! How a verb ends: the failures, and the exit codes that scripts rely on.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use toy_memtable::EngineError;
use wal_manager::{Error, ErrorKind};

/// The exit codes of `walctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is fine; a torn tail is fine.
    Fine,
    /// Damage was found, also missing or foreign files; or a drill lost something.
    Damage,
    /// Usage, or input that was refused.
    Refused,
    /// Input or output failed, or a directory is missing.
    Io,
    /// Another process owns the log.
    Locked,
    /// Written by a newer version.
    NewerFormat,
    /// Ctrl-C, or SIGTERM.
    Interrupted,
}

/// Why a verb could not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The log says so.
    Wal(Error),
    /// The toy engine of the drill says so.
    Engine(EngineError),
    /// The user asked for something that cannot be.
    Refused(String),
    /// The system failed outside the log.
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Whoever read standard output has gone away. Not an error: `walctl dump DIR | head` ends like this.
    BrokenPipe,
    /// Ctrl-C, or SIGTERM.
    Interrupted,
    /// Everything has been said already; only the code is left.
    Silent(Exit),
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Damage => 1,
            Self::Refused => 2,
            Self::Io => 3,
            Self::Locked => 4,
            Self::NewerFormat => 5,
            // What a shell says of a process that SIGINT ended.
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Failure {
    /// An input or output error outside the log.
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }

    /// An input or output error on a file outside the log.
    pub fn file(doing: &str, path: &Path, source: io::Error) -> Self {
        Self::io(format!("{doing} {}", path.display()), source)
    }

    /// The exit code for this failure.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Wal(error) => of_wal(error),
            Self::Engine(error) => of_engine(error),
            Self::Refused(_) => Exit::Refused,
            // As whoever polls for Ctrl-C says it.
            Self::Io { source, .. } if source.kind() == io::ErrorKind::Interrupted => Exit::Interrupted,
            Self::Io { .. } => Exit::Io,
            Self::BrokenPipe => Exit::Fine,
            Self::Interrupted => Exit::Interrupted,
            Self::Silent(exit) => *exit,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Wal(error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
            Self::Refused(why) => f.write_str(why),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::BrokenPipe => f.write_str("the reader of standard output has gone away"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Silent(_) => Ok(()),
        }
    }
}

/// The exit code for what the log says. Whoever stopped after a failure ends with the code of that failure.
fn of_wal(error: &Error) -> Exit {
    match error {
        Error::Poisoned { cause } => of_wal(cause),
        error => match error.kind() {
            ErrorKind::Damage => Exit::Damage,
            ErrorKind::Locked => Exit::Locked,
            ErrorKind::NewerFormat => Exit::NewerFormat,
            ErrorKind::Invalid => Exit::Refused,
            _ => Exit::Io,
        },
    }
}

/// The exit code for what the engine says.
fn of_engine(error: &EngineError) -> Exit {
    match error {
        EngineError::Wal(error) => of_wal(error),
        EngineError::FlushFailed { cause } => of_engine(cause),
        EngineError::Io(_) | EngineError::Closed => Exit::Io,
        EngineError::InvalidOption { .. } | EngineError::TooLong { .. } => Exit::Refused,
        // Tables, manifest, and a log that do not fit together.
        _ => Exit::Damage,
    }
}
