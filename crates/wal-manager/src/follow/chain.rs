//! Which log holds what a follower wants, and which one comes after a log: by their headers, without reading what lies between.

use std::sync::Arc;

use wal_format::header::HeaderFault;
use wal_format::{Epoch, FileHeader, Index, LogNumber, LogSeed, WalId};
use wal_io::{Source, Storage};

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::follow::FollowFrom;
use crate::follow::seek::seek;
use crate::names;
use crate::read::{LogReader, Place};
use crate::record::Position;
use crate::recovery::read_first;
use crate::report::Reason;

/// Logs in a directory, as one who follows them sees them.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) wal_id: WalId,
    /// Oldest first. There may be files among them that no chain leads to: abandoned ones, and empty ones that were made ahead.
    pub(crate) logs: &'a [LogNumber],
    /// Logs of a later epoch are leftovers (RC4).
    pub(crate) epoch: Epoch,
}

/// A log whose header is whole.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) log: LogNumber,
    pub(crate) header: FileHeader,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) seed: LogSeed,
}

/// What follows a log.
#[derive(Debug)]
pub(crate) enum After {
    /// This one.
    Next(Opened),
    /// Nothing so far.
    Nothing,
    /// There are later ones, and none of them follows it.
    Later,
    /// A later one follows a log before it: nothing in this one ever counted (RC1).
    Abandoned,
}

impl Opened {
    /// A reader that begins at `place` and may read up to there.
    pub(crate) fn reader(&self, place: Place) -> LogReader {
        LogReader::from_place(Arc::clone(&self.source), self.seed, place, place.offset)
    }

    /// Its first byte.
    pub(crate) fn start(&self) -> Place {
        let FileHeader { first_index, seq_floor, .. } = self.header;
        Place { offset: 0, next_index: Some(first_index), seq_floor }
    }
}

