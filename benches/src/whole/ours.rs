//! The log, through its public interface.

use std::collections::VecDeque;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use wal_manager::io::probe::{self, Way};
use wal_manager::{Durability, FamilyId, FsStorage, Options, Record, RecordKind, SeqNum, Storage, Wal};

use super::case::{Case, DELETED_LOGS, IN_FLIGHT, SMALL_LOG_BYTES, Workload};
use super::measured::Measured;
use super::side::{Prepare, Side, Work};
use super::{keepers, load};
use crate::counting::{Count, CountingStorage, Counts};
use crate::data::{self, Payloads};
use crate::replay::Directory;
use crate::stopwatch::time;

/// The log's sides.
pub const SIDES: [Side; 4] = [
    Side { name: "wal", work },
    Side { name: Side::RING, work: ring },
    Side { name: "wal:still", work: still },
    Side { name: "wal:alone", work: alone },
];

/// Payload of [`Workload::Nosync`], in bytes.
pub const NOSYNC_BYTES: u64 = 512 << 20;

/// Payload of [`Workload::Recycled`], in bytes.
pub const RECYCLED_BYTES: u64 = 256 << 20;

/// Written into a new file before [`Workload::Nosync`] counts: the log's buffers have grown by then.
pub const WARM_BYTES: u64 = 3 * wal_manager::GROUP_BYTES_MAX as u64;

/// Length of all logs together in [`Workload::Replay`], in bytes.
pub const REPLAY_BYTES: u64 = 1 << 30;

/// Length of a log in the workloads that sync: filled before the measurement, and too long to be full before its end, or almost.
const SYNCED_LOG_BYTES: u64 = 256 << 20;

/// The same in [`Workload::Tickets`], which writes as fast as the disk does.
const TICKETS_LOG_BYTES: u64 = 3 << 29;

/// How often [`Workload::Delete`] deletes in a measurement.
pub const DELETE_ROUNDS: usize = 3;

/// Records of 1 KiB in each log of [`Workload::Open`] but the newest.
const OPEN_RECORDS: usize = 16;

/// The same in the newest: 64 MiB.
const OPEN_NEWEST_RECORDS: usize = 64 << 10;

/// Submitted in a row in [`Workload::Tickets`], so that the clock is not read for each.
const SUBMITTED: usize = 64;

/// What [`Workload::Replay`] reads, on every side that reads the log's files.
pub const PREPARE_REPLAY: Prepare = Prepare { name: "wal", make: prepare_replay };

/// How the log is opened for a workload: the one place where its options are chosen.
pub fn options(case: &Case, storage: Arc<dyn Storage>) -> Options {
    let &Case { workload, quick, .. } = case;
    let log_bytes = match workload {
        // A log is closed when it is full, or when the workload says so.
        Workload::Rotate(_) | Workload::Held(_) => SMALL_LOG_BYTES,
        Workload::Delete => 2 * SMALL_LOG_BYTES,
        Workload::Recycled => 2 * RECYCLED_BYTES,
        Workload::Replay => wal_manager::LOG_BYTES_DEFAULT,
        Workload::Lone | Workload::Group(_) | Workload::Follow(_) | Workload::FollowCached(_) => {
            SYNCED_LOG_BYTES
        }
        Workload::Tickets if !quick => TICKETS_LOG_BYTES,
        Workload::Tickets => SYNCED_LOG_BYTES,
        // So long that no measurement fills it.
        _ => 4 << 30,
    };
    let options = Wal::options_on(storage).log_bytes(log_bytes);
    match workload {
        Workload::FollowCached(_) => options.way(Way::Filled).background(true).recycle(4),
        _ if is_synced(workload) => options.way(Way::Direct).background(true).recycle(4),
        Workload::Delete => options.way(Way::Filled).recycle(DELETED_LOGS),
        Workload::Recycled => options.way(Way::Filled).recycle(1),
        _ => options,
    }
}

/// Whether its appends are durable one by one, or nearly, so that it matters how files are written.
fn is_synced(workload: Workload) -> bool {
    matches!(workload, Workload::Lone | Workload::Group(_) | Workload::Tickets | Workload::Rotate(_))
        || matches!(workload, Workload::Follow(_) | Workload::FollowCached(_) | Workload::Held(_))
}

