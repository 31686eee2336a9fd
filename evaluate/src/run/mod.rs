//! Runs a model.

pub(crate) mod attend;
pub(crate) mod attention;
pub(crate) mod cache;
mod embed;
pub(crate) mod experts;
pub(crate) mod feed_forward;
mod functions;
pub(crate) mod latent;
pub(crate) mod matrix;
pub(crate) mod norm;
pub(crate) mod recurrence;
pub(crate) mod recurrent;
pub(crate) mod rope;
pub(crate) mod session;
pub(crate) mod split;

pub use cache::CachePrecision;
pub use embed::Pooling;
pub(crate) use functions::{Function, Xielu};
pub(crate) use rope::Turns;
pub(crate) use session::{Chunk, Memory, Watch, chunk_len};
pub use session::{Observer, Session};

use std::collections::HashMap;

use quant_kernels::{Kernels, Parallel};

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
    pub(crate) matrices: HashMap<String, matrix::Stored>,
    /// Vectors of tokens.
    pub(crate) tokens: HashMap<u32, Vec<f32>>,
}
