//! RocksDB: a put for each record, under a key that counts; `sync` decides whether it is durable. The memtable is so large that nothing is
//! flushed while it is written. Replay is the opening, which reads the log into a memtable and flushes it, and a pass over the records.
//!
//! Through the C interface of an installed librocksdb, of which this declares what it uses.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use wal_benches::whole::case::Case;
use wal_benches::whole::load;
use wal_benches::whole::measured::Measured;
use wal_benches::whole::side::Side;

use crate::common;

pub(crate) const SIDE: Side = Side {
    name: "rocksdb",
    work: |workload| common::work(workload, synced, Some(nosync), ("rocksdb", prepare, replay)),
};

#[link(name = "rocksdb")]
unsafe extern "C" {
    fn rocksdb_options_create() -> *mut c_void;
    fn rocksdb_options_set_create_if_missing(options: *mut c_void, value: c_uchar);
    fn rocksdb_options_set_write_buffer_size(options: *mut c_void, bytes: usize);
    fn rocksdb_options_set_compression(options: *mut c_void, value: c_int);
    fn rocksdb_open(options: *const c_void, name: *const c_char, error: *mut *mut c_char) -> *mut c_void;
    fn rocksdb_close(db: *mut c_void);
    fn rocksdb_writeoptions_create() -> *mut c_void;
    fn rocksdb_writeoptions_set_sync(options: *mut c_void, value: c_uchar);
    fn rocksdb_put(
        db: *mut c_void,
        options: *const c_void,
        key: *const c_char,
        key_length: usize,
        value: *const c_char,
        value_length: usize,
        error: *mut *mut c_char,
    );
    fn rocksdb_readoptions_create() -> *mut c_void;
    fn rocksdb_create_iterator(db: *mut c_void, options: *const c_void) -> *mut c_void;
    fn rocksdb_iter_destroy(iterator: *mut c_void);
    fn rocksdb_iter_seek_to_first(iterator: *mut c_void);
    fn rocksdb_iter_valid(iterator: *const c_void) -> c_uchar;
    fn rocksdb_iter_next(iterator: *mut c_void);
    fn rocksdb_iter_value(iterator: *const c_void, length: *mut usize) -> *const c_char;
}

/// The largest memtable that it takes without a warning about its blocks.
const MEMTABLE_BYTES: usize = 4 << 30;

/// An open database. Options are never freed: a process measures once.
struct Rocks {
    db: *mut c_void,
    write: *const c_void,
}

// SAFETY: RocksDB's database and its options, once set, may be used from many threads.
unsafe impl Sync for Rocks {}

impl Rocks {
    fn open(path: &Path, sync: bool) -> Self {
        let name = CString::new(path.as_os_str().as_bytes()).expect("a plain name");
        let mut error = ptr::null_mut();
        // SAFETY: the options are new and not shared; the name and the place of the error outlive the call.
        unsafe {
            let options = rocksdb_options_create();
            rocksdb_options_set_create_if_missing(options, 1);
            rocksdb_options_set_write_buffer_size(options, MEMTABLE_BYTES);
            rocksdb_options_set_compression(options, 0);
            let db = rocksdb_open(options, name.as_ptr(), &raw mut error);
            check(error);
            let write = rocksdb_writeoptions_create();
            rocksdb_writeoptions_set_sync(write, c_uchar::from(sync));
            Self { db, write }
        }
    }

    fn put(&self, key: u64, value: &[u8]) {
        let key = key.to_be_bytes();
        let mut error = ptr::null_mut();
        // SAFETY: the database is open; the bytes and the place of the error outlive the call.
        unsafe {
            let (key, value_start) = (key.as_ptr().cast(), value.as_ptr().cast());
            rocksdb_put(self.db, self.write, key, 8, value_start, value.len(), &raw mut error);
        }
        check(error);
    }

    /// Every record: how many, and how many bytes.
    fn all(&self) -> (u64, u64) {
        let mut found = (0, 0);
        // SAFETY: the database is open; the iterator is this function's alone, and valid where its value is asked for.
        unsafe {
            let iterator = rocksdb_create_iterator(self.db, rocksdb_readoptions_create());
            rocksdb_iter_seek_to_first(iterator);
            while rocksdb_iter_valid(iterator) == 1 {
                let mut length = 0;
                rocksdb_iter_value(iterator, &raw mut length);
                found.0 += 1;
                found.1 += length as u64;
                rocksdb_iter_next(iterator);
            }
            rocksdb_iter_destroy(iterator);
        }
        found
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once, and no thread uses it any more.
        unsafe { rocksdb_close(self.db) }
    }
}

fn check(error: *mut c_char) {
    if !error.is_null() {
        // SAFETY: what RocksDB leaves in the place of the error is a C string of its own.
        panic!("{:?}", unsafe { CStr::from_ptr(error) });
    }
}

fn synced(case: &Case) -> Measured {
    let directory = common::directory();
    let rocks = Rocks::open(directory.path(), true);
    let next = AtomicU64::new(0);
    load::together(case, |_, payload| rocks.put(next.fetch_add(1, Ordering::Relaxed), payload))
}

fn nosync(case: &Case) -> Measured {
    let directory = common::directory();
    let rocks = Rocks::open(directory.path(), false);
    common::stream(case, |number, payload| rocks.put(number, payload), || ())
}

fn prepare(case: &Case) {
    let rocks = Rocks::open(case.prepared(), false);
    common::replayed(case, |number, payload| rocks.put(number, payload));
}

fn replay(case: &Case) -> Measured {
    common::replay(case, |path| Rocks::open(path, false).all())
}
