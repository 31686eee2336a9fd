//! WebAssembly's simd128: four lanes. A module has it or has not: there is nothing to detect, and
//! no function of this file is unsafe.

use std::arch::wasm32::*;

use quant_core::lanes::{Call, Lanes, PerLane, Sealed};

use super::token::lane_ops;

/// Four lanes. The module was compiled with simd128, so that anyone may hold one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simd128;

impl Sealed for Simd128 {}

impl Lanes for Simd128 {
    const N: usize = 4;
    type F32 = v128;
    type I32 = v128;
    type Mask = v128;

    lane_ops! {
        splat(v: f32) -> v128 { f32x4_splat(v) }
        splat_i(v: i32) -> v128 { i32x4_splat(v) }
        load(v: &PerLane<f32>) -> v128 { f32x4(v[0], v[1], v[2], v[3]) }
        store(v: v128, out: &mut PerLane<f32>) -> () {
            out[0] = f32x4_extract_lane::<0>(v);
            out[1] = f32x4_extract_lane::<1>(v);
            out[2] = f32x4_extract_lane::<2>(v);
            out[3] = f32x4_extract_lane::<3>(v);
        }
        store_i(v: v128, out: &mut PerLane<i32>) -> () {
            out[0] = i32x4_extract_lane::<0>(v);
            out[1] = i32x4_extract_lane::<1>(v);
            out[2] = i32x4_extract_lane::<2>(v);
            out[3] = i32x4_extract_lane::<3>(v);
        }
        add(a: v128, b: v128) -> v128 { f32x4_add(a, b) }
        sub(a: v128, b: v128) -> v128 { f32x4_sub(a, b) }
        mul(a: v128, b: v128) -> v128 { f32x4_mul(a, b) }
        div(a: v128, b: v128) -> v128 { f32x4_div(a, b) }
        sqrt(a: v128) -> v128 { f32x4_sqrt(a) }
        abs(a: v128) -> v128 { f32x4_abs(a) }
        min(a: v128, b: v128) -> v128 { minimum(a, b) }
        max(a: v128, b: v128) -> v128 { maximum(a, b) }
        round(a: v128) -> v128 { f32x4_nearest(a) }
        lt(a: v128, b: v128) -> v128 { f32x4_lt(a, b) }
        le(a: v128, b: v128) -> v128 { f32x4_le(a, b) }
        eq(a: v128, b: v128) -> v128 { f32x4_eq(a, b) }
        eq_i(a: v128, b: v128) -> v128 { i32x4_eq(a, b) }
        and(a: v128, b: v128) -> v128 { v128_and(a, b) }
        not(a: v128) -> v128 { v128_not(a) }
        any(a: v128) -> bool { v128_any_true(a) }
        select(mask: v128, a: v128, b: v128) -> v128 { v128_bitselect(a, b, mask) }
        select_i(mask: v128, a: v128, b: v128) -> v128 { v128_bitselect(a, b, mask) }
        add_i(a: v128, b: v128) -> v128 { i32x4_add(a, b) }
        sub_i(a: v128, b: v128) -> v128 { i32x4_sub(a, b) }
        and_i(a: v128, b: v128) -> v128 { v128_and(a, b) }
        or_i(a: v128, b: v128) -> v128 { v128_or(a, b) }
        xor_i(a: v128, b: v128) -> v128 { v128_xor(a, b) }
        load_i(values: &PerLane<i32>) -> v128 {
            i32x4(values[0], values[1], values[2], values[3])
        }
        min_i(a: v128, b: v128) -> v128 { i32x4_min(a, b) }
        max_i(a: v128, b: v128) -> v128 { i32x4_max(a, b) }
        min_u(a: v128, b: v128) -> v128 { u32x4_min(a, b) }
        max_u(a: v128, b: v128) -> v128 { u32x4_max(a, b) }
        bits(a: v128) -> v128 { a }
        bits_to_f32(a: v128) -> v128 { a }
        to_f32(a: v128) -> v128 { f32x4_convert_i32x4(a) }
        // The instruction saturates and makes NaN zero.
        trunc(a: v128) -> v128 {
            let fits = f32x4_lt(f32x4_abs(a), f32x4_splat(2_147_483_648.0));
            v128_bitselect(i32x4_trunc_sat_f32x4(a), i32x4_splat(i32::MIN), fits)
        }
        // There is no instruction for half precision. Scales are few: one by one will do.
        to_f16_bits(a: v128) -> v128 {
            let half = |v: f32| i32::from(half::f16::from_f32(v).to_bits());
            i32x4(
                half(f32x4_extract_lane::<0>(a)),
                half(f32x4_extract_lane::<1>(a)),
                half(f32x4_extract_lane::<2>(a)),
                half(f32x4_extract_lane::<3>(a)),
            )
        }
        // The mantissa moves to its place and a product adjusts the exponent, subnormals included;
        // infinities and NaNs, whose exponent is all ones, get that of single precision.
        f16_bits_to_f32(a: v128) -> v128 {
            let magnitude = i32x4_shl(v128_and(a, i32x4_splat(0x7fff)), 13);
            let scaled = f32x4_mul(magnitude, f32x4_splat(f32::from_bits((127 + 112) << 23)));
            let special = i32x4_ge(magnitude, i32x4_splat(0x1f << 23));
            let exponent = v128_and(special, i32x4_splat(0xff << 23));
            let sign = i32x4_shl(v128_and(a, i32x4_splat(0x8000)), 16);
            v128_or(v128_or(scaled, exponent), sign)
        }
    }

