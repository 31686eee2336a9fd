//! Matrix products: what each instruction set instantiates, and their table.

use std::ops::Range;

use quant_core::GgmlType;

use super::{Token, token};
use crate::matrix::{
    coded::{Coded, Layout, subs},
    dot_lanes::DotLanes,
    drive::Product,
    float::{Bf16, F16, F32, FloatFormat},
    format::{Format, with_coded},
    inputs::{Column, InputLayout, Inputs},
    tile,
};

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
    pub(crate) probe_float: fn(usize, &mut f32) -> u64,
    #[cfg(feature = "probe")]
    pub(crate) probe_read: fn(&[u8], &mut i32),
}

/// One instruction set's instances of the matrix kernels, compiled with its features.
pub(crate) trait MatrixKernels {
    type Token: Token + DotLanes;
    /// Unpacked weights.
    type Panel;
    /// The totals of the rows of a panel with one column.
    type Totals;
    /// The layout whose [`panel_tiles`](Self::panel_tiles) serve `L`: where sums have 32 bits on their
    /// way, codes of any width are multiplied alike.
    type Tiles<L: Layout>: Layout;
    /// See [`MatrixTable::direct_widths`]: the columns of a direct tile, then 2 and 1.
    const DIRECT_WIDTHS: &'static [usize];
    /// See [`MatrixTable::panel_widths`]: the columns of a panel tile, then 4, 2 and 1.
    const PANEL_WIDTHS: &'static [usize];

    /// As [`Inputs::fill`].
    fn fill(s: Self::Token, inputs: &mut Inputs, x: &[f32], stride: usize, columns: &[Column]);
    /// As [`drive::direct`](crate::matrix::drive::direct).
    fn direct<F: Coded>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`drive::panels`](crate::matrix::drive::panels).
    fn panels<F: Coded>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`drive::panel_tiles`](crate::matrix::drive::panel_tiles).
    fn panel_tiles<L: Layout>(
        s: Self::Token,
        inputs: &Inputs,
        panel: &Self::Panel,
        blocks: Range<usize>,
        totals: &mut [Self::Totals],
    );
    /// As [`drive::floats`](crate::matrix::drive::floats).
    fn floats<F: FloatFormat>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`dot::dot`](crate::matrix::dot::dot).
    fn dot<F: Coded>(s: Self::Token, weights: &[u8], activations: &[u8]) -> f32;
    /// As [`float::dot`](crate::matrix::float::dot).
    fn dot_floats<F: FloatFormat>(s: Self::Token, weights: &[u8], inputs: &[u8]) -> f32;
    /// As [`probe::int8`](crate::probe::int8).
    #[cfg(feature = "probe")]
    fn probe_int8(s: Self::Token, turns: usize, sink: &mut i32) -> u64;
    /// As [`probe::float`](crate::probe::float).
    #[cfg(feature = "probe")]
    fn probe_float(s: Self::Token, turns: usize, sink: &mut f32) -> u64;
    /// As [`probe::read`](crate::probe::read).
    #[cfg(feature = "probe")]
    fn probe_read(s: Self::Token, bytes: &[u8], sink: &mut i32);
}

/// The dot product of single rows: of blocks with quantized activations, of floats with floats.
pub(super) fn dot<M: MatrixKernels>(ty: GgmlType, weights: &[u8], inputs: &[u8]) -> f32 {
    let s = token();
    with_coded!(
        Format::Ggml(ty),
        F => M::dot::<F>(s, weights, inputs),
        match ty {
            GgmlType::F16 => M::dot_floats::<F16>(s, weights, inputs),
            GgmlType::BF16 => M::dot_floats::<Bf16>(s, weights, inputs),
            _ => M::dot_floats::<F32>(s, weights, inputs),
        }
    )
}

/// The table of one instruction set.
pub(super) const fn matrix_table<M: MatrixKernels>() -> MatrixTable {
    MatrixTable {
        direct_widths: M::DIRECT_WIDTHS,
        panel_widths: M::PANEL_WIDTHS,
        layout: |format| {
            with_coded!(
                format,
                F => InputLayout {
                    scaling: Some(<F as Coded>::SCALING),
                    sub: <F as Coded>::SUB,
                    pairs: subs::<<F as Coded>::Layout>() > 1,
                    bias: tile::bias::<M::Token, F>(),
                },
                InputLayout::default()
            )
        },
        fill: |inputs, x, stride, columns| M::fill(token(), inputs, x, stride, columns),
        #[cfg(feature = "probe")]
        probe_int8: |turns, sink| M::probe_int8(token(), turns, sink),
        #[cfg(feature = "probe")]
        probe_float: |turns, sink| M::probe_float(token(), turns, sink),
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
                    _ => M::floats::<F32>(s, job, rows),
                }
            )
        },
    }
}

