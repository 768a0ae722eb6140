//! What a number was measured on.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// Facts about this machine, as far as the system tells them.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory, as the kernel writes it.
    pub memory: String,
    /// Kernel version.
    pub kernel: String,
    /// Device, kind and options of the file system that the files are on.
    pub file_system: String,
    /// How this process is scheduled: `other` unless somebody asked for more.
    pub scheduling: &'static str,
    /// The compiler that is there.
    pub rustc: String,
    /// The commit of these sources.
    pub commit: String,
    /// Load averages over one, five and fifteen minutes.
    pub load: String,
}

impl Machine {
    /// Of this machine, with the file system that holds `directory`.
    pub fn here(directory: &Path) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        Self {
            processor: processor.unwrap_or("unknown").to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            memory: memory.unwrap_or("unknown").trim().to_owned(),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            file_system: file_system(directory).unwrap_or_else(|| "unknown".to_owned()),
            scheduling: scheduling().unwrap_or("unknown"),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["describe", "--always", "--dirty"]),
            load: first_line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory, kernel, file_system, scheduling, rustc, commit, load } = self;
        write!(
            f,
            "processor {processor}; cores {cores}; memory {memory}; kernel {kernel}; file system {file_system}; \
             scheduling {scheduling}; compiler {rustc}; commit {commit}; load {load}"
        )
    }
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_default()
}

/// What a program says about the directory of these sources, if both are there.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// The class by which the kernel shares out the processors.
fn scheduling() -> Option<&'static str> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The 41st field; the second, the name, may hold anything and ends with the last parenthesis.
    let (_, behind) = stat.rsplit_once(')')?;
    Some(match behind.split_whitespace().nth(38)? {
        "0" => "other",
        "1" => "fifo",
        "2" => "round robin",
        "3" => "batch",
        "5" => "idle",
        "6" => "deadline",
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_there_where_the_system_tells_them() {
        let machine = Machine::here(Path::new("."));
        assert!(machine.memory.ends_with(" kB") && machine.rustc.starts_with("rustc "), "{machine}");
        assert_ne!((machine.scheduling, &*machine.kernel), ("unknown", ""), "{machine}");
        assert_eq!(said("a program that is not there", &[]), "unknown");
    }
}
