//! What the tests of the engine share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;

use toy_memtable::{Engine, FamilyId, Snapshot};

/// Keys and values by family, as the engine should hold them.
pub(crate) type Model = BTreeMap<(FamilyId, Vec<u8>), Vec<u8>>;

/// A generator of numbers that replays from its seed (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// The families that the tests use.
pub(crate) fn families() -> [FamilyId; 3] {
    [FamilyId::new(0), FamilyId::new(1), FamilyId::MAX]
}

/// Everything in the engine, by scan.
pub(crate) fn contents(snapshot: &Snapshot) -> Model {
    let mut all = Model::new();
    for family in families() {
        let mut last: Option<Vec<u8>> = None;
        for item in snapshot.scan(family, ..) {
            let (key, value) = item.unwrap();
            assert!(last.is_none_or(|last| last[..] < key[..]), "keys ascend");
            last = Some(key.to_vec());
            all.insert((family, key.to_vec()), value.to_vec());
        }
    }
    all
}

/// The engine holds exactly the model, by scan and by get.
pub(crate) fn assert_holds(engine: &Engine, model: &Model, what: &str) {
    let snapshot = engine.snapshot();
    assert_eq!(contents(&snapshot), *model, "{what}: scan");
    for ((family, key), value) in model {
        assert_eq!(
            snapshot.get(*family, key).unwrap().as_deref(),
            Some(&value[..]),
            "{what}: get of {key:?}"
        );
    }
}
