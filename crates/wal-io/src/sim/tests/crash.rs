//! What survives a crash, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use super::super::rng::Rng;
use super::super::{Gone, Pending, SimOptions, SimStorage};
use super::{assert_dead, disk_with, disk_with_options, durable, fail};
use crate::Storage;

const CRUEL: SimOptions = SimOptions {
    tear: true,
    spoil_sectors: false,
    garbage: true,
    stale: true,
    ordered_names: false,
    data_before_size: false,
    split_renames: true,
    lose_names: true,
    failed_sync_seed: Some(5),
};

#[test]
fn synced_data_is_never_lost() {
    for seed in 0..1000 {
        let options = if seed % 2 == 0 { SimOptions::default() } else { CRUEL };
        let (disk, first) = disk_with_options("f0", options);
        let mut rng = Rng::new(seed);
        let mut files = vec![(first, Vec::new(), Vec::new())];
        for step in 0..40_u8 {
            let pick = usize::try_from(rng.next()).unwrap() % files.len();
            match rng.next() % 8 {
                0 => {
                    let name = format!("f{}", files.len());
                    files.push((disk.create(&name).unwrap(), Vec::new(), Vec::new()));
                    disk.sync_dir().unwrap();
                }
                1 | 2 => {
                    let (file, written, synced) = &mut files[pick];
                    file.sync_data().unwrap();
                    synced.clone_from(written);
                }
                3 => files[pick].0.preallocate(rng.next() % 5000).unwrap(),
                _ => {
                    let (file, written, _): &mut (_, Vec<u8>, Vec<u8>) = &mut files[pick];
                    let bytes = vec![step + 1; usize::try_from(rng.next() % 1500).unwrap()];
                    file.write_at(written.len() as u64, &bytes).unwrap();
                    written.extend(bytes);
                }
            }
        }
        let after = disk.crash(seed);
        for (number, (_, _, synced)) in files.iter().enumerate() {
            let left = after.read_file(&format!("f{number}")).unwrap();
            assert!(left.starts_with(synced), "seed {seed}, file {number}");
            assert_eq!(durable(&after, &format!("f{number}")), Some(left));
        }
        assert!(after.pending().is_empty());
    }
}

#[test]
fn a_seed_replays() {
    let work = || {
        let disk = SimStorage::with_options(CRUEL);
        for name in ["a", "b", "c"] {
            disk.create(name).unwrap().write_at(700, &[7; 3000]).unwrap();
            disk.rename(name, &format!("{name}2")).unwrap();
        }
        disk
    };
    let outcomes: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (one, two) = (work().crash(seed), work().crash(seed));
            assert_eq!(one.durable_files(), two.durable_files());
            one.durable_files()
        })
        .collect();
    assert!(outcomes.len() > 20);
}

/// What may become of 2048 bytes that were written and not synced, over many seeds.
#[test]
fn unsynced_bytes_meet_every_fate() {
    let (disk, file) = disk_with("a");
    file.write_at(0, &[9; 2048]).unwrap();
    let lefts: BTreeSet<Vec<u8>> = (0..1000).map(|seed| disk.crash(seed).read_file("a").unwrap()).collect();
    let whole = |left: &[u8], sector: usize, byte: u8| {
        left.get(sector * 512..(sector + 1) * 512) == Some([byte; 512].as_slice())
    };
    assert!(lefts.contains([9; 2048].as_slice()), "all kept");
    assert!(lefts.contains([].as_slice()), "all lost, or data without size");
    assert!(lefts.contains([0; 2048].as_slice()), "size ahead of data");
    assert!(lefts.iter().any(|left| whole(left, 0, 0) && whole(left, 1, 9)), "later without earlier");
    assert!(lefts.iter().any(|left| left.len() == 1024), "the size grew in part");
    assert!(lefts.iter().flatten().any(|byte| *byte != 0 && *byte != 9), "garbage");
    // Sectors are atomic: garbage aside, no sector is mixed.
    let clean = lefts.iter().filter(|left| left.iter().all(|byte| *byte == 0 || *byte == 9));
    for left in clean {
        assert_eq!(left.len() % 512, 0);
        assert!((0..left.len() / 512).all(|sector| whole(left, sector, 0) || whole(left, sector, 9)));
    }
}

