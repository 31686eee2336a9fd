//! AVX2, with or without AVX-VNNI: matrix products with eight rows to a vector.

use std::arch::x86_64::*;

use quant_core::formats::SIGNS;

use super::{
    avx2::Avx2,
    matrix::MatrixKernels,
    matrix_macros::{dot_lane_ops, first, matrix_kernels, prefetch},
};
use crate::matrix::{coded::Layout, dot_lanes::DotLanes};

impl<const VNNI: bool> DotLanes for Avx2<VNNI> {
    type Codes = __m256i;
    type Partial = __m256i;
    const WIDE: bool = VNNI;
    const SIGNED_BYTES: bool = !VNNI;
    const EIGHTS: bool = true;

    dot_lane_ops! {
        codes(bytes: &[u8]) -> __m256i { _mm256_loadu_si256(first::<32>(bytes).cast()) }
        codes_shr(a: __m256i, bits: usize) -> __m256i {
            _mm256_srl_epi16(a, _mm_cvtsi32_si128(bits as i32))
        }
        codes_shl(a: __m256i, bits: usize) -> __m256i {
            _mm256_sll_epi16(a, _mm_cvtsi32_si128(bits as i32))
        }
        codes_and(a: __m256i, mask: u8) -> __m256i {
            _mm256_and_si256(a, _mm256_set1_epi8(mask as i8))
        }
        negated(x: __m256i, signs: &[u8; SIGNS], at: usize) -> __m256i {
            // Each byte of signs eight times, then of each its own bit.
            let signs = _mm256_set1_epi32(first::<4>(&signs[at / 8..]).cast::<i32>().read_unaligned());
            let places = _mm256_set_epi64x(
                0x0303_0303_0303_0303,
                0x0202_0202_0202_0202,
                0x0101_0101_0101_0101,
                0,
            );
            let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
            let signs = _mm256_and_si256(_mm256_shuffle_epi8(signs, places), own);
            let mask = _mm256_cmpeq_epi8(signs, own);
            _mm256_sub_epi8(_mm256_xor_si256(x, mask), mask)
        }
        magnitudes(bytes: __m256i, x: __m256i) -> (__m256i, __m256i) {
            let integers = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
            (_mm256_abs_epi8(integers), _mm256_sign_epi8(x, integers))
        }
        dot_scaled(sum: __m256i, codes: __m256i, x: __m256i, factors: &[i16]) -> __m256i {
            // Two products of 63 · 127 fit 16 bits, and so does a factor.
            let two = factors[..2].as_ptr().cast::<i32>().read_unaligned();
            let (first, second) = (0x0100_0100_0100_0100, 0x0302_0302_0302_0302);
            let places = _mm256_set_epi64x(second, second, first, first);
            let factors = _mm256_shuffle_epi8(_mm256_set1_epi32(two), places);
            let products = _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), factors);
            _mm256_add_epi32(sum, products)
        }
        codes_or(a: __m256i, b: __m256i) -> __m256i { _mm256_or_si256(a, b) }
        codes_look_up(table: &[u8; 16], codes: __m256i) -> __m256i {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes)
        }
        begin(sum: __m256i) -> __m256i {
            if VNNI { sum } else { _mm256_setzero_si256() }
        }
        dot(sum: __m256i, codes: __m256i, x: __m256i) -> __m256i {
            if VNNI {
                _mm256_dpbusd_avx_epi32(sum, codes, x)
            } else {
                _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x))
            }
        }
        dot_bytes(sum: __m256i, codes: __m256i, x: __m256i) -> __m256i {
            if VNNI {
                return _mm256_dpbusd_avx_epi32(sum, codes, x);
            }
            // Two products of 128 · 127 fit 16 bits if both codes lose their sign.
            let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
            let products =
                _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
            _mm256_add_epi16(sum, products)
        }
        as_factor(factor: __m256i) -> __m256i {
            if VNNI {
                factor
            } else {
                _mm256_blend_epi16::<0xaa>(factor, _mm256_slli_epi32::<16>(factor))
            }
        }
        by_eights(codes: [__m256i; 4]) -> [__m256i; 4] {
            let [a, b, c, d] = codes;
            [
                _mm256_blend_epi16::<0xaa>(a, _mm256_slli_epi32::<16>(c)),
                _mm256_blend_epi16::<0xaa>(_mm256_srli_epi32::<16>(a), c),
                _mm256_blend_epi16::<0xaa>(b, _mm256_slli_epi32::<16>(d)),
                _mm256_blend_epi16::<0xaa>(_mm256_srli_epi32::<16>(b), d),
            ]
        }
        finish_scaled(sum: __m256i, partial: __m256i, factor: __m256i) -> __m256i {
            if VNNI {
                _mm256_add_epi32(sum, _mm256_mullo_epi32(partial, factor))
            } else {
                _mm256_add_epi32(sum, _mm256_madd_epi16(partial, factor))
            }
        }
        widened(codes: __m256i, factor: __m256i) -> [__m256i; 2] {
            let codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
            let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(codes));
            let odd = _mm256_srai_epi16::<8>(codes);
            let factor = _mm256_blend_epi16::<0xaa>(factor, _mm256_slli_epi32::<16>(factor));
            [_mm256_mullo_epi16(even, factor), _mm256_mullo_epi16(odd, factor)]
        }
        finish(sum: __m256i, partial: __m256i) -> __m256i {
            if VNNI {
                partial
            } else {
                _mm256_add_epi32(sum, _mm256_madd_epi16(partial, _mm256_set1_epi16(1)))
            }
        }
        dot_pairs(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
            if VNNI {
                _mm256_dpwssd_avx_epi32(sum, a, b)
            } else {
                _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
            }
        }
        mul_add_i(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
            _mm256_add_epi32(_mm256_mullo_epi32(a, b), c)
        }
        halves(bytes: &[u8]) -> __m256 {
            _mm256_cvtph_ps(_mm_loadu_si128(first::<16>(bytes).cast()))
        }
        bf16s(bytes: &[u8]) -> __m256 {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(first::<16>(bytes).cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
        floats(bytes: &[u8]) -> __m256 { _mm256_loadu_ps(first::<32>(bytes).cast()) }
        bytes(bytes: &[u8]) -> __m256i {
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(first::<8>(bytes).cast()))
        }
        mul_add(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn eights(self, eight: impl Fn(usize) -> u64) -> __m256i {
        let [a, b, c, d] = [eight(0), eight(1), eight(2), eight(3)].map(u64::cast_signed);
        // SAFETY: the token proves AVX2.
        unsafe { _mm256_set_epi64x(d, c, b, a) }
    }
    #[inline(always)]
    fn begin_halves(self, start: __m256i) -> __m256i {
        start
    }
    #[inline(always)]
    fn as_codes(self, bytes: __m256i) -> __m256i {
        bytes
    }
    #[inline(always)]
    fn prefetch<T>(self, data: &[T], ahead: usize) {
        prefetch(data, ahead);
    }
}

/// AVX2.
#[derive(Debug)]
pub(crate) struct Kernels;

impl MatrixKernels for Kernels {
    type Shared = Self;
    type Tiles<L: Layout> = L;
    const FEW_WIDTHS: &'static [usize] = &[4, 2, 1];
    const WIDTHS: &'static [usize] = &[4, 2];
    const FLOAT_WIDTHS: &'static [usize] = &[6, 4, 2];

    matrix_kernels! { Kernels: Avx2<false>, "avx2,fma,f16c"; few 2, 4; panels 2; tiles 1, 4; floats 2, 6 }
}

/// AVX2 with AVX-VNNI.
#[cfg(feature = "avxvnni")]
#[derive(Debug)]
pub(crate) struct VnniKernels;

#[cfg(feature = "avxvnni")]
impl MatrixKernels for VnniKernels {
    type Shared = Kernels;
    type Tiles<L: Layout> = L::AnyBits;
    const FEW_WIDTHS: &'static [usize] = &[4, 2, 1];
    const WIDTHS: &'static [usize] = &[4, 2];
    const FLOAT_WIDTHS: &'static [usize] = &[6, 4, 2];

    matrix_kernels! { VnniKernels: Avx2<true>, "avx2,fma,f16c,avxvnni"; few 2, 4; panels 2; tiles 2, 4; floats 2, 6 }
}
