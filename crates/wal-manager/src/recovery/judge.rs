//! From what is known about each log to its verdict, by the truth table, with the reason and the proof.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wal_format::LogNumber;
use wal_format::checkpoint::Checkpoint;
use wal_format::header::HeaderFault;
use wal_io::Storage;

use crate::names;
use crate::recovery::chain::{Chain, Context, Link, contexts};
use crate::recovery::flipped;
use crate::recovery::survey::{LogFile, Walked};
use crate::recovery::table::{Facts, Header, Place, Walk, verdict};
use crate::report::{Finding, LogReport, LogVerdict, Proof, Reason};

/// Most missing logs that are listed one by one.
const MISSING_LISTED_MAX: usize = 64;

/// Collects verdicts.
pub(super) struct Judge<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) reports: Vec<LogReport>,
    pub(super) findings: Vec<Finding>,
    pub(super) cut_bytes: u64,
}

impl Judge<'_> {
    /// Judges the chain, given newest first. Returns what can be read without a hole, oldest first, and how far each is proven.
    pub(super) fn chain(&mut self, links: Vec<Link>) -> (Vec<Walked>, Vec<u64>) {
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
        if seeded_bug!(TailNotWrittenAgain)
            || context.later.is_some()
            || sealed
            || self.checkpoint.active > walked.log
        {
            return walked.good_end;
        }
        let promised = walked.promise.map_or(0, |(_, promise)| promise.durable_end);
        let stated = context.successor.and_then(|next| next.predecessor).map_or(0, |before| before.proven);
        promised.max(stated).min(walked.good_end)
    }

    /// What proves that a log went on behind the place where reading it stops.
    fn proof(&self, walked: &Walked, context: &Context) -> Option<Proof> {
        let stated = context
            .successor
            .filter(|next| next.predecessor.is_some_and(|before| before.proven > walked.good_end));
        let promise = walked.promise.filter(|(_, promise)| promise.durable_end > walked.good_end);
        let checkpoint = self.checkpoint;
        let recorded = checkpoint.active > walked.log
            || checkpoint.sealed_through >= walked.log
            || checkpoint.next_index > walked.next_index
            || checkpoint.clean_end.as_ref().is_some_and(|clean| clean.log == walked.log);
        if seeded_bug!(DamageIsTorn) {
            return None;
        }
        if seeded_bug!(TornIsDamage) {
            return Some(Proof::Checkpoint);
        }
        promise
            .map(|(at, promise)| Proof::Promise { at, durable_end: promise.durable_end })
            .or(walked.late_seal.map(|at| Proof::Seal { at }))
            .or(stated.map(|next| Proof::LaterLog(next.log)))
            .or(context.later.map(Proof::LaterLog))
            .or(recorded.then_some(Proof::Checkpoint))
    }

    fn walked(
        &self,
        walked: &Walked,
        context: &Context,
        newest: bool,
    ) -> (LogVerdict, Option<Proof>, Option<Reason>) {
        let checkpoint = self.checkpoint;
        let clean = checkpoint.clean_end.as_ref().filter(|clean| clean.log == walked.log);
        let expected_end = walked.end.or(clean.map(|clean| clean.end));
        let before = context.successor.and_then(|next| next.predecessor);
        let other_content = before.is_some_and(|before| before.digest != walked.digest.get())
            || context.successor.is_some_and(|next| next.first_index != walked.next_index)
            || clean.is_some_and(|clean| clean.next_index != walked.next_index);
        // Where CHECKPOINT speaks of a later log, that one is missing or damaged, not this one.
        let behind_checkpoint = newest
            && checkpoint.active <= walked.log
            && walked.next_index < checkpoint.next_index
            && !seeded_bug!(BehindCheckpointIgnored);
        let short = expected_end.is_some_and(|end| walked.good_end < end) || behind_checkpoint;
        let (walk, mut reason) = match &walked.fault {
            Some(fault) => (Walk::Short, Some(fault.clone())),
            None if short => {
                let shorter = expected_end.filter(|end| walked.good_end < *end);
                let reason = match shorter {
                    Some(expected) => Reason::Short { expected, found: walked.good_end },
                    None => {
                        Reason::BehindCheckpoint { expected: checkpoint.next_index, found: walked.next_index }
                    }
                };
                (Walk::Short, Some(reason))
            }
            None if other_content || expected_end.is_some_and(|end| walked.good_end > end) => {
                (Walk::Contradiction, Some(Reason::OtherContent))
            }
            None => (Walk::Whole, None),
        };
        let must_be_sealed = checkpoint.sealed_through >= walked.log || clean.is_some();
        // Behind an end that a successor states, only a seal that CHECKPOINT knows counts: everything else there is nobody's.
        let seal_as_known = if must_be_sealed {
            walked.seal.is_some() && !walked.behind_seal
        } else {
            context.successor.is_some() || !walked.behind_seal
        };
        let proof = self.proof(walked, context).filter(|_| walk != Walk::Whole);
        let facts =
            Facts { place: Place::Chain, header: Header::Known, proof: proof.is_some(), walk, seal_as_known };
        if walk == Walk::Whole && !seal_as_known {
            reason = Some(if walked.behind_seal { Reason::BehindSeal } else { Reason::SealMissing });
            return (verdict(&facts), must_be_sealed.then_some(Proof::Checkpoint), reason);
        }
        // CHECKPOINT says the newest log was closed cleanly, and yet there is a newer one.
        let stale = newest && checkpoint.clean_end.as_ref().is_some_and(|clean| clean.log < walked.log);
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
    pub(super) fn cut(&mut self, chain: &Chain, files: &BTreeMap<LogNumber, LogFile>) {
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
    pub(super) fn elsewhere(&mut self, chain: &Chain, files: &BTreeMap<LogNumber, LogFile>) {
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
            // RC4, PR4: the new log of a recovery that died follows a log that CHECKPOINT knows and that is still there. If it does not, a writer went
            // on behind that log.
            let unknown = file.kind == Header::Unknown;
            let before = file.header.and_then(|header| header.predecessor);
            let orphan = before.is_some_and(|before| {
                let below = files.get(&before.log);
                unknown
                    && before.proven > 0
                    && before.log >= lowest
                    && !chain.links.contains(&(before.log, true))
                    && below.is_none_or(|below| below.kind == Header::Unknown)
            });
            // A whole header of a log that is alive in its own place was copied here. That of one that is gone may be what the disk shows of space
            // that was that log's once.
            let copied = match file.fault {
                Some(Reason::Header(HeaderFault::OtherLog { found, .. })) => {
                    chain.links.contains(&(found, true))
                }
                _ => false,
            };
            self.file(file, place, broken, orphan || copied);
        }
        self.missing(chain, files, top);
    }

    /// `broken`: the chain leads to it; `odd`: no crash explains it.
    fn file(&mut self, file: &LogFile, place: Place, broken: bool, odd: bool) {
        let recorded = self.checkpoint.active >= file.log || self.checkpoint.sealed_through >= file.log;
        let known_number = file.log <= self.checkpoint.highest;
        let forgotten = seeded_bug!(LeftoverPromiseIgnored) && file.kind == Header::Unknown;
        let stated = (file.behind.has_statement() || odd) && !forgotten;
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
        // Above the last number of all there is none.
        let from = top.map_or(Some(self.checkpoint.lowest), LogNumber::next);
        let above = from.into_iter().flat_map(|from| from.get()..=self.checkpoint.highest.get());
        let above = above.map(LogNumber::new);
        let above = above.filter(|log| !files.contains_key(log) && !seeded_bug!(MissingIgnored));
        missing.extend(above.take(MISSING_LISTED_MAX));
        missing.sort_unstable();
        if seeded_bug!(MissingIgnored) {
            self.findings.retain(|finding| finding.reason != Reason::Missing);
            missing.clear();
        }
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
            let report =
                self.blank_report(log, verdict(&facts), Some(Reason::Missing), Some(Proof::Checkpoint));
            self.reports.push(report);
        }
    }

    /// Each finding names the bit that its log's report names.
    pub(super) fn name_flipped_bits(&mut self) {
        for finding in &mut self.findings {
            let same = |report: &&LogReport| {
                report.log == finding.log && report.reason.as_ref() == Some(&finding.reason)
            };
            finding.flipped_bit = self.reports.iter().find(same).and_then(|report| report.flipped_bit);
        }
    }

    pub(super) fn finding(&mut self, log: LogNumber, offset: u64, reason: Reason, proof: Option<Proof>) {
        let path = self.path(log);
        self.findings.push(Finding { log, path, offset, reason, proof, flipped_bit: None });
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
            flipped_bit: None,
            records: 0,
            bytes: 0,
            cut_bytes: 0,
            first_index: None,
            next_index: None,
            first_seq: None,
            last_seq: None,
            sealed: false,
            skipped: false,
            epoch: None,
        }
    }

    fn report_file(
        &mut self,
        file: &LogFile,
        verdict: LogVerdict,
        reason: Option<Reason>,
        proof: Option<Proof>,
    ) {
        // Zeros hold none.
        let explained = reason.as_ref().filter(|_| file.kind != Header::Blank);
        let flipped_bit = explained.and_then(|reason| flipped::bit(reason, &*file.source, &file.seed, 0));
        let mut report = self.blank_report(file.log, verdict, reason, proof);
        report.flipped_bit = flipped_bit;
        report.bytes = file.length;
        report.epoch = file.header.map(|header| header.epoch);
        if verdict == LogVerdict::TornTail {
            report.cut_bytes = file.length;
            self.cut_bytes = self.cut_bytes.saturating_add(file.length);
        }
        self.reports.push(report);
    }

    fn report_walked(
        &mut self,
        walked: &Walked,
        verdict: LogVerdict,
        reason: Option<Reason>,
        proof: Option<Proof>,
    ) {
        let (source, seed, good_end) = (&*walked.source, &walked.seed, walked.good_end);
        let flipped_bit = reason.as_ref().and_then(|reason| flipped::bit(reason, source, seed, good_end));
        let report = LogReport {
            offset: good_end,
            flipped_bit,
            records: walked.records,
            bytes: walked.length,
            cut_bytes: walked.nonzero_end.saturating_sub(walked.good_end),
            first_index: Some(walked.header.first_index),
            next_index: Some(walked.next_index),
            first_seq: walked.seqs.map(|seqs| seqs.first()),
            last_seq: walked.seqs.map(|seqs| seqs.last()),
            sealed: walked.seal.is_some(),
            skipped: walked.skipped,
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
