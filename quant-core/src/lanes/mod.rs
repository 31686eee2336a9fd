//! The vector trait in which every quantizer is written, and its one-lane instance.
//!
//! A lane is one (sub-)block. Each lane performs the same float operations in the same order as
//! the scalar code would, so the bytes do not depend on how many lanes there are. [`Scalar`] is
//! the instance with one lane: the reference and the fast path are the same text.
//!
//! The contract of an instance is exact IEEE 754 single precision, round to nearest even, no fused
//! multiply-add but where a method says so, no flushing of subnormals, no approximate reciprocals.

mod exp;
mod pair;
mod scalar;

pub use pair::Pair;
pub use scalar::Scalar;

/// Keeps [`Lanes`] to the instances that its tests cover.
#[doc(hidden)]
pub trait Sealed {}

impl Sealed for Scalar {}
impl<S: Lanes> Sealed for Pair<S> {}

/// The most lanes an instance may have: the size of the buffers that carry one value per lane.
pub const MAX_LANES: usize = 32;

/// One value per lane in memory.
pub type PerLane<T> = [T; MAX_LANES];

/// An operation for [`Lanes::call`].
pub trait Call<S: Lanes> {
    /// What it returns.
    type Output;

    /// Runs it. Must be `#[inline(always)]`, to be compiled with the instructions of the lanes.
    fn eval(self, s: S) -> Self::Output;
}

/// A set of lanes of 32-bit floats and integers with masks over them.
///
/// The methods take `self` because an instance is a *token*: in the SIMD instances of
/// `quant-kernels` holding one proves that the CPU has the instructions.
///
/// Integer operations wrap.
///
/// Sealed: the instances are those of this crate and of `quant-kernels`.
pub trait Lanes: Copy + Sealed {
    /// The number of lanes, at most [`MAX_LANES`].
    const N: usize;
    /// Whether searches run faster on a [`Pair`] of its vectors: there are registers for two.
    const PAIRS: bool = false;
    /// A float in each lane.
    type F32: Copy;
    /// A 32-bit integer in each lane.
    type I32: Copy;
    /// A truth value in each lane.
    type Mask: Copy;

    /// Runs an operation that is compiled once for these lanes, wherever it is called from: what takes as long
    /// to compile as the searches of the quantizers, formats share in this way. All else is inlined.
    #[inline(always)]
    fn call<O: Call<Self>>(self, op: O) -> O::Output {
        op.eval(self)
    }

    /// The same float in every lane.
    fn splat(self, v: f32) -> Self::F32;
    /// The same integer in every lane.
    fn splat_i(self, v: i32) -> Self::I32;
    /// Lane `b` is `values[b]`.
    fn load(self, values: &PerLane<f32>) -> Self::F32;
    /// Writes lane `b` to `out[b]`.
    fn store(self, v: Self::F32, out: &mut PerLane<f32>);
    /// Writes lane `b` to `out[b]`.
    fn store_i(self, v: Self::I32, out: &mut PerLane<i32>);

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// Square root, correctly rounded.
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// Clears the sign bit.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// `if a < b { a } else { b }`: the second operand if they are equal or one is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a > b { a } else { b }`: the second operand if they are equal or one is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `max(abs(a), b)`, where `b` is not negative.
    #[inline(always)]
    fn max_abs(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        self.max(self.abs(a), b)
    }

