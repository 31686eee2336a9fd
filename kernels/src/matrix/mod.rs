//! Dot products and matrix products with quantized weights.
//!
//! The way of a product: [`packed`] weights, [`inputs`] quantized to meet them, then for a range
//! of rows per thread [`drive`] runs the kernel in [`tile`], from the packed weights for few
//! columns and from unpacked panels for many. [`coded`] describes the formats, [`dot_lanes`] the
//! instructions; neither knows the other.

pub(crate) mod coded;
pub(crate) mod dot;
pub(crate) mod dot_lanes;
pub(crate) mod drive;
mod error;
pub(crate) mod float;
pub(crate) mod grouped;
pub(crate) mod inputs;
pub(crate) mod packed;
mod pool;
mod product;
pub(crate) mod tile;

pub use dot::activation_type;
pub use error::MatrixError;
pub use grouped::{GroupedInt4, UnpackedInt4};
pub use packed::PackedMatrix;
pub use pool::{Parallel, Pool, Serial};
pub use product::{Input, Output};

/// Evaluates `$body` with `$name` naming the [`coded::Coded`] of a [`packed::Format`], or
/// `$otherwise` for floats.
macro_rules! with_coded {
    ($format:expr, $name:ident => $body:expr, $otherwise:expr) => {
        match $format {
            $crate::matrix::packed::Format::Ggml(ty) => {
                quant_core::with_format!(ty, $name => $body, $otherwise)
            }
            $crate::matrix::packed::Format::Int4(layout) => {
                $crate::matrix::grouped::with_int4!(layout, $name => $body)
            }
        }
    };
}
pub(crate) use with_coded;
