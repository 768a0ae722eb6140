//! The check must find what is wrong: each way to be wrong, made on purpose.

use std::fs;

use tempfile::TempDir;
use toy_memtable::Engine;

use super::super::child;
use super::super::input::Input;
use super::super::ledger::Ledger;
use super::super::plan::{self, Step};
use super::{Findings, check, family};

const SEED: u64 = 5;
const ITEMS: u64 = 200;

/// An engine that holds exactly what was acknowledged in round 0, which was everything.
struct Fixture {
    /// Removed with this.
    _home: TempDir,
    engine: Engine,
    input: Input,
    ledger: Ledger,
}

fn line(number: u64) -> Vec<u8> {
    format!("contents of {number}").into_bytes()
}

fn key(number: u64) -> Vec<u8> {
    format!("{:012}", number + 1).into_bytes()
}

/// The first item whose last step is `step` in `round`, or any but it.
fn item(round: u64, step: Step, is: bool) -> u64 {
    let last = |number: &u64| plan::steps(SEED, round, *number).last() == Some(&step);
    (0..ITEMS).find(|number| last(number) == is).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lines");
        let lines: Vec<Vec<u8>> = (0..ITEMS).map(line).collect();
        fs::write(&path, lines.join(&b'\n')).unwrap();
        let (input, survey) = Input::survey(&path, &home.path().join("list"), home.path()).unwrap();
        assert_eq!(survey.items, ITEMS);
        let (engine, _) = child::open(&home.path().join("engine"), 1 << 20, 8).unwrap();
        let fixture = Self { _home: home, engine, input, ledger: Ledger::new(ITEMS) };
        (0..ITEMS).for_each(|number| fixture.write(0, number));
        let mut fixture = fixture;
        fixture.ledger.acknowledge(0, ITEMS - 1);
        fixture
    }

    /// Does what the plan says.
    fn write(&self, round: u64, number: u64) {
        for step in plan::steps(SEED, round, number) {
            match step {
                Step::Put => self.put(number, &[line(number), plan::tag(round)].concat()),
                Step::Scratch => self.put(number, &plan::scratch(round, number)),
                Step::Delete => self.delete(number),
            }
        }
    }

    fn put(&self, number: u64, value: &[u8]) {
        self.engine.put(family(number), &key(number), value).unwrap();
    }

    fn delete(&self, number: u64) {
        self.engine.delete(family(number), &key(number)).unwrap();
    }

    fn check(&self) -> Findings {
        check(&self.engine, &self.input, &self.ledger, SEED).unwrap()
    }

    /// Checks that exactly this many are found to be lost and extra.
    fn finds(&self, lost: u64, extra: u64) {
        let findings = self.check();
        assert_eq!((findings.lost, findings.extra), (lost, extra), "{:?}", findings.examples);
        assert_eq!(findings.passed(), lost + extra == 0);
        assert_eq!(findings.examples.len() as u64, lost + extra);
    }
}

#[test]
fn what_was_acknowledged_passes() {
    let fixture = Fixture::new();
    fixture.finds(0, 0);
    assert_eq!(fixture.check().checked, ITEMS);
}

#[test]
fn a_lost_write_is_found() {
    let fixture = Fixture::new();
    let number = item(0, Step::Put, true);
    fixture.delete(number);
    fixture.finds(1, 0);
    assert!(fixture.check().examples[0].contains(&format!("{:012}", number + 1)), "and named");
}

#[test]
fn a_lost_delete_is_found() {
    let fixture = Fixture::new();
    let number = item(0, Step::Delete, true);
    fixture.put(number, &line(number));
    fixture.finds(1, 0);
}