    #[inline(never)]
    fn call<O: Call<Self>>(self, op: O) -> O::Output {
        op.eval(self)
    }
    #[inline(always)]
    fn shl<const BITS: u32>(self, a: v128) -> v128 {
        i32x4_shl(a, BITS)
    }
    #[inline(always)]
    fn shr<const BITS: u32>(self, a: v128) -> v128 {
        u32x4_shr(a, BITS)
    }

    #[inline(always)]
    fn widen_halves(self, bytes: &[u8], out: &mut [f32]) {
        for (b, out) in bytes.chunks_exact(8).zip(out.chunks_exact_mut(4)) {
            let half = |i: usize| i32::from(u16::from_le_bytes([b[2 * i], b[2 * i + 1]]));
            let v = self.f16_bits_to_f32(i32x4(half(0), half(1), half(2), half(3)));
            out[0] = f32x4_extract_lane::<0>(v);
            out[1] = f32x4_extract_lane::<1>(v);
            out[2] = f32x4_extract_lane::<2>(v);
            out[3] = f32x4_extract_lane::<3>(v);
        }
    }

    #[inline(always)]
    fn load_columns(self, values: &[f32], starts: &PerLane<usize>, out: &mut [v128]) {
        let (tiles, rest) = out.as_chunks_mut::<4>();
        debug_assert!(rest.is_empty(), "formats load whole tiles");
        for (t, tile) in tiles.iter_mut().enumerate() {
            let row = |lane: usize| {
                let v = &values[starts[lane] + 4 * t..][..4];
                f32x4(v[0], v[1], v[2], v[3])
            };
            let (a, b, c, d) = (row(0), row(1), row(2), row(3));
            let ab = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
            let cd = (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
            *tile = [
                i32x4_shuffle::<0, 1, 4, 5>(ab.0, cd.0),
                i32x4_shuffle::<2, 3, 6, 7>(ab.0, cd.0),
                i32x4_shuffle::<0, 1, 4, 5>(ab.1, cd.1),
                i32x4_shuffle::<2, 3, 6, 7>(ab.1, cd.1),
            ];
        }
    }
}

/// `if a < b { a } else { b }`, which is what the pseudo-minimum does with its operands exchanged.
/// With relaxed-simd LLVM makes it the relaxed minimum, which may return the other zero.
#[inline(always)]
fn minimum(a: v128, b: v128) -> v128 {
    if cfg!(target_feature = "relaxed-simd") {
        v128_bitselect(a, b, f32x4_lt(a, b))
    } else {
        f32x4_pmin(b, a)
    }
}

/// `if a > b { a } else { b }`, as [`minimum`].
#[inline(always)]
fn maximum(a: v128, b: v128) -> v128 {
    if cfg!(target_feature = "relaxed-simd") {
        v128_bitselect(a, b, f32x4_gt(a, b))
    } else {
        f32x4_pmax(b, a)
    }
}
