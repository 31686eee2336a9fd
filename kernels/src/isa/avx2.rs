//! AVX2 with FMA and F16C: eight lanes.

use std::arch::x86_64::*;

use quant_core::lanes::{Lanes, PerLane, Sealed};

use super::token::{call_with_features, lane_ops};

/// Eight lanes. Holding one proves that the CPU has AVX2, FMA and F16C, and AVX-VNNI if it says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2<const VNNI: bool> {
    _private: (),
}

impl<const VNNI: bool> Avx2<VNNI> {
    /// The token, if the CPU has what it stands for.
    pub(crate) fn new() -> Option<Self> {
        let detected = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        detected.then_some(Self { _private: () })
    }
}

impl<const VNNI: bool> Sealed for Avx2<VNNI> {}

impl<const VNNI: bool> Lanes for Avx2<VNNI> {
    const N: usize = 8;
    const PAIRS: bool = true;
    type F32 = __m256;
    type I32 = __m256i;
    type Mask = __m256;

    lane_ops! {
        splat(v: f32) -> __m256 { _mm256_set1_ps(v) }
        splat_i(v: i32) -> __m256i { _mm256_set1_epi32(v) }
        load(values: &PerLane<f32>) -> __m256 { _mm256_loadu_ps(values.as_ptr()) }
        store(v: __m256, out: &mut PerLane<f32>) -> () { _mm256_storeu_ps(out.as_mut_ptr(), v) }
        store_i(v: __m256i, out: &mut PerLane<i32>) -> () {
            _mm256_storeu_si256(out.as_mut_ptr().cast(), v)
        }
        add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
        sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
        mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
        loose_mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
        loose_mul_sub(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmsub_ps(a, b, c) }
        div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
        sqrt(a: __m256) -> __m256 { _mm256_sqrt_ps(a) }
        rough_inverse(a: __m256) -> __m256 {
            let inverse = _mm256_rcp_ps(a);
            _mm256_mul_ps(inverse, _mm256_fnmadd_ps(a, inverse, _mm256_set1_ps(2.0)))
        }
        abs(a: __m256) -> __m256 { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
        min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
        max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
        round(a: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        lt(a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
        le(a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_LE_OQ>(a, b) }
        eq(a: __m256, b: __m256) -> __m256 { _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b) }
        eq_i(a: __m256i, b: __m256i) -> __m256 { _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)) }
        and(a: __m256, b: __m256) -> __m256 { _mm256_and_ps(a, b) }
        not(a: __m256) -> __m256 {
            _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))
        }
        any(a: __m256) -> bool { _mm256_movemask_ps(a) != 0 }
        select(mask: __m256, a: __m256, b: __m256) -> __m256 { _mm256_blendv_ps(b, a, mask) }
        select_i(mask: __m256, a: __m256i, b: __m256i) -> __m256i {
            _mm256_castps_si256(_mm256_blendv_ps(
                _mm256_castsi256_ps(b),
                _mm256_castsi256_ps(a),
                mask,
            ))
        }
        add_i(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) }
        sub_i(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi32(a, b) }
        and_i(a: __m256i, b: __m256i) -> __m256i { _mm256_and_si256(a, b) }
        or_i(a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        xor_i(a: __m256i, b: __m256i) -> __m256i { _mm256_xor_si256(a, b) }
        load_i(values: &PerLane<i32>) -> __m256i { _mm256_loadu_si256(values.as_ptr().cast()) }
        // The instruction looks up eight floats by the lowest three bits of the index.
        look_up(table: &[f32; 16], index: __m256i) -> __m256 {
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), index);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(8)), index);
            _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)))
        }
        look_up_4(table: &[f32; 4], index: __m256i) -> __m256 {
            let table = _mm_loadu_ps(table.as_ptr());
            _mm256_permutevar_ps(_mm256_set_m128(table, table), index)
        }
        look_up_8(table: &[f32; 8], index: __m256i) -> __m256 {
            _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), index)
        }
        load_part(values: &[f32]) -> __m256 { _mm256_loadu_ps(values[..8].as_ptr()) }
        store_part(v: __m256, out: &mut [f32]) -> () {
            _mm256_storeu_ps(out[..8].as_mut_ptr(), v)
        }
        load_u16(values: &[u16]) -> __m256i {
            _mm256_cvtepu16_epi32(_mm_loadu_si128(values[..8].as_ptr().cast()))
        }
        lowest(a: __m256) -> f32 {
            let four = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
        mask_bits(mask: __m256) -> u32 { _mm256_movemask_ps(mask) as u32 }
        min_i(a: __m256i, b: __m256i) -> __m256i { _mm256_min_epi32(a, b) }
        max_i(a: __m256i, b: __m256i) -> __m256i { _mm256_max_epi32(a, b) }
        min_u(a: __m256i, b: __m256i) -> __m256i { _mm256_min_epu32(a, b) }
        max_u(a: __m256i, b: __m256i) -> __m256i { _mm256_max_epu32(a, b) }
        bits(a: __m256) -> __m256i { _mm256_castps_si256(a) }
        bits_to_f32(a: __m256i) -> __m256 { _mm256_castsi256_ps(a) }
        to_f32(a: __m256i) -> __m256 { _mm256_cvtepi32_ps(a) }
        trunc(a: __m256) -> __m256i { _mm256_cvttps_epi32(a) }
        to_f16_bits(a: __m256) -> __m256i {
            _mm256_cvtepu16_epi32(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a))
        }
        f16_bits_to_f32(a: __m256i) -> __m256 {
            // The pack saturates within 128-bit halves: the bits are below 2¹⁶, and the two
            // halves of the result are joined by the permutation.
            let packed = _mm256_packus_epi32(a, a);
            let joined = _mm256_permute4x64_epi64::<0x08>(packed);
            _mm256_cvtph_ps(_mm256_castsi256_si128(joined))
        }
    }

    call_with_features! { "avx2,fma,f16c" }
    #[inline(always)]
    fn shl<const BITS: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(BITS as i32)) }
    }
    #[inline(always)]
    fn shr<const BITS: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_srl_epi32(a, _mm_cvtsi32_si128(BITS as i32)) }
    }

    #[inline(always)]
    fn widen_halves(self, bytes: &[u8], out: &mut [f32]) {
        for (halves, out) in bytes.chunks_exact(16).zip(out.chunks_exact_mut(8)) {
            // SAFETY: the chunks hold eight elements; the token proves AVX2 and F16C.
            unsafe {
                let bits = _mm_loadu_si128(halves.as_ptr().cast());
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(bits));
            }
        }
    }
    #[inline(always)]
    fn narrow_halves(self, values: &[f32], out: &mut [u8]) {
        for (values, out) in values.chunks_exact(8).zip(out.chunks_exact_mut(16)) {
            // SAFETY: the chunks hold eight elements; the token proves AVX2 and F16C.
            unsafe {
                let values = _mm256_loadu_ps(values.as_ptr());
                let bits = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
                _mm_storeu_si128(out.as_mut_ptr().cast(), bits);
            }
        }
    }

    #[inline(always)]
    fn gather(self, table: &[f32], index: __m256i) -> __m256 {
        assert!(table.len().is_power_of_two(), "the length of a table is a power of two");
        let last = self.splat_i(i32::try_from(table.len() - 1).unwrap_or(i32::MAX));
        // SAFETY: the indices are within the table; the token proves AVX2.
        unsafe { _mm256_i32gather_ps::<4>(table.as_ptr(), _mm256_and_si256(index, last)) }
    }

    #[inline(always)]
    fn compress_i(self, mask: __m256, v: __m256i, out: &mut [i32]) -> usize {
        let out = &mut out[..8];
        let bits = self.mask_bits(mask) as usize & 255;
        // SAFETY: there is room for eight integers; the token proves AVX2.
        unsafe {
            let from = _mm256_cvtepu8_epi32(_mm_loadl_epi64(COMPRESSED[bits].as_ptr().cast()));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_permutevar8x32_epi32(v, from));
        }
        COUNTS[bits].into()
    }

    #[inline(always)]
    fn load_u16_columns(self, values: &[u16], starts: __m256i, out: &mut [__m256i]) {
        let starts = self.places(starts);
        for (t, tile) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut rows = [&values[..8]; 8];
            for (row, start) in rows.iter_mut().zip(starts) {
                *row = &values[start + 8 * t..][..8];
            }
            // SAFETY: the slices have eight integers; the token proves AVX2.
            *tile = unsafe { transpose_u16(rows.map(|row| row.as_ptr().cast())) };
        }
    }

    #[inline(always)]
    fn load_columns(self, values: &[f32], starts: &PerLane<usize>, out: &mut [__m256]) {
        let (tiles, rest) = out.as_chunks_mut::<8>();
        debug_assert!(rest.is_empty(), "formats load whole tiles");
        for (t, tile) in tiles.iter_mut().enumerate() {
            let mut rows = [self.splat(0.0); 8];
            for (row, start) in rows.iter_mut().zip(starts) {
                let source = &values[start + 8 * t..][..8];
                // SAFETY: the slice has eight floats; the token proves AVX2.
                *row = unsafe { _mm256_loadu_ps(source.as_ptr()) };
            }
            // SAFETY: the token proves AVX2.
            *tile = unsafe { transpose(rows) };
        }
    }
}

