//! Standard output: a reader that went away ends the verb quietly, every other failure is one.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::exit::Failure;
use crate::paint;

/// Buffered standard output. Call [`Out::flush`] at the end: what is dropped unflushed may be lost without a word.
pub(crate) struct Out {
    to: BufWriter<StdoutLock<'static>>,
    painted: bool,
}

impl Out {
    /// Takes standard output.
    pub(crate) fn new() -> Self {
        let to = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        Self { to, painted: paint::stdout() }
    }

    /// Whether it takes colours.
    pub(crate) fn is_painted(&self) -> bool {
        self.painted
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(failed)
    }

    /// Writes a line of text.
    pub(crate) fn line(&mut self, text: fmt::Arguments<'_>) -> Result<(), Failure> {
        self.to.write_fmt(text).and_then(|()| self.to.write_all(b"\n")).map_err(failed)
    }

    /// Writes one JSON object as a line.
    pub(crate) fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        match serde_json::to_writer(&mut self.to, object) {
            Ok(()) => self.bytes(b"\n"),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Hands everything to the system.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(failed)
    }
}

/// Writes one whole line to standard output, shared by threads, and flushes it.
pub(crate) fn line_now(line: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line).and_then(|()| stdout.flush()).map_err(failed)
}

/// Says something to the person, on standard error. A closed standard error is not worth failing for.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "walctl: {text}");
}

fn failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::BrokenPipe
    } else {
        Failure::io("writing to standard output", error)
    }
}

/// Enough for a few hundred short records a system call.
const BUFFER_BYTES: usize = 64 * 1024;
