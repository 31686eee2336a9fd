//! Instruction sets: detection, and a static table of kernels for each.
//!
//! To add one: a file beside this with a token that only its `new` can make, its
//! [`Lanes`](quant_core::lanes::Lanes) and its [`IsaKernels`]; a variant of [`Isa`] and a row in
//! [`TABLES`]. Tests and benchmarks visit every table the machine supports.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_matrix;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse41;

use std::ops::Range;

use quant_core::{
    Error, GgmlType,
    formats::{BlockFormat, Rows},
    grouped::{GroupedMut, Job},
    lanes::{Lanes, Scalar},
    with_format,
};

use crate::matrix::{
    coded::Coded,
    dot::dot_floats,
    dot_lanes::DotLanes,
    drive::Product,
    float::{Bf16, F16, F32, FloatFormat},
    inputs::{Column, InputLayout, Inputs},
    packed::Format,
    tile, with_coded,
};

/// The methods of a [`Lanes`] that are one expression of intrinsics each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! lane_ops {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: the token proves that the CPU has the instructions; the pointers, where
            // there are any, come from references to arrays of at least as many lanes.
            unsafe { $body }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use lane_ops;

/// The methods of a [`DotLanes`] that are intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! dot_lane_ops {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: the token proves that the CPU has the instructions; loads are from slices
            // that were checked to have as many bytes.
            unsafe { $body }
        }
    )*};
}
#[cfg(target_arch = "x86_64")]
use dot_lane_ops;

