//! Rule RC3: the new log with the unproven tail, made durable, and the one CHECKPOINT update that commits to it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tracing::warn;
use wal_format::encode::LogEncoder;
use wal_format::{Epoch, FamilyId, FileHeader, Index, LogNumber, LogSeed, SeqNum, SeqRange};
use wal_io::{IoError, Sink, Storage};

use crate::checkpoint::CheckpointFile;
use crate::clock::micros;
use crate::error::{Error, Result};
use crate::image::copy_bytes;
use crate::names;
use crate::options::Options;
use crate::read::FoundRecord;
use crate::record::Position;
use crate::recovery::decide::Plan;
use crate::recovery::stream::{Next, Part, Reading, Salvage, Stream};
use crate::recovery::{RecoveryMode, survey};
use crate::report::{LogReport, LogVerdict, RecoveryReport};
use crate::state::unit_for;

/// Bytes of the tail that are gathered before a write.
const COPY_BYTES: usize = 1 << 20;

/// The log that recovery began and the writer goes on with.
#[derive(Debug)]
pub(crate) struct NewLog {
    pub(crate) header: FileHeader,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) encoder: LogEncoder,
    pub(crate) records: u64,
    pub(crate) seqs: Option<SeqRange>,
    pub(crate) families: BTreeMap<FamilyId, SeqNum>,
}

/// A live log before the new one.
#[derive(Clone, Debug)]
pub(crate) struct OldLog {
    pub(crate) log: LogNumber,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) seqs: Option<SeqRange>,
    pub(crate) families: BTreeMap<FamilyId, SeqNum>,
    /// Nobody has read it, and its families are not known: all of it is flushed.
    pub(crate) skipped: bool,
    pub(crate) created_micros: u64,
    /// Whether its seal is known to be durable.
    pub(crate) sealed: bool,
}

/// What recovery hands over.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) new_log: NewLog,
    pub(crate) old_logs: Vec<OldLog>,
    /// What replay reads.
    pub(crate) read: Vec<Part>,
    pub(crate) next_index: Index,
    pub(crate) seq_floor: SeqNum,
    /// No record with a lower sequence number is left.
    pub(crate) oldest_seq: SeqNum,
    /// Files that could not be removed yet.
    pub(crate) unlink_later: Vec<String>,
}

