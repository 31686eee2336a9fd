//! IQ4_XS: 256 values, a half-precision scale of 6-bit scales, one for each 32 values, and the 4-bit
//! codes of IQ4_NL.

use bytemuck::{Pod, Zeroable};

use super::{
    BlockFormat, F16Le, Importance, QK_K, Quantizer, Rows,
    batch::{scatter, scatter_f16, weigh},
    iq4_nl::{LEN, VALUES, fit, nearest},
    q4_0::nibbles,
};
use crate::{
    GgmlType,
    lanes::{Lanes, MAX_LANES, nearest_clamped},
};

const SUBS: usize = QK_K / LEN;

/// A block of IQ4_XS: value `i` of a sub-block is `d · (scale − 32)` times what its code stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockIQ4XS {
    /// Scale of the scales, half-precision bits.
    pub d: F16Le,
    /// The high two bits of the scales, the first sub-block lowest.
    pub scales_h: [u8; 2],
    /// The low four bits of the scales, two in a byte, the lower nibble first.
    pub scales_l: [u8; 4],
    /// Codes: of the sixteen bytes of a sub-block, the low nibbles hold values 0..16, the high
    /// nibbles 16..32.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<BlockIQ4XS>() == GgmlType::IQ4_XS.block_bytes());

/// The format of [`GgmlType::IQ4_XS`].
#[derive(Debug)]
pub struct IQ4XS;

impl BlockFormat for IQ4XS {
    type Block = BlockIQ4XS;
    const TYPE: GgmlType = GgmlType::IQ4_XS;

    #[inline(always)]
    fn dequantize(block: &BlockIQ4XS, out: &mut [f32]) {
        let d = block.d.to_f32();
        let high = u16::from_le_bytes(block.scales_h);
        let subs = out.chunks_exact_mut(LEN).zip(block.qs.as_chunks::<16>().0);
        for (i, (out, qs)) in subs.enumerate() {
            let low = block.scales_l[i / 2] >> (4 * (i % 2)) & 15;
            let scale = i32::from(low) | i32::from(high >> (2 * i) & 3) << 4;
            let d = d * (scale - 32) as f32;
            let (first, second) = out.split_at_mut(16);
            for ((first, second), q) in first.iter_mut().zip(second).zip(qs) {
                *first = d * VALUES[usize::from(q & 15)];
                *second = d * VALUES[usize::from(q >> 4)];
            }
        }
    }
}

impl Quantizer for IQ4XS {
    const IMPORTANCE: Importance = Importance::Used;
    const SEARCHES: bool = true;
    // Its candidates keep enough additions in flight.
    const PAIRS: bool = false;

    #[inline(always)]
    fn quantize<S: Lanes>(s: S, rows: Rows<'_>, blocks: &mut [BlockIQ4XS]) {
        let count = blocks.len();
        let zero = s.splat(0.0);
        let mut x = [[zero; LEN]; SUBS];
        let mut codes = [s.splat_i(0); LEN];
        for first in (0..count).step_by(S::N) {
            let batch = rows.batch::<S>(first, count, QK_K);
            let mut sum = zero;
            for (j, x) in x.iter_mut().enumerate() {
                s.load_columns(rows.values, &batch.starts.map(|start| start + j * LEN), x);
                for &v in x.iter() {
                    sum = s.add(sum, s.mul(v, v));
                }
            }
            let sigma2 = s.mul(sum, s.splat(2.0 / QK_K as f32));

            let mut scales = [zero; SUBS];
            for (j, (x, scale)) in x.iter().zip(&mut scales).enumerate() {
                let weights = match rows.importance {
                    Some(importance) => {
                        let columns = batch.columns.map(|column| column + j * LEN);
                        weigh(s, x, importance, &columns, sigma2)
                    }
                    None => {
                        let mut weights = *x;
                        for w in &mut weights {
                            *w = s.mul(*w, *w);
                        }
                        weights
                    }
                };
                *scale = fit(s, x, &weights);
            }
            // The scale of largest magnitude, the first of equals, becomes the lowest code.
            let (mut extreme, mut magnitude) = (zero, zero);
            for &scale in &scales {
                let larger = s.lt(magnitude, s.abs(scale));
                magnitude = s.select(larger, s.abs(scale), magnitude);
                extreme = s.select(larger, scale, extreme);
            }
            let d = s.div(extreme, s.splat(-32.0));
            let inverse = s.select(s.eq(d, zero), zero, s.div(s.splat(1.0), d));

            let blocks = &mut blocks[batch.first..batch.first + batch.live];
            scatter_f16(s, s.to_f16_bits(d), blocks, |b| &mut b.d);
            let mut scale_codes = [[0; MAX_LANES]; SUBS];
            for (j, x) in x.iter().enumerate() {
                let code = nearest_clamped(s, s.mul(inverse, scales[j]), -32, 31);
                let scale = s.mul(d, s.to_f32(code));
                let inverse = s.select(s.eq(scale, zero), zero, s.div(s.splat(1.0), scale));
                for (code, &v) in codes.iter_mut().zip(x) {
                    *code = nearest(s, s.mul(inverse, v));
                }
                scatter(s, &nibbles(s, &codes), blocks, |b| &mut b.qs[16 * j..][..16]);
                s.store_i(s.add_i(code, s.splat_i(32)), &mut scale_codes[j]);
            }
            for (lane, block) in blocks.iter_mut().enumerate() {
                let mut high = 0;
                block.scales_l = [0; 4];
                for (j, codes) in scale_codes.iter().enumerate() {
                    let code = codes[lane] as u16;
                    block.scales_l[j / 2] |= (code as u8 & 15) << (4 * (j % 2));
                    high |= code >> 4 << (2 * j);
                }
                block.scales_h = high.to_le_bytes();
            }
        }
    }
}
