//! Weights rearranged for matrix kernels: sixteen rows side by side.
//!
//! A packed matrix holds the codes of all groups of sixteen rows, block after block, then the heads of the
//! same blocks, up to a whole cache line; experts follow each other. So every vector of codes is one line: most
//! heads are no whole number of lines, and between the codes they would spread half of the vectors over two.
//!
//! The codes of a block are, per 32 columns, planes in vectors of 64 bytes: four neighbouring codes of row 0,
//! four of row 1, … Step `t` of the eight in 32 columns is in vector `t mod bits` of its plane, `t div bits`
//! codes up. The head of a block is the half-precision fields, sixteen at a time, then the scale bytes, sixteen
//! at a time. The layout does not depend on the instruction set.

use quant_core::GgmlType;

use super::{
    MatrixError, Parallel, Serial,
    coded::{Coded, bits, read_codes, write_codes},
    format::{Format, with_coded},
    memory::{LINE, Lines, PackedMemory},
    pool::{for_each, for_each_piece},
};

/// Rows in a group.
pub(crate) const GROUP: usize = 16;

/// A weight matrix, or one per expert, packed for [`matmul`](Self::matmul).
///
/// The packed bytes are those of the file in another order, and [`unpack`](Self::unpack) restores them. The
/// size is the same but for rows that fill a group of sixteen and less than a cache line for each matrix.
#[derive(Clone)]
pub struct PackedMatrix {
    pub(crate) format: Format,
    pub(crate) experts: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(super) lines: Lines,
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedMatrix")
            .field("format", &self.format)
            .field("experts", &self.experts)
            .field("rows", &self.rows)
            .field("cols", &self.cols)
            .finish_non_exhaustive()
    }
}

