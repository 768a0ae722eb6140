//! `walctl dump`, `verify` and `ls`.

use std::fs;
use std::io::Read;

use wal_format::encode::LogEncoder;
use wal_format::{FileHeader, LogNumber, LogSeed};

use crate::support::{Session, append, command, contents, filled, home, logs, walctl};

#[test]
fn dump_prints_the_fixed_json_form() {
    let home = home();
    append(&home.dir, &["--kind", "9", "--family", "4"], b"hi\n\xff\\\t\n").exits(0);
    let run = walctl(["dump", &home.dir, "--json"]).exits(0);
    let first = run.text().lines().next().unwrap();
    let keys: Vec<_> = ["log", "offset", "index", "seq", "count", "kind", "families", "proven", "payload"]
        .iter()
        .map(|key| first.find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} in {first}")))
        .collect();
    assert!(keys.is_sorted(), "in the documented order: {first}");
    let records = run.json();
    assert_eq!(records[0]["log"], 1);
    assert!(records[0]["offset"].as_u64().unwrap() > 0);
    let expected = serde_json::json!({
        "log": 1, "offset": records[1]["offset"], "index": 2, "seq": 2, "count": 1, "kind": 9, "families": [4],
        "proven": true, "payload": "/1wJ",
    });
    assert_eq!(records[1], expected);
    assert!(records[1]["offset"].as_u64() > records[0]["offset"].as_u64());
    assert_eq!(walctl(["dump", &home.dir]).exits(0).text(), "1\thi\n2\t\\xff\\\\\\t\n");
}

#[test]
fn dump_filters_by_sequence_number_and_log() {
    let home = filled(400, 500);
    let lines = |args: &[&str]| -> Vec<u64> {
        let run = walctl([&["dump", &home.dir], args].concat()).exits(0);
        run.text().lines().map(|line| line.split_once('\t').unwrap().0.parse().unwrap()).collect()
    };
    assert_eq!(lines(&[]), (1..=400).collect::<Vec<_>>());
    assert_eq!(lines(&["--from", "398"]), [398, 399, 400]);
    assert_eq!(lines(&["--to", "2"]), [1, 2]);
    assert_eq!(lines(&["--from", "200", "--to", "200"]), [200]);
    assert_eq!(lines(&["--from", "401"]), [0; 0]);
    assert_eq!(lines(&["--from", "18446744073709551615"]), [0; 0]);
    let ls = walctl(["ls", &home.dir, "--json"]).exits(0).json();
    let second = (ls[1]["first_seq"].as_u64().unwrap(), ls[1]["last_seq"].as_u64().unwrap());
    assert_eq!(lines(&["--log", "2"]), (second.0..=second.1).collect::<Vec<_>>());
    assert_eq!(lines(&["--log", "2", "--to", &second.0.to_string()]), [second.0]);
    let run = walctl(["dump", &home.dir, "--log", "99"]).exits(2);
    assert!(run.err.contains("no log 99"), "{}", run.err);
}

#[test]
fn x3_reading_leaves_the_directory_as_it_is() {
    let closed = filled(300, 500);
    let killed = home();
    let mut session = Session::start(&killed.dir, &["--sync", "written"]);
    session.say("one");
    session.say("two");
    session.kill();
    let damaged = filled(300, 500);
    let log = &logs(&damaged.path)[0];
    let mut bytes = fs::read(log).unwrap();
    bytes[10_000] ^= 0x40;
    fs::write(log, bytes).unwrap();
    let torn = home();
    append(&torn.dir, &[], b"a\n").exits(0);
    fs::remove_file(torn.path.join("LOCK")).unwrap();
    for (home, code) in [(&closed, 0), (&killed, 0), (&damaged, 1), (&torn, 0)] {
        let before = contents(&home.path);
        for args in
            [&["dump"][..], &["dump", "--json", "--salvage"], &["verify"], &["verify", "--json"], &["ls"]]
        {
            walctl([&[args[0], &home.dir], &args[1..]].concat()).exits(code);
        }
        assert!(before == contents(&home.path), "bytes, names and times of {}", home.dir);
    }
}

