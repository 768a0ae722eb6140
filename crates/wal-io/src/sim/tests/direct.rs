//! Files that are written past the cache.

use std::collections::BTreeSet;

use super::super::{SimOptions, SimStorage};
use super::{disk_with_options, durable, fail};
use crate::{Access, Sink, Storage};

/// A durable directory with one empty file, written past the cache.
fn direct(options: SimOptions) -> (SimStorage, std::sync::Arc<dyn Sink>) {
    let (disk, _) = disk_with_options("a", options);
    let sink = disk.open_sink_with("a", Access::Direct).unwrap();
    disk.clear_trace();
    (disk, sink)
}

/// Every content that the seeds leave.
fn outcomes(disk: &SimStorage) -> BTreeSet<Vec<u8>> {
    (0..2000).map(|seed| disk.crash(seed).read_file("a").unwrap()).collect()
}

#[test]
fn t6_the_trace_tells_blocks_and_the_tail_that_is_written_again() {
    let (disk, sink) = direct(SimOptions::default());
    sink.write_synced_at(0, &[1; 100]).unwrap();
    sink.write_at(100, &[2; 1000]).unwrap();
    sink.sync_data().unwrap();
    sink.fill(5000).unwrap();
    sink.write_at(5, b"back").unwrap();
    disk.create_with("b", Access::Direct).unwrap();
    let expected = [
        "write a 0+1024 direct",
        "syncdata a direct",
        "write a 0+2048 direct",
        "syncdata a direct",
        "fill a 5000 direct",
        // Not in order: the block is not the one that is kept.
        "read a 0+1024 direct",
        "write a 0+1024 direct",
        "create b direct",
    ];
    assert_eq!(disk.trace(), expected);
    assert_eq!(disk.read_file("a").unwrap().len(), 5120);
}

/// What was synced in the tail block survives while it is written again, whatever becomes of the rest: the stated assumption.
#[test]
fn i8_a_torn_tail_block_keeps_what_was_synced() {
    let cruel = SimOptions { tear: true, stale: true, failed_sync_seed: Some(3), ..SimOptions::default() };
    for options in [SimOptions::default(), SimOptions::ext4_writeback(), cruel] {
        let (disk, sink) = direct(options);
        sink.write_synced_at(0, &[1; 700]).unwrap();
        sink.write_at(700, &[2; 400]).unwrap();
        let left = outcomes(&disk);
        assert!(left.iter().all(|left| left.starts_with(&[1; 700])));
        let second = |left: &[u8]| (left.get(700).copied(), left.get(1099).copied());
        let seconds: BTreeSet<_> = left.iter().map(|left| second(left)).collect();
        for expected in [(Some(2), Some(2)), (Some(0), Some(2)), (Some(2), Some(0)), (Some(0), None)] {
            assert!(seconds.contains(&expected), "{options:?}: {expected:?} is not among {seconds:?}");
        }
    }
}

/// Where sectors may be spoiled, a tail that is written again may take synced bytes with it; groups that begin at a block's start do not.
#[test]
fn i8_only_padding_to_the_block_helps_where_sectors_are_spoiled() {
    let options = SimOptions { spoil_sectors: true, ..SimOptions::default() };
    for padded in [false, true] {
        let (disk, sink) = direct(options);
        sink.write_synced_at(0, &[1; 100]).unwrap();
        let next = if padded { sink.block_bytes() } else { 100 };
        sink.write_at(next, &[2; 100]).unwrap();
        let safe = outcomes(&disk).iter().all(|left| left.starts_with(&[1; 100]));
        assert_eq!(safe, padded);
        // The second sector was not changed at all, and is written all the same.
        let (disk, sink) = direct(options);
        sink.write_synced_at(0, &[1; 1000]).unwrap();
        sink.write_at(if padded { sink.block_bytes() } else { 1000 }, &[2; 20]).unwrap();
        let safe = outcomes(&disk).iter().all(|left| left.starts_with(&[1; 500]));
        assert_eq!(safe, padded);
    }
}

#[test]
fn a_sector_that_does_not_change_is_not_pending() {
    let (disk, sink) = direct(SimOptions::default());
    sink.write_synced_at(0, &[1; 600]).unwrap();
    sink.write_at(600, &[2; 10]).unwrap();
    let pending: Vec<String> = disk.pending().iter().map(ToString::to_string).collect();
    assert_eq!(pending, ["sector a 512+512"]);
    // Against what is durable, not against what is pending.
    sink.write_at(600, &[0; 10]).unwrap();
    assert_eq!(disk.pending().len(), 2);
    assert_eq!(disk.crash_all_kept().read_file("a").unwrap()[600..610], [0; 10]);
}

#[test]
fn f44_after_a_failed_sync_readers_see_what_is_on_the_disk() {
    for together in [false, true] {
        let (disk, sink) = direct(SimOptions::default());
        sink.write_synced_at(0, b"durable").unwrap();
        fail(&disk, "fail sync #1 with EIO");
        if together {
            sink.write_synced_at(7, b" or not").unwrap_err();
        } else {
            sink.write_at(7, b" or not").unwrap();
            sink.sync_data().unwrap_err();
        }
        assert!(disk.read_file("a").unwrap().starts_with(b"durable\0"));
        assert_eq!(durable(&disk, "a"), disk.read_file("a"));
        // Nor does the sink remember what is not there.
        sink.write_synced_at(15, b"!").unwrap();
        assert!(disk.read_file("a").unwrap().starts_with(b"durable\0\0\0\0\0\0\0\0!\0"));
    }
}

#[test]
fn a_synchronous_write_speaks_of_no_other() {
    let (disk, sink) = direct(SimOptions::default());
    // Another handle's write is none of this one's business.
    disk.open_sink("a").unwrap().write_at(4096, b"pending").unwrap();
    sink.write_synced_at(0, b"synced").unwrap();
    let after = disk.crash_all_lost().read_file("a").unwrap();
    assert!(after.starts_with(b"synced") && after.len() == 1024, "{} bytes", after.len());
    // Its own is.
    let (disk, sink) = direct(SimOptions::default());
    sink.write_at(4096, b"pending").unwrap();
    sink.write_synced_at(0, b"synced").unwrap();
    assert!(disk.crash_all_lost().read_file("a").unwrap()[4096..].starts_with(b"pending"));
}

#[test]
fn zeros_are_pending_like_any_bytes() {
    for access in [Access::Cached, Access::Direct] {
        let (disk, _) = disk_with_options("a", SimOptions::default());
        let sink = disk.open_sink_with("a", access).unwrap();
        sink.write_synced_at(0, b"kept").unwrap();
        sink.fill(3000).unwrap();
        let lengths: BTreeSet<usize> = outcomes(&disk.fork()).iter().map(Vec::len).collect();
        assert!(lengths.len() > 2, "{lengths:?}");
        sink.sync_all().unwrap();
        assert!(disk.pending().is_empty());
        let after = disk.crash_all_lost().read_file("a").unwrap();
        assert!(
            after.len() >= 3000 && after[4..].iter().all(|byte| *byte == 0) && after.starts_with(b"kept")
        );
        let (full, _) = disk_with_options("a", SimOptions::default());
        full.set_capacity(Some(2000));
        let sink = full.open_sink_with("a", access).unwrap();
        assert_eq!(sink.fill(2001).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(full.read_file("a").unwrap(), b"");
    }
}
