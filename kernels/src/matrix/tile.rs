//! The kernel: a few vectors of rows by a few columns.

#![allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers are indexed alike; iterators hide that"
)]

use std::{marker::PhantomData, ops::Range};

use super::{
    coded::{Coded, Head, Layout, bits, subs},
    dot_lanes::DotLanes,
    packed::{GROUP, head_bytes},
};

/// How far ahead of the codes being read to prefetch, in bytes.
const AHEAD: usize = 4096;

/// The quantized activations of `NR` columns, from some block on.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, const NR: usize> {
    /// Four codes of each column, per four elements.
    pub(crate) words: &'a [[i32; NR]],
    /// Minus the bias times the sum of the codes, per sub-block.
    pub(crate) starts: &'a [[i32; NR]],
    /// The sum of the codes per block, or of two sub-blocks in the halves of a word.
    pub(crate) sums: &'a [[i32; NR]],
    /// The scale, per block.
    pub(crate) scales: &'a [[f32; NR]],
}

/// A vector of rows: where the kernel gets codes and scales from.
pub(crate) trait Source<S: DotLanes>: Copy {
    /// The source of one block.
    type Block: Block<S>;
    /// Block `b`.
    fn block(self, s: S, b: usize) -> Self::Block;
}

/// One block of a vector of rows.
pub(crate) trait Block<S: DotLanes>: Copy {
    /// Four codes per row: step `t` of the eight in 32 columns `chunk`.
    fn codes(self, s: S, chunk: usize, t: usize) -> S::Codes;
    /// The codes of steps `t` and `t + 1` as [`DotLanes::dot_squares`] wants them.
    fn eights(self, s: S, chunk: usize, t: usize) -> [S::Codes; 2];
    /// The units of factors and of minima.
    fn units(self, s: S) -> (S::F32, S::F32);
    /// The factor of sub-block `j`.
    fn factor(self, s: S, j: usize) -> S::I32;
    /// The minima of sub-blocks `2 · pair` and the next, in the halves of each lane.
    fn minima(self, s: S, pair: usize) -> S::I32;
    /// Hints that what follows 32 columns will be read: a few lines at a time, for many at once
    /// would wait for each other.
    fn prefetch(self, s: S, chunk: usize);
}

/// Rows straight from packed weights.
pub(crate) struct Direct<'a, F> {
    /// The packed blocks of the group.
    group: &'a [u8],
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
    pub(crate) fn new(group: &'a [u8], row: usize, bfloat16: bool) -> Self {
        Self { group, row, bfloat16, format: PhantomData }
    }
}

impl<'a, S: DotLanes, F: Coded> Source<S> for Direct<'a, F> {
    type Block = Self;

    #[inline(always)]
    fn block(self, _: S, b: usize) -> Self {
        Self { group: &self.group[b * GROUP * F::BYTES..][..GROUP * F::BYTES], ..self }
    }
}