/// The first bytes, for a load of as many.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32"))]
#[inline(always)]
pub(super) fn first<const N: usize>(bytes: &[u8]) -> *const u8 {
    bytes[..N].as_ptr()
}

/// As [`DotLanes::prefetch`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch(bytes: &[u8], ahead: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    let mut line = bytes.as_ptr().wrapping_add(ahead);
    for _ in 0..bytes.len().div_ceil(64) {
        // SAFETY: a prefetch is a hint: it reads nothing and accepts any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        line = line.wrapping_add(64);
    }
}

/// The methods of a [`DotLanes`] that are intrinsics.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32"))]
macro_rules! dot_lane_ops {
    ($($name:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty $body:block)*) => {$(
        #[cfg_attr(target_arch = "wasm32", allow(unused_unsafe, reason = "intrinsics are safe"))]
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $out {
            // SAFETY: the token proves that the CPU has the instructions; loads are from slices
            // that were checked to have as many bytes.
            unsafe { $body }
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32"))]
pub(super) use dot_lane_ops;

/// The methods of the [`MatrixKernels`] of a type: token, features if it needs any, then vectors of rows
/// and columns in a direct tile and in a panel tile.
macro_rules! matrix_kernels {
    (
        $kernels:ty: $token:ty $(, $features:literal)?;
        direct $few_rows:literal, $few:literal; panels $rows:literal, $columns:literal
    ) => {
        type Token = $token;
        type Panel = $crate::matrix::tile::Panel<$token, $rows>;
        type Totals = [<$token as quant_core::lanes::Lanes>::F32; $rows];

        $crate::isa::with_features! { $($features)?:
            fn fill(
                s: $token,
                inputs: &mut $crate::matrix::inputs::Inputs,
                x: &[f32],
                stride: usize,
                columns: &[$crate::matrix::inputs::Column],
            ) {
                inputs.fill(s, x, stride, columns);
            }

            fn direct<F: $crate::matrix::coded::Coded>(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
            ) {
                $crate::matrix::drive::direct::<$token, F, $few_rows, $few>(s, job, rows);
            }

            fn panels<F: $crate::matrix::coded::Coded>(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
            ) {
                type Tiles<L> = <$kernels as $crate::isa::matrix::MatrixKernels>::Tiles<L>;
                let tiles =
                    <$kernels as $crate::isa::matrix::MatrixKernels>::panel_tiles::<Tiles<F::Layout>>;
                $crate::matrix::drive::panels::<$token, F, $rows>(s, job, rows, tiles);
            }

            fn panel_tiles<L: $crate::matrix::coded::Layout>(
                s: $token,
                inputs: &$crate::matrix::inputs::Inputs,
                panel: &$crate::matrix::tile::Panel<$token, $rows>,
                blocks: std::ops::Range<usize>,
                totals: &mut [[<$token as quant_core::lanes::Lanes>::F32; $rows]],
            ) {
                $crate::matrix::drive::panel_tiles::<$token, L, $rows, $columns>(
                    s, inputs, panel, blocks, totals,
                );
            }

            fn floats<F: $crate::matrix::float::FloatFormat>(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
            ) {
                $crate::matrix::drive::floats::<$token, F, $rows, $columns>(s, job, rows);
            }

            fn dot<F: $crate::matrix::coded::Coded>(
                s: $token,
                weights: &[u8],
                activations: &[u8],
            ) -> f32 {
                $crate::matrix::dot::dot::<$token, F>(s, weights, activations)
            }

            fn dot_floats<F: $crate::matrix::float::FloatFormat>(
                s: $token,
                weights: &[u8],
                inputs: &[u8],
            ) -> f32 {
                $crate::matrix::float::dot::<$token, F>(s, weights, inputs)
            }

            #[cfg(feature = "probe")]
            fn probe_int8(s: $token, turns: usize, sink: &mut i32) -> u64 {
                $crate::probe::int8(s, turns, sink)
            }

            #[cfg(feature = "probe")]
            fn probe_float(s: $token, turns: usize, sink: &mut f32) -> u64 {
                $crate::probe::float(s, turns, sink)
            }

            #[cfg(feature = "probe")]
            fn probe_read(s: $token, bytes: &[u8], sink: &mut i32) {
                $crate::probe::read(s, bytes, sink);
            }
        }
    };
}
pub(super) use matrix_kernels;
