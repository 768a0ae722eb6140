use super::*;

fn sample() -> Manifest {
    Manifest {
        next_table: 9,
        tables: vec![3, 8],
        flushed: BTreeMap::from([
            (FamilyId::new(0), SeqNum::new(77)),
            (FamilyId::new(5), SeqNum::new(1 << 40)),
        ]),
    }
}

#[test]
fn a_manifest_survives_the_round_trip_and_nothing_else_does() {
    let bytes = sample().encode().unwrap();
    assert_eq!(Manifest::decode(bytes.clone().into()), Ok(sample()));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::decode(flipped.into()).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(Manifest::decode(bytes[..length].to_vec().into()).is_err(), "length {length}");
    }
}

#[test]
fn hostile_counts_with_a_good_checksum_are_refused() {
    let mut bytes = sample().encode().unwrap();
    let body = bytes.len() - 4;
    bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Manifest::decode(bytes.into()), Err("too short"));
}