impl<S: DotLanes, F: Coded> Block<S> for Direct<'_, F> {
    #[inline(always)]
    fn codes(self, s: S, chunk: usize, t: usize) -> S::Codes {
        let planes = &self.group[head_bytes::<F>() + chunk * 64 * bits::<F>()..];
        let low = plane(s, &planes[self.row * 4..], t, F::LOW.bits, 0);
        if F::HIGH.bits == 0 {
            return low;
        }
        let high = &planes[64 * F::LOW.bits + self.row * 4..];
        s.codes_or(low, plane(s, high, t, F::HIGH.bits, F::LOW.bits))
    }

    #[inline(always)]
    fn eights(self, s: S, chunk: usize, t: usize) -> [S::Codes; 2] {
        s.eights([self.codes(s, chunk, t), self.codes(s, chunk, t + 1)])
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
        if self.row == 0 {
            // All of the block, its head too: lines that are left out are waited for.
            let piece = GROUP * F::BYTES * 32 / F::LEN;
            s.prefetch(&self.group[chunk * piece..][..piece], AHEAD);
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

impl<S: DotLanes, F: Coded> Head<S> for Direct<'_, F> {
    #[inline(always)]
    fn half(&self, s: S, i: usize) -> S::F32 {
        let halves = &self.group[2 * (i * GROUP + self.row)..];
        if F::MAY_BE_BFLOAT16 && self.bfloat16 { s.bf16s(halves) } else { s.halves(halves) }
    }
    #[inline(always)]
    fn byte(&self, s: S, i: usize) -> S::I32 {
        s.bytes(&self.group[(2 * F::HALVES.len() + i) * GROUP + self.row..])
    }
}

/// `MR` vectors of rows unpacked to a byte per code, to be used for many columns.
pub(crate) struct Panel<S: DotLanes, const MR: usize> {
    /// Per four columns; if there are squares, two by two as they want them.
    codes: Vec<[S::Codes; MR]>,
    /// Per block.
    units: Vec<[(S::F32, S::F32); MR]>,
    /// Per sub-block, if there are several.
    factors: Vec<[S::I32; MR]>,
    /// Per two sub-blocks, if there are minima.
    minima: Vec<[S::I32; MR]>,
}

impl<S: DotLanes, const MR: usize> Panel<S, MR> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { codes: Vec::new(), units: Vec::new(), factors: Vec::new(), minima: Vec::new() }
    }

    /// Unpacks some blocks.
    #[inline(always)]
    pub(crate) fn fill<F: Coded>(
        &mut self,
        s: S,
        source: [Direct<'_, F>; MR],
        blocks: Range<usize>,
    ) {
        self.codes.clear();
        self.units.clear();
        self.factors.clear();
        self.minima.clear();
        for b in blocks {
            let mut block = source;
            for block in &mut block {
                *block = Source::<S>::block(*block, s, b);
            }
            for chunk in 0..F::LEN / 32 {
                for t in 0..8 {
                    let mut codes = [block[0].codes(s, chunk, t); MR];
                    for m in 1..MR {
                        codes[m] = block[m].codes(s, chunk, t);
                    }
                    self.codes.push(codes);
                }
                if S::SQUARES {
                    let len = self.codes.len();
                    for pair in self.codes[len - 8..].as_chunks_mut::<2>().0 {
                        for m in 0..MR {
                            [pair[0][m], pair[1][m]] = s.eights([pair[0][m], pair[1][m]]);
                        }
                    }
                }
            }
            let mut units = [block[0].units(s); MR];
            for m in 1..MR {
                units[m] = block[m].units(s);
            }
            self.units.push(units);
            if subs::<F::Layout>() == 1 {
                continue;
            }
            for j in 0..subs::<F::Layout>() {
                let mut factors = [block[0].factor(s, j); MR];
                for m in 1..MR {
                    factors[m] = block[m].factor(s, j);
                }
                self.factors.push(factors);
            }
            if F::OFFSET {
                for pair in 0..subs::<F::Layout>() / 2 {
                    let mut minima = [block[0].minima(s, pair); MR];
                    for m in 1..MR {
                        minima[m] = block[m].minima(s, pair);
                    }
                    self.minima.push(minima);
                }
            }
        }
    }

    /// Vector `m` of the panel.
    #[inline(always)]
    pub(crate) fn vector<L: Layout>(&self, m: usize) -> PanelVector<'_, S, L, MR> {
        PanelVector {
            codes: &self.codes,
            units: &self.units,
            factors: &self.factors,
            minima: &self.minima,
            m,
            layout: PhantomData,
        }
    }
}

/// One vector of a [`Panel`].
pub(crate) struct PanelVector<'a, S: DotLanes, L, const MR: usize> {
    codes: &'a [[S::Codes; MR]],
    units: &'a [[(S::F32, S::F32); MR]],
    factors: &'a [[S::I32; MR]],
    minima: &'a [[S::I32; MR]],
    m: usize,
    layout: PhantomData<L>,
}

impl<S: DotLanes, L, const MR: usize> Clone for PanelVector<'_, S, L, MR> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S: DotLanes, L, const MR: usize> Copy for PanelVector<'_, S, L, MR> {}

