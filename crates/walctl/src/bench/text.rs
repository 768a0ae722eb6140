//! Numbers and names as a report writes them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Text that stands for itself in HTML and in XML, also between quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&#34;",
            '\'' => escaped += "&#39;",
            // What has no place in a line, what XML forbids, and what turns the order of others around.
            '\u{FFFE}' | '\u{FFFF}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
                escaped.push('\u{FFFD}')
            }
            control if control.is_control() => escaped.push('\u{FFFD}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A word of a shell's command line.
pub(super) fn word(word: &OsStr) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(byte);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| plain(&byte)) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', "'\\''")),
        // Bytes that are no text, or would not show.
        _ => {
            let byte = |&byte: &u8| {
                if plain(&byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") }
            };
            format!("$'{}'", word.as_bytes().iter().map(byte).collect::<String>())
        }
    }
}

/// Microseconds, with a unit that fits.
pub(super) fn time(micros: f64) -> String {
    match micros {
        micros if micros < 1e3 => format!("{} µs", significant(micros)),
        micros if micros < 1e6 => format!("{} ms", significant(micros / 1e3)),
        micros => format!("{} s", significant(micros / 1e6)),
    }
}

/// A number of records, by three digits.
pub(super) fn many(number: f64) -> String {
    match number {
        number if number < 1e4 => spaced(&format!("{number:.0}")),
        number if number < 1e6 => format!("{}k", significant(number / 1e3)),
        number => format!("{}M", significant(number / 1e6)),
    }
}

/// Three digits, or all before the point.
pub(super) fn significant(number: f64) -> String {
    match number {
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    }
}

/// A whole number with a narrow space between thousands.
pub(super) fn grouped(number: u64) -> String {
    spaced(&number.to_string())
}

fn spaced(digits: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push('\u{202F}');
        }
        grouped.push(digit);
    }
    grouped
}

/// Of an axis: round numbers, without the zeros of a fixed number of digits.
pub(super) fn tick_time(micros: f64) -> String {
    match micros {
        micros if micros < 1.0 => format!("{} ns", round(micros * 1e3)),
        micros if micros < 1e3 => format!("{} µs", round(micros)),
        micros if micros < 1e6 => format!("{} ms", round(micros / 1e3)),
        micros => format!("{} s", round(micros / 1e6)),
    }
}

/// The same for numbers of records or threads.
pub(super) fn tick_many(number: f64) -> String {
    match number {
        number if number < 1e4 => round(number),
        number if number < 1e6 => format!("{}k", round(number / 1e3)),
        number => format!("{}M", round(number / 1e6)),
    }
}

/// At most two digits behind the point, and none that is 0.
fn round(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
