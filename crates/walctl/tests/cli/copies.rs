//! `walctl copy`, `restore` and `repair`.

use std::fs;
use std::path::Path;

use crate::support::{Session, append, contents, filled, home, logs, walctl};

#[test]
fn w5_a_copy_of_a_log_that_is_being_written_says_what_it_holds() {
    let home = filled(300, 500);
    let target = format!("{}-copy", home.dir);
    let mut session = Session::start(&home.dir, &[]);
    session.say("while it is written");
    // All but the log that is being written: its writer proves the last record when it is idle.
    let at_rest = || {
        let mut found = contents(&home.path);
        found.remove(logs(&home.path).last().unwrap());
        found
    };
    let before = at_rest();
    let run = walctl(["copy", &home.dir, &target, "--json"]).exits(0).json();
    assert_eq!(at_rest(), before, "the log is not touched");
    let next = run[0]["next_index"].as_u64().unwrap();
    assert!((301..=302).contains(&next), "what is proven: {}", run[0]);
    assert!(run[0]["logs"].as_array().unwrap().iter().any(|log| log["linked"] == true));
    let verify = walctl(["verify", &target, "--json"]).exits(0).json();
    assert_eq!(verify[0]["verdict"], "clean");
    assert_eq!(walctl(["dump", &target]).exits(0).text().lines().count() as u64, next - 1);
    session.kill();
    // A second time to the same place, and to a place that is taken.
    let again = walctl(["copy", &home.dir, &target]).exits(2);
    assert!(again.err.contains(&target), "{}", again.err);
    let text = walctl(["copy", &home.dir, &format!("{target}-2")]).exits(0);
    assert!(text.text().contains("records 1 to 30"), "{}", text.text());
    walctl(["copy", "/nowhere", &format!("{target}-3")]).exits(3);
    assert!(!Path::new(&format!("{target}-3")).exists());
    // It goes on by itself.
    append(&target, &[], b"of the copy\n").exits(0);
}

#[test]
fn v17_a_log_is_restored_to_a_sequence_number() {
    let home = filled(300, 500);
    let target = format!("{}-restored", home.dir);
    let run = walctl(["restore", "--to", "seq:123", &home.dir, &target]).exits(0);
    assert!(run.text().contains("last sequence number 123"), "{}", run.text());
    assert_eq!(walctl(["dump", &target]).exits(0).text().lines().count(), 123);
    assert_eq!(append(&target, &[], b"on\n").exits(0).text(), "124 1\n");
    let other = format!("{target}-2");
    walctl(["restore", &home.dir, &other]).exits(0);
    assert_eq!(walctl(["dump", &other]).exits(0).out, walctl(["dump", &home.dir]).exits(0).out);
    let nowhere = format!("{target}-3");
    for (to, says) in [
        ("mark:never", "no such mark"),
        ("marker:never", "no such mark"),
        ("time:2026-11-21T17:05:00Z", "record_times"),
        ("time:yesterday", "yesterday"),
        ("seq:many", "many"),
        ("somewhere", "seq:N"),
    ] {
        let run = walctl(["restore", "--to", to, &home.dir, &nowhere]).exits(2);
        assert!(run.err.contains(says), "{to}: {}", run.err);
    }
    walctl(["restore", &home.dir]).exits(2);
    assert!(!Path::new(&nowhere).exists());
}

#[test]
fn v4_repair_says_what_it_would_do_and_then_does_it() {
    let home = filled(300, 500);
    assert!(walctl(["repair", &home.dir, "--dry-run"]).exits(0).text().contains("nothing to repair"));
    let log = logs(&home.path)[1].clone();
    let mut bytes = fs::read(&log).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&log, &bytes).unwrap();
    fs::write(home.path.join("CHECKPOINT"), b"gone").unwrap();
    let before = contents(&home.path);
    let refused = append(&home.dir, &[], b"x\n").exits(1);
    assert!(refused.err.contains("walctl repair"), "{}", refused.err);
    let plan = walctl(["repair", &home.dir, "--dry-run"]).exits(1);
    assert!(plan.text().contains("would cut the log") && plan.text().ends_with("nothing was changed\n"));
    let json = walctl(["repair", &home.dir, "--dry-run", "--json"]).exits(1).json();
    assert_eq!(
        (&json[0]["done"], &json[0]["needed"], &json[0]["cut_log"]),
        (&false.into(), &true.into(), &2.into())
    );
    let stays = json[0]["records"].as_u64().unwrap();
    assert_eq!(contents(&home.path), before, "a plan changes nothing");
    let run = walctl(["repair", &home.dir, "--json"]).exits(0).json();
    assert_eq!((run[0]["done"].as_bool(), run[0]["records"].as_u64()), (Some(true), Some(stays)));
    let aside = run[0]["aside"].as_str().unwrap();
    assert!(aside.ends_with(".before-repair-1"), "{aside}");
    assert_eq!(fs::read(Path::new(aside).join("000002.wal")).unwrap(), bytes);
    walctl(["verify", &home.dir]).exits(0);
    assert_eq!(walctl(["dump", &home.dir]).exits(0).text().lines().count() as u64, stays);
    append(&home.dir, &[], b"on\n").exits(0);
    let nothing = self::home();
    walctl(["repair", &nothing.dir]).exits(3);
    assert!(!nothing.path.exists());
}
