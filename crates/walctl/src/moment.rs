//! Times, sizes and numbers for people.

use jiff::Timestamp;

/// A moment, in UTC and to the second.
pub(crate) fn of(micros: u64) -> String {
    let moment =
        i64::try_from(micros / 1_000_000).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    moment.map_or_else(|| "-".to_owned(), |moment| moment.to_string())
}

/// A length of time, in its two largest units.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes, in the unit that suits it.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// So many logs.
pub(crate) fn logs(logs: u64) -> String {
    if logs == 1 { "1 log".to_owned() } else { format!("{logs} logs") }
}
