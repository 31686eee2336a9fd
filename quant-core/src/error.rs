use alloc::{string::String, vec::Vec};

use crate::GgmlType;

/// What can go wrong in this crate: always the caller's arguments, never the environment.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name or a number stands for no type.
    #[error("{found} is no tensor type of ggml; they are {}", names())]
    UnknownType {
        /// What was given.
        found: String,
    },
    /// A row is not a whole number of blocks.
    #[error("a row of {elements} elements is not a multiple of {ty}'s block of {}", ty.block_len())]
    RowLength {
        /// The type the row was to have.
        ty: GgmlType,
        /// Elements in the row.
        elements: u64,
    },
    /// A size does not fit the address space.
    #[error("the tensor's size does not fit 64 bits")]
    TooLarge,
    /// A buffer does not have the length the other arguments call for.
    #[error("{what} has {found} elements, expected {expected}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
    },
    /// A weight or importance value is NaN or infinite.
    #[error("{what} holds {value} at index {index}; only finite values can be quantized")]
    NonFinite {
        /// Which buffer.
        what: &'static str,
        /// Index of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// An importance value is less than zero.
    #[error("{what} holds {value} at index {index}; importance is never negative")]
    Negative {
        /// Which buffer.
        what: &'static str,
        /// Index of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A value is finite, but so large that what is restored from its block would be infinite or far off.
    #[error(
        "{what} holds {value:e} at index {index}, too large for {ty}, which would restore something infinite or far off; {WIDER}"
    )]
    Overflow {
        /// Which buffer.
        what: &'static str,
        /// The type.
        ty: GgmlType,
        /// Index of the largest value of the first such row.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The type is known but this crate does not implement the operation for it.
    #[error("{ty} cannot be {operation} yet")]
    Unsupported {
        /// The type.
        ty: GgmlType,
        /// `"quantized"` or `"dequantized"`.
        operation: &'static str,
    },
    /// A type gives useless results without importance weights, and there are none.
    #[error("{ty} cannot be quantized without importance weights")]
    ImportanceNeeded {
        /// The type.
        ty: GgmlType,
    },
    /// Values are not a whole number of groups.
    #[error("{row} elements are not a whole number of groups of {group}; {DIVIDES}")]
    GroupLength {
        /// Elements in the row.
        row: usize,
        /// Elements in a group.
        group: usize,
    },
    /// Codes of this many bits are not packed into words.
    #[error("codes of {bits} bits cannot be packed, expected 1 to 8")]
    BitWidth {
        /// Bits of a code.
        bits: u32,
    },
}

const WIDER: &str = "scale it down or choose a type of wider range (F32, BF16)";
const DIVIDES: &str = "choose a group size that divides them, or a fallback";

impl Error {
    /// What to do about it: the last part of the message, if that says so.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Overflow { .. } => Some(WIDER),
            Self::GroupLength { .. } => Some(DIVIDES),
            _ => None,
        }
    }
}

fn names() -> String {
    GgmlType::ALL.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(", ")
}
