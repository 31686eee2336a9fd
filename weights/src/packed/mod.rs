//! Layers whose codes are packed in words: GPTQ, AWQ, AutoRound, compressed-tensors, MLX, bitsandbytes.
//!
//! A packed layer is some tensors of a checkpoint that stand for the weight of a module. Its rows are
//! restored from where they are stored, as many at a time as are asked for. Values are exact:
//! `(code − zero point) · scale`, in MLX `code · scale + bias`, in bitsandbytes `table[code] · scale`.
//!
//! | format | layout | file |
//! |---|---|---|
//! | GPTQ v1 and v2, 2, 3, 4, 8 bits, act-order; AutoRound | codes along the columns | `transposed.rs` |
//! | AWQ GEMM, 4 bits; AutoRound | codes along the rows of the transpose, interleaved | `transposed.rs` |
//! | compressed-tensors pack-quantized, 2 to 8 bits | codes along the rows | `by_rows.rs` |
//! | MLX affine, 2, 3, 4, 5, 6, 8 bits | codes along the rows, without gaps | `mlx.rs` |
//! | bitsandbytes NF4 and FP4 | codes of a table, in blocks along the whole weight | `bitsandbytes.rs` |

pub(crate) mod bitsandbytes;
pub(crate) mod by_rows;
mod layer;
pub(crate) mod mlx;
mod part;
mod parts;
mod row;
#[cfg(test)]
mod tests;
pub(crate) mod transposed;
mod window;

pub(crate) use layer::Layout;
pub use layer::Packed;
pub(crate) use parts::Parts;
pub(crate) use window::Window;
