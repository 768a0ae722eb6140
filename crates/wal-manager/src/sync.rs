//! The locks that threads meet at: std's. Under `cfg(wal_shuttle)`, which only tests set, those of shuttle, whose scheduler then decides
//! at each of them who goes on, so that a seed replays an interleaving. A released build cannot reach that: the dependency is there
//! under the cfg only.

#[cfg(wal_shuttle)]
pub(crate) use shuttle::sync::atomic::AtomicBool;
#[cfg(wal_shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(wal_shuttle))]
pub(crate) use std::sync::atomic::AtomicBool;
#[cfg(not(wal_shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
