//! The kernel: a few vectors of rows by a few columns.

#![allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers are indexed alike; iterators hide that"
)]

use super::{
    arithmetic::{biased, centres, run, scales_dots, widens},
    coded::{Layout, subs},
    dot_lanes::DotLanes,
    sources::{Block, Source},
};

/// The quantized activations of `NR` columns, from some block on.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, const NR: usize> {
    /// Four codes of each column, per four elements.
    pub(crate) words: &'a [[i32; NR]],
    /// Minus the bias times the sum of the codes, per sub-block. If sums are [centred](centres), that of each
    /// half, in 16 bits, per run.
    pub(crate) starts: &'a [[i32; NR]],
    /// The sum of the codes per block, or of two sub-blocks in the halves of a word.
    pub(crate) sums: &'a [[i32; NR]],
    /// The scale, per block.
    pub(crate) scales: &'a [[f32; NR]],
}

/// Evaluates the body for each number below a constant, at most six, without a loop: most of the time that
/// kernels took to compile went to loops that were unrolled in the end.
macro_rules! for_each {
    ($count:ident, $i:ident => $body:block) => {{
        {
            let $i = 0;
            $body
        }
        for_each!($count, $i, 1 ABOVE_1, 2 ABOVE_2, 3 ABOVE_3, 4 ABOVE_4, 5 ABOVE_5 => $body);
    }};
    ($count:ident, $i:ident, $($number:literal $above:ident),* => $body:block) => {$(
        if Number::<$count>::$above {
            let $i = $number;
            $body
        }
    )*};
}

/// Sums of a block on their way, of each column and vector of rows.
struct Sums<S: DotLanes, const MR: usize, const NR: usize> {
    /// Of the block, times the factors of sub-blocks.
    whole: [[S::I32; MR]; NR],
    /// Of minima times the sums of inputs.
    minima: [[S::I32; MR]; NR],
    /// Of a sub-block.
    products: [[S::I32; MR]; NR],
    partial: [[S::Partial; MR]; NR],
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
    let (words_len, sums_len) = (words::<L>(widens::<S, L>() && R::Block::PANEL), subs.div_ceil(2));
    let centres = centres::<S, L>() && R::Block::PANEL;
    let starts_len = if centres { L::LEN / 4 / run::<S, L>(true) } else { subs };
    // In registers where blocks are small: what is behind a reference would be stored each time.
    let mut sums_of_blocks = *totals;
    let zero = [[s.splat_i(0); MR]; NR];
    let partial = [[s.begin(s.splat_i(0)); MR]; NR];
    for (b, scales) in columns.scales.iter().enumerate() {
        // No `map` here: its closure would be compiled without the instruction set.
        let mut block = [rows[0].block(s, b); MR];
        for_each!(MR, m => { block[m] = rows[m].block(s, b); });
        let words = &columns.words[b * words_len..][..words_len];
        let starts = &columns.starts[b * starts_len..][..starts_len];
        let sums_of_inputs = &columns.sums[b * sums_len..][..sums_len];

        // Integers as long as the factors are: exact, and on most CPUs beside the dot instructions
        // rather than instead of them, as conversions and float multiplications would be.
        let mut sums = Sums { whole: zero, minima: zero, products: zero, partial };
        let inputs = |j: usize| (&words[j * steps..][..steps], &starts[j]);
        if widens::<S, L>() && R::Block::PANEL {
            pairs::<S, L, R::Block, MR, NR>(s, block, words, &mut sums.whole);
        } else if scales_dots::<S, L>() && R::Block::PANEL {
            runs::<S, L, R::Block, MR, NR>(s, block, words, starts, &mut sums.whole);
        } else if L::SIXTEENS {
            // Two by two: where a sub-block is in its 32 columns is a constant then, and with it
            // every shift of the codes.
            for j in (0..subs).step_by(2) {
                sub_block::<S, L, R::Block, MR, NR, 0>(s, block, j, inputs(j), &mut sums);
                sub_block::<S, L, R::Block, MR, NR, 1>(s, block, j + 1, inputs(j + 1), &mut sums);
            }
        } else if L::SINGLE {
            sub_block::<S, L, R::Block, MR, NR, 0>(s, block, 0, inputs(0), &mut sums);
        } else {
            for j in 0..subs {
                let mut first = j * steps;
                // An address with an index would make two operations of each dot. What the compiler knows
                // nothing about gets a register instead.
                if S::DOTS_READ_INPUTS && Number::<NR>::ABOVE_1 && !R::Block::PANEL {
                    first = std::hint::black_box(first);
                }
                let inputs = (&words[first..][..steps], &starts[j]);
                sub_block::<S, L, R::Block, MR, NR, 0>(s, block, j, inputs, &mut sums);
            }
        }
        let Sums { whole, minima, .. } = &mut sums;
        if L::OFFSET && L::SINGLE {
            for_each!(NR, c => {
                for_each!(MR, m => { minima[c][m] = s.splat_i(sums_of_inputs[0][c]); });
            });
        } else if L::OFFSET {
            add_minima(s, block, sums_of_inputs, minima);
        }

        let mut units = [block[0].units(s); MR];
        for_each!(MR, m => {
            if m > 0 {
                units[m] = block[m].units(s);
            }
        });
        for_each!(NR, c => {
            let scale = s.splat(scales[c]);
            for_each!(MR, m => {
                let mut value = s.mul(s.to_f32(whole[c][m]), units[m].0);
                if L::OFFSET {
                    value = s.mul_add(s.to_f32(minima[c][m]), units[m].1, value);
                }
                sums_of_blocks[c][m] = s.mul_add(value, scale, sums_of_blocks[c][m]);
            });
        });
    }
    *totals = sums_of_blocks;
}

