//! NEON, which every aarch64 CPU has: four lanes.

use std::arch::{aarch64::*, asm};

use quant_core::lanes::{Call, Lanes, PerLane, Sealed};

use super::token::lane_ops;

/// Four lanes. NEON is part of the architecture; holding one that says so proves that the CPU has
/// the dot product instructions, or those and the matrix product instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon<const DOT: bool, const I8MM: bool = false> {
    _private: (),
}

impl<const DOT: bool, const I8MM: bool> Neon<DOT, I8MM> {
    /// The token, if the CPU has what it stands for.
    pub(crate) fn new() -> Option<Self> {
        let dot = !DOT || std::arch::is_aarch64_feature_detected!("dotprod");
        let i8mm = !I8MM || std::arch::is_aarch64_feature_detected!("i8mm");
        (dot && i8mm).then_some(Self { _private: () })
    }
}

impl<const DOT: bool, const I8MM: bool> Sealed for Neon<DOT, I8MM> {}

impl<const DOT: bool, const I8MM: bool> Lanes for Neon<DOT, I8MM> {
    const N: usize = 4;
    const PAIRS: bool = true;
    type F32 = float32x4_t;
    type I32 = int32x4_t;
    type Mask = uint32x4_t;

    lane_ops! {
        splat(v: f32) -> float32x4_t { vdupq_n_f32(v) }
        splat_i(v: i32) -> int32x4_t { vdupq_n_s32(v) }
        load(values: &PerLane<f32>) -> float32x4_t { vld1q_f32(values.as_ptr()) }
        store(v: float32x4_t, out: &mut PerLane<f32>) -> () { vst1q_f32(out.as_mut_ptr(), v) }
        store_i(v: int32x4_t, out: &mut PerLane<i32>) -> () { vst1q_s32(out.as_mut_ptr(), v) }
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        sqrt(a: float32x4_t) -> float32x4_t { vsqrtq_f32(a) }
        abs(a: float32x4_t) -> float32x4_t { vabsq_f32(a) }
        // The instructions for minimum and maximum order zeros by sign and prefer NaNs.
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t { vbslq_f32(vcltq_f32(a, b), a, b) }
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vbslq_f32(vcgtq_f32(a, b), a, b) }
        round(a: float32x4_t) -> float32x4_t { vrndnq_f32(a) }
        lt(a: float32x4_t, b: float32x4_t) -> uint32x4_t { vcltq_f32(a, b) }
        le(a: float32x4_t, b: float32x4_t) -> uint32x4_t { vcleq_f32(a, b) }
        eq(a: float32x4_t, b: float32x4_t) -> uint32x4_t { vceqq_f32(a, b) }
        eq_i(a: int32x4_t, b: int32x4_t) -> uint32x4_t { vceqq_s32(a, b) }
        and(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t { vandq_u32(a, b) }
        not(a: uint32x4_t) -> uint32x4_t { vmvnq_u32(a) }
        any(a: uint32x4_t) -> bool { vmaxvq_u32(a) != 0 }
        select(mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(mask, a, b)
        }
        select_i(mask: uint32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            vbslq_s32(mask, a, b)
        }
        add_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vaddq_s32(a, b) }
        sub_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vsubq_s32(a, b) }
        and_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vandq_s32(a, b) }
        or_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vorrq_s32(a, b) }
        xor_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { veorq_s32(a, b) }
        load_i(values: &PerLane<i32>) -> int32x4_t { vld1q_s32(values.as_ptr()) }
        // The bytes of four floats at a time: 4·index + 0..4.
        look_up(table: &[f32; 16], index: int32x4_t) -> float32x4_t {
            let table = vld1q_u8_x4(table.as_ptr().cast());
            let four = vmulq_n_u32(vandq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(15)), 0x0404_0404);
            let bytes = vaddq_u32(four, vdupq_n_u32(0x0302_0100));
            vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(bytes)))
        }
        sum_i(a: int32x4_t) -> i32 { vaddvq_s32(a) }
        min_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vminq_s32(a, b) }
        max_i(a: int32x4_t, b: int32x4_t) -> int32x4_t { vmaxq_s32(a, b) }
        min_u(a: int32x4_t, b: int32x4_t) -> int32x4_t {
            vreinterpretq_s32_u32(vminq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)))
        }
        max_u(a: int32x4_t, b: int32x4_t) -> int32x4_t {
            vreinterpretq_s32_u32(vmaxq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)))
        }
        bits(a: float32x4_t) -> int32x4_t { vreinterpretq_s32_f32(a) }
        bits_to_f32(a: int32x4_t) -> float32x4_t { vreinterpretq_f32_s32(a) }
        to_f32(a: int32x4_t) -> float32x4_t { vcvtq_f32_s32(a) }
        // The instruction saturates and makes NaN zero.
        trunc(a: float32x4_t) -> int32x4_t {
            let fits = vcltq_f32(vabsq_f32(a), vdupq_n_f32(2_147_483_648.0));
            vbslq_s32(fits, vcvtq_s32_f32(a), vdupq_n_s32(i32::MIN))
        }
        to_f16_bits(a: float32x4_t) -> int32x4_t {
            vreinterpretq_s32_u32(vmovl_u16(halves(a)))
        }
        f16_bits_to_f32(a: int32x4_t) -> float32x4_t {
            singles(vmovn_u32(vreinterpretq_u32_s32(a)))
        }
    }

    #[inline(never)]
    fn call<O: Call<Self>>(self, op: O) -> O::Output {
        op.eval(self)
    }
    #[inline(always)]
    fn shl<const BITS: u32>(self, a: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of the architecture.
        unsafe { vshlq_s32(a, vdupq_n_s32(BITS as i32)) }
    }
    #[inline(always)]
    fn shr<const BITS: u32>(self, a: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of the architecture.
        unsafe {
            let shifted = vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-(BITS as i32)));
            vreinterpretq_s32_u32(shifted)
        }
    }

    #[inline(always)]
    fn widen_halves(self, bytes: &[u8], out: &mut [f32]) {
        for (bytes, out) in bytes.chunks_exact(8).zip(out.chunks_exact_mut(4)) {
            // SAFETY: the chunks hold four elements; NEON is part of the architecture.
            unsafe {
                let bits = vld1_u16(bytes.as_ptr().cast());
                vst1q_f32(out.as_mut_ptr(), singles(bits));
            }
        }
    }
    #[inline(always)]
    fn narrow_halves(self, values: &[f32], out: &mut [u8]) {
        for (values, out) in values.chunks_exact(4).zip(out.chunks_exact_mut(8)) {
            // SAFETY: the chunks hold four elements; NEON is part of the architecture.
            unsafe {
                let bits = halves(vld1q_f32(values.as_ptr()));
                vst1_u16(out.as_mut_ptr().cast(), bits);
            }
        }
    }

    #[inline(always)]
    fn load_columns(self, values: &[f32], starts: &PerLane<usize>, out: &mut [float32x4_t]) {
        let (tiles, rest) = out.as_chunks_mut::<4>();
        debug_assert!(rest.is_empty(), "formats load whole tiles");
        for (t, tile) in tiles.iter_mut().enumerate() {
            let mut rows = [self.splat(0.0); 4];
            for (row, start) in rows.iter_mut().zip(starts) {
                let source = &values[start + 4 * t..][..4];
                // SAFETY: the slice has four floats.
                *row = unsafe { vld1q_f32(source.as_ptr()) };
            }
            // SAFETY: NEON is part of the architecture.
            *tile = unsafe { transpose(rows) };
        }
    }
}

