//! Reading and removing whole files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::data;
use crate::replay::Directory;
use crate::stopwatch::time;
use crate::whole::case::{Case, DELETED_LOGS, SMALL_LOG_BYTES};
use crate::whole::load;
use crate::whole::measured::Measured;
use crate::whole::ours::DELETE_ROUNDS;

/// Every file of the log once, 256 KiB at a time into one buffer, and a CRC-32 over each piece that is as long as a record.
pub(super) fn read_crc(case: &Case) -> Measured {
    let directory = Directory::at(case.prepared(), case.size);
    directory.bare_read();
    load::once(|| {
        directory.bare();
        directory.records()
    })
}

/// Removes as many files as [`DELETED_LOGS`], and syncs the directory.
pub(super) fn unlink(case: &Case) -> Measured {
    let mut took = Vec::new();
    let bytes = vec![7; usize::try_from(SMALL_LOG_BYTES).expect("one MiB")];
    for _ in 0..DELETE_ROUNDS {
        let directory = data::directory();
        let paths: Vec<_> =
            (0..DELETED_LOGS).map(|number| directory.path().join(number.to_string())).collect();
        for path in &paths {
            let file = File::create_new(path).expect("a new file");
            file.write_all_at(&bytes[..usize::try_from(case.volume(SMALL_LOG_BYTES)).expect("one MiB")], 0)
                .expect("a write");
            file.sync_all().expect("a sync");
        }
        let handle = File::open(directory.path()).expect("a directory");
        handle.sync_all().expect("a sync");
        let (round, ()) = time(|| {
            for path in &paths {
                fs::remove_file(path).expect("a file");
            }
            handle.sync_all().expect("a sync");
        });
        took.push(round);
    }
    let records = (DELETED_LOGS * DELETE_ROUNDS) as u64;
    let seconds = took.iter().sum::<std::time::Duration>().as_secs_f64();
    Measured { records, seconds, appended: records, ..Measured::default() }.latencies(took)
}
