//! The locks that threads meet at: std's. Under `cfg(wal_shuttle)`, which only tests set, those of shuttle, whose scheduler then decides
//! at each of them who goes on, so that a seed replays an interleaving. A released build cannot reach that: the dependency is there
//! under the cfg and with the feature `shuttle` only.

#[cfg(wal_shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
#[cfg(wal_shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(wal_shuttle)]
pub(crate) use shuttle::thread::{Builder, JoinHandle, current as current_thread, yield_now};
#[cfg(not(wal_shuttle))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
#[cfg(not(wal_shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(wal_shuttle))]
pub(crate) use std::thread::{Builder, JoinHandle, current as current_thread, yield_now};

pub(crate) use word::Word;

/// Starts a thread of the log's own.
pub(crate) fn spawn(name: &str, code: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(code)
}

/// Whether a thread has ended, or panicked.
#[cfg(not(wal_shuttle))]
pub(crate) fn has_ended(thread: &JoinHandle<()>) -> bool {
    thread.is_finished()
}

/// Shuttle cannot tell, and a test fails where a thread panics.
#[cfg(wal_shuttle)]
pub(crate) fn has_ended(_thread: &JoinHandle<()>) -> bool {
    false
}

/// A number that threads sleep on until it changes. To wake is to change it, so whoever read it before that does not fall asleep.
#[cfg(not(wal_shuttle))]
mod word {
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Debug, Default)]
    pub(crate) struct Word(AtomicU32);

    impl Word {
        pub(crate) fn value(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }

        /// Sleeps while the number is `value`; may wake for no reason.
        pub(crate) fn wait(&self, value: u32) {
            atomic_wait::wait(&self.0, value);
        }

        pub(crate) fn wake_one(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            atomic_wait::wake_one(&self.0);
        }

        pub(crate) fn wake_all(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            atomic_wait::wake_all(&self.0);
        }
    }
}

/// The same for shuttle, which does not know of futexes.
#[cfg(wal_shuttle)]
mod word {
    use std::sync::PoisonError;

    use super::{Condvar, Mutex};

    #[derive(Debug, Default)]
    pub(crate) struct Word {
        value: Mutex<u32>,
        changed: Condvar,
    }

    impl Word {
        pub(crate) fn value(&self) -> u32 {
            *self.value.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn wait(&self, value: u32) {
            let now = self.value.lock().unwrap_or_else(PoisonError::into_inner);
            if *now == value {
                drop(self.changed.wait(now));
            }
        }

        pub(crate) fn wake_one(&self) {
            self.change();
            self.changed.notify_one();
        }

        pub(crate) fn wake_all(&self) {
            self.change();
            self.changed.notify_all();
        }

        fn change(&self) {
            let mut now = self.value.lock().unwrap_or_else(PoisonError::into_inner);
            *now = now.wrapping_add(1);
        }
    }
}