/// The lanes that are set, in order, for each mask.
static COMPRESSED: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut bits = 0;
    while bits < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < 8 {
            if bits >> lane & 1 == 1 {
                table[bits][count] = lane as u8;
                count += 1;
            }
            lane += 1;
        }
        bits += 1;
    }
    table
};

/// How many lanes are set, for each mask.
static COUNTS: [u8; 256] = {
    let mut table = [0; 256];
    let mut bits: usize = 0;
    while bits < 256 {
        table[bits] = bits.count_ones() as u8;
        bits += 1;
    }
    table
};

/// Transposes eight rows of eight 16-bit integers, and widens them.
///
/// # Safety
/// Eight integers can be read from each pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose_u16(rows: [*const __m128i; 8]) -> [__m256i; 8] {
    // SAFETY: the caller's.
    let row = |i: usize| unsafe { _mm_loadu_si128(rows[i]) };
    let both = |i: usize| _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(i)), row(4 + i));
    // Within 128 bits, which have four rows in order.
    let (a, b, c, d) = (both(0), both(1), both(2), both(3));
    let (ab_lo, ab_hi) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
    let (cd_lo, cd_hi) = (_mm256_unpacklo_epi16(c, d), _mm256_unpackhi_epi16(c, d));
    let pairs = [
        _mm256_unpacklo_epi32(ab_lo, cd_lo),
        _mm256_unpackhi_epi32(ab_lo, cd_lo),
        _mm256_unpacklo_epi32(ab_hi, cd_hi),
        _mm256_unpackhi_epi32(ab_hi, cd_hi),
    ];
    let zero = _mm256_setzero_si256();
    let mut out = [zero; 8];
    for (out, pair) in out.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        *out = [_mm256_unpacklo_epi16(pair, zero), _mm256_unpackhi_epi16(pair, zero)];
    }
    out
}

/// Transposes an 8 × 8 tile: pairs, quads, then 128-bit halves.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    let mut quads = [_mm256_setzero_ps(); 8];
    for i in 0..2 {
        let (a, b, c, d) = (r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
        let (ab_lo, ab_hi) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_lo, cd_hi) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        quads[4 * i] = _mm256_shuffle_ps::<0x44>(ab_lo, cd_lo);
        quads[4 * i + 1] = _mm256_shuffle_ps::<0xee>(ab_lo, cd_lo);
        quads[4 * i + 2] = _mm256_shuffle_ps::<0x44>(ab_hi, cd_hi);
        quads[4 * i + 3] = _mm256_shuffle_ps::<0xee>(ab_hi, cd_hi);
    }
    let mut out = quads;
    for i in 0..4 {
        out[i] = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
        out[i + 4] = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
    }
    out
}

/// AVX2 without VNNI: all that quantizers need.
pub(crate) type Token = Avx2<false>;