#[test]
fn bytes_that_were_cut_off_do_not_come_back_when_the_file_grows() {
    let (disk, file) = disk_with("a");
    file.write_at(0, b"abc").unwrap();
    file.sync_data().unwrap();
    file.write_at(3, b"def").unwrap();
    let after = disk.crash_with(&mut |pending| matches!(pending, Pending::Sector { .. }));
    assert_eq!(after.read_file("a").unwrap(), b"abc");
    after.open_sink("a").unwrap().preallocate(6).unwrap();
    assert_eq!(after.read_file("a").unwrap(), b"abc\0\0\0");
    assert_eq!(after.crash_all_kept().read_file("a").unwrap(), b"abc\0\0\0");
}

#[test]
fn overwritten_sectors_are_old_or_new_unless_torn() {
    for tear in [false, true] {
        let (disk, file) = disk_with_options("a", SimOptions { tear, ..SimOptions::default() });
        file.write_at(0, &[1; 512]).unwrap();
        file.sync_data().unwrap();
        file.write_at(0, &[2; 512]).unwrap();
        let lefts: BTreeSet<Vec<u8>> =
            (0..1000).map(|seed| disk.crash(seed).read_file("a").unwrap()).collect();
        let torn = lefts.iter().any(|left| left.starts_with(&[2]) && left.ends_with(&[1]));
        let garbage = lefts.iter().any(|left| left.iter().any(|byte| *byte > 2));
        assert_eq!((torn, garbage), (tear, tear));
        assert_eq!(lefts.len() == 2, !tear);
    }
}

#[test]
fn every_subset_can_be_explored() {
    let (disk, file) = disk_with("a");
    file.write_at(500, &[3; 24]).unwrap();
    disk.rename("a", "b").unwrap();
    disk.create("c").unwrap();
    disk.unlink("c").unwrap();
    let shown: Vec<String> = disk.pending().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["size b 524", "sector b 500+12", "sector b 512+12", "rename a b", "create c", "unlink c"]
    );
    let mut outcomes = BTreeMap::new();
    for subset in 0..1 << shown.len() {
        let mut bit = 0;
        let after = disk.crash_with(&mut |_| {
            bit += 1;
            subset >> (bit - 1) & 1 == 1
        });
        *outcomes.entry(after.durable_files()).or_insert(0) += 1;
    }
    // The file has one of two names, and one of four contents or none; c is there if its creation survived alone.
    assert_eq!(outcomes.len(), 2 * 5 * 2);
    assert_eq!(outcomes.values().sum::<i32>(), 64);
    assert_eq!(disk.crash_all_lost().durable_files(), BTreeMap::from([("a".into(), vec![])]));
    let mut all = vec![0; 500];
    all.extend([3; 24]);
    assert_eq!(disk.crash_all_kept().durable_files(), BTreeMap::from([("b".into(), all)]));
}

#[test]
fn names_survive_apart_and_renames_are_old_or_new() {
    let disk = SimStorage::new();
    disk.sync_parents().unwrap();
    for name in ["a", "b"] {
        disk.write_file(name, name);
    }
    disk.rename("a", "a2").unwrap();
    disk.rename("a2", "a3").unwrap();
    disk.unlink("b").unwrap();
    disk.create("c").unwrap();
    let outcomes: BTreeSet<Vec<String>> = (0..1000).map(|seed| disk.crash(seed).file_names()).collect();
    assert_eq!(outcomes.len(), 3 * 2 * 2);
    for names in &outcomes {
        assert_eq!(names.iter().filter(|name| name.starts_with('a')).count(), 1, "{names:?}");
    }
    disk.crash(3).sync_dir().unwrap();
}

#[test]
fn split_renames_leave_both_names_or_none() {
    let disk = SimStorage::with_options(SimOptions { split_renames: true, ..SimOptions::default() });
    disk.write_file("a", "x");
    disk.rename("a", "b").unwrap();
    assert_eq!(disk.file_names(), ["b"]);
    let outcomes: BTreeSet<Vec<String>> = (0..200).map(|seed| disk.crash(seed).file_names()).collect();
    assert_eq!(outcomes.len(), 4);
}

