//! What to believe: from the directory to the live chain, its verdicts, and the place up to which everything is proven.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use wal_format::checkpoint::Checkpoint;
use wal_format::header::Predecessor;
use wal_format::{FileHeader, Index, LogNumber, SeqNum};
use wal_io::Storage;

use crate::error::{Error, Result};
use crate::names;
use crate::read::{Item, LogReader, look_behind};
use crate::recovery::progress::Meter;
use crate::recovery::survey::{self, Listing, LogFile, Walked};
use crate::recovery::table::{Facts, Header, Place, Walk, verdict};
use crate::report::{Finding, LogReport, LogVerdict, Proof, Reason};

/// Most missing logs that are listed one by one.
const MISSING_LISTED_MAX: usize = 64;

/// The decision.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every log, lowest number first.
    pub(crate) reports: Vec<LogReport>,
    /// What is damaged, in the order of replay.
    pub(crate) findings: Vec<Finding>,
    /// What can be read without a hole, oldest first, each log up to its `good_end`.
    pub(crate) prefix: Vec<Walked>,
    /// Where everything before is proven.
    pub(crate) proven: Proven,
    /// Index after the last record of the prefix.
    pub(crate) next_index: Index,
    /// No later sequence number is below this.
    pub(crate) seq_floor: SeqNum,
    /// Unacknowledged bytes that are cut off.
    pub(crate) cut_bytes: u64,
    /// Highest number on the disk or in CHECKPOINT.
    pub(crate) highest: LogNumber,
    /// Other names in the directory.
    pub(crate) others: Vec<String>,
    /// A file of another write-ahead log, or of a newer version: nothing is done then, in any mode.
    pub(crate) refusal: Option<Error>,
}

/// The last proven place (rule RC2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    /// The log that holds it, as the next log's header will name it; `None` if nothing is proven.
    pub(crate) link: Option<Predecessor>,
    /// Index after the last proven record.
    pub(crate) next_index: Index,
    /// Lowest sequence number that may follow there.
    pub(crate) seq_floor: SeqNum,
}

/// One number on the way back from the newest log.
enum Link {
    Log(Box<Walked>),
    /// A log whose header is gone, though it must have been there.
    Broken(LogNumber),
}

/// The numbers of the live chain, newest first, and what was cut off above it.
struct Chain {
    links: Vec<(LogNumber, bool)>,
    /// Logs above a header that never became durable, and that log.
    cut: Vec<(LogNumber, LogNumber)>,
}

/// Decides.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn decide(
    storage: &dyn Storage,
    checkpoint: &Checkpoint,
    listing: Listing,
    meter: &Meter,
) -> Result<Plan> {
    let mut files = BTreeMap::new();
    for &log in &listing.logs {
        let file = survey::open_log(storage, checkpoint, log)?;
        meter.expect(if log < checkpoint.lowest { 0 } else { file.length });
        files.insert(log, file);
    }
    let refusal = refusal(storage, &files);
    let chain = chain(checkpoint, &files)?;
    let mut judge = Judge { storage, checkpoint, reports: Vec::new(), findings: Vec::new(), cut_bytes: 0 };

    let links = read_links(&chain, &mut files, meter)?;
    let (prefix, proven_ends) = judge.chain(links);
    judge.cut(&chain, &files);
    judge.elsewhere(&chain, &files);

    let proven = proven(checkpoint, &prefix, &proven_ends)?;
    let next_index = prefix.last().map_or(proven.next_index, |log| log.next_index);
    if judge.findings.is_empty() && next_index < checkpoint.next_index {
        // Whole logs are gone, and no file is left to tell.
        let reason = Reason::BehindCheckpoint { expected: checkpoint.next_index, found: next_index };
        judge.finding(checkpoint.active, 0, reason, Some(Proof::Checkpoint));
    }
    let flushed = checkpoint.flushed.values().filter_map(|seq| seq.next()).max();
    let read = prefix.last().map(|log| log.seq_floor);
    let seq_floor = [Some(checkpoint.seq_floor), flushed, read].into_iter().flatten().max().unwrap_or_default();
    judge.reports.sort_by_key(|report| report.log);
    Ok(Plan {
        findings: judge.findings,
        reports: judge.reports,
        prefix,
        proven,
        next_index,
        seq_floor,
        cut_bytes: judge.cut_bytes,
        highest: listing.logs.last().copied().unwrap_or_default().max(checkpoint.highest),
        others: listing.others,
        refusal,
    })
}

