//! Reading ranges of a tensor: values in single precision, or the blocks that they are stored in.

use std::ops::Range;

use gguf_io::SourceFile;
use quant_core::GgmlType;
use quant_kernels::Kernels;

use crate::{
    CodeBlock, Cut, ElementMap, Encoding, Error, Piece, Result, Tensor, TensorData,
    code_block::BLOCK,
    codes,
    gather::{gather, size},
    packed::Window,
    stored::Scratch,
    tensor::parts,
};

/// Reads tensors of a [source](crate::Source), a range at a time: the buffers of one thread.
///
/// Ranges count values in the tensor's own order, whatever the order they are stored in; the first
/// and the end are multiples of the block length of [`Tensor::source_type`]. Memory is what the
/// largest range takes: four bytes for each value, and about as much again for what is stored.
///
/// ```
/// # use gguf_io::{GgufFile, Layout, Limits, Metadata, SourceFile, TensorSpec};
/// # use quant_core::GgmlType;
/// # use quant_kernels::Kernels;
/// # use quant_weights::{Gguf, Source};
/// # let spec = TensorSpec { name: "a".into(), ty: GgmlType::F32, shape: vec![2, 2] };
/// # let layout = Layout::new(&Metadata::new(), &[spec])?;
/// # let mut bytes = layout.header.clone();
/// # [1.0f32, 2.0, 3.0, -4.0].iter().for_each(|v| bytes.extend(v.to_le_bytes()));
/// # bytes.resize(layout.total as usize, 0);
/// # let file = GgufFile::read(SourceFile::from_bytes("m.gguf", bytes), &Limits::default())?;
/// let model = Gguf::try_from(file)?;
/// let tensor = model.tensor("a").expect("the file has it");
/// let mut reader = model.reader(Kernels::best());
/// // Its second row, and the largest magnitude in it.
/// assert_eq!(reader.values(tensor, 2..4)?, [3.0, -4.0]);
/// assert_eq!(reader.load(tensor, 2..4)?, 4.0);
/// // All of it, in chunks.
/// let mut sum = 0.0;
/// reader.scan(tensor, |_, values| sum += values.iter().sum::<f32>())?;
/// assert_eq!(sum, 2.0);
/// # Ok::<(), quant_weights::Error>(())
/// ```
#[derive(Debug)]
pub struct TensorReader<'a> {
    files: &'a [SourceFile],
    kernels: Kernels,
    values: Vec<f32>,
    buffers: Buffers,
}

/// What is read on the way to values or blocks.
#[derive(Debug, Default)]
struct Buffers {
    blocks: Vec<u8>,
    spread_bytes: Vec<u8>,
    spread_values: Vec<f32>,
    scratch: Scratch,
    window: Window,
    codes: codes::Buffers,
}

impl<'a> TensorReader<'a> {
    /// A reader of tensors whose pieces are in `files`.
    pub fn new(files: &'a [SourceFile], kernels: Kernels) -> Self {
        Self { files, kernels, values: Vec::new(), buffers: Buffers::default() }
    }

    /// The kernels that widen what is stored.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The values loaded last.
    pub fn loaded(&self) -> &[f32] {
        &self.values
    }

