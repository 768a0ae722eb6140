//! The commit path: from an append to durable bytes.
//!
//! Appends are encoded, checksummed and ordered under one mutex, into the buffer of the group that is forming. Whoever waits and
//! finds nobody at the disk becomes the *leader*: it takes the buffer, writes it in one call, syncs if anybody waits for that, and wakes
//! the others. What arrives meanwhile forms the next group. A lone writer is its own leader: one write and one sync, in its own thread,
//! no delay.
//!
//! Each time that somebody leads is a *round*. Who waits sleeps on the word of the round that will do it: there are two, which rounds use
//! in turn. A leader that comes back wakes all of its own round with one call, and they go without the mutex, since what is reached
//! stands in two atomics; and it wakes one of the next round, who leads. A leader that meets several writers again and again waits a little
//! for those that are just returning ([`crate::gather`]).

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::{error, trace};
use wal_format::encode::LogEncoder;
use wal_format::record::Head;
use wal_format::{FamilyId, Index, LogNumber, PAYLOAD_BYTES_MAX, RECORD_FAMILIES_MAX, SeqNum, SeqRange};
use wal_io::{IoError, Sink};

use crate::background::{Background, Policies};
use crate::caps::{Limits, Place as Room};
use crate::clock::{Clock, micros};
use crate::duplicates::{Key, Window};
use crate::error::{Error, Result};
use crate::follow::Recent;
use crate::gather;
use crate::housekeeping::PREPARE_PART;
use crate::metrics::Metrics;
use crate::record::{Appended, Durability, Position, Record};
use crate::state::{Group, InFlight, State, Undurable};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Condvar, Mutex, MutexGuard, Word, yield_now};
use crate::watch::Place;
use crate::watchdog::{AtDisk, DiskWork, OnStall, Watchdog};

/// Size of the forming group, in bytes, at which appends wait for the disk: 4 MiB, so that memory stays bounded and a write stays
/// large. A single record may be longer.
pub const GROUP_BYTES_MAX: usize = 4 << 20;

/// Size of the forming group, in bytes, from which on the next append writes it if nobody is at the disk, whether or not anybody waits for
/// it: 256 KiB. Larger writes are not faster, and what is written sooner is still in the processor's cache (decision 0025).
pub const GROUP_BYTES: usize = 256 << 10;

/// The same where writes go past the page cache: 2 MiB. Such a write takes as long as the device does, so a few large ones are faster, and there is
/// no cache to be filled early.
pub(crate) const DIRECT_GROUP_BYTES: usize = GROUP_BYTES_MAX / 2;

/// So many times [`Options::sync_bytes`](crate::Options::sync_bytes) may be written and not durable; then appends wait for the sync. Four: a part is at
/// the disk while others are filled, and a sync that is slow for once stops nobody.
const UNSYNCED_PARTS_MAX: u64 = 4;

/// The commit path of one open log.
#[derive(Debug)]
pub(crate) struct Commit {
    state: Mutex<State>,
    /// For what happens seldom: a full group, a rotation, a close.
    changed: Condvar,
    /// Index of the last record of [`State::durable`], for those who wait.
    durable: AtomicU64,
    /// Index of the last record of [`State::written`].
    written: AtomicU64,
    rounds: [Round; 2],
    log_bytes: u64,
    /// In which repeated appends are recognised.
    window: Option<Window>,
    /// The active log is far enough for the next one to be made.
    next_wanted: AtomicBool,
    policies: Policies,
    background: Background,
    /// For the thread, which has it too.
    me: Weak<Self>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// [`State::looks`] of the last look that the gauges were set from.
    gauges: AtomicU64,
    watchdog: Arc<Watchdog>,
    /// What followers read most.
    recent: Arc<Recent>,
}

/// Those who wait for a round.
#[derive(Debug, Default)]
struct Round {
    /// Changes when the round has ended, or when one of them is to lead.
    word: Word,
    /// How many have come to sleep on it. Changed under the mutex; a leader that gathers looks at it without.
    waiting: AtomicU32,
}

