//! The JSON of each verb has the fields that docs/walctl.md names, and no others.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::place::Place;

/// Every verb that has a row, with what makes it print everything that it can.
const RUNS: [(&str, &[&str]); 13] = [
    ("append", &["printf 'one\\n' | walctl append --json DIR"]),
    ("dump", &["walctl dump --json DIR"]),
    ("tail", &["walctl tail --json DIR"]),
    ("ls", &["walctl ls --json DIR"]),
    ("verify", &["walctl verify --json DIR", "walctl verify --json BROKEN || true"]),
    ("stat", &["walctl stat --json --histogram DIR"]),
    ("why-kept", &["walctl why-kept --json DIR"]),
    ("doctor", &["walctl doctor --json DIR"]),
    ("gc", &["walctl gc --json --flushed 1000 DIR"]),
    ("copy", &["walctl copy --json DIR COPY"]),
    ("restore", &["walctl restore --json DIR RESTORED"]),
    ("repair", &["walctl repair --json --dry-run BROKEN || true"]),
    ("drill", &["walctl drill --json --kills 1 --input lines.txt 2> /dev/null"]),
];

#[test]
fn the_json_of_each_verb_has_the_fields_that_the_page_names() {
    let page = include_str!("../../../../../docs/walctl.md");
    let place = Place::new();
    place.run("a log that is damaged", "cp -r DIR BROKEN");
    let broken = place.path("BROKEN/000003.wal");
    let mut bytes = fs::read(&broken).unwrap();
    bytes[20_000] ^= 1;
    fs::write(broken, bytes).unwrap();
    for (verb, commands) in RUNS {
        let mut printed = BTreeSet::new();
        for command in commands {
            for line in place.run(verb, command).lines().filter(|line| line.starts_with('{')) {
                keys(&serde_json::from_str(line).unwrap(), &mut printed);
            }
        }
        let documented = documented(page, verb);
        let missing: Vec<_> = printed.difference(&documented).collect();
        assert!(
            !printed.is_empty() && missing.is_empty(),
            "{verb} prints {missing:?}, which docs/walctl.md does not name"
        );
        let gone: Vec<_> = documented.difference(&printed).collect();
        assert!(gone.is_empty(), "docs/walctl.md names {gone:?}, which {verb} does not print");
    }
}

/// The names of all fields in it.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.insert(name.clone());
                keys(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

/// The fields in the rows of a verb. What stands in brackets behind one are its values, or what is in it.
fn documented(page: &str, verb: &str) -> BTreeSet<String> {
    let rows = page.lines().skip_while(|line| !line.starts_with("| verb | a line |"));
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
    let is_of = |row: &&str| row.split('|').nth(1).unwrap().contains(&format!("`{verb}`"));
    let first = rows.iter().position(is_of).unwrap_or_else(|| panic!("docs/walctl.md has no row for {verb}"));
    let more = rows[first + 1..].iter().take_while(|row| row.starts_with("| | "));
    let cells = [&rows[first]].into_iter().chain(more).map(|row| row.split('|').nth(3).unwrap());
    let mut found = BTreeSet::new();
    for cell in cells {
        let mut depth = 0_usize;
        for (at, part) in cell.split('`').enumerate() {
            // Between the words are commas, brackets and remarks.
            if at % 2 == 0 {
                depth = (depth + part.matches('(').count()).saturating_sub(part.matches(')').count());
            } else if depth == 0 {
                found.insert(part.to_owned());
            }
        }
    }
    found
}
