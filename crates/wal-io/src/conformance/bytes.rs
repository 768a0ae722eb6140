//! Reading and writing.

use std::thread;

use super::{Broken, Checked, content, put, reads, same};
use crate::{IoError, Storage};

pub(super) fn reads_end_at_the_end(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"0123456789")?;
    let source = storage.open_source("a")?;
    let length = source.length()?;
    holds!(length == 10, "a length of {length}");
    let mut buffer = [b'-'; 4];
    for (offset, read, expected) in [(3, 4, b"3456"), (8, 2, b"8956"), (4, 4, b"4567"), (9, 1, b"9567")] {
        let found = source.read_at(offset, &mut buffer)?;
        holds!(found == read && &buffer == expected, "{found} bytes at {offset}, buffer {buffer:?}");
    }
    for end in [10, 11, 1 << 40] {
        let found = source.read_at(end, &mut buffer)?;
        holds!(found == 0 && &buffer == b"9567", "{found} bytes at {end}, buffer {buffer:?}");
    }
    let found = source.read_at(0, &mut [])?;
    holds!(found == 0, "{found} bytes into no buffer");
    Ok(())
}

pub(super) fn large_is_whole(storage: &dyn Storage) -> Checked {
    let bytes: Vec<u8> = (0_u32..3 << 20).map(|at| ((at / 3) ^ (at / 4096)).to_le_bytes()[0]).collect();
    put(storage, "a", &bytes)?;
    reads(storage, "a", &bytes)
}

pub(super) fn holes_read_as_zeros(storage: &dyn Storage) -> Checked {
    storage.create("a")?.write_at(10_000, b"end")?;
    let mut expected = vec![0; 10_000];
    expected.extend(b"end");
    reads(storage, "a", &expected)
}

pub(super) fn empty_writes_do_nothing(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_at(0, b"")?;
    sink.write_at(1_000, b"")?;
    reads(storage, "a", b"")
}

pub(super) fn overwriting_keeps_the_rest(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_at(0, &[b'o'; 2_000])?;
    sink.write_at(500, &[b'n'; 1_000])?;
    sink.write_at(1_400, &[b'x'; 200])?;
    let expected = [(b'o', 500), (b'n', 900), (b'x', 200), (b'o', 400)];
    let expected = expected.into_iter().flat_map(|(byte, times)| vec![byte; times]).collect::<Vec<_>>();
    reads(storage, "a", &expected)
}

pub(super) fn open_sink_keeps_the_bytes(storage: &dyn Storage) -> Checked {
    put(storage, "a", b"0123456789")?;
    drop(storage.open_sink("a")?);
    reads(storage, "a", b"0123456789")?;
    storage.open_sink("a")?.write_at(3, b"xyz")?;
    reads(storage, "a", b"012xyz6789")?;
    storage.open_sink("a")?.write_at(10, b"!")?;
    reads(storage, "a", b"012xyz6789!")
}

pub(super) fn handles_share_bytes(storage: &dyn Storage) -> Checked {
    let (one, two) = (storage.create("a")?, storage.open_sink("a")?);
    let source = storage.open_source("a")?;
    one.write_at(0, b"11111")?;
    two.write_at(3, b"22222")?;
    one.write_at(4, b"3")?;
    drop(one);
    two.sync_data()?;
    same(&content(&*source)?, b"11123222")
}

pub(super) fn readers_see_growth(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    let source = storage.open_source("a")?;
    let mut buffer = [b'-'; 4];
    for written in 0..4_u64 {
        let length = source.length()?;
        holds!(length == written, "a length of {length} after {written} bytes");
        let read = source.read_at(0, &mut buffer)? as u64;
        holds!(read == written, "{read} bytes were read after {written}");
        sink.write_at(written, b"x")?;
    }
    Ok(())
}

