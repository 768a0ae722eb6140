//! What a log says while it works: events and spans, and the disk that hangs. The subscriber is the whole process's, since the log's own threads speak
//! too; so each test looks for what only it provokes.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use wal_manager::{
    ArchiveLimits, Bell, Clock, DiskWork, Durability, Error, FamilyId, MemStorage, SYNC_BYTES_MIN, SeqNum,
    Stall,
};
use wal_manager::{Wal, metrics as names};
use wal_tests::clock::HandClock;
use wal_tests::exporter::Exporter;
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{options, payload, record, reopen, within};

/// Everything that was said, in one line each, and by whom.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(ThreadId, String)>>>);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.insert_str(0, &format!("{value:?} ")),
            name => write!(self.0, "{name}={value:?} ").unwrap(),
        }
    }
}

impl Said {
    /// The subscriber of this process.
    fn listen() -> &'static Self {
        static SAID: OnceLock<Said> = OnceLock::new();
        SAID.get_or_init(|| {
            let said = Self::default();
            tracing::subscriber::set_global_default(said.clone()).expect("nobody else listens");
            said
        })
    }

    fn lines(&self, of: impl Fn(ThreadId, &str) -> bool) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|(thread, line)| of(*thread, line)).map(|(_, line)| line.clone()).collect()
    }

    /// What this thread said.
    fn here(&self) -> Vec<String> {
        let here = thread::current().id();
        self.lines(|thread, _| thread == here)
    }

    fn push(&self, line: Line) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push((thread::current().id(), line.0));
    }
}

impl tracing::Subscriber for Said {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut line = Line(format!("span {} ", span.metadata().name()));
        span.record(&mut line);
        self.push(line);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// That one of the lines begins like this and has all of these parts.
fn assert_said(lines: &[String], begin: &str, parts: &[&str]) {
    let fits = |line: &&String| line.starts_with(begin) && parts.iter().all(|part| line.contains(part));
    assert!(lines.iter().any(|line| fits(&line)), "{begin} {parts:?} in {lines:#?}");
}

#[test]
fn o3_each_step_of_a_life_is_a_span_or_an_event_with_fields() {
    let said = Said::listen();
    let storage = FaultyStorage::new(MemStorage::new());
    let (wal, ..) = reopen(options(&storage));
    wal.append(record(&payload(0, 100))).unwrap();
    wal.append(record(&payload(1, 100))).unwrap();
    wal.rotate().unwrap();
    wal.append(record(b"the second log")).unwrap();
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2)).unwrap();
    storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
    wal.append(record(b"fails")).unwrap_err();
    wal.resume().unwrap();
    wal.close().unwrap();
    let lines = said.here();
    for (begin, parts) in [
        ("span wal.recover ", &["path=", "mode=Default"][..]),
        ("wal.recovered ", &["records=0", "next_index=1", "cut_bytes=0", "epoch=1"]),
        ("wal.appended ", &["index=2", "bytes=100"]),
        ("wal.synced ", &["log=1", "index=2", "records=1"]),
        ("span wal.rotate ", &["path=", "log=1"]),
        ("wal.rotated ", &["log=1", "next=2", "records=2"]),
        ("span wal.gc ", &["path=", "logs=1"]),
        ("wal.deleted ", &["log=1", "bytes="]),
        ("wal.poisoned ", &["error="]),
        ("span wal.resume ", &["path="]),
        ("wal.resumed ", &["log=3", "index=4"]),
        ("wal.closed ", &["log=3", "next_index=5"]),
    ] {
        assert_said(&lines, begin, parts);
    }
}

#[test]
fn o4_torn_tails_and_damage_are_said_with_their_place() {
    let said = Said::listen();
    let memory = MemStorage::new();
    let (wal, ..) = reopen(options(&memory));
    for number in 0..3 {
        wal.append(record(&payload(number, 100))).unwrap();
    }
    drop(wal);
    let mut torn = memory.files();
    let log = torn.get_mut("000001.wal").unwrap();
    log.truncate(log.len() - 10);
    reopen(options(&MemStorage::from_files(torn)));
    let mut damaged = memory.files();
    damaged.get_mut("000001.wal").unwrap()[150] ^= 1;
    let refused = options(&MemStorage::from_files(damaged)).recover().map(drop).unwrap_err();
    assert!(matches!(refused, Error::Damaged(_)), "{refused}");
    let mut half = memory.files();
    half.get_mut("CHECKPOINT").unwrap()[10] ^= 1;
    reopen(options(&MemStorage::from_files(half)));
    let lines = said.here();
    assert_said(&lines, "wal.torn_tail ", &["log=1", "offset=", "cut_bytes=", "reason="]);
    assert_said(&lines, "wal.damage ", &["log=1", "offset=", "reason="]);
    assert_said(&lines, "wal.checkpoint_fault ", &["fault="]);
}

/// Both clocks of a [`HandClock`], a thousand seconds apart.
#[derive(Debug, Default)]
struct Clocks(HandClock);

