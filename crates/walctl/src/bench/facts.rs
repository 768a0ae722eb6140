//! What the numbers of a report were measured on, and what speaks against them.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use wal_manager::RecoveryReport;

/// What a report says about where and when it was made.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Name and value, in the order of the page.
    pub(super) list: Vec<(&'static str, String)>,
    /// What a reader must know before he believes a number.
    pub(super) warnings: Vec<String>,
}

impl Facts {
    /// `date` is since 1970, `took` how long everything took, `before` what the processors had done before it, and `opened` what the log's last
    /// open found.
    pub(super) fn new(
        dir: &Path,
        date: Duration,
        took: Duration,
        before: &Load,
        opened: &RecoveryReport,
    ) -> Self {
        let (after, cores) = (Load::now(), thread::available_parallelism().map_or(1, usize::from));
        let others = before.others_until(&after);
        let mount = Mount::of(dir).unwrap_or_default();
        let list = vec![
            ("Date", day(date)),
            ("Duration", format!("{:.0} s", took.as_secs_f64())),
            ("Version", format!("walctl {}", env!("CARGO_PKG_VERSION"))),
            ("Commit", option_env!("WALCTL_COMMIT").unwrap_or("not told to the build").to_owned()),
            ("Directory", path(&dir.canonicalize().unwrap_or_else(|_| dir.to_owned()))),
            ("File system", mount.file_system()),
            ("Device", mount.device()),
            ("Files of the log", way(opened)),
            ("Durability", "every append returns after an fdatasync that covers it".to_owned()),
            ("Processor", processor()),
            ("Processors", cores.to_string()),
            ("Memory", memory()),
            (
                "Kernel",
                first_line("/proc/sys/kernel/ostype") + " " + &first_line("/proc/sys/kernel/osrelease"),
            ),
            ("Load average", format!("{} before, {} after", before.average(), after.average())),
            ("Used by others", format!("{others:.2} of {cores} processors while it was measured")),
        ];
        let mut warnings = Vec::new();
        if cfg!(debug_assertions) {
            warnings.push(
                "This walctl was built without optimisation or with assertions: the log is slower than it would be."
                    .to_owned(),
            );
        }
        if mount.is_memory() {
            warnings.push(
                "The directory is in memory: a sync costs nothing there, and the numbers say nothing about a disk."
                    .to_owned(),
            );
        }
        if before.average > LOAD_QUIET {
            warnings.push(format!(
                "When it began, the load average was {}: something else was running, or had just been.",
                before.average()
            ));
        }
        if others > OTHERS_QUIET {
            warnings.push(format!(
                "Other processes used {others:.2} of {cores} processors meanwhile: latencies are longer than this machine's own, and the kernel's \
                 work for this disk is in there too."
            ));
        }
        Self { list, warnings }
    }
}

/// What the processors have done since the machine started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Runnable threads, over the last minute.
    average: f64,
    /// Ticks of all processors, idle or not.
    all: u64,
    busy: u64,
    /// Busy for this process.
    own: u64,
}

impl Load {
    pub(super) fn now() -> Self {
        let field = |line: &str, number: usize| -> u64 {
            line.split_whitespace().nth(number).and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        let all = first_line("/proc/stat");
        let own = first_line("/proc/self/stat");
        // The name of the program, in brackets, may hold spaces.
        let own = own.rsplit(')').next().unwrap_or_default();
        // User, nice, system, idle, waiting, two kinds of interrupts, and what the host took.
        let ticks = |fields: &[usize]| fields.iter().map(|&number| field(&all, number)).sum();
        let average = first_line("/proc/loadavg");
        Self {
            average: average.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0),
            all: ticks(&[1, 2, 3, 4, 5, 6, 7, 8]),
            busy: ticks(&[1, 2, 3, 6, 7, 8]),
            own: field(own, 11) + field(own, 12),
        }
    }

    fn average(&self) -> String {
        format!("{:.2}", self.average)
    }

    /// How many processors others have used from then until now.
    fn others_until(&self, now: &Self) -> f64 {
        let cores = fs::read_to_string("/proc/stat").map_or(1, |text| {
            let each = text.lines().filter(|line| line.starts_with("cpu")).count();
            each.saturating_sub(1).max(1)
        });
        let passed = now.all.saturating_sub(self.all).max(1) as f64 / cores as f64;
        let busy = now.busy.saturating_sub(self.busy);
        busy.saturating_sub(now.own.saturating_sub(self.own)) as f64 / passed
    }
}

/// The file system of a directory.
#[derive(Clone, Debug, Default)]
struct Mount {
    /// Major and minor number.
    number: String,
    kind: String,
    options: String,
    source: String,
}

impl Mount {
    fn of(dir: &Path) -> Option<Self> {
        Self::find(&fs::read_to_string("/proc/self/mountinfo").ok()?, &dir.canonicalize().ok()?)
    }