#[test]
fn verify_and_ls_print_the_fixed_forms() {
    let home = filled(300, 500);
    let run = walctl(["verify", &home.dir, "--json"]).exits(0);
    assert!(run.text().starts_with("{\"verdict\":\"clean\","), "{}", run.text());
    let objects = run.json();
    assert_eq!(objects.len(), 1);
    let logs = objects[0]["logs"].as_array().unwrap();
    assert!(logs.len() >= 3);
    for (log, number) in logs.iter().zip(1..) {
        assert_eq!((log["log"].as_u64(), log["verdict"].as_str()), (Some(number), Some("clean")), "{log}");
        assert!(log["offset"].as_u64().unwrap() > 0 && log["reason"].is_null());
    }
    let text = walctl(["verify", &home.dir]).exits(0);
    assert!(text.text().ends_with("verdict: clean, 300 records\n"), "{}", text.text());

    let rows = walctl(["ls", &home.dir, "--json"]).exits(0).json();
    assert_eq!(rows.len(), logs.len());
    assert_eq!(rows.iter().map(|row| row["records"].as_u64().unwrap()).sum::<u64>(), 300);
    assert!(rows.iter().all(|row| row["state"] == "sealed"));
    for row in &rows {
        let path = home.path.join(format!("{:06}.wal", row["log"].as_u64().unwrap()));
        assert_eq!(row["bytes"].as_u64(), Some(fs::metadata(path).unwrap().len()));
    }
    assert_eq!(walctl(["ls", &home.dir]).exits(0).text().lines().count(), rows.len() + 1);
}

#[test]
fn a_directory_whose_name_is_not_utf8_is_read_like_any_other() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = filled(10, 50);
    let odd = home.path.with_file_name(std::ffi::OsStr::from_bytes(b"w\xff"));
    fs::rename(&home.path, &odd).unwrap();
    for verb in ["verify", "ls", "dump"] {
        for flag in ["--json", "--verbose"] {
            let run = walctl([verb.as_ref(), odd.as_os_str(), flag.as_ref()]).exits(0);
            if flag == "--json" {
                assert!(!run.json().is_empty());
            }
        }
    }
    walctl(["gc".as_ref(), odd.as_os_str(), "--flushed".as_ref(), "10".as_ref()]).exits(0);
}

#[test]
fn v3_damage_exits_1_with_what_came_before() {
    let home = filled(400, 500);
    let log = &logs(&home.path)[1];
    let mut bytes = fs::read(log).unwrap();
    bytes[40_000] ^= 1;
    fs::write(log, bytes).unwrap();

    let verify = walctl(["verify", &home.dir, "--json"]).exits(1).json();
    assert_eq!(verify[0]["verdict"], "damaged");
    let damaged = &verify[0]["logs"][1];
    assert_eq!((damaged["log"].as_u64(), damaged["verdict"].as_str()), (Some(2), Some("damaged")));
    let at = damaged["offset"].as_u64().unwrap();
    assert!(at <= 40_000 && at > 32_000, "the offset of the damaged chunk: {at}");
    assert!(damaged["reason"].is_string());
    let text = walctl(["verify", &home.dir]).exits(1);
    assert!(
        text.text().contains("verdict: damaged") && text.text().contains("What to do"),
        "{}",
        text.text()
    );
    walctl(["ls", &home.dir]).exits(1);

    let dump = walctl(["dump", &home.dir]).exits(1);
    let before = dump.text().lines().count();
    assert!(before > 100 && before < 400, "{before} records came before");
    let in_order = dump.text().lines().zip(1..).all(|(line, seq)| line == format!("{seq}\t{seq:0500}"));
    assert!(in_order, "and they are the first ones");
    assert!(dump.err.contains("000002.wal") && dump.err.contains(&at.to_string()), "{}", dump.err);

    let salvage = walctl(["dump", &home.dir, "--salvage"]).exits(1);
    let found: Vec<u64> =
        salvage.text().lines().map(|line| line.split_once('\t').unwrap().0.parse().unwrap()).collect();
    assert!(found.is_sorted() && found.starts_with(&(1..=before as u64).collect::<Vec<_>>()));
    assert!(found.ends_with(&[400]) && found.len() > 300 && found.len() < 400, "{} salvaged", found.len());
    assert!(salvage.err.contains("skipped"), "says what is skipped: {}", salvage.err);
    append(&home.dir, &[], b"no\n").exits(1);
}

