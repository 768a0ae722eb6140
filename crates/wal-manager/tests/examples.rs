//! Each example runs to its end, prints what the text at its top says, and leaves nothing behind.
//!
//! `cargo test -p wal-manager` builds the examples before it runs this. With `--test examples` it does not: `cargo build --examples` first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

/// What an example says that it prints: the first block of text in the comment at its top.
fn promised(source: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(source);
    let code = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let top = code.lines().take_while(|line| line.starts_with("//!"));
    let block = top.skip_while(|line| *line != "//! ```text").skip(1).take_while(|line| *line != "//! ```");
    block.map(|line| line.trim_start_matches("//! ").to_owned()).collect()
}

/// Whether the line is as promised; `[..]` stands for anything.
fn is_as(line: &str, promised: &str) -> bool {
    let mut parts = promised.split("[..]");
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        (rest, last) = (&rest[at + part.len()..], Some(part));
    }
    // `[..]` at the end takes all that is left.
    rest.is_empty() || last == Some("")
}

fn run(name: &str, source: &str) {
    let home = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let test = std::env::current_exe().unwrap();
    let built = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let built_at =
        changed(&built).unwrap_or_else(|error| panic!("{} was not built: {error}", built.display()));
    assert!(
        built_at >= changed(&sources.join(source)).unwrap(),
        "{} is older than its source: build it",
        built.display()
    );
    let mut command = Command::new(&built);
    // Whatever it makes, it makes in here.
    command.current_dir(home.path()).env("TMPDIR", home.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
    let (said, promised): (Vec<&str>, _) = (said.lines().collect(), promised(source));
    let same = said.len() == promised.len()
        && said.iter().zip(&promised).all(|(line, promised)| is_as(line, promised));
    assert!(same && !promised.is_empty(), "{name} says {said:#?}, and promises {promised:#?}");
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{name} left {left:?}");
}

macro_rules! examples {
    ($($test:ident: $name:literal, $source:literal;)+) => {
        $(#[test] fn $test() { run($name, $source); })+

        #[test]
        fn every_example_is_run() {
            let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
            for entry in std::fs::read_dir(examples).unwrap() {
                let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
                assert!([$($name),+].contains(&&*name), "{name} is run by no test");
            }
        }
    };
}

examples! {
    a1_example_quickstart: "quickstart", "quickstart.rs";
    t4_example_engine_survives_kills: "engine", "engine/main.rs";
    g8_g10_example_column_families: "column_families", "column_families.rs";
    w1_w4_example_follow: "follow", "follow.rs";
    g11_w5_v17_example_backup: "backup", "backup.rs";
    s12_example_async_tokio: "async_tokio", "async_tokio.rs";
    o1_o2_example_prometheus: "prometheus", "prometheus.rs";
    i7_example_custom_storage_passes_the_conformance_suite: "custom_storage", "custom_storage.rs";
    t8_example_crash_test_of_an_engine: "crash_test_your_engine", "crash_test_your_engine.rs";
}
