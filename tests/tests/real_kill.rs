//! `walctl append`, killed with SIGKILL again and again on one directory: after so many acknowledged lines, a number that a seed chooses. After each
//! kill everything is read back and compared with what was acknowledged. `KILL_CYCLES` says how often, `KILL_SEED` where; the same seed gives the same
//! lines and the same numbers (the kernel decides how far the writer has got beyond the last line that was heard of).

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use wal_tests::life::within;
use wal_tests::real::{Held, acknowledged, check, input, look, recover, run};

const WALCTL: &str = env!("CARGO_BIN_EXE_walctl-under-test");

/// Random numbers (splitmix64): repeatable, not secret.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What a loop has counted.
#[derive(Debug, Default)]
struct Count {
    kills: u64,
    /// Before the first line was acknowledged.
    early: u64,
    acknowledged: u64,
    /// Records that were there without having been acknowledged.
    beyond: u64,
    deleted: u64,
}

/// More lines than are ever acknowledged in a cycle: the writer must not come to its end before it is killed.
const LINES: u64 = 600;

/// Lines of a cycle, all different from each other and from those of other cycles; some fill several blocks, so that logs rotate.
fn lines(random: &mut Random, cycle: u64) -> Vec<Vec<u8>> {
    let line = |number: u64, random: &mut Random| {
        let length =
            if random.below(20) == 0 { 20_000 + random.below(30_000) } else { 1 + random.below(300) };
        format!("{cycle}/{number} {:.<1$}", "", length as usize).into_bytes()
    };
    (1..=LINES).map(|number| line(number, random)).collect()
}

/// Lets a writer go on until it has acknowledged `after` lines, and kills it. Returns everything that it said.
fn kill_after(dir: &Path, lines: &[Vec<u8>], writers: u16, after: u64) -> Vec<u8> {
    let mut child = Command::new(WALCTL)
        .arg("append")
        .arg(dir)
        .args(["--log-bytes", "65536", "--writers", &writers.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let input = input(lines);
    // Ends when the writer is gone. Until then standard input stays open: the writer does not close the log.
    let feeder = thread::spawn(move || {
        let _ = stdin.write_all(&input);
        stdin
    });
    let mut said = Vec::new();
    for _ in 0..after {
        assert!(stdout.read_until(b'\n', &mut said).unwrap() > 0, "the writer ended by itself");
    }
    child.kill().unwrap();
    // What it had said before it died counts.
    stdout.read_to_end(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "killed, not ended");
    drop(feeder.join().unwrap());
    said
}

fn cycles(cycles: u64, seed: u64) -> Count {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("wal");
    let mut random = Random(seed);
    let (mut held, mut flushed) = (Held::new(), 0);
    // What is flushed may still be there, and is not replayed.
    let replayed = |held: &Held, flushed: u64| -> Held {
        held.iter().filter(|(seq, _)| *seq > flushed).cloned().collect()
    };
    let mut count = Count::default();
    for cycle in 1..=cycles {
        let lines = lines(&mut random, cycle);
        let writers = [1, 4][random.below(2) as usize];
        // One in eight is killed as soon as it runs, in the loader or the recovery.
        let after = if random.below(8) == 0 { 0 } else { 1 + random.below(60) };
        let said = kill_after(&dir, &lines, writers, after);
        let acked = acknowledged(&said);
        count.kills += 1;
        count.early += u64::from(acked.is_empty());
        count.acknowledged += acked.len() as u64;
        if !dir.join("CHECKPOINT").exists() {
            assert!(acked.is_empty() && held.is_empty());
            continue;
        }
        let verified = run(Command::new(WALCTL).arg("verify").arg(&dir), b"");
        assert_eq!(verified.code(), Some(0), "cycle {cycle}: {verified:?}");
        let found = look(&dir);
        check(&held, &lines, &acked, writers, &found);
        count.beyond += (found.len() - held.len() - acked.len()) as u64;
        held = found;
        match random.below(10) {
            // Half of what is there may go, in whole logs.
            0 if !held.is_empty() => {
                flushed = held[held.len() / 2].0;
                let mut gc = Command::new(WALCTL);
                let gc = run(gc.arg("gc").arg(&dir).args(["--flushed", &flushed.to_string()]), b"");
                assert_eq!(gc.code(), Some(0), "cycle {cycle}: {gc:?}");
                let left = look(&dir);
                assert!(held.ends_with(&left) && left.len() >= held.len() - held.len() / 2 - 1);
                count.deleted += (held.len() - left.len()) as u64;
                held = left;
            }
            // A recovery that ends, and gives out the same.
            1 => assert!(recover(&dir) == replayed(&held, flushed), "cycle {cycle}"),
            _ => {}
        }
    }
    assert!(recover(&dir) == replayed(&held, flushed));
    count
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

#[test]
fn t4_ten_kills_lose_nothing_acknowledged() {
    let count = within("ten kills", || cycles(10, number("KILL_SEED", 1)));
    println!("{count:?}");
    assert_eq!(count.kills, 10);
    assert!(count.acknowledged > 50, "{count:?}");
}

#[test]
#[ignore = "takes its time: .ci/run runs it"]
fn t4_hundreds_of_kills_lose_nothing_acknowledged() {
    let kills = number("KILL_CYCLES", 200);
    let count = cycles(kills, number("KILL_SEED", 2));
    println!("{count:?}");
    assert_eq!(count.kills, kills);
    assert!(count.acknowledged > 5 * kills && count.beyond > 0, "{count:?}");
}
