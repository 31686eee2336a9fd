//! What instruction sets write their matrix products with.

/// The first bytes, for a load of as many.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
#[inline(always)]
pub(super) fn first<const N: usize>(bytes: &[u8]) -> *const u8 {
    bytes[..N].as_ptr()
}

/// As [`DotLanes::prefetch`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch<T>(data: &[T], ahead: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    let mut line = data.as_ptr().cast::<u8>().wrapping_add(ahead);
    for _ in 0..size_of_val(data).div_ceil(64) {
        // SAFETY: a prefetch is a hint: it reads nothing and accepts any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        line = line.wrapping_add(64);
    }
}

/// The methods of a [`DotLanes`] that are intrinsics.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
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
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "simd128")
))]
pub(super) use dot_lane_ops;

/// The methods of the [`MatrixKernels`] of a type: token, features if it needs any, then vectors of rows
/// and columns in a tile straight from packed weights, vectors in a panel, vectors in a tile with codes
/// below seven bits and columns in any tile but those of panels of floats, which have vectors and columns of
/// their own.
macro_rules! matrix_kernels {
    (
        $kernels:ty: $token:ty $(, $features:literal)?;
        few $few_rows:literal, $few:literal; panels $rows:literal; tiles $tile_rows:literal, $columns:literal;
        floats $float_rows:literal, $float_columns:literal
    ) => {
        type Token = $token;
        type Floats = [<$token as quant_core::lanes::Lanes>::F32; $float_rows];
        type PanelTiles = $crate::matrix::drive::PanelTiles<$token, $rows>;
        type FewTiles = $crate::matrix::drive::FewTiles<$token, $few_rows>;

        fn few_tiles<F: $crate::matrix::coded::Coded>() -> Self::FewTiles {
            $crate::isa::token::with_features! { $($features)?:
                fn tile<F: $crate::matrix::coded::Coded, const COLUMNS: usize>(
                    s: $token,
                    job: &$crate::matrix::drive::Product<'_>,
                    row: usize,
                    tile: &$crate::matrix::inputs::Tile,
                    totals: &mut [[<$token as quant_core::lanes::Lanes>::F32; $few_rows]],
                ) {
                    $crate::matrix::drive::direct_tile::<$token, F, $few_rows, COLUMNS>(
                        s, job, row, tile, totals,
                    );
                }
            }
            $crate::matrix::drive::few_tiles!(F, tile, $few)
        }

        fn panel_tiles<L: $crate::matrix::coded::Layout>() -> Self::PanelTiles {
            $crate::isa::token::with_features! { $($features)?:
                fn tiles<L: $crate::matrix::coded::Layout>(
                    s: $token,
                    inputs: &$crate::matrix::inputs::Inputs,
                    tiles: &[$crate::matrix::inputs::Tile],
                    panels: &[$crate::matrix::sources::Panel<$token>; $rows],
                    blocks: std::ops::Range<usize>,
                    totals: &mut [[<$token as quant_core::lanes::Lanes>::F32; $rows]],
                ) {
                    if L::LONG {
                        $crate::matrix::drive::panel_tiles::<$token, L, $rows, $rows, $columns>(
                            s, inputs, tiles, panels, blocks, totals,
                        );
                    } else {
                        $crate::matrix::drive::panel_tiles::<$token, L, $rows, $tile_rows, $columns>(
                            s, inputs, tiles, panels, blocks, totals,
                        );
                    }
                }
            }
            tiles::<L>
        }

        $crate::isa::token::with_features! { $($features)?:
            fn fill(
                s: $token,
                inputs: &mut $crate::matrix::inputs::InputsPart<'_>,
                x: &[f32],
                stride: usize,
                columns: &[$crate::matrix::inputs::Column],
            ) {
                inputs.fill(s, x, stride, columns);
            }

            fn direct(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
                tiles: $crate::matrix::drive::FewTiles<$token, $few_rows>,
            ) {
                $crate::matrix::drive::direct(s, job, rows, tiles);
            }

            fn fill_codes<F: $crate::matrix::coded::Coded>(
                s: $token,
                panel: &mut $crate::matrix::sources::Panel<$token>,
                job: &$crate::matrix::drive::Product<'_>,
                row: usize,
                blocks: std::ops::Range<usize>,
            ) {
                $crate::matrix::drive::fill_codes::<$token, F>(s, panel, job, row, blocks);
            }

            fn fill_integers<L: $crate::matrix::coded::Layout>(
                s: $token,
                panel: &mut $crate::matrix::sources::Panel<$token>,
                job: &$crate::matrix::drive::Product<'_>,
                row: usize,
                blocks: std::ops::Range<usize>,
                unpack: $crate::matrix::integers::Unpack,
            ) {
                $crate::matrix::integers::fill::<$token, L>(s, panel, job, row, blocks, unpack);
            }

            fn single_integers<F: quant_core::formats::Integers>(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
            ) {
                $crate::matrix::integers::single::<$token, F>(s, job, rows);
            }

            fn few_integers(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
                unpack: $crate::matrix::integers::Unpack,
            ) {
                $crate::matrix::integers::few::<$token>(s, job, rows, unpack);
            }

            fn panels(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
                len: usize,
                fill: &mut $crate::matrix::drive::Fill<'_, $token>,
                tiles: $crate::matrix::drive::PanelTiles<$token, $rows>,
            ) {
                $crate::matrix::drive::panels::<$token, $rows>(s, job, rows, len, fill, tiles);
            }

            fn packed_floats<F: $crate::matrix::float::FloatFormat>(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
            ) {
                $crate::matrix::drive::packed_floats::<$token, F, $float_rows, $columns>(
                    s, job, rows,
                );
            }

            fn float_panels(
                s: $token,
                job: &$crate::matrix::drive::Product<'_>,
                rows: std::ops::Range<usize>,
                fill: &mut $crate::matrix::drive::FillFloats<
                    '_,
                    [<$token as quant_core::lanes::Lanes>::F32; $float_rows],
                >,
            ) {
                $crate::matrix::drive::float_panels::<$token, $float_rows, $float_columns>(
                    s, job, rows, fill,
                );
            }

            fn fill_floats<F: $crate::matrix::float::FloatFormat>(
                s: $token,
                panel: &mut [[<$token as quant_core::lanes::Lanes>::F32; $float_rows]],
                job: &$crate::matrix::drive::Product<'_>,
                row: usize,
                cols: std::ops::Range<usize>,
            ) {
                $crate::matrix::drive::fill_floats::<$token, F, $float_rows>(
                    s, panel, job, row, cols,
                );
            }

            fn dot<F: $crate::matrix::coded::Coded>(
                s: $token,
                weights: &[u8],
                activations: &[u8],
            ) -> f32 {
                $crate::matrix::dot::dot::<$token, F>(s, weights, activations)
            }

            fn dot_integers(
                s: $token,
                unpack: $crate::matrix::integers::Unpack,
                weights: &[u8],
                activations: &[u8],
            ) -> f32 {
                $crate::matrix::integers::dot::<$token>(s, unpack, weights, activations)
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
