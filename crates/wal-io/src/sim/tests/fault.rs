//! Faults: the words, whom they strike, what they leave behind.

use std::io::ErrorKind;

use super::super::{Fault, FaultError, SimOptions, SimStorage};
use super::{disk_with, disk_with_options, durable, fail};
use crate::{Operation, Storage};

#[test]
fn good_words() {
    for words in [
        "fail sync #3 of *.wal with EIO",
        "fail write of a with ENOSPC after 100 bytes",
        "fail syncdir #2+ with EDQUOT",
        "fail create with EACCES",
        "fail list with EROFS",
        "fail open of * with EMFILE",
        "fail preallocate #1 with ENOMEM",
        "fail lock of LOCK with EFBIG",
        "fail any 1 in 10 seed 7 with EPERM",
        "fail preallocate with EOPNOTSUPP",
        "lose write #2 of *.wal",
        "lose sync 1 in 3 seed 0",
        "lose syncdir #1",
        "misdirect write #1 of *.wal to 512",
        "misdirect write to 000001.wal 4096",
        "short write #2 of *.wal",
        "short write after 7 bytes",
        "interrupt read #1",
        "slow sync #1",
        "flip bit 4096 of 000001.wal",
        "flip bit seed 9 of *.wal",
    ] {
        assert_eq!(Fault::parse(words).unwrap().to_string(), words);
    }
    let either = "  fail write after 1 byte  with EIO of x ".parse::<Fault>().unwrap();
    assert_eq!(either, Fault::parse("fail write of x with EIO after 1 bytes").unwrap());
    for word in "create open stat read write sync syncdata syncall syncdir syncparents unlink rename \
                 preallocate list lock"
        .split_whitespace()
    {
        Fault::parse(&format!("fail {word} with EIO")).unwrap();
    }
}

#[test]
fn bad_words() {
    let bad = |words: &str| Fault::parse(words).unwrap_err();
    let word = |word: &str| word.to_owned();
    assert_eq!(bad(""), FaultError::Missing("the fault"));
    assert_eq!(bad("break sync"), FaultError::UnknownAction(word("break")));
    assert_eq!(bad("lose read"), FaultError::NotLosable(word("read")));
    assert_eq!(bad("lose any"), FaultError::NotLosable(word("any")));
    assert_eq!(bad("lose write with EIO"), FaultError::Unexpected(word("with")));
    assert_eq!(bad("misdirect sync to 5"), FaultError::NotAWrite(word("sync")));
    assert_eq!(bad("misdirect write"), FaultError::Missing("`to` and an offset"));
    assert_eq!(bad("misdirect write to"), FaultError::Missing("the offset after `to`"));
    assert_eq!(bad("misdirect write to a"), FaultError::BadNumber(word("a")));
    assert_eq!(bad("short read"), FaultError::NotAWrite(word("read")));
    assert_eq!(bad("slow read after 1 bytes"), FaultError::Unexpected(word("after")));
    assert_eq!(bad("interrupt read 1 on 2"), FaultError::Unexpected(word("on")));
    assert_eq!(bad("interrupt read 1 in 0 seed 2"), FaultError::BadNumber(word("0")));
    assert_eq!(bad("interrupt read 1 in 5"), FaultError::Missing("`seed`"));
    assert_eq!(bad("flip bit of a"), FaultError::BadNumber(word("of")));
    assert_eq!(bad("flip bit 5"), FaultError::Missing("`of`"));
    assert_eq!(bad("flip bit 5 of a b"), FaultError::Unexpected(word("b")));
    assert_eq!(bad("fail"), FaultError::Missing("the operation"));
    assert_eq!(bad("fail fsync with EIO"), FaultError::UnknownOperation(word("fsync")));
    for turn in ["#", "#0", "#x", "#+3", "##3", "#3++", "#-1", "#99999999999999999999"] {
        assert_eq!(bad(&format!("fail sync {turn} with EIO")), FaultError::BadTurn(word(turn)));
    }
    assert_eq!(bad("fail sync with EBADF"), FaultError::UnknownError(word("EBADF")));
    assert_eq!(bad("fail sync"), FaultError::Missing("`with` and an error"));
    assert_eq!(bad("fail sync with"), FaultError::Missing("the error after `with`"));
    assert_eq!(bad("fail sync of"), FaultError::Missing("the file name after `of`"));
    assert_eq!(bad("fail list of a with EIO"), FaultError::NoFile(word("list")));
    assert_eq!(bad("fail write with EIO after x bytes"), FaultError::BadByteCount(word("x")));
    assert_eq!(bad("fail write with EIO after 3 miles"), FaultError::BadByteCount(word("3 miles")));
    assert_eq!(bad("fail write with EIO after 3"), FaultError::Missing("`bytes`"));
    assert_eq!(bad("fail write with EIO after"), FaultError::Missing("the number after `after`"));
    assert_eq!(bad("fail read with EIO after 3 bytes"), FaultError::NotAWrite(word("read")));
    assert_eq!(bad("fail read with EIO now"), FaultError::Unexpected(word("now")));
    assert_eq!(bad("fail read with EIO with EIO"), FaultError::Unexpected(word("with")));
    assert_eq!(bad("fail fsync").to_string(), "there is no operation `fsync`");
}

