//! Options of a log, checked once when it is opened.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wal_format::WalId;
use wal_io::Storage;
use wal_io::fs::FsStorage;
use wal_io::probe::Way;

use crate::archive::ArchiveLimits;
use crate::background::Policies;
use crate::caps::{CAP_BYTES_MIN, CAP_LOGS_MIN, Limits};
use crate::clock::{Clock, SystemClock};
use crate::duplicates::{WINDOW_COUNT_MAX, Window};
use crate::error::{Error, Result};
use crate::follow::{DirectoryFollower, FollowFrom};
use crate::inspect::Inspection;
use crate::pressure::{OnPressure, Pressure};
use crate::record::Durability;
use crate::recovery::threads::Threads;
use crate::recovery::{Recovery, RecoveryMode};
use crate::watchdog::{OnStall, Stall};

/// Size at which a log is closed and the next begun, if the engine does not rotate before: 64 MiB, the memtable of most engines.
pub const LOG_BYTES_DEFAULT: u64 = 64 << 20;

/// Smallest [`Options::log_bytes`]: two blocks, so that a header, a record and a seal always fit.
pub const LOG_BYTES_MIN: u64 = 64 << 10;

/// Largest [`Options::log_bytes`]: 1 TiB, far from where offsets could overflow.
pub const LOG_BYTES_MAX: u64 = 1 << 40;

/// Deleted logs that are kept to become the next ones, where files are made ready before they are used: two, one for each rotation that may come
/// before the next deletion.
pub const RECYCLED_LOGS_DEFAULT: usize = 2;

/// How the files of new logs are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files {
    pub(crate) way: Way,
    /// At most so many deleted logs wait to be used again.
    pub(crate) recycle: usize,
}

/// Default of [`Options::sync_bytes`]: 8 MiB, a few milliseconds of a disk.
pub const SYNC_BYTES_DEFAULT: u64 = 8 << 20;

/// Smallest [`Options::sync_bytes`]: one group of the usual size.
pub const SYNC_BYTES_MIN: u64 = crate::commit::GROUP_BYTES as u64;

/// Largest [`Options::sync_bytes`]: 256 MiB, and so 1 GiB of memory for what is not durable yet.
pub const SYNC_BYTES_MAX: u64 = 256 << 20;

/// Default of [`Options::idle_promise`]: 1 s, long against a sync and short against the rot of a disk.
pub const IDLE_PROMISE_DEFAULT: Duration = Duration::from_secs(1);

/// Default of [`Options::keeper_warning`]: an hour, in which any engine flushes.
pub const KEEPER_WARNING_DEFAULT: Duration = Duration::from_secs(3600);

/// Shortest [`Options::sync_interval`] and [`Options::idle_promise`]: 1 ms, since the thread looks that often.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// How much of a recovery is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes there are to read.
    pub bytes_total: u64,
}

/// Called while a recovery reads.
pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// How to open a log. Begin with [`Wal::options`](crate::Wal::options), end with [`Options::recover`] or [`Options::inspect`].
#[derive(Clone)]
#[must_use = "options do nothing until `recover` or `inspect`"]
pub struct Options {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) log_bytes: u64,
    pub(crate) mode: RecoveryMode,
    pub(crate) durability: Durability,
    pub(crate) policies: Policies,
    pub(crate) config_fingerprint: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wal_id: Option<WalId>,
    pub(crate) on_progress: Option<OnProgress>,
    pub(crate) background: bool,
    pub(crate) threads: Threads,
    pub(crate) window: Option<Window>,
    /// `None`: measured when the log is opened.
    pub(crate) way: Option<Way>,
    recycle: Option<usize>,
    pub(crate) on_pressure: Option<OnPressure>,
    pub(crate) on_stall: Option<OnStall>,
    pub(crate) keeper_warning: Option<Duration>,
    cap_bytes: Option<u64>,
    cap_logs: Option<usize>,
    cap_wait: Duration,
    pub(crate) pad_groups: bool,
    archive: Option<(Place, ArchiveLimits)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Directory(PathBuf),
    Storage(Arc<dyn Storage>),
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("place", &self.place)
            .field("name", &self.name)
            .field("log_bytes", &self.log_bytes)
            .field("mode", &self.mode)
            .field("durability", &self.durability)
            .field("policies", &self.policies)
            .field("config_fingerprint", &self.config_fingerprint)
            .finish_non_exhaustive()
    }
}

impl Options {
    pub(crate) fn in_directory(path: PathBuf) -> Self {
        Self::at(Place::Directory(path))
    }

