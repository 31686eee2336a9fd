//! The sums of splits, for one shift and for one of each half: as the reference has them, and roughly.

use super::{DOWN, UP};
use crate::lanes::Lanes;

/// Sums over the first values, in order, of the whole sub-block or one half of it.
pub(super) struct Sums<S: Lanes, const ENDS: usize> {
    pub(super) wx: [S::F32; ENDS],
    pub(super) w: [S::F32; ENDS],
}

/// Σ w·x·q and Σ w·q² of splits, in each way of shifting. A *row* are the splits with the same number of values below
/// 0.
pub(super) trait Ways<S: Lanes, const ENDS: usize, const WAYS: usize> {
    /// What the splits of a row have in common.
    type Row: Copy;

    /// A row, given Σ w·x and Σ w of the values below 0, of both halves.
    fn row(&self, s: S, below: [[S::F32; 2]; 2]) -> Self::Row;

    /// The sums of a split of a row, by how many values are below 1: as the reference has them.
    fn sums(&self, s: S, row: &Self::Row, end: usize) -> [[S::F32; 2]; WAYS];

    /// What the sums consist of in real numbers.
    fn parts(&self, s: S) -> Parts<S, ENDS, WAYS>;
}

/// But for rounding, the sums of a split with the ends `i` and `j` are `all_x - (x[i] + x[j])` and `low[i] +
/// middle[j]`.
pub(super) struct Parts<S: Lanes, const ENDS: usize, const WAYS: usize> {
    all_x: [S::F32; WAYS],
    x: [S::F32; ENDS],
    low: [[S::F32; WAYS]; ENDS],
    middle: [[S::F32; WAYS]; ENDS],
}

impl<S: Lanes, const ENDS: usize, const WAYS: usize> Parts<S, ENDS, WAYS> {
    /// About the highest score of each row, without a branch.
    #[inline(always)]
    pub(super) fn highest(&self, s: S) -> [S::F32; ENDS] {
        let mut highest = [s.splat(0.0); ENDS];
        for (i, highest) in highest.iter_mut().enumerate() {
            for j in i..ENDS {
                let x = s.add(self.x[i], self.x[j]);
                for way in 0..WAYS {
                    let sum_qx = s.sub(self.all_x[way], x);
                    let sum_q2 = s.add(self.low[i][way], self.middle[j][way]);
                    let score = s.mul(s.mul(sum_qx, sum_qx), s.rough_inverse(sum_q2));
                    *highest = s.max(score, *highest);
                }
            }
        }
        highest
    }
}

/// One shift for all, up (0) or down (1).
pub(super) struct Whole<'a, S: Lanes, const ENDS: usize> {
    sums: &'a Sums<S, ENDS>,
    /// What the values at the highest level add, by where they begin and by way.
    high: [[[S::F32; 2]; 2]; ENDS],
}

impl<'a, S: Lanes, const ENDS: usize> Whole<'a, S, ENDS> {
    #[inline(always)]
    pub(super) fn new(s: S, sums: &'a Sums<S, ENDS>) -> Self {
        let mut high = [[[s.splat(0.0); 2]; 2]; ENDS];
        for (j, high) in high.iter_mut().enumerate() {
            let x = s.sub(sums.wx[ENDS - 1], sums.wx[j]);
            let w = s.sub(sums.w[ENDS - 1], sums.w[j]);
            *high = [at_level(s, [x, w], UP[2]), at_level(s, [x, w], DOWN[2])];
        }
        Self { sums, high }
    }
}

/// What values add to both sums at a level, given Σ w·x and Σ w.
#[inline(always)]
fn at_level<S: Lanes>(s: S, [x, w]: [S::F32; 2], level: f32) -> [S::F32; 2] {
    let level = s.splat(level);
    [s.mul(x, level), s.mul(s.mul(w, level), level)]
}

impl<S: Lanes, const ENDS: usize> Ways<S, ENDS, 2> for Whole<'_, S, ENDS> {
    /// Σ w·x and Σ w of the values below 0, and what these add in each way.
    type Row = ([S::F32; 2], [[S::F32; 2]; 2]);

    #[inline(always)]
    fn row(&self, s: S, [below, _]: [[S::F32; 2]; 2]) -> Self::Row {
        (below, [at_level(s, below, UP[0]), at_level(s, below, DOWN[0])])
    }

    #[inline(always)]
    fn sums(&self, s: S, (below, low): &Self::Row, end: usize) -> [[S::F32; 2]; 2] {
        // The middle levels are opposite numbers.
        const { assert!(UP[1] == -DOWN[1]) }
        let (x, w) = (s.sub(self.sums.wx[end], below[0]), s.sub(self.sums.w[end], below[1]));
        let [x, q2] = at_level(s, [x, w], UP[1]);
        let [up, down] = self.high[end];
        [
            [s.add(s.add(low[0][0], x), up[0]), s.add(s.add(low[0][1], q2), up[1])],
            [s.add(s.sub(low[1][0], x), down[0]), s.add(s.add(low[1][1], q2), down[1])],
        ]
    }

    #[inline(always)]
    fn parts(&self, s: S) -> Parts<S, ENDS, 2> {
        let nothing = [[s.splat(0.0); 2]; ENDS];
        let mut parts = Parts { all_x: nothing[0], x: self.sums.wx, low: nothing, middle: nothing };
        for (way, [low, middle, high, _]) in [UP, DOWN].into_iter().enumerate() {
            let [all_x, all_q2] = self.high[0][way];
            parts.all_x[way] = all_x;
            for (i, &w) in self.sums.w.iter().enumerate() {
                let steps = [low * low - middle * middle, middle * middle - high * high];
                parts.low[i][way] = s.loose_mul_add(w, s.splat(steps[0]), all_q2);
                parts.middle[i][way] = s.mul(w, s.splat(steps[1]));
            }
        }
        parts
    }
}

