//! Weights in NVFP4: their scales become tensors beside them, as llama.cpp looks for them.

use gguf_io::metadata::{GgufString, Metadata};
use quant_weights::{ElementMap, Encoding, Nvfp4};

use crate::{
    Error, Result,
    model::{Tensor, TensorData},
};

/// `general.file_type` of a model whose weights are in NVFP4, floats around them.
pub(crate) const FILE_TYPE: u32 = 39;

/// Values in a block.
const BLOCK: u64 = 64;

/// Counts tensors in NVFP4 in blocks, and adds the scales that are not part of them. Returns those whose
/// inputs are to stay as they are.
///
/// # Errors
/// [`Error::NotInBlocks`] if the values of a block are not next to each other, as they are stored and in the
/// output.
pub(crate) fn settle(tensors: &mut Vec<Tensor>) -> Result<Vec<String>> {
    let mut scales = Vec::new();
    let mut weight_only = Vec::new();
    for tensor in tensors.iter_mut() {
        let Some(stored) = stored(tensor)? else { continue };
        let matrices = tensor.shape.iter().skip(2).product::<u64>().max(1);
        for (end, factor) in [
            ("scale", (|nvfp4| nvfp4.scale) as fn(&Nvfp4) -> f32),
            ("input_scale", |nvfp4| nvfp4.input_scale),
        ] {
            let of_each = factors(&stored, matrices, factor).ok_or_else(|| order(tensor))?;
            if !are_one(&of_each) {
                let name = tensor.name.strip_suffix("weight").unwrap_or(&tensor.name);
                scales.push(Tensor {
                    name: format!("{name}{end}"),
                    shape: vec![matrices],
                    data: TensorData::Computed(of_each),
                });
            }
        }
        if stored.iter().any(|nvfp4| nvfp4.weight_only) {
            weight_only.push(tensor.name.clone());
        }
    }
    tensors.extend(scales);
    weight_only.sort_unstable();
    Ok(weight_only)
}

/// Says which tensors llama.cpp is not to multiply with activations of four bits.
pub(crate) fn describe(weight_only: &[String], metadata: &mut Metadata) {
    if !weight_only.is_empty() {
        let names = weight_only.iter().map(|name| GgufString::from(name.as_str()));
        metadata.insert("general.tensor_extra.name", names.collect::<Vec<_>>());
        metadata.insert("general.tensor_extra.prec_a4", vec![false; weight_only.len()]);
    }
}

/// How the pieces of a tensor are stored if it is in NVFP4; from then on they are counted in blocks.
fn stored(tensor: &mut Tensor) -> Result<Option<Vec<Nvfp4>>> {
    let misfit = order(tensor);
    let row_len = tensor.row_len();
    let TensorData::Stored { pieces, map } = &mut tensor.data else { return Ok(None) };
    if !pieces.iter().any(|piece| matches!(piece.encoding, Encoding::Nvfp4(_))) {
        return Ok(None);
    }
    if *map != ElementMap::Same || !row_len.is_multiple_of(BLOCK) {
        return Err(misfit);
    }
    let mut stored = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match (&piece.encoding, piece.view.in_units(BLOCK)) {
            (Encoding::Nvfp4(nvfp4), Some(view)) => {
                stored.push(*nvfp4);
                piece.view = view;
            }
            _ => return Err(misfit),
        }
    }
    Ok(Some(stored))
}

/// A factor of each matrix, all of whose pieces have to have it.
fn factors(stored: &[Nvfp4], matrices: u64, factor: fn(&Nvfp4) -> f32) -> Option<Vec<f32>> {
    let matrices = usize::try_from(matrices).ok()?;
    let pieces = stored.len().checked_div(matrices).filter(|pieces| *pieces > 0)?;
    (pieces * matrices == stored.len()).then_some(())?;
    let of_matrix = |pieces: &[Nvfp4]| {
        let first = pieces.first().map(factor)?;
        pieces.iter().all(|nvfp4| factor(nvfp4) == first).then_some(first)
    };
    stored.chunks(pieces).map(of_matrix).collect()
}

/// Whether factors may be left out.
fn are_one(factors: &[f32]) -> bool {
    match factors {
        [alone] => (f64::from(*alone) - 1.0).abs() < 1e-6,
        all => all.iter().all(|factor| (f64::from(*factor) - 1.0).abs() <= 1e-6 + 1e-5),
    }
}

fn order(tensor: &Tensor) -> Error {
    Error::NotInBlocks { tensor: tensor.name.clone() }
}
