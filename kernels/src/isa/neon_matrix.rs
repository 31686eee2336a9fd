//! NEON, with or without the dot product and matrix product instructions: matrix products with four
//! rows to a vector.

use std::arch::{aarch64::*, asm};

use super::{
    matrix::MatrixKernels,
    matrix_macros::{dot_lane_ops, first, matrix_kernels},
    neon::{Neon, singles},
};
use crate::matrix::{
    coded::Layout,
    dot_lanes::{DotLanes, two_columns},
};

impl<const DOT: bool, const I8MM: bool> DotLanes for Neon<DOT, I8MM> {
    type Codes = uint8x16_t;
    type Partial = int32x4_t;
    const WIDE: bool = true;
    const SIGNED_BYTES: bool = !I8MM;
    const TWO_COLUMNS: bool = I8MM;

    dot_lane_ops! {
        codes(bytes: &[u8]) -> uint8x16_t { vld1q_u8(first::<16>(bytes)) }
        codes_shr(a: uint8x16_t, bits: usize) -> uint8x16_t {
            vshlq_u8(a, vdupq_n_s8(-(bits as i8)))
        }
        codes_shl(a: uint8x16_t, bits: usize) -> uint8x16_t { vshlq_u8(a, vdupq_n_s8(bits as i8)) }
        codes_and(a: uint8x16_t, mask: u8) -> uint8x16_t { vandq_u8(a, vdupq_n_u8(mask)) }
        as_codes(bytes: int32x4_t) -> uint8x16_t { vreinterpretq_u8_s32(bytes) }
        codes_or(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t { vorrq_u8(a, b) }
        codes_look_up(table: &[u8; 16], codes: uint8x16_t) -> uint8x16_t {
            vqtbl1q_u8(vld1q_u8(table.as_ptr()), codes)
        }
        dot(sum: int32x4_t, codes: uint8x16_t, x: int32x4_t) -> int32x4_t {
            // Codes of up to seven bits are the same signed.
            let (codes, x) = (vreinterpretq_s8_u8(codes), vreinterpretq_s8_s32(x));
            if DOT {
                return sdot(sum, codes, x);
            }
            // Two products of 128 · 127 fit 16 bits.
            let low = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
            vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(codes, x)))
        }
        dot_pairs(sum: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            let (a, b) = (vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
            let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
            vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(a, b)))
        }
        paired(unpaired: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
            let (a, b) = (vreinterpretq_u32_u8(unpaired[0]), vreinterpretq_u32_u8(unpaired[1]));
            [vreinterpretq_u8_u32(vzip1q_u32(a, b)), vreinterpretq_u8_u32(vzip2q_u32(a, b))]
        }
        unpaired(paired: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
            let (a, b) = (vreinterpretq_u32_u8(paired[0]), vreinterpretq_u32_u8(paired[1]));
            [vreinterpretq_u8_u32(vuzp1q_u32(a, b)), vreinterpretq_u8_u32(vuzp2q_u32(a, b))]
        }
        finish_two_columns(sums: [int32x4_t; 2], pairs: [int32x4_t; 2]) -> [int32x4_t; 2] {
            [
                vaddq_s32(sums[0], vuzp1q_s32(pairs[0], pairs[1])),
                vaddq_s32(sums[1], vuzp2q_s32(pairs[0], pairs[1])),
            ]
        }
        mul_add_i(a: int32x4_t, b: int32x4_t, c: int32x4_t) -> int32x4_t { vmlaq_s32(c, a, b) }
        halves(bytes: &[u8]) -> float32x4_t { singles(vld1_u16(first::<8>(bytes).cast())) }
        bf16s(bytes: &[u8]) -> float32x4_t {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(first::<8>(bytes).cast())))
        }
        floats(bytes: &[u8]) -> float32x4_t { vld1q_f32(first::<16>(bytes).cast()) }
        bytes(bytes: &[u8]) -> int32x4_t {
            let four = vcreate_u8(u64::from(first::<4>(bytes).cast::<u32>().read_unaligned()));
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four))))
        }
        mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            vfmaq_f32(c, a, b)
        }
    }

    #[inline(always)]
    fn dot_two_columns(
        self,
        sums: [int32x4_t; 2],
        codes: [uint8x16_t; 2],
        x: [[i32; 2]; 2],
    ) -> [int32x4_t; 2] {
        if !I8MM {
            return two_columns(self, sums, codes, x);
        }
        // SAFETY: the token proves that the CPU has the instruction; the loads are of two integers.
        unsafe {
            let (first, second) = (vld1_s32(x[0].as_ptr()), vld1_s32(x[1].as_ptr()));
            let x = vcombine_s32(vzip1_s32(first, second), vzip2_s32(first, second));
            let x = vreinterpretq_s8_s32(x);
            // A square has two rows of two columns.
            [usmmla(sums[0], codes[0], x), usmmla(sums[1], codes[1], x)]
        }
    }
    #[inline(always)]
    fn begin(self, sum: int32x4_t) -> int32x4_t {
        sum
    }
    #[inline(always)]
    fn dot_bytes(self, sum: int32x4_t, codes: uint8x16_t, x: int32x4_t) -> int32x4_t {
        if I8MM {
            // SAFETY: the token proves that the CPU has the instruction.
            return unsafe { usdot(sum, codes, vreinterpretq_s8_s32(x)) };
        }
        // SAFETY: NEON is part of the architecture.
        let signed = unsafe { veorq_u8(codes, vdupq_n_u8(0x80)) };
        self.dot(sum, signed, x)
    }
    #[inline(always)]
    fn finish(self, _: int32x4_t, partial: int32x4_t) -> int32x4_t {
        partial
    }
    #[inline(always)]
    fn prefetch<T>(self, data: &[T], ahead: usize) {
        let mut line = data.as_ptr().cast::<u8>().wrapping_add(ahead);
        for _ in 0..size_of_val(data).div_ceil(64) {
            // SAFETY: a prefetch is a hint: it reads nothing and accepts any address.
            unsafe {
                asm!("prfm pldl1keep, [{line}]", line = in(reg) line,
                    options(nostack, readonly, preserves_flags));
            }
            line = line.wrapping_add(64);
        }
    }
}

