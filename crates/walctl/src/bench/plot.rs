//! One plot, as SVG that takes its colours and its font from the page around it.
//!
//! Each part has a colour of its own in the SVG, and the page's style replaces it by that attribute (`page.css`): so the same plot fits a light
//! background, a dark one, and paper. Without the style it is still readable.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::exit::Failure;

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// For readers who do not see it.
    pub(super) title: String,
    /// Below the horizontal axis.
    pub(super) x_title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// A line from point to point, with a band around it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) ink: Ink,
    pub(super) points: Vec<Dot>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) y: f64,
    /// Lowest and highest.
    pub(super) band: (f64, f64),
    /// Full, or hollow: a number that may be chance.
    pub(super) certain: bool,
}

/// The colours of lines, by what they mean in `page.css`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// The log, and its median.
    First,
    Second,
    Third,
    /// Bare files.
    Bare,
    OtherBare,
}

impl Ink {
    fn color(self) -> RGBColor {
        match self {
            Self::First => RGBColor(0x00, 0x5F, 0xA3),
            Self::Second => RGBColor(0xC2, 0x54, 0x00),
            Self::Third => RGBColor(0x8E, 0x2A, 0x6E),
            Self::Bare => RGBColor(0x5C, 0x66, 0x70),
            Self::OtherBare => RGBColor(0x0B, 0x7D, 0x5C),
        }
    }

    /// The class of its sample in a legend.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Third => "third",
            Self::Bare => "bare",
            Self::OtherBare => "other",
        }
    }
}

/// A logarithmic axis. Its ticks are given, and all of them are labelled.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    label: fn(f64) -> String,
}

impl Axis {
    /// From a little below the lowest to a little above the highest of these, which are its ticks as far as there is room.
    pub(super) fn at(values: &[f64], label: fn(f64) -> String) -> Self {
        let (low, high) = around(values);
        let (low, high) = if high / low < 2.0 { (low / 2.0, high * 2.0) } else { (low, high) };
        let margin = (high / low).powf(0.05);
        let room = (high / low).powf(0.045);
        let mut ticks: Vec<f64> = Vec::new();
        for &value in values {
            if ticks.last().is_none_or(|last| value / last > room) {
                ticks.push(value);
            }
        }
        Self { low: low / margin, high: high * margin, ticks, label }
    }

    /// From tick to tick around all of these, with ticks at 1, 2 and 5 of each power of ten, or fewer where that would be many.
    pub(super) fn over(values: &[f64], label: fn(f64) -> String) -> Self {
        let (low, high) = around(values);
        let wide = (high / low).log10();
        let steps: &[f64] = if wide <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0, 3.0] };
        let steps = if wide <= 3.5 { steps } else { &[1.0] };
        #[allow(clippy::cast_possible_truncation, reason = "powers of ten of an f64")]
        let first = low.log10().floor() as i32;
        #[allow(clippy::cast_possible_truncation, reason = "powers of ten of an f64")]
        let last = high.log10().ceil() as i32;
        let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        let mut ticks: Vec<f64> = all.collect();
        // One tick at or below the lowest, one at or above the highest.
        let below = ticks.iter().rposition(|&tick| tick <= low).unwrap_or(0);
        ticks.drain(..below);
        let above = ticks.iter().position(|&tick| tick >= high).unwrap_or(ticks.len());
        ticks.truncate(above + 1);
        let end = |tick: Option<&f64>, otherwise| tick.copied().unwrap_or(otherwise);
        Self { low: end(ticks.first(), low), high: end(ticks.last(), high), ticks, label }
    }

    /// Powers of two, from 1.
    pub(super) fn doubling(values: &[f64], label: fn(f64) -> String) -> Self {
        let (_, high) = around(values);
        let mut ticks = vec![1.0, 2.0];
        while let Some(&last) = ticks.last().filter(|&&last| last < high) {
            ticks.push(last * 2.0);
        }
        let end = ticks.last().copied().unwrap_or(high);
        Self { low: 0.85, high: end * 1.1, ticks, label }
    }

    /// Where a value stands, from 0 to 1. What stands elsewhere, the library moves to the edge.
    fn part(&self, value: f64) -> f64 {
        (value / self.low).ln() / (self.high / self.low).ln()
    }
}

