//! The switches of the deliberate bugs that test the tests (`docs/testing.md`). Without `--cfg wal_seeded_bugs` each of them is the constant
//! `false`, and what tells which bug is awake is not part of the build.

/// By its place in the repository and not as a dependency: a published crate would have to name one that is published too, and whoever
/// depends on us would find it in their lock file.
#[cfg(wal_seeded_bugs)]
#[path = "../../wal-seeded-bugs/src/lib.rs"]
#[allow(dead_code, unreachable_pub, reason = "the gate uses the rest of it, as a crate")]
pub(crate) mod bugs;

/// Whether a deliberate bug is awake.
macro_rules! seeded_bug {
    ($name:ident) => {{
        #[cfg(wal_seeded_bugs)]
        let awake = crate::seeded::bugs::Bug::$name.active();
        #[cfg(not(wal_seeded_bugs))]
        let awake = crate::seeded::asleep(stringify!($name));
        awake
    }};
}

/// What every switch is in a released build.
#[cfg(not(wal_seeded_bugs))]
#[inline(always)]
pub(crate) const fn asleep(_bug: &str) -> bool {
    false
}
