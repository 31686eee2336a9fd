//! Matrix products: what each instruction set instantiates, and their table.

use std::ops::Range;

use quant_core::{
    GgmlType,
    formats::{Integers, QK_K},
    with_integers,
};

use super::token::{Token, token};
use crate::{
    activation::Scaling,
    matrix::{
        arithmetic,
        coded::{Blocks, Coded, Layout},
        dot_lanes::DotLanes,
        drive::{Fill, FillFloats, Product},
        float::{Bf16, F16, F32, FloatFormat},
        format::{FEW, Format, with_coded},
        inputs::{Column, InputLayout, InputsPart},
        integers::{self, Unpack},
        sources::Panel,
    },
};

/// The matrix products of one instruction set.
#[derive(Debug)]
pub(crate) struct MatrixTable {
    /// Widths of tiles straight from packed weights, widest first.
    pub(crate) few_widths: &'static [usize],
    /// Widths of other tiles where there are several columns, widest first.
    pub(crate) widths: &'static [usize],
    /// The same where weights are floats and there are more than few columns.
    pub(crate) float_widths: &'static [usize],
    /// The inputs that meet a format; the flag says whether by panels.
    pub(crate) layout: fn(Format, bool) -> InputLayout,
    pub(crate) fill: fn(&mut InputsPart<'_>, &[f32], usize, &[Column]),
    /// Computes a range of rows; the flag says whether by panels.
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
    /// The instance that is run where the instructions that this one has besides are not used: for floats,
    /// inputs and codebooks without panels. Nearly always this one; every instance is time to compile.
    type Shared: MatrixKernels;
    /// What computes with panels: a [`PanelTiles`](crate::matrix::drive::PanelTiles).
    type PanelTiles;
    /// What computes straight from packed weights: [`FewTiles`](crate::matrix::drive::FewTiles).
    type FewTiles;
    /// A column of a panel of floats: some vectors of rows.
    type Floats;
    /// The layout whose [`panel_tiles`](Self::panel_tiles) serve `L`: where sums have 32 bits on their
    /// way, codes of any width are multiplied alike.
    type Tiles<L: Layout>: Layout;
    /// See [`MatrixTable::few_widths`]: the columns of a tile, then 2 and 1.
    const FEW_WIDTHS: &'static [usize];
    /// See [`MatrixTable::widths`]: the columns of a tile, then 4 if that is fewer, and 2.
    const WIDTHS: &'static [usize];
    /// See [`MatrixTable::float_widths`]: as [`WIDTHS`](Self::WIDTHS), of tiles of floats.
    const FLOAT_WIDTHS: &'static [usize] = Self::WIDTHS;

    /// As [`InputsPart::fill`].
    fn fill(
        s: Self::Token,
        inputs: &mut InputsPart<'_>,
        x: &[f32],
        stride: usize,
        columns: &[Column],
    );
    /// As [`drive::direct`](crate::matrix::drive::direct).
    fn direct(s: Self::Token, job: &Product<'_>, rows: Range<usize>, tiles: Self::FewTiles);
    /// What calls [`drive::direct_tile`](crate::matrix::drive::direct_tile).
    fn few_tiles<F: Coded>() -> Self::FewTiles;
    /// As [`drive::fill_codes`](crate::matrix::drive::fill_codes).
    fn fill_codes<F: Coded>(
        s: Self::Token,
        panel: &mut Panel<Self::Token>,
        job: &Product<'_>,
        row: usize,
        blocks: Range<usize>,
    );
    /// As [`integers::single`](crate::matrix::integers::single).
    fn single_integers<F: Integers>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`integers::few`](crate::matrix::integers::few).
    fn few_integers(s: Self::Token, job: &Product<'_>, rows: Range<usize>, unpack: Unpack);
    /// As [`integers::fill`](crate::matrix::integers::fill).
    fn fill_integers<L: Layout>(
        s: Self::Token,
        panel: &mut Panel<Self::Token>,
        job: &Product<'_>,
        row: usize,
        blocks: Range<usize>,
        unpack: Unpack,
    );
    /// As [`drive::panels`](crate::matrix::drive::panels).
    fn panels(
        s: Self::Token,
        job: &Product<'_>,
        rows: Range<usize>,
        len: usize,
        fill: &mut Fill<'_, Self::Token>,
        tiles: Self::PanelTiles,
    );
    /// What calls [`drive::panel_tiles`](crate::matrix::drive::panel_tiles).
    fn panel_tiles<L: Layout>() -> Self::PanelTiles;
    /// As [`drive::packed_floats`](crate::matrix::drive::packed_floats).
    fn packed_floats<F: FloatFormat>(s: Self::Token, job: &Product<'_>, rows: Range<usize>);
    /// As [`drive::float_panels`](crate::matrix::drive::float_panels).
    fn float_panels(
        s: Self::Token,
        job: &Product<'_>,
        rows: Range<usize>,
        fill: &mut FillFloats<'_, Self::Floats>,
    );
    /// As [`drive::fill_floats`](crate::matrix::drive::fill_floats).
    fn fill_floats<F: FloatFormat>(
        s: Self::Token,
        panel: &mut [Self::Floats],
        job: &Product<'_>,
        row: usize,
        cols: Range<usize>,
    );
    /// As [`dot::dot`](crate::matrix::dot::dot).
    fn dot<F: Coded>(s: Self::Token, weights: &[u8], activations: &[u8]) -> f32;
    /// As [`integers::dot`](crate::matrix::integers::dot).
    fn dot_integers(s: Self::Token, unpack: Unpack, weights: &[u8], activations: &[u8]) -> f32;
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
    with_coded!(
        Format::Ggml(ty),
        F => M::dot::<F>(token(), weights, inputs),
        match ty {
            GgmlType::F16 => M::Shared::dot_floats::<F16>(token(), weights, inputs),
            GgmlType::BF16 => M::Shared::dot_floats::<Bf16>(token(), weights, inputs),
            _ => with_integers!(
                ty,
                F => M::Shared::dot_integers(token(), Unpack::of::<F>(), weights, inputs),
                M::Shared::dot_floats::<F32>(token(), weights, inputs)
            ),
        }
    )
}

/// Evaluates `$body` with `$layout` naming the layout of [`Integers`]: by the length of their sub-blocks, and
/// by how much eight neighbours add up to.
macro_rules! with_layout {
    ($kernels:ident, $format:ident, $layout:ident => $body:expr) => {
        match (<$format as Integers>::SUB, <$format as Integers>::EIGHT) {
            (16, ..=256) => {
                type $layout = Blocks<QK_K, 16, 6, false>;
                $body
            }
            // The factors of half the sub-blocks, where sums of 16 bits end there in any case.
            (32, 129..=256) if !<<$kernels as MatrixKernels>::Token as DotLanes>::WIDE => {
                type $layout = Blocks<QK_K, 16, 6, false>;
                $body
            }
            (16, _) => {
                type $layout = Blocks<QK_K, 16, 7, false>;
                $body
            }
            (_, ..=128) => {
                type $layout = Blocks<QK_K, 32, 5, false>;
                $body
            }
            _ => {
                type $layout = Blocks<QK_K, 32, 7, false>;
                $body
            }
        }
    };
}

/// The inputs that meet codes of a layout.
fn inputs<M: MatrixKernels, L: Layout>(scaling: Scaling, bias: i32, panels: bool) -> InputLayout {
    let bias = arithmetic::bias::<M::Token, L>(bias);
    let widened = panels && arithmetic::widens::<M::Token, L>();
    let centred = panels && arithmetic::centres::<M::Token, L>();
    let run = centred.then(|| arithmetic::run::<M::Token, L>(true));
    InputLayout { scaling: Some(scaling), sub: L::SUB, pairs: !L::SINGLE, bias, widened, run }
}

/// As [`MatrixTable::layout`].
fn input_layout<M: MatrixKernels>(format: Format, panels: bool) -> InputLayout {
    with_coded!(
        format,
        F => inputs::<M, <F as Coded>::Layout>(<F as Coded>::SCALING, <F as Coded>::BIAS, panels),
        match format {
            Format::Ggml(ty) => with_integers!(
                ty,
                F => with_layout!(M, F, L => {
                    inputs::<M, L>(Scaling::Per256, integers::BIAS, panels)
                }),
                InputLayout::default()
            ),
            Format::Int4(_) => InputLayout::default(),
        }
    )
}

/// As [`MatrixTable::multiply`].
fn multiply<M: MatrixKernels>(
    format: Format,
    by_panels: bool,
    job: &Product<'_>,
    rows: Range<usize>,
) {
    let s = token();
    with_coded!(
        format,
        F => if by_panels {
            let mut fill = |panel: &mut Panel<M::Token>, row: usize, blocks: Range<usize>| {
                M::fill_codes::<F>(s, panel, job, row, blocks);
            };
            let tiles = M::panel_tiles::<M::Tiles<<F as Coded>::Layout>>();
            M::panels(s, job, rows, <F as Coded>::LEN, &mut fill, tiles)
        } else {
            M::direct(s, job, rows, M::few_tiles::<F>())
        },
        match format {
            Format::Ggml(GgmlType::F16) => floats::<M::Shared, F16>(job, rows),
            Format::Ggml(GgmlType::BF16) => floats::<M::Shared, Bf16>(job, rows),
            Format::Ggml(ty) => with_integers!(
                ty,
                F => {
                    let unpack = Unpack::of::<F>();
                    if !by_panels
                        && <M::Token as DotLanes>::EIGHTS
                        && <F as Integers>::LOOKED_UP
                        && job.columns.len() == 1
                    {
                        M::Shared::single_integers::<F>(token(), job, rows)
                    } else if !by_panels {
                        M::Shared::few_integers(token(), job, rows, unpack)
                    } else {
                        with_layout!(M, F, L => integers::<M, L>(unpack, job, rows))
                    }
                },
                floats::<M::Shared, F32>(job, rows)
            ),
            Format::Int4(_) => {}
        }
    )
}

/// The product of a float type.
fn floats<M: MatrixKernels, F: FloatFormat>(job: &Product<'_>, rows: Range<usize>) {
    let s = token();
    if job.columns.len() <= FEW {
        return M::packed_floats::<F>(s, job, rows);
    }
    M::float_panels(s, job, rows, &mut |panel, row, cols| {
        M::fill_floats::<F>(s, panel, job, row, cols);
    });
}

/// The product of a format of [`Integers`] with many columns.
fn integers<M: MatrixKernels, L: Layout>(unpack: Unpack, job: &Product<'_>, rows: Range<usize>) {
    let s = token();
    let mut fill = |panel: &mut Panel<M::Token>, row: usize, blocks: Range<usize>| {
        M::fill_integers::<L>(s, panel, job, row, blocks, unpack);
    };
    M::panels(s, job, rows, L::LEN, &mut fill, M::panel_tiles::<M::Tiles<L>>())
}

/// The table of one instruction set.
pub(super) const fn matrix_table<M: MatrixKernels>() -> MatrixTable {
    MatrixTable {
        few_widths: M::FEW_WIDTHS,
        widths: M::WIDTHS,
        float_widths: M::FLOAT_WIDTHS,
        layout: input_layout::<M>,
        fill: |inputs, x, stride, columns| M::Shared::fill(token(), inputs, x, stride, columns),
        #[cfg(feature = "probe")]
        probe_int8: |turns, sink| M::probe_int8(token(), turns, sink),
        #[cfg(feature = "probe")]
        probe_float: |turns, sink| M::probe_float(token(), turns, sink),
        #[cfg(feature = "probe")]
        probe_read: |bytes, sink| M::probe_read(token(), bytes, sink),
        multiply: multiply::<M>,
    }
}