/// Adds the products of the minima of sub-blocks, two by two, with the sums of the inputs.
#[inline(always)]
fn add_minima<S: DotLanes, B: Block<S>, const MR: usize, const NR: usize>(
    s: S,
    block: [B; MR],
    sums: &[[i32; NR]],
    products: &mut [[S::I32; MR]; NR],
) {
    for (pair, sums) in sums.iter().enumerate() {
        let mut minimum = [block[0].minima(s, pair); MR];
        for_each!(MR, m => {
            if m > 0 {
                minimum[m] = block[m].minima(s, pair);
            }
        });
        for_each!(NR, c => {
            let sum = s.splat_i(sums[c]);
            for_each!(MR, m => {
                products[c][m] = s.dot_pairs(products[c][m], minimum[m], sum);
            });
        });
    }
}

/// Part of 32 columns. Its constants, as those of [`Layout`], are known before optimizing.
struct Half<const PART: usize>;

impl<const PART: usize> Half<PART> {
    /// Whether it is the first.
    const FIRST: bool = PART == 0;
}

/// A number of columns or of vectors of rows.
pub(crate) struct Number<const N: usize>;

impl<const N: usize> Number<N> {
    const EVEN: bool = N.is_multiple_of(2);
    pub(crate) const ABOVE_1: bool = N > 1;
    pub(crate) const ABOVE_2: bool = N > 2;
    const ABOVE_3: bool = N > 3;
    pub(crate) const ABOVE_4: bool = N > 4;
    const ABOVE_5: bool = {
        assert!(N <= 6);
        N > 5
    };
}

/// Adds the exact products of the codes of sub-block `j`, which is part `PART` of its 32 columns, times its
/// factor. The inputs are the words and starts of its columns.
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
    Sums { whole, products, partial, .. }: &mut Sums<S, MR, NR>,
) {
    // Where there is one sub-block there are no factors.
    let one = s.splat_i(1);
    let mut factor = [one, one, one, one, one, one];
    if !L::SINGLE {
        for_each!(MR, m => {
            factor[m] = block[m].factor(s, j);
        });
    }
    if scales::<S, L, B>() {
        for_each!(MR, m => {
            factor[m] = s.as_factor(factor[m]);
        });
        dots::<S, L, B, MR, NR, PART>(s, block, j, words, &factor, whole, partial);
        return;
    }
    for_each!(NR, c => {
        let start = s.splat_i(if biased::<S, L>() { starts[c] } else { 0 });
        for_each!(MR, m => {
            products[c][m] = start;
        });
    });
    dots::<S, L, B, MR, NR, PART>(s, block, j, words, &factor, products, partial);
    for_each!(NR, c => {
        for_each!(MR, m => {
            whole[c][m] = if L::SINGLE {
                products[c][m]
            } else {
                s.mul_add_i(products[c][m], factor[m], whole[c][m])
            };
        });
    });
}