fn work(workload: Workload) -> Option<Work> {
    Some(match workload {
        Workload::Lone | Workload::Group(_) => Work::new(synced),
        Workload::Tickets => Work::new(tickets),
        Workload::Nosync => Work::new(nosync),
        Workload::Recycled => Work::new(recycled),
        Workload::Replay => Work { prepare: Some(PREPARE_REPLAY), measure: replay },
        Workload::Rotate(_) => Work::new(rotate),
        Workload::Follow(_) | Workload::FollowCached(_) => Work::new(keepers::follow),
        Workload::Held(_) => Work::new(keepers::held),
        Workload::Delete => Work::new(delete),
        Workload::Open => Work::prepared("wal", prepare_open, open),
    })
}

/// Durable appends through rings, where there are any.
fn ring(workload: Workload) -> Option<Work> {
    let is_measured = matches!(workload, Workload::Lone | Workload::Group(_));
    let can = || FsStorage::open(data::base()).is_ok_and(|storage| probe::can(&storage, Way::Ring).is_ok());
    (is_measured && can()).then(|| Work::new(|case| synced_by(case, &Ours::through(case, Way::Ring))))
}

/// The same appends in a log that is never closed.
fn still(workload: Workload) -> Option<Work> {
    matches!(workload, Workload::Rotate(_)).then(|| Work::new(synced))
}

/// The same appends where nobody follows, or holds anything.
fn alone(workload: Workload) -> Option<Work> {
    match workload {
        Workload::Follow(_) | Workload::FollowCached(_) => Some(Work::new(synced)),
        Workload::Held(_) => Some(Work::new(rotate)),
        _ => None,
    }
}

/// An open log in a directory of its own.
pub(super) struct Ours {
    pub(super) wal: Wal,
    counts: Arc<Counts>,
    before: Count,
    /// Index of the last record before the measurement.
    pub(super) first: u64,
    _directory: TempDir,
}

impl Ours {
    pub(super) fn new(case: &Case) -> Self {
        Self::with(case, |options| options)
    }

    /// One whose files are written in another way than [`options`] chooses.
    fn through(case: &Case, way: Way) -> Self {
        Self::with(case, |options| options.way(way))
    }

    fn with(case: &Case, change: impl FnOnce(Options) -> Options) -> Self {
        let directory = data::directory();
        let storage = CountingStorage::new(directory.path());
        let counts = storage.counts();
        let recovery = change(options(case, Arc::new(storage))).recover();
        let (wal, _) = recovery.and_then(|recovery| recovery.finish_without_replay()).expect("a new log");
        if is_synced(case.workload) {
            // The log that an open begins grows; the next one was filled.
            for _ in 0..2 {
                wal.append(record(b"before the measurement")).expect("an append");
                wal.housekeep().expect("a file");
            }
        }
        let before = counts.get();
        let first = wal.durable().index.get();
        Self { wal, counts, before, first, _directory: directory }
    }

    pub(super) fn append(&self, payload: &[u8], durability: Durability) -> wal_manager::Appended {
        self.wal.append_with(record(payload), durability).expect("an append")
    }

    /// Appends so many bytes of payload that nobody waits for, except that the last one has been handed to the system at the end. Returns how
    /// many records.
    fn stream(&self, size: usize, bytes: u64) -> u64 {
        let payloads = Payloads::new(size);
        let records = bytes / size as u64;
        for number in 1..usize::try_from(records).expect("a few million") {
            self.append(payloads.get(number), Durability::Buffered);
        }
        self.append(payloads.get(0), Durability::Written);
        records
    }

    /// Every record so far is in a table.
    fn flushed(&self) {
        self.wal.mark_flushed(FamilyId::DEFAULT, self.wal.last_seq().expect("records")).expect("a mark");
    }

    /// With what was counted since the log was opened.
    pub(super) fn counted(&self, measured: Measured) -> Measured {
        counted(self.counts.get().since(self.before), measured)
    }
}

fn counted(count: Count, measured: Measured) -> Measured {
    let Count { writes, syncs, written, reads, read } = count;
    Measured { writes, syncs, written, reads, read, ..measured }
}

