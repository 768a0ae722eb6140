//! Tables for people: columns as wide as what stands in them. Scripts take `--json`.

use crate::exit::Failure;
use crate::out::Out;
use crate::paint::{Hue, Painted};

/// Rows under a heading.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A heading, and where what stands below it is flush.
struct Column {
    name: &'static str,
    right: bool,
}

/// What stands in a column.
pub(crate) struct Cell {
    text: String,
    hue: Hue,
}

impl Table {
    /// No rows yet. A heading that begins with `>` is that of a column of numbers.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        let column = |name: &&'static str| match name.strip_prefix('>') {
            Some(name) => Column { name, right: true },
            None => Column { name, right: false },
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row. What is missing at its end stays empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Prints heading and rows.
    pub(crate) fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let width = |at: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.text.chars().count());
            cells.chain([column.name.len()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> =
            self.columns.iter().enumerate().map(|(at, column)| width(at, column)).collect();
        let heading: Vec<Cell> = self.columns.iter().map(|column| column.name.into()).collect();
        for row in [&heading].into_iter().chain(&self.rows) {
            let mut line = String::new();
            let mut gap = 0;
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let room = width.saturating_sub(cell.text.chars().count());
                let (before, after) = if column.right { (room, 0) } else { (0, room) };
                // What is flush left is padded by the next cell only, so that no line ends in spaces.
                line.extend(std::iter::repeat_n(' ', gap + before));
                line.push_str(&Painted::new(&cell.text, cell.hue, out.is_painted()).to_string());
                gap = GAP + after;
            }
            out.line(format_args!("{line}"))?;
        }
        Ok(())
    }
}

impl Cell {
    /// A state or a verdict, in its hue.
    pub(crate) fn painted(text: impl Into<String>, hue: Hue) -> Self {
        Self { text: text.into(), hue }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::painted(text, Hue::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::painted(text, Hue::Plain)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        number.to_string().into()
    }
}

impl From<Option<u64>> for Cell {
    fn from(number: Option<u64>) -> Self {
        number.map_or_else(|| "-".into(), Self::from)
    }
}

/// Spaces between two columns.
const GAP: usize = 2;