    /// By the form of `/proc/self/mountinfo`.
    fn find(mounts: &str, dir: &Path) -> Option<Self> {
        let point = |line: &&str| line.split(' ').nth(4).map(|point| PathBuf::from(unescaped(point)));
        let holds = |line: &&str| point(line).is_some_and(|point| dir.starts_with(point));
        // The longest mount point that holds it; of several on the same one, the last, which hides the others.
        let depth = |line: &&str| point(line).map(|point| point.components().count());
        let (mount, system) = mounts.lines().filter(holds).max_by_key(depth)?.split_once(" - ")?;
        let (mut mount, mut system) = (mount.split(' ').skip(2), system.split(' '));
        let number = mount.next()?.to_owned();
        let (kind, source) = (system.next()?.to_owned(), unescaped(system.next()?));
        let mut options: Vec<&str> = Vec::new();
        let both = mount.nth(2)?.split(',').chain(system.next().unwrap_or_default().split(','));
        for option in both.filter(|option| !option.is_empty()) {
            if !options.contains(&option) {
                options.push(option);
            }
        }
        Some(Self { number, kind, options: options.join(","), source })
    }

    fn file_system(&self) -> String {
        if self.kind.is_empty() { "unknown".to_owned() } else { format!("{} ({})", self.kind, self.options) }
    }

    /// Whether there is no disk below it.
    fn is_memory(&self) -> bool {
        matches!(&*self.kind, "tmpfs" | "ramfs")
    }

    /// What the kernel tells about the disk below.
    fn device(&self) -> String {
        if self.source.is_empty() {
            return "unknown".to_owned();
        }
        let mut text = self.source.clone();
        let Ok(disk) = fs::canonicalize(format!("/sys/dev/block/{}", self.number)) else { return text };
        // A partition is a directory in that of its disk.
        let whole = if disk.join("queue").is_dir() { Some(disk.as_path()) } else { disk.parent() };
        let read = |name: &str| whole.map(|whole| first_line(whole.join(name))).unwrap_or_default();
        for (name, what) in
            [("device/model", "model "), ("queue/scheduler", "scheduler "), ("queue/write_cache", "cache ")]
        {
            let value = read(name);
            if !value.trim().is_empty() {
                text += &format!("; {what}{}", value.trim());
            }
        }
        match read("queue/rotational").trim() {
            "0" => text += "; does not rotate",
            "1" => text += "; rotates, or says so",
            _ => {}
        }
        text
    }
}

/// How the log writes its files here, and what its probe has measured.
fn way(opened: &RecoveryReport) -> String {
    let way = opened.way.map_or("unknown", wal_manager::io::probe::Way::name);
    match &opened.probe {
        Some(probe) => format!("{way}; the probe of the last open: {probe}"),
        None => way.to_owned(),
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split(": ").nth(1));
    let name = of("model name").unwrap_or("unknown").to_owned();
    // Only a guest sees this flag.
    let guest = of("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    if guest { name + ", of a virtual machine" } else { name }
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib: Option<f64> = line.split_whitespace().next().and_then(|kib| kib.parse().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{:.1} GiB", kib / (1024.0 * 1024.0)))
}

/// Day and minute.
fn day(date: Duration) -> String {
    let seconds = i64::try_from(date.as_secs()).unwrap_or(0);
    let date =
        jiff::Timestamp::from_second(seconds).map(|date| date.strftime("%Y-%m-%d %H:%M UTC").to_string());
    date.unwrap_or_else(|_| "unknown".to_owned())
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn first_line(path: impl AsRef<Path>) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The kernel writes a space in a name as `\040`.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Below this load average nothing else was running.
const LOAD_QUIET: f64 = 0.3;

/// Below this number of processors nothing else was.
const OTHERS_QUIET: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_holds_a_directory_is_the_deepest_and_the_last() {
        let mounts = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
22 21 0:20 / /data rw,nosuid shared:1 - tmpfs none rw,size=1k
23 21 8:1 / /data/a\\040b rw,noatime shared:2 master:1 - xfs /dev/disk\\040one rw,noquota
24 21 8:2 / /data/a\\040b rw,noatime - ext4 /dev/sdb2 rw,noatime,data=ordered
";
        let of = |dir: &str| Mount::find(mounts, Path::new(dir)).unwrap();
        assert_eq!(
            (of("/data2").number, of("/data2").file_system()),
            ("254:0".into(), "ext4 (rw,relatime,discard)".into())
        );
        assert!(of("/data/a").is_memory() && of("/data/a").source == "none");
        let last = of("/data/a b/c");
        assert_eq!(
            (&*last.source, last.file_system()),
            ("/dev/sdb2", "ext4 (rw,noatime,data=ordered)".into())
        );
        assert!(Mount::find("nonsense", Path::new("/")).is_none());
        assert!(Mount::find("", Path::new("/")).is_none());
    }

    #[test]
    fn what_others_used_is_told_apart_from_our_own() {
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let before = Load { average: 0.0, all: 1000, busy: 500, own: 100 };
        // A hundred ticks of every processor have passed: we have used 70 of them, somebody else 50.
        let after = Load { average: 0.0, all: 1000 + 100 * cores, busy: 620, own: 170 };
        let others = before.others_until(&after);
        assert!((0.0..=0.5).contains(&others) && others > 0.0, "{others}");
        assert_eq!(before.others_until(&before), 0.0);
        assert!(Load::now().all >= Load::now().busy);
    }

    #[test]
    fn a_date_is_cut_to_its_minute() {
        assert_eq!(day(Duration::from_secs(1_700_000_039)), "2023-11-14 22:13 UTC");
    }
}
