//! Progress bars: on a terminal only, and only on standard error.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wal_manager::{Options, Progress};

/// A bar of `length` steps, invisible unless standard error is a terminal.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    styled(ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()), template)
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    // A template is a constant of ours; should one be wrong, the plain bar does.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Lets `options` show how far a reading has got, and gives the bar to clear at the end. Quiet if standard output is the
/// same terminal, where bar and output would write over each other, unless the output comes only at the end.
pub(crate) fn reading(options: Options, output_at_end: bool) -> (Options, ProgressBar) {
    if !output_at_end && std::io::stdout().is_terminal() {
        return (options, ProgressBar::hidden());
    }
    let bar = bar(0, BYTES);
    let shown = bar.clone();
    (options.on_progress(move |progress| show(&shown, progress)), bar)
}

/// A step that begins anew has a rate of its own.
fn show(bar: &ProgressBar, Progress { bytes_done, bytes_total, .. }: Progress) {
    if bar.length() != Some(bytes_total) || bytes_done < bar.position() {
        bar.reset();
        bar.set_length(bytes_total);
    }
    bar.set_position(bytes_done);
}

/// How far, how fast, how long still.
const BYTES: &str = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressBar, ProgressDrawTarget};
    use wal_manager::Progress;

    use super::{BYTES, show, styled};

    #[test]
    fn a_bar_says_how_far_how_fast_and_how_long_still_and_begins_anew_with_each_step() {
        let terminal = InMemoryTerm::new(4, 80);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let bar = styled(ProgressBar::with_draw_target(Some(0), target), BYTES);
        show(&bar, Progress { bytes_done: 1 << 20, bytes_total: 4 << 20 });
        bar.tick();
        let shown = terminal.contents();
        assert!(
            shown.contains("1.00 MiB/4.00 MiB") && shown.contains("/s ") && shown.ends_with(" left"),
            "{shown}"
        );
        show(&bar, Progress { bytes_done: 4 << 20, bytes_total: 4 << 20 });
        show(&bar, Progress { bytes_done: 0, bytes_total: 2 << 20 });
        bar.tick();
        assert!(terminal.contents().contains("0 B/2.00 MiB"), "{}", terminal.contents());
        bar.finish_and_clear();
        assert_eq!(terminal.contents(), "", "nothing of it is left");
    }
}
