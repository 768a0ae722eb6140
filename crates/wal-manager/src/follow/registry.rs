//! Where the followers of an open log are, for the gauges.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use wal_format::Index;

use crate::inner::Inner;
use crate::sync::Mutex;

/// A follower that goes on tells its place once in so many records, so that reading costs no lock; and whenever there is nothing left to read.
const TELL_RECORDS: u32 = 1024;

/// The followers of an open log.
#[derive(Debug, Default)]
pub(crate) struct Followers(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    last_id: u64,
    /// The last record that each has read.
    read: BTreeMap<u64, Index>,
}

/// One of them, as long as it lives.
#[derive(Debug)]
pub(super) struct Registered {
    inner: Arc<Inner>,
    id: u64,
    read: Index,
    untold: u32,
}

impl Registered {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let read = inner.commit.lock().durable.index;
        let mut places = inner.followers.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.last_id += 1;
        let id = places.last_id;
        drop(places);
        inner.commit.recent().begin();
        let registered = Self { inner, id, read, untold: 0 };
        registered.change(|places| _ = places.insert(id, read));
        registered
    }

    /// Everything up to there was handed out, or is not wanted.
    pub(super) fn has_read(&mut self, index: Index) {
        self.untold += u32::from(self.read != index);
        self.read = index;
        if self.untold >= TELL_RECORDS {
            self.tell();
        }
    }

    /// Tells how far it has read, if that is news.
    pub(super) fn tell(&mut self) {
        if std::mem::take(&mut self.untold) > 0 {
            let (id, read) = (self.id, self.read);
            self.change(|places| _ = places.insert(id, read));
        }
    }

    /// What it wanted next was deleted.
    pub(super) fn gap(&self) {
        self.inner.metrics.follower_gaps.increment(1);
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, Index>)) {
        let mut places = self.inner.followers.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut places.read);
        // A recorder that panics twice would end the process.
        if std::thread::panicking() {
            return;
        }
        let slowest = places.read.values().min().map_or(0, |index| index.get());
        // Under the lock: the last one to change it is the last one to tell.
        self.inner.metrics.followers.set(places.read.len() as f64);
        self.inner.metrics.slowest_follower_index.set(slowest as f64);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let id = self.id;
        self.inner.commit.recent().end();
        self.change(|places| _ = places.remove(&id));
    }
}
