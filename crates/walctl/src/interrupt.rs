//! Ctrl-C (and SIGTERM): a verb that changes something ends at a place of its choice, or at once like a crash, after which the next open mends the
//! directory as always.

use std::io;
use std::process;

use crate::exit::{Exit, Failure};
use crate::out;

/// Calls `handler` on a thread of its own, each time.
///
/// # Errors
/// The system has no thread or no pipe for it.
pub(crate) fn on(handler: impl FnMut() + Send + 'static) -> Result<(), Failure> {
    ctrlc::set_handler(handler).map_err(|error| {
        let source = match error {
            ctrlc::Error::System(source) => source,
            other => io::Error::other(other),
        };
        Failure::io("waiting for Ctrl-C", source)
    })
}

/// Ends the process at once, as a crash would, and says in which state that leaves things.
pub(crate) fn ends_at_once(state: impl Into<String>) -> Result<(), Failure> {
    let state = state.into();
    on(move || end(&state))
}

/// Ends the process.
pub(crate) fn end(state: &str) -> ! {
    out::say(format_args!("interrupted: {state}"));
    process::exit(i32::from(Exit::Interrupted.code()))
}
