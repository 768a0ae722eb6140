//! Two decoders that share no code agree on every log, whole or damaged (T2).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: a panic is how they fail"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use wal_format::checkpoint::{
    Checkpoint, CleanEnd, FAMILIES_MAX, FLUSHED_RANGES_MAX, HOLD_NAME_BYTES_MAX, HOLDS_MAX, Hold, LogRange,
    SLOT_BYTES, Slot, SlotFault, hold_name_is_valid,
};
use wal_format::header::Predecessor;
use wal_format::{ChunkType, Epoch, FamilyId, FileHeader, Index, LogNumber, SeqNum, WalId};
use wal_tests::fuzz::{Step, build};
use wal_tests::golden;
use wal_tests::logs::{self, LogBuilder, WAL_ID, pattern};
use wal_tests::naive::{self, Decoded, End};

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (record(), prop_oneof![Just(0), 0..1_u64 << 40]).prop_map(|(draft, gap)| Step::Record { draft, gap }),
        3 => proptest::collection::vec(1..3000_usize, 0..5).prop_map(Step::Group),
        2 => (0..64_usize).prop_map(Step::FillTo),
        1 => (128..=u8::MAX, 1..100_usize).prop_map(|(kind, length)| Step::Ignorable { kind, length }),
    ]
}

fn hold() -> impl Strategy<Value = Hold> {
    let number = || prop_oneof![0..5_u64, any::<u64>()];
    (number(), proptest::option::of(number()), proptest::option::of(number()), number(), any::<bool>())
        .prop_map(|(from, above, budget, since_micros, lost)| Hold {
            from: SeqNum::new(from),
            to: above.map(|above| SeqNum::new(from.saturating_add(above))),
            budget,
            since_micros,
            lost,
        })
}

/// Ranges of logs, each behind a gap of so many and with so many logs.
fn ranges(gaps: &[(u64, u64)]) -> Vec<LogRange> {
    let mut last = 0;
    let range = |&(gap, logs): &(u64, u64)| {
        // Behind log 0 there is no log between.
        let first = last + gap + u64::from(last > 0);
        last = first + logs - 1;
        LogRange { first: LogNumber::new(first), last: LogNumber::new(last) }
    };
    gaps.iter().map(range).collect()
}

fn record() -> impl Strategy<Value = naive::Record> {
    let length = prop_oneof![8 => 1..300_usize, 3 => 1..40_000_usize, 1 => 40_000..200 * 1024_usize];
    let families = prop_oneof![
        Just(vec![0]),
        proptest::collection::btree_set(0..1_u32 << 24, 1..20)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>()),
    ];
    let optional =
        (any::<Option<u64>>(), any::<Option<[u8; 16]>>(), any::<Option<u8>>(), any::<Option<u32>>());
    let kind = prop_oneof![5 => 1..=0xefff_u16, 1 => Just(0xf000)];
    let count = prop_oneof![Just(1), 1..=u32::MAX];
    (kind, count, families, optional, length).prop_map(|(kind, count, families, optional, length)| {
        naive::Record {
            kind,
            count,
            families,
            time_micros: optional.0,
            duplicate_key: optional.1,
            codec: optional.2,
            key_id: optional.3,
            payload: pattern(length, length),
            ..naive::Record::default()
        }
    })
}

prop_compose! {
    fn header()(
        wal_id: [u8; 16], log in 2..=u64::MAX, epoch: u64, first_index in 1..1_u64 << 62, seq_floor in 0..1_u64 << 62,
        before in proptest::option::of((any::<u64>(), any::<u64>(), any::<u32>())),
    ) -> FileHeader {
        let mut header = FileHeader::new(
            WalId::from_bytes(wal_id), LogNumber::new(log), Epoch::new(epoch), Index::new(first_index), SeqNum::new(seq_floor),
        );
        header.predecessor = before.map(|(end, proven, digest)| Predecessor {
            log: LogNumber::new(log - 1), end: end.max(proven), proven: end.min(proven), digest,
        });
        header
    }
}

