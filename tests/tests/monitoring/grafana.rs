//! Grafana's JSON: panels in a grid of 24 columns, each with its queries.

use metrics::Unit;
use serde_json::{Value, json};
use wal_manager::metrics::{BUILD_INFO, FILE_WAY, Metric, MetricKind};

use crate::files::metric;
use crate::layout::{Panel, Row, Shows, View};

/// Version of the JSON's structure: Grafana 10 and newer read it and bring it up to theirs.
const SCHEMA_VERSION: u64 = 39;

/// Series that the user chose at the top.
const CHOSEN: &str = r#"instance=~"$instance", wal=~"$wal""#;

pub(crate) fn dashboard(rows: &[Row]) -> Value {
    let mut grid = Grid::default();
    let mut panels = Vec::new();
    for row in rows {
        panels.push(grid.row(row.title));
        panels.extend(row.panels.iter().map(|panel| grid.panel(panel)));
    }
    json!({
        "uid": "wal",
        "title": "Write-ahead log",
        "description": "Written by code from the list of metrics: change tests/tests/monitoring, not this file.",
        "tags": ["wal"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": true,
        // One crosshair in all panels.
        "graphTooltip": 1,
        "refresh": "10s",
        "time": { "from": "now-30m", "to": "now" },
        "timezone": "",
        "links": [],
        "templating": { "list": [
            {
                "name": "datasource",
                "label": "Prometheus",
                "type": "datasource",
                "query": "prometheus",
                "current": { "text": "default", "value": "default" },
                "hide": 0,
                "refresh": 1,
                "regex": "",
                "options": [],
                "includeAll": false,
                "multi": false,
            },
            variable("instance", "Process", "label_values(wal_appends_total, instance)"),
            variable("wal", "Log", r#"label_values(wal_appends_total{instance=~"$instance"}, wal)"#),
        ] },
        "annotations": { "list": [{
            "name": "Alerts",
            "datasource": datasource(),
            "enable": true,
            "hide": false,
            "iconColor": "red",
            "expr": r#"ALERTS{alertname=~"Wal.+", alertstate="firing"}"#,
            "titleFormat": "{{alertname}}",
            "textFormat": "{{instance}} {{wal}} {{kind}}",
            "step": "60s",
        }] },
        "panels": panels,
    })
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": datasource(),
        "definition": query,
        "query": { "qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery" },
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        "includeAll": true,
        "multi": true,
        "hide": 0,
        // Anew whenever the range of time changes.
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "options": [],
    })
}

/// Where the next panel goes.
#[derive(Default)]
struct Grid {
    id: u64,
    x: u64,
    y: u64,
    /// Height of the panels of this line.
    height: u64,
}

impl Grid {
    const COLUMNS: u64 = 24;

    fn row(&mut self, title: &str) -> Value {
        let place = self.place(Self::COLUMNS, 1);
        json!({ "id": self.id, "type": "row", "title": title, "collapsed": false, "gridPos": place, "panels": [] })
    }

    fn panel(&mut self, panel: &Panel) -> Value {
        let place = match panel.view {
            View::Alarm | View::Name => self.place(4, 4),
            View::Lines | View::Events | View::Heat | View::Number => self.place(8, 8),
        };
        let (unit, description, targets) = match panel.shows {
            Shows::Query(unit, legend, description, query) => (
                unit.to_owned(),
                description.to_owned(),
                vec![Target::new(query.to_owned(), legend.to_owned())],
            ),
            Shows::Metrics(names) => shown(panel.view, names),
        };
        let targets: Vec<Value> =
            targets.iter().zip('A'..).map(|(target, id)| target.json(panel.view, &id.to_string())).collect();
        json!({
            "id": self.id,
            "type": kind(panel.view),
            "title": panel.title,
            "description": description,
            "datasource": datasource(),
            "gridPos": place,
            "targets": targets,
            "fieldConfig": field_config(panel, &unit),
            "options": options(panel.view, &unit),
        })
    }

