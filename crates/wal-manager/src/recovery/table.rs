//! The truth table of recovery: from what is known about one log to what holds for it. `docs/recovery.md` has the same table in words.
//!
//! Every column is evidence; nothing is guessed from the shape of the damage. A row matches if each of its cells does (`None` matches
//! anything). A test proves that exactly one row matches each combination.

use crate::report::LogVerdict;

/// Where the log stands relative to the live chain (rule RC1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its number is below CHECKPOINT's lowest: it was deleted.
    Below,
    /// On the chain that leads back from the newest log whose epoch CHECKPOINT knows.
    Chain,
    /// Between two logs of the chain that are linked to each other: jumped over.
    Jumped,
    /// Above the newest log of the chain.
    Above,
}

/// What its first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// There is no such file.
    Absent,
    /// Nothing but zeros in the whole file, or no bytes at all.
    Blank,
    /// Bytes, but no valid header of this log.
    Damaged,
    /// A valid header of another write-ahead log.
    Foreign,
    /// A valid header that asks for a newer version.
    Newer,
    /// A valid header of an epoch that CHECKPOINT knows.
    Known,
    /// A valid header of an epoch that CHECKPOINT does not know, or of a number that it does not know.
    Unknown,
}

/// How far reading it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// To its end, as far as anybody knows where that is.
    Whole,
    /// Less far.
    Short,
    /// To its end, but to other content than its successor says.
    Contradiction,
}

/// What is known about one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) place: Place,
    pub(crate) header: Header,
    /// Whether a promise, a seal, a later log or CHECKPOINT proves that bytes were synced which cannot be read (for a log that should
    /// not be there at all: whether it holds a promise or a seal).
    pub(crate) proof: bool,
    pub(crate) walk: Walk,
    /// Whether its seal is as CHECKPOINT says: valid, or not yet known to be durable.
    pub(crate) seal_as_known: bool,
}

/// One row: the cells that must match (`None` is any), and the verdict.
#[derive(Debug)]
struct Row {
    place: Option<Place>,
    header: Option<Header>,
    proof: Option<bool>,
    walk: Option<Walk>,
    seal_as_known: Option<bool>,
    verdict: LogVerdict,
}

const fn row(
    place: Option<Place>,
    header: Option<Header>,
    proof: Option<bool>,
    walk: Option<Walk>,
    seal_as_known: Option<bool>,
    verdict: LogVerdict,
) -> Row {
    Row { place, header, proof, walk, seal_as_known, verdict }
}

