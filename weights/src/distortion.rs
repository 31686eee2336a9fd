//! What quantizing costs a tensor.

use quant_core::lanes::Lanes;
use quant_kernels::{Kernels, LaneOp};

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
    pub fn add(
        &mut self,
        kernels: Kernels,
        weights: &[f32],
        restored: &[f32],
        importance: Option<&[f32]>,
    ) {
        let columns = importance.map_or(weights.len(), <[f32]>::len).max(1);
        for (weights, restored) in weights.chunks(columns).zip(restored.chunks(columns)) {
            self.merge(&kernels.run(Row { weights, restored, importance }));
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

/// Sums that run side by side: one alone waits for each addition before it can begin the next.
const LANES: usize = 8;

/// A row of weights: for each column its weight, what was restored, and its importance, if not 1.
struct Row<'a> {
    weights: &'a [f32],
    restored: &'a [f32],
    importance: Option<&'a [f32]>,
}

/// No operation is that of an instruction set, so that the sums are the same with every one; but the
/// compiler makes vectors of them, longer ones where it may.
impl LaneOp for Row<'_> {
    type Output = Distortion;

    #[inline(always)]
    fn eval<S: Lanes>(self, _: S) -> Distortion {
        let (weights, last_weights) = self.weights.as_chunks();
        let (restored, last_restored) = self.restored.as_chunks();
        let mut sums = Sums { errors: [0.0; LANES], energies: [0.0; LANES] };
        let pairs = weights.iter().zip(restored);
        if let Some(importance) = self.importance {
            let (importance, last) = importance.as_chunks();
            for ((weights, restored), importance) in pairs.zip(importance) {
                sums.add(weights, restored, importance);
            }
            sums.add(&padded(last_weights), &padded(last_restored), &padded(last));
        } else {
            for (weights, restored) in pairs {
                sums.add(weights, restored, &[1.0; LANES]);
            }
            sums.add(&padded(last_weights), &padded(last_restored), &[1.0; LANES]);
        }
        Distortion { error: sums.errors.iter().sum(), energy: sums.energies.iter().sum() }
    }
}

struct Sums {
    errors: [f64; LANES],
    energies: [f64; LANES],
}

impl Sums {
    /// One loop for each step: with several in one, the compiler pairs what does not belong together.
    #[inline(always)]
    fn add(&mut self, weights: &[f32; LANES], restored: &[f32; LANES], importance: &[f32; LANES]) {
        let (mut weight, mut off, mut factor) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            weight[lane] = f64::from(weights[lane]);
        }
        for lane in 0..LANES {
            off[lane] = f64::from(restored[lane]);
        }
        for lane in 0..LANES {
            factor[lane] = f64::from(importance[lane]);
        }
        for lane in 0..LANES {
            off[lane] -= weight[lane];
        }
        for lane in 0..LANES {
            self.errors[lane] += factor[lane] * off[lane] * off[lane];
        }
        for lane in 0..LANES {
            self.energies[lane] += factor[lane] * weight[lane] * weight[lane];
        }
    }
}

/// The values behind the last whole piece, and zeros, which add nothing.
#[inline(always)]
fn padded(values: &[f32]) -> [f32; LANES] {
    let mut padded = [0.0; LANES];
    padded.iter_mut().zip(values).for_each(|(lane, value)| *lane = *value);
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_weighed_by_their_column() {
        let (weights, restored) = ([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 3.0, 6.0]);
        let mut plain = Distortion::default();
        plain.add(Kernels::best(), &weights, &restored, None);
        assert_eq!(plain.relative(), 5.0 / 30.0);
        let mut weighed = Distortion::default();
        weighed.add(Kernels::best(), &weights, &restored, Some(&[1.0, 3.0]));
        assert_eq!(weighed.relative(), 15.0 / 70.0);
        let mut rows = Distortion::default();
        for row in 0..2 {
            let mut part = Distortion::default();
            let range = 2 * row..2 * row + 2;
            part.add(Kernels::best(), &weights[range.clone()], &restored[range], Some(&[1.0, 3.0]));
            rows.merge(&part);
        }
        assert_eq!(rows, weighed);
        assert_eq!(Distortion::default().relative(), 0.0);
    }

    #[test]
    fn every_column_of_a_long_row_counts_once() {
        let weights: Vec<f32> = (0..77u8).map(f32::from).collect();
        let importance: Vec<f32> = (0..77u8).map(|i| f32::from(i % 5)).collect();
        let restored: Vec<f32> = weights.iter().map(|w| w + 0.5).collect();
        let (mut error, mut energy) = (0.0, 0.0);
        for (w, i) in weights.iter().zip(&importance) {
            error += i * 0.25;
            energy += i * w * w;
        }
        let mut weighed = Distortion::default();
        weighed.add(Kernels::best(), &weights, &restored, Some(&importance));
        assert_eq!(weighed.relative(), f64::from(error) / f64::from(energy));
        let mut plain = Distortion::default();
        plain.add(Kernels::best(), &weights, &restored, None);
        let energy: f32 = weights.iter().map(|w| w * w).sum();
        assert_eq!(plain.relative(), 77.0 * 0.25 / f64::from(energy));
    }
}