impl<S: DotLanes, L: Layout, const MR: usize> Source<S> for PanelVector<'_, S, L, MR> {
    type Block = Self;

    #[inline(always)]
    fn block(self, _: S, b: usize) -> Self {
        // Slices of constant length spare the checks in the loops.
        let (mut factors, mut minima) = (self.factors, self.minima);
        if subs::<L>() > 1 {
            factors = &factors[b * subs::<L>()..][..subs::<L>()];
            if L::OFFSET {
                minima = &minima[b * subs::<L>() / 2..][..subs::<L>() / 2];
            }
        }
        let codes = &self.codes[b * (L::LEN / 4)..][..L::LEN / 4];
        Self { codes, units: &self.units[b..][..1], factors, minima, ..self }
    }
}

impl<S: DotLanes, L: Layout, const MR: usize> Block<S> for PanelVector<'_, S, L, MR> {
    #[inline(always)]
    fn codes(self, s: S, chunk: usize, t: usize) -> S::Codes {
        if S::SQUARES {
            return s.fours(self.eights(s, chunk, t & !1))[t & 1];
        }
        self.codes[chunk * 8 + t][self.m]
    }
    #[inline(always)]
    fn eights(self, _: S, chunk: usize, t: usize) -> [S::Codes; 2] {
        [self.codes[chunk * 8 + t][self.m], self.codes[chunk * 8 + t + 1][self.m]]
    }
    #[inline(always)]
    fn units(self, _: S) -> (S::F32, S::F32) {
        self.units[0][self.m]
    }
    #[inline(always)]
    fn factor(self, _: S, j: usize) -> S::I32 {
        self.factors[j][self.m]
    }
    #[inline(always)]
    fn minima(self, _: S, pair: usize) -> S::I32 {
        self.minima[pair][self.m]
    }
    #[inline(always)]
    fn prefetch(self, _: S, _: usize) {}
}

/// Adds the products of `MR` vectors of rows with `NR` columns to `totals`, over as many blocks
/// as the columns have.
#[inline(always)]
pub(crate) fn tile<S: DotLanes, L: Layout, R: Source<S>, const MR: usize, const NR: usize>(
    s: S,
    rows: [R; MR],
    columns: Columns<'_, NR>,
    totals: &mut [[S::F32; MR]; NR],
) {
    let (steps, subs) = (L::SUB / 4, subs::<L>());
    let sums_len = subs.div_ceil(2);
    // In registers where blocks are small: what is behind a reference would be stored each time.
    let mut sums_of_blocks = *totals;
    for (b, scales) in columns.scales.iter().enumerate() {
        // No `map` here: its closure would be compiled without the instruction set.
        let mut block = [rows[0].block(s, b); MR];
        for m in 1..MR {
            block[m] = rows[m].block(s, b);
        }
        let words = &columns.words[b * L::LEN / 4..][..L::LEN / 4];
        let starts = &columns.starts[b * subs..][..subs];
        let sums = &columns.sums[b * sums_len..][..sums_len];

        // Integers as long as the factors are: exact, and on most CPUs beside the dot instructions
        // rather than instead of them, as conversions and float multiplications would be.
        let mut whole = [[s.splat_i(0); MR]; NR];
        let inputs = |j: usize| (&words[j * steps..][..steps], &starts[j]);
        if subs == 1 {
            whole = sub_block::<S, L, R::Block, MR, NR, 0>(s, block, 0, inputs(0));
        } else if L::SUB == 16 {
            // Two by two: where a sub-block is in its 32 columns is a constant then, and with it
            // every shift of the codes.
            for j in (0..subs).step_by(2) {
                let products = sub_block::<S, L, R::Block, MR, NR, 0>(s, block, j, inputs(j));
                whole = scaled(s, block, j, products, whole);
                let products =
                    sub_block::<S, L, R::Block, MR, NR, 1>(s, block, j + 1, inputs(j + 1));
                whole = scaled(s, block, j + 1, products, whole);
            }
        } else {
            for j in 0..subs {
                let products = sub_block::<S, L, R::Block, MR, NR, 0>(s, block, j, inputs(j));
                whole = scaled(s, block, j, products, whole);
            }
        }
        let mut minima = [[s.splat_i(0); MR]; NR];
        if L::OFFSET && subs == 1 {
            for c in 0..NR {
                minima[c] = [s.splat_i(sums[0][c]); MR];
            }
        } else if L::OFFSET {
            for pair in 0..subs / 2 {
                let mut minimum = [block[0].minima(s, pair); MR];
                for m in 1..MR {
                    minimum[m] = block[m].minima(s, pair);
                }
                for c in 0..NR {
                    let sum = s.splat_i(sums[pair][c]);
                    for m in 0..MR {
                        minima[c][m] = s.dot_pairs(minima[c][m], minimum[m], sum);
                    }
                }
            }
        }

        let mut units = [block[0].units(s); MR];
        for m in 1..MR {
            units[m] = block[m].units(s);
        }
        for c in 0..NR {
            let scale = s.splat(scales[c]);
            for m in 0..MR {
                let mut value = s.mul(s.to_f32(whole[c][m]), units[m].0);
                if L::OFFSET {
                    value = s.mul_add(s.to_f32(minima[c][m]), units[m].1, value);
                }
                sums_of_blocks[c][m] = s.mul_add(value, scale, sums_of_blocks[c][m]);
            }
        }
    }
    *totals = sums_of_blocks;
}

