//! The page of a report: one file of HTML that loads nothing and runs nothing, and is well-formed XML too.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::facts::Facts;
use super::numbers::{Numbers, Point, Points, Side};
use super::plot::{Axis, Dot, Ink, Line, Plot};
use super::text::{escaped, grouped, many, significant, tick_many, tick_time, time, word};
use crate::exit::Failure;

/// What was measured, with everything that an option may leave open.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) report: PathBuf,
    pub(super) sizes: Vec<u32>,
    pub(super) writers: Vec<u16>,
    pub(super) millis: u64,
    pub(super) repeats: u32,
    pub(super) seed: u64,
}

impl Plan {
    /// The command that does the same again, for a shell, in lines.
    fn command(&self) -> String {
        let Self { dir, report, sizes, writers, millis, repeats, seed } = self;
        let sizes: String = sizes.iter().map(|size| format!(" --size {size}")).collect();
        let writers: String = writers.iter().map(|writers| format!(" --writers {writers}")).collect();
        format!(
            "walctl bench {} --report {} \\\n   {sizes} \\\n   {writers} \\\n    --millis {millis} --repeats {repeats} --seed {seed}",
            name(dir),
            name(report),
        )
    }
}

/// A path as a word of the command line, and not as one of its options.
fn name(path: &Path) -> String {
    let here = if path.as_os_str().as_bytes().starts_with(b"-") { "./" } else { "" };
    here.to_owned() + &word(path.as_os_str())
}

/// The whole page.
///
/// # Errors
/// A plot cannot be drawn.
pub(super) fn page(plan: &Plan, facts: &Facts, points: &Points) -> Result<String, Failure> {
    let fact = |name: &str| facts.list.iter().find(|fact| fact.0 == name).map_or("", |fact| &fact.1);
    let title = format!("Durable appends in {}", fact("Directory"));
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
    // A browser that is told so loads nothing and runs nothing, whatever the page holds.
    page += "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n";
    add(
        &mut page,
        format_args!("<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n", escaped(&title)),
    );
    add(&mut page, format_args!("<h1>{}</h1>\n", escaped(&title)));
    let sub = format!("{}, {}, {}", fact("Date"), fact("Version"), fact("File system"));
    add(&mut page, format_args!("<p class=\"sub\">{}</p>\n", escaped(&sub)));
    warnings(&mut page, plan, facts);
    summary(&mut page, points);
    for bytes in points.sizes() {
        add(
            &mut page,
            format_args!("<h2>Records of {} bytes</h2>\n<div class=\"plots\">\n", grouped(bytes as u64)),
        );
        for figure in [latency(points, bytes), throughput(points, bytes), groups(points, bytes)] {
            figure.add_to(&mut page)?;
        }
        page += "</div>\n";
    }
    how_to_read(&mut page, plan);
    page += "<h2>Where it was measured</h2>\n<table class=\"facts\"><tbody>\n";
    let seed = ("Seed", plan.seed.to_string());
    for (name, value) in facts.list.iter().chain([&seed]) {
        add(&mut page, format_args!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(value)));
    }
    page += "</tbody></table>\n<h2>Repeat it</h2>\n";
    let command: Vec<String> = plan.command().lines().map(escaped).collect();
    add(&mut page, format_args!("<pre>{}</pre>\n", command.join("\n")));
    everything(&mut page, points);
    page += "</body>\n</html>\n";
    Ok(page)
}

fn warnings(page: &mut String, plan: &Plan, facts: &Facts) {
    let once = (plan.repeats == 1)
        .then(|| "One repetition: how far the numbers would differ the next time is not known.".to_owned());
    let warnings: Vec<&String> = facts.warnings.iter().chain(&once).collect();
    if warnings.is_empty() {
        return;
    }
    *page += "<ul class=\"warnings\">\n";
    for warning in warnings {
        add(page, format_args!("<li>{}</li>\n", escaped(warning)));
    }
    *page += "</ul>\n";
}

/// For each length of records, the fewest threads and the fastest.
fn summary(page: &mut String, points: &Points) {
    *page += "<h2>In short</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>Bytes a record</th><th class=\"word\"></th><th>Threads</th><th>p50</th>\
              <th>p99</th><th>Records/s</th><th>MB/s</th><th>Of bare disk</th></tr></thead>\n<tbody>\n";
    for bytes in points.sizes() {
        let log = points.of(bytes, Side::Log);
        let fastest = log.iter().max_by(|a, b| a.all.rate.total_cmp(&b.all.rate));
        let both = [(log.first(), "fewest threads"), (fastest, "highest throughput")];
        for (number, (point, what)) in both.into_iter().enumerate() {
            let Some(point) = point else { continue };
            let Numbers { rate, p50, p99, .. } = point.all;
            let (begins, length) =
                if number == 0 { (" class=\"begins\"", grouped(bytes as u64)) } else { ("", String::new()) };
            add(
                page,
                format_args!(
                    "<tr{begins}><td>{length}</td><td class=\"word\">{what}</td><td>{}</td>{}{}<td>{}</td><td>{}</td><td>{}</td></tr>\n",
                    point.load.writers,
                    percentile(&point.all, 50.0, p50),
                    percentile(&point.all, 99.0, p99),
                    many(rate),
                    significant(rate * bytes as f64 / 1e6),
                    ratio(points, point),
                ),
            );
        }
    }
    *page += "</tbody>\n</table></div>\n";
}

