//! Followers: what they see, when they wake, and what they are told (W1, W3, W4), in the simulator and on real files.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use wal_io::probe::Way;
use wal_manager::{
    DirectoryFollower, Durability, Error, ErrorKind, FamilyId, FollowFrom, Follower, Index, Options,
    RecoveredRecord, RecoveryMode, SeqNum, SimStorage, Storage, Wal,
};
use wal_tests::faulty::{EIO, FaultyStorage, Kind, Which};
use wal_tests::life::{KIND, SMALL, open, options, payload, record, within};
use wal_tests::rng::Rng;

/// The oldest record that is left.
fn from_oldest(wal: &Wal) -> Follower {
    wal.follow(FollowFrom::Oldest).expect("there is a log")
}

/// A follower of the same directory without the lock.
fn outside(storage: &(impl Storage + Clone + 'static)) -> DirectoryFollower {
    options(storage).follow(FollowFrom::Oldest).expect("there is a log")
}

/// What it hands out without waiting.
fn drain(mut next: impl FnMut() -> wal_manager::Result<Option<RecoveredRecord>>) -> Vec<u64> {
    let mut indices = Vec::new();
    while let Some(record) = next().expect("it goes on") {
        assert!(record.proven);
        indices.push(record.index.get());
    }
    indices
}

fn append(wal: &Wal, number: u64) -> u64 {
    wal.append(record(&payload(number, 100))).expect("acknowledged").index.get()
}

fn flush_all(wal: &Wal) {
    wal.mark_flushed(FamilyId::DEFAULT, wal.last_seq().expect("a record")).expect("it is recorded");
}

#[test]
fn w1_a_follower_sees_a_record_when_it_is_durable_and_not_before() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    let mut follower = from_oldest(&wal);
    assert!(follower.try_next().unwrap().is_none());
    wal.append_with(record(b"buffered"), Durability::Buffered).unwrap();
    assert!(follower.try_next().unwrap().is_none());
    wal.append_with(record(b"written"), Durability::Written).unwrap();
    assert!(follower.try_next().unwrap().is_none(), "it is written, and a power cut would take it");
    wal.sync().unwrap();
    let seen = follower.try_next().unwrap().expect("it is durable");
    assert_eq!((seen.index.get(), &seen.payload[..]), (1, &b"buffered"[..]));
    assert_eq!(drain(|| follower.try_next()), [2]);
    // In the same block, behind what it has in memory by now.
    for number in 3..40 {
        assert_eq!(append(&wal, number), number);
        assert_eq!(drain(|| follower.try_next()), [number]);
    }
}

#[test]
fn w1_rd2_a_follower_of_a_directory_sees_a_record_when_the_log_proves_it() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    let mut follower = outside(&disk);
    assert!(follower.try_next().unwrap().is_none());
    append(&wal, 1);
    assert!(follower.try_next().unwrap().is_none(), "it is durable, but nobody outside can know that");
    append(&wal, 2);
    assert_eq!(drain(|| follower.try_next()), [1]);
    wal.rotate().unwrap();
    append(&wal, 3);
    assert_eq!(drain(|| follower.try_next()), [2], "a rotation proves the log before");
    wal.close().unwrap();
    assert_eq!(drain(|| follower.try_next()), [3], "and the seal of a clean end its own");
    let wal = open(&disk);
    append(&wal, 4);
    append(&wal, 5);
    assert_eq!(drain(|| follower.try_next()), [4], "and it goes on with the next writer");
}

/// Logs without a record, of writers that came and went, are no part of the chain.
#[test]
fn w1_followers_pass_over_logs_without_records() {
    for killed in [false, true] {
        let disk = SimStorage::new();
        let begin = |records: &[u64]| {
            let wal = open(&disk);
            for number in records {
                append(&wal, *number);
            }
            if killed { drop(wal) } else { wal.close().unwrap() }
        };
        begin(&[]);
        let mut early = outside(&disk);
        assert_eq!(drain(|| early.try_next()), [0_u64; 0]);
        (0..3).for_each(|_| begin(&[]));
        assert_eq!(drain(|| early.try_next()), [0_u64; 0]);
        begin(&[1, 2]);
        (0..3).for_each(|_| begin(&[]));
        let wal = open(&disk);
        let (mut live, mut other) = (from_oldest(&wal), outside(&disk));
        assert_eq!(drain(|| live.try_next()), [1, 2], "killed: {killed}");
        append(&wal, 3);
        append(&wal, 4);
        assert_eq!(drain(|| live.try_next()), [3, 4]);
        assert_eq!(drain(|| other.try_next()), [1, 2, 3]);
        assert_eq!(drain(|| early.try_next()), [1, 2, 3]);
    }
}

