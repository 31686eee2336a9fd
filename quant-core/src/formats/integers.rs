//! Formats with a codebook as small integers, for products: a value is the unit of its block times the
//! factor of its sub-block times an integer.

use super::{BlockFormat, IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS, QK_K, TQ1_0};
use crate::codebook::{self, Codebook};

/// Factors of a block: one for each sixteen values.
pub const FACTORS: usize = QK_K / 16;
/// Bytes of the signs of a block.
pub const SIGNS: usize = QK_K / 8;

/// A format of [`QK_K`] values that are small integers times the scale of their sub-block.
pub trait Integers: BlockFormat {
    /// Values that share a factor: 16 or 32.
    const SUB: usize;
    /// Whether integers are magnitudes from 1 to 63 with signs beside them; otherwise they are each plus
    /// 128, from −63 to 63.
    const SIGNED: bool;
    /// What the magnitudes of eight neighbours add up to at most.
    const EIGHT: usize = 8 * 63;
    /// Whether [`eight`](Self::eight) is a look-up.
    const LOOKED_UP: bool = true;

    /// A factor for each sixteen values, between 1 and 31, and the signs; returns the unit. Value `i` is
    /// negative where bit `i % 8` of byte `i / 8` of `signs` is set; without signs they stay as they are.
    fn head(block: &Self::Block, signs: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32;

    /// Eight integers, a byte each: part `k` of the four in 32 values `j`.
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64;

    /// All integers of a block.
    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K]) {
        for (j, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            // Over few elements, so that it is unrolled and shifts by `k` are constants.
            for (k, codes) in codes.as_chunks_mut().0.iter_mut().enumerate() {
                *codes = Self::eight(block, j, k).to_le_bytes();
            }
        }
    }
}

/// Evaluates `$body` with `$format` naming the [`Integers`](crate::formats::Integers) of the type, or
/// `$otherwise` for types that are none.
#[doc(hidden)]
#[macro_export]
macro_rules! with_integers {
    ($ty:expr, $format:ident => $body:expr, $otherwise:expr) => {
        $crate::choose_format!($ty, $format => $body, $otherwise;
            IQ1_S IQ1S, IQ1_M IQ1M,
            IQ2_XXS IQ2XXS, IQ2_XS IQ2XS, IQ2_S IQ2S, IQ3_XXS IQ3XXS, IQ3_S IQ3S,
            TQ1_0 TQ1_0,
        )
    };
}

/// The same byte eight times.
const fn bytes(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// What the points of a book stand for, a byte for each coordinate, the first lowest.
const fn points<const DIMS: usize, const N: usize>(book: &[u64], levels: &[u8]) -> [u64; N] {
    let codes: [u16; N] = codebook::codes::<DIMS, N>(book);
    let mut points = [0; N];
    let mut index = 0;
    while index < N {
        let mut i = 0;
        while i < DIMS {
            let level = codes[index] as usize >> (Codebook::<DIMS>::BITS as usize * i)
                & ((1 << Codebook::<DIMS>::BITS) - 1);
            points[index] |= (levels[level] as u64) << (8 * i);
            i += 1;
        }
        index += 1;
    }
    points
}

const LEVELS_2: [u8; 4] = [8, 25, 43, 0];
static IQ2_XXS: [u64; 256] = points::<8, _>(&codebook::points::IQ2_XXS, &LEVELS_2);
static IQ2_XS: [u64; 512] = points::<8, _>(&codebook::points::IQ2_XS, &LEVELS_2);
static IQ2_S: [u64; 1024] = points::<8, _>(&codebook::points::IQ2_S, &LEVELS_2);
static IQ3_XXS: [u32; 256] =
    fours(&points::<4, _>(&codebook::points::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62]));
static IQ3_S: [u32; 512] =
    fours(&points::<4, _>(&codebook::points::IQ3_S, &[1, 3, 5, 7, 9, 11, 13, 15]));
