//! `walctl` on the real kernel, with strace between them: each system call fails in turn, with each error that the kernel could
//! plausibly give, and the process is killed at each.
//!
//! A fault is (call, n): strace counts the calls of each thread apart, and the fault strikes the n-th such call of every thread that
//! comes so far, so the first thread to come there ends the run. The main thread opens and closes the log, the other one writes: what
//! one hides of the other in one scenario is reached in another, with fewer or more records. The calls counted are those from
//! `main` on: a thread's own calls begin behind the last thing that Rust's runtime does before it (handlers for the stack's overflow), and end
//! where it begins to take that down.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use wal_io::probe::Way;
use wal_manager::io::Operation;
use wal_manager::{Error, ErrorKind, FamilyId, FsStorage, LOG_BYTES_MIN, Record, Storage, Wal};
use wal_tests::life::KIND;
use wal_tests::real::{Held, Outcome, check, copy, input, lines, look, prepare, recover, run, scratch};
use wal_tests::real_calls::{Call, ERRORS, calls, errors, must_fail};

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

/// Directory in which the child of a test works.
const DIRECTORY: &str = "REAL_SYSCALLS_DIRECTORY";

/// The way of the files that it writes, and how many records.
const APPENDS: &str = "REAL_SYSCALLS_APPENDS";

fn strace() -> Command {
    let found = Command::new("strace").arg("-V").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "this test needs strace, which is not installed"
    );
    let mut command = Command::new("strace");
    // cargo sets it: the loader would look in many more places, and hide the first calls of the threads.
    command.env_remove("LD_LIBRARY_PATH").args(["-f", "-o"]);
    command
}

/// What is run.
struct Scenario {
    name: &'static str,
    /// The arguments; the directory stands behind the first.
    args: &'static [&'static str],
    lines: Vec<Vec<u8>>,
    /// Whether the directory is there, with the records of [`prepare`].
    prepared: bool,
    /// Only these calls of the writing thread, and none of the main one.
    only_writer: bool,
}

/// Marked as flushed in the scenario of `gc`.
const FLUSHED: u64 = 5;

fn scenarios() -> Vec<Scenario> {
    let scenario = |name, args, lines| Scenario { name, args, lines, prepared: true, only_writer: false };
    vec![
        scenario("append", &["append"], lines(1, 20)),
        Scenario { prepared: false, ..scenario("append, new", &["append"], lines(2, 20)) },
        Scenario {
            only_writer: true,
            ..scenario("append, rotating", &["append", "--log-bytes", "65536"], lines(40, 40_000))
        },
        scenario("dump", &["dump"], Vec::new()),
        scenario("verify", &["verify"], Vec::new()),
        scenario("gc", &["gc", "--flushed", "5"], Vec::new()),
    ]
}

/// What strikes at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error(&'static str),
    Kill,
}

/// Everything that the runs of a scenario share.
struct Stage<'a> {
    scenario: &'a Scenario,
    /// Where the directories of the runs are.
    scratch: &'a Path,
    /// Copied for each run.
    original: &'a Path,
    held: &'a Held,
    /// Standard output without a fault.
    said: Vec<u8>,
    /// The calls without a fault.
    calls: Vec<Call>,
}