    /// Reads values of a tensor in single precision. Their number is that of the range.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn values(&mut self, tensor: &Tensor, range: Range<u64>) -> Result<&[f32]> {
        self.load(tensor, range)?;
        Ok(&self.values)
    }

    /// Reads values of a tensor in single precision and keeps them as [`loaded`](Self::loaded);
    /// returns their largest magnitude, which is infinite or NaN if any of them is.
    ///
    /// # Errors
    /// [`Error::Files`] if reading fails, [`Error::Core`] for a type whose values are not restored,
    /// [`Error::Range`] for values that the tensor does not have.
    pub fn load(&mut self, tensor: &Tensor, range: Range<u64>) -> Result<f32> {
        let len = checked_len(tensor, &range, unit_of(tensor))?;
        self.values.resize(len, 0.0);
        match &tensor.data {
            TensorData::Stored { pieces, map } => {
                let start = range.start;
                let magnitude = self.load_pieces(tensor, pieces, range)?;
                if *map == ElementMap::Same {
                    return Ok(magnitude);
                }
                let round: fn(f32) -> f32 = match tensor.source_type() {
                    GgmlType::F16 => |value| half::f16::from_f32(value).to_f32(),
                    _ => |value| value,
                };
                let row_len = tensor.row_len().max(1);
                for (at, value) in (start..).zip(&mut self.values) {
                    *value = map.apply(*value, at / row_len, round);
                }
                Ok(self.kernels.magnitude(&self.values))
            }
            TensorData::Computed(values) => {
                let values = usize::try_from(range.start).ok().and_then(|from| values.get(from..));
                let values = values.and_then(|values| values.get(..len));
                self.values.copy_from_slice(values.ok_or_else(|| outside(tensor, &range))?);
                Ok(self.kernels.magnitude(&self.values))
            }
        }
    }

    /// [Loads](Self::load) values all of which have to be finite.
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::NonFinite`], for which the whole tensor is read.
    pub fn load_finite(&mut self, tensor: &Tensor, range: Range<u64>) -> Result<f32> {
        let magnitude = self.load(tensor, range)?;
        if magnitude.is_finite() { Ok(magnitude) } else { Err(self.not_finite(tensor)) }
    }

    /// Reads part of a tensor as bytes of its [`source_type`](Tensor::source_type) into `out`: the
    /// very blocks of the source where it has them in this order.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn blocks(&mut self, tensor: &Tensor, range: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        let len = checked_len(tensor, &range, unit_of(tensor))? as u64;
        let ty = tensor.source_type();
        out.resize(size(ty.row_bytes(len)?)?, 0);
        match &tensor.data {
            TensorData::Stored { pieces, map: ElementMap::Same }
                if pieces.iter().all(|p| p.encoding.has_blocks() && p.encoding.ty() == ty) =>
            {
                let unit = (ty.block_len() as u64).max(1);
                let mut rest = &mut out[..];
                for (piece, part) in parts(pieces, range.clone()) {
                    let units = part.start / unit..part.end / unit;
                    let bytes = size(units.end - units.start)?.saturating_mul(ty.block_bytes());
                    let (now, later) = rest.split_at_mut(bytes.min(rest.len()));
                    read_blocks(self.files, piece, units, now, &mut self.buffers)?;
                    rest = later;
                }
                if rest.is_empty() { Ok(()) } else { Err(outside(tensor, &range)) }
            }
            _ => {
                self.load(tensor, range)?;
                Ok(self.kernels.narrow(ty, &self.values, out)?)
            }
        }
    }

    /// Reads a range both as [`blocks`](Self::blocks), into `out`, and as
    /// [finite values](Self::load_finite), with one read of the file. It has to be stored in blocks
    /// that can be restored.
    ///
    /// # Errors
    /// As both.
    pub fn blocks_and_values(
        &mut self,
        tensor: &Tensor,
        range: Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<f32> {
        self.blocks(tensor, range.clone(), out)?;
        self.values.resize(checked_len(tensor, &range, unit_of(tensor))?, 0.0);
        let magnitude = self.kernels.widen(tensor.source_type(), out, &mut self.values)?;
        if magnitude.is_finite() { Ok(magnitude) } else { Err(self.not_finite(tensor)) }
    }

    /// Reads the codes of a range of values, both ends of which are multiples of 32.
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::Core`] for a tensor whose
    /// [codes](Tensor::codes) have no blocks.
    pub fn code_blocks(
        &mut self,
        tensor: &Tensor,
        range: Range<u64>,
        out: &mut Vec<CodeBlock>,
    ) -> Result<()> {
        let unsupported = || {
            let (ty, operation) = (tensor.source_type(), "read as codes");
            quant_core::Error::Unsupported { ty, operation }
        };
        let TensorData::Stored { pieces, map: ElementMap::Same } = &tensor.data else {
            return Err(unsupported().into());
        };
        let len = checked_len(tensor, &range, BLOCK)?;
        out.clear();
        out.resize(len / BLOCK as usize, CodeBlock::default());
        let (files, buffers) = (self.files, &mut self.buffers.codes);
        let mut rest = &mut out[..];
        for (piece, part) in parts(pieces, range) {
            let view = piece.in_blocks().ok_or_else(unsupported)?;
            let units = part.start / BLOCK..part.end / BLOCK;
            let count = usize::try_from(units.end - units.start).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(count.min(rest.len()));
            piece.read_codes(files, &view, units, now, buffers)?;
            rest = later;
        }
        Ok(())
    }

    /// Goes through all values of a tensor, a chunk at a time: `each` gets the number of the first
    /// and the values, of which rows longer than a chunk are cut.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn scan(&mut self, tensor: &Tensor, mut each: impl FnMut(u64, &[f32])) -> Result<()> {
        for range in Cut::blocks(tensor).ranges(tensor.elements()) {
            self.load(tensor, range.clone())?;
            each(range.start, &self.values);
        }
        Ok(())
    }

    /// The largest magnitude of some of the loaded values, and its index among all.
    pub fn largest(&self, within: Range<usize>) -> (u64, f32) {
        let values = self.values.get(within.clone()).unwrap_or_default();
        let largest = (within.start as u64..)
            .zip(values)
            .fold((0, 0.0), |most, (i, v)| if v.abs() > most.1 { (i, v.abs()) } else { most });
        if largest.1 > 0.0 { largest } else { (within.start as u64, 0.0) }
    }

    fn load_pieces(&mut self, tensor: &Tensor, pieces: &[Piece], range: Range<u64>) -> Result<f32> {
        let Self { files, kernels, values, buffers } = self;
        let (mut magnitude, mut rest) = (0f32, &mut values[..]);
        for (piece, part) in parts(pieces, range.clone()) {
            let (now, later) = rest.split_at_mut(size(part.end - part.start)?.min(rest.len()));
            let here = if piece.encoding.has_blocks() {
                let (ty, unit) = (piece.encoding.ty(), piece.encoding.unit_len().max(1));
                if !part.start.is_multiple_of(unit) || !part.end.is_multiple_of(unit) {
                    return Err(outside(tensor, &range));
                }
                let mut blocks = std::mem::take(&mut buffers.blocks);
                blocks.resize(size(ty.row_bytes(now.len() as u64)?)?, 0);
                let units = part.start / unit..part.end / unit;
                let read = read_blocks(files, piece, units, &mut blocks, buffers);
                buffers.blocks = blocks;
                read?;
                kernels.widen(ty, &buffers.blocks, now)?
            } else {
                read_values(files, piece, part, now, buffers)?;
                kernels.magnitude(now)
            };
            // NaN stays.
            if here > magnitude || here.is_nan() {
                magnitude = here;
            }
            rest = later;
        }
        if rest.is_empty() { Ok(magnitude) } else { Err(outside(tensor, &range)) }
    }

    /// Goes through the whole tensor to say how many values are not finite and which is first.
    fn not_finite(&mut self, tensor: &Tensor) -> Error {
        let (mut first, mut count) = (None, 0u64);
        let found = self.scan(tensor, |start, values| {
            for (i, v) in values.iter().enumerate().filter(|(_, v)| !v.is_finite()) {
                first.get_or_insert((start.saturating_add(i as u64), *v));
                count = count.saturating_add(1);
            }
        });
        if let Err(error) = found {
            return error;
        }
        let (index, value) = first.unwrap_or((0, f32::NAN));
        Error::NonFinite { tensor: tensor.name.clone(), index, value, count }
    }
}

