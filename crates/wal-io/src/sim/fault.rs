//! Faults on request: whom they strike and when.

use rustix::io::Errno;

use super::rng::Rng;
use super::trace::{Failure, Kind};

/// Something that shall go wrong.
///
/// ```text
/// fail OPERATION [WHEN] [of GLOB] with ERROR [after K bytes]
/// lose OPERATION [WHEN] [of GLOB]
/// misdirect write [WHEN] [of GLOB] to [FILE] OFFSET
/// short write [WHEN] [of GLOB] [after K bytes]
/// interrupt OPERATION [WHEN] [of GLOB]
/// slow OPERATION [WHEN] [of GLOB]
/// flip bit N of GLOB
/// flip bit seed S of GLOB
/// ```
/// - OPERATION: `create`, `open`, `stat`, `read`, `write`, `sync` (either of the next two), `syncdata`, `syncall`,
///   `syncdir`, `syncparents`, `unlink`, `rename`, `preallocate`, `fill`, `list`, `lock`, or `any` of them.
/// - WHEN: `#3` is the third matching operation from now on, `#3+` the third and every later one, `1 in 10 seed 7` one of
///   ten by chance; without it, every one. An interrupted operation that is tried again, and the rest of a short write,
///   count again.
/// - GLOB is a file name in which `*` stands for anything; a rename matches by either name, and the directory has no name.
/// - ERROR: `EIO`, `ENOSPC`, `EDQUOT`, `EACCES`, `EPERM`, `EROFS`, `EMFILE`, `ENFILE`, `ENOMEM`, `EFBIG`, `EOPNOTSUPP`,
///   `EAGAIN`, `EINTR` (as from a backend that breaks its contract and does not try again).
///
/// What they do:
/// - `fail` fails the operation, without effect, except that a failed sync drops what was pending (see
///   [the module](super)), and that with `after 100 bytes` the first 100 bytes of a write are written before it fails.
/// - `lose` is a disk that lies: the operation succeeds, and of a write no byte will ever be durable, synced or not, though
///   readers see it until the power goes; a sync makes nothing durable, and what was pending stays so. OPERATION is `write`
///   or a sync.
/// - `misdirect` is a disk that misses: the bytes become durable elsewhere, at OFFSET of the same file together with the
///   rest of that file, or at once in another FILE as far as that is long; where they belong they never arrive. Readers see
///   nothing of it until the power goes.
/// - `short`: only K bytes are written at first, half of them by default, and the rest with a second write; past the cache these are whole
///   sectors. No error.
/// - `interrupt`: EINTR, and the operation is tried again, as the traits demand, once. No error.
/// - `slow` calls the hook of [`SimStorage::when_slow`](super::SimStorage::when_slow) before the operation. No time passes.
/// - `flip` flips one bit of each matching file as soon as the fault is added, on the disk and for readers: bit N, counted
///   from the least significant bit of the first byte, or one by chance.
///
/// Of several `fail`, `lose`, `misdirect` and `short` that are due, the first one added strikes, and `interrupt` does not.
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
    pub(super) action: Action,
    pub(super) target: Target,
    pub(super) turn: Turn,
    pub(super) glob: Option<String>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Fail { error: (&'static str, Errno), after: Option<u64> },
    Lose,
    Misdirect { file: Option<String>, offset: u64 },
    Short { after: Option<u64> },
    Interrupt,
    Slow,
    Flip(Bit),
}

/// Which bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bit {
    At(u64),
    Seed(u64),
}

/// To which operations it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Any,
    Sync,
    One(Kind),
}

impl Target {
    fn matches(self, kind: Kind) -> bool {
        match self {
            Self::Any => true,
            Self::Sync => matches!(kind, Kind::SyncData | Kind::SyncAll),
            Self::One(one) => one == kind,
        }
    }
}

/// To which of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Every,
    Only(u64),
    From(u64),
    OneIn { many: u64, seed: u64 },
}

