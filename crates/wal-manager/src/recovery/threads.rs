//! Logs are read side by side: each is checked by itself, and what they say about each other stands in their headers.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

/// How many threads read the logs of a recovery, the caller's included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads(NonZeroUsize);

impl Threads {
    /// The caller's own.
    pub(crate) const ONE: Self = Self(NonZeroUsize::MIN);

    /// So many.
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        Self(threads)
    }

    /// Does `work` for each job; what came of them, in the order of the jobs, or the error of the first of them that failed. Jobs behind one that
    /// failed are not begun, and those that have begun can ask whether they are still wanted. A thread that cannot be started is done without.
    pub(crate) fn each<J: Send, R: Send, E: Send>(
        self,
        jobs: Vec<J>,
        work: impl Fn(J, &dyn Fn() -> bool) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E> {
        let helpers = self.0.get().min(jobs.len()).saturating_sub(1);
        let results = Mutex::new(Vec::with_capacity(jobs.len()));
        let jobs = Mutex::new(jobs.into_iter().enumerate());
        let first_failed = AtomicUsize::new(usize::MAX);
        let worker = || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((number, job)) = job else { return };
                let is_wanted = || number < first_failed.load(Ordering::Relaxed);
                if !is_wanted() {
                    return;
                }
                let on_panic = OnPanic(&first_failed);
                let result = work(job, &is_wanted);
                drop(on_panic);
                if result.is_err() {
                    first_failed.fetch_min(number, Ordering::Relaxed);
                }
                results.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
            }
        };
        thread::scope(|scope| {
            for _ in 0..helpers {
                // The others do its work.
                if Builder::new().name("wal-recovery".to_owned()).spawn_scoped(scope, worker).is_err() {
                    break;
                }
            }
            worker();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_unstable_by_key(|(number, _)| *number);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// Where the work of one thread panics, that of the others is not wanted any more.
struct OnPanic<'a>(&'a AtomicUsize);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}
