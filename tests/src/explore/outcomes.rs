//! What a power cut may leave of one moment.

use wal_io::sim::{Pending, SimStorage};

/// Most pending effects of which every subset is tried.
pub const SUBSETS_MAX: usize = 7;

/// One outcome: what survived, and a sector that holds garbage.
#[derive(Clone, Debug)]
pub struct Outcome {
    kept: Vec<bool>,
    garbage: Option<usize>,
}

impl Outcome {
    /// The disk that is left of `disk`, which is used up.
    pub fn of(&self, disk: &SimStorage, pending: &[Pending], old: Old) -> SimStorage {
        let mut kept = self.kept.iter();
        let after = disk.crash_with(&mut |_| kept.next().copied().unwrap_or(false));
        if let Some(sector) = self.garbage.and_then(|at| pending.get(at)) {
            spoil(&after, sector, &old.of(disk, sector));
        }
        after
    }

    /// In words: what survived and what was lost.
    pub fn words(&self, pending: &[Pending]) -> String {
        let list = |wanted: bool| {
            let chosen = pending.iter().zip(&self.kept).filter(|(_, kept)| **kept == wanted);
            chosen.map(|(one, _)| one.to_string()).collect::<Vec<_>>().join(", ")
        };
        let mut words = format!("power cut; kept [{}], lost [{}]", list(true), list(false));
        if let Some(garbage) = self.garbage.and_then(|at| pending.get(at)) {
            words.push_str(&format!(", garbage in {garbage}"));
        }
        words
    }
}

/// What becomes of old bytes in a sector that is written again with the same ones when something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Nobody writes durable bytes again.
    Nothing,
    /// They survive, as direct files assume (decision 0020).
    Survives,
}

impl Old {
    /// What the sector's file holds durably, as far as that survives.
    pub fn of(self, disk: &SimStorage, sector: &Pending) -> Vec<u8> {
        match sector {
            Pending::Sector { file, .. } if self == Self::Survives => {
                disk.durable_files().remove(file).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

/// Fills a sector with garbage, durably, as far as the file reaches: it was being written when something went wrong. Bytes that were the same in
/// `old` survive.
pub fn spoil(disk: &SimStorage, sector: &Pending, old: &[u8]) {
    let Pending::Sector { file, offset, length } = sector else { return };
    let (from, length) = (usize::try_from(*offset).expect("small"), usize::try_from(*length).expect("small"));
    disk.corrupt(file, |bytes| {
        for (at, byte) in bytes.iter_mut().enumerate().skip(from).take(length) {
            if old.get(at) != Some(byte) {
                *byte = 0x5a ^ (at - from).to_le_bytes()[0].wrapping_mul(31);
            }
        }
    });
}

/// All outcomes of a moment with `pending`: every subset if there are few, and otherwise all, none, each beginning, each alone, all but
/// each; and with each sector full of garbage.
pub fn outcomes(pending: &[Pending]) -> Vec<Outcome> {
    let count = pending.len();
    let mut kept: Vec<Vec<bool>> = if count <= SUBSETS_MAX {
        (0..1_usize << count).map(|bits| (0..count).map(|at| bits >> at & 1 == 1).collect()).collect()
    } else {
        let beginnings = (0..=count).map(|first| (0..count).map(|at| at < first).collect());
        let alone = (0..count).map(|one| (0..count).map(|at| at == one).collect());
        let without = (0..count).map(|one| (0..count).map(|at| at != one).collect());
        beginnings.chain(alone).chain(without).collect()
    };
    kept.sort_unstable();
    kept.dedup();
    let mut outcomes: Vec<_> = kept.into_iter().map(|kept| Outcome { kept, garbage: None }).collect();
    let sectors = pending.iter().enumerate().filter(|(_, one)| matches!(one, Pending::Sector { .. }));
    for (at, _) in sectors {
        outcomes.push(Outcome { kept: vec![true; count], garbage: Some(at) });
        let mut alone = vec![false; count];
        // Names are needed for the garbage to be seen.
        for (kept, one) in alone.iter_mut().zip(pending) {
            *kept = !matches!(one, Pending::Sector { .. });
        }
        alone[at] = true;
        outcomes.push(Outcome { kept: alone, garbage: Some(at) });
    }
    outcomes
}
