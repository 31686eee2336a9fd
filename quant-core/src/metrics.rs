//! How far restored values are from the originals.

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
}

impl Metrics {
    /// Adds pairs. The slices have equal lengths; surplus values of the longer are left out.
    pub fn add(&mut self, reference: &[f32], candidate: &[f32]) {
        for (&r, &c) in reference.iter().zip(candidate) {
            let (r, c) = (f64::from(r), f64::from(c));
            let difference = c - r;
            self.error += difference * difference;
            self.reference += r * r;
            self.candidate += c * c;
            self.product += r * c;
            self.max_abs = self.max_abs.max(difference.abs());
        }
        self.count += reference.len().min(candidate.len()) as u64;
    }

    /// Adds the pairs that another instance has seen.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.error += other.error;
        self.reference += other.reference;
        self.candidate += other.candidate;
        self.product += other.product;
        self.max_abs = self.max_abs.max(other.max_abs);
    }

    /// The number of pairs.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Root mean square error, in the unit of the values; 0 for no pairs.
    pub fn rmse(&self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.error / self.count as f64).sqrt() }
    }

    /// The largest absolute error, in the unit of the values.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// RMSE over the root mean square of the reference; 0 if both are 0, infinite if only the
    /// reference is.
    pub fn relative_rmse(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.reference).sqrt() }
    }

    /// Cosine of the angle between the two as vectors, −1…1; 1 if both are zero, 0 if one is.
    pub fn cosine(&self) -> f64 {
        match (self.reference == 0.0, self.candidate == 0.0) {
            (true, true) => 1.0,
            (false, false) => {
                let cosine = self.product / (self.reference.sqrt() * self.candidate.sqrt());
                // Rounding can take it a little beyond.
                cosine.clamp(-1.0, 1.0)
            }
            _ => 0.0,
        }
    }

    /// Signal-to-noise ratio in decibels; infinite without error.
    pub fn snr_db(&self) -> f64 {
        if self.error == 0.0 { f64::INFINITY } else { 10.0 * (self.reference / self.error).log10() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let mut m = Metrics::default();
        m.add(&[3.0, 4.0], &[3.0, 3.0]);
        assert_eq!(m.count(), 2);
        assert!((m.rmse() - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!(m.max_abs(), 1.0);
        assert!((m.relative_rmse() - 0.2).abs() < 1e-15);
        assert!((m.cosine() - 21.0 / (5.0 * 18f64.sqrt())).abs() < 1e-15);
        assert!((m.snr_db() - 10.0 * 25f64.log10()).abs() < 1e-12);
    }

    #[test]
    fn merging_equals_adding() {
        let (a, b) = ([1.0, -2.0, 0.5, 7.0], [1.1, -1.9, 0.5, 6.0]);
        let mut whole = Metrics::default();
        whole.add(&a, &b);
        let mut merged = Metrics::default();
        for i in 0..4 {
            let mut part = Metrics::default();
            part.add(&a[i..=i], &b[i..=i]);
            merged.merge(&part);
        }
        assert_eq!(whole, merged);
    }

    #[test]
    fn degenerate_inputs_have_defined_results() {
        let mut m = Metrics::default();
        assert_eq!((m.rmse(), m.relative_rmse(), m.cosine()), (0.0, 0.0, 1.0));
        m.add(&[0.0], &[1.0]);
        assert_eq!(m.relative_rmse(), f64::INFINITY);
        let mut same = Metrics::default();
        for i in 1..1000 {
            same.add(&[i as f32 / 7.0], &[i as f32 / 7.0]);
            assert!(same.cosine() <= 1.0);
        }
        assert_eq!(m.cosine(), 0.0);
    }
}
