//! Plain scalar code: runs everywhere, the reference for every other instance.

use std::ops::Range;

use quant_core::{
    Error, GgmlType,
    formats::{BlockFormat, Rows},
    grouped::{GroupedMut, Job, quantize_with},
    lanes::Scalar,
};

use super::{IsaKernels, Stored, matrix::MatrixKernels};
use crate::matrix::{
    coded::Coded,
    dot,
    drive::{self, Product},
    float::{self, FloatFormat},
    inputs::{Column, Inputs},
};

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

impl MatrixKernels for Kernels {
    type Token = Scalar;
    const DIRECT_WIDTHS: &'static [usize] = &[4, 2, 1];
    const PANEL_WIDTHS: &'static [usize] = &[4, 2, 1];

    fn fill(s: Scalar, inputs: &mut Inputs, x: &[f32], stride: usize, columns: &[Column]) {
        inputs.fill(s, x, stride, columns);
    }

    fn direct<F: Coded>(s: Scalar, job: &Product<'_>, rows: Range<usize>) {
        drive::direct::<Scalar, F, 1>(s, job, rows);
    }

    fn panels<F: Coded>(s: Scalar, job: &Product<'_>, rows: Range<usize>) {
        drive::panels::<Scalar, F, 2, 4>(s, job, rows);
    }

    fn floats<F: FloatFormat>(s: Scalar, job: &Product<'_>, rows: Range<usize>) {
        drive::floats::<Scalar, F, 2, 4>(s, job, rows);
    }

    fn dot<F: Coded>(s: Scalar, weights: &[u8], activations: &[u8]) -> f32 {
        dot::dot::<Scalar, F>(s, weights, activations)
    }

    fn dot_floats<F: FloatFormat>(s: Scalar, weights: &[u8], inputs: &[u8]) -> f32 {
        float::dot::<Scalar, F>(s, weights, inputs)
    }

    #[cfg(feature = "probe")]
    fn probe_int8(s: Scalar, turns: usize, sink: &mut i32) -> u64 {
        crate::probe::int8(s, turns, sink)
    }

    #[cfg(feature = "probe")]
    fn probe_float(s: Scalar, turns: usize, sink: &mut f32) -> u64 {
        crate::probe::float(s, turns, sink)
    }

    #[cfg(feature = "probe")]
    fn probe_read(s: Scalar, bytes: &[u8], sink: &mut i32) {
        crate::probe::read(s, bytes, sink);
    }
}
