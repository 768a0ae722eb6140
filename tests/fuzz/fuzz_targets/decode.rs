//! Every decoder of the format, on any bytes, and on any bytes behind right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wal_tests::fuzz::decode(bytes);
});
