//! How far restored values are from the originals.

use crate::{
    Error,
    math::{log10, sqrt},
};

/// Error metrics over pairs of values, accumulated in double precision. Chunks can be measured
/// apart and [merged](Self::merge): the sums do not depend on where a tensor was cut by more than
/// rounding in the 53rd bit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    count: u64,
    error: f64,
    reference: f64,
    candidate: f64,
    product: f64,
    max_abs: f64,
    /// As `error`, each by its weight.
    weighted_error: f64,
    weight: f64,
}

impl Metrics {
    /// Adds pairs of values. If any value is NaN, every figure but the count is NaN.
    ///
    /// # Errors
    /// [`Error::Length`] if the slices have different lengths; nothing is added then.
    pub fn add(&mut self, reference: &[f32], candidate: &[f32]) -> Result<(), Error> {
        check_len("the candidate", candidate.len(), reference.len())?;
        self.add_pairs(reference, candidate, core::iter::repeat(1.0));
        Ok(())
    }

    /// Adds pairs of values of whole rows, with the importance of each column for
    /// [`weighted_rmse`](Self::weighted_rmse). The other figures are those of [`add`](Self::add).
    ///
    /// # Errors
    /// [`Error::Length`] if the slices have different lengths, or are not whole rows of the length of
    /// `importance`; nothing is added then.
    pub fn add_weighted(
        &mut self,
        reference: &[f32],
        candidate: &[f32],
        importance: &[f32],
    ) -> Result<(), Error> {
        check_len("the candidate", candidate.len(), reference.len())?;
        let rows = reference.len().checked_div(importance.len()).unwrap_or(0);
        check_len("the reference", reference.len(), rows.saturating_mul(importance.len()))?;
        self.add_pairs(reference, candidate, importance.iter().map(|w| f64::from(*w)).cycle());
        Ok(())
    }

    fn add_pairs(
        &mut self,
        reference: &[f32],
        candidate: &[f32],
        weights: impl Iterator<Item = f64>,
    ) {
        for ((&r, &c), weight) in reference.iter().zip(candidate).zip(weights) {
            let (r, c) = (f64::from(r), f64::from(c));
            let difference = c - r;
            self.error += difference * difference;
            self.reference += r * r;
            self.candidate += c * c;
            self.product += r * c;
            self.max_abs = larger(self.max_abs, difference.abs());
            self.weighted_error += weight * difference * difference;
            self.weight += weight;
        }
        self.count += reference.len() as u64;
    }

    /// Adds the pairs that another instance has seen.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.error += other.error;
        self.reference += other.reference;
        self.candidate += other.candidate;
        self.product += other.product;
        self.max_abs = larger(self.max_abs, other.max_abs);
        self.weighted_error += other.weighted_error;
        self.weight += other.weight;
    }

    /// The number of pairs.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Root mean square error, in the unit of the values; 0 for no pairs.
    pub fn rmse(&self) -> f64 {
        if self.count == 0 { 0.0 } else { sqrt(self.error / self.count as f64) }
    }

    /// Root mean square error in which pairs count by their importance, which is what quantizing with
    /// an importance matrix makes small; 0 if no pair has any. Pairs added without count as one.
    pub fn weighted_rmse(&self) -> f64 {
        if self.weight == 0.0 {
            self.weighted_error
        } else {
            sqrt(self.weighted_error / self.weight)
        }
    }

    /// The largest absolute error, in the unit of the values.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// RMSE over the root mean square of the reference; 0 if both are 0, infinite if only the
    /// reference is.
    pub fn relative_rmse(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { sqrt(self.error / self.reference) }
    }

    /// Cosine of the angle between the two as vectors, −1…1; 1 if both are zero, 0 if one is.
    pub fn cosine(&self) -> f64 {
        if self.error.is_nan() {
            return f64::NAN;
        }
        match (self.reference == 0.0, self.candidate == 0.0) {
            (true, true) => 1.0,
            (false, false) => {
                let cosine = self.product / (sqrt(self.reference) * sqrt(self.candidate));
                // Rounding can take it a little beyond.
                cosine.clamp(-1.0, 1.0)
            }
            _ => 0.0,
        }
    }

    /// Signal-to-noise ratio in decibels; infinite without error.
    pub fn snr_db(&self) -> f64 {
        if self.error == 0.0 { f64::INFINITY } else { 10.0 * log10(self.reference / self.error) }
    }
}

fn check_len(what: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Length { what, found, expected }) }
}

