//! `walctl append`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::support::{Session, append, command, home, walctl};

const LEVELS: [&str; 4] = ["always", "written", "buffered", "interval:5"];

/// What `dump --json` finds: sequence number to payload.
fn dumped(dir: &str) -> BTreeMap<u64, Vec<u8>> {
    use base64::Engine as _;
    let decode = |text: &str| base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let objects = walctl(["dump", dir, "--json"]).exits(0).json();
    objects.iter().map(|o| (o["seq"].as_u64().unwrap(), decode(o["payload"].as_str().unwrap()))).collect()
}

#[test]
fn every_line_is_a_record_and_is_acknowledged() {
    for level in LEVELS {
        let home = home();
        let run =
            append(&home.dir, &["--sync", level], b"one\ntwo\n\xff\x00\r\nlast, without newline").exits(0);
        assert_eq!(run.text(), "1 1\n2 2\n3 3\n4 4\n", "{level}");
        assert_eq!(run.err, "");
        let dump = walctl(["dump", &home.dir]).exits(0);
        assert_eq!(dump.text(), "1\tone\n2\ttwo\n3\t\\xff\\x00\\x0d\n4\tlast, without newline\n");

        // Lines are counted anew, sequence numbers go on.
        let run = append(&home.dir, &["--sync", level, "--json"], b"five\n").exits(0);
        assert_eq!(run.text(), "{\"seq\":5,\"line\":1}\n");
        assert_eq!(append(&home.dir, &[], b"").exits(0).out, b"");
    }
}

#[test]
fn a2_an_empty_line_is_refused_and_the_rest_goes_on() {
    for level in LEVELS {
        let home = home();
        let run = append(&home.dir, &["--sync", level], b"\na\n\n\nb\n\n").exits(2);
        assert_eq!(run.text(), "1 2\n2 5\n", "{level}");
        for line in [1, 3, 4, 6] {
            assert!(run.err.contains(&format!("line {line} ")), "line {line} is named: {}", run.err);
        }
        assert_eq!(run.err.lines().count(), 4);
        assert_eq!(walctl(["dump", &home.dir]).exits(0).text(), "1\ta\n2\tb\n");
    }
}

#[test]
fn a2_a_line_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let home = home();
    let limit = wal_manager::PAYLOAD_BYTES_MAX;
    let mut input = vec![b'x'; limit + 1];
    input.extend(b"\nnext\n");
    input.extend(vec![b'y'; limit]);
    let run = append(&home.dir, &[], &input).exits(2);
    assert_eq!(run.text(), "1 2\n2 3\n");
    assert!(run.err.contains("line 1 ") && run.err.contains(&limit.to_string()), "{}", run.err);
    let dump = walctl(["dump", &home.dir]).exits(0);
    assert_eq!(dump.out.len(), "1\tnext\n2\t\n".len() + limit);
}

#[test]
fn a_record_is_acknowledged_before_the_next_line_is_waited_for() {
    for level in LEVELS {
        for writers in ["1", "3"] {
            let home = home();
            let mut session = Session::start(&home.dir, &["--sync", level, "--writers", writers]);
            // Each `say` would wait for ever if the acknowledgement waited for the next line.
            for line in 1..=3 {
                assert_eq!(session.say("hello"), format!("{line} {line}"));
            }
            drop(session.stdin);
            assert!(session.child.wait().unwrap().success());
            assert!(session.stdout.next().is_none());
        }
    }
}

#[test]
fn writers_share_the_lines_and_every_line_is_acknowledged_once() {
    for level in LEVELS {
        let home = home();
        let lines: Vec<String> = (1..=3000).map(|line| format!("line {line}")).collect();
        let run =
            append(&home.dir, &["--sync", level, "--writers", "4"], lines.join("\n").as_bytes()).exits(0);
        let dumped = dumped(&home.dir);
        let mut seen = std::collections::BTreeSet::new();
        for acknowledged in run.text().lines() {
            let (seq, line) = acknowledged.split_once(' ').unwrap();
            assert!(seen.insert(line.parse::<usize>().unwrap()), "line {line} is acknowledged once");
            assert_eq!(dumped[&seq.parse().unwrap()], format!("line {line}").into_bytes(), "{level}");
        }
        assert_eq!((seen.len(), dumped.len()), (3000, 3000));
    }
}

