//! The check: engine and input side by side, judged by the ledger.

use std::fmt;
use std::iter::Peekable;

use toy_memtable::{Engine, EngineError};

use super::child::family;
use super::input::{Input, Item};
use super::ledger::Ledger;
use super::plan::{self, Step};
use crate::escape::escape;
use crate::exit::Failure;

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Keys that were looked at.
    pub(crate) checked: u64,
    /// Acknowledged writes that are not there: the key is gone, or holds something older or wrong.
    pub(crate) lost: u64,
    /// Keys that hold what nobody wrote: keys that are not in the input, or values that were never written.
    pub(crate) extra: u64,
    /// Keys of which only the presence could be checked, because the input changed meanwhile.
    pub(crate) changed: u64,
    /// The first few that were lost or extra.
    pub(crate) examples: Vec<String>,
}

/// What may stand under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    /// The item's contents with the tag of this round.
    Value(u64),
    /// What was to be overwritten in this round.
    Scratch(u64),
}

/// Looks at every key of `engine` and at every item of `input`, in a scan; some keys are asked for one by one too.
pub(crate) fn check(engine: &Engine, input: &Input, ledger: &Ledger, seed: u64) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let mut scans = [engine.scan(family(0), ..).peekable(), engine.scan(family(1), ..).peekable()];
    let get_every = ledger.items().div_ceil(GETS_MAX).max(1);
    let mut items = input.items()?;
    while let Some(item) = items.next()? {
        let holder = family(item.number);
        let Some(scan) = scans.get_mut(usize::from(holder != family(0))) else { continue };
        let scanned = advance(scan, &item.key, &mut findings)?;
        // A get takes another way to the same value, and a slower one.
        if item.number.is_multiple_of(get_every) && engine.get(holder, &item.key)? != scanned {
            findings.lost(&item.key, "a get and a scan find different values");
        }
        judge(item, scanned.as_deref(), ledger, seed, &mut findings);
    }
    for scan in &mut scans {
        for found in scan {
            findings.extra(&found?.0, "nobody wrote this key");
        }
    }
    Ok(findings)
}

/// The value that the scan holds for `key`. Keys before it are no input's.
fn advance<K: AsRef<[u8]>, V>(
    scan: &mut Peekable<impl Iterator<Item = Result<(K, V), EngineError>>>,
    key: &[u8],
    findings: &mut Findings,
) -> Result<Option<V>, Failure> {
    while let Some(found) =
        scan.next_if(|found| found.as_ref().map_or(true, |(found, _)| found.as_ref() <= key))
    {
        let (found, value) = found?;
        if found.as_ref() == key {
            return Ok(Some(value));
        }
        findings.extra(found.as_ref(), "nobody wrote this key");
    }
    Ok(None)
}

fn judge(item: Item, found: Option<&[u8]>, ledger: &Ledger, seed: u64, findings: &mut Findings) {
    let number = item.number;
    if ledger.is_unreadable(number) {
        return;
    }
    findings.checked = findings.checked.saturating_add(1);
    let acknowledged = ledger.is_acknowledged(number);
    let allowed = allowed(seed, ledger.round(), number, acknowledged);
    let key = item.key.clone();
    let Ok(contents) = item.contents() else {
        findings.changed = findings.changed.saturating_add(1);
        if found.is_none() && !allowed.contains(&State::Absent) {
            findings.lost(&key, "the key is gone");
        }
        return;
    };
    let fits = |state: &State| match (state, found) {
        (State::Absent, None) => true,
        (State::Value(round), Some(found)) => {
            found.strip_prefix(contents.as_slice()).is_some_and(|rest| rest == plan::tag(*round))
        }
        (State::Scratch(round), Some(found)) => found == plan::scratch(*round, number),
        _ => false,
    };
    if allowed.iter().any(fits) {
        return;
    }
    match (found, acknowledged) {
        (None, _) => findings.lost(&key, "the key is gone"),
        (Some(_), true) if allowed == [State::Absent] => {
            findings.lost(&key, "the key is back, its delete is lost")
        }
        (Some(_), true) => findings.lost(&key, "the value is not the one that was acknowledged last"),
        (Some(_), false) if ledger.round() > 0 => {
            findings.lost(&key, "the value is neither the last one nor the next")
        }
        (Some(_), false) => findings.extra(&key, "the value is not what was being written"),
    }
}

/// What may stand under the key of item `number`: exactly what was acknowledged, or, as long as nothing was acknowledged in
/// this round, anything from what the round before left to what this round leaves.
fn allowed(seed: u64, round: u64, number: u64, acknowledged: bool) -> Vec<State> {
    let after = |round: u64, step: &Step| match step {
        Step::Put => State::Value(round),
        Step::Scratch => State::Scratch(round),
        Step::Delete => State::Absent,
    };
    let left =
        |round: u64| plan::steps(seed, round, number).last().map_or(State::Absent, |step| after(round, step));
    if acknowledged {
        return vec![left(round)];
    }
    let before = round.checked_sub(1).map_or(State::Absent, left);
    let steps = plan::steps(seed, round, number).iter().map(|step| after(round, step));
    std::iter::once(before).chain(steps).collect()
}

impl Findings {
    /// Whether everything is as it should be.
    pub(crate) fn passed(&self) -> bool {
        self.lost == 0 && self.extra == 0
    }

    fn lost(&mut self, key: &[u8], why: &str) {
        self.lost = self.lost.saturating_add(1);
        self.example(key, format_args!("LOST: {why}"));
    }

    fn extra(&mut self, key: &[u8], why: &str) {
        self.extra = self.extra.saturating_add(1);
        self.example(key, format_args!("EXTRA: {why}"));
    }

    fn example(&mut self, key: &[u8], why: fmt::Arguments<'_>) {
        if self.examples.len() < EXAMPLES_MAX {
            let mut text = Vec::new();
            escape(&mut text, key);
            self.examples.push(format!("{why}: {}", String::from_utf8_lossy(&text)));
        }
    }
}

/// How many keys are asked for one by one.
const GETS_MAX: u64 = 20_000;

/// Enough to see a pattern.
const EXAMPLES_MAX: usize = 10;

#[cfg(test)]
mod tests;