#[test]
fn turns_and_globs() {
    let strikes = |words: &str, names: &[&str]| -> Vec<bool> {
        let disk = SimStorage::new();
        fail(&disk, words);
        names.iter().map(|name| disk.create(name).is_err()).collect()
    };
    assert_eq!(strikes("fail create with EIO", &["a", "b"]), [true, true]);
    assert_eq!(strikes("fail create #2 with EIO", &["a", "b", "c"]), [false, true, false]);
    assert_eq!(strikes("fail create #2+ with EIO", &["a", "b", "c"]), [false, true, true]);
    let names = ["1.wal", "1.tmp", "2.wal", ".wal", "x.wal.y"];
    assert_eq!(strikes("fail create #2 of *.wal with EIO", &names), [false, false, true, false, false]);
    assert_eq!(strikes("fail create of *.wal with EIO", &names), [true, false, true, true, false]);
    assert_eq!(strikes("fail create of *.wal* with EIO", &names), [true, false, true, true, true]);
    assert_eq!(strikes("fail create of *1*t*p with EIO", &names), [false, true, false, false, false]);
    assert_eq!(strikes("fail create of 1.*1.wal with EIO", &["1.wal", "1.1.wal"]), [false, true]);
    assert_eq!(strikes("fail create of 2.wal with EIO", &names), [false, false, true, false, false]);
    assert_eq!(strikes("fail sync with EIO", &names), [false; 5]);

    // The first that was added strikes, and the others have still seen the operation.
    let disk = SimStorage::new();
    fail(&disk, "fail create #1+ with ENOSPC");
    fail(&disk, "fail create #1 with EIO");
    assert_eq!(disk.create("a").unwrap_err().raw_os_error(), Some(28));
    assert_eq!(disk.create("a").unwrap_err().raw_os_error(), Some(28));
    disk.clear_faults();
    disk.create("a").unwrap();

    let (disk, file) = disk_with("a");
    fail(&disk, "fail rename of b with EIO");
    disk.rename("a", "b").unwrap_err();
    disk.rename("a", "c").unwrap();
    disk.rename("c", "b").unwrap_err();
    fail(&disk, "fail syncall with EIO");
    file.sync_data().unwrap();
    file.sync_all().unwrap_err();
    disk.clear_faults();
    file.sync_all().unwrap();
}

#[test]
fn faults_have_no_effect_but_their_error() {
    let (disk, file) = disk_with("a");
    file.write_at(0, b"12345").unwrap();
    for (word, raw) in [("EIO", 5), ("ENOSPC", 28), ("EACCES", 13), ("EROFS", 30), ("EMFILE", 24)] {
        disk.clear_faults();
        for operation in ["create", "open", "read", "rename", "unlink", "list", "lock", "preallocate", "stat"]
        {
            fail(&disk, &format!("fail {operation} #1 with {word}"));
        }
        let code = |error: crate::IoError| assert_eq!(error.raw_os_error(), Some(raw));
        code(disk.create("b").unwrap_err());
        code(disk.open_source("a").unwrap_err());
        code(disk.rename("a", "b").unwrap_err());
        code(disk.unlink("a").unwrap_err());
        code(disk.list().unwrap_err());
        code(disk.lock("LOCK").unwrap_err());
        code(file.preallocate(10).unwrap_err());
        let source = disk.open_source("a").unwrap();
        code(source.read_at(0, &mut [0; 4]).unwrap_err());
        code(source.length().unwrap_err());
        assert_eq!(source.length().unwrap(), 5);
        assert_eq!(disk.file_names(), ["a"]);
    }
    let (disk, _) = disk_with("a");
    let fresh = SimStorage::new();
    fail(&fresh, "fail syncparents #1 with EIO");
    assert_eq!(fresh.sync_parents().unwrap_err().operation(), Operation::SyncDirectory);
    assert!(!fresh.is_published());
    assert!(disk.is_published());
}

