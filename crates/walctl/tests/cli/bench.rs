//! `walctl bench`.

use std::fs;

use crate::support::{append, command, contents, home, walctl};

const SHORT: [&str; 6] = ["--size", "128", "--writers", "2", "--millis", "5"];

#[test]
fn t5_bench_prints_the_log_beside_bare_files_and_leaves_the_directory_as_it_was() {
    let home = home();
    fs::create_dir(&home.path).unwrap();
    fs::write(home.path.join("table"), b"somebody's").unwrap();
    let before = contents(&home.path);

    let run = walctl([&["bench", &home.dir][..], &SHORT].concat()).exits(0);
    let lines: Vec<Vec<&str>> = run.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["BYTES", "WRITERS", "WHAT", "RECORDS/S", "P50_US", "P99_US", "RATIO"]);
    let what: Vec<&str> = lines[1..].iter().map(|line| line[2]).collect();
    assert_eq!(what, ["log", "grows", "written"]);
    assert!(lines.iter().all(|line| line.len() == 7), "{lines:?}");
    assert!(lines[1][6].parse::<f64>().unwrap() > 0.0 && lines[2][6] == "-");

    let rows =
        walctl([&["--json", "bench", &home.dir, "--size", "1024"][..], &SHORT].concat()).exits(0).json();
    let cases: Vec<_> = rows.iter().map(|row| (row["bytes"].as_u64(), row["what"].as_str())).collect();
    let sizes = [1024, 128].into_iter();
    let wanted: Vec<_> =
        sizes.flat_map(|size| ["log", "grows", "written"].map(|what| (Some(size), Some(what)))).collect();
    assert_eq!(cases, wanted, "in the order of the arguments");
    for row in &rows {
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("records") >= 1.0 && number("records_per_second") > 0.0, "{row}");
        assert!(number("p50_us") > 0.0 && number("p50_us") <= number("p99_us"), "{row}");
        assert_eq!(row["ratio"].is_null(), row["what"] != "log");
        // Bare files take one record of each writer in every call.
        assert!(row["what"] == "log" || number("records") % 2.0 == 0.0, "{row}");
    }
    assert_eq!(contents(&home.path), before);
}

#[test]
fn bench_beside_a_log_is_refused_and_changes_nothing() {
    let home = home();
    append(&home.dir, &[], b"one\n").exits(0);
    let before = contents(&home.path);
    let run = walctl([&["bench", &home.dir][..], &SHORT].concat()).exits(2);
    assert!(run.err.contains("holds a log") && run.out.is_empty(), "{}", run.err);
    assert_eq!(contents(&home.path), before);
    // What is left of one is enough.
    for name in ["CHECKPOINT", "000009.wal"] {
        let home = crate::support::home();
        fs::create_dir(&home.path).unwrap();
        fs::write(home.path.join(name), b"").unwrap();
        walctl([&["bench", &home.dir][..], &SHORT].concat()).exits(2);
    }
}

#[test]
fn bench_that_is_interrupted_removes_what_it_made() {
    let home = home();
    fs::create_dir(&home.path).unwrap();
    let mut child = command(["bench", &home.dir, "--millis", "600000"]).spawn().unwrap();
    // It is measuring once the log is there.
    let made = || {
        let mut inside = fs::read_dir(&home.path).unwrap();
        inside.any(|entry| entry.unwrap().path().join("wal/CHECKPOINT").exists())
    };
    while !made() {
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        std::thread::yield_now();
    }
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(&home.path).unwrap().count(), 0);
}
