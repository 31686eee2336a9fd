//! WebAssembly's simd128, with or without relaxed-simd: matrix products with four rows to a vector.
//!
//! What a module was compiled with it needs, so that this is chosen when compiling, as in `simd128`.

use std::arch::wasm32::*;

use super::{
    matrix::MatrixKernels,
    matrix_macros::{dot_lane_ops, first, matrix_kernels},
    simd128::Simd128,
};
use crate::matrix::{coded::Layout, dot_lanes::DotLanes};
use quant_core::lanes::Lanes;

impl DotLanes for Simd128 {
    type Codes = v128;
    type Partial = sums::Partial;
    const WIDE: bool = true;
    const SIGNED_BYTES: bool = false;

    dot_lane_ops! {
        codes(bytes: &[u8]) -> v128 { v128_load(first::<16>(bytes).cast()) }
        codes_shr(a: v128, bits: usize) -> v128 { u16x8_shr(a, bits as u32) }
        codes_shl(a: v128, bits: usize) -> v128 { i16x8_shl(a, bits as u32) }
        codes_and(a: v128, mask: u8) -> v128 { v128_and(a, u8x16_splat(mask)) }
        codes_or(a: v128, b: v128) -> v128 { v128_or(a, b) }
        codes_look_up(table: &[u8; 16], codes: v128) -> v128 {
            u8x16_swizzle(v128_load(table.as_ptr().cast()), codes)
        }
        begin(sum: v128) -> sums::Partial { sums::begin(sum) }
        dot(sum: sums::Partial, codes: v128, x: v128) -> sums::Partial { sums::dot(sum, codes, x) }
        dot_bytes(sum: sums::Partial, codes: v128, x: v128) -> sums::Partial {
            sums::dot_bytes(sum, codes, x)
        }
        finish(sum: v128, partial: sums::Partial) -> v128 { sums::finish(sum, partial) }
        dot_pairs(sum: v128, a: v128, b: v128) -> v128 { i32x4_add(sum, i32x4_dot_i16x8(a, b)) }
        mul_add_i(a: v128, b: v128, c: v128) -> v128 { i32x4_add(i32x4_mul(a, b), c) }
        bf16s(bytes: &[u8]) -> v128 { u32x4_shl(words(bytes), 16) }
        floats(bytes: &[u8]) -> v128 { v128_load(first::<16>(bytes).cast()) }
        bytes(bytes: &[u8]) -> v128 {
            let four = v128_load32_zero(first::<4>(bytes).cast());
            u32x4_extend_low_u16x8(u16x8_extend_low_u8x16(four))
        }
        mul_add(a: v128, b: v128, c: v128) -> v128 { sums::mul_add(a, b, c) }
    }

    #[inline(always)]
    fn as_codes(self, bytes: v128) -> v128 {
        bytes
    }
    #[inline(always)]
    fn halves(self, bytes: &[u8]) -> v128 {
        self.f16_bits_to_f32(words(bytes))
    }
    #[inline(always)]
    fn prefetch<T>(self, _: &[T], _: usize) {}
}

/// Four 16-bit words, zero-extended.
#[inline(always)]
fn words(bytes: &[u8]) -> v128 {
    // SAFETY: the slice has been checked to have eight bytes.
    u32x4_extend_low_u16x8(unsafe { v128_load64_zero(first::<8>(bytes).cast()) })
}

/// By the dot product of relaxed-simd.
#[cfg(target_feature = "relaxed-simd")]
mod sums {
    use std::arch::wasm32::*;

    pub(super) type Partial = v128;

    #[inline(always)]
    pub(super) fn begin(sum: v128) -> v128 {
        sum
    }
    /// What is relaxed is the second operand's upper bit, which codes below 64 do not have.
    #[inline(always)]
    pub(super) fn dot(sum: v128, codes: v128, x: v128) -> v128 {
        i32x4_relaxed_dot_i8x16_i7x16_add(x, codes, sum)
    }
    /// In two parts, because of that bit.
    #[inline(always)]
    pub(super) fn dot_bytes(sum: v128, codes: v128, x: v128) -> v128 {
        let upper = dot(i32x4_splat(0), u8x16_shr(codes, 7), x);
        dot(i32x4_add(sum, i32x4_shl(upper, 7)), v128_and(codes, u8x16_splat(0x7f)), x)
    }
    #[inline(always)]
    pub(super) fn finish(_: v128, partial: v128) -> v128 {
        partial
    }
    #[inline(always)]
    pub(super) fn mul_add(a: v128, b: v128, c: v128) -> v128 {
        f32x4_relaxed_madd(a, b, c)
    }
}

/// By products of 16-bit integers.
#[cfg(not(target_feature = "relaxed-simd"))]
mod sums {
    use std::arch::wasm32::*;

    /// Two sums for each row: the first two rows, then the others.
    pub(super) type Partial = [v128; 2];

    #[inline(always)]
    pub(super) fn begin(_: v128) -> Partial {
        [i32x4_splat(0); 2]
    }
    /// The wider integers of codes are the same for all columns and those of inputs for all rows, so
    /// that they are computed once in a tile.
    #[inline(always)]
    pub(super) fn dot(sum: Partial, codes: v128, x: v128) -> Partial {
        let low = i32x4_dot_i16x8(u16x8_extend_low_u8x16(codes), i16x8_extend_low_i8x16(x));
        let high = i32x4_dot_i16x8(u16x8_extend_high_u8x16(codes), i16x8_extend_high_i8x16(x));
        [i32x4_add(sum[0], low), i32x4_add(sum[1], high)]
    }
    #[inline(always)]
    pub(super) fn dot_bytes(sum: Partial, codes: v128, x: v128) -> Partial {
        dot(sum, codes, x)
    }
    #[inline(always)]
    pub(super) fn finish(sum: v128, [low, high]: Partial) -> v128 {
        let even = i32x4_shuffle::<0, 2, 4, 6>(low, high);
        i32x4_add(sum, i32x4_add(even, i32x4_shuffle::<1, 3, 5, 7>(low, high)))
    }
    #[inline(always)]
    pub(super) fn mul_add(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }
}

#[derive(Debug)]
pub(crate) struct Kernels;

impl MatrixKernels for Kernels {
    type Shared = Self;
    type Tiles<L: Layout> = L;
    const FEW_WIDTHS: &'static [usize] = &[4, 2, 1];
    const WIDTHS: &'static [usize] = &[4, 2];

    matrix_kernels! { Kernels: Simd128; few 4, 4; panels 2; tiles 2, 4; floats 2, 4 }
}
