//! Makes records visible in the order of the log.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use wal_manager::{Index, SeqNum};

use crate::sync::{AtomicU64, Condvar, Mutex, lock, wait};

/// The sequence number up to which readers see, and the writers that move it.
///
/// Writers finish out of order: a record that asked for less durability is acknowledged before an older one that waits
/// for a sync. If each raised the watermark alone, an older record would appear later inside a snapshot that is in use. So a
/// record becomes visible, and its write returns, when every older record is visible or has failed.
#[derive(Debug)]
pub(crate) struct Publisher {
    state: Mutex<State>,
    changed: Condvar,
    visible: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Index of the oldest record that is not visible yet.
    next: Index,
    /// Records in the memtable that wait for older ones, with their highest sequence number.
    waiting: BTreeMap<Index, SeqNum>,
    /// Writers between [`Publisher::begin`] and the end of their [`Slot`].
    writing: usize,
}

/// A writer that is on its way to the log and the memtable. Dropping it says that its record is not coming.
#[derive(Debug)]
pub(crate) struct Slot<'a> {
    publisher: &'a Publisher,
}

impl Publisher {
    /// Everything up to `visible` is visible; `next` is the index of the next record of the log.
    pub(crate) fn new(visible: SeqNum, next: Index) -> Self {
        Self {
            state: Mutex::new(State { next, waiting: BTreeMap::new(), writing: 0 }),
            changed: Condvar::new(),
            visible: AtomicU64::new(visible.get()),
        }
    }

    /// The sequence number up to which readers see.
    pub(crate) fn visible(&self) -> SeqNum {
        // Pairs with the store in `advance`: what was inserted before is seen.
        SeqNum::new(self.visible.load(Ordering::Acquire))
    }

    /// Announces a writer. Must come before its append, or a younger record could be published over a hole.
    pub(crate) fn begin(&self) -> Slot<'_> {
        lock(&self.state).writing += 1;
        Slot { publisher: self }
    }

    fn advance(&self, state: &mut State) {
        let before = state.next;
        while let Some(first) = state.waiting.first_entry() {
            // WHY: with nobody writing, a hole belongs to a record whose append failed: it is in no memtable and never
            // will be, so the younger ones, which the log has acknowledged, need not wait for it.
            if *first.key() > state.next && state.writing > 0 {
                break;
            }
            let (index, last) = first.remove_entry();
            state.next = state.next.max(index.next().unwrap_or(index));
            self.visible.fetch_max(last.get(), Ordering::Release);
        }
        if state.next != before {
            self.changed.notify_all();
        }
    }
}

impl Slot<'_> {
    /// Says that the record is in the memtable, and returns when it is visible.
    pub(crate) fn publish(self, index: Index, last: SeqNum) {
        let publisher = self.publisher;
        lock(&publisher.state).waiting.insert(index, last);
        drop(self);
        let mut state = lock(&publisher.state);
        while state.next <= index {
            state = wait(&publisher.changed, state);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.publisher.state);
        state.writing = state.writing.saturating_sub(1);
        self.publisher.advance(&mut state);
    }
}

#[cfg(test)]
mod tests;
