//! The inputs of a product, quantized and laid out for the kernels.

use std::ops::Range;

use quant_core::{formats::QK_K, lanes::MAX_LANES};

use super::{dot_lanes::DotLanes, tile::Columns};
use crate::activation::{Scaling, codes_256, codes_by_magnitude, join, starts, total};

/// One column of a product: an input row and the output row it makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Row of x.
    pub(crate) x: usize,
    /// Row of y.
    pub(crate) y: usize,
}

/// The columns that a tile computes at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Columns the kernel computes; those past the live ones are zero.
    pub(crate) width: usize,
    /// First column.
    pub(crate) first: usize,
    /// Columns that exist.
    pub(crate) live: usize,
    /// Columns the kernels of the tiles before compute: positions in the buffers.
    before: usize,
}

/// How the inputs are laid out: fixed by the format of the weights.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InputLayout {
    /// `None` for floats, which are not quantized.
    pub(crate) scaling: Option<Scaling>,
    /// Elements in a sub-block.
    pub(crate) sub: usize,
    /// Whether a block has several sub-blocks: two sums share a word then.
    pub(crate) pairs: bool,
    /// What to multiply the sums of codes by, negated.
    pub(crate) bias: i32,
    /// Whether codes have 16 bits, two to a word: as [`DotLanes::widened`] says.
    pub(crate) widened: bool,
    /// Steps that share a start if sums are [centred](super::arithmetic::centres): words are as
    /// [`DotLanes::by_eights`] says then.
    pub(crate) run: Option<usize>,
}

/// Quantized inputs, tile after tile, each in the order in which the kernel reads it. The buffers
/// can be used again.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) tiles: Vec<Tile>,
    cols: usize,
    layout: InputLayout,
    words: Vec<i32>,
    starts: Vec<i32>,
    sums: Vec<i32>,
    scales: Vec<f32>,
}

impl Inputs {
    /// Divides `n` columns into tiles of the given widths, widest first.
    pub(crate) fn prepare(&mut self, layout: InputLayout, cols: usize, n: usize, widths: &[usize]) {
        self.tiles.clear();
        let (mut first, mut before) = (0, 0);
        while first < n {
            let rest = n - first;
            // One column too many costs less than another pass over the weights.
            let fits = |&&width: &&usize| width <= rest + usize::from(width > 2);
            let width = widths.iter().find(fits).or(widths.last()).copied().unwrap_or(1);
            let live = width.min(rest);
            self.tiles.push(Tile { width, first, live, before });
            first += live;
            before += width;
        }
        let Sizes { words, starts, sums, blocks } = layout.sizes(cols);
        (self.cols, self.layout) = (cols, layout);
        // What was in them is overwritten.
        self.words.resize(words * before, 0);
        self.starts.resize(starts * before, 0);
        self.sums.resize(sums * before, 0);
        self.scales.resize(blocks * before, 0.0);
    }

    /// Bytes of the buffers.
    pub(crate) fn capacity(&self) -> usize {
        4 * (self.words.capacity()
            + self.starts.capacity()
            + self.sums.capacity()
            + self.scales.capacity())
    }

    /// The tiles, some in each part: so many columns, and those that are left of a tile.
    pub(crate) fn parts(&mut self, columns: usize) -> impl Iterator<Item = InputsPart<'_>> + Send {
        let Sizes { words, starts, sums, blocks } = self.layout.sizes(self.cols);
        let (cols, layout) = (self.cols, self.layout);
        let mut tiles = &self.tiles[..];
        let (mut all_words, mut all_starts) = (&mut self.words[..], &mut self.starts[..]);
        let (mut all_sums, mut all_scales) = (&mut self.sums[..], &mut self.scales[..]);
        std::iter::from_fn(move || {
            let first = tiles.first()?.first;
            let count = tiles.iter().take_while(|tile| tile.first < first + columns.max(1)).count();
            let (these, after) = tiles.split_at(count);
            tiles = after;
            let width: usize = these.iter().map(|tile| tile.width).sum();
            Some(InputsPart {
                tiles: these,
                cols,
                layout,
                words: split_off(&mut all_words, words * width),
                starts: split_off(&mut all_starts, starts * width),
                sums: split_off(&mut all_sums, sums * width),
                scales: split_off(&mut all_scales, blocks * width),
            })
        })
    }
}

/// Takes the first elements of a slice off it.
fn split_off<'a, T>(all: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (these, rest) = std::mem::take(all).split_at_mut(len);
    *all = rest;
    these
}

