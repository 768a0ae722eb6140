//! An io_uring, one entry at a time: there are any with the feature `io-uring`, where the kernel has them for us.

use std::fs::File;

#[cfg(feature = "io-uring")]
pub(super) use there::Ring;

#[cfg(not(feature = "io-uring"))]
#[derive(Debug)]
pub(super) enum Ring {}

#[cfg(not(feature = "io-uring"))]
impl Ring {
    pub(super) fn new() -> Option<Self> {
        None
    }

    pub(super) fn write_durably(&self, _: &File, _: u64, _: &[u8]) {
        match *self {}
    }
}

#[cfg(feature = "io-uring")]
#[allow(unsafe_code, reason = "the kernel is handed a pointer")]
mod there {
    use std::fmt;
    use std::io::ErrorKind;
    use std::os::fd::AsRawFd;
    use std::sync::Mutex;

    use io_uring::types::Fd;
    use io_uring::{IoUring, opcode};
    use rustix::io::ReadWriteFlags;

    use super::File;

    pub(in super::super) struct Ring(Mutex<IoUring>);

    impl fmt::Debug for Ring {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Ring").finish_non_exhaustive()
        }
    }

    impl Ring {
        pub(in super::super) fn new() -> Option<Self> {
            Some(Self(Mutex::new(IoUring::new(1).ok()?)))
        }

        /// One write that returns when the disk has it.
        pub(in super::super) fn write_durably(&self, file: &File, offset: u64, bytes: &[u8]) {
            let length = u32::try_from(bytes.len()).expect("a few MiB");
            let write = opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), length).offset(offset);
            let entry = write.rw_flags(ReadWriteFlags::DSYNC.bits().cast_signed()).build();
            let mut ring = self.0.lock().expect("nobody panicked");
            // SAFETY: bytes and file are borrowed until the only entry has completed; the measurement ends with anything else.
            unsafe { ring.submission().push(&entry) }.expect("it is empty");
            while ring.submit_and_wait(1).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
            let written = ring.completion().next().expect("it has completed").result();
            assert_eq!(u32::try_from(written).ok(), Some(length), "all of it");
        }
    }
}
