//! What a drill did and found.

use serde::Serialize;

use crate::exit::Failure;
use crate::out::Out;

/// What a drill did and found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Whether nothing was lost, nothing is extra and every child did its work.
    pub(crate) passed: bool,
    pub(crate) seed: u64,
    pub(crate) input: String,
    /// Files or lines of the input.
    pub(crate) items: u64,
    pub(crate) input_bytes: u64,
    /// Files, directories or lines that could not be read, or are longer than a record.
    pub(crate) skipped: u64,
    /// Times that the input was written through, the last one included.
    pub(crate) rounds: u64,
    pub(crate) kills: u64,
    /// Kills that hit a child before it had opened the engine, most of them in its recovery.
    pub(crate) kills_in_recovery: u64,
    /// Opens after a kill that came to their end.
    pub(crate) recoveries: u64,
    pub(crate) torn_tails: u64,
    /// Records that these recoveries found in the logs.
    pub(crate) recovered_records: u64,
    pub(crate) rotations: u64,
    pub(crate) logs_created: u64,
    pub(crate) logs_deleted: u64,
    /// Items that were acknowledged, each once a round.
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_bytes: u64,
    /// Keys that were checked, over all checks.
    pub(crate) checked: u64,
    pub(crate) lost: u64,
    pub(crate) extra: u64,
    /// Keys of which only the presence was checked, because the input changed meanwhile.
    pub(crate) changed: u64,
    /// The most memory that a child held, where the system tells.
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) seconds: f64,
    /// Where everything lies, if it was kept.
    pub(crate) kept: Option<String>,
    /// The first few things that were lost or extra, and failures.
    pub(crate) problems: Vec<String>,
}

impl Report {
    /// Prints it.
    pub(crate) fn print(&self, out: &mut Out, json: bool) -> Result<(), Failure> {
        if json { out.json(self) } else { self.text(out) }
    }

    fn text(&self, out: &mut Out) -> Result<(), Failure> {
        let peak = self.peak_memory_bytes.map_or_else(|| "unknown".to_owned(), mib);
        let rows = [
            ("input", format!("{}: {} items, {}", self.input, self.items, mib(self.input_bytes))),
            ("skipped", format!("{} (not readable, or longer than a record)", self.skipped)),
            ("seed", self.seed.to_string()),
            ("kills", format!("{} with SIGKILL, {} of them in recovery", self.kills, self.kills_in_recovery)),
            ("recoveries", format!("{}, {} torn tails", self.recoveries, self.torn_tails)),
            ("recovered", format!("{} records", self.recovered_records)),
            (
                "logs",
                format!(
                    "{} created, {} rotations, {} deleted",
                    self.logs_created, self.rotations, self.logs_deleted
                ),
            ),
            (
                "acknowledged",
                format!(
                    "{} writes, {}, in {} rounds",
                    self.acknowledged,
                    mib(self.acknowledged_bytes),
                    self.rounds
                ),
            ),
            (
                "checked",
                format!("{} keys, {} of them changed in the input meanwhile", self.checked, self.changed),
            ),
            ("lost", self.lost.to_string()),
            ("extra", self.extra.to_string()),
            ("child memory", format!("{peak} at the most")),
            ("time", format!("{:.1} s", self.seconds)),
        ];
        for (name, value) in rows {
            out.line(format_args!("{name:<13} {value}"))?;
        }
        if let Some(kept) = &self.kept {
            out.line(format_args!("{:<13} {kept}", "kept"))?;
        }
        let verdict = if self.passed { "PASSED: every acknowledged write is there" } else { "FAILED" };
        out.line(format_args!("{verdict}"))
    }
}

fn mib(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people, with one digit")]
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{mib:.1} MiB")
}
