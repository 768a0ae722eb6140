//! A few threads and a few calls each, at every place where they meet. Each body runs once under a schedule that shuttle decides, draws what
//! else is random from shuttle too, so that the schedule replays it, ends with a crash and checks what a recovery finds.

use std::sync::Arc;
use std::time::Duration;

use shuttle::rand::{RngCore, thread_rng};
use shuttle::thread::{self, JoinHandle};
use wal_io::Operation;
use wal_io::probe::Way;
use wal_io::sim::{Fault, SimStorage};
use wal_manager::{
    Durability, Error, ErrorKind, FamilyId, GROUP_BYTES_MAX, Index, LOG_BYTES_DEFAULT, LOG_BYTES_MIN,
    Options, Recovery, SYNC_BYTES_MIN, SeqNum, Wal, WalId, Window,
};
use wal_tests::history::{Draft, End};
use wal_tests::life;
use wal_tests::rng::Rng;

use crate::disk::{Injected, Power, YieldingStorage};
use crate::engine;
use crate::recorder::PanickingRecorder;
use crate::run::LookClock;
use crate::session::{Model, Session, replay, survive};
use crate::simulation::disk_options;

use Durability::{Buffered, Synced, Written};

mod keepers;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What its test is named after.
    pub name: &'static str,
    /// How many of 1000 interleavings are its share.
    pub share: usize,
    /// Runs it once.
    pub body: fn(),
}

/// All of them.
pub const ALL: [Scenario; 28] = [
    Scenario { name: "mixed_levels", share: 30, body: mixed_levels },
    Scenario { name: "one_append_each", share: 30, body: one_append_each },
    Scenario { name: "rotation_by_size", share: 40, body: rotation_by_size },
    Scenario { name: "rotation_on_request", share: 50, body: rotation_on_request },
    Scenario { name: "made_ahead", share: 30, body: made_ahead },
    Scenario { name: "close", share: 50, body: close },
    Scenario { name: "deletion", share: 50, body: deletion },
    Scenario { name: "reader_and_deletion", share: 40, body: reader_and_deletion },
    Scenario { name: "failing_sync", share: 50, body: failing_sync },
    Scenario { name: "failing_operation", share: 70, body: failing_operation },
    Scenario { name: "power_cut", share: 40, body: power_cut },
    Scenario { name: "panicking_storage", share: 30, body: panicking_storage },
    Scenario { name: "panicking_recorder", share: 20, body: panicking_recorder },
    Scenario { name: "dropped_tickets", share: 30, body: dropped_tickets },
    Scenario { name: "drop_without_close", share: 40, body: drop_without_close },
    Scenario { name: "handover", share: 30, body: handover },
    Scenario { name: "awaited_tickets", share: 40, body: awaited_tickets },
    Scenario { name: "awaited_beside_bytes", share: 20, body: awaited_beside_bytes },
    Scenario { name: "timers", share: 50, body: timers },
    Scenario { name: "resume", share: 70, body: resume },
    Scenario { name: "duplicates", share: 20, body: duplicates },
    Scenario { name: "dropped_family", share: 40, body: keepers::dropped_family },
    Scenario { name: "capped", share: 20, body: keepers::capped },
    Scenario { name: "resume_ahead", share: 30, body: keepers::resume_ahead },
    Scenario { name: "followers", share: 40, body: keepers::followers },
    Scenario { name: "full_group", share: 2, body: full_group },
    Scenario { name: "engine_writers", share: 19, body: engine::writers },
    Scenario { name: "engine_failure", share: 19, body: engine::failure },
];

/// An open log on a simulated disk.
struct World {
    rng: Rng,
    disk: SimStorage,
    power: Power,
    storage: YieldingStorage,
    session: Arc<Session>,
    model: Arc<Model>,
    log_bytes: u64,
}

/// A thread of a scenario.
type Thread = JoinHandle<()>;

fn options(storage: &YieldingStorage, log_bytes: u64) -> Options {
    Wal::options_on(Arc::new(storage.clone()))
        .wal_id(WalId::from_bytes([7; 16]))
        .clock(Arc::new(LookClock::default()))
        .log_bytes(log_bytes)
        .idle_promise(None)
}

fn draft(number: u64) -> Draft {
    draft_of(number, 20)
}

fn draft_of(number: u64, length: usize) -> Draft {
    Draft { family: (number % 2) as u32, payload: life::payload(number, length) }
}

