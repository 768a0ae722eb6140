//! What the tests of a log's life share: opening it, reading it back, and a limit on how long anything may take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wal_manager::{
    Appended, Error, FamilyId, Options, Record, RecordKind, RecoveredRecord, RecoveryReport, SeqNum, Storage,
    Wal, WalId,
};

/// The kind of the records of these tests.
pub const KIND: RecordKind = match RecordKind::new(7) {
    Ok(kind) => kind,
    Err(_) => panic!("7 is the engine's to use"),
};

/// Smallest log: rotation by size comes soon.
pub const SMALL: u64 = wal_manager::LOG_BYTES_MIN;

/// Longest that a piece of a test may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(60);

/// Options on this storage, with an identity that is always the same, and without the proof of the last group that the log's own thread would
/// write after a second: a slow machine would see it.
pub fn options(storage: &(impl Storage + Clone + 'static)) -> Options {
    Wal::options_on(Arc::new(storage.clone())).wal_id(WalId::from_bytes([7; 16])).idle_promise(None)
}

/// Opens, replays and forgets.
pub fn open(storage: &(impl Storage + Clone + 'static)) -> Wal {
    reopen(options(storage)).0
}

/// Opens and replays.
pub fn reopen(options: Options) -> (Wal, Vec<RecoveredRecord>, RecoveryReport) {
    let recovery = options.recover().expect("the directory opens");
    let records = recovery.records().collect::<Result<Vec<_>, _>>().expect("the records are read");
    let (wal, report) = recovery.finish().expect("replay has ended");
    (wal, records, report)
}

/// Reads everything back, in the way that recovery does, and closes.
pub fn read_back(storage: &(impl Storage + Clone + 'static)) -> Vec<RecoveredRecord> {
    let (wal, records, _) = reopen(options(storage));
    wal.close().expect("it closes");
    records
}

/// A record of these tests.
pub fn record(payload: &[u8]) -> Record<'_> {
    Record::new(KIND, payload)
}

/// Payload number `number`, `length` bytes of it.
pub fn payload(number: u64, length: usize) -> Vec<u8> {
    let start = number.to_le_bytes();
    (0..length).map(|at| if at < 8 { start[at] } else { (number as usize + at * 31) as u8 }).collect()
}

/// What the log is to hold, by index.
pub type Acked = BTreeMap<u64, (SeqNum, Vec<u8>)>;

/// Notes a record that was acknowledged.
pub fn note(acked: &mut Acked, appended: Appended, payload: &[u8]) {
    acked.insert(appended.index.get(), (appended.seqs.first(), payload.to_vec()));
}

/// Every acknowledged record is there, as it was, and the indices are dense.
pub fn assert_holds(records: &[RecoveredRecord], acked: &Acked) {
    for pair in records.windows(2) {
        assert_eq!(pair[0].index.get() + 1, pair[1].index.get(), "the index is dense");
        assert!(pair[0].seqs.last() < pair[1].seqs.first(), "sequence numbers grow");
    }
    let found: BTreeMap<u64, &RecoveredRecord> =
        records.iter().map(|record| (record.index.get(), record)).collect();
    for (index, (seq, payload)) in acked {
        let record = found.get(index).unwrap_or_else(|| panic!("acknowledged record {index} is lost"));
        assert_eq!(record.seqs.first(), *seq, "record {index}");
        assert!(record.payload == payload[..], "record {index} is not what was appended");
    }
}

/// The first failure behind [`Error::Poisoned`].
pub fn cause(error: &Error) -> &Error {
    match error {
        Error::Poisoned { cause } => cause,
        other => panic!("not poisoned: {other:?}"),
    }
}

/// The system's error number at the bottom of an error.
pub fn errno(error: &Error) -> Option<i32> {
    match error {
        Error::Io(error) => error.raw_os_error(),
        Error::Poisoned { cause } => errno(cause),
        Error::Full { cause, .. } => cause.as_ref().and_then(|error| error.raw_os_error()),
        _ => None,
    }
}

/// Whether it is that there is no space, or no quota: a log that this has stopped goes on by itself.
pub fn is_no_space(error: &Error) -> bool {
    matches!(errno(error), Some(28 | 122))
}

/// Runs `code` in a thread of its own and gives up on it if it hangs.
pub fn within<T: Send + 'static>(what: &str, code: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let thread = thread::spawn(move || {
        let value = code();
        let _ = done.send(());
        value
    });
    match result.recv_timeout(limit()) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        // Done, or panicked.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// [`LIMIT`], or so many seconds as the gate says, where a hang is what is expected.
fn limit() -> Duration {
    let Ok(seconds) = std::env::var("HANG_SECONDS") else { return LIMIT };
    Duration::from_secs(seconds.parse().expect("HANG_SECONDS is a number"))
}

/// Families from their numbers.
pub fn families(numbers: &[u32]) -> Vec<FamilyId> {
    numbers.iter().copied().map(FamilyId::new).collect()
}