/// The error for a file that must not be touched in any mode.
fn refusal(storage: &dyn Storage, files: &BTreeMap<LogNumber, LogFile>) -> Option<Error> {
    files.values().find_map(|file| {
        let path = storage.path().join(names::log_name(file.log));
        match file.fault {
            Some(Reason::Foreign { expected, found }) => Some(Error::Foreign { path, expected, found }),
            Some(Reason::Header(wal_format::header::HeaderFault::NewerFormat { version, .. })) => {
                Some(Error::NewerFormat { path, version })
            }
            _ => None,
        }
    })
}

/// Walks back from the newest log whose epoch CHECKPOINT knows (rule RC1).
fn chain(checkpoint: &Checkpoint, files: &BTreeMap<LogNumber, LogFile>) -> Result<Chain> {
    let known = |below: u64| {
        let mut range = files.range(checkpoint.lowest..).rev();
        range.find(|(log, file)| log.get() < below && file.kind == Header::Known).map(|(log, _)| *log)
    };
    let mut chain = Chain { links: Vec::new(), cut: Vec::new() };
    let mut cursor = known(u64::MAX);
    while let Some(log) = cursor {
        chain.links.push((log, true));
        let header = files.get(&log).and_then(|file| file.header);
        let before = header.and_then(|header| header.predecessor).map(|before| before.log);
        let Some(before) = before.filter(|before| *before >= checkpoint.lowest) else { break };
        if files.get(&before).is_some_and(|file| file.kind == Header::Known) {
            cursor = Some(before);
            continue;
        }
        if !files.contains_key(&before) || proven_above(checkpoint, files, &chain, before)? {
            chain.links.push((before, false));
        } else {
            // RC1: the link breaks where nothing is proven. That log and all above it are cut.
            let above = chain.links.drain(..).map(|(log, _)| log);
            chain.cut.extend(above.chain([before]).map(|log| (log, before)));
        }
        cursor = known(before.get());
    }
    Ok(chain)
}

