//! Range deletes, cut into pieces that do not overlap.

use std::collections::BTreeMap;

use bytes::Bytes;
use wal_manager::SeqNum;

use crate::entry::Key;

/// Removes every key from `start` up to, not including, `end` that is older than `seq`.
#[derive(Clone, Debug)]
pub(crate) struct RangeDelete {
    pub(crate) start: Key,
    pub(crate) end: Bytes,
    pub(crate) seq: SeqNum,
}

impl RangeDelete {
    pub(crate) fn covers(&self, key: &Key) -> bool {
        self.start <= *key && self.start.family == key.family && key.user < self.end
    }
}

/// Ranges of keys that do not overlap, each with the newest sequence number that covers it.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    pieces: BTreeMap<Key, (Bytes, SeqNum)>,
}

impl Ranges {
    pub(crate) fn new(mut deletes: Vec<RangeDelete>) -> Self {
        // Painted oldest first, so that the newest is on top everywhere.
        deletes.sort_unstable_by_key(|delete| delete.seq);
        let mut ranges = Self::default();
        deletes.into_iter().for_each(|delete| ranges.paint(delete));
        ranges
    }

    /// The newest range delete over a key.
    pub(crate) fn covering(&self, key: &Key) -> Option<SeqNum> {
        let (start, (end, seq)) = self.pieces.range(..=key).next_back()?;
        (start.family == key.family && key.user < *end).then_some(*seq)
    }

    /// The pieces as start and end, ascending, neighbours joined.
    pub(crate) fn joined(&self) -> Vec<(Key, Bytes)> {
        let mut joined: Vec<(Key, Bytes)> = Vec::new();
        for (start, (end, _)) in &self.pieces {
            match joined.last_mut() {
                Some((key, last)) if key.family == start.family && *last == start.user => *last = end.clone(),
                _ => joined.push((start.clone(), end.clone())),
            }
        }
        joined
    }

    fn paint(&mut self, delete: RangeDelete) {
        let RangeDelete { start, end, seq } = delete;
        let after = Key { family: start.family, user: end.clone() };
        // The piece that begins before this one and reaches into it keeps its front.
        let before = self.pieces.range_mut(..&start).next_back().and_then(|(key, (last, old))| {
            (key.family == start.family && *last > start.user)
                .then(|| (std::mem::replace(last, start.user.clone()), *old))
        });
        let inside: Vec<Key> = self.pieces.range(&start..&after).map(|(key, _)| key.clone()).collect();
        let inside: Vec<_> = inside.iter().filter_map(|key| self.pieces.remove(key)).collect();
        // What reaches beyond this one keeps its back; at most one piece does.
        for (last, old) in before.into_iter().chain(inside) {
            if last > end {
                self.pieces.insert(after.clone(), (last, old));
            }
        }
        self.pieces.insert(start, (end, seq));
    }
}

#[cfg(test)]
mod tests;
