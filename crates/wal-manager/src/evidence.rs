//! The search for proof behind the place where reading a log stopped.

use wal_format::LogSeed;
use wal_format::chunk::{self, ChunkType, HEADER_BYTES};
use wal_format::control::{Promise, Seal};
use wal_io::Source;

use crate::error::Result;
use crate::window::WINDOW_BYTES;

/// So many bytes are compared with zero at a time.
const STEP_BYTES: usize = 512;

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
    let mut bytes = vec![0; WINDOW_BYTES];
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
        // Where the first byte that is not zero stands, a header began before at the most.
        let first = first.saturating_sub(HEADER_BYTES);
        for (position, header) in window.windows(HEADER_BYTES).enumerate().skip(first) {
            let &[_, _, _, _, l0, l1, type_byte] = header else { continue };
            let length = usize::from(u16::from_le_bytes([l0, l1]));
            let promise = type_byte == ChunkType::Promise.to_byte() && length == Promise::BYTES;
            let seal = type_byte == ChunkType::Seal.to_byte() && length == Seal::BYTES;
            if !promise && !seal {
                continue;
            }
            let at = start.saturating_add(position as u64);
            let place = window.get(position..).unwrap_or_default();
            let Ok(chunk) = chunk::decode(seed, at, place) else { continue };
            if let Some(promise) = Promise::decode(chunk.payload).filter(|_| promise) {
                let most = behind.promise.is_none_or(|(_, best)| best.durable_end <= promise.durable_end);
                if promise.durable_end <= at && most {
                    behind.promise = Some((at, promise));
                }
            }
            if let Some(found) = Seal::decode(chunk.payload).filter(|_| seal) {
                behind.seal = Some((at, found));
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
