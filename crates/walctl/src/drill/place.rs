//! Where a drill keeps its files.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::exit::Failure;
use crate::look::refuse_a_log;
use crate::out;

/// The directory of the drill.
pub(super) struct Place {
    path: PathBuf,
    /// Ours to remove.
    temporary: Option<TempDir>,
}

impl Place {
    /// The directory that the user named, or a temporary one.
    pub(super) fn new(dir: Option<&Path>) -> Result<Self, Failure> {
        let Some(dir) = dir else {
            let made = tempfile::Builder::new().prefix("walctl-drill-").tempdir();
            let made = made.map_err(|error| Failure::io("making a temporary directory", error))?;
            return Ok(Self { path: made.path().to_owned(), temporary: Some(made) });
        };
        if dir.join(ENGINE_NAME).symlink_metadata().is_ok() {
            return Err(Failure::Refused(format!(
                "{} holds an engine already: use another --dir",
                dir.display()
            )));
        }
        fs::create_dir_all(dir).map_err(|error| Failure::file("making", dir, error))?;
        refuse_a_log(dir, "drill in another directory")?;
        Ok(Self { path: dir.to_owned(), temporary: None })
    }

    /// Removes what is ours if all is well; gives what is still there otherwise.
    pub(super) fn leave(self, passed: bool) -> Option<PathBuf> {
        match self.temporary {
            Some(made) if passed => {
                let error = made.close().err()?;
                out::say(format_args!("{} is not removed: {error}", self.path.display()));
                Some(self.path)
            }
            Some(made) => Some(made.keep()),
            None => Some(self.path),
        }
    }

    /// The directory itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The engine's directory.
    pub(super) fn engine(&self) -> PathBuf {
        self.path.join(ENGINE_NAME)
    }

    /// The list of input files.
    pub(super) fn list(&self) -> PathBuf {
        self.path.join(LIST_NAME)
    }
}

/// Numbers of the logs that there are.
pub(super) fn logs(engine: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(engine.join("wal")) else { return Vec::new() };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".wal")?.parse().ok();
    entries.flatten().filter_map(number).collect()
}

/// Name of the engine's directory in the drill's.
const ENGINE_NAME: &str = "engine";

/// Name of the list of input files in the drill's directory.
const LIST_NAME: &str = "input.list";