impl Chain<'_> {
    /// Opens a log; `None` if there is no log of this chain in the file.
    ///
    /// # Errors
    /// The file is gone, or cannot be read, or is of a newer format.
    pub(crate) fn open(&self, log: LogNumber) -> Result<Option<Opened>> {
        let name = names::log_name(log);
        let source = self.storage.open_source(&name)?;
        match FileHeader::decode(log, &read_first(&*source)?) {
            Ok(header) if header.wal_id == self.wal_id && header.epoch <= self.epoch => {
                Ok(Some(Opened { log, header, source, seed: LogSeed::new(self.wal_id, log) }))
            }
            Err(HeaderFault::NewerFormat { version, .. }) => {
                Err(Error::NewerFormat { path: self.storage.path().join(name), version })
            }
            _ => Ok(None),
        }
    }

    /// The log in which `from` stands, or would; `None` if there is no log yet. Reads as many headers as the logarithm of their number.
    ///
    /// # Errors
    /// It was deleted: [`Error::Gap`]. Or as for [`Chain::open`].
    pub(crate) fn holding(&self, from: FollowFrom) -> Result<Option<Opened>> {
        let (mut low, mut high) = (0, self.logs.len());
        let (mut holding, mut oldest) = (None, None);
        while low < high {
            let middle = if from == FollowFrom::Oldest { low } else { low + (high - low) / 2 };
            // Down to the next one that belongs to the chain. INVARIANT: RC1, RC2. An abandoned one begins where the one that counts does, and has the
            // lower number.
            let (mut at, mut opened) = (middle, None);
            while let Some(&log) = self.logs.get(at) {
                opened = self.open(log)?;
                if opened.is_some() || at == low {
                    break;
                }
                at -= 1;
            }
            match opened {
                Some(opened) if from.is_at_or_behind_start(&opened.header) => {
                    holding = Some(opened);
                    low = middle + 1;
                }
                Some(opened) => {
                    high = at;
                    oldest = Some(opened);
                }
                None => low = middle + 1,
            }
            if from == FollowFrom::Oldest
                && let Some(holding) = holding.take()
            {
                return self.is_oldest(&holding).map(|()| Some(holding));
            }
        }
        match (holding, oldest) {
            (None, Some(oldest)) => {
                // Everything before the first log is not there because it was never written, or because it was deleted.
                if oldest.header.first_index > Index::FIRST && !seeded_bug!(FollowerJumpsGap) {
                    self.is_oldest(&oldest)?;
                    return Err(Error::Gap { wanted: before(&oldest.header), oldest: oldest.log });
                }
                Ok(Some(oldest))
            }
            (holding, _) => Ok(holding),
        }
    }

    /// That nothing before the log is left, as far as CHECKPOINT knows: otherwise its file has no header any more, and to pass over it would be a jump.
    fn is_oldest(&self, opened: &Opened) -> Result<()> {
        let Some(before) = opened.header.predecessor else { return Ok(()) };
        match checkpoint::load(self.storage)? {
            Some(loaded) if loaded.content.lowest <= before.log => {
                let reason = Box::new(Reason::Missing);
                Err(Error::ChangedWhileReading { log: before.log, offset: 0, reason })
            }
            _ => Ok(()),
        }
    }

    /// Where in the directory `from` stands. `frontier`: behind what may be read, if anybody knows.
    ///
    /// # Errors
    /// As for [`Chain::holding`].
    pub(crate) fn find(
        &self,
        from: FollowFrom,
        frontier: Option<Position>,
    ) -> Result<Option<(Opened, Place)>> {
        let Some(opened) = self.holding(from)? else { return Ok(None) };
        let end = match (self.after(opened.log)?, frontier) {
            (After::Next(next), _) => next.header.predecessor.map_or(0, |before| before.end),
            (_, Some(frontier)) if frontier.log == opened.log => frontier.offset,
            // What comes after it was deleted a moment ago, and whoever reads on finds that out.
            (_, Some(_)) => 0,
            (_, None) => opened.source.length()?,
        };
        let place = seek(&opened, from, end)?;
        Ok(Some((opened, place)))
    }

    /// That the records of the log with this header come behind a place in this log or an earlier one: from log to log back to there.
    ///
    /// # Errors
    /// They do not: a recovery gave that place up. Or logs in between are gone, and nobody can tell.
    pub(crate) fn check_behind(&self, header: &FileHeader, place: (LogNumber, u64)) -> Result<()> {
        let (log, offset) = place;
        let changed = |log, offset, reason| {
            let changed = Error::ChangedWhileReading { log, offset, reason: Box::new(reason) };
            checkpoint::gap(self.storage, log).unwrap_or(changed)
        };
        let mut header = *header;
        while header.log != log {
            match header.predecessor {
                Some(before) if before.log == log && before.end >= offset => return Ok(()),
                Some(before) if before.log > log => {
                    let there = self.logs.contains(&before.log);
                    let opened = if there { self.open(before.log)? } else { None };
                    header = opened.ok_or_else(|| changed(before.log, 0, Reason::Missing))?.header;
                }
                _ => return Err(changed(log, offset, Reason::OtherContent)),
            }
        }
        Ok(())
    }

    /// Which log follows `log`.
    ///
    /// # Errors
    /// As for [`Chain::open`].
    pub(crate) fn after(&self, log: LogNumber) -> Result<After> {
        let mut after = After::Nothing;
        let later = self.logs.partition_point(|other| *other <= log);
        for &other in self.logs.get(later..).unwrap_or_default() {
            let Some(opened) = self.open(other)? else { continue };
            let before = opened.header.predecessor.map(|before| before.log);
            match before {
                // INVARIANT: RC1, RC2. The last one that follows it counts: a recovery or a resume abandoned the others, with nothing proven in them.
                Some(before) if before == log => after = After::Next(opened),
                Some(before) if before > log => {
                    return Ok(if matches!(after, After::Nothing) { After::Later } else { after });
                }
                _ => return Ok(After::Abandoned),
            }
        }
        Ok(after)
    }
}

/// The log before the one with this header.
fn before(header: &FileHeader) -> LogNumber {
    let below = LogNumber::new(header.log.get().saturating_sub(1));
    header.predecessor.map_or(below, |before| before.log)
}