    pub(crate) fn on_storage(storage: Arc<dyn Storage>) -> Self {
        Self { background: false, way: Some(Way::Append), ..Self::at(Place::Storage(storage)) }
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            name: "default".to_owned(),
            log_bytes: LOG_BYTES_DEFAULT,
            mode: RecoveryMode::Default,
            durability: Durability::Synced,
            policies: Policies {
                interval: None,
                bytes: SYNC_BYTES_DEFAULT,
                idle: Some(IDLE_PROMISE_DEFAULT),
                times: false,
            },
            config_fingerprint: 0,
            clock: Arc::new(SystemClock::default()),
            wal_id: None,
            on_progress: None,
            background: true,
            threads: Threads::ONE,
            window: None,
            way: None,
            recycle: None,
            on_pressure: None,
            on_stall: None,
            keeper_warning: Some(KEEPER_WARNING_DEFAULT),
            cap_bytes: None,
            cap_logs: None,
            cap_wait: Duration::ZERO,
            pad_groups: false,
            archive: None,
        }
    }

    /// Value of the metrics' one label, `wal`, so that two logs in a process differ. Default `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Size in bytes at which a log is closed and the next begun: [`LOG_BYTES_MIN`] to [`LOG_BYTES_MAX`], default [`LOG_BYTES_DEFAULT`].
    /// A log exceeds it only for a single record that is longer, and for what a recovery had to write again.
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// What recovery does about a torn tail and about damage. Default [`RecoveryMode::Default`].
    pub fn mode(mut self, mode: RecoveryMode) -> Self {
        self.mode = mode;
        self
    }

    /// What [`Wal::append`](crate::Wal::append) waits for. Default [`Durability::Synced`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Makes everything durable that was accepted so long ago, with no further call: a thread of the log syncs at each tick at which
    /// something is not durable, so never later than `interval` after it was accepted, and the time of a sync. `None`, the default: nobody
    /// syncs but who asks, and [`Options::sync_bytes`].
    pub fn sync_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.policies.interval = interval.into();
        self
    }

    /// How many bytes may be written and not durable before a thread of the log syncs them, beside the appends: [`SYNC_BYTES_MIN`] to
    /// [`SYNC_BYTES_MAX`], default [`SYNC_BYTES_DEFAULT`]. At four times as many, appends wait. This bounds what a power cut takes of records
    /// appended below `Synced`, what no promise proves, and the memory in which they are kept for [`Wal::resume`](crate::Wal::resume).
    pub fn sync_bytes(mut self, bytes: u64) -> Self {
        self.policies.bytes = bytes;
        self
    }

    /// When nothing was appended for this long, at the latest for twice as long, a thread of the log writes the proof of the last group, once. Until then a fault in that group,
    /// after the disk confirmed it, cannot be told from a crash. `None`: the proof waits for the next group, or for
    /// [`Wal::close`](crate::Wal::close). Default [`IDLE_PROMISE_DEFAULT`].
    pub fn idle_promise(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.policies.idle = after.into();
        self
    }

    /// A fingerprint of whatever configuration the records depend on (comparator, merge operator ...). It is stored when the log is
    /// first opened; opening with another one is an error. 0, the default, means none and is never compared.
    pub fn config_fingerprint(mut self, fingerprint: u64) -> Self {
        self.config_fingerprint = fingerprint;
        self
    }

    /// Where time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The identity of a log that is yet to be created, instead of a random one. An existing log keeps its own.
    pub fn wal_id(mut self, wal_id: WalId) -> Self {
        self.wal_id = Some(wal_id);
        self
    }

    /// How the files of new logs are written, instead of what a probe of the directory finds when the log is opened ([`wal_io::probe`]). On a
    /// storage of your own, [`Way::Append`] unless you say otherwise, and nothing is probed. The log that the open itself begins is
    /// always one that grows; the next one is as chosen here, and is taken as soon as it is ready.
    ///
    /// [`Way::Ring`] needs the feature `io-uring`, Linux, and a kernel that lets this process have rings: otherwise [`Options::recover`] says
    /// [`Error::InvalidOption`]. The probe leaves it out then.
    pub fn way(mut self, way: Way) -> Self {
        self.way = Some(way);
        self
    }

    /// At most so many deleted logs wait to become the next ones, instead of being unlinked. Default [`RECYCLED_LOGS_DEFAULT`] where files are filled
    /// before they are used, and none where they grow.
    pub fn recycle(mut self, logs: usize) -> Self {
        self.recycle = Some(logs);
        self
    }

    /// The most bytes that live logs may have together, [`CAP_BYTES_MIN`] and more; the default, `None`, is no cap. An append that would exceed it is refused
    /// ([`Error::Full`]) before a byte is written or a number is given, until [`Wal::mark_flushed`](crate::Wal::mark_flushed) has deleted enough.
    ///
    /// What counts is what [`Wal::logs`](crate::Wal::logs) says, and some 300 bytes to go on with. On the disk there are also the next log, made ahead, and
    /// the deleted ones that wait to be used again ([`Options::recycle`]), each as long as a log may be; and CHECKPOINT, 128 KiB. What a recovery or
    /// [`Wal::resume`](crate::Wal::resume) has to write again is never refused. If several caps are reached, this one is named.
    pub fn cap_bytes(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.cap_bytes = bytes.into();
        self
    }

    /// The most live logs, the active one among them: [`CAP_LOGS_MIN`] and more; the default, `None`, is no cap. A rotation beyond it is refused, and an
    /// append that needs one ([`Error::Full`]). Files that hold no record do not count, as for [`Options::cap_bytes`], which is named before this.
    pub fn cap_logs(mut self, logs: impl Into<Option<usize>>) -> Self {
        self.cap_logs = logs.into();
        self
    }

    /// How long an append, or a rotation that [`Options::cap_logs`] refuses, waits for room before it fails: it goes on as soon as a deletion has made
    /// enough, and looks again at a full disk every [`DISK_RETRY`](crate::DISK_RETRY). Default zero: it fails at once. The time is kept by a thread of the
    /// log; where there is none to be had, nobody waits. Never let the thread wait that flushes and marks.
    pub fn cap_wait(mut self, longest: Duration) -> Self {
        self.cap_wait = longest;
        self
    }

    /// No write of a log touches a sector that holds bytes which are already durable: each is filled up to the next multiple of 4096 bytes (or of the
    /// block, where direct I/O asks for a longer one), with a chunk that readers of every version skip. Default no.
    ///
    /// Without it a group begins where the one before it ends, and a write may overwrite a sector's older bytes with the same bytes. That is safe on devices
    /// that keep *one assumption*: a sector that is torn by a power loss holds old or new bytes, so bytes that are the same in both survive. Disks
    /// keep it, as far as their makers say anything. With this option a sector whose write is torn may hold anything, as long as the others, in
    /// other multiples of 4096, keep what they hold.
    ///
    /// It costs 4 KiB a write at the most, and 7 bytes where no chunk fits before the boundary: half of that on average, and nearly all of it for a lone short
    /// record. A promise that an idle log writes takes 4 KiB, and so does the header of each log that an open begins; against [`Options::cap_bytes`] 16 KiB
    /// more count, to go on with. It may change from one open to the next, and either kind of log is read with and without it.
    ///
    /// # Durability
    /// The same as without it, on devices that break the assumption too.
    pub fn pad_groups(mut self, pads: bool) -> Self {
        self.pad_groups = pads;
        self
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            log_bytes: self.log_bytes,
            bytes: self.cap_bytes.unwrap_or(u64::MAX),
            logs: self.cap_logs.map_or(u64::MAX, |logs| logs as u64),
            wait: self.cap_wait,
            pads: self.pad_groups,
        }
    }

    /// Whether a thread makes the next log ahead and writes the seals. Default yes for a directory, no for a storage of your own: a simulated disk
    /// then sees one order of operations, if nothing else needs a thread ([`Options::idle_promise`], [`Options::sync_interval`], awaiting). Without it, [`Wal::housekeep`](crate::Wal::housekeep) makes the next log ahead.
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// How many threads read the logs of a recovery, the caller's included: those that check every byte after a crash, and those of
    /// [`Recovery::for_each`](crate::Recovery::for_each). Each holds about 256 KiB. Default one:
    /// [`std::thread::available_parallelism`] is what a server with many logs to read back may choose.
    pub fn recovery_threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Threads::new(threads);
        self
    }

    /// Calls `callback` at each rotation and each deletion after which live logs are over `soft_bytes` bytes, or are more than `soft_logs`
    /// (`u64::MAX` and `usize::MAX`: no limit), with the families that keep the oldest log, and up to where to flush them. An idle family is
    /// noticed this way.
    ///
    /// # Concurrency
    /// It is called off the commit path, in the log's own thread, or in [`Wal::housekeep`](crate::Wal::housekeep) where there is none
    /// ([`Options::background`]). It may append, rotate and mark; it must not close or drop the log, and the next log is not made while it runs:
    /// hand long work on.
    pub fn on_pressure(
        mut self,
        soft_bytes: u64,
        soft_logs: usize,
        callback: impl Fn(&Pressure) + Send + Sync + 'static,
    ) -> Self {
        self.on_pressure =
            Some(OnPressure { bytes: soft_bytes, logs: soft_logs, callback: Arc::new(callback) });
        self
    }

    /// Calls `callback`, and says so in an event (`wal.stall`), when a write, a sync or other work at the disk has taken longer than `after` and *is still
    /// there*: once for each, with what it is and how old. `after` is 1 ms and more; a disk that works answers in milliseconds, so 1 to 10 s tell of
    /// one that hangs. An event `wal.stall_ended` says when it came back. Default: nobody looks; the gauge `wal_in_flight_since_seconds` tells since
    /// when whatever is at the disk is there, with and without this.
    ///
    /// # Concurrency
    /// A thread of its own looks and calls, since every other may hang. It sleeps while a log is idle. The callback must not own the log:
    /// give it a [`Weak`](std::sync::Weak); and what it calls in the log may hang too.
    pub fn on_stall(mut self, after: Duration, callback: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(OnStall { after, callback: Arc::new(callback) });
        self
    }

    /// How long a keeper of the oldest log may stay where it is before a warning (`wal.keeper_stuck`) names it, and again after each such time.
    /// Looked at when the log rotates or deletes, and in [`Wal::housekeep`](crate::Wal::housekeep). `None`: never. Default
    /// [`KEEPER_WARNING_DEFAULT`].
    pub fn keeper_warning(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.keeper_warning = after.into();
        self
    }

    /// Logs that nobody needs any more are archived in the directory `path` before they are deleted: linked if it is on the same file system, else
    /// copied; read back there, and synced. The background does it, or [`Wal::mark_flushed`](crate::Wal::mark_flushed) where there is none; appends
    /// never wait for it. Until a log is archived it is kept, whatever the reason. Beyond `limits` the oldest archived logs are
    /// removed, with a warning. An archive belongs to one log, and is read like a log's directory, but not opened for writing. See
    /// [`Wal::restore`](crate::Wal::restore).
    pub fn archive(mut self, path: impl Into<PathBuf>, limits: ArchiveLimits) -> Self {
        self.archive = Some((Place::Directory(path.into()), limits));
        self
    }

    /// [`Options::archive`] on any storage.
    pub fn archive_on(mut self, storage: Arc<dyn Storage>, limits: ArchiveLimits) -> Self {
        self.archive = Some((Place::Storage(storage), limits));
        self
    }

    /// Each record says when it was appended, by the [`Clock`] of [`Options::clock`], in eight bytes: so that a restore can go to a time. Default no.
    pub fn record_times(mut self, times: bool) -> Self {
        self.policies.times = times;
        self
    }

    /// The archive's directory, which is created, and its limits.
    pub(crate) fn archive_storage(&self) -> Result<Option<(Arc<dyn Storage>, ArchiveLimits)>> {
        Ok(match &self.archive {
            None => None,
            Some((Place::Directory(path), limits)) => Some((Arc::new(FsStorage::create(path)?), *limits)),
            Some((Place::Storage(storage), limits)) => Some((Arc::clone(storage), *limits)),
        })
    }

    /// Recognises repeated appends: a record whose key ([`Record::key`](crate::Record::key)) is that of a record in the window is not written again. The
    /// call waits until that one is as durable as was asked for, and returns its numbers, with
    /// [`Appended::duplicate`](crate::Appended::duplicate) set. So whoever does not know what became of an append, because it failed or because the process
    /// died, repeats it with the same key, and it is there once. After a failure, [`Wal::resume`](crate::Wal::resume) first: the record may be
    /// written again by that, so its key is not free.
    ///
    /// An open reads the records of the window, to fill it again, and logs with a record of the window are not deleted, flushed or not. It takes
    /// [`WINDOW_RECORD_BYTES`](crate::WINDOW_RECORD_BYTES) of memory for each record of its count at the most, reserved by the open. A key takes 24 bytes
    /// more in its record: the key and the time of the append. Default: no window; keys are stored all the same.
    pub fn duplicates(mut self, window: impl Into<Option<Window>>) -> Self {
        self.window = window.into();
        self
    }

    pub(crate) fn files(&self, way: Way) -> Files {
        Files { way, recycle: self.recycle.unwrap_or(if way.fills() { RECYCLED_LOGS_DEFAULT } else { 0 }) }
    }

    /// Called now and then while recovery reads. Copies, restores and repairs have several steps, and begin anew with each.
    ///
    /// # Concurrency
    /// By whatever thread has read, one call at a time; what is told only grows.
    pub fn on_progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(callback));
        self
    }

    /// Opens for writing: takes the lock, reads what there is, decides, makes the unproven tail durable and commits a new epoch. The
    /// directory and its missing parents are created.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody has it open; damage and its kin, by [`RecoveryMode`]; nothing was changed then, and nobody
    /// is fenced. Or an option is out of range, or the system fails.
    ///
    /// # Durability
    /// When this returns, everything that the records will hand out is durable, the parents of the directory included.
    ///
    /// # Concurrency
    /// Blocks until every live log was read, unless the directory was closed cleanly; see [`Options::on_progress`]. One log at a time, in all
    /// processes, has the directory.
    pub fn recover(self) -> Result<Recovery> {
        self.check()?;
        let storage: Arc<dyn Storage> = match &self.place {
            Place::Directory(path) => Arc::new(FsStorage::create(path)?),
            Place::Storage(storage) => Arc::clone(storage),
        };
        Recovery::open(storage, &self)
    }

    /// Opens for reading only, without the lock: takes nothing, creates nothing and leaves the directory as it is, to the byte, whether or
    /// not somebody is writing to it.
    ///
    /// # Errors
    /// The directory cannot be read, or is not a log's. Damage is no error here but a verdict in the report, and an error at the
    /// end of the records.
    ///
    /// # Concurrency
    /// Whoever writes goes on. What this saw may be deleted before the records are read: an error of the records then ([`Error::Gap`]).
    pub fn inspect(self) -> Result<Inspection> {
        self.check()?;
        Inspection::open(self.storage_to_read()?, &self)
    }

    /// Follows a directory that somebody else writes, without the lock: like [`Options::inspect`] this takes nothing and changes nothing, and the
    /// records go on as the log does. In the process that writes, use [`Wal::follow`](crate::Wal::follow).
    ///
    /// # Errors
    /// The directory cannot be read, or is not a log's; or what `from` asks for was deleted: [`Error::Gap`].
    ///
    /// # Concurrency
    /// Whoever writes goes on, and knows nothing of it: it keeps no log from being deleted.
    pub fn follow(self, from: FollowFrom) -> Result<DirectoryFollower> {
        self.check()?;
        DirectoryFollower::open(self.storage_to_read()?, &self, from)
    }

    /// The directory as it is, for who creates nothing.
    pub(crate) fn storage_to_read(&self) -> Result<Arc<dyn Storage>> {
        Ok(match &self.place {
            Place::Directory(path) => Arc::new(FsStorage::open(path)?),
            Place::Storage(storage) => Arc::clone(storage),
        })
    }

    fn check(&self) -> Result<()> {
        let allowed = format!("{LOG_BYTES_MIN} to {LOG_BYTES_MAX} bytes are allowed");
        if !(LOG_BYTES_MIN..=LOG_BYTES_MAX).contains(&self.log_bytes) {
            return Err(Error::InvalidOption {
                option: "log_bytes",
                given: self.log_bytes.to_string(),
                allowed,
            });
        }
        if let Some(given) = self.cap_bytes.filter(|bytes| *bytes < CAP_BYTES_MIN) {
            let allowed = format!("{CAP_BYTES_MIN} bytes and more are allowed");
            return Err(Error::InvalidOption { option: "cap_bytes", given: given.to_string(), allowed });
        }
        if let Some(given) = self.cap_logs.filter(|logs| *logs < CAP_LOGS_MIN) {
            let allowed = format!("{CAP_LOGS_MIN} logs and more are allowed");
            return Err(Error::InvalidOption { option: "cap_logs", given: given.to_string(), allowed });
        }
        let bytes = self.policies.bytes;
        if !(SYNC_BYTES_MIN..=SYNC_BYTES_MAX).contains(&bytes) {
            let allowed = format!("{SYNC_BYTES_MIN} to {SYNC_BYTES_MAX} bytes are allowed");
            return Err(Error::InvalidOption { option: "sync_bytes", given: bytes.to_string(), allowed });
        }
        if let Some(count) =
            self.window.map(|window| window.count).filter(|count| !(1..=WINDOW_COUNT_MAX).contains(count))
        {
            let allowed = format!("1 to {WINDOW_COUNT_MAX} records are allowed");
            return Err(Error::InvalidOption { option: "duplicates", given: count.to_string(), allowed });
        }
        let stall = self.on_stall.as_ref().map(|on_stall| on_stall.after);
        let periods = [
            ("sync_interval", self.policies.interval),
            ("idle_promise", self.policies.idle),
            ("on_stall", stall),
        ];
        for (option, period) in periods {
            if let Some(period) = period.filter(|period| *period < PERIOD_MIN) {
                let allowed = format!("{PERIOD_MIN:?} and more are allowed");
                return Err(Error::InvalidOption { option, given: format!("{period:?}"), allowed });
            }
        }
        Ok(())
    }
}
