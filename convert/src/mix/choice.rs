//! A type for each free tensor: the choice that loses least within a size.

use quant_core::GgmlType;

use super::{
    free::Free,
    fused,
    solve::{Choice, solve},
};
use crate::{Error, Result};

/// How large the result may be.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Size {
    /// Bytes of the file, or of all files, headers and padding included.
    Bytes(u64),
    /// Bits for each weight, headers left out, as [`Plan::bits_per_weight`](crate::Plan::bits_per_weight) counts them.
    BitsPerWeight(f64),
}

/// A type for each tensor whose type is free.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    pub(super) types: Vec<(String, GgmlType)>,
    /// The sum of the losses expected of its tensors: a KL divergence in nats where they were measured.
    pub expected_loss: f64,
}

impl Mix {
    /// Tensors of the output and their types.
    pub fn types(&self) -> impl ExactSizeIterator<Item = (&str, GgmlType)> {
        self.types.iter().map(|(name, ty)| (name.as_str(), *ty))
    }

    /// The mix as a file for `--tensor-type-file`, which llama-quantize reads too.
    pub fn to_file(&self) -> String {
        let line = |(name, ty): (&str, GgmlType)| {
            format!("{}={}\n", pattern(name), ty.name().to_lowercase())
        };
        self.types().map(line).collect()
    }
}

/// What of the output is not chosen.
#[derive(Debug)]
pub(super) struct Rest {
    /// Bytes of tensors whose type is fixed, and of headers.
    pub(super) fixed: u64,
    /// Of these, headers and padding that bits per weight leave out.
    pub(super) header: u64,
    /// Weights of all tensors.
    pub(super) weights: u64,
}

impl Rest {
    /// The bytes of a size, and those of them that are taken already.
    fn within(&self, size: Size) -> (u64, u64) {
        match size {
            Size::Bytes(bytes) => (bytes, self.fixed),
            Size::BitsPerWeight(bits) => {
                let bytes = (bits * self.weights as f64 / 8.0) as u64;
                (bytes, self.fixed.saturating_sub(self.header))
            }
        }
    }
}

/// Tensors that are chosen for together.
struct Item {
    /// Indices of the free tensors.
    members: Vec<usize>,
    /// The type of each choice.
    types: Vec<GgmlType>,
    choices: Vec<Choice>,
}

/// The choice of least loss within a size; `costs` are the losses of each tensor in each of its candidates.
///
/// # Errors
/// [`Error::TooSmall`] with the smallest size there is.
pub(super) fn choose(free: &[Free], rest: &Rest, size: Size, costs: &[Vec<f64>]) -> Result<Mix> {
    let mut items = Vec::new();
    for group in fused::groups(free.iter().map(|free| free.name.as_str())) {
        let item = Item::new(&group, free, costs);
        match item.choices.is_empty() {
            false => items.push(item),
            // They have no type in common.
            true => items.extend(group.iter().map(|member| Item::new(&[*member], free, costs))),
        }
    }
    let choices: Vec<Vec<Choice>> = items.iter().map(|item| item.choices.clone()).collect();
    let (asked, taken) = rest.within(size);
    let most = asked.checked_sub(taken);
    let solution = most.and_then(|most| solve(&choices, most)).ok_or_else(|| {
        let smallest = choices.iter().filter_map(|item| item.iter().map(|c| c.bytes).min());
        let smallest = smallest.fold(taken, u64::saturating_add);
        let bits_per_weight = match size {
            Size::Bytes(_) => None,
            Size::BitsPerWeight(bits) => {
                Some((bits, smallest as f64 * 8.0 / rest.weights.max(1) as f64))
            }
        };
        Error::TooSmall { asked, smallest, bits_per_weight }
    })?;
    let mut chosen: Vec<Option<GgmlType>> = vec![None; free.len()];
    for (item, choice) in items.iter().zip(&solution.chosen) {
        for &member in &item.members {
            if let Some(place) = chosen.get_mut(member) {
                *place = item.types.get(*choice).copied();
            }
        }
    }
    let pairs = free.iter().zip(chosen);
    let types = pairs.filter_map(|(free, ty)| Some((free.name.clone(), ty?))).collect();
    Ok(Mix { types, expected_loss: solution.loss })
}

impl Item {
    /// Tensors that get one type, and the types that all of them can have.
    fn new(group: &[usize], free: &[Free], costs: &[Vec<f64>]) -> Self {
        let members: Vec<_> = group.iter().filter_map(|&i| free.get(i).zip(costs.get(i))).collect();
        let mut item = Self { members: group.to_vec(), types: Vec::new(), choices: Vec::new() };
        for candidate in members.first().map_or(&[][..], |(free, _)| &free.candidates) {
            let mut choice = Choice { bytes: 0, loss: 0.0 };
            let in_all = members.iter().all(|(free, costs)| {
                let mut pairs = free.candidates.iter().zip(*costs);
                let Some((own, cost)) = pairs.find(|(own, _)| own.ty == candidate.ty) else {
                    return false;
                };
                choice.bytes = choice.bytes.saturating_add(own.bytes);
                choice.loss += cost;
                cost.is_finite()
            });
            if in_all {
                item.types.push(candidate.ty);
                item.choices.push(choice);
            }
        }
        item
    }
}

/// A regular expression that matches this name alone.
pub(super) fn pattern(name: &str) -> String {
    format!("^{}$", regex::escape(name))
}
