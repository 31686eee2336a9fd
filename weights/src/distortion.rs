//! What quantizing costs a tensor.

/// The error of restored weights, each weighed by the importance of its column: about how much of what
/// a matrix makes of its inputs is wrong, if the importance is the mean square of the inputs.
///
/// Sums of parts can be [merged](Self::merge); their order shows in the last bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distortion {
    error: f64,
    energy: f64,
}

impl Distortion {
    /// Adds whole rows, which all have the same importance: a number for each column.
    pub fn add(&mut self, weights: &[f32], restored: &[f32], importance: Option<&[f32]>) {
        let columns = importance.map_or(weights.len(), <[f32]>::len).max(1);
        for (weights, restored) in weights.chunks(columns).zip(restored.chunks(columns)) {
            let (mut error, mut energy) = (0.0, 0.0);
            let mut one = |weight: f32, restored: f32, importance: f32| {
                let (weight, importance) = (f64::from(weight), f64::from(importance));
                let off = f64::from(restored) - weight;
                error += importance * off * off;
                energy += importance * weight * weight;
            };
            let pairs = weights.iter().zip(restored);
            match importance {
                Some(all) => pairs.zip(all).for_each(|((w, r), i)| one(*w, *r, *i)),
                None => pairs.for_each(|(w, r)| one(*w, *r, 1.0)),
            }
            self.error += error;
            self.energy += energy;
        }
    }

    /// Adds what another instance has seen.
    pub fn merge(&mut self, other: &Self) {
        self.error += other.error;
        self.energy += other.energy;
    }

    /// The squared error over the squares of the weights, both weighed by importance; 0 if there is no
    /// error.
    pub fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.energy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_weighed_by_their_column() {
        let (weights, restored) = ([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 3.0, 6.0]);
        let mut plain = Distortion::default();
        plain.add(&weights, &restored, None);
        assert_eq!(plain.relative(), 5.0 / 30.0);
        let mut weighed = Distortion::default();
        weighed.add(&weights, &restored, Some(&[1.0, 3.0]));
        assert_eq!(weighed.relative(), 15.0 / 70.0);
        let mut rows = Distortion::default();
        for row in 0..2 {
            let mut part = Distortion::default();
            let range = 2 * row..2 * row + 2;
            part.add(&weights[range.clone()], &restored[range], Some(&[1.0, 3.0]));
            rows.merge(&part);
        }
        assert_eq!(rows, weighed);
        assert_eq!(Distortion::default().relative(), 0.0);
    }
}
