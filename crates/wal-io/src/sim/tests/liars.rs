//! Disks that lie, miss and rot; interruptions, short writes, slowness; the language of it all.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::super::fault::{Action, Bit, ERRORS, Target, Turn};
use super::super::trace::Kind;
use super::super::{Fault, Gone, SimStorage};
use super::{disk_with, durable, fail};
use crate::Storage;

#[test]
fn f37_a_lost_write_is_seen_and_never_durable() {
    let (disk, file) = disk_with("a");
    fail(&disk, "lose write #2 of a");
    for (offset, bytes) in [(0, b"first-"), (6, b"second"), (12, b"-third")] {
        file.write_at(offset, bytes).unwrap();
        file.sync_data().unwrap();
    }
    assert_eq!(disk.read_file("a").unwrap(), b"first-second-third");
    assert_eq!(disk.process_crash().read_file("a").unwrap(), b"first-second-third");
    let after = disk.crash_all_kept();
    assert_eq!(after.read_file("a").unwrap(), b"first-\0\0\0\0\0\0-third");
}

#[test]
fn f36_a_misdirected_write_lands_elsewhere() {
    // In the same file: where it belongs stands what stood there before.
    let (disk, file) = disk_with("a");
    file.write_at(0, &[b'-'; 12]).unwrap();
    file.sync_data().unwrap();
    fail(&disk, "misdirect write #1 of a to 7");
    file.write_at(1, b"xyz").unwrap();
    assert_eq!(durable(&disk, "a").unwrap(), b"------------");
    file.sync_data().unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"-xyz--------");
    assert_eq!(disk.crash_all_lost().read_file("a").unwrap(), b"-------xyz--");

    // In another file, as far as that is long.
    let (disk, file) = disk_with("a");
    disk.write_file("b", "0123");
    fail(&disk, "misdirect write of a to b 2");
    file.write_at(0, b"xyz").unwrap();
    file.sync_data().unwrap();
    assert_eq!((disk.read_file("a").unwrap(), disk.read_file("b").unwrap()), (b"xyz".into(), b"0123".into()));
    let after = disk.crash_all_lost();
    let left = (after.read_file("a").unwrap(), after.read_file("b").unwrap());
    assert_eq!(left, (vec![0; 3], b"01xy".to_vec()));
    fail(&after, "misdirect write of a to nowhere 2");
    after.open_sink("a").unwrap().write_at(0, b"x").unwrap();
}

#[test]
fn a_lost_sync_promises_what_it_does_not_keep() {
    let disk = SimStorage::new();
    fail(&disk, "lose syncparents #1");
    fail(&disk, "lose syncdir #1");
    fail(&disk, "lose sync #1 of a");
    disk.sync_parents().unwrap();
    assert!(!disk.is_published());
    disk.sync_parents().unwrap();
    let file = disk.create("a").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(durable(&disk, "a"), None);
    disk.sync_dir().unwrap();
    file.write_at(0, b"x").unwrap();
    file.sync_all().unwrap();
    assert_eq!(durable(&disk, "a").unwrap(), b"");
    file.sync_data().unwrap();
    assert_eq!(durable(&disk, "a").unwrap(), b"x");
}

#[test]
fn bits_rot_at_rest() {
    let disk = SimStorage::new();
    disk.write_file("1.wal", [0; 4]);
    disk.write_file("2.wal", [0; 4]);
    disk.write_file("other", [0; 4]);
    disk.open_sink("1.wal").unwrap().write_at(4, b"pending").unwrap();
    fail(&disk, "flip bit 10 of *.wal");
    assert_eq!(disk.read_file("1.wal").unwrap(), b"\0\x04\0\0pending");
    assert_eq!(durable(&disk, "1.wal").unwrap(), b"\0\x04\0\0");
    assert_eq!(durable(&disk, "2.wal").unwrap(), b"\0\x04\0\0");
    assert_eq!(durable(&disk, "other").unwrap(), [0; 4]);
    fail(&disk, "flip bit 10 of 2.wal");
    fail(&disk, "flip bit 32 of 2.wal");
    fail(&disk, "flip bit 0 of absent");
    assert_eq!(durable(&disk, "2.wal").unwrap(), [0; 4]);
    let flips: BTreeSet<Vec<u8>> = (0..200)
        .map(|seed| {
            let disk = disk.fork();
            fail(&disk, &format!("flip bit seed {seed} of other"));
            assert_eq!(disk.read_file("other"), durable(&disk, "other"));
            durable(&disk, "other").unwrap()
        })
        .collect();
    assert_eq!(flips.len(), 32, "every bit, and one at a time");
    // An operation does not flip again.
    fail(&disk, "flip bit 0 of other");
    disk.open_source("other").unwrap().read_at(0, &mut [0; 4]).unwrap();
    assert_eq!(disk.read_file("other").unwrap(), [1, 0, 0, 0]);
}

