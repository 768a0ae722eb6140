//! The replica of `examples/replica.rs`: source and replica are processes that are killed again and again, and converge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, in its helpers too"
)]

#[allow(dead_code, reason = "an example stands on its own, and its main is not called here")]
#[path = "../examples/replica.rs"]
mod replica;

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Random, contents};
use replica::Replica;
use toy_memtable::{Engine, FamilyId, WriteBatch};

const ROLE: &str = "REPLICA_TEST_ROLE";

/// Where the source counts its writes.
const COUNTER: &[u8] = b"counter";

fn open(dir: &Path) -> Engine {
    // Small logs, and memtables that are never flushed: nothing is deleted.
    Engine::options(dir).log_bytes(256 << 10).open().unwrap().0
}

/// Write number `number`: puts, merges, which must not be applied twice, deletions, and now and then a whole range.
fn write(engine: &Engine, number: u64) {
    let mut random = Random(number);
    let mut batch = WriteBatch::new();
    for _ in 0..1 + random.below(5) {
        let family = FamilyId::new(u32::try_from(random.below(2)).unwrap());
        let key = format!("key {:03}", random.below(500));
        match random.below(10) {
            0..=4 => batch.put(family, key.as_bytes(), &vec![b'v'; 1 + random.below(900) as usize]).unwrap(),
            5..=7 => batch.merge(family, key.as_bytes(), format!("+{number}").as_bytes()).unwrap(),
            8 => batch.delete(family, key.as_bytes()).unwrap(),
            _ => batch.delete_range(family, key.as_bytes(), format!("{key}5").as_bytes()).unwrap(),
        }
    }
    batch.put(FamilyId::DEFAULT, COUNTER, &number.to_le_bytes()).unwrap();
    engine.write(&batch).unwrap();
}

fn counter(engine: &Engine) -> u64 {
    let bytes = engine.get(FamilyId::DEFAULT, COUNTER).unwrap();
    bytes.map_or(0, |bytes| u64::from_le_bytes(bytes[..].try_into().unwrap()))
}

/// What the children of the test below do; without a role, nothing.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (role, dirs) = role.split_once(':').unwrap();
    let (source, dir) = dirs.split_once(':').unwrap();
    if role == "source" {
        let engine = open(Path::new(source));
        for number in counter(&engine) + 1.. {
            write(&engine, number);
            println!("did {number}");
        }
    }
    let mut replica = Replica::open(Path::new(source), Path::new(dir)).unwrap();
    loop {
        println!("did {}", replica.step().unwrap());
    }
}

/// A child and what it says.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(role: &str, source: &Path, dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child", "--exact", "--nocapture"]);
        command.env(ROLE, format!("{role}:{}:{}", source.display(), dir.display()));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it has done something so many times.
    fn wait_for(&mut self, times: u64) {
        let mut done = 0;
        while done < times {
            let line = self.lines.next().expect("it goes on until it is killed").unwrap();
            done += u64::from(line.starts_with("did "));
        }
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn w1_x_a_replica_converges_whoever_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let (source, dir): (PathBuf, PathBuf) = (home.path().join("source"), home.path().join("replica"));
    drop(open(&source));
    let mut random = Random(5);
    let mut writer = Process::start("source", &source, &dir);
    let mut reader = Process::start("replica", &source, &dir);
    for _ in 0..10 {
        writer.wait_for(1 + random.below(200));
        reader.wait_for(1 + random.below(100));
        if random.below(2) == 0 {
            writer.kill();
            writer = Process::start("source", &source, &dir);
        } else {
            reader.kill();
            reader = Process::start("replica", &source, &dir);
        }
    }
    writer.kill();
    reader.kill();
    let engine = open(&source);
    let last = counter(&engine);
    // Two more, of which the second proves the first and changes nothing.
    write(&engine, last + 1);
    engine.delete(FamilyId::DEFAULT, b"no such key").unwrap();
    let mut replica = Replica::open(&source, &dir).unwrap();
    replica.catch_up().unwrap();
    assert_eq!(counter(replica.engine()), last + 1);
    assert!(contents(&replica.engine().snapshot()) == contents(&engine.snapshot()), "they hold the same");
    assert!(last > 500 && engine.logs().len() > 1, "{last} writes in {} logs", engine.logs().len());
}
