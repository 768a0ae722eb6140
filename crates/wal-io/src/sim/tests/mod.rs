//! Tests of the crashable disk.

mod copies;
mod crash;
mod direct;
mod fault;
mod kinds;
mod liars;
mod outside;

use std::sync::Arc;

use super::{Fault, Gone, SimOptions, SimStorage};
use crate::{IoError, Sink, Storage};

/// A durable directory with one durable, empty file in it.
fn disk_with(name: &str) -> (SimStorage, Arc<dyn Sink>) {
    disk_with_options(name, SimOptions::default())
}

fn disk_with_options(name: &str, options: SimOptions) -> (SimStorage, Arc<dyn Sink>) {
    let disk = SimStorage::with_options(options);
    disk.sync_parents().unwrap();
    let file = disk.create(name).unwrap();
    disk.sync_dir().unwrap();
    (disk, file)
}

fn fail(disk: &SimStorage, words: &str) {
    disk.fail(Fault::parse(words).unwrap());
}

fn durable(disk: &SimStorage, name: &str) -> Option<Vec<u8>> {
    disk.durable_files().remove(name)
}

/// Every operation fails, typed, and none has an effect.
fn assert_dead(disk: &SimStorage, sink: &dyn Sink, why: Gone) {
    let dead = |result: Result<(), IoError>| assert_eq!(Gone::of(&result.unwrap_err()), Some(why));
    let before = (disk.trace(), disk.counts(), disk.pending(), disk.file_names());
    dead(disk.create("new").map(drop));
    dead(disk.open_sink("a").map(drop));
    dead(disk.open_source("a").map(drop));
    dead(disk.list().map(drop));
    dead(disk.rename("a", "b"));
    dead(disk.unlink("a"));
    dead(disk.sync_dir());
    dead(disk.sync_parents());
    dead(disk.lock("LOCK").map(drop));
    dead(sink.write_at(0, b"zombie"));
    dead(sink.sync_data());
    dead(sink.sync_all());
    dead(sink.preallocate(9));
    assert_eq!(before, (disk.trace(), disk.counts(), disk.pending(), disk.file_names()));
}