/// Does it.
///
/// # Errors
/// The system failed; the directory is as it was, but for a leftover that the next recovery recognises.
pub(crate) fn commit(
    storage: &Arc<dyn Storage>,
    checkpoint: &CheckpointFile,
    options: &Options,
    plan: Plan,
    report: &mut RecoveryReport,
) -> Result<Committed> {
    let content = checkpoint.content();
    let epoch = content.epoch.next().ok_or(Error::Exhausted("epoch"))?;
    // INVARIANT: RC2. One more than the highest on the disk and in CHECKPOINT; never a prepared file.
    let highest = if seeded_bug!(LeftoverReused) { content.highest } else { plan.highest };
    let log = highest.next().ok_or(Error::Exhausted("log"))?;
    let mut plan = plan;
    if seeded_bug!(ContinuesFromCheckpoint) {
        plan.proven.next_index = content.next_index;
    }
    let salvage = options.mode == RecoveryMode::Salvage && !plan.findings.is_empty();
    quarantine(&**storage, &plan, epoch, report)?;

    let mut header =
        FileHeader::new(content.wal_id, log, epoch, plan.proven.next_index, plan.proven.seq_floor);
    header.predecessor = plan.proven.link;
    header.config_fingerprint = options.config_fingerprint.max(content.config_fingerprint);
    header.created_micros = micros(options.clock.wall());
    let mut copy = Copy::begin(&**storage, header)?;
    remove_leftovers(&**storage, &plan, report)?;
    // The unproven tail, with the same indices. A log of which everything is proven is not read again.
    let unproven = plan.prefix.iter().filter(|log| log.next_index > plan.proven.next_index);
    let tail = unproven.map(|log| Part::of(log, log.good_end)).collect();
    copy.all(&Stream::new(tail, None), plan.proven.next_index, None)?;
    if salvage {
        let behind = survey_again(&**storage, &content, &plan)?;
        let from = Salvage { next_index: copy.next_index, seq_floor: copy.seq_floor };
        let expected = copy.all(&Stream::new(behind, Some(from)), copy.next_index, Some(report))?;
        if expected < content.next_index {
            report.holes.push((expected.get(), content.next_index.get() - 1));
        }
    }
    if seeded_bug!(EpochBeforeNewLog) {
        let index = before(copy.next_index);
        let end = Position { log, offset: copy.encoder.offset(), index };
        checkpoint.update(
            || (end, plan.seq_floor),
            |content| {
                content.epoch = epoch;
                content.highest = log;
            },
        )?;
    }
    if seeded_bug!(RemovesBeforeCommit) {
        remove(&**storage, &plan, report);
    }
    if options.pad_groups && !seeded_bug!(HeaderNotPadded) {
        // The first group must not touch what this sync covers.
        copy.encoder.filler(&mut copy.buffer, unit_for(&*copy.sink));
    }
    copy.write()?;
    // ORDER: RC3. The new log is durable, bytes and name, before CHECKPOINT knows of its epoch: a crash before leaves a leftover that
    // is removed, a crash after leaves a whole log.
    if !seeded_bug!(NewLogNotSynced) {
        copy.sink.sync_all()?;
    }
    if !seeded_bug!(NewLogNameNotSynced) {
        storage.sync_dir()?;
    }

    let end = Position { log, offset: copy.encoder.offset(), index: before(copy.next_index) };
    let live: Vec<&survey::Walked> = plan.prefix.iter().filter(|old| is_live(&plan, old.log)).collect();
    // A seal that can be read may be in the cache only: what CHECKPOINT did not know to be sealed, it does not learn here.
    let damaged = |log| plan.findings.iter().any(|finding| finding.log == log);
    let sealed = live.iter().take_while(|old| old.seal.is_some() && !damaged(old.log)).last();
    let sealed_through = sealed.map_or(LogNumber::default(), |old| old.log).min(content.sealed_through);
    let mut old_logs: Vec<OldLog> = live.iter().map(|old| OldLog::of(old, sealed_through)).collect();
    let mut read: Vec<Part> = live.iter().map(|old| Part::of(old, old.good_end)).collect();
    if let (Some(part), Some(old), Some(walked), Some(link)) =
        (read.last_mut(), old_logs.last_mut(), live.last(), plan.proven.link)
    {
        // The rest of it stands in the new log, and is that one's to keep until it is flushed.
        part.end = link.end;
        if walked.next_index > plan.proven.next_index {
            old.count_again(part)?;
        }
    }
    let lowest = live.first().map_or(log, |old| old.log);
    let seq_floor = plan.seq_floor.max(copy.seq_floor);
    // ORDER: RC3, CK3. Both slots are durable before an unproven record is handed out, anything is appended or promised, or any file is
    // removed: the recovery that comes after a crash decides as this one did, or goes on from what this one made durable.
    checkpoint.update(
        || (end, seq_floor),
        |content| {
            content.epoch = epoch;
            content.highest = log;
            content.lowest = lowest;
            if !seeded_bug!(CleanEndOutlivesTheOpen) {
                content.clean_end = None;
            }
            if seeded_bug!(HoldsForgotten) {
                content.holds.clear();
            }
            content.sealed_through = sealed_through;
            content.config_fingerprint = header.config_fingerprint;
        },
    )?;

    let unlink_later = remove(&**storage, &plan, report);
    report.new_log = Some(log);
    report.epoch = epoch;
    report.rewritten_records = copy.records;
    report.next_index = copy.next_index;
    report.records = plan.proven.next_index.get().saturating_sub(report.first_index.get()) + copy.records;
    let source = storage.open_source(&names::log_name(log))?;
    read.push(Part::with_header(source, copy.seed, &header, copy.encoder.offset()));
    let Copy { sink, encoder, next_index, records, seqs, families, .. } = copy;
    let new_log = NewLog { header, sink, encoder, records, seqs, families };
    let oldest_seq = read.first().map_or(seq_floor, |part| part.seq_floor);
    Ok(Committed { new_log, old_logs, read, next_index, seq_floor, oldest_seq, unlink_later })
}

/// Whether a log stays on the chain: it holds the last proven byte, or lies before it.
fn is_live(plan: &Plan, log: LogNumber) -> bool {
    plan.proven.link.is_some_and(|link| log <= link.log)
}

fn before(next: Index) -> Index {
    Index::new(next.get().saturating_sub(1))
}

