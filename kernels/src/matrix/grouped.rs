//! Packing grouped four-bit integers for products, and getting them back.

use quant_core::{Error, grouped::ScaleType};

use super::{
    MatrixError, PackedMatrix, Parallel, Serial,
    format::Format,
    int4::{GroupLen, Int4Layout},
    memory::PackedMemory,
    pool::for_each_piece,
};

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

/// Groups that a thread takes at a time.
const STEP: usize = 4096;

impl PackedMatrix {
    /// Packs `experts` matrices of `rows` rows of `cols` grouped four-bit integers, on the calling
    /// thread.
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
        Self::pack_grouped_with(&Serial, experts, rows, cols, weights)
    }

    /// As [`pack_grouped`](Self::pack_grouped), on threads of the caller.
    ///
    /// # Errors
    /// As [`pack_grouped`](Self::pack_grouped); [`MatrixError::Parts`] if `pool` does not run the whole
    /// of it.
    pub fn pack_grouped_with(
        pool: &dyn Parallel,
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
        let bfloat16 = match scale_type {
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
        let layout = Int4Layout { group, zero_points: zero_points.is_some(), bfloat16 };
        let (head, (_, bytes)) = (layout.head(), layout.block());
        let mut blocks = vec![0; groups * bytes];
        for_each_piece(pool, &mut blocks, STEP * bytes, &|piece, blocks| {
            for (i, block) in blocks.chunks_exact_mut(bytes).enumerate() {
                let g = piece * STEP + i;
                block[..2].copy_from_slice(&scales[2 * g..][..2]);
                if let Some(zero_points) = zero_points {
                    block[2] = zero_points[g];
                }
                let half = group_len / 2;
                block[head..].copy_from_slice(&codes[g * half..][..half]);
            }
        })?;
        let memory = &mut PackedMemory::default();
        Self::from_blocks(memory, pool, Format::Int4(layout), experts, rows, cols, &blocks)
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
