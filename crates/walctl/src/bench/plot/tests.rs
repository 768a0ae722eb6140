use std::env;
use std::fs;
use std::path::Path;

use super::*;
use crate::bench::text::{tick_many, tick_time};

fn dots(values: &[(f64, f64)]) -> Vec<Dot> {
    let dot = |&(x, y): &(f64, f64)| Dot { x, y, band: (0.8 * y, 1.5 * y), certain: y < 1000.0 };
    values.iter().map(dot).collect()
}

fn plot(first: &[(f64, f64)], bare: &[(f64, f64)]) -> Plot {
    let all: Vec<(f64, f64)> = [first, bare].concat();
    let x: Vec<f64> = all.iter().map(|(x, _)| *x).collect();
    let y: Vec<f64> = all.iter().flat_map(|(_, y)| [0.8 * y, 1.5 * y]).collect();
    Plot {
        title: "A <title>".to_owned(),
        x_title: "threads",
        x: Axis::at(&x[..first.len()], tick_many),
        y: Axis::over(&y, tick_time),
        lines: vec![
            Line { ink: Ink::Bare, points: dots(bare) },
            Line { ink: Ink::First, points: dots(first) },
        ],
    }
}

/// `REGENERATE=1` writes it again; look at it in a browser then.
#[test]
fn t5_a_plot_is_the_same_text_each_time() {
    let first = [(1.0, 110.0), (2.0, 130.0), (8.0, 180.0), (64.0, 2100.0)];
    let svg = plot(&first, &[(1.0, 90.0), (2.0, 95.0), (8.0, 100.0), (64.0, 300.0)]).svg().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/plot/golden.svg");
    if env::var_os("REGENERATE").is_some() {
        fs::write(&path, &svg).unwrap();
    }
    assert_eq!(svg, fs::read_to_string(path).unwrap());
}

#[test]
fn t5_points_stand_where_their_numbers_are() {
    let svg = plot(&[(1.0, 100.0), (10.0, 1000.0), (100.0, 10_000.0)], &[]).svg().unwrap();
    let page = roxmltree::Document::parse(&svg).unwrap();
    let color = "#005FA3";
    let line = page
        .descendants()
        .find(|node| node.has_tag_name("polyline") && node.attribute("stroke") == Some(color));
    let line: Vec<(f64, f64)> = line
        .unwrap()
        .attribute("points")
        .unwrap()
        .split_whitespace()
        .map(|point| {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect();
    // Ten times as much each time, on both axes: the steps are the same, but for the rounding.
    let [a, b, c] = line[..] else { panic!("three points: {line:?}") };
    assert!((b.0 - a.0 - (c.0 - b.0)).abs() <= 1.0 && b.0 - a.0 > 300.0, "{line:?}");
    assert!(
        (b.1 - a.1 - (c.1 - b.1)).abs() <= 1.0 && b.1 < a.1 - 100.0,
        "higher numbers are further up: {line:?}"
    );
    // The last two are uncertain here.
    let hollow = page
        .descendants()
        .filter(|node| node.has_tag_name("circle") && node.attribute("stroke") == Some(color));
    assert_eq!(hollow.count(), 2);
    assert_eq!(page.descendants().filter(|node| node.has_tag_name("polygon")).count(), 1, "a band");
    let texts: Vec<&str> = page
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .filter_map(|node| node.text())
        .map(str::trim)
        .collect();
    for label in ["threads", "1", "10", "100", "30 µs", "1 ms", "30 ms"] {
        assert!(texts.contains(&label), "{label} of {texts:?}");
    }
}

#[test]
fn t5_what_can_hardly_be_drawn_is_drawn_all_the_same() {
    let cases: [&[(f64, f64)]; 4] =
        [&[], &[(6.0, 100.0)], &[(1.0, 0.0), (2.0, f64::NAN)], &[(1.0, 1e-3), (1024.0, 1e12)]];
    for values in cases {
        let svg = plot(values, &[]).svg().unwrap();
        let page = roxmltree::Document::parse(&svg).unwrap();
        let texts = page.descendants().filter(|node| node.has_tag_name("text"));
        assert!(texts.count() >= 3, "the vertical axis has labels: {svg}");
        for circle in page.descendants().filter(|node| node.has_tag_name("circle")) {
            let at = |name| circle.attribute(name).unwrap().parse::<u32>().unwrap();
            assert!(at("cx") <= WIDTH && at("cy") <= HEIGHT, "{values:?} is drawn outside: {svg}");
        }
    }
}

#[test]
fn axes_have_a_few_ticks_that_enclose_the_values() {
    let ticks = |values: &[f64]| Axis::over(values, tick_time).ticks;
    assert_eq!(ticks(&[110.0, 900.0]), [100.0, 200.0, 500.0, 1000.0]);
    assert_eq!(ticks(&[100.0, 1000.0]), [100.0, 200.0, 500.0, 1000.0]);
    assert_eq!(ticks(&[7.0, 2_000.0]), [3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]);
    assert_eq!(ticks(&[1.5, 90_000.0]), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
    assert_eq!(ticks(&[300.0]), [200.0, 500.0]);
    assert_eq!(Axis::doubling(&[1.0, 40.0], tick_many).ticks, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
    // Labels that would touch are left out.
    assert_eq!(Axis::at(&[1.0, 2.0, 60.0, 62.0, 64.0], tick_many).ticks, [1.0, 2.0, 60.0]);
}