fn fault(words: &str) -> Fault {
    Fault::parse(words).expect("these are the words of a fault")
}

impl World {
    fn new(log_bytes: u64) -> Self {
        Self::with(log_bytes, |options| options)
    }

    /// A log whose own thread has timers, which run as the schedule decides.
    fn timed(log_bytes: u64) -> Self {
        const TICK: Duration = Duration::from_millis(1);
        Self::with(log_bytes, |options| {
            options.sync_interval(TICK).idle_promise(TICK).sync_bytes(SYNC_BYTES_MIN)
        })
    }

    fn with(log_bytes: u64, policies: fn(Options) -> Options) -> Self {
        let mut rng = Rng::new(thread_rng().next_u64());
        let disk = SimStorage::with_options(disk_options(rng.next()));
        let (power, model) = (Power::default(), Arc::new(Model::default()));
        let storage = power.connect(&disk);
        let recovery = policies(options(&storage, log_bytes)).recover().expect("nothing has failed yet");
        let wal = replay(&model, End::PowerCut, recovery).expect("nothing has failed yet");
        let session = Arc::new(Session::new(wal, &model));
        Self { rng, disk, power, storage, session, model, log_bytes }
    }

    fn spawn(&self, code: impl FnOnce(&Session) + Send + 'static) -> Thread {
        let session = Arc::clone(&self.session);
        thread::spawn(move || code(&session))
    }

    /// A thread that appends at these levels, one record each, until the log has stopped.
    fn appender(&self, name: u64, levels: &'static [Durability]) -> Thread {
        self.spawn(move |session| {
            for (turn, level) in levels.iter().enumerate() {
                survive(|| session.append(draft(name * 100 + turn as u64), *level));
            }
        })
    }

    /// Waits for all threads, ends the log in some way, crashes, recovers and checks.
    fn end(mut self, threads: Vec<Thread>) {
        join(threads);
        let wal = Arc::into_inner(self.session).expect("all threads have come back").end();
        if self.rng.one_in(2) {
            drop(wal);
        }
        crash_and_check(&mut self.rng, &self.disk, &self.model, self.log_bytes);
    }
}

fn join(threads: Vec<Thread>) {
    for thread in threads {
        thread.join().expect("a thread panics only where the test has failed");
    }
}

fn crash_and_check(rng: &mut Rng, disk: &SimStorage, model: &Model, log_bytes: u64) {
    disk.clear_faults();
    let (end, disk) = match rng.below(4) {
        0 => (End::ProcessDeath, disk.process_crash()),
        1 => (End::PowerCut, disk.crash_all_lost()),
        _ => (End::PowerCut, disk.crash(rng.next())),
    };
    let recovery = recover(&disk, log_bytes).expect("L: a crash is not damage");
    let wal = replay(model, end, recovery).expect("the records are read");
    wal.close().expect("nothing fails any more");
}

fn recover(disk: &SimStorage, log_bytes: u64) -> Result<Recovery, Error> {
    options(&Power::default().connect(disk), log_bytes).recover()
}

/// Appends at every level, tickets and syncs at once.
fn mixed_levels() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let threads = vec![
        world.appender(1, &[Synced, Written]),
        world.appender(2, &[Written, Synced]),
        world.appender(3, &[Buffered, Written, Buffered]),
        world.spawn(|session| {
            let ticket = session.submit(draft(400), None);
            let record = session.append(draft(401), Buffered).expect("nothing fails");
            let ticket = session.wait(ticket.expect("nothing fails")).expect("nothing fails");
            assert!(ticket.index < record.index);
        }),
        world.spawn(|session| {
            session.sync().expect("nothing fails");
            session.append(draft(500), Buffered).expect("nothing fails");
            session.sync().expect("nothing fails");
        }),
    ];
    world.end(threads);
}

/// A wake-up that is lost shows when nobody comes after it.
fn one_append_each() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let threads = (1..=4).map(|name| world.appender(name, &[Synced])).collect();
    let session = Arc::clone(&world.session);
    join(threads);
    assert_eq!(session.wal.durable().index.get(), 4, "all four were acknowledged");
    drop(session);
    world.end(Vec::new());
}