/// The mutex, held.
pub(crate) type Guard<'a> = MutexGuard<'a, State>;

/// What [`Commit::accept`] did with a record.
pub(crate) enum Accepted {
    /// It is ordered and encoded.
    Record(Appended),
    /// The active log has no room for it: rotate, then try again.
    LogFull(LogNumber),
    /// The file of the active log needs space up to there: reserve it, then try again.
    SpaceWanted(LogNumber, u64),
}

/// Why somebody leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody waits for the group, or it is large.
    Asked,
    /// A rotation or a close wants everything durable, or too much is not.
    Drain,
    /// The log is idle, and the last group is not proven yet.
    Promise,
}

impl Commit {
    /// Starts the thread of its own if the policies need one from the beginning.
    ///
    /// # Errors
    /// There is none; or there is none for the watchdog.
    pub(crate) fn new(
        state: State,
        limits: Limits,
        window: Option<Window>,
        policies: Policies,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        on_stall: Option<OnStall>,
    ) -> Result<Arc<Self>> {
        let (durable, written) = (state.durable.index.get(), state.written.index.get());
        let log_bytes = limits.log_bytes;
        let watchdog = Watchdog::new(on_stall, Arc::clone(&clock), metrics.clone());
        let commit = Arc::new_cyclic(|me| Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            durable: AtomicU64::new(durable),
            written: AtomicU64::new(written),
            rounds: Default::default(),
            log_bytes,
            window,
            next_wanted: AtomicBool::new(false),
            policies,
            background: Background::default(),
            me: Weak::clone(me),
            clock,
            metrics,
            gauges: AtomicU64::new(0),
            watchdog,
            recent: Arc::default(),
        });
        commit.watchdog.start()?;
        if policies.interval.is_some() {
            // Nobody is left behind.
            commit.background.start(&commit).inspect_err(|_| commit.watchdog.stop())?;
        }
        Ok(commit)
    }

    pub(crate) fn policies(&self) -> Policies {
        self.policies
    }

    pub(crate) fn window(&self) -> Option<Window> {
        self.window
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn background(&self) -> &Background {
        &self.background
    }

    pub(crate) fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    pub(crate) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// Work goes to the disk; the mutex is not held.
    pub(crate) fn at_disk(&self, work: DiskWork) -> AtDisk<'_> {
        let log = self.lock().active.log;
        self.watchdog.begin(work, log)
    }

    pub(crate) fn me(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Locks the state. A thread that panicked inside has left it in doubt: that is a failure like a failed write.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(|poisoned| self.broken(poisoned.into_inner()))
    }

    #[cold]
    fn broken<'a>(&self, mut state: Guard<'a>) -> Guard<'a> {
        if !state.broken {
            state.broken = true;
            state.failed.get_or_insert(Error::Panicked);
            self.wake_everybody();
        }
        state
    }

    pub(crate) fn wait<'a>(&self, mut state: Guard<'a>) -> Guard<'a> {
        state.blocked += 1;
        let woken = self.changed.wait(state);
        // INVARIANT: S8. Whoever sees it first tells all others, those too who sleep on a word and not here.
        let mut state = woken.unwrap_or_else(|poisoned| self.broken(poisoned.into_inner()));
        state.blocked = state.blocked.saturating_sub(1);
        state
    }

    /// Wakes who waits for something that happens seldom.
    pub(crate) fn tell_blocked(&self, state: &State) {
        if state.blocked > 0 {
            self.changed.notify_all();
        }
    }

    pub(crate) fn wake_everybody(&self) {
        self.changed.notify_all();
        for round in &self.rounds {
            round.word.wake_all();
        }
        // It wakes those who await.
        self.background.bell.ring();
    }

    /// Wakes all who await, to look for themselves; the mutex is not held.
    pub(crate) fn wake_awaiting(&self) {
        let all = self.lock().awaiting.all();
        for (_, waker) in all {
            waker.wake();
        }
    }

    /// Tells those without the mutex how far everything is.
    pub(crate) fn publish(&self, state: &State) {
        self.written.store(state.written.index.get(), Ordering::Release);
        self.durable.store(state.durable.index.get(), Ordering::Release);
    }

    /// Whether a record has got as far as `level` says, as far as is known without the mutex.
    pub(crate) fn has_reached(&self, index: Index, level: Durability) -> bool {
        let reached = if level == Durability::Synced { &self.durable } else { &self.written };
        reached.load(Ordering::Acquire) >= index.get()
    }

    /// Whether it is time to make the next log; says so once for each log.
    pub(crate) fn next_is_wanted(&self) -> bool {
        self.next_wanted.load(Ordering::Relaxed) && self.next_wanted.swap(false, Ordering::Relaxed)
    }

    fn round(&self, number: u64) -> &Round {
        let [even, odd] = &self.rounds;
        if number.is_multiple_of(2) { even } else { odd }
    }

    /// Orders and encodes a record. Waits only while the group is full or a rotation switches logs; since when is noted in `stalled`, if it is not yet.
    pub(crate) fn accept(&self, record: &Record<'_>, stalled: &mut Option<Duration>) -> Result<Accepted> {
        check_record(record)?;
        let key = Key::of(record, self.window, &*self.clock);
        let mut state = self.lock();
        loop {
            state.check()?;
            let full = state.forming.len() >= state.group_bytes() && state.in_flight.is_none();
            let too_much = state.unsynced_bytes >= self.policies.bytes.saturating_mul(UNSYNCED_PARTS_MAX);
            if !(state.exclusive || full || too_much || state.forming.len() >= GROUP_BYTES_MAX) {
                break;
            }
            stalled.get_or_insert_with(|| self.clock.monotonic());
            if state.exclusive {
                state = self.wait(state);
            } else if full {
                // INVARIANT: memory is bounded by two groups. The one who comes to a full one writes it, or waits for who does.
                self.lead(state, Why::Asked);
                state = self.lock();
            } else if state.forming.len() >= GROUP_BYTES_MAX {
                state = self.wait(state);
            } else {
                // INVARIANT: RS1. What a resume has to keep is bounded.
                state = self.wait_for_room(state);
            }
        }
        if let (Some(duplicates), Some(key)) = (&state.duplicates, key)
            && let Some(original) = duplicates.find(key, state.next_index)
        {
            drop(state);
            self.metrics.duplicates.increment(1);
            return Ok(Accepted::Record(original));
        }
        let first = record.first.unwrap_or(state.seq_floor.max(SeqNum::new(1)));
        if first < state.seq_floor && !seeded_bug!(SequenceNotChecked) {
            return Err(Error::SequenceRegression { given: first, floor: state.seq_floor });
        }
        let seqs = SeqRange::new(first, record.count).ok_or(Error::Exhausted("sequence"))?;
        let next_floor = seqs.last().next().ok_or(Error::Exhausted("sequence"))?;
        let next_index = state.next_index.next().ok_or(Error::Exhausted("index"))?;
        let mut head = Head::new(record.kind, state.next_index, seqs);
        head.time_micros = self.policies.times.then(|| micros(self.clock.wall()));
        if let Some(key) = key {
            head.duplicate_key = Some(key.key.to_le_bytes());
            head.time_micros = key.time_micros.or(head.time_micros);
        }
        let longest = LogEncoder::record_length_max(record.payload.len());
        if state.active.encoder.offset().saturating_add(longest) > state.room.end {
            // Near some end, of the log or of the room that there is. To know it exactly costs an envelope, so only here.
            let length = state.active.encoder.record_length(&head, record.families, record.payload.len());
            if seeded_bug!(RefusedUsesNumbers) && state.place(length).is_err() {
                (state.next_index, state.seq_floor) = (next_index, next_floor);
            }
            match state.place(length)? {
                Room::Space(_) if seeded_bug!(SpaceNotCounted) => {}
                Room::Here => {}
                Room::Next => return Ok(Accepted::LogFull(state.active.log)),
                Room::Space(end) => return Ok(Accepted::SpaceWanted(state.active.log, end)),
            }
        }
        let appended = state.encode(&head, record.families, record.payload);
        if let (Some(duplicates), Some(key)) = (&mut state.duplicates, key) {
            duplicates.insert(key, appended);
        }
        state.next_index = next_index;
        state.seq_floor = next_floor;
        let ring = mem::take(&mut state.parked);
        drop(state);
        if ring {
            self.background.bell.ring();
        }
        self.metrics.appends.increment(1);
        self.metrics.append_bytes.increment(record.payload.len() as u64);
        self.metrics.last_seq.set(seqs.last().get() as f64);
        trace!(index = appended.index.get(), bytes = record.payload.len(), "wal.appended");
        Ok(Accepted::Record(appended))
    }

    /// Waits until some of what is written has become durable; makes it so if there is no thread that does.
    fn wait_for_room<'a>(&'a self, state: Guard<'a>) -> Guard<'a> {
        if state.threadless && state.in_flight.is_none() && !state.syncing {
            self.lead(state, Why::Drain);
            return self.lock();
        }
        self.background.bell.ring();
        self.wait(state)
    }

    /// Waits until the frontier is behind the record, whoever makes it so.
    pub(crate) fn wait_durable(&self, index: Index) -> Result<Position> {
        let mut state = self.lock();
        loop {
            if state.durable.index >= index {
                return Ok(state.durable);
            }
            state.check()?;
            if state.dropped {
                return Err(Error::Closed);
            }
            state = self.wait(state);
        }
    }

    /// The same for who may not block. With `demand`, it is made so: by the log's own thread, if nobody else is on the way.
    pub(crate) fn poll_durable(
        &self,
        index: Index,
        demand: bool,
        place: &mut Option<Place>,
        context: &Context<'_>,
    ) -> Poll<Result<Position>> {
        if !self.has_reached(index, Durability::Synced)
            && let Some(me) = self.me()
        {
            // It leads for those who may not block, and wakes them after a failure.
            self.background.start(&me)?;
        }
        let mut state = self.lock();
        if let Some(place) = place.take_if(|place| !place.is_of(index)) {
            state.awaiting.leave(place);
        }
        let done = if state.durable.index >= index {
            Some(Ok(state.durable))
        } else if let Err(error) = state.check() {
            Some(Err(error))
        } else if state.dropped && !demand {
            Some(Err(Error::Closed))
        } else {
            None
        };
        if let Some(done) = done {
            if let Some(place) = place.take() {
                state.awaiting.leave(place);
            }
            return Poll::Ready(done);
        }
        // INVARIANT: S8. Entered under the mutex: whoever moves the frontier, or fails, finds it afterwards.
        *place = Some(state.awaiting.enter(index, *place, context.waker()));
        if demand {
            state.sync_wanted = state.sync_wanted.max(index);
            state.demanded = state.demanded.max(index);
            // Whoever is at the disk rings when it comes back.
            let ring = state.in_flight.is_none() && !state.exclusive;
            drop(state);
            if ring {
                self.background.bell.ring();
            }
        }
        Poll::Pending
    }

    /// Waits until the record is as durable as `level` says.
    pub(crate) fn wait_for(&self, index: Index, level: Durability) -> Result<()> {
        if level == Durability::Buffered || self.has_reached(index, level) {
            return Ok(());
        }
        let mut begin = None;
        loop {
            let mut state = self.lock();
            let reached = if level == Durability::Synced { state.durable } else { state.written };
            let mut led = None;
            if reached.index < index {
                // A record that did not get there will not any more.
                state.check()?;
                if level == Durability::Synced {
                    state.sync_wanted = state.sync_wanted.max(index);
                }
                if state.exclusive || state.in_flight.is_some() {
                    // INVARIANT: S8. Enrolled under the mutex: whoever ends that round, or fails, changes the word afterwards.
                    let round = self.round(state.round_for(index, level));
                    round.waiting.fetch_add(1, Ordering::Relaxed);
                    let value = round.word.value();
                    drop(state);
                    if level == Durability::Synced {
                        begin.get_or_insert_with(|| self.clock.monotonic());
                    }
                    round.word.wait(value);
                } else {
                    led = Some(self.lead(state, Why::Asked));
                }
                if !self.has_reached(index, level) {
                    continue;
                }
            }
            // Who leads at once has waited for his group, and that is measured already. A look at the clock is nothing against a sleep.
            let waited = begin.map(|begin| self.clock.monotonic().saturating_sub(begin)).or(led);
            if let Some(waited) = waited.filter(|_| level == Durability::Synced) {
                self.metrics.commit_wait_seconds.record(waited.as_secs_f64());
            }
            return Ok(());
        }
    }

    /// Makes everything accepted so far durable.
    pub(crate) fn sync(&self) -> Result<Position> {
        let state = self.lock();
        state.check()?;
        let index = state.accepted.index;
        drop(state);
        self.wait_for(index, Durability::Synced)?;
        Ok(self.lock().durable)
    }

    /// Takes the forming group to the disk, and syncs if somebody waits for that. The caller has seen that nobody else is there. Returns how long a
    /// sync took, and the wait for others before it.
    pub(crate) fn lead<'a>(&'a self, state: Guard<'a>, why: Why) -> Duration {
        // Whatever panics from here on, dropping this tells the others. It takes the mutex, so the guard below goes first.
        let mut leader = Leader { commit: self, done: false, leads: true, group: None };
        let mut state = state;
        state.round = state.round.wrapping_add(1);
        state.in_flight = Some(InFlight::GATHERING);
        let round = self.round(state.round);
        let mut gathered = None;
        let wants_sync = |state: &State| why != Why::Asked || state.sync_wanted > state.durable.index;
        if why == Why::Asked && wants_sync(&state) {
            let arrived = 1 + round.waiting.load(Ordering::Relaxed);
            if let Some((writers, longest)) = state.gather.begin(arrived) {
                drop(state);
                gathered = Some(self.gather(round, writers, longest));
                state = self.lock();
                state.gather.ended(arrived, 1 + round.waiting.load(Ordering::Relaxed));
            }
        }
        let sync = wants_sync(&state) && !seeded_bug!(AckWithoutSync);
        while sync && state.syncing {
            // INVARIANT: row 46. One sync at a time: of two that overlap, only one is told of a failure.
            state = self.wait(state);
        }
        if state.failed.is_some() {
            // Everybody was told while this one waited: nothing is written behind bytes of which nothing is known (row 54).
            leader.done = true;
            state.in_flight = None;
            self.tell_blocked(&state);
            return Duration::ZERO;
        }
        let (target, digest) = (state.accepted, state.active.encoder.digest());
        let records = state.forming_records;
        state.fill_promise();
        let group = leader.group.insert(state.take_forming());
        let will_be_due = sync && target.index > state.promised;
        state.in_flight = Some(InFlight { gathering: false, will_be_due, through: target.index, sync });
        let (log, sink) = (state.active.log, Arc::clone(&state.active.sink));
        if seeded_bug!(AckBeforeSync) && sync {
            state.durable = target;
            self.durable.store(target.index.get(), Ordering::Release);
        }
        drop(state);

        let at_disk = self.watchdog.begin(DiskWork::Commit, log);
        let mut result = self.write(&*sink, group, records, sync);
        drop(at_disk);
        if result.is_ok() {
            // Before the frontier moves: who follows finds it here, and does not read from a disk that is being synced.
            self.recent.wrote(log, group.start, group.bytes.get());
        }
        if sync && result.is_ok() {
            // Before the mutex: a recorder that panics under it would leave the others waiting (S8).
            self.metrics.durable_index.set(target.index.get() as f64);
            if why == Why::Promise {
                self.metrics.idle_promises.increment(1);
            }
            trace!(log = log.get(), index = target.index.get(), records, "wal.synced");
        }
        let mut state = self.lock();
        leader.done = true;
        let group = leader.group.take();
        state.in_flight = None;
        let target = if seeded_bug!(AckOfNextGroup) { state.accepted } else { target };
        if seeded_bug!(FailureIgnored) {
            result = Ok(Duration::ZERO);
        }
        if let Some(group) = group {
            if sync && result.is_ok() && state.failed.is_none() {
                state.give_back(group.bytes);
            } else {
                state.keep(group);
            }
        }
        let mut took = Duration::ZERO;
        match result {
            // Others were told of a failure meanwhile: nothing moves any more.
            Ok(_) if state.failed.is_some() => {}
            Ok(time) => {
                took = time;
                (state.written, state.written_digest) = (target, digest);
                if sync || seeded_bug!(AckWithoutSync) {
                    state.advance(target, digest);
                    if !state.next_wanted && (state.rotated || target.offset >= self.log_bytes / PREPARE_PART)
                    {
                        state.next_wanted = true;
                        self.next_wanted.store(true, Ordering::Relaxed);
                    }
                }
                self.publish(&state);
            }
            Err(cause) => self.fail(&mut state, cause),
        }
        self.tell_blocked(&state);
        let woken = round.waiting.swap(0, Ordering::Relaxed);
        let next = self.round(state.round.wrapping_add(1));
        let waiting = next.waiting.load(Ordering::Relaxed);
        if sync {
            state.gather.synced(woken.saturating_add(1), waiting, took);
        }
        let hand_over = waiting > 0 && !state.exclusive && !seeded_bug!(LeadershipLost);
        let reached = state.reached();
        let ring = self.has_work(&state, waiting, sync);
        let begin_thread = ring && !state.threadless;
        let undurable = state.undurable();
        drop(state);
        // INVARIANT: S8. Whoever waits for the next round is waiting for a leader: one of them becomes it, unless somebody is faster.
        if hand_over {
            next.word.wake_one();
        }
        if seeded_bug!(WakesOne) {
            round.word.wake_one();
            return took;
        }
        if woken > 0 {
            round.word.wake_all();
        }
        for (_, waker) in reached {
            waker.wake();
        }
        if begin_thread && self.start_background() {
            self.background.bell.ring();
        }
        // Last, as above.
        self.show(undurable);
        gathered.map_or(took, |begin| self.clock.monotonic().saturating_sub(begin))
    }

    /// Sets the gauges of what is not durable, as it is now.
    pub(crate) fn show_undurable(&self) {
        let undurable = self.lock().undurable();
        self.show(undurable);
    }

    /// The same as it was at a look, unless a later look has set them.
    fn show(&self, undurable: Undurable) {
        if self.gauges.load(Ordering::Relaxed) < undurable.look {
            self.gauges.store(undurable.look, Ordering::Relaxed);
            self.metrics.undurable_records.set(undurable.records as f64);
            self.metrics.undurable_bytes.set(undurable.bytes as f64);
        }
    }

    /// Whether a leader that comes back leaves something to the log's own thread.
    fn has_work(&self, state: &State, waiting: u32, sync: bool) -> bool {
        let demanded = state.demanded > state.durable.index && waiting == 0;
        let bytes = state.unsynced_bytes >= self.policies.bytes;
        // The first group whose proof it will have to write starts it; from then on it has a deadline, or is rung by the next append.
        let idle = sync && self.policies.idle.is_some() && !state.watched;
        (demanded || bytes || idle) && state.check().is_ok()
    }

    /// Syncs what is written, beside the groups that go on being written. The caller has seen that no other sync is under way.
    pub(crate) fn sync_written<'a>(&'a self, state: Guard<'a>) {
        let mut leader = Leader { commit: self, done: false, leads: false, group: None };
        let mut state = state;
        state.syncing = true;
        let (target, digest) = (state.written, state.written_digest);
        let (log, sink) = (state.active.log, Arc::clone(&state.active.sink));
        drop(state);
        let at_disk = self.watchdog.begin(DiskWork::Sync, log);
        let result = self.sync_sink(&*sink);
        drop(at_disk);
        let mut state = self.lock();
        leader.done = true;
        state.syncing = false;
        match result {
            Ok(_) if state.failed.is_some() => {}
            Ok(_) => {
                state.advance(target, digest);
                self.publish(&state);
            }
            Err(cause) => self.fail(&mut state, cause),
        }
        self.tell_blocked(&state);
        let reached = state.reached();
        let index = state.durable.index;
        let undurable = state.undurable();
        drop(state);
        for round in &self.rounds {
            if round.waiting.load(Ordering::Relaxed) > 0 {
                round.word.wake_all();
            }
        }
        self.metrics.durable_index.set(index.get() as f64);
        trace!(log = log.get(), index = index.get(), "wal.synced");
        for (_, waker) in reached {
            waker.wake();
        }
        self.show(undurable);
    }

    /// Waits for writers that are just returning; ends at once when they are there. Returns when it began.
    fn gather(&self, round: &Round, writers: u32, longest: Duration) -> Duration {
        let begin = self.clock.monotonic();
        for _ in 0..gather::LOOKS_MAX {
            let all = 1 + round.waiting.load(Ordering::Relaxed) >= writers;
            let late = || self.clock.monotonic().saturating_sub(begin) >= longest;
            if (all || late()) && !seeded_bug!(AdaptiveWaitsForever) {
                return begin;
            }
            yield_now();
        }
        while seeded_bug!(AdaptiveWaitsForever) && 1 + round.waiting.load(Ordering::Relaxed) < writers {
            yield_now();
        }
        begin
    }

    /// Writes a group, and syncs it with everything before it if `sync`. Returns what a sync took.
    fn write(&self, sink: &dyn Sink, group: &Group, records: u64, sync: bool) -> Result<Duration> {
        if group.bytes.is_empty() {
            return if sync { self.sync_sink(sink) } else { Ok(Duration::ZERO) };
        }
        let took = if sync {
            // ORDER: S5. Synced before the frontier moves and anybody is told.
            self.timed(|| {
                let synced = sink.write_synced_at(group.start, group.bytes.get());
                if seeded_bug!(SyncRetried) { synced.or_else(|_| sink.sync_data()) } else { synced }
            })?
        } else {
            sink.write_at(group.start, group.bytes.get())?;
            Duration::ZERO
        };
        self.metrics.written_bytes.increment(group.bytes.len() as u64);
        self.metrics.groups.increment(1);
        self.metrics.group_records.record(records as f64);
        Ok(took)
    }

    fn sync_sink(&self, sink: &dyn Sink) -> Result<Duration> {
        // ORDER: S5. As above.
        self.timed(|| {
            let synced = sink.sync_data();
            if seeded_bug!(SyncRetried) { synced.or_else(|_| sink.sync_data()) } else { synced }
        })
    }

    /// Measures a sync.
    fn timed(&self, sync: impl FnOnce() -> Result<(), IoError>) -> Result<Duration> {
        let begin = self.clock.monotonic();
        sync()?;
        let took = self.clock.monotonic().saturating_sub(begin);
        self.metrics.synced(took);
        Ok(took)
    }

    /// Nothing is acknowledged any more: after a failed write or sync nothing is known about the file (A5, A6).
    pub(crate) fn fail(&self, state: &mut State, cause: Error) {
        if !seeded_bug!(FailureNotSticky) {
            state.failed.get_or_insert_with(|| cause.clone());
        }
        if seeded_bug!(FailureFreesKeys)
            && let Some(duplicates) = &mut state.duplicates
        {
            duplicates.clear();
        }
        let no_space = cause.no_space();
        if let Some(cause) = no_space {
            state.room.no_space(cause, None);
        }
        self.wake_everybody();
        // Last: a recorder or a subscriber that panics must not keep it from the others (S8).
        error!(error = %cause, "wal.poisoned");
        self.metrics.poisoned.set(1.0);
        self.metrics.failed(&cause);
        if no_space.is_some() {
            self.metrics.disk_full.set(1.0);
        }
    }

    /// Gets the log to itself: no leader, no appends, everything accepted durable. [`Exclusive`] gives it back when dropped.
    pub(crate) fn exclusive(&self) -> Result<Exclusive<'_>> {
        let mut state = self.lock();
        loop {
            state.check()?;
            if state.exclusive {
                state = self.wait(state);
            } else {
                break;
            }
        }
        state.exclusive = true;
        drop(state);
        // From here on, whatever happens, dropping this lets the others in again. It takes the mutex: nobody may hold it then.
        let exclusive = Exclusive { commit: self };
        self.drain()?;
        Ok(exclusive)
    }

    /// Gets a log that has failed to itself, for a resume: nobody is at the disk any more. `None` if it has not failed.
    pub(crate) fn halt(&self) -> Result<Option<Exclusive<'_>>> {
        let mut state = self.lock();
        while state.in_flight.is_some() || state.syncing || state.exclusive {
            state = self.wait(state);
        }
        if state.closed {
            return Err(Error::Closed);
        }
        if state.broken {
            return state.check().map(|()| None);
        }
        if state.failed.is_none() {
            return Ok(None);
        }
        state.exclusive = true;
        drop(state);
        Ok(Some(Exclusive { commit: self }))
    }

    /// Closes the log, whatever became of it, and waits for who is at the disk.
    pub(crate) fn shut(&self) {
        let mut state = self.lock();
        state.closed = true;
        while state.in_flight.is_some() || state.syncing {
            state = self.wait(state);
        }
        drop(state);
        self.wake_everybody();
        self.wake_awaiting();
    }

    /// Waits for the leader and makes what is accepted durable, a header that no record followed yet too: a seal may come next (PR5).
    fn drain(&self) -> Result<()> {
        let mut state = self.lock();
        while state.in_flight.is_some() || state.syncing {
            state = self.wait(state);
        }
        state.check()?;
        if state.durable < state.accepted {
            if seeded_bug!(DrainWithoutSync) {
                self.lead(state, Why::Asked);
                state = self.lock();
                state.durable = state.accepted;
            } else {
                self.lead(state, Why::Drain);
                state = self.lock();
            }
        }
        state.check()
    }
}