#[test]
fn f52_an_interrupted_operation_is_tried_again_and_counted() {
    let (disk, file) = disk_with("a");
    file.write_at(0, b"12345").unwrap();
    disk.clear_trace();
    let before = disk.counts();
    fail(&disk, "interrupt any");
    let mut buffer = [0; 5];
    let source = disk.open_source("a").unwrap();
    assert_eq!(source.read_at(0, &mut buffer).unwrap(), 5);
    assert_eq!(&buffer, b"12345");
    file.write_at(5, b"6").unwrap();
    file.sync_data().unwrap();
    assert_eq!(durable(&disk, "a").unwrap(), b"123456");
    let expected = [
        "open a = EINTR",
        "open a",
        "read a 0+5 = EINTR",
        "read a 0+5",
        "write a 5+1 = EINTR",
        "write a 5+1",
        "syncdata a = EINTR",
        "syncdata a",
    ];
    assert_eq!(disk.trace(), expected);
    assert_eq!((disk.counts()["write"], disk.counts()["read"]), (before["write"] + 2, 2));
    // What is worse comes first, and the power may go in between.
    fail(&disk, "fail create #1 with EIO");
    assert_eq!(disk.create("b").unwrap_err().raw_os_error(), Some(5));
    disk.crash_after(1);
    assert_eq!(Gone::of(&file.write_at(0, b"!").unwrap_err()), Some(Gone::Frozen));
    assert_eq!(disk.read_file("a").unwrap(), b"123456");
}

#[test]
fn f53_a_short_write_is_continued_and_counted() {
    let (disk, file) = disk_with("a");
    disk.clear_trace();
    fail(&disk, "short write of a");
    file.write_at(10, &[7; 8]).unwrap();
    assert_eq!(disk.trace(), ["write a 10+8 = 4", "write a 14+4 = 2", "write a 16+2 = 1", "write a 17+1"]);
    assert_eq!((disk.counts()["write"], disk.mutations()), (4, 7));
    disk.clear_faults();
    disk.clear_trace();
    fail(&disk, "short write #1 of a after 3 bytes");
    file.write_at(0, b"0123456789").unwrap();
    assert_eq!(disk.trace(), ["write a 0+10 = 3", "write a 3+7"]);
    assert_eq!(disk.read_file("a").unwrap(), b"0123456789\x07\x07\x07\x07\x07\x07\x07\x07");
    // The power goes between the two parts.
    disk.clear_faults();
    fail(&disk, "short write #1 of a after 3 bytes");
    disk.crash_after(1);
    assert_eq!(Gone::of(&file.write_at(0, b"abcdef").unwrap_err()), Some(Gone::Frozen));
    assert!(disk.crash_all_kept().read_file("a").unwrap().starts_with(b"abc3456"));
    // Nothing can be short of one byte, or of none.
    let (disk, file) = disk_with("a");
    fail(&disk, "short write after 0 bytes");
    file.write_at(0, b"").unwrap();
    file.write_at(0, b"ab").unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"ab");
}

#[test]
fn a_slow_operation_calls_its_hook_first() {
    let (disk, file) = disk_with("a");
    let told = Arc::new(Mutex::new(Vec::new()));
    let (hook_disk, hook_told) = (disk.clone(), Arc::clone(&told));
    disk.when_slow(Arc::new(move |words: &str| {
        hook_told.lock().unwrap().push(format!("{words}: {}", hook_disk.pending().len()));
    }));
    disk.clear_trace();
    fail(&disk, "slow sync #2 of a");
    for _ in 0..3 {
        file.write_at(0, b"x").unwrap();
        file.sync_data().unwrap();
    }
    assert_eq!(*told.lock().unwrap(), ["syncdata a slowly: 1"]);
    assert_eq!(disk.trace()[3], "syncdata a slowly");
    // Without a hook it is only in the trace; and the disk may be replaced meanwhile.
    fail(&disk, "slow write");
    let other = disk.clone();
    disk.when_slow(Arc::new(move |_: &str| drop(other.process_crash())));
    assert_eq!(Gone::of(&file.write_at(0, b"!").unwrap_err()), Some(Gone::Replaced));
    assert_eq!(disk.read_file("a").unwrap(), b"x");
}