impl OldLog {
    fn of(walked: &survey::Walked, sealed_through: LogNumber) -> Self {
        Self {
            log: walked.log,
            bytes: walked.length,
            records: walked.records,
            seqs: walked.seqs,
            families: walked.families.clone(),
            skipped: walked.skipped,
            created_micros: walked.header.created_micros,
            sealed: walked.log <= sealed_through,
        }
    }
}

impl OldLog {
    /// Counts only what stands in `part`.
    fn count_again(&mut self, part: &Part) -> Result<()> {
        (self.records, self.seqs) = (0, None);
        self.families.clear();
        let mut reading = Stream::new(vec![part.clone()], None).read();
        loop {
            match reading.next()? {
                Next::Record(_, record) => {
                    let seqs = record.head.seqs;
                    self.records += 1;
                    self.seqs = Some(self.seqs.map_or(seqs, |all| all.union(seqs)));
                    survey::note_families(&mut self.families, reading.families(), seqs.last());
                }
                Next::Changed(log, offset, reason) => {
                    return Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) });
                }
                Next::End => return Ok(()),
            }
        }
    }
}

/// A new log that takes records over.
struct Copy {
    sink: Arc<dyn Sink>,
    seed: LogSeed,
    encoder: LogEncoder,
    buffer: Vec<u8>,
    written: u64,
    next_index: Index,
    seq_floor: SeqNum,
    records: u64,
    seqs: Option<SeqRange>,
    families: BTreeMap<FamilyId, SeqNum>,
}

impl Copy {
    fn begin(storage: &dyn Storage, header: FileHeader) -> Result<Self> {
        let name = names::log_name(header.log);
        let created = storage.create(&name);
        let created =
            if seeded_bug!(LeftoverReused) { created.or_else(|_| storage.open_sink(&name)) } else { created };
        let sink = created?;
        let seed = LogSeed::new(header.wal_id, header.log);
        let mut encoder = LogEncoder::new(seed);
        let mut buffer = Vec::new();
        encoder.header(&mut buffer, &header);
        Ok(Self {
            sink,
            seed,
            encoder,
            buffer,
            written: 0,
            next_index: header.first_index,
            seq_floor: header.seq_floor,
            records: 0,
            seqs: None,
            families: BTreeMap::new(),
        })
    }

    /// Takes over everything in `stream` from index `from` on. For a salvage, `holes` gets what is missing, and records get new
    /// indices; otherwise they keep theirs. Returns the index after the last that was found.
    fn all(&mut self, stream: &Stream, from: Index, mut holes: Option<&mut RecoveryReport>) -> Result<Index> {
        let mut reading = stream.read();
        let mut expected = from;
        loop {
            match reading.next()? {
                Next::Record(_, record) if record.head.index < from => {}
                Next::Record(_, record) => {
                    let found = record.head.index;
                    if let Some(report) = &mut holes
                        && found > expected
                    {
                        report.holes.push((expected.get(), found.get() - 1));
                    }
                    expected = found.next().unwrap_or(found);
                    self.record(record, &reading)?;
                }
                Next::Changed(log, offset, reason) => {
                    return Err(Error::ChangedWhileReading { log, offset, reason: Box::new(reason) });
                }
                Next::End => return Ok(expected),
            }
        }
    }

    fn record(&mut self, record: FoundRecord, reading: &Reading) -> Result<()> {
        let mut head = record.head;
        head.index = self.next_index;
        let families: Vec<FamilyId> = reading.families().collect();
        self.encoder.record(&mut self.buffer, &head, &families, &reading.payload());
        self.next_index = head.index.next().ok_or(Error::Exhausted("index"))?;
        self.seq_floor = head.seqs.last().next().unwrap_or(head.seqs.last());
        self.records += 1;
        self.seqs = Some(self.seqs.map_or(head.seqs, |seqs| seqs.union(head.seqs)));
        survey::note_families(&mut self.families, reading.families(), head.seqs.last());
        if self.buffer.len() >= COPY_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.sink.write_at(self.written, &self.buffer)?;
        self.written = self.encoder.offset();
        self.buffer.clear();
        Ok(())
    }
}