/// Adds the products of sub-block `j` times its factors.
#[inline(always)]
fn scaled<S: DotLanes, B: Block<S>, const MR: usize, const NR: usize>(
    s: S,
    block: [B; MR],
    j: usize,
    products: [[S::I32; MR]; NR],
    mut whole: [[S::I32; MR]; NR],
) -> [[S::I32; MR]; NR] {
    let mut factor = [block[0].factor(s, j); MR];
    for m in 1..MR {
        factor[m] = block[m].factor(s, j);
    }
    for c in 0..NR {
        for m in 0..MR {
            whole[c][m] = s.mul_add_i(products[c][m], factor[m], whole[c][m]);
        }
    }
    whole
}

/// The exact products of the codes of sub-block `j`, which is part `PART` of its 32 columns,
/// without the bias. The inputs are the words and starts of its columns.
#[inline(always)]
fn sub_block<
    S: DotLanes,
    L: Layout,
    B: Block<S>,
    const MR: usize,
    const NR: usize,
    const PART: usize,
>(
    s: S,
    block: [B; MR],
    j: usize,
    (words, starts): (&[[i32; NR]], &[i32; NR]),
) -> [[S::I32; MR]; NR] {
    let mut products = [[s.splat_i(0); MR]; NR];
    if biased::<S, L>() {
        for c in 0..NR {
            products[c] = [s.splat_i(starts[c]); MR];
        }
    }
    for (i, words) in words.chunks_exact(words.len().min(8)).enumerate() {
        let chunk = j * L::SUB / 32 + i;
        // With one column the CPU's own prefetching keeps pace, and ours would only be in its way.
        if PART == 0 && NR > 1 {
            block[0].prefetch(s, chunk);
        }
        if S::SQUARES && NR.is_multiple_of(2) {
            products = squares::<S, L, B, MR, NR, PART>(s, block, chunk, words, products);
            continue;
        }
        let mut sums = Sums { products, partial: [[s.open(products[0][0]); MR]; NR] };
        // Not a loop: each step has its own shifts, and the compiler does not always unroll it.
        if PART == 0 {
            sums = step::<S, L, B, MR, NR, 0>(s, block, chunk, &words[0], sums);
            sums = step::<S, L, B, MR, NR, 1>(s, block, chunk, &words[1], sums);
            sums = step::<S, L, B, MR, NR, 2>(s, block, chunk, &words[2], sums);
            sums = step::<S, L, B, MR, NR, 3>(s, block, chunk, &words[3], sums);
        }
        if L::SUB != 16 || PART == 1 {
            let words = &words[if L::SUB == 16 { 0 } else { 4 }..];
            sums = step::<S, L, B, MR, NR, 4>(s, block, chunk, &words[0], sums);
            sums = step::<S, L, B, MR, NR, 5>(s, block, chunk, &words[1], sums);
            sums = step::<S, L, B, MR, NR, 6>(s, block, chunk, &words[2], sums);
            sums = step::<S, L, B, MR, NR, 7>(s, block, chunk, &words[3], sums);
        }
        products = sums.products;
    }
    products
}

