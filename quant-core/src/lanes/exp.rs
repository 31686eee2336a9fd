//! The exponential function, from the operations that every instance has.

use super::Lanes;

/// Beyond these the result is 0 or infinity.
const LOWEST: f32 = -104.0;
const HIGHEST: f32 = 89.0;

/// ln 2 in two parts: products of the first with whole numbers up to 2⁸ are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Coefficients of (eʳ − 1 − r) / r², highest power first, for |r| up to half of ln 2 (Cephes).
const COEFFICIENTS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

/// [`Lanes::exp`].
#[inline(always)]
pub(super) fn exp<S: Lanes>(s: S, a: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    let limited = s.max(s.min(a, s.splat(HIGHEST)), s.splat(LOWEST));
    let whole = s.round(s.mul(limited, s.splat(core::f32::consts::LOG2_E)));
    let r = s.sub(limited, s.mul(whole, s.splat(LN2_HIGH)));
    let r = s.sub(r, s.mul(whole, s.splat(LN2_LOW)));
    let mut sum = s.splat(COEFFICIENTS[0]);
    for &c in &COEFFICIENTS[1..] {
        sum = s.add(s.mul(sum, r), s.splat(c));
    }
    let sum = s.add(s.add(s.mul(s.mul(sum, r), r), r), one);
    // Two powers of two, because one of them would not reach the ends of the range.
    let half = s.round(s.mul(whole, s.splat(0.5)));
    let result = s.mul(s.mul(sum, power(s, half)), power(s, s.sub(whole, half)));
    s.select(s.eq(a, a), result, a)
}

/// Two to the power of a whole number. No closure: it would not be compiled with the instructions of the lanes.
#[inline(always)]
fn power<S: Lanes>(s: S, n: S::F32) -> S::F32 {
    s.bits_to_f32(s.shl::<23>(s.add_i(s.trunc(n), s.splat_i(127))))
}

#[cfg(test)]
mod tests {
    use crate::lanes::{Lanes, Scalar};

    #[test]
    fn the_error_is_below_two_units_in_the_last_place() {
        for i in -87_000..=88_700 {
            let a = i as f32 / 1000.0;
            let exact = f64::from(a).exp();
            let ulp =
                f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
            let error = (f64::from(Scalar.exp(a)) - exact).abs() / ulp;
            assert!(error < 2.0, "{a}: {error} units");
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(Scalar.exp(0.0), 1.0);
        assert_eq!(Scalar.exp(-0.0), 1.0);
        assert_eq!(Scalar.exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Scalar.exp(-104.0), 0.0);
        assert_eq!(Scalar.exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(Scalar.exp(88.8), f32::INFINITY);
        assert!(Scalar.exp(f32::NAN).is_nan());
        let subnormal = Scalar.exp(-95.0);
        assert!((f64::from(subnormal) / (-95f64).exp() - 1.0).abs() < 1e-3);
    }
}
