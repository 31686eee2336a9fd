//! What loaders need of a mixture of experts.
//!
//! Engines fuse the experts of a layer to one tensor, and read the scheme of all experts of the
//! model from one place, without zero points: transformers 5 in `get_experts_scheme` and
//! `CompressedTensorsDequantize`, vLLM in `CompressedTensorsMoEMethod`. So all of them get one
//! symmetric scheme, whatever the ratio (vllm-project/llm-compressor#2163,
//! huggingface/transformers#47430).

use quant_core::grouped::{Fallback, Fit, GroupSize};

use super::{
    Options, Refusal, Scheme,
    layers::{Fusion, Role},
    scheme::Candidate,
};
use crate::{Error, Result, model::Model};

/// The smallest group that all experts are adjusted to, as for a single layer.
const SMALLEST_ADJUSTED: usize = 32;

/// All experts of a model.
#[derive(Debug)]
pub(super) struct Experts {
    /// Indices of the candidates.
    pub(super) members: Vec<usize>,
    /// Weights in them.
    pub(super) elements: u64,
    /// What the group size asked for is for their rows.
    pub(super) fit: Fit,
}

/// Whether a layer is one expert's.
pub(super) fn is_expert(role: &Role) -> bool {
    matches!(role, Role::Linear { fused: Some((_, Fusion::Experts)), .. })
}

/// The experts, if there are any, and the groups that all of them can have.
///
/// # Errors
/// If there are no such groups.
pub(super) fn find(
    model: &Model,
    candidates: &[Candidate<'_>],
    options: &Options,
) -> Result<Option<Experts>> {
    let members: Vec<usize> =
        (0..candidates.len()).filter(|&i| is_expert(&candidates[i].role)).collect();
    let size = options.group_size();
    let (mut fits, mut rows, mut elements) = (Vec::new(), Vec::new(), 0u64);
    for &i in &members {
        let tensor = &model.tensors[candidates[i].tensor];
        elements = elements.saturating_add(tensor.elements());
        let row = usize::try_from(tensor.row_len()).unwrap_or(usize::MAX);
        if rows.contains(&row) {
            continue;
        }
        rows.push(row);
        fits.push(size.fit(row, options.fallback).map_err(|_| Error::GroupSize {
            tensor: tensor.name.clone(),
            row: tensor.row_len(),
            group: size.number(),
        })?);
    }
    let Some(&first) = fits.first() else { return Ok(None) };
    let fit = if size == GroupSize::Channel || fits.iter().all(|fit| *fit == first) {
        first
    } else if options.fallback == Fallback::Adjust {
        let power = rows.iter().map(|row| row.trailing_zeros()).min().unwrap_or(0);
        match 1usize << power {
            power if power >= SMALLEST_ADJUSTED && !fits.contains(&Fit::Backup) => {
                Fit::Groups(power)
            }
            _ => Fit::Backup,
        }
    } else {
        rows.sort_unstable();
        return Err(Error::Grouped {
            refusal: Refusal::ExpertRows,
            problem: format!(
                "groups of {} divide only some of the experts' rows, which have {rows:?} weights: \
                 transformers and vLLM load experts only if all are quantized alike",
                size.number()
            ),
        });
    };
    Ok(Some(Experts { members, elements, fit }))
}

/// Refuses schemes of experts that no loader takes, and warns of those that only some take.
pub(super) fn check(model: &Model, roles: &[Role], schemes: &[Scheme]) -> Result<()> {
    let mut found: Vec<(Scheme, &str)> = Vec::new();
    for ((role, scheme), tensor) in roles.iter().zip(schemes).zip(&model.tensors) {
        let scheme = match *scheme {
            // Per channel is one scheme, whatever the length of the rows.
            Scheme::Groups { ty, channel: true, .. } => {
                Scheme::Groups { ty, len: 0, channel: true }
            }
            other => other,
        };
        if is_expert(role) && !found.iter().any(|(other, _)| *other == scheme) {
            found.push((scheme, &tensor.name));
        }
    }
    let refused = |refusal, problem: String| Err(Error::Grouped { refusal, problem });
    match found[..] {
        [] => Ok(()),
        [(Scheme::Keep, name)] => {
            tracing::warn!(
                kind = "experts",
                "the experts keep their precision (the first is {}): vLLM loads such a folder, \
                 transformers 5 does not",
                crate::error::Quoted(name)
            );
            Ok(())
        }
        [(Scheme::Groups { ty, .. }, _)] if ty.is_symmetric() => Ok(()),
        [(Scheme::Groups { ty, .. }, name)] => refused(
            Refusal::ExpertZeroPoints,
            format!(
                "the experts would get {ty} (the first is {}): transformers and vLLM load experts \
                 only without zero points",
                crate::error::Quoted(name)
            ),
        ),
        [(first, a), (second, b), ..] => refused(
            Refusal::ExpertSchemes,
            format!(
                "the experts would be {} ({}) and {} ({}): transformers and vLLM load experts only \
                 if all are quantized alike",
                shown(first),
                crate::error::Quoted(a),
                shown(second),
                crate::error::Quoted(b)
            ),
        ),
    }
}

fn shown(scheme: Scheme) -> String {
    match scheme {
        Scheme::Keep => "as they are".into(),
        Scheme::Groups { ty, channel: true, .. } => format!("{ty} per channel"),
        Scheme::Groups { ty, len, .. } => format!("{ty} in groups of {len}"),
    }
}
