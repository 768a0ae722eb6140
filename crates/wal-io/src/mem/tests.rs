//! What only the directory in memory has; the rest is in the tests of all backends.

use super::*;

#[test]
fn files_can_be_taken_out_changed_and_put_into_another() {
    let storage = MemStorage::new();
    storage.create("a").unwrap().write_at(0, b"abc").unwrap();
    let mut files = storage.files();
    files.get_mut("a").unwrap()[1] ^= 1;
    files.insert("b".to_owned(), vec![7]);
    let copy = MemStorage::from_files(files.clone());
    assert_eq!(copy.files(), files);
    copy.open_sink("b").unwrap().write_at(0, b"!").unwrap();
    assert_eq!(storage.files()["a"], b"abc");
    assert_eq!(files["b"], [7]);
}

#[test]
fn what_does_not_fit_into_memory_is_an_error() {
    let storage = MemStorage::new();
    let sink = storage.create("a").unwrap();
    sink.write_at(0, b"kept").unwrap();
    assert_eq!(sink.preallocate(u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(sink.write_at(u64::MAX / 2, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    let error = sink.write_at(u64::MAX, b"x").unwrap_err();
    assert_eq!((error.kind(), error.offset()), (io::ErrorKind::FileTooLarge, Some(u64::MAX)));
    assert_eq!(storage.files()["a"], b"kept");
}

#[test]
fn debug_shows_no_bytes() {
    let storage = MemStorage::from_files([("a".to_owned(), vec![b'x'; 100])].into());
    let shown = format!("{storage:?} {:?} {:?}", storage.open_sink("a").unwrap(), storage.lock("l").unwrap());
    assert!(shown.len() < 200 && !shown.contains("120"), "{shown}");
}