    /// `a * b + c`, rounded once or twice, as it is faster. Not the same bits on every instance: for bounds
    /// that leave room for rounding, never for what bytes come from.
    #[inline(always)]
    fn loose_mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        self.add(self.mul(a, b), c)
    }

    /// `a * b - c`, as loosely as [`loose_mul_add`](Self::loose_mul_add).
    #[inline(always)]
    fn loose_mul_sub(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        self.sub(self.mul(a, b), c)
    }

    /// About `1 / a`, within an eight-thousandth of it, where both are normal numbers. Not the same bits on every
    /// instance: for guesses and bounds that leave room for it, never for what bytes come from.
    #[inline(always)]
    fn rough_inverse(self, a: Self::F32) -> Self::F32 {
        self.div(self.splat(1.0), a)
    }

    /// The nearest integer, ties to even, for magnitudes up to 2²²; zeros may have either sign.
    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        let magic = self.splat(ROUND_MAGIC);
        self.sub(self.add(a, magic), magic)
    }

    /// `a < b`, false for NaN.
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a <= b`, false for NaN.
    fn le(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a == b`, false for NaN.
    fn eq(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a == b`.
    fn eq_i(self, a: Self::I32, b: Self::I32) -> Self::Mask;
    /// Both.
    fn and(self, a: Self::Mask, b: Self::Mask) -> Self::Mask;
    /// Not.
    fn not(self, a: Self::Mask) -> Self::Mask;
    /// Whether the mask is set in any lane.
    fn any(self, a: Self::Mask) -> bool;
    /// `if mask { a } else { b }`.
    fn select(self, mask: Self::Mask, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if mask { a } else { b }`.
    fn select_i(self, mask: Self::Mask, a: Self::I32, b: Self::I32) -> Self::I32;

    /// `a + b`.
    fn add_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`.
    fn sub_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise and.
    fn and_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise or.
    fn or_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise exclusive or.
    fn xor_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Shift left by a constant below 32.
    fn shl<const BITS: u32>(self, a: Self::I32) -> Self::I32;
    /// Logical shift right by a constant below 32.
    fn shr<const BITS: u32>(self, a: Self::I32) -> Self::I32;
    /// The smaller, signed.
    fn min_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The larger, signed.
    fn max_i(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The smaller, unsigned.
    fn min_u(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The larger, unsigned.
    fn max_u(self, a: Self::I32, b: Self::I32) -> Self::I32;

    /// The bits of the floats.
    fn bits(self, a: Self::F32) -> Self::I32;
    /// The floats of the bits.
    fn bits_to_f32(self, a: Self::I32) -> Self::F32;
    /// Integer to float, exact below 2²⁴.
    fn to_f32(self, a: Self::I32) -> Self::F32;
    /// Float to integer, towards zero; `i32::MIN` where the value does not fit, as x86 has it.
    fn trunc(self, a: Self::F32) -> Self::I32;
    /// The IEEE half-precision bits nearest to the value, in the low 16 bits.
    fn to_f16_bits(self, a: Self::F32) -> Self::I32;
    /// The value of the half-precision bits in the low 16 bits.
    fn f16_bits_to_f32(self, a: Self::I32) -> Self::F32;

    /// Lane `b` is `values[b]`.
    #[inline(always)]
    fn load_i(self, values: &PerLane<i32>) -> Self::I32 {
        self.bits(self.load(&values.map(|v| f32::from_bits(v as u32))))
    }

    /// Lane `b` is `table[index[b] & 15]`.
    #[inline(always)]
    fn look_up(self, table: &[f32; 16], index: Self::I32) -> Self::F32 {
        let (mut indices, mut values) = ([0; MAX_LANES], [0.0; MAX_LANES]);
        self.store_i(index, &mut indices);
        for (value, index) in values.iter_mut().zip(indices).take(Self::N) {
            *value = table[index as usize & 15];
        }
        self.load(&values)
    }

    /// Lane `b` is `table[index[b] & 3]`.
    #[inline(always)]
    fn look_up_4(self, table: &[f32; 4], index: Self::I32) -> Self::F32 {
        self.look_up(&core::array::from_fn(|i| table[i & 3]), index)
    }

    /// Lane `b` is `table[index[b] & 7]`.
    #[inline(always)]
    fn look_up_8(self, table: &[f32; 8], index: Self::I32) -> Self::F32 {
        self.look_up(&core::array::from_fn(|i| table[i & 7]), index)
    }

    /// Lane `b` is `values[b]`.
    ///
    /// # Panics
    /// If there are fewer values than lanes.
    #[inline(always)]
    fn load_part(self, values: &[f32]) -> Self::F32 {
        let mut lanes = [0.0; MAX_LANES];
        lanes[..Self::N].copy_from_slice(&values[..Self::N]);
        self.load(&lanes)
    }

    /// Writes lane `b` to `out[b]`.
    ///
    /// # Panics
    /// If there is less room than there are lanes.
    #[inline(always)]
    fn store_part(self, v: Self::F32, out: &mut [f32]) {
        let mut lanes = [0.0; MAX_LANES];
        self.store(v, &mut lanes);
        out[..Self::N].copy_from_slice(&lanes[..Self::N]);
    }

    /// Lane `b` is `values[b]`.
    ///
    /// # Panics
    /// If there are fewer values than lanes.
    #[inline(always)]
    fn load_u16(self, values: &[u16]) -> Self::I32 {
        let mut lanes = [0; MAX_LANES];
        for (lane, value) in lanes.iter_mut().zip(&values[..Self::N]) {
            *lane = i32::from(*value);
        }
        self.load_i(&lanes)
    }

    /// Transposes: lane `b` of `out[i]` becomes `values[starts[b] + i]`. There are eight, or a multiple of it.
    ///
    /// # Panics
    /// If a lane's range ends past the slice.
    #[inline(always)]
    fn load_u16_columns(self, values: &[u16], starts: Self::I32, out: &mut [Self::I32]) {
        let (starts, mut column) = (self.places(starts), [0; MAX_LANES]);
        for (i, out) in out.iter_mut().enumerate() {
            for (value, start) in column.iter_mut().zip(starts).take(Self::N) {
                *value = values[start + i].into();
            }
            *out = self.load_i(&column);
        }
    }

    /// As [`load_columns`](Self::load_columns), from starts that are lanes themselves.
    ///
    /// # Panics
    /// If a lane's range ends past the slice.
    #[inline(always)]
    fn load_columns_at(self, values: &[f32], starts: Self::I32, out: &mut [Self::F32]) {
        self.load_columns(values, &self.places(starts), out);
    }

    /// The lanes as places in a slice.
    #[inline(always)]
    fn places(self, v: Self::I32) -> PerLane<usize> {
        let (mut lanes, mut places) = ([0; MAX_LANES], [0; MAX_LANES]);
        self.store_i(v, &mut lanes);
        for (place, lane) in places.iter_mut().zip(lanes).take(Self::N) {
            *place = lane as u32 as usize;
        }
        places
    }

    /// The least of the lanes, none of which is a NaN.
    #[inline(always)]
    fn lowest(self, a: Self::F32) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        self.store(a, &mut lanes);
        lanes
            .iter()
            .take(Self::N)
            .fold(f32::INFINITY, |least, v| if *v < least { *v } else { least })
    }

    /// Bit `b` is set where the mask is, in lane `b`.
    #[inline(always)]
    fn mask_bits(self, a: Self::Mask) -> u32 {
        let mut lanes = [0; MAX_LANES];
        self.store_i(self.select_i(a, self.splat_i(1), self.splat_i(0)), &mut lanes);
        (0..Self::N).fold(0, |bits, lane| bits | (lanes[lane] as u32) << lane)
    }

    /// Lane `b` is `table[index[b] & (table.len() - 1)]`.
    ///
    /// # Panics
    /// If the length of the table is no power of two.
    #[inline(always)]
    fn gather(self, table: &[f32], index: Self::I32) -> Self::F32 {
        assert!(table.len().is_power_of_two(), "the length of a table is a power of two");
        let (mut indices, mut values) = ([0; MAX_LANES], [0.0; MAX_LANES]);
        self.store_i(index, &mut indices);
        for (value, index) in values.iter_mut().zip(indices).take(Self::N) {
            *value = table[index as u32 as usize & (table.len() - 1)];
        }
        self.load(&values)
    }

    /// Writes those lanes in which the mask is set to the start of `out`, in their order, and says how many
    /// these are. What stands in the places after them is not specified.
    ///
    /// # Panics
    /// If there is less room than there are lanes.
    #[inline(always)]
    fn compress_i(self, mask: Self::Mask, v: Self::I32, out: &mut [i32]) -> usize {
        let out = &mut out[..Self::N];
        let mut lanes = [0; MAX_LANES];
        self.store_i(v, &mut lanes);
        let bits = self.mask_bits(mask);
        let mut count = 0;
        for (b, lane) in lanes.iter().enumerate().take(Self::N) {
            out[count] = *lane;
            count = count.wrapping_add((bits >> b & 1) as usize);
        }
        count
    }

    /// The sum of the lanes, in their order.
    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        self.store(a, &mut lanes);
        lanes.iter().take(Self::N).fold(0.0, |sum, v| sum + v)
    }

    /// The sum of the lanes.
    #[inline(always)]
    fn sum_i(self, a: Self::I32) -> i32 {
        let mut lanes = [0; MAX_LANES];
        self.store_i(a, &mut lanes);
        lanes.iter().take(Self::N).fold(0, |sum, v| sum.wrapping_add(*v))
    }

    /// `e` to the power of `a`, within 2 units in the last place where that is a normal number; 0 below
    /// −87.3, infinity above 88.7, NaN for NaN. The same bits on every instance.
    #[inline(always)]
    fn exp(self, a: Self::F32) -> Self::F32 {
        exp::exp(self, a)
    }

    /// Half precision, little-endian, to single precision: as many values as `out` holds, a multiple
    /// of sixteen.
    #[inline(always)]
    fn widen_halves(self, bytes: &[u8], out: &mut [f32]) {
        for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
            *out = half::f16::from_le_bytes(*bytes).to_f32();
        }
    }

    /// The inverse of [`widen_halves`](Self::widen_halves), to nearest even; what is too large becomes
    /// infinity.
    #[inline(always)]
    fn narrow_halves(self, values: &[f32], out: &mut [u8]) {
        for (v, out) in values.iter().zip(out.as_chunks_mut().0) {
            *out = half::f16::from_f32(*v).to_le_bytes();
        }
    }

    /// Transposes: lane `b` of `out[i]` becomes `values[starts[b] + i]`. There are eight, or a multiple of it.
    ///
    /// # Panics
    /// If a lane's range ends past the slice.
    #[inline(always)]
    fn load_columns(self, values: &[f32], starts: &PerLane<usize>, out: &mut [Self::F32]) {
        let mut column = [0.0; MAX_LANES];
        for (i, out) in out.iter_mut().enumerate() {
            for (value, start) in column.iter_mut().zip(starts).take(Self::N) {
                *value = values[start + i];
            }
            *out = self.load(&column);
        }
    }
}

/// Rounds to the nearest integer, ties to even, as ggml's quantizers do: by adding 1.5·2²³ and
/// reading the low mantissa bits. Beyond ±2²² the result wraps, and an infinity gives −2²², which
/// differs from a conversion instruction; the wrap decides bytes in degenerate blocks.
#[inline(always)]
pub(crate) fn nearest_int<S: Lanes>(s: S, v: S::F32) -> S::I32 {
    let shifted = s.bits(s.add(v, s.splat(ROUND_MAGIC)));
    s.sub_i(s.and_i(shifted, s.splat_i(0x007f_ffff)), s.splat_i(0x0040_0000))
}

/// 1.5·2²³: adding it to a float of magnitude up to 2²² leaves the rounded integer in the mantissa.
pub(crate) const ROUND_MAGIC: f32 = 12_582_912.0;

/// The magnitude up to which [`nearest_int`] is ordinary rounding.
pub(crate) const ROUND_LIMIT: f32 = 4_194_303.0;

/// [`nearest_int`] limited to `lo..=hi`.
#[inline(always)]
pub(crate) fn nearest_clamped<S: Lanes>(s: S, v: S::F32, lo: i32, hi: i32) -> S::I32 {
    s.max_i(s.splat_i(lo), s.min_i(s.splat_i(hi), nearest_int(s, v)))
}

/// [`nearest_clamped`] as a float, for values known to be within ±[`ROUND_LIMIT`]: limiting first
/// is the same because the limits are integers.
#[inline(always)]
pub(crate) fn nearest_clamped_float<S: Lanes>(s: S, v: S::F32, lo: f32, hi: f32) -> S::F32 {
    s.round(clamp(s, v, lo, hi))
}

/// Limits `v` to `lo..=hi`, where `lo <= 0 <= hi`; zeros may have either sign.
///
/// Floats of one sign order as their bits do, so integers can compare them: on some CPUs (Zen 4)
/// float minimums compete with the additions of a search for the same unit, integer ones do not.
#[inline(always)]
pub(crate) fn clamp<S: Lanes>(s: S, v: S::F32, lo: f32, hi: f32) -> S::F32 {
    let below = s.bits(clamp_above(s, v, hi));
    s.bits_to_f32(if lo == 0.0 {
        s.max_i(below, s.splat_i(0))
    } else {
        // As unsigned integers negative floats are above all others, further from zero higher.
        s.min_u(below, s.bits(s.splat(lo)))
    })
}

/// Limits `v` to at most `hi`, which is not negative.
#[inline(always)]
pub(crate) fn clamp_above<S: Lanes>(s: S, v: S::F32, hi: f32) -> S::F32 {
    // As signed integers all negative floats are below the limit and stay as they are.
    s.bits_to_f32(s.min_i(s.bits(v), s.bits(s.splat(hi))))
}
