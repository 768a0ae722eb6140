//! The window of keys by which a repeated append is recognised.
//!
//! It lives under the mutex of the commit path: a key is in it from the moment at which its record is ordered, so of two that append the same key at
//! the same time one is written, and the other one waits for that. What was ordered is either durable one day or the log has failed, and then
//! nobody is acknowledged; a resume writes it again (RS1), so a failure frees no key. Only opening the directory again does, for records that are
//! not there any more.
//!
//! The window is filled again when the log is opened, from the records themselves: those that the count still covers are read once more.

use std::collections::{HashMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::warn;
use wal_format::{Index, LogNumber};
use xxhash_rust::xxh3::Xxh3;

use crate::clock::{Clock, micros};
use crate::error::{Error, Result};
use crate::inner::Inner;
use crate::keepers::{KeeperKind, Pin};
use crate::record::{Appended, Position, Record};
use crate::recovery::stream::{Next, Part, Stream};

/// Longest [`Window`], in records: 4 Mi. At most [`WINDOW_RECORD_BYTES`] of memory for each of them.
pub const WINDOW_COUNT_MAX: usize = 1 << 22;

/// Memory that a [`Window`] takes for each record of its count, in bytes, at the most. All of it is reserved when the log is opened.
pub const WINDOW_RECORD_BYTES: usize = 256;

/// How far back a repeated append is recognised: [`Options::duplicates`](crate::Options::duplicates).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub(crate) count: usize,
    pub(crate) age: Option<Duration>,
    content: bool,
}

impl Window {
    /// Recognises the keys of the last `count` records, those without a key counted too: 1 to [`WINDOW_COUNT_MAX`].
    pub const fn new(count: usize) -> Self {
        Self { count, age: None, content: false }
    }

    /// Of these, only those that were appended at most so long ago, by the wall clock of [`Options::clock`](crate::Options::clock) then and now.
    /// The time of an append is stored with its key. A clock that was put back makes keys live longer, never shorter than the count says.
    #[must_use]
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Records without a key get one: a 128-bit hash (XXH3) of kind, families, count of sequence numbers and payload. Two records of the same
    /// content are one then. Chance makes two hashes equal once in 2^64 records, but whoever wants to can make them equal: where others
    /// choose the content, give keys.
    #[must_use]
    pub const fn content_hashes(mut self) -> Self {
        self.content = true;
        self
    }

    /// The key of a record, if it has one.
    fn key(&self, record: &Record<'_>) -> Option<u128> {
        record.key.or_else(|| self.content.then(|| content_hash(record)))
    }
}

fn content_hash(record: &Record<'_>) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&record.kind.get().to_le_bytes());
    hash.update(&record.count.to_le_bytes());
    hash.update(&(record.families.len() as u64).to_le_bytes());
    for family in record.families {
        hash.update(&family.get().to_le_bytes());
    }
    hash.update(record.payload);
    hash.digest128()
}

/// By what a record is recognised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) key: u128,
    /// When it was appended, in microseconds since 1970; `None` without a window.
    pub(crate) time_micros: Option<u64>,
}

impl Key {
    /// The key of a record that is about to be appended.
    #[inline]
    pub(crate) fn of(record: &Record<'_>, window: Option<Window>, clock: &dyn Clock) -> Option<Self> {
        match window {
            None => record.key.map(|key| Self { key, time_micros: None }),
            Some(window) => {
                window.key(record).map(|key| Self { key, time_micros: Some(micros(clock.wall())) })
            }
        }
    }
}

/// A record that may be repeated.
#[derive(Debug)]
struct Entry {
    key: u128,
    time_micros: u64,
    original: Appended,
}

/// What is in the window.
///
/// **Invariants**: `entries` are in the order of their indices, at most as many as the window's count; each key's number is that of its last entry.
#[derive(Debug)]
pub(crate) struct Duplicates {
    window: Window,
    entries: VecDeque<Entry>,
    /// For each key its entry, counted from the first that there ever was.
    numbers: HashMap<u128, u64>,
    /// The number of the entry in front.
    front: u64,
}

impl Duplicates {
    pub(crate) fn new(window: Window) -> Self {
        let entries = VecDeque::with_capacity(window.count);
        // Twice as many: a table that is at most half full tidies itself up in place, and never grows.
        let numbers = HashMap::with_capacity(2 * window.count);
        Self { window, entries, numbers, front: 0 }
    }