/// Nobody appends and nobody leads while this is alive.
#[derive(Debug)]
pub(crate) struct Exclusive<'a> {
    commit: &'a Commit,
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        let mut state = self.commit.lock();
        state.exclusive = false;
        if seeded_bug!(ExclusiveWakesNobody) {
            return;
        }
        self.commit.tell_blocked(&state);
        let next = self.commit.round(state.round.wrapping_add(1));
        let ring = state.demanded > state.durable.index || !state.parked;
        drop(state);
        if ring {
            self.commit.background.bell.ring();
        }
        if next.waiting.load(Ordering::Relaxed) > 0 {
            next.word.wake_one();
        }
    }
}

/// A leader that panics at the disk must not leave the others waiting (S8).
struct Leader<'a> {
    commit: &'a Commit,
    done: bool,
    /// It has the round; otherwise it syncs beside the groups.
    leads: bool,
    /// What it takes to the disk.
    group: Option<Group>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if !self.done && !seeded_bug!(PanicLeavesWaiters) {
            let mut state = self.commit.lock();
            if let Some(group) = self.group.take() {
                state.keep(group);
            }
            if self.leads {
                state.in_flight = None
            } else {
                state.syncing = false
            }
            self.commit.fail(&mut state, Error::Panicked);
        }
    }
}

/// What the reader would refuse, the writer refuses before a byte is written (A2).
fn check_record(record: &Record<'_>) -> Result<()> {
    let families = record.families;
    let ascending = families.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
    let in_range = families.last().is_some_and(|family| *family <= FamilyId::MAX);
    match record.payload.len() {
        0 => Err(Error::EmptyRecord),
        bytes if bytes > PAYLOAD_BYTES_MAX => Err(Error::RecordTooLarge { bytes }),
        _ if families.len() > RECORD_FAMILIES_MAX || !ascending || !in_range => Err(Error::Families),
        _ if record.count == 0 => Err(Error::NoSequence),
        _ => Ok(()),
    }
}
