//! The seeded-bug gate: every deliberate bug of `wal-seeded-bugs` must be caught by the layer of tests that answers for it, and every layer
//! answers for some. It builds the layers again with the bugs in them, wakes one bug after the other, and runs the layer, which must fail by
//! itself: a hang is no catch.
//!
//! `cargo test -p wal-tests --test gate -- --ignored --nocapture`. With `GATE=all` every layer faces every bug, and the table of
//! `docs/testing.md` is printed; `GATE=Name,Name` takes some bugs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wal_seeded_bugs::{Bug, VARIABLE};

#[allow(
    clippy::disallowed_methods,
    reason = "how long a catch takes is part of the table; nothing depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

/// Longest that a layer may take over one bug.
const PATIENCE: Duration = Duration::from_secs(300);

/// A layer of tests.
struct Layer {
    name: &'static str,
    package: &'static str,
    /// Test targets.
    targets: &'static [&'static str],
    /// Only tests whose name holds this.
    filter: &'static str,
    /// Built for the deterministic scheduler.
    shuttle: bool,
    /// How much of it faces a bug.
    environment: &'static [(&'static str, &'static str)],
}

/// A layer on real threads.
const fn layer(name: &'static str, targets: &'static [&'static str]) -> Layer {
    Layer { name, package: "wal-tests", targets, filter: "", shuttle: false, environment: &[] }
}

const LAYERS: &[Layer] = &[
    Layer { environment: &[("EXPLORE", "0.06")], ..layer("exploration", &["explore"]) },
    Layer { environment: &[("CRASH_SEEDS", "0..500")], ..layer("lives", &["crash"]) },
    Layer { environment: &[("PROPTEST_CASES", "1000")], ..layer("model", &["model"]) },
    layer("traces", &["op_traces"]),
    Layer { filter: "t7", environment: &[("SWEEP_STRIDE", "997")], ..layer("sweep", &["sweep"]) },
    layer(
        "format",
        &["format_golden", "format_decoders", "format", "format_details", "format_hostile", "flipped_bits"],
    ),
    Layer { package: "wal-io", filter: "sim", ..layer("storage", &["wal_io"]) },
    layer("recovery", &["recovery", "replay", "faults_disk", "mended"]),
    layer(
        "life cycle",
        &[
            // The quick ones first.
            "lifecycle_tickets",
            "lifecycle_resume",
            "lifecycle_timers",
            "lifecycle_rotation",
            "lifecycle_deletion",
            "lifecycle_sync",
            "lifecycle_keepers",
            "full",
            "duplicates",
            "lifecycle_append",
            "lifecycle_followers",
            "lifecycle_files",
        ],
    ),
    layer("padding", &["padded"]),
    Layer { package: "wal-manager", filter: "keepers", ..layer("keepers", &["wal_manager"]) },
    layer("copies", &["copies", "archives", "repairs"]),
    layer("fuzz smoke", &["fuzz_smoke"]),
    Layer {
        package: "wal-interleavings",
        shuttle: true,
        environment: &[("INTERLEAVINGS", "40000")],
        ..layer("interleavings", &["interleavings"])
    },
    Layer {
        package: "wal-interleavings",
        shuttle: true,
        environment: &[("SIMULATE_SEEDS", "0..40"), ("SIMULATE_ENGINE_SEEDS", "0..10")],
        ..layer("simulation", &["simulation"])
    },
];

/// Which layer answers for which bugs. What breaks a rule of the protocol is found by the exploration at least.
const ANSWERS: &[(&str, &[Bug])] = &[
    (
        "exploration",
        &[
            Bug::AckWithoutSync,
            Bug::AckBeforeSync,
            Bug::PromiseOfWritten,
            Bug::PromiseAlways,
            Bug::SyncRetried,
            Bug::FailureIgnored,
            Bug::FailureNotSticky,
            Bug::DrainWithoutSync,
            Bug::SealBeforeData,
            Bug::SealNotSynced,
            Bug::CleanEndBeforeSeal,
            Bug::SealFailurePoisons,
            Bug::PreparedTooEarly,
            Bug::PreparedNotRecorded,
            Bug::NextNameNotSynced,
            Bug::UnlinkBeforeFloor,
            Bug::DeletesFrontier,
            Bug::DeletesUnflushed,
            Bug::SlotsWithoutSyncBetween,
            Bug::OtherSlotAfterFailure,
            Bug::OneSlotOnly,
            Bug::SlotNotWrittenAgain,
            Bug::OlderSlotBelieved,
            Bug::NextIndexOfAccepted,
            Bug::CheckpointNameNotSynced,
            Bug::ParentsNotSynced,
            Bug::ContinuesFromCheckpoint,
            Bug::BehindCheckpointIgnored,
            Bug::MissingIgnored,
            Bug::UnknownEpochBelieved,
            Bug::ChainByNumber,
            Bug::NumberFromDiskOnly,
            Bug::PredecessorIsNewest,
            Bug::EpochBeforeNewLog,
            Bug::NewLogNotSynced,
            Bug::NewLogNameNotSynced,
            Bug::RemovesBeforeCommit,
            Bug::LeftoverPromiseIgnored,
            Bug::TailNotWrittenAgain,
            Bug::LeftoverReused,
            Bug::HeaderlessPromiseIgnored,
            Bug::BlankBelievedAfterACrash,
            Bug::DamageIsTorn,
            Bug::TornIsDamage,
            Bug::SkipsHoles,
            Bug::ReadErrorIsEnd,
            Bug::SequenceFloorForgotten,
            Bug::ReplaySkipsTooMuch,
            Bug::NoSecondLook,
            Bug::UnprovenCalledProven,
            Bug::HoldIgnored,
        ],
    ),
    ("lives", &[Bug::TailNotWrittenAgain, Bug::NewLogNotSynced, Bug::HoldIgnored, Bug::ListsUnflushed]),
    ("model", &[Bug::SequenceNotChecked, Bug::FamiliesForgotten, Bug::UnprovenCalledProven]),
    ("traces", &[Bug::PromiseNever, Bug::SealNotSynced, Bug::SlotNotWrittenAgain]),
    ("sweep", &[Bug::DamageIsTorn, Bug::HeaderlessPromiseIgnored]),
    (
        "format",
        &[
            Bug::FlipNamedOneOff,
            Bug::LengthNotCovered,
            Bug::TypeNotCovered,
            Bug::OffsetNotCovered,
            Bug::FarOffsetForgotten,
            Bug::GuessForgetsCount,
            Bug::NumberNotCovered,
            Bug::IdentityNotCovered,
        ],
    ),
    (
        "recovery",
        &[
            Bug::AckWithoutSync,
            Bug::SealBelievedUnread,
            Bug::ReplayForgetsFamilies,
            Bug::ReplaySkipsALog,
            Bug::LendsFlushed,
            Bug::ShortCutForgetsFamilies,
            Bug::ListsUnflushed,
            Bug::SkippedLogsHoldNothing,
            Bug::CleanEndOutlivesTheOpen,
            Bug::BlankBelievedAfterACrash,
        ],
    ),
    ("storage", &[Bug::DirectSyncsOneWrite]),
    ("keepers", &[Bug::PinIgnored, Bug::HoldIgnored]),
    (
        "life cycle",
        &[
            Bug::WindowForgetsAtRotation,
            Bug::WindowNotRebuilt,
            Bug::WindowKeepsNoLogs,
            Bug::DuplicateDoesNotWait,
            Bug::FailureFreesKeys,
            Bug::SequenceNotChecked,
            Bug::PreparedAheadTooEarly,
            Bug::NextNotWantedBeside,
            Bug::ReusedNotWiped,
            Bug::UnsealedReused,
            Bug::LinkedFileReused,
            Bug::GapIsDamage,
            Bug::HoldIgnored,
            Bug::HoldBudgetIgnored,
            Bug::HoldsForgotten,
            Bug::HoldGoesBack,
            Bug::MarkInsideRecord,
            Bug::PressureNamesNewest,
            Bug::DirectTailForgotten,
            Bug::DirectPaddingLeft,
            Bug::AdaptiveWaitsForever,
            Bug::LeadershipLost,
            Bug::TicketWakeLost,
            Bug::LeftStillCount,
            Bug::ThreadBeforeState,
            Bug::IdlePromiseForEver,
            Bug::TimerNeverSyncs,
            Bug::ThreadDiesSilently,
            Bug::FollowerSeesWritten,
            Bug::FollowerBelievesUnproven,
            Bug::FollowerSleepsAtRotation,
            Bug::FollowerJumpsGap,
            Bug::FollowerKeepsOldWindow,
            Bug::FollowerReadsAnotherLog,
            Bug::ResumeForgetsBuffered,
            Bug::ResumeDuplicates,
            Bug::ResumeFromWrittenNotDurable,
            Bug::ResumeKeepsOldPredecessorEnd,
            Bug::RefusedUsesNumbers,
            Bug::DeletionWakesNobody,
            Bug::FullDiskStopsForEver,
            Bug::FullDiskTakesNoMarks,
            Bug::CheckpointNotAllocated,
            Bug::ReserveKept,
            Bug::SpaceNotCounted,
        ],
    ),
    (
        "copies",
        &[
            Bug::PinIgnored,
            Bug::LinkedFileReused,
            Bug::CopyBeyondFrontier,
            Bug::UnsealedLinked,
            Bug::NoLookBehindLinks,
            Bug::ArchiveNotSynced,
            Bug::ArchiveBelieved,
            Bug::LeftoverTrusted,
            Bug::RestoreOnePast,
        ],
    ),
    ("padding", &[Bug::HeaderNotPadded, Bug::FillerTooShort]),
    ("fuzz smoke", &[Bug::LengthNotCovered]),
    (
        "interleavings",
        &[
            Bug::ThreadBeforeState,
            Bug::WakesOne,
            Bug::ExclusiveWakesNobody,
            Bug::PanicLeavesWaiters,
            Bug::ResumeClosesLate,
        ],
    ),
    ("simulation", &[Bug::AckOfNextGroup, Bug::ReadErrorIsEnd]),
];

fn answers(layer: &Layer, bug: Bug) -> bool {
    ANSWERS.iter().any(|(name, bugs)| *name == layer.name && bugs.contains(&bug))
}

/// How a layer took a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// A test failed: its name.
    Caught(String),
    Survived,
    /// Nothing failed, and it did not end.
    Hung,
}