/// The tail of a writer that died belongs to nobody until a recovery has made it durable, in another log.
#[test]
fn w1_rd2_what_a_dead_writer_left_unproven_is_seen_once_when_the_next_one_has_written_it_again() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    append(&wal, 1);
    append(&wal, 2);
    let mut follower = outside(&disk);
    assert_eq!(drain(|| follower.try_next()), [1]);
    let mut late = options(&disk).follow(FollowFrom::Index(Index::new(2))).unwrap();
    assert!(late.try_next().unwrap().is_none(), "it began in the tail");
    drop(wal);
    for _ in 0..3 {
        // Dies before anything proves what it wrote again.
        drop(open(&disk));
        assert!(follower.try_next().unwrap().is_none());
        assert!(late.try_next().unwrap().is_none());
    }
    let wal = open(&disk);
    append(&wal, 3);
    append(&wal, 4);
    assert_eq!(drain(|| follower.try_next()), [2, 3]);
    assert_eq!(drain(|| late.try_next()), [2, 3]);
}

#[test]
fn w1_a_follower_that_blocks_wakes_when_the_sync_is_done_and_reads_nothing_before() {
    within("a follower", || {
        let storage = FaultyStorage::new(SimStorage::new());
        let wal = Arc::new(open(&storage));
        append(&wal, 1);
        let mut follower = from_oldest(&wal);
        let (seen, sees) = mpsc::channel();
        let thread = thread::spawn(move || {
            for record in &mut follower {
                seen.send(record.map(|record| record.index.get())).unwrap();
            }
        });
        assert_eq!(sees.recv().unwrap().unwrap(), 1);
        for number in 2..10 {
            if number % 3 == 0 {
                // The first record behind a rotation: what is durable is in another log then.
                wal.rotate().unwrap();
            }
            let gate = storage.gate(Which::Kind(Kind::SyncData), 1);
            let writer = thread::spawn({
                let wal = Arc::clone(&wal);
                move || append(&wal, number)
            });
            gate.reached();
            storage.forget();
            for _ in 0..100 {
                thread::yield_now();
            }
            // INVARIANT: I6. Whoever waits does not look: nothing is read between the write and the end of its sync.
            assert_eq!(storage.count(Kind::Read, ".wal") + storage.count(Kind::Length, ".wal"), 0);
            assert!(sees.try_recv().is_err(), "it is written and not durable");
            gate.open();
            assert_eq!(sees.recv().unwrap().unwrap(), number);
            assert_eq!(writer.join().unwrap(), number);
        }
        wal.close().unwrap();
        assert!(sees.recv().is_err(), "the end of the log is the end of the iterator");
        thread.join().unwrap();
    });
}

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn w1_a_follower_is_awaited_without_a_runtime_and_woken_once() {
    within("a follower that is polled", || {
        let disk = SimStorage::new();
        let wal = open(&disk);
        let mut follower = from_oldest(&wal);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        for number in 1..8 {
            assert!(follower.poll_next(&mut context).is_pending());
            assert!(follower.poll_next(&mut context).is_pending(), "to be polled again changes nothing");
            if number == 4 {
                wal.rotate().unwrap();
                assert!(follower.poll_next(&mut context).is_pending());
            }
            let before = wakes.0.load(Ordering::SeqCst);
            append(&wal, number);
            assert_eq!(wakes.0.load(Ordering::SeqCst), before + 1);
            match follower.poll_next(&mut context) {
                Poll::Ready(Some(Ok(record))) => assert_eq!(record.index.get(), number),
                other => panic!("{other:?}"),
            }
        }
        wal.close().unwrap();
        assert!(matches!(follower.poll_next(&mut context), Poll::Ready(None)));
    });
}

