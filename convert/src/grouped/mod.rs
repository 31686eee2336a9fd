//! Grouped INT4 and INT8: which layers, at which precision, into which files.
//!
//! The types, the choice of layers by [`Options::ratio`] and the backup type are those of NNCF
//! (OpenVINO, Optimum Intel). The result is a Hugging Face folder in the pack-quantized layout of
//! compressed-tensors ([`FolderPlan`]), or a GGUF file where its blocks hold the same values
//! exactly.
//!
//! | what | where |
//! |---|---|
//! | options that model families ship with | [`PRESETS`] |
//! | the walk along the ratio | [`select`] |
//! | names of linear layers | `layers.rs` |
//! | one scheme for all experts | `experts.rs` |
//! | another metric of sensitivity | [`Sensitivity`], `score.rs` |

mod assign;
pub(crate) mod blocks;
mod experts;
mod folder;
mod gguf;
mod header;
mod layers;
mod layout;
mod names;
mod presets;
mod ratio;
mod refusal;
mod score;
mod source;
mod texts;
mod unused;
mod write;

use quant_core::grouped::{Fallback, GroupSize, GroupedType};

pub use assign::Scheme;
pub use folder::{FolderPlan, FolderTensor};
pub(crate) use gguf::{Choice, plan};
pub use presets::{PRESETS, Preset, preset};
pub use ratio::{Unit, select};
pub use refusal::Refusal;
pub use score::Sensitivity;

/// Options of a quantization to grouped integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The type of the layers that `ratio` chooses.
    pub ty: GroupedType,
    /// Weights that share a scale; 128 for INT4 and the row for INT8 if `None`.
    pub group_size: Option<GroupSize>,
    /// The share of the weights that get `ty`, from 0 to 1.
    pub ratio: f64,
    /// What the other layers get; [`Backup::Int8Sym`] if `None`, which Q8_0 holds and common GPUs
    /// run.
    pub backup: Option<Backup>,
    /// Whether embedding and output take part.
    pub all_layers: bool,
    /// What to do with rows that are not a whole number of groups.
    pub fallback: Fallback,
    /// Whether each layer is chosen by itself. Otherwise layers that engines fuse are chosen together.
    pub per_layer: bool,
    /// The metric; by default [`Sensitivity::Hessian`] with an importance matrix and
    /// [`Sensitivity::Weights`] without.
    pub sensitivity: Option<Sensitivity>,
    /// Whether scales are searched for, beyond what NNCF does.
    pub refine: bool,
}

impl Options {
    /// The defaults for a type.
    pub fn new(ty: GroupedType) -> Self {
        Self {
            ty,
            group_size: None,
            ratio: 1.0,
            backup: None,
            all_layers: false,
            fallback: Fallback::Error,
            per_layer: false,
            sensitivity: None,
            refine: false,
        }
    }

    /// The group size, also where none was given.
    pub fn group_size(&self) -> GroupSize {
        let default = if self.ty.bits() == 4 { 128 } else { -1 };
        let default = GroupSize::from_number(default).unwrap_or(GroupSize::Channel);
        self.group_size.unwrap_or(default)
    }
}

/// The type of the layers that `ratio` does not choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backup {
    /// INT8 per channel with zero points.
    Int8Asym,
    /// INT8 per channel without.
    Int8Sym,
    /// The precision they have.
    None,
}

impl Backup {
    /// Names on the command line.
    pub const NAMES: [(&'static str, Self); 3] =
        [("int8_asym", Self::Int8Asym), ("int8_sym", Self::Int8Sym), ("none", Self::None)];

    fn ty(self) -> Option<GroupedType> {
        match self {
            Self::Int8Asym => Some(GroupedType::Int8Asym),
            Self::Int8Sym => Some(GroupedType::Int8Sym),
            Self::None => None,
        }
    }
}