/// Everything that may hold records behind the prefix, for a salvage: logs of the chain, and logs whose header is gone.
pub(crate) fn survey_again(
    storage: &dyn Storage,
    content: &wal_format::checkpoint::Checkpoint,
    plan: &Plan,
) -> Result<Vec<Part>> {
    let wanted = |verdict| matches!(verdict, LogVerdict::Clean | LogVerdict::TornTail | LogVerdict::Damaged);
    let mut parts = Vec::new();
    for report in plan.reports.iter().filter(|report| wanted(report.verdict)) {
        let file = survey::open_log(storage, content, report.log)?;
        let end = file.length;
        let seq_floor = SeqNum::default();
        parts.push(Part {
            log: file.log,
            source: file.source,
            seed: file.seed,
            first_index: None,
            seq_floor,
            end,
            sealed: None,
        });
    }
    Ok(parts)
}

/// Copies each log that is damaged, or that lies behind the damage, before anything is decided for good: afterwards nobody needs it, and one
/// day it is removed.
fn quarantine(storage: &dyn Storage, plan: &Plan, epoch: Epoch, report: &mut RecoveryReport) -> Result<()> {
    let damaged = |log| plan.findings.iter().any(|finding| finding.log == log);
    let kept =
        plan.reports.iter().filter(|report| !plan.findings.is_empty() && !holds_nothing(report.verdict));
    for log in kept.map(|report| report.log).filter(|log| damaged(*log) || !is_live(plan, *log)) {
        let source = match storage.open_source(&names::log_name(log)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        let name = names::quarantine_name(log, epoch.get());
        unlink_if_there(storage, &name)?;
        let sink = storage.create(&name)?;
        copy_bytes(&*source, &*sink, source.length()?)?;
        // ORDER: V4. The copy is durable before CHECKPOINT ends the chain before the damage: from then on the log may be removed.
        sink.sync_all()?;
        storage.sync_dir()?;
        report.quarantined.push(name);
    }
    Ok(())
}

/// Whether nobody will miss a log of this verdict.
fn holds_nothing(verdict: LogVerdict) -> bool {
    matches!(
        verdict,
        LogVerdict::Prepared
            | LogVerdict::Leftover
            | LogVerdict::Deleted
            | LogVerdict::Abandoned
            | LogVerdict::Missing
    )
}

/// Removes what recoveries left that died, before this one writes: attempt after attempt would fill the disk (decision 0018).
fn remove_leftovers(storage: &dyn Storage, plan: &Plan, report: &mut RecoveryReport) -> Result<()> {
    let leftover = |log: &&LogReport| log.verdict == LogVerdict::Leftover && !seeded_bug!(LeftoverReused);
    let mut leftovers = plan.reports.iter().filter(leftover).peekable();
    if leftovers.peek().is_some() {
        // ORDER: RC2, RC6. The new log's name is durable before a lower one goes, so that no crash makes a number free that held bytes.
        storage.sync_dir()?;
    }
    for log in leftovers {
        let name = names::log_name(log.log);
        match storage.unlink(&name) {
            Ok(()) => report.removed.push(name),
            // The others are tried again after the commit.
            Err(error) => note(&error),
        }
    }
    Ok(())
}

/// Removes what is not live any more, after the commit. What cannot be removed is tried again later; it does no harm.
fn remove(storage: &dyn Storage, plan: &Plan, report: &mut RecoveryReport) -> Vec<String> {
    let (mut later, mut removed) = (Vec::new(), false);
    for log in &plan.reports {
        let name = names::log_name(log.log);
        if seeded_bug!(LeftoverReused) && log.verdict == LogVerdict::Leftover {
            continue;
        }
        let live = is_live(plan, log.log) && !holds_nothing(log.verdict);
        if live || log.verdict == LogVerdict::Missing || report.removed.contains(&name) {
            continue;
        }
        // ORDER: RC3. Only now is anything removed that held a record: it stands in the new log, or aside, and CHECKPOINT knows of it.
        match storage.unlink(&name) {
            Ok(()) => {
                removed = true;
                report.removed.push(name);
            }
            Err(error) => {
                note(&error);
                later.push(name);
            }
        }
    }
    // Names that come back after a crash are removed by the next recovery, so a failure here harms nobody.
    if removed && let Err(error) = storage.sync_dir() {
        note(&error);
    }
    later
}

fn note(error: &IoError) {
    warn!(%error, "wal.remove_failed");
}

fn unlink_if_there(storage: &dyn Storage, name: &str) -> Result<()> {
    match storage.unlink(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
