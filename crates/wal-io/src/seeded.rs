//! The switches of the deliberate bugs that test the tests (`docs/testing.md`). Without `--cfg wal_seeded_bugs` each of them is the constant
//! `false`, and the crate that tells which bug is awake is not part of the build.

/// Whether a deliberate bug is awake.
macro_rules! seeded_bug {
    ($name:ident) => {{
        #[cfg(wal_seeded_bugs)]
        let awake = wal_seeded_bugs::Bug::$name.active();
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
