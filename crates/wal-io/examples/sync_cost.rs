//! What a small write and its sync cost through a sink, against the same system calls in a bare loop: how much the sink adds.
//!
//! `cargo run --release -p wal-io --features io-uring --example sync_cost -- DIRECTORY [SECONDS]`. All ways take turns in short slices, so that a disk
//! that changes its pace does so for all. Medians and 99th percentiles in microseconds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement, not a library"
)]

use std::fs::{self, File};
use std::io::IoSlice;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fdatasync};
use rustix::io::{ReadWriteFlags, pwritev2};
use wal_io::{Access, Storage, fs::FsStorage};

const FILE_BYTES: u64 = 64 << 20;
const SLICE: usize = 200;

/// Writes and syncs so many bytes behind the last ones.
type Append = Box<dyn FnMut(&[u8])>;

/// Where the next bytes go; from the start again when the file is full.
struct Place(u64);

impl Place {
    fn next(&mut self, bytes: usize) -> u64 {
        if self.0 + bytes as u64 + 4096 > FILE_BYTES {
            self.0 = 0;
        }
        let at = self.0;
        self.0 += bytes as u64;
        at
    }
}

fn sink(storage: &FsStorage, name: &str, access: Access, filled: bool) -> Option<Append> {
    let sink = storage.create_with(name, access).ok()?;
    if filled {
        sink.fill(FILE_BYTES).unwrap();
        sink.sync_all().unwrap();
    }
    let mut place = Place(0);
    let mut end = 0;
    Some(Box::new(move |bytes| {
        let at = if filled { place.next(bytes.len()) } else { end };
        end += bytes.len() as u64;
        sink.write_synced_at(at, bytes).unwrap();
    }))
}

fn raw_file(directory: &Path, name: &str, filled: bool, flags: OFlags) -> File {
    let path = directory.join(name);
    if filled {
        fs::write(&path, vec![0; usize::try_from(FILE_BYTES).unwrap()]).unwrap();
    }
    let flags = i32::try_from(flags.bits()).unwrap();
    let file =
        File::options().write(true).create(true).truncate(false).custom_flags(flags).open(path).unwrap();
    file.sync_all().unwrap();
    file
}

fn raw_cached(directory: &Path, name: &str, filled: bool) -> Append {
    let file = raw_file(directory, name, filled, OFlags::empty());
    let mut place = Place(0);
    let mut end = 0;
    Box::new(move |bytes| {
        let at = if filled { place.next(bytes.len()) } else { end };
        end += bytes.len() as u64;
        file.write_all_at(bytes, at).unwrap();
        fdatasync(&file).unwrap();
    })
}

/// Writes the blocks that so many bytes touch, always the same ones: it has no tail to keep.
fn raw_direct(directory: &Path, name: &str) -> Append {
    let file = raw_file(directory, name, true, OFlags::DIRECT);
    let memory = vec![0xA5_u8; 1 << 20];
    let start = memory.as_ptr().align_offset(4096);
    let mut place = Place(0);
    Box::new(move |bytes| {
        let at = place.next(bytes.len());
        let (first, end) = (at - at % 4096, (at + bytes.len() as u64).next_multiple_of(4096));
        let blocks = &memory[start..start + usize::try_from(end - first).unwrap()];
        let written = pwritev2(&file, &[IoSlice::new(blocks)], first, ReadWriteFlags::DSYNC).unwrap();
        assert_eq!(written, blocks.len());
    })
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let outer = arguments.next().unwrap_or_else(|| ".".to_owned());
    let seconds = arguments.next().map_or(20, |seconds| seconds.parse().unwrap());
    let directory = Path::new(&outer).join("sync_cost");
    fs::create_dir(&directory).unwrap();
    let storage = FsStorage::open(&directory).unwrap();
    let mut ways: Vec<(&str, Option<Append>)> = vec![
        ("raw append", Some(raw_cached(&directory, "raw.append", false))),
        ("sink append", sink(&storage, "append", Access::Cached, false)),
        ("raw filled", Some(raw_cached(&directory, "raw.filled", true))),
        ("sink filled", sink(&storage, "filled", Access::Cached, true)),
        ("raw direct", Some(raw_direct(&directory, "raw.direct"))),
        ("sink direct", sink(&storage, "direct", Access::Direct, true)),
        ("sink ring", sink(&storage, "ring", Access::Ring, true)),
    ];
    for size in [128, 1024, 16 * 1024] {
        let bytes = vec![0xA5; size];
        let mut times: Vec<Vec<Duration>> = ways.iter().map(|_| Vec::new()).collect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(seconds) / 3 {
            for ((_, way), times) in ways.iter_mut().zip(&mut times) {
                let Some(append) = way else { continue };
                for _ in 0..SLICE {
                    let start = Instant::now();
                    append(&bytes);
                    times.push(start.elapsed());
                }
            }
        }
        for ((name, _), times) in ways.iter().zip(&mut times) {
            times.sort_unstable();
            let at = |percent: usize| {
                times.get(times.len() * percent / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
            };
            println!(
                "{size:>6} B  {name:<12} p50 {:>7.1}  p99 {:>7.1}  ({} syncs)",
                at(50),
                at(99),
                times.len()
            );
        }
    }
    let start = Instant::now();
    for _ in 0..5 {
        let took = Instant::now();
        let report = wal_io::probe::run(&storage, &|| start.elapsed());
        println!("probe: {report}, {} rounds in {:?}", report.rounds, took.elapsed());
    }
    drop(ways);
    fs::remove_dir_all(directory).unwrap();
}