#[test]
fn w1_a_follower_is_a_stream_in_tokio() {
    within("a stream", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disk = SimStorage::new();
        let wal = open(&disk);
        let mut follower = from_oldest(&wal);
        let writer = thread::spawn(move || {
            for number in 1..=50 {
                append(&wal, number);
                if number % 9 == 0 {
                    wal.rotate().unwrap();
                }
            }
            wal.close().unwrap();
        });
        let seen = runtime.block_on(async {
            let mut seen = Vec::new();
            for _ in 0..10 {
                seen.push(follower.next_async().await.expect("more").unwrap().index.get());
            }
            let mut stream = follower.into_stream();
            let next = async |stream: &mut wal_manager::FollowerStream| {
                std::future::poll_fn(|context| {
                    futures_core::Stream::poll_next(std::pin::Pin::new(&mut *stream), context)
                })
                .await
            };
            while let Some(record) = next(&mut stream).await {
                seen.push(record.unwrap().index.get());
            }
            seen
        });
        assert_eq!(seen, (1..=50).collect::<Vec<_>>());
        writer.join().unwrap();
    });
}

#[test]
fn w1_s14_a_follower_ends_with_the_failure_behind_what_is_durable_and_goes_on_after_a_resume() {
    for fresh in [false, true] {
        within("a resume", move || {
            let storage = FaultyStorage::new(SimStorage::new());
            let wal = open(&storage);
            let mut follower = from_oldest(&wal);
            let mut other = outside(&storage);
            append(&wal, 1);
            append(&wal, 2);
            if fresh {
                wal.rotate().unwrap();
            }
            let buffered = wal.append_with(record(b"three"), Durability::Buffered).unwrap();
            storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
            assert!(wal.append(record(b"four")).is_err());
            assert_eq!(follower.next().unwrap().unwrap().index.get(), 1);
            assert_eq!(follower.next().unwrap().unwrap().index.get(), 2);
            for _ in 0..3 {
                let failed = follower.next().expect("the failure is told, not swallowed");
                assert_eq!(failed.unwrap_err().kind(), ErrorKind::Poisoned);
            }
            let before = drain(|| other.try_next());
            assert!(before.iter().all(|index| *index <= 2), "{before:?}");
            wal.resume().unwrap();
            assert_eq!(buffered.index.get(), 3);
            assert_eq!(drain(|| follower.try_next()), [3, 4], "once, though they were written twice");
            append(&wal, 5);
            append(&wal, 6);
            assert_eq!(drain(|| follower.try_next()), [5, 6]);
            let all = [before, drain(|| other.try_next())].concat();
            assert_eq!(all, [1, 2, 3, 4, 5]);
        });
    }
}

#[test]
fn w1_a_follower_of_a_log_that_is_dropped_ends() {
    within("a follower", || {
        let wal = open(&SimStorage::new());
        append(&wal, 1);
        let mut follower = from_oldest(&wal);
        wal.append_with(record(b"buffered"), Durability::Buffered).unwrap();
        drop(wal);
        assert_eq!(follower.next().unwrap().unwrap().index.get(), 1);
        assert!(follower.next().is_none());
    });
}

#[test]
fn w1_w2_a_follower_begins_where_it_is_told() {
    let disk = SimStorage::new();
    let wal = open(&disk);
    // Sequence numbers 10, 11, 20, 21, ...
    for number in 1..=30_u64 {
        let bytes = payload(number, 3_000);
        wal.append(wal_manager::Record::new(KIND, &bytes).seqs(SeqNum::new(10 * number), 2)).unwrap();
        if number % 7 == 0 {
            wal.rotate().unwrap();
        }
    }
    wal.rotate().unwrap();
    wal.append(record(b"proves")).unwrap();
    let first = |from: FollowFrom| {
        let live = wal.follow(from).unwrap().try_next().unwrap().map(|record| record.index.get());
        let other = options(&disk).follow(from).unwrap().try_next().unwrap();
        assert!(live == Some(31) || other.map(|record| record.index.get()) == live, "{from:?}");
        live
    };
    for index in 1..=31 {
        assert_eq!(first(FollowFrom::Index(Index::new(index))), Some(index));
    }
    assert_eq!(first(FollowFrom::Index(Index::new(0))), Some(1));
    for seq in 0..=301 {
        let expected = if seq % 10 < 2 { seq / 10 } else { seq / 10 + 1 }.clamp(1, 31);
        assert_eq!(first(FollowFrom::Seq(SeqNum::new(seq))), Some(expected), "{seq}");
    }
    // What is not there yet is waited for.
    let mut later = wal.follow(FollowFrom::Index(Index::new(33))).unwrap();
    assert_eq!(drain(|| later.try_next()), [0_u64; 0]);
    append(&wal, 32);
    assert_eq!(drain(|| later.try_next()), [0_u64; 0]);
    append(&wal, 33);
    assert_eq!(drain(|| later.try_next()), [33]);
}