#[test]
fn v18_verify_and_dump_name_the_flipped_bit() {
    let home = filled(300, 500);
    let log = &logs(&home.path)[0];
    let mut bytes = fs::read(log).unwrap();
    bytes[10_000] ^= 0x40;
    fs::write(log, &bytes).unwrap();
    let checkpoint = home.path.join("CHECKPOINT");
    let mut slots = fs::read(&checkpoint).unwrap();
    slots[65536 + 30] ^= 0x01;
    fs::write(checkpoint, slots).unwrap();
    let object = &walctl(["verify", &home.dir, "--json"]).exits(1).json()[0];
    let flipped = serde_json::json!({"offset": 10_000, "bit": 6});
    assert_eq!(object["logs"][0]["flipped_bit"], flipped, "{object}");
    assert_eq!(object["findings"][0]["flipped_bit"], flipped, "{object}");
    assert!(object["logs"][1]["flipped_bit"].is_null());
    assert_eq!(object["checkpoint_flipped_bit"], serde_json::json!({"offset": 65566, "bit": 0}));
    let text = walctl(["verify", &home.dir]).exits(1);
    let said = "one flipped bit explains it: bit 6 of byte 10000";
    assert_eq!(text.text().matches(said).count(), 2, "in the row and in the finding: {}", text.text());
    assert!(text.text().contains("one flipped bit explains it: bit 0 of byte 65566"), "{}", text.text());
    let dump = walctl(["dump", &home.dir]).exits(1);
    assert!(dump.err.contains(said), "{}", dump.err);
    // Two bits of one chunk.
    bytes[10_003] ^= 0x02;
    fs::write(log, &bytes).unwrap();
    let object = &walctl(["verify", &home.dir, "--json"]).exits(1).json()[0];
    assert!(object["logs"][0]["flipped_bit"].is_null(), "{object}");
}

#[test]
fn v6_a_missing_log_and_a_foreign_one_exit_1() {
    let home = filled(400, 500);
    let middle = home.path.join("000002.wal");
    let own = fs::read(&middle).unwrap();
    fs::remove_file(&middle).unwrap();
    let verify = walctl(["verify", &home.dir, "--json"]).exits(1).json();
    assert_eq!(verify[0]["logs"][1]["verdict"], "missing");
    let dump = walctl(["dump", &home.dir]).exits(1);
    assert!(dump.err.contains("000002.wal"), "{}", dump.err);
    append(&home.dir, &[], b"no\n").exits(1);

    fs::copy(filled(400, 500).path.join("000002.wal"), &middle).unwrap();
    let verify = walctl(["verify", &home.dir, "--json"]).exits(1).json();
    assert_eq!(verify[0]["logs"][1]["verdict"], "foreign");
    walctl(["dump", &home.dir]).exits(1);

    fs::write(&middle, own).unwrap();
    walctl(["verify", &home.dir]).exits(0);
    fs::remove_file(home.path.join("CHECKPOINT")).unwrap();
    let verify = walctl(["verify", &home.dir, "--json"]).exits(1).json();
    assert_eq!(verify[0]["verdict"], "damaged");
    walctl(["dump", &home.dir]).exits(1);
    assert_eq!(walctl(["dump", &home.dir, "--salvage"]).exits(1).text().lines().count(), 400);
}

#[test]
fn p6_a_newer_format_exits_5() {
    let home = filled(10, 50);
    let log = &logs(&home.path)[0];
    let mut bytes = fs::read(log).unwrap();
    let mut header = FileHeader::decode(LogNumber::new(1), &bytes).unwrap();
    (header.version, header.lowest_reader) = (u16::MAX, u16::MAX);
    let mut encoded = Vec::new();
    LogEncoder::new(LogSeed::new(header.wal_id, header.log)).header(&mut encoded, &header);
    bytes[..encoded.len()].copy_from_slice(&encoded);
    fs::write(log, bytes).unwrap();
    let verify = walctl(["verify", &home.dir, "--json"]).exits(5).json();
    assert_eq!(verify[0]["logs"][0]["verdict"], "newer_format");
    assert!(walctl(["verify", &home.dir]).exits(5).text().contains("newer version"));
    walctl(["dump", &home.dir]).exits(5);
    walctl(["ls", &home.dir]).exits(5);
    append(&home.dir, &[], b"no\n").exits(5);
    walctl(["gc", &home.dir, "--flushed", "1"]).exits(5);
}

#[test]
fn v1_a_torn_tail_exits_0() {
    let home = home();
    let mut session = Session::start(&home.dir, &["--sync", "written"]);
    for _ in 0..3 {
        session.say(&"x".repeat(1000));
    }
    session.kill();
    let log = logs(&home.path).pop().unwrap();
    // Cut into the last record, wherever a preallocated rest of zeros begins.
    let bytes = fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|&byte| byte == b'x').unwrap();
    fs::write(&log, &bytes[..end - 10]).unwrap();
    let verify = walctl(["verify", &home.dir, "--json"]).exits(0).json();
    assert_eq!(verify[0]["verdict"], "torn_tail");
    assert!(walctl(["verify", &home.dir]).exits(0).text().contains("verdict: torn_tail, 2 records"));
    let dump = walctl(["dump", &home.dir, "--json"]).exits(0).json();
    assert_eq!(dump.len(), 2);
    assert!(dump.iter().all(|record| record["proven"] == false), "nothing proves what was never synced");
    assert_eq!(append(&home.dir, &[], b"after\n").exits(0).code, 0);
    assert_eq!(walctl(["dump", &home.dir]).exits(0).text().lines().count(), 3);
}

