//! What the tests of several files share.

use quant_core::{GgmlType, can_quantize};

/// The block formats that can be quantized.
pub(crate) fn quantizable() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|ty| ty.is_quantized() && can_quantize(*ty))
}
