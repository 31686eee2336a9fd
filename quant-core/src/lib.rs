//! Turns rows of `f32` into the blocks of ggml's quantized types and back, with llama.cpp's bytes.
//!
//! Whoever writes a GGUF file, loads one or checks what a type costs needs these formats, and mostly calls
//! C for them. Here they are in Rust: the quantized bytes equal those of llama.cpp's `llama-quantize` on
//! x86-64, with and without an importance matrix. There is no I/O here, no threads, no unsafe code.
//! Quantizers are written once over the [`lanes::Lanes`] trait; this crate runs its one-lane instance,
//! `quant-kernels` the SIMD ones.
//!
//! ```
//! use quant_core::{GgmlType, Metrics, dequantize, quantize};
//!
//! // Two rows of 256 weights.
//! let weights: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) / 500.0).collect();
//! let bytes = quantize(GgmlType::Q4_K, &weights, 256, None)?;
//! assert_eq!(bytes.len(), 2 * GgmlType::Q4_K.block_bytes());
//!
//! let mut restored = vec![0.0; weights.len()];
//! dequantize(GgmlType::Q4_K, &bytes, &mut restored)?;
//! let mut metrics = Metrics::default();
//! metrics.add(&weights, &restored)?;
//! assert!(metrics.relative_rmse() < 0.08);
//! # Ok::<(), quant_core::Error>(())
//! ```
//!
//! | what | where |
//! |---|---|
//! | type table: ids, names, block sizes | [`GgmlType`] |
//! | a tensor: type, shape, bytes | [`QTensor`] |
//! | F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K … Q6_K | [`quantize`], [`dequantize`] |
//! | IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS | [`quantize`], [`dequantize`] |
//! | TQ1_0, TQ2_0, Q1_0, Q2_0, MXFP4 | [`quantize`], [`dequantize`] |
//! | NVFP4 | [`dequantize`] |
//! | what there is, and what uses importance | [`can_quantize`], [`can_dequantize`], [`importance_use`] |
//! | where the floats of a block are | [`GgmlType::floats`] |
//! | block layouts, one module per format | [`formats`] |
//! | grouped INT4 and INT8 with the numerics of NNCF | [`grouped`] |
//! | RMSE, maximum error, cosine, SNR, mergeable | [`Metrics`] |
//!
//! # Features
//!
//! - `std`, on by default.
//! - `alloc` in its place where there is no standard library: the same bytes.
//! - `serde`: [`GgmlType`] as its name.
#![forbid(unsafe_code)]
#![cfg_attr(not(any(feature = "std", test)), no_std)]

extern crate alloc;

#[cfg(not(any(feature = "std", feature = "alloc")))]
compile_error!("quant-core needs the feature `std`, or `alloc` in its place");

mod better;
mod block_floats;
mod checked;
mod checked_types;
mod codebook;
mod convert;
mod error;
pub mod formats;
pub mod grouped;
pub mod lanes;
mod math;
mod metrics;
mod once;
mod search;
mod tensor;
mod types;

pub use better::{can_improve, improve};
pub use block_floats::BlockFloat;
pub use checked::{Codec, quantize};
pub use convert::{
    can_dequantize, can_quantize, dequantize, f32_to_bf16, f32_to_f16, importance_use,
    quantize_unchecked,
};
pub use error::Error;
pub use metrics::Metrics;
pub use tensor::QTensor;
pub use types::GgmlType;

/// The examples of the README are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
