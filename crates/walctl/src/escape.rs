//! Bytes as one line of printable ASCII, without loss.

/// Appends `bytes` to `text`, escaped: printable ASCII stands for itself, a backslash is `\\`, a tab `\t`, a newline
/// `\n`, and every other byte `\xNN`. So a payload can neither break the line nor speak to the terminal.
pub(crate) fn escape(text: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'\\' => text.extend(b"\\\\"),
            b'\t' => text.extend(b"\\t"),
            b'\n' => text.extend(b"\\n"),
            b' '..=b'~' => text.push(byte),
            _ => text.extend([b'\\', b'x', hex(byte >> 4), hex(byte & 0xf)]),
        }
    }
}

const fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn every_byte_is_escaped_as_documented() {
        let mut text = Vec::new();
        escape(&mut text, b"a b\\\t\n\r\x00\x1b\x7f\x80\xff~");
        assert_eq!(String::from_utf8(text).unwrap(), r"a b\\\t\n\x0d\x00\x1b\x7f\x80\xff~");
    }

    #[test]
    fn every_pair_of_bytes_stays_distinct_and_printable() {
        let mut seen = std::collections::HashSet::new();
        for pair in 0..=u16::MAX {
            let mut text = Vec::new();
            escape(&mut text, &pair.to_le_bytes());
            assert!(text.iter().all(|b| (b' '..=b'~').contains(b)));
            assert!(seen.insert(text), "two payloads look the same");
        }
    }
}
