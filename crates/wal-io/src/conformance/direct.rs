//! Files that are written past the cache.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{Broken, Checked, is_named, kind, put, read, reads, starts_with};
use crate::{Access, IoError, Sink, Storage};

/// A sink past the cache; `None` where there is no such thing.
fn direct(storage: &dyn Storage, name: &str, new: bool) -> Result<Option<Arc<dyn Sink>>, Broken> {
    let opened = if new {
        storage.create_with(name, Access::Direct)
    } else {
        storage.open_sink_with(name, Access::Direct)
    };
    match opened {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        sink => Ok(Some(sink?)),
    }
}

/// Starts with these bytes, and then there are only zeros, up to a multiple of the block at most.
fn reads_rounded(storage: &dyn Storage, sink: &dyn Sink, expected: &[u8]) -> Checked {
    let found = read(storage, "a")?;
    let block = usize::try_from(sink.block_bytes()).unwrap_or(usize::MAX);
    let most = expected.len().checked_next_multiple_of(block).unwrap_or(usize::MAX);
    holds!(found.len() <= most, "{} bytes instead of {most} at most", found.len());
    starts_with(&found, expected)?;
    let (_, behind) = found.split_at(expected.len());
    holds!(behind.iter().all(|byte| *byte == 0), "behind the bytes there are others than zeros");
    Ok(())
}

pub(super) fn direct_is_given_or_refused(storage: &dyn Storage) -> Checked {
    let refused = kind(storage.open_sink_with("a", Access::Direct));
    holds!(refused == Some(ErrorKind::NotFound), "open_sink of what is absent: {refused:?}");
    let Some(sink) = direct(storage, "a", true)? else {
        is_named(storage, &[])?;
        put(storage, "a", b"bytes")?;
        holds!(direct(storage, "a", false)?.is_none(), "opened where it cannot be created");
        return reads(storage, "a", b"bytes");
    };
    let block = sink.block_bytes();
    holds!(block.is_power_of_two(), "blocks of {block} bytes");
    let refused = kind(storage.create_with("a", Access::Direct));
    holds!(refused == Some(ErrorKind::AlreadyExists), "{refused:?}");
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        for result in [sink.write_at(offset, b"xyz"), sink.write_synced_at(offset, b"xyz")] {
            let place = result.as_ref().err().and_then(IoError::offset);
            holds!(place == Some(offset), "a write at {offset}: {result:?}");
        }
    }
    holds!(sink.fill(u64::MAX).is_err(), "the largest length was filled");
    reads(storage, "a", b"")
}

pub(super) fn direct_holds_what_was_written(storage: &dyn Storage) -> Checked {
    let Some(sink) = direct(storage, "a", true)? else { return Ok(()) };
    let mut expected = Vec::new();
    let lengths = [1, 6, 4_089, 4_096, 1, 512, 10_000, 3, 0, 70_000, 1_024, 2_500_000, 9];
    for (number, length) in (1_u8..).zip(lengths) {
        let (offset, bytes) = (expected.len() as u64, vec![number; length]);
        if number % 3 == 0 { sink.write_at(offset, &bytes) } else { sink.write_synced_at(offset, &bytes) }?;
        expected.extend(bytes);
        reads_rounded(storage, &*sink, &expected)?;
    }
    // Not in ascending order, and with a gap.
    let end = expected.len() as u64;
    for (offset, bytes) in [(5_000, [101; 300]), (4_000, [102; 300]), (end + 9_999, [103; 300])] {
        sink.write_at(offset, &bytes)?;
        let place = usize::try_from(offset).unwrap_or(usize::MAX);
        expected.resize(expected.len().max(place + bytes.len()), 0);
        expected.splice(place..place + bytes.len(), bytes);
        reads_rounded(storage, &*sink, &expected)?;
    }
    Ok(())
}

pub(super) fn direct_keeps_what_is_in_front(storage: &dyn Storage) -> Checked {
    for length in [10, 511, 5_000] {
        let mut expected = vec![b'k'; length];
        put(storage, "a", &expected)?;
        let Some(sink) = direct(storage, "a", false)? else { return Ok(()) };
        sink.write_at(length as u64, b"more")?;
        expected.extend(b"more");
        reads_rounded(storage, &*sink, &expected)?;
        sink.write_synced_at(expected.len() as u64, b"!")?;
        expected.extend(b"!");
        reads_rounded(storage, &*sink, &expected)?;
        storage.unlink("a")?;
    }
    Ok(())
}

pub(super) fn direct_overwrites_zeros(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"old")?;
    let Some(sink) = direct(storage, "a", false)? else { return Ok(()) };
    sink.fill(50_000)?;
    let mut expected = b"old".to_vec();
    expected.resize(50_000, 0);
    reads_rounded(storage, &*sink, &expected)?;
    let mut end = 3;
    for (number, length) in (1_u8..).zip([7, 5_000, 1, 600]) {
        let bytes = vec![number; length];
        sink.write_synced_at(end as u64, &bytes)?;
        expected.splice(end..end + length, bytes);
        end += length;
        sink.fill(1_000)?;
        reads_rounded(storage, &*sink, &expected)?;
    }
    Ok(())
}
