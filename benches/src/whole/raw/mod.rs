//! The limits: what the same machine does with the same bytes when nothing is promised but their durability.
//!
//! Every record is the payload behind its length and its CRC-32 (`batch::HEADER_BYTES`), in every variant. Nothing here rotates,
//! recovers, tells a torn write from a whole one, or handles an error; no log can be faster by less than cheating.

mod batch;
mod file;
mod group;
mod names;
mod pipeline;
mod ring;
mod stream;

use std::mem;

use super::case::{Case, IN_FLIGHT, Workload};
use super::load;
use super::measured::Measured;
use super::ours;
use super::side::{Side, Work};
use crate::data::Payloads;
use batch::Batch;
use file::{Access, RawFile};
use ring::Ring;

/// The raw sides.
pub const SIDES: [Side; 10] = [
    Side { name: "raw:append", work: append },
    Side { name: "raw:zeroed", work: zeroed },
    Side { name: "raw:direct", work: direct },
    Side { name: "raw:direct_dsync", work: direct_dsync },
    Side { name: "raw:pipelined", work: pipelined },
    Side { name: "raw:ring", work: ring },
    Side { name: "raw:stream", work: stream },
    Side { name: "raw:stream_synced", work: stream_synced },
    Side { name: "raw:read_crc", work: read_crc },
    Side { name: "raw:unlink", work: unlink },
];

/// Writes behind the end of a file that grows, then fdatasync.
fn append(workload: Workload) -> Option<Work> {
    (workload == Workload::Lone).then(|| Work::new(|case| lone(case, RawFile::growing())))
}

/// Writes into a file that holds zeros already, then fdatasync.
fn zeroed(workload: Workload) -> Option<Work> {
    synced(
        workload,
        [
            |case| lone(case, RawFile::zeroed(Access::Cached)),
            |case| group(case, RawFile::zeroed(Access::Cached)),
            |case| batches(case, RawFile::zeroed(Access::Cached)),
        ],
    )
}

/// The same past the page cache.
fn direct(workload: Workload) -> Option<Work> {
    synced(
        workload,
        [
            |case| lone(case, RawFile::zeroed(Access::Direct)),
            |case| group(case, RawFile::zeroed(Access::Direct)),
            |case| batches(case, RawFile::zeroed(Access::Direct)),
        ],
    )
}

/// The same past the page cache, where each write is its own sync.
fn direct_dsync(workload: Workload) -> Option<Work> {
    synced(
        workload,
        [
            |case| lone(case, RawFile::zeroed(Access::DirectSynced)),
            |case| group(case, RawFile::zeroed(Access::DirectSynced)),
            |case| batches(case, RawFile::zeroed(Access::DirectSynced)),
        ],
    )
}

/// The same with two groups at the disk at once.
fn pipelined(workload: Workload) -> Option<Work> {
    matches!(workload, Workload::Group(_)).then(|| {
        Work::new(|case| {
            let group = pipeline::Pipelined::new(RawFile::zeroed(Access::DirectSynced));
            let measured = load::together(case, |_, payload| group.append(payload));
            group.file().counted(measured)
        })
    })
}

/// The same as one entry of an io_uring, where there are any.
fn ring(workload: Workload) -> Option<Work> {
    let is_measured = matches!(workload, Workload::Lone | Workload::Group(_)) && Ring::new().is_some();
    let work = synced(
        workload,
        [
            |case| lone(case, RawFile::zeroed(Access::Ring)),
            |case| group(case, RawFile::zeroed(Access::Ring)),
            |case| batches(case, RawFile::zeroed(Access::Ring)),
        ],
    );
    work.filter(|_| is_measured)
}

/// One way of writing for each way of calling: alone, in a group, in batches.
fn synced(workload: Workload, [lone, group, batches]: [fn(&Case) -> Measured; 3]) -> Option<Work> {
    match workload {
        Workload::Lone => Some(Work::new(lone)),
        Workload::Group(_) => Some(Work::new(group)),
        Workload::Tickets => Some(Work::new(batches)),
        _ => None,
    }
}

fn stream(workload: Workload) -> Option<Work> {
    match workload {
        Workload::Nosync => Some(Work::new(stream::fresh)),
        Workload::Recycled => Some(Work::new(stream::recycled)),
        _ => None,
    }
}

/// The same with a sync every few MiB, by another thread.
fn stream_synced(workload: Workload) -> Option<Work> {
    (workload == Workload::Nosync).then(|| Work::new(stream::synced))
}

/// The files that the log wrote, read once with a CRC-32 for each record.
fn read_crc(workload: Workload) -> Option<Work> {
    let prepare = Some(ours::PREPARE_REPLAY);
    (workload == Workload::Replay).then_some(Work { prepare, measure: names::read_crc })
}

fn unlink(workload: Workload) -> Option<Work> {
    (workload == Workload::Delete).then(|| Work::new(names::unlink))
}

fn lone(case: &Case, file: RawFile) -> Measured {
    let mut batches = (file.batch(), file.batch());
    let measured = load::alone(case, |payload| {
        batches.0.follow(&batches.1);
        batches.0.push(payload);
        file.write_synced(&mut batches.0);
        mem::swap(&mut batches.0, &mut batches.1);
    });
    file.counted(measured)
}

fn group(case: &Case, file: RawFile) -> Measured {
    let group = group::Adaptive::new(file);
    let measured = load::together(case, |_, payload| group.append(payload));
    group.file().counted(measured)
}

/// Batches of as many records as [`Workload::Tickets`] has in flight, each in one write and one sync.
fn batches(case: &Case, file: RawFile) -> Measured {
    let payloads = Payloads::new(case.size);
    let mut batches: (Batch, Batch) = (file.batch(), file.batch());
    let mut number = 0;
    let measured = load::alone(case, |_| {
        batches.0.follow(&batches.1);
        for _ in 0..IN_FLIGHT {
            batches.0.push(payloads.get(number));
            number += 1;
        }
        file.write_synced(&mut batches.0);
        mem::swap(&mut batches.0, &mut batches.1);
    });
    file.counted(measured.in_batches(IN_FLIGHT as u64))
}
