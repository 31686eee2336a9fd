//! What a conversion is asked to do.

use std::path::PathBuf;

use gguf_io::{Limits, metadata::Value};

use crate::recipe::Request;

/// Options of a conversion, without those that only printing needs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The recipe and what bends it. Whether there is an importance matrix follows from
    /// [`imatrix`](Self::imatrix), not from the field of that name in here.
    pub request: Request,
    /// The importance matrix.
    pub imatrix: Option<PathBuf>,
    /// Use only entries whose name contains one of these; all if empty.
    pub include_weights: Vec<String>,
    /// Leave out entries whose name contains one of these.
    pub exclude_weights: Vec<String>,
    /// Quantize tensors that are quantized already, though that adds their errors.
    pub allow_requantize: bool,
    /// Layers to leave out, separated by commas.
    pub prune_layers: Option<String>,
    /// Metadata set or replaced, in order.
    pub override_kv: Vec<(String, Value)>,
    /// The name of the BPE pre-tokenizer, instead of detecting it.
    pub pre_tokenizer: Option<String>,
    /// Replace an existing output.
    pub overwrite: bool,
    /// Grouped integers instead of a recipe.
    pub grouped: Option<crate::grouped::Options>,
    /// Bytes of weights in a file of a folder; files as in the checkpoint if `None`.
    pub split_max_size: Option<u64>,
    /// Skip the flush to the device before the output appears under its name.
    pub no_sync: bool,
    /// Worker threads; 0 for as many as there are cores.
    pub threads: usize,
    /// What readers may allocate.
    pub limits: Limits,
}
