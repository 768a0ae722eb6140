//! The search for proof behind the place where reading a log stopped.

use memchr::memmem;
use wal_format::LogSeed;
use wal_format::chunk::{self, Chunk, ChunkType, HEADER_BYTES};
use wal_format::control::{Promise, Seal};
use wal_io::Source;

use crate::error::Result;
use crate::window::WINDOW_BYTES;

/// So many bytes are compared with zero at a time.
const STEP_BYTES: usize = 512;

/// What of a statement's header is known: its length and its type.
const KNOWN_BYTES: usize = 3;
const PROMISE: [u8; KNOWN_BYTES] = known(ChunkType::Promise, Promise::BYTES);
const SEAL: [u8; KNOWN_BYTES] = known(ChunkType::Seal, Seal::BYTES);

const fn known(kind: ChunkType, length: usize) -> [u8; KNOWN_BYTES] {
    let [low, high, ..] = length.to_le_bytes();
    // Where one ends no other begins, so a search that goes on behind a match misses none.
    assert!(low != kind.to_byte() && high == 0);
    [low, high, kind.to_byte()]
}

/// What stands behind the place where reading stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    /// The promise that covers most, and where it stands.
    pub(crate) promise: Option<(u64, Promise)>,
    /// A seal, and where it stands.
    pub(crate) seal: Option<(u64, Seal)>,
    /// Behind the last byte that is not zero.
    pub(crate) nonzero_end: u64,
}

impl Behind {
    /// Whether there is a statement that only a writer who had synced could make.
    pub(crate) fn has_statement(&self) -> bool {
        self.promise.is_some() || self.seal.is_some()
    }
}

/// Whether there is a byte that is not zero; without a branch for each byte.
fn holds_something(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) != 0
}

/// Looks for promises and seals from `from` to `end`, at every byte and not only where blocks begin: what follows in the same block
/// is evidence too. Only a chunk whose checksum is right for its very place counts.
pub(crate) fn look_behind(source: &dyn Source, seed: &LogSeed, from: u64, end: u64) -> Result<Behind> {
    const LONGEST: usize = HEADER_BYTES + Seal::BYTES;
    let mut behind = Behind { nonzero_end: from, ..Behind::default() };
    let mut start = from;
    // Most logs that are looked through are shorter than a window.
    let most = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; WINDOW_BYTES.min(most)];
    while start < end {
        let read = source.read_at(start, &mut bytes)?;
        let limit = usize::try_from(end - start).map_or(read, |left| left.min(read));
        let window = bytes.get(..limit).unwrap_or_default();
        if window.is_empty() {
            break;
        }
        // Most of it is what a file was filled with: zeros, which hold no header, go by in large steps.
        let first = window.chunks(STEP_BYTES).take_while(|step| !holds_something(step)).count() * STEP_BYTES;
        if let Some(last) = window.iter().skip(first).rposition(|&byte| byte != 0) {
            behind.nonzero_end = start.saturating_add((first + last) as u64 + 1);
        }
        for (at, chunk) in statements(seed, start, window, &PROMISE) {
            if let Some(promise) = Promise::decode(chunk.payload) {
                let most = behind.promise.is_none_or(|(_, best)| best.durable_end <= promise.durable_end);
                if promise.durable_end <= at && most {
                    behind.promise = Some((at, promise));
                }
            }
        }
        for (at, chunk) in statements(seed, start, window, &SEAL) {
            if let Some(seal) = Seal::decode(chunk.payload) {
                behind.seal = Some((at, seal));
            }
        }
        if limit < WINDOW_BYTES {
            break;
        }
        // Windows overlap by the longest statement, so that none is cut in two.
        start = start.saturating_add((WINDOW_BYTES - LONGEST) as u64);
    }
    Ok(behind)
}

/// The chunks anywhere in a piece of a log that begins at `start` of which `known` is a part of the header, each with its offset in the log.
fn statements<'a>(
    seed: &'a LogSeed,
    start: u64,
    window: &'a [u8],
    known: &'static [u8; KNOWN_BYTES],
) -> impl Iterator<Item = (u64, Chunk<'a>)> {
    memmem::find_iter(window, known).filter_map(move |place| {
        let position = place.checked_sub(HEADER_BYTES - KNOWN_BYTES)?;
        let at = start.saturating_add(position as u64);
        Some((at, chunk::decode(seed, at, window.get(position..)?).ok()?))
    })
}
