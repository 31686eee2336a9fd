//! AVX-512: sixteen lanes.

use std::arch::x86_64::*;

use quant_core::lanes::{Lanes, PerLane, Sealed};

use super::token::{call_with_features, lane_ops};

/// Sixteen lanes. Holding one proves that the CPU has AVX-512 F, BW, DQ and VL and POPCNT, and VNNI if it
/// says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512<const VNNI: bool> {
    _private: (),
}

impl<const VNNI: bool> Avx512<VNNI> {
    /// The token, if the CPU has what it stands for.
    pub(crate) fn new() -> Option<Self> {
        let detected = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("popcnt")
            && (!VNNI || is_x86_feature_detected!("avx512vnni"));
        detected.then_some(Self { _private: () })
    }
}

impl<const VNNI: bool> Sealed for Avx512<VNNI> {}

impl<const VNNI: bool> Lanes for Avx512<VNNI> {
    const N: usize = 16;
    const PAIRS: bool = true;
    type F32 = __m512;
    type I32 = __m512i;
    type Mask = __mmask16;

    lane_ops! {
        splat(v: f32) -> __m512 { _mm512_set1_ps(v) }
        splat_i(v: i32) -> __m512i { _mm512_set1_epi32(v) }
        load(values: &PerLane<f32>) -> __m512 { _mm512_loadu_ps(values.as_ptr()) }
        store(v: __m512, out: &mut PerLane<f32>) -> () { _mm512_storeu_ps(out.as_mut_ptr(), v) }
        store_i(v: __m512i, out: &mut PerLane<i32>) -> () {
            _mm512_storeu_si512(out.as_mut_ptr().cast(), v)
        }
        add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        loose_mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        loose_mul_sub(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmsub_ps(a, b, c) }
        div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        sqrt(a: __m512) -> __m512 { _mm512_sqrt_ps(a) }
        rough_inverse(a: __m512) -> __m512 { _mm512_rcp14_ps(a) }
        abs(a: __m512) -> __m512 { _mm512_abs_ps(a) }
        min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        // The larger magnitude, without a sign.
        max_abs(a: __m512, b: __m512) -> __m512 { _mm512_range_ps::<0b1011>(a, b) }
        round(a: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        lt(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
        le(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b) }
        eq(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
        eq_i(a: __m512i, b: __m512i) -> __mmask16 { _mm512_cmpeq_epi32_mask(a, b) }
        select(mask: __mmask16, a: __m512, b: __m512) -> __m512 {
            _mm512_mask_blend_ps(mask, b, a)
        }
        select_i(mask: __mmask16, a: __m512i, b: __m512i) -> __m512i {
            _mm512_mask_blend_epi32(mask, b, a)
        }
        add_i(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        sub_i(a: __m512i, b: __m512i) -> __m512i { _mm512_sub_epi32(a, b) }
        and_i(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        or_i(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        xor_i(a: __m512i, b: __m512i) -> __m512i { _mm512_xor_si512(a, b) }
        load_i(values: &PerLane<i32>) -> __m512i { _mm512_loadu_si512(values.as_ptr().cast()) }
        look_up(table: &[f32; 16], index: __m512i) -> __m512 {
            _mm512_permutexvar_ps(index, _mm512_loadu_ps(table.as_ptr()))
        }
        look_up_4(table: &[f32; 4], index: __m512i) -> __m512 {
            _mm512_permutevar_ps(_mm512_broadcast_f32x4(_mm_loadu_ps(table.as_ptr())), index)
        }
        look_up_8(table: &[f32; 8], index: __m512i) -> __m512 {
            let table = _mm512_broadcast_f32x8(_mm256_loadu_ps(table.as_ptr()));
            _mm512_permutexvar_ps(index, table)
        }
        load_part(values: &[f32]) -> __m512 { _mm512_loadu_ps(values[..16].as_ptr()) }
        store_part(v: __m512, out: &mut [f32]) -> () {
            _mm512_storeu_ps(out[..16].as_mut_ptr(), v)
        }
        load_u16(values: &[u16]) -> __m512i {
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(values[..16].as_ptr().cast()))
        }
        lowest(a: __m512) -> f32 { _mm512_reduce_min_ps(a) }
        sum_i(a: __m512i) -> i32 { _mm512_reduce_add_epi32(a) }
        min_i(a: __m512i, b: __m512i) -> __m512i { _mm512_min_epi32(a, b) }
        max_i(a: __m512i, b: __m512i) -> __m512i { _mm512_max_epi32(a, b) }
        min_u(a: __m512i, b: __m512i) -> __m512i { _mm512_min_epu32(a, b) }
        max_u(a: __m512i, b: __m512i) -> __m512i { _mm512_max_epu32(a, b) }
        bits(a: __m512) -> __m512i { _mm512_castps_si512(a) }
        bits_to_f32(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        to_f32(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        trunc(a: __m512) -> __m512i { _mm512_cvttps_epi32(a) }
        to_f16_bits(a: __m512) -> __m512i {
            _mm512_cvtepu16_epi32(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a))
        }
        f16_bits_to_f32(a: __m512i) -> __m512 { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)) }
    }

    call_with_features! { "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt" }
    #[inline(always)]
    fn shl<const BITS: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_slli_epi32::<BITS>(a) }
    }
    #[inline(always)]
    fn shr<const BITS: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512.
        unsafe { _mm512_srli_epi32::<BITS>(a) }
    }
    #[inline(always)]
    fn and(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn not(self, a: __mmask16) -> __mmask16 {
        !a
    }
    #[inline(always)]
    fn any(self, a: __mmask16) -> bool {
        a != 0
    }
    #[inline(always)]
    fn mask_bits(self, a: __mmask16) -> u32 {
        a.into()
    }

    #[inline(always)]
    fn widen_halves(self, bytes: &[u8], out: &mut [f32]) {
        for (halves, out) in bytes.chunks_exact(32).zip(out.chunks_exact_mut(16)) {
            // SAFETY: the chunks hold sixteen elements; the token proves AVX-512.
            unsafe {
                let bits = _mm256_loadu_si256(halves.as_ptr().cast());
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtph_ps(bits));
            }
        }
    }
    #[inline(always)]
    fn narrow_halves(self, values: &[f32], out: &mut [u8]) {
        for (values, out) in values.chunks_exact(16).zip(out.chunks_exact_mut(32)) {
            // SAFETY: the chunks hold sixteen elements; the token proves AVX-512.
            unsafe {
                let values = _mm512_loadu_ps(values.as_ptr());
                let bits = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
                _mm256_storeu_si256(out.as_mut_ptr().cast(), bits);
            }
        }
    }

