//! What is at the disk at the moment, and since when.

/// Work that waits for the disk, or for whatever else is behind a [`Storage`](crate::Storage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskWork {
    /// A group is written, and synced where somebody waits for that.
    Commit,
    /// What was written is synced beside the groups.
    Sync,
    /// The file of the next log is made.
    Prepare,
    /// CHECKPOINT is updated.
    Checkpoint,
    /// A log that was closed gets its seal.
    Seal,
    /// Logs that nobody needs any more are removed.
    Delete,
    /// Logs are archived.
    Archive,
    /// A log that has failed goes on in a new file.
    Resume,
}

impl DiskWork {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Commit,
        Self::Sync,
        Self::Prepare,
        Self::Checkpoint,
        Self::Seal,
        Self::Delete,
        Self::Archive,
        Self::Resume,
    ];

    /// In one word, as it stands in metrics and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Sync => "sync",
            Self::Prepare => "prepare",
            Self::Checkpoint => "checkpoint",
            Self::Seal => "seal",
            Self::Delete => "delete",
            Self::Archive => "archive",
            Self::Resume => "resume",
        }
    }
}