/// Transposes a 4 × 4 tile: pairs, then halves.
#[inline]
#[target_feature(enable = "neon")]
fn transpose([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    let even = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
    let odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
    let even_below = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
    let odd_below = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
    [
        vreinterpretq_f32_f64(vtrn1q_f64(even, even_below)),
        vreinterpretq_f32_f64(vtrn1q_f64(odd, odd_below)),
        vreinterpretq_f32_f64(vtrn2q_f64(even, even_below)),
        vreinterpretq_f32_f64(vtrn2q_f64(odd, odd_below)),
    ]
}

/// To half precision, by the instruction itself: the intrinsics for it are not stable.
#[inline]
#[target_feature(enable = "neon")]
fn halves(a: float32x4_t) -> uint16x4_t {
    let bits;
    // SAFETY: the instruction reads and writes only the registers named.
    unsafe {
        asm!("fcvtn {out:v}.4h, {a:v}.4s", out = lateout(vreg) bits, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    bits
}

/// From half precision.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn singles(bits: uint16x4_t) -> float32x4_t {
    let out;
    // SAFETY: the instruction reads and writes only the registers named.
    unsafe {
        asm!("fcvtl {out:v}.4s, {bits:v}.4h", out = lateout(vreg) out, bits = in(vreg) bits,
            options(pure, nomem, nostack, preserves_flags));
    }
    out
}

/// NEON alone: all that quantizers need.
pub(crate) type Token = Neon<false>;