fn both(header: &FileHeader, file: &[u8]) -> (Decoded, Decoded) {
    let naive = naive::decode_log(*header.wal_id.as_bytes(), header.log.get(), file);
    (naive, logs::decode(header.wal_id, header.log, file))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn t2_decoders_agree_on_generated_logs(
        header in header(), steps in proptest::collection::vec(step(), 0..25), seal: bool, zeros in 0..70_000_usize,
    ) {
        let log = build(&header, &steps, seal, zeros);
        let end = (log.bytes.len() - zeros) as u64;
        let (naive, ours) = both(&header, &log.bytes);
        prop_assert!(naive.items == log.items, "what was written is what is read");
        prop_assert_eq!(naive.end, if seal { End::Sealed(end) } else { End::Open(end) });
        prop_assert_eq!(naive.digest, log.encoder.digest().get());
        prop_assert_eq!(naive::audit(&naive), Ok(()));
        prop_assert!(naive == ours, "the decoders differ");
    }

    #[test]
    fn t2_decoders_agree_on_damaged_logs(
        header in header(), steps in proptest::collection::vec(step(), 1..12), seal: bool,
        places in proptest::collection::vec((any::<Pick>(), 0..4_u8, 1..5000_usize, any::<u8>()), 1..4),
    ) {
        let log = build(&header, &steps, seal, 0);
        let mut file = log.bytes.clone();
        for (place, what, length, byte) in places {
            let at = place.index(file.len());
            let end = (at + length).min(file.len());
            match what {
                0 => file[at] ^= byte,
                1 => file[at..end].fill(0),
                2 => file.truncate(at.max(1)),
                _ => {
                    let to = (at / 2).min(file.len() - (end - at));
                    file.copy_within(at..end, to);
                }
            }
        }
        let (naive, ours) = both(&header, &file);
        prop_assert!(log.items.starts_with(&naive.items), "content that was never written");
        prop_assert!(naive == ours, "naive {:?}, wal-format {:?}", naive.end, ours.end);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn t2_decoders_agree_on_chunks_in_any_order(
        chunks in proptest::collection::vec((0..12_u8, proptest::collection::vec(0..6_u8, 1..50), any::<Pick>()), 0..30),
    ) {
        // Valid checksums, senseless content.
        let header = FileHeader::new(WAL_ID, LogNumber::new(2), Epoch::new(1), Index::FIRST, SeqNum::new(1));
        let mut log = LogBuilder::with_header(&header);
        for (kind, payload, pick) in chunks {
            let kind = if kind == 8 { 129 } else if kind > 8 { 1 + kind % 4 } else { kind };
            let envelope = [0, 1, 0, 1, 1, 1, 1, 1, 1];
            let payload = [&envelope[..pick.index(envelope.len() + 1)], &payload].concat();
            let length = match ChunkType::from_byte(kind) {
                Some(ChunkType::Promise) => 16,
                Some(ChunkType::Seal) => 36,
                _ => payload.len(),
            };
            log.raw(kind, &payload.iter().copied().cycle().take(length).collect::<Vec<_>>());
        }
        let (naive, ours) = both(&header, &log.bytes);
        prop_assert_eq!(naive, ours);
    }

    #[test]
    fn t2_decoders_agree_on_checkpoints(
        numbers in proptest::collection::vec(prop_oneof![0..5_u64, any::<u64>()], 12),
        clean in proptest::option::of((1..=u64::MAX, any::<u64>(), any::<u64>())),
        // The gap before each range, and how many logs are in it.
        flushed_logs in proptest::collection::vec((1_u64..9, 1_u64..9), 0..9),
        wal_id: [u8; 16],
        flushed in proptest::collection::btree_map(0..(1_u32 << 24) + 2, any::<u64>(), 0..50),
        dropped in proptest::collection::vec(any::<Pick>(), 0..4),
        holds in proptest::collection::btree_map("\\PC{1,20}", hold(), 0..6),
        flip in proptest::option::of((any::<Pick>(), 0..8_u8)), cut: Option<Pick>,
    ) {
        let families: Vec<u32> = flushed.keys().copied().collect();
        let dropped = if families.is_empty() { Vec::new() } else { dropped };
        let checkpoint = Checkpoint {
            dropped: dropped.iter().map(|pick| FamilyId::new(*pick.get(&families))).collect(),
            holds: holds.into_iter().filter(|(name, _)| hold_name_is_valid(name)).collect(),
            version: numbers[0],
            wal_id: WalId::from_bytes(wal_id),
            epoch: Epoch::new(numbers[1]),
            highest: LogNumber::new(numbers[2]),
            lowest: LogNumber::new(numbers[3]),
            active: LogNumber::new(numbers[4]),
            next_index: Index::new(numbers[5]),
            seq_floor: SeqNum::new(numbers[6]),
            sealed_through: LogNumber::new(numbers[7]),
            clean_end: clean.map(|(log, end, next)| CleanEnd {
                log: LogNumber::new(log),
                end,
                next_index: Index::new(next),
                flushed_logs: ranges(&flushed_logs),
            }),
            config_fingerprint: numbers[8],
            flushed: flushed.into_iter().map(|(family, seq)| (FamilyId::new(family), SeqNum::new(seq))).collect::<BTreeMap<_, _>>(),
        };
        let mut file = checkpoint.encode(Slot::A);
        let length = file.len();
        file.resize(SLOT_BYTES, 0);
        file.extend_from_slice(&checkpoint.encode(Slot::B));
        if let Some((place, bit)) = flip {
            file[place.index(length)] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            file.truncate(SLOT_BYTES + cut.index(length));
        }
        let slot_b = file.get(SLOT_BYTES..).unwrap_or(&[]);
        let ours = [Checkpoint::decode(Slot::A, &file), Checkpoint::decode(Slot::B, slot_b)];
        let naive = naive::decode_checkpoint(&file);
        for (slot, (naive, ours)) in naive.into_iter().zip(ours).enumerate() {
            prop_assert_eq!(&naive, &ours.as_ref().ok().map(logs::checkpoint_item));
            let touched = if slot == 0 { flip.is_some() } else { cut.is_some() };
            prop_assert!(!touched || naive.is_none(), "slot {} is damaged and believed", slot);
            let valid = checkpoint.lowest.get() > 0 && checkpoint.next_index.get() > 0
                && checkpoint.active <= checkpoint.highest && checkpoint.sealed_through <= checkpoint.highest
                && checkpoint.clean_end.as_ref().is_none_or(|clean| {
                    clean.flushed_logs.last().is_none_or(|range| range.last <= clean.log)
                })
                && checkpoint.flushed.keys().all(|family| *family <= FamilyId::MAX);
            prop_assert!(touched || naive.is_some() == valid);
        }
    }
}

#[test]
fn t2_any_flip_or_exchange_of_a_slot_is_detected() {
    let [newer, _] = golden::checkpoints();
    for slot in Slot::BOTH {
        let whole = newer.encode(slot);
        assert_eq!(Checkpoint::decode(slot, &whole).as_ref(), Ok(&newer));
        assert!(Checkpoint::decode(slot.other(), &whole).is_err(), "a slot is bound to its place");
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(slot, &flipped).is_err(), "bit {bit}");
        }
        for cut in 0..whole.len() {
            assert!(Checkpoint::decode(slot, &whole[..cut]).is_err(), "cut {cut}");
        }
    }
}

