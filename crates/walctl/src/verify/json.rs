//! The JSON of `walctl verify`: a form of its own, because scripts rely on it, whatever becomes of the library's report. A
//! path that is not UTF-8 is shown as well as can be.

use std::path::Path;

use serde::Serialize;
use wal_manager::{Error, Finding, FlippedBit, LogReport, RecoveryReport, Verdict};

use super::{verdict, word};

/// What was found in a directory.
#[derive(Serialize)]
pub(super) struct Object {
    verdict: &'static str,
    logs: Vec<Log>,
    findings: Vec<Found>,
    path: String,
    /// Records that can be read, up to the first damage.
    records: u64,
    first_index: Option<u64>,
    next_index: Option<u64>,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    /// Unacknowledged bytes that the next open cuts.
    cut_bytes: u64,
    checkpoint_fault: Option<String>,
    checkpoint_flipped_bit: Option<Flipped>,
    other_files: Vec<String>,
    epoch: Option<u64>,
    /// Why nothing could be said about the logs.
    reason: Option<String>,
}

#[derive(Serialize)]
struct Log {
    log: u64,
    verdict: &'static str,
    offset: u64,
    reason: Option<String>,
    proof: Option<String>,
    flipped_bit: Option<Flipped>,
    path: String,
    records: u64,
    bytes: u64,
    cut_bytes: u64,
    first_index: Option<u64>,
    next_index: Option<u64>,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    sealed: bool,
    epoch: Option<u64>,
}

#[derive(Serialize)]
struct Found {
    log: u64,
    path: String,
    offset: u64,
    reason: String,
    proof: Option<String>,
    flipped_bit: Option<Flipped>,
}

/// The one bit that explains a bad checksum: its byte's offset in the file, and which of the eight, 0 the lowest.
#[derive(Serialize)]
struct Flipped {
    offset: u64,
    bit: u8,
}

impl Object {
    pub(super) fn of(report: &RecoveryReport) -> Self {
        Self {
            verdict: verdict(report.verdict),
            logs: report.logs.iter().map(Log::of).collect(),
            findings: report.findings.iter().map(Found::of).collect(),
            path: shown(&report.path),
            records: report.records,
            first_index: Some(report.first_index.get()),
            next_index: Some(report.next_index.get()),
            first_seq: report.seqs.map(|seqs| seqs.first().get()),
            last_seq: report.seqs.map(|seqs| seqs.last().get()),
            cut_bytes: report.cut_bytes,
            checkpoint_fault: report.checkpoint_fault.clone(),
            checkpoint_flipped_bit: report.checkpoint_flipped_bit.map(Flipped::of),
            other_files: report.other_files.clone(),
            epoch: Some(report.epoch.get()),
            reason: None,
        }
    }

    /// Where not even the logs could be told apart: a script still gets its object.
    pub(super) fn of_error(dir: &Path, error: &Error) -> Self {
        Self {
            verdict: verdict(Verdict::Damaged),
            logs: Vec::new(),
            findings: Vec::new(),
            path: shown(dir),
            records: 0,
            first_index: None,
            next_index: None,
            first_seq: None,
            last_seq: None,
            cut_bytes: 0,
            checkpoint_fault: None,
            checkpoint_flipped_bit: None,
            other_files: Vec::new(),
            epoch: None,
            reason: Some(error.to_string()),
        }
    }
}

impl Log {
    fn of(log: &LogReport) -> Self {
        Self {
            log: log.log.get(),
            verdict: word(log.verdict),
            offset: log.offset,
            reason: log.reason.as_ref().map(ToString::to_string),
            proof: log.proof.as_ref().map(ToString::to_string),
            flipped_bit: log.flipped_bit.map(Flipped::of),
            path: shown(&log.path),
            records: log.records,
            bytes: log.bytes,
            cut_bytes: log.cut_bytes,
            first_index: log.first_index.map(|index| index.get()),
            next_index: log.next_index.map(|index| index.get()),
            first_seq: log.first_seq.map(|seq| seq.get()),
            last_seq: log.last_seq.map(|seq| seq.get()),
            sealed: log.sealed,
            epoch: log.epoch.map(|epoch| epoch.get()),
        }
    }
}

impl Found {
    fn of(finding: &Finding) -> Self {
        Self {
            log: finding.log.get(),
            path: shown(&finding.path),
            offset: finding.offset,
            reason: finding.reason.to_string(),
            proof: finding.proof.as_ref().map(ToString::to_string),
            flipped_bit: finding.flipped_bit.map(Flipped::of),
        }
    }
}

impl Flipped {
    fn of(FlippedBit { offset, bit }: FlippedBit) -> Self {
        Self { offset, bit }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