/// Adds the products of four bytes in each lane, by the instruction itself: the intrinsic for it is
/// not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes only the registers named.
    unsafe {
        asm!("sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) a,
            b = in(vreg) b, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Adds the products of four unsigned and four signed bytes in each lane.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(mut sum: int32x4_t, a: uint8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes only the registers named.
    unsafe {
        asm!("usdot {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) a,
            b = in(vreg) b, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Adds the product of two rows of eight unsigned bytes and two columns of eight signed bytes.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usmmla(mut sum: int32x4_t, a: uint8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes only the registers named.
    unsafe {
        asm!("usmmla {sum:v}.4s, {a:v}.16b, {b:v}.16b", sum = inout(vreg) sum, a = in(vreg) a,
            b = in(vreg) b, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// NEON alone.
#[derive(Debug)]
pub(crate) struct Kernels;

impl MatrixKernels for Kernels {
    type Shared = Self;
    type Tiles<L: Layout> = L;
    const FEW_WIDTHS: &'static [usize] = &[4, 2, 1];
    const WIDTHS: &'static [usize] = &[4, 2];

    matrix_kernels! { Kernels: Neon<false>, "neon"; few 4, 4; panels 2; tiles 2, 4; floats 2, 4 }
}

/// NEON with the dot product instructions.
#[derive(Debug)]
pub(crate) struct DotKernels;

impl MatrixKernels for DotKernels {
    type Shared = Self;
    type Tiles<L: Layout> = L;
    const FEW_WIDTHS: &'static [usize] = &[4, 2, 1];
    const WIDTHS: &'static [usize] = &[4, 2];

    matrix_kernels! { DotKernels: Neon<true>, "neon,dotprod"; few 4, 4; panels 2; tiles 2, 4; floats 2, 4 }
}

/// NEON with the dot product and matrix product instructions.
#[derive(Debug)]
pub(crate) struct I8mmKernels;

impl MatrixKernels for I8mmKernels {
    type Shared = Self;
    type Tiles<L: Layout> = L::AnyBits;
    const FEW_WIDTHS: &'static [usize] = &[4, 2, 1];
    const WIDTHS: &'static [usize] = &[4, 2];

    matrix_kernels! { I8mmKernels: Neon<true, true>, "neon,dotprod,i8mm"; few 4, 4; panels 2; tiles 2, 4; floats 2, 4 }
}