#[test]
fn a_wrong_byte_and_a_lost_overwrite_are_found() {
    let fixture = Fixture::new();
    let number = item(0, Step::Put, true);
    let mut wrong = line(number);
    wrong[3] ^= 1;
    fixture.put(number, &wrong);
    fixture.finds(1, 0);
    fixture.put(number, &plan::scratch(0, number));
    fixture.finds(1, 0);
    fixture.put(number, &line(number)[1..]);
    fixture.finds(1, 0);
    fixture.put(number, &[line(number), b"x".to_vec()].concat());
    fixture.finds(1, 0);
}

#[test]
fn keys_that_nobody_wrote_are_found_wherever_they_sort_and_in_either_family() {
    let fixture = Fixture::new();
    let mut extra = 0;
    for key in [&b""[..], b"0", b"000000000001x", b"000000000100x", b"zzz"] {
        for family in [family(0), family(1)] {
            fixture.engine.put(family, key, b"").unwrap();
            extra += 1;
            assert_eq!(fixture.check().extra, extra);
        }
    }
    // A key of the input in the other family is as foreign.
    fixture.engine.put(family(1), &key(0), &line(0)).unwrap();
    assert_eq!(fixture.check().extra, extra + 1);
}

#[test]
fn in_flight_writes_may_be_old_or_new_but_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.ledger.next_round();
    // Nothing of round 1 was written, everything was, and a part.
    fixture.finds(0, 0);
    let number = (0..ITEMS).find(|n| plan::steps(SEED, 1, *n) == [Step::Scratch, Step::Put]).unwrap();
    fixture.put(number, &plan::scratch(1, number));
    fixture.finds(0, 0);
    fixture.write(1, number);
    fixture.finds(0, 0);
    fixture.put(number, &plan::scratch(0, number));
    fixture.finds(1, 0);
    fixture.write(1, number);
    let plain = |number: &u64| [0, 1].iter().all(|round| plan::steps(SEED, *round, *number) == [Step::Put]);
    let plain: Vec<u64> = (0..ITEMS).filter(plain).take(2).collect();
    // Once it is acknowledged, the old state is a loss.
    fixture.ledger.acknowledge(plain[0], plain[0]);
    fixture.finds(1, 0);
    fixture.write(1, plain[0]);
    fixture.finds(0, 0);
    // Neither old nor new.
    fixture.delete(plain[1]);
    fixture.finds(1, 0);
}

#[test]
fn nothing_is_said_about_items_that_could_not_be_read() {
    let mut fixture = Fixture::new();
    let number = item(0, Step::Put, true);
    fixture.delete(number);
    fixture.ledger.give_up(number);
    fixture.finds(0, 0);
    assert_eq!(fixture.check().checked, ITEMS - 1);
}

#[test]
fn a_file_that_changed_meanwhile_is_counted_and_its_key_must_still_be_there() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("in");
    fs::create_dir(&root).unwrap();
    // Enough files that one of them is put.
    let names: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    names.iter().for_each(|name| fs::write(root.join(name), name).unwrap());
    let (input, _) = Input::survey(&root, &home.path().join("list"), home.path()).unwrap();
    let (engine, _) = child::open(&home.path().join("engine"), 1 << 20, 8).unwrap();
    let mut ledger = Ledger::new(20);
    ledger.acknowledge(0, 19);
    let items = (0..).zip(&names);
    let put: Vec<(u64, &String)> =
        items.filter(|(number, _)| plan::steps(SEED, 0, *number).last() == Some(&Step::Put)).collect();
    for (number, name) in &put {
        engine.put(family(*number), name.as_bytes(), name.as_bytes()).unwrap();
    }
    assert!(check(&engine, &input, &ledger, SEED).unwrap().passed());
    fs::write(root.join(put[0].1), "other").unwrap();
    fs::remove_file(root.join(put[1].1)).unwrap();
    let findings = check(&engine, &input, &ledger, SEED).unwrap();
    assert!(findings.passed());
    assert_eq!(findings.changed, 2);
    engine.delete(family(put[1].0), put[1].1.as_bytes()).unwrap();
    assert_eq!(check(&engine, &input, &ledger, SEED).unwrap().lost, 1);
}