    /// Puts a panel of this size to the right of the last one, or at the start of a new line.
    fn place(&mut self, width: u64, height: u64) -> Value {
        if self.x + width > Self::COLUMNS || (self.x > 0 && height != self.height) {
            (self.x, self.y) = (0, self.y + self.height);
        }
        let place = json!({ "x": self.x, "y": self.y, "w": width, "h": height });
        (self.id, self.x, self.height) = (self.id + 1, self.x + width, height);
        place
    }
}

/// A query and how its series are called.
struct Target {
    query: String,
    legend: String,
}

impl Target {
    fn new(query: String, legend: String) -> Self {
        Self { query, legend }
    }

    fn json(&self, view: View, id: &str) -> Value {
        // One number needs the last point only.
        let instant = matches!(view, View::Alarm | View::Number | View::Name);
        json!({
            "refId": id,
            "datasource": datasource(),
            "editorMode": "code",
            "expr": self.query,
            "legendFormat": self.legend,
            "format": if view == View::Heat { "heatmap" } else { "time_series" },
            "instant": instant,
            "range": !instant,
        })
    }
}

/// Unit, description and queries of a panel of these metrics.
fn shown(view: View, names: &[&str]) -> (String, String, Vec<Target>) {
    let metrics: Vec<&Metric> = names.iter().map(|name| metric(name)).collect();
    let units: Vec<&str> = metrics.iter().map(|metric| unit(metric, view)).collect();
    assert!(units.windows(2).all(|pair| pair[0] == pair[1]), "{names:?} have the units {units:?}");
    let description: Vec<String> =
        metrics.iter().map(|metric| format!("`{}`: {}", metric.name, metric.help)).collect();
    let targets = metrics.iter().flat_map(|metric| queries(metric, view)).collect();
    (units[0].to_owned(), description.join("\n\n"), targets)
}

/// Grafana's name of the unit in which a metric is shown.
fn unit(metric: &Metric, view: View) -> &'static str {
    let rate = metric.kind == MetricKind::Counter && view == View::Lines;
    match metric.unit {
        _ if metric.name.ends_with("_ratio") => "percentunit",
        Unit::Bytes if rate => "binBps",
        Unit::Bytes => "bytes",
        Unit::Seconds => "s",
        _ if rate => "cps",
        _ => "short",
    }
}

fn queries(metric: &Metric, view: View) -> Vec<Target> {
    let Metric { name, kind, labels, .. } = metric;
    let labels: Vec<&str> = labels.iter().map(|(label, _)| *label).collect();
    let by = [&["instance", "wal"], &labels[..]].concat().join(", ");
    let legend: String =
        ["wal", "instance"].iter().chain(&labels).map(|label| format!(" {{{{{label}}}}}")).collect();
    let one = |query: String| vec![Target::new(query, format!("{}{legend}", short(name)))];
    match (kind, view) {
        (MetricKind::Counter, View::Lines) => {
            one(format!("sum by ({by}) (rate({name}{{{CHOSEN}}}[$__rate_interval]))"))
        }
        (MetricKind::Counter, View::Events) => {
            one(format!("sum by ({by}) (increase({name}{{{CHOSEN}}}[$__rate_interval]))"))
        }
        (MetricKind::Counter, View::Alarm) => one(format!("sum by (instance, wal) ({name}{{{CHOSEN}}})")),
        (MetricKind::Histogram, View::Heat) => vec![Target::new(
            format!("sum by (le) (increase({name}_bucket{{{CHOSEN}}}[$__rate_interval]))"),
            "{{le}}".to_owned(),
        )],
        (MetricKind::Histogram, _) => [("p50", "0.5"), ("p99", "0.99")]
            .map(|(title, quantile)| {
                let rate = format!("rate({name}_bucket{{{CHOSEN}}}[$__rate_interval])");
                let query = format!("histogram_quantile({quantile}, sum by ({by}, le) ({rate}))");
                Target::new(query, format!("{title}{legend}"))
            })
            .into(),
        _ if *name == BUILD_INFO => {
            vec![Target::new(format!("{name}{{{CHOSEN}}}"), "{{version}}, format {{format}}".to_owned())]
        }
        // A moment is shown as how long ago it was when it was scraped; 0 is none.
        _ if name.ends_with("_since_seconds") => {
            let series = format!("{name}{{{CHOSEN}}}");
            one(format!("timestamp({series}) - ({series} > 0)"))
        }
        (MetricKind::Gauge | MetricKind::Counter, _) => one(format!("{name}{{{CHOSEN}}}")),
    }
}

