//! Grouped four-bit integers as matrix products see them.
//!
//! A group becomes a block: its scale, its zero point if it has one, its codes two to a byte.

use quant_core::{Error, grouped::ScaleType, lanes::Lanes};
use rayon::prelude::*;

use super::{
    MatrixError, PackedMatrix,
    coded::{Coded, Head, Plane},
    packed::Format,
};
use crate::activation::Scaling;

/// The layout of grouped four-bit integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int4Layout {
    pub(crate) group: GroupLen,
    /// Whether each group has a zero point; otherwise it is 8.
    pub(crate) zero_points: bool,
    /// Whether the scales are bfloat16 rather than half precision.
    pub(crate) brain: bool,
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
    fn head(self) -> usize {
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
            ($crate::matrix::grouped::GroupLen::Of32, false) => {
                type $name = $crate::matrix::grouped::Int4<32, false>;
                $body
            }
            ($crate::matrix::grouped::GroupLen::Of64, false) => {
                type $name = $crate::matrix::grouped::Int4<64, false>;
                $body
            }
            ($crate::matrix::grouped::GroupLen::Of128, false) => {
                type $name = $crate::matrix::grouped::Int4<128, false>;
                $body
            }
            ($crate::matrix::grouped::GroupLen::Of32, true) => {
                type $name = $crate::matrix::grouped::Int4<32, true>;
                $body
            }
            ($crate::matrix::grouped::GroupLen::Of64, true) => {
                type $name = $crate::matrix::grouped::Int4<64, true>;
                $body
            }
            ($crate::matrix::grouped::GroupLen::Of128, true) => {
                type $name = $crate::matrix::grouped::Int4<128, true>;
                $body
            }
        }
    };
}
pub(crate) use with_int4;

/// Groups of `GROUP` codes, with or without zero points.
pub(crate) struct Int4<const GROUP: usize, const ZERO_POINTS: bool>;

impl<const GROUP: usize, const ZERO_POINTS: bool> Coded for Int4<GROUP, ZERO_POINTS> {
    const LEN: usize = GROUP;
    const BYTES: usize = 2 + ZERO_POINTS as usize + GROUP / 2;
    const SUB: usize = GROUP;
    const LOW: Plane = Plane { start: 2 + ZERO_POINTS as usize, bits: 4, run: 0 };
    const BIAS: i32 = if ZERO_POINTS { 0 } else { 8 };
    const OFFSET: bool = ZERO_POINTS;
    const SCALING: Scaling = match GROUP {
        32 => Scaling::Per32,
        64 => Scaling::Per64,
        _ => Scaling::Per128,
    };
    const HALVES: &'static [usize] = &[0];
    const MAY_BE_BRAIN: bool = true;
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

/// Weights as grouped four-bit integers: `(code − zero point) · scale`.
///
/// A row is a whole number of groups; rows, and then experts, follow each other everywhere.
#[derive(Clone, Copy, Debug)]
pub struct GroupedInt4<'a> {
    /// Weights in a group: 32, 64 or 128.
    pub group_len: usize,
    /// Codes 0..=15, two to a byte, the first in the low bits: the words of compressed-tensors,
    /// the `u4` of OpenVINO.
    pub codes: &'a [u8],
    /// A little-endian scale per group.
    pub scales: &'a [u8],
    /// The type of the scales: [`ScaleType::F16`] or [`ScaleType::Bf16`].
    pub scale_type: ScaleType,
    /// A byte per group; without them the zero point is 8.
    pub zero_points: Option<&'a [u8]>,
}

/// What [`PackedMatrix::pack_grouped`] was given, restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackedInt4 {
    /// As [`GroupedInt4::codes`].
    pub codes: Vec<u8>,
    /// As [`GroupedInt4::scales`].
    pub scales: Vec<u8>,
    /// As [`GroupedInt4::zero_points`].
    pub zero_points: Option<Vec<u8>>,
}

impl PackedMatrix {
    /// Packs `experts` matrices of `rows` rows of `cols` grouped four-bit integers.
    ///
    /// Activations are quantized per group then: [`matmul`](Self::matmul) says how.
    ///
    /// # Errors
    /// [`MatrixError::Groups`] for other groups or scales than [`GroupedInt4`] names,
    /// [`MatrixError::Format`] if `cols` is not a whole number of groups or a buffer does not have
    /// the size of the shape, [`MatrixError::TooLarge`].
    pub fn pack_grouped(
        experts: usize,
        rows: usize,
        cols: usize,
        weights: GroupedInt4<'_>,
    ) -> Result<Self, MatrixError> {
        let GroupedInt4 { group_len, codes, scales, scale_type, zero_points } = weights;
        let unknown = MatrixError::Groups { group_len, scale_type };
        let group = match group_len {
            32 => GroupLen::Of32,
            64 => GroupLen::Of64,
            128 => GroupLen::Of128,
            _ => return Err(unknown),
        };
        let brain = match scale_type {
            ScaleType::F16 => false,
            ScaleType::Bf16 => true,
            ScaleType::F32 => return Err(unknown),
        };
        if !cols.is_multiple_of(group_len) {
            return Err(Error::GroupLength { row: cols, group: group_len }.into());
        }
        let groups = experts
            .checked_mul(rows)
            .and_then(|n| n.checked_mul(cols / group_len))
            .filter(|n| n.checked_mul(2 * group_len).is_some())
            .ok_or(MatrixError::TooLarge)?;
        for (what, found, expected) in [
            ("the code buffer", codes.len(), groups * group_len / 2),
            ("the scale buffer", scales.len(), groups * 2),
            ("the zero point buffer", zero_points.map_or(groups, <[u8]>::len), groups),
        ] {
            if found != expected {
                return Err(Error::Length { what, found, expected }.into());
            }
        }
        let layout = Int4Layout { group, zero_points: zero_points.is_some(), brain };
        let (head, (_, bytes)) = (layout.head(), layout.block());
        let mut blocks = vec![0; groups * bytes];
        blocks.par_chunks_exact_mut(bytes).enumerate().for_each(|(g, block)| {
            block[..2].copy_from_slice(&scales[2 * g..][..2]);
            if let Some(zero_points) = zero_points {
                block[2] = zero_points[g];
            }
            let half = group_len / 2;
            block[head..].copy_from_slice(&codes[g * half..][..half]);
        });
        Self::from_blocks(Format::Int4(layout), experts, rows, cols, &blocks)
    }

    /// What [`pack_grouped`](Self::pack_grouped) was given; `None` for another type.
    pub fn unpack_grouped(&self) -> Option<UnpackedInt4> {
        let Format::Int4(layout) = self.format else { return None };
        let (head, (_, bytes)) = (layout.head(), layout.block());
        let blocks = self.unpack();
        let blocks = blocks.chunks_exact(bytes);
        let mut out = UnpackedInt4 {
            codes: Vec::with_capacity(blocks.len() * (bytes - head)),
            scales: Vec::with_capacity(blocks.len() * 2),
            zero_points: layout.zero_points.then(|| Vec::with_capacity(blocks.len())),
        };
        for block in blocks {
            out.scales.extend_from_slice(&block[..2]);
            if let Some(zero_points) = &mut out.zero_points {
                zero_points.push(block[2]);
            }
            out.codes.extend_from_slice(&block[head..]);
        }
        Some(out)
    }
}
