//! `walctl doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::{Home, Session, append, contents, filled, home, logs, walctl};

/// What a doctor says: id to severity, and the whole object.
fn doctor(home: &Home, code: i32) -> (Vec<(String, String)>, Value) {
    let report = walctl(["doctor", "--json", &home.dir]).exits(code).json().remove(0);
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    (findings.map(|finding| (word(finding, "id"), word(finding, "severity"))).collect(), report)
}

fn has(found: &[(String, String)], id: &str, severity: &str) -> bool {
    found.contains(&(id.to_owned(), severity.to_owned()))
}

#[test]
fn x3_a_doctor_finds_nothing_wrong_with_a_closed_log_and_changes_nothing() {
    let home = filled(300, 500);
    let before = contents(&home.path);
    let (found, report) = doctor(&home, 0);
    assert!(has(&found, "closed", "info") && has(&found, "kept", "info"), "{found:?}");
    assert!(
        found.iter().all(|(_, severity)| severity == "info") || report["file_system"] == "tmpfs",
        "{report}"
    );
    let number = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((number("records"), number("format_version"), number("epoch")), (300, 1, 1));
    assert_eq!((number("logs") as usize, report["full"].as_bool()), (logs(&home.path).len(), Some(true)));
    assert!(number("free_bytes") <= number("total_bytes") && number("total_bytes") > 0);
    let text = walctl(["doctor", &home.dir]).exits(0);
    assert!(text.text().contains(&format!("next: walctl why-kept {}", home.dir)), "{}", text.text());
    assert!(text.text().contains("verdict: "));
    assert!(before == contents(&home.path), "bytes, names and times");
}

#[test]
fn x1_a_doctor_names_the_process_that_has_it_open_and_takes_no_lock() {
    let home = home();
    let mut session = Session::start(&home.dir, &[]);
    session.say("one");
    let (found, report) = doctor(&home, 0);
    assert!(has(&found, "open", "info"));
    if cfg!(target_os = "linux") && fs::metadata("/proc/locks").is_ok() {
        assert_eq!(report["open_by"].as_u64(), Some(u64::from(session.child.id())), "{report}");
        let text = walctl(["doctor", &home.dir]).exits(0);
        assert!(text.text().contains("(walctl) has it open"), "{}", text.text());
    }
    session.say("two");
    session.kill();
    let (found, report) = doctor(&home, 0);
    assert!(report["open_by"].is_null() && has(&found, "not_closed", "info"), "{found:?}");
}

#[test]
fn v3_v4_a_doctor_tells_damage_by_its_id_and_its_exit_code() {
    let home = filled(300, 500);
    let log = logs(&home.path)[1].clone();
    let good = fs::read(&log).unwrap();
    let mut bytes = good.clone();
    bytes[20_000] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let (found, report) = doctor(&home, 1);
    assert!(has(&found, "damaged", "damage") && report["worst"] == "damage", "{report}");
    assert!(
        report["findings"][0]["next"].as_str().unwrap().contains("walctl repair --dry-run"),
        "the worst first"
    );
    fs::remove_file(&log).unwrap();
    assert!(has(&doctor(&home, 1).0, "missing", "damage"));
    fs::write(&log, &good).unwrap();

    let checkpoint = home.path.join("CHECKPOINT");
    let good = fs::read(&checkpoint).unwrap();
    let mut bytes = good.clone();
    bytes[40] ^= 1;
    fs::write(&checkpoint, &bytes).unwrap();
    assert!(has(&doctor(&home, 0).0, "checkpoint_slot", "warning"));
    fs::remove_file(&checkpoint).unwrap();
    let (found, report) = doctor(&home, 1);
    assert!(has(&found, "checkpoint", "damage") && report["records"].is_null(), "{report}");
    fs::write(&checkpoint, &good).unwrap();
    doctor(&home, 0);
}

#[test]
fn v1_a_torn_tail_is_no_damage_to_a_doctor() {
    let home = home();
    let mut session = Session::start(&home.dir, &[]);
    session.say("one");
    session.say("two");
    session.kill();
    let log = logs(&home.path).pop().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    // A piece of a group that no writer finished, behind what is there.
    bytes.extend([0xA5; 100]);
    fs::write(&log, &bytes).unwrap();
    let (found, report) = doctor(&home, 0);
    assert!(has(&found, "torn_tail", "info"), "{report}");
    append(&home.dir, &[], b"three\n").exits(0);
    assert!(!has(&doctor(&home, 0).0, "torn_tail", "info"), "the next open has cut it");
}

#[test]
fn leftovers_copies_aside_foreign_files_and_permissions_are_found() {
    let home = filled(100, 500);
    fs::write(home.path.join("CHECKPOINT.new"), b"x").unwrap();
    fs::write(home.path.join("notes.txt"), b"x").unwrap();
    fs::write(home.path.join("000001.wal.quarantine-3"), b"x").unwrap();
    fs::create_dir(format!("{}.making", home.dir)).unwrap();
    fs::create_dir(format!("{}.before-repair-1", home.dir)).unwrap();
    fs::set_permissions(home.path.join("CHECKPOINT"), fs::Permissions::from_mode(0o666)).unwrap();
    let (found, report) = doctor(&home, 0);
    for (id, severity) in [
        ("leftover", "info"),
        ("foreign_files", "info"),
        ("quarantine", "warning"),
        ("making", "info"),
        ("aside", "info"),
        ("permissions", "warning"),
    ] {
        assert!(has(&found, id, severity), "{id}: {report}");
    }
    assert_eq!(report["worst"], "warning");
    let of = |id: &str| {
        let finding =
            report["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == id).unwrap();
        finding["what"].as_str().unwrap().to_owned()
    };
    assert!(of("foreign_files").starts_with("notes.txt (1 B)"), "{}", of("foreign_files"));
}

#[test]
fn a_doctor_of_no_log_exits_3_and_creates_nothing() {
    let home = home();
    assert!(walctl(["doctor", &home.dir]).exits(3).err.contains(&home.dir));
    assert!(!home.path.exists());
    fs::create_dir(&home.path).unwrap();
    let run = walctl(["doctor", "--json", &home.dir]).exits(3);
    assert!(run.out.is_empty() && fs::read_dir(&home.path).unwrap().count() == 0);
}
