//! A record costs no allocation and its payload one copy, into the buffer of its group.

use std::path::Path;
use std::sync::Arc;

use wal_io::probe::Way;
use wal_manager::io::{Access, Entry, IoError, Lock, Sink, Source, Storage};
use wal_manager::{Appended, Durability, FamilyId, FsStorage, MemStorage, Wal, WriteBatch};
use wal_tests::allocations::{self, Tracking};
use wal_tests::life::{families, record};

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

/// Takes everything and keeps what is written to logs nowhere, so that only the log's own memory is counted.
#[derive(Clone, Debug, Default)]
struct Forgetful(MemStorage);

#[derive(Debug)]
struct Nowhere;

impl Sink for Nowhere {
    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), IoError> {
        Ok(())
    }

    fn sync_data(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn preallocate(&self, _: u64) -> Result<(), IoError> {
        Ok(())
    }

    fn fill(&self, _: u64) -> Result<(), IoError> {
        Ok(())
    }
}

impl Storage for Forgetful {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn list(&self) -> Result<Vec<Entry>, IoError> {
        self.0.list()
    }

    fn create_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        let sink = self.0.create_with(name, access)?;
        if name.ends_with(".wal") { Ok(Arc::new(Nowhere)) } else { Ok(sink) }
    }

    fn open_sink_with(&self, name: &str, access: Access) -> Result<Arc<dyn Sink>, IoError> {
        self.0.open_sink_with(name, access)
    }

    fn open_source(&self, name: &str) -> Result<Arc<dyn Source>, IoError> {
        self.0.open_source(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), IoError> {
        self.0.rename(from, to)
    }

    fn unlink(&self, name: &str) -> Result<(), IoError> {
        self.0.unlink(name)
    }

    fn sync_dir(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        Ok(())
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Lock>, IoError> {
        self.0.lock(name)
    }
}

fn open() -> Wal {
    let recovery = Wal::options_on(Arc::new(Forgetful::default())).log_bytes(1 << 40).recover().unwrap();
    recovery.finish_without_replay().unwrap().0
}

/// Runs it until the buffers have their size, and then says what `rounds` more cost.
fn steady(rounds: usize, mut append: impl FnMut() -> Appended) -> allocations::Allocations {
    for _ in 0..rounds {
        append();
    }
    let ((), seen) = allocations::of(|| {
        for _ in 0..rounds {
            append();
        }
    });
    seen
}

#[test]
fn s15_ten_thousand_appends_of_any_level_allocate_nothing() {
    let payload = [7; 300];
    let list = families(&[0, 1, 5]);
    for level in [Durability::Buffered, Durability::Written, Durability::Synced] {
        let wal = open();
        let mut number = 0;
        let seen = steady(10_000, || {
            number += 1;
            // What is not durable is kept in buffers, of which there are enough after the first few syncs.
            if number % 1_000 == 0 {
                wal.sync().unwrap();
            }
            wal.append_with(record(&payload).families(&list), level).unwrap()
        });
        assert_eq!(seen.count, 0, "{level:?}: {seen:?}");
    }
    let wal = open();
    let mut number = 0;
    let seen = steady(10_000, || {
        number += 1;
        let level = if number % 10 == 0 { Durability::Synced } else { Durability::Buffered };
        wal.append_with(record(&payload).families(&list), level).unwrap()
    });
    assert_eq!(seen.count, 0, "groups of ten: {seen:?}");
}

/// On a real directory, in a log that was made ahead, where a group goes the way that files go.
#[test]
fn s15_r7_appends_to_a_log_that_was_made_ahead_allocate_nothing_whichever_way_it_is_written() {
    let payload = [7; 300];
    for way in [Way::Filled, Way::Direct] {
        let outer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = Wal::options(outer.path()).way(way).log_bytes(8 << 20).background(false);
        let wal = options.recover().unwrap().finish_without_replay().unwrap().0;
        wal.append(record(&payload)).unwrap();
        wal.housekeep().unwrap();
        wal.rotate().unwrap().unwrap();
        // A log allocates once for an envelope at the end of a block, which some of these meet.
        for _ in 0..10_000 {
            wal.append_with(record(&payload), Durability::Buffered).unwrap();
        }
        for level in [Durability::Buffered, Durability::Written, Durability::Synced] {
            let mut number = 0;
            let seen = steady(200, || {
                number += 1;
                if number % 20 == 0 {
                    wal.sync().unwrap();
                }
                wal.append_with(record(&payload), level).unwrap()
            });
            assert_eq!(seen.count, 0, "{way}, {level:?}: {seen:?}");
        }
        assert_eq!(wal.logs().len(), 2, "all of it in the log that was made ahead");
    }
}

/// What waits for a sync is bounded, and its buffers are used again.
#[test]
fn s15_appends_that_nobody_syncs_take_bounded_memory() {
    let wal = open();
    let payload = [7; 300];
    let (_, seen) = allocations::of(|| {
        for _ in 0..300_000 {
            wal.append_with(record(&payload), Durability::Buffered).unwrap();
        }
    });
    let bound = 4 * wal_manager::SYNC_BYTES_DEFAULT as isize + 4 * wal_manager::GROUP_BYTES_MAX as isize;
    assert!(seen.peak < bound, "{seen:?}");
}

#[test]
fn s15_a_batch_that_is_used_again_allocates_nothing() {
    let wal = open();
    let mut batch = WriteBatch::new();
    let seen = steady(10_000, || {
        batch.clear();
        batch.put(FamilyId::DEFAULT, b"key", b"value").unwrap();
        batch.delete(FamilyId::new(3), b"other").unwrap();
        wal.append(&batch).unwrap()
    });
    assert_eq!(seen.count, 0, "{seen:?}");
}

#[test]
fn s15_a_large_payload_is_copied_once_into_the_buffer_of_its_group() {
    let wal = open();
    let payload = vec![7; 3 << 20];
    // A second copy would need memory for it, in each append or for good.
    let (_, first) = allocations::of(|| wal.append(record(&payload)).unwrap());
    let growing = isize::try_from(payload.len()).unwrap() * 2 + (256 << 10);
    assert!(first.live <= growing && first.peak <= 2 * growing, "{first:?}");
    let seen = steady(20, || wal.append(record(&payload)).unwrap());
    assert_eq!(seen.count, 0, "{seen:?}");
}

#[test]
fn s15_a_huge_payload_does_not_keep_its_memory() {
    let wal = open();
    let payload = vec![7; 40 << 20];
    let (_, seen) = allocations::of(|| wal.append(record(&payload)).unwrap());
    assert!(seen.live < 16 << 20, "given back: {seen:?}");
    drop(wal);
}

#[test]
fn s15_i8_sinks_allocate_nothing_for_a_write_whichever_way_it_goes() {
    let outer = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let storage = FsStorage::open(outer.path()).unwrap();
    for access in [Access::Cached, Access::Direct] {
        let sink = storage.create_with(&format!("{access:?}"), access).unwrap();
        let mut end = 0;
        let mut write = || {
            let bytes = [7; 3_000];
            sink.write_at(end, &bytes).unwrap();
            sink.sync_data().unwrap();
            sink.write_synced_at(end + 3_000, &bytes).unwrap();
            end += 6_000;
        };
        // The direct sink's memory has its size after a few.
        (0..4).for_each(|_| write());
        let ((), seen) = allocations::of(|| (0..20).for_each(|_| write()));
        assert_eq!(seen.count, 0, "{access:?}: {seen:?}");
    }
}
