//! The engine: open, put, get, flush, close. `main.rs` kills it with SIGKILL; the example `crash_test_your_engine` cuts its power.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use wal_manager::io::Storage;
use wal_manager::{FamilyId, Op, Options, SeqNum, Wal, WriteBatch};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Sorted keys and values: the newest in memory, the rest in one table, both of them rebuilt by `open`.
pub(crate) struct Engine {
    wal: Wal,
    tables: Arc<dyn Storage>,
    table: Map,
    /// `None`: deleted.
    memtable: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The newest sequence number in the memtable.
    newest: Option<SeqNum>,
}

impl Engine {
    pub(crate) fn open(options: Options, tables: Arc<dyn Storage>) -> Result<Self> {
        // The log's lock is the engine's: it comes before anything else is touched.
        let recovery = options.recover()?;
        tables.sync_parents()?;
        // The table, not the log, says what is in the table: a crash may have come before the log was told.
        let (table, flushed) = read_table(&*tables)?;
        let (mut memtable, mut newest) = (BTreeMap::new(), None);
        for record in recovery.records() {
            let record = record?;
            if flushed >= Some(record.seqs.last()) {
                continue;
            }
            for op in record.ops()? {
                match op? {
                    Op::Put { key, value, .. } => memtable.insert(key.to_vec(), Some(value.to_vec())),
                    Op::Delete { key, .. } => memtable.insert(key.to_vec(), None),
                    other => return Err(format!("this engine writes no {other:?}").into()),
                };
            }
            newest = Some(record.seqs.last());
        }
        let (wal, _report) = recovery.finish()?;
        if let Some(flushed) = flushed.filter(|flushed| wal.flushed(FamilyId::DEFAULT) < Some(*flushed)) {
            wal.mark_flushed(FamilyId::DEFAULT, flushed)?;
        }
        Ok(Self { wal, tables, table, memtable, newest })
    }

    /// Survives a power cut when it returns. After an error nobody knows whether it does: an engine of more than one screen would look at
    /// the error's kind, see the guide.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put(FamilyId::DEFAULT, key, value)?;
        // First the log, then the memtable: readers see only what is durable.
        self.newest = Some(self.wal.append(&batch)?.seqs.last());
        self.memtable.insert(key.to_vec(), Some(value.to_vec()));
        Ok(())
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.memtable.get(key).map_or_else(|| self.table.get(key), Option::as_ref).map(Vec::as_slice)
    }

    /// Moves the memtable into the table, and lets the log forget it.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let Some(newest) = self.newest else { return Ok(()) };
        // What comes from here on stands in another log, so that this one can go.
        self.wal.rotate()?;
        let mut table = self.table.clone();
        for (key, value) in &self.memtable {
            match value {
                Some(value) => table.insert(key.clone(), value.clone()),
                None => table.remove(key),
            };
        }
        write_table(&*self.tables, &table, newest)?;
        // ORDER: after the table is durable. Else a power cut leaves neither log nor table.
        self.wal.mark_flushed(FamilyId::DEFAULT, newest)?;
        (self.table, self.memtable, self.newest) = (table, BTreeMap::new(), None);
        Ok(())
    }

    /// How many keys are in the table, and how many changes in the memtable.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.table.len(), self.memtable.len())
    }

    /// Not needed for safety: the next open is cheaper, and a failure that nobody has noticed is told.
    pub(crate) fn close(self) -> Result<()> {
        Ok(self.wal.close()?)
    }
}

/// The table is a sequence number, up to which everything is in it, and a batch of puts. A real one has checksums.
fn write_table(tables: &dyn Storage, table: &Map, flushed: SeqNum) -> Result<()> {
    let mut batch = WriteBatch::new();
    table.iter().try_for_each(|(key, value)| batch.put(FamilyId::DEFAULT, key, value))?;
    match tables.unlink("TABLE.new") {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {} // A crash left it.
    }
    let file = tables.create("TABLE.new")?;
    file.write_at(0, &flushed.get().to_le_bytes())?;
    file.write_at(8, batch.as_bytes())?;
    // ORDER: before the rename. Else a power cut leaves the name on a file without its bytes.
    file.sync_all()?;
    tables.rename("TABLE.new", "TABLE")?;
    // ORDER: before the log forgets. Else a power cut brings the old table back.
    Ok(tables.sync_dir()?)
}

fn read_table(tables: &dyn Storage) -> Result<(Map, Option<SeqNum>)> {
    let file = match tables.open_source("TABLE") {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Map::new(), None)),
        file => file?,
    };
    let mut bytes = vec![0; usize::try_from(file.length()?)?];
    let read = file.read_at(0, &mut bytes)?;
    let (flushed, batch) =
        bytes.get(..read).and_then(<[u8]>::split_first_chunk).ok_or("TABLE is too short")?;
    let mut table = Map::new();
    for op in wal_manager::BatchOps::new(batch)? {
        let Op::Put { key, value, .. } = op? else { return Err("TABLE holds puts and nothing else".into()) };
        table.insert(key.to_vec(), value.to_vec());
    }
    Ok((table, Some(SeqNum::new(u64::from_le_bytes(*flushed)))))
}
