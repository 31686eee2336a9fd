//! Matrix products of plain scalar code: they run everywhere, the reference for every other instance.

use quant_core::lanes::Scalar;

use super::matrix::{MatrixKernels, matrix_kernels};

#[derive(Debug)]
pub(crate) struct Kernels;

impl MatrixKernels for Kernels {
    const DIRECT_WIDTHS: &'static [usize] = &[4, 2, 1];
    const PANEL_WIDTHS: &'static [usize] = &[4, 2, 1];

    matrix_kernels! { Scalar; 1, 2, 4 }
}