impl Stage<'_> {
    fn directory(&self, name: &str) -> PathBuf {
        let dir = self.scratch.join(name);
        if self.scenario.prepared {
            copy(self.original, &dir);
        }
        dir
    }

    fn walctl(&self, command: &mut Command, dir: &Path) -> Outcome {
        let (verb, options) = self.scenario.args.split_first().unwrap();
        run(command.arg(WALCTL).arg(verb).arg(dir).args(options), &input(&self.scenario.lines))
    }

    /// One run with a fault. Returns how it ended, and whether and in which thread the fault struck.
    fn strike(&self, number: usize, name: &str, nth: usize, fault: Fault) -> (String, Option<bool>) {
        // The same length each time, and beside the same neighbours: what is allocated depends on the path.
        let dir = self.directory(&format!("run{number:06}"));
        let trace = self.scratch.join(format!("trace{number:06}"));
        let inject = match fault {
            Fault::Error(error) => format!("inject={name}:error={error}:when={nth}"),
            Fault::Kill => format!("inject={name}:signal=SIGKILL:when={nth}"),
        };
        let mut strace = strace();
        strace.arg(&trace);
        if fault != Fault::Kill {
            // Quicker, since only the calls of this name stop; but then the signal is not sent.
            strace.arg("--seccomp-bpf");
        }
        strace.args(["-e", &format!("trace=execve,{name}"), "-e", &inject]);
        let outcome = self.walctl(&mut strace, &dir);
        let trace_text = fs::read_to_string(&trace).unwrap();
        let main = trace_text.split(' ').next().unwrap();
        let struck = match fault {
            Fault::Error(_) => trace_text.lines().find(|line| line.ends_with("(INJECTED)")),
            // The call that never came back.
            Fault::Kill => trace_text
                .lines()
                .rfind(|line| {
                    line.contains(&format!(" {name}(")) && (line.ends_with("= ?") || line.ends_with("...>"))
                })
                .filter(|_| outcome.signal() == Some(9)),
        };
        let struck = struck.map(|line| line.split(' ').next() == Some(main));
        let spared = self
            .calls
            .iter()
            .any(|call| call.spared && Some(call.main) == struck && call.name == name && call.nth == nth);
        self.judge_exit(&outcome, name, fault, struck.is_some(), spared);
        self.judge_directory(&outcome, &dir);
        fs::remove_file(trace).unwrap();
        if dir.exists() {
            fs::remove_dir_all(dir).unwrap();
        }
        let ended = match (outcome.code(), outcome.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (None, signal) => format!("signal {}", signal.unwrap()),
        };
        (if struck.is_some() { ended } else { format!("not reached, {ended}") }, struck)
    }

    fn judge_exit(&self, outcome: &Outcome, name: &str, fault: Fault, struck: bool, spared: bool) {
        let stderr = &outcome.stderr;
        assert!(!stderr.contains("panicked"), "{stderr}");
        let error = match fault {
            Fault::Kill if struck => return assert_eq!(outcome.signal(), Some(9), "{outcome:?}"),
            Fault::Error(error) if struck => error,
            _ => "",
        };
        let number = ERRORS.iter().find(|(name, _)| *name == error).map(|(_, number)| *number);
        let code = outcome.code().unwrap_or_else(|| panic!("a signal ended it: {outcome:?}"));
        match code {
            0 => {
                assert!(
                    error == "EINTR" || !must_fail(name, error) || spared || !struck,
                    "nobody noticed: {outcome:?}"
                );
                // Without a reader nothing more is said.
                if error != "EPIPE" {
                    let gc = self.scenario.args[0] == "gc";
                    assert!(
                        gc && error != "EINTR" || outcome.stdout == self.said,
                        "it said something else: {outcome:?}"
                    );
                }
            }
            3 => {
                assert!(struck && error != "EINTR", "an interrupted call is called again: {stderr}");
                // Every thread has an n-th write: it may have struck the message, too.
                if name != "write" {
                    judge_message(stderr, number.unwrap());
                }
            }
            4 => assert!(name == "flock" && error == "EAGAIN", "{stderr}"),
            other => panic!("exit code {other}: {stderr}"),
        }
    }

    fn judge_directory(&self, outcome: &Outcome, dir: &Path) {
        match self.scenario.args[0] {
            "append" => {
                let acked = outcome.acknowledged();
                let before: &[_] = if self.scenario.prepared { self.held } else { &[] };
                let absent = !self.scenario.prepared
                    && Wal::options(dir).inspect().is_err_and(|error| error.kind() == ErrorKind::NotFound);
                if !absent {
                    let verified = run(Command::new(WALCTL).arg("verify").arg(dir), b"");
                    assert_eq!(verified.code(), Some(0), "{verified:?}");
                    check(before, &self.scenario.lines, &acked, 1, &look(dir));
                }
                check(before, &self.scenario.lines, &acked, 1, &recover(dir));
            }
            "gc" => {
                let verified = run(Command::new(WALCTL).arg("verify").arg(dir), b"");
                assert_eq!(verified.code(), Some(0), "{verified:?}");
                for found in [look(dir), recover(dir)] {
                    assert!(self.held.ends_with(&found), "not the last records: {found:?}");
                    let unflushed = self.held.iter().filter(|(seq, _)| *seq > FLUSHED).count();
                    assert!(found.len() >= unflushed, "what was not flushed is gone: {found:?}");
                }
            }
            _ => {
                assert!(files(dir) == files(self.original), "a reading verb has changed something");
                assert!(self.said.starts_with(&outcome.stdout), "{outcome:?}");
            }
        }
    }
}