/// Records that fill a log between three of them: whoever finds it full rotates, the others come along.
fn rotation_by_size() {
    let world = World::new(LOG_BYTES_MIN);
    let big = |name: u64| {
        world.spawn(move |session| {
            for (turn, level) in [Synced, Buffered].into_iter().enumerate() {
                session.append(draft_of(name * 100 + turn as u64, 22_000), level).expect("nothing fails");
            }
        })
    };
    let threads = vec![big(1), big(2), big(3), big(4), world.appender(5, &[Written, Synced])];
    world.end(threads);
}

/// Two threads that rotate among others that append.
fn rotation_on_request() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let rotator = || {
        world.spawn(|session| {
            for _ in 0..2 {
                session.rotate().expect("nothing fails");
            }
        })
    };
    let threads = vec![
        rotator(),
        rotator(),
        world.appender(1, &[Synced, Synced]),
        world.appender(2, &[Buffered, Written]),
        world.appender(3, &[Synced]),
    ];
    world.end(threads);
}

/// The thread that makes the next log ahead and seals behind, of new files and of deleted logs, among writers, rotations and deletions; often until the
/// power goes or something fails.
fn made_ahead() {
    let mut world = World::with(LOG_BYTES_MIN, |options| {
        options.background(true).way(Way::Filled).recycle(1 + thread_rng().next_u64() as usize % 2)
    });
    match world.rng.below(4) {
        0 => {}
        1 => {
            let what = world.rng.pick(&["write", "sync", "create", "fill", "rename", "unlink"]);
            world.disk.fail(fault(&format!("fail {what} #{} of *.wal with EIO", 1 + world.rng.below(6))));
        }
        _ => world.power.cut_after(world.rng.below(60)),
    }
    let rotator = || {
        world.spawn(|session| {
            for turn in 0..2 {
                _ = session.rotate();
                mark_newest(session, turn);
                mark_newest(session, 1 - turn);
            }
        })
    };
    let threads = vec![
        world.appender(1, &[Synced, Synced, Buffered]),
        world.appender(2, &[Buffered, Synced]),
        world.spawn(|session| {
            for turn in 0..2 {
                survive(|| session.append(draft_of(300 + turn, 30_000), Synced));
            }
        }),
        rotator(),
        rotator(),
    ];
    world.end(threads);
}

/// A close among everything else: what was accepted before it is durable, what comes after it is refused.
fn close() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let threads = vec![
        world.appender(1, &[Synced, Buffered, Synced]),
        world.appender(2, &[Buffered, Written]),
        world.spawn(|session| {
            if let Ok(ticket) = session.submit(draft(300), None) {
                session.wait(ticket).expect("what a close finds accepted, it makes durable");
            }
        }),
        world.spawn(|session| {
            // Whose first look may be the moment at which the log's own thread ends.
            if let Ok(ticket) = session.submit(draft(400), None) {
                session.wait_for_future(ticket).expect("what a close finds accepted, it makes durable");
            }
        }),
        world.spawn(|session| _ = session.rotate()),
        world.spawn(|session| {
            session.close().expect("nothing fails");
            assert!(matches!(session.close(), Err(Error::Closed)));
        }),
    ];
    world.end(threads);
}

/// Two threads that mark, so that the second has to take what the first leaves.
fn deletion() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let marker = |family: u32| {
        world.spawn(move |session| {
            for _ in 0..2 {
                mark_newest(session, family);
            }
        })
    };
    let threads = vec![
        world.appender(1, &[Synced, Buffered]),
        world.appender(2, &[Buffered, Synced]),
        world.spawn(|session| {
            for _ in 0..2 {
                session.rotate().expect("nothing fails");
            }
        }),
        marker(0),
        marker(1),
    ];
    world.end(threads);
}

fn mark_newest(session: &Session, family: u32) {
    let newest = session.wal.last_seq().map_or(0, SeqNum::get);
    let recorded = session.wal.flushed(FamilyId::new(family)).map_or(0, SeqNum::get);
    if newest > recorded {
        _ = session.mark_flushed(family, newest);
    }
}

/// Readers without the lock, from whom logs are taken away while they read.
fn reader_and_deletion() {
    let world = World::new(LOG_BYTES_DEFAULT);
    for log in 0..3 {
        world.session.append(draft(log), Synced).expect("nothing fails");
        world.session.rotate().expect("nothing fails");
    }
    let reader = || {
        let options = options(&world.storage, world.log_bytes);
        world.spawn(move |session| {
            for _ in 0..2 {
                _ = session.inspect(options.clone());
            }
        })
    };
    let threads = vec![
        reader(),
        reader(),
        world.appender(1, &[Synced, Synced]),
        world.spawn(|session| {
            mark_newest(session, 0);
            session.rotate().expect("nothing fails");
            mark_newest(session, 1);
        }),
    ];
    world.end(threads);
}

