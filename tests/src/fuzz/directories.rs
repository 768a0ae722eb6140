//! Directories as a log leaves them, to be changed by a fuzzer.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wal_io::sim::{SimOptions, SimStorage};
use wal_manager::{Clock, Durability, FamilyId, Options, SeqNum, Wal};

use crate::life;
use crate::logs::{WAL_ID, pattern};

/// A directory at rest.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A clock that stands still: the same life leaves the same bytes.
#[derive(Debug)]
pub struct Stopped;

impl Clock for Stopped {
    fn wall(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn options(disk: &SimStorage) -> Options {
    Wal::options_on(Arc::new(disk.clone()))
        .wal_id(WAL_ID)
        .clock(Arc::new(Stopped))
        .log_bytes(life::SMALL)
        .idle_promise(None)
}

fn append(wal: &Wal, number: usize, length: usize, level: Durability) {
    let families = [FamilyId::new((number % 2) as u32)];
    let payload = pattern(number, length);
    wal.append_with(life::record(&payload).families(&families), level).unwrap();
}

/// Directories that any recovery takes as they are, or nothing at all.
pub(super) fn all() -> &'static [Files] {
    static ALL: OnceLock<Vec<Files>> = OnceLock::new();
    ALL.get_or_init(|| {
        let lives: [fn(&mut SimStorage); 7] = [closed, killed, rotated, deleted, twice, long, unfinished];
        let mut all = vec![Files::new()];
        for life in lives {
            let mut disk = SimStorage::with_options(SimOptions::default());
            life(&mut disk);
            let names = disk.file_names().into_iter().filter(|name| name != "LOCK");
            all.push(names.map(|name| (name.clone(), disk.read_file(&name).unwrap())).collect());
        }
        all
    })
}

fn three_groups(disk: &SimStorage) -> Wal {
    let (wal, ..) = life::reopen(options(disk));
    append(&wal, 1, 20, Durability::Synced);
    append(&wal, 2, 30, Durability::Buffered);
    append(&wal, 3, 500, Durability::Synced);
    append(&wal, 4, 10, Durability::Written);
    wal
}

fn closed(disk: &mut SimStorage) {
    three_groups(disk).close().unwrap();
}

fn killed(disk: &mut SimStorage) {
    drop(three_groups(disk));
}

fn rotated(disk: &mut SimStorage) {
    let wal = three_groups(disk);
    wal.rotate().unwrap();
    append(&wal, 5, 40, Durability::Synced);
    wal.rotate().unwrap();
}

fn deleted(disk: &mut SimStorage) {
    let wal = three_groups(disk);
    wal.rotate().unwrap();
    append(&wal, 5, 40, Durability::Synced);
    append(&wal, 6, 40, Durability::Synced);
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(4)).unwrap();
    wal.mark_flushed(FamilyId::new(1), SeqNum::new(3)).unwrap();
}

fn twice(disk: &mut SimStorage) {
    drop(three_groups(disk));
    let (wal, ..) = life::reopen(options(disk));
    append(&wal, 5, 40, Durability::Synced);
    drop(wal);
    let (wal, ..) = life::reopen(options(disk));
    append(&wal, 6, 60, Durability::Synced);
}

fn long(disk: &mut SimStorage) {
    let wal = three_groups(disk);
    append(&wal, 5, 33_000, Durability::Synced);
    append(&wal, 6, 10, Durability::Synced);
}

/// A recovery of an unproven tail that did not get as far as CHECKPOINT.
fn unfinished(disk: &mut SimStorage) {
    drop(three_groups(disk));
    disk.crash_after(7);
    options(disk).recover().unwrap_err();
    *disk = disk.crash_all_kept();
}
