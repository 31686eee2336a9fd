//! Dot products and matrix products with quantized weights.

pub(crate) mod coded;
pub(crate) mod dot;

pub use dot::activation_type;
