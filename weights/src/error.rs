//! What can go wrong, in one line each.

use gguf_io::message::Quoted;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why weights could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model file could not be read.
    #[error(transparent)]
    Files(#[from] gguf_io::Error),
    /// Values could not be restored from their blocks, or are more than the address space holds.
    #[error(transparent)]
    Core(#[from] quant_core::Error),
    /// A tensor holds values that are not finite.
    #[error(
        "tensor {} holds {count} values that are not finite, the first ({value}) at index {index}",
        Quoted(tensor)
    )]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// Index of the first, in the tensor's order.
        index: u64,
        /// The first.
        value: f32,
        /// How many there are.
        count: u64,
    },
    /// Values were asked for that a tensor does not have, or that are not whole blocks of its type.
    #[error(
        "tensor {} has {elements} values of type {ty}, but values {start} to {end} are asked for",
        Quoted(tensor)
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// Values it has.
        elements: u64,
        /// The type they come in.
        ty: quant_core::GgmlType,
        /// The first that is asked for.
        start: u64,
        /// One past the last.
        end: u64,
    },
}
