//! Better codes for the same formats: blocks that ggml's searches made, improved until their squared error,
//! weighted by importance, cannot easily be made smaller.
//!
//! The reference weighs errors by the values as well, which costs accuracy once scales are searched for in
//! earnest: KL divergences measured on trained models fall with the weights used here and rise with those.
//!
//! A block is improved in turns, none of which can raise the error: the scale and minimum of each
//! sub-block go a step up or down, and every value gets the nearest code; then least squares find the scales
//! of the block for the codes as they are. Turns end in a valley, so they start from several scales. All
//! sums are of sixteen parts, whatever a vector holds: the bytes are the same on every CPU.

mod layout;

use alloc::vec;

use half::f16;

use self::layout::{Layout, Levels, Numbers};
use crate::{Error, GgmlType, formats::Rows};

/// Whether [`improve`] knows a type.
pub fn can_improve(ty: GgmlType) -> bool {
    Layout::of(ty).is_some()
}

/// Improves blocks that were [quantized](crate::quantize_unchecked) from `rows`: their squared error, weighted
/// by the importance, becomes smaller or stays. Without importance every value weighs the same.
///
/// Returns how many blocks were changed.
///
/// # Errors
/// [`Error::Length`] and [`Error::RowLength`] if `rows`, their importance and `blocks` do not fit each
/// other, [`Error::Unsupported`] for a type that [`can_improve`] refuses.
// Inlined, so that callers compile it for the instruction set that they found.
#[inline(always)]
pub fn improve(ty: GgmlType, rows: Rows<'_>, blocks: &mut [u8]) -> Result<u64, Error> {
    let layout = Layout::of(ty).ok_or(Error::Unsupported { ty, operation: "improved" })?;
    rows.check(ty)?;
    ty.check_bytes(rows.values.len(), blocks.len())?;
    let ones = vec![1.0; layout.len];
    let mut changed = 0;
    let values = rows.values.chunks_exact(layout.len);
    for (i, (x, block)) in values.zip(blocks.chunks_exact_mut(ty.block_bytes())).enumerate() {
        let column = i * layout.len % rows.row_len;
        let weights = match rows.importance {
            Some(importance) => &importance[column..][..layout.len],
            None => &ones,
        };
        let search = Search { layout: &layout, x, weights };
        if let Some(better) = search.run(&layout.read(block)) {
            layout.write(&better, block);
            changed += 1;
        }
    }
    Ok(changed)
}

/// Values and weights that are looked at together; sums have as many parts.
const TOGETHER: usize = 16;

/// Turns after which little is won.
const TURNS: usize = 6;

/// What the scale of a block is multiplied by to start from. Where it is the only one, it can be of the other
/// sign, too: codes reach further below zero than above.
const STARTS: &[f32] = &[1.0, 0.97, 1.03, 0.94, 1.06];
const STARTS_OF_ONE_SCALE: &[f32] =
    &[1.0, 0.9, 0.92, 0.94, 0.96, 0.98, 1.02, 1.04, 1.06, 1.08, 1.1, -1.0, -0.95, -1.05];

/// The steps that scales and minimums of sub-blocks take.
const STEPS: [i16; 3] = [-1, 0, 1];

struct Search<'a> {
    layout: &'a Layout,
    x: &'a [f32],
    weights: &'a [f32],
}

