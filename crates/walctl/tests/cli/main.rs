//! The built binary, as a script sees it: fixed forms, exit codes, and what it leaves on the disk.

mod append;
mod drill;
mod gc;
mod reading;
mod support;
mod usage;