/// Values of a block at the source.
fn unit_of(tensor: &Tensor) -> u64 {
    (tensor.source_type().block_len() as u64).max(1)
}

/// The number of values in a range that begins and ends with blocks of so many.
fn checked_len(tensor: &Tensor, range: &Range<u64>, unit: u64) -> Result<usize> {
    match range.end.checked_sub(range.start) {
        Some(len) if range.start.is_multiple_of(unit) && len.is_multiple_of(unit) => size(len),
        _ => Err(outside(tensor, range)),
    }
}

fn outside(tensor: &Tensor, range: &Range<u64>) -> Error {
    Error::Range {
        tensor: tensor.name.clone(),
        elements: tensor.elements(),
        ty: tensor.source_type(),
        start: range.start,
        end: range.end,
    }
}

fn read_blocks(
    files: &[SourceFile],
    piece: &Piece,
    units: Range<u64>,
    out: &mut [u8],
    buffers: &mut Buffers,
) -> Result<()> {
    let (place, width) = ((piece.file, piece.offset), piece.encoding.ty().block_bytes());
    let Buffers { spread_bytes, scratch, .. } = buffers;
    gather(&piece.view, units, width, out, spread_bytes, &mut |first, out| {
        piece.encoding.read_blocks(files, place, first, out, scratch)
    })
}

