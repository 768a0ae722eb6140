//! What a number was measured on.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;

/// Facts about this machine, as far as the system tells them.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Kernel version.
    pub kernel: String,
    /// Device, kind and options of the file system that the files are on.
    pub file_system: String,
    /// Load averages over one, five and fifteen minutes.
    pub load: String,
}

impl Machine {
    /// Of this machine, with the file system that holds `directory`.
    pub fn here(directory: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        Self {
            processor: processor.unwrap_or("unknown").to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            file_system: file_system(directory).unwrap_or_else(|| "unknown".to_owned()),
            load: first_line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel, file_system, load } = self;
        write!(
            f,
            "processor {processor}; cores {cores}; kernel {kernel}; file system {file_system}; load {load}"
        )
    }
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}

fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let holds = |line: &&str| line.split(' ').nth(1).is_some_and(|point| directory.starts_with(point));
    // The longest mount point that holds it; of several on the same one, the last, which hides the others.
    let mount = mounts.lines().filter(holds).max_by_key(|line| line.split(' ').nth(1).map(str::len))?;
    let mut fields = mount.split(' ');
    let (device, _, kind, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some(format!("{kind} ({options}) on {device}"))
}
