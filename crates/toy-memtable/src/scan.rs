//! Merges memtables and tables into one sorted walk.

use bytes::Bytes;

use crate::entry::{Entry, Key, resolve};
use crate::error::EngineError;
use crate::memtable::MemtableCursor;
use crate::table::TableCursor;

/// The keys of a range and their values, in key order, as they were when the scan began.
///
/// Holds one block of each table and a few dozen entries of each memtable at a time, whatever the range holds. The
/// memtables and tables that existed
/// when it began stay in memory and on disk until it is dropped. A key or value shares the memory of its block: copy what
/// you keep for long.
#[derive(Debug)]
pub struct Scan {
    merged: Merged,
}

impl Scan {
    pub(crate) fn new(merged: Merged) -> Self {
        Self { merged }
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes), EngineError>;

    /// # Errors
    /// A table is damaged or cannot be read; the scan is over.
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.merged.next()?.map(|(key, value)| (key.user, value)))
    }
}

/// One source of a walk.
#[derive(Debug)]
pub(crate) enum Cursor {
    Memtable(MemtableCursor),
    Table(TableCursor),
}

impl Cursor {
    fn advance(&mut self) -> Result<Option<(Key, Entry)>, EngineError> {
        match self {
            Self::Memtable(cursor) => Ok(cursor.next()),
            Self::Table(cursor) => cursor.next().transpose(),
        }
    }

    /// Whether a range delete in this source hides the key in older ones.
    fn covers(&self, key: &Key) -> bool {
        match self {
            Self::Memtable(cursor) => cursor.ranges().covering(key).is_some(),
            Self::Table(cursor) => cursor.covers(key),
        }
    }
}

/// Keys and their values over all sources.
#[derive(Debug)]
pub(crate) struct Merged {
    /// Newest first, each with its next entry.
    sources: Vec<(Cursor, Option<(Key, Entry)>)>,
    started: bool,
}

impl Merged {
    /// Merges `sources`, newest first.
    pub(crate) fn new(sources: Vec<Cursor>) -> Self {
        Self { sources: sources.into_iter().map(|cursor| (cursor, None)).collect(), started: false }
    }

    fn advance(&mut self) -> Result<Option<(Key, Bytes)>, EngineError> {
        if !self.started {
            self.started = true;
            for (cursor, head) in &mut self.sources {
                *head = cursor.advance()?;
            }
        }
        loop {
            // A dozen sources at the most: a heap would cost more than it saves.
            let heads = self.sources.iter().filter_map(|(_, head)| head.as_ref().map(|(key, _)| key));
            let Some(key) = heads.min().cloned() else { return Ok(None) };
            let mut base = None;
            let mut operands = Vec::new();
            let mut decided = false;
            for (cursor, head) in &mut self.sources {
                let found = head.take_if(|(at, _)| *at == key);
                if found.is_some() {
                    *head = cursor.advance()?;
                }
                if decided {
                    continue;
                }
                match found {
                    Some((_, Entry::Put(value))) => (base, decided) = (Some(value), true),
                    Some((_, Entry::Delete)) => decided = true,
                    Some((_, Entry::Merge(operand))) => operands.push(operand),
                    None => decided = cursor.covers(&key),
                }
            }
            if let Some(value) = resolve(base, operands) {
                return Ok(Some((key, value)));
            }
        }
    }
}

impl Iterator for Merged {
    type Item = Result<(Key, Bytes), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.sources.clear();
        }
        item
    }
}
