//! Going on after a failed write or sync (rule RS1), without opening the directory again.
//!
//! The file that failed is given up. A new log takes its place, with the same epoch, behind the last byte that is proven, and in it every record
//! beyond the frontier is written again, once, with its index: those that nobody was told of, those that were acknowledged at a lower
//! level, those that somebody waited for in vain. They are still in memory, because groups are kept until they are durable.

use std::collections::BTreeMap;

use tracing::{info, info_span, warn};
use wal_format::chunk::{self, CHUNK_BYTES_MIN, ChunkType, HEADER_BYTES};
use wal_format::encode::LogEncoder;
use wal_format::header::Predecessor;
use wal_format::record::{self, Head};
use wal_format::{FamilyId, FileHeader, LogNumber, LogSeed, SeqNum, SeqRange};

use crate::caps;
use crate::clock::micros;
use crate::error::{Error, Result};
use crate::inner::Inner;
use crate::names;
use crate::record::Position;
use crate::rotate::Next;
use crate::state::{ActiveLog, Group, State, UNIT_BYTES, unit_for};
use crate::watchdog::DiskWork;

impl Inner {
    /// See [`Wal::resume`](crate::Wal::resume).
    pub(crate) fn resume(&self) -> Result<Position> {
        let span = info_span!("wal.resume", path = %self.storage.path().display());
        let _entered = span.enter();
        let begin = self.clock.monotonic();
        let mut next = self.rotation.lock();
        let Some(halted) = self.commit.halt()? else { return Ok(self.commit.lock().durable) };
        let at_disk = self.commit.at_disk(DiskWork::Resume);
        let resumed = self.resume_halted(&mut next);
        self.recount();
        drop(halted);
        self.commit.wake_awaiting();
        drop(at_disk);
        match &resumed {
            Ok(position) => {
                self.metrics.resumes.increment(1);
                let took = self.clock.monotonic().saturating_sub(begin);
                self.metrics.resume_seconds.record(took.as_secs_f64());
                self.metrics.poisoned.set(0.0);
                self.metrics.next_log_ready.set(0.0);
                // Not under the mutex: a recorder that panics there would end the log (S8).
                let durable = self.commit.lock().durable.index;
                self.metrics.durable_index.set(durable.get() as f64);
                info!(log = position.log.get(), index = position.index.get(), "wal.resumed");
                self.disk_has_space();
                // ORDER: RC3. Only now is anything removed; CHECKPOINT and the new header leave these out. Appends go on already: a deletion that is at
                // its disk is not waited for while they stand.
                self.retention.unlink_later(std::mem::take(&mut next.abandoned));
                // The space of a log that was made ahead is given back; what cannot be removed is tried again.
                let _ = self.delete_unneeded();
                self.update_gauges();
            }
            Err(error) => {
                self.metrics.resume_failures.increment(1);
                warn!(%error, "wal.resume_failed");
            }
        }
        resumed
    }