impl PackedMatrix {
    /// Packs `rows` rows of `cols` weights, row-major, in the bytes of their blocks, on the calling
    /// thread.
    ///
    /// # Errors
    /// [`MatrixError::Format`] if the type cannot be multiplied, `cols` is not a whole number of
    /// blocks or `bytes` does not have the size; [`MatrixError::TooLarge`].
    pub fn pack(ty: GgmlType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, MatrixError> {
        Self::pack_with(&Serial, ty, rows, cols, bytes)
    }

    /// As [`pack`](Self::pack), on threads of the caller.
    ///
    /// # Errors
    /// As [`pack`](Self::pack); [`MatrixError::Parts`] if `pool` does not run the whole of it.
    pub fn pack_with(
        pool: &dyn Parallel,
        ty: GgmlType,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        Self::pack_experts_with(pool, ty, 1, rows, cols, bytes)
    }

    /// Packs `experts` matrices of the same shape that follow each other in `bytes`, on the calling
    /// thread.
    ///
    /// # Errors
    /// As [`pack`](Self::pack).
    pub fn pack_experts(
        ty: GgmlType,
        experts: usize,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        Self::pack_experts_with(&Serial, ty, experts, rows, cols, bytes)
    }

    /// As [`pack_experts`](Self::pack_experts), on threads of the caller.
    ///
    /// # Errors
    /// As [`pack_with`](Self::pack_with).
    pub fn pack_experts_with(
        pool: &dyn Parallel,
        ty: GgmlType,
        experts: usize,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        let memory = &mut PackedMemory::default();
        Self::pack_experts_in(memory, pool, ty, experts, rows, cols, bytes)
    }

    /// As [`pack_experts_with`](Self::pack_experts_with), in memory that is reserved for several matrices.
    ///
    /// # Errors
    /// As [`pack_with`](Self::pack_with).
    pub fn pack_experts_in(
        memory: &mut PackedMemory,
        pool: &dyn Parallel,
        ty: GgmlType,
        experts: usize,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        if super::activation_type(ty).is_none() {
            return Err(quant_core::Error::Unsupported { ty, operation: "multiplied" }.into());
        }
        ty.row_bytes(cols as u64)?;
        let elements = experts
            .checked_mul(rows)
            .and_then(|n| n.checked_mul(cols))
            .ok_or(MatrixError::TooLarge)?;
        ty.check_bytes(elements, bytes.len())?;
        Self::from_blocks(memory, pool, Format::Ggml(ty), experts, rows, cols, bytes)
    }

    /// The bytes have the size of the shape.
    pub(super) fn from_blocks(
        memory: &mut PackedMemory,
        pool: &dyn Parallel,
        format: Format,
        experts: usize,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, MatrixError> {
        let lines = Vec::new().into();
        let mut packed = Self { format, experts, rows, cols, lines };
        let lines = line_count(format, experts, rows, cols).ok_or(MatrixError::TooLarge)?;
        packed.lines = memory.lines(lines);
        if packed.lines.is_empty() {
            return Ok(packed);
        }
        let lines = lines / experts;
        let (row_bytes, (codes_len, heads_len)) = (packed.row_bytes(), packed.group_bytes());
        // The rows of a group, and where their codes and their heads go.
        let groups = bytes.chunks_exact(rows * row_bytes).zip(packed.lines.chunks_exact_mut(lines));
        let groups = groups.flat_map(|(rows, lines)| {
            let rows = rows.chunks(GROUP * row_bytes);
            let (codes, mut heads) =
                bytemuck::cast_slice_mut(lines).split_at_mut(rows.len() * codes_len);
            rows.zip(codes.chunks_exact_mut(codes_len)).map(move |(rows, codes)| {
                (rows, codes, heads.split_off_mut(..heads_len).unwrap_or_default())
            })
        });
        for_each(pool, groups, &|(rows, codes, heads)| {
            with_coded!(format, F => pack_group::<F>(rows, row_bytes, codes, heads), {
                let (_, bytes) = format.block();
                transpose(rows, row_bytes, bytes, codes);
            });
        })?;
        Ok(packed)
    }

    /// The bytes that were packed. For [grouped integers](Self::unpack_grouped) group after group:
    /// scale, zero point if there are any, codes.
    pub fn unpack(&self) -> Vec<u8> {
        // The calling thread leaves no part out.
        self.unpack_with(&Serial).unwrap_or_default()
    }

    /// As [`unpack`](Self::unpack), on threads of the caller.
    ///
    /// # Errors
    /// [`MatrixError::Parts`] if `pool` does not run the whole of it.
    pub fn unpack_with(&self, pool: &dyn Parallel) -> Result<Vec<u8>, MatrixError> {
        let row_bytes = self.row_bytes();
        let mut out = vec![0; self.experts * self.rows * row_bytes];
        if out.is_empty() {
            return Ok(out);
        }
        // The last group of each expert may have fewer rows.
        let mut pieces: Vec<&mut [u8]> = out
            .chunks_exact_mut(self.rows * row_bytes)
            .flat_map(|expert| expert.chunks_mut(GROUP * row_bytes))
            .collect();
        for_each_piece(pool, &mut pieces, 1, &|g, rows| {
            let per_expert = self.rows.div_ceil(GROUP);
            for rows in rows {
                self.unpack_rows(g / per_expert, g % per_expert * GROUP, rows);
            }
        })?;
        Ok(out)
    }

    /// Rows of an expert, from `row` on, as many as `out` has room for; all of them are in one group.
    pub(super) fn unpack_rows(&self, expert: usize, row: usize, out: &mut [u8]) {
        let (row_bytes, first) = (self.row_bytes(), row % GROUP);
        let (codes, heads) = self.expert(expert).group(row / GROUP);
        with_coded!(self.format, F => unpack_group::<F>(codes, heads, row_bytes, first, out), {
            let (_, bytes) = self.format.block();
            untranspose(codes, row_bytes, bytes, first, out);
        });
    }

    /// The type of the weights; `None` for grouped integers.
    pub fn ggml_type(&self) -> Option<GgmlType> {
        match self.format {
            Format::Ggml(ty) => Some(ty),
            Format::Int4(_) => None,
        }
    }

    /// Matrices that follow each other: 1 unless there are experts.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Rows of each matrix: the length of an output.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the length of an input.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of the packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.lines.len() * LINE
    }

    pub(super) fn row_bytes(&self) -> usize {
        let (len, bytes) = self.format.block();
        self.cols / len * bytes
    }

    /// Bytes of the codes and of the heads of a group.
    fn group_bytes(&self) -> (usize, usize) {
        let (len, _) = self.format.block();
        let head = with_coded!(self.format, F => head_bytes::<F>(), 0);
        let heads = self.cols / len * head;
        (GROUP * self.row_bytes() - heads, heads)
    }

    /// The groups of one expert.
    pub(crate) fn expert(&self, expert: usize) -> Groups<'_> {
        let len = self.lines.len() / self.experts;
        let (codes_len, heads_len) = self.group_bytes();
        let bytes: &[u8] = bytemuck::cast_slice(&self.lines[expert * len..][..len]);
        let (codes, heads) = bytes.split_at(self.rows.div_ceil(GROUP) * codes_len);
        Groups { codes, codes_len, heads, heads_len }
    }
}

