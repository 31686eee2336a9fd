//! The operations on lanes give the same bits on every instruction set.

#![allow(clippy::unwrap_used, reason = "a test that cannot run has failed")]

use proptest::prelude::*;
use quant_core::lanes::{Lanes, MAX_LANES, Pair};
use quant_kernels::{Kernels, LaneOp};

/// One value after the other through the lanes: bits of floats and integers in, bits out.
struct Map<'a, F>(&'a [[u32; 2]], F);

/// Applies an operation to a vector of each; a trait, because closures cannot be generic.
trait OnLanes: Copy {
    fn apply<S: Lanes>(self, s: S, a: S::I32, b: S::I32) -> S::I32;
}

impl<F: OnLanes> LaneOp for Map<'_, F> {
    type Output = [Vec<u32>; 2];

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> [Vec<u32>; 2] {
        [map(s, self.0, self.1), map(Pair(s), self.0, self.1)]
    }
}

#[inline(always)]
fn map<S: Lanes, F: OnLanes>(s: S, values: &[[u32; 2]], f: F) -> Vec<u32> {
    let mut out = Vec::new();
    if S::N > MAX_LANES {
        return out;
    }
    for chunk in values.chunks(S::N) {
        let mut lanes = [[0; MAX_LANES]; 2];
        for (i, pair) in chunk.iter().enumerate() {
            lanes[0][i] = pair[0] as i32;
            lanes[1][i] = pair[1] as i32;
        }
        let result = f.apply(s, s.load_i(&lanes[0]), s.load_i(&lanes[1]));
        let mut stored = [0; MAX_LANES];
        s.store_i(result, &mut stored);
        out.extend(stored[..chunk.len()].iter().map(|v| *v as u32));
    }
    out
}

macro_rules! operations {
    ($($name:ident($s:ident, $a:ident, $b:ident) $body:expr;)*) => {
        $(
            #[derive(Clone, Copy)]
            #[allow(non_camel_case_types, reason = "named after what they test")]
            struct $name;
            impl OnLanes for $name {
                #[inline(always)]
                fn apply<S: Lanes>(self, $s: S, $a: S::I32, $b: S::I32) -> S::I32 {
                    $body
                }
            }
        )*
        /// The results of every operation, by name.
        fn results(kernels: Kernels, values: &[[u32; 2]]) -> Vec<(&'static str, [Vec<u32>; 2])> {
            vec![$((stringify!($name), kernels.run(Map(values, $name)))),*]
        }
    };
}

const TABLE: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, -0.0,
];

operations! {
    xor(s, a, b) s.xor_i(a, b);
    look_up(s, a, _b) s.bits(s.look_up(&TABLE, a));
    gather(s, a, b) s.bits(s.gather(&TABLE, s.add_i(a, b)));
    // Of small integers both are exact.
    loose_mul_add(s, a, b) {
        let [a, b, c] = small(s, a, b);
        s.bits(s.loose_mul_add(a, b, c))
    };
    loose_mul_sub(s, a, b) {
        let [a, b, c] = small(s, a, b);
        s.bits(s.loose_mul_sub(a, b, c))
    };
    // Not the same bits, but as near everywhere.
    rough_inverse(s, a, b) {
        let [a, b, c] = small(s, a, b);
        let v = s.add(s.mul(s.add(a, s.splat(1.0)), s.add(b, s.splat(0.001))), c);
        let off = s.abs(s.sub(s.mul(v, s.rough_inverse(v)), s.splat(1.0)));
        s.select_i(s.lt(off, s.splat(1.0 / 8000.0)), s.splat_i(1), s.splat_i(0))
    };
    exp(s, a, _b) {
        let power = s.exp(s.bits_to_f32(a));
        // A NaN is one, whatever its bits.
        s.bits(s.select(s.eq(power, power), power, s.splat(-1.0)))
    };
}

#[inline(always)]
fn small<S: Lanes>(s: S, a: S::I32, b: S::I32) -> [S::F32; 3] {
    [a, b, s.shr::<8>(a)].map(|v| s.to_f32(s.and_i(v, s.splat_i(255))))
}

struct Columns<'a, T>(&'a [T], usize);

impl LaneOp for Columns<'_, f32> {
    type Output = Vec<Vec<f32>>;

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> Vec<Vec<f32>> {
        let mut columns = vec![s.splat(0.0); 2 * self.1];
        let (these, others) = columns.split_at_mut(self.1);
        s.load_columns(self.0, &STARTS, these);
        s.load_columns_at(self.0, s.load_i(&STARTS.map(|start| start as i32)), others);
        let mut out = Vec::new();
        for column in columns {
            let mut lanes = [0.0; MAX_LANES];
            s.store(column, &mut lanes);
            out.push(lanes[..S::N].to_vec());
        }
        out
    }
}

impl LaneOp for Columns<'_, u16> {
    type Output = Vec<Vec<i32>>;

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> Vec<Vec<i32>> {
        let mut columns = vec![s.splat_i(0); self.1];
        s.load_u16_columns(self.0, s.load_i(&STARTS.map(|start| start as i32)), &mut columns);
        let mut out = Vec::new();
        for column in columns {
            let mut lanes = [0; MAX_LANES];
            s.store_i(column, &mut lanes);
            out.push(lanes[..S::N].to_vec());
        }
        out
    }
}

