//! Weights that quantizing makes zero though they were not: a block or group of them is too small
//! for the precision of its scale. Such a file loads and is quietly worse, so that it is said.

use std::{collections::BTreeMap, sync::Mutex};

use quant_core::grouped::{Grouped, GroupedType};

use quant_weights::finite::Stored;

use crate::{error::Quoted, importance::share};

/// Groups whose scale is larger hold at least one code that is not zero.
const SMALLEST_SCALE: f32 = 1.2e-7;

/// The blocks, groups or single values of a tensor that have become zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lost {
    /// How many.
    units: u64,
    /// Weights in all of them, zeros included.
    weights: u64,
    /// Index of the first weight of the first.
    first: u64,
    /// The largest magnitude of their weights.
    magnitude: f32,
}

impl Lost {
    fn add(&mut self, other: Self) {
        self.first = if self.units == 0 { other.first } else { self.first.min(other.first) };
        self.units = self.units.saturating_add(other.units);
        self.weights = self.weights.saturating_add(other.weights);
        self.magnitude = self.magnitude.max(other.magnitude);
    }

    /// Adds a unit of zeros made of `values`, unless they were zeros before.
    fn unit(&mut self, first: u64, values: &[f32]) {
        let magnitude = values.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
        if magnitude > 0.0 {
            self.add(Self { units: 1, weights: values.len() as u64, first, magnitude });
        }
    }

    /// The blocks that have lost all their weights, of those whose first weight is the tensor's
    /// weight `start`. Those of no importance are left out: that they are lost is known already.
    pub(crate) fn in_blocks(
        stored: Stored,
        bytes: &[u8],
        start: u64,
        values: &[f32],
        importance: Option<&[f32]>,
    ) -> Self {
        let mut lost = Self::default();
        let blocks = bytes.chunks_exact(stored.unit());
        let len = values.len().checked_div(blocks.len()).unwrap_or_default().max(1);
        for (i, values) in values
            .chunks(len)
            .enumerate()
            .zip(blocks)
            .filter_map(|(at, block)| stored.is_zero(block).then_some(at))
        {
            let first = i.saturating_mul(len);
            let unimportant = importance.is_some_and(|row| {
                let column = first.checked_rem(row.len()).unwrap_or_default();
                let columns = row.iter().skip(column).take(len);
                columns.into_iter().all(|weight| *weight == 0.0)
            });
            if !unimportant {
                lost.unit(start.saturating_add(first as u64), values);
            }
        }
        lost
    }

    /// The groups that have lost all their weights.
    pub(crate) fn in_groups(
        groups: &Grouped,
        ty: GroupedType,
        len: usize,
        start: u64,
        values: &[f32],
    ) -> Self {
        let mut lost = Self::default();
        let len = len.max(1);
        let of_each = values.chunks(len).zip(groups.codes.chunks(len)).zip(&groups.scales);
        for (i, ((values, codes), scale)) in of_each.enumerate() {
            if scale.abs() > SMALLEST_SCALE {
                continue;
            }
            let zero = if ty.is_symmetric() {
                Some(ty.middle())
            } else {
                groups.zero_points.get(i).copied()
            };
            if codes.iter().all(|code| Some(*code) == zero) {
                lost.unit(start.saturating_add(i.saturating_mul(len) as u64), values);
            }
        }
        lost
    }

    /// A range of floats all of which have become zero.
    pub(crate) fn of_floats(start: u64, values: &[f32], magnitude: f32) -> Self {
        let count = values.iter().filter(|value| **value != 0.0).count() as u64;
        Self { units: count, weights: count, first: start, magnitude }
    }
}

/// Blocks of every type hold weights of this magnitude: scales in half precision go down to 6e-8, and
/// the largest divisor of a weight is the 127 x 32 of Q6_K.
const NEVER_TOO_SMALL: f32 = 1e-3;

