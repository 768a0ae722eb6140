//! Every command that the documents and the help show is run, with this build of `walctl`, where what it names is there: `DIR` is a log, `ARCHIVE`
//! its archive, `lines.txt` an input, `DISK` an empty directory; `TARGET` is not there yet.
//!
//! - In fenced blocks (`sh`, `console`) each command is run, in order, one place for each document. In `console` blocks what follows a command is its
//!   output, where a line `...` stands for any lines and `[..]` for anything in a line.
//! - Each `walctl VERB ARGUMENTS` in the text and in the help is run in a place of its own.
//!
//! All must end with exit code 0 unless [`OTHER_CODES`] says otherwise. What does not call `walctl` is passed over, if [`PASSED_OVER`] says so.

mod fields;
mod place;

use std::fs;
use std::path::{Path, PathBuf};

use place::Place;

use crate::support::walctl;

/// First words of commands that are run by others or nowhere.
const PASSED_OVER: [&str; 24] = [
    // Tests, builds and benches have steps of their own in CI; a new crate of a reader has none.
    "cargo",
    "just",
    "rustup", // Monitoring is tested against a real Prometheus.
    "prometheus",
    "promtool",
    "curl",
    "docker",
    "grafana-server",
    "systemctl",
    "python3",
    // The shell around them.
    "cd",
    "mkdir",
    "cp",
    "mv",
    "rm",
    "ls",
    "cat",
    "export",
    "kill",
    "sudo",
    "apt-get",
    "git",
    "ulimit",
    "echo",
];

/// What ends with another code where everything is well.
const OTHER_CODES: [(&str, i32); 0] = [];

/// A command in a document.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    line: usize,
    command: String,
    /// What it prints, if that is shown.
    output: Option<String>,
}

#[test]
fn every_command_in_a_block_of_the_documents_runs_and_prints_what_is_shown() {
    let mut run = 0;
    for (path, text) in documents() {
        let shown = blocks(&text);
        if shown.is_empty() {
            continue;
        }
        let place = Place::new();
        for Shown { line, command, output } in shown {
            let at = format!("{}:{line}: {command}", path.display());
            let Some(command) = to_run(&command) else {
                let first = command.split_whitespace().next().unwrap();
                assert!(
                    PASSED_OVER.contains(&first),
                    "{at}: neither walctl nor in the list of what is passed over"
                );
                assert!(output.is_none(), "{at}: nobody checks this output");
                continue;
            };
            let found = place.run(&at, &command);
            if let Some(output) = output {
                assert!(matches(&output, &found), "{at}\nshown:\n{output}\nfound:\n{found}");
            }
            run += 1;
        }
    }
    assert!(run >= 30, "only {run} commands were found");
}

#[test]
fn every_command_in_the_text_of_the_documents_and_in_the_help_runs() {
    let mut commands: Vec<(String, String)> = Vec::new();
    for (path, text) in documents() {
        let inline = text.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2));
        let inline = inline.filter(|code| code.starts_with("walctl ") && !code.contains('\n'));
        commands.extend(inline.map(|code| (path.display().to_string(), code.to_owned())));
    }
    for verb in verbs() {
        let help = walctl(["help", &verb]).exits(0);
        let examples =
            help.text().split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{verb} has no example"));
        let examples = examples.lines().take_while(|line| line.starts_with("  ")).map(str::trim);
        commands.extend(examples.map(|example| (format!("walctl help {verb}"), example.to_owned())));
    }
    commands.sort_by(|a, b| a.1.cmp(&b.1));
    commands.dedup_by(|a, b| a.1 == b.1);
    assert!(commands.len() > 30, "only {} commands were found", commands.len());
    let verbs = verbs();
    for (from, command) in commands {
        let at = format!("{from}: {command}");
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            // `walctl gc` and `walctl dump --salvage` in a sentence are names.
            ["walctl", verb, ref options @ ..]
                if verbs.iter().any(|known| known == verb)
                    && !["man", "drill"].contains(&verb)
                    && options.iter().all(|option| option.starts_with("--")) =>
            {
                let help = walctl(["help", verb]).exits(0);
                assert!(options.iter().all(|option| help.text().contains(option)), "{at}: no such option");
            }
            ["walctl", "help"] => {}
            _ => drop(Place::new().run(&at, &to_run(&command).unwrap_or_else(|| panic!("{at}: not walctl")))),
        }
    }
}

