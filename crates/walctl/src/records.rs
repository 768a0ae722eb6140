//! Records on standard output, as `dump` and `tail` print them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use wal_manager::RecoveredRecord;

use crate::escape::escape;
use crate::exit::Failure;
use crate::out::Out;

/// Prints records, each on a line.
pub(crate) struct Printer {
    out: Out,
    json: bool,
    text: Vec<u8>,
}

impl Printer {
    /// Takes standard output.
    pub(crate) fn new(json: bool) -> Self {
        Self { out: Out::new(), json, text: Vec::new() }
    }

    /// Prints a record: `SEQ<TAB>payload`, or a JSON object.
    pub(crate) fn record(&mut self, record: &RecoveredRecord) -> Result<(), Failure> {
        if self.json {
            return self.out.json(&Line::new(record));
        }
        self.text.clear();
        self.text.extend(format!("{}\t", record.seqs.first()).as_bytes());
        escape(&mut self.text, &record.payload);
        self.text.push(b'\n');
        self.out.bytes(&self.text)
    }

    /// Hands everything to the system.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush()
    }
}

/// A record as a JSON line.
#[derive(Serialize)]
struct Line {
    log: u64,
    offset: u64,
    index: u64,
    seq: u64,
    count: u64,
    kind: u16,
    families: Vec<u32>,
    proven: bool,
    payload: String,
}

impl Line {
    fn new(record: &RecoveredRecord) -> Self {
        let (first, last) = (record.seqs.first().get(), record.seqs.last().get());
        Self {
            log: record.log.get(),
            offset: record.offset,
            index: record.index.get(),
            seq: first,
            count: last.saturating_sub(first).saturating_add(1),
            kind: record.kind.get(),
            families: record.families.iter().map(|family| family.get()).collect(),
            proven: record.proven,
            payload: BASE64_STANDARD.encode(&record.payload),
        }
    }
}
