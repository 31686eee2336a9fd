//! Grouped integers: INT4 and INT8, symmetric and asymmetric, with the numerics of NNCF.
//!
//! A group is some consecutive weights of a row, or the whole row (*per channel*), that share a
//! scale and, in the asymmetric types, a zero point. Codes are kept unsigned in every type: a
//! weight is restored as `(code − zero point) · scale`, where the zero point of the symmetric types
//! is always the middle of the range. NNCF's signed `q` of a symmetric type is `code − zero point`.
//!
//! ```
//! use quant_core::grouped::{GroupedType, dequantize, quantize};
//!
//! let weights: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 500.0).collect();
//! let quantized = quantize(GroupedType::Int4Sym, &weights, 128)?;
//! assert_eq!((quantized.codes.len(), quantized.scales.len()), (256, 2));
//!
//! let mut restored = vec![0.0; weights.len()];
//! dequantize(quantized.view(), 128, &mut restored)?;
//! for ((w, r), scale) in weights.iter().zip(&restored).zip(quantized.scales.iter().flat_map(|s| [s; 128])) {
//!     // At most a step: no code is left for the end of the range that mirrors the extreme.
//!     assert!((w - r).abs() <= 1.001 * scale.abs());
//! }
//! # Ok::<(), quant_core::Error>(())
//! ```
//!
//! | what | where |
//! |---|---|
//! | the four types, group sizes that do not divide | [`GroupedType`], [`GroupSize`], [`Fallback`] |
//! | quantize over lanes, a group per lane | [`quantize_with`] |
//! | a better scale than NNCF's, by search | [`Refinement`] |
//! | codes in words, as compressed-tensors and GPTQ keep them | [`pack`] |

mod dequantize;
mod fit;
pub mod pack;
mod quantize;
mod refine;
mod scheme;

pub use dequantize::dequantize;
pub use quantize::{Grouped, GroupedMut, GroupedView, Job, quantize, quantize_with};
pub use refine::{Refinement, ScaleType};
pub use scheme::{Fallback, Fit, GroupSize, GroupedType};
