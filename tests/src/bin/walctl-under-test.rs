//! `walctl`, the same one line as its own binary: here so that cargo has built it before this package's tests run.

use std::process::ExitCode;

fn main() -> ExitCode {
    walctl::main()
}
