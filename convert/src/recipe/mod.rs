//! Recipes: which tensor gets which type.
//!
//! A recipe such as `Q4_K_M` is a *mix*: most tensors get its base type, sensitive ones a finer
//! type. Which ones depends on a tensor's role and place, on a few facts about the model and on
//! whether there is an importance matrix. The choices equal those of `llama-quantize`, tensor by
//! tensor. They are data, in `mixes.rs`; `engine.rs` evaluates them:
//!
//! 1. Vectors, norms, expert routers and some special tensors keep the type they have.
//! 2. `--token-embedding-type` and `--output-tensor-type` name a type outright.
//! 3. Otherwise the first `--tensor-type` pattern that matches names it,
//! 4. otherwise it keeps its type if there is no recipe (`--type auto`), or gets the base type if
//!    `--pure` or the recipe is a plain float type. (The reference ignores patterns there.)
//! 5. otherwise the first rule of the mix that applies.
//! 6. A type from 3 to 5 whose blocks do not divide the row gives way to one with smaller blocks,
//!    or to F16; `--strict` refuses that. A type from 2 does not give way: the reference cuts such
//!    rows short or aborts, and here it is an error.
//!
//! `--pure` takes the base type of the *recipe* ([`FileType::base`]), which is not always the type
//! in its name: `iq2_s` → IQ2_XS, `iq2_m` → IQ2_S, `mxfp4_moe` → MXFP4 for every tensor.
//!
//! ```
//! use quant_convert::recipe::{self, FileType, ModelFacts, Request, TensorFacts};
//! use quant_core::GgmlType;
//!
//! let facts = ModelFacts { arch: "llama".into(), layers: 1, ..ModelFacts::default() };
//! let mut tensors = [
//!     ("blk.0.ffn_down.weight", [768, 256]),
//!     ("blk.0.attn_q.weight", [256, 256]),
//!     ("output.weight", [256, 1024]),
//! ];
//! tensors.sort_by(|a, b| recipe::output_order(a.0, b.0));
//! let tensors: Vec<_> = tensors
//!     .iter()
//!     .map(|(name, shape)| TensorFacts { name, shape, ty: GgmlType::F32 })
//!     .collect();
//!
//! let types = recipe::assign(&facts, &tensors, &Request::new(FileType::Q4_K_M), false)?;
//! let types: Vec<_> = types.iter().map(|a| a.ty).collect();
//! assert_eq!(types, [GgmlType::Q6_K, GgmlType::Q4_K, GgmlType::Q6_K]);
//! # Ok::<(), recipe::Error>(())
//! ```

mod engine;
mod error;
mod facts;
mod file_type;
mod mixes;
mod order;
mod overrides;
mod prune;
mod role;
mod unused;

use quant_core::GgmlType;

pub use engine::assign;
pub use error::{AwkwardReason, AwkwardShape, Error};
pub use facts::ModelFacts;
pub use file_type::{FileType, UnknownFileType};
pub use order::output_order;
pub use overrides::{
    TensorOverride, parse_tensor_type, parse_tensor_types, parse_type_name, read_tensor_type_file,
};
pub use prune::Pruning;
pub(crate) use {engine::needs_importance, role::Role};

/// A recipe and its options.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The recipe; `None` keeps every tensor in the type it has.
    pub file_type: Option<FileType>,
    /// `--pure`: the base type for every quantized tensor, no mix.
    pub pure: bool,
    /// `--leave-output-tensor`: `output.weight` keeps the type it has.
    pub leave_output_tensor: bool,
    /// `--output-tensor-type`; also the type of a tied embedding.
    pub output_tensor_type: Option<GgmlType>,
    /// `--token-embedding-type`; for a tied embedding it wins over the output's.
    pub token_embedding_type: Option<GgmlType>,
    /// `--tensor-type` and `--tensor-type-file`, in the order given; the first match counts.
    pub overrides: Vec<TensorOverride>,
    /// `--strict`: an error instead of a fallback to another type for an awkward shape.
    pub strict: bool,
}

impl Request {
    /// A recipe without further options.
    pub fn new(file_type: FileType) -> Self {
        Self { file_type: Some(file_type), ..Self::default() }
    }
}

/// A tensor of the output, before its type is chosen.
#[derive(Clone, Copy, Debug)]
pub struct TensorFacts<'a> {
    /// GGUF name, after pruning.
    pub name: &'a str,
    /// Dimensions, innermost first.
    pub shape: &'a [u64],
    /// The type the tensor has if it is not quantized: as stored in a GGUF file; F32 for a tensor
    /// of a checkpoint, which is what the reference converter would have written.
    pub ty: GgmlType,
}

impl TensorFacts<'_> {
    fn row_len(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    fn awkward(&self, ty: GgmlType, reason: AwkwardReason) -> AwkwardShape {
        AwkwardShape { tensor: self.name.into(), row_len: self.row_len(), ty, reason }
    }
}

/// The type a tensor gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The type.
    pub ty: GgmlType,
    /// The type it would have got, if its shape forced a fallback.
    pub wanted: Option<GgmlType>,
    /// Whether the type is useless without importance weights for this tensor.
    pub requires_imatrix: bool,
    /// Whether the recipe applies to the tensor at all, as opposed to norms and the like.
    pub quantizable: bool,
    /// Whether an option names the type of this very tensor.
    pub asked: bool,
}

impl Assignment {
    fn kept(ty: GgmlType) -> Self {
        Self { ty, wanted: None, requires_imatrix: false, quantizable: false, asked: false }
    }
}