/// Three logs of three records each, and a fourth.
fn four_logs(options: Options) -> Wal {
    let wal = options.recover().unwrap().finish_without_replay().unwrap().0;
    for number in 1..=9 {
        append(&wal, number);
        if number % 3 == 0 {
            wal.rotate().unwrap();
        }
    }
    append(&wal, 10);
    append(&wal, 11);
    wal
}

/// Somebody follows from a record on that is not there yet, and the log that it would have been in is deleted and becomes another: it has not read
/// that to its end, and lacks nothing. Life 827 of the random ones.
#[test]
fn w4_r6_regression_a_follower_whose_log_became_another_before_its_record_came_is_told_of_no_gap() {
    let disk = SimStorage::new();
    let wal =
        options(&disk).way(Way::Filled).recycle(1).recover().unwrap().finish_without_replay().unwrap().0;
    append(&wal, 1);
    let wanted = FollowFrom::Index(Index::new(4));
    let (mut live, mut other) = (wal.follow(wanted).unwrap(), options(&disk).follow(wanted).unwrap());
    append(&wal, 2);
    // Longer than what followers find in memory.
    wal.append(record(&[3; 60_000])).unwrap();
    wal.rotate().unwrap();
    append(&wal, 4);
    flush_all(&wal);
    wal.housekeep().unwrap();
    assert!(disk.trace().iter().any(|line| line.starts_with("rename 000001.wal")), "{:?}", disk.trace());
    append(&wal, 5);
    assert_eq!(drain(|| live.try_next()), [4, 5]);
    // What nothing proves yet it does not see.
    assert_eq!(drain(|| other.try_next()), [4]);
}

/// Two logs behind the one that a follower has read to its end are deleted before it looks again: the first record that is left is the one that it
/// lacks, and so it lacks nothing. Life 13612 of the random ones. From outside nobody can tell, if the log was opened in between: a recovery may have
/// given records up that the follower was handed.
#[test]
fn w4_regression_a_follower_that_lacks_nothing_is_told_of_no_gap() {
    for lacks_one in [false, true] {
        let disk = SimStorage::new();
        let wal = open(&disk);
        append(&wal, 1);
        wal.rotate().unwrap();
        append(&wal, 2);
        wal.close().unwrap();
        let storage = FaultyStorage::new(disk.clone());
        let wal = open(&storage);
        let (mut live, mut other) = (from_oldest(&wal), outside(&disk));
        let mut held = from_oldest(&wal).hold("over its budget", 1);
        let mut unsure = outside(&disk);
        for seen in [live.try_next(), held.try_next(), other.try_next(), unsure.try_next()] {
            assert_eq!(seen.unwrap().unwrap().index.get(), 1);
        }
        assert_eq!(
            unsure.try_next().unwrap().unwrap().index.get(),
            2,
            "and it has not looked for the next log"
        );
        if !lacks_one {
            assert_eq!(drain(|| live.try_next()), [2]);
            assert_eq!(drain(|| held.try_next()), [2]);
            assert_eq!(drain(|| other.try_next()), [2]);
        }
        // What it waits for is not there yet, and nothing before that is of interest.
        let mut later = [
            wal.follow(FollowFrom::Index(Index::new(4))).unwrap(),
            wal.follow(FollowFrom::Seq(SeqNum::new(4))).unwrap(),
        ];
        let mut later_outside = options(&disk).follow(FollowFrom::Index(Index::new(4))).unwrap();
        // The third log has no record, and is given up.
        storage.fail(Which::On(Kind::SyncData, ".wal"), 1, EIO);
        assert!(wal.append(record(b"three")).is_err());
        wal.resume().unwrap();
        assert_eq!(append(&wal, 4), 4);
        wal.rotate().unwrap();
        wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(2)).unwrap();
        assert_eq!(wal.logs().first().map(|info| info.log.get()), Some(4), "the first three are gone");
        if lacks_one {
            for seen in [live.try_next(), held.try_next(), other.try_next()] {
                assert_eq!(gap(seen.expect_err("record 2 is gone")).1, 4);
            }
        } else {
            assert_eq!(drain(|| live.try_next()), [3, 4]);
            assert_eq!(drain(|| held.try_next()), [3, 4]);
            assert_eq!(drain(|| other.try_next()), [3, 4]);
        }
        for _ in 0..2 {
            assert_eq!(gap(unsure.try_next().expect_err("it cannot know")).1, 4);
        }
        for later in &mut later {
            assert_eq!(drain(|| later.try_next()), [4]);
        }
        assert_eq!(drain(|| later_outside.try_next()), [4]);
    }
}