/// Some tiles of inputs.
pub(crate) struct InputsPart<'a> {
    tiles: &'a [Tile],
    cols: usize,
    layout: InputLayout,
    words: &'a mut [i32],
    starts: &'a mut [i32],
    sums: &'a mut [i32],
    scales: &'a mut [f32],
}

impl InputsPart<'_> {
    /// Quantizes the rows of x that the columns name; these are the columns of all parts.
    #[inline(always)]
    pub(crate) fn fill<S: DotLanes>(&mut self, s: S, x: &[f32], stride: usize, columns: &[Column]) {
        let Sizes { words, starts, sums, blocks } = self.layout.sizes(self.cols);
        let before = self.tiles.first().map_or(0, |tile| tile.before);
        for tile in self.tiles {
            let (width, at) = (tile.width, tile.before - before);
            let mut place = Place {
                words: &mut self.words[words * at..][..words * width],
                starts: &mut self.starts[starts * at..][..starts * width],
                sums: &mut self.sums[sums * at..][..sums * width],
                scales: &mut self.scales[blocks * at..][..blocks * width],
                width,
                column: 0,
                layout: self.layout,
            };
            if tile.live < width {
                place.words.fill(0);
                place.starts.fill(0);
                place.sums.fill(0);
                place.scales.fill(0.0);
            }
            for (c, column) in columns[tile.first..][..tile.live].iter().enumerate() {
                place.column = c;
                let x = &x[column.x * stride..][..self.cols];
                match self.layout.scaling {
                    Some(Scaling::Per32) => place.quantize::<S, 32>(s, x),
                    Some(Scaling::Per64) => place.quantize::<S, 64>(s, x),
                    Some(Scaling::Per128) => place.quantize::<S, 128>(s, x),
                    Some(Scaling::Per256) => place.quantize_256(s, x),
                    None => {
                        let out = place.words.iter_mut().skip(c).step_by(width);
                        for (x, out) in x.iter().zip(out) {
                            *out = x.to_bits() as i32;
                        }
                    }
                }
            }
        }
    }
}

impl Inputs {
    /// The columns of a tile in a range of blocks.
    #[inline(always)]
    pub(crate) fn columns<const NR: usize>(
        &self,
        tile: &Tile,
        blocks: Range<usize>,
    ) -> Columns<'_, NR> {
        let Sizes { words, starts, sums, blocks: all } = self.layout.sizes(self.cols);
        let part = |total: usize| {
            let per_block = total / all.max(1);
            tile.before * total + blocks.start * per_block * NR
                ..tile.before * total + blocks.end * per_block * NR
        };
        Columns {
            words: self.words[part(words)].as_chunks().0,
            starts: self.starts[part(starts)].as_chunks().0,
            sums: self.sums[part(sums)].as_chunks().0,
            scales: self.scales[part(all)].as_chunks().0,
        }
    }

    /// The floats of a tile: the columns side by side, per element.
    #[inline(always)]
    pub(crate) fn floats<const NR: usize>(&self, tile: &Tile) -> &[[i32; NR]] {
        self.words[tile.before * self.cols..][..NR * self.cols].as_chunks().0
    }
}

/// Words, starts, words of sums and blocks in a column.
struct Sizes {
    words: usize,
    starts: usize,
    sums: usize,
    blocks: usize,
}

impl InputLayout {
    fn sizes(self, cols: usize) -> Sizes {
        match self.scaling {
            Some(scaling) => {
                let subs = cols / self.sub;
                let sums = if self.pairs { subs / 2 } else { subs };
                let words = if self.widened { cols / 2 } else { cols / 4 };
                let starts = self.run.map_or(subs, |run| words / run);
                Sizes { words, starts, sums, blocks: cols / scaling.len() }
            }
            None => Sizes { words: cols, starts: 0, sums: 0, blocks: 0 },
        }
    }
}

/// The halves of each lane, of numbers that fit them.
#[inline(always)]
fn halves<S: DotLanes>(s: S, low: S::I32, high: S::I32) -> S::I32 {
    s.or_i(s.and_i(low, s.splat_i(0xffff)), s.shl::<16>(high))
}

/// Where the codes of one column go.
struct Place<'a> {
    words: &'a mut [i32],
    starts: &'a mut [i32],
    sums: &'a mut [i32],
    scales: &'a mut [f32],
    width: usize,
    column: usize,
    layout: InputLayout,
}

