//! SSE4.1: four lanes, for x86-64 CPUs without AVX2.

use std::arch::x86_64::*;

use quant_core::lanes::{Lanes, PerLane, Sealed};

use super::token::{call_with_features, lane_ops};

/// Four lanes. Holding one proves that the CPU has SSE4.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sse41 {
    _private: (),
}

impl Sse41 {
    /// The token, if the CPU has what it stands for.
    pub(crate) fn new() -> Option<Self> {
        is_x86_feature_detected!("sse4.1").then_some(Self { _private: () })
    }
}

impl Sealed for Sse41 {}

impl Lanes for Sse41 {
    const N: usize = 4;
    type F32 = __m128;
    type I32 = __m128i;
    type Mask = __m128;

    lane_ops! {
        splat(v: f32) -> __m128 { _mm_set1_ps(v) }
        splat_i(v: i32) -> __m128i { _mm_set1_epi32(v) }
        load(values: &PerLane<f32>) -> __m128 { _mm_loadu_ps(values.as_ptr()) }
        store(v: __m128, out: &mut PerLane<f32>) -> () { _mm_storeu_ps(out.as_mut_ptr(), v) }
        store_i(v: __m128i, out: &mut PerLane<i32>) -> () {
            _mm_storeu_si128(out.as_mut_ptr().cast(), v)
        }
        add(a: __m128, b: __m128) -> __m128 { _mm_add_ps(a, b) }
        sub(a: __m128, b: __m128) -> __m128 { _mm_sub_ps(a, b) }
        mul(a: __m128, b: __m128) -> __m128 { _mm_mul_ps(a, b) }
        div(a: __m128, b: __m128) -> __m128 { _mm_div_ps(a, b) }
        sqrt(a: __m128) -> __m128 { _mm_sqrt_ps(a) }
        abs(a: __m128) -> __m128 { _mm_andnot_ps(_mm_set1_ps(-0.0), a) }
        min(a: __m128, b: __m128) -> __m128 { _mm_min_ps(a, b) }
        max(a: __m128, b: __m128) -> __m128 { _mm_max_ps(a, b) }
        round(a: __m128) -> __m128 {
            _mm_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        lt(a: __m128, b: __m128) -> __m128 { _mm_cmplt_ps(a, b) }
        le(a: __m128, b: __m128) -> __m128 { _mm_cmple_ps(a, b) }
        eq(a: __m128, b: __m128) -> __m128 { _mm_cmpeq_ps(a, b) }
        eq_i(a: __m128i, b: __m128i) -> __m128 { _mm_castsi128_ps(_mm_cmpeq_epi32(a, b)) }
        and(a: __m128, b: __m128) -> __m128 { _mm_and_ps(a, b) }
        not(a: __m128) -> __m128 { _mm_xor_ps(a, _mm_castsi128_ps(_mm_set1_epi32(-1))) }
        any(a: __m128) -> bool { _mm_movemask_ps(a) != 0 }
        select(mask: __m128, a: __m128, b: __m128) -> __m128 { _mm_blendv_ps(b, a, mask) }
        select_i(mask: __m128, a: __m128i, b: __m128i) -> __m128i {
            _mm_blendv_epi8(b, a, _mm_castps_si128(mask))
        }
        add_i(a: __m128i, b: __m128i) -> __m128i { _mm_add_epi32(a, b) }
        sub_i(a: __m128i, b: __m128i) -> __m128i { _mm_sub_epi32(a, b) }
        and_i(a: __m128i, b: __m128i) -> __m128i { _mm_and_si128(a, b) }
        or_i(a: __m128i, b: __m128i) -> __m128i { _mm_or_si128(a, b) }
        xor_i(a: __m128i, b: __m128i) -> __m128i { _mm_xor_si128(a, b) }
        load_i(values: &PerLane<i32>) -> __m128i { _mm_loadu_si128(values.as_ptr().cast()) }
        min_i(a: __m128i, b: __m128i) -> __m128i { _mm_min_epi32(a, b) }
        max_i(a: __m128i, b: __m128i) -> __m128i { _mm_max_epi32(a, b) }
        min_u(a: __m128i, b: __m128i) -> __m128i { _mm_min_epu32(a, b) }
        max_u(a: __m128i, b: __m128i) -> __m128i { _mm_max_epu32(a, b) }
        bits(a: __m128) -> __m128i { _mm_castps_si128(a) }
        bits_to_f32(a: __m128i) -> __m128 { _mm_castsi128_ps(a) }
        to_f32(a: __m128i) -> __m128 { _mm_cvtepi32_ps(a) }
        trunc(a: __m128) -> __m128i { _mm_cvttps_epi32(a) }
    }

    call_with_features! { "sse4.1" }
    #[inline(always)]
    fn shl<const BITS: u32>(self, a: __m128i) -> __m128i {
        // SAFETY: every x86-64 CPU has SSE2.
        unsafe { _mm_sll_epi32(a, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shr<const BITS: u32>(self, a: __m128i) -> __m128i {
        // SAFETY: every x86-64 CPU has SSE2.
        unsafe { _mm_srl_epi32(a, _mm_cvtsi32_si128(BITS as i32)) }
    }

    // There are no instructions for half precision; a block needs one or two of these.
    #[inline(always)]
    fn to_f16_bits(self, a: __m128) -> __m128i {
        let mut values = [0.0; 4];
        // SAFETY: the array has four floats.
        unsafe { _mm_storeu_ps(values.as_mut_ptr(), a) };
        let [a, b, c, d] = values.map(|v| i32::from(half::f16::from_f32(v).to_bits()));
        // SAFETY: every x86-64 CPU has SSE2.
        unsafe { _mm_setr_epi32(a, b, c, d) }
    }
    #[inline(always)]
    fn f16_bits_to_f32(self, a: __m128i) -> __m128 {
        let mut bits = [0i32; 4];
        // SAFETY: the array has four integers.
        unsafe { _mm_storeu_si128(bits.as_mut_ptr().cast(), a) };
        let [a, b, c, d] = bits.map(|bits| half::f16::from_bits(bits as u16).to_f32());
        // SAFETY: every x86-64 CPU has SSE.
        unsafe { _mm_setr_ps(a, b, c, d) }
    }

    #[inline(always)]
    fn widen_halves(self, bytes: &[u8], out: &mut [f32]) {
        for (bytes, out) in bytes.chunks_exact(8).zip(out.chunks_exact_mut(4)) {
            // SAFETY: the chunks hold four elements; the token proves SSE4.1.
            unsafe {
                let bits = _mm_loadl_epi64(bytes.as_ptr().cast());
                _mm_storeu_ps(out.as_mut_ptr(), singles(_mm_cvtepu16_epi32(bits)));
            }
        }
    }

    #[inline(always)]
    fn load_columns(self, values: &[f32], starts: &PerLane<usize>, out: &mut [__m128]) {
        let (tiles, rest) = out.as_chunks_mut::<4>();
        debug_assert!(rest.is_empty(), "formats load whole tiles");
        for (t, [a, b, c, d]) in tiles.iter_mut().enumerate() {
            for (row, start) in [&mut *a, &mut *b, &mut *c, &mut *d].into_iter().zip(starts) {
                let source = &values[start + 4 * t..][..4];
                // SAFETY: the slice has four floats; every x86-64 CPU has SSE.
                *row = unsafe { _mm_loadu_ps(source.as_ptr()) };
            }
            // SAFETY: every x86-64 CPU has SSE.
            unsafe { _MM_TRANSPOSE4_PS(a, b, c, d) };
        }
    }
}

/// Half precision widened by shifting: the exponent is put right by a multiplication, which is
/// exact, subnormal numbers included; infinities and NaNs get their exponent by themselves.
#[inline]
#[target_feature(enable = "sse4.1")]
pub(super) fn singles(bits: __m128i) -> __m128 {
    let magnitude = _mm_and_si128(bits, _mm_set1_epi32(0x7fff));
    let sign = _mm_slli_epi32::<16>(_mm_xor_si128(bits, magnitude));
    let shifted = _mm_castsi128_ps(_mm_slli_epi32::<13>(magnitude));
    // 2¹¹²: the difference between the biases of the two formats.
    let scaled = _mm_mul_ps(shifted, _mm_castsi128_ps(_mm_set1_epi32(0x7780_0000)));
    let special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff));
    let special = _mm_and_si128(special, _mm_set1_epi32(0x7f80_0000));
    _mm_or_ps(_mm_or_ps(scaled, _mm_castsi128_ps(special)), _mm_castsi128_ps(sign))
}