/// The lowest and the highest that a logarithm can take; 1 and 10 if there is none.
fn around(values: &[f64]) -> (f64, f64) {
    let positive = || values.iter().copied().filter(|value| value.is_finite() && *value > 0.0);
    let (low, high) = (positive().fold(f64::INFINITY, f64::min), positive().fold(0.0, f64::max));
    if low <= high { (low, high) } else { (1.0, 10.0) }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let at = f64::from(from) + f64::from(to - from) * self.part(*value);
        #[allow(clippy::cast_possible_truncation, reason = "between two i32")]
        let at = at.round() as i32;
        at
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        (self.label)(*value)
    }
}

impl Plot {
    /// An element for a page: no size of its own, no namespace, a title.
    ///
    /// # Errors
    /// The library fails, which it does for drawings that are no text.
    pub(super) fn svg(self) -> Result<String, Failure> {
        let title = self.title.clone();
        let mut drawn = String::new();
        self.draw(&mut drawn).map_err(|error| Failure::Refused(format!("drawing {title}: {error}")))?;
        // What the library begins with has a fixed size, and a namespace that HTML does not need.
        let (_, drawn) = drawn.split_once(">\n").unwrap_or(("", &drawn));
        let title = super::text::escaped(&title);
        Ok(format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title>\n{drawn}"))
    }

    fn draw(self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin_top(20).margin_right(26).margin_bottom(6).margin_left(4);
        builder.set_label_area_size(LabelAreaPosition::Left, 130);
        builder.set_label_area_size(LabelAreaPosition::Bottom, 90);
        let mut chart = builder.build_cartesian_2d(self.x, self.y).map_err(|error| error.to_string())?;
        let text = ("sans-serif", TEXT).into_font().color(&LABELS);
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(GRID.stroke_width(2)).light_line_style(TRANSPARENT);
        mesh.axis_style(FRAME.stroke_width(2)).label_style(text.clone()).axis_desc_style(text);
        mesh.x_desc(self.x_title).draw().map_err(|error| error.to_string())?;
        let failed = |error: DrawingAreaErrorKind<std::io::Error>| error.to_string();
        // Bands below all lines.
        for Line { ink, points } in self.lines.iter().filter(|line| line.points.len() > 1) {
            let above = points.iter().map(|dot| (dot.x, dot.band.1));
            let below = points.iter().rev().map(|dot| (dot.x, dot.band.0));
            let band: Vec<(f64, f64)> = above.chain(below).collect();
            chart.draw_series([Polygon::new(band, ink.color().mix(0.16))]).map_err(failed)?;
        }
        for Line { ink, points } in &self.lines {
            let line = LineSeries::new(points.iter().map(|dot| (dot.x, dot.y)), ink.color().stroke_width(4));
            chart.draw_series(line).map_err(failed)?;
            if points.len() == 1 {
                let spread = |dot: &Dot| {
                    PathElement::new([(dot.x, dot.band.0), (dot.x, dot.band.1)], ink.color().stroke_width(4))
                };
                chart.draw_series(points.iter().map(spread)).map_err(failed)?;
            }
            for dot in points {
                let at = (dot.x, dot.y);
                let dots = if dot.certain {
                    vec![Circle::new(at, 8, ink.color().filled())]
                } else {
                    vec![Circle::new(at, 8, HOLLOW.filled()), Circle::new(at, 8, ink.color().stroke_width(3))]
                };
                chart.draw_series(dots).map_err(failed)?;
            }
        }
        area.present().map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// Twice what it takes on a page, since the library rounds to whole pixels.
const WIDTH: u32 = 960;
const HEIGHT: u32 = 640;

/// The height of letters; the library asks for a quarter more.
const TEXT: u32 = 40;

const FRAME: RGBColor = RGBColor(0x44, 0x44, 0x45);
const LABELS: RGBColor = RGBColor(0x33, 0x33, 0x34);
const GRID: RGBColor = RGBColor(0xD8, 0xDC, 0xE1);
const HOLLOW: RGBColor = RGBColor(0xFF, 0xFF, 0xFE);

#[cfg(test)]
mod tests;
