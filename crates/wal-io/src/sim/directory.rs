//! The names: which are durable, which are pending, which are seen.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::mem;

use xxhash_rust::xxh3::Xxh3;

use super::pending::{Fate, Pending};

/// A file's number.
pub(super) type Id = u64;

/// The names of a disk. Those of a directory beside the first one begin with that one's name and a slash, which no file name holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// The names that an open or a listing sees.
    pub(super) seen: BTreeMap<String, Id>,
    /// The names that are on the disk for certain.
    pub(super) durable: BTreeMap<String, Id>,
    /// The directory's own entry is durable.
    pub(super) published: bool,
    pending: Vec<(u64, NameChange)>,
}

/// One change of a name.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Create { name: String, id: Id },
    Link { name: String, id: Id },
    Rename { from: String, to: String, id: Id },
    Unlink { name: String, id: Id },
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Id>) {
        match self {
            Self::Create { name, id } | Self::Link { name, id } => {
                names.insert(name.clone(), *id);
            }
            Self::Rename { to, id, .. } => {
                // A file has one name in each directory, so that a lost earlier rename cannot leave it two.
                names.retain(|name, other| other != id || directory_of(name) != directory_of(to));
                names.insert(to.clone(), *id);
            }
            Self::Unlink { name, id } => {
                if names.get(name) == Some(id) {
                    names.remove(name);
                }
            }
        }
    }

    fn id(&self) -> Id {
        match self {
            Self::Create { id, .. }
            | Self::Link { id, .. }
            | Self::Rename { id, .. }
            | Self::Unlink { id, .. } => *id,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Create { name, .. } | Self::Link { name, .. } | Self::Unlink { name, .. } => name,
            Self::Rename { to, .. } => to,
        }
    }

    fn pending(&self) -> Pending {
        match self.clone() {
            Self::Create { name, .. } => Pending::Create { name },
            Self::Link { name, .. } => Pending::Link { name },
            Self::Rename { from, to, .. } => Pending::Rename { from, to },
            Self::Unlink { name, .. } => Pending::Unlink { name },
        }
    }
}

/// The directory that a name is in, with its slash; the first one's is empty.
pub(super) fn directory_of(name: &str) -> &str {
    name.rfind('/').and_then(|slash| name.get(..=slash)).unwrap_or_default()
}

impl Directory {
    /// Seen at once, durable later.
    pub(super) fn change(&mut self, sequence: u64, change: NameChange) {
        change.apply(&mut self.seen);
        self.pending.push((sequence, change));
    }

    /// Decides what becomes of everything pending.
    pub(super) fn settle(&mut self, fate: &mut dyn FnMut(u64) -> Fate) {
        for (sequence, change) in mem::take(&mut self.pending) {
            if fate(sequence) == Fate::Kept {
                change.apply(&mut self.durable);
            }
        }
    }

    /// Makes the names of one directory durable, or loses them.
    pub(super) fn settle_in(&mut self, directory: &str, fate: Fate) {
        for (sequence, change) in mem::take(&mut self.pending) {
            if directory_of(change.name()) != directory {
                self.pending.push((sequence, change));
            } else if fate == Fate::Kept {
                change.apply(&mut self.durable);
            }
        }
    }

    /// The same directory after a power cut; `exists` says whether its own entry survived.
    pub(super) fn after_power_cut(&self, exists: bool, fate: &mut dyn FnMut(u64) -> Fate) -> Self {
        if !exists {
            return Self::default();
        }
        let mut after = self.clone();
        after.settle(fate);
        after.seen.clone_from(&after.durable);
        after.published = true;
        after
    }

    /// What is pending, in the order in which it was done.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u64, Pending)> + '_ {
        self.pending.iter().map(|(sequence, change)| (*sequence, change.pending()))
    }

    /// Some name leads to the file, or may lead to it after a power cut.
    pub(super) fn mentions(&self, id: Id) -> bool {
        self.seen.values().chain(self.durable.values()).any(|other| *other == id)
            || self.pending.iter().any(|(_, change)| change.id() == id)
    }

    /// Every file that a name leads to or may lead to, in an order that does not depend on the files' numbers.
    pub(super) fn mentioned(&self) -> Vec<Id> {
        let named = self.seen.values().chain(self.durable.values()).copied();
        let mut ids: Vec<Id> = Vec::new();
        for id in named.chain(self.pending.iter().map(|(_, change)| change.id())) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// Adds all that decides what can become of the names; a file is its place in `mentioned`.
    pub(super) fn fingerprint(&self, mentioned: &[Id], hash: &mut Xxh3) {
        let place = |id: Id| mentioned.iter().position(|other| *other == id);
        self.published.hash(hash);
        for names in [&self.seen, &self.durable] {
            names.len().hash(hash);
            for (name, id) in names {
                (name, place(*id)).hash(hash);
            }
        }
        self.pending.len().hash(hash);
        for (_, change) in &self.pending {
            let (kind, from, to) = match change {
                NameChange::Create { name, .. } => (0_u8, name.as_str(), ""),
                NameChange::Link { name, .. } => (1, name.as_str(), ""),
                NameChange::Rename { from, to, .. } => (2, from.as_str(), to.as_str()),
                NameChange::Unlink { name, .. } => (3, name.as_str(), ""),
            };
            (kind, from, to, place(change.id())).hash(hash);
        }
    }
}
