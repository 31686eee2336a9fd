//! Where the kernel gets codes and scales from: packed weights, or panels of a byte per code.

use std::{marker::PhantomData, ops::Range};

use super::{
    arithmetic::{centres, widens},
    coded::{Coded, Head, Layout, bits, subs},
    dot_lanes::DotLanes,
    packed::{GROUP, head_bytes, planes_bytes},
};

/// Sub-blocks in a block, at most.
pub(super) const MAX_SUBS: usize = 16;

/// How far ahead of the codes being read to prefetch, in bytes.
const AHEAD: usize = 4096;

/// A vector of rows: where the kernel gets codes and scales from.
pub(crate) trait Source<S: DotLanes>: Copy {
    /// The source of one block.
    type Block: Block<S>;
    /// Block `b`.
    fn block(self, s: S, b: usize) -> Self::Block;
}

/// One block of a vector of rows.
pub(crate) trait Block<S: DotLanes>: Copy {
    /// Whether it is a panel.
    const PANEL: bool;
    /// Four codes per row: step `t` of the eight in 32 columns `chunk`.
    fn codes(self, s: S, chunk: usize, t: usize) -> S::Codes;
    /// The codes of a panel, from a step of the block on.
    #[inline(always)]
    fn run(&self, _first: usize, _len: usize) -> &[S::Codes] {
        &[]
    }
    /// The codes of a panel that are [`DotLanes::widened`].
    #[inline(always)]
    fn pairs(&self, _len: usize) -> &[S::I32] {
        &[]
    }
    /// The codes of steps `t` and `t + 1` as [`DotLanes::dot_two_columns`] wants them.
    fn paired(self, s: S, chunk: usize, t: usize) -> [S::Codes; 2];
    /// The units of factors and of minima.
    fn units(self, s: S) -> (S::F32, S::F32);
    /// The factor of sub-block `j`, of a panel as [`DotLanes::as_factor`] has it.
    fn factor(self, s: S, j: usize) -> S::I32;
    /// The minima of sub-blocks `2 · pair` and the next, in the halves of each lane.
    fn minima(self, s: S, pair: usize) -> S::I32;
    /// Hints that what follows 32 columns will be read: a few lines at a time, for many at once
    /// would wait for each other.
    fn prefetch(self, s: S, chunk: usize);
}

/// Rows straight from packed weights.
pub(crate) struct Direct<'a, F> {
    /// The codes of the group.
    planes: &'a [u8],
    /// The heads of its blocks.
    heads: &'a [u8],
    /// The first of the rows in its group.
    row: usize,
    /// Whether scales are bfloat16, if the format leaves that open.
    bfloat16: bool,
    format: PhantomData<F>,
}

impl<F> Clone for Direct<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F> Copy for Direct<'_, F> {}

impl<'a, F: Coded> Direct<'a, F> {
    /// From the codes and the heads of a group.
    pub(crate) fn new((planes, heads): (&'a [u8], &'a [u8]), row: usize, bfloat16: bool) -> Self {
        Self { planes, heads, row, bfloat16, format: PhantomData }
    }
}

impl<'a, S: DotLanes, F: Coded> Source<S> for Direct<'a, F> {
    type Block = DirectBlock<'a, F>;

    #[inline(always)]
    fn block(self, _: S, b: usize) -> Self::Block {
        let planes = &self.planes[b * planes_bytes::<F>()..][..planes_bytes::<F>()];
        let head = &self.heads[b * head_bytes::<F>()..][..head_bytes::<F>()];
        let (halves, bytes) = head.split_at(2 * GROUP * F::HALVES.len());
        DirectBlock {
            head,
            first: self.row == 0,
            halves: from_row::<S>(halves, self.row, 2),
            bytes: from_row::<S>(bytes, self.row, 1),
            planes: from_row::<S>(planes, self.row, 4),
            bfloat16: self.bfloat16,
            format: PhantomData,
        }
    }
}

/// A field from `row` on, up to the last byte of its vector of rows. Each step of the field has `bytes` of every row
/// of the group, one row after the other. The length is a constant, so that loads in the loops need no check.
#[inline(always)]
fn from_row<S: DotLanes>(field: &[u8], row: usize, bytes: usize) -> &[u8] {
    if field.is_empty() {
        return field;
    }
    &field[row * bytes..][..field.len() - (GROUP - S::N) * bytes]
}

/// A block of [`Direct`]. The fields of its head, and its planes, start at the vector's first row.
pub(crate) struct DirectBlock<'a, F> {
    /// The head, of all rows.
    head: &'a [u8],
    /// Whether the vector is the first of its group.
    first: bool,
    /// The half-precision fields.
    halves: &'a [u8],
    /// The scale bytes.
    bytes: &'a [u8],
    /// The planes of the codes.
    planes: &'a [u8],
    bfloat16: bool,
    format: PhantomData<F>,
}

impl<F> Clone for DirectBlock<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F> Copy for DirectBlock<'_, F> {}

