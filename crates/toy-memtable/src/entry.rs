//! Keys, and what a source says of a key.

use bytes::{Bytes, BytesMut};
use wal_manager::{FamilyId, SeqNum};

/// A key of the engine: families are a prefix, so that one sorted order holds them all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) family: FamilyId,
    pub(crate) user: Bytes,
}

/// What one operation does to a key, and, combined, what a whole memtable or table does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The key holds this, whatever older sources say.
    Put(Bytes),
    /// The key holds nothing, whatever older sources say.
    Delete,
    /// This is appended to what older sources say.
    Merge(Bytes),
}

/// Combines the versions of a key in one source, newest first, into one entry; `covered` is the newest range delete over
/// the key. `None`: the operations say nothing of the key, though the range delete may.
pub(crate) fn collapse(
    versions: impl Iterator<Item = (SeqNum, Entry)>,
    covered: Option<SeqNum>,
) -> Option<Entry> {
    let mut operands = Vec::new();
    for (seq, entry) in versions {
        if covered.is_some_and(|range| range > seq) {
            break;
        }
        match entry {
            Entry::Merge(operand) => operands.push(operand),
            Entry::Put(value) => return resolve(Some(value), operands).map(Entry::Put),
            Entry::Delete => return Some(resolve(None, operands).map_or(Entry::Delete, Entry::Put)),
        }
    }
    let entry = if covered.is_some() { Entry::Put } else { Entry::Merge };
    resolve(None, operands).map(entry)
}

/// A value with operands, newest first, appended to it; `None` if there is neither.
pub(crate) fn resolve(base: Option<Bytes>, operands: Vec<Bytes>) -> Option<Bytes> {
    let mut parts = base.into_iter().chain(operands.into_iter().rev());
    let first = parts.next()?;
    let Some(second) = parts.next() else { return Some(first) };
    let mut value = BytesMut::from(&*first);
    value.extend_from_slice(&second);
    parts.for_each(|part| value.extend_from_slice(&part));
    Some(value.freeze())
}
