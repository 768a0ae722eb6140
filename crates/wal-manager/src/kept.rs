//! Why each log is kept: the question of whoever's disk fills up.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use tracing::warn;
use wal_format::checkpoint::Checkpoint;
use wal_format::{LogNumber, SeqNum};

use crate::holds;
use crate::inner::Inner;
use crate::keepers::{KeeperKind, Pinned, held_bytes};
use crate::retention::{LogInfo, LogState, unneeded};
use crate::sync::Mutex;
use crate::wal::Wal;

/// A live log, and everybody who keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The log.
    pub log: LogNumber,
    /// Its length in bytes.
    pub bytes: u64,
    /// Who keeps it. Empty: nobody any more, and it goes with the next deletion.
    pub keepers: Vec<Keeper>,
}

/// One of those who keep a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keeper {
    /// What sort of keeper.
    pub kind: KeeperKind,
    /// The number of a family, the name of a hold or of a reader, the number of the older log; empty for the others.
    pub name: String,
    /// The lowest sequence number that is needed of this log and what comes after it; `None` if it holds no record.
    pub from: Option<SeqNum>,
    /// The highest that is needed: of a family, its last in this log, and once that is flushed it does not keep the log any more; of a hold, the
    /// end of its range.
    pub through: Option<SeqNum>,
    /// Microseconds since 1970: of a hold and of a reader, when it began; of the others, when the log was begun.
    pub since_micros: u64,
}

/// Who keeps which of `logs`, oldest first, the last one being the active one or the one that was.
pub(crate) fn why_kept(
    logs: &[LogInfo],
    frontier: LogNumber,
    content: &Checkpoint,
    pins: &[Pinned],
) -> Vec<Kept> {
    let mut older: Option<LogNumber> = None;
    let kept = |info: &LogInfo| {
        let (log, since_micros) = (info.log, info.created_micros);
        if log < content.lowest {
            // An update of CHECKPOINT failed when it was to be deleted.
            return Kept { log, bytes: info.bytes, keepers: Vec::new() };
        }
        let first = info.seqs.map(|seqs| seqs.first());
        let here = |kind, name: String| Keeper { kind, name, from: first, through: None, since_micros };
        let mut keepers = Vec::new();
        if info.state == LogState::Active {
            keepers.push(here(KeeperKind::Active, String::new()));
        } else if log >= frontier {
            keepers.push(here(KeeperKind::Unsealed, String::new()));
        }
        for (family, last) in &info.families {
            let mark = content.flushed.get(family);
            if mark.is_none_or(|mark| mark < last) {
                let unflushed = mark.and_then(|mark| mark.next());
                let keeper = here(KeeperKind::Family, family.to_string());
                keepers.push(Keeper { from: first.max(unflushed), through: Some(*last), ..keeper });
            }
        }
        for (name, hold) in content.holds.iter().filter(|(_, hold)| holds::holds_back(hold, info)) {
            let (name, since_micros) = (name.clone(), hold.since_micros);
            let from = Some(hold.from);
            keepers.push(Keeper { kind: KeeperKind::Hold, name, from, through: hold.to, since_micros });
        }
        for pin in pins.iter().filter(|pin| log >= pin.from) {
            keepers.push(Keeper { since_micros: pin.since_micros, ..here(pin.kind, pin.name.clone()) });
        }
        match older {
            Some(older) if keepers.is_empty() => keepers.push(here(KeeperKind::Older, older.to_string())),
            None if !keepers.is_empty() => older = Some(log),
            _ => {}
        }
        Kept { log, bytes: info.bytes, keepers }
    };
    logs.iter().map(kept).collect()
}

impl Wal {
    /// For each live log, oldest first, who keeps it, from which sequence number and since when. Only the first log that somebody keeps matters: all
    /// behind it wait for it.
    pub fn why_kept(&self) -> Vec<Kept> {
        self.inner().why_kept()
    }
}

/// When the keepers of the oldest log moved last.
#[derive(Debug, Default)]
pub(crate) struct Stuck {
    seen: Mutex<BTreeMap<(KeeperKind, String), Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    place: (LogNumber, Option<SeqNum>),
    /// The clock's monotonic time when it was first seen there, and when it is to be told next.
    at: Duration,
    tell_at: Duration,
}

