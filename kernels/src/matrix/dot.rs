//! The dot product of one row of weights and one row of quantized activations.
//!
//! For code that has single rows in GGUF bytes: matrix products use the packed kernels. A lane
//! holds four neighbours of one row here, not of a row of its own.

use std::marker::PhantomData;

use quant_core::{
    GgmlType,
    lanes::{Lanes, MAX_LANES, Scalar},
};

use super::{
    arithmetic::bias,
    coded::{Coded, Head, Layout, read_codes, subs},
    dot_lanes::DotLanes,
    format::{Format, with_coded},
};

/// The type activations are quantized to for a dot product with this type of weights, as in ggml:
/// `Q8_0`, `Q8_1` or `Q8_K`, or `F32` for the float types. `None` if there is no dot product.
pub fn activation_type(weights: GgmlType) -> Option<GgmlType> {
    with_coded!(
        Format::Ggml(weights),
        F => Some(match (F::PER_256, F::OFFSET) {
            (true, _) => GgmlType::Q8_K,
            // The sums of the codes are for the minima.
            (_, true) => GgmlType::Q8_1,
            _ => GgmlType::Q8_0,
        }),
        match weights {
            GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => Some(GgmlType::F32),
            _ if Format::Ggml(weights).has_integers() => Some(GgmlType::Q8_K),
            _ => None,
        }
    )
}

/// Elements multiplied at a time: a block of 256, or eight of 32.
const PIECE: usize = 256;
/// Groups of four elements in a piece: each is a lane's.
const FOURS: usize = PIECE / 4;
/// Blocks of 32 in a piece.
const BLOCKS: usize = 8;
/// Bytes of such blocks, at most: those of Q8_1.
const REST: usize = BLOCKS * GgmlType::Q8_1.block_bytes();
/// Sub-blocks in a piece, at most.
const PARTS: usize = 16;

/// The fields of one block as it is in a file, the same in every lane.
struct Block<'a, F: Coded>(&'a [u8], PhantomData<F>);

impl<S: Lanes, F: Coded> Head<S> for Block<'_, F> {
    #[inline(always)]
    fn half(&self, s: S, i: usize) -> S::F32 {
        let at = F::HALVES[i];
        s.f16_bits_to_f32(s.splat_i(i32::from(u16::from_le_bytes([self.0[at], self.0[at + 1]]))))
    }
    #[inline(always)]
    fn byte(&self, s: S, i: usize) -> S::I32 {
        s.splat_i(i32::from(self.0[F::SCALES.0 + i]))
    }
}

/// What the sums over each sub-block of a piece are multiplied by.
struct Factors {
    /// Σ code · x.
    products: [f32; PARTS],
    /// Σ x.
    totals: [f32; PARTS],
}

/// The product of whole blocks; the lengths have been checked.
#[inline(always)]
pub(crate) fn dot<S: DotLanes, F: Coded>(s: S, weights: &[u8], activations: &[u8]) -> f32 {
    let mut sum = s.splat(0.0);
    let mut minima = 0.0;
    if F::PER_256 {
        let mut codes = [0; PIECE];
        let x_blocks = activations.chunks_exact(GgmlType::Q8_K.block_bytes());
        for (weights, activations) in weights.chunks_exact(F::BYTES).zip(x_blocks) {
            read_codes::<F>(weights, &mut codes);
            let factors = factors_of_super_block::<S, F>(s, weights, activations);
            let x = &activations[4..4 + PIECE];
            sum = piece::<S, F::Layout>(s, &codes, table::<F>(), F::BIAS, x, &factors, sum);
        }
    } else {
        let activation = if F::OFFSET { GgmlType::Q8_1 } else { GgmlType::Q8_0 };
        let (w_step, x_step) = (PIECE / F::LEN * F::BYTES, BLOCKS * activation.block_bytes());
        let (mut weights, mut activations) = (weights, activations);
        // What does not fill a piece, filled up with zeros.
        let (mut w_rest, mut x_rest) = ([0; REST], [0; REST]);
        while !weights.is_empty() {
            let (w, x);
            if weights.len() < w_step {
                w_rest[..weights.len()].copy_from_slice(weights);
                x_rest[..activations.len()].copy_from_slice(activations);
                (w, weights) = (&w_rest[..w_step], &[]);
                (x, activations) = (&x_rest[..x_step], &[]);
            } else {
                (w, weights) = weights.split_at(w_step);
                (x, activations) = activations.split_at(x_step);
            }
            sum = small_blocks::<S, F>(s, w, x, sum, &mut minima);
        }
    }
    total(s, sum) + minima
}