pub(super) fn far_offsets_are_refused(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_at(0, b"bytes")?;
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let result = sink.write_at(offset, b"xyz");
        let place = result.as_ref().err().and_then(IoError::offset);
        holds!(place == Some(offset), "a write at {offset}: {result:?}");
    }
    holds!(sink.preallocate(u64::MAX).is_err(), "the largest length was reserved");
    holds!(sink.fill(u64::MAX).is_err(), "the largest length was filled");
    reads(storage, "a", b"bytes")
}

pub(super) fn preallocate_grows(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.preallocate(100_000)?;
    reads(storage, "a", &[0; 100_000])?;
    sink.preallocate(100_001)?;
    reads(storage, "a", &[0; 100_001])
}

pub(super) fn preallocate_keeps(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.preallocate(0)?;
    reads(storage, "a", b"")?;
    sink.write_at(0, b"kept")?;
    sink.preallocate(0)?;
    sink.preallocate(2)?;
    sink.preallocate(4)?;
    reads(storage, "a", b"kept")?;
    sink.preallocate(8)?;
    reads(storage, "a", b"kept\0\0\0\0")
}

pub(super) fn write_synced_writes(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.write_synced_at(0, b"0123456789")?;
    sink.write_synced_at(4, b"xyz")?;
    sink.write_synced_at(20, b"")?;
    sink.write_synced_at(10, b"!")?;
    reads(storage, "a", b"0123xyz789!")
}

pub(super) fn fill_grows(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.fill(100_000)?;
    reads(storage, "a", &[0; 100_000])?;
    sink.write_at(99_999, b"x")?;
    sink.fill(100_002)?;
    let mut expected = vec![0; 100_002];
    expected.splice(99_999..100_000, *b"x");
    reads(storage, "a", &expected)
}

pub(super) fn fill_keeps(storage: &dyn Storage) -> Checked {
    let sink = storage.create("a")?;
    sink.fill(0)?;
    reads(storage, "a", b"")?;
    sink.write_at(0, b"kept")?;
    for length in [0, 2, 4] {
        sink.fill(length)?;
    }
    reads(storage, "a", b"kept")?;
    sink.fill(8)?;
    reads(storage, "a", b"kept\0\0\0\0")
}

pub(super) fn syncs_of_nothing_succeed(storage: &dyn Storage) -> Checked {
    storage.sync_dir()?;
    storage.sync_parents()?;
    let sink = storage.create("a")?;
    for _ in 0..2 {
        sink.sync_data()?;
        sink.sync_all()?;
        storage.sync_dir()?;
        storage.sync_parents()?;
    }
    reads(storage, "a", b"")
}

pub(super) fn threads_share(storage: &dyn Storage) -> Checked {
    const PARTS: u8 = 8;
    let sink = storage.create("a")?;
    let source = storage.open_source("a")?;
    let write = |part: u8| -> Checked {
        for round in 0..50_u64 {
            sink.write_at((round * u64::from(PARTS) + u64::from(part)) * 100, &[part + 1; 100])?;
        }
        sink.sync_data()?;
        let name = format!("{part}");
        put(storage, &name, name.as_bytes())?;
        storage.rename(&name, &format!("{name}x"))?;
        Ok(storage.sync_dir()?)
    };
    let results: Vec<Checked> = thread::scope(|scope| {
        let write = &write;
        let threads: Vec<_> = (0..PARTS).map(|part| scope.spawn(move || write(part))).collect();
        let mut buffer = [0; 100];
        for _ in 0..50 {
            let _ = source.read_at(0, &mut buffer);
        }
        let panicked = |_| Err(Broken("a thread panicked".to_owned()));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    results.into_iter().collect::<Checked>()?;
    let expected: Vec<u8> = (0..50).flat_map(|_| (1..=PARTS).flat_map(|byte| [byte; 100])).collect();
    same(&content(&*source)?, &expected)?;
    let found = storage.list()?.len();
    holds!(found == usize::from(PARTS) + 1, "{found} names");
    Ok(())
}
