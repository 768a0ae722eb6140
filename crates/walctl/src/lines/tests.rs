//! Every shape of input, through buffers of every small size.

use std::io::BufReader;

use super::{Line, Lines};

fn all(input: &[u8], buffer: usize, bytes_max: usize) -> Vec<Option<Vec<u8>>> {
    let mut lines = Lines::new(BufReader::with_capacity(buffer, input), bytes_max);
    let (mut found, mut line) = (Vec::new(), Vec::new());
    loop {
        match lines.next(&mut line).unwrap() {
            Line::Bytes => found.push(Some(line.clone())),
            Line::TooLong => found.push(None),
            Line::End => return found,
        }
        assert_eq!(lines.number(), found.len() as u64);
        assert!(line.capacity() <= 64, "a line that is too long is not kept");
    }
}

#[test]
fn lines_are_what_a_split_at_newlines_gives() {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\n",
        b"a",
        b"a\n",
        b"a\nbc",
        b"\n\nab\r\n\xff\x00\n",
        b"0123456789\n0123456789a\nx",
        b"0123456789abcdef",
    ];
    for input in inputs {
        let mut expected: Vec<_> =
            input.split(|&b| b == b'\n').map(|l| (l.len() <= 10).then(|| l.to_vec())).collect();
        if input.is_empty() || input.ends_with(b"\n") {
            expected.pop();
        }
        for buffer in 1..20 {
            assert_eq!(all(input, buffer, 10), expected, "{input:?} with a buffer of {buffer}");
        }
    }
}

#[test]
fn a_line_of_a_gigabyte_costs_no_memory() {
    let endless = BufReader::new(std::io::Read::take(std::io::repeat(b'x'), 1 << 28));
    let mut line = Vec::new();
    let mut lines = Lines::new(endless, 1000);
    assert_eq!(lines.next(&mut line).unwrap(), Line::TooLong);
    assert!(line.capacity() < 1 << 20);
    assert_eq!(lines.next(&mut line).unwrap(), Line::End);
}