    #[inline(always)]
    fn gather(self, table: &[f32], index: __m512i) -> __m512 {
        assert!(table.len().is_power_of_two(), "the length of a table is a power of two");
        let last = self.splat_i(i32::try_from(table.len() - 1).unwrap_or(i32::MAX));
        // SAFETY: the indices are within the table; the token proves AVX-512.
        unsafe { _mm512_i32gather_ps::<4>(_mm512_and_si512(index, last), table.as_ptr()) }
    }

    #[inline(always)]
    fn compress_i(self, mask: __mmask16, v: __m512i, out: &mut [i32]) -> usize {
        let out = &mut out[..16];
        // SAFETY: there is room for sixteen integers; the token proves AVX-512. Stored in a piece: some CPUs
        // are slow at storing some lanes.
        unsafe {
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_compress_epi32(mask, v));
        }
        mask.count_ones() as usize
    }

    #[inline(always)]
    fn load_u16_columns(self, values: &[u16], starts: __m512i, out: &mut [__m512i]) {
        // SAFETY: the token proves AVX-512.
        let starts = unsafe { checked_starts(values.len(), out.len(), starts) };
        for (t, tile) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut rows = [std::ptr::null(); 16];
            for (row, start) in rows.iter_mut().zip(starts) {
                // SAFETY: as many integers as there are vectors lie behind each start.
                *row = unsafe { values.as_ptr().add(start as usize).add(8 * t).cast() };
            }
            // SAFETY: the tile's eight are among them; the token proves AVX-512.
            *tile = unsafe { transpose_u16(rows) };
        }
    }

    #[inline(always)]
    fn load_columns_at(self, values: &[f32], starts: __m512i, out: &mut [__m512]) {
        // SAFETY: the token proves AVX-512.
        let starts = unsafe { checked_starts(values.len(), out.len(), starts) };
        for (t, tile) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut rows = [self.splat(0.0); 8];
            for (i, row) in rows.iter_mut().enumerate() {
                let at = 8 * (i / 4) + i % 4;
                // SAFETY: as many floats as there are vectors lie behind each start, the tile's eight among them;
                // the token proves AVX-512.
                *row = unsafe {
                    let one = values.as_ptr().add(starts[at] as usize).add(8 * t);
                    let other = values.as_ptr().add(starts[at + 4] as usize).add(8 * t);
                    let one = _mm512_castps256_ps512(_mm256_loadu_ps(one));
                    _mm512_insertf32x8::<1>(one, _mm256_loadu_ps(other))
                };
            }
            // SAFETY: the token proves AVX-512.
            *tile = unsafe { transpose_8(rows) };
        }
    }

    #[inline(always)]
    fn load_columns(self, values: &[f32], starts: &PerLane<usize>, out: &mut [__m512]) {
        let (tiles, rest) = out.as_chunks_mut::<16>();
        let done = tiles.len() * 16;
        for (t, tile) in tiles.iter_mut().enumerate() {
            let mut rows = [self.splat(0.0); 16];
            for (row, start) in rows.iter_mut().zip(starts) {
                let source = &values[start + 16 * t..][..16];
                // SAFETY: the slice has sixteen floats; the token proves AVX-512.
                *row = unsafe { _mm512_loadu_ps(source.as_ptr()) };
            }
            // SAFETY: the token proves AVX-512.
            *tile = unsafe { transpose(rows) };
        }
        let (tiles, rest) = rest.as_chunks_mut::<8>();
        debug_assert!(rest.is_empty(), "formats load whole tiles");
        for tile in tiles {
            let mut rows = [self.splat(0.0); 8];
            for (i, row) in rows.iter_mut().enumerate() {
                let at = 8 * (i / 4) + i % 4;
                let one = &values[starts[at] + done..][..8];
                let other = &values[starts[at + 4] + done..][..8];
                // SAFETY: the slices have eight floats; the token proves AVX-512.
                *row = unsafe {
                    let one = _mm512_castps256_ps512(_mm256_loadu_ps(one.as_ptr()));
                    _mm512_insertf32x8::<1>(one, _mm256_loadu_ps(other.as_ptr()))
                };
            }
            // SAFETY: the token proves AVX-512.
            *tile = unsafe { transpose_8(rows) };
        }
    }
}

