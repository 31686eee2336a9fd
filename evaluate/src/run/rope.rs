//! Rotary position embedding.

use gguf_model::Rope as Pairing;

use super::{runner::Runner, split};

/// How one kind of layers turns queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// Whether neighbours are a pair; else one from each half.
    pub(crate) neighbours: bool,
    /// The angle of each pair at position 1.
    pub(crate) angles: Vec<f64>,
    /// The same for sessions longer than `original_context`, if they differ.
    pub(crate) long_angles: Option<Vec<f64>>,
    pub(crate) original_context: usize,
    /// What sines and cosines are multiplied by.
    pub(crate) magnitude: f32,
}

/// How angles are stretched for long texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// Not, or all by the same factor.
    Linear,
    /// YaRN: slow angles by the factor, quick ones not at all.
    Yarn { original_context: f64, beta_fast: f64, beta_slow: f64 },
}

/// Angles at position 1 of pairs of `dimensions` values.
pub(crate) fn angles(
    dimensions: usize,
    base: f32,
    factor: f32,
    scaling: Scaling,
    divisors: Option<&[f32]>,
) -> Vec<f64> {
    let (d, base) = (dimensions as f64, f64::from(base));
    let (low, high) = match scaling {
        Scaling::Linear => (0.0, 0.0),
        Scaling::Yarn { original_context, beta_fast, beta_slow } => {
            let turns = |beta: f64| {
                d * (original_context / (beta * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
            };
            (turns(beta_fast).floor().max(0.0), turns(beta_slow).ceil().min(d - 1.0))
        }
    };
    let scale = 1.0 / f64::from(factor);
    (0..dimensions / 2)
        .map(|i| {
            let divisor = divisors.and_then(|all| all.get(i)).map_or(1.0, |v| f64::from(*v));
            let angle = base.powf(-2.0 * i as f64 / d) / divisor;
            match scaling {
                Scaling::Linear => angle * scale,
                Scaling::Yarn { .. } => {
                    let kept = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    angle * scale * (1.0 - kept) + angle * kept
                }
            }
        })
        .collect()
}

impl Rope {
    /// Whether pairs are neighbours.
    pub(crate) fn is_neighbours(pairing: Pairing) -> bool {
        matches!(pairing, Pairing::Neighbours(_))
    }

    /// Cosines and sines for some positions.
    pub(crate) fn turns(&self, first: usize, count: usize, context: usize) -> Turns {
        let angles = match &self.long_angles {
            Some(long) if context > self.original_context => long,
            _ => &self.angles,
        };
        let values = (first..first + count)
            .flat_map(|position| {
                angles.iter().map(move |angle| {
                    let (sin, cos) = (position as f64 * angle).sin_cos();
                    (cos as f32 * self.magnitude, sin as f32 * self.magnitude)
                })
            })
            .collect();
        Turns { neighbours: self.neighbours, pairs: angles.len(), values }
    }
}

/// Cosines and sines of some positions, to turn queries and keys with.
pub(crate) struct Turns {
    neighbours: bool,
    pairs: usize,
    values: Vec<(f32, f32)>,
}

impl Turns {
    /// Turns the heads of one row of each position: of each `head` values, those from `skip` on.
    pub(crate) fn apply(
        &self,
        runner: Runner<'_>,
        values: &mut [f32],
        width: usize,
        head: usize,
        skip: usize,
    ) {
        split::rows(runner.threads, values, width, &|first, rows| {
            for (i, row) in rows.chunks_mut(width).enumerate() {
                let turns = self.values.get((first + i) * self.pairs..).unwrap_or_default();
                let turns = turns.get(..self.pairs).unwrap_or_default();
                for head in row.chunks_exact_mut(head) {
                    if let Some(turned) = head.get_mut(skip..skip + 2 * turns.len()) {
                        self.turn(turned, turns);
                    }
                }
            }
        });
    }

    fn turn(&self, values: &mut [f32], turns: &[(f32, f32)]) {
        let turn = |x: &mut f32, y: &mut f32, (cos, sin): (f32, f32)| {
            (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
        };
        if self.neighbours {
            for (pair, by) in values.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                let [x, y] = pair;
                turn(x, y, *by);
            }
        } else {
            let (first, second) = values.split_at_mut(turns.len());
            for ((x, y), by) in first.iter_mut().zip(second).zip(turns) {
                turn(x, y, *by);
            }
        }
    }
}
