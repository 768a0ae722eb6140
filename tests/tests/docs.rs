//! The documents say what is there.

use std::path::Path;

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

#[test]
fn metrics_page_lists_every_metric_and_no_other() {
    let code = read("crates/wal-manager/src/metrics.rs");
    let page = read("docs/metrics.md");
    let names = |text: &str, quote: char| -> Vec<String> {
        let mut names: Vec<String> = text
            .split(quote)
            .filter(|word| {
                word.starts_with("wal_") && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            })
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(names(&page, '`'), names(&code, '"'));
    assert!(names(&code, '"').len() > 20);
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
        assert!(
            // A function, or a line of the table of scenarios.
            code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}: \"")),
            "docs/guarantees.md names {name}, which does not exist"
        );
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
            // A function, or a line of the table of scenarios.
            let exists = code.contains(&format!("fn {name}(")) || code.contains(&format!("    {name}: \""));
            assert!(exists, "docs/testing.md, row {row}: there is no test {name}");
        }
    }
}