#[test]
fn t2_decoders_agree_at_every_alignment() {
    for room in 0..80 {
        for (what, length) in [(0, 1), (0, 90), (1, 1), (2, 20)] {
            let header =
                FileHeader::new(WAL_ID, LogNumber::new(2), Epoch::new(1), Index::FIRST, SeqNum::new(1));
            let mut log = LogBuilder::with_header(&header);
            log.fill_to(room);
            match what {
                0 => log.record(&pattern(7, length)).promise(),
                1 => log.promise().record(b"x"),
                _ => log.raw(128, &pattern(7, length)).record(b"x"),
            };
            log.seal();
            let (naive, ours) = both(&header, &log.bytes);
            assert_eq!(
                (&naive.items, naive.end),
                (&log.items, End::Sealed(log.bytes.len() as u64)),
                "room {room}"
            );
            assert_eq!(naive, ours, "room {room}");
        }
    }
}

#[test]
fn t2_what_contradicts_itself_is_no_slot() {
    let [good, _] = golden::checkpoints();
    let nowhere = |end, next| {
        let (log, next_index) = (LogNumber::new(0), Index::new(next));
        Some(CleanEnd { log, end, next_index, flushed_logs: Vec::new() })
    };
    let flushed = |logs: &[(u64, u64)]| {
        let range = |&(first, last)| LogRange { first: LogNumber::new(first), last: LogNumber::new(last) };
        let flushed_logs = logs.iter().map(range).collect();
        Some(CleanEnd { log: LogNumber::new(3000), end: 4096, next_index: Index::new(99), flushed_logs })
    };
    let crowd: Vec<(u64, u64)> = (0..=FLUSHED_RANGES_MAX as u64).map(|i| (2 * i + 1, 2 * i + 1)).collect();
    for right in [&[][..], &[(1, 3000)], &[(1, 1), (3, 2999)], &crowd[1..]] {
        let checkpoint = Checkpoint { clean_end: flushed(right), ..good.clone() };
        let bytes = checkpoint.encode(Slot::A);
        assert_eq!(naive::decode_checkpoint(&bytes)[0], Some(logs::checkpoint_item(&checkpoint)));
        assert_eq!(Checkpoint::decode(Slot::A, &bytes), Ok(checkpoint));
    }
    let contradictions = [
        Checkpoint { lowest: LogNumber::new(0), ..good.clone() },
        Checkpoint { next_index: Index::new(0), ..good.clone() },
        Checkpoint { active: LogNumber::new(6), ..good.clone() },
        Checkpoint { sealed_through: LogNumber::new(6), ..good.clone() },
        Checkpoint { clean_end: nowhere(1, 0), ..good.clone() },
        Checkpoint { clean_end: nowhere(0, 1), ..good.clone() },
        Checkpoint { clean_end: flushed(&[(0, 1)]), ..good.clone() },
        Checkpoint { clean_end: flushed(&[(2, 1)]), ..good.clone() },
        Checkpoint { clean_end: flushed(&[(5, 3001)]), ..good.clone() },
        Checkpoint { clean_end: flushed(&[(5, 6), (7, 8)]), ..good.clone() },
        Checkpoint { clean_end: flushed(&[(5, 6), (1, 2)]), ..good.clone() },
        Checkpoint { clean_end: flushed(&[(5, u64::MAX), (1, 2)]), ..good.clone() },
        Checkpoint { clean_end: flushed(&crowd), ..good.clone() },
    ];
    for checkpoint in contradictions {
        let bytes = checkpoint.encode(Slot::A);
        assert_eq!(Checkpoint::decode(Slot::A, &bytes), Err(SlotFault::Content), "{checkpoint:?}");
        assert_eq!(naive::decode_checkpoint(&bytes), [None, None], "{checkpoint:?}");
    }
    let from_5 = Hold { from: SeqNum::new(5), to: None, budget: None, since_micros: 0, lost: false };
    let holding = |name: String, hold| {
        Checkpoint { holds: BTreeMap::from([(name, hold)]), ..good.clone() }.encode(Slot::A)
    };
    let backwards = Hold { to: Some(SeqNum::new(4)), ..from_5 };
    let long = "x".repeat(HOLD_NAME_BYTES_MAX + 1);
    let mut unknown_flag = holding("a".to_owned(), from_5);
    let at = unknown_flag.len() - 35;
    unknown_flag[at] |= 8;
    let mut absent_budget = holding("a".to_owned(), from_5);
    let at = absent_budget.len() - 16;
    absent_budget[at] = 1;
    let crowd = (0..=HOLDS_MAX).map(|i| (format!("{i:02}"), from_5)).collect();
    let crowd = Checkpoint { holds: crowd, ..good.clone() }.encode(Slot::A);
    let with_crc = |mut bytes: Vec<u8>| {
        let crc = naive::crc32(&[b"slot A", &bytes[4..]]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    for bytes in [
        holding(String::new(), from_5),
        holding(long, from_5),
        holding("a\nb".to_owned(), from_5),
        holding("a".to_owned(), backwards),
        with_crc(unknown_flag),
        with_crc(absent_budget),
        crowd,
    ] {
        assert_eq!(Checkpoint::decode(Slot::A, &bytes), Err(SlotFault::Content));
        assert_eq!(naive::decode_checkpoint(&bytes), [None, None]);
    }
    // A newer version may append fields, and may ask for a newer reader.
    let mut longer = good.encode(Slot::A);
    longer.extend_from_slice(b"appended");
    longer[4] += 8;
    longer[16] = 9;
    assert_eq!(Checkpoint::decode(Slot::A, &with_crc(longer.clone())), Ok(good));
    longer[18] = 2;
    let newer = with_crc(longer);
    assert_eq!(
        Checkpoint::decode(Slot::A, &newer),
        Err(SlotFault::NewerFormat { version: 9, lowest_reader: 2 })
    );
    assert_eq!(naive::decode_checkpoint(&newer), [None, None]);
}

#[test]
fn f10_a_slot_from_before_there_were_holds_or_flushed_logs_is_read_and_a_full_one_fits() {
    let [good, closed] = golden::checkpoints();
    let shorter = |slot: &Checkpoint, by: u8| {
        let mut bytes = slot.encode(Slot::A);
        bytes.truncate(bytes.len() - usize::from(by));
        let length = u16::from_le_bytes([bytes[4], bytes[5]]) - u16::from(by);
        bytes[4..6].copy_from_slice(&length.to_le_bytes());
        let crc = naive::crc32(&[b"slot A", &bytes[4..]]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    };
    let without = Checkpoint { holds: BTreeMap::new(), ..good.clone() };
    let clean = closed.clean_end.clone().unwrap();
    let nothing_said = CleanEnd { flushed_logs: Vec::new(), ..clean.clone() };
    let unsaid = Checkpoint { clean_end: Some(nothing_said), ..closed.clone() };
    // Behind the holds stand a count and two ranges.
    for (whole, by, read) in [(&without, 4, &without), (&closed, 36, &unsaid), (&unsaid, 4, &unsaid)] {
        let before = shorter(whole, by);
        assert_eq!(Checkpoint::decode(Slot::A, &before).as_ref(), Ok(read));
        assert_eq!(naive::decode_checkpoint(&before)[0], Some(logs::checkpoint_item(read)));
    }
    for cut in 1..36 {
        let before = shorter(&closed, cut);
        assert_eq!(Checkpoint::decode(Slot::A, &before), Err(SlotFault::Content), "{cut} bytes missing");
        assert_eq!(naive::decode_checkpoint(&before)[0], None, "{cut} bytes missing");
    }

    let families = (0..FAMILIES_MAX as u32).map(|family| (FamilyId::new(family), SeqNum::new(u64::MAX)));
    let hold =
        Hold { from: SeqNum::new(1), to: Some(SeqNum::new(2)), budget: Some(3), since_micros: 4, lost: true };
    let full = Checkpoint {
        clean_end: Some(CleanEnd {
            log: LogNumber::new(9999),
            flushed_logs: ranges(&[(1, 2); FLUSHED_RANGES_MAX]),
            ..clean
        }),
        flushed: families.clone().collect(),
        dropped: families.map(|(family, _)| family).collect(),
        holds: (0..HOLDS_MAX).map(|i| (format!("{i:0HOLD_NAME_BYTES_MAX$}"), hold)).collect(),
        ..good
    };
    let bytes = full.encode(Slot::A);
    assert!(bytes.len() <= SLOT_BYTES, "{} bytes", bytes.len());
    assert_eq!(naive::decode_checkpoint(&bytes)[0], Some(logs::checkpoint_item(&full)));
    assert_eq!(Checkpoint::decode(Slot::A, &bytes), Ok(full));
}
