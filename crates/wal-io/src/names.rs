//! Which names are file names.

use std::io;

/// Accepts a plain file name.
pub(crate) fn check(name: &str) -> io::Result<()> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    if plain { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name")) }
}