/// A shift for each half, in ggml's order: both up, the second down, the first down, both down. Its sums start from
/// those with all values at the highest level. All but the sums are by half and shift.
pub(super) struct Halves<'a, S: Lanes, const ENDS: usize> {
    sums: &'a [Sums<S, ENDS>; 2],
    top: [[[S::F32; 2]; 2]; 2],
    to_low: [S::F32; 2],
    /// What it adds to Σ w·q² that values are no higher than the middle, by where these end.
    to_middle: [[[S::F32; 2]; 2]; ENDS],
}

impl<'a, S: Lanes, const ENDS: usize> Halves<'a, S, ENDS> {
    #[inline(always)]
    pub(super) fn new(s: S, sums: &'a [Sums<S, ENDS>; 2]) -> Self {
        let zero = s.splat(0.0);
        let (mut top, mut to_low) = ([[[zero; 2]; 2]; 2], [zero; 2]);
        let mut to_middle = [[[zero; 2]; 2]; ENDS];
        for (way, [low, middle, high, _]) in [UP, DOWN].into_iter().enumerate() {
            to_low[way] = s.splat(low * low - middle * middle);
            let steps = s.splat(middle * middle - high * high);
            for (h, sums) in sums.iter().enumerate() {
                top[h][way] = at_level(s, [sums.wx[ENDS - 1], sums.w[ENDS - 1]], high);
                for (to_middle, &w) in to_middle.iter_mut().zip(&sums.w) {
                    to_middle[h][way] = s.mul(w, steps);
                }
            }
        }
        Self { sums, top, to_low, to_middle }
    }
}

impl<S: Lanes, const ENDS: usize> Ways<S, ENDS, 4> for Halves<'_, S, ENDS> {
    /// Σ w·x of the values below 0, by half, and what Σ w·q² is if no other is below the highest level.
    type Row = ([S::F32; 2], [[S::F32; 2]; 2]);

    #[inline(always)]
    fn row(&self, s: S, below: [[S::F32; 2]; 2]) -> Self::Row {
        let mut start_q2 = [[below[0][0]; 2]; 2];
        for (h, start_q2) in start_q2.iter_mut().enumerate() {
            for (way, start_q2) in start_q2.iter_mut().enumerate() {
                let low = s.mul(below[h][1], self.to_low[way]);
                *start_q2 = s.add(self.top[h][way][1], low);
            }
        }
        ([below[0][0], below[1][0]], start_q2)
    }

    #[inline(always)]
    fn sums(&self, s: S, (below, start_q2): &Self::Row, end: usize) -> [[S::F32; 2]; 4] {
        let mut parts = [[[below[0]; 2]; 2]; 2];
        for h in 0..2 {
            let ends = s.add(below[h], self.sums[h].wx[end]);
            for way in 0..2 {
                let sum_q2 = s.add(start_q2[h][way], self.to_middle[end][h][way]);
                parts[h][way] = [s.sub(self.top[h][way][0], ends), sum_q2];
            }
        }
        let mut ways = [parts[0][0]; 4];
        for (way, sums) in ways.iter_mut().enumerate() {
            let (a, b) = (parts[0][way / 2], parts[1][way % 2]);
            *sums = [s.add(a[0], b[0]), s.add(a[1], b[1])];
        }
        ways
    }

    #[inline(always)]
    fn parts(&self, s: S) -> Parts<S, ENDS, 4> {
        let zero = s.splat(0.0);
        let nothing = [[zero; 4]; ENDS];
        let mut parts = Parts { all_x: [zero; 4], x: [zero; ENDS], low: nothing, middle: nothing };
        for way in 0..4 {
            parts.all_x[way] = s.add(self.top[0][way / 2][0], self.top[1][way % 2][0]);
        }
        for i in 0..ENDS {
            let [one, other] = self.sums;
            parts.x[i] = s.add(one.wx[i], other.wx[i]);
            let (_, low) = self.row(s, [[zero, one.w[i]], [zero, other.w[i]]]);
            for way in 0..4 {
                parts.low[i][way] = s.add(low[0][way / 2], low[1][way % 2]);
                let [first, second] = self.to_middle[i];
                parts.middle[i][way] = s.add(first[way / 2], second[way % 2]);
            }
        }
        parts
    }
}