/// Whether the sums of a sub-block straight from packed weights end [scaled](DotLanes::finish_scaled), and so in those
/// of the block: where sums have 16 bits on their way, and do not start from a bias.
const fn scales<S: DotLanes, L: Layout, B: Block<S>>() -> bool {
    !B::PANEL && L::OFFSET && scales_dots::<S, L>()
}

/// Adds the products of the codes of sub-block `j`; times the factors, if sums are [scaled](scales).
#[inline(always)]
fn dots<
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
    words: &[[i32; NR]],
    factor: &[S::I32; 6],
    products: &mut [[S::I32; MR]; NR],
    partial: &mut [[S::Partial; MR]; NR],
) {
    let first = j * L::SUB / 32;
    if L::LONGER {
        for (i, words) in words.chunks_exact(8).enumerate() {
            steps::<S, L, B, MR, NR, PART>(s, block, first + i, words, factor, products, partial);
        }
    } else {
        steps::<S, L, B, MR, NR, PART>(s, block, first, words, factor, products, partial);
    }
}

/// Adds the products of the part of a sub-block that is in 32 columns `chunk`.
#[inline(always)]
fn steps<
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
    factor: &[S::I32; 6],
    products: &mut [[S::I32; MR]; NR],
    partial: &mut [[S::Partial; MR]; NR],
) {
    // With one column the CPU's own prefetching keeps pace, and ours would only be in its way.
    if Half::<PART>::FIRST && Number::<NR>::ABOVE_1 && !B::PANEL {
        block[0].prefetch(s, chunk);
    }
    if S::TWO_COLUMNS && Number::<NR>::EVEN {
        by_two_columns::<S, L, B, MR, NR, PART>(s, block, chunk, words, products);
        return;
    }
    // Not a loop: each step has its own shifts, and the compiler does not always unroll it.
    if Half::<PART>::FIRST {
        step::<S, L, B, MR, NR, 0>(s, block, chunk, &words[0], factor, products, partial);
        step::<S, L, B, MR, NR, 1>(s, block, chunk, &words[1], factor, products, partial);
        step::<S, L, B, MR, NR, 2>(s, block, chunk, &words[2], factor, products, partial);
        step::<S, L, B, MR, NR, 3>(s, block, chunk, &words[3], factor, products, partial);
    }
    if !L::SIXTEENS || !Half::<PART>::FIRST {
        let words = &words[if L::SIXTEENS { 0 } else { 4 }..];
        step::<S, L, B, MR, NR, 4>(s, block, chunk, &words[0], factor, products, partial);
        step::<S, L, B, MR, NR, 5>(s, block, chunk, &words[1], factor, products, partial);
        step::<S, L, B, MR, NR, 6>(s, block, chunk, &words[2], factor, products, partial);
        step::<S, L, B, MR, NR, 7>(s, block, chunk, &words[3], factor, products, partial);
    }
}

/// The products of a block of a panel, times the factors of its sub-blocks: some steps share sums of 16 bits.
#[inline(always)]
fn runs<S: DotLanes, L: Layout, B: Block<S>, const MR: usize, const NR: usize>(
    s: S,
    block: [B; MR],
    words: &[[i32; NR]],
    starts: &[[i32; NR]],
    products: &mut [[S::I32; MR]; NR],
) {
    let run = run::<S, L>(true);
    // Unrolled all the way, the compiler would keep the codes of all steps on the stack; so it is not told how
    // many there are. Two short runs at a time take a twentieth less than one.
    let turn = (2 * run).min(8);
    let words = &words[..std::hint::black_box(words.len())];
    for (i, words) in words.chunks_exact(turn).enumerate() {
        for (k, words) in words.chunks_exact(run).enumerate() {
            let first = i * turn + k * run;
            let mut codes = [block[0].run(first, run); MR];
            let mut factor = [block[0].factor(s, first * 4 / L::SUB); MR];
            for m in 1..MR {
                codes[m] = block[m].run(first, run);
                factor[m] = block[m].factor(s, first * 4 / L::SUB);
            }
            for c in 0..NR {
                let mut partial = [s.begin(s.splat_i(0)); MR];
                if centres::<S, L>() {
                    partial = [s.begin_halves(s.splat_i(starts[first / run][c])); MR];
                }
                for t in 0..run {
                    let x = s.splat_i(words[t][c]);
                    for m in 0..MR {
                        partial[m] = s.dot(partial[m], codes[m][t], x);
                    }
                }
                for m in 0..MR {
                    products[c][m] = s.finish_scaled(products[c][m], partial[m], factor[m]);
                }
            }
        }
    }
}