/// A metric's name without what all have, and without its unit.
fn short(name: &str) -> String {
    let name = name.strip_prefix("wal_").unwrap_or(name);
    let name = name.strip_suffix("_total").unwrap_or(name);
    name.replace('_', " ")
}

/// Grafana's name of the kind of panel.
fn kind(view: View) -> &'static str {
    match view {
        View::Lines | View::Events => "timeseries",
        View::Alarm | View::Number | View::Name => "stat",
        View::Heat => "heatmap",
    }
}

fn field_config(panel: &Panel, unit: &str) -> Value {
    let view = panel.view;
    let thresholds = match view {
        View::Alarm => json!([{ "color": "green", "value": null }, { "color": "red", "value": 1 }]),
        _ => json!([{ "color": "blue", "value": null }]),
    };
    let custom = match view {
        View::Lines => {
            json!({ "drawStyle": "line", "lineWidth": 1, "fillOpacity": 8, "showPoints": "never" })
        }
        View::Events => {
            json!({ "drawStyle": "bars", "lineWidth": 1, "fillOpacity": 60, "showPoints": "never" })
        }
        View::Alarm | View::Number | View::Name | View::Heat => json!({}),
    };
    let defaults = json!({
        // A heat map's unit is that of its axis; its cells are counts.
        "unit": if view == View::Heat { "short" } else { unit },
        "mappings": mappings(panel),
        "min": 0,
        "color": { "mode": if kind(view) == "stat" { "thresholds" } else { "palette-classic" } },
        "thresholds": { "mode": "absolute", "steps": thresholds },
        "custom": custom,
    });
    json!({ "defaults": defaults, "overrides": [] })
}

/// Words for numbers that stand for something.
fn mappings(panel: &Panel) -> Value {
    match panel.shows {
        Shows::Metrics([FILE_WAY]) => {
            let words =
                json!({ "0": { "text": "grown" }, "1": { "text": "filled" }, "2": { "text": "direct" } });
            json!([{ "type": "value", "options": words }])
        }
        _ => json!([]),
    }
}

fn options(view: View, unit: &str) -> Value {
    match view {
        View::Lines | View::Events => json!({
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        View::Alarm | View::Number | View::Name => json!({
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            "colorMode": if view == View::Alarm { "background" } else { "value" },
            "graphMode": "none",
            "percentChangeColorMode": "standard",
            "showPercentChange": false,
            "wideLayout": true,
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": if view == View::Name { "name" } else { "auto" },
        }),
        View::Heat => json!({
            "calculate": false,
            "cellGap": 1,
            "color": {
                "mode": "scheme", "scheme": "Oranges", "fill": "dark-orange", "scale": "exponential", "exponent": 0.5, "steps": 64,
                "reverse": false,
            },
            "exemplars": { "color": "rgba(255,0,255,0.7)" },
            "showValue": "never",
            "legend": { "show": false },
            "rowsFrame": { "layout": "le" },
            "tooltip": { "mode": "single", "yHistogram": false },
            "yAxis": { "unit": unit, "axisPlacement": "left" },
            "filterValues": { "le": 1e-9 },
        }),
    }
}