impl Place<'_> {
    #[inline(always)]
    fn quantize<S: DotLanes, const LEN: usize>(&mut self, s: S, x: &[f32]) {
        let mut codes = [s.splat_i(0); LEN];
        let blocks = x.len() / LEN;
        for first in (0..blocks).step_by(S::N) {
            let live = S::N.min(blocks - first);
            let (d, _) = codes_by_magnitude(s, x, &starts::<S>(first, live, LEN), &mut codes);
            self.emit(s, first, live, &codes, d);
        }
    }

    #[inline(always)]
    fn quantize_256<S: DotLanes>(&mut self, s: S, x: &[f32]) {
        let mut codes = [s.splat_i(0); QK_K];
        let blocks = x.len() / QK_K;
        for first in (0..blocks).step_by(S::N) {
            let live = S::N.min(blocks - first);
            let d = codes_256(s, x, &starts::<S>(first, live, QK_K), &mut codes);
            self.emit(s, first, live, &codes, d);
        }
    }

    /// Scatters a batch of blocks, one per lane.
    #[inline(always)]
    fn emit<S: DotLanes>(&mut self, s: S, first: usize, live: usize, codes: &[S::I32], d: S::F32) {
        let (mut lanes, mut floats) = ([0; MAX_LANES], [0.0; MAX_LANES]);
        let (width, column) = (self.width, self.column);
        // Words of four codes.
        let words = if self.layout.widened { 2 } else { 1 };
        for (w, four) in codes.as_chunks().0.iter().enumerate() {
            let both = if self.layout.widened {
                [halves(s, four[0], four[2]), halves(s, four[1], four[3])]
            } else if self.layout.run.is_some() {
                [join(s, &by_eights(codes, w)); 2]
            } else {
                [join(s, four); 2]
            };
            for (i, word) in both.into_iter().enumerate().take(words) {
                s.store_i(word, &mut lanes);
                for (lane, word) in lanes[..live].iter().enumerate() {
                    let at = ((first + lane) * (codes.len() / 4) + w) * words + i;
                    self.words[at * width + column] = *word;
                }
            }
        }
        let subs = codes.len() / self.layout.sub;
        for (j, codes) in codes.chunks_exact(self.layout.sub).enumerate() {
            s.store_i(total(s, codes), &mut lanes);
            for (lane, &sum) in lanes[..live].iter().enumerate() {
                let at = ((first + lane) * subs + j) * width + column;
                if self.layout.run.is_none() {
                    self.starts[at] = -self.layout.bias * sum;
                }
                if !self.layout.pairs {
                    self.sums[at] = sum;
                    continue;
                }
                let at = ((first + lane) * subs + j) / 2 * width + column;
                if j % 2 == 0 {
                    self.sums[at] = sum & 0xffff;
                } else {
                    self.sums[at] |= sum << 16;
                }
            }
        }
        if let Some(run) = self.layout.run {
            self.centre(s, first, live, codes, run);
        }
        s.store(d, &mut floats);
        for (lane, d) in floats[..live].iter().enumerate() {
            self.scales[(first + lane) * width + column] = *d;
        }
    }

    /// Scatters what runs of steps start from.
    #[inline(always)]
    fn centre<S: DotLanes>(
        &mut self,
        s: S,
        first: usize,
        live: usize,
        codes: &[S::I32],
        run: usize,
    ) {
        let mut lanes = [0; MAX_LANES];
        let (runs, bias) = (codes.len() / 4 / run, s.splat_i(-self.layout.bias));
        for r in 0..runs {
            let mut both = [s.splat_i(0); 2];
            for w in r * run..(r + 1) * run {
                for (sum, two) in both.iter_mut().zip(by_eights(codes, w).as_chunks::<2>().0) {
                    *sum = s.mul_add_i(s.add_i(two[0], two[1]), bias, *sum);
                }
            }
            s.store_i(halves(s, both[0], both[1]), &mut lanes);
            for (lane, start) in lanes[..live].iter().enumerate() {
                self.starts[((first + lane) * runs + r) * self.width + self.column] = *start;
            }
        }
    }
}

/// The codes of word `w` as [`DotLanes::by_eights`] has them.
#[inline(always)]
fn by_eights<T: Copy>(codes: &[T], w: usize) -> [T; 4] {
    let codes = &codes[w / 4 * 16 + w % 4 * 2..][..10];
    [codes[0], codes[1], codes[8], codes[9]]
}
