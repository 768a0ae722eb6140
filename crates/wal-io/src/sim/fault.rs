//! Faults on request, and the words that ask for them.

use std::fmt;
use std::str::FromStr;

use rustix::io::Errno;

use super::trace::{Failure, Kind};

/// An operation that shall fail.
///
/// ```text
/// fail OPERATION [#N | #N+] [of GLOB] with ERROR [after K bytes]
/// ```
/// - OPERATION: `create`, `open`, `stat`, `read`, `write`, `sync` (either of the next two), `syncdata`, `syncall`,
///   `syncdir`, `syncparents`, `unlink`, `rename`, `preallocate`, `list`, `lock`.
/// - `#3` is the third matching operation from now on, `#3+` the third and every later one; without it, every one.
/// - GLOB is a file name in which `*` stands for anything; a rename matches by either name.
/// - ERROR: `EIO`, `ENOSPC`, `EDQUOT`, `EACCES`, `EROFS`, `EMFILE`, `ENOMEM`, `EFBIG`.
/// - `after 100 bytes`, for a write: the first 100 bytes are written before it fails.
///
/// ```
/// use wal_io::sim::Fault;
/// let fault: Fault = "fail sync #3 of *.wal with EIO".parse()?;
/// assert_eq!(fault.to_string(), "fail sync #3 of *.wal with EIO");
/// assert!(Fault::parse("fail sink with EIO").is_err());
/// # Ok::<(), wal_io::sim::FaultError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    target: Target,
    turn: Turn,
    glob: Option<String>,
    error: (&'static str, Errno),
    after: Option<u64>,
}

/// What was wrong with the words of a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultError {
    /// The first word is not `fail`.
    NotFail(String),
    /// There is no such operation.
    UnknownOperation(String),
    /// What follows `#` is not a number from 1 on, with or without `+`.
    BadTurn(String),
    /// There is no such error.
    UnknownError(String),
    /// `after` wants a number and `bytes`.
    BadByteCount(String),
    /// Only a write can stop after some bytes.
    NotAWrite(String),
    /// This operation is not about a file.
    NoFile(String),
    /// Something is missing: what.
    Missing(&'static str),
    /// A word that has no place here, or not twice.
    Unexpected(String),
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFail(word) => write!(f, "a fault starts with `fail`, not with `{word}`"),
            Self::UnknownOperation(word) => write!(f, "there is no operation `{word}`"),
            Self::BadTurn(word) => write!(f, "`{word}` is not `#N` or `#N+` with N from 1 on"),
            Self::UnknownError(word) => write!(f, "there is no error `{word}`"),
            Self::BadByteCount(word) => write!(f, "`after` wants `K bytes`, not `{word}`"),
            Self::NotAWrite(word) => write!(f, "only a write can fail after some bytes, not `{word}`"),
            Self::NoFile(word) => write!(f, "`{word}` is not about a file, so `of` has no meaning"),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::Unexpected(word) => write!(f, "`{word}` has no place here"),
        }
    }
}

impl std::error::Error for FaultError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Sync,
    One(Kind),
}

