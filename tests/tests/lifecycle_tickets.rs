//! Tickets and the watch on the frontier, in threads, in tokio, and in an executor of a few lines.

use std::collections::HashSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::Duration;

use wal_manager::{
    Bell, Clock, Durability, Error, FollowFrom, Follower, MemStorage, SYNC_BYTES_MIN, SimStorage, Ticket, Wal,
};
use wal_tests::clock::HandClock;
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{Acked, assert_holds, errno, note, open, options, payload, record, reopen, within};

/// Wakes a thread, and counts.
struct Parked(Thread, AtomicUsize);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// An executor: polls, and sleeps until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Parked(thread::current(), AtomicUsize::new(0))));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

/// Moved by hand, and knows who has asked for the time: a thread that waits for others does, once it is enrolled.
#[derive(Debug, Default)]
struct WatchedClock {
    hand: HandClock,
    asked: Mutex<HashSet<ThreadId>>,
}

impl Clock for WatchedClock {
    fn wall(&self) -> Duration {
        self.hand.wall()
    }

    fn monotonic(&self) -> Duration {
        self.asked.lock().unwrap().insert(thread::current().id());
        self.hand.monotonic()
    }

    fn sleep_until(&self, deadline: Option<Duration>, bell: &Bell) {
        self.hand.sleep_until(deadline, bell);
    }
}

/// The log's own thread syncs beside a group, which lets a writer go who was enrolled for the next one. Whoever leads that group must not take him
/// for one who still waits: nobody would lead for the one who awaits.
#[test]
fn s8_s12_regression_who_was_let_go_by_a_sync_beside_the_groups_is_not_counted_any_more() {
    within("a ticket that is awaited", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let clock = Arc::new(WatchedClock::default());
        let options = options(&storage).clock(clock.clone()).idle_promise(None).sync_bytes(SYNC_BYTES_MIN);
        let wal = Arc::new(reopen(options).0);
        let early = wal.submit(record(b"is synced with the large one")).unwrap();
        let sync = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
        let large = payload(1, usize::try_from(SYNC_BYTES_MIN).unwrap());
        wal.append_with(record(&large), Durability::Written).unwrap();
        sync.reached();
        // Beside that sync, a group that nobody wants synced.
        let write = storage.gate(Which::On(Kind::Write, ".wal"), 1);
        let writer = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.append_with(record(b"small"), Durability::Written).unwrap())
        };
        write.reached();
        let waiter = thread::spawn(move || early.wait().unwrap());
        while !clock.asked.lock().unwrap().contains(&waiter.thread().id()) {
            thread::yield_now();
        }
        let parked = Arc::new(Parked(thread::current(), AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&parked));
        let mut late = pin!(wal.submit(record(b"is awaited")).unwrap());
        assert!(late.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        sync.open();
        waiter.join().unwrap();
        // The log's own thread finds a group at the disk, and sleeps; whoever leads that rings.
        clock.hand.advance(Duration::ZERO);
        write.open();
        writer.join().unwrap();
        // To poll once more would be to ask once more.
        while parked.1.load(Ordering::SeqCst) == 0 {
            thread::park();
        }
        assert_eq!(block_on(late).unwrap().index, wal.durable().index);
    });
}

fn submit(wal: &Wal, acked: &mut Acked, number: u64) -> Ticket {
    let bytes = payload(number, 60);
    let ticket = wal.submit(record(&bytes)).unwrap();
    note(acked, ticket.appended(), &bytes);
    ticket
}

#[test]
fn s12_the_same_ticket_waits_in_a_thread_in_a_hand_written_executor_and_in_tokio() {
    within("tickets", || {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let wal = open(&storage);
        let mut acked = Acked::new();
        for round in 0..20 {
            let ticket = submit(&wal, &mut acked, 3 * round);
            let clone = ticket.clone();
            ticket.wait().unwrap();
            assert_eq!(block_on(clone).unwrap().index.get(), 3 * round + 1, "what is durable is ready");
            storage.forget();
            let ticket = submit(&wal, &mut acked, 3 * round + 1);
            let appended = block_on(ticket).unwrap();
            assert!(wal.durable() >= appended.position);
            let mine = thread::current().id();
            assert!(storage.ops().iter().all(|op| op.thread != mine), "I6: who may not block does no I/O");
            assert_eq!(storage.count(Kind::SyncData, ".wal"), 1);
            let ticket = submit(&wal, &mut acked, 3 * round + 2);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async { ticket.await.unwrap() });
        }
        drop(wal);
        assert_holds(&reopen(options(&disk.crash_all_lost())).1, &acked);
    });
}

