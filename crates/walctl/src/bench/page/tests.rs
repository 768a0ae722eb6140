use roxmltree::{Document, Node, ParsingOptions};

use super::*;
use crate::bench::fixture::{self, REPEATS, SIZES, WRITERS};

fn parsed(page: &str) -> Document<'_> {
    Document::parse_with_options(page, ParsingOptions { allow_dtd: true, ..Default::default() }).unwrap()
}

fn named<'a>(page: &'a Document<'_>, name: &str) -> Vec<Node<'a, 'a>> {
    page.descendants().filter(|node| node.tag_name().name() == name).collect()
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

#[test]
fn t5_the_page_is_well_formed_loads_nothing_and_has_every_plot() {
    let html = page(&fixture::plan(), &fixture::facts(), &fixture::points()).unwrap();
    let page = parsed(&html);
    for name in ["script", "link", "img", "image", "iframe", "object", "embed", "use", "form", "base"] {
        assert!(named(&page, name).is_empty(), "{name}");
    }
    for attribute in page.descendants().flat_map(|node| node.attributes()) {
        let name = attribute.name();
        assert!(
            !name.starts_with("on") && !["src", "href", "style", "action"].contains(&name),
            "{attribute:?}"
        );
    }
    for reference in ["http:", "https:", "//", "url(", "@import", "data:"] {
        assert!(!html.contains(reference), "{reference}");
    }
    let figures = named(&page, "figure");
    assert_eq!(figures.len(), 3 * SIZES.len());
    for (number, figure) in figures.into_iter().enumerate() {
        let heading = text(figure.children().find(|node| node.has_tag_name("h3")).unwrap());
        let headings =
            ["Latency of a durable append", "Throughput, records a second", "Records in a commit group"];
        assert_eq!(heading, headings[number % 3]);
        let lines: Vec<Node<'_, '_>> =
            figure.descendants().filter(|node| node.has_tag_name("polyline")).collect();
        // Each entry of the legend has a line of its own colour, with a point for each number of threads.
        let legend = figure.descendants().filter(|node| node.has_tag_name("li")).count();
        let inks = ["#005FA3", "#C25400", "#8E2A6E", "#5C6670", "#0B7D5C"];
        let drawn = lines.iter().filter(|line| inks.contains(&line.attribute("stroke").unwrap()));
        let drawn: Vec<usize> =
            drawn.map(|line| line.attribute("points").unwrap().split_whitespace().count()).collect();
        assert_eq!(drawn, vec![WRITERS.len(); legend], "{heading}");
        assert!(text(figure).contains("threads"), "the horizontal axis says what it is");
    }
    let body = text(page.root_element());
    for said in ["Somebody else was here.", "Virtual & Co", "42", "in 3 repetitions of 333 ms each"] {
        assert!(body.contains(said), "{said}");
    }
    assert!(!body.contains("One repetition"));
}

#[test]
fn t5_the_page_and_its_csv_say_the_same_of_every_point() {
    let points = fixture::points();
    let html = page(&fixture::plan(), &fixture::facts(), &points).unwrap();
    let page = parsed(&html);
    let table = *named(&page, "table").last().unwrap();
    let rows = table.descendants().filter(|node| node.has_tag_name("tr")).skip(1);
    let rows: Vec<Vec<String>> =
        rows.map(|row| row.children().filter(Node::is_element).map(text).collect()).collect();
    let csv = points.csv();
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let lines: Vec<Vec<&str>> = lines.collect();
    assert_eq!(rows.len(), points.0.len());
    assert_eq!(lines.len(), points.0.len() * (1 + usize::try_from(REPEATS).unwrap()));
    assert!(lines.iter().all(|line| line.len() == names.len()));
    let at =
        |line: &[&str], name: &str| line[names.iter().position(|other| *other == name).unwrap()].to_owned();
    let all: Vec<&Vec<&str>> = lines.iter().filter(|line| at(line, "repetition") == "all").collect();
    assert_eq!(all.len(), rows.len());
    for (row, line) in rows.iter().zip(all) {
        let number = |name: &str| at(line, name).parse::<f64>().unwrap();
        assert_eq!(row[0].replace('\u{202f}', ""), at(line, "bytes"));
        assert_eq!([&row[1], &row[2]], [&at(line, "writers"), &at(line, "what")]);
        assert_eq!(row[3], many(number("records_per_second")));
        assert_eq!(row[7].replace('\u{202f}', ""), at(line, "calls"));
        let times = ["p50_us", "p99_us", "p999_us", "slowest_us"].map(|name| time(number(name)));
        let shown: Vec<&str> = row[8..12].iter().map(|cell| cell.trim_matches(['(', ')'])).collect();
        assert_eq!(shown, times);
        assert_eq!(row[10].starts_with('('), number("calls") < 10_000.0, "few calls are beyond it: {row:?}");
        assert_eq!([&row[12], &row[13]], [&at(line, "group_p50"), &at(line, "group_largest")]);
    }
}

#[test]
fn t5_names_of_somebodys_choice_stay_text() {
    let hostile = "/x/</style><script>alert(1)</script>&amp;\"'`$(reboot)\u{1}\u{202e}";
    let mut facts = fixture::facts();
    for fact in &mut facts.list {
        fact.1 = hostile.to_owned();
    }
    facts.warnings = vec![hostile.to_owned()];
    let plan = Plan { dir: hostile.into(), report: "-->.html".into(), ..fixture::plan() };
    let html = page(&plan, &facts, &fixture::points()).unwrap();
    let page = parsed(&html);
    assert!(named(&page, "script").is_empty());
    assert_eq!(named(&page, "style").len(), 1);
    let shown = hostile.replace(['\u{1}', '\u{202e}'], "\u{fffd}");
    assert_eq!(text(named(&page, "title")[0]), format!("Durable appends in {shown}"));
    assert!(text(named(&page, "pre")[0]).starts_with("walctl bench $'/x/\\x3c/style\\x3e"));
}

#[test]
fn t5_one_repetition_is_no_spread() {
    let plan = Plan { repeats: 1, sizes: vec![128], writers: vec![6], ..fixture::plan() };
    let load = crate::bench::sides::Load { bytes: 128, writers: 6 };
    let mut points: Vec<Point> = Side::ALL.map(|side| fixture::point(load, side)).into();
    for point in &mut points {
        point.each = vec![point.all];
    }
    let facts = Facts { list: Vec::new(), warnings: Vec::new() };
    let html = page(&plan, &facts, &Points(points)).unwrap();
    let page = parsed(&html);
    assert!(text(named(&page, "ul")[0]).contains("One repetition"));
    assert_eq!(named(&page, "figure").len(), 3);
}

#[test]
fn t5_the_command_names_everything_that_was_chosen() {
    let wanted = "walctl bench '/data/disk one' --report out.html \\\n    --size 128 --size 1024 --size 16384 \\\n    --writers 1 --writers 2 \
                  --writers 4 --writers 8 --writers 16 --writers 32 --writers 64 \\\n    --millis 1000 --repeats 3 --seed 42";
    assert_eq!(fixture::plan().command(), wanted);
    assert!(Plan { dir: "-x".into(), ..fixture::plan() }.command().starts_with("walctl bench ./-x "));
}

/// `PAGE=/tmp/page.html cargo test -p walctl --lib look_at -- --ignored` writes the page of made-up numbers, for whoever changes how it looks.
#[test]
#[ignore = "writes a file to look at"]
fn look_at_the_page() {
    let html = page(&fixture::plan(), &fixture::facts(), &fixture::points()).unwrap();
    std::fs::write(std::env::var("PAGE").unwrap(), html).unwrap();
}