fn read_values(
    files: &[SourceFile],
    piece: &Piece,
    range: Range<u64>,
    out: &mut [f32],
    buffers: &mut Buffers,
) -> Result<()> {
    let place = (piece.file, piece.offset);
    let Buffers { spread_values, scratch, window, .. } = buffers;
    if let Encoding::Packed(packed) = &piece.encoding {
        return window.read(packed, files, &piece.view, range, out);
    }
    gather(&piece.view, range, 1, out, spread_values, &mut |first, out| {
        piece.encoding.read_values(files, place, first, out, scratch)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::View;

    /// A tensor that takes `views` of the values 0, 1, 2, ….
    fn tensor(views: Vec<View>, encoding: &Encoding) -> Tensor {
        let piece = |view| Piece { file: 0, offset: 4, encoding: encoding.clone(), view };
        let count = views.iter().map(View::count).sum();
        let pieces = views.into_iter().map(piece).collect();
        Tensor {
            name: "t".into(),
            shape: vec![count],
            data: TensorData::Stored { pieces, map: ElementMap::Same },
        }
    }

    /// Stored indices in the order of the view, one by one.
    fn naive(view: &View) -> Vec<u64> {
        let (start, axes) = view.simplified();
        axes.iter().fold(vec![start], |starts, axis| {
            let along = |start: u64| (0..axis.len).map(move |i| start + i * axis.stride);
            starts.into_iter().flat_map(along).collect()
        })
    }

    proptest! {
        #[test]
        fn any_range_of_any_view_is_read_as_one_by_one(
            shape in prop::collection::vec(1u64..6, 3),
            steps in prop::collection::vec((0u8..4, 0usize..3, 0usize..3, 1u64..4), 0..4),
            bounds in (0u64..200, 0u64..200),
            wide in any::<bool>(),
        ) {
            let whole = View::whole(&shape).unwrap();
            let mut view = whole.clone();
            for (step, a, b, n) in steps {
                let next = match step {
                    0 => view.clone().swap(a, b),
                    1 => view.clone().narrow(a, n - 1, n),
                    2 => view.clone().every(a, n, n - 1),
                    _ => view.clone().unfold(a, &[n]),
                };
                view = next.unwrap_or(view);
            }
            // As blocks of one value, and as values that are converted on the way.
            let encoding = if wide { Encoding::F64 } else { Encoding::Ggml(GgmlType::F32) };
            let mut bytes = vec![0; 4];
            for i in 0..whole.count() {
                match wide {
                    true => bytes.extend((i as f64).to_le_bytes()),
                    false => bytes.extend((i as f32).to_le_bytes()),
                }
            }
            let files = [SourceFile::from_bytes("f", bytes)];
            // Twice, so that ranges cross from piece to piece.
            let expected: Vec<_> = naive(&view).into_iter().chain(naive(&view)).collect();
            let tensor = tensor(vec![view.clone(), view], &encoding);
            let count = expected.len() as u64;
            let (a, b) = (bounds.0 % (count + 1), bounds.1 % (count + 1));
            let (start, end) = (a.min(b), a.max(b));
            let expected: Vec<_> =
                expected[start as usize..end as usize].iter().map(|i| *i as f32).collect();
            let mut reader = TensorReader::new(&files, Kernels::best());
            prop_assert_eq!(reader.values(&tensor, start..end).unwrap(), &expected);
            let mut bytes = Vec::new();
            reader.blocks(&tensor, start..end, &mut bytes).unwrap();
            let values: Vec<_> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            prop_assert_eq!(values, expected);
        }
    }

    #[test]
    fn pieces_of_several_types_come_in_single_precision() {
        let mut bytes = vec![0; 4];
        [1.0f32, 2.0].iter().for_each(|v| bytes.extend(v.to_le_bytes()));
        [0x4000u16, 0x4200].iter().for_each(|bits| bytes.extend(bits.to_le_bytes()));
        let files = [SourceFile::from_bytes("f", bytes)];
        let piece = |offset, ty| Piece {
            file: 0,
            offset,
            encoding: Encoding::Ggml(ty),
            view: View::whole(&[2]).unwrap(),
        };
        let pieces = vec![piece(4, GgmlType::F32), piece(12, GgmlType::F16)];
        let mut tensor = tensor(vec![View::whole(&[4]).unwrap()], &Encoding::F64);
        tensor.data = TensorData::Stored { pieces, map: ElementMap::Same };
        assert_eq!(tensor.source_type(), GgmlType::F32);
        let mut reader = TensorReader::new(&files, Kernels::best());
        assert_eq!(reader.values(&tensor, 0..4).unwrap(), [1.0, 2.0, 2.0, 3.0]);
        let mut bytes = Vec::new();
        reader.blocks(&tensor, 1..3, &mut bytes).unwrap();
        assert_eq!(bytes, [2f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
    }

    #[test]
    fn bands_of_rows_are_multiplied_wherever_a_range_begins() {
        let mut bytes = vec![0; 4];
        (1..=8u8).for_each(|v| bytes.extend(f32::from(v).to_le_bytes()));
        let files = [SourceFile::from_bytes("f", bytes)];
        let mut tensor =
            tensor(vec![View::whole(&[4, 2]).unwrap()], &Encoding::Ggml(GgmlType::F32));
        tensor.shape = vec![2, 4];
        // Nothing is left for the second band, and the last row is in none.
        let bands = [(1, 3.0), (1, 99.0), (2, 5.0), (3, 7.0), (3, 99.0)];
        if let TensorData::Stored { map, .. } = &mut tensor.data {
            *map = ElementMap::ByRows(2.0, bands);
        }
        let all = [6.0, 12.0, 30.0, 40.0, 70.0, 84.0, 14.0, 16.0];
        let mut reader = TensorReader::new(&files, Kernels::best());
        for start in 0..8 {
            for end in start..8 {
                let range = start as u64..end as u64;
                assert_eq!(reader.values(&tensor, range).unwrap(), &all[start..end]);
            }
        }
    }

    #[test]
    fn values_that_are_not_there_are_refused() {
        let view = View::whole(&[32]).unwrap();
        let q8 = tensor(vec![View::whole(&[1]).unwrap()], &Encoding::Ggml(GgmlType::Q8_0));
        let q8 = Tensor { shape: vec![32], ..q8 };
        let mut bytes = vec![0; 4];
        (0..34u8).for_each(|i| bytes.push(i));
        let files = [SourceFile::from_bytes("f", bytes)];
        let mut reader = TensorReader::new(&files, Kernels::best());
        assert_eq!(reader.values(&q8, 0..32).unwrap().len(), 32);
        let mut out = Vec::new();
        reader.blocks(&q8, 0..32, &mut out).unwrap();
        assert_eq!(out.len(), 34);
        for range in [0..64, 0..16, 16..32, 32..64] {
            assert!(matches!(reader.load(&q8, range.clone()), Err(Error::Range { .. })));
            assert!(reader.blocks(&q8, range, &mut out).is_err());
        }
        let computed =
            Tensor { name: "c".into(), shape: vec![2], data: TensorData::Computed(vec![1.0, 2.0]) };
        assert_eq!(reader.values(&computed, 1..2).unwrap(), [2.0]);
        assert!(reader.load(&computed, 1..3).is_err());
        // More than the file has.
        let f64s = tensor(vec![view], &Encoding::F64);
        assert!(matches!(reader.load(&f64s, 0..32), Err(Error::Files(_))));
    }
}