impl Search<'_> {
    /// Numbers of a smaller error than these, if there are.
    #[inline(always)]
    fn run(&self, first: &Numbers) -> Option<Numbers> {
        let stock = self.error(first);
        if !stock.is_finite() {
            return None;
        }
        let (mut best, mut least) = (None, stock);
        let starts = if self.layout.subs() == 1 { STARTS_OF_ONE_SCALE } else { STARTS };
        for start in starts {
            let mut numbers = *first;
            if *start != 1.0 && !self.rescale(&mut numbers, *start) {
                continue;
            }
            let error = self.settle(&mut numbers, *start == 1.0);
            if error < least {
                (best, least) = (Some(numbers), error);
            }
        }
        best
    }

    /// Another scale of the block, with integers of sub-blocks that keep what they scale by. Returns whether
    /// there is such a scale.
    #[inline(always)]
    fn rescale(&self, numbers: &mut Numbers, by: f32) -> bool {
        let old = f16::from_bits(numbers.d).to_f32();
        let new = f16::from_f32(old * by);
        if new.to_f32() == old || !new.is_finite() {
            return false;
        }
        numbers.d = new.to_bits();
        let ([low, high], _) = self.layout.limits();
        for scale in &mut numbers.scales {
            *scale = (round(f32::from(*scale) / by) as i16).clamp(low, high);
        }
        true
    }

    /// Lowers the error until it stays, and returns it. `levels_count` says whether the levels of these
    /// numbers are of their scales, or only nearest ones count.
    #[inline(always)]
    fn settle(&self, numbers: &mut Numbers, mut levels_count: bool) -> f64 {
        let mut least = f64::INFINITY;
        for _ in 0..TURNS {
            let error = self.sub_blocks(numbers, levels_count);
            levels_count = true;
            if error >= least {
                break;
            }
            least = error;
            let (d, dmin) = (numbers.d, numbers.dmin);
            self.least_squares(numbers);
            let error = self.error(numbers);
            if error >= least {
                (numbers.d, numbers.dmin) = (d, dmin);
                break;
            }
            least = error;
        }
        least
    }

    /// The best of the scales and minimums that each sub-block has and those a step away, with the nearest
    /// levels. Returns the error.
    #[inline(always)]
    fn sub_blocks(&self, numbers: &mut Numbers, levels_count: bool) -> f64 {
        let (scales, mins) = self.layout.limits();
        let mut total = 0.0;
        for j in 0..self.layout.subs() {
            let (x, weights) = self.sub(j);
            let now = (numbers.scales[j], numbers.mins[j]);
            let mut least = if levels_count { self.sub_error(numbers, j) } else { f32::INFINITY };
            let mut best = None;
            for ds in STEPS {
                for dm in STEPS {
                    let (scale, min) = (now.0 + ds, now.1 + dm);
                    if scale < scales[0] || scale > scales[1] || min < mins[0] || min > mins[1] {
                        continue;
                    }
                    let (factor, shift) = self.factors(numbers, scale, min);
                    let error = self.nearest_error(x, weights, factor, shift);
                    if error < least {
                        (least, best) = (error, Some((scale, min)));
                    }
                }
            }
            if let Some((scale, min)) = best {
                (numbers.scales[j], numbers.mins[j]) = (scale, min);
                let (factor, shift) = self.factors(numbers, scale, min);
                let levels = &mut numbers.levels[j * self.layout.sub..][..self.layout.sub];
                for (level, x) in levels.iter_mut().zip(x) {
                    *level = self.nearest(*x, inverse(factor), shift);
                }
            }
            total += f64::from(least);
        }
        total
    }

    /// What a sub-block of this scale and minimum scales and shifts by.
    #[inline(always)]
    fn factors(&self, numbers: &Numbers, scale: i16, min: i16) -> (f32, f32) {
        let (d, dmin) = (f16::from_bits(numbers.d).to_f32(), f16::from_bits(numbers.dmin).to_f32());
        (d * f32::from(scale), dmin * f32::from(min))
    }

    /// The values of sub-block `j` and their weights.
    #[inline(always)]
    fn sub(&self, j: usize) -> (&[f32], &[f32]) {
        let place = j * self.layout.sub..(j + 1) * self.layout.sub;
        (&self.x[place.clone()], &self.weights[place])
    }

    /// The level that is nearest to a value.
    #[inline(always)]
    fn nearest(&self, x: f32, inverse: f32, shift: f32) -> f32 {
        let at = (x + shift) * inverse;
        match self.layout.levels {
            Levels::From(half) => {
                let (low, high) = (-half as f32, (self.layout.largest - half) as f32);
                // A NaN becomes the lowest.
                let at = if at > low { at } else { low };
                round(if at < high { at } else { high })
            }
            Levels::Table(table) => {
                let mut level = table[0];
                for pair in table.windows(2) {
                    let step = pair[1] - pair[0];
                    level += if at > (pair[0] + pair[1]) / 2.0 { step } else { 0.0 };
                }
                level
            }
        }
    }

    /// The error of values by their nearest levels; infinite where the factor is too small for an inverse.
    #[inline(always)]
    fn nearest_error(&self, x: &[f32], weights: &[f32], factor: f32, shift: f32) -> f32 {
        let inverse = inverse(factor);
        if !inverse.is_finite() {
            return f32::INFINITY;
        }
        let mut sums = [0.0f32; TOGETHER];
        let (x, weights) = (x.as_chunks::<TOGETHER>().0, weights.as_chunks::<TOGETHER>().0);
        for (x, weights) in x.iter().zip(weights) {
            for i in 0..TOGETHER {
                let off = x[i] - (factor * self.nearest(x[i], inverse, shift) - shift);
                sums[i] += weights[i] * off * off;
            }
        }
        total(sums)
    }

    /// The error of sub-block `j` by the levels that it has.
    #[inline(always)]
    fn sub_error(&self, numbers: &Numbers, j: usize) -> f32 {
        let (x, weights) = self.sub(j);
        let levels = numbers.levels[j * self.layout.sub..].as_chunks::<TOGETHER>().0;
        let (factor, shift) = self.factors(numbers, numbers.scales[j], numbers.mins[j]);
        let mut sums = [0.0f32; TOGETHER];
        let (x, weights) = (x.as_chunks::<TOGETHER>().0, weights.as_chunks::<TOGETHER>().0);
        for ((x, weights), levels) in x.iter().zip(weights).zip(levels) {
            for i in 0..TOGETHER {
                let off = x[i] - (factor * levels[i] - shift);
                sums[i] += weights[i] * off * off;
            }
        }
        total(sums)
    }

    /// The error of the block.
    #[inline(always)]
    fn error(&self, numbers: &Numbers) -> f64 {
        let mut total = 0.0;
        for j in 0..self.layout.subs() {
            total += f64::from(self.sub_error(numbers, j));
        }
        total
    }

    /// The scale and the minimum of the block of the least error for levels as they are.
    #[inline(always)]
    fn least_squares(&self, numbers: &mut Numbers) {
        // Of x ≈ d · a − dmin · m the sums of a², a·m, m², a·x and m·x.
        let (mut aa, mut am, mut mm, mut ax, mut mx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for j in 0..self.layout.subs() {
            let (x, weights) = self.sub(j);
            let levels = numbers.levels[j * self.layout.sub..].as_chunks::<TOGETHER>().0;
            // Of the sub-block, with levels for a and ones for m.
            let mut sums = [[0.0f32; TOGETHER]; 5];
            let (x, weights) = (x.as_chunks::<TOGETHER>().0, weights.as_chunks::<TOGETHER>().0);
            for ((x, weights), levels) in x.iter().zip(weights).zip(levels) {
                for i in 0..TOGETHER {
                    let (w, weighed) = (weights[i], weights[i] * levels[i]);
                    sums[0][i] += weighed * levels[i];
                    sums[1][i] += weighed;
                    sums[2][i] += w;
                    sums[3][i] += weighed * x[i];
                    sums[4][i] += w * x[i];
                }
            }
            let (scale, min) = (f64::from(numbers.scales[j]), f64::from(numbers.mins[j]));
            aa += scale * scale * f64::from(total(sums[0]));
            am += scale * min * f64::from(total(sums[1]));
            mm += min * min * f64::from(total(sums[2]));
            ax += scale * f64::from(total(sums[3]));
            mx += min * f64::from(total(sums[4]));
        }
        let dmin = f64::from(f16::from_bits(numbers.dmin).to_f32());
        let determinant = aa * mm - am * am;
        let (d, dmin) = if mm > 0.0 && determinant > 1e-6 * aa * mm {
            ((ax * mm - mx * am) / determinant, (ax * am - mx * aa) / determinant)
        } else if aa > 0.0 {
            ((ax + dmin * am) / aa, dmin)
        } else {
            return;
        };
        let (d, dmin) = (f16::from_f64(d), f16::from_f64(dmin));
        if d.is_finite() && dmin.is_finite() {
            (numbers.d, numbers.dmin) = (d.to_bits(), dmin.to_bits());
        }
    }
}

