//! Dot products and matrix products with quantized weights.
//!
//! The way of a product: [`packed`] weights, [`inputs`] quantized to meet them, then for a range
//! of rows per thread [`drive`] runs the kernel in [`tile`] as [`arithmetic`] says, for few columns from the
//! packed weights and for many from panels that are unpacked once; both are [`sources`].
//! [`format`](mod@format) lists the
//! formats; [`coded`] describes those that are multiplied by their codes, and [`more_formats`] such for which
//! less is compiled; [`integers`] are those with codebooks; [`dot_lanes`] are the instructions, which know no
//! format.

pub(crate) mod arithmetic;
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
pub(crate) mod integers;
mod memory;
mod more_formats;
pub(crate) mod packed;
mod pool;
mod product;
mod rows;
pub(crate) mod sources;
mod stored;
pub(crate) mod tile;

pub use dot::activation_type;
pub use error::MatrixError;
pub use grouped::{GroupedInt4, UnpackedInt4};
pub use memory::PackedMemory;
pub use packed::PackedMatrix;
pub use pool::{Parallel, Pool, Serial};
pub use product::{Input, Output};