#[test]
fn a_rename_onto_a_file_keeps_one_of_the_two() {
    let disk = SimStorage::new();
    disk.write_file("new", "n");
    disk.write_file("old", "o");
    disk.rename("new", "old").unwrap();
    assert_eq!(disk.read_file("old").unwrap(), b"n");
    assert_eq!(disk.crash_all_lost().read_file("old").unwrap(), b"o");
    assert_eq!(disk.crash_all_kept().file_names(), ["old"]);
    assert_eq!(disk.crash_all_kept().read_file("old").unwrap(), b"n");
}

#[test]
fn the_directory_itself_may_vanish() {
    let disk = SimStorage::new();
    let file = disk.create("a").unwrap();
    file.write_at(0, b"x").unwrap();
    file.sync_all().unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.pending(), [Pending::Directory]);
    assert!(disk.durable_files().is_empty());
    let lost = disk.crash_all_lost();
    assert!(lost.file_names().is_empty() && !lost.is_published());
    let kept = disk.crash_all_kept();
    assert!(kept.read_file("a").is_some() && kept.is_published());
    let kept: BTreeSet<bool> = (0..50).map(|seed| disk.crash(seed).is_published()).collect();
    assert_eq!(kept.len(), 2);
    let again = disk.process_crash();
    assert!(!again.is_published());
    again.sync_parents().unwrap();
    assert_eq!(again.crash_all_lost().read_file("a").unwrap(), b"x");
}

