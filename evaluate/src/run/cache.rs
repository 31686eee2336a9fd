//! Keys and values of the tokens so far.

use quant_core::{GgmlType, lanes::Lanes};

use super::{runner::Runner, split};

/// Tokens whose keys lie side by side.
pub(crate) const BLOCK: usize = 32;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CachePrecision {
    /// In half precision, as llama.cpp keeps them unless told otherwise.
    #[default]
    Half,
    /// In single precision.
    Single,
}

impl CachePrecision {
    fn bytes(self) -> usize {
        match self {
            Self::Half => 2,
            Self::Single => 4,
        }
    }
}

/// The keys and values of one layer.
pub(crate) struct LayerCache {
    pub(crate) heads: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
    /// Tokens there is room for: whole blocks.
    room: usize,
    /// Head by head, block by block: for each element of a key those of the block's tokens.
    keys: Stored,
    /// Head by head, token by token.
    values: Stored,
}

enum Stored {
    Half(Vec<u16>),
    Single(Vec<f32>),
}

impl Stored {
    /// Zeros; `None` if there is not enough memory.
    fn zeros(precision: CachePrecision, len: usize) -> Option<Self> {
        fn zeros<T: Clone + Default>(len: usize) -> Option<Vec<T>> {
            let mut all = Vec::new();
            all.try_reserve_exact(len).ok()?;
            all.resize(len, T::default());
            Some(all)
        }
        Some(match precision {
            CachePrecision::Half => Self::Half(zeros(len)?),
            CachePrecision::Single => Self::Single(zeros(len)?),
        })
    }

    /// Stores rows of all heads, one for each token from position `first` on; `is_turned` says that the
    /// tokens of a block lie side by side.
    fn store(
        &mut self,
        runner: Runner<'_>,
        heads: usize,
        first: usize,
        rows: Rows<'_>,
        is_turned: bool,
    ) {
        match self {
            Self::Half(all) => put(runner, all, heads, first, rows, is_turned, &|row, out| {
                // Fails for lengths that differ, which these do not.
                let bytes = bytemuck::cast_slice_mut(out);
                let done = runner.kernels.narrow(GgmlType::F16, row, bytes);
                debug_assert!(done.is_ok());
            }),
            Self::Single(all) => put(runner, all, heads, first, rows, is_turned, &|row, out| {
                out.copy_from_slice(row);
            }),
        }
    }

    /// Restores values to single precision.
    #[inline(always)]
    fn load<S: Lanes>(&self, s: S, start: usize, out: &mut [f32]) {
        let end = start + out.len();
        match self {
            Self::Half(all) => {
                s.widen_halves(bytemuck::cast_slice(all.get(start..end).unwrap_or_default()), out);
            }
            Self::Single(all) => {
                out.copy_from_slice(all.get(start..end).unwrap_or_default());
            }
        }
    }
}

/// Rows of all heads, `width` values each.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    width: usize,
}

/// As [`Stored::store`]. A piece of work is a block of a head.
fn put<T: Copy + Default + Send>(
    runner: Runner<'_>,
    all: &mut [T],
    heads: usize,
    first: usize,
    Rows { values, width }: Rows<'_>,
    is_turned: bool,
    convert: &(dyn Fn(&[f32], &mut [T]) + Sync),
) {
    let end = first + values.len().checked_div(heads * width).unwrap_or(0);
    if first == end {
        return;
    }
    let of_head = (all.len() / heads).max(1);
    let pieces = all.chunks_mut(of_head).enumerate().flat_map(|(head, of_head)| {
        let blocks = of_head.chunks_mut(BLOCK * width).enumerate();
        let blocks = blocks.take(end.div_ceil(BLOCK)).skip(first / BLOCK);
        blocks.map(move |(block, out)| (head, block, out))
    });
    let work = |(head, block, out): (usize, usize, &mut [T])| {
        let mut converted = vec![T::default(); width];
        for position in first.max(block * BLOCK)..end.min((block + 1) * BLOCK) {
            let row = ((position - first) * heads + head) * width;
            let Some(row) = values.get(row..row + width) else { continue };
            convert(row, &mut converted);
            let token = position % BLOCK;
            if is_turned {
                let places = out.iter_mut().skip(token).step_by(BLOCK);
                places.zip(&converted).for_each(|(place, value)| *place = *value);
            } else if let Some(place) = out.get_mut(token * width..(token + 1) * width) {
                place.copy_from_slice(&converted);
            }
        }
    };
    if values.len() < split::SMALL {
        pieces.for_each(work);
    } else {
        split::pieces(runner.threads, pieces, &work);
    }
}

impl LayerCache {
    /// Room for the keys and values of so many tokens; `None` if there is not enough memory.
    pub(crate) fn new(
        precision: CachePrecision,
        (heads, key, value): (usize, usize, usize),
        tokens: usize,
    ) -> Option<Self> {
        let room = tokens.checked_next_multiple_of(BLOCK)?;
        let zeros =
            |width: usize| Stored::zeros(precision, heads.checked_mul(width)?.checked_mul(room)?);
        Some(Self { heads, key, value, room, keys: zeros(key)?, values: zeros(value)? })
    }

    /// Bytes for so many tokens.
    pub(crate) fn bytes(
        precision: CachePrecision,
        (heads, key, value): (usize, usize, usize),
        tokens: usize,
    ) -> u64 {
        let room = tokens.saturating_add(BLOCK - 1) / BLOCK * BLOCK;
        [heads, key.saturating_add(value), room, precision.bytes()]
            .iter()
            .fold(1u64, |product, n| product.saturating_mul(*n as u64))
    }

    /// Stores the keys and values of tokens from position `first` on, a row of all heads each.
    pub(crate) fn store(&mut self, runner: Runner<'_>, first: usize, keys: &[f32], values: &[f32]) {
        self.keys.store(runner, self.heads, first, Rows { values: keys, width: self.key }, true);
        self.values.store(runner, self.heads, first, Rows { values, width: self.value }, false);
    }

    /// The keys of a block: for each element those of its tokens.
    #[inline(always)]
    pub(crate) fn keys<S: Lanes>(&self, s: S, head: usize, block: usize, out: &mut [f32]) {
        self.keys.load(s, (head * self.room + block * BLOCK) * self.key, out);
    }

    /// The values of a block, token by token.
    #[inline(always)]
    pub(crate) fn values<S: Lanes>(&self, s: S, head: usize, block: usize, out: &mut [f32]) {
        self.values.load(s, (head * self.room + block * BLOCK) * self.value, out);
    }
}