/// What was being done, and why it failed.
fn judge_message(stderr: &str, number: i32) {
    let message = stderr.lines().last().unwrap_or_default();
    let doing = [
        "failed on ",
        "writing to standard output",
        "reading standard input",
        "starting a thread",
        "waiting for Ctrl-C",
    ];
    assert!(
        message.starts_with("walctl: ") && doing.iter().any(|doing| message.contains(doing)),
        "said only: {stderr}"
    );
    // Whatever it is that a thread cannot get, the C library says EAGAIN.
    let thread = ["starting a thread", "waiting for Ctrl-C"].iter().any(|doing| message.contains(doing));
    let numbers = if thread { [number, 11] } else { [number; 2] };
    assert!(
        numbers.iter().any(|number| message.contains(&format!("(os error {number})"))),
        "another error: {stderr}"
    );
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |entry: fs::DirEntry| (entry.file_name().into(), fs::read(entry.path()).unwrap());
    fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// What is to strike, in the order of the calls.
fn plan(scenario: &Scenario, calls: &[Call]) -> Vec<(String, usize, Fault)> {
    let mains: BTreeMap<&str, usize> =
        calls.iter().filter(|call| call.main).fold(BTreeMap::new(), |mut most, call| {
            most.insert(&call.name, call.nth);
            most
        });
    // What strikes the program's loading is no matter of ours.
    let mut seen: BTreeSet<(&str, usize)> =
        calls.iter().filter(|call| !call.own && call.main).map(|call| (&*call.name, call.nth)).collect();
    let mut plan = Vec::new();
    for call in calls.iter().filter(|call| call.own) {
        // Threads wait for each other in another way each time.
        if call.name == "futex" || !seen.insert((&call.name, call.nth)) {
            continue;
        }
        if scenario.only_writer {
            // Behind the main thread's calls of this name, so that the writer is struck; of many alike, the first ones.
            let behind = call.nth.saturating_sub(mains.get(&*call.name).copied().unwrap_or(0));
            if call.main || !(1..=8).contains(&behind) {
                continue;
            }
        }
        plan.extend(
            errors(&call.name).iter().map(|error| (call.name.clone(), call.nth, Fault::Error(error))),
        );
        plan.push((call.name.clone(), call.nth, Fault::Kill));
    }
    plan
}

/// Runs a scenario with every fault; returns how many runs there were, and what went wrong.
fn sweep(scenario: &Scenario) -> (usize, Vec<String>) {
    let scratch = scratch();
    let original = scratch.path().join("original");
    let held = prepare(&original);
    let mut stage = Stage {
        scenario,
        scratch: scratch.path(),
        original: &original,
        held: &held,
        said: Vec::new(),
        calls: Vec::new(),
    };
    let trace = scratch.path().join("trace");
    let dir = stage.directory("run------");
    let clean = stage.walctl(strace().arg(&trace).arg("-y"), &dir);
    assert_eq!(clean.code(), Some(0), "{clean:?}");
    stage.said = clean.stdout;
    stage.calls = calls(&fs::read_to_string(&trace).unwrap(), &dir);
    let calls = &stage.calls;
    let plan = plan(scenario, calls);
    let next = Mutex::new(plan.iter().enumerate());
    let results = Mutex::new((BTreeMap::<String, usize>::new(), BTreeSet::new(), Vec::new()));
    let stage = &stage;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((number, (name, nth, fault))) = next.lock().unwrap().next() else { return };
                    let result = catch_unwind(AssertUnwindSafe(|| stage.strike(number, name, *nth, *fault)));
                    let mut results = results.lock().unwrap();
                    match result {
                        Ok((ended, struck)) => {
                            *results.0.entry(ended).or_default() += 1;
                            results.1.extend(struck.map(|main| (main, name.clone(), *nth)));
                        }
                        Err(panic) => {
                            let why = panic.downcast_ref::<String>().map_or("an assertion", |text| text);
                            results.2.push(format!("{}: {name} {nth} {fault:?}: {why}", scenario.name));
                        }
                    }
                }
            });
        }
    });
    let (ended, struck, mut failures) = results.into_inner().unwrap();
    println!(
        "{}: {} calls of its own, {} places struck, {} runs, {} wrong: {ended:?}",
        scenario.name,
        calls.iter().filter(|call| call.own).count(),
        struck.len(),
        plan.len(),
        failures.len()
    );
    let hit = |main: bool, name: &str| {
        struck.iter().filter(|(other, call, _)| *other == main && call == name).count()
    };
    if scenario.only_writer {
        for name in ["pwrite64", "fdatasync", "write", "openat", "fsync"] {
            assert!(hit(false, name) >= 8, "the writer's {name} was struck only {} times", hit(false, name));
        }
    } else {
        // Where the kernel puts things, and so how often memory is asked for, differs each time.
        let memory = ["brk", "mmap", "mprotect", "madvise"];
        let must = calls.iter().filter(|call| call.own && call.main && !errors(&call.name).is_empty());
        for call in must.filter(|call| !memory.contains(&&*call.name)) {
            if !struck.contains(&(true, call.name.clone(), call.nth)) {
                failures.push(format!("{}: never struck: {call:?}", scenario.name));
            }
        }
    }
    (plan.len(), failures)
}

