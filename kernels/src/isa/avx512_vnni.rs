//! AVX-512 VNNI: matrix products with sixteen rows to a vector.

use std::arch::x86_64::*;

use quant_core::{formats::SIGNS, lanes::Lanes};

use super::{
    avx512::Avx512,
    matrix::MatrixKernels,
    matrix_macros::{dot_lane_ops, first, matrix_kernels, prefetch},
};
use crate::matrix::{coded::Layout, dot_lanes::DotLanes};

/// AVX-512 with VNNI.
pub(crate) type Token = Avx512<true>;

impl DotLanes for Token {
    type Codes = __m512i;
    type Partial = __m512i;
    const WIDE: bool = true;
    const SIGNED_BYTES: bool = false;
    const DOTS_READ_INPUTS: bool = true;

    dot_lane_ops! {
        codes(bytes: &[u8]) -> __m512i { _mm512_loadu_si512(first::<64>(bytes).cast()) }
        codes_shr(a: __m512i, bits: usize) -> __m512i {
            _mm512_srl_epi16(a, _mm_cvtsi32_si128(bits as i32))
        }
        codes_shl(a: __m512i, bits: usize) -> __m512i {
            _mm512_sll_epi16(a, _mm_cvtsi32_si128(bits as i32))
        }
        codes_and(a: __m512i, mask: u8) -> __m512i {
            _mm512_and_si512(a, _mm512_set1_epi8(mask as i8))
        }
        negated(x: __m512i, signs: &[u8; SIGNS], at: usize) -> __m512i {
            let signs = first::<8>(&signs[at / 8..]).cast::<u64>().read_unaligned();
            _mm512_mask_sub_epi8(x, signs, _mm512_setzero_si512(), x)
        }
        magnitudes(bytes: __m512i, x: __m512i) -> (__m512i, __m512i) {
            let integers = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
            let negative = _mm512_movepi8_mask(integers);
            let signed = _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
            (_mm512_abs_epi8(integers), signed)
        }
        dot_scaled(sum: __m512i, codes: __m512i, x: __m512i, factors: &[i16]) -> __m512i {
            // Two products of 63 · 127 fit 16 bits, and so does a factor.
            let four = factors[..4].as_ptr().cast::<i64>().read_unaligned();
            let places = _mm512_set_epi64(
                0x0706_0706_0706_0706,
                0x0706_0706_0706_0706,
                0x0504_0504_0504_0504,
                0x0504_0504_0504_0504,
                0x0302_0302_0302_0302,
                0x0302_0302_0302_0302,
                0x0100_0100_0100_0100,
                0x0100_0100_0100_0100,
            );
            let factors = _mm512_shuffle_epi8(_mm512_set1_epi64(four), places);
            _mm512_dpwssd_epi32(sum, _mm512_maddubs_epi16(codes, x), factors)
        }
        codes_or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        codes_look_up(table: &[u8; 16], codes: __m512i) -> __m512i {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes)
        }
        dot(sum: __m512i, codes: __m512i, x: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(sum, codes, x)
        }
        dot_bytes(sum: __m512i, codes: __m512i, x: __m512i) -> __m512i {
            _mm512_dpbusd_epi32(sum, codes, x)
        }
        dot_pairs(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
            _mm512_dpwssd_epi32(sum, a, b)
        }
        mul_add_i(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
            _mm512_add_epi32(_mm512_mullo_epi32(a, b), c)
        }
        halves(bytes: &[u8]) -> __m512 {
            _mm512_cvtph_ps(_mm256_loadu_si256(first::<32>(bytes).cast()))
        }
        bf16s(bytes: &[u8]) -> __m512 {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(first::<32>(bytes).cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
        floats(bytes: &[u8]) -> __m512 { _mm512_loadu_ps(first::<64>(bytes).cast()) }
        bytes(bytes: &[u8]) -> __m512i {
            _mm512_cvtepu8_epi32(_mm_loadu_si128(first::<16>(bytes).cast()))
        }
        mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn as_codes(self, bytes: __m512i) -> __m512i {
        bytes
    }
    #[inline(always)]
    fn begin(self, sum: __m512i) -> __m512i {
        sum
    }
    #[inline(always)]
    fn finish(self, _: __m512i, partial: __m512i) -> __m512i {
        partial
    }
    #[inline(always)]
    fn prefetch<T>(self, data: &[T], ahead: usize) {
        prefetch(data, ahead);
    }
}

#[derive(Debug)]
pub(crate) struct Kernels;

const _: () = assert!(<Token as Lanes>::N == 16);

impl MatrixKernels for Kernels {
    type Shared = Self;
    type Tiles<L: Layout> = L::AnyBits;
    const FEW_WIDTHS: &'static [usize] = &[4, 2, 1];
    const WIDTHS: &'static [usize] = &[6, 4, 2];

    matrix_kernels! {
        Kernels: Token, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c";
        few 1, 4; panels 2; tiles 2, 6; floats 4, 6
    }
}
