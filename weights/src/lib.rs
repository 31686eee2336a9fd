//! Tensors of any source as rows of `f32`.
#![forbid(unsafe_code)]
