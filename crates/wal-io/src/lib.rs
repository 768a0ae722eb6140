//! Storage for a write-ahead log: files, directories, locks, and a disk that can crash.
//!
//! This crate is blind: it moves bytes and never looks into one. What stands above it (the log manager, or your own
//! engine) is written against the three traits of [`storage`] and runs unchanged on each backend:
//!
//! | backend | what it is |
//! | --- | --- |
//! | [`fs::FsStorage`] | a real directory, opened once and used by its handle; no symlink is followed |
//! | [`mem::MemStorage`] | a directory in memory, for examples and tests; nothing survives the process |
//! | [`sim::SimStorage`] | the crashable disk: keeps what is durable apart from what is pending, and fails on request |
//!
//! A backend of your own is checked with `conformance` (a feature of that name).
//!
//! **Architecture invariant:** `unsafe` stands in `fs/fork.rs` and, with the feature `io-uring`, in `fs/ring.rs`, and nowhere else.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

// First: what follows uses its macro.
#[macro_use]
mod seeded;

mod blocks;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
pub mod fs;
pub mod mem;
mod names;
pub mod probe;
pub mod sim;
pub mod storage;

pub use error::{IoError, Operation};
pub use storage::{Access, Entry, EntryKind, Lock, Sink, Source, Storage};