/// The errors that can be asked for.
pub(super) const ERRORS: [(&str, Errno); 13] = [
    ("EIO", Errno::IO),
    ("ENOSPC", Errno::NOSPC),
    ("EDQUOT", Errno::DQUOT),
    ("EACCES", Errno::ACCESS),
    ("EPERM", Errno::PERM),
    ("EROFS", Errno::ROFS),
    ("EMFILE", Errno::MFILE),
    ("ENFILE", Errno::NFILE),
    ("ENOMEM", Errno::NOMEM),
    ("EFBIG", Errno::FBIG),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EAGAIN", Errno::AGAIN),
    ("EINTR", Errno::INTR),
];

impl Fault {
    /// A `fail` of one operation out of the first eight, as the seed chooses: which, when, and with what error.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Lock).map(Target::One);
        let targets: Vec<Target> = [Target::Any, Target::Sync].into_iter().chain(kinds).collect();
        let target = rng.pick(&targets).unwrap_or(Target::Any);
        // A backend that keeps its contract never hands out the last one.
        let (_, errors) = ERRORS.split_last().unwrap_or((&ERRORS[0], &[]));
        let error = rng.pick(errors).unwrap_or(ERRORS[0]);
        let turn = Turn::Only(1 + rng.next() % 8);
        let after =
            rng.chance(1, 2).then(|| rng.next() % 1024).filter(|_| target == Target::One(Kind::Write));
        Self { action: Action::Fail { error, after }, target, turn, glob: None }
    }

    fn matches(&self, kind: Kind, names: &[&str]) -> bool {
        !matches!(self.action, Action::Flip(_)) && self.target.matches(kind) && self.matches_one(names)
    }

    fn matches_one(&self, names: &[&str]) -> bool {
        self.glob.as_ref().is_none_or(|glob| names.iter().any(|name| matches(glob, name)))
    }

    /// The bit to flip in a file of that name.
    pub(super) fn flips(&self, name: &str) -> Option<Bit> {
        match self.action {
            Action::Flip(bit) if self.matches_one(&[name]) => Some(bit),
            _ => None,
        }
    }
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

/// What goes wrong with one operation.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) interrupted: bool,
    pub(super) slow: bool,
    pub(super) harm: Option<Harm>,
}

/// What an operation does instead of what it should.
#[derive(Debug)]
pub(super) enum Harm {
    /// It fails; a write after so many bytes.
    Fail(Failure, u64),
    /// It has no effect on the disk.
    Lose,
    /// The bytes go elsewhere.
    Misdirect { file: Option<String>, offset: u64 },
    /// It writes so many bytes, or half of them.
    Short(Option<u64>),
}

impl Fault {
    fn harm(&self) -> Option<Harm> {
        match &self.action {
            Action::Fail { error: (word, number), after } => {
                Some(Harm::Fail(Failure::new(word, *number), after.unwrap_or(0)))
            }
            Action::Lose => Some(Harm::Lose),
            Action::Misdirect { file, offset } => {
                Some(Harm::Misdirect { file: file.clone(), offset: *offset })
            }
            Action::Short { after } => Some(Harm::Short(*after)),
            Action::Interrupt | Action::Slow | Action::Flip(_) => None,
        }
    }
}

/// The faults that were asked for.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    /// How often it matched.
    seen: u64,
    rng: Rng,
}

impl Waiting {
    /// One more operation matches: is it its turn?
    fn due(&mut self) -> bool {
        self.seen = self.seen.saturating_add(1);
        match self.fault.turn {
            Turn::Every => true,
            Turn::Only(turn) => self.seen == turn,
            Turn::From(turn) => self.seen >= turn,
            Turn::OneIn { many, .. } => self.rng.chance(1, many),
        }
    }
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        let seed = if let Turn::OneIn { seed, .. } = fault.turn { seed } else { 0 };
        self.0.push(Waiting { fault, seen: 0, rng: Rng::new(seed) });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What goes wrong with this operation.
    pub(super) fn strike(&mut self, kind: Kind, names: &[&str]) -> Due {
        let mut all = Due::default();
        for waiting in self.0.iter_mut().filter(|waiting| waiting.fault.matches(kind, names)) {
            if waiting.due() {
                all.interrupted |= waiting.fault.action == Action::Interrupt;
                all.slow |= waiting.fault.action == Action::Slow;
                all.harm = all.harm.or_else(|| waiting.fault.harm());
            }
        }
        all
    }
}
