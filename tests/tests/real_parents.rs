//! A directory that is made with all its parents, as the kernel sees it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

/// Rows 2 and 3: each new directory's parent is synced, innermost first, before the first record is acknowledged.
#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn f02_f03_i4_every_new_parent_is_synced_before_the_first_acknowledgement() {
    let base = tempfile::tempdir().unwrap();
    let base = base.path().canonicalize().unwrap();
    let trace = base.join("trace");
    let mut child = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync,write", "-o"])
        .arg(&trace)
        .arg(WALCTL)
        .args(["append", "one/two/three"])
        .current_dir(&base)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs strace");
    child.stdin.take().unwrap().write_all(b"a record\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(&trace).unwrap();
    let acknowledged = trace.lines().position(|line| line.contains("write(1<")).expect("an acknowledgement");
    let synced = |path: &Path| {
        let words = format!("<{}>)", path.display());
        let found = trace.lines().position(|line| line.contains("fsync(") && line.contains(&words));
        found.unwrap_or_else(|| panic!("{} is never synced:\n{trace}", path.display()))
    };
    let parents: Vec<PathBuf> =
        ["one/two/three", "one/two", "one", ""].iter().map(|part| base.join(part)).map(clean).collect();
    let at: Vec<usize> = parents.iter().map(|path| synced(path)).collect();
    assert!(at.windows(2).all(|pair| pair[0] < pair[1]), "innermost first: {at:?}\n{trace}");
    assert!(at.iter().all(|at| *at < acknowledged), "before the acknowledgement: {at:?}\n{trace}");
}

/// Without the slash that joining with nothing leaves.
fn clean(path: PathBuf) -> PathBuf {
    path.components().collect()
}
