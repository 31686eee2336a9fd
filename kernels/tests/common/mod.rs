//! What the tests of several files share.

#![allow(dead_code, reason = "not every test needs all of them")]

use quant_core::{GgmlType, can_quantize};
use quant_kernels::activation_type;

/// The block formats that can be quantized.
pub(crate) fn quantizable() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|ty| ty.is_quantized() && can_quantize(*ty))
}

/// The types of weights that can be multiplied: floats and block formats.
pub(crate) fn multipliable() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|ty| activation_type(*ty).is_some())
}
