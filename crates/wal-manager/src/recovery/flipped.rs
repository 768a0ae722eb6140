//! Which flipped bit explains why reading a log stopped, if one does. It explains and decides nothing: verdicts rest on evidence, and this is none
//! (decision 0074).

use wal_format::chunk::{self, CHUNK_BYTES_MIN, ChunkType, HEADER_BYTES, LogSeed};
use wal_format::flip::{self, FlippedBit};
use wal_format::header::HeaderFault;
use wal_io::Source;

use crate::report::Reason;
use crate::window::Window;

/// The one bit that makes the bytes behind `good_end`, where everything before was whole, what a reader expects. A file that cannot be read again
/// explains nothing.
pub(super) fn bit(reason: &Reason, source: &dyn Source, seed: &LogSeed, good_end: u64) -> Option<FlippedBit> {
    let of_bytes = matches!(
        reason,
        Reason::Chunk(_) | Reason::Header(HeaderFault::Chunk(_)) | Reason::SealMissing | Reason::BehindSeal
    );
    if !of_bytes {
        return None;
    }
    let mut look = Look { source, seed, window: Window::default(), in_record: false };
    look.from(good_end)
}

/// A second look at the bytes of a log.
struct Look<'a> {
    source: &'a dyn Source,
    seed: &'a LogSeed,
    window: Window,
    /// Parts of a record came before, and its end did not: only another part may follow.
    in_record: bool,
}

impl Look<'_> {
    /// Steps over what is whole, a record in parts or a seal, to the bytes that are not.
    fn from(&mut self, good_end: u64) -> Option<FlippedBit> {
        let mut at = good_end;
        loop {
            let room = chunk::room_in_block(at);
            let rest = self.window.read(self.source, at, room).ok()?;
            let zeros = rest.iter().all(|&byte| byte == 0);
            if zeros && rest.len() < room {
                return None;
            }
            if zeros && room >= CHUNK_BYTES_MIN {
                // Padding before a statement that is not whole; or nothing was written from here on.
                let behind = at.saturating_add(room as u64);
                return self.statement(behind).or_else(|| self.only_bit(behind));
            }
            if room < CHUNK_BYTES_MIN {
                if !zeros {
                    return flip::in_zeros(at, rest);
                }
                at = at.saturating_add(room as u64);
                continue;
            }
            let Ok(chunk) = chunk::decode(self.seed, at, rest) else { return self.here(at) };
            at = at.saturating_add(chunk.length() as u64);
            self.in_record = match chunk.kind {
                ChunkType::First | ChunkType::Middle => true,
                ChunkType::Ignorable(_) => self.in_record,
                // Behind a seal there are only zeros.
                ChunkType::Seal => return self.only_bit(at),
                _ => false,
            };
        }
    }

    /// The bytes from `at` on are neither a chunk nor zeros.
    fn here(&mut self, at: u64) -> Option<FlippedBit> {
        let room = chunk::room_in_block(at);
        let rest = self.window.read(self.source, at, room).ok()?;
        let in_chunk = flip::in_chunk(self.seed, at, rest);
        let in_zeros = flip::in_zeros(at, rest).filter(|_| !self.in_record);
        // Two explanations are none.
        match (in_chunk, in_zeros) {
            (None, Some(flipped)) => {
                let behind = at.saturating_add(room as u64);
                (self.is_zeros(behind) || self.statement_stands(behind, room)).then_some(flipped)
            }
            (Some(flipped), None) => Some(flipped),
            _ => None,
        }
    }

    /// The flipped bit of a statement at the front of a block, before which a block was filled with zeros.
    fn statement(&mut self, at: u64) -> Option<FlippedBit> {
        let rest = self.window.read(self.source, at, chunk::room_in_block(at)).ok()?;
        let flipped = flip::in_chunk(self.seed, at, rest).filter(|_| !self.in_record)?;
        let type_at = at.saturating_add(HEADER_BYTES as u64 - 1);
        let mut type_byte = *rest.get(HEADER_BYTES - 1)?;
        if flipped.offset == type_at {
            type_byte ^= 1 << flipped.bit;
        }
        is_statement(ChunkType::from_byte(type_byte)?).then_some(flipped)
    }

    /// Whether a statement that did not fit into `room` bytes stands at `at`.
    fn statement_stands(&mut self, at: u64, room: usize) -> bool {
        let Ok(rest) = self.window.read(self.source, at, chunk::room_in_block(at)) else { return false };
        chunk::decode(self.seed, at, rest)
            .is_ok_and(|chunk| is_statement(chunk.kind) && chunk.length() > room)
    }

    fn is_zeros(&mut self, mut at: u64) -> bool {
        loop {
            match self.window.read(self.source, at, chunk::room_in_block(at)) {
                Ok([]) => return true,
                Ok(rest) if rest.iter().all(|&byte| byte == 0) => at = at.saturating_add(rest.len() as u64),
                _ => return false,
            }
        }
    }

    /// The only bit that is set from `at`, outside of a record, to the end of the file.
    fn only_bit(&mut self, mut at: u64) -> Option<FlippedBit> {
        while !self.in_record {
            let rest = self.window.read(self.source, at, chunk::room_in_block(at)).ok()?;
            let length = rest.len() as u64;
            if rest.iter().any(|&byte| byte != 0) {
                let flipped = flip::in_zeros(at, rest)?;
                return self.is_zeros(at.saturating_add(length)).then_some(flipped);
            }
            if length == 0 {
                break;
            }
            at = at.saturating_add(length);
        }
        None
    }
}

/// Whether chunks of this type are never cut into parts.
const fn is_statement(kind: ChunkType) -> bool {
    matches!(kind, ChunkType::Promise | ChunkType::Seal | ChunkType::Ignorable(_))
}