impl Stuck {
    /// Tells of each keeper of the oldest log that has not moved for `limit`, and again each time it passes.
    fn look(&self, oldest: &Kept, limit: Duration, now: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(kind, name), _| {
            oldest.keepers.iter().any(|keeper| (keeper.kind, &keeper.name) == (*kind, name))
        });
        for keeper in &oldest.keepers {
            let place = (oldest.log, keeper.from);
            let fresh = Seen { place, at: now, tell_at: now.saturating_add(limit) };
            let entry = seen.entry((keeper.kind, keeper.name.clone())).or_insert(fresh);
            if entry.place != place {
                *entry = fresh;
            }
            if now >= entry.tell_at {
                entry.tell_at = now.saturating_add(limit);
                warn!(
                    kind = keeper.kind.as_str(),
                    name = %keeper.name,
                    log = oldest.log.get(),
                    from = keeper.from.map(SeqNum::get),
                    seconds = now.saturating_sub(entry.at).as_secs(),
                    "wal.keeper_stuck"
                );
            }
        }
    }
}

impl Inner {
    pub(crate) fn why_kept(&self) -> Vec<Kept> {
        let pins = self.keepers.pinned();
        let content = self.checkpoint.content();
        let frontier = self.commit.lock().durable.log;
        why_kept(&self.logs(), frontier, &content, &pins)
    }

    /// Tells the gauges, and whoever listens, of those who keep the oldest logs.
    pub(crate) fn watch_keepers(&self) {
        let (content, pins) = (self.checkpoint.content(), self.keepers.pinned());
        let mut logs = self.logs();
        logs.retain(|info| info.log >= content.lowest);
        for (kind, bytes, since) in &self.metrics.kept {
            let keeps = |(at, info)| Some((at, kept_since(*kind, info, &content, &pins)?));
            let (held, oldest) = logs.iter().enumerate().find_map(keeps).map_or((0, 0), |(at, oldest)| {
                (logs.iter().skip(at).map(|info| info.bytes).sum::<u64>(), oldest)
            });
            bytes.set(held as f64);
            since.set(oldest as f64 / 1e6);
        }
        self.show_holds(&logs, &content, &pins);
        // The active log is always kept.
        if let (Some(limit), [oldest, _, ..]) = (self.keeper_warning, &*logs) {
            let frontier = self.commit.lock().durable.log;
            for kept in why_kept(std::slice::from_ref(oldest), frontier, &content, &pins) {
                self.stuck.look(&kept, limit, self.clock.monotonic());
            }
        }
    }

    /// Tells the gauges of the holds, and how much of their budgets they and the pins use.
    fn show_holds(&self, logs: &[LogInfo], content: &Checkpoint, pins: &[Pinned]) {
        let lost = content.holds.values().filter(|hold| hold.lost).count();
        self.metrics.holds.set((content.holds.len() - lost) as f64);
        self.metrics.lost_holds.set(lost as f64);
        let frontier = self.commit.lock().durable.log;
        let unneeded = unneeded(logs, frontier, content.lowest, &content.flushed);
        let part = |bytes: u64, budget: Option<u64>| Some(bytes as f64 / budget?.max(1) as f64);
        let holds = content.holds.values().filter(|hold| !hold.lost);
        let holds = holds.filter_map(|hold| part(holds::charged(hold, &unneeded)?.1, hold.budget));
        let pins = pins.iter().filter_map(|pin| {
            let first = unneeded.iter().position(|info| info.log >= pin.from)?;
            part(held_bytes(&unneeded, first), pin.budget)
        });
        self.metrics.budget_used_ratio.set(holds.chain(pins).fold(0.0, f64::max));
    }
}

/// Since when the first keeper of a kind keeps a log, if any does, in microseconds since 1970.
fn kept_since(kind: KeeperKind, info: &LogInfo, content: &Checkpoint, pins: &[Pinned]) -> Option<u64> {
    match kind {
        KeeperKind::Family => {
            let flushed = |(family, last)| content.flushed.get(family).is_some_and(|mark| mark >= last);
            (!info.families.iter().all(flushed)).then_some(info.created_micros)
        }
        KeeperKind::Hold => {
            let holds = content.holds.values().filter(|hold| holds::holds_back(hold, info));
            holds.map(|hold| hold.since_micros).min()
        }
        kind => {
            let pins = pins.iter().filter(|pin| pin.kind == kind && info.log >= pin.from);
            pins.map(|pin| pin.since_micros).min()
        }
    }
}
