//! Progress bars: on a terminal only, and only on standard error.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wal_manager::{Options, Progress};

/// A bar of `length` steps, invisible unless standard error is a terminal.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    // A template is a constant of ours; should one be wrong, the plain bar does.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Lets `options` show how far a reading has got, and gives the bar to clear at the end. Quiet if standard output is the
/// same terminal, where bar and output would write over each other, unless the output comes only at the end.
pub(crate) fn reading(options: Options, output_at_end: bool) -> (Options, ProgressBar) {
    if !output_at_end && std::io::stdout().is_terminal() {
        return (options, ProgressBar::hidden());
    }
    let bar = bar(0, "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let shown = bar.clone();
    let options = options.on_progress(move |Progress { bytes_done, bytes_total, .. }| {
        shown.set_length(bytes_total);
        shown.set_position(bytes_done);
    });
    (options, bar)
}