const STARTS: [usize; MAX_LANES] = {
    let mut starts = [0; MAX_LANES];
    let mut lane = 0;
    while lane < MAX_LANES {
        starts[lane] = lane * 37 % 101;
        lane += 1;
    }
    starts
};

#[test]
fn columns_are_those_of_each_lane() {
    let integers: Vec<u16> = (0..160).map(|v| 65535 - 400 * v).collect();
    let floats: Vec<f32> = integers.iter().map(|v| f32::from(*v)).collect();
    for kernels in Kernels::supported() {
        for count in [8, 16, 24, 32] {
            let name = kernels.isa().name();
            for (i, column) in kernels.run(Columns(&floats, count)).iter().enumerate() {
                for (v, start) in column.iter().zip(STARTS) {
                    assert_eq!(*v, floats[start + i % count], "{name}, column {i} of {count}");
                }
            }
            for (i, column) in kernels.run(Columns(&integers, count)).iter().enumerate() {
                for (v, start) in column.iter().zip(STARTS) {
                    assert_eq!(*v, integers[start + i].into(), "{name}, column {i} of {count}");
                }
            }
        }
    }
}

#[test]
fn pairs_of_sixteen_lanes_fit() {
    for kernels in Kernels::supported() {
        struct Count;
        impl LaneOp for Count {
            type Output = usize;
            #[inline(always)]
            fn eval<S: Lanes>(self, _: S) -> usize {
                Pair::<S>::N
            }
        }
        assert!(kernels.run(Count) <= MAX_LANES, "{}", kernels.isa().name());
    }
}

struct Sums<'a>(&'a [i32; MAX_LANES]);

impl LaneOp for Sums<'_> {
    /// The sum of integers, and of the same values as floats; how many lanes there are.
    type Output = (i32, f32, usize);

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> (i32, f32, usize) {
        let v = s.load_i(self.0);
        (s.sum_i(v), s.sum(s.to_f32(v)), S::N)
    }
}

struct Compressed<'a>(&'a [i32; MAX_LANES], &'a [i32; MAX_LANES]);

impl LaneOp for Compressed<'_> {
    /// Those of the second integers at whose places the first are zero; how many lanes there are.
    type Output = [(Vec<i32>, usize); 2];

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> Self::Output {
        [compressed(s, self.0, self.1), compressed(Pair(s), self.0, self.1)]
    }
}

#[inline(always)]
fn compressed<S: Lanes>(
    s: S,
    keys: &[i32; MAX_LANES],
    values: &[i32; MAX_LANES],
) -> (Vec<i32>, usize) {
    let mask = s.eq_i(s.load_i(keys), s.splat_i(0));
    let mut out = [0; MAX_LANES];
    let count = s.compress_i(mask, s.load_i(values), &mut out);
    (out[..count].to_vec(), S::N)
}

proptest! {
    #[test]
    fn lanes_of_a_mask_are_compressed_in_order(
        keys in prop::collection::vec(0..2i32, MAX_LANES),
        values in prop::collection::vec(any::<i32>(), MAX_LANES),
    ) {
        let keys: [i32; MAX_LANES] = keys.try_into().unwrap();
        let values: [i32; MAX_LANES] = values.try_into().unwrap();
        for kernels in Kernels::supported() {
            for (found, lanes) in kernels.run(Compressed(&keys, &values)) {
                let pairs = keys.iter().zip(values).take(lanes);
                let expected: Vec<i32> = pairs.filter(|(k, _)| **k == 0).map(|(_, v)| v).collect();
                prop_assert_eq!(&found, &expected, "{}", kernels.isa().name());
            }
        }
    }

    #[test]
    fn every_isa_gives_the_scalar_bits(
        values in prop::collection::vec(
            (prop_oneof![any::<u32>(), (-110f32..110.0).prop_map(f32::to_bits)], any::<u32>()),
            1..100,
        ),
    ) {
        let values: Vec<[u32; 2]> = values.into_iter().map(<[u32; 2]>::from).collect();
        let scalar = results(Kernels::supported().next().unwrap(), &values);
        for kernels in Kernels::supported() {
            for ((name, found), (_, expected)) in results(kernels, &values).iter().zip(&scalar) {
                for found in found {
                    prop_assert_eq!(found, &expected[0], "{} {}", kernels.isa().name(), name);
                }
            }
        }
    }

    #[test]
    fn sums_are_over_all_lanes(values in prop::collection::vec(-1000i32..1000, MAX_LANES)) {
        let values: [i32; MAX_LANES] = values.try_into().unwrap();
        for kernels in Kernels::supported() {
            let (sum, floats, lanes) = kernels.run(Sums(&values));
            let expected: i32 = values[..lanes].iter().sum();
            prop_assert_eq!((sum, floats), (expected, expected as f32), "{}", kernels.isa().name());
        }
    }
}