fn gap(error: Error) -> (u64, u64) {
    match error {
        Error::Gap { wanted, oldest } => (wanted.get(), oldest.get()),
        other => panic!("no gap: {other}"),
    }
}

/// A slow reader: what is deleted before it comes there is a gap, and never jumped. What is open can be read to its end, unless its file has become
/// another log.
fn deletes_under_slow_readers(options: &dyn Fn() -> Options, recycle: bool) {
    let wal = four_logs(options().recycle(if recycle { 4 } else { 0 }));
    let outside = || options().follow(FollowFrom::Oldest).unwrap();
    let (mut live, mut other, mut begun) = (from_oldest(&wal), outside(), outside());
    for index in 1..=2 {
        assert_eq!(live.try_next().unwrap().unwrap().index.get(), index);
        assert_eq!(other.try_next().unwrap().unwrap().index.get(), index);
    }
    assert_eq!(begun.try_next().unwrap().unwrap().index.get(), 1);
    flush_all(&wal);
    if recycle {
        // Four logs wait to be used again; each of these takes one, and wipes it.
        for number in 12..20 {
            append(&wal, number);
            wal.rotate().unwrap();
        }
    }
    let oldest = wal.logs().first().unwrap().log.get();
    let told = |next: &mut dyn FnMut() -> wal_manager::Result<Option<RecoveredRecord>>, from: u64| {
        let mut expected = from;
        loop {
            match next() {
                Ok(Some(record)) => {
                    assert_eq!(record.index.get(), expected, "never a jump");
                    expected += 1;
                }
                Ok(None) => panic!("a gap is not the end"),
                Err(error) => break gap(error),
            }
        }
    };
    for from in [told(&mut || live.try_next(), 3), told(&mut || other.try_next(), 3)] {
        assert_eq!(from, (2, oldest), "the first log is in memory by then");
    }
    assert!(told(&mut || begun.try_next(), 2).1 == oldest);
    // And again: who is told of a gap stays told.
    assert_eq!(gap(live.try_next().unwrap_err()).1, oldest);
    assert_eq!(gap(other.try_next().unwrap_err()).1, oldest);
    // Whoever begins with what is gone is told at once.
    for from in [FollowFrom::Index(Index::new(5)), FollowFrom::Seq(SeqNum::new(5))] {
        assert_eq!(gap(wal.follow(from).unwrap_err()).1, oldest);
        assert_eq!(gap(options().follow(from).unwrap_err()).1, oldest);
    }
    // And whoever asks for what is left gets it.
    assert!(from_oldest(&wal).try_next().unwrap().is_some());
}

