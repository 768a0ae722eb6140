//! Links from one directory to another.

use std::io::ErrorKind;

use super::{Broken, Checked, is_named, put, reads};
use crate::Storage;

type LinkRule = fn(&dyn Storage, &dyn Storage) -> Checked;

/// Each rule of links with its words.
pub(super) const LINK_RULES: [(&str, LinkRule); 3] = [
    ("a link is made or refused", links_are_made_or_refused),
    ("a linked file is one file", linked_files_are_one),
    ("a link takes no name's place", links_replace_nothing),
];

/// Links `a` to `b`; `false` if there are no links.
fn link(from: &dyn Storage, to: &dyn Storage) -> Result<bool, Broken> {
    put(from, "a", b"bytes")?;
    match to.link_from(from, "a", "b") {
        Ok(()) => Ok(true),
        Err(error) => {
            let wrong = matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound);
            holds!(!wrong, "there is a file, and no other: {error}");
            Ok(false)
        }
    }
}

fn links_are_made_or_refused(from: &dyn Storage, to: &dyn Storage) -> Checked {
    let linked = link(from, to)?;
    is_named(from, &["a"])?;
    is_named(to, if linked { &["b"] } else { &[] })
}

fn linked_files_are_one(from: &dyn Storage, to: &dyn Storage) -> Checked {
    let sink = from.create("alone")?;
    let alone = sink.links()?;
    holds!(alone == 1, "{alone} links of a new file");
    if !link(from, to)? {
        return Ok(());
    }
    let sink = from.open_sink("a")?;
    let links = sink.links()?;
    holds!(links == 2, "{links} links of a file with two names");
    sink.write_at(0, b"other")?;
    reads(to, "b", b"other")?;
    from.unlink("a")?;
    let links = sink.links()?;
    holds!(links == 1, "{links} links after one is gone");
    reads(to, "b", b"other")
}

fn links_replace_nothing(from: &dyn Storage, to: &dyn Storage) -> Checked {
    put(to, "b", b"there before")?;
    put(from, "a", b"bytes")?;
    let error = to.link_from(from, "a", "b").err().map(|error| error.kind());
    holds!(error.is_some(), "the name was taken");
    reads(to, "b", b"there before")?;
    let absent = to.link_from(from, "absent", "c").err();
    holds!(absent.is_some(), "a link to nothing");
    is_named(to, &["b"])
}
