//! Entries inside a block.

use bytes::Bytes;

use crate::codec::{Fields, put_bytes, put_key};
use crate::entry::{Entry, Key};
use crate::error::EngineError;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const MERGE: u8 = 3;

/// Appends an entry.
pub(super) fn put(out: &mut Vec<u8>, key: &Key, entry: &Entry) -> Result<(), EngineError> {
    let (kind, value) = match entry {
        Entry::Put(value) => (PUT, &**value),
        Entry::Delete => (DELETE, &[][..]),
        Entry::Merge(operand) => (MERGE, &**operand),
    };
    out.push(kind);
    put_key(out, key)?;
    put_bytes(out, value)
}

/// Entries of a block whose checksum was right; keys and values share its bytes.
#[derive(Debug)]
pub(super) struct Entries {
    rest: Bytes,
    last: Option<Key>,
}

impl Entries {
    pub(super) fn new(block: Bytes) -> Self {
        Self { rest: block, last: None }
    }
}

impl Iterator for Entries {
    type Item = Result<(Key, Entry), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut fields = Fields(std::mem::take(&mut self.rest));
        let parse = |fields: &mut Fields| {
            let kind = fields.u8()?;
            let key = fields.key()?;
            let value_length = fields.u32()?;
            Some((kind, key, fields.bytes(value_length)?))
        };
        let Some((kind, key, value)) = parse(&mut fields) else { return Some(Err("an entry is cut off")) };
        let entry = match kind {
            PUT => Entry::Put(value),
            DELETE => Entry::Delete,
            MERGE => Entry::Merge(value),
            _ => return Some(Err("an entry of unknown kind")),
        };
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Some(Err("keys out of order"));
        }
        self.last = Some(key.clone());
        self.rest = fields.0;
        Some(Ok((key, entry)))
    }
}
