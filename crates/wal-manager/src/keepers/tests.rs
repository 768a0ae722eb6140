use std::sync::Arc;

use wal_format::{FamilyId, SeqNum, WriteBatch};

use super::*;
use crate::{MemStorage, Wal};

/// A log with so many closed logs of one record each, and nothing flushed.
fn logs(closed: usize) -> Wal {
    let recovery = Wal::options_on(Arc::new(MemStorage::new())).recover().unwrap();
    let wal = recovery.finish_without_replay().unwrap().0;
    for _ in 0..closed {
        append(&wal);
        wal.rotate().unwrap();
    }
    append(&wal);
    wal
}

fn append(wal: &Wal) {
    let mut batch = WriteBatch::new();
    batch.put(FamilyId::DEFAULT, b"key", b"value").unwrap();
    wal.append(&batch).unwrap();
}

fn numbers(wal: &Wal) -> Vec<u64> {
    wal.logs().iter().map(|info| info.log.get()).collect()
}

fn flush(wal: &Wal) {
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().unwrap()).unwrap();
}

fn pin(wal: &Wal, from: u64, budget: Option<u64>) -> Pin {
    wal.inner().pin(KeeperKind::Follower, "f", LogNumber::new(from), budget)
}

#[test]
fn g10_a_pin_keeps_its_log_and_all_behind_until_it_moves_or_is_dropped() {
    let wal = logs(3);
    let pin = pin(&wal, 2, None);
    flush(&wal);
    assert_eq!(numbers(&wal), [2, 3, 4]);
    pin.advance(LogNumber::new(3));
    pin.advance(LogNumber::new(1));
    assert!(!pin.lost());
    wal.housekeep().unwrap();
    assert_eq!(numbers(&wal), [3, 4]);
    drop(pin);
    wal.housekeep().unwrap();
    assert_eq!(numbers(&wal), [4]);
}

#[test]
fn g11_a_pin_over_its_budget_is_dropped_and_told() {
    let wal = logs(3);
    let bytes = wal.logs().first().unwrap().bytes;
    let (within, over) = (pin(&wal, 2, Some(2 * bytes)), pin(&wal, 1, Some(2 * bytes)));
    flush(&wal);
    assert!(over.lost() && !within.lost());
    assert_eq!(numbers(&wal), [2, 3, 4]);
}

#[test]
fn g11_what_the_engine_needs_itself_is_not_charged() {
    let wal = logs(3);
    let pin = pin(&wal, 1, Some(0));
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(0)).unwrap();
    assert!(!pin.lost());
    assert_eq!(numbers(&wal), [1, 2, 3, 4]);
}

#[test]
fn a_pin_on_a_deleted_log_is_lost_from_the_start() {
    let wal = logs(3);
    flush(&wal);
    assert_eq!(numbers(&wal), [4]);
    assert!(pin(&wal, 3, None).lost());
    assert!(!pin(&wal, 4, None).lost());
}

#[test]
fn a_pin_may_outlive_its_log() {
    let wal = logs(1);
    let pin = pin(&wal, 1, None);
    drop(wal);
    pin.advance(LogNumber::new(2));
    assert!(!pin.lost());
}
