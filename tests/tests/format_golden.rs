//! The golden files pin the bytes (F13), and both decoders read them (T2).
//!
//! After a change of the format that is meant, `REGENERATE=1 cargo test -p wal-tests --test format_golden` writes the files anew. A file
//! that was ever released must never change; add another one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: a panic is how they fail"
)]

use std::fs;

use wal_format::LogNumber;
use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot};
use wal_tests::golden;
use wal_tests::logs::{self, WAL_ID};
use wal_tests::naive::{self, End};

#[test]
fn f13_golden_bytes_are_pinned() {
    for (name, bytes) in golden::all() {
        let path = golden::path(name);
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&path, &bytes).unwrap();
        }
        let pinned = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let differs = bytes.iter().zip(&pinned).position(|(now, then)| now != then);
        assert_eq!((differs, bytes.len()), (None, pinned.len()), "{name}: first different byte, length");
    }
}

#[test]
fn f13_the_specification_shows_the_golden_bytes() {
    let page = fs::read_to_string(golden::path("../../docs/format.md")).unwrap();
    let listing = page.split("<!-- golden: 000001.wal -->").nth(1).unwrap().split("```").nth(1).unwrap();
    let mut shown = Vec::new();
    for line in listing.lines().skip(1).filter(|line| !line.is_empty()) {
        let (offset, rest) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16), Ok(shown.len()), "offset in line {line:?}");
        let bytes = rest.split("  ").next().unwrap();
        shown.extend(bytes.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    assert_eq!(shown, fs::read(golden::path("000001.wal")).unwrap());
}

#[test]
fn t2_both_decoders_read_the_golden_logs() {
    let logs = [
        (1, golden::small(), true, 0),
        (2, golden::blocks(), false, 100),
        (3, golden::empty(), true, 0),
        (4, golden::padded(), true, 0),
    ];
    for (number, built, sealed, zeros) in logs {
        let file = fs::read(golden::path(&format!("{number:06}.wal"))).unwrap();
        let naive = naive::decode_log(*WAL_ID.as_bytes(), number, &file);
        assert_eq!(naive.items, built.items, "log {number}");
        let end = (file.len() - zeros) as u64;
        assert_eq!(naive.end, if sealed { End::Sealed(end) } else { End::Open(end) }, "log {number}");
        assert_eq!(naive.digest, built.encoder.digest().get(), "log {number}");
        assert_eq!(naive::audit(&naive), Ok(()), "log {number}");
        assert_eq!(logs::decode(WAL_ID, LogNumber::new(number), &file), naive, "log {number}");
    }
}

#[test]
fn t2_both_decoders_read_the_golden_checkpoint() {
    let file = fs::read(golden::path("CHECKPOINT")).unwrap();
    let slots = naive::decode_checkpoint(&file);
    let ours = [Checkpoint::decode(Slot::A, &file), Checkpoint::decode(Slot::B, &file[SLOT_BYTES..])];
    for ((naive, ours), written) in slots.into_iter().zip(ours).zip(golden::checkpoints()) {
        assert_eq!(ours.as_ref(), Ok(&written));
        assert_eq!(naive, Some(logs::checkpoint_item(&written)));
    }
}