impl<S: DotLanes, F: Coded> Block<S> for DirectBlock<'_, F> {
    const PANEL: bool = false;

    #[inline(always)]
    fn codes(self, s: S, chunk: usize, t: usize) -> S::Codes {
        let len = 64 * bits::<F>();
        let planes = &self.planes[chunk * len..][..len - 4 * (GROUP - S::N)];
        let low = plane(s, planes, t, F::LOW.bits, 0);
        if F::LOOKED_UP {
            return s.codes_look_up(&F::TABLE, low);
        }
        if !F::HAS_HIGH {
            return low;
        }
        let high = &planes[64 * F::LOW.bits..];
        s.codes_or(low, plane(s, high, t, F::HIGH.bits, F::LOW.bits))
    }

    #[inline(always)]
    fn paired(self, s: S, chunk: usize, t: usize) -> [S::Codes; 2] {
        s.paired([self.codes(s, chunk, t), self.codes(s, chunk, t + 1)])
    }
    #[inline(always)]
    fn units(self, s: S) -> (S::F32, S::F32) {
        F::units(s, &self)
    }
    #[inline(always)]
    fn factor(self, s: S, j: usize) -> S::I32 {
        F::factors(s, &self, j).0
    }
    #[inline(always)]
    fn minima(self, s: S, pair: usize) -> S::I32 {
        let (_, low) = F::factors(s, &self, 2 * pair);
        let (_, high) = F::factors(s, &self, 2 * pair + 1);
        s.or_i(low, s.shl::<16>(high))
    }

    #[inline(always)]
    fn prefetch(self, s: S, chunk: usize) {
        if self.first {
            let piece = 64 * bits::<F>();
            s.prefetch(&self.planes[chunk * piece..][..piece - 63], AHEAD);
            // The head too: lines that are left out are waited for.
            if 64 * chunk < head_bytes::<F>() {
                let ahead = AHEAD * head_bytes::<F>() / planes_bytes::<F>();
                s.prefetch(&self.head[64 * chunk..][..1], ahead);
            }
        }
    }
}

/// The bits of step `t` in a plane, `up` bits up.
#[inline(always)]
fn plane<S: DotLanes>(s: S, plane: &[u8], t: usize, bits: usize, up: usize) -> S::Codes {
    let codes = s.codes(&plane[t % bits * 64..]);
    if bits == 8 {
        return codes;
    }
    let at = t / bits * bits;
    let shifted = if at > up { s.codes_shr(codes, at - up) } else { s.codes_shl(codes, up - at) };
    s.codes_and(shifted, (((1u32 << bits) - 1) << up) as u8)
}

impl<S: DotLanes, F: Coded> Head<S> for DirectBlock<'_, F> {
    #[inline(always)]
    fn half(&self, s: S, i: usize) -> S::F32 {
        let halves = &self.halves[2 * i * GROUP..];
        if F::MAY_BE_BFLOAT16 && self.bfloat16 { s.bf16s(halves) } else { s.halves(halves) }
    }
    #[inline(always)]
    fn byte(&self, s: S, i: usize) -> S::I32 {
        s.bytes(&self.bytes[i * GROUP..])
    }
}

/// A vector of rows unpacked to a byte per code, to be used for several columns.
pub(crate) struct Panel<S: DotLanes> {
    /// Per four columns; in pairs where two columns at a time are faster.
    codes: Vec<S::Codes>,
    /// Instead of codes, if they are widened: per two columns.
    pairs: Vec<S::I32>,
    /// Per block.
    units: Vec<(S::F32, S::F32)>,
    /// Per sub-block, if there are several.
    factors: Vec<S::I32>,
    /// Per two sub-blocks, if there are minima.
    minima: Vec<S::I32>,
}