/// The larger of two numbers; NaN if either is, where [`f64::max`] takes the other.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot add its pairs has failed")]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let mut m = Metrics::default();
        m.add(&[3.0, 4.0], &[3.0, 3.0]).unwrap();
        assert_eq!(m.count(), 2);
        assert!((m.rmse() - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(m.max_abs(), 1.0);
        assert!((m.relative_rmse() - 0.2).abs() < 1e-15);
        assert!((m.cosine() - 21.0 / (5.0 * 18f64.sqrt())).abs() < 1e-15);
        assert!((m.snr_db() - 10.0 * 25f64.log10()).abs() < 1e-12);
    }

    #[test]
    fn importance_weighs_columns() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [1.5, 2.0, 3.0, 3.0]);
        let mut plain = Metrics::default();
        plain.add(&a, &b).unwrap();
        assert_eq!(plain.weighted_rmse(), plain.rmse());
        let mut m = Metrics::default();
        // Two rows of two.
        m.add_weighted(&a, &b, &[3.0, 1.0]).unwrap();
        assert_eq!(m.weighted_rmse(), ((3.0 * 0.25 + 1.0) / 8.0f64).sqrt());
        assert_eq!((m.rmse(), m.snr_db()), (plain.rmse(), plain.snr_db()));
        m.merge(&plain);
        assert_eq!(m.weighted_rmse(), ((3.0 * 0.25 + 1.0 + 1.25) / 12.0f64).sqrt());
        let mut none = Metrics::default();
        none.add_weighted(&a, &b, &[0.0; 4]).unwrap();
        assert_eq!((none.weighted_rmse(), none.count()), (0.0, 4));
        for importance in [&[1.0, 1.0, 1.0][..], &[]] {
            let before = m;
            assert!(m.add_weighted(&a, &b, importance).is_err());
            assert_eq!(m, before);
        }
    }

    #[test]
    fn merging_equals_adding() {
        let (a, b) = ([1.0, -2.0, 0.5, 7.0], [1.1, -1.9, 0.5, 6.0]);
        let mut whole = Metrics::default();
        whole.add(&a, &b).unwrap();
        let mut merged = Metrics::default();
        for i in 0..4 {
            let mut part = Metrics::default();
            part.add(&a[i..=i], &b[i..=i]).unwrap();
            merged.merge(&part);
        }
        assert_eq!(whole, merged);
    }

    #[test]
    fn degenerate_inputs_have_defined_results() {
        let mut m = Metrics::default();
        assert_eq!((m.rmse(), m.relative_rmse(), m.cosine()), (0.0, 0.0, 1.0));
        m.add(&[0.0], &[1.0]).unwrap();
        assert_eq!(m.relative_rmse(), f64::INFINITY);
        let mut same = Metrics::default();
        for i in 1..1000 {
            same.add(&[i as f32 / 7.0], &[i as f32 / 7.0]).unwrap();
            assert!(same.cosine() <= 1.0);
        }
        assert_eq!(m.cosine(), 0.0);
    }

    #[test]
    fn slices_of_different_lengths_are_refused() {
        let mut m = Metrics::default();
        for (a, b) in [(&[1.0, 2.0][..], &[1.0][..]), (&[], &[1.0]), (&[1.0], &[])] {
            let error = m.add(a, b).unwrap_err();
            let expected =
                Error::Length { what: "the candidate", found: b.len(), expected: a.len() };
            assert_eq!(error, expected);
        }
        assert_eq!(m, Metrics::default());
        m.add(&[], &[]).unwrap();
        m.add(&[1.0, 2.0], &[1.0, 2.0]).unwrap();
        assert_eq!(m.count(), 2);
    }

    #[test]
    fn a_nan_shows_in_every_figure() {
        let figures = |m: &Metrics| {
            let [a, b, c] = [m.rmse(), m.weighted_rmse(), m.max_abs()];
            [a, b, c, m.relative_rmse(), m.cosine(), m.snr_db()].map(f64::is_nan)
        };
        let nan = f32::NAN;
        for at in 0..3 {
            let (mut a, b) = ([1.0, 2.0, 3.0], [0.0; 3]);
            a[at] = nan;
            // In either, against zeros or others, alone or merged, before others or after them.
            for (a, b) in [(a, b), (b, a), (a, [1.0, 5.0, 3.0]), (a, a)] {
                let mut m = Metrics::default();
                m.add(&a, &b).unwrap();
                assert_eq!(figures(&m), [true; 6], "{a:?} {b:?}");
                let mut others = Metrics::default();
                others.add(&[1.0, 2.0], &[1.0, 9.0]).unwrap();
                assert_eq!(figures(&others), [false; 6]);
                let mut after = m;
                after.merge(&others);
                others.merge(&m);
                assert_eq!([figures(&after), figures(&others)], [[true; 6]; 2]);
                assert_eq!(others.count(), 5);
            }
        }
        // Nothing is made of infinities either: the difference of two is none.
        let mut m = Metrics::default();
        m.add(&[f32::INFINITY], &[f32::INFINITY]).unwrap();
        assert_eq!(figures(&m), [true; 6]);
    }
}