/// Whether anything proves that log `broken`, or a log of the chain above it, was synced.
fn proven_above(
    checkpoint: &Checkpoint,
    files: &BTreeMap<LogNumber, LogFile>,
    chain: &Chain,
    broken: LogNumber,
) -> Result<bool> {
    if checkpoint.active >= broken || checkpoint.sealed_through >= broken {
        return Ok(true);
    }
    if files.get(&broken).is_some_and(|file| file.behind.has_statement() || file.kind != Header::Blank && file.kind != Header::Damaged) {
        return Ok(true);
    }
    for file in chain.links.iter().filter_map(|(log, _)| files.get(log)) {
        let proven = file.header.and_then(|header| header.predecessor).is_some_and(|before| before.proven > 0);
        if proven || look_behind(&*file.source, &file.seed, 0, file.length)?.has_statement() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the logs of the chain, newest first.
fn read_links(chain: &Chain, files: &mut BTreeMap<LogNumber, LogFile>, meter: &Meter) -> Result<Vec<Link>> {
    let mut links = Vec::with_capacity(chain.links.len());
    let mut successor: Option<FileHeader> = None;
    for &(log, known) in &chain.links {
        let file = if known { files.remove(&log) } else { None };
        let opened = file.and_then(|file| file.header.map(|header| (file, header)));
        let Some((file, header)) = opened else {
            links.push(Link::Broken(log));
            successor = None;
            continue;
        };
        let end = successor.and_then(|next| next.predecessor).map(|before| before.end);
        let walked = survey::walk(file, header, end, meter)?;
        successor = Some(walked.header);
        links.push(Link::Log(Box::new(walked)));
    }
    // A broken link's file stays in `files`, for its report.
    Ok(links)
}

/// Collects verdicts.
struct Judge<'a> {
    storage: &'a dyn Storage,
    checkpoint: &'a Checkpoint,
    reports: Vec<LogReport>,
    findings: Vec<Finding>,
    cut_bytes: u64,
}

/// What is known about a log of the chain besides what stands in it.
struct Context {
    /// A later log that was written only after everything here was synced.
    later: Option<LogNumber>,
    successor: Option<FileHeader>,
}

impl Judge<'_> {
    /// Judges the chain, given newest first. Returns what can be read without a hole, oldest first, and how far each is proven.
    fn chain(&mut self, links: Vec<Link>) -> (Vec<Walked>, Vec<u64>) {
        let contexts = contexts(&links);
        let mut prefix = Vec::new();
        let mut proven_ends = Vec::new();
        let mut torn_at = None;
        let mut stopped = false;
        let newest = links.iter().find_map(|link| match link {
            Link::Log(walked) => Some(walked.log),
            Link::Broken(_) => None,
        });
        for (link, context) in links.into_iter().zip(contexts).rev() {
            let walked = match link {
                Link::Log(walked) => walked,
                Link::Broken(log) => {
                    // Judged with the files that are not part of the chain: its own file tells what is left of it.
                    stopped = true;
                    self.finding_for_broken(log);
                    continue;
                }
            };
            if let Some(torn) = torn_at {
                self.behind_torn(&walked, torn);
                continue;
            }
            let (found, proof, reason) = self.walked(&walked, &context, Some(walked.log) == newest);
            let damaged = found == LogVerdict::Damaged;
            if damaged && let Some(reason) = reason.clone() {
                self.finding(walked.log, walked.good_end, reason, proof);
            }
            self.report_walked(&walked, found, reason, proof);
            if found == LogVerdict::TornTail {
                torn_at = Some(walked.log);
            }
            if !stopped {
                // What is damaged further on was synced, so everything up to the damage was too.
                let end = if damaged { walked.good_end } else { self.proven_end(&walked, &context) };
                proven_ends.push(end);
                prefix.push(*walked);
            }
            stopped |= damaged;
        }
        (prefix, proven_ends)
    }

    /// How far a log is proven to have been synced (rule PR2, PR4).
    fn proven_end(&self, walked: &Walked, context: &Context) -> u64 {
        let sealed = walked.seal.is_some() || self.checkpoint.sealed_through >= walked.log;
        if context.later.is_some() || sealed || self.checkpoint.active > walked.log {
            return walked.good_end;
        }
        let promised = walked.promise.map_or(0, |(_, promise)| promise.durable_end);
        let stated = context.successor.and_then(|next| next.predecessor).map_or(0, |before| before.proven);
        promised.max(stated).min(walked.good_end)
    }

    /// What proves that a log went on behind the place where reading it stops.
    fn proof(&self, walked: &Walked, context: &Context) -> Option<Proof> {
        let stated = context.successor.filter(|next| {
            next.predecessor.is_some_and(|before| before.proven > walked.good_end)
        });
        let promise = walked.promise.filter(|(_, promise)| promise.durable_end > walked.good_end);
        let checkpoint = self.checkpoint;
        let recorded = checkpoint.active > walked.log
            || checkpoint.sealed_through >= walked.log
            || checkpoint.next_index > walked.next_index
            || checkpoint.clean_end.is_some_and(|clean| clean.log == walked.log);
        promise
            .map(|(at, promise)| Proof::Promise { at, durable_end: promise.durable_end })
            .or(walked.late_seal.map(|at| Proof::Seal { at }))
            .or(stated.map(|next| Proof::LaterLog(next.log)))
            .or(context.later.map(Proof::LaterLog))
            .or(recorded.then_some(Proof::Checkpoint))
    }

    fn walked(&self, walked: &Walked, context: &Context, newest: bool) -> (LogVerdict, Option<Proof>, Option<Reason>) {
        let checkpoint = self.checkpoint;
        let clean = checkpoint.clean_end.filter(|clean| clean.log == walked.log);
        let expected_end = walked.end.or(clean.map(|clean| clean.end));
        let before = context.successor.and_then(|next| next.predecessor);
        let other_content = before.is_some_and(|before| before.digest != walked.digest.get())
            || context.successor.is_some_and(|next| next.first_index != walked.next_index)
            || clean.is_some_and(|clean| clean.next_index != walked.next_index);
        let behind_checkpoint = newest && walked.next_index < checkpoint.next_index;
        let short = expected_end.is_some_and(|end| walked.good_end < end) || behind_checkpoint;
        let (walk, mut reason) = match &walked.fault {
            Some(fault) => (Walk::Short, Some(fault.clone())),
            None if short => {
                let shorter = expected_end.filter(|end| walked.good_end < *end);
                let reason = match shorter {
                    Some(expected) => Reason::Short { expected, found: walked.good_end },
                    None => Reason::BehindCheckpoint { expected: checkpoint.next_index, found: walked.next_index },
                };
                (Walk::Short, Some(reason))
            }
            None if other_content || expected_end.is_some_and(|end| walked.good_end > end) => {
                (Walk::Contradiction, Some(Reason::OtherContent))
            }
            None => (Walk::Whole, None),
        };
        let must_be_sealed = checkpoint.sealed_through >= walked.log || clean.is_some();
        let seal_as_known = (walked.seal.is_some() || !must_be_sealed) && !walked.behind_seal;
        let proof = self.proof(walked, context).filter(|_| walk != Walk::Whole);
        let facts = Facts {
            place: Place::Chain,
            header: Header::Known,
            proof: proof.is_some(),
            walk,
            seal_as_known,
        };
        if walk == Walk::Whole && !seal_as_known {
            reason = Some(if walked.behind_seal { Reason::BehindSeal } else { Reason::SealMissing });
            return (verdict(&facts), must_be_sealed.then_some(Proof::Checkpoint), reason);
        }
        // CHECKPOINT says the newest log was closed cleanly, and yet there is a newer one.
        let stale = newest && checkpoint.clean_end.is_some_and(|clean| clean.log < walked.log);
        if stale {
            return (LogVerdict::Damaged, Some(Proof::LaterLog(walked.log)), Some(Reason::StaleCheckpoint));
        }
        (verdict(&facts), proof, reason)
    }

    /// A log of the chain above one that ends early. Nothing in it is proven, or the lower one would be damaged.
    fn behind_torn(&mut self, walked: &Walked, torn: LogNumber) {
        self.report_walked(walked, LogVerdict::TornTail, Some(Reason::BehindTorn(torn)), None);
        if let Some(report) = self.reports.last_mut() {
            report.cut_bytes = walked.length;
        }
        self.cut_bytes = self.cut_bytes.saturating_add(walked.length);
    }

    /// The logs above a header that never became durable.
    fn cut(&mut self, chain: &Chain, files: &BTreeMap<LogNumber, LogFile>) {
        for &(log, broken) in &chain.cut {
            let Some(file) = files.get(&log) else { continue };
            let place = if log == broken { Place::Chain } else { Place::Above };
            let facts =
                Facts { place, header: file.kind, proof: false, walk: Walk::Short, seal_as_known: true };
            let reason = if log == broken { file.fault.clone() } else { Some(Reason::BehindTorn(broken)) };
            self.report_file(file, verdict(&facts), reason, None);
        }
    }

    /// A log that the chain leads to and whose header is gone although it must have been there. Its file is reported in `elsewhere`.
    fn finding_for_broken(&mut self, log: LogNumber) {
        self.finding(log, 0, Reason::Missing, Some(Proof::Checkpoint));
    }

    /// Every number that is not on the chain.
    fn elsewhere(&mut self, chain: &Chain, files: &BTreeMap<LogNumber, LogFile>) {
        let lowest = self.checkpoint.lowest;
        let top = chain.links.first().map(|(log, _)| *log);
        let cut: Vec<LogNumber> = chain.cut.iter().map(|(log, _)| *log).collect();
        for file in files.values().filter(|file| !cut.contains(&file.log)) {
            let broken = chain.links.contains(&(file.log, false));
            let place = match top {
                _ if file.log < lowest => Place::Below,
                _ if broken => Place::Chain,
                Some(top) if file.log < top => Place::Jumped,
                _ => Place::Above,
            };
            self.file(file, place, broken);
        }
        self.missing(chain, files, top);
    }

    fn file(&mut self, file: &LogFile, place: Place, broken: bool) {
        let recorded = self.checkpoint.active >= file.log || self.checkpoint.sealed_through >= file.log;
        let known_number = file.log <= self.checkpoint.highest;
        let stated = file.behind.has_statement();
        let old_epoch = file.header.is_some_and(|header| header.epoch <= self.checkpoint.epoch);
        // An epoch that CHECKPOINT knows under a number that it does not know: CHECKPOINT was durable before that file was used.
        let beyond = file.kind == Header::Unknown && old_epoch && !known_number;
        let proof = broken || stated || beyond || (recorded && file.kind != Header::Unknown);
        let facts = Facts { place, header: file.kind, proof, walk: Walk::Short, seal_as_known: true };
        let found = verdict(&facts);
        let reason = match file.kind {
            Header::Unknown if found == LogVerdict::Damaged => Some(Reason::StaleCheckpoint),
            _ => file.fault.clone(),
        };
        let proof = match (file.behind.promise, file.behind.seal) {
            (Some((at, promise)), _) => Some(Proof::Promise { at, durable_end: promise.durable_end }),
            (None, Some((at, _))) => Some(Proof::Seal { at }),
            (None, None) => (recorded || broken).then_some(Proof::Checkpoint),
        };
        let damaged = matches!(found, LogVerdict::Damaged | LogVerdict::Foreign | LogVerdict::NewerFormat);
        if damaged && let Some(reason) = reason.clone() {
            // The chain said only that the log is gone; its file says more.
            self.findings.retain(|finding| finding.log != file.log);
            self.finding(file.log, 0, reason, proof);
        }
        self.report_file(file, found, reason, proof.filter(|_| damaged));
    }

    /// Numbers that should exist and do not (rule CK6).
    fn missing(&mut self, chain: &Chain, files: &BTreeMap<LogNumber, LogFile>, top: Option<LogNumber>) {
        let broken = chain.links.iter().filter(|(log, known)| !known && !files.contains_key(log));
        let mut missing: Vec<LogNumber> = broken.map(|(log, _)| *log).collect();
        let from = top.and_then(LogNumber::next).unwrap_or(self.checkpoint.lowest);
        let above = (from.get()..=self.checkpoint.highest.get()).map(LogNumber::new);
        let above = above.filter(|log| !files.contains_key(log));
        missing.extend(above.take(MISSING_LISTED_MAX));
        missing.sort_unstable();
        for log in missing {
            self.findings.retain(|finding| finding.log != log);
            self.finding(log, 0, Reason::Missing, Some(Proof::Checkpoint));
            let facts = Facts {
                place: Place::Above,
                header: Header::Absent,
                proof: true,
                walk: Walk::Short,
                seal_as_known: true,
            };
            let report = self.blank_report(log, verdict(&facts), Some(Reason::Missing), Some(Proof::Checkpoint));
            self.reports.push(report);
        }
    }

    fn finding(&mut self, log: LogNumber, offset: u64, reason: Reason, proof: Option<Proof>) {
        let path = self.path(log);
        self.findings.push(Finding { log, path, offset, reason, proof });
    }

    fn path(&self, log: LogNumber) -> PathBuf {
        self.storage.path().join(names::log_name(log))
    }

    fn blank_report(
        &self,
        log: LogNumber,
        verdict: LogVerdict,
        reason: Option<Reason>,
        proof: Option<Proof>,
    ) -> LogReport {
        LogReport {
            log,
            path: self.path(log),
            verdict,
            offset: 0,
            reason,
            proof,
            records: 0,
            bytes: 0,
            cut_bytes: 0,
            first_index: None,
            next_index: None,
            first_seq: None,
            last_seq: None,
            sealed: false,
            epoch: None,
        }
    }

    fn report_file(&mut self, file: &LogFile, verdict: LogVerdict, reason: Option<Reason>, proof: Option<Proof>) {
        let mut report = self.blank_report(file.log, verdict, reason, proof);
        report.bytes = file.length;
        report.epoch = file.header.map(|header| header.epoch);
        if verdict == LogVerdict::TornTail {
            report.cut_bytes = file.length;
            self.cut_bytes = self.cut_bytes.saturating_add(file.length);
        }
        self.reports.push(report);
    }

    fn report_walked(&mut self, walked: &Walked, verdict: LogVerdict, reason: Option<Reason>, proof: Option<Proof>) {
        let report = LogReport {
            offset: walked.good_end,
            records: walked.records,
            bytes: walked.length,
            cut_bytes: walked.nonzero_end.saturating_sub(walked.good_end),
            first_index: Some(walked.header.first_index),
            next_index: Some(walked.next_index),
            first_seq: walked.seqs.map(|seqs| seqs.first()),
            last_seq: walked.seqs.map(|seqs| seqs.last()),
            sealed: walked.seal.is_some(),
            epoch: Some(walked.header.epoch),
            ..self.blank_report(walked.log, verdict, reason, proof)
        };
        if verdict == LogVerdict::TornTail {
            self.cut_bytes = self.cut_bytes.saturating_add(report.cut_bytes);
        }
        self.reports.push(LogReport {
            cut_bytes: if matches!(verdict, LogVerdict::Clean) { 0 } else { report.cut_bytes },
            ..report
        });
    }
}