/// A log that became another before it was read to its end is the one that is missing, and not the one behind it.
fn names_the_log_that_was_being_read(options: &dyn Fn() -> Options) {
    let recovery = options().recycle(4).recover().unwrap();
    let wal = recovery.finish_without_replay().unwrap().0;
    for number in 1..=3 {
        wal.append(record(&payload(number, 3 << 20))).unwrap();
    }
    wal.rotate().unwrap();
    append(&wal, 4);
    let (mut live, mut other) = (from_oldest(&wal), options().follow(FollowFrom::Oldest).unwrap());
    assert_eq!(live.try_next().unwrap().unwrap().index.get(), 1);
    assert_eq!(other.try_next().unwrap().unwrap().index.get(), 1);
    wal.rotate().unwrap();
    append(&wal, 5);
    wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(3)).unwrap();
    for number in 6..10 {
        // Takes the file of the first log, and wipes it.
        append(&wal, number);
        wal.rotate().unwrap();
    }
    assert_eq!(gap(live.try_next().unwrap_err()), (1, 2));
    assert_eq!(gap(other.try_next().unwrap_err()), (1, 2));
}

#[test]
fn w4_r6_a_gap_names_the_log_that_was_being_read() {
    on_every_disk(names_the_log_that_was_being_read);
}

fn on_every_disk(test: impl Fn(&dyn Fn() -> Options)) {
    let disk = SimStorage::new();
    test(&|| options(&disk));
    let dir = tempfile::tempdir().unwrap();
    test(&|| Wal::options(dir.path()).way(Way::Append).idle_promise(None).background(false));
}

#[test]
fn w4_deletion_under_a_slow_follower_is_a_gap_and_never_a_jump() {
    on_every_disk(|options| deletes_under_slow_readers(options, false));
}

#[test]
fn w4_rd1_a_log_that_became_another_under_a_slow_follower_is_a_gap_and_no_damage() {
    on_every_disk(|options| deletes_under_slow_readers(options, true));
}

#[test]
fn w3_a_follower_that_holds_keeps_what_it_has_not_read() {
    let disk = SimStorage::new();
    let wal = four_logs(options(&disk));
    let mut follower = from_oldest(&wal).hold("replica", None);
    assert!(follower.is_held());
    flush_all(&wal);
    assert_eq!(wal.logs().len(), 4, "nobody needs them but the follower");
    assert_eq!(drain(|| follower.try_next()), (1..=11).collect::<Vec<_>>());
    assert!(follower.is_held());
    wal.housekeep().unwrap();
    assert_eq!(wal.logs().len(), 1, "and when it has read them they go");
    drop(follower);
    let slow = from_oldest(&wal).hold("slow", None);
    append(&wal, 12);
    wal.rotate().unwrap();
    append(&wal, 13);
    flush_all(&wal);
    assert_eq!(wal.logs().len(), 2);
    drop(slow);
    wal.housekeep().unwrap();
    assert_eq!(wal.logs().len(), 1, "a follower that is gone keeps nothing");
}

#[test]
fn w3_w4_over_its_budget_a_follower_holds_nothing_and_is_told_of_the_gap() {
    let disk = SimStorage::new();
    let wal = four_logs(options(&disk));
    let bytes = wal.logs().first().unwrap().bytes;
    let mut within = wal.follow(FollowFrom::Index(Index::new(4))).unwrap().hold("within", 2 * bytes);
    let mut over = from_oldest(&wal).hold("over", 2 * bytes);
    assert_eq!(over.try_next().unwrap().unwrap().index.get(), 1);
    flush_all(&wal);
    assert!(within.is_held() && !over.is_held());
    // The log that it has open is deleted, and still there for it.
    assert_eq!(over.by_ref().take(2).map(|record| record.unwrap().index.get()).collect::<Vec<_>>(), [2, 3]);
    drop(disk);
    // Its next one is there only because somebody else holds it.
    assert_eq!(drain(|| within.try_next()), (4..=11).collect::<Vec<_>>());
    wal.housekeep().unwrap();
    assert_eq!(gap(over.try_next().unwrap_err()), (2, 4));
    assert!(within.is_held());
}

/// A life with everything in it, and two followers that look after each step.
struct Life {
    rng: Rng,
    number: u64,
}

/// What the followers were handed, and the writer's acknowledgements.
#[derive(Default)]
struct Handed {
    live: Vec<RecoveredRecord>,
    outside: Vec<RecoveredRecord>,
}