/// The first sync fails: nobody is acknowledged, everybody who waits is told why.
fn failing_sync() {
    let world = World::new(LOG_BYTES_DEFAULT);
    world.disk.fail(fault("fail sync #1 of *.wal with EIO"));
    let threads = (1..=5)
        .map(|name| {
            world.spawn(move |session| {
                let answer = if name == 5 {
                    // Its record may be written before; its sync is not.
                    _ = session.append(draft(500), Written);
                    session.sync()
                } else {
                    session.append(draft(name * 100), Synced).map(|_| ())
                };
                let error = answer.expect_err("E: the disk has lost it");
                assert_eq!(life::errno(&error), Some(5), "E: {error:?}");
            })
        })
        .collect();
    world.end(threads);
}

/// Some operation fails among appends, rotations and deletions.
fn failing_operation() {
    let mut world = World::new(LOG_BYTES_DEFAULT);
    let nth = 1 + world.rng.below(6);
    let after = world.rng.below(90);
    let words = world.rng.pick(&[
        "fail sync #{nth} of *.wal with EIO",
        "fail write #{nth} of *.wal with ENOSPC after {after} bytes",
        "fail write #{nth} of *.wal with EIO",
        "fail syncdir #{nth} with EIO",
        "fail create #{nth} with EMFILE",
        "fail unlink #{nth} with EACCES",
        "fail write #{nth} of CHECKPOINT with EIO after {after} bytes",
        "fail sync #{nth} of CHECKPOINT with EIO",
    ]);
    world.disk.fail(fault(&words.replace("{nth}", &nth.to_string()).replace("{after}", &after.to_string())));
    let threads = vec![
        world.appender(1, &[Synced, Synced]),
        world.appender(2, &[Buffered, Synced]),
        world.appender(3, &[Written, Synced]),
        world.spawn(|session| {
            for _ in 0..2 {
                _ = session.rotate();
            }
            mark_newest(session, 0);
            mark_newest(session, 1);
        }),
        world.spawn(|session| {
            let ticket = session.submit(draft(500), None);
            _ = session.rotate();
            if let Ok(ticket) = ticket {
                _ = session.wait(ticket);
            }
        }),
    ];
    world.end(threads);
}

/// The power goes at some operation.
fn power_cut() {
    let mut world = World::new(LOG_BYTES_DEFAULT);
    world.power.cut_after(world.rng.below(40));
    let threads = vec![
        world.appender(1, &[Synced, Synced]),
        world.appender(2, &[Buffered, Synced, Written]),
        world.appender(3, &[Written]),
        world.spawn(|session| {
            for _ in 0..2 {
                _ = session.rotate();
                mark_newest(session, 0);
                mark_newest(session, 1);
            }
        }),
        world.spawn(|session| _ = session.close()),
    ];
    world.end(threads);
}

/// A thread panics inside the log, at the disk or, as far as the others can see, with the lock in its hand.
fn panicking_storage() {
    let mut world = World::new(LOG_BYTES_DEFAULT);
    let kinds = [Operation::Write, Operation::SyncData, Operation::SyncData, Operation::Create];
    let (kind, nth) = (world.rng.pick(&kinds), 1 + world.rng.below(4));
    world.power.panic_at(kind, nth);
    let appender = |name: u64| {
        world.spawn(move |session| {
            for (turn, level) in [Synced, Written, Synced].into_iter().enumerate() {
                survive(|| session.append(draft(name * 100 + turn as u64), level));
            }
        })
    };
    let threads = vec![
        appender(1),
        appender(2),
        appender(3),
        world.spawn(|session| {
            let ticket = session.submit(draft(400), None);
            survive(|| session.rotate());
            if let Ok(ticket) = ticket {
                survive(|| session.wait(ticket));
            }
        }),
    ];
    world.end(threads);
}

