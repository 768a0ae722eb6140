//! CRC-32 of a few bytes. `crc32fast` is for long ones: its way into a checksum of four or eight bytes costs more than they do, and each chunk has two of
//! these, its offset and its part of the digest. The test compares the two.

/// Tables for eight bytes at once: `TABLES[n]` is what a byte with `n` zero bytes behind it adds.
const TABLES: [[u32; 256]; 8] = {
    #[allow(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "constants: out of range does not compile, and a byte fits"
    )]
    const fn tables() -> [[u32; 256]; 8] {
        const POLYNOMIAL: u32 = 0xedb8_8320;
        let mut tables = [[0; 256]; 8];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            tables[0][byte] = crc;
            byte += 1;
        }
        let mut table = 1;
        while table < 8 {
            let mut byte = 0;
            while byte < 256 {
                let before = tables[table - 1][byte];
                tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
                byte += 1;
            }
            table += 1;
        }
        tables
    }
    tables()
};

/// The checksum `crc` goes on with 4 or 8 bytes.
pub(crate) fn extend<const N: usize>(crc: u32, bytes: [u8; N]) -> u32 {
    const { assert!(N <= 8 && N >= 4, "there are eight tables, and the old checksum has four bytes") };
    let old = (!crc).to_le_bytes();
    let mut new = 0;
    for (at, byte) in bytes.into_iter().enumerate() {
        let byte = byte ^ old.get(at).copied().unwrap_or(0);
        let table = TABLES.get(N - 1 - at);
        new ^= table.and_then(|table| table.get(usize::from(byte))).copied().unwrap_or(0);
    }
    !new
}

#[cfg(test)]
mod tests {
    use super::extend;

    #[test]
    fn f3_a_small_checksum_is_that_of_the_library() {
        let mut number = 0x9e37_79b9_7f4a_7c15_u64;
        let mut crc = 0;
        for _ in 0..10_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = number.to_le_bytes();
            for bytes in [&bytes[..4], &bytes[..]] {
                let mut hasher = crc32fast::Hasher::new_with_initial(crc);
                hasher.update(bytes);
                let expected = hasher.finalize();
                let found = match bytes.try_into() {
                    Ok(eight) => extend::<8>(crc, eight),
                    Err(_) => extend::<4>(crc, bytes.try_into().unwrap()),
                };
                assert_eq!(found, expected);
                crc = expected;
            }
        }
    }
}
