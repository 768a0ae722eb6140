//! An allocator that remembers the largest piece that the current thread asked for.
//!
//! A test binary that wants to know declares it:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: wal_tests::allocations::Tracking = wal_tests::allocations::Tracking;
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, watched. Each thread is counted for itself, so that tests run beside each other.
#[derive(Debug)]
pub struct Tracking;

/// What a piece of code allocated in its thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// How many times memory was asked for, growing included.
    pub count: usize,
    /// The largest single piece, in bytes.
    pub largest: usize,
    /// Bytes held now that were not held at the start.
    pub live: isize,
    /// The most of these that were ever held.
    pub peak: isize,
}

/// Runs `code` and tells what it allocated. All zeros if [`Tracking`] is not this binary's allocator.
pub fn of<T>(code: impl FnOnce() -> T) -> (T, Allocations) {
    SEEN.set(Allocations::default());
    let value = code();
    (value, SEEN.get())
}

// SAFETY: every call goes on to `System` unchanged; the count touches a `Cell` without a destructor and allocates nothing.
unsafe impl GlobalAlloc for Tracking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note_free(layout.size());
        note(size);
        // SAFETY: as above; `pointer` came from `System`, because everything here does.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note_free(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn note(size: usize) {
    change(|seen| {
        seen.count += 1;
        seen.largest = seen.largest.max(size);
        seen.live += size.cast_signed();
        seen.peak = seen.peak.max(seen.live);
    });
}

fn note_free(size: usize) {
    change(|seen| seen.live -= size.cast_signed());
}

fn change(by: impl FnOnce(&mut Allocations)) {
    // A thread that is ending has no cell any more, and nobody who asks.
    let _ = SEEN.try_with(|cell| {
        let mut seen = cell.get();
        by(&mut seen);
        cell.set(seen);
    });
}

thread_local! {
    static SEEN: Cell<Allocations> = const { Cell::new(Allocations { count: 0, largest: 0, live: 0, peak: 0 }) };
}