/// The application's recorder of metrics panics, in whatever the log does then.
fn panicking_recorder() {
    let recorder = PanickingRecorder::default();
    let mut world = metrics::with_local_recorder(&recorder, || World::new(LOG_BYTES_DEFAULT));
    if world.rng.one_in(2) {
        world.disk.fail(fault("fail sync #1 of *.wal with EIO"));
    }
    recorder.panic_at(1 + world.rng.below(10));
    let appender = |name: u64| {
        world.spawn(move |session| {
            survive(|| session.append(draft(name), Synced));
        })
    };
    let threads = vec![appender(1), appender(2), appender(3), appender(4)];
    world.end(threads);
}

/// Whoever drops a ticket, as a cancelled future does, takes nothing from the others, and its record comes with the next sync.
fn dropped_tickets() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let dropper = |name: u64| {
        world.spawn(move |session| {
            let kept = session.submit(draft(name * 100), None).expect("nothing fails");
            drop(session.submit(draft(name * 100 + 1), None).expect("nothing fails"));
            if name == 1 {
                session.wait(kept).expect("nothing fails");
            }
        })
    };
    let threads =
        vec![dropper(1), dropper(2), dropper(3), world.appender(4, &[Synced]), world.appender(5, &[Written])];
    join(threads);
    world.session.sync().expect("nothing fails");
    assert_eq!(world.session.wal.durable().index.get(), 8, "the dropped ones too");
    world.end(Vec::new());
}

/// The log goes out of scope in the middle of it all, in a thread that panics, say; tickets outlive it.
fn drop_without_close() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let threads = vec![
        world.appender(1, &[Synced, Written]),
        world.appender(2, &[Buffered, Synced]),
        world.spawn(|session| {
            let ticket = session.submit(draft(300), None).expect("nothing fails");
            session.wait(ticket).expect("nothing fails");
        }),
        {
            let session = Arc::clone(&world.session);
            thread::spawn(move || {
                survive(|| {
                    let session = session;
                    session.append(draft(400), Written).expect("nothing fails");
                    std::panic::resume_unwind(Box::new(Injected));
                });
            })
        },
    ];
    let ticket = world.session.wal.submit(wal_manager::Record::new(life::KIND, b"it outlives its log"));
    let World { mut rng, disk, session, model, log_bytes, .. } = world;
    drop(session);
    join(threads);
    let ticket = ticket.expect("nothing fails");
    let locked = recover(&disk, log_bytes).map(|_| ()).expect_err("the ticket keeps the lock");
    assert!(matches!(locked, Error::Locked { .. }), "{locked:?}");
    // The model learns of this record last, and of its place at once.
    let attempt = model.history().begin(Draft { family: 0, payload: b"it outlives its log".to_vec() });
    model.history().accepted(attempt, ticket.appended());
    let index = ticket.wait().expect("nothing fails").index.get();
    model.history().durable(index);
    drop(ticket);
    crash_and_check(&mut rng, &disk, &model, log_bytes);
}

/// A successor waits for the lock while others are still at work: once it has it, nothing of the old log touches the directory.
fn handover() {
    let mut world = World::new(LOG_BYTES_DEFAULT);
    if world.rng.one_in(2) {
        let kind = world.rng.pick(&[Operation::Create, Operation::SyncDirectory, Operation::Write]);
        world.power.panic_at(kind, 1 + world.rng.below(3));
    }
    let successor = {
        let storage = Power::after(&world.power).connect(&world.disk);
        let options = options(&storage, world.log_bytes);
        thread::spawn(move || {
            loop {
                match options.clone().recover() {
                    Ok(recovery) => {
                        drop(recovery.finish_without_replay().expect("nothing fails"));
                        break;
                    }
                    Err(Error::Locked { .. }) => thread::yield_now(),
                    Err(error) => panic!("L: {error:?}"),
                }
            }
        })
    };
    let threads = vec![
        successor,
        world.appender(1, &[Synced, Synced]),
        world.appender(2, &[Written, Buffered]),
        world.spawn(|session| {
            survive(|| session.rotate());
            survive(|| mark_newest(session, 0));
            survive(|| mark_newest(session, 1));
        }),
        world.spawn(|session| {
            // A storage that panics under it leaves the log to another close.
            if survive(|| session.close()).is_none() {
                _ = session.close();
            }
        }),
    ];
    world.end(threads);
}

