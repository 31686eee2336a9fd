//! Grouped integers in the blocks of GGUF, where those hold the same values.

use quant_core::{GgmlType, grouped::GroupedType};

use super::{
    Backup, Options, Refusal, Scheme,
    assign::assign,
    blocks::BLOCK,
    layers::Role,
    scheme::{Candidate, Rest},
    unused,
};
use crate::{Control, Error, Result, model::Model, options::Running};

/// What a tensor of a GGUF file becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    /// Index into the model's tensors.
    pub(crate) tensor: usize,
    /// Whether recipes apply to it.
    pub(crate) quantizable: bool,
    /// The type it has if it is not quantized.
    pub(crate) kept: GgmlType,
    /// Mean squares of its inputs.
    pub(crate) squares: Option<&'a [f32]>,
}

/// The scheme and type of each tensor.
///
/// # Errors
/// [`Error::Grouped`] if blocks do not hold what is asked for.
pub(crate) fn plan(
    model: &Model,
    tensors: &[Choice<'_>],
    options: &Options,
    running: &Running,
    control: Control<'_>,
) -> Result<Vec<(Scheme, GgmlType)>> {
    let refused = |problem: String| Err(Error::Grouped { refusal: Refusal::NoBlocks, problem });
    if !options.ty.is_symmetric() {
        return refused(format!("GGUF has no blocks that hold {} exactly", options.ty));
    }
    let backup = match options.backup {
        None | Some(Backup::Int8Sym) => Some(GroupedType::Int8Sym),
        Some(Backup::None) => None,
        Some(Backup::Int8Asym) => {
            return Err(Error::Grouped {
                refusal: Refusal::NoBackupBlocks,
                problem: "GGUF has no blocks that hold the backup type int8_asym exactly".into(),
            });
        }
    };
    let architecture = model.metadata.get_str("general.architecture").unwrap_or_default();
    let candidates: Vec<_> = tensors
        .iter()
        .map(|&Choice { tensor, quantizable, squares, .. }| Candidate {
            tensor,
            role: Role::of_gguf(architecture, tensor, &model.tensors[tensor].name, quantizable),
            squares,
        })
        .collect();
    let rest = Rest { backup, ends: backup, experts_as_one: false };
    let schemes = assign(model, &candidates, options, rest, running, control)?;
    unused::warn(model, &candidates, options, rest, &schemes, true);
    let mut planned = Vec::with_capacity(schemes.len());
    for (wanted, scheme) in tensors.iter().zip(schemes) {
        let tensor = &model.tensors[wanted.tensor];
        let ty = match scheme {
            Scheme::Keep => wanted.kept,
            Scheme::Groups { ty, len, .. } if len.is_multiple_of(BLOCK) => {
                if ty.bits() == 4 {
                    GgmlType::Q4_0
                } else {
                    GgmlType::Q8_0
                }
            }
            Scheme::Groups { ty, len, .. } => {
                return refused(format!(
                    "tensor {} would become {ty} in groups of {len}, which are not whole blocks of {BLOCK}",
                    crate::error::Quoted(&tensor.name)
                ));
            }
        };
        planned.push((scheme, ty));
    }
    Ok(planned)
}