/// The starts of rows of `len` values, which end within as many values as there are: one comparison tells for
/// all.
///
/// # Panics
/// If a row does not.
#[inline]
#[target_feature(enable = "avx512f")]
fn checked_starts(values: usize, len: usize, starts: __m512i) -> [u32; 16] {
    assert!(len <= values && values <= i32::MAX as usize, "starts of rows are numbers of a lane");
    let last = _mm512_set1_epi32((values - len) as i32);
    assert!(_mm512_cmpgt_epu32_mask(starts, last) == 0, "rows end within the values");
    let mut lanes = [0; 16];
    // SAFETY: there is room for sixteen integers.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), starts) };
    lanes
}

/// Four vectors of four rows each, of sixteen bytes: vector `i` has rows `i`, `4 + i`, `8 + i` and `12 + i`.
///
/// # Safety
/// Sixteen bytes can be read from each pointer.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_rows(rows: [*const __m128i; 16]) -> [__m512i; 4] {
    // SAFETY: the caller's.
    let row = |i: usize| unsafe { _mm_loadu_si128(rows[i]) };
    let mut out = [_mm512_setzero_si512(); 4];
    for (i, out) in out.iter_mut().enumerate() {
        let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(i)), row(4 + i));
        let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(8 + i)), row(12 + i));
        *out = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    }
    out
}

