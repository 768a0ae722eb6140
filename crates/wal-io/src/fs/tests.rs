//! Real directories: what is refused, what is created how, and that nothing hangs.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, mknodat};
use tempfile::TempDir;

use super::*;

fn directory() -> (TempDir, FsStorage) {
    let outer = tempfile::tempdir().unwrap();
    let storage = FsStorage::create(outer.path().join("wal")).unwrap();
    (outer, storage)
}

fn bytes(storage: &FsStorage, name: &str) -> Vec<u8> {
    fs::read(storage.path().join(name)).unwrap()
}

/// The mode bits that this process may not give.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(umask.trim(), 8).unwrap()
}

/// Fails instead of hanging.
fn in_time<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(act()));
    receiver.recv_timeout(Duration::from_secs(20)).expect("it hangs")
}

#[test]
fn create_makes_missing_levels_with_mode_0750() {
    let outer = tempfile::tempdir().unwrap();
    let umask = umask();
    let deep = outer.path().join("a/b/c");
    FsStorage::create(&deep).unwrap().sync_parents().unwrap();
    for level in [outer.path().join("a"), outer.path().join("a/b"), deep.clone()] {
        assert_eq!(fs::metadata(&level).unwrap().permissions().mode() & 0o777, 0o750 & !umask, "{level:?}");
    }
    FsStorage::create(&deep).unwrap();
}

#[test]
fn open_creates_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let missing = FsStorage::open(outer.path().join("missing")).unwrap_err();
    assert_eq!((missing.operation(), missing.kind()), (Operation::OpenDirectory, ErrorKind::NotFound));
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0);
    fs::write(outer.path().join("file"), b"").unwrap();
    assert_eq!(FsStorage::open(outer.path().join("file")).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert!(FsStorage::create(outer.path().join("file")).is_err());
    symlink("nowhere", outer.path().join("dangling")).unwrap();
    assert!(FsStorage::create(outer.path().join("dangling")).is_err());
}

