//! Keys and values of the tokens so far.

use quant_core::{GgmlType, lanes::Lanes};
use quant_kernels::Kernels;

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

    /// Stores values `step` places apart.
    fn store(&mut self, kernels: Kernels, start: usize, step: usize, values: &[f32]) {
        match self {
            Self::Half(all) => {
                let mut halves = vec![0u16; values.len()];
                // Fails for lengths that differ, which these do not.
                let bytes = bytemuck::cast_slice_mut(&mut halves);
                let done = kernels.narrow(GgmlType::F16, values, bytes);
                debug_assert!(done.is_ok());
                let places = all.get_mut(start..).unwrap_or_default().iter_mut().step_by(step);
                places.zip(&halves).for_each(|(place, half)| *place = *half);
            }
            Self::Single(all) => {
                let places = all.get_mut(start..).unwrap_or_default().iter_mut().step_by(step);
                places.zip(values).for_each(|(place, value)| *place = *value);
            }
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
    pub(crate) fn store(&mut self, kernels: Kernels, first: usize, keys: &[f32], values: &[f32]) {
        let (key, value, room) = (self.key, self.value, self.room);
        let tokens =
            keys.chunks_exact(self.heads * key).zip(values.chunks_exact(self.heads * value));
        for (i, (keys, values)) in tokens.enumerate() {
            let position = first + i;
            let (block, lane) = (position / BLOCK, position % BLOCK);
            for (head, from) in keys.chunks_exact(key).enumerate() {
                let start = (head * room + block * BLOCK) * key + lane;
                self.keys.store(kernels, start, BLOCK, from);
            }
            for (head, from) in values.chunks_exact(value).enumerate() {
                self.values.store(kernels, (head * room + position) * value, 1, from);
            }
        }
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
