//! Two vectors side by side: the lanes of one hide the latency of the other's.

use super::{Call, Lanes, MAX_LANES, PerLane};

/// An instance with twice the lanes of another, as two of its vectors.
///
/// The searches are long chains of dependent operations; with a second, independent chain in
/// flight a core's units stay busy.
#[derive(Clone, Copy, Debug)]
pub struct Pair<S>(pub S);

/// Columns that [`Lanes::load_columns`] loads at a time.
const TILE: usize = 16;

/// An operation on pairs, for the vectors they are made of.
struct OfBoth<O>(O);

impl<S: Lanes, O: Call<Pair<S>>> Call<S> for OfBoth<O> {
    type Output = O::Output;

    #[inline(always)]
    fn eval(self, s: S) -> O::Output {
        self.0.eval(Pair(s))
    }
}

macro_rules! both {
    ($($name:ident($($arg:ident: $ty:ident),*) -> $out:ident;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: Self::$ty),*) -> Self::$out {
            (self.0.$name($($arg.0),*), self.0.$name($($arg.1),*))
        }
    )*};
}

impl<S: Lanes> Lanes for Pair<S> {
    const N: usize = 2 * S::N;
    type F32 = (S::F32, S::F32);
    type I32 = (S::I32, S::I32);
    type Mask = (S::Mask, S::Mask);

    both! {
        add(a: F32, b: F32) -> F32;
        sub(a: F32, b: F32) -> F32;
        mul(a: F32, b: F32) -> F32;
        div(a: F32, b: F32) -> F32;
        sqrt(a: F32) -> F32;
        rough_inverse(a: F32) -> F32;
        abs(a: F32) -> F32;
        min(a: F32, b: F32) -> F32;
        max(a: F32, b: F32) -> F32;
        max_abs(a: F32, b: F32) -> F32;
        loose_mul_add(a: F32, b: F32, c: F32) -> F32;
        loose_mul_sub(a: F32, b: F32, c: F32) -> F32;
        round(a: F32) -> F32;
        lt(a: F32, b: F32) -> Mask;
        le(a: F32, b: F32) -> Mask;
        eq(a: F32, b: F32) -> Mask;
        eq_i(a: I32, b: I32) -> Mask;
        and(a: Mask, b: Mask) -> Mask;
        not(a: Mask) -> Mask;
        select(mask: Mask, a: F32, b: F32) -> F32;
        select_i(mask: Mask, a: I32, b: I32) -> I32;
        add_i(a: I32, b: I32) -> I32;
        sub_i(a: I32, b: I32) -> I32;
        and_i(a: I32, b: I32) -> I32;
        or_i(a: I32, b: I32) -> I32;
        xor_i(a: I32, b: I32) -> I32;
        min_i(a: I32, b: I32) -> I32;
        max_i(a: I32, b: I32) -> I32;
        min_u(a: I32, b: I32) -> I32;
        max_u(a: I32, b: I32) -> I32;
        bits(a: F32) -> I32;
        bits_to_f32(a: I32) -> F32;
        to_f32(a: I32) -> F32;
        trunc(a: F32) -> I32;
        to_f16_bits(a: F32) -> I32;
        f16_bits_to_f32(a: I32) -> F32;
    }

    #[inline(always)]
    fn call<O: Call<Self>>(self, op: O) -> O::Output {
        self.0.call(OfBoth(op))
    }
    #[inline(always)]
    fn splat(self, v: f32) -> Self::F32 {
        (self.0.splat(v), self.0.splat(v))
    }
    #[inline(always)]
    fn splat_i(self, v: i32) -> Self::I32 {
        (self.0.splat_i(v), self.0.splat_i(v))
    }
    #[inline(always)]
    fn load(self, values: &PerLane<f32>) -> Self::F32 {
        let mut high = [0.0; MAX_LANES];
        high[..S::N].copy_from_slice(&values[S::N..2 * S::N]);
        (self.0.load(values), self.0.load(&high))
    }
    #[inline(always)]
    fn store(self, v: Self::F32, out: &mut PerLane<f32>) {
        let mut high = [0.0; MAX_LANES];
        self.0.store(v.0, out);
        self.0.store(v.1, &mut high);
        out[S::N..2 * S::N].copy_from_slice(&high[..S::N]);
    }
    #[inline(always)]
    fn store_i(self, v: Self::I32, out: &mut PerLane<i32>) {
        let mut high = [0; MAX_LANES];
        self.0.store_i(v.0, out);
        self.0.store_i(v.1, &mut high);
        out[S::N..2 * S::N].copy_from_slice(&high[..S::N]);
    }
    #[inline(always)]
    fn any(self, a: Self::Mask) -> bool {
        self.0.any(a.0) | self.0.any(a.1)
    }
    #[inline(always)]
    fn shl<const BITS: u32>(self, a: Self::I32) -> Self::I32 {
        (self.0.shl::<BITS>(a.0), self.0.shl::<BITS>(a.1))
    }
    #[inline(always)]
    fn shr<const BITS: u32>(self, a: Self::I32) -> Self::I32 {
        (self.0.shr::<BITS>(a.0), self.0.shr::<BITS>(a.1))
    }

    #[inline(always)]
    fn look_up(self, table: &[f32; 16], index: Self::I32) -> Self::F32 {
        (self.0.look_up(table, index.0), self.0.look_up(table, index.1))
    }
    #[inline(always)]
    fn gather(self, table: &[f32], index: Self::I32) -> Self::F32 {
        (self.0.gather(table, index.0), self.0.gather(table, index.1))
    }
    #[inline(always)]
    fn widen_halves(self, bytes: &[u8], out: &mut [f32]) {
        self.0.widen_halves(bytes, out);
    }
    #[inline(always)]
    fn narrow_halves(self, values: &[f32], out: &mut [u8]) {
        self.0.narrow_halves(values, out);
    }

    #[inline(always)]
    fn load_columns(self, values: &[f32], starts: &PerLane<usize>, out: &mut [Self::F32]) {
        let (mut low, mut high) = ([self.0.splat(0.0); TILE], [self.0.splat(0.0); TILE]);
        for (t, out) in out.chunks_mut(TILE).enumerate() {
            let mut low_starts = [0; MAX_LANES];
            let mut high_starts = [0; MAX_LANES];
            for lane in 0..S::N {
                low_starts[lane] = starts[lane] + t * TILE;
                high_starts[lane] = starts[lane + S::N] + t * TILE;
            }
            self.0.load_columns(values, &low_starts, &mut low[..out.len()]);
            self.0.load_columns(values, &high_starts, &mut high[..out.len()]);
            for ((out, &low), &high) in out.iter_mut().zip(&low).zip(&high) {
                *out = (low, high);
            }
        }
    }
}