#[test]
fn a_reader_that_goes_away_ends_dump_quietly() {
    let home = filled(2000, 500);
    for json in [&[][..], &["--json"]] {
        let mut child = command([&["dump", &home.dir], json].concat()).spawn().unwrap();
        let mut some = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    }
}

#[test]
fn g10_why_kept_and_stat_say_who_keeps_each_log_and_change_nothing() {
    let home = filled(300, 500);
    append(&home.dir, &["--family", "7"], b"of seven\n").exits(0);
    {
        let (wal, _) =
            wal_manager::Wal::options(&home.path).recover().unwrap().finish_without_replay().unwrap();
        wal.hold("backup", wal_manager::SeqNum::new(1), Some(1 << 30)).unwrap();
        wal.mark_flushed(wal_manager::FamilyId::DEFAULT, wal_manager::SeqNum::new(300)).unwrap();
        wal.close().unwrap();
    }
    let before = contents(&home.path);
    let rows = walctl(["why-kept", &home.dir, "--json"]).exits(0).json();
    let keeper = |row: &serde_json::Value, place: usize| {
        let keeper = &row["keepers"][place];
        (keeper["keeper"].as_str().unwrap().to_owned(), keeper["name"].as_str().unwrap().to_owned())
    };
    assert_eq!(keeper(&rows[0], 0), ("hold".to_owned(), "backup".to_owned()));
    assert_eq!((rows[0]["log"].as_u64(), rows[0]["keepers"][0]["from_seq"].as_u64()), (Some(1), Some(1)));
    assert!(rows[0]["keepers"][0]["since_micros"].as_u64().unwrap() > 0);
    let seven = rows.iter().find(|row| keeper(row, 0).0 == "family").unwrap();
    assert_eq!(
        (keeper(seven, 0).1, seven["keepers"][0]["through_seq"].as_u64()),
        ("7".to_owned(), Some(301))
    );
    assert_eq!(keeper(rows.last().unwrap(), 0).0, "active");
    let text = walctl(["why-kept", &home.dir]).exits(0);
    assert!(text.text().lines().nth(1).unwrap().contains("hold    backup"), "{}", text.text());

    let stat = walctl(["stat", &home.dir, "--json"]).exits(0).json().remove(0);
    assert_eq!(stat["logs"].as_u64(), Some(rows.len() as u64));
    assert_eq!((stat["records"].as_u64(), stat["next_index"].as_u64()), (Some(301), Some(302)));
    assert_eq!((stat["first_seq"].as_u64(), stat["last_seq"].as_u64()), (Some(1), Some(301)));
    assert_eq!(stat["clean_end"]["next_index"].as_u64(), Some(302));
    let family = |place: usize, key: &str| stat["families"][place][key].clone();
    assert_eq!((family(0, "family"), family(0, "flushed_seq")), (0.into(), 300.into()));
    assert_eq!((family(1, "family"), family(1, "unflushed_logs")), (7.into(), 1.into()));
    assert!(family(1, "flushed_seq").is_null());
    let hold = &stat["holds"][0];
    assert_eq!(
        (hold["name"].as_str(), hold["from_seq"].as_u64(), hold["lost"].as_bool()),
        (Some("backup"), Some(1), Some(false))
    );
    let text = walctl(["stat", &home.dir]).exits(0);
    assert!(
        text.text().contains("\nhold         backup: from 1 to the end, budget 1.00 GiB, since "),
        "{}",
        text.text()
    );
    assert!(before == contents(&home.path), "nothing was changed");
    walctl(["why-kept", "/nowhere/at/all"]).exits(3);
}

#[test]
fn stat_shows_how_long_the_records_are() {
    let home = home();
    append(&home.dir, &[], b"a\nbb\nccc\nfour\n").exits(0);
    let bucket = |from: u64, to: u64, records: u64, bytes: u64| serde_json::json!({ "from_bytes": from, "to_bytes": to, "records": records, "bytes": bytes });
    let stat = walctl(["stat", "--histogram", "--json", &home.dir]).exits(0).json();
    let expected = [bucket(1, 1, 1, 1), bucket(2, 3, 2, 5), bucket(4, 7, 1, 4)];
    assert_eq!(stat[0]["histogram"].as_array().unwrap(), &expected);
    assert!(walctl(["stat", "--json", &home.dir]).exits(0).json()[0].get("histogram").is_none());
    let text = walctl(["stat", "--histogram", &home.dir]).exits(0);
    let bars: Vec<usize> =
        text.text().lines().map(|line| line.matches('#').count()).filter(|bar| *bar > 0).collect();
    assert_eq!(bars, [16, 32, 16]);
}
