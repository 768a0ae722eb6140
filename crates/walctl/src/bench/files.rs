//! The two files of a report.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::Failure;

/// A page and its CSV that are yet to be written. They are made before the measurement, under names that go away if nothing comes of it.
pub(super) struct Files {
    page: Place,
    csv: Place,
}

struct Place {
    path: PathBuf,
    file: NamedTempFile,
}

impl Files {
    /// # Errors
    /// The name does not end in `.html`, or is that of something other than a file; or no file can be made there.
    pub(super) fn new(path: &Path) -> Result<Self, Failure> {
        if path.extension().is_none_or(|extension| extension != "html") {
            return Err(Failure::Refused(format!(
                "--report {}: the name of the page must end in .html; the CSV is written beside it",
                path.display()
            )));
        }
        Ok(Self { page: Place::new(path.to_owned())?, csv: Place::new(path.with_extension("csv"))? })
    }

    /// The page's name.
    pub(super) fn page(&self) -> &Path {
        &self.page.path
    }

    /// The CSV's name.
    pub(super) fn csv(&self) -> &Path {
        &self.csv.path
    }

    /// Writes both, in the place of what had their names.
    pub(super) fn write(self, page: &str, csv: &str) -> Result<(), Failure> {
        // The CSV first: where there is a page, there are its numbers.
        self.csv.write(csv)?;
        self.page.write(page)
    }
}

impl Place {
    fn new(path: PathBuf) -> Result<Self, Failure> {
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(Failure::Refused(format!("{} is there and is no file", path.display())));
        }
        // A name alone is one in the working directory.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".walctl-bench-").permissions(Permissions::from_mode(0o666));
        match builder.tempfile_in(parent.unwrap_or(Path::new("."))) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => Err(Failure::file("writing", &path, error)),
        }
    }

    fn write(mut self, text: &str) -> Result<(), Failure> {
        let failed = |error| Failure::file("writing", &self.path, error);
        self.file.write_all(text.as_bytes()).map_err(failed)?;
        // ORDER: the bytes before the name, or a crash could leave an empty report in the place of an older one.
        self.file.as_file().sync_all().map_err(failed)?;
        // ORDER: last: whoever sees the name sees all of it.
        match self.file.persist(&self.path) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::file("writing", &self.path, error.error)),
        }
    }
}
