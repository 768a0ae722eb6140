//! Any records, encoded or appended, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wal_tests::fuzz::round_trip(bytes);
});