#[test]
fn i6_a_runtime_goes_on_while_the_disk_syncs() {
    within("a runtime", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = Arc::new(open(&storage));
        let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let waiting = {
                let wal = Arc::clone(&wal);
                tokio::spawn(async move {
                    let tickets: Vec<_> =
                        (0..10).map(|number| wal.submit(record(&payload(number, 9))).unwrap()).collect();
                    for ticket in tickets {
                        ticket.await.unwrap();
                    }
                })
            };
            let other = tokio::spawn(async {
                for _ in 0..1000 {
                    tokio::task::yield_now().await;
                }
            });
            // Its one thread has time for the other task while the sync hangs.
            other.await.unwrap();
            assert!(!waiting.is_finished());
            gate.reached();
            gate.open();
            waiting.await.unwrap();
        });
    });
}

#[test]
fn s12_f68_a_future_that_is_dropped_in_the_middle_loses_nothing() {
    within("dropped futures", || {
        let disk = SimStorage::new();
        let storage = FaultyStorage::new(disk.clone());
        let wal = open(&storage);
        let mut acked = Acked::new();
        let waker = Arc::new(Parked(thread::current(), AtomicUsize::new(0)));
        let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
        let mut first = Box::pin(submit(&wal, &mut acked, 0));
        let polled = first.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&waker))));
        assert!(polled.is_pending());
        gate.reached();
        drop(first);
        let second = submit(&wal, &mut acked, 1);
        gate.open();
        block_on(second).unwrap();
        assert_eq!(waker.1.load(Ordering::SeqCst), 0, "who is gone is not woken");
        drop(wal);
        assert_holds(&reopen(options(&disk.crash_all_lost())).1, &acked);
    });
}

#[test]
fn s8_s12_a_failure_reaches_everybody_who_awaits() {
    within("a failure", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = Arc::new(open(&storage));
        let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
        let awaiting: Vec<_> = (0..8)
            .map(|number| {
                let wal = Arc::clone(&wal);
                let ticket = wal.submit(record(&payload(number, 30))).unwrap();
                thread::spawn(move || if number % 2 == 0 { block_on(ticket) } else { ticket.wait() })
            })
            .collect();
        let mut watch = wal.watch();
        let watching = thread::spawn(move || block_on(watch.changed()));
        gate.reached();
        gate.open_to_fail(EIO);
        for thread in awaiting {
            assert_eq!(errno(&thread.join().unwrap().unwrap_err()), Some(EIO));
        }
        assert_eq!(errno(&watching.join().unwrap().unwrap_err()), Some(EIO));
    });
}

/// From behind what is durable.
fn follow(wal: &Wal) -> Follower {
    wal.follow(FollowFrom::Index(wal.durable().index.next().unwrap())).unwrap()
}

/// The thread that leads for those who await has ended with the log; that is not what they are told.
#[test]
fn s8_s12_a9_after_a_failure_and_a_close_who_awaits_is_told_the_failure_too() {
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = open(&storage);
    wal.append(record(b"durable")).unwrap();
    let (mut watch, mut follower) = (wal.watch(), follow(&wal));
    storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
    let (leads, lost) = (wal.submit(record(b"leads")).unwrap(), wal.submit(record(b"lost")).unwrap());
    assert_eq!(errno(&leads.wait().unwrap_err()), Some(EIO));
    assert_eq!(errno(&wal.close().unwrap_err()), Some(EIO));
    assert_eq!(errno(&lost.wait().unwrap_err()), Some(EIO));
    assert_eq!(errno(&block_on(lost).unwrap_err()), Some(EIO));
    assert_eq!(errno(&block_on(watch.changed()).unwrap_err()), Some(EIO));
    assert_eq!(errno(&block_on(follower.next_async()).unwrap().unwrap_err()), Some(EIO));
}

#[test]
fn s8_s12_behind_a_close_who_awaits_is_told_what_is_durable_and_that_nothing_more_comes() {
    let wal = open(&MemStorage::new());
    let (mut watch, ticket) = (wal.watch(), wal.submit(record(b"made durable by the close")).unwrap());
    let mut follower = follow(&wal);
    wal.close().unwrap();
    assert_eq!(block_on(watch.changed()).unwrap().index, ticket.appended().index);
    assert!(matches!(block_on(watch.changed()), Err(Error::Closed)));
    assert_eq!(block_on(follower.next_async()).unwrap().unwrap().index, ticket.appended().index);
    assert!(block_on(follower.next_async()).is_none());
    block_on(ticket).unwrap();
}