#[test]
fn what_a_failed_sync_dropped_never_becomes_durable() {
    let (disk, file) = disk_with("a");
    file.write_at(0, b"first").unwrap();
    file.sync_data().unwrap();
    file.write_at(5, b"-second").unwrap();
    fail(&disk, "fail sync #1 with EIO");
    assert_eq!(file.sync_data().unwrap_err().operation(), Operation::SyncData);
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    assert!(disk.pending().is_empty());
    assert_eq!(disk.read_file("a").unwrap(), b"first-second");
    // The next process reads it, too, and its syncs prove nothing either.
    let disk = disk.process_crash();
    let file = disk.open_sink("a").unwrap();
    file.sync_all().unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"first-second");
    for seed in 0..20 {
        assert_eq!(disk.crash(seed).read_file("a").unwrap(), b"first");
    }
    assert_eq!(disk.crash_all_kept().read_file("a").unwrap(), b"first");
}

#[test]
fn after_a_failed_sync_later_bytes_leave_a_hole_and_the_same_bytes_are_pending_again() {
    let (disk, file) = disk_with("a");
    file.write_at(0, b"lost").unwrap();
    fail(&disk, "fail syncdata #1 with ENOSPC");
    file.sync_data().unwrap_err();
    file.write_at(4, b"kept").unwrap();
    file.sync_data().unwrap();
    assert_eq!(durable(&disk, "a").unwrap(), b"\0\0\0\0kept");
    file.write_at(0, b"lost").unwrap();
    file.sync_data().unwrap();
    assert_eq!(durable(&disk, "a").unwrap(), b"lostkept");

    let (disk, file) = disk_with("b");
    file.write_at(0, b"lost").unwrap();
    fail(&disk, "fail syncdata #1 with ENOSPC");
    file.sync_data().unwrap_err();
    file.write_at(0, b"lost").unwrap();
    file.sync_data().unwrap();
    assert_eq!(durable(&disk, "b").unwrap(), b"lost");
}

#[test]
fn with_a_seed_a_failed_sync_leaves_a_part() {
    let lefts = (0..200).map(|seed| {
        let options = SimOptions { failed_sync_seed: Some(seed), ..SimOptions::default() };
        let (disk, file) = disk_with_options("a", options);
        file.write_at(0, &[1; 1024]).unwrap();
        fail(&disk, "fail sync with EIO");
        file.sync_data().unwrap_err();
        durable(&disk, "a").unwrap()
    });
    let lefts: std::collections::BTreeSet<_> = lefts.collect();
    // No size; or size, with each of the two sectors there or not.
    assert_eq!(lefts.len(), 5);
}

#[test]
fn a_write_may_stop_in_the_middle() {
    let (disk, file) = disk_with("a");
    fail(&disk, "fail write #1 of a with ENOSPC after 3 bytes");
    let error = file.write_at(2, b"abcdef").unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::StorageFull, Some(2)));
    assert_eq!(disk.read_file("a").unwrap(), b"\0\0abc");
    fail(&disk, "fail write with EIO");
    file.write_at(0, b"xx").unwrap_err();
    assert_eq!(disk.read_file("a").unwrap(), b"\0\0abc");
    disk.clear_faults();
    fail(&disk, "fail write with EIO after 99 bytes");
    file.write_at(0, b"xx").unwrap_err();
    assert_eq!(disk.read_file("a").unwrap(), b"xxabc");
    assert_eq!(file.write_at(u64::MAX, b"x").unwrap_err().raw_os_error(), Some(5));
    disk.clear_faults();
    assert_eq!(file.write_at(u64::MAX, b"x").unwrap_err().raw_os_error(), Some(27));
    assert_eq!(file.preallocate(u64::MAX).unwrap_err().raw_os_error(), Some(27));
}

#[test]
fn a_full_disk() {
    let (disk, file) = disk_with("a");
    disk.set_capacity(Some(10));
    let other = disk.create("b").unwrap();
    other.write_at(0, b"1234").unwrap();
    assert_eq!(file.write_at(0, b"abcdefgh").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.read_file("a").unwrap(), b"abcdef");
    file.write_at(0, b"ABCDEF").unwrap();
    assert_eq!(other.preallocate(5).unwrap_err().kind(), ErrorKind::StorageFull);
    other.preallocate(4).unwrap();
    disk.unlink("b").unwrap();
    file.preallocate(10).unwrap();
    file.write_at(6, b"4567").unwrap();
    file.write_at(10, b"8").unwrap_err();
    disk.set_capacity(None);
    file.write_at(10, b"8").unwrap();
}
