//! Two decoders that share no code, and the manager, on the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wal_tests::fuzz::differential(bytes);
});