#[test]
fn chance_strikes_by_its_seed() {
    let strikes = |seed: u64| -> Vec<bool> {
        let disk = SimStorage::new();
        fail(&disk, &format!("fail any 1 in 10 seed {seed} with EIO"));
        (0..1000).map(|_| disk.list().is_err()).collect()
    };
    let count = strikes(1).into_iter().filter(|struck| *struck).count();
    assert!((60..140).contains(&count), "{count} of 1000");
    assert_eq!(strikes(1), strikes(1));
    assert_ne!(strikes(1), strikes(2));
}

#[test]
fn every_error_reaches_the_caller() {
    let disk = SimStorage::new();
    for (word, number) in ERRORS {
        disk.clear_faults();
        fail(&disk, &format!("fail any with {word}"));
        assert_eq!(disk.list().unwrap_err().raw_os_error(), Some(number.raw_os_error()), "{word}");
        assert_eq!(disk.sync_dir().unwrap_err().raw_os_error(), Some(number.raw_os_error()));
    }
}

#[test]
fn random_faults_are_faults_and_differ() {
    let all: BTreeSet<String> = (0..2000)
        .map(|seed| {
            let fault = Fault::random(seed);
            assert_eq!(fault, Fault::random(seed));
            assert_eq!(Fault::parse(&fault.to_string()), Ok(fault.clone()));
            fault.to_string()
        })
        .collect();
    assert!(all.len() > 500);
    for word in ["any", "sync ", "write", "EPERM", "#8", "after"] {
        assert!(all.iter().any(|fault| fault.contains(word)), "{word}");
    }
}

fn turns() -> impl Strategy<Value = Turn> {
    prop_oneof![
        Just(Turn::Every),
        (1..u64::MAX).prop_map(Turn::Only),
        (1..u64::MAX).prop_map(Turn::From),
        (1..u64::MAX, any::<u64>()).prop_map(|(many, seed)| Turn::OneIn { many, seed }),
    ]
}

fn targets() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Any),
        Just(Target::Sync),
        proptest::sample::select(Kind::ALL.to_vec()).prop_map(Target::One),
    ]
}

fn faults() -> impl Strategy<Value = Fault> {
    let name = || "[a-z0-9*.#-]{1,12}";
    let error = proptest::sample::select(ERRORS.to_vec());
    let after = proptest::option::of(any::<u64>());
    let other = prop_oneof![
        (targets(), error.clone()).prop_map(|(target, error)| (target, Action::Fail { error, after: None })),
        targets().prop_map(|target| (target, Action::Interrupt)),
        targets().prop_map(|target| (target, Action::Slow)),
        Just((Target::Sync, Action::Lose)),
    ];
    let write = prop_oneof![
        (error, after.clone()).prop_map(|(error, after)| Action::Fail { error, after }),
        Just(Action::Lose),
        after.prop_map(|after| Action::Short { after }),
        (proptest::option::of(name()), any::<u64>())
            .prop_map(|(file, offset)| Action::Misdirect { file, offset }),
    ];
    let flip = prop_oneof![any::<u64>().prop_map(Bit::At), any::<u64>().prop_map(Bit::Seed)];
    let write = write.prop_map(|action| (Target::One(Kind::Write), action));
    prop_oneof![
        (prop_oneof![other, write], turns(), proptest::option::of(name())).prop_map(
            |((target, action), turn, glob)| {
                let nameless = matches!(target, Target::One(kind) if kind.nameless());
                Fault { action, target, turn, glob: glob.filter(|_| !nameless) }
            }
        ),
        (flip, name()).prop_map(|(bit, glob)| Fault {
            action: Action::Flip(bit),
            target: Target::Any,
            turn: Turn::Every,
            glob: Some(glob),
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_fault_says_is_read_back_as_it_was(fault in faults()) {
        prop_assert_eq!(Fault::parse(&fault.to_string()), Ok(fault));
    }

    #[test]
    fn no_words_are_too_strange(words in "(fail|lose|flip|misdirect|short|bit|of|to|1|in|seed|write|#2|#| |a){0,12}") {
        if let Ok(fault) = Fault::parse(&words) {
            prop_assert_eq!(Fault::parse(&fault.to_string()), Ok(fault));
        }
    }
}