/// The methods of a [`MatrixKernels`]: token, features, vectors of rows in a direct tile, vectors
/// of rows and columns in a panel tile.
#[cfg(target_arch = "x86_64")]
macro_rules! matrix_kernels {
    ($token:ty, $features:literal, $direct:literal, $rows:literal, $columns:literal) => {
        #[inline]
        fn fill(s: $token, inputs: &mut Inputs, x: &[f32], stride: usize, columns: &[Column]) {
            #[target_feature(enable = $features)]
            fn with_features(
                s: $token,
                inputs: &mut Inputs,
                x: &[f32],
                stride: usize,
                columns: &[Column],
            ) {
                inputs.fill(s, x, stride, columns);
            }
            // SAFETY: the token proves every feature named.
            unsafe { with_features(s, inputs, x, stride, columns) }
        }

        #[inline]
        fn direct<F: Coded>(s: $token, job: &Product<'_>, rows: Range<usize>) {
            #[target_feature(enable = $features)]
            fn with_features<F: Coded>(s: $token, job: &Product<'_>, rows: Range<usize>) {
                drive::direct::<$token, F, $direct>(s, job, rows);
            }
            // SAFETY: the token proves every feature named.
            unsafe { with_features::<F>(s, job, rows) }
        }

        #[inline]
        fn panels<F: Coded>(s: $token, job: &Product<'_>, rows: Range<usize>) {
            #[target_feature(enable = $features)]
            fn with_features<F: Coded>(s: $token, job: &Product<'_>, rows: Range<usize>) {
                drive::panels::<$token, F, $rows, $columns>(s, job, rows);
            }
            // SAFETY: the token proves every feature named.
            unsafe { with_features::<F>(s, job, rows) }
        }

        #[inline]
        fn floats<F: FloatFormat>(s: $token, job: &Product<'_>, rows: Range<usize>) {
            #[target_feature(enable = $features)]
            fn with_features<F: FloatFormat>(s: $token, job: &Product<'_>, rows: Range<usize>) {
                drive::floats::<$token, F, $rows, $columns>(s, job, rows);
            }
            // SAFETY: the token proves every feature named.
            unsafe { with_features::<F>(s, job, rows) }
        }

        #[cfg(feature = "probe")]
        fn probe_int8(s: $token, turns: usize, sink: &mut i32) -> u64 {
            #[target_feature(enable = $features)]
            fn with_features(s: $token, turns: usize, sink: &mut i32) -> u64 {
                crate::probe::int8(s, turns, sink)
            }
            // SAFETY: the token proves every feature named.
            unsafe { with_features(s, turns, sink) }
        }

        #[cfg(feature = "probe")]
        fn probe_read(s: $token, bytes: &[u8], sink: &mut i32) {
            #[target_feature(enable = $features)]
            fn with_features(s: $token, bytes: &[u8], sink: &mut i32) {
                crate::probe::read(s, bytes, sink);
            }
            // SAFETY: the token proves every feature named.
            unsafe { with_features(s, bytes, sink) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
use matrix_kernels;

/// An instruction set this crate has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// No SIMD: the reference.
    Scalar,
    /// x86-64 SSE4.1.
    Sse41,
    /// x86-64 AVX2, FMA and F16C.
    Avx2,
    /// x86-64 AVX-512 F, BW, DQ and VL; matrix products are those of [`Avx2`](Self::Avx2).
    Avx512,
    /// x86-64 AVX-512 F, BW, DQ and VL with VNNI.
    Avx512Vnni,
    /// aarch64 NEON.
    Neon,
}

impl Isa {
    /// The name in lower case, as benchmarks print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Sse41 => "sse4.1",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
            Self::Neon => "neon",
        }
    }
}

/// The kernels of one instruction set. Only tables whose instruction set the CPU has can be had.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) isa: Isa,
    supported: fn() -> bool,
    pub(crate) quantize: fn(GgmlType, Rows<'_>, &mut [u8]) -> bool,
    pub(crate) dequantize: fn(GgmlType, &[u8], &mut [f32]) -> bool,
    pub(crate) quantize_groups: fn(Job<'_>, GroupedMut<'_>) -> Result<(), Error>,
    pub(crate) widen: fn(Stored<'_>, &mut [f32]) -> f32,
    pub(crate) magnitude: fn(&[f32]) -> f32,
    pub(crate) narrow: fn(GgmlType, &[f32], &mut [u8]),
    pub(crate) quantize_activations: fn(GgmlType, &[f32], &mut [u8]) -> bool,
    pub(crate) dot: fn(GgmlType, &[u8], &[u8]) -> f32,
    pub(crate) matrix: MatrixTable,
}

/// The matrix products of one instruction set.
#[derive(Debug)]
pub(crate) struct MatrixTable {
    /// Widths of tiles for few columns, widest first.
    pub(crate) direct_widths: &'static [usize],
    /// Widths of tiles for many columns and for floats, widest first.
    pub(crate) panel_widths: &'static [usize],
    pub(crate) layout: fn(Format) -> InputLayout,
    pub(crate) fill: fn(&mut Inputs, &[f32], usize, &[Column]),
    /// Computes a range of rows; the flag says whether there are many columns.
    pub(crate) multiply: fn(Format, bool, &Product<'_>, Range<usize>),
    #[cfg(feature = "probe")]
    pub(crate) probe_int8: fn(usize, &mut i32) -> u64,
    #[cfg(feature = "probe")]
    pub(crate) probe_read: fn(&[u8], &mut i32),
}

/// The table that every CPU supports.
pub(crate) static SCALAR: Table = table::<scalar::Kernels, scalar::Kernels>(Isa::Scalar);

/// The other tables, slowest first.
static TABLES: &[Table] = &[
    #[cfg(target_arch = "x86_64")]
    table::<sse41::Kernels, scalar::Kernels>(Isa::Sse41),
    #[cfg(target_arch = "x86_64")]
    table::<avx2::Kernels, avx2_matrix::Kernels>(Isa::Avx2),
    #[cfg(target_arch = "x86_64")]
    table::<avx512::Kernels, avx2_matrix::Kernels>(Isa::Avx512),
    #[cfg(target_arch = "x86_64")]
    table::<avx512::Kernels, avx512_vnni::Kernels>(Isa::Avx512Vnni),
    #[cfg(target_arch = "aarch64")]
    table::<neon::Kernels, scalar::Kernels>(Isa::Neon),
];

/// The tables of all instruction sets this CPU has, slowest first. Never empty.
pub(crate) fn tables() -> impl DoubleEndedIterator<Item = &'static Table> {
    std::iter::once(&SCALAR).chain(TABLES.iter().filter(|table| (table.supported)()))
}

/// Floats as a tensor stores them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    F32(&'a [u8]),
    F16(&'a [u8]),
    Bf16(&'a [u8]),
}

/// A token that can be had where the CPU supports it.
pub(crate) trait Token: Lanes {
    fn detect() -> Option<Self>;
}

impl Token for Scalar {
    fn detect() -> Option<Self> {
        Some(Self)
    }
}

#[cfg(target_arch = "aarch64")]
impl Token for neon::Neon {
    fn detect() -> Option<Self> {
        Some(Self)
    }
}

#[cfg(target_arch = "x86_64")]
impl Token for sse41::Sse41 {
    fn detect() -> Option<Self> {
        Self::new()
    }
}

#[cfg(target_arch = "x86_64")]
impl Token for avx2::Avx2 {
    fn detect() -> Option<Self> {
        Self::new()
    }
}

#[cfg(target_arch = "x86_64")]
impl<const VNNI: bool> Token for avx512::Avx512<VNNI> {
    fn detect() -> Option<Self> {
        Self::new()
    }
}

/// One instruction set's instances of the generic kernels, compiled with its features.
pub(crate) trait IsaKernels {
    type Token: Token;

    fn quantize<F: BlockFormat>(s: Self::Token, rows: Rows<'_>, blocks: &mut [F::Block]);
    fn dequantize<F: BlockFormat>(s: Self::Token, blocks: &[F::Block], out: &mut [f32]);
    fn quantize_groups(s: Self::Token, job: Job<'_>, out: GroupedMut<'_>) -> Result<(), Error>;
    /// To single precision; returns the largest magnitude as [`magnitude`] does.
    fn widen(s: Self::Token, stored: Stored<'_>, out: &mut [f32]) -> f32;
    /// To `F32`, `F16` or `BF16`.
    fn narrow(s: Self::Token, ty: GgmlType, values: &[f32], out: &mut [u8]);
    /// As [`matrix::dot::dot`](crate::matrix::dot::dot).
    fn dot<F: Coded>(s: Self::Token, weights: &[u8], activations: &[u8]) -> f32;
    /// As [`activation::quantize`](crate::activation::quantize).
    fn activations(s: Self::Token, ty: GgmlType, values: &[f32], out: &mut [u8]) -> bool;
}

/// One instruction set's instances of the matrix kernels, compiled with its features.
pub(crate) trait MatrixKernels {
    type Token: Token + DotLanes;
    /// See [`MatrixTable::direct_widths`]: of 4, 2 and 1.
    const DIRECT_WIDTHS: &'static [usize];
    /// See [`MatrixTable::panel_widths`]: the columns of a panel tile, then 4, 2 and 1.
    const PANEL_WIDTHS: &'static [usize];

    /// As [`Inputs::fill`].
    fn fill(s: Self::Token, inputs: &mut Inputs, x: &[f32], stride: usize, columns: &[Column]);
    /// As [`drive::direct`](crate::matrix::drive::direct).
    fn direct<F: Coded>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`drive::panels`](crate::matrix::drive::panels).
    fn panels<F: Coded>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`drive::floats`](crate::matrix::drive::floats).
    fn floats<F: FloatFormat>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`probe::int8`](crate::probe::int8).
    #[cfg(feature = "probe")]
    fn probe_int8(s: Self::Token, turns: usize, sink: &mut i32) -> u64;
    /// As [`probe::read`](crate::probe::read).
    #[cfg(feature = "probe")]
    fn probe_read(s: Self::Token, bytes: &[u8], sink: &mut i32);
}

/// The token of a table that was handed out: its instruction set was detected then.
fn token<T: Token>() -> T {
    match T::detect() {
        Some(token) => token,
        None => unreachable!("tables() hands out supported tables only"),
    }
}

const fn table<K: IsaKernels, M: MatrixKernels>(isa: Isa) -> Table {
    Table {
        isa,
        supported: || K::Token::detect().is_some() && M::Token::detect().is_some(),
        quantize: |ty, rows, out| {
            let s = token::<K::Token>();
            with_format!(
                ty,
                F => {
                    let blocks = bytemuck::cast_slice_mut::<u8, <F as BlockFormat>::Block>(out);
                    K::quantize::<F>(s, rows, blocks);
                    true
                },
                false
            )
        },
        dequantize: |ty, bytes, out| {
            let s = token::<K::Token>();
            with_format!(
                ty,
                F => {
                    let blocks = bytemuck::cast_slice::<u8, <F as BlockFormat>::Block>(bytes);
                    K::dequantize::<F>(s, blocks, out);
                    true
                },
                false
            )
        },
        quantize_groups: |job, out| K::quantize_groups(token::<K::Token>(), job, out),
        widen: |stored, out| K::widen(token::<K::Token>(), stored, out),
        // Simple enough that every target's baseline vectorises it.
        magnitude,
        narrow: |ty, values, out| K::narrow(token::<K::Token>(), ty, values, out),
        dot: |ty, weights, activations| {
            let s = token::<K::Token>();
            with_format!(
                ty,
                F => K::dot::<F>(s, weights, activations),
                dot_floats(ty, weights, activations)
            )
        },
        matrix: matrix_table::<M>(),
        quantize_activations: |ty, values, out| {
            K::activations(token::<K::Token>(), ty, values, out)
        },
    }
}

const fn matrix_table<M: MatrixKernels>() -> MatrixTable {
    MatrixTable {
        direct_widths: M::DIRECT_WIDTHS,
        panel_widths: M::PANEL_WIDTHS,
        layout: |format| {
            with_coded!(
                format,
                F => InputLayout {
                    scaling: Some(<F as Coded>::SCALING),
                    sub: <F as Coded>::SUB,
                    bias: tile::bias::<M::Token, F>(),
                },
                InputLayout { scaling: None, sub: 1, bias: 0 }
            )
        },
        fill: |inputs, x, stride, columns| M::fill(token(), inputs, x, stride, columns),
        #[cfg(feature = "probe")]
        probe_int8: |turns, sink| M::probe_int8(token(), turns, sink),
        #[cfg(feature = "probe")]
        probe_read: |bytes, sink| M::probe_read(token(), bytes, sink),
        multiply: |format, many, job, rows| {
            let s = token();
            with_coded!(
                format,
                F => if many {
                    M::panels::<F>(s, job, rows)
                } else {
                    M::direct::<F>(s, job, rows)
                },
                match format {
                    Format::Ggml(GgmlType::F16) => M::floats::<F16>(s, job, rows),
                    Format::Ggml(GgmlType::BF16) => M::floats::<Bf16>(s, job, rows),
                    Format::Ggml(_) => M::floats::<F32>(s, job, rows),
                }
            )
        },
    }
}

#[inline(always)]
fn dequantize_blocks<F: BlockFormat>(blocks: &[F::Block], out: &mut [f32]) {
    for (block, out) in blocks.iter().zip(out.chunks_exact_mut(F::TYPE.block_len())) {
        F::dequantize(block, out);
    }
}

/// Values converted at a time: the size of the pieces that ISA code converts.
const STEP: usize = 16;

/// The loop of [`IsaKernels::widen`]; `f16` converts [`STEP`] halves, or fewer for the last piece
/// of the scalar instance.
#[inline(always)]
fn widen(stored: Stored<'_>, out: &mut [f32], f16: impl Fn(&[u8], &mut [f32])) -> f32 {
    match stored {
        Stored::F32(bytes) => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*b);
            }
        }
        Stored::Bf16(bytes) => {
            for (out, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        Stored::F16(bytes) => {
            let (pieces, rest) = out.as_chunks_mut::<STEP>();
            let (halves, halves_rest) = bytes.as_chunks::<{ 2 * STEP }>();
            for (out, halves) in pieces.iter_mut().zip(halves) {
                f16(halves, out);
            }
            for (out, b) in rest.iter_mut().zip(halves_rest.as_chunks().0) {
                *out = half::f16::from_le_bytes(*b).to_f32();
            }
        }
    }
    magnitude(out)
}

/// The largest magnitude. The bits of magnitudes order as the magnitudes do, infinity above all
/// numbers and NaNs above infinity, so that any value that is not finite shows.
#[inline(always)]
fn magnitude(values: &[f32]) -> f32 {
    let mut largest = 0u32;
    for v in values {
        largest = largest.max(v.to_bits() & 0x7fff_ffff);
    }
    f32::from_bits(largest)
}

/// The loop of [`IsaKernels::narrow`]; `f16` converts [`STEP`] values.
#[inline(always)]
fn narrow(ty: GgmlType, values: &[f32], out: &mut [u8], f16: impl Fn(&[f32], &mut [u8])) {
    match ty {
        GgmlType::F16 => {
            let (pieces, rest) = values.as_chunks::<STEP>();
            let (halves, halves_rest) = out.as_chunks_mut::<{ 2 * STEP }>();
            for (values, out) in pieces.iter().zip(halves) {
                f16(values, out);
            }
            for (v, out) in rest.iter().zip(halves_rest.as_chunks_mut().0) {
                *out = half::f16::from_f32(*v).to_le_bytes();
            }
        }
        GgmlType::BF16 => {
            for (v, out) in values.iter().zip(out.as_chunks_mut().0) {
                *out = quant_core::f32_to_bf16(*v).to_le_bytes();
            }
        }
        _ => {
            for (v, out) in values.iter().zip(out.as_chunks_mut().0) {
                *out = v.to_le_bytes();
            }
        }
    }
}
