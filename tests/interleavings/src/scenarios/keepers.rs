//! Who needs a log, and who is told: families that are dropped, caps, logs made ahead and given up, followers.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use wal_manager::{DirectoryFollower, FollowFrom, Follower, LogNumber, RecoveredRecord, Storage};

/// A record of family 1.
fn odd(number: u64) -> Draft {
    draft(2 * number + 1)
}

/// A family is dropped while the log rotates: its mark stays as long as there are records of it.
pub(super) fn dropped_family() {
    let world = World::new(LOG_BYTES_DEFAULT);
    // Both families in one log, which the other one keeps.
    let dropped = world.session.append(draft(0), Synced).expect("nothing fails").seqs.first().get();
    world.session.append(odd(0), Synced).expect("nothing fails");
    let dropper = || {
        let model = Arc::clone(&world.model);
        world.spawn(move |session| {
            model.history().marking(0, dropped);
            session.wal.drop_family(FamilyId::new(0)).expect("nothing fails");
            model.history().marked(0, dropped);
        })
    };
    let threads = vec![
        dropper(),
        dropper(),
        world.spawn(|session| drop(session.rotate().expect("nothing fails"))),
        world.spawn(|session| _ = session.append(odd(10), Buffered).expect("nothing fails")),
    ];
    world.end(threads);
}

/// Logs come by rotations and go by deletions: a cap on their number is that number, and neither one more nor one less.
pub(super) fn capped() {
    const CAP: usize = 3;
    let world = World::with(LOG_BYTES_DEFAULT, |options| options.cap_logs(CAP));
    world.session.append(draft(0), Synced).expect("nothing fails");
    world.session.rotate().expect("nothing fails");
    world.session.append(odd(0), Synced).expect("nothing fails");
    let rotate = |session: &Session| match session.wal.rotate() {
        Ok(_) => true,
        Err(Error::Full { .. }) => false,
        Err(error) => panic!("nothing fails: {error}"),
    };
    let rotator = |name: u64| {
        world.spawn(move |session| {
            session.append(odd(name), Synced).expect("nothing fails");
            rotate(session);
        })
    };
    let threads = vec![
        rotator(10),
        rotator(20),
        world.spawn(|session| mark_newest(session, 0)),
        world.spawn(|session| _ = session.append(odd(30), Buffered).expect("nothing fails")),
    ];
    join(threads);
    for number in 40.. {
        assert!(world.session.wal.logs().len() <= CAP, "G7: {:?}", world.session.wal.logs());
        world.session.append(odd(number), Synced).expect("nothing fails");
        if !rotate(&world.session) {
            break;
        }
    }
    assert_eq!(world.session.wal.logs().len(), CAP, "G7: refused before its time");
    world.end(Vec::new());
}

/// The disk fails once while the next log is made ahead: what was made for the log that failed is given back.
pub(super) fn resume_ahead() {
    let mut world =
        World::with(LOG_BYTES_MIN, |options| options.background(true).way(Way::Filled).recycle(0));
    world.session.append(draft(0), Synced).expect("nothing fails yet");
    world.session.resume().expect("nothing has failed, and from here on the session expects it");
    let nth = 1 + world.rng.below(5);
    world.disk.fail(fault(&format!("fail sync #{nth} of *.wal with EIO")));
    let failed = Arc::new(AtomicUsize::new(0));
    let writer = |name: u64, length: usize| {
        let failed = Arc::clone(&failed);
        world.spawn(move |session| {
            for turn in 0..2 {
                if session.append(draft_of(2 * (name + turn) + 1, length), Synced).is_err() {
                    failed.fetch_add(1, Ordering::Relaxed);
                    session.resume().expect("S14: the disk fails once");
                }
            }
        })
    };
    let threads = vec![
        writer(10, 6_000),
        writer(20, 6_000),
        writer(30, 20),
        world.spawn(|session| {
            if session.rotate().is_err() {
                session.resume().expect("S14: the disk fails once");
            }
        }),
    ];
    join(threads);
    let logs: Vec<LogNumber> = world.session.wal.logs().iter().map(|info| info.log).collect();
    let newest = logs.last().expect("the active one").get();
    for entry in world.storage.list().expect("it is read") {
        let name = entry.name.into_string().expect("a name of ours");
        let Some(number) = name.strip_suffix(".wal").and_then(|number| number.parse().ok()) else { continue };
        let live = logs.contains(&LogNumber::new(number));
        assert!(live || number > newest, "R7: {name} is left, and the logs are {logs:?}");
    }
    world.end(Vec::new());
}

/// What a follower was handed.
struct Seen {
    next: u64,
    model: Arc<Model>,
}

impl Seen {
    fn see(&mut self, record: &RecoveredRecord) {
        assert_eq!(record.index.get(), self.next, "W1: every record once and in order");
        self.next += 1;
        self.model.history().exposed(record);
    }
}

/// One follower that holds what it has not read, one that does not, and one without the lock, among writers, rotations and deletions, until the log is
/// closed: what each is handed has no hole, and the first one sees everything.
pub(super) fn followers() {
    let world = World::new(LOG_BYTES_DEFAULT);
    world.session.append(draft(0), Synced).expect("nothing fails");
    let seen = || Seen { next: 1, model: Arc::clone(&world.model) };
    let live = || world.session.wal.follow(FollowFrom::Oldest).expect("nothing was deleted yet");
    let follow = |follower: Follower, held: bool| {
        let mut seen = seen();
        thread::spawn(move || {
            for record in follower {
                match record {
                    Ok(record) => seen.see(&record),
                    Err(error) => {
                        assert!(!held && error.kind() == ErrorKind::Gap, "W4: {error}");
                        return;
                    }
                }
            }
            let last = seen.model.history().last();
            assert_eq!(seen.next, last + 1, "W1: the log has ended");
        })
    };
    let outside = options(&world.storage, world.log_bytes).follow(FollowFrom::Oldest).expect("it is there");
    let readers = vec![follow(live().hold("held", None), true), follow(live(), false), poll(outside, seen())];
    let threads = vec![
        world.appender(1, &[Synced, Buffered]),
        world.appender(2, &[Written, Synced]),
        world.spawn(|session| {
            for family in 0..2 {
                session.rotate().expect("nothing fails");
                mark_newest(session, family);
                mark_newest(session, 1 - family);
            }
        }),
    ];
    join(threads);
    world.session.close().expect("nothing fails");
    join(readers);
    world.end(Vec::new());
}

/// Looks a few times, whenever it is its turn.
fn poll(mut follower: DirectoryFollower, mut seen: Seen) -> Thread {
    thread::spawn(move || {
        for _ in 0..6 {
            match follower.try_next() {
                Ok(Some(record)) => seen.see(&record),
                Ok(None) => thread::yield_now(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Gap, "W4, RD1: {error}");
                    return;
                }
            }
        }
    })
}
