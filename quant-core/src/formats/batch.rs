//! Blocks side by side: as many at a time as there are lanes.

use alloc::vec::Vec;

use super::F16Le;
use crate::lanes::{Call, Lanes, MAX_LANES, PerLane};
use crate::{Error, GgmlType};

/// Rows of values to quantize, with the importance of each column.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Values, row-major: a whole number of rows.
    pub values: &'a [f32],
    /// Values in a row: a whole number of blocks.
    pub row_len: usize,
    /// One weight per column, `row_len` of them, the same for every row. Not negative.
    pub importance: Option<&'a [f32]>,
}

/// The blocks of one batch, a block per lane.
pub(crate) struct Batch {
    /// Index of the first block.
    pub(crate) first: usize,
    /// How many lanes hold a block of their own; the rest repeat the last one.
    pub(crate) live: usize,
    /// Where each lane's block starts in the values.
    pub(crate) starts: PerLane<usize>,
    /// Where each lane's block starts in the importance.
    pub(crate) columns: PerLane<usize>,
}

impl Rows<'_> {
    /// Whether the lengths fit each other and the type.
    ///
    /// # Errors
    /// [`Error::RowLength`] if a row is not a whole number of blocks, [`Error::Length`] if the
    /// values are not whole rows or the importance is not one row.
    pub fn check(&self, ty: GgmlType) -> Result<(), Error> {
        ty.row_bytes(self.row_len as u64)?;
        let found = self.values.len();
        if self.row_len == 0 || !found.is_multiple_of(self.row_len) {
            let expected = found.checked_div(self.row_len).unwrap_or(0) * self.row_len;
            return Err(Error::Length { what: "the row data", found, expected });
        }
        match self.importance.map(<[f32]>::len) {
            Some(found) if found != self.row_len => {
                Err(Error::Length { what: "the importance", found, expected: self.row_len })
            }
            _ => Ok(()),
        }
    }

    /// The batch of blocks of `len` values that starts at block `first`.
    #[inline(always)]
    pub(crate) fn batch<S: Lanes>(&self, first: usize, blocks: usize, len: usize) -> Batch {
        let live = S::N.min(blocks - first);
        let (mut starts, mut columns) = ([0; MAX_LANES], [0; MAX_LANES]);
        for lane in 0..S::N {
            starts[lane] = (first + lane.min(live - 1)) * len;
            columns[lane] = starts[lane] % self.row_len;
        }
        Batch { first, live, starts, columns }
    }

    /// The mean square of each row, for the formats that weigh by it.
    #[inline(always)]
    pub(crate) fn mean_squares<S: Lanes>(&self, s: S) -> Vec<f32> {
        let mut means = self.sums_of_squares(s);
        for mean in &mut means {
            *mean /= self.row_len as f32;
        }
        means
    }

    /// The sum of the squares of each row, in order.
    #[inline(always)]
    pub(crate) fn sums_of_squares<S: Lanes>(&self, s: S) -> Vec<f32> {
        s.call(SumsOfSquares(*self))
    }
}

/// As [`Rows::sums_of_squares`] says.
struct SumsOfSquares<'a>(Rows<'a>);

impl<S: Lanes> Call<S> for SumsOfSquares<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn eval(self, s: S) -> Vec<f32> {
        let Self(rows) = self;
        const STEP: usize = 32;
        let count = rows.values.len() / rows.row_len;
        let mut sums = Vec::with_capacity(count);
        let mut lanes = [0.0; MAX_LANES];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, rows.row_len);
            let mut starts = batch.starts;
            let mut sum = s.splat(0.0);
            let mut x = [s.splat(0.0); STEP];
            for _ in 0..rows.row_len / STEP {
                s.load_columns(rows.values, &starts, &mut x);
                for v in x {
                    sum = s.add(sum, s.mul(v, v));
                }
                for start in &mut starts {
                    *start += STEP;
                }
            }
            s.store(sum, &mut lanes);
            sums.extend_from_slice(&lanes[..batch.live]);
        }
        sums
    }
}