/// What values are multiplied by to find their levels. Where levels do not count, any will do.
#[inline(always)]
fn inverse(factor: f32) -> f32 {
    if factor == 0.0 { 0.0 } else { 1.0 / factor }
}

/// The sum of the parts of a sum, always in the same order.
#[inline(always)]
fn total(mut parts: [f32; TOGETHER]) -> f32 {
    let mut half = TOGETHER / 2;
    while half > 0 {
        for i in 0..half {
            parts[i] += parts[i + half];
        }
        half /= 2;
    }
    parts[0]
}

/// The nearest integer of a value of at most 2²², ties to even.
#[inline(always)]
fn round(v: f32) -> f32 {
    const HALF_OF_ALL_BITS: f32 = 12_582_912.0;
    (v + HALF_OF_ALL_BITS) - HALF_OF_ALL_BITS
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{dequantize, quantize};

    fn types() -> impl Iterator<Item = GgmlType> {
        GgmlType::ALL.iter().copied().filter(|ty| can_improve(*ty))
    }

    fn weighted_error(ty: GgmlType, x: &[f32], weights: &[f32], bytes: &[u8]) -> f64 {
        let mut restored = vec![0.0; x.len()];
        dequantize(ty, bytes, &mut restored).unwrap();
        let all = x.iter().zip(&restored).zip(weights.iter().cycle());
        all.map(|((x, r), w)| f64::from(*w) * f64::from(x - r).powi(2)).sum()
    }

    #[test]
    fn blocks_taken_apart_and_put_together_are_the_same() {
        for ty in types() {
            let layout = Layout::of(ty).unwrap();
            let mut bytes = vec![0u8; ty.block_bytes()];
            let mut state = 1u32;
            for _ in 0..50 {
                for byte in &mut bytes {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 24) as u8;
                }
                let mut again = vec![0; bytes.len()];
                layout.write(&layout.read(&bytes), &mut again);
                assert_eq!(again, bytes, "{ty}");
            }
        }
    }

    #[test]
    fn numbers_stand_for_the_values_that_blocks_restore() {
        for ty in types() {
            let layout = Layout::of(ty).unwrap();
            let x: Vec<f32> = (0..layout.len).map(|i| (i as f32 * 0.7).sin() + 0.1).collect();
            let bytes = quantize(ty, &x, layout.len, None).unwrap();
            let weights = vec![1.0; layout.len];
            let search = Search { layout: &layout, x: &x, weights: &weights };
            let restored = weighted_error(ty, &x, &weights, &bytes);
            let told = search.error(&layout.read(&bytes));
            assert!((told - restored).abs() <= 1e-4 * restored, "{ty}: {told} {restored}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_error_becomes_smaller_or_stays(
            x in prop::collection::vec(-2.0f32..2.0, 512),
            weights in prop::option::of(prop::collection::vec(0.0f32..4.0, 256)),
        ) {
            for ty in types() {
                let before = quantize(ty, &x, 256, weights.as_deref()).unwrap();
                let mut after = before.clone();
                let rows = Rows { values: &x, row_len: 256, importance: weights.as_deref() };
                let changed = improve(ty, rows, &mut after).unwrap();
                prop_assert_eq!(changed > 0, before != after);
                let ones = vec![1.0; 256];
                let weights = weights.as_ref().unwrap_or(&ones);
                let error = |bytes: &[u8]| weighted_error(ty, &x, weights, bytes);
                prop_assert!(error(&after) <= error(&before) * (1.0 + 1e-5), "{}", ty);
            }
        }

        #[test]
        fn any_bytes_and_any_values_are_taken(
            x in prop::collection::vec(any::<f32>(), 256),
            bytes in prop::collection::vec(any::<u8>(), 2048),
        ) {
            for ty in types() {
                let size = ty.block_bytes() * 256 / ty.block_len();
                let mut blocks = bytes[..size].to_vec();
                improve(ty, Rows { values: &x, row_len: 256, importance: None }, &mut blocks).unwrap();
            }
        }
    }

    #[test]
    fn a_block_that_gains_gains_what_it_should() {
        // One outlier makes the reference's Q4_0 coarse for all others.
        let mut x: Vec<f32> = (0..32).map(|i| (i as f32 * 1.3).sin() * 0.5).collect();
        x[7] = 1.0;
        let mut bytes = quantize(GgmlType::Q4_0, &x, 32, None).unwrap();
        let ones = [1.0; 32];
        let before = weighted_error(GgmlType::Q4_0, &x, &ones, &bytes);
        improve(GgmlType::Q4_0, Rows { values: &x, row_len: 32, importance: None }, &mut bytes)
            .unwrap();
        let after = weighted_error(GgmlType::Q4_0, &x, &ones, &bytes);
        assert!(after < 0.95 * before, "{before} {after}");
    }

    #[test]
    fn what_cannot_be_improved_is_refused() {
        let rows = Rows { values: &[0.0; 256], row_len: 256, importance: None };
        let error = improve(GgmlType::IQ2_XS, rows, &mut [0; 74]).unwrap_err();
        assert!(matches!(error, Error::Unsupported { ty: GgmlType::IQ2_XS, .. }), "{error}");
        let error = improve(GgmlType::Q4_K, rows, &mut [0; 143]).unwrap_err();
        assert!(matches!(error, Error::Length { .. }), "{error}");
    }
}
