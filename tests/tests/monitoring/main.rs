//! `docs/monitoring` and what belongs to it: the dashboard is what the code writes and shows every metric, rules and alerts name metrics that
//! exist, and every alert has its section in the runbook. [`real`] runs all of it.

mod files;
mod grafana;
mod layout;
#[cfg(target_os = "linux")]
mod real;
#[cfg(target_os = "linux")]
mod server;

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use wal_manager::metrics::ALL;

use files::{dashboard, metric_of, path, read, series_in};

/// `REGENERATE=1 cargo test -p wal-tests --test monitoring` writes the file anew.
#[test]
fn o7_the_dashboard_is_what_the_code_writes() {
    let made = dashboard();
    if std::env::var_os("REGENERATE").is_some() {
        fs::write(path("grafana.json"), &made).unwrap();
    }
    let first = made.lines().zip(read("grafana.json").lines()).position(|(now, then)| now != then);
    assert!(made == read("grafana.json"), "grafana.json differs from line {first:?} on");
}

/// The panels of the dashboard that are no titles of rows.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&dashboard()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").cloned().collect()
}

#[test]
fn o7_every_metric_is_in_a_panel_with_its_help() {
    for metric in ALL {
        let shows = |panel: &Value| {
            let targets = panel["targets"].as_array().unwrap().iter();
            let queries = targets.map(|target| target["expr"].as_str().unwrap());
            queries.flat_map(series_in).any(|series| metric_of(&series) == Some(metric))
        };
        let shown: Vec<Value> = panels().into_iter().filter(shows).collect();
        let help = |panel: &Value| panel["description"].as_str().unwrap().contains(metric.help);
        assert!(
            shown.iter().any(help),
            "no panel shows {}: put it into tests/tests/monitoring/layout.rs",
            metric.name
        );
    }
}

#[test]
fn o7_panels_stand_beside_each_other_and_have_ids_of_their_own() {
    let dashboard: Value = serde_json::from_str(&dashboard()).unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{panel} is wider than the page");
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{panel} lies over another one");
            }
        }
    }
}

#[test]
fn o7_rules_alerts_and_panels_name_metrics_that_exist() {
    let rules = read("rules.yml");
    let recorded = |name: &str| rules.lines().any(|line| line.trim_start() == format!("- record: {name}"));
    let queries: Vec<String> = panels()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap().clone())
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect();
    let texts = [("rules.yml", rules.clone()), ("alerts.yml", read("alerts.yml"))];
    let mut named = BTreeSet::new();
    for (file, text) in texts.into_iter().chain([("grafana.json", queries.join("\n"))]) {
        let series = series_in(&text);
        assert!(series.len() > 5, "{file}: {series:?}");
        for name in series {
            assert!(metric_of(&name).is_some() || recorded(&name), "{file}: there is no {name}");
            named.insert(name);
        }
    }
    for line in rules.lines().filter_map(|line| line.trim_start().strip_prefix("- record: ")) {
        let used = |text: &str| series_in(text).iter().any(|name| name == line);
        assert!(used(&read("alerts.yml")) || used(&queries.join("\n")), "nobody asks for {line}");
    }
}

/// The names of all alerts.
fn alerts() -> BTreeSet<String> {
    let text = read("alerts.yml");
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: "));
    let alerts: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(alerts.len() > 15);
    alerts
}

#[test]
fn o7_every_alert_has_its_section_in_the_runbook_and_the_other_way_round() {
    let page = read("../operations.md");
    let runbook =
        page.split("\n## Alerts\n").nth(1).expect("a part `## Alerts`").split("\n## ").next().unwrap();
    let mut sections = BTreeSet::new();
    for section in runbook.split("\n### ").skip(1) {
        let (name, text) = section.split_once('\n').unwrap();
        assert!(sections.insert(name.to_owned()), "{name} twice");
        // What to type, and what comes of it.
        let shown = text.rsplit("```").nth(1).unwrap_or_else(|| panic!("{name} shows no command"));
        assert!(shown.lines().any(|line| line.starts_with("$ walctl ")), "{name} ends in no walctl command");
        let link = format!("runbook: docs/operations.md#{}\n", name.to_lowercase());
        assert!(read("alerts.yml").contains(&link), "no alert leads to {name}");
    }
    assert_eq!(sections, alerts());
}

#[test]
fn o7_every_alert_is_tested_to_fire_and_not_to_fire() {
    let tests = read("tests.yml");
    for alert in alerts() {
        let tested: Vec<&str> = tests
            .split("- eval_time:")
            .filter(|test| test.contains(&format!("alertname: {alert}\n")))
            .collect();
        assert!(tested.iter().any(|test| test.contains("exp_labels:")), "no test sees {alert} fire");
        assert!(tested.iter().any(|test| test.contains("exp_alerts: []")), "no test sees {alert} be quiet");
    }
}
