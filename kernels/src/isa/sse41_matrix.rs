//! SSE4.1: matrix products with four rows to a vector.

use std::arch::x86_64::*;

use super::{
    matrix::MatrixKernels,
    matrix_macros::{dot_lane_ops, first, matrix_kernels, prefetch},
    sse41::{Sse41, singles},
};
use crate::matrix::{coded::Layout, dot_lanes::DotLanes};

impl DotLanes for Sse41 {
    type Codes = __m128i;
    type Partial = __m128i;
    const WIDE: bool = false;
    const SIGNED_BYTES: bool = true;

    dot_lane_ops! {
        codes(bytes: &[u8]) -> __m128i { _mm_loadu_si128(first::<16>(bytes).cast()) }
        codes_shr(a: __m128i, bits: usize) -> __m128i {
            _mm_srl_epi16(a, _mm_cvtsi32_si128(bits as i32))
        }
        codes_shl(a: __m128i, bits: usize) -> __m128i {
            _mm_sll_epi16(a, _mm_cvtsi32_si128(bits as i32))
        }
        codes_and(a: __m128i, mask: u8) -> __m128i {
            _mm_and_si128(a, _mm_set1_epi8(mask as i8))
        }
        codes_or(a: __m128i, b: __m128i) -> __m128i { _mm_or_si128(a, b) }
        codes_look_up(table: &[u8; 16], codes: __m128i) -> __m128i {
            _mm_shuffle_epi8(_mm_loadu_si128(table.as_ptr().cast()), codes)
        }
        begin(_sum: __m128i) -> __m128i { _mm_setzero_si128() }
        dot(sum: __m128i, codes: __m128i, x: __m128i) -> __m128i {
            _mm_add_epi16(sum, _mm_maddubs_epi16(codes, x))
        }
        dot_bytes(sum: __m128i, codes: __m128i, x: __m128i) -> __m128i {
            // As on AVX2.
            let codes = _mm_xor_si128(codes, _mm_set1_epi8(-128));
            let products = _mm_maddubs_epi16(_mm_abs_epi8(codes), _mm_sign_epi8(x, codes));
            _mm_add_epi16(sum, products)
        }
        finish(sum: __m128i, partial: __m128i) -> __m128i {
            _mm_add_epi32(sum, _mm_madd_epi16(partial, _mm_set1_epi16(1)))
        }
        as_factor(factor: __m128i) -> __m128i {
            _mm_blend_epi16::<0xaa>(factor, _mm_slli_epi32::<16>(factor))
        }
        by_eights(codes: [__m128i; 4]) -> [__m128i; 4] {
            let [a, b, c, d] = codes;
            [
                _mm_blend_epi16::<0xaa>(a, _mm_slli_epi32::<16>(c)),
                _mm_blend_epi16::<0xaa>(_mm_srli_epi32::<16>(a), c),
                _mm_blend_epi16::<0xaa>(b, _mm_slli_epi32::<16>(d)),
                _mm_blend_epi16::<0xaa>(_mm_srli_epi32::<16>(b), d),
            ]
        }
        finish_scaled(sum: __m128i, partial: __m128i, factor: __m128i) -> __m128i {
            _mm_add_epi32(sum, _mm_madd_epi16(partial, factor))
        }
        widened(codes: __m128i, factor: __m128i) -> [__m128i; 2] {
            let codes = _mm_xor_si128(codes, _mm_set1_epi8(-128));
            let even = _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(codes));
            let odd = _mm_srai_epi16::<8>(codes);
            let factor = _mm_blend_epi16::<0xaa>(factor, _mm_slli_epi32::<16>(factor));
            [_mm_mullo_epi16(even, factor), _mm_mullo_epi16(odd, factor)]
        }
        dot_pairs(sum: __m128i, a: __m128i, b: __m128i) -> __m128i {
            _mm_add_epi32(sum, _mm_madd_epi16(a, b))
        }
        mul_add_i(a: __m128i, b: __m128i, c: __m128i) -> __m128i {
            _mm_add_epi32(_mm_mullo_epi32(a, b), c)
        }
        halves(bytes: &[u8]) -> __m128 {
            singles(_mm_cvtepu16_epi32(_mm_loadl_epi64(first::<8>(bytes).cast())))
        }
        bf16s(bytes: &[u8]) -> __m128 {
            let wide = _mm_cvtepu16_epi32(_mm_loadl_epi64(first::<8>(bytes).cast()));
            _mm_castsi128_ps(_mm_slli_epi32::<16>(wide))
        }
        floats(bytes: &[u8]) -> __m128 { _mm_loadu_ps(first::<16>(bytes).cast()) }
        bytes(bytes: &[u8]) -> __m128i {
            _mm_cvtepu8_epi32(_mm_loadu_si32(first::<4>(bytes).cast()))
        }
        mul_add(a: __m128, b: __m128, c: __m128) -> __m128 { _mm_add_ps(_mm_mul_ps(a, b), c) }
    }

    #[inline(always)]
    fn begin_halves(self, start: __m128i) -> __m128i {
        start
    }
    #[inline(always)]
    fn as_codes(self, bytes: __m128i) -> __m128i {
        bytes
    }
    #[inline(always)]
    fn prefetch<T>(self, data: &[T], ahead: usize) {
        prefetch(data, ahead);
    }
}

#[derive(Debug)]
pub(crate) struct Kernels;

impl MatrixKernels for Kernels {
    type Shared = Self;
    type Tiles<L: Layout> = L;
    const FEW_WIDTHS: &'static [usize] = &[2, 1];
    const WIDTHS: &'static [usize] = &[4, 2];

    matrix_kernels! { Kernels: Sse41, "sse4.1"; few 2, 2; panels 1; tiles 1, 4; floats 1, 4 }
}