impl<S: DotLanes> Panel<S> {
    pub(crate) fn new() -> Self {
        Self {
            codes: Vec::new(),
            pairs: Vec::new(),
            units: Vec::new(),
            factors: Vec::new(),
            minima: Vec::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.codes.clear();
        self.pairs.clear();
        self.units.clear();
        self.factors.clear();
        self.minima.clear();
    }

    /// Puts the codes of 32 columns after the others.
    #[inline(always)]
    pub(super) fn push<L: Layout>(&mut self, s: S, mut codes: [S::Codes; 8]) {
        if centres::<S, L>() {
            for four in codes.as_chunks_mut::<4>().0 {
                *four = s.by_eights(*four);
            }
        }
        if S::TWO_COLUMNS {
            for pair in codes.as_chunks_mut::<2>().0 {
                *pair = s.paired(*pair);
            }
        }
        self.codes.extend_from_slice(&codes);
    }

    /// Unpacks some blocks.
    #[inline(always)]
    pub(crate) fn fill<F: Coded>(&mut self, s: S, source: Direct<'_, F>, blocks: Range<usize>) {
        for b in blocks {
            let block = Source::<S>::block(source, s, b);
            for chunk in 0..F::LEN / 32 {
                // Not a loop, as in the kernel: each step has its own shifts.
                let codes = [
                    block.codes(s, chunk, 0),
                    block.codes(s, chunk, 1),
                    block.codes(s, chunk, 2),
                    block.codes(s, chunk, 3),
                    block.codes(s, chunk, 4),
                    block.codes(s, chunk, 5),
                    block.codes(s, chunk, 6),
                    block.codes(s, chunk, 7),
                ];
                if widens::<S, F::Layout>() {
                    let mut factor = s.splat_i(1);
                    if !<F::Layout as Layout>::SINGLE {
                        factor = block.factor(s, chunk * 32 / <F::Layout as Layout>::SUB);
                    }
                    for codes in codes {
                        self.pairs.extend_from_slice(&s.widened(codes, factor));
                    }
                } else {
                    self.push::<F::Layout>(s, codes);
                }
            }
            self.units.push(block.units(s));
            if <F::Layout as Layout>::SINGLE || widens::<S, F::Layout>() {
                continue;
            }
            let mut factors = [s.splat_i(0); MAX_SUBS];
            let factors = &mut factors[..subs::<F::Layout>()];
            for (j, factor) in factors.iter_mut().enumerate() {
                *factor = block.factor(s, j);
            }
            self.push_factors(s, factors);
            if F::OFFSET {
                for pair in 0..subs::<F::Layout>() / 2 {
                    self.minima.push(block.minima(s, pair));
                }
            }
        }
    }

    /// Puts the units of a block after the others.
    #[inline(always)]
    pub(super) fn push_units(&mut self, factors: S::F32, minima: S::F32) {
        self.units.push((factors, minima));
    }

    /// Puts the factors of a block after the others.
    #[inline(always)]
    pub(super) fn push_factors(&mut self, s: S, factors: &[S::I32]) {
        for &factor in factors {
            self.factors.push(s.as_factor(factor));
        }
    }

    /// The panel as a source of blocks.
    #[inline(always)]
    pub(crate) fn vector<L: Layout>(&self) -> PanelVector<'_, S, L> {
        PanelVector {
            codes: &self.codes,
            pairs: &self.pairs,
            units: &self.units,
            factors: &self.factors,
            minima: &self.minima,
            layout: PhantomData,
        }
    }
}

/// A [`Panel`], or a block of it.
pub(crate) struct PanelVector<'a, S: DotLanes, L> {
    codes: &'a [S::Codes],
    pairs: &'a [S::I32],
    units: &'a [(S::F32, S::F32)],
    factors: &'a [S::I32],
    minima: &'a [S::I32],
    layout: PhantomData<L>,
}

impl<S: DotLanes, L> Clone for PanelVector<'_, S, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: DotLanes, L> Copy for PanelVector<'_, S, L> {}

impl<S: DotLanes, L: Layout> Source<S> for PanelVector<'_, S, L> {
    type Block = Self;

    #[inline(always)]
    fn block(self, _: S, b: usize) -> Self {
        // Slices of constant length spare the checks in the loops.
        let Self { mut codes, mut pairs, mut factors, mut minima, .. } = self;
        if widens::<S, L>() {
            pairs = &pairs[b * (L::LEN / 2)..][..L::LEN / 2];
        } else {
            codes = &codes[b * (L::LEN / 4)..][..L::LEN / 4];
            if !L::SINGLE {
                factors = &factors[b * subs::<L>()..][..subs::<L>()];
            }
            if !L::SINGLE && L::OFFSET {
                minima = &minima[b * subs::<L>() / 2..][..subs::<L>() / 2];
            }
        }
        Self { codes, pairs, units: &self.units[b..][..1], factors, minima, ..self }
    }
}

impl<S: DotLanes, L: Layout> Block<S> for PanelVector<'_, S, L> {
    const PANEL: bool = true;

    #[inline(always)]
    fn codes(self, s: S, chunk: usize, t: usize) -> S::Codes {
        if S::TWO_COLUMNS {
            return s.unpaired(self.paired(s, chunk, t & !1))[t & 1];
        }
        self.codes[chunk * 8 + t]
    }
    #[inline(always)]
    fn run(&self, first: usize, len: usize) -> &[S::Codes] {
        &self.codes[first..][..len]
    }
    #[inline(always)]
    fn pairs(&self, len: usize) -> &[S::I32] {
        &self.pairs[..len]
    }
    #[inline(always)]
    fn paired(self, _: S, chunk: usize, t: usize) -> [S::Codes; 2] {
        [self.codes[chunk * 8 + t], self.codes[chunk * 8 + t + 1]]
    }
    #[inline(always)]
    fn units(self, _: S) -> (S::F32, S::F32) {
        self.units[0]
    }
    #[inline(always)]
    fn factor(self, _: S, j: usize) -> S::I32 {
        self.factors[j]
    }
    #[inline(always)]
    fn minima(self, _: S, pair: usize) -> S::I32 {
        self.minima[pair]
    }
    #[inline(always)]
    fn prefetch(self, _: S, _: usize) {}
}
