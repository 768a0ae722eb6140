//! Where in a log a record stands: by halving, block by block. Every block begins with a chunk, so a reader can begin at any of them; it then
//! passes over the rest of a record that began before.

use std::sync::Arc;

use wal_format::BLOCK_BYTES;

use crate::error::Result;
use crate::follow::FollowFrom;
use crate::follow::chain::Opened;
use crate::read::{FoundRecord, Item, LogReader, Place, Stop};

/// A place at or before the record that `from` asks for, in a log that ends at `end`: less than a block before it, but for records that are
/// longer. Looks at as many places as the logarithm of the log's length in blocks, and reads at each one up to the end of the next
/// record that begins there.
///
/// # Errors
/// The file cannot be read. What is no record is nothing here: whoever reads on from the place meets it.
pub(crate) fn seek(opened: &Opened, from: FollowFrom, end: u64) -> Result<Place> {
    let mut place = opened.start();
    if from == FollowFrom::Oldest {
        return Ok(place);
    }
    // Blocks, of which the first record that begins in them or behind them may be the place.
    let (mut low, mut high) = (1, end.div_ceil(BLOCK_BYTES as u64));
    while low < high {
        let middle = low + (high - low) / 2;
        match first_record(opened, middle, end)? {
            Some(found) if from.is_at_or_behind(&found.head) => {
                let FoundRecord { offset, head } = found;
                place = Place { offset, next_index: Some(head.index), seq_floor: head.seqs.first() };
                low = (offset / BLOCK_BYTES as u64).max(middle) + 1;
            }
            _ => high = middle,
        }
    }
    Ok(place)
}

/// The first record that begins in this block or behind it.
fn first_record(opened: &Opened, block: u64, end: u64) -> Result<Option<FoundRecord>> {
    let offset = block.saturating_mul(BLOCK_BYTES as u64);
    let place = Place { offset, next_index: None, seq_floor: wal_format::SeqNum::default() };
    let mut reader = LogReader::from_place(Arc::clone(&opened.source), opened.seed, place, end);
    loop {
        match reader.next()? {
            Item::Record(found) => return Ok(Some(found)),
            Item::Promise { .. } => {}
            Item::Seal { .. } | Item::Stop(Stop::AtEnd | Stop::EndOfFile | Stop::Fault(_)) => {
                return Ok(None);
            }
        }
    }
}