    /// Nobody appends, leads or syncs meanwhile.
    fn resume_halted(&self, next: &mut Next) -> Result<Position> {
        // INVARIANT: RC2, RC6. One more than the highest there is, whatever became of the file before; never the prepared one, and never one
        // that an earlier attempt may have written to.
        let active = self.commit.lock().active.log;
        let highest = self.checkpoint.content().highest.max(active);
        let log = highest.next().ok_or(Error::Exhausted("log"))?;
        let name = names::log_name(log);
        let mut state = self.commit.lock();
        let full = state.failed.as_ref().is_some_and(|cause| cause.no_space().is_some());
        state.fill_promise();
        let mut image = Image::of(self, &state, log)?;
        let unit = state.unit();
        drop(state);
        // Where the disk was full, there is to be space for all of it, and for what comes next, before the number is used. So a try that fails leaves
        // nothing behind, and the log does not fail again with the next record.
        let end = (image.bytes.len() as u64).saturating_add(caps::room_bytes(unit));
        let reserve = if full { caps::reserve_to_resume(end, self.log_bytes) } else { 0 };
        let sink = self.make_blank(&name, 0, reserve, &mut next.half_made)?;
        // Until the end of this, nobody needs the file; after a failure nobody ever does.
        next.abandoned.push(name);
        if unit > 0 {
            image.encoder.filler(&mut image.bytes, unit_for(&*sink));
        }
        // ORDER: CK3, CK7. Both slots know the number before a byte is written under it.
        self.update_checkpoint(|content| content.highest = content.highest.max(log))?;

        let (header, records) =
            image.bytes.split_at_checked(image.header_bytes).unwrap_or((&image.bytes, &[]));
        if !records.is_empty() {
            sink.write_at(header.len() as u64, records)?;
            // ORDER: RS1. The records are durable before the file gets a header, and so before it counts: until then the old log does, with all
            // that is in it, and a death of the process here takes nothing that was written.
            sink.sync_data()?;
        }
        sink.write_at(0, header)?;
        // ORDER: RS1, PR1. The new log is durable before the frontier moves into it and anything is acknowledged or promised.
        sink.sync_data()?;
        self.metrics.written_bytes.increment(image.bytes.len() as u64);

        // The new log is needed from here on.
        next.abandoned.pop();
        let created_micros = micros(self.clock.wall());
        let mut state = self.commit.lock();
        let frontier = state.durable;
        let new = ActiveLog {
            log,
            sink,
            encoder: image.encoder,
            records: image.records.count,
            seqs: image.records.seqs,
            families: image.records.families,
            created_micros,
            reserved: if full { reserve } else { u64::MAX },
        };
        let mut old = state.go_on_in(new);
        if old.log == frontier.log {
            old.records = old.records.saturating_sub(image.records.count);
            // Up to the first number that has moved, which may be more than there is.
            if let (Some(seqs), Some(moved)) = (old.seqs, image.records.seqs) {
                let last = SeqNum::new(moved.first().get().saturating_sub(1));
                old.seqs = SeqRange::between(seqs.first(), last);
            }
            if old.records == 0 {
                old.families.clear();
                old.seqs = None;
            }
            // INVARIANT: G2. Before anybody sees the frontier in the new log: a deletion would take this one for gone, and put the floor above it.
            // Families may be marked as in it up to numbers that have moved: that keeps it a little longer than it must be.
            if !seeded_bug!(ResumeClosesLate) {
                self.retention.closed(&old, frontier.offset);
            }
        } else {
            // Nothing of it was ever durable, not even its header.
            next.abandoned.push(names::log_name(old.log));
        }
        self.commit.publish(&state);
        let durable = state.durable;
        drop(state);
        if seeded_bug!(ResumeClosesLate) && old.log == frontier.log {
            self.retention.closed(&old, frontier.offset);
        }

        // What was prepared lies below the new log, so it is jumped.
        let made = next.prepared.take().into_iter().chain(next.ready.take());
        next.abandoned.extend(made.map(|made| names::log_name(made.log)));
        Ok(durable)
    }
}

/// The new log, in memory.
struct Image {
    bytes: Vec<u8>,
    header_bytes: usize,
    encoder: LogEncoder,
    records: Taken,
}

/// The records that were written again.
#[derive(Default)]
struct Taken {
    count: u64,
    seqs: Option<SeqRange>,
    families: BTreeMap<FamilyId, SeqNum>,
}

