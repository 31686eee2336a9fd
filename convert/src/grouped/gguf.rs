//! Grouped integers in the blocks of GGUF, where those hold the same values.

use quant_core::{
    GgmlType,
    formats::{BlockQ4_0, BlockQ8_0, F16Le},
    grouped::{Grouped, GroupedType},
};

use super::{
    Backup, Options, Scheme,
    assign::{Candidate, Rest, assign},
    layers::Role,
    unused,
};
use crate::{Control, Error, Result, model::Model};

/// Weights in a block of Q4_0 and Q8_0.
const BLOCK: usize = 32;

/// What a tensor of a GGUF file becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
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
    tensors: &[Wanted<'_>],
    options: &Options,
    threads: usize,
    control: Control<'_>,
) -> Result<Vec<(Scheme, GgmlType)>> {
    const HELP: &str = "for GGUF choose int4_sym with a --group-size that is a multiple of 32, or \
                        write a folder (an output whose name does not end in .gguf)";
    let refused = |problem: String| Err(Error::Grouped { problem, help: HELP });
    if !options.ty.is_symmetric() {
        return refused(format!("GGUF has no blocks that hold {} exactly", options.ty));
    }
    let backup = match options.backup {
        None | Some(Backup::Int8Sym) => Some(GroupedType::Int8Sym),
        Some(Backup::None) => None,
        Some(Backup::Int8Asym) => {
            return Err(Error::Grouped {
                problem: "GGUF has no blocks that hold the backup type int8_asym exactly".into(),
                help: "leave out --backup, or choose int8_sym (written as Q8_0) or none",
            });
        }
    };
    let candidates: Vec<_> = tensors
        .iter()
        .map(|wanted| Candidate {
            tensor: wanted.tensor,
            role: Role::of_gguf(&model.tensors[wanted.tensor].name, wanted.quantizable),
            squares: wanted.squares,
        })
        .collect();
    let rest = Rest { backup, ends: backup, experts_as_one: false };
    let schemes = assign(model, &candidates, options, rest, threads, control)?;
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

/// Writes groups of symmetric codes as blocks of Q4_0 or Q8_0, each with the scale of its group.
///
/// Groups are whole blocks and `out` has their bytes.
pub(crate) fn encode(groups: &Grouped, group_len: usize, ty: GgmlType, out: &mut [u8]) {
    let blocks_per_group = (group_len / BLOCK).max(1);
    let (codes, _) = groups.codes.as_chunks::<BLOCK>();
    let scales = groups.scales.iter().flat_map(|s| std::iter::repeat_n(*s, blocks_per_group));
    let blocks = out.chunks_exact_mut(ty.block_bytes());
    for ((codes, scale), out) in codes.iter().zip(scales).zip(blocks) {
        let d = F16Le::from_bits(quant_core::f32_to_f16(scale));
        if ty == GgmlType::Q4_0 {
            let (low, high) = codes.split_at(BLOCK / 2);
            let mut block = BlockQ4_0 { d, qs: [0; 16] };
            for ((q, low), high) in block.qs.iter_mut().zip(low).zip(high) {
                *q = low | high << 4;
            }
            out.copy_from_slice(bytemuck::bytes_of(&block));
        } else {
            // From codes around 128 to codes around zero: the highest bit flips.
            let block = BlockQ8_0 { d, qs: codes.map(|code| code ^ 0x80) };
            out.copy_from_slice(bytemuck::bytes_of(&block));
        }
    }
}

#[cfg(test)]
mod tests {
    use quant_core::grouped::{self, GroupedType};

    use super::*;

    #[test]
    fn blocks_hold_the_values_of_the_groups() {
        let values: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 300.0).collect();
        for (ty, block, len) in [
            (GroupedType::Int4Sym, GgmlType::Q4_0, 64),
            (GroupedType::Int4Sym, GgmlType::Q4_0, 256),
            (GroupedType::Int8Sym, GgmlType::Q8_0, 128),
        ] {
            let mut groups = grouped::quantize(ty, &values, len).unwrap();
            let mut bytes = vec![0; block.row_bytes(256).unwrap() as usize];
            encode(&groups, len, block, &mut bytes);
            let mut found = vec![0.0; 256];
            quant_core::dequantize(block, &bytes, &mut found).unwrap();
            for scale in &mut groups.scales {
                *scale = grouped::ScaleType::F16.round(*scale);
            }
            let mut expected = vec![0.0; 256];
            grouped::dequantize(groups.view(), len, &mut expected).unwrap();
            assert_eq!(found, expected, "{ty} {len}");
        }
    }
}
