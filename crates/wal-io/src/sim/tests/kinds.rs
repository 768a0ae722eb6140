//! Kinds of disks: what each may leave, and may not.

use std::collections::BTreeSet;

use super::super::{SimOptions, SimStorage};
use super::{disk_with, disk_with_options};
use crate::Storage;

/// What may become of a file of 512 synced bytes when its second half is written again, over many seeds.
fn rewritten(options: SimOptions) -> BTreeSet<Vec<u8>> {
    let (disk, file) = disk_with_options("a", options);
    file.write_at(0, &[1; 512]).unwrap();
    file.sync_data().unwrap();
    file.write_at(256, &[2; 256]).unwrap();
    (0..1000).map(|seed| disk.crash(seed).read_file("a").unwrap()).collect()
}

#[test]
fn synced_bytes_in_a_torn_sector_are_safe_unless_the_disk_spoils_sectors() {
    let torn = rewritten(SimOptions { tear: true, ..SimOptions::default() });
    assert!(torn.len() > 20 && torn.iter().all(|left| left.starts_with(&[1; 256])));
    for tear in [false, true] {
        let spoilt = rewritten(SimOptions { tear, spoil_sectors: true, ..SimOptions::default() });
        assert!(spoilt.iter().any(|left| !left.starts_with(&[1; 256])));
        assert!(spoilt.iter().all(|left| left.len() == 512));
    }
    let quiet = SimOptions { garbage: false, spoil_sectors: true, ..SimOptions::default() };
    assert_eq!(rewritten(quiet).len(), 2);
}

#[test]
fn old_bytes_of_a_deleted_file_show_in_a_new_one() {
    let old: Vec<u8> = (1..=8).flat_map(|sector| [sector; 512]).collect();
    let lefts = |options: SimOptions| -> Vec<Vec<u8>> {
        let disk = SimStorage::with_options(options);
        disk.write_file("old", old.as_slice());
        disk.unlink("old").unwrap();
        disk.sync_dir().unwrap();
        let disk = disk.process_crash();
        let file = disk.create("new").unwrap();
        disk.sync_dir().unwrap();
        file.write_at(0, &[0xEE; 1024]).unwrap();
        (0..2000).map(|seed| disk.crash(seed).read_file("new").unwrap()).collect()
    };
    let stale =
        |left: &Vec<u8>| left.chunks_exact(512).any(|sector| old.chunks(512).any(|old| old == sector));
    let with = lefts(SimOptions { stale: true, ..SimOptions::default() });
    assert!(with.iter().any(|left| left.get(512..1024) == old.get(512..1024)), "at the same place");
    assert!(with.iter().any(|left| left.starts_with(&[8; 512])), "from anywhere");
    assert!(
        with.iter().any(|left| left.len() == 1024
            && left.iter().any(|byte| !old.contains(byte) && ![0, 0xEE].contains(byte))),
        "random bytes, too"
    );
    assert!(!lefts(SimOptions::default()).iter().any(stale));
    assert!(lefts(SimOptions::ext4_writeback()).iter().any(stale));
    assert!(!lefts(SimOptions::ext4()).iter().any(stale));
    // Synced bytes are never stale.
    let disk = SimStorage::with_options(SimOptions { stale: true, ..SimOptions::default() });
    disk.write_file("a", old.as_slice());
    disk.remove("a");
    disk.write_file("b", [0; 1024]);
    disk.open_sink("b").unwrap().write_at(0, &[0; 1024]).unwrap();
    disk.open_sink("b").unwrap().sync_data().unwrap();
    for seed in 0..100 {
        assert_eq!(disk.crash(seed).read_file("b").unwrap(), [0; 1024]);
    }
}

#[test]
fn what_is_left_of_deleted_files_is_in_the_fingerprint_where_it_matters() {
    for (stale, differ) in [(true, true), (false, false)] {
        let disk = |byte: u8| {
            let disk = SimStorage::with_options(SimOptions { stale, ..SimOptions::default() });
            disk.write_file("a", [byte]);
            disk.remove("a");
            disk.fingerprint()
        };
        assert_eq!(disk(1) != disk(2), differ);
    }
}

#[test]
fn ext4_keeps_names_in_the_order_of_the_journal() {
    let work = |options: SimOptions| {
        let disk = SimStorage::with_options(options);
        disk.write_file("a", "a");
        disk.create("b").unwrap();
        disk.rename("a", "c").unwrap();
        disk.unlink("b").unwrap();
        disk.create("d").unwrap();
        disk
    };
    let names = |disk: SimStorage| disk.file_names().join(" ");
    let outcomes = |options: SimOptions| -> BTreeSet<String> {
        (0..500).map(|seed| names(work(options).crash(seed))).collect()
    };
    let prefixes = ["a", "a b", "b c", "c", "c d"].map(str::to_owned);
    assert_eq!(outcomes(SimOptions::ext4()), BTreeSet::from(prefixes.clone()));
    assert_eq!(outcomes(SimOptions::ext4_writeback()), BTreeSet::from(prefixes));
    assert_eq!(outcomes(SimOptions::default()).len(), 8, "with and without c, b, d");
    // What comes after a lost one is lost, whatever is asked for.
    let mut turn = 0;
    let after = work(SimOptions::ext4()).crash_with(&mut |_| {
        turn += 1;
        turn != 2
    });
    assert_eq!(names(after), "a b");
}

#[test]
fn ext4_has_no_size_ahead_of_the_data_unless_in_writeback_mode() {
    let lefts = |options: SimOptions| -> BTreeSet<Vec<u8>> {
        let (disk, file) = disk_with_options("a", options);
        file.write_at(0, &[5; 300]).unwrap();
        file.sync_data().unwrap();
        file.write_at(300, &[5; 1700]).unwrap();
        (0..1000).map(|seed| disk.crash(seed).read_file("a").unwrap()).collect()
    };
    let whole = |left: &Vec<u8>| left.len() >= 300 && left.iter().all(|byte| *byte == 5);
    let ordered = lefts(SimOptions::ext4());
    assert!(ordered.len() >= 5 && ordered.iter().all(whole));
    assert!(lefts(SimOptions::ext4_writeback()).iter().any(|left| !whole(left)));

    // Reserved space reads as zeros, and counts.
    let (disk, file) = disk_with_options("a", SimOptions::ext4());
    file.preallocate(1024).unwrap();
    file.write_at(0, &[5; 512]).unwrap();
    let after = disk.fork().crash_with(&mut |pending| pending.to_string().starts_with("size"));
    assert_eq!(after.read_file("a").unwrap(), [0; 1024]);
    file.write_at(1000, &[5; 100]).unwrap();
    let after = disk.crash_with(&mut |pending| pending.to_string().starts_with("size"));
    assert_eq!(after.read_file("a").unwrap(), [0; 1024]);
    // A sector that was there and was lost when written again is not a hole.
    let (disk, file) = disk_with_options("a", SimOptions::ext4());
    file.write_at(0, b"old").unwrap();
    file.write_at(0, b"new").unwrap();
    let mut sectors = 0;
    let after = disk.crash_with(&mut |pending| {
        sectors += u32::from(pending.to_string().starts_with("sector"));
        sectors < 2
    });
    assert_eq!(after.read_file("a").unwrap(), b"old");
}

#[test]
fn a_full_disk_may_say_so_only_at_sync() {
    let (disk, file) = disk_with("a");
    super::fail(&disk, "fail sync #1 with ENOSPC");
    file.write_at(0, b"x").unwrap();
    assert_eq!(file.sync_data().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    file.sync_data().unwrap();
    assert_eq!(disk.crash_all_kept().read_file("a").unwrap(), b"");
}
