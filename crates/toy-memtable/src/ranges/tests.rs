use super::*;
use wal_manager::FamilyId;

fn key(family: u32, user: u8) -> Key {
    Key { family: FamilyId::new(family), user: Bytes::copy_from_slice(&[user]) }
}

#[test]
fn pieces_agree_with_a_scan_over_all_range_deletes() {
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let deletes: Vec<RangeDelete> = (0..random(12))
            .map(|seq| {
                let start = u8::try_from(random(30)).unwrap();
                let end = start + 1 + u8::try_from(random(10)).unwrap();
                let start = key(u32::try_from(random(2)).unwrap(), start);
                RangeDelete { start, end: Bytes::copy_from_slice(&[end]), seq: SeqNum::new(seq + 1) }
            })
            .collect();
        let ranges = Ranges::new(deletes.clone());
        let joined = ranges.joined();
        for family in 0..2 {
            for user in 0..45 {
                let key = key(family, user);
                let expected = deletes.iter().filter(|d| d.covers(&key)).map(|d| d.seq).max();
                assert_eq!(ranges.covering(&key), expected, "{deletes:?} at {key:?}");
                let in_joined = joined.iter().any(|(start, end)| {
                    start.family == key.family && start.user <= key.user && key.user < *end
                });
                assert_eq!(in_joined, expected.is_some());
            }
        }
        assert!(
            joined.windows(2).all(|pair| pair[0].0.family < pair[1].0.family || pair[0].1 < pair[1].0.user)
        );
    }
}
