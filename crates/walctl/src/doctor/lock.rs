//! Who has the log open, as far as the system tells without the lock being tried: a reader takes nothing, not even for a moment.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

use super::finding::Finding;

/// Who has the log open for writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody, or nobody who can be seen from here.
    Nobody,
    /// This process.
    Process { id: u32, command: Option<String> },
    /// The system does not tell.
    Unknown,
}

impl Owner {
    pub(super) fn process(&self) -> Option<u32> {
        match self {
            Self::Process { id, .. } => Some(*id),
            _ => None,
        }
    }
}

pub(super) fn owner(dir: &Path) -> Owner {
    let lock = match fs::metadata(dir.join("LOCK")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Owner::Nobody,
        Err(_) => return Owner::Unknown,
    };
    // Linux only; elsewhere nobody tells.
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return Owner::Unknown };
    let device = format!("{:02x}:{:02x}", major(lock.dev()), minor(lock.dev()));
    let mut owners = locks.lines().filter_map(|line| taken(line, lock.ino()));
    // On some file systems the kernel names another device than `stat` does; then the process has it open, if it is this one.
    let owner = owners.find(|(id, found)| *found == device || has_open(*id, &lock));
    owner.map_or(Owner::Nobody, |(id, _)| {
        let command = fs::read_to_string(format!("/proc/{id}/comm")).ok();
        Owner::Process { id, command: command.map(|command| command.trim_end().to_owned()) }
    })
}

/// The process and the device in a line of `/proc/locks` about a file of this number:
/// `1: FLOCK  ADVISORY  WRITE 4711 08:01:131105 0 EOF`.
fn taken(line: &str, inode: u64) -> Option<(u32, &str)> {
    let mut words = line.split_whitespace().skip(1);
    // Whoever waits has `->` there.
    if words.next()? != "FLOCK" {
        return None;
    }
    let id = words.nth(2)?.parse().ok()?;
    let (device, number) = words.next()?.rsplit_once(':')?;
    (number.parse() == Ok(inode)).then_some((id, device))
}

fn has_open(process: u32, lock: &fs::Metadata) -> bool {
    let Ok(handles) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let files = handles.flatten().filter_map(|handle| fs::metadata(handle.path()).ok());
    files.into_iter().any(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
}

pub(super) fn finding(owner: &Owner) -> Finding {
    match owner {
        Owner::Nobody => {
            Finding::info("open", "nobody has it open for writing, as far as can be seen from here")
        }
        Owner::Process { id, command } => {
            let command = command.as_deref().unwrap_or("unknown command");
            Finding::info("open", format!("process {id} ({command}) has it open for writing"))
        }
        Owner::Unknown => {
            Finding::info("open", "whether somebody has it open for writing cannot be seen here")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::taken;

    #[test]
    fn only_a_taken_flock_on_that_file_counts() {
        let line = "7: FLOCK  ADVISORY  WRITE 4711 08:01:131105 0 EOF";
        assert_eq!(taken(line, 131_105), Some((4711, "08:01")));
        assert_eq!(taken(line, 131_106), None);
        assert_eq!(taken("7: POSIX  ADVISORY  WRITE 4711 08:01:131105 0 EOF", 131_105), None);
        assert_eq!(taken("7: -> FLOCK  ADVISORY  WRITE 4711 08:01:131105 0 EOF", 131_105), None);
        assert_eq!(taken("", 1), None);
    }
}