/// The verbs that the help lists.
pub(crate) fn verbs() -> Vec<String> {
    let help = walctl(["--help"]).exits(0);
    let commands =
        help.text().split("Commands:\n").nth(1).unwrap().lines().take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// README.md, those of the crates, and everything in docs.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let (mut paths, mut directories) =
        (vec![root.join("README.md")], vec![root.join("docs"), root.join("crates")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("src") && !path.ends_with("tests") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(root).unwrap().to_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// The commands in the blocks of a document.
fn blocks(text: &str) -> Vec<Shown> {
    let (mut shown, mut language, mut continued) = (Vec::<Shown>::new(), None, false);
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.trim_start().strip_prefix("```") {
            language = if language.is_some() { None } else { Some(name.split([',', ' ']).next().unwrap()) };
            continued = false;
            continue;
        }
        let command = match language {
            Some("sh" | "bash" | "shell") => Some(line),
            Some("console") if continued => Some(line),
            Some("console") => line.strip_prefix("$ "),
            // What a runbook shows was printed of a log in trouble: the command runs here, and its output is not compared.
            Some("" | "text") if line.starts_with("$ walctl ") => line.strip_prefix("$ "),
            _ => continue,
        };
        match (command, shown.last_mut()) {
            (Some(line), Some(last)) if continued => {
                last.command.push(' ');
                last.command.push_str(line.trim());
            }
            (Some(line), _) if line.trim().is_empty() || line.trim_start().starts_with('#') => continue,
            (Some(line), _) => {
                shown.push(Shown { line: number + 1, command: line.trim().to_owned(), output: None });
            }
            (None, Some(last)) => {
                let output = last.output.get_or_insert_default();
                output.push_str(line);
                output.push('\n');
                continue;
            }
            (None, None) => panic!("line {}: output of no command", number + 1),
        }
        let last = shown.last_mut().unwrap();
        continued = last.command.ends_with('\\');
        last.command = last.command.trim_end_matches('\\').trim_end().to_owned();
    }
    // A remark behind it.
    for shown in &mut shown {
        if let Some((command, _)) = shown.command.split_once(" # ") {
            shown.command = command.trim_end().to_owned();
        }
    }
    shown
}

/// The command as it is run here, if it runs `walctl`: shorter where it would take long, and ending where it would not.
fn to_run(command: &str) -> Option<String> {
    let (before, walctl) = match command.split_once("-p walctl -- ") {
        Some((cargo, walctl)) if cargo.starts_with("cargo run ") => ("", format!("walctl {walctl}")),
        _ => {
            let at = command
                .find("walctl ")
                .filter(|at| command[..*at].is_empty() || command[..*at].ends_with("| "))?;
            (&command[..at], command[at..].to_owned())
        }
    };
    let mut words: Vec<&str> = walctl.split_whitespace().collect();
    let verb = words.get(1).copied().unwrap_or_default();
    // A follower ends with Ctrl-C, a drill for ever too.
    words.retain(|word| !["--follow", "-f", "--forever"].contains(word));
    // What is measured holds no log.
    let holds_none = if verb == "bench" { "DISK" } else { "DIR" };
    words.iter_mut().filter(|word| **word == "DIR").for_each(|word| *word = holds_none);
    let mut shorter = |options: &[(&'static str, &'static str)]| {
        for (name, value) in options {
            match words.iter().position(|word| word == name) {
                Some(at) => words[at + 1] = value,
                None => words.extend([name, value]),
            }
        }
    };
    match verb {
        "drill" => shorter(&[("--kills", "1"), ("--input", "lines.txt")]),
        "bench" => shorter(&[("--millis", "5"), ("--size", "128"), ("--writers", "1")]),
        _ => {}
    }
    // A port that nobody else has.
    if let Some(at) = words.iter().position(|word| *word == "--metrics") {
        words[at + 1] = "127.0.0.1:0";
    }
    Some(format!("{before}{}", words.join(" ")))
}

/// Whether the output is what is shown, with its elisions.
fn matches(shown: &str, found: &str) -> bool {
    let (shown, found): (Vec<&str>, Vec<&str>) =
        (shown.trim_end().lines().collect(), found.trim_end().lines().collect());
    lines_match(&shown, &found)
}

fn lines_match(shown: &[&str], found: &[&str]) -> bool {
    match (shown, found) {
        ([], found) => found.is_empty(),
        (["...", rest @ ..], found) => (0..=found.len()).any(|skipped| lines_match(rest, &found[skipped..])),
        ([_, ..], []) => false,
        ([line, shown @ ..], [other, found @ ..]) => line_matches(line, other) && lines_match(shown, found),
    }
}

fn line_matches(shown: &str, found: &str) -> bool {
    let Some((start, rest)) = shown.split_once("[..]") else { return shown.trim_end() == found.trim_end() };
    let Some(left) = found.strip_prefix(start) else { return false };
    (0..=left.len()).filter(|at| left.is_char_boundary(*at)).any(|at| line_matches(rest, &left[at..]))
}

#[test]
fn commands_that_take_long_are_run_shorter() {
    let run = |command: &str| to_run(command).unwrap();
    assert_eq!(run("cargo run --release -p walctl -- drill"), "walctl drill --kills 1 --input lines.txt");
    let drill = "walctl drill --forever --kills 20 --metrics 127.0.0.1:9184";
    assert_eq!(run(drill), "walctl drill --kills 1 --metrics 127.0.0.1:0 --input lines.txt");
    assert_eq!(run("walctl bench DIR --size 1"), "walctl bench DISK --size 128 --millis 5 --writers 1");
    assert_eq!(run("printf x | walctl append DIR"), "printf x | walctl append DIR");
    assert_eq!(run("walctl tail --follow DIR"), "walctl tail DIR");
    assert!(to_run("cargo test --workspace").is_none() && to_run("ls walctl ").is_none());
}

#[test]
fn elisions_are_any_lines_and_anything_in_a_line() {
    assert!(
        matches("a [..] c\n...\nz\n", "a b c\n\nx\nz\n") && matches("...\n", "") && matches("a[..]\n", "a\n")
    );
    assert!(
        !matches("a [..] c\n", "a b\n") && !matches("a\n...\nb\n", "a\nc\n") && !matches("a\n", "a\nb\n")
    );
}

#[test]
fn blocks_are_read_with_remarks_continued_lines_and_output() {
    let text = "```sh\n# a remark\nwalctl ls DIR   # another\n```\n```rust\nwalctl\n```\n```console\n$ walctl dump \\\n    DIR\n1\tone\n$ walctl ls\n```\n```\n$ walctl stat DIR\nof a log in trouble\n```\n";
    let shown = |line, command: &str, output: Option<&str>| Shown {
        line,
        command: command.to_owned(),
        output: output.map(str::to_owned),
    };
    let expected = [
        shown(3, "walctl ls DIR", None),
        shown(9, "walctl dump DIR", Some("1\tone\n")),
        shown(12, "walctl ls", None),
        shown(15, "walctl stat DIR", None),
    ];
    assert_eq!(blocks(text), expected);
}
