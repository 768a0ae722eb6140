//! The words that ask for faults.

use std::fmt;
use std::iter::Peekable;
use std::str::{FromStr, SplitWhitespace};

use super::fault::{Action, Bit, ERRORS, Fault, Target, Turn};
use super::trace::Kind;

/// What was wrong with the words of a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultError {
    /// The first word is none of those that a fault starts with.
    UnknownAction(String),
    /// There is no such operation.
    UnknownOperation(String),
    /// What follows `#` is not a number from 1 on, with or without `+`.
    BadTurn(String),
    /// There is no such error.
    UnknownError(String),
    /// `after` wants a number and `bytes`.
    BadByteCount(String),
    /// This is not a number.
    BadNumber(String),
    /// This can happen to a write only.
    NotAWrite(String),
    /// Only a write or a sync can be lost.
    NotLosable(String),
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
            Self::UnknownAction(word) => write!(f, "no fault starts with `{word}`"),
            Self::UnknownOperation(word) => write!(f, "there is no operation `{word}`"),
            Self::BadTurn(word) => write!(f, "`{word}` is not `#N` or `#N+` with N from 1 on"),
            Self::UnknownError(word) => write!(f, "there is no error `{word}`"),
            Self::BadByteCount(word) => write!(f, "`after` wants `K bytes`, not `{word}`"),
            Self::BadNumber(word) => write!(f, "`{word}` is not a number that can stand here"),
            Self::NotAWrite(word) => write!(f, "this can happen to a write only, not to `{word}`"),
            Self::NotLosable(word) => write!(f, "only a write or a sync can be lost, not `{word}`"),
            Self::NoFile(word) => write!(f, "`{word}` is not about a file, so `of` has no meaning"),
            Self::Missing(what) => write!(f, "{what} is missing"),
            Self::Unexpected(word) => write!(f, "`{word}` has no place here"),
        }
    }
}

impl std::error::Error for FaultError {}

impl Fault {
    /// Reads a fault from words.
    ///
    /// # Errors
    /// The words are not a fault; the error says which word and why.
    pub fn parse(words: &str) -> Result<Self, FaultError> {
        let mut words = Words(words.split_whitespace().peekable());
        let action = words.next("the fault")?;
        if action == "flip" {
            return words.flip();
        }
        if !["fail", "lose", "misdirect", "short", "interrupt", "slow"].contains(&action) {
            return Err(FaultError::UnknownAction(action.to_owned()));
        }
        let word = words.next("the operation")?;
        let target = Target::named(word).ok_or_else(|| FaultError::UnknownOperation(word.to_owned()))?;
        let write = target == Target::One(Kind::Write);
        if !write && ["misdirect", "short"].contains(&action) {
            return Err(FaultError::NotAWrite(word.to_owned()));
        }
        let turn = words.turn()?;
        let (mut glob, mut error, mut after, mut to) = (None, None, None, None);
        while let Some(clause) = words.0.next() {
            match clause {
                "of" if glob.is_none() => {
                    if matches!(target, Target::One(kind) if kind.nameless()) {
                        return Err(FaultError::NoFile(word.to_owned()));
                    }
                    glob = Some(words.next("the file name after `of`")?.to_owned());
                }
                "with" if error.is_none() && action == "fail" => {
                    let name = words.next("the error after `with`")?;
                    let known = ERRORS.into_iter().find(|(word, _)| *word == name);
                    error = Some(known.ok_or_else(|| FaultError::UnknownError(name.to_owned()))?);
                }
                "after" if after.is_none() && ["fail", "short"].contains(&action) => {
                    if !write {
                        return Err(FaultError::NotAWrite(word.to_owned()));
                    }
                    after = Some(words.bytes()?);
                }
                "to" if to.is_none() && action == "misdirect" => to = Some(words.place()?),
                other => return Err(FaultError::Unexpected(other.to_owned())),
            }
        }
        let action = match action {
            "fail" => Action::Fail { error: error.ok_or(FaultError::Missing("`with` and an error"))?, after },
            "lose" if !target.losable() => return Err(FaultError::NotLosable(word.to_owned())),
            "lose" => Action::Lose,
            "misdirect" => {
                let (file, offset) = to.ok_or(FaultError::Missing("`to` and an offset"))?;
                Action::Misdirect { file, offset }
            }
            "short" => Action::Short { after },
            "interrupt" => Action::Interrupt,
            _ => Action::Slow,
        };
        Ok(Self { action, target, turn, glob })
    }
}

