//! What stands in the directory and beside it: leftovers, copies aside, foreign files, owners and permissions.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::finding::Finding;
use crate::exit::Failure;
use crate::moment;

/// A name in the directory.
pub(super) struct File {
    pub(super) name: String,
    pub(super) bytes: u64,
    user: u32,
    mode: u32,
}

impl File {
    /// Named like a log.
    pub(super) fn is_log(&self) -> bool {
        let digits = self.name.strip_suffix(".wal");
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// Ours, or made by us.
    fn is_known(&self) -> bool {
        let name = self.name.as_str();
        self.is_log()
            || matches!(name, "CHECKPOINT" | "CHECKPOINT.new" | "RESERVE" | "LOCK" | "ARCHIVE")
            || name.starts_with("PROBE.")
            || name.ends_with(".wal.part")
            || self.is_quarantined()
    }

    fn is_quarantined(&self) -> bool {
        self.name.contains(".wal.quarantine-")
    }
}

/// Every name in the directory, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<File>, Failure> {
    let failed = |error| Failure::file("reading", dir, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Gone since it was listed.
        let Ok(stat) = entry.path().symlink_metadata() else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        names.push(File { name, bytes: stat.len(), user: stat.uid(), mode: stat.mode() });
    }
    names.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(names)
}

pub(super) fn look(dir: &Path, names: &[File], findings: &mut Vec<Finding>) {
    let of =
        |wanted: &dyn Fn(&File) -> bool| -> Vec<&File> { names.iter().filter(|file| wanted(file)).collect() };
    let leftovers = of(&|file| file.name == "CHECKPOINT.new" || file.name.starts_with("PROBE."));
    if !leftovers.is_empty() {
        let what = format!("{}: left by an open that died; the next one removes it", listed(&leftovers));
        findings.push(Finding::info("leftover", what));
    }
    let quarantined = of(&File::is_quarantined);
    if !quarantined.is_empty() {
        let what = format!("{}: damaged bytes that a recovery kept aside", listed(&quarantined));
        findings.push(Finding::warning("quarantine", what).next("remove them once you need them no more"));
    }
    let foreign = of(&|file| !file.is_known());
    if !foreign.is_empty() {
        let what = format!("{}: not the log's, and never touched by it", listed(&foreign));
        findings.push(Finding::info("foreign_files", what));
    }
    beside(dir, findings);
    permissions(dir, names, findings);
}

/// What copies, restores and repairs of this directory leave beside it.
fn beside(dir: &Path, findings: &mut Vec<Finding>) {
    let Ok(dir) = dir.canonicalize() else { return };
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(OsStr::to_str)) else { return };
    let Ok(entries) = fs::read_dir(parent) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|other| other.starts_with(name)).collect();
    names.sort();
    for other in names {
        let path = parent.join(&other);
        match other.strip_prefix(name) {
            Some(".making") => findings.push(
                Finding::info(
                    "making",
                    format!("{}: a copy or restore that is under way, or died", path.display()),
                )
                .next("if none is under way, remove it, or make the copy again"),
            ),
            Some(rest) if rest.starts_with(".before-repair-") => findings.push(
                Finding::info("aside", format!("{}: what was here before a repair", path.display()))
                    .next("remove it once you need it no more"),
            ),
            _ => {}
        }
    }
}

fn permissions(dir: &Path, names: &[File], findings: &mut Vec<Finding>) {
    let Ok(stat) = fs::metadata(dir) else { return };
    let ours = || names.iter().filter(|file| file.is_known());
    let others: Vec<&File> = ours().filter(|file| file.user != stat.uid()).collect();
    if !others.is_empty() {
        let what = format!(
            "{} of another user than the directory: an engine that runs as user {} may not open it",
            listed(&others),
            stat.uid()
        );
        findings.push(Finding::warning("owner", what).next(format!(
            "chown -R {} {}",
            stat.uid(),
            dir.display()
        )));
    }
    if stat.mode() & ANYBODY_WRITES != 0 || ours().any(|file| file.mode & ANYBODY_WRITES != 0) {
        let what = "anybody may write here: the directory, or a file in it, is writable for all";
        findings.push(Finding::warning("permissions", what).next(format!("chmod -R o-w {}", dir.display())));
    }
}

/// The first few, and how many more, with their size.
fn listed(files: &[&File]) -> String {
    let first: Vec<&str> = files.iter().take(LISTED).map(|file| file.name.as_str()).collect();
    let more = files.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let bytes = files.iter().map(|file| file.bytes).sum();
    format!("{}{more} ({})", first.join(", "), moment::bytes(bytes))
}

/// So many names are enough to know what it is about.
const LISTED: usize = 4;

/// The bit of a mode that lets others write.
const ANYBODY_WRITES: u32 = 0o002;