/// Tickets that are awaited, beside others that are waited for: the log's own thread leads where nobody else does.
fn awaited_tickets() {
    let mut world = if thread_rng().next_u64().is_multiple_of(2) {
        World::new(LOG_BYTES_DEFAULT)
    } else {
        World::timed(LOG_BYTES_DEFAULT)
    };
    if world.rng.one_in(3) {
        world.disk.fail(fault("fail sync #2 of *.wal with EIO"));
    }
    let awaiter = |name: u64| {
        world.spawn(move |session| {
            for turn in 0..2 {
                if let Ok(waiting) = session.submit(draft(name * 100 + turn), None) {
                    survive(|| session.wait_for_future(waiting));
                }
            }
        })
    };
    let mut watch = world.session.wal.watch();
    let watcher = world.spawn(move |session| {
        // It moves at least once, or the log has failed.
        if let Ok(durable) = shuttle::future::block_on(watch.changed()) {
            assert!(session.wal.durable() >= durable, "S6: the frontier goes back");
        }
    });
    let threads = vec![
        awaiter(1),
        awaiter(2),
        awaiter(3),
        world.appender(4, &[Synced, Written]),
        world.spawn(|session| _ = session.rotate()),
        watcher,
    ];
    world.end(threads);
}

/// Tickets that are awaited and waited for while the log's own thread syncs large groups beside the next ones: whoever that lets go is gone, and the leader
/// that comes back rings for those who are left. No timer looks after them.
fn awaited_beside_bytes() {
    let world = World::with(LOG_BYTES_DEFAULT, |options| options.sync_bytes(SYNC_BYTES_MIN));
    let bytes = usize::try_from(SYNC_BYTES_MIN).expect("a group");
    let threads = vec![
        world.spawn(move |session| {
            // Large enough to be synced beside what comes next, which is not.
            session.append(draft_of(100, bytes), Written).expect("nothing fails");
            for turn in 1..5 {
                session.append(draft(100 + turn), Written).expect("nothing fails");
            }
        }),
        world.spawn(|session| {
            let waiting = session.submit(draft(200), None).expect("nothing fails");
            session.wait(waiting).expect("nothing fails");
        }),
        world.spawn(|session| {
            for turn in 0..2 {
                let waiting = session.submit(draft(300 + turn), None).expect("nothing fails");
                session.wait_for_future(waiting).expect("nothing fails");
            }
        }),
    ];
    world.end(threads);
}

/// The log's own thread with all its timers, among everything else; then nobody calls any more, and it makes everything durable.
fn timers() {
    let world = World::timed(LOG_BYTES_MIN);
    let threads = vec![
        world.appender(1, &[Buffered, Synced]),
        world.appender(2, &[Written, Buffered]),
        world.spawn(|session| {
            for turn in 0..2 {
                session.append(draft_of(300 + turn, 40_000), Buffered).expect("nothing fails");
            }
        }),
        world.spawn(|session| _ = session.rotate()),
    ];
    join(threads);
    let last = world.model.history().last();
    let durable = world.session.wal.wait_durable(Index::new(last)).expect("S4: nothing fails");
    world.model.history().durable(durable.index.get());
    world.end(Vec::new());
}

/// Four threads append the same keys, the disk fails perhaps, and whoever is told resumes and tries again: each key is there once, and all were
/// given the same numbers.
fn duplicates() {
    let mut world = World::with(LOG_BYTES_MIN, |options| options.duplicates(Window::new(50)));
    if world.rng.one_in(2) {
        let (turn, what) = (1 + world.rng.below(3), world.rng.pick(&["sync", "write"]));
        world.disk.fail(fault(&format!("fail {what} #{turn} of *.wal with EIO")));
    }
    let threads: Vec<_> = (0..4_u64)
        .map(|name| {
            let session = Arc::clone(&world.session);
            thread::spawn(move || {
                let append = |turn: u64| {
                    let key = (name + turn) % 2;
                    let payload = life::payload(key, if key == 0 { 22_000 } else { 20 });
                    let level = if name < 2 { Synced } else { Written };
                    let record = wal_manager::Record::new(life::KIND, &payload).key(u128::from(key));
                    loop {
                        match session.wal.append_with(record, level) {
                            Ok(appended) => break (key, level, appended),
                            Err(_) => drop(session.wal.resume()),
                        }
                    }
                };
                [append(0), append(1)]
            })
        })
        .collect();
    let told: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("a thread panics only where the test has failed"))
        .collect();
    world.disk.clear_faults();
    let disk =
        if world.rng.one_in(2) { world.disk.crash_all_lost() } else { world.disk.crash(world.rng.next()) };
    let recovery = recover(&disk, world.log_bytes).expect("L: a crash is not damage");
    let records = recovery.records().collect::<Result<Vec<_>, _>>().expect("the records are read");
    for key in 0..2 {
        let of_key: Vec<_> = told.iter().filter(|(of, ..)| *of == key).collect();
        let index = of_key.first().expect("four of them").2.index;
        assert!(of_key.iter().all(|(.., appended)| appended.index == index), "A11: {of_key:?}");
        assert!(of_key.iter().filter(|(.., appended)| !appended.duplicate).count() <= 1, "A11: {of_key:?}");
        let found: Vec<_> = records.iter().filter(|record| record.key == Some(u128::from(key))).collect();
        assert!(found.len() == 1 && found.iter().all(|record| record.index == index), "A11: {found:?}");
    }
}

