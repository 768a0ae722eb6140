//! `walctl tail`.

use std::io::{BufRead, BufReader};

use crate::support::{Session, append, command, contents, filled, home, walctl};

#[test]
fn w1_tail_prints_what_is_proven_in_the_form_of_dump() {
    let home = filled(400, 500);
    let dumped = walctl(["dump", &home.dir]).exits(0);
    let before = contents(&home.path);
    assert_eq!(walctl(["tail", &home.dir]).exits(0).out, dumped.out, "it was closed: all of it is proven");
    let json = walctl(["dump", "--json", &home.dir]).exits(0).out;
    assert_eq!(walctl(["tail", "--json", &home.dir]).exits(0).out, json);
    let from = walctl(["dump", &home.dir, "--from", "390"]).exits(0).out;
    assert_eq!(walctl(["tail", &home.dir, "--from", "390"]).exits(0).out, from);
    assert!(walctl(["tail", &home.dir, "--from", "401"]).exits(0).out.is_empty());
    assert!(before == contents(&home.path), "X3: bytes, names and times");
}

#[test]
fn w4_tail_tells_a_gap_and_damage_by_its_exit_code() {
    let home = filled(400, 500);
    walctl(["gc", &home.dir, "--flushed", "300"]).exits(0);
    let run = walctl(["tail", &home.dir, "--from", "5"]).exits(3);
    assert!(run.out.is_empty() && run.err.contains("was deleted"), "{}", run.err);
    assert!(!walctl(["tail", &home.dir]).exits(0).out.is_empty(), "what is left");
    walctl(["tail", "/nowhere/at/all"]).exits(3);
    walctl(["tail", &home.dir, "--interval", "0"]).exits(2);
    let log = &crate::support::logs(&home.path)[0];
    let mut bytes = std::fs::read(log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(log, bytes).unwrap();
    let run = walctl(["tail", &home.dir]).exits(1);
    assert!(!run.out.is_empty(), "what comes before the damage");
}

#[test]
fn w1_tail_follows_a_writer_and_the_next_one_until_ctrl_c() {
    let home = home();
    let mut session = Session::start(&home.dir, &[]);
    session.say("one");
    let mut child = command(["tail", &home.dir, "--follow", "--interval", "5"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    session.say("two");
    assert_eq!(lines.next().unwrap().unwrap(), "1\tone", "the group after it proves it");
    session.kill();
    append(&home.dir, &[], b"three\n").exits(0);
    assert_eq!(lines.next().unwrap().unwrap(), "2\ttwo", "which the next writer made durable");
    assert_eq!(lines.next().unwrap().unwrap(), "3\tthree");
    append(&home.dir, &[], b"four\n").exits(0);
    assert_eq!(lines.next().unwrap().unwrap(), "4\tfour");
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(lines.next().is_none());
}
