//! Readers without the lock beside a writer who goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wal_io::mem::MemStorage;
use wal_manager::{Error, FamilyId, Record, RecordKind, SeqNum, Verdict, Wal};

#[test]
fn rd1_a_live_directory_is_never_called_damaged() {
    let storage = MemStorage::new();
    let (wal, _) =
        Wal::options_on(Arc::new(storage.clone())).recover().unwrap().finish_without_replay().unwrap();
    let (stop, mut clean, mut restless) = (AtomicBool::new(false), 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let payload = vec![number as u8; 1 + number as usize * 37 % 3000];
                let appended = wal.append(Record::new(RecordKind::new(1).unwrap(), &payload)).unwrap();
                if number.is_multiple_of(50) {
                    wal.rotate().unwrap();
                }
                if number.is_multiple_of(150) {
                    wal.mark_flushed(FamilyId::DEFAULT, appended.seqs.last()).unwrap();
                }
            }
        });
        let appended = || wal.last_seq().map_or(0, SeqNum::get);
        while clean < 100 || appended() < 20_000 {
            match Wal::options_on(Arc::new(storage.clone())).inspect() {
                Ok(inspection) => {
                    assert_ne!(
                        inspection.report().verdict,
                        Verdict::Damaged,
                        "{:?}",
                        inspection.report().findings
                    );
                    let mut before = None;
                    for record in inspection.records() {
                        let index = record.expect("a part of a log that is open stays readable").index.get();
                        assert!(before.is_none_or(|before| before + 1 == index));
                        before = Some(index);
                    }
                    clean += 1;
                }
                Err(Error::Restless { .. }) => restless += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{clean} clean looks, {restless} at a directory that never stood still");
}
