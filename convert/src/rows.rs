//! Reading ranges of a tensor's values from where they are stored.

use crate::{
    Result,
    model::{Model, Piece, Tensor, TensorData},
    view::Axis,
};

/// Reads from one tensor.
pub(crate) struct RowReader<'a> {
    model: &'a Model,
    pieces: &'a [Piece],
}

/// A range of units of one piece.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    len: u64,
}

impl<'a> RowReader<'a> {
    pub(crate) fn new(model: &'a Model, tensor: &'a Tensor) -> Self {
        let pieces = match &tensor.data {
            TensorData::Stored { pieces, .. } => &pieces[..],
            TensorData::Computed(_) => &[][..],
        };
        Self { model, pieces }
    }

    /// Reads `len` values from `start` on, in the tensor's order and the type its pieces are
    /// handed on in. Both are multiples of that type's block length.
    pub(crate) fn read(&self, start: u64, len: u64, out: &mut Vec<u8>) -> Result<()> {
        let Some(ty) = self.pieces.first().map(|piece| piece.encoding.ty()) else { return Ok(()) };
        out.resize(size(ty.row_bytes(len)?)?, 0);
        let unit = ty.block_len() as u64;
        let (mut skip, mut rest) = (start / unit, &mut out[..]);
        for piece in self.pieces {
            if rest.is_empty() {
                break;
            }
            let count = piece.view.count();
            if skip >= count {
                skip -= count;
                continue;
            }
            let bytes = piece.encoding.unit_bytes().max(1);
            let here =
                (rest.len() / bytes).min(usize::try_from(count - skip).unwrap_or(usize::MAX));
            let (now, later) = rest.split_at_mut(here.saturating_mul(bytes).min(rest.len()));
            self.read_piece(piece, Range { start: skip, len: here as u64 }, now)?;
            (rest, skip) = (later, 0);
        }
        Ok(())
    }

    fn span(&self, piece: &Piece, first: u64, out: &mut [u8]) -> Result<()> {
        piece.encoding.read(self.model, (piece.file, piece.offset), first, out)
    }

    fn read_piece(&self, piece: &Piece, range: Range, out: &mut [u8]) -> Result<()> {
        let (start, axes) = piece.view.simplified();
        match &axes[..] {
            [outer @ .., rows, row] if row.stride > rows.stride => {
                self.read_tiles(piece, start, (outer, *rows, *row), range, out)
            }
            [outer @ .., row] => self.read_rows(piece, start, (outer, *row), range, out),
            [] => Ok(()),
        }
    }

    /// Rows whose values are next to each other, or a few apart.
    fn read_rows(
        &self,
        piece: &Piece,
        start: u64,
        (outer, row): (&[Axis], Axis),
        range: Range,
        mut out: &mut [u8],
    ) -> Result<()> {
        let bytes = piece.encoding.unit_bytes();
        let mut buffer = Vec::new();
        let (mut at, end) = (range.start, range.start.saturating_add(range.len));
        while at < end {
            let (index, within) = (at / row.len.max(1), at % row.len.max(1));
            let count = (row.len - within).min(end - at);
            let first = start + origin(outer, index) + within * row.stride;
            let (now, later) = out.split_at_mut(size(count)?.saturating_mul(bytes).min(out.len()));
            if row.stride == 1 {
                self.span(piece, first, now)?;
            } else {
                buffer.resize(size((count - 1) * row.stride + 1)?.saturating_mul(bytes), 0);
                self.span(piece, first, &mut buffer)?;
                let step = size(row.stride)?.saturating_mul(bytes).max(1);
                for (out, value) in now.chunks_exact_mut(bytes).zip(buffer.chunks(step)) {
                    out.copy_from_slice(value.get(..bytes).unwrap_or_default());
                }
            }
            (at, out) = (at + count, later);
        }
        Ok(())
    }

    /// Rows whose values are far apart, as in a transposed matrix: what several rows take from one
    /// place is read at once.
    fn read_tiles(
        &self,
        piece: &Piece,
        start: u64,
        (outer, rows, row): (&[Axis], Axis, Axis),
        range: Range,
        out: &mut [u8],
    ) -> Result<()> {
        let bytes = piece.encoding.unit_bytes();
        let end = range.start.saturating_add(range.len);
        let (width, height) = (row.len.max(1), rows.len.max(1));
        let mut buffer = Vec::new();
        let (mut at, last) = (range.start / width, end.div_ceil(width));
        while at < last {
            let (index, within) = (at / height, at % height);
            let count = (rows.len - within).min(last - at);
            let first = start + origin(outer, index) + within * rows.stride;
            buffer.resize(size((count - 1) * rows.stride + 1)?.saturating_mul(bytes), 0);
            let step = size(rows.stride)?.saturating_mul(bytes).max(1);
            for column in 0..row.len {
                self.span(piece, first + column * row.stride, &mut buffer)?;
                for (line, value) in (at..).zip(buffer.chunks(step)) {
                    // A range may begin and end within a row.
                    let Some(place) = (line * width + column).checked_sub(range.start) else {
                        continue;
                    };
                    let place = size(place)?.saturating_mul(bytes);
                    if let Some(out) = out.get_mut(place..place.saturating_add(bytes)) {
                        out.copy_from_slice(value.get(..bytes).unwrap_or_default());
                    }
                }
            }
            at += count;
        }
        Ok(())
    }
}

/// Where entry `index` of the outer axes begins.
fn origin(outer: &[Axis], mut index: u64) -> u64 {
    let mut origin = 0;
    for axis in outer.iter().rev() {
        let len = axis.len.max(1);
        origin += index % len * axis.stride;
        index /= len;
    }
    origin
}

fn size(n: u64) -> Result<usize> {
    Ok(usize::try_from(n).map_err(|_| quant_core::Error::TooLarge)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use gguf_io::{Metadata, SourceFile};
    use proptest::prelude::*;
    use quant_core::GgmlType;

    use super::*;
    use crate::model::{ElementMap, Encoding, Origin, View};

    /// A model of one tensor that takes `views` of the values 0, 1, 2, ….
    fn model(file: &std::path::Path, views: Vec<View>) -> Model {
        let piece =
            |view| Piece { file: 0, offset: 4, encoding: Encoding::Ggml(GgmlType::F32), view };
        let count = views.iter().map(View::count).sum();
        let pieces = views.into_iter().map(piece).collect();
        Model {
            metadata: Metadata::new(),
            tensors: vec![Tensor {
                name: "t".into(),
                shape: vec![count],
                data: TensorData::Stored { pieces, map: ElementMap::Same },
            }],
            files: vec![SourceFile::open(file).unwrap()],
            origin: Origin::Checkpoint,
            left_out: vec![],
            packed_types: Default::default(),
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
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&[0; 4]).unwrap();
            for i in 0..whole.count() {
                file.write_all(&(i as f32).to_le_bytes()).unwrap();
            }
            // Twice, so that ranges cross from piece to piece.
            let expected: Vec<_> = naive(&view).into_iter().chain(naive(&view)).collect();
            let model = model(file.path(), vec![view.clone(), view]);
            let count = expected.len() as u64;
            let (a, b) = (bounds.0 % (count + 1), bounds.1 % (count + 1));
            let (start, end) = (a.min(b), a.max(b));
            let mut out = Vec::new();
            RowReader::new(&model, &model.tensors[0]).read(start, end - start, &mut out).unwrap();
            let found: Vec<_> =
                out.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) as u64).collect();
            prop_assert_eq!(&found, &expected[start as usize..end as usize]);
        }
    }
}