impl Handed {
    fn look(&mut self, live: &mut Follower, outside: &mut DirectoryFollower) -> Result<(), Error> {
        while let Some(record) = live.try_next()? {
            self.live.push(record);
        }
        while let Some(record) = outside.try_next()? {
            self.outside.push(record);
        }
        Ok(())
    }
}

impl Life {
    /// Lives until something fails. Returns whether it came to its end.
    fn run(&mut self, storage: &SimStorage, steps: usize, handed: &mut Handed) -> Result<(), Error> {
        let options = options(storage).log_bytes(SMALL);
        let wal = options.recover()?.finish_without_replay()?.0;
        let next = |records: &[RecoveredRecord]| {
            records.last().map_or(FollowFrom::Oldest, |last| FollowFrom::Index(last.index.next().unwrap()))
        };
        let mut live = wal.follow(next(&handed.live))?;
        let mut outside = self::options(storage).follow(next(&handed.outside))?;
        for _ in 0..steps {
            let done = self.step(&wal, storage);
            handed.look(&mut live, &mut outside)?;
            done?;
        }
        wal.close()?;
        handed.look(&mut live, &mut outside)
    }

    fn step(&mut self, wal: &Wal, storage: &SimStorage) -> Result<(), Error> {
        self.number += 1;
        let length = [10, 100, 5_000, 40_000][self.rng.below(4) as usize];
        let bytes = payload(self.number, length);
        match self.rng.below(10) {
            0..=2 => drop(wal.append(record(&bytes))?),
            3..=4 => drop(wal.append_with(record(&bytes), Durability::Written)?),
            5 => drop(wal.submit(record(&bytes))?),
            6 => drop(wal.sync()?),
            7 => drop(wal.rotate()?),
            8 => wal.housekeep()?,
            _ => {
                storage.fail(wal_io::sim::Fault::parse("fail syncdata #1 of *.wal with EIO").unwrap());
                let _ = wal.append(record(&bytes));
                storage.clear_faults();
                wal.resume()?;
            }
        }
        Ok(())
    }
}

/// Each index once, in order, and as the log has it.
fn assert_follows(handed: &[RecoveredRecord], recovered: &[RecoveredRecord], what: &str) {
    for (place, record) in handed.iter().enumerate() {
        assert_eq!(record.index.get(), place as u64 + 1, "{what}: each once and in order");
        let durable = recovered.get(place).unwrap_or_else(|| panic!("{what}: {place} was seen and is lost"));
        assert_eq!((record.seqs, &record.payload), (durable.seqs, &durable.payload), "{what}: {place}");
    }
}

/// X: what a follower has seen survives the power cut, at whatever step that comes; and behind it the followers go on, without a hole and without
/// seeing anything twice.
#[test]
fn w1_rd2_what_followers_have_seen_survives_a_power_cut_at_every_step() {
    for seed in 0..6 {
        let whole = SimStorage::new();
        Life { rng: Rng::new(seed), number: 0 }.run(&whole, 40, &mut Handed::default()).unwrap();
        for step in 0..=whole.mutations() {
            let disk = SimStorage::new();
            disk.crash_after(step);
            let mut handed = Handed::default();
            let mut life = Life { rng: Rng::new(seed), number: 0 };
            let _ = life.run(&disk, 40, &mut handed);
            let after = match (seed + step) % 3 {
                0 => disk.crash_all_lost(),
                1 => disk.crash(seed * 1_000 + step),
                _ => disk.process_crash(),
            };
            let what = format!("seed {seed}, step {step}");
            let records = |disk: &SimStorage| {
                let recovery = options(disk).recover().unwrap_or_else(|error| panic!("{what}: {error}"));
                recovery.records().collect::<Result<Vec<_>, _>>().unwrap()
            };
            let recovered = records(&after.fork());
            assert_follows(&handed.live, &recovered, &what);
            assert_follows(&handed.outside, &recovered, &what);
            life.run(&after, 12, &mut handed).unwrap_or_else(|error| panic!("{what}: {error}"));
            let recovered = records(&after);
            assert_follows(&handed.live, &recovered, &what);
            assert_follows(&handed.outside, &recovered, &what);
            let seen = (handed.live.len(), handed.outside.len());
            assert_eq!(seen, (recovered.len(), recovered.len()), "{what}: and they saw everything");
        }
    }
}

