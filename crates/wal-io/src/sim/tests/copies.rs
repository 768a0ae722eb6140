//! Copies of a disk that live on, fingerprints, and the hook.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::super::{SimOptions, SimStorage};
use super::{disk_with, durable, fail};
use crate::Storage;

#[test]
fn a_fork_lives_on_its_own() {
    let (disk, file) = disk_with("a");
    file.write_at(0, b"synced").unwrap();
    file.sync_data().unwrap();
    file.write_at(6, b"-pending").unwrap();
    let _lock = disk.lock("LOCK").unwrap();
    fail(&disk, "fail create with EIO");
    let fork = disk.fork();
    assert_eq!((fork.pending(), fork.fingerprint()), (disk.pending(), disk.fingerprint()));
    assert!(fork.trace().is_empty() && !disk.is_frozen());
    let _other_lock = fork.lock("LOCK").unwrap();
    fork.create("b").unwrap();
    file.write_at(0, b"SYNCED").unwrap();
    file.sync_data().unwrap();
    assert_eq!(fork.read_file("a").unwrap(), b"synced-pending");
    assert_eq!(durable(&fork, "a").unwrap(), b"synced");
    assert_eq!(durable(&disk, "a").unwrap(), b"SYNCED-pending");
    assert_eq!(fork.crash_all_kept().read_file("a").unwrap(), b"synced-pending");
    assert_eq!(disk.file_names(), ["LOCK", "a"]);
    file.write_at(0, b"!").unwrap();
}

#[test]
fn histories_that_led_to_the_same_disk_have_the_same_fingerprint() {
    let one = SimStorage::new();
    one.sync_parents().unwrap();
    for name in ["a", "b", "temporary"] {
        one.create(name).unwrap().write_at(0, name.as_bytes()).unwrap();
    }
    one.unlink("temporary").unwrap();
    one.sync_dir().unwrap();
    // Other numbers of files and effects, and zeros that were really written.
    let two = SimStorage::new();
    let b = two.create("b").unwrap();
    let a = two.create("a").unwrap();
    two.sync_dir().unwrap();
    two.sync_parents().unwrap();
    a.write_at(0, b"a").unwrap();
    b.write_at(0, b"b").unwrap();
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_eq!(one.fork().fingerprint(), two.process_crash().fingerprint());
    let (one, two) = (one.crash_all_kept(), two.crash_all_kept());
    assert_eq!(one.fingerprint(), two.fingerprint());
    one.open_sink("a").unwrap().write_at(0, &[0; 9000]).unwrap();
    one.open_sink("a").unwrap().sync_all().unwrap();
    two.corrupt("a", |bytes| *bytes = vec![0; 9000]);
    assert_eq!(one.fingerprint(), two.fingerprint());
}

/// Each step changes what can become of the disk, so no two fingerprints are the same.
#[test]
fn whatever_decides_the_future_is_in_the_fingerprint() {
    let disk = SimStorage::new();
    let mut seen = BTreeSet::new();
    let mut number = 0;
    let mut note = |disk: &SimStorage| {
        number += 1;
        assert!(seen.insert(disk.fingerprint()), "step {number}");
    };
    note(&disk);
    disk.sync_parents().unwrap();
    note(&disk);
    let file = disk.create("a").unwrap();
    note(&disk);
    disk.sync_dir().unwrap();
    note(&disk);
    file.write_at(0, b"x").unwrap();
    note(&disk);
    file.write_at(0, b"x").unwrap();
    note(&disk);
    note(&disk.fork().crash_all_kept());
    let fork = disk.fork();
    note(&fork.crash_with(&mut |pending| pending.to_string().starts_with("size")));
    let fork = disk.fork();
    fail(&fork, "fail syncdata with EIO");
    fork.open_sink("a").unwrap().sync_data().unwrap_err();
    note(&fork);
    let disk = fork.fork();
    let file = disk.open_sink("a").unwrap();
    file.write_at(0, b"z").unwrap();
    note(&disk);
    file.preallocate(5000).unwrap();
    note(&disk);
    file.sync_data().unwrap();
    note(&disk);
    file.write_at(4999, b"y").unwrap();
    note(&disk);
    file.sync_data().unwrap();
    note(&disk);
    disk.rename("a", "b").unwrap();
    note(&disk);
    disk.rename("b", "a").unwrap();
    note(&disk);
    disk.unlink("a").unwrap();
    note(&disk);
    disk.create("a").unwrap();
    note(&disk);
    for byte in [b"p", b"r"] {
        // Readers see the same of both, and a power cut may not leave the same.
        let fork = disk.fork();
        let file = fork.open_sink("a").unwrap();
        file.write_at(0, byte).unwrap();
        file.write_at(0, b"q").unwrap();
        note(&fork);
    }
    disk.set_capacity(Some(1));
    note(&disk);
    note(&SimStorage::with_options(SimOptions { tear: true, ..SimOptions::default() }));
    let with_seed = |seed| SimOptions { failed_sync_seed: Some(seed), ..SimOptions::default() };
    note(&SimStorage::with_options(with_seed(1)));
    note(&SimStorage::with_options(with_seed(2)));
}

#[test]
fn the_hook_sees_every_operation_before_it_is_done() {
    let (disk, file) = disk_with("a");
    let told = Arc::new(Mutex::new(Vec::new()));
    let (hook_disk, hook_told) = (disk.clone(), Arc::clone(&told));
    disk.before_each(Arc::new(move |words: &str| {
        // The disk is free to be looked at, and not yet changed.
        let length = hook_disk.read_file("a").unwrap().len();
        hook_told.lock().unwrap().push(format!("{words}: {length}"));
        if words == "unlink a" {
            hook_disk.crash_after(0);
        }
    }));
    file.write_at(0, b"12").unwrap();
    disk.rename("b", "c").unwrap_err();
    disk.open_source("a").unwrap().read_at(0, &mut [0; 9]).unwrap();
    disk.unlink("a").unwrap_err();
    let told = told.lock().unwrap();
    assert_eq!(*told, ["write a 0+2: 0", "rename b c: 2", "open a: 2", "read a 0+9: 2", "unlink a: 2"]);
    let after = disk.fork();
    after.list().unwrap();
    assert_eq!(told.len(), 5, "a fork has no hook");
}
