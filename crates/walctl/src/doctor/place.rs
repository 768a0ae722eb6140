//! The file system under a directory: space, kind, and whether it can be written.

use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::files::File;
use super::finding::Finding;
use crate::exit::Failure;
use crate::moment;

/// What the file system says.
pub(super) struct Space {
    pub(super) kind: Option<&'static str>,
    /// For processes without privileges.
    pub(super) free_bytes: u64,
    pub(super) total_bytes: u64,
}

pub(super) fn look(
    dir: &Path,
    names: &[File],
    live: u64,
    findings: &mut Vec<Finding>,
) -> Result<Space, Failure> {
    let stat =
        statvfs(dir).map_err(|errno| Failure::file("examining the file system of", dir, errno.into()))?;
    let space = Space {
        kind: kind(dir),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
    };
    // The next log, and the one that is made ahead.
    let largest = names.iter().filter(|file| file.is_log()).map(|file| file.bytes).max().unwrap_or_default();
    let wanted = largest.saturating_mul(2).max(FREE_BYTES_MIN);
    let (free, logs) = (moment::bytes(space.free_bytes), moment::bytes(live));
    if space.free_bytes < wanted {
        let what = format!(
            "{free} are free and the logs take {logs}: there may be no room for the next two logs ({} together)",
            moment::bytes(wanted)
        );
        let next = format!("walctl why-kept {} says who keeps logs; or make space otherwise", dir.display());
        findings.push(Finding::warning("space", what).next(next));
    } else {
        let total = moment::bytes(space.total_bytes);
        findings.push(Finding::info("space", format!("{free} of {total} are free, the logs take {logs}")));
    }
    // Some file systems have no such number.
    if stat.f_files > 0 && stat.f_favail == 0 {
        findings
            .push(Finding::warning("inodes", "the file system can take no more files: no log can be made"));
    }
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        findings.push(Finding::warning(
            "read_only",
            "the file system is read-only: nobody can open this for writing",
        ));
    }
    match space.kind {
        Some("tmpfs") => findings.push(Finding::warning("file_system", "on tmpfs: nothing survives a restart")),
        Some(kind @ ("nfs" | "smb" | "9p" | "fuse")) => findings.push(Finding::warning(
            "file_system",
            format!("on {kind}: locks and syncs mean what its server makes of them (docs/operations.md, File systems)"),
        )),
        _ => {}
    }
    Ok(space)
}

/// What an open may need, and the smallest log.
const FREE_BYTES_MIN: u64 = 2 << 20;

/// The name of the file system's kind, of those that matter here or are usual.
#[cfg(target_os = "linux")]
fn kind(dir: &Path) -> Option<&'static str> {
    let number = rustix::fs::statfs(dir).ok()?.f_type;
    // The kernel's numbers (`linux/magic.h`); four bytes, of whatever width the field is.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "four bytes, as the kernel has them"
    )]
    let number = number as u32;
    Some(match number {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x2FC1_2FC1 => "zfs",
        0x794C_7630 => "overlay",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0xFF53_4D42 | 0xFE53_4D42 => "smb",
        0x0102_1997 => "9p",
        0x6573_5546 => "fuse",
        _ => return None,
    })
}

#[cfg(not(target_os = "linux"))]
fn kind(_: &Path) -> Option<&'static str> {
    None
}
