//! Grouped four-bit integers as a format of products: a group becomes a block of its scale, its zero
//! point if it has one, and its codes, two to a byte.

use quant_core::lanes::Lanes;

use super::coded::{Blocks, Coded, Head, Plane};
use crate::activation::Scaling;

/// The layout of grouped four-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int4Layout {
    pub(crate) group: GroupLen,
    /// Whether each group has a zero point; otherwise it is 8.
    pub(crate) zero_points: bool,
    /// Whether the scales are bfloat16 rather than half precision.
    pub(crate) bfloat16: bool,
}

/// Weights in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupLen {
    Of32 = 32,
    Of64 = 64,
    Of128 = 128,
}

impl Int4Layout {
    /// Bytes before the codes of a block.
    pub(crate) fn head(self) -> usize {
        2 + usize::from(self.zero_points)
    }

    /// Elements and bytes in a block.
    pub(crate) fn block(self) -> (usize, usize) {
        let len = self.group as usize;
        (len, self.head() + len / 2)
    }
}

/// Evaluates `$body` with `$name` naming the [`Int4`] of a layout.
macro_rules! with_int4 {
    ($layout:expr, $name:ident => $body:expr) => {
        match ($layout.group, $layout.zero_points) {
            ($crate::matrix::int4::GroupLen::Of32, false) => {
                type $name = $crate::matrix::int4::Int4<32, false>;
                $body
            }
            ($crate::matrix::int4::GroupLen::Of64, false) => {
                type $name = $crate::matrix::int4::Int4<64, false>;
                $body
            }
            ($crate::matrix::int4::GroupLen::Of128, false) => {
                type $name = $crate::matrix::int4::Int4<128, false>;
                $body
            }
            ($crate::matrix::int4::GroupLen::Of32, true) => {
                type $name = $crate::matrix::int4::Int4<32, true>;
                $body
            }
            ($crate::matrix::int4::GroupLen::Of64, true) => {
                type $name = $crate::matrix::int4::Int4<64, true>;
                $body
            }
            ($crate::matrix::int4::GroupLen::Of128, true) => {
                type $name = $crate::matrix::int4::Int4<128, true>;
                $body
            }
        }
    };
}
pub(crate) use with_int4;

/// Groups of `GROUP` codes, with or without zero points.
pub(crate) struct Int4<const GROUP: usize, const ZERO_POINTS: bool>;

impl<const GROUP: usize, const ZERO_POINTS: bool> Coded for Int4<GROUP, ZERO_POINTS> {
    type Layout = Blocks<GROUP, GROUP, 4, ZERO_POINTS>;
    const BYTES: usize = 2 + ZERO_POINTS as usize + GROUP / 2;
    const LOW: Plane = Plane { start: 2 + ZERO_POINTS as usize, bits: 4, run: 0 };
    const BIAS: i32 = if ZERO_POINTS { 0 } else { 8 };
    const SCALING: Scaling = match GROUP {
        32 => Scaling::Per32,
        64 => Scaling::Per64,
        _ => Scaling::Per128,
    };
    const HALVES: &'static [usize] = &[0];
    const MAY_BE_BFLOAT16: bool = true;
    const SCALES: (usize, usize) = (2, ZERO_POINTS as usize);

    #[inline(always)]
    fn units<S: Lanes, H: Head<S>>(s: S, head: &H) -> (S::F32, S::F32) {
        let scale = head.half(s, 0);
        if !ZERO_POINTS {
            return (scale, s.splat(0.0));
        }
        let offset = s.mul(scale, s.to_f32(head.byte(s, 0)));
        (scale, s.sub(s.splat(0.0), offset))
    }
}
