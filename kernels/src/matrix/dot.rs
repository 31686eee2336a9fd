//! The dot product of one row of weights and one row of quantized activations.
//!
//! Written for the compiler to vectorise: each instruction set compiles it with its features.
//! Matrix products use the packed kernels; this is what they are checked against, and what code
//! that has single rows in GGUF bytes calls.

use quant_core::{GgmlType, formats::F16Le, lanes::Scalar};

use super::coded::{Coded, Head, read_codes};
use crate::activation::Scaling;

/// The type activations are quantized to for a dot product with this type of weights, as in ggml:
/// `Q8_0`, `Q8_1` or `Q8_K`, or `F32` for the float types. `None` if there is no dot product.
pub fn activation_type(weights: GgmlType) -> Option<GgmlType> {
    match weights {
        GgmlType::F32 | GgmlType::F16 | GgmlType::BF16 => Some(GgmlType::F32),
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => Some(GgmlType::Q8_0),
        GgmlType::Q4_1 | GgmlType::Q5_1 => Some(GgmlType::Q8_1),
        GgmlType::Q2_K | GgmlType::Q3_K | GgmlType::Q4_K | GgmlType::Q5_K | GgmlType::Q6_K => {
            Some(GgmlType::Q8_K)
        }
        _ => None,
    }
}

/// The fields of one block as it is in a file.
struct Block<'a, F: Coded>(&'a [u8], std::marker::PhantomData<F>);

impl<F: Coded> Head<Scalar> for Block<'_, F> {
    #[inline(always)]
    fn half(&self, _: Scalar, i: usize) -> f32 {
        let at = F::HALVES[i];
        F16Le::from_bits(u16::from_le_bytes([self.0[at], self.0[at + 1]])).to_f32()
    }
    #[inline(always)]
    fn byte(&self, _: Scalar, i: usize) -> i32 {
        i32::from(self.0[F::SCALES.0 + i])
    }
}

/// The product of whole blocks; the lengths have been checked.
#[inline(always)]
pub(crate) fn dot<F: Coded>(weights: &[u8], activations: &[u8]) -> f32 {
    let per_block = match (F::SCALING, F::OFFSET) {
        (Scaling::Per256, _) => 292,
        (_, false) => 34,
        (_, true) => 36,
    };
    let mut codes = [0u8; 256];
    let codes = &mut codes[..F::LEN];
    let mut result = 0.0;
    for (block, block_x) in weights.chunks_exact(F::BYTES).zip(activations.chunks_exact(per_block))
    {
        read_codes::<F>(block, codes);
        let (d, x) = match F::SCALING {
            Scaling::Per256 => {
                let [a, b, c, d] = [block_x[0], block_x[1], block_x[2], block_x[3]];
                (f32::from_le_bytes([a, b, c, d]), &block_x[4..260])
            }
            _ => {
                let d = F16Le::from_bits(u16::from_le_bytes([block_x[0], block_x[1]])).to_f32();
                (d, &block_x[per_block - 32..])
            }
        };
        let head = Block::<F>(block, std::marker::PhantomData);
        let (mut sum, mut minima) = (0i32, 0i32);
        for (j, (codes, x)) in codes.chunks_exact(F::SUB).zip(x.chunks_exact(F::SUB)).enumerate() {
            let (factor, minimum) = F::factors(Scalar, &head, j);
            let (product, total) = integer_dot(codes, x);
            // At most 16 sub-blocks, each below 2¹⁸ times a factor of seven bits.
            sum = sum.wrapping_add((product - F::BIAS * total).wrapping_mul(factor));
            minima = minima.wrapping_add(total.wrapping_mul(minimum));
        }
        let (unit, unit_of_minima) = F::units(Scalar, &head);
        result += sum as f32 * unit * d;
        if F::OFFSET && F::SCALING == Scaling::Per256 {
            result += minima as f32 * unit_of_minima * d;
        } else if F::OFFSET {
            // Q8_1 has its own rounding of scale × total.
            let scaled = F16Le::from_bits(u16::from_le_bytes([block_x[2], block_x[3]]));
            result += scaled.to_f32() * unit_of_minima;
        }
    }
    result
}

/// Σ code · x and Σ x of a sub-block, exact; `x` in two's complement. Checked arithmetic would keep
/// the compiler from vectorising this.
#[inline(always)]
fn integer_dot(codes: &[u8], x: &[u8]) -> (i32, i32) {
    let (mut product, mut total) = (0i32, 0i32);
    for (&code, &x) in codes.iter().zip(x) {
        let x = i32::from(x as i8);
        // At most 32 products of 255 · 128.
        product = product.wrapping_add(i32::from(code).wrapping_mul(x));
        total = total.wrapping_add(x);
    }
    (product, total)
}