#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn f42_f47_f51_f52_f55_f56_f65_f73_every_system_call_of_walctl_fails_in_turn_and_is_killed_at() {
    let (mut runs, mut failures) = (0, Vec::new());
    for scenario in scenarios() {
        let (more, wrong) = sweep(&scenario);
        runs += more;
        failures.extend(wrong);
    }
    println!("{runs} runs");
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
    assert!(runs > 1000);
}

/// What a child under strace does; as a test of its own it does nothing.
#[test]
fn child_reserves_space() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let sink = FsStorage::open(dir).unwrap().create("a").unwrap();
    sink.write_at(0, b"kept").unwrap();
    match sink.preallocate(200_000) {
        Ok(()) => println!("ANSWER reserved."),
        Err(error) => {
            assert_eq!(error.operation(), Operation::Preallocate);
            println!("ANSWER {}.", error.raw_os_error().unwrap());
        }
    }
}

#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn f57_space_that_cannot_be_reserved_is_written_as_zeros_or_a_typed_error() {
    let cases = [
        ("EOPNOTSUPP", "reserved"),
        ("ENOSYS", "reserved"),
        ("EINTR", "reserved"),
        ("ENOSPC", "28"),
        ("EFBIG", "27"),
        ("EIO", "5"),
    ];
    for (error, answer) in cases {
        let dir = scratch();
        let inject = format!("inject=fallocate:error={error}:when=1");
        let mut command = strace();
        command.args(["/dev/null", "-e", "trace=fallocate", "-e", &inject]);
        command.arg(std::env::current_exe().unwrap()).args([
            "child_reserves_space",
            "--exact",
            "--nocapture",
        ]);
        let outcome = run(command.env(DIRECTORY, dir.path()), b"");
        assert_eq!(outcome.code(), Some(0), "{outcome:?}");
        let said = String::from_utf8(outcome.stdout).unwrap();
        assert!(said.contains(&format!("ANSWER {answer}.")), "{error}: {said}");
        let bytes = fs::read(dir.path().join("a")).unwrap();
        assert!(bytes.starts_with(b"kept") && bytes[4..].iter().all(|byte| *byte == 0));
        assert_eq!(bytes.len(), if answer == "reserved" { 200_000 } else { 4 });
    }
}

