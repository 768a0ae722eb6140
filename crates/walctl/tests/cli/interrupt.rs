//! Ctrl-C: exit code 130, and a directory as after a crash or better.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Child;

use crate::support::{Session, append, command, filled, home, walctl};

/// SIGINT, as a terminal sends it.
fn interrupt(child: &Child) {
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn an_append_that_is_interrupted_closes_the_log_with_everything_that_it_acknowledged() {
    for level in ["always", "written", "buffered", "interval:5"] {
        let home = home();
        let mut session = Session::start(&home.dir, &["--sync", level, "--writers", "3"]);
        for line in 1..=5 {
            session.say(&format!("line {line}"));
        }
        interrupt(&session.child);
        assert_eq!(session.child.wait().unwrap().code(), Some(130), "{level}");
        let stat = walctl(["stat", "--json", &home.dir]).exits(0).json();
        assert!(stat[0]["clean_end"].is_object(), "{level}: closed: {}", stat[0]);
        assert_eq!(walctl(["dump", &home.dir]).exits(0).text().lines().count(), 5);
        assert_eq!(append(&home.dir, &[], b"on\n").exits(0).text(), "6 1\n");
    }
}

#[test]
fn an_append_that_is_interrupted_in_the_middle_of_its_input_loses_nothing_that_it_acknowledged() {
    let home = home();
    let mut child = command(["append", &home.dir, "--writers", "4", "--log-bytes", "65536"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    std::thread::scope(|scope| {
        // Until nobody reads any more.
        scope.spawn(move || while writeln!(stdin, "{}", "x".repeat(700)).is_ok() {});
        let mut line = String::new();
        while stdout.read_line(&mut line).unwrap() > 0 {
            acknowledged.push(line.split_once(' ').unwrap().0.parse::<u64>().unwrap());
            if acknowledged.len() == 200 {
                interrupt(&child);
            }
            line.clear();
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
    });
    assert!(acknowledged.len() >= 200);
    let dump = walctl(["dump", &home.dir]).exits(0);
    let there: Vec<u64> =
        dump.text().lines().map(|line| line.split_once('\t').unwrap().0.parse().unwrap()).collect();
    assert!(
        acknowledged.iter().all(|seq| there.binary_search(seq).is_ok()),
        "every line that was acknowledged is there"
    );
    assert_eq!(walctl(["verify", "--json", &home.dir]).exits(0).json()[0]["verdict"], "clean");
}

/// Wherever it hits, there is no target or a whole one, the source is as it was, and the next copy to the same place succeeds.
#[test]
fn w5_a_copy_and_a_restore_that_are_interrupted_leave_no_half_of_a_directory() {
    let home = filled(20_000, 500);
    let dumped = walctl(["dump", &home.dir]).exits(0).out;
    for verb in ["copy", "restore"] {
        let target = format!("{}-{verb}", home.dir);
        let making = format!("{target}.making");
        // It is at work once its directory is there.
        let mut child = command([verb, &home.dir, &target]).spawn().unwrap();
        while !Path::new(&making).exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        interrupt(&child);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(130) => assert!(error.contains(&making), "says what is left: {error}"),
            code => assert_eq!(code, Some(0), "{error}"),
        }
        if Path::new(&target).exists() {
            assert!(walctl(["dump", &target]).exits(0).out == dumped, "a whole one");
            fs::remove_dir_all(&target).unwrap();
        }
        walctl([verb, &home.dir, &target]).exits(0);
        assert!(walctl(["dump", &target]).exits(0).out == dumped);
        assert!(!Path::new(&making).exists());
    }
    walctl(["verify", &home.dir]).exits(0);
}

/// Wherever it hits, the next repair comes to its end, and everything that was there is there or aside.
#[test]
fn v4_a_repair_and_a_gc_that_are_interrupted_can_be_run_again() {
    let home = filled(20_000, 500);
    let log = crate::support::logs(&home.path)[100].clone();
    let mut bytes = fs::read(&log).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let plan = walctl(["repair", "--dry-run", "--json", &home.dir]).exits(1).json();
    let child = command(["repair", &home.dir]).spawn().unwrap();
    let aside = format!("{}.before-repair-1", home.dir);
    while !Path::new(&aside).exists() {
        std::thread::yield_now();
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 130)), "{error}");
    walctl(["repair", &home.dir]).exits(0);
    let found = walctl(["verify", "--json", &home.dir]).exits(0).json();
    assert_eq!(found[0]["records"], plan[0]["records"], "what the plan said");

    let child = command(["gc", "--flushed", "5000", &home.dir]).spawn().unwrap();
    interrupt(&child);
    let code = child.wait_with_output().unwrap().status.code();
    // Before its handler is there, a signal ends the process as it always does.
    assert!(matches!(code, Some(0 | 130) | None), "{code:?}");
    walctl(["verify", &home.dir]).exits(0);
    walctl(["gc", "--flushed", "5000", &home.dir]).exits(0);
    assert!(walctl(["dump", "--from", "5001", &home.dir]).exits(0).text().starts_with("5001\t"));
}