struct Words<'a>(Peekable<SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn next(&mut self, what: &'static str) -> Result<&'a str, FaultError> {
        self.0.next().ok_or(FaultError::Missing(what))
    }

    /// This word and no other.
    fn exactly(&mut self, word: &str, what: &'static str) -> Result<(), FaultError> {
        let found = self.next(what)?;
        if found == word { Ok(()) } else { Err(FaultError::Unexpected(found.to_owned())) }
    }

    fn number(&mut self, what: &'static str) -> Result<u64, FaultError> {
        let word = self.next(what)?;
        number(word).ok_or_else(|| FaultError::BadNumber(word.to_owned()))
    }

    /// What follows `flip`.
    fn flip(&mut self) -> Result<Fault, FaultError> {
        self.exactly("bit", "`bit`")?;
        let bit = if self.0.next_if(|word| *word == "seed").is_some() {
            Bit::Seed(self.number("the number after `seed`")?)
        } else {
            Bit::At(self.number("the number after `bit`")?)
        };
        self.exactly("of", "`of`")?;
        let glob = Some(self.next("the file name after `of`")?.to_owned());
        if let Some(word) = self.0.next() {
            return Err(FaultError::Unexpected(word.to_owned()));
        }
        Ok(Fault { action: Action::Flip(bit), target: Target::Any, turn: Turn::Every, glob })
    }

    fn turn(&mut self) -> Result<Turn, FaultError> {
        if let Some(word) = self.0.next_if(|word| word.starts_with('#')) {
            return Turn::parse(word);
        }
        if self.0.next_if(|word| *word == "1").is_none() {
            return Ok(Turn::Every);
        }
        self.exactly("in", "`in`")?;
        let many = self.next("the number after `in`")?;
        let many =
            number(many).filter(|many| *many > 0).ok_or_else(|| FaultError::BadNumber(many.to_owned()))?;
        self.exactly("seed", "`seed`")?;
        Ok(Turn::OneIn { many, seed: self.number("the number after `seed`")? })
    }

    /// What follows `after`.
    fn bytes(&mut self) -> Result<u64, FaultError> {
        let digits = self.next("the number after `after`")?;
        let bytes = number(digits).ok_or_else(|| FaultError::BadByteCount(digits.to_owned()))?;
        match self.next("`bytes`")? {
            "bytes" | "byte" => Ok(bytes),
            other => Err(FaultError::BadByteCount(format!("{digits} {other}"))),
        }
    }

    /// What follows `to`: a file and an offset, or an offset alone.
    fn place(&mut self) -> Result<(Option<String>, u64), FaultError> {
        let first = self.next("the offset after `to`")?;
        if let Some(offset) = self.0.next_if(|word| number(word).is_some()) {
            return Ok((Some(first.to_owned()), number(offset).unwrap_or_default()));
        }
        let offset = number(first).ok_or_else(|| FaultError::BadNumber(first.to_owned()))?;
        Ok((None, offset))
    }
}

impl Target {
    fn named(word: &str) -> Option<Self> {
        match word {
            "any" => Some(Self::Any),
            "sync" => Some(Self::Sync),
            _ => Kind::named(word).map(Self::One),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Sync => "sync",
            Self::One(kind) => kind.word(),
        }
    }

    fn losable(self) -> bool {
        use Kind::{SyncAll, SyncData, SyncDir, SyncParents, Write};
        match self {
            Self::Any => false,
            Self::Sync => true,
            Self::One(kind) => matches!(kind, Write | SyncData | SyncAll | SyncDir | SyncParents),
        }
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
        f.write_str(match &self.action {
            Action::Fail { .. } => "fail",
            Action::Lose => "lose",
            Action::Misdirect { .. } => "misdirect",
            Action::Short { .. } => "short",
            Action::Interrupt => "interrupt",
            Action::Slow => "slow",
            Action::Flip(_) => "flip",
        })?;
        match self.action {
            Action::Flip(Bit::At(bit)) => write!(f, " bit {bit}")?,
            Action::Flip(Bit::Seed(seed)) => write!(f, " bit seed {seed}")?,
            _ => write!(f, " {}{}", self.target.word(), self.turn)?,
        }
        if let Some(glob) = &self.glob {
            write!(f, " of {glob}")?;
        }
        match &self.action {
            Action::Fail { error: (word, _), .. } => write!(f, " with {word}")?,
            Action::Misdirect { file: Some(file), offset } => write!(f, " to {file} {offset}")?,
            Action::Misdirect { file: None, offset } => write!(f, " to {offset}")?,
            _ => {}
        }
        match self.action {
            Action::Fail { after: Some(after), .. } | Action::Short { after: Some(after) } => {
                write!(f, " after {after} bytes")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => Ok(()),
            Self::Only(turn) => write!(f, " #{turn}"),
            Self::From(turn) => write!(f, " #{turn}+"),
            Self::OneIn { many, seed } => write!(f, " 1 in {many} seed {seed}"),
        }
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
