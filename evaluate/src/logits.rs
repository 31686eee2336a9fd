//! What is asked of a row of logits: the greatest, and sums over all.

use quant_core::lanes::{Lanes, MAX_LANES};
use quant_kernels::{Kernels, LaneOp};

/// Running parts of a sum, so that its terms need not wait for each other.
const PARTS: usize = 16;

/// Terms that are made before they are added: as many of each part.
const TERMS: usize = 16 * PARTS;

/// The greatest value and its place, of equals the first; `None` if no value is above negative infinity.
pub(crate) fn greatest(values: &[f32]) -> Option<(usize, f32)> {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut parts = [f32::NEG_INFINITY; PARTS];
    let (chunks, rest) = values.as_chunks::<PARTS>();
    for chunk in chunks {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part = greater(*part, *v);
        }
    }
    let greatest = parts.iter().chain(rest).copied().fold(f32::NEG_INFINITY, greater);
    let found = values.iter().position(|v| *v == greatest)?;
    (greatest > f32::NEG_INFINITY).then_some((found, greatest))
}

/// The greatest logit, and the sum of the exponentials of all, less it.
pub(crate) fn exponentials(logits: &[f32]) -> (f32, f64) {
    let greatest = greatest(logits).map_or(f32::NEG_INFINITY, |(_, greatest)| greatest);
    (greatest, Kernels::best().run(Exponentials { logits, greatest }))
}

/// The Kullback-Leibler divergence of logits, whose exponentials add up to that of `log_sum`, from
/// log-probabilities. Of these only those above `least` count.
pub(crate) fn divergence(expected: &[f32], logits: &[f32], log_sum: f32, least: f32) -> f64 {
    let count = expected.len().min(logits.len());
    let (expected, logits) = (&expected[..count], &logits[..count]);
    Kernels::best().run(Divergence { expected, logits, log_sum, least })
}

/// The sum of terms, in the same order for any number of lanes.
#[derive(Default)]
struct Sum {
    parts: [f64; PARTS],
}

impl Sum {
    #[inline(always)]
    fn add(&mut self, terms: &[f32]) {
        for terms in terms.chunks(PARTS) {
            for (part, term) in self.parts.iter_mut().zip(terms) {
                *part += f64::from(*term);
            }
        }
    }
}

struct Exponentials<'a> {
    logits: &'a [f32],
    greatest: f32,
}

impl LaneOp for Exponentials<'_> {
    type Output = f64;

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> f64 {
        let (mut terms, mut lanes, mut sum) = ([0.0; TERMS], [0.0; MAX_LANES], Sum::default());
        let greatest = s.splat(self.greatest);
        for logits in self.logits.chunks(TERMS) {
            let terms = &mut terms[..logits.len()];
            for (logits, terms) in logits.chunks(S::N).zip(terms.chunks_mut(S::N)) {
                lanes[..logits.len()].copy_from_slice(logits);
                s.store(s.exp(s.sub(s.load(&lanes), greatest)), &mut lanes);
                terms.copy_from_slice(&lanes[..terms.len()]);
            }
            sum.add(terms);
        }
        sum.parts.iter().sum()
    }
}

struct Divergence<'a> {
    expected: &'a [f32],
    logits: &'a [f32],
    log_sum: f32,
    least: f32,
}

impl LaneOp for Divergence<'_> {
    type Output = f64;

    #[inline(always)]
    fn eval<S: Lanes>(self, s: S) -> f64 {
        let (mut terms, mut sum) = ([0.0; TERMS], Sum::default());
        let (mut a, mut b) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        let (log_sum, least, zero) = (s.splat(self.log_sum), s.splat(self.least), s.splat(0.0));
        for (expected, logits) in self.expected.chunks(TERMS).zip(self.logits.chunks(TERMS)) {
            let terms = &mut terms[..logits.len()];
            let parts = expected.chunks(S::N).zip(logits.chunks(S::N));
            for ((expected, logits), terms) in parts.zip(terms.chunks_mut(S::N)) {
                a[..expected.len()].copy_from_slice(expected);
                b[..logits.len()].copy_from_slice(logits);
                let expected = s.load(&a);
                let off = s.add(s.sub(expected, s.load(&b)), log_sum);
                let term = s.mul(s.exp(expected), off);
                s.store(s.select(s.lt(least, expected), term, zero), &mut a);
                terms.copy_from_slice(&a[..terms.len()]);
            }
            sum.add(terms);
        }
        sum.parts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919) % 1009) as f32 / 50.0 - 12.0).collect()
    }

    #[test]
    fn the_greatest_is_the_first_of_equals() {
        for count in [1, 15, 16, 17, 300, 2000] {
            let values = numbers(count);
            let best = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let place = values.iter().position(|v| *v == best).unwrap();
            assert_eq!(greatest(&values), Some((place, best)), "{count}");
        }
        assert_eq!(greatest(&[f32::NAN, 2.0, f32::NAN, 3.0, 3.0]), Some((3, 3.0)));
        assert_eq!(greatest(&[-0.0, 0.0]), Some((0, -0.0)));
        for none in [&[][..], &[f32::NAN; 40], &[f32::NEG_INFINITY; 40]] {
            assert_eq!(greatest(none), None);
        }
    }

    #[test]
    fn sums_are_those_of_the_formulas_with_any_instructions() {
        for count in [1, 31, 256, 1000, 5003] {
            let logits = numbers(count);
            let (greatest, sum) = exponentials(&logits);
            let exact: f64 = logits.iter().map(|v| f64::from(v - greatest).exp()).sum();
            assert!((sum / exact - 1.0).abs() < 1e-6, "{count}: {sum} {exact}");
            let log_sum = greatest + sum.ln() as f32;
            let expected: Vec<f32> = logits.iter().rev().map(|v| v - log_sum).collect();
            let found = divergence(&expected, &logits, log_sum, -16.0);
            let term = |(e, l): (&f32, &f32)| match *e > -16.0 {
                true => f64::from(*e).exp() * f64::from(e - l + log_sum),
                false => 0.0,
            };
            let exact: f64 = expected.iter().zip(&logits).map(term).sum();
            assert!((found - exact).abs() < 1e-5 * exact.abs().max(1.0), "{found} {exact}");
            for kernels in Kernels::supported() {
                let again = kernels.run(Exponentials { logits: &logits, greatest });
                assert_eq!(again.to_bits(), sum.to_bits(), "{count}");
                let (logits, expected) = (&logits[..], &expected[..]);
                let again = kernels.run(Divergence { expected, logits, log_sum, least: -16.0 });
                assert_eq!(again.to_bits(), found.to_bits(), "{count}");
            }
        }
        assert!(exponentials(&[1.0, f32::NAN]).1.is_nan());
        assert_eq!(exponentials(&[]), (f32::NEG_INFINITY, 0.0));
    }
}
