//! Records of several logs, one after the other, with bounded memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wal_format::control::Seal;
use wal_format::header::FileHeader;
use wal_format::record::{Families, Plain};
use wal_format::{FamilyId, Index, LogNumber, LogSeed, SeqNum};
use wal_io::Source;

use crate::error::Result;
use crate::evidence::look_behind;
use crate::read::{FoundRecord, Item, LogReader, Stop};
use crate::recovery::survey::{self, Walked};
use crate::report::Reason;

/// A log to read, from its first byte to `end`.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) log: LogNumber,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) seed: LogSeed,
    /// `None` in a salvage: whatever comes first.
    pub(crate) first_index: Option<Index>,
    pub(crate) seq_floor: SeqNum,
    pub(crate) end: u64,
    /// What the records must add up to at the end, if nobody has read them before, and where the file ends.
    pub(crate) sealed: Option<Sealed>,
}

/// What a seal says that was believed so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) at: u64,
    pub(crate) seal: Seal,
    /// Length of the file, in bytes.
    pub(crate) length: u64,
}

impl Part {
    /// A log of the chain up to `end`.
    pub(crate) fn of(walked: &Walked, end: u64) -> Self {
        Self::with_header(Arc::clone(&walked.source), walked.seed, &walked.header, end)
    }

    /// A log by its header.
    pub(crate) fn with_header(source: Arc<dyn Source>, seed: LogSeed, header: &FileHeader, end: u64) -> Self {
        let (first_index, seq_floor) = (Some(header.first_index), header.seq_floor);
        Self { log: header.log, source, seed, first_index, seq_floor, end, sealed: None }
    }

    /// A log of which only header and seal have been read.
    pub(crate) fn unread(walked: &Walked) -> Self {
        let sealed = walked.seal.map(|(at, seal)| Sealed { at, seal, length: walked.length });
        Self { sealed, ..Self::of(walked, walked.good_end) }
    }

    fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.source), self.seed, self.first_index, self.seq_floor, self.end)
    }
}

/// What a stream gives.
#[derive(Debug)]
pub(crate) enum Next {
    Record(LogNumber, FoundRecord),
    /// A part ends before its `end`: it was whole when it was surveyed.
    Changed(LogNumber, u64, Reason),
    End,
}

/// Reads parts in order.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    parts: Arc<[Part]>,
    salvage: Option<Salvage>,
}

/// Where salvage begins to skip damage: everything before is a prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Salvage {
    /// Index after the prefix.
    pub(crate) next_index: Index,
    /// Sequence number after the prefix.
    pub(crate) seq_floor: SeqNum,
}

impl Stream {
    /// Reads `parts` in order; with `salvage`, goes on at the next block behind a fault, and hands out only what grows.
    pub(crate) fn new(parts: Vec<Part>, salvage: Option<Salvage>) -> Self {
        Self { parts: parts.into(), salvage }
    }

    /// What it reads, in order.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Each part by itself, if they can be read in any order: a salvage looks at what came before.
    pub(crate) fn split(&self) -> Option<Vec<Self>> {
        let one = |part: &Part| Self::new(vec![part.clone()], None);
        self.salvage.is_none().then(|| self.parts.iter().map(one).collect())
    }

    /// Begins at the first part.
    pub(crate) fn read(&self) -> Reading {
        Reading {
            stream: self.clone(),
            part: 0,
            log: LogNumber::default(),
            reader: None,
            salvage: self.salvage,
            families: FamiliesSeen::default(),
            learned: Vec::new(),
        }
    }
}

/// A stream being read.
#[derive(Debug)]
pub(crate) struct Reading {
    stream: Stream,
    part: usize,
    /// The log that is being read.
    log: LogNumber,
    reader: Option<LogReader>,
    salvage: Option<Salvage>,
    /// The families of the log that is being read.
    families: FamiliesSeen,
    /// Those of the logs before it.
    learned: Vec<(LogNumber, BTreeMap<FamilyId, SeqNum>)>,
}

impl Reading {
    /// The families of each log that was read to its end.
    pub(crate) fn take_learned(&mut self) -> Vec<(LogNumber, BTreeMap<FamilyId, SeqNum>)> {
        std::mem::take(&mut self.learned)
    }

    /// How far the log that is being read has been read, in bytes.
    pub(crate) fn place(&self) -> (LogNumber, u64) {
        (self.log, self.reader.as_ref().map_or(0, LogReader::good_end))
    }

