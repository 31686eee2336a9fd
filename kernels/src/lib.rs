//! Quantizes, restores and multiplies weights in ggml's formats as fast as the CPU can.
//!
//! Whoever quantizes a large model waits for scalar code, and whoever runs one multiplies with the blocks
//! as they are or not at all. Both need vectors, of whatever instruction set the machine happens to have,
//! and mostly call C for them. Here are SIMD instances of the quantizers and dequantizers of
//! `quant-core`, and matrix products, chosen at run time. The bytes are the same on every instruction
//! set: in a quantizer a lane is a block, and every lane does what the scalar code does.
//!
//! ```
//! use quant_core::{GgmlType, QTensor};
//! use quant_kernels::Kernels;
//!
//! let values: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.7).sin()).collect();
//! let fast = Kernels::best().quantize(GgmlType::Q4_K, &[4, 1024], &values)?;
//! assert_eq!(fast, QTensor::quantize(GgmlType::Q4_K, &[4, 1024], &values)?);
//! # Ok::<(), quant_core::Error>(())
//! ```
//!
//! | what | where |
//! |---|---|
//! | instruction sets: detection, override | [`Isa`], [`Kernels::best`], [`Kernels::supported`] |
//! | an operation of your own on the lanes of the CPU | [`LaneOp`], [`Kernels::run`] |
//! | quantize, dequantize every block format of `quant-core` | [`Kernels::quantize`], [`Kernels::dequantize`]; in place [`Kernels::quantize_unchecked`], [`Kernels::dequantize_into`] |
//! | quantize grouped integers | [`Kernels::quantize_groups`] |
//! | F32, F16, BF16 to single precision and back, with a check for finite values | [`Kernels::widen`], [`Kernels::narrow`] |
//! | activations as ggml quantizes them, dot products of single rows | [`Kernels::quantize_activations`], [`Kernels::dot`] |
//! | with `matrix`: weights packed for products, `y = x · Wᵀ`, with experts; grouped four-bit integers | [`PackedMatrix`], [`GroupedInt4`] |
//! | rows of a packed matrix as values, packed matrices in files | [`PackedMatrix::dequantize_rows`], [`PackedMatrix::write_to`], [`PackedMatrix::read_from`] |
//! | threads for products and packing, or your own | [`Pool`], [`Serial`], [`Parallel`] |
//!
//! ```
//! # #[cfg(feature = "matrix")]
//! # fn main() -> Result<(), quant_kernels::MatrixError> {
//! use quant_core::GgmlType;
//! use quant_kernels::{Kernels, PackedMatrix, Serial};
//!
//! // Three rows of 256 weights, all one; two inputs.
//! let (rows, cols, n) = (3, 256, 2);
//! let bytes = quant_core::quantize(GgmlType::Q8_0, &vec![1.0; rows * cols], cols, None).unwrap();
//! let weights = PackedMatrix::pack(GgmlType::Q8_0, rows, cols, &bytes)?;
//! let (x, mut y) = (vec![0.5; n * cols], vec![0.0; n * rows]);
//! weights.matmul_into(Kernels::best(), &Serial, &x, &mut y)?;
//! assert!(y.iter().all(|y| (y - 128.0).abs() < 0.1));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "matrix"))]
//! # fn main() {}
//! ```
//!
//! The matrix products have instances for scalar code, SSE4.1, AVX2, AVX-VNNI, AVX-512 VNNI, NEON
//! alone, with `sdot` and with `usmmla`, simd128 and relaxed-simd. NEON has been run in an emulator only,
//! the others on CPUs that have them. All rest on one dot product of four unsigned and four signed
//! bytes in each 32-bit lane (DP4a), in `matrix/dot_lanes.rs`: `vpdpbusd`, `sdot`, or what the
//! instruction set has in their place. The integer sums are exact and the same everywhere.
//! [`Kernels::dot`] is for single rows: it unpacks them each time.
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `avx512` | yes | instances for AVX-512, and for its products with VNNI |
//! | `matrix` | no | products: more than twice the code of all else |
//! | `avxvnni` | no | products for AVX-VNNI: Intel's CPUs since 2021 without AVX-512 |
//! | `sse41` | no | instances for CPUs without AVX2, which run scalar code otherwise |
//! | `rayon` | no | a [`Parallel`] of rayon's pools |
//! | `probe` | no | what benchmarks need to measure the limits of the machine |
//!
//! Each instruction set is time to compile; AVX2 on x86-64, and those of other architectures, are always there. A CPU
//! whose own instruction set is left out runs AVX2 or scalar code, with the same results.
//! Packing and products run on the threads that the caller brings, or on the caller's own.
//!
//! `unsafe` code of the workspace is here only: the instructions in `isa/`, the borrowed task of
//! the [`Pool`], the shared output of a product.

#![cfg_attr(
    not(feature = "matrix"),
    allow(dead_code, unused_imports, unused_macros, reason = "what only products use")
)]