/// Transposes sixteen rows of eight floats: vector `i` has rows `i` and `4 + i`, and from the fifth on
/// eight rows further.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_8(r: [__m512; 8]) -> [__m512; 8] {
    let pd = |v| _mm512_castps_pd(v);
    let ps = |v| _mm512_castpd_ps(v);
    // Within 128 bits, which have four rows in order.
    let mut quads = [_mm512_setzero_ps(); 8];
    for i in 0..2 {
        let (a, b, c, d) = (r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
        let (ab_lo, ab_hi) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_lo, cd_hi) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        quads[4 * i] = ps(_mm512_unpacklo_pd(pd(ab_lo), pd(cd_lo)));
        quads[4 * i + 1] = ps(_mm512_unpackhi_pd(pd(ab_lo), pd(cd_lo)));
        quads[4 * i + 2] = ps(_mm512_unpacklo_pd(pd(ab_hi), pd(cd_hi)));
        quads[4 * i + 3] = ps(_mm512_unpackhi_pd(pd(ab_hi), pd(cd_hi)));
    }
    let mut out = quads;
    for i in 0..4 {
        out[i] = _mm512_shuffle_f32x4::<0x88>(quads[i], quads[4 + i]);
        out[4 + i] = _mm512_shuffle_f32x4::<0xdd>(quads[i], quads[4 + i]);
    }
    out
}

/// Transposes sixteen rows of eight 16-bit integers, and widens them.
///
/// # Safety
/// Eight integers can be read from each pointer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn transpose_u16(rows: [*const __m128i; 16]) -> [__m512i; 8] {
    // SAFETY: the caller's.
    let [a, b, c, d] = unsafe { load_rows(rows) };
    let (ab_lo, ab_hi) = (_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
    let (cd_lo, cd_hi) = (_mm512_unpacklo_epi16(c, d), _mm512_unpackhi_epi16(c, d));
    let pairs = [
        _mm512_unpacklo_epi32(ab_lo, cd_lo),
        _mm512_unpackhi_epi32(ab_lo, cd_lo),
        _mm512_unpacklo_epi32(ab_hi, cd_hi),
        _mm512_unpackhi_epi32(ab_hi, cd_hi),
    ];
    let zero = _mm512_setzero_si512();
    let mut out = [zero; 8];
    for (out, pair) in out.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
        *out = [_mm512_unpacklo_epi16(pair, zero), _mm512_unpackhi_epi16(pair, zero)];
    }
    out
}

/// Transposes a 16 × 16 tile: pairs, quads, then 128-bit quarters twice.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: [__m512; 16]) -> [__m512; 16] {
    let zero = _mm512_setzero_ps();
    let mut quads = [zero; 16];
    for i in 0..4 {
        let (a, b, c, d) = (r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
        let (ab_lo, ab_hi) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_lo, cd_hi) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let pd = |v| _mm512_castps_pd(v);
        let ps = |v| _mm512_castpd_ps(v);
        quads[4 * i] = ps(_mm512_unpacklo_pd(pd(ab_lo), pd(cd_lo)));
        quads[4 * i + 1] = ps(_mm512_unpackhi_pd(pd(ab_lo), pd(cd_lo)));
        quads[4 * i + 2] = ps(_mm512_unpacklo_pd(pd(ab_hi), pd(cd_hi)));
        quads[4 * i + 3] = ps(_mm512_unpackhi_pd(pd(ab_hi), pd(cd_hi)));
    }
    let mut out = [zero; 16];
    for i in 0..4 {
        let (a, b, c, d) = (quads[i], quads[i + 4], quads[i + 8], quads[i + 12]);
        let (ab_even, ab_odd) =
            (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
        let (cd_even, cd_odd) =
            (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
        out[i] = _mm512_shuffle_f32x4::<0x88>(ab_even, cd_even);
        out[i + 4] = _mm512_shuffle_f32x4::<0x88>(ab_odd, cd_odd);
        out[i + 8] = _mm512_shuffle_f32x4::<0xdd>(ab_even, cd_even);
        out[i + 12] = _mm512_shuffle_f32x4::<0xdd>(ab_odd, cd_odd);
    }
    out
}

/// AVX-512 without VNNI: all that quantizers need.
pub(crate) type Token = Avx512<false>;
