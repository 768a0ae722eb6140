//! A file for the next log: a deleted log's, wiped, or a new one; filled, and durable with its name before anybody knows of it.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tracing::warn;
use wal_io::probe::Way;
use wal_io::{Access, IoError, Sink};

use crate::error::Result;
use crate::inner::Inner;

/// A deleted log is overwritten with zeros in pieces of this size: 1 MiB, as large as writes get faster.
const WIPE_BYTES: usize = 1 << 20;

impl Inner {
    /// A file without a log in it: a deleted log's, or a new one. At least `length` bytes long where files are filled before they are used, so that
    /// a full disk is met here, before a record is accepted; and with space for `reserve` bytes, wherever it is.
    pub(crate) fn make_blank(
        &self,
        name: &str,
        length: u64,
        reserve: u64,
        half_made: &mut Option<String>,
    ) -> Result<Arc<dyn Sink>> {
        let made = self.make_file(name, length, reserve, half_made);
        // ORDER: CK3. Before its number is recorded: a crash on either side of this leaves a name that CHECKPOINT does not ask for.
        if made.as_ref().is_err_and(|error| error.no_space().is_some())
            && half_made.as_ref().is_some_and(|name| self.storage.unlink(name).is_ok())
        {
            // What it took of a full disk is what others need.
            *half_made = None;
        }
        made
    }

    fn make_file(
        &self,
        name: &str,
        length: u64,
        reserve: u64,
        half_made: &mut Option<String>,
    ) -> Result<Arc<dyn Sink>> {
        if let Some(name) = half_made.as_ref() {
            // ORDER: CK3. As above. It holds no byte of a log, so its number is still free.
            match self.storage.unlink(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => *half_made = None,
            }
        }
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = self.retention.take_for_reuse();
        let reused = spare.map_or(Ok(None), |spare| self.reuse(&spare, name)).unwrap_or_else(|error| {
            // A new file does as well. The old one is below CHECKPOINT's lowest: the next open removes it.
            warn!(%error, "wal.not_recycled");
            None
        });
        let sink = match reused {
            Some(sink) => {
                *half_made = Some(name.to_owned());
                sink
            }
            None => {
                // R3: an existing file is an error, never written over. After any other error there may be a file, and then it is ours.
                let created = self.by_access(|access| self.storage.create_with(name, access));
                let ours = created
                    .as_ref()
                    .map_or_else(|error| error.kind() != io::ErrorKind::AlreadyExists, |_| true);
                *half_made = ours.then(|| name.to_owned());
                created?
            }
        };
        if self.files.way.fills() {
            sink.fill(length)?;
        }
        if reserve > 0 {
            sink.preallocate(reserve)?;
        }
        // ORDER: I3, I4. File and name are durable before the number is recorded and the log is used: from here on fdatasync is enough.
        sink.sync_all()?;
        if !seeded_bug!(NextNameNotSynced) {
            self.storage.sync_dir()?;
        }
        *half_made = None;
        Ok(sink)
    }

    /// Opens a file as the log's way says. Rings that are refused by now (somebody locked the process in, say) are no reason to stop: what they would write
    /// is written past the cache without them.
    fn by_access<T>(&self, open: impl Fn(Access) -> Result<T, IoError>) -> Result<T, IoError> {
        let access = self.files.way.access();
        if access != Access::Ring {
            return open(access);
        }
        if !self.rings_refused.load(Ordering::Relaxed) {
            match open(access) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.rings_refused.store(true, Ordering::Relaxed);
                    self.metrics.file_way.set(f64::from(Way::Direct as u8));
                    warn!(%error, "wal.rings_refused");
                }
                opened => return opened,
            }
        }
        open(Access::Direct)
    }

    /// Makes a deleted log the file `name`; `None` if it has another name too, which would see the bytes change.
    fn reuse(&self, old: &str, name: &str) -> Result<Option<Arc<dyn Sink>>> {
        let length = self.storage.open_source(old)?.length()?;
        // R3. Nobody else writes here, so what is looked at first stays so.
        match self.storage.open_source(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Creating it will say what is wrong.
            _ => return Ok(None),
        }
        let sink = self.by_access(|access| self.storage.open_sink_with(old, access))?;
        if sink.links()? > 1 && !seeded_bug!(LinkedFileReused) {
            // ORDER: CK3. Below CHECKPOINT's lowest since it was deleted: a crash that brings the name back harms nobody.
            self.storage.unlink(old)?;
            return Ok(None);
        }
        // ORDER: RC6, RC7. The old bytes are gone, durably, before the file has its new name. All of them: behind a seal there are only zeros.
        if !seeded_bug!(ReusedNotWiped) {
            let zeros = vec![0; WIPE_BYTES];
            let mut at = 0;
            while let Some(left) = length.checked_sub(at).filter(|left| *left > 0) {
                let piece = usize::try_from(left).map_or(WIPE_BYTES, |left| left.min(WIPE_BYTES));
                sink.write_at(at, zeros.get(..piece).unwrap_or(&zeros))?;
                at = at.saturating_add(piece as u64);
            }
            sink.sync_all()?;
        }
        // As of a new file: a sink that has written zeros as far as the end would read each block before the first record in it. Before the file has
        // its new name, under which another could not be made if this fails.
        let sink = self.by_access(|access| self.storage.open_sink_with(old, access))?;
        self.storage.rename(old, name)?;
        self.metrics.recycled_logs.increment(1);
        Ok(Some(sink))
    }
}
