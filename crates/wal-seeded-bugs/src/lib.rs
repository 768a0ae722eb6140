//! Deliberate bugs that test the tests.
//!
//! A build with `RUSTFLAGS="--cfg wal_seeded_bugs"` holds all of them, asleep; the environment variable `WAL_SEEDED_BUG` wakes one, by name
//! or by number. Without that cfg neither this file nor any of the bugs is part of the build: the crates that hold them have this file as a module
//! under that cfg only (`seeded.rs`, decision 0090), and no feature leads to it. As a crate it is for the gate. `docs/testing.md` says which layer of tests catches which bug.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

/// The environment variable that wakes a bug.
pub const VARIABLE: &str = "WAL_SEEDED_BUG";

macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident $rule:literal,)+) => {
        /// One deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        impl Bug {
            /// Every bug, in the order of their numbers, from 1.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The rule, the row of faults or the id that it breaks.
            pub const fn breaks(self) -> &'static str {
                match self {
                    $(Self::$name => $rule,)+
                }
            }

            /// What it does, in a sentence.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($what),+).trim_ascii(),)+
                }
            }
        }
    };
}

bugs! {
    // The commit path.
    /// A record counts as durable once it is written; nothing is synced.
    AckWithoutSync "PR1",
    /// The frontier moves before the leader's write and sync.
    AckBeforeSync "PR1",
    /// A leader acknowledges what was accepted while it was at the disk.
    AckOfNextGroup "PR1",
    /// A promise states what was written, not what was synced.
    PromiseOfWritten "PR2",
    /// Every group carries a promise, due or not.
    PromiseAlways "PR3",
    /// No group carries a promise.
    PromiseNever "P1",
    /// A failed sync is tried again on the same file.
    SyncRetried "f44",
    /// A failed write or sync counts as done.
    FailureIgnored "f46",
    /// A failure is told to its leader only, and the log goes on.
    FailureNotSticky "f54",
    /// A leader wakes one waiter, not all.
    WakesOne "f66",
    /// Who gives the log back after a rotation wakes nobody.
    ExclusiveWakesNobody "f66",
    /// A leader that panics leaves the others waiting.
    PanicLeavesWaiters "f64",
    /// A leader waits for writers that were there before until they come, however long.
    AdaptiveWaitsForever "S10",
    /// A leader that comes back wakes nobody of the next group, which has none then.
    LeadershipLost "f66",
    /// Writers that a sync beside the groups has let go still count as waiting for the next group.
    LeftStillCount "S8",
    /// Who awaits a ticket is not woken.
    TicketWakeLost "S12",
    /// Who awaits is told that the log's thread has ended before he is told what became of his record.
    ThreadBeforeState "S8",
    /// An idle log writes a promise again and again.
    IdlePromiseForEver "PR3",
    /// The timer of the interval syncs nothing.
    TimerNeverSyncs "S4",
    /// A panic in the log's own thread is told to nobody.
    ThreadDiesSilently "f65",
    /// A resume forgets what was accepted and not yet written.
    ResumeForgetsBuffered "RS1",
    /// A resume writes each record twice.
    ResumeDuplicates "RS1",
    /// A resume takes what was written for durable.
    ResumeFromWrittenNotDurable "RS1",
    /// A resume ends the old log where it was written to, not where it is durable.
    ResumeKeepsOldPredecessorEnd "RS1",
    /// A resume lets the frontier be seen in the new log before the old one is among those that a deletion looks at.
    ResumeClosesLate "G2",
    /// A sequence number below the floor is accepted.
    SequenceNotChecked "F7",
    /// A rotation forgets which families are in the log.
    FamiliesForgotten "G8",
    // Rotation and close.
    /// A rotation or close takes written for durable when it drains the log.
    DrainWithoutSync "PR4",
    /// A seal is written before what it seals is durable.
    SealBeforeData "PR5",
    /// A rotation counts a seal as durable that was not synced.
    SealNotSynced "PR5",
    /// A close records the clean end before the seal is durable.
    CleanEndBeforeSeal "PR5",
    /// A seal that cannot be written poisons the log.
    SealFailurePoisons "PR6",
    /// The next file is made before the first group of this one is durable.
    PreparedTooEarly "CK7",
    /// The next file is used before CHECKPOINT knows its number.
    PreparedNotRecorded "CK3",
    /// The next file's name is not synced.
    NextNameNotSynced "I3",
    // Deletion.
    /// Files are removed before CHECKPOINT knows the new floor.
    UnlinkBeforeFloor "CK3",
    /// A log may go that still holds the frontier.
    DeletesFrontier "CK7",
    /// One flushed family is enough to delete a log.
    DeletesUnflushed "G8",
    /// A pin keeps no log.
    PinIgnored "G10",
    /// A hold keeps no log.
    HoldIgnored "G11",
    /// A hold may hold back any number of bytes.
    HoldBudgetIgnored "G11",
    /// An open forgets the holds.
    HoldsForgotten "G11",
    /// Pressure names the families of the newest log.
    PressureNamesNewest "G8",
    /// A hold may go back.
    HoldGoesBack "K3",
    /// A mark or a hold may stand inside a record.
    MarkInsideRecord "K3",
    // CHECKPOINT.
    /// Both slots are written before either is synced.
    SlotsWithoutSyncBetween "CK1",
    /// After a failed update the other slot is written first.
    OtherSlotAfterFailure "CK1",
    /// Only one slot is updated.
    OneSlotOnly "CK3",
    /// Recovery believes a slot without writing it again.
    SlotNotWrittenAgain "CK2",
    /// Both slots are good, and the older one is believed.
    OlderSlotBelieved "CK2",
    /// CHECKPOINT speaks of accepted records as if they were durable.
    NextIndexOfAccepted "CK4",
    /// The directory that holds CHECKPOINT is not synced.
    CheckpointNameNotSynced "CK5",
    /// The parents of the directory are not synced.
    ParentsNotSynced "CK5",
    // Recovery.
    /// The new log goes on from CHECKPOINT's index.
    ContinuesFromCheckpoint "CK4",
    /// Ending before CHECKPOINT's index is no damage.
    BehindCheckpointIgnored "CK4",
    /// A missing log is no damage.
    MissingIgnored "CK6",
    /// Logs of an epoch that CHECKPOINT does not know are part of the chain.
    UnknownEpochBelieved "RC1",
    /// The chain goes back from number to number, not from predecessor to predecessor.
    ChainByNumber "RC1",
    /// The new log's number is one more than the highest on the disk.
    NumberFromDiskOnly "RC2",
    /// The new log's predecessor is the newest log, though nothing in it is proven.
    PredecessorIsNewest "RC2",
    /// CHECKPOINT knows the new epoch before the new log is durable.
    EpochBeforeNewLog "RC3",
    /// The new log is not synced.
    NewLogNotSynced "RC3",
    /// The new log's name is not synced.
    NewLogNameNotSynced "RC3",
    /// Old logs are removed before CHECKPOINT knows the new one.
    RemovesBeforeCommit "RC3",
    /// A leftover that holds a promise is removed like any other.
    LeftoverPromiseIgnored "RC4",
    /// The tail that nothing proves is not written again.
    TailNotWrittenAgain "RC5",
    /// A leftover is written over, under its own number.
    LeftoverReused "RC6",
    /// A promise without a header is no evidence.
    HeaderlessPromiseIgnored "RC7",
    /// A file whose header is zeros counts as never used without a clean end too.
    BlankBelievedAfterACrash "RC7",
    /// Nothing is ever proof: damage is cut like a torn tail.
    DamageIsTorn "f28",
    /// Any tail that ends early is damage.
    TornIsDamage "L",
    /// Reading goes on behind a hole.
    SkipsHoles "f7",
    /// A read that fails is the end of the log.
    ReadErrorIsEnd "f42",
    /// CHECKPOINT's sequence floor is forgotten.
    SequenceFloorForgotten "F7",
    /// Replay skips a record of which one family is flushed.
    ReplaySkipsTooMuch "V11",
    /// Nobody compares a log that was not read at the open with its seal, once its records are read.
    SealBelievedUnread "P5",
    /// What a replay learns of the families in the logs is forgotten.
    ReplayForgetsFamilies "G8",
    /// A clean end says that a log is flushed when one of its families is.
    ListsUnflushed "V11",
    /// Nobody remembers that a log was skipped, and the mark of a dropped family goes while there may be records of it.
    SkippedLogsHoldNothing "G8",
    /// An open leaves the clean end in CHECKPOINT, and what it says of flushed logs.
    CleanEndOutlivesTheOpen "PR5",
    /// A replay of several logs goes one log too far at the end of the first.
    ReplaySkipsALog "V11",
    /// A record that is lent was flushed already.
    LendsFlushed "V11",
    /// A replay learns nothing of the families of records that come as the one before did.
    ShortCutForgetsFamilies "G8",
    // Readers without the lock.
    /// A reader does not look twice before it reports damage or a log that is missing.
    NoSecondLook "RD1",
    /// A reader calls a log damaged that was deleted, and used again, while it read.
    GapIsDamage "RD1",
    /// A reader calls proven what only the cache shows.
    UnprovenCalledProven "RD2",
    // Followers.
    /// A follower hands out what is written and not yet durable.
    FollowerSeesWritten "W1",
    /// A follower of a directory hands out what nothing proves.
    FollowerBelievesUnproven "RD2",
    /// A follower that comes to the end of a log does not go over to the next one.
    FollowerSleepsAtRotation "W1",
    /// A follower goes on behind a gap without a word.
    FollowerJumpsGap "W4",
    /// A follower takes what it read ahead of the frontier, or at it, for all there is.
    FollowerKeepsOldWindow "W1",
    /// A follower takes the last bytes that were written for those of its log, whichever they are of.
    FollowerReadsAnotherLog "W1",
    // The format.
    /// The checksum does not cover the length.
    LengthNotCovered "f26",
    /// The checksum does not cover the type.
    TypeNotCovered "f27",
    /// The checksum does not cover the place in the file.
    OffsetNotCovered "f36",
    /// Of the place in the file, what is beyond 16 MiB changes nothing in the checksum that a short chunk is compared with.
    FarOffsetForgotten "F5",
    /// A guess at an envelope does not compare how many sequence numbers the record has.
    GuessForgetsCount "F7",
    /// The checksum does not cover the log's number.
    NumberNotCovered "f35",
    /// The checksum does not cover the log's identity.
    IdentityNotCovered "f10",
    // The next log, made ahead, and files that are used again.
    /// The next log is made ahead before the active one has a durable group.
    PreparedAheadTooEarly "CK7",
    /// A log that only the log's own thread syncs does not ask for the next one.
    NextNotWantedBeside "R7",
    /// A deleted log becomes another one with its old header in it.
    ReusedNotWiped "RC6",
    /// A log that still waits for its seal becomes another one.
    UnsealedReused "R6",
    /// A file that has another name too becomes another log.
    LinkedFileReused "R6",
    // Copies, archives, restores.
    /// A live copy goes beyond the frontier, as far as was written.
    CopyBeyondFrontier "W5",
    /// A live copy links logs that still wait for their seal.
    UnsealedLinked "W5",
    /// A copy without the lock does not look again once it has linked.
    NoLookBehindLinks "RD1",
    /// What is archived goes before the archive is synced.
    ArchiveNotSynced "G12",
    /// What is in the archive already is not read again before the original goes.
    ArchiveBelieved "G12",
    /// A repair trusts the new log of a recovery that died.
    LeftoverTrusted "RC4",
    /// A restore takes one record too many.
    RestoreOnePast "V17",
    // Direct I/O.
    /// A direct sink keeps its first tail block for ever.
    DirectTailForgotten "I8",
    /// Behind the end of a direct write stands what the buffer held before.
    DirectPaddingLeft "i7",
    /// A synchronous direct write counts for those before it.
    DirectSyncsOneWrite "PR1",
    // Caps, and a full disk.
    /// An append that a cap refuses has used its numbers.
    RefusedUsesNumbers "A4",
    /// Who waits for room is not woken by a deletion.
    DeletionWakesNobody "G9",
    /// A full disk stops the log until it is resumed by hand.
    FullDiskStopsForEver "f48",
    /// A log that a full disk has stopped takes no marks.
    FullDiskTakesNoMarks "G9",
    /// CHECKPOINT has only the space that its first content needs.
    CheckpointNotAllocated "f48",
    /// An open on a full disk keeps the reserve for itself.
    ReserveKept "f50",
    /// A file's space is not looked at before a record is accepted into it.
    SpaceNotCounted "f48",
    // Duplicates.
    /// The window for duplicates is empty after a rotation.
    WindowForgetsAtRotation "A11",
    /// The window for duplicates is empty after a recovery.
    WindowNotRebuilt "A11",
    /// Logs that the window for duplicates needs are deleted.
    WindowKeepsNoLogs "A11",
    /// A duplicate is acknowledged before its original is durable.
    DuplicateDoesNotWait "A11",
    /// A failure frees the keys of records that a resume writes again.
    FailureFreesKeys "A11, RS1",
    // Padded groups.
    /// The log that an open begins is not filled up behind its header.
    HeaderNotPadded "f06",
    /// What fills a group up is a byte too short.
    FillerTooShort "f06",
    // Diagnosis of damage.
    /// A flipped bit is named one off.
    FlipNamedOneOff "V18",
}