/// What a program asks of the kernel for the logs, by call: how often, and how many bytes.
type Asked = BTreeMap<String, (usize, usize)>;

/// Runs a program under strace. Calls that make their own bytes durable are counted for themselves.
fn asked_of_logs(
    program: impl AsRef<OsStr>,
    args: &[&OsStr],
    environment: &[(&str, &OsStr)],
    input: &[u8],
) -> Asked {
    let scratch = scratch();
    let trace = scratch.path().join("trace");
    let mut command = strace();
    command.arg(&trace).args(["-y", "-e", "trace=desc"]).arg(program).args(args);
    let outcome = run(command.envs(environment.iter().copied()), input);
    assert_eq!(outcome.code(), Some(0), "{outcome:?}");
    let mut asked = Asked::new();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        // A call that another thread interrupted: its first half names the file, and nothing waits in the second.
        let Some((name, rest)) = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('('))
        else {
            continue;
        };
        if rest.split_once(".wal>").is_some_and(|(before, _)| !before.contains(',')) {
            let bytes = if name.contains("write") { rest.rsplit("= ").next().unwrap() } else { "0" };
            let synced = if rest.contains("RWF_DSYNC") { ", synced" } else { "" };
            let seen = asked.entry(format!("{name}{synced}")).or_default();
            let bytes = bytes.trim().parse::<usize>().unwrap_or(0);
            // What a file is filled with is longer, and counts in one run and not in the other if it is interrupted in one.
            (seen.0, seen.1) = (seen.0 + 1, seen.1 + if bytes < FILL_BYTES { bytes } else { 0 });
        }
    }
    asked
}

/// What `many` asks for and `few` does not.
fn more(few: &Asked, many: &Asked) -> Asked {
    let names = |asked: &Asked| asked.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(many), names(few), "the same calls");
    let more = many.iter().map(|(name, (calls, bytes))| {
        let before = few[name];
        (name.clone(), (calls - before.0, bytes - before.1))
    });
    more.filter(|(_, (calls, _))| *calls > 0).collect()
}

/// Shorter than any piece that a file is filled with, and longer than an append.
const FILL_BYTES: usize = 64 << 10;

fn calls_of(asked: &Asked) -> Vec<(&str, usize)> {
    asked.iter().map(|(name, (calls, _))| (name.as_str(), *calls)).collect()
}

/// The storage trait counts calls of its own; these are the kernel's.
#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn t5_s15_a_synced_append_is_one_write_and_one_sync_for_the_kernel_and_nothing_else() {
    let append = |count| {
        let scratch = scratch();
        let dir = scratch.path().join("wal");
        asked_of_logs(WALCTL, &["append".as_ref(), dir.as_ref()], &[], &input(&lines(count, 100)))
    };
    let more = more(&append(20), &append(120));
    assert_eq!(calls_of(&more), [("fdatasync", 100), ("pwrite64", 100)], "a hundred records more");
    let bytes = more["pwrite64"].1;
    assert!((100 * 100..=100 * 160).contains(&bytes), "{bytes} bytes for a hundred records of 100");
}

/// What a child under strace does; as a test of its own it does nothing.
#[test]
fn child_appends_to_a_log_that_was_made_ahead() {
    let (Ok(dir), Ok(appends)) = (std::env::var(DIRECTORY), std::env::var(APPENDS)) else { return };
    let (way, appends) = appends.split_once(' ').unwrap();
    let way = Way::ALL.into_iter().find(|one| one.name() == way).unwrap();
    let options = Wal::options(dir).way(way).log_bytes(1 << 20).background(false);
    let wal = options.recover().unwrap().finish_without_replay().unwrap().0;
    wal.append(Record::new(KIND, b"in the first log")).unwrap();
    wal.housekeep().unwrap();
    wal.rotate().unwrap().unwrap();
    for _ in 0..appends.parse::<usize>().unwrap() {
        wal.append(Record::new(KIND, &[7; 100])).unwrap();
    }
}

