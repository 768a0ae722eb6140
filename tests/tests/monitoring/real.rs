//! A real Prometheus, Debian's: it accepts `docs/monitoring`, scrapes the drill, and answers every query of the dashboard and of the alerts.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use wal_manager::metrics::{ALL, MetricKind};
use wal_tests::real::run;

use crate::files::{dashboard, path, read};
use crate::server::{Found, Prometheus, Running, free_address, get, wait_for};

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

/// Panels that show nothing while the drill runs, by their titles, and why.
const EMPTY_PANELS: &[(&str, &str)] = &[
    ("Time to go on", "nothing fails, so nothing is resumed"),
    ("Live copies", "the drill makes none"),
    ("Slowest follower is behind", "the drill has no followers"),
];

/// Panels that show something or nothing while the drill runs, and why.
const CHANCE_PANELS: &[(&str, &str)] =
    &[("Waiting before an append is taken", "whether an append has to wait is chance, and few do")];

/// Alerts and recorded series whose two sides cannot be compared while the drill runs, and why.
const NOTHING_TO_COMPARE: &[(&str, &str)] = &[
    ("WalNearCap", "the drill's log has no caps"),
    ("wal:cap_used:ratio", "the drill's log has no caps"),
    ("WalFollowerLags", "the drill has no followers"),
];

/// Alerts that may fire or not while the drill runs, and why. No other one does.
const MAY_FIRE: &[(&str, &str)] = &[
    ("WalDiskStall", "the machine's disk"),
    ("WalSyncSlow", "the machine's disk"),
    ("WalDiskNearlyFull", "the machine's disk"),
    ("WalRecoveryCutBytes", "whether a kill hits a record that is half written is chance"),
];

fn promtool(args: &[&str], input: &str) {
    let outcome = run(Command::new("promtool").args(args).current_dir(path("")), input.as_bytes());
    let stdout = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert_eq!(outcome.code(), Some(0), "promtool {args:?}: {stdout}{}", outcome.stderr);
}

#[test]
#[ignore = "needs Debian's prometheus: .ci/run runs it"]
fn o7_promtool_accepts_the_configuration_the_rules_and_their_tests() {
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["check", "rules", "rules.yml", "alerts.yml"], "");
    promtool(&["test", "rules", "tests.yml"], "");
}

/// The drill, until it is stopped.
fn drill(dir: &Path) -> (Running, SocketAddr) {
    let input = dir.join("lines.txt");
    fs::write(&input, "a line that is neither very long nor very short\n".repeat(20_000)).unwrap();
    let address = free_address();
    let mut command = Command::new(WALCTL);
    command.args([
        "drill",
        "--forever",
        "--json",
        "--kills",
        "2",
        "--memtable-bytes",
        "65536",
        "--seed",
        "7",
    ]);
    command.args(["--metrics", &address.to_string(), "--dir"]).arg(dir.join("drill"));
    command.arg("--input").arg(input).stdin(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    (running, address)
}

#[test]
#[ignore = "needs Debian's prometheus: .ci/run runs it"]
fn o5_what_is_exported_is_every_metric_of_the_list_and_passes_promtool() {
    let dir = tempfile::tempdir().unwrap();
    let (_drill, address) = drill(dir.path());
    let whole = |text: &String| {
        ALL.iter().all(|metric| text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())))
    };
    let text = wait_for("every metric of the list, in its kind", || get(address, "/metrics").filter(whole));
    for metric in ALL {
        let help = text.lines().any(|line| line.starts_with(&format!("# HELP {} ", metric.name)));
        assert!(help, "{} without help", metric.name);
        if metric.kind == MetricKind::Histogram {
            // Not a summary: buckets can be added up.
            assert!(text.contains(&format!("{}_bucket{{", metric.name)), "{} without buckets", metric.name);
        }
    }
    promtool(&["check", "metrics"], &text);
}

/// The committed files for a test that has seconds: other addresses, and every time a few seconds long.
fn quickened(dir: &TempDir, wal: SocketAddr, node: SocketAddr) -> std::path::PathBuf {
    for name in ["prometheus.yml", "rules.yml", "alerts.yml"] {
        let mut text = read(name);
        let replace = [
            ("15s", "1s"),
            ("127.0.0.1:9184", &wal.to_string()),
            ("127.0.0.1:9100", &node.to_string()),
            ("[5m]", "[10s]"),
            ("[15m]", "[10s]"),
            ("[1h]", "[10s]"),
            ("offset 1h", "offset 10s"),
            ("for: 1m", "for: 0s"),
            ("for: 5m", "for: 0s"),
            ("for: 10m", "for: 0s"),
        ];
        for (from, to) in replace {
            text = text.replace(from, to);
        }
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir.path().join("prometheus.yml")
}

/// Every comparison gives 0 or 1 instead of a series or nothing: so that "nothing" cannot come from a name or label that is wrong.
fn compared(query: &str) -> String {
    ["==", ">", "<"]
        .iter()
        .fold(query.to_owned(), |query, sign| query.replace(&format!(" {sign} "), &format!(" {sign} bool ")))
}

/// A question to the server, under the name of its panel or alert.
struct Question<'a> {
    name: String,
    query: String,
    ask: Box<dyn Fn(&str) -> Found + 'a>,
}

impl Question<'_> {
    fn points(&self) -> usize {
        (self.ask)(&self.query).points
    }
}

