//! What a log holds by its header, its seal and CHECKPOINT, without reading what lies between them.
//!
//! This decides which logs there are and where they end, and never that their bytes are good: each record is checked when it is handed out,
//! and the log against its seal at its end (decision 0030). Logs that a clean end lists as flushed hand out none (decision 0036).

use std::collections::BTreeMap;

use wal_format::checkpoint::Checkpoint;
use wal_format::chunk::{self, ChunkType, Digest, HEADER_BYTES};
use wal_format::control::Seal;
use wal_format::{FileHeader, LogNumber};
use wal_io::Source;

use crate::error::Result;
use crate::recovery::survey::{LogFile, Walked, seal_end, seal_place};

/// The log as it is if its bytes are good; `None` unless CHECKPOINT knows its seal, and the seal, the headers and CHECKPOINT agree.
///
/// # Errors
/// The file cannot be read.
pub(super) fn vouched(
    file: LogFile,
    header: FileHeader,
    successor: Option<&FileHeader>,
    checkpoint: &Checkpoint,
) -> Result<Option<Walked>> {
    // INVARIANT: PR5. Only what CHECKPOINT knows to be sealed is surely on the disk up to its seal.
    // Without a clean end nobody vouches for the newest log, since none follows it.
    let clean = checkpoint.clean_end.as_ref();
    if checkpoint.sealed_through < file.log || clean.is_some_and(|clean| clean.log < file.log) {
        return Ok(None);
    }
    let stated = match (successor, clean) {
        (Some(next), _) => next.predecessor.map(|before| (before.end, next.first_index, Some(before.digest))),
        (None, Some(clean)) if clean.log == file.log => Some((clean.end, clean.next_index, None)),
        _ => None,
    };
    let Some((end, next_index, digest)) = stated else { return Ok(None) };
    let Some((at, seal)) = read_seal(&*file.source, &file, end)? else { return Ok(None) };
    let counted = next_index.get().checked_sub(header.first_index.get());
    let agree = seal.next_index == next_index
        && counted == Some(seal.records)
        && digest.is_none_or(|digest| digest == seal.digest)
        && seal.seqs.is_none_or(|seqs| seqs.first() >= header.seq_floor)
        && file.length >= seal_end(at);
    if !agree {
        return Ok(None);
    }
    let seq_floor = seal.seqs.map_or(header.seq_floor, |seqs| seqs.last().next().unwrap_or(seqs.last()));
    Ok(Some(Walked {
        log: file.log,
        source: file.source,
        seed: file.seed,
        header,
        length: file.length,
        end: successor.map(|_| end),
        good_end: end,
        next_index,
        digest: Digest::new(seal.digest),
        records: seal.records,
        seqs: seal.seqs,
        seq_floor,
        // Learned when the records are read.
        families: BTreeMap::new(),
        skipped: clean.is_some_and(|clean| clean.is_flushed(file.log)) && may_be_flushed(checkpoint, &seal),
        fault: None,
        promise: None,
        seal: Some((at, seal)),
        late_seal: None,
        nonzero_end: end,
        behind_seal: false,
    }))
}

/// Whether the file of `log` was made ahead, and the log that it was to follow was closed: no writer wrote anything but zeros to it (decision 0038).
pub(super) fn never_used(checkpoint: &Checkpoint, log: LogNumber) -> bool {
    // INVARIANT: RC7, RC2. Who closed wrote to no later log, and whoever opened since takes a number above the highest, so no promise can be in there.
    let follows = checkpoint.clean_end.as_ref().is_some_and(|clean| clean.log.next() == Some(log));
    (follows || seeded_bug!(BlankBelievedAfterACrash)) && log <= checkpoint.highest
}

/// Whether any mark comes to the last number in a log: each record touches a family, so that is the least if all of them are flushed.
fn may_be_flushed(checkpoint: &Checkpoint, seal: &Seal) -> bool {
    seal.seqs.is_none_or(|seqs| checkpoint.flushed.values().any(|mark| *mark >= seqs.last()))
}

/// The seal of a log that ends at `end`, and where it stands.
fn read_seal(source: &dyn Source, file: &LogFile, end: u64) -> Result<Option<(u64, Seal)>> {
    let at = seal_place(end);
    let mut bytes = [0; 2 * (HEADER_BYTES + Seal::BYTES)];
    // The padding before it too, which must be zeros.
    let read = source.read_at(end, &mut bytes)?;
    let padding = usize::try_from(at - end).unwrap_or(usize::MAX);
    let Some((before, seal)) = bytes.get(..read).and_then(|bytes| bytes.split_at_checked(padding)) else {
        return Ok(None);
    };
    let decoded = chunk::decode(&file.seed, at, seal).ok().filter(|chunk| chunk.kind == ChunkType::Seal);
    let seal = decoded.and_then(|chunk| Seal::decode(chunk.payload));
    Ok(seal.filter(|_| before.iter().all(|&byte| byte == 0)).map(|seal| (at, seal)))
}