/// A task that is in nobody's hands but its wakers': with the last of them its ticket goes.
struct Task(#[expect(dead_code, reason = "held until the task is dropped")] Pin<Box<Ticket>>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn s8_s12_regression_the_last_waker_of_a_task_that_holds_a_ticket_is_dropped_behind_the_mutex() {
    within("the last waker", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = open(&storage);
        let pending = |ticket: &mut Pin<Box<Ticket>>, waker: &Waker| {
            assert!(ticket.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        };
        // Ways to lose the waker: another one in its place, and a ticket that goes.
        for replaced in [true, false] {
            let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
            let mut held = Box::pin(wal.submit(record(b"in the task")).unwrap());
            pending(&mut held, Waker::noop());
            gate.reached();
            let mut polled = Box::pin(wal.submit(record(b"polled by the task")).unwrap());
            pending(&mut polled, &Waker::from(Arc::new(Task(held))));
            if replaced {
                pending(&mut polled, Waker::noop());
            }
            drop(polled);
            gate.open();
            wal.sync().unwrap();
        }
    });
}

#[test]
fn s6_s7_the_frontier_is_watched_blocking_and_awaiting_and_only_grows() {
    within("watches", || {
        let storage = FaultyStorage::new(MemStorage::new());
        let wal = Arc::new(open(&storage));
        let (mut blocking, mut awaiting) = (wal.watch(), wal.watch());
        let waker = Waker::noop();
        let appended = wal.append_with(record(b"written"), Durability::Written).unwrap();
        assert!(
            awaiting.poll_changed(&mut Context::from_waker(waker)).is_pending(),
            "unresolved before the sync"
        );
        let gate = storage.gate(Which::On(Kind::SyncData, ".wal"), 1);
        let waiters = [
            thread::spawn(move || (blocking.wait().unwrap(), blocking.wait().unwrap())),
            thread::spawn(move || {
                block_on(async { (awaiting.changed().await.unwrap(), awaiting.changed().await.unwrap()) })
            }),
        ];
        let through = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.wait_durable(appended.index).unwrap())
        };
        let syncer = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || wal.sync().unwrap())
        };
        gate.reached();
        assert!(wal.durable() < appended.position);
        gate.open();
        syncer.join().unwrap();
        assert_eq!(through.join().unwrap(), appended.position);
        // The watches may see one after the other or both at once, and then wait for a third.
        let mut last = wal.durable();
        let mut rounds = 0;
        while !waiters.iter().all(|waiter| waiter.is_finished()) {
            wal.rotate().unwrap();
            let now = wal.append(record(&payload(rounds, 9))).unwrap().position;
            assert!(wal.durable() >= now && now > last, "it grows, over logs too");
            (last, rounds) = (now, rounds + 1);
        }
        for waiter in waiters {
            let (one, two) = waiter.join().unwrap();
            assert!(appended.position <= one && one < two);
        }
    });
}

#[test]
fn s7_a_watch_ends_with_its_log() {
    within("the end of a watch", || {
        for close in [false, true] {
            let wal = open(&MemStorage::new());
            let mut watch = wal.watch();
            let watching = thread::spawn(move || block_on(watch.changed()));
            if close {
                wal.close().unwrap();
            }
            drop(wal);
            let error = watching.join().unwrap().unwrap_err();
            assert!(matches!(error, Error::Closed), "{error:?}");
        }
    });
}

#[test]
fn s10_s15_a_thousand_tickets_cost_one_write_and_one_sync_and_waiting_for_the_oldest_is_enough() {
    let storage = FaultyStorage::new(MemStorage::new());
    let wal = open(&storage);
    for _ in 0..5 {
        storage.forget();
        let tickets: Vec<_> =
            (0..1000).map(|number| wal.submit(record(&payload(number, 64))).unwrap()).collect();
        tickets[0].wait().unwrap();
        assert!(tickets.iter().all(Ticket::is_durable));
        let kinds: Vec<Kind> = storage.ops().iter().map(|op| op.kind).collect();
        assert_eq!(kinds, [Kind::Write, Kind::SyncData]);
    }
}
