//! Tensors whose type is free, and the types that each may get.

use std::sync::Arc;

use quant_core::{GgmlType, can_quantize};

use crate::{Error, Result, model::Tensor, recipe};

/// Types that a mix is made of unless others are named: of each number of bits the best that llama.cpp
/// has fast kernels for. Those below Q2_K, and the IQ3 types, are slower on CPUs than on graphics cards.
/// Floats come on top, where the source has them.
pub const CANDIDATES: &[GgmlType] = &[
    GgmlType::IQ2_XXS,
    GgmlType::IQ2_XS,
    GgmlType::IQ2_S,
    GgmlType::Q2_K,
    GgmlType::IQ3_XXS,
    GgmlType::IQ3_S,
    GgmlType::Q3_K,
    GgmlType::IQ4_XS,
    GgmlType::Q4_K,
    GgmlType::Q5_K,
    GgmlType::Q6_K,
    GgmlType::Q8_0,
];

/// What takes their place for rows that are not whole blocks of 256.
const OF_SHORT_ROWS: &[GgmlType] = &[
    GgmlType::Q4_0,
    GgmlType::IQ4_NL,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
];

/// A tensor whose type is free.
#[derive(Debug)]
pub(super) struct Free {
    /// Index into the model's tensors.
    pub(super) index: usize,
    /// Its name in the output.
    pub(super) name: String,
    pub(super) importance: Option<Arc<[f32]>>,
    pub(super) candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) ty: GgmlType,
    /// Bytes in the file, padding included.
    pub(super) bytes: u64,
    /// The tensor's relative error, once measured.
    pub(super) error: f64,
}

impl Free {
    /// A tensor that may get those of `types` that suit it; `padded` is the room that bytes take in the
    /// file.
    ///
    /// # Errors
    /// [`Error::NoCandidate`] if none suits.
    pub(super) fn new(
        index: usize,
        name: &str,
        tensor: &Tensor,
        importance: Option<Arc<[f32]>>,
        types: &[GgmlType],
        padded: impl Fn(u64) -> u64,
    ) -> Result<Self> {
        let suits = |ty: GgmlType| {
            let divides = tensor.row_len().is_multiple_of(ty.block_len() as u64);
            let needs = recipe::needs_importance(ty);
            let is_made = can_quantize(ty) || ty == tensor.source_type();
            divides && is_made && (importance.is_some() || !needs)
        };
        let mut candidates: Vec<Candidate> = Vec::new();
        for ty in types.iter().copied().filter(|ty| suits(*ty)) {
            let bytes = padded(ty.row_bytes(tensor.elements())?);
            if candidates.iter().all(|known| known.ty != ty) {
                candidates.push(Candidate { ty, bytes, error: f64::NAN });
            }
        }
        if candidates.is_empty() {
            return Err(Error::NoCandidate {
                tensor: tensor.name.clone(),
                row: tensor.row_len(),
                has_importance: importance.is_some(),
            });
        }
        Ok(Self { index, name: name.to_owned(), importance, candidates })
    }
}

/// The types that a tensor may get unless others are named: [`CANDIDATES`], and floats.
pub(super) fn usual_types(tensor: &Tensor) -> Vec<GgmlType> {
    let types = if tensor.row_len().is_multiple_of(256) { CANDIDATES } else { OF_SHORT_ROWS };
    types.iter().copied().chain([tensor.source_type(), GgmlType::F16]).collect()
}
