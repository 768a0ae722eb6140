//! Colours, of states and verdicts only: green is well, yellow is to be known, red is wrong.

use std::fmt;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use wal_manager::{LogVerdict, Verdict};

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hue {
    /// A word like others.
    Plain,
    /// As it should be.
    Well,
    /// Normal, but good to know.
    Notable,
    /// Never normal.
    Wrong,
}

/// A word in its colour, if there are colours.
pub(crate) struct Painted<'a> {
    text: &'a str,
    style: Style,
}

impl<'a> Painted<'a> {
    pub(crate) fn new(text: &'a str, hue: Hue, painted: bool) -> Self {
        let colour = match hue {
            Hue::Plain => None,
            Hue::Well => Some(AnsiColor::Green),
            Hue::Notable => Some(AnsiColor::Yellow),
            Hue::Wrong => Some(AnsiColor::Red),
        };
        Self { text, style: Style::new().fg_color(colour.filter(|_| painted).map(Into::into)) }
    }
}

impl fmt::Display for Painted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.style;
        write!(f, "{style}{}{style:#}", self.text)
    }
}

/// Whether standard output takes colours: it is a terminal and `NO_COLOR` is not set, or `CLICOLOR_FORCE` is.
pub(crate) fn stdout() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// The hue of a log's verdict.
pub(crate) fn of_log(verdict: LogVerdict) -> Hue {
    match verdict {
        LogVerdict::Clean => Hue::Well,
        LogVerdict::Damaged | LogVerdict::Missing | LogVerdict::Foreign | LogVerdict::NewerFormat => {
            Hue::Wrong
        }
        _ => Hue::Notable,
    }
}

/// The hue of a directory's verdict.
pub(crate) fn of(verdict: Verdict) -> Hue {
    match verdict {
        Verdict::Clean => Hue::Well,
        Verdict::TornTail => Hue::Notable,
        Verdict::Damaged => Hue::Wrong,
    }
}
