//! Usage errors end with 2, help with 0.

use crate::support::{home, walctl};

#[test]
fn usage_errors_exit_2_and_help_exits_0() {
    let usages: [&[&str]; 9] = [
        &[],
        &["frobnicate"],
        &["append"],
        &["dump", "x", "--from", "minus"],
        &["dump", "x", "--from", "5", "--to", "4"],
        &["gc", "x"],
        &["ls", "x", "y"],
        &["drill", "--metrics", "nowhere"],
        &["bench", "x", "--writers", "0"],
    ];
    for usage in usages {
        let run = walctl(usage).exits(2);
        assert!(!run.err.is_empty() && run.out.is_empty(), "{usage:?} says what is wrong on standard error");
    }
    for help in [&["--help"][..], &["append", "--help"], &["--version"]] {
        assert!(!walctl(help).exits(0).out.is_empty());
    }
    assert!(!walctl(["--help"]).text().contains("drill-child"), "the drill's own verb is nobody else's");
}

#[test]
fn x3_a_missing_directory_exits_3_and_stays_missing() {
    let home = home();
    for args in [&["dump"][..], &["verify"], &["ls"], &["gc", "--flushed", "1"]] {
        let run = walctl([&[args[0], &home.dir], &args[1..]].concat()).exits(3);
        assert!(run.err.contains(&home.dir), "{args:?} names the directory: {}", run.err);
        assert!(run.out.is_empty() && !home.path.exists());
        let json = walctl([&["--json", args[0], &home.dir], &args[1..]].concat());
        json.exits(3);
    }
    std::fs::create_dir(&home.path).unwrap();
    for args in [&["dump"][..], &["verify"], &["ls"], &["gc", "--flushed", "1"]] {
        walctl([&[args[0], &home.dir], &args[1..]].concat()).exits(3);
        assert_eq!(
            std::fs::read_dir(&home.path).unwrap().count(),
            0,
            "{args:?} makes no log of any directory"
        );
    }
}
