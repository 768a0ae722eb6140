use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use super::*;

#[test]
fn t5_text_of_a_page_can_neither_end_an_element_nor_hide() {
    assert_eq!(escaped("a <b> & \"c\" 'd'"), "a &lt;b&gt; &amp; &#34;c&#34; &#39;d&#39;");
    assert_eq!(escaped("\u{1}\n\u{7f}\u{202e}\u{2066}\u{ffff}x\u{e9}"), "\u{fffd}".repeat(6) + "x\u{e9}");
}

#[test]
fn t5_words_come_back_from_a_shell_as_they_were() {
    let words: [&[u8]; 7] =
        [b"/data/a-b_c.html", b"", b"two words", b"it's $HOME `x` \\", b"~", b"a\nb\x01", b"\xff'\xfe \\"];
    for bytes in words {
        let quoted = word(OsStr::from_bytes(bytes));
        let output = Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
        assert_eq!(output.stdout, bytes, "{quoted}");
        assert!(!quoted.chars().any(char::is_control), "{quoted:?}");
    }
    assert_eq!(word(OsStr::new("/data/a-b_c.html")), "/data/a-b_c.html", "what needs no quotes has none");
}

#[test]
fn numbers_have_three_digits_and_a_unit() {
    assert_eq!(
        [0.5, 99.94, 123.4, 9_994.0, 1.5e6].map(time),
        ["0.50 µs", "99.9 µs", "123 µs", "9.99 ms", "1.50 s"]
    );
    assert_eq!(
        [0.4, 999.6, 9_999.0, 45_678.0, 1.5e6].map(many),
        ["0", "1\u{202f}000", "9\u{202f}999", "45.7k", "1.50M"]
    );
    assert_eq!(
        [0, 999, 1000, 1_234_567].map(grouped),
        ["0", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
    );
    assert_eq!([0.5, 1.0, 50.0, 2e3, 5e6].map(tick_time), ["500 ns", "1 µs", "50 µs", "2 ms", "5 s"]);
    assert_eq!([1.0, 64.0, 1000.0, 3e4, 2e6].map(tick_many), ["1", "64", "1000", "30k", "2M"]);
}