/// Asks until every question has an answer, but those that shall have none, and those that may have one: these only have to be understood.
fn until_answered(questions: &[Question<'_>], empty: &[(&str, &str)], chance: &[(&str, &str)]) {
    for (name, why) in empty.iter().chain(chance) {
        assert!(questions.iter().any(|question| question.name == *name), "{name} is nowhere: {why}");
    }
    let is_in = |list: &[(&str, &str)], name: &str| list.iter().any(|(listed, _)| *listed == name);
    let (nothing, others): (Vec<_>, Vec<_>) = questions.iter().partition(|it| is_in(empty, &it.name));
    let (maybe, mut left): (Vec<_>, Vec<_>) = others.into_iter().partition(|it| is_in(chance, &it.name));
    for question in maybe {
        println!("{}: {} points", question.name, question.points());
    }
    let mut asked = String::new();
    wait_for("an answer to every question", || {
        left.retain(|question| question.points() == 0);
        let names: Vec<_> = left.iter().map(|question| (&question.name, &question.query)).collect();
        if asked != format!("{names:?}") {
            asked = format!("{names:?}");
            println!("not answered yet: {names:#?}");
        }
        left.is_empty().then_some(())
    });
    for question in nothing {
        assert_eq!(question.points(), 0, "{} shows something: {}", question.name, question.query);
    }
}

/// Every panel: its title and its queries, each with whether it asks for this moment only.
fn panels() -> Vec<(String, Vec<(String, bool)>)> {
    let dashboard: Value = serde_json::from_str(&dashboard()).unwrap();
    let filled = |query: &Value| {
        let query = query.as_str().unwrap();
        query.replace("$__rate_interval", "10s").replace("$instance", ".*").replace("$wal", ".*")
    };
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    panels
        .map(|panel| {
            let targets = panel["targets"].as_array().unwrap().iter();
            let queries =
                targets.map(|target| (filled(&target["expr"]), target["instant"] == true)).collect();
            (panel["title"].as_str().unwrap().to_owned(), queries)
        })
        .collect()
}

/// Every rule of a kind, `alert` or `record`: its name and its query, as the server has read them.
fn rules(server: &Prometheus, kind: &str) -> Vec<(String, String)> {
    let groups = server.ask("rules", &[("type", kind)]);
    let groups = groups["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules.map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect()
}

/// The alerts that fire now, and what they say.
fn firing(server: &Prometheus) -> BTreeMap<String, String> {
    let alerts = server.ask("alerts", &[]);
    let firing = alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    firing
        .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["annotations"]["summary"])))
        .collect()
}

#[test]
#[ignore = "needs Debian's prometheus: .ci/run runs it"]
fn o7_every_query_of_panels_and_alerts_is_answered_by_a_real_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let (mut drill, wal) = drill(dir.path());
    let node = free_address();
    let mut exporter = Command::new("prometheus-node-exporter");
    exporter.arg(format!("--web.listen-address={node}"));
    let _exporter = Running::start(exporter.args(["--collector.disable-defaults", "--collector.filesystem"]));
    let server = Prometheus::start(&quickened(&dir, wal, node), &dir.path().join("storage"));

    let panels: Vec<Question<'_>> = panels()
        .into_iter()
        .flat_map(|(name, queries)| queries.into_iter().map(move |query| (name.clone(), query)))
        .map(|(name, (query, instant))| {
            let ask = |query: &str| server.now(query);
            let lately = |query: &str| server.lately(query);
            Question { name, query, ask: if instant { Box::new(ask) } else { Box::new(lately) } }
        })
        .collect();
    assert!(panels.len() >= ALL.len());
    until_answered(&panels, EMPTY_PANELS, CHANCE_PANELS);

    let (alerts, recorded) = (rules(&server, "alert"), rules(&server, "record"));
    assert_eq!(alerts.len(), read("alerts.yml").matches("- alert: ").count());
    assert_eq!(recorded.len(), read("rules.yml").matches("- record: ").count());
    let comparisons: Vec<Question<'_>> = alerts
        .iter()
        .chain(&recorded)
        .map(|(name, query)| {
            let ask = Box::new(|query: &str| server.now(query));
            Question { name: name.clone(), query: compared(query), ask }
        })
        .collect();
    until_answered(&comparisons, NOTHING_TO_COMPARE, &[]);
    for (name, query) in &alerts {
        let found = server.now(query);
        let may_fire = MAY_FIRE.iter().any(|(alert, _)| alert == name);
        assert!(found.series == 0 || may_fire, "{name} finds something in a drill: {found:?}");
    }

    // What fills the choices at the top of the dashboard.
    let logs = server.ask("label/wal/values", &[("match[]", "wal_appends_total{instance=~\".*\"}")]);
    assert_eq!(logs, serde_json::json!(["default"]));
    let processes = server.ask("label/instance/values", &[("match[]", "wal_appends_total")]);
    assert_eq!(processes, serde_json::json!([wal.to_string()]));

    // An alert that does fire, with what it says.
    assert!(!firing(&server).contains_key("WalDown"));
    kill_process(Pid::from_child(&drill.0), Signal::INT).unwrap();
    let mut report = String::new();
    drill.0.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    assert!(drill.0.wait().unwrap().success(), "{report}");
    assert_eq!(serde_json::from_str::<Value>(&report).unwrap()["passed"], true, "{report}");
    let said = wait_for("WalDown to fire", || firing(&server).remove("WalDown"));
    assert_eq!(said, format!("{wal} answers no scrape: it is not running, or did not open its log"));
}