#[test]
fn the_dead_stay_dead() {
    for crash in [SimStorage::crash_all_kept, SimStorage::process_crash] {
        let (disk, file) = disk_with("a");
        let source = disk.open_source("a").unwrap();
        let lock = disk.lock("LOCK").unwrap();
        let after = crash(&disk);
        assert_dead(&disk, &*file, Gone::Replaced);
        assert_eq!(Gone::of(&source.length().unwrap_err()), Some(Gone::Replaced));
        assert_eq!(Gone::of(&source.read_at(0, &mut [0; 4]).unwrap_err()), Some(Gone::Replaced));
        assert!(disk.is_frozen() && !after.is_frozen());
        // The zombie's lock neither blocks nor, dropped, frees the lock of the living.
        let _held = after.lock("LOCK").unwrap();
        drop(lock);
        assert_eq!(after.lock("LOCK").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(after.read_file("a").unwrap(), b"");
        assert_eq!(after.trace(), ["lock LOCK", "lock LOCK = EWOULDBLOCK"]);
    }
}

#[test]
fn the_end_of_a_process_loses_nothing_and_syncs_nothing() {
    let (disk, file) = disk_with("a");
    file.write_at(0, b"pending").unwrap();
    disk.create("b").unwrap();
    let pending = disk.pending();
    let after = disk.process_crash();
    assert_eq!(after.read_file("a").unwrap(), b"pending");
    assert_eq!(after.pending(), pending);
    assert_eq!(after.crash_all_lost().durable_files(), BTreeMap::from([("a".into(), vec![])]));
    let after = after.process_crash();
    let file = after.open_sink("a").unwrap();
    file.write_at(7, b"!").unwrap();
    file.sync_data().unwrap();
    assert_eq!(after.crash_all_lost().read_file("a").unwrap(), b"pending!");
}

#[test]
fn every_crash_point_can_be_visited() {
    let work = |disk: &SimStorage| -> Result<(), crate::IoError> {
        disk.sync_parents()?;
        let file = disk.create("t")?;
        file.write_at(0, b"0123")?;
        file.sync_data()?;
        disk.list()?;
        disk.rename("t", "a")?;
        disk.sync_dir()
    };
    let mut points = 0;
    loop {
        let disk = SimStorage::new();
        disk.crash_after(points);
        let done = work(&disk);
        assert_eq!(disk.mutations(), points);
        assert!(disk.is_frozen());
        if let Err(error) = &done {
            assert_eq!(Gone::of(error), Some(Gone::Frozen));
        }
        let after = disk.crash_all_lost();
        assert_eq!(after.read_file("a").is_some(), done.is_ok());
        if done.is_ok() {
            break;
        }
        points += 1;
    }
    assert_eq!(points, 6);
}

#[test]
fn without_power_nothing_works() {
    let (disk, file) = disk_with("a");
    disk.crash_after(1);
    assert!(!disk.is_frozen());
    file.write_at(0, b"last").unwrap();
    assert_dead(&disk, &*file, Gone::Frozen);
    assert_eq!(disk.crash_all_kept().read_file("a").unwrap(), b"last");
    // Or the process was killed at that point.
    let after = disk.process_crash();
    assert!(!after.is_frozen());
    after.open_sink("a").unwrap().sync_data().unwrap();
    assert_eq!(durable(&after, "a").unwrap(), b"last");
}

#[test]
fn unlinked_files_live_as_long_as_their_handles() {
    let (disk, file) = disk_with("a");
    let source = disk.open_source("a").unwrap();
    disk.unlink("a").unwrap();
    disk.sync_dir().unwrap();
    file.write_at(0, b"still").unwrap();
    file.sync_data().unwrap();
    assert_eq!(source.length().unwrap(), 5);
    assert!(disk.pending().is_empty() && disk.file_names().is_empty());
    drop((source, file));
    disk.sync_dir().unwrap();
    assert_eq!(disk.locked().files.len(), 0);
}

#[test]
fn a_failed_sync_of_names_leaves_them_pending_or_loses_them() {
    for lose_names in [false, true] {
        let disk = SimStorage::with_options(SimOptions { lose_names, ..SimOptions::default() });
        disk.sync_parents().unwrap();
        disk.create("a").unwrap();
        fail(&disk, "fail syncdir #1 with EIO");
        disk.sync_dir().unwrap_err();
        assert_eq!(disk.file_names(), ["a"]);
        disk.sync_dir().unwrap();
        assert_eq!(durable(&disk, "a").is_none(), lose_names);
    }
}

#[test]
fn an_unlink_never_takes_a_later_file_of_that_name() {
    let disk = SimStorage::new();
    disk.write_file("a", "old");
    disk.unlink("a").unwrap();
    let file = disk.create("a").unwrap();
    file.write_at(0, b"new").unwrap();
    file.sync_all().unwrap();
    let outcomes: BTreeSet<_> = (0..200).map(|seed| disk.crash(seed).read_file("a")).collect();
    assert_eq!(outcomes, BTreeSet::from([None, Some(b"old".to_vec()), Some(b"new".to_vec())]));
    // The rename is lost, so that the name stays; the unlink was of the other file.
    let disk = SimStorage::new();
    disk.write_file("a", "a");
    disk.write_file("b", "b");
    disk.rename("b", "a").unwrap();
    disk.unlink("a").unwrap();
    let after = disk.crash_with(&mut |pending| matches!(pending, Pending::Unlink { .. }));
    assert_eq!(after.file_names(), ["a", "b"]);
}

#[test]
fn the_next_disk_goes_on_where_this_one_ended() {
    let options = SimOptions { split_renames: true, ..SimOptions::default() };
    for crash in [SimStorage::crash_all_kept, SimStorage::process_crash] {
        let (disk, file) = disk_with_options("a", options);
        disk.set_capacity(Some(4));
        file.write_at(0, b"aa").unwrap();
        file.sync_data().unwrap();
        fail(&disk, "fail create with EIO");
        disk.crash_after(0);
        let after = crash(&disk);
        assert_eq!((after.mutations(), after.counts().len()), (0, 0));
        let other = after.create("b").unwrap();
        other.write_at(0, b"bbb").unwrap_err();
        assert_eq!(after.read_file("a").unwrap(), b"aa");
        assert_eq!(after.read_file("b").unwrap(), b"bb");
        after.rename("a", "c").unwrap();
        let shown: Vec<String> = after.pending().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["create b", "size b 2", "sector b 0+2", "link c", "unlink a"]);
    }
}
