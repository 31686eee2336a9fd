//! Dot products and matrix products with quantized weights.
//!
//! The way of a product: [`packed`] weights, [`inputs`] quantized to meet them, then for a range
//! of rows per thread [`drive`] runs the kernel in [`tile`], from the packed weights for few
//! columns and from unpacked panels for many. [`format`](mod@format) lists the formats, [`coded`] describes
//! them, [`dot_lanes`] the instructions; neither knows the other.

pub(crate) mod coded;
pub(crate) mod dot;
pub(crate) mod dot_lanes;
pub(crate) mod drive;
mod error;
pub(crate) mod float;
pub(crate) mod format;
pub(crate) mod grouped;
pub(crate) mod inputs;
pub(crate) mod int4;
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
