//! Matrix products of plain scalar code: they run everywhere, the reference for every other instance.

use quant_core::lanes::Scalar;

use super::{matrix::MatrixKernels, matrix_macros::matrix_kernels};
use crate::matrix::coded::Layout;

#[derive(Debug)]
pub(crate) struct Kernels;

// The reference has to be right and small: nobody chooses it for its speed.
impl MatrixKernels for Kernels {
    type Tiles<L: Layout> = L::AnyBits;
    const FEW_WIDTHS: &'static [usize] = &[1];
    const WIDTHS: &'static [usize] = &[1];

    matrix_kernels! { Kernels: Scalar; few 1, 1; panels 1; tiles 1, 1; floats 1, 1 }
}