/// Adds the products of part `PART` of 32 columns of the weights, two columns of inputs at a time.
#[inline(always)]
fn squares<
    S: DotLanes,
    L: Layout,
    B: Block<S>,
    const MR: usize,
    const NR: usize,
    const PART: usize,
>(
    s: S,
    block: [B; MR],
    chunk: usize,
    words: &[[i32; NR]],
    mut products: [[S::I32; MR]; NR],
) -> [[S::I32; MR]; NR] {
    let mut partial = [[s.open(s.splat_i(0)); MR]; NR];
    let first = if L::SUB == 16 { 4 * PART } else { 0 };
    for (i, words) in words.as_chunks::<2>().0.iter().enumerate() {
        for m in 0..MR {
            let codes = block[m].eights(s, chunk, first + 2 * i);
            for c in (0..NR).step_by(2) {
                let x = [[words[0][c], words[0][c + 1]], [words[1][c], words[1][c + 1]]];
                [partial[c][m], partial[c + 1][m]] =
                    s.dot_squares([partial[c][m], partial[c + 1][m]], codes, x);
            }
        }
    }
    for c in (0..NR).step_by(2) {
        for m in 0..MR {
            [products[c][m], products[c + 1][m]] = s.close_squares(
                [products[c][m], products[c + 1][m]],
                [partial[c][m], partial[c + 1][m]],
            );
        }
    }
    products
}

/// The sums of a sub-block on their way.
struct Sums<S: DotLanes, const MR: usize, const NR: usize> {
    products: [[S::I32; MR]; NR],
    partial: [[S::Partial; MR]; NR],
}

/// Adds the products of step `T` of the eight in 32 columns.
#[inline(always)]
fn step<S: DotLanes, L: Layout, B: Block<S>, const MR: usize, const NR: usize, const T: usize>(
    s: S,
    block: [B; MR],
    chunk: usize,
    words: &[i32; NR],
    Sums { mut products, mut partial }: Sums<S, MR, NR>,
) -> Sums<S, MR, NR> {
    let mut codes = [block[0].codes(s, chunk, T); MR];
    for m in 1..MR {
        codes[m] = block[m].codes(s, chunk, T);
    }
    for c in 0..NR {
        let x = s.splat_i(words[c]);
        for m in 0..MR {
            if T.is_multiple_of(run::<S, L>()) {
                partial[c][m] = s.open(products[c][m]);
            }
            partial[c][m] = if L::BITS == 8 {
                s.dot_bytes(partial[c][m], codes[m], x)
            } else {
                s.dot(partial[c][m], codes[m], x)
            };
            if (T + 1).is_multiple_of(run::<S, L>()) {
                products[c][m] = s.close(products[c][m], partial[c][m]);
            }
        }
    }
    Sums { products, partial }
}

/// Dots that fit partial sums, of the steps in 32 columns or in a sub-block: each adds two products
/// of a code and 127 to a 16-bit sum.
const fn run<S: DotLanes, L: Layout>() -> usize {
    let steps = if L::SUB == 16 { 4 } else { 8 };
    let fit = match L::BITS {
        _ if S::WIDE => steps,
        8 => 1,
        n => 32767 / (2 * 127 * ((1 << n) - 1)),
    };
    // A power of two, so that it divides the steps.
    let mut run = 1;
    while 2 * run <= fit && 2 * run <= steps {
        run *= 2;
    }
    run
}

/// Whether sums start from [`Columns::starts`].
const fn biased<S: DotLanes, L: Layout>() -> bool {
    !(L::OFFSET || L::BITS == 8 && S::SIGNED_BYTES)
}

/// What [`Columns::starts`] multiplies the sums by.
pub(crate) const fn bias<S: DotLanes, F: Coded>() -> i32 {
    let bias = if bits::<F>() == 8 && S::SIGNED_BYTES { F::BIAS - 128 } else { F::BIAS };
    assert!((bias != 0) == biased::<S, F::Layout>(), "a bias or minima");
    bias
}
