#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is how they fail")]

use super::*;

/// The product of two polynomials, modulo the polynomial.
fn product(mut a: u32, b: u32) -> u32 {
    let mut sum = 0;
    for degree in 0..32 {
        // The highest bit is the constant term.
        if b & (0x8000_0000 >> degree) != 0 {
            sum ^= a;
        }
        a = times_x(a);
    }
    sum
}

fn power_of_x(mut exponent: u32) -> u32 {
    let (mut square, mut result) = (0x4000_0000, 0x8000_0000);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(result, square);
        }
        square = product(square, square);
        exponent >>= 1;
    }
    result
}

/// What makes a single bit unambiguous: the powers of x come back to 1 after 2^32 - 1 steps and not before.
#[test]
fn v18_the_polynomial_is_primitive() {
    const ONE: u32 = 0x8000_0000;
    assert_eq!(product(3, ONE), 3);
    assert_eq!(power_of_x(u32::MAX), ONE);
    let primes = [3, 5, 17, 257, 65537_u32];
    assert_eq!(primes.iter().product::<u32>(), u32::MAX);
    for prime in primes {
        assert_ne!(power_of_x(u32::MAX / prime), ONE);
    }
}

#[test]
fn v18_the_syndrome_of_one_bit_is_a_power_of_x() {
    let bytes = b"what is covered";
    let right = crc32fast::hash(bytes);
    for bit in 0..8 * bytes.len() {
        let mut wrong = bytes.to_vec();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let syndrome = crc32fast::hash(&wrong) ^ right;
        assert_eq!(distance(syndrome, 8 * bytes.len()), Some(8 * bytes.len() - bit));
        assert_eq!(syndrome, power_of_x(31 + u32::try_from(8 * bytes.len() - bit).unwrap()));
    }
}

/// Three bits whose flips cancel out: two of them look like the third. The first such three span more bits than a chunk of 11 KiB has.
#[test]
fn v18_two_bits_look_like_a_third_only_in_long_chunks() {
    const BITS: u32 = 8 * 32768;
    let mut exponents = std::collections::HashMap::new();
    let mut power = 0x8000_0000;
    for exponent in 0..BITS {
        exponents.insert(power, exponent);
        power = times_x(power);
    }
    // x^far + x^near + 1 = 0
    let three = (1..BITS).find_map(|far| {
        let near = *exponents.get(&(power_of_x(far) ^ 0x8000_0000))?;
        (near < far).then_some((far, near))
    });
    let (far, near) = three.unwrap();
    assert_eq!(far, 91_639);
    // Both ends are wrong in a long chunk, and the one between them is named.
    let seed = LogSeed::new(crate::WalId::from_bytes([7; 16]), crate::LogNumber::new(1));
    let payload = vec![0x5A; 32761];
    let mut bytes = seed.checksum(0, 1, &payload).to_le_bytes().to_vec();
    bytes.extend([0xF9, 0x7F, 1]);
    bytes.extend(&payload);
    let last = 8 * bytes.len() - 1;
    let mut flip = |from_end: u32| {
        let bit = last - from_end as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        FlippedBit::at(0, bit)
    };
    flip(0);
    flip(far);
    let between = flip(near);
    flip(near);
    assert_eq!(in_chunk(&seed, 0, &bytes), Some(between));
    // Of all pairs of a chunk that one number tells apart, few: so seldom is a third bit in reach.
    let pairs = (1..BITS)
        .filter(|far| exponents.get(&(power_of_x(*far) ^ 0x8000_0000)).is_some_and(|near| near < far));
    assert!(pairs.count() < 20);
}