/// The disk fails once; whoever is told resumes, and all go on.
fn resume() {
    let mut world = if thread_rng().next_u64().is_multiple_of(2) {
        World::new(LOG_BYTES_MIN)
    } else {
        World::timed(LOG_BYTES_MIN)
    };
    // An older log of family 0, and a record of family 1 that nobody flushes in the one that will fail.
    world.session.append(draft(0), Synced).expect("nothing fails yet");
    let flushed = world.session.wal.last_seq().expect("a record").get();
    world.session.rotate().expect("nothing fails yet");
    world.session.append(draft(1), Synced).expect("nothing fails yet");
    world.session.resume().expect("nothing has failed, and from here on the session expects it");
    let turn = 1 + world.rng.below(4);
    let what = world.rng.pick(&["sync", "write"]);
    world.disk.fail(fault(&format!("fail {what} #{turn} of *.wal with EIO")));
    let writer = |name: u64, levels: &'static [Durability]| {
        let (session, model) = (Arc::clone(&world.session), Arc::clone(&world.model));
        thread::spawn(move || {
            for (turn, level) in levels.iter().enumerate() {
                let draft = draft_of(name * 100 + turn as u64, if name == 1 { 22_000 } else { 20 });
                let (families, payload) = ([FamilyId::new(draft.family)], draft.payload.clone());
                let attempt = model.history().begin(draft);
                let record = wal_manager::Record::new(life::KIND, &payload).families(&families);
                match session.wal.append_with(record, *level) {
                    Ok(appended) => {
                        let mut history = model.history();
                        history.accepted(attempt, appended);
                        match level {
                            Synced => history.durable(appended.index.get()),
                            Written => history.written(appended.index.get()),
                            Buffered => {}
                        }
                    }
                    // It may be there or not: nobody was told its index.
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Io), "E: {error:?}");
                        let durable = session.wal.resume().expect("S14: the disk fails once");
                        model.history().durable(durable.index.get());
                    }
                }
            }
        })
    };
    let threads = vec![
        writer(1, &[Buffered, Written, Buffered]),
        writer(2, &[Synced, Buffered]),
        writer(3, &[Written, Synced]),
        writer(4, &[Buffered, Synced]),
        world.spawn(|session| {
            if session.wal.rotate().is_err() {
                session.wal.resume().expect("S14: the disk fails once");
            }
        }),
        // A deletion that sees the frontier in the new log must see the old one too.
        world.spawn(move |session| {
            while session.mark_flushed(0, flushed).is_err() {
                thread::yield_now();
            }
        }),
    ];
    join(threads);
    // What is left of the fault may meet this sync.
    let wal = &world.session.wal;
    let durable = wal.sync().or_else(|_| wal.resume()).expect("S14: the disk fails once");
    world.model.history().durable(durable.index.get());
    world.end(Vec::new());
}

/// A group that is full: whoever comes to it writes it, or waits for who does.
fn full_group() {
    let world = World::new(LOG_BYTES_DEFAULT);
    let filler = |name: u64| {
        world.spawn(move |session| {
            for turn in 0..2 {
                let draft =
                    Draft { family: 0, payload: vec![(name * 10 + turn) as u8; GROUP_BYTES_MAX / 2 + 1] };
                session.append(draft, Buffered).expect("nothing fails");
            }
        })
    };
    let threads = vec![filler(1), filler(2), filler(3), filler(4)];
    world.end(threads);
}