    /// What was in the window when the log ended: `parts` are its logs, oldest first, and behind them follows `next_index`.
    ///
    /// # Errors
    /// A log cannot be read, or is not any more as it was a moment ago.
    pub(crate) fn recovered(window: Window, parts: &[Part], next_index: Index) -> Result<Self> {
        let mut duplicates = Self::new(window);
        if seeded_bug!(WindowNotRebuilt) {
            return Ok(duplicates);
        }
        let is_behind =
            |part: &Part| part.first_index.is_some_and(|first| !duplicates.covers(first, next_index));
        // A log whose successor begins before the window holds nothing of it.
        let skipped = parts.iter().skip(1).take_while(|part| is_behind(part)).count();
        let parts = parts.iter().skip(skipped).cloned().collect();
        let mut reading = Stream::new(parts, None).read();
        loop {
            match reading.next()? {
                Next::Record(log, found) => {
                    let head = found.head;
                    let Some(key) = head.duplicate_key.map(u128::from_le_bytes) else { continue };
                    let (_, offset) = reading.place();
                    let position = Position { log, offset, index: head.index };
                    let original =
                        Appended { index: head.index, seqs: head.seqs, position, duplicate: false };
                    // Without a time it is of a writer that had no window: too old for one that asks for the age.
                    duplicates.insert(Key { key, time_micros: head.time_micros }, original);
                }
                Next::Changed(log, offset, reason) => {
                    return Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) });
                }
                Next::End => return Ok(duplicates),
            }
        }
    }

    /// Whether the window covers the record `index` when `next_index` is the next one.
    fn covers(&self, index: Index, next_index: Index) -> bool {
        next_index.get().saturating_sub(index.get()) <= self.window.count as u64
    }

    fn is_alive(&self, entry: &Entry, next_index: Index, now_micros: u64) -> bool {
        let age = Duration::from_micros(now_micros.saturating_sub(entry.time_micros));
        self.covers(entry.original.index, next_index) && self.window.age.is_none_or(|most| age <= most)
    }

    /// The record of this key, if it is in the window of the one that would be `next_index`.
    pub(crate) fn find(&self, key: Key, next_index: Index) -> Option<Appended> {
        let number = self.numbers.get(&key.key)?.checked_sub(self.front)?;
        let entry = self.entries.get(usize::try_from(number).ok()?)?;
        let now = key.time_micros.unwrap_or_default();
        self.is_alive(entry, next_index, now).then_some(Appended { duplicate: true, ..entry.original })
    }

    /// Takes in a record that is not in the window.
    pub(crate) fn insert(&mut self, key: Key, original: Appended) {
        let next_index = Index::new(original.index.get().saturating_add(1));
        let time_micros = key.time_micros.unwrap_or_default();
        // INVARIANT: memory is bounded by the count: what the window does not cover any more makes room first. Old ones that wait behind a
        // younger one go with it.
        self.drop_front(next_index, time_micros);
        self.numbers.insert(key.key, self.front + self.entries.len() as u64);
        self.entries.push_back(Entry { key: key.key, time_micros, original });
    }

    fn drop_front(&mut self, next_index: Index, now_micros: u64) {
        while let Some(oldest) = self.entries.front()
            && !self.is_alive(oldest, next_index, now_micros)
        {
            let key = oldest.key;
            self.entries.pop_front();
            // It may have been appended again since.
            if self.numbers.get(&key) == Some(&self.front) {
                self.numbers.remove(&key);
            }
            self.front += 1;
        }
    }

    /// The log that holds the oldest record of the window; `None` if there is none in it.
    fn oldest_log(&mut self, next_index: Index, now_micros: u64) -> Option<LogNumber> {
        self.drop_front(next_index, now_micros);
        self.entries.front().map(|entry| entry.original.position.log)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.numbers.clear();
        self.front += self.entries.len() as u64;
        self.entries.clear();
    }
}

/// Keeps the logs of the window from being deleted: without their records a window could not be filled again.
#[derive(Debug, Default)]
pub(crate) struct WindowPin(OnceLock<Pin>);

impl Inner {
    /// The window has moved on: logs that it does not need any more may go.
    pub(crate) fn release_window(self: &std::sync::Arc<Self>) {
        let Some(from) = self.commit.window_begins() else { return };
        let from = if seeded_bug!(WindowKeepsNoLogs) { LogNumber::new(u64::MAX) } else { from };
        let pin = self.window_pin.0.get_or_init(|| self.pin(KeeperKind::Duplicates, "window", from, None));
        pin.advance(from);
    }
}

impl Inner {
    /// There is no room for a log that nobody but the window needs: it may go, if there is a window. What was in it is recognised until the next open, and
    /// not any more after that.
    pub(crate) fn window_gives_way(&self, log: LogNumber) -> bool {
        let Some(pin) = self.window_pin.0.get().filter(|pin| pin.from() <= log) else { return false };
        warn!(log = log.get(), "wal.window_gave_way");
        pin.advance_quietly(log.next().unwrap_or(log));
        true
    }
}

impl crate::commit::Commit {
    /// The oldest log with a record of the window, or the active one; `None` without a window.
    fn window_begins(&self) -> Option<LogNumber> {
        let _window = self.window()?;
        let now = micros(self.clock().wall());
        let mut state = self.lock();
        // INVARIANT: A11. Records that a crash may take do not push others out of the window that a recovery fills.
        if state.durable.index.next() != Some(state.next_index) {
            return None;
        }
        let (next_index, active) = (state.next_index, state.active.log);
        let duplicates = state.duplicates.as_mut()?;
        Some(duplicates.oldest_log(next_index, now).unwrap_or(active))
    }
}