/// Cache lines of a packed matrix; none if they are too many.
pub(super) fn line_count(
    format: Format,
    experts: usize,
    rows: usize,
    cols: usize,
) -> Option<usize> {
    let (len, bytes) = format.block();
    let group = (cols / len).checked_mul(bytes)?.checked_mul(GROUP)?;
    rows.div_ceil(GROUP).checked_mul(group)?.div_ceil(LINE).checked_mul(experts)
}

/// The groups of rows of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'a> {
    /// The codes of all groups; all bytes of formats that are not [`Coded`].
    codes: &'a [u8],
    /// Bytes of the codes of a group.
    codes_len: usize,
    /// The heads of all groups.
    heads: &'a [u8],
    /// Bytes of the heads of a group.
    heads_len: usize,
}

impl<'a> Groups<'a> {
    /// The codes of a group and the heads of its blocks.
    #[inline(always)]
    pub(crate) fn group(self, group: usize) -> (&'a [u8], &'a [u8]) {
        let Self { codes, codes_len, heads, heads_len } = self;
        (&codes[group * codes_len..][..codes_len], &heads[group * heads_len..][..heads_len])
    }
}

/// Bytes of the head of a packed block.
pub(crate) const fn head_bytes<F: Coded>() -> usize {
    GROUP * (2 * F::HALVES.len() + F::SCALES.1)
}

/// Bytes of the codes of a packed block.
pub(crate) const fn planes_bytes<F: Coded>() -> usize {
    GROUP * F::BYTES - head_bytes::<F>()
}

/// Every byte of a word.
const fn spread(mask: u32) -> u32 {
    mask * 0x0101_0101
}

/// Packs up to sixteen rows; missing rows stay zero.
fn pack_group<F: Coded>(rows: &[u8], row_bytes: usize, planes: &mut [u8], heads: &mut [u8]) {
    let mut codes = [0u8; 256];
    let codes = &mut codes[..F::LEN];
    for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
        let heads = heads.chunks_exact_mut(head_bytes::<F>());
        let out = planes.chunks_exact_mut(planes_bytes::<F>()).zip(heads);
        for (block, (planes, head)) in row.chunks_exact(F::BYTES).zip(out) {
            let (halves, scales) = head.split_at_mut(2 * GROUP * F::HALVES.len());
            for (out, &at) in halves.chunks_exact_mut(2 * GROUP).zip(F::HALVES) {
                out[2 * r..][..2].copy_from_slice(&block[at..][..2]);
            }
            let bytes = &block[F::SCALES.0..][..F::SCALES.1];
            for (out, byte) in scales.chunks_exact_mut(GROUP).zip(bytes) {
                out[r] = *byte;
            }
            read_codes::<F>(block, codes);
            let chunks = planes.chunks_exact_mut(64 * bits::<F>());
            for (codes, planes) in codes.chunks_exact(32).zip(chunks) {
                let (low, high) = planes.split_at_mut(64 * F::LOW.bits);
                for (t, word) in codes.as_chunks().0.iter().enumerate() {
                    let word = u32::from_le_bytes(*word);
                    let low_bits = word & spread(0xff >> (8 - F::LOW.bits));
                    merge(low, r, t, F::LOW.bits, low_bits);
                    if F::HIGH.bits > 0 {
                        let mask = spread((1 << F::HIGH.bits) - 1);
                        merge(high, r, t, F::HIGH.bits, word >> F::LOW.bits & mask);
                    }
                }
            }
        }
    }
}

