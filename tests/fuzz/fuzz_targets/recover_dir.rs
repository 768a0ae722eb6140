//! Any files in a directory, opened in every way, with an eye on the memory that it takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wal_tests::allocations::Tracking;

#[global_allocator]
static ALLOCATOR: Tracking = Tracking;

fuzz_target!(|bytes: &[u8]| {
    wal_tests::fuzz::recover_dir(bytes);
});