fn record(payload: &[u8]) -> Record<'_> {
    Record::new(RecordKind::new(1).expect("a kind of the engine's"), payload)
}

/// [`Workload::Lone`] and [`Workload::Group`]. After each append the frontier is behind it, which [`Measured::syncs`] confirms.
fn synced(case: &Case) -> Measured {
    let ours = Ours::new(&match case.workload {
        Workload::Rotate(threads) => Case { workload: Workload::Group(threads), ..case.clone() },
        _ => case.clone(),
    });
    synced_by(case, &ours)
}

fn synced_by(case: &Case, ours: &Ours) -> Measured {
    let append = |payload: &[u8]| {
        ours.append(payload, Durability::Synced);
    };
    // A lone writer is the main thread, as on the raw side.
    let measured = match case.threads() {
        1 => load::alone(case, append),
        _ => load::together(case, |_, payload| append(payload)),
    };
    assert_eq!(ours.wal.durable().index.get() - ours.first, measured.appended, "all of them");
    ours.counted(measured)
}

fn tickets(case: &Case) -> Measured {
    let ours = Ours::new(case);
    let payloads = Payloads::new(case.size);
    let mut number = 0;
    let mut in_flight = VecDeque::with_capacity(IN_FLIGHT);
    let measured = load::alone(case, |_| {
        for _ in 0..SUBMITTED {
            if in_flight.len() == IN_FLIGHT {
                let oldest: wal_manager::Ticket = in_flight.pop_front().expect("there are many");
                oldest.wait().expect("it is durable");
            }
            in_flight.push_back(ours.wal.submit(record(payloads.get(number))).expect("an append"));
            number += 1;
        }
    });
    for ticket in in_flight {
        ticket.wait().expect("it is durable");
    }
    assert_eq!(ours.wal.durable().index.get() - ours.first, number as u64, "all of them");
    ours.counted(measured.in_batches(SUBMITTED as u64))
}

fn nosync(case: &Case) -> Measured {
    let mut ours = Ours::new(case);
    ours.stream(case.size, case.volume(WARM_BYTES));
    ours.before = ours.counts.get();
    let measured = load::once(|| ours.stream(case.size, case.volume(NOSYNC_BYTES)));
    let measured = ours.counted(measured);
    let parts = measured.written / wal_manager::SYNC_BYTES_DEFAULT + 1;
    assert!(measured.syncs <= parts, "nothing is synced but every few MiB, behind the appends");
    measured
}

/// The fifth log is the first that is measured: by then a log that recycles writes into a file that has been through its hands.
fn recycled(case: &Case) -> Measured {
    let mut ours = Ours::new(case);
    let bytes = case.volume(RECYCLED_BYTES);
    for _ in 0..4 {
        // A file longer than what is measured: records have headers.
        ours.stream(case.size, bytes + bytes / 2);
        ours.wal.rotate().expect("a new log");
        ours.flushed();
    }
    ours.before = ours.counts.get();
    let measured = load::once(|| ours.stream(case.size, bytes));
    ours.counted(measured)
}

fn prepare_replay(case: &Case) {
    Directory::build_in(case.prepared(), case.size, case.volume(REPLAY_BYTES));
}

/// Opens for writing and reads every record, lent one after the other, in a directory of links to the same files.
fn replay(case: &Case) -> Measured {
    let directory = Directory::at(case.prepared(), case.size);
    directory.bare_read();
    let mut counts = None;
    let halves = directory.lend_with(|path| {
        let storage = CountingStorage::new(path);
        counts = Some(storage.counts());
        options(case, Arc::new(storage))
    });
    let (records, seconds) = (directory.records(), halves.total().as_secs_f64());
    let measured = Measured { records, seconds, appended: records, ..Measured::default() };
    counted(counts.map_or(Count::default(), |counts| counts.get()), measured)
}

/// Durable appends, while a log is closed whenever it is full, and another thread flushes and deletes behind.
fn rotate(case: &Case) -> Measured {
    rotating(&Ours::new(case), case, |_| {})
}