/// A test executable.
struct Executable {
    path: PathBuf,
    /// Where cargo runs it.
    directory: PathBuf,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in the workspace").to_owned()
}

/// Builds all layers of one kind; the executables by target.
fn build(shuttle: bool) -> BTreeMap<String, Executable> {
    let flags = if shuttle { "--cfg wal_seeded_bugs --cfg wal_shuttle" } else { "--cfg wal_seeded_bugs" };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut cargo = Command::new(std::env::var_os("CARGO").expect("run by cargo"));
    cargo.current_dir(root()).env("RUSTFLAGS", flags).args([
        "test",
        "--no-run",
        "--message-format=json",
        "--no-default-features",
    ]);
    cargo.arg("--target-dir").arg(target.join(if shuttle { "bugs-shuttle" } else { "bugs" }));
    let layers = LAYERS.iter().filter(|layer| layer.shuttle == shuttle);
    let mut packages: Vec<&str> = layers.clone().map(|layer| layer.package).collect();
    packages.dedup();
    for package in packages {
        cargo.args(["-p", package]);
    }
    // These tests stand beside their code.
    let (beside, tests): (Vec<&str>, Vec<&str>) =
        layers.flat_map(|layer| layer.targets).partition(|target| ["wal_io", "wal_manager"].contains(target));
    cargo.args(beside.first().map(|_| "--lib"));
    for target in tests {
        cargo.args(["--test", target]);
    }
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "the layers do not build with `{flags}`");
    let mut executables = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let (Some(path), Some(name), Some(manifest)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        let directory = Path::new(manifest).parent().expect("a manifest is in a directory").to_owned();
        executables.insert(name.to_owned(), Executable { path: path.into(), directory });
    }
    executables
}