/// Ors four codes of step `t` into the plane.
#[inline(always)]
fn merge(plane: &mut [u8], row: usize, t: usize, bits: usize, codes: u32) {
    let out = &mut plane[t % bits * 64 + row * 4..][..4];
    for (out, byte) in out.iter_mut().zip((codes << (t / bits * bits)).to_le_bytes()) {
        *out |= byte;
    }
}

/// The inverse of [`pack_group`], from row `first` on.
fn unpack_group<F: Coded>(
    planes: &[u8],
    heads: &[u8],
    row_bytes: usize,
    first: usize,
    rows: &mut [u8],
) {
    let mut codes = [0u8; 256];
    let codes = &mut codes[..F::LEN];
    for (r, row) in (first..).zip(rows.chunks_exact_mut(row_bytes)) {
        let heads = heads.chunks_exact(head_bytes::<F>());
        let packed = planes.chunks_exact(planes_bytes::<F>()).zip(heads);
        for (block, (planes, head)) in row.chunks_exact_mut(F::BYTES).zip(packed) {
            let (halves, scales) = head.split_at(2 * GROUP * F::HALVES.len());
            for (half, &at) in halves.chunks_exact(2 * GROUP).zip(F::HALVES) {
                block[at..][..2].copy_from_slice(&half[2 * r..][..2]);
            }
            let bytes = &mut block[F::SCALES.0..][..F::SCALES.1];
            for (scale, byte) in scales.chunks_exact(GROUP).zip(bytes) {
                *byte = scale[r];
            }
            let chunks = planes.chunks_exact(64 * bits::<F>());
            for (codes, planes) in codes.chunks_exact_mut(32).zip(chunks) {
                let (low, high) = planes.split_at(64 * F::LOW.bits);
                for (t, word) in codes.as_chunks_mut().0.iter_mut().enumerate() {
                    let mut code = pick(low, r, t, F::LOW.bits);
                    if F::HIGH.bits > 0 {
                        code |= pick(high, r, t, F::HIGH.bits) << F::LOW.bits;
                    }
                    *word = code.to_le_bytes();
                }
            }
            write_codes::<F>(codes, block);
        }
    }
}

/// Four codes of step `t`.
#[inline(always)]
fn pick(plane: &[u8], row: usize, t: usize, bits: usize) -> u32 {
    let word = plane[t % bits * 64 + row * 4..].first_chunk().map_or(0, |&b| u32::from_le_bytes(b));
    word >> (t / bits * bits) & spread(0xff >> (8 - bits))
}

/// Sixteen elements of `size` bytes side by side: numbers of the float types, whole blocks of what is
/// looked up in a codebook.
fn transpose(rows: &[u8], row_bytes: usize, size: usize, out: &mut [u8]) {
    for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (element, out) in row.chunks_exact(size).zip(out.chunks_exact_mut(GROUP * size)) {
            out[r * size..][..size].copy_from_slice(element);
        }
    }
}

/// The inverse of [`transpose`], from row `first` on.
fn untranspose(group: &[u8], row_bytes: usize, size: usize, first: usize, rows: &mut [u8]) {
    for (r, row) in (first..).zip(rows.chunks_exact_mut(row_bytes)) {
        for (element, group) in row.chunks_exact_mut(size).zip(group.chunks_exact(GROUP * size)) {
            element.copy_from_slice(&group[r * size..][..size]);
        }
    }
}