impl Clock for Clocks {
    fn wall(&self) -> Duration {
        Duration::from_secs(1000) + self.0.monotonic()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep_until(&self, deadline: Option<Duration>, bell: &Bell) {
        self.0.sleep_until(deadline, bell);
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn o6_a_sync_that_hangs_is_seen_while_it_does() {
    let said = Said::listen();
    within("a stall and its end", move || {
        let clock = Arc::new(Clocks::default());
        let storage = FaultyStorage::new(MemStorage::new());
        let exporter = Exporter::named("hangs");
        let (told, stalls) = mpsc::channel();
        let told = move |stall: &Stall| told.send(stall.clone()).unwrap();
        let watched = options(&storage).clock(clock.clone()).on_stall(5 * SECOND, told);
        let wal = Arc::new(exporter.open(watched));
        let since = || exporter.value("wal_in_flight_since_seconds commit");
        let stalled = || exporter.value("wal_stalls_total commit");
        let events = |name: &str| {
            said.lines(|_, line| line.starts_with(name) && line.contains("wal=\"hangs\" work=\"commit\""))
        };
        wal.append(record(b"the disk works")).unwrap();
        clock.0.advance(10 * SECOND);
        clock.0.advance(10 * SECOND);
        assert_eq!(
            clock.0.deadline(),
            None,
            "the thread of an idle log sleeps until somebody goes to the disk"
        );
        wal.append(record(b"the disk still works")).unwrap();
        assert_eq!((since(), stalled()), (0.0, 0.0));

        for (number, begun) in [(1, 1020.0), (2, 1125.0)] {
            let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
            let writer = {
                let wal = Arc::clone(&wal);
                thread::spawn(move || wal.append(record(b"hangs")).map(drop))
            };
            gate.reached();
            let age = || clock.wall().as_secs_f64() - since();
            assert_eq!((since(), age()), (begun, 0.0));
            // Whoever went to the disk has woken it.
            while clock.0.deadline().is_none() {
                thread::yield_now();
            }
            assert_eq!(clock.0.deadline(), Some(5 * SECOND));
            clock.0.advance(4 * SECOND);
            assert_eq!((age(), stalls.try_recv()), (4.0, Err(mpsc::TryRecvError::Empty)));
            clock.0.advance(SECOND);
            let stall = stalls.try_recv().expect("it is told at once");
            assert_eq!((stall.work, stall.log.get(), stall.age), (DiskWork::Commit, 1, 5 * SECOND));
            clock.0.advance(50 * SECOND);
            clock.0.advance(50 * SECOND);
            assert_eq!(
                (age(), stalls.try_recv()),
                (105.0, Err(mpsc::TryRecvError::Empty)),
                "it is told once"
            );
            assert_eq!(stalled(), f64::from(number));
            assert_eq!(events("wal.stall ").len(), number as usize);
            assert_said(&events("wal.stall "), "wal.stall ", &["log=1", "seconds=5.0"]);
            assert_eq!(events("wal.stall_ended ").len(), number as usize - 1);

            gate.open();
            writer.join().unwrap().unwrap();
            assert_eq!(since(), 0.0);
            assert_eq!(events("wal.stall_ended ").len(), number as usize);
            assert_said(&events("wal.stall_ended "), "wal.stall_ended ", &["log=1", "seconds=105.0"]);
        }
        wal.close().unwrap();
    });
}

/// A clock that a test moves by hand, for any number of threads: it wakes them all, and waits for none.
#[derive(Debug, Default)]
struct Moved(Mutex<(Duration, Vec<Bell>)>);

impl Moved {
    fn advance(&self, by: Duration) {
        let mut moved = self.0.lock().unwrap();
        moved.0 += by;
        moved.1.drain(..).for_each(|bell| bell.ring());
    }
}

impl Clock for Moved {
    fn wall(&self) -> Duration {
        Duration::from_secs(1000)
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().0
    }

    fn sleep_until(&self, deadline: Option<Duration>, bell: &Bell) {
        let mut moved = self.0.lock().unwrap();
        if deadline.is_none_or(|deadline| deadline > moved.0) {
            moved.1.push(bell.clone());
            drop(moved);
            bell.wait(None);
        }
    }
}

/// What hangs, where, and what is done about it.
type Hang = (DiskWork, Which, fn(&Wal));

#[test]
fn o6_whatever_hangs_is_named() {
    let hangs: [Hang; 8] = [
        (DiskWork::Commit, Which::On(Kind::Write, ".wal"), |wal| {
            drop(wal.append_with(record(b"written"), Durability::Written));
        }),
        (DiskWork::Sync, Which::On(Kind::SyncData, ".wal"), |wal| {
            // By the log's own thread.
            for number in 0..3 {
                wal.append_with(record(&payload(number, 200_000)), Durability::Written).unwrap();
            }
        }),
        (DiskWork::Prepare, Which::On(Kind::Create, ".wal"), |wal| wal.housekeep().unwrap()),
        (DiskWork::Checkpoint, Which::On(Kind::SyncData, "CHECKPOINT"), |wal| {
            wal.hold("backup", SeqNum::new(1), None).unwrap();
        }),
        (DiskWork::Seal, Which::On(Kind::Write, "000001.wal"), |wal| drop(wal.rotate().unwrap())),
        (DiskWork::Delete, Which::Kind(Kind::Unlink), |wal| {
            wal.rotate().unwrap();
            wal.append(record(b"the second log")).unwrap();
            wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(1)).unwrap();
        }),
        (DiskWork::Archive, Which::Kind(Kind::Rename), |wal| {
            wal.rotate().unwrap();
            wal.append(record(b"the second log")).unwrap();
            wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(1)).unwrap();
        }),
        (DiskWork::Resume, Which::On(Kind::Create, ".wal"), |wal| _ = wal.resume().unwrap()),
    ];
    assert_eq!(hangs.each_ref().map(|(work, ..)| *work), DiskWork::ALL);
    for (work, which, act) in hangs {
        within(work.as_str(), move || {
            let clock = Arc::new(Moved::default());
            let storage = FaultyStorage::new(MemStorage::new());
            let archive = FaultyStorage::new(MemStorage::new());
            let exporter = Exporter::default();
            let (told, stalls) = mpsc::channel();
            let told = move |stall: &Stall| told.send(stall.clone()).unwrap();
            let mut watched = options(&storage).clock(clock.clone()).on_stall(5 * SECOND, told);
            watched = watched.sync_bytes(SYNC_BYTES_MIN);
            if work == DiskWork::Archive {
                watched = watched.archive_on(Arc::new(archive.clone()), ArchiveLimits::NONE);
            }
            let wal = Arc::new(exporter.open(watched));
            wal.append(record(b"the first log")).unwrap();
            if work == DiskWork::Resume {
                storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
                wal.append(record(b"fails")).unwrap_err();
            }
            let gate =
                if work == DiskWork::Archive { archive.gate(which, 1) } else { storage.gate(which, 1) };
            let actor = {
                let wal = Arc::clone(&wal);
                thread::spawn(move || act(&wal))
            };
            gate.reached();
            let since = format!("{} {}", names::IN_FLIGHT_SINCE_SECONDS, work.as_str());
            assert_eq!(exporter.value(&since), 1000.0, "{work:?}");
            clock.advance(5 * SECOND);
            let stall = stalls.recv().unwrap();
            assert_eq!((stall.work, stall.age), (work, 5 * SECOND));
            gate.open();
            actor.join().unwrap();
            wal.close().unwrap();
            for work in DiskWork::ALL {
                let since = format!("{} {}", names::IN_FLIGHT_SINCE_SECONDS, work.as_str());
                assert_eq!(exporter.value(&since), 0.0, "{work:?} has ended");
            }
            let stalled =
                DiskWork::ALL.map(|work| exporter.value(&format!("{} {}", names::STALLS, work.as_str())));
            assert_eq!(stalled[work as usize], 1.0, "{stalled:?}");
        });
    }
}

#[test]
fn o6_a_callback_that_panics_or_drops_the_log_ends_nothing() {
    within("callbacks", || {
        let clock = Arc::new(Moved::default());
        let storage = FaultyStorage::new(MemStorage::new());
        let (told, stalls) = mpsc::channel();
        let owner: Arc<Mutex<Option<Wal>>> = Arc::default();
        let owned = Arc::downgrade(&owner);
        let told = move |_: &Stall| {
            told.send(()).unwrap();
            // The first time nobody has it; the second time this is the last who has.
            drop(owned.upgrade().unwrap().lock().unwrap().take());
            panic!("as the test asked");
        };
        let watched = options(&storage).clock(clock.clone()).on_stall(SECOND, told);
        let wal = reopen(watched).0;
        let stall = |wal: &Wal| {
            let gate = storage.gate(Which::On(Kind::Write, ".wal"), 1);
            thread::scope(|scope| {
                let writer = scope.spawn(|| wal.append(record(b"hangs")).map(drop));
                gate.reached();
                clock.advance(SECOND);
                stalls.recv().unwrap();
                gate.open();
                writer.join().unwrap().unwrap();
            });
        };
        stall(&wal);
        stall(&wal);
        let ticket = wal.submit(record(b"outlives the log")).unwrap();
        *owner.lock().unwrap() = Some(wal);
        let gate = storage.gate(Which::On(Kind::Write, ".wal"), 1);
        let writer = thread::spawn(move || ticket.wait().map(drop));
        gate.reached();
        clock.advance(SECOND);
        stalls.recv().unwrap();
        gate.open();
        writer.join().unwrap().unwrap();
        drop(owner);
        // The directory is free once the last of them is gone.
        while let Err(Error::Locked { .. }) = options(&storage).recover() {
            thread::yield_now();
        }
    });
}

#[test]
fn o6_a_threshold_that_is_none_is_refused() {
    let refused = options(&MemStorage::new()).on_stall(Duration::ZERO, |_| {}).recover().map(drop);
    assert!(matches!(refused, Err(Error::InvalidOption { option: "on_stall", .. })), "{refused:?}");
}
