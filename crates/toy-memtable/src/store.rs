//! The live tables and MANIFEST; the only code that changes either.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use wal_manager::io::{EntryKind, Storage};
use wal_manager::{FamilyId, SeqNum};

use crate::entry::{Entry, Key};
use crate::error::EngineError;
use crate::manifest::{MANIFEST, MANIFEST_NEW, Manifest};
use crate::memtable::{Memtable, MemtableCursor};
use crate::scan::{Cursor, Merged};
use crate::table::{self, Table, TableCursor, TableWriter};

/// The directory of the tables. Whoever has this holds the log's LOCK.
#[derive(Debug)]
pub(crate) struct Store {
    storage: Arc<dyn Storage>,
    /// As it is on disk.
    manifest: Manifest,
    /// The tables of the manifest, opened, oldest first.
    live: Vec<Arc<Table>>,
}

impl Store {
    /// Opens the live tables and removes what an unfinished flush or merge has left.
    ///
    /// `new` says that the log has never held a record: only then may MANIFEST be missing.
    ///
    /// # Errors
    /// MANIFEST or a table is damaged or missing; nothing was removed.
    pub(crate) fn open(storage: Arc<dyn Storage>, new: bool) -> Result<Self, EngineError> {
        let files: Vec<String> = storage
            .list()?
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::File)
            .filter_map(|entry| entry.name.into_string().ok())
            .collect();
        let manifest = match Manifest::read(&*storage)? {
            Some(manifest) => manifest,
            None if new && !files.iter().any(|name| table::number(name).is_some()) => Manifest::default(),
            None => return Err(EngineError::ManifestMissing { path: storage.path().join(MANIFEST) }),
        };
        let live: Vec<_> = manifest
            .tables
            .iter()
            .map(|number| Table::open(&storage, *number).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let listed = |(family, seq): (&FamilyId, &SeqNum)| manifest.flushed.get(family) >= Some(seq);
        if !live.iter().all(|table| table.highest().iter().all(listed)) {
            let path = storage.path().join(MANIFEST);
            return Err(EngineError::Manifest { path, reason: "a table holds more than it says is flushed" });
        }
        // ORDER: only after MANIFEST and every table in it were read.
        if files.iter().any(|name| name == MANIFEST_NEW) {
            storage.unlink(MANIFEST_NEW)?;
        }
        // ORDER: before the first record is appended. Else a power cut could take the directory while the log believes in it.
        storage.sync_parents()?;
        // ORDER: before anything relies on it: the orphans go, the log is told what is flushed. What was read may be the work of a
        // process that died, or whose sync failed, before the name was durable; then a power cut would bring the old MANIFEST
        // back, whose tables are gone. Also before the first record is appended: from then on a missing MANIFEST is a
        // fault, never a new directory.
        let manifest = Manifest { next_table: manifest.next_table.max(1), ..manifest };
        manifest.write(&*storage)?;
        let is_orphan =
            |name: &&String| table::number(name).is_some_and(|number| !manifest.tables.contains(&number));
        for name in files.iter().filter(is_orphan) {
            storage.unlink(name)?;
        }
        Ok(Self { storage, manifest, live })
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The live tables, oldest first.
    pub(crate) fn live(&self) -> &[Arc<Table>] {
        &self.live
    }

    /// Writes a memtable as a table.
    ///
    /// The caller has made the log durable through everything in the memtable, and no operation will be added to it.
    ///
    /// # Durability
    /// When this returns, MANIFEST says that the memtable's highest sequence numbers are flushed, durably.
    ///
    /// # Errors
    /// The table may be left as an orphan, which the next open removes. The caller must not try again.
    pub(crate) fn add(&mut self, memtable: &Arc<Memtable>) -> Result<(), EngineError> {
        let newest = SeqNum::new(u64::MAX);
        let cursor = MemtableCursor::new(Arc::clone(memtable), newest, Bound::Unbounded, Bound::Unbounded);
        let range_deletes = cursor.ranges().joined();
        let mut manifest = self.manifest.clone();
        for (family, seq) in memtable.highest() {
            let flushed = manifest.flushed.entry(family).or_insert(seq);
            *flushed = seq.max(*flushed);
        }
        let table = self.write_table(&mut manifest, cursor.map(Ok), &range_deletes, &memtable.highest())?;
        manifest.write(&*self.storage)?;
        self.manifest = manifest;
        self.live.extend(table);
        Ok(())
    }

    /// Merges all tables into one. The oldest entries are among them, so that deletes have nothing left to hide and go.
    ///
    /// # Errors
    /// As for [`Store::add`]; the old tables stay.
    pub(crate) fn merge_all(&mut self) -> Result<(), EngineError> {
        let cursors = self.live.iter().rev().map(|table| {
            Cursor::Table(TableCursor::new(Arc::clone(table), Bound::Unbounded, Bound::Unbounded))
        });
        let mut manifest = self.manifest.clone();
        manifest.tables.clear();
        let highest = manifest.flushed.clone();
        let entries =
            Merged::new(cursors.collect()).map(|item| item.map(|(key, value)| (key, Entry::Put(value))));
        let table = self.write_table(&mut manifest, entries, &[], &highest)?;
        manifest.write(&*self.storage)?;
        self.manifest = manifest;
        let old = std::mem::replace(&mut self.live, table.into_iter().collect());
        for table in old {
            // ORDER: after MANIFEST without it is durable. Else a power cut brings back the MANIFEST that needs it. A failed
            // unlink leaves an orphan, which the next open removes.
            let _left_as_orphan = self.storage.unlink(&table::name(table.number()));
        }
        Ok(())
    }

    /// Writes the next table and adds it to `manifest`, unless there is nothing to write.
    fn write_table(
        &self,
        manifest: &mut Manifest,
        entries: impl Iterator<Item = Result<(Key, Entry), EngineError>>,
        range_deletes: &[(Key, Bytes)],
        highest: &BTreeMap<FamilyId, SeqNum>,
    ) -> Result<Option<Arc<Table>>, EngineError> {
        let mut entries = entries.peekable();
        if entries.peek().is_none() && range_deletes.is_empty() {
            return Ok(None);
        }
        let number = manifest.next_table;
        manifest.next_table = number.saturating_add(1);
        manifest.tables.push(number);
        let mut writer = TableWriter::create(&*self.storage, number)?;
        for item in entries {
            let (key, entry) = item?;
            writer.add(&key, &entry)?;
        }
        writer.finish(range_deletes, highest)?;
        // ORDER: before MANIFEST names the table. Else a power cut leaves a MANIFEST whose table has no name.
        self.storage.sync_dir()?;
        Table::open(&self.storage, number).map(|table| Some(Arc::new(table)))
    }
}

#[cfg(test)]
mod tests;
