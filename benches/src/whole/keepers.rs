//! The log while somebody else needs it too: a follower in the same process, holds.

use std::thread;

use wal_manager::{Durability, FollowFrom, Index, Record, RecordKind, SeqNum};

use super::case::{Case, HOLDS};
use super::load;
use super::measured::Measured;
use super::ours::{Ours, rotating};

/// Durable appends, while another thread reads each as soon as it is durable.
pub(super) fn follow(case: &Case) -> Measured {
    let ours = Ours::new(case);
    let last = RecordKind::new(2).expect("a kind of the engine's");
    let from = FollowFrom::Index(Index::new(ours.first + 1));
    let follower = ours.wal.follow(from).expect("a follower at the end");
    let measured = thread::scope(|scope| {
        let follower = scope.spawn(move || {
            let records = follower.map(|record| record.expect("a durable record"));
            records.take_while(|record| record.kind != last).count() as u64
        });
        let append = |payload: &[u8]| {
            ours.append(payload, Durability::Synced);
        };
        // A lone writer is the main thread, as where nobody follows.
        let measured = match case.threads() {
            1 => load::alone(case, append),
            _ => load::together(case, |_, payload| append(payload)),
        };
        ours.wal.append(Record::new(last, b"the last")).expect("an append");
        assert_eq!(follower.join().expect("a thread that follows"), measured.appended, "all of them");
        measured
    });
    ours.counted(measured)
}

/// Durable appends, rotations and deletion, as where nobody holds anything, with holds in the way that are moved on before each deletion.
pub(super) fn held(case: &Case) -> Measured {
    let ours = Ours::new(case);
    let names: Vec<String> = (0..HOLDS).map(|number| format!("hold-{number}")).collect();
    let next = |seq: SeqNum| SeqNum::new(seq.get() + 1);
    for name in &names {
        let from = next(ours.wal.last_seq().expect("records"));
        ours.wal.hold(name, from, None).expect("a hold");
    }
    rotating(&ours, case, |seq| {
        for name in &names {
            ours.wal.advance_hold(name, next(seq)).expect("a hold that moves on");
        }
    })
}
