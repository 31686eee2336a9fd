//! Plain scalar code: runs everywhere, the reference for every other instance.

use quant_core::{
    Error, GgmlType,
    formats::{BlockFormat, Rows},
    grouped::{GroupedMut, Job, quantize_with},
    lanes::Scalar,
};

#[cfg(feature = "matrix")]
use super::matrix::{MatrixKernels, matrix_kernels};
use super::{IsaKernels, Stored};

#[derive(Debug)]
pub(crate) struct Kernels;

impl IsaKernels for Kernels {
    type Token = Scalar;

    fn quantize<F: BlockFormat>(s: Scalar, rows: Rows<'_>, blocks: &mut [F::Block]) {
        F::quantize(s, rows, blocks);
    }

    fn dequantize<F: BlockFormat>(_: Scalar, blocks: &[F::Block], out: &mut [f32]) {
        super::dequantize_blocks::<F>(blocks, out);
    }

    fn quantize_groups(s: Scalar, job: Job<'_>, out: GroupedMut<'_>) -> Result<(), Error> {
        quantize_with(s, job, out)
    }

    fn widen(_: Scalar, stored: Stored<'_>, out: &mut [f32]) -> f32 {
        super::widen(stored, out, |halves, out| {
            for (half, out) in halves.as_chunks().0.iter().zip(out) {
                *out = half::f16::from_le_bytes(*half).to_f32();
            }
        })
    }

    fn narrow(_: Scalar, ty: GgmlType, values: &[f32], out: &mut [u8]) {
        super::narrow(ty, values, out, |values, out| {
            for (v, out) in values.iter().zip(out.as_chunks_mut().0) {
                *out = half::f16::from_f32(*v).to_le_bytes();
            }
        });
    }

    fn activations(s: Scalar, ty: GgmlType, values: &[f32], out: &mut [u8]) -> bool {
        crate::activation::quantize(s, ty, values, out)
    }
}

#[cfg(feature = "matrix")]
impl MatrixKernels for Kernels {
    const DIRECT_WIDTHS: &'static [usize] = &[4, 2, 1];
    const PANEL_WIDTHS: &'static [usize] = &[4, 2, 1];

    matrix_kernels! { Scalar; 1, 2, 4 }
}
