//! The traits, the trace, the counts, and the helpers for tests.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use super::super::SimStorage;
use super::{disk_with, durable, fail};
use crate::Storage;

#[test]
fn the_trace_and_the_counts() {
    let disk = SimStorage::new();
    let _lock = disk.lock("LOCK").unwrap();
    let file = disk.create("1").unwrap();
    file.preallocate(4096).unwrap();
    file.write_at(0, &[1; 512]).unwrap();
    fail(&disk, "fail syncall #1 with EIO");
    file.sync_all().unwrap_err();
    file.sync_data().unwrap();
    disk.sync_dir().unwrap();
    disk.sync_parents().unwrap();
    disk.list().unwrap();
    let source = disk.open_source("1").unwrap();
    source.length().unwrap();
    source.read_at(8, &mut [0; 4096]).unwrap();
    disk.rename("1", "2").unwrap();
    file.write_at(512, &[1; 5]).unwrap();
    disk.unlink("2").unwrap();
    disk.unlink("2").unwrap_err();
    disk.create("../x").unwrap_err();
    let expected = [
        "lock LOCK",
        "create 1",
        "preallocate 1 4096",
        "write 1 0+512",
        "syncall 1 = EIO",
        "syncdata 1",
        "syncdir",
        "syncparents",
        "list",
        "open 1",
        "stat 1",
        "read 1 8+4096",
        "rename 1 2",
        "write 2 512+5",
        "unlink 2",
        "unlink 2 = ENOENT",
        "create ../x = EINVAL",
    ];
    assert_eq!(disk.trace(), expected);
    assert_eq!(disk.mutations(), 12);
    disk.clear_trace();
    assert!(disk.trace().is_empty());
    let counts = disk.counts();
    assert_eq!((counts["write"], counts["unlink"], counts["create"], counts.get("sync")), (2, 2, 2, None));
}

#[test]
fn the_traits_say_what_they_promise() {
    let (disk, file) = disk_with("a");
    assert_eq!(disk.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.open_sink("b").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open_source("b").unwrap_err().path(), disk.path().join("b"));
    assert_eq!(disk.rename("b", "c").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.unlink("b").unwrap_err().kind(), ErrorKind::NotFound);
    for bad in ["", ".", "..", "a/b", "a\0"] {
        for result in [
            disk.create(bad).map(drop),
            disk.open_sink(bad).map(drop),
            disk.open_source(bad).map(drop),
            disk.lock(bad).map(drop),
            disk.unlink(bad),
            disk.rename(bad, "x"),
            disk.rename("a", bad),
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }
    file.preallocate(6).unwrap();
    file.preallocate(2).unwrap();
    file.write_at(1, b"xy").unwrap();
    let source = disk.open_source("a").unwrap();
    let mut buffer = [9; 4];
    assert_eq!(source.read_at(0, &mut buffer).unwrap(), 4);
    assert_eq!(&buffer, b"\0xy\0");
    assert_eq!(source.read_at(4, &mut buffer).unwrap(), 2);
    assert_eq!(source.read_at(6, &mut buffer).unwrap(), 0);
    assert_eq!(source.read_at(u64::MAX, &mut buffer).unwrap(), 0);
    let lock = disk.lock("LOCK").unwrap();
    assert_eq!(disk.lock("LOCK").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(disk.open_source("LOCK").unwrap());
    assert_eq!(disk.clone().lock("LOCK").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    disk.lock("LOCK").unwrap();
    assert_eq!(disk.list().unwrap().len(), 2);
    assert_eq!(format!("{disk:?}"), "SimStorage { .. }");
}

#[test]
fn the_helpers() {
    let disk = SimStorage::new();
    disk.write_file("a", b"12");
    disk.write_file("a", "345");
    assert_eq!(disk.locked().files.len(), 1);
    assert_eq!(disk.durable_files(), BTreeMap::from([("a".into(), b"345".to_vec())]));
    assert!(disk.is_published());
    let file = disk.open_sink("a").unwrap();
    file.write_at(3, b"6").unwrap();
    assert!(disk.corrupt("a", |bytes| bytes[0] ^= 1));
    assert!(!disk.corrupt("b", Vec::clear));
    assert_eq!((disk.read_file("a"), durable(&disk, "a")), (Some(b"2456".to_vec()), Some(b"2456".to_vec())));
    assert!(disk.corrupt("a", |bytes| bytes.truncate(1)));
    file.write_at(1, b"78").unwrap();
    file.sync_data().unwrap();
    assert_eq!(durable(&disk, "a").unwrap(), b"278");
    assert_eq!(disk.read_file("b"), None);
    disk.create("c").unwrap();
    assert!(disk.remove("c") && disk.remove("a") && !disk.remove("a"));
    assert!(disk.file_names().is_empty() && disk.durable_files().is_empty());
}

#[test]
fn many_threads_may_use_one_disk() {
    let (disk, file) = disk_with("a");
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let file = &file;
            scope.spawn(move || {
                for step in 0..50 {
                    file.write_at((step * 8 + u64::from(thread)) * 100, &[thread; 100]).unwrap();
                    file.sync_data().unwrap();
                }
            });
        }
    });
    let left = disk.crash(1).read_file("a").unwrap();
    assert_eq!(left.len(), 40_000);
    assert!(left.chunks(800).all(|chunk| (0..8).all(|thread| chunk[usize::from(thread) * 100] == thread)));
}