/// The same where files are written before they are used: as they are, and past the cache, where one call writes and makes durable.
#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn t5_s15_i8_a_synced_append_to_a_log_that_was_made_ahead_costs_the_kernel_no_more() {
    let append = |way: &str, count: usize| {
        // On a file system that can do direct I/O, which the one for temporary files may not.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // In the main thread, as below: calls that another thread interrupts are not told as a whole.
        let child = ["child_appends_to_a_log_that_was_made_ahead", "--exact", "--test-threads", "1"];
        let child = child.map(OsStr::new);
        let appends = format!("{way} {count}");
        let environment = [(DIRECTORY, dir.path().as_ref()), (APPENDS, appends.as_ref())];
        asked_of_logs(std::env::current_exe().unwrap(), &child, &environment, b"")
    };
    let filled = more(&append("filled", 20), &append("filled", 120));
    assert_eq!(calls_of(&filled), [("fdatasync", 100), ("pwrite64", 100)]);
    let bytes = filled["pwrite64"].1;
    assert!((100 * 100..=100 * 160).contains(&bytes), "{bytes} bytes for a hundred records of 100");
    let direct = more(&append("direct", 20), &append("direct", 120));
    assert_eq!(calls_of(&direct), [("pwritev2, synced", 100)], "one call, and no fdatasync");
    let blocks = direct["pwritev2, synced"].1 / 4096;
    assert!(
        (100..=110).contains(&blocks),
        "{blocks} blocks: one a record, and one more where a record crosses"
    );
}

#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn f58_while_a_sync_is_slow_the_others_queue_and_nothing_gives_up() {
    let scratch = scratch();
    let dir = scratch.path().join("wal");
    let held = prepare(&dir);
    let lines = lines(12, 30);
    let mut command = strace();
    command.args(["/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=300000"]);
    let outcome = run(command.arg(WALCTL).arg("append").arg(&dir).args(["--writers", "4"]), &input(&lines));
    assert_eq!(outcome.code(), Some(0), "{outcome:?}");
    assert_eq!(outcome.acknowledged().len(), lines.len());
    check(&held, &lines, &outcome.acknowledged(), 4, &recover(&dir));
}

#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn f65_a_thread_that_cannot_be_started_ends_the_verb_and_loses_nothing() {
    // The first one waits for Ctrl-C, the others write.
    for (nth, error) in [(1, "EAGAIN"), (2, "EAGAIN"), (3, "EAGAIN"), (5, "ENOMEM")] {
        let doing = if nth == 1 { "waiting for Ctrl-C" } else { "starting a thread" };
        let scratch = scratch();
        let dir = scratch.path().join("wal");
        let held = prepare(&dir);
        let lines = lines(20, 30);
        let mut command = strace();
        let inject = format!("inject=clone,clone3:error={error}:when={nth}");
        command.args(["/dev/null", "-e", "trace=clone,clone3", "-e", &inject]);
        let outcome =
            run(command.arg(WALCTL).arg("append").arg(&dir).args(["--writers", "4"]), &input(&lines));
        assert_eq!(outcome.code(), Some(3), "{outcome:?}");
        assert!(outcome.stderr.contains(doing), "{outcome:?}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
        check(&held, &lines, &outcome.acknowledged(), 4, &recover(&dir));
    }
}