/// Eight times the level less one, plus 128: the shift is one more or less.
static IQ1: [u64; 2048] = points::<8, _>(&codebook::points::IQ1, &[120, 128, 136, 0]);

/// What the coordinates of a point of eight add up to at most.
const fn most(points: &[u64]) -> usize {
    let (mut most, mut index) = (0, 0);
    while index < points.len() {
        // In pairs, which have room, and those in the upper bits.
        let pairs =
            (points[index] & 0x00ff_00ff_00ff_00ff) + (points[index] >> 8 & 0x00ff_00ff_00ff_00ff);
        let sum = (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize;
        if sum > most {
            most = sum;
        }
        index += 1;
    }
    most
}

/// Points of four coordinates in words as long.
const fn fours<const N: usize>(points: &[u64; N]) -> [u32; N] {
    let mut fours = [0; N];
    let mut index = 0;
    while index < N {
        fours[index] = points[index] as u32;
        index += 1;
    }
    fours
}

/// The lowest 28 bits of each half as four times seven bits, one in each byte.
#[inline(always)]
const fn sevens(words: u64) -> u64 {
    let halves = words & 0x0000_3fff_0000_3fff | (words & 0x0fff_c000_0fff_c000) << 2;
    halves & 0x007f_007f_007f_007f | (halves & 0x3f80_3f80_3f80_3f80) << 1
}

/// Seven signs in each byte and an eighth, in its highest bit, that makes their number even.
#[inline(always)]
const fn even(sevens: u64) -> u64 {
    // The parity of each byte gathers in its lowest bit; the others take up bits of their neighbours.
    let mut parity = sevens ^ sevens >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    sevens | (parity & bytes(1)) << 7
}

/// Factors of sixteens from codes of four bits, two in a byte, the lower first.
#[inline(always)]
fn odd_factors<const N: usize>(scales: &[u8; N], factors: &mut [i16; FACTORS]) {
    let sub = FACTORS / (2 * N);
    for (factors, byte) in factors.chunks_exact_mut(2 * sub).zip(scales) {
        let (low, high) = factors.split_at_mut(sub);
        low.fill(odd(byte & 15));
        high.fill(odd(byte >> 4));
    }
}

/// The factor of a code.
#[inline(always)]
fn odd(code: u8) -> i16 {
    2 * i16::from(code) + 1
}

impl Integers for IQ2XXS {
    const SUB: usize = 32;
    const SIGNED: bool = true;
    const EIGHT: usize = most(&IQ2_XXS);

    #[inline(always)]
    fn head(block: &Self::Block, signs: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        let signs = signs.as_chunks_mut::<8>().0.iter_mut();
        let factors = factors.as_chunks_mut::<4>().0.iter_mut();
        for ((signs, factors), pair) in signs.zip(factors).zip(block.qs.as_chunks::<2>().0) {
            let [first, second] = pair.map(u64::from_le_bytes);
            *signs = even(sevens(first >> 32 | second & !0 << 32)).to_le_bytes();
            let [a, b] = [odd((first >> 60) as u8), odd((second >> 60) as u8)];
            *factors = [a, a, b, b];
        }
        0.125 * block.d.to_f32()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        IQ2_XXS[usize::from(block.qs[j][k])]
    }
}

impl Integers for IQ2XS {
    const SUB: usize = 16;
    const SIGNED: bool = true;

    #[inline(always)]
    fn head(block: &Self::Block, signs: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        odd_factors(&block.scales, factors);
        let qs = block.qs.as_flattened().as_chunks::<8>().0;
        for (signs, qs) in signs.as_chunks_mut::<4>().0.iter_mut().zip(qs) {
            let sevens = u64::from_le_bytes(*qs) >> 9 & 0x007f_007f_007f_007f;
            let sevens = (sevens | sevens >> 8) & 0x0000_ffff_0000_ffff;
            *signs = (even(sevens | sevens >> 16) as u32).to_le_bytes();
        }
        0.125 * block.d.to_f32()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        IQ2_XS[usize::from(u16::from_le_bytes(block.qs[4 * j + k])) & 511]
    }
}

impl Integers for IQ2S {
    const SUB: usize = 16;
    const SIGNED: bool = true;

    #[inline(always)]
    fn head(block: &Self::Block, signs: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        odd_factors(&block.scales, factors);
        *signs = block.signs;
        0.125 * block.d.to_f32()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        let high = (usize::from(block.qh[j]) << 8) >> (2 * k) & 0x300;
        IQ2_S[usize::from(block.qs[4 * j + k]) | high]
    }
}

impl Integers for IQ3XXS {
    const SUB: usize = 32;
    const SIGNED: bool = true;

    #[inline(always)]
    fn head(block: &Self::Block, signs: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        let words = block.scales_and_signs.as_flattened().as_chunks::<8>().0;
        let signs = signs.as_chunks_mut::<8>().0.iter_mut();
        let factors = factors.as_chunks_mut::<4>().0.iter_mut();
        for ((signs, factors), words) in signs.zip(factors).zip(words) {
            let words = u64::from_le_bytes(*words);
            *signs = even(sevens(words)).to_le_bytes();
            let [a, b] = [odd((words >> 28) as u8 & 15), odd((words >> 60) as u8)];
            *factors = [a, a, b, b];
        }
        0.25 * block.d.to_f32()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        let point = |i: usize| IQ3_XXS[usize::from(block.qs[j][2 * k + i])];
        pair(point(0), point(1))
    }
}

impl Integers for IQ3S {
    const SUB: usize = 32;
    const SIGNED: bool = true;
    const EIGHT: usize = 8 * 15;

    #[inline(always)]
    fn head(block: &Self::Block, signs: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        odd_factors(&block.scales, factors);
        *signs = block.signs;
        block.d.to_f32()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        let high = usize::from(block.qh[j]) << 8;
        let point = |i: usize| {
            let high = high >> (2 * k + i) & 0x100;
            IQ3_S[usize::from(block.qs[8 * j + 2 * k + i]) | high]
        };
        pair(point(0), point(1))
    }
}

/// Two points of four coordinates.
#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// Eight coordinates of a book of IQ1 and the shift of their group.
#[inline(always)]
fn shifted(index: usize, down: bool) -> u64 {
    IQ1[index & 2047].wrapping_add(if down { bytes(1).wrapping_neg() } else { bytes(1) })
}

impl Integers for IQ1S {
    const SUB: usize = 32;
    const SIGNED: bool = false;
    const EIGHT: usize = 8 * 9;

    #[inline(always)]
    fn head(block: &Self::Block, _: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        for (factors, word) in factors.as_chunks_mut::<2>().0.iter_mut().zip(block.qh) {
            *factors = [odd(word[1] >> 4 & 7); 2];
        }
        0.125 * block.d.to_f32()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        let word = u16::from_le_bytes(block.qh[j]);
        let high = (usize::from(word) << 8) >> (3 * k) & 0x700;
        shifted(usize::from(block.qs[4 * j + k]) | high, word >> 15 == 1)
    }
}

impl Integers for IQ1M {
    const SUB: usize = 16;
    const SIGNED: bool = false;
    const EIGHT: usize = 8 * 9;

    #[inline(always)]
    fn head(block: &Self::Block, _: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        for (factors, word) in factors.as_chunks_mut::<4>().0.iter_mut().zip(block.scales) {
            let word = u16::from_le_bytes(word);
            for (i, factor) in factors.iter_mut().enumerate() {
                *factor = odd((word >> (3 * i)) as u8 & 7);
            }
        }
        0.125 * block.unit()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        let word = u16::from_le_bytes([block.qh[2 * j], block.qh[2 * j + 1]]);
        let high = (usize::from(word) << 8) >> (4 * k);
        shifted(usize::from(block.qs[4 * j + k]) | high & 0x700, high & 0x800 != 0)
    }
}

impl Integers for TQ1_0 {
    const SUB: usize = 32;
    const SIGNED: bool = false;
    const EIGHT: usize = 8;
    const LOOKED_UP: bool = false;

    #[inline(always)]
    fn head(block: &Self::Block, _: &mut [u8; SIGNS], factors: &mut [i16; FACTORS]) -> f32 {
        factors.fill(1);
        block.d.to_f32()
    }

    #[inline(always)]
    fn eight(block: &Self::Block, j: usize, k: usize) -> u64 {
        let mut codes = [0; QK_K];
        Self::integers(block, &mut codes);
        u64::from_le_bytes(codes.as_chunks().0[4 * j + k])
    }

    #[inline(always)]
    fn integers(block: &Self::Block, codes: &mut [u8; QK_K]) {
        let (first, second) = codes.split_at_mut(160);
        let (second, third) = second.split_at_mut(80);
        let (long, short) = block.qs.split_at(32);
        ternary::<32>(long, first);
        ternary::<16>(short, second);
        ternary::<4>(&block.qh, third);
    }
}

/// The digits of `LEN` bytes, the first of each byte first, plus 127.
#[inline(always)]
fn ternary<const LEN: usize>(bytes: &[u8], codes: &mut [u8]) {
    // In the upper bytes of words: what a multiplication by three carries out of one is the digit.
    let mut words = [0u16; LEN];
    for (word, byte) in words.iter_mut().zip(bytes) {
        *word = u16::from(*byte) << 8;
    }
    for codes in codes.as_chunks_mut::<LEN>().0 {
        for (code, word) in codes.iter_mut().zip(&mut words) {
            *code = 127 + ((u32::from(*word) * 3) >> 16) as u8;
            *word = word.wrapping_mul(3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GgmlType, dequantize};

    /// Every integer times its factor and unit is the value that is restored, for blocks of any bytes.
    #[test]
    fn integers_are_the_values() {
        let mut state = 1u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut seen = 0;
        for &ty in GgmlType::ALL {
            with_integers!(ty, F => for _ in 0..40 {
                seen += 1;
                let bytes: Vec<u8> = (0..ty.block_bytes()).map(|_| byte()).collect();
                let mut values = [0.0; QK_K];
                dequantize(ty, &bytes, &mut values).unwrap();
                let (mut codes, mut signs) = ([0; QK_K], [0; SIGNS]);
                let mut factors = [0; FACTORS];
                let block = bytemuck::pod_read_unaligned(&bytes);
                let unit = <F as Integers>::head(&block, &mut signs, &mut factors);
                <F as Integers>::integers(&block, &mut codes);
                for (i, codes) in codes.as_chunks().0.iter().enumerate() {
                    let eight = <F as Integers>::eight(&block, i / 4, i % 4);
                    assert_eq!(eight.to_le_bytes(), *codes, "{ty}");
                }
                assert!(factors.iter().all(|factor| (1..=31).contains(factor)), "{ty}");
                assert!(factors.chunks(F::SUB / 16).all(|f| f.iter().all(|g| *g == f[0])), "{ty}");
                if !unit.is_finite() {
                    continue;
                }
                let mut sums = [0; SIGNS];
                for (i, value) in values.iter().enumerate() {
                    let integer = match (F::SIGNED, signs[i / 8] >> (i % 8) & 1) {
                        (true, 1) => -i32::from(codes[i]),
                        (true, _) => i32::from(codes[i]),
                        (false, _) => i32::from(codes[i]) - 128,
                    };
                    sums[i / 8] += integer.unsigned_abs() as usize;
                    let small = integer.abs() < 64 && !(F::SIGNED && codes[i] == 0);
                    let found = unit * (i32::from(factors[i / 16]) * integer) as f32;
                    let near = (found - value).abs() <= 1e-6 * value.abs();
                    assert!(small && near, "{ty} {i}: {found}, not {value}");
                }
                assert!(sums.iter().all(|sum| *sum <= F::EIGHT), "{ty}: {sums:?}");
            }, {});
        }
        assert_eq!(seen, 8 * 40);
    }
}