impl Image {
    fn of(inner: &Inner, state: &State, log: LogNumber) -> Result<Self> {
        let seed = LogSeed::new(inner.wal_id, state.active.log);
        let mut kept = Vec::new();
        let forming = state.forming_group();
        for group in state.unsynced.iter().chain(&forming) {
            decode(&seed, group, &mut kept)?;
        }
        if seeded_bug!(ResumeForgetsBuffered) {
            kept.retain(|(head, ..)| head.index <= state.written.index);
        }
        let from =
            if seeded_bug!(ResumeFromWrittenNotDurable) { state.written.index } else { state.durable.index };
        kept.retain(|(head, ..)| head.index > from);
        let first_index = from.next().ok_or(Error::Exhausted("index"))?;
        let seq_floor = kept.first().map_or(state.seq_floor, |(head, ..)| head.seqs.first());
        let frontier = state.durable;
        let mut header = FileHeader::new(inner.wal_id, log, inner.epoch, first_index, seq_floor);
        // INVARIANT: RS1, RC2, PR4. The log that holds the last proven byte, which is not always the one that failed; and its end there, so
        // that what stands behind it stays out.
        let mut before = Predecessor {
            log: frontier.log,
            end: frontier.offset,
            proven: frontier.offset,
            digest: state.durable_digest.get(),
        };
        if seeded_bug!(ResumeKeepsOldPredecessorEnd) {
            before.end = state.accepted.offset;
            before.digest = state.active.encoder.digest().get();
        }
        // INVARIANT: RC2. None, if nothing was ever proven.
        header.predecessor = (frontier.log > LogNumber::default()).then_some(before);
        header.config_fingerprint = inner.config_fingerprint;
        header.created_micros = micros(inner.clock.wall());
        let mut encoder = LogEncoder::new(LogSeed::new(inner.wal_id, log));
        let mut bytes = Vec::new();
        encoder.header(&mut bytes, &header);
        if state.unit() > 0 {
            // Written last, behind a sync of the records.
            encoder.filler(&mut bytes, UNIT_BYTES);
        }
        let header_bytes = bytes.len();
        let mut records = Taken::default();
        let mut expected = first_index;
        for (head, families, payload) in &kept {
            if head.index != expected && !seeded_bug!(ResumeForgetsBuffered) {
                // What is kept is not what was accepted: nothing that this could write would be true.
                return Err(Error::Panicked);
            }
            expected = head.index.next().ok_or(Error::Exhausted("index"))?;
            let times = if seeded_bug!(ResumeDuplicates) { 2 } else { 1 };
            for _ in 0..times {
                encoder.record(&mut bytes, head, families, payload);
            }
            records.count += 1;
            records.seqs = Some(records.seqs.map_or(head.seqs, |seqs| seqs.union(head.seqs)));
            records.families.extend(families.iter().map(|family| (*family, head.seqs.last())));
        }
        Ok(Self { bytes, header_bytes, encoder, records })
    }
}

/// The numbers of a record, its families and its payload.
type Kept = (Head, Vec<FamilyId>, Vec<u8>);

/// Takes the records out of a group, which holds whole ones. It was encoded a moment ago and never left memory, so a fault in it is a bug.
fn decode(seed: &LogSeed, group: &Group, kept: &mut Vec<Kept>) -> Result<()> {
    let mut position = 0;
    let mut partial: Vec<u8> = Vec::new();
    while let Some(rest) = group.bytes.get().get(position..).filter(|rest| !rest.is_empty()) {
        let offset = group.start.saturating_add(position as u64);
        let room = chunk::room_in_block(offset);
        let rest = rest.get(..room).unwrap_or(rest);
        // Where a chunk or a statement did not fit, the rest of the block is zeros.
        let is_padding = rest.iter().take(HEADER_BYTES).all(|&byte| byte == 0);
        if room < CHUNK_BYTES_MIN || is_padding {
            position += room;
            continue;
        }
        let chunk = chunk::decode(seed, offset, rest).map_err(|_| Error::Panicked)?;
        position += chunk.length();
        let whole = match chunk.kind {
            ChunkType::Full => Some(chunk.payload.to_vec()),
            ChunkType::First | ChunkType::Middle => {
                partial.extend_from_slice(chunk.payload);
                None
            }
            ChunkType::Last => {
                partial.extend_from_slice(chunk.payload);
                Some(std::mem::take(&mut partial))
            }
            _ => None,
        };
        if let Some(bytes) = whole {
            let record = record::decode(&bytes).map_err(|_| Error::Panicked)?;
            kept.push((record.head, record.families.collect(), record.payload.to_vec()));
        }
    }
    Ok(())
}
