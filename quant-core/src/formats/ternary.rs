//! TQ1_0 and TQ2_0: 256 values that are −1, 0 or 1 times a half-precision scale.
//!
//! TQ2_0 has two bits for each value. TQ1_0 puts five values, digits of base three, into a byte: the
//! byte is the number times 256/243, rounded up, so that the digits come out one by one as the overflow
//! of multiplications by three.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    batch::{Batch, scatter, scatter_f16, word},
};
use crate::{
    GgmlType,
    lanes::{Lanes, MAX_LANES},
};

/// A block of TQ1_0: value `i` is `d` times its digit less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockTQ1_0 {
    /// Five digits a byte, the first value highest: byte `m` of the first 32 holds the values
    /// `m + 32·n`, byte `m` of the other sixteen the values `160 + m + 16·n`.
    pub qs: [u8; 48],
    /// Four digits a byte: byte `m` holds the values `240 + m + 4·n`.
    pub qh: [u8; 4],
    /// Scale, half-precision bits.
    pub d: F16Le,
}

/// A block of TQ2_0: value `i` is `d` times its code less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockTQ2_0 {
    /// Codes, four a byte, the first lowest: of each 128 values, byte `m` holds `m + 32·n`.
    pub qs: [u8; 64],
    /// Scale, half-precision bits.
    pub d: F16Le,
}

const _: () = assert!(size_of::<BlockTQ1_0>() == GgmlType::TQ1_0.block_bytes());
const _: () = assert!(size_of::<BlockTQ2_0>() == GgmlType::TQ2_0.block_bytes());

/// The format of [`GgmlType::TQ1_0`].
#[derive(Debug)]
#[allow(non_camel_case_types, reason = "the name is ggml's own")]
pub struct TQ1_0;

/// The format of [`GgmlType::TQ2_0`].
#[derive(Debug)]
#[allow(non_camel_case_types, reason = "the name is ggml's own")]
pub struct TQ2_0;

/// Where the bytes of [`BlockTQ1_0`] have their digits: for each run of bytes the first byte, their
/// number, the first value and the digits in a byte.
const RUNS: [(usize, usize, usize, usize); 3] = [(0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4)];

/// The byte of a number of five digits: the number times 256/243, rounded up.
const BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut i = 0;
    while i < 243 {
        bytes[i] = (i * 256).div_ceil(243) as u8;
        i += 1;
    }
    bytes
};

impl BlockTQ1_0 {
    /// Writes what each digit stands for.
    #[inline(always)]
    pub(super) fn digits<T>(&self, out: &mut [T], value_of: impl Fn(u8) -> T) {
        const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
        for (byte, len, value, digits) in RUNS {
            for (n, out) in out[value..value + len * digits].chunks_exact_mut(len).enumerate() {
                for (m, out) in out.iter_mut().enumerate() {
                    let byte = match byte + m {
                        at if at < 48 => self.qs[at],
                        at => self.qh[at - 48],
                    };
                    let digit = (u16::from(byte.wrapping_mul(POWERS[n])) * 3) >> 8;
                    *out = value_of(digit as u8);
                }
            }
        }
    }
}

impl BlockFormat for TQ1_0 {
    type Block = BlockTQ1_0;
    const TYPE: GgmlType = GgmlType::TQ1_0;

    #[inline(always)]
    fn dequantize(block: &BlockTQ1_0, out: &mut [f32]) {
        let d = block.d.to_f32();
        block.digits(out, |digit| (i32::from(digit) - 1) as f32 * d);
    }
}

impl BlockFormat for TQ2_0 {
    type Block = BlockTQ2_0;
    const TYPE: GgmlType = GgmlType::TQ2_0;

    #[inline(always)]
    fn dequantize(block: &BlockTQ2_0, out: &mut [f32]) {
        let d = block.d.to_f32();
        for (out, qs) in out.chunks_exact_mut(128).zip(block.qs.as_chunks::<32>().0) {
            for (n, out) in out.chunks_exact_mut(32).enumerate() {
                for (out, q) in out.iter_mut().zip(qs) {
                    *out = (i32::from(q >> (2 * n) & 3) - 1) as f32 * d;
                }
            }
        }
    }
}

impl Quantizer for TQ1_0 {
    const IMPORTANCE: Importance = Importance::Ignored;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockTQ1_0]) {
        let count = blocks.len();
        let mut codes = [s.splat_i(0); QK_K];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, QK_K);
            let d = code(s, &rows, &batch, &mut codes);
            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            scatter_f16(s, s.to_f16_bits(d), blocks, |b| &mut b.d);
            let mut lanes = [0; MAX_LANES];
            for (byte, len, value, digits) in RUNS {
                for m in 0..len {
                    let mut number = s.splat_i(0);
                    for n in 0..5 {
                        number = s.add_i(number, s.shl::<1>(number));
                        if n < digits {
                            number = s.add_i(number, codes[value + m + n * len]);
                        }
                    }
                    s.store_i(number, &mut lanes);
                    for (block, number) in blocks.iter_mut().zip(lanes) {
                        let byte = match byte + m {
                            at if at < 48 => &mut block.qs[at],
                            at => &mut block.qh[at - 48],
                        };
                        *byte = BYTES[number as usize & 255];
                    }
                }
            }
        }
    }
}

impl Quantizer for TQ2_0 {
    const IMPORTANCE: Importance = Importance::Ignored;
    const SEARCHES: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockTQ2_0]) {
        let count = blocks.len();
        let mut codes = [s.splat_i(0); QK_K];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, QK_K);
            let d = code(s, &rows, &batch, &mut codes);
            let mut words = [s.splat_i(0); 16];
            for (w, out) in words.iter_mut().enumerate() {
                let at = w / 8 * 128 + w % 8 * 4;
                let mut bytes = [s.splat_i(0); 4];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    for n in (0..4).rev() {
                        *byte = s.or_i(s.shl::<2>(*byte), codes[at + i + 32 * n]);
                    }
                }
                *out = word(s, bytes);
            }
            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            scatter_f16(s, s.to_f16_bits(d), blocks, |b| &mut b.d);
            scatter(s, &words, blocks, |b| &mut b.qs);
        }
    }
}

/// The scale of every block of a batch, its largest magnitude, and the codes 0, 1 and 2 for −1, 0
/// and 1.
#[inline(always)]
fn code<S: Lanes>(s: S, rows: &Rows<'_>, batch: &Batch, codes: &mut [S::I32; QK_K]) -> S::F32 {
    const TILE: usize = 32;
    let mut x = [s.splat(0.0); QK_K];
    let mut d = s.splat(0.0);
    for (j, x) in x.chunks_exact_mut(TILE).enumerate() {
        s.load_columns(rows.values, &batch.starts.map(|start| start + j * TILE), x);
        for &v in x.iter() {
            d = s.max(d, s.abs(v));
        }
    }
    let inverse = s.select(s.eq(d, s.splat(0.0)), s.splat(0.0), s.div(s.splat(1.0), d));
    for (code, v) in codes.iter_mut().zip(x) {
        // Halves are rounded away from zero. Where the scale is too small for an inverse, the value
        // is infinite or NaN, and what ggml's rounding makes of it is the code of zero.
        let v = s.mul(v, inverse);
        let size = s.abs(v);
        let one = s.and(s.le(s.splat(0.5), size), s.lt(size, s.splat(f32::INFINITY)));
        let signed = s.select_i(s.lt(v, s.splat(0.0)), s.splat_i(0), s.splat_i(2));
        *code = s.select_i(one, signed, s.splat_i(1));
    }
    d
}
