//! What the crates share.

use std::fs::{self, File};
use std::path::Path;

use tempfile::TempDir;
use wal_benches::data::{self, Payloads};
use wal_benches::whole::case::{Case, Workload};
use wal_benches::whole::load;
use wal_benches::whole::measured::Measured;
use wal_benches::whole::ours::{NOSYNC_BYTES, REPLAY_BYTES, WARM_BYTES};
use wal_benches::whole::side::Work;

/// The three ways in which a crate is called. `sync` is `None` if it can only append durably.
pub(crate) fn work(
    workload: Workload,
    synced: fn(&Case) -> Measured,
    nosync: Option<fn(&Case) -> Measured>,
    (name, prepare, replay): (&'static str, fn(&Case), fn(&Case) -> Measured),
) -> Option<Work> {
    match workload {
        Workload::Lone | Workload::Group(_) => Some(Work::new(synced)),
        Workload::Nosync => nosync.map(Work::new),
        Workload::Replay => Some(Work::prepared(name, prepare, replay)),
        _ => None,
    }
}

/// Appends some records that do not count, and then those of the workload; `finish` hands what is left to the system.
pub(crate) fn stream(case: &Case, mut append: impl FnMut(u64, &[u8]), finish: impl FnOnce()) -> Measured {
    let payloads = Payloads::new(case.size);
    let mut number = 0;
    let mut some = |bytes: u64| {
        let records = bytes / case.size as u64;
        for _ in 0..records {
            append(number, payloads.get(usize::try_from(number).expect("a few million")));
            number += 1;
        }
        records
    };
    some(case.volume(WARM_BYTES));
    load::once(|| {
        let records = some(case.volume(NOSYNC_BYTES));
        finish();
        records
    })
}

/// The payloads that a replay finds, in order.
pub(crate) fn replayed(case: &Case, mut append: impl FnMut(u64, &[u8])) {
    let payloads = Payloads::new(case.size);
    for number in 0..records(case) {
        append(number, payloads.get(usize::try_from(number).expect("a few million")));
    }
}

/// How many there are.
pub(crate) fn records(case: &Case) -> u64 {
    case.volume(REPLAY_BYTES) / case.size as u64
}

/// A replay, which returns how many records and bytes it found. It gets a copy of what was prepared, since opening a log may change it. The
/// copy is in the page cache, and on the disk.
pub(crate) fn replay(case: &Case, read: impl FnOnce(&Path) -> (u64, u64)) -> Measured {
    let directory = data::directory();
    copy(case.prepared(), directory.path());
    let mut found = (0, 0);
    let measured = load::once(|| {
        found = read(directory.path());
        found.0
    });
    assert_eq!(found, (records(case), records(case) * case.size as u64), "every record and every byte");
    measured
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            fs::create_dir(&to).expect("a new directory");
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
            File::open(&to).expect("a file").sync_all().expect("a sync");
        }
    }
}

/// A directory for a new log.
pub(crate) fn directory() -> TempDir {
    data::directory()
}