/// The sum of the lanes.
#[inline(always)]
fn total<S: Lanes>(s: S, sum: S::F32) -> f32 {
    let mut lanes = [0.0; MAX_LANES];
    s.store(sum, &mut lanes);
    lanes[..S::N].iter().sum::<f32>()
}

/// What codes are looked up in, if they are.
#[inline(always)]
fn table<F: Coded>() -> Option<&'static [u8; 16]> {
    if F::LOOKED_UP { Some(const { &F::TABLE }) } else { None }
}

/// Adds the products of eight blocks of 32 activations to the sum of each lane, and those of minima to
/// theirs.
#[inline(always)]
fn small_blocks<S: DotLanes, F: Coded>(
    s: S,
    weights: &[u8],
    activations: &[u8],
    sum: S::F32,
    minima: &mut f32,
) -> S::F32 {
    const X_LEN: usize = PIECE / BLOCKS;
    let per_block = activations.len() / BLOCKS;
    let (mut codes, mut x) = ([0; PIECE], [0; PIECE]);
    for (block, codes) in weights.chunks_exact(F::BYTES).zip(codes.chunks_exact_mut(F::LEN)) {
        read_codes::<F>(block, codes);
    }
    for i in 0..BLOCKS {
        let values = &activations[(i + 1) * per_block - X_LEN..][..X_LEN];
        x[i * X_LEN..][..X_LEN].copy_from_slice(values);
    }
    let d = halves(s, activations, BLOCKS, 0);
    let mut units = [0.0; BLOCKS];
    match F::HALVES.first() {
        Some(&at) => units = halves(s, weights, PIECE / F::LEN, at),
        None => {
            for (unit, block) in units.iter_mut().zip(weights.chunks_exact(F::BYTES)) {
                *unit = F::units(Scalar, &Block::<F>(block, PhantomData)).0;
            }
        }
    }
    let mut factors = Factors { products: [0.0; PARTS], totals: [0.0; PARTS] };
    for i in 0..BLOCKS {
        factors.products[i] = units[i * X_LEN / F::LEN] * d[i];
    }
    if F::OFFSET {
        // Q8_1 has its own rounding of scale × total.
        let totals = halves(s, activations, BLOCKS, 2);
        let minimum = halves(s, weights, BLOCKS, F::HALVES[1]);
        for i in 0..BLOCKS {
            *minima += totals[i] * minimum[i];
        }
    }
    // Where bytes are multiplied signed, −128 has no opposite; ours never have it, but others' may.
    // The lowest by vectors: a search for that byte took as long as the product.
    let mut lowest = 0;
    if <F::Layout as Layout>::WHOLE && S::SIGNED_BYTES {
        for &code in &x {
            lowest = lowest.min(code as i8);
        }
    }
    if lowest == i8::MIN {
        let zero = Scalar.splat(0.0);
        *minima +=
            piece::<Scalar, Small<F>>(Scalar, &codes, table::<F>(), F::BIAS, &x, &factors, zero);
        return sum;
    }
    piece::<S, Small<F>>(s, &codes, table::<F>(), F::BIAS, &x, &factors, sum)
}

/// The layout of a format with a scale for each 32 activations.
struct Small<F>(PhantomData<F>);