#[test]
fn create_is_exclusive_and_private() {
    let (_outer, storage) = directory();
    storage.create("a").unwrap().write_at(0, b"first").unwrap();
    let mode = fs::metadata(storage.path().join("a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640 & !umask());
    let second = storage.create("a").unwrap_err();
    assert_eq!((second.kind(), second.operation()), (ErrorKind::AlreadyExists, Operation::Create));
    assert_eq!(second.path(), storage.path().join("a"));
    assert_eq!(bytes(&storage, "a"), b"first");
    symlink("elsewhere", storage.path().join("dangling")).unwrap();
    assert_eq!(storage.create("dangling").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(!storage.path().join("elsewhere").exists());
}

#[test]
fn only_regular_files_are_opened_and_nothing_hangs() {
    let (_outer, storage) = directory();
    let path = storage.path().to_owned();
    fs::write(path.join("real"), b"secret").unwrap();
    symlink("real", path.join("symlink")).unwrap();
    symlink("nowhere", path.join("dangling")).unwrap();
    fs::create_dir(path.join("folder")).unwrap();
    mknodat(CWD, path.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = UnixListener::bind(path.join("socket")).unwrap();
    in_time(move || {
        let cases =
            [("symlink", "symlink"), ("dangling", "symlink"), ("folder", "directory"), ("fifo", "FIFO")];
        for (name, what) in cases.into_iter().chain([("socket", "socket")]) {
            let errors = [
                storage.open_source(name).unwrap_err(),
                storage.open_sink(name).unwrap_err(),
                storage.lock(name).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
                assert!(error.to_string().contains(&format!("is a {what}, not")), "{name}: {error}");
            }
        }
        assert!(!storage.path().join("nowhere").exists());
        assert!(storage.open_source("absent").unwrap_err().kind() == ErrorKind::NotFound);
    });
}

#[test]
fn list_tells_kinds_and_keeps_names_that_are_not_utf_8() {
    let (_outer, storage) = directory();
    storage.create("file").unwrap();
    fs::create_dir(storage.path().join("folder")).unwrap();
    symlink("file", storage.path().join("symlink")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe.wal");
    fs::write(storage.path().join(odd), b"").unwrap();
    for _ in 0..2 {
        let mut entries = storage.list().unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let entry = |name: &std::ffi::OsStr, kind| Entry { name: name.to_owned(), kind };
        assert_eq!(
            entries,
            [
                entry("file".as_ref(), EntryKind::File),
                entry("folder".as_ref(), EntryKind::Directory),
                entry("symlink".as_ref(), EntryKind::Other),
                entry(odd, EntryKind::File),
            ]
        );
    }
}

#[test]
fn unlink_removes_no_directory_and_follows_no_symlink() {
    let (_outer, storage) = directory();
    storage.create("file").unwrap();
    symlink("file", storage.path().join("symlink")).unwrap();
    storage.unlink("symlink").unwrap();
    assert!(storage.path().join("file").exists());
    fs::create_dir(storage.path().join("folder")).unwrap();
    storage.unlink("folder").unwrap_err();
    assert!(storage.path().join("folder").is_dir());
}

#[test]
fn the_handle_follows_the_directory_when_it_is_renamed() {
    let (outer, storage) = directory();
    fs::rename(outer.path().join("wal"), outer.path().join("moved")).unwrap();
    fs::create_dir(outer.path().join("wal")).unwrap();
    storage.create("a").unwrap().sync_all().unwrap();
    storage.sync_dir().unwrap();
    storage.sync_parents().unwrap();
    assert!(outer.path().join("moved/a").exists());
    assert!(!outer.path().join("wal/a").exists());
}

#[test]
fn a_removed_directory_is_an_error() {
    let (outer, storage) = directory();
    fs::remove_dir(outer.path().join("wal")).unwrap();
    assert_eq!(storage.create("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(storage.lock("LOCK").is_err());
}

#[test]
fn lock_ends_when_dropped_though_a_child_that_is_being_started_still_has_the_handle() {
    let (_outer, storage) = directory();
    let file = File::create_new(storage.path().join("LOCK")).unwrap();
    // What a fork does to a handle.
    let copy = file.try_clone().unwrap();
    file.try_lock().unwrap();
    let lock = FsLock { file, owner: Arc::clone(&storage.owner) };
    assert_eq!(storage.lock("LOCK").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    let _again = storage.lock("LOCK").unwrap();
    drop(copy);
}

#[test]
fn lock_is_kept_when_another_handle_closes() {
    let (_outer, storage) = directory();
    let other = FsStorage::open(storage.path()).unwrap();
    let lock = storage.lock("LOCK").unwrap();
    // POSIX record locks would end here.
    drop(other.open_source("LOCK").unwrap());
    drop(storage.open_sink("LOCK").unwrap());
    for one in [&storage, &other] {
        let held = one.lock("LOCK").unwrap_err();
        assert_eq!((held.kind(), held.operation()), (ErrorKind::WouldBlock, Operation::Lock));
    }
    drop(lock);
    let _again = other.lock("LOCK").unwrap();
    assert_eq!(storage.lock("LOCK").unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn preallocate_reserves_space_and_keeps_bytes() {
    let (_outer, storage) = directory();
    let sink = storage.create("a").unwrap();
    sink.write_at(0, b"kept").unwrap();
    sink.preallocate(1 << 20).unwrap();
    let metadata = fs::metadata(storage.path().join("a")).unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    assert!(metadata.blocks() * 512 >= 1 << 20, "only {} blocks", metadata.blocks());
    let content = bytes(&storage, "a");
    assert!(content.starts_with(b"kept") && content[4..].iter().all(|byte| *byte == 0));
    sink.preallocate(10).unwrap();
    sink.preallocate(0).unwrap();
    assert_eq!(fs::metadata(storage.path().join("a")).unwrap().len(), 1 << 20);
    let error = sink.preallocate(u64::MAX).unwrap_err();
    assert_eq!(error.operation(), Operation::Preallocate);
}

#[test]
fn zeros_are_written_where_space_cannot_be_reserved() {
    let (_outer, storage) = directory();
    storage.create("a").unwrap().write_at(0, b"kept").unwrap();
    let file = File::options().read(true).write(true).open(storage.path().join("a")).unwrap();
    let file = storage.file("a", file);
    let length = 3 * ZEROS_BYTES + 17;
    file.write_zeros(Operation::Preallocate, 4, length as u64).unwrap();
    let content = bytes(&storage, "a");
    assert_eq!(content.len(), length);
    assert!(content.starts_with(b"kept") && content[4..].iter().all(|byte| *byte == 0));
    file.write_zeros(Operation::Preallocate, length as u64, 5).unwrap();
    assert_eq!(file.length().unwrap(), length as u64);
}

/// A directory on a file system that has direct I/O, as the one we are built on has; that of temporary files may have none.
#[cfg(target_os = "linux")]
fn disk_directory() -> (TempDir, FsStorage) {
    let outer = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let storage = FsStorage::create(outer.path().join("wal")).unwrap();
    (outer, storage)
}

#[cfg(target_os = "linux")]
#[test]
fn direct_writes_of_any_bytes_are_there_for_other_handles() {
    let (_outer, storage) = disk_directory();
    let sink = storage.create_with("a", Access::Direct).unwrap();
    let block = usize::try_from(sink.block_bytes()).unwrap();
    assert!(block >= 4096);
    let mut expected = Vec::new();
    for (number, length) in (1_u8..).zip([1, 127, 4096, 5000, 1, 30_000, 3 << 20, 77]) {
        let piece = vec![number; length];
        if number % 2 == 0 {
            sink.write_at(expected.len() as u64, &piece).unwrap();
        } else {
            sink.write_synced_at(expected.len() as u64, &piece).unwrap();
        }
        expected.extend(piece);
        let mut content = expected.clone();
        content.resize(expected.len().next_multiple_of(block), 0);
        assert_eq!(bytes(&storage, "a"), content);
    }
    // Where it stands in memory as it will in the file, it is written from there.
    for (number, length) in (100_u8..).zip([40_000, 1 << 20, 4096, 20_000]) {
        let mut memory = vec![number; length + block];
        let start = (block + expected.len() - memory.as_ptr().addr() % block) % block;
        let piece = &mut memory[start..start + length];
        piece[length - 1] = 0xff;
        if number % 2 == 0 {
            sink.write_at(expected.len() as u64, piece).unwrap();
        } else {
            sink.write_synced_at(expected.len() as u64, piece).unwrap();
        }
        expected.extend_from_slice(piece);
        let mut content = expected.clone();
        content.resize(expected.len().next_multiple_of(block), 0);
        assert_eq!(bytes(&storage, "a"), content);
    }
    sink.sync_data().unwrap();
    sink.sync_all().unwrap();
    let error = sink.write_at(u64::MAX - 1, b"xyz").unwrap_err();
    assert_eq!((error.operation(), error.offset()), (Operation::Write, Some(u64::MAX - 1)));
}

#[cfg(target_os = "linux")]
#[test]
fn direct_files_are_filled_behind_what_is_there() {
    let (_outer, storage) = disk_directory();
    storage.create("a").unwrap().write_at(0, b"kept").unwrap();
    let sink = storage.open_sink_with("a", Access::Direct).unwrap();
    sink.fill(1 << 20).unwrap();
    let metadata = fs::metadata(storage.path().join("a")).unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    sink.write_synced_at(4, b" too").unwrap();
    sink.fill(10).unwrap();
    let content = bytes(&storage, "a");
    assert_eq!(content.len(), 1 << 20);
    assert!(content.starts_with(b"kept too") && content[8..].iter().all(|byte| *byte == 0));
    let error = sink.fill(1 << 62).unwrap_err();
    assert_eq!(error.operation(), Operation::Fill);
    assert_eq!(fs::metadata(storage.path().join("a")).unwrap().len(), 1 << 20);
}

#[cfg(target_os = "linux")]
#[test]
fn where_there_is_no_direct_io_it_is_refused_and_no_file_is_left() {
    // There is none in /proc; its files cannot be created, but opened.
    let storage = FsStorage::open("/proc/self").unwrap();
    let error = storage.open_sink_with("comm", Access::Direct).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unsupported, Operation::Open));
}

#[test]
fn interrupted_calls_are_repeated_and_other_errors_are_not() {
    let mut left = 3;
    let result = retry(|| {
        left -= 1;
        if left > 0 { Err(Errno::INTR) } else { Ok(left) }
    });
    assert_eq!(result, Ok(0));
    let mut calls = 0;
    let result: rustix::io::Result<()> = retry(|| {
        calls += 1;
        Err(Errno::IO)
    });
    assert_eq!((result, calls), (Err(Errno::IO), 1));
}

#[test]
fn errors_name_the_file_and_the_place() {
    let (_outer, storage) = directory();
    storage.create("a").unwrap();
    let error = storage.open_sink("a").unwrap().write_at(u64::MAX - 1, b"xyz").unwrap_err();
    assert_eq!((error.operation(), error.offset()), (Operation::Write, Some(u64::MAX - 1)));
    assert_eq!(error.path(), storage.path().join("a"));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = storage.file("full", full).write_at(0, b"x").unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::StorageFull, Some(28)));
}

/// What the owner of a storage is to a forked child, where the kernel does not wipe pages.
fn elsewhere() -> Owner {
    Owner::Process(std::process::id().wrapping_add(1))
}

#[test]
fn f63_the_owner_is_here_by_either_sign() {
    for owner in [Owner::here(), Owner::Process(std::process::id())] {
        assert!(owner.is_here() && owner.check().is_ok(), "{owner:?}");
    }
    // On Linux no system call is needed to ask.
    #[cfg(target_os = "linux")]
    assert!(matches!(Owner::here(), Owner::Page(_)));
    assert!(!elsewhere().is_here());
}

#[test]
fn f63_in_a_forked_child_everything_that_changes_anything_is_refused_and_reading_is_not() {
    let (_outer, mut storage) = directory();
    storage.create("a").unwrap().write_at(0, b"parent").unwrap();
    storage.owner = Arc::new(elsewhere());
    let sink = storage.open_sink("a").unwrap();
    let refused = [
        (Operation::Create, storage.create("b").err()),
        (Operation::Rename, storage.rename("a", "b").err()),
        (Operation::Unlink, storage.unlink("a").err()),
        (Operation::SyncDirectory, storage.sync_dir().err()),
        (Operation::SyncDirectory, storage.sync_parents().err()),
        (Operation::Lock, storage.lock("LOCK").err()),
        (Operation::Write, sink.write_at(0, b"child").err()),
        (Operation::SyncData, sink.sync_data().err()),
        (Operation::SyncAll, sink.sync_all().err()),
        (Operation::Preallocate, sink.preallocate(100).err()),
        (Operation::Fill, sink.fill(100).err()),
        (Operation::Write, sink.write_synced_at(0, b"child").err()),
    ];
    for (operation, error) in refused {
        let error = error.unwrap_or_else(|| panic!("{operation} is not refused"));
        assert_eq!(error.operation(), operation);
        assert!(error.to_string().contains("open it again in this process"), "{error}");
    }
    assert_eq!(storage.list().unwrap().len(), 1);
    let mut read = [0; 6];
    assert_eq!(storage.open_source("a").unwrap().read_at(0, &mut read).unwrap(), 6);
    assert_eq!(&read, b"parent");
}

#[cfg(target_os = "linux")]
#[test]
fn f63_in_a_forked_child_direct_files_are_not_changed() {
    let (_outer, mut storage) = disk_directory();
    storage.create("a").unwrap().write_at(0, b"parent").unwrap();
    storage.owner = Arc::new(elsewhere());
    let sink = storage.open_sink_with("a", Access::Direct).unwrap();
    let refused = [
        (Operation::Write, sink.write_at(0, b"child").err()),
        (Operation::Write, sink.write_synced_at(0, b"child").err()),
        (Operation::SyncData, sink.sync_data().err()),
        (Operation::SyncAll, sink.sync_all().err()),
        (Operation::Preallocate, sink.preallocate(100).err()),
        (Operation::Fill, sink.fill(100).err()),
    ];
    for (operation, error) in refused {
        assert_eq!(error.map(|error| error.operation()), Some(operation));
    }
    assert_eq!(bytes(&storage, "a"), b"parent");
}

#[test]
fn f63_a_forked_childs_copy_of_a_lock_does_not_unlock_it() {
    let (_outer, storage) = directory();
    let file = File::create_new(storage.path().join("LOCK")).unwrap();
    let copy = file.try_clone().unwrap();
    file.try_lock().unwrap();
    // What a fork does to the value, dropped in a process that did not take the lock.
    drop(FsLock { file: copy, owner: Arc::new(elsewhere()) });
    assert_eq!(storage.lock("LOCK").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(FsLock { file, owner: Arc::clone(&storage.owner) });
    let _again = storage.lock("LOCK").unwrap();
}

/// Whoever has the lock may remove its file: one who had opened it by then does not come in beside one who makes it anew.
#[test]
fn x1_a_lock_on_a_file_that_was_removed_keeps_everybody_out_all_the_same() {
    use std::sync::atomic::{AtomicU32, Ordering};

    let (_outer, storage) = directory();
    let (holders, turns) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while turns.load(Ordering::Relaxed) < 2_000 {
                    let Ok(lock) = storage.lock("LOCK") else { continue };
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two have the lock");
                    turns.fetch_add(1, Ordering::Relaxed);
                    holders.fetch_sub(1, Ordering::SeqCst);
                    // From here on a new file may be made, and locked.
                    storage.unlink("LOCK").unwrap();
                    drop(lock);
                }
            });
        }
    });
}

#[test]
fn w5_a_directory_knows_whether_its_path_still_leads_to_it() {
    let (outer, storage) = directory();
    assert!(storage.is_at_its_path().unwrap());
    fs::rename(storage.path(), outer.path().join("elsewhere")).unwrap();
    assert!(!storage.is_at_its_path().unwrap());
    let other = FsStorage::create(storage.path()).unwrap();
    assert!(!storage.is_at_its_path().unwrap() && other.is_at_its_path().unwrap());
}

#[cfg(not(all(target_os = "linux", feature = "io-uring")))]
#[test]
fn i8_without_the_feature_a_ring_is_refused_before_there_is_a_file() {
    use crate::probe::{self, Way};

    let (_outer, storage) = directory();
    assert_eq!(storage.create_with("a", Access::Ring).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(storage.list().unwrap(), []);
    let ways: Vec<Way> =
        probe::run(&storage, &|| Duration::ZERO).candidates.into_iter().map(|(way, _)| way).collect();
    assert_eq!(ways, [Way::Append, Way::Filled, Way::Direct]);
}