/// Damage is told, not waited for, and not called a gap.
#[test]
fn w1_damage_ahead_of_a_follower_of_a_directory_is_told() {
    let disk = SimStorage::new();
    let wal = four_logs(options(&disk));
    for at in [5, 11] {
        let disk = disk.fork();
        let mut follower = outside(&disk);
        let name = if at == 5 { "000002.wal" } else { "000004.wal" };
        let mut bytes = disk.read_file(name).unwrap();
        // The second record of its log; in the newest one a promise speaks of it.
        let place = bytes.len() / 2 - 30;
        bytes[place] ^= 1;
        disk.write_file(name, bytes);
        let mut seen = 0;
        let error = (0..100).find_map(|_| match follower.try_next() {
            Ok(Some(record)) => {
                seen += 1;
                assert_eq!(record.index.get(), seen);
                None
            }
            Ok(None) => None,
            Err(error) => Some(error),
        });
        let error = error.unwrap_or_else(|| panic!("after {seen} records it waits for ever"));
        assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
        assert!(seen < at);
    }
    wal.close().unwrap();
}

/// The oldest log lost its header: it is not passed over, and not called deleted.
#[test]
fn w4_a_log_without_a_header_is_not_passed_over() {
    let disk = SimStorage::new();
    let wal = four_logs(options(&disk));
    disk.corrupt("000001.wal", |bytes| bytes[12] ^= 1);
    for from in [FollowFrom::Oldest, FollowFrom::Index(Index::FIRST)] {
        let first = options(&disk).follow(from).and_then(|mut outside| outside.try_next());
        let error = first.expect_err("records are missing");
        assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
        let first = wal.follow(from).and_then(|mut live| live.try_next());
        assert_eq!(first.expect_err("records are missing").kind(), ErrorKind::Damage);
    }
}

/// A recovery to a point in time gives up records that a follower was handed, while that stands at the start of a later log, from which it was handed
/// nothing yet. Whatever comes after it, the follower gets none of the records that have the next indices now.
#[test]
fn w4_rd2_a_follower_in_a_log_that_was_given_up_is_not_led_into_another_history() {
    for (damaged, rotations, deleted) in
        [(None, 1, false), (Some(1), 0, false), (Some(2), 0, false), (Some(2), 3, false), (Some(2), 3, true)]
    {
        let what = format!("damage in {damaged:?}, {rotations} rotations after it, deleted: {deleted}");
        let disk = SimStorage::new();
        let wal = open(&disk);
        for number in 1..=6 {
            append(&wal, number);
            if number % 3 == 0 {
                wal.rotate().unwrap();
            }
        }
        // It is the last of its group, so that nothing proves it; but it brings the header of the third log.
        append(&wal, 7);
        let mut follower = outside(&disk);
        assert_eq!(drain(|| follower.try_next()), [1, 2, 3, 4, 5, 6]);
        assert!(follower.try_next().unwrap().is_none(), "it waits in the third log");
        drop(wal);
        if let Some(log) = damaged {
            // In its second record.
            disk.corrupt(&format!("00000{log}.wal"), |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            });
        }
        let recovery = options(&disk).mode(RecoveryMode::PointInTime).recover().unwrap();
        let (wal, report) = recovery.finish_without_replay().unwrap();
        assert_eq!(report.next_index.get() < 7, damaged.is_some(), "{what}");
        for rotation in 0..=rotations {
            for number in 0..3 {
                append(&wal, 100 + 10 * rotation + number);
            }
            if rotation < rotations {
                wal.rotate().unwrap();
            }
        }
        if deleted {
            flush_all(&wal);
        }
        wal.close().unwrap();
        if damaged.is_none() {
            assert_eq!(drain(|| follower.try_next()), (7..=13).collect::<Vec<_>>(), "{what}");
            continue;
        }
        for _ in 0..3 {
            let error = follower.try_next().expect_err(&what);
            assert!(
                matches!(error, Error::ChangedWhileReading { .. } | Error::Gap { .. }),
                "{what}: {error}"
            );
            assert!(deleted || error.kind() == ErrorKind::Damage, "{what}: {error}");
        }
    }
}