/// What a child that gets no thread does; as a test of its own it does nothing.
#[test]
fn child_without_threads() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    assert!(thread::Builder::new().spawn(|| ()).is_err(), "there are threads");
    // What cannot do without is refused, and leaves nothing behind that keeps the next one out.
    let refused = Wal::options(&dir).sync_interval(Duration::from_millis(1)).recover().unwrap();
    let refused = refused.finish_without_replay().unwrap_err();
    assert!(matches!(refused, Error::Thread { .. }), "{refused}");
    // Everything else goes on: seals, deletions and timers come with the calls that need them.
    let options =
        Wal::options(&dir).background(true).log_bytes(LOG_BYTES_MIN).cap_wait(Duration::from_millis(1));
    let wal = options.recover().unwrap().finish_without_replay().unwrap().0;
    for number in 0..100_u8 {
        let last = wal.append(Record::new(KIND, &[number; 2000])).unwrap().seqs.last();
        if number == 50 {
            wal.rotate().unwrap();
            wal.mark_flushed(FamilyId::DEFAULT, last).unwrap();
        }
    }
    let ticket = wal.submit(Record::new(KIND, b"awaited")).unwrap();
    match Pin::new(&mut ticket.clone()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(Error::Thread { .. })) => {}
        other => panic!("nobody leads for it, and it is told {other:?}"),
    }
    ticket.wait().unwrap();
    wal.close().unwrap();
    let recovery = Wal::options(&dir).background(false).recover().unwrap();
    println!("ANSWER {} records.", recovery.records().map(Result::unwrap).count());
}

#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn f65_a_log_without_threads_works_or_says_what_it_cannot_do() {
    let dir = scratch();
    let mut command = strace();
    command.args(["/dev/null", "-e", "trace=clone,clone3", "-e", "inject=clone,clone3:error=EAGAIN"]);
    // With one thread for the tests, the child's test runs in its main one.
    let child = ["child_without_threads", "--exact", "--nocapture", "--test-threads", "1"];
    let outcome =
        run(command.arg(std::env::current_exe().unwrap()).args(child).env(DIRECTORY, dir.path()), b"");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert_eq!(outcome.code(), Some(0), "{said} {}", outcome.stderr);
    assert!(said.contains("ANSWER 50 records."), "{said}");
}

/// Kills a recovery at each of its calls, one after the other on the same directory: none makes progress, and each finds
/// what the ones before have left.
#[test]
#[ignore = "needs strace: .ci/run runs it"]
fn f25_recoveries_that_are_killed_again_and_again_lose_nothing_and_leave_no_more_and_more_files() {
    let scratch = scratch();
    let dir = scratch.path().join("wal");
    let held = prepare(&dir);
    let trial = scratch.path().join("trial");
    copy(&dir, &trial);
    let trace = scratch.path().join("trace");
    let append = |command: &mut Command, dir: &Path| run(command.arg(WALCTL).arg("append").arg(dir), b"");
    assert_eq!(append(strace().arg(&trace).arg("-y"), &trial).code(), Some(0));
    let calls = calls(&fs::read_to_string(&trace).unwrap(), &trial);
    let about =
        ["open", "openat", "pread64", "pwrite64", "fsync", "fdatasync", "unlinkat", "flock", "clone3"];
    let places: Vec<_> =
        calls.iter().filter(|call| call.own && call.main && about.contains(&&*call.name)).collect();
    let (mut kills, mut sizes) = (0, Vec::new());
    for _ in 0..3 {
        for call in &places {
            let only = format!("trace={}", call.name);
            let inject = format!("inject={}:signal=SIGKILL:when={}", call.name, call.nth);
            let outcome = append(strace().arg(&trace).args(["-e", &only, "-e", &inject]), &dir);
            kills += usize::from(outcome.signal() == Some(9));
            assert!(look(&dir) == held, "{call:?}");
        }
        sizes.push((files(&dir).len(), files(&dir).values().map(Vec::len).sum::<usize>()));
    }
    println!("{kills} kills, files and bytes after each round: {sizes:?}");
    assert!(kills >= 2 * places.len());
    assert!(sizes[2].0 <= sizes[0].0 + 1, "{sizes:?}");
    assert!(recover(&dir) == held);
}
