//! Input shared by the benchmarks.

#![forbid(unsafe_code)]

mod checkpoint;
pub mod limits;
pub mod matrices;

pub use checkpoint::checkpoint;

/// `len` weights like those of a trained layer: bell-shaped, standard deviation 0.02, from a fixed
/// seed.
pub fn weights(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    // The sum of four uniform values is close enough to a normal one.
    (0..len).map(|_| (uniform() + uniform() + uniform() + uniform() - 2.0) * 0.0346).collect()
}