#[test]
fn a_kill_loses_no_acknowledged_line() {
    for level in ["always", "written", "interval:1"] {
        let home = home();
        let mut expected: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for round in 0..6_u64 {
            let args = ["append", &home.dir, "--sync", level, "--writers", "4", "--log-bytes", "65536"];
            let mut child = command(args).stderr(Stdio::inherit()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            let line = |number: u64| {
                format!("round {round} line {number} {}", "x".repeat((number * 37 % 900) as usize))
            };
            std::thread::scope(|scope| {
                scope.spawn(move || (1..).try_for_each(|number| writeln!(stdin, "{}", line(number))));
                let mut acknowledged = 0;
                loop {
                    let mut text = String::new();
                    stdout.read_line(&mut text).unwrap();
                    // What the kill cut off was not said.
                    let Some(text) = text.strip_suffix('\n') else { break };
                    let (seq, number) = text.split_once(' ').unwrap();
                    expected.insert(seq.parse().unwrap(), line(number.parse().unwrap()).into_bytes());
                    acknowledged += 1;
                    if acknowledged == 50 + round * 61 {
                        child.kill().unwrap();
                    }
                }
                child.wait().unwrap();
            });
            let dumped = dumped(&home.dir);
            for (seq, payload) in &expected {
                assert_eq!(dumped.get(seq), Some(payload), "{level}: acknowledged as {seq} and lost");
            }
        }
        assert!(expected.len() >= 6 * 50);
    }
}

#[test]
fn bad_options_exit_2_before_anything_is_created() {
    let bad: [&[&str]; 14] = [
        &["--writers", "0"],
        &["--writers", "many"],
        &["--sync", "sometimes"],
        &["--sync", "interval"],
        &["--sync", "interval:0"],
        &["--sync", "interval:-1"],
        &["--log-bytes", "65535"],
        &["--log-bytes", "1099511627777"],
        &["--log-bytes", "big"],
        &["--kind", "0"],
        &["--kind", "61440"],
        &["--kind", "65537"],
        &["--family", "16777216"],
        &["--family", "-1"],
    ];
    for args in bad {
        let home = home();
        let run = append(&home.dir, args, b"a\n").exits(2);
        assert!(!run.err.is_empty() && run.out.is_empty() && !home.path.exists(), "{args:?}");
    }
}

#[test]
fn kind_and_family_are_in_the_record() {
    let home = home();
    append(&home.dir, &["--kind", "61439", "--family", "16777215"], b"a\n").exits(0);
    append(&home.dir, &[], b"b\n").exits(0);
    let records = walctl(["dump", &home.dir, "--json"]).exits(0).json();
    let found: Vec<_> =
        records.iter().map(|r| (r["kind"].as_u64().unwrap(), r["families"].to_string())).collect();
    assert_eq!(found, [(61439, "[16777215]".to_owned()), (1, "[0]".to_owned())]);
}

#[test]
fn x1_a_second_writer_exits_4_and_readers_are_not_kept_out() {
    let home = home();
    let mut session = Session::start(&home.dir, &[]);
    assert_eq!(session.say("held"), "1 1");
    let run = append(&home.dir, &[], b"second\n").exits(4);
    assert!(run.err.contains("LOCK") && run.out.is_empty(), "{}", run.err);
    walctl(["gc", &home.dir, "--flushed", "1"]).exits(4);
    assert_eq!(walctl(["dump", &home.dir]).exits(0).text(), "1\theld\n");
    walctl(["verify", &home.dir]).exits(0);
    walctl(["ls", &home.dir]).exits(0);
    session.kill();
    // The lock dies with its process.
    assert_eq!(append(&home.dir, &[], b"second\n").exits(0).text(), "2 1\n");
}

#[test]
fn a_reader_that_goes_away_ends_append_quietly() {
    let home = home();
    let mut child = command(["append", &home.dir]).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    while writeln!(stdin, "line").is_ok() {}
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    walctl(["verify", &home.dir]).exits(0);
}
