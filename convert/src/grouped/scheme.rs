//! How layers are stored.

use quant_core::grouped::GroupedType;

use super::layers::Role;

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// As it is.
    Keep,
    /// In groups of a row.
    Groups {
        /// The type.
        ty: GroupedType,
        /// Weights in a group.
        len: usize,
        /// Whether the group is the row by design, whatever its length.
        channel: bool,
    },
}

/// A tensor that may be quantized.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    /// Index into the model's tensors.
    pub(crate) tensor: usize,
    pub(crate) role: Role,
    /// Mean squares of the inputs.
    pub(crate) squares: Option<&'a [f32]>,
}

/// What the layers get that the ratio leaves over, and embedding and output without
/// [`all_layers`](super::Options::all_layers).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) backup: Option<GroupedType>,
    pub(crate) ends: Option<GroupedType>,
    /// Whether all experts of the model get one scheme, unless layers are chosen one by one.
    pub(crate) experts_as_one: bool,
}

pub(super) fn per_channel(row_len: u64, ty: Option<GroupedType>) -> Scheme {
    match (ty, usize::try_from(row_len)) {
        (Some(ty), Ok(len)) if len > 0 => Scheme::Groups { ty, len, channel: true },
        _ => Scheme::Keep,
    }
}