/// Waits until a test of `child` has failed, whose output goes to `log`, or all have ended. The tests that still run then are not waited for.
/// Caught without a name: it failed and no test did.
fn await_failure(mut child: Child, log: &Path) -> Outcome {
    let begun = now();
    let outcome = loop {
        let status = child.try_wait().expect("it can be waited for");
        // Read after the status: what it has printed by its end is there.
        let printed = std::fs::read_to_string(log).unwrap_or_default();
        let failed = printed.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        match (failed, status) {
            (Some(failed), _) => break Outcome::Caught(failed.to_owned()),
            (None, Some(status)) if status.success() => break Outcome::Survived,
            (None, Some(_)) => break Outcome::Caught(String::new()),
            (None, None) if begun.elapsed() > PATIENCE => break Outcome::Hung,
            #[allow(clippy::disallowed_methods, reason = "waits for a child with a limit, which std cannot")]
            (None, None) => thread::sleep(Duration::from_millis(20)),
        }
    };
    // Fails if it has ended.
    let _ = child.kill();
    child.wait().expect("it is dead");
    outcome
}

/// Runs a layer with a bug awake, or with none.
fn face(layer: &Layer, bug: Option<Bug>, executables: &BTreeMap<String, Executable>) -> Outcome {
    // Who is stopped in the middle removes nothing.
    let temporary = tempfile::tempdir().expect("a temporary directory");
    for target in layer.targets {
        let executable = executables.get(*target).unwrap_or_else(|| panic!("no executable for {target}"));
        let mut command = Command::new(&executable.path);
        command.current_dir(&executable.directory).arg(layer.filter).env("TMPDIR", temporary.path());
        command.env_remove(VARIABLE).envs(bug.map(|bug| (VARIABLE, bug.name())));
        command.envs(layer.environment.iter().copied()).env("RUST_BACKTRACE", "0").env("HANG_SECONDS", "20");
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        command.stdout(log.reopen().expect("again")).stderr(Stdio::null());
        match await_failure(command.spawn().expect("it runs"), log.path()) {
            Outcome::Survived => {}
            // It aborted: a panic in a panic, a stack that is too deep.
            Outcome::Caught(name) if name.is_empty() => return Outcome::Caught((*target).to_owned()),
            other => return other,
        }
    }
    Outcome::Survived
}

