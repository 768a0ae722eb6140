//! The documents say what is there.

use std::path::Path;

use wal_manager::metrics as names;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every `.rs` file below the workspace's own folders.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut directories = vec![root.join("crates"), root.join("tests"), root.join("benches")];
    let mut text = String::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

/// Whether there is a function of that name, or a line in the table of scenarios.
fn is_test(code: &str, name: &str) -> bool {
    code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}: \""))
}

#[test]
fn o1_metrics_page_lists_every_metric_with_its_kind_and_unit() {
    let page = read("docs/metrics.md");
    let table = page.split_once("| name | kind |").unwrap().1;
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `wal_")?.split(" | ");
        Some((format!("wal_{}", cells.next()?.trim_end_matches('`')), cells.next()?.to_owned()))
    });
    let rows: Vec<(String, String)> = rows.collect();
    let unit = |unit| match unit {
        names::Unit::Count => "",
        names::Unit::Bytes => ", bytes",
        names::Unit::Seconds => ", seconds",
        other => panic!("{other:?}: say how the page writes it"),
    };
    let row = |metric: &names::Metric| {
        let labels: String = metric.labels.iter().map(|(name, _)| format!("; `{name}`")).collect();
        (metric.name.to_owned(), format!("{}{}{labels}", metric.kind.as_str(), unit(metric.unit)))
    };
    assert_eq!(rows, names::ALL.iter().map(row).collect::<Vec<_>>(), "in the order of the code");
    for value in
        names::ALL.iter().flat_map(|metric| metric.labels).filter(|(name, _)| *name == names::KIND_LABEL)
    {
        let values: Vec<String> = value.1.iter().map(|value| format!("`{value}`")).collect();
        assert!(page.contains(&values.join(", ")), "{values:?}");
    }
}

#[test]
fn guarantees_name_tests_that_exist() {
    let page = read("docs/guarantees.md");
    let code = sources();
    let named: Vec<&str> = page
        .split('`')
        .filter(|word| {
            word.contains('_')
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(named.len() > 50);
    for name in named {
        assert!(is_test(&code, name), "docs/guarantees.md names {name}, which does not exist");
    }
}

/// Every row of the list of faults but 40, which waits for compression, names tests that exist.
#[test]
fn testing_page_names_a_test_for_every_fault() {
    let page = read("docs/testing.md");
    let code = sources();
    for row in (1..=74).filter(|row| *row != 40) {
        let line = page.lines().find(|line| line.starts_with(&format!("| {row} | ")));
        let line = line.unwrap_or_else(|| panic!("docs/testing.md has no row {row}"));
        let tests: Vec<&str> = line.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "row {row} names no test");
        for name in tests {
            assert!(is_test(&code, name), "docs/testing.md, row {row}: there is no test {name}");
        }
    }
}

/// The anchors that a page's headings have, as the code host makes them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let anchor = |heading: &str| {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// Every link from one page to another leads to a file that is there, and to a heading of it.
#[test]
fn links_in_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages = vec![root.join("README.md")];
    for directory in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root.join(directory)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let mut links = 0;
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        // Outside of blocks of code.
        for text in page.split("```").step_by(2) {
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.starts_with("http") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
                assert!(target.exists(), "{}: {link} leads nowhere", path.display());
                let found = anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&target).unwrap()).iter().any(|a| a == anchor);
                assert!(found, "{}: {link}: there is no such heading", path.display());
                links += 1;
            }
        }
    }
    assert!(links > 50, "only {links} links were found");
}

/// The public functions of a source file that can fail, each with the lines of its documentation.
fn fallible(code: &str) -> Vec<(String, Vec<String>)> {
    let (mut docs, mut found) = (Vec::new(), Vec::new());
    let mut lines = code.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("///") {
            docs.push(line.to_owned());
        } else if let Some(rest) = line.strip_prefix("pub fn ").or_else(|| line.strip_prefix("pub async fn "))
        {
            let mut signature = rest.to_owned();
            while !signature.ends_with('{') {
                signature.push_str(lines.next().unwrap());
            }
            let returned = signature.rsplit("->").next().unwrap();
            if returned.contains("Result<") || returned.contains("Poll<") {
                let name = signature.split(['(', '<']).next().unwrap().to_owned();
                found.push((name, std::mem::take(&mut docs)));
            }
            docs.clear();
        } else if !line.starts_with("#[") {
            docs.clear();
        }
    }
    found
}

/// Every public call of the log that can fail says when, and what it makes durable or how it behaves beside others.
#[test]
fn calls_say_how_they_fail_what_is_durable_and_how_they_block() {
    let sources = [
        "wal",
        "holds",
        "copy",
        "restore",
        "repair",
        "ticket",
        "watch",
        "options",
        "follow/live",
        "follow/directory",
    ];
    let mut calls = 0;
    for source in sources {
        for (name, docs) in fallible(&read(&format!("crates/wal-manager/src/{source}.rs"))) {
            let says = |section: &str| docs.iter().any(|line| line == &format!("/// # {section}"));
            assert!(says("Errors"), "{source}.rs: {name} does not say how it fails");
            let rest = says("Durability") || says("Concurrency");
            assert!(
                rest || PURE.contains(&&*name),
                "{source}.rs: {name} says neither what is durable nor how it blocks"
            );
            calls += 1;
        }
    }
    assert!(calls > 35, "only {calls} calls were found");
}

/// Calls that make nothing durable, and whose type says how they block.
const PURE: [&str; 4] = ["plan_repair", "changed", "poll_changed", "poll_next"];
