//! A quick look: what it reads, what it says, and what only a whole look finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal_io::sim::SimStorage;
use wal_manager::{LogState, LogVerdict, Options, RestorePoint, Verdict, Wal};
use wal_tests::life::{SMALL, options, payload, record, reopen};

/// Three sealed logs, and one that was being written when the process died.
fn life() -> SimStorage {
    let disk = SimStorage::new();
    let wal = reopen(options(&disk).log_bytes(SMALL)).0;
    for number in 1..=30 {
        wal.append(record(&payload(number, 3000))).unwrap();
        if number % 8 == 0 {
            wal.rotate().unwrap();
        }
    }
    drop(wal);
    disk.process_crash()
}

/// How many bytes it says that it has read, in all its steps.
fn read(options: Options, look: impl FnOnce(Options)) -> u64 {
    let read = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&read);
    look(options.on_progress(move |progress| {
        // Each step ends at its total.
        if progress.bytes_done == progress.bytes_total {
            seen.fetch_add(progress.bytes_done, Ordering::Relaxed);
        }
    }));
    read.load(Ordering::Relaxed)
}

#[test]
fn x3_a_glance_says_of_a_sound_log_what_a_whole_look_says_but_for_families() {
    for close in [false, true] {
        let disk = life();
        if close {
            reopen(options(&disk)).0.close().unwrap();
        }
        let before = disk.file_names();
        let (glance, inspection) = (options(&disk).glance().unwrap(), options(&disk).inspect().unwrap());
        let (mut quick, mut whole) = (glance.report().clone(), inspection.report().clone());
        (quick.duration_micros, whole.duration_micros) = (0, 0);
        assert_eq!(quick, whole, "closed: {close}");
        assert_eq!(glance.checkpoint(), inspection.checkpoint().unwrap());
        let mut unread = 0;
        for (quick, whole) in glance.logs().iter().zip(inspection.logs()) {
            assert_eq!(
                (quick.log, quick.bytes, quick.records, quick.seqs),
                (whole.log, whole.bytes, whole.records, whole.seqs)
            );
            if quick.families != whole.families {
                assert!(
                    quick.families.is_empty() && quick.state == LogState::Sealed,
                    "only of logs that were not read"
                );
                unread += 1;
            }
        }
        assert!(unread >= 2, "what was sealed was not read");
        assert_eq!(disk.file_names(), before);
    }
}

#[test]
fn v3_a_glance_reads_what_nobody_vouches_for_and_no_more() {
    let disk = life();
    let logs = options(&disk).inspect().unwrap().logs().to_vec();
    let sealed = logs.iter().filter(|info| info.state == LogState::Sealed).count();
    assert!(sealed >= 2, "{logs:?}");
    let verdict = |log: usize, offset: usize| {
        let disk = life();
        disk.corrupt(&format!("{:06}.wal", logs[log].log.get()), |bytes| bytes[offset] ^= 1);
        (
            options(&disk).glance().unwrap().report().verdict,
            options(&disk).inspect().unwrap().report().verdict,
        )
    };
    // In the middle of a record of a sealed log: only who reads it knows.
    assert_eq!(verdict(0, 5000), (Verdict::Clean, Verdict::Damaged));
    // Its header, and the log that is written, before the last promise in it.
    assert_eq!(verdict(0, 20), (Verdict::Damaged, Verdict::Damaged));
    assert_eq!(verdict(logs.len() - 1, 5000), (Verdict::Damaged, Verdict::Damaged));
    // Its seal: then it is read, and found to have none.
    let disk = life();
    let first = format!("{:06}.wal", logs[0].log.get());
    let length = disk.read_file(&first).unwrap().len();
    disk.corrupt(&first, |bytes| bytes[length - 10] ^= 1);
    let quick = options(&disk).glance().unwrap().report().clone();
    assert_eq!(quick.logs, options(&disk).inspect().unwrap().report().logs);
    assert_eq!(quick.logs[0].verdict, LogVerdict::Damaged);
    // One that is gone.
    let disk = life();
    assert!(disk.remove(&first));
    assert_eq!(options(&disk).glance().unwrap().report().logs[0].verdict, LogVerdict::Missing);
}

#[test]
fn copies_restores_and_repairs_tell_how_far_they_have_come() {
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str| home.path().join(name);
    let wal = reopen(Wal::options(place("wal")).log_bytes(SMALL)).0;
    for number in 1..=30 {
        wal.append(record(&payload(number, 3000))).unwrap();
    }
    wal.close().unwrap();
    // What is there is read, copied, and read again where it is now.
    let copied = read(Wal::options(place("wal")), |options| drop(options.copy_to(place("copy")).unwrap()));
    let restored = read(Wal::options(place("restored")), |options| {
        drop(options.restore(&[place("copy")], &RestorePoint::End).unwrap());
    });
    let planned = read(Wal::options(place("restored")), |options| drop(options.plan_repair().unwrap()));
    for (steps, bytes) in [(3, copied), (3, restored), (1, planned)] {
        assert!(bytes >= steps * 90_000, "{steps} steps: {bytes}");
    }
}
