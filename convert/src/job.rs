//! What is done to one tensor on its way to the output.

use std::sync::{Arc, atomic::AtomicU64};

use quant_core::{
    GgmlType,
    grouped::{GroupedType, ScaleType},
};
use quant_weights::finite::Stored;

use crate::options::Search;

/// What is done to one tensor.
#[derive(Debug)]
pub(crate) struct Job {
    /// Index into the model's tensors.
    pub(crate) tensor: usize,
    pub(crate) form: Form,
    /// Whether codes of the source become blocks as they are, where blocks hold them.
    /// Counts scales that half precision does not hold.
    pub(crate) carries: Option<Arc<AtomicU64>>,
    /// Weights of the columns of each matrix of the tensor.
    pub(crate) importance: Option<Arc<[f32]>>,
    /// Whether the scales of groups are searched for.
    pub(crate) refine: bool,
    /// Who searches for the codes of blocks.
    pub(crate) search: Search,
}

/// What a tensor is written as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// Values or blocks of ggml, as its quantizers make them.
    Ggml(GgmlType),
    /// Groups in blocks of ggml that hold the same values.
    Blocks {
        groups: Groups,
        /// Type of the blocks.
        ty: GgmlType,
    },
    /// Groups in the pack-quantized layout of compressed-tensors.
    Packed { groups: Groups, scale: ScaleType },
}

/// Groups that rows are cut into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Groups {
    pub(crate) ty: GroupedType,
    /// Weights in a group.
    pub(crate) len: usize,
}

impl Form {
    /// The type of ggml that is written; of packed groups, whose parts have several, that of single
    /// values.
    pub(crate) fn ty(self) -> GgmlType {
        match self {
            Self::Ggml(ty) | Self::Blocks { ty, .. } => ty,
            Self::Packed { .. } => GgmlType::F32,
        }
    }

    /// Whether it is what a tensor of this type is stored as, so that its bytes are taken as they are.
    /// Floats go through their values, which are looked at on the way.
    pub(crate) fn copies(self, source: GgmlType) -> bool {
        self == Self::Ggml(source)
            && !matches!(source, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16)
    }

    /// The type's name, for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ggml(ty) | Self::Blocks { ty, .. } => ty.name(),
            Self::Packed { groups, .. } => groups.ty.name(),
        }
    }

    /// What the values are called that share a scale.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Ggml(ty) => Stored::from(ty).noun(),
            Self::Blocks { .. } | Self::Packed { .. } => "group",
        }
    }
}