/// For each link, newest first: which later log proves everything in it, and its successor's header.
fn contexts(links: &[Link]) -> Vec<Context> {
    // Proven for the next lower log, and for those below it.
    let mut later: Option<LogNumber> = None;
    let mut later_but_one: Option<LogNumber> = None;
    let mut successor = None;
    let mut contexts = Vec::with_capacity(links.len());
    for link in links {
        contexts.push(Context { later, successor });
        later = later.or(later_but_one);
        match link {
            Link::Log(walked) => {
                // PR2: a promise in a log covers all earlier logs. A header's `proven` above 0 covers all before the predecessor.
                later = later.or(walked.has_statement().then_some(walked.log));
                let proven = walked.header.predecessor.is_some_and(|before| before.proven > 0);
                later_but_one = later_but_one.or(proven.then_some(walked.log));
                successor = Some(walked.header);
            }
            Link::Broken(log) => {
                later = later.or(Some(*log));
                successor = None;
            }
        }
    }
    contexts
}

/// The last proven place in the prefix (rule RC2: never merely the newest log).
fn proven(checkpoint: &Checkpoint, prefix: &[Walked], proven_ends: &[u64]) -> Result<Proven> {
    for (walked, &end) in prefix.iter().zip(proven_ends).rev() {
        let at = if end == walked.good_end {
            (end, walked.digest, walked.next_index, walked.seq_floor)
        } else {
            let header = &walked.header;
            let source = Arc::clone(&walked.source);
            let mut reader = LogReader::new(source, walked.seed, Some(header.first_index), header.seq_floor, end);
            while !matches!(reader.next()?, Item::Stop(_)) {}
            (reader.good_end(), reader.good_digest(), reader.next_index(), reader.seq_floor())
        };
        let (end, digest, next_index, seq_floor) = at;
        if next_index > walked.header.first_index {
            let link = Some(Predecessor { log: walked.log, end, proven: end, digest: digest.get() });
            return Ok(Proven { link, next_index, seq_floor });
        }
    }
    let Some(oldest) = prefix.first() else {
        let (next_index, seq_floor) = (checkpoint.next_index, checkpoint.seq_floor);
        return Ok(Proven { link: None, next_index, seq_floor });
    };
    // Nothing in the live logs is proven, but what was deleted before them is: the chain goes on from there.
    Ok(Proven {
        link: oldest.header.predecessor,
        next_index: oldest.header.first_index,
        seq_floor: oldest.header.seq_floor,
    })
}
