//! Weights that a name alone determines, the same here and in `models/reference.py`.

/// Half of the range that keeps the spread of what comes in: a variance of 1 through the number of inputs.
pub(super) fn spread(inputs: i64) -> (f32, f32) {
    ((3.0 / inputs as f64).sqrt() as f32, 0.0)
}

/// Numbers from −1 to 1, exact in 24 bits: splitmix64 (Steele et al. 2014) from the name's FNV-1a hash on.
pub(super) fn uniform(name: &str, count: u64) -> impl Iterator<Item = f32> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (1..=count).map(move |index| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    })
}