impl<F: Coded> Layout for Small<F> {
    const LEN: usize = PIECE / BLOCKS;
    const SUB: usize = PIECE / BLOCKS;
    const BITS: usize = <F::Layout as Layout>::BITS;
    const OFFSET: bool = F::OFFSET;
    type AnyBits = Self;
}

/// The factors of a block of 256 and its activations.
#[inline(always)]
fn factors_of_super_block<S: DotLanes, F: Coded>(s: S, block: &[u8], x: &[u8]) -> Factors {
    let head = Block::<F>(block, PhantomData);
    let d = s.splat(f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
    let (unit, unit_of_minima) = F::units(s, &head);
    let (unit, unit_of_minima) = (first(s, s.mul(unit, d)), first(s, s.mul(unit_of_minima, d)));
    let mut factors = Factors { products: [0.0; PARTS], totals: [0.0; PARTS] };
    for j in 0..subs::<F::Layout>() {
        let (factor, minimum) = F::factors(Scalar, &head, j);
        factors.products[j] = unit * factor as f32;
        factors.totals[j] = unit_of_minima * minimum as f32;
    }
    factors
}

/// The value of the first lane.
#[inline(always)]
fn first<S: Lanes>(s: S, v: S::F32) -> f32 {
    let mut lanes = [0.0; MAX_LANES];
    s.store(v, &mut lanes);
    lanes[0]
}

/// The half-precision numbers `at` bytes into each of up to eight blocks.
#[inline(always)]
fn halves<S: DotLanes>(s: S, blocks: &[u8], count: usize, at: usize) -> [f32; BLOCKS] {
    let size = blocks.len() / count;
    let mut bytes = [0; 2 * MAX_LANES];
    for i in 0..count {
        bytes[2 * i..2 * i + 2].copy_from_slice(&blocks[i * size + at..][..2]);
    }
    let (mut lanes, mut singles) = ([0.0; MAX_LANES], [0.0; BLOCKS]);
    for i in (0..BLOCKS).step_by(S::N) {
        s.store(s.halves(&bytes[2 * i..]), &mut lanes);
        let len = S::N.min(BLOCKS);
        singles[i..i + len].copy_from_slice(&lanes[..len]);
    }
    singles
}

/// Adds the products of a piece to the sum of each lane.
#[inline(always)]
fn piece<S: DotLanes, L: Layout>(
    s: S,
    codes: &[u8; PIECE],
    table: Option<&[u8; 16]>,
    bias_of_codes: i32,
    x: &[u8],
    factors: &Factors,
    mut sum: S::F32,
) -> S::F32 {
    let (bias, minima) = (bias::<S, L>(bias_of_codes), L::OFFSET && L::LEN == PIECE);
    let (mut products, mut totals) = ([0; 4 * FOURS], [0; 4 * FOURS]);
    let run = L::SUB / 4;
    for i in 0..FOURS {
        products[4 * i..][..4].copy_from_slice(&factors.products[i / run].to_le_bytes());
        totals[4 * i..][..4].copy_from_slice(&factors.totals[i / run].to_le_bytes());
    }
    let (zero, ones) = (s.splat_i(0), s.codes(&[1; 4 * MAX_LANES]));
    for at in (0..PIECE).step_by(4 * S::N) {
        let mut four = s.codes(&codes[at..]);
        if let Some(table) = table {
            four = s.codes_look_up(table, four);
        }
        let x = s.bits(s.floats(&x[at..]));
        let mut product = zero;
        if bias != 0 || minima {
            let total = s.finish(zero, s.dot(s.begin(zero), ones, x));
            if minima {
                sum = s.mul_add(s.to_f32(total), s.floats(&totals[at..]), sum);
            }
            product = s.mul_add_i(total, s.splat_i(-bias), zero);
        }
        let partial = s.begin(product);
        let partial =
            if L::WHOLE { s.dot_bytes(partial, four, x) } else { s.dot(partial, four, x) };
        product = s.finish(product, partial);
        sum = s.mul_add(s.to_f32(product), s.floats(&products[at..]), sum);
    }
    sum
}