    /// The families of the record that came last.
    #[inline]
    pub(crate) fn families(&self) -> Families<'_> {
        self.reader.as_ref().map_or(Families::DEFAULT, LogReader::families)
    }

    /// The payload of the record that came last.
    #[inline]
    pub(crate) fn payload(&self) -> Bytes {
        self.reader.as_ref().map(LogReader::payload).unwrap_or_default()
    }

    /// The payload of the record that [`Reading::plain_record`] has just given, where it was read.
    #[inline]
    pub(crate) fn plain_payload(&self) -> &[u8] {
        self.reader.as_ref().map(LogReader::plain_payload).unwrap_or_default()
    }

    /// The next record and where it begins, if it is plain and that needs neither a read nor a thought; `None` says nothing.
    #[inline(always)]
    pub(crate) fn plain_record(&mut self) -> Option<(LogNumber, u64, Plain)> {
        if self.salvage.is_some() {
            return None;
        }
        let (offset, plain) = self.reader.as_mut()?.plain_record()?;
        if !seeded_bug!(ShortCutForgetsFamilies) {
            self.families.default = Some(plain.seqs.last());
        }
        Some((self.log, offset, plain))
    }

    /// What comes next; after [`Next::End`] and [`Next::Changed`], nothing.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn next(&mut self) -> Result<Next> {
        while let Some(part) = self.stream.parts.get(self.part) {
            let (log, end) = (part.log, part.end);
            self.log = log;
            let reader = self.reader.get_or_insert_with(|| part.reader());
            let item = reader.next()?;
            let good_end = reader.good_end();
            match item {
                Item::Record(record) if grows(&mut self.salvage, &record) => {
                    self.families.note(reader.families(), record.head.seqs.last());
                    return Ok(Next::Record(log, record));
                }
                Item::Record(_) | Item::Promise { .. } => {}
                Item::Stop(Stop::Fault(_)) if self.salvage.is_some() => {
                    if !reader.resync()? {
                        self.next_part();
                    }
                }
                Item::Stop(Stop::Fault(reason)) => return Ok(self.changed(log, good_end, reason)),
                Item::Stop(Stop::AtEnd | Stop::EndOfFile) | Item::Seal { .. } => {
                    if self.salvage.is_none() && good_end < end {
                        let reason = Reason::Short { expected: end, found: good_end };
                        return Ok(self.changed(log, good_end, reason));
                    }
                    if let Some(reason) = disagreement(part, reader)? {
                        return Ok(self.changed(log, good_end, reason));
                    }
                    let families = std::mem::take(&mut self.families).into_map();
                    self.learned.push((log, families));
                    self.next_part();
                }
            }
        }
        Ok(Next::End)
    }

    fn changed(&mut self, log: LogNumber, at: u64, reason: Reason) -> Next {
        self.part = usize::MAX;
        // What may stand behind is not read any more.
        self.reader = None;
        Next::Changed(log, at, reason)
    }

    fn next_part(&mut self) {
        let too_far = seeded_bug!(ReplaySkipsALog) && self.part == 0 && self.stream.parts.len() > 2;
        self.part = self.part.saturating_add(1 + usize::from(too_far));
        self.reader = None;
    }
}

/// What the records of a log that ends here say against its seal, which was believed before they were read.
fn disagreement(part: &Part, reader: &LogReader) -> Result<Option<Reason>> {
    let sealed = part.sealed.filter(|_| !seeded_bug!(SealBelievedUnread));
    let Some(Sealed { at, seal, length }) = sealed else { return Ok(None) };
    let found = Seal {
        records: reader.records(),
        next_index: reader.next_index(),
        seqs: reader.seqs(),
        digest: reader.good_digest().get(),
    };
    if seal != found || reader.good_end() != part.end {
        return Ok(Some(Reason::OtherContent));
    }
    let end = survey::seal_end(at);
    let behind = look_behind(&*part.source, &part.seed, end, length)?.nonzero_end > end;
    Ok(behind.then_some(Reason::BehindSeal))
}

/// The families of the records of one log, each with its highest sequence number. The default one, which most engines use most, has a place of
/// its own.
#[derive(Debug, Default)]
struct FamiliesSeen {
    default: Option<SeqNum>,
    others: BTreeMap<FamilyId, SeqNum>,
}

impl FamiliesSeen {
    #[inline]
    fn note(&mut self, families: Families<'_>, last: SeqNum) {
        if families.is_default() {
            self.default = Some(last);
        } else {
            self.note_several(families, last);
        }
    }

    #[cold]
    fn note_several(&mut self, families: Families<'_>, last: SeqNum) {
        for family in families {
            if family == FamilyId::DEFAULT {
                self.default = Some(last);
            } else {
                self.others.insert(family, last);
            }
        }
    }

    fn into_map(self) -> BTreeMap<FamilyId, SeqNum> {
        let mut families = self.others;
        families.extend(self.default.map(|last| (FamilyId::DEFAULT, last)));
        families
    }
}

/// In a salvage only what goes on counts: a copy of a record that a recovery wrote again is not handed out twice.
fn grows(salvage: &mut Option<Salvage>, record: &FoundRecord) -> bool {
    let Some(salvage) = salvage else { return true };
    let grows = record.head.index >= salvage.next_index && record.head.seqs.first() >= salvage.seq_floor;
    if grows {
        salvage.next_index = record.head.index.next().unwrap_or(record.head.index);
        salvage.seq_floor = record.head.seqs.last().next().unwrap_or(record.head.seqs.last());
    }
    grows
}
