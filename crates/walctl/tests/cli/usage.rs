//! Usage errors end with 2, help with 0; help, pages and completions name every verb; colours come when they are wanted.

use std::fs;

use crate::docs::verbs;
use crate::support::{command, filled, home, walctl};

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
    fs::create_dir(&home.path).unwrap();
    for args in [&["dump"][..], &["verify"], &["ls"], &["gc", "--flushed", "1"]] {
        walctl([&[args[0], &home.dir], &args[1..]].concat()).exits(3);
        assert_eq!(fs::read_dir(&home.path).unwrap().count(), 0, "{args:?} makes no log of any directory");
    }
}

#[test]
fn the_version_says_which_format_is_written() {
    let expected = format!("walctl {} (format {})\n", env!("CARGO_PKG_VERSION"), wal_manager::FORMAT_VERSION);
    assert_eq!(walctl(["--version"]).exits(0).text(), expected);
}

#[test]
fn the_help_of_each_verb_says_what_it_reads_and_changes_with_examples_and_exit_codes() {
    for verb in verbs() {
        let help = walctl(["help", &verb]).exits(0);
        let places: Vec<_> = ["Usage:", "\nReads: ", "\nChanges: ", "\nExamples:\n", "\nExit codes: 0 "]
            .iter()
            .map(|part| {
                help.text().find(part).unwrap_or_else(|| panic!("{verb}: no {part:?}: {}", help.text()))
            })
            .collect();
        assert!(places.is_sorted(), "{verb}: in this order: {places:?}");
        let examples = &help.text()[places[3]..places[4]];
        assert!(examples.contains(&format!("walctl {verb}")), "{verb}: {examples}");
    }
}

#[test]
fn man_and_completions_name_every_verb_and_no_hidden_one() {
    let home = home();
    walctl(["man", &home.dir]).exits(0);
    let page = |name: &str| fs::read_to_string(home.path.join(name)).unwrap();
    assert_eq!(walctl(["man"]).exits(0).text(), page("walctl.1"));
    let verbs = verbs();
    assert!(verbs.len() >= 15, "{verbs:?}");
    for verb in &verbs {
        let escaped = verb.replace('-', "\\-");
        assert!(page("walctl.1").contains(&format!("walctl\\-{escaped}(1)")), "walctl.1 names {verb}");
        let own = page(&format!("walctl-{verb}.1"));
        assert!(own.contains(".SH SYNOPSIS") && own.contains("Exit codes:"), "{verb}");
    }
    assert_eq!(fs::read_dir(&home.path).unwrap().count(), verbs.len() + 1);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let run = walctl(["completions", shell]).exits(0);
        for verb in &verbs {
            assert!(run.text().contains(verb.as_str()), "{shell}: {verb}");
        }
        assert!(!run.text().contains("drill-child"), "{shell}");
    }
    walctl(["completions", "cmd"]).exits(2);
}

#[test]
fn colours_come_when_they_are_wanted_and_only_with_states_and_verdicts() {
    let home = filled(10, 100);
    let run = |verb: &str, variables: &[(&str, &str)]| {
        let mut command = command([verb, &home.dir]);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(variables.iter().copied());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    for (verb, word) in [("ls", "sealed"), ("verify", "clean"), ("doctor", "info")] {
        let plain = run(verb, &[]);
        assert!(!plain.contains('\x1b'), "no terminal: {plain}");
        let forced = run(verb, &[("CLICOLOR_FORCE", "1")]);
        assert!(forced.contains(&format!("\x1b[32m{word}\x1b[0m")), "{forced}");
        assert_eq!(run(verb, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), plain);
        assert_eq!(
            forced.replace("\x1b[32m", "").replace("\x1b[0m", "").lines().count(),
            plain.lines().count()
        );
    }
    let mut json = command(["ls", "--json", &home.dir]);
    assert!(!json.env("CLICOLOR_FORCE", "1").output().unwrap().stdout.contains(&0x1b), "scripts see none");
}