/// The products of a block of a panel whose codes have 16 bits, times their factors; a loop as above.
#[inline(always)]
fn pairs<S: DotLanes, L: Layout, B: Block<S>, const MR: usize, const NR: usize>(
    s: S,
    block: [B; MR],
    words: &[[i32; NR]],
    products: &mut [[S::I32; MR]; NR],
) {
    let words = &words[..std::hint::black_box(words.len())];
    let mut runs = [block[0].pairs(words.len()); MR];
    for m in 1..MR {
        runs[m] = block[m].pairs(words.len());
    }
    for (i, words) in words.iter().enumerate() {
        for c in 0..NR {
            let x = s.splat_i(words[c]);
            for m in 0..MR {
                products[c][m] = s.dot_pairs(products[c][m], runs[m][i], x);
            }
        }
    }
}

/// Adds the products of part `PART` of 32 columns of the weights, two columns of inputs at a time.
#[inline(always)]
fn by_two_columns<
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
    products: &mut [[S::I32; MR]; NR],
) {
    let mut partial = [[s.begin(s.splat_i(0)); MR]; NR];
    let first = if L::SUB == 16 { 4 * PART } else { 0 };
    for (i, words) in words.as_chunks::<2>().0.iter().enumerate() {
        for m in 0..MR {
            let codes = block[m].paired(s, chunk, first + 2 * i);
            for c in (0..NR).step_by(2) {
                let x = [[words[0][c], words[0][c + 1]], [words[1][c], words[1][c + 1]]];
                [partial[c][m], partial[c + 1][m]] =
                    s.dot_two_columns([partial[c][m], partial[c + 1][m]], codes, x);
            }
        }
    }
    for c in (0..NR).step_by(2) {
        for m in 0..MR {
            [products[c][m], products[c + 1][m]] = s.finish_two_columns(
                [products[c][m], products[c + 1][m]],
                [partial[c][m], partial[c + 1][m]],
            );
        }
    }
}

/// Adds the products of step `T` of the eight in 32 columns `chunk`.
#[inline(always)]
fn step<S: DotLanes, L: Layout, B: Block<S>, const MR: usize, const NR: usize, const T: usize>(
    s: S,
    block: [B; MR],
    chunk: usize,
    words: &[i32; NR],
    factor: &[S::I32; 6],
    products: &mut [[S::I32; MR]; NR],
    partial: &mut [[S::Partial; MR]; NR],
) {
    // Of all vectors, of which there are at most six, before the columns: with columns inside the
    // compiler keeps too much in registers.
    let first = block[0].codes(s, chunk, T);
    let mut codes = [first, first, first, first, first, first];
    for_each!(MR, m => {
        if m > 0 {
            codes[m] = block[m].codes(s, chunk, T);
        }
    });
    for_each!(NR, c => {
        let x = s.splat_i(words[c]);
        for_each!(MR, m => {
            if T.is_multiple_of(run::<S, L>(false)) {
                partial[c][m] = s.begin(products[c][m]);
            }
            partial[c][m] = if L::WHOLE {
                s.dot_bytes(partial[c][m], codes[m], x)
            } else {
                s.dot(partial[c][m], codes[m], x)
            };
            if (T + 1).is_multiple_of(run::<S, L>(false)) {
                products[c][m] = if scales::<S, L, B>() {
                    s.finish_scaled(products[c][m], partial[c][m], factor[m])
                } else {
                    s.finish(products[c][m], partial[c][m])
                };
            }
        });
    });
}

/// Words of inputs for a block: of four bytes, or of two in 16 bits each.
const fn words<L: Layout>(widened: bool) -> usize {
    if widened { L::LEN / 2 } else { L::LEN / 4 }
}
