//! Marks and holds stand between records, never inside one (K3).

use wal_format::{Epoch, LogNumber, SeqNum, SeqRange};

use crate::error::{Error, Result};
use crate::follow::{Chain, FollowFrom, is_gone, seek};
use crate::inner::Inner;
use crate::read::Item;

/// A log in which a number stands, and how far it may be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) log: LogNumber,
    pub(crate) end: u64,
    /// Each record has one number.
    pub(crate) dense: bool,
}

impl Around {
    /// Of a log of so many records with these numbers, if both `at` and the number before it are among them.
    pub(crate) fn of(
        log: LogNumber,
        end: u64,
        records: u64,
        seqs: Option<SeqRange>,
        at: SeqNum,
    ) -> Option<Self> {
        let seqs = seqs.filter(|seqs| covers(*seqs, at))?;
        Some(Self { log, end, dense: seqs.last().get() - seqs.first().get() < records })
    }
}

impl Inner {
    /// That no record covers both `given` and the number after it.
    pub(crate) fn check_ends_record(&self, given: SeqNum) -> Result<()> {
        given.next().map_or(Ok(()), |behind| self.check_between_records(given, behind))
    }

    /// That no record covers both `given` and the number before it.
    pub(crate) fn check_begins_record(&self, given: SeqNum) -> Result<()> {
        self.check_between_records(given, given)
    }

    /// That no record covers `at` and the number before it, as far as there are records that do. `given` is what the caller said.
    ///
    /// What is known of the logs is enough for a number at the start or the end of one, and where each record has one number; what is not durable
    /// is remembered. Otherwise the file is read, at as many places as the logarithm of its length in blocks, up to the end of a record at each.
    fn check_between_records(&self, given: SeqNum, at: SeqNum) -> Result<()> {
        // Of a log that has ended, whoever asks is told that.
        self.check_open()?;
        if at <= self.retention.oldest_seq() || seeded_bug!(MarkInsideRecord) {
            return Ok(());
        }
        let state = self.commit.lock();
        if let Some(record) = state.wide_around(at) {
            return Err(Error::InsideRecord { given, record });
        }
        let (active, durable) = (&state.active, state.durable);
        let end = if durable.log == active.log { durable.offset } else { 0 };
        // Before the old ones: a log that a rotation closes meanwhile is met twice, and not missed.
        let in_active = Around::of(active.log, end, active.records, active.seqs, at);
        drop(state);
        let Some(Around { log, end, dense: false }) = in_active.or_else(|| self.retention.around(at)) else {
            return Ok(());
        };
        match self.record_at(log, end, at) {
            Ok(Some(record)) if covers(record, at) => Err(Error::InsideRecord { given, record }),
            Ok(_) => Ok(()),
            // It was deleted meanwhile, and so nothing keeps it.
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The first record of a log that covers `at` or a higher number; `None` if there is none before `end`, or what stands there is damaged, which
    /// whoever reads the records is told.
    fn record_at(&self, log: LogNumber, end: u64, at: SeqNum) -> Result<Option<SeqRange>> {
        let (storage, logs) = (&*self.storage, &[log][..]);
        let chain = Chain { storage, wal_id: self.wal_id, logs, epoch: Epoch::new(u64::MAX) };
        let Some(opened) = chain.open(log)? else { return Ok(None) };
        let place = seek(&opened, FollowFrom::Seq(at), end)?;
        let mut reader = opened.reader(place);
        reader.extend(end);
        loop {
            match reader.next()? {
                Item::Record(found) if found.head.seqs.last() < at => {}
                Item::Record(found) => return Ok(Some(found.head.seqs)),
                Item::Promise { .. } => {}
                Item::Seal { .. } | Item::Stop(_) => return Ok(None),
            }
        }
    }
}

/// Whether both `at` and the number before it are among these.
fn covers(seqs: SeqRange, at: SeqNum) -> bool {
    seqs.first() < at && at <= seqs.last()
}