impl Target {
    fn word(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::One(kind) => kind.word(),
        }
    }

    fn matches(self, kind: Kind) -> bool {
        match self {
            Self::Sync => matches!(kind, Kind::SyncData | Kind::SyncAll),
            Self::One(one) => one == kind,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Every,
    Only(u64),
    From(u64),
}

const ERRORS: [(&str, Errno); 8] = [
    ("EIO", Errno::IO),
    ("ENOSPC", Errno::NOSPC),
    ("EDQUOT", Errno::DQUOT),
    ("EACCES", Errno::ACCESS),
    ("EROFS", Errno::ROFS),
    ("EMFILE", Errno::MFILE),
    ("ENOMEM", Errno::NOMEM),
    ("EFBIG", Errno::FBIG),
];

impl Fault {
    /// Reads a fault from words.
    ///
    /// # Errors
    /// The words are not a fault; the error says which word and why.
    pub fn parse(words: &str) -> Result<Self, FaultError> {
        let mut words = words.split_whitespace().peekable();
        match words.next() {
            Some("fail") => {}
            Some(word) => return Err(FaultError::NotFail(word.to_owned())),
            None => return Err(FaultError::Missing("`fail`")),
        }
        let word = words.next().ok_or(FaultError::Missing("the operation"))?;
        let target = match word {
            "sync" => Target::Sync,
            _ => Target::One(Kind::named(word).ok_or_else(|| FaultError::UnknownOperation(word.to_owned()))?),
        };
        let turn = match words.next_if(|word| word.starts_with('#')) {
            Some(word) => Turn::parse(word)?,
            None => Turn::Every,
        };
        let (mut glob, mut error, mut after) = (None, None, None);
        while let Some(clause) = words.next() {
            match clause {
                "of" if glob.is_none() => {
                    if matches!(target, Target::One(kind) if kind.nameless()) {
                        return Err(FaultError::NoFile(word.to_owned()));
                    }
                    let name = words.next().ok_or(FaultError::Missing("the file name after `of`"))?;
                    glob = Some(name.to_owned());
                }
                "with" if error.is_none() => {
                    let name = words.next().ok_or(FaultError::Missing("the error after `with`"))?;
                    let known = ERRORS.into_iter().find(|(word, _)| *word == name);
                    error = Some(known.ok_or_else(|| FaultError::UnknownError(name.to_owned()))?);
                }
                "after" if after.is_none() => {
                    if target != Target::One(Kind::Write) {
                        return Err(FaultError::NotAWrite(word.to_owned()));
                    }
                    let digits = words.next().ok_or(FaultError::Missing("the number after `after`"))?;
                    let bytes = number(digits).ok_or_else(|| FaultError::BadByteCount(digits.to_owned()))?;
                    match words.next() {
                        Some("bytes" | "byte") => after = Some(bytes),
                        Some(other) => return Err(FaultError::BadByteCount(format!("{digits} {other}"))),
                        None => return Err(FaultError::Missing("`bytes`")),
                    }
                }
                other => return Err(FaultError::Unexpected(other.to_owned())),
            }
        }
        let error = error.ok_or(FaultError::Missing("`with` and an error"))?;
        Ok(Self { target, turn, glob, error, after })
    }

    fn matches(&self, kind: Kind, names: &[&str]) -> bool {
        self.target.matches(kind)
            && self.glob.as_ref().is_none_or(|glob| names.iter().any(|name| matches(glob, name)))
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(words: &str) -> Result<Self, FaultError> {
        Self::parse(words)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fail {}", self.target.word())?;
        match self.turn {
            Turn::Every => {}
            Turn::Only(turn) => write!(f, " #{turn}")?,
            Turn::From(turn) => write!(f, " #{turn}+")?,
        }
        if let Some(glob) = &self.glob {
            write!(f, " of {glob}")?;
        }
        write!(f, " with {}", self.error.0)?;
        if let Some(after) = self.after {
            write!(f, " after {after} bytes")?;
        }
        Ok(())
    }
}

impl Turn {
    fn parse(word: &str) -> Result<Self, FaultError> {
        let bad = || FaultError::BadTurn(word.to_owned());
        let rest = word.strip_prefix('#').ok_or_else(bad)?;
        let (digits, turn): (&str, fn(u64) -> Self) = match rest.strip_suffix('+') {
            Some(digits) => (digits, Self::From),
            None => (rest, Self::Only),
        };
        number(digits).filter(|number| *number > 0).map(turn).ok_or_else(bad)
    }
}

/// Digits and nothing else.
fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `*` stands for any bytes, also none.
fn matches(glob: &str, name: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*') else { return name.ends_with(rest) };
    for part in middle.split('*') {
        let Some((_, after)) = name.split_once(part) else { return false };
        name = after;
    }
    name.ends_with(last)
}

/// The faults that were asked for, each with how often it matched.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Fault, u64)>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push((fault, 0));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// This operation's turn to fail? With how many bytes written before, if it is a write.
    pub(super) fn strike(&mut self, kind: Kind, names: &[&str]) -> Option<(Failure, u64)> {
        let mut hit = None;
        for (fault, seen) in self.0.iter_mut().filter(|(fault, _)| fault.matches(kind, names)) {
            *seen = seen.saturating_add(1);
            let due = match fault.turn {
                Turn::Every => true,
                Turn::Only(turn) => *seen == turn,
                Turn::From(turn) => *seen >= turn,
            };
            if due && hit.is_none() {
                hit = Some((Failure::new(fault.error.0, fault.error.1), fault.after.unwrap_or(0)));
            }
        }
        hit
    }
}
