//! A quick look without the lock: what CHECKPOINT, headers and seals say, and the bytes of the logs that no seal vouches for.

use wal_format::checkpoint::Checkpoint;

use crate::error::Result;
use crate::inspect::{Depth, Seen, logs, settle_at};
use crate::options::Options;
use crate::recovery;
use crate::report::RecoveryReport;
use crate::retention::LogInfo;

/// A directory at a glance ([`Options::glance`]).
///
/// Logs that were sealed are not read: their verdict says that name, header, seal, length and successor agree. Damage between header and seal is found by
/// [`Options::inspect`] only.
#[derive(Debug)]
pub struct Glance {
    report: RecoveryReport,
    checkpoint: Checkpoint,
    logs: Vec<LogInfo>,
}

impl Glance {
    /// What was found. Nothing is done about it.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// What CHECKPOINT says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The live logs up to the first damage, oldest first. The families of a log that was not read are not known, and none are named.
    pub fn logs(&self) -> &[LogInfo] {
        &self.logs
    }
}

impl Options {
    /// Looks quickly, without the lock: takes nothing, creates nothing and changes nothing, whether or not somebody writes. Of logs that CHECKPOINT
    /// knows to be sealed only header and seal are read, of the others every byte, so that it takes as long for many logs as for a few.
    ///
    /// # Errors
    /// As for [`Options::inspect`].
    pub fn glance(self) -> Result<Glance> {
        let storage = self.storage_to_read()?;
        let Seen { checkpoint, plan, fault } = settle_at(&*storage, &self, Depth::Quick)?;
        let report = recovery::report(&*storage, &self, &checkpoint, &plan, fault);
        Ok(Glance { report, checkpoint, logs: logs(&plan.prefix) })
    }
}