#[test]
#[ignore = "builds the tests again with the bugs in them: .ci/run runs it"]
fn t10_every_seeded_bug_is_caught_by_the_layer_that_answers_for_it() {
    let wanted = std::env::var("GATE").unwrap_or_default();
    let all = wanted == "all";
    let chosen = |bug: &Bug| all || wanted.is_empty() || wanted.split(',').any(|name| name == bug.name());
    let mut executables = build(false);
    executables.extend(build(true));
    let pairs: Vec<(Bug, &Layer)> = Bug::ALL
        .iter()
        .filter(|bug| chosen(bug))
        .flat_map(|bug| LAYERS.iter().map(move |layer| (*bug, layer)))
        .filter(|(bug, layer)| all || answers(layer, *bug))
        .collect();
    // A layer that fails by itself would catch everything.
    for layer in LAYERS.iter().filter(|layer| pairs.iter().any(|(_, faced)| faced.name == layer.name)) {
        assert_eq!(face(layer, None, &executables), Outcome::Survived, "{} without a bug", layer.name);
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((bug, layer)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = now();
                    let outcome = face(layer, Some(*bug), &executables);
                    let seconds = begun.elapsed().as_secs_f32();
                    println!("{:<26} {:<14} {seconds:>6.1} s {outcome:?}", bug.name(), layer.name);
                    done.lock().expect("no panic").push((*bug, layer.name, outcome, seconds));
                }
            });
        }
    });
    let done = done.into_inner().expect("no panic");
    if all {
        print_table(&done);
        return;
    }
    let escaped: Vec<_> =
        done.iter().filter(|(_, _, outcome, _)| !matches!(outcome, Outcome::Caught(_))).collect();
    assert!(escaped.is_empty(), "not caught: {escaped:?}");
    println!("{} bugs, all caught", done.len());
}

/// The table of `docs/testing.md`: a row for each bug, a column for each layer.
fn print_table(done: &[(Bug, &str, Outcome, f32)]) {
    let names: Vec<&str> = LAYERS.iter().map(|layer| layer.name).collect();
    println!("| bug | breaks | {} |", names.join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(names.len()));
    for bug in Bug::ALL {
        let cells = names.iter().map(|name| {
            let cell = done.iter().find(|(other, layer, ..)| other == bug && layer == name);
            match cell {
                Some((_, _, Outcome::Caught(_), seconds)) => format!("{seconds:.1} s"),
                Some((_, _, Outcome::Hung, _)) => "hangs".to_owned(),
                _ => String::new(),
            }
        });
        println!("| `{}` | {} | {} |", bug.name(), bug.breaks(), cells.collect::<Vec<_>>().join(" | "));
    }
}

/// Each bug has a layer that answers for it, and each layer has bugs.
#[test]
fn t10_each_seeded_bug_has_a_layer_and_each_layer_has_bugs() {
    for bug in Bug::ALL {
        assert!(LAYERS.iter().any(|layer| answers(layer, *bug)), "nobody answers for {}", bug.name());
    }
    for layer in LAYERS {
        assert!(Bug::ALL.iter().any(|bug| answers(layer, *bug)), "{} answers for nothing", layer.name);
    }
    for (name, _) in ANSWERS {
        assert!(LAYERS.iter().any(|layer| layer.name == *name), "there is no layer {name}");
    }
}