/// Importance weights `w · √(σ² + x²)` of the values of a batch.
#[inline(always)]
pub(crate) fn weigh<S: Lanes, const LEN: usize>(
    s: S,
    x: &[S::F32; LEN],
    importance: &[f32],
    columns: &PerLane<usize>,
    sigma2: S::F32,
) -> [S::F32; LEN] {
    s.call(Weigh::<S, LEN> { x, importance, columns, sigma2 })
}

/// As [`weigh`] says.
struct Weigh<'a, S: Lanes, const LEN: usize> {
    x: &'a [S::F32; LEN],
    importance: &'a [f32],
    columns: &'a PerLane<usize>,
    sigma2: S::F32,
}

impl<S: Lanes, const LEN: usize> Call<S> for Weigh<'_, S, LEN> {
    type Output = [S::F32; LEN];

    #[inline(always)]
    fn eval(self, s: S) -> [S::F32; LEN] {
        let Self { x, importance, columns, sigma2 } = self;
        let mut weights = [s.splat(0.0); LEN];
        s.load_columns(importance, columns, &mut weights);
        for (w, &x) in weights.iter_mut().zip(x) {
            *w = s.mul(*w, s.sqrt(s.add(sigma2, s.mul(x, x))));
        }
        weights
    }
}

/// One value per lane from one value per row, for the lanes of a batch.
#[inline(always)]
pub(crate) fn row_values<S: Lanes>(s: S, per_row: &[f32], batch: &Batch, row_len: usize) -> S::F32 {
    let mut lanes = [0.0; MAX_LANES];
    for lane in 0..S::N {
        lanes[lane] = per_row[batch.starts[lane] / row_len];
    }
    s.load(&lanes)
}

/// Joins four bytes, lowest first, into a word.
#[inline(always)]
pub(crate) fn word<S: Lanes>(s: S, bytes: [S::I32; 4]) -> S::I32 {
    s.or_i(
        s.or_i(bytes[0], s.shl::<8>(bytes[1])),
        s.or_i(s.shl::<16>(bytes[2]), s.shl::<24>(bytes[3])),
    )
}

/// Writes words, four bytes each, into a byte field of every live lane's block.
#[inline(always)]
pub(crate) fn scatter<S: Lanes, B, const LEN: usize>(
    s: S,
    words: &[S::I32; LEN],
    blocks: &mut [B],
    field: impl Fn(&mut B) -> &mut [u8],
) {
    let mut lanes = [[0; MAX_LANES]; LEN];
    for (lanes, &word) in lanes.iter_mut().zip(words) {
        s.store_i(word, lanes);
    }
    write_words(&lanes, blocks, field);
}

/// Writes what each lane has in all words to its block. The same for all lanes, so that it is compiled once.
#[inline(never)]
fn write_words<B, const LEN: usize>(
    words: &[PerLane<i32>; LEN],
    blocks: &mut [B],
    field: impl Fn(&mut B) -> &mut [u8],
) {
    for (lane, block) in blocks.iter_mut().enumerate().take(MAX_LANES) {
        for (out, word) in field(block).as_chunks_mut().0.iter_mut().zip(words) {
            *out = word[lane].to_le_bytes();
        }
    }
}

/// Writes the low 16 bits of each live lane into a field of its block.
#[inline(always)]
pub(crate) fn scatter_f16<S: Lanes, B>(
    s: S,
    value: S::I32,
    blocks: &mut [B],
    field: impl Fn(&mut B) -> &mut F16Le,
) {
    let mut lanes = [0; MAX_LANES];
    s.store_i(value, &mut lanes);
    for (block, value) in blocks.iter_mut().zip(lanes) {
        *field(block) = F16Le::from_bits(value as u16);
    }
}