/// What a tensor has become.
pub(crate) struct Written<'a> {
    pub(crate) name: &'a str,
    /// Weights in all.
    pub(crate) elements: u64,
    pub(crate) ty: &'a str,
    /// What a block, group or value of it is called.
    pub(crate) unit: &'static str,
    /// Whether it was quantized by importance, which can be what made weights zero.
    pub(crate) has_importance: bool,
}

/// What all workers have found, by tensor.
#[derive(Debug, Default)]
pub(crate) struct AllLost(Mutex<BTreeMap<usize, Lost>>);

impl AllLost {
    pub(crate) fn add(&self, tensor: usize, lost: Lost) {
        if lost.units > 0 {
            let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
            all.entry(tensor).or_default().add(lost);
        }
    }

    /// Says what was lost.
    pub(crate) fn warn<'a>(self, tensor: impl Fn(usize) -> Written<'a>) {
        for (index, lost) in self.0.into_inner().unwrap_or_else(|e| e.into_inner()) {
            let Written { name, elements, ty, unit, has_importance } = tensor(index);
            let Lost { units, weights, first, magnitude } = lost;
            let share = share(weights, elements);
            let (unit, their) =
                if units == 1 { (unit.to_owned(), "its") } else { (format!("{unit}s"), "their") };
            let why = match has_importance && magnitude >= NEVER_TOO_SMALL {
                true => format!(
                    "{their} importance is so small that sums of it are zero; \
                     use `imatrix_prior` or a matrix made from more text"
                ),
                false => format!(
                    "{their} weights, up to {magnitude:e}, are too small for it; \
                     keep the tensor in BF16 or F32"
                ),
            };
            tracing::warn!(
                kind = "lost-weights",
                tensor = %name,
                "tensor {}: {units} {unit} with {share} of its weights became zero in {ty}, the \
                 first at index {first}: {why}",
                Quoted(name),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use quant_core::{GgmlType, can_quantize, grouped, quantize};

    use super::*;

    const TINY: f32 = 1.0 / (1 << 30) as f32;

    /// A block of weights that its scale is too small for, between two that are not.
    #[test]
    fn blocks_without_any_weight_left_are_found_for_every_type() {
        for &ty in GgmlType::ALL.iter().filter(|ty| can_quantize(**ty) && ty.is_quantized()) {
            // Its scale is a power of two as small as single precision has them.
            if ty == GgmlType::MXFP4 {
                continue;
            }
            let len = ty.block_len();
            let mut values: Vec<f32> = (0..4 * len).map(|i| (i % 7) as f32 - 3.0).collect();
            values[len..2 * len].iter_mut().for_each(|v| *v *= TINY);
            values[3 * len..].fill(0.0);
            // Some types are not made without importance.
            let alike = vec![1.0; values.len()];
            let bytes = quantize(ty, &values, 4 * len, Some(&alike)).unwrap();
            let stored = Stored::from(ty);
            assert!(stored.scales(&bytes).zero, "{ty}");
            let lost = Lost::in_blocks(stored, &bytes, 1000, &values, None);
            let (len, first) = (len as u64, 1000 + len as u64);
            let expected = Lost { units: 1, weights: len, first, magnitude: 3.0 * TINY };
            assert_eq!(lost, expected, "{ty}");
            // What is of no importance is known to be lost.
            let mut importance = vec![1.0; values.len()];
            importance[len as usize..][..len as usize].fill(0.0);
            let lost = Lost::in_blocks(stored, &bytes, 0, &values, Some(&importance));
            assert_eq!(lost, Lost::default(), "{ty}");
        }
    }

    #[test]
    fn groups_without_any_weight_left_are_found() {
        for &ty in GroupedType::ALL {
            let mut values: Vec<f32> = (0..96).map(|i| (i % 7) as f32 - 3.0).collect();
            values[32..64].iter_mut().for_each(|v| *v *= TINY);
            let groups = grouped::quantize(ty, &values, 32).unwrap();
            let lost = Lost::in_groups(&groups, ty, 32, 0, &values);
            let expected = Lost { units: 1, weights: 32, first: 32, magnitude: 3.0 * TINY };
            assert_eq!(lost, expected, "{ty}");
        }
    }
}
