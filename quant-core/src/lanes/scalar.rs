//! The instance with one lane.

use super::{Call, Lanes, PerLane};

/// The one-lane instance: plain scalar code, the reference for every other instance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

impl Lanes for Scalar {
    const N: usize = 1;
    type F32 = f32;
    type I32 = i32;
    type Mask = bool;

    #[inline(never)]
    fn call<O: Call<Self>>(self, op: O) -> O::Output {
        op.eval(self)
    }
    #[inline(always)]
    fn splat(self, v: f32) -> f32 {
        v
    }
    #[inline(always)]
    fn splat_i(self, v: i32) -> i32 {
        v
    }
    #[inline(always)]
    fn load(self, values: &PerLane<f32>) -> f32 {
        values[0]
    }
    #[inline(always)]
    fn load_i(self, values: &PerLane<i32>) -> i32 {
        values[0]
    }
    #[inline(always)]
    fn store(self, v: f32, out: &mut PerLane<f32>) {
        out[0] = v;
    }
    #[inline(always)]
    fn store_i(self, v: i32, out: &mut PerLane<i32>) {
        out[0] = v;
    }
    #[inline(always)]
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn sqrt(self, a: f32) -> f32 {
        crate::math::sqrtf(a)
    }
    #[inline(always)]
    fn abs(self, a: f32) -> f32 {
        a.abs()
    }
    #[inline(always)]
    fn min(self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    #[inline(always)]
    fn max(self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    #[inline(always)]
    fn lt(self, a: f32, b: f32) -> bool {
        a < b
    }
    #[inline(always)]
    fn le(self, a: f32, b: f32) -> bool {
        a <= b
    }
    #[inline(always)]
    fn eq(self, a: f32, b: f32) -> bool {
        a == b
    }
    #[inline(always)]
    fn eq_i(self, a: i32, b: i32) -> bool {
        a == b
    }
    #[inline(always)]
    fn and(self, a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn not(self, a: bool) -> bool {
        !a
    }
    #[inline(always)]
    fn any(self, a: bool) -> bool {
        a
    }
    #[inline(always)]
    fn select(self, mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }
    #[inline(always)]
    fn select_i(self, mask: bool, a: i32, b: i32) -> i32 {
        if mask { a } else { b }
    }
    #[inline(always)]
    fn add_i(self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn sub_i(self, a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn and_i(self, a: i32, b: i32) -> i32 {
        a & b
    }
    #[inline(always)]
    fn or_i(self, a: i32, b: i32) -> i32 {
        a | b
    }
    #[inline(always)]
    fn xor_i(self, a: i32, b: i32) -> i32 {
        a ^ b
    }
    #[inline(always)]
    fn shl<const BITS: u32>(self, a: i32) -> i32 {
        ((a as u32) << BITS) as i32
    }
    #[inline(always)]
    fn shr<const BITS: u32>(self, a: i32) -> i32 {
        ((a as u32) >> BITS) as i32
    }
    #[inline(always)]
    fn min_i(self, a: i32, b: i32) -> i32 {
        a.min(b)
    }
    #[inline(always)]
    fn max_i(self, a: i32, b: i32) -> i32 {
        a.max(b)
    }
    #[inline(always)]
    fn min_u(self, a: i32, b: i32) -> i32 {
        (a as u32).min(b as u32) as i32
    }
    #[inline(always)]
    fn max_u(self, a: i32, b: i32) -> i32 {
        (a as u32).max(b as u32) as i32
    }
    #[inline(always)]
    fn bits_to_f32(self, a: i32) -> f32 {
        f32::from_bits(a as u32)
    }
    #[inline(always)]
    fn bits(self, a: f32) -> i32 {
        a.to_bits() as i32
    }
    #[inline(always)]
    fn to_f32(self, a: i32) -> f32 {
        a as f32
    }
    #[inline(always)]
    fn trunc(self, a: f32) -> i32 {
        if a.abs() < 2_147_483_648.0 { a as i32 } else { i32::MIN }
    }
    #[inline(always)]
    fn to_f16_bits(self, a: f32) -> i32 {
        i32::from(half::f16::from_f32(a).to_bits())
    }
    #[inline(always)]
    fn f16_bits_to_f32(self, a: i32) -> f32 {
        half::f16::from_bits(a as u16).to_f32()
    }
}