mod activation;
mod convert;
mod isa;
#[cfg(feature = "matrix")]
mod matrix;
mod ops;
#[cfg(feature = "probe")]
mod probe;

use std::marker::PhantomData;

use quant_core::{
    Codec, Error, GgmlType, QTensor,
    formats::Rows,
    grouped::{GroupedMut, Job},
    lanes::Scalar,
    with_format, with_quantizer,
};

/// The crate of the types in these signatures, of the version that is used here.
pub use quant_core;

pub use isa::Isa;
#[cfg(feature = "matrix")]
pub use matrix::{
    GroupedInt4, Input, MatrixError, Output, PackedMatrix, PackedMemory, Parallel, Pool, Serial,
    UnpackedInt4, activation_type,
};
pub use ops::LaneOp;
use ops::{Dequantize, Improve, Narrow, Quantize, QuantizeActivations, QuantizeGroups, Widen};

/// The kernels of one instruction set that this CPU has.
#[derive(Clone, Copy, Debug)]
pub struct Kernels(&'static isa::Table);

impl Default for Kernels {
    fn default() -> Self {
        Self::best()
    }
}

impl Kernels {
    /// The fastest kernels for this CPU.
    pub fn best() -> Self {
        Self::supported().next_back().unwrap_or(Self(&isa::SCALAR))
    }

    /// The kernels of every instruction set this CPU has, slowest first.
    pub fn supported() -> impl DoubleEndedIterator<Item = Self> {
        isa::tables().map(Self)
    }

    /// The kernels of one instruction set, `None` if this CPU does not have it.
    pub fn for_isa(isa: Isa) -> Option<Self> {
        Self::supported().find(|kernels| kernels.isa() == isa)
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.0.isa
    }

    /// Runs an operation with the lanes of the instruction set, compiled for it.
    #[inline]
    pub fn run<O: LaneOp>(self, op: O) -> O::Output {
        isa::run(self.isa(), op)
    }

    /// Quantizes values, row-major, with all the checks of [`QTensor::quantize`].
    ///
    /// # Errors
    /// As [`QTensor::quantize`].
    pub fn quantize(
        self,
        ty: GgmlType,
        shape: &[usize],
        values: &[f32],
    ) -> Result<QTensor<'static>, Error> {
        QTensor::quantize_by(&self, ty, shape, values, None)
    }

    /// Quantizes values with an importance weight for each column, as [`QTensor::quantize_weighted`].
    ///
    /// # Errors
    /// As [`QTensor::quantize_weighted`].
    pub fn quantize_weighted(
        self,
        ty: GgmlType,
        shape: &[usize],
        values: &[f32],
        importance: &[f32],
    ) -> Result<QTensor<'static>, Error> {
        QTensor::quantize_by(&self, ty, shape, values, Some(importance))
    }

    /// The values of a tensor, row-major.
    ///
    /// # Errors
    /// As [`QTensor::dequantize`].
    pub fn dequantize(self, tensor: &QTensor<'_>) -> Result<Vec<f32>, Error> {
        tensor.dequantize_by(&self)
    }

    /// Quantizes whole rows to the bytes of their blocks, or converts them to a float type, without a
    /// look at the values: those that are not finite give unspecified codes, too large ones infinite
    /// scales.
    ///
    /// # Errors
    /// As [`quant_core::quantize_unchecked`].
    pub fn quantize_unchecked(
        self,
        ty: GgmlType,
        rows: Rows<'_>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        if self.isa() == Isa::Scalar {
            return Codec::quantize_unchecked(&Scalar, ty, rows, out);
        }
        rows.check(ty)?;
        ty.check_bytes(rows.values.len(), out.len())?;
        if is_float(ty) {
            self.run(Narrow { ty, values: rows.values, out });
            return Ok(());
        }
        with_quantizer!(
            ty,
            F => isa::run_vectors(self.isa(), Quantize::<F> { rows, blocks: bytemuck::cast_slice_mut(out) }),
            return Err(Error::Unsupported { ty, operation: "quantized" })
        );
        Ok(())
    }

    /// Improves blocks that were quantized from `rows`, as [`quant_core::improve`] does; returns how many
    /// were changed.
    ///
    /// # Errors
    /// As [`quant_core::improve`].
    pub fn improve(self, ty: GgmlType, rows: Rows<'_>, blocks: &mut [u8]) -> Result<u64, Error> {
        self.run(Improve { ty, rows, blocks })
    }

    /// Restores the values of whole blocks: `out` has as many elements as `bytes` holds.
    ///
    /// # Errors
    /// As [`quant_core::dequantize`].
    pub fn dequantize_into(self, ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
        if self.isa() == Isa::Scalar {
            return Codec::dequantize_into(&Scalar, ty, bytes, out);
        }
        if is_float(ty) {
            return self.widen(ty, bytes, out).map(|_| ());
        }
        ty.check_bytes(out.len(), bytes.len())?;
        with_format!(
            ty,
            F => isa::run_vectors(self.isa(), Dequantize::<F> { bytes, out, format: PhantomData }),
            return Err(Error::Unsupported { ty, operation: "dequantized" })
        );
        Ok(())
    }

    /// Quantizes whole groups to grouped integers; the values must be finite.
    ///
    /// # Errors
    /// As [`quant_core::grouped::quantize_with`].
    pub fn quantize_groups(self, job: Job<'_>, out: GroupedMut<'_>) -> Result<(), Error> {
        self.run(QuantizeGroups { job, out })
    }

    /// Converts stored values of any type to single precision; returns the largest magnitude,
    /// which is infinite or NaN if any value is not finite.
    ///
    /// # Errors
    /// As [`quant_core::dequantize`].
    pub fn widen(self, ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<f32, Error> {
        ty.check_bytes(out.len(), bytes.len())?;
        if is_float(ty) {
            return Ok(self.run(Widen { ty, bytes, out }));
        }
        self.dequantize_into(ty, bytes, out)?;
        Ok(convert::magnitude(out))
    }

    /// Quantizes activations to `Q8_0`, `Q8_1` or `Q8_K` as ggml does on x86, which is not how
    /// [`quantize`](Self::quantize) rounds: `out` receives the blocks of `values` in order.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another type, [`Error::RowLength`] if the values are not a whole
    /// number of blocks, [`Error::Length`] if `out` does not have their size,
    /// [`Error::NonFinite`] for a NaN or an infinity.
    pub fn quantize_activations(
        self,
        ty: GgmlType,
        values: &[f32],
        out: &mut [u8],
    ) -> Result<(), Error> {
        ty.check_bytes(values.len(), out.len())?;
        if !self.magnitude(values).is_finite() {
            activation::check_finite("the activations", 0, values)?;
        }
        if self.run(QuantizeActivations { ty, values, out }) {
            Ok(())
        } else {
            Err(Error::Unsupported { ty, operation: "quantized as activations" })
        }
    }

    /// The dot product of one row of weights, in the bytes of its blocks, and one row of
    /// activations in the bytes of [`activation_type`] of `ty`. The products of codes are summed
    /// exactly, the sub-blocks in single precision.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a type without an [`activation_type`], [`Error::Length`] if a
    /// buffer does not hold `cols` elements, [`Error::RowLength`] if `cols` is not a whole number
    /// of blocks.
    #[cfg(feature = "matrix")]
    pub fn dot(
        self,
        ty: GgmlType,
        cols: usize,
        weights: &[u8],
        activations: &[u8],
    ) -> Result<f32, Error> {
        let Some(activation) = activation_type(ty) else {
            return Err(Error::Unsupported { ty, operation: "multiplied" });
        };
        ty.check_bytes(cols, weights.len())?;
        activation.check_bytes(cols, activations.len())?;
        Ok((self.0.dot)(ty, weights, activations))
    }

    /// Does `turns` rounds of the int8 dot instructions in registers and returns how many products
    /// of bytes that were: the peak that matrix products approach. For benchmarks.
    #[cfg(feature = "probe")]
    pub fn probe_int8(self, turns: usize, sink: &mut i32) -> u64 {
        (self.0.matrix.probe_int8)(turns, sink)
    }

    /// Does `turns` rounds of multiply-adds of floats in registers and returns how many those were:
    /// the peak that products of float types approach. For benchmarks.
    #[cfg(feature = "probe")]
    pub fn probe_float(self, turns: usize, sink: &mut f32) -> u64 {
        (self.0.matrix.probe_float)(turns, sink)
    }

    /// Reads all bytes: the bandwidth that products with one column approach. For benchmarks.
    #[cfg(feature = "probe")]
    pub fn probe_read(self, bytes: &[u8], sink: &mut i32) {
        (self.0.matrix.probe_read)(bytes, sink);
    }

    /// The largest magnitude of some values, which is infinite or NaN if any is not finite.
    pub fn magnitude(self, values: &[f32]) -> f32 {
        // Simple enough that every target's baseline vectorises it.
        convert::magnitude(values)
    }

    /// Converts values to `F32`, `F16` or `BF16`, rounding to nearest even; a value too large for
    /// `F16` becomes infinity.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another type, [`Error::Length`] if `out` does not fit.
    pub fn narrow(self, ty: GgmlType, values: &[f32], out: &mut [u8]) -> Result<(), Error> {
        if !is_float(ty) {
            return Err(Error::Unsupported { ty, operation: "converted" });
        }
        ty.check_bytes(values.len(), out.len())?;
        self.run(Narrow { ty, values, out });
        Ok(())
    }
}

impl Codec for Kernels {
    fn quantize_unchecked(
        &self,
        ty: GgmlType,
        rows: Rows<'_>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        Self::quantize_unchecked(*self, ty, rows, out)
    }

    fn dequantize_into(&self, ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
        Self::dequantize_into(*self, ty, bytes, out)
    }
}

fn is_float(ty: GgmlType) -> bool {
    matches!(ty, GgmlType::F32 | GgmlType::F16 | GgmlType::BF16)
}
