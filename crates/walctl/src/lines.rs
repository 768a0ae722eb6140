//! Lines of any bytes, read within a bound.

use std::io::{self, BufRead};

/// Reads lines; one that is too long is passed over without being kept in memory.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    /// Number of the line that was read last, from 1.
    number: u64,
    bytes_max: usize,
}

/// What a call of [`Lines::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, perhaps an empty one; its bytes are in the buffer, without the newline.
    Bytes,
    /// A line longer than the bound; nothing of it is in the buffer.
    TooLong,
    /// The end of the input.
    End,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `input`, of at most `bytes_max` bytes each.
    pub(crate) fn new(input: R, bytes_max: usize) -> Self {
        Self { input, number: 0, bytes_max }
    }

    /// Number of the line that was read last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line into `line`, in place of what was there. A last line without a newline counts.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let available = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if available.is_empty() && !any {
                return Ok(Line::End);
            }
            any = true;
            let newline = available.iter().position(|&byte| byte == b'\n');
            let end = newline.unwrap_or(available.len());
            too_long |= line.len().saturating_add(end) > self.bytes_max;
            if too_long {
                line.clear();
            } else {
                line.extend(available.iter().take(end));
            }
            let last = newline.is_some() || available.is_empty();
            self.input.consume(end.saturating_add(usize::from(newline.is_some())));
            if last {
                self.number = self.number.saturating_add(1);
                return Ok(if too_long { Line::TooLong } else { Line::Bytes });
            }
        }
    }
}

#[cfg(test)]
mod tests;
