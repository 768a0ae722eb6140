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
