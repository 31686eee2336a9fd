//! What a run takes besides a model.

use std::collections::HashMap;

use quant_core::GgmlType;
use quant_kernels::{Kernels, PackedMatrix, Parallel};

/// What runs the parts of a model.
#[derive(Clone, Copy)]
pub(crate) struct Runner<'a> {
    pub(crate) kernels: Kernels,
    pub(crate) threads: &'a (dyn Parallel + Send + Sync),
    /// Weights that take the place of the model's own.
    pub(crate) replaced: Option<&'a Replaced>,
}

impl<'a> Runner<'a> {
    /// Runs a model as it is.
    pub(crate) fn new(kernels: Kernels, threads: &'a (dyn Parallel + Send + Sync)) -> Self {
        Self { kernels, threads, replaced: None }
    }
}

/// Weights in the place of others, by the name of their tensor.
#[derive(Default)]
pub(crate) struct Replaced {
    pub(crate) matrices: HashMap<String, Stored>,
    /// Vectors of tokens.
    pub(crate) tokens: HashMap<u32, Vec<f32>>,
}

/// How weights are kept.
pub(crate) enum Stored {
    /// Packed, some rows in each part. Of several experts there is one part.
    Packed(Vec<PackedMatrix>),
    /// As in the file, in a type that can be restored but not multiplied: rows are restored to single
    /// precision as they are needed.
    Plain(GgmlType, Vec<u8>),
    /// Not read yet: so many bytes.
    Unread(u64),
}
