//! Options of grouped integers that had no effect on any layer.

use quant_core::grouped::{Fallback, GroupSize};

use super::{
    Options, Scheme,
    experts::is_expert,
    layers::Role,
    scheme::{Candidate, Rest, per_channel},
};
use crate::{
    Split,
    model::Model,
    unused::{GROUPED, large_tensors, no_effect, warn_of_matrix},
};

/// Warns of the options that the choice of schemes did not depend on. `backs_up_ends` says whether
/// embedding and output get the backup type where they do not take part.
pub(super) fn warn(
    model: &Model,
    candidates: &[Candidate<'_>],
    options: &Options,
    rest: Rest,
    schemes: &[Scheme],
    backs_up_ends: bool,
) {
    let row = |candidate: &Candidate<'_>| model.tensors[candidate.tensor].row_len();
    let is_end =
        |candidate: &Candidate<'_>| matches!(candidate.role, Role::Embedding | Role::Output);
    let all = || candidates.iter().zip(schemes);
    let ends = || all().filter(|(candidate, _)| is_end(candidate));
    // Those that the options are for, as opposed to norms, and to ends that are left out.
    let taking_part = || {
        all().filter(|(candidate, _)| match candidate.role {
            Role::Linear { .. } => true,
            Role::Embedding | Role::Output => options.all_layers,
            Role::Other => false,
        })
    };
    let has_type =
        |scheme: &Scheme| matches!(scheme, Scheme::Groups { ty, .. } if *ty == options.ty);
    let left_over = taking_part().any(|(_, scheme)| !has_type(scheme));
    let mixed = options.ratio < 1.0;

    if mixed && !left_over {
        let reason = format!("every layer gets {}", options.ty);
        no_effect(&format!("`ratio` {}", options.ratio), &reason);
    }
    let backed_up = backs_up_ends && !options.all_layers && ends().next().is_some();
    if options.backup.is_some() && !left_over && !backed_up {
        let reason = match mixed {
            true => format!("every layer gets {}", options.ty),
            false => format!("with a ratio of 1 every layer gets {}", options.ty),
        };
        no_effect("`backup`", &reason);
    }
    if !mixed {
        const ONE: &str = "with a ratio of 1 there are no layers to choose";
        if options.sensitivity.is_some() {
            no_effect("`sensitivity`", ONE);
        }
        // Experts of which each has groups of its own are another matter.
        let experts = rest.experts_as_one && candidates.iter().any(|c| is_expert(&c.role));
        if options.per_layer && !experts {
            no_effect("`per_layer`", ONE);
        }
    }
    if options.all_layers {
        let as_without = |(candidate, scheme): (&Candidate<'_>, &Scheme)| {
            *scheme == per_channel(row(candidate), rest.ends)
        };
        if ends().next().is_none() {
            no_effect("`all_layers`", NO_ENDS);
        } else if !mixed && ends().all(as_without) {
            no_effect("`all_layers`", "embedding and output get this type without it too");
        }
    }
    if options.fallback != Fallback::Error {
        let size = options.group_size();
        let fits = |(candidate, _): (&Candidate<'_>, &Scheme)| {
            let row = usize::try_from(row(candidate)).unwrap_or(usize::MAX);
            size.fit(row, Fallback::Error).is_ok()
        };
        if taking_part().all(fits) {
            let reason = match size {
                GroupSize::Channel => "each row is one group".to_owned(),
                GroupSize::Elements(_) => format!("every row is a whole number of {size}"),
            };
            no_effect("`fallback`", &reason);
        }
    }
}

const NO_ENDS: &str =
    "the model has no output of its own, and an embedding stays as it is in a folder";

/// Warns of what a folder of these tensors and so many files has no use for; `informed` says whether a layer used importance.
pub(super) fn warn_in_folder<'a>(
    tensors: impl Iterator<Item = (&'a str, u64)>,
    files: usize,
    options: &crate::Options,
    informed: bool,
) {
    if let Some(path) = options.imatrix.as_ref().filter(|_| !informed) {
        warn_of_matrix(path, GROUPED);
    }
    if options.allow_requantize {
        let reason = "a folder is made from restored values, whatever the checkpoint holds";
        no_effect("`allow_requantize`", reason);
    }
    const ONE: &str = "all weights fit into one file";
    let one = files == 1;
    match options.split {
        Some(Split::Keep) => {
            no_effect("`Split::Keep`", "a folder has the weight files of its checkpoint anyway");
        }
        Some(Split::MaxBytes(_)) if one => no_effect("`Split::MaxBytes`", ONE),
        Some(Split::MaxTensors(_)) if one => no_effect("`Split::MaxTensors`", ONE),
        _ => {}
    }
    if let Some(Split::MaxBytes(most)) = options.split {
        large_tensors(tensors, most);
    }
}
