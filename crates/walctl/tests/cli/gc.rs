//! `walctl gc`.

use crate::support::{append, contents, filled, logs, walctl};

#[test]
fn g1_logs_that_are_flushed_are_deleted_and_no_others() {
    let home = filled(1000, 500);
    let before = walctl(["ls", &home.dir, "--json"]).exits(0).json();
    assert!(before.len() > 5);
    // Through the last record of the second log, and one record into the third.
    let flushed = before[1]["last_seq"].as_u64().unwrap() + 1;
    let run = walctl(["gc", &home.dir, "--flushed", &flushed.to_string()]).exits(0);
    assert!(run.text().starts_with("deleted log 1\ndeleted log 2\n2 logs deleted, "), "{}", run.text());
    let first = format!("{flushed}\t{flushed:0500}\n");
    let dump = walctl(["dump", &home.dir, "--from", &flushed.to_string()]).exits(0);
    assert!(dump.text().starts_with(&first));
    assert_eq!(dump.text().lines().count() as u64, 1001 - flushed);
    assert!(logs(&home.path)[0].ends_with("000003.wal"));

    let run = walctl(["gc", &home.dir, "--flushed", "1000", "--json"]).exits(0).json();
    assert_eq!((run.len(), run[0]["deleted"][0].as_u64()), (1, Some(3)));
    assert!(run[0]["bytes"].as_u64().unwrap() > 100_000);
    assert_eq!(walctl(["dump", &home.dir]).exits(0).text(), "");
    // Again, with less and with the same: nothing is left to do.
    for flushed in ["1", "1000"] {
        assert!(
            walctl(["gc", &home.dir, "--flushed", flushed]).exits(0).text().starts_with("0 logs deleted")
        );
    }
    // Numbers go on after everything was deleted.
    assert_eq!(append(&home.dir, &[], b"next\n").exits(0).text(), "1001 1\n");
}

#[test]
fn a2_a_number_that_was_never_issued_is_refused_and_nothing_is_deleted() {
    let home = filled(300, 500);
    let logs_before = logs(&home.path);
    for args in [
        &["--flushed", "301"][..],
        &["--flushed", "301", "--family", "0"],
        &["--flushed", "18446744073709551615"],
    ] {
        let run = walctl([&["gc", &home.dir], args].concat()).exits(2);
        assert!(run.err.contains("300"), "says what the newest is: {}", run.err);
        assert!(logs(&home.path).starts_with(&logs_before));
    }
    let everything = walctl(["gc", &home.dir, "--flushed", "300"]);
    everything.exits(0);
    walctl(["gc", &home.dir, "--flushed", "301"]).exits(2);
}

#[test]
fn a_log_stays_as_long_as_one_of_its_families_needs_it() {
    let home = filled(200, 500);
    append(&home.dir, &["--family", "7"], b"of seven\n").exits(0);
    append(&home.dir, &[], b"later\n").exits(0);
    let run = walctl(["gc", &home.dir, "--flushed", "202", "--family", "0"]).exits(0);
    assert!(!run.text().starts_with("0 logs"));
    let left = walctl(["dump", &home.dir]).exits(0);
    assert!(left.text().contains("of seven"), "family 7 is not flushed");
    walctl(["gc", &home.dir, "--flushed", "202"]).exits(0);
    assert_eq!(walctl(["dump", &home.dir]).exits(0).text(), "");
}

#[test]
fn damage_is_reported_and_nothing_is_deleted() {
    let home = filled(300, 500);
    let log = &logs(&home.path)[1];
    let mut bytes = std::fs::read(log).unwrap();
    bytes[40_000] ^= 1;
    std::fs::write(log, bytes).unwrap();
    let before: Vec<_> = contents(&home.path).into_iter().map(|(path, (bytes, _))| (path, bytes)).collect();
    walctl(["gc", &home.dir, "--flushed", "300"]).exits(1);
    let after: Vec<_> = contents(&home.path).into_iter().map(|(path, (bytes, _))| (path, bytes)).collect();
    assert!(before == after, "an open that fails changes nothing");
}
