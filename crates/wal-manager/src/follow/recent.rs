//! What was written last, for those who follow it: they would otherwise read it from the disk that the writer is syncing, where there is no
//! cache between (direct files).

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use wal_format::LogNumber;
use wal_io::{IoError, Source};

use crate::sync::{AtomicU64, Mutex};

/// How much is kept while somebody follows: 1 MiB. Who is further behind reads the file.
const RECENT_BYTES: usize = 1 << 20;

/// The last bytes of the log that is being written.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    followers: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    log: LogNumber,
    /// Offset in the log of the first byte.
    start: u64,
    /// INVARIANT: they stand in the file of `log` from `start` on, one behind the other.
    bytes: VecDeque<u8>,
}

impl Recent {
    /// A follower has come.
    pub(super) fn begin(&self) {
        self.followers.fetch_add(1, Ordering::Relaxed);
    }

    /// A follower has gone; the last one takes the memory with it.
    pub(super) fn end(&self) {
        if self.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
        }
    }

    /// These bytes have been written to `log` at `offset`.
    pub(crate) fn wrote(&self, log: LogNumber, offset: u64, bytes: &[u8]) {
        if self.followers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.followers.load(Ordering::Relaxed) == 0 {
            // The last one went meanwhile, and took the memory with it.
            return;
        }
        // Of a longer group only its end: the memory never grows beyond this.
        let (skipped, bytes) = bytes.split_at(bytes.len().saturating_sub(RECENT_BYTES));
        if (log, offset) != (kept.log, kept.end()) || !skipped.is_empty() {
            kept.bytes.clear();
            (kept.log, kept.start) = (log, offset.saturating_add(skipped.len() as u64));
        }
        let old = (kept.bytes.len() + bytes.len()).saturating_sub(RECENT_BYTES);
        kept.bytes.drain(..old);
        kept.start = kept.start.saturating_add(old as u64);
        kept.bytes.extend(bytes);
    }

    /// Fills `buffer` with what stands in `log` from `offset` on, if all of that is here.
    fn read(&self, log: LogNumber, offset: u64, buffer: &mut [u8]) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let same = kept.log == log || seeded_bug!(FollowerReadsAnotherLog);
        let Some(from) = offset.checked_sub(kept.start).filter(|_| same) else { return false };
        let Ok(from) = usize::try_from(from) else { return false };
        if kept.bytes.len() < from.saturating_add(buffer.len()) {
            return false;
        }
        let (first, second) = kept.bytes.as_slices();
        let rest = first.get(from..).unwrap_or_default();
        let (here, behind) = buffer.split_at_mut(buffer.len().min(rest.len()));
        here.copy_from_slice(rest.split_at(here.len()).0);
        let second = second.get(from.saturating_sub(first.len())..).unwrap_or_default();
        behind.copy_from_slice(second.split_at(behind.len()).0);
        true
    }
}

impl Kept {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }
}

/// A log that is read from memory where it was just written, and from its file otherwise.
pub(super) struct RecentSource {
    pub(super) recent: Arc<Recent>,
    pub(super) log: LogNumber,
    pub(super) file: Arc<dyn Source>,
}

impl fmt::Debug for RecentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Source for RecentSource {
    fn length(&self) -> Result<u64, IoError> {
        self.file.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        if self.recent.read(self.log, offset, buffer) {
            return Ok(buffer.len());
        }
        self.file.read_at(offset, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(recent: &Recent, log: u64, offset: u64, length: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; length];
        recent.read(LogNumber::new(log), offset, &mut buffer).then_some(buffer)
    }

    #[test]
    fn w1_only_what_was_written_without_a_hole_to_this_log_is_here() {
        let recent = Recent::default();
        let log = LogNumber::new(7);
        recent.wrote(log, 100, b"nobody follows");
        assert_eq!(read(&recent, 7, 100, 1), None);
        recent.begin();
        recent.wrote(log, 100, b"abc");
        recent.wrote(log, 103, b"def");
        assert_eq!(read(&recent, 7, 101, 4), Some(b"bcde".to_vec()));
        assert_eq!(read(&recent, 7, 99, 2), None, "before it");
        assert_eq!(read(&recent, 7, 104, 3), None, "behind it");
        assert_eq!(read(&recent, 8, 101, 4), None, "another log");
        recent.wrote(log, 110, b"xyz");
        assert_eq!(read(&recent, 7, 100, 3), None, "there is a hole behind it");
        assert_eq!(read(&recent, 7, 110, 3), Some(b"xyz".to_vec()));
        recent.wrote(LogNumber::new(8), 113, b"new");
        assert_eq!(read(&recent, 7, 110, 3), None);
        recent.wrote(LogNumber::new(8), 116, &vec![1; RECENT_BYTES]);
        assert_eq!(read(&recent, 8, 113, 3), None, "no more than so much is kept");
        assert_eq!(read(&recent, 8, 116, RECENT_BYTES), Some(vec![1; RECENT_BYTES]));
        recent.wrote(LogNumber::new(8), 116 + RECENT_BYTES as u64, &vec![2; 3 * RECENT_BYTES]);
        assert_eq!(
            read(&recent, 8, 116 + 3 * RECENT_BYTES as u64, RECENT_BYTES),
            Some(vec![2; RECENT_BYTES])
        );
        assert!(recent.kept.lock().unwrap().bytes.capacity() < 2 * RECENT_BYTES + 64);
        recent.wrote(LogNumber::new(8), 116, &vec![1; 1000]);
        recent.begin();
        recent.end();
        assert!(read(&recent, 8, 200, 3).is_some());
        recent.end();
        assert_eq!(read(&recent, 8, 200, 3), None);
    }
}
