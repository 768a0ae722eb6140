//! `walctl bench --report`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use roxmltree::{Document, ParsingOptions};

use crate::support::{command, contents, home, walctl};

const SHORT: [&str; 10] =
    ["--size", "128", "--writers", "2", "--writers", "1", "--millis", "6", "--repeats", "2"];

/// An hour and more: whatever measures does not come back.
const ENDLESS: [&str; 6] = ["--size", "128", "--writers", "1", "--millis", "6000000"];

/// Names of a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The text of the first element with this name.
fn text(page: &str, name: &str) -> String {
    let page = Document::parse_with_options(page, ParsingOptions { allow_dtd: true, ..Default::default() });
    let page = page.unwrap();
    let node = page.descendants().find(|node| node.has_tag_name(name)).unwrap();
    node.descendants().filter(|node| node.is_text()).filter_map(|node| node.text()).collect()
}

#[test]
fn t5_bench_report_is_a_page_and_its_numbers_and_says_how_to_repeat_it() {
    let home = home();
    let disk = home.path.join("a <b> & \"c\" it's $HOME");
    fs::create_dir_all(&disk).unwrap();
    fs::write(disk.join("table"), b"somebody's").unwrap();
    let before = contents(&disk);
    let (html, csv) = (home.path.join("out.html"), home.path.join("out.csv"));
    let (disk_name, html_name) = (disk.to_str().unwrap(), html.to_str().unwrap());

    let run = walctl([&["--json", "bench", disk_name, "--report", html_name][..], &SHORT].concat()).exits(0);
    assert_eq!(contents(&disk), before);
    assert_eq!(names(&home.path).len(), 3, "the directory, the page, the numbers: {:?}", names(&home.path));
    let rows = run.json();
    let cases =
        [1, 2].into_iter().flat_map(|writers| ["log", "grows", "written"].map(|what| (writers, what)));
    assert_eq!(rows.len(), 6);

    let numbers = fs::read_to_string(&csv).unwrap();
    let lines: Vec<Vec<&str>> = numbers.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 1 + 6 * 3, "each point together, and each of two repetitions");
    for ((row, line), (writers, what)) in rows.iter().zip(lines[1..].iter().step_by(3)).zip(cases) {
        assert_eq!((row["writers"].as_u64(), row["what"].as_str()), (Some(writers), Some(what)));
        assert_eq!(line[..4], ["128", &writers.to_string(), what, "all"]);
        assert_eq!(row["records"].as_u64(), line[4].parse().ok());
        for (name, column) in [("records_per_second", 6), ("p50_us", 8), ("p99_us", 9)] {
            let (printed, written) = (row[name].as_f64().unwrap(), line[column].parse::<f64>().unwrap());
            // The last digit may get lost where JSON is read.
            assert!((printed - written).abs() < 1e-9 * written, "{name}: {row} and {line:?}");
        }
        let groups = line[12..].iter().all(|field| field.parse::<u64>().is_ok_and(|number| number > 0));
        assert_eq!(groups, what == "log", "{line:?}");
    }

    let page = fs::read_to_string(&html).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    assert_eq!(
        text(&page, "title"),
        format!("Durable appends in {}", fs::canonicalize(&disk).unwrap().display())
    );

    // The command that the page names does the same again, in a shell.
    let again = text(&page, "pre");
    fs::remove_file(&html).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_walctl")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    let status = shell.args(["-c", &again]).env("PATH", path).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{again}");
    assert_eq!(text(&fs::read_to_string(&html).unwrap(), "pre"), again);
    assert_eq!(fs::read_to_string(&csv).unwrap().lines().count(), lines.len());
}

#[test]
fn t5_a_report_that_cannot_be_written_is_refused_before_anything_is_measured() {
    let home = home();
    let disk = home.path.join("disk");
    fs::create_dir_all(&disk).unwrap();
    fs::create_dir(home.path.join("there.html")).unwrap();
    fs::create_dir(home.path.join("numbers.csv")).unwrap();
    let before = contents(&home.path);
    let name = |name: &str| home.path.join(name).to_str().unwrap().to_owned();
    let refused = [
        (name("out.txt"), 2, "must end in .html"),
        (name("out"), 2, "must end in .html"),
        (name("there.html"), 2, "is there and is no file"),
        (name("numbers.html"), 2, "is there and is no file"),
        (name("missing/out.html"), 3, "missing/out.html"),
        ("/proc/out.html".to_owned(), 3, "/proc/out.html"),
    ];
    for (report, code, why) in refused {
        let run = walctl([&["bench", disk.to_str().unwrap(), "--report", &report][..], &ENDLESS].concat());
        let run = run.exits(code);
        assert!(run.err.contains(why) && run.out.is_empty(), "{report}: {}", run.err);
        assert_eq!(contents(&home.path), before, "{report}");
    }
    // What belongs to a report alone.
    for option in ["--seed", "--repeats"] {
        walctl([&["bench", disk.to_str().unwrap(), option, "1"][..], &ENDLESS].concat()).exits(2);
    }
}

#[test]
fn t5_a_bench_that_fails_or_is_interrupted_leaves_neither_files_nor_half_a_report() {
    let home = home();
    let disk = home.path.join("disk");
    fs::create_dir_all(&disk).unwrap();
    let html = home.path.join("out.html");
    fs::write(&html, "an older one").unwrap();
    let args = |dir| [&["bench", dir, "--report", html.to_str().unwrap()][..], &ENDLESS].concat();
    let only_the_older_one = || {
        assert_eq!(names(&home.path), ["disk", "out.html"]);
        assert_eq!(fs::read(&html).unwrap(), b"an older one");
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    };
    // A directory where nothing can be made, by nobody.
    let run = walctl(args("/proc/self/fd")).exits(3);
    assert!(run.err.contains("making a directory in /proc/self/fd"), "{}", run.err);
    only_the_older_one();

    let mut child = command(args(disk.to_str().unwrap())).spawn().unwrap();
    let made = || {
        let mut inside = fs::read_dir(&disk).unwrap();
        inside.any(|entry| entry.unwrap().path().join("wal/CHECKPOINT").exists())
    };
    while !made() {
        assert!(child.try_wait().unwrap().is_none(), "it goes on");
        std::thread::yield_now();
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    only_the_older_one();
}