/// The log beside the faster bare file, and how far apart the repetitions are; for a bare file nothing.
fn ratio(points: &Points, point: &Point) -> String {
    match (points.ratio(point), points.ratio_spread(point)) {
        (Some(ratio), Some((low, high))) if point.each.len() > 1 => {
            format!("{ratio:.2} ({low:.2} to {high:.2})")
        }
        (Some(ratio), _) => format!("{ratio:.2}"),
        (None, _) => String::new(),
    }
}

/// A plot with its heading and its legend, which stand outside, so that no line is covered.
struct Figure {
    heading: &'static str,
    legend: Vec<(Ink, &'static str)>,
    plot: Plot,
}

impl Figure {
    fn add_to(self, page: &mut String) -> Result<(), Failure> {
        add(page, format_args!("<figure>\n<h3>{}</h3>\n<ul class=\"legend\">", self.heading));
        for (ink, what) in self.legend {
            add(page, format_args!("<li><span class=\"{}\"></span>{what}</li>", ink.class()));
        }
        add(page, format_args!("</ul>\n{}</figure>\n", self.plot.svg()?));
        Ok(())
    }
}

/// Percentiles of an append over the number of threads.
fn latency(points: &Points, bytes: usize) -> Figure {
    let log = points.of(bytes, Side::Log);
    let parts: [(Ink, f64, Part); 3] = [
        (Ink::Third, 99.9, |numbers| numbers.p999),
        (Ink::Second, 99.0, |numbers| numbers.p99),
        (Ink::First, 50.0, |numbers| numbers.p50),
    ];
    let mut lines = vec![line(Ink::Bare, &log, |point| {
        let limit = points.limit(point.load)?;
        Some((limit.all.p50, limit.spread(|one| one.p50), limit.all.is_certain(50.0)))
    })];
    for (ink, percent, part) in parts {
        lines.push(line(ink, &log, |point| {
            Some((part(&point.all), point.spread(part), point.all.is_certain(percent)))
        }));
    }
    Figure {
        heading: "Latency of a durable append",
        legend: vec![
            (Ink::Third, "p99.9"),
            (Ink::Second, "p99"),
            (Ink::First, "p50"),
            (Ink::Bare, "bare write and sync, p50"),
        ],
        plot: plot(format!("Latency over threads, {bytes} bytes"), &log, lines, |values| {
            Axis::over(values, tick_time)
        }),
    }
}

/// Records a second over the number of threads, beside the bare files.
fn throughput(points: &Points, bytes: usize) -> Figure {
    let log = points.of(bytes, Side::Log);
    let sides = [
        (Ink::OtherBare, Side::Written, "bare file, written before"),
        (Ink::Bare, Side::Grows, "bare file that grows"),
        (Ink::First, Side::Log, "log"),
    ];
    let rate = |point: &Point| Some((point.all.rate, point.spread(|one| one.rate), true));
    Figure {
        heading: "Throughput, records a second",
        legend: sides.iter().rev().map(|&(ink, _, what)| (ink, what)).collect(),
        plot: plot(
            format!("Throughput over threads, {bytes} bytes"),
            &log,
            sides.iter().map(|&(ink, side, _)| line(ink, &points.of(bytes, side), rate)).collect(),
            |values| Axis::over(values, tick_many),
        ),
    }
}

/// Records in a commit group over the number of threads.
fn groups(points: &Points, bytes: usize) -> Figure {
    let log = points.of(bytes, Side::Log);
    let every = |point: &Point| {
        let writers = f64::from(point.load.writers);
        Some((writers, (writers, writers), true))
    };
    let size = |point: &Point| {
        let groups = point.all.groups?;
        Some((groups.p50 as f64, (groups.p10 as f64, groups.p90 as f64), true))
    };
    Figure {
        heading: "Records in a commit group",
        legend: vec![
            (Ink::First, "median; band: 10 to 90 % of groups"),
            (Ink::Bare, "every thread in one group"),
        ],
        plot: plot(
            format!("Group size over threads, {bytes} bytes"),
            &log,
            vec![line(Ink::Bare, &log, every), line(Ink::First, &log, size)],
            |values| Axis::doubling(values, tick_many),
        ),
    }
}

/// A part of the numbers.
type Part = fn(&Numbers) -> f64;

/// What is drawn of a point: the number, lowest and highest, and whether it is certain.
type Drawn = (f64, (f64, f64), bool);

fn line(ink: Ink, points: &[&Point], drawn: impl Fn(&Point) -> Option<Drawn>) -> Line {
    let dot = |point: &&Point| {
        let (y, band, certain) = drawn(point)?;
        Some(Dot { x: f64::from(point.load.writers), y, band, certain })
    };
    Line { ink, points: points.iter().filter_map(dot).collect() }
}

fn plot(title: String, log: &[&Point], lines: Vec<Line>, y: impl Fn(&[f64]) -> Axis) -> Plot {
    let threads: Vec<f64> = log.iter().map(|point| f64::from(point.load.writers)).collect();
    let dots = lines.iter().flat_map(|line| &line.points);
    let heights: Vec<f64> = dots.flat_map(|dot| [dot.y, dot.band.0, dot.band.1]).collect();
    Plot { title, x_title: "threads", x: Axis::at(&threads, tick_many), y: y(&heights), lines }
}

fn how_to_read(page: &mut String, plan: &Plan) {
    let Plan { repeats, millis, .. } = plan;
    *page += "<h2>How to read it</h2>\n";
    add(
        page,
        format_args!(
            "<p>Each number of threads was measured in {repeats} repetitions of {} each, in an order that the seed shuffles. Under each load the \
             log and the two bare files took turns. All axes are logarithmic.</p>\n",
            time(*millis as f64 * 1e3 / f64::from(*repeats))
        ),
    );
    *page += "<p><b>Latency</b> is from the call of an append to its return, when the record is durable, over all calls of all threads and all \
              repetitions; the band goes from the lowest to the highest of a single repetition. A hollow point, or a number in brackets, has \
              fewer than 10 calls beyond it: it may be chance. Each thread appends again as soon as its append has returned, so a stall of \
              the disk delays no more than one call of each thread: under requests that arrive at a fixed rate, more of them would meet it.</p>\n";
    *page += "<p><b>Throughput</b> is the median of the repetitions; the band goes from the lowest to the highest. A bare file gets as many \
              records in one write and one fdatasync as there are threads, from one thread and through the page cache, without checksums, \
              rotation or recovery: no group can be larger. Of bare disk is the log beside the \
              faster of the two, and in brackets the lowest and the highest in a single repetition. Above 1, the log's files are \
              written in a faster way than these, which is named below, or the disk was uneven.</p>\n";
    *page += "<p><b>A commit group</b> is what one write and one sync of the log made durable.</p>\n";
}

/// Every point, with how many calls its latencies are of.
fn everything(page: &mut String, points: &Points) {
    *page += "<h2>All numbers</h2>\n<p class=\"note\">The same, and each repetition, is in the CSV beside this page.</p>\n\
              <div class=\"wide\"><table>\n<thead><tr>";
    for (class, heading) in HEADINGS {
        add(page, format_args!("<th{class}>{heading}</th>"));
    }
    *page += "</tr></thead>\n<tbody>\n";
    for point in &points.0 {
        let Point { load, side, all, .. } = point;
        let (low, high) = point.spread(|one| one.rate);
        let begins = if *side == Side::Log { " class=\"begins\"" } else { "" };
        add(
            page,
            format_args!(
                "<tr{begins}><td>{}</td><td>{}</td><td class=\"word\">{}</td><td>{}</td><td>{} to {}</td><td>{}</td><td>{}</td><td>{}</td>",
                grouped(load.bytes as u64),
                load.writers,
                side.name(),
                many(all.rate),
                many(low),
                many(high),
                significant(all.rate * load.bytes as f64 / 1e6),
                ratio(points, point),
                grouped(all.calls),
            ),
        );
        for (percent, value) in [(50.0, all.p50), (99.0, all.p99), (99.9, all.p999)] {
            *page += &percentile(all, percent, value);
        }
        add(page, format_args!("<td>{}</td>", time(all.slowest)));
        match all.groups {
            Some(groups) => {
                add(page, format_args!("<td>{}</td><td>{}</td></tr>\n", groups.p50, groups.largest))
            }
            None => *page += "<td></td><td></td></tr>\n",
        }
    }
    *page += "</tbody>\n</table></div>\n";
}

/// The cell of a percentile.
fn percentile(numbers: &Numbers, percent: f64, value: f64) -> String {
    if numbers.is_certain(percent) {
        format!("<td>{}</td>", time(value))
    } else {
        format!("<td class=\"chance\">({})</td>", time(value))
    }
}

/// Adds to a page. Writing to a string cannot fail.
fn add(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

const STYLE: &str = include_str!("page.css");

/// Of the last table: a class, and the words.
const HEADINGS: [(&str, &str); 14] = [
    ("", "Bytes"),
    ("", "Threads"),
    (" class=\"word\"", "What"),
    ("", "Records/s"),
    ("", "Lowest to highest"),
    ("", "MB/s"),
    ("", "Of bare disk"),
    ("", "Calls"),
    ("", "p50"),
    ("", "p99"),
    ("", "p99.9"),
    ("", "Slowest"),
    ("", "Group p50"),
    ("", "Largest group"),
];

#[cfg(test)]
mod tests;