/// The table.
const TABLE: &[Row] = {
    use Header::{Absent, Blank, Damaged, Foreign, Known, Newer, Unknown};
    use Place::{Above, Below, Chain, Jumped};
    use Walk::{Contradiction, Short, Whole};
    const ANY: Option<bool> = None;
    &[
        // Foreign and newer files are never touched, wherever they stand.
        row(None, Some(Foreign), ANY, None, ANY, LogVerdict::Foreign),
        row(None, Some(Newer), ANY, None, ANY, LogVerdict::NewerFormat),
        // Below the floor: deleted, and back after a crash at the worst.
        row(Some(Below), Some(Absent), ANY, None, ANY, LogVerdict::Deleted),
        row(Some(Below), Some(Blank), ANY, None, ANY, LogVerdict::Deleted),
        row(Some(Below), Some(Damaged), ANY, None, ANY, LogVerdict::Deleted),
        row(Some(Below), Some(Known), ANY, None, ANY, LogVerdict::Deleted),
        row(Some(Below), Some(Unknown), ANY, None, ANY, LogVerdict::Deleted),
        // Jumped over: not read, no evidence, may be absent (RC1).
        row(Some(Jumped), Some(Absent), ANY, None, ANY, LogVerdict::Abandoned),
        row(Some(Jumped), Some(Blank), ANY, None, ANY, LogVerdict::Abandoned),
        row(Some(Jumped), Some(Damaged), ANY, None, ANY, LogVerdict::Abandoned),
        row(Some(Jumped), Some(Known), ANY, None, ANY, LogVerdict::Abandoned),
        row(Some(Jumped), Some(Unknown), ANY, None, ANY, LogVerdict::Abandoned),
        // A number that exists or should (CK6).
        row(Some(Chain), Some(Absent), ANY, None, ANY, LogVerdict::Missing),
        row(Some(Above), Some(Absent), ANY, None, ANY, LogVerdict::Missing),
        // A header that did not become durable, or was lost afterwards (RC7).
        row(Some(Chain), Some(Blank), Some(true), None, ANY, LogVerdict::Damaged),
        row(Some(Chain), Some(Blank), Some(false), None, ANY, LogVerdict::TornTail),
        row(Some(Chain), Some(Damaged), Some(true), None, ANY, LogVerdict::Damaged),
        row(Some(Chain), Some(Damaged), Some(false), None, ANY, LogVerdict::TornTail),
        row(Some(Above), Some(Blank), Some(true), None, ANY, LogVerdict::Damaged),
        row(Some(Above), Some(Blank), Some(false), None, ANY, LogVerdict::Prepared),
        row(Some(Above), Some(Damaged), Some(true), None, ANY, LogVerdict::Damaged),
        row(Some(Above), Some(Damaged), Some(false), None, ANY, LogVerdict::TornTail),
        // An epoch or a number that CHECKPOINT does not know (RC4).
        row(Some(Above), Some(Unknown), Some(true), None, ANY, LogVerdict::Damaged),
        row(Some(Above), Some(Unknown), Some(false), None, ANY, LogVerdict::Leftover),
        row(Some(Chain), Some(Unknown), ANY, None, ANY, LogVerdict::Damaged),
        // Cut off with the log below it.
        row(Some(Above), Some(Known), Some(true), None, ANY, LogVerdict::Damaged),
        row(Some(Above), Some(Known), Some(false), None, ANY, LogVerdict::TornTail),
        // The live chain (PR4, PR5).
        row(Some(Chain), Some(Known), ANY, Some(Contradiction), ANY, LogVerdict::Damaged),
        row(Some(Chain), Some(Known), Some(true), Some(Short), ANY, LogVerdict::Damaged),
        row(Some(Chain), Some(Known), Some(false), Some(Short), ANY, LogVerdict::TornTail),
        row(Some(Chain), Some(Known), ANY, Some(Whole), Some(false), LogVerdict::Damaged),
        row(Some(Chain), Some(Known), ANY, Some(Whole), Some(true), LogVerdict::Clean),
    ]
};

impl Row {
    fn matches(&self, facts: &Facts) -> bool {
        self.place.is_none_or(|cell| cell == facts.place)
            && self.header.is_none_or(|cell| cell == facts.header)
            && self.proof.is_none_or(|cell| cell == facts.proof)
            && self.walk.is_none_or(|cell| cell == facts.walk)
            && self.seal_as_known.is_none_or(|cell| cell == facts.seal_as_known)
    }
}

/// What holds for a log of which this is known.
pub(crate) fn verdict(facts: &Facts) -> LogVerdict {
    let row = TABLE.iter().find(|row| row.matches(facts));
    // The test below proves that there is always a row; were there none, damage is the verdict that loses nothing.
    row.map_or(LogVerdict::Damaged, |row| row.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_exactly_one_row() {
        let places = [Place::Below, Place::Chain, Place::Jumped, Place::Above];
        let headers = [
            Header::Absent,
            Header::Blank,
            Header::Damaged,
            Header::Foreign,
            Header::Newer,
            Header::Known,
            Header::Unknown,
        ];
        let walks = [Walk::Whole, Walk::Short, Walk::Contradiction];
        let mut used = vec![false; TABLE.len()];
        for (place, header) in places.into_iter().flat_map(|p| headers.map(|h| (p, h))) {
            for (proof, seal_as_known) in [(false, false), (false, true), (true, false), (true, true)] {
                for walk in walks {
                    let facts = Facts { place, header, proof, walk, seal_as_known };
                    let rows: Vec<_> = (0..TABLE.len()).filter(|&row| TABLE[row].matches(&facts)).collect();
                    assert_eq!(rows.len(), 1, "{facts:?} matches rows {rows:?}");
                    used[rows[0]] = true;
                }
            }
        }
        assert!(used.iter().all(|used| *used), "a row that nothing matches: {used:?}");
    }

    #[test]
    fn proof_makes_the_difference_between_torn_and_damaged() {
        let torn = Facts {
            place: Place::Chain,
            header: Header::Known,
            proof: false,
            walk: Walk::Short,
            seal_as_known: true,
        };
        assert_eq!(verdict(&torn), LogVerdict::TornTail);
        assert_eq!(verdict(&Facts { proof: true, ..torn }), LogVerdict::Damaged);
    }
}