impl Bug {
    /// Whether this one is awake.
    pub fn active(self) -> bool {
        static CHOSEN: OnceLock<Option<Bug>> = OnceLock::new();
        *CHOSEN.get_or_init(chosen) == Some(self)
    }

    /// The bug of that name or number.
    pub fn find(word: &str) -> Option<Self> {
        let numbered = word.parse::<usize>().ok().and_then(|number| Self::ALL.get(number.checked_sub(1)?));
        numbered.or_else(|| Self::ALL.iter().find(|bug| bug.name() == word)).copied()
    }
}

/// The bug that the environment asks for.
fn chosen() -> Option<Bug> {
    let word = std::env::var(VARIABLE).ok()?;
    let bug = Bug::find(&word);
    // A test that asks for a bug which does not exist must not pass for that reason.
    assert!(bug.is_some(), "{VARIABLE}={word}: there is no such bug");
    bug
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_found_by_name_and_number() {
        assert_eq!(Bug::find("1"), Some(Bug::AckWithoutSync));
        assert_eq!(Bug::find("SealBeforeData"), Some(Bug::SealBeforeData));
        assert_eq!(Bug::find("0"), None);
        assert_eq!(Bug::find("Nonsense"), None);
        assert!(Bug::ALL.len() >= 30 && Bug::ALL.iter().all(|bug| !bug.what().is_empty()));
    }
}
