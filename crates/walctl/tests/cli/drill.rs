//! `walctl drill`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::support::{command, home, walctl};

/// Small files of all kinds of names and sizes.
fn tree(root: &std::path::Path) {
    for number in 0..60_usize {
        let dir = root.join(format!("d{}", number % 7));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f {number}")), format!("{number}-").repeat(number * number * 5)).unwrap();
    }
    fs::write(root.join("empty"), "").unwrap();
}

fn number(report: &serde_json::Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"))
}

#[test]
fn a_tree_survives_its_kills() {
    let home = home();
    tree(&home.path);
    let run = walctl(["drill", "--input", &home.dir, "--kills", "5", "--memtable-bytes", "65536", "--json"])
        .exits(0);
    let reports = run.json();
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    assert_eq!(report["passed"], true);
    assert_eq!((number(report, "items"), number(report, "kills")), (61, 5));
    assert!(number(report, "acknowledged") >= 61 && number(report, "checked") >= 2 * 61);
    assert!(number(report, "recoveries") >= 1 && number(report, "recoveries") <= 5);
    assert!(number(report, "logs_deleted") > 0 && number(report, "rotations") > 0, "{report}");
    assert_eq!((number(report, "lost"), number(report, "extra"), number(report, "changed")), (0, 0, 0));
    if cfg!(target_os = "linux") {
        assert!(number(report, "peak_memory_bytes") > 1 << 20);
    }
    assert!(report["kept"].is_null());
    assert!(run.err.contains(&format!("--seed {}", report["seed"])), "the seed is said at once");
}

#[test]
fn lines_survive_their_kills_and_a_directory_of_the_users_is_kept() {
    let home = home();
    fs::create_dir(&home.path).unwrap();
    let input = home.path.join("lines.txt");
    let lines: String =
        (0..3000).map(|line| format!("line {line}\n{}", if line % 10 == 0 { "\n" } else { "" })).collect();
    fs::write(&input, lines).unwrap();
    let dir = home.path.join("drill");
    let args =
        ["drill", "--kills", "3", "--seed", "7", "--writers", "8", "--memtable-bytes", "20000", "--input"];
    let args = [&args[..], &[input.to_str().unwrap(), "--dir", dir.to_str().unwrap()]].concat();
    let run = walctl(&args).exits(0);
    assert!(run.text().contains("PASSED") && run.text().contains("3300 items"), "{}", run.text());
    assert!(run.text().contains("3 with SIGKILL") && run.err.contains("--seed 7"));
    assert!(dir.join("engine").is_dir());
    // Neither the engine nor its log is damaged or locked now.
    let wal = dir.join("engine/wal");
    walctl(["verify", wal.to_str().unwrap()]).exits(0);
    walctl(["append", wal.to_str().unwrap()]).exits(0);
    let again = walctl(&args).exits(2);
    assert!(again.err.contains("holds an engine already"), "{}", again.err);
}

#[test]
fn no_kills_are_fine_and_more_kills_than_items_take_more_rounds() {
    let home = home();
    fs::create_dir(&home.path).unwrap();
    fs::write(home.path.join("only"), "contents").unwrap();
    let drill = |kills: &str| {
        let run = walctl(["drill", "--input", &home.dir, "--kills", kills, "--json"]).exits(0);
        run.json().remove(0)
    };
    let report = drill("0");
    assert_eq!(
        (number(&report, "kills"), number(&report, "rounds"), number(&report, "recoveries")),
        (0, 1, 0)
    );
    let report = drill("6");
    assert_eq!((number(&report, "kills"), number(&report, "lost"), number(&report, "extra")), (6, 0, 0));
}

#[test]
fn an_input_that_is_nothing_is_refused() {
    let home = home();
    walctl(["drill", "--input", &home.dir]).exits(3);
    fs::create_dir(&home.path).unwrap();
    let run = walctl(["drill", "--input", &home.dir]).exits(2);
    assert!(run.err.contains("nothing to write"), "{}", run.err);
    walctl(["drill", "--input", "/dev/null"]).exits(2);
}

#[test]
fn a_drill_puts_nothing_into_the_directory_of_a_log() {
    let home = home();
    walctl(["append", &home.dir]).exits(0);
    let names =
        || fs::read_dir(&home.path).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    let before = names();
    let run = walctl(["drill", "--dir", &home.dir]).exits(2);
    assert!(run.err.contains("holds a log"), "{}", run.err);
    assert_eq!(names(), before);
}

#[test]
fn metrics_are_served_while_children_come_and_go() {
    let home = home();
    fs::create_dir(&home.path).unwrap();
    let input = home.path.join("lines.txt");
    fs::write(&input, "a line\n".repeat(5000)).unwrap();
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let input = input.to_str().unwrap();
    let args = ["drill", "--input", input, "--kills", "10", "--metrics", &address, "--json"];
    let mut child = command(args).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("metrics at") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the address is said");
    }
    let mut previous = 0.0_f64;
    let mut buckets = false;
    while child.try_wait().unwrap().is_none() {
        let Some(text) = scrape(&address) else { continue };
        let Some(appends) = value(&text, "wal_appends_total") else { continue };
        assert!(appends >= previous, "a counter went back with a child: {previous} to {appends}");
        previous = appends;
        assert!(text.contains("# TYPE wal_appends_total counter"));
        buckets |= text.contains("wal_sync_duration_seconds_bucket");
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&report, "kills"), 10);
    assert!(previous > 0.0 && buckets, "the children's numbers are served: {previous}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let run = walctl(["drill", "--input", input, "--metrics", &taken.local_addr().unwrap().to_string()]);
    assert!(run.exits(3).err.contains("metrics"));
}

#[test]
fn a_drill_that_goes_on_forever_ends_with_ctrl_c_and_a_check() {
    let home = home();
    fs::create_dir(&home.path).unwrap();
    let input = home.path.join("lines.txt");
    fs::write(&input, "a line\n".repeat(500)).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let args = ["drill", "--forever", "--kills", "1", "--metrics", &address, "--json", "--input"];
    let mut child = command([&args[..], &[input.to_str().unwrap()]].concat()).spawn().unwrap();
    // With one kill a drill opens the log a few times; this one begins again and again.
    let opens = || scrape(&address).and_then(|text| value(&text, "wal_recovery_duration_seconds_count"));
    while opens().is_none_or(|opens| opens < 12.0) {
        assert!(child.try_wait().unwrap().is_none(), "it ends by itself");
    }
    let signal = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["passed"], true);
    assert!(number(&report, "kills") > 1 && number(&report, "rounds") > 2, "{report}");
    assert!(number(&report, "checked") >= 500 && report["kept"].is_null());
}

fn scrape(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .write_all(
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
    line.rsplit_once(' ')?.1.parse().ok()
}