/// The same with something that is done before each deletion, up to the sequence number that is flushed.
pub(super) fn rotating(ours: &Ours, case: &Case, before_deletion: impl Fn(SeqNum) + Send) -> Measured {
    let newest = AtomicU64::new(0);
    let (flush, flushed) = mpsc::channel::<SeqNum>();
    let measured = thread::scope(|scope| {
        scope.spawn(move || {
            for seq in flushed {
                before_deletion(seq);
                ours.wal.mark_flushed(FamilyId::DEFAULT, seq).expect("a mark");
            }
        });
        let measured = load::together(case, |_, payload| {
            let appended = ours.append(payload, Durability::Synced);
            let log = appended.position.log.get();
            // The first record that is seen in a log: those before it that are not in older logs do no harm.
            let before = appended.seqs.first().get() - 1;
            if newest.fetch_max(log, Ordering::Relaxed) < log && before > 0 {
                flush.send(SeqNum::new(before)).expect("the thread that deletes");
            }
        });
        drop(flush);
        measured
    });
    let logs = newest.load(Ordering::Relaxed);
    let full = measured.appended * case.size as u64 / SMALL_LOG_BYTES;
    assert!(logs > full, "{full} logs are full, and {logs} were begun");
    assert!(ours.wal.logs().len() < 4, "and deletes");
    ours.counted(measured)
}

fn delete(case: &Case) -> Measured {
    let ours = Ours::new(case);
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..DELETE_ROUNDS {
        for _ in 0..DELETED_LOGS {
            ours.stream(case.size, case.volume(SMALL_LOG_BYTES));
            ours.wal.rotate().expect("a new log");
        }
        let last = ours.wal.last_seq().expect("records");
        // The log that holds the newest durable record stays.
        ours.append(&[7], Durability::Synced);
        let (round, deletion) = time(|| ours.wal.mark_flushed(FamilyId::DEFAULT, last));
        assert_eq!(deletion.expect("a mark").deleted.len(), DELETED_LOGS, "all of them");
        took.push(round);
    }
    let records = (DELETED_LOGS * DELETE_ROUNDS) as u64;
    let seconds = took.iter().sum::<Duration>().as_secs_f64();
    Measured { records, seconds, appended: records, ..Measured::default() }.latencies(took)
}

/// As many logs as the case's size says, all flushed; but a hold keeps them.
fn prepare_open(case: &Case) {
    let storage = CountingStorage::new(case.prepared());
    let recovery = options(case, Arc::new(storage)).recover();
    let (wal, _) = recovery.and_then(|recovery| recovery.finish_without_replay()).expect("a new log");
    let payload = [7; 1024];
    for log in 1..=case.size {
        for _ in 0..if log < case.size { OPEN_RECORDS } else { OPEN_NEWEST_RECORDS } {
            wal.append_with(record(&payload), Durability::Buffered).expect("an append");
        }
        if log < case.size {
            wal.rotate().expect("a new log");
        }
    }
    wal.sync().expect("a sync");
    let first = wal.logs().first().and_then(|log| log.seqs).expect("records").first();
    wal.hold("replica", first, None).expect("a hold");
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().expect("records")).expect("a mark");
    assert!(wal.logs().len() >= case.size, "all are there");
    let newest = wal.logs().last().expect("a log").log;
    // As a log with a thread of its own does.
    wal.housekeep().expect("the next log");
    wal.close().expect("a clean end");
    // However this one was made, as where files are filled.
    let ahead = case.prepared().join(format!("{:06}.wal", newest.get() + 1));
    assert!(ahead.is_file(), "the next log is there");
    fs::write(ahead, vec![0; OPEN_NEWEST_RECORDS << 10]).expect("a file of zeros");
}

/// Opens a copy of it.
fn open(case: &Case) -> Measured {
    let directory = data::directory();
    for entry in fs::read_dir(case.prepared()).expect("a directory") {
        let from = entry.expect("an entry").path();
        fs::copy(&from, directory.path().join(from.file_name().expect("a name"))).expect("a copy");
    }
    let storage = CountingStorage::new(directory.path());
    let counts = storage.counts();
    let measured = load::once(|| {
        let recovery = options(case, Arc::new(storage)).recover().expect("it was closed cleanly");
        assert_eq!(recovery.records().count(), 0, "nothing to replay");
        case.size as u64
    });
    counted(counts.get(), measured)
}
