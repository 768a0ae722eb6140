//! The place of a follower, and the way on from there: one record after the other, each index once.

use std::sync::Arc;

use wal_format::{Index, LogNumber, WalId};
use wal_io::Storage;

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::follow::FollowFrom;
use crate::follow::chain::Opened;
use crate::read::{Item, LogReader, Place, Stop};
use crate::replay::RecoveredRecord;
use crate::report::Reason;

/// Where a follower is.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) wal_id: WalId,
    /// What it hands out next.
    pub(super) from: FollowFrom,
    /// Behind the last record that it handed out: the log, and where in it.
    pub(super) handed_out: Option<(LogNumber, u64)>,
    pub(super) open: Option<Open>,
}

/// The log that is being read.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) file: Opened,
    /// Reads only what may be handed out.
    pub(super) reader: LogReader,
}

impl Open {
    pub(super) fn new(file: Opened, place: Place) -> Self {
        let reader = file.reader(place);
        Self { file, reader }
    }

    /// Index of the record that comes next.
    pub(super) fn next_index(&self) -> Index {
        self.reader.next_index()
    }
}

impl Cursor {
    pub(super) fn new(storage: Arc<dyn Storage>, wal_id: WalId, from: FollowFrom) -> Self {
        Self { storage, wal_id, from, handed_out: None, open: None }
    }

    /// The next record of this log; `None` where it may not be read any further.
    ///
    /// # Errors
    /// The file cannot be read; or what stands there is not what it was: [`Error::Gap`] if that is because the log was deleted.
    pub(super) fn read(&mut self) -> Result<Option<RecoveredRecord>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        loop {
            let found = match open.reader.next()? {
                Item::Record(found) => found,
                Item::Promise { .. } => continue,
                Item::Stop(Stop::AtEnd) => return Ok(None),
                Item::Stop(Stop::Fault(reason)) => return Err(self.changed(reason)),
                Item::Stop(Stop::EndOfFile) | Item::Seal { .. } => {
                    let (expected, found) = (open.reader.end(), open.reader.good_end());
                    return Err(self.changed(Reason::Short { expected, found }));
                }
            };
            if self.from.is_behind(&found.head) {
                continue;
            }
            // INVARIANT: W4. The reader lets no index out between two records, and who opens a log compares its first.
            self.from = FollowFrom::Index(found.head.index.next().unwrap_or(found.head.index));
            self.handed_out = Some((open.file.log, open.reader.good_end()));
            let (families, payload) = (open.reader.families(), open.reader.payload());
            return Ok(Some(RecoveredRecord::new(open.file.log, found, families, payload, true)));
        }
    }

    /// Goes over to the log after this one, whose records begin where those of this one end.
    ///
    /// # Errors
    /// They do not.
    pub(super) fn cross(&mut self, next: Opened) -> Result<()> {
        let first = next.header.first_index;
        if let Some(open) = &self.open
            && open.next_index() != first
        {
            return Err(self.changed(Reason::IndexGap { expected: open.next_index(), found: first }));
        }
        let place = next.start();
        self.open = Some(Open::new(next, place));
        Ok(())
    }

    /// What it hands out next, when its log is gone: who began at the oldest record that there was passes over none.
    pub(super) fn wanted(&self) -> FollowFrom {
        match (self.from, &self.open) {
            (FollowFrom::Oldest, Some(open)) => FollowFrom::Index(open.next_index()),
            (from, _) => from,
        }
    }

    /// RD1: what stands in the log is not what it was. That is a gap, if it was deleted.
    pub(super) fn changed(&self, reason: Reason) -> Error {
        let (log, offset) = self.place();
        let changed = Error::ChangedWhileReading { log, offset, reason: Box::new(reason) };
        checkpoint::gap(&*self.storage, log).unwrap_or(changed)
    }

    /// The log that is being read, and how far.
    pub(super) fn place(&self) -> (LogNumber, u64) {
        self.open.as_ref().map_or_else(Default::default, |open| (open.file.log, open.reader.good_end()))
    }
}
