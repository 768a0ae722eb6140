//! Notices a fork. A child gets copies of everything: of the handles, of the buffers, of the counters. If it went on writing, two
//! processes would write different bytes to the same places of the same files. A lock does not help: the child holds it too.
//!
//! So each storage remembers its process, in a page that the kernel fills with zeros in a forked child. To ask costs the read of
//! one byte and no system call. Where the kernel has no such page, process ids are compared.
//!
//! But for the rings (`ring.rs`, a feature), this is the only module of the crate with `unsafe`.
#![allow(unsafe_code, reason = "a mapped page, and the reading of a byte in it; see the SAFETY comments")]

use std::io;
use std::process;

/// The process that opened a storage.
#[derive(Debug)]
pub(super) enum Owner {
    /// It has this page, which is wiped in a child.
    #[cfg(target_os = "linux")]
    Page(page::Page),
    /// It has this id.
    Process(u32),
}

impl Owner {
    /// This process.
    pub(super) fn here() -> Self {
        #[cfg(target_os = "linux")]
        if let Ok(page) = page::Page::new() {
            return Self::Page(page);
        }
        Self::Process(process::id())
    }

    /// Whether this is still the same process.
    pub(super) fn is_here(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Page(page) => page.is_kept(),
            Self::Process(id) => *id == process::id(),
        }
    }

    /// Refuses in a forked child.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_here() { Ok(()) } else { Err(io::Error::other(FORKED)) }
    }
}

const FORKED: &str =
    "this process was forked from the one that opened the log; open it again in this process";

#[cfg(target_os = "linux")]
mod page {
    use std::ptr::{self, NonNull};

    use rustix::mm::{self, Advice, MapFlags, ProtFlags};

    /// A page of memory that is zeros in a forked child.
    #[derive(Debug)]
    pub(in crate::fs) struct Page(NonNull<u8>);

    /// Rounded up to a page by the kernel, whatever its size.
    const BYTES: usize = 1;

    /// What the owner's page holds.
    const KEPT: u8 = 1;

    // SAFETY: the byte is written once, in `new`, before anybody else has the pointer, and only read from then on.
    unsafe impl Send for Page {}
    // SAFETY: as for `Send`: threads only read it.
    unsafe impl Sync for Page {}

    impl Page {
        /// Fails where the kernel does not know of such pages (before Linux 4.14), or has no memory.
        pub(super) fn new() -> rustix::io::Result<Self> {
            // SAFETY: the kernel chooses the place, so the mapping overlaps nothing.
            let start = unsafe {
                mm::mmap_anonymous(
                    ptr::null_mut(),
                    BYTES,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE,
                )
            }?;
            let page = Self(NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?);
            // SAFETY: the mapping is ours alone, and wiping it in children leaves it valid there.
            unsafe { mm::madvise(start, BYTES, Advice::LinuxWipeOnFork) }?;
            // SAFETY: the page is mapped for writing and nobody else knows of it yet.
            unsafe { page.0.write(KEPT) };
            Ok(page)
        }

        /// Whether this process is the one that made the page.
        pub(super) fn is_kept(&self) -> bool {
            // SAFETY: the page is mapped until `self` is dropped, in a child too. Volatile, since a fork changes the byte behind the compiler's back.
            unsafe { self.0.read_volatile() == KEPT }
        }
    }

    impl Drop for Page {
        fn drop(&mut self) {
            // SAFETY: mapped in `new` with this length, and nobody can read it any more. If it fails, a page is leaked.
            let _ = unsafe { mm::munmap(self.0.as_ptr().cast(), BYTES) };
        }
    }
}
